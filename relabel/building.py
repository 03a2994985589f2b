"""Settings → judges and engines that can be asked. Opening them asks nobody and loads nothing heavy."""

import json
import os
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

from relabel import config, engine_settings
from relabel.engines.batch_ledger import BATCH_FOLDER
from relabel.engines.budget import Budget, Meter
from relabel.engines.openai import OpenAIEngine
from relabel.engines.openai_batch import OpenAIBatchEngine
from relabel.engines.prices import price_of
from relabel.engines.ray import RayOpenAIEngine, RaySpread, RayVLLMEngine
from relabel.engines.ray_cluster import Cluster, Need
from relabel.engines.remembering import Remembering
from relabel.engines.scripted import ScriptedEngine
from relabel.engines.vllm import VLLMEngine
from relabel.engines.vllm_scorer import VLLMScorer
from relabel.engines.windows import window_of
from relabel.errors import SettingsError
from relabel.judges.crossencoder import (
    CrossEncoderJudge,
    CrossEncoderSettings,
    PairScorer,
    PairScorerSettings,
    Scorer,
    Threshold,
)
from relabel.judges.embedding import EmbeddingJudge, EmbeddingSettings, Rule
from relabel.judges.fitting import Window
from relabel.judges.human import HumanJudge
from relabel.judges.llm import LLMJudge
from relabel.judges.rules import RulesJudge
from relabel.judges.vectors import Encoder, EncoderSettings
from relabel.money import Price
from relabel.pricefile import PriceFile, price_as_written
from relabel.prompts import Template, load_template
from relabel.protocols import Engine, Judge, Measures, Request, Spread, here
from relabel.records import digest
from relabel.rundir import sha256_of
from relabel.store import Store
from relabel.tokens import output_tokens

_AHEAD: Final = 256
"""Most requests by which the first of a query goes ahead of the others: those are held in memory."""

_ROUTING: Final = {"name", "final", "escalate", "sample", "settle"}
"""Fields of a stage that say what is made of its judge's words, not what these are."""


@dataclass(frozen=True, slots=True)
class Opened:
    """A judge ready to be asked, with what its answers depend on (`provenance`) and, for an LLM, its parts."""

    name: str
    judge: Judge
    provenance: dict[str, Any]
    template: Template | None = None
    engine: Remembering | None = None
    price: Price | None = None

    @property
    def windowed(self) -> int:
        """Passages that were judged by their best window, since the model does not read them whole."""
        return self.judge.windowed if isinstance(self.judge, EmbeddingJudge | CrossEncoderJudge) else 0

    def spending(self) -> dict[str, Any]:
        """Return replies, tokens, seconds and US dollars of this execution.

        None dollars = unknown: there is no price, or the server did not count the tokens of every reply.
        """
        if self.engine is None:
            return {}
        spent = self.engine.spending
        usd = spent.bill(priced=self.price is not None).usd
        told = self.engine.report()
        return spent.as_dict() | {"usd": usd} | ({"engine": dict(told)} if told else {})

    def told(self, number: int) -> dict[str, Any]:
        """Return what a manifest says of this stage: its number in the store, what it is, what was really loaded."""
        loaded = dict(self.engine.report()) if self.engine is not None else {}
        known = {name: loaded[name] for name in ("vllm", "commit", "dtype", "max_model_len") if name in loaded}
        own = {"name": self.name, "number": number, "fingerprint": self.fingerprint, **self.provenance}
        return own | ({"loaded": known} if known else {})

    @property
    def fingerprint(self) -> str:
        """Digest (hex) of all that changes this judge's answers."""
        return digest("judge", json.dumps(self.provenance, sort_keys=True, ensure_ascii=False, default=str)).hex()


def open_judges(
    settings: config.Settings,
    store: Store,
    cache: Path,
    own: Mapping[str, Judge],
    cluster: Cluster | None = None,
    budget: Budget | None = None,
) -> list[Opened]:
    """Open the judge of every stage; one that the caller brings stands in for its stage's.

    With a cluster the models run there; nothing that a judge is known by changes. All engines share the budget; what
    judges of one's own spend is not known to it.
    """
    unknown = sorted(set(own) - set(settings.names))
    if unknown:
        raise SettingsError(f"no stage is called {', '.join(unknown)}", hint=f"stages: {', '.join(settings.names)}")
    return [
        Opened(name, own[name], {"own": type(own[name]).__qualname__, "name": name})
        if name in own
        else _open(name, stage, settings, store, cache, cluster, budget)
        for name, stage in zip(settings.names, settings.stages, strict=True)
    ]


@contextmanager
def open_cluster(settings: config.Settings, cache: Path) -> Iterator[Cluster | None]:
    """Give the cluster that the settings name, and leave it in the end; nothing is connected before it is used.

    What Ray says meanwhile goes to `ray.log` in `cache`.

    Raises:
        MissingPart: Ray is not installed.
        SettingsError: the address, or the name of a stage that shall have replicas, is wrong.
    """
    if settings.ray is None:
        yield None
        return
    cluster = Cluster(settings.ray, list(_needs(settings, settings.ray)), cache / "ray.log")
    try:
        yield cluster
    finally:
        cluster.close()


def _needs(settings: config.Settings, ray: config.Ray) -> Iterator[Need]:
    named = {} if isinstance(ray.replicas, int) else ray.replicas
    if unknown := sorted(set(named) - set(settings.names)):
        raise SettingsError(
            f"ray.replicas: no stage is called {', '.join(unknown)}", hint=f"stages: {', '.join(settings.names)}"
        )
    for name, stage in zip(settings.names, settings.stages, strict=True):
        need = _need(name, stage, ray)
        if need is not None:
            yield need


def _need(name: str, stage: config.AnyStage, ray: config.Ray) -> Need | None:
    """Return what a stage takes of the cluster; None for one that stays where the run is."""
    replicas = ray.replicas_of(name)
    match stage:
        case config.CrossEncoder(backend="vllm"):
            return Need(name, replicas, max(ray.gpus, stage.engine().gpus), vllm=True)
        case config.Embedding() | config.CrossEncoder():
            return Need(name, replicas, ray.gpus)
        case config.LLM(engine=engine_settings.VLLM() as engine):
            return Need(name, replicas, engine.gpus, vllm=True)
        case config.LLM(engine=engine_settings.OpenAI()) if ray.names(name):
            return Need(name, replicas, 0)
        case _:
            return None


def _open(
    name: str,
    stage: config.AnyStage,
    settings: config.Settings,
    store: Store,
    cache: Path,
    cluster: Cluster | None,
    budget: Budget | None,
) -> Opened:
    match stage:
        case config.Rules():
            return Opened(name, RulesJudge(cache / name), {"judge": "rules", "name": name})
        case config.Human():
            labels = Path(stage.labels)
            judge = HumanJudge(labels)
            return Opened(name, judge, {"judge": "human", "name": name, "labels": sha256_of(labels)})
        case config.Embedding():
            return _embedding(name, stage, settings, cache, cluster)
        case config.CrossEncoder():
            return _crossencoder(name, stage, settings, cache, cluster)
        case config.LLM():
            return _llm(name, stage, settings, store, cache, cluster, budget)


def _spread(name: str, stage: config.AnyStage, cluster: Cluster | None) -> Spread:
    """Return where a judge's own model runs."""
    need = _need(name, stage, cluster.settings) if cluster is not None else None
    return RaySpread(name, cluster, need.replicas, need.gpus) if cluster is not None and need is not None else here


def _embedding(
    name: str, stage: config.Embedding, settings: config.Settings, cache: Path, cluster: Cluster | None
) -> Opened:
    encoder = EncoderSettings(stage.model, stage.revision, stage.batch_size, stage.device)
    rules = EmbeddingSettings(
        stage.score,
        Rule(stage.flag.by, stage.flag.at),
        Rule(stage.ask.by, stage.ask.at) if stage.ask else None,
        settings.reference,
    )
    asked = stage.model_dump(exclude=_ROUTING | {"batch_size", "device"})
    asked["model"] = config.known_model(stage.model)
    judge = EmbeddingJudge(rules, Encoder(encoder), cache, _spread(name, stage, cluster))
    return Opened(name, judge, {"name": name, "reference": settings.reference, **asked})


def _crossencoder(
    name: str, stage: config.CrossEncoder, settings: config.Settings, cache: Path, cluster: Cluster | None
) -> Opened:
    scorer: Scorer
    if stage.backend == "vllm":
        scorer = VLLMScorer(stage.engine(), cache / f"{name}.vllm.log" if cluster is None else None)
    else:
        scorer = PairScorer(
            PairScorerSettings(stage.model, stage.revision, stage.batch_size, stage.device, stage.max_length)
        )
    rules = CrossEncoderSettings(
        Threshold(stage.flag.by, stage.flag.at),
        Threshold(stage.ask.by, stage.ask.at) if stage.ask else None,
        settings.reference,
    )
    # how a model is laid out in memory is no matter of what it says: the scorer knows what is
    asked = stage.model_dump(exclude=_ROUTING | {"batch_size", "device", "engine_args"})
    asked |= {"model": config.known_model(stage.model), "scorer": scorer.fingerprint}
    judge = CrossEncoderJudge(rules, scorer, cache, _spread(name, stage, cluster))
    return Opened(name, judge, {"name": name, "reference": settings.reference, **asked})


def _llm(
    name: str,
    stage: config.LLM,
    settings: config.Settings,
    store: Store,
    cache: Path,
    cluster: Cluster | None,
    budget: Budget | None,
) -> Opened:
    template = template_of(stage)
    asked = open_engine(stage.engine, name, cache, cluster)
    costs = price(stage.engine, settings.prices)
    engine = Remembering(asked, store, meter=meter(name, stage.engine, template, costs, store), budget=budget)
    judge = LLMJudge(
        name,
        template,
        engine,
        group_size=stage.group_size,
        shuffle=stage.shuffle,
        seed=settings.seed,
        measure=asked if isinstance(asked, Measures) else None,
        window=window(stage.engine),
        rationale=stage.rationale == "all",
        ahead=min(stage.engine.concurrency, _AHEAD) if isinstance(stage.engine, engine_settings.OpenAI) else 0,
    )
    provenance = {
        "judge": "llm",
        "name": name,
        "template": template.name,
        "template_fingerprint": template.fingerprint,
        "engine": dict(engine.identity),
        **_reach(stage.engine),
        **({"rationale": "all"} if stage.rationale == "all" else {}),
        "group_size": stage.group_size,
        "shuffle": stage.shuffle,
        "seed": settings.seed,
        "reference": settings.reference,
    }
    return Opened(name, judge, provenance, template, engine, costs)


def meter(
    name: str, engine: engine_settings.AnyEngine, template: Template, costs: Price | None, store: Store | None
) -> Meter:
    """Return what is known of a stage's requests before one is answered: its settings, and earlier executions."""

    def usual(request: Request) -> int:
        return output_tokens(template.spec, len(request.candidate_ids))

    model = "recorded replies" if isinstance(engine, engine_settings.Scripted) else engine.model
    known = [each.bill for each in store.bills() if (each.stage, each.model) == (name, model)] if store else []
    before = sum(bill.counted for bill in known), sum(bill.tokens_out for bill in known)
    return Meter(name, model, costs, longest_answer(engine), usual, before)


def longest_answer(engine: engine_settings.AnyEngine) -> int | None:
    """Return how many tokens an answer may have by the settings, None = any number."""
    body = getattr(engine, "extra_body", {})
    bounds = [body.get("max_completion_tokens"), body.get("max_tokens"), getattr(engine, "max_tokens", None)]
    return next((bound for bound in bounds if isinstance(bound, int)), None)


def _reach(engine: engine_settings.AnyEngine) -> dict[str, Any]:
    """Return what decides which prompts are shortened: no part of a reply's address, but of what a judge says."""
    if isinstance(engine, engine_settings.VLLM):
        return {"max_model_len": engine.max_model_len, "too_long": engine.too_long}
    told = engine.context_tokens if isinstance(engine, engine_settings.Endpoint) else None
    return {} if told is None else {"context_tokens": told}


def template_of(stage: config.LLM) -> Template:
    """Load a stage's template.

    Raises:
        TemplateError: as `load_template`.
        SettingsError: the stage wants the reasons of all pairs, and the template has no place for them.
    """
    template = load_template(stage.prompt)
    if stage.rationale == "all" and template.reasons == "never":
        raise SettingsError(
            f"template {template.name!r} cannot ask for the reasons of all pairs",
            hint="set `rationale: flagged`, or give the template a part between {% if rationale %} and {% endif %}",
        )
    return template


def window(engine: engine_settings.AnyEngine) -> Window | None:
    """Return how much the model at an API reads: as the settings say, else as publicly listed; None if unknown."""
    if not isinstance(engine, engine_settings.Endpoint):
        return None
    tokens = engine.context_tokens or window_of(engine.model, engine.base_url or os.environ.get("OPENAI_BASE_URL"))
    return Window(tokens, engine.reply_room) if tokens else None


def open_engine(
    settings: engine_settings.AnyEngine, judge: str, cache: Path | None = None, cluster: Cluster | None = None
) -> Engine:
    """Open the engine that the settings name, for the stage called `judge`; its own notes go to `cache`.

    What batches are under way is no such note: it goes beside that folder, which may be deleted.

    On a cluster run vLLM's replicas, and an API's askers where replicas are given to their stage by name.
    """
    if cluster is not None:
        replicas = cluster.settings.replicas_of(judge)
        if isinstance(settings, engine_settings.VLLM):
            return RayVLLMEngine(settings, cluster, replicas)
        if isinstance(settings, engine_settings.OpenAI) and cluster.settings.names(judge):
            return RayOpenAIEngine(settings, cluster, replicas)
    match settings:
        case engine_settings.VLLM():
            return VLLMEngine(settings, cache / f"{judge}.vllm.log" if cache is not None else None)
        case engine_settings.OpenAI():
            return OpenAIEngine(settings)
        case engine_settings.OpenAIBatch():
            return OpenAIBatchEngine(
                settings, judge, cache.parent / BATCH_FOLDER / judge if cache is not None else None
            )
        case engine_settings.Scripted():
            return ScriptedEngine(Path(settings.replies), judge)


def price(settings: engine_settings.AnyEngine, prices: str | None = None) -> Price | None:
    """Return what an engine's tokens cost; None if unknown.

    As written in its own settings, where a batch has no discount but the price that stands there; else as the file
    `prices` says; else as publicly listed. Recorded replies and models on one's own hardware cost nothing by the token.

    Raises:
        SettingsError: the file cannot be used.
    """
    if isinstance(settings, engine_settings.Scripted | engine_settings.VLLM):
        whose = "recorded replies" if isinstance(settings, engine_settings.Scripted) else "own hardware"
        return Price(0.0, 0.0, 0.0, origin=whose)
    if settings.price:
        return price_as_written(settings.price, "the config")
    batch = isinstance(settings, engine_settings.OpenAIBatch)
    where = settings.base_url or os.environ.get("OPENAI_BASE_URL") or None
    if prices is not None and (found := PriceFile.load(Path(prices)).find(settings.model, where, batch=batch)):
        return found
    tier = settings.extra_body.get("service_tier")
    return price_of(settings.model, where, batch=batch, service_tier=tier if isinstance(tier, str) else None)
