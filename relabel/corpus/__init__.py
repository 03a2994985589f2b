"""Passages, queries and what is known of them, numbered, in one SQLite file: what everything is mined from."""

from relabel.corpus.building import build
from relabel.corpus.collection import Corpus
from relabel.corpus.schema import Built, Unknown

__all__ = ["Built", "Corpus", "Unknown", "build"]
