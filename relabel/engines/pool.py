"""Workers of an event loop behind an ordinary generator: the only place where asyncio meets the rest of relabel."""

import asyncio
import contextlib
import queue
import threading
from collections.abc import Callable, Iterable, Iterator
from contextlib import AbstractAsyncContextManager
from dataclasses import dataclass, field
from typing import Final, Protocol

from relabel.engines.clock import Clock
from relabel.errors import Detached
from relabel.protocols import Reply, Request

PATIENCE: Final = 5.0
"""Seconds that closing early waits for the caller's own iterator, should that be blocked."""

TICK: Final = 0.5
"""Seconds between two looks at whether going on makes sense."""


@dataclass(slots=True)
class Tries:
    """What became of one request so far.

    Attributes:
        made: attempts, all of them.
        counted: those that count against `max_retries`.
        refused_since: when the service first refused it for the rate, and did nothing else since.
        heard: how many answers had come from the service when it was first asked.
        number: its place in the order of asking; 0 = it was not asked yet.
        unsure: attempts of which nobody knows whether the server counted them.
    """

    made: int = 0
    counted: int = 0
    refused_since: float | None = None
    heard: int = 0
    number: int = 0
    unsure: int = 0


@dataclass(frozen=True, slots=True)
class Question:
    """A request while it is asked."""

    request: Request
    tries: Tries = field(default_factory=Tries)


class Asker(Protocol):
    """Who asks; shared by the workers.

    Attributes:
        sent: how many requests were sent and are not answered.
    """

    sent: int

    async def ask(self, question: Question, halted: Callable[[], bool]) -> Reply | float | None:
        """Ask once. Return the reply, or the seconds after which to ask again; what it raises ends the run.

        None where nothing was sent, since the pool was `halted` before it came to that.
        """
        ...

    def check(self, waiting: int) -> None:
        """Raise what ends the run when going on makes no sense; `waiting` requests have no reply yet."""
        ...


class Pool:
    """A pool of workers that take requests from one thread and hand the replies to another.

    A slot is taken before a request is pulled and given back when its reply has been consumed: the slots bound
    every queue, so that no queue needs a bound of its own. A request that waits for its next attempt has a slot and
    no worker. A pool is used once.
    """

    def __init__(
        self, open_asker: Callable[[], AbstractAsyncContextManager[Asker]], *, workers: int, slots: int, clock: Clock
    ) -> None:
        """Prepare a pool; nothing runs yet.

        Args:
            open_asker: called in the event loop; the context lasts as long as the pool.
            workers: how many requests are asked at a time, 1 or more.
            slots: how many requests may be pulled and not yet consumed, at least `workers` to keep all busy.
            clock: how waits are waited.
        """
        self._open_asker, self._count, self._clock = open_asker, workers, clock
        self._slots = threading.Semaphore(slots)
        self._stop = threading.Event()
        self._halted = self._exhausted = False
        self._inbox: asyncio.Queue[Question | None] = asyncio.Queue()
        self._outbox: queue.SimpleQueue[Reply | BaseException | None] = queue.SimpleQueue()
        self._workers: list[asyncio.Task[None]] = []
        self._waiting, self._fed = 0, False
        self._problem: BaseException | None = None
        self._loop: asyncio.AbstractEventLoop

    def replies(self, requests: Iterable[Request]) -> Iterator[Reply]:
        """Yield replies as they complete.

        `requests` is iterated in a thread of its own. What it raises is raised here, after the replies to what it
        gave before; what a worker raises is raised here at once. Closing the generator cancels the workers.

        Raises:
            Detached: after `halt`, where there was more to ask.
        """
        self._loop = asyncio.new_event_loop()
        runner = threading.Thread(target=self._run, name="relabel-pool", daemon=True)
        feeder = threading.Thread(target=self._feed, args=(requests,), name="relabel-feeder", daemon=True)
        runner.start()
        feeder.start()
        try:
            while isinstance(item := self._outbox.get(), Reply):
                yield item
                self._slots.release()
        finally:
            self._stop.set()
            self._slots.release()
            self._call(self._cancel)
            runner.join()
            feeder.join(PATIENCE)
        ending = item or self._problem
        if ending is not None:
            raise ending
        if self._halted and not (self._exhausted and not self._waiting):
            raise Detached("stopped: what was sent is answered, and nothing else was sent")

    def halt(self) -> None:
        """Send nothing more; what was sent is still answered."""
        self._halted = True
        self._slots.release()

    def _feed(self, requests: Iterable[Request]) -> None:
        """Pull requests while there are slots."""
        try:
            pulled = iter(requests)
            for _ in self._permits():
                request = next(pulled, None)
                if request is None:
                    self._exhausted = True
                    break
                self._call(self._take, request)
        except BaseException as error:  # noqa: BLE001 - raised again in the caller's thread
            self._problem = error
        self._call(self._take, None)

    def _permits(self) -> Iterator[None]:
        while self._slots.acquire() and not (self._stop.is_set() or self._halted):
            yield

    def _run(self) -> None:
        """Run the event loop until the work is done, fails or is cancelled."""
        ending: BaseException | None = None
        try:
            with asyncio.Runner(loop_factory=lambda: self._loop) as runner:
                runner.run(self._work())
        except BaseException as error:  # noqa: BLE001 - raised again in the caller's thread
            ending = error
        while isinstance(ending, BaseExceptionGroup):
            ending = ending.exceptions[0]
        self._outbox.put(ending)

    # -- in the event loop -------------------------------------------------------------------------------

    async def _work(self) -> None:
        async with self._open_asker() as asker, asyncio.TaskGroup() as outer:
            watch = outer.create_task(self._watch(asker))
            async with asyncio.TaskGroup() as group:
                if not self._stop.is_set():
                    self._workers += [group.create_task(self._worker(asker)) for _ in range(self._count)]
            watch.cancel()

    async def _watch(self, asker: Asker) -> None:
        while True:
            await asyncio.sleep(TICK)
            if self._halted and not asker.sent:
                self._cancel()
                return
            asker.check(self._waiting)

    async def _worker(self, asker: Asker) -> None:
        while (question := await self._inbox.get()) is not None:
            answer = await asker.ask(question, lambda: self._halted)
            if isinstance(answer, Reply):
                self._outbox.put(answer)
                self._waiting -= 1
                self._end()
            elif answer is not None:
                self._clock.later(answer, self._inbox.put_nowait, question)
        self._inbox.put_nowait(None)  # for the next worker

    def _take(self, request: Request | None) -> None:
        """Take a request in, or None after the last one."""
        if request is None:
            self._fed = True
            self._end()
        else:
            self._waiting += 1
            self._inbox.put_nowait(Question(request))

    def _end(self) -> None:
        """Let the workers go once everything is answered."""
        if self._fed and not self._waiting:
            self._inbox.put_nowait(None)

    def _cancel(self) -> None:
        for worker in self._workers:
            worker.cancel()

    def _call(self, function: Callable[..., object], *arguments: object) -> None:
        """Call a function in the event loop, unless that is over."""
        with contextlib.suppress(RuntimeError):
            self._loop.call_soon_threadsafe(function, *arguments)
