"""Training files out: under a temporary name until complete, and the same bytes for the same examples."""

import csv
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import AbstractContextManager, contextmanager, suppress
from pathlib import Path
from typing import Any

from relabel.errors import InputError
from relabel.formats.base import Format, Writer
from relabel.formats.endings import is_csv, is_json, is_table
from relabel.formats.exporting import Export
from relabel.formats.hub import Remote, card, repo_of
from relabel.formats.known import format_for
from relabel.formats.labeled import LabeledPairs
from relabel.formats.saved import saved_folder, wants_folder
from relabel.formats.streams import open_output
from relabel.formats.tables import TableWriter, noted, schema_of, widened
from relabel.formats.twolists import TwoLists
from relabel.formats.whole import TO_JSON, json_bytes, told
from relabel.records import NOTHING, Example

_Notes = Mapping[str, Mapping[str, Any]]


class RowWriter:
    """Writes examples as rows of one format; made by `open_writer`."""

    renamed = 0

    def __init__(
        self, put: Callable[[Mapping[str, Any]], None], render: Callable[[Example], list[dict[str, Any]]]
    ) -> None:
        self._put, self._render = put, render
        self.examples = 0

    def write(self, example: Example) -> int:
        """Write an example; return how many rows that made (none for triplets whose negative is gone)."""
        rows = self._render(example)
        for row in rows:
            self._put(row)
        self.examples += bool(rows)
        return len(rows)


@contextmanager
def open_writer(
    path: Path | str,
    format: Format | Export,  # noqa: A002
    *,
    columns: Sequence[str] | None = None,
    like: Path | None = None,
    notes: Mapping[str, Mapping[str, Any]] = NOTHING,
    public: bool = False,
    made: str = "",
) -> Iterator[Writer]:
    """Open a training file for writing; it gets its name only when everything went well.

    Args:
        path: where to; `.csv` writes CSV, `.parquet` Parquet, `.json` one list, anything else JSON lines; `.gz` or
            `.zst` after it compresses all but Parquet. The bytes depend on nothing but the examples: no time and no
            name stands in a compressed file. A name that ends in a slash, or an empty folder, gets a data set for
            `datasets.load_from_disk`, and `hf://datasets/ORG/NAME` one on the hub. An export says itself what it is.
        format: the shape of the rows, or an export.
        columns: columns of a CSV file and their order; by default the keys of the first row.
        like: a Parquet file or saved data set whose schema typed columns keep; by default one that holds the rows.
        notes: objects that some negatives have and those of `like` may lack, by the name of their field; their types
            are those of the values given here.
        public: whether everybody may see a data set that is made on the hub.
        made: how the data was made, as a sentence for the card of a data set on the hub.

    Raises:
        InputError: the file cannot be written there, or cannot hold what it is given; nobody is logged in at the hub.
        ServiceError: the hub cannot be reached, or fails.
    """
    repo = repo_of(path)
    if isinstance(format, Export):
        if repo is not None:
            raise InputError(
                f"{path}: {format.name} is not written to the hub",
                hint=f"Write a folder, then type: hf upload {repo} FOLDER --repo-type dataset",
            )
        opened: AbstractContextManager[Writer] = format.open(Path(path))
    elif repo is not None:
        opened = _published(repo, format, like, made, public=public)
    elif wants_folder(path):
        opened = _saved(Path(path), format, like, notes)
    else:
        opened = _file(Path(path), format, columns, like, notes)
    with opened as writer:
        yield writer


@contextmanager
def _published(repo: str, format: Format, like: Path | None, made: str, *, public: bool) -> Iterator[RowWriter]:  # noqa: A002
    remote = Remote(repo, public=public)
    with remote.table() as table:
        with _file(table, format, None, like) as writer:
            yield writer
        told_of = card(repo, table, format, writer.examples, made)
    remote.publish(table, told_of)


@contextmanager
def _saved(path: Path, format: Format, like: Path | None, notes: _Notes) -> Iterator[RowWriter]:  # noqa: A002
    with saved_folder(path) as data, _table(path, data, format, like, notes, stream=True) as put:
        yield RowWriter(put, format.render)


@contextmanager
def _file(
    path: Path,
    format: Format,  # noqa: A002
    columns: Sequence[str] | None,
    like: Path | None,
    notes: _Notes = NOTHING,
) -> Iterator[RowWriter]:
    format_for(path, format.name)
    if path.name.lower().endswith((".parquet.gz", ".parquet.zst")):
        raise InputError(f"{path}: Parquet is compressed inside", hint="Name a file that ends in .parquet.")
    temporary = path.with_name(path.name + ".tmp")
    if path.is_dir():
        raise InputError(f"{path}: is a folder", hint="Name a file to write to, or an empty folder.")
    try:
        temporary.open("wb").close()
    except OSError as error:
        raise InputError(f"{path}: cannot be written: {error}", hint="Make the folder, or name another.") from error
    try:
        opened = _table(path, temporary, format, like, notes) if is_table(path) else _lines(path, temporary, columns)
        with opened as put:
            yield RowWriter(put, format.render)
        with told(path):
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
    notes: _Notes,
    *,
    stream: bool = False,
) -> Iterator[Callable[[Mapping[str, Any]], None]]:
    schema = schema_of(like) if like is not None else None
    if isinstance(format, TwoLists) and schema is not None:
        schema = widened(schema, format.twins(schema.names))
    if notes and schema is not None:
        schema = noted(schema, notes, None if isinstance(format, LabeledPairs) else "negative")
    with told(path):
        writer = TableWriter(path, temporary, schema, stream=stream)

    def put(row: Mapping[str, Any]) -> None:
        with told(path):
            writer.put(row)

    try:
        yield put
        with told(path):
            writer.finish()
    finally:
        with told(path):
            writer.close()


@contextmanager
def _lines(path: Path, temporary: Path, columns: Sequence[str] | None) -> Iterator[Callable[[Mapping[str, Any]], None]]:
    rows: _CsvLines | _JsonList | _JsonLines
    rows = _CsvLines(path, columns) if is_csv(path) else _JsonList() if is_json(path) else _JsonLines()
    stream = open_output(temporary, like=path)

    def put(row: Mapping[str, Any]) -> None:
        line = rows(row)
        with told(path):
            stream.write(line)

    try:
        yield put
        with told(path):
            stream.write(rows.rest())
    finally:
        with told(path):
            stream.close()


class _JsonLines:
    """Turns rows into lines of JSON."""

    def __call__(self, row: Mapping[str, Any]) -> bytes:
        return json_bytes(row) + b"\n"

    def rest(self) -> bytes:
        return b""


class _JsonList:
    """Turns rows into one JSON list, an element to a line."""

    def __init__(self) -> None:
        self._before = b"[\n"

    def __call__(self, row: Mapping[str, Any]) -> bytes:
        before, self._before = self._before, b",\n"
        return before + json_bytes(row)

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
    return "" if value is None else TO_JSON(value)
