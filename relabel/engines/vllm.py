"""vLLM in this process: a model on the user's own hardware, asked through vLLM's offline class `LLM`.

`LLM.chat` takes a list and returns when all of it is answered: the last prompts of every list would leave most of the
GPU idle. So the engine is fed through the two halves of `LLM.chat`, which vLLM offers too: `LLM.enqueue_chat` adds
prompts, and `LLM.llm_engine.step` brings what has been answered meanwhile. A bounded number of prompts is inside
vLLM at any time, always more than it can run at once: memory does not grow with the data set, the scheduler never
starves, and the next stage gets each reply as it comes.

Prefix caching is on. Questions about one query come one after the other and begin with the same text, so that the first
of them computes what the others read from the cache; vLLM shares blocks even within one step of its scheduler, so the
followers need not be held back (measured: benchmarks/vllm_stage.py).

A choice is one token: its grammar allows the choices only, and the probability of each is the sum over the spellings
of its beginning ("Y", "Yes"). The most probable choice is the answer, whatever the temperature.
"""

import queue
import threading
import time
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import suppress
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

from relabel import config, engine_settings
from relabel.engines.completions import choice_probabilities, most_probable
from relabel.engines.vllm_loading import Limits, chat_template, check_extra, control_tokens, require, start, without
from relabel.errors import RelabelError, ServiceError, SettingsError
from relabel.protocols import Reply, Request, Usage
from relabel.records import digest

if TYPE_CHECKING:
    from vllm import LLM, RequestOutput, SamplingParams

LOGPROBS: Final = 20
"""vLLM's own limit, unless `max_logprobs` raises it."""

IN_FLIGHT: Final = 4
"""Prompts inside vLLM, as a multiple of those that it runs at once."""

ENOUGH: Final = 20
"""Refused questions, with no other among them, after which it is no matter of the question."""

PATIENCE: Final = 5.0
"""Seconds that closing early waits for the caller's own iterator, should that be blocked."""

CHOICE_TOKENS: Final = 32
"""Most tokens of a choice that its first sign does not tell from the others."""

_ANSWERS: Final = frozenset({
    "revision", "dtype", "quantization", "chat_template_kwargs", "temperature", "top_p", "max_tokens", "extra",
})  # fmt: skip
"""Settings that change an answer to the same prompt. What only changes speed or memory is no part of an address."""


class VLLMEngine:
    """An engine that runs a model with vLLM; loaded when the first request comes, gone when the last one is answered.

    Args:
        settings: model, engine arguments and sampling.
        log: where vLLM's own words go, its processes' too; None = a temporary file.
        llm: a loaded `vllm.LLM` to use, which is then left running.

    Raises:
        SettingsError: `extra` holds an argument that vLLM does not know, or the chat template cannot be read.
    """

    def __init__(self, settings: engine_settings.VLLM, log: Path | None = None, *, llm: "LLM | None" = None) -> None:
        self._settings, self._log, self._given = settings, log, llm
        self._template = chat_template(settings)
        self._report: dict[str, Any] = {}
        self._limits = Limits(settings, self._template)
        if settings.extra:
            check_extra(settings.extra)

    @property
    def identity(self) -> Mapping[str, Any]:
        """What changes an answer; the same here and on a cluster, so that either finds the other's replies."""
        return answering(self._settings, self._template)

    @property
    def shortens(self) -> bool:
        """Whether a prompt that is too long shall be shortened."""
        return self._settings.too_long == "shorten"

    def excess(self, request: Request) -> int:
        """Return by how many tokens a prompt and room for its reply exceed what the model reads; ≤ 0 when it fits.

        Raises:
            SettingsError: the model's tokenizer or its length cannot be found.
            MissingPart: vLLM is not installed.
        """
        return self._limits.excess(conversation(request), reply_room(request, self._settings))

    def report(self) -> Mapping[str, Any]:
        """Return what the model is and how long it took; empty before it was loaded."""
        return self._report

    def answer(self, requests: Iterable[Request]) -> Iterator[Reply]:
        """Yield replies as vLLM finishes them.

        Raises:
            MissingPart: vLLM is not installed.
            SettingsError: the model cannot be loaded as the settings say.
            ServiceError: vLLM does not start here, or stopped.
        """
        require(self._settings)
        return self._replies(requests)

    def _replies(self, requests: Iterable[Request]) -> Iterator[Reply]:
        inbox = _Inbox(requests)
        began = loaded = time.monotonic()
        llm = self._given
        try:
            first = inbox.take(wait=True)
            if first is None:  # nothing is asked that the store does not know: no model is needed
                return
            began = time.monotonic()
            llm = llm or start(self._settings, self._template, self._log)
            loaded = time.monotonic()
            doubt = Doubt(self._settings)
            for reply in _Feed(llm, self._settings).replies(first, inbox):
                doubt.hear(reply)
                yield reply
        except RelabelError:
            raise
        except Exception as error:
            if type(error).__name__ != "EngineDeadError":
                raise
            hint = f"see {self._log}" if self._log else "type the same command again: what is answered is kept"
            raise ServiceError("vLLM stopped in mid-run", hint=hint) from error
        finally:
            inbox.stop()
            if llm is not None:
                self._report = model_told(llm) | {
                    "seconds_to_load": round(loaded - began, 1),
                    "seconds_at_work": round(time.monotonic() - loaded, 1),
                }
                if self._given is None:
                    llm.llm_engine.engine_core.shutdown()


def answering(settings: engine_settings.VLLM, template: str | None) -> dict[str, Any]:
    """Return what of the settings changes an answer; `template` is the chat template that stands in for the model's."""
    model = config.known_model(settings.model)
    named = {"engine": "vllm", "model": model, "chat_template": digest(template or "").hex()}
    if settings.tokenizer:
        named["tokenizer"] = config.known_model(settings.tokenizer)
    dice = {"seed": settings.seed} if settings.temperature > 0 else {}
    return named | dice | settings.model_dump(include=set(_ANSWERS))


def conversation(request: Request) -> list[dict[str, str]]:
    """Return a request's messages as vLLM takes them; half a character (a lone surrogate) becomes a question mark."""
    return [
        {"role": turn.role, "content": turn.content.encode("utf-8", "replace").decode("utf-8")}
        for turn in request.messages
    ]


def reply_room(request: Request, settings: engine_settings.VLLM) -> int:
    """Return how many tokens the reply to a request may have."""
    if not request.choices:
        return settings.max_tokens
    starts = {choice.strip().casefold()[:1] for choice in request.choices}
    return 1 if len(starts) == len(request.choices) else CHOICE_TOKENS


def sampling(request: Request, settings: engine_settings.VLLM) -> dict[str, Any]:
    """Return the sampling parameters of a request, under vLLM's names; `structured_outputs` still as a plain dict."""
    asked: dict[str, Any] = {"temperature": settings.temperature, "max_tokens": reply_room(request, settings)}
    if settings.temperature > 0:  # a greedy answer throws no dice
        asked["seed"] = settings.seed
    if settings.top_p is not None:
        asked["top_p"] = settings.top_p
    if request.choices:
        asked |= {"logprobs": LOGPROBS, "structured_outputs": {"choice": list(request.choices)}}
    elif request.schema is not None:
        asked["structured_outputs"] = {"json": dict(request.schema)}
    return asked


def read_answer(
    request: Request,
    text: str,
    finish_reason: str,
    tokens: Sequence[tuple[str, float, Sequence[tuple[str, float]]]],
    usage: Usage,
    model: str,
) -> Reply:
    """Make a reply of what vLLM generated.

    Args:
        request: what was asked.
        text: what was generated.
        finish_reason: why it ended: "stop", "length" or another word of vLLM's.
        tokens: of each generated token its text, its log-probability and the most probable (text, log-probability).
        usage: tokens.
        model: its name.
    """
    probabilities = choice_probabilities(request.choices, tokens) if request.choices else {}
    chosen = most_probable(probabilities)
    if chosen is not None:
        return Reply(request, chosen, finish_reason="stop", model=model, probabilities=probabilities, usage=usage)
    if finish_reason in {"abort", "error"}:
        return Reply(request, None, "failed", f"vLLM ended it with {finish_reason!r}", model=model, retryable=True)
    cut = finish_reason == "length"
    return Reply(
        request,
        text,
        "cut off" if cut else "",
        "the answer reached the limit of tokens" if cut else "",
        finish_reason,
        model,
        usage=usage,
    )


def refused(request: Request, words: str) -> Reply:
    """Make a reply of the words with which vLLM refused a request."""
    line = " ".join(words.split())[:200]
    too_long = "maximum context length" in line or "input_tokens" in line
    return Reply(request, None, "too long" if too_long else "failed", line, retryable=True)


class Doubt:
    """Ends a run in which vLLM refuses every question: then it is the model or a setting that is wrong.

    Args:
        settings: of the model.
    """

    def __init__(self, settings: engine_settings.VLLM) -> None:
        self._settings, self._heard, self._trusted = settings, 0, False

    def hear(self, reply: Reply) -> None:
        """Take note of a reply.

        Raises:
            SettingsError: the first `ENOUGH` were all refused, for another reason than their length.
        """
        self._trusted = self._trusted or reply.failure != "failed"
        self._heard += 1
        if not self._trusted and self._heard >= ENOUGH:
            raise SettingsError(
                f"vLLM refuses every question to {self._settings.model} ({reply.detail})",
                hint="correct the engine's settings; a model without a chat template, or with one that knows no system"
                " part, needs `chat_template`",
            )


def vllm_version() -> dict[str, Any]:
    """Return the version of vLLM that is installed here."""
    import vllm

    return {"vllm": vllm.__version__}


def model_told(llm: "LLM") -> dict[str, Any]:
    """Return what a loaded model is."""
    whole = llm.llm_engine.vllm_config
    return vllm_version() | {
        "model": whole.model_config.model,
        "commit": getattr(whole.model_config.hf_config, "_commit_hash", None),
        "dtype": str(whole.model_config.dtype).removeprefix("torch."),
        "max_model_len": whole.model_config.max_model_len,
        "prefix_cache_block": whole.cache_config.block_size,
    }


class _Inbox:
    """Pulls requests in a thread of its own, so that waiting for the stage before never keeps a reply back."""

    def __init__(self, requests: Iterable[Request]) -> None:
        self._queue: queue.Queue[Request | None] = queue.Queue(maxsize=64)
        self._stop = threading.Event()
        self._problem: BaseException | None = None
        self.ended = False
        self._thread = threading.Thread(target=self._pull, args=(requests,), name="relabel-vllm-inbox", daemon=True)
        self._thread.start()

    def _pull(self, requests: Iterable[Request]) -> None:
        try:
            for request in requests:
                self._put(request)
                if self._stop.is_set():
                    return
        except BaseException as error:  # noqa: BLE001 - raised again where requests are taken
            self._problem = error
        self._put(None)

    def _put(self, request: Request | None) -> None:
        while not self._stop.is_set():
            with suppress(queue.Full):
                self._queue.put(request, timeout=0.1)
                return

    def take(self, *, wait: bool) -> Request | None:
        """Return the next request; None when there is none now or, having waited, none at all."""
        if self.ended:
            return None
        try:
            request = self._queue.get(block=wait)
        except queue.Empty:
            return None
        if request is None:
            self.ended = True
            if self._problem is not None:
                raise self._problem
        return request

    def stop(self) -> None:
        """Pull no more."""
        self._stop.set()
        self._thread.join(PATIENCE)


class _Feed:
    """Keeps vLLM supplied and takes replies out, in one thread."""

    def __init__(self, llm: "LLM", settings: engine_settings.VLLM) -> None:
        self._llm, self._settings = llm, settings
        self._engine = llm.llm_engine
        self._room = IN_FLIGHT * llm.llm_engine.vllm_config.scheduler_config.max_num_seqs
        self._control = control_tokens(llm.get_tokenizer())
        self._asked: dict[str, tuple[Request, str, float]] = {}

    def replies(self, first: Request, inbox: _Inbox) -> Iterator[Reply]:
        """Yield every reply; when the caller leaves, what is unfinished is taken back from vLLM."""
        try:
            request: Request | None = first
            while request is not None or self._asked or not inbox.ended:
                while request is not None:
                    at_once = self._add(request)
                    if at_once is not None:
                        yield at_once
                    request = inbox.take(wait=False) if len(self._asked) < self._room else None
                for output in self._engine.step() if self._asked else ():
                    if output.finished:
                        yield self._read(output)
                if len(self._asked) < self._room:
                    request = inbox.take(wait=not self._asked)
        finally:
            if self._asked:
                with suppress(Exception):  # a dead engine takes nothing back
                    self._engine.abort_request([internal for _, internal, _ in self._asked.values()], internal=True)

    def _add(self, request: Request) -> Reply | None:
        """Hand a request to vLLM; what vLLM refuses is a reply at once."""
        from vllm.exceptions import VLLMValidationError

        try:
            (internal,) = self._llm.enqueue_chat(
                without(self._control, conversation(request)),
                self._params(request),
                use_tqdm=False,
                chat_template_kwargs=self._settings.chat_template_kwargs or None,
            )
        except (VLLMValidationError, ValueError) as error:  # so vLLM refuses a prompt, and its libraries a grammar
            return refused(request, str(error))
        # vLLM adds a dash and random signs to the number that it gives back with the answer
        self._asked[internal.rsplit("-", 1)[0]] = request, internal, time.monotonic()
        return None

    def _params(self, request: Request) -> "SamplingParams":
        from vllm import SamplingParams
        from vllm.sampling_params import StructuredOutputsParams

        asked = sampling(request, self._settings)
        grammar = asked.pop("structured_outputs", None)
        return SamplingParams(**asked, structured_outputs=StructuredOutputsParams(**grammar) if grammar else None)

    def _read(self, output: "RequestOutput") -> Reply:
        request, _, began = self._asked.pop(output.request_id)
        said = output.outputs[0]
        usage = Usage(
            len(output.prompt_token_ids or ()),
            len(said.token_ids),
            output.num_cached_tokens,
            round(time.monotonic() - began, 3),
        )
        return read_answer(
            request, said.text, said.finish_reason or "", list(_tokens(said)), usage, self._settings.model
        )


def _tokens(said: Any) -> Iterator[tuple[str, float, list[tuple[str, float]]]]:
    """Yield text and log-probability of each generated token, with the most probable ones at its place."""
    for chosen, top in zip(said.token_ids, said.logprobs or (), strict=False):
        spellings = [(entry.decoded_token or "", entry.logprob) for entry in top.values()]
        own = top.get(chosen)
        if own is not None:
            yield own.decoded_token or "", own.logprob, spellings
