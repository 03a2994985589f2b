"""How far two judges agree: every figure of `coefficients.measure`, with intervals over queries (`bootstrap`).

    words of the judges, query by query ─▶ Tally ─▶ patterns: how many queries have this very table of counts
    patterns ─▶ resampled tables ─▶ measure() ─▶ Agreement

A table of two judges is (K + 1) × (K + 1) counts, first judge in the rows, categories in their order, the last
row and column for "no label". Figures look at the K × K part: a missing label is neither agreement nor disagreement.
"""

from collections import Counter
from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from itertools import combinations
from operator import add
from types import MappingProxyType
from typing import TYPE_CHECKING, Any, Final

from relabel.bootstrap import RESAMPLES, Figure, figure, merged, rate_interval, resampled, rounded
from relabel.coefficients import measure
from relabel.records import LABELS, Label

if TYPE_CHECKING:
    from numpy import float64, int64
    from numpy.typing import ArrayLike, NDArray

    Floats = NDArray[float64]

__all__ = (
    "CODES", "MAX_STRATA", "NOT_ASKED", "RESAMPLES", "Agreement", "Figure", "Tally", "agreement", "measure",
    "rate_interval",
)  # fmt: skip

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
        effective_n: how many independent pairs would show the raw agreement as surely as these do (Kish 1965, Survey
            Sampling, ch. 8): p (1 − p) / v, where v is the variance of p over queries. None where it is undefined: one
            query, or full agreement or none in every query. Above n, where queries happen to be more alike than chance
            makes them, it is told as n: that is no more than luck of few queries.
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
    effective_n: float | None
    confusion: tuple[tuple[float, ...], ...]
    figures: Mapping[str, Figure]
    labels: tuple[str, ...] = LABELS

    @property
    def design_effect(self) -> float | None:
        """How many times the variance is that of n independent pairs; above 1 where pairs of a query are alike."""
        return None if self.effective_n is None else self.n / min(self.effective_n, self.n)

    def to_json(self) -> dict[str, Any]:
        """Return plain dicts and lists, whole counts as integers, floats rounded to 6 decimals."""
        return {
            "first": self.first,
            "second": self.second,
            "n": _count(self.n),
            "none_first": _count(self.none_first),
            "none_second": _count(self.none_second),
            "clusters": self.clusters,
            "effective_n": None if self.effective_n is None else rounded(min(self.effective_n, self.n)),
            "design_effect": rounded(self.design_effect),
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
        return replace(counted, figures=weighted.figures, effective_n=weighted.effective_n)


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

    The interval of a figure runs from the 2.5th to the 97.5th percentile of its values in the resamples. Only clusters
    with a pair labelled by both take part. A judge that always agrees gets an interval without width: a bootstrap
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
    patterns, repeats = merged(counts[:, :size, :size].reshape(-1, size * size), weights)
    point = measure(total[:size, :size], labels)
    tables_drawn = list(resampled(patterns, repeats, resamples, np.random.default_rng(seed)))
    draws = measure(np.concatenate(tables_drawn).reshape(-1, size, size), labels) if tables_drawn else {}
    return Agreement(
        first=first,
        second=second,
        n=_plain(total[:size, :size].sum()),
        none_first=_plain(total[size].sum()),
        none_second=_plain(total[:, size].sum()),
        clusters=int(repeats.sum()),
        effective_n=_effective_n(patterns.reshape(-1, size, size), repeats),
        confusion=tuple(tuple(_plain(cell) for cell in row) for row in total),
        figures=MappingProxyType({name: figure(float(point[name]), [draws[name]] if draws else []) for name in point}),
        labels=tuple(labels),
    )


def _effective_n(tables: "Floats", times: "Floats") -> float | None:
    """Return p (1 − p) over the variance of the raw agreement p between clusters, that which their bootstrap has.

    p is a ratio of two sums over clusters; its variance is linearised (Cochran 1977, Sampling Techniques, ch. 6).
    """
    import numpy as np

    same, both = np.trace(tables, axis1=-2, axis2=-1), tables.sum(axis=(-2, -1))
    if times.sum() < 2:
        return None
    share = (times @ same) / (times @ both)
    variance = (times @ (same - share * both) ** 2) / (times @ both) ** 2
    return float(share * (1 - share) / variance) if variance > 1e-18 else None  # below: the same share everywhere


def _tables(patterns: Iterable[bytes], strata: int) -> "NDArray[int64]":
    """Return the tables of counts of patterns of cell numbers, shape (patterns, strata, K + 1, K + 1)."""
    import numpy as np

    keys = list(patterns)
    owners = np.repeat(np.arange(len(keys)), [len(key) for key in keys])
    cells = np.frombuffer(b"".join(keys), dtype=np.uint8)
    size = strata * _BASE**2
    counts = np.bincount(owners * size + cells, minlength=len(keys) * size)
    return counts.reshape(-1, strata, _BASE, _BASE)[:, :, :NOT_ASKED, :NOT_ASKED]


def _plain(number: float) -> float:
    """Return a Python number, whole ones as int."""
    return int(number) if float(number).is_integer() else float(number)


def _count(number: float) -> float:
    """Return a count as JSON shows it."""
    return number if isinstance(number, int) else round(number, 6)
