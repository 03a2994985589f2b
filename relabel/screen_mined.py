"""What people see of choosing negatives: how far a mining is, what came of it, what filters removed."""

import threading
from collections.abc import Mapping, Sequence
from types import TracebackType
from typing import Any, Self

from rich.box import SIMPLE_HEAD
from rich.console import Console
from rich.progress import BarColumn, Progress, SpinnerColumn, TaskID, TextColumn, TimeElapsedColumn, TimeRemainingColumn
from rich.table import Table

from relabel.filtering import FilterDone
from relabel.minerun import Mined
from relabel.screen import as_text, interval, open_console, percent, put_line


class Bars:
    """Progress of a mining: one bar for each thing that takes long, with time left."""

    def __init__(self, *, quiet: bool = False) -> None:
        self._progress = Progress(
            SpinnerColumn(),
            TextColumn("{task.description}", markup=False),
            BarColumn(bar_width=24),
            TextColumn("{task.completed:,.0f}{task.fields[of]}", markup=False),
            TimeElapsedColumn(),
            TimeRemainingColumn(),
            console=open_console(stderr=True, quiet=quiet),
            transient=True,
        )
        self._lock = threading.Lock()
        self._tasks: dict[str, TaskID] = {}

    def __enter__(self) -> Self:
        self._progress.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._progress.stop()

    def progress(self, what: str, done: int, total: int) -> None:
        """Show how far something is; a total of 0 is not known."""
        with self._lock:
            if what not in self._tasks:
                of = f"/{total:,}" if total else ""
                self._tasks[what] = self._progress.add_task(what, total=total or None, of=of)
            self._progress.update(self._tasks[what], completed=done)


def mined(done: Mined, *, files: bool = True) -> None:
    """Show the report of a mining; `files` says whether they stay."""
    console = open_console()
    report = done.report
    _collection(console, report["collection"])
    console.print(_retrievers(report))
    if report["overlap"]:
        for each in report["overlap"]:
            shares = f"{percent(each['jaccard_at_10'])} of the first 10, {percent(each['jaccard_at_depth'])} of all"
            put_line(console, f"{each['first']} and {each['second']} have in common: {shares}")
    console.print(_filters(report["filters"]))
    _suspicion(console, report["false_negatives"])
    conflicts = report["conflicts"]
    if conflicts["negatives"]:
        told = f"{conflicts['negatives']:,} negatives are positives of another query, in {conflicts['rows']:,} rows"
        put_line(console, f"conflicts {told}; to drop them: the filter cross_row_positive")
    for name, recall in report["recall_of_index"].items():
        put_line(
            console, f"index     {name}: recall@10 {recall['recall_at_10']:.3f} of flat, {recall['queries']} queries"
        )
    rows = report["rows"]
    put_line(
        console,
        f"rows      {rows['rows']:,} queries = {rows['rows'] - rows['with_none']:,} rows"
        f" + {rows['with_none']:,} without a negative;"
        f" {rows['with_fewer_than_wanted'] - rows['with_none']:,} rows with fewer than wanted",
    )
    if done.changes is not None:
        _changes(console, done.changes)
    if not files:
        return
    put_line(console, f"files     {done.rows} · {done.folder / 'candidates.jsonl'} · {done.folder / 'report.json'}")
    put_line(console, f"next: relabel run {done.rows} --pool {done.folder}")


def _collection(console: Console, built: Mapping[str, Any]) -> None:
    extra = f" + {built['outside']:,} positives from elsewhere" if built["outside"] else ""
    put_line(
        console,
        f"corpus    {built['documents']:,} passages{extra}; {built['queries']:,} queries,"
        f" {built['positives']:,} positives" + (", as it was read before" if built["reused"] else ""),
    )
    left_out = {
        "ids of equal texts": built["aliases"],
        "repeated rows": built["repeated"],
        "empty": built["empty"],
        "queries of equal text": built["joined"],
        "queries without a positive": built["unanswered"],
        "judged relevant below the threshold, spared": built["spared"],
        "rows that could not be read": built["rejected"],
        **{f"lines with unknown {kind}": each["lines"] for kind, each in built["unknown"].items()},
    }
    told = ", ".join(f"{number:,} {what}" for what, number in left_out.items() if number)
    if told:
        put_line(console, f"          {told}")


def _retrievers(report: Mapping[str, Any]) -> Table:
    table = Table(box=SIMPLE_HEAD)
    table.add_column("retriever")
    for name in ("positive found", "MRR@10", "s⁺ median", "s⁻ median", "negatives"):
        table.add_column(name, justify="right")
    taken = report["negatives_by_source"]
    for name, each in report["retrievers"].items():
        rank, scores = each["positive_rank"], each["scores"]
        medians = [scores[side].get("median") for side in ("positives", "chosen")]
        table.add_row(
            as_text(name), percent(rank["success_at_depth"]), _number(rank["mrr_at_10"]), *map(_number, medians),
            f"{taken.get(name, 0):,}",
        )  # fmt: skip
    for name in taken.keys() - report["retrievers"].keys():
        table.add_row(as_text(name), "", "", "", "", f"{taken[name]:,}")
    return table


def _filters(found: Mapping[str, Any]) -> Table:
    table = Table(box=SIMPLE_HEAD)
    table.add_column("filter")
    for name in ("removed", "of candidates", "no word"):
        table.add_column(name, justify="right")
    total = found["candidates"]
    for name, number in found["removed"].items():
        table.add_row(
            as_text(name), f"{number:,}", percent(number / total if total else None), f"{found['silent'][name]:,}"
        )
    return table


def _suspicion(console: Console, found: Mapping[str, Any]) -> None:
    """Show what the embedding judge takes for relevant: the chosen, and by rank."""
    for source, each in found["chosen"].items():
        rate = each["suspicious"]["rate"]
        put_line(
            console,
            f"suspected {percent(rate['value'])} ({interval(rate, percent)}) of {each['candidates']:,} negatives by"
            f" {source} score {found['thresholds']['suspicious']:g} or more by the embedding judge",
        )
    for name, bands in found["by_rank"].items():
        told = ", ".join(f"{each['ranks']}: {percent(each['suspicious']['rate']['value'])}" for each in bands)
        if told:
            put_line(console, f"          {name}, by rank: {told}")


def _changes(console: Console, found: Mapping[str, Any]) -> None:
    negatives, positive = found["negatives"], found["positive"]
    put_line(
        console,
        f"changed   {negatives['new']:,} negatives are new, of which {negatives['new_beyond_the_old_pool']:,} were no"
        f" candidates before; {percent(negatives['share_of_rows_unchanged'])} of {found['rows']:,} rows stay",
    )
    shift = positive["mean_rank_shift"]
    if shift is not None:
        put_line(
            console,
            f"          the best positive's rank moved by {shift:+.2f} on average (minus = up), over"
            f" {positive['of_queries_found_in_both']:,} queries; found only before {positive['found_only_before']:,},"
            f" only now {positive['found_only_after']:,}",
        )


def _number(value: float | None) -> str:
    return "–" if value is None else f"{value:.3f}"


def filtered(console: Console, done: FilterDone) -> None:
    """Show what each filter removed, and what is left."""
    table = Table(box=SIMPLE_HEAD)
    table.add_column("filter")
    for name in ("removed", "of all", "no word"):
        table.add_column(name, justify="right")
    for label, number in done.removed.items():
        share = percent(number / done.negatives if done.negatives else None)
        table.add_row(as_text(label), f"{number:,}", share, f"{done.silent.get(label, 0):,}")
    console.print(table)
    put_line(console, f"scores    {done.scores}")
    put_line(console, f"negatives {done.negatives:,} in = {done.kept:,} kept + {sum(done.removed.values()):,} removed")
    rejected = f", {done.rejected:,} could not be read" if done.rejected else ""
    put_line(console, f"rows      {done.rows:,} in = {done.written:,} written + {done.gone:,} removed whole{rejected}")
    if done.emptied or done.short:
        put_line(console, f"          {done.emptied:,} left without a negative, {done.short:,} with fewer than wanted")
    if done.detection:
        console.print(detection([each.to_json() for each in done.detection]))
    put_line(console, f"files     {done.output} · {done.ledger}")


def detection(found: Sequence[Mapping[str, Any]]) -> Table:
    """Show how well filters find the false negatives that somebody knows of."""
    table = Table(box=SIMPLE_HEAD, title=f"of {found[0]['relevant']:,} known false negatives and"
                  f" {found[0]['irrelevant']:,} known true negatives")  # fmt: skip
    table.add_column("filter alone", no_wrap=True)
    for name in ("found", "lost", "precision (95 %)", "recall", "F1"):
        table.add_column(name, justify="right", no_wrap=True)
    for each in found:
        table.add_row(
            as_text(each["filter"]), f"{each['caught']:,}", f"{each['lost']:,}", _whole(each["precision"]),
            percent(each["recall"]["value"]), percent(each["f1"]["value"]),
        )  # fmt: skip
    return table


def _whole(figure: Mapping[str, Any]) -> str:
    """Show a share with its interval, in whole percents."""
    if figure["value"] is None:
        return "–"
    value, low, high = (100 * (figure[name] or 0.0) for name in ("value", "low", "high"))
    return f"{value:.0f} % ({low:.0f} to {high:.0f})"
