"""A finished run → one HTML page that opens offline: from its files, and its store in one walk over the pairs.

A folder of `relabel synthesize` has a page of its own, see `synthesisreport`.
"""

import json
import math
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import islice
from pathlib import Path
from typing import Any, Final, TypeVar

from markupsafe import Markup

from relabel import synthesisreport
from relabel.building import price
from relabel.concluding import Plan
from relabel.errors import RunError, SettingsError, typed
from relabel.gleaning import Checked, Gleaned, Histogram, Measure, glean, on_common_edges
from relabel.labelled import judged_pairs
from relabel.money import PICO, Price
from relabel.pipeline import open_run
from relabel.reliability import interval_over_queries
from relabel.reporting import agreement, costs, people, sections, trust
from relabel.reporting.content import Cell, Page, Section, code, coefficient, count, many, name, percent, share, usd
from relabel.reporting.page import render
from relabel.reporting.pairs import disagreements
from relabel.reporting.plots import Bin
from relabel.rundir import read_json, replacing, state_of
from relabel.store import Store
from relabel.synthesisdir import holds_synthesis

T = TypeVar("T")

FEWEST: Final = 20
"""Labelled pairs of one judge below which no reliability diagram is drawn."""

A_BIN: Final = 15
"""Labelled pairs that a bin of a score's diagram should hold."""


@dataclass(frozen=True, slots=True)
class Report:
    """Where a report was written, and its size in bytes."""

    path: Path
    size: int


def write_report(folder: Path, output: Path | None = None, *, path: Path | None = None) -> Report:
    """Write the report of a finished run or synthesis; asks nobody. The same run gives the same bytes.

    Args:
        folder: the run directory, or the folder of a synthesis.
        output: the file to write; `report.html` in the run directory without.
        path: where the input is now, if it was moved.

    Raises:
        RunError: no finished run is there, its input is gone or another, or the file cannot be written.
        SettingsError: the file's name does not end in .html.
        MissingPart: matplotlib is not installed.
    """
    target = output or folder / "report.html"
    if target.suffix.casefold() not in (".html", ".htm"):
        raise SettingsError(f"{target} would be taken for something else", hint="name it .html")
    synthetic = holds_synthesis(folder)
    if not synthetic:
        synthesisreport.refuse_others(folder)
        read_json(folder, "manifest.json")  # where no run is, that is to be said before all else
    if target.is_dir() or not target.parent.is_dir():
        raise RunError(
            f"{target}: no file can be written there", hint=f"name one: {typed('report', folder, '-o', 'report.html')}"
        )
    html = render(synthesisreport.page(folder, path=path) if synthetic else page(folder, path=path))
    with replacing(target) as file:
        file.write(html)
    return Report(target, len(html.encode()))


def page(folder: Path, *, path: Path | None = None) -> Page:
    """Gather what the report of a finished run says."""
    manifest, figures = read_json(folder, "manifest.json"), read_json(folder, "statistics.json")
    execution = read_json(folder, "run.json") if (folder / "run.json").exists() else {}  # a merged run has none
    with open_run(folder, path=path) as (plan, store):
        gleaned = glean(judged_pairs(plan, store), [stage.name for stage in plan.stages])
        spent = list(_spent(plan, store, manifest, gleaned))
    looked = gleaned.labelled > 0
    calibrate, estimate = typed("calibrate", folder, "--keep", "0.1"), typed("audit", "estimate", folder)
    now = state_of(folder)
    calibrated = _made(
        folder / "calibration.json",
        calibrate,
        lambda found: (
            [people.outdated_calibration()]
            if _earlier(found, now, ("input", "judges"))  # other thresholds are what a calibration is for
            else list(people.calibration(found))
        ),
    )
    estimated, headline = _made(folder / "estimates.json", estimate, lambda found: _estimates(found, now))
    asked = _made(folder / "diagnostics.json", typed("diagnose", "INPUT", "-o", folder), trust.diagnostics)
    changed = figures["passages"]["promoted"] + figures["passages"]["dropped"]
    curves, scores = list(_curves(gleaned.checked)), list(_scores(gleaned))
    return Page(
        title=folder.resolve().name,
        done=_done(manifest, execution, figures),
        results=(*_results(figures, gleaned, estimated=bool(headline)), *headline),
        tiles=tuple(_tiles(figures, gleaned, spent, changed)),
        sections=(
            sections.done(manifest, execution),
            sections.accounting(figures),
            sections.rates(figures),
            agreement.agreement(figures, people=looked),
            trust.reliabilities(curves, calibrated, people=looked, measured=bool(scores), fewest=FEWEST),
            estimated,
            trust.scores(scores),
            *([asked] if asked is not None else []),
            costs.cost(spent, gleaned.pairs, changed),
            disagreements(gleaned.against_people, gleaned.contradicted, gleaned.certain, people=looked),
            *_left_out(folder, plan, figures),
        ),
        foot=f"Written by relabel {manifest['versions'].get('relabel', '')}. This page loads nothing.",
    )


# -- the first screen ----------------------------------------------------------------------------------------


def _done(manifest: Mapping[str, Any], execution: Mapping[str, Any], figures: Mapping[str, Any]) -> Cell:
    """Say in one sentence what was done and with what."""
    rows, passages = figures["rows"]["in"], figures["passages"]["in"]
    cascade = Markup(" → ").join([name(stage["name"]) for stage in manifest["stages"]])
    source = name(manifest["input"]["path"].replace("\\", "/").rstrip("/").rpartition("/")[2])
    when = f", {execution['started'][:10]}" if execution else ""
    return Markup("{}: {} with {}, judged by {}; seed {}{}.").format(
        source, many(rows, "row"), many(passages, "hard negative"), cascade, manifest["seed"], when
    )


def _results(figures: Mapping[str, Any], gleaned: Gleaned, *, estimated: bool) -> Iterator[Cell]:
    """Say what came of it, in a sentence each, with how sure it is."""
    rates, passages = figures["rates"], figures["passages"]
    relevant, rows = rates.get("pairs called relevant"), rates.get("rows with a false negative")
    if relevant is None or relevant["value"] is None or rows is None:
        yield "No pair came to a verdict."
    else:
        queries = many(relevant.get("queries") or gleaned.queries, "query", "queries")
        yield Markup(
            "<strong>{}</strong> of the {} that got a verdict, in {}, are called false negatives; {} of {} have at"
            " least one."
        ).format(share(relevant), many(relevant["of"], "hard negative"), queries, share(rows), many(rows["of"], "row"))
    yield (
        f"{many(passages['promoted'], 'negative')} became positives, {many(passages['dropped'], 'negative')} were"
        f" dropped; {figures['rows']['written']:,} of {many(figures['rows']['in'], 'row')} were written."
    )
    compared = [entry for entry in figures["agreement"] if entry["second"] == "human" and entry["n"]]
    if compared:
        last = compared[-1]
        yield Markup("People labelled {}. Of those that {} judged too ({}), they give {} the same label: κ {}.").format(
            many(gleaned.labelled, "pair"), name(last["first"]), f"{last['n']:,}", share(last["figures"]["agreement"]),
            coefficient(last["figures"]["kappa"]),
        )  # fmt: skip
        if (ceiling := (figures.get("people") or {}).get("together")) and ceiling["n"]:
            yield (
                f"People with one another: {share(ceiling['figures']['agreement'])}, κ "
                + coefficient(ceiling["figures"]["fleiss_kappa"])
                + f", on {many(ceiling['n'], 'pair')}."
            )
    elif gleaned.labelled:
        yield Markup("People labelled {}, which the figures do not know yet: {}.").format(
            many(gleaned.labelled, "pair"), code("relabel apply RUN")
        )
    elif estimated:
        yield "The run itself holds no label of a person; what follows rests on a file of labels that it was given."
    else:
        yield "No person has checked these verdicts: how right the judges are, no figure here can say."


def _tiles(
    figures: Mapping[str, Any], gleaned: Gleaned, spent: Sequence[costs.Spent], changed: int
) -> Iterator[tuple[str, Cell, Cell]]:
    """Yield the figures that stand largest."""
    verdicts, rows, passages = figures["verdicts"], figures["rows"], figures["passages"]["in"]
    yield (
        "pairs judged",
        count(gleaned.pairs),
        f"in {many(gleaned.queries, 'query', 'queries')}, {many(rows['in'], 'row')}",
    )
    yield "false negatives", count(verdicts["false_negative"]), f"and {verdicts['partial']:,} partial"
    yield "labels changed", count(changed), f"{percent(changed / passages)} of the negatives" if passages else ""
    yield "undecided", count(verdicts["undecided"]), "nobody settled them"
    who = many(len(gleaned.reviewers), "reviewer") if gleaned.labelled else "nobody has labelled in the run"
    yield "checked by people", count(gleaned.labelled), f"by {who}" if gleaned.labelled else who
    if spent and all(each.usd is not None and each.counted == each.replies for each in spent):
        total = sum(each.usd or 0.0 for each in spent)
        yield "paid", usd(total), f"{usd(total / changed)} a changed label" if changed else ""


# -- cost ----------------------------------------------------------------------------------------------------


def _spent(plan: Plan, store: Store, manifest: Mapping[str, Any], gleaned: Gleaned) -> Iterator[costs.Spent]:
    """Yield what each stage that asked a language model took."""
    for told, stage in zip(manifest["stages"], plan.settings.stages, strict=True):
        took = store.spent(told["number"])
        if not took.replies:
            continue
        engine = getattr(stage, "engine", None)
        each = _price(plan, engine) if engine is not None else None
        yield costs.Spent(
            told["name"], (told.get("engine") or {}).get("model") or took.model or sections.model_of(told),
            took.replies, took.counted, took.pairs, took.tokens_in, took.tokens_out, took.tokens_cached,
            _cost(store, told["number"], each), gleaned.settled[told["name"]], gleaned.changed[told["name"]],
        )  # fmt: skip


def _price(plan: Plan, engine: Any) -> Price | None:
    """Return what an engine's tokens cost; None also where the run's own file of prices is no longer there."""
    try:
        return price(engine, plan.settings.prices)
    except SettingsError:
        return None


def _cost(store: Store, judge: int, known: Price | None) -> float | None:
    """Return what a judge's replies cost at this price, each by itself: a long prompt may cost more per token."""
    if known is None:
        return None
    return sum(known.pico(usage) or 0 for usage in store.usages(judge)) / PICO


# -- distributions -------------------------------------------------------------------------------------------


def _scores(gleaned: Gleaned) -> Iterator[trust.Scores]:
    for (stage, measure), groups in gleaned.scores.items():
        known: dict[str, Histogram] = {verdict: groups[verdict] for verdict in sorted(groups) if groups[verdict].counts}
        if known:
            edges, counts = on_common_edges(known, finest=1 / 32 if measure == "probability" else 0.0)
            yield trust.Scores(stage, measure, edges, counts)


_Said = tuple[float, bool, str]
"""What a judge said beside its word, whether people bear it out, and the query."""


def _curves(checked: Sequence[Checked]) -> Iterator[trust.Curve]:
    """Yield a reliability diagram for each stage and measure with enough labelled pairs."""
    measures: tuple[tuple[Measure, Callable[[Checked], float | None], Callable[[Checked], bool]], ...] = (
        ("probability", lambda each: each.probability, lambda each: each.label == each.gold),
        ("score", lambda each: each.score, lambda each: each.gold == "relevant"),
    )
    for stage in dict.fromkeys(each.stage for each in checked):
        for measure, value, hit in measures:
            said = [
                (number, hit(each), each.query)
                for each in checked
                if each.stage == stage and (number := value(each)) is not None and math.isfinite(number)
            ]
            if len(said) >= FEWEST:
                bins = _tenths(said) if measure == "probability" else _equal_counts(said)
                yield trust.Curve(stage, measure, len(said), tuple(bins))


def _tenths(said: Sequence[_Said]) -> Iterator[Bin]:
    """Bin probabilities by tenths."""
    for tenth in range(10):
        held = [each for each in said if min(int(each[0] * 10), 9) == tenth]
        if held:
            yield _bin(tenth / 10, (tenth + 1) / 10, held)


def _equal_counts(said: Sequence[_Said]) -> Iterator[Bin]:
    """Bin scores so that each bin holds about as many pairs; equal scores stay together."""
    ordered = sorted(said)
    size = max(A_BIN, math.ceil(len(ordered) / 10))
    held: list[_Said] = []
    for at, each in enumerate(ordered):
        held.append(each)
        left = len(ordered) - at - 1
        if left == 0 or (len(held) >= size and left >= A_BIN and ordered[at + 1][0] > each[0]):
            yield _bin(held[0][0], held[-1][0], held)
            held = []


def _bin(low: float, high: float, held: Sequence[_Said]) -> Bin:
    """Return a bin with the interval over queries of its share of hits."""
    import numpy as np

    truth = np.array([hit for _, hit, _ in held], dtype=np.float64)
    _, clusters = np.unique([query for _, _, query in held], return_inverse=True)
    least, most = interval_over_queries(truth, clusters)
    mean = math.fsum(value for value, _, _ in held) / len(held)
    return Bin(low, high, len(held), mean, float(truth.mean()), least, most)


# -- what was left out ---------------------------------------------------------------------------------------


def _left_out(folder: Path, plan: Plan, figures: Mapping[str, Any]) -> Iterator[Section]:
    """Yield the rows that were rejected, and those that are left with too few negatives."""
    rows = figures["rows"]
    yield sections.rejected(rows["rejected"], _first(folder / "rejects.jsonl"))
    least, short = plan.policy.min_negatives, rows["below_min_negatives"]
    yield sections.below(short, least, _first(folder / "below_min_negatives.jsonl"), pool=plan.pool is not None)


def _made(path: Path, command: str, make: Callable[[Any], T]) -> T:
    """Make a part of the page of what another command wrote into the run, or of None where it did not.

    Raises:
        RunError: the file is not what that command writes.
    """
    try:
        return make(json.loads(path.read_text("utf-8")) if path.exists() else None)
    except (OSError, ValueError, LookupError, TypeError, AttributeError) as error:
        raise RunError(f"{path} is not what relabel writes", hint=f"write it anew: {command}") from error


def _earlier(found: Any, now: Mapping[str, Any], traits: Sequence[str]) -> bool:
    """Whether something was made of another state of the run."""
    if found is None:
        return False
    then = found.get("run") if isinstance(found, dict) else None
    return not isinstance(then, dict) or any(then.get(trait) != now[trait] for trait in traits)


def _estimates(found: Any, now: Mapping[str, Any]) -> tuple[Section, list[Cell]]:
    """Make the section of estimates and their sentence of the first screen."""
    if _earlier(found, now, tuple(now)):
        return people.outdated_estimates(), []
    figures = found["figures"] if found is not None else None
    return people.estimates(figures), list(people.headline(figures))


def _first(path: Path) -> list[dict[str, Any]]:
    """Return the first rows of a file of JSON lines."""
    try:
        with path.open(encoding="utf-8") as lines:
            return [json.loads(line) for line in islice(lines, sections.LISTED)]
    except (OSError, ValueError) as error:
        raise RunError(
            f"{path} cannot be read: {error}", hint=f"write it anew: {typed('apply', path.parent)}"
        ) from error
