"""Which pairs of a run people should look at, and what their labels say of the whole data set.

    audit_sample ─▶ the CSV for people, and RUN/samples/NAME.jsonl: what was drawn, and with which chance
    audit_estimate ─▶ RUN/estimates.json: every figure with its interval

Samples of one seed overlap as far as their designs allow, so that a label serves several. One figure rests on one
sample. Labels of several designs are never thrown together: those of the sample that has most
labels are used, or those of the one that is named.
"""

import json
import re
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final, get_args

from relabel import audit
from relabel.concluding import Plan
from relabel.errors import RunError, SettingsError, typed
from relabel.estimates import Estimate
from relabel.inferring import Known, Labelled, Sample, SampleRow, figures_of, worked_off
from relabel.labelled import JudgedPair, Labels, judged_pairs
from relabel.pipeline import open_run
from relabel.records import digest
from relabel.rundir import json_line, replacing, sha256_of, state_of, write_json
from relabel.sampling import (
    AT_LEAST,
    Allocation,
    Census,
    Design,
    Draw,
    Drawn,
    Facts,
    Kind,
    Preference,
    Trait,
    Unit,
    expected_relevance,
    queries_for,
    stratum_of,
    to_dict,
)
from relabel.store import Store

SAMPLES: Final = "samples"
ESTIMATES: Final = "estimates.json"
_NAME: Final = re.compile(r"[\w-][\w.-]*\Z")


@dataclass(frozen=True, slots=True)
class Sampled:
    """What `audit_sample` drew.

    Attributes:
        name: of the sample in the run directory.
        design: how it was drawn.
        pairs: that it holds, copies counted once.
        queries: that they are of.
        of: pairs of the run.
        listed: pairs in the CSV.
        labelled: pairs of the sample that people labelled before; not listed again unless asked.
        strata: units of each stratum: in the run, and drawn.
        projected: (labels, half width of the 95 % interval of the false-negative rate) to expect.
    """

    name: str
    design: Design
    pairs: int
    queries: int
    of: int
    listed: int
    labelled: int
    strata: Mapping[str, tuple[int, int]]
    projected: tuple[tuple[int, float], ...]


@dataclass(frozen=True, slots=True)
class Estimated:
    """What `audit_estimate` found.

    Attributes:
        figures: every one with its interval.
        sample: name of the sample that they rest on, "" where people chose the pairs.
        design: of the sample, as told in its file.
        pairs: of the run.
        labels: that the figures rest on.
        missing: pairs of the sample without a label, as far as it was worked on.
        divided: of these, pairs on which people are divided.
        notes: what else must be known.
    """

    figures: tuple[Estimate, ...]
    sample: str
    design: Mapping[str, Any]
    pairs: int
    labels: int
    missing: int
    divided: int
    notes: tuple[str, ...]


def design_of(*, kind: str | None, by: str, strata: str | None, allocation: str, prefer: str, seed: int) -> Design:
    """Make a design of options; without a kind: stratified where strata are named or pairs are drawn, else random.

    Raises:
        SettingsError: a word that is none of the choices, or choices that do not go together.
    """
    traits = tuple(dict.fromkeys(part.strip() for part in strata.split(","))) if strata else ()
    chosen = kind or ("stratified" if traits or by == "pair" else "random")
    checks = (
        ("--design", (chosen,), Kind), ("--by", (by,), Unit), ("--strata", traits, Trait),
        ("--allocation", (allocation,), Allocation), ("--prefer", (prefer,), Preference),
    )  # fmt: skip
    for option, words, choices in checks:
        if wrong := [word for word in words if word not in get_args(choices)]:
            raise SettingsError(f"{option} {wrong[0]!r} is none of {', '.join(get_args(choices))}")
    if traits and chosen != "stratified":
        raise SettingsError(f"--strata is for --design stratified, not {chosen}", hint="leave one of the two out")
    if by == "query" and chosen == "active":
        raise SettingsError("--design active draws pairs", hint="leave out --by query, or draw at random")
    if by == "query" and chosen == "stratified" and traits != ("source",):
        raise SettingsError("whole queries can be told apart by source only", hint="--by query --strata source")
    return Design(
        chosen,  # type: ignore[arg-type] # checked above, like the others
        by,  # type: ignore[arg-type]
        (traits or ("verdict",)) if chosen == "stratified" else (),  # type: ignore[arg-type]
        allocation,  # type: ignore[arg-type]
        prefer,  # type: ignore[arg-type]
        seed,
    )


def audit_sample(
    folder: Path,
    path: Path,
    n: int,
    design: Design,
    *,
    name: str | None = None,
    blind: bool = False,
    again: bool = False,
    source: Path | None = None,
) -> Sampled:
    """Draw pairs for people and write their CSV; keep the sample in the run directory.

    Args:
        folder: a finished run.
        path: the CSV to write, in the order of drawing: whoever stops early has labelled a sample all the same.
        n: how many pairs; of queries so many as hold about n.
        design: how.
        name: of the sample; by its design without. The same name again with a larger n extends it.
        blind: without what judges and other people said.
        again: list pairs too that people labelled before.
        source: where the input is now, if it was moved.

    Raises:
        SettingsError: n is too small for the design.
        RunError: the run has no judged pairs, or another sample of that name is there.
    """
    if n < 2:
        raise SettingsError(f"-n {n}: two pairs at least", hint="-n 200")
    named = name or _name_of(design)
    if not _NAME.match(named):
        raise SettingsError(f"--name {named!r}: letters, digits, - and _ only")
    with open_run(folder, path=source) as (plan, store):
        audit.check_place(path, plan.source.path, lambda there: store.imported(sha256_of(there)))
        census, drawn = _drawn(plan, store, n, design)
        rows = list(_rows(drawn))
        _keep(folder, Sample(named, to_dict(design), census.pairs, dict(census.sizes), tuple(rows)))
        once: dict[str, JudgedPair] = {}
        for unit in drawn:
            for _, pair in unit.members:
                once.setdefault(pair.fingerprint, pair)
        pairs = list(once.values())
        listed = [pair.finding for pair in pairs if again or not pair.people]
        audit.write_findings(listed, path, [stage.name for stage in plan.stages], blind=blind)
    taken = Counter(unit.stratum for unit in drawn)
    mean = len(pairs) / max(len(drawn), 1)
    return Sampled(
        named,
        design,
        len(pairs),
        len({pair.query for pair in pairs}),
        census.pairs,
        len(listed),
        sum(bool(pair.people) for pair in pairs),
        {stratum: (size, taken[stratum]) for stratum, size in sorted(census.sizes.items())},
        tuple((round(k * mean), census.projected(k)) for k in _steps(len(drawn), census)),
    )


def _drawn(plan: Plan, store: Store, n: int, design: Design) -> tuple[Census, list[Drawn[JudgedPair]]]:
    """Count what there is in one walk over the run, and draw about n pairs of it in another."""
    census = Census(design)
    for group in judged_pairs(plan, store):
        census.add([facts_of(pair, design) for pair in group])
    census.close()
    if not census.pairs:
        raise RunError(f"{store.folder} holds no judged pairs", hint=f"see: {typed('stats', store.folder)}")
    units = n if design.unit == "pair" else queries_for(n, census)
    if design.kind == "stratified" and units < AT_LEAST * len(census.sizes):
        raise SettingsError(
            f"{units:,} drawn from {len(census.sizes):,} strata: each needs {AT_LEAST} at least",
            hint=f"a larger -n ({AT_LEAST * len(census.sizes):,} or more), or fewer --strata",
        )
    draw: Draw[JudgedPair] = Draw(census, units)
    for group in judged_pairs(plan, store):
        draw.add([(facts_of(pair, design), pair) for pair in group])
    return census, list(draw.drawn())


def _steps(units: int, census: Census) -> list[int]:
    """Half of what was drawn, that, twice and four times as many; no more than there are."""
    whole = sum(census.sizes.values())
    return sorted({min(max(round(units * factor), 2), whole) for factor in (0.5, 1, 2, 4)})


def _name_of(design: Design) -> str:
    parts: list[str] = [design.kind]
    if design.kind == "stratified":
        parts += [*design.strata, design.allocation]
    if design.kind == "active":
        parts.append(design.prefer)
    if design.unit == "query":
        parts.append("queries")
    return "-".join([*parts, str(design.seed)])


def facts_of(pair: JudgedPair, design: Design) -> Facts:
    """Return what a design looks at."""
    return Facts(
        pair.fingerprint,
        pair.query,
        expected_relevance(pair.words),
        tuple([(word.label or "") if word is not None else "" for word in pair.words]),
        stratum_of(design.strata, pair.unaided, pair.source, pair.rank),
    )


def _rows(drawn: Sequence[Drawn[JudgedPair]]) -> Iterator[SampleRow]:
    for order, unit in enumerate(drawn, start=1):
        copies = Counter(facts.pair for facts, _ in unit.members)
        for pair, query in {facts.pair: facts.query for facts, _ in unit.members}.items():
            name = digest("query", query, size=8).hex()
            yield SampleRow(order, pair, name, unit.stratum, unit.chance, copies[pair])


def _keep(folder: Path, sample: Sample) -> None:
    """Write a sample's file; a larger one of the same design takes the place of the smaller, which it contains."""
    path = folder / SAMPLES / f"{sample.name}.jsonl"
    if path.exists():
        old = read_sample(path)
        if old.design != sample.design:
            raise RunError(f"{path} is a sample of another design", hint="give this one another --name")
        if (old.pairs, old.strata) != (sample.pairs, sample.strata):
            raise RunError(
                f"{path} was drawn from another state of the run (its pairs or verdicts have changed since, as by"
                " relabel apply)",
                hint="draw a new one beside it: --name NEW; labels that are there count again",
            )
        if len(old.rows) > len(sample.rows):
            raise RunError(
                f"{path} has {len(old.rows):,} pairs, and {len(sample.rows):,} would take their place",
                hint="a larger -n extends it; for another sample: --name",
            )
    try:
        path.parent.mkdir(exist_ok=True)
    except OSError as error:
        raise RunError(f"{path.parent} cannot be made: {error}", hint="look at the run directory") from error
    with replacing(path) as file:
        header = {"version": 1, "design": sample.design, "pairs": sample.pairs, "strata": sample.strata}
        file.write(json_line(header))
        for row in sample.rows:
            file.write(json_line({name: getattr(row, name) for name in SampleRow.__slots__}))


def read_sample(path: Path) -> Sample:
    """Read a sample of a run.

    Raises:
        RunError: it is not what `audit_sample` writes.
    """
    try:
        first, *lines = path.read_text("utf-8").rstrip("\n").split("\n")  # a source may hold U+2028
        header = json.loads(first)
        rows = tuple(SampleRow(**json.loads(line)) for line in lines)
        return Sample(path.stem, header["design"], header["pairs"], header["strata"], rows)
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise RunError(
            f"{path} is not a sample that relabel wrote: {error}",
            hint=f"remove it, and draw again: {_draw(path.parent.parent)}",
        ) from error


def _draw(folder: Path) -> str:
    return typed("audit", "sample", folder, "-o", "sample.csv")


def samples_of(folder: Path) -> list[Sample]:
    """Read all samples of a run, by name.

    Raises:
        RunError: one is not what `audit_sample` writes.
    """
    return [read_sample(path) for path in sorted((folder / SAMPLES).glob("*.jsonl"))]


def sample_of(folder: Path, name: str) -> Sample:
    """Read the sample of a run that has this name.

    Raises:
        RunError: there is none, or it is not what `audit_sample` writes.
    """
    there = sorted(path.stem for path in (folder / SAMPLES).glob("*.jsonl"))
    if name not in there:
        names = ", ".join(there) or "none"
        raise RunError(f"{folder} has no sample {name!r} (it has: {names})", hint=f"draw one: {_draw(folder)}")
    return read_sample(folder / SAMPLES / f"{name}.jsonl")


def audit_estimate(
    folder: Path,
    *,
    gold: str | None = None,
    threshold: int = 2,
    sample: str | None = None,
    source: Path | None = None,
) -> Estimated:
    """Estimate from people's labels how many negatives are false, and how far each judge can be believed.

    Args:
        folder: a finished run.
        gold: a file of labels, in place of those that the run took in (`labelled.Labels`).
        threshold: of judgments: the lowest grade that is relevant.
        sample: name of the sample; the one with most labels without.
        source: where the input is now, if it was moved.

    Raises:
        RunError: nobody labelled a pair, no sample has that name, or the run is not the one that was sampled.
    """
    samples = samples_of(folder)
    if sample is not None:
        sample_of(folder, sample)
    labels = Labels(gold, threshold) if gold is not None else None
    wanted = {row.pair for each in samples for row in each.rows}
    known = Known()
    with open_run(folder, path=source) as (plan, store):
        asked = of_people(plan)
        for group in judged_pairs(plan, store, labels):
            for pair in group:
                known.add(facts_for_estimates(pair, asked), keep=pair.fingerprint in wanted)
    if labels is not None:
        labels.check()
    if not known.labels:
        raise RunError(
            f"nobody labelled a pair of {folder}",
            hint=f"{_draw(folder)}, fill in human_label, then: {typed('audit', 'import', folder, 'sample.csv')}",
        )
    chosen, notes = _choose(samples, sample, known, folder)
    found = figures_of(known, chosen, list(asked))
    told = {"run": state_of(folder), "figures": [each.to_json() for each in found.figures]}
    write_json(folder / ESTIMATES, told)
    return Estimated(
        found.figures,
        chosen.name if chosen is not None else "",
        chosen.design if chosen is not None else {},
        known.pairs,
        found.labels,
        found.missing,
        found.divided,
        (*notes, *found.notes),
    )


def _choose(samples: Sequence[Sample], name: str | None, known: Known, folder: Path) -> tuple[Sample | None, list[str]]:
    """Return the sample that the figures rest on, and what is to be said of the others."""
    if name is None and known.all_told:  # nothing to estimate
        return None, []
    there, notes = {}, []
    for each in samples:
        problem = changed(each, known)
        if problem and each.name == name:
            hint = f"draw again; labels that are there count again: {_draw(folder)} --name NEW"
            raise RunError(problem, hint=hint)
        if problem:
            notes.append(f"{problem}: not used")
        else:
            there[each.name] = each
    counted = {each.name: sum(known.gold(row.pair) is not None for row in each.rows) for each in there.values()}
    usable = [each for each in there.values() if name in (None, each.name) and worked_off(known, each)]
    if not usable and name is not None:
        raise RunError(
            f"people did not work off the sample {name}: {counted[name]:,} of its pairs have a label",
            hint=f"label its CSV from the top and skip few, then: {typed('audit', 'import', folder, 'CSV')}; the same"
            " relabel audit sample lists those that have no label yet",
        )
    if not usable:
        few = "have a label, too few of those in turn to rest on it"
        return None, notes + [f"{count:,} pairs of the sample {each} {few}" for each, count in counted.items() if count]
    chosen = max(
        usable, key=lambda each: (counted[each.name], -len(each.rows))
    )  # of equals the one that is nearer its end
    notes += [
        f"the sample {each.name} has labels on {counted[each.name]:,} of its {len(each.rows):,} pairs too; figures from"
        f" it alone: --sample {each.name}"
        for each in there.values()
        if each is not chosen and counted[each.name]
    ]
    outside = known.labels - len({row.pair for row in chosen.rows if known.gold(row.pair) is not None})
    if outside:
        notes.append(
            f"{outside:,} labelled pairs are not of this sample (chosen otherwise, or its texts under other ids): not"
            " used"
        )
    return chosen, notes


def changed(sample: Sample, known: Known) -> str:
    """Say why a sample is not of this data set; "" if it is."""
    gone = sum(row.pair not in known.rows for row in sample.rows)
    if sample.pairs == known.pairs and not gone:
        return ""
    return (
        f"the sample {sample.name} was drawn from {sample.pairs:,} pairs, of which the run has {known.pairs:,} now"
        + (f", and {gone:,} of the sample are gone" if gone else "")
    )


def of_people(plan: Plan) -> dict[str, bool]:
    """Return the stages of a run by name, and whether people speak there."""
    return {stage.name: own.judge == "human" for stage, own in zip(plan.stages, plan.settings.stages, strict=True)}


def facts_for_estimates(pair: JudgedPair, stages: Mapping[str, bool]) -> Labelled:
    """Return what estimates need of a pair; the words of a stage where people speak (True) are no judge's."""
    words = [
        None if human or (word := pair.own_word(index)) is None else word.label
        for index, human in enumerate(stages.values())
    ]
    return Labelled(
        pair.fingerprint,
        digest("query", pair.query, size=8).hex(),
        pair.source,
        expected_relevance(pair.words),
        tuple(words),
        pair.unaided.outcome,
        pair.gold,
        bool(pair.people),
        stages.get(pair.unaided.stage, False),
    )
