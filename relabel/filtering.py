"""The story of `relabel filter`: rows that somebody mined, held against rules by score, and written without what fails.

read twice: what is known across rows → scores of each row → filters → sampler → written, with a ledger
"""

from collections import Counter
from collections.abc import Callable, Iterator, Mapping
from contextlib import ExitStack
from dataclasses import dataclass, field, replace
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import TYPE_CHECKING, Any, Final

from relabel.copies import marks_of
from relabel.errors import InputError, SettingsError
from relabel.formats import Reject, open_writer, rows_of
from relabel.formats.endings import is_csv, is_table
from relabel.gold import Gold
from relabel.judges.positives import KnownPositives, Look
from relabel.judges.vectors import Encoder, EncoderSettings, VectorCache
from relabel.mining.candidates import RETRIEVER, Candidate, Pool, Positive
from relabel.mining.detection import Detection, Detector
from relabel.mining.filters import Consistency, RankWindow, TwoSided
from relabel.mining.likeness import CrossRowPositive
from relabel.mining.strategies import Removed, apply_filters, labelled, sample
from relabel.protocols import Role
from relabel.records import NOTHING, Change, Example, Passage
from relabel.rundir import change_to_json, json_line, replacing
from relabel.selection import Selection
from relabel.sources import Source

if TYPE_CHECKING:
    from numpy import float32
    from numpy.typing import NDArray

    Floats = NDArray[float32]

NOT_DRAWN: Final = "not drawn"
"""What the ledger calls negatives that passed the filters and that the sampler did not take."""

DECIMALS: Final = 6
_HUGE: Final = 1e300


@dataclass(frozen=True, slots=True)
class FilterDone:
    """What came of it. `negatives` = `kept` + all of `removed`; `rows` = `written` + `gone`.

    Attributes:
        rows: examples read.
        rejected: rows that could not be read.
        written: examples written, some without a negative in formats that can hold that.
        gone: examples removed whole: inconsistent, or left without the negative that their format needs.
        emptied: examples written whose last negative went.
        short: examples written with fewer negatives than `num_negatives`.
        negatives: in the examples read.
        kept: of them, written.
        removed: of them, by filter in the list's order, then `NOT_DRAWN`.
        silent: for how many each filter had no word, since a score is unknown.
        spared: how many synthetic negatives each filter passed over.
        scores: "in the rows", the model that embedded them, or "none needed".
        output: the file.
        ledger: what was removed, by what and why; with it the output gives the input back.
        detection: each filter as a detector of false negatives, where somebody knows them; empty without gold labels.
        gold: how many pairs are judged there, and how many of them are candidates: "judgments", "matched".
    """

    rows: int
    rejected: int
    written: int
    gone: int
    emptied: int
    short: int
    negatives: int
    kept: int
    removed: Mapping[str, int]
    silent: Mapping[str, int]
    scores: str
    output: Path
    ledger: Path
    detection: tuple[Detection, ...] = ()
    gold: Mapping[str, int] = field(default_factory=lambda: NOTHING)
    spared: Mapping[str, int] = field(default_factory=lambda: NOTHING)


@dataclass(slots=True)
class _Seen:
    """What the first look at the input finds."""

    rows: int = 0
    rejected: int = 0
    scored: int = 0
    longest: int = 0


def filter_rows(
    source: Source, selection: Selection, output: Path, *, model: str | None = None, gold: Gold | None = None
) -> FilterDone:
    """Write the rows of a training file without the negatives that fail the filters or are not drawn.

    Scores are those that stand beside the passages (`pos_scores`/`neg_scores`, or `score` in a passage); where the file
    has none, or with `model`, texts are embedded, once each, in `OUTPUT.cache`, which can be deleted. Ranks are places
    by score; where no score is needed and there is none, places in the list.

    Raises:
        InputError: a broken row, an output that is the input, or gold labels none of which is of a candidate.
        SettingsError: the file's rows hold one negative each, and the settings are about ranks or numbers.
        MissingPart: scores are needed, there are none, and sentence-transformers is not installed.
    """
    if output.resolve() == source.path.resolve():
        raise InputError(f"{output} is the input itself", hint="name another file after -o")
    with TemporaryDirectory(prefix="relabel-") as folder:
        known = KnownPositives(Path(folder))
        seen = _Seen()
        known.note(_looking(source, seen))
        _refuse_ranks_of_one(source, selection, seen)
        scorer, scores = _scorer(source, selection, seen, output, model)
        with known.open() as look:
            detector = Detector(selection.filters, selection.exempt)

            def pool_of(example: Example) -> Pool:
                pool = _pool(example, look, selection, scorer)
                if gold is not None:
                    detector.add(pool, gold.of(example.id, pool))
                return pool

            done = _write(source, selection, output, pool_of)
    done = replace(done, rejected=seen.rejected, scores=scores)
    if gold is None:
        return done
    gold.check()
    return replace(done, detection=tuple(detector.result(seed=selection.seed)), gold=gold.told)


def _looking(source: Source, seen: _Seen) -> Iterator[Example]:
    def reject(_: Reject) -> None:
        seen.rejected += 1

    for example in source.examples(reject):
        seen.rows += 1
        seen.longest = max(seen.longest, len(example.negatives))
        seen.scored += any(_noted(passage, RETRIEVER) is not None for passage in example.negatives)
        yield example


def _refuse_ranks_of_one(source: Source, selection: Selection, seen: _Seen) -> None:
    by_rank = any(isinstance(each, RankWindow | Consistency) for each in selection.filters)
    if seen.longest <= 1 < seen.rows and (by_rank or (selection.num_negatives or 1) > 1):
        raise SettingsError(
            f"{source.path}: every row holds one negative: there are no ranks, and nothing to draw from",
            hint="leave out ranges, num_negatives and sampling; margins and scores work on such rows too",
        )


# -- scores -------------------------------------------------------------------------------------------------

Scored = tuple[tuple[Positive, ...], tuple[Candidate, ...]]
Scorer = Callable[[Example], Scored]


def _scorer(source: Source, selection: Selection, seen: _Seen, output: Path, model: str | None) -> tuple[Scorer, str]:
    """Return what scores an example, and where its scores come from."""
    asked = [*selection.filters, *([selection.sampler] if selection.num_negatives is not None else [])]
    names = {str(name) for each in asked if (name := getattr(each, "score", None)) is not None}
    near = any(isinstance(each, TwoSided) or getattr(each, "similarity", None) is not None for each in asked)
    others = tuple(sorted(names - {RETRIEVER}))
    if model is None and (seen.scored or not (near or RETRIEVER in names)):
        return lambda example: _from_row(example, others), "in the rows" if seen.scored else "none needed"
    encoder = Encoder(EncoderSettings(model=model) if model is not None else EncoderSettings())
    vectors = VectorCache(encoder, output.with_name(output.name + ".cache"))
    vectors.fill(text for example in source.examples(lambda _: None) for text in _texts(example))
    return lambda example: _embedded(example, others, vectors), encoder.settings.model


def _from_row(example: Example, others: tuple[str, ...]) -> Scored:
    positives = tuple(
        Positive(passage, _noted(passage, RETRIEVER), scores=_others(passage, others)) for passage in example.positives
    )
    found = [
        Candidate(passage, 0, _noted(passage, RETRIEVER), _source(passage), _others(passage, others))
        for passage in example.negatives
    ]
    return positives, _ranked(found)


def _embedded(example: Example, others: tuple[str, ...], vectors: VectorCache) -> Scored:
    query = vectors.get("query", example.query)[0]
    best: list[Floats] = []
    positives = []
    for passage in example.positives:
        windows = vectors.get("document", passage.full_text)
        best.append(windows[(windows @ query).argmax()])
        score = round(float(best[-1] @ query), DECIMALS)
        positives.append(Positive(passage, score, scores=_others(passage, others)))
    found = []
    for passage in example.negatives:
        windows = vectors.get("document", passage.full_text)
        score, *near = [round(float((windows @ vector).max()), DECIMALS) for vector in (query, *best)]
        found.append(Candidate(passage, 0, score, _source(passage), _others(passage, others), tuple(near)))
    return tuple(positives), _ranked(found)


def _texts(example: Example) -> Iterator[tuple[Role, str]]:
    yield "query", example.query
    for passage in example.positives + example.negatives:
        yield "document", passage.full_text


def _ranked(found: list[Candidate]) -> tuple[Candidate, ...]:
    """Give candidates their ranks by score, unknown ones last; equal ones in the row's order."""
    scores = [candidate.score_by(RETRIEVER) for candidate in found]
    order = sorted(range(len(found)), key=lambda index: (scores[index] is None, -(scores[index] or 0.0)))
    ranks = {index: rank for rank, index in enumerate(order, 1)}
    return tuple([replace(candidate, rank=ranks[index]) for index, candidate in enumerate(found)])


def _others(passage: Passage, names: tuple[str, ...]) -> dict[str, float | None]:
    return {name: _noted(passage, name) for name in names}


def _noted(passage: Passage, name: str) -> float | None:
    """Return a score that stands beside a passage or in it: "score(s)", or "NAME", "NAME_score(s)"."""
    fields = ("scores", "score") if name == RETRIEVER else (name, f"{name}_scores", f"{name}_score")
    value = _field(passage, *fields)
    number = isinstance(value, int | float) and not isinstance(value, bool)
    return float(value) if number and abs(value) < _HUGE else None


def _source(passage: Passage) -> str:
    value = _field(passage, "sources", "source")
    return value if isinstance(value, str) else ""


def _field(passage: Passage, *names: str) -> Any:
    inside = passage.item if isinstance(passage.item, dict) else {}
    for place in (passage.beside, inside):
        for name in names:
            if name in place:
                return place[name]
    return None


# -- rows ---------------------------------------------------------------------------------------------------


def _pool(example: Example, look: Look, selection: Selection, scorer: Scorer) -> Pool:
    positives, candidates = scorer(example)
    strangers: set[bytes] = set()
    if any(isinstance(each, CrossRowPositive) for each in selection.filters):
        strangers = look.of_others(example.query, [marks_of(passage) for passage in example.negatives])
    return Pool(example.query, positives, candidates, frozenset(look.of(example.query)), frozenset(strangers))


def _write(source: Source, selection: Selection, output: Path, pool_of: Callable[[Example], Pool]) -> FilterDone:
    ledger = output.with_name(output.name + ".changes.jsonl")
    counts: Counter[str] = Counter()
    silent: Counter[str] = Counter()
    spared: Counter[str] = Counter()
    removed = Counter({label: 0 for label, _ in labelled(selection.filters)})
    first = next(source.examples(lambda _: None), None) if is_csv(source.path) else None
    columns = list(rows_of(first.row, first.layout)[0]) if first is not None else None
    like = source.path if is_table(source.path) else None
    with ExitStack() as stack:
        writer = stack.enter_context(open_writer(output, source.format, columns=columns, like=like))
        lines = stack.enter_context(replacing(ledger))
        for example in source.examples(lambda _: None):
            out, dropped, words, passed_over = _chosen(pool_of(example), selection)
            silent.update(words)
            spared.update(passed_over)
            removed.update(each.by for each in dropped)
            kept, changes = _edited(example, out, dropped, emptied=source.format.holds_emptied)
            for change in changes:
                lines.write(json_line(change_to_json(change)))
            counts.update(rows=1, negatives=len(example.negatives))
            if kept is None:
                counts["gone"] += 1
                continue
            writer.write(kept)
            number = len(kept.negatives)
            counts.update(
                written=1,
                kept=number,
                emptied=not number and bool(example.negatives),
                short=selection.num_negatives is not None and number < selection.num_negatives,
            )
    return FilterDone(
        rows=counts["rows"], rejected=0, written=counts["written"], gone=counts["gone"], emptied=counts["emptied"],
        short=counts["short"], negatives=counts["negatives"], kept=counts["kept"], removed=dict(removed),
        silent=dict(silent), scores="", output=output, ledger=ledger, spared=dict(spared),
    )  # fmt: skip


def _chosen(pool: Pool, selection: Selection) -> tuple[set[int], list[Removed], Mapping[str, int], Mapping[str, int]]:
    """Return the numbers of the candidates that stay, what went and why.

    And how often a filter had no word, and how many synthetic ones it passed over.
    """
    done = apply_filters(pool, selection.filters, selection.exempt)
    left, dropped = done.kept.candidates, list(done.removed)
    if selection.num_negatives is not None and len(left) > selection.num_negatives:
        drawn = {
            id(each) for each in sample(done.kept, selection.sampler, selection.num_negatives, seed=selection.seed)
        }
        dropped += [Removed(each, NOT_DRAWN, selection.sampler.name) for each in left if id(each) not in drawn]
        left = tuple([each for each in left if id(each) in drawn])
    staying = {id(each) for each in left}
    return (
        {index for index, each in enumerate(pool.candidates) if id(each) in staying},
        dropped,
        done.silent,
        done.spared,
    )


def _edited(
    example: Example, staying: set[int], dropped: list[Removed], *, emptied: bool
) -> tuple[Example | None, list[Change]]:
    """Return the example with the negatives that stay (None = it goes whole), and the ledger's lines."""
    if not dropped:
        return example, []
    inconsistent = next((each for each in dropped if each.by.startswith(Consistency.name)), None)
    if inconsistent is not None or not (staying or emptied):
        gone = inconsistent or dropped[0]
        change = Change(example.position, example.id, "remove", gone.why, gone.by, row=example.row)
        return None, [change]
    reasons = {id(each.candidate.passage): each for each in dropped}
    changes = [
        Change(
            example.position, example.id, "drop", reasons[id(passage)].why, reasons[id(passage)].by, passage.id,
            origin=index, item=passage.item, beside=passage.beside,
        )
        for index, passage in enumerate(example.negatives)
        if index not in staying
    ]  # fmt: skip
    negatives = tuple([passage for index, passage in enumerate(example.negatives) if index in staying])
    return replace(example, negatives=negatives), changes
