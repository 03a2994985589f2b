"""What a training-file format is, and the checks that all formats share.

The checks raise a `RowError` that knows its field but not its place; `placed` adds file and line, once per row.
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final, Protocol

from relabel.errors import RowError
from relabel.records import Example, Passage, digest

IDS: Final = ("id", "ids")
"""What follows the prefix in the name of a parallel list of passage ids."""

SOURCE_FIELDS: Final = ("subset", "source", "dataset")
"""Where a row usually says which data set it came from; the first that holds text counts."""


Sides = tuple[str, Sequence[Passage], Sequence[Passage]]
"""What a format finds in a row: query, positives, negatives."""


@dataclass(frozen=True, slots=True)
class Effects:
    """What editing does to a row of one format, one sentence each: README and `--help` print these."""

    promote: str
    drop: str
    emptied: str


class Format(Protocol):
    """One shape of training row: rows in, examples out, and back without losing anything."""

    @property
    def name(self) -> str:
        """What `--format` calls it, and what `Example.layout` says."""
        ...

    @property
    def flat(self) -> bool:
        """Whether its rows hold no lists, so that CSV can hold them."""
        ...

    @property
    def shape(self) -> str:
        """The fields by which a row of it is known, for people."""
        ...

    @property
    def holds_promotions(self) -> bool:
        """Whether a row can take a promoted passage among its positives."""
        ...

    @property
    def holds_emptied(self) -> bool:
        """Whether a row without negatives can be written."""
        ...

    @property
    def holds_more(self) -> bool:
        """Whether a row can get more negatives than it was read with."""
        ...

    @property
    def effects(self) -> Effects:
        """What promote, drop and an emptied list do to its rows."""
        ...

    def recognises(self, row: Mapping[str, Any]) -> bool:
        """Whether the row's keys look like this format. Says nothing about its values."""
        ...

    def parse(
        self, row: Mapping[str, Any], *, position: int, line: int, path: str = "", source_field: str | None = None
    ) -> Example:
        """Read one row; the example keeps it as it is.

        Args:
            row: the row, as parsed.
            position: number of the row among all rows of its file, from 0.
            line: line of the file, from 1, for errors.
            path: the file, for errors.
            source_field: field that names the data set; by default the first of `SOURCE_FIELDS` that holds text.

        Raises:
            RowError: a field is missing or holds what it cannot hold; says which.
        """
        ...

    def render(self, example: Example) -> list[dict[str, Any]]:
        """Return the rows to write: for an example that nobody edited, exactly the row that was read.

        An example of another format gets a new row: what the nouns hold, then the fields of its own row that mean
        nothing to its format.
        """
        ...

    def passage(self, item: Any, beside: Mapping[str, Any]) -> Passage:
        """Build a passage from what stood in the list and beside it; both may come back from a ledger line.

        Raises:
            RowError: without file and line, when `item` is no passage of this format.
        """
        ...

    def place(self, example: Example, passage: Passage) -> tuple[int, Passage]:
        """Return where among the negatives of an example of this format a passage from elsewhere goes, and as what.

        It comes back at that place when the row is read again. Its item has the shape of the row's own; what it brings
        in `beside` ("score", "rank", "source") goes where the row keeps such, and what it has nothing for is null.
        """
        ...


class Writer(Protocol):
    """What takes examples one by one and writes them somewhere; made by `open_writer`."""

    @property
    def renamed(self) -> int:
        """How many ids stood for two texts, so that the later text got another one; rows of texts need none."""
        ...

    def write(self, example: Example) -> int:
        """Write an example; return how many rows that made (none for triplets whose negative is gone)."""
        ...


def placed(error: RowError, path: Path | str, line: int) -> RowError:
    """Return the same error with the file and line it happened at."""
    return RowError(error.problem, path=path, line=line, field=error.field, hint=error.hint)


def example_of(
    layout: str,
    row: Mapping[str, Any],
    read: Callable[[Mapping[str, Any]], Sides],
    *,
    position: int,
    line: int,
    path: str,
    source_field: str | None,
) -> Example:
    """Make the example of one row: `read` finds query and passages, all else is the same in every format.

    Raises:
        RowError: with file and line.
    """
    try:
        query, positives, negatives = read(row)
        return Example(
            id=query_id(row, query),
            query=query,
            positives=tuple(positives),
            negatives=tuple(negatives),
            source=source_of(row, source_field),
            row=row,
            position=position,
            layout=layout,
        )
    except RowError as error:
        raise placed(error, path, line) from None


def kind(value: Any) -> str:
    """Name the JSON type of a value in words."""
    match value:
        case None:
            return "null"
        case bool():
            return "true or false"
        case int() | float():
            return "a number"
        case str():
            return "text"
        case list():
            return "a list"
        case _:
            return "an object"


def present(row: Mapping[str, Any], key: str) -> Any:
    """Return a field that the format cannot do without."""
    if key not in row:
        seen = ", ".join(map(repr, list(row)[:20])) or "nothing"
        raise RowError(f"is missing; the row holds {seen}", field=key, hint=f"Add {key!r}, or name the --format.")
    return row[key]


def filled_text(row: Mapping[str, Any], key: str) -> str:
    """Return a field that must hold text with at least one visible character."""
    value = present(row, key)
    if not isinstance(value, str):
        raise RowError(f"is {kind(value)}, not text", field=key, hint=f"Write {key!r} as text between quotes.")
    if not value or value.isspace():
        raise RowError("is empty", field=key, hint=f"Write the text of {key!r}, or take the row out.")
    return value


def identifier(value: Any, field: str) -> str:
    """Return an id as text, "" where there is none (null, NaN as pandas writes it); numbers are ids too."""
    if value is None or value != value:  # noqa: PLR0124 - NaN
        return ""
    if isinstance(value, str):
        return value
    if isinstance(value, bool) or not isinstance(value, int | float):
        raise RowError(f"is {kind(value)}, not an id", field=field, hint="Write an id as text or as a number.")
    return str(value)


def id_beside(beside: Mapping[str, Any]) -> str:
    """Return the id that stands beside a passage, "" where none does."""
    return next((identifier(beside[name], name) for name in IDS if name in beside), "")


def query_id(row: Mapping[str, Any], query: str) -> str:
    """Return the row's `query_id`, or one made from the query's text."""
    return identifier(row.get("query_id"), "query_id") or f"q-{digest(query, size=6).hex()}"


def content_id(title: str, text: str) -> str:
    """Return the id of a passage that has none: a digest of its title and text."""
    return f"p-{digest(title, text, size=6).hex()}"


def alike(text: str, known: Any) -> Any:
    """Return an id in the type that a row's own ids have: a number where they are numbers and it can be one."""
    number = isinstance(known, int) and not isinstance(known, bool) and text.isascii() and text.isdecimal()
    return int(text) if number and str(int(text)) == text else text


def entry(name: str, passage: Passage, known: Any = None) -> Any:
    """Return what a passage from elsewhere has for a field or parallel list of that name; None where it has nothing.

    `known` is what another passage of the row has there, if there is one.
    """
    if name in IDS:
        return alike(passage.id, known)
    return passage.beside.get(name.lower().removesuffix("s"))


def source_of(row: Mapping[str, Any], source_field: str | None) -> str:
    """Return the name of the data set that a row came from, "" where it does not say."""
    for field in (source_field,) if source_field else SOURCE_FIELDS:
        value = row.get(field)
        if isinstance(value, str):
            return value
    return ""
