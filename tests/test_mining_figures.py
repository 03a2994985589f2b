"""The figures of a mining report: worked by hand, whatever the order of arrival, in bounded memory."""

import json
import math
import random
from collections.abc import Sequence
from statistics import fmean, pstdev, quantiles
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from relabel.agreement import rate_interval
from relabel.mining.figures import Figures, Mined, Ranking, Snapshot, change
from relabel.mining.tallies import SAMPLE, Mean, Scores

pytest.importorskip("numpy")

FIRST = Mined(
    "q1",
    positives=(1, 2),
    chosen=(5, 6),
    sources=("dense", "bm25"),
    rankings={
        "dense": Ranking((5, 1, 7), (0.9, None), (0.8, 0.5), (0.95, 9.0, 0.75)),
        "bm25": Ranking((6, 5), (math.nan, 12.0), (3.0, 4.0), (0.1, 0.9)),
    },
    candidates=5,
    wanted=2,
    repeated=1,
    removed={"relative_margin": 2},
    silent={"relative_margin": 1},
    judged=(0.95, 0.1),
)
SECOND = Mined(
    "q2",
    positives=(3,),
    chosen=(7,),
    sources=("dense",),
    rankings={"dense": Ranking((7, 8), (0.7,), (0.6,), (0.2, None)), "bm25": Ranking((7,), (1.0,), (2.0,), (0.2,))},
    candidates=3,
    wanted=2,
    strangers=1,
    removed={"relative_margin": 1, "repeated": 1},
    judged=(0.2,),
)
THIRD = Mined(
    "q3", positives=(4,), chosen=(), sources=(), rankings={"dense": Ranking(()), "bm25": Ranking(())}, wanted=2
)


def figures(rows: Sequence[Mined], **settings: Any) -> dict[str, Any]:
    """Return the figures of rows that two retrievers mined."""
    collected = Figures(("dense", "bm25"), 3, filters=("relative_margin", "max_score"), **settings)
    for row in rows:
        collected.add(row)
    return collected.result()


RESULT = figures([FIRST, SECOND, THIRD])


def test_rows_sources_conflicts_and_repeated() -> None:
    """Three rows: one full, one short, one empty, which is short too."""
    assert RESULT["rows"] == {
        "rows": 3, "positives": 4, "negatives": 3, "with_fewer_than_wanted": 2, "with_none": 1,
    }  # fmt: skip
    assert RESULT["negatives_by_source"] == {"bm25": 1, "dense": 2}
    assert RESULT["conflicts"] == {
        "negatives": 1, "of_negatives": 3, "rows": 1, "of_rows": 3, "share_of_rows": 0.333333,
    }  # fmt: skip
    assert RESULT["repeated"] == {"candidates": 1, "of_candidates": 8, "queries": 1, "of_queries": 3}
    assert RESULT["filters"] == {
        "candidates": 8,
        "removed": {"relative_margin": 3, "max_score": 0, "repeated": 1},
        "silent": {"relative_margin": 1, "max_score": 0, "repeated": 0},
    }


def test_where_the_positives_stand() -> None:
    """Of q1's two positives dense has one at rank 2; q2's and q3's are not found; BM25 finds none."""
    dense, bm25 = (RESULT["retrievers"][name] for name in ("dense", "bm25"))
    assert dense["positive_rank"] == {
        "queries": 3,
        "success_at_depth": 0.333333,
        "recall_at_depth": pytest.approx(1 / 6, rel=1e-5),
        "mrr_at_10": pytest.approx(1 / 6, rel=1e-5),
        "positives": 4,
        "positives_not_found": 3,
    }
    assert (dense["queries"], dense["found"], bm25["found"]) == (3, 5, 3)
    assert (bm25["positive_rank"]["success_at_depth"], bm25["positive_rank"]["positives_not_found"]) == (0.0, 4)


def test_a_positive_beyond_rank_10_counts_for_success_alone() -> None:
    """MRR@10 ends at 10: rank 10 counts, rank 11 does not."""
    for place, reciprocal in ((9, 0.1), (10, 0.0)):
        row = Mined("q", (place,), (), (), {"dense": Ranking(tuple(range(20)))})
        found = figures([row])["retrievers"]["dense"]["positive_rank"]
        assert (found["mrr_at_10"], found["success_at_depth"]) == (reciprocal, 1.0)


def test_scores_of_positives_and_of_negatives() -> None:
    """By each retriever's own scores, whoever took the negative; missing ones are counted."""
    scores = RESULT["retrievers"]["dense"]["scores"]
    assert scores["positives"] == {
        "count": 2, "unknown": 1, "mean": 0.8, "sd": 0.1, "min": 0.7, "q1": 0.75, "median": 0.8, "q3": 0.85, "max": 0.9,
    }  # fmt: skip
    chosen = scores["chosen"]
    assert (chosen["count"], chosen["unknown"], chosen["median"]) == (3, 0, 0.6)
    assert chosen["sd"] == pytest.approx(pstdev([0.8, 0.5, 0.6]), rel=1e-5)
    nothing = figures([])["retrievers"]["bm25"]["scores"]["chosen"]
    assert (nothing["count"], nothing["mean"], nothing["q1"]) == (0, None, None)


def test_overlap() -> None:
    """q1: {5, 1, 7} and {6, 5} share one of four; q2: {7, 8} and {7} one of two; q3 found nothing and has no index."""
    assert RESULT["overlap"] == [
        {"first": "dense", "second": "bm25", "queries": 2, "jaccard_at_10": 0.375, "jaccard_at_depth": 0.375}
    ]
    deep = Mined("q", (), (), (), {"dense": Ranking(range(20)), "bm25": Ranking(range(10, 30))})
    (pair,) = figures([deep])["overlap"]
    assert (pair["jaccard_at_10"], pair["jaccard_at_depth"]) == (0.0, pytest.approx(1 / 3, rel=1e-5))


def test_suspected_false_negatives_by_rank() -> None:
    """Known positives are left out; each rate is over queries, with the interval of `rate_interval`."""
    first, second = RESULT["false_negatives"]["by_rank"]["dense"]
    assert (first["ranks"], first["queries"], first["candidates"], first["not_judged"]) == ("1", 2, 2, 0)
    assert (first["certain"]["count"], first["suspicious"]["count"]) == (1, 1)
    assert first["certain"]["rate"] == rate_interval({(1, 1): 1, (0, 1): 1}, seed=0).to_json()
    # at ranks 2 to 5: of q1 the positive 1 (left out) and .75, of q2 one without a score
    assert (second["ranks"], second["queries"], second["candidates"], second["not_judged"]) == ("2-5", 1, 1, 1)
    assert (second["certain"]["count"], second["suspicious"]["count"], second["suspicious"]["rate"]["value"]) == (
        0,
        1,
        1,
    )
    assert RESULT["false_negatives"]["thresholds"] == {"certain": 0.9, "suspicious": 0.7}


def test_suspected_false_negatives_among_the_chosen() -> None:
    """By the retriever that took them; BM25's only one is none."""
    chosen = RESULT["false_negatives"]["chosen"]
    assert (chosen["dense"]["candidates"], chosen["dense"]["queries"], chosen["dense"]["certain"]["count"]) == (2, 2, 1)
    assert (chosen["bm25"]["candidates"], chosen["bm25"]["suspicious"]["count"]) == (1, 0)


@pytest.mark.parametrize(
    ("found", "names", "sizes"),
    [
        (1, ["1"], [1]),
        (6, ["1", "2-5", "6-10"], [1, 4, 1]),
        (31, ["1", "2-5", "6-10", "11-30", "31-100"], [1, 4, 5, 20, 1]),
        (1001, ["1", "2-5", "6-10", "11-30", "31-100", "101-300", "301-1000", "1001-"], [1, 4, 5, 20, 70, 200, 700, 1]),
    ],
)
def test_bands_of_ranks(found: int, names: list[str], sizes: list[int]) -> None:
    """Each band begins where the one before ends."""
    row = Mined("q", (), (), (), {"dense": Ranking(range(found), judged=[0.0] * found)}, spared=())
    bands = figures([row])["false_negatives"]["by_rank"]["dense"]
    assert [band["ranks"] for band in bands] == names
    assert [band["candidates"] for band in bands] == sizes


def test_spared_passages_are_no_candidates() -> None:
    """They are neither suspected nor counted; thresholds may have any names."""
    row = Mined("q", (), (), (), {"dense": Ranking((1, 2, 3), judged=(1.0, 1.0, 0.0))}, spared=(2,))
    rest = figures([row], thresholds={"likely": 0.5})["false_negatives"]["by_rank"]["dense"][1]
    assert (rest["candidates"], rest["likely"]["count"]) == (1, 0)


def some_rows(count: int, seed: int) -> list[Mined]:
    """Return made-up rows."""
    dice = random.Random(seed)
    rows = []
    for number in range(count):
        found = {name: dice.sample(range(60), dice.randrange(12)) for name in ("dense", "bm25")}
        chosen = dice.sample(range(60), dice.randrange(4))
        rankings = {
            name: Ranking(
                each, [dice.gauss(0, 1)], [dice.gauss(0, 1e-3) for _ in chosen], [dice.random() for _ in each]
            )
            for name, each in found.items()
        }
        sources = [dice.choice(("dense", "bm25")) for _ in chosen]
        rows.append(Mined(f"q{number}", (number % 60,), chosen, sources, rankings, wanted=3))
    return rows


def test_no_figure_depends_on_the_order_of_arrival(monkeypatch: pytest.MonkeyPatch) -> None:
    """The same bytes in any order, where the quartiles come from a sample too; and the result is plain JSON."""
    monkeypatch.setattr("relabel.mining.tallies.SAMPLE", 20)
    rows = some_rows(100, 1)
    expected = json.dumps(figures(rows), allow_nan=False)
    for seed in range(3):
        assert json.dumps(figures(random.Random(seed).sample(rows, 100))) == expected
    assert json.dumps(figures(rows, seed=1)) != expected


@given(scores=st.lists(st.floats(-(2.0**90), 2.0**90, width=32), min_size=1, max_size=60))
def test_a_distribution_is_that_of_its_scores(scores: list[float]) -> None:
    """As the standard library has it, for scores of any size; small ones do not drown."""
    spread = Scores()
    spread.add(scores, range(len(scores)), "dice")
    found = spread.to_json()
    size = max(map(abs, scores))
    assert found["mean"] == pytest.approx(fmean(scores), rel=1e-5, abs=1e-10 * size + 1e-18)
    assert found["sd"] == pytest.approx(pstdev(scores), rel=1e-5, abs=1e-18)
    assert (found["min"], found["max"]) == pytest.approx((min(scores), max(scores)), rel=1e-5)
    if len(scores) > 1:
        expected = quantiles(scores, n=4, method="inclusive")
        assert [found[name] for name in ("q1", "median", "q3")] == pytest.approx(expected, rel=1e-4, abs=1e-5 * size)


def test_quartiles_of_many_come_from_a_bounded_sample() -> None:
    """Of 30,000 scores spread evenly over 0 to 1 they are right to .04, five of their standard errors."""
    spread = Scores()
    for number in range(30_000):
        spread.add([number / 30_000], [7], str(number))
    found = spread.to_json()
    assert (found["count"], len(spread._sample)) == (30_000, SAMPLE)
    assert [found[name] for name in ("q1", "median", "q3")] == pytest.approx([0.25, 0.5, 0.75], abs=0.04)


def test_a_mean_of_nothing_is_none() -> None:
    """A ratio of nothing does not count."""
    mean = Mean()
    mean.add(0, 0)
    assert (mean.count, mean.value) == (0, None)


def test_rows_that_do_not_fit_are_refused() -> None:
    """Parallel lists of other lengths, and a retriever that was not announced."""
    with pytest.raises(ValueError, match="0 sources for 1 negatives"):
        figures([Mined("q", (), (1,), (), {})])
    with pytest.raises(ValueError, match="zip"):
        figures([Mined("q", (), (), (), {"dense": Ranking((1, 2), judged=(0.1,))})])
    with pytest.raises(KeyError, match="other"):
        figures([Mined("q", (), (), (), {"other": Ranking(())})])


def test_one_query_is_counted_in_numbers() -> None:
    """A count of one is 1 in the report, not `true`."""
    found = figures([Mined("q", (), (), (), {}, wanted=1, repeated=2, strangers=3)])
    counts = [found["rows"]["with_fewer_than_wanted"], found["rows"]["with_none"], found["repeated"]["queries"]]
    counts += [
        found["conflicts"]["rows"],
        change([Snapshot((), ())], [Snapshot((), ())])["negatives"]["rows_unchanged"],
    ]
    assert [str(each) for each in counts] == ["1"] * 5


# -- what a refresh changed ---------------------------------------------------------------------------------


def test_a_refresh_by_hand() -> None:
    """The same row in another order, two new negatives, one of the old pool, a row emptied, two empty."""
    before = [
        Snapshot(("a", "b"), ("a", "b", "c"), 5),
        Snapshot(("a", "b"), ("a", "b", "c"), 3),
        Snapshot(("a",), ("a",), None),
        Snapshot((), (), 1),
        Snapshot((), (), None),
    ]
    after = [
        Snapshot(("b", "a"), ("a", "b"), 1),
        Snapshot(("a", "c", "d"), ("a", "c", "d"), 4),
        Snapshot((), ("a",), 2),
        Snapshot((), (), None),
        Snapshot((), (), None),
    ]
    assert change(before, after) == {
        "rows": 5,
        "negatives": {
            "jaccard": pytest.approx((1 + 1 / 4 + 0) / 3, rel=1e-5),
            "of_rows": 3,
            "rows_unchanged": 3,
            "share_of_rows_unchanged": 0.6,
            "new": 2,
            "new_beyond_the_old_pool": 1,
            "share_of_new_beyond_the_old_pool": 0.5,
        },
        "positive": {
            "mean_rank_shift": -1.5,
            "of_queries_found_in_both": 2,
            "found_only_before": 1,
            "found_only_after": 1,
            "found_in_neither": 1,
        },
    }


def test_a_refresh_of_nothing_or_of_other_queries() -> None:
    """No rows have no shares; rounds of different length are no pair."""
    nothing = change(iter(()), iter(()))
    assert (nothing["rows"], nothing["negatives"]["jaccard"], nothing["positive"]["mean_rank_shift"]) == (0, None, None)
    with pytest.raises(ValueError, match="zip"):
        change([Snapshot((), ())], [])
