"""Training files in: rows to examples, one at a time, each bad row with its line and field."""

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Literal, get_args

from relabel.errors import SKIP, InputError, RowError, SettingsError
from relabel.formats.base import Format
from relabel.formats.containers import read_records
from relabel.formats.endings import is_saved
from relabel.formats.known import format_for, recognise
from relabel.formats.labeled import LabeledPairs
from relabel.formats.lines import Record
from relabel.formats.streams import existing
from relabel.records import Example

OnError = Literal["stop", "skip"]


@dataclass(frozen=True, slots=True)
class Reject:
    """A row that was left out.

    Attributes:
        line: line of the file it begins at, from 1; where there are no lines, its row.
        position: its place among all rows of the file, from 0.
        field: the field at fault, "" when it is the whole row.
        reason: what is wrong with it.
        content: its raw text; beyond 10,000 characters the beginning, the size and the sha256 of the whole.
    """

    line: int
    position: int
    field: str
    reason: str
    content: str


def read_examples(
    path: Path | str,
    *,
    format: str = "auto",  # noqa: A002 - the word that users know it by
    on_error: OnError = "stop",
    source_field: str | None = None,
    on_reject: Callable[[Reject], None] | None = None,
) -> Iterator[Example]:
    """Read a training file row by row, in flat memory.

    Args:
        path: a `.jsonl`, `.csv` or `.json` (one list) file in UTF-8, or the same compressed with `.gz` or `.zst` after
            it; a `.parquet` file; or a folder to which `datasets` saved a data set.
        format: a name of `FORMATS`, or "auto" to recognise it from the first row that can be read.
        on_error: "stop" raises at the first bad row; "skip" leaves it out and goes on.
        source_field: field that names the data set a row came from.
        on_reject: called with every row that is left out.

    Returns:
        The examples, in the order of the file. Positions count bad rows too, but not blank lines; the rows of a query
        that are one labeled-pairs example are held together, and count once.

    Raises:
        InputError: at once, when there is no such file or format; while reading, when the file holds no row, has a
            shape that is not known or is damaged, which "skip" cannot help.
        RowError: a bad row, with file, line and field.
        SettingsError: `on_error` is neither word.
    """
    if on_error not in get_args(OnError):
        raise SettingsError(f"on_error is {on_error!r}", hint=f"Choose one of: {', '.join(get_args(OnError))}.")
    path = _readable(path)
    chosen = None if format == "auto" else format_for(path, format)
    return _Reader(path, chosen, source_field, on_error == "skip", on_reject).examples()


def detect(path: Path | str) -> Format:
    """Recognise a file's format from the first row that can be read.

    Raises:
        InputError: there is no such file or row, or its shape is not known.
    """
    path = _readable(path)
    problem: RowError | None = None
    for record in read_records(path):
        if not isinstance(record.parsed, RowError):
            return recognise(record.parsed, path)
        problem = problem or record.parsed
    raise problem or _no_rows(path)


@dataclass(slots=True)
class _Reader:
    """One pass through a file. `position` counts what was read so far: examples, and rows that were left out."""

    path: Path
    chosen: Format | None
    source_field: str | None
    skip: bool
    on_reject: Callable[[Reject], None] | None
    position: int = 0
    waiting: list[tuple[Record, Example]] = field(default_factory=list)  # rows of one query, to be joined

    def examples(self) -> Iterator[Example]:
        empty = True
        for record in read_records(self.path):
            empty = False
            example = self._parse(record)
            if example is None:
                continue
            if not isinstance(self.chosen, LabeledPairs):
                self.position += 1
                yield example
                continue
            if self.waiting and not self.chosen.belongs(self.waiting[-1][1], example):
                yield from self._joined(self.chosen)
            self.waiting.append((record, example))
        if empty:
            raise _no_rows(self.path)
        if self.waiting and isinstance(self.chosen, LabeledPairs):
            yield from self._joined(self.chosen)

    def _parse(self, record: Record) -> Example | None:
        try:
            if isinstance(record.parsed, RowError):
                raise record.parsed
            self.chosen = self.chosen or recognise(record.parsed, self.path)
            return self.chosen.parse(
                record.parsed,
                position=self.position,
                line=record.line,
                path=str(self.path),
                source_field=self.source_field,
            )
        except RowError as error:
            self._leave_out(error, [record])
            return None

    def _joined(self, form: LabeledPairs) -> Iterator[Example]:
        records, rows = zip(*self.waiting, strict=True)
        self.waiting.clear()
        try:
            example = form.join(rows, line=records[0].line, path=str(self.path))
        except RowError as error:
            self._leave_out(error, records)
        else:
            self.position += 1
            yield replace(example, position=self.position - 1)

    def _leave_out(self, error: RowError, records: Sequence[Record]) -> None:
        if not self.skip:
            error.offer(SKIP)
            raise error
        if self.on_reject:
            content = "\n".join(record.content for record in records)
            self.on_reject(Reject(records[0].line, self.position, error.field, error.problem, content))
        self.position += 1


def _no_rows(path: Path) -> InputError:
    return InputError(f"{path}: the file holds no rows", hint="Name a file with one training row to a line.")


def _readable(path: Path | str) -> Path:
    path = existing(path)
    if path.is_dir() and not is_saved(path):
        splits = sorted(each.name for each in path.iterdir() if is_saved(each))
        raise InputError(
            f"{path}: is a folder, and not a data set saved by `datasets`",
            hint=f"Name one of its splits: {path / splits[0]}" if splits else "Name one training file in it.",
        )
    return path
