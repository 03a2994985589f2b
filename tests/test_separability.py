"""Synthetic and mined passages told apart by their text alone: the classifier, its interval, style and words."""

import math
import random
from collections.abc import Sequence

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from relabel.synthesis.artefacts import artefacts
from relabel.synthesis.features import STYLE, hashed, style_of
from relabel.synthesis.ranks import clustered_auc, dealt
from relabel.synthesis.separability import LEAST, Separability, separability

WORDS = [f"{first}{second}" for first in ("ba", "ke", "lo", "mi", "nu") for second in ("rt", "st", "n", "lm", "ck")]


def passages(
    seed: int, *, queries: int = 30, each: int = 6, opening: str = ""
) -> tuple[list[str], list[bool], list[str]]:
    """Make passages about a query's own words, half of each query's marked at random; marked ones get an opening."""
    dice = random.Random(seed)
    texts, marked, owners = [], [], []
    for query in range(queries):
        topic = dice.sample(WORDS, 5)
        for place in dice.sample(range(each), each):
            text = " ".join(dice.choice([*topic, *WORDS]) for _ in range(20))
            texts.append(f"{opening if place % 2 else ''}{text}.")
            marked.append(place % 2 == 1)
            owners.append(f"q{query}")
    return texts, marked, owners


def judged(texts: Sequence[str], marked: Sequence[bool], owners: Sequence[str]) -> Separability:
    """Run the test."""
    return separability(texts, marked, owners)


def test_an_opening_that_all_share_is_found() -> None:
    """Passages that begin like a chat bot are told apart nearly always, with a warning and the words that did it."""
    result = judged(*passages(1, opening="As a language model I note: "))
    assert result.auc.value is not None
    assert result.auc.low is not None
    assert result.auc.value > 0.9
    assert result.auc.low > 0.65
    assert result.warning.startswith("without seeing the query, a classifier tells synthetic from mined negatives")
    assert {"language", "model", "note"} <= {each.word for each in result.artefacts}
    assert all(each.z > 0 and each.synthetic == 1.0 for each in result.artefacts if each.word == "model")
    assert result.note == ""


def test_a_random_split_is_not_told_apart() -> None:
    """Where marks mean nothing the interval includes one half, and no word stands out."""
    result = judged(*passages(2))
    assert result.auc.low is not None
    assert result.auc.high is not None
    assert result.auc.low <= 0.5 <= result.auc.high
    assert result.warning == ""
    assert all(each.p > 0.001 for each in result.artefacts)
    assert result.words > 0


def test_the_topic_of_queries_is_no_artefact() -> None:
    """Queries with many synthetic passages do not make their topic words look like signs of synthetic text."""
    texts, marked, owners = [], [], []
    for query in range(40):
        many = query < 20
        for place in range(6):
            texts.append(f"{'harbour' if many else 'orchard'} of the town {WORDS[place]}")
            marked.append(place < (5 if many else 1))
            owners.append(str(query))
    found, words = artefacts(texts, np.array(marked), owners)
    assert words >= 2
    assert not {"harbour", "orchard"} & {each.word for each in found}


def test_length_alone_is_found_and_told() -> None:
    """Longer passages show in the median, the difference and the figure's own AUC."""
    texts, marked, owners = passages(3)
    longer = [text * 2 if mark else text for text, mark in zip(texts, marked, strict=True)]
    by_name = {each.name: each for each in judged(longer, marked, owners).style}
    assert set(by_name) == set(STYLE)
    assert by_name["words"].synthetic == 40
    assert by_name["words"].mined == 20
    assert by_name["words"].difference == 20
    assert by_name["words"].auc.value == 1.0
    assert by_name["digits"].auc.value == 0.5


def test_the_order_of_passages_does_not_matter() -> None:
    """The same passages in another order give the same figures, to the last bit."""
    given_ = list(zip(*passages(4, queries=12), strict=True))
    shuffled = random.Random(0).sample(given_, len(given_))
    first, second = (separability(*(list(column) for column in zip(*rows, strict=True))) for rows in (given_, shuffled))
    assert first.to_json() == second.to_json()


def test_too_few_say_nothing() -> None:
    """Below the least number there is no AUC and no warning, but a note."""
    texts, marked, owners = passages(5, queries=LEAST - 1)
    result = judged(texts, marked, owners)
    assert result.auc.value is None
    assert result.warning == ""
    assert (
        result.note == "too few to tell: 27 synthetic and 27 mined passages of 9 queries, where 10 of each are needed"
    )
    assert judged([], [], []).style == ()
    assert judged(texts, [False] * len(texts), owners).auc.value is None


def test_more_than_most_are_drawn_by_query() -> None:
    """Of many passages whole queries are looked at, and the rest is counted."""
    texts, marked, owners = passages(6, queries=20)
    result = separability(texts, marked, owners, most=75)
    assert (result.synthetic, result.mined, result.queries, result.left_out) == (36, 36, 12, 48)


def test_embeddings_are_seen_too() -> None:
    """What only the vectors show is found through them."""
    texts, marked, owners = passages(7)
    vectors = np.random.default_rng(0).normal(size=(len(texts), 8))
    vectors[:, 0] += np.where(marked, 2.0, -2.0)
    result = separability(texts, marked, owners, vectors=vectors)
    assert result.embedded
    assert result.auc.value is not None
    assert result.auc.value > 0.9


def test_lengths_must_agree() -> None:
    """Lists of different lengths raise."""
    with pytest.raises(ValueError, match="different lengths"):
        separability(["a"], [True, False], ["q"])


def test_auc_by_hand() -> None:
    """Two of one kind (3, 1) against two of the other (2, 0): of four pairs three are won; ties count half."""
    kinds, folds = np.array([True, True, False, False]), np.zeros(4, dtype=np.int64)
    clusters = np.arange(4)
    assert clustered_auc(np.array([3.0, 1.0, 2.0, 0.0]), kinds, clusters, folds).value == 0.75
    assert clustered_auc(np.array([1.0, 1.0, 1.0, 1.0]), kinds, clusters, folds).value == 0.5
    # structural components less the AUC: ¼, −¼ of the first kind, −¼, ¼ of the second, over two each; G / (G − 1) = 4/3
    interval = clustered_auc(np.array([3.0, 1.0, 2.0, 0.0]), kinds, clusters, folds)
    reach = 3.182446 * math.sqrt(4 / 3 * 4 * (0.25 / 2) ** 2) / (0.75 * 0.25)
    assert interval.low == pytest.approx(1 / (1 + math.exp(-(math.log(3) - reach))), abs=1e-6)


def test_a_perfect_auc_keeps_an_interval() -> None:
    """Ten queries without an error do not show that there are none: .025 ** (1/10) is the lower bound."""
    kinds = np.array([True, False] * 10)
    result = clustered_auc(kinds.astype(float), kinds, np.repeat(np.arange(10), 2), np.zeros(20, dtype=np.int64))
    assert result.value == result.high == 1.0
    assert result.low == pytest.approx(0.025**0.1)


@pytest.mark.parametrize("queries", range(20, 70))
def test_perfect_in_every_fold_is_perfect(queries: int) -> None:
    """Folds of unlike size have shares that may add up to a little less than 1, or more: the AUC is 1 all the same."""
    clusters = np.repeat(np.arange(queries), 3)
    kinds = np.arange(3 * queries) % 7 < 2
    result = clustered_auc(kinds.astype(float), kinds, clusters, clusters % 5)
    assert result.value == result.high == 1.0
    assert result.low == pytest.approx(0.025 ** (1 / queries))


@given(st.lists(st.tuples(st.floats(-5, 5), st.booleans(), st.integers(0, 5)), min_size=2, max_size=40))
def test_auc_is_the_share_of_pairs_won(rows: list[tuple[float, bool, int]]) -> None:
    """For any numbers the AUC is what counting all pairs gives, and swapping the kinds mirrors it."""
    scores, kinds, clusters = (np.array(column) for column in zip(*rows, strict=True))
    folds = np.zeros(len(rows), dtype=np.int64)
    result = clustered_auc(scores, kinds, clusters, folds)
    if kinds.all() or not kinds.any():
        assert result.value is None
        return
    pairs = [(x > y) + 0.5 * (x == y) for x in scores[kinds] for y in scores[~kinds]]
    assert result.value == pytest.approx(np.mean(pairs))
    mirrored = clustered_auc(scores, ~kinds, clusters, folds)
    assert mirrored.value == pytest.approx(1 - np.mean(pairs))
    if result.value is not None and result.low is not None and result.high is not None:
        assert 0 <= result.low <= result.value <= result.high <= 1


def test_independent_passages_have_delongs_interval() -> None:
    """With a cluster for each passage the variance is close to DeLong's, and 95 % of intervals hold the truth."""
    rng = np.random.default_rng(1)
    held = 0
    for _ in range(400):
        kinds = np.array([True] * 40 + [False] * 40)
        clusters = np.tile(np.arange(20), 4)
        shared = rng.normal(size=20)[clusters]  # cancels within a query, which intervals must know
        result = clustered_auc(shared + rng.normal(size=80), kinds, clusters, np.zeros(80, dtype=np.int64))
        assert result.low is not None
        assert result.high is not None
        held += result.low <= 0.5 <= result.high
    assert 0.92 <= held / 400 <= 0.98


def test_z_by_hand() -> None:
    """Forty queries of two passages each, the word in the synthetic one of thirty: z = (30 − 15) / √(30 · ¼)."""
    texts = [text for query in range(40) for text in (("token x" if query < 30 else "x"), "x")]
    (found,), words = artefacts(texts, np.array([True, False] * 40), [str(place // 2) for place in range(80)])
    assert found.word == "token"
    assert found.z == pytest.approx(15 / math.sqrt(7.5))
    assert (found.synthetic, found.mined) == (0.75, 0.0)
    assert words == 1  # x stands in all passages: nothing to test


def test_queries_are_dealt_evenly() -> None:
    """Five folds of a hundred queries have twenty each, and a query has one fold."""
    keys = [f"q{number % 100}" for number in range(300)]
    folds = dealt(keys, 5, 1)
    assert sorted(np.bincount(folds)) == [60] * 5
    assert len({(key, int(fold)) for key, fold in zip(keys, folds, strict=True)}) == 100


@given(st.text())
def test_any_text_has_features(text: str) -> None:
    """Style figures are finite and shares in [0, 1]; a row of hashed counts has length 1, or 0 where there are none."""
    figures = style_of(text)
    assert len(figures) == len(STYLE)
    assert all(math.isfinite(figure) for figure in figures)
    assert all(0 <= figure <= 1 for figure in figures[4:])
    length = float(np.sqrt(hashed([text]).multiply(hashed([text])).sum()))
    assert length == pytest.approx(1.0) or length == 0.0
