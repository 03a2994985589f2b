"""Ask a server that speaks OpenAI's chat completions: OpenAI itself, a vLLM server, OpenRouter and many others.

From outside, `OpenAIEngine.answer` is an ordinary generator. Inside, one thread pulls the requests, another runs an
event loop with a pool of workers, and the number of requests that are pulled but not yet consumed is bounded.
What one request suffers is a reply with a failure; what every request would suffer is a ServiceError.
"""

import asyncio
import contextlib
import math
import os
import re
import threading
import time
from collections.abc import AsyncIterator, Awaitable, Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime
from email.utils import parsedate_to_datetime
from typing import TYPE_CHECKING, Any, Final, Literal
from urllib.parse import urlsplit

from aiolimiter import AsyncLimiter
from tenacity import AsyncRetrying, RetryCallState, retry_if_exception, stop_after_attempt, wait_random_exponential

from relabel.engines.completions import completion_body, read_completion
from relabel.engines.pool import Ask, Pool
from relabel.errors import ServiceError, SettingsError
from relabel.protocols import Reply, Request

if TYPE_CHECKING:
    from openai import APIStatusError, AsyncOpenAI

Sleep = Callable[[float], Awaitable[None]]

LONGEST_WAIT: Final = 120.0
"""Seconds: a server that asks for a longer pause is asked again after this one."""

FILTERED: Final = ("content_filter", "content_policy", "content management policy", "moderation")
TOO_LONG: Final = ("context length", "context_length", "context size", "context window", "maximum model length")
NO_CREDIT: Final = ("insufficient_quota", "billing_hard_limit", "insufficient balance")
"""What servers write (code, type or message, in lower case) when they mean these. Not "billing" alone: ordinary rate
limits come with a link to the billing page."""

REJECTED: Final = frozenset({400, 405, 415, 422})
"""Statuses of a request that the server takes to be wrong. When the first ones all are, it is a setting that is."""

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


@dataclass(frozen=True, slots=True)
class OpenAISettings:
    """Whom to ask and how. The names are those of the openai package.

    Attributes:
        model: its name at the server.
        base_url: address of the server up to and with `/v1`; None = `OPENAI_BASE_URL`, or OpenAI.
        api_key_env: the environment variable that holds the key. None = `OPENAI_API_KEY` for OpenAI, and no key for
            any other server: a key goes only where it was meant to go.
        revision: which version of the model is served, for the record; changes every address.
        temperature, top_p, max_tokens, seed: as the API has them; None is not sent.
        extra_body: further fields of the body, or other values for its fields.
        choices: how a request with choices is asked. "logprobs" asks for probabilities, "structured" (vLLM) also
            allows nothing but the choices, "text" asks for neither (models that refuse log-probabilities).
        concurrency: requests in flight, 1 or more.
        requests_per_minute: never more, retries included, spread evenly; None = no limit.
        timeout: seconds without a byte from the server after which an attempt has failed.
        max_retries: attempts after the first one.
    """

    model: str
    base_url: str | None = None
    api_key_env: str | None = None
    revision: str = ""
    temperature: float | None = 0.0
    top_p: float | None = None
    max_tokens: int | None = 2048
    seed: int | None = None
    extra_body: Mapping[str, Any] = field(default_factory=dict)
    choices: Literal["logprobs", "structured", "text"] = "logprobs"
    concurrency: int = 32
    requests_per_minute: float | None = None
    timeout: float = 60.0
    max_retries: int = 6

    def __post_init__(self) -> None:
        """Refuse values that cannot work.

        Raises:
            SettingsError: names the setting and what it may be.
        """
        rules = {
            "model": (bool(self.model), "the model's name at the server"),
            "base_url": (
                self.base_url is None or self.base_url.startswith(("http://", "https://")),
                "an address such as http://127.0.0.1:8000/v1",
            ),
            "choices": (self.choices in {"logprobs", "structured", "text"}, "logprobs, structured or text"),
            "concurrency": (self.concurrency >= 1, "1 or more"),
            "requests_per_minute": (self.requests_per_minute is None or self.requests_per_minute > 0, "more than 0"),
            "timeout": (self.timeout > 0, "more than 0"),
            "max_retries": (self.max_retries >= 0, "0 or more"),
        }
        for name, (fine, allowed) in rules.items():
            if not fine:
                raise SettingsError(f"{name} cannot be {getattr(self, name)!r}", hint=f"set {name} to {allowed}")
        _check_address("base_url", self.base_url or "")

    @property
    def sampling(self) -> dict[str, Any]:
        """Model and sampling as they stand in every body."""
        own = {
            "model": self.model,
            "temperature": self.temperature,
            "top_p": self.top_p,
            "max_tokens": self.max_tokens,
            "seed": self.seed,
        }
        return {name: value for name, value in own.items() if value is not None} | dict(self.extra_body)


class OpenAIEngine:
    """An engine that asks an OpenAI-compatible server over the network."""

    def __init__(self, settings: OpenAISettings, *, sleep: Sleep = asyncio.sleep) -> None:
        self._settings = settings
        self._sleep = sleep
        self._trial = _Trial()

    @property
    def identity(self) -> Mapping[str, Any]:
        """What changes the answer besides the prompt; no key, no address of a server, no limits."""
        chosen = self._settings
        return {
            "engine": "openai",
            "model": chosen.model,
            "revision": chosen.revision,
            "temperature": chosen.temperature,
            "top_p": chosen.top_p,
            "max_tokens": chosen.max_tokens,
            "seed": chosen.seed,
            "extra_body": dict(chosen.extra_body),
            "choices": chosen.choices,
        }

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
        _check_address("OPENAI_BASE_URL", os.environ.get("OPENAI_BASE_URL", ""))
        key, workers = self._key(), self._settings.concurrency
        return Pool(lambda: self._open(key), workers=workers, slots=2 * workers).replies(requests)

    def vouch(self) -> None:
        """Hear that the service answered such requests before: those that it rejects are then themselves at fault."""
        self._trial.passed()

    def _key(self) -> str:
        """Return the key, "" for a server for which none was named."""
        variable = _variable(self._settings)
        key = os.environ.get(variable, "").strip() if variable else ""
        if variable and not key:
            raise SettingsError(
                f"the environment variable {variable} holds no key",
                hint=f"type: export {variable}=…, or set base_url, without api_key_env, to a server that needs no key",
            )
        return key

    @contextlib.asynccontextmanager
    async def _open(self, key: str) -> AsyncIterator[Ask]:
        async with self._client(key) as client:
            yield _Asker(self._settings, client, key, self._sleep, self._trial).ask

    def _client(self, key: str) -> "AsyncOpenAI":
        from openai import AsyncOpenAI, DefaultAioHttpClient, Timeout

        chosen = self._settings
        return AsyncOpenAI(
            api_key=key or "none",
            base_url=chosen.base_url,
            timeout=Timeout(chosen.timeout, connect=min(chosen.timeout, 10.0)),
            max_retries=0,
            http_client=DefaultAioHttpClient(),
        )


class _Trouble(Exception):  # noqa: N818 - becomes a reply, not an error that anyone sees
    """One attempt that brought no completion: an error of the network or the server in our words."""

    def __init__(
        self,
        detail: str,
        *,
        failure: str = "failed",
        transient: bool = False,
        wait: float | None = None,
        unreachable: bool = False,
        rejected: bool = False,
    ) -> None:
        super().__init__(detail)
        self.detail, self.failure, self.transient = detail, failure, transient
        self.wait, self.unreachable, self.rejected = wait, unreachable, rejected


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

    def __init__(self, settings: OpenAISettings, client: "AsyncOpenAI", key: str, sleep: Sleep, trial: _Trial) -> None:
        self._settings, self._client, self._key, self._sleep, self._trial = settings, client, key, sleep, trial
        self._where = str(client.base_url).rstrip("/")
        self._heard = 0
        rate = settings.requests_per_minute
        # Room for one second's requests: a bucket for the whole minute would let the first minute have twice the rate.
        self._limiter = AsyncLimiter(max(1.0, rate / 60), max(1.0, 60 / rate)) if rate else None

    async def ask(self, request: Request) -> Reply:
        """Return the reply to one request, after retries.

        Raises:
            ServiceError: when the answer to every other request would be the same error.
        """
        heard, number = self._heard, self._trial.begin()
        retrying = AsyncRetrying(
            sleep=self._sleep,
            stop=stop_after_attempt(self._settings.max_retries + 1),
            wait=_pause,
            retry=retry_if_exception(self._worth_a_retry),
            reraise=True,
        )
        try:
            return await retrying(self._attempt, request)
        except _Trouble as trouble:
            last = trouble
        finally:
            self._trial.end(number)
        if last.rejected and self._trial.lost(request.address):
            problem = f"{self._where} rejects every request ({last.detail})"
            raise ServiceError(problem, hint=_advice(self._settings, last.detail))
        if last.unreachable and heard == self._heard:
            hint = f"start the server or correct base_url, now {self._where}"
            raise ServiceError(f"the model service does not answer: {last.detail}", hint=hint)
        tried = retrying.statistics["attempt_number"]
        detail = f"{last.detail}, tried {tried} times" if tried > 1 else last.detail
        return Reply(request, None, failure=last.failure, detail=detail, retryable=True)

    def _worth_a_retry(self, error: BaseException) -> bool:
        """Whether to try again; not where the very first connection fails: then the address is wrong."""
        return isinstance(error, _Trouble) and error.transient and not (error.unreachable and self._heard == 0)

    async def _attempt(self, request: Request) -> Reply:
        """Ask once. Errors leave as ours and without a cause: the foreign ones may quote the key."""
        import aiohttp
        import openai

        if self._limiter is not None:
            await self._limiter.acquire()
        mode = self._settings.choices
        body = completion_body(
            request, self._settings.sampling, logprobs=mode != "text", structured=mode == "structured"
        )
        messages, model = body.pop("messages"), body.pop("model")
        problem: Exception
        started = time.perf_counter()
        try:
            answer = await self._client.chat.completions.with_raw_response.create(
                messages=messages, model=model, extra_body=body
            )
        except UnicodeEncodeError:
            problem = _Trouble("the prompt holds half a character (a lone surrogate), which cannot be sent")
        except openai.APIStatusError as error:
            self._heard += 1
            problem = self._refused(error, request)
        except (openai.OpenAIError, aiohttp.ClientError, OSError) as error:
            problem = self._broken(error, request)
        else:
            self._heard += 1
            self._trial.passed()
            seconds = time.perf_counter() - started
            reply = read_completion(request, answer.content, seconds=seconds, constrained=mode == "structured")
            return replace(reply, detail=self._clean(reply.detail, request))
        raise problem

    def _broken(self, error: Exception, request: Request) -> _Trouble:
        """Say what happened to a connection.

        The openai package calls some lost connections timeouts (so its aiohttp transport maps them), hence the look
        at the cause.
        """
        import aiohttp

        causes = list(_causes(error))
        for cause in causes:
            if isinstance(cause, aiohttp.ClientConnectorError | aiohttp.ConnectionTimeoutError | aiohttp.InvalidURL):
                detail = f"no connection ({self._clean(str(cause), request)})"
                return _Trouble(detail, transient=True, unreachable=True)
        if any(isinstance(cause, TimeoutError) for cause in causes):
            return _Trouble("timed out", transient=True)
        return _Trouble(f"connection lost ({type(causes[-1]).__name__})", transient=True)

    def _refused(self, error: "APIStatusError", request: Request) -> _Trouble | ServiceError:
        """Say what a status from 300 up means: for this request, or for the whole run."""
        status, said = error.status_code, self._clean(_said(error.body), request)
        detail = f"HTTP {status}: {said}" if said else f"HTTP {status}"
        body = error.body if isinstance(error.body, dict) else {}
        marks = f"{body.get('code')} {body.get('type')} {said}".casefold()
        if status in {400, 403} and any(mark in marks for mark in FILTERED):
            return _Trouble(detail, failure="filtered")
        if status == 413 or (status in {400, 422} and any(mark in marks for mark in TOO_LONG)):
            return _Trouble(detail, failure="too long")
        if status == 429 and any(mark in marks for mark in NO_CREDIT):
            status = 402
        if status in {401, 402, 403, 404}:
            return self._hopeless(status, detail)
        transient = status in {408, 409, 429} or status >= 500
        wait = _asked_wait(error.response.headers)
        return _Trouble(detail, transient=transient, wait=wait, rejected=status in REJECTED)

    def _hopeless(self, status: int, detail: str) -> ServiceError:
        """Say what to do about a status that every other request would get too."""
        where, variable = self._where, _variable(self._settings)
        if status == 402:
            problem = f"{where} has no more credit" + (f" for the key in {variable}" if variable else "")
            hint = "add credit, then type the same command again: what is answered is not asked again"
        elif status == 404:
            problem = f"{where} does not serve the model {self._settings.model!r}"
            hint = f"correct model or base_url; {where}/models lists the models"
        elif variable:
            problem = f"{where} does not accept the key in {variable}"
            hint = f"type: export {variable}=… with a key for {where}"
        else:
            problem = f"{where} wants a key, and none is sent"
            hint = "set api_key_env to the name of the environment variable that holds the key for this server"
        return ServiceError(f"{problem} ({detail})", hint=hint)

    def _clean(self, text: str, request: Request) -> str:
        """Return a server's words as one short line without the key and without the prompt."""
        if self._key:
            text = text.replace(self._key, "***")
        for message in request.messages:
            if len(message.content) > 20:
                text = text.replace(message.content, "[prompt]")
        line = " ".join(text.split())
        return line if len(line) <= 200 else f"{line[:199]}…"


def _variable(settings: OpenAISettings) -> str | None:
    """Return the name of the environment variable that holds the key; None where no key is sent."""
    elsewhere = settings.base_url or os.environ.get("OPENAI_BASE_URL")
    return settings.api_key_env or (None if elsewhere else "OPENAI_API_KEY")


def _advice(settings: OpenAISettings, said: str) -> str:
    """Return what to change when a server rejects every request with these words."""
    own = {name: f"take {name} out of extra_body, or correct it" for name in settings.extra_body}
    for name, remedy in (REMEDIES | own).items():
        if re.search(rf"(?<!\w){re.escape(name)}(?!\w)", said, re.IGNORECASE):
            return f"{remedy}, in the engine's settings"
    return "correct the engine's settings: base_url, model, choices, max_tokens, temperature, extra_body"


def _check_address(name: str, address: str) -> None:
    """Refuse what is no address, and http://user:password@host: that would stand in messages, and beside the key."""
    try:
        parts = urlsplit(address)
        _ = parts.port  # read, hence checked
    except ValueError:
        raise SettingsError(f"{name} is no address", hint=f"set {name} to one like http://127.0.0.1:8000/v1") from None
    if "@" in parts.netloc:
        raise SettingsError(
            f"{name} holds a user name or a password",
            hint=f"take the part before @ out of {name}; put the key in an environment variable, api_key_env names it",
        )


def _causes(error: BaseException) -> Iterator[BaseException]:
    """Yield an exception and what it was raised from, down to the first."""
    cause: BaseException | None = error
    while cause is not None:
        yield cause
        cause = cause.__cause__


def _said(body: object) -> str:
    """Return the words of an error body: OpenAI's `message`, FastAPI's `detail`, or plain text; "" for a page."""
    if isinstance(body, dict):
        words = body.get("message") or body.get("detail") or ""
        if isinstance(words, list):  # one entry for each field that FastAPI finds wrong; "input" repeats the prompt
            words = "; ".join(str(entry.get("msg", "")) for entry in words if isinstance(entry, dict))
        return str(words)
    return "" if not isinstance(body, str) or body.startswith("<") else body


def _asked_wait(headers: Mapping[str, str]) -> float | None:
    """Return the seconds that the server asks to wait, at most LONGEST_WAIT; None where it asks for nothing usable."""
    wait = math.nan
    with contextlib.suppress(ValueError):
        wait = float(headers.get("retry-after-ms", "")) / 1000
    after = headers.get("retry-after", "")
    if math.isnan(wait):
        with contextlib.suppress(ValueError):
            wait = float(after)
    if math.isnan(wait):
        with contextlib.suppress(ValueError):
            date = parsedate_to_datetime(after)
            wait = (date.replace(tzinfo=date.tzinfo or UTC) - datetime.now(UTC)).total_seconds()
    return min(wait, LONGEST_WAIT) if wait >= 0 else None


_backoff: Final = wait_random_exponential(multiplier=1, max=60)


def _pause(state: RetryCallState) -> float:
    """Return the seconds before the next attempt: what the server asked for, or a random time that grows."""
    error = state.outcome.exception() if state.outcome else None
    asked = error.wait if isinstance(error, _Trouble) else None
    return _backoff(state) if asked is None else asked
