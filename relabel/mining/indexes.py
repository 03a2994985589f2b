"""What finds candidates among stored vectors: faiss, flat or approximate. The one place where faiss is imported.

Scores in here are approximate; whoever asks computes exact ones from the stored vectors. Everything that decides what
is found is the same on any number of threads and for any cut of the queries into blocks:

- flat: a bound on the rounding error tells whether the candidates are certain to hold the best (`Flat.slack`);
- ivf: which lists are looked at is decided in double precision, a list is read by one thread, training and filling
  go in fixed blocks;
- hnsw: built by one thread, since what several insert at a time depends on who comes first.
"""

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from math import isqrt
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final, Literal, Protocol

from relabel.errors import InputError, MissingPart, SettingsError
from relabel.mining.embeddings import alone
from relabel.mining.searching import Collection, Progress

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

    Floats = NDArray[np.float32]
    Rows = NDArray[np.int64]

Kind = Literal["auto", "flat", "ivf", "hnsw"]
Precision = Literal["float32", "float16", "pq"]

BLOCK: Final = 2**26
"""Bytes of vectors that are read at a time."""

FEW: Final = 250_000
"""Up to so many documents `auto` compares with all of them."""

PER_LIST: Final = 50
"""Vectors for each list of an IVF index that it is trained on."""

ENTRIES: Final = 256 * 39
"""The fewest vectors from which product quantization learns its tables, as faiss advises."""

NEIGHBOURS: Final = 32
EF_BUILD: Final = 80
"""HNSW: links of a vector, and how many candidates they are chosen from."""


class Vectors(Protocol):
    """The vectors of a collection, by number, wherever they come from."""

    @property
    def fingerprint(self) -> str:
        """Digest of what the vectors are, as a part of a file name."""
        ...

    def prepare(self, collection: Collection, progress: Progress) -> None:
        """Make the vectors of all passages and queries ready to be read."""
        ...

    def documents(self, first: int, last: int) -> "Floats":
        """Return the vectors of documents `first` up to, not with, `last`; shape (last − first, dimensions)."""
        ...

    def rows(self, numbers: "Rows") -> "Floats":
        """Return the vectors of passages by number, shape (numbers, dimensions); NaN where there is none."""
        ...

    def queries(self, numbers: "Rows") -> "Floats":
        """Return the vectors of queries by number, shape (numbers, dimensions)."""
        ...


@dataclass(frozen=True, slots=True)
class IndexSettings:
    """How the nearest documents are looked for.

    Attributes:
        kind: "flat" compares with every document and misses none; "ivf" looks into the nearest of many lists; "hnsw"
            follows links, is built slowly by one thread and finds fastest. "auto" is flat up to 250,000 documents,
            then ivf.
        precision: of the vectors within an ivf or hnsw index, which takes that memory while it is built: float32,
            float16 (half) or pq (product quantization, a byte for four dimensions). Found candidates are compared
            again by the stored vectors, so scores are exact with each.
        threads: that faiss uses; 0 = as many as it wants.
        lists: of an ivf index; 0 = 2·√documents.
        nprobe: lists that are looked into for a query; 0 = a sixteenth of them, at least 64.
        ef: candidates that an hnsw search keeps in sight, at least as many as are asked for.
    """

    kind: Kind = "auto"
    precision: Precision = "float16"
    threads: int = 0
    lists: int = 0
    nprobe: int = 0
    ef: int = 128

    def __post_init__(self) -> None:
        """Refuse values that cannot work.

        Raises:
            SettingsError: names the setting and what it may be.
        """
        rules = {
            "kind": (self.kind in {"auto", "flat", "ivf", "hnsw"}, "auto, flat, ivf or hnsw"),
            "precision": (self.precision in {"float32", "float16", "pq"}, "float32, float16 or pq"),
            "threads": (self.threads >= 0, "0 or more"),
            "lists": (self.lists >= 0, "0 or more"),
            "nprobe": (self.nprobe >= 0, "0 or more"),
            "ef": (self.ef >= 1, "1 or more"),
        }
        for name, (fine, allowed) in rules.items():
            if not fine:
                raise SettingsError(f"{name} cannot be {getattr(self, name)!r}", hint=f"set {name} to {allowed}")

    def chosen(self, documents: int) -> Literal["flat", "ivf", "hnsw"]:
        """Return the kind for so many documents."""
        if self.kind == "auto":
            return "flat" if documents <= FEW else "ivf"
        return self.kind

    def recipe(self, documents: int, dimensions: int) -> str:
        """Return what faiss shall build, in its own words.

        Raises:
            SettingsError: the vectors cannot be kept in this precision.
        """
        start = f"HNSW{NEIGHBOURS}" if self.chosen(documents) == "hnsw" else f"IVF{self._lists(documents)}"
        if self.precision == "pq":
            return f"{start},PQ{_pieces(documents, dimensions)}np"  # no polysemous codes: nobody filters by them
        return f"{start},{'Flat' if self.precision == 'float32' else 'SQfp16'}"

    def _lists(self, documents: int) -> int:
        wanted = self.lists or 2 * isqrt(documents)
        return max(1, min(wanted, documents // PER_LIST))

    def probes(self, lists: int) -> int:
        """Return how many of so many lists are looked into."""
        return min(lists, self.nprobe or max(64, lists // 16))


def _pieces(documents: int, dimensions: int) -> int:
    """Return into how many pieces product quantization cuts a vector: of four dimensions, or somewhat more."""
    if documents < ENTRIES:
        raise SettingsError(
            f"pq needs {ENTRIES:,} documents to learn from, and there are {documents:,}",
            hint="set precision to float16",
        )
    pieces = max(count for count in range(1, max(2, dimensions // 4 + 1)) if dimensions % count == 0)
    if pieces * 16 < dimensions:
        raise SettingsError(
            f"pq cannot cut {dimensions} dimensions into small equal pieces", hint="set precision to float16"
        )
    return pieces


def faiss() -> Any:
    """Import faiss.

    On macOS two copies of OpenMP, its own and that of PyTorch, can crash a process (facebookresearch/faiss#2555); on
    Linux the two live side by side in either order.

    Raises:
        MissingPart: it is not installed.
    """
    try:
        import faiss as package
    except ImportError as error:
        raise MissingPart("faiss-cpu", "embedding") from error
    return package


@contextmanager
def threads(count: int) -> Iterator[Any]:
    """Give faiss with so many threads for this thread's calls; 0 = as many as it wants."""
    package = faiss()
    before = package.omp_get_max_threads()
    package.omp_set_num_threads(count or before)
    try:
        yield package
    finally:
        package.omp_set_num_threads(before)


def blocks(vectors: Vectors, documents: int) -> Iterator[tuple[int, "Floats"]]:
    """Yield the documents' vectors in blocks, each with its first number. A block's size depends on theirs alone."""
    if not documents:
        return
    size = max(1, BLOCK // (4 * max(1, vectors.documents(0, 1).shape[1])))
    for first in range(0, documents, size):
        yield first, vectors.documents(first, min(first + size, documents))


def longest(block: "Floats", first: int, what: str = "document") -> float:
    """Return the length of the longest vector.

    Raises:
        InputError: one is not a vector of finite numbers.
    """
    import numpy as np

    squares = np.einsum("ij,ij->i", block, block, dtype=np.float64)
    bad = np.flatnonzero(~np.isfinite(squares))
    if len(bad):
        raise InputError(
            f"the vector of {what} {first + int(bad[0])} (from 0) holds a value that is no finite number",
            hint=f"embed this {what} again, or take it out",
        )
    return float(np.sqrt(squares.max(initial=0.0)))


class Flat:
    """Comparison with every document, straight from the stored vectors, block by block."""

    def __init__(self, vectors: Vectors, documents: int, settings: IndexSettings) -> None:
        self._vectors, self._documents, self._settings = vectors, documents, settings
        self._longest = 0.0

    def prepare(self, progress: Progress) -> None:
        """Look at every vector once."""
        for first, block in blocks(self._vectors, self._documents):
            self._longest = max(self._longest, longest(block, first))
            progress("check vectors", first + len(block), self._documents)

    def slack(self, queries: "Floats") -> "NDArray[np.float64]":
        """Return for each query by how much a score can be off at most, twice.

        |computed − exact| ≤ d·u·‖q‖·‖x‖ for a sum of d products in any order, with u = 2⁻²⁴ (Higham, Accuracy and
        Stability of Numerical Algorithms, 2nd ed., section 3.1).
        """
        import numpy as np

        norms = np.sqrt(np.einsum("ij,ij->i", queries, queries, dtype=np.float64))
        slack: NDArray[np.float64] = 2 * (queries.shape[1] + 2) * 2.0**-24 * norms * self._longest
        return slack

    def candidates(self, queries: "Floats", count: int) -> "tuple[Rows, Floats]":
        """Return numbers and approximate scores of the `count` best, each of shape (queries, count), in any order."""
        import numpy as np

        numbers = np.empty((len(queries), 0), dtype=np.int64)
        scores = np.empty((len(queries), 0), dtype=np.float32)
        with threads(self._settings.threads) as package:
            for first, block in blocks(self._vectors, self._documents):
                found, places = package.knn(queries, block, min(count, len(block)), package.METRIC_INNER_PRODUCT)
                numbers = np.concatenate([numbers, places + first], axis=1)
                scores = np.concatenate([scores, found], axis=1)
                if scores.shape[1] > count:
                    kept = np.argpartition(-scores, count - 1, axis=1)[:, :count]
                    numbers, scores = np.take_along_axis(numbers, kept, 1), np.take_along_axis(scores, kept, 1)
        return numbers, scores


class Approximate:
    """An ivf or hnsw index in a file, mapped into memory."""

    def __init__(self, vectors: Vectors, documents: int, settings: IndexSettings) -> None:
        self._vectors, self._documents, self._settings = vectors, documents, settings
        self._index: Any = None
        self._centroids: Any = None

    def prepare(self, path: Path, progress: Progress) -> None:
        """Build the index, unless the file is there, and map it."""
        import numpy as np

        with alone(path.with_suffix(".lock")):
            if not path.exists():
                self._build(path, progress)
        with threads(self._settings.threads) as package:
            self._index = package.read_index(str(path), package.IO_FLAG_MMAP_IFC)
            if self._is_ivf:
                centroids = self._index.quantizer.reconstruct_n(0, self._index.nlist)
                self._centroids = np.asarray(centroids, dtype=np.float64)
                self._index.nprobe = self._settings.probes(self._index.nlist)

    @property
    def _is_ivf(self) -> bool:
        return self._settings.chosen(self._documents) == "ivf"

    def candidates(self, queries: "Floats", count: int) -> "tuple[Rows, Floats]":
        """Return numbers and approximate scores, each of shape (queries, count); −1 where fewer were found."""
        with threads(self._settings.threads) as package:
            if self._is_ivf:
                scores, numbers = self._index.search_preassigned(queries, count, *self._probes(queries))
            else:
                sight = package.SearchParametersHNSW(efSearch=max(self._settings.ef, count))
                scores, numbers = self._index.search(queries, count, params=sight)
        return numbers, scores

    def _probes(self, queries: "Floats") -> "tuple[Rows, Floats]":
        """Return the nearest lists of each query and the scores of their centroids, best first.

        faiss would take another way to them for few queries than for many, with other last bits.
        """
        import numpy as np

        scores = (queries.astype(np.float64) @ self._centroids.T).astype(np.float32)
        count = self._index.nprobe
        lists = np.argpartition(-scores, count - 1, axis=1)[:, :count]
        best = np.take_along_axis(scores, lists, 1)
        order = np.lexsort((lists, -best), axis=1)
        return np.take_along_axis(lists, order, 1), np.take_along_axis(best, order, 1)

    def _build(self, path: Path, progress: Progress) -> None:
        documents, settings = self._documents, self._settings
        dimensions = self._vectors.documents(0, 1).shape[1]
        recipe = settings.recipe(documents, dimensions)
        with threads(settings.threads if self._is_ivf else 1) as package:
            index = package.index_factory(dimensions, recipe, package.METRIC_INNER_PRODUCT)
            if self._is_ivf:
                index.cp.niter = 10
                index.cp.max_points_per_centroid = PER_LIST
                index.by_residual = settings.precision == "pq"
                if settings.precision == "pq":
                    index.pq.cp.niter, index.pq.cp.max_points_per_centroid = 10, PER_LIST
            else:
                index.hnsw.efConstruction = EF_BUILD
            if not index.is_trained:
                progress("train index", 0, documents)
                index.train(self._sample(index.nlist * PER_LIST if self._is_ivf else 0))
            for first, block in blocks(self._vectors, documents):
                longest(block, first)  # checks it
                index.add(block)
                progress("build index", first + len(block), documents)
            part = path.with_suffix(".part")
            try:
                package.write_index(index, str(part))
                part.replace(path)
            finally:
                part.unlink(missing_ok=True)

    def _sample(self, wanted: int) -> "Floats":
        """Return vectors to learn from, at even distances in the collection."""
        import numpy as np

        size = min(self._documents, max(wanted, 65_536))
        return self._vectors.rows(np.arange(size, dtype=np.int64) * self._documents // size)
