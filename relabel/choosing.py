"""One query: what retrievers found → candidates with their scores → filters → sampler → its hard negatives."""

import math
from collections import Counter, defaultdict
from collections.abc import Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Final

from relabel.copies import marks_of, normalise
from relabel.corpus import Corpus
from relabel.judges.positives import Look
from relabel.mining.candidates import Candidate, Pool, Positive
from relabel.mining.fusion import reciprocal_rank_fusion, union
from relabel.mining.likeness import CrossRowPositive
from relabel.mining.searching import Asked, Hits, Retriever
from relabel.mining.strategies import Removed, apply_filters, sample, suspected
from relabel.recipe import Recipe
from relabel.records import Passage, digest
from relabel.seeking import Seekers

DECIMALS: Final = 6
UNIT: Final = 0.01
"""How far from 1 the similarity of a passage to itself may be where similarities are cosines."""
FUSED: Final = "rrf"
CROSSENCODER: Final = "crossencoder"
GUIDE: Final = "guide"


@dataclass(frozen=True, slots=True)
class Chosen:
    """What came of one query.

    Attributes:
        asked: the query.
        pool: all that was found, positives apart, each passage once; the positives with score and rank in the first
            list, rank None = not found.
        lists: the candidates that filters were given, list by list.
        negatives: the hard negatives, in the order they were taken; each says who found it.
        removed: those of the pool that a rule by relevance removed in any list, or others in each that holds them.
        tried: how many candidates the filters were given, in all lists.
        gone: how many of these each filter removed.
        silent: for how many of these each filter had no word.
        repeated: how many of these have the text of another.
        strangers: how many of the negatives are positives of another query.
        hits: what each retriever found, by name, positives among it.
        numbers: of the passages of the pool, by id.
        suspicion: of passages by number, cos(q,n) − cos(q,p) + cos(p,n) as the maximum over the positives; empty
            without a retriever whose similarities are cosines.
    """

    asked: Asked
    pool: Pool
    lists: tuple[Pool, ...]
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
    near: Mapping[int, tuple[float, ...]]  # to each positive; NaN where there is none
    found: Mapping[str, Collection[int]]  # by retriever

    def finders(self, number: int) -> str:
        """Return who found a passage."""
        return "+".join(name for name, numbers in self.found.items() if number in numbers)


class Chooser:
    """Chooses negatives, query by query; what it says of one depends on no other."""

    def __init__(self, corpus: Corpus, recipe: Recipe, seekers: Seekers, look: Look) -> None:
        self._corpus, self._recipe, self._look = corpus, recipe, look
        self._retrievers, self._crossencoder, self._guide = seekers.retrievers, seekers.crossencoder, seekers.guide
        # whose similarities among passages are at hand; scores of passages and of queries are then on one scale
        self._comparer = next((name for name, each in self._retrievers.items() if each.near([], []) is not None), None)
        self._strangers = any(isinstance(each, CrossRowPositive) for each in recipe.selection.filters)
        self._others = _same_queries(corpus)

    def _ranked(self, hits: Mapping[str, Hits]) -> Mapping[str, Hits]:
        return {FUSED: reciprocal_rank_fusion(list(hits.values()))} if self._recipe.fused else hits

    def _lists(self, asked: Asked, ranked: Mapping[str, Hits]) -> dict[str, list[int]]:
        """Return each list's candidates by number, best first: what is known to be relevant is none."""
        known = {*asked.positives, *asked.spared}
        return {
            name: [number for number in found.numbers.tolist() if number not in known][: self._recipe.depth]
            for name, found in ranked.items()
        }

    def choose(self, asked: Asked, hits: Mapping[str, Hits]) -> Chosen:
        """Choose one query's negatives."""
        ranked = self._ranked(hits)
        lists = self._lists(asked, ranked)
        known = self._known(asked, hits, lists)
        selection = self._recipe.selection
        alike = self._alike(asked)
        siblings = frozenset([*self._look.of(asked.text), *[mark for each in alike for mark in marks_of(each).known]])
        pools = {
            name: replace(self._pool(asked, name, numbers, ranked[name], known), siblings=siblings, alike=alike)
            for name, numbers in lists.items()
        }
        done = {name: apply_filters(pool, selection.filters, selection.exempt) for name, pool in pools.items()}
        suspects = suspected(done.values(), selection.filters)
        left = {name: _without(each.kept, suspects, selection.exempt) for name, each in done.items()}
        drawn = {
            name: sample(pool, selection.sampler, self._recipe.wanted, seed=selection.seed)
            for name, pool in left.items()
        }
        if len(drawn) > 1:
            negatives = union(list(drawn.values()), [self._recipe.quota(name) for name in drawn])
        else:
            negatives = next(iter(drawn.values()))
        kept = {each.passage.id for pool in left.values() for each in pool.candidates}
        merged = next(iter(pools.values())).left_with(_merged(negatives, [pool.candidates for pool in pools.values()]))
        reasons = {each.candidate.passage.id: each for filtered in done.values() for each in filtered.removed}
        removed = [
            replace(suspects.get(marks_of(each.passage).full) or reasons[each.passage.id], candidate=each)
            for each in merged.candidates
            if each.passage.id not in kept
        ]
        marks = [marks_of(each.passage) for each in negatives]
        known_elsewhere = self._look.of_others(asked.text, marks) if marks else set()
        return Chosen(
            asked,
            merged,
            tuple(pools.values()),
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
        lists = self._lists(asked, self._ranked(hits))
        for passage in self._corpus.passages_of(_numbers(asked, lists)):
            yield asked.text, passage.full_text

    def _known(self, asked: Asked, hits: Mapping[str, Hits], lists: Mapping[str, list[int]]) -> _Known:
        numbers = _numbers(asked, lists)
        passages = dict(zip(numbers, self._corpus.passages_of(numbers), strict=True))
        finders = {name: frozenset(found.numbers.tolist()) for name, found in hits.items()}
        scores = {name: _finite(found.numbers.tolist(), found.scores.tolist()) for name, found in hits.items()}
        for name, retriever in self._retrievers.items():
            lacking = [number for number in numbers if number not in scores[name]]
            if name not in self._recipe.scores:
                lacking = [number for number in lacking if number in asked.positives]
            scores[name] |= _scores(retriever, asked, lacking)
        if self._guide is not None:
            scores[GUIDE] = _scores(self._guide, asked, numbers)
        if self._crossencoder is not None:
            judged = {number: self._crossencoder.get(asked.text, passages[number].full_text) for number in numbers}
            scores[CROSSENCODER] = {number: score for number, score in judged.items() if score is not None}
        return _Known(passages, scores, self._near(asked, numbers), finders)

    def _near(self, asked: Asked, numbers: Sequence[int]) -> dict[int, tuple[float, ...]]:
        """Return every passage's similarity to each positive, by the first retriever that compares passages."""
        found = self._retrievers[self._comparer].near(numbers, asked.positives) if self._comparer is not None else None
        if found is None:
            return {}
        rows = [tuple([round(value, DECIMALS) for value in row]) for row in found.tolist()]
        return dict(zip(numbers, rows, strict=True))

    def _alike(self, asked: Asked) -> tuple[Passage, ...]:
        """Return what else is relevant: what is spared, and what the query has where it is written otherwise."""
        rows = [
            each for number in self._others.get(asked.number, ()) for each in self._corpus.asked(number, number + 1)
        ]
        numbers = [*asked.spared, *[number for each in rows for number in (*each.positives, *each.spared)]]
        return tuple(self._corpus.passages_of([each for each in dict.fromkeys(numbers) if each not in asked.positives]))

    def _pool(self, asked: Asked, name: str, numbers: Sequence[int], ranked: Hits, known: _Known) -> Pool:
        """Make the pool of one list; a cross-encoder's scores, where there is one, take the place of its own.

        Ranks count the positives too, from 1.
        """
        own = CROSSENCODER if self._crossencoder is not None else name
        scores = known.scores.get(own, {})
        listed = {*numbers, *asked.positives}
        places = {number: rank for rank, number in enumerate(ranked.numbers.tolist(), 1) if number in listed}
        if own != name:
            order = sorted(places, key=lambda number: (number not in scores, -scores.get(number, 0.0), places[number]))
            places = {number: rank for rank, number in enumerate(order, 1)}
        near = known.near if name == own == self._comparer else {}
        found = [
            Candidate(
                known.passages[number],
                places[number],
                _rounded(scores.get(number)),
                source=known.finders(number) if name == FUSED else name,
                scores=_all_scores(known, number),
                near=tuple([value for value in near.get(number, ()) if math.isfinite(value)]),
            )
            for number in sorted(numbers, key=places.__getitem__)
        ]
        positives = [
            Positive(
                known.passages[number], _rounded(scores.get(number)), places.get(number), _all_scores(known, number)
            )
            for number in asked.positives
        ]
        strangers: set[bytes] = set()
        if self._strangers:
            strangers = self._look.of_others(asked.text, [marks_of(each.passage) for each in found])
        return Pool(asked.text, tuple(positives), tuple(found), strangers=frozenset(strangers))

    def _suspicion(self, asked: Asked, lists: Mapping[str, list[int]], known: _Known) -> dict[int, float]:
        by = self._comparer
        if by is None:
            return {}
        numbers = list(dict.fromkeys(number for list_ in lists.values() for number in list_))
        to_query = dict(known.scores[by])
        to_query |= _scores(self._retrievers[by], asked, [number for number in numbers if number not in to_query])
        against = [  # positives that have a vector, and that of unit length
            (place, positive)
            for place, positive in enumerate(asked.positives)
            if positive in to_query and abs(known.near[positive][place] - 1) < UNIT
        ]
        found = {}
        for number in numbers:
            sums = [to_query[number] - to_query[positive] + known.near[number][place] for place, positive in against]
            if sums:
                found[number] = round(max(sums), DECIMALS)
        return found


def _same_queries(corpus: Corpus) -> dict[int, list[int]]:
    """Return, for queries that differ in typography alone, the numbers of the others; in some 30 bytes a query.

    Queries without such others are not in it.
    """
    import numpy as np

    texts = (normalise(asked.text) for asked in corpus.asked())
    digests = np.fromiter((int.from_bytes(digest(text, size=8)) for text in texts), np.uint64, count=corpus.queries)
    _, places, counts = np.unique(digests, return_inverse=True, return_counts=True)
    groups: dict[int, list[int]] = defaultdict(list)
    for number in np.flatnonzero(counts[places] > 1).tolist():
        groups[int(places[number])].append(number)
    return {number: [each for each in group if each != number] for group in groups.values() for number in group}


def _numbers(asked: Asked, lists: Mapping[str, list[int]]) -> list[int]:
    """Return the passages that have to do with a query: positives, then candidates, each once."""
    return list(dict.fromkeys([*asked.positives, *[number for list_ in lists.values() for number in list_]]))


def _repeated(pool: Pool) -> int:
    return len(pool.candidates) - len({marks_of(each.passage).full for each in pool.candidates})


def _scores(retriever: Retriever, asked: Asked, numbers: Sequence[int]) -> dict[int, float]:
    """Return the scores that a retriever knows."""
    if not numbers:
        return {}
    return _finite(numbers, retriever.score(asked, numbers).tolist())


def _finite(numbers: Sequence[int], scores: Sequence[float]) -> dict[int, float]:
    return {number: score for number, score in zip(numbers, scores, strict=True) if math.isfinite(score)}


def _rounded(score: float | None) -> float | None:
    return None if score is None else round(score, DECIMALS)


def _all_scores(known: _Known, number: int) -> dict[str, float | None]:
    return {name: round(by[number], DECIMALS) for name, by in known.scores.items() if number in by}


def _without(pool: Pool, suspects: Collection[bytes], exempt: Collection[str]) -> Pool:
    """Return a list without what another list's scores or the texts speak against."""
    return pool.left_with([
        each for each in pool.candidates if each.source in exempt or marks_of(each.passage).full not in suspects
    ])  # fmt: skip


def _merged(negatives: Sequence[Candidate], lists: Sequence[Sequence[Candidate]]) -> tuple[Candidate, ...]:
    """Put the candidates of all lists into one, each passage once: as the list that gave the negative has it.

    What became no negative is what the list of the lowest rank has.
    """
    best = {each.passage.id: each for each in negatives}
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
