"""How far judges and people agree, and what is held for true by their words alone → a section of the page."""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Final

from markupsafe import Markup

from relabel.coefficients import TITLES
from relabel.pooling import WARNINGS
from relabel.reporting.content import (
    DASH,
    NARROW,
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
from relabel.reporting.plots import Whisker, whiskers
from relabel.reporting.trust import ask_people

Json = Mapping[str, Any]

_DRAWN: Final = (("kappa", "κ"), ("ac1", "AC1"))
_MAIN: Final = ("agreement", "kappa", "ac1", "alpha_ordinal")
"""The figures that stand in every table; the others are folded away."""

_HEADS: Final = ("pairs", "eff. n", "queries", "relevant", "same label", "κ", "AC1", "α")
_SHARES: Final = frozenset({"agreement"})
DRAWN_PEOPLE: Final = 3
"""So many people, those with the most labels, are drawn one by one; the table has the others too."""

_TO_READ: Final = (
    "κ is Cohen’s (of three and more Fleiss’s), AC1 Gwet’s, α Krippendorff’s ordinal one. κ can be read only beside the"
    " prevalence (relevant, by the first / by the second): it falls towards 0 when nearly all pairs have one label,"
    " which AC1 does not. As many independent pairs as eff. n would be as sure. Pairs without a label of one of the two"
    " are counted and left out. A later judge sees what an earlier one sent up, and second opinions on a sample of the"
    " rest: the tables count what was seen, the coefficients weigh the sample back to all; without a sample they say"
    " nothing of the rest. People are compared on the pairs that they labelled. A dash: not defined, or not known."
    " Intervals: 95 %, percentile bootstrap over queries; one without width is that of a figure that was the same in"
    " every query, not of a sure one."
)
_OF_SINGLE: Final = (
    "Like is compared with like: one judge with one person, as one person with another. Majorities are easier to agree"
    " with, since they iron out slips. The pairs are not the same in every row."
)
_OF_DAWID_SKENE: Final = (
    "It takes the judges’ errors for independent of one another; errors that they have in common, as those of one base"
    " model or one prompt, look like truth. Sensitivity: how often a judge says a label of the class where one is true;"
    " specificity: how often it says none where none is."
)


@dataclass(frozen=True, slots=True)
class _Row:
    """One comparison, of two or of more: its names in words and as a cell, counts, main figures, prevalences."""

    words: str
    who: Cell
    entry: Json
    figures: Json
    prevalences: Cell

    def cells(self) -> tuple[Cell, ...]:
        """Return what stands in a table below `_HEADS`."""
        shown = [_written(key, self.figures[key]) for key in _MAIN]
        effective = self.entry.get("effective_n")
        return (
            count(self.entry["n"]), DASH if effective is None else f"{effective:,.0f}", count(self.entry["clusters"]),
            self.prevalences, *shown,
        )  # fmt: skip

    def drawn(self) -> Iterator[Whisker]:
        """Yield what is drawn of it."""
        for key, series in _DRAWN:
            figure = self.figures[key]
            yield Whisker(self.words, series, figure["value"], figure["low"], figure["high"])


def agreement(figures: Json, *, people: bool) -> Section:
    """Show how far judges and people agree: coefficients with intervals, prevalences beside them, confusion matrices.

    Args:
        figures: the run's statistics.json; what an older one lacks is left out.
        people: whether anybody labelled.
    """
    latest_first = reversed([entry for entry in figures["agreement"] if entry["n"]])
    compared = sorted(latest_first, key=lambda entry: entry["second"] != "human")
    ceiling = figures.get("people")
    met = bool(ceiling and ceiling["together"]["n"])
    together = list({entry["n"]: entry for entry in figures.get("judges_together", ()) if entry["n"]}.values())
    blocks: list[Block] = []
    if compared or met:
        rows = [_many(ceiling["together"], "people")] if ceiling and met else []
        rows += [_pair(entry) for entry in compared] + [_many(entry, "judges") for entry in together]
        plots = [_plot(rows, "Agreement beyond chance")]
        if ceiling and met:
            blocks.append(_beside_the_ceiling(ceiling))
            plots.append(_single(ceiling))
        blocks += [Plots(tuple(plots)), *_people(ceiling), *_over_sources(figures.get("over_sources", ()))]
        blocks += [*[_confusion(entry) for entry in compared], *_by_source(figures["sources"], compared)]
        blocks += [*_more_at_once(together, ceiling), Text(_TO_READ, "note")]
    else:
        blocks.append(Text(
            Markup("No two judges gave a label to the same pairs. A second judge, or {} at a stage whose word is final,"
                   " makes them comparable.").format(code("sample: 0.05")), "missing"))  # fmt: skip
    blocks += _dawid_skene(figures.get("dawid_skene"))
    if not people:
        blocks.append(ask_people("The run holds no label of a person; judges that agree may still both be wrong."))
    return Section("agreement", "Agreement between judges and people", tuple(blocks))


def _pair(entry: Json) -> _Row:
    """Lay out a comparison of two."""
    figures, first, second = entry["figures"], _who(entry["first"]), _who(entry["second"])
    prevalences = [percent(figures[f"prevalence_{place}_relevant"]["value"]) for place in ("first", "second")]
    return _Row(
        f"{first} – {second}", _both(entry), entry, figures, " / ".join(prevalences).replace(f"{NARROW}% /", " /")
    )


def _many(entry: Json, who: str) -> _Row:
    """Lay out a comparison of more."""
    figures = {**entry["figures"], "kappa": entry["figures"]["fleiss_kappa"]}
    told = f"{len(entry['judges'])} {who}, ≥ {entry['at_least']} labels"
    words = "people – people" if who == "people" else told
    return _Row(words, told, entry, figures, percent(figures["prevalence_relevant"]["value"]))


def _who(judge: str) -> str:
    return "people" if judge == "human" else judge


def _both(entry: Json) -> Markup:
    return Markup("{} and {}").format(name(_who(entry["first"])), name(_who(entry["second"])))


def _title(key: str) -> str:
    return TITLES[key].replace("'", "’")


def _written(key: str, figure: Json) -> str:
    return share(figure) if key in _SHARES or key.startswith("prevalence") else coefficient(figure)


def _plot(rows: Sequence[_Row], title: str, *, drawn: Sequence[_Row] | None = None) -> Plot:
    marks = [mark for row in (rows if drawn is None else drawn) for mark in row.drawn()]
    label = "; ".join(f"{short(each.row)} {each.series} {number(each.value)}" for each in marks)
    table = Table(
        ("compared", *_HEADS), tuple((row.who, *row.cells()) for row in rows), words=1, folded="The figures"
    )  # fmt: skip
    svg = whiskers(marks, "0 = chance, 1 = perfect")
    return Plot(svg, title, f"Coefficients of agreement with 95 % intervals. {label}", table)


# -- people --------------------------------------------------------------------------------------------------


def _beside_the_ceiling(people: Json) -> Text:
    """Say how far people agree with one another, and for each judge whether it agrees with them as far."""
    together = people["together"]
    ceiling = together["figures"]["fleiss_kappa"]
    judges: dict[str, list[Json]] = {}
    for entry in people["judges"]:
        if entry["n"] and entry["figures"]["kappa"]["value"] is not None and not _one_label_only(entry):
            judges.setdefault(entry["first"], []).append(entry["figures"]["kappa"])
    said = []
    for judge, figures in judges.items():
        values = [number(value) for value in sorted(figure["value"] for figure in figures)]
        told = values[0] if values[0] == values[-1] else f"{values[0]} to {values[-1]}"
        said.append(
            Markup("{} comes to κ\N{NO-BREAK SPACE}{} ({})").format(name(judge), told, _against(ceiling, figures))
        )
    ends = Markup(" With single people, {}.").format(Markup("; ").join(said)) if said else ""
    return Text(
        Markup(
            "<strong>People give one another the same label on {} of {} that two or more labelled,"
            " κ\N{NO-BREAK SPACE}{}:</strong> a judge that reaches this agrees with them as one more person would.{}"
        ).format(share(together["figures"]["agreement"]), many(together["n"], "pair"), coefficient(ceiling), ends)
    )


def _one_label_only(entry: Json) -> bool:
    """Whether the first of two gave every pair the same label, so that κ is 0 whatever the second says."""
    return any(entry["figures"][f"prevalence_first_{label}"]["value"] == 1 for label in entry["labels"])


def _against(ceiling: Json, figures: Sequence[Json]) -> str:
    """Say where a judge's figures lie beside people's, by their intervals."""
    if ceiling["low"] is None or any(figure["low"] is None for figure in figures):
        return "too few queries to say more"
    below = sum(figure["high"] < ceiling["low"] for figure in figures)
    above = sum(figure["low"] > ceiling["high"] for figure in figures)
    if not below and not above:
        return "no different from people, as far as these labels tell"
    parts = (("below", below), ("above", above))
    return ", ".join(
        f"{where} people" + (f" with {found} of {len(figures)}" if found < len(figures) else "")
        for where, found in parts
        if found
    )


def _single(people: Json) -> Plot:
    """Draw one judge with one person beside one person with another."""
    rows = [_pair(entry) for entry in (*people["agreement"], *people["judges"]) if entry["n"]]
    shown = {*list(people["reviewers"])[:DRAWN_PEOPLE], *[entry["first"] for entry in people["judges"]]}
    drawn = [row for row in rows if {row.entry["first"], row.entry["second"]} <= shown]
    return _plot(rows, "Single people, with one another and with judges", drawn=drawn or rows)


def _people(people: Json | None) -> Iterator[Block]:
    """Say who labelled how many; yield people beside the majority of the others."""
    if not people:
        return
    pairs = people["pairs"]
    who = Markup(", ").join([Markup("{} {}").format(name(each), f"{n:,}") for each, n in people["reviewers"].items()])
    yield Text(
        Markup("Labels: {}. {} with one label, {} with more, on {} of which people are divided. {}").format(
            who, many(pairs["one_label"], "pair"), f"{pairs['more_labels']:,}", f"{pairs['divided']:,}", _OF_SINGLE
        ),
        "note",
    )
    if others := [_pair(entry) for entry in people["others"] if entry["n"]]:
        yield Table(
            ("compared", *_HEADS), tuple((row.who, *row.cells()) for row in others), words=1,
            folded="People with the majority of the others, as judges are compared with the majority",
        )  # fmt: skip


# -- two by two ----------------------------------------------------------------------------------------------


def _confusion(entry: Json) -> Confusion:
    labels, size = (*entry["labels"], "no label"), len(entry["labels"])
    table = entry["confusion"]
    kept = [at for at in range(size + 1) if at < size or sum(row[at] for row in table)]
    rows = []
    for label, row in zip(labels, table, strict=True):
        total = sum(row)
        if label != "no label" or total:
            rows.append((label, tuple((count(row[at]), row[at] / total if total else 0.0) for at in kept)))
    found = entry["figures"]
    figures: list[tuple[Cell, ...]] = [(_title(key), _written(key, found[key])) for key in _MAIN]
    for who, judge in (("first", entry["first"]), ("second", entry["second"])):
        told = found[f"prevalence_{who}_relevant"]
        figures.append((Markup("prevalence of relevant, by {}").format(name(_who(judge))), share(told)))
    more = tuple(
        (_title(key), _written(key, found[key]))
        for key in TITLES
        if key in found and key not in _MAIN and not key.startswith("prevalence")
    )
    told = f"both gave a label to {many(entry['n'], 'pair')} of {many(entry['clusters'], 'query', 'queries')}"
    if entry.get("effective_n") is not None:
        told += f", worth {many(round(entry['effective_n']), 'independent one')}"
    heads = ("figure", "value (95 % interval)")
    return Confusion(
        _who(entry["first"]), _who(entry["second"]), Markup("{}: {}").format(_both(entry), told),
        tuple(labels[at] for at in kept), tuple(rows), size,
        Table(heads, tuple(figures), words=1), Table(heads, more, words=1, folded="More coefficients"),
    )  # fmt: skip


def _by_source(sources: Mapping[str, Json], compared: Sequence[Json]) -> Iterator[Table]:
    if len(sources) < 2:
        return
    rows = tuple(
        (_both(entry), name(source or "(no source)"), *_pair(entry).cells())
        for wanted in compared
        for source, part in sources.items()
        for entry in part["agreement"]
        if (entry["first"], entry["second"]) == (wanted["first"], wanted["second"]) and entry["n"]
    )
    if rows:
        yield Table(("compared", "source", *_HEADS), rows, words=2, folded="Agreement by source")


def _over_sources(entries: Sequence[Json]) -> Iterator[Block]:
    """Yield what in the main figures deceives, and all figures over all pairs beside their averages."""
    rows: list[tuple[Cell, ...]] = []
    for entry in entries:
        odd: list[Cell] = []
        for key, each in entry["figures"].items():
            pooled, average = each["pooled"], each["average"]
            ends = " to ".join(_written(key, {"value": each[end], "low": None}) for end in ("lowest", "highest"))
            warning = WARNINGS[each["warning"]]
            found = (_written(key, pooled), _written(key, average), ends, count(each["of"]))
            rows.append((_both(entry), _title(key), warning or DASH, *found))
            if warning and key in _MAIN:
                whole, mean = (_written(key, figure | {"low": None}) for figure in (pooled, average))
                odd.append(f"{_title(key)} {whole} over all pairs, {mean} on average over {many(each['of'], 'source')}"
                           f" ({ends}), {warning}")  # fmt: skip
        if odd:
            yield Text(Markup("{}, source by source: {}.").format(_both(entry), Markup("; ").join(odd)), "warning")
    if rows:
        heads = ("compared", "figure", "note", "over all pairs", "average over sources", "sources from … to", "sources")
        yield Table(heads, tuple(rows), words=3, folded="Over all pairs, and averaged over sources")


# -- more than two at once -----------------------------------------------------------------------------------


def _more_at_once(together: Sequence[Json], people: Json | None) -> Iterator[Table]:
    """Yield every coefficient of all judges together, and of all people."""
    named = [*[(entry, "judges") for entry in together], *([(people["together"], "people")] if people else [])]
    shown = [(entry, who) for entry, who in named if entry["n"]]
    if not shown:
        return
    heads = tuple(_many(entry, who).who for entry, who in shown)
    rows: list[tuple[Cell, ...]] = [
        ("pairs", *[count(entry["n"]) for entry, _ in shown]),
        ("queries", *[count(entry["clusters"]) for entry, _ in shown]),
        ("pairs by labels", *[
            ", ".join(f"{pairs:,} with {labels}" for labels, pairs in entry["by_labels"].items()) for entry, _ in shown
        ]),
    ]  # fmt: skip
    rows += [
        (_title(key), *[_written(key, entry["figures"][key]) for entry, _ in shown])
        for key in TITLES
        if key in shown[0][0]["figures"]
    ]
    yield Table(("figure", *heads), tuple(rows), words=1, folded="More than two at once: every coefficient")


def _dawid_skene(found: Json | None) -> Iterator[Block]:
    """Yield what the judges together hold for true, and how each of them errs by that."""
    if not found:
        return
    prevalence = ", ".join(f"{label} {share(each)}" for label, each in found["prevalence"].items())
    ended = "" if found["converged"] else " The search for it did not come to an end."
    rows = tuple(
        (name(judge), kind.replace("_", " "), share(hit), share(each["specificity"][kind]))
        for judge, each in found["judges"].items()
        for kind, hit in each["sensitivity"].items()
    )
    yield Table(
        ("judge", "class", "sensitivity", "specificity"), rows, words=2,
        caption="Dawid and Skene’s estimate of each judge",
    )  # fmt: skip
    pairs = f"{many(found['n'], 'pair')}, {found['thrice']:,} of them with three labels or more"
    yield Text(
        f"By it, from the judges’ words alone, the true labels of {pairs}, are: {prevalence}.{ended} {_OF_DAWID_SKENE}",
        "note",
    )
