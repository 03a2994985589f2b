"""Which pairs a person should look at, drawn so that the chance of each is known.

    facts of every pair ─▶ Census (counts) ─▶ chances ─▶ Draw (the same facts again) ─▶ what is drawn, in its order

A unit is a pair by its content, or a query by its text, in however many rows it stands: copies are drawn together and
count as one label that stands for all of them. Both passes hold counts, eight bytes for each row to tell copies by, and
what is drawn, never the pairs. The dice are digests of seed and content (`records.chance`):
the same run gives the same sample, whatever the order of its rows, and the first m of a sample of n are the sample
of m, so that people may stop where they like and a sample can be extended.
"""

import heapq
import math
from array import array
from collections import Counter, defaultdict
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Final, Generic, Literal, TypeVar

from relabel.records import Judgment, Verdict, chance, digest

Kind = Literal["random", "stratified", "active"]
Unit = Literal["pair", "query"]
Trait = Literal["verdict", "stage", "source", "rank", "confidence"]
Allocation = Literal["proportional", "equal", "neyman"]
Preference = Literal["likely", "uncertain", "disagreed", "typical"]

T = TypeVar("T")
_Cell = tuple[tuple[str, ...], int]
_ANY: Final[_Cell] = ((), 0)

FLOOR: Final = 0.2
"""Share of an active sample that is drawn evenly: no pair counts for more than 1 / FLOOR of an even draw."""

AT_LEAST: Final = 2
"""Units that every stratum gives, if it has them: with one alone nobody sees how they differ."""

ASSUMED_CORRELATION: Final = 0.1
"""How alike pairs of one query are taken to be where a projection has to know it before anybody labelled."""

_RANKS: Final = (5, 10, 20, 50)
_BINS: Final = (0.5, 0.7, 0.8, 0.9, 0.95)
_LIKELY: Final = {"relevant": 0.85, "partial": 0.3, "irrelevant": 0.08}
"""What a word says of relevance where its judge gives no probability; only the width of intervals hangs on it."""

_SURE: Final = 0.03


@dataclass(frozen=True, slots=True)
class Design:
    """How a sample is drawn.

    Attributes:
        kind: random: all alike; stratified: so many of each stratum; active: the more instructive the likelier.
        unit: what is drawn: pairs, or queries with all their pairs.
        strata: by what pairs are told apart.
        allocation: of a stratified sample: as many as the stratum has pairs, the same everywhere, or as many as its
            size times the spread that the judges' words let expect (Neyman 1934, JRSS 97(4), 558–625).
        prefer: of an active sample: pairs that are likely relevant, on which the judges are unsure, on which they
            disagree, or that are like many others with the same words.
        seed: of the dice.
    """

    kind: Kind = "stratified"
    unit: Unit = "pair"
    strata: tuple[Trait, ...] = ("verdict",)
    allocation: Allocation = "neyman"
    prefer: Preference = "likely"
    seed: int = 0


@dataclass(frozen=True, slots=True)
class Facts:
    """What a design looks at: never a person's label.

    Attributes:
        pair: name of the pair by content.
        query: the text of its query.
        expected: how likely it is relevant, by the judges' words, in [0.03, 0.97].
        words: the labels that were given, stage by stage.
        stratum: by the design's traits.
    """

    pair: str
    query: str
    expected: float
    words: tuple[str, ...]
    stratum: str = ""


def expected_relevance(words: Iterable[Judgment | None]) -> float:
    """Return how likely a pair is relevant by what judges said: the mean of their words, each counting twice the last.

    A guess, made to be wrong by constants: estimates only use it as a control variate and as a size of chances.
    """
    total = weight = 0.0
    for power, word in enumerate(words):
        if word is None or word.label is None:
            continue
        value = _LIKELY[word.label]
        if word.probability is not None and word.label != "partial":
            value = word.probability if word.label == "relevant" else 1 - word.probability
        total += 2.0**power * value
        weight += 2.0**power
    return min(max(total / weight if weight else 0.5, _SURE), 1 - _SURE)


def stratum_of(traits: Sequence[Trait], verdict: Verdict, source: str, rank: int) -> str:
    """Name the stratum of a pair: `true negative · strong · rank 1–5`.

    Args:
        traits: by what pairs are told apart.
        verdict: the cascade's own, without people.
        source: data set that it comes from.
        rank: among its row's negatives, from 0.
    """
    said = {
        "verdict": verdict.outcome,
        "stage": verdict.stage or "nobody",
        "source": source or "no source",
        "rank": f"rank {_band(rank + 1)}",
        "confidence": _confidence(verdict.judgment),
    }
    return " · ".join(said[trait] for trait in traits)


def _band(rank: int) -> str:
    low = 1
    for high in _RANKS:
        if rank <= high:
            return f"{low}–{high}"
        low = high + 1
    return f"{low}+"


def _confidence(word: Judgment | None) -> str:
    """Name the bin of a judge's number: its probability; else its score, pressed into [0, 1] where it is no cosine."""
    if word is None or (word.probability is None and word.score is None):
        return "no number"
    if word.probability is not None:
        value, name = word.probability, "probability"
    else:
        score = word.score or 0.0
        value, name = (score if 0 <= score <= 1 else 1 / (1 + math.exp(-max(min(score, 30.0), -30.0)))), "score"
    low = max((edge for edge in _BINS if edge <= value), default=0.0)
    return f"{name} ≥ {low:g}" if low else f"{name} < {_BINS[0]:g}"


class Census:
    """Counts the data set: the first of the two passes.

    Attributes:
        pairs: how many, copies counted.
        queries: how many different ones, when queries are drawn; else groups of neighbouring pairs with one query.
        sizes: units of each stratum, copies counted once; known when closed.
    """

    def __init__(self, design: Design) -> None:
        self.design = design
        self.pairs = self.queries = 0
        self.sizes: Counter[str] = Counter()
        self._units: defaultdict[tuple[str, _Cell], array[int]] = defaultdict(lambda: array("Q"))
        self._spread: defaultdict[str, float] = defaultdict(float)  # Σ √(p (1 − p)) over the pairs of a stratum
        self._risk: defaultdict[str, float] = defaultdict(float)  # Σ p (1 − p)
        self._alike: Counter[_Cell] = Counter()
        self._common: dict[tuple[str, ...], int] = {}
        self._raw = self._odds = 0.0

    def add(self, group: Sequence[Facts]) -> None:
        """Count the pairs of one query."""
        self.pairs += len(group)
        self.queries += 1
        by_pair = self.design.unit == "pair"
        for facts in group if by_pair else group[:1]:
            cell = _cell(facts) if self.design.kind == "active" else _ANY
            name = digest("unit", facts.pair if by_pair else facts.query, size=8)
            self._units[self.stratum(facts), cell].append(int.from_bytes(name))
        for facts in group:
            stratum = self.stratum(facts if by_pair else group[0])
            risk = facts.expected * (1 - facts.expected)
            self._spread[stratum] += math.sqrt(risk)
            self._risk[stratum] += risk

    def stratum(self, facts: Facts) -> str:
        """Return what a pair is drawn from: a query is drawn from the stratum of its first."""
        return facts.stratum if self.design.kind == "stratified" else ""

    def close(self) -> None:
        """Count copies once, and note what the chances of an active sample are relative to, when all were counted."""
        for (stratum, cell), names in self._units.items():
            count = _distinct(names)
            self.sizes[stratum] += count
            self._alike[cell] += count
        self._units.clear()
        units = max(sum(self.sizes.values()), 1)
        if self.design.unit == "query":
            self.queries = sum(self.sizes.values())
        for (words, _), count in self._alike.items():
            self._common[words] = max(count, self._common.get(words, 0))
        if self.design.kind == "active":
            self._raw = sum(self._cell_score(cell) * count for cell, count in self._alike.items()) / units
            self._odds = sum(count * self._risk_of(cell) / self._size_of(cell) for cell, count in self._alike.items())

    def size(self, facts: Facts) -> float:
        """Return by what the chance of a pair to be drawn next is proportional, > 0, 1 on average."""
        return self._size_of(_cell(facts))

    def _size_of(self, cell: _Cell) -> float:
        return FLOOR + (1 - FLOOR) * (self._cell_score(cell) / self._raw if self._raw else 1.0)

    def _cell_score(self, cell: _Cell) -> float:
        words, step = cell
        expected = step / _STEPS
        match self.design.prefer:
            case "likely":
                return math.sqrt(expected)
            case "uncertain":
                return math.sqrt(expected * (1 - expected))
            case "disagreed":
                return 1.0 if len(set(words) - {""}) > 1 else 0.1
            case "typical":  # TypiClust (Hacohen, Dekel, Weinshall 2022, ICML): same words = a cluster, dense first
                return self._alike[cell] / self._common[words] / math.sqrt(self._common[words])

    def _risk_of(self, cell: _Cell) -> float:
        return cell[1] / _STEPS * (1 - cell[1] / _STEPS)

    def order(self, n: int) -> list[str]:
        """Return from which stratum each unit comes, in the order of drawing: n units, fewer if there are no more.

        `AT_LEAST` from each stratum first, then always from where most is wanting for its weight (Sainte-Laguë): the
        order for a smaller n is the beginning of that for a larger one.
        """
        names = sorted(self.sizes)
        if self.design.kind != "stratified" or len(names) == 1:
            return [name for name in names for _ in range(min(n, self.sizes[name]))]
        order = [name for turn in range(AT_LEAST) for name in names if self.sizes[name] > turn]
        taken = Counter(order)
        heap = [(-self._weight(name) / (taken[name] + 0.5), name) for name in names]
        heapq.heapify(heap)
        while heap and len(order) < n:
            _, name = heapq.heappop(heap)
            if taken[name] < self.sizes[name]:
                order.append(name)
                taken[name] += 1
                heapq.heappush(heap, (-self._weight(name) / (taken[name] + 0.5), name))
        return order[:n]

    def _weight(self, name: str) -> float:
        match self.design.allocation:
            case "proportional":
                return float(self.sizes[name])
            case "equal":
                return 1.0
            case "neyman":
                return round(self._spread[name], 9)  # whatever the order of its terms

    def projected(self, n: int) -> float:
        """Return the half width of the 95 % interval of the false-negative rate that n units let expect.

        As if people agreed with the judges as often as these expect of themselves, pair by pair; for queries, pairs of
        one of which are taken to be alike by `ASSUMED_CORRELATION`.
        """
        taken = Counter(self.order(n))
        if not taken or not self.pairs:
            return 1.0
        units = sum(self.sizes.values())
        if self.design.kind == "active":
            drawn = taken.total()
            return 1.96 * math.sqrt(self._odds / units / drawn * (1 - drawn / units))
        total = 0.0
        mean = self.pairs / units  # copies of a pair are wholly alike
        alike = 1 + (mean - 1) * (ASSUMED_CORRELATION if self.design.unit == "query" else 1.0)
        for name, size in self.sizes.items():
            drawn = max(taken[name], 1)
            total += size * self._risk[name] / drawn * alike * (1 - drawn / size)
        return 1.96 * math.sqrt(max(total, 0.0)) / self.pairs


def _distinct(names: "array[int]") -> int:
    """Count the different ones; puts them in order."""
    import numpy as np

    sorted_names = np.frombuffer(names, dtype=np.uint64)
    sorted_names.sort()
    return len(sorted_names) and 1 + int((sorted_names[1:] != sorted_names[:-1]).sum())


_STEPS: Final = 50


def _cell(facts: Facts) -> _Cell:
    """Round a pair to what an active design sees of it: few cells, however many pairs."""
    return facts.words, max(round(facts.expected * _STEPS), 1)


@dataclass(frozen=True, slots=True)
class Drawn(Generic[T]):
    """One unit of a sample: a pair, or a query's pairs.

    Attributes:
        stratum: that it was drawn from.
        chance: stratified and random: its inclusion probability; active: its chance at its turn among those left.
        members: its pairs in all rows where they stand, with what the caller gave for them.
    """

    stratum: str
    chance: float
    members: tuple[tuple[Facts, T], ...]


class Draw(Generic[T]):
    """Draws: the second of the two passes. In memory is what is drawn so far.

    Every unit has a number by its content; those with the smallest of a stratum are drawn. For active samples the
    numbers are exponential with the unit's size as rate, so that taking them in their order is drawing one after
    another with chances in proportion to size (Efraimidis & Spirakis 2006; the Gumbel top-k trick).
    """

    def __init__(self, census: Census, n: int) -> None:
        self._census, self._design = census, census.design
        self._order = census.order(n)
        self._room = Counter(self._order)
        self._heaps: dict[str, list[tuple[float, str, float]]] = {name: [] for name in self._room}
        self._members: dict[tuple[str, str, float], list[tuple[Facts, T]]] = {}

    def add(self, group: Sequence[tuple[Facts, T]]) -> None:
        """Take in the pairs of one query."""
        seed = str(self._design.seed)
        if self._design.unit == "query":
            query = group[0][0].query
            number = chance("audit sample", seed, "query", query)
            self._offer(self._census.stratum(group[0][0]), number, query, 1.0, group)
            return
        for facts, given in group:
            number, size = chance("audit sample", seed, "pair", facts.pair), 1.0
            if self._design.kind == "active":
                size = self._census.size(facts)
                number = -math.log1p(-number) / size
            self._offer(self._census.stratum(facts), number, facts.pair, size, [(facts, given)])

    def _offer(self, stratum: str, number: float, name: str, size: float, members: Sequence[tuple[Facts, T]]) -> None:
        heap = self._heaps.get(stratum)
        if heap is None:
            return
        if there := self._members.get((stratum, name, size)):  # a copy; those of what was not drawn never come in
            there.extend(members)
            return
        item = (-number, name, size)
        if len(heap) < self._room[stratum]:
            heapq.heappush(heap, item)
        elif item > heap[0]:
            _, gone, gone_size = heapq.heapreplace(heap, item)
            del self._members[stratum, gone, gone_size]
        else:
            return
        self._members[stratum, name, size] = list(members)

    def drawn(self) -> Iterator[Drawn[T]]:
        """Yield the units in the order of drawing."""
        turns = {name: iter(sorted(heap, reverse=True)) for name, heap in self._heaps.items()}
        left = float(sum(self._census.sizes.values()))  # sizes are 1 on average
        for stratum in self._order:
            item = next(turns[stratum], None)
            if item is None:  # copies of which judges thought differently, and equally well
                continue
            _, name, size = item
            share = self._room[stratum] / self._census.sizes[stratum]
            if self._design.kind == "active":
                share = min(size / left, 1.0)
                left = max(left - size, size * 1e-9)
            yield Drawn(stratum, share, tuple(self._members[stratum, name, size]))


def queries_for(n: int, census: Census) -> int:
    """Return how many queries hold about n pairs; at least two."""
    return min(max(round(n * census.queries / max(census.pairs, 1)), 2), census.queries)


def to_dict(design: Design) -> Mapping[str, object]:
    """Return a design as plain JSON; what its kind does not look at is left out."""
    told: dict[str, object] = {"kind": design.kind, "unit": design.unit, "seed": design.seed}
    if design.kind == "stratified":
        told |= {"strata": list(design.strata), "allocation": design.allocation}
    if design.kind == "active":
        told["prefer"] = design.prefer
    return told
