"""Which of a query's candidates become its negatives: a list of filters, then a sampler, both pure.

    filtered = apply_filters(pool, [*POSITIVES, RelativeMargin(0.05), RankWindow(range_max=30)])
    chosen = sample(filtered.kept, SimANS(), 4, seed=0)

A filter looks at one query's pool and says of every candidate why it must go, or that it has no word, since a score is
unknown; then the candidate stays. Filters work in the order of the list, each on what the ones before have left;
whatever counts ranks therefore says something else at the head of the list than at its end.
"""

from collections import Counter
from collections.abc import Collection, Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from typing import Final

from relabel.copies import marks_of
from relabel.mining.candidates import Candidate, Filter, Pool, Sampler
from relabel.mining.filters import (
    AbsoluteMargin,
    Consistency,
    CrossEncoderBand,
    GuideModel,
    MaxScore,
    MinScore,
    RankWindow,
    RelativeMargin,
    TwoSided,
)
from relabel.mining.likeness import CopyOfPositive, CrossRowPositive, NearDuplicate, Repeated, SiblingPositive
from relabel.mining.samplers import MarginBalanced, Random, RankBands, SimANS, Softmax, Star, Top
from relabel.records import NOTHING
from relabel.synthesis.marks import is_synthetic

FILTERS: Final[tuple[type[Filter], ...]] = (
    CopyOfPositive, SiblingPositive, CrossRowPositive, Repeated, NearDuplicate, Consistency, AbsoluteMargin,
    RelativeMargin, MaxScore, MinScore, CrossEncoderBand, TwoSided, GuideModel, RankWindow,
)  # fmt: skip
"""Every filter, in an order that makes sense for a list of them."""

POSITIVES: Final[tuple[Filter, ...]] = (CopyOfPositive(), SiblingPositive(), Repeated())
"""What nobody wants among negatives; no setting, no score."""

SAMPLERS: Final[tuple[type[Sampler], ...]] = (Top, Random, Star, SimANS, Softmax, MarginBalanced, RankBands)
"""Every sampler."""


@dataclass(frozen=True, slots=True)
class Removed:
    """A candidate that went, by which filter (its label), and why."""

    candidate: Candidate
    by: str
    why: str


@dataclass(frozen=True, slots=True)
class Filtered:
    """What a list of filters did to one pool.

    Attributes:
        kept: the pool with the candidates that are left, in the order they came in.
        removed: the others, each with the first filter that removed it, in the order they went.
        silent: by filter, for how many candidates it had no word since a score is unknown.
        spared: by filter, how many synthetic candidates it passed over.
    """

    kept: Pool
    removed: tuple[Removed, ...]
    silent: Mapping[str, int]
    spared: Mapping[str, int] = field(default_factory=lambda: NOTHING)

    @property
    def counts(self) -> Counter[str]:
        """How many each filter removed, by its label."""
        return Counter(removed.by for removed in self.removed)


def suspected(done: Iterable[Filtered], filters: Iterable[Filter]) -> dict[bytes, Removed]:
    """Return what a rule by relevance removed from any of a query's lists, by its text (`copies.Marks.full`).

    A window and a repetition speak of one list's order, and of no passage.
    """
    by_order = {label for label, each in labelled(filters) if isinstance(each, RankWindow | Repeated)}
    found: dict[bytes, Removed] = {}
    for each in (removed for filtered in done for removed in filtered.removed if removed.by not in by_order):
        found.setdefault(marks_of(each.candidate.passage).full, each)
    return found


def labelled(filters: Iterable[Filter]) -> Iterator[tuple[str, Filter]]:
    """Yield filters with the names by which they are counted; the second of a kind is "relative_margin 2"."""
    seen: Counter[str] = Counter()
    for each in filters:
        seen[each.name] += 1
        yield (each.name if seen[each.name] == 1 else f"{each.name} {seen[each.name]}"), each


def apply_filters(pool: Pool, filters: Iterable[Filter], exempt: Collection[str] = ()) -> Filtered:
    """Apply filters in their order, each to what the ones before have left.

    Candidates that say they are synthetic are passed over by rules by score, likeness and rank: a near-copy of the
    positive made on purpose always scores high. Ranks are counted without them.

    Args:
        pool: one query's.
        filters: the list.
        exempt: sources of curated or synthetic candidates, which rules by score and likeness leave alone.
    """
    removed: list[Removed] = []
    silent: Counter[str] = Counter()
    spared: Counter[str] = Counter()
    synthetic = {id(candidate) for candidate in pool.candidates if is_synthetic(candidate.passage)}
    for label, each in labelled(filters):
        kept = []
        made = synthetic if each.spares or isinstance(each, RankWindow | Consistency) else frozenset()
        held = [candidate for candidate in pool.candidates if id(candidate) not in made]
        spared[label] += len(pool.candidates) - len(held)
        reasons = iter(each.reasons(pool.left_with(held) if made else pool))
        for candidate in pool.candidates:
            reason = "" if id(candidate) in made else next(reasons)
            if not reason or (each.spares and candidate.source in exempt):
                kept.append(candidate)
                silent[label] += reason is None
            else:
                removed.append(Removed(candidate, label, reason))
        pool = pool.left_with(kept)
    return Filtered(pool, tuple(removed), dict(+silent), dict(+spared))


def sample(pool: Pool, sampler: Sampler, count: int, *, seed: int) -> tuple[Candidate, ...]:
    """Draw `count` candidates without replacement, all where there are fewer.

    The draw depends on seed, query and the candidates' content alone: not on their order, not on what was drawn for
    other queries. What two retrievers found is one candidate, the one of the lower rank. Candidates without the score
    that the sampler goes by are drawn last, by rank.

    Raises:
        ValueError: for a negative count.
    """
    if count < 0:
        raise ValueError(f"{count} negatives cannot be drawn")
    distinct: dict[tuple[str, str, str], Candidate] = {}
    for candidate in sorted(pool.candidates, key=lambda candidate: candidate.place):
        distinct.setdefault(candidate.content, candidate)
    return sampler.draw(pool.left_with(list(distinct.values())), count, seed)
