"""Who is asked next and whose word is final, case by case and for any words."""

from collections.abc import Mapping, Sequence

import pytest
from hypothesis import given
from hypothesis import strategies as st

from relabel.cascade import (
    ALL_FINAL,
    OPEN,
    OUTCOMES,
    Cuts,
    Settle,
    Stage,
    Trail,
    conclude,
    follow,
    number_of,
    open_case,
    settles,
)
from relabel.records import LABELS, VOID_REASONS, Case, Example, Judgment, Label, Passage

NO = Judgment("irrelevant")
YES = Judgment("relevant")
SOME = Judgment("partial")
LOST = Judgment(None, "unreadable")
COPY = Judgment(None, "repeated")

CHEAP: Mapping[Label, float] = {"irrelevant": 0.0}


def case_of(*texts: str, query: str = "q", positives: Sequence[str] = ("p",), limit: int = 3) -> Case:
    """Open the case of a row with these negatives."""
    named = [[Passage(text, text) for text in each] for each in (positives, texts)]
    return open_case(0, Example("q", query, tuple(named[0]), tuple(named[1])), limit)


def walk(stages: Sequence[Stage], *said: Sequence[Judgment | None], seed: int = 0) -> Trail:
    """Follow a case whose pair i is told said[stage][i] by each stage, should it be asked."""
    case = case_of(*[f"n{i}" for i in range(len(said[0]))])
    known = [
        {pair.key: word for pair, word in zip(case.pairs, words, strict=True) if word is not None} for words in said
    ]
    return follow(stages, case, known, seed)


def outcomes(stages: Sequence[Stage], trail: Trail) -> list[str]:
    """Return what was concluded about each pair."""
    return [conclude(stages, trail, i).outcome for i in range(len(trail.settled))]


# --- pairs ---


def test_pairs_are_known_by_content() -> None:
    """The key of a pair says nothing of its place or ids, and a case's only of query and reference."""
    first, other = case_of("a", "b"), case_of("b", "c")
    assert first.key == other.key
    assert first.pairs[1].key == other.pairs[0].key
    assert case_of("a", query="other").key != first.key
    assert case_of("a", positives=("p", "p2")).key != first.key


def test_reference_is_the_first_positives() -> None:
    """Positives beyond the limit are not shown, and do not count."""
    case = case_of("a", positives=("p1", "p2", "p3"), limit=2)
    assert [passage.id for passage in case.reference] == ["p1", "p2"]
    assert case.key == case_of("a", positives=("p1", "p2", "p4"), limit=2).key


def test_a_text_held_twice_makes_two_pairs() -> None:
    """Both turns have keys of their own, equal wherever the text stands in the row."""
    case, turned = case_of("a", "b", "a"), case_of("b", "a", "a")
    assert len({pair.key for pair in case.pairs}) == 3
    assert {pair.key for pair in case.pairs} == {pair.key for pair in turned.pairs}


def test_title_and_text_are_not_run_together() -> None:
    """("ab", "c") and ("a", "bc") are different passages."""
    example = Example("q", "q", (Passage("p", "p"),), (Passage("1", "c", "ab"), Passage("2", "bc", "a")))
    one, two = open_case(0, example, 1).pairs
    assert one.key != two.key


# --- whose word is final ---


@pytest.mark.parametrize(
    ("needed", "probability", "final"),
    [(0.0, None, True), (0.0, 0.0, True), (0.9, None, False), (0.9, 0.89, False), (0.9, 0.9, True), (1.0, 1.0, True)],
)
def test_a_threshold_needs_a_probability(needed: float, probability: float | None, final: bool) -> None:
    """A judgment without a probability is never certain enough, unless nothing is asked of it."""
    assert settles(Stage("s", {"relevant": needed}), Judgment("relevant", probability=probability)) is final


@pytest.mark.parametrize("reason", ["", "unreadable", "refused", "no rule applies", "in the ask band"])
def test_nothing_said_settles_nothing(reason: str) -> None:
    """A missing label is not final, whatever the stage takes for final and however sure it sounds."""
    assert not settles(Stage("s"), Judgment(None, reason, probability=1.0, score=9.9, evidence="relevant"))


def test_void_pairs_are_settled() -> None:
    """A copy of another negative and an empty text end their way, even where no label is final."""
    assert all(settles(Stage("s", {}), Judgment(None, reason)) for reason in VOID_REASONS)


def test_doubts_go_up_and_the_rest_stays() -> None:
    """Only "no" is final of the cheap judge: the others are asked on, and the last judge's word holds."""
    stages = (Stage("cheap", CHEAP), Stage("strong"))
    trail = walk(stages, (NO, YES, SOME, LOST), (YES, NO, SOME, YES))
    assert trail.due == (("open",) * 4, ("", "open", "open", "open"))
    assert trail.words[1] == (None, NO, SOME, YES)
    assert outcomes(stages, trail) == ["true negative", "true negative", "partial", "false negative"]


def test_what_nobody_settles_is_undecided_with_its_reason() -> None:
    """Without a final word there is no label: not certain enough, no label, not asked."""
    stages = (Stage("cheap", CHEAP), Stage("strong", {"relevant": 0.9}))
    trail = walk(stages, (YES, YES, YES), (YES, LOST, None))
    verdicts = [conclude(stages, trail, i) for i in range(3)]
    assert [verdict.outcome for verdict in verdicts] == ["undecided"] * 3
    assert [verdict.evidence for verdict in verdicts] == ["relevant, not certain enough", "unreadable", "not asked"]
    assert [verdict.stage for verdict in verdicts] == [""] * 3


def test_void_pairs_are_not_asked_on() -> None:
    """A repeated passage is settled by the rules, and nobody else is asked, whole queries going up or not."""
    stages = (Stage("rules", escalate="query"), Stage("strong"))
    trail = walk(stages, (COPY, LOST), (YES, YES))
    verdict = conclude(stages, walk((Stage("rules"), Stage("strong")), (COPY, LOST), (YES, YES)), 0)
    assert (verdict.outcome, verdict.stage, verdict.evidence) == ("void", "rules", "repeated")
    assert trail.due[1] == ("", "open")  # with "query" too: there is nothing to ask anybody about


# --- whole queries ---


def test_one_doubt_sends_the_whole_query_up() -> None:
    """RLHN: the strong judge judges all pairs again, and its word replaces the cheap one's."""
    stages = (Stage("cheap", CHEAP, escalate="query"), Stage("strong"))
    trail = walk(stages, (NO, YES, NO), (YES, NO, SOME))
    assert trail.due[1] == ("query", "open", "query")
    assert outcomes(stages, trail) == ["false negative", "true negative", "partial"]
    assert trail.settled == (1, 1, 1)


def test_without_doubt_no_query_goes_up() -> None:
    """A query that the cheap judge settles whole asks nobody else."""
    stages = (Stage("cheap", CHEAP, escalate="query"), Stage("strong"))
    assert walk(stages, (NO, NO), (YES, YES)).due[1] == ("", "")


def test_an_unusable_second_word_leaves_the_first() -> None:
    """A pair that was settled and only went up with its query keeps its word when the strong judge fails on it."""
    stages = (Stage("cheap", CHEAP, escalate="query"), Stage("strong"))
    trail = walk(stages, (NO, YES), (LOST, LOST))
    assert outcomes(stages, trail) == ["true negative", "undecided"]
    assert conclude(stages, trail, 0).stage == "cheap"


def test_a_second_word_that_is_not_final_opens_the_pair_again() -> None:
    """The middle judge says "relevant" to a settled pair, which is not final there: the last one decides."""
    stages = (Stage("a", CHEAP, escalate="query"), Stage("b", CHEAP), Stage("c"))
    trail = walk(stages, (NO, YES), (YES, NO), (SOME, YES))
    assert trail.due[2] == ("open", "")
    assert outcomes(stages, trail) == ["partial", "true negative"]


# --- second opinions ---


def test_second_opinions_change_no_verdict() -> None:
    """With sample = 1 every settled pair goes up; the contradiction is named, the verdict stays."""
    stages = (Stage("cheap", CHEAP, sample=1.0), Stage("strong"))
    trail = walk(stages, (NO, NO, NO, YES), (YES, NO, LOST, NO))
    assert trail.due[1] == ("sampled", "sampled", "sampled", "open")
    assert outcomes(stages, trail) == ["true negative"] * 4
    assert [conclude(stages, trail, i).contradicted for i in range(4)] == ["strong", "", "", ""]
    assert trail.settled == (0, 0, 0, 1)


def test_a_second_opinion_goes_one_stage_up() -> None:
    """The stage after the next is not asked about a sampled pair."""
    stages = (Stage("a", CHEAP, sample=1.0), Stage("b", sample=1.0), Stage("c"))
    trail = walk(stages, (NO, YES), (YES, YES), (YES, NO))
    assert trail.due[2] == ("", "sampled")
    assert [conclude(stages, trail, i).contradicted for i in range(2)] == ["b", "c"]


def test_the_sample_depends_on_seed_and_content_alone() -> None:
    """The same pairs are drawn whatever stands beside them, about as many as asked for, others with another seed."""
    stages = (Stage("cheap", CHEAP, sample=0.3), Stage("strong"))

    def drawn(texts: Sequence[str], seed: int) -> set[str]:
        case = case_of(*texts)
        trail = follow(stages, case, [dict.fromkeys((pair.key for pair in case.pairs), NO), {}], seed)
        return {text for text, why in zip(texts, trail.due[1], strict=True) if why}

    texts = [f"n{i}" for i in range(1000)]
    whole = drawn(texts, 0)
    assert 240 < len(whole) < 360  # 300 ± 4 standard deviations of 14.5
    assert drawn(texts[::-7], 0) == whole & set(texts[::-7])
    assert drawn(texts, 1) != whole


# --- people ---


@pytest.mark.parametrize("label", LABELS)
def test_a_person_overrules_every_judge(label: Label) -> None:
    """A person's word is final over settled and open pairs alike; what is void stays void."""
    stages = (Stage("cheap", CHEAP), Stage("strong"))
    trail = walk(stages, (NO, YES, LOST, COPY), (YES, LOST, YES, YES))
    for i in range(3):
        verdict = conclude(stages, trail, i, Judgment(label))
        assert (verdict.outcome, verdict.stage) == (OUTCOMES[label], "human")
    assert conclude(stages, trail, 3, Judgment(label)).outcome == "void"


def test_the_finding_stands_beside_a_person_who_agrees() -> None:
    """A copy of a positive that a person calls relevant is dropped as a copy, not promoted."""
    stages = (Stage("rules"),)
    trail = walk(stages, (Judgment("relevant", evidence="copy of a positive"),))
    assert conclude(stages, trail, 0, YES).evidence == "copy of a positive"
    assert conclude(stages, trail, 0, SOME).evidence == "partial"


def test_people_who_disagree_decide_nothing() -> None:
    """Where reviewers disagree the pair is undecided, even if a judge was sure."""
    trail = walk((Stage("s"),), (YES,))
    verdict = conclude((Stage("s"),), trail, 0, Judgment(None, "reviewers disagree"))
    assert (verdict.outcome, verdict.evidence) == ("undecided", "reviewers disagree")


# --- for any words ---

words = st.builds(
    Judgment,
    st.sampled_from([*LABELS, None]),
    st.sampled_from(["", "unreadable", "refused", "no recording"]),
    probability=st.none() | st.floats(0, 1),
) | st.sampled_from([None, COPY])
finals = st.dictionaries(st.sampled_from(LABELS), st.sampled_from([0.0, 0.5, 1.0])) | st.just(ALL_FINAL)
cascades = st.lists(
    st.builds(
        Stage, st.sampled_from("abc"), finals, st.sampled_from(["pair", "query"]), st.sampled_from([0.0, 0.5, 1.0])
    ),
    min_size=1,
    max_size=3,
)


@given(cascades, st.data(), st.integers(1, 4), st.integers(0, 3))
def test_property_every_verdict_has_its_word(stages: list[Stage], data: st.DataObject, pairs: int, seed: int) -> None:
    """A label is concluded only from a final word of a stage that was asked; a void only from a void reason.

    And second opinions move nothing: without the sample every verdict is the same.
    """
    said = [data.draw(st.lists(words, min_size=pairs, max_size=pairs)) for _ in stages]
    trail = walk(stages, *said, seed=seed)
    plain = [Stage(stage.name, stage.final, stage.escalate) for stage in stages]
    unsampled = walk(plain, *said, seed=seed)
    for i in range(pairs):
        verdict = conclude(stages, trail, i)
        at = trail.settled[i]
        if verdict.outcome == "undecided":
            assert at == OPEN or trail.words[at][i] is None
        else:
            word = trail.words[at][i]
            assert word is not None
            assert trail.due[at][i] in ("open", "query")
            assert settles(stages[at], word)
            assert verdict.outcome == (OUTCOMES[word.label] if word.label else "void")
            assert word.label or word.reason in VOID_REASONS
        assert conclude(plain, unsampled, i).outcome == verdict.outcome
        asked = [index for index, due in enumerate(trail.due) if due[i]]
        assert asked == list(range(len(asked)))  # nobody is skipped on the way up


# --- settled by a number ---

BY_SCORE = Settle("score", Cuts(1.12, 0.93, 0.31), {"fiqa": Cuts(relevant=2.0)})


@pytest.mark.parametrize(
    ("score", "label"),
    [(1.2, "relevant"), (1.12, "relevant"), (1.0, "partial"), (0.93, "partial"), (0.5, None), (0.31, "irrelevant")],
)
def test_a_number_settles_whatever_the_word(score: float, label: Label | None) -> None:
    """At and above the thresholds, at and below that of "irrelevant"; between them the pair goes up."""
    stages = [Stage("cheap", settle=BY_SCORE), Stage("strong", {})]
    for said in ("relevant", "irrelevant", None):
        trail = walk(stages, [Judgment(said, "" if said else "in the ask band", score=score)], [None])
        verdict = conclude(stages, trail, 0)
        assert verdict.outcome == (OUTCOMES[label] if label else "undecided")
        assert (trail.due[1][0] == "") == (label is not None)
    if label == "partial":
        assert (verdict.stage, verdict.evidence) == ("cheap", "score ≥ 0.93")


def test_no_number_settles_nothing() -> None:
    """Neither a failure nor a word without its number; what is void stays void."""
    stage = Stage("cheap", settle=BY_SCORE)
    assert not settles(stage, YES)
    assert not settles(stage, LOST)
    assert settles(stage, COPY)
    trail = walk([stage], [COPY, Judgment("relevant", probability=1.0)])
    assert outcomes([stage], trail) == ["void", "undecided"]
    assert not settles(Stage("s", settle=Settle("score", Cuts())), Judgment("relevant", score=9.9))


def test_numbers_of_a_judgment() -> None:
    """A probability is that of relevance; a word is a grade; no label has neither."""
    sure_no = Judgment("irrelevant", probability=0.9, score=0.2)
    assert number_of(sure_no, "probability") == pytest.approx(0.1)
    assert number_of(Judgment("relevant", probability=0.7), "probability") == 0.7
    assert number_of(Judgment("partial", probability=0.7), "probability") is None
    band = Stage("s", settle=Settle("probability", Cuts(relevant=0.6)))
    assert not settles(band, Judgment("partial", probability=0.9))
    assert [number_of(word, "word") for word in (YES, SOME, NO, LOST)] == [2.0, 1.0, 0.0, None]
    assert number_of(sure_no, "score") == 0.2
    assert number_of(Judgment(None, "unreadable", probability=0.5), "probability") is None
    assert number_of(YES, "probability") is None


def test_sources_have_thresholds_of_their_own() -> None:
    """Those of a source stand in place of the others, wholly."""
    high, low = Judgment("relevant", score=1.5), Judgment("irrelevant", score=0.0)
    stage = Stage("s", settle=BY_SCORE)
    assert settles(stage, high, "msmarco")
    assert not settles(stage, high, "fiqa")
    assert not settles(stage, low, "fiqa")
    assert settles(stage, low, "msmarco")


def test_a_second_opinion_is_compared_with_what_was_settled() -> None:
    """Not with the word that the number overruled; and a person's word stays final."""
    stages = [Stage("cheap", sample=1.0, settle=BY_SCORE), Stage("strong", {})]
    trail = walk(stages, [Judgment("irrelevant", score=1.5)], [NO])
    verdict = conclude(stages, trail, 0)
    assert (verdict.outcome, verdict.contradicted) == ("false negative", "strong")
    person = conclude(stages, trail, 0, YES)
    assert (person.outcome, person.stage, person.evidence) == ("false negative", "human", "score ≥ 1.12")
    assert conclude(stages, trail, 0, NO).outcome == "true negative"
