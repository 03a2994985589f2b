"""What a run may spend: one budget for all its stages, and at each stage a till where every request is reserved.

A request is let through when what was spent, what is reserved for those in flight and what it is expected to take are
together within the limit. Its expected tokens are estimated from its characters and corrected by what the server
counted for earlier ones; its answer is taken to be as long as the stage's answers were on average, and `max_tokens`
long before there was one. So a limit is exceeded by no more than the requests in flight: by what the estimate of them
was wrong by. In flight is what was sent and is not answered: at most `concurrency` requests at an API, of which
each attempt that was perhaps paid for is reserved anew; a whole batch at a batch engine; what the replicas of a cluster
hold.
"""

import math
import threading
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Final

from relabel.errors import BudgetReached, SettingsError
from relabel.money import FREE, NOTHING, PICO, Amount, Bill, Price
from relabel.protocols import Reply, Request, Usage
from relabel.tokens import CHARACTERS_PER_TOKEN, tokens

LONGEST: Final = 2048
"""Tokens of an answer that is bounded by no setting, before there was one."""

PATIENCE: Final = 0.1


@dataclass(frozen=True, slots=True)
class Limits:
    """The most that a run may spend, all its executions together: US dollars, and tokens read and written; None = any.

    `beside` is what others have taken of it, by what they are called: writing, where this is the limit of judging.

    Raises:
        SettingsError: a number that is no limit.
    """

    usd: float | None = None
    tokens: int | None = None
    beside: Mapping[str, Bill] = field(default_factory=dict)

    def __post_init__(self) -> None:
        """Check."""
        for name, value in (("--max-usd", self.usd), ("--max-tokens", self.tokens)):
            if value is not None and not (math.isfinite(value) and value >= 0):
                raise SettingsError(f"{name} {value} is no limit", hint="a number from 0 up")

    @property
    def any(self) -> bool:
        """Whether there is a limit at all."""
        return self.usd is not None or self.tokens is not None

    def __str__(self) -> str:
        dollars = [] if self.usd is None else [f"${self.usd:,.10g} (--max-usd)"]
        return " and ".join(dollars + ([] if self.tokens is None else [f"{self.tokens:,} tokens (--max-tokens)"]))


class Budget:
    """The limits, what was spent so far and what is reserved; shared by the tills of all stages and their threads.

    Attributes:
        limits: None in them = no limit.
        changed: guards everything here and in the tills; told about every change.
        spent: counted against the limits, earlier executions and what others took included.
        reserved: for requests in flight.
        in_flight: how many these are.
    """

    def __init__(self, limits: Limits | None = None, spent: Amount = NOTHING) -> None:
        self.limits = limits or Limits()
        self.changed = threading.Condition()
        self.spent = sum((bill.at_most for bill in self.limits.beside.values()), spent)
        self.reserved, self.in_flight = NOTHING, 0
        usd = self.limits.usd
        self._pico = math.inf if usd is None else round(usd * PICO)
        self._tokens = math.inf if self.limits.tokens is None else self.limits.tokens

    def admits(self, amount: Amount, *, first: bool) -> bool:
        """Whether a request that is expected to take so much may be asked now.

        The first of its stage may, while it is alone and anything is left: how much it takes is known only then.
        """
        if first and not self.in_flight and self.spent.pico < self._pico and self.spent.tokens < self._tokens:
            return True
        whole = self.spent + self.reserved + amount
        return whole.pico <= self._pico and whole.tokens <= self._tokens


@dataclass(frozen=True, slots=True)
class Meter:
    """What is known of a stage's requests before one is answered.

    Attributes:
        stage, model: whose they are; for the bill.
        price: of its tokens; None = unknown.
        longest: tokens that an answer may have, None = any number.
        usual: estimates the tokens of an answer; for the comparison of estimate and bill.
        before: of earlier executions, the answers counted and their tokens together.
    """

    stage: str = ""
    model: str = ""
    price: Price | None = None
    longest: int | None = None
    usual: Callable[[Request], int] = lambda _: 0
    before: tuple[int, int] = (0, 0)


@dataclass(frozen=True, slots=True)
class Charge:
    """What one reply took.

    Attributes:
        counted: what the server counted, and its price; None where it did not count.
        guessed: an estimate where it did not and the answer was paid for.
        lost: requests sent for this reply that brought nothing, and perhaps were paid for.
        lost_amount: an estimate for them.
        estimate: tokens in and out as they were estimated before anything was asked; 0 where nothing was counted.
    """

    counted: Amount | None
    guessed: Amount
    lost: int
    lost_amount: Amount
    estimate: tuple[int, int]


@dataclass(slots=True)
class _Open:
    """A request without a reply.

    Attributes:
        amount: what one attempt is expected to take.
        estimate, usual: its tokens in and out, as they were estimated.
        sent: whether it was.
        unsure: attempts before the present one that were perhaps paid for.
    """

    amount: Amount
    estimate: int
    usual: int
    sent: bool
    unsure: int = 0


class Till:
    """Where the requests of one stage are reserved and its replies are paid.

    Args:
        meter: what is known of the stage's requests.
        budget: of the run.
        tells: whether the engine says of each request when it is sent; else all are taken to be, once they are taken.
    """

    def __init__(self, meter: Meter, budget: Budget, *, tells: bool = False) -> None:
        self.meter, self._budget, self._tells = meter, budget, tells
        self._price = meter.price or FREE
        self._open: dict[str, _Open] = {}
        self._answers, self._written = meter.before
        self._read = self._estimated = 0

    def take(self, request: Request) -> bool:
        """Reserve what a request is expected to take; False when the budget does not hold it."""
        estimate = tokens(request.messages)
        usual = self.meter.usual(request)
        budget = self._budget
        with budget.changed:
            amount = self._expected(estimate)
            if not budget.admits(amount, first=not self._answers):
                return False
            self._open[request.address] = _Open(amount, estimate, usual, not self._tells)
            budget.reserved += amount
            budget.in_flight += 1
            return True

    def send(self, address: str, unsure: int) -> bool:
        """Note that a request is sent, after so many attempts that were perhaps paid for; False: not once more.

        What such attempts may have taken stays reserved, so that a server that bills and answers nothing is asked no
        more often than the budget holds.
        """
        budget = self._budget
        with budget.changed:
            found = self._open.get(address)
            if found is None:
                return False
            lost = found.amount * (unsure - found.unsure)
            budget.reserved += lost
            found.unsure, found.sent = unsure, True
            return not unsure or budget.admits(NOTHING, first=False)

    def settle(self, reply: Reply) -> Charge:
        """Put what a reply took in place of what was reserved for it; for one that is unasked, nothing was."""
        budget, usage = self._budget, reply.usage
        with budget.changed:
            if reply.unasked:
                estimate = tokens(reply.request.messages)
                amount, usual = self._expected(estimate), 0
            else:
                found = self._close(reply.request)
                amount, estimate, usual = found.amount, found.estimate, found.usual
            counted = self._amount(usage)
            guessed, lost = NOTHING, amount * reply.unsure
            if counted is not None:
                self._answers, self._written = self._answers + 1, self._written + (usage.tokens_out or 0)
                if not reply.unasked:
                    self._read, self._estimated = self._read + (usage.tokens_in or 0), self._estimated + estimate
            elif not reply.retryable:
                length = len(reply.text or reply.detail) // CHARACTERS_PER_TOKEN + 1
                length = length if usage.tokens_out is None else usage.tokens_out
                self._answers, self._written = self._answers + 1, self._written + length
                read = self._corrected(estimate) if usage.tokens_in is None else usage.tokens_in
                guessed = self._amount(Usage(read, length)) or NOTHING
            budget.spent += (counted or guessed) + lost
            budget.changed.notify_all()
        known = (estimate, usual) if counted is not None and not reply.unasked else (0, 0)
        return Charge(counted, guessed, reply.unsure, lost, known)

    def give_back(self, request: Request) -> None:
        """Give back what is reserved for a request that took nothing after all."""
        with self._budget.changed:
            self._close(request)
            self._budget.changed.notify_all()

    def _close(self, request: Request) -> _Open:
        """Take a request out of those in flight, with what was reserved for it."""
        found = self._open.pop(request.address)
        self._budget.reserved -= found.amount * (1 + found.unsure)
        self._budget.in_flight -= 1
        return found

    def in_flight(self) -> tuple[int, Amount]:
        """Return how many requests may be without an answer when the run is killed before it notes more, and their sum.

        These are the ones that were sent, and as many of those that wait their turn: by then each may have been
        answered and have made room for another.
        """
        with self._budget.changed:
            waiting = [found for found in self._open.values() if not found.sent]
            count, amount = self._sent()
            next_ones = [found.amount for found in waiting[: len(self._open) - len(waiting)]]
            return count + len(next_ones), sum(next_ones, amount)

    def release(self) -> tuple[int, Amount]:
        """Give back what is reserved for requests that nobody waits for any more; return those that were sent."""
        budget = self._budget
        with budget.changed:
            count, amount = self._sent()
            for found in self._open.values():
                budget.reserved -= found.amount * (1 + found.unsure)
            budget.in_flight -= len(self._open)
            self._open.clear()
            budget.changed.notify_all()
        return count, amount

    def _sent(self) -> tuple[int, Amount]:
        sent = [found for found in self._open.values() if found.sent]
        amounts = [found.amount * (1 + found.unsure) for found in sent]
        return sum(1 + found.unsure for found in sent), sum(amounts, NOTHING)

    def wait(self, request: Request, stopped: Callable[[], bool]) -> None:
        """Return when a request may be tried again, or when `stopped`.

        It may as soon as the budget holds it; until then others' requests in flight may turn out cheaper than expected.

        Raises:
            BudgetReached: nothing is in flight, and the budget does not hold it.
        """
        budget, estimate = self._budget, tokens(request.messages)
        with budget.changed:
            while not stopped():
                if budget.admits(self._expected(estimate), first=not self._answers):
                    return
                if not budget.in_flight:
                    raise BudgetReached(f"the limit of {budget.limits} is reached")
                budget.changed.wait(PATIENCE)

    def _amount(self, usage: Usage) -> Amount | None:
        pico = self._price.pico(usage)
        return None if pico is None else Amount((usage.tokens_in or 0) + (usage.tokens_out or 0), pico)

    def _corrected(self, estimate: int) -> int:
        return estimate * self._read // self._estimated if self._estimated else estimate

    def _expected(self, estimate: int) -> Amount:
        """Return what a request is expected to take whose prompt was estimated to have so many tokens."""
        longest = LONGEST if self.meter.longest is None else self.meter.longest
        answer = -(-self._written // self._answers) if self._answers else longest
        return self._amount(Usage(self._corrected(estimate), answer)) or NOTHING
