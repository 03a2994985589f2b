"""Two prompt templates on the same sample: which labels flip, which agrees more with people, what each costs."""

import csv
import io
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

from relabel import config
from relabel.agreement import CODES, Agreement, Tally
from relabel.asking import Rehearsed, finding, pairs_of, sitting, size_of, stage_of
from relabel.diagnostics import Diagnostic, PairedAgreement, Said, against_gold, flags, rate
from relabel.errors import InputError
from relabel.interview import Begin, Bill, Heard, Interview, Progress
from relabel.labelled import Labels
from relabel.prompts import Template, load_template
from relabel.records import Case, Judgment, Label, Pair, fingerprint, majority
from relabel.rundir import replacing, sha256_of, versions, write_json
from relabel.sources import Source
from relabel.tables import to_cell

FLIPS: Final = "flips.csv"
COMPARISON: Final = "comparison.json"
_SIDES: Final = ("before", "after")
_COLUMNS: Final = (
    "pair", "query_id", "source", "query", "reference", "candidate_id", "candidate_title", "candidate", "before",
    "after", "gold", "why_before", "why_after",
)  # fmt: skip


@dataclass(frozen=True, slots=True)
class PromptFlip:
    """A pair on which two templates differ; a judgment without a label differs from every label."""

    case: Case
    pair: Pair
    before: Judgment
    after: Judgment
    gold: Label | None


@dataclass(frozen=True, slots=True)
class Side:
    """What one template brought.

    Attributes:
        template: the question.
        counts: pairs by label, and of none by reason.
        yes: share of the pairs with a label that is relevant or partial, with its interval.
        bill: requests, tokens, dollars.
    """

    template: Template
    counts: Mapping[str, Any]
    yes: Diagnostic
    bill: Bill

    def to_json(self) -> dict[str, Any]:
        """Return plain dicts."""
        return {
            "template": self.template.name,
            "path": self.template.path,
            "fingerprint": self.template.fingerprint,
            **self.counts,
            "yes_rate": self.yes.to_json(),
            "cost": self.bill.to_json(),
        }


@dataclass(frozen=True, slots=True)
class Comparison:
    """What two templates made of the same pairs.

    Attributes:
        stage: the stage whose engine answered.
        queries: of the sample.
        pairs: of the sample.
        before: the first template.
        after: the second.
        flips: pairs on which they differ, in the order of the input.
        agreement: of the two, on pairs that both labelled.
        gold: each against people's labels, and the difference; None without such labels.
        asked: questions asked in this execution; the others' replies were stored.
        files: by purpose, as written.
    """

    stage: str
    queries: int
    pairs: int
    before: Side
    after: Side
    flips: tuple[PromptFlip, ...]
    agreement: Agreement
    gold: PairedAgreement | None
    asked: int
    files: Mapping[str, Path]

    @property
    def kinds(self) -> dict[str, int]:
        """Flips by what became what, the most frequent first."""
        return dict(Counter(f"{_word(flip.before)} → {_word(flip.after)}" for flip in self.flips).most_common())

    def to_json(self) -> dict[str, Any]:
        """Return everything but the flips themselves as plain JSON."""
        gold = self.gold
        return {
            "stage": self.stage,
            "queries": self.queries,
            "pairs": self.pairs,
            "before": self.before.to_json(),
            "after": self.after.to_json(),
            "flips": self.kinds,
            "agreement": self.agreement.to_json(),
            "gold": gold
            and {
                "before": gold.before.to_json(),
                "after": gold.after.to_json(),
                "difference": {name: figure.to_json() for name, figure in gold.difference.items()},
            },
        }


def compare(
    before: str | Path,
    after: str | Path,
    source: Source,
    settings: config.Settings,
    folder: Path,
    *,
    stage: str | None = None,
    queries: int = 200,
    gold: Labels | None = None,
    progress: Progress = lambda *_: None,
    begin: Begin = lambda *_: None,
) -> Comparison:
    """Ask one stage's engine about the same pairs with two templates; write `flips.csv` and `comparison.json`.

    Replies are kept in the folder's store under the addresses that a run gives them: what was asked there is not asked
    again, be it by a comparison or by `relabel run`.

    Args:
        before: the first template, a name or a file.
        after: the second.
        source: the input.
        settings: the cascade whose stage answers.
        folder: where replies and results go; may be a run directory.
        stage: name of an LLM stage; the first one without.
        queries: how many, chosen by the settings' seed.
        gold: people's labels.
        progress: told how many questions are answered.
        begin: told how many there are, before anybody is asked.

    Raises:
        SettingsError: no LLM stage, no stage of that name, or a template that does not load.
        InputError: no row with negatives, the same template twice, or labels about none of the pairs.
        ServiceError: the service cannot go on; the store keeps what was answered.
    """
    templates = _templates(before, after)
    place = stage_of(settings, stage)
    with sitting(source, settings, place, queries, folder, progress=progress, begin=begin) as (interview, cases):
        heard = interview.ask(_ways(interview, templates, cases))
        files = {"flips": folder / FLIPS, "comparison": folder / COMPARISON}
        found = _compared(interview, templates, cases, heard, gold, settings.seed, files)
    _write_flips(found.flips, files["flips"])
    told = {"input": {"path": str(source.path.resolve()), "sha256": sha256_of(source.path)}, "seed": settings.seed}
    write_json(files["comparison"], told | found.to_json() | {"versions": versions()})
    return found


def rehearse(
    before: str | Path,
    after: str | Path,
    source: Source,
    settings: config.Settings,
    folder: Path,
    *,
    stage: str | None = None,
    queries: int = 200,
) -> Rehearsed:
    """Count what `compare` would ask, and estimate what it costs. Asks nobody."""
    place = stage_of(settings, stage)
    templates = _templates(before, after)
    with sitting(source, settings, place, queries, folder, dry=True) as (interview, cases):
        bills = interview.forecast(_ways(interview, templates, cases))
    named = {template.name: bill for template, bill in zip(templates, bills.values(), strict=True)}
    return Rehearsed(settings.names[place], *size_of(cases), named)


def _templates(before: str | Path, after: str | Path) -> tuple[Template, Template]:
    first, second = load_template(before), load_template(after)
    if first.fingerprint == second.fingerprint:
        raise InputError(f"{before} and {after} are the same template", hint="name two that differ")
    return first, second


def _ways(interview: Interview, templates: Sequence[Template], cases: Sequence[Case]) -> dict[str, Any]:
    return {side: (interview.way(template), cases) for side, template in zip(_SIDES, templates, strict=True)}


def _compared(
    interview: Interview,
    templates: Sequence[Template],
    cases: Sequence[Case],
    heard: Mapping[str, Heard],
    gold: Labels | None,
    seed: int,
    files: Mapping[str, Path],
) -> Comparison:
    before, after = (heard[side] for side in _SIDES)
    flips = []
    words: list[tuple[str, Label | None, Label | None, Label | None]] = []
    for key, case, pair in pairs_of(cases):
        known = majority(gold.of(finding(case, pair)).values()) if gold is not None else None
        first, second = before.words[key], after.words[key]
        words.append((case.example.query, first.label, second.label, known))
        if first.label != second.label:
            flips.append(PromptFlip(case, pair, first, second, known))
    if gold is not None:
        gold.check()
    names = _names(templates)
    queries, pairs = size_of(cases)
    return Comparison(
        stage=interview.name,
        queries=queries,
        pairs=pairs,
        before=_side(templates[0], before, cases, seed),
        after=_side(templates[1], after, cases, seed),
        flips=tuple(flips),
        agreement=_agreement(names, words, seed),
        gold=against_gold(words, names=names, seed=seed) if gold is not None else None,
        asked=interview.asked,
        files=files,
    )


def _names(templates: Sequence[Template]) -> tuple[str, str]:
    """Return what the two are called: their names, or their files where both have one name."""
    first, second = (template.name for template in templates)
    return (first, second) if first != second else (templates[0].path, templates[1].path)


def _side(template: Template, heard: Heard, cases: Sequence[Case], seed: int) -> Side:
    said = [
        Said(case.example.query, flags(label)) for key, case, _ in pairs_of(cases) if (label := heard.label(key))
    ]  # fmt: skip
    yes = rate("prompts", f"yes rate, {template.name}", said, seed=seed)
    return Side(template, heard.counts(), yes, heard.bill)


def _agreement(
    names: tuple[str, str], words: Sequence[tuple[str, Label | None, Label | None, Label | None]], seed: int
) -> Agreement:
    tally = Tally(names)
    by_query: dict[str, list[tuple[int, int]]] = {}
    for query, first, second, _ in words:
        by_query.setdefault(query, []).append((CODES[first], CODES[second]))
    for codes in by_query.values():
        tally.add(codes)
    (found,) = tally.result(seed=seed)
    return found


def _word(judgment: Judgment) -> str:
    return judgment.label or f"none ({judgment.reason})"


def _write_flips(flips: Sequence[PromptFlip], path: Path) -> None:
    """Write the flips as a table that a spreadsheet may open; every cell quoted and guarded."""
    buffer = io.StringIO()
    table = csv.writer(buffer, quoting=csv.QUOTE_ALL)
    table.writerow(_COLUMNS)
    table.writerows([to_cell(cell) for cell in _cells(flip)] for flip in flips)
    with replacing(path) as file:
        file.write("\ufeff" + buffer.getvalue())


def _cells(flip: PromptFlip) -> tuple[str, ...]:
    example, candidate = flip.case.example, flip.pair.candidate
    return (
        fingerprint(flip.case, flip.pair), example.id, example.source, example.query,
        "\n\n".join(passage.full_text for passage in flip.case.reference), candidate.id, candidate.title,
        candidate.text, _word(flip.before), _word(flip.after), flip.gold or "", flip.before.rationale,
        flip.after.rationale,
    )  # fmt: skip
