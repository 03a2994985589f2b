"""What was mined → a `datasets.Dataset` in the shapes that sentence-transformers' losses take.

The shapes, their columns and the order of their rows are those of its `mine_hard_negatives`; ids and ranks are ours.
"""

import json
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

from relabel.corpus import Corpus
from relabel.errors import SettingsError
from relabel.formats.tables import TableWriter
from relabel.formats.whole import told
from relabel.pools import CANDIDATES, CORPUS

if TYPE_CHECKING:
    import pyarrow as pa
    from datasets import Dataset

Shape = Literal["triplet", "n-tuple", "labeled-pair", "labeled-list"]

Row = dict[str, Any]


@dataclass(frozen=True, slots=True)
class Layout:
    """How rows shall look.

    Attributes:
        shape: which of sentence-transformers' shapes.
        anchor: name of the column of queries.
        positive: name of the column of positives; in labeled shapes, of all documents.
        width: negatives of an n-tuple; a query with fewer makes none.
        scores: whether scores are written; in labeled shapes in place of the labels.
        ids: whether ids, ranks and scores are written besides.
    """

    shape: Shape
    anchor: str = "anchor"
    positive: str = "positive"
    width: int = 1
    scores: bool = False
    ids: bool = False

    def rows(self, found: "Found") -> Iterator[Row]:
        """Yield the rows of one query."""
        positives, negatives = found.positives, found.negatives
        match self.shape:
            case "triplet":
                pairs = ((positive, negative) for positive in positives for negative in negatives)
                for positive, negative in pairs:
                    row = {**self._start(found, positive.text), "negative": negative.text}
                    yield row | self._beside(found, [positive, negative])
            case "n-tuple":
                for positive in positives if len(negatives) == self.width else ():
                    numbered = {f"negative_{number}": each.text for number, each in enumerate(negatives, 1)}
                    row = self._start(found, positive.text) | numbered
                    yield row | self._beside(found, [positive, *negatives])
            case "labeled-pair":
                for label, side in ((1, positives), (0, negatives)):
                    for each in side:
                        yield {**self._start(found, each.text), "label": label, **self._beside_one(found, each)}
            case "labeled-list":
                for positive in positives if negatives else ():
                    texts = [positive, *negatives]
                    row = self._start(found, [each.text for each in texts])
                    yield {**row, "labels": [1] + [0] * len(negatives)} | self._beside(found, texts)

    def columns(self) -> "pa.Schema":
        """Return names and types of the columns, in their order."""
        import pyarrow as pa

        text, number, label = pa.string(), pa.float64(), pa.int64()
        one = self.shape == "labeled-pair"
        kinds: dict[str, Any] = {self.anchor: text, self.positive: text}
        match self.shape:
            case "triplet":
                kinds["negative"] = text
            case "n-tuple":
                kinds |= {f"negative_{place}": text for place in range(1, self.width + 1)}
            case "labeled-pair":
                kinds |= {} if self.scores else {"label": label}
            case "labeled-list":
                kinds[self.positive] = pa.list_(text)
                kinds |= {} if self.scores else {"labels": pa.list_(label)}
        if self.scores or self.ids:
            kinds |= {"score": number} if one else {"scores": pa.list_(number)}
        if self.ids:
            kinds |= {"query_id": text}
            kinds |= {"docid": text, "rank": label} if one else {"ids": pa.list_(text), "ranks": pa.list_(label)}
        return pa.schema(list(kinds.items()))

    def _start(self, found: "Found", document: Any) -> Row:
        return {self.anchor: found.query, self.positive: document}

    def _beside(self, found: "Found", texts: "Sequence[Text]") -> Row:
        return {
            "scores": [each.score for each in texts],
            "query_id": found.id,
            "ids": [each.id for each in texts],
            "ranks": [each.rank for each in texts],
        }

    def _beside_one(self, found: "Found", each: "Text") -> Row:
        return {"score": each.score, "query_id": found.id, "docid": each.id, "rank": each.rank}


@dataclass(frozen=True, slots=True)
class Text:
    """A passage of a row; rank None = not found by the retriever."""

    id: str
    text: str
    score: float | None
    rank: int | None


@dataclass(frozen=True, slots=True)
class Found:
    """What came of one query: its positives as they were given, its negatives by rank."""

    id: str
    query: str
    positives: tuple[Text, ...]
    negatives: tuple[Text, ...]


def mined(folder: Path) -> Iterator[Found]:
    """Read what `relabel mine` left in a folder, query by query, those without a negative too."""
    path = folder / CANDIDATES
    with Corpus(folder / CORPUS) as corpus, path.open(encoding="utf-8") as lines:
        for line in lines:
            row = json.loads(line)
            drawn = [each for each in row["candidates"] if each.get("drawn")]
            yield Found(
                row["query_id"], row["query"], _texts(corpus, row["positives"]), _texts(corpus, drawn)
            )  # fmt: skip


def _texts(corpus: Corpus, found: list[Mapping[str, Any]]) -> tuple[Text, ...]:
    numbers = [number for each in found if (number := corpus.number_of(each["docid"])) is not None]
    passages = corpus.passages_of(numbers)
    return tuple(
        Text(passage.id, passage.full_text, each["score"], each["rank"])
        for passage, each in zip(passages, found, strict=True)
    )


def dataset_of(folder: Path, layout: Layout, *, keep: bool) -> "Dataset":
    """Return what lies in a mined folder as a data set.

    Args:
        folder: of the mining.
        layout: how its rows shall look.
        keep: whether the folder stays: then the data set is mapped from a file in it, else it is held in memory.

    Raises:
        InputError: the file cannot be written.
    """
    from datasets import Dataset

    path = folder / "cache" / "rows.arrow"
    temporary = path.with_name(f"{path.name}.tmp")
    schema = layout.columns()
    names = set(schema.names)
    with told(path):
        writer = TableWriter(path, temporary, schema, stream=True)
        try:
            for found in mined(folder):
                for row in layout.rows(found):
                    writer.put({name: value for name, value in row.items() if name in names})
            writer.finish()
        finally:
            writer.close()
        temporary.replace(path)
    return Dataset.from_file(str(path), in_memory=not keep)


def shape_of(name: str) -> Shape:
    """Return the shape of that name.

    Raises:
        SettingsError: there is none.
    """
    match name:
        case "triplet" | "n-tuple" | "labeled-pair" | "labeled-list":
            return name
        case "n-tuple-scores":
            hint = 'write output_format="n-tuple", output_scores=True'
        case _:
            hint = "choose triplet, n-tuple, labeled-pair or labeled-list"
    raise SettingsError(f"there is no output_format {name!r}", hint=hint)
