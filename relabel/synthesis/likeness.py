"""How much of their text two passages share, and which of all earlier ones shares most: by character 5-grams.

Good for any script, with or without spaces; texts are normalised first (`copies.normalise`).
"""

import functools
import json
import re
import sqlite3
from collections.abc import Iterator
from contextlib import closing, contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Final

from relabel.copies import normalise
from relabel.records import digest

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

GRAM: Final = 5

_BANDS: Final = 16
_ROWS: Final = 4
_PRIME: Final = 2**31 - 1
_CHANGE: Final = re.compile(r"\s*(?:\w+:\s+)?(.+?)\s*(?:→|->)\s*(.+?)\s*")
"""A stated change, with or without its kind before it: "number: 7 → 9"."""

_UNSPACED: Final = r"\u0e00-\u0eff\u1000-\u109f\u1780-\u17ff\u3040-\u30ff\u3400-\u4dbf\u4e00-\u9fff"
_COUNTED: Final = re.compile(rf"[{_UNSPACED}]|[^\W{_UNSPACED}]+")


def count_words(text: str) -> int:
    """Count the words of a text; where no spaces are written (Thai, Chinese, Japanese, …), its signs."""
    return sum(1 for _ in _COUNTED.finditer(text))


def words(text: str) -> frozenset[str]:
    """Return the words of a normalised text; where no spaces are written, its signs."""
    return frozenset(_COUNTED.findall(normalise(text)))


def grams(text: str) -> frozenset[str]:
    """Return the character 5-grams of a normalised text; of a shorter one the text itself."""
    text = normalise(text)
    return frozenset(text[start : start + GRAM] for start in range(max(1, len(text) - GRAM + 1)))


def contained(part: frozenset[str], whole: frozenset[str]) -> float:
    """Return which share of `part` stands in `whole`, in [0, 1]; Broder's containment (SEQUENCES 1997)."""
    return len(part & whole) / len(part) if part else 0.0


def jaccard(one: frozenset[str], other: frozenset[str]) -> float:
    """Return the share of what either has that both have, in [0, 1]."""
    return len(one & other) / len(one | other) if one or other else 0.0


def changed_on_purpose(detail: str, text: str, other: str) -> bool:
    """Whether a stated change ("1987 → 1978", several apart by ";") is really what tells a text from another.

    What it was changed to stands in the text and not in the other; what was there stands in the other.
    """
    here, there = f" {normalise(text)} ", f" {normalise(other)} "
    for part in detail.split(";"):
        stated = _CHANGE.fullmatch(part)
        if stated is None:
            continue
        old, new = (f" {normalise(side)} " for side in stated.groups())
        if old != new and new in here and new not in there and old in there:
            return True
    return False


class Twins:
    """All texts noted so far, in a file: which of them is nearly this one. Memory does not grow with their number.

    MinHash of character 5-grams in 16 bands of 4 (Broder; Leskovec et al., Mining of Massive Datasets, 3.4): a text of
    Jaccard index .9 is found with a probability above .9999, one of .7 with .988; those found are compared exactly.
    """

    def __init__(self, connection: sqlite3.Connection) -> None:
        self._connection = connection

    def nearest(self, text: str) -> tuple[float, str]:
        """Return the highest Jaccard index that a noted text has with this one, and that text; (0.0, "") without."""
        keys = _bands(text)
        marks = ", ".join("?" * len(keys))
        asked = f"SELECT DISTINCT number FROM bands WHERE band IN ({marks}) ORDER BY number"  # noqa: S608 - marks alone
        numbers = self._connection.execute(asked, keys).fetchall()
        found = (
            self._connection.execute("SELECT text FROM texts WHERE number = ?", each).fetchone() for each in numbers
        )
        own = grams(text)
        return max(
            ((jaccard(own, grams(other)), other) for (other,) in found), key=lambda each: each[0], default=(0.0, "")
        )

    def note(self, text: str) -> None:
        """Note a text."""
        number = self._connection.execute("INSERT INTO texts (text) VALUES (?)", (text,)).lastrowid
        bands = [(key, number) for key in _bands(text)]
        self._connection.executemany("INSERT OR IGNORE INTO bands VALUES (?, ?)", bands)


@contextmanager
def open_twins(path: Path) -> Iterator[Twins]:
    """Begin an empty collection in a file, which is gone in the end."""
    path.parent.mkdir(parents=True, exist_ok=True)
    path.unlink(missing_ok=True)
    try:
        with closing(sqlite3.connect(path)) as connection:
            connection.execute("PRAGMA journal_mode = OFF")
            connection.execute("PRAGMA synchronous = OFF")
            connection.execute("CREATE TABLE texts (number INTEGER PRIMARY KEY, text TEXT)")
            connection.execute(
                "CREATE TABLE bands (band BLOB, number INTEGER, PRIMARY KEY (band, number)) WITHOUT ROWID"
            )
            yield Twins(connection)
    finally:
        path.unlink(missing_ok=True)


def _bands(text: str) -> list[bytes]:
    """Return one digest for each band of a text's MinHash signature."""
    import numpy as np

    numbers = np.fromiter(
        (int.from_bytes(digest(gram, size=4), "big") % _PRIME for gram in grams(text)), dtype=np.uint64
    )
    times, plus = _permutations()
    signature = ((numbers[:, None] * times + plus) % _PRIME).min(axis=0).reshape(_BANDS, _ROWS)
    return [digest(json.dumps([band, *map(int, row)]), size=8) for band, row in enumerate(signature)]


@functools.cache
def _permutations() -> "tuple[NDArray[np.uint64], NDArray[np.uint64]]":
    """Return factors and summands of the 64 hash functions x·a + b mod 2³¹ − 1, the same in every process."""
    import numpy as np

    drawn = [
        [
            1 + int.from_bytes(digest(name, str(number), size=4), "big") % (_PRIME - 1)
            for number in range(_BANDS * _ROWS)
        ]
        for name in ("times", "plus")
    ]
    times, plus = np.array(drawn, dtype=np.uint64)
    return times, plus
