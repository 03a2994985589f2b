"""What can be done with a finished run: look at it, audit it, take labels back in, rebuild the input."""

import json
from collections.abc import Iterator
from dataclasses import dataclass
from itertools import chain
from pathlib import Path
from typing import Any

from relabel import audit
from relabel.certain import MostCertain
from relabel.concluding import Plan, candidate_key, query_key
from relabel.errors import RunError, typed
from relabel.formats import Format, LabeledPairs, get_format, rows_of
from relabel.pipeline import cleaned_path, concluded, findings, open_run
from relabel.policy import undo
from relabel.records import Change, Example, Finding, Passage, fingerprint
from relabel.rundir import changes_of, read_json, sha256_of
from relabel.sources import Source
from relabel.store import PersonLabel, Store


def statistics(folder: Path) -> dict[str, Any]:
    """Return the statistics of a finished run."""
    return read_json(folder, "statistics.json")


def show(folder: Path, query: str | None = None, *, path: Path | None = None) -> list[Finding]:
    """Return every pair of the examples whose id is `query`, or whose query text contains it (case folded).

    Without a query: the most certain false negatives of the run.

    Raises:
        RunError: no finished run, or no such query in it.
    """
    with open_run(folder, path=path) as (plan, store):
        if query is None:
            best = MostCertain()
            for one, case in concluded(plan, store, lambda _: None):
                for finding in findings(plan, one, case):
                    best.add(finding)
            return list(best.found())
        wanted = query.casefold()
        found = [
            finding
            for all_findings in _by_example(plan, store)
            for finding in all_findings
            if finding.example.id == query or wanted in finding.example.query.casefold()
        ]
    if not found:
        raise RunError(f"no query of {folder} has the id or the words {query!r}", hint=f"see {folder}/flagged.csv")
    return found


@dataclass(frozen=True, slots=True)
class Flip:
    """A pair on which two runs differ: the finding of each."""

    before: Finding
    after: Finding


def flips(folder: Path, other: Path, *, path: Path | None = None) -> list[Flip]:
    """Return the pairs whose verdict is not the same in two runs over the same input, of the rows that both judged.

    Raises:
        RunError: the runs read different inputs, or were shown different positives as reference.
    """
    if folder.resolve() == other.resolve():
        return []
    with open_run(folder, path=path) as (plan, store), open_run(other, path=path) as (other_plan, other_store):
        if plan.sha256 != other_plan.sha256:
            raise RunError(f"{folder} and {other} read different inputs", hint="compare runs over the same file")
        if plan.source.shard != other_plan.source.shard:
            raise RunError(
                f"{folder} and {other} are over different parts of the input",
                hint="merge the shards of each run first: relabel merge",
            )
        if plan.reference != other_plan.reference:
            raise RunError(
                f"{folder} was shown up to {plan.reference} positives as reference, {other} {other_plan.reference}",
                hint="compare runs with the same `reference`",
            )
        rows = zip(_by_example(other_plan, other_store), _by_example(plan, store), strict=True)
        return [
            Flip(old, new)
            for before, after in rows
            if before and after  # without findings: exempt in that run, or a row without negatives
            for old, new in zip(before, after, strict=True)
            if old.verdict.outcome != new.verdict.outcome
        ]


def _by_example(plan: Plan, store: Store) -> Iterator[list[Finding]]:
    for one, case in concluded(plan, store, lambda _: None):
        yield list(findings(plan, one, case, everything=True))


@dataclass(frozen=True, slots=True)
class Imported:
    """What `audit import` took in: labels, by how many reviewers, and how many rows had none."""

    labels: int
    reviewers: tuple[str, ...]
    unlabelled: int


def audit_export(folder: Path, path: Path, *, everything: bool = False, source: Path | None = None) -> int:
    """Write the audit CSV of a run anew, with people's labels so far; `everything` lists all judged pairs.

    Raises:
        InputError: `path` is no place for a CSV.
        RunError: labels would be lost that stand there, or there is no finished run.
    """
    with open_run(folder, path=source) as (plan, store):
        audit.check_place(path, plan.source.path, lambda there: store.imported(sha256_of(there)))
        pairs = (
            finding
            for one, case in concluded(plan, store, lambda _: None)
            for finding in findings(plan, one, case, everything=everything)
        )
        return audit.write_findings(pairs, path, [stage.name for stage in plan.stages])


def audit_import(folder: Path, path: Path, *, reviewer: str = "", source: Path | None = None) -> Imported:
    """Take the labels of an audited CSV into the run; `apply` then uses them.

    Args:
        folder: the run.
        path: the CSV, edited, sorted, filtered and saved as people do.
        reviewer: who labelled, where the file's own column does not say; "" = the file's name, without the
            "-labelled" of one that was set aside.
        source: where the input is now, if it was moved.

    Raises:
        InputError: unreadable file, words that are no labels, or rows that are not of this run (all are listed).
    """
    read = audit.read_labels(path, reviewer or audit.reviewer_of(path))
    sha256 = sha256_of(path)
    with open_run(folder, path=source) as (plan, store):
        pairs = (
            (fingerprint(case, pair), case.example.id, pair.candidate.id, (case.example.query, pair.candidate))
            for one, case in concluded(plan, store, lambda _: None)
            for pair in case.pairs
        )
        matched = audit.match(read.labels, pairs)
        if matched.stale:
            raise audit.stale_error(path, matched.stale, folder)
        store.add_people(
            PersonLabel(
                query_key(query), candidate_key(passage.title, passage.text), label.reviewer, label.label, label.note
            )
            for label, (query, passage) in ((found.label, found.pair) for found in matched.found)
        )
        store.note_import(sha256)
    reviewers = tuple(sorted({label.reviewer for label in read.labels}))
    return Imported(len(read.labels), reviewers, read.rows - len(read.labels))


def rebuild(folder: Path) -> Iterator[dict[str, Any]]:
    """Yield the rows of the input, in order, from the cleaned file and the ledger alone.

    Rows that could not be read are in `rejects.jsonl` with their text and are not rebuilt. Nor is a shard: which rows
    of the input lie between its own, neither of the two files says.

    Raises:
        RunError: no finished run, that of a shard, or files that are not as the run wrote them.
    """
    manifest = read_json(folder, "manifest.json")
    told = manifest["input"]
    if told.get("shard"):
        raise RunError(
            f"{folder} holds shard {told['shard']}, and only the whole can be rebuilt",
            hint="put the shards together first: relabel merge",
        )
    for name, sha256 in manifest.get("files", {}).items():
        if not (folder / name).is_file() or sha256_of(folder / name) != sha256:
            raise RunError(
                f"{folder / name} is not what the run wrote (stopped half-way, or edited)",
                hint=f"write it anew: {typed('apply', folder)}",
            )
    form = get_format(told["format"])
    ledger = _by_position(changes_of(folder))
    rejected = {row["position"] for row in _lines(folder / "rejects.jsonl")}
    path = cleaned_path(Path(told["path"]), folder)
    cleaned = _later(Source(path, form))
    ahead = next(ledger, None)
    counted = statistics(folder)
    seams = counted.get("seams", {})

    def restore(change: Change) -> Passage:
        return form.passage(change.item, change.beside)

    for position in range(counted["rows"]["in"]):
        if position in rejected:
            continue
        changes: list[Change] = []
        if ahead is not None and ahead[0] == position:
            changes = ahead[1]
            ahead = next(ledger, None)
        if changes and changes[0].action == "remove":
            yield from rows_of(changes[0].row or {}, form.name)
        else:
            example, cleaned = _next(cleaned, form, seams.get(str(position)))
            if example is None:
                raise RunError(f"{path} lacks rows that the run wrote", hint=f"write it anew: {typed('apply', folder)}")
            yield from form.render(undo(example, changes, restore))


def _next(cleaned: Iterator[Example], form: Format, seam: int | None) -> tuple[Example | None, Iterator[Example]]:
    """Take the next example; of one that another has met, its own rows (`seam` many), and the rest goes back."""
    example = next(cleaned, None)
    if example is None or seam is None or not isinstance(form, LabeledPairs):
        return example, cleaned
    example, rest = form.split(example, seam)
    return example, chain([rest], cleaned)


def _later(source: Source) -> Iterator[Example]:
    """Open a file at the first question for a row: one that no row was left for has nothing to be read."""
    yield from source.examples()


def _by_position(changes: Iterator[Change]) -> Iterator[tuple[int, list[Change]]]:
    group: list[Change] = []
    for change in changes:
        if group and change.position != group[0].position:
            yield group[0].position, group
            group = []
        group.append(change)
    if group:
        yield group[0].position, group


def _lines(path: Path) -> Iterator[dict[str, Any]]:
    with path.open(encoding="utf-8") as lines:
        for line in lines:
            yield json.loads(line)
