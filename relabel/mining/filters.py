"""Filters by rank and score.

Names, meanings and boundaries (what lies exactly on a threshold stays) are those of sentence-transformers'
`mine_hard_negatives` where it has the rule.
"""

import math
from collections.abc import Callable
from dataclasses import dataclass
from typing import ClassVar

from relabel.mining.candidates import RETRIEVER, Anchor, Candidate, Pool, Reasons, by_rank, check_finite


@dataclass(frozen=True, slots=True)
class RankWindow:
    """Keeps the candidates after the first `range_min` of those left, up to number `range_max` (None = no end).

    `range_min` is NV-Retriever's shift (10: "Top-K shifted by N", arXiv 2407.15831). At the list's end, after the rules
    by score, it does what sentence-transformers does; at its head it means the retriever's own ranks.
    """

    name: ClassVar[str] = "rank_window"
    spares: ClassVar[bool] = False
    range_min: int = 0
    range_max: int | None = None

    def __post_init__(self) -> None:
        """Refuse an empty window."""
        if self.range_min < 0:
            raise ValueError(f"range_min is {self.range_min}; it counts the candidates to skip, from 0")
        if self.range_max is not None and self.range_max <= self.range_min:
            raise ValueError(f"range_max {self.range_max} must be above range_min {self.range_min}")

    def reasons(self, pool: Pool) -> Reasons:
        """See `Filter.reasons`."""
        places = [0] * len(pool.candidates)
        for place, index in enumerate(by_rank(pool), 1):
            places[index] = place
        last = math.inf if self.range_max is None else self.range_max
        return ["" if self.range_min < place <= last else f"at place {place}" for place in places]


@dataclass(frozen=True, slots=True)
class MinScore:
    """Keeps s ≥ `at`: drops what is too far from the query to teach anything."""

    name: ClassVar[str] = "min_score"
    spares: ClassVar[bool] = True
    at: float
    score: str = RETRIEVER

    def __post_init__(self) -> None:
        """Refuse what is no threshold."""
        check_finite("at", self.at)

    def reasons(self, pool: Pool) -> Reasons:
        """See `Filter.reasons`."""
        return _by_score(pool, self.score, lambda s: f"{s:.4g} < {self.at:.4g}" if s < self.at else "")


@dataclass(frozen=True, slots=True)
class MaxScore:
    """Keeps s ≤ `at` (NV-Retriever's TopK-Abs: .7 for its model)."""

    name: ClassVar[str] = "max_score"
    spares: ClassVar[bool] = True
    at: float
    score: str = RETRIEVER

    def __post_init__(self) -> None:
        """Refuse what is no threshold."""
        check_finite("at", self.at)

    def reasons(self, pool: Pool) -> Reasons:
        """See `Filter.reasons`."""
        return _by_score(pool, self.score, lambda s: f"{s:.4g} > {self.at:.4g}" if s > self.at else "")


@dataclass(frozen=True, slots=True)
class AbsoluteMargin:
    """Keeps s + `margin` ≤ s⁺ (NV-Retriever's TopK-MarginPos: .05; a negative margin lets candidates pass s⁺)."""

    name: ClassVar[str] = "absolute_margin"
    spares: ClassVar[bool] = True
    margin: float
    positive: Anchor = "min"
    score: str = RETRIEVER

    def __post_init__(self) -> None:
        """Refuse what is no margin."""
        check_finite("margin", self.margin)

    def reasons(self, pool: Pool) -> Reasons:
        """See `Filter.reasons`."""

        def beyond(s: float, p: float) -> str:
            return f"{s:.4g} + {self.margin:.4g} > {p:.4g}" if s + self.margin > p else ""

        return _by_positive(pool, self.positive, self.score, beyond)


@dataclass(frozen=True, slots=True)
class RelativeMargin:
    """Keeps s ≤ s⁺ − |s⁺|·`margin` (NV-Retriever's TopK-PercPos: .05, so 95 % of the positive).

    Not s⁺·(1 − margin), which lies *above* s⁺ when s⁺ < 0 (sentence-transformers issue 3819).
    """

    name: ClassVar[str] = "relative_margin"
    spares: ClassVar[bool] = True
    margin: float
    positive: Anchor = "min"
    score: str = RETRIEVER

    def __post_init__(self) -> None:
        """Refuse what is no margin."""
        check_finite("margin", self.margin)

    def reasons(self, pool: Pool) -> Reasons:
        """See `Filter.reasons`."""

        def beyond(s: float, p: float) -> str:
            most = p - abs(p) * self.margin
            return f"{s:.4g} > {most:.4g}" if s > most else ""

        return _by_positive(pool, self.positive, self.score, beyond)


@dataclass(frozen=True, slots=True)
class CrossEncoderBand:
    """Keeps what a cross-encoder scores below `low`: RocketQA's denoising (arXiv 2010.08191), .1 and .9 of a sigmoid.

    From `high` on a candidate goes as a pseudo-positive, between the two because nobody knows.
    """

    name: ClassVar[str] = "crossencoder_band"
    spares: ClassVar[bool] = False
    low: float = 0.1
    high: float = 0.9
    score: str = "crossencoder"

    def __post_init__(self) -> None:
        """Refuse a band that is none."""
        if not self.low <= self.high:
            raise ValueError(f"low {self.low} must not be above high {self.high}")

    def reasons(self, pool: Pool) -> Reasons:
        """See `Filter.reasons`."""
        return _by_score(pool, self.score, self._reason)

    def _reason(self, score: float) -> str:
        if score < self.low:
            return ""
        return f"pseudo-positive: {score:.4g}" if score >= self.high else f"{score:.4g}: neither yes nor no"


@dataclass(frozen=True, slots=True)
class Consistency:
    """Removes all candidates of a query whose own positive is not found by it, so that the row goes.

    Kept are queries with a positive among the `top_k` nearest of all that are left in the pool (E5's consistency
    filter) and at `floor` or above (CoRNStack, arXiv 2412.01007: 2 and .7 of its own model). Where several positives
    are known, `positive` says which must pass. Put it at the head of the list.
    """

    name: ClassVar[str] = "consistency"
    spares: ClassVar[bool] = False
    top_k: int = 2
    floor: float | None = None
    positive: Anchor = "max"
    score: str = RETRIEVER

    def __post_init__(self) -> None:
        """Refuse a top that holds nothing."""
        if self.top_k < 1:
            raise ValueError(f"top_k is {self.top_k}; it must be 1 or more")
        if self.floor is not None:
            check_finite("floor", self.floor)

    def reasons(self, pool: Pool) -> Reasons:
        """See `Filter.reasons`."""
        anchor = pool.anchor(self.positive, self.score)
        if anchor is None:
            return [None] * len(pool.candidates)
        scores = [candidate.score_by(self.score) for candidate in pool.candidates]
        rank = 1 + sum(score is not None and score > anchor for score in scores)
        reason = f"the positive is at rank {rank}" if rank > self.top_k else ""
        if not reason and self.floor is not None and anchor < self.floor:
            reason = f"the positive has {anchor:.4g} < {self.floor:.4g}"
        return [reason] * len(scores)


@dataclass(frozen=True, slots=True)
class TwoSided:
    """Keeps n with d(q,n) < d(q,p) and d(q,n) < d(p,n): harder than the positive, yet no paraphrase of it.

    Hard-negative mining for enterprise retrieval. In similarities s(q,n) > s⁺ and s(q,n) > s(p,n)
    for every known positive p. The second is a guard against false negatives.
    """

    name: ClassVar[str] = "two_sided"
    spares: ClassVar[bool] = True
    positive: Anchor = "min"

    def reasons(self, pool: Pool) -> Reasons:
        """See `Filter.reasons`."""
        anchor = pool.anchor(self.positive)
        return [self._reason(candidate, anchor) for candidate in pool.candidates]

    def _reason(self, candidate: Candidate, anchor: float | None) -> str | None:
        score = candidate.score_by(RETRIEVER)
        if score is None or anchor is None or not candidate.near:
            return None
        if score <= anchor:
            return f"no nearer to the query than the positive: {score:.4g} ≤ {anchor:.4g}"
        nearest = max(candidate.near)
        return f"nearer to a positive than to the query: {nearest:.4g} ≥ {score:.4g}" if nearest >= score else ""


@dataclass(frozen=True, slots=True)
class GuideModel:
    """Keeps what another model, the guide, finds far enough from the query.

    With g the guide's similarity: g(q,n) ≤ g⁺ − `margin` (GISTEmbed, arXiv 2402.16829, margin 0), and where `phi` is
    given g(q,n) < phi (DCLR, arXiv 2205.00656).
    """

    name: ClassVar[str] = "guide_model"
    spares: ClassVar[bool] = True
    margin: float = 0.0
    phi: float | None = None
    positive: Anchor = "min"
    score: str = "guide"

    def __post_init__(self) -> None:
        """Refuse what is no threshold."""
        check_finite("margin", self.margin)
        if self.phi is not None:
            check_finite("phi", self.phi)

    def reasons(self, pool: Pool) -> Reasons:
        """See `Filter.reasons`."""
        anchor = pool.anchor(self.positive, self.score)
        return [self._reason(candidate.score_by(self.score), anchor) for candidate in pool.candidates]

    def _reason(self, score: float | None, anchor: float | None) -> str | None:
        if score is not None and self.phi is not None and score >= self.phi:
            return f"{score:.4g} ≥ {self.phi:.4g}"
        if score is None or anchor is None:
            return None
        most = anchor - self.margin
        return f"{score:.4g} > {most:.4g}" if score > most else ""


def _by_positive(pool: Pool, positive: Anchor, score: str, judge: Callable[[float, float], str]) -> Reasons:
    """Ask `judge` about each candidate's score and the positive's; no word where either is unknown."""
    anchor = pool.anchor(positive, score)
    if anchor is None:
        return [None] * len(pool.candidates)
    return _by_score(pool, score, lambda s: judge(s, anchor))


def _by_score(pool: Pool, name: str, says: Callable[[float], str]) -> Reasons:
    scores = [candidate.score_by(name) for candidate in pool.candidates]
    return [None if score is None else says(score) for score in scores]
