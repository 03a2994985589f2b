"""What the figures of a mining report are counted by: means, distributions, and how much of what a judge suspects.

Fed query by query; memory is bounded, and no result depends on the order of arrival.
"""

import heapq
import math
from collections import Counter
from collections.abc import Mapping, Sequence
from statistics import quantiles
from typing import Any, Final

from relabel.agreement import rate_interval
from relabel.records import chance

Json = dict[str, Any]
Values = Sequence[float | None]

SAMPLE: Final = 4096
"""How many scores the quartiles are taken from, of more than that: each is off by some .8 % of the ranks."""

_BITS: Final = 64


class Mean:
    """A mean of ratios, exact to 64 bits behind the point, so that no order of arrival changes it."""

    def __init__(self) -> None:
        self.count = 0
        self.total = 0

    def add(self, above: int, below: int) -> None:
        """Count above / below; a ratio of nothing is none."""
        if below:
            self.count += 1
            self.total += (above << _BITS) // below

    @property
    def value(self) -> float | None:
        """The mean, None of nothing."""
        return plain(self.total / (self.count << _BITS)) if self.count else None


class Scores:
    """A distribution of scores: exact moments and ends, quartiles from a sample by the dice of each score's content."""

    def __init__(self) -> None:
        self._mean = Mean()
        self._squares = 0
        self._unknown = 0
        self._low, self._high = math.inf, -math.inf
        self._sample: list[tuple[float, float]] = []

    def add(self, scores: Values, numbers: Sequence[int], *dice: str) -> None:
        """Count the scores of passages."""
        if not scores:
            return
        for score, number in zip(scores, numbers, strict=True):
            if score is None or not math.isfinite(score):
                self._unknown += 1
                continue
            above, below = score.as_integer_ratio()
            self._mean.add(above, below)
            self._squares += ((above << _BITS) // below) ** 2
            self._low, self._high = min(self._low, score), max(self._high, score)
            drawn = (-chance(*dice, str(number)), score)
            if len(self._sample) < SAMPLE:
                heapq.heappush(self._sample, drawn)
            else:
                heapq.heappushpop(self._sample, drawn)

    def to_json(self) -> Json:
        """Return the figures; None where there are no scores."""
        count, total = self._mean.count, self._mean.total
        found: Json = {"count": count, "unknown": self._unknown}
        if not count:
            return found | dict.fromkeys(("mean", "sd", "min", "q1", "median", "q3", "max"))
        sd = math.sqrt((count * self._squares - total**2) / (count << _BITS) ** 2)
        kept = [score for _, score in self._sample]
        q1, median, q3 = quantiles(kept if len(kept) > 1 else kept * 2, n=4, method="inclusive")
        values = {"sd": sd, "min": self._low, "q1": q1, "median": median, "q3": q3, "max": self._high}
        return found | {"mean": self._mean.value} | {name: plain(value) for name, value in values.items()}


class Suspects:
    """How many of some candidates a judge suspects, query by query."""

    def __init__(self) -> None:
        self._queries: dict[str, Counter[tuple[int, int]]] = {}
        self._unjudged = 0

    def add(self, scores: Values, thresholds: Mapping[str, float]) -> None:
        """Count the candidates of one query."""
        known = [score for score in scores if score is not None and math.isfinite(score)]
        self._unjudged += len(scores) - len(known)
        for name, threshold in thresholds.items():
            hits = sum(score >= threshold for score in known)
            self._queries.setdefault(name, Counter())[hits, len(known)] += 1

    def to_json(self, seed: int) -> Json:
        """Return for each threshold the count, and the rate with its interval."""
        patterns = next(iter(self._queries.values()), Counter[tuple[int, int]]())
        return {
            "queries": sum(times for (_, total), times in patterns.items() if total),
            "candidates": sum(total * times for (_, total), times in patterns.items()),
            "not_judged": self._unjudged,
            **{
                name: {
                    "count": sum(hits * times for (hits, _), times in queries.items()),
                    "rate": rate_interval(queries, seed=seed).to_json(),
                }
                for name, queries in self._queries.items()
            },
        }


def plain(number: float) -> float:
    """Round to 6 significant digits; 0 has no sign."""
    return float(f"{number:.6g}") + 0.0
