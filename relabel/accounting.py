"""What happened, in counts that must add up, and the statistics made of them.

For every stage: asked = relevant + partial + irrelevant + each kind of none, second opinions counted apart.
Rows in = written + removed + rejected. Passages (negatives of readable rows) in = kept + promoted + dropped + in
removed rows; what came from a pool of candidates is counted apart.
"""

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from itertools import accumulate
from typing import Any, Final

from relabel.agreement import CODES, NOT_ASKED, Tally, rate_interval
from relabel.cascade import Stage, Trail
from relabel.policy import Edited
from relabel.records import LABELS, NOTHING, SHORTENED, Example, Judgment, Outcome, Verdict, digest
from relabel.turns import FATES

PEOPLE: Final = "human"
NEVER_SAID: Final = "not asked"

MAX_SOURCES: Final = 200
"""Sources beyond this many are counted together as OTHER: a field of addresses is no list of data sets."""

OTHER: Final = "(other)"

_FLAGS: Final = ("relevant", "partial")
_OUTCOMES: Final = ("false negative", "partial", "true negative", "undecided", "void")


@dataclass(frozen=True, slots=True)
class Voices:
    """What people said of one pair, by reviewer, and what follows: no label where they are divided; their notes."""

    said: Mapping[str, str]
    word: Judgment
    notes: Mapping[str, str] = field(default_factory=lambda: NOTHING)


@dataclass(frozen=True, slots=True)
class Refilled:
    """How many negatives a row lacked, how many it got from the pool, and whether the pool knows its query.

    `fates` counts the candidates that were looked at, at the first of the rows that they were looked at for.
    """

    lacked: int
    added: int
    known: bool
    fates: Mapping[str, int]


@dataclass(frozen=True, slots=True)
class Concluded:
    """One example with all that cascade, policy and pool made of it.

    `trail` is None for exempt examples, `refilled` for those that lacked nothing.
    """

    example: Example
    trail: Trail | None
    verdicts: tuple[Verdict, ...]
    edited: Edited
    people: tuple[Voices | None, ...] = ()
    refilled: Refilled | None = None


class Account:
    """Adds up concluded examples, in flat memory: equal queries are one entry of a counter.

    Neighbouring rows with the same query are one cluster of the intervals; queries that come back later are
    counted as scattered, since the intervals take them for other queries and come out too narrow.
    """

    def __init__(
        self, stages: Sequence[Stage], *, seed: int, min_negatives: int, people: bool, pool: bool = False
    ) -> None:
        self._stages, self._seed, self._min_negatives, self._people = tuple(stages), seed, min_negatives, people
        self._refill: _Refill | None = _Refill() if pool else None
        self._judges = tuple(stage.name for stage in stages) + ((PEOPLE,) if people else ())
        self._all = self._part()
        self._parts: dict[str, _Part] = {}
        self.rows: Counter[str] = Counter()
        self.passages: Counter[str] = Counter()
        self._query: str | None = None
        self._cluster: list[tuple[str, _Seen]] = []
        self._met = _Met()

    def _part(self) -> "_Part":
        weights = [1.0, *[1 / stage.sample for stage in self._stages if stage.sample]]
        return _Part(Tally(self._judges, weights, chose=(PEOPLE,)))

    def add(self, concluded: Concluded) -> int | None:
        """Count one example; return how many negatives it is left with, if these are fewer than `min_negatives`."""
        example, edited = concluded.example, concluded.edited
        if example.query != self._query:
            self._close()
            self._query = example.query
            self.rows["scattered"] += self._met.again(example.query)
        if concluded.trail is not None:
            self._cluster.append((example.source, self._see(concluded, concluded.trail)))
        count = len(example.negatives)
        self.rows["in"] += 1
        self.passages["in"] += count
        self.rows["exempt"] += concluded.trail is None
        if self._refill is not None and concluded.refilled is not None:
            self._refill.add(concluded.refilled)
        if edited.example is None:
            self.rows["removed"] += 1
            self.passages["in removed rows"] += count
            return None
        self.rows["written"] += 1
        left = len(edited.example.negatives)
        did = Counter([change.action for change in edited.changes])
        self.passages["kept"] += left - did["refill"]
        self.passages["promoted"] += did["promote"]
        self.passages["dropped"] += did["drop"]
        if left >= self._min_negatives:
            return None
        self.rows["below min_negatives"] += 1
        return left

    def reject(self) -> None:
        """Count one row that could not be read."""
        self.rows["in"] += 1
        self.rows["rejected"] += 1

    def statistics(self) -> dict[str, Any]:
        """Return every figure as plain JSON: counts, rates and agreements with 95 % intervals over queries."""
        self._close()
        names = [stage.name for stage in self._stages]
        rows = ("in", "written", "removed", "rejected", "below min_negatives", "exempt", "scattered")
        return {
            "rows": _counts(self.rows, rows),
            "passages": _counts(self.passages, ("in", "kept", "promoted", "dropped", "in removed rows")),
            **({"refill": self._refill.figures()} if self._refill is not None else {}),
            **self._all.figures(names, self._seed),
            "sources": {name: part.figures(names, self._seed) for name, part in sorted(self._parts.items())},
        }

    def _close(self) -> None:
        """Count the words of one query, over all sources and by source: what is resampled in every interval."""
        sources: dict[str, list[_Seen]] = {}
        for source, seen in self._cluster:
            known = source in self._parts or len(self._parts) < MAX_SOURCES
            sources.setdefault(source if known else OTHER, []).append(seen)
        if self._cluster:
            self._all.add([seen for _, seen in self._cluster])
        for source, cluster in sources.items():
            if source not in self._parts:
                self._parts[source] = self._part()
            self._parts[source].add(cluster)
        self._cluster.clear()

    def _see(self, concluded: Concluded, trail: Trail) -> "_Seen":
        """Take out of one example what is counted."""
        outcomes = Counter([verdict.outcome for verdict in concluded.verdicts])
        judged = len(concluded.verdicts) - outcomes["void"] - outcomes["undecided"]
        false = outcomes["false negative"]
        seen = _Seen(
            outcomes,
            Counter(),
            [
                ("pairs called relevant or partial", false + outcomes["partial"], judged),
                ("pairs called relevant", false, judged),
                ("rows with a false negative", int(false > 0), int(judged > 0)),
            ],
        )
        for index, stage in enumerate(self._stages):
            seen.rates.extend(_stage_rates(index, stage.name, trail, seen.words))
        if len(self._judges) > 1:
            self._code(concluded, trail, seen)
        return seen

    def _code(self, concluded: Concluded, trail: Trail, seen: "_Seen") -> None:
        """Code each pair's words for the tally, with its stratum; void pairs are nobody's disagreement."""
        strata = list(accumulate((bool(stage.sample) for stage in self._stages), initial=0))
        for i, verdict in enumerate(concluded.verdicts):
            if verdict.outcome == "void":
                continue
            codes = [CODES[word.label] if (word := words[i]) is not None else NOT_ASKED for words in trail.words]
            if self._people:
                person = concluded.people[i] if concluded.people else None
                codes.append(NOT_ASKED if person is None else CODES[person.word.label])
            seen.codes.append(tuple(codes))
            by = next((k for k, due in enumerate(trail.due) if due[i] == "sampled"), 0)  # sampled by stage by − 1
            seen.strata.append(strata[by])


class _Refill:
    """What was lacking, and what the pool gave: short = filled + partly + unfilled; looked at = all fates together."""

    def __init__(self) -> None:
        self._rows: Counter[str] = Counter()
        self._candidates: Counter[str] = Counter()

    def add(self, refilled: Refilled) -> None:
        """Count one row that was short."""
        full = refilled.added >= refilled.lacked
        self._rows.update(["short", "filled" if full else "partly" if refilled.added else "unfilled"])
        self._rows["not in the pool"] += not refilled.known
        self._candidates.update(refilled.fates)

    def figures(self) -> dict[str, Any]:
        """Return the counts as plain JSON."""
        looked = {"looked_at": self._candidates.total()} | _counts(self._candidates, FATES)
        rows = _counts(self._rows, ("short", "filled", "partly", "unfilled", "not in the pool"))
        return {"rows": rows, "candidates": looked}


@dataclass(frozen=True, slots=True)
class _Seen:
    """What one example adds: outcomes, words by (stage, sampled, label, reason), parts of rates, coded words."""

    outcomes: Counter[Outcome]
    words: Counter[tuple[int, bool, str, str]]
    rates: list[tuple[str, int, int]]
    codes: list[tuple[int, ...]] = field(default_factory=list)
    strata: list[int] = field(default_factory=list)


def _stage_rates(
    stage: int, name: str, trail: Trail, counted: Counter[tuple[int, bool, str, str]]
) -> list[tuple[str, int, int]]:
    """Count one stage's words; return how many it flagged of those it was asked, and how many were confirmed."""
    words = trail.words[stage]
    later, after = (trail.due[stage + 1], trail.words[stage + 1]) if stage + 1 < len(trail.words) else ((), ())
    flagged = asked = confirmed = asked_on = 0
    for i, why in enumerate(trail.due[stage]):
        if not why:
            continue
        word = words[i]
        label = word.label if word is not None else None
        reason = "" if label else (word.reason if word is not None else NEVER_SAID)
        counted[stage, why == "sampled", label or "none", reason] += 1
        if word is not None and word.evidence == SHORTENED:
            counted[stage, why == "sampled", SHORTENED, ""] += 1
        if why == "sampled":
            continue
        asked += 1
        if label in _FLAGS:
            flagged += 1
            second = after[i] if after and later[i] != "sampled" else None
            if second is not None and second.label is not None:
                asked_on += 1
                confirmed += second.label in _FLAGS
    rates = [(f"flagged by {name}", flagged, asked), (f"confirmed after {name}", confirmed, asked_on)]
    return [rate for rate in rates if rate[2]]


class _Part:
    """The counts of one source, or of all."""

    def __init__(self, tally: Tally) -> None:
        self._tally = tally
        self._outcomes: Counter[str] = Counter()
        self._words: Counter[tuple[int, bool, str, str]] = Counter()
        self._rates: dict[str, Counter[tuple[int, int]]] = {}

    def add(self, cluster: Sequence[_Seen]) -> None:
        """Count the examples of one query."""
        hits: Counter[str] = Counter()
        totals: Counter[str] = Counter()
        for seen in cluster:
            self._outcomes.update(seen.outcomes)
            self._words.update(seen.words)
            for name, found, of in seen.rates:
                totals[name] += of
                hits[name] += found
        for name, total in totals.items():
            self._rates.setdefault(name, Counter())[hits[name], total] += 1
        self._tally.add(
            [codes for seen in cluster for codes in seen.codes], [s for seen in cluster for s in seen.strata]
        )

    def figures(self, stages: Sequence[str], seed: int) -> dict[str, Any]:
        """Return all figures as plain JSON."""
        return {
            "verdicts": _counts(self._outcomes, _OUTCOMES),
            "stages": [self._stage(index, name) for index, name in enumerate(stages)],
            "rates": {
                name: {
                    "of": sum(total * times for (_, total), times in rate.items()),
                    "queries": sum(times for (_, total), times in rate.items() if total),
                }
                | rate_interval(rate, seed=seed).to_json()
                for name, rate in sorted(self._rates.items())
            },
            "agreement": [agreement.to_json() for agreement in self._tally.result(seed=seed)],
        }

    def _stage(self, index: int, name: str) -> dict[str, Any]:
        """Return what one stage was asked and said: asked = labels + none, for its own and its sampled pairs.

        `shortened` counts those of them of which the model was shown a part.
        """
        parts: dict[bool, Counter[str]] = {False: Counter(), True: Counter()}
        none: dict[bool, Counter[str]] = {False: Counter(), True: Counter()}
        for (stage, sampled, label, reason), count in self._words.items():
            if stage == index:
                parts[sampled][label] += count
                if label == SHORTENED:
                    continue
                parts[sampled]["asked"] += count
                if label == "none":
                    none[sampled][reason] += count
        own, opinions = (
            _counts(parts[sampled], ("asked", *LABELS, SHORTENED)) | {"none": dict(sorted(none[sampled].items()))}
            for sampled in (False, True)
        )
        return {"name": name, **own, "second_opinions": opinions}


class _Met:
    """Which queries came before, in memory that does not grow (a Bloom filter: Bloom 1970, CACM 13(7), 422–426).

    At a million queries about 2 in 10,000 new ones are taken for old.
    """

    _BITS: Final = 2**25

    def __init__(self) -> None:
        self._bits = bytearray(self._BITS // 8)

    def again(self, query: str) -> bool:
        """Whether this query was met before; it is from now on."""
        mark = digest(query)
        places = [int.from_bytes(mark[at : at + 4], "big") % self._BITS for at in (0, 4, 8, 12)]
        old = all(self._bits[place >> 3] >> (place & 7) & 1 for place in places)
        for place in places:
            self._bits[place >> 3] |= 1 << (place & 7)
        return old


def _counts(counter: Mapping[Any, int], names: Sequence[str]) -> dict[str, Any]:
    return {name.replace(" ", "_"): counter.get(name, 0) for name in names}
