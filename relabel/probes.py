"""Questions whose right answer is known, made of the input alone; and what can be seen of a pair without a judge."""

import re
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final

from relabel.records import Example, Passage, chance

_WORD: Final = re.compile(r"\w+")


@dataclass(frozen=True, slots=True)
class Probe:
    """A row with one candidate, and whether that candidate should be called relevant."""

    example: Example
    relevant: bool


def probes(examples: Sequence[Example], *, seed: int, shows: bool, requires: bool) -> list[Probe]:
    """Make a balanced probe: of each row a known positive, and the known positive of another query.

    The positive is held out: the row's other positives stand as its reference. So every passage is asked about twice,
    once where it answers the query and once where it does not (except where a row had to be passed over to find another
    query's): nothing about the passage alone tells the two apart. A row with a single positive can take part only where
    no reference is needed; it is then asked about without one.

    Args:
        examples: rows of the input.
        seed: of which positive is held out, and whose passage comes to whom.
        shows: whether the judge is shown the reference.
        requires: whether it must be shown one.

    Returns:
        As many that should be relevant as not; nothing unless there are two rows with different queries.
    """
    rows = [row for row in examples if len(row.positives) > 1 or (row.positives and not (shows and requires))]
    rows.sort(key=lambda row: chance("probe", str(seed), row.query, row.id))
    held = [_held_out(row, seed) for row in rows]
    found = []
    for number, row in enumerate(rows):
        own = {passage.full_text for passage in row.positives}
        others = (held[(number + step) % len(rows)] for step in range(1, len(rows)))
        other = next((taken for taken in others if taken[0] != row.query and taken[1].full_text not in own), None)
        if other is None:
            continue
        passage = held[number][1]
        known = tuple([each for each in row.positives if each.full_text != passage.full_text])
        if requires and shows and not known:  # all its positives say the same
            continue
        reference = known if shows else row.positives
        found.append(Probe(_asking(row, reference, passage), relevant=True))
        found.append(Probe(_asking(row, reference, other[1]), relevant=False))
    return found


def _held_out(row: Example, seed: int) -> tuple[str, Passage]:
    place = int(chance("held out", str(seed), row.query, row.id) * len(row.positives))
    return row.query, row.positives[place]


def _asking(row: Example, reference: tuple[Passage, ...], candidate: Passage) -> Example:
    return Example(row.id, row.query, reference, (candidate,), row.source, position=row.position)


def swapped(example: Example, candidate: Passage) -> Example:
    """Ask the other way round: the candidate is the reference, the row's first positive the one to judge."""
    return _asking(example, (candidate,), example.positives[0])


def overlap(query: str, text: str) -> float:
    """Return the share of the query's distinct words that stand in a text, in [0, 1]; 0 for a query without words."""
    asked = set(_WORD.findall(query.casefold()))
    return len(asked & set(_WORD.findall(text.casefold()))) / len(asked) if asked else 0.0
