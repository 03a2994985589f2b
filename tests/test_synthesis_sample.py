"""The project's own candidates: what the gate finds of what was marked beforehand, and that the data are as stated."""

import json
import runpy
import subprocess
import sys
from pathlib import Path

import pytest

from relabel.synthesis.gate import REASONS
from relabel.synthesis.marks import synthetic_id

ROOT = Path(__file__).resolve().parent.parent
DATA = ROOT / "data"
LINES = [json.loads(line) for line in (DATA / "synthetic.candidates.jsonl").read_text("utf-8").splitlines()]
README = " ".join((DATA / "README.md").read_text(encoding="utf-8").split())


def test_the_script_reproduces_the_replies(tmp_path: Path) -> None:
    """The recorded replies are what the script writes, byte for byte, one for each query with candidates."""
    script = runpy.run_path(str(DATA / "make_synthetic.py"))
    script["write"](tmp_path / "replies.jsonl")
    recorded = DATA / "simulated" / "synthetic.jsonl"
    assert recorded.read_bytes() == (tmp_path / "replies.jsonl").read_bytes()
    known = {name for line in recorded.read_text("utf-8").splitlines() for name in json.loads(line)["candidate_ids"]}
    assert known == {synthetic_id("", line["text"]) for line in LINES if "text" in line}


def test_every_candidate_is_marked_and_counted() -> None:
    """Each text is marked good or bad, a bad one with its kind; the numbers are those that the README states."""
    written = [line for line in LINES if "text" in line]
    good = sum(line["mark"] == "good" for line in written)
    queries = {line["query_id"] for line in written}
    kinds = {line["kind"] for line in written if line["mark"] == "bad"}
    assert all((line["mark"] == "good") == (line["kind"] == "") for line in written)
    assert kinds <= {*REASONS, "judged relevant", "judged partial"}
    told = f"{len(written)} candidates for {len(queries)} queries, {good} marked good and {len(written) - good} bad"
    assert f"{told}, and {len(LINES) - len(written)} requests that brought nothing" in README


@pytest.mark.slow
@pytest.mark.embedding
def test_the_gate_finds_what_was_marked() -> None:
    """Run as a benchmark, the gate lets few bad ones pass and keeps most good ones; the table has every reason."""
    done = subprocess.run(
        [sys.executable, str(ROOT / "benchmarks" / "gate.py")], capture_output=True, text=True, check=False
    )
    assert (done.returncode, done.stderr) == (0, "")
    lines = {line.strip()[:26].strip(): line[28:].split() for line in done.stdout.splitlines()}
    refused, bad, _, marked = map(int, lines["all"][:4])
    assert marked == 59
    assert bad / refused >= 0.85
    assert bad / marked >= 0.9
    assert {line["kind"] for line in LINES if line.get("kind")} <= lines.keys()
    assert int(lines["wrong language"][2]) == int(lines["wrong language"][3]) == 4


def test_a_missing_file_is_one_clear_message(tmp_path: Path) -> None:
    """Without its data the benchmark names the file and where to read on."""
    command = [sys.executable, str(ROOT / "benchmarks" / "gate.py"), "--candidates", str(tmp_path / "nowhere")]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert (done.returncode, done.stdout, done.stderr) == (2, "", f"{tmp_path / 'nowhere'} is missing: see --help\n")
