"""What was handed to a batch service, and what came back: files and a ledger in the run directory.

RUN/batches/STAGE/ holds `ledger.sqlite` and, for each part (a file of requests that became one batch),
`00001.requests.jsonl`, `00001.output.jsonl` and `00001.errors.jsonl`; an empty file `00001.given-up` says that nobody
waits for the part any longer. A request is known by its address. What stands in the ledger is on the disk: it is
written before and after each step that may cost money, never in between.
"""

import secrets
import sqlite3
from collections.abc import Collection, Iterable, Iterator
from contextlib import closing, contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final, Literal

from relabel.engines.batch_files import GIVEN_UP, Draft, line_at
from relabel.errors import RunError

BATCH_FOLDER: Final = "batches"
"""The folder of a run directory that holds all this."""

State = Literal["written", "uploaded", "creating", "submitted", "collected", "ended"]
"""How far a part is: "creating" from before the service is asked for a batch until it is known what came of it,
"collected" from when the ledger knows what came of its requests until everything is handed over, and billed."""

Outcome = Literal["", "answered", "useless", "failed", "again"]
"""What came of a request: nothing yet, an answer, one that is billed and holds nothing, a failure that stays, or it has
to be submitted (again)."""

Kind = Literal["requests", "output", "errors"]

LEDGER: Final = "ledger.sqlite"

UNREAD: Final = "the service counts it as answered, gives no answer to it, and may have billed it"
GAVE_UP: Final = "its batch was given up"
_SCHEMA: Final = """
CREATE TABLE IF NOT EXISTS parts (
    number INTEGER PRIMARY KEY AUTOINCREMENT, token TEXT NOT NULL, state TEXT NOT NULL, requests INTEGER NOT NULL,
    tokens INTEGER NOT NULL, file TEXT NOT NULL DEFAULT '', batch TEXT NOT NULL DEFAULT '',
    tried REAL NOT NULL DEFAULT 0, submitted REAL NOT NULL DEFAULT 0, status TEXT NOT NULL DEFAULT '',
    completed INTEGER NOT NULL DEFAULT 0, failed INTEGER NOT NULL DEFAULT 0, looks INTEGER NOT NULL DEFAULT 0);
CREATE TABLE IF NOT EXISTS requests (
    address TEXT PRIMARY KEY, part INTEGER NOT NULL, start INTEGER NOT NULL, size INTEGER NOT NULL,
    attempts INTEGER NOT NULL, outcome TEXT NOT NULL DEFAULT '', kind TEXT NOT NULL DEFAULT '',
    found INTEGER NOT NULL DEFAULT 0, found_size INTEGER NOT NULL DEFAULT 0, failure TEXT NOT NULL DEFAULT '',
    detail TEXT NOT NULL DEFAULT '', about TEXT NOT NULL DEFAULT '', unsure INTEGER NOT NULL DEFAULT 0) WITHOUT ROWID;
CREATE INDEX IF NOT EXISTS requests_by_part ON requests (part);
"""
_FORGET: Final = "DELETE FROM requests WHERE outcome IN ('useless', 'failed', 'again') AND unsure = 0"


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
        looks: how often it was looked at in vain: for a batch of which nobody heard, or for answers that it counts.
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
    looks: int


@dataclass(frozen=True, slots=True)
class Entry:
    """One request: in which part it was last submitted, how often it was, where its line is and what came of it.

    Attributes:
        about: what is needed to read an answer that nobody asks for any more: a JSON object.
        unsure: 1 where an attempt at it is to be put on the bill as possibly billed.
    """

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
    about: str = ""
    unsure: int = 0


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


class Ledger:
    """The parts and requests of one stage, on disk; used by one thread at a time.

    Raises:
        RunError: the folder cannot be written, or the ledger cannot be read.
    """

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        try:
            folder.mkdir(parents=True, exist_ok=True)
            self._db = sqlite3.connect(folder / LEDGER, timeout=60, check_same_thread=False)
            self._db.execute("PRAGMA journal_mode = WAL")
            self._db.execute("PRAGMA synchronous = FULL")  # few and large transactions, and money hangs on them
            self._db.executescript(_SCHEMA)
        except (OSError, sqlite3.OperationalError) as error:
            raise RunError(
                f"the ledger of batches in {folder} cannot be used: {error}",
                hint="make the folder writable, or bring ledger.sqlite back from a copy: it knows what is already paid",
            ) from error
        except sqlite3.DatabaseError as error:
            raise _damaged(folder, error) from error

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
                f"{self.folder / LEDGER} cannot be written: {error}",
                hint="make room on the disk, or check the folder; then the same command goes on where it was",
            ) from error
        except sqlite3.DatabaseError as error:
            raise _damaged(self.folder, error) from error

    def _rows(self, query: str, values: Collection[Any] = ()) -> list[Any]:
        """Return what a question to the ledger brings."""
        try:
            return self._db.execute(query, tuple(values)).fetchall()
        except sqlite3.DatabaseError as error:
            raise _damaged(self.folder, error) from error

    # -- parts -------------------------------------------------------------------------------------------

    def parts(self, *states: State) -> list[Part]:
        """Return the parts in these states, or all, in the order of their numbers."""
        chosen = f"WHERE state IN ({','.join('?' * len(states))})" if states else ""
        rows = self._rows(f"SELECT * FROM parts {chosen} ORDER BY number", states)  # noqa: S608 - only "?"
        return [Part(*row) for row in rows]

    def given_up(self) -> list[int]:
        """Return the numbers of the parts that somebody gave up, by an empty file."""
        return [part.number for part in self.parts() if self.mark(part.number).exists()]

    def mark(self, part: int) -> Path:
        """Return the file by which a part is given up."""
        return self.folder / f"{part:05}{GIVEN_UP}"

    def close_draft(self, draft: Draft) -> int:
        """Make a part of the requests that were written: from now on they are known. Return its number."""
        with self._transaction():
            cursor = self._db.execute(
                "INSERT INTO parts (token, state, requests, tokens) VALUES (?, 'written', ?, ?)",
                (secrets.token_hex(16), len(draft), draft.tokens),
            )
            number = cursor.lastrowid or 0
            self._db.executemany(
                "INSERT OR REPLACE INTO requests (address, part, start, size, attempts, about)"
                " VALUES (?, ?, ?, ?, ?, ?)",
                ((row[0], number, *row[1:]) for row in draft.rows),
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
        self.note(
            part, state="uploaded", token=secrets.token_hex(16), batch="", status="", completed=0, failed=0, looks=0
        )

    def settle(self, part: int, results: Iterable[Result], most: int, missing: str, owed: int) -> None:
        """Note what came of a part that has ended.

        Of the requests that are in no result, `owed` are counted by the service as answered. Where these are all of
        them, they fail, and may have been billed. Else nobody knows which they are: then all are submitted again, and
        so many stand for those that may have been billed. More than these are others that are submitted again: the
        service counts them as answered, and says otherwise in their lines.

        Args:
            part: its number.
            results: of the requests that the service returned.
            most: attempts after which a request is not submitted again.
            missing: what to say of the requests that are in no result.
            owed: how many answers the service counts that it did not give.
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
            silent = self._rows("SELECT address FROM requests WHERE part = ? AND outcome = ''", (part,))
            self._db.executemany("UPDATE requests SET unsure = 1 WHERE address = ?", silent[:owed])
            lost = owed >= len(silent)
            self._db.execute(
                "UPDATE requests SET outcome = ?, failure = ?, detail = ? WHERE part = ? AND outcome = ''",
                ("failed", "failed", UNREAD, part) if lost else ("again", "", missing, part),
            )
            self._db.execute(
                "UPDATE requests SET unsure = 1 WHERE address IN"
                " (SELECT address FROM requests WHERE part = ? AND outcome = 'again' AND unsure = 0 LIMIT ?)",
                (part, max(0, owed - len(silent))),
            )
            self._db.execute(
                "UPDATE requests SET outcome = 'failed', failure = 'failed',"
                " detail = detail || ', tried ' || attempts || ' times'"
                " WHERE part = ? AND outcome = 'again' AND attempts >= ?",
                (part, most),
            )
            self._db.execute("UPDATE parts SET state = 'collected', looks = 0 WHERE number = ?", (part,))

    def give_up(self, part: int) -> None:
        """Note that nobody waits for a part: its requests may have been billed, and may be submitted again.

        Of one that was taken in before, the answers were billed then and are in the store: the ledger forgets them.
        """
        with self._transaction():
            self._db.execute(
                "UPDATE requests SET outcome = 'again', detail = ?, unsure = 1"
                " WHERE part = ? AND outcome IN ('', 'answered')"
                " AND part IN (SELECT number FROM parts WHERE state IN ('creating', 'submitted', 'collected'))",
                (GAVE_UP, part),
            )
            self._db.execute("DELETE FROM requests WHERE part = ? AND outcome IN ('answered', 'useless')", (part,))
            self._db.execute("UPDATE parts SET state = 'collected' WHERE number = ?", (part,))
        self.mark(part).unlink(missing_ok=True)

    def hand_over(self, useless: Iterable[tuple[str, str, str]], billed: Iterable[str]) -> None:
        """Note what of a collected part is on the bill, and in no store.

        Args:
            useless: (failure, detail, address) of answers that hold nothing.
            billed: addresses of requests that are possibly billed.
        """
        with self._transaction():
            self._db.executemany(
                "UPDATE requests SET outcome = 'useless', failure = ?, detail = ? WHERE address = ?", useless
            )
            self._db.executemany("UPDATE requests SET unsure = 0 WHERE address = ?", ((each,) for each in billed))

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
        rows = self._rows(
            "SELECT number FROM parts WHERE state = 'ended' AND NOT EXISTS"
            " (SELECT 1 FROM requests WHERE part = number AND outcome = 'again')"
        )
        for (number,) in rows:
            self.path(number, "requests").unlink(missing_ok=True)

    # -- requests ----------------------------------------------------------------------------------------

    def find(self, address: str) -> Entry | None:
        """Return what is known of a request; None for one that never was in a part."""
        rows = self._rows("SELECT * FROM requests WHERE address = ?", (address,))
        return Entry(*rows[0]) if rows else None

    def entries(self, part: int) -> Iterator[Entry]:
        """Yield the requests of a part."""
        for row in self._rows("SELECT * FROM requests WHERE part = ?", (part,)):
            yield Entry(*row)

    def answered(self) -> bool:
        """Whether the service ever answered a request."""
        return bool(self._rows("SELECT 1 FROM requests WHERE outcome IN ('answered', 'useless') LIMIT 1"))

    def forget(self) -> None:
        """Forget the requests that have no answer and are in no batch under way: they will be asked as new ones."""
        with self._transaction():
            self._db.execute(_FORGET)

    def line(self, entry: Entry) -> bytes:
        """Return the line with which a request was last submitted."""
        return line_at(self.path(entry.part, "requests"), entry.start, entry.size)

    def reply(self, entry: Entry) -> bytes:
        """Return the line that answers a request."""
        kind: Kind = "output" if entry.kind == "output" else "errors"
        return line_at(self.path(entry.part, kind), entry.found, entry.found_size)


def _damaged(folder: Path, error: Exception) -> RunError:
    return RunError(
        f"the ledger of batches, {folder / LEDGER}, cannot be read: {error}",
        hint=f"bring it back from a copy: it knows what is paid; or delete {folder}: what is under way is then lost,"
        " and asked and paid again; what the store holds is not",
    )


def forget_failures(folder: Path) -> None:
    """Let the next run ask again what no batch of this one answered; called when a run has come to its end.

    Until then a failure stands: each time that a run is left and comes back, it would be submitted anew.

    Raises:
        RunError: a ledger cannot be read.
    """
    for path in sorted(folder.glob(f"*/{LEDGER}")):
        try:
            with closing(sqlite3.connect(path, timeout=60)) as ledger, ledger:
                ledger.execute(_FORGET)
        except sqlite3.DatabaseError as error:
            raise _damaged(path.parent, error) from error
