"""What a run took and cost, stage by stage, and what its last model alone would have cost → a section of the page."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final

from markupsafe import Markup

from relabel.reporting.content import DASH, Block, Section, Table, Text, code, count, filled, many, name, percent, usd

_OF_COST: Final = (
    "Requests and tokens of all executions together, as the services counted them; money at the price in the"
    " settings, else the list price in the package genai-prices. A model on one’s own hardware and recorded replies"
    " cost nothing by the token."
)


@dataclass(frozen=True, slots=True)
class Spent:
    """What one stage's replies took, in all executions together.

    Attributes:
        stage: its name.
        model: who answered.
        replies: how many; `counted` of them came with a count of tokens.
        pairs: pairs that these replies were about.
        tokens_in, tokens_out, tokens_cached: of the counted ones.
        usd: at the price that is known; None without a price.
        settled, changed: pairs whose verdict is this stage's, and those of them whose label changed.
    """

    stage: str
    model: str
    replies: int
    counted: int
    pairs: int
    tokens_in: int
    tokens_out: int
    tokens_cached: int
    usd: float | None
    settled: int
    changed: int


def cost(spent: Sequence[Spent], pairs: int, changed: int) -> Section:
    """Show what each stage took and cost, for each changed label, and what the last model alone would have cost."""
    title = "Cost"
    if not spent:
        told = "No stage asked a language model; nothing was paid by the token."
        return Section("cost", title, (Text(told, "missing"),))
    rows = [
        (
            name(each.stage), name(each.model), count(each.pairs), count(each.replies), *_tokens(each),
            _money(each), count(each.settled), count(each.changed), _each(each.usd, each.changed, each),
        )
        for each in spent
    ]  # fmt: skip
    known = all(each.usd is not None and each.counted == each.replies for each in spent)
    total = sum(each.usd or 0.0 for each in spent)
    heads = ("stage", "model", "pairs asked about", "requests", "tokens in", "of these cached", "tokens out", "US $",
             "verdicts settled", "labels changed", "US $ per changed label")  # fmt: skip
    blocks: list[Block] = [filled(Table(heads, tuple(rows), words=2))]
    if known and changed:
        told = f"{usd(total)} in all: {usd(total / changed)} for each of {many(changed, 'changed label')}."
        blocks.append(Text(told))
    elif unknown := [each for each in spent if each.usd is None]:
        told = Markup("The price of {} is not known; {} in its engine’s settings says it.").format(
            Markup(", ").join([name(each.model) for each in unknown]), code("price: {input: …, output: …}")
        )
        blocks.append(Text(told))
    if any(each.counted < each.replies for each in spent):
        lacking = Markup(", ").join(
            [Markup("{} ({:,} of {:,})").format(name(each.stage), each.replies - each.counted, each.replies)
             for each in spent if each.counted < each.replies]
        )  # fmt: skip
        blocks.append(
            Text(Markup("Replies without a count of tokens, whose cost is therefore not known: {}.").format(lacking))
        )
    blocks += _alone(spent, pairs, total if known else None)
    blocks.append(Text(_OF_COST, "note"))
    return Section("cost", title, tuple(blocks))


def _tokens(each: Spent) -> tuple[str, str, str]:
    if not each.counted:
        return DASH, DASH, DASH
    return count(each.tokens_in), count(each.tokens_cached), count(each.tokens_out)


def _money(each: Spent) -> str:
    return usd(each.usd) if each.counted else DASH


def _each(money: float | None, number: int, spent: Spent) -> str:
    return usd(money / number) if money is not None and number and spent.counted else DASH


def _alone(spent: Sequence[Spent], pairs: int, total: float | None) -> list[Block]:
    """Estimate what the last model would have taken, had it been asked about every pair."""
    last = spent[-1]
    if not last.counted or not last.pairs:
        return []
    times = pairs / last.pairs * last.replies / last.counted
    tokens = f"{round(last.tokens_in * times):,} + {round(last.tokens_out * times):,} tokens"
    told = Markup("An estimate: {} alone, asked about all {}, would have taken about {}").format(
        name(last.stage), many(pairs, "pair"), tokens
    )
    if last.usd is None:
        return [Text(told + ".")]
    money = last.usd * times
    told += f", {usd(money)}"
    if total is not None and money:
        told += f"; the cascade took {usd(total)}, {percent(total / money)} of that"
    about = f" ({last.replies:,} requests about {last.pairs:,} pairs, scaled up)."
    return [Text(Markup("{}{}").format(told, about))]
