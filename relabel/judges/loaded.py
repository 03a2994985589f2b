"""Models of sentence-transformers that the caller has loaded, asked as they are and never loaded a second time."""

import sys
from collections.abc import Iterator, Sequence
from functools import partial
from hashlib import blake2b
from typing import TYPE_CHECKING, Any, Final

from relabel.judges.localmodel import CPU_TOKENS, batches, side_by_side, token_lengths, whole, within_memory
from relabel.protocols import Role
from relabel.records import digest

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

    Floats = NDArray[np.float32]

_LARGE: Final = 2**21
_BLOCKS: Final = 64
_BLOCK: Final = 4096
"""Of a tensor of more numbers than the first, so many blocks of so many numbers are looked at."""

_SETTINGS: Final = ("max_seq_length", "prompts", "default_prompt_name", "truncate_dim", "activation_fn")
"""What else than its modules and weights changes what a model says."""


class LoadedEncoder:
    """A `SentenceTransformer` as `relabel.protocols.Encodes`. Prompts that are None are the model's own."""

    def __init__(self, model: Any, query_prompt: str | None = None, document_prompt: str | None = None) -> None:
        self._model, self._query_prompt, self._document_prompt = model, query_prompt, document_prompt
        self.fingerprint = digest(
            "loaded", _fingerprint(model), repr((query_prompt, document_prompt)), size=6
        ).hex()  # fmt: skip

    def encode(self, role: Role, texts: Sequence[str]) -> "Floats":
        """Embed texts in their order, as one batch; unit length, float32, shape (texts, dimensions)."""
        asked = role == "query"
        encode = self._model.encode_query if asked else self._model.encode_document
        prompt = self._query_prompt if asked else self._document_prompt
        with within_memory("the model", len(texts)):
            vectors: Floats = encode(
                list(texts), prompt=prompt, batch_size=len(texts), normalize_embeddings=True, show_progress_bar=False
            )
        return vectors

    def lengths(self, texts: Sequence[str]) -> list[int]:
        """Return how many tokens the model reads of each text, without a prompt; what it cuts off does not count."""
        return token_lengths(self._model, texts)

    def most_tokens(self) -> int | None:
        """Return how much a CPU works at best at a time; another device is filled by the batch size."""
        return CPU_TOKENS if self._model.device.type == "cpu" else None

    def encode_many(self, role: Role, batches: Sequence[Sequence[str]]) -> "Iterator[Floats]":
        """Embed each batch by itself; on a CPU several at a time."""
        return side_by_side(self._model.device.type, partial(self.encode, role), batches)

    def release(self) -> None:
        """Do nothing: the model is the caller's."""


class LoadedScorer:
    """A `CrossEncoder` as `relabel.judges.crossencoder.Scorer`: its own scores, of as much as it reads by itself.

    Where this library's own scorer takes the sigmoid and the best of several windows, a score in here is what
    `predict` returns: of any size, by the model's own activation, of the beginning of what is too long.
    """

    def __init__(self, model: Any, batch_size: int = 32) -> None:
        self._model, self._batch_size = model, batch_size
        self.fingerprint = digest("loaded pairs", _fingerprint(model), size=6).hex()

    @property
    def tokenizer(self) -> Any:
        """The model's tokenizer."""
        return self._model.tokenizer

    def room(self, query: str) -> int:  # noqa: ARG002 - whatever the query: the model itself cuts off what is too long
        """Return more than any passage has: none is cut into windows."""
        return sys.maxsize

    def scores(self, pairs: Sequence[tuple[str, str]]) -> Sequence[float]:
        """Score pairs in batches, the longest first."""
        import numpy as np

        cut = list(batches([len(query) + len(text) for query, text in pairs], self._batch_size))
        asked = [[(whole(pairs[place][0]), whole(pairs[place][1])) for place in batch] for batch in cut]
        found = np.empty(len(pairs))
        for batch, scores in zip(cut, side_by_side(self._model.device.type, self._predicted, asked), strict=True):
            found[batch] = scores
        return [float(score) for score in found]

    def _predicted(self, pairs: Sequence[tuple[str, str]]) -> Any:
        with within_memory("the cross-encoder", len(pairs)):
            return self._model.predict(pairs, batch_size=len(pairs), show_progress_bar=False)

    def release(self) -> None:
        """Do nothing: the model is the caller's."""


def _fingerprint(model: Any) -> str:
    """Return a digest (hex) of a model's settings and weights: one that was trained on is another model.

    Of large tensors evenly spaced blocks count, which training changes too: a look at all of a model takes its time,
    and would draw into memory what lies on the disk until it is used.
    """
    import torch

    settings = {name: repr(getattr(model, name, None)) for name in _SETTINGS}
    hasher = blake2b(digest_size=16)
    hasher.update(repr((str(model), settings)).encode("utf-8", "surrogatepass"))
    for name, weights in model.state_dict().items():
        if not isinstance(weights, torch.Tensor):  # what some kinds of quantization note beside the weights
            hasher.update(f"{name} {weights!r};".encode())
            continue
        hasher.update(f"{name} {weights.dtype} {tuple(weights.shape)};".encode())
        flat = weights.detach().reshape(-1)
        size, step = (_BLOCK, len(flat) // _BLOCKS) if len(flat) > _LARGE else (len(flat), max(1, len(flat)))
        for first in range(0, len(flat), step):
            block: Any = flat[first : first + size].cpu().contiguous().view(torch.uint8).numpy()
            hasher.update(block)
    return hasher.hexdigest()
