"""Ask a server that speaks OpenAI's chat completions: OpenAI itself, a vLLM server, OpenRouter and many others.

From outside, `OpenAIEngine.answer` is an ordinary generator. Inside, one thread pulls the requests, another runs an
event loop with a pool of workers, and the number of requests that are pulled but not yet consumed is bounded.
What one request suffers is a reply with a failure; what every request would suffer is a ServiceError.
"""

import contextlib
import math
import re
import threading
import time
from collections.abc import AsyncIterator, Callable, Iterable, Iterator, Mapping
from dataclasses import replace
from typing import TYPE_CHECKING, Any, Final

from relabel.engine_settings import Endpoint, OpenAI
from relabel.engines.clock import Clock
from relabel.engines.completions import completion_body, read_completion
from relabel.engines.pool import Asker, Pool, Question
from relabel.engines.rates import Forecast
from relabel.engines.service import Service, Trouble, client_for, key_for
from relabel.protocols import Reply, Request, Sending

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
    "prompt_cache_key": "set `prompt_cache_key: false`",
}
"""What to do when a server rejects every request and names one of these."""

ENOUGH: Final = 10
FEWEST: Final = 3
"""How many requests must have been rejected to give up: while others are in flight, and when none is."""

LOOKAHEAD: Final = 8
"""How many requests are pulled and not yet consumed, for each that may be in flight: those that wait for their next
attempt hold nobody up."""


class OpenAIEngine:
    """An engine that asks an OpenAI-compatible server over the network."""

    def __init__(self, settings: OpenAI, *, clock: Clock | None = None) -> None:
        self._settings = settings
        self._clock = clock or Clock()
        self._trial = _Trial()
        self._sending: Sending = lambda *_: True
        self._pools: list[Pool] = []
        self._left = False

    @property
    def identity(self) -> Mapping[str, Any]:
        """What changes the answer besides the prompt; no key, no address of a server, no limits."""
        return {"engine": "openai", **self._settings.answering}

    def answer(self, requests: Iterable[Request]) -> Iterator[Reply]:
        """Return a generator of one reply for every request, in the order in which they complete.

        The requests are pulled in a thread of their own, at most `LOOKAHEAD` × `concurrency` ahead of what is consumed.
        An exception of theirs is raised here after the replies to what was pulled before it. Closing the generator
        cancels what is in flight.

        Raises:
            SettingsError: at once, when the key is missing or the address holds a password.
            ServiceError: while iterating, when going on is pointless: a wrong key, an unknown model, no credit, no
                server, one that is silent or refuses everything, or one that has rejected the first requests and
                never answered one.
            Detached: while iterating, after `leave`, where there was more to ask.
        """
        return self._replies(requests, key_for(self._settings))

    def _replies(self, requests: Iterable[Request], key: str) -> Iterator[Reply]:
        workers = self._settings.concurrency
        pool = Pool(lambda: self._open(key), workers=workers, slots=LOOKAHEAD * workers, clock=self._clock)
        self._pools.append(pool)
        if self._left:
            pool.halt()
        try:
            yield from pool.replies(requests)
        finally:
            self._pools.remove(pool)

    def on_send(self, ask: Sending) -> None:
        """Have `ask` called before every attempt at a request; see `Sends`."""
        self._sending = ask

    def leave(self, *, at_once: bool) -> None:
        """Send nothing more, if it shall be `at_once`; what was sent is still answered, for it is paid for."""
        if at_once:
            self._left = True
            for pool in list(self._pools):
                pool.halt()

    def vouch(self) -> None:
        """Hear that the service answered such requests before: those that it rejects are then themselves at fault."""
        self._trial.passed()

    @contextlib.asynccontextmanager
    async def _open(self, key: str) -> AsyncIterator[Asker]:
        async with client_for(self._settings, key) as client:
            yield _Asker(self._settings, client, key, self._clock, self._trial, self._sending)


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
    """Asks one question at a time, once; shared by the workers of a pool."""

    def __init__(
        self, settings: OpenAI, client: "AsyncOpenAI", key: str, clock: Clock, trial: _Trial, sending: Sending
    ) -> None:
        self._settings, self._client, self._trial, self._sending = settings, client, trial, sending
        self.sent = 0
        self._service = Service(settings, client, key, clock)
        self._forecast = Forecast(settings.max_tokens)
        told = settings.prompt_cache_key
        self._cache_key = client.base_url.host == "api.openai.com" if told is None else told

    def check(self, waiting: int) -> None:
        """Give up a service that is silent or refuses everything.

        Raises:
            ServiceError: it is.
        """
        self._service.check(waiting)

    async def ask(self, question: Question, halted: Callable[[], bool]) -> Reply | float | None:
        """Return the reply to one request, or the seconds after which to ask it again; None when it is not asked.

        Raises:
            ServiceError: when the answer to every other request would be the same error.
        """
        request, tries = question.request, question.tries
        if halted():
            return None
        if not tries.number:
            tries.heard, tries.number = self._service.heard, self._trial.begin()
        try:
            reply = await self._attempt(question, halted)
        except Trouble as trouble:
            wait = self._service.wait_after(trouble, tries)
            if wait is not None and self._sending(request, tries.unsure):
                return wait
            last = trouble
        except BaseException:
            self._trial.end(tries.number)
            raise
        else:
            self._trial.end(tries.number)
            return replace(reply, unsure=reply.unsure + tries.unsure) if reply and tries.unsure else reply
        self._trial.end(tries.number)
        if last.rejected and self._trial.lost(request.address):
            raise self._service.ending(last.fault, last.detail, hint=advice(self._settings, last.detail))
        if last.unreachable and tries.heard == self._service.heard:
            raise self._service.unreachable(last)
        detail = f"{last.detail}, tried {tries.made} times" if tries.made > 1 else last.detail
        return Reply(request, None, failure=last.rule.outcome, detail=detail, retryable=True, unsure=tries.unsure)

    async def _attempt(self, question: Question, halted: Callable[[], bool]) -> Reply | None:
        """Ask once; None when the pool was halted before the request's turn came."""
        import httpx2

        request, mode = question.request, self._settings.choices
        body = completion_body(
            request, self._settings.sampling, logprobs=mode != "text", structured=mode == "structured",
            cache_key=self._cache_key,
        )  # fmt: skip
        prompts = [message.content for message in request.messages]
        characters = sum(map(len, prompts))
        foreseen = self._forecast.of(characters)
        await self._service.turn(foreseen)
        if halted():
            return None
        self._sending(request, question.tries.unsure)
        self.sent += 1
        started = time.perf_counter()
        # Not by `chat.completions.create`: it looks at every field of the body, which takes as long as sending it.
        asking = self._client.post("/chat/completions", body=body, cast_to=httpx2.Response)
        try:
            answer = await self._service.answer(asking, prompts)
        finally:
            self.sent -= 1
        self._trial.passed()
        seconds = time.perf_counter() - started
        reply = read_completion(request, answer.content, seconds=seconds, constrained=mode == "structured")
        taken = self._forecast.learn(characters, reply.usage)
        self._service.answered(answer.headers, foreseen, taken)
        return self._service.cleaned(reply, prompts)


def advice(settings: Endpoint, said: str) -> str:
    """Return what to change when a server rejects every request with these words; "" where they name no setting."""
    own = {name: f"take {name} out of extra_body, or correct it" for name in settings.extra_body}
    for name, remedy in (REMEDIES | own).items():
        if re.search(rf"(?<!\w){re.escape(name)}(?!\w)", said, re.IGNORECASE):
            return f"{remedy}, in the engine's settings"
    return ""
