"""MS MARCO's files between tabs: a collection, queries and qrels of each split, triples of ids."""

from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any, Final

from relabel.errors import InputError
from relabel.formats.corpora.base import GIVEN, Found, Judged, Parts, together
from relabel.formats.corpora.fields import missing, passage_of, query_of
from relabel.formats.corpora.files import data_files, part_of, stamps_of, stem_of
from relabel.formats.corpora.separated import TEXTS, TRIPLES
from relabel.formats.corpora.trec import open_qrels
from relabel.formats.streams import existing

SHAPE: Final = "an MS MARCO folder: collection.tsv, queries.SPLIT.tsv, qrels.SPLIT.tsv, or triples of ids"


def is_msmarco(folder: Path) -> bool:
    """Whether a folder holds a collection and queries."""
    stems = [stem_of(each) for each in data_files(folder)]
    return "collection" in stems and any(stem.partition(".")[0] == "queries" for stem in stems)


def open_msmarco(folder: Path, split: str) -> Parts:
    """Return the collection, and queries and judgments of one split; without its qrels, those of its triples.

    Raises:
        InputError: there are no queries of that split.
    """
    files = data_files(folder)
    collection = [each for each in files if stem_of(each) == "collection"]
    queries = _of(files, "queries", split)
    if not queries:
        there = sorted(stem_of(each).partition(".")[2] for each in files if stem_of(each).startswith("queries."))
        raise InputError(
            f"{folder}: there is no queries.{split}.tsv; splits there are: {', '.join(there)}",
            hint=f"Choose one: --split {there[0]}" if there else "",
        )
    qrels = _of(files, "qrels", split)
    texts = Parts(
        documents=part_of(collection, lambda row: (passage_of(row),), TEXTS),
        queries=part_of(queries, lambda row: (query_of(row),), TEXTS),
        stamps=stamps_of((*collection, *queries)),
    )
    if qrels:
        return together(texts, *map(open_qrels, qrels))
    return together(texts, *(open_triples(each) for each in files if _are_triples(each, split)))


def open_triples(path: Path) -> Parts:
    """Return what triples of ids say: query, positive, negative; nobody ranked the negatives, so all rank first."""
    path = existing(path)

    def cell(row: Mapping[str, Any], name: str) -> str:
        if name not in row:  # a header named other columns
            raise missing(row, name)
        return str(row[name])

    def positives(row: Mapping[str, Any]) -> Iterator[Judged]:
        yield Judged(cell(row, "query_id"), cell(row, "positive"), 1)

    def negatives(row: Mapping[str, Any]) -> Iterator[Found]:
        yield Found(cell(row, "query_id"), cell(row, "negative"), 1, None, GIVEN)

    return Parts(
        judged=part_of([path], positives, TRIPLES, blanks=True),
        found=part_of([path], negatives, TRIPLES, blanks=True),
        stamps=stamps_of([path]),
    )


def _of(files: list[Path], kind: str, split: str) -> list[Path]:
    exact = [each for each in files if stem_of(each) == f"{kind}.{split}"]
    return exact or [each for each in files if stem_of(each) == kind]


def _are_triples(path: Path, split: str) -> bool:
    kind, _, rest = stem_of(path).partition(".")
    return kind in ("triples", "qidpidtriples") and (rest == split or rest.startswith(f"{split}."))
