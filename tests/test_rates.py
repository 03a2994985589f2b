"""How fast a service is asked: limits that are set, said in headers, or shown by refusals; in simulated time."""

import asyncio
import math
from collections.abc import Callable, Iterable

import pytest
from clocks import Skipping
from hypothesis import given
from hypothesis import strategies as st

from relabel.engines.rates import LEAST, SLOWEST, Flow, Forecast, Limits, seconds_of
from relabel.protocols import Usage


@pytest.mark.parametrize(
    ("text", "seconds"),
    [
        ("1s", 1), ("6m0s", 360), ("120ms", 0.12), ("1h2m3.5s", 3723.5), ("7.66s", 7.66), ("1d", 86400), ("0s", 0),
        ("12", 12), (" 2s ", 2), ("", None), ("soon", None), ("-1s", None), ("1x", None), ("nan", None), ("inf", None),
        (f"1{'0' * 308}s" * 2, None), (f"{'9' * 400}h", None), (f"1{'0' * 308}d", None),
    ],
)  # fmt: skip
def test_durations(text: str, seconds: float | None) -> None:
    """OpenAI's durations are read, bare seconds too; anything else is no duration."""
    assert seconds_of(text) == (None if seconds is None else pytest.approx(seconds))


@given(st.floats(1, 6000), st.lists(st.tuples(st.floats(0, 5), st.floats(0.1, 50)), max_size=60))
def test_a_set_rate_is_never_exceeded(per_minute: float, steps: list[tuple[float, float]]) -> None:
    """What is taken by any moment is at most one second's (or one) and the rate since the beginning."""
    flow = Flow(per_minute, 0.0, adapts=True)
    rate, now, taken = per_minute / 60, 0.0, 0.0
    for pause, cost in steps:
        now += pause
        if flow.wait(cost, now) <= 0:
            assert taken <= max(1.0, rate) + rate * now + 1e-6
            flow.take(cost)
            taken += cost


def test_more_than_a_second_has_is_let_through() -> None:
    """A request of more tokens than the bucket holds waits until it is full, and the next ones until it is paid off."""
    flow = Flow(600, 0.0, adapts=False)
    assert flow.wait(100, 0.0) == 0
    flow.take(100)
    assert flow.wait(10, 0.0) == pytest.approx(10)
    flow.take(-60)
    assert flow.wait(10, 0.0) == pytest.approx(4)


class Served:
    """A simulated server with a limit of 20 requests a second, in simulated time."""

    def __init__(self, kind: str) -> None:
        self.kind, self.level, self.at, self.window = kind, 20.0, 0.0, 20.0 * 5
        self.answered = self.refused = 0

    def ask(self, now: float) -> tuple[bool, str, str]:
        """Return whether a request is refused, and what is left and when it is back."""
        if self.kind == "window":  # a hundred in each five seconds
            if int(now / 5) > int(self.at / 5):
                self.level = 100.0
            left, back = self.level, 5 - now % 5
        else:
            self.level = min(20.0, self.level + 20 * (now - self.at))
            left, back = self.level, (20 - self.level) / 20
        self.at = now
        refused = left < 1
        self.level -= not refused
        self.refused += refused
        self.answered += not refused
        lying = self.kind == "lying"
        return refused, "0" if lying else f"{max(0.0, self.level):.0f}", "60s" if lying else f"{back * 1000:.0f}ms"


def simulate(kind: str, seconds: float, *, headers: bool, demand: float = 100.0, latency: float = 0.1) -> Served:
    """Ask a simulated server as fast as a flow allows, replies coming after some time."""
    server, flow = Served(kind), Flow(None, 0.0, adapts=True)
    replies: list[tuple[float, tuple[bool, str, str]]] = []
    for step in range(int(seconds * 1000)):
        now = step / 1000
        while replies and replies[0][0] <= now:
            _, (refused, left, back) = replies.pop(0)
            flow.hear(1.0, now, refused=refused)
            if headers:
                flow.told(left, back, now)
        if step % round(1000 / demand) == 0 and flow.wait(1.0, now) <= 0:
            flow.take(1.0)
            replies.append((now + latency, server.ask(now)))
    return server


@pytest.mark.parametrize(("kind", "least"), [("bucket", 0.95), ("window", 0.8)])
def test_what_headers_say_is_kept_to(kind: str, least: float) -> None:
    """Five times the limit is offered: it is used to 95 % in a bucket, to 80 % in fixed windows; few are refused."""
    server = simulate(kind, 60, headers=True)
    assert server.answered >= least * 20 * 60
    assert server.refused <= 0.05 * server.answered


def test_refusals_alone_show_the_limit() -> None:
    """Without headers the limit is used to 90 % and more, and at most 15 % of what is sent is refused."""
    server = simulate("bucket", 120, headers=False)
    assert server.answered >= 0.9 * 20 * 120
    assert server.refused <= 0.15 * (server.answered + server.refused)


def test_headers_that_are_wrong_do_not_stop_everything() -> None:
    """A server that always says that nothing is left is asked all the same, at a tenth of its best at the least."""
    server = simulate("lying", 60, headers=True)
    assert server.answered >= 0.5 * LEAST * 20 * 60


def test_a_server_that_refuses_nothing_is_not_slowed_down_for() -> None:
    """Headers are believed once something was refused, and not before."""
    flow = Flow(None, 0.0, adapts=True)
    flow.told("0", "60s", 0.0)
    assert flow.rate(1.0) == math.inf
    flow.hear(1.0, 1.0, refused=True)
    assert flow.rate(1.0) < 1


@pytest.mark.parametrize(
    ("left", "back"), [("", "1s"), ("5", ""), ("many", "1s"), ("-1", "1s"), ("5", "-"), ("5", "0s")]
)
def test_headers_that_say_nothing(left: str, back: str) -> None:
    """What is missing, no number, or back at once slows nothing down."""
    flow = Flow(None, 0.0, adapts=False)
    flow.hear(1.0, 0.0, refused=True)
    flow.told(left, back, 0.0)
    assert flow.rate(0.0) == math.inf


def test_after_an_outage_the_rate_comes_back() -> None:
    """A minute in which all is refused leaves a rate above none, and it is again what it was within a minute."""
    flow, now = Flow(None, 0.0, adapts=True), 0.0

    def ask(seconds: int, *, refused: bool) -> None:
        nonlocal now
        for _ in range(seconds * 50):
            now += 0.02
            if flow.wait(1.0, now) <= 0:
                flow.take(1.0)
                flow.hear(1.0, now, refused=refused)

    ask(10, refused=False)
    ask(60, refused=True)
    assert SLOWEST <= flow.rate(now) < 5
    ask(60, refused=False)
    assert flow.rate(now) > 40


def limited(run: Callable[[Limits, Skipping], Iterable[float]], **limits: float) -> list[float]:
    """Take turns of so many tokens each, one after the other; return when each came."""
    clock = Skipping()

    async def take() -> list[float]:
        line = Limits(limits.get("requests"), limits.get("tokens"), clock)
        began, moments = clock.now(), []
        for tokens in run(line, clock):
            await line.turn(tokens)
            moments.append(clock.now() - began)
        return moments

    return asyncio.run(take())


def test_tokens_have_their_own_limit() -> None:
    """At 6,000 tokens a minute, requests of 50 go two at once and then two a second."""
    moments = limited(lambda *_: [50.0] * 8, tokens=6000)
    assert moments == pytest.approx([0, 0, 0.5, 1, 1.5, 2, 2.5, 3], abs=0.1)


def test_a_pause_holds_for_all() -> None:
    """While the service is paused nobody has a turn, whoever caused it."""

    def run(line: Limits, _: Skipping) -> Iterable[float]:
        yield 0.0
        line.pause(7.0)
        line.pause(2.0)
        yield from (0.0, 0.0)

    moments = limited(run)
    assert moments[0] < 0.1
    assert min(moments[1:]) >= 7


def test_a_forecast_learns_from_the_server() -> None:
    """At first four characters are a token and the answer as long as it may be; then as the server counts."""
    forecast = Forecast(100)
    assert forecast.of(400) == 200
    assert forecast.learn(400, Usage(200, 10)) == 210
    assert forecast.of(400) == 210
    assert forecast.learn(400, Usage(None, 10)) is None
    assert forecast.of(800) == 410
    assert Forecast(None).of(0) == 256
