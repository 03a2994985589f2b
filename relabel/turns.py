"""Which candidates rows that are short of negatives are given, and after how many questions: pure functions.

What is lacking is looked for in turns, next-ranked candidates first: at first as many as are lacking, then `GROWTH`
times as many as still are, and so on, so that few turns do. Each candidate is asked about alone, whatever the turn it
comes in: what is said of it holds under another policy, which asks in other turns.
"""

from collections import Counter
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from itertools import islice
from typing import Final

from relabel.policy import Policy, action_for
from relabel.records import Passage, Verdict

GROWTH: Final = 4

FATES: Final = ("added", "spare", "relevant", "partial", "undecided", "void", "not asked")
"""What becomes of a candidate. Spare is a true negative that came too late; undecided also what a policy would ask
about; relevant is a false negative that was never in a row, and is not promoted."""

_FATES: Final[Mapping[str, str]] = {"false negative": "relevant", "true negative": "undecided"}

Found = tuple[Passage, Verdict]


@dataclass(frozen=True, slots=True)
class Draw:
    """What was found for what was lacking.

    Attributes:
        found: true negatives, next-ranked first, no more than were lacking.
        fates: how many candidates had which of `FATES`.
        due: the candidates of the turn after those that were looked at; empty when nothing is lacking any more, or
            no candidate is left.
    """

    found: tuple[Found, ...]
    fates: Counter[str]
    due: tuple[Passage, ...] = ()


def draw(
    candidates: Iterator[Passage],
    lacking: int,
    word: Callable[[Passage], Verdict | None],
    policy: Policy,
    turns: int | None = None,
) -> Draw:
    """Find true negatives.

    Args:
        candidates: next-ranked first; no more are taken from it than are looked at.
        lacking: how many are wanted.
        word: what was concluded about a candidate; None where nobody was asked. Only a true negative that the policy
            keeps is ever added.
        policy: the policy.
        turns: how many turns to look at; None = as many as it takes, up to the first in which somebody was not asked.
    """
    found: list[Found] = []
    fates: Counter[str] = Counter()
    turn = 0
    while len(found) < lacking and not fates["not asked"]:
        batch = tuple(islice(candidates, (lacking - len(found)) * GROWTH**turn))
        if not batch or turn == turns:
            return Draw(tuple(found), fates, batch)
        for passage in batch:
            verdict = word(passage)
            fate = _fate(verdict, policy)
            if verdict is not None and fate == "added":
                if len(found) < lacking:
                    found.append((passage, verdict))
                else:
                    fate = "spare"
            fates[fate] += 1
        turn += 1
    return Draw(tuple(found), fates)


def _fate(verdict: Verdict | None, policy: Policy) -> str:
    if verdict is None:
        return "not asked"
    if verdict.outcome == "true negative" and action_for(policy, verdict) == "keep":
        return "added"
    return _FATES.get(verdict.outcome, verdict.outcome)
