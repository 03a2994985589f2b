"""The OpenAI engine against a real server that misbehaves, over a real socket."""

import asyncio
import contextlib
import gzip
import itertools
import json
import math
import queue
import re
import subprocess
import sys
import threading
import time
import traceback
import urllib.request
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from clocks import Skipping
from openai import AsyncOpenAI
from pydantic import ValidationError
from server import PERMANENT, TRANSIENT, FakeServer, Plan, completion, content_key, oracle, refuse
from starlette.responses import JSONResponse, RedirectResponse, Response

from relabel.engine_settings import OpenAI
from relabel.engines import openai as openai_module
from relabel.engines import transport
from relabel.engines.budget import Meter
from relabel.engines.clock import Clock
from relabel.engines.faults import LONGEST_WAIT, REFUSED
from relabel.engines.openai import LOOKAHEAD, OpenAIEngine
from relabel.engines.recognizing import asked_wait
from relabel.engines.remembering import Remembering
from relabel.engines.service import Service, Trouble
from relabel.errors import ServiceError, SettingsError
from relabel.money import Price
from relabel.protocols import Engine, Message, Reply, Request
from relabel.store import Store

KEY = "sk-quite-secret-0123456789"


@pytest.fixture(autouse=True)
def key(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """Give every test a key; afterwards no thread of an engine may be left."""
    monkeypatch.setenv("OPENAI_API_KEY", KEY)
    monkeypatch.delenv("OPENAI_BASE_URL", raising=False)
    yield
    assert [thread.name for thread in threading.enumerate() if thread.name.startswith("relabel-")] == []


@pytest.fixture(scope="module")
def shared() -> Iterator[FakeServer]:
    """One server for the module: starting one for each test is slow."""
    with FakeServer() as server:
        yield server


@pytest.fixture
def server(shared: FakeServer) -> FakeServer:
    """Give the server, behaving well and with nothing counted."""
    shared.answer, shared.plan, shared.latency = oracle, Plan(), 0.0
    shared.asked.clear()
    shared.bodies.clear()
    shared.most_at_once = 0
    return shared


def ask(number: int | str = 1, **more: Any) -> Request:
    """Return a request; another number is another content."""
    question = f"Is passage {number} an answer to the query, all things considered?"
    return Request(address=str(number), messages=(Message("system", "You judge."), Message("user", question)), **more)


def engine(server: FakeServer, clock: Clock | None = None, **settings: Any) -> OpenAIEngine:
    """Return an engine for the server that is quick to give up."""
    quick: dict[str, Any] = {"max_retries": 2, "timeout": 5.0, "patience": 60.0, "api_key_env": "OPENAI_API_KEY"}
    chosen = OpenAI(model="fake", base_url=server.url, **(quick | settings))
    return OpenAIEngine(chosen, clock=clock or Skipping())


def one(server: FakeServer, kind: str, clock: Clock | None = None, **settings: Any) -> Reply:
    """Return the reply to one request that meets one fault, again and again."""
    server.plan = Plan(1.0, (kind,), clears_after=99)
    [reply] = engine(server, clock, **settings).answer([ask(kind)])
    return reply


def test_a_good_reply(server: FakeServer) -> None:
    """Text, model, tokens and time of an ordinary answer all arrive, and the body holds what the settings say."""
    server.answer = lambda *_: "Yes"
    tested: Engine = engine(server, temperature=0.3, top_p=0.9, max_tokens=50, seed=7, extra_body={"min_p": 0.1})
    [reply] = tested.answer([ask(1)])
    assert reply.request == ask(1)
    assert (reply.text, reply.failure, reply.finish_reason, reply.model) == ("Yes", "", "stop", "fake-2026-01-01")
    assert (reply.usage.tokens_in, reply.usage.tokens_out, reply.usage.tokens_cached) == (13, 1, 6)
    assert reply.usage.seconds is not None
    assert 0 < reply.usage.seconds < 5
    assert server.bodies[0] == {
        "messages": [{"role": message.role, "content": message.content} for message in ask(1).messages],
        "model": "fake",
        "temperature": 0.3,
        "top_p": 0.9,
        "max_tokens": 50,
        "seed": 7,
        "min_p": 0.1,
    }


def test_settings_that_are_none_are_not_sent(server: FakeServer) -> None:
    """Models that refuse a parameter can be asked: None leaves it out."""
    list(engine(server, temperature=None, max_tokens=None).answer([ask()]))
    assert set(server.bodies[0]) == {"messages", "model"}


@pytest.mark.parametrize(
    ("mode", "extra"),
    [
        ("text", {}),
        ("logprobs", {"logprobs": True, "top_logprobs": 20}),
        ("structured", {"logprobs": True, "top_logprobs": 20, "structured_outputs": {"choice": ["Yes", "No"]}}),
    ],
)
def test_choices_are_asked_for_as_set(server: FakeServer, mode: str, extra: dict[str, Any]) -> None:
    """Each mode adds its own fields, and probabilities come back where log-probabilities were asked for."""
    server.answer = lambda *_: "Yes"
    [reply] = engine(server, choices=mode).answer([ask(1, choices=("Yes", "No"))])
    sent = {name: value for name, value in server.bodies[0].items() if "log" in name or "struct" in name}
    assert sent == extra
    assert reply.text == "Yes"
    # .75 for "Yes" and .05 for " yes"; .15 is shared by four other words, "No" among them
    assert dict(reply.probabilities) == (pytest.approx({"Yes": 0.8, "No": 0.0375}) if extra else {})


def test_a_schema_is_asked_for(server: FakeServer) -> None:
    """A request with a schema is sent as a strict JSON schema and answered with an instance of it."""
    schema = {"type": "object", "properties": {"relevant": {"enum": ["yes", "no"]}}, "required": ["relevant"]}
    [reply] = engine(server).answer([ask(schema=schema)])
    form = server.bodies[0]["response_format"]
    assert form == {
        "type": "json_schema",
        "json_schema": {"name": "verdicts", "strict": True, "schema": schema},
    }
    assert json.loads(reply.text or "") in [{"relevant": "yes"}, {"relevant": "no"}]


@pytest.mark.parametrize(
    ("kind", "failure", "detail", "retryable"),
    [
        ("refusal", "refused", "I can't help.", False),
        ("filter", "filtered", "the server's content filter stopped the answer", False),
        ("empty", "failed", "the reply is empty", True),
        ("no content", "failed", "the reply holds no text", True),
        ("error in 200", "failed", "upstream is down", True),
        ("page in 200", "failed", "a web page came instead of JSON", True),
        ("no json", "failed", "what came is not JSON", True),
        ("list", "failed", "the reply is empty", True),
        ("too long", "too long", "HTTP 400: maximum context length is 10 tokens", True),
        ("too long at vllm", "too long", "HTTP 400: This model's maximum context length is 10 tokens.", True),
        ("filtered", "filtered", "HTTP 400: The prompt triggered the policy", True),
        ("moderated", "filtered", "HTTP 403: requires moderation; your input was flagged", True),
        ("bad request", "failed", "HTTP 400: Unknown parameter in [prompt] line two", True),
        ("bad fields", "failed", "HTTP 422: Input too big", True),
        ("echo", "failed", "HTTP 400: Cannot read header Bearer ***", True),
    ],
)
def test_a_fault_of_one_answer(server: FakeServer, kind: str, failure: str, detail: str, retryable: bool) -> None:
    """What one request suffers is one reply without text, asked once, with the server's words and without the key.

    Only what came with status 200 and holds something was paid for: all else may be asked again by a resume.
    """
    reply = one(server, kind)
    assert (reply.text, reply.failure, reply.detail, reply.retryable) == (None, failure, detail, retryable)
    assert server.total == 1


def test_a_cut_off_answer_keeps_its_text(server: FakeServer) -> None:
    """finish_reason "length" is a failure that still shows what was written."""
    reply = one(server, "length")
    assert (reply.failure, reply.finish_reason, reply.retryable) == ("cut off", "length", False)
    assert reply.text in {"Yes", "No"}


def test_broken_words_are_an_answer(server: FakeServer) -> None:
    """Unreadable text is not the engine's business: it arrives as it came."""
    reply = one(server, "broken")
    assert (reply.text, reply.failure) == ('{"verdict": "relev', "")


@pytest.mark.parametrize("kind", ["usage", "no usage"])
def test_a_wrong_count_of_tokens_is_no_count(server: FakeServer, kind: str) -> None:
    """A nonsensical or missing usage leaves the answer as it is and the counts unknown."""
    reply = one(server, kind)
    assert (reply.text in {"Yes", "No"}, reply.failure) == (True, "")
    assert (reply.usage.tokens_in, reply.usage.tokens_out, reply.usage.tokens_cached) == (None, None, None)


@pytest.mark.parametrize("kind", TRANSIENT)
def test_a_transient_fault_is_tried_again(server: FakeServer, kind: str) -> None:
    """A fault that clears costs two further attempts and nothing else."""
    server.plan = Plan(1.0, (kind,), clears_after=2)
    clock = Skipping()
    [reply] = engine(server, clock, timeout=0.3).answer([ask(kind)])
    assert (reply.text in {"Yes", "No"}, reply.failure) == (True, "")
    assert server.total == 3


@pytest.mark.parametrize(
    ("kind", "detail"),
    [
        ("error", "HTTP 500: The server had an error, tried 3 times"),
        ("page", "HTTP 503, tried 3 times"),
        ("hang", "timed out, tried 3 times"),
        ("cut", "connection lost (ContentLengthError), tried 3 times"),
        ("reset", "connection lost (ServerDisconnectedError), tried 3 times"),
    ],
)
def test_a_fault_that_stays_is_given_up(server: FakeServer, kind: str, detail: str) -> None:
    """After the last attempt the reply says what happened and how often, and that a resume may ask again."""
    reply = one(server, kind, timeout=0.3)
    assert (reply.text, reply.failure, reply.detail, reply.retryable) == (None, "failed", detail, True)
    assert server.total == 3


def test_a_refusal_for_the_rate_is_no_attempt(server: FakeServer) -> None:
    """A 429 counts against no max_retries: it is about the rate. A request refused for ten minutes is given up."""
    server.plan = Plan(1.0, ("rate limit",), clears_after=9)
    assert [reply.failure for reply in engine(server, max_retries=0).answer([ask(1)])] == [""]
    assert server.total == 10
    clock = Skipping()
    started = clock.now()
    reply = one(server, "rate limit", clock)
    assert (reply.failure, reply.retryable) == ("failed", True)
    assert reply.detail.startswith("HTTP 429: Rate limit reached, see /account/billing, tried ")
    assert clock.now() - started > REFUSED


def test_no_retries(server: FakeServer) -> None:
    """max_retries counts attempts after the first: 0 asks once."""
    assert one(server, "error", max_retries=0).detail == "HTTP 500: The server had an error"
    assert server.total == 1


@pytest.mark.parametrize(
    ("kind", "low", "high"),
    [("rate limit", 1, 1), ("rate limit ms", 0.03, 0.03), ("rate limit date", 0, 3), ("error", 0, 1)],
)
def test_the_wait_is_the_one_asked_for(server: FakeServer, kind: str, low: float, high: float) -> None:
    """Retry-After in seconds, milliseconds or as a date is obeyed; without it the first wait is random below 1 s."""
    clock = Skipping()
    server.plan = Plan(1.0, (kind,), clears_after=1)
    list(engine(server, clock).answer([ask(kind)]))
    assert low <= clock.waits[0] <= high


@pytest.mark.parametrize(
    ("headers", "wait"),
    [
        ({"retry-after": "3600"}, LONGEST_WAIT),
        ({"retry-after-ms": "1500", "retry-after": "9"}, 1.5),
        ({"retry-after-ms": "soon", "retry-after": "9"}, 9),
        ({"retry-after": "Wed, 01 Jan 2020 00:00:00 GMT"}, None),
        ({"retry-after": "Wed, 01 Jan 2200 00:00:00 -0000"}, LONGEST_WAIT),
        ({"retry-after": "Wed, 01 Jan 2020 00:00:09 GMT", "date": "Wed, 01 Jan 2020 00:00:05 GMT"}, 4),
        ({"retry-after": "Wed, 01 Jan 2200 00:00:09 GMT", "date": "Wed, 01 Jan 2200 00:00:05 GMT"}, 4),
        ({"retry-after": "Wed, 01 Jan 2020 00:00:09 GMT", "date": "today"}, None),
        ({"retry-after": "-1"}, None),
        ({"retry-after": "nan"}, None),
        ({"retry-after": "later"}, None),
        ({"retry-after": "Mon, 01 Jan 2024 00:00:00 +99999999999999999999"}, None),
        ({"retry-after": "Mon, 01 Jan 99999999999 00:00:00 GMT"}, None),
        ({"retry-after": "Wed, 01 Jan 2020 00:00:09 GMT", "date": "Mon, 01 Jan 99999999999 00:00:00 GMT"}, None),
        ({}, None),
    ],
)
def test_what_retry_after_may_hold(headers: dict[str, str], wait: float | None) -> None:
    """Long waits are bounded; a date is measured by the server's clock; what is past or no time says nothing."""
    assert asked_wait(headers) == wait


@pytest.mark.parametrize(
    ("kind", "said", "hint"),
    [
        ("key", "does not accept the key in OPENAI_API_KEY", "export OPENAI_API_KEY="),
        ("forbidden", "does not accept the key in OPENAI_API_KEY", "export OPENAI_API_KEY="),
        ("model", "does not serve the model 'fake'", "correct model or base_url"),
        ("no credit", "has no more credit for the key in OPENAI_API_KEY", "add credit"),
        ("payment", "has no more credit for the key in OPENAI_API_KEY", "add credit"),
    ],
)
def test_what_every_request_would_suffer_ends_the_run(server: FakeServer, kind: str, said: str, hint: str) -> None:
    """A wrong key, an unknown model and an empty account raise at once, say what to type, and never show the key."""
    server.plan = Plan(1.0, (kind,))
    with pytest.raises(ServiceError) as caught:
        list(engine(server, concurrency=4).answer(ask(number) for number in range(1000)))
    assert said in caught.value.message
    assert server.url in caught.value.message
    assert hint in caught.value.hint
    assert server.total <= 8
    assert KEY not in "".join(traceback.format_exception(caught.value))


def rejecting(
    server: FakeServer, monkeypatch: pytest.MonkeyPatch, say: Callable[[int], str], status: int = 400
) -> None:
    """Make the server reject every request; `say` is given how many it has seen."""

    async def fault(*_: object) -> Response:
        return refuse(status, say(server.total))

    monkeypatch.setattr(server, "fault", fault)
    server.plan = Plan(1.0, ("rejected",))


@pytest.mark.parametrize(
    ("status", "said", "settings", "hint"),
    [
        (400, "Unsupported parameter: 'max_tokens'. Use 'max_completion_tokens' instead.", {}, "max_tokens: null"),
        (400, "'temperature' does not support 0.0 with this model.", {}, "temperature: null"),
        (422, "logprobs are not enabled", {}, "choices: text"),
        (400, "Unrecognized request argument: min_p", {"extra_body": {"min_p": 0.1}}, "take min_p out of extra_body"),
        (405, "Method Not Allowed", {}, "base_url"),
        (415, "Unsupported media type", {}, "base_url"),
    ],
)
def test_a_server_that_rejects_everything_ends_the_run(
    server: FakeServer, monkeypatch: pytest.MonkeyPatch, status: int, said: str, settings: dict[str, Any], hint: str
) -> None:
    """When the first requests are all rejected a setting is wrong: the error has the server's words and says which.

    The words need not be equal: servers put numbers of requests into them.
    """
    rejecting(server, monkeypatch, lambda seen: f"{said} Request {seen}", status)
    with pytest.raises(ServiceError, match="rejects every request") as caught:
        list(engine(server, concurrency=4, **settings).answer(ask(number) for number in range(1000)))
    assert said in caught.value.message
    assert server.url in caught.value.message
    assert hint in caught.value.hint
    assert 3 <= server.total <= 20


def test_a_few_requests_that_are_all_rejected_end_the_run(server: FakeServer, monkeypatch: pytest.MonkeyPatch) -> None:
    """With none in flight three are enough, so that a small input is stopped too; one or two may be their own fault."""
    rejecting(server, monkeypatch, lambda _: "Unsupported parameter: 'max_tokens'")
    with pytest.raises(ServiceError, match="rejects every request"):
        list(engine(server).answer(ask(number) for number in range(3)))
    assert [reply.failure for reply in engine(server).answer(ask(number) for number in range(2))] == ["failed"] * 2


@pytest.mark.parametrize("kind", ["too long", "filtered", "error"])
def test_other_failures_of_every_request_are_replies(server: FakeServer, kind: str) -> None:
    """Prompts that are too long or filtered, and a server in trouble, say nothing about the settings."""
    server.plan = Plan(1.0, (kind,), clears_after=99)
    replies = list(engine(server, max_retries=0).answer(ask(number) for number in range(15)))
    assert {reply.text for reply in replies} == {None}
    assert len(replies) == 15


def test_rejections_do_not_outrun_an_answer(server: FakeServer, monkeypatch: pytest.MonkeyPatch) -> None:
    """Rejections come faster than answers: as long as one of the first ten requests is on its way, nobody gives up."""

    async def fault(_: str, body: dict[str, Any], *__: object) -> Response:
        if "passage 4 " not in body["messages"][-1]["content"]:
            return refuse(400, "Unsupported parameter")
        await asyncio.sleep(0.3)
        return JSONResponse(completion("Yes", body))

    monkeypatch.setattr(server, "fault", fault)
    server.plan = Plan(1.0, ("rejected",))
    replies = list(engine(server, concurrency=8).answer(ask(number) for number in range(60)))
    assert [reply.request.address for reply in replies if not reply.failure] == ["4"]
    assert len(replies) == 60


@pytest.mark.parametrize("how", ["an answer", "vouch"])
def test_a_service_that_has_answered_is_not_given_up(
    server: FakeServer, monkeypatch: pytest.MonkeyPatch, how: str
) -> None:
    """After an answer, of this run or of one before, rejections are a matter of their requests."""
    tested = engine(server)
    if how == "vouch":
        tested.vouch()
    else:
        list(tested.answer([ask(0)]))
    rejecting(server, monkeypatch, lambda _: "Unsupported parameter: 'max_tokens'")
    assert len(list(tested.answer(ask(number) for number in range(1, 16)))) == 15


def test_what_was_answered_before_the_end_is_not_lost(server: FakeServer) -> None:
    """The replies that came before a ServiceError are yielded before it is raised."""
    replies = engine(server, concurrency=1).answer(ask(number) for number in range(10))
    assert next(replies).failure == ""
    server.plan = Plan(1.0, ("key",))
    with pytest.raises(ServiceError):
        list(replies)


def unused_port() -> int:
    """Return a port where nobody listens."""
    with FakeServer() as gone:
        return int(gone.url.rpartition(":")[2].removesuffix("/v1"))


@pytest.mark.parametrize("address", ["http://127.0.0.1:{port}/v1", "http://nowhere.invalid/v1"])
def test_an_unreachable_server_ends_the_run_at_once(address: str) -> None:
    """When the very first connection fails nobody waits for retries; the message names the address."""
    url, clock = address.format(port=unused_port()), Skipping()
    tested = OpenAIEngine(OpenAI(model="fake", base_url=url), clock=clock)
    with pytest.raises(ServiceError, match=r"does not answer \(no connection") as caught:
        list(tested.answer([ask()]))
    assert "base_url" in caught.value.hint
    assert clock.waits == []


def test_a_server_that_goes_away_ends_the_run() -> None:
    """A server that answered and then cannot be reached through all retries raises, too."""
    clock = Skipping()
    with FakeServer() as server:
        replies = engine(server, clock, concurrency=1).answer(iter_after(2, stopped := threading.Event()))
        assert next(replies).failure == ""
    stopped.set()
    with pytest.raises(ServiceError, match="does not answer"):
        next(replies)
    assert len(clock.waits) == 2


def iter_after(count: int, event: threading.Event) -> Iterator[Request]:
    """Yield requests, all but the first only after the event."""
    for number in range(count):
        if number:
            event.wait(10)
        yield ask(number)


def test_a_missing_key_is_said_at_once(monkeypatch: pytest.MonkeyPatch) -> None:
    """Without key and base_url `answer` itself refuses, before anything is pulled, and names the variable."""
    monkeypatch.delenv("MY_KEY", raising=False)
    tested = OpenAIEngine(OpenAI(model="gpt-4o-mini", api_key_env="MY_KEY"))
    with pytest.raises(SettingsError, match="MY_KEY") as caught:
        tested.answer([])
    assert "export MY_KEY" in caught.value.hint


@pytest.mark.parametrize("how", ["base_url", "OPENAI_BASE_URL"])
def test_another_server_does_not_get_openais_key(server: FakeServer, monkeypatch: pytest.MonkeyPatch, how: str) -> None:
    """A server of one's own gets no key unless one is named for it, and the user's key for OpenAI never."""
    sent: list[str] = []
    spied = server.fault

    def fault(kind: str, body: dict[str, Any], request: Any) -> Any:
        sent.append(json.dumps(request.headers.items()))
        return spied(kind, body, request)

    monkeypatch.setattr(server, "fault", fault)
    if how == "OPENAI_BASE_URL":
        monkeypatch.setenv(how, server.url)
    server.plan = Plan(1.0, ("echo",))
    settings = OpenAI(model="fake", base_url=server.url if how == "base_url" else None)
    [reply] = OpenAIEngine(settings).answer([ask()])
    assert reply.detail == "HTTP 400: Cannot read header Bearer none"
    [headers] = sent
    assert KEY not in headers


def test_a_key_that_is_named_is_sent(server: FakeServer, monkeypatch: pytest.MonkeyPatch) -> None:
    """The named variable's key goes to the server and no other; a variable without a key is an error, not no key."""
    monkeypatch.setenv("MY_KEY", "sk-mine")
    assert one(server, "echo", api_key_env="MY_KEY").detail == "HTTP 400: Cannot read header Bearer ***"
    monkeypatch.delenv("MY_KEY")
    with pytest.raises(SettingsError, match="MY_KEY"):
        engine(server, api_key_env="MY_KEY").answer([])


def test_a_server_that_wants_a_key_and_gets_none(server: FakeServer) -> None:
    """The error says which setting names the key."""
    server.plan = Plan(1.0, ("key",))
    with pytest.raises(ServiceError, match="wants a key") as caught:
        list(engine(server, api_key_env=None).answer([ask()]))
    assert "api_key_env" in caught.value.hint


def test_a_password_in_the_address_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    """An address with a user and a password is an error that says where a key belongs and repeats no password."""
    address = "https://me:secret@example.org/v1"
    with pytest.raises(ValidationError, match="environment variable") as refused:
        OpenAI(model="m", base_url=address)
    assert "secret" not in str(refused.value)
    assert "secret" not in repr(refused.value)
    monkeypatch.setenv("OPENAI_BASE_URL", address)
    with pytest.raises(SettingsError, match="OPENAI_BASE_URL") as caught:
        OpenAIEngine(OpenAI(model="m")).answer([])
    assert "secret" not in str(caught.value)
    OpenAI(model="m", base_url="https://example.org/v1/@cf/meta")  # as Cloudflare has it: no password


def test_a_name_that_no_host_can_have() -> None:
    """What passes for an address and cannot be asked (full-width letters) is an error of the setting."""
    with pytest.raises(SettingsError, match="base_url is no address"):
        list(OpenAIEngine(OpenAI(model="m", base_url="http://\uff41.com/v1")).answer([ask()]))
    OpenAI(model="m", base_url="http://[::1]:8000/v1")
    OpenAI(model="m", base_url="http://gpu_box.local:8000/v1")
    OpenAI(model="m", base_url="https://stra\u00dfe.example./v1")


@pytest.mark.parametrize("behind", ["?api_key=secret", "#secret", "?"])
def test_a_query_in_the_address_is_refused(monkeypatch: pytest.MonkeyPatch, behind: str) -> None:
    """A key behind the path would be printed with the address: it is refused, with where a key belongs."""
    address = f"https://example.org/v1{behind}"
    with pytest.raises(ValidationError, match="environment variable") as refused:
        OpenAI(model="m", base_url=address)
    assert "secret" not in str(refused.value)
    monkeypatch.setenv("OPENAI_BASE_URL", address)
    with pytest.raises(SettingsError, match="OPENAI_BASE_URL") as caught:
        OpenAIEngine(OpenAI(model="m")).answer([])
    assert "secret" not in str(caught.value)


def test_half_a_character_is_a_failure_of_its_request(server: FakeServer) -> None:
    """A prompt that is no valid Unicode cannot be sent; the others are."""
    replies = list(engine(server).answer([ask("\ud800"), ask(2)]))
    assert {reply.request.address: reply.failure for reply in replies} == {"\ud800": "failed", "2": ""}


def outcome(reply: Reply) -> tuple[str, str | None, str]:
    """Return what must not depend on order or timing."""
    return reply.request.address, reply.text, reply.failure


def test_order_and_concurrency_change_nothing(server: FakeServer) -> None:
    """With half the contents going wrong, any order and any concurrency bring the same replies, each once."""
    server.plan = Plan(0.5, tuple(kind for kind in TRANSIENT + PERMANENT if kind != "hang"), seed=3)
    requests = [ask(number) for number in range(150)]
    forwards = list(engine(server, concurrency=32).answer(requests))
    assert sorted(reply.request.address for reply in forwards) == sorted(request.address for request in requests)
    assert {reply.failure for reply in forwards} == {"", "refused", "cut off", "failed"}
    server.asked.clear()
    backwards = list(engine(server, concurrency=3).answer(reversed(requests)))
    assert set(map(outcome, forwards)) == set(map(outcome, backwards))


@pytest.mark.parametrize("workers", [1, 5])
def test_concurrency_is_bounded_and_used(server: FakeServer, workers: int) -> None:
    """The server never sees more requests at once than set, and does see that many."""
    server.latency = 0.02
    assert len(list(engine(server, concurrency=workers).answer(ask(number) for number in range(30)))) == 30
    assert server.most_at_once == workers


def test_requests_per_minute_are_kept(server: FakeServer) -> None:
    """At 600 a minute, one second's 10 may go at once and the next 10 take a second: 20 take about 1 s."""
    started = time.perf_counter()
    list(engine(server, Clock(), requests_per_minute=600).answer(ask(number) for number in range(20)))
    assert 0.9 < time.perf_counter() - started < 5


def test_retries_count_against_requests_per_minute(server: FakeServer) -> None:
    """Three attempts at 60 a minute take two seconds, though the waits in between may be shorter."""
    started = time.perf_counter()
    one(server, "error", Clock(), requests_per_minute=60)
    assert 1.9 < time.perf_counter() - started < 6


def test_tokens_per_minute_are_kept(server: FakeServer) -> None:
    """A prompt of 13 tokens and its answer of one: at 840 a minute one a second, once the server's count is known."""
    server.answer = lambda *_: "Yes"
    started = time.perf_counter()
    list(engine(server, Clock(), tokens_per_minute=840, max_tokens=1).answer(ask(number) for number in range(5)))
    assert 2.9 < time.perf_counter() - started < 8


def test_a_wait_holds_no_worker_up(server: FakeServer) -> None:
    """One worker: while a request waits for its next attempt, all others are answered."""

    class Slow(Clock):
        def later(self, _: float, function: Callable[..., object], *arguments: object) -> None:
            super().later(0.5, function, *arguments)

    server.plan = Plan(0.1, ("error",))
    hit = [number for number in range(99) if server.plan.fault(key_of(ask(number)), 1)]
    requests = [ask(hit[0]), *(ask(number) for number in range(20) if number not in hit)]
    replies = list(engine(server, Slow(), concurrency=1).answer(requests))
    assert replies[-1].request == requests[0]
    assert [reply.failure for reply in replies] == [""] * len(requests)


def key_of(request: Request) -> str:
    """Return the key under which the server counts a request."""
    return content_key([{"role": turn.role, "content": turn.content} for turn in request.messages])


def test_a_refusal_with_retry_after_pauses_all(server: FakeServer, monkeypatch: pytest.MonkeyPatch) -> None:
    """When one of eight workers is told to wait a second, the others send nothing in that second either."""
    moments: list[float] = []
    server.latency = 0.02
    original = server.fault

    async def fault(kind: str, body: dict[str, Any], request: Any) -> Response:
        moments.append(time.perf_counter())
        return await original(kind, body, request)

    def answer(*_: object) -> str:
        moments.append(time.perf_counter())
        return "Yes"

    monkeypatch.setattr(server, "fault", fault)
    server.answer = answer
    refused = next(number for number in range(99) if Plan(0.02, ("rate limit",)).fault(key_of(ask(number)), 1))
    server.plan = Plan(0.02, ("rate limit",))
    requests = (
        [ask(number) for number in range(200, 216)] + [ask(refused)] + [ask(number) for number in range(300, 340)]
    )
    list(engine(server, Clock(), concurrency=8).answer(requests))
    gaps = [later - earlier for earlier, later in itertools.pairwise(sorted(moments))]
    assert max(gaps) > 0.8
    assert sum(gap > 0.5 for gap in gaps) == 1


@pytest.mark.parametrize("headers", [True, False])
def test_a_limit_that_nobody_set_is_found(*, headers: bool) -> None:
    """A server that lets 40 a second through gets them, and all are answered, with no limit in the settings."""
    with FakeServer(requests_per_minute=2400, headers=headers) as limiting:
        started = time.perf_counter()
        replies = list(engine(limiting, Clock()).answer(ask(number) for number in range(160)))
        assert time.perf_counter() - started < 15  # 3 s at the least: the first 40 go at once
        assert {reply.failure for reply in replies} == {""}
        assert len(replies) == limiting.total - limiting.refused.total() == 160
        assert limiting.refused.total() < 160


class Watched:
    """A service of which a test says when a request is out, how long it is silent, and when it answers."""

    def __init__(self, url: str) -> None:
        self.clock = Skipping()
        settings = OpenAI(model="fake", base_url=url, timeout=10)
        self.service = Service(settings, AsyncOpenAI(base_url=url, api_key="none"), "", self.clock)

    async def ask(self) -> "Callable[[Exception | None], Any]":
        """Send a request; return what ends it, in an answer or in an error of the network."""
        outcome: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        asking = asyncio.create_task(self.service.answer(outcome, []))
        await asyncio.sleep(0)

        async def end(error: Exception | None) -> None:
            if error is None:
                outcome.set_result(None)
            else:
                outcome.set_exception(error)
            with contextlib.suppress(Trouble):
                await asking

        return end

    def bears(self, seconds: float, waiting: int = 1) -> bool:
        """Whether the service is still waited for after so many seconds more."""
        self.clock.later(seconds, lambda: None)
        try:
            self.service.check(waiting)
        except ServiceError:
            return False
        return True


def test_silence_after_an_answer_is_borne_longer(server: FakeServer) -> None:
    """Three time-outs, four times as long after the first answer, and nothing where nobody waits for one."""

    async def story() -> list[bool]:
        watched = Watched(server.url)
        end = await watched.ask()
        first = [watched.bears(29), watched.bears(2, waiting=0), watched.bears(0)]
        await end(None)
        await watched.ask()
        return [*first, watched.bears(119), watched.bears(2)]

    assert asyncio.run(story()) == [True, True, False, True, False]


def test_nothing_is_expected_while_no_request_is_out(server: FakeServer) -> None:
    """Waits for a turn or for the next attempt are no silence of the server, and take none of it back."""

    async def story() -> list[bool]:
        watched = Watched(server.url)
        borne = [watched.bears(1000)]
        end = await watched.ask()
        borne.append(watched.bears(20))
        await end(TimeoutError())
        borne.append(watched.bears(1000))
        await watched.ask()
        return [*borne, watched.bears(9), watched.bears(2)]

    assert asyncio.run(story()) == [True, True, True, True, False]


@pytest.mark.parametrize("limit", [{"requests_per_minute": 40}, {"tokens_per_minute": 600, "max_tokens": 50}])
def test_limits_of_our_own_are_no_silence(server: FakeServer, limit: dict[str, Any]) -> None:
    """Where the settings allow fewer requests than the server's patience is long, all are asked in their time."""
    slow = engine(server, Clock(), patience=0.2, timeout=1.0, **limit)
    assert [reply.failure for reply in slow.answer(map(ask, range(3)))] == ["", "", ""]


def test_an_answer_that_trickles_is_not_silent(server: FakeServer, monkeypatch: pytest.MonkeyPatch) -> None:
    """It is waited for while it comes, however short the patience, and given up when its time is over: once."""
    monkeypatch.setattr(transport, "WHOLE", 4)
    reply = one(server, "drip", Clock(), timeout=0.3, patience=0.4)
    assert (reply.failure, reply.retryable, reply.unsure) == ("failed", True, 1)
    assert reply.detail == "the answer was not whole after 1.2 s"
    assert server.total == 1


@pytest.mark.parametrize("packed", [False, True])
@pytest.mark.parametrize("status", [200, 500])
def test_an_answer_that_is_too_large_is_not_read(
    server: FakeServer, monkeypatch: pytest.MonkeyPatch, status: int, *, packed: bool
) -> None:
    """No more of it is kept than 64 MiB, as it is or unpacked from little: of an answer, and of an error's page."""
    content = b" " * (transport.LARGEST + 1)
    headers = {"content-encoding": "gzip"} if packed else {}
    answer = Response(gzip.compress(content, 1) if packed else content, status, headers)

    async def large(*_: object) -> Response:
        return answer

    monkeypatch.setattr(server, "fault", large)
    reply = one(server, "any", timeout=30.0)
    assert (reply.failure, reply.retryable, reply.unsure) == ("failed", True, 1)
    assert reply.detail == "the answer has more than 67,108,864 bytes"
    assert server.total == 1


@pytest.mark.parametrize("packed", [False, True])
def test_what_is_as_large_as_it_may_be_is_read(
    server: FakeServer, monkeypatch: pytest.MonkeyPatch, *, packed: bool
) -> None:
    """The bound is of what is unpacked, and a packed answer is read as any other."""
    body = json.dumps(completion("Yes", {"messages": []})).encode()
    content = body + b" " * (transport.LARGEST - len(body))
    headers = {"content-encoding": "gzip"} if packed else {}
    answer = Response(gzip.compress(content, 1) if packed else content, 200, headers)

    async def large(*_: object) -> Response:
        return answer

    monkeypatch.setattr(server, "fault", large)
    assert one(server, "any", timeout=30.0).text == "Yes"


def test_redirections_are_followed_to_an_end(server: FakeServer, monkeypatch: pytest.MonkeyPatch) -> None:
    """An address that moved is found; one that leads to itself is given up, like a connection that is lost."""

    async def moved(kind: str, body: dict[str, Any], request: Any) -> Response:
        del kind, body
        return RedirectResponse(request.url.path, 307)

    monkeypatch.setattr(server, "fault", moved)
    assert one(server, "any", max_retries=0).detail == "connection lost (TooManyRedirects)"
    server.plan = Plan(1.0, ("error",), clears_after=3)
    [reply] = engine(server, max_retries=0).answer([ask("moved")])
    assert (reply.failure, server.asked[key_of(ask("moved"))]) == ("", 4)


@pytest.mark.parametrize(
    "headers",
    [
        {"retry-after": "Mon, 01 Jan 2024 00:00:00 +99999999999999999999"},
        {"retry-after": "Mon, 01 Jan 99999999999 00:00:00 GMT"},
        {"x-ratelimit-remaining-requests": "5", "x-ratelimit-reset-requests": f"1{'0' * 308}s" * 2},
    ],
)
def test_headers_beyond_all_numbers_say_nothing(
    server: FakeServer, monkeypatch: pytest.MonkeyPatch, headers: dict[str, str]
) -> None:
    """A refusal with such headers is a refusal without."""

    async def refused(*_: object) -> Response:
        return refuse(429, "Rate limit reached", headers=headers)

    monkeypatch.setattr(server, "fault", refused)
    server.plan = Plan(1.0, ("error",))
    assert [reply.failure for reply in engine(server).answer([ask()])] == [""]


@pytest.mark.parametrize("name", ["model", "finish_reason", "content"])
def test_half_a_character_in_an_answer_is_stored(
    server: FakeServer, monkeypatch: pytest.MonkeyPatch, tmp_path: Path, name: str
) -> None:
    """JSON can hold half a surrogate pair in each of a server's words; the store has a sign in its place."""
    whole = completion("Yes", {"messages": []})
    choice = whole["choices"][0]
    holder = {"model": whole, "finish_reason": choice, "content": choice["message"]}[name]
    holder[name] = "x\ud800"

    async def odd(*_: object) -> Response:
        return Response(json.dumps(whole), media_type="application/json")

    monkeypatch.setattr(server, "fault", odd)
    server.plan = Plan(1.0, ("any",))
    with Store(tmp_path) as store:
        [reply] = Remembering(engine(server), store).answer([ask()])
        store.flush()
        known = store.reply_to(ask())
    assert known is not None
    said = {"model": known.model, "finish_reason": known.finish_reason, "content": known.text}
    assert said[name] == "x\ufffd"
    assert (reply.model, reply.finish_reason, reply.text) == (known.model, known.finish_reason, known.text)


@pytest.mark.parametrize("count", [10**14, 10**20, 10**400], ids=["14", "20", "400"])
def test_a_count_beyond_all_models_is_none(server: FakeServer, tmp_path: Path, count: int) -> None:
    """No model reads so much: the reply is kept, its cost is unknown, and the bill can be written."""

    def answer(messages: Any, body: dict[str, Any]) -> dict[str, Any]:
        return completion(oracle(messages, body), body) | {"usage": {"prompt_tokens": count, "completion_tokens": 1}}

    server.answer = answer
    with Store(tmp_path) as store:
        remembering = Remembering(engine(server), store, meter=Meter("llm", "fake", Price(1.0, 2.0, 1.0)))
        [reply] = remembering.answer([ask()])
        store.flush()
        [billed] = store.bills()
    assert (reply.failure, reply.usage.tokens_in) == ("", None)
    assert (billed.bill.asked, billed.bill.counted, billed.bill.uncounted) == (1, 0, 1)


def test_nothing_but_refusals_ends_the_run(server: FakeServer, monkeypatch: pytest.MonkeyPatch) -> None:
    """A service that refuses all requests for the rate is given up, with what to set."""
    monkeypatch.setattr("relabel.engines.service.REFUSED", 0.6)
    server.plan = Plan(1.0, ("rate limit ms",), clears_after=10**6)
    with pytest.raises(ServiceError, match="has refused every request") as caught:
        list(engine(server, Clock(), concurrency=2).answer(iter_after(10**6, already())))
    assert "requests_per_minute" in caught.value.hint


def already() -> threading.Event:
    """Return an event that has happened."""
    event = threading.Event()
    event.set()
    return event


def test_only_monotonic_clocks_are_waited_by() -> None:
    """No engine's wait reads the time of day, but for a Retry-After date of a server that says no date of its own."""
    folder = Path(openai_module.__file__).parent
    for name in ("clock", "openai", "pool", "rates", "service", "embeddings", "recognizing", "transport"):
        text = (folder / f"{name}.py").read_text("utf-8")
        assert not re.search(r"time\.time\(|localtime|utcnow", text), name
        assert text.count("datetime.now") == (name == "recognizing"), name


def test_the_iterator_is_not_pulled_far_ahead(server: FakeServer) -> None:
    """A consumer that stops holds everything back: a fixed number is pulled and not consumed."""
    pulled = 0

    def requests() -> Iterator[Request]:
        nonlocal pulled
        for number in range(150):
            pulled += 1
            yield ask(number)

    replies = engine(server, concurrency=4).answer(requests())
    for consumed in range(20):
        next(replies)
        if consumed % 5 == 0:
            time.sleep(0.1)
        assert pulled <= consumed + LOOKAHEAD * 4
    assert len(list(replies)) == 130
    assert pulled == 150


def test_nothing_runs_before_the_first_reply_is_wanted(server: FakeServer) -> None:
    """A generator that nobody iterates starts no thread and asks nothing."""
    _replies = engine(server).answer([ask()])
    assert not [thread for thread in threading.enumerate() if thread.name.startswith("relabel-")]
    assert server.total == 0


def test_no_requests_no_replies(server: FakeServer) -> None:
    """An empty input ends at once."""
    assert list(engine(server).answer([])) == []


def test_closing_early_cancels_and_joins(server: FakeServer) -> None:
    """Closing while the server hangs returns soon; the fixture checks that no thread is left, and no request is."""
    server.plan = Plan(0.5, ("hang",))
    replies = engine(server, timeout=60.0, concurrency=8).answer(ask(number) for number in range(10**9))
    next(replies)
    started = time.perf_counter()
    replies.close()  # type: ignore[attr-defined]
    assert time.perf_counter() - started < 2
    deadline = time.perf_counter() + 5
    while server.at_once and time.perf_counter() < deadline:
        time.sleep(0.02)
    assert server.at_once == 0


def test_closing_after_the_last_reply(server: FakeServer) -> None:
    """Closing when nothing is in flight any more is as clean: no unclosed session, no thread."""
    for _ in range(5):
        replies = engine(server).answer([ask()])
        next(replies)
        replies.close()  # type: ignore[attr-defined]


def test_closing_does_not_wait_for_a_blocked_iterator(server: FakeServer, monkeypatch: pytest.MonkeyPatch) -> None:
    """An iterator that blocks holds closing up for no longer than the stated patience."""
    monkeypatch.setattr("relabel.engines.pool.PATIENCE", 0.1)
    blocked: queue.SimpleQueue[Request | None] = queue.SimpleQueue()
    blocked.put(ask())
    replies = engine(server).answer(iter(blocked.get, None))
    next(replies)
    started = time.perf_counter()
    replies.close()  # type: ignore[attr-defined]
    assert time.perf_counter() - started < 2
    blocked.put(None)
    for thread in threading.enumerate():
        if thread.name == "relabel-feeder":
            thread.join(5)


def test_an_interrupted_consumer_leaves_nothing(server: FakeServer) -> None:
    """An exception where the replies are used stops the engine when the generator is collected."""
    server.latency = 0.05

    def consume() -> None:
        for _ in engine(server).answer(ask(number) for number in range(10**9)):
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        consume()


def test_an_error_of_the_iterator_arrives_after_the_replies(server: FakeServer) -> None:
    """What the caller's iterator raises is raised to the consumer, once what was pulled before it is answered."""

    def requests() -> Iterator[Request]:
        yield from (ask(number) for number in range(3))
        raise LookupError("row 4 is broken")

    replies = engine(server).answer(requests())
    assert sorted(next(replies).request.address for _ in range(3)) == ["0", "1", "2"]
    with pytest.raises(LookupError, match="row 4"):
        next(replies)


def test_one_engine_serves_two_stages_at_once(server: FakeServer) -> None:
    """Two generators of one engine do not disturb each other."""
    tested = engine(server)
    first, second = tested.answer([ask(1), ask(2)]), tested.answer([ask(3), ask(4)])
    addresses = [reply.request.address for pair in zip(first, second, strict=True) for reply in pair]
    assert sorted(addresses) == ["1", "2", "3", "4"]
    assert next(first, None) is None
    assert next(second, None) is None


def test_the_identity_is_what_changes_the_answer() -> None:
    """Sampling and model are part of the identity; address, key and limits are not."""
    base = OpenAI(model="m", temperature=0.5, extra_body={"min_p": 0.1})
    assert OpenAIEngine(base).identity == {
        "engine": "openai",
        "model": "m",
        "revision": "",
        "temperature": 0.5,
        "top_p": None,
        "max_tokens": 2048,
        "seed": None,
        "extra_body": {"min_p": 0.1},
        "choices": "logprobs",
    }
    json.dumps(OpenAIEngine(base).identity)
    moved = OpenAI(
        model="m",
        base_url="http://elsewhere/v1",
        api_key_env="OTHER",
        temperature=0.5,
        extra_body={"min_p": 0.1},
        concurrency=2,
        requests_per_minute=9,
        tokens_per_minute=9,
        patience=9,
        timeout=1,
        max_retries=0,
    )
    assert OpenAIEngine(moved).identity == OpenAIEngine(base).identity


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("model", ""),
        ("base_url", "127.0.0.1:8000/v1"),
        ("base_url", "http://host:port/v1"),
        ("base_url", "http://[::1/v1"),
        ("base_url", "http:///v1"),
        ("base_url", "http://:/v1"),
        ("base_url", "http://a..b/v1"),
        ("base_url", f"http://{'a' * 70}.com/v1"),
        ("base_url", "http://two words/v1"),
        ("base_url", 'http://"host"/v1'),
        ("base_url", "http://999.1.1.1/v1"),
        ("base_url", "http://[host]/v1"),
        ("base_url", f"http://host/{'a' * 3000}"),
        ("choices", "maybe"),
        ("concurrency", 0),
        ("requests_per_minute", 0),
        ("tokens_per_minute", 0),
        ("patience", 0),
        ("timeout", 0),
        ("timeout", math.inf),
        ("temperature", math.inf),
        ("max_tokens", 10**15),
        ("context_tokens", 10**15),
        ("max_retries", -1),
    ],
)
def test_settings_that_cannot_work_are_refused(name: str, value: Any) -> None:
    """Each bad value is refused by name."""
    with pytest.raises(ValidationError, match=name):
        OpenAI(**({"model": "m"} | {name: value}))


def test_the_server_runs_as_a_process() -> None:
    """`python tests/server.py` prints its address, answers, and counts."""
    command = [sys.executable, str(Path(__file__).with_name("server.py")), "--port", "0", "--faults", "0"]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as process:
        try:
            assert process.stdout is not None
            url = process.stdout.readline().strip()
            [reply] = OpenAIEngine(OpenAI(model="fake", base_url=url)).answer([ask()])
            assert reply.failure == ""
            with urllib.request.urlopen(url.removesuffix("/v1") + "/stats") as answer:  # noqa: S310 - our own server
                assert json.load(answer)["total"] == 1
        finally:
            process.terminate()
