"""Which labels may stand for the data set: those of pairs that all had the same chance of being labelled.

A promise about all pairs needs them. Labels of the flagged pairs, or of a sample that took more of one stratum than of
another, are of a different mixture: of the latter a part is left out by chance, so that the rest is even (thinning).
"""

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final

from relabel.inferring import Sample, SampleRow
from relabel.labelled import JudgedPair
from relabel.records import chance

ALL: Final = "every pair has a label"
CHOSEN: Final = (
    "people chose which pairs to label, and the promises are about pairs chosen like these; for all pairs draw some by"
    " chance first: relabel audit sample RUN -o sample.csv --design random"
)


@dataclass(frozen=True, slots=True)
class Even:
    """The labelled pairs that count, and why these (`chosen`: people picked them, and they stand for no others)."""

    pairs: tuple[JudgedPair, ...]
    basis: str
    chosen: bool = False


def even(labelled: Sequence[JudgedPair], samples: Sequence[Sample], *, complete: bool) -> Even:
    """Keep the labelled pairs that had the same chance, by the sample with most labels.

    Args:
        labelled: pairs with a label.
        samples: what was drawn from the run; active samples, whose chances change at every turn, are of no use here.
        complete: whether every pair of the run was labelled.
    """
    if complete:
        return Even(tuple(labelled), ALL)
    names = {pair.fingerprint for pair in labelled}
    found = [
        (told, sample) for sample in samples if sample.design.get("kind") != "active" and (told := _told(sample, names))
    ]
    if not found:
        return Even(tuple(labelled), CHOSEN, chosen=True)
    told, sample = max(found, key=lambda each: len(each[0]))
    kept = _thinned(told, sample)
    pairs = tuple(pair for pair in labelled if pair.fingerprint in kept)
    left = len(labelled) - len(pairs)
    why = f"; {left:,} others are left out, that had another chance or were not drawn" if left else ""
    return Even(pairs, f"drawn with equal chances: {len(pairs):,} pairs of the sample {sample.name}{why}")


def _told(sample: Sample, names: set[str]) -> list[SampleRow]:
    """Return the rows of a sample that were labelled; none where people did not work it off."""
    rows = [(place, row) for place, row in enumerate(sample.rows) if row.pair in names]
    return [row for _, row in rows] if rows and 2 * len(rows) > rows[-1][0] else []


def _thinned(told: Sequence[SampleRow], sample: Sample) -> set[str]:
    """Return the pairs that are left when every stratum is labelled at the rate of the least labelled one."""
    units = {(row.stratum, row.order) for row in told}
    rates = {
        stratum: count / sample.strata[stratum] for stratum, count in Counter(stratum for stratum, _ in units).items()
    }
    # a stratum without any label cannot be evened out: the promise is then about the others
    lowest = min(rates.values())
    return {
        row.pair
        for row in told
        if chance("even", sample.name, row.stratum, str(row.order)) < lowest / rates[row.stratum]
    }
