"""What people know of mined candidates, as judgments in TREC's form: the truth that filters are measured against."""

from collections.abc import Iterable, Iterator, Sequence
from typing import Any

from relabel.choosing import Chosen
from relabel.errors import InputError
from relabel.formats.corpora import open_judged
from relabel.mining.candidates import Pool
from relabel.mining.detection import Detector
from relabel.selection import Selection


class Gold:
    """Grades by query and passage id; held in memory, some 200 bytes a judgment.

    Args:
        where: a qrels file (TREC's or BEIR's), or any source that has judgments.
        threshold: the lowest grade that is relevant; what lies between 0 and it counts as unknown.

    Raises:
        InputError: it holds no judgments.
        RowError: one cannot be read.
    """

    def __init__(self, where: str, threshold: int = 1) -> None:
        self.where = where
        judged = open_judged(where).judged
        grades = {} if judged is None else {(each.query_id, each.document_id): each.grade for each in judged()}
        if not grades:
            raise InputError(f"{where}: holds no judgments", hint="a qrels file: query, passage and grade in each row")
        self._grades, self._threshold = grades, threshold

    def of(self, query_id: str, pool: Pool) -> Sequence[bool | None]:
        """Return the truth of a pool's candidates: relevant, not, or None = nobody knows."""
        return [self._relevant(self._grades.get((query_id, each.passage.id))) for each in pool.candidates]

    def _relevant(self, grade: int | None) -> bool | None:
        if grade is None or 0 < grade < self._threshold:
            return None
        return grade >= self._threshold


class Measuring:
    """Measures filters as detectors of false negatives on the candidates that they are given, if there is gold."""

    def __init__(self, where: str | None, threshold: int, selection: Selection) -> None:
        self._gold = Gold(where, threshold) if where is not None else None
        self._detector = Detector(selection.filters, selection.exempt)
        self._seed = selection.seed

    def over(self, chosen: Iterable[Chosen]) -> Iterator[Chosen]:
        """Look at every list of candidates on its way."""
        for each in chosen:
            if self._gold is not None:
                for pool in each.lists:
                    self._detector.add(pool, self._gold.of(each.asked.id, pool))
            yield each

    def result(self) -> list[dict[str, Any]]:
        """Return plain JSON, filter by filter, then the whole list; nothing without gold."""
        return [each.to_json() for each in self._detector.result(seed=self._seed)] if self._gold is not None else []
