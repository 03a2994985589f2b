"""Sentence-transformers' triplets: one row, one negative."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, ClassVar

from relabel.errors import RowError
from relabel.formats.base import (
    Effects,
    Sides,
    content_id,
    example_of,
    filled_text,
    kind,
    present,
)
from relabel.formats.carrying import PLACE, other_fields
from relabel.formats.columns import SCORES, ntuple_columns, spelling
from relabel.records import NOTHING, Example, Passage


@dataclass(frozen=True, slots=True)
class Triplets:
    """`{"anchor", "positive", "negative"}`, the names in any case, the first one also `query`.

    Where `negative` is the third column, the first two may have any names. One row is one example with one negative;
    rows of the same query stay separate examples. A field named `score`, `label` or the like is about this negative.
    A row made from another format holds the example's *first* positive and one negative, titles in front of the texts,
    ids left out; other positives are not written.
    """

    name: ClassVar[str] = "triplets"
    shape: ClassVar[str] = "anchor or query, positive, negative"
    flat: ClassVar[bool] = True
    holds_promotions: ClassVar[bool] = False
    holds_emptied: ClassVar[bool] = False
    holds_more: ClassVar[bool] = False
    effects: ClassVar[Effects] = Effects(
        promote="The row is removed: it has no place for a second positive.",
        drop="The row is removed: it holds no other negative.",
        emptied="A row without its negative is not written.",
    )

    def recognises(self, row: Mapping[str, Any]) -> bool:
        """Whether the three columns are there."""
        return all(name in row for name in _columns(row))

    def parse(
        self, row: Mapping[str, Any], *, position: int, line: int, path: str = "", source_field: str | None = None
    ) -> Example:
        """Read one row; see `Format.parse`."""
        return example_of(
            self.name, row, self._read, position=position, line=line, path=path, source_field=source_field
        )

    def _read(self, row: Mapping[str, Any]) -> Sides:
        anchor, positive, negative = _columns(row)
        query = filled_text(row, anchor)
        filled_text(row, positive)
        about = {PLACE + key: row[key] for key in _about_negative(row)}
        return query, (self._at(row, positive),), (self._at(row, negative, about or NOTHING),)

    def render(self, example: Example) -> list[dict[str, Any]]:
        """Return one row for each negative; see `Format.render`."""
        if example.layout == self.name:
            _, _, negative = _columns(example.row)
            return [
                {
                    **example.row,
                    negative: passage.item,
                    **{key.removeprefix(PLACE): passage.beside[key] for key in passage.beside},
                }
                for passage in example.negatives
            ]
        start = {"anchor": example.query, "positive": example.positives[0].full_text}
        rest = other_fields(example, self.name)
        return [{**start, "negative": passage.full_text, **rest} for passage in example.negatives]

    def passage(self, item: Any, beside: Mapping[str, Any]) -> Passage:
        """Build a passage from its text; its id is a digest."""
        if not isinstance(item, str):
            raise RowError(f"is {kind(item)}, not text", hint="Write it as text between quotes.")
        return Passage(content_id("", item), item, "", item, beside)

    def place(self, example: Example, passage: Passage) -> tuple[int, Passage]:
        """Return what another text is in the place of the row's negative: what the row says of that one is unknown."""
        about = {PLACE + key: None for key in _about_negative(example.row)}
        return len(example.negatives), self.passage(passage.full_text, about or NOTHING)

    def _at(self, row: Mapping[str, Any], column: str, beside: Mapping[str, Any] = NOTHING) -> Passage:
        try:
            return self.passage(present(row, column), beside)
        except RowError as error:
            raise RowError(error.problem, field=column, hint=error.hint) from None


def _about_negative(row: Mapping[str, Any]) -> list[str]:
    """Return the fields that say something of the negative: of another one they would be wrong."""
    return [key for key in row if key.lower() in SCORES and key not in _columns(row)]


def _columns(row: Mapping[str, Any]) -> tuple[str, str, str]:
    """Return the row's own names of the three columns; a missing one by its usual name."""
    if "anchor" in row and "positive" in row and "negative" in row:
        return "anchor", "positive", "negative"
    spelt = spelling(row)
    anchor = spelt.get("anchor", spelt.get("query", "anchor"))
    negative = spelt.get("negative", "negative")
    free = ntuple_columns(row) if "positive" not in spelt and "negative" in spelt else None
    if free is not None and free.negatives == (negative,):
        return free.anchor, free.positive, negative
    return anchor, spelt.get("positive", "positive"), negative
