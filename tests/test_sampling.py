"""Samples with known chances: what is drawn, how often, and in which order."""

import tracemalloc
from collections import Counter
from collections.abc import Iterator, Sequence
from itertools import permutations

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.stats import chisquare

from relabel.records import Judgment, Verdict
from relabel.sampling import (
    AT_LEAST,
    Census,
    Design,
    Draw,
    Drawn,
    Facts,
    Trait,
    expected_relevance,
    queries_for,
    stratum_of,
    to_dict,
)

Groups = Sequence[Sequence[Facts]]


def made(sizes: Sequence[int], strata: Sequence[str] = ("a", "b")) -> list[list[Facts]]:
    """Make queries of so many pairs; strata and expectations go round."""
    groups = []
    for query, size in enumerate(sizes):
        group = []
        for place in range(size):
            turn = query + place
            stratum = strata[turn % len(strata)]
            words = ("relevant", "irrelevant") if turn % 3 == 0 else ("irrelevant", "")
            group.append(Facts(f"r{query}.{place}", f"query {query}", 0.05 + 0.3 * (turn % 4), words, stratum))
        groups.append(group)
    return groups


def counted(groups: Groups, design: Design) -> Census:
    """Count a data set."""
    census = Census(design)
    for group in groups:
        census.add(group)
    census.close()
    return census


def drawn(groups: Groups, design: Design, n: int) -> list[Drawn[None]]:
    """Draw from a data set."""
    draw: Draw[None] = Draw(counted(groups, design), n)
    for group in groups:
        draw.add([(facts, None) for facts in group])
    return list(draw.drawn())


def names(units: Sequence[Drawn[None]]) -> list[str]:
    """Return the pairs that were drawn, in their order."""
    return [facts.pair for unit in units for facts, _ in unit.members]


ALIKE = [[Facts(f"r{query}.{place}", f"query {query}", 0.5, ()) for place in range(3)] for query in range(8)]
DESIGNS = [
    Design("random"),
    Design("random", "query"),
    Design("stratified"),
    Design("stratified", allocation="proportional"),
    Design("stratified", allocation="equal"),
    Design("active"),
    Design("active", prefer="uncertain"),
    Design("active", prefer="disagreed"),
    Design("active", prefer="typical"),
]


def plain(design: Design) -> Groups:
    """Return a data set in the strata that a design knows."""
    groups = made([5, 3, 4, 6, 2])
    if design.kind == "stratified":
        return groups
    return [[Facts(f.pair, f.query, f.expected, f.words) for f in group] for group in groups]


@pytest.mark.parametrize("design", [each for each in DESIGNS if each.kind != "active"])
def test_chances_add_up_to_what_is_drawn(design: Design) -> None:
    """The inclusion probabilities of all units of the data set sum to the number drawn."""
    groups = plain(design)
    units = drawn(groups, design, 8 if design.unit == "pair" else 3)
    share = {unit.stratum: unit.chance for unit in units}
    sizes = counted(groups, design).sizes
    assert sum(share[name] * size for name, size in sizes.items()) == pytest.approx(len(units))


@pytest.mark.parametrize("design", [each for each in DESIGNS if each.kind != "active"])
def test_units_are_drawn_as_often_as_said(design: Design) -> None:
    """Over 600 seeds every unit is drawn with its inclusion probability (chi-square, p > .001)."""
    groups = plain(design)
    n, runs = (8 if design.unit == "pair" else 3), 600
    met: Counter[str] = Counter()
    chances: dict[str, float] = {}
    for seed in range(runs):
        for unit in drawn(groups, Design(design.kind, design.unit, (), design.allocation, seed=seed), n):
            met[unit.members[0][0].pair] += 1
            chances[unit.members[0][0].pair] = unit.chance
    units = [facts for group in groups for facts in (group if design.unit == "pair" else group[:1])]
    assert set(chances) == {facts.pair for facts in units}
    for stratum in {facts.stratum for facts in units}:
        seen = [met[facts.pair] for facts in units if facts.stratum == stratum]
        assert chisquare(seen).pvalue > 0.001
        assert sum(seen) == pytest.approx(runs * sum(chances[f.pair] for f in units if f.stratum == stratum))


def test_active_pairs_are_drawn_in_proportion_to_their_size() -> None:
    """Over 1,500 seeds the first two of five come as the product of their chances says (chi-square, p > .001)."""
    group = [Facts(f"r{i}", "q", value, ()) for i, value in enumerate((0.04, 0.2, 0.4, 0.7, 0.97))]
    census = counted([group], Design("active"))
    size = {facts.pair: census.size(facts) for facts in group}
    whole = sum(size.values())
    assert whole == pytest.approx(5)
    runs = 1500
    met = Counter(tuple(names(drawn([group], Design("active", seed=seed), 2))) for seed in range(runs))
    both = list(permutations(size, 2))
    chances = [size[a] / whole * size[b] / (whole - size[a]) for a, b in both]
    assert sum(chances) == pytest.approx(1)
    assert chisquare([met[pair] for pair in both], [chance * runs for chance in chances]).pvalue > 0.001
    first, second = drawn([group], Design("active"), 2)
    sizes = [size[unit.members[0][0].pair] for unit in (first, second)]
    assert (first.chance, second.chance) == pytest.approx((sizes[0] / whole, sizes[1] / (whole - sizes[0])))


@settings(max_examples=40, deadline=None)
@given(
    st.sampled_from(DESIGNS), st.lists(st.integers(1, 6), min_size=3, max_size=12), st.randoms(use_true_random=False)
)
def test_a_larger_sample_begins_with_the_smaller(design: Design, sizes: list[int], dice: object) -> None:
    """So people may stop early, and a sample can be extended; and the order of the rows changes nothing."""
    groups = made(sizes)
    whole = names(drawn(groups, design, 12))
    for n in (2, 5, 9):
        part = names(drawn(groups, design, n))
        assert part == whole[: len(part)]
    shuffled = list(groups)
    dice.shuffle(shuffled)  # type: ignore[attr-defined]
    assert names(drawn(shuffled, design, 12)) == whole


def test_queries_come_whole() -> None:
    """By query: all pairs of what is drawn, and no query twice."""
    groups = made([4, 2, 7, 3])
    units = drawn(groups, Design("random", "query"), 2)
    lengths = {group[0].query: len(group) for group in groups}
    assert [len(unit.members) for unit in units] == [lengths[unit.members[0][0].query] for unit in units]
    assert queries_for(8, counted(groups, Design("random", "query"))) == 2


def test_allocations() -> None:
    """Each stratum gets its floor; the rest by size, evenly, or where judges are unsure; never more than it has."""
    groups = [
        [Facts(f"s{i}", f"q{i}", 0.03, (), "sure") for i in range(900)],
        [Facts(f"u{i}", f"p{i}", 0.5, (), "unsure") for i in range(97)],
        [Facts(f"r{i}", f"o{i}", 0.5, (), "rare") for i in range(3)],
    ]
    by = {}
    for allocation in ("proportional", "equal", "neyman"):
        order = counted(groups, Design(allocation=allocation)).order(100)
        by[allocation] = Counter(order)
        assert by[allocation].total() == 100
        assert min(by[allocation].values()) >= AT_LEAST
    assert by["proportional"] == {"sure": 88, "unsure": 10, "rare": 2}
    assert by["equal"] == {"sure": 49, "unsure": 48, "rare": 3}
    assert by["neyman"]["unsure"] > 2 * by["proportional"]["unsure"]
    assert Counter(counted(groups, Design()).order(5000)) == {"sure": 900, "unsure": 97, "rare": 3}


def test_what_active_samples_prefer() -> None:
    """Each preference gives the pair it is about the larger size, and nobody less than the floor."""
    group = [
        Facts("likely", "q", 0.9, ("relevant",)),
        Facts("unsure", "q", 0.5, ("relevant",)),
        Facts("divided", "q", 0.3, ("relevant", "irrelevant")),
        *[Facts(f"common{i}", "q", 0.06, ("irrelevant",)) for i in range(20)],
        Facts("odd", "q", 0.3, ("irrelevant",)),
    ]
    best = {"likely": "likely", "uncertain": "unsure", "disagreed": "divided"}
    for prefer in ("likely", "uncertain", "disagreed", "typical"):
        census = counted([group], Design("active", prefer=prefer))
        sizes = {facts.pair: census.size(facts) for facts in group}
        assert min(sizes.values()) > 0.2
        assert sum(sizes.values()) == pytest.approx(len(group))
        if prefer in best:
            assert max(sizes, key=sizes.__getitem__) == best[prefer]
        else:
            assert sizes["common0"] > 2 * sizes["odd"]


def test_expectations_from_words() -> None:
    """Later words count twice, probabilities are used, and nobody's word is a coin."""
    yes, no = Judgment("relevant", probability=0.9), Judgment("irrelevant", probability=0.9)
    assert expected_relevance([yes, None]) == pytest.approx(0.9)
    assert expected_relevance([yes, no]) == pytest.approx((0.9 + 2 * 0.1) / 3)
    assert expected_relevance([Judgment(None, "refused"), None]) == 0.5
    assert expected_relevance([Judgment("irrelevant", probability=1.0)]) == 0.03
    assert expected_relevance([Judgment("irrelevant")]) < expected_relevance([Judgment("partial")]) < 0.5


def test_strata_by_their_traits() -> None:
    """Verdict, stage, source, rank band and confidence, in the order asked for."""
    verdict = Verdict("true negative", "strong", judgment=Judgment("irrelevant", probability=0.83))
    traits: tuple[Trait, ...] = ("verdict", "stage", "source", "rank", "confidence")
    assert stratum_of(traits, verdict, "nq", 5) == "true negative · strong · nq · rank 6–10 · probability ≥ 0.8"
    assert stratum_of(("stage", "source"), Verdict("undecided"), "", 0) == "nobody · no source"
    assert stratum_of(("rank",), verdict, "", 70) == "rank 51+"
    for score, name in ((0.2, "score < 0.5"), (4.0, "score ≥ 0.95"), (-900.0, "score < 0.5")):
        said = Verdict("true negative", "m", judgment=Judgment("irrelevant", score=score))
        assert stratum_of(("confidence",), said, "", 0) == name
    assert stratum_of(("confidence",), Verdict("undecided"), "", 0) == "no number"
    assert to_dict(Design("active")) == {"kind": "active", "unit": "pair", "seed": 0, "prefer": "likely"}


@pytest.mark.parametrize("design", DESIGNS)
def test_projected_width_shrinks_with_labels(design: Design) -> None:
    """More labels, narrower; all labels, nothing left to guess."""
    groups = plain(design)
    census = counted(groups, design)
    whole = sum(census.sizes.values())
    wide = [census.projected(n) for n in range(AT_LEAST * len(census.sizes), whole + 1)]
    assert wide == sorted(wide, reverse=True)
    assert wide[-1] == pytest.approx(0, abs=1e-9)


def test_memory_holds_what_is_drawn() -> None:
    """200 of 20,000 pairs are drawn in less than half a megabyte."""

    def walk() -> Iterator[list[Facts]]:
        for query in range(2000):
            yield [Facts(f"r{query}.{i}", f"q{query}", 0.1 * i, ("relevant",), "a") for i in range(10)]

    for design in (Design(), Design("active")):
        census = Census(design)
        tracemalloc.start()
        for group in walk():
            census.add(group)
        census.close()
        draw: Draw[None] = Draw(census, 200)
        for group in walk():
            draw.add([(facts, None) for facts in group])
        peak = tracemalloc.get_traced_memory()[1]
        tracemalloc.stop()
        assert len(list(draw.drawn())) == 200
        assert peak < 500_000
