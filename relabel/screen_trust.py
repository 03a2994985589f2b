"""What people see of calibration, samples, estimates and comparisons."""

from collections.abc import Callable, Iterator, Mapping
from itertools import groupby
from pathlib import Path
from typing import Any, Final

from rich.box import SIMPLE_HEAD
from rich.console import Console
from rich.table import Table

from relabel.asking import Rehearsed
from relabel.auditing import ESTIMATES, Estimated, Sampled
from relabel.calibration import Choice, Part
from relabel.comparing import Comparison, PromptFlip
from relabel.diagnosing import Diagnosis
from relabel.diagnostics import COMPARED, Diagnostic
from relabel.errors import typed
from relabel.interview import Bill
from relabel.promised import Calibration, Coverage, StageResult
from relabel.records import LABELS
from relabel.screen import as_text, interval, open_console, percent, put_line
from relabel.serving import Serving

# -- calibrate ---------------------------------------------------------------------------------------------


def calibration(console: Console, done: Calibration, run: Path) -> None:
    """Show which thresholds were chosen, what they rest on, what they settle, and what is left."""
    where = done.where or "the run"
    divided = f"; {done.divided:,} more pairs on which people are divided are left out" if done.divided else ""
    put_line(console, f"{done.labels:,} labelled pairs of {done.queries:,} queries, from {where}{divided}")
    sure = f"{100 * (1 - done.targets.delta):.5g}%"
    held = f"all promises together hold with {sure}" if done.targets.jointly else f"each by itself holds with {sure}"
    put_line(console, as_text(done.basis.basis, "bold" if done.basis.chosen else ""))
    put_line(console, f"promises: {held}")
    for stage in done.stages:
        _stage(console, stage, done)
    covered = done.coverage
    waiting = sum(covered.unasked.values())
    put_line(
        console,
        f"of {covered.pairs:,} pairs {covered.people:,} ({percent(_share(covered.people, covered.pairs))}) are left to"
        " people: no stage may settle them"
        + (f"; {waiting:,} come to a stage that was not asked: relabel run asks it" if waiting else ""),
    )
    console.print(_outcomes(covered))
    if not done.promises:
        none = "NO PROMISE can be made: under the config that was written no judge settles anything"
        put_line(console, as_text(none, "bold"))
    for name, path in done.files.items():
        purpose = "the cascade with these thresholds" if name == "config" else "every test, and reliability"
        put_line(console, as_text(path, "bold"), "  ", as_text(purpose, "dim"))
    put_line(console, as_text(f"next: {_next(done, run)}", "bold"))


def _outcomes(covered: Coverage) -> Table:
    """Lay what the thresholds make of all pairs beside what the run made; of those labelled, the relevant ones."""
    table = Table(box=SIMPLE_HEAD, pad_edge=False)
    for column in ("verdict", "as run", "relevant / labelled", "with these", "relevant / labelled"):
        table.add_column(column, justify="left" if column == "verdict" else "right")
    for outcome in ("false negative", "partial", "true negative", "undecided"):
        cells = []
        for each in (covered.before.get(outcome, {}), covered.after.get(outcome, {})):
            cells += [f"{each.get('pairs', 0):,}", f"{each.get('relevant', 0):,} / {each.get('labelled', 0):,}"]
        table.add_row(outcome, *cells)
    return table


def _next(done: Calibration, run: Path) -> str:
    """Say what to type."""
    config = done.files["config"]
    if any(stage.unasked for stage in done.stages):
        return f"{typed('run', done.source, '-c', config, '-o', run)}, then {typed('calibrate', run)} again"
    if not done.promises and done.coverage.pairs <= done.labels:
        return "a looser α, or another judge: every pair has a label"
    if not done.promises:
        return f"more labels: {typed('audit', 'sample', run, '-o', 'sample.csv', '--design', 'random')}"
    return typed("apply", run, "-c", config)


def _stage(console: Console, stage: StageResult, done: Calibration) -> None:
    """Show one stage."""
    put_line(console)
    if stage.parts is None:
        what = "as it was" if stage.by is None else "settles nothing, no promise"
        put_line(console, as_text(stage.name, "bold"), f" {what}: {stage.why}")
    else:
        put_line(
            console, as_text(stage.name, "bold"), f" by its {stage.by}: {stage.left:,} labelled pairs are left to it"
        )
        if stage.lacking:
            put_line(console, f"  {stage.lacking:,} more without its {stage.by}: no answer that can be used")
        parts = (*stage.parts.own, stage.parts.rest) if stage.parts.rest.choices else stage.parts.own
        console.print(_choices(parts))
        for line in _notes(stage, parts, done.coverage.pairs - done.labels):
            put_line(console, f"  {line}")
    settled = {label: done.coverage.settled.get((stage.name, label), 0) for label in LABELS}
    shown = ", ".join(f"{count:,} {label}" for label, count in settled.items())
    share = percent(_share(sum(settled.values()), done.coverage.pairs))
    put_line(console, f"  settles {share} of all pairs: {shown}")
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


def _notes(stage: StageResult, parts: tuple[Part, ...], spare: int) -> Iterator[str]:
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
                yield (
                    f"{choice.promise.settle}{of}: WARNING: α is so loose that all that comes may be settled so,"
                    " whatever the judge says. Choose a stricter one"
                )
            if projection := _projection(choice, spare):
                yield f"{choice.promise.settle}{of}: {projection}"


def _projection(choice: Choice, spare: int) -> str:
    """Say what more labels would buy, if error rates stay; no more of them than pairs without one (`spare`)."""
    known = choice.chosen.pairs if choice.chosen else 0
    better = [step for step in choice.steps if step.more and step.more <= spare and step.pairs > known]
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
    put_line(console, f"\nended; all labels are in the run. next: {typed('apply', run)}")


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
    put_line(console, f"then: {typed('audit', 'import', run, output)} · {typed('audit', 'estimate', run)}")


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

_TITLES: Final = {
    "agreement": "raw agreement",
    "kappa": "Cohen's κ",
    "kappa_relevant": "κ, relevant against rest",
    "kappa_relevant_or_partial": "κ, relevant or partial against rest",
    "ac1": "Gwet's AC1",
}
_PARTS: Final = {
    "probe": "Probe: questions whose answer is known",
    "lists": "Lists: the same pairs in other company and another order",
    "swap": "Swap: the candidate as reference",
    "leaning": "Leaning: what a yes goes with",
    "repeat": "Repeat: the same prompt once more",
    "templates": "Templates: the same question in other words",
}
_SHOWN: Final = 20
_CUT: Final = 160


def begin(*, quiet: bool) -> Callable[[int, int], None]:
    """Return what says how many questions there are, before anybody is asked."""
    console = open_console(stderr=True, quiet=quiet)

    def say(ask: int, stored: int) -> None:
        put_line(console, f"{ask:,} questions to ask, {stored:,} answered before")

    return say


def rehearsed(console: Console, found: Rehearsed) -> None:
    """Show what would be asked, and what it would cost."""
    put_line(console, f"stage {found.stage}: {found.pairs:,} pairs of {found.queries:,} queries")
    table = Table(box=SIMPLE_HEAD, pad_edge=False)
    for column in ("asked", "requests", "in the store", "tokens in", "tokens out", "US $"):
        table.add_column(column, justify="left" if column == "asked" else "right", overflow="fold")
    for name, bill in found.bills.items():
        table.add_row(
            as_text(name),
            *[f"{count:,}" for count in (bill.requests, bill.answered, bill.tokens_in, bill.tokens_out)],
            _money(bill.usd),
        )
    console.print(table)
    for note in found.notes:
        put_line(console, as_text(note, "dim"))
    console.print("Tokens are estimates (characters / 4). Nothing was asked and nothing was spent.", style="dim")


def _money(usd: float | None) -> str:
    return "price unknown" if usd is None else f"{usd:,.4f}"


def comparison(console: Console, done: Comparison) -> None:
    """Show what two templates made of the same pairs."""
    before, after = done.before.template.name, done.after.template.name
    put_line(console, f"stage {done.stage}: {done.pairs:,} pairs of {done.queries:,} queries, {before} → {after}")
    console.print(_sides(done))
    agreed = done.agreement
    figures = {name: agreed.figures[name].to_json() for name in ("agreement", "kappa_relevant_or_partial", "ac1")}
    told = ", ".join(
        f"{_TITLES[name]} {_signed(each['value'])} ({interval(each, _signed)})" for name, each in figures.items()
    )
    put_line(console, f"the two agree: {told}, on {agreed.n:,} pairs that both labelled")
    _gold(console, done)
    kinds = ", ".join(f"{count:,} {kind}" for kind, count in done.kinds.items())
    put_line(console, f"\n{len(done.flips):,} labels flip{': ' if kinds else ''}{kinds}")
    if done.flips:
        console.print(_flips(done.flips[:_SHOWN]))
    if len(done.flips) > _SHOWN:
        put_line(console, as_text(f"the first {_SHOWN}; all of them:", "dim"))
    for path in done.files.values():
        put_line(console, as_text(path, "bold"))


def _sides(done: Comparison) -> Table:
    table = Table(box=SIMPLE_HEAD, pad_edge=False)
    table.add_column("")
    sides = (done.before, done.after)
    for side in sides:
        table.add_column(as_text(side.template.name), justify="right", overflow="fold")
    for label in ("relevant", "partial", "irrelevant"):
        table.add_row(label, *[f"{side.counts[label]:,}" for side in sides])
    table.add_row("no label", *[_none(side.counts["none"]) for side in sides])
    table.add_row("relevant or partial", *[_rate(side.yes) for side in sides])
    for name, row in (("requests", _requests), ("tokens in", _tokens_in), ("tokens out", _tokens_out)):
        table.add_row(name, *[row(side.bill) for side in sides])
    table.add_row("US $", *[_money(side.bill.usd) for side in sides])
    return table


def _none(reasons: Mapping[str, int]) -> Any:
    return as_text("\n".join(f"{count:,} {reason}" for reason, count in reasons.items()) or "0")


def _rate(figure: Diagnostic) -> str:
    return f"{percent(figure.value)}\n{interval(figure.to_json(), percent)}"


def _requests(bill: Bill) -> str:
    return f"{bill.requests:,}"


def _tokens_in(bill: Bill) -> str:
    return f"{bill.tokens_in:,}{_estimated(bill)}"


def _tokens_out(bill: Bill) -> str:
    return f"{bill.tokens_out:,}{_estimated(bill)}"


def _estimated(bill: Bill) -> str:
    """Say that a count of tokens is no count of the server's."""
    if not bill.estimated:
        return ""
    return " (estimate)" if bill.estimated == bill.requests else f" ({bill.estimated:,} requests estimated)"


def _gold(console: Console, done: Comparison) -> None:
    gold = done.gold
    if gold is None:
        return
    if not gold.before.n:
        put_line(console, "people: no pair has a label of both templates and of people")
        return
    title = f"Against people, on {gold.before.n:,} pairs of {gold.before.clusters:,} queries that all three labelled"
    table = Table(title=title, title_justify="left", box=SIMPLE_HEAD, pad_edge=False)
    for column in ("", done.before.template.name, done.after.template.name, "difference", "95 % interval"):
        table.add_column(as_text(column), justify="right" if column else "left", overflow="fold")
    for name in COMPARED:
        figure = gold.difference[name].to_json()
        values = [each.figures[name].value for each in (gold.before, gold.after)]
        table.add_row(
            _TITLES[name], *[_signed(value) for value in values], _signed(figure["value"]), interval(figure, _signed)
        )
    console.print(table)


def _signed(value: float | None) -> str:
    return "–" if value is None else f"{value:.2f}".replace("-", "−")


def _flips(flips: tuple[PromptFlip, ...]) -> Table:
    table = Table(box=SIMPLE_HEAD, pad_edge=False)
    for column in ("query", "candidate", "before", "after", "people"):
        table.add_column(column, overflow="fold", ratio=3 if column in ("query", "candidate") else None)
    for flip in flips:
        query, candidate = flip.case.example.query, flip.pair.candidate
        words = [word.label or word.reason for word in (flip.before, flip.after)]
        table.add_row(
            as_text(f"{query[:_CUT]} ({flip.case.example.id})"),
            as_text(f"{candidate.full_text[:_CUT]} ({candidate.id})"),
            *[as_text(word) for word in (*words, flip.gold or "–")],
        )
    return table


def diagnosis(console: Console, done: Diagnosis) -> None:
    """Show what was found out about a judge, part by part, and what could not be."""
    by = f" by {done.template}" if done.template else ""
    put_line(console, f"{done.judge}{by}: {done.pairs:,} pairs of {done.queries:,} queries")
    if done.none:
        put_line(console, "no label: " + ", ".join(f"{count:,} {reason}" for reason, count in done.none.items()))
    for part, figures in groupby(done.figures, key=lambda figure: figure.part):
        known = list(figures)
        there = [figure for figure in known if figure.value is not None]
        if there:
            console.print(_figures(_PARTS[part], there))
        lacking = [figure for figure in known if figure.value is None]
        for note, without in groupby(lacking, key=lambda figure: figure.note):
            names = "; ".join(figure.name for figure in without)
            put_line(console, as_text(f"left out of {part}: {names}\n    {note}", "dim"))
    console.print(
        "Yes = relevant or partial. Intervals: 95 %, bootstrap over queries; exact where a rate is 0 or 100 %.",
        style="dim",
    )
    put_line(console, f"{done.asked:,} questions asked, {done.from_store:,} answered before")
    put_line(console, as_text(done.files["diagnostics"], "bold"))


def _figures(title: str, figures: list[Diagnostic]) -> Table:
    table = Table(title=title, title_justify="left", box=SIMPLE_HEAD, pad_edge=False)
    for column in ("figure", "value", "95 % interval", "pairs", "queries", "how to read it"):
        table.add_column(
            column, justify="right" if column in ("value", "pairs", "queries") else "left", overflow="fold"
        )
    for figure in figures:
        show = percent if _is_share(figure.name) else _signed
        table.add_row(
            as_text(figure.name), show(figure.value), interval(figure.to_json(), show), f"{figure.of:,}",
            f"{figure.queries:,}", as_text(figure.note, "dim"),
        )  # fmt: skip
    return table


def _is_share(name: str) -> bool:
    return not name.startswith(("correlation", "κ"))
