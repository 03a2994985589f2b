"""What people see of a synthesis: what would be asked, and what came of every slot."""

from collections.abc import Mapping
from typing import Any

from rich.box import SIMPLE_HEAD
from rich.console import Console
from rich.table import Table

from relabel import screen_money
from relabel.errors import typed
from relabel.evaluating import EVALUATION, Evaluation
from relabel.foreseeing import Foreseen
from relabel.money import bills_of
from relabel.questioning import Questioned
from relabel.screen import as_text, interval, percent, put_line, unsure
from relabel.synthesis.separability import Separability
from relabel.synthesizing import Synthesized


def synthesized(console: Console, done: Synthesized) -> None:
    """Show the accounting: rows, slots by their end, what it cost, where the files are."""
    figures, execution = done.statistics, done.execution
    rows, slots, read = figures["rows"], figures["slots"], figures["input"]
    rejected = f", {read['rejected']:,} could not be read" if read["rejected"] else ""
    put_line(
        console,
        f"rows      {read['rows']:,} in, {read['wanting']:,} wanted {read['wanted']:,} synthetic negatives,"
        f" {rows['filled']:,} got some{rejected}",
    )
    refused, none = _some(slots["refused"]), _some(slots["none"])
    put_line(
        console,
        f"slots     {slots['asked']:,} asked = {slots['accepted']:,} accepted + {sum(refused.values()):,} refused"
        f" + {sum(none.values()):,} none",
    )
    for name, reasons in (("refused", refused), ("none", none)):
        if reasons:
            put_line(console, f"{name:9} " + ", ".join(f"{number:,} {reason}" for reason, number in reasons.items()))
    left = ", ".join(f"{number:,} left: {reason}" for reason, number in _some(slots["left"]).items())
    share = figures["share"]
    put_line(
        console,
        f"accepted  {slots['used']:,} used{' + ' + left if left else ''};"
        f" {percent(share['of_negatives'])} of {share['negatives']:,} negatives are synthetic",
    )
    if len(figures["recipes"]) > 1:
        console.print(_recipes(figures["recipes"]))
    passed = ", ".join(f"{number:,} {reason}" for reason, number in _some(figures["let_pass"]).items())
    if passed:
        put_line(console, f"let pass  {passed}")
    put_line(console, f"apart     {_apart(figures['separability'])}")
    put_line(console, f"cost      {_cost(execution, slots['accepted'])}")
    unsure(console, bills_of(execution))
    for warning in done.warnings:
        put_line(console, as_text(f"warning   {warning}", "yellow"))
    put_line(console, "files     " + " · ".join(str(path) for path in done.files.values()))


def _apart(found: Mapping[str, Any]) -> str:
    auc = found["auc"]
    if auc["value"] is None:
        return str(found["note"])
    note = f" ({found['note']})" if found["note"] else ""
    kinds = f"{found['synthetic']:,} synthetic and {found['mined']:,} mined negatives, without the query"
    return f"AUC {number(auc['value'])} ({interval(auc, number)}) of {kinds}; .5 is chance{note}"


def separated(console: Console, found: Separability) -> None:
    """Show how well synthetic negatives are told from mined ones, and by what."""
    told = found.to_json()
    put_line(console, _apart(told))
    if found.warning:
        put_line(console, as_text(f"warning: {found.warning}", "yellow"))
    table = Table(
        box=SIMPLE_HEAD, pad_edge=False, title="Style: medians, and the AUC of that figure alone", title_justify="left"
    )
    for name in ("figure", "synthetic", "mined", "AUC", "95 %"):
        table.add_column(name, justify="left" if name == "figure" else "right")
    for each in told["style"]:
        low = interval(each["auc"], number)
        table.add_row(
            each["name"], f"{each['synthetic']:.3g}", f"{each['mined']:.3g}", number(each["auc"]["value"]), low
        )
    console.print(table)
    for word in found.artefacts:
        shares = f"{percent(word.synthetic)} of the synthetic, {percent(word.mined)} of the mined"
        put_line(console, as_text(f"gives away: {word.word!r}, in {shares} (z {word.z:.1f}, corrected p {word.p:.2g})"))


def evaluated(console: Console, done: Evaluation) -> None:
    """Show what a small retriever learns from each kind of negatives."""
    left = ", ".join(f"{count:,} {why}" for why, count in done.left_out.items() if count)
    reasons = {"judged, but not in the collection": done.lost, "trained on": done.overlap}
    away = ", ".join(f"{count:,} {why}" for why, count in reasons.items() if count)
    put_line(
        console,
        f"{done.rows:,} training rows{f' (left out: {left})' if left else ''}, {done.trial.budget} negatives each;"
        f" {done.queries:,} dev queries{f' (left out: {away})' if away else ''}, {done.documents:,} passages",
    )
    if done.lost or done.missing:
        lacks = f"{done.missing:,} judged positives, and all that {done.lost:,} judged queries have"
        put_line(console, as_text(f"warning: the dev collection lacks {lacks}; nDCG is of the rest", "yellow"))
    for title, arms in (("A head on frozen embeddings", done.arms), ("The whole model, one seed", done.full)):
        if not arms:
            continue
        table = Table(box=SIMPLE_HEAD, pad_edge=False, title=title, title_justify="left")
        for name in ("negatives", "nDCG@10", "to mined", "95 %", "by seed"):
            table.add_column(name, justify="left" if name == "negatives" else "right")
        for arm in arms:
            told = arm.to_json()
            to, seeds = told["difference"], " ".join(number(each) for each in told["by_seed"])
            apart = (number(to["value"]), interval(to, number)) if to else ("", "")
            table.add_row(arm.name, number(told["ndcg"]["value"]), *apart, seeds)
        console.print(table)
    put_line(console, "an interval that includes 0: no difference is shown, either way")
    put_line(console, f"files     {done.folder / EVALUATION}")


def questioned(console: Console, done: Questioned) -> None:
    """Show how many queries were written for passages."""
    none = "".join(f", {count:,} {why}" for why, count in done.none.items())
    empty = f" ({done.empty:,} empty)" if done.empty else ""
    put_line(console, f"passages  {done.passages:,}{empty}")
    put_line(
        console, f"queries   {done.asked:,} asked = {done.written:,} written + {done.asked - done.written:,} none{none}"
    )
    put_line(console, f"files     {done.rows}")
    put_line(console, f"next      relabel mine, or: {typed('synthesize', done.rows)} -c a config with alone: true")


def number(value: float | None) -> str:
    """Show a figure with three decimals."""
    return "–" if value is None else f"{value:.3f}"


def _cost(execution: Mapping[str, Any], accepted: int) -> str:
    usd, each = execution["usd"], execution["usd_per_accepted"]
    if usd is None:
        return "unknown: a model has no known price (say it by `price:` in its engine)"
    per = f", ${each:,.4g} for one accepted" if each is not None and accepted else ""
    return f"${usd:,.4g} in all executions{per}"


def _some(counts: Mapping[str, int]) -> dict[str, int]:
    return {name: number for name, number in counts.items() if number}


def _recipes(recipes: Mapping[str, Mapping[str, Any]]) -> Table:
    table = Table(box=SIMPLE_HEAD, pad_edge=False)
    table.add_column("recipe", overflow="fold")
    for name in ("asked", "accepted", "used", "refused", "none"):
        table.add_column(name, justify="right")
    for name, each in recipes.items():
        numbers = (
            *[each[what] for what in ("asked", "accepted", "used")],
            *[sum(each[what].values()) for what in ("refused", "none")],
        )
        table.add_row(as_text(name), *[f"{number:,}" for number in numbers])
    return table


def foreseen(console: Console, found: Foreseen) -> None:
    """Show what a synthesis would ask, of those who write and of those who judge."""
    asked = found.asked
    put_line(
        console,
        f"rows      {asked.rows:,} can be read, {asked.rejected:,} cannot; {asked.wanting:,} want"
        f" {asked.wanted:,} synthetic negatives, {found.wanted:,} of them within max_share of the data set",
    )
    put_line(console, f"slots     {found.slots:,} {found.origin}")
    if found.writing is not None:
        each = found.writing
        usd = "at an unknown price" if each.usd is None else f"${each.usd:,.4g}"
        put_line(
            console,
            f"writing   {each.model}: {each.requests:,} requests, some {each.tokens_in:,} tokens in and"
            f" {each.tokens_out:,} out, {usd}",
        )
    for warning in found.warnings:
        put_line(console, as_text(f"warning   {warning}", "yellow"))
    if found.judging is None:
        put_line(console, "judging   nothing to judge")
        return
    put_line(console, f"judging   {found.stand_in}:")
    screen_money.forecast(console, found.judging)
