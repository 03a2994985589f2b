"""What people see of choosing negatives: how far a mining is, what came of it, what filters removed."""

import shlex
import sys
import threading
from collections.abc import Mapping, Sequence
from types import TracebackType
from typing import Any, Final, Self

from rich.box import SIMPLE_HEAD
from rich.console import Console
from rich.progress import BarColumn, Progress, SpinnerColumn, TaskID, TextColumn, TimeElapsedColumn, TimeRemainingColumn
from rich.table import Table

from relabel.filtering import FilterDone
from relabel.minerun import REJECTS, REPORT, Mined
from relabel.pools import CANDIDATES
from relabel.rehearsal import Rehearsal
from relabel.screen import as_text, interval, open_console, percent, put_line

UNKNOWN: Final = {
    "judged queries": "judgments of queries that are not there",
    "judged passages": "judgments of passages that are not there",
    "found queries": "run lines of queries that are not there",
    "found passages": "run lines or given negatives whose passage is not there",
}


class Bars:
    """Progress of a mining: a bar for each thing that takes long, with time left; in a log a line when it is done."""

    def __init__(self, *, quiet: bool = False) -> None:
        self._console = open_console(stderr=True, quiet=quiet)
        self._progress = Progress(
            SpinnerColumn(),
            TextColumn("{task.description}", markup=False),
            BarColumn(bar_width=24),
            TextColumn("{task.completed:,.0f}{task.fields[of]}", markup=False),
            TimeElapsedColumn(),
            TimeRemainingColumn(),
            console=self._console,
            transient=True,
            disable=not self._console.is_terminal,
        )
        self._lock = threading.Lock()
        self._tasks: dict[str, TaskID] = {}
        self._told: set[str] = set()

    def __enter__(self) -> Self:
        self._progress.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._progress.stop()

    def say(self, line: str) -> None:
        """Print a line above the bars, or where there are none."""
        if self._console.quiet:
            print(line, file=sys.__stderr__, flush=True)  # a quiet console would swallow it
        else:
            put_line(self._console, line)

    def progress(self, what: str, done: int, total: int) -> None:
        """Show how far something is; a total of 0 is not known."""
        with self._lock:
            if not self._console.is_terminal:
                if done == total and what not in self._told:
                    self._told.add(what)
                    put_line(self._console, f"{what}: {done:,}")
                return
            if what not in self._tasks:
                of = f"/{total:,}" if total else ""
                self._tasks[what] = self._progress.add_task(what, total=total or None, of=of)
            self._progress.update(self._tasks[what], completed=done)


def mined(done: Mined, *, files: bool = True) -> None:
    """Show the report of a mining; `files` says whether they stay."""
    console = open_console()
    report = done.report
    collection(console, report["collection"], reused=done.reused, rejects=REJECTS)
    told = "median scores of positives (s⁺) and of all negatives (s⁻), negatives taken from it"
    put_line(console, f"by retriever: queries with a positive in its top {report['depth']}, MRR@10, {told}")
    console.print(_retrievers(report))
    for each in report["overlap"]:
        shares = f"{percent(each['jaccard_at_10'])} of the first 10, {percent(each['jaccard_at_depth'])} of all found"
        put_line(console, f"overlap   {each['first']} and {each['second']} share {shares} (Jaccard index, mean)")
    for name, recall in report["recall_of_index"].items():
        told = f"{recall['recall_at_10']:.3f} of the exact 10 nearest, over {recall['queries']:,} queries"
        put_line(console, f"index     {name}: it finds {told}")
    console.print(_filters(report["filters"]))
    if report["detection"]:
        console.print(detection(report["detection"], report["gold"]))
    _suspicion(console, report["false_negatives"])
    rows, conflicts = report["rows"], report["conflicts"]
    if conflicts["negatives"]:
        put_line(
            console,
            f"conflicts {conflicts['negatives']:,} of {conflicts['of_negatives']:,} negatives are positives of another"
            f" query, in {conflicts['rows']:,} of {conflicts['of_rows']:,} rows; the filter cross_row_positive drops"
            " such",
        )
    put_line(
        console,
        f"queries   {rows['rows']:,} = {rows['rows'] - rows['with_none']:,} with negatives"
        f" ({rows['with_fewer_than_wanted'] - rows['with_none']:,} with fewer than wanted)"
        f" + {rows['with_none']:,} without any, which are no rows",
    )
    if done.changes is not None:
        _changes(console, done.changes)
    for name, each in done.spent.items():
        put_line(
            console, f"spent     {name}: {each['requests']:,} requests, {each['tokens']:,} tokens by its own count"
        )
    if not files:
        return
    put_line(console, f"files     {done.rows} · {done.folder / CANDIDATES} · {done.folder / REPORT}")
    if rows["negatives"]:
        put_line(console, "next: " + shlex.join(["relabel", "run", str(done.rows), "--pool", str(done.folder)]))
    else:
        put_line(
            console, "no negative is left: see above how many candidates there were, and which filter removed them"
        )


def rehearsed(found: Rehearsal) -> None:
    """Show what a mining would do."""
    console = open_console()
    collection(console, found.collection, reused=found.reused)
    for each in found.embeddings:
        known = f", {each.texts - each.fresh:,} of them on disk already" if each.fresh < each.texts else ""
        put_line(console, f"embed     {each.name}: {each.texts:,} passages and queries by {each.model}{known}")
        cost = f", some {each.tokens:,} tokens (characters / 4) to send to the endpoint" if each.served else ""
        put_line(console, f"          to embed: {each.fresh:,} texts, {each.characters:,} characters{cost}")
    if found.others:
        put_line(console, f"search    {', '.join(found.others)}: nothing to embed")
    if found.pairs:
        put_line(console, f"score     by the cross-encoder: {found.pairs:,} pairs of query and passage at the most")
    put_line(
        console,
        f"choose    {found.wanted:,} negatives for each of {found.collection['queries']:,} queries,"
        f" from {found.depth:,} candidates of each retriever",
    )
    put_line(console, f"dry run: nothing was embedded, and nothing written into {found.folder}")


def collection(console: Console, built: Mapping[str, Any], *, reused: bool = False, rejects: str = "") -> None:
    """Show what a collection holds, and what of it was left out; `rejects` is where bad rows are listed."""
    extra = f" + {built['outside']:,} positives that it lacks" if built["outside"] else ""
    put_line(
        console,
        f"corpus    {built['documents']:,} passages{extra}; {built['queries']:,} queries,"
        f" {built['positives']:,} positives" + (" (read before)" if reused else ""),
    )
    left_out = {
        "ids of texts that have another id too": built["aliases"],
        "repeated rows": built["repeated"],
        "empty texts": built["empty"],
        "queries with the text of another (joined)": built["joined"],
        "queries without a positive (left out)": built["unanswered"],
        "passages judged relevant below the threshold (spared)": built["spared"],
        "rows that could not be read" + (f" ({rejects})" if rejects else ""): built["rejected"],
    }
    for what, number in left_out.items():
        if number:
            put_line(console, f"          {number:,} {what}")
    for kind, each in built["unknown"].items():
        put_line(console, f"          {each['lines']:,} {UNKNOWN[kind]}: {', '.join(map(repr, each['first']))}")


def _retrievers(report: Mapping[str, Any]) -> Table:
    """Make the table of what the line before it names."""
    table = Table(box=SIMPLE_HEAD, pad_edge=False)
    taken = report["negatives_by_source"]
    table.add_column("retriever", overflow="fold", min_width=min(32, max(map(len, [*report["retrievers"], *taken]))))
    for name in (f"in top {report['depth']}", "MRR@10", "s⁺", "s⁻", "taken"):
        table.add_column(name, justify="right")
    for name, each in report["retrievers"].items():
        rank, scores = each["positive_rank"], each["scores"]
        medians = [scores[side].get("median") for side in ("positives", "chosen")]
        table.add_row(
            as_text(name), percent(rank["success_at_depth"]), _number(rank["mrr_at_10"]), *map(_number, medians),
            f"{taken.get(name, 0):,}",
        )  # fmt: skip
    for name in sorted(taken.keys() - report["retrievers"].keys()):
        table.add_row(as_text(name), "", "", "", "", f"{taken[name]:,}")
    return table


def _filters(found: Mapping[str, Any]) -> Table:
    table = Table(box=SIMPLE_HEAD, pad_edge=False)
    total = found["candidates"]
    table.add_column("filter", overflow="fold")
    for name in ("removed", f"of {total:,} candidates", "no score to go by"):
        table.add_column(name, justify="right")
    for name, number in found["removed"].items():
        table.add_row(
            as_text(name), f"{number:,}", percent(number / total if total else None), f"{found['silent'][name]:,}"
        )
    return table


def _suspicion(console: Console, found: Mapping[str, Any]) -> None:
    """Show what the embedding judge takes for relevant: of the negatives taken, and of candidates by rank."""
    least = found["thresholds"]["suspicious"]
    for source, each in found["chosen"].items():
        rate = each["suspicious"]["rate"]
        put_line(
            console,
            f"suspected {percent(rate['value'])} (95 %: {interval(rate, percent)}) of {each['candidates']:,} negatives"
            f" from {source}: the embedding judge gives them {least:g} or more",
        )
    for name, bands in found["by_rank"].items():
        told = ", ".join(f"{each['ranks']}: {percent(each['suspicious']['rate']['value'])}" for each in bands)
        if told:
            put_line(console, f"          of all candidates of {name}, by rank: {told}")


def _changes(console: Console, found: Mapping[str, Any]) -> None:
    negatives, positive = found["negatives"], found["positive"]
    put_line(
        console,
        f"changed   {negatives['new']:,} negatives are new, {negatives['new_beyond_the_old_pool']:,} of them were no"
        f" candidates before; {percent(negatives['share_of_rows_unchanged'])} of {found['rows']:,} rows have the same",
    )
    shift = positive["mean_rank_shift"]
    if shift is not None:
        put_line(
            console,
            f"          the best positive's rank changed by {shift:+.2f} on average (below 0: it rose), over the"
            f" {positive['of_queries_found_in_both']:,} queries that found one both times;"
            f" {positive['found_only_before']:,} found one only before, {positive['found_only_after']:,} only now",
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
    for label, number in done.spared.items():
        put_line(console, f"spared    {number:,} synthetic negatives, which {label} passes over")
    rejected = f", {done.rejected:,} could not be read" if done.rejected else ""
    put_line(console, f"rows      {done.rows:,} in = {done.written:,} written + {done.gone:,} removed whole{rejected}")
    if done.emptied or done.short:
        put_line(console, f"          {done.emptied:,} left without a negative, {done.short:,} with fewer than wanted")
    if done.detection:
        console.print(detection([each.to_json() for each in done.detection], done.gold))
    put_line(console, f"files     {done.output} · {done.ledger}")


def detection(found: Sequence[Mapping[str, Any]], gold: Mapping[str, int]) -> Table:
    """Show how well filters find the false negatives that somebody knows of."""
    table = Table(box=SIMPLE_HEAD, title=f"of {found[0]['relevant']:,} known false negatives and"
                  f" {found[0]['irrelevant']:,} known true negatives"
                  f" ({gold['matched']:,} of {gold['judgments']:,} judgments are of candidates)")  # fmt: skip
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
