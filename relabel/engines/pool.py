"""Workers of an event loop behind an ordinary generator: the only place where asyncio meets the rest of relabel."""

import asyncio
import contextlib
import queue
import threading
from collections.abc import Awaitable, Callable, Iterable, Iterator
from contextlib import AbstractAsyncContextManager
from typing import Final

from relabel.protocols import Reply, Request

Ask = Callable[[Request], Awaitable[Reply]]
"""Gives the reply to one request; what it raises ends the run."""

PATIENCE: Final = 5.0
"""Seconds that closing early waits for the caller's own iterator, should that be blocked."""


class Pool:
    """A pool of workers that take requests from one thread and hand the replies to another.

    A slot is taken before a request is pulled and given back when its reply has been consumed: the slots bound
    every queue, so that no queue needs a bound of its own. A pool is used once.
    """

    def __init__(self, open_ask: Callable[[], AbstractAsyncContextManager[Ask]], *, workers: int, slots: int) -> None:
        """Prepare a pool; nothing runs yet.

        Args:
            open_ask: called in the event loop; the context lasts as long as the pool.
            workers: how many requests are asked at a time, 1 or more.
            slots: how many requests may be pulled and not yet consumed, at least `workers` to keep all busy.
        """
        self._open_ask, self._count = open_ask, workers
        self._slots = threading.Semaphore(slots)
        self._stop = threading.Event()
        self._inbox: asyncio.Queue[Request | None] = asyncio.Queue()
        self._outbox: queue.SimpleQueue[Reply | BaseException | None] = queue.SimpleQueue()
        self._workers: list[asyncio.Task[None]] = []
        self._problem: BaseException | None = None
        self._loop: asyncio.AbstractEventLoop

    def replies(self, requests: Iterable[Request]) -> Iterator[Reply]:
        """Yield replies as they complete.

        `requests` is iterated in a thread of its own. What it raises is raised here, after the replies to what it
        gave before; what a worker raises is raised here at once. Closing the generator cancels the workers.
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

    def _feed(self, requests: Iterable[Request]) -> None:
        """Pull requests while there are slots."""
        try:
            for _, request in zip(self._permits(), requests, strict=False):
                self._call(self._inbox.put_nowait, request)
        except BaseException as error:  # noqa: BLE001 - raised again in the caller's thread
            self._problem = error
        self._call(self._inbox.put_nowait, None)

    def _permits(self) -> Iterator[None]:
        while self._slots.acquire() and not self._stop.is_set():
            yield

    def _run(self) -> None:
        """Run the event loop until the work is done, fails or is cancelled."""
        ending: BaseException | None = None
        try:
            with asyncio.Runner(loop_factory=lambda: self._loop) as runner:
                runner.run(self._work())
        except BaseExceptionGroup as group:
            ending = group.exceptions[0]
        except BaseException as error:  # noqa: BLE001 - raised again in the caller's thread
            ending = error
        self._outbox.put(ending)

    async def _work(self) -> None:
        async with self._open_ask() as ask, asyncio.TaskGroup() as group:
            if not self._stop.is_set():
                self._workers += [group.create_task(self._worker(ask)) for _ in range(self._count)]

    async def _worker(self, ask: Ask) -> None:
        while (request := await self._inbox.get()) is not None:
            self._outbox.put(await ask(request))
        self._inbox.put_nowait(None)  # for the next worker

    def _call(self, function: Callable[..., object], *arguments: object) -> None:
        """Call a function in the event loop, unless that is over."""
        with contextlib.suppress(RuntimeError):
            self._loop.call_soon_threadsafe(function, *arguments)

    def _cancel(self) -> None:
        for worker in self._workers:
            worker.cancel()
