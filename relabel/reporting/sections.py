"""What was done, what came of it: a run's own files → sections of the page."""

from collections.abc import Iterator, Mapping, Sequence
from typing import Any, Final

import yaml
from markupsafe import Markup

from relabel.records import LABELS
from relabel.reporting.content import (
    DASH,
    Block,
    Cell,
    Plot,
    Plots,
    Section,
    Table,
    Text,
    code,
    count,
    many,
    name,
    of,
    percent,
    share,
    short,
)
from relabel.reporting.plots import Whisker, bars, whiskers

Json = Mapping[str, Any]

SOURCES_DRAWN: Final = 24
LISTED: Final = 12
_RATES: Final = ("pairs called relevant", "pairs called relevant or partial", "rows with a false negative")
_NOBODY: Final = "(no source)"


# -- what was done -------------------------------------------------------------------------------------------


def done(manifest: Json, execution: Json) -> Section:
    """Say what was done with what: input, cascade, models, prompts, policy, versions, settings."""
    told, settings = manifest["input"], manifest["settings"]
    policy = settings["policy"]
    facts: list[tuple[Cell, Cell]] = [
        ("input", Markup("{}, {} rows, SHA-256 {}").format(
            name(file_name(told["path"])), told["format"], code(told["sha256"][:16]))),
        ("reference", f"the first {settings['reference']} positives of a row"),
        ("policy", name(_policy(policy), longest=400)),
        ("seed", str(manifest["seed"])),
    ]  # fmt: skip
    if told.get("shard"):
        facts.append(("shard", told["shard"]))
    if manifest.get("merged_from"):
        facts.append(("merged from", many(len(manifest["merged_from"]), "shard")))
    if told.get("pool"):
        facts.append(
            ("refilled from", Markup("a pool of mined candidates, SHA-256 {}").format(code(told["pool"][:16])))
        )
    if execution:
        facts.append(("last execution", f"{execution['started']}, {duration(execution['seconds'])}"))
    versions = [f"{package} {version}" for package, version in manifest["versions"].items()]
    facts.append(("versions", name(", ".join(versions), longest=400)))
    return Section("done", "What was done, and with what", (
        _cascade(manifest["stages"], settings["stages"]),
        Table(("", ""), tuple(facts), words=2),
        Text(yaml.safe_dump(told_settings(settings), sort_keys=False, allow_unicode=True, width=100), "mono",
             folded="All settings, as a config file"),
    ))  # fmt: skip


def _cascade(stages: Sequence[Json], settings: Sequence[Json]) -> Table:
    rows: list[tuple[Cell, ...]] = []
    for stage, own in zip(stages, settings, strict=True):
        prompt: Cell = DASH
        if "template" in stage:
            prompt = Markup("{} {}").format(name(stage["template"]), code(stage["template_fingerprint"][:12]))
        last = len(rows) + 1 == len(stages)
        finals = _finals(own, last=last)
        up = DASH if last else "the whole query" if own.get("escalate") == "query" else "the pair"
        sample = percent(own["sample"]) if own.get("sample") else DASH
        rows.append(
            (name(stage["name"]), name(model_of(stage)), prompt, finals, up, sample, code(stage["fingerprint"][:12]))
        )
    heads = (
        "stage",
        "judge",
        "prompt, fingerprint",
        "final here",
        "the rest goes up as",
        "second opinions",
        "judge's fingerprint",
    )
    return Table(heads, tuple(rows), "The cascade: each stage is asked what the ones before it left open", words=7)


def model_of(stage: Json) -> str:
    """Say who answered at a stage, from the manifest: the model, or the kind of judge."""
    engine = stage.get("engine") or {}
    model = engine.get("model") or stage.get("model") or ""
    if engine.get("engine") == "scripted":
        model = "recorded replies"
    revision = engine.get("revision") or stage.get("revision")
    return ", ".join(str(part) for part in (stage.get("judge", "own judge"), model, revision) if part)


def _finals(own: Json, *, last: bool) -> str:
    final = own.get("final")
    if settle := own.get("settle"):
        signs = (("relevant", "≥"), ("partial", "≥"), ("irrelevant", "≤"))
        cuts = [f"{label} {sign} {settle[label]:.4g}" for label, sign in signs if settle.get(label) is not None]
        own_cuts = "; some sources by their own" if settle.get("sources") else ""
        return f"by {settle['by']}: {', '.join(cuts) or 'nothing'}{own_cuts}"
    if isinstance(final, Mapping):
        return ", ".join(f"{label} from p = {at:g}" if at else label for label, at in final.items())
    if final is not None:
        return ", ".join(final) or "nothing"
    return "every label" if last or own.get("judge") in ("rules", "human") else "irrelevant"


def _policy(policy: Json) -> str:
    actions = policy["actions"]
    told = actions if isinstance(actions, str) else ", ".join(f"{what} → {action}" for what, action in actions.items())
    limit = f"; at most {policy['max_flagged']} false negatives a row" if policy.get("max_flagged") is not None else ""
    exempt = f"; never judged: {', '.join(policy['exempt'])}" if policy.get("exempt") else ""
    return f"{told}{limit}; min_negatives {policy['min_negatives']}{exempt}"


def told_settings(settings: Any) -> Any:
    """Return settings without what was not set."""
    if isinstance(settings, Mapping):
        return {key: told_settings(value) for key, value in settings.items() if value not in (None, "", [], {})}
    return [told_settings(each) for each in settings] if isinstance(settings, list) else settings


def file_name(path: str) -> str:
    """Return the last part of a path of any system."""
    return path.replace("\\", "/").rstrip("/").rpartition("/")[2]


def duration(seconds: float) -> str:
    """Write a time: seconds, minutes, hours."""
    if seconds < 100:
        return f"{seconds:.1f} s"
    return f"{seconds / 60:.0f} min" if seconds < 6000 else f"{seconds / 3600:.1f} h"


# -- accounting ----------------------------------------------------------------------------------------------


def accounting(figures: Json) -> Section:
    """Show the lines that add up: rows, passages, verdicts, and every stage's words."""
    rows, passages, verdicts = figures["rows"], figures["passages"], figures["verdicts"]
    sums = (
        ("rows in", rows["in"], {key: rows[key] for key in ("written", "removed", "rejected")}),
        ("passages (negatives) in", passages["in"], {key: passages[key] for key in passages if key != "in"}),
        ("pairs", sum(verdicts.values()), verdicts),
    )
    lines = [
        (what, count(total), "= " + " + ".join(f"{value:,} {key.replace('_', ' ')}" for key, value in parts.items()))
        for what, total, parts in sums
    ]
    blocks: list[Block] = [Table(("", "in all", "which adds up"), tuple(lines), words=3)]
    drawn = [(stage["name"], _words(stage)) for stage in figures["stages"] if stage["asked"]]
    table = _stages(figures["stages"])
    if drawn:
        label = "; ".join(
            f"{stage}: " + ", ".join(f"{n:,} {word}" for word, n in parts.items()) for stage, parts in drawn
        )
        svg = bars(drawn, "pairs asked about, second opinions apart")
        blocks.append(Plots((Plot(svg, "What each stage said", f"Bars of what each stage said. {label}", table),)))
    else:
        blocks.append(table)
    blocks += [Text(note, "note") for note in _remarks(figures)]
    return Section("accounting", "Accounting", tuple(blocks))


def _words(part: Json) -> dict[str, int]:
    return {**{label: part[label] for label in LABELS}, "no label": sum(part["none"].values())}


def _stages(stages: Sequence[Json]) -> Table:
    rows: list[tuple[Cell, ...]] = []
    for stage in stages:
        for title, part in ((name(stage["name"]), stage), ("second opinions", stage["second_opinions"])):
            if part["asked"] or part is stage:
                none = Markup(", ").join(
                    [Markup("{} {}").format(f"{n:,}", name(why)) for why, n in part["none"].items()]
                )
                counts = [count(part[key]) for key in ("asked", *LABELS)]
                rows.append((title, *counts, count(sum(part["none"].values())), none))
    heads = ("stage", "asked", *LABELS, "no label", "why there is none")
    return Table(heads, tuple(rows), "asked = relevant + partial + irrelevant + no label", folded="The figures")


def _remarks(figures: Json) -> Iterator[str]:
    rows = figures["rows"]
    if exempt := rows["exempt"]:
        yield f"Of exempt sources, and never judged: {many(exempt, 'row')}."
    if scattered := rows["scattered"]:
        yield (
            f"{many(scattered, 'query comes', 'queries come')} back later in the file; intervals take these rows"
            " for other queries and come out too narrow. Sort the rows by query."
        )
    for stage in figures["stages"]:
        if shown := stage.get("shortened", 0) + stage["second_opinions"].get("shortened", 0):
            pairs = many(shown, "pair")
            yield f"{short(stage['name'])} was shown {pairs} shortened: the model does not read the whole."
    if refill := figures.get("refill"):
        told = refill["rows"]
        yield (
            f"{many(told['short'], 'row was', 'rows were')} short of negatives: {told['filled']:,} filled from the"
            f" pool, {told['partly']:,} in part, {told['unfilled']:,} not;"
            f" {refill['candidates']['looked_at']:,} candidates were looked at."
        )


# -- rates ---------------------------------------------------------------------------------------------------


def rates(figures: Json) -> Section:
    """Show how much was flagged and confirmed, by stage and by source, with intervals."""
    found = figures["rates"]
    if not found:
        return Section("rates", "Flag and confirmation rates", (Text("No pair was judged.", "missing"),))
    order = [
        *_RATES,
        *[f"{what} {stage['name']}" for stage in figures["stages"] for what in ("flagged by", "confirmed after")],
    ]
    known = [(rate, found[rate]) for rate in order if rate in found]
    rows = tuple((_rate_name(rate), share(each), of(each, _noun(rate))) for rate, each in known)
    table = Table(("rate", "share (95 % interval)", "of"), rows, words=1, folded="The figures")
    drawn = [
        Whisker(stage["name"], series, each["value"], each["low"], each["high"])
        for stage in figures["stages"]
        for what, series in (("flagged by", "flagged"), ("confirmed after", "flag confirmed by the next stage"))
        if (each := found.get(f"{what} {stage['name']}")) is not None and each["value"] is not None
    ]
    label = "; ".join(f"{each.row} {each.series}: {percent(each.value)}" for each in drawn)
    plots = [Plot(whiskers(drawn, "share of pairs asked about, %", percent=True), "By stage",
                  f"Rates by stage with 95 % intervals. {label}", table)] if drawn else []  # fmt: skip
    sources = {source: part for source, part in figures["sources"].items() if part["rates"]}
    if len(sources) > 1:
        plots.append(_by_source(found, sources, [stage["name"] for stage in figures["stages"] if stage["asked"]]))
    lead = "Flagged: called relevant or partial. Confirmed: of these, flagged by the next stage that was asked too."
    note = (
        "Intervals: 95 %, percentile bootstrap over queries, since pairs of one query are not independent. One without"
        " width is that of a rate that was the same in every query, not of a sure one."
    )
    return Section("rates", "Flag and confirmation rates", (Text(lead), Plots(tuple(plots)), Text(note, "note")))


def _by_source(whole: Json, sources: Mapping[str, Json], stages: Sequence[str]) -> Plot:
    rate = "pairs called relevant"
    largest = sorted(sources, key=lambda source: (-sources[source]["rates"].get(rate, {"of": 0})["of"], source))
    parts = [
        ("all", whole),
        *[(source or _NOBODY, sources[source]["rates"]) for source in sorted(largest[:SOURCES_DRAWN])],
    ]
    drawn = [
        Whisker(source, "called relevant", each["value"], each["low"], each["high"])
        for source, found in parts
        if (each := found.get(rate)) is not None and each["value"] is not None
    ]
    names = [*_RATES, *[f"{what} {stage}" for stage in stages for what in ("flagged by", "confirmed after")]]
    names = [each for each in names if each in whole]
    rows = tuple(
        (name(source or _NOBODY), *[share(found["rates"][each]) + f", {of(found['rates'][each], _noun(each))}"
                                    if each in found["rates"] else DASH for each in names])
        for source, found in sources.items()
    )  # fmt: skip
    table = Table(("source", *[_rate_name(each) for each in names]), rows, words=1, folded="The figures, all rates")
    label = "; ".join(f"{short(each.row)}: {percent(each.value)}" for each in drawn)
    title = "Called relevant, by source"
    if len(sources) > SOURCES_DRAWN:
        title += f" (the {SOURCES_DRAWN} largest of {len(sources):,})"
    svg = whiskers(drawn, "pairs called relevant, %", percent=True)
    return Plot(svg, title, f"Share of pairs called relevant by source with 95 % intervals. {label}", table)


def _rate_name(rate: str) -> Cell:
    for what in ("flagged by", "confirmed after"):
        if rate.startswith(f"{what} "):
            return Markup("{} {}").format(what, name(rate.removeprefix(f"{what} ")))
    return rate


def _noun(rate: str) -> str:
    return "row" if rate.startswith("rows") else "pair"


# -- what was left out ---------------------------------------------------------------------------------------


def rejected(number: int, first: Sequence[Json]) -> Section:
    """Show rows that could not be read: how many, and the first ones with the reason."""
    if not number:
        return Section("rejected", "Rejected rows", (Text("Every row could be read."),))
    rows = tuple(
        (
            count(row["line"]),
            name(row["field"] or DASH),
            name(row["reason"], longest=300),
            name(row["content"], longest=160),
        )
        for row in first
    )
    more = f"The first {len(rows):,} of {number:,}" if number > len(rows) else ""
    lead = Markup("{} could not be read and stand in {} with their text.").format(
        many(number, "row"), code("rejects.jsonl")
    )
    table = Table(("line", "field", "reason", "the row begins"), rows, more, words=4)
    return Section("rejected", "Rejected rows", (Text(lead), table))


def below(number: int, least: int, first: Sequence[Json], *, pool: bool) -> Section:
    """Show rows that are left with too few negatives."""
    title = "Rows below min_negatives"
    if not number:
        told = f"No row was left with fewer than {many(least, 'negative')} (min_negatives)."
        return Section("below", title, (Text(told),))
    rows = tuple((count(row["position"]), name(row["example_id"]), count(row["negatives"])) for row in first)
    more = f"The first {len(rows):,} of {number:,}" if number > len(rows) else ""
    lead = Markup("{} left with fewer than {}; they are written, and listed in {}.").format(
        many(number, "row is", "rows are"), many(least, "negative"), code("below_min_negatives.jsonl")
    )
    if not pool:
        lead += Markup(" Candidates that {} found could take the places: {}.").format(
            code("relabel mine"), code("relabel run INPUT --pool FOLDER")
        )
    return Section("below", title, (Text(lead), Table(("row", "id", "negatives left"), rows, more, words=2)))
