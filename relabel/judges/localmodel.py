"""What the judges with a model of their own share: loading, cutting long texts, batches, and work committed in windows.

A result differs in its last bits with the batch it was computed in. So what is new is taken in windows by order of
first appearance, sorted by length within a window, and a window is committed whole: a killed run that goes on
computes the same batches as an unbroken one, wherever the work is done.
"""

import gc
import os
import sqlite3
import sys
import threading
from collections import deque
from collections.abc import Callable, Iterable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from pathlib import Path
from typing import Any, Final, TypeVar

from relabel.errors import MissingPart, SettingsError
from relabel.protocols import Spread

T = TypeVar("T")
R = TypeVar("R")

OVERLAP: Final = 4
LANES: Final = 8
"""Batches that a CPU works at at a time; each takes its own memory."""

CPU_TOKENS: Final = 256
"""What such a batch holds: more at a time takes longer on a CPU, since it falls out of its caches."""

COUNTED: Final = 256
"""Texts whose tokens are counted at a time."""

NO_MEMORY: Final = ("out of memory", "can't allocate memory", "not enough memory")


@contextmanager
def loading(what: str, model: str, hint: str) -> Iterator[None]:
    """Load a model without transformers' own progress bar, since the run has one, and say what went wrong.

    Raises:
        MissingPart: sentence-transformers is not installed.
        SettingsError: the model cannot be loaded.
    """
    # MKL then adds up in one order, whatever the number of threads; it reads this when it is first used
    os.environ.setdefault("MKL_CBWR", "AUTO,STRICT")
    try:
        import sentence_transformers  # noqa: F401 - whether it is there
        from transformers.utils import logging as untyped
    except ImportError as error:
        raise MissingPart("sentence-transformers", "embedding") from error
    logging: Any = untyped
    shown = logging.is_progress_bar_enabled()
    logging.disable_progress_bar()
    try:
        yield
    except (OSError, ValueError, RuntimeError, ImportError, AssertionError) as error:  # the last: no such device
        first = next(iter(str(error).strip().splitlines()), "") or type(error).__name__
        raise SettingsError(f"the {what} {model!r} cannot be loaded: {first}", hint=hint) from error
    finally:
        if shown:
            logging.enable_progress_bar()


@contextmanager
def within_memory(model: str, batch_size: int) -> Iterator[None]:
    """Say it in one line when the device has too little memory for a batch.

    Raises:
        SettingsError: it has.
    """
    try:
        yield
    except (RuntimeError, MemoryError) as error:
        if not isinstance(error, MemoryError) and not any(words in str(error).lower() for words in NO_MEMORY):
            raise
        raise SettingsError(
            f"the device has not enough memory for {model!r} with batches of {batch_size}",
            hint="lower batch_size, then the same command goes on where it was",
        ) from error


def give_back_memory() -> None:
    """Return to the device what a model that was let go held there: PyTorch would keep it for this process."""
    torch = sys.modules.get("torch")
    if torch is not None and torch.cuda.is_initialized():
        gc.collect()
        torch.cuda.empty_cache()


def whole(text: str) -> str:
    """Replace halves of surrogate pairs, which no tokenizer reads."""
    return text.encode("utf-16", "surrogatepass").decode("utf-16", "replace")


def cut(text: str, tokenizer: Any, size: int) -> list[str]:
    """Cut a text into windows of at most `size` tokens, each of which overlaps the next by a quarter; mostly one."""
    if len(text.encode()) <= size or not getattr(tokenizer, "is_fast", False):  # a token has a byte at the least
        return [text]
    spans = tokenizer(text, add_special_tokens=False, return_offsets_mapping=True, verbose=False)["offset_mapping"]
    if len(spans) <= size:
        return [text]
    starts = range(0, len(spans) - size // OVERLAP, size - size // OVERLAP)
    return [text[spans[start][0] : spans[min(start + size, len(spans)) - 1][1]] for start in starts]


def token_lengths(model: Any, texts: Sequence[str]) -> list[int]:
    """Return how many tokens a sentence-transformers model reads of each text; what it cuts off does not count."""
    limit, tokenizer = model.max_seq_length, model.tokenizer
    if not getattr(tokenizer, "is_fast", False):
        return [min(len(text) // 4, limit or len(text)) for text in texts]
    counted: list[int] = []
    for first in range(0, len(texts), COUNTED):
        some = list(texts[first : first + COUNTED])
        read = tokenizer(some, truncation=bool(limit), max_length=limit, return_attention_mask=False, verbose=False)
        counted += [len(tokens) for tokens in read["input_ids"]]
    return counted


def batches(lengths: Sequence[int], size: int) -> Iterator[list[int]]:
    """Yield places in batches of `size`, longest first; equals keep their order."""
    order = sorted(range(len(lengths)), key=lambda place: -lengths[place])
    for start in range(0, len(order), size):
        yield order[start : start + size]


def side_by_side(device: str, work: Callable[[T], R], items: Sequence[T]) -> Iterator[R]:
    """Apply a model's `work` to items, on a CPU several at a time; yield the results in the items' order.

    Small batches gain little from threads that share each of them: these wait for one another at every step, and for
    long where another process takes a core. A thread for each batch waits for nobody.
    """
    import torch

    threads = torch.get_num_threads()
    lanes = min(threads, LANES)
    if device != "cpu" or lanes == 1 or len(items) < 2:
        yield from map(work, items)
        return
    pool = ThreadPoolExecutor(lanes, "batch", torch.set_num_threads, (threads // lanes,))
    try:
        yield pool.submit(work, items[0]).result()  # alone: it loads and sets up what the others then only read
        yield from pool.map(work, items[1:])
    finally:
        pool.shutdown(cancel_futures=True)
        torch.set_num_threads(threads)


def in_windows(
    items: Iterable[T],
    size: int,
    *,
    key: Callable[[T], bytes],
    known: Callable[[bytes], bool],
    make: Callable[[], Callable[[tuple[T, ...]], R]],
    spread: Spread,
) -> Iterator[tuple[list[bytes], R]]:
    """Let `spread` work at what is not known yet; yield the keys and results of each window, in order.

    The caller commits a window before it asks for the next. A spread that looks ahead draws windows before others
    are committed, so what is scheduled is remembered: no item is worked at twice.
    """
    scheduled: deque[list[bytes]] = deque()
    pending: set[bytes] = set()

    def windows() -> Iterator[tuple[T, ...]]:
        window: dict[bytes, T] = {}
        for item in items:
            name = key(item)
            # first pending, then known: committed in between, an item is in the second
            if name in window or name in pending or known(name):
                continue
            window[name] = item
            if len(window) == size:
                yield schedule(window)
                window = {}
        if window:
            yield schedule(window)

    def schedule(window: dict[bytes, T]) -> tuple[T, ...]:
        pending.update(window)
        scheduled.append(list(window))
        return tuple(window.values())

    for results in spread(make, windows()):
        keys = scheduled.popleft()
        yield keys, results
        pending.difference_update(keys)


class Index:
    """A SQLite file that several threads read, each over a connection of its own."""

    def __init__(self, path: Path, *schema: str) -> None:
        path.parent.mkdir(parents=True, exist_ok=True)
        self._path = path
        self._local = threading.local()
        with self.connection as connection:
            for statement in schema:
                connection.execute(statement)

    @property
    def connection(self) -> sqlite3.Connection:
        """The connection of this thread; as a context, it commits."""
        connection: sqlite3.Connection | None = getattr(self._local, "connection", None)
        if connection is None:
            connection = self._local.connection = sqlite3.connect(self._path, check_same_thread=False)
            connection.execute("PRAGMA journal_mode = WAL")
        return connection
