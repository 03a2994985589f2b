"""Verdicts and a policy in, a cleaned example and a ledger that undoes it out."""

from collections.abc import Mapping, Sequence

import pytest
from hypothesis import given
from hypothesis import strategies as st

from relabel.policy import EVIDENCE, PRESETS, Edited, Holds, Policy, action_for, edit, undo
from relabel.records import Action, Change, Example, Outcome, Passage, Verdict

FN = Verdict("false negative", "llm", "relevant")
PARTIAL = Verdict("partial", "llm", "partial")
TN = Verdict("true negative", "llm", "irrelevant")
OPEN = Verdict("undecided", evidence="unreadable")
COPY = Verdict("false negative", "rules", "copy of a positive")
REPEATED = Verdict("void", "rules", "repeated")
EMPTY = Verdict("void", "rules", "empty")

KEEP: Mapping[str, Action] = dict.fromkeys(EVIDENCE, "keep")


def passage(text: str) -> Passage:
    """A passage as a two-list format reads it."""
    return Passage(text, text, item={"text": text}, beside={"scores": len(text)})


def example_of(*texts: str, positives: Sequence[str] = ("p",)) -> Example:
    """A row with these negatives."""
    return Example(
        "q", "query", tuple(map(passage, positives)), tuple(map(passage, texts)), row={"whole": 1}, position=7
    )


def edited(verdicts: Sequence[Verdict], policy: str | Policy = "relabel", holds: Holds | None = None) -> Edited:
    """Edit a row with negatives n0, n1, … under a preset or a policy."""
    chosen = Policy(PRESETS[policy]) if isinstance(policy, str) else policy
    return edit(example_of(*[f"n{i}" for i in range(len(verdicts))]), verdicts, chosen, holds or Holds())


def texts(passages: Sequence[Passage]) -> list[str]:
    """Return the texts of passages."""
    return [passage.text for passage in passages]


# --- what each preset does ---


@pytest.mark.parametrize(
    ("preset", "positives", "negatives"),
    [
        ("relabel", ["p", "n0"], ["n2", "n3"]),
        ("drop", ["p"], ["n2", "n3"]),
    ],
)
def test_presets(preset: str, positives: list[str], negatives: list[str]) -> None:
    """Relabel promotes, drop only drops; both drop partial, void and copies, and keep what is not known."""
    found = edited((FN, PARTIAL, TN, OPEN, COPY, REPEATED, EMPTY), preset)
    assert found.example is not None
    assert (texts(found.example.positives), texts(found.example.negatives)) == (positives, negatives)
    assert [change.origin for change in found.changes] == [0, 1, 4, 5, 6]
    assert [change.why for change in found.changes] == [
        "false negative", "partial", "false negative", "repeated", "empty",
    ]  # fmt: skip
    assert [change.stage for change in found.changes] == ["llm", "llm", "rules", "rules", "rules"]


def test_remove_takes_the_example_and_keeps_its_row() -> None:
    """One relevant negative removes the whole row, in one change that holds it; copies and partials do not."""
    gone = edited((TN, FN), "remove")
    assert gone.example is None
    assert gone.changes == (
        Change(7, "q", "remove", "a negative of it is relevant", row={"whole": 1}),
    )  # fmt: skip
    assert edited((TN, PARTIAL, COPY), "remove").example is not None


def test_nothing_to_do_returns_the_example_itself() -> None:
    """An example that is not edited is the very one that was read."""
    example = example_of("a", "b")
    assert edit(example, (TN, OPEN), Policy(PRESETS["relabel"]), Holds()).example is example


# --- what never moves ---


@pytest.mark.parametrize("key", ["undecided", "llm:undecided"])
@pytest.mark.parametrize("action", ["promote", "drop", "remove"])
def test_no_verdict_cannot_be_given_an_action(key: str, action: Action) -> None:
    """A table that would turn "undecided" into a label is refused, with its words."""
    with pytest.raises(ValueError, match=f"{key}: {action} would turn no verdict into a label"):
        Policy({**KEEP, key: action})


@pytest.mark.parametrize("key", ["irrelevant", "llm:irrelevant"])
@pytest.mark.parametrize("action", ["promote", "drop", "remove"])
def test_true_negatives_cannot_be_moved(key: str, action: Action) -> None:
    """A table that would move what was found irrelevant is refused."""
    with pytest.raises(ValueError, match=f"{key}: {action} would move a true negative"):
        Policy({**KEEP, key: action})


@pytest.mark.parametrize("key", ["void", "repeated", "rules:empty"])
@pytest.mark.parametrize("action", ["promote", "remove"])
def test_void_passages_can_only_be_dropped(key: str, action: Action) -> None:
    """Nobody judged a void passage: it is neither promoted nor does it remove a row."""
    with pytest.raises(ValueError, match="is not for a passage that nobody judged"):
        Policy({**KEEP, key: action})


@pytest.mark.parametrize("missing", EVIDENCE)
def test_a_table_answers_everything(missing: str) -> None:
    """A table without one of the five keys is refused, by its name."""
    with pytest.raises(ValueError, match=f"does not say what to do with '{missing}'"):
        Policy({key: action for key, action in KEEP.items() if key != missing})


@pytest.mark.parametrize("verdict", [OPEN, Verdict("undecided", "x", "copy of a positive"), Verdict("undecided")])
def test_evidence_does_not_move_the_undecided(verdict: Verdict) -> None:
    """An undecided pair whose evidence happens to be a key of the table stays."""
    policy = Policy({**KEEP, "copy of a positive": "drop", "unreadable": "promote", "": "remove", "x:": "drop"})
    assert action_for(policy, verdict) == "keep"


def test_evidence_does_not_move_true_negatives() -> None:
    """A true negative whose evidence is a key of the table stays; its stage may ask for it to be listed."""
    policy = Policy({**KEEP, "replayed": "drop", "llm:replayed": "promote", "strict:irrelevant": "ask"})
    assert action_for(policy, Verdict("true negative", "llm", "replayed")) == "keep"
    assert action_for(policy, Verdict("true negative", "strict", "replayed")) == "ask"


def test_the_most_specific_key_wins() -> None:
    """Stage and evidence before evidence before stage and label before label."""
    table: dict[str, Action] = {**KEEP, "relevant": "keep"}
    for key, action in (("relevant", "drop"), ("llm:relevant", "ask"), ("copy", "promote"), ("llm:copy", "remove")):
        table[key] = action  # type: ignore[assignment]
        assert action_for(Policy(table), Verdict("false negative", "llm", "copy")) == action


# --- limits ---


@pytest.mark.parametrize(("limit", "written"), [(None, True), (3, True), (2, False), (0, False)])
def test_max_flagged_removes_ambiguous_queries(limit: int | None, written: bool) -> None:
    """More false negatives than allowed, and the example goes whole; partials and undecided do not count."""
    policy = Policy(PRESETS["relabel"], max_flagged=limit)
    found = edited((FN, FN, FN, PARTIAL, OPEN), policy)
    assert (found.example is not None) is written
    if limit is not None and not written:
        assert found.changes[0].why == f"3 false negatives, more than max_flagged = {limit}"
    assert edited((PARTIAL, OPEN, REPEATED, TN), policy).example is not None


def test_a_format_without_promotions_drops_instead() -> None:
    """Where a row holds one positive a promoted passage leaves the negatives and becomes no positive."""
    found = edited((FN, TN), holds=Holds(promotions=False))
    assert found.example is not None
    assert (texts(found.example.positives), texts(found.example.negatives)) == (["p"], ["n1"])
    assert (found.changes[0].action, found.changes[0].target) == ("drop", None)


def test_a_format_that_cannot_be_emptied_loses_the_row() -> None:
    """A triplet whose only negative goes is removed whole; others that are emptied stay."""
    gone = edited((FN,), holds=Holds(promotions=False, emptied=False))
    assert (gone.example, gone.changes[0].action, gone.changes[0].row) == (None, "remove", {"whole": 1})
    stays = edited((FN,))
    assert stays.example is not None
    assert stays.example.negatives == ()


def test_no_text_is_a_positive_twice() -> None:
    """Of two equal texts one is promoted, and what is a positive already is only dropped."""
    example = example_of("a", "p", "a")
    found = edit(example, (FN, FN, FN), Policy(PRESETS["relabel"]), Holds())
    assert found.example is not None
    assert texts(found.example.positives) == ["p", "a"]
    assert [change.action for change in found.changes] == ["promote", "drop", "drop"]


def test_an_empty_text_never_becomes_a_positive() -> None:
    """A row with an empty positive could not be read again: a judge that calls an empty text relevant is not heard."""
    found = edit(example_of("", " \n", "a"), (FN, FN, FN), Policy(PRESETS["relabel"]), Holds())
    assert found.example is not None
    assert texts(found.example.positives) == ["p", "a"]


# --- the ledger ---

verdicts = st.sampled_from([FN, PARTIAL, TN, OPEN, COPY, REPEATED, EMPTY])
lively: st.SearchStrategy[Action] = st.sampled_from(["promote", "drop", "remove", "keep", "ask"])
quiet: st.SearchStrategy[Action] = st.sampled_from(["keep", "ask"])
voids: st.SearchStrategy[Action] = st.sampled_from(["keep", "ask", "drop"])
tables = st.fixed_dictionaries(
    {"relevant": lively, "partial": lively, "irrelevant": quiet, "undecided": quiet, "void": voids},
    optional={
        "copy of a positive": lively, "llm:relevant": lively, "llm:partial": lively, "rules:repeated": voids,
        "unreadable": lively, "llm:irrelevant": quiet, "empty": voids,
    },
)  # fmt: skip
policies = st.builds(Policy, tables, st.none() | st.integers(0, 3))


@given(
    st.lists(st.tuples(st.sampled_from(["a", "b", "c", "p", "", " "]), verdicts), max_size=6),
    policies,
    st.builds(Holds, st.booleans(), st.booleans()),
)
def test_property_the_ledger_undoes_every_edit(pairs: list[tuple[str, Verdict]], policy: Policy, holds: Holds) -> None:
    """Cleaned example and changes give back the example; the counts add up; no verdict, no move."""
    example = example_of(*[text for text, _ in pairs])
    said = [verdict for _, verdict in pairs]
    found = edit(example, said, policy, holds)
    assert len(found.actions) == len(pairs)
    if found.example is None:
        assert [(change.action, change.row) for change in found.changes] == [("remove", example.row)]
        assert any(verdict.outcome not in ("undecided", "true negative") for verdict in said)
        return
    outcomes: dict[int, Outcome] = {i: verdict.outcome for i, verdict in enumerate(said)}
    moved = {change.origin for change in found.changes if change.origin is not None}
    assert len(found.example.negatives) == len(pairs) - len(moved)
    assert len(found.example.positives) == 1 + sum(change.action == "promote" for change in found.changes)
    assert all(outcomes[i] not in ("undecided", "true negative") for i in moved)
    promoted = {change.origin for change in found.changes if change.action == "promote"}
    assert all(i is not None and outcomes[i] in ("false negative", "partial") for i in promoted)
    assert all(passage.text.strip() for passage in found.example.positives)

    def restore(change: Change) -> Passage:
        return Passage(change.passage_id, change.item["text"], item=change.item, beside=change.beside)

    assert undo(found.example, found.changes, restore) == example
