"""Thresholds with a guarantee, from human labels: from which number on may a judge's answer stand?

For each promise ("of the pairs settled so, people disagree about at most α, with confidence 1 − δ") candidate
thresholds are tested from the strictest downwards, each by an upper bound of the error rate above it, until the first
that fails (fixed-sequence testing: Angelopoulos et al. 2021, arXiv 2110.01052; for cascades of LLM judges Jung et al.
2024, "Trust or Escalate", arXiv 2407.18370). The last that passed is taken: that it breaks the promise has probability
at most δ, however many were tested. The bound is over queries (`bounds.query_upper`); that over pairs stands beside.

Which thresholds are candidates, and from where on they are tested, depends on numbers and queries alone, never on what
people said. A test of few labels fails by one error, and the sequence ends there; so it begins where a judge that errs
half as often as is allowed would likely pass (`first_labels`, at least the 30 labels of Trust or Escalate), and with as
many effective queries as a promise needs (`bounds.queries_needed`).
"""

import math
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Final, Literal

from relabel.bounds import binomial_upper, correlation_of, effective_pairs, effective_queries, queries_needed
from relabel.cascade import Cuts
from relabel.records import Label

if TYPE_CHECKING:
    from numpy import bool_, int64
    from numpy.typing import NDArray

    from relabel.bounds import Floats

MIN_PAIRS: Final = 30
GROWTH: Final = 1.1
"""Each candidate has at least this many times the labels of the one before: neighbours say nothing new."""

ACTIONS: Final[Mapping[Label, str]] = {"relevant": "promote", "partial": "drop", "irrelevant": "keep"}
"""What the default policy does about a pair that is settled so."""

_FARTHEST: Final = 1e4

Passed = Literal["passed", "failed", "not tested", "too few"]


def is_error(settled: Label, gold: Label) -> bool:
    """Say whether people disagree with what a pair is settled as.

    Promoted, and people do not say relevant; dropped as partial, and they say irrelevant; kept as a negative, and they
    say relevant.
    """
    if settled == "relevant":
        return gold != "relevant"
    return gold == ("irrelevant" if settled == "partial" else "relevant")


@dataclass(frozen=True, slots=True)
class Promise:
    """Of the pairs that are settled as `settle`, people disagree about at most `alpha`, with confidence 1 − `delta`.

    `reach` is the loosest threshold that may be taken; None = any.
    """

    settle: Label
    alpha: float
    delta: float
    reach: float | None = None

    def may_settle(self, number: float) -> bool:
        """Whether a threshold may lie at this number, `reach` allowing."""
        if self.reach is None:
            return True
        return number <= self.reach if self.settle == "irrelevant" else number >= self.reach

    @property
    def queries(self) -> int:
        """The effective queries without which no such promise can be made."""
        return queries_needed(self.alpha, self.delta)


@dataclass(frozen=True, slots=True)
class Labelled:
    """A pair that people labelled: its query, its source, the judge's number, and what most people said."""

    query: str
    source: str
    number: float
    gold: Label


@dataclass(frozen=True, slots=True)
class Step:
    """A candidate threshold and its test.

    Attributes:
        threshold: a number that a labelled pair has.
        pairs: labelled pairs that it settles.
        queries: theirs.
        effective_queries: Kish's, of their sizes.
        errors: those about which people disagree.
        effective_pairs: the independent pairs that they are worth.
        upper: bound of the error rate over queries, at 1 − δ.
        upper_over_pairs: the same as if pairs were independent.
        test: whether it passed; "too few" before the first that can be tested, "not tested" after one that failed.
        more: how many labels more, drawn as these were, would let it pass if rates stay; 0 where it passed, None where
            none would. A projection, no promise.
    """

    threshold: float
    pairs: int
    queries: int
    effective_queries: float
    errors: int
    effective_pairs: float
    upper: float
    upper_over_pairs: float
    test: Passed
    more: int | None


@dataclass(frozen=True, slots=True)
class Choice:
    """What was chosen for one promise.

    Attributes:
        promise: what is promised.
        chosen: the candidate taken, None where no promise can be made; then `why` says so.
        steps: all candidates, strictest first.
        correlation: of errors within a query, among all these labelled pairs.
        pairs: labelled pairs that there were to choose by.
        queries: theirs.
        over_pairs: the threshold that the bound over pairs would have taken.
    """

    promise: Promise
    chosen: Step | None
    why: str
    steps: tuple[Step, ...]
    correlation: float
    pairs: int
    queries: int
    over_pairs: float | None

    @property
    def threshold(self) -> float | None:
        """The threshold taken."""
        return self.chosen.threshold if self.chosen else None


def choose(pairs: Sequence[Labelled], promise: Promise) -> Choice:
    """Choose the loosest threshold for which a promise holds.

    Args:
        pairs: labelled pairs, drawn without regard to judge or label, whole queries or single pairs.
        promise: what it shall hold for.
    """
    import numpy as np

    there = len(pairs), len({pair.query for pair in pairs})
    pairs = [pair for pair in pairs if promise.may_settle(pair.number)]
    places = {query: place for place, query in enumerate(dict.fromkeys(pair.query for pair in pairs))}
    sign = -1.0 if promise.settle == "irrelevant" else 1.0
    strictness = [sign * pair.number for pair in pairs]
    thresholds = candidates(strictness, first_labels(promise, len(pairs)))
    counts = np.zeros((2, len(thresholds), len(places)))
    first = np.searchsorted(-np.array(thresholds), -np.array(strictness)).tolist() if thresholds else []
    for pair, rung in zip(pairs, first, strict=False):  # the last candidate settles every pair
        counts[0, rung, places[pair.query]] += 1
        counts[1, rung, places[pair.query]] += is_error(promise.settle, pair.gold)
    sizes, wrong = counts.cumsum(axis=1)
    correlation = float(correlation_of(sizes[-1], wrong[-1])) if thresholds else 1.0
    steps = tuple(_steps([sign * each for each in thresholds], sizes, wrong, correlation, promise, len(pairs)))
    chosen = next((step for step in reversed(steps) if step.test == "passed"), None)
    naive = _last_passing([step.upper_over_pairs <= promise.alpha for step in steps], [True] * len(steps))
    return Choice(
        promise,
        chosen,
        "" if chosen else _why(promise, steps, len(pairs), len(places)),
        steps,
        correlation,
        *there,
        None if naive is None else steps[naive].threshold,
    )


def labels_to_pass(promise: Promise) -> int:
    """Return with how many labels an error rate of α / 2 passes with probability 1 − δ, in steps of a tenth."""
    from scipy.stats import binom

    labels = MIN_PAIRS
    while True:
        likely = binom.ppf(1 - promise.delta, labels, promise.alpha / 2)
        if float(binomial_upper(likely, labels, promise.delta)) <= promise.alpha:
            return labels
        labels = math.ceil(labels * GROWTH)


def first_labels(promise: Promise, labels: int) -> int:
    """Return from how many of these labels on thresholds are tested.

    With `labels_to_pass`, but no later than with half of the labels, nor earlier than with a tenth or `MIN_PAIRS`.
    """
    return max(MIN_PAIRS, min(labels_to_pass(promise), labels // 2), labels // 10)


def candidates(strictness: Iterable[float], begin: int = MIN_PAIRS) -> list[float]:
    """Return the candidate thresholds, strictest (highest) first: from `begin` labels on, thinned by `GROWTH`.

    The loosest, which settles every pair, is always one, if there are `MIN_PAIRS` pairs.
    """
    found: list[float] = []
    above = last = 0
    ordered = sorted(Counter(strictness).items(), reverse=True)
    for place, (value, times) in enumerate(ordered):
        above += times
        if (above >= begin and above >= GROWTH * last) or (place == len(ordered) - 1 and above >= MIN_PAIRS):
            found.append(value)
            last = above
    return found


def last_passing(upper: "Floats", testable: "NDArray[bool_]", alpha: float) -> "NDArray[int64]":
    """Return the place of the last candidate that passes before one fails, −1 where none does.

    Args:
        upper: bounds of shape (…, T), strictest candidate first.
        testable: of the same shape, which of them are tested at all.
        alpha: the error rate that is allowed.
    """
    import numpy as np

    passed = np.logical_and.accumulate((upper <= alpha) | ~testable, axis=-1) & testable
    last = passed.shape[-1] - 1 - passed[..., ::-1].argmax(axis=-1)
    return np.where(passed.any(axis=-1), last, -1)


def _last_passing(passes: Sequence[bool], testable: Sequence[bool]) -> int | None:
    """Do the same for one sequence of plain values."""
    last = None
    for place, (good, tested) in enumerate(zip(passes, testable, strict=True)):
        if tested and not good:
            break
        last = place if tested else last
    return last


def _steps(
    thresholds: Sequence[float], sizes: "Floats", wrong: "Floats", correlation: float, promise: Promise, labels: int
) -> Iterator[Step]:
    """Test the candidates one after another."""
    worth = effective_pairs(sizes, wrong, promise.delta, correlation)
    queries, n, errors = effective_queries(sizes), sizes.sum(axis=-1), wrong.sum(axis=-1)
    upper = binomial_upper(worth * errors / n.clip(1), worth, promise.delta)
    naive = binomial_upper(errors, n, promise.delta)
    stopped, farthest = False, 1.0
    for place, threshold in enumerate(thresholds):
        enough = queries[place] >= promise.queries
        test: Passed = "not tested" if stopped else "too few" if not enough else "passed"
        if test == "passed" and upper[place] > promise.alpha:
            test, stopped = "failed", True
        rate = float(errors[place] / n[place])
        farthest = max(farthest, _times(rate, float(worth[place]), float(queries[place]), promise))
        yield Step(
            threshold,
            int(n[place]),
            int((sizes[place] > 0).sum()),
            float(queries[place]),
            int(errors[place]),
            float(worth[place]),
            float(upper[place]),
            float(naive[place]),
            test,
            0 if test == "passed" else math.ceil((farthest - 1) * labels) if farthest < _FARTHEST else None,
        )


def _times(rate: float, worth: float, queries: float, promise: Promise) -> float:
    """Return how many times the labels would let a candidate pass if rates stay; infinite where none would."""
    from scipy.special import betainc

    if rate >= promise.alpha or worth <= 0:
        return math.inf
    low = high = max(1.0, promise.queries / queries)

    def passes(times: float) -> bool:  # as binomial_upper(…) ≤ alpha, without finding the bound
        errors = times * worth * rate
        return bool(betainc(errors + 1, times * worth - errors, promise.alpha) >= 1 - promise.delta)

    while not passes(high):
        low, high = high, high * 2
        if high > _FARTHEST:
            return math.inf
    for _ in range(20):
        middle = (low + high) / 2
        low, high = (low, middle) if passes(middle) else (middle, high)
    return high


def _why(promise: Promise, steps: Sequence[Step], pairs: int, queries: int) -> str:
    """Say why no promise can be made."""
    if pairs < MIN_PAIRS:
        return f"{pairs:,} labels; at least {MIN_PAIRS} are needed"
    if all(step.test == "too few" for step in steps):
        most = max(step.effective_queries for step in steps)
        return (
            f"too few queries: {queries:,}, worth {most:.1f} of equal size; {promise.queries:,} are needed for"
            f" {promise.alpha:.0%} at confidence {100 * (1 - promise.delta):.5g}%, even without an error"
        )
    failed = next(step for step in steps if step.test == "failed")
    rate = failed.errors / failed.pairs
    return (
        f"the strictest threshold that can be tested fails: {failed.errors:,} errors in {failed.pairs:,} pairs"
        f" ({rate:.1%}), at most {failed.upper:.1%} with confidence {100 * (1 - promise.delta):.5g}%"
    )


@dataclass(frozen=True, slots=True)
class Part:
    """The choices for one source, or (source None) for all that have too few labels of their own together."""

    source: str | None
    choices: tuple[Choice, ...]

    @property
    def cuts(self) -> Cuts:
        """The thresholds taken."""
        return Cuts(**{choice.promise.settle: choice.threshold for choice in self.choices})


@dataclass(frozen=True, slots=True)
class Parts:
    """The choices of a stage: for all sources together, or for those with enough labels each and the rest together.

    `pooled` names the sources of the rest.
    """

    rest: Part
    own: tuple[Part, ...] = ()
    pooled: tuple[str, ...] = field(default=())

    def cuts_of(self, source: str) -> Cuts:
        """Return the thresholds for the pairs of a source."""
        return next((part.cuts for part in self.own if part.source == source), self.rest.cuts)


def calibrate_stage(pairs: Sequence[Labelled], promises: Sequence[Promise], *, by_source: bool = False) -> Parts:
    """Choose the thresholds of one stage.

    What is settled as relevant is taken away before "partial" is chosen, and both before "irrelevant", so that each
    promise is about the pairs that are settled so and no others.

    Args:
        pairs: labelled pairs that earlier stages left, with this judge's number.
        promises: at most one for each label.
        by_source: thresholds of their own for sources whose labels can carry every promise.
    """
    if not by_source:
        return Parts(Part(None, _in_turn(pairs, promises)), (), tuple(sorted({pair.source for pair in pairs})))
    sources: dict[str, list[Labelled]] = {}
    for pair in pairs:
        sources.setdefault(pair.source, []).append(pair)
    own = tuple(
        Part(source, _in_turn(group, promises))
        for source, group in sorted(sources.items())
        if _enough(group, promises) and len(sources) > 1
    )
    apart = {part.source for part in own}
    rest = [pair for pair in pairs if pair.source not in apart]
    return Parts(Part(None, _in_turn(rest, promises)), own, tuple(sorted(set(sources) - apart)))


def _enough(pairs: Sequence[Labelled], promises: Sequence[Promise]) -> bool:
    """Say whether labels could carry every promise, by their number and that of their queries."""
    sizes = list(Counter(pair.query for pair in pairs).values())
    worth = float(effective_queries(sizes))
    return len(pairs) >= MIN_PAIRS and all(worth >= promise.queries for promise in promises)


def _in_turn(pairs: Sequence[Labelled], promises: Sequence[Promise]) -> tuple[Choice, ...]:
    choices: list[Choice] = []
    left = list(pairs)
    for settle in ACTIONS:
        for promise in promises:
            if promise.settle == settle:
                choices.append(choose(left, promise))
                cuts = Cuts(**{settle: choices[-1].threshold})
                left = [pair for pair in left if cuts.label_of(pair.number) is None]
    return tuple(choices)


def choice_to_json(choice: Choice) -> dict[str, Any]:
    """Return a choice as plain JSON."""
    promise, chosen = choice.promise, choice.chosen
    steps = [{name: _plain(getattr(step, name)) for name in Step.__slots__} for step in choice.steps]
    return {
        "settle": promise.settle,
        "action": ACTIONS[promise.settle],
        "alpha": promise.alpha,
        "delta": promise.delta,
        "threshold": choice.threshold,
        "threshold_over_pairs": choice.over_pairs,
        "labels": choice.pairs,
        "queries": choice.queries,
        "queries_needed": promise.queries,
        "correlation": _plain(choice.correlation),
        "chosen": steps[choice.steps.index(chosen)] if chosen else None,
        "why": choice.why,
        "steps": steps,
    }


def _plain(value: Any) -> Any:
    return round(value, 9) if isinstance(value, float) else value
