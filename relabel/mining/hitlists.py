"""What one retriever found for every query of a collection, in a file: searched once, read as often as needed."""

from collections.abc import Iterator
from itertools import islice
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

from relabel.mining.searching import Collection, Hits, Progress, Retriever

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

BLOCK: Final = 256
"""Queries that are searched at once."""

NOBODY: Final = -1
"""The number that fills a list that is shorter than the others."""


class HitLists:
    """The hits of one retriever by the query's number, memory-mapped; made by `search_all`."""

    def __init__(self, numbers: "NDArray[np.int64]", scores: "NDArray[np.float32]") -> None:
        self._numbers, self._scores = numbers, scores

    def of(self, query: int) -> Hits:
        """Return what was found for a query."""
        import numpy as np

        numbers = np.asarray(self._numbers[query])
        there = numbers != NOBODY
        return Hits(numbers[there], np.asarray(self._scores[query])[there])


def search_all(retriever: Retriever, collection: Collection, depth: int, folder: Path, progress: Progress) -> HitLists:
    """Search for every query; memory does not grow with their number.

    Args:
        retriever: prepared already.
        collection: whose queries are asked.
        depth: how many passages to find for each.
        folder: where the two files go; what lies there from an earlier search is replaced.
        progress: told after each block of queries.
    """
    import numpy as np

    folder.mkdir(parents=True, exist_ok=True)
    shape = (collection.queries, min(depth, collection.documents))
    numbers: Any = np.lib.format.open_memmap(folder / "numbers.npy", "w+", np.int64, shape)
    scores: Any = np.lib.format.open_memmap(folder / "scores.npy", "w+", np.float32, shape)
    for row, hits in enumerate(_found(retriever, collection, shape[1], progress)):
        count = len(hits.numbers)
        numbers[row, :count], numbers[row, count:] = hits.numbers, NOBODY
        scores[row, :count] = hits.scores
    return HitLists(numbers, scores)


def _found(retriever: Retriever, collection: Collection, depth: int, progress: Progress) -> Iterator[Hits]:
    done, queries = 0, collection.asked()
    while block := list(islice(queries, BLOCK)):
        yield from retriever.search(block, depth)
        done += len(block)
        progress(f"{retriever.name}: searching", done, collection.queries)
