"""What is mined from: corpora, queries, judgments and runs, in the shapes in which the world keeps them."""

from relabel.formats.corpora.base import Found, Judged, OnBad, Part, Parts, Query, Source, together
from relabel.formats.corpora.msmarco import open_triples
from relabel.formats.corpora.opening import SHAPES, is_collection, open_documents, open_judged, open_parts, open_queries
from relabel.formats.corpora.trec import open_run

__all__ = [
    "SHAPES",
    "Found",
    "Judged",
    "OnBad",
    "Part",
    "Parts",
    "Query",
    "Source",
    "is_collection",
    "open_documents",
    "open_judged",
    "open_parts",
    "open_queries",
    "open_run",
    "open_triples",
    "together",
]
