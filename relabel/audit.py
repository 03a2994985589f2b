"""Flagged pairs ⇄ CSV: a file that people fill in with a spreadsheet, and their labels back out of it.

The file survives what spreadsheets do to files: rows sorted, filtered and repeated, columns moved, dropped and added,
another separator, other line ends. It is read by the names of its columns and matched by the fingerprint in `pair`;
`query_id` and `candidate_id`, where they are still there, must agree with it.

Every cell of text goes through `records.guard`, an apostrophe before whatever a spreadsheet would calculate or take
for a number or a date (OWASP, "CSV Injection"), and comes back through `records.unguard`.
"""

import re
import shlex
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from itertools import chain, count
from pathlib import Path
from typing import Final, Generic, TypeVar

from relabel.errors import InputError, RunError, typed
from relabel.records import Finding, Judgment, Label, read_label
from relabel.tables import read_table, reread, to_cell

T = TypeVar("T")

ABOUT: Final = (
    "pair", "listed", "verdict", "action", "settled_by", "evidence", "query_id", "source", "query", "reference",
    "candidate_id", "candidate_title", "candidate",
)  # fmt: skip
"""The first columns: what the pair is and what was concluded. Never "ID" first: Excel takes that for a SYLK file."""

PEOPLE: Final = ("people", "human_label", "human_note", "reviewer")
"""The last columns: labels that people gave so far, with their notes, and three to fill in."""

SWAYING: Final = frozenset({"listed", "verdict", "action", "settled_by", "evidence", "people"})
"""What a file for people who judge blindly leaves out, beside the judges' words."""

READ: Final = ("pair", "query_id", "candidate_id", "human_label", "human_note", "reviewer")
REQUIRED: Final = ("pair", "human_label")

LISTED: Final = 20
ECHOED: Final = 80
"""Characters of what stands in a cell that a message repeats."""

_ASIDE: Final = re.compile(r"(?<=.)-labelled\d*\Z")
"""How the name of a file that was set aside ends."""

_AGAIN: Final = "Make room, or close the file if a program has it open; then type the same command again."


@dataclass(frozen=True, slots=True)
class AuditLabel:
    """What one person said of one pair.

    `query_id` and `candidate_id` are "" where the file no longer has them. `line` counts as a spreadsheet does: the
    header is 1, and a row is one however many line ends its cells hold.
    """

    pair: str
    query_id: str
    candidate_id: str
    label: Label
    note: str
    reviewer: str
    line: int


@dataclass(frozen=True, slots=True)
class AuditFile:
    """What an audit file holds: labels in the order of their lines, all rows, and how many have no label (yet)."""

    labels: tuple[AuditLabel, ...]
    rows: int
    empty: int


@dataclass(frozen=True, slots=True)
class Found(Generic[T]):
    """A label and the pair it is about."""

    label: AuditLabel
    pair: T


@dataclass(frozen=True, slots=True)
class Stale:
    """A label that is about no pair of the run, and why it is not."""

    label: AuditLabel
    reason: str


@dataclass(frozen=True, slots=True)
class Matched(Generic[T]):
    """Labels with their pairs and labels without, each in the order given; together all of them."""

    found: tuple[Found[T], ...]
    stale: tuple[Stale, ...]


def write_findings(findings: Iterable[Finding], path: Path, stages: Sequence[str], *, blind: bool = False) -> int:
    """Write findings as CSV, one row each: UTF-8 with a byte order mark, every cell quoted, lines end in CR LF.

    The file gets its name only when it is complete. Equal findings give equal bytes. In memory is one row at a time.

    Args:
        findings: what to list, in this order.
        path: where to.
        stages: the stages whose words get columns, in this order; a stage that was not asked leaves its cells empty.
        blind: leave out all columns that say what judges or other people think, so that they sway nobody.

    Returns:
        How many rows were written.

    Raises:
        InputError: there is no such folder, or nothing may be written there.
        RunError: the disk is full, or another program holds the file.
    """
    columns = _columns(() if blind else stages)
    shown = [place for place, name in enumerate(columns) if not (blind and name in SWAYING)]
    temporary = path.with_name(path.name + ".tmp")
    written = 0
    try:
        stream = temporary.open("w", encoding="utf-8", newline="")
    except OSError as error:
        raise InputError(f"{path}: cannot be written: {error}", hint="Make the folder, or name another.") from error
    try:
        with _in_the_way(path):
            stream.write("\ufeff")
        # the header is a row like any other, so that a file without findings has it too
        for row in chain([columns], (_row(finding, () if blind else stages) for finding in findings)):
            with _in_the_way(path):
                stream.write(_line([row[place] for place in shown] if blind else row))
            written += 1
        with _in_the_way(path):
            stream.close()
            temporary.replace(path)
    finally:
        with suppress(OSError):  # what could not be written has been said
            stream.close()
            temporary.unlink(missing_ok=True)
    return written - 1


@contextmanager
def _in_the_way(path: Path) -> Iterator[None]:
    try:
        yield
    except OSError as error:
        raise RunError(f"{path}: cannot be written: {error}", hint=_AGAIN) from error


def set_aside(path: Path, imported: Callable[[Path], bool]) -> Path | None:
    """Move a CSV in which people wrote labels out of the way of the next one.

    Args:
        path: the CSV, if it is there.
        imported: whether the labels of a file were taken in already; such a file may be overwritten.

    Returns:
        Where to, or None if it stays where it is.

    Raises:
        RunError: another program holds the file.
    """
    with _in_the_way(path):
        if not path.exists() or imported(path):
            return None
        if not _holds_labels(path):
            return None
        free = (path.with_name(f"{path.stem}-labelled{number or ''}{path.suffix}") for number in count())
        return path.rename(next(name for name in free if not name.exists()))


def check_place(path: Path, source: Path, imported: Callable[[Path], bool]) -> None:
    """Refuse a place for a new CSV where something would be lost: another kind of file, the input, labels.

    Args:
        path: where the CSV is to be written.
        source: the run's input.
        imported: whether the labels of a file were taken in already; such a file may be overwritten.

    Raises:
        InputError: it is not called .csv, no plain file, in no folder, or the input.
        RunError: people wrote labels into the file that is there, which the run has not taken in.
    """
    another = "name another: -o FILE.csv"
    if path.suffix.casefold() != ".csv":
        raise InputError(f"{path}: what is written is a CSV, and its name says so", hint=another)
    if (path.exists() and not path.is_file()) or not path.parent.is_dir() or path.resolve() == source.resolve():
        raise InputError(
            f"{path} cannot be written: it is the input, or no file in a folder that is there", hint=another
        )
    with _in_the_way(path):
        if path.exists() and not imported(path) and _holds_labels(path):
            raise RunError(
                f"{path} holds labels that the run has not taken in",
                hint=f"first: relabel audit import RUN {shlex.quote(str(path))}; or {another}",
            )


def _holds_labels(path: Path) -> bool:
    try:
        return bool(read_labels(path, "anyone").labels)
    except InputError:  # somebody worked on it, if not well: theirs to mend, not ours to overwrite
        return True


def reviewer_of(path: Path) -> str:
    """Return who filled a file in, by its name: one that was set aside is by whom it was before."""
    return _ASIDE.sub("", path.stem)


def read_labels(path: Path, reviewer: str) -> AuditFile:
    """Read back what people filled in.

    Args:
        path: a file of `write_findings`, edited; separated by comma, semicolon or tab.
        reviewer: who filled it in, where a row's own `reviewer` says nothing.

    Raises:
        InputError: the file is missing, no UTF-8, no table or lacks a column; or, all of them listed at once, words
            that are not labels, labels without a pair, and one reviewer's differing labels for one pair.
    """
    there, lines = read_table(path, READ)
    missing = [name for name in REQUIRED if name not in there]
    if missing:
        raise InputError(
            f"{path}: no column {' and no column '.join(missing)}",
            hint="Keep these columns of the exported file, with their names in the first line.",
        )
    labels: dict[tuple[str, str], AuditLabel] = {}
    problems: list[str] = []
    rows = empty = 0
    for line, cells in lines:
        rows += 1
        try:
            label = _label(line, cells, reviewer)
        except ValueError as error:
            problems.append(f"line {line}, human_label: {error}")
            continue
        if label is None:
            empty += 1
            continue
        known = labels.setdefault((label.pair, label.reviewer), label)
        if known.label != label.label:
            problems.append(
                f"lines {known.line} and {line}: {label.reviewer or 'one reviewer'} calls the pair"
                f" {label.pair[:ECHOED]} {known.label} and {label.label}; keep one"
            )
        elif label.note and not known.note:
            labels[label.pair, label.reviewer] = label
    if problems:
        raise InputError(
            f"{path}: {len(problems)} of the labels cannot be used:\n" + "\n".join(f"  {text}" for text in problems),
            hint="Correct these cells and save the file as CSV again; the header is line 1.",
        )
    return AuditFile(tuple(sorted(labels.values(), key=lambda label: label.line)), rows, empty)


def match(labels: Sequence[AuditLabel], pairs: Iterable[tuple[str, str, str, T]]) -> Matched[T]:
    """Find the pair that each label is about.

    Args:
        labels: what people said.
        pairs: fingerprint, query id, candidate id, and what the label is to be given; read once, not kept. Of
            several pairs with one fingerprint, a label belongs to the first that has its ids.
    """
    wanted: dict[str, list[int]] = {}
    for index, label in enumerate(labels):
        wanted.setdefault(label.pair, []).append(index)
    found: dict[int, Found[T]] = {}
    reasons: dict[int, str] = {}
    for fingerprint, query_id, candidate_id, pair in pairs:
        for index in wanted.get(fingerprint, ()):
            label = labels[index]
            other = _other_ids(label, query_id, candidate_id)
            if other:
                reasons.setdefault(index, other)
            else:
                found.setdefault(index, Found(label, pair))
    absent = "no such pair in the run: its query, reference or candidate has changed"
    return Matched(
        tuple(found[index] for index in sorted(found)),
        tuple(Stale(label, reasons.get(index, absent)) for index, label in enumerate(labels) if index not in found),
    )


def stale_error(path: Path, stale: Sequence[Stale], folder: Path) -> InputError:
    """Say which labels are about no pair of the run: the first `LISTED` with line and reason, then how many more."""
    lines = [f"  line {each.label.line}, pair {each.label.pair[:ECHOED]}: {each.reason}" for each in stale[:LISTED]]
    if len(stale) > LISTED:
        lines.append(f"  and {len(stale) - LISTED:,} more")
    noun = "label belongs" if len(stale) == 1 else "labels belong"
    return InputError(
        f"{path}: {len(stale):,} {noun} to no pair of this run:\n" + "\n".join(lines),
        hint=f"Export the pairs of this run again ({typed('audit', 'export', folder, '-o', 'again.csv')}) and copy the"
        " labels over; "
        "sort whole rows, never single columns.",
    )


def _columns(stages: Sequence[str]) -> list[str]:
    columns = list(ABOUT)
    for stage in stages:
        name = stage
        while f"{name}_label" in (*columns, *PEOPLE):  # a stage called "human" must not stand in a person's column
            name += "_stage"
        columns += [f"{name}_{what}" for what in ("label", "probability", "score", "reason")]
    return [to_cell(column) for column in (*columns, *PEOPLE)]


def _row(finding: Finding, stages: Sequence[str]) -> list[str]:
    example, candidate, verdict = finding.example, finding.candidate, finding.verdict
    reference = "\n\n".join(
        f"[{number}] {passage.title} — {passage.text}" if passage.title else f"[{number}] {passage.text}"
        for number, passage in enumerate(finding.reference, start=1)
    )
    about = (
        finding.fingerprint, finding.listed, verdict.outcome, finding.action, verdict.stage, verdict.evidence,
        example.id, example.source, example.query, reference, candidate.id, candidate.title, candidate.text,
    )  # fmt: skip
    row = [to_cell(text) for text in about]
    for stage in stages:
        row += _word(finding.words.get(stage))
    notes = {name: f" ({note})" for name, note in finding.notes.items()}
    people = "; ".join(f"{name}: {label}{notes.get(name, '')}" for name, label in finding.people.items())
    return [*row, to_cell(people), "", "", ""]


def _line(cells: Iterable[str]) -> str:
    """One row, every cell between quotes. With nothing to decide, this takes a tenth of what a CSV writer takes."""
    return '"' + '","'.join([cell.replace('"', '""') for cell in cells]) + '"\r\n'


def _word(judgment: Judgment | None) -> list[str]:
    if judgment is None:
        return [""] * 4
    reason = judgment.reason or judgment.rationale
    return [judgment.label or "", _number(judgment.probability), _number(judgment.score), to_cell(reason)]


def _number(value: float | None) -> str:
    """A number as one, to be sorted by: no apostrophe, even before a minus."""
    return "" if value is None else format(value, ".6g")


def _label(line: int, cells: Mapping[str, str], reviewer: str) -> AuditLabel | None:
    label = read_label(cells["human_label"])
    if label is None:
        return None
    pair = cells["pair"].strip()
    if not pair:
        raise ValueError("a label, but nothing in the column pair; restore it from the exported file")
    return AuditLabel(
        pair=pair,
        query_id=cells["query_id"],
        candidate_id=cells["candidate_id"],
        label=label,
        note=cells["human_note"].strip(),
        reviewer=cells["reviewer"].strip() or reviewer,
        line=line,
    )


def _other_ids(label: AuditLabel, query_id: str, candidate_id: str) -> str:
    """Say which id of the label is not the pair's; "" if none is.

    Compared as cells, for that is what came back, and without blanks, which some workbooks drop at a cell's ends.
    """
    for name, said, real in (
        ("query_id", label.query_id, query_id),
        ("candidate_id", label.candidate_id, candidate_id),
    ):
        if said and said.split() != reread(real).split():
            return f"{name} is {said[:ECHOED]!r} in the file and {real[:ECHOED]!r} in the run"
    return ""
