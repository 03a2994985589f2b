"""What people's labels were made into: estimates of the whole data set, thresholds with a promise → sections."""

from collections.abc import Iterator, Mapping, Sequence
from typing import Any, Final

from markupsafe import Markup

from relabel.cascade import GRADES
from relabel.reporting.content import (
    DASH,
    Block,
    Cell,
    Plot,
    Plots,
    Section,
    Table,
    Text,
    code,
    count,
    many,
    name,
    percent,
    share,
    short,
)
from relabel.reporting.plots import Bin, Whisker, reliability, whiskers

Json = Mapping[str, Any]

DRAWN: Final = 16
"""Estimates drawn beside their table."""

_TO_ESTIMATE: Final = (
    "relabel audit sample RUN -o sample.csv -n 200",
    "relabel audit import RUN sample.csv",
    "relabel audit estimate RUN",
)
_TO_CALIBRATE: Final = "relabel calibrate RUN --keep 0.1"
_ESTIMATES: Final = "Estimates for the whole data set"
_OF_ESTIMATES: Final = (
    "The first interval is for this data set, by the way its labelled pairs were drawn; the second for other queries"
    " like these. Labels and queries are those that the figure rests on."
)
_OF_PROMISES: Final = (
    "A promise: people disagree with at most this share of the pairs that the judge settles so, unless the labels were"
    " drawn by bad luck, whose probability is δ. Bound: the highest share that the labels do not rule out."
)


def estimates(found: Sequence[Json] | None) -> Section:
    """Show what was estimated of the whole data set, each figure with its intervals and what it rests on."""
    title = _ESTIMATES
    if not found:
        commands = Markup(", ").join([code(command) for command in _TO_ESTIMATE])
        told = Markup(
            "Nothing was estimated. How many negatives really are false, and how often each judge is right: {}."
        )
        return Section("estimates", title, (Text(told.format(commands), "missing"),))
    drawn = [
        Whisker(each["name"], "estimate", each["value"], each["low"], each["high"])
        for each in found
        if each["value"] is not None and not {"(", ","} & set(each["name"])  # variants stand in the table
    ][:DRAWN]
    rows = tuple(
        (name(each["name"]), share(each), _between(each["low_queries"], each["high_queries"]), count(each["n"]),
         count(each["clusters"]), DASH if each["of"] is None else count(each["of"]))
        for each in found
    )  # fmt: skip
    heads = ("figure", "value (95 % interval)", "for other queries", "labels", "queries", "of pairs")
    table = Table(heads, rows, words=1)
    methods = tuple(
        (name(each["name"]), name(each["method"], longest=400), name(each["note"] or DASH, longest=400))
        for each in found
    )
    how = (
        Table(("figure", "method", "note"), methods, words=3, folded="Methods and notes"),
        Text(_OF_ESTIMATES, "note"),
    )
    if not drawn:
        return Section("estimates", title, (table, *how))
    label = "; ".join(f"{short(each.row)}: {percent(each.value)}" for each in drawn)
    svg = whiskers(drawn, "%", percent=True)
    plot = Plot(svg, "Estimates with 95 % intervals", f"Estimates with 95 % intervals. {label}", table)
    return Section("estimates", title, (Plots((plot,), wide=True), *how))


def outdated(what: str, command: str) -> Text:
    """Say that something was made of another state of the run, and how to have it of this one."""
    told = Markup(
        "{} of an earlier state of this run: its input, its judges or their thresholds were others. Type again: {}."
    )
    return Text(told.format(what, code(command)), "missing")


def outdated_estimates() -> Section:
    """Say so in place of estimates."""
    return Section("estimates", _ESTIMATES, (outdated("There are estimates", _TO_ESTIMATE[-1]),))


def outdated_calibration() -> Text:
    """Say so in place of thresholds."""
    return outdated("There are calibrated thresholds", _TO_CALIBRATE)


def headline(found: Sequence[Json] | None) -> Iterator[Cell]:
    """Yield the first estimate as a sentence of the first screen, if there is one."""
    if found and found[0]["value"] is not None:
        first = found[0]
        yield Markup("Estimated from {} in {}: {}, {}.").format(
            many(first["n"], "label"), many(first["clusters"], "query", "queries"), name(first["name"]), share(first)
        )


def _between(low: float | None, high: float | None) -> str:
    return DASH if low is None or high is None else f"{100 * low:.1f} to {percent(high)}"


def calibration(found: Json | None) -> Iterator[Block]:
    """Yield what `relabel calibrate` promised, and how its probabilities bear out before and after recalibration."""
    if not found:
        told = Markup("No thresholds were calibrated: {}.").format(code(_TO_CALIBRATE))
        yield Text(told, "missing")
        return
    labels = found["labels"]
    yield Text(
        Markup("Thresholds by {}, from {} in {}; δ = {}, {}. {} would be left to people.").format(
            code("relabel calibrate"), many(labels["pairs"], "labelled pair"),
            many(labels["queries"], "query", "queries"), found["delta"], found["delta_is_of"],
            f"{found['people']:,} of {many(found['pairs'], 'pair')}",
        )
    )  # fmt: skip
    rows = tuple(_promises(found["stages"]))
    if rows:
        heads = ("stage", "source", "settled as", "at most, in error", "threshold", "labels settled", "in error",
                 "bound", "settles, of all pairs")  # fmt: skip
        yield Table(heads, rows, f"Promises; bound: {found['bound']}", words=3)
        yield Text(_OF_PROMISES, "note")
    yield from _refusals(found["stages"])
    curves = tuple(_curves(found["stages"]))
    if curves:
        yield Plots(curves)


_WORDS: Final = {number: label for label, number in GRADES.items()}


def _promises(stages: Sequence[Json]) -> Iterator[tuple[Cell, ...]]:
    """Yield a row for each promise."""
    for stage, part, choice in _choices(stages):
        step = choice["chosen"]
        if step is not None:
            sign = "≤" if choice["settle"] == "irrelevant" else "≥"
            number = choice["threshold"]
            shown = _WORDS[number] if stage["by"] == "word" else f"{number:.4g}"
            where = f"{stage['by']} {sign} {shown}"
            settled = count(stage["settled"][choice["settle"]]) if part["source"] is None else DASH
            yield (
                name(stage["name"]), _source(stage, part), choice["settle"], percent(choice["alpha"]),
                where, count(step["pairs"]), count(step["errors"]),
                percent(step["upper"]), settled,
            )  # fmt: skip


def _refusals(stages: Sequence[Json]) -> Iterator[Text]:
    """Yield why there is no promise, where there is none."""
    for stage in stages:
        if stage["by"] is not None and not stage["parts"]:
            told = Markup("No promise by {}, which settles nothing: {}.")
            yield Text(told.format(name(stage["name"]), name(stage["why"], longest=300)), "note")
    for stage, part, choice in _choices(stages):
        if choice["chosen"] is None:
            told = Markup("No promise for “{}” by {}, of source {}: {}.").format(
                choice["settle"], name(stage["name"]), _source(stage, part), name(choice["why"], longest=300)
            )
            yield Text(told, "note")


def _choices(stages: Sequence[Json]) -> Iterator[tuple[Json, Json, Json]]:
    for stage in stages:
        for part in stage["parts"]:
            for choice in part["choices"]:
                yield stage, part, choice


def _source(stage: Json, part: Json) -> Cell:
    if part["source"] is not None:
        return name(part["source"])
    return "all others" if len(stage["parts"]) > 1 else "any"


def _curves(stages: Sequence[Json]) -> Iterator[Plot]:
    for stage in stages:
        found = stage.get("reliability") or {}
        for when, what in (("before", "as the judge says"), ("after", f"recalibrated, {found.get('method', '')}")):
            figures = found.get(when)
            if not figures:
                continue
            bins = [
                Bin(each["low"], each["high"], each["pairs"], each["predicted"], each["observed"],
                    each["observed_low"], each["observed_high"])
                for each in figures["bins"]
            ]  # fmt: skip
            rows = tuple(
                (f"{each.low:.1f} to {each.high:.1f}", count(each.pairs), f"{each.mean:.3f}",
                 share({"value": each.share, "low": each.share_low, "high": each.share_high}))
                for each in bins
            )  # fmt: skip
            heads = ("predicted", "pairs", "mean", "people say relevant (95 % interval)")
            title = Markup("{}, {}: Brier score {:.3f}, calibration error {:.3f}").format(
                name(stage["name"]), what, figures["brier"], figures["ece"]
            )
            label = "; ".join(f"at {each.mean:.2f}: {percent(each.share)} of {each.pairs:,}" for each in bins)
            svg = reliability(bins, "probability of relevant", "people say relevant", diagonal=True)
            table = Table(heads, rows, words=1, folded="The figures")
            yield Plot(svg, title, f"Reliability diagram of {short(stage['name'])}, {what}. {label}", table)
