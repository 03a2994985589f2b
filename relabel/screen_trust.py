"""What people see of calibration, samples, estimates and comparisons."""

from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from rich.box import SIMPLE_HEAD
from rich.console import Console
from rich.table import Table

from relabel.calibrating import Calibration, StageResult
from relabel.calibration import Choice, Part
from relabel.records import LABELS
from relabel.screen import as_text, percent, put_line

# -- calibrate ---------------------------------------------------------------------------------------------


def calibration(console: Console, done: Calibration, run: Path) -> None:
    """Show which thresholds were chosen, what they rest on, what they settle, and what is left."""
    where = done.where or "the run"
    divided = f"; {done.divided:,} more pairs on which people are divided are left out" if done.divided else ""
    put_line(console, f"{done.labels:,} labelled pairs of {done.queries:,} queries, from {where}{divided}")
    sure = f"{1 - done.targets.delta:.0%}"
    held = f"all promises together hold with {sure}" if done.targets.jointly else f"each by itself holds with {sure}"
    put_line(console, f"promises: {held}, if labels were drawn by the same chance for all queries")
    for stage in done.stages:
        _stage(console, stage, done)
    covered = done.coverage
    put_line(
        console,
        f"of {covered.pairs:,} pairs {covered.people:,} ({percent(_share(covered.people, covered.pairs))}) are left to"
        " people: no stage may settle them",
    )
    put_line(console)
    if not done.promises:
        put_line(console, as_text("no promise can be made with these labels", "bold"))
    for name, path in done.files.items():
        purpose = "the cascade with these thresholds" if name == "config" else "every test, and reliability"
        put_line(console, as_text(path, "bold"), "  ", as_text(purpose, "dim"))
    put_line(console, as_text(f"next: relabel apply {run} -c {done.files['config']}", "bold"))


def _stage(console: Console, stage: StageResult, done: Calibration) -> None:
    """Show one stage."""
    put_line(console)
    if stage.parts is None:
        put_line(console, as_text(stage.name, "bold"), f" as it was: {stage.why}")
    else:
        put_line(
            console, as_text(stage.name, "bold"), f" by its {stage.by}: {stage.left:,} labelled pairs are left to it"
        )
        if stage.lacking:
            put_line(console, f"  {stage.lacking:,} more without its {stage.by}: not asked in this run, or no word")
        parts = (*stage.parts.own, stage.parts.rest) if stage.parts.rest.choices else stage.parts.own
        console.print(_choices(parts))
        for line in _notes(stage, parts):
            put_line(console, f"  {line}")
    settled = {label: done.coverage.settled.get((stage.name, label), 0) for label in LABELS}
    shown = ", ".join(f"{count:,} {label}" for label, count in settled.items())
    share = percent(_share(sum(settled.values()), done.coverage.pairs))
    put_line(console, f"  settles {share} of all pairs: {shown}")
    if unasked := done.coverage.unasked.get(stage.name, 0):
        put_line(console, f"  {unasked:,} pairs come to it that it was not asked about: relabel run asks it")
    if stage.reliability:
        put_line(console, f"  {_reliability(stage.reliability)}")


def _choices(parts: tuple[Part, ...]) -> Table:
    table = Table(box=SIMPLE_HEAD, pad_edge=False)
    apart = len(parts) > 1
    for column in ("settles", *(["source"] if apart else []), "from", "errors", "queries", "at most", "by pairs", "α"):
        left = column in ("settles", "source")
        table.add_column(column, justify="left" if left else "right", no_wrap=column != "source", overflow="fold")
    for part in parts:
        source = [as_text("others" if part.source is None else part.source or "none")] if apart else []
        for choice in part.choices:
            promise, step = choice.promise, choice.chosen
            cells = ["none", f"– of {choice.pairs:,}", f"{choice.queries:,}", "–", "–"]
            if step is not None:
                cells = [
                    f"{'≤' if promise.settle == 'irrelevant' else '≥'} {step.threshold:.4g}",
                    f"{step.errors:,} of {step.pairs:,}",
                    f"{step.queries:,}",
                    percent(step.upper),
                    percent(step.upper_over_pairs),
                ]
            table.add_row(promise.settle, *source, *cells, percent(promise.alpha))
    return table


def _notes(stage: StageResult, parts: tuple[Part, ...]) -> Iterator[str]:
    """Say why promises are missing, what more labels would buy, and which sources stand together."""
    if stage.parts is not None and stage.parts.own and stage.parts.pooled:
        names = ", ".join(name or "none" for name in stage.parts.pooled)
        yield f"others, with too few labels of their own, calibrated together: {names}"
    for part in parts:
        of = f" of {part.source or 'none'}" if part.source is not None else ""
        for choice in part.choices:
            if choice.why:
                yield f"{choice.promise.settle}{of}: no promise: {choice.why}"
            if choice.chosen and choice.chosen.pairs == choice.pairs:
                yield f"{choice.promise.settle}{of}: holds even if all that comes is settled so: a strict α says more"
            if projection := _projection(choice):
                yield f"{choice.promise.settle}{of}: {projection}"


def _projection(choice: Choice) -> str:
    """Say what more labels would buy, if error rates stay as they are."""
    known = choice.chosen.pairs if choice.chosen else 0
    better = [step for step in choice.steps if step.more and step.pairs > known]
    if not better:
        return ""
    best = max(better, key=lambda step: step.pairs)
    first = min(better, key=lambda step: (step.more or 0, -step.pairs))
    told = [
        f"about {step.more:,} labels more would let {percent(_share(step.pairs, choice.pairs))} be settled so"
        for step in dict.fromkeys((first, best))
    ]
    return f"now {percent(_share(known, choice.pairs))} of what comes; projected, if rates stay: {'; '.join(told)}"


def _reliability(figures: Mapping[str, Any]) -> str:
    """Show what recalibration does to a number."""
    after, before = figures["after"], figures["before"]
    was = f", before {before['brier']:.3f} and {before['ece']:.3f}" if before else ""
    return (
        f"as a probability ({figures['method']}, {figures['pairs']:,} pairs of {figures['queries']:,} queries,"
        f" cross-validated by query): Brier score {after['brier']:.3f}, calibration error {after['ece']:.3f}{was}"
    )


def _share(part: int, whole: int) -> float | None:
    return part / whole if whole else None


# -- audit sample, audit estimate --------------------------------------------------------------------------


# -- prompts compare, diagnose -----------------------------------------------------------------------------
