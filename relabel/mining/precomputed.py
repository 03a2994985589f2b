"""Vectors that somebody else computed, in `.npy` files, memory-mapped."""

import functools
from collections.abc import Iterator
from hashlib import blake2b
from pathlib import Path
from tokenize import TokenError
from typing import TYPE_CHECKING, Any, Final, Protocol, runtime_checkable

from relabel.errors import InputError
from relabel.mining.searching import Collection, Progress
from relabel.records import digest

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

    Floats = NDArray[np.float32]
    Rows = NDArray[np.int64]

TOLD: Final = 100_000
_PIECE: Final = 2**24
_MAGIC: Final = b"\x93NUMPY"


@runtime_checkable
class Finds(Protocol):
    """A collection that knows its passages by their ids."""

    def number_of(self, document_id: str) -> int | None:
        """Return the number of the passage that has this id; None if none has."""
        ...


class Precomputed:
    """The vectors of a collection from two files, float32 or float16, of shape (texts, dimensions).

    Without id files the rows stand in the order of the collection's documents and queries. Positives that the corpus
    lacks then have no vector, and no score. With id files (one id a line, for each row) the order is free, and rows of
    what the collection does not hold are passed over.

    Args:
        documents: file of the documents' vectors.
        queries: file of the queries' vectors.
        document_ids, query_ids: the ids of their rows.
        normalise: make every vector one of unit length when it is read, so that scores are cosines.

    Raises:
        InputError: a file is missing, or holds something else.
    """

    def __init__(
        self,
        documents: Path,
        queries: Path,
        *,
        document_ids: Path | None = None,
        query_ids: Path | None = None,
        normalise: bool = False,
    ) -> None:
        self._files = {"documents": documents, "queries": queries}
        self._ids = {"documents": document_ids, "queries": query_ids}
        self._normalise = normalise
        self._documents, self._queries = _opened(documents), _opened(queries)
        self._document_rows: Any = None
        self._query_rows: Any = None

    @functools.cached_property
    def fingerprint(self) -> str:
        """Digest (hex) of the files; reads them."""
        files = [*self._files.values(), *self._ids.values()]
        return digest(*[_content(path) if path else "" for path in files], str(self._normalise), size=8).hex()

    def prepare(self, collection: Collection, progress: Progress) -> None:
        """Find out which row belongs to which passage and query.

        Raises:
            InputError: there are too few rows or too many, or an id is missing or there twice.
        """
        import numpy as np

        if self._ids["documents"] is None:
            self._count("documents", len(self._documents), collection.documents)
            self._document_rows = np.full(collection.passages, -1, dtype=np.int64)
            self._document_rows[: collection.documents] = np.arange(collection.documents)
        else:
            self._document_rows = self._by_document(self._ids["documents"], collection, progress)
        if self._ids["queries"] is None:
            self._count("queries", len(self._queries), collection.queries)
            self._query_rows = np.arange(collection.queries)
        else:
            self._query_rows = self._by_query(self._ids["queries"], collection)

    def documents(self, first: int, last: int) -> "Floats":
        """Return the vectors of documents `first` up to, not with, `last`; shape (last − first, dimensions)."""
        rows = self._document_rows[first:last]
        if self._ids["documents"] is None and (not len(rows) or rows[-1] >= 0):
            return self._read(self._documents[first:last])
        return self.rows(range(first, last))

    def rows(self, numbers: "Rows | range") -> "Floats":
        """Return the vectors of passages by number, shape (numbers, dimensions); NaN where there is none."""
        import numpy as np

        rows = self._document_rows[np.asarray(numbers, dtype=np.int64)]
        if (rows >= 0).all():
            return self._read(self._documents[rows])
        vectors = self._read(self._documents[np.maximum(rows, 0)]).copy()
        vectors[rows < 0] = np.nan
        return vectors

    def queries(self, numbers: "Rows") -> "Floats":
        """Return the vectors of queries by number, shape (numbers, dimensions)."""
        return self._read(self._queries[self._query_rows[numbers]])

    def _read(self, block: Any) -> "Floats":
        import numpy as np

        vectors: Floats = np.asarray(block, dtype=np.float32)
        if not self._normalise:
            return vectors
        norms = np.sqrt(np.einsum("ij,ij->i", vectors, vectors, dtype=np.float64))
        norms[norms == 0] = 1.0
        scaled: Floats = (vectors / norms[:, None]).astype(np.float32)
        return scaled

    def _count(self, what: str, rows: int, wanted: int) -> None:
        if rows != wanted:
            raise InputError(
                f"{self._files[what]} holds {rows:,} vectors, and there are {wanted:,} {what}",
                hint=f"give a file with the id of each row, one a line: repeated or unused {what} are not counted",
            )

    def _by_document(self, path: Path, collection: Collection, progress: Progress) -> "Rows":
        import numpy as np

        if not isinstance(collection, Finds):  # pragma: no cover - ours all do
            raise InputError(f"{path}: this collection knows no ids", hint="give the vectors in its order")
        found = np.full(collection.passages, -1, dtype=np.int64)
        count = len(self._documents)
        for row, name in enumerate(_lines(path, count)):
            number = collection.number_of(name)
            if number is not None and found[number] < 0:
                found[number] = row
            if row % TOLD == TOLD - 1:
                progress("match ids", row + 1, count)
        missing = np.flatnonzero(found[: collection.documents] < 0)
        if len(missing):
            raise InputError(
                f"{path} lacks {len(missing):,} of {collection.documents:,} documents;"
                f" the first is document {missing[0]} (from 0) of the corpus",
                hint="compute the vectors of these too, or take them out of the corpus",
            )
        return found

    def _by_query(self, path: Path, collection: Collection) -> "Rows":
        """Return the row of every query; ids are compared as digests of 8 bytes, which takes little memory."""
        import numpy as np

        count = len(self._queries)
        known = np.fromiter((_key(name) for name in _lines(path, count)), dtype=np.uint64, count=count)
        order = np.argsort(known, kind="stable")
        known = known[order]
        found = np.empty(collection.queries, dtype=np.int64)
        for asked in collection.asked():
            place = int(np.searchsorted(known, np.uint64(_key(asked.id))))
            if place == count or known[place] != _key(asked.id):
                raise InputError(f"{path} lacks the query {asked.id!r}", hint="compute the vectors of all queries")
            found[asked.number] = order[place]
        return found


def _opened(path: Path) -> Any:
    """Map a file of vectors.

    Raises:
        InputError: it is none.
    """
    import numpy as np

    hint = "write one with numpy.save: float32 or float16, shape (texts, dimensions)"
    try:
        with path.open("rb") as file:
            if file.read(len(_MAGIC)) != _MAGIC:  # numpy.load would open archives and know of pickles too
                raise ValueError("it is of another kind")  # noqa: TRY301 - said with the rest
        vectors = np.load(path, mmap_mode="r", allow_pickle=False)
    except FileNotFoundError:
        raise InputError(f"{path} is not there", hint=hint) from None
    except (OSError, ValueError, EOFError, OverflowError, MemoryError, SyntaxError, TokenError) as error:
        raise InputError(f"{path} cannot be read as a .npy file: {error}", hint=hint) from error
    if vectors.ndim != 2 or vectors.dtype not in (np.float32, np.float16):
        raise InputError(f"{path} holds {vectors.dtype}, shape {vectors.shape}", hint=hint)
    return vectors


def _lines(path: Path, count: int) -> Iterator[str]:
    """Yield the ids of a file, which must be `count`.

    Raises:
        InputError: they are more or fewer, or the file cannot be read.
    """
    number = 0
    try:
        with path.open(encoding="utf-8-sig") as lines:
            for number, line in enumerate(lines, 1):
                if number > count:
                    break
                yield line.rstrip("\r\n")
    except (OSError, UnicodeDecodeError) as error:
        raise InputError(f"{path} cannot be read: {error}", hint="write one id a line, in UTF-8") from error
    if number != count:
        raise InputError(
            f"{path} holds {'more' if number > count else f'{number:,}'} ids for {count:,} vectors",
            hint="write one id a line, one for each row of the vectors",
        )


def _key(name: str) -> int:
    return int.from_bytes(digest(name, size=8), "big")


def _content(path: Path) -> str:
    """Return the digest of a file's bytes."""
    found = blake2b(digest_size=16)
    with path.open("rb") as file:
        while piece := file.read(_PIECE):
            found.update(piece)
    return found.hexdigest()
