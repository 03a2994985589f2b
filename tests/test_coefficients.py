import math
import warnings
from collections.abc import Callable
from itertools import permutations
from typing import Any

import numpy as np
import pytest
from hypothesis import assume, given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as arrays
from sklearn.metrics import cohen_kappa_score, matthews_corrcoef
from statsmodels.stats.inter_rater import cohens_kappa
from statsmodels.stats.inter_rater import fleiss_kappa as statsmodels_fleiss

from relabel.coefficients import (
    PARTIAL,
    cohen_kappa,
    layers_of,
    matthews,
    measure,
    measure_many,
    similarity,
)

LETTERS = "abcdefgh"
TABLES = st.integers(2, 5).flatmap(
    lambda size: arrays.arrays(np.int64, (size, size), elements=st.integers(0, 30)),
)
UNITS = st.integers(2, 4).flatmap(
    lambda size: arrays.arrays(np.int64, st.tuples(st.integers(1, 12), st.just(size)), elements=st.integers(0, 4)),
)

FOUR_OBSERVERS = ("1233214 12...", "123322412 5.3", ".333234225 1.", "123324412 51.")
"""Krippendorff (2011), Computing Krippendorff's Alpha-Reliability, section C: four observers, twelve units, values 1–5,
a dot for a missing one; also Gwet (2014), where they are the example of four raters."""


def units_of(observers: tuple[str, ...], values: str) -> Any:
    """Count how many observers gave each unit each value."""
    rows = [observer.replace(" ", "") for observer in observers]
    return np.array([[sum(row[unit] == value for row in rows) for value in values] for unit in range(len(rows[0]))])


def many(units: Any) -> dict[str, float]:
    """Return the figures of units, labels named by letters."""
    counts = np.asarray(units)
    layers = layers_of(counts, max(2, int(counts.sum(axis=1).max()))).sum(axis=0)
    return {name: float(value) for name, value in measure_many(layers, LETTERS[: counts.shape[1]]).items()}


def two(table: Any) -> dict[str, float]:
    """Return the figures of one table, labels named by letters."""
    return {name: float(value) for name, value in measure(table, LETTERS[: len(table)]).items()}


def test_weighted_kappa_of_cohen_1968() -> None:
    """The worked example of the paper that introduced weights: κ .492 without, .348 with them."""
    # 200 patients, three diagnoses; a miss between the first two counts 1, first and third 3, second and third 6.
    # Σ v p_o = 1·(.07 + .05) + 3·(.09 + .01) + 6·(.05 + .03) = .90; Σ v p_e = 1.38; κ = 1 − .90/1.38
    table = np.array([[88, 14, 18], [10, 40, 10], [2, 6, 12]], dtype=float)
    weighted = float(cohen_kappa(table, [[0, 1, 3], [1, 0, 6], [3, 6, 0]]))
    assert weighted == pytest.approx(1 - 0.90 / 1.38)
    assert round(weighted, 3) == 0.348
    assert round(two(table)["kappa"], 3) == 0.492


def test_alpha_with_missing_values() -> None:
    """Krippendorff's own example with missing values: nominal .743, ordinal .815, interval .849."""
    figures = many(units_of(FOUR_OBSERVERS, "12345"))
    assert round(figures["alpha_nominal"], 3) == 0.743
    assert round(figures["alpha_ordinal"], 3) == 0.815
    assert round(figures["alpha_interval"], 3) == 0.849


def test_coefficients_of_gwet_with_missing_values() -> None:
    """The same data in Gwet's Handbook (2014) and his package irrCAC: agreement, Fleiss's κ, AC1, quadratic AC2."""
    figures = many(units_of(FOUR_OBSERVERS, "12345"))
    assert round(figures["agreement"], 5) == 0.81818
    assert round(figures["fleiss_kappa"], 5) == 0.76117
    assert round(figures["ac1"], 5) == 0.77544
    assert round(figures["ac2_quadratic"], 3) == 0.914
    assert round(figures["pabak"], 5) == 0.77273


def test_coefficients_of_gwet_for_two_raters() -> None:
    """Two abstractors, 100 pregnancies, as Gwet's package irrCAC prints them (table cont3x3abstractors)."""
    figures = two([[13, 0, 0], [0, 20, 7], [0, 4, 56]])
    assert round(figures["kappa"], 7) == 0.7964094
    assert round(figures["ac1"], 7) == 0.8493305
    assert round(figures["alpha_nominal"], 7) == 0.7972585
    assert figures["pabak"] == pytest.approx(0.835)  # Brennan and Prediger's
    weighted = [round(figures[f"ac2_{weights}"], 3) for weights in ("linear", "quadratic", "ordinal")]
    assert weighted == [0.900, 0.940, 0.925]


def test_fleiss_kappa_of_fourteen_raters() -> None:
    """The widely used table of ten subjects, fourteen raters and five categories: κ .210."""
    table = [
        [0, 0, 0, 0, 14], [0, 2, 6, 4, 2], [0, 0, 3, 5, 6], [0, 3, 9, 2, 0], [2, 2, 8, 1, 1],
        [7, 7, 0, 0, 0], [3, 2, 6, 3, 0], [2, 5, 3, 2, 2], [6, 5, 2, 1, 0], [0, 2, 2, 3, 7],
    ]  # fmt: skip
    assert round(many(table)["fleiss_kappa"], 3) == 0.210


def test_fleiss_kappa_of_fleiss_1971() -> None:
    """Thirty patients, six psychiatrists, five diagnoses, of the paper itself: κ .430."""
    patients = (
        "444444 222555 233335 555555 222444 113333 333355 113334 114444 555555 144444 124444 222333 144444 224445 "
        "333335 111455 111112 224444 133555 555555 244444 224555 114444 144445 222224 111155 224444 133333 555555"
    )
    table = [[patient.count(each) for each in "12345"] for patient in patients.split()]
    figures = many(table)
    assert round(figures["fleiss_kappa"], 3) == 0.430
    assert round(figures["agreement"], 3) == 0.556


def test_pabak_of_two_classes() -> None:
    """Byrt, Bishop and Carlin: twice the agreement less one, whatever prevalence and bias."""
    assert two([[80, 10], [5, 5]])["pabak"] == pytest.approx(2 * 0.85 - 1)
    assert two([[5, 10], [5, 80]])["pabak"] == pytest.approx(2 * 0.85 - 1)


@pytest.mark.parametrize(
    ("weights", "expected"),
    [("identity", [1, 0, 0]), ("linear", [1, 0.5, 0]), ("quadratic", [1, 0.75, 0]), ("ordinal", [1, 2 / 3, 0])],
)
def test_weights_of_three_categories(weights: Any, expected: list[float]) -> None:
    """The tables of weights that Gwet prints for three categories; of one category there is full agreement."""
    assert similarity(weights, 3)[0] == pytest.approx(expected)
    assert similarity(weights, 1).tolist() == [[1]]


def labels_of(table: Any) -> Any:
    """Return the two judges' labels that a table counts."""
    return np.repeat(np.argwhere(table >= 0), table.ravel(), axis=0).T


@settings(deadline=None)
@given(TABLES)
def test_two_judges_as_in_scikit_learn(table: Any) -> None:
    """κ with every weighting and MCC, of all categories and of two classes, equal scikit-learn's where it has them."""
    size = len(table)
    first, second = labels_of(table)
    figures = two(table)
    for name, weights in (("kappa", None), ("kappa_linear", "linear"), ("kappa_quadratic", "quadratic")):
        if not math.isnan(figures[name]):
            theirs = cohen_kappa_score(first, second, labels=list(range(size)), weights=weights)
            assert figures[name] == pytest.approx(theirs, abs=1e-9), name
    cuts = {"_" + "_or_".join(LETTERS[:cut]): cut for cut in range(1, size)}
    for name, cut in (("", 0), *cuts.items()):
        classes = (first, second) if not cut else (first < cut, second < cut)
        mcc = figures[f"mcc{name}"]
        constant = not len(first) or min(len(set(each.tolist())) for each in classes) < 2
        assert math.isnan(mcc) == constant, "scikit-learn says 0 where a judge is constant; there is no correlation"
        if not constant:
            assert mcc == pytest.approx(matthews_corrcoef(*classes), abs=1e-9), name


@settings(deadline=None)
@given(TABLES)
def test_two_judges_as_in_statsmodels(table: Any) -> None:
    """κ with every weighting equals that of statsmodels."""
    assume(table.sum() > 0)
    figures = two(table)
    for name, how in (("kappa", None), ("kappa_linear", "linear"), ("kappa_quadratic", "quadratic")):
        if not math.isnan(figures[name]):
            with warnings.catch_warnings():
                warnings.simplefilter("ignore", RuntimeWarning)  # its standard error may divide by nothing
                theirs = cohens_kappa(table, wt=how, return_results=False)
            assert figures[name] == pytest.approx(float(theirs), abs=1e-9), name


@settings(deadline=None)
@given(UNITS, st.integers(2, 6))
def test_fleiss_kappa_as_in_statsmodels(units: Any, raters: int) -> None:
    """Of units that all have as many labels, Fleiss's κ equals that of statsmodels."""
    counts = np.minimum(units, raters)
    counts[:, 0] = 0
    counts = counts * (counts.cumsum(axis=1) <= raters)
    counts[:, 0] = raters - counts.sum(axis=1)
    ours = many(counts)["fleiss_kappa"]
    if (counts.sum(axis=0) > 0).sum() > 1:
        assert ours == pytest.approx(float(statsmodels_fleiss(counts)), abs=1e-9)
    else:
        assert math.isnan(ours)


@settings(deadline=None)
@given(TABLES)
def test_many_raters_and_two_say_the_same(table: Any) -> None:
    """Of two raters who labelled everything, the figures of many are those of the table."""
    first, second = labels_of(table)
    units = np.eye(len(table))[first] + np.eye(len(table))[second]
    layers = layers_of(units, 2).sum(axis=0)
    together = measure_many(layers, LETTERS[: len(table)])
    apart = measure(table, LETTERS[: len(table)])
    for name in together.keys() & apart.keys():
        np.testing.assert_allclose(together[name], apart[name], atol=1e-9, err_msg=name)


def slow_many(units: Any) -> dict[str, float]:
    """Return agreement, AC1, AC2 and α of many raters by their definitions, pair of labels by pair of labels."""
    size = units.shape[1]
    lists = [[k for k in range(size) for _ in range(row[k])] for row in units]
    pairable = [labels for labels in lists if len(labels) > 1]
    shares = [[labels.count(k) / len(labels) for k in range(size)] for labels in lists if labels]
    pooled = np.mean(shares, axis=0)
    values = [label for labels in pairable for label in labels]

    def observed(weight: Callable[[int, int], float]) -> float:
        means = [np.mean([weight(k, m) for k, m in permutations(labels, 2)]) for labels in pairable]
        return float(np.mean(means))

    def alpha(delta: Callable[[int, int], float]) -> float:
        within = sum(
            delta(k, m) / (len(labels) - 1) for labels in pairable for k, m in permutations(labels, 2)
        ) / len(values)  # fmt: skip
        between = np.mean([delta(k, m) for k, m in permutations(values, 2)])
        return float(1 - within / between)

    found = {"agreement": observed(lambda k, m: float(k == m))}
    for name in ("identity", *PARTIAL):
        table = similarity(name, size)
        chance = table.sum() / (size * (size - 1)) * (pooled * (1 - pooled)).sum()
        seen = observed(lambda k, m, table=table: float(table[k, m]))  # type: ignore[misc]
        found["ac1" if name == "identity" else f"ac2_{name}"] = float((seen - chance) / (1 - chance))
    if len(set(values)) > 1:
        found["alpha_nominal"] = alpha(lambda k, m: float(k != m))
        found["alpha_interval"] = alpha(lambda k, m: float((k - m) ** 2))
    return found


@settings(deadline=None)
@given(UNITS)
def test_many_raters_by_their_definitions(units: Any) -> None:
    """Whatever labels are missing, the sums over layers give what the definitions say, pair by pair of labels."""
    assume((units.sum(axis=1) > 1).any())
    figures = many(units)
    for name, value in slow_many(units).items():
        assert figures[name] == pytest.approx(value, abs=1e-9), name


@pytest.mark.parametrize(
    ("units", "defined"),
    [
        ([[0, 0, 0]], set()),
        ([[1, 0, 0]], {"prevalence_a", "prevalence_b", "prevalence_c"}),
        ([[3, 0, 0], [2, 0, 0]], {"agreement", "ac1", "ac2_linear", "ac2_quadratic", "ac2_ordinal", "pabak"}),
    ],
)
def test_little_is_answered(units: list[list[int]], defined: set[str]) -> None:
    """No label, no pair of labels, one category only: what has no meaning is NaN, nothing warns or crashes."""
    figures = many(units)
    assert {name for name, value in figures.items() if not math.isnan(value)} - {
        "prevalence_a", "prevalence_b", "prevalence_c"
    } == defined - {"prevalence_a", "prevalence_b", "prevalence_c"}  # fmt: skip
    assert math.isnan(figures["prevalence_a"]) == (not defined)
    assert all(value == 1 for name, value in figures.items() if name in defined and not name.startswith("prev"))


def test_correlation_is_not_changed_by_the_names_of_classes() -> None:
    """MCC of the mirrored table is the same, of one with the columns turned round its opposite."""
    table = np.array([[30.0, 5.0], [9.0, 56.0]])
    assert matthews(table[::-1, ::-1]) == pytest.approx(float(matthews(table)))
    assert matthews(table[:, ::-1]) == pytest.approx(-float(matthews(table)))
