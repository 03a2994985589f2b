"""Training files out: under a temporary name until complete, and the same bytes for the same examples."""

import csv
import json
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any, Final

from relabel.errors import InputError
from relabel.formats.base import Format
from relabel.formats.endings import is_csv, is_json, is_table
from relabel.formats.known import format_for
from relabel.formats.streams import open_output
from relabel.formats.tables import TableWriter, schema_of, widened
from relabel.formats.twolists import TwoLists
from relabel.records import Example

_TO_JSON: Final = json.JSONEncoder(ensure_ascii=False).encode
_TO_ASCII_JSON: Final = json.JSONEncoder().encode


class Writer:
    """Writes examples as rows of one format; made by `open_writer`."""

    def __init__(
        self, put: Callable[[Mapping[str, Any]], None], render: Callable[[Example], list[dict[str, Any]]]
    ) -> None:
        self._put, self._render = put, render

    def write(self, example: Example) -> int:
        """Write an example; return how many rows that made (none for triplets whose negative is gone)."""
        rows = self._render(example)
        for row in rows:
            self._put(row)
        return len(rows)


@contextmanager
def open_writer(
    path: Path | str,
    format: Format,  # noqa: A002
    *,
    columns: Sequence[str] | None = None,
    like: Path | None = None,
) -> Iterator[Writer]:
    """Open a training file for writing; it gets its name only when everything went well.

    Args:
        path: where to; `.csv` writes CSV, `.parquet` Parquet, `.json` one list, anything else JSON lines; `.gz` or
            `.zst` after it compresses all but Parquet. The bytes depend on nothing but the examples: no time and no
            name stands in a compressed file.
        format: the shape of the rows.
        columns: columns of a CSV file and their order; by default the keys of the first row.
        like: a Parquet file or saved data set whose schema a Parquet file keeps; by default one that holds the rows.

    Raises:
        InputError: the file cannot be written there, or cannot hold what it is given.
    """
    path = Path(path)
    format_for(path, format.name)
    if path.name.lower().endswith((".parquet.gz", ".parquet.zst")):
        raise InputError(f"{path}: Parquet is compressed inside", hint="Name a file that ends in .parquet.")
    temporary = path.with_name(path.name + ".tmp")
    if path.is_dir():
        raise InputError(f"{path}: is a folder", hint="Name a file to write to.")
    try:
        temporary.open("wb").close()
    except OSError as error:
        raise InputError(f"{path}: cannot be written: {error}", hint="Make the folder, or name another.") from error
    try:
        opened = _table(path, temporary, format, like) if is_table(path) else _lines(path, temporary, columns)
        with opened as put:
            yield Writer(put, format.render)
        with _told(path):
            temporary.replace(path)
    finally:
        with suppress(OSError):
            temporary.unlink(missing_ok=True)


@contextmanager
def _table(
    path: Path,
    temporary: Path,
    format: Format,  # noqa: A002
    like: Path | None,
) -> Iterator[Callable[[Mapping[str, Any]], None]]:
    schema = schema_of(like) if like is not None else None
    if isinstance(format, TwoLists) and schema is not None:
        schema = widened(schema, format.twins(schema.names))
    with _told(path):
        writer = TableWriter(path, temporary, schema)

    def put(row: Mapping[str, Any]) -> None:
        with _told(path):
            writer.put(row)

    try:
        yield put
        with _told(path):
            writer.finish()
    finally:
        with _told(path):
            writer.close()


@contextmanager
def _lines(path: Path, temporary: Path, columns: Sequence[str] | None) -> Iterator[Callable[[Mapping[str, Any]], None]]:
    rows: _CsvLines | _JsonList | _JsonLines
    rows = _CsvLines(path, columns) if is_csv(path) else _JsonList() if is_json(path) else _JsonLines()
    stream = open_output(temporary, like=path)

    def put(row: Mapping[str, Any]) -> None:
        line = rows(row)
        with _told(path):
            stream.write(line)

    try:
        yield put
        with _told(path):
            stream.write(rows.rest())
    finally:
        with _told(path):
            stream.close()


@contextmanager
def _told(path: Path) -> Iterator[None]:
    """Turn what the operating system says of a file that is written into one clear message."""
    try:
        yield
    except OSError as error:
        raise InputError(
            f"{path}: cannot be written: {error.strerror or error}",
            hint="Close the file if a program has it open, or make room on the disk; then the same command again.",
        ) from error


def _json(row: Mapping[str, Any]) -> bytes:
    try:
        return _TO_JSON(row).encode()
    except UnicodeEncodeError:  # half of a surrogate pair: only an escape can hold it
        return _TO_ASCII_JSON(row).encode()


class _JsonLines:
    """Turns rows into lines of JSON."""

    def __call__(self, row: Mapping[str, Any]) -> bytes:
        return _json(row) + b"\n"

    def rest(self) -> bytes:
        return b""


class _JsonList:
    """Turns rows into one JSON list, an element to a line."""

    def __init__(self) -> None:
        self._before = b"[\n"

    def __call__(self, row: Mapping[str, Any]) -> bytes:
        before, self._before = self._before, b",\n"
        return before + _json(row)

    def rest(self) -> bytes:
        return b"\n]\n" if self._before == b",\n" else b"[]\n"


class _CsvLines:
    """Turns rows into lines of CSV; the first brings the header with it."""

    def __init__(self, path: Path, columns: Sequence[str] | None) -> None:
        self._path = path
        self._columns = columns
        self._started = False
        # `writerow` returns what the file's `write` does. With both signs in the line end, every version of Python
        # puts cells that hold either between quotes; the file itself gets "\n".
        self._format = csv.writer(_Echo(), lineterminator="\r\n").writerow

    def __call__(self, row: Mapping[str, Any]) -> bytes:
        columns = self._columns = self._columns or tuple(row)
        extra = next((key for key in row if key not in columns), None)
        if extra is not None:
            raise InputError(
                f"{self._path}: a row has the field {extra!r}, which is no column of the file",
                hint="Write to a file that ends in .jsonl: its rows may differ.",
            )
        line = self._line([_cell(row.get(column)) for column in columns])
        if not self._started:
            self._started = True
            line = self._line(columns) + line
        return line

    def rest(self) -> bytes:
        """The header of a file that got no row, where its columns are known."""
        return self._line(self._columns) if self._columns and not self._started else b""

    def _line(self, cells: Sequence[str]) -> bytes:
        text: str = self._format(cells)
        try:
            return f"{text[:-2]}\n".encode()
        except UnicodeEncodeError as error:
            raise InputError(
                f"{self._path}: CSV cannot hold half of a surrogate pair ({text[error.start]!a})",
                hint="Write to a file that ends in .jsonl.",
            ) from error


class _Echo:
    def write(self, text: str) -> str:
        return text


def _cell(value: Any) -> str:
    """Text as it is, nothing for null, other values as JSON."""
    if isinstance(value, str):
        return value
    return "" if value is None else _TO_JSON(value)
