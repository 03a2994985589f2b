"""The pairs that are to be labelled, in their order, with all that is shown of them: on disk, whatever their number.

SQLite's own temporary file holds them. It has no name, so that nothing is left of it however the process ends.
"""

import json
import sqlite3
from collections.abc import Iterable, Iterator
from dataclasses import asdict, dataclass
from typing import Any, Final

from relabel.errors import RunError

_SCHEMA: Final = """
CREATE TABLE questions (id INTEGER PRIMARY KEY, shown TEXT NOT NULL);
CREATE TABLE pairs (
    id INTEGER PRIMARY KEY, place INTEGER NOT NULL, question INTEGER NOT NULL, fingerprint TEXT NOT NULL,
    query BLOB NOT NULL, candidate BLOB NOT NULL, shown TEXT NOT NULL, UNIQUE (query, candidate));
"""
_ADD: Final = """
INSERT INTO pairs (place, question, fingerprint, query, candidate, shown) VALUES (?,?,?,?,?,?)
ON CONFLICT (query, candidate) DO UPDATE SET place = min(place, excluded.place)
"""
_NUMBER: Final = """
CREATE TABLE queue (number INTEGER PRIMARY KEY, pair INTEGER NOT NULL UNIQUE);
INSERT INTO queue
    SELECT row_number() OVER (ORDER BY first, place, id), id
    FROM (SELECT id, place, min(place) OVER (PARTITION BY query) AS first FROM pairs);
CREATE INDEX named ON pairs (fingerprint);
"""


@dataclass(frozen=True, slots=True)
class Text:
    """A passage as it is shown."""

    title: str
    text: str


@dataclass(frozen=True, slots=True)
class Word:
    """What a judge said: its label, or why there is none; the probability of the label where the judge has one."""

    judge: str
    label: str
    probability: float | None = None


@dataclass(frozen=True, slots=True)
class Question:
    """What the pairs of a row have in common."""

    id: str
    source: str
    query: str
    reference: tuple[Text, ...]


@dataclass(frozen=True, slots=True)
class Candidate:
    """One pair of a row: its names, what is shown of it, and its place in the order asked for.

    `query` and `candidate` are the address of people's labels, `fingerprint` names the pair.
    """

    place: int
    fingerprint: str
    query: bytes
    candidate: bytes
    shown: Text
    words: tuple[Word, ...]


@dataclass(frozen=True, slots=True)
class Sheet:
    """All about the pair with this number."""

    number: int
    question: Question
    pair: Candidate


class Listing:
    """Pairs numbered from 1, those of one query one after the other, the queries in the order of their first pairs.

    Pairs with the same query and candidate in several rows are one: a person's label is about all of them.
    Made by `build`; one thread at a time.
    """

    def __init__(self, database: sqlite3.Connection) -> None:
        self._database = database
        self.size = int(database.execute("SELECT count(*) FROM queue").fetchone()[0])
        """How many pairs there are."""

    @classmethod
    def build(cls, rows: Iterable[tuple[Question, Iterable[Candidate]]]) -> "Listing":
        """Take in rows, each with those of its pairs that are to be labelled; rows are read once and not kept.

        Raises:
            RunError: there is no room for them.
        """
        try:
            database = sqlite3.connect("", check_same_thread=False)
            database.executescript(_SCHEMA)
            for number, (question, candidates) in enumerate(rows):
                asked = list(_rows(number, candidates))
                if asked:
                    database.execute("INSERT INTO questions VALUES (?,?)", (number, json.dumps(asdict(question))))
                    database.executemany(_ADD, asked)
            database.commit()
            database.executescript(_NUMBER)
        except sqlite3.OperationalError as error:
            raise RunError(
                f"the pairs to label cannot be written to a temporary file: {error}",
                hint="make room in the folder for temporary files, or name another: SQLITE_TMPDIR=FOLDER relabel …",
            ) from error
        return cls(database)

    def close(self) -> None:
        """Let go of the file, and so of all that is in it."""
        self._database.close()

    def sheet(self, number: int) -> Sheet:
        """Return the pair with this number.

        Raises:
            LookupError: there is none.
        """
        if not 1 <= number <= self.size:
            raise LookupError(number)
        question, place, fingerprint, query, candidate, shown = self._database.execute(
            "SELECT questions.shown, place, fingerprint, query, candidate, pairs.shown FROM queue"
            " JOIN pairs ON pairs.id = queue.pair JOIN questions ON questions.id = pairs.question WHERE number = ?",
            (number,),
        ).fetchone()
        told = json.loads(shown)
        words = tuple(Word(**word) for word in told["words"])
        pair = Candidate(place, fingerprint, query, candidate, Text(**told["shown"]), words)
        return Sheet(number, _question(json.loads(question)), pair)

    def named(self, fingerprint: str) -> int:
        """Return the number of the pair with this fingerprint, 0 if none is listed."""
        found = self._database.execute(
            "SELECT number FROM queue JOIN pairs ON pairs.id = queue.pair WHERE fingerprint = ?", (fingerprint,)
        ).fetchone()
        return found[0] if found else 0

    def addressed(self, query: bytes, candidate: bytes) -> int:
        """Return the number of the pair that people's labels at this address are about, 0 if none is listed."""
        found = self._database.execute(
            "SELECT number FROM queue JOIN pairs ON pairs.id = queue.pair WHERE query = ? AND candidate = ?",
            (query, candidate),
        ).fetchone()
        return found[0] if found else 0


def _rows(question: int, candidates: Iterable[Candidate]) -> Iterator[tuple[Any, ...]]:
    for each in candidates:
        shown = json.dumps({"shown": asdict(each.shown), "words": [asdict(word) for word in each.words]})
        yield each.place, question, each.fingerprint, each.query, each.candidate, shown


def _question(told: dict[str, Any]) -> Question:
    return Question(told["id"], told["source"], told["query"], tuple(Text(**text) for text in told["reference"]))
