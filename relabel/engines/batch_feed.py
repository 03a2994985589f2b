"""Where the requests of batches come from, and whether somebody wants to leave: both belong to other threads."""

import contextlib
import queue
import threading
import time
from collections.abc import Iterable
from typing import Final

from relabel.protocols import Request

PATIENCE: Final = 5.0
"""Seconds that leaving waits for the caller's own iterator, should that be blocked."""

_SLICE: Final = 0.1


class Leaving:
    """Whether somebody wants to leave, and how soon; asked for by another thread than the one that waits."""

    def __init__(self) -> None:
        self._at_once = threading.Event()
        self.asked = False

    def begin(self, *, at_once: bool) -> None:
        """Leave when everything is handed over, or now."""
        self.asked = True
        if at_once:
            self._at_once.set()

    @property
    def at_once(self) -> bool:
        """Whether nothing more shall be begun."""
        return self._at_once.is_set()

    def wait(self, seconds: float) -> None:
        """Wait so long, or until somebody wants to leave at once."""
        self._at_once.wait(max(0.0, seconds))


class Feed:
    """The requests, pulled in a thread of their own from `begin` on: one ahead, no more.

    Attributes:
        ended: whether all were given.
    """

    def __init__(self, requests: Iterable[Request], leaving: Leaving) -> None:
        self._requests, self._leaving = requests, leaving
        self._queue: queue.Queue[Request | None] = queue.Queue(maxsize=1)
        self._stop = threading.Event()
        self._problem: BaseException | None = None
        self.ended = False
        self._thread = threading.Thread(target=self._pull, name="relabel-feeder", daemon=True)

    def begin(self) -> None:
        """Pull from now on."""
        self._thread.start()

    def get(self, seconds: float) -> Request | None:
        """Return the next request; None when there is none within so many seconds, or ever (`ended`).

        Raises:
            BaseException: what the requests raised.
        """
        ends = time.monotonic() + seconds
        while not self.ended and not self._leaving.at_once:
            try:
                request = self._queue.get(timeout=min(_SLICE, max(0.0, ends - time.monotonic())))
            except queue.Empty:
                if time.monotonic() < ends:
                    continue
                break
            if request is not None:
                return request
            self.ended = True
            if self._problem is not None:
                raise self._problem
        return None

    def close(self) -> None:
        """Pull no more."""
        self._stop.set()
        if self._thread.is_alive():
            self._thread.join(PATIENCE)

    def _pull(self) -> None:
        try:
            for request in self._requests:
                if not self._put(request):
                    return
        except BaseException as error:  # noqa: BLE001 - raised again by the thread that asks for requests
            self._problem = error
        self._put(None)

    def _put(self, request: Request | None) -> bool:
        while not self._stop.is_set():
            with contextlib.suppress(queue.Full):
                self._queue.put(request, timeout=_SLICE)
                return True
        return False
