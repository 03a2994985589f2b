"""What people see of a run's statistics: rates, agreement in one small table, and all the rest on request."""

from collections.abc import Iterable, Mapping, Sequence
from typing import Any, Final

from rich.box import SIMPLE_HEAD
from rich.console import Console
from rich.table import Table
from rich.text import Text

from relabel.coefficients import TITLES
from relabel.pooling import WARNINGS
from relabel.screen import accounting, as_text, interval, percent, put_line

_MAIN: Final = {"raw": "agreement", "κ": "kappa", "AC1": "ac1", "α": "alpha_ordinal"}
"""Columns of the small table and the figures that they show."""


def statistics(console: Console, figures: Mapping[str, Any], *, everything: bool = False) -> None:
    """Show a run's statistics: accounting, rates and agreement, each with its interval.

    Args:
        console: where to.
        figures: the run's statistics.json.
        everything: every coefficient, confusion tables, each source, people one by one, Dawid and Skene's estimate.
    """
    accounting(console, figures)
    rates = figures["rates"]
    table = _table("Rates, with 95 % intervals over queries", ("rate",), ("of", "value", "interval"))
    for name, rate in rates.items():
        table.add_row(as_text(name), f"{rate['of']:,}", percent(rate["value"]), interval(rate, percent))
    console.print(table)
    if len(figures["sources"]) > 1:
        console.print(_by_source(figures))
    compared = [entry for entry in figures["agreement"] if entry["n"]]
    people = figures.get("people")
    if not compared and not people:
        return
    together = [entry for entry in figures.get("judges_together", ()) if entry["n"]]
    ceiling = [people["together"]] if people and people["together"]["n"] else []
    rows = [
        *[_pair(entry) for entry in compared],
        *[_many(entry, "judges") for entry in together],
        *[_many(entry, "people") for entry in ceiling],
    ]
    _agreements(console, "Agreement, with 95 % intervals over queries", rows)
    _read(console, figures, everything=everything)
    if everything:
        _everything(console, figures, compared, [*together, *ceiling])


def _read(console: Console, figures: Mapping[str, Any], *, everything: bool) -> None:
    """Say how the table is to be read, and what in it deceives."""
    for entry in figures.get("over_sources", ()):
        for name, each in entry["figures"].items():
            if each["warning"] and (everything or name in _MAIN.values()):
                put_line(
                    console,
                    f"{TITLES[name]} of {entry['first']} and {entry['second']}: {plain(each['pooled']['value'])} over"
                    f" all pairs, {plain(each['average']['value'])} on average over {each['of']} sources"
                    f" ({plain(each['lowest'])} to {plain(each['highest'])}): {WARNINGS[each['warning']]}",
                )
    console.print(
        "κ is Cohen's (of three and more Fleiss's), AC1 Gwet's, α Krippendorff's ordinal one. As many independent pairs"
        " as eff. n would be as sure. A later judge sees what an earlier one sent up, and second opinions on a"
        " `sample` of the rest: pairs are those that were seen, the figures weigh the sample back to all. Without"
        " `sample` they say nothing of the rest. People are compared on the pairs that they labelled."
        + ("" if everything else " --all shows every figure."),
        style="dim",
    )


def _everything(
    console: Console,
    figures: Mapping[str, Any],
    compared: Sequence[Mapping[str, Any]],
    many: Sequence[Mapping[str, Any]],
) -> None:
    for entry in compared:
        _agreement(console, entry)
    for entry in many:
        names = ", ".join(f"{name} {count:,}" for name, count in entry["given"].items())
        put_line(console, as_text(f"Agreement of {len(entry['judges'])} together: {names} labels", "italic"))
        shown = " + ".join(f"{count:,} with {number} labels" for number, count in entry["by_labels"].items())
        put_line(console, f"{entry['n']:,} pairs of {entry['clusters']:,} queries = {shown}")
        _list(console, entry["figures"])
    if people := figures.get("people"):
        _people(console, people)
    if over := figures.get("over_sources"):
        _over_sources(console, over)
    for index, entry in enumerate(figures["agreement"]) if len(figures["sources"]) > 1 else ():
        rows = [
            (as_text(name or "none"), *_pair(part["agreement"][index])[1:])
            for name, part in figures["sources"].items()
            if part["agreement"][index]["n"]
        ]
        _agreements(console, f"{entry['first']} and {entry['second']}, by source", rows)
    if found := figures.get("dawid_skene"):
        _dawid_skene(console, found)


def _people(console: Console, people: Mapping[str, Any]) -> None:
    pairs = people["pairs"]
    who = ", ".join(f"{name} {count:,}" for name, count in people["reviewers"].items())
    put_line(
        console,
        f"People: {who} labels; {pairs['one_label']:,} pairs with one label, {pairs['more_labels']:,} with more, on"
        f" {pairs['divided']:,} of which they are divided",
    )
    for title, name in (
        ("People with one another: a judge that reaches this agrees with them as one more person would", "agreement"),
        ("Judges with single people", "judges"),
        ("People with the majority of the others: as judges are compared with the majority", "others"),
    ):
        _agreements(console, title, [_pair(entry) for entry in people[name] if entry["n"]])


def _over_sources(console: Console, entries: Sequence[Mapping[str, Any]]) -> None:
    table = _table(
        "Over all pairs, and averaged over sources",
        ("judges", "figure"),
        ("pooled", "average", "lowest", "highest", ""),
    )
    for entry in entries:
        judges = f"{entry['first']}\n{entry['second']}"
        for name, each in entry["figures"].items():
            whole, average = ([plain(each[key]["value"]), _span(each[key])] for key in ("pooled", "average"))
            table.add_row(
                as_text(judges), TITLES[name], "\n".join(whole), "\n".join(average), plain(each["lowest"]),
                plain(each["highest"]), WARNINGS[each["warning"]],
            )  # fmt: skip
            judges = ""
    console.print(table)


def _dawid_skene(console: Console, found: Mapping[str, Any]) -> None:
    put_line(console, as_text("Dawid and Skene's estimate of what is true, from the judges' words alone", "italic"))
    ended = "" if found["converged"] else "; the search did not come to an end"
    put_line(console, f"{found['n']:,} pairs, {found['thrice']:,} with three labels or more{ended}")
    shares = ", ".join(
        f"{label} {percent(share['value'])} ({interval(share, percent)})"
        for label, share in found["prevalence"].items()
    )
    put_line(console, f"true labels: {shares}")
    table = _table("", ("judge", "class"), ("sensitivity", "interval", "specificity", "interval"))
    for judge, each in found["judges"].items():
        for name, hit in each["sensitivity"].items():
            miss = each["specificity"][name]
            cells = [cell for rate in (hit, miss) for cell in (percent(rate["value"]), interval(rate, percent))]
            table.add_row(as_text(judge), name.replace("_", " "), *cells)
    console.print(table)
    console.print(
        "It takes the judges' errors for independent of one another; common ones look like truth.", style="dim"
    )


_Row = tuple[Text, Mapping[str, Any], Mapping[str, Any], Sequence[str]]


def _pair(entry: Mapping[str, Any]) -> _Row:
    """Lay out the agreement of two judges for the small table: name, counts, figures, prevalences."""
    shares = [percent(entry["figures"][f"prevalence_{place}_relevant"]["value"]) for place in ("first", "second")]
    return as_text(f"{entry['first']}\n{entry['second']}"), entry, entry["figures"], shares


def _many(entry: Mapping[str, Any], who: str) -> _Row:
    """Lay out the agreement of more."""
    figures = {**entry["figures"], "kappa": entry["figures"]["fleiss_kappa"]}
    share = percent(entry["figures"]["prevalence_relevant"]["value"])
    return as_text(f"{len(entry['judges'])} {who}\n≥ {entry['at_least']} labels"), entry, figures, [share]


def _agreements(console: Console, title: str, rows: Sequence[_Row]) -> None:
    if not rows:
        return
    table = _table(title, ("",), ("pairs\nqueries", "eff. n", *_MAIN, "relevant"))
    for name, entry, figures, shares in rows:
        effective = "–" if entry.get("effective_n") is None else f"{entry['effective_n']:,.0f}"
        cells = [f"{plain(figures[key]['value'])}\n{_span(figures[key])}" for key in _MAIN.values()]
        table.add_row(name, f"{entry['n']:,}\n{entry['clusters']:,}", effective, *cells, "\n".join(shares))
    console.print(table)


def _by_source(figures: Mapping[str, Any]) -> Table:
    stages = [stage["name"] for stage in figures["stages"] if stage["asked"]]
    names = ["rows with a false negative", "pairs called relevant", *[f"flagged by {stage}" for stage in stages]]
    names += [name for stage in stages if (name := f"confirmed after {stage}") in figures["rates"]]
    table = Table(title="By source", title_justify="left", box=SIMPLE_HEAD, pad_edge=False)
    longest = max(as_text(source or "none").cell_len for source in figures["sources"])
    table.add_column("source", overflow="fold", min_width=min(longest, 24))
    for name in names:
        table.add_column(as_text(name), justify="right", overflow="fold")
    for source, part in figures["sources"].items():
        found = [part["rates"].get(name) for name in names]
        table.add_row(as_text(source or "none"), *[percent(rate["value"]) if rate else "–" for rate in found])
    return table


def _agreement(console: Console, entry: Mapping[str, Any]) -> None:
    first, second = entry["first"], entry["second"]
    put_line(console, as_text(f"Agreement of {first} and {second}", "italic"))
    effect = entry.get("design_effect")
    put_line(
        console,
        f"{entry['n']:,} pairs of {entry['clusters']:,} queries had a label of both; no label:"
        f" {entry['none_first']:,} by {first}, {entry['none_second']:,} by {second}; design effect"
        f" {plain(effect)}",
    )
    table = Table(box=SIMPLE_HEAD, pad_edge=False)
    table.add_column(as_text(f"{first} ↓   {second} →"))
    for label in entry["labels"]:
        table.add_column(as_text(label), justify="right")
    for label, row in zip(entry["labels"], entry["confusion"], strict=False):
        table.add_row(as_text(label), *[f"{count:,}" for count in row[: len(entry["labels"])]])
    console.print(table)
    _list(console, entry["figures"])


def _list(console: Console, figures: Mapping[str, Mapping[str, Any]]) -> None:
    for name, title in TITLES.items():
        if name in figures:
            put_line(console, f"  {title:44} {plain(figures[name]['value']):>6}   {interval(figures[name], plain)}")
    console.print()


def _table(title: str, words: Iterable[str], numbers: Iterable[str]) -> Table:
    table = Table(title_justify="left", box=SIMPLE_HEAD, pad_edge=False, collapse_padding=True)
    table.title = as_text(title, "italic") if title else None
    for column in words:
        table.add_column(column, overflow="fold")
    for column in numbers:
        table.add_column(column, justify="right", no_wrap=True)
    return table


def _span(figure: Mapping[str, Any]) -> str:
    """Show an interval as short as it gets."""
    if figure["low"] is None:
        return "–"
    return "–".join(plain(figure[bound]).replace("0.", ".") for bound in ("low", "high"))


def plain(value: float | None) -> str:
    """Show a coefficient."""
    return "–" if value is None else f"{value:.2f}".replace("-", "−")
