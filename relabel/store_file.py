"""The file in which a run keeps what was said: its tables, and how it is opened."""

import re
import sqlite3
from contextlib import closing
from pathlib import Path
from typing import Final

from relabel.errors import RunError
from relabel.money import FIELDS

VERSION: Final = 1
STORE: Final = "judgments.sqlite"
JUDGE_ANEW: Final = "judge into a new run directory: relabel run INPUT -o FOLDER"
SCHEMA: Final = f"""
CREATE TABLE IF NOT EXISTS judges (
    id INTEGER PRIMARY KEY, fingerprint TEXT NOT NULL UNIQUE, settings TEXT NOT NULL);
CREATE TABLE IF NOT EXISTS judgments (
    query BLOB NOT NULL, candidate BLOB NOT NULL, judge INTEGER NOT NULL,
    label TEXT, reason TEXT, evidence TEXT, probability REAL, score REAL, rationale TEXT, reply TEXT, asked_with TEXT,
    PRIMARY KEY (query, candidate, judge)) WITHOUT ROWID;
CREATE TABLE IF NOT EXISTS replies (
    address TEXT PRIMARY KEY, text TEXT, failure TEXT, detail TEXT, finish_reason TEXT, model TEXT,
    probabilities TEXT, candidate_ids TEXT, tokens_in INTEGER, tokens_out INTEGER, tokens_cached INTEGER,
    seconds REAL, at REAL, judge TEXT, template TEXT, query_id TEXT) WITHOUT ROWID;
CREATE TABLE IF NOT EXISTS people (
    query BLOB NOT NULL, candidate BLOB NOT NULL, reviewer TEXT NOT NULL, label TEXT NOT NULL, note TEXT, at REAL,
    PRIMARY KEY (query, candidate, reviewer)) WITHOUT ROWID;
CREATE TABLE IF NOT EXISTS imports (sha256 TEXT PRIMARY KEY, at REAL) WITHOUT ROWID;
CREATE TABLE IF NOT EXISTS bills (
    key TEXT PRIMARY KEY, execution TEXT NOT NULL, at REAL, stage TEXT NOT NULL, model TEXT,
    {" INTEGER, ".join(FIELDS)} INTEGER) WITHOUT ROWID;
"""
_BILL_OF_OLD: Final = """
INSERT INTO bills (key, execution, at, stage, model, asked, not_kept, counted, uncounted, tokens_in, tokens_out,
    tokens_cached, pico, guessed_tokens, guessed_pico, lost, lost_tokens, lost_pico)
SELECT lower(hex(randomblob(16))), 'before bills were kept', max(at), judge, max(model), count(*), 0,
    count(tokens_in + tokens_out), 0, coalesce(sum(tokens_in), 0), coalesce(sum(tokens_out), 0),
    coalesce(sum(tokens_cached), 0), NULL, 0, 0, 0, 0, 0
FROM replies WHERE NOT EXISTS (SELECT 1 FROM bills) GROUP BY judge
"""
"""A store from before there were bills has one for each stage, of what it holds; what that cost is not known."""


def _columns(connection: sqlite3.Connection) -> dict[str, list[str]]:
    names = re.findall(r"EXISTS (\w+)", SCHEMA)
    return {name: [row[1] for row in connection.execute(f"PRAGMA table_info({name})")] for name in names}


with closing(sqlite3.connect(":memory:")) as _model:
    _model.executescript(SCHEMA)
    _COLUMNS: Final = _columns(_model)


def connect(path: Path) -> sqlite3.Connection:
    """Open the file for reading beside a writer, or as the one who writes."""
    connection = sqlite3.connect(path, timeout=60, check_same_thread=False)
    connection.execute("PRAGMA journal_mode = WAL")
    connection.execute("PRAGMA synchronous = NORMAL")
    connection.execute("PRAGMA cache_size = -8000")  # 8 MB: memory stays the same however large the file
    return connection


def make_or_check(path: Path, remedy: str) -> None:
    """Make the tables of a new file; of an old one, see that it has them as they are now.

    Args:
        path: of the file.
        remedy: what to do where the folder is not one in which a run can be kept.

    Raises:
        RunError: the folder or the file cannot be used, or the file is of another version.
    """
    try:
        with closing(connect(path)) as connection:
            version = connection.execute("PRAGMA user_version").fetchone()[0]
            if version not in (0, VERSION):
                raise RunError(f"{path} has schema {version}, this relabel reads {VERSION}", hint=JUDGE_ANEW)
            connection.executescript(SCHEMA)
            if _columns(connection) != _COLUMNS:
                raise RunError(f"{path} has other columns than this relabel writes", hint=JUDGE_ANEW)
            connection.execute(_BILL_OF_OLD)
            connection.execute(f"PRAGMA user_version = {VERSION}")
            connection.commit()
    except sqlite3.OperationalError as error:  # the folder or the disk, not what is in the file
        raise RunError(f"{path} cannot be used: {error}", hint=remedy) from error
    except (sqlite3.DatabaseError, UnicodeDecodeError) as error:
        raise RunError(f"{path} cannot be used: {error}", hint=f"bring it back from a copy, or {JUDGE_ANEW}") from error
