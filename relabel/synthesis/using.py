"""How many synthetic negatives a row wants and may have, which of the accepted it gets, and how they stand in it."""

import math
import sqlite3
from collections.abc import Container, Iterable, Mapping, Sequence
from contextlib import closing
from dataclasses import dataclass, replace
from typing import Any, Final, Protocol

from relabel.records import Example, Passage, chance
from relabel.synthesis.marks import MARK
from relabel.synthesis.planning import content, wanted
from relabel.synthesis.settings import Settings
from relabel.synthesis.slots import Slot

_ROUNDING: Final = 1e-9


class Form(Protocol):
    """What is needed of a format of training rows; see `relabel.formats.Format`."""

    @property
    def name(self) -> str:
        """What it is called."""
        ...

    def place(self, example: Example, passage: Passage) -> tuple[int, Passage]:
        """Return where a passage from elsewhere goes, and as what."""
        ...

    def passage(self, item: Any, beside: Mapping[str, Any]) -> Passage:
        """Build a passage from what stands in the list and beside it."""
        ...


def most_of(share: float, mined: int) -> int | None:
    """Return how many synthetic ones so many mined ones may have beside them; None = any number.

    The largest k with k ≤ share · (mined + k).
    """
    return None if share >= 1 else math.floor(share * mined / (1 - share) + _ROUNDING)


@dataclass(frozen=True, slots=True)
class Wants:
    """How much is asked for.

    Attributes:
        settings: see there.
        rows: positions of the rows that are filled, see `drawn`; None = of all of them.
    """

    settings: Settings
    rows: Container[int] | None = None

    def full(self, example: Example) -> int:
        """Return how many a row wants and may have, were it alone in the data set."""
        return wanted(example, self.settings)

    def of(self, example: Example) -> int:
        """Return how many a row is to get."""
        return self.full(example) if self.rows is None or example.position in self.rows else 0

    def slots(self, example: Example) -> int:
        """Return how many are asked for a row."""
        return math.ceil(self.of(example) * self.settings.oversample - _ROUNDING)


class Positions:
    """Places of rows, a bit for each."""

    def __init__(self) -> None:
        self._bits = bytearray()

    def add(self, position: int) -> None:
        """Take one in."""
        place, bit = divmod(position, 8)
        self._bits.extend(bytes(max(0, place + 1 - len(self._bits))))
        self._bits[place] |= 1 << bit

    def __contains__(self, position: object) -> bool:
        if not isinstance(position, int):
            return False
        place, bit = divmod(position, 8)
        return place < len(self._bits) and bool(self._bits[place] >> bit & 1)


def drawn(examples: Iterable[Example], wants: Wants, share: float) -> Positions:
    """Draw the share of the rows that are filled: what all of them want is more than the data set may have.

    The dice know a row by its texts, and equal rows by whether it is the first of them, the second, …: rows that are
    sorted, or that others are put between, are drawn as before.
    """
    found = Positions()
    with closing(sqlite3.connect("")) as seen:  # a file without a name, which goes as it is closed
        seen.execute("CREATE TABLE seen (key TEXT PRIMARY KEY, times INTEGER NOT NULL) WITHOUT ROWID")
        for example in examples:
            if wants.full(example):
                key = content(example, wants.settings.seed)
                seen.execute("INSERT INTO seen VALUES (?, 1) ON CONFLICT DO UPDATE SET times = times + 1", (key,))
                (turn,) = seen.execute("SELECT times FROM seen WHERE key = ?", (key,)).fetchone()
                if chance("row", key, str(turn)) < share:
                    found.add(example.position)
    return found


def chosen(accepted: Sequence[Slot], number: int, order: str) -> tuple[list[Slot], list[Slot]]:
    """Return which accepted ones a row gets, in the order in which they go into it, and which are left.

    By difficulty the hardest are taken, and stand from easy to hard, so that a trainer that takes the first ones first
    has a curriculum; those of unknown difficulty come first. As written, the first are taken.
    """
    if order != "difficulty":
        return list(accepted[:number]), list(accepted[number:])
    known = [-1.0 if slot.gated.difficulty is None else slot.gated.difficulty for slot in accepted]
    by_difficulty = [accepted[place] for place in sorted(range(len(accepted)), key=known.__getitem__)]
    start = max(0, len(by_difficulty) - number)
    return by_difficulty[start:], by_difficulty[:start]


def provenance(slot: Slot) -> dict[str, Any]:
    """Return what a training file says of a synthetic negative, where it can."""
    written = slot.gated.written
    return {
        "recipe": written.recipe,
        "generator": written.generator,
        "judge": slot.judge,
        "difficulty": slot.gated.difficulty,
    }


def filled(example: Example, slots: Sequence[Slot], form: Form, *, marked: bool, share: float = 1.0) -> list[Example]:
    """Return the rows to write for a row that gets synthetic negatives: it itself, with them, in its own format.

    They stand behind the mined ones. Triplets make a row for each. N-tuples, whose columns are fixed, make further
    rows, which begin with synthetic ones, as many as their share of the columns is, and go on with the row's own.

    Args:
        example: the row.
        slots: what it gets, in order.
        form: its format.
        marked: whether the file can hold a field that its other rows lack; a passage that is an object says then where
            it is from.
        share: of the negatives of a further row that may be synthetic, in (0, 1]; one always may.
    """
    if not slots:
        return [example]
    out = example
    new: list[Passage] = []
    for slot in slots:
        beside = {"source": MARK, "score": None}
        place, passage = form.place(out, replace(slot.gated.passage, beside=beside))
        if marked and isinstance(passage.item, dict):
            passage = form.passage({**passage.item, MARK: provenance(slot)}, passage.beside)
        new.append(passage)
        out = replace(out, negatives=(*out.negatives[:place], passage, *out.negatives[place:]))
    if form.name != "n-tuples":
        return [out]
    step = max(1, math.floor(share * len(example.negatives)))
    parts = [new[start : start + step] for start in range(0, len(new), step)]
    return [example, *[replace(example, negatives=(*part, *example.negatives)) for part in parts]]


def preference(example: Example, slot: Slot) -> dict[str, Any]:
    """Return a preference pair: the row's first positive is chosen, the synthetic negative rejected.

    The three texts stand under the names that preference trainers read (TRL: prompt, chosen, rejected).
    """
    return {
        "prompt": example.query,
        "chosen": example.positives[0].full_text,
        "rejected": slot.gated.passage.full_text,
        "query_id": example.id,
        "chosen_id": example.positives[0].id,
        "rejected_id": slot.gated.id,
        **provenance(slot),
    }
