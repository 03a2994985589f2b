import json
from collections.abc import Mapping, Sequence
from typing import Any

import pytest

from relabel.agreement import CODES, NOT_ASKED
from relabel.records import Label
from relabel.reviewers import NAMED, OTHERS, Reviewers

R, P, I = CODES["relevant"], CODES["partial"], CODES["irrelevant"]  # noqa: E741 - as the letters mean
Pairs = Sequence[tuple[tuple[int, ...], Mapping[str, Label]]]


def figures_of(*queries: Pairs, judges: Sequence[str] = ("cheap", "strong")) -> Any:
    """Return the figures of people's labels on these queries."""
    reviewers = Reviewers(judges)
    for query in queries:
        reviewers.add(query)
    return reviewers.figures(seed=0)


QUERIES: tuple[Pairs, ...] = (
    [
        ((R, R), {"anna": "relevant", "ben": "relevant", "cy": "relevant"}),
        ((R, I), {"anna": "irrelevant", "ben": "relevant"}),
        ((I, I), {}),
    ],
    [
        ((P, NOT_ASKED), {"ben": "partial", "cy": "irrelevant", "anna": "partial"}),
        ((I, I), {"anna": "irrelevant"}),
    ],
)


def test_people_are_counted() -> None:
    """Labels of each, pairs with one label and with more, and those on which people are divided."""
    figures = figures_of(*QUERIES)
    assert figures["reviewers"] == {"anna": 4, "ben": 3, "cy": 2}
    assert figures["pairs"] == {"one_label": 1, "more_labels": 3, "divided": 1}
    json.dumps(figures, allow_nan=False)


def test_the_ceiling_is_the_agreement_of_people_among_themselves() -> None:
    """All together on pairs with two labels and more, and two by two."""
    figures = figures_of(*QUERIES)
    together = figures["together"]
    assert (together["n"], together["by_labels"]) == (3, {"2": 1, "3": 2})
    # three of three pairs of labels agree, none of one, one of three
    assert together["figures"]["agreement"]["value"] == pytest.approx((1 + 0 + 1 / 3) / 3, abs=1e-6)
    pairwise = {(entry["first"], entry["second"]): entry for entry in figures["agreement"]}
    assert {names: entry["n"] for names, entry in pairwise.items()} == {
        ("anna", "ben"): 3, ("anna", "cy"): 2, ("ben", "cy"): 2,
    }  # fmt: skip
    assert pairwise["anna", "ben"]["figures"]["agreement"]["value"] == pytest.approx(2 / 3, abs=1e-6)


def test_judges_are_compared_with_each_person() -> None:
    """Every judge with every person, on the pairs that both labelled."""
    found = {(entry["first"], entry["second"]): entry for entry in figures_of(*QUERIES)["judges"]}
    assert len(found) == 6
    assert found["cheap", "anna"]["n"] == 4
    assert found["cheap", "anna"]["figures"]["agreement"]["value"] == 0.75
    assert found["strong", "anna"]["n"] == 3
    assert found["strong", "anna"]["figures"]["agreement"]["value"] == 1


def test_a_person_is_compared_with_the_majority_of_the_others() -> None:
    """Only where two others labelled; where these are divided the majority has no label, which is counted."""
    (anna, ben, cy) = figures_of(*QUERIES)["others"]
    assert (anna["first"], anna["second"]) == ("anna", OTHERS)
    assert (anna["n"], anna["none_second"]) == (1, 1)
    assert (ben["n"], ben["none_second"]) == (1, 1)
    assert (cy["n"], cy["none_second"], cy["figures"]["agreement"]["value"]) == (2, 0, 0.5)
    two = figures_of([((R, R), {"anna": "relevant", "ben": "partial"})])
    assert two["others"] == []
    assert two["pairs"] == {"one_label": 0, "more_labels": 1, "divided": 1}


@pytest.mark.parametrize("queries", [[], [[]], [[((R, R), {"anna": "relevant"})], [((I, I), {"anna": "partial"})]]])
def test_one_person_shows_no_ceiling(queries: Any) -> None:
    """Nobody's labels, or one person's, say nothing of how far people agree."""
    assert figures_of(*queries) is None


def test_people_who_never_met() -> None:
    """Two people without a pair in common: counted, and no figure made up."""
    figures = figures_of([((R, R), {"anna": "relevant"}), ((R, R), {"ben": "relevant"})])
    assert figures["together"]["n"] == figures["agreement"][0]["n"] == 0
    assert figures["agreement"][0]["figures"]["kappa"]["value"] is None


def test_a_crowd_is_compared_together() -> None:
    """Of very many people those with the most labels are compared two by two, and all of them together."""
    crowd: dict[str, Label] = {f"p{number:02}": "relevant" for number in range(20)}
    figures = figures_of([((R, R), crowd), ((R, R), {"p19": "partial", "p18": "partial"})], judges=("cheap",))
    assert len(figures["agreement"]) == NAMED * (NAMED - 1) / 2
    assert figures["agreement"][0]["first"] == "p18"
    assert figures["together"]["by_labels"] == {"2": 1, "20": 1}
    assert len(figures["judges"]) == NAMED
    assert figures["together"]["figures"]["fleiss_kappa"]["value"] == 1


def test_order_is_nothing() -> None:
    """Queries, pairs and people in another order give the same bytes."""
    turned = [
        [(codes, dict(reversed(list(said.items())))) for codes, said in reversed(query)] for query in reversed(QUERIES)
    ]
    assert json.dumps(figures_of(*QUERIES)) == json.dumps(figures_of(*turned))
