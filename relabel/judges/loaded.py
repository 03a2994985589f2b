"""Models of sentence-transformers that the caller has loaded, asked as they are and never loaded a second time."""

import sys
from collections.abc import Sequence
from hashlib import blake2b
from typing import TYPE_CHECKING, Any, Final

from relabel.judges.localmodel import batches, whole, within_memory
from relabel.protocols import Role
from relabel.records import digest

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

    Floats = NDArray[np.float32]

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

        found = np.empty(len(pairs))
        for batch in batches([len(query) + len(text) for query, text in pairs], self._batch_size):
            asked = [(whole(pairs[place][0]), whole(pairs[place][1])) for place in batch]
            with within_memory("the cross-encoder", len(batch)):
                found[batch] = self._model.predict(asked, batch_size=len(asked), show_progress_bar=False)
        scores: list[float] = found.tolist()
        return scores

    def release(self) -> None:
        """Do nothing: the model is the caller's."""


def _fingerprint(model: Any) -> str:
    """Return a digest (hex) of a model's weights and settings: one that was trained on is another model."""
    import torch

    settings = {name: repr(getattr(model, name, None)) for name in _SETTINGS}
    hasher = blake2b(digest_size=16)
    hasher.update(repr((str(model), settings)).encode("utf-8", "surrogatepass"))
    for name, weights in model.state_dict().items():
        if not isinstance(weights, torch.Tensor):  # what some kinds of quantization note beside the weights
            hasher.update(f"{name} {weights!r};".encode())
            continue
        hasher.update(f"{name} {weights.dtype} {tuple(weights.shape)};".encode())
        numbers: Any = weights.detach().cpu().contiguous().reshape(-1).view(torch.uint8).numpy()
        hasher.update(numbers)
    return hasher.hexdigest()
