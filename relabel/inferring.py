"""People's labels on a sample → the list of figures: rates of the data set, judges, the cascade as a whole."""

from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, Any, Final

from relabel.estimates import (
    FEWEST,
    SPARSE,
    Estimate,
    Rough,
    Sheet,
    assisted,
    by_strata,
    finish,
    lure_weights,
    numbered,
    ratio,
    rogan_gladen,
    sparse,
)
from relabel.records import Label, Outcome

if TYPE_CHECKING:
    from numpy import float64
    from numpy.typing import NDArray

    Floats = NDArray[float64]

CUTS: Final[Mapping[str, frozenset[str]]] = {
    "": frozenset({"relevant"}),
    ", relevant or partial": frozenset({"relevant", "partial"}),
}
"""What counts as found, by judges and people alike, and how figures of it are called."""

FOUND: Final[Mapping[str, frozenset[str]]] = {
    "": frozenset({"false negative"}),
    ", relevant or partial": frozenset({"false negative", "partial"}),
}
"""The same in verdicts."""

PER_SOURCE: Final = 20
"""Labels that a source must have for a rate of its own."""

MAX_SOURCES: Final = 50

FEWEST_DRAWN: Final = 10
"""Units of a sample that must be worked off, where it has so many, before anything rests on it."""

SKIPPED: Final = 9
"""Labels that one pair without any is made up for by: of what was worked off nine in ten have a label."""

CHOSEN: Final = "on the pairs that people chose to label; says nothing of the rest of the data set"
_STRATA: Final = "weighted by the design; of each stratum Wilson's interval, for some have few hits or misses (MOVER)"
_CAUTION: Final = "the verdicts' errors rest on few labels: the interval may be too narrow"
_PARTLY: Final = "some strata have no label, and this is a figure of the whole"
_ALONE: Final = "weighted by the design; Wilson interval"
_ASSISTED: Final = "the judges' words on all pairs, corrected by the labels (regression, PPI); Wilson interval"
_CORRECTED: Final = "verdicts on all pairs, corrected for the cascade's errors (Rogan–Gladen); Wilson interval"
_UNWEIGHTED: Final = "counted; Wilson interval, queries as clusters"


@dataclass(frozen=True, slots=True)
class SampleRow:
    """One drawn pair.

    Attributes:
        order: of its unit in the drawing, from 1; pairs of one drawn query share it.
        pair: fingerprint.
        query: digest of the query's text.
        stratum: that it was drawn from.
        chance: inclusion probability; of an active sample the chance at its turn.
        copies: in how many rows of the unit it stands.
    """

    order: int
    pair: str
    query: str
    stratum: str
    chance: float
    copies: int = 1


@dataclass(frozen=True, slots=True)
class Sample:
    """A sample as it is kept: its design, pairs of the run, units of each stratum, and what was drawn, in its order."""

    name: str
    design: Mapping[str, Any]
    pairs: int
    strata: Mapping[str, int]
    rows: tuple[SampleRow, ...]


@dataclass(frozen=True, slots=True)
class Labelled:
    """What estimates need to know of a pair.

    `words` are the labels of the stages that it came to on its way, None elsewhere; `outcome` is the cascade's without
    people; `seen` whether anybody labelled it, be they divided (then `gold` is None); `by_people` whether the
    outcome is the word of a human stage, which is no judge.
    """

    pair: str
    query: str
    source: str
    expected: float
    words: tuple[Label | None, ...]
    outcome: Outcome
    gold: Label | None
    seen: bool
    by_people: bool = False


@dataclass(slots=True)
class Known:
    """The data set in counts, and those of its pairs that were labelled or drawn.

    `pairs`, `expected`, `outcomes`, `sources` and `words` count a pair in every row where it stands; `rows` holds it
    once, with the number of its `copies`; `labels` counts it once.
    """

    pairs: int = 0
    expected: float = 0.0
    outcomes: Counter[str] = field(default_factory=Counter)
    by_people: Counter[str] = field(default_factory=Counter)
    sources: Counter[str] = field(default_factory=Counter)
    words: Counter[tuple[int, str]] = field(default_factory=Counter)
    rows: dict[str, Labelled] = field(default_factory=dict)
    copies: Counter[str] = field(default_factory=Counter)

    def add(self, pair: Labelled, *, keep: bool) -> None:
        """Count a pair; hold on to it where it was labelled, or `keep`."""
        self.pairs += 1
        self.expected += pair.expected
        self.outcomes[pair.outcome] += 1
        self.by_people[pair.outcome] += pair.by_people
        self.sources[pair.source] += 1
        self.words.update([(stage, word) for stage, word in enumerate(pair.words) if word is not None])
        if pair.seen or keep:
            self.copies[pair.pair] += 1
            there = self.rows.get(pair.pair)  # labels of a file may be of one copy only
            if there is None or not there.seen or (there.gold is None and pair.gold is not None):
                self.rows[pair.pair] = pair

    @property
    def labels(self) -> int:
        """How many pairs have a label, copies counted once."""
        return sum(row.gold is not None for row in self.rows.values())

    @property
    def all_told(self) -> bool:
        """Whether every pair of the data set has a label."""
        return sum(self.copies[row.pair] for row in self.rows.values() if row.gold is not None) == self.pairs

    def gold(self, pair: str) -> Label | None:
        """Return what most people said of a pair."""
        row = self.rows.get(pair)
        return row.gold if row is not None else None


@dataclass(frozen=True, slots=True)
class Found:
    """All figures, the labels they rest on, and what was drawn and has none."""

    figures: tuple[Estimate, ...]
    labels: int
    missing: int
    divided: int
    notes: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class _Basis:
    """Labelled pairs with their sheet. `whole`: they stand for the data set; `complete`: for all strata of it."""

    rows: tuple[Labelled, ...]
    sheet: Sheet
    whole: bool
    complete: bool = True
    missing: int = 0
    divided: int = 0
    notes: tuple[str, ...] = ()


def figures_of(known: Known, sample: Sample | None, stages: Sequence[str], *, only_rates: bool = False) -> Found:
    """Estimate everything that the labels allow.

    Args:
        known: the data set, with at least one label.
        sample: that the labels are of; None where people chose the pairs.
        stages: names of the stages, in the cascade's order.
        only_rates: nothing but the false-negative rate of the data set, for simulations.
    """
    basis = _sampled(known, sample) if sample is not None else _unsampled(known)
    if only_rates:
        figures = list(_rates(known, basis, ""))
        return Found(tuple(figures), len(basis.rows), basis.missing, basis.divided, basis.notes)
    figures = []
    for suffix in CUTS:
        if basis.whole:
            figures += list(_rates(known, basis, suffix))
        figures += list(_cascade(known, basis, suffix))
        for stage, name in enumerate(stages):
            figures += list(_judge(known, basis, suffix, stage, name))
    if basis.whole:
        figures += list(_sources(known, basis))
    return Found(tuple(figures), len(basis.rows), basis.missing, basis.divided, basis.notes)


# -- labels and weights ------------------------------------------------------------------------------------


def _unsampled(known: Known) -> _Basis:
    """Take the labels that are there: all pairs of the data set, or those that people chose."""
    import numpy as np

    rows = tuple(row for row in known.rows.values() if row.gold is not None)
    n = len(rows)
    places = np.arange(n)
    query = numbered([row.query for row in rows])
    all_of_them = known.all_told
    copies = np.array([float(known.copies[row.pair]) if all_of_them else 1.0 for row in rows])
    size = np.array([float(n) if all_of_them else 0.0])
    sheet = Sheet(copies, places, query, np.zeros(n, dtype=np.int64), size, np.array([float(n)]), copies)
    note = (
        "every pair of the data set has a label: figures are counts, without error of sampling"
        if all_of_them
        else "people chose these pairs, and no sample did (relabel audit sample): no rate of the data set follows"
    )
    divided = sum(row.seen and row.gold is None for row in known.rows.values())
    return _Basis(rows, sheet, all_of_them, divided=divided, notes=(note,))


def _sampled(known: Known, sample: Sample) -> _Basis:
    """Weigh the labels of a sample. Pairs that people left out are taken to be like the others of their stratum."""
    drawn = worked_off(known, sample)
    there = [row for row in drawn if known.gold(row.pair) is not None]
    active = sample.design["kind"] == "active"
    sheet = _lure(sample, drawn, there) if active else _equal_chances(sample, drawn, there)
    rows = tuple([known.rows[row.pair] for row in there])
    missing = len(drawn) - len(there)
    divided = sum(known.rows[row.pair].seen and known.gold(row.pair) is None for row in drawn)
    notes = []
    if missing:
        notes.append(
            f"{missing:,} pairs of the sample have no label ({divided:,} of them: people are divided): they are taken"
            f" to be like the other pairs of their {'sample' if active else 'stratum'}"
        )
    if len(drawn) < len(sample.rows):
        late = sum(known.gold(row.pair) is not None for row in sample.rows[len(drawn) :])
        some = (
            f"; {late:,} labels among these are not used: they were not given in the order of drawing" if late else ""
        )
        notes.append(f"the last {len(sample.rows) - len(drawn):,} pairs of the sample wait for their turn{some}")
    bare = sorted(set(sample.strata) - {row.stratum for row in there})
    if bare:
        count = sum(sample.strata[name] for name in bare)
        notes.append(f"no label in {', '.join(bare)} ({count:,} of the data set): figures speak of the rest")
    return _Basis(rows, sheet, whole=True, complete=not bare, missing=missing, divided=divided, notes=tuple(notes))


def worked_off(known: Known, sample: Sample) -> list[SampleRow]:
    """Return the beginning of the sample that people worked off: a smaller sample of the same design.

    It ends where, from there on, more than one row in `SKIPPED` + 1 has no label: labels behind it were given for
    another reason (flagged, another sample), so their pairs are not like those around them. Missing ones must not
    stand together: of each stratum, and of the rows with each verdict, at least half have a label (of verdicts, which
    no design need be about, one row may lack one by chance). Empty where no beginning is like that, or it is hardly
    begun: the labels are then no answer to this sample.
    """
    rows = sample.rows
    drawn: Counter[tuple[str, str]] = Counter()
    told: Counter[tuple[str, str]] = Counter()
    poor: set[tuple[str, str]] = set()
    walked = best = end = 0
    for place, row in enumerate(rows, start=1):
        pair = known.rows[row.pair]
        walked += 1 if pair.seen else -SKIPPED
        for group, spare in ((("stratum", row.stratum), 0), (("verdict", pair.outcome), 1)):
            drawn[group] += 1
            told[group] += pair.seen
            (poor.add if 2 * told[group] + spare < drawn[group] else poor.discard)(group)
        whole_unit = place == len(rows) or rows[place].order != row.order
        if whole_unit and not poor and walked >= best:
            best, end = walked, place
    done = list(rows[:end])
    begun = len({row.order for row in done}) >= min(FEWEST_DRAWN, len({row.order for row in rows}))
    return done if begun else []


def _equal_chances(sample: Sample, drawn: Sequence[SampleRow], there: Sequence[SampleRow]) -> Sheet:
    """Weigh by stratum: units of the data set over units with a label; within a query by its share of labels.

    A unit of which only copies were drawn counts once, with its copies as weight.
    """
    import numpy as np

    names = sorted({row.stratum for row in there})
    number = {name: place for place, name in enumerate(names)}
    units: dict[str, set[int]] = {}
    for row in there:
        units.setdefault(row.stratum, set()).add(row.order)
    held: Counter[int] = Counter()
    told: Counter[int] = Counter()
    for rows, count in ((drawn, held), (there, told)):
        for row in rows:
            count[row.order] += row.copies
    weights = [
        sample.strata[row.stratum] / len(units[row.stratum]) * held[row.order] / told[row.order] * row.copies
        for row in there
    ]
    return Sheet(
        np.array(weights),
        numbered([str(row.order) for row in there]),
        numbered([row.query for row in there]),
        np.array([number[row.stratum] for row in there], dtype=np.int64),
        np.array([float(sample.strata[name]) for name in names]),
        np.array([float(len(units[name])) for name in names]),
        np.array([float(row.copies) for row in there]),
    )


def _lure(sample: Sample, drawn: Sequence[SampleRow], there: Sequence[SampleRow]) -> Sheet:
    """Weigh by the chance at its turn, see `lure_weights`; of pairs by content, times their copies."""
    import numpy as np

    units, n = sum(sample.strata.values()), len(there)
    weights = lure_weights(np.array([row.chance for row in drawn]), units) * units
    by_order = {row.order: weight for row, weight in zip(drawn, weights, strict=True)}
    copies = np.array([float(row.copies) for row in there])
    whole = n == units
    return Sheet(
        np.array([by_order[row.order] for row in there]) / n * copies,
        np.arange(n),
        numbered([row.query for row in there]),
        np.zeros(n, dtype=np.int64),
        np.array([float(units)] if whole else []),
        np.array([float(n)] if whole else []),
        copies,
    )


# -- figures -----------------------------------------------------------------------------------------------


def _columns(basis: _Basis, suffix: str) -> "tuple[Floats, Floats, Floats]":
    """Return ones, what people called found, and what the cascade concluded so, each (n,)."""
    import numpy as np

    hits = np.array([float(row.gold in CUTS[suffix]) for row in basis.rows])
    flags = np.array([float(row.outcome in FOUND[suffix]) for row in basis.rows])
    return np.ones(len(hits)), hits, flags


def _rates(known: Known, basis: _Basis, suffix: str) -> Iterator[Estimate]:
    """Yield the rate of the data set: with the judges' words where these can help, by labels alone, corrected."""
    import numpy as np

    ones, hits, flags = _columns(basis, suffix)
    sheet = basis.sheet
    of = known.pairs if basis.complete else round(float(sheet.weights.sum()))
    name = f"false-negative rate{suffix}"
    units = len(np.unique(sheet.unit))
    alone = ratio(sheet, hits, ones)
    partly = not sheet.all_told
    thin = units == len(basis.rows) and sparse(sheet, hits)
    kish = float(sheet.weights.sum() ** 2 / (sheet.weights**2).sum())
    if thin:
        low, high = by_strata(sheet, hits)
        yield replace(finish(alone, sheet, name, of=of, method=_STRATA), low=low, high=high)
    elif basis.complete and partly and min(units, kish) >= FEWEST:
        expected = np.array([row.expected for row in basis.rows])
        rough = assisted(sheet, hits, expected, known.expected / known.pairs)
        yield finish(rough, sheet, name, of=of, method=_ASSISTED)
        yield finish(alone, sheet, f"{name} (labels alone)", of=of, method=_ALONE)
    else:
        yield finish(alone, sheet, name, of=of, method=_ALONE)
    if basis.complete and partly:
        apparent = sum(known.outcomes[outcome] for outcome in FOUND[suffix]) / known.pairs
        rough = rogan_gladen(sheet, hits, flags, apparent)
        note = "the verdicts are no better than a coin, or people used one label only"
        if rough.value is not None:
            few = min(float((side * flag).sum()) for side in (hits, 1 - hits) for flag in (flags, 1 - flags)) < SPARSE
            note = _CAUTION if few or thin else ""
        yield finish(rough, sheet, f"{name} (Rogan–Gladen)", of=of, method=_CORRECTED, note=note)


def _cascade(known: Known, basis: _Basis, suffix: str) -> Iterator[Estimate]:
    """Yield precision and recall of the verdicts, and what is left among the negatives."""
    import numpy as np

    _, hits, flags = _columns(basis, suffix)
    judged = np.array([float(not row.by_people) for row in basis.rows])
    hits, flags = hits * judged, flags * judged
    counts = known.outcomes - known.by_people
    flagged, of = sum(counts[outcome] for outcome in FOUND[suffix]), counts.total()
    cleared = np.array([float(row.outcome == "true negative") for row in basis.rows]) * judged
    settled = known.by_people.total()
    left_out = f"without the {settled:,} pairs that a human stage settled" if settled else ""
    yield _figure(basis, f"precision of the cascade{suffix}", ratio(basis.sheet, hits, flags), flagged, left_out)
    undecided = "; ".join(filter(None, ("undecided pairs count as not found" * bool(counts["undecided"]), left_out)))
    recall = ratio(basis.sheet, flags, hits)
    yield _figure(basis, f"recall of the cascade{suffix}", recall, of, undecided, of_all=True)
    left = ratio(basis.sheet, hits, cleared)
    yield _figure(basis, f"missed among true negatives{suffix}", left, counts["true negative"], left_out)


def _judge(known: Known, basis: _Basis, suffix: str, stage: int, name: str) -> Iterator[Estimate]:
    """Yield sensitivity and specificity on the pairs that came to a stage; precision of one that only says yes."""
    import numpy as np

    _, hits, _ = _columns(basis, suffix)
    said = [row.words[stage] for row in basis.rows]
    spoke = np.array([float(word is not None) for word in said])
    flags = np.array([float(word in CUTS[suffix]) for word in said])
    total = {word: known.words[stage, word] for word in ("relevant", "partial", "irrelevant")}
    of = sum(total.values())
    if not of:
        return
    note = "" if of == known.pairs else f"of the {of:,} pairs that came to it and got a label"
    if of == sum(total[word] for word in CUTS[suffix]):
        yield _figure(
            basis,
            f"precision of {name}{suffix}",
            ratio(basis.sheet, hits, flags),
            of,
            f"{note}; it only says yes".lstrip("; "),
        )
        return
    yield _figure(
        basis, f"sensitivity of {name}{suffix}", ratio(basis.sheet, flags, spoke * hits), of, note, of_all=True
    )
    yield _figure(
        basis,
        f"specificity of {name}{suffix}",
        ratio(basis.sheet, 1 - flags, spoke * (1 - hits)),
        of,
        note,
        of_all=True,
    )


def _sources(known: Known, basis: _Basis) -> Iterator[Estimate]:
    """Yield the rate of each source that has labels enough, where there are several."""
    import numpy as np

    if not 1 < len(known.sources) <= MAX_SOURCES:
        return
    _, hits, _ = _columns(basis, "")
    for source, of in sorted(known.sources.items()):
        inside = np.array([float(row.source == source) for row in basis.rows])
        if inside.sum() >= PER_SOURCE:
            name = f"false-negative rate of {source or 'rows without a source'}"
            yield _figure(basis, name, ratio(basis.sheet, hits, inside), of)


def _figure(basis: _Basis, name: str, rough: Rough, of: int, note: str = "", *, of_all: bool = False) -> Estimate:
    """Finish a figure of the data set, or one of labelled pairs alone, named so; `of_all`: it needs every stratum."""
    if of_all and not basis.complete:
        rough, note = replace(rough, value=None), f"{_PARTLY}; {note}" if note else _PARTLY
    if basis.whole:
        return finish(rough, basis.sheet, name, of=of, method=_ALONE, note=note)
    told = f"{CHOSEN}; {note}" if note else CHOSEN
    return finish(
        rough, basis.sheet, f"{name} (on labelled pairs)", of=None, method=_UNWEIGHTED, note=told, data_set=False
    )
