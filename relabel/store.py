"""The run directory: every judgment and raw reply in SQLite, addressed by content.

One writer thread owns all writing and commits at least every 50 ms, so that a killed run has paid for nothing
twice but what was in flight. Readers have connections of their own (WAL). Judgments of one row lie together, so that
one SELECT fetches a case.
"""

import json
import queue
import shlex
import sqlite3
import threading
import time
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import lru_cache
from pathlib import Path
from types import TracebackType
from typing import Any, Final, Self, TypeVar

from filelock import FileLock, Timeout

from relabel.errors import RunError
from relabel.protocols import Reply, Request, Usage
from relabel.records import Case, Judgment, Label

VERSION: Final = 1
STORE: Final = "judgments.sqlite"
LOCK: Final = "run.lock"
JUDGE_ANEW: Final = "judge into a new run directory: relabel run INPUT -o FOLDER"
OWN: Final = frozenset({LOCK, "cache"})
"""What a run that was killed as it began may leave in a folder that holds no store yet."""

COMMIT_SECONDS: Final = 0.05
BATCH: Final = 200
_ADD_JUDGMENT: Final = "INSERT OR REPLACE INTO judgments VALUES (?,?,?,?,?,?,?,?,?,?,?)"
_ADD_REPLY: Final = "INSERT OR REPLACE INTO replies VALUES (?,?,?,?,?,?,?,?,?,?,?,?,?,?,?,?)"
SCHEMA: Final = """
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
"""
_UNION: Final = {
    "SELECT * FROM replies": "INSERT OR IGNORE INTO replies VALUES (?,?,?,?,?,?,?,?,?,?,?,?,?,?,?,?)",
    "SELECT * FROM people": (
        "INSERT INTO people VALUES (?,?,?,?,?,?) ON CONFLICT DO UPDATE"
        " SET label = excluded.label, note = excluded.note, at = excluded.at WHERE excluded.at > at"
    ),
    "SELECT * FROM imports": "INSERT OR IGNORE INTO imports VALUES (?,?)",
}
"""How all that stands in one store is read there, and put into another that may hold some of it."""

_Work = tuple[str, Sequence[Sequence[Any]]]

_judgment: Final = lru_cache(maxsize=1024)(Judgment)
"""Many judges say few different things (rules, yes and no): finding one is quicker than making one."""
T = TypeVar("T", str, str | None)


class Store:
    """A run directory opened for reading and writing; one process at a time.

    Raises:
        RunError: another process is using the directory, it was made by another version of the schema, or it cannot
            be made.
    """

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self._lock = FileLock(folder / LOCK)
        try:
            folder.mkdir(parents=True, exist_ok=True)
            self._lock.acquire(timeout=0)
        except Timeout:
            raise RunError(
                f"{folder} is in use by another relabel process",
                hint="wait for it, end it (a page of relabel audit serve: Ctrl-C in its terminal), or name another run",
            ) from None
        except OSError as error:
            raise RunError(f"{folder} cannot be used as a run directory: {error}", hint=self._remedy()) from error
        self._path = folder / STORE
        self._local = threading.local()
        self._readers: list[tuple[threading.Thread, sqlite3.Connection]] = []
        try:
            self._check()
        except BaseException:
            self._lock.release()
            raise
        self._work: queue.Queue[_Work | threading.Event | None] = queue.Queue(maxsize=16)
        self._failure: BaseException | None = None
        self._waiting: list[threading.Event] = []  # for the next commit
        self._closing = False
        self._fresh: dict[str, Reply] = {}  # handed over, and perhaps not yet committed
        self._writer = threading.Thread(target=self._write, name="relabel-store", daemon=True)
        self._writer.start()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def close(self) -> None:
        """Commit what is waiting and let go of the directory."""
        if self._writer.is_alive():
            self._work.put(None)
            self._writer.join()
        for thread, connection in self._readers:
            # closed under a thread that is reading, SQLite takes the process down: such a one closes it as it ends
            if thread is threading.current_thread() or not thread.is_alive():
                connection.close()
        self._readers.clear()
        self._lock.release()
        failure, self._failure = self._failure, RunError(f"{self.folder} is closed")  # for threads that come late
        if failure:
            raise failure

    def _check(self) -> None:
        try:
            connection = self._connect()
            version = connection.execute("PRAGMA user_version").fetchone()[0]
            if version not in (0, VERSION):
                raise RunError(f"{self._path} has schema {version}, this relabel reads {VERSION}", hint=JUDGE_ANEW)
            connection.executescript(SCHEMA)
            connection.execute(f"PRAGMA user_version = {VERSION}")
            connection.commit()
            connection.close()
        except sqlite3.OperationalError as error:  # the folder or the disk, not what is in the file
            raise RunError(f"{self._path} cannot be used: {error}", hint=self._remedy()) from error
        except sqlite3.DatabaseError as error:
            raise RunError(
                f"{self._path} cannot be used: {error}", hint=f"bring it back from a copy, or {JUDGE_ANEW}"
            ) from error

    def _remedy(self) -> str:
        """Say what to do where the folder cannot be used: of a run that is there, even reading takes a lock in it."""
        if not (self.folder / STORE).exists():
            return "name another run directory: relabel run INPUT -o FOLDER"
        copy = f"cp -r {shlex.quote(str(self.folder))} FOLDER"
        return f"the run's folder must be writable, for relabel locks it: make it so, or work on a copy: {copy}"

    def _connect(self) -> sqlite3.Connection:
        connection = sqlite3.connect(self._path, timeout=60, check_same_thread=False)
        connection.execute("PRAGMA journal_mode = WAL")
        connection.execute("PRAGMA synchronous = NORMAL")
        connection.execute("PRAGMA cache_size = -8000")  # 8 MB: memory stays the same however large the file
        return connection

    @property
    def _reader(self) -> sqlite3.Connection:
        connection: sqlite3.Connection | None = getattr(self._local, "connection", None)
        if connection is None:
            connection = self._local.connection = self._connect()
            self._readers.append((threading.current_thread(), connection))
        return connection

    # -- writing: one thread, one queue ------------------------------------------------------------------

    def _write(self) -> None:
        connection = self._connect()
        try:
            while not self._closing:
                self._write_until(connection, self._work.get())
        except BaseException as error:  # noqa: BLE001 - handed to the next caller, who stops the run
            self._failure = self._told(error)
            self._wake()
            while not self._closing:  # nobody may wait for ever on a full queue
                work = self._work.get()
                self._closing = work is None
                if isinstance(work, threading.Event):
                    work.set()
        finally:
            connection.close()

    def _told(self, error: BaseException) -> BaseException:
        """Say in our words what a person can mend; everything else is a bug and stays what it is."""
        if not isinstance(error, sqlite3.OperationalError):
            return error
        hint = "make room on the disk, or check the folder; then the same command goes on where it was"
        told = RunError(f"{self._path} cannot be written: {error}", hint=hint)
        told.__cause__ = error
        return told

    def _write_until(self, connection: sqlite3.Connection, work: _Work | threading.Event | None) -> None:
        """Write what comes within one commit's time, or until the store is closing."""
        ends = time.monotonic() + COMMIT_SECONDS
        replies: list[str] = []
        while True:
            if work is None:
                self._closing = True
            elif isinstance(work, threading.Event):
                self._waiting.append(work)
            else:
                connection.executemany(*work)
                if work[0] is _ADD_REPLY:
                    replies += [row[0] for row in work[1]]
            left = ends - time.monotonic()
            if self._closing or self._waiting or left <= 0:
                break
            try:
                work = self._work.get(timeout=left)
            except queue.Empty:
                break
        connection.commit()
        for address in replies:
            self._fresh.pop(address, None)
        self._wake()

    def _wake(self) -> None:
        while self._waiting:
            self._waiting.pop().set()

    def _put(self, statement: str, rows: Sequence[Sequence[Any]]) -> None:
        if self._failure:
            raise self._failure
        self._work.put((statement, rows))

    def flush(self) -> None:
        """Return once everything handed over so far is committed."""
        done = threading.Event()
        self._work.put(done)
        done.wait()
        if self._failure:
            raise self._failure

    # -- judgments -------------------------------------------------------------------------------------

    def judge_id(self, fingerprint: str, settings: Mapping[str, Any]) -> int:
        """Return the number of a judge, known by all that changes its answers; a new one is entered."""
        self._put(
            "INSERT OR IGNORE INTO judges (fingerprint, settings) VALUES (?, ?)",
            [(fingerprint, json.dumps(settings, sort_keys=True, ensure_ascii=False))],
        )
        self.flush()
        row = self._reader.execute("SELECT id FROM judges WHERE fingerprint = ?", (fingerprint,)).fetchone()
        return int(row[0])

    def add_judgments(self, judge: int, cases: Iterable[Case]) -> None:
        """Keep the judgments of some judged cases; a new word on a pair by the same judge replaces the old."""
        rows = [
            (
                case.row, pair.key, judge, word.label, word.reason, _plain(word.evidence), word.probability, word.score,
                _plain(word.rationale), word.reply, word.group,
            )
            for case in cases
            for pair, word in zip(case.pairs, case.judgments, strict=True)
        ]  # fmt: skip
        self._put(_ADD_JUDGMENT, rows)

    def judgments(self, case: Case) -> dict[int, dict[bytes, Judgment]]:
        """Return everything ever said about the case's pairs: judge → pair key → judgment. One SELECT."""
        said: dict[int, dict[bytes, Judgment]] = {}
        rows = self._reader.execute(
            "SELECT candidate, judge, label, reason, evidence, probability, score, rationale, reply, asked_with"
            " FROM judgments WHERE query = ?",
            (case.row,),
        )
        for candidate, judge, *word in rows:
            said.setdefault(judge, {})[candidate] = _judgment(*word)
        return said

    # -- replies ---------------------------------------------------------------------------------------

    def add_reply(self, reply: Reply) -> Reply:
        """Keep a raw reply under the address of what was asked; return it as it will be read again."""
        request, usage = reply.request, reply.usage
        reply = replace(reply, text=_plain(reply.text), detail=_plain(reply.detail))
        self._fresh[request.address] = reply
        self._put(
            _ADD_REPLY,
            [(
                request.address, reply.text, reply.failure, reply.detail, reply.finish_reason, reply.model,
                json.dumps(dict(reply.probabilities)), json.dumps(reply.candidate_ids), usage.tokens_in,
                usage.tokens_out, usage.tokens_cached, usage.seconds, time.time(), request.judge, request.template,
                _plain(request.query_id),
            )],
        )  # fmt: skip
        return reply

    def reply_to(self, request: Request) -> Reply | None:
        """Return what was answered when exactly this was asked before, be it a moment ago; None if it never was."""
        if fresh := self._fresh.get(request.address):
            return replace(fresh, request=request)
        row = self._reader.execute(
            "SELECT text, failure, detail, finish_reason, model, probabilities, candidate_ids, tokens_in, tokens_out,"
            " tokens_cached, seconds FROM replies WHERE address = ?",
            (request.address,),
        ).fetchone()
        if row is None:
            return None
        text, failure, detail, finish_reason, model, probabilities, ids, *usage = row
        return Reply(
            request,
            text,
            failure,
            detail,
            finish_reason,
            model,
            json.loads(probabilities),
            Usage(*usage),
            tuple(json.loads(ids)),
        )

    def spent(self, judge: int) -> "Spent":
        """Return what the replies took that a judge's words were read from, in all executions together."""
        row = self._reader.execute(
            "SELECT count(*), count(tokens_in + tokens_out), sum(tokens_in), sum(tokens_out), sum(tokens_cached),"
            " max(model) FROM replies WHERE address IN (SELECT reply FROM judgments WHERE judge = ?)",
            (judge,),
        ).fetchone()
        pairs = self._reader.execute(
            "SELECT count(*) FROM judgments WHERE judge = ? AND reply IN (SELECT address FROM replies)", (judge,)
        ).fetchone()
        replies, counted, tokens_in, tokens_out, cached, model = row
        return Spent(pairs[0], replies, counted, tokens_in or 0, tokens_out or 0, cached or 0, model or "")

    # -- people ----------------------------------------------------------------------------------------

    def add_people(self, labels: Iterable["PersonLabel"]) -> None:
        """Keep people's labels; each reviewer has one word on a pair, the newest."""
        now = time.time()
        rows = [(label.query, label.candidate, label.reviewer, label.label, label.note, now) for label in labels]
        self._put("INSERT OR REPLACE INTO people VALUES (?,?,?,?,?,?)", rows)
        self.flush()

    def people(self, query: bytes) -> dict[bytes, dict[str, Label]]:
        """Return people's labels on a query's candidates: candidate → reviewer → label."""
        found: dict[bytes, dict[str, Label]] = {}
        rows = self._reader.execute(
            "SELECT candidate, reviewer, label FROM people WHERE query = ? ORDER BY candidate, reviewer", (query,)
        )
        for candidate, reviewer, label in rows:
            found.setdefault(candidate, {})[reviewer] = label
        return found

    def remove_people(self, query: bytes, candidate: bytes, reviewer: str) -> None:
        """Take a reviewer's label on a pair back."""
        self._put(
            "DELETE FROM people WHERE query = ? AND candidate = ? AND reviewer = ?", [(query, candidate, reviewer)]
        )
        self.flush()

    def reviewers(self) -> list[str]:
        """Return everybody whose labels are here, sorted."""
        return [name for rows in self.select("SELECT DISTINCT reviewer FROM people ORDER BY 1") for (name,) in rows]

    def people_of(self, query: bytes, candidate: bytes) -> dict[str, tuple[Label, str]]:
        """Return what people said of one pair: reviewer → label and note."""
        rows = self._reader.execute(
            "SELECT reviewer, label, note FROM people WHERE query = ? AND candidate = ? ORDER BY reviewer",
            (query, candidate),
        )
        return {reviewer: (label, note or "") for reviewer, label, note in rows}

    def labels_by(self, reviewer: str) -> Iterator[tuple[bytes, bytes, Label]]:
        """Yield all labels of a reviewer: query, candidate, label."""
        yield from self._reader.execute("SELECT query, candidate, label FROM people WHERE reviewer = ?", (reviewer,))

    def notes(self, query: bytes) -> dict[bytes, dict[str, str]]:
        """Return the notes beside people's labels on a query's candidates: candidate → reviewer → note."""
        found: dict[bytes, dict[str, str]] = {}
        rows = self._reader.execute(
            "SELECT candidate, reviewer, note FROM people WHERE query = ? AND note != '' ORDER BY candidate, reviewer",
            (query,),
        )
        for candidate, reviewer, note in rows:
            found.setdefault(candidate, {})[reviewer] = note
        return found

    def has_people(self) -> bool:
        """Whether anybody's labels were imported."""
        return self._reader.execute("SELECT 1 FROM people LIMIT 1").fetchone() is not None

    def note_import(self, sha256: str) -> None:
        """Remember a file, by its digest, as one whose labels were taken in."""
        self._put("INSERT OR REPLACE INTO imports VALUES (?,?)", [(sha256, time.time())])
        self.flush()

    def imported(self, sha256: str) -> bool:
        """Whether the labels of a file with this digest were taken in."""
        return self._reader.execute("SELECT 1 FROM imports WHERE sha256 = ?", (sha256,)).fetchone() is not None

    # -- other stores ----------------------------------------------------------------------------------

    def judges(self) -> list[str]:
        """Return the fingerprints of all judges that ever said something here."""
        return [fingerprint for rows in self.select("SELECT fingerprint FROM judges") for (fingerprint,) in rows]

    def select(self, query: str) -> Iterator[list[tuple[Any, ...]]]:
        """Yield what a SELECT finds, some rows at a time: memory stays the same however many there are."""
        cursor = self._reader.execute(query)
        while rows := cursor.fetchmany(BATCH):
            yield rows

    def absorb(self, other: "Store") -> None:
        """Take in all that another store holds; a second time changes nothing.

        A judge is the same in both whose fingerprint is. Of two labels by one reviewer on one pair the newer holds; of
        two words by one judge the other store's.
        """
        numbers = {
            number: self.judge_id(fingerprint, json.loads(settings))
            for rows in other.select("SELECT id, fingerprint, settings FROM judges ORDER BY id")
            for number, fingerprint, settings in rows
        }
        for rows in other.select("SELECT * FROM judgments"):
            self._put(_ADD_JUDGMENT, [(query, pair, numbers[judge], *word) for query, pair, judge, *word in rows])
        for found, put in _UNION.items():
            for rows in other.select(found):
                self._put(put, rows)
        self.flush()


def _plain(text: T) -> T:
    """Exchange halves of surrogate pairs, which JSON can hold and SQLite cannot, for a replacement sign."""
    if text is None or text.isascii():
        return text
    return text.encode("utf-16", "surrogatepass").decode("utf-16", "replace")


@dataclass(frozen=True, slots=True)
class PersonLabel:
    """One reviewer's word on one pair; `query` and `candidate` are digests of their texts."""

    query: bytes
    candidate: bytes
    reviewer: str
    label: Label
    note: str = ""


@dataclass(frozen=True, slots=True)
class Spent:
    """What a judge's replies took: `counted` of them came with a count of tokens, and `pairs` were judged by them.

    `model` is who answered, as the service says; "" where it does not.
    """

    pairs: int
    replies: int
    counted: int
    tokens_in: int
    tokens_out: int
    tokens_cached: int
    model: str
