"""What a run may spend and has spent: limits before, the reckoning after, and how far it got when a limit is met."""

from collections.abc import Collection, Iterator, Mapping
from pathlib import Path
from typing import Any, Final

from relabel import config
from relabel.building import price
from relabel.concluding import Plan
from relabel.engines.batch_ledger import BATCH_FOLDER
from relabel.engines.batch_left import left_under_way
from relabel.engines.budget import Budget, Limits
from relabel.errors import BudgetReached, SettingsError
from relabel.money import FREE, NOTHING, PICO, Amount, Bill, Price, dollars
from relabel.protocols import Usage
from relabel.store import Store
from relabel.store_file import STORE

GOES_ON: Final = "what is answered is kept, and never asked again: the same call with a higher limit goes on from here"
NO_PRICE: Final = (
    "write what it costs into the engine's settings, `price: {input: …, output: …}` in US $ per million tokens,"
    " or into a file that `prices:` names (relabel run: --prices FILE)"
)


def open_budget(settings: config.Settings, store: Store, limits: Limits, own: Collection[str] = ()) -> Budget:
    """Return the budget of a run: its limits, less what all executions before this one have spent.

    What had no price when it was paid for counts at the price that is known now.

    Args:
        settings: the cascade.
        store: of the run.
        limits: of all executions together.
        own: names of the stages whose judges the caller brings: what these spend is not known.

    Raises:
        SettingsError: there is a limit in dollars, and a stage of which the price is unknown.
    """
    if not limits.any:
        return Budget(limits)
    prices = prices_of(settings)
    unknown = [name for name, known in prices.items() if known is None and name not in own]
    if limits.usd is not None and unknown:
        models = ", ".join(f"{name} ({_model(settings, name)})" for name in unknown)
        raise SettingsError(f"--max-usd needs the price of every model, and none is known of {models}", hint=NO_PRICE)
    before = [each.bill.priced(prices.get(each.stage)).at_most for each in store.bills()]
    return Budget(limits, sum(before, NOTHING))


def prices_of(settings: config.Settings) -> dict[str, Price | None]:
    """Return the prices of all stages that ask a language model, by their names."""
    return {
        name: price(stage.engine, settings.prices)
        for name, stage in zip(settings.names, settings.stages, strict=True)
        if isinstance(stage, config.LLM)
    }


def _model(settings: config.Settings, name: str) -> str:
    stage = settings.stages[settings.names.index(name)]
    return str(getattr(stage.engine, "model", "")) if isinstance(stage, config.LLM) else ""


Bills = dict[str, tuple[Bill, int]]
"""What each stage took in all executions together, and in how many; also of stages that are no more."""


def billed(store: Store, prices: Mapping[str, Price | None], model: str | None = None) -> Bills:
    """Return what the stages of a run took; the prices are those of this model, None = of whichever was asked."""
    store.flush()
    found: dict[str, Bill] = {}
    executions: dict[str, set[str]] = {}
    for each in store.bills():
        known = prices.get(each.stage) if model in (None, each.model) else None
        taken = each.bill.counted or each.bill.uncounted
        found[each.stage] = found.get(each.stage, Bill()) + each.bill.priced(known if taken else FREE)
        executions.setdefault(each.stage, set()).add(each.execution)
    return {stage: (bill, len(executions[stage])) for stage, bill in found.items()}


def billed_in(folder: Path, prices: Mapping[str, Price | None], model: str | None = None) -> Bills:
    """Return `billed` of a run directory that nobody has open; nothing where there never was a run."""
    if not (folder / STORE).is_file():
        return {}
    with Store(folder) as store:
        return billed(store, prices, model)


def total(whole: Bills) -> Bill:
    """Return what all stages took together."""
    return sum((bill for bill, _ in whole.values()), Bill())


def check_known(limits: Limits, bill: Bill) -> None:
    """Refuse a limit in dollars where nobody knows how many of them were spent before.

    Raises:
        SettingsError: a model has answered of which no price was known then, nor is now.
    """
    if limits.usd is not None and bill.pico is None:
        raise SettingsError(
            "--max-usd needs the price of every model, and none is known of one that has answered in this folder",
            hint="name another folder: -o; or limit tokens: --max-tokens",
        )


# -- after: the reckoning ------------------------------------------------------------------------------------


def reckon(
    plan: Plan, store: Store, statistics: Mapping[str, Any], spending: Mapping[str, Mapping[str, Any]], limits: Limits
) -> dict[str, Any]:
    """Return what was estimated, what was paid, now and in all executions, and what the last model alone would take.

    Args:
        plan: of the run.
        store: of the run.
        statistics: of the run, for its pairs and changed labels.
        spending: of this execution, by stage.
        limits: that were in force.
    """
    if not spending:
        return {}
    prices = prices_of(plan.settings)
    whole = billed(store, prices)
    pairs = sum(statistics["verdicts"].values())
    changed = statistics["passages"]["promoted"] + statistics["passages"]["dropped"]
    numbers = dict(zip(plan.settings.names, plan.numbers, strict=True))
    stages: list[dict[str, Any]] = []
    for name, spent in spending.items():
        bill, executions = whole.pop(name, (Bill(pico=None if prices.get(name) is None else 0), 0))
        told = {"stage": name, "price": str(prices.get(name) or "unknown"), "pairs": store.spent(numbers[name]).pairs}
        stages.append(
            told | {"estimate": _estimate(spent, prices.get(name)), "executions": executions} | told_bill(bill)
        )
    usd = _sum([stage["usd"] for stage in stages])
    judged = max((stage["pairs"] for stage in stages), default=0)
    return {
        "limits": {"usd": limits.usd, "tokens": limits.tokens},
        "stages": stages,
        "others": [
            {"stage": name, "executions": executions} | told_bill(bill) for name, (bill, executions) in whole.items()
        ],
        "usd": usd,
        "usd_per_judged_pair": usd / judged if usd is not None and judged else None,
        "usd_per_changed_label": usd / changed if usd is not None and changed else None,
        "alone": _alone(stages[-1], pairs),
    }


def told_bill(bill: Bill) -> dict[str, Any]:
    """Return a bill as it stands in run.json."""
    return {
        "asked": bill.asked,
        "tokens_in": bill.tokens_in,
        "tokens_cached": bill.tokens_cached,
        "tokens_out": bill.tokens_out,
        "usd": bill.usd,
        "paid_and_not_kept": bill.not_kept,
        "without_usage": {"replies": bill.uncounted, "tokens": bill.guessed_tokens, "usd": bill.guessed_pico / PICO},
        "possibly_billed": {"requests": bill.lost, "tokens": bill.lost_tokens, "usd": bill.lost_pico / PICO},
    }


def _estimate(spent: Mapping[str, Any], known: Price | None) -> dict[str, Any]:
    """Return what this execution's counted replies were estimated to take, with no prompt cache, and what they took."""
    usage = Usage(spent.get("estimated_in", 0), spent.get("estimated_out", 0))
    pico = known.pico(usage) if known is not None else None
    return {
        "tokens_in": usage.tokens_in,
        "tokens_out": usage.tokens_out,
        "usd": None if pico is None else pico / PICO,
        "actual": {name: spent[name] for name in ("tokens_in", "tokens_out", "usd")},
    }


def _alone(last: Mapping[str, Any], pairs: int) -> dict[str, Any] | None:
    """Estimate what a stage would have taken, asked about every pair: its tokens per pair, times all pairs."""
    if not last["pairs"] or not last["tokens_in"]:
        return None
    times = pairs / last["pairs"]
    counts = {name: round(last[name] * times) for name in ("tokens_in", "tokens_cached", "tokens_out")}
    usd = None if last["usd"] is None else last["usd"] * times
    return {"stage": last["stage"], "pairs": pairs, "of_pairs": last["pairs"], **counts, "usd": usd}


def _sum(amounts: list[float | None]) -> float | None:
    """Add up; a sum of which a part is unknown is unknown."""
    known = [amount for amount in amounts if amount is not None]
    return sum(known) if len(known) == len(amounts) else None


# -- when a limit is met -------------------------------------------------------------------------------------


def reached(plan: Plan, store: Store, pairs: int, limits: Limits) -> BudgetReached:
    """Say what was spent, how much is judged and what is left, when the budget has no room for the next question."""
    prices = prices_of(plan.settings)
    whole = billed(store, prices)
    bills = total(whole)
    lines = [*told_reached(limits, "the judging" if limits.beside else "this run", bills)]
    needed = sum((bill.at_most for bill in limits.beside.values()), bills.at_most)
    for name, number in zip(plan.settings.names, plan.numbers, strict=True):
        if name in whole:
            bill, judged = whole[name][0], store.spent(number).pairs
            left = max(0, pairs - judged)
            counted = Amount(bill.tokens_in + bill.tokens_out, bill.pico or 0)
            more = Amount(counted.tokens * left // judged, counted.pico * left // judged) if judged else NOTHING
            needed += more
            about = f", about {dollars(more.pico / PICO)} at what a pair took so far" if more.pico else ""
            asked = f"{bill.asked:,} requests asked"
            lines.append(f"{name}: {asked}, {judged:,} of {pairs:,} pairs judged, at most {left:,} left{about}")
    lines += _under_way(plan, store, whole)
    return BudgetReached("\n  ".join(lines), hint=GOES_ON, usd=needed.pico / PICO, tokens=needed.tokens)


def told_reached(limits: Limits, who: str, bill: Bill) -> Iterator[str]:
    """Say that a limit is reached, and what of it was spent by whom."""
    yield f"the limit of {limits} is reached; {who} has spent {_spent(bill)} in all its executions"
    yield from _unsure(bill)
    for other, theirs in limits.beside.items():
        yield f"the {other} has spent {_spent(theirs)} of it before"
        yield from _unsure(theirs)


def _spent(bill: Bill) -> str:
    money = "dollars of which the price is unknown," if bill.pico is None else dollars(bill.pico / PICO)
    return f"{money} and {bill.tokens_in + bill.tokens_out:,} tokens"


def _unsure(bills: Bill) -> Iterator[str]:
    """Say what counts against the limits and nobody has counted."""

    def about(pico: int, tokens: int) -> str:
        return f"about {dollars(pico / PICO)}" if pico else f"about {tokens:,} tokens"

    if bills.uncounted:
        told = f"{bills.uncounted:,} replies without a count of tokens"
        yield f"and {about(bills.guessed_pico, bills.guessed_tokens)} for {told}, by an estimate"
    if bills.lost:
        told = f"{bills.lost:,} requests that were sent and not answered, and perhaps billed"
        yield f"and {about(bills.lost_pico, bills.lost_tokens)} for {told}, by an estimate"


def _under_way(plan: Plan, store: Store, whole: Mapping[str, tuple[Bill, int]]) -> Iterator[str]:
    """Name the batches that are still to be billed, and what these will take as the stage's answers did so far."""
    prices = prices_of(plan.settings)
    for left in left_under_way(store.folder / BATCH_FOLDER):
        bill, known = whole.get(left.stage, (Bill(), 0))[0], prices.get(left.stage)
        each = Usage(left.tokens // left.requests, bill.tokens_out // bill.counted if bill.counted else 0)
        pico = (known.pico(each) or 0) * left.requests if known is not None else 0
        about = f", about {dollars(pico / PICO)}" if pico else ""
        yield f"{left}: not in this sum{about}, and billed when they are answered"
