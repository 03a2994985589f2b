"""A person as a judge: labels from a CSV, keyed by query and passage. A person's word is final.

The CSV may be an audit file filled in, or any file with a query (`query_id` or `query`), a passage (`passage_id`,
`candidate_id`, `docid` or `candidate`, `passage`, `text`) and a label (`human_label` or `label`).
"""

from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Final

from relabel.errors import InputError, RowError
from relabel.records import Case, Judgment, Label, read_label, unguard

NO_LABEL: Final = Judgment(None, "no label")

QUERY: Final = ("query_id", "query")
PASSAGE: Final = ("passage_id", "candidate_id", "docid", "candidate", "passage", "text")
LABEL: Final = ("human_label", "label")


class HumanJudge:
    """Answers from a file of labels; where people disagree about a pair, and where nobody looked, with None.

    Raises:
        InputError: the file is missing, lacks a column, or holds something that is not a label.
    """

    def __init__(self, path: Path) -> None:
        self._labels = _read(path)

    def judge(self, cases: Iterable[Case]) -> Iterator[Case]:
        """Look every pair up, by ids or by texts."""
        for case in cases:
            example = case.example
            judgments = []
            for pair in case.pairs:
                said = {
                    label
                    for query in (example.id, example.query)
                    for passage in (pair.candidate.id, pair.candidate.text)
                    for label in self._labels.get((query, passage), ())
                }
                if len(said) > 1:
                    judgments.append(Judgment(None, "reviewers disagree", rationale=", ".join(sorted(said))))
                else:
                    judgments.append(Judgment(said.pop(), evidence="a person's label") if said else NO_LABEL)
            yield case.judged(tuple(judgments))


def _read(path: Path) -> dict[tuple[str, str], set[Label]]:
    import pandas as pd

    try:
        # every column a string, nothing guessed: an id "007", "NA" or "1e5" stays what it is
        frame = pd.read_csv(path, dtype=str, keep_default_na=False, encoding="utf-8-sig")
    except (OSError, UnicodeDecodeError, pd.errors.ParserError, pd.errors.EmptyDataError) as error:
        raise InputError(f"{path}: cannot be read as CSV: {error}", hint="save it as CSV, UTF-8") from error
    query, passage, label = (_column(path, frame.columns, names) for names in (QUERY, PASSAGE, LABEL))
    labels: dict[tuple[str, str], set[Label]] = {}
    for line, row in enumerate(zip(frame[query], frame[passage], frame[label], strict=True), start=2):
        try:
            read = read_label(row[2])
        except ValueError as error:
            raise RowError(str(error), path=path, line=line, field=label) from error
        if read:
            labels.setdefault((unguard(row[0]), unguard(row[1])), set()).add(read)
    return labels


def _column(path: Path, columns: Iterable[str], names: tuple[str, ...]) -> str:
    there = list(columns)
    for name in names:
        if name in there:
            return name
    raise InputError(f"{path}: none of the columns {', '.join(names)} is there, only {', '.join(there)}")
