"""What people see in a terminal: tables, findings side by side, progress. Nothing here decides anything.

Data is shown as it is and never obeyed: no markup of rich in it means anything, and whatever a terminal would act on is
spelled out (`printable`).
"""

import sys
import threading
from collections import Counter
from collections.abc import Callable, Iterable, Mapping, Sequence
from types import TracebackType
from typing import Any, Final, Self

from rich.box import SIMPLE_HEAD
from rich.console import Console, Group, RenderableType
from rich.panel import Panel
from rich.progress import (
    BarColumn,
    Progress,
    ProgressColumn,
    SpinnerColumn,
    Task,
    TaskID,
    TextColumn,
    TimeElapsedColumn,
    TimeRemainingColumn,
)
from rich.table import Table
from rich.text import Text

from relabel.building import Opened
from relabel.explaining import NAME as REASONS
from relabel.money import dollars
from relabel.pipeline import Summary
from relabel.records import Finding, Judgment, Passage
from relabel.refill import NAME as REFILL
from relabel.runs import Flip
from relabel.sources import Survey
from relabel.spelling import spelled

EXCERPT: Final = 420
_COLOURS: Final = {
    "relevant": "green",
    "partial": "yellow",
    "irrelevant": "dim",
    "false negative": "bold green",
    "true negative": "dim",
    "undecided": "magenta",
    "void": "dim",
}


def printable(data: object) -> str:
    r"""Return data as text that a terminal shows and does not act on: ESC becomes the characters \x1b, and so on."""
    return spelled(str(data).replace("\r\n", "\n"))


def as_text(data: object, style: str = "") -> Text:
    """Return data as text that a terminal shows and does not act on."""
    return Text(printable(data), style=style)


def put_line(console: Console, *parts: str | Text) -> None:
    """Print a line that the terminal may wrap; nothing cuts or folds it, so that a path can be copied."""
    console.print(Text.assemble(*[part if isinstance(part, Text) else as_text(part) for part in parts]), soft_wrap=True)


def open_console(*, stderr: bool = False, quiet: bool = False) -> Console:
    """Open the terminal for data: text in square brackets or between colons is nothing but text."""
    return Console(stderr=stderr, quiet=quiet, markup=False, emoji=False, highlight=False)


def _open_ended(stage: str) -> bool:
    """Whether nobody knows how many pairs there will be."""
    return stage.startswith(REFILL) or stage.endswith(REASONS)


class Bars:
    """Progress of a run: one bar for each stage, with rate, cost so far and time left."""

    def __init__(self, console: Console) -> None:
        self._progress = Progress(
            SpinnerColumn(),
            TextColumn("{task.description}", markup=False),
            BarColumn(bar_width=24),
            TextColumn("{task.completed:,.0f}/{task.total:,.0f} pairs"),
            _Note(self._note),
            TimeElapsedColumn(),
            TimeRemainingColumn(),
            console=console,
            transient=True,
        )
        self._console = console
        self._lock = threading.Lock()
        self._tasks: dict[str, TaskID] = {}
        self._asked: dict[str, int] = {}
        self._total = 0
        self._totals: dict[str, int] = {}
        self._opened: dict[str, Opened] = {}

    def __enter__(self) -> Self:
        self._progress.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._progress.stop()

    def begin(self, seen: Survey, opened: Sequence[Opened]) -> None:
        """Take in what there is to do."""
        self._total = seen.pairs
        self._opened = {each.name: each for each in opened}
        rejected = f", {seen.rejected:,} rows rejected" if seen.rejected else ""
        put_line(self._console, f"{seen.rows:,} rows, {seen.pairs:,} pairs to judge{rejected}")
        for each in opened:
            engine = each.provenance.get("engine", {})
            if engine.get("engine") == "vllm":
                put_line(self._console, f"{each.name}: {engine['model']} in vLLM, which takes a while to load")
            if each.engine is not None and "batches" in each.engine.report():
                put_line(self._console, f"{each.name}: asks by batches; Ctrl-C or --detach leaves them under way")
                self.watch(each.name, 0, 0)  # a bar, before anything comes back
        if seen.pool is not None:
            put_line(self._console, f"rows left below min_negatives are refilled from {seen.pool}")
        if seen.replaces is not None:
            told = f"this folder holds the results of {seen.replaces}: they are replaced, its judgments are kept"
            self.say(f"{told} (another folder: -o)")
        if seen.unused_pool is not None:
            told = f"mined candidates lie beside the input; --pool {seen.unused_pool} refills rows left below"
            put_line(self._console, f"{told} min_negatives from them")

    def say(self, line: str) -> None:
        """Print a line above the bars, or where there are none."""
        if self._console.quiet:
            print(line, file=sys.__stderr__, flush=True)  # a quiet console would swallow it
        else:
            put_line(self._console, line)

    def watch(self, stage: str, asked: int, passed: int) -> None:
        """Move a stage's bar on; called from the stages' threads."""
        with self._lock:
            task = self._tasks.get(stage)
            if task is None:
                shown = printable(stage).replace("\n", " ")
                self._totals[stage] = 0 if _open_ended(stage) else self._total
                task = self._tasks[stage] = self._progress.add_task(shown, total=self._totals[stage], stage=stage)
            self._asked[stage] = self._asked.get(stage, 0) + asked
            if _open_ended(stage):
                self._totals[stage] += passed
        self._progress.update(task, advance=passed, total=self._totals[stage])

    def _note(self, task: Task) -> str:
        stage: str = task.fields["stage"]
        rate = f"{task.speed:,.0f}/s" if task.speed else ""
        opened = self._opened.get(stage)
        if opened is None or opened.engine is None:
            return rate
        spent = opened.spending()
        usd = spent["usd"]
        money = "" if not usd else f"  ${usd:,.2f}"
        return f"{rate}  {self._asked.get(stage, 0):,} asked{money}{under_way(spent.get('engine', {}))}"


class _Note(ProgressColumn):
    """What there is to say of a stage; looked up whenever the bars are drawn, as batches move on without a pair."""

    def __init__(self, note: Callable[[Task], str]) -> None:
        super().__init__()
        self._note = note

    def render(self, task: Task) -> Text:
        """Return the words for one bar."""
        return as_text(self._note(task))


def under_way(told: Mapping[str, Any]) -> str:
    """Say how many batches an engine waits for, and how far these are; "" where it waits for none."""
    batches = [batch for batch in told.get("batches", ()) if not batch["taken_in"]]
    if not batches:
        return ""
    done = sum(batch["completed"] + batch["failed"] for batch in batches)
    many = "1 batch" if len(batches) == 1 else f"{len(batches):,} batches"
    return f"  {many} under way, {done:,}/{sum(batch['requests'] for batch in batches):,} requests"


def summary(console: Console, done: Summary, *, after: str = "") -> None:
    """Show the end of a run: the most certain false negatives, the accounting, the files."""
    if done.certain:
        console.print(
            Text(
                f"\nThe {len(done.certain)} most certain false negatives, of each kind of evidence in turn",
                style="bold",
            )
        )
        for finding in done.certain:
            console.print(_finding(finding, limit=EXCERPT))
    accounting(console, done.statistics)
    reckoning(console, done.spending, done.bill)
    if done.windowed:
        put_line(
            console,
            f"          {done.windowed:,} texts longer than the model reads, judged by their best window",
        )
    console.print()
    _files(console, done)
    if after:
        put_line(console, as_text(after, "bold"))


def life(console: Console, findings: Sequence[Finding]) -> None:
    """Show pairs in full: query, known positive, candidate, and every judge's word."""
    for finding in findings:
        console.print(_finding(finding, limit=None))


def flips(console: Console, found: Sequence[Flip], *, before: object, after: object) -> None:
    """Show the pairs on which two runs differ."""
    put_line(console, f"before  {before}")
    put_line(console, f"after   {after}")
    table = Table(box=SIMPLE_HEAD, pad_edge=False)
    for column in ("query", "candidate", "before", "after"):
        table.add_column(column, overflow="fold")
    for flip in found:
        query = f"{flip.after.example.query[:EXCERPT]} ({flip.after.example.id})"
        words = [_verdict(finding) for finding in (flip.before, flip.after)]
        table.add_row(as_text(query), as_text(flip.after.candidate.id), *words)
    console.print(table)
    kinds = Counter(f"{flip.before.verdict.outcome} → {flip.after.verdict.outcome}" for flip in found)
    shown = ", ".join(f"{count:,} {kind}" for kind, count in kinds.most_common())
    put_line(console, f"{len(found):,} verdicts flip{': ' if found else ''}{shown}")


def _verdict(finding: Finding) -> Text:
    by = f" ({finding.verdict.stage})" if finding.verdict.stage else f" ({finding.verdict.evidence})"
    return as_text(finding.verdict.outcome + by, _COLOURS.get(finding.verdict.outcome, ""))


def _finding(finding: Finding, *, limit: int | None) -> RenderableType:
    table = Table(box=SIMPLE_HEAD, expand=True, pad_edge=False, show_edge=False)
    table.add_column("query", ratio=2)
    table.add_column("known positive", ratio=4)
    table.add_column(as_text(f"candidate {finding.candidate.id}"), ratio=4)
    reference: Passage | None = finding.reference[0] if finding.reference else None
    more = len(finding.reference) - 1
    known = _passage(reference, limit) if reference else Text("none")
    if more > 0:
        known.append(f"\n(and {more} more)", style="dim")
    table.add_row(as_text(finding.example.query), known, _passage(finding.candidate, limit))
    return Panel(Group(table, _words(finding)), title=_title(finding), title_align="left", border_style="dim")


def _title(finding: Finding) -> Text:
    verdict = finding.verdict
    title = Text(verdict.outcome, style=_COLOURS.get(verdict.outcome, ""))
    by = f" by {verdict.stage}" if verdict.stage else ""
    title.append(as_text(f"{by} → {finding.action}", "default"))
    source = f" · {finding.example.source}" if finding.example.source else ""
    return title.append(as_text(f" · {finding.example.id}{source}", "dim"))


def _passage(passage: Passage, limit: int | None) -> Text:
    text = Text()
    if passage.title:
        text.append(as_text(passage.title + "\n", "bold"))
    body = passage.text
    if limit is not None and len(body) > limit:
        return text.append(as_text(body[:limit].rsplit(" ", 1)[0] + " …"))
    return text.append(as_text(body))


def _words(finding: Finding) -> Text:
    line = Text()
    for stage, word in finding.words.items():
        line.append("   " if line else "").append(as_text(f"{stage} ", "bold")).append(_said(word))
    for reviewer, label in finding.people.items():
        line.append("   ").append(as_text(f"{reviewer} ", "bold")).append(label)
    if finding.verdict.contradicted:
        line.append(as_text(f"   contradicted by {finding.verdict.contradicted}", "magenta"))
    return line


def _said(word: Judgment) -> Text:
    text = as_text(word.label or f"no word ({word.reason})", _COLOURS.get(word.label or "undecided", ""))
    details = [
        f"p = {word.probability:.2f}" if word.probability is not None else "",
        f"score {word.score:.2f}" if word.score is not None else "",
        word.evidence,
        word.rationale,
    ]
    told = ", ".join(detail for detail in details if detail)
    return text.append(as_text(f" ({told})" if told else "", "default"))


def accounting(console: Console, statistics: Mapping[str, Any]) -> None:
    """Show the three lines that must add up."""
    table = Table(box=SIMPLE_HEAD, pad_edge=False)
    for column in ("stage", "asked", "relevant", "partial", "irrelevant", "none"):
        figure = column not in ("stage", "none")
        table.add_column(column, justify="right" if figure else "left", no_wrap=figure, overflow="fold")
    for stage in statistics["stages"]:
        for name, part in ((stage["name"], stage), ("  second opinions", stage["second_opinions"])):
            if part["asked"] or part is stage:
                none = "\n".join(f"{count:,} {reason}" for reason, count in part["none"].items())
                counts = [f"{part[key]:,}" for key in ("asked", "relevant", "partial", "irrelevant")]
                table.add_row(as_text(name), *counts, as_text(none or "0"))
    console.print(table)
    for stage in statistics["stages"]:
        if short := stage.get("shortened", 0) + stage["second_opinions"].get("shortened", 0):
            put_line(
                console, f"{stage['name']:9} {short:,} pairs were shown shortened: the model does not read the whole"
            )
        if failed := stage["none"].get("failed", 0) + stage["second_opinions"]["none"].get("failed", 0):
            told = (
                f"{failed:,} pairs have no word, as the service failed: relabel run, typed again, asks them once more"
            )
            put_line(console, f"{stage['name']:9} {told}")
    rows, passages, verdicts = statistics["rows"], statistics["passages"], statistics["verdicts"]
    lines = (
        ("verdicts", f"{sum(verdicts.values()):,} pairs", verdicts),
        ("passages", f"{passages['in']:,} negatives in", {k: v for k, v in passages.items() if k != "in"}),
        (
            "rows",
            f"{rows['in']:,} in",
            {key: rows[key] for key in ("written", "removed", "rejected")},
        ),
    )
    for name, total, parts in lines:
        shown = " + ".join(f"{count:,} {key.replace('_', ' ')}" for key, count in parts.items())
        put_line(console, f"{name:9} {total} = {shown}")
    _notes(console, statistics)


def _notes(console: Console, statistics: Mapping[str, Any]) -> None:
    """Show what is remarkable about the rows."""
    rows = statistics["rows"]
    if "refill" in statistics:
        _refill(console, statistics["refill"])
    if rows["below_min_negatives"]:
        put_line(console, f"          rows left below min_negatives: {rows['below_min_negatives']:,}")
    if rows["scattered"]:
        put_line(
            console,
            f"          queries that come back later in the file: {rows['scattered']:,}; intervals take them for others"
            " and come out too narrow: sort the rows by query",
        )


def _refill(console: Console, figures: Mapping[str, Any]) -> None:
    """Show how many rows were short, and what the pool gave."""
    rows, candidates = figures["rows"], figures["candidates"]
    shown = " + ".join(f"{rows[name]:,} {name}" for name in ("filled", "partly", "unfilled"))
    unknown = f" (of {rows['not_in_the_pool']:,} the pool lacks the query)" if rows["not_in_the_pool"] else ""
    put_line(console, f"refill    {rows['short']:,} rows short = {shown}{unknown}")
    fates = {name.replace("_", " "): number for name, number in candidates.items() if name != "looked_at"}
    shown = " + ".join(f"{number:,} {name}" for name, number in fates.items())
    put_line(console, f"          {candidates['looked_at']:,} candidates = {shown}")
    if candidates["not_asked"]:
        put_line(console, "          candidates that nobody was asked about: the same relabel run again asks")


def reckoning(console: Console, spent: Mapping[str, Mapping[str, Any]], bill: Mapping[str, Any]) -> None:
    """Show what was asked and paid: now, in all executions, beside the last model alone."""
    if not bill:
        return
    table = Table(box=SIMPLE_HEAD, pad_edge=False)
    heads = ("stage", "pairs", "requests", "stored", "tokens in", "cached", "out", "$ now", "$ in all")
    for column in heads:
        figure = column != "stage"
        table.add_column(column, justify="right" if figure else "left", no_wrap=figure, overflow="fold")
    for stage in bill["stages"]:
        now = spent[stage["stage"]]
        counts = [stage["pairs"], now["asked"], now["from_store"], *[stage[name] for name in _TOKENS]]
        table.add_row(
            as_text(stage["stage"]), *[f"{count:,}" for count in counts], _usd(now["usd"]), _usd(stage["usd"])
        )
    alone = bill["alone"]
    if alone is not None and (len(bill["stages"]) > 1 or alone["pairs"] > alone["of_pairs"]):
        counts = [f"{alone[name]:,}" for name in _TOKENS]
        title = f"{alone['stage']} alone, estimate"
        table.add_row(as_text(title), f"{alone['pairs']:,}", "", "", *counts, "", _usd(alone["usd"]), style="dim")
    console.print(table)
    put_line(
        console,
        as_text("requests, stored and $ now are of this execution; pairs, tokens and $ in all of all together", "dim"),
    )
    _paid(console, bill)


_TOKENS: Final = ("tokens_in", "tokens_cached", "tokens_out")


def _paid(console: Console, bill: Mapping[str, Any]) -> None:
    """Show the price of a pair and a label, the estimate beside what came, and what is not certain."""
    if bill["usd"]:
        each = [
            f"{_usd(bill[name])} per {what}"
            for name, what in (("usd_per_judged_pair", "judged pair"), ("usd_per_changed_label", "changed label"))
            if bill[name] is not None
        ]
        put_line(console, f"paid      {_usd(bill['usd'])} in all: {', '.join(each)}")
    for stage in bill["stages"]:
        estimate, actual = stage["estimate"], stage["estimate"]["actual"]
        if estimate["tokens_in"]:
            shown = [f"{told['tokens_in']:,} + {told['tokens_out']:,} tokens" for told in (estimate, actual)]
            money = f", {_usd(estimate['usd'])} → {_usd(actual['usd'])}" if estimate["usd"] else ""
            put_line(console, f"{stage['stage']:9} estimated {shown[0]}, counted {shown[1]}{money}")
    unsure(console, (*bill["stages"], *bill["others"]))


def unsure(console: Console, bills: Iterable[Mapping[str, Any]]) -> None:
    """Show what was paid, or perhaps was, and is not in the dollars: of each stage by itself."""
    for stage in bills:
        uncounted, lost, name = stage["without_usage"], stage["possibly_billed"], stage["stage"]
        if uncounted["replies"] and uncounted["usd"]:
            told = f"{uncounted['replies']:,} replies without a count of tokens, about {_usd(uncounted['usd'])}"
            put_line(console, f"{name:9} {told}, not in the figures above")
        if lost["requests"]:
            told = f"{lost['requests']:,} requests were sent and brought no answer: possibly billed"
            about = _usd(lost["usd"]) if lost["usd"] else f"{lost['tokens']:,} tokens"
            put_line(console, f"{name:9} {told}, about {about}, not in the figures above")
        if stage["paid_and_not_kept"]:
            put_line(console, f"{name:9} {stage['paid_and_not_kept']:,} paid replies held nothing and were not kept")


def _usd(money: float | None) -> str:
    return "unknown" if money is None else dollars(money)


def _files(console: Console, done: Summary) -> None:
    purposes = {
        "cleaned": "the training set",
        "flagged": "pairs that a person should look at",
        "changes": "the ledger: every change, undoable",
        "rejects": "rows that could not be read",
        "below": "rows left with fewer negatives than min_negatives",
        "labelled": "your labels in the flagged.csv before: relabel audit import takes them in",
        "statistics": "every figure",
    }
    rows = done.statistics["rows"]
    empty = {name for name, count in (("rejects", "rejected"), ("below", "below_min_negatives")) if not rows[count]}
    shown = {name: as_text(path, "bold") for name, path in done.files.items() if name not in empty}
    width = max(path.cell_len for path in shown.values())
    for name, path in shown.items():
        put_line(console, path, " " * (width - path.cell_len + 2), as_text(purposes[name], "dim"))


def percent(value: float | None) -> str:
    """Show a share in [0, 1]."""
    return "–" if value is None else f"{100 * value:.1f} %"


def interval(figure: Mapping[str, Any], show: Callable[[float | None], str]) -> str:
    """Show the interval of a figure."""
    return "–" if figure["low"] is None else f"{show(figure['low'])} to {show(figure['high'])}"


def messages(console: Console, prompt: Sequence[Any], *, title: str) -> None:
    """Show a rendered prompt."""
    for message in prompt:
        console.print(Panel(as_text(message.content), title=as_text(f"{title}: {message.role}"), title_align="left"))
