"""Training files in: rows to examples, one at a time, each bad row with its line and field."""

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Literal, get_args

from relabel.errors import InputError, RowError, SettingsError
from relabel.formats.base import Format
from relabel.formats.known import format_for, recognise
from relabel.formats.lines import read_records
from relabel.records import Example

OnError = Literal["stop", "skip"]


@dataclass(frozen=True, slots=True)
class Reject:
    """A row that was left out.

    Attributes:
        line: line of the file it begins at, from 1.
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
        path: a `.jsonl` or `.csv` file in UTF-8, or the same compressed with a `.gz` after it.
        format: a name of `FORMATS`, or "auto" to recognise it from the first row that can be read.
        on_error: "stop" raises at the first bad row; "skip" leaves it out and goes on.
        source_field: field that names the data set a row came from.
        on_reject: called with every row that is left out.

    Returns:
        The examples, in the order of the file. Positions count bad rows too, but not blank lines.

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
    return _examples(path, chosen, source_field, skip=on_error == "skip", on_reject=on_reject)


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


def _examples(
    path: Path,
    chosen: Format | None,
    source_field: str | None,
    *,
    skip: bool,
    on_reject: Callable[[Reject], None] | None,
) -> Iterator[Example]:
    name, position = str(path), -1
    for position, record in enumerate(read_records(path)):
        try:
            if isinstance(record.parsed, RowError):
                raise record.parsed
            chosen = chosen or recognise(record.parsed, path)
            example = chosen.parse(
                record.parsed, position=position, line=record.line, path=name, source_field=source_field
            )
        except RowError as error:
            if not skip:
                error.hint = f"{error.hint} Or leave bad rows out: --on-error skip".strip()
                raise
            if on_reject:
                on_reject(Reject(record.line, position, error.field, error.problem, record.content))
        else:
            yield example
    if position < 0:
        raise _no_rows(path)


def _no_rows(path: Path) -> InputError:
    return InputError(f"{path}: the file holds no rows", hint="Name a file with one training row to a line.")


def _readable(path: Path | str) -> Path:
    path = Path(path)
    if path.is_dir():
        raise InputError(f"{path}: is a folder, not a file", hint="Name one training file in it.")
    try:
        path.open("rb").close()
    except FileNotFoundError:
        raise InputError(f"{path}: there is no such file", hint="Check the name and the folder.") from None
    except (OSError, ValueError) as error:
        raise InputError(f"{path}: cannot be opened: {error}", hint="Check the name and its permissions.") from error
    return path
