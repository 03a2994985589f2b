"""How well a number ranks one kind above the other: area under the ROC curve, with an interval over queries.

The AUC is the probability that one of the first kind has a higher number than one of the second, ties counted half; 0.5
is chance. Passages of one query are not independent, so the variance is summed over queries: every query's influence is
the sum of its passages' structural components (DeLong et al. 1988, Biometrics 44, 837–845; for clusters Obuchowski
1997, Biometrics 53, 567–578), here with one count of clusters, G / (G − 1).
"""

from collections.abc import Sequence
from typing import TYPE_CHECKING

from relabel.bootstrap import LEVEL, Figure

if TYPE_CHECKING:
    from numpy import bool_, float64, int64
    from numpy.typing import NDArray

    Floats = NDArray[float64]
    Flags = NDArray[bool_]
    Numbers = NDArray[int64]


def clustered_auc(
    scores: "Floats", positive: "Flags", clusters: "Numbers", folds: "Numbers", *, wider: float = 1.0
) -> Figure:
    """Return the AUC with its 95 % interval over clusters.

    Numbers are compared within a fold only, since each fold has a classifier of its own; folds are averaged with the
    pairs that they compare. The interval is one of Student's t on the log-odds of the AUC, with as many degrees of
    freedom as there are clusters less one in each fold. An AUC of exactly 1 or 0 shows no variance: there the interval
    is what Clopper and Pearson (1934) give for as many successes in a row as there are clusters.

    Args:
        scores: a number per passage, shape (n,); higher = more likely of the first kind.
        positive: whether it is of the first kind, shape (n,).
        clusters: its cluster (query), shape (n,); a cluster lies in one fold.
        folds: its fold, shape (n,).
        wider: what the variance is multiplied by; more than 1 where the numbers of the folds hang together.

    Returns:
        A value in [0, 1]; None where no fold has both kinds. No interval for fewer than two clusters.
    """
    import numpy as np
    from scipy.special import expit, logit
    from scipy.stats import t

    parts = []
    for fold in np.unique(folds):
        chosen = folds == fold
        if len(set(positive[chosen].tolist())) == 2:
            parts.append(_fold(scores[chosen], positive[chosen], clusters[chosen]))
    if not parts:
        return Figure(None)
    pairs, values, variances, freedom = (np.array(each, dtype=np.float64) for each in zip(*parts, strict=True))
    shares = pairs / pairs.sum()
    value = round(float(shares @ values), 12)  # shares of 1 add up to 1 but for an ulp, and 1 is an edge
    variance = wider * float(shares**2 @ variances)
    if freedom.sum() < 1 or not np.isfinite(variance):
        return Figure(value)
    if value in {0.0, 1.0}:
        edge = ((1 - LEVEL) / 2) ** (1 / float((freedom + 1).sum()))
        return Figure(value, *((edge, 1.0) if value else (0.0, 1 - edge)))
    reach = float(t.ppf((1 + LEVEL) / 2, freedom.sum())) * variance**0.5 / (value * (1 - value))
    return Figure(value, float(expit(logit(value) - reach)), float(expit(logit(value) + reach)))


def _fold(scores: "Floats", positive: "Flags", clusters: "Numbers") -> tuple[float, float, float, float]:
    """Return (pairs compared, AUC, its variance, clusters − 1) of one fold with both kinds."""
    import numpy as np
    from scipy.stats import rankdata

    first, second = int(positive.sum()), int((~positive).sum())
    ranks = rankdata(scores)
    within = np.empty(len(scores))
    within[positive], within[~positive] = rankdata(scores[positive]), rankdata(scores[~positive])
    # of each passage, the share of the other kind that it beats (the first kind), or that beats it (the second)
    placements = np.where(positive, (ranks - within) / second, 1 - (ranks - within) / first)
    value = float(placements[positive].mean())
    influence = (placements - value) / np.where(positive, first, second)
    _, places = np.unique(clusters, return_inverse=True)
    sums = np.bincount(places.ravel(), weights=influence)
    count = len(sums)
    variance = float(count / (count - 1) * (sums**2).sum()) if count > 1 else float("nan")
    return first * second, value, variance, count - 1


def dealt(keys: Sequence[str], folds: int, seed: int) -> "Numbers":
    """Deal clusters to folds, as evenly as they go: shape (n,), the fold of each passage. The order is one of dice."""
    import numpy as np

    from relabel.records import chance

    order = sorted(set(keys), key=lambda key: (chance("fold", str(seed), key), key))
    places = {key: place % folds for place, key in enumerate(order)}
    return np.array([places[key] for key in keys], dtype=np.int64)
