"""A person as a judge: labels from a CSV. A person's word is final.

The CSV may be an audit file filled in, whose rows name their pair by fingerprint in the column `pair`, or any file
with a query (`query_id`, `query`), a passage (`passage_id`, `candidate_id`, `docid`; `candidate`, `passage`, `text`)
and a label (`human_label` or `label`). A row without a fingerprint is about the pairs that agree with all it says of
query and passage, and with its `source` where the file has that column.
"""

from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Final

from relabel.errors import InputError, RowError
from relabel.records import Case, Judgment, Label, Pair, fingerprint, majority, read_label
from relabel.tables import read_table, reread

NO_LABEL: Final = Judgment(None, "no label")

PAIR: Final = "pair"
SOURCE: Final = "source"
QUERY: Final = ("query_id", "query")
PASSAGE: Final = ("passage_id", "candidate_id", "docid", "candidate", "passage", "text")
LABEL: Final = ("human_label", "label")

_Columns = tuple[str, ...]


class HumanJudge:
    """Answers from a file of labels by their majority; where people tie about a pair or nobody looked, with None.

    Raises:
        InputError: the file is missing, is no CSV in UTF-8, lacks a column, or holds something that is not a label.
    """

    def __init__(self, path: Path) -> None:
        self._labels = _read(path)

    def judge(self, cases: Iterable[Case]) -> Iterator[Case]:
        """Look every pair up, by its fingerprint or by what the file says of query and passage."""
        for case in cases:
            yield case.judged(tuple(_word(self._said(case, pair)) for pair in case.pairs))

    def _said(self, case: Case, pair: Pair) -> list[Label]:
        about = _about(case, pair)
        return [
            label
            for columns, labels in self._labels.items()
            for label in labels.get(tuple(about[column] for column in columns), ())
        ]


def _word(labels: list[Label]) -> Judgment:
    if not labels:
        return NO_LABEL
    label = majority(labels)
    if label is None:
        return Judgment(None, "reviewers disagree", rationale=", ".join(labels))
    return Judgment(label, evidence="a person's label")


def _about(case: Case, pair: Pair) -> dict[str, str]:
    """Return what a row about this pair says in each column, as a cell gives it back."""
    example, candidate = case.example, pair.candidate
    name, text, query = (reread(each) for each in (candidate.id, candidate.text, example.query))
    return {
        PAIR: fingerprint(case, pair), SOURCE: reread(example.source), "query_id": reread(example.id), "query": query,
        **dict.fromkeys(PASSAGE[:3], name), **dict.fromkeys(PASSAGE[3:], text),
    }  # fmt: skip


def _read(path: Path) -> dict[_Columns, dict[tuple[str, ...], list[Label]]]:
    """Index the labels: the columns that rows are found by → what the rows say in them → labels."""
    there, rows = read_table(path, (PAIR, *QUERY, *PASSAGE, SOURCE, *LABEL))
    said_in = _column(path, there, LABEL)
    if PAIR not in there:
        _column(path, there, QUERY)
        _column(path, there, PASSAGE)
    labels: dict[_Columns, dict[tuple[str, ...], list[Label]]] = {}
    for line, row in rows:
        try:
            label = read_label(row[said_in])
        except ValueError as error:
            raise RowError(str(error), path=path, line=line, field=said_in) from error
        if label is None:
            continue
        # a cell left empty says nothing, but for a source: rows of a training file may have none
        columns = tuple(name for name in (*QUERY, *PASSAGE, SOURCE) if row[name] or (name == SOURCE and name in there))
        if row[PAIR].strip():
            columns, row[PAIR] = (PAIR,), row[PAIR].strip()
        elif not (set(columns) & set(QUERY) and set(columns) & set(PASSAGE)):
            raise RowError("a label, but the row does not say of which query and passage", path=path, line=line)
        values = tuple(reread(row[name]) for name in columns)
        labels.setdefault(columns, {}).setdefault(values, []).append(label)
    return labels


def _column(path: Path, there: Iterable[str], names: tuple[str, ...]) -> str:
    for name in names:
        if name in there:
            return name
    raise InputError(f"{path}: none of the columns {', '.join(names)} is there", hint="Name them in the first line.")
