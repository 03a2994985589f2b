"""Who has labelled what: reviewers, their progress, and undo. Every label is kept before anything else happens."""

from collections import deque
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Final, Protocol

from relabel.records import LABELS, Label
from relabel.web.listing import Listing, Sheet

NAME_LENGTH: Final = 60
NOTE_LENGTH: Final = 10_000
REMEMBERED: Final = 1_000
"""Steps that each reviewer can take back."""

_OPEN: Final = 0


@dataclass(frozen=True, slots=True)
class Said:
    """A person's word on a pair."""

    label: Label
    note: str = ""


class Keeper(Protocol):
    """Where people's labels are kept, by the digests of query and candidate."""

    def reviewers(self) -> Iterable[str]:
        """Return everybody who ever labelled."""

    def said_by(self, reviewer: str) -> Iterable[tuple[bytes, bytes, Label]]:
        """Return all labels of a reviewer: query, candidate, label."""

    def said_of(self, query: bytes, candidate: bytes) -> Mapping[str, Said]:
        """Return what people said of a pair, by reviewer."""

    def keep(self, query: bytes, candidate: bytes, reviewer: str, said: Said) -> None:
        """Keep a label, in place of the reviewer's last on the pair; it is safe when this returns."""

    def forget(self, query: bytes, candidate: bytes, reviewer: str) -> None:
        """Take a reviewer's label on a pair back."""


@dataclass(frozen=True, slots=True)
class Progress:
    """How far a reviewer is: pairs with a label of theirs, by label, and pairs without."""

    labels: Mapping[Label, int]
    left: int

    @property
    def done(self) -> int:
        """Pairs with a label."""
        return sum(self.labels.values())


class Desk:
    """The pairs and the people. One thread at a time.

    Args:
        listing: the pairs.
        keeper: their labels; nobody else may change them meanwhile.
    """

    def __init__(self, listing: Listing, keeper: Keeper) -> None:
        self._listing, self._keeper = listing, keeper
        known = sorted(keeper.reviewers())
        self._names = {name.casefold(): name for name in known} | {name: name for name in known}
        self._marks: dict[str, bytearray] = {}  # a byte a pair: 0, or the number of the label
        self._steps: dict[str, deque[tuple[int, Said | None]]] = {}

    @property
    def size(self) -> int:
        """How many pairs there are."""
        return self._listing.size

    def reviewer(self, text: str) -> str:
        """Return the name under which somebody labels: one that is known, however its case is written, or a new one.

        Raises:
            ValueError: no name; the message says why.
        """
        if text in self._names:
            return self._names[text]
        name = " ".join(text.split())
        if not name or len(name) > NAME_LENGTH or not name.isprintable():
            raise ValueError(f"Write a name of 1 to {NAME_LENGTH} letters, digits and signs that can be seen.")
        return self._names.setdefault(name.casefold(), name)

    def reviewers(self) -> dict[str, Progress]:
        """Return everybody who has labelled any of the pairs, and how far they are."""
        found = {name: self.progress(name) for name in sorted(set(self._names.values()), key=str.casefold)}
        return {name: progress for name, progress in found.items() if progress.done}

    def progress(self, reviewer: str) -> Progress:
        """Return how far a reviewer is."""
        marks = self._marks_of(reviewer)
        labels = {label: marks.count(number) for number, label in enumerate(LABELS, start=1)}
        return Progress(labels, marks.count(_OPEN))

    def sheet(self, number: int) -> Sheet:
        """Return the pair with this number, from 1.

        Raises:
            LookupError: there is none.
        """
        return self._listing.sheet(number)

    def named(self, fingerprint: str) -> Sheet:
        """Return the pair with this fingerprint.

        Raises:
            LookupError: none of the pairs has it.
        """
        return self.sheet(self._listing.named(fingerprint))

    def said(self, sheet: Sheet) -> Mapping[str, Said]:
        """Return what people said of a pair, by reviewer."""
        return self._keeper.said_of(sheet.pair.query, sheet.pair.candidate)

    def next_open(self, reviewer: str, after: int = 0) -> int:
        """Return the number of the first pair after this one that the reviewer has not labelled; 0 if none is left."""
        return self._marks_of(reviewer).find(_OPEN, after) + 1

    def label(self, reviewer: str, sheet: Sheet, label: Label, note: str) -> None:
        """Keep a reviewer's word on a pair."""
        self._remember(reviewer, sheet)
        self._put(reviewer, sheet, Said(label, note))

    def clear(self, reviewer: str, sheet: Sheet) -> None:
        """Take a reviewer's word on a pair back, whenever it was given."""
        self._remember(reviewer, sheet)
        self._put(reviewer, sheet, None)

    def skip(self, reviewer: str, sheet: Sheet) -> None:
        """Pass over a pair; undo comes back to it."""
        self._remember(reviewer, sheet)

    def undo(self, reviewer: str) -> int:
        """Take the reviewer's last step back; return the number of its pair, 0 if there is none since the start."""
        steps = self._steps.get(reviewer)
        if not steps:
            return 0
        number, before = steps[-1]
        self._put(reviewer, self.sheet(number), before)
        steps.pop()
        return number

    def can_undo(self, reviewer: str) -> bool:
        """Whether there is a step to take back."""
        return bool(self._steps.get(reviewer))

    def _remember(self, reviewer: str, sheet: Sheet) -> None:
        steps = self._steps.setdefault(reviewer, deque(maxlen=REMEMBERED))
        steps.append((sheet.number, self.said(sheet).get(reviewer)))

    def _put(self, reviewer: str, sheet: Sheet, said: Said | None) -> None:
        marks = self._marks_of(reviewer)
        if said is None:
            self._keeper.forget(sheet.pair.query, sheet.pair.candidate, reviewer)
        else:
            self._keeper.keep(sheet.pair.query, sheet.pair.candidate, reviewer, said)
        marks[sheet.number - 1] = LABELS.index(said.label) + 1 if said else _OPEN

    def _marks_of(self, reviewer: str) -> bytearray:
        if reviewer not in self._marks:
            marks = bytearray(self.size)
            for query, candidate, label in self._keeper.said_by(reviewer):
                if number := self._listing.addressed(query, candidate):
                    marks[number - 1] = LABELS.index(label) + 1
            self._marks[reviewer] = marks
        return self._marks[reviewer]
