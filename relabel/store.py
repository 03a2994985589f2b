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
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, replace
from functools import lru_cache
from pathlib import Path
from types import TracebackType
from typing import Any, Final, Self, TypeVar
from uuid import uuid4

from filelock import FileLock, Timeout

from relabel.errors import RunError
from relabel.money import FIELDS, Bill
from relabel.protocols import REASONED, Reply, Request, Usage
from relabel.records import Case, Judgment, Label
from relabel.store_file import JUDGE_ANEW, STORE, connect, make_or_check

LOCK: Final = "run.lock"
OWN: Final = frozenset({LOCK, "cache", "batches"})
"""What may lie in a run's folder that holds no store: it was killed as it began, or somebody deleted the store."""

COMMIT_SECONDS: Final = 0.05
BATCH: Final = 200
_ADD_JUDGMENT: Final = "INSERT OR REPLACE INTO judgments VALUES (?,?,?,?,?,?,?,?,?,?,?)"
_ADD_REPLY: Final = "INSERT OR REPLACE INTO replies VALUES (?,?,?,?,?,?,?,?,?,?,?,?,?,?,?,?)"
_NOTE_BILL: Final = "INSERT OR REPLACE INTO bills VALUES (?,?,?,?,?,?,?,?,?,?,?,?,?,?,?,?,?,?)"
_UNION: Final = {
    "SELECT * FROM replies": "INSERT OR IGNORE INTO replies VALUES (?,?,?,?,?,?,?,?,?,?,?,?,?,?,?,?)",
    "SELECT * FROM people": (
        "INSERT INTO people VALUES (?,?,?,?,?,?) ON CONFLICT DO UPDATE"
        " SET label = excluded.label, note = excluded.note, at = excluded.at WHERE excluded.at > at"
    ),
    "SELECT * FROM imports": "INSERT OR IGNORE INTO imports VALUES (?,?)",
    "SELECT * FROM bills": _NOTE_BILL,
}
"""How all that stands in one store is read there, and put into another that may hold some of it."""

_WORDS: Final = ("text", "detail", "finish_reason", "model")
"""What of a reply is a server's own words."""

_LARGEST: Final = 2**63 - 1
"""The largest number that SQLite holds: a sum above it is written as this, and no run ends of it."""

_Work = tuple[str, Sequence[Sequence[Any]]]
_BILLS_ARE_DUE: Final[_Work] = ("", ())

_BROKEN: Final = (sqlite3.OperationalError, sqlite3.DatabaseError)
"""What SQLite says of a disk or a file. Their subclasses are bugs of ours, and stay what they are."""


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
        self._path, self._execution = folder / STORE, uuid4().hex
        self._local = threading.local()
        self._readers: list[tuple[threading.Thread, sqlite3.Connection]] = []
        try:
            make_or_check(self._path, self._remedy())
        except BaseException:
            self._lock.release()
            raise
        self._work: queue.Queue[_Work | threading.Event | None] = queue.Queue(maxsize=16)
        self._failure: BaseException | None = None
        self._waiting: list[threading.Event] = []  # for the next commit
        self._closing = False
        self._fresh: dict[str, Reply] = {}  # handed over, and perhaps not yet committed
        self._due: dict[str, tuple[str, str, Callable[[], Bill]]] = {}  # bills for the next commit
        self._billing = threading.Lock()
        self._writer = threading.Thread(target=self._write, name="relabel-store", daemon=True)
        self._writer.start()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()
        if type(error) in _BROKEN:
            raise self._broken(error, "read") from error

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

    def _remedy(self) -> str:
        """Say what to do where the folder cannot be used: of a run that is there, even reading takes a lock in it."""
        if not (self.folder / STORE).exists():
            return "name another run directory: relabel run INPUT -o FOLDER"
        copy = f"cp -r {shlex.quote(str(self.folder))} FOLDER"
        return f"the run's folder must be writable, for relabel locks it: make it so, or work on a copy: {copy}"

    @property
    def _reader(self) -> sqlite3.Connection:
        connection: sqlite3.Connection | None = getattr(self._local, "connection", None)
        if connection is None:
            connection = self._local.connection = connect(self._path)
            self._readers.append((threading.current_thread(), connection))
        return connection

    # -- writing: one thread, one queue ------------------------------------------------------------------

    def _write(self) -> None:
        connection = connect(self._path)
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
        if type(error) not in _BROKEN:
            return error
        told = self._broken(error, "written")
        told.__cause__ = error
        return told

    def _broken(self, error: BaseException | None, what: str) -> RunError:
        return RunError(
            f"{self._path} cannot be {what}: {error}",
            hint="make room on the disk, or check the folder; then the same command goes on where it was. If it is the"
            f" file that is damaged: bring it back from a copy, or {JUDGE_ANEW}",
        )

    def _write_until(self, connection: sqlite3.Connection, work: _Work | threading.Event | None) -> None:
        """Write what comes within one commit's time, or until the store is closing."""
        ends = time.monotonic() + COMMIT_SECONDS
        replies: list[str] = []
        while True:
            if work is None:
                self._closing = True
            elif isinstance(work, threading.Event):
                self._waiting.append(work)
            elif work is not _BILLS_ARE_DUE:
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
        self._write_bills(connection)
        if not self._path.exists():  # deleted under a run: SQLite would write on into a file without a name
            raise RunError(
                f"{self.folder} is gone: what was answered since is lost",
                hint="bring it back from a copy, or type the same command again: what it held is asked again",
            )
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
        reply = replace(reply, **{name: _plain(getattr(reply, name)) for name in _WORDS})
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
        """Return what the replies took that a judge's words and reasons were read from, in all executions together."""
        row = self._reader.execute(
            "SELECT count(*), count(tokens_in + tokens_out), sum(tokens_in), sum(tokens_out), sum(tokens_cached),"
            " max(model) FROM replies WHERE address IN (SELECT reply FROM judgments WHERE judge = ?1) OR"
            " (substr(template, -length(?2)) = ?2"
            " AND judge = (SELECT json_extract(settings, '$.name') FROM judges WHERE id = ?1))",
            (judge, REASONED),
        ).fetchone()
        pairs = self._reader.execute(
            "SELECT count(*) FROM judgments WHERE judge = ? AND reply IN (SELECT address FROM replies)", (judge,)
        ).fetchone()
        replies, counted, tokens_in, tokens_out, cached, model = row
        return Spent(pairs[0], replies, counted, tokens_in or 0, tokens_out or 0, cached or 0, model or "")

    def usages(self, judge: int) -> Iterator[Usage]:
        """Yield what was counted of each reply that a judge's words were read from."""
        rows = self._reader.execute(
            "SELECT tokens_in, tokens_out, tokens_cached FROM replies"
            " WHERE address IN (SELECT reply FROM judgments WHERE judge = ?)",
            (judge,),
        )
        for counts in rows:
            yield Usage(*counts)

    # -- bills -----------------------------------------------------------------------------------------

    def note_bill(self, key: str, stage: str, model: str, bill: Callable[[], Bill]) -> None:
        """Keep what a stage's requests took so far in this execution, in place of what was kept under `key` before.

        `bill` is called by the writer before its next commit, however often this was called until then. Nobody waits.
        """
        if self._failure:
            raise self._failure
        with self._billing:
            waiting = bool(self._due)
            self._due[key] = stage, model, bill
        if not waiting:
            with suppress(queue.Full):  # then there is a commit to come all the same
                self._work.put_nowait(_BILLS_ARE_DUE)

    def _write_bills(self, connection: sqlite3.Connection) -> None:
        with self._billing:
            due, self._due = self._due, {}
        for key, (stage, model, bill) in due.items():
            told = bill()
            counts = [None if (count := getattr(told, name)) is None else min(count, _LARGEST) for name in FIELDS]
            connection.execute(_NOTE_BILL, (key, self._execution, time.time(), stage, model, *counts))

    def bills(self) -> "Iterator[Billed]":
        """Yield what was noted in all executions, committed so far, oldest first."""
        columns = ", ".join(FIELDS)
        rows = self._reader.execute(f"SELECT execution, stage, model, {columns} FROM bills ORDER BY at")  # noqa: S608
        for execution, stage, model, *counts in rows:
            yield Billed(stage, model, execution, execution == self._execution, Bill(*counts))

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


@dataclass(frozen=True, slots=True)
class Billed:
    """The bill of one stage in one execution; `now` says that it is the one that has the store open."""

    stage: str
    model: str
    execution: str
    now: bool
    bill: Bill
