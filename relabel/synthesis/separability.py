"""Can a classifier that never sees the query tell synthetic passages from mined ones?

    passage ─▶ style figures, hashed words and characters (and its embedding) ─▶ logistic regression,
    cross-validated by query ─▶ AUC with its interval over queries

Where it can, a retriever that is trained on both can lower its loss by learning who wrote a passage in place of what
it says: a source-dependent shortcut (arXiv 2606.01304). 0.5 is chance. An AUC below `LIMIT` is no proof that a stronger
classifier sees nothing either.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Final

from relabel.bootstrap import Figure, rounded
from relabel.records import chance
from relabel.synthesis.artefacts import Artefact, artefacts
from relabel.synthesis.features import STYLE, hashed, style
from relabel.synthesis.ranks import clustered_auc, dealt

if TYPE_CHECKING:
    from numpy import bool_, float32, float64, int64
    from numpy.typing import NDArray

    Floats = NDArray[float64]
    Flags = NDArray[bool_]

LIMIT: Final = 0.65
"""The AUC above which there is a warning."""

FOLDS: Final = 5
WIDER: Final = 1 + FOLDS / (FOLDS - 1)
"""What the variance of a cross-validated AUC is multiplied by (Nadeau & Bengio 2003, Inference for the Generalization
Error, Machine Learning 52, 239–281: 1 / k + n_test / n_train in place of 1 / k). Folds are no independent trials, since
each trains on the others: where there is nothing to learn, whatever two passages of different folds have in common
counts twice, once either way, so that the variance is about 2 times that of independent folds."""

LEAST: Final = 10
"""Passages of each kind, and queries, below which nothing is said."""

MOST: Final = 20_000
"""Passages that are looked at: whole queries, drawn by dice, where there are more."""

PENALTY: Final = 0.001
"""Of the squared length of the weights, half, beside the mean loss."""


@dataclass(frozen=True, slots=True)
class Style:
    """One style figure of both kinds.

    Attributes:
        name: of `features.STYLE`.
        synthetic: median over the synthetic passages.
        mined: median over the mined ones.
        auc: how well this figure alone tells them apart, > 0.5 = higher in synthetic ones; interval over queries.
    """

    name: str
    synthetic: float
    mined: float
    auc: Figure

    @property
    def difference(self) -> float:
        """Median of the synthetic passages less that of the mined ones."""
        return self.synthetic - self.mined

    def to_json(self) -> dict[str, Any]:
        """Return a plain dict; floats rounded to 6 decimals."""
        medians = {"synthetic": rounded(self.synthetic), "mined": rounded(self.mined)}
        return {"name": self.name, **medians, "difference": rounded(self.difference), "auc": self.auc.to_json()}


@dataclass(frozen=True, slots=True)
class Separability:
    """How far synthetic passages can be told from mined ones by the text alone.

    Attributes:
        auc: of the cross-validated classifier, 0.5 = chance, 1 = always; 95 % interval over queries. No value where
            there are fewer than `LEAST` queries or passages of a kind.
        synthetic: synthetic passages that were looked at.
        mined: mined ones.
        queries: theirs.
        left_out: passages beyond `MOST`.
        style: style figures, those that tell them apart best first.
        artefacts: words that give one kind away, see `artefacts`.
        words: how many words were tested for that.
        embedded: whether the classifier saw embeddings, too.
    """

    auc: Figure
    synthetic: int
    mined: int
    queries: int
    left_out: int
    style: tuple[Style, ...]
    artefacts: tuple[Artefact, ...]
    words: int
    embedded: bool

    @property
    def warning(self) -> str:
        """What to say aloud; "" where the AUC is `LIMIT` or less, or unknown."""
        if self.auc.value is None or self.auc.value <= LIMIT:
            return ""
        return (
            f"without seeing the query, a classifier tells synthetic from mined negatives (AUC {_written(self.auc)};"
            " .5 is chance): a model trained on them can learn who wrote a passage in place of what it says"
        )

    @property
    def note(self) -> str:
        """Why the AUC says less than it seems to; "" where it does not."""
        if self.auc.value is None:
            return (
                f"too few to tell: {self.synthetic} synthetic and {self.mined} mined passages of {self.queries}"
                f" queries, where {LEAST} of each are needed"
            )
        if self.auc.value <= LIMIT < (self.auc.high or 1.0):
            return f"too few to rule out an AUC above {LIMIT:.2f}: {_written(self.auc)}"
        return ""

    def to_json(self) -> dict[str, Any]:
        """Return plain dicts and lists; floats rounded to 6 decimals."""
        return {
            "auc": self.auc.to_json(),
            "limit": LIMIT,
            "warning": self.warning,
            "note": self.note,
            "synthetic": self.synthetic,
            "mined": self.mined,
            "queries": self.queries,
            "left_out": self.left_out,
            "embedded": self.embedded,
            "style": [each.to_json() for each in self.style],
            "words_tested": self.words,
            "artefacts": [each.to_json() for each in self.artefacts],
        }


def separability(
    texts: Sequence[str],
    synthetic: Sequence[bool],
    queries: Sequence[str],
    *,
    vectors: "Floats | NDArray[float32] | None" = None,
    seed: int = 42,
    most: int = MOST,
) -> Separability:
    """Tell synthetic from mined passages by their text alone, and say what gives them away.

    The same input gives the same result, in whatever order queries come.

    Args:
        texts: the passages as a model is trained on them, title and text; each once per query.
        synthetic: whether each is synthetic; mined otherwise.
        queries: the query (its id or text) of each; its passages are never in training and test at once.
        vectors: embeddings of the passages, shape (passages, dimensions), for the classifier to see as well.
        seed: of the folds, and of who is drawn.
        most: passages to look at.

    Raises:
        ValueError: the arguments differ in length.
    """
    import numpy as np

    lengths = {len(texts), len(synthetic), len(queries), len(texts) if vectors is None else len(vectors)}
    if len(lengths) > 1:
        raise ValueError(f"texts, synthetic, queries and vectors of different lengths: {sorted(lengths)}")
    chosen = _chosen(texts, queries, most, seed)
    texts, queries = [texts[place] for place in chosen], [queries[place] for place in chosen]
    flags = np.array([bool(synthetic[place]) for place in chosen], dtype=np.bool_)
    distinct = {query: number for number, query in enumerate(dict.fromkeys(queries))}
    clusters = np.array([distinct[query] for query in queries], dtype=np.int64)
    styles = style(texts)
    enough = min(int(flags.sum()), int((~flags).sum()), len(distinct)) >= LEAST
    auc = Figure(None)
    if enough:
        seen = None if vectors is None else np.asarray(vectors, dtype=np.float64)[chosen]
        auc = _cross_validated(_design(texts, styles, seen), flags, clusters, dealt(queries, FOLDS, seed))
    found, words = artefacts(texts, flags, queries) if enough else ([], 0)
    return Separability(
        auc=auc,
        synthetic=int(flags.sum()),
        mined=int((~flags).sum()),
        queries=len(distinct),
        left_out=len(synthetic) - len(chosen),
        style=_styles(styles, flags, clusters),
        artefacts=tuple(found),
        words=words,
        embedded=vectors is not None,
    )


def luck(query: str, seed: int) -> tuple[float, str]:
    """Return what decides which queries are looked at, where there are too many: those with the lowest."""
    return chance("separability", str(seed), query), query


def _written(auc: Figure) -> str:
    ends = "" if auc.low is None else f" ({auc.low:.2f}–{auc.high:.2f})"
    return f"{auc.value:.2f}{ends}"


def _chosen(texts: Sequence[str], queries: Sequence[str], most: int, seed: int) -> list[int]:
    """Return the places of the passages that are looked at, in an order that does not depend on theirs."""
    drawn: dict[str, list[int]] = {}
    for place, query in enumerate(queries):
        drawn.setdefault(query, []).append(place)
    chosen: list[int] = []
    for query in sorted(drawn, key=lambda query: luck(query, seed)):
        if chosen and len(chosen) + len(drawn[query]) > most:
            break
        chosen += sorted(drawn[query], key=lambda place: texts[place])
    return chosen


def _styles(styles: "Floats", flags: "Flags", clusters: "NDArray[int64]") -> tuple[Style, ...]:
    """Return the style figures of both kinds; none where one kind is missing."""
    import numpy as np

    if not flags.any() or flags.all():
        return ()
    one_fold = np.zeros(len(flags), dtype=np.int64)
    made = [
        Style(
            name,
            float(np.median(styles[flags, column])),
            float(np.median(styles[~flags, column])),
            clustered_auc(styles[:, column], flags, clusters, one_fold),
        )
        for column, name in enumerate(STYLE)
    ]
    return tuple(sorted(made, key=lambda each: -abs((each.auc.value or 0.5) - 0.5)))


def _design(texts: Sequence[str], styles: "Floats", vectors: "Floats | None") -> Any:
    """Return what the classifier sees: blocks side by side, each of rows about as long as any other's."""
    import numpy as np
    from scipy.sparse import csr_array, hstack

    blocks = [hashed(texts), _scaled(np.log1p(styles))]
    if vectors is not None:
        blocks.append(_scaled(vectors))
    return csr_array(hstack([csr_array(block) for block in blocks]))


def _scaled(columns: "Floats") -> "Floats":
    """Return columns with mean 0 and variance 1, cut off at ±3, over the root of their number."""
    import numpy as np

    spread = columns.std(axis=0)
    standard = np.divide(columns - columns.mean(axis=0), spread, out=np.zeros_like(columns), where=spread > 0)
    scaled: Floats = np.clip(standard, -3, 3) / max(columns.shape[1], 1) ** 0.5
    return scaled


def _cross_validated(design: Any, flags: "Flags", clusters: "NDArray[int64]", folds: "NDArray[int64]") -> Figure:
    import numpy as np

    scores = np.zeros(len(flags))
    for fold in range(FOLDS):
        training, test = folds != fold, folds == fold
        if test.any() and len(set(flags[training].tolist())) == 2:
            scores[test] = design[test] @ _weights(design[training], flags[training])
    return clustered_auc(scores, flags, clusters, folds, wider=WIDER)


def _weights(design: Any, flags: "Flags") -> "Floats":
    """Fit a logistic regression with a ridge penalty, both kinds weighing the same; returns weights, no intercept.

    An intercept shifts all numbers of a fold alike, which an AUC does not see; it is fitted all the same, so that the
    weights need not stand in for it.
    """
    import numpy as np
    from scipy.optimize import minimize
    from scipy.special import expit

    signs = np.where(flags, 1.0, -1.0)
    shares = np.where(flags, 0.5 / flags.sum(), 0.5 / (~flags).sum())

    def loss(weights: "Floats") -> "tuple[float, Floats]":
        margins = signs * (design @ weights[:-1] + weights[-1])
        pull = -shares * signs * expit(-margins)
        value = float(shares @ np.logaddexp(0, -margins)) + PENALTY / 2 * float(weights[:-1] @ weights[:-1])
        return value, np.append(design.T @ pull + PENALTY * weights[:-1], pull.sum())

    def curvature(weights: "Floats", direction: "Floats") -> "Floats":
        chances = expit(design @ weights[:-1] + weights[-1])
        bent = shares * chances * (1 - chances) * (design @ direction[:-1] + direction[-1])
        return np.append(design.T @ bent + PENALTY * direction[:-1], bent.sum())

    start = np.zeros(design.shape[1] + 1)
    found = minimize(loss, start, jac=True, hessp=curvature, method="Newton-CG", options={"xtol": 1e-6})
    weights: Floats = found.x[:-1]
    return weights
