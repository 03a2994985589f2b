"""Fused rankings, quotas and recorded runs: by hand, and what holds for any."""

import math
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from pools import candidate, texts

from relabel.mining.fusion import reciprocal_rank_fusion, union
from relabel.mining.recorded import Recorded
from relabel.mining.searching import Asked, Hits

pytest.importorskip("numpy")

QUERY = Asked(0, "q", "a question", ())


class Counted:
    """A collection that only says how many passages it has."""

    fingerprint = "counted"
    queries = 0

    def __init__(self, documents: int, passages: int = 0) -> None:
        self.documents, self.passages = documents, max(documents, passages)

    def texts(self, first: int = 0, last: int | None = None) -> Iterator[str]:
        """Yield no text."""
        yield from list[str]()[first:last]

    def asked(self, first: int = 0, last: int | None = None) -> Iterator[Asked]:
        """Yield no query."""
        yield from list[Asked]()[first:last]


def silent(_: str, __: int, ___: int) -> None:
    """Hear of progress and say nothing."""


def hits(*numbers: int) -> Hits:
    """Return a ranking of these numbers."""
    return Hits(np.array(numbers, dtype=np.int64), np.linspace(1, 0, len(numbers), dtype=np.float32))


def run(listed: Sequence[tuple[int, float | None]]) -> Recorded:
    """Return a retriever over one list."""
    recorded = Recorded("run", lambda _: listed)
    recorded.prepare(Counted(100), silent)
    return recorded


def pairs(found: Hits) -> list[tuple[int, float]]:
    """Return numbers with scores."""
    return list(zip(found.numbers.tolist(), found.scores.tolist(), strict=True))


# -- reciprocal rank fusion ---------------------------------------------------------------------------------


def test_worked_example() -> None:
    """7 is second and first, 5 first and third, 9 is in one ranking only."""
    fused = pairs(reciprocal_rank_fusion([hits(5, 7, 9), hits(7, 3, 5)]))
    expected = [(7, 1 / 62 + 1 / 61), (5, 1 / 61 + 1 / 63), (3, 1 / 62), (9, 1 / 63)]
    assert [number for number, _ in fused] == [number for number, _ in expected]
    assert [score for _, score in fused] == pytest.approx([score for _, score in expected], rel=1e-6)
    assert [number for number, _ in pairs(reciprocal_rank_fusion([hits(5, 7, 9), hits(7, 3, 5)], 2))] == [7, 5]


def test_ties_go_by_number_and_nothing_found_is_no_error() -> None:
    """The first of two rankings without a common passage score the same."""
    assert [number for number, _ in pairs(reciprocal_rank_fusion([hits(9, 4), hits(2, 8)]))] == [2, 9, 4, 8]
    assert pairs(reciprocal_rank_fusion([hits(), hits()])) == []
    assert pairs(reciprocal_rank_fusion([])) == []


def test_k_says_how_much_the_first_ranks_stand_out() -> None:
    """One first place beats two fifth places with k = 0, and loses with k = 60."""
    rankings = [hits(1, 11, 12, 13, 2), hits(21, 22, 23, 24, 2)]
    assert reciprocal_rank_fusion(rankings, 1, k=0).numbers.tolist() == [1]
    assert reciprocal_rank_fusion(rankings, 1, k=60).numbers.tolist() == [2]


RANKINGS = st.lists(st.lists(st.integers(0, 30), unique=True, max_size=12), max_size=4)


@given(rankings=RANKINGS, depth=st.none() | st.integers(0, 20), k=st.floats(0, 100))
def test_any_fusion_is_ordered_distinct_and_complete(rankings: list[list[int]], depth: int | None, k: float) -> None:
    """Scores descend, ties ascend by number, no passage is there twice, and every one of the best is there."""
    fused = pairs(reciprocal_rank_fusion([hits(*ranking) for ranking in rankings], depth, k))
    assert fused == sorted(fused, key=lambda each: (-each[1], each[0]))
    there = {number for ranking in rankings for number in ranking}
    assert len(fused) == len({number for number, _ in fused}) == min(len(there), len(there) if depth is None else depth)
    for number, score in fused:
        places = [ranking.index(number) + 1 for ranking in rankings if number in ranking]
        assert score == pytest.approx(sum(1 / (k + place) for place in places), rel=1e-5)


# -- quotas -------------------------------------------------------------------------------------------------


def drawn(lists: Mapping[str, str]) -> list[list[Any]]:
    """Return candidates named by single letters, by source."""
    return [[candidate(text, None, source=source) for text in letters] for source, letters in lists.items()]


@pytest.mark.parametrize(
    ("lists", "quotas", "taken"),
    [
        ({"d": "abc", "b": "xyz"}, [2, 1], "d:a b:x d:b"),
        ({"d": "abc", "b": "abz"}, [2, 2], "d:a b:b d:c b:z"),  # the second of b is b's: d passed it on
        ({"d": "a", "b": "xyz"}, [3, 1], "d:a b:x b:y b:z"),  # what d cannot give, b does
        ({"d": "a", "b": "xyz", "c": "uvw"}, [3, 1, 1], "d:a b:x c:u b:y c:v"),  # in turns
        ({"d": "abc", "b": "xyz"}, [0, 2], "b:x b:y"),
        ({"d": "abc", "b": "x"}, [0, 2], "b:x"),  # 0 is none, whoever has too few
        ({"d": "abc", "b": "x", "c": "yz"}, [0, 2, 1], "b:x c:y c:z"),
        ({"d": "ab", "b": "ba"}, [3, 3], "d:a b:b"),
        ({"d": "", "b": ""}, [1, 1], ""),
        ({}, [], ""),
    ],
)
def test_quotas_by_hand(lists: dict[str, str], quotas: list[int], taken: str) -> None:
    """In turns, no passage twice, unused quota goes on, and every negative says who took it."""
    found = union(drawn(lists), quotas)
    assert " ".join(f"{each.source}:{each.passage.text}" for each in found) == taken


LETTERS = st.text(st.sampled_from("abcdefgh"), max_size=8).map(lambda text: "".join(dict.fromkeys(text)))


@given(lists=st.lists(LETTERS, max_size=4), data=st.data())
def test_any_union(lists: list[str], data: st.DataObject) -> None:
    """As many as the quotas say, or all there are; no passage twice; nobody is over quota while another could give."""
    quotas = data.draw(st.lists(st.integers(0, 5), min_size=len(lists), max_size=len(lists)))
    found = union(drawn({str(number): letters for number, letters in enumerate(lists)}), quotas)
    there = {letter for letters, quota in zip(lists, quotas, strict=True) if quota for letter in letters}
    assert len(found) == len(set(texts(found))) == min(sum(quotas), len(there))
    for number, (letters, quota) in enumerate(zip(lists, quotas, strict=True)):
        given_by = [each.passage.text for each in found if each.source == str(number)]
        assert given_by == [letter for letter in letters if letter in given_by]
        if len(given_by) < quota:
            assert set(letters) <= set(texts(found))
        elif len(given_by) > quota:
            assert quota
            others = [sum(each.source == str(other) for each in found) for other in range(len(lists))]
            assert any(count < quotas[other] for other, count in enumerate(others))


def test_quotas_that_cannot_be() -> None:
    """Refused by what is wrong."""
    with pytest.raises(ValueError, match="1 quotas for 2 retrievers"):
        union(drawn({"d": "a", "b": "x"}), [1])
    with pytest.raises(ValueError, match="a quota is -1"):
        union(drawn({"d": "a"}), [-1])


# -- recorded runs ------------------------------------------------------------------------------------------


def test_a_run_is_ranked_by_its_scores() -> None:
    """Highest first, ties in its order; a repeated passage by its better score; no passage beyond the corpus."""
    recorded = run([(4, 1.0), (7, 2.5), (3, 1.0), (1, 1.0), (4, 2.0), (200, 9.0)])
    assert pairs(recorded.search([QUERY], 10)[0]) == [(7, 2.5), (4, 2.0), (3, 1.0), (1, 1.0)]
    assert pairs(recorded.search([QUERY], 2)[0]) == [(7, 2.5), (4, 2.0)]
    scores = recorded.score(QUERY, [3, 8, 200, 4]).tolist()
    assert (scores[0], scores[2:]) == (1.0, [9.0, 2.0])
    assert math.isnan(scores[1])
    assert recorded.near([1], [2]) is None


@pytest.mark.parametrize("unknown", [None, math.nan, math.inf])
def test_a_run_without_scores_keeps_its_order(unknown: float | None) -> None:
    """Its hits are in order, and none of its scores is known: no margin is taken from a rank."""
    recorded = run([(4, 0.5), (7, unknown), (3, 2.0), (4, 1.0)])
    (found,) = recorded.search([QUERY], 10)
    assert found.numbers.tolist() == [4, 7, 3]
    assert np.isnan(found.scores).all()
    assert np.isnan(recorded.score(QUERY, [4, 7, 9])).all()


def test_a_run_may_know_nothing_of_a_query() -> None:
    """Then nothing is found."""
    recorded = run([])
    assert pairs(recorded.search([QUERY], 10)[0]) == []
    assert np.isnan(recorded.score(QUERY, [1])).all()
