"""A finished synthesis → the page of its report: from its files, and in one walk over its ledger and its input."""

import json
from array import array
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final, get_args

from markupsafe import Markup

from relabel.certain import InTurns
from relabel.copies import normalise
from relabel.errors import RunError, typed
from relabel.evaluating import EVALUATION
from relabel.formats import get_format
from relabel.records import Example, chance
from relabel.reliability import interval_over_queries
from relabel.reporting import synthesis
from relabel.reporting.content import Cell, Page, code, count, many, name, number, percent, share, usd
from relabel.reporting.sections import file_name
from relabel.reporting.separability import alarm, separability, told_apart
from relabel.reporting.synthesis import Shown
from relabel.rundir import sha256_of
from relabel.sources import Source
from relabel.synthesis.slots import End
from relabel.synthesisdir import EXECUTION, JUDGING, LEDGER, MANIFEST, NO_RECIPE, STATISTICS

SHOWN: Final = 6
"""Accepted passages on the page, and as many refused ones."""

_TOLD: Final = ("id", "end", "reason", "why", "judge")
_SAID: Final = ("recipe", "generator", "title", "text", "detail", "left")
"""Texts of a slot in the ledger: those that every one has, and those that one may have."""

_DOCUMENTS: Final = (MANIFEST, STATISTICS, EXECUTION)


@dataclass(frozen=True, slots=True)
class Walked:
    """What one walk over the ledger finds.

    Attributes:
        authors: who wrote, by name.
        shares: the share accepted of what was asked for, with its interval over queries, by recipe; "" = all.
        accepted, refused: some passages of each.
    """

    authors: tuple[str, ...]
    shares: Mapping[str, Mapping[str, Any]]
    accepted: tuple[Shown, ...]
    refused: tuple[Shown, ...]


def page(folder: Path, *, path: Path | None = None) -> Page:
    """Gather what the report of a finished synthesis says; asks nobody.

    Raises:
        RunError: no finished synthesis is there, or its input is gone or another.
    """
    with _readable(folder):
        manifest, figures, execution = [json.loads((folder / each).read_text("utf-8")) for each in _DOCUMENTS]
        source = _source(manifest["input"], path)
        if sha256_of(folder / LEDGER) != manifest["files"][LEDGER]:
            raise RunError(
                f"{folder} was begun anew and is not finished: {LEDGER} is not of the same execution as its figures",
                hint=_again(folder),
            )
    walked = _walked(folder, source)
    with _readable(folder):
        return Page(
            title=folder.resolve().name,
            done=_done(manifest, figures, execution, walked.authors),
            results=tuple(_results(figures, walked.shares[""])),
            tiles=tuple(_tiles(figures, execution)),
            sections=(
                synthesis.done(manifest, execution, walked.authors),
                synthesis.accounting(figures, walked.shares),
                synthesis.used(figures),
                separability(figures["separability"]),
                synthesis.cost(execution, figures["slots"]["accepted"]),
                synthesis.passages(walked.accepted, walked.refused),
            ),
            foot=f"Written by relabel {manifest['versions'].get('relabel', '')}. This page loads nothing.",
        )


@contextmanager
def _readable(folder: Path) -> Iterator[None]:
    """Turn files that are missing, or hold what no synthesis writes, into one clear message."""
    try:
        yield
    except FileNotFoundError as error:
        missing = Path(error.filename or MANIFEST).name
        raise RunError(f"{folder} holds no finished synthesis ({missing} is missing)", hint=_again(folder)) from None
    except (OSError, ValueError, LookupError, TypeError, AttributeError, ArithmeticError, RecursionError) as error:
        raise RunError(f"{folder} holds what no synthesis writes: {error!r}", hint=_again(folder)) from error


def refuse_others(folder: Path) -> None:
    """Refuse the folder of another command, of which there is no page, by where its figures are.

    Raises:
        RunError: it is one of `relabel synthesize evaluate` or `queries`.
    """
    if (folder / MANIFEST).exists():
        return
    if (folder / EVALUATION).is_file():
        raise RunError(
            f"{folder} holds a comparison of negatives, which has no page", hint=f"see {folder / EVALUATION}"
        )
    if all((folder / name).exists() for name in ("rows.jsonl", "none.jsonl", "writing")):
        figures = folder / STATISTICS
        raise RunError(f"{folder} holds queries for passages, which have no page", hint=f"see {figures}")


def _again(folder: Path) -> str:
    command = typed("synthesize", "INPUT", "-c", "CONFIG", "-o", folder)
    return f"finish it: {command} (what is answered is not asked again)"


def _source(told: Mapping[str, Any], path: Path | None) -> Source:
    """Return the input as it was read, which has to be as it was."""
    source = Source(path or Path(told["path"]), get_format(told["format"]), told["on_error"])
    if not source.path.exists():
        raise RunError(f"the input {source.path} is no longer there", hint="say where it is: --input FILE")
    if sha256_of(source.path) != told["sha256"]:
        raise RunError(
            f"{source.path} is not the file that this synthesis read (its content differs)",
            hint="say where that one is: --input FILE; or have the new one filled: relabel synthesize",
        )
    return source


# -- the ledger ------------------------------------------------------------------------------------------------


def _walked(folder: Path, source: Source) -> Walked:
    accepted, refused = InTurns[Shown](SHOWN), InTurns[Shown](SHOWN)
    authors: dict[str, None] = {}
    ends: dict[str, tuple[array[int], array[float]]] = {}
    with _readable(folder):
        for line, example in _lines(folder / LEDGER, source):
            if author := line.get("generator"):
                authors[author] = None
            query = chance(normalise(example.query)) if example is not None else -1.0  # a number that stands for it
            taken = line["end"] == "accepted"
            for recipe in ("", line.get("recipe") or NO_RECIPE):
                hits, queries = ends.setdefault(recipe, (array("b"), array("d")))
                hits.append(taken)
                queries.append(query)
            if example is not None and line["end"] != "none":
                turns, kind = (accepted, line.get("recipe", "")) if taken else (refused, line["reason"])
                turns.add((kind,), (chance(line["id"]),), example.query, Shown(line, example))
    shares = {recipe: _share(*each) for recipe, each in ends.items()}
    return Walked(tuple(sorted(authors)), {"": _share(array("b"), array("d")), **shares},
                  accepted.found(), refused.found())  # fmt: skip


def _lines(ledger: Path, source: Source) -> Iterator[tuple[dict[str, Any], Example | None]]:
    """Yield what became of every slot with the row that it is of; None where it is of no row. Both are in order."""
    rows = source.examples(lambda _: None)
    example: Example | None = None
    with ledger.open(encoding="utf-8") as lines:
        for number, text in enumerate(lines, start=1):
            line = json.loads(text)
            if not _is_slot(line):
                raise ValueError(f"line {number} of {ledger.name}: not a slot")
            position = line["position"]
            while position > (-1 if example is None else example.position):
                example = next(rows, None)
                if example is None:
                    break
            if position != (-1 if example is None else example.position):
                raise ValueError(f"line {number} of {ledger.name}: there is no row {position}, or it stood before")
            yield line, example


def _is_slot(line: object) -> bool:
    """Whether a line holds what is read of a slot, and of the kind that it has to be."""
    if not isinstance(line, dict):
        return False
    texts = [line[name] for name in _SAID if name in line] + [line.get(name) for name in _TOLD]
    difficulty, position = line.get("difficulty"), line.get("position")
    return (
        all(isinstance(text, str) for text in texts)
        and line["end"] in get_args(End)
        and type(position) is int
        and position >= -1
        and (difficulty is None or (isinstance(difficulty, int | float) and 0 <= difficulty <= 1))
    )


def _share(hits: "array[int]", queries: "array[float]") -> dict[str, Any]:
    """Return the share of hits with its interval over queries; no value where there is nothing."""
    import numpy as np

    if not hits:
        return {"value": None, "low": None, "high": None, "of": 0}
    truth = np.asarray(hits, dtype=np.float64)
    distinct, clusters = np.unique(np.asarray(queries), return_inverse=True)
    low, high = interval_over_queries(truth, clusters)
    return {"value": float(truth.mean()), "low": low, "high": high, "of": len(hits), "queries": len(distinct)}


# -- the first screen ------------------------------------------------------------------------------------------


def _done(
    manifest: Mapping[str, Any], figures: Mapping[str, Any], execution: Mapping[str, Any], authors: Sequence[str]
) -> Cell:
    """Say in one sentence what was done and with what."""
    read = figures["input"]
    return Markup("{}: {} with {}; written by {}, judged by {}; seed {}, {}.").format(
        name(file_name(manifest["input"]["path"])), many(read["rows"], "row"),
        many(read["negatives"], "mined negative"), synthesis.written_by(authors),
        synthesis.judges(manifest["judge"]["stages"]), manifest["settings"]["seed"], execution["started"][:10],
    )  # fmt: skip


def _results(figures: Mapping[str, Any], taken: Mapping[str, Any]) -> Iterator[Cell]:
    """Say what came of it, in a sentence each, with how sure it is."""
    slots, rows, part = figures["slots"], figures["rows"], figures["share"]
    if not slots["asked"]:
        yield "No passage was asked for."
    else:
        refused, none = sum(slots["refused"].values()), sum(slots["none"].values())
        yield Markup(
            "<strong>{}</strong> of the {} that were asked for, for {}, were accepted; {} were refused, and {}"
            " are none: nothing came, or nobody could say."
        ).format(
            share(taken), many(slots["asked"], "passage"), many(taken["queries"], "query", "queries"), f"{refused:,}",
            f"{none:,}",
        )  # fmt: skip
    yield (
        f"{many(slots['used'], 'passage is', 'passages are')} used, in {rows['filled']:,} of"
        f" {many(figures['input']['rows'], 'row')}; {percent(part['of_negatives'])} of"
        f" {many(part['negatives'], 'negative')} are synthetic now."
    )
    apart = figures["separability"]
    yield Markup("{} {}").format(told_apart(apart), alarm(apart))
    yield from (f"Warning: {each}." for each in figures["warnings"] if each != apart["warning"])
    if slots["accepted"]:
        yield Markup(
            "That accepted ones are no answers rests on the judges’ word. How far they agree, with one another and with"
            " people: {} (FOLDER is this synthesis’s)."
        ).format(code(f"relabel report FOLDER/{JUDGING}"))


def _tiles(figures: Mapping[str, Any], execution: Mapping[str, Any]) -> Iterator[tuple[str, Cell, Cell]]:
    """Yield the figures that stand largest."""
    slots, apart = figures["slots"], figures["separability"]
    auc, per = apart["auc"], execution["usd_per_accepted"]
    yield "asked for", count(slots["asked"]), f"for {many(figures['input']['wanting'], 'row')} that wanted some"
    yield "accepted", count(slots["accepted"]), f"{slots['used']:,} of these used"
    yield "refused", count(sum(slots["refused"].values())), f"and {sum(slots['none'].values()):,} none"
    sure = f"{auc['low']:.2f} to {auc['high']:.2f}; 0.5 is chance" if auc["low"] is not None else "too few to tell"
    yield "told apart, AUC", number(auc["value"]), sure
    yield "paid", usd(execution["usd"]), f"{usd(per)} an accepted passage" if per is not None else ""
