"""A cross-encoder in vLLM: `LLM.score`, for the crossencoder judge."""

import functools
import json
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from relabel import engine_settings
from relabel.engines.vllm import answering
from relabel.engines.vllm_loading import check_extra, require, start
from relabel.records import digest

if TYPE_CHECKING:
    from vllm import LLM


class VLLMScorer:
    """Scores pairs of query and passage; loads when it is first asked, and can be pickled.

    Args:
        settings: model, revision and engine arguments; `max_model_len` is how much of a pair is read.
        log: where vLLM's own words go.

    Raises:
        MissingPart: vLLM is not installed.
        SettingsError: the model cannot be loaded, or gives no single score.
        ServiceError: vLLM does not start.
    """

    def __init__(self, settings: engine_settings.VLLM, log: Path | None = None) -> None:
        self._settings, self._log = settings, log

    def __reduce__(self) -> tuple[type["VLLMScorer"], tuple[engine_settings.VLLM, Path | None]]:
        return type(self), (self._settings, self._log)

    @property
    def fingerprint(self) -> str:
        """Digest (hex) of all that changes a score."""
        told = {**answering(self._settings, None), "read": self._settings.max_model_len}
        return digest("vllm pairs", json.dumps(told, sort_keys=True, default=str), size=6).hex()

    @functools.cached_property
    def _llm(self) -> "LLM":
        require(self._settings)
        check_extra(self._settings.extra, "engine_args")
        return start(self._settings, None, self._log, "pooling")

    def release(self) -> None:
        """Shut vLLM down."""
        self.__dict__.pop("_readable", None)
        llm = self.__dict__.pop("_llm", None)
        if llm is not None:
            llm.llm_engine.engine_core.shutdown()

    @property
    def tokenizer(self) -> Any:
        """The model's tokenizer."""
        return self._llm.get_tokenizer()

    @functools.cached_property
    def _readable(self) -> int:
        """Tokens of a pair that the model reads, without the special ones."""
        pair, alone = self.tokenizer("a", "a"), self.tokenizer("a", add_special_tokens=False)  # "" is taken for no text
        return int(self._llm.model_config.max_model_len) - (len(pair["input_ids"]) - 2 * len(alone["input_ids"]))

    def room(self, query: str) -> int:
        """Return the tokens that the query leaves; a long query, which is cut, leaves half."""
        asked = len(self.tokenizer(query, add_special_tokens=False)["input_ids"])
        return max(self._readable - asked, self._readable // 2, 1)

    def scores(self, pairs: Sequence[tuple[str, str]]) -> Sequence[float]:
        """Score pairs in their order, in [0, 1]: the sigmoid of the model's logits, in double precision."""
        import numpy as np
        from vllm import PoolingParams

        told = self._llm.score(
            [self._short(query) for query, _ in pairs],
            [passage for _, passage in pairs],
            pooling_params=PoolingParams(use_activation=False),
            # a window that begins within a word may have a token more than it had in its text
            tokenization_kwargs={"truncate_prompt_tokens": int(self._llm.model_config.max_model_len)},
            use_tqdm=False,
        )
        logits = np.asarray([each.outputs.score for each in told], dtype=np.float64)
        scores: list[float] = np.exp(-np.logaddexp(0, -logits)).tolist()
        return scores

    def _short(self, query: str) -> str:
        """Return as much of a query as leaves half of what the model reads to the passage, as `room` says."""
        most = self._readable - self._readable // 2
        if len(query.encode()) <= most:
            return query
        spans = self.tokenizer(query, add_special_tokens=False, return_offsets_mapping=True)["offset_mapping"]
        return query if len(spans) <= most else query[: spans[most - 1][1]]
