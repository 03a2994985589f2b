"""Rows of one query made one example, and examples made fit for the format that they are to be written in."""

from collections.abc import Callable, Iterable, Iterator
from dataclasses import replace
from itertools import groupby
from typing import Final

from relabel.formats.base import Format
from relabel.formats.carrying import common, read_by
from relabel.formats.exporting import Export
from relabel.formats.ntuples import NTuples
from relabel.formats.triplets import Triplets
from relabel.records import Example, Passage

_SPREAD: Final = frozenset({Triplets.name, NTuples.name})
"""Formats that may hold a query in several rows, each an example of its own."""


def as_format(
    read: Callable[[], Iterable[Example]], layout: str, target: Format | Export
) -> tuple[Format | Export, Iterable[Example]]:
    """Return the format and the examples to write, where examples of `layout` are to stand in another format.

    Triplets and n-tuples that follow each other and have the same query become one example, but as triplets, which
    would lose all positives but the first, they stay single. N-tuples get as many negatives as the example that has
    most: the input is read twice.

    Args:
        read: reads the input from its beginning.
        layout: name of the format that it is in.
        target: the format or export to write.
    """
    if layout == target.name:
        return target, read()
    spread = layout in _SPREAD and target.name != Triplets.name
    examples = (lambda: _joined(read())) if spread else read
    if isinstance(target, NTuples):
        return replace(target, width=max((len(each.negatives) for each in examples()), default=0)), examples()
    return target, examples()


def _joined(examples: Iterable[Example]) -> Iterator[Example]:
    for _, rows in groupby(examples, key=lambda each: (each.query, each.id, each.source)):
        yield _one(list(rows))


def _one(rows: list[Example]) -> Example:
    """Join the rows of a query: every text once on each side, and the fields in which the rows agree."""
    first = rows[0]
    if len(rows) == 1 and len(distinct(first.negatives)) == len(first.negatives):  # else columns filled by copies
        return first
    own, agreed = read_by(first.layout, first.row), common([row.row for row in rows])
    return replace(
        first,
        positives=distinct(passage for row in rows for passage in row.positives),
        negatives=distinct(passage for row in rows for passage in row.negatives),
        row={key: value for key, value in first.row.items() if key in own or key in agreed},
    )


def distinct(passages: Iterable[Passage]) -> tuple[Passage, ...]:
    """Drop what repeats an earlier text."""
    found: dict[str, Passage] = {}
    for passage in passages:
        found.setdefault(passage.text, passage)
    return tuple(found.values())
