"""What a source of mining is made of: passages, queries, judgments and what others found, each read as often as needed.

A source need not have all four: a corpus has no queries, a file of judgments has nothing else. Parts of several sources
are put `together`.
"""

from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from typing import Final, Generic, TypeVar

from relabel.errors import RowError
from relabel.records import Passage

GIVEN: Final = "given"
"""What the negatives that a training file came with call their source."""


@dataclass(frozen=True, slots=True)
class Query:
    """One query, as its source calls it."""

    id: str
    text: str


@dataclass(frozen=True, slots=True)
class Judged:
    """What a source says of a passage for a query: a grade, higher = more relevant; 0 and less = not."""

    query_id: str
    document_id: str
    grade: int


@dataclass(frozen=True, slots=True)
class Found:
    """What some system found for a query.

    Attributes:
        query_id: of the query.
        document_id: of the passage.
        rank: its place among what the system found for the query, from 1.
        score: higher = closer; None where the source has none.
        system: who found it.
    """

    query_id: str
    document_id: str
    rank: int
    score: float | None
    system: str


OnBad = Callable[[RowError, str], None]
"""Told of a row that cannot be used, with its error and its text: raises, or lets the reader go on without it."""


def stop(error: RowError, content: str) -> None:  # noqa: ARG001 - the shape of OnBad
    """Raise the error."""
    raise error


T = TypeVar("T")


@dataclass(frozen=True, slots=True)
class Source(Generic[T]):
    """Where one kind of thing is read from.

    Attributes:
        where: what errors call it: a path, `hf:…`, `irds:…`.
        read: reads it from its beginning, as (line or row from 1, item).
    """

    where: str
    read: Callable[[OnBad], Iterator[tuple[int, T]]]


@dataclass(frozen=True, slots=True)
class Part(Generic[T]):
    """All that there is of one kind of thing; it can be read again and again."""

    sources: tuple[Source[T], ...]

    def __call__(self, on_bad: OnBad = stop) -> Iterator[T]:
        """Read the items from the beginning."""
        for _, _, item in self.placed(on_bad):
            yield item

    def placed(self, on_bad: OnBad = stop) -> Iterator[tuple[str, int, T]]:
        """Read the items from the beginning, each with where it stood: source, and line or row in it, from 1."""
        for source in self.sources:
            for line, item in source.read(on_bad):
                yield source.where, line, item


@dataclass(frozen=True, slots=True)
class Parts:
    """What a source has, None where it has no such part.

    Attributes:
        documents: the passages that can be found.
        queries: the queries.
        judged: grades of passages for queries.
        found: what other systems found: runs, negatives that somebody mined.
        outside: passages that may be positives, but are not searched.
        stamps: what tells whether a source is still the same: each file's name, size and time.
    """

    documents: Part[Passage] | None = None
    queries: Part[Query] | None = None
    judged: Part[Judged] | None = None
    found: Part[Found] | None = None
    outside: Part[Passage] | None = None
    stamps: tuple[str, ...] = ()

    def searching(self, corpus: "Parts") -> "Parts":
        """Return the parts with the documents of another source to search; its own become `outside`."""
        own = replace(self, documents=None, outside=_chained(self.outside, self.documents))
        return together(own, replace(corpus, queries=None, judged=None, found=None))


def together(*parts: Parts) -> Parts:
    """Return what several sources have, one after the other."""
    joined = Parts()
    for other in parts:
        joined = replace(
            joined,
            documents=_chained(joined.documents, other.documents),
            queries=_chained(joined.queries, other.queries),
            judged=_chained(joined.judged, other.judged),
            found=_chained(joined.found, other.found),
            outside=_chained(joined.outside, other.outside),
            stamps=(*joined.stamps, *other.stamps),
        )
    return joined


def _chained(first: Part[T] | None, then: Part[T] | None) -> Part[T] | None:
    if first is None or then is None:
        return first or then
    return Part((*first.sources, *then.sources))
