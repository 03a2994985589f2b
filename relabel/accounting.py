"""What happened, in counts that must add up, and the statistics made of them.

For every stage: asked = relevant + partial + irrelevant + each kind of none, second opinions counted apart.
Rows in = written + removed + rejected. Passages (negatives of readable rows) in = kept + promoted + dropped + in
removed rows.
"""

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Final

from relabel.agreement import CODES, NOT_ASKED, Tally, rate_interval
from relabel.cascade import Trail
from relabel.policy import Edited
from relabel.records import LABELS, Example, Judgment, Verdict

PEOPLE: Final = "human"
NEVER_SAID: Final = "not asked"

_FLAGS: Final = ("relevant", "partial")
_Rate = Counter[tuple[int, int]]


@dataclass(frozen=True, slots=True)
class Voices:
    """What people said of one pair, by reviewer, and what follows: no label where they are divided."""

    said: Mapping[str, str]
    word: Judgment


@dataclass(frozen=True, slots=True)
class Concluded:
    """One example with all that the cascade and the policy made of it. `trail` is None for exempt examples."""

    example: Example
    trail: Trail | None
    verdicts: tuple[Verdict, ...]
    edited: Edited
    people: tuple[Voices | None, ...] = ()


class Account:
    """Adds up concluded examples, in flat memory: equal queries are one entry of a counter.

    Neighbouring rows with the same query are one cluster of the intervals.
    """

    def __init__(self, stages: Sequence[str], *, seed: int, min_negatives: int, people: bool) -> None:
        self._stages, self._seed, self._min_negatives, self._people = tuple(stages), seed, min_negatives, people
        self._judges = (*self._stages, PEOPLE) if people else self._stages
        self._tallies: dict[str | None, Tally] = {None: Tally(self._judges)}
        self.rows: Counter[str] = Counter()
        self.passages: Counter[str] = Counter()
        self._verdicts: Counter[tuple[str, str]] = Counter()
        self._words: Counter[tuple[int, str, bool, str, str]] = Counter()
        self._rates: dict[tuple[str | None, str], _Rate] = {}
        self._query: str | None = None
        self._cluster: list[Concluded] = []

    def add(self, concluded: Concluded) -> None:
        """Count one example."""
        if concluded.example.query != self._query:
            self._close()
            self._query = concluded.example.query
        self._cluster.append(concluded)
        edited, count = concluded.edited, len(concluded.example.negatives)
        self.rows["in"] += 1
        self.passages["in"] += count
        if concluded.trail is None:
            self.rows["exempt"] += 1
        if edited.example is None:
            self.rows["removed"] += 1
            self.passages["in removed rows"] += count
            return
        self.rows["written"] += 1
        kept = len(edited.example.negatives)
        self.rows["below min_negatives"] += kept < self._min_negatives
        promoted = sum(change.action == "promote" for change in edited.changes)
        self.passages["kept"] += kept
        self.passages["promoted"] += promoted
        self.passages["dropped"] += len(edited.changes) - promoted

    def reject(self) -> None:
        """Count one row that could not be read."""
        self.rows["in"] += 1
        self.rows["rejected"] += 1

    def _close(self) -> None:
        """Count the words of one query, over all sources (None) and by source: what is resampled in every interval."""
        codes: dict[str | None, list[tuple[int, ...]]] = {}
        hits: Counter[tuple[str | None, str]] = Counter()
        totals: Counter[tuple[str | None, str]] = Counter()
        for concluded in self._cluster:
            if concluded.trail is not None:
                source = concluded.example.source
                for name, found, of in self._count(concluded, concluded.trail):
                    for of_which in (None, source):
                        totals[of_which, name] += of
                        hits[of_which, name] += found
                if len(self._judges) > 1:
                    coded = self._codes(concluded, concluded.trail)
                    codes.setdefault(None, []).extend(coded)
                    codes.setdefault(source, []).extend(coded)
        for key, total in totals.items():
            self._rates.setdefault(key, Counter())[hits[key], total] += 1
        for of_which, coded in codes.items():
            self._tallies.setdefault(of_which, Tally(self._judges)).add(coded)
        self._cluster.clear()

    def _count(self, concluded: Concluded, trail: Trail) -> list[tuple[str, int, int]]:
        """Count one example; return its part in every rate: name, hits, out of."""
        source, verdicts = concluded.example.source, concluded.verdicts
        outcomes = Counter([verdict.outcome for verdict in verdicts])
        for outcome, count in outcomes.items():
            self._verdicts[source, outcome] += count
        judged = len(verdicts) - outcomes["void"] - outcomes["undecided"]
        false = outcomes["false negative"]
        rates = [
            ("pairs called relevant or partial", false + outcomes["partial"], judged),
            ("pairs called relevant", false, judged),
            ("rows with a false negative", int(false > 0), int(judged > 0)),
        ]
        for stage in range(len(self._stages)):
            rates += self._count_stage(stage, source, trail)
        return rates

    def _count_stage(self, stage: int, source: str, trail: Trail) -> list[tuple[str, int, int]]:
        words, name = trail.words[stage], self._stages[stage]
        after = trail.words[stage + 1] if stage + 1 < len(trail.words) else None
        flagged = asked = confirmed = asked_on = 0
        for i, why in enumerate(trail.due[stage]):
            if not why:
                continue
            word = words[i]
            label = word.label if word is not None else None
            reason = "" if label else (word.reason if word is not None else NEVER_SAID)
            self._words[stage, source, why == "sampled", label or "none", reason] += 1
            if why == "sampled":
                continue
            asked += 1
            if label in _FLAGS:
                flagged += 1
                second = after[i] if after is not None else None
                if second is not None and second.label is not None:
                    asked_on += 1
                    confirmed += second.label in _FLAGS
        rates = [(f"flagged by {name}", flagged, asked), (f"confirmed after {name}", confirmed, asked_on)]
        return [rate for rate in rates if rate[2]]

    def _codes(self, concluded: Concluded, trail: Trail) -> list[tuple[int, ...]]:
        """Code each pair's words for the tally; void pairs are nobody's disagreement."""
        rows = []
        for i, verdict in enumerate(concluded.verdicts):
            if verdict.outcome == "void":
                continue
            codes = [CODES[word.label] if (word := words[i]) is not None else NOT_ASKED for words in trail.words]
            if self._people:
                person = concluded.people[i] if concluded.people else None
                codes.append(NOT_ASKED if person is None else CODES[person.word.label])
            rows.append(tuple(codes))
        return rows

    def statistics(self) -> dict[str, Any]:
        """Return every figure as plain JSON: counts, rates and agreements with 95 % intervals over queries."""
        self._close()
        sources = sorted({source for source, _ in self._verdicts})
        return {
            "rows": _counts(self.rows, ("in", "written", "removed", "rejected", "below min_negatives", "exempt")),
            "passages": _counts(self.passages, ("in", "kept", "promoted", "dropped", "in removed rows")),
            "verdicts": self._verdict_counts(None),
            "stages": [self._stage(stage, None) for stage in range(len(self._stages))],
            "rates": self._rate_figures(None),
            "agreement": self._agreements(None),
            "sources": {
                source: {
                    "verdicts": self._verdict_counts(source),
                    "stages": [self._stage(stage, source) for stage in range(len(self._stages))],
                    "rates": self._rate_figures(source),
                    "agreement": self._agreements(source),
                }
                for source in sources
            },
        }

    def _rate_figures(self, source: str | None) -> dict[str, Any]:
        return {
            name: {"of": sum(total * times for (_, total), times in rate.items())}
            | rate_interval(rate, seed=self._seed).to_json()
            for (of_which, name), rate in sorted(self._rates.items(), key=lambda entry: entry[0][1])
            if of_which == source
        }

    def _agreements(self, source: str | None) -> list[dict[str, Any]]:
        tally = self._tallies.get(source)
        return [agreement.to_json() for agreement in tally.result(seed=self._seed)] if tally else []

    def _verdict_counts(self, source: str | None) -> dict[str, int]:
        total: Counter[str] = Counter()
        for (of, outcome), count in self._verdicts.items():
            if source is None or of == source:
                total[outcome] += count
        return _counts(total, ("false negative", "partial", "true negative", "undecided", "void"))

    def _stage(self, stage: int, source: str | None) -> dict[str, Any]:
        """Return what one stage was asked and said: asked = labels + none, for its own and its sampled pairs."""
        parts: dict[bool, Counter[str]] = {False: Counter(), True: Counter()}
        none: dict[bool, Counter[str]] = {False: Counter(), True: Counter()}
        for (index, of, sampled, label, reason), count in self._words.items():
            if index == stage and source in (None, of):
                parts[sampled]["asked"] += count
                parts[sampled][label] += count
                if label == "none":
                    none[sampled][reason] += count
        both: list[Mapping[str, Any]] = [
            _counts(parts[sampled], ("asked", *LABELS)) | {"none": dict(sorted(none[sampled].items()))}
            for sampled in (False, True)
        ]
        return {"name": self._stages[stage], **both[0], "second_opinions": both[1]}


def _counts(counter: Mapping[str, int], names: Sequence[str]) -> dict[str, Any]:
    return {name.replace(" ", "_"): counter.get(name, 0) for name in names}
