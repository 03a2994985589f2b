"""One YAML file → checked, frozen settings. The only place that knows what may be written in a config.

Unknown names are refused; all problems of a file are reported at once, each with its line.
"""

import hashlib
import json
from collections.abc import Mapping
from difflib import get_close_matches
from pathlib import Path
from typing import Annotated, Any, Final, Literal, Self

from pydantic import Field, ValidationError, field_validator, model_validator

from relabel.agreement import MAX_STRATA
from relabel.cascade import By, Cuts, Settle, Stage
from relabel.engine_settings import VLLM, AnyEngine, Endpoint, Scripted, Strict
from relabel.errors import SettingsError
from relabel.policy import EVIDENCE, FINDINGS, PRESETS, Policy
from relabel.records import LABELS, Action, Label
from relabel.yamltext import problems, read_yaml, text_of

EMBEDDED: Final = """\
# The cascade that runs when no config is given: no key, no server, no GPU.
stages:
  - judge: rules
  - judge: embedding
policy:
  actions: drop
"""

_TAGS: Final = frozenset({
    "rules", "embedding", "crossencoder", "llm", "human", "openai", "openai_batch", "scripted", "vllm",
})  # fmt: skip
"""The names by which pydantic tells the kinds of stages and engines apart."""

_END: Final = 2**20
"""Bytes of either end of a file by which it is known."""

_FINAL_ALL: Final = dict.fromkeys(LABELS, 0.0)
_FINAL_CHEAP: Final[Mapping[Label, float]] = {"irrelevant": 0.0}


class Ray(Strict):
    """A Ray cluster that runs the models: vLLM, embedding, cross-encoder, and an API if you like.

    Attributes:
        address: "local" starts a cluster on this machine for the run, "auto" finds the one that runs here, else where
            its head is: host:port.
        replicas: copies of each model, or copies by stage name (1 for stages that are not named). An API is asked from
            the cluster only where its stage is named.
        gpus: GPUs that a replica of an embedding or cross-encoder model takes; vLLM's take tensor × pipeline parallel.
    """

    address: str = Field(default="local", min_length=1)
    replicas: Annotated[int, Field(ge=1)] | dict[str, Annotated[int, Field(ge=1)]] = 1
    gpus: float = Field(default=0.0, ge=0)

    def replicas_of(self, stage: str) -> int:
        """Return how many copies of a stage's model run."""
        return self.replicas if isinstance(self.replicas, int) else self.replicas.get(stage, 1)

    def names(self, stage: str) -> bool:
        """Whether a stage is given replicas of its own."""
        return isinstance(self.replicas, dict) and stage in self.replicas


class CutSettings(Strict):
    """From which number on a judge settles what; what is left out it never settles."""

    relevant: float | None = Field(default=None, allow_inf_nan=False)
    partial: float | None = Field(default=None, allow_inf_nan=False)
    irrelevant: float | None = Field(default=None, allow_inf_nan=False)

    @model_validator(mode="after")
    def _ordered(self) -> Self:
        if self.relevant is not None and self.partial is not None and self.partial > self.relevant:
            raise ValueError("`partial` is above `relevant`; it is for the band below it")
        above = [cut for cut in (self.relevant, self.partial) if cut is not None]
        if self.irrelevant is not None and above and self.irrelevant >= min(above):
            raise ValueError("`irrelevant` has to be below `relevant` and `partial`")
        return self

    def cuts(self) -> Cuts:
        """Return the thresholds."""
        return Cuts(self.relevant, self.partial, self.irrelevant)


class SettleSettings(CutSettings):
    """What a judge's number settles, whatever its word; sources may have thresholds of their own."""

    by: By
    sources: dict[str, CutSettings] = Field(default_factory=dict)

    def settle(self) -> Settle:
        """Return the routing that these settings mean."""
        return Settle(self.by, self.cuts(), {name: each.cuts() for name, each in self.sources.items()})


class _Stage(Strict):
    name: str = Field(default="", pattern=r"^(\w[\w .+-]*)?$")
    final: list[Label] | dict[Label, Annotated[float, Field(ge=0, le=1)]] | None = None
    escalate: Literal["pair", "query"] = "pair"
    sample: float = Field(default=0.0, ge=0, le=1)
    settle: SettleSettings | None = None

    @model_validator(mode="after")
    def _one_of_two(self) -> Self:
        if self.settle is not None and self.final is not None:
            raise ValueError("`settle` stands in place of `final`; keep one of them")
        return self


class Rules(_Stage):
    """Copies of positives, repeated and empty passages; no model."""

    judge: Literal["rules"]


class Threshold(Strict):
    """Candidates whose `by` is at least `at`."""

    by: Literal["sum", "ratio", "margin", "cosine"] = "sum"
    at: float


class Embedding(_Stage):
    """A sentence-transformers model that is shown the known positive."""

    judge: Literal["embedding"]
    model: str = "all-MiniLM-L6-v2"
    revision: str | None = None
    batch_size: int = Field(default=64, ge=1)
    device: str = ""
    score: Literal["sum", "ratio", "margin", "cosine"] = "sum"
    flag: Threshold = Threshold(by="sum", at=0.9)
    ask: Threshold | None = Threshold(by="sum", at=0.7)


class ScoreThreshold(Strict):
    """Candidates whose `by` is at least `at`."""

    by: Literal["score", "ratio", "margin"] = "score"
    at: float


_GENERATION: Final = frozenset({
    "chat_template", "chat_template_kwargs", "temperature", "top_p", "max_tokens", "too_long", "extra", "seed",
})  # fmt: skip
"""Settings of vLLM that mean nothing to a model that generates nothing."""


class CrossEncoder(_Stage):
    """A model that reads query and passage together; RocketQA's band unless told otherwise.

    `backend` is who runs it; `engine_args` are vLLM's further engine arguments, by its own names.
    """

    judge: Literal["crossencoder"]
    model: str = Field(min_length=1)
    revision: str | None = None
    backend: Literal["sentence-transformers", "vllm"] = "sentence-transformers"
    engine_args: dict[str, Any] = Field(default_factory=dict)
    batch_size: int = Field(default=32, ge=1)
    device: str = ""
    max_length: int | None = Field(default=None, ge=16)
    flag: ScoreThreshold = ScoreThreshold(at=0.9)
    ask: ScoreThreshold | None = ScoreThreshold(at=0.1)

    @model_validator(mode="after")
    def _backend(self) -> Self:
        if self.backend == "vllm":
            try:
                self.engine()
            except ValidationError as error:
                first = error.errors()[0]
                raise ValueError(f"engine_args.{'.'.join(map(str, first['loc']))}: {first['msg']}") from None
        elif self.engine_args:
            raise ValueError("`engine_args` are for `backend: vllm`")
        return self

    def engine(self) -> VLLM:
        """Return the settings with which vLLM loads the model."""
        own = {"kind": "vllm", "model": self.model, "revision": self.revision, "max_model_len": self.max_length}
        if taken := sorted((set(own) | _GENERATION) & set(self.engine_args)):
            raise ValueError(f"engine_args cannot hold {', '.join(taken)}")
        named = {name: value for name, value in self.engine_args.items() if name in VLLM.model_fields}
        extra = {name: value for name, value in self.engine_args.items() if name not in named}
        return VLLM.model_validate(own | named | {"max_tokens": 1, "extra": extra})


class LLM(_Stage):
    """A prompt template and the engine that answers it.

    `rationale` is which pairs get reasons: none, those that this judge flags (each asked in a short question of its
    own, after the judging), or all (the template's replies hold them; those of `rlhn` always do).
    """

    judge: Literal["llm"]
    prompt: str = "verdict"
    rationale: Literal["none", "flagged", "all"] = "none"
    engine: Annotated[AnyEngine, Field(discriminator="kind")]
    group_size: int = Field(default=25, ge=1)
    shuffle: bool = True


class Human(_Stage):
    """Labels from a CSV, its path relative to the config."""

    judge: Literal["human"]
    labels: str = Field(min_length=1)


AnyStage = Annotated[Rules | Embedding | CrossEncoder | LLM | Human, Field(discriminator="judge")]


class PolicySettings(Strict):
    """What is done about each verdict: a preset (relabel, drop, remove), or a table, or a preset and what differs."""

    actions: Literal["relabel", "drop", "remove"] | dict[str, Action] = "relabel"
    max_flagged: int | None = Field(default=None, ge=0)
    min_negatives: int = Field(default=1, ge=0)
    exempt: list[str] = Field(default_factory=list)

    @model_validator(mode="after")
    def _speakable(self) -> Self:
        self.policy()
        return self

    def policy(self) -> Policy:
        """Return the policy that these settings mean; what a table leaves out is as in `relabel`."""
        table = PRESETS[self.actions] if isinstance(self.actions, str) else {**PRESETS["relabel"], **self.actions}
        return Policy(table, self.max_flagged, self.min_negatives, frozenset(self.exempt))


class Settings(Strict):
    """A whole config.

    Attributes:
        stages: the cascade, cheap judges first.
        policy: what is done about the verdicts.
        reference: how many of a row's positives the judges are shown, the first ones.
        seed: of every shuffle, sample and bootstrap.
        source_field: field of a row that names the data set it comes from ("" = subset, source or dataset).
        ray: the cluster that runs the models; None = this machine, without Ray.
        pool: folder that `relabel mine` wrote; its candidates refill rows left below `min_negatives`. None = they stay.
        prices: file of what models cost, in place of list prices; an engine's own `price` goes before it.
    """

    stages: list[AnyStage] = Field(min_length=1)
    policy: PolicySettings = PolicySettings()
    reference: int = Field(default=3, ge=1)
    seed: int = 0
    source_field: str = ""
    ray: Ray | None = None
    pool: str | None = Field(default=None, min_length=1)
    prices: str | None = Field(default=None, min_length=1)

    @field_validator("stages", mode="before")
    @classmethod
    def _short_form(cls, stages: Any) -> Any:
        """Read `- rules` as `- judge: rules`."""
        if isinstance(stages, list):
            return [{"judge": stage} if isinstance(stage, str) else stage for stage in stages]
        return stages

    @model_validator(mode="after")
    def _names(self) -> Self:
        names = self.names
        twice = sorted({name for name in names if names.count(name) > 1})
        if twice:
            raise ValueError(f"two stages are called {', '.join(twice)}; give each its own `name`")
        if "human" in [name for name, stage in zip(names, self.stages, strict=True) if stage.judge != "human"]:
            raise ValueError("the name 'human' is kept for people's labels; call the stage otherwise")
        if "human" in [stage.judge for stage in self.stages[1:]]:
            raise ValueError("a human stage comes first: a person's word is final, and asking others after it costs")
        if sum(stage.sample > 0 for stage in self.stages) >= MAX_STRATA:
            raise ValueError(f"at most {MAX_STRATA - 1} stages can have a sample")
        return self

    @model_validator(mode="after")
    def _evidence(self) -> Self:
        """Refuse a key of the policy that nothing will ever look up. A judge of one's own may have its own findings."""
        actions = self.policy.actions
        for key in actions if isinstance(actions, dict) else ():
            stage, _, evidence = key.rpartition(":")
            known = (*EVIDENCE, *FINDINGS)
            if stage and stage not in (*self.names, "human"):
                raise ValueError(f"policy.actions: {key!r} names no stage; the stages are {', '.join(self.names)}")
            near = get_close_matches(evidence, known, n=1, cutoff=0.8)
            if evidence not in known and near:
                raise ValueError(f"policy.actions: no judge finds {evidence!r}; did you mean {near[0]!r}?")
        return self

    @model_validator(mode="after")
    def _servers(self) -> Self:
        """Refuse two servers that a reply's address could not tell apart: the second would get the first's replies."""
        asked: dict[str, str | None] = {}
        for name, stage in zip(self.names, self.stages, strict=True):
            if isinstance(stage, LLM) and isinstance(stage.engine, Endpoint):
                answers = json.dumps(stage.engine.answering, sort_keys=True, default=str)
                if asked.setdefault(answers, stage.engine.base_url) != stage.engine.base_url:
                    raise ValueError(
                        f"stage {name} asks the same model at another base_url; tell the two by `revision`"
                    )
        return self

    @property
    def names(self) -> list[str]:
        """The stages' names; a stage without one is called by its judge."""
        return [stage.name or stage.judge for stage in self.stages]

    def routing(self) -> tuple[Stage, ...]:
        """Return who is asked next and whose word is final."""
        last = len(self.stages) - 1
        return tuple(
            Stage(
                name,
                _final(stage, last=index == last),
                stage.escalate,
                stage.sample,
                stage.settle.settle() if stage.settle is not None else None,
            )
            for index, (name, stage) in enumerate(zip(self.names, self.stages, strict=True))
        )


def _final(stage: _Stage, *, last: bool) -> Mapping[Label, float]:
    """Which labels are final: as written; else all of a last stage, of rules and of people, "irrelevant" of others."""
    if isinstance(stage.final, list):
        return dict.fromkeys(stage.final, 0.0)
    if stage.final is not None:
        return stage.final
    return _FINAL_ALL if last or isinstance(stage, Rules | Human) else _FINAL_CHEAP


def placed(settings: Settings, engine: str | None, address: str | None = None, replicas: int | None = None) -> Settings:
    """Say where the models of a config run; it changes no answer and no address of one.

    Args:
        settings: the config.
        engine: "ray" = on a cluster, "here" = in this process, None = as the config says.
        address: of the cluster, in place of the config's.
        replicas: copies of each model, in place of the config's.

    Raises:
        SettingsError: no such engine, or a cluster's options without a cluster.
    """
    if engine not in ("ray", "here", None):
        raise SettingsError(f"the models cannot run on {engine!r}", hint="choose ray or here: --engine")
    chosen = None if engine == "here" else settings.ray or (Ray() if engine == "ray" else None)
    update = {name: value for name, value in (("address", address), ("replicas", replicas)) if value is not None}
    if chosen is None:
        if update:
            raise SettingsError(f"--{' and --'.join(update)} without a Ray cluster", hint="add --engine ray")
        return settings.model_copy(update={"ray": None})
    if replicas is not None and isinstance(chosen.replicas, dict):
        raise SettingsError(
            "--replicas N would take the place of the config's replicas by stage",
            hint="change ray.replicas in the config",
        )
    try:
        ray = Ray.model_validate(chosen.model_dump() | update)
    except ValidationError as error:
        raise SettingsError(f"--{error.errors()[0]['loc'][0]}: {error.errors()[0]['msg']}") from error
    return settings.model_copy(update={"ray": ray})


def load(path: Path | None, *, prompt: str | None = None, policy: str | None = None) -> Settings:
    """Read a config; None = the embedded cascade.

    Args:
        path: YAML file.
        prompt: template of every LLM stage, in place of the config's.
        policy: preset of actions, in place of the config's.

    Raises:
        SettingsError: with every problem of the file, each with its line.
    """
    text = EMBEDDED if path is None else text_of(path)
    settings = anchored(parse(text, str(path or "the embedded cascade")), path.resolve().parent if path else Path())
    update: dict[str, Any] = {}
    if prompt is not None:
        if not any(isinstance(stage, LLM) for stage in settings.stages):
            raise SettingsError("--prompt is for a cascade with an LLM stage, and this one has none", hint="use -c")
        update["stages"] = [
            stage.model_copy(update={"prompt": prompt}) if isinstance(stage, LLM) else stage
            for stage in settings.stages
        ]
    if policy is not None:
        preset(policy)
        update["policy"] = settings.policy.model_copy(update={"actions": policy})
    return settings.model_copy(update=update)


def preset(name: str) -> Mapping[str, Action]:
    """Return the table of actions that has this name.

    Raises:
        SettingsError: there is none.
    """
    if name not in PRESETS:
        raise SettingsError(f"there is no policy {name!r}", hint=f"choose one of {', '.join(PRESETS)}")
    return PRESETS[name]


def parse(text: str, name: str = "config") -> Settings:
    """Check the text of a config."""
    data, tree = read_yaml(text, name)
    if not isinstance(data, dict):
        raise SettingsError(f"{name}: a config is a mapping that begins with `stages:`", hint="see README, Config")
    try:
        return Settings.model_validate(data)
    except ValidationError as error:
        raise SettingsError(
            "\n".join(problems(error.errors(), tree, name, _TAGS)), hint="the README lists every field of a config"
        ) from error


def known_model(name: str) -> str:
    """Return by what a model is known: its name on the hub, or for a folder its own name and a digest of what is in it.

    The digest is of the names and sizes of all files, the content of small ones, and both ends of large ones: another
    training gives another digest, another place of the folder does not.
    """
    folder = Path(name)
    if not folder.is_dir():
        return name
    found = hashlib.blake2b(digest_size=8)
    for path in sorted(path for path in folder.rglob("*") if path.is_file()):
        size = path.stat().st_size
        found.update(f"{path.relative_to(folder).as_posix()}:{size}:".encode())
        with path.open("rb") as file:
            found.update(file.read(_END))
            if size > _END:
                file.seek(max(size - _END, _END))
                found.update(file.read())
    return f"{folder.name}@{found.hexdigest()}"


def anchored(settings: Settings, folder: Path) -> Settings:
    """Take the paths in a config as relative to this folder: the config's, not where the command is typed."""
    stages: list[Any] = []
    for stage in settings.stages:
        update: dict[str, Any] = {}
        if isinstance(stage, Human):
            update = {"labels": str(folder / stage.labels)}
        elif isinstance(stage, CrossEncoder | Embedding) and (folder / stage.model).is_dir():
            update = {"model": str((folder / stage.model).resolve())}
        elif isinstance(stage, LLM):
            if (folder / stage.prompt).is_file():
                update["prompt"] = str(folder / stage.prompt)
            update["engine"] = anchored_engine(stage.engine, folder)
        stages.append(stage.model_copy(update=update) if update else stage)
    placed = {name: str((folder / path).resolve()) for name in ("pool", "prices") if (path := getattr(settings, name))}
    return settings.model_copy(update={"stages": stages, **placed})


def anchored_engine(engine: AnyEngine, folder: Path) -> AnyEngine:
    """Take the paths in an engine's settings as relative to this folder."""
    update: dict[str, Any] = {}
    if isinstance(engine, Endpoint) and engine.api_key_file is not None:
        update = {"api_key_file": str(folder / engine.api_key_file)}
    elif isinstance(engine, Scripted):
        update = {"replies": str(folder / engine.replies)}
    elif isinstance(engine, VLLM):
        update = _found(engine, folder)
    return engine.model_copy(update=update) if update else engine


def _found(engine: VLLM, folder: Path) -> dict[str, Any]:
    """Return the paths of an engine that are relative to the config; a model that is no folder there is on the hub."""
    places = {"model": engine.model, "tokenizer": engine.tokenizer}
    found = {
        name: str((folder / place).resolve()) for name, place in places.items() if place and (folder / place).is_dir()
    }
    if engine.chat_template is not None:
        found["chat_template"] = str(folder / engine.chat_template)
    return found
