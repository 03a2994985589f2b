"""Names of files, folders and data sets → what they hold."""

from collections.abc import Sequence
from pathlib import Path
from typing import Final

from relabel.errors import InputError
from relabel.formats.corpora import beir, hub, irds, msmarco, training, wholejson
from relabel.formats.corpora.base import Parts, together
from relabel.formats.corpora.fields import holds_judgments, passage_of, query_of
from relabel.formats.corpora.files import (
    all_files,
    data_files,
    first_row,
    holds_columns,
    of_split,
    part_of,
    rows_of,
    stamps_of,
)
from relabel.formats.corpora.separated import QRELS, RUN, TEXTS, is_separated
from relabel.formats.corpora.shapes import told_by_row
from relabel.formats.corpora.training import names_documents
from relabel.formats.corpora.trec import open_qrels, open_run
from relabel.formats.endings import is_json, is_saved
from relabel.formats.jsonlist import first_sign, holds_list
from relabel.formats.streams import existing

_CORPUS: Final = "a corpus: rows with an id (_id, docid, id), text and perhaps title, or id and text between tabs"
SHAPES: Final = (
    beir.SHAPE, msmarco.SHAPE, _CORPUS, training.TEVATRON, wholejson.NEMO, wholejson.LLAMAINDEX, training.SHAPE,
    hub.SHAPE, irds.SHAPE,
)  # fmt: skip
"""What `open_parts` knows, for people."""


def open_parts(where: Path | str, *, split: str = "train") -> Parts:
    """Recognise a source and return what it holds; a part that it lacks is None.

    Args:
        where: a file or a folder, `hf:NAME`, or `irds:ID`; `SHAPES` says of what shape. Files may be compressed (`.gz`,
            `.zst`).
        split: which judgments (and, of rows to train on, which rows) are meant, where there are several.

    Raises:
        InputError: there is no such thing, no such split, or its shape is not known.
        MissingPart: it needs a package that is not installed.
    """
    name = str(where)
    if name.startswith(hub.PREFIX):
        return hub.open_hub(name, split)
    if name.startswith(irds.PREFIX):
        return irds.open_irds(name)
    path = existing(where)
    return _open_folder(path, split) if path.is_dir() and not is_saved(path) else _open_files([path])


def is_collection(where: Path | str) -> bool:
    """Whether a source is anything but rows of texts to train on: these `relabel.formats.read_examples` reads.

    A file that is not there is none, nor is one that holds no row.
    """
    if str(where).startswith((hub.PREFIX, irds.PREFIX)):
        return True
    path = Path(where)
    if path.is_dir() and not is_saved(path):
        return True
    try:
        if not path.is_dir() and first_sign(path) == b"{" and is_json(path):
            return bool(wholejson.shape_of(path))
        if holds_columns(path):
            return is_separated(path) and first_sign(path) != b"{"
        return names_documents(first_row(path))
    except (InputError, OSError):
        return False


def open_documents(where: Path | str, *, split: str = "train") -> Parts:
    """Return the documents of a source: any that `open_parts` knows and that has some, or a file of passages alone.

    Raises:
        InputError: it has none.
    """
    name = str(where)
    path = Path(where)
    if not name.startswith((hub.PREFIX, irds.PREFIX)) and not path.is_dir() and holds_columns(existing(path)):
        return Parts(documents=part_of([path], lambda row: (passage_of(row),), TEXTS), stamps=stamps_of([path]))
    parts = open_parts(where, split=split)
    if parts.documents is None:
        raise InputError(f"{where}: holds no passages", hint=f"Name {_CORPUS}.")
    return Parts(documents=parts.documents, stamps=parts.stamps)


def open_queries(where: Path | str, *, split: str = "train") -> Parts:
    """Return the queries of a file (rows with id and text, or both between tabs), or of any source that has some."""
    name = str(where)
    if name.startswith(irds.PREFIX) or Path(where).is_dir():
        parts = open_parts(where, split=split)
        if parts.queries is None:
            raise InputError(f"{where}: holds no queries", hint="Name a file with an id and a text in each row.")
        return Parts(queries=parts.queries, stamps=parts.stamps)
    if name.startswith(hub.PREFIX):
        return hub.queries_of_hub(name, split)
    path = existing(where)
    return Parts(queries=part_of([path], lambda row: (query_of(row),), TEXTS), stamps=stamps_of([path]))


def open_judged(where: Path | str, *, split: str = "train") -> Parts:
    """Return the judgments of a file (see `open_qrels`), or of any source that has some."""
    if not str(where).startswith((hub.PREFIX, irds.PREFIX)) and (not Path(where).is_dir() or is_saved(Path(where))):
        return open_qrels(Path(where))
    parts = open_parts(where, split=split)
    if parts.judged is None:
        raise InputError(f"{where}: holds no judgments", hint="Name a file with query, passage and grade in each row.")
    return Parts(judged=parts.judged, stamps=parts.stamps)


def _open_files(paths: Sequence[Path]) -> Parts:
    """Open files of one shape, that of the first row of the first."""
    first = paths[0]
    if holds_columns(first):
        return _open_columns(paths)
    shape = wholejson.shape_of(first) if is_json(first) and not holds_list(first) else ""
    if shape:
        return wholejson.open_nemo(first) if shape == "nemo" else wholejson.open_llamaindex(first)
    row = first_row(first)
    try:
        return told_by_row([rows_of(path) for path in paths], row, stamps_of(paths))
    except InputError as error:
        others = "".join(f"\n    {each}" for each in SHAPES)
        raise InputError(f"{error.message}\n  Other sources known:{others}", hint=error.hint) from error


def _open_columns(paths: Sequence[Path]) -> Parts:
    """Open files of columns: two are a corpus, six a run, four or a header that says so judgments."""
    row = first_row(paths[0], (*TEXTS, QRELS[0], RUN[0]))
    if "tag" in row:
        return together(*map(open_run, paths))
    if holds_judgments(row):
        return together(*map(open_qrels, paths))
    return Parts(documents=part_of(paths, lambda row: (passage_of(row),), TEXTS), stamps=stamps_of(paths))


def _open_folder(folder: Path, split: str) -> Parts:
    if beir.is_beir(folder):
        return beir.open_beir(folder, split)
    if msmarco.is_msmarco(folder):
        return msmarco.open_msmarco(folder, split)
    if wholejson.is_nemo_corpus(folder):
        return wholejson.open_nemo_corpus(folder)
    inside = folder / "data" if (folder / "data").is_dir() and not data_files(folder) else folder
    files = all_files(inside)
    if len(files) == 1:
        return _open_files(files)
    rows = _open_files(of_split(inside, split))
    corpus = beir.named(inside, "corpus")
    return rows.searching(_open_files(corpus)) if corpus else rows
