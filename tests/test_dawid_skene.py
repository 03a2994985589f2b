import json
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from relabel.agreement import CODES, NOT_ASKED
from relabel.dawid_skene import Consensus, consensus, estimate
from relabel.raters import Panel
from relabel.records import LABELS

R, P, I, N = CODES["relevant"], CODES["partial"], CODES["irrelevant"], CODES[None]  # noqa: E741 - as the letters mean

PATIENTS = (
    "111 1 1 1 1,333 4 3 3 4,112 2 1 2 2,222 3 1 2 1,222 3 2 2 2,222 3 3 2 2,122 2 1 1 1,333 3 4 3 3,222 2 2 2 3,"
    "232 2 2 2 3,444 4 4 4 4,222 3 3 4 3,111 1 1 1 1,222 3 2 1 2,121 1 1 1 1,111 2 1 1 1,111 1 1 1 1,111 1 1 1 1,"
    "222 2 2 2 1,222 1 3 2 2,222 2 2 2 2,222 2 2 2 1,222 3 2 2 2,221 2 2 2 2,111 1 1 1 1,111 1 1 1 1,232 2 2 2 2,"
    "111 1 1 1 1,111 1 1 1 1,112 1 1 2 1,111 1 1 1 1,333 3 2 3 3,111 1 1 1 1,222 2 2 2 2,222 3 2 3 2,433 4 3 4 3,"
    "221 2 2 3 2,232 3 2 3 3,333 3 4 3 2,111 1 1 1 1,111 1 1 1 1,121 2 1 1 1,232 2 2 2 2,121 1 1 1 1,222 2 2 2 2"
)
"""Dawid and Skene (1979), table 1: how fit 45 patients are for an anaesthetic (1–4), by five anaesthetists of whom the
first looked three times."""


def drawn(rng: np.random.Generator, errors: Any, prevalence: Any, shape: tuple[int, int]) -> tuple[Any, Any]:
    """Draw true labels of (queries, pairs), and what judges with these errors say of them, one after the other."""
    truth = rng.choice(3, size=shape, p=prevalence)
    said = [(np.cumsum(table, axis=1)[truth] < rng.random((*shape, 1))).sum(axis=-1) for table in errors]
    return truth, np.stack(said, axis=-1)


def heard_by(said: Any, judges: str = "abc", **more: Any) -> Consensus:
    """Return the consensus on these words."""
    panel = Panel(judges)
    for query in np.asarray(said).tolist():
        panel.add(query)
    found = consensus(panel.heard(), seed=0, **more)
    assert found is not None
    return found


GOOD = [[0.8, 0.1, 0.1], [0.15, 0.7, 0.15], [0.05, 0.05, 0.9]]
LAX = [[0.9, 0.05, 0.05], [0.4, 0.5, 0.1], [0.2, 0.1, 0.7]]
STRICT = [[0.5, 0.2, 0.3], [0.1, 0.5, 0.4], [0.01, 0.04, 0.95]]


def test_anaesthetists_of_dawid_and_skene_1979() -> None:
    """The paper's example: prevalences .40 .42 .11 .07, and the errors of its tables 2 and 3."""
    said = np.array([[[cell.count(each) for each in "1234"] for cell in row.split()] for row in PATIENTS.split(",")])
    assert said.shape == (45, 5, 4)
    found = estimate(said, np.ones(45))
    assert found.converged
    assert found.prevalence == pytest.approx([0.40, 0.42, 0.11, 0.07], abs=0.005)
    assert found.errors[0].ravel() == pytest.approx(
        [0.89, 0.11, 0, 0, 0.07, 0.88, 0.05, 0, 0, 0.34, 0.66, 0, 0, 0, 0.56, 0.44], abs=0.006
    )
    assert found.posterior.sum(axis=1) == pytest.approx(np.ones(45))
    assert found.posterior[0].argmax() == 0
    assert found.posterior[1].argmax() == 3, "two say 4 and three say 3; those who say 4 mean it"


def test_units_count_as_often_as_they_stand_for() -> None:
    """A unit that stands for three is that unit three times; many data sets at once are each as if alone."""
    said = np.eye(3)[np.array([[0, 0, 1], [2, 2, 2], [0, 2, 2], [1, 1, 0], [0, 0, 0]])]
    times = np.array([[3, 9, 1, 2, 4], [1, 1, 2, 2, 1]])
    both = estimate(said, times)
    for row, prevalence in zip(times, both.prevalence, strict=True):
        assert estimate(np.repeat(said, row, axis=0), np.ones(row.sum())).prevalence == pytest.approx(
            prevalence, abs=1e-4
        )


def test_known_errors_are_found() -> None:
    """Of words drawn with known errors, prevalence, sensitivity and specificity lie in their intervals."""
    rng = np.random.default_rng(1)
    prevalence = np.array([0.2, 0.1, 0.7])
    _, said = drawn(rng, [GOOD, LAX, STRICT], prevalence, (250, 20))
    found = heard_by(said)
    assert (found.n, found.thrice, found.clusters, found.converged) == (5000, 5000, 250, True)
    for share, truth in zip(found.prevalence, prevalence, strict=True):
        assert share.value == pytest.approx(truth, abs=0.03)
    for name, table in zip("abc", (GOOD, LAX, STRICT), strict=True):
        hit = found.sensitivity[name]["relevant"]
        assert hit.value == pytest.approx(table[0][0], abs=0.05)
        assert hit.low is not None
        assert hit.high is not None
        assert 0 < hit.high - hit.low < 0.15
        # of irrelevant and partial ones, 7 to 1
        miss = (0.7 * (1 - table[2][0]) + 0.1 * (1 - table[1][0])) / 0.8
        assert found.specificity[name]["relevant"].value == pytest.approx(miss, abs=0.04)


def test_what_a_cascade_does_not_ask_is_no_problem() -> None:
    """Where the next judge is asked only of what the one before did not call irrelevant, the estimate still holds."""
    rng = np.random.default_rng(2)
    prevalence = np.array([0.2, 0.1, 0.7])
    _, said = drawn(rng, [LAX, GOOD, STRICT], prevalence, (1000, 10))
    stopped = (said[..., 0] == I) & (rng.random(said.shape[:2]) > 0.2)  # and a fifth of the rest as second opinions
    said[stopped, 1:] = NOT_ASKED
    found = heard_by(said, resamples=0)
    assert found.n == 10_000
    assert found.thrice == (~stopped).sum()
    assert [share.value for share in found.prevalence] == pytest.approx(prevalence.tolist(), abs=0.03)
    # counted among the pairs that it saw, the last judge would seem far less able to tell irrelevant ones
    assert found.errors["c"][I][I].value == pytest.approx(0.95, abs=0.02)
    assert found.prevalence[0].low is None


def test_posteriors_follow_the_judge_who_knows() -> None:
    """Of two against one, the estimate sides with the one that is right; pairs with the same words have the same."""
    rng = np.random.default_rng(3)
    sharp = [[0.98, 0.01, 0.01], [0.01, 0.98, 0.01], [0.01, 0.01, 0.98]]
    poor = [[0.5, 0.2, 0.3], [0.3, 0.4, 0.3], [0.3, 0.2, 0.5]]
    truth, said = drawn(rng, [sharp, poor, poor], [0.4, 0.2, 0.4], (1000, 10))
    found = heard_by(said, resamples=0)
    likely = found.likely((R, I, I))
    assert likely is not None
    assert likely["relevant"] > 0.8
    votes = np.array([found.posterior[tuple(codes)][1] for codes in said.reshape(-1, 3).tolist()]).argmax(axis=1)
    assert (votes == truth.ravel()).mean() > 0.95
    assert found.likely((R, I, N)) is None


@pytest.mark.parametrize("words", [[], [[(R, R, N)]], [[(N, N, N)], [(I, NOT_ASKED, NOT_ASKED)]]])
def test_without_three_labels_there_is_no_estimate(words: Any) -> None:
    """Two words on a pair cannot tell errors from prevalence."""
    panel = Panel("abc")
    for query in words:
        panel.add(query)
    assert consensus(panel.heard(), seed=0) is None


def test_constant_judges_are_answered() -> None:
    """All say the same of everything: the prevalence is 1, errors of what never is are undefined, JSON holds no NaN."""
    found = heard_by([[(I, I, I)] * 2] * 5)
    assert [share.value for share in found.prevalence] == pytest.approx([0, 0, 1])
    assert found.sensitivity["a"]["relevant"].value is None
    assert found.specificity["a"]["relevant"].value == 1
    told = json.dumps(found.to_json(), allow_nan=False)
    assert '"said": ["irrelevant", "irrelevant", "irrelevant"], "n": 10' in told


@settings(max_examples=40, deadline=None)
@given(st.lists(st.lists(st.tuples(*[st.integers(0, NOT_ASKED)] * 3), max_size=4), max_size=6), st.randoms())
def test_any_words_in_any_order(words: Any, dice: Any) -> None:
    """Whatever was said, the estimate is made or there is none, and the order of queries and pairs is nothing."""
    told = []
    for each in (words, [dice.sample(query, len(query)) for query in dice.sample(words, len(words))]):
        panel = Panel("abc")
        for query in each:
            panel.add(query)
        found = consensus(panel.heard(), seed=1, resamples=3)
        told.append(json.dumps(found.to_json() if found else None, allow_nan=False))
        assert found is None or sum(share.value or 0 for share in found.prevalence) == pytest.approx(1)
    assert told[0] == told[1]
    assert LABELS[0] in told[0] or told[0] == "null"
