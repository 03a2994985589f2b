"""What calibration came to, and how it is written: results of every test as JSON, thresholds as a config."""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Final

import yaml

from relabel import config
from relabel.calibration import Parts, choice_to_json
from relabel.cascade import By, Cuts, Settle
from relabel.errors import SettingsError
from relabel.evenness import Even
from relabel.records import LABELS, Label, Outcome

HEAD: Final = "Thresholds by relabel calibrate"
BOUND: Final = "query-clustered (Korn and Graubard 1998)"

SMALLEST: Final = 1e-4
"""The least alpha that is tested: it takes 23,025 queries without an error."""


@dataclass(frozen=True, slots=True)
class Targets:
    """What shall be promised.

    Attributes:
        alpha: for each label that may be settled, the share in (0, 1) of the pairs settled so about which people may
            disagree.
        delta: the probability in (0, 0.5) with which a promise may be broken.
        jointly: all promises together hold with 1 − delta (each is tested at delta by their number, Bonferroni); else
            each by itself does.
        by_source: thresholds of their own for sources with enough labels.
    """

    alpha: Mapping[Label, float]
    delta: float = 0.1
    jointly: bool = False
    by_source: bool = False

    def check(self) -> None:
        """Refuse what cannot be promised.

        Raises:
            SettingsError: nothing to promise, or a number out of range.
        """
        if not self.alpha:
            raise SettingsError("nothing to promise", hint="say what: --promote 0.25, --drop 0.2 or --keep 0.1")
        if bad := [alpha for alpha in self.alpha.values() if not 0 < alpha < 1]:
            raise SettingsError(f"{bad[0]:g} is no share of pairs", hint="give a number between 0 and 1, such as 0.1")
        if min(self.alpha.values()) < SMALLEST:
            raise SettingsError(
                f"{min(self.alpha.values()):g} is less than labels can show", hint=f"give {SMALLEST:g} or more"
            )
        if not 0 < self.delta < 0.5:
            raise SettingsError(f"a delta of {self.delta:g} promises nothing", hint="give one between 0 and 0.5: 0.1")


@dataclass(frozen=True, slots=True)
class StageResult:
    """What came of one stage.

    Attributes:
        name: the stage's.
        by: the number that settles, None where the stage keeps its routing (rules, people); then `why` says so.
        why: "" or why it was not calibrated.
        parts: the choices; None where there are none to be made, and a judge then settles nothing.
        left: labelled pairs that earlier stages left to it and that have its number.
        lacking: labelled pairs that earlier stages left to it without its number: not asked, or no word.
        reliability: its number recalibrated, plain JSON; None where there are too few labels.
        unasked: pairs, labelled or not, that earlier stages now leave to it and that it was not asked about in this
            run, or as a second opinion only. A promise about what comes to it would rest on a part that the old
            routing picked: with one such pair none is made.
    """

    name: str
    by: By | None = None
    why: str = ""
    parts: Parts | None = None
    left: int = 0
    lacking: int = 0
    reliability: Mapping[str, Any] | None = None
    unasked: int = 0


@dataclass(frozen=True, slots=True)
class Coverage:
    """What the thresholds make of all judged pairs.

    Attributes:
        pairs: all judged pairs.
        settled: by stage and label, how many it settles.
        unasked: by stage, how many come to it that it was not asked about in this run; `relabel run` asks it.
        people: how many nobody settles: they go to the human queue, undecided.
        before: by outcome, what the run made of them, people's labels aside: "pairs", how many of these are "labelled",
            and how many of those people call "relevant".
        after: the same with these thresholds; a pair that waits for a stage is undecided.
    """

    pairs: int
    settled: Mapping[tuple[str, Label], int]
    unasked: Mapping[str, int]
    people: int
    before: Mapping[Outcome, Mapping[str, int]] = field(default_factory=dict)
    after: Mapping[Outcome, Mapping[str, int]] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class Calibration:
    """The result of `calibrate`.

    Attributes:
        targets: what was to be promised.
        labels: how many labelled pairs the thresholds rest on, people agreeing on each.
        queries: theirs.
        divided: pairs whose labels tie: left out.
        where: the file of labels, "" = the run's own.
        digest: its SHA-256, "" = the run's own.
        stages: in the cascade's order.
        coverage: of all pairs.
        config: the text of the config with the thresholds.
        basis: which labelled pairs count, and why these.
        source: the input of the run.
        files: what was written.
    """

    targets: Targets
    labels: int
    queries: int
    divided: int
    where: str
    digest: str
    stages: tuple[StageResult, ...]
    coverage: Coverage
    config: str
    basis: Even
    source: Path
    files: Mapping[str, Path] = field(default_factory=dict)

    @property
    def promises(self) -> int:
        """How many promises are made."""
        parts = [part for stage in self.stages if stage.parts for part in (stage.parts.rest, *stage.parts.own)]
        return sum(choice.chosen is not None for part in parts for choice in part.choices)

    def to_json(self) -> dict[str, Any]:
        """Return it as plain JSON."""
        covered = self.coverage
        return {
            "labels": {
                "file": Path(self.where).name, "sha256": self.digest, "pairs": self.labels, "queries": self.queries,
                "divided": self.divided, "basis": self.basis.basis,
            },
            "delta": self.targets.delta,
            "delta_is_of": "all promises together" if self.targets.jointly else "each promise by itself",
            "bound": BOUND,
            "pairs": covered.pairs,
            "people": covered.people,
            "before": _told(covered.before),
            "after": _told(covered.after),
            "stages": [_stage_to_json(stage, covered) for stage in self.stages],
        }  # fmt: skip


def settle_of(result: StageResult) -> Settle | None:
    """Return what a stage settles by its number: nothing without choices; None where it keeps its routing."""
    if result.by is None:
        return None
    if result.parts is None:
        return Settle(result.by, Cuts())
    return Settle(result.by, result.parts.rest.cuts, {part.source or "": part.cuts for part in result.parts.own})


def _told(outcomes: Mapping[Outcome, Mapping[str, int]]) -> dict[str, Any]:
    return {name: dict(counts) for name, counts in sorted(outcomes.items())}


def _stage_to_json(stage: StageResult, covered: Coverage) -> dict[str, Any]:
    told: dict[str, Any] = {
        "name": stage.name,
        "by": stage.by,
        "why": stage.why,
        "labels": stage.left,
        "labels_without_its_number": stage.lacking,
        "settled": {label: covered.settled.get((stage.name, label), 0) for label in LABELS},
        "unasked": covered.unasked.get(stage.name, 0),
        "unasked_or_second_opinion": stage.unasked,
        "parts": [],
        "reliability": stage.reliability,
    }
    if stage.parts is not None:
        told["pooled_sources"] = list(stage.parts.pooled)
        told["parts"] = [
            {"source": part.source, "choices": [choice_to_json(choice) for choice in part.choices]}
            for part in (stage.parts.rest, *stage.parts.own)
        ]
    return told


def config_text(settings: config.Settings, done: Calibration) -> str:
    """Write the run's config with the thresholds in it, and before it where they come from."""
    results = {stage.name: stage for stage in done.stages}
    stages = []
    for name, stage in zip(settings.names, settings.stages, strict=True):
        result = results[name]
        if (settle := settle_of(result)) is not None:
            chosen = config.SettleSettings(
                by=settle.by,
                **_cuts(settle.cuts),
                sources={source: config.CutSettings(**_cuts(cuts)) for source, cuts in settle.sources.items()},
            )
            stage = stage.model_copy(update={"settle": chosen, "final": None})  # noqa: PLW2901
        # thresholds are of pairs: a query that goes up whole would be judged by what was calibrated on others
        stages.append(stage.model_copy(update={"escalate": "pair"}))
    placed = config.anchored(settings.model_copy(update={"stages": stages}), Path.cwd())  # wherever the file is put
    told = placed.model_dump(mode="json", exclude_defaults=True)
    for stage in told["stages"]:
        if "settle" in stage:
            stage["settle"] = {"by": stage["settle"]["by"]} | stage["settle"]
    text = yaml.safe_dump(told, sort_keys=False, allow_unicode=True, width=120)
    return "".join(f"# {line}\n" for line in _provenance(done)) + text


def _cuts(cuts: Any) -> dict[str, float | None]:
    return {label: getattr(cuts, label) for label in LABELS}


def _provenance(done: Calibration) -> Iterator[str]:
    """Say in lines where the thresholds come from."""
    where = f"{Path(done.where).name} (sha256 {done.digest or 'unknown'})" if done.where else "the run's own labels"
    each = "all promises together hold" if done.targets.jointly else "each promise by itself holds"
    yield f"{HEAD}, from {where!r}: {done.labels} labelled pairs of {done.queries} queries."
    yield f"Basis: {done.basis.basis}."
    yield f"Bound: {BOUND}; {each} with confidence {1 - done.targets.delta:g}."
    if not done.promises:
        yield "NO PROMISE can be made: no judge settles anything here, and people get all that rules leave."
    for stage in done.stages:
        if stage.by is not None and stage.parts is None:
            yield f"{stage.name}: no promise, it settles nothing: {stage.why}"
        for part in (stage.parts.rest, *stage.parts.own) if stage.parts else ():
            of = f"{stage.name}, source {part.source!r}" if part.source is not None else stage.name
            for choice in part.choices:
                head = f"{of}: {choice.promise.settle}, at most {choice.promise.alpha:g}"
                if (step := choice.chosen) is None:
                    yield f"{head}: no promise ({choice.why})"
                else:
                    yield (
                        f"{head}: {stage.by} {step.threshold:g}; {step.errors} errors in {step.pairs} pairs of"
                        f" {step.queries} queries, at most {step.upper:.4f}"
                    )
