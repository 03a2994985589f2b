"""What can go wrong between relabel and a model service, and what is done about each: one table, as data.

`service` finds out which fault it is when no answer comes, `completions` when one comes that is none. All that is then
decided (ask again? how often? what stands in the judgment? does the run end, with which words?) stands here.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from types import MappingProxyType
from typing import Final, Literal

Ends = Literal["never", "at once", "unheard", "all rejected", "silent", "all refused"]
"""When a fault ends the run: never, the first time, when the service was never heard or stays out of reach, when the
first requests all end in it, when nothing at all is heard, or when nothing but refusals is."""


@dataclass(frozen=True, slots=True)
class Rule:
    """What is done about one kind of fault.

    Attributes:
        what: what the service, or what lies between, does.
        outcome: the reason in the judgment when the fault stays: "failed", "filtered", "too long", "refused",
            "cut off", "unreadable"; "" where the pair is judged all the same.
        retry: the request is asked again, after the time that the server asks for, or else a random time that grows.
        counts: each attempt counts against `max_retries`; if not, the request is given up after `REFUSED` seconds.
        pauses: the server's Retry-After holds for all requests, not for this one alone.
        kept: the answer was paid for and is kept: a resumed run does not ask again.
        unsure: nobody knows whether the server counted and billed it, unless the answer tells its usage.
        ends: when the run ends, with exit code 3.
        problem, hint: what is said then; {where}, {model}, {variable} and {quiet} are filled in.
        note: what else the table in the README says.
    """

    what: str
    outcome: str = "failed"
    retry: bool = False
    counts: bool = True
    pauses: bool = False
    kept: bool = False
    unsure: bool = False
    ends: Ends = "never"
    problem: str = ""
    hint: str = ""
    note: str = ""


LONGEST_WAIT: Final = 120.0
"""Seconds: a server that asks for a longer pause is asked again after this one."""

REFUSED: Final = 600.0
"""Seconds for which a request, or all of them, may be refused for the rate before it is given up."""

_UNREACHED: Final = "the model service does not answer"
_START: Final = "start the server or correct base_url, now {where}"
_AGAIN: Final = "type the same command again: what is answered is not asked again"

_NETWORK: Final = {
    "no connection": Rule(
        "refuses connections, or nobody knows its name",
        retry=True, ends="unheard", problem=_UNREACHED, hint=_START,
    ),
    "connect timeout": Rule(
        "takes no connection within 10 s", retry=True, ends="unheard", problem=_UNREACHED, hint=_START
    ),
    "certificate": Rule(
        "shows a certificate that nobody trusted has signed, or of another name",
        ends="at once",
        problem="{where} shows a certificate that is not trusted here",
        hint="type: export SSL_CERT_FILE=… with the file of the authority that signed it, or correct base_url",
    ),
    "proxy": Rule(
        "is behind a proxy (HTTPS_PROXY) that does not answer or does not let us through",
        ends="at once",
        problem="the proxy on the way to {where} does not let us through",
        hint="correct HTTPS_PROXY (HTTP_PROXY, ALL_PROXY), or type: export NO_PROXY=… with the server's name",
    ),
    "proxy login": Rule(
        "is behind a proxy that wants a password (HTTP 407)",
        ends="at once",
        problem="the proxy on the way to {where} wants a name and a password",
        hint="type: export HTTPS_PROXY=http://NAME:PASSWORD@HOST:PORT (HTTP_PROXY for an http:// address)",
    ),
    "read timeout": Rule("sends nothing for `timeout` seconds", retry=True, unsure=True),
    "trickle": Rule(
        "sends its answer so slowly that it is not whole after 10 × `timeout`",
        unsure=True,
        ends="all rejected",
        problem="{where} sends answers that do not end",
        hint=f"a server that sends spaces while its model thinks for long needs a larger timeout. Then {_AGAIN}",
        note="the server may have billed it",
    ),
    "silence": Rule(
        "takes requests and answers none of them, for ever",
        retry=True,
        ends="silent",
        problem="{where} takes requests and has said nothing for {quiet}",
        hint=f"see whether the model is loaded; a slow one needs a larger timeout or patience. Then {_AGAIN}",
    ),
    "reset": Rule("drops the connection without an answer", retry=True, unsure=True),
    "cut body": Rule(
        "drops the connection in the middle of the answer",
        retry=True, unsure=True, note="the server may have billed it",
    ),
    "large answer": Rule(
        "sends an answer of more than 64 MiB", unsure=True, note="the server may have billed it",
    ),
    "half a character": Rule("is never asked: the prompt is no valid Unicode"),
}  # fmt: skip

_STATUS: Final = {
    "408": Rule("HTTP 408", retry=True),
    "409": Rule("HTTP 409", retry=True),
    "429": Rule(
        "HTTP 429, with Retry-After (seconds, ms, a date) or without",
        retry=True,
        counts=False,
        pauses=True,
        ends="all refused",
        problem="{where} has refused every request for {quiet}",
        hint=f"when its limit allows it, {_AGAIN}; requests_per_minute and tokens_per_minute keep to a limit",
    ),
    "5xx": Rule("HTTP 500 and above, a web page instead of JSON too", retry=True),
    "503 with Retry-After": Rule("HTTP 503 with Retry-After", retry=True, pauses=True),
    "quota": Rule(
        "HTTP 429 that means no credit (insufficient_quota)",
        ends="at once",
        problem="{where} has no more credit{for_key}",
        hint="add credit, then type the same command again: what is answered is not asked again",
    ),
    "payment": Rule(
        "HTTP 402",
        ends="at once",
        problem="{where} has no more credit{for_key}",
        hint="add credit, then type the same command again: what is answered is not asked again",
    ),
    "key": Rule(
        "HTTP 401",
        ends="at once",
        problem="{where} does not accept the key in {variable}",
        hint="type: export {variable}=… with a key for {where}",
    ),
    "forbidden": Rule(
        "HTTP 403",
        ends="at once",
        problem="{where} does not accept the key in {variable}",
        hint="type: export {variable}=… with a key for {where}",
    ),
    "no key": Rule(
        "HTTP 401 or 403 where no key is sent",
        ends="at once",
        problem="{where} wants a key, and none is sent",
        hint="set api_key_env to the name of the environment variable that holds the key for this server",
    ),
    "model": Rule(
        "HTTP 404",
        ends="at once",
        problem="{where} does not serve the model {model!r}",
        hint="correct model or base_url; {where}/models lists the models",
    ),
    "too long": Rule("HTTP 400 or 422 that means the context, HTTP 413, or more tokens than a minute has", "too long"),
    "filtered": Rule("HTTP 400 or 403 of a content filter", "filtered"),
    "rejected": Rule(
        "HTTP 400, 405, 415, 422",
        ends="all rejected",
        problem="{where} rejects every request",
        hint="correct the engine's settings: base_url, model, choices, max_tokens, temperature, extra_body",
    ),
    "other status": Rule("another status"),
}

_ANSWER: Final = {
    "refusal": Rule("HTTP 200 with a refusal", "refused", kept=True),
    "content filter": Rule("HTTP 200, finish_reason=content_filter", "filtered", kept=True),
    "length": Rule("HTTP 200, finish_reason=length", "cut off", kept=True),
    "broken words": Rule("HTTP 200, the model's JSON is truncated or wrong", "unreadable", kept=True),
    "no choices": Rule("HTTP 200 with empty choices", unsure=True),
    "no text": Rule("HTTP 200 with a choice that holds no text", unsure=True),
    "error in 200": Rule("HTTP 200 that holds an error", unsure=True),
    "not JSON": Rule("HTTP 200 that is no JSON", unsure=True),
    "page in 200": Rule("HTTP 200 with a web page", unsure=True),
    "usage": Rule("HTTP 200 without a usage, or with nonsense", "", kept=True, note="the cost is unknown, not $0"),
    "nothing useful": Rule("HTTP 200 without what was asked for: an embedding for each text", retry=True),
}

FAULTS: Final[Mapping[str, Rule]] = MappingProxyType({**_NETWORK, **_STATUS, **_ANSWER})
"""Every fault by its name."""
