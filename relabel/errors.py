"""What can go wrong, as a tree. Each error says what, where, and the next thing to type.

    RelabelError
    ├── InputError            the training file, a label file           exit 2
    │   └── RowError          one row of it: file, line, field
    ├── SettingsError         a config, an option                       exit 2
    │   └── TemplateError     a prompt template: file, line
    ├── RunError              a run directory: missing, of other input   exit 2
    ├── MissingPart           an optional package is not installed      exit 2
    ├── ServiceError          the model service: key, model, credit     exit 3
    ├── BudgetReached         --max-usd, --max-tokens                   exit 5
    └── Detached              batches are under way: to be come back to  exit 4

These are shown without a traceback. Anything else is a bug of ours and keeps its traceback.
"""

import shlex
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import ClassVar, Final


def typed(*words: object) -> str:
    """Return a command of relabel as a shell takes it, whatever its paths are called: the next thing to type."""
    return shlex.join(["relabel", *map(str, words)])


class RelabelError(Exception):
    """Base of all expected errors. `hint` is the next thing to type or to change."""

    exit_code: ClassVar[int] = 2

    def __init__(self, message: str, *, hint: str = "") -> None:
        super().__init__(message)
        self.message = message
        self.hint = hint
        self._offered = ""

    def offer(self, option: str) -> None:
        """Add an option to the hint that not every command has, see `no_options`."""
        self._offered = f"{self._offered}{option}"
        self.hint = f"{self.hint}{option}".strip()

    def withdraw(self) -> None:
        """Take the options that were offered out of the hint."""
        self.hint = self.hint.removesuffix(self._offered.strip()).strip()
        self._offered = ""

    def __str__(self) -> str:
        return f"{self.message}\n  {self.hint}" if self.hint else self.message


SKIP: Final = " Or leave bad rows out: --on-error skip"
"""What is offered beside the hint of a row that cannot be used."""


@contextmanager
def no_options() -> Iterator[None]:
    """Let errors offer no option, for commands that have none of those with which others read their input."""
    try:
        yield
    except RelabelError as error:
        error.withdraw()
        raise


class InputError(RelabelError):
    """A file that the user brought cannot be used."""


def unit_of(path: Path | str) -> str:
    """Return what the rows of a file are counted by: lines, where it has them."""
    if str(path).startswith(("hf:", "irds:")):
        return "row"
    path = Path(path)
    table = path.name.lower().endswith((".parquet", ".json", ".json.gz", ".json.zst")) or path.is_dir()
    return "row" if table else "line"


class RowError(InputError):
    """One row cannot be used: says file, line (from 1; the row where there are no lines) and field."""

    def __init__(self, problem: str, *, path: Path | str = "", line: int = 0, field: str = "", hint: str = "") -> None:
        self.problem, self.path, self.line, self.field = problem, str(path), line, field
        where = f"{path}, {unit_of(path)} {line}" if path else f"line {line}"
        super().__init__(f"{where}: {f'field {field!r}: ' if field else ''}{problem}", hint=hint)


class SettingsError(RelabelError):
    """A configuration or an option is wrong."""


class TemplateError(SettingsError):
    """A prompt template cannot be used: says its file and line."""


class RunError(RelabelError):
    """A run directory cannot be used as asked."""


class MissingPart(RelabelError):  # noqa: N818 - reads as what it is in a message and a tree
    """An optional package is not installed."""

    def __init__(self, package: str, extra: str) -> None:
        super().__init__(
            f"the package {package!r} is not installed, and this needs it",
            hint=f"type: pip install 'relabel[{extra}]'",
        )


class ServiceError(RelabelError):
    """The model service cannot go on answering: wrong key, unknown model, no credit, unreachable."""

    exit_code = 3


class BudgetReached(RelabelError):  # noqa: N818 - reads as what it is in a message and a tree
    """The next question could cost more than is left of a limit; whoever sets a higher one goes on where this ended.

    `usd` and `tokens` are what the whole run will take, by what it took so far; 0 where nothing can be said.
    """

    exit_code = 5

    def __init__(self, message: str, *, hint: str = "", usd: float = 0.0, tokens: int = 0) -> None:
        super().__init__(message, hint=hint)
        self.usd, self.tokens = usd, tokens


class Detached(RelabelError):  # noqa: N818 - nothing went wrong
    """The run was left while batches are under way; the same command comes back to them."""

    exit_code = 4
