"""One walk over a finished run's pairs: all that a report shows of single pairs, in memory that does not grow."""

from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from math import isfinite
from typing import Final, Literal

from relabel.agreement import CODES
from relabel.certain import InTurns, MostCertain
from relabel.labelled import JudgedPair
from relabel.records import Finding, Judgment, Label, Outcome

Measure = Literal["probability", "score"]
"""What a judge may say beside its word: the probability of that word, or a number higher for likelier relevant."""

SHOWN: Final = 6
FINEST: Final = 2.0**-10
MOST_BINS: Final = 4096
CERTAINTY: Final = 1 - FINEST
"""Probabilities from here on lie in the last bin, whose upper edge is 1."""

_CHANGES: Final = frozenset({"promote", "drop"})


class Histogram:
    """Counts of numbers in bins whose width doubles whenever there are too many: the same whatever the order."""

    def __init__(self) -> None:
        self.width = FINEST
        self.counts: Counter[int] = Counter()

    def add(self, value: float) -> None:
        """Count a number; what is not finite is left out."""
        if isfinite(value):
            self.counts[int(value // self.width)] += 1
            while len(self.counts) > MOST_BINS:
                self._double()

    def _double(self) -> None:
        self.width *= 2
        doubled: Counter[int] = Counter()
        for place, times in self.counts.items():
            doubled[place // 2] += times
        self.counts = doubled


def on_common_edges(
    histograms: Mapping[str, Histogram], *, most: int = 32, finest: float = 0.0
) -> tuple[tuple[float, ...], dict[str, tuple[int, ...]]]:
    """Return the edges of at most `most` bins over all histograms, and each one's counts in them; exact counts.

    Bins are no narrower than `finest`, a power of 2.

    Raises:
        ValueError: no histogram holds a number.
    """
    width = max(finest, *[each.width for each in histograms.values()])
    while True:
        places = {name: _coarser(each, width) for name, each in histograms.items()}
        first = min(min(counts) for counts in places.values() if counts)
        last = max(max(counts) for counts in places.values() if counts)
        if last - first < most:
            break
        width *= 2
    edges = tuple(place * width for place in range(first, last + 2))
    return edges, {name: tuple(counts[place] for place in range(first, last + 1)) for name, counts in places.items()}


def _coarser(histogram: Histogram, width: float) -> Counter[int]:
    times = round(width / histogram.width)
    found: Counter[int] = Counter()
    for place, count in histogram.counts.items():
        found[place // times] += count
    return found


@dataclass(frozen=True, slots=True)
class Checked:
    """A stage's word on a pair that people labelled, and the query of that pair."""

    stage: str
    query: str
    label: Label
    probability: float | None
    score: float | None
    gold: Label


@dataclass(slots=True)
class Gleaned:
    """What one walk found.

    Attributes:
        pairs: judged pairs, void ones apart.
        queries: how many queries they are of, neighbouring rows of one query taken as one.
        labelled: pairs that people labelled; `divided` those of them on which they are divided.
        reviewers: labels by reviewer.
        settled: pairs by the stage whose word holds.
        changed: of these, pairs that are promoted or dropped.
        scores: histograms by stage, measure and verdict.
        checked: stages' words on pairs that people labelled; in memory, like people's labels themselves.
        against_people: pairs on which the judges' last word is not people's, with the stage whose word that is.
        contradicted: pairs whose settled word a second opinion contradicted.
        certain: the most certain false negatives.
    """

    pairs: int = 0
    queries: int = 0
    labelled: int = 0
    divided: int = 0
    reviewers: Counter[str] = field(default_factory=Counter)
    settled: Counter[str] = field(default_factory=Counter)
    changed: Counter[str] = field(default_factory=Counter)
    scores: dict[tuple[str, Measure], dict[Outcome, Histogram]] = field(default_factory=dict)
    checked: list[Checked] = field(default_factory=list)
    against_people: tuple[tuple[Finding, str], ...] = ()
    contradicted: tuple[Finding, ...] = ()
    certain: tuple[Finding, ...] = ()


def glean(queries: Iterable[Sequence[JudgedPair]], stages: Sequence[str]) -> Gleaned:
    """Walk the pairs of a run, query by query.

    Args:
        queries: as `labelled.judged_pairs` yields them.
        stages: the stages' names, in the cascade's order.
    """
    found = Gleaned()
    against: InTurns[tuple[Finding, str]] = InTurns(SHOWN)
    contradicted: InTurns[Finding] = InTurns(SHOWN)
    certain = MostCertain()
    for pairs in queries:
        found.queries += 1
        for pair in pairs:
            _count(found, pair, stages)
            finding, word = pair.finding, _last_word(pair)
            certain.add(finding)
            if word is not None and pair.gold is not None and word[1].label not in (None, pair.gold):
                stage = stages[word[0]]
                kind = (stage, str(word[1].label), str(pair.gold))
                against.add(kind, _weight(word[1], pair), pair.query, (finding, stage))
            elif finding.verdict.contradicted:
                by = finding.words[finding.verdict.contradicted]
                kind = (finding.verdict.stage, str(finding.verdict.outcome), str(by.label))
                contradicted.add(kind, (by.probability or 0.0, by.score or 0.0), pair.query, finding)
    found.against_people = against.found(best_kind_first=True)
    found.contradicted, found.certain = contradicted.found(), certain.found()
    return found


def _count(found: Gleaned, pair: JudgedPair, stages: Sequence[str]) -> None:
    """Count one pair."""
    verdict = pair.finding.verdict
    found.pairs += 1
    found.labelled += bool(pair.people)
    found.divided += bool(pair.people) and pair.gold is None
    found.reviewers.update(pair.people.keys())
    found.settled[verdict.stage] += 1
    found.changed[verdict.stage] += pair.finding.action in _CHANGES
    for stage, word in zip(stages, pair.words, strict=True):
        if word is None:
            continue
        measures: tuple[tuple[Measure, float | None], ...] = (("probability", word.probability), ("score", word.score))
        for measure, value in measures:
            if value is not None:
                groups = found.scores.setdefault((stage, measure), {})
                counted = min(value, CERTAINTY) if measure == "probability" else value
                groups.setdefault(verdict.outcome, Histogram()).add(counted)
        if word.label is not None and pair.gold is not None:
            found.checked.append(Checked(stage, pair.query, word.label, word.probability, word.score, pair.gold))


def _last_word(pair: JudgedPair) -> tuple[int, Judgment] | None:
    """Return the last stage that gave a label, second opinions apart: what the judges alone would conclude."""
    for at in reversed(range(len(pair.words))):
        word = pair.own_word(at)
        if word is not None and word.label is not None:
            return at, word
    return None


def _weight(word: Judgment, pair: JudgedPair) -> tuple[float, ...]:
    """Return how instructive it is that a judge's word is not people's: far apart, judge certain, people at one."""
    apart = abs(CODES[word.label] - CODES[pair.gold])
    return float(apart), word.probability or 0.0, float(len(pair.people))
