"""Drawings: figures in, SVG out, the same bytes for the same figures.

Colours are names that the page's style sheet gives a value (`var(--ink)`), so that one drawing is right on white, on
black and on paper; what they tell apart is told apart by shape, hatch or place too. Texts stay texts: sharp,
selectable, in the page's font.
"""

import re
import warnings
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import wraps
from io import StringIO
from itertools import cycle, pairwise
from typing import TYPE_CHECKING, Any, Final, ParamSpec

from markupsafe import Markup

from relabel.errors import MissingPart
from relabel.records import digest
from relabel.reporting.content import short

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

P = ParamSpec("P")

_NAMES: Final = ("ink", "muted", "grid", "paper", "one", "two", "three", "four", "five")
INK, MUTED, GRID, PAPER, *SERIES = [f"#0{at}0{at}0{at}" for at, _ in enumerate(_NAMES, start=1)]
_MARKERS: Final = ("o", "s", "^", "D", "v")
_LOOKS: Final[Mapping[str, tuple[str, str]]] = {
    **dict.fromkeys(("relevant", "false negative"), (SERIES[0], "")),
    "partial": (SERIES[1], "////"),
    **dict.fromkeys(("irrelevant", "true negative"), (SERIES[4], "")),
    "used": (SERIES[0], ""), "left over": (SERIES[0], "...."), "refused": (SERIES[1], "////"), "none": (SERIES[4], ""),
}  # fmt: skip
"""Colour and hatch of what has its own wherever it is drawn."""

_OTHER: Final = (SERIES[3], "xxxx")
WIDTH: Final = 4.6
"""Inches of a drawing: the width of a telephone, where its letters must still be read."""

_STYLE: Final[Mapping[str, Any]] = {
    "svg.fonttype": "none", "text.parse_math": False, "font.family": "DejaVu Sans", "font.size": 8.5,
    "text.color": INK, "axes.labelcolor": INK, "axes.edgecolor": MUTED, "xtick.color": MUTED, "ytick.color": MUTED,
    "xtick.labelcolor": INK, "ytick.labelcolor": INK, "axes.linewidth": 0.6, "axes.spines.top": False,
    "axes.spines.right": False, "figure.facecolor": "none", "axes.facecolor": "none", "savefig.facecolor": "none",
    "grid.color": GRID, "grid.linewidth": 0.6, "axes.axisbelow": True, "legend.frameon": False,
    "legend.fontsize": 8, "hatch.linewidth": 0.7, "xtick.major.width": 0.6, "ytick.major.width": 0.6,
    "figure.constrained_layout.use": True, "xtick.labelsize": 8, "ytick.labelsize": 8.5,
}  # fmt: skip


@dataclass(frozen=True, slots=True)
class Whisker:
    """A figure with its interval; `series` tells which marker it gets. None is not drawn, but keeps its row."""

    row: str
    series: str
    value: float | None
    low: float | None
    high: float | None


@dataclass(frozen=True, slots=True)
class Bin:
    """Pairs whose score or probability lies in [low, high): their mean, and how many of them people confirmed."""

    low: float
    high: float
    pairs: int
    mean: float
    share: float
    share_low: float
    share_high: float


def _drawn(draw: Callable[P, "Figure"]) -> Callable[P, Markup]:
    """Draw in a style in which nothing of the user's own settings of matplotlib counts, and write it as SVG.

    Raises:
        MissingPart: matplotlib is not installed.
    """

    @wraps(draw)
    def drawing(*figures: P.args, **options: P.kwargs) -> Markup:
        try:
            from matplotlib import style
        except ImportError as error:
            raise MissingPart("matplotlib", "report") from error
        salt = digest(
            draw.__name__, repr(figures), repr(options)
        ).hex()  # what makes ids unlike those of another drawing
        with style.context(["default", {**_STYLE, "svg.hashsalt": salt}]), warnings.catch_warnings():
            warnings.filterwarnings("ignore", "Glyph .* missing from")  # the page's fonts have it, or nobody's
            out = StringIO()
            draw(*figures, **options).savefig(out, format="svg", metadata=dict.fromkeys(("Date", "Creator", "Type")))
        return _for_a_page(out.getvalue())

    return drawing


def _for_a_page(svg: str) -> Markup:
    """Return a drawing as an element of a page: names in place of colours, no size, no ids but those that are used."""
    text = svg[svg.index("<svg") :]
    text = re.sub(r"<metadata>.*?</metadata>|<style.*?</style>", "", text, flags=re.DOTALL)
    text = re.sub(r" id=\"[A-Za-z0-9.]+_\d+\"", "", text)
    for at, colour in enumerate(_NAMES, start=1):
        text = text.replace(f"#0{at}0{at}0{at}", f"var(--{colour})")
    width, height = re.findall(r"viewBox=\"0 0 ([\d.]+) ([\d.]+)\"", text)[0]
    text = re.sub(r"<svg [^>]*>", f'<svg viewBox="0 0 {width} {height}" aria-hidden="true">', text, count=1)
    return Markup(text)  # noqa: S704 - matplotlib's own, in which it escapes every text


@_drawn
def bars(rows: Sequence[tuple[str, Mapping[str, int]]], unit: str) -> "Figure":
    """Draw one bar for each row, of its parts one after the other."""
    parts = list(dict.fromkeys(part for _, counts in rows for part in counts))
    figure, axes = _open(0.34 * len(rows) + 0.75)
    left = [0] * len(rows)
    for part in parts:
        colour, hatch = _LOOKS.get(part, _OTHER)
        widths = [counts.get(part, 0) for _, counts in rows]
        axes.barh(
            range(len(rows)), widths, left=left, height=0.62, color=colour, hatch=hatch, edgecolor=PAPER, label=part,
            linewidth=0.5,
        )  # fmt: skip
        left = [before + width for before, width in zip(left, widths, strict=True)]
    _rows(axes, [row for row, _ in rows])
    axes.xaxis.set_major_formatter(lambda value, _: f"{value:,.0f}")
    axes.set_xlabel(unit)
    _legend(figure, len(parts))
    return figure


@_drawn
def whiskers(figures: Sequence[Whisker], label: str, *, percent: bool = False, line: float | None = None) -> "Figure":
    """Draw figures with their intervals, one line for each row, markers of several series a little apart.

    Shares are drawn in percent from 0 on, coefficients up to 1; a dashed line stands where `line` says.
    """
    rows = list(dict.fromkeys(each.row for each in figures))
    series = list(dict.fromkeys(each.series for each in figures))
    scale = 100 if percent else 1
    figure, axes = _open((0.16 + 0.14 * len(series)) * len(rows) + (0.75 if len(series) > 1 else 0.55))
    if line is not None:
        axes.axvline(scale * line, color=MUTED, linestyle=(0, (4, 3)), linewidth=0.9)
    for at, (name, colour, marker) in enumerate(zip(series, cycle(SERIES), cycle(_MARKERS), strict=False)):
        shift = 0.5 * ((at + 0.5) / len(series) - 0.5)
        for each in figures:
            if each.series == name and each.low is not None and each.high is not None:
                place = rows.index(each.row) + shift
                axes.plot([scale * each.low, scale * each.high], [place, place], color=colour, linewidth=1.6)
        drawn = [(scale * each.value, rows.index(each.row) + shift)
                 for each in figures if each.series == name and each.value is not None]  # fmt: skip
        axes.plot([value for value, _ in drawn], [place for _, place in drawn], marker, color=colour, markersize=5,
                  label=name, markeredgecolor=PAPER)  # fmt: skip
    _rows(axes, rows)
    least = min([each.low for each in figures if each.low is not None], default=0.0)
    edge = 0.0 if line is None else -0.02  # an AUC of 0 is a figure as good as one of 1: its marker is to be seen whole
    axes.set_xlim(left=scale * min(edge, least), right=None if percent else 1.02)
    axes.set_xlabel(label)
    if len(series) > 1:
        _legend(figure, len(series))
    return figure


@_drawn
def reliability(bins: Sequence[Bin], x: str, y: str, *, diagonal: bool) -> "Figure":
    """Draw what people confirmed against what the judge said, each bin with its interval and, below, its pairs."""
    figure, (axes, below) = _open_two(3.6, (3.2, 1.0))
    if diagonal:
        axes.plot([0, 1], [0, 1], color=MUTED, linestyle=(0, (4, 3)), linewidth=0.9)
        axes.set_xlim(-0.03, 1.03)
    for each in bins:
        axes.plot([each.mean, each.mean], [each.share_low, each.share_high], color=SERIES[0], linewidth=1.4)
    axes.plot([each.mean for each in bins], [each.share for each in bins], "-o", color=SERIES[0], linewidth=0.8,
              markersize=5, markeredgecolor=PAPER)  # fmt: skip
    axes.set_ylim(-0.03, 1.03)
    axes.set_ylabel(y)
    axes.grid(visible=True)
    below.bar([each.low for each in bins], [each.pairs for each in bins], align="edge", color=SERIES[0], alpha=0.55,
              width=[each.high - each.low for each in bins], edgecolor=PAPER, linewidth=0.5)  # fmt: skip
    below.set_ylabel("pairs")
    below.set_xlabel(x)
    return figure


@_drawn
def histograms(
    edges: Sequence[float], counts: Mapping[str, Sequence[int]], label: str, *, probability: bool
) -> "Figure":
    """Draw one histogram for each of several groups, below one another, over the same edges."""
    figure, axes = _open_many(len(counts), 0.72 * len(counts) + 0.45)
    for (name, heights), each in zip(counts.items(), axes, strict=True):
        colour, hatch = _LOOKS.get(name, _OTHER)
        each.bar(
            list(edges[:-1]), list(heights), width=[high - low for low, high in pairwise(edges)],
            align="edge", color=colour, hatch=hatch, edgecolor=PAPER, linewidth=0.4,
        )  # fmt: skip
        each.set_title(f"{short(name, 24)} ({sum(heights):,})", loc="left", fontsize=8.5, pad=2)
        each.yaxis.set_major_locator(_few_whole_numbers())
        each.grid(visible=True, axis="y")
    axes[-1].set_xlabel(label)
    if probability:
        axes[-1].set_xlim(-0.02, 1.02)
    return figure


# -- what all drawings share ---------------------------------------------------------------------------------


def _open(height: float) -> "tuple[Figure, Axes]":
    figure, axes = _open_many(1, height)
    return figure, axes[0]


def _open_two(height: float, ratios: tuple[float, float]) -> "tuple[Figure, tuple[Axes, Axes]]":
    figure, axes = _open_many(2, height, ratios)
    return figure, (axes[0], axes[1])


def _open_many(number: int, height: float, ratios: Sequence[float] | None = None) -> "tuple[Figure, list[Axes]]":
    from matplotlib.figure import Figure

    figure = Figure(figsize=(WIDTH, height))
    axes = figure.subplots(number, 1, sharex=True, squeeze=False, height_ratios=ratios)
    return figure, list(axes[:, 0])


def _rows(axes: "Axes", rows: Sequence[str]) -> None:
    """Name the rows, from above to below."""
    axes.set_yticks(range(len(rows)), [short(row, 30) for row in rows])
    axes.set_ylim(len(rows) - 0.5, -0.5)
    axes.tick_params(axis="y", length=0)
    axes.grid(visible=True, axis="x")
    axes.spines["left"].set_visible(False)


def _legend(figure: "Figure", entries: int) -> None:
    figure.legend(loc="outside upper left", ncols=min(entries, 4), handlelength=1.4, columnspacing=1.2, borderpad=0.1)


def _few_whole_numbers() -> Any:
    from matplotlib.ticker import MaxNLocator

    return MaxNLocator(nbins=2, integer=True)
