"""The folder of a synthesis: whose it is, what it was made of, and what an execution took."""

import json
import time
from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any, Final, Protocol

from filelock import FileLock, Timeout

from relabel import config
from relabel.errors import InputError, RunError
from relabel.forecast import StageForecast
from relabel.money import Amount
from relabel.records import Example
from relabel.rundir import sha256_of, versions
from relabel.sources import Source
from relabel.synthesis.settings import Settings
from relabel.synthesis.writing import WRITING
from relabel.synthesis.written import Written

MANIFEST: Final = "manifest.json"
CACHE: Final = "cache"
LOCK: Final = "synthesize.lock"
LEDGER: Final = "synthetic.jsonl"
TRAINING: Final = "training"
PREFERENCES: Final = "preferences.jsonl"
CANDIDATES: Final = "candidates.jsonl"
REJECTS: Final = "rejects.jsonl"
STATISTICS: Final = "statistics.json"
EXECUTION: Final = "run.json"
JUDGING: Final = "judging"
NO_RECIPE: Final = "(none)"
"""What stands for the recipe of a slot that has none, in figures by recipe."""


class Writer(Protocol):
    """Who writes passages."""

    def ask(self, examples: Iterable[Example]) -> None:
        """Have everything written that these rows want; what was answered once is not asked again.

        Raises:
            BudgetReached: the next question would exceed a limit; what was answered is kept.
            ServiceError: the model service cannot go on; likewise.
        """
        ...

    def written(self, example: Example) -> Iterable[Written]:
        """Return what was written for a row, one for each slot it has; asks nobody, and is the same every time."""
        ...

    def spent(self) -> Amount:
        """Return what all executions together have taken so far, at most."""
        ...

    def forecast(self, examples: Iterable[Example]) -> StageForecast | None:
        """Estimate what would be asked for these rows; None where nobody is asked."""
        ...


@contextmanager
def alone(folder: Path) -> Iterator[None]:
    """Make the folder, and keep other processes from working in it.

    Raises:
        RunError: it holds something else, is in use, or cannot be made.
    """
    hint = "name another folder: -o"
    if folder.exists() and not folder.is_dir():
        raise RunError(f"{folder} is a file", hint=hint)
    held = {each.name for each in folder.iterdir()} if folder.is_dir() else set()
    if held and not holds_synthesis(folder):
        raise RunError(f"{folder} holds other files ({min(held)}), and no synthesis", hint=hint)
    lock = FileLock(folder / LOCK)
    try:
        folder.mkdir(parents=True, exist_ok=True)
        lock.acquire(timeout=0)
    except Timeout:
        raise RunError(f"another relabel process works in {folder}", hint="wait for it, or use -o") from None
    except OSError as error:
        raise RunError(f"{folder} cannot be used: {error.strerror or error}", hint=hint) from error
    try:
        yield
    finally:
        lock.release()


def made_of(folder: Path) -> str:
    """Return the path of the input of which a finished synthesis was made; "" where there is none."""
    try:
        return str(json.loads((folder / MANIFEST).read_text("utf-8"))["input"]["path"])
    except (OSError, ValueError, KeyError, TypeError, RecursionError):  # none, or nothing that can be read
        return ""


def holds_synthesis(folder: Path) -> bool:
    """Whether a folder is that of a synthesis, finished or not."""
    return (folder / LOCK).is_file() or (folder / LEDGER).is_file()


def check_same(source: Source, settings: Settings, folder: Path) -> None:
    """Refuse a folder that holds the synthesis of another file, or where results would take the place of what is read.

    Raises:
        RunError: the former.
        InputError: the latter.
    """
    for path in (source.path, *([Path(settings.written)] if settings.written is not None else [])):
        if _lies_among_results(path.resolve(), folder.resolve()):
            raise InputError(f"{path} would be overwritten", hint="name another folder: -o")
    told = made_of(folder)
    if told not in ("", str(source.path.resolve())):
        raise RunError(f"{folder} holds what was made of {told}", hint="name another folder: -o")


def _lies_among_results(path: Path, folder: Path) -> bool:
    if not path.is_relative_to(folder):
        return False
    name, *below = path.relative_to(folder).parts or ("",)
    if below:
        return name in (CACHE, WRITING, JUDGING)
    files = (LEDGER, PREFERENCES, CANDIDATES, REJECTS, STATISTICS, EXECUTION, MANIFEST, LOCK)
    return name in files or name.partition(".")[0] == TRAINING


def check_unchanged(source: Source, sha256: str) -> None:
    """Refuse results of an input that was another as it was read for the last time than for the first."""
    if sha256_of(source.path) != sha256:
        raise InputError(
            f"{source.path} has changed while it was read: what was written is of neither state",
            hint="let the file be, and type the same command again: what is answered is not asked again",
        )


def manifest_of(
    source: Source, settings: Settings, judge: config.Settings, sha256: str, files: Mapping[str, Path]
) -> dict[str, Any]:
    """Say what was made of what, and how."""
    written = {"sha256_of_written": sha256_of(Path(settings.written))} if settings.written is not None else {}
    return {
        "input": {
            "path": str(source.path.resolve()), "sha256": sha256, "format": source.format.name,
            "on_error": source.on_error,
        },
        "settings": settings.model_dump(mode="json", by_alias=True),
        **written,
        "judge": judge.model_dump(mode="json"),
        "files": {path.name: sha256_of(path) for path in files.values()},
        "versions": versions(),
    }  # fmt: skip


def execution_of(
    statistics: Mapping[str, Any],
    written: Mapping[str, Any],
    judged: Mapping[str, Any],
    started: float,
    seconds: float,
) -> dict[str, Any]:
    """Say what it took: writing and judging, in all executions; dollars are None where a price is unknown."""
    accepted = statistics["slots"]["accepted"]
    both = written["usd"], judged.get("usd", 0.0)
    usd = None if None in both else sum(both)
    return {
        "started": time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime(started)),
        "seconds": round(seconds, 3),
        "writing": dict(written),
        "judging": dict(judged),
        "usd": usd,
        "usd_per_accepted": usd / accepted if usd is not None and accepted else None,
        "versions": versions(),
    }
