"""Rows as passages, queries and judgments, by the names that their fields have in the data sets of this world."""

import math
from collections.abc import Mapping
from typing import Any, Final

from relabel.errors import RowError
from relabel.formats.base import content_id, identifier, kind
from relabel.formats.corpora.base import Judged, Query
from relabel.records import Passage

DOCUMENT_IDS: Final = ("_id", "docid", "doc_id", "document_id", "pid", "passage_id", "corpus-id", "corpus_id", "id")
QUERY_IDS: Final = ("_id", "query-id", "query_id", "qid", "question_id", "id")
GRADES: Final = ("score", "grade", "relevance", "rel", "label")
_DOCUMENTS: Final = ("text", "document_text", "contents", "passage", "document")
_QUERIES: Final = ("text", "query", "query_text", "question")
_JUDGED_QUERY: Final = QUERY_IDS[1:-1]
_JUDGED_DOCUMENT: Final = DOCUMENT_IDS[1:-1]
_TRAINING: Final = frozenset({"query", "query_text", "question", "anchor", "label", "labels"})
_ALONE: Final = frozenset({"text", "title"})
NAMES: Final = frozenset({*DOCUMENT_IDS, *QUERY_IDS, *GRADES, *_DOCUMENTS, *_QUERIES, "title"})
"""All of them: the first line of a table of columns is a header where it holds these."""


def holds_passages(row: Mapping[str, Any]) -> bool:
    """Whether a row looks like one of a corpus: a text with an id, or alone."""
    texts = {"text", "document_text", "contents"}.intersection(row)
    return bool(texts) and not _TRAINING.intersection(row) and bool(_key(row, DOCUMENT_IDS) or row.keys() <= _ALONE)


def holds_judgments(row: Mapping[str, Any]) -> bool:
    """Whether a row looks like one of the qrels: ids of a query and of a passage, no text."""
    return bool(_key(row, _JUDGED_QUERY) and _key(row, _JUDGED_DOCUMENT)) and not _key(row, (*_DOCUMENTS, "query"))


def passage_of(row: Mapping[str, Any]) -> Passage:
    """Read a passage; without an id in any row of its kind it gets a digest of its content.

    Raises:
        RowError: without file and line.
    """
    key = _key(row, _DOCUMENTS)
    if not key:
        raise missing(row, "text")
    text, title = _text(row, key), _text(row, "title")
    named = _key(row, DOCUMENT_IDS)
    return Passage(_id(row, named) if named else content_id(title, text), text, title)


def query_of(row: Mapping[str, Any]) -> Query:
    """Read a query; see `passage_of`."""
    key = _key(row, _QUERIES)
    if not key:
        raise missing(row, "text")
    named = _key(row, QUERY_IDS)
    if not named:
        raise missing(row, "query_id")
    return Query(_id(row, named), _text(row, key))


def judged_of(row: Mapping[str, Any]) -> Judged:
    """Read a judgment; a row without a grade says 1."""
    query, document = _key(row, _JUDGED_QUERY), _key(row, _JUDGED_DOCUMENT)
    if not query:
        raise missing(row, "query-id")
    if not document:
        raise missing(row, "corpus-id")
    graded = _key(row, GRADES)
    return Judged(_id(row, query), _id(row, document), grade_of(row[graded], graded) if graded else 1)


def grade_of(value: Any, field: str) -> int:
    """Read a grade: a whole number, as a number or as text."""
    try:
        number = float(value) if isinstance(value, str) and value.strip() else value
    except ValueError:
        number = None
    # SQLite holds 64 bits
    if isinstance(number, int | float) and abs(number) < 2**63 and number == int(number):
        return int(number)
    shown = repr(value)[:40] if isinstance(value, str | float) else kind(value)
    raise RowError(f"is {shown}, not a whole number", field=field, hint="Write 0, 1, 2, …")


def score_of(value: Any, field: str) -> float:
    """Read a score: a finite number, as a number or as text."""
    try:
        number = float(value)
    except (TypeError, ValueError, OverflowError):
        number = math.nan
    if not math.isfinite(number):
        raise RowError(f"is {str(value)[:40]!r}, not a number", field=field, hint="Write a finite number.")
    return number


def _key(row: Mapping[str, Any], names: tuple[str, ...]) -> str:
    for name in names:
        if name in row:
            return name
    return ""


def _id(row: Mapping[str, Any], field: str) -> str:
    found = identifier(row[field], field)
    if not found:
        raise RowError("is empty", field=field, hint="Give every row its id.")
    return found


def _text(row: Mapping[str, Any], field: str) -> str:
    value = row.get(field)
    if value is None:
        return ""
    if not isinstance(value, str):
        raise RowError(f"is {kind(value)}, not text", field=field, hint=f"Write {field!r} as text.")
    return value


def missing(row: Mapping[str, Any], field: str) -> RowError:
    """Say which field a row lacks, and what it holds."""
    seen = ", ".join(map(repr, list(row)[:20])) or "nothing"
    return RowError(f"is missing; the row holds {seen}", field=field, hint=f"Add {field!r}.")
