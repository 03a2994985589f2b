"""How far the judges can be believed: reliability, scores, diagnostics → sections of the page."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import pairwise
from typing import Any, Final

from markupsafe import Markup

from relabel.reporting.content import (
    DASH,
    Block,
    Plot,
    Plots,
    Section,
    Table,
    Text,
    code,
    coefficient,
    count,
    many,
    name,
    percent,
    share,
    short,
)
from relabel.reporting.plots import Bin, histograms, reliability

Json = Mapping[str, Any]

TO_LABEL: Final = (
    "relabel audit export RUN -o pairs.csv",
    "relabel audit import RUN pairs.csv",
    "relabel apply RUN",
    "relabel report RUN",
)

_TO_READ_CURVES: Final = (
    "Each point is a bin of the pairs that people labelled. On the dashed diagonal a probability means what it says;"
    " below it the judge is too sure of itself. A score need not lie there, but should rise."
)
_OF_CURVES: Final = (
    "Intervals: 95 %, exact binomial of as many independent pairs as those of a bin’s queries are worth. The curve is"
    " that of the pairs which people labelled: unless these were drawn by chance, others may differ."
)
_NOT_MEASURED: Final = (
    "No judge of this run gives a probability or a score beside its word. Choices answered through log probabilities"
    " do, and so do embedding and cross-encoder models."
)


@dataclass(frozen=True, slots=True)
class Curve:
    """How often people bear a stage out, by what it says beside its word: its probability, or its score."""

    stage: str
    measure: str
    pairs: int
    bins: tuple[Bin, ...]


@dataclass(frozen=True, slots=True)
class Scores:
    """How a stage's probabilities or scores are distributed, by verdict; bins are [low, high) of neighbouring edges."""

    stage: str
    measure: str
    edges: tuple[float, ...]
    counts: Mapping[str, Sequence[int]]


def ask_people(what: str) -> Text:
    """Say how people's labels come into a run, as what would fill a section."""
    commands = Markup(", ").join([code(command) for command in TO_LABEL])
    return Text(Markup("{} To have people look: {} (RUN is the run’s directory).").format(what, commands), "missing")


# -- reliability and scores ----------------------------------------------------------------------------------


def reliabilities(
    curves: Sequence[Curve], extra: Sequence[Block], *, people: bool, measured: bool, fewest: int
) -> Section:
    """Show how often people bear a judge out, by the probability or score that it gives.

    Args:
        curves: one for each stage and measure.
        extra: what `relabel calibrate` found, or how to have it found.
        people: whether anybody labelled.
        measured: whether any judge gives a probability or a score.
        fewest: labelled pairs of a judge below which there is no curve.
    """
    title = "Reliability"
    blocks: list[Block] = []
    if curves:
        blocks.append(Text(_TO_READ_CURVES))
        blocks.append(Plots(tuple(_reliability(curve) for curve in curves)))
        blocks.append(Text(_OF_CURVES, "note"))
    elif not measured:
        blocks.append(Text(_NOT_MEASURED, "missing"))
    elif not people:
        blocks.append(
            ask_people("Judges gave probabilities or scores, but no person’s label says what these are worth.")
        )
    else:
        blocks.append(
            Text(f"People labelled fewer than {fewest} pairs with a probability or score of one judge.", "missing")
        )
    blocks += extra
    return Section("reliability", title, tuple(blocks))


def _reliability(curve: Curve) -> Plot:
    probability = curve.measure == "probability"
    y = "people give the same label" if probability else "people say relevant"
    x = "probability of its own word" if probability else "score"
    rows = tuple(
        (f"{_edge(each.low)} to {_edge(each.high)}", count(each.pairs), _edge(each.mean),
         share({"value": each.share, "low": each.share_low, "high": each.share_high}))
        for each in curve.bins
    )  # fmt: skip
    table = Table((x, "pairs", "mean", y), rows, words=1, folded="The figures")
    title = Markup("{}, {}: {}").format(name(curve.stage), curve.measure, many(curve.pairs, "pair"))
    label = "; ".join(f"at {_edge(each.mean)}: {percent(each.share)} of {each.pairs:,}" for each in curve.bins)
    svg = reliability(curve.bins, x, y, diagonal=probability)
    return Plot(svg, title, f"Reliability diagram of {short(curve.stage)}. {label}", table)


def scores(found: Sequence[Scores]) -> Section:
    """Show how probabilities and scores are distributed, by stage and verdict."""
    title = "Scores and probabilities"
    if not found:
        return Section("scores", title, (Text("No judge of this run gives a probability or a score.", "missing"),))
    lead = "How the numbers that a judge gives lie, by what the cascade concluded in the end. Void pairs are left out."
    return Section("scores", title, (Text(lead), Plots(tuple(_scores(each) for each in found))))


def _scores(each: Scores) -> Plot:
    verdicts = list(each.counts)
    bins = list(enumerate(pairwise(each.edges)))
    rows = tuple(
        (f"{_edge(low)} to {_edge(high)}", *[count(each.counts[verdict][at]) for verdict in verdicts])
        for at, (low, high) in bins
    )
    probability = each.measure == "probability"
    label = "probability of its own word" if probability else "score"
    table = Table((f"{label}, from … to below", *verdicts), rows, words=1, folded="The figures")
    totals = "; ".join(f"{verdict}: {sum(heights):,} pairs" for verdict, heights in each.counts.items())
    svg = histograms(each.edges, each.counts, label, probability=probability)
    title = Markup("{}, {}").format(name(each.stage), each.measure)
    return Plot(svg, title, f"Histograms of the {label} of {short(each.stage)} by verdict. {totals}", table)


def _edge(value: float) -> str:
    return DASH if value != value else f"{value:.4g}".replace("-", "−")  # noqa: PLR0124 - NaN is unlike itself


# -- diagnostics ---------------------------------------------------------------------------------------------


def diagnostics(found: Sequence[Json] | None) -> Section | None:
    """Show what `relabel diagnose` left in the run: how a judge behaves when it is asked in several ways."""
    if not found:
        return None
    rows = tuple(
        (each["part"], name(each["name"]), _measured(each), count(each["of"]), count(each["queries"]),
         name(each["note"] or DASH, longest=400))
        for each in found
    )  # fmt: skip
    heads = ("part", "figure", "value (95 % interval)", "pairs", "queries", "how to read it")
    note = "Yes = relevant or partial. Intervals: bootstrap over queries; exact where a rate is 0 or 100 %."
    table = Table(heads, tuple((*row[:2], row[5], *row[2:5]) for row in rows), words=3)
    return Section("diagnostics", "How a judge behaves", (table, Text(note, "note")))


def _measured(each: Json) -> str:
    """Write a share or, of a correlation and of differences of κ, a coefficient."""
    return coefficient(each) if each["name"].startswith(("correlation", "κ")) else share(each)
