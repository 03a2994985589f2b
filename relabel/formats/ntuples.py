"""Sentence-transformers' n-tuples: one row, one positive, a fixed number of negatives."""

from collections.abc import Mapping
from dataclasses import dataclass
from itertools import cycle, islice
from typing import Any, ClassVar, Final

from relabel.errors import RowError
from relabel.formats.base import (
    Effects,
    Sides,
    content_id,
    entry,
    example_of,
    filled_text,
    id_beside,
    kind,
    present,
)
from relabel.formats.carrying import other_fields
from relabel.formats.columns import LABELS, PARALLEL, SCORES, NTupleColumns, is_negative, ntuple_columns, spelling
from relabel.records import NOTHING, Example, Passage

_HINT: Final = "Name the columns anchor, positive, negative_1, negative_2, …"


@dataclass(frozen=True, slots=True)
class NTuples:
    """`{"anchor", "positive", "negative_1", …, "negative_n"}`; the first two may have other names, in this order.

    A list named `scores` (or `score`, `label`, `labels`, `ids`, `ranks`) runs parallel to the positive and the
    negatives, or to the negatives alone, and keeps in step. Every row keeps its columns: a trainer cannot use a row
    with fewer. A row made from another format holds one positive and all negatives of its example, titles in front, ids
    left out; an example with several positives makes a row for each.

    Attributes:
        width: how many negatives a row made from another format has, filled up as after a drop; 0 = as many as there
            are.
    """

    width: int = 0

    name: ClassVar[str] = "n-tuples"
    shape: ClassVar[str] = "anchor or query, positive, negative_1 … negative_n"
    flat: ClassVar[bool] = True
    holds_promotions: ClassVar[bool] = False
    holds_emptied: ClassVar[bool] = False
    holds_more: ClassVar[bool] = False
    effects: ClassVar[Effects] = Effects(
        promote="The text leaves the row as if dropped: it has no place for a second positive.",
        drop="The next negatives move up with their scores, and the last columns repeat those that are left, from the "
        "first on, as the trainers of FlagEmbedding and Tevatron do where a row has too few.",
        emptied="The row is removed: nothing is left to fill its columns.",
    )

    def recognises(self, row: Mapping[str, Any]) -> bool:
        """Whether there are numbered negatives, and columns for anchor and positive."""
        return any(is_negative(key) and key.lower() != "negative" for key in row) and ntuple_columns(row) is not None

    def parse(
        self, row: Mapping[str, Any], *, position: int, line: int, path: str = "", source_field: str | None = None
    ) -> Example:
        """Read one row; see `Format.parse`."""
        return example_of(
            self.name, row, self._read, position=position, line=line, path=path, source_field=source_field
        )

    def _read(self, row: Mapping[str, Any]) -> Sides:
        anchor, positive, negatives = columns = _columns(row)
        query = filled_text(row, anchor)
        filled_text(row, positive)
        scores = _scores(row, columns)
        known = self._at(row, positive, {name: head[0] for name, head, _ in scores if head})
        found = [
            self._at(row, column, {name: rest[index] for name, _, rest in scores})
            for index, column in enumerate(negatives)
        ]
        return query, (known,), found

    def render(self, example: Example) -> list[dict[str, Any]]:
        """Return one row, or one for each positive of another format; see `Format.render`."""
        if not example.negatives:
            return []
        if example.layout != self.name:
            texts = [passage.full_text for passage in example.negatives]
            width = self.width or len(texts)
            named = {f"negative_{n}": text for n, text in enumerate(islice(cycle(texts), width), 1)}
            rest = other_fields(example, self.name)
            return [
                {"anchor": example.query, "positive": passage.full_text, **named, **rest}
                for passage in example.positives
            ]
        columns = _columns(example.row)
        width = len(columns.negatives)
        # after an undo the repeated ones stand behind the row's own, and fall off
        kept = list(islice(cycle(example.negatives), width))
        row = dict(example.row)
        row.update(zip(columns.negatives, [passage.item for passage in kept], strict=True))
        for name, _, _ in _scores(example.row, columns):
            first = [example.positives[0].beside[name]] if name in example.positives[0].beside else []
            row[name] = [*first, *(passage.beside[name] for passage in kept)]
        return [row]

    def passage(self, item: Any, beside: Mapping[str, Any]) -> Passage:
        """Build a passage from its text; without an id beside it, its id is a digest."""
        if not isinstance(item, str):
            raise RowError(f"is {kind(item)}, not text", hint="Write it as text between quotes.")
        return Passage(id_beside(beside) or content_id("", item), item, "", item, beside)

    def place(self, example: Example, passage: Passage) -> tuple[int, Passage]:
        """Return where another text goes, after those that are left, and as what; see `Format.place`.

        In a list of labels it gets what all negatives of the row have, if that is one value.
        """
        beside: dict[str, Any] = {}
        for name, _, known in _scores(example.row, _columns(example.row)):
            label = known[0] if name.lower() in LABELS and all(each == known[0] for each in known) else None
            beside[name] = entry(name, passage) if label is None else label
        return len(example.negatives), self.passage(passage.full_text, beside or NOTHING)

    def _at(self, row: Mapping[str, Any], column: str, beside: Mapping[str, Any]) -> Passage:
        try:
            return self.passage(row[column], beside or NOTHING)
        except RowError as error:
            raise RowError(error.problem, field=column, hint=error.hint) from None


def _columns(row: Mapping[str, Any]) -> NTupleColumns:
    """Return the columns, or say which one is missing."""
    found = ntuple_columns(row)
    if found is not None:
        return found
    spelt = spelling(row)
    wanted = {"anchor": ("anchor", "query"), "positive": ("positive",)}
    missing = next((name for name, names in wanted.items() if not set(names) & set(spelt)), "negative_1")
    try:
        present(row, missing)
    except RowError as error:
        raise RowError(error.problem, field=missing, hint=_HINT) from None
    raise RowError("is no n-tuple", hint=_HINT)


def _scores(row: Mapping[str, Any], columns: NTupleColumns) -> list[tuple[str, list[Any], list[Any]]]:
    """Return the parallel lists as (key, the positive's entry if there is one, the negatives' entries)."""
    found: list[tuple[str, list[Any], list[Any]]] = []
    count = len(columns.negatives)
    for key, value in row.items():
        if key.lower() not in PARALLEL or key in (columns.anchor, columns.positive):
            continue
        if isinstance(value, str) and value.lstrip().startswith("["):
            raise RowError(
                "is a list written as text, which would fall out of step",
                field=key,
                hint="Save the rows as JSON lines or Parquet.",
            )
        if not isinstance(value, list):
            continue
        if len(value) not in (count, count + 1):
            if key.lower() not in SCORES:
                continue
            raise RowError(
                f"has {len(value)} entries where there are 1 positive and {count} negatives",
                field=key,
                hint=f"Give {key!r} one entry for each negative, or one for the positive and each negative.",
            )
        cut = len(value) - count
        found.append((key, value[:cut], value[cut:]))
    return found
