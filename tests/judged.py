"""A run whose truth is known: judges and people that err at known rates, independently of one another."""

import json
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any

import pandas as pd

from relabel import api, config, pipeline, sources
from relabel.records import Case, Judgment, chance

QUERIES, NEGATIVES = 60, 6


class Erring:
    """A judge that is wrong on a known share of the pairs, drawn by their texts."""

    def __init__(self, name: str, wrong: float) -> None:
        self._name, self._wrong = name, wrong

    def judge(self, cases: Iterable[Case]) -> Iterator[Case]:
        """Say what is true, or the opposite."""
        for case in cases:
            yield case.judged(tuple(self.say(pair.candidate.text) for pair in case.pairs))

    def say(self, text: str) -> Judgment:
        """Say of one passage whether it is relevant."""
        true = chance("truth", text) < 0.3
        return Judgment("relevant" if true != (chance(self._name, text) < self._wrong) else "irrelevant")


def three_judges(folder: Path) -> Path:
    """Return a run of three judges that were all asked about everything, in two sources, with labels of two people."""
    rows = []
    for number in range(QUERIES):
        texts = [f"text {number} {each}" for each in range(NEGATIVES)]
        rows.append({
            "query_id": f"q{number}",
            "query": f"question {number}",
            "subset": "even" if number % 2 == 0 else "odd",
            "positive_passages": [{"docid": f"p{number}", "title": "", "text": f"answer {number}"}],
            "negative_passages": [{"docid": text[5:], "title": "", "text": text} for text in texts],
        })  # fmt: skip
    path = folder / "rows.jsonl"
    path.write_text("".join(json.dumps(row) + "\n" for row in rows), "utf-8")
    stages = "".join(f"  - {{judge: rules, name: {name}, final: []}}\n" for name in ("one", "two", "three"))
    judges = {"one": Erring("one", 0.25), "two": Erring("two", 0.15), "three": Erring("three", 0.05)}
    pipeline.run(sources.open_source(path), config.parse("stages:\n" + stages), folder / "run", judges=judges)
    api.audit_export(folder / "run", folder / "all.csv", everything=True)
    pairs = pd.read_csv(folder / "all.csv", encoding="utf-8-sig", dtype=str)
    for who, wrong in (("anna", 0.05), ("ben", 0.2)):
        labels: list[Any] = [Erring(who, wrong).say(text).label for text in pairs["candidate"]]
        pairs.assign(human_label=labels)[:240].to_csv(folder / f"{who}.csv", index=False)
        api.audit_import(folder / "run", folder / f"{who}.csv")
    api.apply(folder / "run")
    return folder / "run"
