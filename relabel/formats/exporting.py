"""Shapes that are written whole: a corpus, with queries and labels that name its passages by id.

What must be remembered across rows (which id stands for which text, which pair has which label) lies in SQLite.
"""

import sqlite3
from collections.abc import Callable, Iterable, Iterator
from contextlib import AbstractContextManager, closing
from dataclasses import dataclass
from pathlib import Path
from typing import Final, Protocol, Self, runtime_checkable

from relabel.formats.base import Writer
from relabel.formats.whole import told
from relabel.records import Example, Passage, digest

_TABLES: Final = """
    PRAGMA journal_mode = OFF; PRAGMA synchronous = OFF; PRAGMA cache_size = -65536;
    CREATE TABLE ids (number INTEGER PRIMARY KEY, kind TEXT, id BLOB, content BLOB, UNIQUE (kind, id));
    CREATE TABLE labels (query INTEGER, passage INTEGER, relevant INTEGER, place INTEGER, PRIMARY KEY (query, passage))
        WITHOUT ROWID;
    BEGIN;
"""
_LABELS: Final = """
    SELECT queries.id, passages.id, relevant FROM labels
    CROSS JOIN ids AS queries ON queries.number = query CROSS JOIN ids AS passages ON passages.number = passage
    ORDER BY query, place
"""


@runtime_checkable
class Export(Protocol):
    """One shape of data set that is written whole; `relabel.formats.corpora` reads it."""

    @property
    def name(self) -> str:
        """What `--to` calls it."""
        ...

    @property
    def shape(self) -> str:
        """Its files and their fields, for people."""
        ...

    @property
    def keeps(self) -> str:
        """What of an example comes along: README prints it."""
        ...

    @property
    def loses(self) -> str:
        """What does not."""
        ...

    def open(self, path: Path) -> AbstractContextManager[Writer]:
        """Open a data set for writing; it gets its name only when everything went well.

        Raises:
            InputError: it cannot be written there, or `path` is no name for what it is.
        """
        ...


@dataclass(frozen=True, slots=True)
class Named:
    """An id as it is written, its number among all ids, and whether it was not seen before."""

    id: str
    number: int
    new: bool


class Register:
    """Which id stands for which text, and which pair has which label: in a file of the folder, gone at the end.

    An id that comes again with another text would name two things: the later text gets the id with a digest of the
    text after it (`12-0f3ac4d1b2e5`), by which it is known again. `renamed` counts the ids that were given so.
    """

    def __init__(self, folder: Path, shown: Path) -> None:
        self._file, self._shown = folder / "ids.part", shown
        self.renamed = self._place = 0

    def __enter__(self) -> Self:
        with told(self._shown):
            self._store = sqlite3.connect(self._file, isolation_level=None)
            self._store.executescript(_TABLES)
        return self

    def __exit__(self, *_: object) -> None:
        self._store.close()
        self._file.unlink(missing_ok=True)

    def name(self, kind: str, known: str, *content: str) -> Named:
        """Return the name under which this content stands; the first that an id comes with has the id itself."""
        wanted, content_digest = known, digest(*content)
        while (found := self._find(kind, wanted)) is not None:
            number, there = found
            if there == content_digest:
                return Named(wanted, number, new=False)
            wanted = f"{wanted}-{content_digest[:6].hex()}"
        self.renamed += wanted != known
        row = (kind, _bytes(wanted), content_digest)
        number = self._store.execute("INSERT INTO ids (kind, id, content) VALUES (?, ?, ?)", row).lastrowid or 0
        return Named(wanted, number, new=True)

    def label(self, query: Named, passages: Iterable[Named], *, relevant: bool) -> None:
        """Note the label of pairs. One that comes with both is relevant: many a negative was never looked at."""
        for passage in passages:
            self._place += 1
            self._store.execute(
                "INSERT INTO labels VALUES (?, ?, ?, ?) "
                "ON CONFLICT (query, passage) DO UPDATE SET relevant = max(relevant, excluded.relevant)",
                (query.number, passage.number, int(relevant), self._place),
            )

    def labels(self) -> Iterator[tuple[str, str, bool]]:
        """Yield the pairs as (query, passage, relevant), each once: by query as they came, then as they came."""
        with closing(self._store.execute(_LABELS)) as rows:
            for query, passage, relevant in rows:
                yield _text(query), _text(passage), bool(relevant)

    def _find(self, kind: str, known: str) -> tuple[int, bytes] | None:
        row: tuple[int, bytes] | None = self._store.execute(
            "SELECT number, content FROM ids WHERE kind = ? AND id = ?", (kind, _bytes(known))
        ).fetchone()
        return row


def _bytes(text: str) -> bytes:
    """SQLite's text cannot hold half of a surrogate pair."""
    return text.encode("utf-8", "surrogatepass")


def _text(data: bytes) -> str:
    return data.decode("utf-8", "surrogatepass")


@dataclass(frozen=True, slots=True)
class Entry:
    """An example, and the names under which its query and its passages stand."""

    example: Example
    query: Named
    positives: tuple[Named, ...]
    negatives: tuple[Named, ...]


class ExportWriter:
    """Writes examples in the two halves that these shapes have: each passage once, and what refers to it.

    Args:
        shown: what errors name.
        register: knows the ids.
        put_passage: takes every passage once, with its name.
        put_entry: takes every example, and returns how many rows that made.
    """

    def __init__(
        self,
        shown: Path,
        register: Register,
        put_passage: Callable[[str, Passage], None],
        put_entry: Callable[[Entry], int],
    ) -> None:
        self._shown, self._register = shown, register
        self._put_passage, self._put_entry = put_passage, put_entry

    @property
    def renamed(self) -> int:
        """How many ids stood for two texts."""
        return self._register.renamed

    def add(self, passage: Passage) -> None:
        """Write a passage that no example need name."""
        with told(self._shown):
            self._named(passage)

    def write(self, example: Example) -> int:
        """Write an example; return how many rows that made."""
        with told(self._shown):
            query = self._register.name("query", example.id, example.query)
            positives, negatives = (tuple(map(self._named, side)) for side in (example.positives, example.negatives))
            return self._put_entry(Entry(example, query, positives, negatives))

    def _named(self, passage: Passage) -> Named:
        named = self._register.name("passage", passage.id, passage.title, passage.text)
        if named.new:
            self._put_passage(named.id, passage)
        return named
