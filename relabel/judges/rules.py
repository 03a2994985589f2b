"""The free judge: what the rows themselves say, without a model.

A negative that is a copy of a positive (of its own row, or of the same query in another row) is relevant; one that
its row holds twice, or that has neither title nor text, is void. About everything else the rules have no opinion.
"""

import re
import sqlite3
import unicodedata
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Final, NamedTuple

from relabel.records import Case, Example, Judgment, Passage, digest

COPY: Final = "copy of a positive"
ELSEWHERE: Final = "positive in another row"
NO_RULE: Final = Judgment(None, "no rule applies")

_MINUS: Final = re.compile(r"[-‐‑–](?=\d)(?<!\w.)")  # the dash first: what stands before it is looked at only there
_LOST: Final = frozenset(("Zs", "Zl", "Zp", "Cc", "Cf", "Pi", "Pf", "Ps", "Pe", "Pd", "Pc"))
_MARKS: Final = frozenset("`´.,;:!?…·¿¡'\"。、，．：；！？・")
_BATCH: Final = 10_000


class _Folding(dict[int, str]):
    """What each character becomes; looked up once, then remembered."""

    def __missing__(self, code: int) -> str:
        character = chr(code)
        lost = character in _MARKS or unicodedata.category(character) in _LOST
        self[code] = " " if lost else character
        return self[code]


_FOLDING: Final = _Folding()


def normalise(text: str) -> str:
    """Fold what does not change the meaning: width and compatibility forms (NFKC), case, punctuation, white space.

    Symbols and signs stay ("C++", "5 %", "x < 5", "−5"), and so do the vowel marks of scripts that have them. A
    text of nothing but punctuation is left as it is.
    """
    folded = unicodedata.normalize("NFKC", text).casefold()
    words = _MINUS.sub("\N{MINUS SIGN}", folded).translate(_FOLDING).split()
    return " ".join(words) or text.strip()


class _Marks(NamedTuple):
    """A passage by three digests: of title and text together, of its text, of its text as one without a title."""

    full: bytes
    text: bytes
    bare: bytes
    titled: bool

    @property
    def known(self) -> tuple[bytes, bytes, bytes]:
        """What a known positive is found by; only one without a title is found by its bare text."""
        return self.full, self.text, self.full if self.titled else self.bare

    def equals_one_of(self, known: set[bytes]) -> bool:
        """Whether this passage is one of the known; of two passages with titles, the titles must agree too."""
        return self.full in known or (self.bare if self.titled else self.text) in known


def _marks(passage: Passage) -> _Marks:
    text, title = normalise(passage.text), normalise(passage.title)
    full = f"{title} {text}".strip()
    return _Marks(
        digest("full", full, size=8),
        digest("text", text, size=8),
        digest("bare", text or full, size=8),
        titled=bool(title),
    )


class RulesJudge:
    """Compares every negative with the positives of its query and with its neighbours.

    Takes one look at the whole input first and keeps the positives' digests in a file of `folder`, since the same
    query may have other positives in another row.
    """

    def __init__(self, folder: Path) -> None:
        folder.mkdir(parents=True, exist_ok=True)
        self._path = folder / "positives.sqlite"

    def prepare(self, examples: Iterable[Example]) -> None:
        """Note the positives of every query."""
        self._path.unlink(missing_ok=True)
        connection = sqlite3.connect(self._path)
        try:
            connection.execute("PRAGMA synchronous = OFF")  # rebuilt at every run: nothing to lose
            connection.execute(
                "CREATE TABLE positives (query BLOB, mark BLOB, PRIMARY KEY (query, mark)) WITHOUT ROWID"
            )
            rows: list[tuple[bytes, bytes]] = []
            for example in examples:
                query = digest(normalise(example.query), size=8)
                rows += [(query, mark) for passage in example.positives for mark in _marks(passage).known]
                if len(rows) >= _BATCH:
                    connection.executemany("INSERT OR IGNORE INTO positives VALUES (?, ?)", rows)
                    rows.clear()
            connection.executemany("INSERT OR IGNORE INTO positives VALUES (?, ?)", rows)
            connection.commit()
        finally:
            connection.close()

    def judge(self, cases: Iterable[Case]) -> Iterator[Case]:
        """Judge each case as it comes."""
        connection = sqlite3.connect(self._path, check_same_thread=False)
        try:
            for case in cases:
                query = digest(normalise(case.example.query), size=8)
                rows = connection.execute("SELECT mark FROM positives WHERE query = ?", (query,))
                yield case.judged(_judge(case, {mark for (mark,) in rows}))
        finally:
            connection.close()


def _judge(case: Case, elsewhere: set[bytes]) -> tuple[Judgment, ...]:
    own = {mark for passage in case.example.positives for mark in _marks(passage).known}
    all_marks = [_marks(passage) for passage in case.example.negatives]
    first: dict[bytes, int] = {}
    for index, marks in enumerate(all_marks):
        first.setdefault(marks.full, index)
    judgments = []
    for pair in case.pairs:
        marks = all_marks[pair.index]
        if not pair.candidate.full_text.strip():
            judgments.append(Judgment(None, "empty"))
        elif marks.equals_one_of(own):
            judgments.append(Judgment("relevant", evidence=COPY))
        elif first[marks.full] < pair.index:
            judgments.append(Judgment(None, "repeated", rationale=f"same text as negative {first[marks.full] + 1}"))
        elif marks.equals_one_of(elsewhere):
            judgments.append(Judgment("relevant", evidence=ELSEWHERE))
        else:
            judgments.append(NO_RULE)
    return tuple(judgments)
