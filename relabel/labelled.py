"""The pairs of a finished run with all that judges and people said of them: what calibration and estimates are made of.

People's labels are those that the run took in (`relabel audit import`), or those of a file beside it: an audit CSV, a
table of query, candidate and label, or judgments in TREC's or BEIR's form.
"""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import groupby
from pathlib import Path
from typing import Final

from relabel import audit
from relabel.cascade import Why, conclude
from relabel.concluding import Plan, Row
from relabel.errors import InputError
from relabel.formats.corpora import open_judged
from relabel.pipeline import concluded, findings
from relabel.records import Finding, Judgment, Label, Verdict, majority, read_label
from relabel.store import Store
from relabel.tables import read_table

NOBODY: Final = "gold"
"""Who gave the labels of a file that names no reviewers."""

UNDECIDED: Final = Verdict("undecided")

ECHOED: Final = 200
"""Characters of ids that a message repeats."""

_CANDIDATES: Final = ("candidate_id", "passage_id", "docid")
_WORDS: Final = ("human_label", "label")
_TABLE: Final = ("pair", "query_id", *_CANDIDATES, *_WORDS, "reviewer")
_FORMS: Final = (
    "an audit CSV; a table of query_id, candidate_id (or passage_id, docid), label; or qrels: query, passage and grade"
    " (of a BEIR folder, name the file: FOLDER/qrels/test.tsv)"
)


@dataclass(frozen=True, slots=True)
class JudgedPair:
    """One pair of a run.

    Attributes:
        finding: the pair with its texts, every stage's word, verdict and action.
        query: the text of its query: pairs of one query are one cluster, whatever rows they stand in.
        rank: its place among its row's negatives, from 0.
        words: what each stage said, in the cascade's order; None where it was not asked.
        due: why each stage was asked ("" = not; "sampled" = a second opinion that changes no verdict).
        people: labels by reviewer, from the run or from the file of labels.
        unaided: the cascade's own verdict, whatever people said; that of `finding` is theirs where they gave one.
    """

    finding: Finding
    rank: int
    words: tuple[Judgment | None, ...]
    due: tuple[Why, ...]
    people: Mapping[str, Label]
    unaided: Verdict = UNDECIDED

    @property
    def query(self) -> str:
        """The text of its query."""
        return self.finding.example.query

    @property
    def source(self) -> str:
        """The data set that it comes from, "" where rows do not say."""
        return self.finding.example.source

    @property
    def fingerprint(self) -> str:
        """Name of the pair by content."""
        return self.finding.fingerprint

    def own_word(self, stage: int) -> Judgment | None:
        """Return what a stage said of the pair if it came up to it; a second opinion is of another kind of pair."""
        return None if self.due[stage] == "sampled" else self.words[stage]

    @property
    def gold(self) -> Label | None:
        """What most people said; None where nobody did, or they are divided."""
        return majority(self.people.values())


class Labels:
    """People's labels from a file; held in memory.

    Args:
        where: an audit CSV; a CSV or TSV of `query_id`, `candidate_id` (or `passage_id`, `docid`), `label` (and
            `reviewer`); or judgments (TREC qrels, BEIR).
        threshold: of judgments: the lowest grade that is relevant. 0 and less is irrelevant, between them partial.
            Labels of a table are grades too where all are whole numbers, and one is above 1; else 1 is relevant.

    Raises:
        InputError: none of these, or a word that is no label (with its line).
    """

    def __init__(self, where: str, threshold: int = 2) -> None:
        self.where = where
        self._by_pair: dict[str, dict[str, Label]] = {}
        self._by_ids: dict[tuple[str, str], dict[str, Label]] = {}
        self.matched = 0
        self._asked_of: tuple[str, str] | None = None
        if not where.strip():
            raise InputError("the file of labels has no name", hint=f"labels are taken from {_FORMS}")
        path = Path(where)
        there: tuple[str, ...] = ()
        if path.is_file() and path.suffix.casefold() in (".csv", ".tsv", ".txt"):
            there, rows = read_table(path, _TABLE)
        if {"pair", "human_label"} <= set(there):
            for each in audit.read_labels(path, NOBODY).labels:
                self._by_pair.setdefault(each.pair, {})[each.reviewer] = each.label
        elif "query_id" in there and {*_CANDIDATES} & {*there} and {*_WORDS} & {*there}:
            self._read(path, list(rows), threshold)
        else:
            self._read_judgments(threshold)
        if not self._by_pair and not self._by_ids:
            raise InputError(f"{where}: holds no labels", hint=f"labels are taken from {_FORMS}")

    def _read(self, path: Path, rows: Sequence[tuple[int, dict[str, str]]], threshold: int) -> None:
        problems = []
        said_of = [(cells["human_label"] or cells["label"]).strip() for _, cells in rows]
        numbers = {word for word in said_of if word}
        graded = all(word.isdecimal() for word in numbers) and any(int(word) > 1 for word in numbers)
        for (line, cells), word in zip(rows, said_of, strict=True):
            try:
                label = _of_grade(int(word), threshold) if graded and word else read_label(word)
            except ValueError as error:
                problems.append(f"  line {line}: {error}")
                continue
            if label is not None:
                candidate = next((cells[name] for name in _CANDIDATES if cells[name]), "")
                said = self._by_ids.setdefault((cells["query_id"], candidate), {})
                who = cells["reviewer"].strip() or NOBODY
                if said.setdefault(who, label) != label:
                    problems.append(f"  line {line}: {who} calls the pair {said[who]} and {label}; keep one")
        if problems:
            raise InputError(
                f"{path}: {len(problems):,} of the labels cannot be used:\n" + "\n".join(problems[: audit.LISTED]),
                hint="correct these cells; the header is line 1",
            )

    def _read_judgments(self, threshold: int) -> None:
        try:
            judged = open_judged(self.where).judged
            for each in judged() if judged is not None else ():
                self._by_ids[each.query_id, each.document_id] = {NOBODY: _of_grade(each.grade, threshold)}
        except InputError as error:  # what it says is of judgments, and labels may stand in other files too
            raise InputError(error.message, hint=f"labels are taken from {_FORMS}") from error

    def of(self, finding: Finding) -> Mapping[str, Label]:
        """Return what people said of a pair, by reviewer; empty where nobody did."""
        ids = (finding.example.id, finding.candidate.id)
        self._asked_of = self._asked_of or ids
        said = self._by_pair.get(finding.fingerprint) or self._by_ids.get(ids) or {}
        self.matched += bool(said)
        return said

    def check(self) -> None:
        """Refuse labels of which none is about a pair of the run.

        Raises:
            InputError: shows an id of each side.
        """
        if self.matched or self._asked_of is None:
            return
        known, there = (str(ids)[:ECHOED] for ids in (next(iter(self._by_ids or self._by_pair)), self._asked_of))
        raise InputError(
            f"{self.where}: no label is about a pair of the run: it labels {known}, the run has {there}",
            hint="Are ids written the same way, and are these the labels of this run?",
        )


def _of_grade(grade: int, threshold: int) -> Label:
    return "relevant" if grade >= threshold else "partial" if grade > 0 else "irrelevant"


def judged_pairs(plan: Plan, store: Store, labels: Labels | None = None) -> Iterator[list[JudgedPair]]:
    """Yield the judged pairs of a run, those of one query together where its rows are neighbours.

    Void pairs (copies, empty texts) have no word to trust and are left out; pairs of exempt rows were never judged.

    Args:
        plan: the run's.
        store: the run's.
        labels: people's labels, in place of those that the run took in.
    """
    rows = concluded(plan, store, lambda _: None)
    for _, neighbours in groupby(rows, key=lambda row: row[0].example.query):
        pairs = [pair for row in neighbours for pair in _pairs(plan, row, labels)]
        if pairs:
            yield pairs


def _pairs(plan: Plan, row: Row, labels: Labels | None) -> Iterator[JudgedPair]:
    one, case = row
    if one.trail is None:
        return
    for rank, finding in enumerate(findings(plan, one, case, everything=True)):
        if finding.verdict.outcome == "void":
            continue
        yield JudgedPair(
            finding,
            rank,
            tuple([words[rank] for words in one.trail.words]),
            tuple([due[rank] for due in one.trail.due]),
            finding.people if labels is None else labels.of(finding),
            conclude(plan.stages, one.trail, rank) if finding.people else finding.verdict,
        )
