"""Training files out: under a temporary name until complete, and the same bytes for the same examples."""

import csv
import gzip
import json
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any, Final

from relabel.errors import InputError
from relabel.formats.base import Format
from relabel.formats.known import format_for
from relabel.formats.lines import is_csv, is_gzip
from relabel.records import Example

_TO_JSON: Final = json.JSONEncoder(ensure_ascii=False).encode
_TO_ASCII_JSON: Final = json.JSONEncoder().encode


class Writer:
    """Writes examples as rows of one format; made by `open_writer`."""

    def __init__(
        self,
        put: Callable[[bytes], object],
        render: Callable[[Example], list[dict[str, Any]]],
        encode: Callable[[Mapping[str, Any]], bytes],
    ) -> None:
        self._put, self._render, self._encode = put, render, encode

    def write(self, example: Example) -> int:
        """Write an example; return how many rows that made (none for triplets whose negative is gone)."""
        rows = self._render(example)
        for row in rows:
            self._put(self._encode(row))
        return len(rows)


@contextmanager
def open_writer(path: Path | str, format: Format, *, columns: Sequence[str] | None = None) -> Iterator[Writer]:  # noqa: A002
    """Open a training file for writing; it gets its name only when everything went well.

    Args:
        path: where to; `.csv` writes CSV, anything else JSON lines, `.gz` after it compresses either. The bytes
            depend on nothing but the examples: no time and no name stands in a compressed file.
        format: the shape of the rows.
        columns: columns of a CSV file and their order; by default the keys of the first row.

    Raises:
        InputError: the file cannot be written there, or cannot hold what it is given.
    """
    path = Path(path)
    format_for(path, format.name)
    temporary = path.with_name(path.name + ".tmp")
    if path.is_dir():
        raise InputError(f"{path}: is a folder", hint="Name a file to write to.")
    try:
        temporary.open("wb").close()
    except OSError as error:
        raise InputError(f"{path}: cannot be written: {error}", hint="Make the folder, or name another.") from error
    try:
        with _open(path, temporary) as put:
            lines = _CsvLines(path, columns)
            yield Writer(put, format.render, lines if is_csv(path) else _json_line)
            if is_csv(path):
                put(lines.rest())
        with _told(path):
            temporary.replace(path)
    finally:
        with suppress(OSError):
            temporary.unlink(missing_ok=True)


@contextmanager
def _open(path: Path, temporary: Path) -> Iterator[Callable[[bytes], None]]:
    plain = temporary.open("wb")
    stream = gzip.GzipFile("", "wb", compresslevel=6, fileobj=plain, mtime=0) if is_gzip(path) else plain

    def put(content: bytes) -> None:
        with _told(path):
            stream.write(content)

    try:
        yield put
    finally:
        with _told(path), plain:
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


def _json_line(row: Mapping[str, Any]) -> bytes:
    try:
        return f"{_TO_JSON(row)}\n".encode()
    except UnicodeEncodeError:  # half of a surrogate pair: only an escape can hold it
        return f"{_TO_ASCII_JSON(row)}\n".encode()


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
