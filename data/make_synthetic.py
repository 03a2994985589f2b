#!/usr/bin/env python3
"""Write simulated/synthetic.jsonl: what the simulated judge `strong` "says" about the synthetic candidates.

As `make_simulated.py` does for the sample's own negatives, with the same confusion matrix and the same dice: no model
was asked. It takes no arguments, needs nothing but Python and overwrites the file.
"""

import json
import runpy
from hashlib import blake2b
from pathlib import Path
from typing import Any, Final

HERE: Final = Path(__file__).resolve().parent
SIMULATED: Final = runpy.run_path(str(HERE / "make_simulated.py"))
JUDGE, TEMPLATE = "strong", "rlhn"

UNUSABLE: Final = 2
"""Replies that are no answer, so that some candidates end without a verdict."""


def name_of(title: str, text: str) -> str:
    """Return the id that relabel gives a synthetic passage: "synthetic-" and 6 bytes of BLAKE2b, lengths hashed too."""
    hasher = blake2b(digest_size=6)
    for part in (title, text):
        data = part.encode()
        hasher.update(b"%d:" % len(data) + data)
    return f"synthetic-{hasher.hexdigest()}"


def replies() -> list[dict[str, Any]]:
    """Return one reply for each query, about all its candidates in the order of the file."""
    labels: dict[str, dict[str, str]] = {}
    with (HERE / "synthetic.candidates.jsonl").open(encoding="utf-8") as file:
        for line in map(json.loads, file):
            if "text" in line:
                name = name_of(line.get("title", ""), line["text"])
                labels.setdefault(line["query_id"], {})[name] = line["label"]
    return list(SIMULATED["about_groups"](JUDGE, labels))


def write(target: Path) -> None:
    """Write all replies to `target`."""
    with target.open("w", encoding="utf-8", newline="\n") as file:
        for line in SIMULATED["spoiled"](replies(), UNUSABLE):
            file.write(json.dumps(line, ensure_ascii=False) + "\n")


if __name__ == "__main__":
    write(HERE / "simulated" / "synthetic.jsonl")
