"""Input and store → what was concluded about every row, and what the policy makes of it: pure readings."""

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Self

from relabel import config
from relabel.accounting import Concluded, Voices
from relabel.cascade import Stage, Trail, conclude, follow, open_case
from relabel.policy import Edited, Holds, Policy, edit
from relabel.records import Action, Case, Example, Judgment, Verdict, digest, majority
from relabel.sources import Source
from relabel.store import Store

Row = tuple[Concluded, Case]


@dataclass(frozen=True, slots=True)
class Plan:
    """All that turns an input and a store into results: no judge, no engine. Made by `Plan.of`.

    `pool_sha256` is the digest of the candidates that rows are refilled from, "" without any.
    """

    source: Source
    settings: config.Settings
    numbers: tuple[int, ...]
    sha256: str
    stages: tuple[Stage, ...]
    policy: Policy
    reference: int
    seed: int
    pool_sha256: str = ""

    @classmethod
    def of(
        cls, source: Source, settings: config.Settings, numbers: Sequence[int], sha256: str, pool_sha256: str = ""
    ) -> Self:
        """Lay out what the settings mean."""
        stages, policy = settings.routing(), settings.policy.policy()
        return cls(
            source, settings, tuple(numbers), sha256, stages, policy, settings.reference, settings.seed, pool_sha256
        )

    @property
    def pool(self) -> Path | None:
        """The mined folder that rows are refilled from."""
        return Path(self.settings.pool) if self.settings.pool is not None else None

    @property
    def holds(self) -> Holds:
        """What the format of the rows can hold."""
        form = self.source.format
        return Holds(form.holds_promotions, form.holds_emptied, form.holds_more)


@dataclass(frozen=True, slots=True)
class Heard:
    """What was said about the pairs of a case, and what follows."""

    trail: Trail
    verdicts: tuple[Verdict, ...]
    people: tuple[Voices | None, ...] = ()


def hear(plan: Plan, store: Store, case: Case, stages: Sequence[Stage], *, people: bool) -> Heard:
    """Conclude about a case by what the store holds.

    Args:
        plan: the run's.
        store: the run's.
        case: its pairs.
        stages: the routing.
        people: whether the store holds labels of people.
    """
    known = store.judgments(case) if case.pairs else {}
    trail = follow(stages, case, [known.get(judge, {}) for judge in plan.numbers], plan.seed)
    voices = _people(store, case) if people else ()
    verdicts = tuple(
        [
            conclude(stages, trail, i, said.word if voices and (said := voices[i]) else None)
            for i in range(len(case.pairs))
        ]
    )  # fmt: skip
    return Heard(trail, verdicts, voices)


def conclude_all(plan: Plan, store: Store, examples: Iterable[Example], holds: Holds) -> Iterator[Row]:
    """Walk examples through cascade and policy by what the store holds."""
    people = store.has_people()
    for number, example in enumerate(examples):
        case = open_case(number, example, plan.reference)
        if plan.policy.exempts(example.source):
            keep: Action = "keep"
            yield Concluded(example, None, (), Edited(example, (), (keep,) * len(example.negatives))), case
            continue
        heard = hear(plan, store, case, plan.stages, people=people)
        edited = edit(example, heard.verdicts, plan.policy, holds)
        yield Concluded(example, heard.trail, heard.verdicts, edited, heard.people), case


def _people(store: Store, case: Case) -> tuple[Voices | None, ...]:
    """Return what people said of each pair: the label of a majority; no label where they are divided."""
    query = query_key(case.example.query)
    said = store.people(query)
    notes = store.notes(query) if said else {}
    all_voices: list[Voices | None] = []
    for pair in case.pairs:
        key = candidate_key(pair.candidate.title, pair.candidate.text)
        labels = said.get(key, {})
        if not labels:
            all_voices.append(None)
            continue
        label = majority(labels.values())
        who = ", ".join(f"{reviewer}: {word}" for reviewer, word in labels.items())
        word = Judgment(label, "" if label else "reviewers disagree", rationale=who)
        all_voices.append(Voices(labels, word, notes.get(key, {})))
    return tuple(all_voices)


def query_key(query: str) -> bytes:
    """Address of a query among people's labels: a person judges query and passage, whatever the reference."""
    return digest("query", query)


def candidate_key(title: str, text: str) -> bytes:
    """Address of a passage among people's labels."""
    return digest("candidate", title, text)
