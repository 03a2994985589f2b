"""The tables of a corpus file, and what is known of how it was made."""

import json
import sqlite3
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any, Final

from relabel.errors import RunError

APPLICATION: Final = 0x726C6263
"""By which SQLite knows the file for one of ours."""

VERSION: Final = 2
SCHEMA: Final = """
CREATE TABLE passages (
    number INTEGER PRIMARY KEY, id TEXT NOT NULL UNIQUE, title TEXT NOT NULL, text TEXT NOT NULL,
    source INTEGER NOT NULL, line INTEGER NOT NULL);
CREATE TABLE aliases (
    id TEXT PRIMARY KEY, number INTEGER NOT NULL, source INTEGER NOT NULL, line INTEGER NOT NULL) WITHOUT ROWID;
CREATE TABLE queries (number INTEGER PRIMARY KEY, id TEXT NOT NULL UNIQUE, text TEXT NOT NULL);
CREATE TABLE asked_aliases (id TEXT PRIMARY KEY, number INTEGER NOT NULL) WITHOUT ROWID;
CREATE TABLE relevant (
    query INTEGER NOT NULL, place INTEGER NOT NULL, passage INTEGER NOT NULL, positive INTEGER NOT NULL,
    PRIMARY KEY (query, place)) WITHOUT ROWID;
CREATE TABLE found (
    query INTEGER NOT NULL, system TEXT NOT NULL, passage INTEGER NOT NULL, rank INTEGER NOT NULL, score REAL,
    PRIMARY KEY (query, system, passage)) WITHOUT ROWID;
CREATE TABLE facts (name TEXT PRIMARY KEY, value TEXT NOT NULL) WITHOUT ROWID;
"""
"""`aliases` and `asked_aliases` are further ids of passages and queries with equal texts; `source` and `line` say where
an id stood; `place` is the order in which judgments were given."""

BY_ID: Final = "SELECT number FROM passages WHERE id = ?1 UNION ALL SELECT number FROM aliases WHERE id = ?1"


@dataclass(frozen=True, slots=True)
class Unknown:
    """Ids that a file names and the corpus does not have: in how many lines, and the first few."""

    lines: int = 0
    first: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class Built:
    """What a corpus was made of.

    Attributes:
        fingerprint: digest (hex) of all passages in their order.
        documents: passages that can be found.
        outside: positives that the corpus lacks: passages from number `documents` on.
        aliases: further ids of passages with equal texts.
        repeated: rows of the corpus that repeat an earlier one.
        empty: passages and queries without a visible character, left out.
        queries: those with a positive.
        joined: ids of queries whose text an earlier one has: they are one query.
        unanswered: queries without a positive, left out.
        positives: pairs of a query and a passage at or above the threshold.
        spared: pairs below the threshold, and above 0.
        found: pairs that other systems found.
        unknown: lines that name what is not there, by kind ("judged queries", "judged passages", "found queries",
            "found passages"); of the queries left out, none.
        rejected: rows that could not be used.
        reused: whether the corpus was there already.
    """

    fingerprint: str
    documents: int
    outside: int
    aliases: int
    repeated: int
    empty: int
    queries: int
    joined: int
    unanswered: int
    positives: int
    spared: int
    found: int
    unknown: dict[str, Unknown] = field(default_factory=dict)
    rejected: int = 0
    reused: bool = False

    def written(self) -> str:
        """Return it as JSON."""
        return json.dumps(asdict(self))

    @classmethod
    def read(cls, written: str) -> "Built":
        """Read what `written` returned."""
        told: dict[str, Any] = json.loads(written)
        unknown = {kind: Unknown(each["lines"], tuple(each["first"])) for kind, each in told.pop("unknown").items()}
        return cls(**told, unknown=unknown)


def is_ours(path: Path) -> bool:
    """Whether a finished corpus of this version is there.

    Raises:
        RunError: something else is.
    """
    if not path.exists():
        return False
    try:
        connection = opened(path)
    except sqlite3.Error:
        raise _not_ours(path) from None
    try:
        application = connection.execute("PRAGMA application_id").fetchone()[0]
        version = connection.execute("PRAGMA user_version").fetchone()[0]
    except sqlite3.Error:
        raise _not_ours(path) from None
    finally:
        connection.close()
    if application != APPLICATION:
        raise _not_ours(path)
    return bool(version == VERSION)


def opened(path: Path) -> sqlite3.Connection:
    """Open a finished corpus for reading, by any thread, one at a time; nobody changes it any more."""
    return sqlite3.connect(f"{path.resolve().as_uri()}?mode=ro&immutable=1", uri=True, check_same_thread=False)


def fact(connection: sqlite3.Connection, name: str) -> str:
    """Return what the file says of itself."""
    return str(connection.execute("SELECT value FROM facts WHERE name = ?", (name,)).fetchone()[0])


def _not_ours(path: Path) -> RunError:
    return RunError(f"{path} is there, and is no corpus that relabel made", hint="Name another file for the corpus.")
