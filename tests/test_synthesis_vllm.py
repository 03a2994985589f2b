"""Passages written, and judged, by a small real model in vLLM: plumbing, for what it writes and says is of no use."""

import json
import os
import subprocess
import sys
from collections.abc import Iterator
from itertools import islice
from pathlib import Path
from typing import Any

import pytest
from vllm_here import MISSING, ONE_PROCESS, REASON

from relabel.authors import open_author
from relabel.sources import open_source
from relabel.synthesis.forms import UNREADABLE
from relabel.synthesis.settings import parse

if MISSING:
    pytest.skip(REASON, allow_module_level=True)

pytestmark = [pytest.mark.vllm, pytest.mark.filterwarnings("ignore")]

ROOT = Path(__file__).parent.parent
SAMPLE = ROOT / "data" / "sample.jsonl"
ROWS = 8
SETTINGS = """\
recipes: {requirement: 1, mirror: 1, query-only: 1}
at_once: 1
add: 1
below: 0
oversample: 1
"""
LENIENT = """\
judge: judge.yaml
alone: true
max_share: {row: 1, data: 1}
gate: {words: null, copy: null, near: null, twin: null, easy: null, language: false}
order: as written
"""
JUDGE = "stages:\n  - {name: local, judge: llm, prompt: relevance, "


def engine(model: Path, **more: float) -> str:
    """Return the engine's settings; JSON is YAML."""
    told = {"kind": "vllm", "model": str(model), "dtype": "float32", "enforce_eager": True} | more
    return "engine: " + json.dumps(told | {"max_model_len": 1536, "max_num_seqs": 8})


@pytest.fixture(autouse=True, scope="module")
def environment() -> Iterator[None]:
    """Run vLLM in this process and offline."""
    with pytest.MonkeyPatch.context() as patch:
        for name, value in ONE_PROCESS.items():
            patch.setenv(name, value)
        yield


def test_a_small_model_writes(models: Path, tmp_path: Path) -> None:
    """Every passage that was ordered is there or says why not; some are there; a second time no model is loaded."""
    settings = parse(f"{SETTINGS}{engine(models / 'smol', max_tokens=96, temperature=0.3)}\n")
    rows = list(islice(open_source(SAMPLE).examples(), 3))
    with open_author(settings, tmp_path / "writing") as author:
        author.ask(rows)
        first = [each for row in rows for each in author.written(row)]
        assert author.desk is not None
        assert author.desk.spending()["asked"] == len({each.reply for each in first}) == len(first) == 3
    with open_author(settings, tmp_path / "writing") as author:
        author.ask(rows)
        assert [each for row in rows for each in author.written(row)] == first
        assert author.desk is not None
        assert author.desk.spending()["asked"] == 0
        assert "seconds_to_load" not in author.desk.engine.report()
    assert {each.failure for each in first} <= {"", "cut off", UNREADABLE}
    assert all(bool(each.text) != bool(each.failure) for each in first)
    assert any(each.text for each in first)


def test_one_command_has_passages_written_and_judged(models: Path, tmp_path: Path) -> None:
    """Two stages of vLLM one after the other, everything accounted for; the same call again loads no model."""
    model = models / "smol"
    (tmp_path / "judge.yaml").write_text(f"{JUDGE}{engine(model, max_tokens=8)}}}\n")
    writer = engine(model, max_tokens=96, temperature=0.3)
    (tmp_path / "synthesize.yaml").write_text(f"{SETTINGS}{LENIENT}{writer}\n")
    rows = SAMPLE.read_text(encoding="utf-8").splitlines(keepends=True)[:ROWS]
    (tmp_path / "train.jsonl").write_text("".join(rows), encoding="utf-8")
    told = _synthesize(tmp_path)
    assert "of one family" in told, told
    statistics, took = _told(tmp_path, "statistics.json"), _told(tmp_path, "run.json")
    slots = statistics["slots"]
    assert slots["asked"] == ROWS == slots["accepted"] + sum(slots["refused"].values()) + sum(slots["none"].values())
    written = [line for line in _lines(tmp_path / "out" / "synthetic.jsonl") if line.get("text")]
    judged = [row["negative_passages"] for row in _lines(tmp_path / "out" / "candidates.jsonl")]
    assert 0 < sum(map(len, judged)) <= len(written) <= ROWS
    assert all(each["generator"] == str(model) for each in written)
    assert all(each["judge"] == f"local ({model})" for each in written if each["end"] == "accepted")
    assert took["writing"]["tokens_out"] > 0
    assert took["judging"]["stages"][0]["tokens_in"] > 0
    before = (tmp_path / "out" / "synthetic.jsonl").read_bytes()
    _synthesize(tmp_path)
    assert (tmp_path / "out" / "synthetic.jsonl").read_bytes() == before
    again = _told(tmp_path, "run.json")
    assert again["writing"] == took["writing"]
    assert again["seconds"] < took["seconds"] / 2


def _synthesize(folder: Path) -> str:
    """Run the command; return what it tells."""
    command = [
        sys.executable,
        "-m",
        "relabel",
        "synthesize",
        "fill",
        "train.jsonl",
        "-c",
        "synthesize.yaml",
        "-o",
        "out",
    ]
    done = subprocess.run(
        command, cwd=folder, env=os.environ | ONE_PROCESS, capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stderr
    return done.stdout + done.stderr


def _told(folder: Path, name: str) -> Any:
    return json.loads((folder / "out" / name).read_text(encoding="utf-8"))


def _lines(file: Path) -> list[Any]:
    return [json.loads(line) for line in file.read_text(encoding="utf-8").splitlines()]
