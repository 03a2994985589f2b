"""What fills a corpus: passages, queries, judgments and runs are taken in one after the other, in flat memory.

What is needed on the way only (digests of texts, judgments not yet resolved) lies in a second, attached file.
"""

import sqlite3
from typing import Final

from relabel.corpus import texts
from relabel.corpus.intake import Intake
from relabel.corpus.schema import SCHEMA, Built
from relabel.corpus.texts import Passages, Questions
from relabel.errors import InputError
from relabel.formats.corpora.base import GIVEN, Found, Judged, Parts

_SCRATCH: Final = f"""{texts.SCRATCH}
CREATE TABLE scratch.graded (
    query INTEGER NOT NULL, passage INTEGER NOT NULL, grade INTEGER NOT NULL, place INTEGER NOT NULL,
    source INTEGER NOT NULL, line INTEGER NOT NULL);
CREATE TABLE scratch.waiting (
    query INTEGER NOT NULL, document TEXT NOT NULL, grade INTEGER NOT NULL, place INTEGER NOT NULL,
    source INTEGER NOT NULL, line INTEGER NOT NULL);
CREATE TABLE scratch.clashes (source INTEGER NOT NULL, line INTEGER NOT NULL, PRIMARY KEY (source, line)) WITHOUT ROWID;
CREATE TABLE scratch.best (
    query INTEGER NOT NULL, passage INTEGER NOT NULL, grade INTEGER NOT NULL, place INTEGER NOT NULL,
    PRIMARY KEY (query, passage)) WITHOUT ROWID;
"""
_OF_OTHER_TEXTS: Final = (
    "DELETE FROM scratch.graded WHERE EXISTS"
    " (SELECT 1 FROM scratch.clashes WHERE source = graded.source AND line = graded.line)"
)
_BEST: Final = (
    "INSERT INTO scratch.best SELECT query, passage, max(grade), min(place) FROM scratch.graded"
    " WHERE grade > 0 GROUP BY query, passage"
)
_KEPT: Final = (
    "SELECT number FROM scratch.asked WHERE EXISTS"
    " (SELECT 1 FROM scratch.best WHERE query = asked.number AND grade >= ?) ORDER BY number"
)
_ASKED_ALIASES: Final = (
    "INSERT INTO asked_aliases SELECT asked_ids.id, kept FROM scratch.asked_ids"
    " JOIN scratch.asked USING (number) WHERE kept IS NOT NULL AND asked_ids.id != asked.id"
)
_RELEVANT: Final = (
    "INSERT INTO relevant SELECT kept, place, passage, grade >= ? FROM scratch.best"
    " JOIN scratch.asked ON asked.number = best.query WHERE kept IS NOT NULL ORDER BY kept, place"
)
_FOUND: Final = (
    "INSERT INTO found VALUES (?, ?, ?, ?, ?) ON CONFLICT DO UPDATE SET rank = min(rank, excluded.rank),"
    " score = coalesce(max(score, excluded.score), score, excluded.score)"
)

_JUDGED_NEGATIVE: Final = (
    "SELECT kept, passage, row_number() OVER (PARTITION BY kept ORDER BY min(place)) FROM scratch.graded"
    " JOIN scratch.asked ON asked.number = graded.query WHERE kept IS NOT NULL AND passage < ?"
    " GROUP BY kept, passage HAVING max(grade) <= 0 ORDER BY kept, min(place)"
)


class Filling:
    """One filling of an empty corpus; `fill` takes everything in."""

    def __init__(
        self, parts: Parts, threshold: int, intake: Intake, connection: sqlite3.Connection, *, merge: bool
    ) -> None:
        self._parts, self._threshold, self._intake, self._connection = parts, threshold, intake, connection
        self._passages = Passages(connection, intake, merge=merge)
        self._questions = Questions(connection, intake, merge=merge)
        self._judged: Judged | None = None

    def fill(self) -> Built:
        """Take everything in, in one transaction, which is left open.

        Raises:
            InputError: nothing in one part fits to the others.
            RowError: a row cannot be used.
        """
        self._connection.executescript(SCHEMA + _SCRATCH)
        self._connection.execute("BEGIN")
        for source, line, passage in self._intake.rows(self._parts.documents, "passages"):
            self._passages.add(source, line, passage)
        documents = self._passages.count
        self._passages.seal()
        for source, line, query in self._intake.rows(self._parts.queries, "queries"):
            self._questions.add(source, line, query)
        self._take_judgments()
        self._take_outside()
        if self._intake.clashes:
            self._leave_out_clashes()
        queries = self._conclude()
        self._take_judged_negatives(documents)
        self._take_found(documents)
        return Built(
            fingerprint=self._passages.fingerprint,
            documents=documents,
            outside=self._passages.count - documents,
            aliases=self._passages.aliases,
            repeated=self._passages.repeated,
            empty=self._passages.empty + self._questions.empty,
            queries=queries,
            joined=self._questions.joined,
            unanswered=self._questions.count - queries,
            positives=self._count("SELECT count(*) FROM relevant WHERE positive"),
            spared=self._count("SELECT count(*) FROM relevant WHERE NOT positive"),
            found=self._count("SELECT count(*) FROM found"),
            unknown=self._intake.unknown,
            rejected=self._intake.rejected,
        )

    def _take_judgments(self) -> None:
        """Note what is judged; passages that the corpus lacks may still come from outside."""
        for place, (source, line, judged) in enumerate(self._intake.rows(self._parts.judged, "judgments")):
            self._judged = self._judged or judged
            query = self._questions.number_of(judged.query_id)
            if query is None:
                self._intake.miss("judged queries", judged.query_id)
                continue
            number = self._passages.number_of(judged.document_id)
            if number is not None:
                self._grade(query, number, judged.grade, place, source, line)
            elif self._parts.outside is not None:
                waiting = (query, judged.document_id, judged.grade, place, source, line)
                self._connection.execute("INSERT INTO scratch.waiting VALUES (?, ?, ?, ?, ?, ?)", waiting)
            else:
                self._intake.miss("judged passages", judged.document_id)

    def _take_outside(self) -> None:
        """Take in the positives that the corpus lacks, and resolve what waited for them."""
        if self._parts.outside is None:
            return
        execute = self._connection.execute
        execute("CREATE INDEX scratch.by_document ON waiting (document)")
        positive = "SELECT 1 FROM scratch.waiting WHERE document = ? AND grade >= ? LIMIT 1"

        def wanted(document_id: str) -> bool:
            return execute(positive, (document_id, self._threshold)).fetchone() is not None

        for source, line, passage in self._intake.rows(self._parts.outside, "positives"):
            self._passages.add_wanted(source, line, passage, wanted)
        for query, document, grade, place, source, line in execute("SELECT * FROM scratch.waiting ORDER BY place"):
            number = self._passages.number_of(document)
            if number is None:
                self._intake.miss("judged passages", document)
            else:
                self._grade(query, number, grade, place, source, line)

    def _grade(self, *judged: int) -> None:
        self._connection.execute("INSERT INTO scratch.graded VALUES (?, ?, ?, ?, ?, ?)", judged)

    def _leave_out_clashes(self) -> None:
        """Leave out what was judged in rows whose ids stand for other texts."""
        self._connection.executemany("INSERT INTO scratch.clashes VALUES (?, ?)", self._intake.clashes)
        self._connection.execute(_OF_OTHER_TEXTS)

    def _conclude(self) -> int:
        """Number the queries that have a positive, note what is relevant to each; return how many they are."""
        connection = self._connection
        connection.execute(_BEST)
        kept = connection.execute(_KEPT, (self._threshold,))
        connection.executemany(
            "UPDATE scratch.asked SET kept = ? WHERE number = ?", ((at, number) for at, (number,) in enumerate(kept))
        )
        connection.execute(
            "INSERT INTO queries SELECT kept, id, text FROM scratch.asked WHERE kept IS NOT NULL ORDER BY number"
        )
        connection.execute(_ASKED_ALIASES)
        connection.execute(_RELEVANT, (self._threshold,))
        queries = self._count("SELECT count(*) FROM queries")
        if not queries:
            raise self._nothing()
        return queries

    def _nothing(self) -> InputError:
        """Say why no query has a positive."""
        (top,) = self._connection.execute("SELECT max(grade) FROM scratch.graded").fetchone()
        if top is not None:
            return InputError(
                f"no judgment reaches the threshold {self._threshold}: the highest grade is {top}",
                hint="Lower the threshold: --threshold 1" if top >= 1 else "Name judgments with grades of 1 and more.",
            )
        if self._judged is None:
            return InputError("there are no judgments: nothing says which passages are positive", hint="Add some.")
        return self._strangers("judgments", self._judged)

    def _take_judged_negatives(self, documents: int) -> None:
        """Note what was judged not relevant, and never otherwise, as negatives that came with the queries."""
        connection = self._connection
        negatives = connection.cursor().execute(_JUDGED_NEGATIVE, (documents,))
        connection.executemany(_FOUND, ((query, GIVEN, passage, rank, None) for query, passage, rank in negatives))

    def _take_found(self, documents: int) -> None:
        """Note what other systems found for the queries that are left."""
        first: Found | None = None  # of those that were not mined from another corpus, as given negatives may be
        fits = False
        kept: tuple[int, int | None] = (-1, None)
        for source, line, found in self._intake.rows(self._parts.found, "found"):
            if (source, line) in self._intake.clashes:
                continue
            first = first or (found if found.system != GIVEN else None)
            query = self._questions.number_of(found.query_id)
            if query is None:
                self._intake.miss("found queries", found.query_id)
                continue
            number = self._passages.number_of(found.document_id)
            if number is None or number >= documents:
                self._intake.miss("found passages", found.document_id)
                continue
            fits = fits or found.system != GIVEN
            if kept[0] != query:
                (at,) = self._connection.execute("SELECT kept FROM scratch.asked WHERE number = ?", (query,)).fetchone()
                kept = query, at
            if kept[1] is not None:
                self._connection.execute(_FOUND, (kept[1], found.system, number, found.rank, found.score))
        if first is not None and not fits:
            raise self._strangers("runs", first)

    def _strangers(self, what: str, line: Judged | Found) -> InputError:
        """Say that nothing fits, with an id of each side."""
        return InputError(
            f"nothing in the {what} fits: they name query {line.query_id!r} and passage {line.document_id!r},"
            f" the queries have {self._any('scratch.asked')}, the corpus has {self._any('passages')}",
            hint="Are these files of the same data set, and ids written the same way?",
        )

    def _any(self, table: str) -> str:
        row = self._connection.execute(f"SELECT id FROM {table} ORDER BY number LIMIT 1").fetchone()  # noqa: S608
        return "none at all" if row is None else repr(row[0])

    def _count(self, statement: str) -> int:
        return int(self._connection.execute(statement).fetchone()[0])
