"""Tevatron's second format: rows that name their passages by id, and the corpus that holds them."""

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import ClassVar, Final

from relabel.formats.carrying import other_fields
from relabel.formats.exporting import Entry, ExportWriter, Register
from relabel.formats.whole import json_lines, whole_folder
from relabel.records import Passage

_FILES: Final = ("corpus.jsonl", "train.jsonl")


class Tevatron2:
    """`train.jsonl` {"query_id", "query_text", "positive_document_ids", …}, `corpus.jsonl` {"docid", "text", "image"}.

    Tevatron's README calls the corpus fields `document_text` and `document_image`; its loader reads `text` and `image`,
    and would train on empty passages without a word. It reads no title, so that one goes in front of the text.
    """

    __slots__ = ()

    name: ClassVar[str] = "tevatron-v2"
    shape: ClassVar[str] = (
        "a folder: train.jsonl (query_id, query_text, query_image, positive_document_ids, negative_document_ids), "
        "corpus.jsonl (docid, text, image)"
    )
    keeps: ClassVar[str] = "ids, fields of the row; titles in front; each passage once"
    loses: ClassVar[str] = "parallel lists"

    @contextmanager
    def open(self, path: Path) -> Iterator[ExportWriter]:
        """Open a folder for writing; see `Export.open`."""
        with (
            whole_folder(path, _FILES) as folder,
            Register(folder, path) as register,
            json_lines(folder / _FILES[0], path) as corpus,
            json_lines(folder / _FILES[1], path) as rows,
        ):

            def put_passage(name: str, passage: Passage) -> None:
                corpus({"docid": name, "text": passage.full_text, "image": None})

            def put_entry(entry: Entry) -> int:
                row = {
                    "query_id": entry.query.id,
                    "query_text": entry.example.query,
                    "query_image": None,
                    "positive_document_ids": [named.id for named in entry.positives],
                    "negative_document_ids": [named.id for named in entry.negatives],
                }
                rows(row | other_fields(entry.example, self.name))
                return 1

            yield ExportWriter(path, register, put_passage, put_entry)
