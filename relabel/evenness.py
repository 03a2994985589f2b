"""Which labels may stand for the data set: those of pairs that all had the same chance of being labelled.

A promise about all pairs needs them. Labels of the flagged pairs, or of a sample that took more of one stratum than of
another, are of a different mixture: of the latter a part is left out by chance, so that the rest is even (thinning).
"""

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final

from relabel.auditing import changed
from relabel.inferring import Known, Sample, SampleRow, worked_off
from relabel.labelled import JudgedPair
from relabel.records import chance

ALL: Final = "every pair has a label"
CHOSEN: Final = (
    "these labels are not of pairs that all had the same chance, and the promises are about pairs chosen like these;"
    " for all pairs: relabel audit sample RUN -o sample.csv --design random"
)


@dataclass(frozen=True, slots=True)
class Even:
    """The labelled pairs that count, and why these (`chosen`: they do not stand for all pairs of the run)."""

    pairs: tuple[JudgedPair, ...]
    basis: str
    chosen: bool = False


@dataclass(frozen=True, slots=True)
class _Kept:
    """What is left of a sample after thinning: pairs by fingerprint, and its strata without any label."""

    sample: Sample
    pairs: frozenset[str]
    bare: tuple[str, ...]


def even(labelled: Sequence[JudgedPair], samples: Sequence[Sample], known: Known, *, complete: bool) -> Even:
    """Keep the labelled pairs that had the same chance, of the sample that leaves most of them.

    A sample counts as far as people worked it off (`inferring.worked_off`), if it was drawn from this run.

    Args:
        labelled: pairs with a label.
        samples: what was drawn from the run; active samples, whose chances change at every turn, are of no use here.
        known: the run in counts, with the labelled and the drawn pairs.
        complete: whether every pair of the run was labelled.
    """
    if complete:
        return Even(tuple(labelled), ALL)
    found, problems = [], []
    for sample in samples:
        told, problem = _told(sample, known)
        found += [_thinned(told, sample)] if told else []
        problems += [f"{problem}; "] if problem else []
    if not found:
        return Even(tuple(labelled), "".join(problems) + CHOSEN, chosen=True)
    best = max(found, key=lambda each: (not each.bare, len(each.pairs)))
    pairs = tuple(pair for pair in labelled if pair.fingerprint in best.pairs)
    left = len(labelled) - len(pairs)
    why = f"; {left:,} others are left out, that had another chance or were not drawn" if left else ""
    if best.bare:
        part, whole = sum(best.sample.strata[name] for name in best.bare), sum(best.sample.strata.values())
        names = ", ".join(map(repr, best.bare))
        why += f"; no label in the stratum {names} ({part / whole:.1%} of the run): the promises are not about it"
    basis = f"drawn with equal chances: {len(pairs):,} pairs of the sample {best.sample.name}{why}"
    return Even(pairs, basis, chosen=bool(best.bare))


def _told(sample: Sample, known: Known) -> tuple[list[SampleRow], str]:
    """Return the rows of a sample that were worked off and labelled; none, and why, where they are of no use."""
    if problem := changed(sample, known):
        return [], problem
    told = [row for row in worked_off(known, sample) if known.gold(row.pair) is not None]
    labelled = sum(known.gold(row.pair) is not None for row in sample.rows)
    if sample.design.get("kind") == "active":
        return [], f"the active sample {sample.name} drew some pairs sooner than others" if labelled else ""
    if told or not labelled:
        return told, ""
    few = f"{labelled:,} of the {len(sample.rows):,} pairs of the sample {sample.name} have a label"
    return [], f"{few}, too few of those in turn: label the others too, also where it is hard to say"


def _thinned(told: Sequence[SampleRow], sample: Sample) -> _Kept:
    """Return the pairs that are left when every stratum is labelled at the rate of the least labelled one."""
    units = {(row.stratum, row.order) for row in told}
    rates = {
        stratum: count / sample.strata[stratum] for stratum, count in Counter(stratum for stratum, _ in units).items()
    }
    lowest = min(rates.values())
    kept = [
        row.pair
        for row in told
        if chance("even", sample.name, row.stratum, str(row.order)) < lowest / rates[row.stratum]
    ]
    return _Kept(sample, frozenset(kept), tuple(sorted(set(sample.strata) - set(rates))))
