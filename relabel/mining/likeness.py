"""Filters by text: what is a known positive, or nearly one, must never become a negative."""

import math
from collections.abc import Collection, Sequence
from dataclasses import dataclass
from typing import ClassVar, Final

from relabel.copies import marks_of, normalise
from relabel.mining.candidates import Candidate, Pool, Reasons, by_rank, check_finite

_GRAM: Final = 5
_ROUNDING: Final = 1e-9


@dataclass(frozen=True, slots=True)
class CopyOfPositive:
    """Removes what is one of the row's positives but for typography (`copies.marks_of`)."""

    name: ClassVar[str] = "copy_of_positive"
    spares: ClassVar[bool] = False

    def reasons(self, pool: Pool) -> Reasons:
        """See `Filter.reasons`."""
        own = {mark for positive in pool.positives for mark in marks_of(positive.passage).known}
        return _copies(pool, own, "copy of a positive")


@dataclass(frozen=True, slots=True)
class SiblingPositive:
    """Removes positives that the same query has in another row."""

    name: ClassVar[str] = "sibling_positive"
    spares: ClassVar[bool] = False

    def reasons(self, pool: Pool) -> Reasons:
        """See `Filter.reasons`."""
        return _copies(pool, pool.siblings, "positive of this query in another row")


@dataclass(frozen=True, slots=True)
class CrossRowPositive:
    """Removes positives of other queries: for data in which many queries paraphrase one another."""

    name: ClassVar[str] = "cross_row_positive"
    spares: ClassVar[bool] = False

    def reasons(self, pool: Pool) -> Reasons:
        """See `Filter.reasons`."""
        return _copies(pool, pool.strangers, "positive of another query")


@dataclass(frozen=True, slots=True)
class Repeated:
    """Keeps one of several candidates with the same text: the first by rank, whoever found it."""

    name: ClassVar[str] = "repeated"
    spares: ClassVar[bool] = False

    def reasons(self, pool: Pool) -> Reasons:
        """See `Filter.reasons`."""
        found: Reasons = [""] * len(pool.candidates)
        seen: set[bytes] = set()
        for index in by_rank(pool):
            mark = marks_of(pool.candidates[index].passage).full
            if mark in seen:
                found[index] = "repeated"
            seen.add(mark)
        return found


@dataclass(frozen=True, slots=True)
class NearDuplicate:
    """Removes near-copies of any positive, by their characters, or by the retriever's similarity where it is known.

    By characters, near-copies of what else is relevant (`Pool.alike`) go too.

    `overlap` is the Jaccard index of the normalised texts' character 5-grams, in [0, 1] and good for any script;
    `similarity` a threshold on s(p,n). None = not looked at. A copy but for typography has overlap 1.
    """

    name: ClassVar[str] = "near_duplicate"
    spares: ClassVar[bool] = True
    overlap: float | None = 0.9
    similarity: float | None = None

    def __post_init__(self) -> None:
        """Refuse thresholds that look at nothing."""
        if self.overlap is None and self.similarity is None:
            raise ValueError("give overlap, similarity or both")
        if self.overlap is not None and not 0 < self.overlap <= 1:
            raise ValueError(f"overlap is {self.overlap}; it must be above 0 and at most 1")
        if self.similarity is not None:
            check_finite("similarity", self.similarity)

    def reasons(self, pool: Pool) -> Reasons:
        """See `Filter.reasons`."""
        relevant = [*[positive.passage for positive in pool.positives], *pool.alike] if self.overlap is not None else []
        positives = [_grams(normalise(passage.full_text)) for passage in relevant]
        return [self._reason(candidate, positives) for candidate in pool.candidates]

    def _reason(self, candidate: Candidate, positives: Sequence[frozenset[str]]) -> str | None:
        if self.similarity is not None and candidate.near and (nearest := max(candidate.near)) >= self.similarity:
            return f"similarity {nearest:.4g} to a positive"
        if self.overlap is not None:
            text, least = normalise(candidate.passage.full_text), self.overlap
            alike = [positive for positive in positives if _holds(text, positive, least)]
            highest = max((_jaccard(_grams(text), positive) for positive in alike), default=0.0)
            if highest >= self.overlap:
                return f"overlap {highest:.4g} with a positive"
        return None if self.similarity is not None and not candidate.near else ""


def _copies(pool: Pool, known: Collection[bytes], reason: str) -> Reasons:
    if not known:
        return [""] * len(pool.candidates)
    return [reason if marks_of(each.passage).equals_one_of(known) else "" for each in pool.candidates]


def _grams(text: str) -> frozenset[str]:
    return frozenset(text[start : start + _GRAM] for start in range(max(1, len(text) - _GRAM + 1)))


def _holds(text: str, grams: frozenset[str], least: float) -> bool:
    """Whether a text holds at least that share of the grams, without which its Jaccard index with them is lower."""
    spare = len(grams) - math.ceil(least * len(grams) - _ROUNDING)
    if max(1, len(text) - _GRAM + 1) < len(grams) - spare:
        return False
    for gram in grams:
        if gram not in text:
            spare -= 1
            if spare < 0:
                return False
    return True


def _jaccard(left: frozenset[str], right: frozenset[str]) -> float:
    return len(left & right) / len(left | right)
