"""NeMo Automodel's retrieval file, and the corpus folder that it points to."""

import math
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any, ClassVar, Final

from relabel.formats.carrying import other_fields
from relabel.formats.exporting import Entry, ExportWriter, Named, Register
from relabel.formats.tables import TableWriter
from relabel.formats.whole import json_bytes, told, whole_folder
from relabel.records import Passage

_FILES: Final = ("corpus", "train.json")


class Automodel:
    """`train.json` {"corpus": [{"path"}], "data": [{"question_id", "question", "corpus_id", "pos_doc", "neg_doc"}]}.

    `corpus/` beside it holds `merlin_metadata.json` (class `TextQADataset`, which reads no title) and `train.parquet`
    with id and text. The corpus is called after the folder: Automodel refuses two of one name in one training. A
    passage in `pos_doc` and `neg_doc` has its score, where it has one, as Automodel's own miner writes it.
    """

    __slots__ = ()

    name: ClassVar[str] = "automodel"
    shape: ClassVar[str] = (
        "a folder: train.json (corpus, data [{question_id, question, corpus_id, pos_doc [{id, score}], neg_doc}]), "
        "corpus/ (merlin_metadata.json, train.parquet with id, text)"
    )
    keeps: ClassVar[str] = "ids, scores, fields of the row; titles in front; each passage once"
    loses: ClassVar[str] = "parallel lists other than scores"

    @contextmanager
    def open(self, path: Path) -> Iterator[ExportWriter]:
        """Open a folder for writing; see `Export.open`."""
        corpus_id = path.resolve().name
        with (
            whole_folder(path, _FILES) as folder,
            Register(folder, path) as register,
            _corpus(folder / _FILES[0], corpus_id, path) as corpus,
            _document(folder / _FILES[1], path) as rows,
        ):

            def put_passage(name: str, passage: Passage) -> None:
                corpus({"id": name, "text": passage.full_text})

            def put_entry(entry: Entry) -> int:
                example = entry.example
                row = {
                    "question_id": entry.query.id,
                    "question": example.query,
                    "corpus_id": corpus_id,
                    "pos_doc": list(map(_document_of, entry.positives, example.positives)),
                    "neg_doc": list(map(_document_of, entry.negatives, example.negatives)),
                }
                rows(row | other_fields(example, self.name))
                return 1

            yield ExportWriter(path, register, put_passage, put_entry)


@contextmanager
def _corpus(folder: Path, corpus_id: str, shown: Path) -> Iterator[Callable[[Mapping[str, Any]], None]]:
    import pyarrow as pa

    with told(shown):
        folder.mkdir()
        told_of = {"class": "TextQADataset", "corpus_id": corpus_id}
        (folder / "merlin_metadata.json").write_bytes(json_bytes(told_of) + b"\n")
        schema = pa.schema([("id", pa.string()), ("text", pa.string())])
        writer = TableWriter(shown, folder / "train.parquet", schema)
    try:
        yield writer.put
        with told(shown):
            writer.finish()
    finally:
        with told(shown):
            writer.close()


@contextmanager
def _document(path: Path, shown: Path) -> Iterator[Callable[[Mapping[str, Any]], None]]:
    """Write one object row by row."""
    with told(shown):
        file = path.open("wb")
    before = b'{"corpus": [{"path": "corpus"}],\n "data": [\n'

    def put(row: Mapping[str, Any]) -> None:
        nonlocal before
        file.write(before + json_bytes(row))
        before = b",\n"

    try:
        yield put
        with told(shown):
            file.write(b"\n]}\n" if before == b",\n" else before + b"]}\n")
    finally:
        with told(shown):
            file.close()


def _document_of(named: Named, passage: Passage) -> dict[str, Any]:
    score = _score(passage)
    return {"id": named.id} if score is None else {"id": named.id, "score": score}


def _score(passage: Passage) -> float | None:
    """Return the score that stands beside a passage or in it."""
    for place in (passage.beside, passage.item):
        for name in ("scores", "score"):
            value = place.get(name) if isinstance(place, Mapping) else None
            if isinstance(value, int | float) and not isinstance(value, bool) and math.isfinite(value):
                return value
    return None
