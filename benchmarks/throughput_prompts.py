"""What throughput.py has judged: rows made of the sample's texts, and the prompts that relabel makes of them."""

import json
import random
from collections.abc import Mapping
from pathlib import Path
from typing import Final

from relabel.cascade import open_case
from relabel.engine_settings import OpenAI
from relabel.engines.openai import OpenAIEngine
from relabel.judges.llm import LLMJudge
from relabel.prompts import load_template
from relabel.sources import open_source

SAMPLE: Final = Path(__file__).parent.parent / "data" / "sample.jsonl"
MODEL: Final = "gpt-4o-mini"
TEMPLATES: Final[Mapping[str, str]] = {"pair": "relevance", "group": "rlhn"}
CANDIDATES: Final = 20
"""Pairs of a query, and so of a group prompt; RLHN's training sets have up to 25 negatives in a row."""


def write_rows(path: Path, pairs: int, seed: int = 0) -> None:
    """Write rows of CANDIDATES negatives from the texts of the sample, no pair twice; the same seed, the same bytes."""
    rows = [json.loads(line) for line in SAMPLE.read_text("utf-8").splitlines()]
    passages = {each["text"]: each for row in rows for each in row["positive_passages"] + row["negative_passages"]}
    dice = random.Random(seed)
    with path.open("w", encoding="utf-8") as file:
        for number in range(pairs // CANDIDATES):
            row = rows[number % len(rows)]
            positives = row["positive_passages"][:1]
            others = [each for text, each in passages.items() if text != positives[0]["text"]]
            content = {
                "query_id": f"q{number}",
                "query": f"{row['query']} ({number})",
                "positive_passages": positives,
                "negative_passages": dice.sample(others, CANDIDATES),
            }
            file.write(json.dumps(content, ensure_ascii=False) + "\n")


def write_prompts(rows: Path, kind: str, path: Path) -> int:
    """Write the prompts that relabel makes of the rows, one request a line; return how many there are."""
    engine = OpenAIEngine(OpenAI(model=MODEL, base_url="http://127.0.0.1/v1", choices="text"))
    judge = LLMJudge("llm", load_template(TEMPLATES[kind]), engine, group_size=CANDIDATES, shuffle=False)
    requests = 0
    with path.open("w", encoding="utf-8") as file:
        for number, example in enumerate(open_source(rows).examples()):
            case = open_case(number, example, 3)
            for group in judge.groups(case):
                messages = [
                    {"role": each.role, "content": each.content} for each in judge.request(case, group).messages
                ]
                file.write(json.dumps({"messages": messages}, ensure_ascii=False) + "\n")
                requests += 1
    return requests


def cut(path: Path, lines: int, to: Path) -> None:
    """Write the first lines of a file."""
    with path.open(encoding="utf-8") as file, to.open("w", encoding="utf-8") as out:
        out.writelines(line for _, line in zip(range(lines), file, strict=False))
