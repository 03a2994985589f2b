"""What tokens cost, and a bill of them. Sums are of whole picodollars, so that a million replies add up to the cent."""

import dataclasses
import math
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Final, Self

from relabel.protocols import Usage

PICO: Final = 10**12
"""Picodollars in a US dollar. One per token is 10⁻⁶ dollars per million tokens; prices are rounded to that."""


@dataclass(frozen=True, slots=True)
class Rates:
    """US dollars per million tokens: read, written, read from the server's cache, and read and put into it.

    `request` is the price of a request by itself, in dollars.
    """

    input: float
    output: float
    cached: float
    stored: float | None = None
    request: float = 0.0

    def pico(self, tokens_in: int, tokens_out: int, cached: int, stored: int) -> int:
        """Return what a request cost; `cached` and `stored` are parts of `tokens_in`. Picodollars."""
        plain = tokens_in - cached - stored
        dearer = self.input if self.stored is None else self.stored
        return (
            plain * _per_token(self.input)
            + cached * _per_token(self.cached)
            + stored * _per_token(dearer)
            + tokens_out * _per_token(self.output)
            + round(self.request * PICO)
        )


def _per_token(dollars_per_million: float) -> int:
    return round(dollars_per_million * 1e6)


@dataclass(frozen=True, slots=True)
class Price:
    """What a model costs, in US dollars per million tokens: read, written, and read from the server's cache.

    Attributes:
        input, output, cached: of a prompt that no tier applies to.
        stored: of tokens that the server puts into its cache; None = as `input`.
        request: US dollars for a request, whatever its tokens.
        tiers: (tokens, rates): what all tokens of a request cost whose prompt has more than so many; ascending.
        origin: where the price is from, in words.
    """

    input: float
    output: float
    cached: float
    stored: float | None = None
    request: float = 0.0
    tiers: tuple[tuple[int, Rates], ...] = ()
    origin: str = field(default="", compare=False)

    @property
    def free(self) -> bool:
        """Whether nothing costs anything, however many tokens there are."""
        return not (self.tiers or self.request or self.input or self.output or self.cached or self.stored)

    def rates(self, tokens_in: int) -> Rates:
        """Return what the tokens of a request cost whose prompt has so many."""
        found = Rates(self.input, self.output, self.cached, self.stored, self.request)
        for above, rates in self.tiers:
            if tokens_in > above:
                found = rates
        return found

    def pico(self, usage: Usage) -> int | None:
        """Return what one reply cost, in picodollars; None where its tokens are unknown.

        cost = (in − cached − stored) · input + cached · cached price + stored · stored price + out · output
        """
        if usage.tokens_in is None or usage.tokens_out is None:
            return None
        cached = usage.tokens_cached or 0
        stored = min(usage.tokens_stored or 0, usage.tokens_in - cached)
        return self.rates(usage.tokens_in).pico(usage.tokens_in, usage.tokens_out, cached, stored)

    def __str__(self) -> str:
        dear = f", a prompt of more than {self.tiers[0][0]:,} tokens more" if self.tiers else ""
        told = f"${self.input:g} in, ${self.cached:g} cached, ${self.output:g} out per million tokens{dear}"
        return f"{told}: {self.origin}" if self.origin else told


FREE: Final = Price(0.0, 0.0, 0.0)


@dataclass(frozen=True, slots=True)
class Amount:
    """Tokens, read and written together, and picodollars."""

    tokens: int = 0
    pico: int = 0

    def __add__(self, other: Self) -> "Amount":
        return Amount(self.tokens + other.tokens, self.pico + other.pico)

    def __sub__(self, other: Self) -> "Amount":
        return Amount(self.tokens - other.tokens, self.pico - other.pico)

    def __mul__(self, times: int) -> "Amount":
        return Amount(self.tokens * times, self.pico * times)


NOTHING: Final = Amount()


@dataclass(frozen=True, slots=True)
class Bill:
    """What the requests of a stage took, in one execution or in several together.

    Attributes:
        asked: fresh replies, also those that brought nothing.
        not_kept: replies that were paid for and held nothing; they are asked again.
        uncounted: replies that were paid for and came without a count of tokens; what they took is `guessed`.
        counted: replies that came with one.
        tokens_in, tokens_out, tokens_cached: of the counted ones.
        pico: what these cost, in picodollars; None = the price was not known.
        guessed_tokens, guessed_pico: an estimate for the uncounted ones.
        lost: requests of which nobody knows whether they were paid for, since no answer arrived.
        lost_tokens, lost_pico: an estimate for them, had they been.
    """

    asked: int = 0
    not_kept: int = 0
    counted: int = 0
    uncounted: int = 0
    tokens_in: int = 0
    tokens_out: int = 0
    tokens_cached: int = 0
    pico: int | None = 0
    guessed_tokens: int = 0
    guessed_pico: int = 0
    lost: int = 0
    lost_tokens: int = 0
    lost_pico: int = 0

    def __add__(self, other: Self) -> "Bill":
        sums: dict[str, Any] = {}
        for name in FIELDS:
            one, two = getattr(self, name), getattr(other, name)
            sums[name] = None if one is None or two is None else one + two
        return Bill(**sums)

    def priced(self, price: Price | None) -> "Bill":
        """Return the bill with a cost where there was no price: its tokens at this one, without its tiers."""
        if self.pico is not None or price is None:
            return self
        base = Price(price.input, price.output, price.cached)
        return dataclasses.replace(self, pico=base.pico(Usage(self.tokens_in, self.tokens_out, self.tokens_cached)))

    @property
    def usd(self) -> float | None:
        """What the counted replies cost in US dollars; None where there was no price, or a reply has no count."""
        return None if self.pico is None or (self.uncounted and self.guessed_pico) else self.pico / PICO

    @property
    def at_most(self) -> Amount:
        """What is held against a limit: counted, guessed and what may have been paid for."""
        tokens = self.tokens_in + self.tokens_out + self.guessed_tokens + self.lost_tokens
        return Amount(tokens, (self.pico or 0) + self.guessed_pico + self.lost_pico)


FIELDS: Final = tuple(each.name for each in dataclasses.fields(Bill))
"""The columns of a bill, in order."""


def bills_of(execution: Mapping[str, Any]) -> list[Mapping[str, Any]]:
    """Return the bills of all stages in a synthesis's run.json: of writing, where a model has ever written, first."""
    writing, judging = execution["writing"], execution["judging"]
    return [*([writing] if "stage" in writing else []), *judging.get("stages", ()), *judging.get("others", ())]


def dollars(usd: float) -> str:
    """Show US dollars: to the cent from one dollar up, below with four digits that count, never as a power of ten."""
    if usd >= 1 or not usd:
        return f"${usd:,.2f}"
    places = 3 - math.floor(math.log10(abs(usd)))
    return f"${usd:.{places}f}".rstrip("0")
