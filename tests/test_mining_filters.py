"""Filters: each against worked examples, the list as a whole, and what must never come through."""

import math
from collections.abc import Sequence
from dataclasses import replace
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from pools import candidate, passage, scored, texts

from relabel.copies import marks_of
from relabel.mining.candidates import Candidate, Filter, Pool, Positive
from relabel.mining.detection import LIST, detect
from relabel.mining.filters import (
    AbsoluteMargin,
    Consistency,
    CrossEncoderBand,
    GuideModel,
    MaxScore,
    MinScore,
    RankWindow,
    RelativeMargin,
    TwoSided,
)
from relabel.mining.likeness import CopyOfPositive, CrossRowPositive, NearDuplicate, Repeated, SiblingPositive
from relabel.mining.strategies import FILTERS, POSITIVES, apply_filters
from relabel.records import Passage


def left(pool: Pool, *filters: Filter) -> list[str]:
    """Return the texts of what a list of filters leaves."""
    return texts(apply_filters(pool, filters).kept.candidates)


@pytest.mark.parametrize(
    ("each", "scores", "positives", "kept"),
    [
        (MinScore(0.2), [0.9, 0.2, 0.19, -0.5], [], ["n1", "n2"]),
        (MinScore(-0.5), [0.0, -0.5, -0.6], [], ["n1", "n2"]),
        (MaxScore(0.7), [0.9, 0.7, 0.1], [], ["n2", "n3"]),
        (MaxScore(0.0), [0.1, 0.0, -0.1], [], ["n2", "n3"]),
        (AbsoluteMargin(0.25), [0.75, 0.5, 0.25], [0.75], ["n2", "n3"]),
        (AbsoluteMargin(0.0), [0.76, 0.75], [0.75], ["n2"]),
        (AbsoluteMargin(-0.125), [1.0, 0.875, 0.75], [0.75], ["n2", "n3"]),
        (AbsoluteMargin(0.5), [-1.0, -2.0], [-1.0], ["n2"]),
        (RelativeMargin(0.5), [0.51, 0.5, 0.1], [1.0], ["n2", "n3"]),
        (RelativeMargin(0.5), [-2.0, -2.9, -3.0, -4.0], [-2.0], ["n3", "n4"]),
        (RelativeMargin(0.5), [0.1, 0.0, -0.1], [0.0], ["n2", "n3"]),
        (RelativeMargin(0.5, "min"), [0.6, 0.2], [1.0, 0.5], ["n2"]),
        (RelativeMargin(0.5, "max"), [0.6, 0.5], [1.0, 0.5], ["n2"]),
        (RelativeMargin(0.5, "mean"), [0.376, 0.375], [1.0, 0.5], ["n2"]),
        (AbsoluteMargin(0.25, "min"), [0.5, 0.25], [1.0, 0.5], ["n2"]),
        (AbsoluteMargin(0.25, "max"), [0.8, 0.75], [1.0, 0.5], ["n2"]),
        (RankWindow(), [3, 2, 1], [], ["n1", "n2", "n3"]),
        (RankWindow(1), [3, 2, 1], [], ["n2", "n3"]),
        (RankWindow(1, 2), [3, 2, 1], [], ["n2"]),
        (RankWindow(9), [3, 2, 1], [], []),
        (RankWindow(0, 9), [3, 2, 1], [], ["n1", "n2", "n3"]),
        (MaxScore(-9), [3, 2, 1], [], []),
        (MaxScore(1), [], [], []),
    ],
)
def test_rules_by_score_and_rank(each: Filter, scores: list[float], positives: list[float], kept: list[str]) -> None:
    """Positive, zero and negative scores, one positive and many, thresholds hit exactly, none and all removed."""
    assert left(scored(scores, positives), each) == kept


def test_the_margin_below_a_negative_positive_is_not_above_it() -> None:
    """With s⁺ = −.2 the naive s⁺·(1 − m) = −.19 would keep a candidate that scores above the positive."""
    assert left(scored([-0.195, -0.2, -0.22], [-0.2]), RelativeMargin(0.05)) == ["n3"]


@pytest.mark.parametrize(
    "each",
    [
        MinScore(0.5), MaxScore(0.5), AbsoluteMargin(0.1), RelativeMargin(0.1), CrossEncoderBand(), TwoSided(),
        GuideModel(), GuideModel(phi=0.5), NearDuplicate(None, 0.9),
    ],
)  # fmt: skip
@pytest.mark.parametrize("score", [None, math.nan, math.inf])
def test_an_unknown_score_removes_nothing_and_is_counted(each: Filter, score: float | None) -> None:
    """Without a score there is no word: the candidate stays, and the filter says for how many it had none."""
    done = apply_filters(scored([score], [0.9]), [each])
    assert texts(done.kept.candidates) == ["n1"]
    assert done.silent == {each.name: 1}


def test_without_a_known_positive_a_margin_has_no_word() -> None:
    """No positive's score, no margin; where some are known, those count."""
    for positives in ([], [None], [math.nan]):
        done = apply_filters(scored([9.0], positives), [RelativeMargin(0.1), AbsoluteMargin(0.1), Consistency()])
        assert texts(done.kept.candidates) == ["n1"]
        assert done.silent == {"relative_margin": 1, "absolute_margin": 1, "consistency": 1}
    assert left(scored([0.8], [None, 0.5]), AbsoluteMargin(0.1)) == []


@pytest.mark.parametrize(
    ("score", "reason"), [(0.099, ""), (0.1, "0.1: neither yes nor no"), (0.9, "pseudo-positive: 0.9"), (-3.0, "")]
)
def test_the_crossencoder_band_tells_pseudo_positives_apart(score: float, reason: str) -> None:
    """RocketQA's band: kept below .1, a pseudo-positive from .9 on, unknown between."""
    pool = Pool("q", (), (candidate("n", 0.0, scores={"crossencoder": score}),))
    assert CrossEncoderBand().reasons(pool) == [reason]


@pytest.mark.parametrize(
    ("each", "positives", "consistent"),
    [
        (Consistency(2), [0.85], True),
        (Consistency(2), [0.8], True),
        (Consistency(2), [0.79], False),
        (Consistency(1), [0.9], True),
        (Consistency(2, 0.86), [0.85], False),
        (Consistency(2, 0.85), [0.85], True),
        (Consistency(2), [0.1, 0.85], True),
        (Consistency(2, positive="min"), [0.1, 0.85], False),
    ],
)
def test_consistency_keeps_or_removes_a_query_whole(each: Filter, positives: list[float], consistent: bool) -> None:
    """The positive among the top k of the pool and not below the floor; the best or the worst of several."""
    assert left(scored([0.9, 0.8, 0.1], positives), each) == (["n1", "n2", "n3"] if consistent else [])


@pytest.mark.parametrize(
    ("score", "near", "kept"),
    [(0.6, [0.5], True), (0.5, [0.1], False), (0.6, [0.6], False), (0.6, [0.1, 0.7], False), (-0.1, [-0.5], False)],
)
def test_two_sided_wants_hard_but_no_paraphrase(score: float, near: list[float], kept: bool) -> None:
    """Nearer to the query than the positive (.5), and nearer to the query than to any positive."""
    positives = tuple(Positive(passage(f"p{number}"), 0.5) for number in range(len(near)))
    pool = Pool("q", positives, (candidate("n", score, near=near),))
    assert left(pool, TwoSided()) == (["n"] if kept else [])


@pytest.mark.parametrize(
    ("each", "guide", "kept"),
    [
        (GuideModel(), 0.5, True),
        (GuideModel(), 0.51, False),
        (GuideModel(0.25), 0.25, True),
        (GuideModel(0.25), 0.26, False),
        (GuideModel(-0.25), 0.75, True),
        (GuideModel(-0.25, phi=0.7), 0.7, False),
    ],
)
def test_the_guide_model(each: Filter, guide: float, kept: bool) -> None:
    """GIST: not above the positive by the guide's score, the retriever's own plays no part; DCLR: below phi."""
    positive = Positive(passage("p"), 0.0, scores={"guide": 0.5})
    pool = Pool("q", (positive,), (candidate("n", 99.0, scores={"guide": guide}),))
    assert left(pool, each) == (["n"] if kept else [])


def test_copies_of_positives_in_any_typography() -> None:
    """The row's own positive, that of the query's other rows, and another query's, each by its filter."""
    pool = Pool(
        "q",
        (Positive(passage("The cat sat.")),),
        tuple(
            candidate(text, 0.5, rank) for rank, text in enumerate(["the CAT sat", "a dog", "A mouse!", "a bird"], 1)
        ),
        siblings=frozenset(marks_of(passage("a dog.")).known),
        strangers=frozenset(marks_of(passage("a  mouse")).known),
    )
    done = apply_filters(pool, [CopyOfPositive(), SiblingPositive(), CrossRowPositive()])
    assert {removed.candidate.passage.text: removed.by for removed in done.removed} == {
        "the CAT sat": "copy_of_positive",
        "a dog": "sibling_positive",
        "A mouse!": "cross_row_positive",
    }
    assert texts(done.kept.candidates) == ["a bird"]


def test_of_repeated_candidates_the_first_by_rank_stays() -> None:
    """Whoever found it, and in whatever order they came in."""
    pool = Pool("q", (), (candidate("Same.", 1, 7, source="a"), candidate("same", 1, 3, source="b"), candidate("x", 1)))
    assert [each.source for each in apply_filters(pool, [Repeated()]).kept.candidates] == ["b", ""]


@pytest.mark.parametrize(
    ("text", "kept"),
    [
        ("The quick brown fox jumps over the lazy dog by the river", False),
        ("the quick brown fox jumps over the lazy dog by the rivers!", False),
        ("The quick brown fox sleeps beside the lazy dog by the river", True),
        ("", True),
    ],
)
def test_near_duplicates_by_their_characters(text: str, kept: bool) -> None:
    """A letter more is a near-copy, another verb is not; no positive, no likeness."""
    positive = Positive(passage("The quick brown fox jumps over the lazy dog by the river."))
    pool = Pool("q", (positive,), (candidate(text, 0.1),))
    assert left(pool, NearDuplicate()) == ([text] if kept else [])
    assert left(replace(pool, positives=()), NearDuplicate()) == [text]


def test_overlap_is_the_jaccard_index_of_5_grams() -> None:
    """The texts abcdefgh and abcdefgx share 3 of 5 grams; texts without spaces are no special case."""
    pool = Pool("q", (Positive(passage("abcdefgh")),), (candidate("abcdefgx", 0.1),))
    assert NearDuplicate(0.6).reasons(pool) == ["overlap 0.6 with a positive"]
    assert NearDuplicate(0.61).reasons(pool) == [""]


def test_near_duplicates_by_similarity() -> None:
    """The highest similarity to any positive counts."""
    pool = Pool("q", (Positive(passage("p")), Positive(passage("r"))), (candidate("n", 0.1, near=[0.2, 0.95]),))
    assert left(pool, NearDuplicate(None, 0.95)) == []
    assert left(pool, NearDuplicate(None, 0.96)) == ["n"]


def test_a_list_counts_the_first_filter_that_removes() -> None:
    """Everything is kept or removed once; the second of a kind has a name of its own; the pool keeps its order."""
    pool = scored([0.9, 0.8, 0.5, 0.4, 0.1], [1.0])
    done = apply_filters(pool, [MaxScore(0.85), RelativeMargin(0.3), MaxScore(0.45), MinScore(0.2)])
    assert [(removed.candidate.passage.text, removed.by) for removed in done.removed] == [
        ("n1", "max_score"), ("n2", "relative_margin"), ("n3", "max_score 2"), ("n5", "min_score"),
    ]  # fmt: skip
    assert done.counts == {"max_score": 1, "relative_margin": 1, "max_score 2": 1, "min_score": 1}
    assert texts(done.kept.candidates) == ["n4"]


def test_a_window_at_the_end_counts_what_is_left() -> None:
    """At the head the retriever's ranks, at the end, as in sentence-transformers, the ranks of the survivors."""
    pool = scored([0.9, 0.8, 0.5, 0.4])
    assert left(pool, RankWindow(1, 3), MaxScore(0.85)) == ["n2", "n3"]
    assert left(pool, MaxScore(0.85), RankWindow(1, 3)) == ["n3", "n4"]


def test_synthetic_negatives_are_exempt_from_scores_but_not_from_copies() -> None:
    """A near-copy made on purpose scores high and stays; a copy of the positive goes whoever wrote it."""
    pool = Pool(
        "q",
        (Positive(passage("the tower is 300 metres high"), 0.5),),
        (
            candidate("the tower is 330 metres high", 0.9, 1, source="synthetic"),
            candidate("The tower is 300 metres high.", 0.9, 2, source="synthetic"),
            candidate("another high one", 0.9, 3, source="bm25"),
        ),
    )
    filters: list[Filter] = [CopyOfPositive(), NearDuplicate(0.5), RelativeMargin(0.05), MaxScore(0.3)]
    done = apply_filters(pool, filters, exempt={"synthetic"})
    assert texts(done.kept.candidates) == ["the tower is 330 metres high"]


@pytest.mark.parametrize(
    ("kind", "settings"),
    [
        (RankWindow, {"range_min": -1}),
        (RankWindow, {"range_min": 5, "range_max": 5}),
        (MinScore, {"at": math.nan}),
        (MaxScore, {"at": math.inf}),
        (AbsoluteMargin, {"margin": math.nan}),
        (RelativeMargin, {"margin": math.inf}),
        (CrossEncoderBand, {"low": 0.9, "high": 0.1}),
        (CrossEncoderBand, {"low": math.nan}),
        (Consistency, {"top_k": 0}),
        (Consistency, {"floor": math.nan}),
        (GuideModel, {"margin": math.nan}),
        (GuideModel, {"phi": math.nan}),
        (NearDuplicate, {"overlap": None}),
        (NearDuplicate, {"overlap": 0.0}),
        (NearDuplicate, {"similarity": math.nan}),
    ],
)
def test_impossible_settings_are_refused(kind: type[Filter], settings: dict[str, Any]) -> None:
    """A threshold that is no number, an empty window, a band that is none."""
    with pytest.raises(ValueError, match=r"is|must|give"):
        kind(**settings)


def test_every_filter_has_a_name_of_its_own() -> None:
    """Names are what configs say; none stands for two."""
    names = [str(each.name) for each in FILTERS]
    assert len(set(names)) == len(names)


# -- whatever the pool --------------------------------------------------------------------------------------

WORDS = st.sampled_from(["a cat", "A cat.", "the dog", "The  dog!", "a bird", "birds", ""])
SCORES = st.none() | st.floats(-1e6, 1e6)


@st.composite
def pools(draw: st.DrawFn) -> Pool:
    """Draw a pool of few texts, so that copies of positives, siblings and repetitions are frequent."""
    positives = draw(st.lists(st.tuples(WORDS, SCORES), min_size=1, max_size=3))
    found = draw(st.lists(st.tuples(WORDS, SCORES, st.integers(1, 9), st.sampled_from(["bm25", "dense"])), max_size=9))
    siblings = draw(st.lists(WORDS, max_size=2))
    return Pool(
        draw(WORDS),
        tuple(Positive(passage(text), score) for text, score in positives),
        tuple(
            Candidate(Passage(f"{text} {number}", text), rank, score, source)
            for number, (text, score, rank, source) in enumerate(found)
        ),
        siblings=frozenset(mark for text in siblings for mark in marks_of(passage(text)).known),
    )


LISTS: list[list[Filter]] = [
    [*POSITIVES],
    [*POSITIVES, NearDuplicate(), RelativeMargin(0.05, "max"), RankWindow(1, 4)],
    [RankWindow(0, 5), AbsoluteMargin(-2.0), MinScore(-1.0), *POSITIVES, NearDuplicate()],
]


@settings(deadline=None)
@given(pools(), st.sampled_from(LISTS))
def test_no_positive_comes_through(pool: Pool, filters: Sequence[Filter]) -> None:
    """Nothing that is left is a positive of the row, a positive of its siblings, or there twice; nothing is lost."""
    done = apply_filters(pool, filters)
    own = {mark for positive in pool.positives for mark in marks_of(positive.passage).known}
    marks = [marks_of(each.passage) for each in done.kept.candidates]
    assert not any(mark.equals_one_of(own) or mark.equals_one_of(pool.siblings) for mark in marks)
    assert len({mark.full for mark in marks}) == len(marks)
    assert sum(done.counts.values()) + len(done.kept.candidates) == len(pool.candidates)


@settings(deadline=None)
@given(pools(), st.sampled_from(LISTS), st.randoms())
def test_the_order_of_arrival_changes_nothing(pool: Pool, filters: Sequence[Filter], dice: Any) -> None:
    """The same candidates in another order: the same ones stay, for the same reasons."""
    shuffled = list(pool.candidates)
    dice.shuffle(shuffled)
    one, two = apply_filters(pool, filters), apply_filters(pool.left_with(shuffled), filters)
    assert {each.content for each in one.kept.candidates} == {each.content for each in two.kept.candidates}
    assert {(each.candidate.content, each.by, each.why) for each in one.removed} == {
        (each.candidate.content, each.by, each.why) for each in two.removed
    }


# -- as detectors -------------------------------------------------------------------------------------------


def test_filters_as_detectors_by_hand() -> None:
    """Precision, recall and F1 of each filter alone and of the list, counted by hand; unknown relevance is left out."""
    first = scored([0.9, 0.8, 0.7, 0.2], [0.75], query="one"), [True, False, None, False]
    second = scored([0.9, 0.3], [0.85], query="two"), [False, True]
    found = {each.filter: each for each in detect([first, second], [MaxScore(0.85), AbsoluteMargin(0.0)], seed=0)}
    by_score, by_margin, both = found["max_score"], found["absolute_margin"], found[LIST]
    assert (by_score.relevant, by_score.irrelevant, by_score.caught, by_score.lost) == (2, 3, 1, 1)
    assert (by_score.precision.value, by_score.recall.value, by_score.f1.value) == (0.5, 0.5, 0.5)
    assert (by_margin.caught, by_margin.lost) == (1, 2)
    assert by_margin.precision.value == pytest.approx(1 / 3)
    assert by_margin.f1.value == pytest.approx(2 / 5)
    assert (both.caught, both.lost) == (1, 2)
    assert both.precision.low == 0.0
    assert both.precision.high == 0.5


def test_intervals_are_over_queries() -> None:
    """Ten rows of one query are one cluster: there is nothing to resample, so no interval."""
    rows = [(scored([0.9, 0.1], [1.0], query="the same"), [True, False])] * 10
    (found, _) = detect(rows, [MaxScore(0.5)], seed=0)
    assert (found.caught, found.precision.value, found.precision.low) == (10, 1.0, None)


def test_a_filter_that_removes_nothing_has_no_precision() -> None:
    """0 of 0 is no figure."""
    (found, _) = detect([(scored([0.1]), [True])], [MaxScore(0.5)], seed=0)
    assert (found.precision.value, found.recall.value) == (None, 0.0)
