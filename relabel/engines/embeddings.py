"""Embeddings from any server that speaks OpenAI's `/v1/embeddings`: OpenAI, vLLM, TEI, Ollama and many others."""

import asyncio
import base64
import json
import threading
from collections.abc import Coroutine, Mapping, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Final, TypeVar

from relabel.engines.clock import Clock
from relabel.engines.rates import Forecast
from relabel.engines.service import Service, Trouble, check, client_for, key_for
from relabel.engines.transport import LARGEST
from relabel.errors import ServiceError
from relabel.protocols import MOST_TOKENS, Role, Usage
from relabel.records import digest

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray
    from openai import AsyncOpenAI

    Floats = NDArray[np.float32]

R = TypeVar("R")

ROOM: Final = 2**18
"""Bytes of an answer for each text in a batch, where that is more than an answer may have: ten thousand numbers."""

BEGINNING: Final = 60
"""Characters of a text that a message shows."""


@dataclass(frozen=True, slots=True)
class EndpointSettings:
    """Whom to ask for embeddings and how.

    Attributes:
        model: its name at the server.
        base_url: address of the server up to and with `/v1`; None = `OPENAI_BASE_URL`, or OpenAI.
        api_key_env: the environment variable that holds the key. None = `OPENAI_API_KEY` for OpenAI, and no key for
            any other server: a key goes only where it was meant to go.
        api_key_file: a file with the key and nothing else, readable by its owner alone (chmod 600), in place of an
            environment variable.
        revision: which version of the model is served, for the record; another one is embedded anew.
        dimensions: of the vectors, where the model can shorten them; None = all.
        batch_size: texts in a request.
        concurrency: requests in flight, 1 or more.
        requests_per_minute: never more, retries included, spread evenly; None = as the server lets us.
        tokens_per_minute: never more; None = as the server lets us.
        timeout: seconds without a byte from the server after which an attempt has failed.
        max_retries: attempts after the first one. Refusals for the rate (429) are none.
        patience: as of `engine_settings.OpenAI`; here each batch is given up by itself.
        query_prompt, document_prompt: put in front of every text.
        max_characters: where longer texts are cut, prompt included; None = they are sent whole.
        extra_body: further fields of the body.
    """

    model: str
    base_url: str | None = None
    api_key_env: str | None = None
    api_key_file: str | None = None
    revision: str = ""
    dimensions: int | None = None
    batch_size: int = 64
    concurrency: int = 8
    requests_per_minute: float | None = None
    tokens_per_minute: float | None = None
    timeout: float = 60.0
    max_retries: int = 6
    patience: float | None = None
    query_prompt: str = ""
    document_prompt: str = ""
    max_characters: int | None = None
    extra_body: Mapping[str, Any] = field(default_factory=dict)

    def __post_init__(self) -> None:
        """Refuse values that cannot work.

        Raises:
            SettingsError: names the setting and what it may be.
        """
        check(
            self,
            {
                "batch_size": (self.batch_size >= 1, "1 or more"),
                "dimensions": (self.dimensions is None or self.dimensions >= 1, "1 or more"),
                "max_characters": (self.max_characters is None or self.max_characters >= 1, "1 or more"),
            },
        )


class EmbeddingEndpoint:
    """A model behind a server; `relabel.protocols.Encodes`. Texts are sent in batches, several of them at a time.

    A batch that the server rejects is halved until it passes: servers limit texts and tokens in a request, each in its
    own way. The connections stay open from the first text until `release`.
    """

    def __init__(self, settings: EndpointSettings, *, clock: Clock | None = None) -> None:
        self._settings = settings
        self._clock = clock or Clock()
        self._line: _Line | None = None
        self._spent = Spent()

    @property
    def fingerprint(self) -> str:
        """Digest (hex) of what changes a vector; no key, no address, no limits."""
        chosen = self._settings
        parts = [
            chosen.model,
            chosen.revision,
            chosen.dimensions,
            chosen.query_prompt,
            chosen.document_prompt,
            chosen.max_characters,
            dict(chosen.extra_body),
        ]
        return digest("endpoint", json.dumps(parts, sort_keys=True), size=6).hex()

    def encode(self, role: Role, texts: Sequence[str]) -> "Floats":
        """Embed texts in their order; unit length, shape (texts, dimensions). An all-zero vector stays one.

        Raises:
            SettingsError: the key is missing.
            ServiceError: the server cannot go on, or cannot read a text.
        """
        if self._line is None:
            self._line = _Line(self._settings, key_for(self._settings), self._clock, self._spent)
        chosen = self._settings
        prompt = chosen.query_prompt if role == "query" else chosen.document_prompt
        # servers reject a text without a character
        return self._line.embed([f"{prompt}{text}"[: chosen.max_characters] or " " for text in texts])

    def release(self) -> None:
        """Close the connections."""
        if self._line is not None:
            self._line.close()
        self._line = None

    def report(self) -> Mapping[str, Any]:
        """Return how many requests were answered and how many tokens the server counted."""
        return {"requests": self._spent.requests, "tokens": self._spent.tokens}


@dataclass(slots=True)
class Spent:
    """What was answered and counted so far."""

    requests: int = 0
    tokens: int = 0


class _Line:
    """An event loop in a thread of its own, and a client in it."""

    def __init__(self, settings: EndpointSettings, key: str, clock: Clock, spent: Spent) -> None:
        self._settings, self._key, self._clock, self._spent = settings, key, clock, spent
        self._loop = asyncio.new_event_loop()
        self._thread = threading.Thread(target=self._loop.run_forever, name="relabel-embeddings", daemon=True)
        self._thread.start()
        self._forecast = Forecast(0.0)
        self._client: AsyncOpenAI
        self._service: Service
        self._wait_for(self._open())

    def embed(self, texts: Sequence[str]) -> "Floats":
        """Return the vectors of texts, of unit length."""
        return _unit(self._wait_for(self._all(texts)))

    def close(self) -> None:
        """Close the client and end the thread."""
        self._wait_for(self._client.close())
        self._loop.call_soon_threadsafe(self._loop.stop)
        self._thread.join()
        self._loop.close()

    def _wait_for(self, work: Coroutine[Any, Any, R]) -> R:
        """Return the result of a coroutine; an interruption of this thread cancels it."""
        future = asyncio.run_coroutine_threadsafe(work, self._loop)
        try:
            return future.result()
        except BaseException:
            future.cancel()
            raise

    async def _open(self) -> None:
        self._client = client_for(self._settings, self._key, largest=max(LARGEST, self._settings.batch_size * ROOM))
        self._service = Service(self._settings, self._client, self._key, self._clock)

    async def _all(self, texts: Sequence[str]) -> "list[Floats]":
        """Return the vectors of each batch; the first error ends all."""
        size, gate = self._settings.batch_size, asyncio.Semaphore(self._settings.concurrency)

        async def gated(batch: Sequence[str]) -> "list[Floats]":
            async with gate:
                return await self._batch(batch)

        try:
            async with asyncio.TaskGroup() as group:
                batches = [texts[first : first + size] for first in range(0, len(texts), size)]
                tasks = [group.create_task(gated(batch)) for batch in batches]
        except BaseExceptionGroup as problems:
            raise problems.exceptions[0] from None
        return [block for task in tasks for block in task.result()]

    async def _batch(self, texts: Sequence[str]) -> "list[Floats]":
        """Return the vectors of one batch, in one block, or in several where the server wants less at a time."""
        heard = self._service.heard
        retrying = self._service.retrying()
        try:
            return [await retrying(self._attempt, texts)]
        except Trouble as trouble:
            last = trouble
        if not last.transient and len(texts) > 1:
            half = len(texts) // 2
            return [*await self._batch(texts[:half]), *await self._batch(texts[half:])]
        if last.unreachable and heard == self._service.heard:
            raise self._service.unreachable(last)
        raise self._ending(last, texts[0])

    async def _attempt(self, texts: Sequence[str]) -> "Floats":
        """Ask once."""
        from openai import omit

        chosen = self._settings
        foreseen = self._forecast.of(sum(map(len, texts)))
        await self._service.turn(foreseen)
        asking = self._client.embeddings.with_raw_response.create(
            input=list(texts),
            model=chosen.model,
            dimensions=chosen.dimensions if chosen.dimensions is not None else omit,
            encoding_format="float",
            extra_body=dict(chosen.extra_body),
        )
        answer = await self._service.answer(asking, texts)
        vectors, tokens = read_embeddings(answer.content, len(texts))
        taken = self._forecast.learn(sum(map(len, texts)), Usage(tokens or None, 0))
        self._service.answered(answer.headers, foreseen, taken)
        self._spent.requests += 1
        self._spent.tokens += tokens
        if chosen.dimensions not in {None, vectors.shape[1]}:
            raise ServiceError(
                f"{self._service.where} gives {vectors.shape[1]} dimensions, not the {chosen.dimensions} asked for",
                hint="take dimensions out of the settings: this model cannot shorten its vectors",
            )
        return vectors

    def _ending(self, trouble: Trouble, text: str) -> ServiceError:
        """Say why no vector comes."""
        where, begins = self._service.where, f"the text that begins {text[:BEGINNING]!r}"
        if trouble.transient or trouble.rule.unsure:
            hint = "type the same command again: what is embedded is not asked again"
            return ServiceError(f"{where} gives no embeddings: {trouble.detail}", hint=hint)
        if trouble.rule.outcome == "too long":
            hint = (
                "set max_characters, so that texts are cut; for a vLLM server extra_body: {truncate_prompt_tokens: -1}"
            )
            return ServiceError(
                f"{begins} ({len(text):,} characters) is too long for {self._settings.model!r} at {where}:"
                f" {trouble.detail}",
                hint=hint,
            )
        hint = "correct model, dimensions or extra_body, or take this text out"
        return ServiceError(f"{where} rejects {begins}: {trouble.detail}", hint=hint)


def read_embeddings(content: bytes, count: int) -> "tuple[Floats, int]":
    """Read the body of an answer with status 200.

    Returns:
        The vectors in the order of the texts, shape (count, dimensions), and the tokens that the server counted.

    Raises:
        Trouble: it holds something else; another attempt may bring it.
    """
    import numpy as np

    try:
        body = json.loads(content)
        data = body["data"]
        places = [place if entry.get("index") is None else entry["index"] for place, entry in enumerate(data)]
        vectors = [_vector(entry["embedding"]) for entry in data]
    except (ValueError, RecursionError, TypeError, KeyError, AttributeError):
        raise Trouble("nothing useful", "what came holds no embeddings") from None
    if sorted(places, key=str) != sorted(range(count), key=str):
        raise Trouble("nothing useful", f"{len(data)} embeddings came for {count} texts, or some twice")
    if len({vector.shape for vector in vectors}) != 1 or vectors[0].ndim != 1 or not vectors[0].size:
        raise Trouble("nothing useful", "the embeddings that came differ in size")
    block = np.stack([vectors[place] for place in np.argsort(places)])
    if not np.isfinite(block).all():
        raise Trouble("nothing useful", "an embedding came that holds a value that is no finite number")
    usage = body.get("usage")
    tokens = (usage.get("total_tokens") or usage.get("prompt_tokens")) if isinstance(usage, dict) else 0
    return block, tokens if isinstance(tokens, int) and 0 <= tokens <= MOST_TOKENS else 0


def _vector(given: Any) -> "Floats":
    """Return an embedding given as a list of numbers, or as the base64 of its bytes."""
    import numpy as np

    if isinstance(given, str):
        return np.frombuffer(base64.b64decode(given, validate=True), dtype="<f4")
    with np.errstate(over="ignore"):  # an infinite value is refused with the others
        return np.asarray(given, dtype=np.float32)


def _unit(blocks: "Sequence[Floats]") -> "Floats":
    """Join blocks of vectors and make each of unit length.

    Raises:
        ServiceError: they differ in size.
    """
    import numpy as np

    if len({block.shape[1] for block in blocks}) > 1:
        raise ServiceError("the server gives vectors of different size", hint="see which model it really serves")
    vectors = np.concatenate(blocks).astype(np.float64)
    norms = np.sqrt((vectors * vectors).sum(axis=1, keepdims=True))
    norms[norms == 0] = 1.0
    unit: Floats = (vectors / norms).astype(np.float32)
    return unit
