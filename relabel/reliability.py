"""Is a judge's number the probability that people say "relevant", and which function makes it one?

Recalibration by isotonic regression (Zadrozny & Elkan 2002) or Platt scaling (Platt 1999, with its smoothed targets),
whichever has the smaller Brier score in cross-validation by query: no query is predicted by a function that its own
labels made.
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Final

from relabel.bounds import correlation_of, effective_pairs

if TYPE_CHECKING:
    from numpy import float64, int64
    from numpy.typing import NDArray

    Floats = NDArray[float64]
    Map = Callable[[Floats], Floats]

BINS: Final = 10
FOLDS: Final = 5
MIN_QUERIES: Final = 10


@dataclass(frozen=True, slots=True)
class Recalibrated:
    """A function from a judge's number to a probability, and how good it is.

    Attributes:
        method: "isotonic" or "platt".
        points: the function, (number, probability), rising; between two points it is linear.
        after: figures of its cross-validated predictions, see `figures_of`.
        before: the same of the judge's own probability, None where it has none.
        brier: cross-validated Brier score of each method.
        pairs: labelled pairs.
        queries: theirs.
    """

    method: str
    points: tuple[tuple[float, float], ...]
    after: Mapping[str, Any]
    before: Mapping[str, Any] | None
    brier: Mapping[str, float]
    pairs: int
    queries: int

    def to_json(self) -> dict[str, Any]:
        """Return it as plain JSON."""
        return {
            "method": self.method,
            "pairs": self.pairs,
            "queries": self.queries,
            "folds": FOLDS,
            "brier_by_method": dict(self.brier),
            "before": self.before,
            "after": self.after,
            "points": [list(point) for point in self.points],
        }


def recalibrate(
    numbers: Sequence[float],
    relevant: Sequence[bool],
    queries: Sequence[str],
    probabilities: Sequence[float | None] = (),
) -> Recalibrated | None:
    """Make a judge's number a probability; None where there are too few labels for it.

    Args:
        numbers: the judge's, one for each labelled pair.
        relevant: whether people say "relevant".
        queries: the pair's query.
        probabilities: the judge's own probability of relevance, where it has one; compared if all pairs have it,
            so never of a judge that calls some "partial" (`cascade.number_of`).
    """
    import numpy as np

    x, y = np.asarray(numbers, dtype=np.float64), np.asarray(relevant, dtype=np.float64)
    names = sorted(set(queries))
    if len(names) < MIN_QUERIES or len(set(relevant)) < 2:
        return None
    turn = {query: place for place, query in enumerate(names)}
    clusters = np.array([turn[query] for query in queries])
    predicted = {name: _cross_validated(fit, x, y, clusters % FOLDS) for name, fit in _METHODS.items()}
    brier = {name: float(np.mean((each - y) ** 2)) for name, each in predicted.items()}
    method = min(brier, key=lambda name: brier[name])
    own = [each for each in probabilities if each is not None]
    before = figures_of(np.asarray(own), y, clusters) if len(own) == len(y) else None
    knots = np.unique(x)
    points = zip(knots.tolist(), _METHODS[method](x, y)(knots).tolist(), strict=True)
    return Recalibrated(
        method,
        _thinned([(number, round(p, 6)) for number, p in points]),
        figures_of(predicted[method], y, clusters),
        before,
        {name: round(value, 6) for name, value in brier.items()},
        len(y),
        len(names),
    )


def figures_of(predicted: "Floats", truth: "Floats", clusters: "NDArray[int64]") -> dict[str, Any]:
    """Return how good predicted probabilities are, as plain JSON.

    - `brier`: mean squared difference, in [0, 1], lower is better (Brier 1950).
    - `ece`: expected calibration error, in [0, 1], lower is better: the mean over pairs of |predicted − observed| of
      their bin (Naeini et al. 2015), for bins of equal width.
    - `bins`: for each bin that is not empty: its bounds, mean predicted, share observed with its 95 % interval (exact
      binomial of the pairs that its queries are worth, Korn & Graubard 1998), pairs and queries.

    Args:
        predicted: probabilities of shape (n,).
        truth: 1 = relevant, else 0, of shape (n,).
        clusters: number of each pair's query, of shape (n,).
    """
    import numpy as np

    places = np.minimum((predicted * BINS).astype(np.int64), BINS - 1)
    bins = []
    error = 0.0
    for place in np.unique(places).tolist():
        inside = places == place
        mean, share = float(predicted[inside].mean()), float(truth[inside].mean())
        error += float(inside.mean()) * abs(mean - share)
        low, high = interval_over_queries(truth[inside], clusters[inside])
        bins.append({
            "low": place / BINS,
            "high": (place + 1) / BINS,
            "predicted": round(mean, 6),
            "observed": round(share, 6),
            "observed_low": round(low, 6),
            "observed_high": round(high, 6),
            "pairs": int(inside.sum()),
            "queries": len(set(clusters[inside].tolist())),
        })  # fmt: skip
    return {"brier": round(float(np.mean((predicted - truth) ** 2)), 6), "ece": round(error, 6), "bins": bins}


def interval_over_queries(truth: "Floats", clusters: "NDArray[int64]") -> tuple[float, float]:
    """Return the 95 % interval of a share over queries: exact binomial of as many pairs as theirs are worth.

    Korn & Graubard (1998), Survey Methodology 24(2), 193–201; see `bounds.effective_pairs`. Of one query nothing is
    known of others: 0 to 1.

    Args:
        truth: 1 = it is so, else 0, of shape (n,).
        clusters: number of each pair's query, of shape (n,).
    """
    import numpy as np
    from scipy.special import betaincinv

    _, places = np.unique(clusters, return_inverse=True)
    sizes = np.bincount(places).astype(np.float64)
    hits = np.bincount(places, weights=truth).astype(np.float64)
    worth = float(effective_pairs(sizes, hits, 0.025, correlation_of(sizes, hits)))
    found = worth * float(truth.mean())
    if worth <= 0:
        return 0.0, 1.0
    low = 0.0 if found <= 0 else float(betaincinv(found, worth - found + 1, 0.025))
    high = 1.0 if found >= worth else float(betaincinv(found + 1, worth - found, 0.975))
    return low, high


def _cross_validated(
    fit: "Callable[[Floats, Floats], Map]", x: "Floats", y: "Floats", folds: "NDArray[int64]"
) -> "Floats":
    """Predict each fold by what the others make."""
    import numpy as np

    predicted = np.empty_like(y)
    for fold in range(FOLDS):
        out = folds == fold
        predicted[out] = fit(x[~out], y[~out])(x[out])
    return predicted


def _isotonic(x: "Floats", y: "Floats") -> "Map":
    """Fit the rising step function of least squares; between its steps linear, beyond its ends level."""
    import numpy as np
    from scipy.optimize import isotonic_regression

    values, places = np.unique(x, return_inverse=True)
    weights = np.bincount(places).astype(np.float64)
    means = np.bincount(places, weights=y) / weights
    fitted = isotonic_regression(means, weights=weights).x
    return lambda at: np.interp(at, values, fitted)


def _platt(x: "Floats", y: "Floats") -> "Map":
    """Fit p = 1 / (1 + exp(−a z − b)) of the standardised number z, by maximum likelihood of smoothed targets."""
    import numpy as np
    from scipy.optimize import minimize
    from scipy.special import expit

    centre, spread = float(x.mean()), float(x.std()) or 1.0
    ones = float(y.sum())
    target = np.where(y > 0, (ones + 1) / (ones + 2), 1 / (len(y) - ones + 2))
    z = (x - centre) / spread

    def loss(at: "Floats") -> tuple[float, "Floats"]:
        linear = at[0] * z + at[1]
        gap = expit(linear) - target
        total = float(np.sum(np.logaddexp(0, linear) - target * linear))
        return total, np.array([float(gap @ z), float(gap.sum())])

    slope, shift = minimize(loss, np.zeros(2), jac=True, method="BFGS").x
    return lambda at: expit(slope * (at - centre) / spread + shift)


_METHODS: Final[Mapping[str, "Callable[[Floats, Floats], Map]"]] = {"isotonic": _isotonic, "platt": _platt}


def _thinned(points: list[tuple[float, float]], most: int = 200) -> tuple[tuple[float, float], ...]:
    """Leave out points on level stretches; and of what is left, keep evenly many."""
    kept = [
        point
        for place, point in enumerate(points)
        if place in (0, len(points) - 1) or not points[place - 1][1] == point[1] == points[place + 1][1]
    ]
    step = -(-len(kept) // most)
    return tuple(dict.fromkeys([*kept[::step], kept[-1]]))
