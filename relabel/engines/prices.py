"""What tokens cost at public services: list prices, without the network."""

from collections.abc import Mapping
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any, Final

from relabel.money import Price, Rates

if TYPE_CHECKING:
    from genai_prices.types import ModelPrice

BATCH: Final = 0.5
"""What a batch costs of the price at once, where the list has no price for batches: OpenAI's Batch API takes half."""


def price_of(
    model: str, base_url: str | None = None, *, batch: bool = False, service_tier: str | None = None
) -> Price | None:
    """Return today's list price of a model at OpenAI, or at the service behind `base_url`; None where none is known.

    From the table within the package genai-prices, which has tiers for long prompts and, for many models, prices of
    batches; where a price of batches is missing, a batch costs half of what is read and written, and tokens from the
    cache what they cost otherwise, yet no more than others.

    Args:
        model: its name at the service.
        base_url: address of the service; None = OpenAI.
        batch: the price of a request within a batch.
        service_tier: as the API has it: "flex", "priority".
    """
    from genai_prices import Usage as Tokens
    from genai_prices import __version__, calc_price

    now = datetime.now(UTC)
    context = ({"processing": "batch"} if batch else {}) | ({"service_tier": service_tier} if service_tier else {})
    where: Mapping[str, Any] = {"provider_api_url": base_url} if base_url else {"provider_id": "openai"}

    def found(context: Mapping[str, str]) -> Any:
        return calc_price(Tokens(), model, genai_request_timestamp=now, price_context=context, **where)

    try:
        at_once, asked = found({name: value for name, value in context.items() if name != "processing"}), found(context)
    except LookupError:
        return None
    halved = batch and asked.model_price == at_once.model_price
    origin = f"list price of {asked.provider.id} {asked.model.id} on {now:%Y-%m-%d} (genai-prices {__version__})"
    return _read(asked.model_price, origin, batch=batch, halved=halved)


def _read(prices: "ModelPrice", origin: str, *, batch: bool, halved: bool) -> Price | None:
    """Make a price of the package's; None where it knows none of input or output tokens."""
    names = ("input_mtok", "output_mtok", "cache_read_mtok", "cache_write_mtok")
    listed = [getattr(prices, name) for name in names]
    if listed[0] is None or listed[1] is None:
        return None
    starts = sorted({tier.start for each in listed for tier in getattr(each, "tiers", ())})
    fee = float(prices.requests_kcount or 0) / 1000  # type: ignore[arg-type]
    share = BATCH if halved else 1.0

    def rates(tokens: int) -> Rates:
        """Return the rates for a prompt of so many tokens."""
        values = [None if each is None else _at(each, tokens) for each in listed]
        read, written = (values[0] or 0.0) * share, (values[1] or 0.0) * share
        cached = read if values[2] is None else min(values[2], read) if batch else values[2]
        return Rates(read, written, cached, values[3] * share if values[3] is not None else None, fee)

    base = rates(0)
    words = f"half of the {origin}, as a batch" if halved else f"{origin}, as a batch" if batch else origin
    tiers = tuple((start, rates(start + 1)) for start in starts)
    return Price(base.input, base.output, base.cached, base.stored, base.request, tiers, words)


def _at(listed: Any, tokens: int) -> float:
    """Return a price for a prompt of so many tokens: the package has numbers, and numbers with tiers."""
    price = getattr(listed, "base", listed)
    for tier in getattr(listed, "tiers", ()):
        if tokens > tier.start:
            price = tier.price
    return float(price)
