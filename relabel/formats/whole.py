"""Files and folders that get their name only when they are whole."""

import json
import shutil
import sqlite3
from collections.abc import Callable, Collection, Iterator, Mapping
from contextlib import contextmanager
from fnmatch import fnmatchcase
from pathlib import Path
from typing import Any, Final

from relabel.errors import InputError
from relabel.formats.endings import is_file_name

MARK: Final = ".relabel"
"""The empty file by which a folder is known that was written here: any other may be somebody's only copy."""

TO_JSON: Final = json.JSONEncoder(ensure_ascii=False).encode
_TO_ASCII_JSON: Final = json.JSONEncoder().encode


def json_bytes(value: Any) -> bytes:
    """Return a value as JSON in UTF-8."""
    try:
        return TO_JSON(value).encode()
    except UnicodeEncodeError:  # half of a surrogate pair: only an escape can hold it
        return _TO_ASCII_JSON(value).encode()


@contextmanager
def told(path: Path) -> Iterator[None]:
    """Turn what the operating system says of a file that is written into one clear message."""
    try:
        yield
    except (OSError, sqlite3.OperationalError) as error:
        raise InputError(
            f"{path}: cannot be written: {getattr(error, 'strerror', None) or error}",
            hint="Close the file if a program has it open, or make room on the disk; then the same command again.",
        ) from error


@contextmanager
def whole_folder(path: Path, names: Collection[str], leavings: Collection[str] = ()) -> Iterator[Path]:
    """Make a folder; it gets its name only when everything went well.

    Args:
        path: the folder. One that is there must be empty, or one that was written here: then it is replaced.
        names: what will stand in it.
        leavings: patterns of names that others leave in such a folder, and that go with it.

    Yields:
        The folder to write into.

    Raises:
        InputError: it cannot be made there, or holds anything else.
    """
    if not path.name:
        path = path.resolve()
    temporary, before = (path.with_name(f"{path.name}.{word}") for word in ("tmp", "before"))
    _check(path, names, leavings, complete=True)
    for each in (temporary, before):
        _check(each, names, (*leavings, "*.part"), complete=False)
    try:
        shutil.rmtree(temporary, ignore_errors=True)
        temporary.mkdir()
    except OSError as error:
        raise InputError(
            f"{path}: cannot be written: {error}", hint="Make the folder above it, or name another."
        ) from error
    try:
        yield temporary
        with told(path):
            (temporary / MARK).touch()
            shutil.rmtree(before, ignore_errors=True)
            if path.is_dir():
                path.replace(before)
            temporary.replace(path)
            shutil.rmtree(before, ignore_errors=True)
    finally:
        shutil.rmtree(temporary, ignore_errors=True)


def _check(path: Path, names: Collection[str], leavings: Collection[str], *, complete: bool) -> None:
    """Refuse to replace what was not written as one of these folders."""
    if complete and is_file_name(path) and not path.is_dir():
        raise InputError(f"{path}: a folder is to be written, and this is the name of a file", hint="Name a folder.")
    if not path.exists():
        return
    if not path.is_dir():
        raise InputError(f"{path}: is a file", hint="Name a folder to write to.")
    there = {each.name for each in path.iterdir()} - {MARK}
    other = [name for name in sorted(there - set(names)) if not any(fnmatchcase(name, each) for each in leavings)]
    if other:
        raise InputError(
            f"{path}: holds {other[0]!r}, and would be replaced whole", hint="Name a folder that is not there yet."
        )
    if complete and there and not (path / MARK).is_file():
        raise InputError(
            f"{path}: holds a data set that relabel did not write", hint="Name a folder that is not there yet."
        )
    missing = sorted(set(names) - there)
    if complete and there and missing:
        raise InputError(
            f"{path}: is not empty, and lacks {missing[0]!r} that such a folder holds",
            hint="Name a folder that is not there yet.",
        )


@contextmanager
def json_lines(path: Path, shown: Path) -> Iterator[Callable[[Mapping[str, Any]], None]]:
    """Open a file for rows of JSON; yields what takes a row. `shown` is what errors name."""
    with told(shown):
        file = path.open("wb")

    def put(row: Mapping[str, Any]) -> None:
        file.write(json_bytes(row) + b"\n")

    try:
        yield put
    finally:
        with told(shown):
            file.close()
