"""The models of a run on a Ray cluster: vLLM through Ray Data's own processor, everything else as Ray Data's actors.

The driver asks, reads and keeps; the replicas only answer. What is asked, and under which address it is kept, is the
same as on one machine, so that a run begun there goes on here and finds its replies.

Of `ray.data.llm` only the stage that runs vLLM is used. Its chat template and tokenizer stages know neither `tokenizer`
nor `revision`, take a CPU core each, and add the beginning-of-sequence token a second time where the template has
written it (Llama 3): prompts are tokenized as the local engine does it, on the driver's node, and travel as tokens.
Its rows do not say why an answer ended: one that has all the tokens it may have, the last no end, was cut off.
"""

import json
import pickle
import queue
import re
import time
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from functools import partial
from itertools import islice
from typing import Any, Final, TypeVar

from relabel import engine_settings
from relabel.engines.openai import OpenAIEngine
from relabel.engines.ray_cluster import Cluster
from relabel.engines.ray_stream import ACTORS, NUMBER, TRIES, Answer, Row, Stream, source_task
from relabel.engines.vllm import (
    Doubt,
    VLLMEngine,
    conversation,
    read_answer,
    refused,
    reply_room,
    sampling,
    vllm_version,
)
from relabel.engines.vllm_loading import Limits, arguments, chat_template, explanation, last_error, require
from relabel.errors import RelabelError, ServiceError, SettingsError
from relabel.protocols import Reply, Request, Usage

T = TypeVar("T")
R = TypeVar("R")

ERROR: Final = "__inference_error__"
"""Ray Data's column for the words of a row that failed; stages pass such rows on."""

SEQUENCES: Final = 256
"""Sequences that a replica's vLLM runs at once, unless `max_num_seqs` says otherwise."""

CHUNKS: Final = 8
"""Requests that an actor around an API is given at a time, as a multiple of its concurrency."""


class RayVLLMEngine:
    """vLLM on the replicas of a cluster; started when the first request comes.

    Args:
        settings: model, engine arguments and sampling.
        cluster: where.
        replicas: of the model.

    Raises:
        SettingsError: as of `VLLMEngine`.
    """

    def __init__(self, settings: engine_settings.VLLM, cluster: Cluster, replicas: int) -> None:
        self._settings, self._cluster, self._replicas = settings, cluster, replicas
        self._local = VLLMEngine(settings)  # is never asked
        self._report: dict[str, Any] = {}

    @property
    def identity(self) -> Mapping[str, Any]:
        """What changes an answer; where it is computed does not."""
        return self._local.identity

    @property
    def shortens(self) -> bool:
        """Whether a prompt that is too long shall be shortened."""
        return self._local.shortens

    def excess(self, request: Request) -> int:
        """Return by how many tokens a prompt and room for its reply exceed what the model reads; ≤ 0 when it fits."""
        return self._local.excess(request)

    def report(self) -> Mapping[str, Any]:
        """Return where the model ran, and what was asked more than once; empty before anything was asked."""
        return self._report

    def answer(self, requests: Iterable[Request]) -> Iterator[Reply]:
        """Yield replies as the replicas finish them.

        Raises:
            MissingPart: vLLM is not installed.
            SettingsError: the model cannot be loaded as the settings say, or the cluster has no room for it.
            ServiceError: the cluster cannot be reached, or nothing is left of it.
        """
        require(self._settings)
        return self._replies(requests)

    def _replies(self, requests: Iterable[Request]) -> Iterator[Reply]:
        sequences = self._settings.max_num_seqs or SEQUENCES
        stream = Stream(
            self._cluster,
            partial(_vllm, self._settings, self._cluster, self._replicas, sequences),
            block=block_size(sequences),
            room=room(sequences, self._replicas),
            prepare=_Prompts(self._settings),
        )
        asked: dict[int, Request] = {}
        began, doubt = time.monotonic(), Doubt(self._settings)
        try:
            with _explained(self._settings, self._cluster):
                rows = (row_of(request, self._settings) for request in _kept(requests, asked))
                for number, answer in stream.answers(rows):
                    reply = read_row(asked.pop(number), answer, self._settings.model)
                    doubt.hear(reply)
                    yield reply
        finally:
            if stream.executions:
                self._report = (
                    self._cluster.told()
                    | vllm_version()
                    | {
                        "model": self._settings.model,
                        "replicas": self._replicas,
                        "executions": stream.executions,
                        "asked_again": stream.again,
                        "seconds": round(time.monotonic() - began, 1),
                    }
                )


def block_size(sequences: int) -> int:
    """Return how many prompts travel together: several blocks keep a replica busy, one is soon answered."""
    return max(1, min(32, sequences // 4))


def batches(sequences: int) -> int:
    """Return how many blocks a replica works at: half as many again as it runs at once."""
    return 3 * sequences // (2 * block_size(sequences)) + 1


def room(sequences: int, replicas: int) -> int:
    """Return how many prompts may be asked and not answered: twice what Ray Data sends to the replicas.

    Ray Data sends each two batches for one that it works at. The other half goes on when they all die at once.
    """
    return 2 * replicas * 2 * batches(sequences) * block_size(sequences)


def row_of(request: Request, settings: engine_settings.VLLM) -> Row:
    """Make a row of a request.

    Ray Data gives all rows of a block the same fields, and a number that some rows lack would become a fraction in the
    others, at which vLLM's input thread dies: so every row has `logprobs`, and a schema travels as text.
    """
    asked = {"logprobs": 0, **sampling(request, settings)}
    form = asked.get("structured_outputs", {})
    if "json" in form:
        asked["structured_outputs"] = {"json": json.dumps(form["json"])}
    return {"messages": conversation(request), "sampling_params": asked, "limit": reply_room(request, settings)}


class _Prompts:
    """Turns messages into tokens, on the driver's node: what the local engine would let vLLM do."""

    def __init__(self, settings: engine_settings.VLLM) -> None:
        self._settings, self._template = settings, chat_template(settings)
        self._limits: Limits | None = None
        self._ends: list[int] = []

    def __call__(self, rows: Sequence[Row]) -> list[Row]:
        if self._limits is None:
            self._limits = Limits(self._settings, self._template)
            self._ends = self._limits.ends()
        return [self._tokenized(self._limits, row) for row in rows]

    def _tokenized(self, limits: Limits, row: Row) -> Row:
        tokens, error = [], ""
        try:
            tokens = limits.tokens(row["messages"])
        except Exception as problem:  # noqa: BLE001 - a template may refuse a prompt with any error
            error = f"{type(problem).__name__}: {problem}"
        kept = {name: row[name] for name in (NUMBER, "sampling_params", "limit")}
        return kept | {"tokenized_prompt": tokens, "ends": self._ends, ERROR: error}


def _vllm(settings: engine_settings.VLLM, cluster: Cluster, replicas: int, sequences: int, dataset: Any) -> Any:
    """Send a dataset of prompts through Ray Data's vLLM processor."""
    from ray.data.llm import build_processor, vLLMEngineProcessorConfig

    block = block_size(sequences)
    given = {name: value for name, value in arguments(settings).items() if name != "model"}
    given["max_num_seqs"] = sequences  # on large GPUs vLLM would run more than are sent
    processor = build_processor(
        vLLMEngineProcessorConfig(
            model_source=settings.model,
            engine_kwargs=given,
            batch_size=block,
            concurrency=(replicas, replicas),
            max_concurrent_batches=batches(sequences),
            should_continue_on_error=True,
            chat_template_stage=False,
            tokenize_stage=False,
            detokenize_stage=False,
            log_engine_metrics=False,
        ),
        preprocess_map_kwargs=source_task(cluster),
        postprocess=_compact,
        postprocess_map_kwargs={"num_cpus": 0, "concurrency": max(2, replicas // 4)},
    )
    processor.get_stage_by_name("vLLMEngineStage").map_batches_kwargs.update(ACTORS)
    return processor(dataset)


def _compact(row: Row) -> Row:
    """Keep what a reply is made of, as text: on a worker."""
    generated = [int(token) for token in row["generated_tokens"]]
    said = {
        "text": str(row["generated_text"]),
        "finish": finish(generated, int(row["limit"]), [int(token) for token in row["ends"]]),
        "tokens": list(_spelled(generated, row["logprobs"])),
        "in": int(row["num_input_tokens"]),
        "out": len(generated),
        "seconds": round(float(row["time_taken_llm"]), 3),
    }
    return {NUMBER: row[NUMBER], "said": json.dumps(said)}


def finish(generated: Sequence[int], limit: int, ends: Sequence[int]) -> str:
    """Return why an answer ended, in vLLM's words: "stop", or "length" when it reached the limit of tokens."""
    return "length" if len(generated) >= limit and generated[-1] not in ends else "stop"


def _spelled(
    generated: Sequence[int], logprobs: Sequence[Mapping[int, Any]] | None
) -> Iterator[tuple[str, float, list[tuple[str, float]]]]:
    for chosen, top in zip(generated, logprobs if logprobs is not None else (), strict=False):
        spellings = [(entry["decoded_token"] or "", float(entry["logprob"])) for entry in top.values() if entry]
        own = top.get(chosen)
        if own is not None:
            yield own["decoded_token"] or "", float(own["logprob"]), spellings


def read_row(request: Request, answer: Answer | None, model: str) -> Reply:
    """Make a reply of what came back for a request; None = nothing, however often it was asked."""
    if answer is None:
        return Reply(request, None, "failed", "the cluster lost it each time that it was asked", retryable=True)
    if answer.get(ERROR):
        return refused(request, re.sub(r"^\w+(Error|Exception): ", "", str(answer[ERROR]).strip()))
    said = json.loads(answer["said"])
    usage = Usage(said["in"], said["out"], None, said["seconds"])  # Ray Data does not pass on what was cached
    return read_answer(request, said["text"], said["finish"], said["tokens"], usage, model)


@contextmanager
def _explained(settings: engine_settings.VLLM, cluster: Cluster) -> Iterator[None]:
    """Say in one message why the model could not be loaded on the workers; their log is read where it is here."""
    try:
        yield
    except (RelabelError, GeneratorExit):
        raise
    except Exception as error:
        if not type(error).__module__.startswith("ray."):
            raise
        words = str(error)
        process = re.search(r"pid=(\d+)", words)
        log = cluster.log_of(int(process[1])) if process else None
        logged = log.read_text("utf-8", "replace") if log is not None else ""
        cause = words[max(0, words.rfind(last_error(words))) :]  # without the worker's traceback
        wrong = re.match(r"[\w.]*(Value|Type|OS|Validation)Error\b", cause) is not None
        raise explanation(settings, cause, logged, log, wrong=wrong) from error


class RayOpenAIEngine:
    """An OpenAI-compatible API, asked by several actors that share concurrency and rate.

    The key must be in the environment of their nodes.

    Args:
        settings: whom to ask, and how, all actors together.
        cluster: where the actors are.
        replicas: how many.
    """

    def __init__(self, settings: engine_settings.OpenAI, cluster: Cluster, replicas: int) -> None:
        self._cluster, self._replicas = cluster, replicas
        self._local = OpenAIEngine(settings)  # is never asked
        self._share = share(settings, replicas)
        self._vouched = False

    @property
    def identity(self) -> Mapping[str, Any]:
        """What changes the answer besides the prompt."""
        return self._local.identity

    def vouch(self) -> None:
        """Hear that the service answered such requests before."""
        self._vouched = True

    def answer(self, requests: Iterable[Request]) -> Iterator[Reply]:
        """Yield replies in chunks, as the actors finish them.

        Raises:
            SettingsError: the key is missing here.
            ServiceError: going on is pointless, as of `OpenAIEngine`; or the cluster is gone.
        """
        self._local.answer(())  # refuses what cannot work
        return self._replies(requests)

    def _replies(self, requests: Iterable[Request]) -> Iterator[Reply]:
        size = CHUNKS * self._share.concurrency
        make = partial(_asking, self._share, vouched=self._vouched)
        sent: dict[int, tuple[Request, ...]] = {}
        workers = _Workers(self._cluster, self._replicas, 0)
        for number, replies in workers.numbered(make, _kept(_chunks(requests, size), sent)):
            chunk = sent.pop(number)
            if isinstance(replies, Lost):
                words = "the cluster lost it each time that it was asked"
                yield from (Reply(request, None, "failed", words, retryable=True) for request in chunk)
            else:
                yield from replies


def share(settings: engine_settings.OpenAI, replicas: int) -> engine_settings.OpenAI:
    """Return one replica's part of concurrency (1 at the least) and rate."""
    rate = settings.requests_per_minute
    part = rate / replicas if rate is not None else None
    return settings.model_copy(
        update={"concurrency": max(1, settings.concurrency // replicas), "requests_per_minute": part}
    )


def _chunks(requests: Iterable[Request], size: int) -> Iterator[tuple[Request, ...]]:
    source = iter(requests)
    while chunk := tuple(islice(source, size)):
        yield chunk


def _kept(items: Iterable[T], kept: dict[int, T]) -> Iterator[T]:
    """Pass items on, keeping each under its number."""
    for number, item in enumerate(items):
        kept[number] = item
        yield item


def _asking(settings: engine_settings.OpenAI, *, vouched: bool) -> Callable[[Sequence[Request]], list[Reply]]:
    """Return what answers one chunk of requests after the other, under one limit of the rate."""
    engine = OpenAIEngine(settings)
    if vouched:
        engine.vouch()
    inbox: queue.SimpleQueue[Request | None] = queue.SimpleQueue()
    replies = engine.answer(iter(inbox.get, None))

    def answer(chunk: Sequence[Request]) -> list[Reply]:
        for request in chunk:
            inbox.put(request)
        return [next(replies) for _ in chunk]

    return answer


class RaySpread:
    """A `Spread` over a cluster: actors that load a judge's model once and take items one at a time."""

    def __init__(self, stage: str, cluster: Cluster, replicas: int, gpus: float) -> None:
        self._stage = stage
        self._workers = _Workers(cluster, replicas, gpus)

    def __call__(self, make: Callable[[], Callable[[T], R]], items: Iterable[T]) -> Iterator[R]:
        """Apply what `make` returns to every item; yield the results in the items' order.

        Raises:
            SettingsError, MissingPart, ServiceError: what a worker raised, with its words.
            ServiceError: an item got no result, however often it was sent.
        """
        early: dict[int, R] = {}
        due = 0
        for number, result in self._workers.numbered(make, items):
            if isinstance(result, Lost):
                raise ServiceError(
                    f"a part of {self._stage} was lost {TRIES} times on the cluster",
                    hint="see `ray status`; the same command goes on where it was",
                )
            early[number] = result
            while due in early:
                yield early.pop(due)
                due += 1


class Lost:
    """In place of a result that never came."""


class _Workers:
    """Ray Data actors around a function; items and results travel pickled."""

    def __init__(self, cluster: Cluster, replicas: int, gpus: float) -> None:
        self._cluster, self._replicas, self._gpus = cluster, replicas, gpus

    def numbered(self, make: Callable[[], Callable[[T], R]], items: Iterable[T]) -> Iterator[tuple[int, R | Lost]]:
        """Yield (number of an item, result) in any order."""
        stream = Stream(self._cluster, partial(self._actors, make), block=1, room=4 * self._replicas)
        for number, answer in stream.answers({"item": pickle.dumps(item)} for item in items):
            if answer is None:
                yield number, Lost()
                continue
            if answer["error"]:
                raise _raised(**json.loads(answer["error"]))
            yield number, pickle.loads(answer["result"])  # noqa: S301 - our own workers pickled it

    def _actors(self, make: Callable[[], Any], dataset: Any) -> Any:
        from ray.data import ActorPoolStrategy

        return dataset.map_batches(
            Worker,
            fn_constructor_args=(make,),
            batch_size=1,
            batch_format="pyarrow",
            compute=ActorPoolStrategy(size=self._replicas),
            num_cpus=0 if self._gpus else 1,
            num_gpus=self._gpus or None,
            **ACTORS,
        )


class Worker:
    """What runs in an actor. What goes wrong there is words in a row: Ray Data would drop the row and go on."""

    def __init__(self, make: Callable[[], Callable[[Any], Any]]) -> None:
        self._make = make
        self._work: Callable[[Any], Any] | None = None

    def __call__(self, table: Any) -> Any:
        """Work at one batch."""
        import pyarrow as pa

        return pa.Table.from_pylist([self._done(row) for row in table.to_pylist()])

    def _done(self, row: Row) -> Row:
        result, error = b"", ""
        try:
            self._work = self._work or self._make()
            result = pickle.dumps(self._work(pickle.loads(row["item"])))  # noqa: S301 - our own driver pickled it
        except RelabelError as problem:
            kind = "service" if isinstance(problem, ServiceError) else "settings"
            error = json.dumps({"kind": kind, "message": problem.message, "hint": problem.hint})
        except Exception as problem:  # noqa: BLE001 - whatever it is, the driver says it
            message = f"a worker on the cluster failed: {type(problem).__name__}: {problem}"
            error = json.dumps({"kind": "service", "message": message, "hint": "see Ray's logs on its node"})
        return {NUMBER: row[NUMBER], "result": result, "error": error}


def _raised(kind: str, message: str, hint: str) -> RelabelError:
    return (ServiceError if kind == "service" else SettingsError)(message, hint=hint)
