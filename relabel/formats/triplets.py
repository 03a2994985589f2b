"""Sentence-transformers' triplets: one row, one negative."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, ClassVar

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
from relabel.formats.carrying import PLACE, other_fields
from relabel.formats.columns import SCORES, is_about_both, ntuple_columns, spelling
from relabel.records import NOTHING, Example, Passage


@dataclass(frozen=True, slots=True)
class Triplets:
    """`{"anchor", "positive", "negative"}`, the names in any case, the first one also `query`.

    Where `negative` is the third column, the first two may have any names. One row is one example with one negative;
    rows of the same query stay separate examples. A list of two named `scores` (or `score`, `label`, `labels`, `ids`,
    `ranks`) is about positive and negative, as mine_hard_negatives writes it; a single score or label is about the
    negative.
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
        both = {key: row[key] for key in _about_both(row)}
        known = {key: value[0] for key, value in both.items()}
        about = {key: value[1] for key, value in both.items()} | {PLACE + key: row[key] for key in _about_negative(row)}
        return query, (self._at(row, positive, known or NOTHING),), (self._at(row, negative, about or NOTHING),)

    def render(self, example: Example) -> list[dict[str, Any]]:
        """Return one row for each negative; see `Format.render`."""
        if example.layout == self.name:
            _, _, negative = _columns(example.row)
            both = _about_both(example.row)
            known = example.positives[0].beside
            return [
                {
                    **example.row,
                    negative: passage.item,
                    **{key: [known[key], passage.beside[key]] for key in both},
                    **{key: passage.beside[PLACE + key] for key in _about_negative(example.row)},
                }
                for passage in example.negatives
            ]
        start = {"anchor": example.query, "positive": example.positives[0].full_text}
        rest = other_fields(example, self.name)
        return [{**start, "negative": passage.full_text, **rest} for passage in example.negatives]

    def passage(self, item: Any, beside: Mapping[str, Any]) -> Passage:
        """Build a passage from its text; without an id beside it, its id is a digest."""
        if not isinstance(item, str):
            raise RowError(f"is {kind(item)}, not text", hint="Write it as text between quotes.")
        return Passage(id_beside(beside) or content_id("", item), item, "", item, beside)

    def place(self, example: Example, passage: Passage) -> tuple[int, Passage]:
        """Return what another text is in the place of the row's negative: what the row says of that one is unknown."""
        row = example.row
        about = {key: entry(key, passage) for key in _about_both(row)} | {
            PLACE + key: None for key in _about_negative(row)
        }
        return len(example.negatives), self.passage(passage.full_text, about or NOTHING)

    def _at(self, row: Mapping[str, Any], column: str, beside: Mapping[str, Any] = NOTHING) -> Passage:
        try:
            return self.passage(present(row, column), beside)
        except RowError as error:
            raise RowError(error.problem, field=column, hint=error.hint) from None


def _about_both(row: Mapping[str, Any]) -> list[str]:
    """Return the lists that say something of the positive, then of the negative."""
    return [key for key, value in row.items() if is_about_both(key, value) and key not in _columns(row)]


def _about_negative(row: Mapping[str, Any]) -> list[str]:
    """Return the other fields that say something of the negative: of another one they would be wrong."""
    columns, both = _columns(row), _about_both(row)
    return [key for key in row if key.lower() in SCORES and key not in columns and key not in both]


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
