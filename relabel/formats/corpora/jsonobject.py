"""One big JSON object, read entry by entry: neither it nor what its keys hold is ever held whole."""

from collections.abc import Iterator
from pathlib import Path
from typing import Any, NamedTuple

from relabel.formats.jsonlist import JsonText
from relabel.formats.streams import open_stream


class Entry(NamedTuple):
    """A value that stands in the object's list or object `key`, or is itself the value of `key` (then `name` is "").

    `name` is its own key, "" in a list; `number` its place there, from 1; `raw` its text; `twice` a key that stands
    twice in an object of it, or "".
    """

    key: str
    name: str
    number: int
    raw: str
    value: Any
    twice: str = ""


def entries(path: Path) -> Iterator[Entry]:
    """Yield what stands in the object of a file, two levels deep, in order.

    Raises:
        RowError: the object is broken, or not UTF-8: what follows cannot be told apart.
    """
    with open_stream(path) as stream:
        text = JsonText(path, stream, "object")
        for key in _members(text, "{}"):
            text.number = 1
            match text.sign():
                case "{":
                    names = _members(text, "{}")
                case "[":
                    names = _members(text, "[]")
                case _:
                    names = iter([""])
            for number, name in enumerate(names, 1):
                text.number = number
                yield Entry(key, name, number, *text.element(), text.twice)


def _members(text: JsonText, brackets: str) -> Iterator[str]:
    """Step through an object ("{}") or a list ("[]"): the caller takes each value before it asks for the next key."""
    opening, closing = brackets[0], brackets[1]
    _step(text, opening)
    first = True
    while text.sign() != closing:
        if not first:
            _step(text, ",")
        first = False
        if opening == "[":
            yield ""
            continue
        key = text.element()[1]
        if not isinstance(key, str):
            raise text.broken("expected a key between quotes")
        _step(text, ":")
        yield key
    text.skip(closing)


def _step(text: JsonText, sign: str) -> None:
    if text.sign() != sign:
        raise text.broken(f"expected {sign!r}")
    text.skip(sign)
