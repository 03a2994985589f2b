"""How rows come in: counted, told of, the bad ones left out or the end of it."""

from collections.abc import Callable, Iterator
from typing import Final, TypeVar

from relabel.corpus.schema import Unknown
from relabel.errors import SKIP, RowError
from relabel.formats.corpora.base import Part
from relabel.mining.searching import Progress

T = TypeVar("T")

_TOLD: Final = 10_000
"""Rows between two words on how far it is."""

_FIRST: Final = 5
"""How many ids of each kind are listed that are not there."""

_CONTENT: Final = 10_000
"""Most characters of a text that is told as rejected."""


class Intake:
    """What all parts of a corpus come in through."""

    def __init__(
        self,
        *,
        skip: bool = False,
        on_reject: Callable[[RowError, str], None] | None = None,
        progress: Progress | None = None,
    ) -> None:
        self._skip, self._on_reject, self._progress = skip, on_reject, progress
        self._bad: set[tuple[str, int]] = set()
        self.clashes: set[tuple[int, int]] = set()
        self.unknown: dict[str, Unknown] = {}
        self.sources: list[str] = []

    @property
    def rejected(self) -> int:
        """How many rows were left out; one that several parts are read from counts once."""
        return len(self._bad)

    def rows(self, part: Part[T] | None, what: str) -> Iterator[tuple[int, int, T]]:
        """Read a part: number of the source, line or row in it, item."""
        if part is None:
            return
        count = 0
        for source in part.sources:
            if source.where not in self.sources:
                self.sources.append(source.where)
            number = self.sources.index(source.where)
            for line, item in source.read(self.bad):
                yield number, line, item
                count += 1
                if self._progress and count % _TOLD == 0:
                    self._progress(what, count, 0)
        if self._progress:
            self._progress(what, count, count)

    def bad(self, error: RowError, content: str) -> None:
        """Leave a row out, or raise."""
        if not self._skip:
            error.offer(SKIP)
            raise error
        place = error.path, error.line
        if place in self._bad:
            return
        self._bad.add(place)
        if self._on_reject:
            self._on_reject(error, content[:_CONTENT])

    def clash(self, source: int, line: int, name: str, content: str, other: tuple[int, int]) -> None:
        """Tell of an id that stands for two texts, and note the row: what it says by ids is of another text."""
        where = f"{self.sources[other[0]]}, {other[1]}"
        self.bad(
            RowError(
                f"{name!r} has another text here than where it stood first ({where})",
                path=self.sources[source], line=line, field="id",
                hint="Give each text an id of its own; of two, skipping keeps the first.",
            ),
            content,
        )  # fmt: skip
        self.clashes.add((source, line))

    def broken(self, source: int, line: int, content: str) -> None:
        """Tell of a text that is not Unicode."""
        self.bad(
            RowError(
                "holds half of a character (a lone surrogate)", path=self.sources[source], line=line,
                hint="Mend the text, or take the row out.",
            ),
            content.encode("utf-8", "backslashreplace").decode(),
        )  # fmt: skip

    def miss(self, kind: str, name: str) -> None:
        """Count a line that names what is not there."""
        before = self.unknown.get(kind, Unknown())
        listed = name in before.first or len(before.first) == _FIRST
        self.unknown[kind] = Unknown(before.lines + 1, before.first if listed else (*before.first, name))
