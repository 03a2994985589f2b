"""What goes along when a row becomes one of another format: the fields that neither of the two formats reads."""

from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import dataclass
from types import MappingProxyType
from typing import Any, Final

from relabel.formats.columns import PARALLEL, is_about_both, is_negative, list_columns, ntuple_columns, pair_columns
from relabel.records import Example

ROWS: Final = "rows"
"""The one key of `Example.row` where an example was read from several rows."""

PLACE: Final = "@"
"""How the names begin by which formats note beside a passage where in the row it stood: nothing to another format."""

AFTER: Final = "@after"
"""Beside a negative that stands among positives: how many of these stand before it."""

_PAIRED: Final = frozenset({"anchor", "query", "document", "passage", "doc", "label"})
_LISTED: Final = frozenset({"anchor", "query", "documents", "passages", "docs"}) | PARALLEL


def _no_columns(row: Mapping[str, Any]) -> Collection[str]:  # noqa: ARG001 - a format whose names are fixed
    return ()


def _ntuple(row: Mapping[str, Any]) -> tuple[str, ...]:
    found = ntuple_columns(row)
    return (found.anchor, found.positive, *found.negatives) if found else ()


def _triplet(row: Mapping[str, Any]) -> Collection[str]:
    return _ntuple(row)[:2]


@dataclass(frozen=True, slots=True)
class Keys:
    """Which keys of a row mean something to a format.

    Attributes:
        names: in any case.
        prefixes: lists whose key begins so.
        columns: those of a given row that its names alone do not tell.
    """

    names: frozenset[str]
    prefixes: tuple[str, ...] = ()
    columns: Callable[[Mapping[str, Any]], Collection[str]] = _no_columns

    def own(self, key: str, value: Any) -> bool:
        """Whether the format reads this field itself."""
        return key.lower() in self.names or (isinstance(value, list) and key.startswith(self.prefixes))


class _NTupleKeys(Keys):
    def own(self, key: str, value: Any) -> bool:
        """Whether the format reads this field itself: also any numbered negative, and lists of scores."""
        return (
            Keys.own(self, key, value)
            or is_negative(key)
            or (isinstance(value, list) and key.lower() in PARALLEL)
        )  # fmt: skip


class _TripletKeys(Keys):
    def own(self, key: str, value: Any) -> bool:
        """Whether the format reads this field itself: also a list that says something of both texts."""
        return Keys.own(self, key, value) or is_about_both(key, value)


KEYS: Final[Mapping[str, Keys]] = MappingProxyType(
    {
        "tevatron": Keys(
            frozenset({"query", "positive_passages", "negative_passages"}), ("positive_passage_", "negative_passage_")
        ),
        "bge": Keys(frozenset({"query", "pos", "neg"}), ("pos_", "neg_")),
        "triplets": _TripletKeys(frozenset({"anchor", "query", "positive", "negative"}), columns=_triplet),
        "n-tuples": _NTupleKeys(frozenset({"anchor", "query", "positive"}), columns=_ntuple),
        "labeled-lists": Keys(_LISTED, ("document_", "passage_", "doc_"), lambda row: list_columns(row) or ()),
        "labeled-pairs": Keys(_PAIRED, columns=lambda row: pair_columns(row) or ()),
        "tevatron-v2": Keys(
            frozenset({"query_id", "query_text", "query_image", "positive_document_ids", "negative_document_ids"})
        ),
        "automodel": Keys(frozenset({"query_id", "question_id", "question", "corpus_id", "pos_doc", "neg_doc"})),
        "dpr": Keys(
            frozenset({"question", "positive_ctxs", "negative_ctxs", "hard_negative_ctxs"}),
            ("positive_ctxs_", "negative_ctxs_", "hard_negative_ctxs_"),
        ),
    }
)
"""By format name. `query_id` is in none that is read: every format reads it where it is, none needs it."""


def common(rows: Sequence[Mapping[str, Any]]) -> dict[str, Any]:
    """Return the fields in which all rows agree."""
    first, *others = rows
    return {key: value for key, value in first.items() if all(key in row and row[key] == value for row in others)}


def read_by(layout: str, row: Mapping[str, Any]) -> frozenset[str]:
    """Return the keys of a row that its own format reads."""
    if layout not in KEYS:
        return frozenset()
    keys = KEYS[layout]
    return frozenset(keys.columns(row)).union([key for key, value in row.items() if keys.own(key, value)])


def other_fields(example: Example, name: str) -> dict[str, Any]:
    """Return the fields of an example's row that neither its own format nor the format `name` reads.

    Of an example of several rows, those in which they agree.
    """
    mine, rows = KEYS[name], example.row.get(ROWS) if example.layout == "labeled-pairs" else None
    first = rows[0] if rows else example.row
    theirs = read_by(example.layout, first)
    row = common(rows) if rows else first
    return {key: value for key, value in row.items() if key not in theirs and not mine.own(key, value)}
