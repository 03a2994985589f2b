"""Why a judge flagged what it flagged: asked after the judging, of those pairs alone, and changing no verdict.

A reply that holds nothing but verdicts is short; the reasons are wanted where a person will look. A stage with
`rationale: flagged` is asked about the pairs that it called relevant or partial, in short questions of their own (one a
query, where it judges in groups), once all verdicts are in the store. The answer stands beside the verdict as its
rationale; an answer that fails, or is none, leaves the verdict without one.
"""

from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import suppress
from dataclasses import dataclass, replace
from itertools import count
from typing import Final

from relabel import config
from relabel.building import Opened
from relabel.concluding import Plan
from relabel.errors import TemplateError
from relabel.judges.llm import LLMJudge
from relabel.protocols import Engine, Request
from relabel.records import Case, Judgment, Pair
from relabel.replies import read_reasons
from relabel.stages import Watch
from relabel.store import Store

NAME: Final = ": reasons"
"""What follows a stage's name in what is told of progress."""


@dataclass(frozen=True, slots=True)
class _Flagged:
    """Pairs of a case that a judge flagged without a reason, with its words: what one question is about."""

    case: Case
    words: Sequence[tuple[Pair, Judgment]]


def explain_all(
    plan: Plan, opened: Sequence[Opened], cases: Callable[[], Iterable[Case]], store: Store, watch: Watch
) -> None:
    """Ask every stage that shall give reasons for what it flagged, one stage after the other, and keep them.

    What was answered before comes from the store. In memory are the questions in flight.

    Args:
        plan: the run's.
        opened: the judges of its stages.
        cases: begins anew to yield all cases of the input.
        store: holds the words of all stages; gets the reasons.
        watch: told about progress.

    Raises:
        ServiceError: the service cannot go on; the store keeps what was answered.
    """
    for stage, each, number in zip(plan.settings.stages, opened, plan.numbers, strict=True):
        wanted = isinstance(stage, config.LLM) and stage.rationale == "flagged"
        if wanted and each.engine is not None and isinstance(each.judge, LLMJudge):
            flagged = (part for case in cases() for part in _flagged(case, each.judge, number, store))
            for case in _reasoned(each.judge, each.engine, flagged):
                store.add_judgments(number, [case])
                watch(f"{each.name}{NAME}", len(case.pairs), len(case.pairs))
    store.flush()


def _flagged(case: Case, judge: LLMJudge, number: int, store: Store) -> Iterator[_Flagged]:
    """Yield the pairs of a case that a judge flagged and gave no reason for."""
    said = store.judgments(case).get(number, {})
    words = [(pair, word) for pair in case.pairs if (word := said.get(pair.key)) is not None and _lacks(word)]
    with suppress(TemplateError):  # too large to render: it stays without a reason
        yield from (_Flagged(case, part) for part in judge.whys(case, words))


def _lacks(word: Judgment) -> bool:
    return word.label in ("relevant", "partial") and not word.rationale


def _reasoned(judge: LLMJudge, engine: Engine, flagged: Iterable[_Flagged]) -> Iterator[Case]:
    """Ask about flagged pairs; yield them with their words and the reasons for them, in any order."""
    waiting: dict[int, _Flagged] = {}
    tickets = count()

    def questions() -> Iterator[Request]:
        for part in flagged:
            ticket = next(tickets)
            with suppress(TemplateError):
                request = judge.why(part.case, part.words, ticket)
                waiting[ticket] = part
                yield request

    for reply in engine.answer(questions()):
        part = waiting.pop(reply.request.ticket)
        reasons = read_reasons(reply.text or "", len(part.words))
        words = [replace(word, rationale=reason) for (_, word), reason in zip(part.words, reasons, strict=True)]
        yield replace(part.case, pairs=tuple([pair for pair, _ in part.words])).judged(tuple(words))
