"""A server that speaks OpenAI's protocol: where it is, which key goes there, what its errors mean, when to try again.

What one request suffers is a `Trouble`; what every request would suffer is a ServiceError.
"""

import contextlib
import math
import os
import shlex
import stat
from collections.abc import Awaitable, Callable, Iterable, Iterator, Mapping
from datetime import UTC, datetime
from email.utils import parsedate_to_datetime
from pathlib import Path
from typing import TYPE_CHECKING, Final, Protocol, TypeVar

from aiolimiter import AsyncLimiter
from tenacity import AsyncRetrying, RetryCallState, retry_if_exception, stop_after_attempt, wait_random_exponential

from relabel.engine_settings import check_address
from relabel.errors import ServiceError, SettingsError

if TYPE_CHECKING:
    from openai import APIStatusError, AsyncOpenAI

T = TypeVar("T")

Sleep = Callable[[float], Awaitable[None]]

LONGEST_KEY: Final = 4096
"""Bytes of a file with a key."""

SHORTEST_SECRET: Final = 12
"""Characters: what is shorter and sent as a key is a word such as EMPTY, and may well stand in an answer."""

LONGEST_WAIT: Final = 120.0
"""Seconds: a server that asks for a longer pause is asked again after this one."""

FILTERED: Final = ("content_filter", "content_policy", "content management policy", "moderation")
TOO_LONG: Final = (
    "context length",
    "context_length",
    "context size",
    "context window",
    "maximum model length",
    "maximum input length",
)
NO_CREDIT: Final = ("insufficient_quota", "billing_hard_limit", "insufficient balance")
"""What servers write (code, type or message, in lower case) when they mean these. Not "billing" alone: ordinary rate
limits come with a link to the billing page."""

REJECTED: Final = frozenset({400, 405, 415, 422})
"""Statuses of a request that the server takes to be wrong. When the first ones all are, it is a setting that is."""


class Reached(Protocol):
    """What settings say of a server; see `engine_settings.OpenAI`."""

    @property
    def model(self) -> str:
        """Its name at the server."""
        ...

    @property
    def base_url(self) -> str | None:
        """Address up to and with `/v1`; None = `OPENAI_BASE_URL`, or OpenAI."""
        ...

    @property
    def api_key_env(self) -> str | None:
        """The environment variable that holds the key."""
        ...

    @property
    def api_key_file(self) -> str | None:
        """The file that holds the key, in place of an environment variable."""
        ...

    @property
    def concurrency(self) -> int:
        """Requests in flight."""
        ...

    @property
    def requests_per_minute(self) -> float | None:
        """Never more, retries included; None = no limit."""
        ...

    @property
    def timeout(self) -> float:
        """Seconds without a byte after which an attempt has failed."""
        ...

    @property
    def max_retries(self) -> int:
        """Attempts after the first one."""
        ...


def check(settings: Reached, own: Mapping[str, tuple[bool, str]]) -> None:
    """Refuse settings that cannot work.

    Args:
        settings: what to look at.
        own: further rules: setting → whether it is fine, and what it may be.

    Raises:
        SettingsError: names the setting and what it may be.
    """
    rules = {
        "model": (bool(settings.model), "the model's name at the server"),
        "concurrency": (settings.concurrency >= 1, "1 or more"),
        "requests_per_minute": (
            settings.requests_per_minute is None or settings.requests_per_minute > 0,
            "more than 0",
        ),
        "timeout": (settings.timeout > 0, "more than 0"),
        "max_retries": (settings.max_retries >= 0, "0 or more"),
        **own,
    }
    for name, (fine, allowed) in rules.items():
        if not fine:
            raise SettingsError(f"{name} cannot be {getattr(settings, name)!r}", hint=f"set {name} to {allowed}")
    _check_address("base_url", settings.base_url)


def _check_address(name: str, address: str | None) -> None:
    try:
        if address:
            check_address(address)
    except ValueError as error:
        raise SettingsError(f"{name}: {error}", hint=f"correct {name}") from None


def key_for(settings: Reached) -> str:
    """Return the key for the server, "" for one for which none was named.

    Raises:
        SettingsError: the key is missing or none that can be sent, its file may be read by others, or the address in
            OPENAI_BASE_URL holds a password.
    """
    _check_address("OPENAI_BASE_URL", os.environ.get("OPENAI_BASE_URL"))
    variable = _holder(settings)
    key = os.environ.get(variable, "").strip() if variable else ""
    if settings.api_key_file is not None:
        key = key_in(Path(settings.api_key_file))
    if not key.isascii() or any(sign.isspace() or not sign.isprintable() for sign in key):
        raise SettingsError(
            f"what {variable} holds is no key: there are signs in it that no key has", hint="copy the key alone into it"
        )
    if variable and not key:
        raise SettingsError(
            f"the environment variable {variable} holds no key",
            hint=f"type: export {variable}=…, or set base_url, without api_key_env, to a server that needs no key",
        )
    return key


def key_in(path: Path) -> str:
    """Return the key that a file holds, which nobody but its owner may read.

    Raises:
        SettingsError: it cannot be read, or others may read it too.
    """
    try:
        with path.open("rb") as file:
            mode = stat.S_IMODE(os.fstat(file.fileno()).st_mode)
            content = file.read(LONGEST_KEY + 1)
    except (OSError, ValueError) as error:
        raise SettingsError(f"the key cannot be read: {error}", hint="correct api_key_file") from None
    if mode & 0o077 and os.name == "posix":
        raise SettingsError(
            f"{path} holds a key, and others than its owner may read it (mode {mode:o})",
            hint=f"type: {shlex.join(['chmod', '600', str(path)])}",
        )
    key = content.decode("ascii", "replace").strip()
    if not key or len(content) > LONGEST_KEY:
        raise SettingsError(f"{path} holds no key", hint="write the key into it, and nothing else")
    return key


def client_for(settings: Reached, key: str) -> "AsyncOpenAI":
    """Return a client that tries once; to be closed."""
    from openai import AsyncOpenAI, DefaultAioHttpClient, Timeout

    return AsyncOpenAI(
        api_key=key or "none",
        base_url=settings.base_url,
        timeout=Timeout(settings.timeout, connect=min(settings.timeout, 10.0)),
        max_retries=0,
        http_client=DefaultAioHttpClient(),
    )


class Trouble(Exception):  # noqa: N818 - becomes a reply, not an error that anyone sees
    """One attempt that brought no answer: an error of the network or the server in our words.

    Attributes:
        detail: one line.
        failure: "failed", "filtered" or "too long".
        transient: another attempt may bring an answer.
        wait: seconds that the server asks to wait before it.
        unreachable: there was no connection.
        rejected: the server takes the request to be wrong.
    """

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


class Service:
    """One server while it is asked: its turns, its retries, and what its errors mean.

    Attributes:
        where: its address.
        heard: how many answers came from it, of whatever kind.
    """

    def __init__(self, settings: Reached, client: "AsyncOpenAI", key: str, sleep: Sleep) -> None:
        self._settings, self._key, self._sleep = settings, key, sleep
        self.where = str(client.base_url).rstrip("/")
        self.heard = 0
        rate = settings.requests_per_minute
        # Room for one second's requests: a bucket for the whole minute would let the first minute have twice the rate.
        self._limiter = AsyncLimiter(max(1.0, rate / 60), max(1.0, 60 / rate)) if rate else None

    async def turn(self) -> None:
        """Wait until one more request is within the rate."""
        if self._limiter is not None:
            await self._limiter.acquire()

    def retrying(self) -> AsyncRetrying:
        """Return what makes the attempts of one request; raises the last Trouble."""
        return AsyncRetrying(
            sleep=self._sleep,
            stop=stop_after_attempt(self._settings.max_retries + 1),
            wait=_pause,
            retry=retry_if_exception(self._worth_a_retry),
            reraise=True,
        )

    def _worth_a_retry(self, error: BaseException) -> bool:
        """Whether to try again; not where the very first connection fails: then the address is wrong."""
        return isinstance(error, Trouble) and error.transient and not (error.unreachable and self.heard == 0)

    def unreachable(self, trouble: Trouble) -> ServiceError:
        """Return what to say of a server that does not answer."""
        hint = f"start the server or correct base_url, now {self.where}"
        return ServiceError(f"the model service does not answer: {trouble.detail}", hint=hint)

    async def answer(self, asking: Awaitable[T], prompts: Iterable[str]) -> T:
        """Return what came. Errors leave as ours and without a cause: the foreign ones may quote the key.

        Raises:
            Trouble: of this request.
            ServiceError: of every request.
        """
        import aiohttp
        import openai

        problem: Exception
        try:
            answer = await asking
        except UnicodeEncodeError:
            problem = Trouble("the prompt holds half a character (a lone surrogate), which cannot be sent")
        except openai.APIStatusError as error:
            self.heard += 1
            problem = self._refused(error, prompts)
        except (openai.OpenAIError, aiohttp.ClientError, OSError) as error:
            problem = self._broken(error, prompts)
        else:
            self.heard += 1
            return answer
        raise problem

    def _broken(self, error: Exception, prompts: Iterable[str]) -> Trouble:
        """Say what happened to a connection.

        The openai package calls some lost connections timeouts (so its aiohttp transport maps them), hence the look
        at the cause.
        """
        import aiohttp

        causes = list(_causes(error))
        for cause in causes:
            if isinstance(cause, aiohttp.ClientConnectorError | aiohttp.ConnectionTimeoutError | aiohttp.InvalidURL):
                detail = f"no connection ({self.clean(str(cause), prompts)})"
                return Trouble(detail, transient=True, unreachable=True)
        if any(isinstance(cause, TimeoutError) for cause in causes):
            return Trouble("timed out", transient=True)
        return Trouble(f"connection lost ({type(causes[-1]).__name__})", transient=True)

    def _refused(self, error: "APIStatusError", prompts: Iterable[str]) -> Trouble | ServiceError:
        """Say what a status from 300 up means: for this request, or for the whole run."""
        status, said = error.status_code, self.clean(_said(error.body), prompts)
        detail = f"HTTP {status}: {said}" if said else f"HTTP {status}"
        body = error.body if isinstance(error.body, dict) else {}
        marks = f"{body.get('code')} {body.get('type')} {said}".casefold()
        if status in {400, 403} and any(mark in marks for mark in FILTERED):
            return Trouble(detail, failure="filtered")
        if status == 413 or (status in {400, 422} and any(mark in marks for mark in TOO_LONG)):
            return Trouble(detail, failure="too long")
        if status == 429 and any(mark in marks for mark in NO_CREDIT):
            status = 402
        if status in {401, 402, 403, 404}:
            return self._hopeless(status, detail)
        transient = status in {408, 409, 429} or status >= 500
        wait = asked_wait(error.response.headers)
        return Trouble(detail, transient=transient, wait=wait, rejected=status in REJECTED)

    def _hopeless(self, status: int, detail: str) -> ServiceError:
        """Say what to do about a status that every other request would get too."""
        where, variable = self.where, _holder(self._settings)
        if status == 402:
            problem = f"{where} has no more credit" + (f" for the key in {variable}" if variable else "")
            hint = "add credit, then type the same command again: what is answered is not asked again"
        elif status == 404:
            problem = f"{where} does not serve the model {self._settings.model!r}"
            hint = f"correct model or base_url; {where}/models lists the models"
        elif variable:
            problem = f"{where} does not accept the key in {variable}"
            held = self._settings.api_key_file is not None
            hint = (
                f"write a key for {where} into {variable}"
                if held
                else f"type: export {variable}=… with a key for {where}"
            )
        else:
            problem = f"{where} wants a key, and none is sent"
            hint = "set api_key_env to the name of the environment variable that holds the key for this server"
        return ServiceError(f"{problem} ({detail})", hint=hint)

    def without_key(self, text: T) -> T:
        """Return a server's words without the key, which it may repeat in an answer too."""
        if not isinstance(text, str) or len(self._key) < SHORTEST_SECRET:
            return text
        return text.replace(self._key, "***")  # type: ignore[return-value]

    def clean(self, text: str, prompts: Iterable[str]) -> str:
        """Return a server's words as one short line without the key and without the prompts."""
        if self._key:
            text = text.replace(self._key, "***")
        for prompt in prompts:
            if len(prompt) > 20:
                text = text.replace(prompt, "[prompt]")
        line = " ".join(text.split())
        return line if len(line) <= 200 else f"{line[:199]}…"


def _holder(settings: Reached) -> str | None:
    """Return the name of the file or environment variable that holds the key; None where no key is sent."""
    if settings.api_key_file is not None:
        return settings.api_key_file
    elsewhere = settings.base_url or os.environ.get("OPENAI_BASE_URL")
    return settings.api_key_env or (None if elsewhere else "OPENAI_API_KEY")


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


def asked_wait(headers: Mapping[str, str]) -> float | None:
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
    asked = error.wait if isinstance(error, Trouble) else None
    return _backoff(state) if asked is None else asked
