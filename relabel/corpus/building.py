"""Parts of sources → a corpus file: written beside, and renamed when it is whole."""

import os
import sqlite3
from collections.abc import Callable
from contextlib import closing
from dataclasses import replace
from pathlib import Path
from typing import Final, Literal

from filelock import FileLock, Timeout

from relabel.corpus.filling import Filling
from relabel.corpus.intake import Intake
from relabel.corpus.schema import APPLICATION, VERSION, Built, fact, is_ours, opened
from relabel.errors import InputError, RowError, RunError, SettingsError
from relabel.formats.corpora.base import Parts
from relabel.mining.searching import Progress
from relabel.records import digest

_CACHE: Final = -16_000
"""Kilobytes that SQLite may hold of each of the two files, whatever their size."""

_QUICK: Final = ("journal_mode = OFF", "synchronous = OFF", f"cache_size = {_CACHE}")

_WORDS: Final = {"documents": "passages", "queries": "queries", "judged": "judgments (which passages are positive)"}

_OPTIONS: Final = {"documents": "corpus", "queries": "queries", "judged": "qrels"}


def build(
    path: Path | str,
    parts: Parts,
    *,
    threshold: int = 1,
    merge: bool = True,
    on_error: Literal["stop", "skip"] = "stop",
    on_reject: Callable[[RowError, str], None] | None = None,
    progress: Progress | None = None,
) -> Built:
    """Make the corpus of these parts at `path`, or find that it is there: of the same sources and settings.

    Args:
        path: the file to make; an unfinished one is made again from the beginning.
        parts: what it is made of; documents, queries and judgments must be there.
        threshold: the lowest grade of a positive; from 1.
        merge: whether passages of equal text are one, with several ids, and so are queries, as mining needs it.
        on_error: "stop" raises at the first row that cannot be used; "skip" goes on without it.
        on_reject: called with the error and the text of every row that was left out.
        progress: told how many passages, queries, … were taken in; of how many is 0, since nobody knows.

    Returns:
        What it was made of, and what was left out.

    Raises:
        InputError: a part is missing, or nothing in one of them fits to the others; says which ids there are.
        RowError: a row that cannot be used, with its place.
        SettingsError: the threshold is below 1.
        RunError: `path` is another file, in use by another process, or cannot be written.
    """
    path = Path(path)
    missing = [name for name in ("documents", "queries", "judged") if getattr(parts, name) is None]
    if missing:
        lacking = InputError(
            f"there are no {', no '.join(_WORDS[name] for name in missing)}", hint="Name a source that has them"
        )
        lacking.offer(f", or a file: {', '.join(f'--{_OPTIONS[name]} FILE' for name in missing)}")
        raise lacking
    if threshold < 1:
        raise SettingsError(f"threshold is {threshold}; grades of 0 and less are not relevant", hint="Name 1 or more.")
    lock = _locked(path)
    try:
        stamp = _stamp(parts, threshold, on_error, merge=merge)
        there = _reusable(path, stamp) if parts.stamps else None
        intake = Intake(skip=on_error == "skip", on_reject=on_reject, progress=progress)
        return there or _make(
            path, stamp, lambda connection: Filling(parts, threshold, intake, connection, merge=merge).fill()
        )
    finally:
        lock.release()


def _locked(path: Path) -> FileLock:
    lock = FileLock(path.with_name(f"{path.name}.lock"))
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        lock.acquire(timeout=0)
    except Timeout:
        raise RunError(f"{path} is being made by another relabel process", hint="Wait for it.") from None
    except OSError as error:
        raise RunError(f"{path} cannot be made: {error}", hint="Name another file for the corpus.") from error
    return lock


def _stamp(parts: Parts, threshold: int, on_error: str, *, merge: bool) -> str:
    """Digest what the corpus depends on: settings, sources by what they are read for, their files."""
    sources = [
        f"{name} {source.where}"
        for name in ("documents", "queries", "judged", "found", "outside")
        for source in getattr(getattr(parts, name), "sources", ())
    ]
    return digest(str(threshold), on_error, str(merge), *sources, "stamps", *parts.stamps).hex()


def _reusable(path: Path, stamp: str) -> Built | None:
    if not is_ours(path):
        return None
    with closing(opened(path)) as connection:
        if fact(connection, "stamp") != stamp:
            return None
        return replace(Built.read(fact(connection, "built")), reused=True)


def _make(path: Path, stamp: str, fill: Callable[[sqlite3.Connection], Built]) -> Built:
    is_ours(path)  # what is no corpus is not overwritten
    partial, scratch = path.with_name(f"{path.name}.partial"), path.with_name(f"{path.name}.scratch")
    try:
        for each in (partial, scratch):
            each.unlink(missing_ok=True)
        # no journal: a file that is not whole is never opened again
        with closing(sqlite3.connect(partial, isolation_level=None)) as connection:
            connection.execute("ATTACH ? AS scratch", (str(scratch),))
            for statement in (
                f"PRAGMA application_id = {APPLICATION}",
                f"PRAGMA user_version = {VERSION}",
                *(f"PRAGMA {name}.{setting}" for name in ("main", "scratch") for setting in _QUICK),
            ):
                connection.execute(statement)
            built = fill(connection)
            facts = [("stamp", stamp), ("built", built.written())]
            connection.executemany("INSERT INTO facts VALUES (?, ?)", facts)
            connection.execute("COMMIT")
        with partial.open("rb+") as file:
            os.fsync(file.fileno())
        partial.replace(path)
    except (sqlite3.OperationalError, OSError) as error:
        hint = "Make room on the disk, or name another file for the corpus."
        raise RunError(f"{path} cannot be written: {error}", hint=hint) from error
    finally:
        for each in (partial, scratch):
            each.unlink(missing_ok=True)
    return built
