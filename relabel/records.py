"""The nouns of relabel: plain, frozen values that every other module speaks in.

    Example ─▶ Pair ─▶ asked by a Judge, stage by stage ─▶ Judgment ─▶ Verdict ─▶ under a Policy ─▶ Change

Nothing here reads a file, keeps a score or knows a model. Two equal contents are equal; identity in a
store is a digest of content (`digest`), never an id, a file name or a row number.
"""

import re
from collections import Counter
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from hashlib import blake2b
from types import MappingProxyType
from typing import Any, Final, Literal, Self

Label = Literal["relevant", "partial", "irrelevant"]
"""What a judge says of a candidate: as good as the reference, relevant but less, or not an answer."""

LABELS: Final[tuple[Label, ...]] = ("relevant", "partial", "irrelevant")

Outcome = Literal["false negative", "partial", "true negative", "undecided", "void"]
"""What the cascade concludes. `void` is a copy of another negative or an empty text: nothing to judge."""

Action = Literal["promote", "drop", "keep", "ask", "remove"]
"""What a policy does: to positive, off the negatives, nothing, nothing but list it, the whole example away."""

VOID_REASONS: Final = frozenset({"repeated", "empty"})
"""Reasons of a missing label that are facts about the row, not failures to judge it."""

SHORTENED: Final = "shortened"
"""The finding of a judge that was shown a part of a passage, since its model does not read the whole."""

NOTHING: Final[Mapping[str, Any]] = MappingProxyType({})


def digest(*parts: str, size: int = 16) -> bytes:
    """Hash texts into `size` bytes; lengths are hashed too, so ("ab", "c") differs from ("a", "bc")."""
    hasher = blake2b(digest_size=size)
    for part in parts:
        data = part.encode("utf-8", "surrogatepass")
        hasher.update(b"%d:" % len(data))
        hasher.update(data)
    return hasher.digest()


def chance(*parts: str) -> float:
    """Return a number in [0, 1) that depends on nothing but `parts`: dice that need no order of arrival."""
    return int.from_bytes(digest(*parts, size=8), "big") / 2**64


@dataclass(frozen=True, slots=True)
class Passage:
    """One text of a training row.

    `item` is the passage exactly as it stood in its list (a dict, a string), and `beside` what stood at its
    place in the row's parallel lists (`{"scores": 0.7}`): both belong to the format that read it, and move
    with the passage so that a row can be rebuilt exactly.
    """

    id: str
    text: str
    title: str = ""
    item: Any = None
    beside: Mapping[str, Any] = field(default_factory=lambda: NOTHING)

    @property
    def full_text(self) -> str:
        """Title and text as one string, the title first where there is one."""
        return f"{self.title} {self.text}" if self.title else self.text


@dataclass(frozen=True, slots=True)
class Example:
    """One training row. `row` is the row as parsed; `position` counts rows of the input from 0, bad ones too."""

    id: str
    query: str
    positives: tuple[Passage, ...]
    negatives: tuple[Passage, ...]
    source: str = ""
    row: Mapping[str, Any] = field(default_factory=lambda: NOTHING)
    position: int = 0
    layout: str = ""


@dataclass(frozen=True, slots=True)
class Judgment:
    """What one judge said about one pair.

    Attributes:
        label: the judge's word, or None when there is none; None never changes a label.
        reason: why there is no label ("unreadable", "refused", "no recording", …); "" beside a label.
        evidence: the finding in the judge's own terms ("copy of a positive", "percpos"); the policy may look at it.
        probability: of `label`, in [0, 1], only where the judge really has one.
        score: an uncalibrated number of the judge, higher = more likely relevant; comparable within a judge only.
        rationale: free text for people.
        reply: address of the raw reply that this was read from, "" where there is none.
        group: fingerprint of what was asked together, "" for judges that look at pairs alone.
    """

    label: Label | None
    reason: str = ""
    evidence: str = ""
    probability: float | None = None
    score: float | None = None
    rationale: str = ""
    reply: str = ""
    group: str = ""


@dataclass(frozen=True, slots=True)
class Pair:
    """One query and one of its negatives: the unit that is judged, stored and routed.

    `index` is the place among the example's negatives; `key` the digest of the candidate (and of its turn,
    for a text that a row holds twice). With the case's key it addresses the pair.
    """

    index: int
    candidate: Passage
    key: bytes


@dataclass(frozen=True, slots=True)
class Case:
    """An example with those of its pairs that one judge is asked about, and, once asked, its judgments.

    `reference` is the input's positives (the first k), frozen for the run. `key` is the digest of query and
    reference. `row` begins with it and goes on with a digest of all else in the row that a judge may look at.
    `judgments`, when there, are parallel to `pairs`. `number` names the case within a run. `opinions` holds the keys of
    the pairs that are asked about as second opinions: they must not change what is said of the others, so a judge
    that looks at pairs together keeps the two apart.
    """

    number: int
    example: Example
    reference: tuple[Passage, ...]
    key: bytes
    row: bytes
    pairs: tuple[Pair, ...]
    judgments: tuple[Judgment, ...] = ()
    opinions: frozenset[bytes] = frozenset()

    def judged(self, judgments: tuple[Judgment, ...]) -> Self:
        """Return the case with one judgment for each pair, in order."""
        if len(judgments) != len(self.pairs):
            message = f"{len(judgments)} judgments for {len(self.pairs)} pairs"
            raise ValueError(message)
        # not `replace`, which takes as long as a quick judge needs for a whole case
        return type(self)(
            self.number, self.example, self.reference, self.key, self.row, self.pairs, judgments, self.opinions
        )


@dataclass(frozen=True, slots=True)
class Verdict:
    """What the cascade concluded about one pair.

    Attributes:
        outcome: the conclusion.
        stage: name of the stage (or "human") whose word it is; "" when nobody settled it.
        evidence: that stage's finding, or why the pair is undecided.
        judgment: the judgment it rests on, if any.
        contradicted: name of a later judge that, asked about a sampled pair, said otherwise; "" if none.
    """

    outcome: Outcome
    stage: str = ""
    evidence: str = ""
    judgment: Judgment | None = None
    contradicted: str = ""


@dataclass(frozen=True, slots=True)
class Change:
    """What was done to one passage (or one whole example), why and by whom: one line of the ledger.

    `origin` is the place among the input's negatives, `target` the place among the output's positives (of a promoted
    passage) or negatives (of one that was refilled, which has no origin). A passage is kept with `item` and `beside`, a
    removed example with its whole `row`, so that the ledger and the output rebuild the input.
    """

    position: int
    example_id: str
    action: Literal["promote", "drop", "remove", "refill"]
    why: str
    stage: str = ""
    passage_id: str = ""
    origin: int | None = None
    target: int | None = None
    item: Any = None
    beside: Mapping[str, Any] = field(default_factory=lambda: NOTHING)
    row: Mapping[str, Any] | None = None


Listed = Literal["flagged", "undecided", "contradicted", "judged"]
"""Why a pair is in the audit file: called relevant or partial, nobody's word, another word from a second opinion, or
none of these, where all pairs are listed."""


@dataclass(frozen=True, slots=True)
class Finding:
    """A pair that a person should look at, with everything that is known about it.

    `words` holds each asked stage's judgment, by the stage's name, in the cascade's order. `people` holds the labels
    that people gave so far, by reviewer, and `notes` what they wrote beside them. `fingerprint` names the pair by
    content; it starts with a letter and has 17 characters, so that no spreadsheet takes it for a number.
    """

    example: Example
    reference: tuple[Passage, ...]
    candidate: Passage
    verdict: Verdict
    action: Action
    listed: Listed
    words: Mapping[str, Judgment]
    fingerprint: str
    people: Mapping[str, Label] = field(default_factory=lambda: NOTHING)
    notes: Mapping[str, str] = field(default_factory=lambda: NOTHING)


def fingerprint(case: Case, pair: Pair) -> str:
    """Name a pair by content (query, reference, candidate): "r" and 16 hex digits."""
    return "r" + digest(case.key.hex(), pair.key.hex(), size=8).hex()


LABEL_WORDS: Final[Mapping[str, Label]] = MappingProxyType({
    **{label: label for label in LABELS},
    **dict.fromkeys(("false negative", "true positive", "positive", "yes", "y", "1"), "relevant"),
    **dict.fromkeys(("true negative", "negative", "no", "n", "0"), "irrelevant"),
})  # fmt: skip
"""How people write labels, folded to lower case."""


def read_label(text: str) -> Label | None:
    """Read a person's label, in any case; None where the cell is empty.

    Raises:
        ValueError: the word is not a label; the message says what to write.
    """
    word = " ".join(text.casefold().split())
    if not word:
        return None
    if word not in LABEL_WORDS:
        raise ValueError(f"{text.strip()[:80]!r} is not a label; write relevant, partial or irrelevant")
    return LABEL_WORDS[word]


def majority(labels: Iterable[Label]) -> Label | None:
    """Return the label that more people gave than any other; None where they tie, or nobody gave one."""
    most = Counter(labels).most_common(2)
    tied = len(most) > 1 and most[0][1] == most[1][1]
    return most[0][0] if most and not tied else None


_MONTHS: Final = (
    "jan gen ene feb fév fev mar mär mrt maa apr avr abr mai may mag mei jun jui giu jul lug "
    "aug aoû aou ago sep set oct okt ott out nov dec dez dic déc"
).replace(" ", "|")

_REREAD: Final = re.compile(
    rf"""
    [\t\r\n]                                                        # see OWASP, "CSV Injection"
    | [\s\u00ad\u200b-\u200f\u202a-\u202f\u2060-\u2064\ufeff]*+ (?:  # blank, or not to be seen
        [=+\-@\u2212\uff1d\uff0b\uff0d\uff20]                        # a formula, full width too
        | [\s(%.,$¢-¥\u20a0-\u20cf]*+ \d [\d\W]*+ (?: [^\W\d_]++ [\d\W]*+ ){{0,2}} \Z  # 007, 7e05, 1-2, 3 May 2020
        | (?: {_MONTHS} ) [^\W\d_]*+ [\s.,/-]* \d                   # SEPT2, March-1
        | (?: true | wahr | vrai | verdadero | verdadeiro | vero | waar
            | false | falsch | faux | falso | onwaar ) \s* \Z
    )
    """,
    re.VERBOSE | re.IGNORECASE,
)
"""Texts that a spreadsheet takes for something else: formula, number, date, truth value."""


def guard(text: str) -> str:
    """Put an apostrophe before a text that a spreadsheet would take for a formula, a number, a date or a truth value.

    Also before one that already looks guarded, so that `unguard` gives every text back.
    """
    return f"'{text}" if _REREAD.match(text.lstrip("'")) else text


def unguard(cell: str) -> str:
    """Take off the apostrophe that `guard` put there; a text that never needed one (`'tis`) keeps its own."""
    return cell[1:] if cell.startswith("'") and _REREAD.match(cell.lstrip("'")) else cell
