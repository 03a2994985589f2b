"""One query: what retrievers found → candidates with their scores → filters → sampler → its hard negatives."""

import math
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Final

from relabel.copies import marks_of
from relabel.corpus import Corpus
from relabel.judges.positives import Look
from relabel.mining.candidates import Candidate, Pool, Positive
from relabel.mining.fusion import reciprocal_rank_fusion, union
from relabel.mining.likeness import CrossRowPositive
from relabel.mining.searching import Asked, Hits, Retriever
from relabel.mining.strategies import Removed, apply_filters, sample
from relabel.recipe import Recipe
from relabel.records import Passage
from relabel.seeking import Seekers

DECIMALS: Final = 6
FUSED: Final = "rrf"
CROSSENCODER: Final = "crossencoder"
GUIDE: Final = "guide"


@dataclass(frozen=True, slots=True)
class Chosen:
    """What came of one query.

    Attributes:
        asked: the query.
        pool: all that was found, positives apart, each passage once; the positives with score and rank by the first
            list, rank None = not found.
        negatives: the hard negatives, in the order they were taken; each says who found it.
        removed: those of the pool that a filter removed in every list that holds them.
        tried: how many candidates the filters were given, in all lists.
        gone: how many of these each filter removed.
        silent: for how many of these each filter had no word.
        repeated: how many of these have the text of another.
        strangers: how many of the negatives are positives of another query.
        hits: what each retriever found, by name, positives among it.
        numbers: of the passages of the pool, by id.
        suspicion: of passages by number, cos(q,n) − cos(q,p) + cos(p,n) as the maximum over the positives; empty
            without a retriever that compares passages.
    """

    asked: Asked
    pool: Pool
    negatives: tuple[Candidate, ...]
    removed: tuple[Removed, ...]
    tried: int
    gone: Mapping[str, int]
    silent: Mapping[str, int]
    repeated: int
    strangers: int
    hits: Mapping[str, Hits]
    numbers: Mapping[str, int]
    suspicion: Mapping[int, float]


@dataclass(frozen=True, slots=True)
class _Known:
    """All that is known of the passages that have to do with one query, by their numbers."""

    passages: Mapping[int, Passage]
    scores: Mapping[str, Mapping[int, float]]
    near: Mapping[int, tuple[float, ...]]


class Chooser:
    """Chooses negatives, query by query; what it says of one depends on no other."""

    def __init__(self, corpus: Corpus, recipe: Recipe, seekers: Seekers, look: Look) -> None:
        self._corpus, self._recipe, self._look = corpus, recipe, look
        self._retrievers, self._crossencoder, self._guide = seekers.retrievers, seekers.crossencoder, seekers.guide
        # whose similarities among passages are at hand; scores of passages and of queries are then on one scale
        self._comparer = next((name for name, each in self._retrievers.items() if each.near([], []) is not None), None)
        self._strangers = any(isinstance(each, CrossRowPositive) for each in recipe.selection.filters)

    def lists(self, asked: Asked, hits: Mapping[str, Hits]) -> dict[str, list[tuple[int, int]]]:
        """Return each list's candidates as (number, rank), best first; ranks count the positives too, from 1."""
        if self._recipe.fused:
            hits = {FUSED: reciprocal_rank_fusion(list(hits.values()))}
        known = {*asked.positives, *asked.spared}
        return {
            name: [
                (number, rank) for rank, number in enumerate(found.numbers.tolist(), 1) if number not in known
            ][: self._recipe.depth]
            for name, found in hits.items()
        }  # fmt: skip

    def choose(self, asked: Asked, hits: Mapping[str, Hits]) -> Chosen:
        """Choose one query's negatives."""
        lists = self.lists(asked, hits)
        known = self._known(asked, hits, lists)
        selection = self._recipe.selection
        pools = {name: self._pool(asked, name, list_, hits, known) for name, list_ in lists.items()}
        done = {name: apply_filters(pool, selection.filters, selection.exempt) for name, pool in pools.items()}
        drawn = {
            name: sample(each.kept, selection.sampler, self._recipe.wanted, seed=selection.seed)
            for name, each in done.items()
        }
        if len(drawn) > 1:
            negatives = union(list(drawn.values()), [self._recipe.quota(name) for name in drawn])
        else:
            negatives = next(iter(drawn.values()))
        kept = {each.passage.id for filtered in done.values() for each in filtered.kept.candidates}
        merged = next(iter(pools.values())).left_with(_merged([pool.candidates for pool in pools.values()]))
        reasons = {each.candidate.passage.id: each for filtered in done.values() for each in filtered.removed}
        removed = [
            replace(reasons[each.passage.id], candidate=each)
            for each in merged.candidates
            if each.passage.id not in kept
        ]
        marks = [marks_of(each.passage) for each in negatives]
        known_elsewhere = self._look.of_others(asked.text, marks) if marks else set()
        return Chosen(
            asked,
            merged,
            tuple(negatives),
            tuple(removed),
            tried=sum(len(pool.candidates) for pool in pools.values()),
            gone=_added([filtered.counts for filtered in done.values()]),
            silent=_added([filtered.silent for filtered in done.values()]),
            repeated=sum(_repeated(pool) for pool in pools.values()),
            strangers=sum(each.equals_one_of(known_elsewhere) for each in marks),
            hits=hits,
            numbers={passage.id: number for number, passage in known.passages.items()},
            suspicion=self._suspicion(asked, lists, known),
        )

    def pairs(self, asked: Asked, hits: Mapping[str, Hits]) -> Iterator[tuple[str, str]]:
        """Yield what a cross-encoder has to read: the query with its positives and with all candidates."""
        lists = self.lists(asked, hits)
        for passage in self._corpus.passages_of(_numbers(asked, lists)):
            yield asked.text, passage.full_text

    def _known(self, asked: Asked, hits: Mapping[str, Hits], lists: Mapping[str, list[tuple[int, int]]]) -> _Known:
        numbers = _numbers(asked, lists)
        passages = dict(zip(numbers, self._corpus.passages_of(numbers), strict=True))
        scores: dict[str, dict[int, float]] = {}
        for name, retriever in self._retrievers.items():
            found = hits[name]
            scores[name] = dict(zip(found.numbers.tolist(), found.scores.tolist(), strict=True))
            lacking = [number for number in numbers if number not in scores[name]]
            if name not in self._recipe.scores:
                lacking = [number for number in lacking if number in asked.positives]
            scores[name] |= _scores(retriever, asked, lacking)
        if self._guide is not None:
            scores[GUIDE] = _scores(self._guide, asked, numbers)
        if self._crossencoder is not None:
            judged = {number: self._crossencoder.get(asked.text, passages[number].full_text) for number in numbers}
            scores[CROSSENCODER] = {number: score for number, score in judged.items() if score is not None}
        return _Known(passages, scores, self._near(asked, numbers))

    def _near(self, asked: Asked, numbers: Sequence[int]) -> dict[int, tuple[float, ...]]:
        """Return every passage's similarity to each positive, by the first retriever that compares passages."""
        found = self._retrievers[self._comparer].near(numbers, asked.positives) if self._comparer is not None else None
        if found is None:
            return {}
        rows = [tuple([round(value, DECIMALS) for value in row]) for row in found.tolist()]
        return dict(zip(numbers, rows, strict=True))

    def _pool(
        self, asked: Asked, name: str, list_: list[tuple[int, int]], hits: Mapping[str, Hits], known: _Known
    ) -> Pool:
        """Make the pool of one list; a cross-encoder's scores, where there is one, take the place of its own."""
        own = CROSSENCODER if self._crossencoder is not None else name
        comparing = name == own == self._comparer
        found = [
            Candidate(
                known.passages[number],
                rank,
                _rounded(known.scores.get(own, {}).get(number)),
                source=self._finders(name, number, hits),
                scores=_all_scores(known, number),
                near=known.near.get(number, ()) if comparing else (),
            )
            for number, rank in list_
        ]
        if own != name:
            found.sort(key=lambda each: (each.score is None, -(each.score or 0.0), each.rank))
            found = [replace(each, rank=rank) for rank, each in enumerate(found, 1)]
        places = {number: rank for rank, number in enumerate(hits[name].numbers.tolist(), 1)} if name in hits else {}
        positives = tuple(
            [
                Positive(
                    known.passages[number],
                    _rounded(known.scores.get(own, {}).get(number)),
                    places.get(number),
                    _all_scores(known, number),
                )
                for number in asked.positives
            ]
        )
        strangers: set[bytes] = set()
        if self._strangers:
            strangers = self._look.of_others(asked.text, [marks_of(each.passage) for each in found])
        siblings = frozenset(self._look.of(asked.text))
        return Pool(asked.text, positives, tuple(found), siblings, frozenset(strangers))

    def _finders(self, name: str, number: int, hits: Mapping[str, Hits]) -> str:
        """Return who found a passage; in a fused list, all who did."""
        if name != FUSED or name in hits:
            return name
        return "+".join(each for each, found in hits.items() if number in found.numbers)

    def _suspicion(self, asked: Asked, lists: Mapping[str, list[tuple[int, int]]], known: _Known) -> dict[int, float]:
        by = self._comparer
        if by is None:
            return {}
        numbers = list(dict.fromkeys(number for list_ in lists.values() for number, _ in list_))
        to_query = {number: known.scores[by][number] for number in asked.positives if number in known.scores[by]}
        to_query |= _scores(self._retrievers[by], asked, numbers)
        return {
            number: round(
                max(
                    to_query[number] - to_query[positive] + near
                    for positive, near in zip(asked.positives, known.near[number], strict=True)
                ),
                DECIMALS,
            )
            for number in numbers
        }


def _numbers(asked: Asked, lists: Mapping[str, list[tuple[int, int]]]) -> list[int]:
    """Return the passages that have to do with a query: positives, then candidates, each once."""
    return list(dict.fromkeys([*asked.positives, *[number for list_ in lists.values() for number, _ in list_]]))


def _repeated(pool: Pool) -> int:
    return len(pool.candidates) - len({marks_of(each.passage).full for each in pool.candidates})


def _scores(retriever: Retriever, asked: Asked, numbers: Sequence[int]) -> dict[int, float]:
    """Return the scores that a retriever knows."""
    if not numbers:
        return {}
    found = zip(numbers, retriever.score(asked, numbers).tolist(), strict=True)
    return {number: score for number, score in found if math.isfinite(score)}


def _rounded(score: float | None) -> float | None:
    return None if score is None else round(score, DECIMALS)


def _all_scores(known: _Known, number: int) -> dict[str, float | None]:
    return {name: round(by[number], DECIMALS) for name, by in known.scores.items() if number in by}


def _merged(lists: Sequence[Sequence[Candidate]]) -> tuple[Candidate, ...]:
    """Put the candidates of all lists into one, by rank, each passage once: as the list of the lower rank has it."""
    best: dict[str, Candidate] = {}
    ordered = sorted(((each.rank, place, each) for place, list_ in enumerate(lists) for each in list_), key=_place)
    for _, _, each in ordered:
        best.setdefault(each.passage.id, each)
    return tuple(best.values())


def _place(entry: tuple[int, int, Candidate]) -> tuple[int, int]:
    return entry[0], entry[1]


def _added(counts: Sequence[Mapping[str, int]]) -> dict[str, int]:
    total: Counter[str] = Counter()
    for each in counts:
        total.update(each)
    return dict(total)
