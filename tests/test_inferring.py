"""What people's labels on a sample stand for, and which figures they do not allow."""

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import pytest

from relabel.estimates import Estimate
from relabel.inferring import Known, Labelled, Sample, SampleRow, figures_of, worked_off
from relabel.records import Label, Outcome
from relabel.sampling import Census, Design, Draw, Facts, to_dict

Y: Label = "relevant"
N: Label = "irrelevant"
P: Label = "partial"
OUTCOMES: Mapping[Label, Outcome] = {Y: "false negative", P: "partial", N: "true negative"}


def pair(name: str, word: Label, gold: Label | None, **fields: Any) -> Labelled:
    """Make a pair that one judge settled."""
    told: dict[str, Any] = {
        "words": (word,),
        "query": f"q{name}",
        "source": "",
        "expected": 0.9 if word == Y else 0.1,
        "seen": gold is not None,
    }
    return Labelled(pair=name, outcome=OUTCOMES[word], gold=gold, **(told | fields))


def known_of(pairs: Sequence[Labelled]) -> Known:
    """Count pairs."""
    known = Known()
    for each in pairs:
        known.add(each, keep=True)
    return known


def sample_of(pairs: Sequence[Labelled], *, kind: str = "stratified", of: int = 1000) -> Sample:
    """Make a sample of pairs in this order, by verdict where it is stratified."""
    strata = [each.outcome if kind == "stratified" else "" for each in pairs]
    rows = [
        SampleRow(order, each.pair, each.query, stratum, 0.1)
        for order, (each, stratum) in enumerate(zip(pairs, strata, strict=True), start=1)
    ]
    return Sample("s", {"kind": kind}, of, dict.fromkeys(strata, of // len(set(strata))), tuple(rows))


def figures(pairs: Sequence[Labelled], sample: Sample | None) -> dict[str, Estimate]:
    """Return the figures by name."""
    return {each.name: each for each in figures_of(known_of(pairs), sample, ("judge",)).figures}


def words(count: int, *turns: Label) -> list[tuple[str, Label]]:
    """Name so many pairs, and give each a judge's word, in turns."""
    return [(str(place), turns[place % len(turns)]) for place in range(count)]


@pytest.mark.parametrize("kind", ["stratified", "random", "active"])
@pytest.mark.parametrize("turns", [(Y, N), (Y, Y, P, N), (Y,) * 12 + (N,)])
def test_labels_of_flagged_pairs_are_no_sample(kind: str, turns: tuple[Label, ...]) -> None:
    """All pairs have a label but the true negatives, be these few: nobody worked the sample off."""
    pairs = [pair(name, word, None if word == N else Y) for name, word in words(120, *turns)]
    done = worked_off(known_of(pairs), sample_of(pairs, kind=kind))
    assert len(done) <= 2 * turns.index(N) + 1  # up to the second true negative: one may be missing by chance
    if kind == "stratified" or len(turns) < 5:
        assert len(done) <= turns.index(N)


def test_what_was_worked_off_ends_where_labels_get_rare() -> None:
    """60 of 120 labelled in turn, two of them skipped; behind these the flagged half has labels for another reason."""
    pairs = [
        pair(name, word, word if (place < 60 and place not in (9, 30)) or word == Y else None)
        for place, (name, word) in enumerate(words(120, Y, N))
    ]
    for kind in ("stratified", "random"):
        assert 60 <= len(worked_off(known_of(pairs), sample_of(pairs, kind=kind))) <= 61


def test_many_skipped_pairs_are_no_accident() -> None:
    """One in twenty without a label is worked off; one in five is not: who knows why those were left out."""
    for every, worked in ((20, True), (5, False)):
        pairs = [pair(str(i), N, None if i % every == every // 2 else N) for i in range(100)]
        assert (len(worked_off(known_of(pairs), sample_of(pairs, kind="random"))) == 100) is worked


def test_half_a_query_is_not_worked_off() -> None:
    """By query: it ends with a whole query, for the first passages of one are not like its others."""
    pairs = [pair(str(i), N, N if i < 204 else None, query=str(i // 8)) for i in range(400)]
    rows = tuple(SampleRow(i // 8 + 1, str(i), str(i // 8), "", 0.1) for i in range(400))
    sample = Sample("s", {"kind": "random"}, 4000, {"": 500}, rows)
    assert len(worked_off(known_of(pairs), sample)) == 200


def test_no_figure_of_the_whole_without_a_stratum() -> None:
    """A stratum that was not drawn from yet: recall, sensitivity and specificity are None, and say why."""
    pairs = [pair(name, word, word) for name, word in words(40, Y, N)]
    whole = sample_of(pairs)
    sample = Sample("s", whole.design, whole.pairs, {**whole.strata, "undecided": 300}, whole.rows)
    found, complete = figures(pairs, sample), figures(pairs, whole)
    for name in ("recall of the cascade", "sensitivity of judge", "specificity of judge"):
        assert found[name].value is found[name].low is found[name].high is None
        assert "some strata have no label" in found[name].note
        assert complete[name].value is not None
    assert found["precision of the cascade"].value == 1


def copied(seed: int, queries: int) -> list[Labelled]:
    """Make pairs of queries; every third query stands in eight rows that are no neighbours, and is worse."""
    rng = np.random.default_rng(seed)
    once = []
    for query in range(queries):
        for place in range(3):
            hit = rng.random() < (0.5 if query % 3 == 0 else 0.15)
            word: Label = Y if rng.random() < (0.8 if hit else 0.1) else N
            once.append(pair(f"{query}.{place}", word, Y if hit else N, query=f"q{query}"))
    again = [each for each in once if int(each.query[1:]) % 3 == 0]
    return once + again * 7


def drawn_from(pairs: Sequence[Labelled], design: Design, n: int) -> Sample:
    """Draw by content, three pairs of a query at a time, as `audit sample` does."""
    groups = [
        [
            Facts(each.pair, each.query, each.expected, (), each.outcome if design.kind == "stratified" else "")
            for each in pairs[start : start + 3]
        ]
        for start in range(0, len(pairs), 3)
    ]
    census = Census(design)
    for group in groups:
        census.add(group)
    census.close()
    draw: Draw[None] = Draw(census, n)
    for group in groups:
        draw.add([(facts, None) for facts in group])
    rows: list[SampleRow] = []
    for order, unit in enumerate(draw.drawn(), start=1):
        names = [facts.pair for facts, _ in unit.members]
        rows += [
            SampleRow(order, facts.pair, facts.query, unit.stratum, unit.chance, names.count(facts.pair))
            for facts in {facts.pair: facts for facts, _ in unit.members}.values()
        ]
    return Sample("s", to_dict(design), census.pairs, dict(census.sizes), tuple(rows))


@pytest.mark.parametrize(
    ("kind", "unit", "n"), [("random", "pair", 60), ("stratified", "pair", 60), ("active", "pair", 60),
                            ("random", "query", 40)]
)  # fmt: skip
def test_copies_are_one_label_that_stands_for_all(kind: Any, unit: Any, n: int) -> None:
    """A third of the queries in eight rows each: n counts pairs once, the mean is the truth, intervals hold it."""
    pairs = copied(0, 150)
    truth = sum(each.gold == Y for each in pairs) / len(pairs)
    known = known_of(pairs)
    values, held = [], []
    for seed in range(250):
        sample = drawn_from(pairs, Design(kind, unit, ("verdict",) if kind == "stratified" else (), seed=seed), n)
        assert len({row.pair for row in sample.rows}) == len(sample.rows)
        figure = figures_of(known, sample, (), only_rates=True).figures[0]
        assert figure.value is not None
        assert figure.low is not None
        assert figure.high is not None
        assert (figure.n, figure.of) == (len(sample.rows), len(pairs))
        values.append(figure.value)
        held.append(figure.low <= truth <= figure.high)
    assert np.mean(values) == pytest.approx(truth, abs=0.015)
    assert np.mean(held) > (0.91 if kind != "active" else 0.85)


def test_all_labels_with_a_copy_are_all_labels() -> None:
    """One row too many does not hide that everything has a label: figures are counts, each copy counted."""
    pairs = [pair(str(i), Y if i % 4 == 0 else N, Y if i % 5 == 0 else N) for i in range(40)]
    found = figures([*pairs, pairs[0], pairs[0]], None)["false-negative rate"]
    assert found.value == found.low == found.high == pytest.approx(10 / 42)
    assert (found.n, found.of) == (40, 42)
    assert "false-negative rate" not in figures([*pairs, pair("x", N, None)], None)


def test_a_large_stratum_without_a_hit_is_not_taken_for_clean() -> None:
    """2 % of 2,000 true negatives are missed, and 60 labels often show none: the interval knows, 19 times in 20."""
    rng = np.random.default_rng(3)
    pairs = [
        *[pair(f"n{i}", N, Y if i < 40 else N) for i in range(2000)],
        *[pair(f"y{i}", Y, N if i % 6 == 0 else Y) for i in range(60)],
    ]
    known = known_of(pairs)
    truth = sum(each.gold == Y for each in pairs) / len(pairs)
    held, by_strata = [], 0
    for _ in range(200):
        chosen = [*rng.choice(2000, 60, replace=False), *(2000 + rng.choice(60, 20, replace=False))]
        sample = sample_of([pairs[i] for i in chosen], of=len(pairs))
        sample = Sample("s", sample.design, len(pairs), {"true negative": 2000, "false negative": 60}, sample.rows)
        first, corrected, *_ = figures_of(known, sample, (), only_rates=True).figures
        assert first.low is not None
        assert first.high is not None
        if "MOVER" in first.method:
            assert "too narrow" in corrected.note or corrected.value is None
            by_strata += 1
        held.append(first.low <= truth <= first.high)
    assert by_strata > 180
    assert np.mean(held) > 0.92


def test_a_human_stage_is_no_judge() -> None:
    """Pairs that people settled in the cascade are left out of its precision and recall, and that is said."""
    judged = [pair(str(i), Y if i % 2 else N, Y if i % 4 else N) for i in range(40)]
    people = [pair(f"p{i}", Y, Y, by_people=True, words=(None,)) for i in range(30)]
    found, alone = figures([*judged, *people], None), figures(judged, None)
    for name in ("precision of the cascade", "recall of the cascade", "missed among true negatives"):
        assert (found[name].value, found[name].n, found[name].of) == (alone[name].value, alone[name].n, alone[name].of)
        assert "without the 30 pairs that a human stage settled" in found[name].note
    assert found["sensitivity of judge"].n == alone["sensitivity of judge"].n
