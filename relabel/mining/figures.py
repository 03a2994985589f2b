"""The figures of a mining report: what retrievers found, what became negatives, and what of it may be relevant.

    one query after the other ─▶ Figures.add() ─▶ Figures.result() ─▶ plain JSON
    one query before and after a refresh ─▶ change() ─▶ plain JSON

Memory does not grow with the number of queries, and no figure depends on their order: sums are exact, samples are drawn
by dice from seed and content. Every figure stands beside the number of queries, rows or candidates that it is of;
floats have 6 significant digits.
"""

from collections import Counter
from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from itertools import combinations, pairwise
from types import MappingProxyType
from typing import Final, TypeVar

from relabel.mining.tallies import Json, Mean, Scores, Suspects, Values, plain
from relabel.records import NOTHING

BANDS: Final = (1, 5, 10, 30, 100, 300, 1000)
"""The last rank of each band: 1, 2–5, 6–10, 11–30, 31–100, 101–300, 301–1000; then all that follow."""

THRESHOLDS: Final[Mapping[str, float]] = MappingProxyType({"certain": 0.9, "suspicious": 0.7})
"""From which score on the embedding judge (`sum`) calls a candidate relevant, and from which it wants it looked at."""

TOP: Final = 10

T = TypeVar("T")


@dataclass(frozen=True, slots=True)
class Ranking:
    """What one retriever says of a query. An unknown score is None or not finite.

    Attributes:
        found: numbers of passages, best first, distinct, before any filter.
        positives: its scores of `Mined.positives`, in their order; empty where it has none.
        chosen: its scores of `Mined.chosen`, whoever found them, in their order; empty where it has none.
        judged: a judge's scores of `found`, in their order, higher = more likely relevant; empty where nobody judged.
    """

    found: Sequence[int]
    positives: Values = ()
    chosen: Values = ()
    judged: Values = ()


@dataclass(frozen=True, slots=True)
class Mined:
    """What mining did for one query, which is one row.

    Attributes:
        query: its id, one of its own; the dice need it.
        positives: numbers of the passages known to be relevant.
        chosen: numbers of those that became negatives.
        sources: which retriever took each of `chosen`, in their order.
        rankings: by retriever; one that was not asked is left out.
        spared: numbers of passages that are neither positive nor candidate (`Asked.spared`).
        candidates: how many the filters were given, all retrievers together.
        wanted: how many negatives there should be; None = as many as there are.
        repeated: how many candidates had the text of another one.
        strangers: how many of `chosen` are positives of another query.
        removed: by filter, how many candidates it removed.
        silent: by filter, for how many it had no word, since a score is unknown.
        judged: a judge's scores of `chosen`, in their order; empty where nobody judged.
    """

    query: str
    positives: Sequence[int]
    chosen: Sequence[int]
    sources: Sequence[str]
    rankings: Mapping[str, Ranking]
    spared: Collection[int] = ()
    candidates: int = 0
    wanted: int | None = None
    repeated: int = 0
    strangers: int = 0
    removed: Mapping[str, int] = field(default_factory=lambda: NOTHING)
    silent: Mapping[str, int] = field(default_factory=lambda: NOTHING)
    judged: Values = ()


class Figures:
    """Collects the figures of a mining report, query by query; see `result` for what they are."""

    def __init__(
        self,
        retrievers: Sequence[str],
        depth: int,
        *,
        filters: Sequence[str] = (),
        thresholds: Mapping[str, float] = THRESHOLDS,
        seed: int = 0,
    ) -> None:
        """Take in what there is to report on.

        Args:
            retrievers: their names, in the order in which they are reported.
            depth: how many passages each was asked for.
            filters: their names, in their order; others that turn up are listed behind them.
            thresholds: name of a suspicion → the judge's score from which on it holds.
            seed: of the dice for samples and intervals.
        """
        self._filters, self._thresholds, self._seed, self._depth = tuple(filters), dict(thresholds), seed, depth
        self._retrievers = {name: _Retriever() for name in retrievers}
        self._overlap = {both: (Mean(), Mean()) for both in combinations(retrievers, 2)}
        self._counts: Counter[str] = Counter()
        self._removed: Counter[str] = Counter()
        self._silent: Counter[str] = Counter()
        self._sources: Counter[str] = Counter()
        self._suspects: dict[str, Suspects] = {}

    def add(self, mined: Mined) -> None:
        """Count one query.

        Raises:
            ValueError: what should be of one length is not.
            KeyError: a retriever that was not announced.
        """
        self._count(mined)
        known = {*mined.positives, *mined.spared}
        for name, ranking in mined.rankings.items():
            retriever = self._retrievers[name]
            retriever.rank(ranking.found, mined.positives)
            dice = str(self._seed), name, mined.query
            retriever.positives.add(ranking.positives, mined.positives, *dice, "positive")
            retriever.chosen.add(ranking.chosen, mined.chosen, *dice, "chosen")
            if ranking.judged:
                for band, part in enumerate(_in_bands(list(zip(ranking.found, ranking.judged, strict=True)))):
                    scores = [score for number, score in part if number not in known]
                    retriever.bands.setdefault(band, Suspects()).add(scores, self._thresholds)
        for (first, second), means in self._overlap.items():
            if first in mined.rankings and second in mined.rankings:
                for mean, depth in zip(means, (TOP, None), strict=True):
                    one, other = (set(mined.rankings[name].found[:depth]) for name in (first, second))
                    mean.add(len(one & other), len(one | other))
        if mined.judged:
            for source in sorted(set(mined.sources)):
                taken = zip(mined.sources, mined.judged, strict=True)
                scores = [score for name, score in taken if name == source]
                self._suspects.setdefault(source, Suspects()).add(scores, self._thresholds)

    def _count(self, mined: Mined) -> None:
        if len(mined.chosen) != len(mined.sources):
            raise ValueError(f"{len(mined.sources)} sources for {len(mined.chosen)} negatives")
        self._counts.update({
            "rows": 1,
            "positives": len(mined.positives),
            "candidates": mined.candidates,
            "negatives": len(mined.chosen),
            "short": int(mined.wanted is not None and len(mined.chosen) < mined.wanted),
            "empty": int(not mined.chosen),
            "repeated": mined.repeated,
            "queries with repeated": int(mined.repeated > 0),
            "strangers": mined.strangers,
            "rows with strangers": int(mined.strangers > 0),
        })  # fmt: skip
        self._sources.update(mined.sources)
        self._removed.update(mined.removed)
        self._silent.update(mined.silent)

    def result(self) -> Json:
        """Return all figures as plain JSON.

        - `rows`: rows (queries), positives, negatives, rows with fewer negatives than wanted, rows with none.
        - `negatives_by_source`: by the retriever that took them.
        - `retrievers`: `scores` (on the retriever's own scale; of several `sd` is the population's, `unknown` are
          missing), and where the positives stand: `success_at_depth` is the share of queries with a positive among the
          found, `recall_at_depth` the mean share of a query's positives, `mrr_at_10` the mean of 1 / rank of the best.
        - `overlap`: mean Jaccard index of two retrievers' first 10 and of all, over queries for which one found any.
        - `filters`: of how many candidates each removed how many, and had no word for how many.
        - `repeated`: candidates with the text of another one. `conflicts`: negatives that another query has as a
          positive.
        - `false_negatives`: an estimate. The share of candidates that a judge scores at or above each threshold, known
          positives left out, with a 95 % interval over queries (`agreement.rate_interval`); by retriever and band of
          ranks, and of the chosen by source. It is as good as the judge; a rate of 0 or 1 has no width.
        """
        counts = self._counts
        return {
            "depth": self._depth,
            "rows": {
                "rows": counts["rows"],
                "positives": counts["positives"],
                "negatives": counts["negatives"],
                "with_fewer_than_wanted": counts["short"],
                "with_none": counts["empty"],
            },
            "negatives_by_source": dict(sorted(self._sources.items())),
            "retrievers": {name: each.to_json() for name, each in self._retrievers.items()},
            "overlap": [
                {
                    "first": first,
                    "second": second,
                    "queries": full.count,
                    "jaccard_at_10": top.value,
                    "jaccard_at_depth": full.value,
                }
                for (first, second), (top, full) in self._overlap.items()
            ],
            "filters": self._filters_to_json(),
            "repeated": {
                "candidates": counts["repeated"],
                "of_candidates": counts["candidates"],
                "queries": counts["queries with repeated"],
                "of_queries": counts["rows"],
            },
            "conflicts": {
                "negatives": counts["strangers"],
                "of_negatives": counts["negatives"],
                "rows": counts["rows with strangers"],
                "of_rows": counts["rows"],
                "share_of_rows": _share(counts["rows with strangers"], counts["rows"]),
            },
            "false_negatives": {
                "thresholds": self._thresholds,
                "by_rank": {
                    name: [
                        {"ranks": _band_name(band), **suspects.to_json(self._seed)}
                        for band, suspects in sorted(each.bands.items())
                    ]
                    for name, each in self._retrievers.items()
                },
                "chosen": {source: each.to_json(self._seed) for source, each in sorted(self._suspects.items())},
            },
        }

    def _filters_to_json(self) -> Json:
        others = sorted((set(self._removed) | set(self._silent)) - set(self._filters))
        return {
            "candidates": self._counts["candidates"],
            "removed": {name: self._removed[name] for name in (*self._filters, *others)},
            "silent": {name: self._silent[name] for name in (*self._filters, *others)},
        }


# -- what a refresh changed ---------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class Snapshot:
    """One query in one round of mining.

    Attributes:
        chosen: ids of its negatives.
        candidates: ids of all that were found for it, within the depth.
        rank: of its best positive among what was found, from 1; None where no positive was found.
    """

    chosen: Collection[str]
    candidates: Collection[str]
    rank: int | None = None


def change(before: Iterable[Snapshot], after: Iterable[Snapshot]) -> Json:
    """Return what a refresh changed, over queries that come in one order from both rounds.

    - `negatives`: the mean Jaccard index of a row's old and new negatives (of rows that have any), how many rows have
      the same ones, in whatever order, how many negatives are new, and how many of these the old pool did not hold.
    - `positive`: the mean of its new rank less its old one (below 0 = it rose), where both rounds found it, and how
      many queries' positives only one round or neither found.

    Raises:
        ValueError: one round has more queries than the other.
    """
    jaccard, shift = Mean(), Mean()
    counts: Counter[str] = Counter()
    for old, new in zip(before, after, strict=True):
        had, has, held = set(old.chosen), set(new.chosen), set(old.candidates)
        jaccard.add(len(had & has), len(had | has))
        found = "lost" if old.rank is not None else "gained" if new.rank is not None else "never"
        if old.rank is not None and new.rank is not None:
            shift.add(new.rank - old.rank, 1)
            found = "both"
        fresh = len(has - had - held)
        counts.update({"rows": 1, "same": int(had == has), "new": len(has - had), "fresh": fresh, found: 1})
    return {
        "rows": counts["rows"],
        "negatives": {
            "jaccard": jaccard.value,
            "of_rows": jaccard.count,
            "rows_unchanged": counts["same"],
            "share_of_rows_unchanged": _share(counts["same"], counts["rows"]),
            "new": counts["new"],
            "new_beyond_the_old_pool": counts["fresh"],
            "share_of_new_beyond_the_old_pool": _share(counts["fresh"], counts["new"]),
        },
        "positive": {
            "mean_rank_shift": shift.value,
            "of_queries_found_in_both": shift.count,
            "found_only_before": counts["lost"],
            "found_only_after": counts["gained"],
            "found_in_neither": counts["never"],
        },
    }


# -- of one retriever ---------------------------------------------------------------------------------------


class _Retriever:
    """What is counted of one retriever."""

    def __init__(self) -> None:
        self.positives, self.chosen = Scores(), Scores()
        self.bands: dict[int, Suspects] = {}
        self._queries, self._found, self._sought, self._seen = 0, 0, 0, 0
        self._success, self._recall, self._reciprocal = Mean(), Mean(), Mean()

    def rank(self, found: Sequence[int], positives: Sequence[int]) -> None:
        """Look where the positives of a query stand."""
        self._queries += 1
        self._found += len(found)
        if not positives:
            return
        sought = set(positives)
        ranks = [rank for rank, number in enumerate(found, 1) if number in sought]
        self._success.add(bool(ranks), 1)
        self._recall.add(len(ranks), len(sought))
        self._reciprocal.add(bool(ranks) and ranks[0] <= TOP, ranks[0] if ranks else 1)
        self._sought += len(sought)
        self._seen += len(ranks)

    def to_json(self) -> Json:
        """Return the figures."""
        return {
            "queries": self._queries,
            "found": self._found,
            "positive_rank": {
                "queries": self._success.count,
                "success_at_depth": self._success.value,
                "recall_at_depth": self._recall.value,
                "mrr_at_10": self._reciprocal.value,
                "positives": self._sought,
                "positives_not_found": self._sought - self._seen,
            },
            "scores": {"positives": self.positives.to_json(), "chosen": self.chosen.to_json()},
        }


def _in_bands(ranked: Sequence[T]) -> list[Sequence[T]]:
    """Cut what stands in the order of ranks into bands."""
    ends = [0, *(end for end in BANDS if end < len(ranked)), len(ranked)]
    return [ranked[first:last] for first, last in pairwise(ends)]


def _band_name(band: int) -> str:
    first = BANDS[band - 1] + 1 if band else 1
    last = BANDS[band] if band < len(BANDS) else None
    return str(first) if first == last else f"{first}-{'' if last is None else last}"


def _share(part: int, whole: int) -> float | None:
    return plain(part / whole) if whole else None
