"""What retrievers speak in: a numbered collection, queries that are asked of it, and what was found."""

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Protocol

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

    Numbers = NDArray[np.int64]
    Scores = NDArray[np.float32]

Progress = Callable[[str, int, int], None]
"""Told (what, done, of how many) as work goes on; from other threads too."""


@dataclass(frozen=True, slots=True)
class Asked:
    """One query of a collection.

    Attributes:
        number: its place among the queries, from 0.
        id: what its source calls it.
        text: the query.
        positives: numbers of the passages known to be relevant, distinct, in the order they were given.
        spared: numbers of passages that were judged relevant, but below the threshold: neither positive nor candidate.
    """

    number: int
    id: str
    text: str
    positives: tuple[int, ...]
    spared: tuple[int, ...] = ()


class Collection(Protocol):
    """Passages and queries by number. Passages are distinct by their full text (title and text)."""

    @property
    def fingerprint(self) -> str:
        """Digest (hex) of all passages in their order: what an index over them belongs to."""
        ...

    @property
    def documents(self) -> int:
        """How many passages can be found: numbers 0 to documents − 1."""
        ...

    @property
    def passages(self) -> int:
        """How many there are in all: from `documents` on, positives that the corpus lacks; they are only scored."""
        ...

    @property
    def queries(self) -> int:
        """How many queries with a positive there are."""
        ...

    def texts(self, first: int = 0, last: int | None = None) -> Iterator[str]:
        """Yield full texts by number, from `first` up to, not with, `last` (None = the end); in flat memory."""
        ...

    def asked(self, first: int = 0, last: int | None = None) -> Iterator[Asked]:
        """Yield queries by number, from `first` up to, not with, `last` (None = the end); in flat memory."""
        ...


@dataclass(frozen=True, slots=True)
class Hits:
    """What one retriever found for one query, best first.

    Attributes:
        numbers: of passages, distinct, shape (k,); k may be less than was asked for.
        scores: similarities, higher = closer, shape (k,): all finite, or all NaN = unknown, only the order is told.
    """

    numbers: "Numbers"
    scores: "Scores"


class Retriever(Protocol):
    """Something that finds passages for queries. Everything that takes long happens in `prepare`, and is resumed."""

    @property
    def name(self) -> str:
        """What candidates call their source."""
        ...

    def prepare(self, collection: Collection, progress: Progress) -> None:
        """Index the passages and take the queries in; what is on disk from an earlier time is not done again."""
        ...

    def search(self, asked: Sequence[Asked], depth: int) -> list[Hits]:
        """Return the `depth` best of the collection's documents for each query; ties by number.

        The result for a query does not depend on which others are asked with it, nor on the number of threads.
        """
        ...

    def score(self, asked: Asked, numbers: Sequence[int]) -> "Scores":
        """Return the query's similarity to any passages, on the scale of `search`; NaN where it is not known."""
        ...

    def near(self, numbers: Sequence[int], others: Sequence[int]) -> "Scores | None":
        """Return the similarity of passages to passages, shape (numbers, others); None where there is none."""
        ...
