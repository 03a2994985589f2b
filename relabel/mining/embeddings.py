"""Embeddings of a collection on disk: every distinct text once, memory-mapped, in batches of bounded size.

A vector differs in its last bits with its batch. So texts that are new are taken in windows, in their order; a window
is cut into batches by the lengths of its texts alone and committed whole: a run that was killed and goes on computes
the same batches, hence the same bytes, as an unbroken one.
"""

import glob
import os
import sqlite3
import tempfile
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import ExitStack, closing, contextmanager
from dataclasses import dataclass
from itertools import chain
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final, Literal, Protocol, runtime_checkable

from relabel.errors import RunError, SettingsError
from relabel.mining.searching import Collection, Progress
from relabel.protocols import Encodes, EncodesMany, Role
from relabel.records import digest

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

    Floats = NDArray[np.float32]
    Rows = NDArray[np.int64]

_KNOWN: Final = "SELECT row FROM texts WHERE key = ?"

PER_TOKEN: Final = 4
"""Characters of a token, about, where the encoder does not count them."""

TOLD: Final = 10_000
"""Progress is told of at least every so many texts, also where all are known."""


@dataclass(frozen=True, slots=True)
class EmbeddingSettings:
    """How texts are embedded and kept.

    Attributes:
        window: how many new texts are embedded and committed at a time; what a killed run loses at most.
        batch_size: most texts in a batch; None hands over whole windows, to an encoder that makes its own batches.
        batch_tokens: most tokens in a batch, with every text as long as its longest, which is what the model computes;
            bounds the memory that a batch takes. A single text may be longer. None = as the encoder says.
        precision: of the vectors on disk; float16 halves the file and costs some 3 decimals.
    """

    window: int = 1024
    batch_size: int | None = 32
    batch_tokens: int | None = None
    precision: Literal["float32", "float16"] = "float32"

    def __post_init__(self) -> None:
        """Refuse values that cannot work.

        Raises:
            SettingsError: names the setting and what it may be.
        """
        for name in ("window", "batch_size", "batch_tokens"):
            value = getattr(self, name)
            if value is not None and value < 1:
                raise SettingsError(f"{name} cannot be {value}", hint=f"set {name} to 1 or more")
        if self.precision not in {"float32", "float16"}:
            raise SettingsError(
                f"embeddings cannot be kept as {self.precision!r}", hint="set precision to float32 or float16"
            )


@runtime_checkable
class Counts(Protocol):
    """An encoder that knows how long texts are for it."""

    def lengths(self, texts: Sequence[str]) -> Sequence[int]:
        """Return how many tokens it reads of each text; what it cuts off does not count."""
        ...


class Embeddings:
    """The vectors of a collection's passages and queries, in files of `folder` that later runs and others share."""

    def __init__(self, encoder: Encodes, folder: Path, settings: EmbeddingSettings | None = None) -> None:
        self._encoder = encoder
        self._folder = folder
        self._settings = settings or EmbeddingSettings()
        self._stem = f"{encoder.fingerprint}-{self._settings.precision}"
        self._vectors: Any = None
        self._passages: Any = None
        self._queries: Any = None

    @property
    def fingerprint(self) -> str:
        """What the vectors are of: the encoder and the precision they are kept in."""
        return self._stem

    def prepare(self, collection: Collection, progress: Progress) -> None:
        """Embed what is not on disk yet, then map what is asked for.

        Raises:
            RunError: another process embeds into the same folder.
            SettingsError: the model gives vectors of another size than those on disk, or none that can be used.
        """
        self._folder.mkdir(parents=True, exist_ok=True)
        with (
            alone(self._folder / f"{self._stem}.lock"),
            closing(_Store(self._folder / self._stem, self._settings.precision)) as store,
        ):
            filling = _Filling(self._encoder, self._settings, store, progress)
            try:
                self._passages = self._passage_rows(collection, filling)
                with tempfile.TemporaryFile(dir=self._folder) as file:
                    filling.write(file, "query", (asked.text for asked in collection.asked()), collection.queries)
                    self._queries = _mapped_rows(file, collection.queries)
            finally:
                if filling.began:
                    self._encoder.release()
            self._vectors = store.mapped()

    def lacking(self, collection: Collection) -> tuple[int, int]:
        """Return how many distinct texts of a collection are not on disk yet, and their characters; embeds nothing."""
        path = self._folder / f"{self._stem}.sqlite"
        texts = characters = 0
        with ExitStack() as stack:
            index = None
            if path.exists():
                index = stack.enter_context(closing(sqlite3.connect(f"{path.resolve().as_uri()}?mode=rw", uri=True)))
            queries = (("query", asked.text) for asked in collection.asked())
            for role, text in chain((("document", text) for text in collection.texts()), queries):
                if index is None or not index.execute(_KNOWN, (digest(role, text),)).fetchone():
                    texts += 1
                    characters += len(text)
        return texts, characters

    def documents(self, first: int, last: int) -> "Floats":
        """Return the vectors of passages `first` up to, not with, `last`; shape (last − first, dimensions).

        Where they lie together on disk they are not copied.
        """
        import numpy as np

        rows = self._passages[first:last]
        if len(rows) and rows[-1] - rows[0] == len(rows) - 1 and bool((np.diff(rows) == 1).all()):
            return np.asarray(self._vectors[rows[0] : rows[-1] + 1], dtype=np.float32)
        return self._taken(rows)

    def rows(self, numbers: "Rows") -> "Floats":
        """Return the vectors of passages by number, shape (numbers, dimensions)."""
        return self._taken(self._passages[numbers])

    def queries(self, numbers: "Rows") -> "Floats":
        """Return the vectors of queries by number, shape (numbers, dimensions)."""
        return self._taken(self._queries[numbers])

    def _taken(self, rows: "Rows") -> "Floats":
        import numpy as np

        return np.asarray(self._vectors[rows], dtype=np.float32)

    def _passage_rows(self, collection: Collection, filling: "_Filling") -> "Rows":
        """Return in which row each passage's vector lies; from a file of an earlier time, where that still holds."""
        path = self._folder / f"{self._stem}-{collection.fingerprint}.rows"
        count = collection.passages
        if path.exists() and path.stat().st_size == 8 * count:
            with path.open("rb") as file:
                rows = _mapped_rows(file, count)
            if rows.max(initial=-1) < filling.store.done:
                filling.progress("embed documents", count, count)
                return rows
        part = path.with_suffix(".part")
        try:
            with part.open("w+b") as file:
                filling.write(file, "document", collection.texts(), count)
                rows = _mapped_rows(file, count)
            part.replace(path)
        finally:
            part.unlink(missing_ok=True)
        return rows


class _Filling:
    """Texts in, rows out: what is new is embedded on the way."""

    def __init__(self, encoder: Encodes, settings: EmbeddingSettings, store: "_Store", progress: Progress) -> None:
        self._encoder, self._settings, self.store, self.progress = encoder, settings, store, progress
        self.began = False

    def write(self, file: Any, role: Role, texts: Iterable[str], total: int) -> None:
        """Write the row of every text to a file, 8 bytes each."""
        what = "embed queries" if role == "query" else "embed documents"
        block = bytearray()
        for row in self._rows(role, texts, lambda done: self.progress(what, done, total)):
            block += row.to_bytes(8, "little")
            if len(block) >= 8 * TOLD:
                file.write(block)
                block.clear()
        file.write(block)
        file.flush()

    def _rows(self, role: Role, texts: Iterable[str], told: Callable[[int], None]) -> Iterator[int]:
        """Yield where each text's vector lies, or will lie when its window is committed."""
        pending: dict[bytes, str] = {}
        places: dict[bytes, int] = {}
        seen = 0
        for seen, text in enumerate(texts, 1):
            key = digest(role, text)
            row = places.get(key)
            if row is None:
                row = self.store.find(key)
            if row is None:
                row = places[key] = self.store.done + len(pending)
                pending[key] = text
            yield row
            if len(pending) == self._settings.window:
                self._embed(role, pending, seen, told)
                pending, places = {}, {}
            elif seen % TOLD == 0:
                told(seen - len(pending))
        if pending:
            self._embed(role, pending, seen, told)
        told(seen)

    def _embed(self, role: Role, window: dict[bytes, str], seen: int, told: Callable[[int], None]) -> None:
        import numpy as np

        texts = [text.encode("utf-8", "replace").decode() for text in window.values()]  # no half characters
        done = seen - len(texts)
        vectors: Any = None
        self.began = True
        batches = list(self._batches(texts))
        for batch, encoded in zip(batches, self._encoded(role, batches, texts), strict=True):
            _check(encoded, [texts[place] for place in batch])
            if vectors is None:
                vectors = np.empty((len(texts), encoded.shape[1]), dtype=self._settings.precision)
            vectors[batch] = encoded
            done += len(batch)
            told(done)
        self.store.commit(list(window), vectors)

    def _encoded(self, role: Role, batches: Sequence[Sequence[int]], texts: Sequence[str]) -> "Iterator[Floats]":
        asked = [[texts[place] for place in batch] for batch in batches]
        if isinstance(self._encoder, EncodesMany):
            return self._encoder.encode_many(role, asked)
        return (self._encoder.encode(role, batch) for batch in asked)

    def _batches(self, texts: Sequence[str]) -> Iterator[list[int]]:
        """Yield places, longest texts first; equals keep their order."""
        most = self._settings.batch_size
        if most is None:
            yield list(range(len(texts)))
            return
        encoder, tokens = self._encoder, self._settings.batch_tokens
        if tokens is None and isinstance(encoder, EncodesMany):
            tokens = encoder.most_tokens()
        lengths = encoder.lengths(texts) if isinstance(encoder, Counts) else [len(text) // PER_TOKEN for text in texts]
        order = sorted(range(len(texts)), key=lambda place: (-lengths[place], -len(texts[place])))
        while order:
            longest = max(lengths[order[0]], 1)
            size = most if tokens is None else max(1, min(most, tokens // longest))
            yield order[:size]
            del order[:size]


class _Store:
    """A file of vectors, to which only is added, and an index that says which text lies where."""

    def __init__(self, stem: Path, precision: str) -> None:
        self._file = stem.with_name(f"{stem.name}.vectors")
        self._precision = precision
        self._index = sqlite3.connect(stem.with_name(f"{stem.name}.sqlite"))
        self._index.execute("PRAGMA journal_mode = WAL")
        with self._index as index:
            index.execute("CREATE TABLE IF NOT EXISTS texts (key BLOB PRIMARY KEY, row INTEGER NOT NULL) WITHOUT ROWID")
            index.execute("CREATE TABLE IF NOT EXISTS shape (dimensions INTEGER NOT NULL, done INTEGER NOT NULL)")
        found: tuple[int, int] | None = self._index.execute("SELECT done, dimensions FROM shape").fetchone()
        self.done, self._dimensions = found or (0, 0)
        if not self.done:  # rows of a store that was deleted would point at other texts' vectors
            for stale in stem.parent.glob(f"{glob.escape(stem.name)}-*.rows"):
                stale.unlink()
        if self.done * self._width > (self._file.stat().st_size if self._file.exists() else 0):
            raise RunError(
                f"{self._file} is shorter than its index says",
                hint=f"delete {stem.name}.* in {stem.parent}: all of it will be embedded anew",
            )

    @property
    def _width(self) -> int:
        """Bytes of one vector."""
        return self._dimensions * (4 if self._precision == "float32" else 2)

    def close(self) -> None:
        """Close the index."""
        self._index.close()

    def find(self, key: bytes) -> int | None:
        """Return the row of a text's vector, None where it has none."""
        found = self._index.execute(_KNOWN, (key,)).fetchone()
        return None if found is None else int(found[0])

    def commit(self, keys: Sequence[bytes], vectors: Any) -> None:
        """Add the vectors of one window: whole or not at all. What a killed run has left behind the last is cut off."""
        if self.done and vectors.shape[1] != self._dimensions:
            raise SettingsError(
                f"the model gives {vectors.shape[1]} dimensions, but the vectors in {self._file} have"
                f" {self._dimensions}",
                hint="set dimensions or revision so that the two can be told apart, or give another folder",
            )
        self._dimensions = vectors.shape[1]
        self._file.touch()
        with self._file.open("r+b") as file:
            file.seek(self.done * self._width)
            file.truncate()
            file.write(vectors.tobytes())
            file.flush()
            os.fsync(file.fileno())
        last = self.done + len(keys)
        with self._index as index:
            index.executemany("INSERT INTO texts VALUES (?, ?)", zip(keys, range(self.done, last), strict=True))
            index.execute("DELETE FROM shape")
            index.execute("INSERT INTO shape VALUES (?, ?)", (self._dimensions, last))
        self.done = last

    def mapped(self) -> Any:
        """Return all vectors, shape (done, dimensions), read from the file when they are looked at."""
        import numpy as np

        if not self.done:
            return np.zeros((0, 0), dtype=self._precision)
        return np.memmap(self._file, dtype=self._precision, mode="r", shape=(self.done, self._dimensions))


@contextmanager
def alone(lock: Path) -> Iterator[None]:
    """Keep other processes from writing the same files.

    Raises:
        RunError: one does.
    """
    from filelock import FileLock, Timeout

    try:
        with FileLock(lock, timeout=0):
            yield
    except Timeout:
        raise RunError(
            f"another process is at work in {lock.parent}",
            hint="wait until it has ended, then type the same command again: what it did is not done again",
        ) from None


def _mapped_rows(file: Any, count: int) -> "Rows":
    import numpy as np

    if not count:
        return np.zeros(0, dtype=np.int64)
    return np.memmap(file, dtype="<i8", mode="r", shape=(count,))


def _check(vectors: "Floats", texts: Sequence[str]) -> None:
    """Refuse a vector that nothing can be compared with.

    Raises:
        SettingsError: names the beginning of its text.
    """
    import numpy as np

    bad = np.flatnonzero(~np.isfinite(vectors).all(axis=1))
    if len(bad):
        raise SettingsError(
            f"the embedding of the text that begins {texts[bad[0]][:60]!r} is not a vector of finite numbers",
            hint="load the model in another precision (float32), or take another model",
        )
