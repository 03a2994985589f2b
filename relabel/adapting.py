"""What sentence-transformers' `mine_hard_negatives` returned, or somebody saved of it → a training file with scores.

Its shapes do not say all: a labeled pair with a score has no label, a labeled list with scores has no labels, and a
query stands in as many rows as it has negatives, positives or both.
"""

import re
import sqlite3
from collections.abc import Callable, Iterator, Mapping
from contextlib import closing
from dataclasses import dataclass, replace
from itertools import groupby
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final, Literal

from relabel.errors import InputError, RowError
from relabel.formats import FORMATS, Format, get_format, open_writer
from relabel.formats.base import content_id, filled_text, id_beside, kind, placed, present, query_id
from relabel.formats.containers import read_records
from relabel.formats.endings import is_saved
from relabel.formats.joining import distinct
from relabel.formats.twolists import TwoLists
from relabel.records import Example, Passage, digest

if TYPE_CHECKING:
    from datasets import Dataset

Shape = Literal["triplet", "n-tuple", "labeled-pair", "labeled-list"]

_NUMBERED: Final = re.compile(r"negative_\d+")
_BLOCK: Final = 1000
_TYPED: Final = "Save the rows as JSON lines or Parquet, which know lists and numbers."
_SHAPES: Final = "triplets (negative), n-tuples (negative_1 …), labeled pairs (label or score), labeled lists (a list)"


@dataclass(frozen=True, slots=True)
class Adapted:
    """What was adapted.

    Attributes:
        shape: which of sentence-transformers' shapes it was.
        scores: whether scores came along.
        rows: rows read.
        queries: examples written, one for the rows of a query that follow each other.
        output: the file.
    """

    shape: Shape
    scores: bool
    rows: int
    queries: int
    output: Path


def adapt_hard_negatives(
    mined: "Dataset | Path | str",
    output: Path | str,
    *,
    known: "Dataset | Path | str | None" = None,
    to: str = "tevatron",
) -> Adapted:
    """Write what sentence-transformers' `mine_hard_negatives` returned as a training file that keeps its scores.

    All four output formats, with and without `output_scores`, are read, and those of `relabel.mine_hard_negatives` with
    their ids. Rows of one query that follow each other become one example: every positive and every negative once.

    Args:
        mined: what it returned, or a file (`.jsonl`, `.json`, `.parquet`) or folder that this was saved to.
        output: the training file to write.
        known: the pairs that were mined from, query and positive in columns of the same names, else the first two:
            for labeled pairs with a score, which do not say who is positive.
        to: format of the training file, one of `relabel.formats.FORMATS` that keeps scores: tevatron, bge or dpr.

    Raises:
        InputError: there are no rows, or they have none of the shapes; labeled pairs with a score came without `known`.
        RowError: a row that cannot be used, with its place.
    """
    rows = _Rows(mined, "mined")
    first = next(iter(rows), None)
    if first is None:
        raise InputError(f"{rows.where}: there are no rows", hint="give what mine_hard_negatives returned")
    reader = _Reader.of(first[1], rows.where)
    if reader.unlabeled and known is None:
        raise InputError(
            f"{rows.where}: labeled pairs with a score do not say who is positive",
            hint="give the pairs that were mined from: known=DATASET; or mine with another output_format",
        )
    form, output, counts = _format(to), Path(output), _Counts()
    with closing(sqlite3.connect("")) as table:  # a file that nobody sees: memory does not grow with the pairs
        table.execute("CREATE TABLE known (pair BLOB PRIMARY KEY) WITHOUT ROWID")
        if reader.unlabeled and known is not None:
            pairs = _Rows(known, "known").pairs(reader.anchor, reader.document)
            table.executemany("INSERT OR IGNORE INTO known VALUES (?)", ((digest(*pair),) for pair in pairs))

        def is_known(query: str, text: str) -> bool:
            return table.execute("SELECT 1 FROM known WHERE pair = ?", (digest(query, text),)).fetchone() is not None

        with open_writer(output, form) as writer:
            for example in _examples(rows, reader, is_known, counts):
                writer.write(example)
    return Adapted(reader.shape, reader.scored, counts.rows, counts.queries, output)


def _format(name: str) -> Format:
    form = get_format(name)
    if not isinstance(form, TwoLists):
        names = ", ".join(each.name for each in FORMATS.values() if isinstance(each, TwoLists))
        raise InputError(f"{name} cannot keep positives, negatives and scores apart", hint=f"choose one of: {names}")
    return form


@dataclass(slots=True)
class _Counts:
    rows: int = 0
    queries: int = 0


@dataclass(frozen=True, slots=True)
class _Rows:
    """Rows of a data set that is at hand, or of a file."""

    source: Any
    name: str

    @property
    def where(self) -> str:
        """What errors call it."""
        return str(self.source) if isinstance(self.source, str | Path) else f"the data set {self.name!r}"

    def __iter__(self) -> Iterator[tuple[int, Mapping[str, Any]]]:
        """Yield rows, each with its number from 1."""
        if isinstance(self.source, str | Path):
            path = Path(self.source)
            if not path.is_file() and not is_saved(path):
                raise InputError(f"{path}: there is no such file or saved data set", hint="check the name")
            for record in read_records(path):
                if isinstance(record.parsed, RowError):
                    raise record.parsed
                yield record.line, record.parsed
            return
        from datasets import Dataset

        if not isinstance(self.source, Dataset):
            raise InputError(
                f"{self.name} is a {type(self.source).__name__}, neither a datasets.Dataset nor the name of a file",
                hint="give one split of it, or the file that it was saved to",
            )
        number = 0
        for block in self.source.with_format(None).iter(batch_size=_BLOCK):
            for values in zip(*block.values(), strict=True):
                number += 1
                yield number, dict(zip(block, values, strict=True))

    def pairs(self, *names: str) -> Iterator[tuple[str, str]]:
        """Yield what stands in two columns: of these names, else the first two."""
        for number, row in self:
            columns = names if all(name in row for name in names) else tuple(row)[:2]
            try:
                query, text = (filled_text(row, name) for name in columns)
            except (RowError, ValueError) as error:
                problem = error if isinstance(error, RowError) else RowError("has no two columns")
                raise placed(problem, self.where, number) from None
            yield query, text


@dataclass(frozen=True, slots=True)
class _Reader:
    """How rows of one shape are read.

    Attributes:
        shape: which.
        anchor: the column of queries.
        document: the column of positives; in labeled shapes, of all documents.
        negatives: the columns of negatives.
        labels: the column of labels; "" without.
        scored: whether there are scores.
    """

    shape: Shape
    anchor: str
    document: str
    negatives: tuple[str, ...] = ()
    labels: str = ""
    scored: bool = False

    @classmethod
    def of(cls, row: Mapping[str, Any], where: str) -> "_Reader":
        """Recognise the shape of a row: the first two columns are the data set's own, the others have fixed names."""
        anchor, document, *others = [*row, "", ""]
        numbered = tuple(name for name in others if _NUMBERED.fullmatch(name))
        scored = "scores" in others or "score" in others
        if isinstance(row.get(document), list) and {"labels", "scores"} & set(others):
            return cls("labeled-list", anchor, document, labels="labels" * ("labels" in others), scored=scored)
        if "negative" in others:
            return cls("triplet", anchor, document, ("negative",), scored=scored)
        if numbered:
            return cls("n-tuple", anchor, document, numbered, scored=scored)
        if "label" in others or "score" in others:
            return cls("labeled-pair", anchor, document, labels="label" * ("label" in others), scored=scored)
        seen = ", ".join(map(repr, list(row)[:20])) or "none"
        raise InputError(
            f"{where}: is nothing that mine_hard_negatives of sentence-transformers returns. Columns seen: {seen}",
            hint=f"after query and positive these are known: {_SHAPES}",
        )

    @property
    def unlabeled(self) -> bool:
        """Whether a row does not say whether it holds a positive."""
        return self.shape == "labeled-pair" and not self.labels

    def read(self, row: Mapping[str, Any]) -> tuple[Example, Passage | None]:
        """Read one row; the passage is one of which the row does not say what it is.

        Raises:
            RowError: without its place.
        """
        query = filled_text(row, self.anchor)
        if self.shape == "labeled-pair":
            texts = [present(row, self.document)]
            lists = {name: [row[one]] for name, one in _BESIDE.items() if one in row}
            labels = [row[self.labels]] if self.labels else []
        else:
            texts = self._texts(row)
            lists = {name: _list(row, name, len(texts)) for name in _BESIDE if name in row}
            labels = _list(row, self.labels, len(texts)) if self.labels else [1] + [0] * (len(texts) - 1)
        passages = [
            _passage(text, {name: values[place] for name, values in lists.items()}) for place, text in enumerate(texts)
        ]
        sides: dict[bool, list[Passage]] = {True: [], False: []}
        for label, passage in zip(labels, passages, strict=not self.unlabeled):
            sides[_is_positive(label, self.labels)].append(passage)
        example = Example(query_id(row, query), query, tuple(sides[True]), tuple(sides[False]))
        return example, passages[0] if self.unlabeled else None

    def _texts(self, row: Mapping[str, Any]) -> list[Any]:
        if self.shape == "labeled-list":
            return _list(row, self.document)
        return [present(row, name) for name in (self.document, *self.negatives)]


_BESIDE: Final = {"scores": "score", "ids": "docid", "ranks": "rank"}
"""What may stand beside the texts of a row, in lists; and beside the one text of a pair."""


def _passage(text: Any, beside: Mapping[str, Any]) -> Passage:
    if not isinstance(text, str):
        raise RowError(f"holds {kind(text)} in the place of a text", hint="Write every passage as text.")
    score = beside.get("scores")
    if score is not None and (not isinstance(score, int | float) or isinstance(score, bool)):
        raise RowError(
            f"is {kind(score)}, not a number", field="scores", hint="Save the rows as JSON lines or Parquet."
        )
    return Passage(id_beside(beside) or content_id("", text), text, beside=beside)


def _list(row: Mapping[str, Any], name: str, count: int | None = None) -> list[Any]:
    value = present(row, name)
    if not isinstance(value, list):
        raise RowError(f"is {kind(value)}, not a list", field=name, hint=_TYPED)
    if count is not None and len(value) != count:
        raise RowError(f"has {len(value)} entries beside {count} texts", field=name, hint="Give it one for each text.")
    if not value:
        raise RowError("is an empty list", field=name, hint="Take the row out.")
    return value


def _is_positive(label: Any, field: str) -> bool:
    if label not in (0, 1):
        raise RowError(f"is {str(label)[:40]!r}, neither 0 nor 1", field=field, hint="Write 1 for positives, else 0.")
    return bool(label)


def _examples(rows: _Rows, reader: _Reader, is_known: Callable[[str, str], bool], counts: _Counts) -> Iterator[Example]:
    """Yield one example for the rows of a query that follow each other."""
    counts.rows = counts.queries = 0

    def read() -> Iterator[tuple[int, Example]]:
        for number, row in rows:
            try:
                example, unsaid = reader.read(row)
            except RowError as error:
                raise placed(error, rows.where, number) from None
            if unsaid is not None:
                positive = is_known(example.query, unsaid.text)
                example = replace(example, positives=(unsaid,)) if positive else replace(example, negatives=(unsaid,))
            counts.rows += 1
            yield number, example

    for _, group in groupby(read(), key=lambda each: (each[1].query, each[1].id)):
        numbers, examples = zip(*group, strict=True)
        positives = distinct(passage for each in examples for passage in each.positives)
        if not positives:
            raise RowError(
                "no row of this query holds a positive", path=rows.where, line=numbers[0], field=reader.anchor,
                hint="Rows of a query must follow each other, and with scores alone `known` must have its positives.",
            )  # fmt: skip
        known = {passage.text for passage in positives}
        negatives = distinct(passage for each in examples for passage in each.negatives if passage.text not in known)
        counts.queries += 1
        yield replace(examples[0], positives=positives, negatives=negatives, position=counts.queries - 1)
