"""The judging of a run: each stage in a thread of its own, joined to the next by a bounded queue.

A stage takes its cases from the one before as they come, asks its judge about those pairs that are due, keeps what
the judge said and sends the case on; the API stage works while the local one is still going. The first
exception stops all of them.
"""

import math
import queue
import threading
import time
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass, replace
from typing import Final

from relabel.cascade import Stage, Standing, start, step
from relabel.errors import BudgetReached, Detached, SettingsError
from relabel.protocols import Judge, Leaves
from relabel.records import LABELS, Case, Judgment, Label
from relabel.store import Store

CHUNK: Final = 32
CHUNKS: Final = 8
PATIENCE: Final = 0.05
GRACE: Final = 10.0
"""Seconds for what is in flight when a run stops early: an answer that comes by then is kept, as it is paid for."""

_LABELS: Final[frozenset[Label | None]] = frozenset((*LABELS, None))

Watch = Callable[[str, int, int], None]
"""Told (stage, pairs asked about, pairs that passed by or were judged) as work goes on, from the stages' threads."""


@dataclass(frozen=True, slots=True)
class Station:
    """One stage as it runs: its routing, its judge, and the judge's number in the store."""

    stage: Stage
    judge: Judge
    number: int


@dataclass(slots=True)
class _Traveller:
    case: Case
    standing: Standing


class _Stopped(Exception):  # noqa: N818 - never leaves this module
    """Another stage failed, or the run was interrupted."""


class _Belt:
    """A queue of chunks of travellers, bounded; everyone at it wakes up when the run stops.

    A judge may take its cases in another thread than it gives them back: then both send on here.
    """

    def __init__(self, stop: threading.Event) -> None:
        self._queue: queue.Queue[list[_Traveller] | None] = queue.Queue(maxsize=CHUNKS)
        self._stop = stop
        self._chunk: list[_Traveller] = []
        self._sent = 0.0
        self._lock = threading.Lock()

    def put(self, traveller: _Traveller) -> None:
        """Send on; a quick stage fills chunks, a slow one sends each case at once."""
        with self._lock:
            self._chunk.append(traveller)
            if len(self._chunk) >= CHUNK or time.monotonic() - self._sent > PATIENCE:
                self._flush()

    def _flush(self) -> None:
        if self._chunk:
            self._put(self._chunk)
            self._chunk = []
            self._sent = time.monotonic()

    def close(self) -> None:
        with self._lock:
            self._flush()
        self._put(None)

    def _put(self, chunk: list[_Traveller] | None) -> None:
        """Hand over; in vain once the run stops, when a stage still takes in what is in flight."""
        while not self._stop.is_set():
            try:
                self._queue.put(chunk, timeout=0.1)
            except queue.Full:
                continue
            return

    def __iter__(self) -> Iterator[_Traveller]:
        while True:
            try:
                chunk = self._queue.get(timeout=0.1)
            except queue.Empty:
                if self._stop.is_set():
                    raise _Stopped from None
                with self._lock:  # nothing else to do: take what the stage before has begun to collect
                    chunk, self._chunk = self._chunk, []
            if chunk is None:
                return
            yield from chunk


def judge_all(cases: Iterable[Case], stations: Sequence[Station], store: Store, seed: int, watch: Watch) -> None:
    """Send all cases through all stages; every judgment is in the store when this returns.

    Raises:
        Detached: batches are under way, and all that could be judged meanwhile is.
        Exception: the first one of any stage, once all threads have ended, or after GRACE; KeyboardInterrupt likewise.
        BudgetReached: once every request in flight has been answered, however long that takes.
    """
    stop = threading.Event()
    errors: list[BaseException] = []
    belts = [_Belt(stop) for _ in stations[1:]]
    source: Iterable[_Traveller] = (_Traveller(case, start(case)) for case in cases)
    threads: list[_Thread] = []
    for index, station in enumerate(stations):
        inbox = source if index == 0 else belts[index - 1]
        outbox = belts[index] if index < len(belts) else None
        work = _Work(index, [each.stage for each in stations], station, store, seed, watch)
        threads.append(_Thread(f"relabel-{station.stage.name}", work, inbox, outbox, stop, errors))
        threads[-1].start()
    try:
        _wait(threads, stop, errors)
    except BaseException:
        stop.set()
        _wait(threads, stop, ())
        raise
    left = [error for error in errors if isinstance(error, Detached)]
    if len(errors) > len(left):
        raise next(error for error in errors if not isinstance(error, Detached))
    store.flush()
    if left:
        raise Detached("; ".join(each.message for each in left))


def _wait(threads: "Sequence[_Thread]", stop: threading.Event, errors: Sequence[BaseException]) -> None:
    """Wait until all threads have ended, or for GRACE after the run was stopped by other than its budget."""
    ends, leaving = math.inf, False
    while (going := [thread for thread in threads if not thread.ended.is_set()]) and time.monotonic() < ends:
        going[0].ended.wait(timeout=0.1)
        if stop.is_set() and not leaving:
            leaving = True
            within = bool(errors) and isinstance(errors[0], BudgetReached)  # what stages have taken in, the limit holds
            for thread in going:
                thread.leave(at_once=not within)
            if not within:
                ends = time.monotonic() + GRACE
    for thread in threads:
        if thread.ended.is_set():
            thread.join()


class _Thread(threading.Thread):
    """One stage at work.

    `ended` is there to be waited for: up to Python 3.12, Ctrl-C during `join` makes a running thread look dead.
    """

    def __init__(
        self,
        name: str,
        work: "_Work",
        inbox: Iterable[_Traveller],
        outbox: _Belt | None,
        stop: threading.Event,
        errors: list[BaseException],
    ) -> None:
        super().__init__(name=name, daemon=True)
        self._work, self._inbox, self._outbox, self._stop_run, self._errors = work, inbox, outbox, stop, errors
        self.ended = threading.Event()

    def leave(self, *, at_once: bool) -> None:
        """Wait for no service that works on by itself; `at_once`, ask no service anything more."""
        self._work.leave(at_once=at_once)

    def run(self) -> None:
        try:
            try:
                self._work.run(self._inbox, self._outbox, self._stop_run)
            except Detached as left:
                self._errors.append(left)
            if self._outbox is not None:
                self._outbox.close()
        except _Stopped:
            pass
        except BaseException as error:  # noqa: BLE001 - raised again by the main thread
            self._errors.append(error)
            self._stop_run.set()
        finally:
            self.ended.set()


class _Work:
    """What one stage does."""

    def __init__(
        self, index: int, stages: Sequence[Stage], station: Station, store: Store, seed: int, watch: Watch
    ) -> None:
        self._index, self._stages, self._station = index, stages, station
        self._store, self._seed, self._watch = store, seed, watch
        self._asked: dict[int, _Traveller] = {}
        self._passed = 0

    def leave(self, *, at_once: bool) -> None:
        if isinstance(self._station.judge, Leaves):
            self._station.judge.leave(at_once=at_once)

    def run(self, inbox: Iterable[_Traveller], outbox: _Belt | None, stop: threading.Event) -> None:
        judged: list[Case] = []
        last = time.monotonic()
        try:
            for case in self._station.judge.judge(self._due(inbox, outbox, stop)):
                traveller = self._checked(case)
                self._passed += len(traveller.case.pairs)
                judged.append(case)
                if outbox is not None:
                    traveller.standing = self._step(traveller, case)
                    outbox.put(traveller)
                if len(judged) >= CHUNK or time.monotonic() - last > PATIENCE:
                    self._keep(judged)
                    judged, last = [], time.monotonic()
        except (BudgetReached, Detached, _Stopped):  # what is judged until then is counted
            self._keep(judged)
            raise
        self._keep(judged)
        if self._asked:
            raise RuntimeError(f"the judge of stage {self._station.stage.name} lost {len(self._asked)} cases")

    def _checked(self, case: Case) -> _Traveller:
        """Return whose case this is, if the judge kept to what a judge does."""
        traveller = self._asked.pop(case.number, None)
        problem = ""
        if traveller is None:
            problem = "gave a case back that it was not asked about, or twice"
        elif len(case.judgments) != len(case.pairs):
            problem = f"gave {len(case.judgments)} judgments for {len(case.pairs)} pairs of query {case.example.id}"
        elif strange := {word.label for word in case.judgments} - _LABELS:
            problem = f"said {strange.pop()!r} of a pair of query {case.example.id}, which is no label"
        if traveller is None or problem:
            raise SettingsError(
                f"the judge of stage {self._station.stage.name} {problem}",
                hint="a judge yields every case once, as case.judged((Judgment(...), ...)), in the order of its pairs",
            )
        return traveller

    def _due(self, inbox: Iterable[_Traveller], outbox: _Belt | None, stop: threading.Event) -> Iterator[Case]:
        """Yield the cases with pairs that are due here; the others pass by."""
        for traveller in inbox:
            if stop.is_set():
                raise _Stopped
            case, due = traveller.case, traveller.standing.due
            pairs = case.pairs if all(due) else tuple([pair for pair, why in zip(case.pairs, due, strict=True) if why])
            if pairs:
                self._asked[case.number] = traveller
                opinions = frozenset([pair.key for pair, why in zip(case.pairs, due, strict=True) if why == "sampled"])
                yield replace(case, pairs=pairs, opinions=opinions) if opinions or pairs is not case.pairs else case
                continue
            self._passed += len(case.pairs)
            if outbox is not None:
                traveller.standing = self._step(traveller, replace(case, pairs=()))
                outbox.put(traveller)

    def _step(self, traveller: _Traveller, judged: Case) -> Standing:
        words: list[Judgment | None] = [None] * len(traveller.case.pairs)
        for pair, word in zip(judged.pairs, judged.judgments, strict=True):
            words[pair.index] = word
        return step(self._stages, self._index, traveller.case, traveller.standing, words, self._seed)

    def _keep(self, judged: list[Case]) -> None:
        if judged:
            self._store.add_judgments(self._station.number, judged)
        passed, self._passed = self._passed, 0
        self._watch(self._station.stage.name, sum(len(case.pairs) for case in judged), passed)
