"""What is true, where nobody knows, by three and more judges: Dawid and Skene's estimate of labels and of errors.

Dawid & Skene (1979), Applied Statistics 28(1), 20–28: every pair has a true label, drawn by the prevalence; every judge
errs on it by a table of its own, whatever the others say. Expectation maximisation finds the prevalence and the tables
under which the words heard are the most likely. Judges that err alike (the same base model, the same prompt) break the
assumption: their common errors look like truth.

That a judge was not asked is no problem, as long as it follows from words of the others, which the estimate knows: a
cascade that sends up what the judge before called relevant. Where it follows from a probability, or from the pair
itself, the tables are those of the pairs that the judge saw.

Own code, since the libraries that have it want a row for each word of each judge: a run of a million pairs has some
sixty different sets of words, which is all that the estimate needs.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Final

from relabel.agreement import CODES
from relabel.bootstrap import Figure, figure, resampled, rounded
from relabel.coefficients import ratio
from relabel.raters import Heard
from relabel.records import LABELS

if TYPE_CHECKING:
    from numpy import float64
    from numpy.typing import ArrayLike, NDArray

    Floats = NDArray[float64]

RESAMPLES: Final = 200
STILL: Final = 1e-6
ROUNDS: Final = 2000
"""An estimate that moves by less than this has converged; where it does not, it ends after so many rounds."""

NEARLY_STILL: Final = 1e-4
FEW_ROUNDS: Final = 100
"""Likewise of a resample, of which no more is wanted than where it lies among the others."""

LISTED: Final = 100
"""So many sets of words, the most frequent ones, are listed with what they mean."""

_NEVER: Final = 1e-12


@dataclass(frozen=True, slots=True)
class Estimate:
    """Where expectation maximisation came to.

    Attributes:
        prevalence: share of each true label, of shape (…, K).
        errors: how likely judge j says l where the truth is k, of shape (…, judges, K, K); NaN where no pair that the
            judge labelled is held for a k.
        posterior: how likely each unit is of each true label, of shape (…, units, K).
        converged: whether its last round moved nothing by more than it was told.
    """

    prevalence: "Floats"
    errors: "Floats"
    posterior: "Floats"
    converged: bool


def estimate(
    said: "ArrayLike",
    times: "ArrayLike",
    *,
    start: "ArrayLike | None" = None,
    still: float = STILL,
    rounds: int = ROUNDS,
) -> Estimate:
    """Estimate true labels, their prevalence, and the errors of every judge.

    Args:
        said: of shape (units, judges, K): how often a judge gave the unit a label, 0 everywhere where it gave none.
            Every unit has a label.
        times: how many pairs each unit stands for, of shape (units,), or (…, units) for many data sets at once.
        start: posteriors to begin with, of shape (…, units, K); the shares of the votes where not given, as in the
            paper (3.1), which also decides which of the estimated classes is which label.
        still: the search ends when nothing moves by more, or
        rounds: after so many.
    """
    import numpy as np

    counts, weights = np.asarray(said, dtype=np.float64), np.asarray(times, dtype=np.float64)
    units, judges, size = counts.shape
    votes = counts.sum(axis=1)
    flat = counts.reshape(units, judges * size)
    posterior = np.asarray(start if start is not None else votes / votes.sum(axis=1, keepdims=True))
    posterior = np.broadcast_to(posterior, (*weights.shape, size))
    prevalence, errors = _maximise(flat, posterior, weights, judges)
    for _ in range(rounds):
        likely = _log(prevalence)[..., None, :] + flat @ np.swapaxes(_log(errors), -2, -1)
        likely = np.exp(likely - likely.max(axis=-1, keepdims=True))
        posterior = likely / likely.sum(axis=-1, keepdims=True)
        before = prevalence, errors
        prevalence, errors = _maximise(flat, posterior, weights, judges)
        moved = [np.nanmax(np.abs(new - old), initial=0) for new, old in zip((prevalence, errors), before, strict=True)]
        if max(moved) < still:
            break
    tables = np.moveaxis(errors.reshape(*errors.shape[:-1], judges, size), -3, -2)
    return Estimate(prevalence, tables, posterior, bool(max(moved) < still))


def _maximise(flat: "Floats", posterior: "Floats", times: "Floats", judges: int) -> "tuple[Floats, Floats]":
    """Return prevalence (…, K) and errors (…, K, judges · K) from posteriors: equations 2.3 and 2.4 of the paper."""
    import numpy as np

    held = posterior * times[..., None]
    totals = held.sum(axis=-2)
    told = np.swapaxes(held, -2, -1) @ flat
    told = np.where(told < _NEVER, 0.0, told)  # of a label that no pair is held for there are no errors
    by_judge = told.reshape(*told.shape[:-1], judges, -1)
    errors = ratio(by_judge, by_judge.sum(axis=-1, keepdims=True))
    return ratio(totals, totals.sum(axis=-1, keepdims=True)), errors.reshape(told.shape)


def _log(shares: "Floats") -> "Floats":
    """Return logarithms; of what never happens one so low that a word of it decides, and still no infinity."""
    import numpy as np

    result: Floats = np.log(np.maximum(np.nan_to_num(shares), _NEVER))
    return result


@dataclass(frozen=True, slots=True)
class Consensus:
    """What the judges of a run hold for true, together, and how each of them errs.

    Attributes:
        judges: their names.
        n: pairs with a label of anybody; the estimate rests on these.
        thrice: how many of them have three labels or more: with fewer, errors and prevalence cannot be told apart.
        clusters: queries with at least one of the n pairs.
        prevalence: share of each true label.
        errors: by judge, K × K: how likely it says the column's label where the row's is true.
        sensitivity: by judge, then by class ("relevant", "relevant_or_partial"): how likely it says a label of the
            class where one is true.
        specificity: likewise, how likely it says none where none is true.
        posterior: the sets of words that judges gave (codes), each with its pairs and how likely each label is true.
        converged: whether the search for the estimate ended before its last round.
    """

    judges: tuple[str, ...]
    n: int
    thrice: int
    clusters: int
    prevalence: tuple[Figure, ...]
    errors: Mapping[str, tuple[tuple[Figure, ...], ...]]
    sensitivity: Mapping[str, Mapping[str, Figure]]
    specificity: Mapping[str, Mapping[str, Figure]]
    posterior: Mapping[tuple[int, ...], tuple[int, tuple[float, ...]]]
    converged: bool

    def likely(self, codes: Sequence[int]) -> dict[str, float] | None:
        """Return how likely each label is true of a pair of which this was said; None for words never heard."""
        known = self.posterior.get(tuple(codes))
        return None if known is None else dict(zip(LABELS, known[1], strict=True))

    def to_json(self) -> dict[str, Any]:
        """Return plain dicts and lists, floats rounded to 6 decimals, the most frequent words first."""
        names = [*LABELS, None]
        often = sorted(self.posterior.items(), key=lambda item: (-item[1][0], item[0]))[:LISTED]
        return {
            "n": self.n,
            "thrice": self.thrice,
            "clusters": self.clusters,
            "converged": self.converged,
            "prevalence": {
                label: share.to_json() for label, share in zip(LABELS, self.prevalence, strict=True)
            },
            "judges": {
                judge: {
                    "errors": [[each.to_json() for each in row] for row in self.errors[judge]],
                    "sensitivity": {name: each.to_json() for name, each in self.sensitivity[judge].items()},
                    "specificity": {name: each.to_json() for name, each in self.specificity[judge].items()},
                }
                for judge in self.judges
            },
            "words": [
                {
                    "said": [names[min(code, len(LABELS))] for code in codes],
                    "n": count,
                    "true": {label: rounded(share) for label, share in zip(LABELS, shares, strict=True)},
                }
                for codes, (count, shares) in often
            ],
        }  # fmt: skip


def consensus(heard: Heard, *, seed: int, resamples: int = RESAMPLES) -> Consensus | None:
    """Estimate what is true from the words of three judges and more; None where no pair has three labels.

    Intervals come from the bootstrap over queries, the estimate made anew in each resample, from where it came to
    and in fewer rounds; where the words hardly tell (an estimate that did not converge) they come out too narrow.

    Args:
        heard: the words. Every pair counts once, whatever its weight: what a judge was asked follows from the words.
        seed: of the dice.
        resamples: how many; 0 for no intervals.
    """
    import numpy as np
    from scipy.sparse import csr_array

    rows, places, owners = heard.words()
    if not len(rows) or ((rows < CODES[None]).sum(axis=1) < 3).all():
        return None
    said = (rows[:, :, None] == np.arange(len(LABELS))).astype(np.float64)
    shape = (len(heard.times), len(rows))
    patterns = csr_array((np.ones(len(places)), (owners, places)), shape=shape)
    times = heard.times @ patterns
    point = estimate(said, times)
    drawn = list(resampled(patterns, heard.times, resamples, np.random.default_rng(seed)))
    draws = (
        _figures(estimate(said, np.concatenate(drawn), start=point.posterior, still=NEARLY_STILL, rounds=FEW_ROUNDS))
        if drawn
        else {}
    )
    found = {
        name: figure(float(value), [draws[name]] if draws else []) for name, value in _figures(point).items()
    }  # fmt: skip
    size, judges = range(len(LABELS)), heard.judges
    cuts = ["_or_".join(LABELS[:cut]) for cut in range(1, len(LABELS))]
    return Consensus(
        judges=judges,
        n=int(times.sum()),
        thrice=int(times[(rows < CODES[None]).sum(axis=1) >= 3].sum()),
        clusters=int(heard.times.sum()),
        prevalence=tuple(found["prevalence", k] for k in size),
        errors={
            name: tuple(tuple(found["error", j, k, m] for m in size) for k in size) for j, name in enumerate(judges)
        },
        sensitivity={name: {cut: found["sensitivity", j, cut] for cut in cuts} for j, name in enumerate(judges)},
        specificity={name: {cut: found["specificity", j, cut] for cut in cuts} for j, name in enumerate(judges)},
        posterior={
            tuple(codes): (int(count), tuple(shares))
            for codes, count, shares in zip(rows.tolist(), times.tolist(), point.posterior.tolist(), strict=True)
        },
        converged=point.converged,
    )


def _figures(found: Estimate) -> "dict[tuple[Any, ...], Floats]":
    """Return every figure of one estimate or of many, by a name of its own."""
    import numpy as np

    size, judges = found.prevalence.shape[-1], found.errors.shape[-3]
    figures: dict[tuple[Any, ...], Floats] = {("prevalence", k): found.prevalence[..., k] for k in range(size)}
    for j in range(judges):
        told = found.errors[..., j, :, :]
        figures |= {("error", j, k, m): told[..., k, m] for k in range(size) for m in range(size)}
        held = np.where(np.isnan(told).any(axis=-1), 0.0, found.prevalence)[..., None] * np.nan_to_num(told)
        for cut in range(1, size):
            name = "_or_".join(LABELS[:cut])
            hit, miss = held[..., :cut, :cut].sum(axis=(-2, -1)), held[..., cut:, cut:].sum(axis=(-2, -1))
            figures["sensitivity", j, name] = ratio(hit, held[..., :cut, :].sum(axis=(-2, -1)))
            figures["specificity", j, name] = ratio(miss, held[..., cut:, :].sum(axis=(-2, -1)))
    return figures
