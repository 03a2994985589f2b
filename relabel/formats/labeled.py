"""Sentence-transformers' labeled pairs and labeled lists: positives and negatives mixed, told apart by labels 1 and 0.

How many positives stand before a negative is noted beside it: together with the order of both, that is the row's order,
and neither drops nor promotions, which go to the end, disturb it.
"""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any, ClassVar, Final, NoReturn

from relabel.errors import RowError
from relabel.formats.base import (
    Effects,
    Sides,
    alike,
    content_id,
    entry,
    example_of,
    filled_text,
    id_beside,
    identifier,
    kind,
    present,
)
from relabel.formats.carrying import AFTER, PLACE, ROWS, common, other_fields
from relabel.formats.columns import PARALLEL, PASSAGE_IDS, SCORES, LabeledColumns, list_columns, pair_columns, spelling
from relabel.formats.twolists import besides
from relabel.records import NOTHING, Example, Passage

_LABEL: Final = f"{PLACE}label"
_TEXTS: Final = {"0": False, "1": True}
_POSITIVE_HINT: Final = "Negatives are judged against a known positive: add one with label 1, or take the query out."


@dataclass(frozen=True, slots=True)
class LabeledLists:
    """`{"query", "documents": [text], "labels": [0 or 1]}`; `anchor` for the first, other names in this order.

    Lists named `document_…` (after the list's own name), `scores`, `ids` and `ranks` run parallel; ids come from
    `document_ids` or `ids`. A row made from another format has the positives first, titles in front of the texts, ids
    left out.
    """

    name: ClassVar[str] = "labeled-lists"
    shape: ClassVar[str] = "anchor or query, documents or passages [text], labels [0 or 1]"
    flat: ClassVar[bool] = False
    holds_promotions: ClassVar[bool] = True
    holds_emptied: ClassVar[bool] = True
    holds_more: ClassVar[bool] = True
    effects: ClassVar[Effects] = Effects(
        promote="The text moves to the end of documents with label 1 and its entries in parallel lists.",
        drop="The text leaves documents, its entries labels and the parallel lists; the rest of the row stays.",
        emptied="The row stays with its positives alone, from which a list-wise loss learns nothing.",
    )

    def recognises(self, row: Mapping[str, Any]) -> bool:
        """Whether query, documents and labels are there, the last two as lists."""
        found = list_columns(row)
        return found is not None and isinstance(row[found.documents], list) and isinstance(row[found.labels], list)

    def parse(
        self, row: Mapping[str, Any], *, position: int, line: int, path: str = "", source_field: str | None = None
    ) -> Example:
        """Read one row; see `Format.parse`."""
        return example_of(
            self.name, row, self._read, position=position, line=line, path=path, source_field=source_field
        )

    def _read(self, row: Mapping[str, Any]) -> Sides:
        columns = list_columns(row) or _missing(row, "documents", "labels")
        return filled_text(row, columns.query), *self._split(row, columns)

    def render(self, example: Example) -> list[dict[str, Any]]:
        """Return one row; see `Format.render`."""
        if example.layout != self.name:
            texts = [passage.full_text for passage in (*example.positives, *example.negatives)]
            labels = [1] * len(example.positives) + [0] * len(example.negatives)
            rest = other_fields(example, self.name)
            return [{"query": example.query, "documents": texts, "labels": labels, **rest}]
        columns = list_columns(example.row) or _missing(example.row, "documents", "labels")
        passages = _in_order(example)
        label = example.positives[0].beside[_LABEL]
        row = dict(example.row)
        row[columns.documents] = [passage.item for passage, _ in passages]
        row[columns.labels] = [label if promoted else passage.beside[_LABEL] for passage, promoted in passages]
        for name, key in _parallel(row, columns):
            row[key] = [passage.beside[name] for passage, _ in passages]
        return [row]

    def passage(self, item: Any, beside: Mapping[str, Any]) -> Passage:
        """Build a passage from its text; without an id beside it, its id is a digest."""
        if not isinstance(item, str):
            raise RowError(f"is {kind(item)}, not text", hint="Write every document as text between quotes.")
        return Passage(id_beside(beside) or content_id("", item), item, "", item, beside)

    def place(self, example: Example, passage: Passage) -> tuple[int, Passage]:
        """Return where another text goes, behind the row's own, and as what; see `Format.place`."""
        row = example.row
        columns = list_columns(row) or _missing(row, "documents", "labels")
        beside = {name: entry(name, passage, next(iter(row[key]), None)) for name, key in _parallel(row, columns)}
        beside |= {_LABEL: _not_relevant(row[columns.labels]), AFTER: _read_positives(example)}
        return len(example.negatives), self.passage(passage.full_text, beside)

    def _split(self, row: Mapping[str, Any], columns: LabeledColumns) -> tuple[list[Passage], list[Passage]]:
        items, labels = _list(row, columns.documents), _list(row, columns.labels)
        lists = [(_LABEL, columns.labels), *_parallel(row, columns)]
        positives: list[Passage] = []
        negatives: list[Passage] = []
        each = zip(items, labels, besides(row, columns.documents, lists, len(items)), strict=False)
        for index, (item, label, beside) in enumerate(each):
            field = f"{columns.documents}[{index}]"
            positive = _is_positive(label, f"{columns.labels}[{index}]")
            try:
                passage = self.passage(item, beside if positive else {**beside, AFTER: len(positives)})
            except RowError as error:
                inner = f".{error.field}" if error.field else ""
                raise RowError(error.problem, field=field + inner, hint=error.hint) from None
            if positive and not passage.text.strip():
                raise RowError("is empty", field=field, hint="Write the text, or take it out.")
            (positives if positive else negatives).append(passage)
        if not positives:
            problem = "holds no 1" if labels else "is an empty list"
            raise RowError(problem, field=columns.labels, hint=_POSITIVE_HINT)
        return positives, negatives


@dataclass(frozen=True, slots=True)
class LabeledPairs:
    """`{"query", "document", "label": 0 or 1}`: the rows of one query that follow each other are one example.

    `anchor` for the first, `passage` for the second, or other names in this order. `query_id` and the data set's name
    must agree too. A passage's id comes from `docid`, `doc_id`, `document_id` or `passage_id`. A query made from
    another format has its positives first, titles in front of the texts, ids left out.
    """

    name: ClassVar[str] = "labeled-pairs"
    shape: ClassVar[str] = "anchor or query, document or passage, label 0 or 1; rows of one query follow each other"
    flat: ClassVar[bool] = True
    holds_promotions: ClassVar[bool] = True
    holds_emptied: ClassVar[bool] = True
    holds_more: ClassVar[bool] = True
    effects: ClassVar[Effects] = Effects(
        promote="The row gets label 1 and moves behind the other rows of its query.",
        drop="The row is removed; the other rows of its query stay.",
        emptied="The query keeps its rows with label 1 alone.",
    )

    def recognises(self, row: Mapping[str, Any]) -> bool:
        """Whether the three columns are there."""
        found = pair_columns(row)
        return found is not None and not isinstance(row[found.documents], list)

    def parse(
        self, row: Mapping[str, Any], *, position: int, line: int, path: str = "", source_field: str | None = None
    ) -> Example:
        """Read one row as an example with one passage, to be joined by `join`; see `Format.parse`."""
        example = example_of(
            self.name, row, self._read, position=position, line=line, path=path, source_field=source_field
        )
        return replace(example, row={ROWS: [row]})

    def _read(self, row: Mapping[str, Any]) -> Sides:
        columns = pair_columns(row) or _missing(row, "document", "label")
        query = filled_text(row, columns.query)
        positive = _is_positive(row[columns.labels], columns.labels)
        if positive:
            filled_text(row, columns.documents)
        passages = (self.passage(row, NOTHING if positive else {AFTER: 0}),)
        return (query, passages, ()) if positive else (query, (), passages)

    @staticmethod
    def belongs(example: Example, other: Example) -> bool:
        """Whether two rows that follow each other are of one query."""
        return (example.query, example.id, example.source) == (other.query, other.id, other.source)

    def join(self, examples: Sequence[Example], *, line: int, path: str = "") -> Example:
        """Make one example of the rows of a query.

        Raises:
            RowError: none of them is positive.
        """
        positives: list[Passage] = []
        negatives: list[Passage] = []
        for each in examples:
            positives.extend(each.positives)
            negatives.extend(replace(passage, beside={AFTER: len(positives)}) for passage in each.negatives)
        if not positives:
            problem = f"is 1 in none of the rows of this query ({len(examples)})"
            raise RowError(problem, path=path, line=line, field="label", hint=_POSITIVE_HINT)
        rows = [each.row[ROWS][0] for each in examples]
        return replace(examples[0], positives=tuple(positives), negatives=tuple(negatives), row={ROWS: rows})

    def split(self, example: Example, count: int) -> tuple[Example, Example]:
        """Take the first `count` rows apart from the rest, each with a positive: undoes that two examples met."""
        rows = [self.parse(row, position=example.position, line=0) for row in example.row[ROWS]]
        return self.join(rows[:count], line=0), self.join(rows[count:], line=0)

    def render(self, example: Example) -> list[dict[str, Any]]:
        """Return the rows of a query; see `Format.render`."""
        if example.layout != self.name:
            rest = other_fields(example, self.name)
            return [
                {"query": example.query, "document": passage.full_text, "label": label, **rest}
                for label, passages in ((1, example.positives), (0, example.negatives))
                for passage in passages
            ]
        return [
            self._relabelled(passage.item, example) if promoted else dict(passage.item)
            for passage, promoted in _in_order(example)
        ]

    def passage(self, item: Any, beside: Mapping[str, Any]) -> Passage:
        """Build a passage from its row; without an id in it, its id is a digest."""
        if not isinstance(item, Mapping):
            raise RowError(f"is {kind(item)}, not an object", hint="A labeled pair is a whole row.")
        column = (pair_columns(item) or _missing(item, "document", "label")).documents
        text = item[column]
        if not isinstance(text, str):
            raise RowError(f"is {kind(text)}, not text", field=column, hint="Write it as text between quotes.")
        known = next((identifier(item[name], name) for name in PASSAGE_IDS if name in item), "")
        return Passage(known or content_id("", text), text, "", item, beside)

    def place(self, example: Example, passage: Passage) -> tuple[int, Passage]:
        """Return where another row goes, behind the query's own, and what it holds; see `Format.place`.

        Fields in which the query's rows agree are theirs.
        """
        rows = example.row[ROWS]
        known = next((row for row in rows if not _label_of(row)), rows[0])
        columns = pair_columns(known) or _missing(known, "document", "label")
        agreed = common(rows)
        row = {name: agreed.get(name, entry(name, passage)) for name in known}
        row |= {name: alike(passage.id, known[name]) for name in PASSAGE_IDS if name in known}
        labels = [each[columns.labels] for each in rows if columns.labels in each]
        row |= {columns.documents: passage.full_text, columns.labels: _not_relevant(labels)}
        return len(example.negatives), self.passage(row, {AFTER: _read_positives(example)})

    @staticmethod
    def _relabelled(row: Mapping[str, Any], example: Example) -> dict[str, Any]:
        """Return a negative's row with the label that the query's first positive has."""
        first = example.positives[0].item
        mine, its = (pair_columns(each) or _missing(each, "document", "label") for each in (row, first))
        return {**row, mine.labels: first[its.labels]}


class Seams:
    """Where examples of one query meet in a written file because what stood between them is gone.

    Read again they are one example; `found` holds, by the first one's position, how many rows of it are the first's.
    """

    def __init__(self) -> None:
        self.found: dict[str, int] = {}
        self._last: tuple[Example, int] | None = None

    def wrote(self, example: Example, rows: int) -> None:
        """Note an example that was written in so many rows."""
        if example.layout != LabeledPairs.name:
            return
        if self._last and LabeledPairs.belongs(self._last[0], example):
            self.found[str(self._last[0].position)] = self._last[1]
        self._last = (example, rows)


def rows_of(row: Mapping[str, Any], layout: str) -> list[dict[str, Any]]:
    """Return the rows of the file that `Example.row` stands for: one, except for labeled pairs."""
    return [dict(each) for each in row[ROWS]] if layout == LabeledPairs.name else [dict(row)]


def _in_order(example: Example) -> list[tuple[Passage, bool]]:
    """Return the passages as they stood in the row, the promoted ones at the end, each with whether it is one."""
    passages: list[tuple[Passage, bool]] = []
    negatives, met = list(reversed(example.negatives)), 0
    for positive in example.positives:
        if AFTER in positive.beside:
            continue
        while negatives and negatives[-1].beside[AFTER] <= met:
            passages.append((negatives.pop(), False))
        passages.append((positive, False))
        met += 1
    passages.extend((passage, False) for passage in reversed(negatives))
    passages.extend((passage, True) for passage in example.positives if AFTER in passage.beside)
    return passages


def _is_positive(label: Any, field: str) -> bool:
    """Read a label: 1, 1.0, true or "1"; 0, 0.0, false or "0"."""
    if isinstance(label, str) and label.strip() in _TEXTS:
        return _TEXTS[label.strip()]
    if isinstance(label, int | float) and label in (0, 1):
        return bool(label)
    if isinstance(label, float) and not math.isfinite(label):
        shown = "NaN" if math.isnan(label) else "infinite"
    else:
        shown = repr(label) if isinstance(label, int | float | str) else kind(label)
    raise RowError(f"is {shown[:40]}, neither 0 nor 1", field=field, hint="Write 1 for relevant and 0 for not.")


def _label_of(row: Mapping[str, Any]) -> bool:
    columns = pair_columns(row) or _missing(row, "document", "label")
    return _is_positive(row[columns.labels], columns.labels)


def _not_relevant(labels: Sequence[Any]) -> Any:
    """Return how these labels say 0: as one of them does, else in the type of the first."""
    known = next((label for label in labels if not _is_positive(label, "label")), None)
    if known is not None:
        return known
    return "0" if isinstance(labels[0], str) else type(labels[0])(0)


def _read_positives(example: Example) -> int:
    """Return how many positives of an example were read as such, and not promoted."""
    return sum(AFTER not in passage.beside for passage in example.positives)


def _list(row: Mapping[str, Any], key: str) -> list[Any]:
    value = row[key]
    if not isinstance(value, list):
        raise RowError(f"is {kind(value)}, not a list", field=key, hint=f'Write a list, even of one: "{key}": […].')
    return value


def _parallel(row: Mapping[str, Any], columns: LabeledColumns) -> list[tuple[str, str]]:
    """Return the lists that run parallel to the documents, labels apart, as (name of an entry, key)."""
    prefix, count = f"{columns.documents.removesuffix('s')}_", len(_list(row, columns.documents))
    return [
        (key if key.removeprefix(prefix) in row else key.removeprefix(prefix), key)
        for key, value in row.items()
        if isinstance(value, list)
        and key not in columns
        and (key.startswith(prefix) or key.lower() in SCORES or (key.lower() in PARALLEL and len(value) == count))
    ]


def _missing(row: Mapping[str, Any], document: str, label: str) -> NoReturn:
    """Say which of the columns a row lacks."""
    spelt = spelling(row)
    if "anchor" not in spelt and "query" not in spelt:
        present(row, "query")
    for name in (document, label):
        if name not in spelt:
            present(row, name)
    raise RowError("has columns that contradict each other", hint=f"Name them query, {document} and {label}.")
