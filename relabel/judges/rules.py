"""The free judge: what the rows themselves say, without a model.

A negative that is a copy of a positive (of its own row, or of the same query in another row) is relevant; one that
its row holds twice, or that has no text, is void. About everything else the rules have no opinion.
"""

import re
import sqlite3
import unicodedata
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Final

from relabel.records import Case, Example, Judgment, Passage, digest

COPY: Final = "copy of a positive"
ELSEWHERE: Final = "positive in another row"
NO_RULE: Final = Judgment(None, "no rule applies")

_WORDS: Final = re.compile(r"[^\W_]+")
_BATCH: Final = 10_000


def normalise(text: str) -> str:
    """Fold what does not change the meaning: width and compatibility forms (NFKC), case, punctuation, white space."""
    return " ".join(_WORDS.findall(unicodedata.normalize("NFKC", text).casefold()))


def _marks(passage: Passage) -> tuple[bytes, bytes, bytes]:
    """Digest a passage in three ways: title and text together, text of any, text of one without a title."""
    text = normalise(passage.text)
    title = normalise(passage.title)
    full = f"{title} {text}" if title else text
    return digest("full", full, size=8), digest("any", text, size=8), digest("" if title else "bare", text, size=8)


def _same(candidate: Passage, marks: tuple[bytes, bytes, bytes], known: set[bytes]) -> bool:
    """Whether a candidate equals a known passage; of two passages with titles, the titles must agree too."""
    full, of_any, _ = marks
    other = of_any if not normalise(candidate.title) else digest("bare", normalise(candidate.text), size=8)
    return full in known or other in known


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
                rows += [(query, mark) for passage in example.positives for mark in _marks(passage)]
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
    own = {mark for passage in case.example.positives for mark in _marks(passage)}
    first: dict[bytes, int] = {}
    for index, passage in enumerate(case.example.negatives):
        first.setdefault(_marks(passage)[0], index)
    judgments = []
    for pair in case.pairs:
        marks = _marks(pair.candidate)
        if not pair.candidate.text.strip():
            judgments.append(Judgment(None, "empty"))
        elif _same(pair.candidate, marks, own):
            judgments.append(Judgment("relevant", evidence=COPY))
        elif first[marks[0]] < pair.index:
            judgments.append(Judgment(None, "repeated", rationale=f"same text as negative {first[marks[0]] + 1}"))
        elif _same(pair.candidate, marks, elsewhere):
            judgments.append(Judgment("relevant", evidence=ELSEWHERE))
        else:
            judgments.append(NO_RULE)
    return tuple(judgments)
