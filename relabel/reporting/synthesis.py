"""What was asked for, what came of every slot, what it cost: a synthesis's own files → sections of the page."""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Final

import yaml
from markupsafe import Markup

from relabel.money import bills_of
from relabel.records import Example
from relabel.reporting.content import (
    DASH,
    Block,
    Card,
    Cards,
    Cell,
    Plot,
    Plots,
    Section,
    Table,
    Text,
    Word,
    code,
    count,
    excerpt,
    filled,
    many,
    name,
    percent,
    share,
    short,
    usd,
)
from relabel.reporting.plots import bars
from relabel.reporting.sections import LISTED, SOURCES_DRAWN, duration, file_name, told_settings

Json = Mapping[str, Any]

_BY_CASCADE: Final = ("judged relevant", "judged partial", "repeated", "undecided")
_ENDS: Final = (
    "A slot is one passage that was asked for. Each ends in exactly one way: asked = accepted + refused + none."
    " Accepted means that the cascade called it a true negative; undecided is none, never accepted."
)
_OF_SHARES: Final = (
    "Share accepted, of those asked for: 95 %, exact binomial of as many independent slots as those of the queries are"
    " worth."
)
_OF_COST: Final = (
    "Requests and tokens of all executions together, as the services counted them. Recorded replies, rules and models"
    " on one’s own hardware cost nothing by the token."
)


@dataclass(frozen=True, slots=True)
class Shown:
    """A passage to look at: its line of the ledger, and the row that it was written for."""

    line: Json
    example: Example


def done(manifest: Json, execution: Json, authors: Sequence[str]) -> Section:
    """Say what was done with what: input, who wrote, who judges, what the gate lets pass, versions, settings."""
    told, settings = manifest["input"], manifest["settings"]
    who = written_by(authors)
    if settings["written"]:
        who += Markup("; beforehand, in {}").format(name(file_name(settings["written"])))
    else:
        who += Markup("; recipes, by weight: {}").format(_listed(settings["recipes"]))
    caps = settings["max_share"]
    facts: list[tuple[Cell, Cell]] = [
        ("input", Markup("{}, {} rows, SHA-256 {}").format(
            name(file_name(told["path"])), told["format"], code(told["sha256"][:16]))),
        ("who wrote", who),
        ("who judges", judges(manifest["judge"]["stages"])),
        ("cheap checks", _listed({each: _limit(value) for each, value in settings["gate"].items()})),
        ("wanted", _wanted(settings)),
        ("most", f"{percent(caps['row'])} of a row’s negatives, {percent(caps['data'])} of the data set’s"),
        ("seed", str(settings["seed"])),
        ("last execution", f"{execution['started']}, {duration(execution['seconds'])}"),
        ("versions", _listed(manifest["versions"])),
    ]  # fmt: skip
    both = yaml.safe_dump(
        {**told_settings(settings), "judge": told_settings(manifest["judge"])},
        sort_keys=False, allow_unicode=True, width=100,
    )  # fmt: skip
    table = Table(("", ""), tuple(facts), words=2)
    return Section("done", "What was done, and with what", (table, Text(both, "mono", folded="All settings")))


def written_by(authors: Sequence[str]) -> Markup:
    """Name who wrote, the first ones where somebody's file names very many."""
    more = Markup(" and {:,} more").format(len(authors) - LISTED) if len(authors) > LISTED else ""
    return Markup(", ").join([name(each) for each in authors[:LISTED]] or ["nobody named"]) + more


def _wanted(settings: Json) -> str:
    fill = f"rows of fewer filled up to {many(settings['below'], 'negative')}" if settings["below"] else ""
    add = f"{settings['add']:,} added to every row" if settings["add"] else ""
    more = f"{settings['oversample']:g} asked for, for each one wanted" if not settings["written"] else ""
    return "; ".join(each for each in (fill, add, more) if each)


def _limit(value: Any) -> str:
    """Write what a cheap check lets pass: a number, from one to another, or whether it looks at all."""
    if value is None or isinstance(value, bool):
        return "on" if value else "off"
    return " to ".join(f"{each:g}" for each in value) if isinstance(value, Sequence) else f"{value:g}"


def judges(stages: Sequence[Json]) -> Markup:
    """Say who judges: each stage with its model."""
    found = []
    for stage in stages:
        engine = stage.get("engine") or {}
        model = engine.get("model") or ("recorded replies" if engine.get("kind") == "scripted" else stage.get("model"))
        called = stage["name"] or stage["judge"]
        found.append(name(called) + (Markup(" ({})").format(name(model)) if model else ""))
    return Markup(" → ").join(found)


def accounting(figures: Json, shares: Mapping[str, Json]) -> Section:
    """Show that every slot has an end, per recipe, and the reasons why passages were refused or did not come.

    Args:
        figures: of statistics.json.
        shares: the share accepted with its interval, by recipe; "" = all.
    """
    slots, recipes = figures["slots"], figures["recipes"]
    if not slots["asked"]:
        told = f"Nothing was asked for: {many(figures['input']['wanting'], 'row')} wanted synthetic negatives."
        return Section("accounting", "Accounting", (Text(told, "missing"),))
    parts = [("all", slots, shares[""]), *[(recipe, each, shares[recipe]) for recipe, each in recipes.items()]]
    rows: list[tuple[Cell, ...]] = [
        (name(recipe), count(each["asked"]), count(each["accepted"]), count(_sum(each["refused"])),
         count(_sum(each["none"])), share(accepted), count(each["used"]))
        for recipe, each, accepted in parts
    ]  # fmt: skip
    heads = ("recipe", "asked", "= accepted", "+ refused", "+ none", "accepted (95 % interval)", "of these used")
    largest = sorted(recipes, key=lambda recipe: (-recipes[recipe]["asked"], recipe))[:SOURCES_DRAWN]
    drawn = [(recipe, _ends(recipes[recipe])) for recipe in recipes if recipe in largest]
    label = "; ".join(
        f"{short(recipe)}: " + ", ".join(f"{n:,} {end}" for end, n in each.items()) for recipe, each in drawn
    )
    title = "What came of it, by recipe" + (f" (the {SOURCES_DRAWN} largest)" if len(recipes) > len(drawn) else "")
    why = Table(("recipe", "refused", "none"), tuple(
        (name(recipe), _reasons(each["refused"]), _reasons(each["none"])) for recipe, each, _ in parts[1:]
    ), words=3, folded="The reasons, by recipe")  # fmt: skip
    return Section("accounting", "Accounting", (
        Text(_ENDS), Table(heads, tuple(rows)), Text(_OF_SHARES, "note"),
        Plots((Plot(bars(drawn, "passages asked for"), title, f"Bars of what came of each recipe. {label}", why),)),
        _why(slots),
        *[Text(each, "note") for each in _remarks(figures)],
    ))  # fmt: skip


def _why(slots: Json) -> Table:
    """List every reason with how often, and who said so."""
    rows: list[tuple[Cell, ...]] = []
    for end, otherwise in (("refused", "a cheap check"), ("none", DASH)):
        for reason, number in slots[end].items():
            if number:
                by = "the cascade" if reason in _BY_CASCADE else otherwise
                rows.append((end, name(reason), by, count(number)))
    of = f"Why passages were refused or did not come, of {many(slots['asked'], 'slot')}"
    return Table(("end", "reason", "said by", "slots"), tuple(rows), of, words=3)


def _remarks(figures: Json) -> Iterator[str]:
    if passed := {reason: number for reason, number in figures["let_pass"].items() if number}:
        yield "Let pass by the cheap checks: " + ", ".join(f"{n:,} {reason}" for reason, n in passed.items()) + "."
    if rejected := figures["input"]["rejected"]:
        yield f"{many(rejected, 'row')} could not be read: rejects.jsonl."


def used(figures: Json) -> Section:
    """Show how what was accepted is used, and what the training file holds now."""
    slots, rows, read, part = figures["slots"], figures["rows"], figures["input"], figures["share"]
    left = "".join(f" + {number:,} left over ({reason})" for reason, number in slots["left"].items())
    lacking, mined = max(0, read["wanted"] - slots["used"]), part["negatives"] - part["synthetic"]
    synthetic = f"{part['synthetic']:,} synthetic ({percent(part['of_negatives'])}; {read['made']:,} were so before)"
    sums = (
        ("passages accepted", slots["accepted"], f"= {slots['used']:,} used{left}"),
        ("passages wanted", read["wanted"], f"= {slots['used']:,} used + {lacking:,} lacking"),
        ("rows in", read["rows"], f"= {rows['filled']:,} got some + {read['rows'] - rows['filled']:,} got none"),
        ("negatives written", part["negatives"], f"= {synthetic} + {mined:,} mined"),
    )
    lines = tuple((what, count(total), adds) for what, total, adds in sums)
    blocks: list[Block] = [Table(("", "in all", "which adds up"), lines, words=3)]
    if hard := figures["difficulty"]:
        told = (
            f"Difficulty of those used: median {hard['median']:.2f}, half of them {hard['q1']:.2f} to {hard['q3']:.2f},"
            f" all {hard['lowest']:.2f} to {hard['highest']:.2f}; 1 = as near to the query as the best positive."
        )
        blocks.append(Text(told))
    return Section("used", "How the accepted are used", tuple(blocks))


def cost(execution: Json, accepted: int) -> Section:
    """Show what writing and judging took, and what one accepted passage cost."""
    bills = bills_of(execution)
    rows = tuple(
        (name(each["stage"]), name(each.get("price", DASH)), *[count(each[what]) for what in
         ("asked", "tokens_in", "tokens_cached", "tokens_out")], usd(each["usd"]))
        for each in bills
    )  # fmt: skip
    heads = ("stage", "price", "requests", "tokens in", "of these cached", "tokens out", "US $")
    blocks: list[Block] = [filled(Table(heads, rows, words=2))] if rows else []
    blocks.append(Text(_paid(execution, accepted)))
    if guessed := [each["without_usage"] for each in bills if each["without_usage"]["usd"]]:
        told = many(sum(each["replies"] for each in guessed), "reply", "replies")
        more = usd(sum(each["usd"] for each in guessed))
        blocks.append(Text(f"Without a count of tokens, and not in the table: {told}, by an estimate {more}."))
    if lost := [each["possibly_billed"] for each in bills if each["possibly_billed"]["requests"]]:
        told = many(sum(each["requests"] for each in lost), "request")
        sums = sum(each["usd"] for each in lost), sum(each["tokens"] for each in lost)
        more = usd(sums[0]) if sums[0] else many(sums[1], "token")
        blocks.append(
            Text(f"Possibly billed, and not in the table: {told}, sent and not answered, by an estimate {more}.")
        )
    return Section("cost", "Cost", (*blocks, Text(_OF_COST, "note")))


def _paid(execution: Json, accepted: int) -> Cell:
    """Say what all of it took, and what it took for each accepted passage."""
    if execution["usd"] is None:
        return Markup(
            "What it cost is not known: a model has no price ({} in its engine’s settings says it), or replies came"
            " without a count of tokens."
        ).format(code("price: {input: …, output: …}"))
    per = f": {usd(execution['usd_per_accepted'])} for each of {many(accepted, 'accepted passage')}" if accepted else ""
    return f"{usd(execution['usd'])} in all, writing and judging{per}."


def passages(accepted: Sequence[Shown], refused: Sequence[Shown]) -> Section:
    """Show some accepted and some refused passages with their texts."""
    blocks: list[Block] = []
    for title, shown, lead in (
        ("Accepted", accepted, "Drawn by dice, each recipe in turn."),
        ("Refused", refused, "Drawn by dice, each reason in turn."),
    ):
        if shown:
            blocks.append(Cards(title, lead, tuple(_card(each) for each in shown)))
        else:
            blocks.append(Text(f"No passage was {title.lower()}."))
    return Section("passages", "Some of the passages", tuple(blocks))


def _card(shown: Shown) -> Card:
    line, example = shown.line, shown.example
    reason = f": {line['reason']}" if line["reason"] else ""
    hard = f"difficulty {line['difficulty']:.2f}" if line.get("difficulty") is not None else ""
    ends = "true negative" if line["end"] == "accepted" else line["reason"]
    known, detail = example.positives, line.get("detail", "")
    fate = (
        ("in the training file" if line.get("used") else f"left over: {line['left']}") if reason == "" else "not used"
    )
    return Card(
        heading=Markup("{}{}").format(line["end"].capitalize(), reason),
        verdict=fate.capitalize() + ".",
        query=excerpt(example.query, longest=400),
        reference=excerpt(known[0].text, title=known[0].title) if known else None,
        more=max(len(known) - 1, 0),
        candidate=excerpt(line.get("text", ""), title=line.get("title", "")),
        ids=Markup("{} · {}").format(name(example.id or "no id"), name(line["id"])),
        words=(
            Word(
                short(line.get("generator") or "nobody named"),
                short(line.get("recipe") or DASH),
                hard,
                short(detail, 400),
            ),
            Word(short(line["judge"] or "cheap checks"), short(ends), "", short(line["why"], 400)),
        ),
    )


def _ends(each: Json) -> dict[str, int]:
    return {
        "used": each["used"],
        "left over": _sum(each["left"]),
        "refused": _sum(each["refused"]),
        "none": _sum(each["none"]),
    }


def _sum(counts: Mapping[str, int]) -> int:
    return sum(counts.values())


def _reasons(counts: Mapping[str, int]) -> Cell:
    found = [Markup("{} {}").format(f"{n:,}", name(reason)) for reason, n in counts.items() if n]
    return Markup(", ").join(found) or DASH


def _listed(values: Json) -> Markup:
    return name(", ".join(f"{key} {value}" for key, value in values.items()), longest=400)
