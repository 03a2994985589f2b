"""BEIR directories and MTEB's layout: corpus, queries and qrels, each a file of that name or a folder of files."""

from pathlib import Path
from typing import Final

from relabel.errors import InputError
from relabel.formats.corpora.base import Parts
from relabel.formats.corpora.fields import judged_of, passage_of, query_of
from relabel.formats.corpora.files import all_files, data_files, of_split, part_of, stamps_of, stem_of
from relabel.formats.corpora.separated import QRELS, TEXTS
from relabel.formats.endings import is_saved

SHAPE: Final = "a BEIR or MTEB folder: corpus, queries, qrels (or default), each a file or a folder of files"
_QRELS: Final = ("qrels", "default", "data")
"""What judgments are called: by BEIR and newer MTEB sets, by its configuration, by the hub."""


def is_beir(folder: Path) -> bool:
    """Whether a folder holds queries, and passages or judgments of them."""
    return bool(named(folder, "queries") and (named(folder, "corpus") or (folder / _QRELS[0]).is_dir()))


def open_beir(folder: Path, split: str) -> Parts:
    """Return the corpus, all queries and the judgments of one split; `qrels.tsv` beside no folder is of any split.

    Raises:
        InputError: there are judgments, but not of that split.
    """
    corpus, queries, judged = named(folder, "corpus"), named(folder, "queries"), _judged(folder, split)
    return Parts(
        documents=part_of(corpus, lambda row: (passage_of(row),), TEXTS) if corpus else None,
        queries=part_of(queries, lambda row: (query_of(row),), TEXTS),
        judged=part_of(judged, lambda row: (judged_of(row),), QRELS, blanks=True) if judged else None,
        stamps=stamps_of((*corpus, *queries, *judged)),
    )


def _judged(folder: Path, split: str) -> list[Path]:
    for name in _QRELS:
        inside = folder / name
        if is_saved(inside):
            return [inside]
        if inside.is_dir():
            return of_split(inside, split)
    return named(folder, _QRELS[0])


def named(folder: Path, name: str) -> list[Path]:
    """Return the file of that name, or the files of the folder of that name.

    Raises:
        InputError: there are two such files.
    """
    inside = folder / name
    if inside.is_dir():
        return all_files(inside)
    found = [each for each in data_files(folder) if stem_of(each) == name]
    if len(found) > 1:
        both = " and ".join(each.name for each in found)
        raise InputError(f"{folder}: there are {both}", hint="Leave the one that you mean.")
    return found
