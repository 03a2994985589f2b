"""Which columns of a row are which, in the formats of sentence-transformers: names are free there, order counts.

Known names are found in any case and at any place. Where they are missing, the first columns stand for them, unless one
of these plainly is something else.
"""

import re
from collections.abc import Mapping
from typing import Any, Final, NamedTuple

SCORES: Final = frozenset({"score", "scores", "label", "labels"})
"""What sentence-transformers takes for labels and never for texts; lists of them run parallel to the passages."""

PARALLEL: Final = SCORES | {"ids", "ranks"}
"""Names of all lists that run parallel to the passages; the last two are those of `relabel.mine_hard_negatives`."""

LABELS: Final = frozenset({"label", "labels"})
"""Those of them that are not scores by their name."""

PASSAGE_IDS: Final = ("docid", "doc_id", "document_id", "passage_id")
"""Columns that name the passage of a labeled pair; the first that is there counts."""

_NEGATIVE: Final = re.compile(r"negative(_\d+)?", re.IGNORECASE)
_QUERIES: Final = ("anchor", "query")
_DOCUMENTS: Final = ("document", "passage", "doc")
_LISTS: Final = ("documents", "passages", "docs")
_BESIDES: Final = PARALLEL | {"query_id", "subset", "source", "dataset", *PASSAGE_IDS}


class NTupleColumns(NamedTuple):
    """The columns of an n-tuple."""

    anchor: str
    positive: str
    negatives: tuple[str, ...]


class LabeledColumns(NamedTuple):
    """The columns of a labeled pair or a labeled list."""

    query: str
    documents: str
    labels: str


def spelling(row: Mapping[str, Any]) -> dict[str, str]:
    """Return how the row spells its columns, by the name in small letters; the exact name goes before other cases."""
    return {key.lower(): key for key in reversed(list(row))} | {key: key for key in row if key.islower()}


def is_negative(key: str) -> bool:
    """Whether a column is named as the negatives of an n-tuple are."""
    return _NEGATIVE.fullmatch(key) is not None


def is_about_both(key: str, value: Any) -> bool:
    """Whether a field of a triplet's row is a list of two: what is said of the positive, and of the negative."""
    return key.lower() in PARALLEL and isinstance(value, list) and len(value) == 2


def ntuple_columns(row: Mapping[str, Any]) -> NTupleColumns | None:
    """Find the columns of an n-tuple; None where there are none.

    Negatives are `negative_1`, `negative_2`, … in the order in which they stand. A row of which no column is known
    by its name is read by order alone.
    """
    keys, spelt = list(row), spelling(row)
    negatives = tuple(key for key in keys if is_negative(key))
    anchor = next((spelt[name] for name in _QUERIES if name in spelt), "")
    positive = spelt.get("positive", "")
    if negatives:
        if anchor and positive:
            return NTupleColumns(anchor, positive, negatives)
        free = len(keys) > 2 and keys[2] in negatives and not positive and _texts(keys[:2])
        return NTupleColumns(keys[0], keys[1], negatives) if free and anchor in ("", keys[0]) else None
    if anchor or positive:
        return None
    texts = [key for key in keys if key.lower() not in _BESIDES]
    return NTupleColumns(texts[0], texts[1], tuple(texts[2:])) if len(texts) > 2 else None


def pair_columns(row: Mapping[str, Any]) -> LabeledColumns | None:
    """Find the columns of a labeled pair; None where there are none."""
    return _labeled(row, _DOCUMENTS, "label")


def list_columns(row: Mapping[str, Any]) -> LabeledColumns | None:
    """Find the columns of a labeled list; None where there are none."""
    return _labeled(row, _LISTS, "labels")


def _labeled(row: Mapping[str, Any], documents: tuple[str, ...], label: str) -> LabeledColumns | None:
    keys, spelt = list(row), spelling(row)
    if label not in spelt:
        return None
    query = next((spelt[name] for name in _QUERIES if name in spelt), "")
    document = next((spelt[name] for name in documents if name in spelt), "")
    if query and document:
        return LabeledColumns(query, document, spelt[label])
    # as mine_hard_negatives writes them: the data set's own two columns, then the label
    free = len(keys) > 2 and keys[2] == spelt[label] and not document and _texts(keys[:2])
    return LabeledColumns(keys[0], keys[1], spelt[label]) if free and query in ("", keys[0]) else None


def _texts(keys: list[str]) -> bool:
    return not any(is_negative(key) or key.lower() in _BESIDES for key in keys)
