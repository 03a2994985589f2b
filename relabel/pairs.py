"""A data set of pairs that is at hand in Python → files that `relabel mine` reads, and reads again to go on."""

import filecmp
import sqlite3
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import closing
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

from relabel.errors import InputError, SettingsError
from relabel.formats.base import content_id, kind
from relabel.formats.whole import json_bytes, told
from relabel.material import Material
from relabel.records import digest

if TYPE_CHECKING:
    from datasets import Dataset

AnyCorpus = Sequence[str] | Mapping[str, str] | None

QUERY_ID: Final = "query_id"
_BLOCK: Final = 1000
"""Rows of a data set that are looked at at once."""


@dataclass(frozen=True, slots=True)
class Pairs:
    """A `datasets.Dataset` with a query and one of its positives in each row, and more texts to search.

    Attributes:
        dataset: the rows; a column `query_id` is taken along.
        anchor: the column of queries.
        positive: the column of positives.
        corpus: texts, or texts by their ids, that are searched with the positives; None = nothing but these. What has
            no id gets a digest of its text.
    """

    dataset: "Dataset"
    anchor: str
    positive: str
    corpus: AnyCorpus = None

    @classmethod
    def of(cls, dataset: Any, anchor: str | None, positive: str | None, corpus: AnyCorpus = None) -> "Pairs":
        """Find the two columns: the first two of the data set where no name is given.

        Raises:
            InputError: it is no data set, or empty.
            SettingsError: it has no such column.
        """
        from datasets import Dataset

        if not isinstance(dataset, Dataset):
            raise InputError(
                f"the data set is a {type(dataset).__name__}, not a datasets.Dataset",
                hint="give one split of it, or make one: datasets.Dataset.from_list(rows)",
            )
        if not len(dataset):
            raise InputError("the data set is empty", hint="give at least one pair of a query and a positive")
        names = list(dataset.column_names)
        if len(names) < 2:
            raise InputError(f"the data set has one column, {names[0]!r}", hint="give it queries and positives")
        for given in (anchor, positive):
            if given is not None and given not in names:
                raise SettingsError(f"the data set has no column {given!r}", hint=f"it has: {', '.join(names)}")
        return cls(dataset, anchor or names[0], positive or names[1], corpus)

    def __iter__(self) -> Iterator[tuple[str, str, Any]]:
        """Yield query, positive and the query's id (None without).

        Raises:
            InputError: a cell that holds no text; names row and column.
        """
        names = [self.anchor, self.positive, *([QUERY_ID] if QUERY_ID in self.dataset.column_names else [])]
        number = 0
        for block in self.dataset.with_format(None).select_columns(names).iter(batch_size=_BLOCK):
            ids = block.get(QUERY_ID, [None] * len(block[self.anchor]))
            for query, positive, query_id in zip(block[self.anchor], block[self.positive], ids, strict=True):
                for name, value in ((self.anchor, query), (self.positive, positive)):
                    if not isinstance(value, str) or not value.strip():
                        what = "an empty text" if isinstance(value, str) else kind(value)
                        raise InputError(
                            f"row {number} of the data set (from 0) holds {what} in column {name!r}",
                            hint="take the row out: dataset.filter(…)",
                        )
                yield query, positive, query_id
                number += 1

    def most_positives(self) -> int:
        """Return how many rows the query has that has most."""
        with closing(sqlite3.connect("")) as counts:  # a file that nobody sees: memory does not grow with the queries
            counts.execute("CREATE TABLE queries (query BLOB PRIMARY KEY, rows INTEGER) WITHOUT ROWID")
            counts.executemany(
                "INSERT INTO queries VALUES (?, 1) ON CONFLICT DO UPDATE SET rows = rows + 1",
                ((digest(query),) for query, _, _ in self),
            )
            return int(counts.execute("SELECT max(rows) FROM queries").fetchone()[0])

    def write(self, folder: Path) -> Material:
        """Write it as rows of JSON into a folder; a file that is the same already stays as it is.

        Raises:
            InputError: a cell or an entry of the corpus holds no text, or the file cannot be written.
        """
        folder.mkdir(parents=True, exist_ok=True)
        pairs, corpus = folder / "pairs.jsonl", folder / "corpus.jsonl"
        _write(pairs, (_row(*each) for each in self))
        if self.corpus is None:
            return Material(str(pairs))
        _write(corpus, ({"_id": name, "text": text} for name, text in self._documents()))
        return Material(str(pairs), str(corpus))

    def _documents(self) -> Iterator[tuple[str, str]]:
        """Yield what is searched: the corpus, then the positives that it may lack; each text counts once anyway."""
        corpus: Any = self.corpus
        entries = corpus.items() if isinstance(corpus, Mapping) else ((None, text) for text in corpus)
        for place, (name, text) in enumerate(entries):
            if not isinstance(text, str):
                raise InputError(f"entry {place} of the corpus (from 0) is {kind(text)}, not text", hint="give texts")
            yield content_id("", text) if name is None else str(name), text
        for _, positive, _ in self:
            yield content_id("", positive), positive


def _row(query: str, positive: str, query_id: Any) -> Mapping[str, Any]:
    known = {} if query_id is None else {QUERY_ID: query_id}
    return {**known, "query": query, "positive_passages": [{"text": positive}], "negative_passages": []}


def _write(path: Path, rows: Iterable[Mapping[str, Any]]) -> None:
    temporary = path.with_name(f"{path.name}.tmp")
    with told(path):
        with temporary.open("wb") as file:
            file.writelines(json_bytes(row) + b"\n" for row in rows)
        if path.exists() and filecmp.cmp(temporary, path, shallow=False):
            temporary.unlink()  # what is made of it is still good
        else:
            temporary.replace(path)
