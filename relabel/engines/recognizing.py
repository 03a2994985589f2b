"""Which fault it is: from an error of the network, a status or headers to a name in `faults.FAULTS`."""

import contextlib
import math
import ssl
from collections.abc import Iterable, Iterator, Mapping
from datetime import UTC, datetime
from email.utils import parsedate_to_datetime
from typing import Final
from urllib.request import getproxies

from relabel.engines.faults import LONGEST_WAIT
from relabel.engines.transport import Overrun

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
TOO_LARGE: Final = ("request too large",)
"""What servers write (code, type or message, in lower case) when they mean these. Not "billing" alone: ordinary rate
limits come with a link to the billing page. "Request too large": more tokens than the limit has for a minute, which
OpenAI says with 429 as often as it is asked."""

REJECTED: Final = frozenset({400, 405, 415, 422})
"""Statuses of a request that the server takes to be wrong. When the first ones all are, it is a setting that is."""


_NAMED: Final = {
    401: "key",
    402: "payment",
    403: "forbidden",
    404: "model",
    407: "proxy login",
    408: "408",
    409: "409",
    413: "too long",
    429: "429",
}


def fault_of_status(status: int, marks: str, *, asked: bool, keyed: bool) -> str:
    """Return the name of the fault that an HTTP status means.

    Args:
        status: from 300 up.
        marks: what the server wrote beside it: code, type and message, in lower case.
        asked: whether it asks to wait.
        keyed: whether a key was sent.
    """

    def means(words: Iterable[str]) -> bool:
        return any(word in marks for word in words)

    special = (
        ("filtered", status in {400, 403} and means(FILTERED)),
        ("too long", status in {400, 422} and means(TOO_LONG)),
        ("too long", status == 429 and means(TOO_LARGE)),
        ("quota", status == 429 and means(NO_CREDIT)),
        ("no key", status in {401, 403} and not keyed),
        ("rejected", status in REJECTED),
        ("503 with Retry-After", status == 503 and asked),
    )
    usual = _NAMED.get(status, "5xx" if status >= 500 else "other status")
    return next((name for name, fits in special if fits), usual)


def fault_of_connection(error: Exception, host: str) -> tuple[str, str]:
    """Return the name of the fault that an error of the network means, and words for it.

    The openai package calls some lost connections timeouts (so its aiohttp transport maps them), hence the look at
    the causes.

    Args:
        error: what the openai package, or its transport, raised.
        host: of the service.
    """
    import aiohttp

    kinds: dict[type[BaseException], str] = {  # a subclass before its class
        aiohttp.ClientProxyConnectionError: "proxy",
        aiohttp.ClientConnectorCertificateError: "certificate",
        ssl.SSLCertVerificationError: "certificate",
        aiohttp.ClientConnectorError: "no connection",
        aiohttp.InvalidURL: "no connection",
        aiohttp.ConnectionTimeoutError: "connect timeout",
    }
    causes = list(_causes(error))
    for cause in causes:
        if isinstance(cause, Overrun):
            return cause.fault, str(cause)
        if isinstance(cause, aiohttp.ClientHttpProxyError):
            return "proxy login" if cause.status == 407 else "proxy", f"HTTP {cause.status}"
        fault = next((name for kind, name in kinds.items() if isinstance(cause, kind)), "")
        if isinstance(cause, aiohttp.ClientConnectorDNSError) and cause.host != host and getproxies():
            fault = "proxy"  # nobody knows its name
        if fault:
            away = fault in {"no connection", "connect timeout"}
            return fault, f"no connection: {cause}" if away else str(cause)
    if any(isinstance(cause, TimeoutError) for cause in causes):
        return "read timeout", "timed out"
    cut = any(isinstance(cause, aiohttp.ClientPayloadError) for cause in causes)
    return "cut body" if cut else "reset", f"connection lost ({type(causes[-1]).__name__})"


def _causes(error: BaseException) -> Iterator[BaseException]:
    """Yield an exception and what it was raised from, down to the first."""
    cause: BaseException | None = error
    while cause is not None:
        yield cause
        cause = cause.__cause__


def said_in(body: object) -> str:
    """Return the words of an error body: OpenAI's `message`, FastAPI's `detail`, or plain text; "" for a page."""
    if isinstance(body, dict):
        words = body.get("message") or body.get("detail") or ""
        if isinstance(words, list):  # one entry for each field that FastAPI finds wrong; "input" repeats the prompt
            words = "; ".join(str(entry.get("msg", "")) for entry in words if isinstance(entry, dict))
        return str(words)
    return "" if not isinstance(body, str) or body.startswith("<") else body


def asked_wait(headers: Mapping[str, str]) -> float | None:
    """Return the seconds that the server asks to wait, at most LONGEST_WAIT; None where it asks for nothing usable.

    A date is compared with the server's own `Date`, not with our clock, which may be another (RFC 9110, 10.2.3).
    """
    wait = math.nan
    with contextlib.suppress(ValueError):
        wait = float(headers.get("retry-after-ms", "")) / 1000
    after = headers.get("retry-after", "")
    if math.isnan(wait):
        with contextlib.suppress(ValueError):
            wait = float(after)
    if math.isnan(wait) and (until := _moment(after)) is not None:
        wait = (until - (_moment(headers.get("date", "")) or datetime.now(UTC))).total_seconds()
    return min(wait, LONGEST_WAIT) if wait >= 0 else None


def _moment(date: str) -> datetime | None:
    """Return the moment that a header's date means, None where it means none."""
    try:
        moment = parsedate_to_datetime(date)
    except (ValueError, OverflowError):  # a year or a zone of many digits
        return None
    return moment.replace(tzinfo=moment.tzinfo or UTC)
