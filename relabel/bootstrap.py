"""Intervals over queries: what a figure would have been, had other queries of the same kind been looked at.

Pairs of one query are not independent: a judge that misreads a query errs on all its pairs. Every interval here is
therefore a percentile interval of a bootstrap over *clusters* (queries), never over pairs, which would come out too
narrow, and the more so the more pairs a query has.
"""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Final

from relabel.coefficients import ratio

if TYPE_CHECKING:
    from numpy import float64, int64
    from numpy.random import Generator
    from numpy.typing import ArrayLike, NDArray

    Floats = NDArray[float64]

RESAMPLES: Final = 2000
LEVEL: Final = 0.95
"""Coverage that every interval aims at."""

_MANY: Final = 2000
_BLOCK: Final = 2**20  # numbers drawn at once: 8 MB, whatever the number of queries


@dataclass(frozen=True, slots=True)
class Figure:
    """One number with its 95 % interval.

    Attributes:
        value: None where the figure is undefined.
        low: lower bound, None where there is no interval: fewer than two clusters, or no value.
        high: upper bound, likewise.
        left_out: how many resamples had to be left out of the interval because the figure is undefined in them.
    """

    value: float | None
    low: float | None = None
    high: float | None = None
    left_out: int = 0

    def to_json(self) -> dict[str, Any]:
        """Return a plain dict, floats rounded to 6 decimals so that its bytes are stable."""
        return {
            "value": rounded(self.value),
            "low": rounded(self.low),
            "high": rounded(self.high),
            "left_out": self.left_out,
        }


def rate_interval(clusters: Mapping[tuple[int, int], int], *, seed: int, resamples: int = RESAMPLES) -> Figure:
    """Return a rate (flagged, confirmed) in [0, 1] with its interval from the bootstrap over clusters.

    A rate of exactly 0 or 1 gets an interval without width: a bootstrap cannot show what was never seen.

    Args:
        clusters: how many clusters (queries) have (hits, total): a Counter of such tuples. Those with a total of 0
            take no part. The value is None where no others are left.
        seed: of the dice. The same seed and numpy and the same counts, in any order, give the same bits.
        resamples: how many; 0 for no interval.

    Raises:
        ValueError: unless 0 ≤ hits ≤ total everywhere.
    """
    import numpy as np

    if wrong := [counts for counts in clusters if not 0 <= counts[0] <= counts[1]]:
        raise ValueError(f"{wrong[0][0]} hits of {wrong[0][1]}")
    counts = np.array([(hits, total - hits) for hits, total in clusters], dtype=np.float64).reshape(-1, 2)
    patterns, repeats = merged(counts, np.array(list(clusters.values()), dtype=np.int64))
    rng = np.random.default_rng(seed)
    draws = [ratio(block[:, 0], block.sum(axis=1)) for block in resampled(patterns, repeats, resamples, rng)]
    hits, misses = repeats @ patterns
    return figure(float(ratio(hits, hits + misses)), draws)


def merged(counts: "Floats", times: "ArrayLike") -> "tuple[Floats, Floats]":
    """Return the distinct rows of counts, sorted, and for how many clusters each stands; rows of zeros drop out."""
    import numpy as np

    full = counts.any(axis=1)
    patterns, places = np.unique(counts[full], axis=0, return_inverse=True)
    repeats = np.bincount(places.ravel(), weights=np.asarray(times)[full], minlength=len(patterns))
    return patterns, repeats.astype(np.float64)


def resampled(patterns: "Floats", repeats: "Floats", resamples: int, rng: "Generator") -> "Iterator[Floats]":
    """Yield blocks of resampled sums of counts, one row per resample; nothing for fewer than two clusters.

    Clusters are drawn with replacement, as many as there are. Equal clusters are merged and the resamples drawn as a
    multinomial over what is left: the same distribution, in memory that does not grow with their number.
    """
    clusters = int(repeats.sum())
    if clusters < 2:
        return
    block = max(1, _BLOCK // len(repeats))
    for start in range(0, resamples, block):
        yield _drawn(repeats, clusters, min(block, resamples - start), rng) @ patterns


def _drawn(repeats: "Floats", clusters: int, resamples: int, rng: "Generator") -> "NDArray[int64]":
    """Draw how often each pattern is in each resample, of shape (resamples, patterns)."""
    import numpy as np

    if len(repeats) < _MANY or clusters > 4 * len(repeats):
        return rng.multinomial(clusters, repeats / clusters, size=resamples)
    # where hardly two clusters are equal, drawing cluster by cluster takes a fraction of the time
    owners = np.repeat(np.arange(len(repeats)), repeats.astype(np.int64))
    draws = [
        np.bincount(owners[rng.integers(clusters, size=clusters)], minlength=len(repeats)) for _ in range(resamples)
    ]
    return np.stack(draws)


def figure(value: float, draws: "Sequence[Floats]") -> Figure:
    """Return a figure, its interval read off the resamples in which it is defined.

    Args:
        value: the figure itself, NaN where it is undefined.
        draws: its values in the resamples, in blocks; none for no interval.
    """
    import numpy as np

    if value != value:  # noqa: PLR0124 - NaN is what does not equal itself
        return Figure(None)
    values = np.concatenate(draws) if draws else np.empty(0)
    kept = values[~np.isnan(values)]
    if not kept.size:
        return Figure(value, left_out=values.size)
    low, high = np.quantile(kept, [(1 - LEVEL) / 2, (1 + LEVEL) / 2])
    return Figure(value, float(low), float(high), left_out=values.size - kept.size)


def rounded(number: float | None) -> float | None:
    """Round to 6 decimals; 0 has no sign."""
    return None if number is None else round(number, 6) + 0.0
