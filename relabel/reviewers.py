"""How far people agree with one another, which no judge can be expected to exceed, and judges with each of them.

A judge that is compared with a majority of people has it easier than each of these people: the majority irons out
their slips. Like is compared with like where a judge is compared with single people as they are with one another.
"""

from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from itertools import combinations, product
from typing import Any, Final

from relabel.agreement import CODES, NOT_ASKED, Agreement, Tally
from relabel.raters import Panel
from relabel.records import Label, majority

NAMED: Final = 6
"""So many reviewers, those with the most labels, are compared two by two; in figures of all together all take part."""

OTHERS: Final = "majority of the others"

_Labelled = tuple[tuple[int, ...], Mapping[str, Label]]


class Reviewers:
    """Collects, query by query, the pairs that people labelled; held in memory, for people label thousands at most."""

    def __init__(self, judges: Sequence[str]) -> None:
        """Take in the judges' names."""
        self._judges = tuple(judges)
        self._queries: list[tuple[_Labelled, ...]] = []

    def add(self, pairs: Iterable[_Labelled]) -> None:
        """Count one query: of each labelled pair the judges' words (codes) and people's labels by reviewer."""
        if labelled := tuple((codes, said) for codes, said in pairs if said):
            self._queries.append(labelled)

    def figures(self, seed: int) -> dict[str, Any] | None:
        """Return all figures as plain JSON; None where fewer than two people labelled.

        - `reviewers`: labels of each.
        - `pairs`: with one label, with more, and those of the latter on which no label has the most votes.
        - `together`: the human ceiling: agreement of all people, on pairs with two labels and more; see `raters`.
        - `agreement`: of every two people.
        - `judges`: of every judge with every one of these people.
        - `others`: of each of three and more people with the majority of the others, as judges are compared with
          the majority.
        """
        labels = Counter(who for query in self._queries for _, said in query for who in said)
        if len(labels) < 2:
            return None
        everyone = sorted(labels, key=lambda who: (-labels[who], who))
        named = everyone[:NAMED]
        panel = Panel(everyone)
        for query in self._queries:
            panel.add([_codes(said, everyone) for _, said in query])
        several = [said for query in self._queries for _, said in query if len(said) > 1]
        return {
            "reviewers": {who: labels[who] for who in everyone},
            "pairs": {
                "one_label": sum(map(len, self._queries)) - len(several),
                "more_labels": len(several),
                "divided": sum(majority(said.values()) is None for said in several),
            },
            "together": panel.heard().together(seed=seed).to_json(),
            "agreement": [self._people(*both, seed).to_json() for both in combinations(named, 2)],
            "judges": [self._judge(*both, seed).to_json() for both in product(range(len(self._judges)), named)],
            "others": [self._others(who, seed).to_json() for who in named] if len(everyone) > 2 else [],
        }

    def _people(self, first: str, second: str, seed: int) -> Agreement:
        return _compare(
            first, second, [[_codes(said, (first, second)) for _, said in query] for query in self._queries], seed
        )

    def _judge(self, judge: int, who: str, seed: int) -> Agreement:
        words = [[(codes[judge], *_codes(said, (who,))) for codes, said in query] for query in self._queries]
        return _compare(self._judges[judge], who, words, seed)

    def _others(self, who: str, seed: int) -> Agreement:
        """Compare one reviewer with the majority of two and more others; where these are divided there is none."""
        words = [
            [
                (CODES[said[who]], CODES[majority([label for name, label in said.items() if name != who])])
                for _, said in query
                if who in said and len(said) > 2
            ]
            for query in self._queries
        ]
        return _compare(who, OTHERS, words, seed)


def _codes(said: Mapping[str, Label], names: Sequence[str]) -> tuple[int, ...]:
    return tuple(CODES[said[name]] if name in said else NOT_ASKED for name in names)


def _compare(first: str, second: str, queries: Iterable[Sequence[tuple[int, ...]]], seed: int) -> Agreement:
    tally = Tally((first, second))
    for words in queries:
        tally.add(words)
    (result,) = tally.result(seed)
    return result
