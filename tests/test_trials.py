"""Lessons drawn by dice, rankings scored, arms compared: the pure part of evaluating synthetic negatives."""

from math import log2

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from relabel.synthesis.trials import CUTOFF, SOURCES, Row, best, compared, crossed, gains, lessons

ROWS = [Row(number, (0, 1), tuple(range(10, 16)), tuple(range(20, 26)), tuple(range(30, 46))) for number in range(200)]


@given(budget=st.integers(1, 6), seed=st.integers(0, 50))
def test_every_arm_has_the_same_rows_positives_and_number_of_negatives(budget: int, seed: int) -> None:
    """Only the source differs; mixed is half of each, and its draws are among those of both."""
    drawn = {source: lessons(ROWS[:20], source, budget, seed) for source in SOURCES}
    for same in zip(*drawn.values(), strict=True):
        assert len({(lesson.query, lesson.positive, lesson.known) for lesson in same}) == 1
        assert all(len(set(lesson.negatives)) == budget for lesson in same)
    for mixed, mined, synthetic in zip(drawn["mixed"], drawn["mined"], drawn["synthetic"], strict=True):
        written = set(mixed.negatives) & set(synthetic.negatives)
        assert len(written) in {budget // 2, -(-budget // 2)}
        assert set(mixed.negatives) - written <= set(mined.negatives)
    assert all(10 <= number < 16 for lesson in drawn["mined"] for number in lesson.negatives)
    assert all(20 <= number < 26 for lesson in drawn["synthetic"] for number in lesson.negatives)
    assert all(number >= 30 for lesson in drawn["random"] for number in lesson.negatives)


def test_an_odd_budget_is_fair() -> None:
    """With one negative a row, about half of the rows get a synthetic one."""
    written = sum(lesson.negatives[0] >= 20 for lesson in lessons(ROWS, "mixed", 1, 0))
    assert 70 <= written <= 130


def test_another_seed_draws_others() -> None:
    """Seeds differ in what is drawn; the same seed does not."""
    assert lessons(ROWS, "mined", 3, 1) == lessons(ROWS, "mined", 3, 1)
    assert lessons(ROWS, "mined", 3, 1) != lessons(ROWS, "mined", 3, 2)


def test_too_few_cannot_be_drawn() -> None:
    """A row without enough raises, and is not trained on with fewer."""
    with pytest.raises(ValueError, match="7 of 6 cannot be drawn"):
        lessons(ROWS, "mined", 7, 0)


def test_ndcg_by_hand() -> None:
    """Relevant at ranks 2 and 3 of two: (1/log₂3 + 1/log₂4) / (1 + 1/log₂3); first is 1, not found is 0."""
    assert gains([9, 1, 2], [1, 2]) == pytest.approx((1 / log2(3) + 1 / log2(4)) / (1 + 1 / log2(3)))
    assert gains([1, 9], [1]) == 1.0
    assert gains([9, 8], [1]) == 0.0
    assert gains([*range(100, 110), 1], [1]) == 0.0  # rank 11
    assert gains(list(range(CUTOFF)), range(50)) == pytest.approx(1.0)


def test_best_are_in_order_and_ties_go_by_number() -> None:
    """Higher first; of equal scores the lower number first."""
    scores, numbers = np.array([[0.1, 0.9, 0.9, 0.5]]), np.array([[7, 6, 5, 4]])
    assert best(scores, numbers, 3).tolist() == [[2, 1, 3]]
    assert best(scores, numbers, 9).shape == (1, 4)


def test_an_interval_over_seeds_and_queries_holds_the_truth() -> None:
    """Of values with effects of seed and query the interval holds the true mean about 95 times in 100, or more."""
    rng = np.random.default_rng(3)
    held = 0
    for turn in range(60):
        values = rng.normal(size=(6, 1)) * 0.05 + rng.normal(size=(1, 80)) * 0.3 + rng.normal(size=(6, 80)) * 0.1
        found = crossed(values, seed=turn)
        assert found.low is not None
        assert found.high is not None
        held += found.low <= 0 <= found.high
    assert held >= 53


def test_differences_are_paired() -> None:
    """An arm that is better by the same on every query and seed differs by that, without doubt; the base has none."""
    rng = np.random.default_rng(4)
    base = rng.uniform(0, 0.9, size=(3, 40))
    arms = {arm.name: arm for arm in compared({"untrained": base[:1], "mined": base, "mixed": base + 0.1}, seed=0)}
    assert arms["mined"].difference is None
    mixed = arms["mixed"].difference
    assert mixed is not None
    assert (mixed.value, mixed.low, mixed.high) == pytest.approx((0.1, 0.1, 0.1))
    assert len(arms["untrained"].by_seed) == 1
    assert len(arms["mixed"].by_seed) == 3
    assert arms["mixed"].ndcg.value == pytest.approx(float(base.mean()) + 0.1)
    assert arms["mixed"].to_json()["difference"]["value"] == 0.1


def test_no_interval_for_one_query() -> None:
    """One query shows no spread over queries."""
    assert crossed(np.array([[0.5]]), seed=0).low is None
    assert crossed(np.empty((0, 0)), seed=0).value is None
