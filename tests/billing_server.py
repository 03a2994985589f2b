"""The misbehaving server with a till of its own: it writes down what it would bill for every answer that it sends."""

import json
import threading
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from fractions import Fraction
from typing import Any

from server import FakeServer, Torn, completion, oracle
from starlette.requests import Request
from starlette.responses import Response

from relabel.records import chance


@dataclass(slots=True)
class Sent:
    """What the server billed: tokens by kind, and US dollars, answer by answer; `lost` of answers that it cut off."""

    prices: Mapping[str, float]
    tokens_in: int = 0
    tokens_out: int = 0
    tokens_cached: int = 0
    uncounted: int = 0
    each: list[Fraction] = field(default_factory=list)
    lost: list[Fraction] = field(default_factory=list)

    @property
    def usd(self) -> Fraction:
        """The whole bill, in exact arithmetic; without what was cut off."""
        return sum(self.each, Fraction())

    def price(self, usage: Mapping[str, Any]) -> Fraction:
        """Return what an answer costs."""
        cached = usage["prompt_tokens_details"]["cached_tokens"]
        parts = {
            "input": usage["prompt_tokens"] - cached,
            "cached_input": cached,
            "output": usage["completion_tokens"],
        }
        return sum((Fraction(str(self.prices[name])) * count / 10**6 for name, count in parts.items()), Fraction())

    def add(self, usage: Mapping[str, Any]) -> None:
        """Bill an answer."""
        self.tokens_in += usage["prompt_tokens"]
        self.tokens_out += usage["completion_tokens"]
        self.tokens_cached += usage["prompt_tokens_details"]["cached_tokens"]
        self.each.append(self.price(usage))


def answer(messages: Sequence[Mapping[str, str]], body: dict[str, Any]) -> dict[str, Any]:
    """Answer as the oracle does; some think for long before they do, and some prompts are cached."""
    said = completion(oracle(messages, body), body)
    prompt = json.dumps(messages)
    usage = said["usage"]
    usage["completion_tokens"] += int(60 * chance("thoughts", prompt) ** 4)
    usage["prompt_tokens_details"] = {"cached_tokens": int(usage["prompt_tokens"] * chance("cached", prompt))}
    usage["total_tokens"] = usage["prompt_tokens"] + usage["completion_tokens"]
    return said


class BillingServer(FakeServer):
    """Bills every answer with status 200; `sent` may be exchanged between runs."""

    def __init__(self, **more: Any) -> None:
        super().__init__(answer, **more)
        self.sent = Sent({"input": 1.0, "cached_input": 0.5, "output": 2.0})
        self._till = threading.Lock()

    async def _completions(self, request: Request) -> Response:
        response = await super()._completions(request)
        with self._till:
            if isinstance(response, Torn):
                whole = answer((await request.json())["messages"], await request.json())
                self.sent.lost.append(self.sent.price(whole["usage"]))
            elif response.status_code == 200:
                self._bill(json.loads(bytes(response.body)))
        return response

    def _bill(self, body: Any) -> None:
        usage = body.get("usage") if isinstance(body, dict) else None
        if isinstance(usage, dict) and isinstance(usage.get("prompt_tokens"), int):
            self.sent.add(usage)
        else:
            self.sent.uncounted += 1
