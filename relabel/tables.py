"""CSV files that went through a spreadsheet: what a cell can hold, and how a table is read back.

A table may be separated by comma, semicolon or tab, end its lines in any way and have its columns in any order. It is
read by the names of its columns. Cells of text go through `records.guard` on their way out and come back without.
"""

import csv
import re
from collections.abc import Collection, Iterator
from itertools import chain
from pathlib import Path
from typing import Final

from relabel.errors import InputError
from relabel.records import guard, unguard

CELL_LIMIT: Final = 32_767
"""What a cell of Excel holds, in UTF-16 units."""

CHUNK: Final = 1000

LONGEST_HEADER: Final = 2**20
"""Characters: a first line that is longer names no columns."""

_ILLEGAL: Final = re.compile("[\x00-\x08\x0b\x0c\x0e-\x1f\ud800-\udfff\ufffe\uffff]")
"""What XML 1.0, and so an .xlsx, cannot hold."""

_LINE_END: Final = re.compile("\r\n?")

_UTF8: Final = 'Unpack it if it is packed; in a spreadsheet, save it as "CSV UTF-8 (comma delimited)".'


def to_cell(text: str) -> str:
    """Text as a spreadsheet can hold it: legal, guarded, and short enough."""
    if not text.isprintable():  # what is printable holds no line end and nothing illegal
        text = _ILLEGAL.sub("", _LINE_END.sub("\n", text))
    return _cut(guard(text))


def from_cell(cell: str) -> str:
    """The text of a cell, with the line ends that `to_cell` writes, whatever a spreadsheet made of them."""
    return unguard(_LINE_END.sub("\n", cell))


def reread(text: str) -> str:
    """A text after its way out to a cell and back, to compare one that made that way with one that did not."""
    return from_cell(to_cell(text))


def read_table(path: Path, known: Collection[str]) -> tuple[tuple[str, ...], Iterator[tuple[int, dict[str, str]]]]:
    """Open a table and read its rows as they are asked for.

    Args:
        path: UTF-8, with or without a byte order mark; the first line names the columns.
        known: the columns to read; others are passed over.

    Returns:
        Which of `known` are there; and for each row that has anything in them, its line and the text of every known
        column, "" for what is not there. Lines count as a spreadsheet does: the header is 1, and a row is one
        however many line ends its cells hold.

    Raises:
        InputError: the file is missing, no UTF-8 or no table, or has one of the columns twice. Also while rows are
            read.
    """
    try:
        separator, header = _header(path, known)
    except OSError as error:
        raise _unreadable(path, error) from error
    except UnicodeDecodeError as error:
        raise InputError(f"{path}: is not UTF-8 text", hint=_UTF8) from error
    twice = [name for name in known if header.count(name) > 1]
    if twice:
        raise InputError(f"{path}: more than one column {', '.join(twice)}", hint="Keep one of them.")
    places = {name: header.index(name) for name in known if name in header}
    return tuple(places), _rows(path, separator, dict.fromkeys(known, ""), places)


def _rows(
    path: Path, separator: str, empty: dict[str, str], places: dict[str, int]
) -> Iterator[tuple[int, dict[str, str]]]:
    import pandas as pd

    try:
        # every cell a string, nothing guessed: an id "007", "NA" or "1e5" stays what it is. Without a header of
        # pandas' own: a row longer than the first is an error then, and no index is guessed
        with pd.read_csv(
            path, sep=separator, header=None, dtype=str, keep_default_na=False, encoding="utf-8-sig",
            skip_blank_lines=False, compression=None, chunksize=CHUNK,
        ) as chunks:  # fmt: skip
            rows = chain.from_iterable(chunk.fillna("").itertuples(index=False, name=None) for chunk in chunks)
            if max(places.values(), default=-1) >= len(next(rows)):  # quotes that pandas and `_header` read otherwise
                raise InputError(f"{path}: is not a table: its header is not what it looks like", hint=_UTF8)
            for line, row in enumerate(rows, start=2):
                cells = empty | {name: from_cell(row[place]) for name, place in places.items()}
                if any(cells.values()):
                    yield line, cells
    except OSError as error:
        raise _unreadable(path, error) from error
    except UnicodeDecodeError as error:
        raise InputError(f"{path}: is not UTF-8 text", hint=_UTF8) from error
    except (pd.errors.ParserError, pd.errors.EmptyDataError) as error:
        raise InputError(f"{path}: is not a table: {str(error).strip()}", hint=_UTF8) from error


def _header(path: Path, known: Collection[str]) -> tuple[str, list[str]]:
    """Find the separator, the one under which most of the columns we know are there, and the header by it."""
    headers: dict[str, list[str]] = {}
    for separator in ",;\t":
        with path.open(encoding="utf-8-sig", newline="") as stream:
            try:
                cells = next(csv.reader(iter(lambda: stream.readline(LONGEST_HEADER), ""), delimiter=separator), [])
            except csv.Error:  # no header, but something endless
                cells = []
        headers[separator] = [cell.strip() for cell in cells]
    separator = max(headers, key=lambda each: (len(set(known) & set(headers[each])), len(headers[each])))
    return separator, headers[separator]


def _unreadable(path: Path, error: OSError) -> InputError:
    return InputError(f"{path}: cannot be read: {error.strerror or error}", hint="Check the name of the file.")


def _cut(text: str) -> str:
    if 2 * len(text) <= CELL_LIMIT:
        return text
    units = text.encode("utf-16-le")
    if len(units) <= 2 * CELL_LIMIT:
        return text
    mark = "… [cut, {} characters]"
    room = CELL_LIMIT - len(mark.format(len(text)))
    kept = units[: 2 * room].decode("utf-16-le", "ignore")  # ignored: the first half of a pair that the cut parts
    return kept + mark.format(len(text) - len(kept))
