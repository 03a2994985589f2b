"""What a page is made of: sections of texts, tables, plots and pairs; and how figures are written in it.

Plain `str` is data and is escaped by the template; `Markup` is text of ours, into which data comes by `format`,
escaped, or by `name`, which also keeps its direction of writing to itself.
"""

from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Any, ClassVar, Final

from markupsafe import Markup

from relabel.spelling import spelled

Cell = str | Markup

NARROW: Final = "\N{NO-BREAK SPACE}"
DASH: Final = "–"

LONGEST_NAME: Final = 80
LONGEST_TEXT: Final = 1200


@dataclass(frozen=True, slots=True)
class Text:
    """A paragraph.

    `style` is "", "note" (small print), "missing" (what would fill the section), "warning" or "mono" (as typed);
    `folded` is as in `Table`.
    """

    kind: ClassVar[str] = "text"
    content: Cell
    style: str = ""
    folded: str = ""


@dataclass(frozen=True, slots=True)
class Table:
    """A table with a header; `words` says how many of the first columns are words and not figures.

    `folded` is the line that opens a table which is folded away, "" for one that is always shown.
    """

    kind: ClassVar[str] = "table"
    columns: tuple[Cell, ...]
    rows: tuple[tuple[Cell, ...], ...]
    caption: Cell = ""
    words: int = 1
    folded: str = ""


@dataclass(frozen=True, slots=True)
class Plot:
    """A drawing with its figures as a table; `label` says what it shows to whoever cannot see it."""

    kind: ClassVar[str] = "plot"
    svg: Markup
    title: Cell
    label: str
    table: Table


@dataclass(frozen=True, slots=True)
class Plots:
    """Drawings side by side, or one below the other where there is no room; `wide` where their tables need it all."""

    kind: ClassVar[str] = "plots"
    plots: tuple[Plot, ...]
    wide: bool = False


@dataclass(frozen=True, slots=True)
class Confusion:
    """What two judges said of the same pairs: counts, with each cell's share of its row in [0, 1], and figures.

    The first `labels` of rows and columns are labels; what follows is "no label". `more` are figures folded away.
    """

    kind: ClassVar[str] = "confusion"
    first: str
    second: str
    title: Cell
    columns: tuple[str, ...]
    rows: tuple[tuple[str, tuple[tuple[str, float], ...]], ...]
    labels: int
    figures: Table
    more: Table


@dataclass(frozen=True, slots=True)
class Excerpt:
    """A text, or its beginning; `cut` says how much of it this is, "" where it is the whole."""

    title: str
    text: str
    cut: str = ""


@dataclass(frozen=True, slots=True)
class Word:
    """What one judge or person said of a pair."""

    who: str
    label: str
    sure: str
    why: str
    person: bool = False


@dataclass(frozen=True, slots=True)
class Card:
    """One pair with its texts and every word about it."""

    heading: Cell
    verdict: Cell
    query: Excerpt
    reference: Excerpt | None
    more: int
    candidate: Excerpt
    ids: Cell
    words: tuple[Word, ...]


@dataclass(frozen=True, slots=True)
class Cards:
    """Pairs under a heading."""

    kind: ClassVar[str] = "cards"
    title: str
    lead: str
    cards: tuple[Card, ...]


Block = Text | Table | Plots | Confusion | Cards


@dataclass(frozen=True, slots=True)
class Section:
    """A part of the page; `key` is its anchor."""

    key: str
    title: str
    blocks: tuple[Block, ...]


@dataclass(frozen=True, slots=True)
class Page:
    """The whole: what was done in one sentence, the main results, a few large figures, then the sections."""

    title: str
    done: Cell
    results: tuple[Cell, ...]
    tiles: tuple[tuple[str, Cell, Cell], ...]
    sections: tuple[Section, ...]
    foot: Cell


def filled(table: Table) -> Table:
    """Return a table without the columns in which there is nothing but dashes."""
    kept = [at for at in range(len(table.columns)) if any(row[at] != DASH for row in table.rows)]
    rows = tuple(tuple(row[at] for at in kept) for row in table.rows)
    words = sum(at < table.words for at in kept)
    return replace(table, columns=tuple(table.columns[at] for at in kept), rows=rows, words=words)


def name(data: object, *, longest: int = LONGEST_NAME) -> Markup:
    """Return a name that comes from data: escaped, cut, and unable to turn the text around it."""
    return Markup("<bdi>{}</bdi>").format(short(str(data), longest))


def code(text: object) -> Markup:
    """Return text as code: what one types, or a digest."""
    return Markup("<code>{}</code>").format(text)


def short(text: str, longest: int = LONGEST_NAME) -> str:
    """Return a text on one line, spelled out, cut where it is too long."""
    line = spelled(" ".join(text[: 4 * longest].split()))
    return line if len(line) <= longest and len(text) <= 4 * longest else line[: longest - 1] + "…"


def excerpt(text: str, *, title: str = "", longest: int = LONGEST_TEXT) -> Excerpt:
    """Return the beginning of a text, and how much of it that is."""
    if len(text) <= longest:
        return Excerpt(short(title, 200), text)
    return Excerpt(short(title, 200), text[:longest], f"the first {longest:,} of {len(text):,} characters")


def count(number: float) -> str:
    """Write a count with thousands separators; weighted ones with one decimal."""
    return f"{number:,}" if isinstance(number, int) else f"{number:,.1f}"


def many(number: int, noun: str, nouns: str = "") -> str:
    """Write a count with its noun: 1 row, 2 rows."""
    return f"{number:,}{NARROW}{noun if number == 1 else nouns or noun + 's'}"


def percent(value: float | None) -> str:
    """Write a share in [0, 1]."""
    return DASH if value is None else f"{100 * value:.1f}{NARROW}%"


def number(value: float | None) -> str:
    """Write a coefficient with two decimals and a real minus."""
    return DASH if value is None else f"{value:.2f}".replace("-", "−")


def usd(value: float | None) -> str:
    """Write money: cents from a dollar on, below it the first two figures that say something."""
    if value is None:
        return DASH
    return f"${value:,.2f}" if value >= 1 or value == 0 else f"${value:.2g}" if value >= 1e-4 else f"${value:.1e}"


def share(figure: Mapping[str, Any]) -> str:
    """Write a share with its interval: 11.8 % (9.9 to 13.9)."""
    if figure["value"] is None or figure["low"] is None:
        return percent(figure["value"])
    return f"{percent(figure['value'])} ({100 * figure['low']:.1f} to {100 * figure['high']:.1f})"


def coefficient(figure: Mapping[str, Any]) -> str:
    """Write a coefficient with its interval: 0.71 (0.64 to 0.78)."""
    if figure["value"] is None or figure["low"] is None:
        return number(figure["value"])
    return f"{number(figure['value'])} ({number(figure['low'])} to {number(figure['high'])})"


def of(figure: Mapping[str, Any], noun: str = "pair") -> str:
    """Write what a share is of: of 1,730 pairs in 50 queries."""
    queries = figure.get("queries")
    return f"of {many(figure['of'], noun)}" + (f" in {many(queries, 'query', 'queries')}" if queries else "")
