"""Rows that relabelling leaves short of negatives get next-ranked candidates of a mined pool, judged like any other.

Rows of one query that follow each other in the input are looked at together: what those with the same positives lack
is looked for once and dealt out in the rows' order, so that no two of them get the same passage.
"""

import json
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from itertools import count, islice
from pathlib import Path
from typing import Any, Final

from relabel.accounting import Concluded, Refilled
from relabel.cascade import Stage, open_case
from relabel.concluding import Plan, Row, conclude_all, hear
from relabel.copies import marks_of
from relabel.errors import RunError
from relabel.formats import LabeledPairs, rows_of
from relabel.judges.positives import KnownPositives, Look
from relabel.policy import edit, lacking, refill
from relabel.pools import CandidatePool
from relabel.protocols import Extends
from relabel.records import NOTHING, Case, Example, Passage, Verdict
from relabel.rundir import json_line, replacing
from relabel.sources import Source
from relabel.stages import Station, Watch, judge_all
from relabel.store import Store
from relabel.turns import Draw, draw

SHORT: Final = "looking for short rows"
NAME: Final = "refill: "
"""How the stages are called while they judge candidates."""


@dataclass(frozen=True, slots=True)
class Reserve:
    """A pool, and what is known across the rows of the input."""

    pool: CandidatePool
    look: Look

    def following(self, query: str, rows: Sequence[Example]) -> Iterator[Passage]:
        """Yield the candidates of a query that none of its rows holds, and that are no positive of it anywhere."""
        held = [passage for row in rows for passage in (*row.positives, *row.negatives)]
        known = self.look.of(query).union(*[marks_of(passage).known for passage in held])
        for passage in self.pool.following(query):
            marks = marks_of(passage)
            if passage.full_text.strip() and not marks.equals_one_of(known):
                known.update(marks.known)
                yield passage


@contextmanager
def open_reserve(plan: Plan, cache: Path) -> Iterator[Reserve | None]:
    """Open the pool of a plan, None if it has none.

    Raises:
        InputError: the pool is damaged.
        RunError: it is gone, or another than the plan was made for.
    """
    if plan.pool is None:
        yield None
        return
    again = "the same relabel run again, with --pool FOLDER, asks nobody twice"
    if not plan.pool.is_dir():
        raise RunError(f"the pool {plan.pool} is no longer there", hint=f"bring it back, or say where it is: {again}")
    with CandidatePool(plan.pool, cache / "pool") as pool:
        if pool.sha256 != plan.pool_sha256:
            raise RunError(
                f"{plan.pool} is not the pool that this run read (its content differs)",
                hint=f"judge its candidates: {again}",
            )
        part = plan.source.shard.label if plan.source.shard else "whole"
        positives = KnownPositives(cache / "pool" / f"{plan.sha256[:16]}-{part}")
        if not positives.noted:
            positives.note(plan.source.examples())
        with positives.open() as look:
            yield Reserve(pool, look)


# -- reading: what the rows get by what was said ---------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class _Family:
    """Rows of one query with the same positives: their places in the group, and what each of them lacks.

    `example` is the first of them; the candidates are judged as negatives of it.
    """

    example: Example
    lacks: dict[int, int]

    @property
    def lacking(self) -> int:
        return sum(self.lacks.values())


def refilled(plan: Plan, store: Store, reserve: Reserve, rows: Iterable[Row]) -> Iterator[Row]:
    """Give short rows what the pool holds for them, by what the store holds; a pure reading.

    `rows` were concluded as if their format could hold a row without negatives; one that still is so where the format
    cannot is removed here.
    """
    word = _word(plan, store)
    for group in _groups(rows):
        out = [one for one, _ in group]
        for family in _families(plan, group):
            drawn = _draw(plan, reserve, group, family, word)
            known, left = reserve.pool.knows(family.example.query), iter(drawn.found)
            fates: Mapping[str, int] = drawn.fates
            for place, lack in family.lacks.items():
                more = tuple(islice(left, lack))
                got = refill(out[place].edited, more, plan.source.format.place)
                out[place] = replace(out[place], edited=got, refilled=Refilled(lack, len(more), known, fates))
                fates = NOTHING  # they are counted once
        for one, (_, case) in zip(out, group, strict=True):
            yield _held(plan, one), case


def _groups(rows: Iterable[Row]) -> Iterator[list[Row]]:
    """Gather rows of one query that follow each other in the input, be it a shard or the whole."""
    group: list[Row] = []
    for row in rows:
        if group:
            last, this = group[-1][0].example, row[0].example
            if last.query != this.query or last.position + 1 != this.position:
                yield group
                group = []
        group.append(row)
    if group:
        yield group


def _families(plan: Plan, group: Sequence[Row]) -> Iterator[_Family]:
    """Yield the families in which a row lacks something."""
    found: dict[Any, _Family] = {}
    for place, (one, _) in enumerate(group):
        example = one.example
        key = (example.source, tuple([(passage.title, passage.text) for passage in example.positives]))
        family = found.setdefault(key, _Family(example, {}))
        if one.trail is not None and (lack := lacking(example, one.edited, plan.policy, plan.holds)):
            family.lacks[place] = lack
    return (family for family in found.values() if family.lacks)


def _draw(
    plan: Plan,
    reserve: Reserve,
    group: Sequence[Row],
    family: _Family,
    word: Callable[[Case], Verdict | None],
    turns: int | None = None,
) -> Draw:
    candidates = reserve.following(family.example.query, [one.example for one, _ in group])
    return draw(candidates, family.lacking, lambda each: word(_case(plan, family, each)), plan.policy, turns)


def _case(plan: Plan, family: _Family, passage: Passage, number: int = 0) -> Case:
    """Make the case of one candidate: alone, so that what is said of it depends on no other."""
    return open_case(number, replace(family.example, negatives=(passage,)), plan.reference)


def _word(plan: Plan, store: Store) -> Callable[[Case], Verdict | None]:
    stages, people = _unsampled(plan.stages), store.has_people()

    def word(case: Case) -> Verdict | None:
        """Return what was concluded about a candidate, None where somebody who is due was not asked."""
        heard = hear(plan, store, case, stages, people=people)
        (verdict,) = heard.verdicts
        silent = any(due[0] and words[0] is None for due, words in zip(heard.trail.due, heard.trail.words, strict=True))
        return verdict if not silent or verdict.outcome != "undecided" else None

    return word


def _unsampled(stages: Sequence[Stage]) -> list[Stage]:
    """Return the stages without second opinions: these are for statistics over the input's own pairs."""
    return [replace(stage, sample=0.0) for stage in stages]


def _held(plan: Plan, one: Concluded) -> Concluded:
    """Remove a row that is still without negatives where its format cannot hold that."""
    left = one.edited.example
    if one.trail is None or plan.holds.emptied or left is None or left.negatives:
        return one
    return replace(one, edited=edit(one.example, one.verdicts, plan.policy, plan.holds))


# -- judging ---------------------------------------------------------------------------------------------------


def refill_all(plan: Plan, stations: Sequence[Station], store: Store, watch: Watch) -> None:
    """Ask about candidates, turn by turn, until every short row is full or the pool has no more for it.

    A turn depends on input and verdicts alone: a resumed run asks the same again, and is answered from the store.
    """
    cache = store.folder / "cache"
    with open_reserve(plan, cache) as reserve:
        if reserve is None:
            return
        short = _ShortRows(plan.source, cache / "pool" / "short.jsonl")
        short.note(plan, store, watch)
        unsampled = _unsampled([station.stage for station in stations])
        stations = [replace(station, stage=stage) for station, stage in zip(stations, unsampled, strict=True)]
        for turn in count():
            if next(_due(plan, store, reserve, short, turn), None) is None:
                return
            for station in stations:
                if isinstance(station.judge, Extends):
                    station.judge.extend(case.example for case in _due(plan, store, reserve, short, turn))
            due = _due(plan, store, reserve, short, turn)
            judge_all(due, stations, store, plan.seed, lambda stage, *counts: watch(NAME + stage, *counts))


def _due(plan: Plan, store: Store, reserve: Reserve, short: "_ShortRows", turn: int) -> Iterator[Case]:
    """Yield the cases of one turn; everybody has been asked about those before."""
    word, numbers = _word(plan, store), count()
    for group in _groups(_rows(plan, store, short.examples())):
        for family in _families(plan, group):
            for passage in _draw(plan, reserve, group, family, word, turn).due:
                yield _case(plan, family, passage, next(numbers))


def _rows(plan: Plan, store: Store, examples: Iterable[Example]) -> Iterator[Row]:
    return conclude_all(plan, store, examples, replace(plan.holds, emptied=True))


class _ShortRows:
    """The rows of the input of which some are short, with their neighbours, in a file: a turn reads no others."""

    def __init__(self, source: Source, path: Path) -> None:
        self._source, self._path = source, path

    def note(self, plan: Plan, store: Store, watch: Watch) -> None:
        """Find them in the input."""
        with replacing(self._path) as file:
            for group in _groups(_rows(plan, store, self._source.examples())):
                short = any(True for _ in _families(plan, group))
                for one, _ in group:
                    if short:
                        file.write(json_line({"position": one.example.position, "row": one.example.row}))
                    watch(SHORT, 0, len(one.example.negatives))

    def examples(self) -> Iterator[Example]:
        """Read them."""
        form, field = self._source.format, self._source.source_field or None
        with self._path.open(encoding="utf-8") as lines:
            for line in lines:
                told = json.loads(line)
                position = told["position"]
                rows = [
                    form.parse(row, position=position, line=position, source_field=field)
                    for row in rows_of(told["row"], form.name)
                ]
                yield form.join(rows, line=position) if isinstance(form, LabeledPairs) else rows[0]
