"""An engine around an engine that pays for nothing twice, and counts what is paid."""

import threading
from collections import deque
from collections.abc import Callable, Generator, Iterable, Iterator, Mapping
from contextlib import suppress
from dataclasses import asdict, dataclass, replace
from typing import Any, Protocol, runtime_checkable
from uuid import uuid4

from relabel.engines.budget import Budget, Charge, Meter, Till
from relabel.errors import ServiceError
from relabel.money import NOTHING, Amount, Bill
from relabel.protocols import Engine, Lasts, Leaves, Reply, Reports, Request, Sends


class Memory(Protocol):
    """Where replies are kept; the run's store is one."""

    def reply_to(self, request: Request) -> Reply | None:
        """Return what was answered when exactly this was asked before."""
        ...

    def add_reply(self, reply: Reply) -> Reply:
        """Keep a reply; return it as it will be read again."""
        ...

    def note_bill(self, key: str, stage: str, model: str, bill: Callable[[], Bill]) -> None:
        """Keep soon what a stage's requests took so far, in place of what was kept under this key before.

        `bill` is called in another thread, before any reply is kept that is handed over after this.
        """
        ...


@runtime_checkable
class Doubting(Protocol):
    """An engine that gives up a service which has never answered; it must hear of the answers that are in the store."""

    def vouch(self) -> None:
        """Hear that the service has answered before."""
        ...


@dataclass(slots=True)
class Spending:
    """What one stage's replies cost in this execution; tokens as the server counted them.

    Attributes:
        asked, from_store: fresh replies, and those that the store held.
        unanswered: fresh replies without text.
        without_usage: fresh replies that were paid for (all that are kept) and came without a count of tokens.
        tokens_in, tokens_out, tokens_cached: of the fresh replies that came with one.
        seconds: the sum over fresh replies of the time that each took, many at once.
        not_kept: fresh replies that were paid for and held nothing, hence are asked again.
        possibly_billed: requests that were sent and brought nothing to read: nobody knows whether they were paid for.
        estimated_in, estimated_out: tokens of the counted replies, as they were estimated before they were asked.
        counted: fresh replies that came with a count of tokens.
        charged: what these took; `guessed`: an estimate for those without; `lost`: one for what is possibly billed.
    """

    asked: int = 0
    from_store: int = 0
    unanswered: int = 0
    without_usage: int = 0
    tokens_in: int = 0
    tokens_out: int = 0
    tokens_cached: int = 0
    seconds: float = 0.0
    not_kept: int = 0
    possibly_billed: int = 0
    estimated_in: int = 0
    estimated_out: int = 0
    counted: int = 0
    charged: Amount = NOTHING
    guessed: Amount = NOTHING
    lost: Amount = NOTHING

    def add(self, reply: Reply, charge: Charge) -> None:
        """Count one fresh reply, and what it took."""
        usage = reply.usage
        counts = not (reply.unasked and reply.unsure)  # else it stands for an attempt at what is asked again
        self.asked += counts
        self.unanswered += counts and reply.text is None
        self.without_usage += not reply.retryable and (usage.tokens_in is None or usage.tokens_out is None)
        if charge.counted is not None:
            self.tokens_in += usage.tokens_in or 0
            self.tokens_out += usage.tokens_out or 0
            self.tokens_cached += usage.tokens_cached or 0
        self.seconds += usage.seconds or 0.0
        self.counted += charge.counted is not None
        self.not_kept += reply.retryable and charge.counted is not None
        self.possibly_billed += charge.lost
        self.estimated_in, self.estimated_out = [
            old + new for old, new in zip((self.estimated_in, self.estimated_out), charge.estimate, strict=True)
        ]
        self.charged += charge.counted or NOTHING
        self.guessed += charge.guessed
        self.lost += charge.lost_amount

    @property
    def kept(self) -> int:
        """Fresh replies that were paid for."""
        return self.counted + self.without_usage

    def as_dict(self) -> dict[str, int | float]:
        """Return the counts by name; what they cost stands in the bill."""
        return {name: count for name, count in asdict(self).items() if not isinstance(count, dict)}

    def bill(self, *, priced: bool, in_flight: tuple[int, Amount] = (0, NOTHING)) -> Bill:
        """Return the bill so far; what is in flight is possibly billed, should this process end now."""
        count, reserved = in_flight
        lost = self.lost + reserved
        return Bill(
            self.asked, self.not_kept, self.counted, self.without_usage,
            self.tokens_in, self.tokens_out, self.tokens_cached, self.charged.pico if priced else None,
            self.guessed.tokens, self.guessed.pico, self.possibly_billed + count, lost.tokens, lost.pico,
        )  # fmt: skip


class Remembering:
    """An engine around an engine: asks only what the store does not hold, and keeps what comes.

    The same question asked twice at once is asked once. Kept is what was paid for: what came with HTTP status 200 and
    holds something, refusals, cut-off and unreadable answers too. All else (`retryable`) is not, so that a later run
    asks again: a request that the server rejects today may be right when the server or the settings are mended.

    A request for which the budget has no room is put back: no further one is asked, and those in flight are waited for.
    Where they left room after all, asking goes on; else the consumer gets their replies, then BudgetReached.

    Args:
        engine: who is asked.
        store: where replies and bill are kept.
        lookahead: how many replies may wait for the consumer before no more is asked.
        meter: what a request is expected to take.
        budget: what may be spent; several engines may share it.
    """

    def __init__(
        self,
        engine: Engine,
        store: Memory,
        *,
        lookahead: int = 256,
        meter: Meter | None = None,
        budget: Budget | None = None,
    ) -> None:
        self._engine, self._store, self._lookahead = engine, store, lookahead
        self._meter = meter or Meter()
        self._till = Till(self._meter, budget or Budget(), tells=isinstance(engine, Sends))
        self._key, self._adding = uuid4().hex, threading.Lock()
        self._fetched_later = isinstance(engine, Lasts)  # what is in flight when this ends is no loss
        if isinstance(engine, Sends):
            engine.on_send(self._sending)
        self.spending = Spending()

    @property
    def identity(self) -> Mapping[str, Any]:
        """The inner engine's."""
        return self._engine.identity

    def report(self) -> Mapping[str, Any]:
        """The inner engine's, if it has one."""
        return self._engine.report() if isinstance(self._engine, Reports) else {}

    def leave(self, *, at_once: bool) -> None:
        """Have the inner engine leave, if it can be left."""
        if isinstance(self._engine, Leaves):
            self._engine.leave(at_once=at_once)

    def answer(self, requests: Iterable[Request]) -> Iterator[Reply]:
        """Yield a reply for every request, from the store or from the engine, in any order.

        The engine works in a thread of its own and known replies pass it by: a million known replies neither
        pile up behind a slow unknown one nor starve it. A fresh reply is in the store before it is yielded, and never
        waits for the consumer to get there: the look-ahead bounds what is asked, not what is received.
        """
        line = _Line(self._lookahead)
        worker = threading.Thread(target=self._work, args=(requests, line), name="relabel-engine", daemon=True)
        worker.start()
        try:
            yield from line
        except BaseException:  # Ctrl-C too: the worker may be waiting for a batch that takes a day
            self.leave(at_once=True)
            raise
        finally:
            line.stop()
            worker.join()

    def _unknown(
        self, requests: Iterator[Request], twins: "_Twins", line: "_Line", put_back: list[Request]
    ) -> Iterator[Request]:
        """Pass on what must be asked; send on at once what the store knows; end where the budget has no room."""
        if put_back:
            if known := self._store.reply_to(put_back[0]):  # a batch has brought it meanwhile
                twins.of(put_back.pop())
                line.put(known)
            elif not self._take(put_back[0]):
                return
            else:
                yield put_back.pop()
        for request in requests:
            if not line.has_room():
                return
            if twins.joins(request):
                continue
            if known := self._store.reply_to(request):
                twins.of(request)
                if not self.spending.from_store and isinstance(self._engine, Doubting):
                    self._engine.vouch()
                self.spending.from_store += 1
                line.put(known)
            elif self._take(request):
                yield request
            else:
                put_back.append(request)
                return

    def _work(self, requests: Iterable[Request], line: "_Line") -> None:
        twins, pulled = _Twins(), iter(requests)
        put_back: list[Request] = []
        try:
            self._round(self._unknown(pulled, twins, line, put_back), twins, line)
            while put_back and not line.stopped:
                if self._store.reply_to(put_back[0]) is None:
                    self._till.wait(put_back[0], lambda: line.stopped)
                self._round(self._unknown(pulled, twins, line, put_back), twins, line)
            line.put(None)
        except BaseException as error:  # noqa: BLE001 - handed to the consumer, who raises it
            refused = isinstance(error, ServiceError) and not self.spending.kept
            self._give_up(paid=not refused)
            line.put(error)
        else:
            self._give_up()

    def _give_up(self, *, paid: bool = True) -> None:
        """Wait no more for what is in flight, if the run was stopped: it may have been `paid` for."""
        with self._adding:
            count, amount = self._till.release()
            if not count or not paid or self._fetched_later:
                return
            self.spending.possibly_billed += count
            self.spending.lost += amount
        with suppress(Exception):  # closed by the run meanwhile, or broken: then whoever wrote last is told
            self._note()

    def _round(self, unknown: Iterator[Request], twins: "_Twins", line: "_Line") -> None:
        """Ask until there is no more to be asked, or no room in the budget; take in every reply to it."""
        answers: Iterator[Reply] = iter(())
        try:
            answers = self._engine.answer(unknown)
            for answered in answers:
                reply = self._take_in(answered)
                if not answered.unasked:
                    line.put(reply)
                    for twin in twins.of(reply.request):
                        line.put(_for_twin(reply, twin))
                if line.stopped:
                    break
        finally:
            if isinstance(answers, Generator):
                answers.close()

    def _take_in(self, answered: Reply) -> Reply:
        """Put a reply on the bill, and in the store; what a batch brought before is there."""
        if self._fetched_later and not answered.retryable and (known := self._store.reply_to(answered.request)):
            if not answered.unasked:
                with self._adding:
                    self._till.give_back(answered.request)
                    self.spending.from_store += 1
            return known
        with self._adding:
            self.spending.add(answered, self._till.settle(answered))
        self._note()  # before the reply: what is paid for is never kept without being billed
        return answered if answered.retryable else self._store.add_reply(replace(answered, unasked=False))

    def _take(self, request: Request) -> bool:
        """Reserve what a request will take, if it is within the budget, and note that it is in flight."""
        taken = self._till.take(request)
        if taken:
            self._note()
        return taken

    def _sending(self, request: Request, unsure: int) -> bool:
        """Note that a request is sent now, if there may be one more attempt at it."""
        may = self._till.send(request.address, unsure)
        with suppress(Exception):  # a broken store: the thread that keeps the replies is told
            self._note()
        return may

    def _note(self) -> None:
        self._store.note_bill(self._key, self._meter.stage, self._meter.model, self._bill)

    def _bill(self) -> Bill:
        with self._adding:
            lost = (0, NOTHING) if self._fetched_later else self._till.in_flight()
            return self.spending.bill(priced=self._meter.price is not None, in_flight=lost)


class _Twins:
    """Who waits for the answer to a question that somebody else is asking just now; at home in two threads."""

    def __init__(self) -> None:
        self._waiting: dict[str, list[Request]] = {}
        self._lock = threading.Lock()

    def joins(self, request: Request) -> bool:
        """Whether the same question is already being asked; if not, this request is the one that asks it."""
        with self._lock:
            if request.address in self._waiting:
                self._waiting[request.address].append(request)
                return True
            self._waiting[request.address] = []
            return False

    def of(self, request: Request) -> list[Request]:
        """Return those who waited; from now on the question is not being asked."""
        with self._lock:
            return self._waiting.pop(request.address, [])


class _Line:
    """A queue that takes everything, a mark above which no more should be asked, and a consumer who may leave."""

    def __init__(self, mark: int) -> None:
        self._items: deque[Reply | BaseException | None] = deque()
        self._mark = mark
        self._changed = threading.Condition()
        self.stopped = False

    def put(self, item: Reply | BaseException | None) -> None:
        with self._changed:
            self._items.append(item)
            self._changed.notify_all()

    def has_room(self) -> bool:
        """Wait until fewer than `mark` items wait; False when the consumer has left."""
        with self._changed:
            self._changed.wait_for(lambda: self.stopped or len(self._items) < self._mark)
            return not self.stopped

    def stop(self) -> None:
        with self._changed:
            self.stopped = True
            self._changed.notify_all()

    def __iter__(self) -> Iterator[Reply]:
        while True:
            with self._changed:
                self._changed.wait_for(lambda: self._items)
                item = self._items.popleft()
                self._changed.notify_all()
            if item is None:
                return
            if isinstance(item, BaseException):
                raise item
            yield item


def _for_twin(reply: Reply, twin: Request) -> Reply:
    """The same answer for another asker of the same question, whose candidates may go by other ids."""
    own = dict(zip(reply.request.candidate_ids, twin.candidate_ids, strict=True))
    ids = tuple(own.get(name, name) for name in reply.candidate_ids)
    return Reply(
        twin, reply.text, reply.failure, reply.detail, reply.finish_reason, reply.model, reply.probabilities,
        candidate_ids=ids, retryable=reply.retryable,
    )  # fmt: skip
