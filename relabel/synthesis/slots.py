"""Every slot that was asked for, in a file, with what became of it: what accounting and results are read from.

A slot ends as exactly one of three: accepted, refused (with who objected), or none (with why there is nothing, or no
verdict). It is written anew by every execution; replies and verdicts, which cost, are kept elsewhere.
"""

import json
import re
import sqlite3
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import closing, contextmanager
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any, Final, Literal

from relabel.errors import InputError, RowError
from relabel.quoting import visible
from relabel.records import NOTHING, Example, Passage, Verdict, chance
from relabel.synthesis.gate import Gated
from relabel.synthesis.written import Written

End = Literal["accepted", "refused", "none"]

MISSING: Final = "missing"
NOT_WANTED: Final = "not wanted"
NO_ROW: Final = "no such row"
UNUSED: Final = "enough in the row"
OVER: Final = "share of the data set"
"""Why an accepted one is not used: its row has what it wants, or may have; or the whole set would have too many."""

_COLUMNS: Final = (
    "number INTEGER PRIMARY KEY, line INTEGER, position INTEGER, recipe TEXT, query TEXT, generator TEXT,"
    " written TEXT, difficulty REAL, "
    + ", ".join(
        f"{name} TEXT NOT NULL DEFAULT ''"
        for name in ("beside", "like", "id", "objection", "figure", "end", "reason", "why", "judge", "unused")
    )
)
_LONGEST: Final = 64 * 1024 * 1024
_BY_ID, _BY_TEXT = "id ", "text "
_TEXTS: Final = ("query", "query_id", "recipe", "text", "title", "failure", "generator", "detail", "twin", "reply")
_HALF: Final = re.compile("[\ud800-\udfff]")
_HINT: Final = (
    'one object a line: {"query_id" or "query", "text"}, and if known "title", "recipe", "generator", "detail"'
)


@dataclass(frozen=True, slots=True)
class Slot:
    """What became of one slot.

    Attributes:
        number: its own.
        gated: what was written, and what the gate said.
        end: how it ended; "" while it is open.
        reason: why it was refused, or is none; "" where accepted.
        why: the same in a sentence or a figure, for people.
        judge: who had the last word, "" where nobody was asked.
        left: of an accepted one, why it is not used; "" where it is.
    """

    number: int
    gated: Gated
    end: End | Literal[""]
    reason: str
    why: str = ""
    judge: str = ""
    left: str = ""

    @property
    def used(self) -> bool:
        """Whether it stands in the training file."""
        return self.end == "accepted" and not self.left


class Slots:
    """The slots of a whole input; made by `open_slots`."""

    def __init__(self, connection: sqlite3.Connection) -> None:
        self._connection = connection
        self._passed_over = (0, "")

    def add(self, written: Iterable[Written]) -> None:
        """Take in what was written, row by row, in an order that is the same at every execution."""
        for one in written:
            self._put(one)

    def _put(self, one: Written, line: int = 0, query: str = "", beside: str = "") -> None:
        end, reason = ("none", one.failure) if one.failure else ("", "")
        self._connection.execute(
            "INSERT INTO slots (position, recipe, line, query, beside, generator, written, end, reason, why)"
            " VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?)",
            (
                one.position,
                one.recipe,
                line,
                query,
                beside,
                one.generator,
                json.dumps(asdict(one)),
                end,
                reason,
                one.why,
            ),
        )

    def read(self, path: Path, examples: Iterable[Example], wanted: Callable[[Example], int]) -> None:
        """Take in what somebody has written before, a line each, and find the first row of each line's query.

        Args:
            path: a JSONL file; fields other than those of `Written` and `query_id` are left alone.
            examples: the rows.
            wanted: called with a row, says how many it wants; those of a row that wants none are not looked at.

        Raises:
            InputError: the file cannot be read.
            RowError: a line of it is not what it should be.
        """
        for told in _lines(path):
            self._put(*told)
        execute = self._connection.execute
        execute("CREATE INDEX queries ON slots (query, position)")
        execute("CREATE INDEX besides ON slots (beside, position)")
        for example in examples:
            keys = (example.position, _BY_ID + example.id, _BY_TEXT + example.query)
            taken = execute("SELECT 1 FROM slots WHERE query IN (?, ?) AND position >= 0 LIMIT 1", keys[1:]).fetchone()
            if taken is not None and wanted(example):
                number, first = self._passed_over
                self._passed_over = number + 1, first or example.id or example.query
            done = execute("UPDATE slots SET position = ? WHERE query IN (?, ?) AND position = -1", keys)
            if done.rowcount and not wanted(example):
                self._close_row(example.position, NOT_WANTED)
            execute("UPDATE slots SET like = ? WHERE beside = ? AND position = -1 AND like = ''", (example.id, keys[2]))
        self._connection.create_function("missed", 3, _missed, deterministic=True)
        execute("UPDATE slots SET why = missed(line, query, like) WHERE position = -1 AND end = ''")
        self._close_row(-1, NO_ROW)

    def _close_row(self, position: int, reason: str) -> None:
        self._connection.execute(
            "UPDATE slots SET end = 'none', reason = ? WHERE position = ? AND end = ''", (reason, position)
        )

    def fill(self, position: int, asked: int) -> None:
        """Note as missing what a row was asked for and nobody said a word about."""
        (known,) = self._connection.execute("SELECT count(*) FROM slots WHERE position = ?", (position,)).fetchone()
        self.add([Written(position, "", failure=MISSING)] * max(0, asked - known))

    def of(self, position: int) -> list[Slot]:
        """Return the slots of a row, in the order in which they were taken in."""
        return list(self._read(position))

    def _read(self, position: int) -> Iterator[Slot]:
        query = (
            "SELECT number, written, id, objection, figure, difficulty, end, reason, why, judge, unused"
            " FROM slots WHERE position = ? ORDER BY number"
        )
        for number, told, name, objection, figure, difficulty, *rest in self._connection.execute(query, (position,)):
            written = replace(Written(**json.loads(told)), position=position)
            yield Slot(number, Gated(written, name, objection, figure, difficulty), *rest)

    def positions(self) -> Iterator[int]:
        """Yield the rows that something was written for, in the input's order."""
        last = -1
        while (found := self._next(last)) is not None:
            yield found
            last = found

    def _next(self, position: int) -> int | None:
        asked = "SELECT min(position) FROM slots WHERE position > ?"
        found: int | None = self._connection.execute(asked, (position,)).fetchone()[0]
        return found

    def gate(self, slots: Sequence[Slot], gated: Sequence[Gated]) -> None:
        """Note what the gate says of slots that are open."""
        self._connection.executemany(
            "UPDATE slots SET id = ?, objection = ?, figure = ?, difficulty = ?, end = ?, reason = ?, why = ?"
            " WHERE number = ?",
            [
                (each.id, each.reason, each.why, each.difficulty, "refused" if each.reason else "", each.reason,
                 each.why, slot.number)
                for slot, each in zip(slots, gated, strict=True)
            ],
        )  # fmt: skip

    def judge(self, slots: Sequence[Slot], verdicts: Sequence[Verdict], judges: Mapping[str, str] = NOTHING) -> None:
        """Note the verdicts about those that passed the gate; only a true negative is accepted.

        Nobody's word is no word for it: undecided is none.
        """
        ends = [ended(verdict) for verdict in verdicts]
        self._connection.executemany(
            "UPDATE slots SET end = ?, reason = ?, why = ?, judge = ? WHERE number = ?",
            [
                (end, reason, _reasoned(verdict), judges.get(verdict.stage, verdict.stage), slot.number)
                for slot, verdict, (end, reason) in zip(slots, verdicts, ends, strict=True)
            ],
        )

    def leave(self, slots: Iterable[Slot], reason: str = UNUSED) -> None:
        """Note that accepted ones are not used."""
        self._connection.executemany(
            "UPDATE slots SET unused = ? WHERE number = ?", [(reason, each.number) for each in slots]
        )

    def cap(self, most: int | None, rows: Iterable[tuple[int, str]]) -> None:
        """Leave out those used above so many; dice that know nothing of the order of the rows choose them.

        Args:
            most: see above; None = any number.
            rows: the rows in their order, by what the dice know of them; of equal ones they know which it is.
        """
        if most is None:
            return
        execute = self._connection.execute
        execute("CREATE TABLE dealt (position INTEGER PRIMARY KEY, key TEXT)")
        self._connection.executemany("INSERT INTO dealt VALUES (?, ?)", rows)
        self._connection.create_function(
            "dice", 3, lambda key, turn, name: chance("used", key, str(turn), name), deterministic=True
        )
        execute(
            "UPDATE slots SET unused = ? WHERE number IN (SELECT number FROM slots JOIN"
            " (SELECT position, key, row_number() OVER (PARTITION BY key ORDER BY position) AS turn FROM dealt)"
            " USING (position) WHERE end = 'accepted' AND unused = ''"
            " ORDER BY dice(key, turn, id), number LIMIT -1 OFFSET ?)",
            (OVER, most),
        )

    def check(self) -> None:
        """See that no slot is open any more.

        Raises:
            AssertionError: one is: a fault of this program.
        """
        (left,) = self._connection.execute("SELECT count(*) FROM slots WHERE end = ''").fetchone()
        if left:
            raise AssertionError(f"{left} slots have no end")

    def counts(self) -> Iterator[tuple[str, str, str, str, int]]:
        """Yield (recipe, end, reason, why unused, how many), in a fixed order."""
        yield from self._connection.execute(
            "SELECT recipe, end, reason, unused, count(*) FROM slots GROUP BY 1, 2, 3, 4 ORDER BY 1, 2, 3, 4"
        )

    def generators(self) -> list[str]:
        """Return who wrote, by name."""
        found = self._connection.execute("SELECT DISTINCT generator FROM slots WHERE generator != '' ORDER BY 1")
        return [name for (name,) in found]

    def failures(self, reason: str, why: str = "") -> tuple[int, str]:
        """Return how many are none for a reason, and the commonest cause; where `why` is given, of that cause alone."""
        asked = (
            "SELECT sum(count(*)) OVER (), why FROM slots WHERE end = 'none' AND reason = ? AND ? IN ('', why)"
            " GROUP BY why ORDER BY count(*) DESC, why LIMIT 1"
        )
        found: tuple[int, str] | None = self._connection.execute(asked, (reason, why)).fetchone()
        return found or (0, "")

    def strays(self) -> tuple[int, str]:
        """Return how many lines of what was written before are for no row, and what the first of them says."""
        asked = "SELECT count(*) OVER (), why FROM slots WHERE reason = ? AND position = -1 ORDER BY number LIMIT 1"
        found: tuple[int, str] | None = self._connection.execute(asked, (NO_ROW,)).fetchone()
        return found or (0, "")

    def passed_over(self) -> tuple[int, str]:
        """Return how many rows share the query or its id with an earlier one that took the lines, and the first."""
        return self._passed_over

    def difficulties(self) -> list[float]:
        """Return how hard those are that are used: the lowest, the quartiles, the highest; empty without any."""
        used = "FROM slots WHERE end = 'accepted' AND unused = '' AND difficulty IS NOT NULL"
        (number,) = self._connection.execute(f"SELECT count(*) {used}").fetchone()
        at = f"SELECT difficulty {used} ORDER BY difficulty LIMIT 1 OFFSET ?"
        places = [quarter * (number - 1) // 4 for quarter in range(5)] if number else []
        return [self._connection.execute(at, (place,)).fetchone()[0] for place in places]


@contextmanager
def open_slots(path: Path) -> Iterator[Slots]:
    """Begin an empty file of slots."""
    path.parent.mkdir(parents=True, exist_ok=True)
    path.unlink(missing_ok=True)
    with closing(sqlite3.connect(path)) as connection:
        connection.execute("PRAGMA journal_mode = OFF")
        connection.execute("PRAGMA synchronous = OFF")
        connection.execute(f"CREATE TABLE slots ({_COLUMNS})")
        connection.execute("CREATE INDEX rows ON slots (position, number)")
        yield Slots(connection)


def ended(verdict: Verdict) -> tuple[End, str]:
    """Return how a judged slot ends, and by which reason it is counted."""
    match verdict.outcome:
        case "true negative":
            return "accepted", ""
        case "false negative":
            return "refused", "judged relevant"
        case "partial":
            return "refused", "judged partial"
        case "void":
            return "refused", "repeated"
        case "undecided":
            return "none", "undecided"


def _reasoned(verdict: Verdict) -> str:
    """Return what the judge gave as its reason, or why there is no verdict."""
    said = verdict.judgment.rationale if verdict.judgment is not None else ""
    return verdict.evidence if verdict.outcome == "undecided" else said


def passages(slots: Iterable[Slot]) -> tuple[Passage, ...]:
    """Return the passages of slots."""
    return tuple([slot.gated.passage for slot in slots])


# -- what somebody has written before ----------------------------------------------------------------------------


def _missed(line: int, key: str, like: str) -> str:
    """Say which row a line was for, and which one it may have meant."""
    field, wanted = (
        ("query_id", key.removeprefix(_BY_ID)) if key.startswith(_BY_ID) else ("query", key[len(_BY_TEXT) :])
    )
    near = f"; the row with its query has the query_id {like!r}" if like else ""
    return f"line {line}: no row has the {field} {wanted[:200]!r}{near}"


def _lines(path: Path) -> Iterator[tuple[Written, int, str, str]]:
    """Yield what each line holds, its number, by what its row is found, and the query that stands beside a query_id."""
    try:
        with path.open("rb") as lines:
            for number, line in enumerate(iter(lambda: lines.readline(_LONGEST + 1), b""), start=1):
                if line.strip():
                    one, key, beside = _line(line, path, number)
                    yield one, number, key, beside
    except OSError as error:
        told = f"{path}: cannot read what was written: {error.strerror or error}"
        raise InputError(told, hint="check `written:` in the settings") from error


def _line(line: bytes, path: Path, number: int) -> tuple[Written, str, str]:
    if len(line) > _LONGEST:
        raise RowError(f"longer than {_LONGEST // 2**20} MiB", path=path, line=number, hint=_HINT)
    try:
        row = json.loads(line.decode("utf-8-sig" if number == 1 else "utf-8"))
    except (ValueError, RecursionError) as error:
        raise RowError(f"not JSON in UTF-8: {error}", path=path, line=number, hint=_HINT) from error
    if not isinstance(row, dict):
        raise RowError("not an object", path=path, line=number, hint=_HINT)
    told: dict[str, Any] = {name: row[name] for name in _TEXTS if row.get(name) is not None}
    if type(told.get("query_id")) is int:  # as in rows
        told["query_id"] = str(told["query_id"])
    wrong = next((name for name, value in told.items() if not isinstance(value, str)), None)
    if wrong is not None:
        raise RowError("not text", path=path, line=number, field=wrong, hint=_HINT)
    half = next((name for name, value in told.items() if _HALF.search(value)), None)
    if half is not None:
        raise RowError("half a character (a lone surrogate)", path=path, line=number, field=half, hint=_HINT)
    told |= {name: visible(told[name]) for name in ("text", "title") if name in told}  # as a model's replies are
    query_id, query = told.pop("query_id", ""), told.pop("query", "")
    if not (query_id or query):
        raise RowError("missing", path=path, line=number, field="query_id", hint=_HINT)
    if "text" not in told and not told.get("failure"):
        raise RowError("missing", path=path, line=number, field="text", hint=_HINT)
    probability = row.get("probability")
    if not (probability is None or (isinstance(probability, int | float) and 0 <= probability <= 1)):
        raise RowError("not a number from 0 to 1", path=path, line=number, field="probability", hint=_HINT)
    by_text = _BY_TEXT + query
    told.setdefault("recipe", "written")
    one = Written(position=-1, probability=probability, **told)
    return (one, _BY_ID + query_id, by_text if query else "") if query_id else (one, by_text, "")
