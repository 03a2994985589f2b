"""Passages that are asked for: every request to the engine that writes, then what its replies hold, row by row.

    rows ─▶ orders ─▶ requests ─▶ engine ─▶ store          `ask`: in any order, nothing is kept in memory
    rows ─▶ orders ─▶ requests ─▶ store ─▶ Written         `written`: in the rows' order, asks nobody

The two are apart, so that what is written depends on the rows and the stored replies alone, whatever came when.
"""

import json
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import replace
from sys import intern
from typing import Final, Protocol

from relabel.errors import TemplateError
from relabel.protocols import Engine, Reply, Request
from relabel.quoting import visible
from relabel.records import Example, digest
from relabel.synthesis.forms import MISSING, Draft, Form
from relabel.synthesis.planning import Order, plan
from relabel.synthesis.recipes import RULES, Asked, Recipe
from relabel.synthesis.settings import Settings
from relabel.synthesis.written import Written

WRITING: Final = "writing"
"""What the writing is called among the stages of a run: in bills, in progress and in recorded replies."""

NOTHING_TO_CHANGE: Final = "nothing to change"
FAILED: Final = "failed"
TOO_LONG: Final = "too long"

WHY_LIMIT: Final = 200
"""Characters of what a service says of a failure."""

Watch = Callable[[str, int, int], None]
"""Told (stage, texts asked for, texts answered or given up) as work goes on."""


class Replies(Protocol):
    """Where replies are found; the run's store is one."""

    def reply_to(self, request: Request) -> Reply | None:
        """Return what was answered when exactly this was asked."""
        ...


class Correspondence:
    """Requests to an engine, and their replies in a store; what failed and is not kept is noted here.

    Args:
        engine: who is asked.
        replies: where it keeps what it answered.
        stage: what requests are called by.
        watch: told about progress.
    """

    def __init__(self, engine: Engine, replies: Replies, stage: str, watch: Watch = lambda *_: None) -> None:
        self._engine, self._replies, self._stage, self._watch = engine, replies, stage, watch
        self._identity = json.dumps(dict(engine.identity), sort_keys=True, ensure_ascii=False, default=str)
        # why there is nothing, of the few that no store keeps, and that a resumed run asks again
        self._failed: dict[str, tuple[str, str]] = {}

    def ask(self, requests: Iterable[Request]) -> None:
        """Ask; what was asked before is not asked again.

        Raises:
            ServiceError: the service cannot go on; the store keeps what was answered.
            BudgetReached: likewise, where a limit is met.
        """
        for reply in self._engine.answer(self._watched(requests)):
            if reply.retryable:
                self._failed[reply.request.address] = intern(reply.failure or FAILED), intern(_short(reply.detail))
            self._watch(self._stage, 0, len(reply.request.candidate_ids))

    def _watched(self, requests: Iterable[Request]) -> Iterator[Request]:
        for request in requests:
            self._watch(self._stage, len(request.candidate_ids), 0)
            yield request

    def request(self, recipe: Recipe, asked: Asked, about: str, slots: tuple[str, ...]) -> Request:
        """Render a request.

        Raises:
            TemplateError: the prompt would be too large.
        """
        messages, schema = recipe.render(asked), asked.form.schema
        parts = [part for message in messages for part in (message.role, message.content)]
        # another turn is another throw of the dice, also where its prompt is the same
        address = digest(self._identity, *parts, "turn", str(asked.turn), json.dumps(schema, sort_keys=True))
        return Request(
            address.hex(), messages, schema=schema, judge=self._stage, template=recipe.name, query_id=about,
            candidate_ids=slots, form=asked.form.called,
        )  # fmt: skip

    def drafts(self, form: Form, request: Request) -> Sequence[Draft]:
        """Return what the reply to a request holds, or why there is nothing."""
        reply = self._replies.reply_to(request)
        if reply is None or reply.failure or reply.text is None:
            failed = self._failed.get(request.address, (FAILED, ""))
            failure, why = failed if reply is None else (reply.failure or FAILED, _short(reply.detail))
            return [Draft(failure=failure, why=why)] * form.count
        if not reply.replayed:
            return form.read(reply.text)
        names = reply.candidate_ids  # a recording of more than are asked for here
        drafts = dict(zip(names, replace(form, count=len(names)).read(reply.text), strict=True))
        return [drafts.get(name, Draft(failure=MISSING)) for name in request.candidate_ids]


def _short(said: str) -> str:
    """Return a service's words as one line that can be kept and read."""
    return " ".join(visible(said[:WHY_LIMIT]).split())


class Writer:
    """Who writes passages for rows.

    Args:
        settings: what is wanted.
        recipes: those in use, by what the settings call them.
        post: how the engine is asked; None where all recipes are `rules`.
    """

    def __init__(self, settings: Settings, recipes: Mapping[str, Recipe], post: Correspondence | None) -> None:
        self._settings, self._recipes, self._post = settings, recipes, post

    def ask(self, examples: Iterable[Example]) -> None:
        """Have everything written that is ordered for these rows; memory does not grow with them.

        Raises:
            ServiceError: the service cannot go on; the store keeps what was answered, and the same call goes on there.
            BudgetReached: likewise, where a limit is met.
        """
        if self._post is not None:
            self._post.ask(self.requests(examples))

    def requests(self, examples: Iterable[Example]) -> Iterator[Request]:
        """Yield the requests for some rows; a prompt that would be too large has none."""
        for example in examples:
            for order in plan(example, self._settings, self._recipes):
                request = self._request(example, order)
                if request is not None:
                    yield request

    def written(self, example: Example) -> Iterator[Written]:
        """Yield one entry for each passage that was ordered for a row, in the plan's order; asks nobody."""
        for order in plan(example, self._settings, self._recipes):
            generator = RULES if order.name == RULES else self._settings.generator
            blank = Written(example.position, order.name, generator=generator)
            if order.failure:
                yield from [replace(blank, failure=order.failure)] * order.count
            elif order.recipe is None:
                yield from self._changed(example, order, blank)
            else:
                yield from self._replied(example, order, blank)

    def _request(self, example: Example, order: Order) -> Request | None:
        if self._post is None or order.recipe is None or order.asked is None:
            return None
        try:
            return self._post.request(order.recipe, order.asked, example.id, order.slots)
        except TemplateError:
            return None

    def _replied(self, example: Example, order: Order, blank: Written) -> Iterator[Written]:
        """Read what a model wrote."""
        request = self._request(example, order)
        if request is None or self._post is None or order.asked is None:
            yield from [replace(blank, failure=TOO_LONG)] * order.count
            return
        drawn = [f"{name}: {value}" for name, value in order.asked.drawn.items()]
        twin = digest(order.source.title, order.source.text).hex() if order.source is not None else ""
        for draft in self._post.drafts(order.asked.form, request):
            detail = "" if draft.failure else "; ".join([*drawn, *([draft.detail] if draft.detail else [])])
            yield replace(
                blank, text=draft.text, title=draft.title, failure=draft.failure, why=draft.why, detail=detail,
                probability=draft.probability, twin=twin, reply=request.address,
            )  # fmt: skip

    def _changed(self, example: Example, order: Order, blank: Written) -> Iterator[Written]:
        """Change a positive by rule, as often as is ordered."""
        from relabel.synthesis.perturbing import perturb

        if order.source is None:
            raise ValueError("an order without a text to change")
        source = order.source
        thrown = digest(str(self._settings.seed), example.query, source.title, source.text).hex()
        found = perturb(source.text, dice=thrown, most=order.count)[: order.count]
        for each in found:
            yield replace(blank, text=each.text, title=source.title, detail=f"{each.kind}: {each.detail}")
        yield from [replace(blank, failure=NOTHING_TO_CHANGE)] * (order.count - len(found))
