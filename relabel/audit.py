"""Flagged pairs ⇄ CSV: a file that people fill in with a spreadsheet, and their labels back out of it.

The file survives what spreadsheets do to files: rows sorted, filtered and repeated, columns moved, dropped and added,
another separator, other line ends. It is read by the names of its columns and matched by the fingerprint in `pair`;
`query_id` and `candidate_id`, where they are still there, must agree with it.

Every cell of text goes through `records.guard`, an apostrophe before whatever a spreadsheet would calculate or take
for a number or a date (OWASP, "CSV Injection"), and comes back through `records.unguard`.
"""

import csv
import re
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import chain, count
from pathlib import Path
from typing import Final, Generic, TypeVar

from relabel.errors import InputError
from relabel.records import Finding, Judgment, Label, guard, read_label, unguard

T = TypeVar("T")

ABOUT: Final = (
    "pair", "listed", "verdict", "action", "settled_by", "evidence", "query_id", "source", "query", "reference",
    "candidate_id", "candidate_title", "candidate",
)  # fmt: skip
"""The first columns: what the pair is and what was concluded. Never "ID" first: Excel takes that for a SYLK file."""

PEOPLE: Final = ("people", "human_label", "human_note", "reviewer")
"""The last columns: labels that people gave so far, and three to fill in."""

READ: Final = ("pair", "query_id", "candidate_id", "human_label", "human_note", "reviewer")
REQUIRED: Final = ("pair", "human_label")

CELL_LIMIT: Final = 32_767
"""What a cell of Excel holds, in UTF-16 units."""

CHUNK: Final = 1000
LISTED: Final = 20

_ILLEGAL: Final = re.compile("[\x00-\x08\x0b\x0c\x0e-\x1f\ud800-\udfff\ufffe\uffff]")
"""What XML 1.0, and so an .xlsx, cannot hold."""

_LINE_END: Final = re.compile("\r\n?")

_UTF8: Final = 'In the spreadsheet, save it as "CSV UTF-8 (comma delimited)".'


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


def write_findings(findings: Iterable[Finding], path: Path, stages: Sequence[str]) -> int:
    """Write findings as CSV, one row each: UTF-8 with a byte order mark, every cell quoted, lines end in CR LF.

    The file gets its name only when it is complete. Equal findings give equal bytes. In memory is one row at a time.

    Args:
        findings: what to list, in this order.
        path: where to.
        stages: the stages whose words get columns, in this order; a stage that was not asked leaves its cells empty.

    Returns:
        How many rows were written.

    Raises:
        InputError: the file cannot be written there.
    """
    columns = _columns(stages)
    temporary = path.with_name(path.name + ".tmp")
    count = 0
    try:
        stream = temporary.open("w", encoding="utf-8", newline="")
    except OSError as error:
        raise InputError(f"{path}: cannot be written: {error}", hint="Make the folder, or name another.") from error
    try:
        with stream:
            # the header is a row like any other, so that a file without findings has it too
            stream.write("\ufeff")
            for row in chain([columns], (_row(finding, stages) for finding in findings)):
                stream.write(_line(row))
                count += 1
        temporary.replace(path)
    finally:
        temporary.unlink(missing_ok=True)
    return count - 1


def set_aside(path: Path) -> Path | None:
    """Move a CSV in which people wrote labels out of the way of the next one; return where to, None if none did."""
    try:
        read = read_labels(path, "anyone") if path.exists() else AuditFile((), 0, 0)
    except InputError:  # somebody worked on it, if not well: theirs to mend, not ours to overwrite
        read = None
    if read is not None and not read.labels:
        return None
    free = (path.with_name(f"{path.stem}-labelled{number or ''}{path.suffix}") for number in count())
    target = next(name for name in free if not name.exists())
    path.rename(target)
    return target


def read_labels(path: Path, reviewer: str) -> AuditFile:
    """Read back what people filled in.

    Args:
        path: a file of `write_findings`, edited; separated by comma, semicolon or tab.
        reviewer: who filled it in, where a row's own `reviewer` says nothing.

    Raises:
        InputError: the file is missing, no UTF-8, no table or lacks a column; or, all of them listed at once, words
            that are not labels, labels without a pair, and one reviewer's differing labels for one pair.
    """
    labels: dict[tuple[str, str], AuditLabel] = {}
    problems: list[str] = []
    rows = empty = 0
    for line, cells in _read(path):
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
                f"lines {known.line} and {line}: {label.reviewer or 'one reviewer'} calls the pair {label.pair} "
                f"{known.label} and {label.label}; keep one"
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


def stale_error(path: Path, stale: Sequence[Stale]) -> InputError:
    """Say which labels are about no pair of the run: the first `LISTED` with line and reason, then how many more."""
    lines = [f"  line {each.label.line}, pair {each.label.pair}: {each.reason}" for each in stale[:LISTED]]
    if len(stale) > LISTED:
        lines.append(f"  and {len(stale) - LISTED:,} more")
    noun = "label belongs" if len(stale) == 1 else "labels belong"
    return InputError(
        f"{path}: {len(stale):,} {noun} to no pair of this run:\n" + "\n".join(lines),
        hint="Export the pairs of this run again (relabel audit export RUN) and copy the labels over; "
        "sort whole rows, never single columns.",
    )


def _columns(stages: Sequence[str]) -> list[str]:
    columns = list(ABOUT)
    for stage in stages:
        name = stage
        while f"{name}_label" in (*columns, *PEOPLE):  # a stage called "human" must not stand in a person's column
            name += "_stage"
        columns += [f"{name}_{what}" for what in ("label", "probability", "score", "reason")]
    return [_cell(column) for column in (*columns, *PEOPLE)]


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
    row = [_cell(text) for text in about]
    for stage in stages:
        row += _word(finding.words.get(stage))
    people = "; ".join(f"{name}: {label}" for name, label in finding.people.items())
    return [*row, _cell(people), "", "", ""]


def _line(cells: Iterable[str]) -> str:
    """One row, every cell between quotes. With nothing to decide, this takes a tenth of what a CSV writer takes."""
    return '"' + '","'.join([cell.replace('"', '""') for cell in cells]) + '"\r\n'


def _word(judgment: Judgment | None) -> list[str]:
    if judgment is None:
        return [""] * 4
    reason = judgment.reason or judgment.rationale
    return [judgment.label or "", _number(judgment.probability), _number(judgment.score), _cell(reason)]


def _number(value: float | None) -> str:
    """A number as one, to be sorted by: no apostrophe, even before a minus."""
    return "" if value is None else format(value, ".6g")


def _cell(text: str) -> str:
    """Text as a spreadsheet can hold it: legal, guarded, and short enough."""
    if not text.isprintable():  # what is printable holds no line end and nothing illegal
        text = _ILLEGAL.sub("", _LINE_END.sub("\n", text))
    return _cut(guard(text))


def _cut(text: str) -> str:
    if 2 * len(text) <= CELL_LIMIT:
        return text
    units = text.encode("utf-16-le")
    if len(units) <= 2 * CELL_LIMIT:
        return text
    mark = "… [cut, {} characters]"
    room = CELL_LIMIT - len(mark.format(len(text)))
    kept = units[: 2 * room].decode("utf-16-le", "ignore")  # ignored: the first half of a pair that the cut parts
    return kept + mark.format(len(text) - len(kept))


def _text(cell: str) -> str:
    """The text of a cell, with the line ends that `_cell` writes, whatever a spreadsheet made of them."""
    return unguard(_LINE_END.sub("\n", cell))


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
    """Say which id of the label is not the pair's; "" if none is. Compared as cells, for that is what came back."""
    for name, said, real in (
        ("query_id", label.query_id, query_id),
        ("candidate_id", label.candidate_id, candidate_id),
    ):
        if said and said != _text(_cell(real)):
            return f"{name} is {said!r} in the file and {real!r} in the run"
    return ""


def _read(path: Path) -> Iterator[tuple[int, dict[str, str]]]:
    """Yield line and the cells of the columns in `READ`, "" for what is not there; skip rows without any."""
    import pandas as pd

    try:
        separator, header = _header(path)
        places = {name: header.index(name) for name in READ if name in header}
        # without a header of pandas' own: a row longer than the first is an error then, and no index is guessed
        with pd.read_csv(
            path, sep=separator, header=None, dtype=str, keep_default_na=False, encoding="utf-8-sig",
            skip_blank_lines=False, chunksize=CHUNK,
        ) as chunks:  # fmt: skip
            rows = chain.from_iterable(chunk.fillna("").itertuples(index=False, name=None) for chunk in chunks)
            next(rows)
            for line, row in enumerate(rows, start=2):
                cells = dict.fromkeys(READ, "") | {name: _text(row[place]) for name, place in places.items()}
                if any(cells.values()):
                    yield line, cells
    except OSError as error:
        raise InputError(f"{path}: cannot be read: {error.strerror}", hint="Check the name of the file.") from error
    except UnicodeDecodeError as error:
        raise InputError(f"{path}: is not UTF-8 text", hint=_UTF8) from error
    except pd.errors.ParserError as error:
        raise InputError(f"{path}: is not a table: {str(error).strip()}", hint=_UTF8) from error


def _header(path: Path) -> tuple[str, list[str]]:
    """Find the separator, the one under which most of the columns we know are there, and the header by it."""
    headers: dict[str, list[str]] = {}
    for separator in ",;\t":
        with path.open(encoding="utf-8-sig", newline="") as stream:
            try:
                cells = next(csv.reader(stream, delimiter=separator), [])
            except csv.Error:  # no header, but something endless
                cells = []
        headers[separator] = [cell.strip() for cell in cells]
    separator = max(headers, key=lambda each: (len(set(READ) & set(headers[each])), len(headers[each])))
    header = headers[separator]
    missing = [name for name in REQUIRED if name not in header]
    if missing:
        raise InputError(
            f"{path}: no column {' and no column '.join(missing)}",
            hint="Keep these columns of the exported file, with their names in the first line.",
        )
    twice = [name for name in READ if header.count(name) > 1]
    if twice:
        raise InputError(f"{path}: more than one column {', '.join(twice)}", hint="Keep one of them.")
    return separator, header
