from typing import Any

import numpy as np
import pytest

from relabel.agreement import Agreement, Figure, agreement
from relabel.pooling import ENOUGH, side_by_side


def judged(*tables: Any, seed: int = 0) -> Agreement:
    """Return the agreement of two judges from tables of queries, three labels each."""
    counts = np.pad(np.asarray(tables), [(0, 0), (0, 1), (0, 1)])
    return agreement("a", "b", counts, seed=seed, resamples=400)


def query(*cells: int) -> Any:
    """Return one query's table, of relevant and irrelevant alone: both, first only, second only, neither."""
    both, first, second, neither = cells
    return np.array([[both, 0, first], [0, 0, 0], [second, 0, neither]])


def width(figure: Figure) -> float:
    """Return how wide an interval is."""
    assert figure.low is not None
    assert figure.high is not None
    return figure.high - figure.low


def test_simpson_is_found_out() -> None:
    """Judges that guess within each source agree well over all, for both know which source is which."""
    # source x: nearly all relevant, source y: nearly none; within each the words are independent: κ = 0
    x, y = [query(81, 9, 9, 1)] * 4, [query(1, 9, 9, 81)] * 4
    found = side_by_side(judged(*x, *y), {"x": judged(*x), "y": judged(*y)})
    assert found is not None
    kappa = found["figures"]["kappa"]
    assert kappa["average"]["value"] == kappa["lowest"] == kappa["highest"] == 0
    assert kappa["pooled"]["value"] == pytest.approx(0.64)  # p_o = .82, p_e = .5
    assert kappa["warning"] == "outside"
    assert (found["sources"], found["too_small"], kappa["of"]) == (["x", "y"], 0, 2)
    assert found["figures"]["agreement"]["warning"] == ""


def test_a_large_source_that_drowns_the_rest_is_told() -> None:
    """Where one source has nearly all pairs, the figure over all is its own, and far from the average."""
    good, poor = [query(45, 5, 5, 45)] * 20, [query(10, 8, 8, 10)] * 2
    found = side_by_side(judged(*good, *poor), {"good": judged(*good), "poor": judged(*poor)})
    assert found is not None
    kappa = found["figures"]["kappa"]
    assert kappa["warning"] == "apart"
    assert kappa["lowest"] < kappa["average"]["value"] < kappa["pooled"]["value"] < kappa["highest"]


def test_the_interval_of_an_average_is_that_of_its_parts() -> None:
    """Of two sources with the same spread the average has 1/√2 of it; it lies in the middle."""
    rng = np.random.default_rng(0)
    parts = {}
    for name in "xy":
        same = rng.binomial(6, 0.75, 80)
        parts[name] = judged(*[query(each // 2, 6 - each, 0, each - each // 2) for each in same])
    found = side_by_side(judged(*[query(1, 0, 0, 1)] * 2), parts)
    assert found is not None
    average = found["figures"]["agreement"]["average"]
    widths = [width(part.figures["agreement"]) for part in parts.values()]
    assert average["high"] - average["low"] == pytest.approx(np.sqrt(np.sum(np.square(widths))) / 2, abs=1e-5)
    assert average["value"] == pytest.approx(np.mean([part.figures["agreement"].value for part in parts.values()]))


def test_small_sources_take_no_part() -> None:
    """Sources with few pairs, or one query, are counted and left out; one that is left shows nothing."""
    large, small, single = [query(9, 1, 1, 9)] * 2, [query(5, 1, 1, 5)] * 2, [query(20, 5, 5, 20)]
    assert judged(*small).n < ENOUGH <= judged(*large).n
    parts = {"large": judged(*large), "small": judged(*small), "single": judged(*single)}
    assert side_by_side(judged(*large, *small, *single), parts) is None
    found = side_by_side(judged(*large, *small, *single), {**parts, "other": judged(*large)})
    assert found is not None
    assert (found["sources"], found["too_small"]) == (["large", "other"], 2)


def test_undefined_figures_are_left_out() -> None:
    """Sources with one word only have no κ; the average is of those that have one, and not of one alone."""
    same, mixed = [query(0, 0, 0, 20)] * 2, [query(9, 1, 1, 9)] * 2
    parts = {"same": judged(*same), "mixed": judged(*mixed)}
    found = side_by_side(judged(*same, *mixed), parts)
    assert found is not None
    assert "kappa" not in found["figures"]
    assert found["figures"]["agreement"]["average"]["value"] == pytest.approx(0.95)
    more = side_by_side(judged(*same, *mixed), {**parts, "more": judged(*mixed)})
    assert more is not None
    assert more["figures"]["kappa"]["of"] == 2
