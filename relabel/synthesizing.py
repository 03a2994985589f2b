"""The story of `relabel synthesize`: asked for → cheap checks → judged by the ordinary cascade → used, with care.

    OUTPUT/writing       the run directory of those who write, where a model does
    OUTPUT/candidates.jsonl   what passed the cheap checks, as an ordinary training file
    OUTPUT/judging       the run directory of those who judge it: an ordinary run

Everything else is a pure reading of these and the input: the same command again asks nobody twice.
"""

import time
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import asdict, dataclass, field, replace
from itertools import count
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

from relabel import augmenting, billing, config, pipeline
from relabel.authors import Author, open_author
from relabel.building import Opened, open_cluster, open_judges
from relabel.concluding import Plan
from relabel.copies import normalise
from relabel.engines.budget import Limits
from relabel.errors import RunError
from relabel.families import warnings_of
from relabel.formats import FORMATS, Reject, open_writer
from relabel.formats.carrying import other_fields
from relabel.judges.positives import KnownPositives, Look
from relabel.judges.vectors import Encoder, EncoderSettings, VectorCache
from relabel.mining.searching import Progress
from relabel.protocols import Judge, Role
from relabel.records import Example, Passage, Verdict
from relabel.rundir import json_line, replacing, sha256_of, write_json
from relabel.separating import told_apart
from relabel.sources import Source, Survey, open_source
from relabel.store import Store
from relabel.synthesis.gate import Gate, Gated
from relabel.synthesis.likeness import open_twins
from relabel.synthesis.marks import is_synthetic
from relabel.synthesis.settings import Settings
from relabel.synthesis.slots import Slot, Slots, open_slots, passages
from relabel.synthesis.using import Wants, drawn, most_of
from relabel.synthesis.writing import FAILED, WRITING
from relabel.synthesisbill import Books
from relabel.synthesisdir import (
    CACHE,
    CANDIDATES,
    EXECUTION,
    JUDGING,
    MANIFEST,
    REJECTS,
    STATISTICS,
    Writer,
    alone,
    check_same,
    check_unchanged,
    execution_of,
    manifest_of,
)


@dataclass(frozen=True, slots=True)
class Asked:
    """What one look at the input finds.

    Attributes:
        rows, rejected: that can be read, and that cannot.
        negatives: mined ones.
        made: negatives that are synthetic already, and say so.
        wanting: rows that want synthetic ones, and may have them.
        wanted: how many these want together.
        sha256: of the input.
        wants: how many each row is to get.
        room: how many the data set may get; None = any number.
        slots: asked of those who write.
    """

    rows: int
    rejected: int
    negatives: int
    made: int
    wanting: int
    wanted: int
    sha256: str
    wants: Wants
    room: int | None
    slots: int


@dataclass(frozen=True, slots=True)
class Synthesized:
    """What came of it: the folder, its files, and the figures of `statistics.json` and `run.json`."""

    folder: Path
    files: Mapping[str, Path]
    statistics: Mapping[str, Any]
    execution: Mapping[str, Any]
    warnings: tuple[str, ...] = ()


def synthesize(
    source: Source,
    settings: Settings,
    folder: Path,
    *,
    writer: Writer | None = None,
    judges: Mapping[str, Judge] | None = None,
    limits: Limits | None = None,
    preferences: bool = False,
    progress: Progress = lambda *_: None,
) -> Synthesized:
    """Fill rows with synthetic negatives that were proved; called again it goes on where it was.

    Args:
        source: the training file.
        settings: what is wanted, what the gate lets pass, who judges.
        folder: where everything goes.
        writer: who writes; None = as the settings say: an engine, rules, or what somebody has written before.
        judges: judges of one's own, in place of those of the cascade, by the stage's name.
        limits: what writing and judging may take together, in all executions.
        preferences: whether preference pairs are written too.
        progress: told (what, done, of how many) as work goes on, from other threads too.

    Raises:
        BudgetReached: the next question would exceed a limit; what was answered is kept, and nothing is written.
        InputError: the input, or what was written before, cannot be used, or lies where results would go.
        SettingsError: the settings, or those of the cascade, cannot be used.
        ServiceError: a model service cannot go on.
        RunError: the folder holds something else, or is in use.
    """
    started, begun, limits = time.time(), time.monotonic(), limits or Limits()
    judge = cascade(settings)
    check_same(source, settings, folder)
    _try_judges(judge, limits, judges or {})
    with alone(folder):
        books = Books(folder, settings, judge, limits, writer)
        books.check()
        asked = look(source, settings, folder / REJECTS)
        with open_slots(folder / CACHE / "slots.sqlite") as slots:
            if writer is None and settings.written is None:
                with _author(settings, folder, books.left_to_write(), asked, progress) as author:
                    take_in(source, settings, asked, slots, author, progress)
            else:
                take_in(source, settings, asked, slots, writer, progress)
            warnings = (*warnings_of(judge, slots.generators()), *stray_lines(settings, slots))
            warnings += tuple(no_room(source, settings, asked))
            vectors = _vectors(settings, judge, folder)
            counted = _gate(source, settings, slots, vectors, folder, progress)
            judged = _judge(judge, folder, slots, books.left_to_judge(), judges or {}, progress)
            warnings += tuple(_failed(slots, asked_now=settings.written is None or writer is not None))
            results = augmenting.write_results(
                source, settings, asked.wants, slots, folder, preferences=preferences, room=asked.room
            )
            embed = None if vectors is None else vectors.means
            apart = told_apart(_told(source, slots), embed=embed, seed=settings.seed)
        check_unchanged(source, asked.sha256)
        seen = {name: getattr(asked, name) for name in ("rows", "rejected", "negatives", "made", "wanting", "wanted")}
        warnings += (apart.warning,) if apart.warning else ()
        told = {"let_pass": dict(counted), "separability": apart.to_json(), "warnings": list(warnings)}
        statistics = {"input": seen, **results.statistics, **told}
        execution = execution_of(statistics, books.writing(), books.judging(judged), started, time.monotonic() - begun)
        write_json(folder / STATISTICS, statistics)
        write_json(folder / EXECUTION, execution)
        write_json(folder / MANIFEST, manifest_of(source, settings, judge, asked.sha256, results.files))
    return Synthesized(folder, results.files, statistics, execution, warnings)


def cascade(settings: Settings) -> config.Settings:
    """Return the cascade that judges, without what is for other runs: refilling, and rules about whole rows.

    Raises:
        SettingsError: its config cannot be used.
    """
    chosen = config.load(Path(settings.judge) if settings.judge is not None else None)
    return chosen.model_copy(update={"pool": None, "policy": config.PolicySettings()})


def _try_judges(judge: config.Settings, limits: Limits, own: Mapping[str, Judge]) -> None:
    """Open those who judge, and close them again: what they lack is told before anybody is paid for writing."""
    with TemporaryDirectory(prefix="relabel-") as name, Store(Path(name)) as store:
        cache = Path(name) / "cache"
        with open_cluster(judge, cache) as cluster:
            budget = billing.open_budget(judge, store, limits, own)
            open_judges(judge, store, cache, own, cluster, budget)


# -- what is asked for -----------------------------------------------------------------------------------------


def look(source: Source, settings: Settings, rejects: Path | None) -> Asked:
    """Read the input once: every broken row is found before anything is spent."""
    wants = Wants(settings)
    rows = negatives = made = wanting = wanted = rejected = 0
    with ExitStack() as stack:
        lines = stack.enter_context(replacing(rejects)) if rejects is not None else None

        def reject(row: Reject) -> None:
            nonlocal rejected
            rejected += 1
            if lines is not None:
                lines.write(json_line(asdict(row)))

        for example in source.examples(reject):
            rows += 1
            synthetic = sum(is_synthetic(each) for each in example.negatives)
            made += synthetic
            negatives += len(example.negatives) - synthetic
            wanting += bool(number := wants.full(example))
            wanted += number
    bare = settings.alone and not negatives  # a share of nothing is no limit
    most = None if bare else most_of(settings.max_share.data, negatives)
    most = None if most is None else max(0, most - made)
    thin = settings.written is None and most is not None and wanted > most
    if thin and most is not None:
        wants = Wants(settings, drawn(source.examples(lambda _: None), wants, most / wanted))
    asked = sum(wants.slots(example) for example in source.examples(lambda _: None))
    return Asked(rows, rejected, negatives, made, wanting, wanted, sha256_of(source.path), wants, most, asked)


@contextmanager
def _author(settings: Settings, folder: Path, limits: Limits, asked: Asked, progress: Progress) -> Iterator[Author]:
    """Open who writes as the settings say."""
    answered = count(0)

    def watch(stage: str, _: int, done: int) -> None:
        for _ in range(done):
            progress(stage, next(answered) + 1, asked.slots)

    with open_author(settings, folder / WRITING, limits=limits, watch=watch) as author:
        yield author


def take_in(
    source: Source, settings: Settings, asked: Asked, slots: Slots, writer: Writer | None, progress: Progress
) -> None:
    """Take in what is written for the rows that want something."""

    def rows() -> Iterator[Example]:
        return source.examples(lambda _: None)

    if writer is None:
        slots.read(Path(settings.written or ""), rows(), asked.wants.of)
        return
    writer.ask(example for example in rows() if asked.wants.of(example))
    for example in rows():
        if number := asked.wants.slots(example):
            slots.add(writer.written(example))
            slots.fill(example.position, number)
        progress("written", example.position + 1, 0)


def _failed(slots: Slots, *, asked_now: bool) -> Iterator[str]:
    """Yield a warning where a service did not write, if it was `asked_now`, or not judge: it is asked again."""
    again = "relabel synthesize, typed again, asks once more"
    number, why = slots.failures(FAILED)
    if number and asked_now:
        cause = f" ({why})" if why else ""
        yield f"{number:,} passages were not written, as the service failed{cause}: {again}"
    number, _ = slots.failures("undecided", FAILED)
    if number:
        yield f"{number:,} passages were not judged, as the service failed: {again}"


def stray_lines(settings: Settings, slots: Slots) -> Iterator[str]:
    """Yield a warning where lines of what was written before are for no row, or for one of several."""
    number, first = slots.strays()
    if number:
        yield f"lines of {settings.written} for no row of the input: {number:,}; {first}"
    number, first = slots.passed_over()
    if number:
        beside = f"an earlier one has their query or query_id and took the lines; the first is {first[:200]!r}"
        yield f"rows that got no line of {settings.written}: {number:,}; {beside}"


def no_room(source: Source, settings: Settings, asked: Asked) -> Iterator[str]:
    """Yield a warning where a share leaves no room for a single passage of those that rows would want."""
    if asked.wanted and not asked.room and asked.room is not None:
        beside = f"{asked.negatives:,} mined negatives, {asked.made:,} synthetic ones"
        yield f"max_share.data leaves no room beside {beside}"
    if not asked.wanted and settings.max_share.row < 1:
        free = Wants(settings.model_copy(update={"max_share": replace(settings.max_share, row=1.0)}))
        if any(free.full(example) for example in source.examples(lambda _: None)):
            yield f"max_share.row ({settings.max_share.row:g}) leaves no room in any row that has too few negatives"


def _told(source: Source, slots: Slots) -> Iterator[tuple[str, str, bool]]:
    """Yield the negatives of the rows that got synthetic ones: (query, text, whether it is synthetic)."""
    for example in source.examples(lambda _: None):
        used = [passage_of(slot).full_text for slot in slots.of(example.position) if slot.used]
        for text in used:
            yield normalise(example.query), text, True
        for negative in example.negatives if used else ():
            if not is_synthetic(negative):
                yield normalise(example.query), negative.full_text, False


# -- the gate --------------------------------------------------------------------------------------------------


def _vectors(settings: Settings, judge: config.Settings, folder: Path) -> VectorCache | None:
    """Return the embeddings that checks and difficulty take; None where nothing takes any."""
    if settings.gate.near is None and settings.gate.easy is None and settings.order != "difficulty":
        return None
    return VectorCache(Encoder(_model(judge)), folder / CACHE)


def _gate(
    source: Source, settings: Settings, slots: Slots, vectors: VectorCache | None, folder: Path, progress: Progress
) -> Mapping[str, int]:
    """Hold everything against the cheap checks; what passes is an ordinary training file."""
    cache, limits = folder / CACHE, settings.gate
    known = KnownPositives(cache)
    known.note(source.examples(lambda _: None))
    with known.open() as elsewhere:
        if vectors is not None:  # only what the cheap checks let pass is embedded
            with open_twins(cache / "twins.sqlite") as twins:
                vectors.fill(_texts(_looked(source, slots, Gate(limits, twins, None), elsewhere), progress))
        with (
            open_twins(cache / "twins.sqlite") as twins,
            open_writer(folder / CANDIDATES, FORMATS["tevatron"]) as file,
        ):
            gate = Gate(limits, twins, vectors)
            for example, found, gated in _looked(source, slots, gate, elsewhere):
                slots.gate(found, gated)
                negatives = tuple([each.passage for each in gated if each.passed])
                if negatives:
                    file.write(candidate_row(example, negatives))
                progress("gate", example.position + 1, 0)
    return dict(gate.counted)


def _looked(
    source: Source, slots: Slots, gate: Gate, elsewhere: Look
) -> Iterator[tuple[Example, list[Slot], list[Gated]]]:
    """Yield the rows for which something was written that is still open, with what a gate says of it."""
    for example in source.examples(lambda _: None):
        found = [slot for slot in slots.of(example.position) if not slot.end]
        if found:
            written = [slot.gated.written for slot in found]
            yield example, found, list(gate.look(example, written, elsewhere.of(example.query)))


def _model(judge: config.Settings) -> EncoderSettings:
    """Return the embedding model that judges, the packaged one where none does."""
    stage = next((stage for stage in judge.stages if isinstance(stage, config.Embedding)), None)
    return EncoderSettings(stage.model, stage.revision, stage.batch_size, stage.device) if stage else EncoderSettings()


def _texts(rows: Iterable[tuple[Example, list[Slot], list[Gated]]], progress: Progress) -> Iterator[tuple[Role, str]]:
    for example, _, gated in rows:
        yield "query", example.query
        for passage in (*example.positives, *example.negatives, *[each.passage for each in gated if each.passed]):
            if passage.full_text.strip():
                yield "document", passage.full_text
        progress("embedding", example.position + 1, 0)


def passage_of(slot: Slot) -> Passage:
    """Return what was written for a slot, as a passage without an id."""
    return Passage("", slot.gated.written.text, slot.gated.written.title)


def candidate_row(example: Example, negatives: tuple[Passage, ...]) -> Example:
    """Return the row in which candidates are judged: the query, its positives, and them alone."""
    row = {"query_id": example.id} | other_fields(example, "tevatron")
    return Example(example.id, example.query, example.positives, negatives, example.source, row, example.position)


# -- judging ---------------------------------------------------------------------------------------------------


def _judge(
    judge: config.Settings,
    folder: Path,
    slots: Slots,
    limits: Limits,
    judges: Mapping[str, Judge],
    progress: Progress,
) -> Mapping[str, Any]:
    """Have the candidates judged as any other negatives are; return what the judging took."""
    if next(_passed(slots), None) is None:  # nobody is asked; what was answered before stays
        return {}
    source = open_source(folder / CANDIDATES, format="tevatron", source_field=judge.source_field)
    told = _Told(progress)
    summary = pipeline.run(
        source, judge, folder / JUDGING, judges=judges, watch=told.watch, begin=told.begin, limits=limits
    )
    models = {
        name: f"{name} ({stage.engine.model})"
        for name, stage in zip(judge.names, judge.stages, strict=True)
        if isinstance(stage, config.LLM) and hasattr(stage.engine, "model")
    }
    with pipeline.open_run(folder / JUDGING) as (plan, store):
        for found, verdicts in _verdicts(plan, store, slots):
            slots.judge(found, verdicts, models)
    return summary.bill


def _verdicts(plan: Plan, store: Store, slots: Slots) -> Iterator[tuple[list[Slot], tuple[Verdict, ...]]]:
    """Yield the slots of each judged row with the verdicts about them; both come in the input's order."""
    passed = _passed(slots)
    for one, _ in pipeline.concluded(plan, store, lambda _: None):
        found = next(passed)
        if tuple(each.id for each in one.example.negatives) != tuple(each.id for each in passages(found)):
            raise RunError(
                f"{plan.source.path} is not what the gate wrote", hint="let the folder be while a run works in it"
            )
        yield found, one.verdicts


def _passed(slots: Slots) -> Iterator[list[Slot]]:
    """Yield what passed the gate, row by row."""
    for position in slots.positions():
        if found := [slot for slot in slots.of(position) if not slot.end]:
            yield found


@dataclass(slots=True)
class _Told:
    """Turns what a run says of its stages into progress."""

    progress: Progress
    pairs: int = 0
    done: dict[str, int] = field(default_factory=dict)

    def begin(self, seen: Survey, _: Sequence[Opened]) -> None:
        """Take in how many pairs there are."""
        self.pairs = seen.pairs

    def watch(self, stage: str, asked: int, passed: int) -> None:
        """Count on; called from the stages' threads, each with its own stage."""
        self.done[stage] = self.done.get(stage, 0) + asked + passed
        self.progress(f"judging: {stage}", self.done[stage], self.pairs)
