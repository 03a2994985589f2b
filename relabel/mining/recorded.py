"""A retriever that did its work elsewhere: results that somebody mined, a TREC run or Tevatron's `qid pid score`."""

import math
from collections.abc import Callable, Iterable, Sequence
from typing import TYPE_CHECKING

from relabel.mining.searching import Asked, Collection, Hits, Progress

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

    Scores = NDArray[np.float32]

Listed = Callable[[Asked], Iterable[tuple[int, float | None]]]
"""Returns what a run lists for a query, in its order: numbers of passages with their scores, None where it has none."""


class Recorded:
    """Finds what a run lists; see `searching.Retriever`.

    Ranks come from the scores, as in trec_eval: highest first, equal ones in the list's order. Only a list with an
    unknown score (none, or not finite) keeps its order as a whole. Then no score of it is known: those of its hits are
    NaN. A passage that is listed twice counts where it stands better. Passages that are no documents of the collection
    can be scored, and are not found.
    """

    def __init__(self, name: str, listed: Listed) -> None:
        self.name = name
        self._listed = listed
        self._documents = 0

    def prepare(self, collection: Collection, progress: Progress) -> None:  # noqa: ARG002 - nothing takes long
        """Take in which passages can be found."""
        self._documents = collection.documents

    def search(self, asked: Sequence[Asked], depth: int) -> list[Hits]:
        """See `Retriever.search`."""
        return [self._search(each, depth) for each in asked]

    def _search(self, asked: Asked, depth: int) -> Hits:
        import numpy as np

        ranking, scored = self._ranking(asked)
        found = [(number, score) for number, score in ranking.items() if 0 <= number < self._documents][:depth]
        numbers = np.array([number for number, _ in found], dtype=np.int64)
        scores = np.array([score if scored else math.nan for _, score in found], dtype=np.float32)
        return Hits(numbers, scores)

    def _ranking(self, asked: Asked) -> tuple[dict[int, float], bool]:
        """Return the list's passages with their scores, best first, and whether the scores are known."""
        listed = [(number, math.nan if score is None else score) for number, score in self._listed(asked)]
        scored = all(math.isfinite(score) for _, score in listed)
        ranking: dict[int, float] = {}
        for number, score in sorted(listed, key=lambda each: -each[1]) if scored else listed:
            ranking.setdefault(number, score)
        return ranking, scored

    def score(self, asked: Asked, numbers: Sequence[int]) -> "Scores":
        """Return the list's scores; NaN for what it lacks, and for all where it has none."""
        import numpy as np

        ranking, scored = self._ranking(asked)
        known = ranking if scored else {}
        return np.array([known.get(number, math.nan) for number in numbers], dtype=np.float32)

    def near(self, numbers: Sequence[int], others: Sequence[int]) -> "Scores | None":  # noqa: ARG002
        """Return None: a run says nothing of it."""
        return None
