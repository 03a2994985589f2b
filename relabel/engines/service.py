"""A server that speaks OpenAI's protocol: where it is, which key goes there, what its errors mean, when to try again.

What one request suffers is a `Trouble`; what every request would suffer is a ServiceError. Which fault it is, is found
out in `recognizing`; what is done about it stands in `faults`, and is done here.
"""

import math
import os
import random
import shlex
import stat
from collections.abc import Awaitable, Iterable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Final, Protocol, TypeVar
from urllib.parse import urlsplit

from tenacity import AsyncRetrying, RetryCallState, retry_if_exception, stop_never

from relabel.engine_settings import check_address
from relabel.engines.clock import Clock
from relabel.engines.faults import FAULTS, REFUSED
from relabel.engines.pool import Tries
from relabel.engines.rates import Limits
from relabel.engines.recognizing import asked_wait, fault_of_connection, fault_of_status, said_in
from relabel.engines.transport import LARGEST, Overrun, check_proxies, http_client, listener
from relabel.errors import ServiceError, SettingsError
from relabel.protocols import Reply

if TYPE_CHECKING:
    from openai import APIStatusError, AsyncOpenAI

T = TypeVar("T")

CONNECT: Final = 10.0
"""Seconds within which a connection must be made."""

LONGER: Final = 4
"""How many times as long a server may be silent that has answered before."""

LONGEST_KEY: Final = 4096
"""Bytes of a file with a key."""

SHORTEST_SECRET: Final = 12
"""Characters: what is shorter and sent as a key is a word such as EMPTY, and may well stand in an answer."""

LONGEST_BACKOFF: Final = 60.0
"""Seconds: the longest wait where the server does not ask for one."""


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
        """Never more, retries included; None = no limit but the server's."""
        ...

    @property
    def tokens_per_minute(self) -> float | None:
        """In and out together; never more; None = no limit but the server's."""
        ...

    @property
    def timeout(self) -> float:
        """Seconds without a byte after which an attempt has failed."""
        ...

    @property
    def max_retries(self) -> int:
        """Attempts after the first one; refusals for the rate are none."""
        ...

    @property
    def patience(self) -> float | None:
        """Seconds of silence after which a server that never answered is given up; None = 3 × timeout."""
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
        "tokens_per_minute": (
            settings.tokens_per_minute is None or settings.tokens_per_minute > 0,
            "more than 0",
        ),
        "timeout": (0 < settings.timeout < math.inf, "a number above 0"),
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
        SettingsError: the key is missing or none that can be sent, its file may be read by others, the address in
            OPENAI_BASE_URL holds a password, or what names a proxy is no address.
    """
    check_proxies()
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


def client_for(settings: Reached, key: str, *, largest: int = LARGEST) -> "AsyncOpenAI":
    """Return a client that tries once, and reads no answer of more than `largest` bytes; to be closed.

    Raises:
        SettingsError: the address has a name that no host can have.
    """
    import httpx2
    from openai import AsyncOpenAI, Timeout

    try:
        return AsyncOpenAI(
            api_key=key or "none",
            base_url=settings.base_url,
            timeout=Timeout(settings.timeout, connect=min(settings.timeout, CONNECT)),
            max_retries=0,
            http_client=http_client(largest),
        )
    except httpx2.InvalidURL as error:
        raise SettingsError(f"base_url is no address: {error}", hint="correct base_url") from None


class Trouble(Exception):  # noqa: N818 - becomes a reply, not an error that anyone sees
    """One attempt that brought no answer: an error of the network or the server in our words.

    Attributes:
        fault: its name in `faults.FAULTS`.
        rule: what is done about it.
        detail: one line.
        wait: seconds that the server asks to wait before the next attempt.
    """

    def __init__(self, fault: str, detail: str, *, wait: float | None = None) -> None:
        super().__init__(detail)
        self.fault, self.rule, self.detail, self.wait = fault, FAULTS[fault], detail, wait

    @property
    def transient(self) -> bool:
        """Whether another attempt may bring an answer."""
        return self.rule.retry

    @property
    def unreachable(self) -> bool:
        """Whether there was no connection."""
        return self.rule.ends == "unheard"

    @property
    def rejected(self) -> bool:
        """Whether it ends the run when it is what the first requests all end in."""
        return self.rule.ends == "all rejected"


class Service:
    """One server while it is asked: its turns, its retries, and what its errors mean.

    Attributes:
        where: its address.
        heard: how many answers came from it, of whatever kind.
        limits: how fast it is asked.
    """

    def __init__(self, settings: Reached, client: "AsyncOpenAI", key: str, clock: Clock) -> None:
        self._settings, self._key, self._clock = settings, key, clock
        self.where = str(client.base_url).rstrip("/")
        self.heard = 0
        self.limits = Limits(settings.requests_per_minute, settings.tokens_per_minute, clock)
        self._answered = False
        self._heard_at = self._idle_since = clock.now()
        self._out = 0  # requests whose answer is waited for
        self._refused_since: float | None = None

    async def turn(self, tokens: float = 0.0) -> None:
        """Wait until one more request, of so many tokens as is foreseen, is within the limits."""
        await self.limits.turn(tokens)

    def retrying(self) -> AsyncRetrying:
        """Return what makes the attempts of one request, and waits in between; raises the last Trouble."""
        tries = Tries(heard=self.heard)
        wait: float | None = None

        def again(error: BaseException) -> bool:
            nonlocal wait
            wait = self.wait_after(error, tries) if isinstance(error, Trouble) else None
            return wait is not None

        def pause(_: RetryCallState) -> float:
            return wait or 0.0

        return AsyncRetrying(
            sleep=self._clock.sleep, stop=stop_never, wait=pause, retry=retry_if_exception(again), reraise=True
        )

    def wait_after(self, trouble: Trouble, tries: Tries) -> float | None:
        """Count an attempt that failed; return the seconds before the next one, None when there shall be none.

        Not where the very first connection fails: then the address is wrong. Without a wish of the server the time is
        random, up to 1, 2, 4, … 60 seconds ("full jitter", M. Brooker, AWS Architecture Blog, 2015).
        """
        rule = trouble.rule
        tries.made += 1
        tries.unsure += rule.unsure
        if rule.counts:
            tries.refused_since = None
            tries.counted += 1
        elif tries.refused_since is None:
            tries.refused_since = self._clock.now()
        if not rule.retry or (trouble.unreachable and self.heard == 0):
            return None
        if rule.counts and tries.counted > self._settings.max_retries:
            return None
        if tries.refused_since is not None and self._clock.now() - tries.refused_since > REFUSED:
            return None
        if trouble.wait is not None:
            return trouble.wait
        return random.uniform(0, min(LONGEST_BACKOFF, 2.0 ** min(tries.made - 1, 6)))  # noqa: S311 - no secret

    def check(self, waiting: int) -> None:
        """Give the service up when it has been silent, or has refused everything, for too long.

        It is silent only while a request is out: not while all of them wait for their turn, or for their next attempt.

        Args:
            waiting: how many requests have no reply yet; while there is none, nothing is expected.

        Raises:
            ServiceError: says for how long.
        """
        if not waiting:
            return
        now = self._clock.now()
        patience = self._settings.patience or 3 * self._settings.timeout
        quiet = (now if self._out else self._idle_since) - self._heard_at
        if quiet > patience * (LONGER if self._answered else 1):
            raise self.ending("silence", quiet=quiet)
        if self._refused_since is not None and now - self._refused_since > REFUSED:
            raise self.ending("429", quiet=now - self._refused_since)

    def unreachable(self, trouble: Trouble) -> ServiceError:
        """Return what to say of a server that cannot be reached."""
        return self.ending(trouble.fault, trouble.detail)

    def ending(self, fault: str, detail: str = "", *, hint: str = "", quiet: float = 0.0) -> ServiceError:
        """Return what to say when a fault ends the run; `hint` in place of the table's."""
        variable, rule = _holder(self._settings), FAULTS[fault]
        known = {
            "where": self.where,
            "model": self._settings.model,
            "variable": variable,
            "for_key": f" for the key in {variable}" if variable else "",
            "quiet": f"{quiet / 60:.0f} minutes" if quiet >= 120 else f"{quiet:.0f} seconds",
        }
        if fault in {"key", "forbidden"} and self._settings.api_key_file is not None:
            hint = f"write a key for {self.where} into {variable}"
        problem = rule.problem.format(**known)
        return ServiceError(f"{problem} ({detail})" if detail else problem, hint=hint or rule.hint.format(**known))

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
            with self._waited_for():
                answer = await asking
        except UnicodeEncodeError:
            words = "the prompt holds half a character (a lone surrogate), which cannot be sent"
            problem = Trouble("half a character", words)
        except openai.APIStatusError as error:
            self._hear()
            problem = self._refused(error, prompts)
        except (openai.OpenAIError, aiohttp.ClientError, OSError, Overrun) as error:
            problem = self._broken(error, prompts)
        else:
            self._hear()
            self._answered, self._refused_since = True, None
            return answer
        raise problem

    def answered(self, headers: Mapping[str, str], foreseen: float = 0.0, taken: float | None = None) -> None:
        """Learn how fast to ask from an answer's headers, and from the tokens that it took where the server counts."""
        self.limits.hear(headers, foreseen if taken is None else taken)
        if taken is not None:
            self.limits.correct(taken - foreseen)

    @contextmanager
    def _waited_for(self) -> Iterator[None]:
        """Count a request as out, and hear every part of its answer."""
        if not self._out:
            self._heard_at += self._clock.now() - self._idle_since
        self._out += 1
        before = listener.set(self._listen)
        try:
            yield
        finally:
            listener.reset(before)
            self._out -= 1
            self._idle_since = self._clock.now()

    def _listen(self) -> None:
        self._heard_at = self._clock.now()

    def _hear(self) -> None:
        self.heard += 1
        self._listen()

    def _broken(self, error: Exception, prompts: Iterable[str]) -> Trouble | ServiceError:
        """Say what happened to a connection."""
        fault, words = fault_of_connection(error, urlsplit(self.where).hostname or "")
        detail = self.clean(words, prompts)
        return self.ending(fault, detail) if FAULTS[fault].ends == "at once" else Trouble(fault, detail)

    def _refused(self, error: "APIStatusError", prompts: Iterable[str]) -> Trouble | ServiceError:
        """Say what a status from 300 up means: for this request, or for the whole run."""
        status, said = error.status_code, self.clean(said_in(error.body), prompts)
        detail = f"HTTP {status}: {said}" if said else f"HTTP {status}"
        body = error.body if isinstance(error.body, dict) else {}
        marks = f"{body.get('code')} {body.get('type')} {said}".casefold()
        wait = asked_wait(error.response.headers)
        fault = fault_of_status(status, marks, asked=wait is not None, keyed=_holder(self._settings) is not None)
        rule = FAULTS[fault]
        if rule.ends == "at once":
            return self.ending(fault, detail)
        if rule.pauses:
            self._slow_down(error.response.headers, wait, refused=fault == "429")
        return Trouble(fault, detail, wait=wait)

    def _slow_down(self, headers: Mapping[str, str], wait: float | None, *, refused: bool) -> None:
        """Let all requests wait as long as the server asks, not this one alone."""
        if refused:
            now = self._clock.now()
            self._refused_since = now if self._refused_since is None else self._refused_since
            self.limits.hear(headers, 1.0, refused=True)
        if wait is not None:
            self.limits.pause(wait)

    def without_key(self, text: T) -> T:
        """Return a server's words without the key, which it may repeat in an answer too."""
        if not isinstance(text, str) or len(self._key) < SHORTEST_SECRET:
            return text
        return text.replace(self._key, "***")  # type: ignore[return-value]

    def cleaned(self, reply: Reply, prompts: Iterable[str]) -> Reply:
        """Return a reply without the key in any of its words, and with a short `detail`."""
        said = {name: self.without_key(getattr(reply, name)) for name in ("text", "model", "finish_reason")}
        if not reply.detail and all(said[name] is getattr(reply, name) for name in said):
            return reply
        return replace(reply, detail=self.clean(reply.detail, prompts), **said)

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
