"""Several retrievers together: their rankings as one, or from each its share of the negatives."""

from collections import deque
from collections.abc import Sequence
from typing import Final

from relabel.copies import marks_of
from relabel.mining.candidates import Candidate
from relabel.mining.searching import Hits

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
    full or it has no more. What is left of the quotas then goes on to those that have a quota and more candidates,
    in turns again; a quota of 0 means none.
    Each candidate says by its `source` who took it.

    Args:
        drawn: for each retriever its candidates, after filters and sampler, first choice first.
        quotas: how many each shall give, ≥ 0; more where others have too few.

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
    for room in (list(quotas), [sum(quotas) if quota else 0 for quota in quotas]):
        turns = deque(turn for turn, left in enumerate(room) if left)
        while turns and len(taken) < sum(quotas):
            turn = turns.popleft()
            mine = next((each for each in queues[turn] if marks_of(each.passage).full not in taken), None)
            if mine is not None:
                taken[marks_of(mine.passage).full] = mine
                room[turn] -= 1
                turns.extend([turn] if room[turn] else [])
    return tuple(taken.values())
