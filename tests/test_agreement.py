import json
import math
import subprocess
import sys
from collections import Counter
from collections.abc import Sequence
from itertools import product
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from sklearn.metrics import cohen_kappa_score

from relabel.agreement import CODES, NOT_ASKED, Agreement, Figure, Tally, agreement, measure, rate_interval
from relabel.records import LABELS

R, P, I, N = CODES["relevant"], CODES["partial"], CODES["irrelevant"], CODES[None]  # noqa: E741 - as the letters mean
WORDS = st.lists(st.lists(st.tuples(*[st.integers(0, NOT_ASKED)] * 3), max_size=6), max_size=8)


def figures(table: Sequence[Sequence[float]], labels: Sequence[str] | None = None) -> dict[str, float]:
    """Return the figures of one table, with letters for labels where none are given."""
    names = labels or "abcdefgh"[: len(table)]
    return {name: float(value) for name, value in measure(np.array(table, dtype=float), names).items()}


def padded(table: Any) -> Any:
    """Add an empty row and column for "no label" to tables of counts."""
    counts = np.asarray(table)
    return np.pad(counts, [(0, 0)] * (counts.ndim - 2) + [(0, 1), (0, 1)])


def width(figure: Figure) -> float:
    """Return how wide an interval is."""
    assert figure.low is not None
    assert figure.high is not None
    return figure.high - figure.low


def holds(figure: Figure, truth: float) -> bool:
    """Say whether an interval holds the truth."""
    assert figure.low is not None
    assert figure.high is not None
    return figure.low <= truth <= figure.high


def test_kappa_of_cohen_1960() -> None:
    """Kappa of the worked example of the paper that introduced it."""
    # 200 cases; p_o = (88 + 40 + 12) / 200 = .70
    # p_e = (120·100 + 60·60 + 20·40) / 200² = 16,400 / 40,000 = .41; κ = .29 / .59 = .4915
    result = figures([[88, 14, 18], [10, 40, 10], [2, 6, 12]])
    assert result["agreement"] == pytest.approx(0.70)
    assert result["kappa"] == pytest.approx(0.29 / 0.59)
    assert round(result["kappa"], 3) == 0.492


def test_kappa_of_a_two_by_two_table() -> None:
    """Kappa of the textbook table of 50 grant proposals, and the same for every weighting of two classes."""
    # p_o = 35/50 = .7; p_e = .5·.6 + .5·.4 = .5; κ = .2/.5
    result = figures([[20, 5], [10, 15]])
    for name in ("kappa", "kappa_linear", "kappa_quadratic", "kappa_a"):
        assert result[name] == pytest.approx(0.4), name


def test_ac1_where_kappa_is_paradoxical() -> None:
    """Gwet's low-prevalence table: 94 % agreement, a kappa below 0, AC1 near the agreement."""
    # p_o = 118/125 = .944; κ: p_e = (123·120 + 2·5)/125² = .94528, κ = −.00128/.05472 = −.0234
    # AC1: π = (123 + 120)/250 = .972, p_e = 2·.972·.028 = .054432, AC1 = .889568/.945568 = .9408
    result = figures([[118, 5], [2, 0]])
    assert result["kappa"] == pytest.approx(-0.0234, abs=5e-5)
    assert result["ac1"] == pytest.approx(0.9408, abs=5e-5)


def test_ac1_of_three_categories() -> None:
    """With three categories the chance term is divided by two."""
    # π = (220, 120, 60)/400 = (.55, .3, .15); Σ π(1 − π) = .2475 + .21 + .1275 = .585; p_e = .2925
    result = figures([[88, 14, 18], [10, 40, 10], [2, 6, 12]])
    assert result["ac1"] == pytest.approx((0.70 - 0.2925) / (1 - 0.2925))


def test_alpha_of_binary_data() -> None:
    """Krippendorff's first worked example: two observers, ten units, 0 and 1."""
    # four disagreements, so o_01 = 4; 14 zeros and 6 ones; α = 1 − 19·4/(14·6) = .095
    first = [0, 1, 0, 0, 0, 0, 0, 0, 1, 0]
    second = [1, 1, 1, 0, 0, 1, 0, 0, 0, 0]
    table = np.zeros((2, 2))
    np.add.at(table, (first, second), 1)
    result = figures(table.tolist())
    assert result["alpha_nominal"] == pytest.approx(1 - 19 * 4 / (14 * 6))
    assert round(result["alpha_nominal"], 3) == 0.095
    assert result["alpha_ordinal"] == pytest.approx(result["alpha_nominal"]), "two categories have one distance"


def test_alpha_of_nominal_data() -> None:
    """Krippendorff's second worked example: two observers, twelve units, five categories."""
    # three disagreements, so Σ o_kl = 6; n = 4 a, 6 b, 6 c, 6 d, 2 e, N = 24
    # Σ n_k n_l over k ≠ l = 24² − (16 + 36 + 36 + 36 + 4) = 448; α = 1 − 23·6/448 = .692
    table = np.zeros((5, 5))
    for first, second in zip("aabbdcccedda", "babbbccceddd", strict=True):
        table["abcde".index(first), "abcde".index(second)] += 1
    assert round(figures(table.tolist())["alpha_nominal"], 3) == 0.692


def test_alpha_of_ordinal_data() -> None:
    """Ordinal alpha by hand: a miss by two ranks costs more than one by one rank."""
    # Table a/a 2, a/b 1, b/b 1, c/c 1: coincidences aa 4, ab = ba 1, bb 2, cc 2; n = 5, 3, 2; N = 10
    # middles of ranks 2.5, 6.5, 9: δ_ab = 16, δ_bc = 6.25, δ_ac = 42.25
    # observed 2·16 = 32; expected 2·(15·16 + 6·6.25 + 10·42.25) = 1400; α = 1 − 9·32/1400
    assert figures([[2, 1, 0], [0, 1, 0], [0, 0, 1]])["alpha_ordinal"] == pytest.approx(1 - 9 * 32 / 1400)


def slow_alpha(table: Any) -> float:
    """Ordinal alpha by its definition, value by value."""
    size = len(table)
    both = table + table.T
    margin = both.sum(axis=1)
    observed = expected = 0.0
    for k, m in product(range(size), repeat=2):
        low, high = min(k, m), max(k, m)
        delta = (margin[low : high + 1].sum() - (margin[k] + margin[m]) / 2) ** 2
        observed += both[k, m] * delta
        expected += margin[k] * margin[m] * delta
    return float(1 - (margin.sum() - 1) * observed / expected)


@pytest.mark.parametrize("size", [2, 3, 4, 6])
def test_figures_of_random_tables(size: int) -> None:
    """Kappa with every weighting equals scikit-learn's, alpha its definition, on tables with empty categories too."""
    rng = np.random.default_rng(size)
    for _ in range(20):
        table = rng.poisson(rng.choice([0.5, 3, 40]), (size, size))
        table[0, -1] += 1  # so that no class is without its opposite
        first, second = np.repeat(np.argwhere(table >= 0), table.ravel(), axis=0).T
        result = figures(table.tolist())
        for name, weights in (("kappa", None), ("kappa_linear", "linear"), ("kappa_quadratic", "quadratic")):
            theirs = cohen_kappa_score(first, second, labels=list(range(size)), weights=weights)
            assert result[name] == pytest.approx(theirs, abs=1e-9), name
        for cut in range(1, size):
            name = "kappa_" + "_or_".join("abcdefgh"[:cut])
            theirs = cohen_kappa_score(first < cut, second < cut, labels=[False, True])
            assert result[name] == pytest.approx(theirs, abs=1e-9), name
        assert result["alpha_ordinal"] == pytest.approx(slow_alpha(table))


def test_names_of_figures() -> None:
    """The figures of three labels, with both binarisations and the prevalences."""
    names = list(measure(np.ones((3, 3))))
    assert names[:9] == [
        "agreement",
        "kappa",
        "kappa_linear",
        "kappa_quadratic",
        "kappa_relevant",
        "kappa_relevant_or_partial",
        "ac1",
        "alpha_nominal",
        "alpha_ordinal",
    ]
    assert names[9:17] == [
        "alpha_interval",
        "ac2_linear",
        "ac2_quadratic",
        "ac2_ordinal",
        "pabak",
        "mcc",
        "mcc_relevant",
        "mcc_relevant_or_partial",
    ]
    assert names[17:20] == ["prevalence_first_relevant", "prevalence_second_relevant", "prevalence_relevant"]
    assert len(names) == 26


def test_prevalence() -> None:
    """Prevalence is that of the rows, the columns and both."""
    result = figures([[1, 3], [0, 6]])
    assert (result["prevalence_first_a"], result["prevalence_second_a"], result["prevalence_a"]) == (0.4, 0.1, 0.25)


def test_fractional_counts_are_welcome() -> None:
    """Shares instead of counts give the same kappa and AC1; alpha, which knows N, is undefined up to one value."""
    table = [[88, 14, 18], [10, 40, 10], [2, 6, 12]]
    whole, shares = figures(table), figures((np.array(table) / 400).tolist())
    assert shares["kappa"] == pytest.approx(whole["kappa"])
    assert shares["ac1"] == pytest.approx(whole["ac1"])
    assert math.isnan(shares["alpha_nominal"])
    result = agreement("a", "b", padded([[[0.5, 0, 0], [0, 0.25, 0], [0, 0, 0]]]), seed=0)
    assert result.to_json()["n"] == 0.75


KAPPAS = {"kappa", "kappa_linear", "kappa_quadratic", "kappa_relevant", "kappa_relevant_or_partial"}
ALPHAS = {"alpha_nominal", "alpha_ordinal", "alpha_interval"}
MATTHEWS = {"mcc", "mcc_relevant", "mcc_relevant_or_partial"}


@pytest.mark.parametrize(
    ("table", "undefined"),
    [
        ([[0, 0, 0], [0, 0, 0], [0, 0, 0]], set(measure(np.zeros((3, 3))))),
        ([[7, 0, 0], [0, 0, 0], [0, 0, 0]], KAPPAS | ALPHAS | MATTHEWS),
        ([[5, 0, 0], [0, 4, 0], [0, 0, 0]], {"kappa_relevant_or_partial", "mcc_relevant_or_partial"}),
        ([[3, 0, 0], [4, 0, 0], [5, 0, 0]], MATTHEWS),
    ],
)
def test_undefined_figures_are_null(table: list[list[int]], undefined: set[str]) -> None:
    """No pairs, one category only, one class only: exactly the figures without a meaning are None, none is NaN."""
    result = agreement("a", "b", padded([table, table]), seed=0, resamples=50)
    assert {name for name, figure in result.figures.items() if figure.value is None} == undefined
    json.dumps(result.to_json(), allow_nan=False)


def test_one_category_only_is_full_agreement() -> None:
    """Two judges that know one word: agreement and AC1 are 1, kappa is undefined."""
    result = figures([[7, 0, 0], [0, 0, 0], [0, 0, 0]])
    assert result["agreement"] == result["ac1"] == 1
    assert math.isnan(result["kappa"])


def test_a_constant_judge_has_no_kappa_to_show() -> None:
    """One judge that always says the same agrees no better than chance."""
    result = figures([[3, 0, 0], [4, 0, 0], [5, 0, 0]])
    assert result["kappa"] == result["kappa_quadratic"] == 0


@pytest.mark.parametrize("clusters", [0, 1])
def test_fewer_than_two_clusters_have_no_interval(clusters: int) -> None:
    """One query says nothing about the spread between queries, however many queries without labels stand beside it."""
    tables = np.concatenate([padded(np.ones((clusters, 3, 3))), np.zeros((5, 4, 4))])
    tables[clusters:, 3, 0] = 2
    result = agreement("a", "b", tables, seed=0)
    assert result.clusters == clusters
    assert result.none_first == 10
    assert all(figure.low is None and figure.high is None for figure in result.figures.values())


def test_no_resamples_no_interval() -> None:
    """Zero resamples give the values alone."""
    figure = agreement("a", "b", padded(np.ones((5, 3, 3))), seed=0, resamples=0).figures["kappa"]
    assert figure == Figure(figure.value)
    assert figure.value == pytest.approx(0)


def test_resamples_without_a_value_are_left_out_and_counted() -> None:
    """Where two of three clusters know one word only, some resamples have no kappa."""
    same, other = np.diag([4, 0, 0]), np.diag([0, 0, 4])
    figure = agreement("a", "b", padded([same, same, other]), seed=0, resamples=1000).figures["kappa"]
    # Both words are needed: a resample of three lacks one with probability (2/3)³ + (1/3)³ = 1/3.
    assert 270 < figure.left_out < 400
    assert (figure.value, figure.low, figure.high) == (1, 1, 1)


def test_tables_must_fit_the_labels() -> None:
    """Tables without the row and column for "no label" are refused."""
    with pytest.raises(ValueError, match="3 labels need tables of 4 × 4"):
        agreement("a", "b", np.ones((5, 3, 3)), seed=0)


def two_judges(rng: np.random.Generator, shape: tuple[int, int], accuracy: float) -> Any:
    """Tables of (clusters, pairs) drawn: balanced truth, two independent judges right with this probability."""
    truth = rng.random(shape) < 0.5
    first, second = (truth ^ (rng.random(shape) > accuracy) for _ in range(2))
    cells = np.stack([first & second, first & ~second, ~first & second, ~first & ~second])
    return padded(cells.sum(axis=2).T.reshape(-1, 2, 2))


def test_intervals_cover_the_truth() -> None:
    """Of intervals over independent clusters, about 95 % hold the true kappa and the true agreement."""
    rng = np.random.default_rng(7)
    # p_o = .8² + .2² = .68, p_e = .5, κ = .18/.5 = .36
    hits: Counter[str] = Counter()
    for _ in range(300):
        result = agreement("a", "b", two_judges(rng, (80, 5), 0.8), seed=1, resamples=400, labels=("yes", "no"))
        for name, truth in (("agreement", 0.68), ("kappa", 0.36)):
            hits[name] += holds(result.figures[name], truth)
    assert 0.91 <= hits["agreement"] / 300 <= 0.98
    assert 0.91 <= hits["kappa"] / 300 <= 0.98


def test_intervals_over_queries_cover_where_those_over_pairs_do_not() -> None:
    """Where judges misread whole queries, 95 % of the intervals over queries hold the truth, of those over pairs 70."""
    rng = np.random.default_rng(8)
    # A judge is right on .9 of a query's pairs, or, of one query in three, on .5 of them: of both, p_o is
    # ((.9 · .9 + .1 · .1) · 4 + .5 · 5) / 9 (both read well 4/9, else one guesses) = .642222; κ = 2 p_o − 1.
    truth = (4 * 0.82 + 5 * 0.5) / 9
    hits: Counter[tuple[str, str]] = Counter()
    for _ in range(200):
        right = np.where(rng.random((2, 60, 1)) < 1 / 3, 0.5, 0.9)
        said = (rng.random((60, 12)) < 0.5) ^ (rng.random((2, 60, 12)) > right)
        cells = np.eye(4)[2 * said[0] + said[1]]
        for way, tables in (("queries", cells.sum(axis=1)), ("pairs", cells.reshape(-1, 4))):
            counted = padded(tables.reshape(-1, 2, 2))
            found = agreement("a", "b", counted, seed=1, resamples=300, labels=("yes", "no")).figures
            hits[way, "agreement"] += holds(found["agreement"], truth)
            hits[way, "kappa"] += holds(found["kappa"], 2 * truth - 1)
    for name in ("agreement", "kappa"):
        assert 0.90 <= hits["queries", name] / 200 <= 0.99, hits
        assert hits["pairs", name] / 200 <= 0.85, hits


def test_pairs_of_one_query_are_not_independent() -> None:
    """Where the pairs of a query stand and fall together, an interval over pairs is much too narrow."""
    rng = np.random.default_rng(3)
    tables = 10 * two_judges(rng, (100, 1), 0.8)  # ten pairs per query, all with the same words
    pairs = np.repeat(tables // 10, 10, axis=0)
    clustered = agreement("a", "b", tables, seed=0, labels=("yes", "no")).figures["kappa"]
    naive = agreement("a", "b", pairs, seed=0, labels=("yes", "no")).figures["kappa"]
    assert clustered.value == naive.value
    # Kish: the variance is ten times that of independent pairs, the width √10 = 3.2 times.
    assert 2.8 < width(clustered) / width(naive) < 3.6


def test_effective_n_is_that_of_independent_pairs() -> None:
    """Ten copies of one pair are one pair; a pair for each query is what it is; the design effect is the ratio."""
    rng = np.random.default_rng(3)
    tables = two_judges(rng, (200, 1), 0.8)
    one = agreement("a", "b", tables, seed=0, resamples=0, labels=("yes", "no"))
    ten = agreement("a", "b", 10 * tables, seed=0, resamples=0, labels=("yes", "no"))
    assert (one.n, ten.n) == (200, 2000)
    assert [one.effective_n, one.design_effect] == pytest.approx([200, 1])
    assert [ten.effective_n, ten.design_effect] == pytest.approx([200, 10])


def test_effective_n_is_what_the_bootstrap_shows() -> None:
    """The interval of the raw agreement is as wide as that of so many independent pairs."""
    rng = np.random.default_rng(4)
    hard = rng.random(300) < 0.3  # on a third of the queries both judges guess
    same = rng.binomial(8, np.where(hard, 0.5, 0.95))
    tables = padded(np.stack([same, 8 - same, 0 * same, 0 * same], axis=1).reshape(-1, 2, 2))
    result = agreement("a", "b", tables, seed=0, labels=("yes", "no"))
    figure = result.figures["agreement"]
    assert figure.value is not None
    assert result.effective_n is not None
    error = math.sqrt(figure.value * (1 - figure.value) / result.effective_n)
    assert width(figure) == pytest.approx(2 * 1.96 * error, rel=0.08)
    assert 400 < result.effective_n < 1600 < result.n


@pytest.mark.parametrize("tables", [np.zeros((0, 3, 3)), np.ones((1, 3, 3)), np.eye(3)[None].repeat(4, 0)])
def test_effective_n_of_nothing(tables: Any) -> None:
    """No query, one query, or full agreement everywhere: nothing to reckon it from."""
    result = agreement("a", "b", padded(tables), seed=0, resamples=10)
    assert result.effective_n is result.design_effect is None
    assert result.to_json()["effective_n"] is None


def test_merging_equal_clusters_changes_nothing() -> None:
    """A table with its number of clusters is the same as that table so many times, intervals included."""
    rng = np.random.default_rng(5)
    tables = rng.poisson(0.4, (200, 4, 4))
    distinct, times = np.unique(tables, axis=0, return_counts=True)
    whole = agreement("a", "b", tables, seed=2, resamples=200)
    assert agreement("a", "b", distinct, times=times, seed=2, resamples=200) == whole
    point = measure(tables.sum(axis=0)[:3, :3].astype(float))
    assert {name: figure.value for name, figure in whole.figures.items()} == {k: float(v) for k, v in point.items()}


def test_resampling_in_blocks_changes_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    """The size of a block is about memory alone."""
    tables = np.random.default_rng(5).poisson(0.4, (50, 4, 4))
    whole = agreement("a", "b", tables, seed=2, resamples=200)
    monkeypatch.setattr("relabel.bootstrap._BLOCK", 100)
    assert agreement("a", "b", tables, seed=2, resamples=200) == whole


def test_the_multinomial_is_the_bootstrap() -> None:
    """Intervals equal, up to the dice, those of drawing whole clusters one by one."""
    rng = np.random.default_rng(11)
    tables = rng.poisson(np.array([[2, 1, 0.5], [1, 2, 1], [0.5, 1, 2]]), (60, 3, 3))
    drawn = tables[rng.integers(0, 60, (4000, 60))].sum(axis=1).astype(float)
    low, high = np.quantile(measure(drawn)["kappa"], [0.025, 0.975])
    result = agreement("a", "b", padded(tables), seed=0, resamples=4000, labels="xyz")
    assert result.labels == ("x", "y", "z")
    figure = result.figures["kappa"]
    assert figure.low == pytest.approx(low, abs=0.01)
    assert figure.high == pytest.approx(high, abs=0.01)


def test_the_seed_decides() -> None:
    """The same seed gives the same bytes, another seed other bounds."""
    tables = np.random.default_rng(5).poisson(0.4, (50, 4, 4))
    first, second, other = (json.dumps(agreement("a", "b", tables, seed=seed).to_json()) for seed in (1, 1, 2))
    assert first == second
    assert first != other


def test_tally_counts_labels_and_what_is_missing() -> None:
    """A missing label is counted for its judge and enters no figure; a pair not asked of both is not counted."""
    tally = Tally(["small", "large"])
    tally.add([(R, R), (R, P), (N, I), (I, NOT_ASKED)])
    tally.add([(I, I), (I, N), (N, N)])
    tally.add([(I, NOT_ASKED), (NOT_ASKED, R)])
    tally.add([])
    (result,) = tally.result(seed=0, resamples=10)
    assert (result.first, result.second) == ("small", "large")
    assert result.to_json()["confusion"] == [[1, 1, 0, 0], [0, 0, 0, 0], [0, 0, 1, 1], [0, 0, 1, 1]]
    assert [result.n, result.none_first, result.none_second, result.clusters] == [3, 2, 2, 2]
    assert result.figures["agreement"].value == pytest.approx(2 / 3)


def test_tally_compares_every_two_judges() -> None:
    """Three judges make three tables in the judges' order; one judge makes none; each is as if it were alone."""
    words = [[(R, P, I), (I, I, NOT_ASKED)], [(R, R, R)], [(P, I, I)]]
    tally, alone, single = Tally("abc"), Tally("ac"), Tally(["a"])
    for query in words:
        tally.add(query)
        alone.add([(first, third) for first, _, third in query])
        single.add([(first,) for first, _, _ in query])
    results = tally.result(seed=4, resamples=30)
    assert [(result.first, result.second) for result in results] == [("a", "b"), ("a", "c"), ("b", "c")]
    assert alone.result(seed=4, resamples=30) == [results[1]]
    assert single.result(seed=4) == []


def test_tally_keeps_equal_queries_once() -> None:
    """Queries with the same words, in whatever order and however many others were not asked, are one in memory."""
    tally = Tally(["a", "b"])
    for query in ([(R, I), (P, P)], [(P, P), (R, I)], [(P, P), (R, NOT_ASKED), (R, I)]):
        tally.add(query)
    assert [list(patterns.values()) for patterns in tally._patterns.values()] == [[3]]


def counted(words: Sequence[Sequence[Sequence[int]]], first: int, second: int) -> Agreement:
    """Return what the tally should say, counted cell by cell."""
    tables = np.zeros((len(words), 4, 4), dtype=int)
    for number, query in enumerate(words):
        for codes in query:
            if NOT_ASKED not in (codes[first], codes[second]):
                tables[number, codes[first], codes[second]] += 1
    return agreement("abc"[first], "abc"[second], tables, seed=9, resamples=20)


@given(WORDS, st.randoms())
def test_tally_is_the_plain_count_in_any_order(words: list[list[tuple[int, ...]]], dice: Any) -> None:
    """Whatever the words, the tally equals tables counted cell by cell; order of queries and pairs is nothing."""
    tally = Tally("abc")
    for query in dice.sample(words, len(words)):
        tally.add(dice.sample(query, len(query)))
    results = tally.result(seed=9, resamples=20)
    assert results == [counted(words, 0, 1), counted(words, 0, 2), counted(words, 1, 2)]
    json.dumps([result.to_json() for result in results], allow_nan=False)


@pytest.mark.parametrize(
    ("words", "problem"),
    [
        ([(0, 5)], "a code is 5; the highest is 4"),
        ([(0, 1, 2)], "3 codes for 2 judges"),
        ([(0, 1), (0,)], "shorter"),
    ],
)
def test_tally_refuses_what_is_no_word(words: list[tuple[int, ...]], problem: str) -> None:
    """Codes out of range and rows of another length are mistakes of the caller."""
    with pytest.raises(ValueError, match=problem):
        Tally(["a", "b"]).add(words)


def test_codes_are_the_labels_in_order() -> None:
    """Codes follow LABELS, then no label, then not asked."""
    assert [CODES[label] for label in LABELS] == [0, 1, 2]
    assert (CODES[None], NOT_ASKED) == (3, 4)


def test_json_is_rounded_and_has_no_signed_zero() -> None:
    """Floats have six decimals, whole counts are integers, minus nothing is nothing."""
    assert Figure(-1e-9, 1 / 3, 2 / 3, 4).to_json() == {"value": 0, "low": 0.333333, "high": 0.666667, "left_out": 4}
    assert json.dumps(Figure(-1e-9).to_json()["value"]) == "0.0"
    text = json.dumps(agreement("a", "b", padded(np.eye(3)[None]), seed=0).to_json())
    assert '"confusion": [[1, 0, 0, 0], [0, 1, 0, 0], [0, 0, 1, 0], [0, 0, 0, 0]]' in text
    assert '"labels": ["relevant", "partial", "irrelevant"]' in text


def test_rate_with_its_interval() -> None:
    """The value is hits over all; the interval is that of clusters, not of pairs."""
    figure = rate_interval(Counter({(10, 10): 20, (0, 10): 80}), seed=0)
    naive = rate_interval(Counter({(1, 1): 200, (0, 1): 800}), seed=0)
    assert figure.value == naive.value == 0.2
    # Standard error of 20 of 100 is .04, of 200 of 1000 .0126; the interval is 2 · 1.96 times as wide.
    assert width(figure) == pytest.approx(2 * 1.96 * 0.04, abs=0.015)
    assert width(naive) == pytest.approx(2 * 1.96 * 0.0126, abs=0.005)


@pytest.mark.parametrize(
    ("clusters", "expected"),
    [
        ({}, Figure(None)),
        ({(0, 0): 9}, Figure(None)),
        ({(1, 4): 1, (0, 0): 9}, Figure(0.25)),
        ({(0, 3): 5}, Figure(0.0, 0.0, 0.0)),
        ({(3, 3): 5}, Figure(1.0, 1.0, 1.0)),
    ],
)
def test_rate_of_little(clusters: dict[tuple[int, int], int], expected: Figure) -> None:
    """No cluster: no value; one cluster: no interval; nothing or everything hit: an interval without width."""
    assert rate_interval(clusters, seed=0, resamples=20) == expected


def test_rate_is_the_same_in_any_order() -> None:
    """The order of the counter does not move the bounds, the seed does."""
    forward = Counter({(1, 4): 30, (0, 3): 20, (2, 7): 10, (5, 9): 7})
    backward = dict(reversed(forward.items()))
    assert rate_interval(forward, seed=3) == rate_interval(backward, seed=3)
    assert rate_interval(forward, seed=3) != rate_interval(forward, seed=4)


def test_rate_refuses_more_hits_than_there_are() -> None:
    """More hits than pairs is a mistake of the caller."""
    with pytest.raises(ValueError, match="3 hits of 2"):
        rate_interval({(3, 2): 1}, seed=0)


def test_numpy_is_imported_late() -> None:
    """Importing the module and filling a tally does not import numpy, so `relabel --help` stays quick."""
    code = (
        "import sys; from relabel.agreement import Tally; Tally(['a', 'b']).add([(0, 1)]); "
        "sys.exit('numpy' in sys.modules)"
    )
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0
