"""How a synthetic passage is known in a training file: by what stands in it, or beside it."""

from typing import Final

from relabel.records import Passage, digest

MARK: Final = "synthetic"
"""The field of a passage that holds its provenance, and the source of one where a row lists sources beside passages."""


def synthetic_id(title: str, text: str) -> str:
    """Return the id of a synthetic passage: a digest of its title and text."""
    return f"{MARK}-{digest(title, text, size=6).hex()}"


def is_synthetic(passage: Passage) -> bool:
    """Whether a passage says that it is synthetic: by the field, by its source, or by an id that this tool gave it."""
    if isinstance(passage.item, dict) and passage.item.get(MARK):
        return True
    sources = (passage.beside.get(name) for name in ("source", "sources"))
    return MARK in sources or passage.id.startswith(f"{MARK}-")
