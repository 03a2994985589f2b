"""Thresholds with a guarantee: what is chosen, what is refused, and whether promises are kept."""

from itertools import pairwise

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy.stats import binom

from relabel.bounds import binomial_upper, query_upper
from relabel.calibration import (
    GROWTH,
    MIN_PAIRS,
    Labelled,
    Promise,
    calibrate_stage,
    candidates,
    choice_to_json,
    choose,
    first_labels,
    is_error,
    labels_to_pass,
    last_passing,
)
from relabel.records import LABELS, Label

PROMOTE = Promise("relevant", 0.25, 0.1)
KEEP = Promise("irrelevant", 0.10, 0.1)


def pairs_of(
    queries: int, size: int, *, rate: float = 0.0, spread: float = 0.0, seed: int = 0, source: str = "s"
) -> list[Labelled]:
    """Draw pairs whose number is uniform in [0, 1]: people say relevant with that probability, but for `rate`.

    `spread` in [0, 1) is how much queries differ: on some the judge errs on nearly all pairs.
    """
    rng = np.random.default_rng(seed)
    bad = rng.random((queries, 1)) < spread
    numbers = rng.random((queries, size))
    wrong = rng.random((queries, size)) < np.where(bad, 0.9, rate)
    relevant = ((numbers > 0.5) != wrong).tolist()
    return [
        Labelled(f"{source}{query}", source, number, "relevant" if said else "irrelevant")
        for query, row in enumerate(numbers.tolist())
        for number, said in zip(row, relevant[query], strict=True)
    ]


@pytest.mark.parametrize(
    ("settled", "wrong"),
    [("relevant", {"partial", "irrelevant"}), ("partial", {"irrelevant"}), ("irrelevant", {"relevant"})],
)
def test_what_is_an_error(settled: Label, wrong: set[str]) -> None:
    """Promoted and not relevant; dropped and irrelevant; kept and relevant."""
    assert {gold for gold in LABELS if is_error(settled, gold)} == wrong


def test_candidates_grow_and_begin_with_enough_labels() -> None:
    """Each has at least 30 labels above it and a tenth more than the one before; the last settles every pair."""
    numbers = [float(number) for number in range(1000)]
    found = candidates(numbers)
    above = [sum(number >= cut for number in numbers) for cut in found]
    assert above[0] == MIN_PAIRS
    assert above[-1] == 1000
    assert all(after >= GROWTH * before for before, after in pairwise(above[:-1]))
    assert candidates(numbers[: MIN_PAIRS - 1]) == []


def test_equal_numbers_are_one_candidate() -> None:
    """A judge with three grades has at most three thresholds."""
    assert candidates([2.0] * 40 + [1.0] * 100 + [0.0] * 200) == [2.0, 1.0, 0.0]


def test_the_loosest_that_passes_before_one_fails() -> None:
    """Fixed-sequence testing stops at the first failure, whatever would pass after it."""
    upper = np.array([[0.5, 0.2, 0.3, 0.1], [0.2, 0.2, 0.2, 0.2], [0.9, 0.1, 0.1, 0.1]])
    first = np.array([[False, True, True, True]] * 2 + [[True] * 4])
    assert last_passing(upper, first, 0.25).tolist() == [1, 3, -1]


def test_a_threshold_is_found_between_good_and_bad() -> None:
    """Above .5 the judge errs on 5 %, below it is worse than chance: the threshold is not far below .5."""
    choice = choose(pairs_of(80, 20, rate=0.05), PROMOTE)
    assert choice.threshold is not None
    assert 0.2 < choice.threshold < 0.5
    assert choice.chosen is not None
    assert choice.chosen.upper <= 0.25
    assert choice.steps[choice.steps.index(choice.chosen) + 1].test == "failed"


def test_what_is_kept_lies_below_its_threshold() -> None:
    """For "irrelevant" the strictest candidate is the lowest number."""
    choice = choose(pairs_of(80, 20, rate=0.02), KEEP)
    cuts = [step.threshold for step in choice.steps]
    assert cuts == sorted(cuts)
    assert choice.threshold is not None
    assert 0.4 < choice.threshold < 0.62


def test_too_few_labels_and_too_few_queries_are_refused() -> None:
    """It says how many are needed, and chooses nothing, though nobody disagrees."""
    few = choose(pairs_of(3, 9), PROMOTE)
    assert (few.threshold, few.why) == (None, "27 labels; at least 30 are needed")
    choice = choose(pairs_of(21, 50), KEEP)
    assert choice.threshold is None
    assert "too few queries: 21" in choice.why
    assert "22 are needed for 10% at confidence 90%" in choice.why
    assert choice.over_pairs is not None  # which the bound over pairs would have promised
    assert choose(pairs_of(40, 50), KEEP).threshold is not None


def test_a_judge_that_errs_too_often_is_refused_with_its_figures() -> None:
    """The strictest threshold fails: how many errors in how many pairs."""
    choice = choose(pairs_of(40, 20, rate=0.6), PROMOTE)
    assert choice.threshold is None
    assert "the strictest threshold that can be tested fails" in choice.why


def test_no_labels_at_all() -> None:
    """Nothing to choose by is refused, not crashed on."""
    choice = choose([], PROMOTE)
    assert (choice.threshold, choice.steps, choice.why) == (None, (), "0 labels; at least 30 are needed")


def test_a_projection_comes_true() -> None:
    """With as many more labels as it says, drawn like these, a candidate passes; with a third of them it fails."""
    graded = [
        Labelled(
            f"q{query}", "s", float(place < 6), "irrelevant" if place > 5 or (place == 0 and query < 12) else "relevant"
        )
        for query in range(20)
        for place in range(12)
    ]
    promise = Promise("relevant", 0.13, 0.1)
    step = next(step for step in choose(graded, promise).steps if step.test == "failed")
    assert (step.errors, step.pairs) == (12, 120)
    assert step.more
    for share, threshold in ((1.0, step.threshold), (1 / 3, None)):
        times = 1 + round(share * step.more / len(graded))
        more = [Labelled(f"{pair.query}-{k}", "s", pair.number, pair.gold) for k in range(times) for pair in graded]
        assert choose(more, promise).threshold == threshold


def test_what_is_settled_first_is_no_longer_there() -> None:
    """The labels by which "irrelevant" is chosen are those that "relevant" left, so that thresholds never cross."""
    promises = (PROMOTE, Promise("irrelevant", 0.4, 0.1))
    pairs = pairs_of(80, 20, rate=0.05)
    promote, keep = calibrate_stage(pairs, promises).rest.choices
    assert promote.threshold is not None
    assert keep.threshold is not None
    assert keep.threshold < promote.threshold
    assert keep.pairs == sum(pair.number < promote.threshold for pair in pairs)


def test_sources_with_enough_labels_stand_alone() -> None:
    """Others are calibrated together, without those that stand alone; a stage is asked by source."""
    good, bad = pairs_of(60, 20, rate=0.02, source="good"), pairs_of(60, 20, rate=0.6, source="bad")
    small = pairs_of(3, 20, source="a") + pairs_of(4, 20, source="b")
    parts = calibrate_stage(good + bad + small, (KEEP,), by_source=True)
    assert [part.source for part in parts.own] == ["bad", "good"]
    assert parts.pooled == ("a", "b")
    assert parts.rest.choices[0].pairs == len(small)
    assert parts.cuts_of("good").irrelevant is not None
    assert parts.cuts_of("bad").irrelevant is None
    assert parts.cuts_of("a") == parts.cuts_of("never met") == parts.rest.cuts
    together = calibrate_stage(good + bad + small, (KEEP,))
    assert (together.own, together.pooled) == ((), ("a", "b", "bad", "good"))


@given(st.integers(0, 10_000), st.integers(2, 60), st.integers(1, 12), st.sampled_from([0.05, 0.1, 0.25, 0.4]))
def test_property_what_is_chosen_satisfies_its_test(seed: int, queries: int, size: int, alpha: float) -> None:
    """Whatever the labels: its bound and those of all stricter tested ones are at most α, recomputed by hand."""
    pairs = pairs_of(queries, size, rate=0.1, spread=0.1, seed=seed)
    promise = Promise("relevant", alpha, 0.1)
    choice = choose(pairs, promise)
    assert all(step.upper >= step.upper_over_pairs - 1e-9 for step in choice.steps)
    if choice.chosen is None:
        assert choice.why
        return
    above = [pair for pair in pairs if pair.number >= choice.chosen.threshold]
    names = sorted({pair.query for pair in above})
    sizes = [sum(pair.query == name for pair in above) for name in names]
    errors = [sum(pair.query == name and pair.gold != "relevant" for pair in above) for name in names]
    assert (len(above), len(names), sum(errors)) == (
        choice.chosen.pairs, choice.chosen.queries, choice.chosen.errors,
    )  # fmt: skip
    upper = float(query_upper(sizes, errors, 0.1, choice.correlation))
    assert upper == pytest.approx(choice.chosen.upper)
    assert upper <= alpha
    assert choice.chosen.effective_queries >= promise.queries
    before = choice.steps[: choice.steps.index(choice.chosen)]
    assert {step.test for step in before} <= {"passed", "too few"}


@pytest.mark.parametrize(("spread", "alpha"), [(0.0, 0.105), (0.2, 0.25)])
def test_promises_are_kept(spread: float, alpha: float) -> None:
    """Of 150 calibrations at most a tenth choose a threshold whose true rate of errors is above α.

    With queries on which the judge fails, that over pairs breaks its promise in more.
    """
    rate, draws = 0.1, 150
    truth = (1 - spread) * rate + spread * 0.9  # above .5, wherever the threshold is

    def risk(cut: float) -> float:
        return truth if cut >= 0.5 else (0.5 * truth + (0.5 - cut) * (1 - truth)) / (1 - cut)

    broken = naive = 0
    for seed in range(draws):
        pairs = pairs_of(30, 40, rate=rate, spread=spread, seed=seed)
        choice = choose(pairs, Promise("relevant", alpha, 0.1))
        broken += choice.threshold is not None and risk(choice.threshold) > alpha
        naive += choice.over_pairs is not None and risk(choice.over_pairs) > alpha
    assert broken / draws <= 0.1
    if spread:
        assert naive / draws > 0.15


@pytest.mark.parametrize("labels", [10, 30, 60, 400, 50_000])
def test_tests_begin_with_enough_labels(labels: int) -> None:
    """A judge that errs half as often as allowed would likely pass; with few labels, their half; with many, a tenth."""
    promise = Promise("relevant", 0.1, 0.1)
    enough = labels_to_pass(promise)
    likely = binom.ppf(0.9, enough, 0.05)
    assert float(binomial_upper(likely, enough, 0.1)) <= 0.1
    assert first_labels(promise, labels) == {10: 30, 30: 30, 60: 30, 400: enough, 50_000: 5_000}[labels]


def test_a_choice_as_json() -> None:
    """Plain values; the threshold as it is, every test beside it."""
    choice = choose(pairs_of(80, 20, rate=0.05), PROMOTE)
    told = choice_to_json(choice)
    assert told["threshold"] == choice.threshold
    assert told["action"] == "promote"
    assert [step["test"] for step in told["steps"]] == [step.test for step in choice.steps]
    assert told["chosen"]["upper_over_pairs"] == pytest.approx(
        float(binomial_upper(told["chosen"]["errors"], told["chosen"]["pairs"], 0.1)), abs=1e-8
    )
