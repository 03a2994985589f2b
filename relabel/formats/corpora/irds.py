"""Data sets of the package `ir_datasets`, by their id: `irds:beir/scifact/train`."""

from collections.abc import Callable, Iterable, Iterator
from typing import Any, Final, TypeVar

from relabel.errors import InputError, MissingPart
from relabel.formats.corpora.base import Found, Judged, Part, Parts, Query, Source
from relabel.records import Passage

T = TypeVar("T")

PREFIX: Final = "irds:"
SHAPE: Final = "irds:ID, a data set of the package ir_datasets"
_SYSTEM: Final = "scoreddocs"
"""Who found what `ir_datasets` calls scored documents: it does not say."""


def open_irds(where: str) -> Parts:
    """Return what a data set of `ir_datasets` has: documents, queries, judgments, scored documents.

    A document without a field `text` is its default text; a query too. The package downloads what is not there yet.

    Raises:
        MissingPart: the package is not installed.
        InputError: there is no such data set.
    """
    try:
        import ir_datasets
    except ImportError as error:
        raise MissingPart("ir-datasets", "ir-datasets") from error

    name = where.removeprefix(PREFIX)
    try:
        data = ir_datasets.load(name)
    except KeyError:
        raise InputError(
            f"{where}: ir_datasets has no data set of that name", hint="See the list: ir_datasets list"
        ) from None

    def part(what: str, there: bool, read: Callable[[], Iterable[T]]) -> Part[T] | None:  # noqa: FBT001 - a sentence
        # each counts its own rows
        return Part((Source(f"{where} ({what})", lambda _: _numbered(where, read)),)) if there else None

    return Parts(
        documents=part("docs", data.has_docs(), lambda: map(_passage, data.docs_iter())),
        queries=part("queries", data.has_queries(), lambda: map(_query, data.queries_iter())),
        judged=part("qrels", data.has_qrels(), lambda: map(_judged, data.qrels_iter())),
        found=part("scoreddocs", data.has_scoreddocs(), lambda: _found(data.scoreddocs_iter())),
        stamps=(where,),
    )


def _numbered(where: str, read: Callable[[], Iterable[T]]) -> Iterator[tuple[int, T]]:
    try:
        yield from enumerate(read(), 1)
    except OSError as error:  # downloads too
        raise InputError(f"{where}: cannot be read: {error}", hint="Check the network; then type it again.") from error


def _passage(document: Any) -> Passage:
    if hasattr(document, "text"):
        return Passage(document.doc_id, document.text or "", getattr(document, "title", "") or "")
    return Passage(document.doc_id, document.default_text())


def _query(query: Any) -> Query:
    return Query(query.query_id, query.text if hasattr(query, "text") else query.default_text())


def _judged(qrel: Any) -> Judged:
    return Judged(qrel.query_id, qrel.doc_id, int(qrel.relevance))


def _found(scored: Iterable[Any]) -> Iterator[Found]:
    query, rank = "", 0
    for each in scored:
        rank = rank + 1 if each.query_id == query else 1
        query = each.query_id
        yield Found(query, each.doc_id, rank, float(each.score), _SYSTEM)
