"""LlamaIndex's `EmbeddingQAFinetuneDataset`: queries, corpus and relevant passages in one JSON object."""

import shutil
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from itertools import groupby
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any, ClassVar

from relabel.errors import InputError
from relabel.formats.exporting import Entry, ExportWriter, Register
from relabel.formats.whole import json_bytes, told
from relabel.records import Passage


class LlamaIndex:
    """`{"queries": {id: text}, "corpus": {id: text}, "relevant_docs": {query id: [id]}, "mode": "text"}`.

    It has no place for negatives: their texts are in the corpus, and nothing says of which query they were negatives.
    """

    __slots__ = ()

    name: ClassVar[str] = "llama-index"
    shape: ClassVar[str] = "a .json file: queries {id: text}, corpus {id: text}, relevant_docs {query id: [id]}"
    keeps: ClassVar[str] = "ids; titles in front; each query and each passage once; negatives as texts of the corpus"
    loses: ClassVar[str] = "which passages are negatives of which query; fields of the row, parallel lists"

    @contextmanager
    def open(self, path: Path) -> Iterator[ExportWriter]:
        """Open a file for writing; see `Export.open`."""
        if path.suffix.lower() != ".json" or path.is_dir():
            raise InputError(f"{path}: llama-index is one JSON file", hint="Name a file that ends in .json.")
        with told(path):
            workshop = TemporaryDirectory(prefix=f".{path.name}.", dir=path.parent)
        with workshop as name, Register(folder := Path(name), path) as register:
            with _members(folder / "queries", path) as queries, _members(folder / "corpus", path) as corpus:

                def put_passage(name: str, passage: Passage) -> None:
                    corpus(name, passage.full_text)

                def put_entry(entry: Entry) -> int:
                    if entry.query.new:
                        queries(entry.query.id, entry.example.query)
                    register.label(entry.query, entry.positives, relevant=True)
                    return int(entry.query.new)

                yield ExportWriter(path, register, put_passage, put_entry)
            with told(path):
                _assemble(folder, register)
                (folder / "whole").replace(path)


@contextmanager
def _members(path: Path, shown: Path) -> Iterator[Callable[[str, Any], None]]:
    """Write one object member by member."""
    with told(shown):
        file = path.open("wb")
    before = b"{\n"

    def put(key: str, value: Any) -> None:
        nonlocal before
        file.write(before + json_bytes(key) + b": " + json_bytes(value))
        before = b",\n"

    try:
        yield put
        with told(shown):
            file.write(b"\n}" if before == b",\n" else b"{}")
    finally:
        with told(shown):
            file.close()


def _assemble(folder: Path, register: Register) -> None:
    """Put the parts together: an object of objects."""
    with _members(folder / "relevant", folder) as relevant:
        for query, labels in groupby(register.labels(), key=lambda label: label[0]):
            relevant(query, [passage for _, passage, _ in labels])
    with (folder / "whole").open("wb") as whole:
        for before, part in (
            (b'{"queries": ', "queries"),
            (b', "corpus": ', "corpus"),
            (b', "relevant_docs": ', "relevant"),
        ):
            whole.write(before)
            with (folder / part).open("rb") as file:
                shutil.copyfileobj(file, whole)
        whole.write(b', "mode": "text"}\n')
