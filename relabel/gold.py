"""What people know of mined candidates, as judgments in TREC's form: the truth that filters are measured against."""

from collections.abc import Iterable, Iterator, Sequence
from typing import Any

from relabel.choosing import Chosen
from relabel.corpus import Corpus
from relabel.errors import InputError
from relabel.formats.corpora import open_judged
from relabel.formats.corpora.base import Judged
from relabel.mining.candidates import Pool
from relabel.mining.detection import Detector
from relabel.selection import Selection


class Gold:
    """Grades by query and passage id; held in memory, some 200 bytes a judgment.

    Args:
        where: a qrels file (TREC's or BEIR's), or any source that has judgments.
        threshold: the lowest grade that is relevant; what lies between 0 and it counts as unknown.
        corpus: one in which passages and queries of equal text are one: judgments may name any of their ids. Without
            it ids are compared as they are.

    Raises:
        InputError: it holds no judgments.
        RowError: one cannot be read.
    """

    def __init__(self, where: str, threshold: int = 1, corpus: Corpus | None = None) -> None:
        self.where = where
        judged, grades = open_judged(where).judged, dict[tuple[str, str], int]()
        for each in judged() if judged is not None else ():
            pair = _known_as(each, corpus) if corpus is not None else (each.query_id, each.document_id)
            grades[pair] = max(each.grade, grades.get(pair, each.grade))
        if not grades:
            raise InputError(f"{where}: holds no judgments", hint="a qrels file: query, passage and grade in each row")
        self._grades, self._threshold = grades, threshold
        self._matched: set[tuple[str, str]] = set()
        self._asked_of: tuple[str, str] | None = None

    @property
    def told(self) -> dict[str, int]:
        """How many pairs are judged, and how many of them were candidates so far."""
        return {"judgments": len(self._grades), "matched": len(self._matched)}

    def check(self) -> None:
        """Refuse judgments that say nothing of what was mined.

        Raises:
            InputError: no candidate was judged; shows an id of each side.
        """
        if self._asked_of is None or self._matched:
            return
        (query, passage), (own_query, own_passage) = next(iter(self._grades)), self._asked_of
        raise InputError(
            f"{self.where}: no judgment is of a candidate: it judges passage {passage!r} for query {query!r}, a"
            f" candidate is passage {own_passage!r} for query {own_query!r}",
            hint="Are ids written the same way, and does it judge more than the positives?",
        )

    def of(self, query_id: str, pool: Pool) -> Sequence[bool | None]:
        """Return the truth of a pool's candidates: relevant, not, or None = nobody knows."""
        pairs = [(query_id, each.passage.id) for each in pool.candidates]
        self._asked_of = self._asked_of or next(iter(pairs), None)
        self._matched.update(pair for pair in pairs if pair in self._grades)
        return [self._relevant(self._grades.get(pair)) for pair in pairs]

    def _relevant(self, grade: int | None) -> bool | None:
        if grade is None or 0 < grade < self._threshold:
            return None
        return grade >= self._threshold


class Measuring:
    """Measures filters as detectors of false negatives on the candidates that they are given, if there is gold."""

    def __init__(self, where: str | None, threshold: int, selection: Selection, corpus: Corpus) -> None:
        self._gold = Gold(where, threshold, corpus) if where is not None else None
        self._detector = Detector(selection.filters, selection.exempt)
        self._seed = selection.seed

    def over(self, chosen: Iterable[Chosen]) -> Iterator[Chosen]:
        """Look at every list of candidates on its way."""
        for each in chosen:
            if self._gold is not None:
                for pool in each.lists:
                    self._detector.add(pool, self._gold.of(each.asked.id, pool))
            yield each

    def result(self) -> dict[str, Any]:
        """Return plain JSON: how much gold there is, each filter, then the whole list; nothing without gold.

        Raises:
            InputError: no judgment is of a candidate.
        """
        if self._gold is None:
            return {"gold": {}, "detection": []}
        self._gold.check()
        found = self._detector.result(seed=self._seed)
        return {"gold": self._gold.told, "detection": [each.to_json() for each in found]}


def _known_as(judged: Judged, corpus: Corpus) -> tuple[str, str]:
    """Return the ids by which the corpus knows a judged pair; its own where the corpus lacks it."""
    number = corpus.number_of(judged.document_id)
    document = judged.document_id if number is None else corpus.passage(number).id
    return corpus.query_id_of(judged.query_id) or judged.query_id, document
