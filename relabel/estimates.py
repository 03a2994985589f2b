"""From a sample's labels to figures of the whole data set, each with its 95 % interval.

A sheet holds the labelled pairs of one sample: for how many pairs of the data set each stands, what was drawn with it,
from which stratum. Every figure is a function of weighted totals. Its variance is that of the design: it comes from the
figure's linearised values (Särndal, Swensson, Wretman 1992, Model Assisted Survey Sampling, ch. 5), totalled over what
was drawn (a pair, or a query with all its pairs), within strata, with the finite-population correction. The interval
is Wilson's with the number of plain labels that this variance is worth and Student's t (Korn & Graubard 1998, Survey
Methodology 24(2), 193–201; Dean & Pagano 2015, JSSAM 3(4), 484–503): it stays in [0, 1] and holds for rare events.

A second interval asks more: what holds for other queries like these. There queries are what varies (clusters), however
the pairs were drawn, and there is no finite-population correction.
"""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any, Final

from relabel.bootstrap import LEVEL

if TYPE_CHECKING:
    from numpy import bool_, float64, int64
    from numpy.typing import NDArray

    Floats = NDArray[float64]
    Numbers = NDArray[int64]
    Flags = NDArray[bool_]

PRIOR: Final = 1.0
"""How many labels the variance over all strata counts for within each one: a stratum where all labels are alike, or
where there is only one, is not taken for one without variance."""

SPARSE: Final = 5
"""Hits and misses that every stratum must have before its variance is believed."""

FEWEST: Final = 30
"""Labels from which on the judges' words are used to narrow the interval: a slope needs some to be learned from."""


@dataclass(frozen=True, slots=True)
class Sheet:
    """The labelled pairs of a sample, as columns of length n.

    Attributes:
        weights: for how many pairs of the data set each stands, copies included, ≥ 1 but for LURE's; they add up to
            about N.
        unit: number of what was drawn: the pair, or its query.
        query: number of its query.
        stratum: number of its stratum.
        sizes: how many units each stratum holds in the data set; empty where chances differ from pair to pair (LURE).
        drawn: how many of each stratum have a label.
        copies: how many rows of the data set hold the pair, within its unit; None: one each.
    """

    weights: "Floats"
    unit: "Numbers"
    query: "Numbers"
    stratum: "Numbers"
    sizes: "Floats"
    drawn: "Floats"
    copies: "Floats | None" = None

    def take(self, rows: "Flags") -> "Sheet":
        """Return the rows of a domain, for counting only: strata keep their sizes."""
        return replace(
            self,
            weights=self.weights[rows],
            unit=self.unit[rows],
            query=self.query[rows],
            stratum=self.stratum[rows],
            copies=self.copies[rows] if self.copies is not None else None,
        )

    @property
    def all_told(self) -> bool:
        """Whether every pair of the data set has a label: nothing is left to guess."""
        copies = 1.0 if self.copies is None else self.copies
        return bool(self.sizes.size and (self.drawn >= self.sizes).all() and (self.weights <= copies).all())


@dataclass(frozen=True, slots=True)
class Estimate:
    """One figure of the data set.

    Attributes:
        name: what it is.
        value: in [0, 1]; None where no label bears on it.
        low: of the 95 % interval for this data set; None where there is none.
        high: likewise.
        n: labelled pairs that it rests on.
        of: pairs of the data set that it speaks of; None where that is not known.
        clusters: queries of the n.
        method: how it was estimated, and its interval.
        note: what one must know to read it.
        low_queries: of the 95 % interval for other queries like these.
        high_queries: likewise.
    """

    name: str
    value: float | None
    low: float | None
    high: float | None
    n: int
    of: int | None
    clusters: int
    method: str
    note: str = ""
    low_queries: float | None = None
    high_queries: float | None = None

    def to_json(self) -> dict[str, Any]:
        """Return a plain dict, numbers rounded to 6 decimals."""
        numbers = {
            name: None if (number := getattr(self, name)) is None else round(number, 6) + 0.0
            for name in ("value", "low", "high", "low_queries", "high_queries")
        }
        return {
            "name": self.name, **numbers, "n": self.n, "of": self.of, "clusters": self.clusters,
            "method": self.method, "note": self.note,
        }  # fmt: skip


def lure_weights(chances: "Floats", total: int) -> "Floats":
    """Return what each label counts in a mean over labels that were drawn one after another, without replacement.

    Levelled unbiased risk estimator (Farquhar, Gal, Rainforth 2021, ICLR; Kossen et al. 2021, ICML, eq. 4):
    v_m = 1 + (N − M) / (N − m) · (1 / ((N − m + 1) q_m) − 1). The mean of v_m · y_m is unbiased for the mean of y over
    all N, whatever q > 0 was, be it chosen after looking at the labels before.

    Args:
        chances: q_m, shape (M,), in the order drawn: the chance of the m-th at its turn among those that were left.
        total: N ≥ M.
    """
    import numpy as np

    drawn = len(chances)
    if drawn >= total:
        return np.ones(drawn)
    turn = np.arange(1, drawn + 1, dtype=np.float64)
    weights: Floats = 1 + (total - drawn) / (total - turn) * (1 / ((total - turn + 1) * chances) - 1)
    return weights


def variance(sheet: Sheet, values: "Floats") -> float:
    """Return the design's variance of the weighted total of `values` (n,), which are centred: residuals.

    Strata of equal chances: Σ N² (1 − n / N) s² / n with s² between units, drawn towards that over all strata
    by the weight of `PRIOR` units. Unequal chances: each pair as if drawn by itself, with copies / weight as its
    chance (the variance of Poisson sampling, slightly too large for a sample of fixed size), n / (n − 1) times.
    """
    import numpy as np

    shares = sheet.weights * values
    if sheet.sizes.size:
        return _variance_of_strata(sheet, shares)
    copies = 1.0 if sheet.copies is None else sheet.copies
    kept = np.maximum(0.0, 1 - copies / np.maximum(sheet.weights, 1e-12))
    return float((kept * shares**2).sum() * len(shares) / max(len(shares) - 1, 1))


def _variance_of_strata(sheet: Sheet, shares: "Floats") -> float:
    import numpy as np

    units, first, places = np.unique(sheet.unit, return_index=True, return_inverse=True)
    stratum = sheet.stratum[first]
    n, size = sheet.drawn, sheet.sizes
    spans = np.where(n > 0, size / np.maximum(n, 1), 0.0)
    totals = np.bincount(places.ravel(), weights=shares, minlength=len(units)) / spans[stratum]
    seen = np.bincount(stratum, minlength=len(size)).astype(np.float64)
    sums = np.bincount(stratum, weights=totals, minlength=len(size))
    squares = np.bincount(stratum, weights=totals**2, minlength=len(size))
    counted = np.maximum(n, 1)  # units without a row here have a total of 0
    within = np.maximum(squares - sums**2 / counted, 0.0)
    scale = np.where(seen > 0, spans, 0.0)[stratum]
    mean = (scale * totals).sum() / size.sum()
    overall = max(float((scale * totals**2).sum() / size.sum() - mean**2), 0.0)
    prior = PRIOR if len(size) > 1 else 0.0
    spread = (within + prior * overall) / np.maximum(counted - 1 + prior, 1)
    return float((size * np.maximum(size - n, 0) * spread / counted)[n > 0].sum())


def variance_between_queries(sheet: Sheet, values: "Floats") -> float:
    """Return the variance of the weighted total of `values` (n,) if queries are what varies: Q / (Q − 1) Σ (t − t̄)²."""
    import numpy as np

    _, places = np.unique(sheet.query, return_inverse=True)
    totals = np.bincount(places.ravel(), weights=sheet.weights * values)
    count = len(totals)
    if count < 2:
        return float("nan")
    return float(((totals - totals.mean()) ** 2).sum() * count / (count - 1))


def wilson(value: float, worth: float, freedom: float) -> tuple[float, float]:
    """Return the bounds of Wilson's interval (1927, JASA 22(158), 209–212) of a share, in [0, 1].

    Args:
        value: the share, in [0, 1].
        worth: how many plain labels it is worth, > 0.
        freedom: degrees of freedom of Student's t, which takes the place of the normal's quantile.
    """
    from math import sqrt

    from scipy.stats import t

    z2 = float(t.ppf((1 + LEVEL) / 2, max(freedom, 1.0))) ** 2
    middle = (value + z2 / (2 * worth)) / (1 + z2 / worth)
    half = sqrt(z2 * (value * (1 - value) / worth + z2 / (4 * worth**2))) / (1 + z2 / worth)
    # exactly, for sums of floats miss the ends by a hair
    low = 0.0 if value <= 0 else max(middle - half, 0.0)
    return low, 1.0 if value >= 1 else min(middle + half, 1.0)


def sparse(sheet: Sheet, hits: "Floats") -> bool:
    """Whether a stratum, not labelled as a whole, has fewer than `SPARSE` pairs with a hit, or without."""
    import numpy as np

    count = len(sheet.sizes)
    if count < 2:
        return False
    found, told = (np.bincount(sheet.stratum, weights=column, minlength=count) for column in (hits, np.ones(len(hits))))
    return bool(((np.minimum(found, told - found) < SPARSE) & (sheet.drawn < sheet.sizes)).any())


def by_strata(sheet: Sheet, hits: "Floats") -> tuple[float, float]:
    """Return the bounds of a share of all pairs from Wilson's interval of every stratum.

    Zou & Donner 2008 (Statistics in Medicine 27(10), 1693–1702; MOVER): p ± √Σ W² (p_h − bound_h)². A stratum without
    a hit is not taken for one without variance, be it nearly the whole data set. Each stratum counts for as many plain
    labels as its weights are worth (Kish), more where much of it was drawn.

    Args:
        sheet: of pairs, in strata.
        hits: (n,), 0 or 1.
    """
    import numpy as np

    total = float(sheet.weights.sum())
    value = below = above = 0.0
    for stratum, (size, drawn) in enumerate(zip(sheet.sizes, sheet.drawn, strict=True)):
        inside = sheet.stratum == stratum
        weights = sheet.weights[inside]
        share = float(weights.sum()) / total
        p = float((weights * hits[inside]).sum() / weights.sum())
        value += share * p
        if drawn < size:
            kish = float(weights.sum() ** 2 / (weights**2).sum())
            low, high = wilson(p, kish / (1 - drawn / size), np.inf)
            below += (share * (p - low)) ** 2
            above += (share * (high - p)) ** 2
    return max(value - below**0.5, 0.0), min(value + above**0.5, 1.0)


def ratio(sheet: Sheet, hits: "Floats", among: "Floats") -> "Rough":
    """Estimate Σ hits · among / Σ among over the data set: a share of a domain (Hájek 1971).

    Args:
        sheet: the labels.
        hits: (n,), 0 or 1.
        among: (n,), 1 in the domain and 0 outside.
    """
    import numpy as np

    inside = np.asarray(among, dtype=np.float64) > 0
    size = float((sheet.weights * among).sum())
    if not inside.any() or size <= 0:
        return Rough(None, np.zeros(len(hits)), inside)
    value = float((sheet.weights * among * hits).sum() / size)
    influence = among * (hits - value) / size / (1 - _pull(sheet, among))
    return Rough(min(max(value, 0.0), 1.0), influence, inside)


def _pull(sheet: Sheet, column: "Floats", *, squared: bool = False) -> "Floats":
    """Return what share of a weighted total (of its squares) hangs on the unit of each pair, (n,), at most a half.

    Residuals over 1 less this are those of the figure made without that unit (MacKinnon & White 1985, Journal of
    Econometrics 29(3), 305–325: HC3, the jackknife): few units, or one that outweighs the rest, widen the interval.
    """
    import numpy as np

    _, places = np.unique(sheet.unit, return_inverse=True)
    totals = np.bincount(places.ravel(), weights=sheet.weights * column)
    totals = totals**2 if squared else np.abs(totals)
    whole = totals.sum()
    share: Floats = np.minimum(totals / whole if whole > 0 else totals, 0.5)[places.ravel()]
    return share


def assisted(sheet: Sheet, hits: "Floats", words: "Floats", mean: float) -> "Rough":
    """Estimate the share of hits with the judges' number on every pair as control variate.

    The regression estimator (Cochran 1977, Sampling Techniques, ch. 7), which is prediction-powered inference with its
    power tuned (Angelopoulos, Duchi, Zrnic 2023, arXiv 2311.01453): ȳ + b (Z̄ − z̄), with the b that has the least
    variance under the design. Where the number says nothing b is near 0 and nothing is lost; a wrong number costs
    width, never truth.

    Args:
        sheet: the labels.
        hits: (n,), 0 or 1.
        words: (n,), the judges' number.
        mean: of that number over the whole data set.
    """
    import numpy as np

    size = float(sheet.weights.sum())
    y, z = (float((sheet.weights * column).sum() / size) for column in (hits, words))
    rest, moved = hits - y, words - z
    spread = variance(sheet, moved)
    slope = 0.0
    if spread > 1e-12 * size**2:
        slope = (variance(sheet, rest + moved) - variance(sheet, rest - moved)) / (4 * spread)
    value = y + slope * (mean - z)
    everywhere = np.ones(len(hits), dtype=np.bool_)
    pull = _pull(sheet, everywhere.astype(np.float64)) + _pull(sheet, moved, squared=True)
    return Rough(min(max(value, 0.0), 1.0), (rest - slope * moved) / size / (1 - np.minimum(pull, 0.5)), everywhere, 1)


def rogan_gladen(sheet: Sheet, hits: "Floats", flags: "Floats", apparent: float) -> "Rough":
    """Estimate the share of hits from what a judge flags of all pairs, corrected for its errors.

    (a + sp − 1) / (se + sp − 1) with sensitivity and specificity from the labels (Rogan & Gladen 1978, American
    Journal of Epidemiology 107(1), 71–76). Undefined for a judge that is no better than a coin.

    Args:
        sheet: the labels.
        hits: (n,), 0 or 1.
        flags: (n,), whether the judge flags the pair.
        apparent: share that it flags of all pairs, in [0, 1].
    """
    import numpy as np

    size = float(sheet.weights.sum())
    yes, no = (float((sheet.weights * side).sum()) for side in (hits, 1 - hits))
    everywhere = np.ones(len(hits), dtype=np.bool_)
    if yes <= 0 or no <= 0:
        return Rough(None, np.zeros(len(hits)), everywhere)
    sensitivity = float((sheet.weights * hits * flags).sum() / yes)
    specificity = float((sheet.weights * (1 - hits) * (1 - flags)).sum() / no)
    youden = sensitivity + specificity - 1
    if youden <= 0.05:
        return Rough(None, np.zeros(len(hits)), everywhere)
    value = (apparent + specificity - 1) / youden
    wrong = -value * hits * (flags - sensitivity) / (yes / size)
    right = (1 - value) * (1 - hits) * (1 - flags - specificity) / (no / size)
    return Rough(min(max(value, 0.0), 1.0), (wrong + right) / youden / size, everywhere, 2)


@dataclass(frozen=True, slots=True)
class Rough:
    """A value with its linearised values (n,): its error is about the error of their weighted total.

    `inside` marks the pairs it rests on, `learned` counts what was learned from the labels to make it.
    """

    value: float | None
    influence: "Floats"
    inside: "Flags"
    learned: int = 0


def finish(
    rough: Rough, sheet: Sheet, name: str, *, of: int | None, method: str, note: str = "", data_set: bool = True
) -> Estimate:
    """Give a rough figure its intervals and its name.

    Args:
        rough: the figure.
        sheet: the labels.
        name: see `Estimate`.
        of: see `Estimate`.
        method: see `Estimate`.
        note: see `Estimate`.
        data_set: whether the labels are a sample of the data set; else both intervals are that over queries.
    """
    import numpy as np

    counted = sheet.take(rough.inside)
    n, queries = len(counted.weights), len(np.unique(counted.query))
    if rough.value is None:
        return Estimate(name, None, None, None, n, of, queries, method, note)
    strata = len(np.unique(counted.stratum)) if sheet.sizes.size else 1
    units = len(np.unique(counted.unit))
    low = high = None
    if data_set and units > 1:
        freedom = max(units - strata - rough.learned, 1)
        low, high = _interval(rough.value, variance(sheet, rough.influence), counted, units, freedom)
        if sheet.all_told:
            low = high = rough.value  # everything has a label
    wide: tuple[float | None, float | None] = (None, None)
    if queries > 1:
        between = variance_between_queries(sheet, rough.influence)
        wide = _interval(rough.value, between, counted, queries, queries - 1)
    if not data_set:
        low, high = wide
    return Estimate(name, rough.value, low, high, n, of, queries, method, note, *wide)


def _interval(value: float, spread: float, counted: Sheet, units: int, freedom: float) -> tuple[float, float]:
    """Return the bounds, by what the variance is worth in plain labels; where it shows none, by the weights alone."""
    kish = float(counted.weights.sum() ** 2 / (counted.weights**2).sum())  # Kish 1965, Survey Sampling
    plain = value * (1 - value)
    worth = plain / spread if spread > 1e-15 and plain > 1e-15 else min(kish, units)
    return wilson(value, worth, freedom)


def numbered(names: Sequence[str]) -> "Numbers":
    """Return the number of each name among the distinct names, in the order of first appearance."""
    import numpy as np

    known: dict[str, int] = {}
    return np.array([known.setdefault(name, len(known)) for name in names], dtype=np.int64)
