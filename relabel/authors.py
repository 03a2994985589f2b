"""Who writes synthetic passages and queries: the engine that the settings name, with its store, price and budget.

A folder of writing is a run directory as one of judging is: replies addressed by content, locked while it is open,
resumed by the same call, and billed over all its executions.
"""

from collections.abc import Iterable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

from relabel import billing
from relabel.building import longest_answer, open_engine, price
from relabel.engine_settings import OpenAIBatch
from relabel.engines.batch_ledger import BATCH_FOLDER, forget_failures
from relabel.engines.budget import Budget, Limits, Meter
from relabel.engines.remembering import Remembering
from relabel.errors import BudgetReached, SettingsError, TemplateError
from relabel.forecast import StageForecast
from relabel.money import NOTHING, PICO, Amount, Bill, Price
from relabel.pipeline import check_folder
from relabel.protocols import Request, Usage
from relabel.records import Example
from relabel.store import Store
from relabel.synthesis.planning import Order, open_recipes, plan
from relabel.synthesis.queries import QUERIES, QueryWriter, open_recipe
from relabel.synthesis.settings import Settings
from relabel.synthesis.writing import WRITING, Correspondence, Watch, Writer
from relabel.synthesis.written import Written
from relabel.tokens import tokens

NOTE_TOKENS: Final = 40
"""Tokens of what stands beside a text in a reply, about; of the text itself two for each word, with a title."""

USUAL_TOKENS: Final = 200
"""Tokens of a passage in a reply, about; used before any was written."""


@dataclass(frozen=True, slots=True)
class Desk:
    """An engine that writes, with what it costs.

    Attributes:
        stage: "writing" or "queries".
        engine: it keeps its replies in `store`.
        store: of the folder.
        price: None where it is unknown.
        model: whose price it is.
        limits: of all executions together.
    """

    stage: str
    engine: Remembering
    store: Store
    price: Price | None
    model: str
    limits: Limits

    def spending(self) -> dict[str, Any]:
        """Return replies, tokens, seconds and US dollars of this execution; None dollars = unknown."""
        spent, told = self.engine.spending, self.engine.report()
        usd = spent.bill(priced=self.price is not None).usd
        return spent.as_dict() | {"usd": usd} | ({"engine": dict(told)} if told else {})

    def spent(self) -> Amount:
        """Return what all executions together have taken so far, at most."""
        return billing.total(self._billed()).at_most

    def bill(self) -> dict[str, Any]:
        """Return what was paid in all executions together, as it stands in run.json."""
        return told_bill(self.stage, self.price, self.limits, self._billed())

    def reached(self) -> BudgetReached:
        """Say what was spent when the budget has no room for the next question."""
        bill = billing.total(self._billed())
        return BudgetReached("\n  ".join(billing.told_reached(self.limits, "the writing", bill)), hint=billing.GOES_ON)

    def _billed(self) -> billing.Bills:
        return billing.billed(self.store, {self.stage: self.price}, self.model)


def told_bill(stage: str, known: Price | None, limits: Limits, whole: billing.Bills) -> dict[str, Any]:
    """Return what writing took in all executions together, as it stands in run.json."""
    bill, executions = whole.get(stage, (Bill(pico=None if known is None else 0), 0))
    told = {"stage": stage, "price": str(known or "unknown"), "executions": executions}
    return {"limits": {"usd": limits.usd, "tokens": limits.tokens}, **told, **billing.told_bill(bill)}


@dataclass(frozen=True, slots=True)
class Author:
    """Who writes passages as the settings say; `desk` is None where all recipes are `rules`, which cost nothing."""

    settings: Settings
    writer: Writer
    desk: Desk | None

    def ask(self, examples: Iterable[Example]) -> None:
        """Have everything written that is ordered for these rows; see `Writer.ask`."""
        self.writer.ask(examples)

    def written(self, example: Example) -> Iterator[Written]:
        """Yield one entry for each passage that was ordered for a row; asks nobody."""
        return self.writer.written(example)

    def spent(self) -> Amount:
        """Return what all executions together have taken so far, at most."""
        return self.desk.spent() if self.desk is not None else NOTHING

    def forecast(self, examples: Iterable[Example]) -> StageForecast | None:
        """Estimate what would be asked for these rows; see `foresee`."""
        return foresee(self.settings, examples)


@dataclass(frozen=True, slots=True)
class QueryAuthor:
    """A writer of queries."""

    writer: QueryWriter
    desk: Desk


def foresee(settings: Settings, examples: Iterable[Example]) -> StageForecast | None:
    """Estimate what would be asked for these rows, and what it would cost, were nothing answered before; asks nobody.

    The forecast's `pairs` are the passages that a model would be asked for. Tokens of a prompt are its characters / 4,
    those of a reply follow from the length that is asked for. None where nobody is asked.

    Raises:
        SettingsError: the settings cannot be used.
        InputError: the recorded replies cannot.
    """
    recipes, engine = open_recipes(settings), settings.engine
    if engine is None or not recipes:
        return None
    open_engine(engine, WRITING)  # recorded replies are read
    costs = price(engine, settings.prices)
    sums = [0, 0, 0, 0, 0]  # passages, requests, tokens in, tokens out, picodollars
    for example in examples:
        for order in plan(example, settings, recipes):
            with suppress(TemplateError):  # too large to be asked
                sums = [one + more for one, more in zip(sums, _taken(order, costs), strict=True)]
    passages, requests, tokens_in, tokens_out, pico = sums
    usd = pico / PICO if costs is not None else None
    files = engine.files(requests, tokens_in) if isinstance(engine, OpenAIBatch) else 0
    return StageForecast(
        WRITING,
        "llm",
        passages,
        requests,
        tokens_in,
        tokens_out,
        usd,
        settings.generator,
        0,
        usd,
        str(costs or ""),
        files,
    )


def _taken(order: Order, costs: Price | None) -> tuple[int, int, int, int, int]:
    """Return passages, requests, tokens in, tokens out and picodollars of an order, about."""
    if order.recipe is None or order.asked is None:
        return (0, 0, 0, 0, 0)
    usage = Usage(tokens(order.recipe.render(order.asked)), order.count * (NOTE_TOKENS + 2 * order.asked.words))
    pico = costs.pico(usage) if costs is not None else None
    return (order.count, 1, usage.tokens_in or 0, usage.tokens_out or 0, pico or 0)


@contextmanager
def open_author(
    settings: Settings, folder: Path, *, limits: Limits | None = None, watch: Watch = lambda *_: None
) -> Iterator[Author]:
    """Give who writes passages as the settings say; its replies are kept in `folder`.

    Args:
        settings: engine, recipes and numbers.
        folder: a run directory for the writing alone; made where it is not there and somebody is asked.
        limits: what all executions together may spend.
        watch: told about progress, from other threads.

    Raises:
        SettingsError: the settings cannot be used, or a limit in dollars is set and the price unknown.
        RunError: the folder is in use, or holds something else.
        BudgetReached: while it is open, where a limit is met; the store keeps what was answered.
    """
    recipes = open_recipes(settings)
    if not recipes:
        yield Author(settings, Writer(settings, recipes, None), None)
        return
    with _desk(settings, WRITING, folder, limits or Limits()) as desk:
        post = Correspondence(desk.engine, desk.store, WRITING, watch)
        yield Author(settings, Writer(settings, recipes, post), desk)


@contextmanager
def open_query_author(
    settings: Settings, folder: Path, *, limits: Limits | None = None, watch: Watch = lambda *_: None
) -> Iterator[QueryAuthor]:
    """Give who writes queries for passages; see `open_author`."""
    recipe = open_recipe(settings)
    with _desk(settings, QUERIES, folder, limits or Limits()) as desk:
        yield QueryAuthor(QueryWriter(settings, recipe, Correspondence(desk.engine, desk.store, QUERIES, watch)), desk)


@contextmanager
def _desk(settings: Settings, stage: str, folder: Path, limits: Limits) -> Iterator[Desk]:
    engine = settings.engine
    if engine is None:
        raise SettingsError("nobody is named who writes", hint="write engine: {kind: …, model: …}")
    check_folder(folder)
    costs = price(engine, settings.prices)
    if limits.usd is not None and costs is None:
        raise SettingsError(f"--max-usd needs the price of {settings.generator}", hint=billing.NO_PRICE)
    with Store(folder) as store:
        spent = billing.total(billing.billed(store, {stage: costs}, settings.generator))
        billing.check_known(limits, spent)
        known = [each.bill for each in store.bills() if (each.stage, each.model) == (stage, settings.generator)]
        before = sum(bill.counted for bill in known), sum(bill.tokens_out for bill in known)
        meter = Meter(stage, settings.generator, costs, longest_answer(engine), _usual, before)
        asked = open_engine(engine, stage, folder / "cache")
        remembering = Remembering(asked, store, meter=meter, budget=Budget(limits, spent.at_most))
        desk = Desk(stage, remembering, store, costs, settings.generator, limits)
        try:
            yield desk
        except BudgetReached as error:
            raise desk.reached() from error
        forget_failures(folder / BATCH_FOLDER)


def _usual(request: Request) -> int:
    return USUAL_TOKENS * len(request.candidate_ids)
