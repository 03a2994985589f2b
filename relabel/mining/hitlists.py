"""What one retriever found for every query of a collection, in two files: searched once, read as often as needed."""

import functools
from array import array
from collections import defaultdict
from collections.abc import Callable, Iterator
from itertools import islice
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

from relabel.mining.searching import Asked, Collection, Hits, Progress, Retriever

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

BLOCK: Final = 256
"""Queries that are searched at once."""


class HitLists:
    """The hits of one retriever by the query's number, memory-mapped; made by `search_all`."""

    def __init__(self, ends: "array[int]", numbers: "NDArray[np.int64]", scores: "NDArray[np.float32]") -> None:
        self._ends, self._numbers, self._scores = ends, numbers, scores

    def of(self, query: int) -> Hits:
        """Return what was found for a query."""
        import numpy as np

        first, last = self._ends[query - 1] if query else 0, self._ends[query]
        return Hits(np.asarray(self._numbers[first:last]), np.asarray(self._scores[first:last]))


def search_all(
    retriever: Retriever,
    collection: Collection,
    depth: int,
    folder: Path,
    progress: Progress,
    reach: int | None = None,
) -> HitLists:
    """Search for every query; memory grows by 8 bytes a query.

    Args:
        retriever: prepared already.
        collection: whose queries are asked.
        depth: how many passages to find for each, besides its own positives and what is spared.
        folder: where the two files go; what lies there from an earlier search is replaced.
        progress: told after each block of queries.
        reach: how many passages to find for each at all, in place of `depth`.
    """
    folder.mkdir(parents=True, exist_ok=True)
    ends = array("q")
    with (folder / "numbers.i64").open("wb") as numbers, (folder / "scores.f32").open("wb") as scores:
        deep = functools.partial(_deep, depth=depth, reach=reach, documents=collection.documents)
        for hits in _found(retriever, collection, deep, progress):
            numbers.write(hits.numbers.astype("<i8").tobytes())
            scores.write(hits.scores.astype("<f4").tobytes())
            ends.append(len(hits.numbers) + (ends[-1] if ends else 0))
    return HitLists(ends, _mapped(folder / "numbers.i64", "<i8"), _mapped(folder / "scores.f32", "<f4"))


def _found(
    retriever: Retriever, collection: Collection, deep: Callable[[Asked], int], progress: Progress
) -> Iterator[Hits]:
    done, queries = 0, collection.asked()
    while block := list(islice(queries, BLOCK)):
        yield from _search(retriever, block, deep)
        done += len(block)
        progress(f"{retriever.name}: searching", done, collection.queries)


def _search(retriever: Retriever, block: list[Asked], deep: Callable[[Asked], int]) -> list[Hits]:
    """Search for a block of queries, each to a depth that depends on nothing but itself."""
    alike: dict[int, list[Asked]] = defaultdict(list)
    for asked in block:
        alike[deep(asked)].append(asked)
    found = {
        asked.number: hits
        for depth, some in alike.items()
        for asked, hits in zip(some, retriever.search(some, depth), strict=True)
    }
    return [found[asked.number] for asked in block]


def _deep(asked: Asked, *, depth: int, reach: int | None, documents: int) -> int:
    """Return how deep to search, with room for what is known to be relevant.

    The room is a power of two: so there are few depths in all, and searches of many queries.
    """
    known = len(asked.positives) + len(asked.spared)
    return min(reach or depth + (1 << max(0, known - 1).bit_length()), documents)


def _mapped(path: Path, kind: str) -> Any:
    import numpy as np

    return np.memmap(path, dtype=kind, mode="r") if path.stat().st_size else np.empty(0, dtype=kind)
