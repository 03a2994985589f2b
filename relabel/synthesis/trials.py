"""What a comparison of negatives is made of: who is trained on what, drawn by dice, and how rankings are scored.

All arms are trained on the same rows, each row with the same number of negatives; only where these come from differs.
"""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Final, Literal

from relabel.bootstrap import LEVEL, RESAMPLES, Figure, rounded
from relabel.records import chance

if TYPE_CHECKING:
    from numpy import float64, int64
    from numpy.typing import NDArray

    Floats = NDArray[float64]

Source = Literal["random", "mined", "synthetic", "mixed"]
SOURCES: Final[tuple[Source, ...]] = ("random", "mined", "synthetic", "mixed")
"""Where an arm's negatives come from: drawn from the collection, the mined ones, the synthetic ones, half of each."""

UNTRAINED: Final = "untrained"
BASE: Final[Source] = "mined"
"""The arm that all others are held against."""

CUTOFF: Final = 10


@dataclass(frozen=True, slots=True)
class Row:
    """One training query with what it may be trained on; passages by number.

    Attributes:
        query: number of the query.
        positives: its positives.
        mined: its mined negatives.
        synthetic: its synthetic ones.
        random: passages drawn from the collection for it.
    """

    query: int
    positives: tuple[int, ...]
    mined: tuple[int, ...]
    synthetic: tuple[int, ...]
    random: tuple[int, ...]


@dataclass(frozen=True, slots=True)
class Lesson:
    """A query with one positive and the negatives it is trained on; `known` are all its positives."""

    query: int
    positive: int
    negatives: tuple[int, ...]
    known: frozenset[int]


def lessons(rows: Iterable[Row], source: Source, budget: int, seed: int) -> list[Lesson]:
    """Draw for every row a positive and `budget` negatives from a source; the positive is the same in every arm.

    Of an odd budget the mixed arm draws the odd one from either side, row by row.

    Raises:
        ValueError: a row has fewer than are drawn.
    """
    made = []
    for row in rows:
        dice = (str(seed), str(row.query))
        positive = _drawn(row.positives, 1, *dice, "positive")[0]
        made.append(Lesson(row.query, positive, _negatives(row, source, budget, dice), frozenset(row.positives)))
    return made


def _negatives(row: Row, source: Source, budget: int, dice: tuple[str, ...]) -> tuple[int, ...]:
    if source == "mixed":
        written = budget // 2 + (budget % 2 and chance("odd", *dice) < 0.5)
        mined = _drawn(row.mined, budget - written, *dice, "mined")
        return mined + _drawn(row.synthetic, written, *dice, "synthetic")
    pools = {"random": row.random, "mined": row.mined, "synthetic": row.synthetic}
    return _drawn(pools[source], budget, *dice, source)


def _drawn(numbers: Sequence[int], count: int, *dice: str) -> tuple[int, ...]:
    if len(numbers) < count:
        raise ValueError(f"{count} of {len(numbers)} cannot be drawn")
    return tuple(sorted(numbers, key=lambda number: chance("trial", *dice, str(number)))[:count])


def gains(ranked: Sequence[int], relevant: Iterable[int]) -> float:
    """Return nDCG at the length of a ranking's head: Σ 1 / log₂(1 + rank) of the relevant, over the best possible.

    Järvelin & Kekäläinen 2002, ACM TOIS 20(4), 422–446, with gains of 0 and 1. In [0, 1], higher is better.

    Args:
        ranked: the best `CUTOFF` passages, best first.
        relevant: all that are relevant, at least one.
    """
    from math import log2

    wanted = set(relevant)
    found = sum(1 / log2(2 + place) for place, number in enumerate(ranked[:CUTOFF]) if number in wanted)
    return found / sum(1 / log2(2 + place) for place in range(min(len(wanted), CUTOFF)))


def best(scores: "Floats", numbers: "NDArray[int64]", count: int) -> "NDArray[int64]":
    """Return places of the `count` highest scores in each row, best first; equal ones by number.

    Args:
        scores: shape (queries, candidates).
        numbers: of the candidates, shape (queries, candidates).
        count: how many; all where there are fewer.
    """
    import numpy as np

    order: NDArray[int64] = np.lexsort((numbers, -scores), axis=-1)[:, :count]
    return order


def crossed(values: "Floats", *, seed: int) -> Figure:
    """Return a mean over seeds and queries with its interval over both.

    Seeds and queries are drawn with replacement, each for itself (Owen 2007, The Pigeonhole Bootstrap, Annals of
    Applied Statistics 1(2), 386–411; if anything the interval is too wide). With one seed it is over queries alone.

    Args:
        values: shape (seeds, queries).
        seed: of the dice.
    """
    import numpy as np

    if not values.size:
        return Figure(None)
    seeds, queries = values.shape
    if queries < 2:
        return Figure(float(values.mean()))
    rng = np.random.default_rng(seed)
    draws = np.empty(RESAMPLES)
    for place in range(RESAMPLES):
        one = values[rng.integers(seeds, size=seeds)].mean(axis=0)
        draws[place] = one[rng.integers(queries, size=queries)].mean()
    low, high = np.quantile(draws, [(1 - LEVEL) / 2, (1 + LEVEL) / 2])
    return Figure(float(values.mean()), float(low), float(high))


@dataclass(frozen=True, slots=True)
class Arm:
    """How a retriever does that was trained on negatives of one source.

    Attributes:
        name: "untrained", or one of `SOURCES`.
        ndcg: nDCG@10 on the dev set, mean over seeds and queries, in [0, 1]; 95 % interval over both.
        by_seed: the mean over queries for each seed; one value where nothing was drawn.
        difference: to the arm on mined negatives, paired by query and seed, > 0 = better; None for that arm itself.
    """

    name: str
    ndcg: Figure
    by_seed: tuple[float, ...]
    difference: Figure | None

    def to_json(self) -> dict[str, Any]:
        """Return plain JSON; floats rounded to 6 decimals."""
        return {
            "name": self.name,
            "ndcg": self.ndcg.to_json(),
            "by_seed": [rounded(each) for each in self.by_seed],
            "difference": None if self.difference is None else self.difference.to_json(),
        }


def compared(scores: "dict[str, Floats]", *, seed: int) -> tuple[Arm, ...]:
    """Hold every arm against the one on mined negatives.

    Args:
        scores: by arm, `BASE` among them, nDCG of shape (seeds, queries); one row for the arm that is not trained.
        seed: of the dice.
    """
    base = scores[BASE]
    return tuple(
        Arm(
            name,
            crossed(values, seed=seed),
            tuple(float(each) for each in values.mean(axis=1)),
            None if name == BASE else crossed(values - base, seed=seed),
        )
        for name, values in scores.items()
    )
