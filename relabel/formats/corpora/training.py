"""Training files as sources: their queries, positives as judged 1, all passages as documents, negatives as found.

Any format that `relabel.formats` knows, and Tevatron's second one, whose rows name passages of a corpus elsewhere.
"""

import math
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, Final, TypeVar

from relabel.errors import RowError
from relabel.formats.base import filled_text, identifier, kind, present
from relabel.formats.corpora.base import GIVEN, Found, Judged, Part, Parts, Query
from relabel.formats.corpora.files import Rows, part_over
from relabel.formats.known import recognise
from relabel.records import Example, Passage

T = TypeVar("T")

SHAPE: Final = "a training file of any format that relabel reads"
TEVATRON: Final = "Tevatron rows of ids: query_id, query_text, positive_document_ids, negative_document_ids"
_POSITIVES: Final = "positive_document_ids"
_NEGATIVES: Final = "negative_document_ids"


def names_documents(row: Mapping[str, Any]) -> bool:
    """Whether a row is one of Tevatron's second format."""
    return _POSITIVES in row


def open_examples(sources: Sequence[Rows], first: Mapping[str, Any]) -> Parts:
    """Return what the rows of a training file hold; `first` is one of them, by which the format is known.

    Raises:
        InputError: it has the shape of no format.
    """
    form = recognise(first, Path(sources[0][0]))

    def part(parse: Callable[[Example], Iterable[T]]) -> Part[T]:
        def read(row: Mapping[str, Any]) -> Iterable[T]:
            return list(parse(form.parse(row, position=0, line=0)))

        return part_over(sources, read)

    return Parts(
        documents=part(lambda example: (*example.positives, *example.negatives)),
        queries=part(lambda example: (Query(example.id, example.query),)),
        judged=part(lambda example: (Judged(example.id, each.id, 1) for each in example.positives)),
        found=part(_negatives),
    )


def open_tevatron(sources: Sequence[Rows]) -> Parts:
    """Return what rows of Tevatron's second format hold: all but the documents."""
    return Parts(
        queries=part_over(sources, _query), judged=part_over(sources, _judged), found=part_over(sources, _found)
    )


def numbered(documents: Iterable[tuple[str, float | None]], query_id: str) -> Iterator[Found]:
    """Yield what a list of (document, score) says was found, in its order."""
    for rank, (document, score) in enumerate(documents, 1):
        yield Found(query_id, document, rank, score, GIVEN)


def _negatives(example: Example) -> Iterator[Found]:
    return numbered(((each.id, _score(each)) for each in example.negatives), example.id)


def _score(passage: Passage) -> float | None:
    """Return the score that stood beside a passage or in it, if there is one."""
    item = passage.item if isinstance(passage.item, dict) else {}
    for value in (passage.beside.get("scores"), passage.beside.get("score"), item.get("score")):
        if isinstance(value, int | float) and not isinstance(value, bool) and math.isfinite(value):
            return float(value)
    return None


def _query(row: Mapping[str, Any]) -> tuple[Query]:
    return (Query(_query_id(row), filled_text(row, "query_text")),)


def _judged(row: Mapping[str, Any]) -> list[Judged]:
    query = _query_id(row)
    return [Judged(query, each, 1) for each in _ids(row, _POSITIVES)]


def _found(row: Mapping[str, Any]) -> list[Found]:
    return list(numbered(((each, None) for each in _ids(row, _NEGATIVES)), _query_id(row)))


def _query_id(row: Mapping[str, Any]) -> str:
    found = identifier(present(row, "query_id"), "query_id")
    if not found:
        raise RowError("is empty", field="query_id", hint="Give every query its id.")
    return found


def _ids(row: Mapping[str, Any], key: str) -> list[str]:
    value = row.get(key)
    if value is None:
        return []
    if not isinstance(value, list):
        raise RowError(f"is {kind(value)}, not a list", field=key, hint=f'Write a list of ids: "{key}": […].')
    return [identifier(each, key) for each in value]
