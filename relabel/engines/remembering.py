"""An engine around an engine that pays for nothing twice, and counts what is paid."""

import threading
from collections import deque
from collections.abc import Generator, Iterable, Iterator, Mapping
from dataclasses import asdict, dataclass
from typing import Any, Protocol, runtime_checkable

from relabel.protocols import Engine, Leaves, Reply, Reports, Request


class Memory(Protocol):
    """Where replies are kept; the run's store is one."""

    def reply_to(self, request: Request) -> Reply | None:
        """Return what was answered when exactly this was asked before."""
        ...

    def add_reply(self, reply: Reply) -> Reply:
        """Keep a reply; return it as it will be read again."""
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
    """

    asked: int = 0
    from_store: int = 0
    unanswered: int = 0
    without_usage: int = 0
    tokens_in: int = 0
    tokens_out: int = 0
    tokens_cached: int = 0
    seconds: float = 0.0

    def add(self, reply: Reply) -> None:
        """Count one fresh reply."""
        usage = reply.usage
        self.asked += 1
        self.unanswered += reply.text is None
        self.without_usage += not reply.retryable and (usage.tokens_in is None or usage.tokens_out is None)
        self.tokens_in += usage.tokens_in or 0
        self.tokens_out += usage.tokens_out or 0
        self.tokens_cached += usage.tokens_cached or 0
        self.seconds += usage.seconds or 0.0

    def as_dict(self) -> dict[str, int | float]:
        """Return the counts by name."""
        return asdict(self)


class Remembering:
    """An engine around an engine: asks only what the store does not hold, and keeps what comes.

    The same question asked twice at once is asked once. Kept is what was paid for: what came with HTTP status 200 and
    holds something, refusals, cut-off and unreadable answers too. All else (`retryable`) is not, so that a later run
    asks again: a request that the server rejects today may be right when the server or the settings are mended.
    """

    def __init__(self, engine: Engine, store: Memory, *, lookahead: int = 256) -> None:
        self._engine, self._store, self._lookahead = engine, store, lookahead
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
        finally:
            line.stop()
            worker.join()

    def _unknown(self, requests: Iterable[Request], twins: "_Twins", line: "_Line") -> Iterator[Request]:
        """Pass on what must be asked; send on at once what the store knows."""
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
            else:
                yield request

    def _work(self, requests: Iterable[Request], line: "_Line") -> None:
        twins = _Twins()
        answers: Iterator[Reply] = iter(())
        try:
            answers = self._engine.answer(self._unknown(requests, twins, line))
            for answered in answers:
                reply = answered if answered.retryable else self._store.add_reply(answered)
                self.spending.add(reply)
                line.put(reply)
                for twin in twins.of(reply.request):
                    line.put(_for_twin(reply, twin))
                if line.stopped:
                    break
            line.put(None)
        except BaseException as error:  # noqa: BLE001 - handed to the consumer, who raises it
            line.put(error)
        finally:
            if isinstance(answers, Generator):
                answers.close()


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
