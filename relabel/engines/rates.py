"""How fast a model service is asked: what is set, what its headers say is left, and what its refusals show.

Nothing here knows HTTP: `service` tells of answers and refusals. All workers of an engine share one `Limits`.
"""

import asyncio
import math
import re
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Final

from relabel.engines.clock import Clock
from relabel.protocols import Usage

WINDOW: Final = 1.0
"""Seconds over which refusals are counted before the rate is changed."""

RISE: Final = 0.03
TOLD_RISE: Final = 0.1
"""By which part of the highest rate ever answered the rate rises in a second; the second where the server's headers
say that more is left: then it refused for another reason."""

LEAST: Final = 0.1
"""Part of the highest rate ever answered below which headers do not slow a service down: some are wrong."""

SLOWEST: Final = 1 / 60
"""Requests a second that are sent however many were refused, to find out when that ends."""

LONGEST: Final = 120.0
"""Seconds for which what a header says is believed."""

BURST: Final = 0.2
"""Seconds' worth of requests that may be sent at once where the server's rate was found out, and is a guess."""

MOST: Final = 1.5
"""How many times the highest rate ever answered the rate rises to."""

STEP: Final = 0.25
"""Seconds after which one who waits for a turn looks again: the rate may have changed."""

_UNITS: Final = {"d": 86400.0, "h": 3600.0, "m": 60.0, "s": 1.0, "ms": 0.001}
_DURATION: Final = re.compile(r"(?:\d+(?:\.\d+)?(?:ms|[dhms]))+")
_PART: Final = re.compile(r"(\d+(?:\.\d+)?)(ms|[dhms])")


def seconds_of(duration: str) -> float | None:
    """Return the seconds of `1s`, `6m0s`, `120ms`, `1h2m3.5s` or a bare number; None for anything else."""
    text = duration.strip()
    if _DURATION.fullmatch(text):
        seconds = sum(float(number) * _UNITS[unit] for number, unit in _PART.findall(text))
        return seconds if seconds < math.inf else None
    return _number(text)


def _number(text: str) -> float | None:
    """Return a count or a time as a header holds it; None for what is none."""
    try:
        number = float(text)
    except ValueError:
        return None
    return number if 0 <= number < math.inf else None


class Flow:
    """One thing of which a service takes so much a second: requests, or tokens.

    A leaky bucket as a meter (ITU-T I.371) that may go into debt, with room for one second: a bucket for a whole
    minute would let the first minute have twice the rate. The rate is the least of three: what is set; where it
    `adapts`, what refusals show, lowered by half their share as DCTCP does (RFC 8257) and raised again by `RISE`;
    and, once anything was refused, what the server says is left divided by the time until all of it is back. The
    last is right for a server that refills steadily, whose bucket then stays half full, and for one that counts by
    the minute.
    """

    def __init__(self, per_minute: float | None, now: float, *, adapts: bool) -> None:
        self._most = per_minute / 60 if per_minute else math.inf
        self._adapts, self._limited = adapts, False
        self._shown = math.inf  # by refusals
        self._told, self._told_until = math.inf, now  # by headers
        self._level, self._at = max(1.0, self._most), now
        self._peak = 0.0
        self._begin(now)

    def _begin(self, now: float) -> None:
        self._since, self._paused = now, 0.0
        self._offered = self._answered = self._refused = 0.0

    def rate(self, now: float) -> float:
        """Return how much a second is allowed; inf = any amount."""
        rate = min(self._most, self._shown)
        if not self._limited or now >= self._told_until:
            return rate
        return min(rate, max(self._told, LEAST * max(self._peak, self._answered / WINDOW)))

    def wait(self, cost: float, now: float) -> float:
        """Return the seconds until `cost` may be taken. What costs more than the bucket holds needs it full."""
        rate = self.rate(now)
        if rate == math.inf:
            self._level, self._at = 1.0, now
            return 0.0
        room = max(1.0, rate if rate == self._most else rate * BURST)
        self._level = min(room, self._level + rate * max(0.0, now - self._at))
        self._at = max(self._at, now)
        missing = min(cost, room) - self._level
        return missing / rate if missing > 1e-9 and rate else max(0.0, missing)

    def take(self, cost: float) -> None:
        """Take it; a negative cost gives back what was taken too much."""
        if not self._offered:
            self._since = max(self._since, self._at)  # a window begins when something is asked
        self._level -= cost
        self._offered += cost

    def hear(self, cost: float, now: float, *, refused: bool) -> None:
        """Note that the server has answered, or refused, something of this cost."""
        if refused:
            self._limited = True
            self._refused += cost
        else:
            self._answered += cost
        if now - self._since >= WINDOW:
            self._adapt(now)

    def _adapt(self, now: float) -> None:
        """Change the rate by what the last window brought."""
        elapsed = max(now - self._since, WINDOW / 10)
        self._peak = max(self._peak, self._answered / elapsed)
        busy = min(max(elapsed - self._paused, WINDOW / 10), 2 * WINDOW)  # longer: there was nothing to ask
        if self._adapts and self._refused:
            share = self._refused / max(self._offered, self._answered + self._refused)
            if self._shown == math.inf:
                self._shown = self._offered / busy * max(1 - share, 0.25)
            else:
                self._shown *= 1 - share / 2
        if self._shown < math.inf:
            best = max(self._peak, self._shown)
            more = now < self._told_until and self._told > self._shown
            rise = (TOLD_RISE if more else RISE) * best * busy
            self._shown = max(SLOWEST, min(self._shown + rise, max(self._shown, MOST * self._peak)))
        self._begin(now)

    def pause(self, seconds: float, until: float) -> None:
        """Note that nothing will be asked for so long, until then: neither is the rate slow, nor does room gather."""
        self._paused += seconds
        self._at = max(self._at, until)

    def told(self, remaining: str, reset: str, now: float) -> None:
        """Hear how much is left, and in how long all of it will be back; what is missing or no number says nothing."""
        left, back = _number(remaining), seconds_of(reset)
        if left is None or back is None:
            return
        self._told, self._told_until = (left / back, now + min(back, LONGEST)) if back > 0 else (math.inf, now)


class Limits:
    """The turns of all requests to one service."""

    def __init__(self, requests_per_minute: float | None, tokens_per_minute: float | None, clock: Clock) -> None:
        now = clock.now()
        self._clock, self._line = clock, asyncio.Lock()
        self._requests, self._tokens = (
            Flow(requests_per_minute, now, adapts=True),
            Flow(tokens_per_minute, now, adapts=False),
        )
        self.paused_until = now

    async def turn(self, tokens: float) -> None:
        """Wait until one more request of so many tokens is within all limits; first come, first served."""
        if not self._line.locked() and self._wait(tokens) <= 0:
            self._take(tokens)
            return
        async with self._line:
            while (wait := self._wait(tokens)) > 0:
                await self._clock.sleep(min(wait, STEP))
            self._take(tokens)

    def _wait(self, tokens: float) -> float:
        now = self._clock.now()
        return max(self.paused_until - now, self._requests.wait(1.0, now), self._tokens.wait(tokens, now))

    def _take(self, tokens: float) -> None:
        self._requests.take(1.0)
        self._tokens.take(tokens)

    def hear(self, headers: Mapping[str, str], tokens: float, *, refused: bool = False) -> None:
        """Learn from an answer, or from a refusal for the rate, to a request of so many tokens."""
        now = self._clock.now()
        for name, flow, cost in (("requests", self._requests, 1.0), ("tokens", self._tokens, tokens)):
            flow.hear(cost, now, refused=refused)
            remaining = headers.get(f"x-ratelimit-remaining-{name}")
            if remaining is not None:
                flow.told(remaining, headers.get(f"x-ratelimit-reset-{name}", ""), now)

    def pause(self, seconds: float) -> None:
        """Let nobody have a turn for so long."""
        now = self._clock.now()
        until = max(self.paused_until, now + seconds)
        for flow in (self._requests, self._tokens):
            flow.pause(until - max(self.paused_until, now), until)
        self.paused_until = until

    def correct(self, tokens: float) -> None:
        """Take so many tokens more than a turn foresaw, or fewer."""
        self._tokens.take(tokens)


@dataclass(slots=True)
class Forecast:
    """How many tokens a request will take, learned from what the server counts.

    At first a token is four characters, as OpenAI says of English, and an answer is as long as it may be, 256 tokens
    where no limit is set.
    """

    most_out: float | None
    characters: float = 0.0
    tokens_in: float = 0.0
    tokens_out: float = 0.0
    answers: int = 0

    def of(self, characters: int) -> float:
        """Return the tokens, in and out together, that a prompt of so many characters will take."""
        each = self.tokens_in / self.characters if self.characters else 0.25
        out = self.tokens_out / self.answers if self.answers else 256.0 if self.most_out is None else self.most_out
        return characters * each + out

    def learn(self, characters: int, usage: Usage) -> float | None:
        """Learn what a prompt of so many characters took; return it, None where the server does not say."""
        if usage.tokens_in is None or usage.tokens_out is None:
            return None
        self.characters += characters
        self.tokens_in += usage.tokens_in
        self.tokens_out += usage.tokens_out
        self.answers += 1
        return float(usage.tokens_in + usage.tokens_out)
