"""Small collections for tests of mining, and a look at what was mined."""

import json
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

import relabel

PLACES = ("river", "harbour", "market", "station", "castle", "garden", "tower", "school")
TOWNS = ("north", "south", "east", "west", "upper", "lower")

TEXTS = {
    f"d{number}": f"The {place} of {town} town opens at {number} in summer and closes early when it rains."
    for number, (place, town) in enumerate((place, town) for place in PLACES for town in TOWNS)
}
"""48 passages, of which each shares words with many."""

QUERIES = {
    "q0": "When does the river of north town open?",
    "q1": "market of east town closes early",
    "q2": "castle lower town summer",
}
POSITIVES = {"q0": {"d0": 1}, "q1": {"d14": 1}, "q2": {"d29": 1}}


def beir(
    folder: Path,
    texts: Mapping[str, str] = TEXTS,
    queries: Mapping[str, str] = QUERIES,
    qrels: Mapping[str, Mapping[str, int]] = POSITIVES,
) -> Path:
    """Write a collection as a BEIR folder."""
    (folder / "qrels").mkdir(parents=True)
    lines(folder / "corpus.jsonl", ({"_id": name, "title": "", "text": text} for name, text in texts.items()))
    lines(folder / "queries.jsonl", ({"_id": name, "text": text} for name, text in queries.items()))
    judged = [f"{query}\t{name}\t{grade}\n" for query, of in qrels.items() for name, grade in of.items()]
    (folder / "qrels" / "train.tsv").write_text("query-id\tcorpus-id\tscore\n" + "".join(judged), "utf-8")
    return folder


def lines(path: Path, rows: Iterable[Any]) -> Path:
    """Write rows as JSON lines; a text among them stands as it is."""
    told = [row if isinstance(row, str) else json.dumps(row) for row in rows]
    path.write_text("".join(f"{line}\n" for line in told), "utf-8")
    return path


def negatives(folder: Path) -> dict[str, list[str]]:
    """Return the ids of each query's negatives, as the rows have them."""
    return {each.id: [one.id for one in each.negatives] for each in relabel.read(folder / "train.jsonl")}


def candidates(folder: Path) -> dict[str, dict[str, Any]]:
    """Return what was found for each query."""
    read = [json.loads(line) for line in (folder / "candidates.jsonl").read_text("utf-8").splitlines()]
    return {each["query_id"]: each for each in read}
