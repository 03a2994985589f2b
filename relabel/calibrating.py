"""From a finished run and people's labels to a config that keeps a promise: how `relabel calibrate` works.

One walk over the run gathers the pairs that people labelled, which are held in memory; one for each judge counts the
pairs that would come to it and that it was not asked about; the last counts what the chosen thresholds would settle of
all pairs. Nobody is asked.
"""

from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Final

from relabel.auditing import facts_for_estimates, of_people, samples_of
from relabel.calibration import Labelled, Promise, calibrate_stage
from relabel.cascade import GRADES, OUTCOMES, By, Stage, number_of, settled_as, settles
from relabel.concluding import Plan
from relabel.errors import InputError, RunError, typed
from relabel.evenness import even
from relabel.inferring import Known, Sample
from relabel.labelled import JudgedPair, Labels, judged_pairs
from relabel.pipeline import open_run
from relabel.promised import HEAD, Calibration, Coverage, StageResult, Targets, config_text, settle_of
from relabel.records import LABELS, Judgment, Label, Outcome
from relabel.reliability import recalibrate
from relabel.rundir import replacing, sha256_of, state_of, write_json
from relabel.store import Store

RESULT: Final = "calibration.json"
CONFIG: Final = "calibrated.yaml"

_NUMBERS: Final[tuple[By, ...]] = ("score", "probability")
_REACH: Final[Mapping[By, Mapping[Label, float]]] = {
    "word": GRADES,
    "probability": {"relevant": 0.5, "partial": 0.5, "irrelevant": 0.5},
}
"""How far a number may settle pairs at the loosest: nothing is settled against the judge's own word, where it is known
which numbers stand for which words. A loose alpha would else have what a judge calls relevant kept as a negative."""

_WITHOUT: Final = ("rules", "human")
"""Judges that have no number: what they say is a fact about the row, or a person's word."""


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
        labelled, divided, known, complete = _labelled(plan, store, labels, samples)
        if labels is not None:
            labels.check()
        if not labelled:
            raise InputError(
                f"there is no label to calibrate {folder} by" + (f" ({divided:,} are divided)" if divided else ""),
                hint=f"take labels in: {typed('audit', 'import', folder, 'FILE.csv')}, or give a file: --gold FILE",
            )
        counted = even(labelled, samples, known, complete=complete)
        judges = [stage.judge for stage in plan.settings.stages]
        stages, results = calibrate_stages(plan.stages, judges, counted.pairs, lambda: _every(plan, store), targets)
        coverage = _coverage(_every(plan, store, labels), stages)
    digest = _digest(gold)
    done = Calibration(
        targets, len(counted.pairs), len({pair.query for pair in counted.pairs}), divided, gold or "", digest, results,
        coverage, "", counted, plan.source.path,
    )  # fmt: skip
    done = replace(done, config=config_text(plan.settings, done))
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
) -> tuple[list[JudgedPair], int, Known, bool]:
    """Gather the pairs on whose label people agree; count those on which they are divided; know all, and the drawn.

    A pair that stands in several rows is one label. Last: whether every pair was labelled.
    """
    found: dict[str, JudgedPair] = {}
    divided, known, complete = 0, Known(), True
    drawn = {row.pair for sample in samples for row in sample.rows}
    asked = of_people(plan)
    for pair in _every(plan, store, labels):
        known.add(facts_for_estimates(pair, asked), keep=pair.fingerprint in drawn)
        if pair.gold is not None:
            found.setdefault(pair.fingerprint, pair)
        divided += bool(pair.people) and pair.gold is None
        complete = complete and bool(pair.people)
    return list(found.values()), divided, known, complete


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
        words = [(pair, word) for pair in left if (word := pair.own_word(index)) is not None]
        if judge in _WITHOUT:
            why = "it has no number"
            result, now = StageResult(stage.name, why=why, left=len(words), lacking=len(left) - len(words)), stage
        else:
            result = _one(stage.name, words, promises, targets, len(left), _unasked(stages, everything()))
            now = Stage(stage.name, sample=stage.sample, settle=settle_of(result))
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
        words = [pair.own_word(index) for index in range(len(before) + 1)]
        if not any(word and settles(stage, word, pair.source) for stage, word in zip(before, words, strict=False)):
            left += 1
            unasked += words[-1] is None
    return unasked, left


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


def _coverage(pairs: Iterable[JudgedPair], stages: Sequence[Stage]) -> Coverage:
    """Count what the stages settle of all judged pairs, by the words that the run has."""
    settled: Counter[tuple[str, Label]] = Counter()
    unasked: Counter[str] = Counter()
    before: dict[Outcome, Counter[str]] = {}
    after: dict[Outcome, Counter[str]] = {}
    total = people = 0
    for pair in pairs:
        total += 1
        now: Outcome = "undecided"
        for stage, word in zip(stages, pair.words, strict=True):
            if word is None:
                unasked[stage.name] += 1
                break
            if settles(stage, word, pair.source):
                label, _ = settled_as(stage, word, pair.source)
                if label is not None:
                    settled[stage.name, label] += 1
                    now = OUTCOMES[label]
                break
        else:
            people += 1
        for there, outcome in ((before, pair.unaided.outcome), (after, now)):
            said = {"pairs": 1, "labelled": int(pair.gold is not None), "relevant": int(pair.gold == "relevant")}
            there.setdefault(outcome, Counter()).update(said)
    return Coverage(total, settled, unasked, people, before, after)


def _every(plan: Plan, store: Store, labels: Labels | None = None) -> Iterator[JudgedPair]:
    for pairs in judged_pairs(plan, store, labels):
        yield from pairs
