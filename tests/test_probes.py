"""Questions whose answer is known, made of the input alone."""

from collections import Counter

import pytest
from hypothesis import given
from hypothesis import strategies as st

from relabel.probes import overlap, probes, swapped
from relabel.records import Example, Passage


def row(number: int, positives: int, query: str = "") -> Example:
    """Return a row whose passages say whose they are."""
    good = tuple(Passage(f"p{number}-{i}", f"answer {i} to {number}") for i in range(positives))
    return Example(f"q{number}", query or f"question {number}", good, (Passage(f"n{number}", "no answer"),))


@given(st.lists(st.integers(0, 3), max_size=12), st.integers(0, 3))
def test_a_probe_is_balanced_and_true(positives: list[int], seed: int) -> None:
    """As many of one side as of the other; a positive is held out of its reference; another's is of another query."""
    rows = [row(number, count) for number, count in enumerate(positives)]
    made = probes(rows, seed=seed, shows=True, requires=True)
    assert sum(each.relevant for each in made) * 2 == len(made)
    for each in made:
        (candidate,) = each.example.negatives
        whose = candidate.text.rsplit(" ", 1)[1]
        assert (f"q{whose}" == each.example.id) is each.relevant
        assert each.example.positives
        assert candidate not in each.example.positives
    sides = [Counter(p.example.negatives[0].text for p in made if p.relevant is side) for side in (True, False)]
    assert sides[0] == sides[1]
    assert len(made) == (2 * sum(count > 1 for count in positives) if sum(count > 1 for count in positives) > 1 else 0)


def test_rows_with_one_positive() -> None:
    """They take part without a reference where none is needed, and with their own where none is shown."""
    rows = [row(number, 1) for number in range(4)]
    assert probes(rows, seed=0, shows=True, requires=True) == []
    optional = probes(rows, seed=0, shows=True, requires=False)
    assert len(optional) == 8
    assert all(not each.example.positives for each in optional)
    unseen = probes(rows, seed=0, shows=False, requires=False)
    assert [each.example.positives for each in unseen if each.relevant] != []


def test_the_same_query_is_no_other_query() -> None:
    """Rows with one query text, or passages that answer both, never stand on the wrong side."""
    rows = [row(0, 2, "same"), row(1, 2, "same")]
    assert probes(rows, seed=0, shows=True, requires=True) == []
    three = probes([*rows, row(2, 2)], seed=0, shows=True, requires=True)
    for each in three:
        if not each.relevant:
            whose = int(each.example.negatives[0].text.rsplit(" ", 1)[1])
            assert (whose == 2) is (each.example.query == "same")


def test_probes_depend_on_seed_and_content_alone() -> None:
    """Rows in another order give the same probe; another seed another one."""
    rows = [row(number, 3) for number in range(8)]
    made = [
        probes(given, seed=seed, shows=True, requires=True) for given, seed in ((rows, 1), (rows[::-1], 1), (rows, 2))
    ]
    assert made[0] == made[1]
    assert made[0] != made[2]


def test_a_swap_asks_the_other_way_round() -> None:
    """The candidate is the whole reference, the row's first positive the one candidate."""
    example = row(3, 2)
    found = swapped(example, example.negatives[0])
    assert (found.positives, found.negatives) == (example.negatives, example.positives[:1])
    assert (found.id, found.query) == (example.id, example.query)


@pytest.mark.parametrize(
    ("query", "text", "wanted"),
    [
        ("Red wine stains", "wine leaves stains; red ones", 1.0),
        ("red red wine", "RED.", 0.5),
        ("?", "anything", 0.0),
        ("ß straße", "STRASSE", 0.5),
    ],
)
def test_overlap(query: str, text: str, wanted: float) -> None:
    """Distinct words of the query, in whatever case; a query without words has none in common."""
    assert overlap(query, text) == wanted
