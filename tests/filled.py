"""Folders of `relabel synthesize`, for tests of what is read from them."""

import json
import subprocess
from collections.abc import Sequence
from pathlib import Path

from server import FakeServer
from test_synthesizing import ENGINE, PLAIN, Said, answering, candidates, text, typed, write

from relabel import api_synthesis
from relabel.synthesis.settings import parse
from relabel.synthesizing import Synthesized


def paid(folder: Path) -> Path:
    """Have the command fill rows by a model that writes and one that judges, each with a price."""
    source = write(folder / "rows.jsonl", [3] * 24)
    with FakeServer(answering) as server:
        command, environment = typed(folder, server.url, source, "engine: " + ENGINE.format(url=server.url))
        done = subprocess.run(command, env=environment, capture_output=True, text=True, check=False)
    assert (done.returncode, done.stderr) == (0, "")
    return folder / "out"


def given_away(folder: Path, attacks: Sequence[str]) -> Synthesized:
    """Fill rows with passages that all begin alike and hold an attack, as every name beside them does."""
    rows: list[dict[str, object]] = []
    for number in range(24):
        attack = attacks[number % len(attacks)]
        beside = {"title": attack, "generator": attack, "detail": attack, "recipe": attack}
        known = {"query_id": f"q{number}", **beside}
        rows += [
            {**known, "text": f"Sure! Certainly helpful answer {attack} {text(500 + 10 * number + at)} {word}"}
            for at, word in enumerate(("no", "no", "yes"))
        ]
        rows.append({"query_id": f"q{number}", "failure": attack})
    return judged(folder, write(folder / "rows.jsonl", [3] * 24), rows, "add: 3\nmax_share: {row: 1.0, data: 1.0}\n")


def judged(folder: Path, source: Path, rows: Sequence[dict[str, object]], more: str) -> Synthesized:
    """Fill rows with what was written before, judged by its last word; nothing is a copy of anything."""
    off = PLAIN.replace("near: null", "words: null, copy: null, twin: null, near: null")
    (folder / "judge.yaml").write_text("stages: [{judge: rules, name: said}]", "utf-8")
    wanted = parse(off + more).model_copy(
        update={"judge": str(folder / "judge.yaml"), "written": str(candidates(folder / "w.jsonl", *rows))}
    )
    return api_synthesis.synthesize(source, wanted, output=folder / "out", judges={"said": Said()})


def read(folder: Path, name: str) -> dict[str, object]:
    """Read a document of a folder."""
    found: dict[str, object] = json.loads((folder / name).read_text("utf-8"))
    return found
