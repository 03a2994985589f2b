"""The benchmark of recorded replies, on tiny data of our own in the shape of RLHN's sample."""

import json
import subprocess
import sys
from pathlib import Path

BENCHMARKS = Path(__file__).parent.parent / "benchmarks"
FILES = {
    "fiqa": ("fiqa.stage_1.gpt-4o-mini.jsonl", "fiqa.stage_2.gpt-4o.jsonl"),
    "msmarco_passage": ("msmarco_passage.stage_1.gpt-4o-mini.jsonl", "msmarco_passage.stage_2.gpt-4o.jsonl"),
}


def rows(name: str, *, first: bool) -> str:
    """Return rows of four candidates, of which the judge prefers the one that stands first, or the longest."""
    lines = []
    for number in range(6):
        texts = [f"text {number} {place} " + "long " * (place + number % 3) for place in range(4)]
        chosen = 1 if first else 4
        lines.append({
            "query_id": f"{name}{number}", "query": f"text {number}", "subset": name,
            "positive_passages": [{"docid": f"p{number}", "title": "", "text": f"known {number}"}],
            "negative_passages": [{"docid": f"n{n}", "title": "", "text": text} for n, text in enumerate(texts)],
            "positive_passage_ids": [f"p{number}"], "negative_passage_ids": [f"n{place}" for place in range(4)],
            "response": f"<verdict><better>[Doc ({chosen})]</better><worse>[]</worse></verdict>",
            "finish_reason": "stop",
        })  # fmt: skip
    return "".join(json.dumps(line) + "\n" for line in lines)


def test_recorded_replies_are_diagnosed(tmp_path: Path) -> None:
    """One table: the love of the first place is seen in the one judge, that of the last and longest in the other."""
    for name, (mini, strong) in FILES.items():
        (tmp_path / mini).write_text(rows(name, first=True), "utf-8")
        (tmp_path / strong).write_text(rows(name, first=False), "utf-8")
    command = [sys.executable, str(BENCHMARKS / "diagnose.py"), "--data", str(tmp_path)]
    done = subprocess.run(command, capture_output=True, text=True, encoding="utf-8", check=False)
    assert (done.returncode, done.stderr) == (0, "")
    table = {line[:48].strip(): line[48:] for line in done.stdout.splitlines()}
    assert table["yes rate, first third of a prompt"].split()[0] == "1.00"
    place = table["ρ of yes with the place"].replace("−", "-").split()
    assert float(place[0]) < 0 < float(place[4])
    assert table["pairs with a label"].split() == ["24"] * 4
    assert "lists, probe, repeat, swap, templates" in done.stdout
