"""An OpenAI-compatible server that misbehaves on purpose, for tests over a real socket.

From Python: `with FakeServer(plan=Plan(share=0.3, seed=1)) as server: server.url`. As a process of its own, for
tests that kill things: `python tests/server.py --port 0 --faults 0.3 --seed 1` prints its address, and `/stats`
says what was asked. What a request gets depends on its messages and the seed, never on the order of arrival, but for
a limit of the rate, if one is set.
"""

import argparse
import asyncio
import json
import math
import re
import socket
import threading
import time
from collections import Counter, deque
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from email.utils import format_datetime
from typing import Any, Final, Self

import uvicorn
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import HTMLResponse, JSONResponse, Response, StreamingResponse
from starlette.routing import Route
from starlette.types import Receive, Scope, Send

from relabel.records import chance, digest

Body = dict[str, Any]
Answer = Callable[[Sequence[Mapping[str, str]], Body], "str | Body"]
"""What is answered: a text, which becomes a whole completion, or the completion itself."""

TRANSIENT: Final = (
    "rate limit", "rate limit ms", "rate limit date", "rate limit bare", "timeout", "conflict", "error", "busy", "page",
    "hang", "cut", "reset",
)  # fmt: skip
"""Faults that clear when the same messages are sent again."""

PERMANENT: Final = ("refusal", "broken", "length", "empty", "usage")
"""Faults of the answer itself: the same messages get them every time."""


class Bucket:
    """A limit of requests as OpenAI keeps it: so many a minute flow in, and room is for those of one second.

    Attributes:
        refused: how many requests it refused.
    """

    def __init__(self, per_minute: float) -> None:
        self._rate = per_minute / 60
        self._room = self._level = max(1.0, self._rate)
        self._at = time.monotonic()
        self.refused = 0

    def take(self) -> bool:
        """Take one if there is one."""
        now = time.monotonic()
        self._level = min(self._room, self._level + self._rate * (now - self._at))
        self._at = now
        fits = self._level >= 1
        if fits:
            self._level -= 1
        else:
            self.refused += 1
        return fits

    @property
    def headers(self) -> dict[str, str]:
        """What the server says of it: what is left, and in how long all of it will be back."""
        back = (self._room - self._level) / self._rate
        return {
            "x-ratelimit-limit-requests": f"{self._rate * 60:.0f}",
            "x-ratelimit-remaining-requests": f"{self._level:.0f}",
            "x-ratelimit-reset-requests": f"{back * 1000:.0f}ms" if back < 1 else f"{back:.3f}s",
        }

    def refuse(self) -> Response:
        """Ask to wait until the next one is there: in milliseconds, in seconds or by a date, in turn."""
        wait = (1 - self._level) / self._rate
        whole = datetime.now(UTC) + timedelta(seconds=math.ceil(wait))
        forms = (
            {"retry-after-ms": f"{wait * 1000:.0f}"},
            {"retry-after": str(math.ceil(wait))},
            {"retry-after": format_datetime(whole, usegmt=True)},
        )
        return refuse(429, "Rate limit reached", headers=forms[self.refused % 3])


@dataclass(frozen=True, slots=True)
class Plan:
    """Which requests go wrong, and how.

    Attributes:
        share: of all different messages, in [0, 1].
        kinds: the faults, equally probable; any name that `FakeServer.fault` knows.
        seed: another seed, other victims.
        clears_after: how many attempts a transient fault spoils.
    """

    share: float = 0.0
    kinds: tuple[str, ...] = TRANSIENT + PERMANENT
    seed: int = 0
    clears_after: int = 1

    def fault(self, key: str, attempt: int) -> str:
        """Return the fault of the attempt (from 1) at the messages with this key, "" for none."""
        if chance("whether", str(self.seed), key) >= self.share:
            return ""
        kind = self.kinds[int(chance("which", str(self.seed), key) * len(self.kinds))]
        return "" if kind in TRANSIENT and attempt > self.clears_after else kind


class FakeServer:
    """The server, in a thread; everything it counts can be read while it runs.

    Attributes:
        answer: what is said when nothing goes wrong.
        embed: what comes for texts when nothing goes wrong.
        plan: what goes wrong.
        latency: seconds before each answer.
        asked: how often each content (digest of the messages) was asked.
        refused: how often each was refused for the rate.
        paid: how often each was answered with status 200, whole or torn; embeddings are not counted.
        torn: how often each was answered with status 200 and the connection dropped before the end.
        bucket: the limit of requests, None = none; with `headers` it says how much is left.
        bodies: the last requests, oldest first.
        most_at_once: the highest number of requests in flight.
    """

    def __init__(
        self,
        answer: Answer | None = None,
        *,
        plan: Plan | None = None,
        latency: float = 0.0,
        port: int = 0,
        requests_per_minute: float | None = None,
        headers: bool = True,
    ) -> None:
        self.bucket = Bucket(requests_per_minute) if requests_per_minute else None
        self._headers = headers
        self.paid: Counter[str] = Counter()
        self.torn: Counter[str] = Counter()
        self.answer, self.plan, self.latency = answer or oracle, plan or Plan(), latency
        self.embed: Callable[[Body], Response] = lambda body: JSONResponse(embeddings(body))
        self.asked: Counter[str] = Counter()
        self.refused: Counter[str] = Counter()
        self.bodies: deque[Body] = deque(maxlen=200)
        self.at_once = self.most_at_once = 0
        routes = [
            Route("/v1/chat/completions", self._completions, methods=["POST"]),
            Route("/v1/embeddings", self._embeddings, methods=["POST"]),
            Route("/v1/models", self._models),
            Route("/stats", self._stats),
        ]
        config = uvicorn.Config(
            Starlette(routes=routes), log_level="critical", access_log=False, ws="none", lifespan="off"
        )
        self._server = uvicorn.Server(config)
        # asyncio turns off Nagle's algorithm only on sockets that say TCP; with it, an answer may take 40 ms more.
        self._socket = socket.socket(proto=socket.IPPROTO_TCP)
        self._socket.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        self._socket.bind(("127.0.0.1", port))
        self._socket.listen(1024)
        self._thread = threading.Thread(target=self.run, name="fake-server", daemon=True)

    @property
    def url(self) -> str:
        """The `base_url` for a client."""
        return f"http://127.0.0.1:{self._socket.getsockname()[1]}/v1"

    @property
    def total(self) -> int:
        """How many completions were asked for, retries included."""
        return self.asked.total()

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

    async def _models(self, _: Request) -> Response:
        return JSONResponse({"object": "list", "data": [{"id": "fake", "object": "model"}]})

    async def _stats(self, _: Request) -> Response:
        counts = {"total": self.total, "at_once": self.at_once, "most_at_once": self.most_at_once}
        by_content = {"by_content": dict(self.asked), "paid": dict(self.paid), "torn": dict(self.torn)}
        counts["again"] = sum(self.plan.fault(key, 1) in TRANSIENT for key in self.asked)
        return JSONResponse({**counts, "refused": self.refused.total(), **by_content})

    async def _completions(self, request: Request) -> Response:
        body = await request.json()
        key = content_key(body["messages"])
        self.asked[key] += 1
        self.bodies.append(body)
        with self._counted():
            if self.latency:
                await asyncio.sleep(self.latency)
            if self.bucket is None or self.bucket.take():
                kind = self.plan.fault(key, self.asked[key] - self.refused[key])
                response = await self.fault(kind, body, request) if kind else JSONResponse(self._completion(body))
                torn = isinstance(response, Torn)
                self.paid[key] += response.status_code == 200 and getattr(response, "body", None) != b""
                self.torn[key] += torn and response.body != b""
            else:
                self.refused[key] += 1
                response = self.bucket.refuse()
            if self.bucket is not None and self._headers:
                response.headers.update(self.bucket.headers)
            return response

    async def _embeddings(self, request: Request) -> Response:
        body = await request.json()
        key = digest(*body["input"]).hex()
        self.asked[key] += 1
        self.bodies.append(body)
        with self._counted():
            await asyncio.sleep(self.latency)
            kind = self.plan.fault(key, self.asked[key])
            return await self.fault(kind, body, request) if kind else self.embed(body)

    @contextmanager
    def _counted(self) -> Iterator[None]:
        self.at_once += 1
        self.most_at_once = max(self.most_at_once, self.at_once)
        try:
            yield
        finally:
            self.at_once -= 1

    def _completion(self, body: Body) -> Body:
        said = self.answer(body["messages"], body)
        return completion(said, body) if isinstance(said, str) else said

    async def fault(self, kind: str, body: Body, request: Request) -> Response:
        """Answer a request wrongly. A kind not listed here is a KeyError: a typo in a plan."""
        kinds: dict[str, Callable[[], Response | Awaitable[Response]]] = {
            "rate limit": lambda: refuse(429, "Rate limit reached, see /account/billing", headers={"retry-after": "1"}),
            "rate limit ms": lambda: refuse(429, "Rate limit reached", headers={"retry-after-ms": "30"}),
            "rate limit date": lambda: refuse(429, "Rate limit reached", headers={"retry-after": in_two_seconds()}),
            "rate limit bare": lambda: refuse(429, "Rate limit reached"),
            "too large": lambda: refuse(429, "Request too large for fake: Limit 10, Requested 20", code="tokens"),
            "timeout": lambda: refuse(408, "The request took too long"),
            "conflict": lambda: refuse(409, "The resource is locked"),
            "busy": lambda: refuse(503, "The model is loading", headers={"retry-after-ms": "30"}),
            "teapot": lambda: refuse(418, "I'm a teapot"),
            "proxy login": lambda: refuse(407, "Proxy Authentication Required"),
            "large": lambda: refuse(413, "Payload Too Large"),
            "error": lambda: refuse(500, "The server had an error"),
            "page": lambda: HTMLResponse("<html><h1>503 Service Unavailable</h1></html>", 503),
            "hang": lambda: hang(request),
            "drip": lambda: StreamingResponse(spaces(request, 1, pause=0.05)),
            "endless": lambda: StreamingResponse(spaces(request, 2**20)),
            "cut": lambda: Torn(b'{"id": "half a compl'),
            "reset": lambda: Torn(b""),
            "refusal": lambda: JSONResponse(altered(completion("", body), content=None, refusal="I can't help.")),
            "broken": lambda: JSONResponse(completion('{"verdict": "relev', body)),
            "length": lambda: JSONResponse(altered(self._completion(body), finish_reason="length")),
            "filter": lambda: JSONResponse(altered(self._completion(body), finish_reason="content_filter")),
            "no content": lambda: JSONResponse(altered(self._completion(body), content=None)),
            "empty": lambda: JSONResponse(self._completion(body) | {"choices": []}),
            "usage": lambda: JSONResponse(self._completion(body) | {"usage": {"prompt_tokens": "many"}}),
            "no usage": lambda: JSONResponse(self._completion(body) | {"usage": None}),
            "error in 200": lambda: JSONResponse({"error": {"message": "upstream is down", "code": 502}}),
            "page in 200": lambda: HTMLResponse("<html>Please log in</html>"),
            "no json": lambda: Response("oops", media_type="application/json"),
            "list": lambda: JSONResponse([1, 2]),
            "too long": lambda: refuse(400, "maximum context length is 10 tokens", code="context_length_exceeded"),
            "too long at vllm": lambda: refuse(400, "This model's maximum context length is 10 tokens.", code=400),
            "filtered": lambda: refuse(400, "The prompt triggered the policy", code="content_filter"),
            "moderated": lambda: refuse(403, "requires moderation; your input was flagged", code=403),
            "bad request": lambda: refuse(400, f"Unknown parameter in {body['messages'][-1]['content']}\nline two"),
            "bad fields": lambda: JSONResponse({"detail": [{"msg": "Input too big", "input": body}]}, 422),
            "no credit": lambda: refuse(429, "You exceeded your current quota", code="insufficient_quota"),
            "payment": lambda: refuse(402, "Insufficient credits", code=402),
            "key": lambda: refuse(401, f"Incorrect API key: {request.headers['authorization']}"),
            "forbidden": lambda: refuse(403, f"Not allowed with {request.headers['authorization']}"),
            "echo": lambda: refuse(400, f"Cannot read header {request.headers['authorization']}"),
            "model": lambda: refuse(404, "The model `fake` does not exist", code="model_not_found"),
        }
        response = kinds[kind]()
        return response if isinstance(response, Response) else await response


class Torn(Response):
    """A response that promises more than it sends, then drops the connection; with no content, no response at all."""

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Send the beginning and abort."""
        del scope
        if self.body:
            headers = [(b"content-length", b"1000"), (b"content-type", b"application/json")]
            await send({"type": "http.response.start", "status": 200, "headers": headers})
            await send({"type": "http.response.body", "body": self.body, "more_body": True})
            await asyncio.sleep(0.01)
        # ASGI has no way to drop a connection; uvicorn's `receive` belongs to the object that holds the socket.
        receive.__self__.transport.abort()  # type: ignore[attr-defined]


def content_key(messages: Sequence[Mapping[str, str]]) -> str:
    """Return the digest under which a conversation is counted."""
    return digest(json.dumps(messages)).hex()


def refuse(
    status: int, message: str, *, code: str | int | None = None, headers: Mapping[str, str] | None = None
) -> Response:
    """Return an error in OpenAI's form."""
    error = {"message": message, "type": "error", "param": None, "code": code}
    return JSONResponse({"error": error}, status, headers=headers)


async def hang(request: Request) -> Response:
    """Say nothing until the client gives up."""
    message = {"type": ""}
    while message["type"] != "http.disconnect":
        message = dict(await request.receive())
    return Response("too late", 504)


async def spaces(request: Request, count: int, *, pause: float = 0.0) -> AsyncIterator[bytes]:
    """Send so many spaces, again and again, until the client gives up."""
    while not await request.is_disconnected():
        yield b" " * count
        await asyncio.sleep(pause)


def in_two_seconds() -> str:
    """Return an HTTP date that lies one to two seconds ahead."""
    return format_datetime(datetime.now(UTC) + timedelta(seconds=2), usegmt=True)


def completion(text: str, body: Body) -> Body:
    """Return a whole completion that says `text`, with log-probabilities when they were asked for."""
    choice: Body = {
        "index": 0,
        "message": {"role": "assistant", "content": text, "refusal": None},
        "finish_reason": "stop",
        "logprobs": None,
    }
    if body.get("logprobs"):
        choice["logprobs"] = {"content": [logprobs(text, ["Yes", "No", "relevant", "partial", "irrelevant"])]}
    words_in = sum(len(message["content"].split()) for message in body["messages"])
    usage = {"prompt_tokens": words_in, "completion_tokens": len(text.split())}
    return {
        "id": "chatcmpl-fake",
        "object": "chat.completion",
        "created": 0,
        "model": "fake-2026-01-01",
        "choices": [choice],
        "usage": usage
        | {"total_tokens": sum(usage.values()), "prompt_tokens_details": {"cached_tokens": words_in // 2}},
    }


def embeddings(body: Body) -> Body:
    """Return a vector for each text, made of its hash; a token is a word."""
    size = body.get("dimensions", 8)
    data = [
        {
            "object": "embedding",
            "index": place,
            "embedding": [chance("embedding", text, str(axis)) - 0.5 for axis in range(size)],
        }
        for place, text in enumerate(body["input"])
    ]
    tokens = sum(len(text.split()) for text in body["input"])
    return {"object": "list", "data": data, "model": "fake", "usage": {"prompt_tokens": tokens, "total_tokens": tokens}}


def logprobs(token: str, others: Sequence[str]) -> Body:
    """Return one token's entry: .75 and .05 for two spellings of it, and .15 shared by the other words."""
    rest = [word for word in others if word.casefold() != token.casefold()]
    shares = {token: 0.75, f" {token.lower()}": 0.05} | {word: 0.15 / len(rest) for word in rest}
    top = [{"token": word, "logprob": math.log(share), "bytes": None} for word, share in shares.items()]
    return {**top[0], "top_logprobs": top}


def altered(whole: Body, *, finish_reason: str | None = None, **message: str | None) -> Body:
    """Return a completion with another end or another message."""
    choice = whole["choices"][0]
    changed = choice | {
        "message": choice["message"] | message,
        "finish_reason": finish_reason or choice["finish_reason"],
    }
    return whole | {"choices": [changed]}


def oracle(messages: Sequence[Mapping[str, str]], body: Body) -> str:
    """Answer in the form that the request asks for; what is said depends on the prompt alone.

    In this order: one of the listed choices, an instance of the JSON schema, a pair of `<verdict>` tags about the
    documents that the prompt numbers as `Doc (n)` or `[n]` at the beginning of a line, or Yes or No.
    """
    prompt = messages[-1]["content"]
    choices = body.get("structured_outputs", {}).get("choice")
    if choices:
        return str(pick(choices, prompt))
    if body.get("response_format", {}).get("type") == "json_schema":
        return json.dumps(instance(body["response_format"]["json_schema"]["schema"], prompt))
    places = re.findall(r'(?m)^(?:<document name=")?(?:Doc \(|\[)(\d+)[)\]]', prompt)
    numbers = sorted({int(place) for place in places})
    if not numbers:
        return str(pick(["Yes", "No"], prompt))
    verdicts = {number: pick(["better", "worse", "none"], prompt, str(number)) for number in numbers}

    def listed(verdict: str) -> str:
        return "[" + ", ".join(f"Doc ({number})" for number in numbers if verdicts[number] == verdict) + "]"

    return f"<verdict><better>{listed('better')}</better><worse>{listed('worse')}</worse></verdict>"


def pick(options: Sequence[Any], *parts: str) -> Any:
    """Choose one of the options by a hash of the parts."""
    return options[int(chance("oracle", *parts) * len(options))]


def instance(schema: Mapping[str, Any], *parts: str) -> Any:
    """Return a value that fits the schema (its everyday keywords), chosen by a hash of the parts."""
    if "enum" in schema:
        return pick(schema["enum"], *parts)
    match schema.get("type"):
        case "object":
            return {name: instance(inner, *parts, name) for name, inner in schema.get("properties", {}).items()}
        case "array":
            count = schema.get("minItems", 0)
            return [instance(schema["items"], *parts, str(place)) for place in range(count)]
        case "integer" | "number":
            low, high = schema.get("minimum", 0), schema.get("maximum", 3)
            return pick(range(low, high + 1), *parts)
        case "boolean":
            return pick([True, False], *parts)
        case _:
            return "because"


def main() -> None:
    """Serve from the command line until killed; the first line printed is the address."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--port", type=int, default=0, help="0 = any free one")
    parser.add_argument("--faults", type=float, default=0.0, help="share of the contents that go wrong, 0 to 1")
    parser.add_argument("--kinds", help="comma-separated; default: all that a plan has")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--requests-per-minute", type=float, help="refuse more than these; default: no limit")
    parser.add_argument("--no-headers", action="store_true", help="do not say how much of the limit is left")
    parser.add_argument("--latency", type=float, default=0.0, help="seconds before each answer")
    options = parser.parse_args()
    kinds = tuple(options.kinds.split(",")) if options.kinds else Plan().kinds
    plan = Plan(options.faults, kinds, options.seed)
    server = FakeServer(
        plan=plan,
        latency=options.latency,
        port=options.port,
        requests_per_minute=options.requests_per_minute,
        headers=not options.no_headers,
    )
    print(server.url, flush=True)  # noqa: T201 - how the caller learns the address
    server.run()


if __name__ == "__main__":
    main()
