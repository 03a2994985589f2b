"""How far the judges can be believed: agreement, reliability, scores, calibration, estimates → sections of the page."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import pairwise
from typing import Any, Final

from markupsafe import Markup

from relabel.reporting.content import (
    DASH,
    Block,
    Cell,
    Confusion,
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
    number,
    percent,
    share,
    short,
)
from relabel.reporting.plots import Bin, Whisker, histograms, reliability, whiskers

Json = Mapping[str, Any]

_DRAWN: Final = (("kappa", "κ"), ("ac1", "AC1"))
_FIGURES: Final = (
    ("agreement", "same label", share),
    ("kappa", "Cohen’s κ", coefficient),
    ("kappa_quadratic", "Cohen’s κ, quadratic weights", coefficient),
    ("kappa_relevant", "Cohen’s κ, relevant against rest", coefficient),
    ("kappa_relevant_or_partial", "Cohen’s κ, relevant or partial against rest", coefficient),
    ("ac1", "Gwet’s AC1", coefficient),
    ("alpha_nominal", "Krippendorff’s α, nominal", coefficient),
    ("alpha_ordinal", "Krippendorff’s α, ordinal", coefficient),
)
_PREVALENCE: Final = "prevalence_{}_relevant"
TO_LABEL: Final = (
    "relabel audit export RUN -o pairs.csv",
    "relabel audit import RUN pairs.csv",
    "relabel apply RUN",
    "relabel report RUN",
)

_TO_READ_AGREEMENT: Final = (
    "κ can be read only beside the prevalence: it falls towards 0 when nearly all pairs have one label, which AC1"
    " does not. Pairs without a label of one of the two are counted and left out. A later judge sees what an earlier"
    " one sent up, and second opinions on a sample of the rest: the tables count what was seen, the coefficients weigh"
    " the sample back to all; without a sample they say nothing of the rest. People are compared on the pairs that"
    " they labelled. A dash: not defined, since both gave one and the same label. Intervals: 95 %, percentile bootstrap"
    " over queries; one without width is that of a figure that was the same in every query, not of a sure one."
)
_TO_READ_CURVES: Final = (
    "Each point is a bin of the pairs that people labelled. On the dashed diagonal a probability means what it says;"
    " below it the judge is too sure of itself. A score need not lie there, but should rise."
)
_OF_CURVES: Final = (
    "Intervals: 95 %, Wilson, pairs taken as independent, so too narrow where a bin holds several pairs of one query."
    " The curve is that of the pairs which people labelled: unless these were drawn by chance, others may differ."
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


# -- agreement -----------------------------------------------------------------------------------------------


def agreement(figures: Json, *, people: bool) -> Section:
    """Show how far every two judges agree: coefficients with intervals, prevalence beside them, confusion matrices."""
    title = "Agreement between judges"
    latest_first = reversed([entry for entry in figures["agreement"] if entry["n"]])
    compared = sorted(latest_first, key=lambda entry: entry["second"] != "human")
    blocks: list[Block] = []
    if compared:
        blocks = [Plots((_overview(compared),)), *[_confusion(entry) for entry in compared]]
        by_source = _by_source(figures["sources"], compared)
        if by_source is not None:
            blocks.append(by_source)
        blocks.append(Text(_TO_READ_AGREEMENT, "note"))
    else:
        blocks.append(Text(
            Markup("No two judges gave a label to the same pairs. A second judge, or {} at a stage whose word is final,"
                   " makes them comparable.").format(code("sample: 0.05")), "missing"))  # fmt: skip
    if not people:
        blocks.append(ask_people("No person has checked these verdicts; judges that agree may still both be wrong."))
    return Section("agreement", title, tuple(blocks))


def _both(entry: Json) -> Markup:
    return Markup("{} and {}").format(name(_who(entry["first"])), name(_who(entry["second"])))


def _who(judge: str) -> str:
    return "people" if judge == "human" else judge


def _overview(compared: Sequence[Json]) -> Plot:
    drawn = [
        Whisker(
            f"{_who(entry['first'])} – {_who(entry['second'])}", series, figure["value"], figure["low"], figure["high"]
        )
        for entry in compared
        for key, series in _DRAWN
        for figure in [entry["figures"][key]]
    ]
    rows = tuple(
        (_both(entry), count(entry["n"]), count(entry["clusters"]), share(entry["figures"]["agreement"]),
         *[coefficient(entry["figures"][key]) for key, _ in _DRAWN],
         *[percent(entry["figures"][_PREVALENCE.format(who)]["value"]) for who in ("first", "second")])
        for entry in compared
    )  # fmt: skip
    heads = (
        "judges",
        "pairs",
        "queries",
        "same label",
        "κ",
        "AC1",
        "relevant, by the first",
        "relevant, by the second",
    )
    table = Table(heads, rows, words=1, folded="The figures")
    label = "; ".join(f"{short(each.row)} {each.series} {number(each.value)}" for each in drawn)
    svg = whiskers(drawn, "0 = chance, 1 = perfect")
    return Plot(svg, "Agreement beyond chance", f"Coefficients of agreement with 95 % intervals. {label}", table)


def _confusion(entry: Json) -> Confusion:
    labels, size = (*entry["labels"], "no label"), len(entry["labels"])
    table = entry["confusion"]
    kept = [at for at in range(size + 1) if at < size or sum(row[at] for row in table)]
    rows = []
    for label, row in zip(labels, table, strict=True):
        total = sum(row)
        if label != "no label" or total:
            rows.append((label, tuple((count(row[at]), row[at] / total if total else 0.0) for at in kept)))
    figures: list[tuple[Cell, ...]] = [
        (title, show(entry["figures"][key])) for key, title, show in _FIGURES if key in entry["figures"]
    ]
    for who, judge in (("first", entry["first"]), ("second", entry["second"])):
        told = entry["figures"][_PREVALENCE.format(who)]
        figures.append((Markup("prevalence of relevant, by {}").format(name(_who(judge))), share(told)))
    told = f"both gave a label to {many(entry['n'], 'pair')} of {many(entry['clusters'], 'query', 'queries')}"
    return Confusion(
        _who(entry["first"]), _who(entry["second"]), Markup("{}: {}").format(_both(entry), told),
        tuple(labels[at] for at in kept), tuple(rows), size,
        Table(("figure", "value (95 % interval)"), tuple(figures), words=1),
    )  # fmt: skip


def _by_source(sources: Mapping[str, Json], compared: Sequence[Json]) -> Table | None:
    if len(sources) < 2:
        return None
    rows: list[tuple[Cell, ...]] = []
    for wanted in compared:
        both = (wanted["first"], wanted["second"])
        for source, part in sources.items():
            for entry in part["agreement"]:
                if (entry["first"], entry["second"]) == both and entry["n"]:
                    found = entry["figures"]
                    rows.append((
                        _both(entry), name(source or "(no source)"), count(entry["n"]), count(entry["clusters"]),
                        share(found["agreement"]), coefficient(found["kappa"]), coefficient(found["ac1"]),
                        *[percent(found[_PREVALENCE.format(who)]["value"]) for who in ("first", "second")],
                    ))  # fmt: skip
    heads = (
        "judges",
        "source",
        "pairs",
        "queries",
        "same label",
        "κ",
        "AC1",
        "relevant, by the first",
        "relevant, by the second",
    )
    return Table(heads, tuple(rows), words=2, folded="Agreement by source") if rows else None


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
