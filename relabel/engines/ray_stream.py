"""A stream of rows through one running Ray Data execution, so that models are loaded once for a whole run.

A thread of the driver puts chunks of rows into a queue (a Ray actor). The dataset's one source task takes them out
again; both are pinned to the driver's node, so that what a lost worker node was working on can be had again. From
there Ray Data spreads the blocks over the replicas, and the answers come back in any order.

Ray would ask a lost replica the same thing again and again, for ever if its node does not come back. So its tasks are
not retried: they are lost, and the rows are noticed here. A row is asked again when many that were asked after it have
been answered, once, and when the execution has ended without its answer. The bound on unanswered rows is the
back-pressure; it must be more than all replicas can hold, so that something overtakes what a dead one held.
"""

import queue
import threading
import warnings
from collections import deque
from collections.abc import Callable, Generator, Iterable, Iterator, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from typing import Any, Final

from relabel.engines.ray_cluster import Cluster
from relabel.errors import ServiceError

Row = dict[str, Any]
Answer = Mapping[str, Any]

TRIES: Final = 4
"""How often a row is asked before it is given up."""

LOOK: Final = 15.0
"""Seconds without an answer after which the cluster is looked at."""

LEAVE: Final = 5.0
"""Seconds that closing early waits for the thread that draws rows."""

PATIENCE: Final = 0.6
"""Seconds that a chunk waits for more rows."""

NUMBER: Final = "number"
"""The column that names a row within a stream; everything that Ray Data gives back must still have it."""

WEIGHT: Final = 2048
"""Bytes that are added to a row. Ray Data sends a block on when it has so many bytes, not rows: with these a block
of rows is sent on at once, however short they are."""

ACTORS: Final = {"max_restarts": -1, "max_task_retries": 0}
"""A replica that died is started again, elsewhere if need be; what it was asked is asked anew by us."""


@dataclass(slots=True)
class _Asked:
    row: Row
    tries: int = 0
    answered_before: int = 0


class Desk:
    """Who waits for an answer. Rows are drawn by a thread of its own, at most `room` ahead of what is answered."""

    def __init__(self, rows: Iterable[Row], room: int) -> None:
        self._room = room
        self._slots = threading.Semaphore(room)
        self._changed = threading.Condition()
        self._ready: deque[int] = deque()
        self._waiting: dict[int, _Asked] = {}
        self._sent: dict[int, None] = {}
        self._late: set[int] = set()
        self._given_up: list[int] = []
        self._ended = self._stopped = False
        self.answers = self.again = 0
        self.problem: BaseException | None = None
        self._thread = threading.Thread(target=self._draw, args=(rows,), name="relabel-ray-rows", daemon=True)
        self._thread.start()

    def _draw(self, rows: Iterable[Row]) -> None:
        number = 0
        source = iter(rows)
        try:
            while self._slots.acquire() and not self._stopped:
                row = next(source, None)
                if row is None:
                    break
                with self._changed:
                    self._waiting[number] = _Asked({**row, NUMBER: number})
                    self._ready.append(number)
                    self._changed.notify_all()
                number += 1
        except BaseException as error:  # noqa: BLE001 - raised again by whoever consumes the answers
            self.problem = error
        with self._changed:
            self._ended = True
            self._changed.notify_all()

    def first(self) -> bool:
        """Wait until there is something to ask; False when there is nothing at all."""
        with self._changed:
            self._changed.wait_for(lambda: self._ready or self._ended)
            return bool(self._ready)

    def take(self, size: int, over: Callable[[], bool]) -> list[Row]:
        """Wait for a chunk of rows to ask, smaller at the end and where the source is slow; empty when all is over."""
        with self._changed:
            waited = 0.0
            while len(self._ready) < size and not (self._ended or self._stopped or over()):
                if self._ready and waited >= PATIENCE:
                    break
                self._changed.wait(timeout=0.2)
                waited = waited + 0.2 if self._ready else 0.0
            if self._stopped or over():
                return []
            numbers = [self._ready.popleft() for _ in range(min(size, len(self._ready)))]
            for number in numbers:
                asked = self._waiting[number]
                asked.tries += 1
                asked.answered_before = self.answers
                self._sent[number] = None
            return [self._waiting[number].row for number in numbers]

    def answer(self, number: int) -> bool:
        """Note an answer; False when there was one already. What has long been overtaken is asked again."""
        with self._changed:
            if self._waiting.pop(number, None) is None:
                return False
            self._sent.pop(number, None)
            self._late.discard(number)
            self._slots.release()
            self.answers += 1
            while self._sent:
                oldest = next(iter(self._sent))
                if self.answers - self._waiting[oldest].answered_before <= 2 * self._room:
                    break
                del self._sent[oldest]
                if self._waiting[oldest].tries == 1:
                    self._ready.append(oldest)
                    self.again += 1
                else:
                    self._late.add(oldest)  # slow, or lost twice: that is known when the execution has ended
            self._changed.notify_all()
            return True

    def recall(self) -> None:
        """After the end of an execution: have what it left unanswered asked again."""
        with self._changed:
            for number in [*self._sent, *sorted(self._late)]:
                self._lose(number)
            self._sent.clear()
            self._late.clear()

    def _lose(self, number: int) -> None:
        if self._waiting[number].tries < TRIES:
            self._ready.append(number)
            self.again += 1
        else:
            del self._waiting[number]
            self._slots.release()
            self._given_up.append(number)

    def given_up(self) -> list[int]:
        """Return the rows that have been given up since this was last asked."""
        with self._changed:
            numbers, self._given_up = self._given_up, []
            return numbers

    @property
    def waits(self) -> bool:
        """Whether something was asked and not answered."""
        with self._changed:
            return bool(self._sent or self._late)

    @property
    def finished(self) -> bool:
        """Whether everything was drawn and answered."""
        with self._changed:
            return self._ended and not self._waiting

    def stop(self) -> None:
        """Draw no more."""
        with self._changed:
            self._stopped = True
            self._slots.release()
            self._changed.notify_all()
        self._thread.join(LEAVE)  # should the caller's own iterator be blocked, not for ever


@dataclass(slots=True)
class _Ended:
    """What a reading thread says last: how the execution ended."""

    error: Exception | None = None


class Stream:
    """Rows go in, answers come out in any order.

    Args:
        cluster: where.
        build: makes of a dataset of rows a dataset of answers; each keeps its row's `number`.
        block: rows that travel, and are answered, together.
        room: most rows that are asked and not answered; four blocks at the least.
        prepare: what is done with a chunk of rows on the driver's node before they travel; must be picklable.
    """

    def __init__(
        self,
        cluster: Cluster,
        build: Callable[[Any], Any],
        *,
        block: int,
        room: int,
        prepare: Callable[[Sequence[Row]], Sequence[Row]] = list,
    ) -> None:
        self._cluster, self._build, self._prepare = cluster, build, prepare
        self._block, self._room = block, max(room, 4 * block)
        self.executions = self.again = 0

    def answers(self, rows: Iterable[Row]) -> Iterator[tuple[int, Answer | None]]:
        """Yield (number of a row, counted from 0, answer) for every row once; None where all tries were in vain.

        What `rows` raises is raised here after the answers to what was drawn before it.

        Raises:
            Exception: Ray Data's, when not one row could be answered.
            ServiceError: the cluster is gone, or nothing is left of it that could go on.
        """
        desk = Desk(rows, self._room)
        barren = 0
        try:
            if desk.first():
                self._cluster.open()
                while not desk.finished:
                    before = desk.answers
                    ended = yield from self._execution(desk)
                    barren = barren + 1 if desk.answers == before else 0
                    if ended.error is not None:
                        self._judge(ended.error, hopeless=not desk.answers or barren >= TRIES)
                    desk.recall()
                    yield from ((number, None) for number in desk.given_up())
        finally:
            self.again += desk.again
            desk.stop()
        if desk.problem is not None:
            raise desk.problem

    def _judge(self, error: Exception, *, hopeless: bool) -> None:
        """Raise what ended an execution, unless another one may do better."""
        if hopeless:
            raise error
        if not self._cluster.can_go_on():
            raise _gone() from error

    def _execution(self, desk: Desk) -> Generator[tuple[int, Answer | None], None, _Ended]:
        outbox: queue.SimpleQueue[Answer | _Ended] = queue.SimpleQueue()
        over = threading.Event()
        self.executions += 1
        arguments = (desk, outbox, over)
        threading.Thread(target=self._work, args=arguments, name="relabel-ray", daemon=True).start()
        try:
            while not isinstance(item := self._next(outbox, desk), _Ended):
                if desk.answer(item[NUMBER]):
                    yield item[NUMBER], item
                yield from ((number, None) for number in desk.given_up())
        finally:
            over.set()
        return item

    def _next(self, outbox: "queue.SimpleQueue[Answer | _Ended]", desk: Desk) -> Answer | _Ended:
        """Wait for an answer, but not where none can come any more."""
        doubts = 0
        while True:
            with suppress(queue.Empty):
                return outbox.get(timeout=LOOK)
            doubts = doubts + 1 if desk.waits and not self._cluster.can_go_on() else 0
            if doubts > 3:
                raise _gone()

    def _work(self, desk: Desk, outbox: "queue.SimpleQueue[Answer | _Ended]", over: threading.Event) -> None:
        """Run one execution to its end; in a thread of its own, which may be left behind."""
        feed: Any = None
        try:
            feed = _feed(self._cluster.here)
            dataset = self._dataset(feed)
            threading.Thread(target=self._supply, args=(desk, feed, over), name="relabel-ray-feed", daemon=True).start()
            for batch in dataset.iter_batches(batch_size=None, prefetch_batches=0, batch_format="pyarrow"):
                for row in batch.to_pylist():
                    outbox.put(row)
            outbox.put(_Ended())
        except Exception as error:  # noqa: BLE001 - judged by whoever waits for the answers
            outbox.put(_Ended(error))
        finally:
            over.set()
            if feed is not None:
                with suppress(Exception):  # gone with the cluster
                    feed.shutdown(force=True)

    def _supply(self, desk: Desk, feed: Any, over: threading.Event) -> None:
        """Bring chunks to the source task until there are none, or the execution has ended."""
        with suppress(Exception):  # the queue is gone when the execution is: the rows are then asked again
            while chunk := desk.take(self._block, over.is_set):
                feed.put(chunk)
            feed.put(None)

    def _dataset(self, feed: Any) -> Any:
        import ray

        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # Ray announces other names for arguments that it takes
            start = ray.data.from_items([{"feed": 0}], override_num_blocks=1)
            source = _Source(feed, self._prepare).rows
            dataset = self._build(start.map_batches(source, **source_task(self._cluster)))
        context = dataset.context
        context.enable_progress_bars = False
        context.print_on_execution_start = False
        context.execution_no_progress_timeout_s = -1  # the stage before may be slow
        context.max_errored_blocks = -1  # what is lost is asked again
        context.issue_detectors_config.detectors = []
        context.target_max_block_size = self._block * WEIGHT
        return dataset


class _Source:
    """The dataset's one source task: takes chunks from the queue until there are no more."""

    def __init__(self, feed: Any, prepare: Callable[[Sequence[Row]], Sequence[Row]]) -> None:
        self._feed, self._prepare = feed, prepare

    def rows(self, _: Any) -> Iterator[Any]:
        """Yield each chunk as a table."""
        import pyarrow as pa

        while (chunk := self._feed.get()) is not None:
            yield pa.Table.from_pylist([{**row, "weight": " " * WEIGHT} for row in self._prepare(chunk)])


def source_task(cluster: Cluster) -> dict[str, Any]:
    """Return what Ray is told of the source task, and of a task that shall run in one with it.

    It is not tried again: chunks that a dead one took with it are not in the queue any more.
    """
    return {"num_cpus": 0, "scheduling_strategy": _pinned(cluster.here), "max_retries": 0}


def _feed(node: str) -> Any:
    from ray.util.queue import Queue

    return Queue(actor_options={"num_cpus": 0, "scheduling_strategy": _pinned(node)})


def _pinned(node: str) -> Any:
    from ray.util.scheduling_strategies import NodeAffinitySchedulingStrategy

    return NodeAffinitySchedulingStrategy(node, soft=False)


def _gone() -> ServiceError:
    return ServiceError(
        "what is left of the Ray cluster cannot run the models",
        hint="see `ray status`; when it has nodes again the same command goes on where it was",
    )
