"""Figures of a judge's behaviour, against planted effects and against scipy."""

from typing import cast

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import stats

from relabel.agreement import CODES, Figure, agreement
from relabel.diagnostics import (
    COMPARED,
    Diagnostic,
    Point,
    Said,
    against_gold,
    correlation,
    correlation_with_gold,
    difference,
    flags,
    rate,
    spearman,
)
from relabel.records import LABELS, Label


def ends(figure: Figure | Diagnostic) -> tuple[float, float, float]:
    """Return value and interval of a figure that has them."""
    found = (figure.value, figure.low, figure.high)
    assert None not in found
    return cast("tuple[float, float, float]", found)


COLUMN = st.lists(st.integers(0, 4), min_size=3, max_size=12)


@settings(deadline=None)
@given(st.data())
def test_spearman_is_scipys(data: st.DataObject) -> None:
    """Ties and repeated points included; a constant column has no correlation."""
    x = data.draw(COLUMN)
    y = data.draw(st.lists(st.integers(0, 2), min_size=len(x), max_size=len(x)))
    weights = data.draw(st.lists(st.integers(0, 3), min_size=len(x), max_size=len(x)))
    (found,) = spearman(np.array(x, float), np.array(y, float), np.array([weights], float))
    whole = [np.repeat(column, weights) for column in (x, y)]
    if any(len(set(column)) < 2 for column in whole):
        assert np.isnan(found)
    else:
        assert found == pytest.approx(stats.spearmanr(*whole).statistic, abs=1e-9)


def clustered(dice: np.random.Generator, queries: int, share: float) -> list[Said]:
    """Return yes and no on 1 to 8 pairs of each query; queries differ in how often they get a yes."""
    shares = dice.beta(4 * share, 4 * (1 - share), size=queries)
    return [
        Said(f"q{query}", bool(yes))
        for query, own in enumerate(shares)
        for yes in dice.random(dice.integers(1, 9)) < own
    ]


def test_the_interval_of_a_rate_covers_what_was_planted() -> None:
    """95 % intervals over queries hold the planted rate about 95 times in 100, though pairs of a query are alike."""
    dice = np.random.default_rng(1)
    found = [rate("probe", "x", clustered(dice, 80, 0.3), seed=0) for _ in range(200)]
    held = sum(each.low is not None and each.high is not None and each.low <= 0.3 <= each.high for each in found)
    assert 0.90 <= held / len(found) <= 0.99


def test_a_rate_of_nothing_or_all_reaches_as_far_as_its_queries_allow() -> None:
    """No miss in 20 queries is no proof: the exact bound of Clopper and Pearson stands in for the bootstrap."""
    said = [Said(f"q{number}", yes=True) for number in range(20)]
    found = rate("probe", "x", said, seed=0)
    bound = stats.binomtest(20, 20).proportion_ci(method="exact")
    assert ends(found) == pytest.approx((1.0, bound.low, 1.0))
    none = rate("probe", "x", [Said(one.query, yes=False) for one in said], seed=0)
    assert ends(none) == pytest.approx((0.0, 0.0, 1 - bound.low))


def test_too_little_gives_no_interval_and_says_so() -> None:
    """Nothing has no value; one query has a value without interval; what does not vary has no correlation."""
    assert rate("probe", "x", [], seed=0).value is None
    one = rate("probe", "x", [Said("q", yes=True), Said("q", yes=False)], seed=0)
    assert (one.value, one.low, one.high, one.of, one.queries) == (0.5, None, None, 2, 1)
    flat = correlation("leaning", "x", [Point(f"q{n}", float(n), 1.0) for n in range(9)], seed=0, note="ρ")
    assert (flat.value, flat.low) == (None, None)
    assert flat.note == "undefined: nothing varies; ρ"
    assert correlation("leaning", "x", [], seed=0).value is None
    assert difference("probe", "x", [], [Said("q", yes=True)], seed=0).value is None


def test_a_planted_negative_bias_is_found() -> None:
    """Sensitivity .75 and specificity .95 make a negative bias of .20, which the interval holds and 0 it does not."""
    dice = np.random.default_rng(2)
    queries = [f"q{number}" for number in range(400)]
    hits = [Said(query, bool(dice.random() < 0.75)) for query in queries]
    refused = [Said(query, bool(dice.random() < 0.95)) for query in queries]
    found = difference("probe", "negative bias", refused, hits, seed=0)
    _, low, high = ends(found)
    assert 0 < low <= 0.2 <= high
    assert (found.of, found.queries) == (800, 400)


def leaning(dice: np.random.Generator, slope: float) -> list[Point]:
    """Return pairs of which longer ones are more often relevant; the judge errs, and leans further by `slope`."""
    points = []
    for query in range(150):
        for length in dice.uniform(0, 1, size=6):
            gold = dice.random() < 0.2 + 0.4 * length
            yes = gold if dice.random() < 0.8 else dice.random() < 0.4
            yes = yes or dice.random() < slope * length
            points.append(Point(f"q{query}", float(length), float(yes), float(gold)))
    return points


def test_a_leaning_is_told_from_the_truth() -> None:
    """A judge that sees what is true correlates with length as truth does; one with a taste for length exceeds it."""
    honest = correlation_with_gold("leaning", "length", leaning(np.random.default_rng(3), 0.0), seed=0)
    assert ends(honest[0])[1] > 0
    assert ends(honest[1])[1] < 0
    taste = correlation_with_gold("leaning", "length", leaning(np.random.default_rng(3), 0.6), seed=0)
    assert ends(taste[1])[1] > 0
    assert taste[0].value == pytest.approx(honest[0].value, abs=0.1)


def test_pairs_without_gold_take_no_part_beside_it() -> None:
    """Truth and judge are compared on the same pairs."""
    points = leaning(np.random.default_rng(4), 0.0)
    half = [Point(p.query, p.x, p.y, p.gold if n % 2 else None) for n, p in enumerate(points)]
    people, excess = correlation_with_gold("leaning", "length", half, seed=0)
    assert people.of == excess.of == len(points) // 2
    assert correlation("leaning", "length", half, seed=0).of == len(points)


Word = tuple[str, Label | None, Label | None, Label | None]


def judged(dice: np.random.Generator, first: float, second: float, queries: int = 150) -> list[Word]:
    """Return what two judges with these error rates say of the same pairs, and gold; they tend to err together."""
    words: list[Word] = []
    for query in range(queries):
        for _ in range(6):
            gold = LABELS[int(dice.choice(3, p=[0.3, 0.2, 0.5]))]
            hard, other = dice.random(), LABELS[int(dice.integers(3))]
            words.append((f"q{query}", other if hard < first else gold, other if hard < second else gold, gold))
    return words


def test_the_difference_of_kappa_is_paired() -> None:
    """Its interval holds the planted difference and is narrower than two separate intervals would make it."""
    words = judged(np.random.default_rng(5), 0.4, 0.3)
    found = against_gold(words, names=("a", "b"), seed=0)
    assert set(found.difference) == set(COMPARED)
    value, low, high = ends(found.difference["kappa"])
    truth, *_ = ends(against_gold(judged(np.random.default_rng(6), 0.4, 0.3, queries=1500), seed=0).difference["kappa"])
    assert 0 < low <= truth <= high
    sides = [ends(side.figures["kappa"]) for side in (found.before, found.after)]
    assert value == pytest.approx(sides[1][0] - sides[0][0])
    assert high - low < 0.8 * float(np.hypot(sides[0][2] - sides[0][1], sides[1][2] - sides[1][1]))


def test_the_same_judge_twice_differs_by_nothing() -> None:
    """Value and interval are exactly 0."""
    words = [(query, label, label, gold) for query, label, _, gold in judged(np.random.default_rng(7), 0.3, 0.3)]
    for figure in against_gold(words).difference.values():
        assert (figure.value, figure.low, figure.high) == (0.0, 0.0, 0.0)


def test_against_gold_counts_as_agreement_does() -> None:
    """Pairs that one of the three did not label take no part; each side is `agreement` of what is left."""
    words = judged(np.random.default_rng(8), 0.4, 0.2, queries=40)
    holes: list[Word] = [("q0", None, "relevant", "relevant"), ("q1", "relevant", None, "relevant")]
    holes += [("q2", "relevant", "partial", None)]
    found = against_gold([*words, *holes], names=("a", "b"), seed=3)
    tables = np.zeros((40, 4, 4))
    for query, first, _, gold in words:
        tables[int(query[1:]), CODES[first], CODES[gold]] += 1
    wanted = agreement("a", "gold", tables, seed=3)
    assert found.before.n == len(words)
    assert found.before.figures == wanted.figures


def test_the_order_of_pairs_changes_nothing() -> None:
    """The same pairs in any order give the same bytes."""
    points = leaning(np.random.default_rng(9), 0.3)
    words = judged(np.random.default_rng(9), 0.3, 0.2)
    assert correlation("l", "x", points, seed=1) == correlation("l", "x", points[::-1], seed=1)
    assert against_gold(words, seed=1).difference == against_gold(words[::-1], seed=1).difference


def test_nothing_to_compare() -> None:
    """Without a common pair every difference is undefined, and nothing fails."""
    found = against_gold([("q", "relevant", None, "relevant")])
    assert found.before.n == 0
    assert all(figure.value is None for figure in found.difference.values())


def test_what_flags() -> None:
    """Relevant and partial are a yes; no label is none, and never asked as one."""
    assert [flags(label) for label in (*LABELS, None)] == [True, True, False, False]


def test_as_json() -> None:
    """Rounded, with everything that one must know to read it."""
    told = rate(
        "probe", "yes rate", [Said("a", yes=True), Said("b", yes=False), Said("c", yes=False)], seed=0
    ).to_json()
    assert told["value"] == 0.333333
    assert list(told) == ["part", "name", "value", "low", "high", "of", "queries", "note"]
