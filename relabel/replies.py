"""Reply text → one answer per candidate, or why there is none.

Four forms, each with one strict grammar. What does not fit it is "unreadable" and gives no label: a number in
an error message is not a grade, and a list that stops half-way is not an empty list.

    choice    one of the words on offer, nothing else     Yes
    json      an object; a group's has one entry each     {"verdicts": [{"id": 1, "label": "Yes"}, …]}
    snippet   words copied from the passage, or null      {"answer": "in 1912"}
    tagged    a verdict with one list for each label      <verdict><better>[Doc (2)]</better><worse>[]</worse></verdict>

Reading is pure and total: no text makes it raise.
"""

import json
import math
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Final, Literal, NoReturn

from relabel.quoting import as_quoted, visible
from relabel.records import LABELS, NOTHING, Label, Passage

Kind = Literal["pair", "group"]
"""What one question is about: one candidate, or all of a case's candidates by number."""

Form = Literal["choice", "json", "snippet", "tagged"]

FORMS: Final[Mapping[Kind, tuple[Form, ...]]] = {
    "pair": ("choice", "json", "snippet", "tagged"),
    "group": ("json", "tagged"),
}
"""The forms that a reply about one candidate, or about several, can have."""

UNREADABLE: Final = "unreadable"
UNSUPPORTED: Final = "unsupported"
RATIONALE_LIMIT: Final = 1_000

_UNNAMED: Final = "neither"  # the word for a candidate that no list of a tagged reply names
_SOFT: Final = " \t\r\n\f\v\u00a0\u3000\"'`“”‘’«»"
_BESIDE: Final = " \t\r\n`*"  # what may stand beside a verdict: a code fence, bold type
_ENDS: Final = ".,;:!…。"
_GRADE: Final = re.compile(r"[0-9]{1,9}")
_TAG_NAME: Final = re.compile(r"[^\W\d][\w-]*")
_JOINED: Final = re.compile("[0-9a-z\u00df-\u052f]{2}")
_REASONING: Final = re.compile(r"<(/?)(?:thinking|preference|think)>", re.IGNORECASE)
_VERDICT: Final = re.compile(r"<(/?)verdict>", re.IGNORECASE)
_BLOCK: Final = re.compile(r"<([^\W\d][\w-]*)>([^<>]*)</\1>", re.IGNORECASE)
_LIST: Final = re.compile(r"(?:[^\[\]\d:\n]{1,100}:)?\s*(?:\[(.*)\]|(none))\s*\.?", re.IGNORECASE | re.DOTALL)
_ITEM: Final = re.compile(r"(?:Doc\s*)?(?:(\d{1,6})|\((\d{1,6})\)|\[(\d{1,6})\])", re.IGNORECASE | re.ASCII)
_REASON: Final = re.compile(r"[ \t>*#-]{0,8}Doc ?\((\d{1,6})\)\**:\**(.*)", re.IGNORECASE | re.ASCII)


@dataclass(frozen=True, slots=True)
class ReplySpec:
    """What a model may reply, and what it means.

    Attributes:
        kind: "pair" (one candidate) or "group" (all by number).
        form: "choice", "json", "snippet" or "tagged"; a group has no "choice" and no "snippet".
        labels: the model's word → ours. For "snippet" the words are `found` and `absent`; for "tagged" they are
            the tags inside <verdict>, and `neither` stands for a candidate that no tag lists.

    Raises:
        ValueError: when the three do not fit together; the message is fit for people.
    """

    kind: Kind
    form: Form
    labels: Mapping[str, Label]

    def __post_init__(self) -> None:
        if self.form not in FORMS[self.kind]:
            raise ValueError(f"a {self.kind} cannot be answered by {self.form!r}: use {' or '.join(FORMS[self.kind])}")
        folded = [_fold(word) for word in self.labels]
        if not folded or "" in folded or len(set(folded)) < len(folded):
            raise ValueError("labels must be words that differ by more than case, quotes and punctuation")
        for word, label in self.labels.items():
            if label not in LABELS:
                raise ValueError(f"{word!r} means {label!r}, which is not one of {', '.join(LABELS)}")
        if self.form == "snippet" and set(self.labels) != {"found", "absent"}:
            raise ValueError("for a snippet the labels are those of `found` and `absent`")
        if self.form == "tagged":
            self._check_tags()

    def _check_tags(self) -> None:
        if _UNNAMED not in self.labels or len(self.labels) == 1:
            raise ValueError(f"for a tagged reply the labels are one or more tags, and {_UNNAMED!r} for the rest")
        for word in self.labels:
            if not _TAG_NAME.fullmatch(word) or word.casefold() == "verdict":
                raise ValueError(f"{word!r} cannot be the name of a tag")

    @property
    def choices(self) -> tuple[str, ...]:
        """The words of which the reply must be one; empty for the other forms."""
        return tuple(self.labels) if self.form == "choice" else ()

    @property
    def tags(self) -> tuple[str, ...]:
        """The names of the tags that a reply is made of, which no passage may therefore show."""
        lists = tuple(word for word in self.labels if word != _UNNAMED)
        return ("thinking", "preference", "verdict", *lists) if self.form == "tagged" else ()

    @property
    def graded(self) -> bool:
        """Whether the choices are numbers, so that they have a mean."""
        return self.form == "choice" and all(_GRADE.fullmatch(word) for word in self.labels)


@dataclass(frozen=True, slots=True)
class Answer:
    """What a reply says about one candidate.

    Attributes:
        label: relevant, partial or irrelevant; None when the reply gives none.
        reason: "" beside a label; else "unreadable", or "unsupported" (a snippet that the passage does not hold).
        probability: of `label`, in [0, 1]; None without token probabilities.
        score: the expected grade of a graded choice, from its lowest to its highest grade, higher = more likely
            relevant; None without token probabilities.
        rationale: the model's words about this candidate, at most 1,000 characters; for an unreadable reply what
            is wrong with it.
    """

    label: Label | None
    reason: str = ""
    probability: float | None = None
    score: float | None = None
    rationale: str = ""


class _UnreadableError(Exception):
    """The reply as a whole cannot be trusted; the message says why."""


def read_reply(
    spec: ReplySpec, text: str, candidates: Sequence[Passage], probabilities: Mapping[str, float] = NOTHING
) -> tuple[Answer, ...]:
    """Return one answer per candidate, in the order in which the prompt numbered them (from 1).

    Args:
        spec: the form of the reply and what its words mean.
        text: the reply as it came; any string at all.
        candidates: the passages that were asked about, in the order of their numbers.
        probabilities: of each choice, for replies of the form "choice"; need not sum to 1. When the most probable
            choice is not the text, the text decides.

    Raises:
        ValueError: for a pair with other than one candidate. Never because of `text` or `probabilities`.
    """
    if spec.kind == "pair" and len(candidates) != 1:
        raise ValueError(f"a pair has one candidate, not {len(candidates)}")
    try:
        match spec.form:
            case "choice":
                return (_read_choice(spec, text, probabilities),)
            case "snippet":
                return (_read_snippet(spec, text, candidates[0]),)
            case "json":
                return _read_json(spec, text, len(candidates))
            case "tagged":
                return _read_tagged(spec, text, len(candidates))
    except _UnreadableError as problem:
        return tuple(_no_label(str(problem)) for _ in candidates)


def schema_for(spec: ReplySpec, count: int) -> dict[str, Any] | None:
    """Return the JSON schema of a reply about `count` candidates; None when the form is not JSON."""
    if spec.form == "snippet":
        return _object({"answer": {"type": ["string", "null"]}})
    if spec.form != "json":
        return None
    label = {"type": "string", "enum": list(spec.labels)}
    if spec.kind == "pair":
        return _object({"label": label})
    entry = _object({"id": {"type": "integer", "minimum": 1, "maximum": count}, "label": label})
    return _object({"verdicts": {"type": "array", "items": entry, "minItems": count, "maxItems": count}})


def read_reasons(text: str, count: int) -> tuple[str, ...]:
    """Return the reasons in a reply to the question why `count` candidates were flagged, in their numbers' order.

    Each is the line that begins `Doc (n):`, "" where there is none; a reply about one candidate may leave that out. A
    reason is one line of at most 1,000 characters, without invisible characters.
    """
    lines = _reasons(visible(text))
    if count == 1 and not lines:
        lines = {1: text}
    return tuple([_shorten(" ".join(visible(lines.get(number, "")).split())) for number in range(1, count + 1)])


def _object(properties: dict[str, Any]) -> dict[str, Any]:
    return {"type": "object", "properties": properties, "required": list(properties), "additionalProperties": False}


def _no_label(problem: str, reason: str = UNREADABLE) -> Answer:
    return Answer(None, reason, rationale=_shorten(problem))


def _shorten(text: str) -> str:
    return text if len(text) <= RATIONALE_LIMIT else text[: RATIONALE_LIMIT - 1] + "…"


def _fold(word: str) -> str:
    return word.strip(_SOFT).rstrip(_SOFT + _ENDS).casefold()


def _word(spec: ReplySpec, said: str) -> str | None:
    """Return the label word that was said, or None when it is not one of those on offer."""
    folded = _fold(said)
    return next((word for word in spec.labels if _fold(word) == folded), None)


def _read_choice(spec: ReplySpec, text: str, probabilities: Mapping[str, float]) -> Answer:
    word = _word(spec, text)
    if word is None:
        raise _UnreadableError(f"not one of {', '.join(spec.labels)}")
    label = spec.labels[word]
    weights = {choice: probabilities.get(choice, 0.0) for choice in spec.labels}
    if not 0 < sum(weights.values()) < math.inf or min(weights.values()) < 0:
        return Answer(label)
    total = math.fsum(weights.values())
    share = math.fsum(weight for choice, weight in weights.items() if spec.labels[choice] == label) / total
    grade = math.fsum(int(choice) * weight for choice, weight in weights.items()) / total if spec.graded else None
    return Answer(label, probability=min(share, 1.0), score=grade)


def _read_json(spec: ReplySpec, text: str, count: int) -> tuple[Answer, ...]:
    reply = _json_object(text)
    if spec.kind == "pair":
        return (_json_label(spec, reply),)
    verdicts = reply.get("verdicts")
    if not isinstance(verdicts, list):
        raise _UnreadableError("no list of verdicts")
    entries: dict[int, Answer] = {}
    for verdict in verdicts:
        number = verdict.get("id") if isinstance(verdict, dict) else None
        if type(number) is not int:  # True is an int to Python, but no number to anybody else
            raise _UnreadableError("a verdict without a number")
        answer = _json_label(spec, verdict)
        if entries.setdefault(_in_range(number, count), answer) != answer:
            raise _UnreadableError(f"two verdicts on Doc ({number})")
    return tuple(entries.get(number) or _no_label("left out") for number in range(1, count + 1))


def _json_label(spec: ReplySpec, entry: Mapping[str, Any]) -> Answer:
    said = entry.get("label")
    word = _word(spec, str(said)) if type(said) in {str, int} else None
    return _no_label(f"not one of {', '.join(spec.labels)}") if word is None else Answer(spec.labels[word])


def _read_snippet(spec: ReplySpec, text: str, candidate: Passage) -> Answer:
    reply = _json_object(text)
    snippet = reply.get("answer", ...)
    if snippet is None:
        return Answer(spec.labels["absent"])
    if not isinstance(snippet, str) or not any(letter.isalnum() for letter in snippet):
        raise _UnreadableError("no answer, and no null either")
    if not _holds(as_quoted(candidate.full_text), as_quoted(snippet)):
        return _no_label(f"not in the passage: {snippet}", UNSUPPORTED)
    return Answer(spec.labels["found"], rationale=_shorten(snippet))


def _holds(text: str, words: str) -> bool:
    """Whether words occur in a text, not in the middle of other words where a script divides them by blanks."""
    place = text.find(words)
    while place >= 0:
        end = place + len(words)
        if not (_JOINED.match(text[place - 1 : place + 1]) or _JOINED.match(text[end - 1 : end + 1])):
            return True
        place = text.find(words, place + 1)
    return False


def _json_object(text: str) -> dict[str, Any]:
    """Parse the object that is the whole reply, with or without a code fence around it."""
    body = text.strip()
    if body.startswith("```") and body.endswith("```") and len(body) > 6:
        body = body[3:-3].removeprefix("json")
    try:
        reply = json.loads(body, object_pairs_hook=_pairs_once, parse_constant=_refuse)
    except (ValueError, RecursionError):
        reply = None
    if not isinstance(reply, dict):
        raise _UnreadableError("not a JSON object")
    return reply


def _pairs_once(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    found = dict(pairs)
    if len(found) < len(pairs):
        raise _UnreadableError("a JSON object that names a field twice")
    return found


def _refuse(constant: str) -> NoReturn:
    raise _UnreadableError(f"{constant} is not JSON")


def _in_range(number: int, count: int) -> int:
    if not 1 <= number <= count:
        raise _UnreadableError(f"names Doc ({number}), but the documents are 1 to {count}")
    return number


def _read_tagged(spec: ReplySpec, text: str, count: int) -> tuple[Answer, ...]:
    readings = {tuple(_listed(spec, verdict, count)) for verdict in _verdicts(text)}
    if len(readings) != 1:
        raise _UnreadableError("verdicts that differ" if readings else "no verdict")
    words = readings.pop()
    reasons = _reasons(text)
    return tuple(
        Answer(spec.labels[word], rationale=reasons.get(number, "")) for number, word in enumerate(words, start=1)
    )


def _verdicts(text: str) -> list[str]:
    """Return what stands in each <verdict> behind the reasoning; the last must end the reply, on lines of its own.

    In its reasoning, or in a sentence, a model may quote the verdict that a passage wants of it.
    """
    said = text[max((tag.end() for tag in _REASONING.finditer(text) if tag[1]), default=0) :]
    if _REASONING.search(said):
        raise _UnreadableError("a reasoning that does not end")
    found: list[str] = []
    start: re.Match[str] | None = None
    before = after = ""
    for tag in _VERDICT.finditer(said):
        if not tag[1]:
            start = tag
        elif start is not None:
            found.append(said[start.end() : tag.start()])
            before, after = said[: start.start()].rpartition("\n")[2], said[tag.end() :]
            start = None
    if start is not None:
        raise _UnreadableError("a verdict that does not end")
    if before.strip(_BESIDE) or after.strip(_BESIDE):
        raise _UnreadableError("a verdict with other words beside or after it")
    return found


def _listed(spec: ReplySpec, verdict: str, count: int) -> list[str]:
    """Return the word for each candidate: the tag that lists it, or `neither`."""
    blocks = [(block[1].casefold(), block[2]) for block in _BLOCK.finditer(verdict)]
    tags = {word.casefold(): word for word in spec.labels if word != _UNNAMED}
    if sorted(name for name, _ in blocks) != sorted(tags) or _BLOCK.sub("", verdict).strip(_SOFT + ",;."):
        raise _UnreadableError(f"a verdict is made of {', '.join(f'<{tag}>' for tag in tags)} and nothing else")
    words = [_UNNAMED] * count
    for name, body in blocks:
        for number in _numbers(body):
            if words[_in_range(number, count) - 1] not in {_UNNAMED, tags[name]}:
                raise _UnreadableError(f"Doc ({number}) is in two lists")
            words[number - 1] = tags[name]
    return words


def _numbers(body: str) -> list[int]:
    """Read `[Doc (1), Doc (2)]`, with or without a few words and a colon before it, or numbers that stand alone."""
    listed = _LIST.fullmatch(body.strip())
    inner = (listed[1] or "" if listed else body).strip()
    if not inner or inner.casefold() == "none":
        return []
    return [_number(item) for item in inner.split(",")]


def _number(item: str) -> int:
    found = _ITEM.fullmatch(item.strip())
    if not found:
        raise _UnreadableError("a list that holds more than numbers")
    return int(found[found.lastindex or 0])


def _reasons(text: str) -> dict[int, str]:
    """Collect the lines that begin with `Doc (n):`."""
    lines: dict[int, list[str]] = {}
    for line in text.splitlines():
        if found := _REASON.match(line):
            lines.setdefault(int(found[1]), []).append(found[2].strip()[: RATIONALE_LIMIT + 1])
    return {number: _shorten("\n".join(parts)) for number, parts in lines.items()}
