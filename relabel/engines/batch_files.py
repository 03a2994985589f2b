"""Files of requests and of answers, line by line: written while they grow, read in lines of a bounded length."""

import os
import shlex
from collections.abc import Iterator
from pathlib import Path
from typing import IO, Final

from relabel.errors import RunError

LONGEST_LINE: Final = 32_000_000
"""Bytes: what is longer is no answer. It is passed over, without ever being in memory as a whole."""

GIVEN_UP: Final = ".given-up"
"""What follows a part's number in the name of an empty file by which somebody gives it up."""

_DRAFT: Final = "draft.tmp"


class Draft:
    """A file of requests while it is written; nothing of it counts before `Ledger.close_draft`."""

    def __init__(self, folder: Path, max_requests: int, max_bytes: int, max_tokens: int | None) -> None:
        self._folder = folder
        self._limits = max_requests, max_bytes, max_tokens
        self._file: IO[bytes] | None = None
        self.rows: list[tuple[str, int, int, int, str]] = []
        self.bytes = self.tokens = 0

    def __len__(self) -> int:
        return len(self.rows)

    def takes(self, size: int, tokens: int) -> bool:
        """Whether a line of so many bytes, with a prompt of so many tokens, still fits; the first one always does."""
        requests, most_bytes, most_tokens = self._limits
        return not self.rows or (
            len(self.rows) < requests
            and self.bytes + size <= most_bytes
            and (most_tokens is None or self.tokens + tokens <= most_tokens)
        )

    @property
    def full(self) -> bool:
        """Whether no further request fits, however short."""
        return len(self.rows) >= self._limits[0]

    def add(self, address: str, line: bytes, tokens: int, attempts: int, about: str) -> None:
        """Write a request's line, which ends in a newline; it is the so-many-th attempt at it, from 1.

        `about` is what the line does not say of it: see `Entry`.
        """
        if self._file is None:
            self._file = (self._folder / _DRAFT).open("wb")
        self._file.write(line)
        self.rows.append((address, self.bytes, len(line), attempts, about))
        self.bytes += len(line)
        self.tokens += tokens

    def finish(self) -> Path:
        """Bring the file to the disk; return where it lies."""
        if self._file is not None:
            self._file.flush()
            os.fsync(self._file.fileno())
            self.discard()
        return self._folder / _DRAFT

    def discard(self) -> None:
        """Let go of the file."""
        if self._file is not None:
            self._file.close()
            self._file = None


def lines_of(path: Path) -> Iterator[tuple[int, bytes]]:
    """Yield the lines of a file, each with the byte at which it begins; of one that is too long, a part."""
    start = 0
    with path.open("rb") as file:
        while line := file.readline(LONGEST_LINE):
            yield start, line
            start += len(line)
            rest = line
            while len(rest) == LONGEST_LINE and not rest.endswith(b"\n"):
                rest = file.readline(LONGEST_LINE)
                start += len(rest)


def line_at(path: Path, start: int, size: int) -> bytes:
    """Return the line of a file that begins at a byte and has so many.

    Raises:
        RunError: it is no longer there.
    """
    try:
        with path.open("rb") as file:
            file.seek(start)
            line = file.read(size)
    except OSError as error:
        raise missing(path, f"cannot be read: {error.strerror or error}") from error
    if len(line) < size:
        raise missing(path, "is shorter than it was")
    return line


def missing(path: Path, problem: str) -> RunError:
    """Return what to say of a file that no longer holds what the ledger knows to stand in it."""
    given_up = give_up(path.with_name(path.name.partition(".")[0] + GIVEN_UP))
    return RunError(
        f"{path} {problem}",
        hint=f"bring it back from a copy; or, to have its requests asked and paid again, type: {given_up}",
    )


def give_up(*marks: Path) -> str:
    """Return the command that gives parts up, by the files that say so."""
    return shlex.join(["touch", *map(str, marks)])
