"""Ask a server that speaks OpenAI's chat completions: OpenAI itself, a vLLM server, OpenRouter and many others.

From outside, `OpenAIEngine.answer` is an ordinary generator. Inside, one thread pulls the requests, another runs an
event loop with a pool of workers, and the number of requests that are pulled but not yet consumed is bounded.
What one request suffers is a reply with a failure; what every request would suffer is a ServiceError.
"""

import asyncio
import contextlib
import math
import re
import threading
import time
from collections.abc import AsyncIterator, Iterable, Iterator, Mapping
from dataclasses import replace
from typing import TYPE_CHECKING, Any, Final

from relabel.engine_settings import OpenAI
from relabel.engines.completions import completion_body, read_completion
from relabel.engines.pool import Ask, Pool
from relabel.engines.service import Service, Sleep, Trouble, client_for, key_for
from relabel.errors import ServiceError
from relabel.protocols import Reply, Request

if TYPE_CHECKING:
    from openai import AsyncOpenAI

REMEDIES: Final = {
    "max_tokens": "set `max_tokens: null` with `extra_body: {max_completion_tokens: …}`, or another max_tokens",
    "temperature": "set `temperature: null`",
    "top_p": "set `top_p: null`",
    "seed": "set `seed: null`",
    "structured_outputs": "set `choices: logprobs`, or `choices: text`",
    "logprobs": "set `choices: text`",
    "top_logprobs": "set `choices: text`",
    "response_format": "set `extra_body: {response_format: {type: json_object}}`",
}
"""What to do when a server rejects every request and names one of these."""

ENOUGH: Final = 10
FEWEST: Final = 3
"""How many requests must have been rejected to give up: while others are in flight, and when none is."""


class OpenAIEngine:
    """An engine that asks an OpenAI-compatible server over the network."""

    def __init__(self, settings: OpenAI, *, sleep: Sleep = asyncio.sleep) -> None:
        self._settings = settings
        self._sleep = sleep
        self._trial = _Trial()

    @property
    def identity(self) -> Mapping[str, Any]:
        """What changes the answer besides the prompt; no key, no address of a server, no limits."""
        return {"engine": "openai", **self._settings.answering}

    def answer(self, requests: Iterable[Request]) -> Iterator[Reply]:
        """Return a generator of one reply for every request, in the order in which they complete.

        The requests are pulled in a thread of their own, at most twice `concurrency` ahead of what is consumed.
        An exception of theirs is raised here after the replies to what was pulled before it. Closing the generator
        cancels what is in flight.

        Raises:
            SettingsError: at once, when the key is missing or the address holds a password.
            ServiceError: while iterating, when going on is pointless: a wrong key, an unknown model, no credit, no
                server, or a server that has rejected the first requests and never answered one.
        """
        key, workers = key_for(self._settings), self._settings.concurrency
        return Pool(lambda: self._open(key), workers=workers, slots=2 * workers).replies(requests)

    def vouch(self) -> None:
        """Hear that the service answered such requests before: those that it rejects are then themselves at fault."""
        self._trial.passed()

    @contextlib.asynccontextmanager
    async def _open(self, key: str) -> AsyncIterator[Ask]:
        async with client_for(self._settings, key) as client:
            yield _Asker(self._settings, client, key, self._sleep, self._trial).ask


class _Trial:
    """Whether a service rejects some requests or all of them; shared by the threads that use one engine.

    It rejects all when it has never answered and the first requests that were asked have all ended, enough of them in
    rejections. The first asked, not the first to end: a rejection comes faster than an answer.
    """

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._passed, self._begun = False, 0
        self._open: set[int] = set()
        self._rejected: set[str] = set()

    def begin(self) -> int:
        """Note that a request is asked; return its number."""
        with self._lock:
            self._begun += 1
            self._open.add(self._begun)
            return self._begun

    def end(self, number: int) -> None:
        """Note that it ended, in whatever way."""
        with self._lock:
            self._open.discard(number)

    def passed(self) -> None:
        """Note an answer: from now on a rejection is a matter of its request."""
        self._passed = True

    def lost(self, address: str) -> bool:
        """Note a rejection of the request with this address; return whether every other would be rejected too."""
        with self._lock:
            self._rejected.add(address)
            enough = ENOUGH if self._open else FEWEST
            return not self._passed and len(self._rejected) >= enough and min(self._open, default=math.inf) > ENOUGH


class _Asker:
    """Asks one question at a time, as often as needed; shared by the workers of a pool."""

    def __init__(self, settings: OpenAI, client: "AsyncOpenAI", key: str, sleep: Sleep, trial: _Trial) -> None:
        self._settings, self._client, self._trial = settings, client, trial
        self._service = Service(settings, client, key, sleep)

    async def ask(self, request: Request) -> Reply:
        """Return the reply to one request, after retries.

        Raises:
            ServiceError: when the answer to every other request would be the same error.
        """
        heard, number = self._service.heard, self._trial.begin()
        retrying = self._service.retrying()
        try:
            return await retrying(self._attempt, request)
        except Trouble as trouble:
            last = trouble
        finally:
            self._trial.end(number)
        if last.rejected and self._trial.lost(request.address):
            problem = f"{self._service.where} rejects every request ({last.detail})"
            raise ServiceError(problem, hint=_advice(self._settings, last.detail))
        if last.unreachable and heard == self._service.heard:
            raise self._service.unreachable(last)
        tried = retrying.statistics["attempt_number"]
        detail = f"{last.detail}, tried {tried} times" if tried > 1 else last.detail
        return Reply(request, None, failure=last.failure, detail=detail, retryable=True)

    async def _attempt(self, request: Request) -> Reply:
        """Ask once."""
        mode = self._settings.choices
        body = completion_body(
            request, self._settings.sampling, logprobs=mode != "text", structured=mode == "structured"
        )
        messages, model = body.pop("messages"), body.pop("model")
        prompts = [message.content for message in request.messages]
        create = self._client.chat.completions.with_raw_response.create
        await self._service.turn()
        started = time.perf_counter()
        answer = await self._service.answer(create(messages=messages, model=model, extra_body=body), prompts)
        self._trial.passed()
        seconds = time.perf_counter() - started
        reply = read_completion(request, answer.content, seconds=seconds, constrained=mode == "structured")
        said = {name: self._service.without_key(getattr(reply, name)) for name in ("text", "model", "finish_reason")}
        return replace(reply, detail=self._service.clean(reply.detail, prompts), **said)


def _advice(settings: OpenAI, said: str) -> str:
    """Return what to change when a server rejects every request with these words."""
    own = {name: f"take {name} out of extra_body, or correct it" for name in settings.extra_body}
    for name, remedy in (REMEDIES | own).items():
        if re.search(rf"(?<!\w){re.escape(name)}(?!\w)", said, re.IGNORECASE):
            return f"{remedy}, in the engine's settings"
    return "correct the engine's settings: base_url, model, choices, max_tokens, temperature, extra_body"
