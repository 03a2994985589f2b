"""How far three and more judges agree with one another, where not all of them labelled every pair.

    words of the judges, query by query ─▶ Panel ─▶ patterns: how many queries have these very words
    patterns ─▶ resampled counts of kinds of pairs ─▶ coefficients.measure_many() ─▶ Together

Two pairs are of one kind where as many judges gave them each label: the figures do not ask who said what.
"""

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from types import MappingProxyType
from typing import TYPE_CHECKING, Any, Final

from relabel.agreement import CODES
from relabel.bootstrap import RESAMPLES, Figure, figure, merged, resampled
from relabel.coefficients import layers_of, measure_many
from relabel.records import LABELS

if TYPE_CHECKING:
    from numpy import float64, int64, uint8
    from numpy.typing import NDArray

    Floats = NDArray[float64]

_NO_LABEL: Final = CODES[None]


@dataclass(frozen=True, slots=True)
class Together:
    """How far all judges agree on the pairs that so many of them labelled.

    Attributes:
        judges: their names.
        at_least: labels that a pair must have to be counted here.
        n: pairs with so many labels; all figures rest on these.
        clusters: queries with at least one of them.
        by_labels: how many of the n pairs have 2, 3, … labels.
        given: labels of each judge on the n pairs.
        figures: by the names that `measure_many` gives them.
        labels: the K categories, in order.
    """

    judges: tuple[str, ...]
    at_least: int
    n: int
    clusters: int
    by_labels: Mapping[int, int]
    given: Mapping[str, int]
    figures: Mapping[str, Figure]
    labels: tuple[str, ...] = LABELS

    def to_json(self) -> dict[str, Any]:
        """Return plain dicts and lists, floats rounded to 6 decimals."""
        return {
            "judges": list(self.judges),
            "at_least": self.at_least,
            "n": self.n,
            "clusters": self.clusters,
            "by_labels": {str(number): count for number, count in self.by_labels.items()},
            "given": dict(self.given),
            "labels": list(self.labels),
            "figures": {name: figure.to_json() for name, figure in self.figures.items()},
        }


class Panel:
    """Collects, query by query, what any number of judges said of the same pairs.

    Memory holds one counter of the distinct words that queries have: equal queries are one. The order in which queries,
    and pairs within them, come does not change the result.

        panel = Panel(["small", "large", "human"])
        panel.add([(CODES["relevant"], CODES["partial"], NOT_ASKED)])    # one query, one pair
        panel.heard().together(seed=0)
    """

    def __init__(self, judges: Sequence[str], weights: Sequence[float] = (1.0,)) -> None:
        """Take in the judges' names and the weight of each stratum, as `agreement.Tally` does."""
        self._judges, self._weights = tuple(judges), tuple(weights)
        self._patterns: Counter[bytes] = Counter()

    @property
    def width(self) -> int:
        """How many judges there are."""
        return len(self._judges)

    def add(self, words: Sequence[Sequence[int]], strata: Sequence[int] | None = None) -> None:
        """Count one query. All its pairs must come in one call: the query is what gets resampled.

        Args:
            words: for each pair one code per judge, as for `agreement.Tally.add`. Pairs without a label are left out.
            strata: the stratum of each pair; all 0 where not given.

        Raises:
            ValueError: for another number of codes than judges.
        """
        if any(len(codes) != len(self._judges) for codes in words):
            raise ValueError(f"every pair needs {len(self._judges)} codes, one for each judge")
        spots = strata if strata is not None else (0,) * len(words)
        rows = [
            bytes((spot, *codes)) for codes, spot in zip(words, spots, strict=True) if min(codes) < _NO_LABEL
        ]  # fmt: skip
        if rows:
            self._patterns[b"".join(sorted(rows))] += 1

    def heard(self) -> "Heard":
        """Return all that was collected so far, laid out in arrays."""
        return Heard(self._judges, self._weights, self._patterns)


class Heard:
    """The words of a `Panel` in arrays.

    Attributes:
        judges: their names.
        times: for how many queries each pattern stands, of shape (patterns,).
    """

    def __init__(self, judges: tuple[str, ...], weights: tuple[float, ...], patterns: Mapping[bytes, int]) -> None:
        import numpy as np

        keys = sorted(patterns)
        width = len(judges) + 1
        self.judges, self._weights = judges, weights
        self.times: Floats = np.array([patterns[key] for key in keys], dtype=np.float64)
        self._owners: NDArray[int64] = np.repeat(np.arange(len(keys)), [len(key) // width for key in keys])
        self._rows: NDArray[uint8] = np.frombuffer(b"".join(keys), dtype=np.uint8).reshape(-1, width)

    @cached_property
    def _kinds(self) -> "tuple[NDArray[int64], NDArray[int64]]":
        """The distinct kinds of pairs (stratum, labels of each category), and the kind of each pair."""
        import numpy as np

        codes = self._rows[:, 1:]
        units = [self._rows[:, 0], *[(codes == code).sum(axis=1) for code in range(len(LABELS))]]
        kinds, places = np.unique(np.stack(units, axis=1).astype(np.int64), axis=0, return_inverse=True)
        return kinds, places.ravel()

    def words(self) -> "tuple[NDArray[uint8], NDArray[int64], NDArray[int64]]":
        """Return the distinct words of the judges (rows of codes), then of each pair its words and its pattern."""
        import numpy as np

        rows, places = np.unique(self._rows[:, 1:], axis=0, return_inverse=True)
        return rows, places.ravel(), self._owners

    def together(self, *, seed: int, at_least: int = 2, resamples: int = RESAMPLES) -> Together:
        """Return how far the judges agree on the pairs to which `at_least` of them gave a label.

        Pairs with fewer are left out of prevalences too: in a cascade they are another kind of pair, those that the
        first judge settled.

        Args:
            seed: of the dice. The same seed and numpy and the same words, in any order, give the same bits.
            at_least: from 1 on; pairs with one label count for prevalence only, as Gwet (2014) has it.
            resamples: how many; 0 for no intervals.
        """
        import numpy as np

        kinds, places = self._kinds
        enough = kinds[:, 1:].sum(axis=1) >= at_least
        counts = np.bincount(self._owners * len(kinds) + places, minlength=len(self.times) * len(kinds))
        patterns, repeats = merged(
            counts.reshape(len(self.times), len(kinds))[:, enough].astype(np.float64), self.times
        )
        kept = kinds[enough]
        most = max(2, len(self.judges))
        layers = layers_of(kept[:, 1:], most) * np.array(self._weights)[kept[:, 0], None, None, None]
        seen = repeats @ patterns
        point = measure_many(np.tensordot(seen, layers, axes=1))
        drawn = list(resampled(patterns, repeats, resamples, np.random.default_rng(seed)))
        draws = measure_many(np.tensordot(np.concatenate(drawn), layers, axes=1)) if drawn else {}
        labelled = kept[:, 1:].sum(axis=1)
        given = (self._rows[:, 1:] < _NO_LABEL) * (enough[places] * self.times[self._owners])[:, None]
        return Together(
            judges=self.judges,
            at_least=at_least,
            n=int(seen.sum()),
            clusters=int(repeats.sum()),
            by_labels={int(number): int(seen[labelled == number].sum()) for number in np.unique(labelled)},
            given=dict(zip(self.judges, given.sum(axis=0).astype(int).tolist(), strict=True)),
            figures=MappingProxyType(
                {name: figure(float(point[name]), [draws[name]] if draws else []) for name in point}
            ),
        )
