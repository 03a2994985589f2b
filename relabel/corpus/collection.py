"""A finished corpus, read in flat memory by any number of threads."""

import json
import threading
from collections import defaultdict
from collections.abc import Iterator, Sequence
from pathlib import Path
from types import TracebackType
from typing import TYPE_CHECKING, Any, Final, Self

from relabel.corpus.schema import BY_ID, Built, fact, is_ours, opened
from relabel.errors import RunError
from relabel.formats.corpora.base import GIVEN
from relabel.mining.searching import Asked
from relabel.records import Passage

if TYPE_CHECKING:
    from relabel.mining.searching import Numbers, Scores

_CHUNK: Final = 256
"""Rows that are held at once."""

_SOME: Final = "SELECT number, id, title, text FROM passages WHERE number IN (SELECT value FROM json_each(?))"


class Corpus:
    """Numbered passages and queries with what is known of them.

    One in which equal texts were merged is a `relabel.mining.searching.Collection`.

    Raises:
        RunError: there is no corpus at `path`, or one of another version.
    """

    def __init__(self, path: Path | str) -> None:
        self.path = Path(path)
        if not is_ours(self.path):
            raise RunError(f"{self.path}: there is no corpus of this version", hint="Build it again.")
        self._connection = opened(self.path)
        self._lock = threading.Lock()
        self.built = Built.read(fact(self._connection, "built"))

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def close(self) -> None:
        """Let go of the file."""
        with self._lock:
            self._connection.close()

    @property
    def fingerprint(self) -> str:
        """Digest (hex) of all passages in their order; see `Collection`."""
        return self.built.fingerprint

    @property
    def documents(self) -> int:
        """How many passages can be found."""
        return self.built.documents

    @property
    def passages(self) -> int:
        """How many passages there are, with the positives that the corpus lacks."""
        return self.built.documents + self.built.outside

    @property
    def queries(self) -> int:
        """How many queries with a positive there are."""
        return self.built.queries

    def texts(self, first: int = 0, last: int | None = None) -> Iterator[str]:
        """Yield full texts by number; see `Collection`."""
        for passage in self.each(first, last):
            yield passage.full_text

    def each(self, first: int = 0, last: int | None = None) -> Iterator[Passage]:
        """Yield passages by number, as `texts` does their texts."""
        statement = "SELECT number, id, title, text FROM passages WHERE number >= ? AND number < ? ORDER BY number"
        for start, end in _chunks(first, last, self.passages):
            yield from map(_passage, self._rows(statement, start, end))

    def asked(self, first: int = 0, last: int | None = None) -> Iterator[Asked]:
        """Yield queries by number; see `Collection`."""
        for start, end in _chunks(first, last, self.queries):
            known: dict[int, tuple[list[int], list[int]]] = defaultdict(lambda: ([], []))
            relevant = (
                "SELECT query, passage, positive FROM relevant WHERE query >= ? AND query < ? ORDER BY query, place"
            )
            for query, passage, positive in self._rows(relevant, start, end):
                known[query][0 if positive else 1].append(passage)
            queries = "SELECT number, id, text FROM queries WHERE number >= ? AND number < ? ORDER BY number"
            for number, name, text in self._rows(queries, start, end):
                positives, spared = known[number]
                yield Asked(number, name, text, tuple(positives), tuple(spared))

    def passage(self, number: int) -> Passage:
        """Return a passage.

        Raises:
            IndexError: there is no such number.
        """
        return self.passages_of([number])[0]

    def passages_of(self, numbers: Sequence[int]) -> list[Passage]:
        """Return passages in the order of their numbers given; one may be asked for twice.

        Raises:
            IndexError: there is no such number.
        """
        wanted = [int(number) for number in numbers]
        known = {row[0]: _passage(row) for row in self._rows(_SOME, json.dumps(wanted))}
        missing = next((number for number in wanted if number not in known), None)
        if missing is not None:
            raise IndexError(f"there is no passage {missing}: the last is {self.passages - 1}")
        return [known[number] for number in wanted]

    def number_of(self, document_id: str) -> int | None:
        """Return the number of the passage that has this id, its first or another; None if none has."""
        row = next(iter(self._rows(BY_ID, document_id)), None)
        return None if row is None else int(row[0])

    def found(self, asked: Asked) -> "dict[str, tuple[Numbers, Scores]]":
        """Return what other systems found for a query, by system in the order of their names.

        Numbers of documents have shape (k,), and so have their scores, higher = closer, NaN where the source had none.
        They stand in the order of the ranks that the source gave, equal ones by number.
        """
        import numpy as np

        statement = "SELECT system, passage, score FROM found WHERE query = ? ORDER BY system, rank, passage"
        systems: dict[str, list[tuple[int, float]]] = defaultdict(list)
        for system, passage, score in self._rows(statement, asked.number):
            systems[system].append((passage, np.nan if score is None else score))
        return {
            system: (
                np.array([number for number, _ in hits], dtype=np.int64),
                np.array([score for _, score in hits], dtype=np.float32),
            )
            for system, hits in systems.items()
        }

    def given(self, asked: Asked) -> list[tuple[int, float | None]]:
        """Return the negatives that a query came with: numbers with their scores, in the order they were given."""
        statement = "SELECT passage, score FROM found WHERE query = ? AND system = ? ORDER BY rank, passage"
        return self._rows(statement, asked.number, GIVEN)

    def _rows(self, statement: str, *values: int | str) -> list[tuple[Any, ...]]:
        # all of them at once: no cursor stays open while another thread asks
        with self._lock:
            return self._connection.execute(statement, values).fetchall()


def _chunks(first: int, last: int | None, count: int) -> Iterator[tuple[int, int]]:
    end = count if last is None else min(last, count)
    for start in range(first, end, _CHUNK):
        yield start, min(start + _CHUNK, end)


def _passage(row: tuple[Any, ...]) -> Passage:
    _, name, title, text = row
    return Passage(name, text, title)
