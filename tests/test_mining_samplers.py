"""Samplers: each one's distribution against its formula, on thousands of draws, and what never depends on order."""

import math
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from pools import candidate, passage, scored, texts

from relabel.mining.candidates import Candidate, Pool, Positive, Sampler
from relabel.mining.samplers import Band, MarginBalanced, Random, RankBands, SimANS, Softmax, Star, Top
from relabel.mining.strategies import SAMPLERS, sample
from relabel.records import Passage

DRAWS = 4000
SCORES = [0.9, 0.7, 0.65, 0.4, 0.1, -0.3]


def chi_square(counts: Mapping[Any, int], chances: Mapping[Any, float]) -> float:
    """Return Pearson's statistic over its critical value at p = .001 (Wilson and Hilferty); above 1 = does not fit.

    What is expected fewer than 5 times is one cell together.
    """
    assert not set(counts) - set(chances)
    draws = sum(counts.values())
    cells = [(counts.get(each, 0), draws * p) for each, p in chances.items()]
    rare = [cell for cell in cells if cell[1] < 5]
    often = [cell for cell in cells if cell[1] >= 5]
    together = (sum(seen for seen, _ in rare), sum(expected for _, expected in rare))
    cells = [*often, together] if together[1] > 1 else often
    freedom, spread = len(cells) - 1, 2 / (9 * (len(cells) - 1))
    statistic = sum((seen - expected) ** 2 / expected for seen, expected in cells)
    return statistic / (freedom * (1 - spread + 3.0902 * math.sqrt(spread)) ** 3)


def first_draws(sampler: Sampler, pool: Pool) -> Counter[str]:
    """Count which candidate comes when one is drawn, over many seeds."""
    return Counter(texts(sample(pool, sampler, 1, seed=seed))[0] for seed in range(DRAWS))


def normalised(weights: Sequence[float]) -> dict[str, float]:
    """Return the chances of "n1", "n2", … that are proportional to weights."""
    return {f"n{number}": weight / sum(weights) for number, weight in enumerate(weights, 1)}


SPREAD = math.sqrt(sum((score - sum(SCORES) / 6) ** 2 for score in SCORES) / 6)
FORMULAS: list[tuple[Sampler, Callable[[float], float]]] = [
    (Random(), lambda _: 1.0),
    (Softmax(0.5), lambda s: math.exp(s / 0.5)),
    (Softmax(5.0), lambda s: math.exp(s / 5.0)),
    (SimANS(), lambda s: math.exp(-0.5 * ((s - 0.6) / SPREAD) ** 2)),
    (SimANS(2.0, 1.0), lambda s: math.exp(-2.0 * ((s - 0.6) / SPREAD - 1.0) ** 2)),
    (SimANS(2.0, -1.0), lambda s: math.exp(-2.0 * ((s - 0.6) / SPREAD + 1.0) ** 2)),
    (SimANS(3.0, 0.3, scale=1.0), lambda s: math.exp(-3.0 * (s - 0.6 - 0.3) ** 2)),
    (SimANS(3.0, 0.0, scale=1.0, positive="max"), lambda s: math.exp(-3.0 * (s - 0.8) ** 2)),
    (SimANS(0.0), lambda _: 1.0),
]


@pytest.mark.parametrize(("sampler", "weight"), FORMULAS)
def test_the_first_draw_follows_the_formula(sampler: Sampler, weight: Callable[[float], float]) -> None:
    """One candidate of six, drawn with 4,000 seeds: the counts fit the weights, negative scores among them."""
    pool = scored(SCORES, [0.6, 0.8])
    assert chi_square(first_draws(sampler, pool), normalised([weight(score) for score in SCORES])) < 1


def test_the_chi_square_can_fail() -> None:
    """SimANS' sign turned round, or a scale left out, does not pass for the formula."""
    pool = scored(SCORES, [0.6])
    right = [math.exp(-2 * ((score - 0.6) / SPREAD - 1) ** 2) for score in SCORES]
    assert chi_square(first_draws(SimANS(2.0, -1.0), pool), normalised(right)) > 10
    assert chi_square(first_draws(SimANS(2.0, 1.0, scale=1.0), pool), normalised(right)) > 10


def test_simans_peaks_where_it_says() -> None:
    """B counts from the positive upwards: the candidate at s⁺ + b·scale is drawn most, the one mirrored at s⁺ least."""
    pool = scored([1.0, 0.5, 0.0], [0.5])
    assert first_draws(SimANS(8.0, 0.5, scale=1.0), pool).most_common(1)[0][0] == "n1"
    assert first_draws(SimANS(8.0, -0.5, scale=1.0), pool).most_common(1)[0][0] == "n3"


@pytest.mark.parametrize("factor", [0.01, 50.0])
def test_simans_means_the_same_on_any_scale(factor: float) -> None:
    """Cosines or dot products: with the scale from the spread, the same candidates are drawn."""
    plain, scaled = scored(SCORES, [0.6]), scored([score * factor for score in SCORES], [0.6 * factor])
    for seed in range(200):
        assert texts(sample(plain, SimANS(), 3, seed=seed)) == texts(sample(scaled, SimANS(), 3, seed=seed))


@pytest.mark.parametrize(
    ("sampler", "weight"), [FORMULAS[0], FORMULAS[1], FORMULAS[4]], ids=["random", "softmax", "simans"]
)
def test_the_second_draw_is_one_without_the_first(sampler: Sampler, weight: Callable[[float], float]) -> None:
    """Without replacement: P(i then j) = pᵢ · pⱼ / (1 − pᵢ), over all 30 ordered pairs."""
    pool, chances = scored(SCORES, [0.6]), normalised([weight(score) for score in SCORES])
    pairs = {(i, j): p * q / (1 - p) for i, p in chances.items() for j, q in chances.items() if i != j}
    counts = Counter(tuple(texts(sample(pool, sampler, 2, seed=seed))) for seed in range(DRAWS))
    assert chi_square(counts, pairs) < 1


def test_margin_balanced_draws_a_bin_then_a_candidate() -> None:
    """Margins 0 to 1 in 4 bins: 3 candidates in the first, 1 in the second, none in the third, 2 in the last."""
    pool = scored([1.0, 0.95, 0.8, 0.6, 0.2, 0.0], [1.0])
    chances = dict(zip(["n1", "n2", "n3", "n4", "n5", "n6"], [1 / 9] * 3 + [1 / 3] + [1 / 6] * 2, strict=True))
    assert chi_square(first_draws(MarginBalanced(4), pool), chances) < 1
    # of two drawn: the bins are drawn with replacement as long as they hold candidates, so n4 with 1/3 + 2/3 · 1/3,
    # and after it, with 1/3, only two bins are left
    both = Counter(
        text for seed in range(DRAWS) for text in texts(sample(pool, MarginBalanced(4), 2, seed=seed)) if text == "n4"
    )
    assert chi_square(Counter({"in": both["n4"], "out": DRAWS - both["n4"]}), {"in": 5 / 9, "out": 4 / 9}) < 1


def test_margin_balanced_without_a_spread_is_random() -> None:
    """Equal scores fall into one bin."""
    pool = scored([0.5, 0.5, 0.5], [1.0])
    assert chi_square(first_draws(MarginBalanced(), pool), normalised([1, 1, 1])) < 1


def test_star_mixes_hard_and_random() -> None:
    """Of 4, one share from the first 5 ranks and one from beyond, each uniformly."""
    pool = scored([0.0] * 12)
    counts: Counter[str] = Counter()
    for seed in range(DRAWS):
        drawn = sample(pool, Star(5, 0.25), 4, seed=seed)
        assert sum(each.rank <= 5 for each in drawn) == 3
        counts.update(texts(drawn))
    hard, rest = ({f"n{n}": counts[f"n{n}"] for n in part} for part in (range(1, 6), range(6, 13)))
    assert chi_square(rest, dict.fromkeys(rest, 1 / 7)) < 1
    assert max(hard.values()) / min(hard.values()) < 1.1


def test_star_fills_up_from_the_other_part() -> None:
    """Few random candidates, or few hard ones: the number wanted comes all the same."""
    assert len(sample(scored([0.0] * 6), Star(5, 0.5), 4, seed=0)) == 4
    assert len(sample(scored([0.0] * 6), Star(1, 0.0), 4, seed=0)) == 4


def test_rank_bands_draw_their_shares_uniformly() -> None:
    """SciNCL's 2 to 3, scaled down: of 5, 2 from ranks 6 to 9 and 3 from 10 on."""
    pool = scored([0.0] * 16)
    counts: Counter[str] = Counter()
    for seed in range(DRAWS):
        drawn = sample(pool, RankBands((Band(6, 9, 2), Band(10, None, 3))), 5, seed=seed)
        assert [sum(6 <= each.rank <= 9 for each in drawn), sum(each.rank >= 10 for each in drawn)] == [2, 3]
        counts.update(texts(sample(pool, RankBands((Band(6, 9),)), 1, seed=seed)))
    assert chi_square(counts, {f"n{n}": 1 / 4 for n in range(6, 10)}) < 1


@pytest.mark.parametrize(
    ("positives", "start"),
    [
        ((Positive(passage("p"), rank=3),), 3),
        ((Positive(passage("p"), 0.75),), 2),
        ((Positive(passage("p"), 0.75), Positive(passage("r"), 0.35)), 6),
        ((Positive(passage("p"), 2.0),), 0),
        ((Positive(passage("p")),), 0),
    ],
)
@pytest.mark.parametrize("gap", [0, 2])
def test_rank_bands_force_a_gap_after_the_positives(positives: tuple[Positive, ...], start: int, gap: int) -> None:
    """By the positive's rank, or the last candidate above it; nothing in the gap is drawn, however few are left."""
    pool = scored([0.9, 0.8, 0.7, 0.6, 0.5, 0.4, 0.3, 0.2, 0.1])
    pool = Pool(pool.query, positives, pool.candidates)
    drawn = sample(pool, RankBands((Band(1),), gap), 99, seed=1)
    assert {each.rank for each in drawn} == set(range(start + gap + 1, 10))


def test_top_takes_the_first_by_rank() -> None:
    """Whatever the scores say, and in order."""
    pool = Pool("q", (), (candidate("c", 0.9, 3), candidate("a", 0.1, 1), candidate("b", 0.5, 2)))
    assert texts(sample(pool, Top(), 2, seed=0)) == ["a", "b"]


EVERY: list[Sampler] = [
    Top(), Random(), Star(2), SimANS(), Softmax(), MarginBalanced(), RankBands((Band(1, 3, 0.4), Band(4, None, 0.6))),
]  # fmt: skip


def test_every_sampler_is_tried() -> None:
    """The list above holds each kind once, and no two have one name."""
    assert {type(each) for each in EVERY} == set(SAMPLERS)
    assert len({each.name for each in EVERY}) == len(SAMPLERS)


@pytest.mark.parametrize("sampler", EVERY)
def test_what_two_retrievers_found_is_one_candidate(sampler: Sampler) -> None:
    """It is drawn once, with its lower rank."""
    pool = Pool("q", (), (candidate("a", 0.5, 4, source="bm25"), candidate("a", 0.9, 1, source="dense")))
    assert [each.source for each in sample(pool, sampler, 2, seed=0)] == ["dense"]


@pytest.mark.parametrize("sampler", [SimANS(), Softmax(), MarginBalanced()])
def test_what_has_no_score_is_drawn_last(sampler: Sampler) -> None:
    """Unknown and not finite scores, by rank, after all others."""
    pool = scored([None, 0.2, math.nan, 0.4], [0.5])
    for seed in range(50):
        drawn = texts(sample(pool, sampler, 4, seed=seed))
        assert set(drawn[:2]) == {"n2", "n4"}
        assert drawn[2:] == ["n1", "n3"]


def test_simans_without_a_known_positive_goes_by_rank() -> None:
    """There is nothing to be near to."""
    assert texts(sample(scored([0.1, 0.9, 0.5], [None]), SimANS(), 2, seed=5)) == ["n1", "n2"]


def test_seed_and_query_make_the_dice() -> None:
    """The same again for the same, something else for another seed and for another query."""
    draws = [texts(sample(scored([0.0] * 30, query=query), Random(), 9, seed=seed)) for query, seed in
             [("q", 1), ("q", 1), ("q", 2), ("r", 1)]]  # fmt: skip
    assert draws[0] == draws[1]
    assert draws[0] != draws[2]
    assert draws[0] != draws[3]


@pytest.mark.parametrize(
    "make",
    [
        lambda: Star(0), lambda: Star(random_share=1.1), lambda: SimANS(-1), lambda: SimANS(b=math.inf),
        lambda: SimANS(scale=0.0), lambda: SimANS(math.nan), lambda: Softmax(0), lambda: Softmax(math.nan),
        lambda: MarginBalanced(0), lambda: RankBands(()), lambda: RankBands((Band(1),), -1), lambda: Band(0),
        lambda: Band(3, 2), lambda: Band(1, share=0), lambda: RankBands((Band(1, 5), Band(5))),
        lambda: RankBands((Band(9), Band(1))) and RankBands((Band(1), Band(9))),
        lambda: sample(scored([0.1]), Top(), -1, seed=0),
    ],
)  # fmt: skip
def test_impossible_settings_are_refused(make: Callable[[], object]) -> None:
    """Shares beyond 0 and 1, no temperature, bands that overlap, a negative count."""
    with pytest.raises(ValueError, match=r"is|holds|begins|cannot"):
        make()


# -- whatever the pool --------------------------------------------------------------------------------------


@st.composite
def pools(draw: st.DrawFn) -> Pool:
    """Draw a pool with ties, unknown scores and passages that several retrievers found."""
    score = st.none() | st.floats(-1e6, 1e6) | st.sampled_from([0.0, 0.5])
    found = draw(
        st.lists(st.tuples(st.sampled_from("abcdefgh"), score, st.integers(1, 9), st.sampled_from("xy")), max_size=12)
    )
    positives = draw(st.lists(score, max_size=2))
    return Pool(
        draw(st.text(max_size=3)),
        tuple(Positive(passage("p"), each) for each in positives),
        tuple(Candidate(Passage(text, text), rank, each, source) for text, each, rank, source in found),
    )


@settings(deadline=None)
@given(pools(), st.sampled_from(EVERY), st.integers(0, 9), st.integers(0, 3), st.randoms())
def test_the_draw_depends_on_content_alone(pool: Pool, sampler: Sampler, count: int, seed: int, dice: Any) -> None:
    """Another order of the same candidates: the same draw; nothing twice, nothing invented, as many as there can be."""
    drawn = sample(pool, sampler, count, seed=seed)
    shuffled = list(pool.candidates)
    dice.shuffle(shuffled)
    again = sample(pool.left_with(shuffled), sampler, count, seed=seed)
    assert [each.content for each in drawn] == [each.content for each in again]
    contents = {each.content for each in pool.candidates}
    assert len({each.content for each in drawn}) == len(drawn)
    assert {each.content for each in drawn} <= contents
    if isinstance(sampler, RankBands):  # what lies before the positives is not drawn
        assert len(drawn) <= min(count, len(contents))
    else:
        assert len(drawn) == min(count, len(contents))
