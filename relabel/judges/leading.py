"""The order in which requests that begin alike are sent, so that a provider's prompt cache can serve all but the first.

A cache holds the beginning of a prompt once a request with it has been read. OpenAI keeps beginnings of 1,024 tokens
and more, in steps of 128 (https://developers.openai.com/api/docs/guides/prompt-caching): requests of one query that
are sent at the same moment all pay the full price. So the first goes ahead, and the others follow some requests later.
"""

from collections import deque
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import replace
from typing import Final

from relabel.protocols import Request
from relabel.records import digest

LONG: Final = 3_000
"""Characters from which a common beginning may have 1,024 tokens: few texts have less than 3 characters a token that
are worth waiting for, and to wait in vain costs nothing."""


def led(queries: Iterable[Sequence[Request]], distance: int) -> Iterator[Request]:
    """Yield the requests of each query, in their order; of those with a long common beginning the first ahead.

    Nothing waits for an answer: the others come after `distance` further requests, or at the end.

    Args:
        queries: the requests of each query, one query after the other.
        distance: how many requests are in flight at a time; 1 or more.
    """
    behind: deque[tuple[int, Sequence[Request]]] = deque()
    given = 0
    for requests in queries:
        own = marked(requests)
        at_once, others = (own[:1], own[1:]) if own and own[0].shares else (own, ())
        yield from at_once
        given += len(at_once)
        if others:
            behind.append((given + distance, others))
        while behind and behind[0][0] <= given:
            _, due = behind.popleft()
            yield from due
            given += len(due)
    for _, due in behind:
        yield from due


def marked(requests: Sequence[Request]) -> Sequence[Request]:
    """Mark the requests of one query by their common beginning, if that is long; else return them as they are."""
    if len(requests) < 2:
        return requests
    first, second = (_text(request) for request in requests[:2])
    alike = _alike(first, second)
    if alike < LONG:
        return requests
    mark = digest(first[:alike], size=8).hex()
    return [replace(request, shares=mark) for request in requests]


def _text(request: Request) -> str:
    return "\n".join(message.content for message in request.messages)


def _alike(one: str, other: str) -> int:
    """Return how many characters two texts share at their beginning, by halving."""
    low, high = 0, min(len(one), len(other))
    while low < high:
        middle = (low + high + 1) // 2
        if one[low:middle] == other[low:middle]:
            low = middle
        else:
            high = middle - 1
    return low
