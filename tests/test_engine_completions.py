"""Bodies, completions and prices: pure functions, no socket."""

import json
import math
from typing import Any

import pytest

from relabel.engines.completions import choice_probabilities, completion_body, read_completion
from relabel.engines.prices import price_of
from relabel.money import PICO, Price
from relabel.protocols import MOST_TOKENS, Message, Request, Usage

REQUEST = Request(address="a", messages=(Message("user", "Is it?"),), choices=("Yes", "No"))


def token(*top: tuple[str, float]) -> tuple[str, float, list[tuple[str, float]]]:
    """Return a token as generated, the first of the given (text, probability) pairs."""
    logs = [(text, math.log(probability)) for text, probability in top]
    return (*logs[0], logs)


@pytest.mark.parametrize(
    ("choices", "tokens", "expected"),
    [
        # spellings of one choice add up: .5 + .2 + .1
        (("Yes", "No"), [token(("Yes", 0.5), (" yes", 0.2), ("YES", 0.1), ("No", 0.1))], {"Yes": 0.8, "No": 0.1}),
        # a piece of a longer choice counts for it when no other begins so
        (("relevant", "irrelevant"), [token(("ir", 0.6), ("rel", 0.3))], {"relevant": 0.3, "irrelevant": 0.6}),
        # "1" may still become "10": nothing can be said
        (("1", "10"), [token(("1", 0.9), ("10", 0.1))], {}),
        # an ambiguous spelling that was not drawn is left out
        (("Yes", "Yep"), [token(("Yes", 0.7), ("Y", 0.2), ("Yep", 0.1))], {"Yes": 0.7, "Yep": 0.1}),
        # the answer begins with something else: the text decides
        (("Yes", "No"), [token(("Based", 0.9), ("Yes", 0.1))], {}),
        # white space before the answer is passed over
        (("Yes", "No"), [token(("\n", 1.0)), token(("No", 0.9))], {"Yes": 0.0, "No": 0.9}),
        # the drawn token counts even when it is not among the most probable
        (("Yes", "No"), [("No", math.log(0.05), [("Yes", math.log(0.9))])], {"Yes": 0.9, "No": 0.05}),
        # rounding cannot lift the sum above 1
        (("Yes", "No"), [("Yes", 0.0, [("Yes", 0.0), ("No", math.log(0.25))])], {"Yes": 0.8, "No": 0.2}),
        (("Yes", "No"), [], {}),
        ((), [token(("Yes", 1.0))], {}),
    ],
)
def test_choice_probabilities(choices: tuple[str, ...], tokens: list[Any], expected: dict[str, float]) -> None:
    """Probability is gathered over spellings that can mean one choice only; otherwise it is unknown."""
    assert choice_probabilities(choices, tokens) == pytest.approx(expected)


def whole(**changes: Any) -> dict[str, Any]:
    """Return a completion whose only choice has some fields changed."""
    choice = {"message": {"role": "assistant", "content": "Yes"}, "finish_reason": "stop"} | changes
    return {"model": "m", "choices": [choice], "usage": {"prompt_tokens": 5, "completion_tokens": 1}}


@pytest.mark.parametrize(
    "logprobs",
    [
        None,
        "much",
        {"content": None},
        {"content": [None, {"token": 3}]},
        {"content": [{"token": "Yes", "logprob": "high"}]},
        {"content": [{"token": "Yes", "logprob": float("nan")}]},
        {"content": [{"token": "Yes", "logprob": -(10**400)}]},
    ],
)
def test_odd_log_probabilities_are_none(logprobs: object) -> None:
    """Log-probabilities that are not as described leave the text as the answer."""
    reply = read_completion(REQUEST, json.dumps(whole(logprobs=logprobs)).encode())
    assert (reply.text, reply.failure, reply.probabilities) == ("Yes", "", {})


@pytest.mark.parametrize(
    "content",
    [b"", b"\xff\xfe", b"null", b"3", b'"Yes"', b"[" * 100_000, b'{"choices": 3}', b'{"choices": [3]}'],
)
def test_any_bytes_are_a_reply(content: bytes) -> None:
    """Whatever comes with status 200 is read without an exception."""
    reply = read_completion(REQUEST, content, seconds=1.5)
    assert (reply.text, reply.failure, reply.retryable) == (None, "failed", True)
    assert reply.usage == Usage(seconds=1.5)


@pytest.mark.parametrize(
    ("message", "finish", "text", "failure"),
    [
        ({"content": None}, "length", None, "cut off"),
        ({"content": "Yes", "refusal": ""}, "stop", "Yes", ""),
        ({"content": "", "refusal": None}, "stop", "", ""),
        ({"content": "Well", "refusal": "No."}, "stop", None, "refused"),
        ({"content": [{"type": "text", "text": "Yes"}]}, "stop", None, "failed"),
        ({}, None, None, "failed"),
    ],
)
def test_what_a_message_may_hold(message: dict[str, Any], finish: str, text: str | None, failure: str) -> None:
    """Text and failure for the ends that a message can come to."""
    reply = read_completion(REQUEST, json.dumps(whole(message=message, finish_reason=finish)).encode())
    assert (reply.text, reply.failure) == (text, failure)


THOUGHT = {"prompt_tokens": 9, "completion_tokens": 7, "completion_tokens_details": {"reasoning_tokens": 100}}


@pytest.mark.parametrize(
    ("usage", "expected"),
    [
        ({"prompt_tokens": 9, "completion_tokens": 2, "prompt_tokens_details": {"cached_tokens": 4}}, Usage(9, 2, 4)),
        ({"prompt_tokens": 9, "completion_tokens": 2, "prompt_tokens_details": None}, Usage(9, 2)),
        ({"prompt_tokens": 9, "prompt_tokens_details": {"cached_tokens": 10}}, Usage(9)),
        ({"prompt_tokens": -1, "completion_tokens": True}, Usage()),
        (
            {"prompt_tokens": 9, "prompt_tokens_details": {"cached_tokens": 4, "cache_write_tokens": 5}},
            Usage(9, None, 4, tokens_stored=5),
        ),
        (
            {"prompt_tokens": 9, "prompt_tokens_details": {"cached_tokens": 4, "cache_write_tokens": 6}},
            Usage(9, None, 4),
        ),
        (THOUGHT | {"total_tokens": 116}, Usage(9, 107)),  # thoughts apart, as at xAI
        (THOUGHT | {"total_tokens": 109}, Usage(9, 7)),
        (THOUGHT | {"completion_tokens": 107, "total_tokens": 116}, Usage(9, 107)),  # as at OpenAI
        ("nothing", Usage()),
        ({"prompt_tokens": MOST_TOKENS, "completion_tokens": MOST_TOKENS + 1}, Usage(MOST_TOKENS, None)),
        ({"prompt_tokens": 10**400, "completion_tokens": 2}, Usage(None, 2)),
    ],
)
def test_usage(usage: object, expected: Usage) -> None:
    """Counts that are counts are kept; more cached tokens than tokens are not."""
    assert read_completion(REQUEST, json.dumps(whole() | {"usage": usage}).encode()).usage == expected


def test_sampling_wins_over_our_own_fields() -> None:
    """A server without JSON schemas can be given another response_format by the settings."""
    request = Request(address="a", messages=REQUEST.messages, schema={"type": "object"})
    body = completion_body(request, {"response_format": {"type": "json_object"}}, logprobs=True, structured=True)
    assert body == {
        "messages": [{"role": "user", "content": "Is it?"}],
        "response_format": {"type": "json_object"},
    }


def test_prices_are_known_by_service() -> None:
    """A model has OpenAI's price at OpenAI only; a server of one's own and unknown models have none."""
    price = price_of("gpt-4o-2024-11-20")
    assert price == Price(input=2.5, output=10.0, cached=1.25)
    assert price_of("openai/gpt-4o-mini", "https://openrouter.ai/api/v1") is not None
    assert price_of("gpt-4o", "http://127.0.0.1:8000/v1") is None
    assert price_of("no-such-model") is None


def test_cost() -> None:
    """1,000 tokens read, 400 of them cached, 100 written: (600 · 2.5 + 400 · 1.25 + 100 · 10) / 10⁶ = $0.003."""
    price = Price(input=2.5, output=10.0, cached=1.25)
    assert price.pico(Usage(1000, 100, 400)) == 0.003 * PICO
    assert price.pico(Usage(1000, 100)) == 0.0035 * PICO
    assert price.pico(Usage(None, 100)) is None
