"""Which stage is asked about which pairs: a sample of a training file, and a judge that can be interviewed."""

import heapq
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Final

from relabel import config
from relabel.building import open_cluster, open_judges
from relabel.cascade import Stage, open_case, settles
from relabel.errors import InputError, SettingsError
from relabel.interview import Begin, Bill, Direct, Interview, Key, Progress
from relabel.judges.rules import RulesJudge
from relabel.pipeline import check_folder
from relabel.records import Case, Example, Finding, Pair, Verdict, chance, digest, fingerprint
from relabel.sources import Source
from relabel.store import Store
from relabel.store_file import STORE

SAMPLE: Final = "sample"
"""Folder within a run's cache for what is noted of a sample."""


@dataclass(frozen=True, slots=True)
class Rehearsed:
    """What a comparison or a diagnosis would ask: each way's bill, as an estimate; `answered` is in the store."""

    stage: str
    queries: int
    pairs: int
    bills: Mapping[str, Bill]
    notes: tuple[str, ...] = ()


# -- which stage, which rows -------------------------------------------------------------------------------


def stage_of(settings: config.Settings, name: str | None, *, kinds: tuple[type, ...] = (config.LLM,)) -> int:
    """Return the place of the stage that shall be asked; without a name the first that can be.

    Raises:
        SettingsError: there is none, or the one named cannot be asked this.
    """
    able = [number for number, stage in enumerate(settings.stages) if isinstance(stage, kinds)]
    names = settings.names
    if not able:
        raise SettingsError(
            f"the cascade has no stage that can be asked: {', '.join(names)}", hint="name a config with an LLM: -c FILE"
        )
    if name is None:
        return able[0]
    if name not in names:
        raise SettingsError(f"no stage is called {name!r}", hint=f"stages: {', '.join(names)}")
    if names.index(name) not in able:
        raise SettingsError(
            f"stage {name!r} cannot be asked this", hint=f"choose one of {', '.join(names[number] for number in able)}"
        )
    return names.index(name)


def sample(source: Source, settings: config.Settings, stage: int, queries: int, folder: Path) -> list[Case]:
    """Return the pairs of some queries that a run would ask a stage about, had only rules come before it.

    Which queries depends on the seed and their texts alone: the same in another order of rows, and mostly the same in
    a larger file (the n smallest hashes). All rows of a query are taken, and the pairs that `rules` settle left out.

    Args:
        source: the input.
        settings: the cascade.
        stage: its place in it.
        queries: how many.
        folder: for the notes of `rules`.

    Raises:
        InputError: no row has a pair to ask about.
        SettingsError: fewer than one query is wanted.
    """
    if queries < 1:
        raise SettingsError(f"a sample of {queries} queries", hint="ask for one or more: -n")
    exempts = settings.policy.policy().exempts

    def rows() -> Iterator[Example]:
        return (row for row in source.examples() if not exempts(row.source))

    chosen = _chosen((row.query for row in rows() if row.negatives), queries, settings.seed)
    examples = [row for row in rows() if row.negatives and digest(row.query) in chosen]
    cases = [open_case(number, example, settings.reference) for number, example in enumerate(examples)]
    for number, each in enumerate(settings.stages[:stage]):
        if isinstance(each, config.Rules):
            rules = RulesJudge(folder / settings.names[number])
            rules.prepare(rows())
            cases = [_open(case, settings.routing()[number]) for case in rules.judge(cases)]
    cases = [case for case in cases if case.pairs]
    if not cases:
        raise InputError(f"{source.path}: no pair to ask {settings.names[stage]} about", hint="are there negatives?")
    return cases


def _chosen(queries: Iterable[str], most: int, seed: int) -> set[bytes]:
    """Return the digests of the queries with the smallest hashes; in memory are no more than are wanted."""
    kept: list[tuple[float, bytes]] = []  # a heap, the largest first
    there: set[bytes] = set()
    for query in queries:
        key = digest(query)
        if key in there:
            continue
        there.add(key)
        heapq.heappush(kept, (-chance("sample of queries", str(seed), query), key))
        if len(kept) > most:
            there.discard(heapq.heappop(kept)[1])
    return there


def _open(case: Case, routing: Stage) -> Case:
    """Return a judged case with those of its pairs that are not settled."""
    pairs = [pair for pair, word in zip(case.pairs, case.judgments, strict=True) if not settles(routing, word)]
    return replace(case, pairs=tuple(pairs), judgments=())


def finding(case: Case, pair: Pair) -> Finding:
    """Return a pair of a sample as labels are looked up by."""
    return Finding(
        case.example, case.reference, pair.candidate, Verdict("undecided"), "keep", "judged", {},
        fingerprint(case, pair),
    )  # fmt: skip


def pairs_of(cases: Iterable[Case]) -> Iterator[tuple[Key, Case, Pair]]:
    """Yield the pairs of a sample with their keys."""
    for case in cases:
        for pair in case.pairs:
            yield (case.number, pair.index), case, pair


def size_of(cases: Sequence[Case]) -> tuple[int, int]:
    """Return how many queries and pairs a sample has."""
    return len({case.example.query for case in cases}), sum(len(case.pairs) for case in cases)


@contextmanager
def sitting(
    source: Source,
    settings: config.Settings,
    stage: int,
    queries: int,
    folder: Path,
    *,
    dry: bool = False,
    progress: Progress = lambda *_: None,
    begin: Begin = lambda *_: None,
) -> Iterator[tuple[Interview, list[Case]]]:
    """Give an LLM stage that can be asked, and the sample to ask it about.

    Args:
        source: the input.
        settings: the cascade.
        stage: the stage's place in it.
        queries: how many the sample shall have.
        folder: where replies are kept; may be a run directory.
        dry: nothing is asked or written; stored replies are looked up.
        progress: told how many questions are answered.
        begin: told how many there are, before anybody is asked.

    Raises:
        InputError: the input has no pair to ask about.
        SettingsError: the stage is no LLM.
    """
    name, asked = settings.names[stage], settings.stages[stage]
    if not isinstance(asked, config.LLM):
        raise SettingsError(f"stage {name!r} is no LLM", hint="name one that is: --stage")
    check_folder(folder)
    with ExitStack() as stack:
        store = stack.enter_context(Store(folder)) if not dry or (folder / STORE).is_file() else None
        notes = Path(stack.enter_context(TemporaryDirectory())) if dry else folder / "cache"
        cases = sample(source, settings, stage, queries, notes / SAMPLE)
        cluster = None if dry else stack.enter_context(open_cluster(settings, notes))
        interview = Interview(
            name, asked, store, notes, seed=settings.seed, cluster=cluster, progress=progress, begin=begin,
            prices=settings.prices,
        )  # fmt: skip
        yield interview, cases


@contextmanager
def sitting_direct(
    source: Source, settings: config.Settings, stage: int, queries: int, folder: Path
) -> Iterator[tuple[Direct, list[Case]]]:
    """Give an embedding or cross-encoder stage that can be asked, and the sample to ask it about; see `sitting`.

    What it computes is kept apart from the caches of a run in the same folder: those depend on the run's input alone.
    """
    check_folder(folder)
    name = settings.names[stage]
    alone = settings.model_copy(update={"stages": [settings.stages[stage].model_copy(update={"name": name})]})
    notes = folder / "cache" / SAMPLE
    with Store(folder) as store, open_cluster(settings, folder / "cache") as cluster:
        cases = sample(source, settings, stage, queries, notes)
        (opened,) = open_judges(alone, store, notes, own={}, cluster=cluster)
        yield Direct(name, opened.judge), cases
