"""Several retrievers together: their rankings as one, or from each its share of the negatives."""

import math
from collections import deque
from collections.abc import Sequence
from typing import TYPE_CHECKING, Final

from relabel.copies import marks_of
from relabel.mining.candidates import Candidate
from relabel.mining.searching import Asked, Collection, Hits, Progress, Retriever

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

    Scores = NDArray[np.float32]

K: Final = 60.0
"""How much the first ranks stand out: the higher, the less. 60 is the authors' choice."""


def reciprocal_rank_fusion(found: Sequence[Hits], depth: int | None = None, k: float = K) -> Hits:
    """Fuse rankings of one query: a passage's score is Σ 1 / (k + rank) over the rankings that hold it.

    Cormack, Clarke and Büttcher 2009, "Reciprocal rank fusion outperforms Condorcet and individual rank learning
    methods", SIGIR. Scores play no part, only ranks, from 1; so retrievers of any scale can be fused.

    Args:
        found: the rankings.
        depth: how many of the best are returned; None = all.
        k: ≥ 0.

    Returns:
        Ordered by fused score; ties by number.
    """
    import numpy as np

    fused: dict[int, float] = {}
    for hits in found:
        for rank, number in enumerate(hits.numbers.tolist(), 1):
            fused[number] = fused.get(number, 0.0) + 1 / (k + rank)
    numbers = np.array(list(fused), dtype=np.int64)
    scores = np.array(list(fused.values()), dtype=np.float32)
    best = np.lexsort((numbers, -scores))[:depth]
    return Hits(numbers[best], scores[best])


def union(drawn: Sequence[Sequence[Candidate]], quotas: Sequence[int]) -> tuple[Candidate, ...]:
    """Take from each retriever its number of negatives, no text twice (R²anker, arXiv 2206.08063).

    The retrievers take turns in their order, each with its first candidate that nobody took yet, until its quota is
    full or it has no more. What is left of the quotas then goes on to all that still have candidates, in turns again.
    Each candidate says by its `source` who took it.

    Args:
        drawn: for each retriever its candidates, after filters and sampler, first choice first.
        quotas: how many each shall give, ≥ 0.

    Returns:
        At most Σ quotas candidates, in the order in which they were taken.

    Raises:
        ValueError: a quota below 0, or another number of quotas than of retrievers.
    """
    if len(drawn) != len(quotas):
        raise ValueError(f"{len(quotas)} quotas for {len(drawn)} retrievers")
    if min(quotas, default=0) < 0:
        raise ValueError(f"a quota is {min(quotas)}; it must be 0 or more")
    queues = [iter(candidates) for candidates in drawn]
    taken: dict[bytes, Candidate] = {}
    for room in (list(quotas), [sum(quotas)] * len(quotas)):
        turns = deque(turn for turn, left in enumerate(room) if left)
        while turns and len(taken) < sum(quotas):
            turn = turns.popleft()
            mine = next((each for each in queues[turn] if marks_of(each.passage).full not in taken), None)
            if mine is not None:
                taken[marks_of(mine.passage).full] = mine
                room[turn] -= 1
                turns.extend([turn] if room[turn] else [])
    return tuple(taken.values())


class Hybrid:
    """Several retrievers as one, by reciprocal rank fusion; see `searching.Retriever`.

    Each is searched to `depth`, whatever depth the fused ranking is cut at, so that a passage's score never depends on
    that cut. What the last search found is kept until the next, since scores of the same queries are asked for next.
    """

    def __init__(self, name: str, retrievers: Sequence[Retriever], depth: int, k: float = K) -> None:
        """Take in the retrievers, how deep each is searched (at least as deep as will be asked for), and RRF's k.

        Raises:
            ValueError: no retriever, a depth below 1, or a k below 0.
        """
        if not retrievers:
            raise ValueError("a hybrid needs retrievers")
        if depth < 1:
            raise ValueError(f"depth is {depth}; it must be 1 or more")
        if not 0 <= k < math.inf:
            raise ValueError(f"k is {k}; it must be 0 or more")
        self.name = name
        self._retrievers, self._depth, self._k = tuple(retrievers), depth, k
        self._documents = 0
        self._found: dict[Asked, tuple[Hits, ...]] = {}

    def prepare(self, collection: Collection, progress: Progress) -> None:
        """Prepare each retriever."""
        for retriever in self._retrievers:
            retriever.prepare(collection, progress)
        self._documents, self._found = collection.documents, {}

    def search(self, asked: Sequence[Asked], depth: int) -> list[Hits]:
        """See `Retriever.search`; the scores are Σ 1 / (k + rank)."""
        found = list(zip(*[retriever.search(asked, self._depth) for retriever in self._retrievers], strict=True))
        self._found = dict(zip(asked, found, strict=True))
        return [reciprocal_rank_fusion(each, depth, self._k) for each in found]

    def score(self, asked: Asked, numbers: Sequence[int]) -> "Scores":
        """Return what a search would give: Σ 1 / (k + rank), NaN for what no retriever has in its list.

        A positive that the corpus lacks gets the rank that its score would have, where that lies within the list.
        """
        import numpy as np

        found = self._found.get(asked) or [each.search([asked], self._depth)[0] for each in self._retrievers]
        fused = np.zeros(len(numbers), dtype=np.float64)
        for retriever, hits in zip(self._retrievers, found, strict=True):
            ranks = {number: rank for rank, number in enumerate(hits.numbers.tolist(), 1)}
            lacking = [number for number in numbers if number >= self._documents]
            for number, score in zip(lacking, retriever.score(asked, lacking).tolist(), strict=True):
                if (rank := int((hits.scores > score).sum()) + 1) <= len(hits.scores) and math.isfinite(score):
                    ranks[number] = rank
            fused += [1 / (self._k + ranks[number]) if number in ranks else 0.0 for number in numbers]
        return np.where(fused > 0, fused, np.nan).astype(np.float32)

    def near(self, numbers: Sequence[int], others: Sequence[int]) -> "Scores | None":  # noqa: ARG002
        """Return None: ranks are no similarity of passages."""
        return None
