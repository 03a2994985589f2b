"""Upper bounds of an error rate: worked numbers, what always holds, and whether they keep their promise."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from statsmodels.stats.proportion import proportion_confint

from relabel.bounds import (
    binomial_upper,
    correlation_of,
    effective_pairs,
    effective_queries,
    queries_needed,
    query_upper,
)

DELTAS = st.sampled_from([0.01, 0.05, 0.1, 0.2])
clusters = st.lists(
    st.integers(1, 20).flatmap(lambda n: st.tuples(st.just(n), st.integers(0, n))), min_size=2, max_size=12
)


@pytest.mark.parametrize(("errors", "pairs"), [(0, 30), (1, 30), (7, 50), (49, 50), (50, 50), (13, 1000)])
def test_the_exact_bound_is_that_of_statsmodels(errors: int, pairs: int) -> None:
    """One-sided at 1 − δ is the upper end of a two-sided interval at 1 − 2δ (Clopper and Pearson)."""
    theirs = proportion_confint(errors, pairs, alpha=0.2, method="beta")[1]
    assert float(binomial_upper(errors, pairs, 0.1)) == pytest.approx(theirs, abs=1e-12)


def test_worked_numbers() -> None:
    """No error in n pairs: 1 − δ^(1/n). Nothing at all: 1."""
    assert float(binomial_upper(0, 30, 0.1)) == pytest.approx(1 - 0.1 ** (1 / 30))
    assert float(binomial_upper(0, 0, 0.1)) == 1.0
    assert float(query_upper([0, 0], [0, 0], 0.1, 0.5)) == 1.0
    assert float(effective_queries([5, 5, 5, 5])) == 4.0
    assert float(effective_queries([9, 1])) == pytest.approx(100 / 82)
    assert float(effective_queries([0, 0])) == 0.0


@pytest.mark.parametrize(("alpha", "needed"), [(0.05, 45), (0.10, 22), (0.15, 15), (0.25, 9), (0.40, 5)])
def test_queries_that_a_promise_needs(alpha: float, needed: int) -> None:
    """The smallest number without an error that could be chance with probability δ at most."""
    assert queries_needed(alpha, 0.1) == needed
    assert (1 - alpha) ** needed <= 0.1 < (1 - alpha) ** (needed - 1)


def test_single_pairs_are_independent() -> None:
    """One pair of each query: the bound over queries is the exact one, whatever correlation is assumed."""
    errors = np.array([1.0] * 6 + [0.0] * 44)
    found = query_upper(np.ones(50), errors, 0.1, 1.0)
    assert float(found) == pytest.approx(float(binomial_upper(6, 50, 0.1)), rel=0.03)


def test_queries_that_err_wholly_are_one_witness_each() -> None:
    """20 queries of 25 pairs, 5 wholly wrong: correlation 1, and worth a little less than 20 pairs."""
    sizes, errors = np.full(20, 25.0), np.array([25.0] * 5 + [0.0] * 15)
    assert float(correlation_of(sizes, errors)) == pytest.approx(1.0, abs=0.01)
    assert 15 < float(effective_pairs(sizes, errors, 0.1, 1.0)) < 20
    assert float(query_upper(sizes, errors, 0.1, 1.0)) > float(binomial_upper(5, 20, 0.1))


def test_without_an_error_queries_count_and_not_pairs() -> None:
    """Nothing says how alike the pairs of a query are, so each query is one witness."""
    sizes = np.full(30, 20.0)
    assert float(correlation_of(sizes, np.zeros(30))) == 1.0
    assert float(query_upper(sizes, np.zeros(30), 0.1, 1.0)) >= 1 - 0.1 ** (1 / 30)


def test_a_promise_for_few_others_is_wider() -> None:
    """About the next 20 queries less can be said than about all there could be; about a million the same."""
    sizes, errors = np.full(20, 10.0), np.array([3.0] * 5 + [0.0] * 15)
    rho = correlation_of(sizes, errors)
    few, many, every = (query_upper(sizes, errors, 0.1, rho, unseen=unseen) for unseen in (20, 10**6, None))
    assert float(few) > float(many)
    assert float(many) == pytest.approx(float(every), rel=1e-3)


@given(st.integers(1, 300), st.floats(0, 1), st.floats(0, 1), DELTAS)
def test_property_more_errors_never_lower_the_bound(worth: int, one: float, two: float, delta: float) -> None:
    """For pairs worth the same, fractions too, the bound rises with the rate, and is never below it."""
    low, high = sorted((one, two))
    bounds = binomial_upper(np.array([low, high]) * worth, worth, delta)
    assert bounds[0] <= bounds[1]
    assert bounds[0] >= low


@given(clusters, DELTAS, st.floats(0, 1))
def test_property_queries_promise_no_more_than_pairs(
    counts: list[tuple[int, int]], delta: float, correlation: float
) -> None:
    """The bound over queries is never below that over pairs, nor above 1; and a higher correlation never lowers it."""
    sizes, errors = np.array(counts, dtype=float).T
    over_pairs = float(binomial_upper(errors.sum(), sizes.sum(), delta))
    found = [float(query_upper(sizes, errors, delta, rho)) for rho in (0.0, correlation, 1.0)]
    assert over_pairs - 1e-9 <= found[0] <= found[1] + 1e-9
    assert found[1] - 1e-9 <= found[2] <= 1.0


@given(clusters)
def test_property_correlation_is_one(counts: list[tuple[int, int]]) -> None:
    """Between 0 and 1 for whatever counts."""
    sizes, errors = np.array(counts, dtype=float).T
    assert 0.0 <= float(correlation_of(sizes, errors)) <= 1.0


@pytest.mark.parametrize("size", [5, 20])
@pytest.mark.parametrize("correlation", [0.0, 0.2, 0.5])
@pytest.mark.parametrize("queries", [25, 100])
def test_the_bound_over_queries_holds_and_that_over_pairs_does_not(size: int, correlation: float, queries: int) -> None:
    """Beta-binomial errors at rate .2: the bound is below .2 in a tenth of samples; over pairs in far more."""
    rng = np.random.default_rng(4)
    rate, samples = 0.2, 4000
    shape = (samples, queries)
    spread = 1 / correlation - 1 if correlation else 0
    chances = rng.beta(rate * spread, (1 - rate) * spread, shape) if correlation else np.full(shape, rate)
    errors, sizes = rng.binomial(size, chances).astype(float), np.full(shape, float(size))
    missed = (query_upper(sizes, errors, 0.1, correlation_of(sizes, errors)) < rate).mean()
    naive = (binomial_upper(errors.sum(1), sizes.sum(1), 0.1) < rate).mean()
    assert missed <= 0.1 + 3 * np.sqrt(0.09 / samples)
    assert missed >= 0.03  # and is not bought by promising nothing
    if correlation * size > 3:
        assert naive > 0.2
