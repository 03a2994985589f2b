"""The positives of a whole input by query, in a file: what must look across rows looks here."""

import sqlite3
from collections.abc import Iterable, Iterator
from contextlib import closing, contextmanager
from pathlib import Path
from typing import Final

from relabel.copies import Marks, marks_of, normalise
from relabel.records import Example, digest

_BATCH: Final = 10_000


class KnownPositives:
    """Digests of every query's positives, in a file of `folder`; memory does not grow with the input."""

    def __init__(self, folder: Path) -> None:
        folder.mkdir(parents=True, exist_ok=True)
        self._path = folder / "positives.sqlite"

    @property
    def noted(self) -> bool:
        """Whether `note` came to its end here."""
        return self._path.is_file()

    def note(self, examples: Iterable[Example]) -> None:
        """Note the positives of every query, in place of what was noted before."""
        temporary = self._path.with_name(self._path.name + ".tmp")
        temporary.unlink(missing_ok=True)
        with closing(sqlite3.connect(temporary)) as connection:
            connection.execute("PRAGMA synchronous = OFF")  # rebuilt at every run: nothing to lose
            connection.execute(
                "CREATE TABLE positives (query BLOB, mark BLOB, PRIMARY KEY (query, mark)) WITHOUT ROWID"
            )
            rows: list[tuple[bytes, bytes]] = []
            for example in examples:
                query = _key(example.query)
                rows += [(query, mark) for passage in example.positives for mark in marks_of(passage).known]
                if len(rows) >= _BATCH:
                    connection.executemany("INSERT OR IGNORE INTO positives VALUES (?, ?)", rows)
                    rows.clear()
            connection.executemany("INSERT OR IGNORE INTO positives VALUES (?, ?)", rows)
            connection.commit()
        temporary.replace(self._path)

    @contextmanager
    def open(self) -> Iterator["Look"]:
        """Open what was noted, for one reader; it may end in another thread than it began."""
        with closing(sqlite3.connect(self._path, check_same_thread=False)) as connection:
            yield Look(connection)


class Look:
    """A look at what was noted; made by `KnownPositives.open`."""

    def __init__(self, connection: sqlite3.Connection) -> None:
        self._connection = connection
        self._by_mark = False

    def of(self, query: str) -> set[bytes]:
        """Return the digests of a query's positives in all its rows; for `Marks.equals_one_of`."""
        rows = self._connection.execute("SELECT mark FROM positives WHERE query = ?", (_key(query),))
        return {mark for (mark,) in rows}

    def of_others(self, query: str, candidates: Iterable[Marks]) -> set[bytes]:
        """Return those digests of the candidates by which they are positives of another query."""
        if not self._by_mark:
            self._connection.execute("CREATE INDEX IF NOT EXISTS marks ON positives (mark)")
            self._by_mark = True
        asked = "SELECT 1 FROM positives WHERE mark = ? AND query != ? LIMIT 1"
        own, execute = _key(query), self._connection.execute
        marks = {mark for marks in candidates for mark in (marks.full, marks.text, marks.bare)}
        return {mark for mark in marks if execute(asked, (mark, own)).fetchone()}


def _key(query: str) -> bytes:
    return digest(normalise(query), size=8)
