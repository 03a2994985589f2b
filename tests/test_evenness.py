"""Which labels a promise about all pairs may rest on."""

from collections import Counter
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import pytest

import relabel
from relabel.auditing import facts_for_estimates, read_sample
from relabel.evenness import ALL, Even, even
from relabel.inferring import Known, Sample
from relabel.labelled import JudgedPair, Labels, judged_pairs
from relabel.pipeline import open_run

DATA = Path(__file__).parents[1] / "data"


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Return a run of the simulated cascade over the sample."""
    folder = tmp_path_factory.mktemp("runs") / "sample"
    relabel.run(DATA / "sample.jsonl", DATA / "cascade.simulated.yaml", output=folder)
    return folder


@pytest.fixture(scope="module")
def pairs(run: Path) -> list[JudgedPair]:
    """Return all its judged pairs, each with its reference label."""
    labels = Labels(str(DATA / "reference_labels.csv"))
    with open_run(run) as (plan, store):
        return [pair for group in judged_pairs(plan, store, labels) for pair in group]


def drawn(run: Path, tmp_path: Path, name: str, **design: str) -> Sample:
    """Draw a sample."""
    relabel.audit_sample(run, tmp_path / "sample.csv", 180, name=name, **design)  # type: ignore[arg-type]
    return read_sample(run / "samples" / f"{name}.jsonl")


def of(pairs: list[JudgedPair], sample: Sample, most: int | None = None) -> list[JudgedPair]:
    """Return those of the pairs that stand in the first rows of a sample."""
    names = {row.pair for row in sample.rows[:most]}
    return [pair for pair in pairs if pair.fingerprint in names]


def evened(
    pairs: list[JudgedPair], labelled: Sequence[JudgedPair], samples: Sequence[Sample], *, complete: bool = False
) -> Even:
    """Even out labels of some of the pairs; nobody looked at the others."""
    seen = {id(pair) for pair in labelled}
    known = Known()
    for pair in pairs:
        told = pair if id(pair) in seen else replace(pair, people={})
        known.add(facts_for_estimates(told, dict.fromkeys(("rules", "cheap", "strong"), False)), keep=True)
    return even(labelled, samples, known, complete=complete)


def shares(found: tuple[JudgedPair, ...], pairs: list[JudgedPair]) -> dict[str, float]:
    """Return the share of each verdict's pairs that was kept."""
    kept, there = (Counter(pair.unaided.outcome for pair in each) for each in (found, pairs))
    return {outcome: kept[outcome] / count for outcome, count in there.items()}


def test_an_uneven_sample_is_evened_out(run: Path, pairs: list[JudgedPair], tmp_path: Path) -> None:
    """As many of each verdict were labelled; those kept are of each verdict's pairs the same share."""
    sample = drawn(run, tmp_path, "equal", design="stratified", allocation="equal")
    labelled = of(pairs, sample)
    before, found = shares(tuple(labelled), pairs), evened(pairs, labelled, [sample])
    after = shares(found.pairs, pairs)
    assert before["true negative"] < 0.5 * before["false negative"]
    assert after["false negative"] == pytest.approx(after["true negative"], abs=0.07)
    assert not found.chosen
    assert f"{len(found.pairs):,} pairs of the sample equal; {len(labelled) - len(found.pairs):,} others" in found.basis


def test_an_even_sample_is_kept_whole(run: Path, pairs: list[JudgedPair], tmp_path: Path) -> None:
    """Random pairs, or the first of them; labels beside the sample do not count."""
    sample = drawn(run, tmp_path, "random", design="random")
    for most in (None, 60):
        assert list(evened(pairs, of(pairs, sample, most), [sample]).pairs) == of(pairs, sample, most)
    rest = [pair for pair in pairs if pair not in of(pairs, sample)][:30]
    assert list(evened(pairs, of(pairs, sample) + rest, [sample]).pairs) == of(pairs, sample)


def test_labels_of_peoples_choice(run: Path, pairs: list[JudgedPair], tmp_path: Path) -> None:
    """Without a sample, with an active one, or one that people did not work off: all count, and it is said of what."""
    active, random = (drawn(run, tmp_path, name, design=name) for name in ("active", "random"))
    for labelled, samples in (
        (pairs[:50], []),
        (of(pairs, active), [active]),
        (of(pairs, random)[-1:], [random]),
    ):
        found = evened(pairs, labelled, samples)
        assert (found.chosen, found.pairs) == (True, tuple(labelled))
        assert "not of pairs that all had the same chance" in found.basis
        assert ("the active sample active drew some pairs sooner" in found.basis) == (samples == [active])
    assert evened(pairs, pairs, [random], complete=True).basis == ALL


def test_labels_behind_the_worked_off_part_do_not_count(run: Path, pairs: list[JudgedPair], tmp_path: Path) -> None:
    """Sixty pairs in turn, then some flagged ones that stand in the sample by chance: the sixty."""
    sample = drawn(run, tmp_path, "late", design="random")
    first = of(pairs, sample, 60)
    late = [pair for pair in of(pairs, sample) if pair not in first and pair.unaided.outcome == "false negative"]
    assert late
    found = evened(pairs, first + late, [sample])
    assert (list(found.pairs), found.chosen) == (first, False)
    assert f"{len(late)} others are left out" in found.basis


def test_whoever_skips_many_has_chosen(run: Path, pairs: list[JudgedPair], tmp_path: Path) -> None:
    """Up to a tenth may be missing; where every fourth is, or the sample is of another run, no chance drew the rest."""
    sample = drawn(run, tmp_path, "skipped", design="random")
    there = of(pairs, sample)
    few, many = [pair for i, pair in enumerate(there) if i % 15], [pair for i, pair in enumerate(there) if i % 4]
    assert evened(pairs, few, [sample]).pairs == tuple(few)
    found = evened(pairs, many, [sample])
    assert (found.chosen, found.pairs) == (True, tuple(many))
    assert "135 of the 180 pairs of the sample skipped have a label, too few of those in turn" in found.basis
    found = evened(pairs, there, [replace(sample, pairs=sample.pairs - 1)])
    assert found.chosen
    assert "the sample skipped was drawn from 886 pairs, of which the run has 887 now" in found.basis


def test_a_stratum_without_labels_is_named(run: Path, pairs: list[JudgedPair], tmp_path: Path) -> None:
    """The promise is not about it; a sample that has labels in all strata is taken, even with fewer pairs."""
    sample = drawn(run, tmp_path, "strata", design="stratified", allocation="equal")
    wider = replace(sample, strata={**sample.strata, "elsewhere": 99})
    labelled = of(pairs, sample)
    found = evened(pairs, labelled, [wider])
    assert found.chosen
    assert "no label in the stratum 'elsewhere' (10.0% of the run)" in found.basis
    random = drawn(run, tmp_path, "small", design="random")
    both = list({pair.fingerprint: pair for pair in labelled + of(pairs, random, 40)}.values())
    found = evened(pairs, both, [wider, random])
    assert not found.chosen
    assert "pairs of the sample small" in found.basis


def test_the_sample_that_leaves_most_is_taken(run: Path, pairs: list[JudgedPair], tmp_path: Path) -> None:
    """Not the one with most labels: of the uneven one, thinning leaves fewer."""
    uneven = drawn(run, tmp_path, "uneven", design="stratified", allocation="equal")
    random = drawn(run, tmp_path, "whole", design="random")
    left = len(evened(pairs, of(pairs, uneven), [uneven]).pairs)
    most = left + 15
    assert most < len(of(pairs, uneven))
    both = list({pair.fingerprint: pair for pair in of(pairs, uneven) + of(pairs, random, most)}.values())
    assert "pairs of the sample whole" in evened(pairs, both, [uneven, random]).basis


def test_calibration_says_what_it_rests_on(run: Path, tmp_path: Path) -> None:
    """All pairs labelled, or some by people's choice: it stands in the result and in the file."""
    whole = relabel.calibrate(run, keep=0.2, gold=DATA / "reference_labels.csv", output=tmp_path / "a.yaml")
    assert (whole.basis.basis, whole.labels) == (ALL, 887)
    some = tmp_path / "labels.csv"
    some.write_text("\n".join((DATA / "reference_labels.csv").read_text("utf-8").splitlines()[:200]), "utf-8")
    part = relabel.calibrate(run, keep=0.2, gold=some, output=tmp_path / "b.yaml")
    assert part.basis.chosen or "drawn with equal chances" in part.basis.basis
    assert part.labels < 200
