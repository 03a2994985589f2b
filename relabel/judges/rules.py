"""The free judge: what the rows themselves say, without a model.

A negative that is a copy of a positive (of its own row, or of the same query in another row) is relevant; one that
its row holds twice, or that has neither title nor text, is void. About everything else the rules have no opinion.
"""

from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Final

from relabel.copies import marks_of
from relabel.judges.positives import KnownPositives
from relabel.records import Case, Example, Judgment

COPY: Final = "copy of a positive"
ELSEWHERE: Final = "positive in another row"
NO_RULE: Final = Judgment(None, "no rule applies")


class RulesJudge:
    """Compares every negative with the positives of its query and with its neighbours.

    Takes one look at the whole input first, since the same query may have other positives in another row.
    """

    def __init__(self, folder: Path) -> None:
        self._positives = KnownPositives(folder)

    def prepare(self, examples: Iterable[Example]) -> None:
        """Note the positives of every query."""
        self._positives.note(examples)

    def judge(self, cases: Iterable[Case]) -> Iterator[Case]:
        """Judge each case as it comes."""
        with self._positives.open() as look:
            for case in cases:
                yield case.judged(_judge(case, look.of(case.example.query)))


def _judge(case: Case, elsewhere: set[bytes]) -> tuple[Judgment, ...]:
    own = {mark for passage in case.example.positives for mark in marks_of(passage).known}
    all_marks = [marks_of(passage) for passage in case.example.negatives]
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
