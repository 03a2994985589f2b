"""Pools made up for the tests of filters and samplers."""

from collections.abc import Mapping, Sequence

from relabel.mining.candidates import Candidate, Pool, Positive
from relabel.records import NOTHING, Passage


def passage(text: str, title: str = "") -> Passage:
    """Return a passage whose id is its text."""
    return Passage(text, text, title)


def candidate(
    text: str,
    score: float | None,
    rank: int = 1,
    *,
    source: str = "",
    near: Sequence[float] = (),
    scores: Mapping[str, float | None] = NOTHING,
) -> Candidate:
    """Return a candidate of that text."""
    return Candidate(passage(text), rank, score, source, scores, tuple(near))


def scored(
    scores: Sequence[float | None], positives: Sequence[float | None] = (), *, query: str = "a question"
) -> Pool:
    """Return candidates "n1", "n2", … in the order of their ranks and positives "p1", …, with these scores."""
    return Pool(
        query,
        tuple(Positive(passage(f"positive number {number}"), score) for number, score in enumerate(positives, 1)),
        tuple(candidate(f"n{rank}", score, rank) for rank, score in enumerate(scores, 1)),
    )


def texts(candidates: Sequence[Candidate]) -> list[str]:
    """Return the candidates' texts."""
    return [each.passage.text for each in candidates]
