"""Columns between tabs or blanks, as MS MARCO, TREC and BEIR write them: one row to a line.

Quotes are a part of the text, but in a file whose header names its columns: there they may enclose a cell, as programs
that know CSV write it.
"""

import csv
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Final

from relabel.errors import InputError, RowError
from relabel.formats.corpora.fields import NAMES
from relabel.formats.endings import plain_name
from relabel.formats.lines import Record, read_lines, too_long, unreadable

TEXTS: Final = (("id", "text"),)
QRELS: Final = (("query_id", "iteration", "document_id", "grade"), ("query_id", "document_id", "grade"))
RUN: Final = (("query_id", "q0", "document_id", "rank", "score", "tag"), ("query_id", "document_id", "score"))
TRIPLES: Final = (("query_id", "positive", "negative"),)
"""Which columns a file of each kind may have, where no header names them."""

_ENDINGS: Final = (".tsv", ".txt", ".trec", ".run", ".qrels", ".qrel")


def is_separated(path: Path) -> bool:
    """Whether a file's name says that it holds columns, compression apart."""
    return plain_name(path).endswith(_ENDINGS)


def column_records(path: Path, layouts: Sequence[tuple[str, ...]], *, blanks: bool = True) -> Iterator[Record]:
    """Yield the rows of a file as objects whose keys are the columns' names: those of its header, or of a layout.

    Args:
        path: the file.
        layouts: what its columns may be where it has no header; their number decides.
        blanks: whether white space of any kind separates columns, where tabs do not.

    Raises:
        InputError: the number of columns is that of no layout.
    """
    names: tuple[str, ...] = ()
    tabs, headed = True, False
    for number, raw, cut in read_lines(path):
        if cut:
            yield Record(number, cut, too_long(path, number))
            continue
        if not raw or raw.isspace():
            continue
        try:
            line = raw.decode("utf-8").rstrip("\r\n")
        except UnicodeDecodeError as error:
            yield Record(number, raw, unreadable(error, raw, path, number))
            continue
        if not names:
            tabs = not blanks or _tabs(line, layouts)
            cells = line.split("\t") if tabs else line.split()
            if header := _header(cells):
                names, headed = header, True
                continue
            names = _layout(cells, layouts, path)
        cells = line.split("\t") if tabs else line.split()
        if headed and tabs and '"' in line:
            cells = _unquoted(line) or cells
        if len(cells) == len(names):
            yield Record(number, raw, dict(zip(names, cells, strict=True)))
        else:
            yield Record(number, raw, _uneven(len(cells), names, path, number))


def _unquoted(line: str) -> list[str]:
    """Return the cells of a line with quotes as CSV has them; nothing where they mean something else."""
    try:
        return next(csv.reader([line], delimiter="\t", strict=True))
    except csv.Error:
        return []


def _tabs(line: str, layouts: Sequence[tuple[str, ...]]) -> bool:
    counts = [len(layout) for layout in layouts]
    cells = line.split("\t")
    return bool(_header(cells)) or len(cells) in counts or (len(cells) > 1 and len(line.split()) not in counts)


def _header(cells: Sequence[str]) -> tuple[str, ...]:
    """Return the names, if these are names: the first two known, and each there once."""
    names = tuple(cell.strip().strip('"').lower() for cell in cells)
    known = len(names) > 1 and NAMES.issuperset(names[:2]) and len(set(names)) == len(names)
    return names if known else ()


def _layout(cells: Sequence[str], layouts: Sequence[tuple[str, ...]], path: Path) -> tuple[str, ...]:
    found = next((layout for layout in layouts if len(layout) == len(cells)), None)
    if found is None:
        shapes = ", or ".join(" ".join(layout) for layout in layouts)
        raise InputError(
            f"{path}: the first row has {len(cells)} column{'s' * (len(cells) != 1)}, where {shapes} were expected",
            hint="Put tabs between the columns, or name them in a header.",
        )
    return found


def _uneven(count: int, names: tuple[str, ...], path: Path, number: int) -> RowError:
    return RowError(
        f"has {count} column{'s' * (count != 1)} where the file has {len(names)}: {', '.join(names)}",
        path=path, line=number, hint="Put one tab between two columns, and none into a text.",
    )  # fmt: skip
