"""From a finished run and people's labels to a config that keeps a promise: how `relabel calibrate` works.

One walk over the run gathers the pairs that people labelled, which are held in memory; one for each judge counts the
pairs that would come to it and that it was not asked about; the last counts what the chosen thresholds would settle of
all pairs. Nobody is asked.
"""

from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any, Final

import yaml

from relabel import config
from relabel.auditing import facts_for_estimates, samples_of
from relabel.calibration import Labelled, Parts, Promise, calibrate_stage, choice_to_json
from relabel.cascade import OUTCOMES, By, Cuts, Settle, Stage, number_of, settles
from relabel.concluding import Plan
from relabel.errors import InputError, RunError, SettingsError, typed
from relabel.evenness import Even, even
from relabel.inferring import Known, Sample
from relabel.labelled import JudgedPair, Labels, judged_pairs
from relabel.pipeline import open_run
from relabel.records import LABELS, Judgment, Label, Outcome
from relabel.reliability import recalibrate
from relabel.rundir import replacing, sha256_of, state_of, write_json
from relabel.store import Store

SMALLEST: Final = 1e-4
"""The least alpha that is tested: it takes 23,025 queries without an error."""

RESULT: Final = "calibration.json"
CONFIG: Final = "calibrated.yaml"
HEAD: Final = "Thresholds by relabel calibrate"
BOUND: Final = "query-clustered (Korn and Graubard 1998)"

_NUMBERS: Final[tuple[By, ...]] = ("score", "probability")
_REACH: Final[Mapping[By, Mapping[Label, float]]] = {
    "word": {"relevant": 2.0, "partial": 1.0, "irrelevant": 0.0},
    "probability": {"relevant": 0.5, "partial": 0.5, "irrelevant": 0.5},
}
"""How far a number may settle pairs at the loosest: nothing is settled against the judge's own word, where it is known
which numbers stand for which words. A loose alpha would else have what a judge calls relevant kept as a negative."""

_WITHOUT: Final = ("rules", "human")
"""Judges that have no number: what they say is a fact about the row, or a person's word."""


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
        before: by outcome, what the run made of them in this run, people's labels aside; and how many of them people
            call relevant, where they labelled them.
        after: the same with these thresholds; a pair that waits for a stage is undecided.
    """

    pairs: int
    settled: Mapping[tuple[str, Label], int]
    unasked: Mapping[str, int]
    people: int
    before: Mapping[Outcome, tuple[int, int]] = field(default_factory=dict)
    after: Mapping[Outcome, tuple[int, int]] = field(default_factory=dict)


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


def calibrate(
    folder: Path,
    targets: Targets,
    *,
    gold: str | None = None,
    threshold: int = 2,
    output: Path | None = None,
    path: Path | None = None,
) -> Calibration:
    """Choose for each stage what its number may settle, and write the config that does so.

    Writes `calibration.json` into the run, and the config where `output` says (`calibrated.yaml` in the run). Where no
    promise can be made too: a run under it asks every judge about all that is open, and can then be calibrated.

    Args:
        folder: a finished run.
        targets: what shall be promised.
        gold: file of labels (see `labelled.Labels`); None = those that the run took in.
        threshold: of grades in that file, the lowest that is relevant.
        output: the config to write.
        path: where the input is now, if it was moved.

    Raises:
        RunError: no finished run.
        InputError: no labels.
        SettingsError: targets that cannot be.
    """
    targets.check()
    labels = Labels(gold, threshold) if gold is not None else None
    with open_run(folder, path=path) as (plan, store):
        samples = samples_of(folder)
        labelled, divided, known = _labelled(plan, store, labels, samples)
        if labels is not None:
            labels.check()
        if not labelled:
            raise InputError(
                f"there is no label to calibrate {folder} by" + (f" ({divided:,} are divided)" if divided else ""),
                hint=f"take labels in: {typed('audit', 'import', folder, 'FILE.csv')}, or give a file: --gold FILE",
            )
        counted = even(labelled, samples, known, complete=len(labelled) + divided == known.pairs)
        judges = [stage.judge for stage in plan.settings.stages]
        stages, results = calibrate_stages(plan.stages, judges, counted.pairs, lambda: _every(plan, store), targets)
        coverage = _coverage(_every(plan, store, labels), stages)
    digest = _digest(gold)
    done = Calibration(
        targets, len(counted.pairs), len({pair.query for pair in counted.pairs}), divided, gold or "", digest, results,
        coverage, "", counted, plan.source.path,
    )  # fmt: skip
    done = replace(done, config=_config_text(plan.settings, done))
    files = {"config": output or folder / CONFIG, "result": folder / RESULT}
    _check_place(files["config"])
    with replacing(files["config"]) as file:
        file.write(done.config)
    write_json(files["result"], {"run": state_of(folder)} | done.to_json())
    return replace(done, files=files)


def _check_place(path: Path) -> None:
    """Refuse to write the config where there is no folder, or over what somebody else wrote."""
    another = "name a new .yaml in a folder that is there: -o FILE.yaml"
    if path.suffix.casefold() not in (".yaml", ".yml") or not path.parent.is_dir():
        raise RunError(f"{path} cannot be written: a config is a .yaml in a folder", hint=another)
    if path.exists() and not (path.is_file() and path.read_text("utf-8", "replace").startswith(f"# {HEAD}")):
        raise RunError(f"{path} is there, and relabel calibrate did not write it", hint=another)


def _digest(gold: str | None) -> str:
    """Return the SHA-256 of a file of labels, "" for those of the run, or where they are in no file."""
    return sha256_of(Path(gold)) if gold is not None and Path(gold).exists() else ""


def _labelled(
    plan: Plan, store: Store, labels: Labels | None, samples: Sequence[Sample]
) -> tuple[list[JudgedPair], int, Known]:
    """Gather the pairs on whose label people agree; count those on which they are divided; know all, and the drawn."""
    found, divided, known = [], 0, Known()
    drawn = {row.pair for sample in samples for row in sample.rows}
    names = [stage.name for stage in plan.stages]
    people = frozenset(stage.name for stage in plan.settings.stages if stage.judge == "human")
    for pair in _every(plan, store, labels):
        known.add(facts_for_estimates(pair, names, people), keep=pair.fingerprint in drawn)
        if pair.gold is not None:
            found.append(pair)
        divided += bool(pair.people) and pair.gold is None
    return found, divided, known


def calibrate_stages(
    routing: Sequence[Stage],
    judges: Sequence[str],
    labelled: Sequence[JudgedPair],
    everything: Callable[[], Iterator[JudgedPair]],
    targets: Targets,
) -> tuple[tuple[Stage, ...], tuple[StageResult, ...]]:
    """Calibrate stage after stage, each on what those before it leave.

    Args:
        routing: of the run.
        judges: kinds of the stages, in the same order.
        labelled: pairs on whose label people agree.
        everything: walks all judged pairs of the run.
        targets: what shall be promised.

    Returns:
        The new routing, and what came of each stage.
    """
    promises = _promises(targets, sum(judge not in _WITHOUT for judge in judges), len({p.source for p in labelled}))
    stages: list[Stage] = []
    results = []
    left = list(labelled)
    for index, (stage, judge) in enumerate(zip(routing, judges, strict=True)):
        words = [(pair, word) for pair in left if (word := own_word(pair, index)) is not None]
        if judge in _WITHOUT:
            why = "it has no number"
            result, now = StageResult(stage.name, why=why, left=len(words), lacking=len(left) - len(words)), stage
        else:
            result = _one(stage.name, words, promises, targets, len(left), _unasked(stages, everything()))
            now = Stage(stage.name, sample=stage.sample, settle=_settle(result))
        stages.append(now)
        results.append(result)
        gone = {id(pair) for pair, word in words if settles(now, word, pair.source)}
        left = [pair for pair in left if id(pair) not in gone]
    return tuple(stages), tuple(results)


def _unasked(before: Sequence[Stage], pairs: Iterator[JudgedPair]) -> tuple[int, int]:
    """Count the pairs that these stages leave to the next one and that it was not asked about, and all that they leave.

    A pair that one of them was not asked about itself is taken to be left.
    """
    unasked = left = 0
    for pair in pairs:
        words = [own_word(pair, index) for index in range(len(before) + 1)]
        if not any(word and settles(stage, word, pair.source) for stage, word in zip(before, words, strict=False)):
            left += 1
            unasked += words[-1] is None
    return unasked, left


def own_word(pair: JudgedPair, stage: int) -> Judgment | None:
    """Return what a stage said of a pair that came up to it; second opinions are of another kind of pair."""
    return None if pair.due[stage] == "sampled" else pair.words[stage]


def _promises(targets: Targets, stages: int, sources: int) -> tuple[Promise, ...]:
    """Lay out the promises of a stage; jointly, delta is shared among all that may be made."""
    parts = sources + 1 if targets.by_source and sources > 1 else 1
    share = max(1, stages * len(targets.alpha) * parts) if targets.jointly else 1
    return tuple(
        Promise(label, targets.alpha[label], targets.delta / share) for label in LABELS if label in targets.alpha
    )


def _number_of(words: Sequence[Judgment]) -> By | None:
    """Choose by which number a judge settles: the first kind that stands beside all its words, else the words.

    A probability is that of relevance only of a judge with two labels, so one that says "partial" settles by its words.
    """
    said = [word for word in words if word.label is not None or word.score is not None]
    if not said:
        return None
    return next((by for by in _NUMBERS if all(number_of(word, by) is not None for word in said)), "word")


def _one(
    name: str,
    words: Sequence[tuple[JudgedPair, Judgment]],
    promises: Sequence[Promise],
    targets: Targets,
    left: int,
    unasked: tuple[int, int],
) -> StageResult:
    """Calibrate one stage, where its words are on all that comes to it."""
    by = _number_of([word for _, word in words])
    if by is None or unasked[0]:
        why = "no labelled pair has its word"
        if unasked[0]:
            why = (
                f"in this run it was not asked about {unasked[0]:,} of the {unasked[1]:,} pairs that now come to it,"
                " second opinions aside; let relabel run ask it under the new config, and calibrate again"
            )
        return StageResult(name, by or "word", why, left=len(words), lacking=left - len(words), unasked=unasked[0])
    numbered = [
        (Labelled(pair.query, pair.source, number, pair.gold), word)
        for pair, word in words
        if (number := number_of(word, by)) is not None and pair.gold is not None
    ]
    pairs = [pair for pair, _ in numbered]
    within = [replace(promise, reach=_REACH.get(by, {}).get(promise.settle)) for promise in promises]
    parts = calibrate_stage(pairs, within, by_source=targets.by_source)
    found = recalibrate(
        [pair.number for pair in pairs],
        [pair.gold == "relevant" for pair in pairs],
        [pair.query for pair in pairs],
        [number_of(word, "probability") for _, word in numbered],  # not of all where it says "partial": no `before`
    )
    reliability = found.to_json() if found else None
    return StageResult(name, by, "", parts, len(pairs), left - len(pairs), reliability)


def _settle(result: StageResult) -> Settle | None:
    """Return what a stage settles by its number: nothing without choices; None where it keeps its routing."""
    if result.by is None:
        return None
    if result.parts is None:
        return Settle(result.by, Cuts())
    return Settle(result.by, result.parts.rest.cuts, {part.source or "": part.cuts for part in result.parts.own})


def _coverage(pairs: Iterable[JudgedPair], stages: Sequence[Stage]) -> Coverage:
    """Count what the stages settle of all judged pairs, by the words that the run has."""
    settled: Counter[tuple[str, Label]] = Counter()
    unasked: Counter[str] = Counter()
    outcomes: dict[bool, Counter[tuple[Outcome, bool]]] = {False: Counter(), True: Counter()}
    total = people = 0
    for pair in pairs:
        total += 1
        now: Outcome = "undecided"
        for stage, word in zip(stages, pair.words, strict=True):
            if word is None:
                unasked[stage.name] += 1
                break
            if settles(stage, word, pair.source):
                label = stage.settle.label_of(word, pair.source) if stage.settle else word.label
                if label is not None:
                    settled[stage.name, label] += 1
                    now = OUTCOMES[label]
                break
        else:
            people += 1
        outcomes[False][pair.unaided.outcome, pair.gold == "relevant"] += 1
        outcomes[True][now, pair.gold == "relevant"] += 1
    before, after = (
        {outcome: (each[outcome, False] + each[outcome, True], each[outcome, True]) for outcome, _ in each}
        for each in (outcomes[False], outcomes[True])
    )
    return Coverage(total, settled, unasked, people, before, after)


def _every(plan: Plan, store: Store, labels: Labels | None = None) -> Iterator[JudgedPair]:
    for pairs in judged_pairs(plan, store, labels):
        yield from pairs


# -- what is written ---------------------------------------------------------------------------------------


def _told(outcomes: Mapping[Outcome, tuple[int, int]]) -> dict[str, Any]:
    return {name: {"pairs": pairs, "people_call_relevant": found} for name, (pairs, found) in sorted(outcomes.items())}


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


def _config_text(settings: config.Settings, done: Calibration) -> str:
    """Write the run's config with the thresholds in it, and before it where they come from."""
    results = {stage.name: stage for stage in done.stages}
    stages = []
    for name, stage in zip(settings.names, settings.stages, strict=True):
        result = results[name]
        if (settle := _settle(result)) is not None:
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
