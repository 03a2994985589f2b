"""Passages and queries on their way in: each text once, each id for one text."""

import sqlite3
from collections.abc import Callable
from hashlib import blake2b
from typing import Final

from relabel.corpus.intake import Intake
from relabel.corpus.schema import BY_ID
from relabel.formats.corpora.base import Query
from relabel.records import Passage

SCRATCH: Final = """
CREATE TABLE scratch.texts (digest BLOB PRIMARY KEY, number INTEGER NOT NULL) WITHOUT ROWID;
CREATE TABLE scratch.asked (number INTEGER PRIMARY KEY, id TEXT NOT NULL, text TEXT NOT NULL, kept INTEGER);
CREATE TABLE scratch.asked_texts (digest BLOB PRIMARY KEY, number INTEGER NOT NULL) WITHOUT ROWID;
CREATE TABLE scratch.asked_ids (
    id TEXT PRIMARY KEY, number INTEGER NOT NULL, source INTEGER NOT NULL, line INTEGER NOT NULL) WITHOUT ROWID;
"""


class Passages:
    """Takes passages in; `count` of them so far, and what became of the rest."""

    def __init__(self, connection: sqlite3.Connection, intake: Intake, *, merge: bool) -> None:
        self._connection, self._intake, self._merge = connection, intake, merge
        self._hasher = blake2b(digest_size=16)
        self.count = self.aliases = self.repeated = self.empty = 0

    @property
    def fingerprint(self) -> str:
        """Digest (hex) of all texts so far, in their order."""
        return self._hasher.hexdigest()

    def seal(self) -> None:
        """Note in the fingerprint that the documents end here."""
        self._hasher.update(b"documents: %d;" % self.count)

    def number_of(self, document_id: str) -> int | None:
        """Return the number that an id stands for."""
        row = self._connection.execute(BY_ID, (document_id,)).fetchone()
        return None if row is None else int(row[0])

    def add(self, source: int, line: int, passage: Passage) -> None:
        """Take a document in."""
        self._add(source, line, passage, None)

    def add_wanted(self, source: int, line: int, passage: Passage, wanted: Callable[[str], bool]) -> None:
        """Take a passage in if it is wanted; if the corpus has its text, its id becomes one more of that."""
        self._add(source, line, passage, wanted)

    def _add(self, source: int, line: int, passage: Passage, wanted: Callable[[str], bool] | None) -> None:
        full = passage.full_text
        if not (stripped := full.strip()):
            self.empty += wanted is None
            return
        try:
            key = _key(passage.id, stripped, merge=self._merge)
            known = self.number_of(passage.id)
        except UnicodeEncodeError:
            self._intake.broken(source, line, full)
            return
        execute = self._connection.execute
        row = execute("SELECT number FROM scratch.texts WHERE digest = ?", (key,)).fetchone()
        if known is not None:
            if row is None or row[0] != known:
                self._intake.clash(source, line, passage.id, full, self._place(passage.id))
            else:
                self.repeated += wanted is None
        elif row is not None:
            execute("INSERT INTO aliases VALUES (?, ?, ?, ?)", (passage.id, row[0], source, line))
            self.aliases += 1
        elif wanted is None or wanted(passage.id):
            execute("INSERT INTO scratch.texts VALUES (?, ?)", (key, self.count))
            values = (self.count, passage.id, passage.title, passage.text, source, line)
            execute("INSERT INTO passages VALUES (?, ?, ?, ?, ?, ?)", values)
            data = full.encode()
            self._hasher.update(b"%d:" % len(data))
            self._hasher.update(data)
            self.count += 1

    def _place(self, document_id: str) -> tuple[int, int]:
        statement = (
            "SELECT source, line FROM passages WHERE id = ?1 UNION ALL SELECT source, line FROM aliases WHERE id = ?1"
        )
        source, line = self._connection.execute(statement, (document_id,)).fetchone()
        return source, line


class Questions:
    """Takes queries in, numbered as they come; which of them have a positive comes out later."""

    def __init__(self, connection: sqlite3.Connection, intake: Intake, *, merge: bool) -> None:
        self._connection, self._intake, self._merge = connection, intake, merge
        self._last: tuple[str, int | None] = ("", None)
        self.count = self.joined = self.empty = 0

    def number_of(self, query_id: str) -> int | None:
        """Return the number that an id stands for; lines of one query often follow each other."""
        if self._last[0] != query_id or self._last[1] is None:
            row = self._connection.execute(
                "SELECT number FROM scratch.asked_ids WHERE id = ?", (query_id,)
            ).fetchone()  # fmt: skip
            self._last = query_id, None if row is None else int(row[0])
        return self._last[1]

    def add(self, source: int, line: int, query: Query) -> None:
        """Take a query in."""
        execute = self._connection.execute
        if not (stripped := query.text.strip()):
            self.empty += 1
            return
        try:
            key = _key(query.id, stripped, merge=self._merge)
            known = execute("SELECT number, source, line FROM scratch.asked_ids WHERE id = ?", (query.id,)).fetchone()
        except UnicodeEncodeError:
            self._intake.broken(source, line, query.text)
            return
        row = execute("SELECT number FROM scratch.asked_texts WHERE digest = ?", (key,)).fetchone()
        if known is not None:
            if row is None or row[0] != known[0]:
                self._intake.clash(source, line, query.id, query.text, known[1:])
            return
        number = self.count if row is None else row[0]
        execute("INSERT INTO scratch.asked_ids VALUES (?, ?, ?, ?)", (query.id, number, source, line))
        if row is not None:
            self.joined += 1
            return
        execute("INSERT INTO scratch.asked_texts VALUES (?, ?)", (key, number))
        execute("INSERT INTO scratch.asked VALUES (?, ?, ?, NULL)", (number, query.id, query.text))
        self.count += 1


def _key(name: str, text: str, *, merge: bool) -> bytes:
    """Return what makes two rows one: the text, or the text and its id."""
    hasher = blake2b(text.encode(), digest_size=16)
    if not merge:
        hasher.update(b"\0" + name.encode())
    return hasher.digest()
