"""An engine that answers from recorded replies: published runs, examples, tests. It is part of the product.

A recording is a JSONL file, one reply a line: `{"judge", "template", "query_id", "candidate_ids": [...], "reply"}`, and
where they apply `"failure"`, `"finish_reason"` and `"probabilities"`.
`candidate_ids` stand in the order in which the recorded prompt numbered them. A request is answered by the
recording of the same judge, template, query and ordered candidates; failing that, by one of a larger group in which
the request's candidates stand in the same order (the reply is then marked as replayed). What has no recording ends as
"no recording", never as an old answer to another question.
"""

import gzip
import hashlib
import json
import zlib
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Final

from relabel.errors import InputError, RowError
from relabel.protocols import Reply, Request, Usage
from relabel.records import NOTHING

_Key = tuple[str, str, str]

_LONGEST: Final = 64 * 1024 * 1024
"""Bytes of a line."""

_HINT: Final = 'one object a line: {"judge", "template", "query_id", "candidate_ids", "reply"}'


@dataclass(frozen=True, slots=True)
class Recording:
    """One recorded reply and the candidates it numbers."""

    candidate_ids: tuple[str, ...]
    text: str | None
    failure: str = ""
    finish_reason: str = ""
    probabilities: Mapping[str, float] = field(default_factory=lambda: NOTHING)


class ScriptedEngine:
    """Answers from the recordings in `path`, for the judge called `judge`.

    Raises:
        InputError: the file is missing or a line of it is not a recording.
    """

    def __init__(self, path: Path, judge: str = "") -> None:
        self._recordings, self._judge = _read(path), judge
        self._content = hashlib.sha256(path.read_bytes()).hexdigest()

    @property
    def identity(self) -> Mapping[str, Any]:
        """The judge stands for the model, since two recorded judges say different things; the file for its version."""
        return {"engine": "scripted", "judge": self._judge, "replies": self._content}

    def answer(self, requests: Iterable[Request]) -> Iterator[Reply]:
        """Answer each request as it comes."""
        for request in requests:
            found = self._find(request)
            if found is None:
                # retryable: a recording may be added, and then it should be found
                yield Reply(request, None, "no recording", f"query {request.query_id}", retryable=True)
            else:
                yield Reply(
                    request,
                    found.text,
                    found.failure,
                    finish_reason=found.finish_reason,
                    model="recorded",
                    probabilities=found.probabilities,
                    usage=Usage(),
                    candidate_ids=() if found.candidate_ids == request.candidate_ids else found.candidate_ids,
                )

    def _find(self, request: Request) -> Recording | None:
        known = self._recordings.get((request.judge, request.template, request.query_id), {})
        exact = known.get(request.candidate_ids)
        if exact is not None:
            return exact
        return next((found for ids, found in known.items() if _in_order(request.candidate_ids, ids)), None)


def _in_order(part: tuple[str, ...], whole: tuple[str, ...]) -> bool:
    """Whether `part` is a subsequence of `whole`, and in one way only: an id that stands twice names nobody."""
    rest = iter(whole)
    return len(set(whole)) == len(whole) and all(name in rest for name in part)


def _read(path: Path) -> dict[_Key, dict[tuple[str, ...], Recording]]:
    recordings: dict[_Key, dict[tuple[str, ...], Recording]] = {}
    try:
        with gzip.open(path, "rb") if path.suffix == ".gz" else path.open("rb") as lines:
            # of a line without an end no more is held than of one that is too long
            for number, line in enumerate(iter(lambda: lines.readline(_LONGEST + 1), b""), start=1):
                if len(line) > _LONGEST:
                    raise RowError(f"longer than {_LONGEST // 2**20} MiB", path=path, line=number, hint=_HINT)
                if line.strip():
                    key, recording = _parse(line, path, number)
                    recordings.setdefault(key, {})[recording.candidate_ids] = recording
    except (OSError, EOFError, zlib.error) as error:
        raise InputError(f"{path}: cannot read the recorded replies: {error}", hint="check `replies:`") from error
    return recordings


def _parse(line: bytes, path: Path, number: int) -> tuple[_Key, Recording]:
    try:
        row = json.loads(line.decode("utf-8-sig" if number == 1 else "utf-8"))
    except (ValueError, RecursionError) as error:
        raise RowError(f"not JSON in UTF-8: {error}", path=path, line=number, hint=_HINT) from error
    if not isinstance(row, dict):
        raise RowError("not an object", path=path, line=number, hint=_HINT)
    for name in ("judge", "template", "query_id"):
        if not isinstance(row.get(name), str):
            raise RowError("missing, or not a string", path=path, line=number, field=name, hint=_HINT)
    ids = row.get("candidate_ids")
    if not isinstance(ids, list) or not all(isinstance(one, str) for one in ids):
        raise RowError("missing, or not a list of strings", path=path, line=number, field="candidate_ids", hint=_HINT)
    text, failure, probabilities = row.get("reply"), row.get("failure") or "", row.get("probabilities") or {}
    if not (isinstance(text, str) or (text is None and failure)):
        raise RowError("missing, or not a string", path=path, line=number, field="reply", hint=_HINT)
    if not isinstance(probabilities, dict) or not all(isinstance(p, int | float) for p in probabilities.values()):
        raise RowError("not an object of numbers", path=path, line=number, field="probabilities", hint=_HINT)
    recording = Recording(tuple(ids), text, str(failure), str(row.get("finish_reason") or ""), probabilities)
    return (row["judge"], row["template"], row["query_id"]), recording
