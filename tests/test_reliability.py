"""A judge's number as a probability: against scikit-learn, and without looking at one's own labels."""

import numpy as np
import pytest
from sklearn.isotonic import IsotonicRegression
from sklearn.linear_model import LogisticRegression
from sklearn.metrics import brier_score_loss

from relabel.reliability import _METHODS, MIN_QUERIES, figures_of, recalibrate


def draw(n: int = 2000, seed: int = 0) -> "tuple[np.ndarray, np.ndarray]":
    """Draw numbers whose probability of "relevant" is logistic in them."""
    rng = np.random.default_rng(seed)
    x = rng.normal(size=n)
    return x, (rng.random(n) < 1 / (1 + np.exp(-2 * x + 1))).astype(float)


def test_isotonic_is_that_of_scikit_learn() -> None:
    """The same values at the numbers that it was fitted to, ties too."""
    x, y = draw()
    x = x.round(1)
    theirs = IsotonicRegression(out_of_bounds="clip").fit(x, y).predict(x)
    assert _METHODS["isotonic"](x, y)(x) == pytest.approx(theirs, abs=1e-9)


def test_platt_is_a_logistic_regression() -> None:
    """With many labels, as scikit-learn's without a penalty (targets are smoothed: nearly)."""
    x, y = draw(20_000)
    theirs = LogisticRegression(C=np.inf).fit(x[:, None], y).predict_proba(x[:, None])[:, 1]
    assert _METHODS["platt"](x, y)(x) == pytest.approx(theirs, abs=2e-3)


def test_figures_of_known_predictions() -> None:
    """Two bins: Brier score and calibration error by hand, and the former as scikit-learn has it."""
    predicted = np.array([0.1] * 10 + [0.8] * 10)
    truth = np.array([1.0] * 2 + [0.0] * 8 + [1.0] * 5 + [0.0] * 5)
    told = figures_of(predicted, truth, np.arange(20))
    assert told["ece"] == pytest.approx(0.5 * 0.1 + 0.5 * 0.3)
    assert told["brier"] == pytest.approx(brier_score_loss(truth, predicted))
    assert [(each["pairs"], each["observed"], each["predicted"]) for each in told["bins"]] == [
        (10, 0.2, 0.1), (10, 0.5, 0.8),
    ]  # fmt: skip
    assert all(each["observed_low"] < each["observed"] < each["observed_high"] for each in told["bins"])


def test_bins_with_few_queries_are_less_sure() -> None:
    """The same share of the same number of pairs: wider where it is of two queries that differ."""
    predicted = np.full(40, 0.55)
    truth = np.array([1.0] * 20 + [0.0] * 20)
    widths = []
    for clusters in (np.arange(40), np.arange(40) // 4):
        (found,) = figures_of(predicted, truth, clusters)["bins"]
        widths.append(found["observed_high"] - found["observed_low"])
    assert widths[1] > 1.3 * widths[0]


def test_an_uncalibrated_number_becomes_a_probability() -> None:
    """Predictions for queries that were not looked at are right on average; a bad probability is worse before."""
    x, y = draw()
    found = recalibrate(x.tolist(), (y > 0).tolist(), [f"q{i % 100}" for i in range(len(x))], [0.99] * len(x))
    assert found is not None
    assert found.after["ece"] < 0.05
    assert found.before is not None
    assert found.before["ece"] == pytest.approx(abs(0.99 - y.mean()), abs=1e-6)
    assert found.after["brier"] == min(found.brier.values())
    numbers, probabilities = zip(*found.points, strict=True)
    assert list(numbers) == sorted(numbers)
    assert list(probabilities) == sorted(probabilities)
    assert found.to_json()["pairs"] == 2000


def test_no_query_is_predicted_by_its_own_labels() -> None:
    """Labels that depend on the query alone cannot be foreseen from a number that names the query."""
    rng = np.random.default_rng(1)
    queries = np.repeat(np.arange(60), 10)
    says = rng.random(60) < 0.5
    found = recalibrate(queries.astype(float).tolist(), says[queries].tolist(), [f"q{q:02}" for q in queries])
    assert found is not None
    assert found.after["brier"] > 0.2
    assert found.before is None


def test_too_few_labels_say_nothing() -> None:
    """Fewer queries than folds can use, or one label only: no function."""
    few = [f"q{i}" for i in range(MIN_QUERIES - 1)]
    assert recalibrate([0.1] * len(few), [True, False] * 4 + [True], few) is None
    assert recalibrate([0.1] * 20, [True] * 20, [f"q{i}" for i in range(20)]) is None
