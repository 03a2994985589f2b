"""The formulas of agreement: of tables of two judges, and of units that any number of judges labelled.

Missing labels have no place in a table of two: a pair that one of them gave no label is neither agreement nor
disagreement. Of many judges a unit (pair) counts with the labels that it has: from two on it shows agreement.
All but agreement and prevalence are corrected for chance: 1 is perfect, 0 is chance, below 0 is worse than chance.
NaN stands for undefined.
"""

from collections.abc import Mapping, Sequence
from types import MappingProxyType
from typing import TYPE_CHECKING, Final, Literal

from relabel.records import LABELS

if TYPE_CHECKING:
    from numpy import float64
    from numpy.typing import ArrayLike, NDArray

    Floats = NDArray[float64]

Metric = Literal["nominal", "ordinal", "interval"]
"""How far two categories are apart for α: all alike, by the values ranked between them, by their places squared."""

Weights = Literal["identity", "linear", "quadratic", "ordinal"]
"""How much agreement two categories still are, in [0, 1]."""

METRICS: Final[tuple[Metric, ...]] = ("nominal", "ordinal", "interval")
PARTIAL: Final[tuple[Weights, ...]] = ("linear", "quadratic", "ordinal")
"""The weights of AC2."""

TITLES: Final[Mapping[str, str]] = MappingProxyType(
    {
        "agreement": "raw agreement",
        "kappa": "Cohen's κ",
        "kappa_linear": "Cohen's κ, linear weights",
        "kappa_quadratic": "Cohen's κ, quadratic weights",
        "kappa_relevant": "Cohen's κ, relevant against rest",
        "kappa_relevant_or_partial": "Cohen's κ, relevant or partial against rest",
        "fleiss_kappa": "Fleiss's κ",
        "pabak": "PABAK",
        "ac1": "Gwet's AC1",
        "ac2_linear": "Gwet's AC2, linear weights",
        "ac2_quadratic": "Gwet's AC2, quadratic weights",
        "ac2_ordinal": "Gwet's AC2, ordinal weights",
        "alpha_nominal": "Krippendorff's α, nominal",
        "alpha_ordinal": "Krippendorff's α, ordinal",
        "alpha_interval": "Krippendorff's α, interval",
        "mcc": "Matthews correlation",
        "mcc_relevant": "Matthews correlation, relevant against rest",
        "mcc_relevant_or_partial": "Matthews correlation, relevant or partial",
        "prevalence_first_relevant": "prevalence of relevant, first judge",
        "prevalence_second_relevant": "prevalence of relevant, second judge",
        "prevalence_relevant": "prevalence of relevant",
    }
)
"""What the figures of `measure` and `measure_many` are called where people read them, in the order to show them in."""


def measure(confusion: "ArrayLike", labels: Sequence[str] = LABELS) -> "dict[str, Floats]":
    """Return every figure of one table of two judges, or of many tables at once.

    - `agreement`: share of pairs with the same label, in [0, 1].
    - `kappa`, `kappa_linear`, `kappa_quadratic`: Cohen's, see `cohen_kappa`.
    - `kappa_relevant`, `kappa_relevant_or_partial`: κ of two classes: the first category, the first two, …
      against the rest.
    - `ac1`: Gwet's, see `gwet_ac`; barely moves with prevalence, where κ falls towards 0 when nearly all is one label.
    - `alpha_nominal`, `alpha_ordinal`, `alpha_interval`: Krippendorff's, see `krippendorff_alpha`.
    - `ac2_linear`, `ac2_quadratic`, `ac2_ordinal`: Gwet's with weights, see `similarity`.
    - `pabak`: see `pabak`.
    - `mcc`, `mcc_relevant`, `mcc_relevant_or_partial`: correlation of the labels, of all categories and of two classes
      as above, see `matthews`.
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
    size = len(labels)
    distance = np.abs(np.subtract.outer(np.arange(size), np.arange(size))).astype(np.float64)
    n = counts.sum(axis=(-2, -1))
    rows, columns = counts.sum(axis=-1), counts.sum(axis=-2)
    figures = {
        "agreement": ratio(np.trace(counts, axis1=-2, axis2=-1), n),
        "kappa": cohen_kappa(counts, distance > 0),
        "kappa_linear": cohen_kappa(counts, distance),
        "kappa_quadratic": cohen_kappa(counts, distance**2),
    }
    cuts = {"_or_".join(labels[:cut]): np.arange(size) < cut for cut in range(1, size)}
    figures |= {f"kappa_{name}": cohen_kappa(counts, above[:, None] != above) for name, above in cuts.items()}
    observed, pooled = ratio(counts, n[..., None, None]), ratio(rows + columns, 2 * n[..., None])
    figures["ac1"] = gwet_ac(observed, pooled)
    coincidences = counts + np.swapaxes(counts, -2, -1)
    figures |= {f"alpha_{metric}": krippendorff_alpha(coincidences, metric) for metric in METRICS}
    figures |= {f"ac2_{weights}": gwet_ac(observed, pooled, weights) for weights in PARTIAL}
    figures["pabak"] = pabak(figures["agreement"], size)
    figures["mcc"] = matthews(counts)
    for name, above in cuts.items():
        classes = np.stack([above, ~above]).astype(np.float64)
        figures[f"mcc_{name}"] = matthews(classes @ counts @ classes.T)
    for index, label in enumerate(labels):
        figures[f"prevalence_first_{label}"] = ratio(rows[..., index], n)
        figures[f"prevalence_second_{label}"] = ratio(columns[..., index], n)
        figures[f"prevalence_{label}"] = ratio((rows + columns)[..., index], 2 * n)
    return figures


def measure_many(layers: "ArrayLike", labels: Sequence[str] = LABELS) -> "dict[str, Floats]":
    """Return every figure of units that any number of judges labelled, some of them not all.

    Gwet (2014), Handbook of Inter-Rater Reliability (4th ed.), ch. 2–4: agreement is that of two judges drawn of those
    who labelled the unit, over units with two labels or more; prevalence is over units with a label.

    - `agreement`: chance in [0, 1] that two judges of a unit say the same.
    - `fleiss_kappa`: Fleiss's κ, see `fleiss_kappa`.
    - `ac1`, `ac2_…`, `alpha_…`, `pabak`: as in `measure`.
    - `prevalence_X`: share of label X, every unit counting the same.

    Args:
        layers: counts of shape (…, R, K, K): in layer r (from 1) the sum, over the units with r labels, of how many
            ordered pairs of their labels are (k, l): rₖ rₗ, for k = l rₖ (rₖ − 1). In layer 1, which has no pairs,
            the labels themselves stand on the diagonal. See `layers_of`.
        labels: the K categories in their order; they name the figures.

    Returns:
        Arrays of shape (…).
    """
    import numpy as np

    counts = np.asarray(layers, dtype=np.float64)
    size, most = len(labels), counts.shape[-3]
    given = np.arange(1, most + 1, dtype=np.float64)[:, None, None]  # labels of the units of each layer
    pairs = counts[..., 1:, :, :]
    shares = (pairs / (given * (given - 1))[1:]).sum(axis=-3)  # Σ over units of the share of each pair of labels
    pairable = shares.sum(axis=(-2, -1))
    single = np.diagonal(counts[..., 0, :, :], axis1=-2, axis2=-1)
    held = shares.sum(axis=-1) + single
    pooled = ratio(held, held.sum(axis=-1)[..., None])
    observed = ratio(shares, pairable[..., None, None])
    agreement = np.trace(observed, axis1=-2, axis2=-1)
    figures = {"agreement": agreement, "fleiss_kappa": fleiss_kappa(observed, pooled)}
    figures["ac1"] = gwet_ac(observed, pooled)
    coincidences = (pairs / (given - 1)[1:]).sum(axis=-3)
    figures |= {f"alpha_{metric}": krippendorff_alpha(coincidences, metric) for metric in METRICS}
    figures |= {f"ac2_{weights}": gwet_ac(observed, pooled, weights) for weights in PARTIAL}
    figures["pabak"] = pabak(agreement, size)
    return figures | {f"prevalence_{label}": pooled[..., index] for index, label in enumerate(labels)}


def layers_of(units: "ArrayLike", most: int) -> "Floats":
    """Return what each unit adds to the layers of `measure_many`, of shape (units, most, K, K).

    Args:
        units: of shape (units, K): how many judges gave the unit each label.
        most: the number of layers: no unit has more labels.
    """
    import numpy as np

    counts = np.asarray(units, dtype=np.float64)
    number, size = counts.shape
    labelled = counts.sum(axis=1).astype(np.int64)
    diagonal = counts[:, :, None] * np.eye(size)
    pairs = counts[:, :, None] * counts[:, None, :] - diagonal
    layers = np.zeros((number, most, size, size))
    some = np.flatnonzero(labelled)
    layers[some, labelled[some] - 1] = np.where((labelled == 1)[some, None, None], diagonal[some], pairs[some])
    return layers


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
    result: Floats = 1 - ratio(observed, expected)
    return result


def fleiss_kappa(observed: "Floats", pooled: "Floats") -> "Floats":
    """Return Fleiss's κ, at most 1: (pₒ − pₑ) / (1 − pₑ) with pₑ = Σ πₖ²; of two judges it is Scott's π.

    Fleiss (1971), Psychological Bulletin 76(5), 378–382. NaN where there are no pairs of labels, or one category only.

    Args:
        observed: shares of each two labels of a unit, of shape (…, K, K), summing to 1.
        pooled: prevalence π of each label, of shape (…, K).
    """
    import numpy as np

    apart = 1 - np.eye(observed.shape[-1])
    chance = (pooled[..., :, None] * pooled[..., None, :] * apart).sum(axis=(-2, -1))
    result: Floats = 1 - ratio((observed * apart).sum(axis=(-2, -1)), chance)
    return result


def gwet_ac(observed: "Floats", pooled: "Floats", weights: Weights = "identity") -> "Floats":
    """Return Gwet's AC1, or AC2 with weights, at most 1: (pₒ − pₑ) / (1 − pₑ).

    pₒ = Σ wₖₗ pₖₗ and pₑ = Σ wₖₗ / (K (K − 1)) · Σ πₖ (1 − πₖ), which is Σ πₖ (1 − πₖ) / (K − 1) without weights.
    Gwet (2008), British Journal of Mathematical and Statistical Psychology 61(1), 29–48; with weights Gwet (2014),
    Handbook of Inter-Rater Reliability (4th ed.), ch. 4. K counts the categories on offer, used or not. NaN only where
    there are no pairs of labels (or K = 1); where all know one word only it is 1.

    Args:
        observed: shares of each two labels of a unit, of shape (…, K, K), summing to 1.
        pooled: prevalence π of each label, of shape (…, K).
        weights: how much agreement two labels are.
    """
    import numpy as np

    size = observed.shape[-1]
    table = similarity(weights, size)
    spread = (pooled * (1 - pooled)).sum(axis=-1)
    chance = ratio(table.sum() * spread, np.float64(size * (size - 1)))
    return ratio((table * observed).sum(axis=(-2, -1)) - chance, 1 - chance)


def similarity(weights: Weights, size: int) -> "Floats":
    """Return how much agreement each two of `size` ordered categories are, in [0, 1], of shape (size, size).

    Gwet (2014), ch. 3, with d places between two categories: linear 1 − d / (K − 1), quadratic 1 − d² / (K − 1)²,
    ordinal 1 − d (d + 1) / (K (K − 1)); identity: 1 for the same.
    """
    import numpy as np

    places = np.abs(np.subtract.outer(np.arange(size), np.arange(size))).astype(np.float64)
    if weights == "identity":
        return np.eye(size)
    if weights == "ordinal":
        places = places * (places + 1)
    elif weights == "quadratic":
        places = places**2
    result: Floats = 1 - places / max(places.max(), 1.0)
    return result


def pabak(agreement: "Floats", size: int) -> "Floats":
    """Return the prevalence- and bias-adjusted κ, in [−1 / (K − 1), 1]: (K pₒ − 1) / (K − 1), for two classes 2 pₒ − 1.

    Byrt, Bishop & Carlin (1993), Journal of Clinical Epidemiology 46(5), 423–429; for more than two categories it is
    Brennan & Prediger (1981), Educational and Psychological Measurement 41(3), 687–699. It says what the agreement
    says, on the scale of κ. NaN where there are no pairs (or K = 1).
    """
    return ratio(size * agreement - 1, float(size - 1))


def matthews(confusion: "Floats") -> "Floats":
    """Return Matthews's correlation coefficient, in [−1, 1]; of more than two categories Gorodkin's R_K.

    (n Σ nₖₖ − Σ nₖ. n.ₖ) / √((n² − Σ nₖ.²) (n² − Σ n.ₖ²)). Matthews (1975), Biochimica et Biophysica Acta 405(2),
    442–451; Gorodkin (2004), Computational Biology and Chemistry 28(5–6), 367–374. NaN where one judge is constant, or
    there are no pairs: what does not vary does not correlate.

    Args:
        confusion: counts of shape (…, K, K).
    """
    import numpy as np

    n = confusion.sum(axis=(-2, -1))
    rows, columns = confusion.sum(axis=-1), confusion.sum(axis=-2)
    together = n * np.trace(confusion, axis1=-2, axis2=-1) - (rows * columns).sum(axis=-1)
    spreads = (n**2 - (rows**2).sum(axis=-1)) * (n**2 - (columns**2).sum(axis=-1))
    return ratio(together, np.sqrt(np.maximum(spreads, 0)))


def krippendorff_alpha(coincidences: "Floats", metric: Metric = "nominal") -> "Floats":
    """Return Krippendorff's α, at most 1: 1 − (N − 1) Σ oₖₗ δₖₗ / Σ nₖ nₗ δₖₗ.

    Krippendorff, Content Analysis (4th ed. 2019), ch. 12. nₖ are the margins of o, N their sum. δ is 1 for different
    categories (nominal), the square of their places (interval) or, ordinal, of the ranks between them:
    (Σ nₘ over m from k to l, less (nₖ + nₗ) / 2)², which is the distance of the middles of their ranks.
    NaN where all values are one category, and where there are none: without variation there is nothing to rely on.

    Args:
        coincidences: o of shape (…, K, K): of each unit with m ≥ 2 labels every ordered pair of them, 1 / (m − 1) each;
            of a table of two judges it is the table plus its transpose.
        metric: how far categories are apart.
    """
    import numpy as np

    margins = coincidences.sum(axis=-1)
    total = margins.sum(axis=-1)
    if metric == "nominal":
        delta = 1 - np.eye(margins.shape[-1])
    else:
        places = np.arange(margins.shape[-1], dtype=np.float64)
        middles = places if metric == "interval" else np.cumsum(margins, axis=-1) - margins / 2
        delta = (middles[..., :, None] - middles[..., None, :]) ** 2
    observed = (coincidences * delta).sum(axis=(-2, -1))
    expected = (margins[..., :, None] * margins[..., None, :] * delta).sum(axis=(-2, -1))
    # Fractional counts may add up to less than one value more than there is to compare: undefined as well.
    result: Floats = 1 - np.where(total > 1, total - 1, np.nan) * ratio(observed, expected)
    return result


def ratio(above: "ArrayLike", below: "ArrayLike") -> "Floats":
    """Divide; NaN, and no warning, where the divisor is 0 or unknown."""
    import numpy as np

    divisor = np.asarray(below, dtype=np.float64)
    result: Floats = np.asarray(above, dtype=np.float64) / np.where(divisor > 0, divisor, np.nan)
    return result
