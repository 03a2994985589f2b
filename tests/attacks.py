"""The fixed set of hostile passages, tests/attacks.jsonl: what each tries stands in its note."""

import json
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Final

FILE: Final = Path(__file__).parent / "attacks.jsonl"


@dataclass(frozen=True, slots=True)
class Attack:
    """One hostile passage.

    Attributes:
        name: kind and number.
        kind: what it works with: instruction, verdict, chat tokens, delimiter, disguise, volume…
        language: ISO 639-1.
        aim: the label that it wants; "none" where it only tries to break something.
        note: what it tries.
        text: the passage; of the kind "volume" it is repeated `repeat` times.
        repeat: 1 for all other kinds.
    """

    name: str
    kind: str
    language: str
    aim: str
    note: str
    text: str
    repeat: int = 1

    @property
    def whole(self) -> str:
        """The passage in its full length."""
        return self.text * self.repeat

    @property
    def short(self) -> str:
        """The passage, but not more than a few thousand characters of it."""
        return self.text * min(self.repeat, 20)


@cache
def attacks() -> tuple[Attack, ...]:
    """Return all of them."""
    rows = [json.loads(line) for line in FILE.read_text("utf-8").splitlines()]
    return tuple(Attack(name=row.pop("id"), **row) for row in rows)
