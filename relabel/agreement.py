"""How far two judges agree: kappa, AC1, alpha, prevalence, with intervals over queries.

Pairs of one query are not independent: a judge that misreads a query errs on all its pairs. Every interval here
is therefore a percentile interval of a bootstrap over *clusters* (queries), never over pairs, which would come
out too narrow, and the more so the more pairs a query has.

    words of the judges, query by query ─▶ Tally ─▶ patterns: how many queries have this very table of counts
    patterns ─▶ resampled tables ─▶ measure() ─▶ Agreement

A table of two judges is (K + 1) × (K + 1) counts, first judge in the rows, categories in their order, the last
row and column for "no label". Figures look at the K × K part: a missing label is neither agreement nor disagreement.
"""

from collections import Counter
from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from itertools import combinations
from operator import add
from types import MappingProxyType
from typing import TYPE_CHECKING, Any, Final

from relabel.records import LABELS, Label

if TYPE_CHECKING:
    from numpy import float64, int64
    from numpy.random import Generator
    from numpy.typing import ArrayLike, NDArray

    Floats = NDArray[float64]

RESAMPLES: Final = 2000
LEVEL: Final = 0.95
"""Coverage that every interval aims at."""

CODES: Final[Mapping[Label | None, int]] = MappingProxyType(
    {**{label: code for code, label in enumerate(LABELS)}, None: len(LABELS)},
)
"""A judge's word as the small number that `Tally.add` wants: a label's place in LABELS, then "no label"."""

NOT_ASKED: Final = len(CODES)
"""The code for a pair that the judge was never asked about: it enters no table of that judge."""

_BASE: Final = NOT_ASKED + 1
MAX_STRATA: Final = 256 // _BASE**2
"""How many strata a `Tally` can tell apart: a cell of a stratum is one byte."""

_TIMES_BASE: Final = bytes(min(code * _BASE, 255) for code in range(256))
_NOT_BOTH: Final = bytes(cell for cell in range(256) if NOT_ASKED in divmod(cell % _BASE**2, _BASE))
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
            "value": _rounded(self.value),
            "low": _rounded(self.low),
            "high": _rounded(self.high),
            "left_out": self.left_out,
        }


@dataclass(frozen=True, slots=True)
class Agreement:
    """How far two judges agree on the pairs that both were asked about.

    Attributes:
        first: name of the judge in the rows.
        second: name of the judge in the columns.
        n: pairs to which both gave a label; all figures rest on these.
        none_first: pairs to which the first gave no label (the second may or may not have).
        none_second: pairs to which the second gave no label.
        clusters: queries with at least one of the n pairs.
        confusion: (K + 1) × (K + 1) counts, the last row and column for "no label".
        figures: by the names that `measure` gives them.
        labels: the K categories, in order.
    """

    first: str
    second: str
    n: float
    none_first: float
    none_second: float
    clusters: int
    confusion: tuple[tuple[float, ...], ...]
    figures: Mapping[str, Figure]
    labels: tuple[str, ...] = LABELS

    def to_json(self) -> dict[str, Any]:
        """Return plain dicts and lists, whole counts as integers, floats rounded to 6 decimals."""
        return {
            "first": self.first,
            "second": self.second,
            "n": _count(self.n),
            "none_first": _count(self.none_first),
            "none_second": _count(self.none_second),
            "clusters": self.clusters,
            "labels": list(self.labels),
            "confusion": [[_count(cell) for cell in row] for row in self.confusion],
            "figures": {name: figure.to_json() for name, figure in self.figures.items()},
        }


class Tally:
    """Collects, query by query, what every two judges said of the same pairs.

    Pairs may come from several strata: stratum s was sampled at a known rate, and each of its pairs stands for
    `weights[s]` of its kind (Horvitz and Thompson 1952, JASA 47(260), 663–685). The figures are those of the whole,
    while `n` and the confusion table count what was really seen.
    Memory holds one counter per two judges, of the distinct tables that queries have: equal queries are one.
    The order in which queries come does not change the result.

        tally = Tally(["small", "large"])
        tally.add([(CODES["relevant"], CODES["partial"]), (CODES[None], NOT_ASKED)])    # one query, two pairs
        tally.result(seed=0)
    """

    def __init__(self, judges: Sequence[str], weights: Sequence[float] = (1.0,), chose: Collection[str] = ()) -> None:
        """Take in the judges' names and the weight of each stratum (at most `MAX_STRATA`).

        `chose` names judges who chose themselves which pairs to label (people): theirs are counted as they are.

        Raises:
            ValueError: more strata than the counters can tell apart.
        """
        self._chose = frozenset(chose)
        if len(weights) > MAX_STRATA:
            raise ValueError(f"{len(weights)} strata; at most {MAX_STRATA}")
        self._judges, self._weights = tuple(judges), tuple(weights)
        self._patterns: dict[tuple[int, int], Counter[bytes]] = {
            both: Counter() for both in combinations(range(len(self._judges)), 2)
        }

    def add(self, words: Iterable[Sequence[int]], strata: Sequence[int] | None = None) -> None:
        """Count one query. All its pairs must come in one call: the query is what gets resampled.

        Args:
            words: for each pair of the query one code per judge, in the judges' order: `CODES[label]`,
                `CODES[None]` for an answer without a label, NOT_ASKED where the judge was not asked. Copies and
                empty texts (VOID_REASONS) are nobody's disagreement: leave such pairs out.
            strata: the stratum of each pair; all 0 where not given.

        Raises:
            ValueError: for a code out of range or another number of codes than judges.
        """
        columns = [bytes(column) for column in zip(*words, strict=True)]
        if not columns:
            return
        if len(columns) != len(self._judges):
            raise ValueError(f"{len(columns)} codes for {len(self._judges)} judges")
        if max(map(max, columns)) > NOT_ASKED:
            raise ValueError(f"a code is {max(map(max, columns))}; the highest is {NOT_ASKED} (not asked)")
        weighted = strata is not None and any(strata)
        for (first, second), patterns in self._patterns.items():
            # Two columns of codes become one of cell numbers, and the query's table its sorted cells: no Python
            # loop over the pairs, and a key no longer than the pairs that both were asked about.
            cells = bytes(map(add, columns[first].translate(_TIMES_BASE), columns[second]))
            if weighted and strata is not None:
                cells = bytes(cell + _BASE**2 * stratum for cell, stratum in zip(cells, strata, strict=True))
            if asked := cells.translate(None, _NOT_BOTH):
                patterns[bytes(sorted(asked))] += 1

    def result(self, seed: int, resamples: int = RESAMPLES) -> list[Agreement]:
        """Return the agreement of every two judges, in the judges' order; see `agreement`.

        Every two judges get the same dice, so that their figures do not depend on which other judges there are.
        """
        return [
            self._agreement(self._judges[first], self._judges[second], patterns, seed, resamples)
            for (first, second), patterns in self._patterns.items()
        ]

    def _agreement(self, first: str, second: str, patterns: Counter[bytes], seed: int, resamples: int) -> Agreement:
        times = list(patterns.values())
        seen = _tables(patterns, len(self._weights))
        if len(self._weights) == 1 or {first, second} & self._chose:
            return agreement(first, second, seen.sum(axis=1), times=times, seed=seed, resamples=resamples)
        import numpy as np

        whole = np.tensordot(seen, np.asarray(self._weights), axes=(1, 0))
        counted = agreement(first, second, seen.sum(axis=1), times=times, seed=seed, resamples=0)
        weighted = agreement(first, second, whole, times=times, seed=seed, resamples=resamples)
        return replace(counted, figures=weighted.figures)


def agreement(
    first: str,
    second: str,
    tables: "ArrayLike",
    *,
    seed: int,
    resamples: int = RESAMPLES,
    times: "ArrayLike | None" = None,
    labels: Sequence[str] = LABELS,
) -> Agreement:
    """Compare two judges from the tables of counts of single clusters (queries).

    Clusters are drawn with replacement, as many as there are, `resamples` times; the interval of a figure runs from
    the 2.5th to the 97.5th percentile of its values. Only clusters with a pair labelled by both take part. Equal
    clusters are merged and the resamples drawn as a multinomial over what is left: the same distribution, in memory
    that does not grow with their number. A judge that always agrees gets an interval without width: a bootstrap
    cannot show what was never seen.

    Args:
        first: name of the judge in the rows.
        second: name of the judge in the columns.
        tables: counts ≥ 0, whole or fractional, of shape (clusters, K + 1, K + 1); last row and column: no label.
        seed: of the dice. The same seed and numpy and the same whole counts, in any order, give the same bits.
        resamples: how many; 0 for no intervals.
        times: how many clusters each table stands for; one where not given.
        labels: the K categories, highest first.

    Raises:
        ValueError: when the shape of `tables` does not fit `labels`.
    """
    import numpy as np

    size = len(labels)
    counts = np.asarray(tables, dtype=np.float64)
    if counts.shape[1:] != (size + 1, size + 1):
        raise ValueError(f"{size} labels need tables of {size + 1} × {size + 1}, not {counts.shape[1:]}")
    weights = np.ones(len(counts), dtype=np.int64) if times is None else np.asarray(times, dtype=np.int64)
    total = np.asarray(np.tensordot(weights, counts, axes=1), dtype=np.float64)
    patterns, repeats = _merged(counts[:, :size, :size].reshape(-1, size * size), weights)
    point = measure(total[:size, :size], labels)
    rng = np.random.default_rng(seed)
    draws: dict[str, list[Floats]] = {name: [] for name in point}
    for block in _resampled(patterns, repeats, resamples, rng):
        for name, values in measure(block.reshape(-1, size, size), labels).items():
            draws[name].append(values)
    return Agreement(
        first=first,
        second=second,
        n=_plain(total[:size, :size].sum()),
        none_first=_plain(total[size].sum()),
        none_second=_plain(total[:, size].sum()),
        clusters=int(repeats.sum()),
        confusion=tuple(tuple(_plain(cell) for cell in row) for row in total),
        figures=MappingProxyType({name: _figure(float(point[name]), draws[name]) for name in point}),
        labels=tuple(labels),
    )


def rate_interval(clusters: Mapping[tuple[int, int], int], *, seed: int, resamples: int = RESAMPLES) -> Figure:
    """Return a rate (flagged, confirmed) in [0, 1] with its interval from the same bootstrap over clusters.

    A rate of exactly 0 or 1 gets an interval without width: a bootstrap cannot show what was never seen.

    Args:
        clusters: how many clusters (queries) have (hits, total): a Counter of such tuples. Those with a total of 0
            take no part. The value is None where no others are left.
        seed: of the dice, as for `agreement`.
        resamples: how many; 0 for no interval.

    Raises:
        ValueError: unless 0 ≤ hits ≤ total everywhere.
    """
    import numpy as np

    if wrong := [counts for counts in clusters if not 0 <= counts[0] <= counts[1]]:
        raise ValueError(f"{wrong[0][0]} hits of {wrong[0][1]}")
    counts = np.array([(hits, total - hits) for hits, total in clusters], dtype=np.float64).reshape(-1, 2)
    patterns, repeats = _merged(counts, np.array(list(clusters.values()), dtype=np.int64))
    rng = np.random.default_rng(seed)
    draws = [_ratio(block[:, 0], block.sum(axis=1)) for block in _resampled(patterns, repeats, resamples, rng)]
    hits, misses = repeats @ patterns
    return _figure(float(_ratio(hits, hits + misses)), draws)


def measure(confusion: "Floats", labels: Sequence[str] = LABELS) -> "dict[str, Floats]":
    """Return every figure of one table, or of many at once.

    All but agreement and prevalence are corrected for chance: 1 is perfect, 0 is chance, below 0 is worse than
    chance. NaN stands for undefined. A missing label has no place in these tables.

    - `agreement`: share of pairs with the same label, in [0, 1].
    - `kappa`, `kappa_linear`, `kappa_quadratic`: Cohen's, see `cohen_kappa`.
    - `kappa_relevant`, `kappa_relevant_or_partial`: κ of two classes: the first category, the first two, …
      against the rest.
    - `ac1`: Gwet's, see `gwet_ac1`; barely moves with prevalence, where κ falls towards 0 when nearly all is one label.
    - `alpha_nominal`, `alpha_ordinal`: Krippendorff's, see `krippendorff_alpha`.
    - `prevalence_first_X`, `prevalence_second_X`, `prevalence_X`: share of label X with the first judge, the second,
      both; in [0, 1]. κ can be read only beside these.

    Args:
        confusion: counts ≥ 0 of shape (…, K, K), first judge in the rows.
        labels: the K categories in their order; they name the figures.

    Returns:
        Arrays of shape (…).
    """
    import numpy as np

    counts = np.asarray(confusion, dtype=np.float64)
    distance = np.abs(np.subtract.outer(np.arange(len(labels)), np.arange(len(labels)))).astype(np.float64)
    n = counts.sum(axis=(-2, -1))
    figures = {
        "agreement": _ratio(np.trace(counts, axis1=-2, axis2=-1), n),
        "kappa": cohen_kappa(counts, distance > 0),
        "kappa_linear": cohen_kappa(counts, distance),
        "kappa_quadratic": cohen_kappa(counts, distance**2),
    }
    for cut in range(1, len(labels)):
        above = np.arange(len(labels)) < cut
        figures["kappa_" + "_or_".join(labels[:cut])] = cohen_kappa(counts, above[:, None] != above)
    figures["ac1"] = gwet_ac1(counts)
    figures["alpha_nominal"] = krippendorff_alpha(counts)
    figures["alpha_ordinal"] = krippendorff_alpha(counts, ordinal=True)
    rows, columns = counts.sum(axis=-1), counts.sum(axis=-2)
    for index, label in enumerate(labels):
        figures[f"prevalence_first_{label}"] = _ratio(rows[..., index], n)
        figures[f"prevalence_second_{label}"] = _ratio(columns[..., index], n)
        figures[f"prevalence_{label}"] = _ratio((rows + columns)[..., index], 2 * n)
    return figures


def cohen_kappa(confusion: "Floats", disagreement: "ArrayLike") -> "Floats":
    """Return Cohen's κ, in [−1, 1] without weights: 1 − n Σ wᵢⱼ nᵢⱼ / Σ wᵢⱼ nᵢ. n.ⱼ.

    Cohen (1960), Educational and Psychological Measurement 20(1), 37–46; with weights Cohen (1968), Psychological
    Bulletin 70(4), 213–220. The form by disagreements equals (pₒ − pₑ) / (1 − pₑ) and subtracts no near-equals.
    NaN where chance leaves nothing to disagree about: no pairs, or both judges constant with the same word. One
    constant judge alone gives 0: its word carries no information.

    Args:
        confusion: counts of shape (…, K, K).
        disagreement: weights w of shape (K, K), 0 on the diagonal; merging classes is a weight of 0 within a class.
    """
    import numpy as np

    weights = np.asarray(disagreement, dtype=np.float64)
    rows, columns = confusion.sum(axis=-1), confusion.sum(axis=-2)
    observed = (weights * confusion).sum(axis=(-2, -1)) * confusion.sum(axis=(-2, -1))
    expected = (weights * rows[..., :, None] * columns[..., None, :]).sum(axis=(-2, -1))
    result: Floats = 1 - _ratio(observed, expected)
    return result


def gwet_ac1(confusion: "Floats") -> "Floats":
    """Return Gwet's AC1, at most 1: (pₒ − pₑ) / (1 − pₑ) with pₑ = Σ πₖ (1 − πₖ) / (K − 1), πₖ pooled prevalence.

    Gwet (2008), British Journal of Mathematical and Statistical Psychology 61(1), 29–48. K counts the categories on
    offer, used or not. NaN only where there are no pairs (or K = 1); both judges constant with the same word gives 1.
    """
    import numpy as np

    size = confusion.shape[-1]
    n = confusion.sum(axis=(-2, -1))
    pooled = _ratio(confusion.sum(axis=-1) + confusion.sum(axis=-2), 2 * n[..., None])
    chance = _ratio((pooled * (1 - pooled)).sum(axis=-1), np.float64(size - 1))
    return _ratio(_ratio(np.trace(confusion, axis1=-2, axis2=-1), n) - chance, 1 - chance)


def krippendorff_alpha(confusion: "Floats", *, ordinal: bool = False) -> "Floats":
    """Return Krippendorff's α of two judges, at most 1: 1 − (N − 1) Σ oₖₗ δₖₗ / Σ nₖ nₗ δₖₗ.

    Krippendorff, Content Analysis (4th ed. 2019), ch. 12. o is the table plus its transpose (coincidences), nₖ its
    margins, N = 2n. δ is 1 for different categories (nominal) or, ordinal, the square of the ranks between them:
    (Σ nₘ over m from k to l, less (nₖ + nₗ) / 2)², which is the distance of the middles of their ranks.
    NaN where all values are one category, and where there are none: without variation there is nothing to rely on.
    """
    import numpy as np

    coincidences = confusion + np.swapaxes(confusion, -2, -1)
    margins = coincidences.sum(axis=-1)
    size = margins.sum(axis=-1)
    if ordinal:
        middles = np.cumsum(margins, axis=-1) - margins / 2
        delta = (middles[..., :, None] - middles[..., None, :]) ** 2
    else:
        delta = 1 - np.eye(margins.shape[-1])
    observed = (coincidences * delta).sum(axis=(-2, -1))
    expected = (margins[..., :, None] * margins[..., None, :] * delta).sum(axis=(-2, -1))
    # Fractional counts may add up to less than one value more than there is to compare: undefined as well.
    result: Floats = 1 - np.where(size > 1, size - 1, np.nan) * _ratio(observed, expected)
    return result


def _tables(patterns: "Iterable[bytes]", strata: int) -> "NDArray[int64]":
    """Return the tables of counts of patterns of cell numbers, shape (patterns, strata, K + 1, K + 1)."""
    import numpy as np

    keys = list(patterns)
    owners = np.repeat(np.arange(len(keys)), [len(key) for key in keys])
    cells = np.frombuffer(b"".join(keys), dtype=np.uint8)
    size = strata * _BASE**2
    counts = np.bincount(owners * size + cells, minlength=len(keys) * size)
    return counts.reshape(-1, strata, _BASE, _BASE)[:, :, :NOT_ASKED, :NOT_ASKED]


def _ratio(above: "ArrayLike", below: "ArrayLike") -> "Floats":
    """Divide; NaN, and no warning, where the divisor is 0 or unknown."""
    import numpy as np

    divisor = np.asarray(below, dtype=np.float64)
    result: Floats = np.asarray(above, dtype=np.float64) / np.where(divisor > 0, divisor, np.nan)
    return result


def _merged(counts: "Floats", times: "ArrayLike") -> "tuple[Floats, Floats]":
    """Return the distinct rows of counts, sorted, and for how many clusters each stands; rows of zeros drop out."""
    import numpy as np

    full = counts.any(axis=1)
    patterns, places = np.unique(counts[full], axis=0, return_inverse=True)
    repeats = np.bincount(places.ravel(), weights=np.asarray(times)[full], minlength=len(patterns))
    return patterns, repeats.astype(np.float64)


def _resampled(patterns: "Floats", repeats: "Floats", resamples: int, rng: "Generator") -> "Iterator[Floats]":
    """Yield blocks of resampled sums of counts, one row per resample; nothing for fewer than two clusters."""
    clusters = int(repeats.sum())
    if clusters < 2:
        return
    block = max(1, _BLOCK // len(patterns))
    for start in range(0, resamples, block):
        yield rng.multinomial(clusters, repeats / clusters, size=min(block, resamples - start)) @ patterns


def _figure(value: float, draws: "Sequence[Floats]") -> Figure:
    """Return the figure, its interval read off the resamples in which it is defined."""
    import numpy as np

    if value != value:  # noqa: PLR0124 - NaN is what does not equal itself
        return Figure(None)
    values = np.concatenate(draws) if draws else np.empty(0)
    kept = values[~np.isnan(values)]
    if not kept.size:
        return Figure(value, left_out=values.size)
    low, high = np.quantile(kept, [(1 - LEVEL) / 2, (1 + LEVEL) / 2])
    return Figure(value, float(low), float(high), left_out=values.size - kept.size)


def _plain(number: float) -> float:
    """Return a Python number, whole ones as int."""
    return int(number) if float(number).is_integer() else float(number)


def _count(number: float) -> float:
    """Return a count as JSON shows it."""
    return number if isinstance(number, int) else round(number, 6)


def _rounded(number: float | None) -> float | None:
    """Round to 6 decimals; 0 has no sign."""
    return None if number is None else round(number, 6) + 0.0
