"""Dense retrieval: the documents whose vectors have the largest inner product with the query's.

An index finds candidates; the scores that count are computed from the stored vectors, in double precision and one row
at a time. So a score does not depend on the kind of index, on the threads or on what else was asked.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Final

from relabel.errors import InputError
from relabel.mining.indexes import BLOCK, Approximate, Flat, IndexSettings, Vectors, longest
from relabel.mining.searching import Asked, Collection, Hits, Progress
from relabel.records import digest

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

    Floats = NDArray[np.float32]
    Rows = NDArray[np.int64]

SPARE: Final = 16
"""Candidates beyond those asked for, among which the exact scores choose."""

QUERIES: Final = 1024
"""How many queries are looked up at a time."""


@dataclass(frozen=True, slots=True)
class Recall:
    """How much of what is there an index finds: the mean share of the exact `k` best, in [0, 1], over `queries`."""

    value: float
    k: int
    queries: int


class Dense:
    """Finds documents by inner product; of vectors of unit length that is the cosine.

    Args:
        name: what candidates call their source.
        vectors: of passages and queries: `Embeddings` or `Precomputed`.
        folder: where the index is kept; one of other documents, vectors or settings is another file.
        settings: the kind of index.
    """

    def __init__(self, name: str, vectors: Vectors, folder: Path, settings: IndexSettings | None = None) -> None:
        self._name = name
        self._vectors = vectors
        self._folder = folder
        self._settings = settings or IndexSettings()
        self._documents = 0
        self._index: Flat | Approximate

    @property
    def name(self) -> str:
        """What candidates call their source."""
        return self._name

    def prepare(self, collection: Collection, progress: Progress) -> None:
        """Make vectors and index ready.

        Raises:
            InputError: queries and documents have vectors of different size, or one holds a value that is no number.
            MissingPart: faiss is not installed.
            SettingsError: there are too few documents for the settings.
        """
        self._vectors.prepare(collection, progress)
        self._documents = collection.documents
        if self._documents and collection.queries:
            self._check_queries(collection.queries)
        if self._settings.chosen(self._documents) == "flat" or not self._documents:
            self._index = self._exact(progress)
        else:
            self._index = Approximate(self._vectors, self._documents, self._settings)
            self._folder.mkdir(parents=True, exist_ok=True)
            self._index.prepare(self._path(collection), progress)

    def search(self, asked: Sequence[Asked], depth: int) -> list[Hits]:
        """Return the `depth` best documents for each query, ties by number."""
        return self._found(self._index, asked, depth)

    def score(self, asked: Asked, numbers: Sequence[int]) -> "Floats":
        """Return the query's similarity to passages, shape (numbers,); NaN where one has no vector."""
        (query,) = self._vectors.queries(_numbers([asked.number]))
        return _products(self._vectors.rows(_numbers(numbers)), query)

    def near(self, numbers: Sequence[int], others: Sequence[int]) -> "Floats":
        """Return the similarity of passages to passages, shape (numbers, others); NaN where one has no vector."""
        import numpy as np

        rows = self._vectors.rows(_numbers(others))
        found = [_products(rows, vector) for vector in self._vectors.rows(_numbers(numbers))]
        return np.asarray(found, dtype=np.float32).reshape(len(numbers), len(others))

    @property
    def approximate(self) -> bool:
        """Whether the index may miss documents; known once prepared."""
        return isinstance(self._index, Approximate)

    def recall(self, asked: Sequence[Asked], k: int = 10) -> Recall:
        """Return how much of the exact `k` best documents the index finds for these queries."""
        best = self._found(self._exact(lambda *_: None), asked, k)
        shares = [
            len(set(here.numbers.tolist()) & set(there.numbers.tolist())) / max(1, len(there.numbers))
            for here, there in zip(self.search(asked, k), best, strict=True)
        ]
        return Recall(sum(shares) / len(shares) if shares else 1.0, k, len(shares))

    def _exact(self, progress: Progress) -> Flat:
        flat = Flat(self._vectors, self._documents, self._settings)
        flat.prepare(progress)
        return flat

    def _path(self, collection: Collection) -> Path:
        """Return where the index lies: named by all that it depends on."""
        chosen = self._settings
        kind = chosen.chosen(self._documents)
        recipe = chosen.recipe(self._documents, self._vectors.documents(0, 1).shape[1])
        parts = (collection.fingerprint, str(self._documents), self._vectors.fingerprint, recipe)
        return self._folder / f"{kind}-{digest(*parts, size=8).hex()}.faiss"

    def _check_queries(self, count: int) -> None:
        import numpy as np

        documents, queries = self._vectors.documents(0, 1).shape[1], self._vectors.queries(_numbers([0])).shape[1]
        if documents != queries:
            raise InputError(
                f"the documents' vectors have {documents} dimensions, those of the queries {queries}",
                hint="embed both with the same model",
            )
        for first in range(0, count, QUERIES):
            block = self._vectors.queries(np.arange(first, min(first + QUERIES, count)))
            longest(block, first, "query")

    def _found(self, index: Flat | Approximate, asked: Sequence[Asked], depth: int) -> list[Hits]:
        import numpy as np

        hits: list[Hits] = []
        depth = min(depth, self._documents)
        for first in range(0, len(asked), QUERIES):
            numbers = _numbers([one.number for one in asked[first : first + QUERIES]])
            if depth < 1:
                hits += [Hits(np.empty(0, np.int64), np.empty(0, np.float32)) for _ in numbers]
            elif isinstance(index, Flat):
                hits += self._certain(index, self._vectors.queries(numbers), depth)
            else:
                queries = self._vectors.queries(numbers)
                # the coarser the vectors in the index, the more of its candidates have to be compared again
                wide = depth * (4 if self._settings.precision == "pq" else 1) + SPARE
                found, _ = index.candidates(queries, min(wide, self._documents))
                hits += self._best(queries, found, depth)
        return hits

    def _certain(self, index: Flat, queries: "Floats", depth: int) -> list[Hits]:
        """Return the exact best: with more and more candidates, until none that is left out can be one of them."""
        import numpy as np

        hits: list[Hits | None] = [None] * len(queries)
        slack = index.slack(queries)
        left, count = np.arange(len(queries)), depth + SPARE
        while len(left):
            count = min(count, self._documents)
            numbers, scores = index.candidates(queries[left], count)
            ends = scores.min(axis=1) + slack[left]
            unsure = []
            for place, found, end in zip(left, self._best(queries[left], numbers, depth), ends, strict=True):
                if count == self._documents or found.scores[-1] > end:
                    hits[place] = found
                else:
                    unsure.append(place)
            left, count = np.asarray(unsure, dtype=np.int64), count * 4
        return [found for found in hits if found is not None]

    def _best(self, queries: "Floats", numbers: "Rows", depth: int) -> list[Hits]:
        """Return for each query the best of its candidates by exact scores; a number of −1 is none."""
        import numpy as np

        hits: list[Hits] = []
        step = max(1, BLOCK // (12 * numbers.shape[1] * queries.shape[1]))
        for first in range(0, len(queries), step):
            some = numbers[first : first + step]
            rows = self._vectors.rows(np.maximum(some, 0).ravel()).reshape(*some.shape, -1)
            scores = _products(rows, queries[first : first + step, None, :])
            scores[some < 0] = -np.inf
            order = np.lexsort((some, -scores), axis=1)[:, :depth]
            found, best = np.take_along_axis(some, order, 1), np.take_along_axis(scores, order, 1)
            hits += [Hits(place[place >= 0], score[place >= 0]) for place, score in zip(found, best, strict=True)]
        return hits


def _numbers(numbers: Sequence[int]) -> "Rows":
    import numpy as np

    return np.asarray(numbers, dtype=np.int64)


def _products(rows: "Floats", query: "Floats") -> "Floats":
    """Return the inner products of rows (last axis) with a query, each computed by itself, rounded once."""
    import numpy as np

    products: Floats = np.multiply(rows, query, dtype=np.float64).sum(axis=-1).astype(np.float32)
    return products
