"""Rows of a shape that only they can tell: a corpus, judgments, or something to train on."""

from collections.abc import Mapping, Sequence
from typing import Any

from relabel.formats.corpora.base import Parts
from relabel.formats.corpora.fields import holds_judgments, holds_passages, judged_of, passage_of
from relabel.formats.corpora.files import Rows, part_over
from relabel.formats.corpora.training import names_documents, open_examples, open_tevatron


def told_by_row(sources: Sequence[Rows], first: Mapping[str, Any], stamps: tuple[str, ...]) -> Parts:
    """Return what rows hold that all look like `first`.

    Raises:
        InputError: it has no shape that is known.
    """
    if names_documents(first):
        parts = open_tevatron(sources)
    elif holds_judgments(first):
        parts = Parts(judged=part_over(sources, lambda row: (judged_of(row),)))
    elif holds_passages(first):
        parts = Parts(documents=part_over(sources, lambda row: (passage_of(row),)))
    else:
        parts = open_examples(sources, first)
    return Parts(parts.documents, parts.queries, parts.judged, parts.found, None, stamps)
