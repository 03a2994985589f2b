"""What a model that writes shall reply, and how its reply is read.

The reply is one JSON object: what the template has listed first, if anything, and then an entry for each text.

    {"requirements": ["names the year"], "passages": [{"detail": "no year", "text": "…", "probability": 0.2}]}

What stands around the object is forgiven: reasoning, a code fence, a few words before or after it. Nothing is made up:
an entry without a text is "unreadable", one that is not there is "missing", and where a reply holds two answers that
differ, or one and something that may be another, there is none. So no passage that a model repeats can pass for its
answer.
"""

import json
import re
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Final, Literal, NoReturn

from relabel.quoting import visible

Kind = Literal["write", "query"]
"""What is wanted: passages for a query, or queries for a passage."""

UNREADABLE: Final = "unreadable"
MISSING: Final = "missing"

DETAIL_LIMIT: Final = 300
"""Characters of what a model says that it did."""

_NAMES: Final[Mapping[Kind, tuple[str, str]]] = {"write": ("passages", "text"), "query": ("queries", "query")}
"""What the entries are called together, and the text of one."""

_REASONED: Final = re.compile(r"</(?:think|thinking|reasoning)>", re.IGNORECASE)
_REASONING: Final = re.compile(r"\s*<(?:think|thinking|reasoning)>", re.IGNORECASE)


@dataclass(frozen=True, slots=True)
class Draft:
    """One text of a reply, or why there is none, `why` in the service's words.

    `probability` in [0, 1], None where the model gave none.
    """

    text: str = ""
    title: str = ""
    detail: str = ""
    probability: float | None = None
    failure: str = ""
    why: str = ""


@dataclass(frozen=True, slots=True)
class Form:
    """The form of one reply.

    Attributes:
        kind: passages or queries.
        count: how many are asked for, 1 or more; of several each has a probability.
        titled: whether a passage has a title.
        first: name of a list that stands before them, "" = none.
    """

    kind: Kind
    count: int
    titled: bool = False
    first: str = ""

    @property
    def called(self) -> str:
        """What the entries are called together."""
        return _NAMES[self.kind][0]

    @property
    def schema(self) -> dict[str, Any]:
        """The JSON schema of the reply."""
        several, text = _NAMES[self.kind]
        string = {"type": "string"}
        entry: dict[str, Any] = {"detail": string} if self.kind == "write" else {}
        entry |= {"title": string} if self.titled else {}
        entry |= {text: string}
        entry |= {"probability": {"type": "number", "minimum": 0, "maximum": 1}} if self.count > 1 else {}
        entries = {"type": "array", "items": _object(entry), "minItems": self.count, "maxItems": self.count}
        listed = {self.first: {"type": "array", "items": string}} if self.first else {}
        return _object(listed | {several: entries})

    @property
    def told(self) -> str:
        """The form in words, as a prompt says it; an echo of it is no answer."""
        several, text = _NAMES[self.kind]
        entry = dict.fromkeys(self.schema["properties"][several]["items"]["properties"], "…")
        example = json.dumps({self.first: ["…"]} if self.first else {}, ensure_ascii=False)[:-1]
        shown = json.dumps(entry | ({"probability": 0.1} if self.count > 1 else {}), ensure_ascii=False)
        comma = ", " if self.first else ""
        said = [
            "Reply with one JSON object in this form, and with nothing else:",
            f'{example}{comma}"{several}": [{shown}{", …" if self.count > 1 else ""}]}}',
        ]
        if self.count == 1:
            said.append(f"`{several}` holds one entry.")
        else:
            said.append(
                f"`{several}` holds {self.count} entries, no two alike. `probability`, from 0 to 1, is how likely"
                f" this `{text}` would have been if one had been asked for; draw from all that is possible, not only"
                " from what comes to mind first."
            )
        if self.kind == "write":
            said.append("`detail` is a note of at most 20 words; nobody who reads the passage sees it.")
        if self.titled:
            said.append("`title` is a heading such as the other passages have.")
        return "\n".join(said)

    def read(self, reply: str) -> tuple[Draft, ...]:
        """Return `count` drafts, in the reply's order; what it holds beyond them is left out.

        Args:
            reply: any string at all.
        """
        found = self._entries(reply)
        if found is None:
            return (Draft(failure=UNREADABLE),) * self.count
        drafts = [self._draft(entry) for entry in found[: self.count]]
        return (*drafts, *[Draft(failure=MISSING)] * (self.count - len(drafts)))

    def _entries(self, reply: str) -> list[Any] | None:
        """Return the entries of the one answer in a reply, None where there is none, or more than one."""
        several, text = _NAMES[self.kind]
        whole = _parsed(_unfenced(reply))
        if isinstance(whole, list):
            return whole
        if isinstance(whole, dict) and several not in whole:
            return [whole] if text in whole and self.count == 1 else None
        if isinstance(whole, dict):
            answers = [whole]
        else:
            said = _REASONED.split(reply)[-1]
            answers = [] if _REASONING.match(said) else _answers(said, several)
        if not answers or any(answer != answers[0] for answer in answers):
            return None
        entries = answers[0][several]
        return entries if isinstance(entries, list) else None

    def _draft(self, entry: Any) -> Draft:
        _, name = _NAMES[self.kind]
        told = entry if isinstance(entry, dict) else {name: entry}
        text = _text(told.get(name))
        if not any(sign.isalnum() for sign in text):
            return Draft(failure=UNREADABLE)
        if self.kind == "query":
            text = " ".join(text.split())
        title = " ".join(_text(told.get("title")).split()) if self.titled else ""
        detail = " ".join(_text(told.get("detail")).split())[:DETAIL_LIMIT]
        return Draft(text, title, detail, _probability(told.get("probability")) if self.count > 1 else None)


def _object(properties: dict[str, Any]) -> dict[str, Any]:
    return {"type": "object", "properties": properties, "required": list(properties), "additionalProperties": False}


def _text(value: Any) -> str:
    return visible(value).strip() if isinstance(value, str) else ""


def _probability(value: Any) -> float | None:
    return float(value) if type(value) in {int, float} and 0 <= value <= 1 else None


def _unfenced(reply: str) -> str:
    body = reply.strip()
    fenced = body.startswith("```") and body.endswith("```") and len(body) > 6
    return body[3:-3].removeprefix("json") if fenced else body


def _parsed(text: str) -> Any:
    """Parse what is JSON as a whole; None where it is not."""
    try:
        return _DECODER.decode(text)
    except (ValueError, RecursionError):
        return None


def _answers(text: str, name: str) -> list[dict[str, Any]]:
    """Return the objects in a text; none where one of them lacks this field, or something begins as one and is none."""
    found = []
    start = text.find("{")
    while start >= 0:
        try:
            value, end = _DECODER.raw_decode(text, start)
        except (ValueError, RecursionError):
            return []
        if name not in value:
            return []
        found.append(value)
        start = text.find("{", end)
    return found


def _once(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    found = dict(pairs)
    if len(found) < len(pairs):
        raise ValueError("a field stands twice")
    return found


def _refuse(constant: str) -> NoReturn:
    raise ValueError(f"{constant} is not JSON")


_DECODER: Final = json.JSONDecoder(object_pairs_hook=_once, parse_constant=_refuse, strict=False)
"""Lets line breaks stand in strings, as models write them."""
