"""How a command is stopped from outside: Ctrl-C, SIGTERM (a scheduler, `kill`), a terminal that is closed.

All of them end it alike: no new requests, what is in flight is waited for and kept, then one line says which command
goes on. The exit code is 128 and the signal's number, as shells count: 130 after Ctrl-C, 143 after SIGTERM, 129 after a
closed terminal.
"""

import os
import signal
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from types import FrameType
from typing import Final

from relabel.errors import BudgetReached, Detached

INTERRUPTED: Final = 130

_OTHERS: Final = tuple(
    getattr(signal, name) for name in ("SIGTERM", "SIGHUP") if hasattr(signal, name)
)  # Windows knows no SIGHUP


def heed(heard: list[int]) -> None:
    """Let other signals stop this process as Ctrl-C does; those that come are noted in `heard`.

    One that is ignored (nohup) or that the caller answers already stays as it is. A process forked off dies of it.
    """
    own = os.getpid()

    def stop(number: int, frame: FrameType | None) -> None:  # noqa: ARG001 - the shape of a handler
        if os.getpid() != own:
            signal.signal(number, signal.SIG_DFL)
            os.kill(os.getpid(), number)
            return
        heard.append(number)
        raise KeyboardInterrupt

    for number in _OTHERS:
        if signal.getsignal(number) is signal.SIG_DFL:
            signal.signal(number, stop)


def code_of(heard: list[int]) -> int:
    """Return the exit code of a process that was stopped."""
    return 128 + heard[-1] if heard else INTERRUPTED


@contextmanager
def announced(say: Callable[[str], None]) -> Iterator[None]:
    """Say at once what the first signal waits for; all else is as it was."""
    from relabel.stages import GRACE

    before = {number: signal.getsignal(number) for number in (signal.SIGINT, *_OTHERS)}

    def answer(number: int, frame: FrameType | None) -> None:
        for each in heeded:
            signal.signal(each, before[each])
        with suppress(OSError):  # the terminal may be gone
            say(f"stopping: waiting up to {GRACE:.0f} s for answers in flight (Ctrl-C again to leave now)")
        handler = before[number]
        if callable(handler):
            handler(number, frame)

    heeded = [number for number, handler in before.items() if callable(handler)]  # else ignored, or not ours to answer
    try:
        for number in heeded:
            signal.signal(number, answer)
        yield
    finally:
        for number in heeded:
            signal.signal(number, before[number])


@contextmanager
def naming_batches(folder: Path, say: Callable[[str], None]) -> Iterator[None]:
    """Say, however a run in this folder ends, which batches it leaves under way; some ends say it in their message."""
    from relabel.engines.batch_ledger import BATCH_FOLDER
    from relabel.engines.batch_left import left_under_way

    try:
        yield
    except (BudgetReached, Detached):
        raise
    except BaseException:
        with suppress(OSError):  # the terminal may be gone
            for left in left_under_way(folder / BATCH_FOLDER):
                say(f"{left}; these are billed when they are answered, and the same command comes back to them")
        raise
    for left in left_under_way(folder / BATCH_FOLDER):
        say(f"{left} that nobody asks for now; these are billed when they are answered, and the next run takes them in")


def open_standard_streams() -> None:
    """Give a process that was started without stdin, stdout or stderr the null device in their place.

    Else the next files that are opened take their numbers, and what a library writes to stderr goes into the results.
    """
    while (number := os.open(os.devnull, os.O_RDWR)) < 3:
        os.set_inheritable(number, True)  # noqa: FBT003 - takes no keyword
    os.close(number)
