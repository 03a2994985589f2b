"""Figures of the whole from labels of a part: unbiased, and with intervals that hold."""

from collections.abc import Sequence
from itertools import combinations, permutations, product
from math import prod

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from statsmodels.stats.proportion import proportion_confint

from relabel.estimates import (
    Estimate,
    Sheet,
    assisted,
    by_strata,
    finish,
    lure_weights,
    numbered,
    ratio,
    rogan_gladen,
    sparse,
    variance,
    variance_between_queries,
    wilson,
)

Rows = Sequence[int]


def sheet(
    weights: Sequence[float],
    *,
    sizes: Sequence[float] = (),
    drawn: Sequence[float] = (),
    unit: Rows | None = None,
    query: Rows | None = None,
    stratum: Rows | None = None,
) -> Sheet:
    """Make a sheet; every pair its own unit and query, one stratum."""
    n = len(weights)
    return Sheet(
        np.array(weights, dtype=np.float64),
        np.array(unit if unit is not None else range(n)),
        np.array(query if query is not None else range(n)),
        np.array(stratum if stratum is not None else [0] * n),
        np.array(sizes, dtype=np.float64),
        np.array(drawn, dtype=np.float64),
    )


def simple(n: int, size: int) -> Sheet:
    """Make the sheet of n of `size` pairs drawn at random."""
    return sheet([size / n] * n, sizes=[size], drawn=[n])


def share(of: Sheet, hits: Sequence[float]) -> float:
    """Estimate a share of all."""
    value = ratio(of, np.array(hits, dtype=np.float64), np.ones(len(hits))).value
    assert value is not None
    return value


def test_random_samples_are_unbiased_with_their_variance() -> None:
    """Over all 35 samples of 3 of 7: the mean is the truth, the mean variance the real one."""
    truth = [1, 0, 0, 1, 0, 1, 1]
    samples = [[truth[i] for i in chosen] for chosen in combinations(range(7), 3)]
    values = np.array([share(simple(3, 7), hits) for hits in samples])
    assert values.mean() == pytest.approx(np.mean(truth))
    guessed = [variance(simple(3, 7), (np.array(hits) - np.mean(hits)) / 7) for hits in samples]
    assert np.mean(guessed) == pytest.approx(values.var())


def test_stratified_samples_are_unbiased() -> None:
    """Over all samples of 2 of 4 and 2 of 3."""
    first, second = [1, 0, 0, 1], [0, 0, 1]
    values = []
    for a, b in product(combinations(first, 2), combinations(second, 2)):
        drawn = sheet([2, 2, 1.5, 1.5], sizes=[4, 3], drawn=[2, 2], stratum=[0, 0, 1, 1])
        values.append(share(drawn, [*a, *b]))
    assert np.mean(values) == pytest.approx(3 / 7)


def test_samples_of_queries_are_unbiased_with_their_variance() -> None:
    """Over all samples of 2 of 4 queries of two pairs: pairs of a query are no labels of their own."""
    queries = [(1, 1), (0, 0), (1, 0), (0, 0)]
    values, guessed = [], []
    for chosen in combinations(queries, 2):
        hits = np.array([hit for query in chosen for hit in query], dtype=np.float64)
        drawn = sheet([2.0] * 4, sizes=[4], drawn=[2], unit=[0, 0, 1, 1], query=[0, 0, 1, 1])
        values.append(share(drawn, hits.tolist()))
        guessed.append(variance(drawn, (hits - hits.mean()) / 8))
    assert np.mean(values) == pytest.approx(3 / 8)
    assert np.mean(guessed) == pytest.approx(np.var(values))


@given(
    st.lists(st.tuples(st.integers(0, 1), st.floats(0.05, 3)), min_size=2, max_size=5).flatmap(
        lambda pairs: st.tuples(st.just(pairs), st.integers(1, len(pairs)))
    )
)
def test_lure_is_unbiased(case: tuple[list[tuple[int, float]], int]) -> None:
    """Over all ways to draw M of N one after another, whatever the chances: the mean of v·y is that of all y."""
    pairs, taken = case
    total = mean = 0.0
    for order in permutations(range(len(pairs)), taken):
        left, chances = sum(size for _, size in pairs), []
        for place in order:
            chances.append(min(pairs[place][1] / left, 1.0))
            left -= pairs[place][1]
        weights = lure_weights(np.array(chances), len(pairs))
        total += prod(chances)
        mean += prod(chances) * float(np.mean(weights * [pairs[place][0] for place in order]))
    assert total == pytest.approx(1)
    assert mean == pytest.approx(np.mean([hit for hit, _ in pairs]), abs=1e-9)


def test_lure_by_hand() -> None:
    """The formula's numbers: v₁ = 1 + 3/4 (1 / (5 · .5) − 1), v₂ = 1 + 3/3 (1 / (4 · .25) − 1); all alike gives 1."""
    assert lure_weights(np.array([0.5, 0.25]), 5) == pytest.approx([0.55, 1.0])
    assert lure_weights(np.array([1 / 5, 1 / 4, 1 / 3]), 5) == pytest.approx([1, 1, 1])
    assert lure_weights(np.array([0.9, 1.0]), 2).tolist() == [1, 1]


@pytest.mark.parametrize(("hits", "n"), [(0, 20), (3, 50), (10, 10), (77, 300)])
def test_wilson_is_that_of_statsmodels(hits: int, n: int) -> None:
    """With so many degrees of freedom that t is the normal."""
    low, high = proportion_confint(hits, n, method="wilson")
    assert wilson(hits / n, n, 1e9) == pytest.approx((low, high), abs=1e-6)


def test_a_random_sample_of_much_gets_about_wilson() -> None:
    """Where next to nothing of the data set was drawn, design and plain counts agree."""
    hits = np.array([1.0] * 30 + [0.0] * 270)
    of = simple(300, 3_000_000)
    found = finish(ratio(of, hits, np.ones(300)), of, "rate", of=3_000_000, method="")
    assert found.low is not None
    assert found.high is not None
    assert (found.low, found.high) == pytest.approx(proportion_confint(30, 300, method="wilson"), abs=0.002)
    assert (found.n, found.clusters) == (300, 300)


def test_a_part_of_everything_narrows_and_everything_is_certain() -> None:
    """The finite-population correction, down to an interval without width."""
    hits = np.array([1.0] * 10 + [0.0] * 40)
    wide = []
    for size in (50_000, 100, 60, 50):
        of = simple(50, size)
        found = finish(ratio(of, hits, np.ones(50)), of, "rate", of=size, method="")
        assert found.low is not None
        assert found.high is not None
        wide.append(found.high - found.low)
    assert wide == sorted(wide, reverse=True)
    assert wide[-1] == 0


def test_nothing_found_is_not_taken_for_nothing_there() -> None:
    """Of 60 labels none relevant: the interval reaches what Wilson's does; one empty stratum has a variance too."""
    of = simple(60, 6000)
    found = finish(ratio(of, np.zeros(60), np.ones(60)), of, "rate", of=6000, method="")
    assert found.low == 0
    assert found.high == pytest.approx(proportion_confint(0, 60, method="wilson")[1], abs=0.01)
    hits = np.array([0.0] * 30 + [1.0, 0.0] * 10)
    strata = sheet([90] * 30 + [2] * 20, sizes=[2700, 40], drawn=[30, 20], stratum=[0] * 30 + [1] * 20)
    rough = ratio(strata, hits, np.ones(50))
    assert rough.value == pytest.approx(20 / 2740)
    alone = (40 / 2740) ** 2 * 0.25 / 20
    assert variance(strata, rough.influence) > 2 * alone


def test_one_label_of_a_stratum_has_a_variance() -> None:
    """No division by n − 1 = 0, and not 0: it borrows from the others."""
    of = sheet([10, 10, 10, 5], sizes=[30, 5], drawn=[3, 1], stratum=[0, 0, 0, 1])
    rough = ratio(of, np.array([1.0, 0.0, 0.0, 1.0]), np.ones(4))
    assert 0 < variance(of, rough.influence) < 1


def test_words_that_know_all_leave_nothing_to_labels() -> None:
    """The judges' number equal to the truth: the estimate is its mean, whatever was drawn; noise: the labels' own."""
    hits = np.array([1.0, 0.0] * 25)
    of = simple(50, 1000)
    exact = assisted(of, hits, hits, 0.31)
    assert exact.value == pytest.approx(0.31)
    assert variance(of, exact.influence) == pytest.approx(0, abs=1e-12)
    useless = assisted(of, hits, np.full(50, 0.4), 0.4)
    assert useless.value == pytest.approx(0.5)


def test_assisted_is_the_regression_estimator() -> None:
    """For a plain random sample: ȳ + b (Z̄ − z̄) with the slope of least squares (numpy's)."""
    rng = np.random.default_rng(0)
    words = rng.random(80)
    hits = (rng.random(80) < words).astype(np.float64)
    slope, _ = np.polyfit(words, hits, 1)
    found = assisted(simple(80, 900), hits, words, 0.45)
    assert found.value == pytest.approx(hits.mean() + slope * (0.45 - words.mean()))


def test_rogan_gladen_by_hand() -> None:
    """Sensitivity .8, specificity .9, apparent .24: (.24 + .9 − 1) / .7 = .2; a coin gives nothing."""
    hits = np.array([1.0] * 10 + [0.0] * 10)
    flags = np.array([1.0] * 8 + [0.0] * 2 + [1.0] + [0.0] * 9)
    assert rogan_gladen(simple(20, 500), hits, flags, 0.24).value == pytest.approx(0.2)
    assert rogan_gladen(simple(20, 500), hits, np.array([1.0, 0.0] * 10), 0.24).value is None
    assert rogan_gladen(simple(20, 500), np.zeros(20), flags, 0.24).value is None


def test_a_domain_nobody_labelled_has_no_value() -> None:
    """None, and counted as none; not 0."""
    of = simple(5, 50)
    found = finish(ratio(of, np.ones(5), np.zeros(5)), of, "recall", of=50, method="m", note="x")
    assert found == Estimate("recall", None, None, None, 0, 50, 0, "m", "x")


def test_queries_are_what_varies_for_other_queries() -> None:
    """Pairs of one query that are all alike count as one; each by itself, as many."""
    hits = np.array([1.0, 1.0, 1.0, 1.0, 0.0, 0.0, 0.0, 0.0])
    apart, together = simple(8, 8000), sheet([1000] * 8, sizes=[8000], drawn=[8], query=[0] * 4 + [1] * 4)
    moved = (hits - 0.5) / 8000
    assert variance_between_queries(together, moved) == pytest.approx(0.25)
    assert variance_between_queries(apart, moved) == pytest.approx(8 / 7 * 8 / 4 / 64)
    assert np.isnan(variance_between_queries(sheet([1, 1], query=[0, 0]), np.ones(2)))


def test_numbers_of_names_and_plain_json() -> None:
    """Names in the order met; JSON without minus zero and with rounded numbers."""
    assert numbered(["b", "a", "b"]).tolist() == [0, 1, 0]
    told = Estimate("rate", 1 / 3, -0.0, None, 3, None, 2, "m").to_json()
    assert (told["value"], str(told["low"]), told["high"], told["of"]) == (0.333333, "0.0", None, None)


@given(st.floats(0.5, 5000), st.floats(1, 1000))
def test_wilson_ends_at_the_ends(worth: float, freedom: float) -> None:
    """0 and 1 are bounds exactly, not by a hair of a float."""
    assert wilson(0.0, worth, freedom)[0] == 0
    assert wilson(1.0, worth, freedom)[1] == 1


def test_bounds_by_strata_by_hand() -> None:
    """One stratum is Wilson's interval; a stratum that was labelled as a whole adds nothing."""
    hits = np.array([1.0] * 3 + [0.0] * 37)
    one = sheet([1e6] * 40, sizes=[4e7], drawn=[40])
    assert by_strata(one, hits) == pytest.approx(proportion_confint(3, 40, method="wilson"), abs=1e-5)
    two = sheet([1.0] * 20 + [4.0] * 20, sizes=[20, 80], drawn=[20, 20], stratum=[0] * 20 + [1] * 20)
    low, high = proportion_confint(0, 80 / 3, method="wilson")  # 20 labels of a quarter drawn
    assert by_strata(two, hits) == pytest.approx((0.03 - 0.8 * low, 0.03 + 0.8 * high))
    assert sparse(two, hits)
    assert not sparse(one, hits)
