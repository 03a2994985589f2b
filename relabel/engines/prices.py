"""What tokens cost: list prices, without the network."""

from dataclasses import dataclass

from relabel.protocols import Usage


@dataclass(frozen=True, slots=True)
class Price:
    """What a model costs, in US dollars per million tokens: read, written, and read from the server's cache."""

    input: float
    output: float
    cached: float


def price_of(model: str, base_url: str | None = None) -> Price | None:
    """Return the list price of a model at OpenAI, or at the service behind `base_url`; None where none is known.

    From the table within the package genai-prices. Where a long prompt costs more per token, this is the price of
    a short one.
    """
    from genai_prices import Usage as Tokens
    from genai_prices import calc_price

    def per_million(tokens: Tokens) -> float:
        if base_url:
            return float(calc_price(tokens, model, provider_api_url=base_url).total_price) * 1000
        return float(calc_price(tokens, model, provider_id="openai").total_price) * 1000

    try:
        return Price(
            input=per_million(Tokens(input_tokens=1000)),
            output=per_million(Tokens(output_tokens=1000)),
            cached=per_million(Tokens(input_tokens=1000, cache_read_tokens=1000)),
        )
    except LookupError:
        return None


def cost(usage: Usage, price: Price | None) -> float | None:
    """Return what a reply cost in US dollars; None where the price or the tokens are unknown.

    cost = ((in − cached) · input price + cached · cached price + out · output price) / 10⁶
    """
    if price is None or usage.tokens_in is None or usage.tokens_out is None:
        return None
    cached = usage.tokens_cached or 0
    spent = (usage.tokens_in - cached) * price.input + cached * price.cached + usage.tokens_out * price.output
    return spent / 1e6
