"""BEIR's folder: corpus, queries and graded labels, each in a file of its own."""

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import ClassVar, Final

from relabel.errors import InputError
from relabel.formats.exporting import Entry, ExportWriter, Register
from relabel.formats.whole import json_lines, told, whole_folder
from relabel.records import Passage

_FILES: Final = ("corpus.jsonl", "queries.jsonl", "qrels")


class Beir:
    """`corpus.jsonl` {"_id", "title", "text"}, `queries.jsonl` {"_id", "text"}, `qrels/train.tsv` with a header.

    Positives have score 1 and negatives 0. BEIR's own training takes 1 and above, so the 0 are there for who looks for
    them; rows of the same query meet, and a pair that stands there with both labels has 1.
    """

    __slots__ = ()

    name: ClassVar[str] = "beir"
    shape: ClassVar[str] = "a folder: corpus.jsonl, queries.jsonl, qrels/train.tsv (query-id, corpus-id, score 1 or 0)"
    keeps: ClassVar[str] = "ids, titles; each query and each passage once; negatives as score 0"
    loses: ClassVar[str] = "fields of the row, parallel lists, which row a label comes from"

    @contextmanager
    def open(self, path: Path) -> Iterator[ExportWriter]:
        """Open a folder for writing; see `Export.open`."""
        with whole_folder(path, _FILES) as folder, Register(folder, path) as register:
            with json_lines(folder / _FILES[0], path) as corpus, json_lines(folder / _FILES[1], path) as queries:

                def put_passage(name: str, passage: Passage) -> None:
                    corpus({"_id": name, "title": passage.title, "text": passage.text})

                def put_entry(entry: Entry) -> int:
                    if entry.query.new:
                        queries({"_id": entry.query.id, "text": entry.example.query})
                    register.label(entry.query, entry.positives, relevant=True)
                    register.label(entry.query, entry.negatives, relevant=False)
                    return int(entry.query.new)

                yield ExportWriter(path, register, put_passage, put_entry)
            with told(path):
                _write_labels(folder / _FILES[2], register, path)


def _write_labels(folder: Path, register: Register, shown: Path) -> None:
    folder.mkdir()
    try:
        with (folder / "train.tsv").open("w", encoding="utf-8", newline="") as file:
            file.write("query-id\tcorpus-id\tscore\n")
            for query, passage, relevant in register.labels():
                file.write(f"{_cell(query)}\t{_cell(passage)}\t{int(relevant)}\n")
    except UnicodeEncodeError as error:
        raise InputError(
            f"{shown}: qrels/train.tsv cannot hold half of a surrogate pair, which an id has",
            hint="Give the passages other ids, or convert to tevatron-v2.",
        ) from error


def _cell(name: str) -> str:
    """Put an id between quotes, as CSV readers know them, where it holds a sign of the table itself."""
    return '"' + name.replace('"', '""') + '"' if any(sign in name for sign in '\t\r\n"') else name
