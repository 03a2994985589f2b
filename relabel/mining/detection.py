"""Filters as detectors of false negatives, where somebody knows which candidates are relevant."""

from collections import Counter, defaultdict
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Final

from relabel.agreement import RESAMPLES, Figure, rate_interval
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


def detect(
    pools: Iterable[tuple[Pool, Sequence[bool | None]]],
    filters: Sequence[Filter],
    *,
    seed: int,
    resamples: int = RESAMPLES,
) -> list[Detection]:
    """Measure each filter alone, then the list as a whole.

    Args:
        pools: each with the truth of its candidates, in their order: relevant, not, or None = nobody knows. Unknown
            ones take part in ranks and anchors and are counted nowhere. Pools of equal query are one cluster.
        filters: the list.
        seed: of the bootstrap.
        resamples: how many; 0 for no intervals.
    """
    labels = [label for label, _ in labelled(filters)]
    counts: dict[str, defaultdict[str, _Counts]] = {label: defaultdict(_Counts) for label in [*labels, LIST]}
    for pool, gold in pools:
        for label, each in zip(labels, filters, strict=True):
            counts[label][pool.query].add(gold, [bool(reason) for reason in each.reasons(pool)])
        kept = {id(candidate) for candidate in apply_filters(pool, filters).kept.candidates}
        counts[LIST][pool.query].add(gold, [id(candidate) not in kept for candidate in pool.candidates])
    return [_detection(label, list(by_query.values()), seed, resamples) for label, by_query in counts.items()]


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
