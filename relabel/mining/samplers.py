"""Samplers: which of the candidates that the filters left become negatives, without replacement, by seeded dice.

Every candidate gets one number from seed, query and its own content. With weights w it is turned into a Gumbel
variable, and the candidates with the largest log w + Gumbel are taken: that is drawing one by one with probability
proportional to w among those left (Yellott 1977; Efraimidis and Spirakis 2006), in whatever order candidates arrive.
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import pairwise
from statistics import pstdev
from typing import ClassVar, Final

from relabel.mining.candidates import RETRIEVER, Anchor, Candidate, Pool, check_finite
from relabel.records import chance

Drawn = tuple[Candidate, ...]

_FAR: Final = 1e150
"""A distance whose square a float can still hold."""


@dataclass(frozen=True, slots=True)
class Top:
    """Takes the first by rank: the hardest."""

    name: ClassVar[str] = "top"

    def draw(self, pool: Pool, count: int, seed: int) -> Drawn:  # noqa: ARG002 - nothing here is left to chance
        """See `Sampler.draw`."""
        return tuple(sorted(pool.candidates, key=lambda candidate: candidate.place)[:count])


@dataclass(frozen=True, slots=True)
class Random:
    """Draws uniformly; after a `RankWindow`, random in a window (FlagEmbedding: 15 of ranks 11 to 210)."""

    name: ClassVar[str] = "random"

    def draw(self, pool: Pool, count: int, seed: int) -> Drawn:
        """See `Sampler.draw`."""
        return _shuffled(pool, pool.candidates, seed)[:count]


@dataclass(frozen=True, slots=True)
class Star:
    """STAR's mix of static hard and random negatives (arXiv 2104.08051), random ones for stability.

    Of `count`, the share `random_share` (rounded) comes uniformly from beyond rank `hardest`, the rest uniformly from
    up to it. Where one part has too few, the other fills up.
    """

    name: ClassVar[str] = "star"
    hardest: int = 200
    random_share: float = 0.5

    def __post_init__(self) -> None:
        """Refuse shares beyond 0 and 1."""
        if self.hardest < 1:
            raise ValueError(f"hardest is {self.hardest}; it counts ranks from 1")
        if not 0 <= self.random_share <= 1:
            raise ValueError(f"random_share is {self.random_share}; it must be from 0 to 1")

    def draw(self, pool: Pool, count: int, seed: int) -> Drawn:
        """See `Sampler.draw`."""
        shuffled = _shuffled(pool, pool.candidates, seed)
        hard = [candidate for candidate in shuffled if candidate.rank <= self.hardest]
        rest = [candidate for candidate in shuffled if candidate.rank > self.hardest]
        return _by_quota([hard, rest], [1 - self.random_share, self.random_share], count)


@dataclass(frozen=True, slots=True)
class SimANS:
    """Prefers candidates whose score is near the positive's (arXiv 2210.11773): p ∝ exp(−a·((s − s⁺)/scale − b)²).

    Sign: the peak lies at s⁺ + b·scale, as in the paper's formula; b < 0 puts it *below* the positive. (The public
    loader for NQ and TriviaQA has + b, so its b = 1 is b = −1 here.) Scale: the paper's a = .5 is meant for dot
    products that are some points apart. By default scale is the standard deviation of the candidates' scores, so that
    a and b mean the same for any retriever; `scale: 1` is the paper's form.
    """

    name: ClassVar[str] = "simans"
    a: float = 0.5
    b: float = 0.0
    scale: float | None = None
    positive: Anchor = "min"
    score: str = RETRIEVER

    def __post_init__(self) -> None:
        """Refuse what would turn the preference round."""
        check_finite("b", self.b)
        if not 0 <= self.a < math.inf:
            raise ValueError(f"a is {self.a}; it must be 0 or more")
        if self.scale is not None and not 0 < self.scale < math.inf:
            raise ValueError(f"scale is {self.scale}; it must be above 0")

    def draw(self, pool: Pool, count: int, seed: int) -> Drawn:
        """See `Sampler.draw`; where no positive's score is known, the draw is by rank."""
        anchor = pool.anchor(self.positive, self.score)
        scores = [candidate.score_by(self.score) for candidate in pool.candidates]
        scale = self.scale or _spread(scores)
        if anchor is None:
            return _weighted(pool, [None] * len(scores), count, seed)
        away = [None if score is None else abs((score - anchor) / scale - self.b) for score in scores]
        weights = [None if distance is None else -self.a * min(distance, _FAR) ** 2 for distance in away]
        return _weighted(pool, weights, count, seed)


@dataclass(frozen=True, slots=True)
class Softmax:
    """Draws with p ∝ exp(s / temperature): the colder, the harder (CoRNStack, arXiv 2412.01007: .05 down to .001)."""

    name: ClassVar[str] = "softmax"
    temperature: float = 0.05
    score: str = RETRIEVER

    def __post_init__(self) -> None:
        """Refuse a temperature that is none."""
        if not 0 < self.temperature < math.inf:
            raise ValueError(f"temperature is {self.temperature}; it must be above 0")

    def draw(self, pool: Pool, count: int, seed: int) -> Drawn:
        """See `Sampler.draw`."""
        scores = [candidate.score_by(self.score) for candidate in pool.candidates]
        return _weighted(pool, [None if s is None else s / self.temperature for s in scores], count, seed)


@dataclass(frozen=True, slots=True)
class MarginBalanced:
    """TAS-B's balanced margins (arXiv 2104.06967): as many easy as hard negatives, by the teacher's margin s⁺ − s.

    The range of margins is cut into `bins` of equal width; again and again a bin that is not empty is drawn uniformly,
    then a candidate of it. s⁺ is one number for a query, so the bins are those of the scores themselves.
    """

    name: ClassVar[str] = "margin_balanced"
    bins: int = 10
    score: str = RETRIEVER

    def __post_init__(self) -> None:
        """Refuse to cut into nothing."""
        if self.bins < 1:
            raise ValueError(f"bins is {self.bins}; it must be 1 or more")

    def draw(self, pool: Pool, count: int, seed: int) -> Drawn:
        """See `Sampler.draw`."""
        scored = [
            (candidate, score)
            for candidate in _shuffled(pool, pool.candidates, seed)
            if (score := candidate.score_by(self.score)) is not None
        ]
        binned: dict[int, list[Candidate]] = {}
        lowest = min((score for _, score in scored), default=0.0)
        width = (max((score for _, score in scored), default=0.0) - lowest) / self.bins
        for candidate, score in scored:
            number = min(int((score - lowest) / width), self.bins - 1) if width > 0 else 0
            binned.setdefault(number, []).append(candidate)
        drawn: list[Candidate] = []
        while binned and len(drawn) < count:
            there = sorted(binned)
            turn = chance("bin", str(seed), pool.query, str(len(drawn)))
            number = there[min(int(turn * len(there)), len(there) - 1)]
            drawn.append(binned[number].pop())
            if not binned[number]:
                del binned[number]
        return (*drawn, *_unscored(pool, self.score))[:count]


@dataclass(frozen=True, slots=True)
class Band:
    """The ranks from `first` to `last` (None = to the end), and the share of the negatives that comes from them."""

    first: int
    last: int | None = None
    share: float = 1.0

    def __post_init__(self) -> None:
        """Refuse a band without ranks."""
        if self.first < 1 or (self.last is not None and self.last < self.first):
            raise ValueError(f"a band from rank {self.first} to {self.last} holds no rank; ranks count from 1")
        if not 0 < self.share < math.inf:
            raise ValueError(f"share is {self.share}; it must be above 0")


@dataclass(frozen=True, slots=True)
class RankBands:
    """Draws uniformly in bands of ranks, with a forced gap after the positives (SciNCL, arXiv 2202.06671).

    SciNCL draws 2 hard negatives of ranks 3998 to 4000 and 3 easy ones from beyond: bands (3998, 4000, 2), (4001, None,
    3). What lies up to `gap` ranks behind the last-ranked positive is never drawn, in whatever band. A positive's rank
    is its own where it is known; else it stands behind all candidates that score above it. Where a band has too few,
    the others fill up.
    """

    name: ClassVar[str] = "rank_bands"
    bands: tuple[Band, ...]
    gap: int = 0

    def __post_init__(self) -> None:
        """Refuse bands that overlap."""
        if not self.bands:
            raise ValueError("bands is empty")
        if self.gap < 0:
            raise ValueError(f"gap is {self.gap}; it must be 0 or more")
        ordered = sorted(self.bands, key=lambda band: band.first)
        for band, following in pairwise(ordered):
            if band.last is None or following.first <= band.last:
                raise ValueError(f"the band from {following.first} begins before the one from {band.first} ends")

    def draw(self, pool: Pool, count: int, seed: int) -> Drawn:
        """See `Sampler.draw`."""
        start = max((_rank_of(pool, number) for number in range(len(pool.positives))), default=0) + self.gap
        shuffled = [candidate for candidate in _shuffled(pool, pool.candidates, seed) if candidate.rank > start]
        parts = [
            [each for each in shuffled if band.first <= each.rank <= (math.inf if band.last is None else band.last)]
            for band in self.bands
        ]
        return _by_quota(parts, [band.share for band in self.bands], count)


def _rank_of(pool: Pool, number: int) -> int:
    """Return a positive's rank, or the rank of the last candidate that scores above it; 0 where nothing is known."""
    positive = pool.positives[number]
    if positive.rank is not None:
        return positive.rank
    anchor = positive.score_by(RETRIEVER)
    if anchor is None:
        return 0
    above = [
        candidate.rank
        for candidate in pool.candidates
        if (score := candidate.score_by(RETRIEVER)) is not None and score > anchor
    ]
    return max(above, default=0)


def _dice(pool: Pool, candidate: Candidate, seed: int) -> float:
    """Return a candidate's number in (0, 1)."""
    number = chance("sample", str(seed), pool.query, *candidate.content)
    return min(max(number, 2**-65), 1 - 2**-53)


def _shuffled(pool: Pool, candidates: Sequence[Candidate], seed: int) -> Drawn:
    return tuple(sorted(candidates, key=lambda candidate: (_dice(pool, candidate, seed), candidate.place)))


def _weighted(pool: Pool, weights: Sequence[float | None], count: int, seed: int) -> Drawn:
    """Draw by logarithms of weights; candidates whose weight is unknown come last, by rank."""
    known: list[tuple[float, Candidate]] = []
    unknown: list[Candidate] = []
    for candidate, weight in zip(pool.candidates, weights, strict=True):
        if weight is None:
            unknown.append(candidate)
        else:
            known.append((weight - math.log(-math.log(_dice(pool, candidate, seed))), candidate))
    known.sort(key=lambda each: (-each[0], each[1].place))
    unknown.sort(key=lambda candidate: candidate.place)
    return (*[candidate for _, candidate in known], *unknown)[:count]


def _unscored(pool: Pool, score: str) -> list[Candidate]:
    found = [candidate for candidate in pool.candidates if candidate.score_by(score) is None]
    return sorted(found, key=lambda candidate: candidate.place)


def _by_quota(parts: Sequence[Sequence[Candidate]], shares: Sequence[float], count: int) -> Drawn:
    """Take each part's share of `count` from its beginning, largest remainders first; then fill up, part by part."""
    exact = [count * share / math.fsum(shares) for share in shares]
    quotas = [int(number) for number in exact]
    by_remainder = sorted(range(len(parts)), key=lambda number: quotas[number] - exact[number])
    for number in by_remainder[: count - sum(quotas)]:
        quotas[number] += 1
    drawn = [candidate for part, quota in zip(parts, quotas, strict=True) for candidate in part[:quota]]
    spare = [candidate for part, quota in zip(parts, quotas, strict=True) for candidate in part[quota:]]
    return (*drawn, *spare)[:count]


def _spread(scores: Sequence[float | None]) -> float:
    known = [score for score in scores if score is not None]
    return (pstdev(known) if known else 0.0) or 1.0
