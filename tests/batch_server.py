"""OpenAI's Batch API as a server that misbehaves on purpose, for tests over a real socket.

From Python: `with BatchServer(fate=lambda number: Fate("expired", share=0.5)) as server: server.url`. As a process of
its own, for tests that kill its clients: `python tests/batch_server.py --seed 1` prints its address, and `/stats` says
what was billed. A row is billed when it is answered, whoever fetches the answer.
"""

import argparse
import asyncio
import json
import socket
import threading
import time
from collections import Counter, deque
from collections.abc import Awaitable, Callable, Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any, Final, Self

import uvicorn
from server import Answer, Body, Torn, completion, content_key, hang, oracle, refuse
from starlette.applications import Starlette
from starlette.datastructures import UploadFile
from starlette.requests import Request
from starlette.responses import HTMLResponse, JSONResponse, Response
from starlette.routing import Route

from relabel.records import chance

FIELDS: Final = {"custom_id", "method", "url", "body"}
NOT_NOW: Final[Mapping[str, Callable[[], Response]]] = {
    "error": lambda: refuse(500, "The server had an error"),
    "rate limit": lambda: refuse(429, "Rate limit reached", headers={"retry-after-ms": "5"}),
    "page": lambda: HTMLResponse("<html><h1>502 Bad Gateway</h1></html>", 502),
    "page in 200": lambda: HTMLResponse("<html>Please log in</html>"),
    "no json": lambda: Response("oops", media_type="application/json"),
    "reset": lambda: Torn(b""),
    "cut": lambda: Torn(b'{"id": "half a'),
    "key": lambda: refuse(401, "Incorrect API key"),
    "rejected": lambda: refuse(400, "Invalid value: completion_window"),
    "gone": lambda: refuse(404, "No such thing"),
}
"""Answers of a call that fail it; "late " before one of them: after the call has done its work."""

ROWS: Final = {
    "error": (500, {"message": "The server had an error", "code": "server_error"}),
    "rate limit": (429, {"message": "Rate limit reached", "code": "rate_limit_exceeded"}),
    "no credit": (429, {"message": "You exceeded your current quota", "code": "insufficient_quota"}),
    "rejected": (400, {"message": "Unsupported parameter: 'top_logprobs'", "code": "unsupported_parameter"}),
    "too long": (400, {"message": "maximum context length is 10 tokens", "code": "context_length_exceeded"}),
    "filtered": (400, {"message": "The prompt triggered the policy", "code": "content_filter"}),
}
"""Rows that come back in the error file with a status; "lost" ones come back in no file."""


@dataclass(frozen=True, slots=True)
class Fate:
    """What becomes of a batch.

    Attributes:
        end: its last status; "failed" with `errors`.
        share: of its rows that are answered before that; the others are not, and come back as expired or cancelled.
        before: its status until then.
        shuffled, doubled, foreign, broken: whether the rows come in another order, every third twice, one about nobody,
            and one more that is not JSON.
        torn: how many downloads of its files are cut short without anybody noticing.
        late: how many looks at it, once it has ended, name no file yet.
        listed: whether rows that were not answered come back in the error file.
        errors: of a batch that fails: code and message.
    """

    end: str = "completed"
    share: float = 1.0
    before: str = "in_progress"
    shuffled: bool = False
    doubled: bool = False
    foreign: bool = False
    broken: bool = False
    torn: int = 0
    late: int = 0
    listed: bool = True
    errors: tuple[tuple[str, str], ...] = ()


@dataclass(slots=True)
class Batch:
    """One batch at the server."""

    number: int
    document: Body
    fate: Fate
    rows: list[Body]
    ends: float
    torn: int
    tokens: int
    done: bool = False
    looks: int = 0


@dataclass(slots=True)
class Said:
    """What came of the rows of one batch: lines of its two files."""

    output: list[str] = field(default_factory=list)
    errors: list[str] = field(default_factory=list)
    answered: int = 0


class BatchServer:
    """The server, in a thread; everything it counts can be read while it runs.

    Attributes:
        answer: what is said of a row that is answered.
        fate: of the batch with this number, from 0.
        row: what goes wrong with the row of this content (digest of its messages) at this attempt, from 1: "" or a name
            in ROWS or "lost".
        seconds: how long a batch takes.
        queue: the most prompt words that may be under way; None = any.
        billed: how often each content was answered, and so paid for.
        tried: how often each content was in a batch that was not refused.
        calls: how often each call was made: upload, create, retrieve, list, download.
        faults: of each call, what is wrong with the next ones: names in NOT_NOW, "late NAME", "hang", "" = nothing.
        batches, files: all there ever were, by id.
    """

    def __init__(
        self,
        answer: Answer | None = None,
        *,
        fate: Callable[[int], Fate] = lambda _: Fate(),
        row: Callable[[str, int], str] = lambda *_: "",
        seconds: float = 0.0,
        queue: int | None = None,
        latency: float = 0.0,
    ) -> None:
        self.answer, self.fate, self.row = answer or oracle, fate, row
        self.seconds, self.queue, self.latency = seconds, queue, latency
        self.billed: Counter[str] = Counter()
        self.tried: Counter[str] = Counter()
        self.calls: Counter[str] = Counter()
        self.faults: dict[str, deque[str]] = {}
        self.batches: dict[str, Batch] = {}
        self.files: dict[str, bytes] = {}
        self.authorizations: set[str] = set()
        routes = [
            Route("/v1/files", self._call("upload", self._upload), methods=["POST"]),
            Route("/v1/files/{id}/content", self._call("download", self._download)),
            Route("/v1/batches", self._call("create", self._create), methods=["POST"]),
            Route("/v1/batches", self._call("list", self._list)),
            Route("/v1/batches/{id}", self._call("retrieve", self._retrieve)),
            Route("/v1/batches/{id}/cancel", self._call("cancel", self._cancel), methods=["POST"]),
            Route("/stats", self._stats),
        ]
        config = uvicorn.Config(
            Starlette(routes=routes), log_level="critical", access_log=False, ws="none", lifespan="off"
        )
        self._server = uvicorn.Server(config)
        self._socket = socket.socket(proto=socket.IPPROTO_TCP)  # see FakeServer
        self._socket.bind(("127.0.0.1", 0))
        self._socket.listen(64)
        self._thread = threading.Thread(target=self.run, name="batch-server", daemon=True)
        self._lock = threading.Lock()

    @property
    def url(self) -> str:
        """The `base_url` for a client."""
        return f"http://127.0.0.1:{self._socket.getsockname()[1]}/v1"

    def run(self) -> None:
        """Serve until told to stop."""
        self._server.run(sockets=[self._socket])

    def __enter__(self) -> Self:
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._server.should_exit = self._server.force_exit = True
        self._thread.join()
        self._socket.close()

    def spoil(self, call: str, *kinds: str) -> None:
        """Have the next calls of this name fail, one way each."""
        self.faults.setdefault(call, deque()).extend(kinds)

    def statuses(self) -> list[str]:
        """Return the statuses of all batches, oldest first."""
        return [self._brought_on(batch).document["status"] for batch in list(self.batches.values())]

    # -- calls -------------------------------------------------------------------------------------------

    def _call(
        self, name: str, work: Callable[[Request], Awaitable[Response]]
    ) -> Callable[[Request], Awaitable[Response]]:
        async def answer(request: Request) -> Response:
            self.calls[name] += 1
            self.authorizations.add(request.headers.get("authorization", ""))
            if self.latency:
                await asyncio.sleep(self.latency)
            waiting = self.faults.get(name)
            fault = waiting.popleft() if waiting else ""
            if fault == "hang":
                return await hang(request)
            if fault and not fault.startswith("late "):
                return NOT_NOW[fault]()
            done = await work(request)
            if self.latency:
                await asyncio.sleep(self.latency)
            return NOT_NOW[fault.removeprefix("late ")]() if fault else done

        return answer

    async def _upload(self, request: Request) -> Response:
        async with request.form() as form:
            file, purpose = form["file"], form["purpose"]
            assert isinstance(file, UploadFile)
            if purpose != "batch":
                return refuse(400, "this server takes files for batches")
            identity = f"file-{len(self.files)}"
            self.files[identity] = await file.read()
            return JSONResponse({"id": identity, "object": "file", "purpose": purpose, "filename": file.filename})

    async def _create(self, request: Request) -> Response:
        asked = await request.json()
        if asked["input_file_id"] not in self.files:
            return refuse(404, "No such File object")
        number = len(self.batches)
        fate = self.fate(number)
        document = {
            "id": f"batch_{number:04}",
            "object": "batch",
            "endpoint": asked["endpoint"],
            "input_file_id": asked["input_file_id"],
            "completion_window": asked["completion_window"],
            "status": "validating",
            "created_at": int(time.time()),
            "metadata": asked.get("metadata"),
            "output_file_id": None,
            "error_file_id": None,
            "errors": None,
            "request_counts": {"total": 0, "completed": 0, "failed": 0},
        }
        rows, problems = checked(self.files[asked["input_file_id"]], asked["endpoint"])
        tokens = sum(words_in(row) for row in rows)
        under_way = sum(batch.tokens for batch in self.batches.values() if not self._brought_on(batch).done)
        if self.queue is not None and under_way + tokens > self.queue:
            words = f"Enqueued token limit reached for m. Limit: {self.queue:,} enqueued tokens."
            problems = [("token_limit_exceeded", words)]
        if fate.end == "failed":
            problems = list(fate.errors)
        ends = time.time() + self.seconds
        batch = Batch(number, document, fate, rows, ends, fate.torn, tokens)
        if problems:
            told = [{"code": code, "message": message, "line": None} for code, message in problems]
            document |= {"status": "failed", "errors": {"object": "list", "data": told}}
            batch.done = True
        self.batches[document["id"]] = batch
        return JSONResponse(document if problems else document | {"status": "validating"})

    async def _retrieve(self, request: Request) -> Response:
        batch = self.batches.get(request.path_params["id"])
        if batch is None:
            return refuse(404, "No such batch")
        document = dict(self._brought_on(batch).document)
        batch.looks += batch.done
        if batch.done and batch.looks <= batch.fate.late:
            document |= {"output_file_id": None, "error_file_id": None}
        return JSONResponse(document)

    async def _list(self, request: Request) -> Response:
        newest = [self._brought_on(batch).document for batch in reversed(self.batches.values())]
        after = request.query_params.get("after")
        start = next((place + 1 for place, one in enumerate(newest) if one["id"] == after), 0)
        page = newest[start : start + int(request.query_params.get("limit", 20))]
        return JSONResponse({"object": "list", "data": page, "has_more": start + len(page) < len(newest)})

    async def _cancel(self, request: Request) -> Response:
        batch = self.batches[request.path_params["id"]]
        self._brought_on(batch).document["status"] = "cancelling"
        return JSONResponse(batch.document)

    async def _download(self, request: Request) -> Response:
        content = self.files.get(request.path_params["id"])
        if content is None:
            return refuse(404, "No such File object")
        for batch in self.batches.values():
            if request.path_params["id"] == batch.document["output_file_id"] and batch.torn:
                batch.torn -= 1
                content = content[: int(len(content) * 0.6)]
        return Response(content, media_type="application/octet-stream")

    async def _stats(self, _: Request) -> Response:
        return JSONResponse(
            {"billed": dict(self.billed), "tried": dict(self.tried), "calls": dict(self.calls), "of": self.statuses()}
        )

    # -- batches -----------------------------------------------------------------------------------------

    def _brought_on(self, batch: Batch) -> Batch:
        """Bring a batch to where it would be by now."""
        with self._lock:
            if batch.done:
                return batch
            total = len(batch.rows)
            if time.time() < batch.ends:
                batch.document |= {"status": batch.fate.before}
                batch.document["request_counts"] = {"total": total, "completed": 0, "failed": 0}
                return batch
            batch.done = True
            said = self._asked(batch)
            for name, lines in (("output_file_id", said.output), ("error_file_id", said.errors)):
                if lines:
                    batch.document[name] = f"file-{len(self.files)}"
                    self.files[batch.document[name]] = "".join(lines).encode()
            counts = {"total": total, "completed": said.answered, "failed": total - said.answered}
            batch.document |= {"status": batch.fate.end, "request_counts": counts}
            return batch

    def _asked(self, batch: Batch) -> Said:
        """Ask, and bill, the rows of a batch; return its files."""
        said = Said()
        for place, row in enumerate(batch.rows):
            key = content_key(row["body"]["messages"])
            self.tried[key] += 1
            if place >= batch.fate.share * len(batch.rows):
                if batch.fate.listed:
                    error = {"code": f"batch_{batch.fate.end}", "message": "This request could not be executed."}
                    said.errors.append(line_of(row, None, error))
                continue
            fault = self.row(key, self.tried[key])
            if fault in ROWS:
                status, error = ROWS[fault]
                said.errors.append(line_of(row, {"status_code": status, "body": {"error": error}}, None))
            if fault:
                continue
            answer = self.answer(row["body"]["messages"], row["body"])
            whole = completion(answer, row["body"]) if isinstance(answer, str) else answer
            self.billed[key] += 1
            said.answered += 1
            said.output.append(line_of(row, {"status_code": 200, "request_id": "r", "body": whole}, None))
        if batch.fate.shuffled:
            said.output.sort(key=lambda line: chance("shuffle", line))
        if batch.fate.doubled:
            said.output = [line for place, line in enumerate(said.output) for _ in range(2 if place % 3 == 0 else 1)]
        if batch.fate.foreign:
            said.output.insert(0, line_of({"custom_id": "nobody"}, {"status_code": 200, "body": {}}, None))
        if batch.fate.broken:
            said.output.insert(len(said.output) // 2, '{"id": "batch_req_x", "custom_id": "hal\n')
        return said


def checked(content: bytes, endpoint: str) -> tuple[list[Body], list[tuple[str, str]]]:
    """Read a file of requests as strictly as the service does; return its rows, and what is wrong with it."""
    rows: list[Body] = []
    for line in content.decode("ascii").splitlines():
        row = json.loads(line)
        if row.keys() != FIELDS or (row["method"], row["url"]) != ("POST", endpoint):
            return [], [("invalid_request", f"fields {sorted(row)}")]
        rows.append(row)
    if not rows:
        return [], [("empty_file", "The batch input file is empty")]
    if len({row["custom_id"] for row in rows}) < len(rows):
        return [], [("duplicate_custom_id", "custom_id stands twice")]
    if len({row["body"]["model"] for row in rows}) > 1:
        return [], [("mismatched_model", "several models")]
    return rows, []


def words_in(row: Body) -> int:
    """Count the words of a row's prompt: the tokens of this server."""
    return sum(len(message["content"].split()) for message in row["body"]["messages"])


def line_of(row: Mapping[str, Any], response: Body | None, error: Body | None) -> str:
    """Return a line of a result file."""
    told = {"id": "batch_req_1", "custom_id": row["custom_id"], "response": response, "error": error}
    return json.dumps(told) + "\n"


def at_random(seed: int, share: float) -> Callable[[int], Fate]:
    """Return fates of which this share is bad, each kind in turn; what is bad depends on seed and number alone."""
    bad = (
        Fate("expired", 0.5),
        Fate("cancelled", 0.3, listed=False),
        Fate("completed", shuffled=True, doubled=True, foreign=True),
        Fate("completed", 0.8, listed=False),
        Fate("completed", torn=1),
        Fate("expired", 0.0),
        Fate("failed", errors=(("token_limit_exceeded", "Enqueued token limit reached"),)),
    )

    def fate(number: int) -> Fate:
        if chance("fate", str(seed), str(number)) >= share:
            return Fate()
        return bad[int(chance("which", str(seed), str(number)) * len(bad))]

    return fate


def main() -> None:
    """Serve from the command line until killed; the first line printed is the address."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--bad", type=float, default=0.0, help="share of batches that go wrong, 0 to 1")
    parser.add_argument("--rows", type=float, default=0.0, help="share of rows whose first attempt goes wrong, 0 to 1")
    parser.add_argument("--late", type=float, default=0.0, help="share of creations whose answer is lost, 0 to 1")
    parser.add_argument("--seconds", type=float, default=0.0, help="how long a batch takes")
    parser.add_argument("--latency", type=float, default=0.0, help="seconds before and after the work of each call")
    options = parser.parse_args()

    def row(key: str, attempt: int) -> str:
        spoilt = attempt == 1 and chance("row", str(options.seed), key) < options.rows
        return ("error", "rate limit", "lost")[int(chance("how", key) * 3)] if spoilt else ""

    def lost() -> Iterator[str]:
        for number in range(10_000):
            spoilt = chance("late", str(options.seed), str(number)) < options.late
            yield ("late reset", "late error")[number % 2] if spoilt else ""

    server = BatchServer(
        fate=at_random(options.seed, options.bad), row=row, seconds=options.seconds, latency=options.latency
    )
    server.spoil("create", *lost())
    print(server.url, flush=True)  # noqa: T201 - how the caller learns the address
    server.run()


if __name__ == "__main__":
    main()
