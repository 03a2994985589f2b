"""Typed columns in and out: Parquet files, and folders to which `datasets` saved. In batches: never held whole."""

import json
import math
import tempfile
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

from relabel.errors import InputError, RowError
from relabel.formats.endings import is_saved
from relabel.formats.lines import MAX_CONTENT, Record

if TYPE_CHECKING:
    import pyarrow as pa

_READ: Final = 256
"""Rows that are turned into objects at once."""

_GROUP: Final = 1000
"""Rows of one row group: what is held while writing."""

_AGAIN: Final = "Copy or download it again."
_OTHER: Final = "Write to a file that ends in .jsonl: its rows may differ."


def table_records(path: Path) -> Iterator[Record]:
    """Yield the rows of a Parquet file or a saved data set, numbered from 1.

    Raises:
        InputError: it is damaged, or has a column of a type that JSON does not know.
    """
    number = 0
    with _damage(path):
        batches = _batches(path)
        while (batch := next(batches, None)) is not None:
            yield from _records(batch, path, number)
            number += batch.num_rows


def _records(batch: "pa.RecordBatch", path: Path, number: int) -> Iterator[Record]:
    """Yield the rows of a batch, of which `number` rows went before."""
    try:
        yield from [Record(place, None, row) for place, row in enumerate(batch.to_pylist(), number + 1)]
    except UnicodeDecodeError:  # Arrow does not look whether what is called text is; now each row by itself
        for place in range(batch.num_rows):
            yield _record(batch.slice(place, 1), path, number + place + 1)


def _record(one: "pa.RecordBatch", path: Path, number: int) -> Record:
    row, bad = {}, ""
    for name, column in zip(one.schema.names, one.columns, strict=True):
        try:
            row[name] = column[0].as_py()
        except UnicodeDecodeError:
            row[name], bad = "[not UTF-8]", bad or name
    if not bad:
        return Record(number, None, row)
    problem = RowError("is not UTF-8", path=path, line=number, field=bad, hint="Write the column anew as UTF-8.")
    return Record(number, json.dumps(row)[:MAX_CONTENT], problem)


def schema_of(path: Path) -> "pa.Schema":
    """Return the schema of a Parquet file or a saved data set."""
    import pyarrow.parquet as pq

    with _damage(path):
        if not is_saved(path):
            with pq.ParquetFile(path) as file:
                return file.schema_arrow
        with _saved(_parts(path)[0]) as reader:
            return reader.schema


@contextmanager
def _damage(path: Path) -> Iterator[None]:
    import pyarrow as pa

    try:
        yield
    except (pa.ArrowException, OSError, ValueError) as error:  # the last: names of columns that are not UTF-8
        what = "the data set" if is_saved(path) else "the Parquet file"
        first = str(error).partition("\n")[0]
        raise InputError(f"{path}: {what} is damaged or cut off: {first}", hint=_AGAIN) from error


def _batches(path: Path) -> "Iterator[pa.RecordBatch]":
    import pyarrow.parquet as pq

    _check_types(schema_of(path), path)
    if not is_saved(path):
        # with a buffer, columns are read piece by piece, however large a row group is
        with pq.ParquetFile(path, buffer_size=1024 * 1024) as file:
            yield from file.iter_batches(batch_size=_READ)
        return
    for part in _parts(path):
        with _saved(part) as reader:
            for batch in reader:
                batch.validate(full=True)  # Arrow reads what lies outside of a damaged file, and takes the process down
                if batch.num_rows < 0:
                    raise ValueError("a batch of fewer than no rows")
                yield from (batch.slice(start, _READ) for start in range(0, batch.num_rows, _READ))


@contextmanager
def _saved(part: Path) -> "Iterator[pa.RecordBatchReader]":
    import pyarrow as pa

    with pa.memory_map(str(part)) as source, pa.ipc.open_stream(source) as reader:
        yield reader


def _parts(path: Path) -> list[Path]:
    """Return the files of a saved data set, in order."""
    try:
        told = json.loads((path / "state.json").read_text("utf-8"))
        names = [each["filename"] for each in told["_data_files"]]
        if any(Path(name).name != name for name in names):
            raise ValueError("names files in other folders")  # noqa: TRY301 - one more thing that it does not write
        parts = [path / name for name in names]
    except (ValueError, KeyError, TypeError, RecursionError) as error:
        raise InputError(
            f"{path}: state.json is not what `datasets` writes", hint="Save the data set again."
        ) from error
    if not parts:
        raise InputError(f"{path}: the data set has no files", hint="Save it again.")
    return parts


def _check_types(schema: "pa.Schema", path: Path) -> None:
    twice = next((name for name in schema.names if schema.names.count(name) > 1), None)
    if twice is not None:
        raise InputError(f"{path}: has two columns called {twice!r}", hint="Give every column its own name.")
    for column in schema:
        if (odd := _odd(column.type)) is not None:
            raise InputError(
                f"{path}: column {column.name!r} holds {odd}, which relabel cannot carry from row to row",
                hint="Take the column out, or turn it into text.",
            )


def _odd(kind: "pa.DataType") -> "pa.DataType | None":
    """Return the part of a type that JSON has no word for, None if there is none."""
    from pyarrow import types

    if types.is_dictionary(kind):
        return _odd(kind.value_type)
    if types.is_struct(kind):
        return next((odd for field in kind if (odd := _odd(field.type)) is not None), None)
    if types.is_list(kind) or types.is_large_list(kind) or types.is_fixed_size_list(kind):
        return _odd(kind.value_type)
    known = (
        types.is_null, types.is_boolean, types.is_integer, types.is_floating,
        types.is_string, types.is_large_string, types.is_string_view,
    )  # fmt: skip
    return None if any(knows(kind) for knows in known) else kind


class TableWriter:
    """Writes rows to a Parquet file: those of a schema at once, others after all are seen and their types known.

    With `stream` it is the Arrow stream of which saved data sets are made.
    """

    def __init__(self, path: Path, temporary: Path, schema: "pa.Schema | None", *, stream: bool = False) -> None:
        self._path, self._temporary, self._stream = path, temporary, stream
        self._rows: list[Mapping[str, Any]] = []
        self._types = schema
        self._file: Any = self._open(schema) if schema is not None else None
        self._spool = tempfile.TemporaryFile(dir=path.parent) if schema is None else None  # noqa: SIM115

    def put(self, row: Mapping[str, Any]) -> None:
        """Take one row."""
        self._rows.append(row)
        if len(self._rows) == _GROUP:
            self._flush()

    def finish(self) -> None:
        """Write all that is left."""
        import pyarrow as pa

        self._flush()
        if self._spool is not None:
            schema = self._types if self._types is not None else pa.schema([])
            self._file = self._open(schema)
            self._spool.seek(0)
            for line in self._spool:
                self._write(json.loads(line), schema)
        self.close()

    def close(self) -> None:
        """Let go of the files."""
        if self._spool is not None:
            self._spool.close()
        if self._file is not None:
            self._file.close()

    def _open(self, schema: "pa.Schema") -> Any:
        import pyarrow as pa
        import pyarrow.parquet as pq

        try:
            return (
                pa.ipc.new_stream(self._temporary, schema)
                if self._stream
                else pq.ParquetWriter(self._temporary, schema)
            )
        except pa.ArrowException as error:  # an object without fields
            raise InputError(f"{self._path}: Parquet cannot hold these rows: {error}", hint=_OTHER) from error

    def _flush(self) -> None:
        rows, self._rows = self._rows, []
        if not rows:
            return
        if self._spool is None:
            self._write(rows, self._types)
            return
        self._types = _unified(self._types, rows, self._path)
        self._spool.write(json.dumps(rows).encode() + b"\n")

    def _write(self, rows: Sequence[Mapping[str, Any]], schema: "pa.Schema") -> None:
        import pyarrow as pa

        for row in rows:
            extra = next((key for key in row if key not in schema.names), None)
            if extra is not None:
                raise InputError(
                    f"{self._path}: a row has the field {extra!r}, which is no column of the file", hint=_OTHER
                )
        columns = []
        for column in schema:
            values = [row.get(column.name) for row in rows]
            try:
                array = pa.array(values, column.type)
            except (pa.ArrowException, TypeError, ValueError, OverflowError) as error:
                raise _unfit(self._path, column.name, str(error)) from error
            if not all(_same(value, back) for value, back in zip(values, array.to_pylist(), strict=True)):
                raise _unfit(self._path, column.name, f"{column.type} would change them")
            columns.append(array)
        self._file.write_batch(pa.RecordBatch.from_arrays(columns, schema=schema))


def widened(schema: "pa.Schema", twins: Sequence[tuple[str, str]]) -> "pa.Schema":
    """Return a schema in which what stands in the second column of a pair may stand in the first too.

    One that had to be changed loses the note in which `datasets` keeps its own word for the types.
    """
    import pyarrow as pa

    before = schema
    for into, out_of in twins:
        if into not in schema.names or out_of not in schema.names:
            continue
        at, kinds = schema.get_field_index(into), (schema.field(into).type, schema.field(out_of).type)
        if not all(hasattr(kind, "value_type") for kind in kinds):
            continue
        if kinds[0].value_type != kinds[1].value_type:
            try:
                both = pa.unify_schemas(
                    [pa.schema([(into, each)]) for each in kinds], promote_options="permissive"
                )  # fmt: skip
            except pa.ArrowException:  # text beside numbers: told when a promotion really brings them together
                continue
            schema = schema.set(at, schema.field(into).with_type(both.field(into).type))
    if schema == before:
        return schema
    notes = {key: note for key, note in (schema.metadata or {}).items() if key != b"huggingface"}
    return schema.with_metadata(notes or None)


def noted(schema: "pa.Schema", notes: Mapping[str, Mapping[str, Any]], within: str | None) -> "pa.Schema":
    """Return a schema in which objects may have further fields, null where they lack them.

    Args:
        schema: of the rows.
        notes: an object of the field's type, by its name.
        within: the objects are those in the lists of all columns with this in their name; None = the rows themselves.
    """
    import pyarrow as pa
    from pyarrow import types

    more = [pa.field(name, pa.array([dict(value)]).type) for name, value in notes.items()]
    fields = []
    for column in schema:
        kind = column.type
        lists = types.is_list(kind) or types.is_large_list(kind)
        if within is not None and within in column.name and lists and types.is_struct(kind.value_type):
            known = list(kind.value_type)
            inner = pa.struct([*known, *[each for each in more if each.name not in {one.name for one in known}]])
            column = column.with_type(pa.large_list(inner) if types.is_large_list(kind) else pa.list_(inner))  # noqa: PLW2901
        fields.append(column)
    fields += [each for each in more if within is None and each.name not in schema.names]
    kept = {key: note for key, note in (schema.metadata or {}).items() if key != b"huggingface"}
    return pa.schema(fields, metadata=kept or None)


def _unified(known: "pa.Schema | None", rows: Sequence[Mapping[str, Any]], path: Path) -> "pa.Schema":
    """Return the schema that holds the rows and what was known before, columns in the order in which they came."""
    import pyarrow as pa

    fields = []
    for name in dict.fromkeys(key for row in rows for key in row):
        try:
            fields.append((name, pa.array([row.get(name) for row in rows]).type))
        except (pa.ArrowException, TypeError, ValueError, OverflowError) as error:
            raise _unfit(path, name, str(error)) from error
    schema = pa.schema(fields)
    try:
        return schema if known is None else pa.unify_schemas([known, schema], promote_options="permissive")
    except pa.ArrowException as error:
        raise InputError(f"{path}: Parquet needs one type to a column: {error}", hint=_OTHER) from error


def _unfit(path: Path, column: str, why: str) -> InputError:
    return InputError(f"{path}: the values of {column!r} do not fit into one Parquet column: {why}", hint=_OTHER)


def _same(value: Any, back: Any) -> bool:
    """Whether a column gave a value back: what it lacks comes back as null."""
    if isinstance(value, Mapping):
        if not isinstance(back, dict) or any(key not in back for key in value):
            return False
        return all(_same(value.get(key), each) for key, each in back.items())
    if isinstance(value, list | tuple):
        return isinstance(back, list) and len(value) == len(back) and all(map(_same, value, back))
    if isinstance(value, float) and math.isnan(value):
        return isinstance(back, float) and math.isnan(back)
    return bool(value == back) and isinstance(value, bool) == isinstance(back, bool)
