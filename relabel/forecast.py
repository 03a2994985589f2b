"""What a run would ask and cost, before anything is spent.

An upper bound: every stage as if everything reached it. How many pairs go up is not known before the first stage
has spoken.
"""

from collections.abc import Iterator
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from relabel import config, engine_settings, pools
from relabel.building import open_engine, price, template_of, window
from relabel.cascade import open_case
from relabel.engines.service import key_for
from relabel.errors import InputError, RelabelError, TemplateError
from relabel.judges.human import HumanJudge
from relabel.judges.llm import LLMJudge
from relabel.money import PICO
from relabel.prompts import Template, load_template
from relabel.protocols import Message, Request, Usage
from relabel.records import Case, Judgment
from relabel.sources import Source, Survey, survey
from relabel.synthesis.planning import shown
from relabel.synthesis.recipes import Recipe, is_recipe, load_recipe
from relabel.synthesis.settings import Settings
from relabel.tokens import cached_tokens, output_tokens, tokens

WHYS: Final = 100
"""Queries from which the tokens of a question about a flagged pair are estimated."""


@dataclass(frozen=True, slots=True)
class StageForecast:
    """At most what one stage is asked, as if every pair reached it. Tokens are estimates.

    Attributes:
        name, judge, model: who is asked.
        pairs, requests, tokens_in, tokens_out: how much.
        usd: with nothing in the server's prompt cache; None where the price is unknown.
        tokens_cached: those of `tokens_in` with which the prompt sent before begins too, see `tokens.cached_tokens`.
        usd_cached: US dollars, if the server has these in its cache.
        price: what a token costs and where that is from, in words; "" where nothing is known.
        files: how many batches the requests make, where the stage asks by batches.
        why_tokens: what the question about one flagged pair holds, were it alone; 0 where none is asked. How many will
            be flagged is not known, so that these questions are in no other figure.
    """

    name: str
    judge: str
    pairs: int
    requests: int = 0
    tokens_in: int = 0
    tokens_out: int = 0
    usd: float | None = 0.0
    model: str = ""
    tokens_cached: int = 0
    usd_cached: float | None = 0.0
    price: str = ""
    files: int = 0
    why_tokens: int = 0


@dataclass(frozen=True, slots=True)
class Forecast:
    """What `relabel check` finds: the input, each stage at most, the first prompt, and what a run would still lack."""

    survey: Survey
    stages: tuple[StageForecast, ...]
    prompt: tuple[Message, ...] = ()
    prompt_stage: str = ""
    missing: tuple[str, ...] = ()

    @property
    def models(self) -> tuple[StageForecast, ...]:
        """The stages that ask a language model."""
        return tuple(stage for stage in self.stages if stage.judge == "llm")

    @property
    def break_even(self) -> float | None:
        """The share of the pairs, in [0, 1], that may reach the last model before it alone would be cheaper.

        None with fewer than two models, or an unknown price, or a last one that costs nothing. What the models before
        it cost, asked about every pair, is set against what it costs, asked about every pair.
        """
        *before, last = [stage.usd for stage in self.models] or [None]
        if not before or last is None or not last or None in before:
            return None
        return max(0.0, 1 - sum(usd or 0.0 for usd in before) / last)


def check(source: Source, settings: config.Settings) -> Forecast:
    """Validate the input and the settings, count pairs and requests, estimate tokens and money; spends nothing.

    Raises:
        InputError: a broken row, unless the source skips them.
        SettingsError: a template that does not load, or a file with a key that a run could not use.
    """
    policy = settings.policy.policy()
    missing = tuple(_missing(settings))
    seen = survey(source, policy)
    prompts = {
        index: _Prompter(name, stage, settings)
        for index, (name, stage) in enumerate(zip(settings.names, settings.stages, strict=True))
        if isinstance(stage, config.LLM)
    }
    if prompts:
        for number, example in enumerate(source.examples()):
            if example.negatives and not policy.exempts(example.source):
                case = open_case(number, example, settings.reference)
                for prompter in prompts.values():
                    prompter.add(case)
    stages = tuple(
        prompts[index].forecast(seen.pairs) if index in prompts else StageForecast(name, stage.judge, seen.pairs)
        for index, (name, stage) in enumerate(zip(settings.names, settings.stages, strict=True))
    )
    first = next(iter(prompts.values()), None)
    return Forecast(seen, stages, first.first if first else (), first.name if first else "", missing)


def _missing(settings: config.Settings) -> Iterator[str]:
    """Say what a run would refuse to start without; a forecast can do without.

    Raises:
        SettingsError: a file with a key is named, and is missing or wrong: unlike a variable, it belongs to the config.
    """
    for name, stage in zip(settings.names, settings.stages, strict=True):
        engine = stage.engine if isinstance(stage, config.LLM) else None
        if isinstance(engine, engine_settings.OpenAI | engine_settings.OpenAIBatch) and engine.api_key_file is not None:
            key_for(engine)
        try:
            if isinstance(stage, config.Human):
                HumanJudge(Path(stage.labels))
            elif isinstance(stage, config.LLM):
                open_engine(stage.engine, name).answer(())  # asks nothing
        except RelabelError as error:
            yield f"stage {name}: {error.message}"
    if settings.pool is not None:
        try:
            pools.check_folder(Path(settings.pool))
        except RelabelError as error:
            yield f"pool: {error.message}"


class _Prompter:
    """Renders what a stage would ask, and counts."""

    def __init__(self, name: str, stage: config.LLM, settings: config.Settings) -> None:
        self.name, self._stage = name, stage
        self._template = template_of(stage)
        self._judge = LLMJudge(
            name,
            self._template,
            open_engine(stage.engine, name),
            group_size=stage.group_size,
            shuffle=stage.shuffle,
            seed=settings.seed,
            window=window(stage.engine),
            rationale=stage.rationale == "all",
        )
        self._price = price(stage.engine, settings.prices)
        self._requests = self._tokens_in = self._tokens_out = self._tokens_cached = self._too_long = 0
        self._pico = self._pico_cached = 0
        self._whys: list[int] = []
        self.first: tuple[Message, ...] = ()
        self._before: tuple[Message, ...] = ()

    def add(self, case: Case) -> None:
        if self._stage.rationale == "flagged" and len(self._whys) < WHYS:
            self._why(case)
        for group in self._judge.groups(case):
            try:
                request: Request = self._judge.request(case, group)
            except TemplateError:  # too large to render: a run will say "too long" and ask nobody
                self._too_long += len(group)
                continue
            self.first = self.first or request.messages
            reasons = holds_reasons(self._template, self._stage)
            self._count(request.messages, output_tokens(self._template.spec, len(group), reasons=reasons))

    def _count(self, messages: tuple[Message, ...], written: int) -> None:
        at_once = not isinstance(
            self._stage.engine, engine_settings.OpenAIBatch
        )  # nobody knows in which order the requests of a batch are asked
        read, cached = tokens(messages), cached_tokens(self._before, messages) if at_once else 0
        self._before = messages
        self._requests += 1
        self._tokens_in += read
        self._tokens_out += written
        self._tokens_cached += cached
        if self._price is not None:
            self._pico += self._price.pico(Usage(read, written)) or 0
            self._pico_cached += self._price.pico(Usage(read, written, cached)) or 0

    def _why(self, case: Case) -> None:
        """Count what a question about a flagged pair would hold, by the first pair of a case."""
        if case.pairs:
            with suppress(TemplateError):
                self._whys.append(tokens(self._judge.why(case, [(case.pairs[0], Judgment("relevant"))]).messages))

    def forecast(self, pairs: int) -> StageForecast:
        known = self._price
        usd, with_cache = [None if known is None else pico / PICO for pico in (self._pico, self._pico_cached)]
        model = (
            "recorded replies" if isinstance(self._stage.engine, engine_settings.Scripted) else self._stage.engine.model
        )
        engine, requests = self._stage.engine, self._requests
        files = engine.files(requests, self._tokens_in) if isinstance(engine, engine_settings.OpenAIBatch) else 0
        return StageForecast(
            self.name, "llm", pairs - self._too_long, requests, self._tokens_in, self._tokens_out, usd, model,
            self._tokens_cached, with_cache, str(known or ""), files,
            sum(self._whys) // len(self._whys) if self._whys else 0,
        )  # fmt: skip


def holds_reasons(template: Template, stage: config.LLM) -> bool:
    """Whether a stage's replies hold reasons beside the verdicts."""
    return template.reasons == "always" or (template.reasons == "wanted" and stage.rationale == "all")


def render(name: str, source: Source, query: str | None = None) -> tuple[Message, ...]:
    """Fill a template in with the first row of a file, or with the row whose query id is `query`.

    Raises:
        InputError: no such row, or none with a negative.
    """
    if is_recipe(name):
        return _written(load_recipe(name), source, query)
    template = load_template(name)
    for example in source.examples():
        if example.negatives and query in (None, example.id):
            candidates = example.negatives[:1] if template.spec.kind == "pair" else example.negatives
            return template.render(example.query, example.positives, candidates)
    raise InputError(f"{source.path}: no row with negatives{f' and the query id {query!r}' if query else ''}")


def _written(recipe: Recipe, source: Source, query: str | None) -> tuple[Message, ...]:
    for example in source.examples():
        if query in (None, example.id) and (asked := shown(recipe, example, Settings())) is not None:
            return recipe.render(asked)
    raise InputError(
        f"{source.path}: no row{f' with the query id {query!r}' if query else ''} has what {recipe.name} shows",
        hint="it needs a positive, or a mined negative to mirror",
    )
