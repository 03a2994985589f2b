"""What was handed to a batch service, and what came back: files and a ledger in the run directory.

RUN/batches/STAGE/ holds `ledger.sqlite` and, for each part (a file of requests that became one batch),
`00001.requests.jsonl`, `00001.output.jsonl` and `00001.errors.jsonl`. A request is known by its address. What stands in
the ledger is on the disk: it is written before and after each step that may cost money, never in between.
"""

import os
import secrets
import sqlite3
from collections.abc import Iterable, Iterator
from contextlib import closing, contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import IO, Any, Final, Literal

from relabel.errors import RunError

BATCH_FOLDER: Final = "batches"
"""The folder of a run directory that holds all this."""

State = Literal["written", "uploaded", "creating", "submitted", "ended"]
"""How far a part is: "creating" from before the service is asked for a batch until it is known what came of it."""

Outcome = Literal["", "answered", "failed", "again"]
"""What came of a request: nothing yet, an answer, a failure that stays, or it has to be submitted (again)."""

Kind = Literal["requests", "output", "errors"]

_LEDGER: Final = "ledger.sqlite"
_DRAFT: Final = "draft.tmp"
_SCHEMA: Final = """
CREATE TABLE IF NOT EXISTS parts (
    number INTEGER PRIMARY KEY AUTOINCREMENT, token TEXT NOT NULL, state TEXT NOT NULL, requests INTEGER NOT NULL,
    tokens INTEGER NOT NULL, file TEXT NOT NULL DEFAULT '', batch TEXT NOT NULL DEFAULT '',
    tried REAL NOT NULL DEFAULT 0, submitted REAL NOT NULL DEFAULT 0, status TEXT NOT NULL DEFAULT '',
    completed INTEGER NOT NULL DEFAULT 0, failed INTEGER NOT NULL DEFAULT 0);
CREATE TABLE IF NOT EXISTS requests (
    address TEXT PRIMARY KEY, part INTEGER NOT NULL, start INTEGER NOT NULL, size INTEGER NOT NULL,
    attempts INTEGER NOT NULL, outcome TEXT NOT NULL DEFAULT '', kind TEXT NOT NULL DEFAULT '',
    found INTEGER NOT NULL DEFAULT 0, found_size INTEGER NOT NULL DEFAULT 0, failure TEXT NOT NULL DEFAULT '',
    detail TEXT NOT NULL DEFAULT '') WITHOUT ROWID;
CREATE INDEX IF NOT EXISTS requests_by_part ON requests (part);
"""
_FORGET: Final = "DELETE FROM requests WHERE outcome IN ('failed', 'again')"


@dataclass(frozen=True, slots=True)
class Part:
    """One file of requests, and the batch that it became.

    Attributes:
        number: from 1, never used twice.
        token: by which the batch is found at the service, should its id not have been heard.
        state: how far it is.
        requests, tokens: how many, and their prompts' tokens (estimated).
        file, batch: their ids at the service; "" = none yet.
        tried, submitted: when a batch was last asked for, and when its id was heard; seconds since 1970.
        status, completed, failed: as the service said last.
    """

    number: int
    token: str
    state: State
    requests: int
    tokens: int
    file: str
    batch: str
    tried: float
    submitted: float
    status: str
    completed: int
    failed: int


@dataclass(frozen=True, slots=True)
class Entry:
    """One request: in which part it was last submitted, how often it was, where its line is and what came of it."""

    address: str
    part: int
    start: int
    size: int
    attempts: int
    outcome: Outcome = ""
    kind: str = ""
    found: int = 0
    found_size: int = 0
    failure: str = ""
    detail: str = ""


@dataclass(frozen=True, slots=True)
class Result:
    """What came of one request, and where its line stands in the file that says so (`kind`; "" = in none)."""

    address: str
    outcome: Outcome
    kind: str = ""
    found: int = 0
    found_size: int = 0
    failure: str = ""
    detail: str = ""


class Draft:
    """A file of requests while it is written; nothing of it counts before `Ledger.close_draft`."""

    def __init__(self, folder: Path, max_requests: int, max_bytes: int, max_tokens: int | None) -> None:
        self._folder = folder
        self._limits = max_requests, max_bytes, max_tokens
        self._file: IO[bytes] | None = None
        self.rows: list[tuple[str, int, int, int]] = []
        self.bytes = self.tokens = 0

    def __len__(self) -> int:
        return len(self.rows)

    def takes(self, size: int, tokens: int) -> bool:
        """Whether a line of so many bytes, with a prompt of so many tokens, still fits; the first one always does."""
        requests, most_bytes, most_tokens = self._limits
        return not self.rows or (
            len(self.rows) < requests
            and self.bytes + size <= most_bytes
            and (most_tokens is None or self.tokens + tokens <= most_tokens)
        )

    @property
    def full(self) -> bool:
        """Whether no further request fits, however short."""
        return len(self.rows) >= self._limits[0]

    def add(self, address: str, line: bytes, tokens: int, attempts: int) -> None:
        """Write a request's line, which ends in a newline; it is the so-many-th attempt at it, from 1."""
        if self._file is None:
            self._file = (self._folder / _DRAFT).open("wb")
        self._file.write(line)
        self.rows.append((address, self.bytes, len(line), attempts))
        self.bytes += len(line)
        self.tokens += tokens

    def finish(self) -> Path:
        """Bring the file to the disk; return where it lies."""
        if self._file is not None:
            self._file.flush()
            os.fsync(self._file.fileno())
            self.discard()
        return self._folder / _DRAFT

    def discard(self) -> None:
        """Let go of the file."""
        if self._file is not None:
            self._file.close()
            self._file = None


class Ledger:
    """The parts and requests of one stage, on disk; used by one thread at a time.

    Raises:
        RunError: the folder cannot be written, or the ledger cannot be read.
    """

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        try:
            folder.mkdir(parents=True, exist_ok=True)
            self._db = sqlite3.connect(folder / _LEDGER, timeout=60, check_same_thread=False)
            self._db.execute("PRAGMA journal_mode = WAL")
            self._db.execute("PRAGMA synchronous = FULL")  # few and large transactions, and money hangs on them
            self._db.executescript(_SCHEMA)
        except (OSError, sqlite3.Error) as error:
            raise RunError(
                f"the ledger of batches in {folder} cannot be used: {error}",
                hint="make the folder writable, or bring ledger.sqlite back from a copy: it knows what is already paid",
            ) from error

    def close(self) -> None:
        """Let go of the file."""
        self._db.close()

    def path(self, part: int, kind: Kind) -> Path:
        """Return where a part's requests, output or errors lie."""
        return self.folder / f"{part:05}.{kind}.jsonl"

    @contextmanager
    def _transaction(self) -> Iterator[None]:
        """Write all that is done within, or nothing."""
        try:
            with self._db:
                yield
        except sqlite3.OperationalError as error:
            raise RunError(
                f"{self.folder / _LEDGER} cannot be written: {error}",
                hint="make room on the disk, or check the folder; then the same command goes on where it was",
            ) from error

    # -- parts -------------------------------------------------------------------------------------------

    def parts(self, *states: State) -> list[Part]:
        """Return the parts in these states, or all, in the order of their numbers."""
        chosen = f"WHERE state IN ({','.join('?' * len(states))})" if states else ""
        rows = self._db.execute(f"SELECT * FROM parts {chosen} ORDER BY number", states)  # noqa: S608 - only "?"
        return [Part(*row) for row in rows]

    def close_draft(self, draft: Draft) -> int:
        """Make a part of the requests that were written: from now on they are known. Return its number."""
        with self._transaction():
            cursor = self._db.execute(
                "INSERT INTO parts (token, state, requests, tokens) VALUES (?, 'written', ?, ?)",
                (secrets.token_hex(16), len(draft), draft.tokens),
            )
            number = cursor.lastrowid or 0
            self._db.executemany(
                "INSERT OR REPLACE INTO requests (address, part, start, size, attempts) VALUES (?, ?, ?, ?, ?)",
                ((address, number, start, size, attempts) for address, start, size, attempts in draft.rows),
            )
            draft.finish().replace(self.path(number, "requests"))
        return number

    def note(self, part: int, **known: Any) -> None:
        """Note what is now known of a part: values by the names that `Part` has."""
        with self._transaction():
            self._db.execute(
                f"UPDATE parts SET {', '.join(f'{name} = ?' for name in known)} WHERE number = ?",  # noqa: S608
                (*known.values(), part),
            )

    def note_refused(self, part: int) -> None:
        """Note that the batch came to nothing and another may be asked for, under another token."""
        self.note(part, state="uploaded", token=secrets.token_hex(16), batch="", status="", completed=0, failed=0)

    def settle(self, part: int, results: Iterable[Result], most: int, missing: str) -> None:
        """Note what came of a part that has ended.

        Args:
            part: its number.
            results: of the requests that the service returned.
            most: attempts after which a request is not submitted again.
            missing: what to say of the requests that are in no result.
        """
        with self._transaction():
            self._db.executemany(
                "UPDATE requests SET outcome = ?, kind = ?, found = ?, found_size = ?, failure = ?, detail = ?"
                " WHERE address = ? AND part = ?",
                (
                    (one.outcome, one.kind, one.found, one.found_size, one.failure, one.detail, one.address, part)
                    for one in results
                ),
            )
            self._db.execute(
                "UPDATE requests SET outcome = 'again', detail = ? WHERE part = ? AND outcome = ''", (missing, part)
            )
            self._db.execute(
                "UPDATE requests SET outcome = 'failed', failure = 'failed',"
                " detail = detail || ', tried ' || attempts || ' times'"
                " WHERE part = ? AND outcome = 'again' AND attempts >= ?",
                (part, most),
            )
            self._db.execute("UPDATE parts SET state = 'ended' WHERE number = ?", (part,))

    def dissolve(self, part: int) -> None:
        """Note that a part will not be submitted as it is; its requests were not tried by it."""
        with self._transaction():
            self._db.execute(
                "UPDATE requests SET outcome = 'again', attempts = attempts - 1 WHERE part = ? AND outcome = ''",
                (part,),
            )
            self._db.execute("UPDATE parts SET state = 'ended' WHERE number = ?", (part,))

    def drop(self, part: int) -> None:
        """Forget a part that was never paid for, with its requests."""
        with self._transaction():
            self._db.execute("DELETE FROM requests WHERE part = ?", (part,))
            self._db.execute("DELETE FROM parts WHERE number = ?", (part,))
        self.path(part, "requests").unlink(missing_ok=True)

    def tidy(self) -> None:
        """Delete the requests' files of parts from which nothing has to be submitted again."""
        rows = self._db.execute(
            "SELECT number FROM parts WHERE state = 'ended' AND NOT EXISTS"
            " (SELECT 1 FROM requests WHERE part = number AND outcome = 'again')"
        )
        for (number,) in rows.fetchall():
            self.path(number, "requests").unlink(missing_ok=True)

    # -- requests ----------------------------------------------------------------------------------------

    def find(self, address: str) -> Entry | None:
        """Return what is known of a request; None for one that never was in a part."""
        row = self._db.execute("SELECT * FROM requests WHERE address = ?", (address,)).fetchone()
        return Entry(*row) if row else None

    def entries(self, part: int) -> Iterator[Entry]:
        """Yield the requests of a part."""
        for row in self._db.execute("SELECT * FROM requests WHERE part = ?", (part,)).fetchall():
            yield Entry(*row)

    def answered(self) -> bool:
        """Whether the service ever answered a request."""
        found = self._db.execute("SELECT 1 FROM requests WHERE outcome = 'answered' LIMIT 1").fetchone()
        return found is not None

    def forget(self) -> None:
        """Forget the requests that have no answer and are in no batch under way: they will be asked as new ones."""
        with self._transaction():
            self._db.execute(_FORGET)

    def line(self, entry: Entry) -> bytes:
        """Return the line with which a request was last submitted."""
        return _read(self.path(entry.part, "requests"), entry.start, entry.size)

    def reply(self, entry: Entry) -> bytes:
        """Return the line that answers a request."""
        kind: Kind = "output" if entry.kind == "output" else "errors"
        return _read(self.path(entry.part, kind), entry.found, entry.found_size)


def _read(path: Path, start: int, size: int) -> bytes:
    try:
        with path.open("rb") as file:
            file.seek(start)
            return file.read(size)
    except OSError as error:
        raise RunError(
            f"{path} cannot be read: {error.strerror or error}",
            hint=f"bring it back; or delete {path.parent}: what is not in the store is then asked, and paid, again",
        ) from error


def forget_failures(folder: Path) -> None:
    """Let the next run ask again what no batch of this one answered; called when a run has come to its end.

    Until then a failure stands: each time that a run is left and comes back, it would be submitted anew.
    """
    for path in sorted(folder.glob(f"*/{_LEDGER}")):
        with closing(sqlite3.connect(path, timeout=60)) as ledger, ledger:
            ledger.execute(_FORGET)


def lines_of(path: Path) -> Iterator[tuple[int, bytes]]:
    """Yield the lines of a file, each with the byte at which it begins."""
    start = 0
    with path.open("rb") as file:
        for line in file:
            yield start, line
            start += len(line)
