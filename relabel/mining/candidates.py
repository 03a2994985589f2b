"""What filters and samplers look at: one query, what is known to be relevant to it, and what was found for it.

Scores are similarities: higher = closer to the query. Their scale is the retriever's own (cosines, dot products of any
size and sign, logits), so nothing here assumes that they are positive. A score that is missing or not finite is
*unknown*; nothing is concluded from it.
"""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Final, Literal, Protocol, Self

from relabel.records import NOTHING, Passage

Anchor = Literal["min", "max", "mean"]
"""Which positive's score candidates are held against: the lowest (as in sentence-transformers), highest, average."""

RETRIEVER: Final = ""
"""The name of the score by which the candidates were found; other scores ("crossencoder", "guide") have names."""

Scores = Mapping[str, float | None]
Reasons = list[str | None]


def _known(score: float | None) -> float | None:
    return score if score is not None and math.isfinite(score) else None


@dataclass(frozen=True, slots=True)
class Positive:
    """A passage known to be relevant, with s(q,p); `rank` is its place among what the retriever found, from 1."""

    passage: Passage
    score: float | None = None
    rank: int | None = None
    scores: Scores = field(default_factory=lambda: NOTHING)

    def score_by(self, name: str) -> float | None:
        """Return the score of that name, None where it is unknown."""
        return _known(self.score if name == RETRIEVER else self.scores.get(name))


@dataclass(frozen=True, slots=True)
class Candidate:
    """A passage found for a query.

    Attributes:
        passage: id, title, text.
        rank: its place among what its retriever found, from 1.
        score: s(q,n) by that retriever.
        source: who found it: the retriever's name, or "synthetic" and the like.
        scores: by other models, by name.
        near: s(p,n) to each known positive, in their order, on the scale of `score`; empty where nobody computed it.
    """

    passage: Passage
    rank: int
    score: float | None = None
    source: str = ""
    scores: Scores = field(default_factory=lambda: NOTHING)
    near: tuple[float, ...] = ()

    def score_by(self, name: str) -> float | None:
        """Return the score of that name, None where it is unknown."""
        return _known(self.score if name == RETRIEVER else self.scores.get(name))

    @property
    def content(self) -> tuple[str, str, str]:
        """What it is, whoever found it."""
        return self.passage.id, self.passage.title, self.passage.text

    @property
    def place(self) -> tuple[int, str, str, str, str, float]:
        """What candidates are ordered by: rank, then all else, so that ties do not depend on the order of arrival."""
        score = self.score_by(RETRIEVER)
        return self.rank, *self.content, self.source, math.inf if score is None else -score


@dataclass(frozen=True, slots=True)
class Pool:
    """One query with its known positives and its candidates, in any order.

    Attributes:
        query: its text; with the seed it makes the dice.
        positives: what its row says is relevant.
        candidates: what was found.
        siblings: digests (`copies.Marks.known`) of the positives that the same query has in any row.
        strangers: digests of candidates that are positives of another query.
        alike: what else is known to be relevant: positives of the query's other rows, and what was judged relevant
            below the threshold.
    """

    query: str
    positives: tuple[Positive, ...]
    candidates: tuple[Candidate, ...]
    siblings: frozenset[bytes] = frozenset()
    strangers: frozenset[bytes] = frozenset()
    alike: tuple[Passage, ...] = ()

    def anchor(self, by: Anchor, score: str = RETRIEVER) -> float | None:
        """Return s⁺, the positives' score that candidates are held against; of those known, None where none is."""
        scores = [known for positive in self.positives if (known := positive.score_by(score)) is not None]
        if not scores:
            return None
        match by:
            case "min":
                return min(scores)
            case "max":
                return max(scores)
            case "mean":
                return math.fsum(scores) / len(scores)

    def left_with(self, candidates: Sequence[Candidate]) -> Self:
        """Return the pool with these candidates in place of its own."""
        return replace(self, candidates=tuple(candidates))


class Filter(Protocol):
    """One rule. Two filters of equal settings are equal."""

    @property
    def name(self) -> str:
        """What configs and reports call it."""
        ...

    @property
    def spares(self) -> bool:
        """Whether curated and synthetic negatives are exempt: a near-copy made on purpose always scores high."""
        ...

    def reasons(self, pool: Pool) -> Reasons:
        """Return for each candidate why it must go, "" if it stays, None if a score is unknown."""
        ...


class Sampler(Protocol):
    """One way to draw; two samplers of equal settings are equal."""

    @property
    def name(self) -> str:
        """What configs and reports call it."""
        ...

    def draw(self, pool: Pool, count: int, seed: int) -> tuple[Candidate, ...]:
        """Draw from distinct candidates, without replacement; all where there are fewer than `count`."""
        ...


def by_rank(pool: Pool) -> list[int]:
    """Return the candidates' numbers, by rank."""
    return sorted(range(len(pool.candidates)), key=lambda index: pool.candidates[index].place)


def check_finite(name: str, value: float) -> None:
    """Refuse a setting that is not a number.

    Raises:
        ValueError: it is infinite or NaN.
    """
    if not math.isfinite(value):
        raise ValueError(f"{name} is {value}; it must be a number")
