"""The files that a batch comes back as: one line for each request, in any order, perhaps damaged."""

import json
from collections import Counter
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Final

from relabel.engines.batch_files import lines_of, missing
from relabel.engines.batch_ledger import Entry, Result
from relabel.engines.service import Trouble
from relabel.errors import ServiceError

BROKEN: Final = "broken lines"
SILENT: Final = "lines that say nothing of their request"
OK: Final = 200

Meaning = Callable[[Entry, int, object], Trouble | ServiceError]
"""Says what a status and a body mean for a request."""

Clean = Callable[[str], str]
"""Returns the service's words as one short line without the key."""


@dataclass(slots=True)
class Read:
    """What the files of one batch say.

    Attributes:
        results: by address; an answer wins over every other line about the same request.
        oddities: lines that are not as they should be, by kind; each was survived.
        hopeless: what every other request would suffer too, should a line say so.
        rejected: how many requests the service takes to be wrong; `said` are its words about the last of them.
    """

    results: dict[str, Result] = field(default_factory=dict)
    oddities: Counter[str] = field(default_factory=Counter)
    hopeless: ServiceError | None = None
    rejected: int = 0
    said: str = ""

    def add_file(self, path: Path, kind: str, waiting: Mapping[str, Entry], meaning: Meaning, clean: Clean) -> None:
        """Read a file; `waiting` are the requests of its batch."""
        for start, line in lines_of(path):
            if not line.strip():
                continue
            row = _row(line)
            if row is None:
                self.oddities[BROKEN] += 1
                continue
            entry = waiting.get(row.address)
            if entry is None:
                self.oddities["lines about no request of the batch"] += 1
                continue
            if row.status is None and not row.said:
                self.oddities[SILENT] += 1
                continue
            known = self.results.get(row.address)
            if known is not None:
                self.oddities["lines about a request that had one"] += 1
                if known.outcome == "answered" or row.status != OK:
                    continue
            row = replace(row, said=clean(row.said))
            self.results[row.address] = self._result(entry, row, kind, start, len(line), meaning)

    def _result(self, entry: Entry, row: "_Row", kind: str, start: int, size: int, meaning: Meaning) -> Result:
        if row.status == OK:
            return Result(entry.address, "answered", kind, start, size)
        if row.status is None:
            return Result(entry.address, "again", kind, start, size, detail=row.said)
        problem = meaning(entry, row.status, row.body)
        if isinstance(problem, ServiceError):
            self.hopeless = problem
            return Result(entry.address, "again", kind, start, size, detail=problem.message)
        if problem.rule.retry:
            return Result(entry.address, "again", kind, start, size, detail=problem.detail)
        self.rejected += problem.rejected
        self.said = problem.detail if problem.rejected else self.said
        return Result(entry.address, "failed", kind, start, size, problem.rule.outcome, problem.detail)

    @property
    def answered(self) -> int:
        """How many requests have an answer."""
        return sum(result.outcome == "answered" for result in self.results.values())


@dataclass(frozen=True, slots=True)
class _Row:
    """One line: whose it is, and the status and body of the answer, or (None) why it was never asked."""

    address: str
    status: int | None
    body: object
    said: str


def _row(line: bytes) -> _Row | None:
    """Read a line; None for one that says nothing about anybody."""
    try:
        told = json.loads(line)
    except (ValueError, RecursionError):
        return None
    address = told.get("custom_id") if isinstance(told, dict) else None
    if not isinstance(address, str):
        return None
    response, error = told.get("response"), told.get("error")
    status = _status(response.get("status_code")) if isinstance(response, dict) else None
    if isinstance(response, dict) and status is not None:
        return _Row(address, status, response.get("body"), "")
    words = (error.get("code"), error.get("message")) if isinstance(error, dict) else (error,)
    return _Row(address, None, None, ": ".join(str(part) for part in words if part))


def _status(value: object) -> int | None:
    """Read an HTTP status, as a number or in words; None for what is none."""
    if isinstance(value, str) and len(value) == 3 and value.isascii() and value.isdigit():
        value = int(value)
    return value if isinstance(value, int) and 100 <= value <= 599 else None


def completion_in(line: bytes, path: Path) -> bytes:
    """Return the body of the answer in a result's line, as bytes of JSON.

    Raises:
        RunError: the line, from the file at `path`, is not what it was.
    """
    try:
        return json.dumps(json.loads(line)["response"].get("body")).encode()
    except (ValueError, RecursionError, TypeError, KeyError, AttributeError) as error:
        raise missing(path, "is damaged") from error
