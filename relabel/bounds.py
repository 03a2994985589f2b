"""How many errors there may really be: upper confidence bounds of an error rate, over pairs and over queries.

Pairs of one query are not independent: a judge that misreads a query errs on all its pairs. The bound over pairs
(Clopper & Pearson 1934) takes every pair for a witness of its own and promises too much. The bound over queries counts
fewer: n pairs are worth n / d independent ones, and the exact binomial bound is taken of those (Korn & Graubard 1998,
Survey Methodology 24(2), 193-201). The design effect d is the larger of

- the one measured: how much more the rate varies between queries than it would between as many independent pairs, by
  the jackknife over queries; and
- the one implied, d = 1 + ρ (m − 1) (Kish 1965), by the correlation ρ of errors within a query among all pairs that
  the judge was asked about, m being the mean size of a pair's query: where few errors are left, the measured one is
  close to 1 for want of errors.

Degrees of freedom are the effective number of queries, Kish's (Σn)² / Σn², less one: twenty queries of which one holds
most pairs are not twenty.
"""

import math
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from numpy import float64
    from numpy.typing import ArrayLike, NDArray

    Floats = NDArray[float64]


def binomial_upper(errors: "ArrayLike", pairs: "ArrayLike", delta: float) -> "Floats":
    """Return the exact upper bound of a rate (Clopper & Pearson 1934), one-sided at confidence 1 − delta.

    Args:
        errors: counts ≥ 0, at most `pairs`; fractions are interpolated by the beta distribution.
        pairs: counts ≥ 0 of the same shape; of none, the bound is 1.
        delta: in (0, 0.5).
    """
    import numpy as np
    from scipy.special import betaincinv

    wrong, of = np.asarray(errors, dtype=np.float64), np.asarray(pairs, dtype=np.float64)
    right = of - wrong
    found = betaincinv(wrong + 1, np.where(right > 0, right, 1.0), 1 - delta)
    return np.where(right > 0, found, 1.0)


def query_upper(
    pairs: "ArrayLike",
    errors: "ArrayLike",
    delta: float,
    correlation: "ArrayLike",
    *,
    unseen: int | None = None,
) -> "Floats":
    """Return the upper bound of an error rate, one-sided at confidence 1 − delta, where pairs of a query are alike.

    Args:
        pairs: of each query, counts ≥ 0 of shape (…, Q).
        errors: of each query, of the same shape.
        delta: in (0, 0.5).
        correlation: of errors within a query, in [0, 1], of shape (…); see `correlation_of`.
        unseen: the promise is about the pairs of this many other queries, not about all that there could be.
    """
    import numpy as np

    sizes, wrong = np.asarray(pairs, dtype=np.float64), np.asarray(errors, dtype=np.float64)
    n, rate = sizes.sum(axis=-1), _rate(sizes, wrong)
    worth = effective_pairs(sizes, wrong, delta, correlation)
    if unseen is not None:
        worth = worth / (1 + (sizes > 0).sum(axis=-1) / unseen)
    return np.where(n > 0, binomial_upper(worth * rate, worth, delta), 1.0)


def effective_pairs(pairs: "Floats", errors: "Floats", delta: float, correlation: "ArrayLike") -> "Floats":
    """Return how many independent pairs these are worth, of shape (…); arguments as for `query_upper`."""
    import numpy as np
    from scipy.special import stdtrit

    n, queries = pairs.sum(axis=-1), effective_queries(pairs)
    implied = 1 + np.asarray(correlation) * (_mean_size(pairs) - 1)
    effect = np.maximum(np.maximum(_measured_effect(pairs, errors), implied), 1.0)
    few = queries <= 1
    safe = np.where(few, 2.0, queries)
    adjusted = (stdtrit(np.maximum(n - 1, 1.0), 1 - delta) / stdtrit(safe - 1, 1 - delta)) ** 2
    return np.where(few, 0.0, n / effect * np.minimum(adjusted, 1.0))


def correlation_of(pairs: "ArrayLike", errors: "ArrayLike") -> "Floats":
    """Return the correlation of errors within a query, in [0, 1], of shape (…); arguments as for `query_upper`.

    What makes the implied design effect the measured one. Without an error (or without anything else) nothing says how
    alike pairs of a query are: 1, each query is one witness.
    """
    import numpy as np

    sizes, wrong = np.asarray(pairs, dtype=np.float64), np.asarray(errors, dtype=np.float64)
    rate = _rate(sizes, wrong)
    more = _mean_size(sizes) - 1
    found = np.clip((_measured_effect(sizes, wrong) - 1) / np.where(more > 0, more, 1.0), 0.0, 1.0)
    return np.where((rate > 0) & (rate < 1), np.where(more > 0, found, 0.0), 1.0)


def effective_queries(pairs: "ArrayLike") -> "Floats":
    """Return Kish's effective number of queries, (Σn)² / Σn², of shape (…), for sizes of shape (…, Q)."""
    import numpy as np

    sizes = np.asarray(pairs, dtype=np.float64)
    squares = (sizes**2).sum(axis=-1)
    return np.where(squares > 0, sizes.sum(axis=-1) ** 2 / np.where(squares > 0, squares, 1.0), 0.0)


def queries_needed(alpha: float, delta: float) -> int:
    """Return the number of queries below which no promise can be made: ⌈ln δ / ln(1 − α)⌉.

    A judge may fail wholly on a share α of the queries. Of fewer queries than this, none of these is met with
    probability above δ, and then nothing that people said of the others tells of them.
    """
    return math.ceil(math.log(delta) / math.log1p(-alpha))


def _rate(pairs: "Floats", errors: "Floats") -> "Floats":
    import numpy as np

    n = pairs.sum(axis=-1)
    return np.where(n > 0, errors.sum(axis=-1) / np.where(n > 0, n, 1.0), 0.0)


def _mean_size(pairs: "Floats") -> "Floats":
    """Return the mean size of a pair's query, Σn² / Σn; 1 where there is no pair."""
    import numpy as np

    n = pairs.sum(axis=-1)
    return np.where(n > 0, (pairs**2).sum(axis=-1) / np.where(n > 0, n, 1.0), 1.0)


def _measured_effect(pairs: "Floats", errors: "Floats") -> "Floats":
    """Return the design effect of the rate: its jackknife variance over queries by that of as many independent pairs.

    1 where there is nothing to measure it by: no error, nothing but errors, fewer than two queries.
    """
    import numpy as np

    n, queries, rate = pairs.sum(axis=-1), (pairs > 0).sum(axis=-1), _rate(pairs, errors)
    rest = n[..., None] - pairs
    without = np.where(rest > 0, (errors - rate[..., None] * pairs) / np.where(rest > 0, rest, 1.0), 0.0)
    variance = (1 - 1 / np.maximum(queries, 1)) * (without**2).sum(axis=-1)
    there = (rate > 0) & (rate < 1) & (queries > 1)
    return np.where(there, variance * n / np.where(there, rate * (1 - rate), 1.0), 1.0)
