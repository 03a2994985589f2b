"""The two seams of relabel: a Judge is what is asked, an Engine is who answers.

Both pull lazily and yield in any order as work completes; how far they look ahead is their own, bounded
business and is the back-pressure. Neither knows the other's insides.
"""

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Final, Literal, Protocol, TypeVar, runtime_checkable

from relabel.records import NOTHING, Case, Example

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

Role = Literal["query", "document"]
"""As what a text is embedded: models have a prompt for each."""

REASONED: Final = "#rationale"
"""What follows the template's name in a request that asks why a pair was flagged, after the verdict."""

MOST_TOKENS: Final = 10**9
"""More than any model reads or writes at a time: a count above it is none, and so is such a setting."""

T = TypeVar("T")
R = TypeVar("R")


@dataclass(frozen=True, slots=True)
class Message:
    """One turn of a chat prompt; `role` is "system" or "user"."""

    role: str
    content: str


@dataclass(frozen=True, slots=True)
class Request:
    """One question to a model.

    Attributes:
        address: digest (hex) of what is really asked: messages, reply form, model, sampling.
        messages: the rendered prompt.
        choices: when not empty, the answer must be one of these strings, and its probability is wanted.
        schema: when given, the answer must be JSON of this schema.
        form: what the schema is called where a server wants a name for it. No part of the address.
        judge, template, query_id, candidate_ids: whom the question concerns. For recorded replies, logs and
            errors; no part of the address. `candidate_ids` stand in the order in which the prompt shows them.
        ticket: the asker's own mark; comes back with the reply.
        shares: the same mark on all requests that begin alike, at a length that a provider's cache may keep; "" where
            none does. No part of the address.
    """

    address: str
    messages: tuple[Message, ...]
    choices: tuple[str, ...] = ()
    schema: Mapping[str, Any] | None = None
    judge: str = ""
    template: str = ""
    query_id: str = ""
    candidate_ids: tuple[str, ...] = ()
    ticket: int = 0
    shares: str = ""
    form: str = "verdicts"


@dataclass(frozen=True, slots=True)
class Usage:
    """What the server says it counted; None where it does not say. Tokens; seconds.

    `tokens_cached` and `tokens_stored` are those of `tokens_in` that came from the server's cache, and that went into
    it; what a model thought before it answered is part of `tokens_out`.
    """

    tokens_in: int | None = None
    tokens_out: int | None = None
    tokens_cached: int | None = None
    seconds: float | None = None
    tokens_stored: int | None = None


@dataclass(frozen=True, slots=True)
class Reply:
    """The answer to one request, or why there is none.

    Attributes:
        request: what it answers.
        text: the answer as it came; None when `failure` says why there is none.
        failure: "" or the reason as it will stand in the judgment: "refused", "filtered", "cut off", "too long",
            "failed", "no recording". A cut-off answer keeps its text and has `failure="cut off"`.
        detail: one line for people: the error's own words, without keys and without the prompt.
        probabilities: for choices, probability of each choice (sums to at most 1); empty where unknown.
        candidate_ids: the candidates in the order that `text` numbers them, when it is not the request's order (a
            recorded group reply that is replayed for a part of its group).
        retryable: True when nothing was answered that was paid for: every failure without an HTTP status 200, and a
            200 that holds nothing. Such a reply is not kept, so that a resume asks again.
        unsure: attempts at it that were sent and brought nothing to read: nobody knows whether they were paid for.
        unasked: True when nobody asks for it now, as an earlier execution did or an attempt was in vain: it belongs on
            the bill and, when it was paid for and holds something, in the store.
    """

    request: Request
    text: str | None
    failure: str = ""
    detail: str = ""
    finish_reason: str = ""
    model: str = ""
    probabilities: Mapping[str, float] = field(default_factory=lambda: NOTHING)
    usage: Usage = Usage()
    candidate_ids: tuple[str, ...] = ()
    retryable: bool = False
    unsure: int = 0
    unasked: bool = False

    @property
    def replayed(self) -> bool:
        """Whether this is a recorded reply to a larger group than was asked."""
        return bool(self.candidate_ids) and self.candidate_ids != self.request.candidate_ids


class Judge(Protocol):
    """Anything that can say `relevant`, `partial`, `irrelevant` or nothing about pairs."""

    def judge(self, cases: Iterable[Case]) -> Iterator[Case]:
        """Yield every case once, in any order, with one judgment for each of its pairs."""
        ...


@runtime_checkable
class Prepares(Protocol):
    """A judge that must see the whole input once before it can judge (to look across rows, to embed)."""

    def prepare(self, examples: Iterable[Example]) -> None:
        """Take one look at every example; what is learned is kept on disk, not in memory."""
        ...


@runtime_checkable
class Extends(Protocol):
    """A judge that works better when it has seen pairs that came up after the input (to embed them in batches)."""

    def extend(self, examples: Iterable[Example]) -> None:
        """Take one look at further examples, beside those that it was prepared for."""
        ...


class Engine(Protocol):
    """Anything that answers requests."""

    @property
    def identity(self) -> Mapping[str, Any]:
        """What changes the answer besides the prompt: model, revision, sampling. Part of every address."""
        ...

    def answer(self, requests: Iterable[Request]) -> Iterator[Reply]:
        """Yield one reply for every request, in any order; failures are replies, not exceptions.

        Raises:
            ServiceError: when going on is pointless (wrong key, unknown model, no credit, server unreachable).
        """
        ...


class Spread(Protocol):
    """Where the heavy work of a judge is done: in this process, or on the machines of a cluster."""

    def __call__(self, make: Callable[[], Callable[[T], R]], items: Iterable[T]) -> Iterator[R]:
        """Apply what `make` returns, called once per worker, to every item; look ahead by a bounded number of them.

        Yields the results in the items' order. `make`, items and results can be pickled. `items` may be drawn in
        another thread than the results.
        """
        ...


def here(make: Callable[[], Callable[[T], R]], items: Iterable[T]) -> Iterator[R]:
    """Do the work in this process, one item at a time; without an item nothing is made."""
    work: Callable[[T], R] | None = None
    for item in items:
        work = work or make()
        yield work(item)


@runtime_checkable
class Measures(Protocol):
    """An engine that knows how much its model can read, before it is asked."""

    @property
    def shortens(self) -> bool:
        """Whether a prompt that is too long shall be shortened; if not, its pairs end as "too long"."""
        ...

    def excess(self, request: Request) -> int:
        """Return by how many tokens the prompt and room for its reply exceed what the model reads; ≤ 0 when it fits."""
        ...


@runtime_checkable
class Reports(Protocol):
    """An engine that has more to say of an execution than its replies do: versions, what the model is, caches."""

    def report(self) -> Mapping[str, Any]:
        """Return what is known so far, as plain JSON; empty before anything was asked."""
        ...


@runtime_checkable
class Leaves(Protocol):
    """An engine, or the judge that asks it, that can be told to ask no more, and ends with Detached where it would."""

    def leave(self, *, at_once: bool) -> None:
        """Wait no more for a service that works on by itself; `at_once`, begin nothing more with any service.

        Where it need not be at once, what there is to ask is handed over first, and what is finished is taken. What a
        service is asked that answers while one waits is always waited for.
        """
        ...


@runtime_checkable
class Lasts(Protocol):
    """An engine whose service works on while nobody waits for it.

    What it was asked is fetched by whoever asks the same again: it is neither lost nor paid for twice.
    """

    lasts: Literal[True]


Sending = Callable[[Request, int], bool]
"""Asked before every attempt at a request, with the number of attempts at it so far that were perhaps paid for: whether
there may be one more. The first may always be."""


@runtime_checkable
class Sends(Protocol):
    """An engine that takes requests in before it sends them, and says when it does."""

    def on_send(self, ask: Sending) -> None:
        """Have `ask` called before every attempt, in a thread of the engine's, which it must not hold up."""
        ...


class Encodes(Protocol):
    """A model that turns texts into vectors. What is too long for it is cut off at its end."""

    @property
    def fingerprint(self) -> str:
        """Digest (hex) of what changes a vector: model, revision, prompts."""
        ...

    def encode(self, role: Role, texts: Sequence[str]) -> "NDArray[np.float32]":
        """Embed texts in their order, as one batch; unit length, shape (texts, dimensions).

        Raises:
            SettingsError: the model cannot be loaded, or the device has not enough memory.
            ServiceError: the model is behind a service that cannot go on.
        """
        ...

    def release(self) -> None:
        """Let go of what takes memory; it is loaded again when asked again."""
        ...


@runtime_checkable
class EncodesMany(Protocol):
    """An encoder that works at several batches at a time, and knows how large they should be."""

    def most_tokens(self) -> int | None:
        """Return the most tokens of a batch, with every text as long as its longest; None = any number."""
        ...

    def encode_many(self, role: Role, batches: Sequence[Sequence[str]]) -> "Iterator[NDArray[np.float32]]":
        """Embed each batch by itself, as `encode` does; yield the results in the batches' order."""
        ...
