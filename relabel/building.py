"""Settings → judges and engines that can be asked. Opening them asks nobody and loads nothing heavy."""

import json
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from relabel import config
from relabel.engines.openai import OpenAIEngine, OpenAISettings
from relabel.engines.prices import Price, cost, price_of
from relabel.engines.remembering import Remembering
from relabel.engines.scripted import ScriptedEngine
from relabel.errors import SettingsError
from relabel.judges.embedding import EmbeddingJudge, EmbeddingSettings, Rule
from relabel.judges.human import HumanJudge
from relabel.judges.llm import LLMJudge
from relabel.judges.rules import RulesJudge
from relabel.judges.vectors import Encoder, EncoderSettings
from relabel.prompts import Template, load_template
from relabel.protocols import Engine, Judge, Usage
from relabel.records import digest
from relabel.rundir import sha256_of
from relabel.store import Store


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
        return self.judge.windowed if isinstance(self.judge, EmbeddingJudge) else 0

    def spending(self) -> dict[str, Any]:
        """Return replies, tokens, seconds and US dollars of this execution.

        None dollars = unknown: there is no price, or the server did not count the tokens of every reply.
        """
        if self.engine is None:
            return {}
        spent = self.engine.spending
        usage = Usage(spent.tokens_in, spent.tokens_out, spent.tokens_cached)
        free = self.price == Price(0.0, 0.0, 0.0)
        return spent.as_dict() | {"usd": None if spent.without_usage and not free else cost(usage, self.price)}

    @property
    def fingerprint(self) -> str:
        """Digest (hex) of all that changes this judge's answers."""
        return digest("judge", json.dumps(self.provenance, sort_keys=True, ensure_ascii=False, default=str)).hex()


def open_judges(settings: config.Settings, store: Store, cache: Path, own: Mapping[str, Judge]) -> list[Opened]:
    """Open the judge of every stage; one that the caller brings stands in for its stage's."""
    unknown = sorted(set(own) - set(settings.names))
    if unknown:
        raise SettingsError(f"no stage is called {', '.join(unknown)}", hint=f"stages: {', '.join(settings.names)}")
    return [
        Opened(name, own[name], {"own": type(own[name]).__qualname__, "name": name})
        if name in own
        else _open(name, stage, settings, store, cache)
        for name, stage in zip(settings.names, settings.stages, strict=True)
    ]


def _open(name: str, stage: config.AnyStage, settings: config.Settings, store: Store, cache: Path) -> Opened:
    match stage:
        case config.Rules():
            return Opened(name, RulesJudge(cache / name), {"judge": "rules", "name": name})
        case config.Human():
            labels = Path(stage.labels)
            judge = HumanJudge(labels)
            return Opened(name, judge, {"judge": "human", "name": name, "labels": sha256_of(labels)})
        case config.Embedding():
            return _embedding(name, stage, settings, cache)
        case config.LLM():
            return _llm(name, stage, settings, store)


def _embedding(name: str, stage: config.Embedding, settings: config.Settings, cache: Path) -> Opened:
    encoder = EncoderSettings(stage.model, stage.revision, stage.batch_size, stage.device)
    rules = EmbeddingSettings(
        stage.score,
        Rule(stage.flag.by, stage.flag.at),
        Rule(stage.ask.by, stage.ask.at) if stage.ask else None,
        settings.reference,
    )
    asked = stage.model_dump(exclude={"name", "final", "escalate", "sample", "batch_size", "device"})
    judge = EmbeddingJudge(rules, Encoder(encoder), cache)
    return Opened(name, judge, {"name": name, "reference": settings.reference, **asked})


def _llm(name: str, stage: config.LLM, settings: config.Settings, store: Store) -> Opened:
    template = load_template(stage.prompt)
    engine = Remembering(open_engine(stage.engine, name), store)
    judge = LLMJudge(
        name, template, engine, group_size=stage.group_size, shuffle=stage.shuffle, seed=settings.seed
    )  # fmt: skip
    provenance = {
        "judge": "llm",
        "name": name,
        "template": template.name,
        "template_fingerprint": template.fingerprint,
        "engine": dict(engine.identity),
        "group_size": stage.group_size,
        "shuffle": stage.shuffle,
        "seed": settings.seed,
        "reference": settings.reference,
    }
    return Opened(name, judge, provenance, template, engine, price(stage.engine))


def open_engine(settings: config.OpenAI | config.Scripted, judge: str) -> Engine:
    """Open the engine that the settings name, for the stage called `judge`."""
    match settings:
        case config.OpenAI():
            return OpenAIEngine(OpenAISettings(**settings.model_dump(exclude={"kind", "price"})))
        case config.Scripted():
            return ScriptedEngine(Path(settings.replies), judge)


def price(settings: config.OpenAI | config.Scripted) -> Price | None:
    """Return what an engine's tokens cost: as written in the config, else as publicly listed; None if unknown."""
    if isinstance(settings, config.Scripted):
        return Price(0.0, 0.0, 0.0)
    if settings.price:
        written = settings.price
        return Price(
            written.input, written.output, written.input if written.cached_input is None else written.cached_input
        )
    return price_of(settings.model, settings.base_url)
