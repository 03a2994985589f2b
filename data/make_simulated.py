#!/usr/bin/env python3
"""Write simulated/replies.jsonl: what two invented judges "said" about the sample. No model was asked.

Each judge sees the reference label through a stated confusion matrix. The dice are hashes of what they decide
about, so the file is the same on every machine and in any order. It takes no arguments, needs nothing but Python
and overwrites the file.
"""

import csv
import json
from collections.abc import Iterator, Mapping, Sequence
from hashlib import blake2b
from math import sqrt
from pathlib import Path
from statistics import NormalDist
from typing import Any, Final, Literal

Label = Literal["relevant", "partial", "irrelevant"]

LABELS: Final[tuple[Label, ...]] = ("relevant", "partial", "irrelevant")
HERE: Final = Path(__file__).resolve().parent
JUDGES: Final = ("cheap", "strong")
TEMPLATES: Final = ("rlhn", "relevance")

Rates = Mapping[Label, tuple[float, float, float]]

RATES: Final[Mapping[tuple[str, str], Rates]] = {
    ("cheap", "rlhn"): {
        "relevant": (0.75, 0.13, 0.12),
        "partial": (0.20, 0.50, 0.30),
        "irrelevant": (0.06, 0.12, 0.82),
    },
    ("strong", "rlhn"): {
        "relevant": (0.90, 0.07, 0.03),
        "partial": (0.08, 0.80, 0.12),
        "irrelevant": (0.015, 0.035, 0.95),
    },
    ("cheap", "relevance"): {
        "relevant": (0.78, 0.0, 0.22),
        "partial": (0.45, 0.0, 0.55),
        "irrelevant": (0.08, 0.0, 0.92),
    },
    ("strong", "relevance"): {
        "relevant": (0.91, 0.0, 0.09),
        "partial": (0.25, 0.0, 0.75),
        "irrelevant": (0.02, 0.0, 0.98),
    },
}
"""P(says | truth) by judge and template; each row in the order of LABELS. Yes is relevant, No is irrelevant."""

SHARED: Final = 0.35
"""Share of the variance of a pair's hardness that all judges and templates have in common."""

SURENESS: Final[Mapping[str, int]] = {"cheap": 4, "strong": 8}
"""How strongly the probability of a right answer is pushed towards 1. It is 1 for an answer that is wrong or on a
partial: then the probability is spread evenly from .5 to 1."""

UNUSABLE: Final[Mapping[str, int]] = {"rlhn": 3, "relevance": 9}
"""Replies of `cheap` that are no answer: in turn cut off, prose without a verdict, refused."""

PHRASES: Final[Mapping[Label, tuple[str, ...]]] = {
    "relevant": (
        "answers the question, only in other words",
        "somebody who reads just this has the answer",
        "says the same as what is known, a little more casually",
        "the answer stands in one sentence of it, and it is complete",
        "as good as the known document on the point that was asked",
    ),
    "partial": (
        "on the question, but a part of the answer is missing",
        "points the right way and leaves the reader to guess the rest",
        "true for a special case, not for what was asked in general",
        "touches the answer without spelling it out",
        "useful, though less complete than the known document",
    ),
    "irrelevant": (),
}


def share(*parts: str) -> float:
    """Return a number in (0, 1) that depends on nothing but `parts`."""
    dice = blake2b(json.dumps(parts).encode(), digest_size=6).digest()
    return (int.from_bytes(dice, "big") + 0.5) / 2**48  # the half keeps it off 0 and 1, which have no quantile


def says(judge: str, template: str, pair: tuple[str, str], truth: Label) -> Label:
    """Draw what a judge says about a pair whose reference label is `truth`.

    One normal number belongs to the pair (is it a hard one?), one to judge and template alone. Their weighted sum is
    normal again, so its quantile is uniform and the rates hold; a high one falls into the errors. A pair with a high
    number of its own is thus more likely to be mistaken by both judges.
    """
    normal = NormalDist()
    mixed = sqrt(SHARED) * normal.inv_cdf(share("pair", *pair)) + sqrt(1 - SHARED) * normal.inv_cdf(
        share(judge, template, *pair)
    )
    left = normal.cdf(mixed)
    rates = dict(zip(LABELS, RATES[judge, template][truth], strict=True))
    for label in sorted(LABELS, key=lambda label: label != truth):
        if left < rates[label]:
            return label
        left -= rates[label]
    return max(rates, key=rates.__getitem__)


def sureness(judge: str, pair: tuple[str, str], *, right: bool) -> float:
    """Draw the probability of the word that was said, from just above .5 to .9999; near 1 more often when right."""
    doubt = share("doubt", judge, *pair) ** (SURENESS[judge] if right else 1)
    return round(min(max(1 - doubt / 2, 0.5001), 0.9999), 4)


def record(judge: str, template: str, query_id: str, ids: Sequence[str], reply: str | None) -> dict[str, Any]:
    """Build one line of the recording."""
    return {"judge": judge, "template": template, "query_id": query_id, "candidate_ids": list(ids), "reply": reply}


def group_reply(query_id: str, said: Sequence[Label], judge: str) -> str:
    """Word a verdict on all documents of a query, numbered from 1."""
    lines = []
    for number, label in enumerate(said, start=1):
        if phrases := PHRASES[label]:
            lines.append(f"Doc ({number}): {phrases[int(share('words', judge, query_id, str(number)) * len(phrases))]}")
    better, worse = (
        ", ".join(f"Doc ({number})" for number, label in enumerate(said, start=1) if label == wanted)
        for wanted in ("relevant", "partial")
    )
    thinking = "\n".join(lines) or "None of the documents answers the question."
    verdict = f"<better>[{better}]</better><worse>[{worse}]</worse>"
    return f"<thinking>\n{thinking}\n</thinking>\n<verdict>{verdict}</verdict>"


def about_groups(judge: str, truths: Mapping[str, Mapping[str, Label]]) -> Iterator[dict[str, Any]]:
    """Yield one reply in RLHN's form for each query."""
    for query_id, labels in truths.items():
        said = [says(judge, "rlhn", (query_id, name), truth) for name, truth in labels.items()]
        yield record(judge, "rlhn", query_id, list(labels), group_reply(query_id, said, judge))


def about_pairs(judge: str, truths: Mapping[str, Mapping[str, Label]]) -> Iterator[dict[str, Any]]:
    """Yield one Yes or No with its probability for each pair."""
    for query_id, labels in truths.items():
        for name, truth in labels.items():
            yes = says(judge, "relevance", (query_id, name), truth) == "relevant"
            right = truth == ("relevant" if yes else "irrelevant")
            sure = sureness(judge, (query_id, name), right=right)
            other = round(1 - sure, 4)
            line = record(judge, "relevance", query_id, [name], "Yes" if yes else "No")
            yield line | {"probabilities": {"Yes": sure, "No": other} if yes else {"Yes": other, "No": sure}}


def spoil(line: dict[str, Any], way: int) -> dict[str, Any]:
    """Make a reply unusable in one of three ways."""
    line = {name: value for name, value in line.items() if name != "probabilities"}
    text, one_word = str(line["reply"]), line["template"] == "relevance"
    if way == 0:
        return line | {"reply": "The" if one_word else text[: text.rindex("<worse>")], "failure": "cut off"}
    if way == 1:
        prose = "That depends on what the reader knows already."
        return line | {"reply": prose if one_word else f"{prose} Several of the documents are close to the subject."}
    return line | {"reply": None, "failure": "refused"}


def spoiled(lines: Sequence[dict[str, Any]], count: int) -> list[dict[str, Any]]:
    """Spoil the `count` replies whose dice fall lowest; the others stay as they are."""

    def dice(place: int) -> float:
        line = lines[place]
        return share("unusable", line["template"], line["query_id"], *line["candidate_ids"])

    chosen = {place: turn % 3 for turn, place in enumerate(sorted(range(len(lines)), key=dice)[:count])}
    return [spoil(line, chosen[place]) if place in chosen else line for place, line in enumerate(lines)]


def read_truths() -> dict[str, dict[str, Label]]:
    """Read the reference labels of each query's distinct negatives, in the order of the sample's rows."""
    with (HERE / "reference_labels.csv").open(encoding="utf-8", newline="") as file:
        known = {(row["query_id"], row["passage_id"]): row["label"] for row in csv.DictReader(file)}
    by_word: dict[str, Label] = {label: label for label in LABELS}
    truths: dict[str, dict[str, Label]] = {}
    with (HERE / "sample.jsonl").open(encoding="utf-8") as file:
        for row in map(json.loads, file):
            name = row["query_id"]
            ids = [passage["docid"] for passage in row["negative_passages"]]
            truths[name] = {docid: by_word[known[name, docid]] for docid in ids}
    return truths


def write(target: Path) -> None:
    """Write all replies of both judges to `target`."""
    truths = read_truths()
    with target.open("w", encoding="utf-8", newline="\n") as file:
        for judge in JUDGES:
            for template, make in (("rlhn", about_groups), ("relevance", about_pairs)):
                lines = list(make(judge, truths))
                usable = spoiled(lines, UNUSABLE[template]) if judge == "cheap" else lines
                file.writelines(json.dumps(line, ensure_ascii=False) + "\n" for line in usable)


if __name__ == "__main__":
    write(HERE / "simulated" / "replies.jsonl")
