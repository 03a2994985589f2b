"""Which false negatives are shown first."""

import heapq
from itertools import zip_longest
from typing import Final

from relabel.records import Finding

CERTAIN: Final = 5


class MostCertain:
    """The most certain false negatives: the best of each kind of evidence in turn, the first of equals first.

    A copy of a positive is always more certain than a judge's word; taking turns shows each kind.
    """

    def __init__(self) -> None:
        self._heaps: dict[tuple[str, str], list[tuple[tuple[float, ...], int, Finding]]] = {}
        self._seen = 0

    def add(self, finding: Finding) -> None:
        """Take a finding in, if it is one of them."""
        word = finding.verdict.judgment
        if finding.verdict.outcome != "false negative" or word is None:
            return
        voices = sum(said.label == "relevant" for said in finding.words.values())
        certainty = (float(voices), word.probability or 0.0, word.score or 0.0)
        self._seen += 1
        heap = self._heaps.setdefault((finding.verdict.stage, finding.verdict.evidence), [])
        heapq.heappush(heap, (certainty, -self._seen, finding))
        if len(heap) > CERTAIN:
            heapq.heappop(heap)

    def found(self) -> tuple[Finding, ...]:
        """Return them, most certain first."""
        kinds = [sorted(heap, reverse=True, key=lambda entry: entry[:2]) for heap in self._heaps.values()]
        turns = [entry[2] for turn in zip_longest(*kinds) for entry in turn if entry is not None]
        first = {finding.example.query: finding for finding in reversed(turns)}  # each query once, then the others
        fresh = [finding for finding in turns if first[finding.example.query] is finding]
        again = [finding for finding in turns if first[finding.example.query] is not finding]
        return tuple(fresh + again)[:CERTAIN]
