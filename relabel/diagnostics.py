"""How a judge behaves, in figures: rates, differences of rates, correlations, flips, each with its interval.

All intervals are percentile intervals of a bootstrap over queries, as everywhere in relabel (`agreement`): pairs of one
query are not independent. A difference is resampled as one figure, with the same queries drawn on both sides, since
both were asked the same pairs.

"Yes" stands for a label that flags a pair: relevant or partial. No label is never a "no": such pairs are left out and
counted by who calls.
"""

from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from typing import TYPE_CHECKING, Any, Final

from relabel.agreement import CODES, Agreement, agreement, measure
from relabel.bootstrap import LEVEL, RESAMPLES, Figure, rate_interval
from relabel.records import LABELS, Label

if TYPE_CHECKING:
    from numpy import bool_, float64, int64
    from numpy.typing import NDArray

    Floats = NDArray[float64]
    Statistic = Callable[[Floats], Floats]

COMPARED: Final = ("agreement", "kappa", "kappa_relevant", "kappa_relevant_or_partial", "ac1")
"""The figures of `agreement.measure` whose difference is told."""

_BLOCK: Final = 2**20  # numbers at once: 8 MB


@dataclass(frozen=True, slots=True)
class Diagnostic:
    """One figure of a judge.

    Attributes:
        part: what it belongs to: "probe", "lists", "swap", "leaning", "repeat" or "templates".
        name: what it is.
        value: None where it is undefined, or nobody could be asked; then `note` says why.
        low: lower bound of the 95 % interval; None without one (fewer than two queries).
        high: upper bound.
        of: pairs that it rests on.
        queries: queries that these pairs belong to.
        note: how to read it.
    """

    part: str
    name: str
    value: float | None
    low: float | None = None
    high: float | None = None
    of: int = 0
    queries: int = 0
    note: str = ""

    def to_json(self) -> dict[str, Any]:
        """Return a plain dict, floats rounded to 6 decimals so that its bytes are stable."""
        rounded = Figure(self.value, self.low, self.high).to_json()
        return {name: rounded.get(name, value) for name, value in asdict(self).items()}


@dataclass(frozen=True, slots=True)
class Said:
    """One pair as a figure looks at it: the query it belongs to, and whether something is so."""

    query: str
    yes: bool


@dataclass(frozen=True, slots=True)
class Point:
    """One pair as a correlation looks at it.

    Attributes:
        query: the query that it belongs to.
        x: a property of the pair: length, overlap, place.
        y: 1 where the judge said yes, else 0.
        gold: likewise what people say; None where nobody did.
    """

    query: str
    x: float
    y: float
    gold: float | None = None


@dataclass(frozen=True, slots=True)
class PairedAgreement:
    """Two judges (or prompts) against the same gold labels, on the pairs that all three labelled.

    Attributes:
        before: agreement of the first with gold.
        after: agreement of the second with gold.
        difference: after − before, by the names of `COMPARED`, in [−2, 2].
    """

    before: Agreement
    after: Agreement
    difference: Mapping[str, Figure]


def flags(label: Label | None) -> bool:
    """Say whether a label is a yes."""
    return label in ("relevant", "partial")


def rate(part: str, name: str, said: Sequence[Said], *, seed: int, note: str = "") -> Diagnostic:
    """Return a share of pairs, in [0, 1].

    Where it is 0 or 1 a bootstrap shows no width. The interval then ends at the exact binomial bound of Clopper and
    Pearson (1934, Biometrika 26(4), 404-413) for 0 of as many trials as there are queries: of queries with equally many
    pairs, no greater share of pairs can be so than of queries with one that is.
    """
    hits: Counter[str] = Counter()
    totals: Counter[str] = Counter()
    for one in said:
        totals[one.query] += 1
        hits[one.query] += one.yes
    figure = rate_interval(Counter((hits[query], total) for query, total in totals.items()), seed=seed)
    if figure.value in (0.0, 1.0) and len(totals) > 1:
        reach = 1 - ((1 - LEVEL) / 2) ** (1 / len(totals))
        figure = replace(figure, low=0.0, high=reach) if not figure.value else replace(figure, low=1 - reach, high=1.0)
    return _told(part, name, figure, len(said), len(totals), note)


def difference(
    part: str, name: str, first: Sequence[Said], second: Sequence[Said], *, seed: int, note: str = ""
) -> Diagnostic:
    """Return the share of `first` less that of `second`, in [−1, 1]; queries are drawn once for both."""
    import numpy as np

    places = _numbered([one.query for one in (*first, *second)])
    sums = np.zeros((len(places), 4))
    for column, said in ((0, first), (2, second)):
        for one in said:
            sums[places[one.query], column] += one.yes
            sums[places[one.query], column + 1] += 1

    def statistic(sums: "Floats") -> "Floats":
        return _over(sums[..., 0], sums[..., 1]) - _over(sums[..., 2], sums[..., 3])

    figure = _of_sums(sums, statistic, seed)
    return _told(part, name, figure, len(first) + len(second), len(places), note)


def correlation(part: str, name: str, points: Sequence[Point], *, seed: int, note: str = "") -> Diagnostic:
    """Return Spearman's ρ of x and y, in [−1, 1], ties at their middle rank; None where either is constant.

    Spearman (1904), American Journal of Psychology 15(1), 72-101. With a y of two values it is the point-biserial
    correlation of y with the ranks of x.
    """
    figure = _correlated(points, lambda points: [point.y for point in points], seed)
    return _told(part, name, figure, len(points), len({point.query for point in points}), note)


def correlation_with_gold(
    part: str, name: str, points: Sequence[Point], *, seed: int, note: str = ""
) -> tuple[Diagnostic, Diagnostic]:
    """Return Spearman's ρ of x with gold, and by how much that of the judge exceeds it, on pairs that have gold.

    A judge that merely sees what is true leans as gold does: then the second figure, in [−2, 2], is near 0.
    """
    known = [point for point in points if point.gold is not None]
    queries = len({point.query for point in known})
    of_gold = _correlated(known, lambda points: [point.gold or 0.0 for point in points], seed)
    excess = _correlated(known, lambda points: [point.y for point in points], seed, less=[p.gold or 0.0 for p in known])
    return (
        _told(part, f"{name}: people", of_gold, len(known), queries, note),
        _told(part, f"{name}: judge − people", excess, len(known), queries, "0 = leans no more than the truth does"),
    )


def against_gold(
    words: Sequence[tuple[str, Label | None, Label | None, Label | None]],
    *,
    names: tuple[str, str] = ("before", "after"),
    seed: int = 0,
) -> PairedAgreement:
    """Compare two judges by their agreement with gold, on the pairs that both and people labelled.

    Args:
        words: (query, first judge's label, second judge's, gold's) of each pair; a pair with a None takes no part.
        names: of the two.
        seed: of the dice; every resample is the same for both sides, so that what they share cancels out.
    """
    import numpy as np

    known = [word for word in words if None not in word[1:]]
    places = _numbered([query for query, *_ in known])
    size = len(LABELS) + 1
    tables = np.zeros((2, len(places), size, size))
    for query, before, after, gold in known:
        tables[0, places[query], CODES[before], CODES[gold]] += 1
        tables[1, places[query], CODES[after], CODES[gold]] += 1
    both = [agreement(name, "gold", table, seed=seed) for name, table in zip(names, tables, strict=True)]
    cells = len(LABELS) ** 2
    sums = np.concatenate([table[:, :-1, :-1].reshape(-1, cells) for table in tables], axis=1)

    def differences(sums: "Floats") -> "dict[str, Floats]":
        first, second = (
            measure(part.reshape(*part.shape[:-1], len(LABELS), len(LABELS)))
            for part in (sums[..., :cells], sums[..., cells:])
        )
        return {name: second[name] - first[name] for name in COMPARED}

    whole = differences(sums.sum(axis=0))
    blocks = [differences(block @ sums) for block in _draws(len(sums), seed, sums.shape[1])]
    figures = {name: _figure(float(whole[name]), [block[name] for block in blocks]) for name in COMPARED}
    return PairedAgreement(both[0], both[1], figures)


# -- the bootstrap -----------------------------------------------------------------------------------------


def _numbered(queries: Sequence[str]) -> dict[str, int]:
    """Number the queries by their names, so that the order in which pairs come changes no figure."""
    return {query: number for number, query in enumerate(sorted(set(queries)))}


def _draws(queries: int, seed: int, width: int) -> "Iterator[NDArray[int64]]":
    """Yield blocks of resamples: how often each query is drawn; nothing for fewer than two queries."""
    import numpy as np

    if queries < 2:
        return
    rng = np.random.default_rng(seed)
    block = max(1, _BLOCK // max(queries, width))
    for start in range(0, RESAMPLES, block):
        yield rng.multinomial(queries, np.full(queries, 1 / queries), size=min(block, RESAMPLES - start))


def _of_sums(sums: "Floats", statistic: "Statistic", seed: int) -> Figure:
    """Return a figure of sums over queries (rows) with its interval."""
    value = float(statistic(sums.sum(axis=0)))
    return _figure(value, [statistic(block @ sums) for block in _draws(len(sums), seed, sums.shape[1])])


def _correlated(
    points: Sequence[Point],
    column: Callable[[Sequence[Point]], list[float]],
    seed: int,
    less: Sequence[float] | None = None,
) -> Figure:
    """Return Spearman's ρ of x with a column; `less` = that of x with another one, to be subtracted."""
    import numpy as np

    if not points:
        return Figure(None)
    numbers = _numbered([point.query for point in points])
    owners = np.array([numbers[point.query] for point in points])
    x, y = np.array([point.x for point in points]), np.array(column(points))
    other = np.array(less) if less is not None else None

    def statistic(weights: "Floats") -> "Floats":
        found = spearman(x, y, weights)
        return found if other is None else found - spearman(x, other, weights)

    whole = float(statistic(np.ones((1, len(points))))[0])
    blocks = _draws(len(numbers), seed, len(points))
    return _figure(whole, [statistic(block[:, owners].astype(np.float64)) for block in blocks])


def spearman(x: "Floats", y: "Floats", weights: "Floats") -> "Floats":
    """Return Spearman's ρ of samples that hold point i `weights[s, i]` times; NaN where x or y is constant.

    Args:
        x: of shape (points,).
        y: of shape (points,).
        weights: whole numbers ≥ 0 of shape (samples, points).

    Returns:
        In [−1, 1], of shape (samples,).
    """
    import numpy as np

    first, second = _ranks(x, weights), _ranks(y, weights)
    total = weights.sum(axis=1, keepdims=True)
    first = first - _over((weights * first).sum(axis=1, keepdims=True), total)
    second = second - _over((weights * second).sum(axis=1, keepdims=True), total)
    spread = np.sqrt((weights * first**2).sum(axis=1) * (weights * second**2).sum(axis=1))
    return _over((weights * first * second).sum(axis=1), np.where(spread > 1e-9, spread, 0.0))


def _ranks(values: "Floats", weights: "Floats") -> "Floats":
    """Return the middle rank of each point in each sample, shape (samples, points)."""
    import numpy as np

    _, starts, places = np.unique(np.sort(values), return_index=True, return_inverse=True)
    order = np.argsort(values, kind="stable")
    tied = np.add.reduceat(weights[:, order], starts, axis=1)
    middles = np.cumsum(tied, axis=1) - (tied - 1) / 2
    ranks = np.empty_like(weights)
    ranks[:, order] = middles[:, places.ravel()]
    return ranks


def _over(above: "Floats", below: "Floats") -> "Floats":
    """Divide; NaN where the divisor is 0."""
    import numpy as np

    positive: NDArray[bool_] = np.asarray(below) > 0
    result: Floats = np.asarray(above) / np.where(positive, below, np.nan)
    return result


def _figure(value: float, blocks: "Sequence[Floats]") -> Figure:
    """Return a figure with the interval read off the resamples in which it is defined."""
    import numpy as np

    if np.isnan(value):
        return Figure(None)
    draws = np.concatenate([np.atleast_1d(block) for block in blocks]) if blocks else np.empty(0)
    kept = draws[~np.isnan(draws)]
    if not kept.size:
        return Figure(value, left_out=draws.size)
    low, high = np.quantile(kept, [(1 - LEVEL) / 2, (1 + LEVEL) / 2])
    return Figure(value, float(low), float(high), draws.size - kept.size)


def _told(part: str, name: str, figure: Figure, of: int, queries: int, note: str) -> Diagnostic:
    if figure.value is None and of:
        note = f"undefined: nothing varies; {note}" if note else "undefined: nothing varies"
    return Diagnostic(part, name, figure.value, figure.low, figure.high, of, queries, note)
