"""Filters as detectors of false negatives, where somebody knows which candidates are relevant."""

from collections import Counter, defaultdict
from collections.abc import Collection, Iterable, Sequence
from dataclasses import dataclass
from typing import Any, Final

from relabel.bootstrap import RESAMPLES, Figure, rate_interval
from relabel.mining.candidates import Filter, Pool
from relabel.mining.strategies import apply_filters, labelled

LIST: Final = "all of them"
"""The label of the whole list, applied in its order."""


@dataclass(frozen=True, slots=True)
class Detection:
    """What one filter does to candidates whose relevance is known.

    Attributes:
        filter: its label, or `LIST`.
        relevant: false negatives there are: candidates that are relevant.
        irrelevant: true negatives there are.
        caught: false negatives removed.
        lost: true negatives removed.
        precision: caught / (caught + lost), recall: caught / relevant, f1: their harmonic mean; each in [0, 1] with a
            95 % interval of a bootstrap over queries, None where nothing was removed or nothing is relevant.
    """

    filter: str
    relevant: int
    irrelevant: int
    caught: int
    lost: int
    precision: Figure
    recall: Figure
    f1: Figure

    def to_json(self) -> dict[str, Any]:
        """Return it as plain JSON."""
        counts = {name: getattr(self, name) for name in ("filter", "relevant", "irrelevant", "caught", "lost")}
        return counts | {name: getattr(self, name).to_json() for name in ("precision", "recall", "f1")}


@dataclass(slots=True)
class _Counts:
    relevant: int = 0
    irrelevant: int = 0
    caught: int = 0
    lost: int = 0

    def add(self, gold: Sequence[bool | None], gone: Sequence[bool]) -> None:
        for relevant, removed in zip(gold, gone, strict=True):
            if relevant is not None:
                self.relevant += relevant
                self.irrelevant += not relevant
                self.caught += relevant and removed
                self.lost += not relevant and removed


class Detector:
    """Measures each filter alone, then the list as a whole, pool by pool; counts grow with the number of queries."""

    def __init__(self, filters: Sequence[Filter], exempt: Collection[str] = ()) -> None:
        self._filters, self._exempt = tuple(filters), exempt
        labels = [label for label, _ in labelled(filters)]
        self._counts: dict[str, defaultdict[str, _Counts]] = {label: defaultdict(_Counts) for label in [*labels, LIST]}

    def add(self, pool: Pool, gold: Sequence[bool | None]) -> None:
        """Count one pool.

        Args:
            pool: pools of equal query are one cluster.
            gold: the truth of its candidates, in their order: relevant, not, or None = nobody knows. Unknown ones take
                part in ranks and anchors and are counted nowhere.
        """
        if all(each is None for each in gold):
            return
        for label, each in labelled(self._filters):
            gone = [
                bool(reason) and not (each.spares and candidate.source in self._exempt)
                for reason, candidate in zip(each.reasons(pool), pool.candidates, strict=True)
            ]
            self._counts[label][pool.query].add(gold, gone)
        kept = {id(candidate) for candidate in apply_filters(pool, self._filters, self._exempt).kept.candidates}
        self._counts[LIST][pool.query].add(gold, [id(candidate) not in kept for candidate in pool.candidates])

    def result(self, *, seed: int, resamples: int = RESAMPLES) -> list[Detection]:
        """Return what was measured; `seed` and `resamples` are the bootstrap's, 0 for no intervals."""
        return [_detection(label, list(by_query.values()), seed, resamples) for label, by_query in self._counts.items()]


def detect(
    pools: Iterable[tuple[Pool, Sequence[bool | None]]],
    filters: Sequence[Filter],
    *,
    seed: int,
    resamples: int = RESAMPLES,
) -> list[Detection]:
    """Measure filters over pools, each with its truth; see `Detector`."""
    detector = Detector(filters)
    for pool, gold in pools:
        detector.add(pool, gold)
    return detector.result(seed=seed, resamples=resamples)


def _detection(label: str, clusters: Sequence[_Counts], seed: int, resamples: int) -> Detection:
    def rate(pairs: Iterable[tuple[int, int]]) -> Figure:
        return rate_interval(Counter(pairs), seed=seed, resamples=resamples)

    return Detection(
        filter=label,
        relevant=sum(each.relevant for each in clusters),
        irrelevant=sum(each.irrelevant for each in clusters),
        caught=sum(each.caught for each in clusters),
        lost=sum(each.lost for each in clusters),
        precision=rate((each.caught, each.caught + each.lost) for each in clusters),
        recall=rate((each.caught, each.relevant) for each in clusters),
        f1=rate((2 * each.caught, each.caught + each.lost + each.relevant) for each in clusters),
    )
