"""What people see of calibration, samples, estimates and comparisons."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from rich.box import SIMPLE_HEAD
from rich.console import Console
from rich.table import Table

from relabel.auditing import ESTIMATES, Estimated, Sampled
from relabel.screen import as_text, percent, put_line
from relabel.serving import Serving

# -- calibrate ---------------------------------------------------------------------------------------------


# -- audit serve -------------------------------------------------------------------------------------------


def serving(console: Console, page: Serving) -> None:
    """Show where the page is; the address is the key to it."""
    put_line(console, f"{page.pairs:,} {'pair' if page.pairs == 1 else 'pairs'} to label")
    for name, done in page.labelled.items():
        put_line(console, f"  {name}: {done:,} labelled")
    put_line(console, "open on this machine, and keep to yourself: ", as_text(page.address, "bold"))
    put_line(console, "Ctrl-C ends the page; nothing is lost by it")


def served(console: Console, run: Path) -> None:
    """Show what to type when the page was ended."""
    put_line(console, f"\nended; all labels are in the run. next: relabel apply {run}")


# -- audit sample, audit estimate --------------------------------------------------------------------------


def sampled(console: Console, done: Sampled, run: Path, output: Path) -> None:
    """Show what was drawn, and what to expect of its labels."""
    put_line(
        console,
        f"sample {done.name}: {done.pairs:,} of {done.of:,} pairs, of {done.queries:,} queries;"
        f" {done.labelled:,} have a label, {done.listed:,} are listed: {output}",
    )
    if len(done.strata) > 1:
        table = Table(box=SIMPLE_HEAD, pad_edge=False)
        unit = "queries" if done.design.unit == "query" else "pairs"
        table.add_column("stratum", overflow="fold")
        table.add_column(unit, justify="right")
        table.add_column("drawn", justify="right")
        for stratum, (size, drawn) in done.strata.items():
            table.add_row(as_text(stratum), f"{size:,}", f"{drawn:,}")
        console.print(table)
    wide = ", ".join(f"± {percent(half)} with {labels:,} labels" for labels, half in done.projected)
    put_line(console, f"false-negative rate to expect (if people agree with the judges as these let expect): {wide}")
    put_line(console, "fill in human_label (relevant, partial, irrelevant) from the top; stop where you like")
    put_line(console, f"then: relabel audit import {run} {output} · relabel audit estimate {run}")


def estimated(console: Console, done: Estimated, run: Path) -> None:
    """Show every figure with what it rests on."""
    if done.sample:
        put_line(
            console, f"sample {done.sample} ({_design(done.design)}): {done.labels:,} labels, {done.pairs:,} pairs"
        )
    else:
        put_line(console, f"{done.labels:,} labels of {done.pairs:,} pairs, no sample")
    for note in done.notes:
        put_line(console, f"note: {note}")
    table = Table(box=SIMPLE_HEAD, pad_edge=False)
    table.add_column("figure", overflow="fold", min_width=20)
    for column in ("value", "95 %", "like queries", "labels", "queries"):
        table.add_column(column, justify="right", overflow="fold")
    for each in done.figures:
        intervals = [_between(each.low, each.high), _between(each.low_queries, each.high_queries)]
        table.add_row(as_text(each.name), percent(each.value), *intervals, f"{each.n:,}", f"{each.clusters:,}")
    console.print(table)
    console.print(
        "95 %: interval for this data set, by the design. Like queries: the same for other queries of the same kind, by"
        " how much queries differ. Labels and queries: those that the figure rests on.",
        style="dim",
    )
    put_line(console, f"with methods and notes: {run / ESTIMATES}")


def _between(low: float | None, high: float | None) -> str:
    return "–" if low is None or high is None else f"{100 * low:.1f}–{100 * high:.1f}"


def _design(design: Mapping[str, Any]) -> str:
    parts = [design["kind"], f"by {design['unit']}", *design.get("strata", ())]
    parts += [design[name] for name in ("allocation", "prefer") if name in design]
    return ", ".join([*parts, f"seed {design['seed']}"])


# -- prompts compare, diagnose -----------------------------------------------------------------------------
