import json
from collections import Counter
from collections.abc import Sequence
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from relabel import bootstrap
from relabel.agreement import CODES, NOT_ASKED, Tally
from relabel.raters import Panel, Together

R, P, I, N = CODES["relevant"], CODES["partial"], CODES["irrelevant"], CODES[None]  # noqa: E741 - as the letters mean
Words = Sequence[Sequence[Sequence[int]]]
WORDS = st.lists(st.lists(st.tuples(*[st.integers(0, NOT_ASKED)] * 3), max_size=5), max_size=8)


def panel_of(words: Words, judges: Sequence[str] = "abc", **more: Any) -> Panel:
    """Return a panel that heard these words, query by query."""
    panel = Panel(judges, **more)
    for query in words:
        panel.add(query)
    return panel


def together(words: Words, **more: Any) -> Together:
    """Return how far three judges agree on these words."""
    return panel_of(words).heard().together(seed=3, **{"resamples": 20, **more})


def test_pairs_with_enough_labels_are_counted() -> None:
    """What has two labels counts, a pair with one label or none does not, nor its query; who gave how many is told."""
    words = [[(R, R, I), (P, P, N), (I, NOT_ASKED, NOT_ASKED)], [(R, N, N)], [(NOT_ASKED, I, I)]]
    found = together(words)
    assert (found.n, found.clusters, found.by_labels) == (3, 2, {2: 2, 3: 1})
    assert found.given == {"a": 2, "b": 3, "c": 2}
    # of the first pair one of three pairs of labels agrees
    assert found.figures["agreement"].value == pytest.approx((1 / 3 + 1 + 1) / 3)
    complete = together(words, at_least=3)
    assert (complete.n, complete.clusters, complete.given) == (1, 1, {"a": 1, "b": 1, "c": 1})
    assert complete.figures["agreement"].low is None
    assert together(words, at_least=1).n == 5


def test_two_judges_are_as_in_a_table() -> None:
    """Of two judges a panel gives the agreement, AC1 and α of their table, bounds included."""
    rng = np.random.default_rng(0)
    words = [[tuple(rng.integers(0, 5, 2).tolist()) for _ in range(4)] for _ in range(40)]
    panel, tally = panel_of(words, "ab"), Tally("ab")
    for query in words:
        tally.add(query)
    many, (two,) = panel.heard().together(seed=1), tally.result(seed=1)
    assert (many.n, many.clusters) == (two.n, two.clusters)
    for name in ("agreement", "ac1", "alpha_nominal", "alpha_ordinal", "ac2_ordinal", "pabak"):
        one, other = many.figures[name], two.figures[name]
        assert one.value == pytest.approx(other.value)
        assert one.low == pytest.approx(other.low, abs=0.02), "the same up to the dice"
        assert one.high == pytest.approx(other.high, abs=0.02)


@settings(deadline=None)
@given(WORDS, st.randoms())
def test_order_is_nothing(words: Any, dice: Any) -> None:
    """Queries and pairs in another order give the same bytes, whatever the words; JSON holds no NaN."""
    mixed = [dice.sample(query, len(query)) for query in dice.sample(words, len(words))]
    first, second = together(words), together(mixed)
    assert json.dumps(first.to_json(), allow_nan=False) == json.dumps(second.to_json(), allow_nan=False)


def test_equal_queries_are_one_in_memory() -> None:
    """Queries with the same words in another order, and with pairs that nobody labelled, are one pattern."""
    panel = panel_of([[(R, I, I), (P, P, N)], [(P, P, N), (R, I, I)], [(R, I, I), (N, N, NOT_ASKED), (P, P, N)]])
    assert list(panel._patterns.values()) == [3]


def test_strata_are_weighed_back() -> None:
    """Pairs of which every tenth was asked count tenfold in the figures, once in the counts."""
    panel = Panel("abc", [1.0, 10.0])
    for _ in range(20):
        panel.add([(R, R, R), (I, I, R)], [0, 1])
    found = panel.heard().together(seed=0)
    # one pair in eleven agrees fully, ten in three pairs of labels once
    assert found.figures["agreement"].value == pytest.approx((1 + 10 / 3) / 11)
    assert (found.n, found.by_labels) == (40, {3: 40})


@pytest.mark.parametrize("words", [[], [[]], [[(N, N, NOT_ASKED)]], [[(R, N, N)]], [[(R, R, R)]] * 3])
def test_little_is_answered(words: Words) -> None:
    """No query, no label, one label, one word only: answered with what is defined, and told as JSON."""
    found = together(words)
    assert found.n == 3 * (len(words) == 3)
    assert found.figures["alpha_nominal"].value is None
    json.dumps(found.to_json(), allow_nan=False)


def test_another_number_of_words_is_refused() -> None:
    """A pair with a code for each of two judges is no pair of three."""
    with pytest.raises(ValueError, match="every pair needs 3 codes"):
        Panel("abc").add([(R, R)])


def test_drawing_clusters_one_by_one_is_the_multinomial(monkeypatch: pytest.MonkeyPatch) -> None:
    """Where nearly all queries differ they are drawn one by one: the same spread as that of the multinomial."""
    rng = np.random.default_rng(0)
    patterns = rng.poisson(2.0, (60, 2)).astype(float)
    repeats = rng.integers(1, 4, 60).astype(float)
    spreads = []
    for many in (10**6, 0):
        monkeypatch.setattr(bootstrap, "_MANY", many)
        drawn = np.concatenate(list(bootstrap.resampled(patterns, repeats, 4000, np.random.default_rng(1))))
        assert drawn.shape == (4000, 2)
        assert drawn.mean(axis=0) == pytest.approx(repeats @ patterns, rel=0.01)
        spreads.append(drawn.std(axis=0))
    assert spreads[0] == pytest.approx(spreads[1], rel=0.05)


def test_intervals_cover_the_truth_of_three_judges() -> None:
    """About 95 % of the intervals hold the true Fleiss's κ where judges miss whole queries and a third is missing."""
    rng = np.random.default_rng(5)
    hits: Counter[bool] = Counter()
    # right on .95 of a query's pairs, of one query in four on .5; two judges are right independently given the query:
    # p_o = 1 − 2 E[r] (1 − E[r]) as each has its own hard queries; E[r] = .8375; p_e = .5
    right = 0.75 * 0.95 + 0.25 * 0.5
    truth = 2 * (1 - 2 * right * (1 - right)) - 1
    for _ in range(100):
        sure = np.where(rng.random((50, 1, 3)) < 0.25, 0.5, 0.95)
        said = 2 * ((rng.random((50, 6, 1)) < 0.5) ^ (rng.random((50, 6, 3)) > sure)).astype(int)
        said[rng.random(said.shape) < 1 / 3] = NOT_ASKED
        figure = together(said.tolist(), resamples=300).figures["fleiss_kappa"]
        assert figure.low is not None
        assert figure.high is not None
        hits[figure.low <= truth <= figure.high] += 1
    assert 0.88 <= hits[True] / 100 <= 0.99
