"""Which pairs are shown first: the most certain false negatives, and the best of several kinds in turn."""

import heapq
from itertools import zip_longest
from typing import Final, Generic, TypeVar

from relabel.records import Finding

T = TypeVar("T")

CERTAIN: Final = 5


class InTurns(Generic[T]):
    """The best of each kind in turn, the first of equals first, each query once before any comes again.

    Memory holds at most `limit` things of each kind, whatever is added.
    """

    def __init__(self, limit: int) -> None:
        self._limit = limit
        self._heaps: dict[tuple[str, ...], list[tuple[tuple[float, ...], int, str, T]]] = {}
        self._seen = 0

    def add(self, kind: tuple[str, ...], weight: tuple[float, ...], query: str, thing: T) -> None:
        """Take a thing in, if it is one of the best; the higher its weight, the better."""
        self._seen += 1
        heap = self._heaps.setdefault(kind, [])
        heapq.heappush(heap, (weight, -self._seen, query, thing))
        if len(heap) > self._limit:
            heapq.heappop(heap)

    def found(self, *, best_kind_first: bool = False) -> tuple[T, ...]:
        """Return them, best first of each kind; the kinds in the order in which they came, or by their best."""
        kinds = [sorted(heap, reverse=True, key=lambda entry: entry[:2]) for heap in self._heaps.values()]
        if best_kind_first:
            kinds.sort(reverse=True, key=lambda kind: kind[0][:2])
        turns = [entry for turn in zip_longest(*kinds) for entry in turn if entry is not None]
        first = {entry[2]: entry for entry in reversed(turns)}  # each query once, then the others
        fresh = [entry for entry in turns if first[entry[2]] is entry]
        again = [entry for entry in turns if first[entry[2]] is not entry]
        return tuple([entry[3] for entry in fresh + again][: self._limit])


class MostCertain:
    """The most certain false negatives: the best of each kind of evidence in turn.

    A copy of a positive is always more certain than a judge's word; taking turns shows each kind.
    """

    def __init__(self) -> None:
        self._best: InTurns[Finding] = InTurns(CERTAIN)

    def add(self, finding: Finding) -> None:
        """Take a finding in, if it is one of them."""
        word = finding.verdict.judgment
        if finding.verdict.outcome != "false negative" or word is None:
            return
        voices = sum(said.label == "relevant" for said in finding.words.values())
        certainty = (float(voices), word.probability or 0.0, word.score or 0.0)
        kind = (finding.verdict.stage, finding.verdict.evidence)
        self._best.add(kind, certainty, finding.example.query, finding)

    def found(self) -> tuple[Finding, ...]:
        """Return them, most certain first."""
        return self._best.found()
