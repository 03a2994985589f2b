"""Verdicts and a policy in, a cleaned example and its changes out: pure functions."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Final

from relabel.records import Action, Change, Example, Passage, Verdict

EVIDENCE: Final = ("relevant", "partial", "irrelevant", "undecided", "void")
"""The keys that every table answers; finer ones ("copy of a positive", "STAGE:relevant") may stand beside them."""

FINDINGS: Final = ("copy of a positive", "positive in another row", "repeated", "empty")
"""Findings of the rules that a table may treat apart."""

PRESETS: Final[Mapping[str, Mapping[str, Action]]] = {
    "relabel": {
        "relevant": "promote",
        "copy of a positive": "drop",
        "partial": "drop",
        "irrelevant": "keep",
        "undecided": "ask",
        "void": "drop",
    },
    "drop": {
        "relevant": "drop",
        "partial": "drop",
        "irrelevant": "keep",
        "undecided": "ask",
        "void": "drop",
    },
    "remove": {
        "relevant": "remove",
        "copy of a positive": "drop",
        "partial": "keep",
        "irrelevant": "keep",
        "undecided": "ask",
        "void": "drop",
    },
}

_KEYS: Final = {
    "false negative": "relevant",
    "partial": "partial",
    "true negative": "irrelevant",
    "undecided": "undecided",
    "void": "void",
}


@dataclass(frozen=True, slots=True)
class Policy:
    """What is done about a verdict.

    Attributes:
        table: evidence → action. Looked up as "STAGE:evidence", then evidence, then "STAGE:label", then label.
        max_flagged: an example with more false negatives than this goes whole: its query is likely ambiguous
            (RLHN: 7). None = no limit.
        min_negatives: examples left with fewer are kept, counted and listed.
        exempt: sources whose examples are never judged (RLHN exempts ArguAna: its task is the counter-argument).
    """

    table: Mapping[str, Action]
    max_flagged: int | None = None
    min_negatives: int = 1
    exempt: frozenset[str] = frozenset()

    def __post_init__(self) -> None:
        """Refuse a table that would turn "no verdict" into a label, or that leaves a question open."""
        for key in EVIDENCE:
            if key not in self.table:
                raise ValueError(f"the policy does not say what to do with {key!r}")
        for key, action in self.table.items():
            if key.rpartition(":")[2] == "undecided" and action not in ("keep", "ask"):
                raise ValueError(f"{key}: {action} would turn no verdict into a label; use keep or ask")
            if key.rpartition(":")[2] == "irrelevant" and action not in ("keep", "ask"):
                raise ValueError(f"{key}: {action} would move a true negative; use keep or ask")
            if key.rpartition(":")[2] in ("void", "repeated", "empty") and action not in ("keep", "ask", "drop"):
                raise ValueError(f"{key}: {action} is not for a passage that nobody judged; use drop, keep or ask")

    def exempts(self, source: str) -> bool:
        """Whether examples of this source are left alone; names are compared in any case."""
        return bool(self.exempt) and source.casefold() in {name.casefold() for name in self.exempt}


@dataclass(frozen=True, slots=True)
class Holds:
    """What the output format can hold: more positives in a row, a row without negatives, a row with more of them."""

    promotions: bool = True
    emptied: bool = True
    more: bool = True


@dataclass(frozen=True, slots=True)
class Edited:
    """The outcome for one example: the cleaned example (None = removed), its changes, what was done about each pair."""

    example: Example | None
    changes: tuple[Change, ...]
    actions: tuple[Action, ...]


def action_for(policy: Policy, verdict: Verdict) -> Action:
    """Look the verdict up in the policy's table, from the most specific key to the least."""
    label = _KEYS[verdict.outcome]
    table = policy.table
    if label == "undecided":  # whatever its evidence is called: only keep or ask may follow
        return table["undecided"]
    if label == "irrelevant":  # likewise
        return table.get(f"{verdict.stage}:{label}", table[label])
    for key in (f"{verdict.stage}:{verdict.evidence}", verdict.evidence, f"{verdict.stage}:{label}"):
        if key in table:
            return table[key]
    return table[label]


def edit(example: Example, verdicts: Sequence[Verdict], policy: Policy, holds: Holds) -> Edited:
    """Apply a policy to one example; `verdicts` are parallel to its negatives.

    An unchanged example comes back as it is. An example that must go (policy `remove`, more than `max_flagged`
    false negatives, or emptied in a format that cannot hold that) becomes one change that keeps its whole row.
    What is promoted but stands among the positives already, or has no text, is dropped instead.
    """
    actions = tuple([action_for(policy, verdict) for verdict in verdicts])
    flagged = sum(verdict.outcome == "false negative" for verdict in verdicts)
    if "remove" in actions:
        return _removed(example, "a negative of it is relevant")
    if policy.max_flagged is not None and flagged > policy.max_flagged:
        return _removed(example, f"{flagged} false negatives, more than max_flagged = {policy.max_flagged}")
    if "promote" not in actions and "drop" not in actions:
        return Edited(example, (), actions)
    texts = {(passage.title, passage.text) for passage in example.positives}
    promoted, kept, changes, did = list(example.positives), [], [], list(actions)
    for index, (passage, verdict, action) in enumerate(zip(example.negatives, verdicts, actions, strict=True)):
        if action not in ("promote", "drop"):
            kept.append(passage)
            continue
        new = bool(passage.full_text.strip()) and (passage.title, passage.text) not in texts
        up = action == "promote" and holds.promotions and new
        did[index] = "promote" if up else "drop"
        if up:
            texts.add((passage.title, passage.text))
            promoted.append(passage)
        changes.append(
            Change(
                position=example.position,
                example_id=example.id,
                action="promote" if up else "drop",
                why=verdict.outcome if verdict.outcome != "void" else verdict.evidence,
                stage=verdict.stage,
                passage_id=passage.id,
                origin=index,
                target=len(promoted) - 1 if up else None,
                item=passage.item,
                beside=passage.beside,
            )
        )
    if not kept and not holds.emptied:
        return _removed(example, f"its only negative is a {changes[0].why}", stage=changes[0].stage)
    cleaned = replace(example, positives=tuple(promoted), negatives=tuple(kept))
    return Edited(cleaned, tuple(changes), tuple(did))


def _removed(example: Example, why: str, stage: str = "") -> Edited:
    change = Change(
        position=example.position, example_id=example.id, action="remove", why=why, stage=stage, row=example.row
    )
    gone: Action = "remove"
    return Edited(None, (change,), (gone,) * len(example.negatives))


def lacking(example: Example, edited: Edited, policy: Policy, holds: Holds) -> int:
    """Return how many negatives an edited example lacks to `min_negatives`, or to what its format cannot do without.

    None (0) where it was removed; and a row with a fixed number of negatives never gets more than it was read with.
    """
    if edited.example is None:
        return 0
    wanted = policy.min_negatives if holds.emptied else max(policy.min_negatives, 1)
    if not holds.more:
        wanted = min(wanted, len(example.negatives))
    return max(wanted - len(edited.example.negatives), 0)


def refill(
    edited: Edited, more: Sequence[tuple[Passage, Verdict]], place: Callable[[Example, Passage], tuple[int, Passage]]
) -> Edited:
    """Give an edited example more negatives, each with its change.

    `place` says where among the example's negatives a passage from elsewhere goes, and what it is there.
    """
    cleaned, changes = edited.example, list(edited.changes)
    if cleaned is None:
        return edited
    for passage, verdict in more:
        at, new = place(cleaned, passage)
        cleaned = replace(cleaned, negatives=(*cleaned.negatives[:at], new, *cleaned.negatives[at:]))
        changes.append(
            Change(
                cleaned.position, cleaned.id, "refill", verdict.outcome, verdict.stage, new.id,
                target=at, item=new.item, beside=new.beside,
            )
        )  # fmt: skip
    return replace(edited, example=cleaned, changes=tuple(changes))


def undo(example: Example, changes: Sequence[Change], restore: Callable[[Change], Passage]) -> Example:
    """Rebuild the input example from a cleaned one and its changes; `restore` makes the passage of a change."""
    added = {change.target for change in changes if change.action == "refill"}
    cut = {change.target for change in changes if change.action == "promote"}
    negatives = [passage for index, passage in enumerate(example.negatives) if index not in added]
    moved = [change for change in changes if change.action != "refill"]
    for change in sorted(moved, key=lambda change: change.origin or 0):
        negatives.insert(change.origin or 0, restore(change))
    positives = tuple([passage for index, passage in enumerate(example.positives) if index not in cut])
    return replace(example, positives=positives, negatives=tuple(negatives))
