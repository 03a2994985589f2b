"""The cheap checks that a written passage has to pass before anybody is asked about it, and how hard it is.

text alone → the row's own passages → all that passed before → embeddings; the first that objects is the reason.
"""

from collections import Counter
from collections.abc import Collection, Iterator, Sequence
from dataclasses import dataclass, field
from statistics import median
from typing import TYPE_CHECKING, Final, Protocol

from relabel.copies import marks_of
from relabel.protocols import Role
from relabel.records import Example, Passage
from relabel.synthesis.languages import language_of
from relabel.synthesis.likeness import Twins, changed_on_purpose, contained, count_words, grams, jaccard, words
from relabel.synthesis.marks import synthetic_id
from relabel.synthesis.settings import Gate as Limits
from relabel.synthesis.written import Written

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

    Floats = NDArray[np.float32]

EMPTY: Final = "empty"
SHORT: Final = "too short"
LONG: Final = "too long"
LANGUAGE: Final = "wrong language"
QUERY_COPY: Final = "copy of the query"
COPY: Final = "copy of a positive"
NEAR_POSITIVE: Final = "near a positive"
NEAR_MINED: Final = "near a mined negative"
NEAR_SYNTHETIC: Final = "near another synthetic one"
EASY: Final = "too easy"

REASONS: Final = (
    EMPTY, SHORT, LONG, LANGUAGE, QUERY_COPY, COPY, NEAR_POSITIVE, NEAR_MINED, NEAR_SYNTHETIC, EASY,
)  # fmt: skip
"""Why the gate refuses, in the order in which it looks; the accounting's words."""

COUNTED: Final = ("language not told", "easiness not known", "changed on purpose")
"""What the gate lets pass for want of a figure, or on purpose, and counts."""

DECIMALS: Final = 6


class Vectors(Protocol):
    """Embeddings of texts: unit length, float32, shape (windows, dimensions)."""

    def get(self, role: Role, text: str) -> "Floats":
        """Return the vectors of a text's windows."""
        ...


@dataclass(frozen=True, slots=True)
class Gated:
    """What the gate says of one passage.

    Attributes:
        written: the passage.
        id: by which it is known from here on; "" where there is no text.
        reason: why it is refused, one of `REASONS`; "" where it passed, or has no text.
        why: the figure that it was refused for, for people.
        difficulty: how hard it is, in [0, 1], higher = harder: its cosine with the query over the best positive's,
            cut to the range (NV-Retriever's ratio, arXiv 2407.15831: 1 = as close to the query as the positive). None
            where nothing was embedded.
    """

    written: Written
    id: str = ""
    reason: str = ""
    why: str = ""
    difficulty: float | None = None

    @property
    def passed(self) -> bool:
        """Whether it goes on to the judges."""
        return bool(self.id) and not self.reason

    @property
    def passage(self) -> Passage:
        """The passage as a negative of the row."""
        return Passage(self.id, self.written.text, self.written.title)


@dataclass(frozen=True, slots=True)
class _Row:
    """What a row's passages are held against; made once for all that was written for it.

    `best` is the highest cosine of a positive with the query, `least` the one that is not too easy; None = not known.
    """

    query: str
    shortest: float
    longest: float
    language: str
    known: Collection[bytes]
    mined: Collection[bytes]
    positives: list[tuple[str, frozenset[str]]]
    negatives: list[tuple[str, frozenset[str]]]
    best: float | None
    least: float | None
    passed: list[str] = field(default_factory=list)
    marks: set[bytes] = field(default_factory=set)


class Gate:
    """Holds written passages against their row and against each other. Rows come in the order of the input.

    Attributes:
        counted: how many passed the check of language since none could be told ("language not told"); how many are
            near-copies of a passage but for a stated change that is really there ("changed on purpose"); of how many
            nobody knows how easy they are, since their row has no mined negative ("easiness not known").
    """

    def __init__(self, limits: Limits, twins: Twins, vectors: Vectors | None) -> None:
        self._limits, self._twins, self._vectors = limits, twins, vectors
        self._meant = False
        self.counted = Counter(dict.fromkeys(COUNTED, 0))

    def look(self, example: Example, written: Sequence[Written], siblings: Collection[bytes] = ()) -> Iterator[Gated]:
        """Yield what becomes of each passage that was written for a row, in their order.

        Args:
            example: the row.
            written: what was written for it.
            siblings: digests of positives that the same query has in other rows (`copies.Marks.known`).
        """
        row = self._row(example, siblings)
        for one in written:
            if one.failure:
                yield Gated(one)
                continue
            self._meant, difficulty = False, None
            reason, why = self._objection(row, one)
            if self._vectors is not None and not reason:  # what is refused before costs no embedding
                reason, why = self._by_vectors(row, one)
                difficulty = self._difficulty(row, one)
            self.counted["changed on purpose"] += self._meant
            gated = Gated(one, synthetic_id(one.title, one.text), reason, why, difficulty)
            if gated.passed:
                full = gated.passage.full_text
                row.passed.append(full)
                row.marks.add(marks_of(gated.passage).full)
                self._twins.note(full)
            yield gated

    def _row(self, example: Example, siblings: Collection[bytes]) -> _Row:
        positives, negatives = (
            [(passage.full_text, grams(passage.full_text)) for passage in side if passage.full_text.strip()]
            for side in (example.positives, example.negatives)
        )
        texts = [text for text, _ in (*positives, *negatives)]
        lengths = [count_words(text) for text in texts]
        least, most = self._limits.words or (0.0, float("inf"))
        mined = [self._cosine("query", example.query, text) for text, _ in negatives] if self._vectors else []
        easy = self._limits.easy
        return _Row(
            example.query,
            min(least * median(lengths), *lengths),
            max(most * median(lengths), *lengths),
            language_of("\n".join(texts)) if self._limits.language else "",
            {mark for passage in example.positives for mark in marks_of(passage).known}.union(siblings),
            {marks_of(passage).full for passage in example.negatives},
            positives,
            negatives,
            max(self._cosine("query", example.query, text) for text, _ in positives) if self._vectors else None,
            _quantile(mined, easy) if mined and easy is not None else None,
        )

    def _objection(self, row: _Row, one: Written) -> tuple[str, str]:
        """Return the first reason against a passage that needs no vectors, and its figure; ("", "") without any."""
        if not one.text.strip():
            return EMPTY, ""
        text = Passage("", one.text, one.title).full_text
        reason, why = self._by_text(row, one, text)
        return (reason, why) if reason else self._by_likeness(row, one, text)

    def _by_text(self, row: _Row, one: Written, text: str) -> tuple[str, str]:
        length = count_words(text)
        if self._limits.words is not None and length < row.shortest:
            return SHORT, f"{length} words, at least {row.shortest:g}"
        if self._limits.words is not None and length > row.longest:
            return LONG, f"{length} words, at most {row.longest:g}"
        marks = marks_of(Passage("", one.text, one.title))
        if marks.equals_one_of(row.known):
            return COPY, "equal"
        if marks.full in row.mined or marks.full in row.marks:
            return NEAR_MINED if marks.full in row.mined else NEAR_SYNTHETIC, "equal"
        if not self._limits.language:
            return "", ""
        told = language_of(text)
        self.counted["language not told"] += not (told and row.language)
        return (LANGUAGE, f"{told}, not {row.language}") if told and row.language and told != row.language else ("", "")

    def _by_likeness(self, row: _Row, one: Written, text: str) -> tuple[str, str]:
        own, copied, twin = grams(text), self._limits.copy, self._limits.twin
        if copied is not None:
            if (share := contained(words(text), words(row.query))) >= copied:
                return QUERY_COPY, f"{share:.2f} of its words"
            for other, theirs in row.positives:
                share = max(contained(own, theirs), contained(theirs, own))
                if share >= copied and not self._on_purpose(one, text, other):
                    return COPY, f"{share:.2f} of it"
        if twin is not None:
            for other, theirs in row.negatives:
                if (share := jaccard(own, theirs)) >= twin and not self._on_purpose(one, text, other):
                    return NEAR_MINED, f"overlap {share:.2f}"
            share, other = self._twins.nearest(text)
            if share >= twin and not self._on_purpose(one, text, other):
                return NEAR_SYNTHETIC, f"overlap {share:.2f}"
        return "", ""

    def _by_vectors(self, row: _Row, one: Written) -> tuple[str, str]:
        text, most = Passage("", one.text, one.title).full_text, self._limits.near
        others = (
            (NEAR_POSITIVE, [other for other, _ in row.positives]),
            (NEAR_MINED, [other for other, _ in row.negatives]),
            (NEAR_SYNTHETIC, row.passed),
        )
        for reason, texts in others if most is not None else ():
            for other in texts:
                near = self._cosine("document", other, text)
                if most is not None and near >= most and not self._on_purpose(one, text, other):
                    return reason, f"cosine {near:.2f}"
        if self._limits.easy is None:
            return "", ""
        if row.least is None:
            self.counted["easiness not known"] += 1
            return "", ""
        near = self._cosine("query", row.query, text)
        return (EASY, f"cosine {near:.2f} < {row.least:.2f}") if near < row.least else ("", "")

    def _on_purpose(self, one: Written, text: str, other: str) -> bool:
        """Whether a near-copy differs by a change that is stated and really there."""
        meant = changed_on_purpose(one.detail, text, other)
        self._meant |= meant
        return meant

    def _cosine(self, role: Role, one: str, other: str) -> float:
        """Return the highest cosine of the windows of two texts; the first is in this role."""
        if self._vectors is None:
            return 0.0
        return round(float((self._vectors.get(role, one) @ self._vectors.get("document", other).T).max()), DECIMALS)

    def _difficulty(self, row: _Row, one: Written) -> float | None:
        if row.best is None:
            return None
        near = self._cosine("query", row.query, Passage("", one.text, one.title).full_text)
        return round(min(max(near / row.best, 0.0), 1.0), 4) if row.best > 0 else 1.0


def _quantile(values: Sequence[float], share: float) -> float:
    """Return the value below which this share of the values lies; 0 = the lowest, 1 = the highest."""
    ordered = sorted(values)
    return ordered[min(int(share * len(ordered)), len(ordered) - 1)]
