"""Why a judge flagged what it flagged: asked after the judging, of those pairs alone, and changing no verdict.

A reply that holds nothing but verdicts is short; the reasons are wanted where a person will look. A stage with
`rationale: flagged` is asked about each pair that it called relevant or partial, in a short question of its own, once
all verdicts are in the store. The answer stands beside the verdict as its rationale; an answer that fails, or is none,
leaves the verdict without one.
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
from relabel.protocols import Engine, Reply, Request
from relabel.records import Case, Judgment, Label, Pair
from relabel.replies import read_rationale
from relabel.stages import Watch
from relabel.store import Store

NAME: Final = ": reasons"
"""What follows a stage's name in what is told of progress."""


@dataclass(frozen=True, slots=True)
class _Flagged:
    """A pair that a judge flagged without a reason, and its word."""

    case: Case
    pair: Pair
    word: Judgment
    label: Label


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
            flagged = (one for case in cases() for one in _flagged(case, number, store))
            for one, reply in _asked(each.judge, each.engine, flagged, store):
                if reply.text:
                    word = replace(one.word, rationale=read_rationale(reply.text))
                    store.add_judgments(number, [replace(one.case, pairs=(one.pair,)).judged((word,))])
                watch(f"{each.name}{NAME}", 1, 1)
    store.flush()


def _flagged(case: Case, judge: int, store: Store) -> Iterator[_Flagged]:
    """Yield the pairs of a case that a judge flagged and gave no reason for."""
    said = store.judgments(case).get(judge, {})
    for pair in case.pairs:
        word = said.get(pair.key)
        if word is not None and word.label in ("relevant", "partial") and not word.rationale:
            yield _Flagged(case, pair, word, word.label)


def _asked(
    judge: LLMJudge, engine: Engine, flagged: Iterable[_Flagged], store: Store
) -> Iterator[tuple[_Flagged, Reply]]:
    """Ask about each pair; yield it with the reply, in any order."""
    waiting: dict[int, _Flagged] = {}
    tickets = count()

    def questions() -> Iterator[Request]:
        for one in flagged:
            ticket = next(tickets)
            with suppress(TemplateError):  # too large to render: it stays without a reason
                alone = store.reply_to(judge.request(one.case, (one.pair,)))
                said = (alone.text or "").strip() if alone is not None else ""
                request = judge.why(one.case, one.pair, one.label, said, ticket)
                waiting[ticket] = one
                yield request

    for reply in engine.answer(questions()):
        yield waiting.pop(reply.request.ticket), reply
