"""The benchmarks of synthetic negatives, on little data."""

import subprocess
import sys
from pathlib import Path

import pytest
from test_evaluating import collection

BENCHMARKS = Path(__file__).parent.parent / "benchmarks"


def run(script: str, *given: str) -> subprocess.CompletedProcess[str]:
    """Start a benchmark."""
    command = [sys.executable, str(BENCHMARKS / script), *given]
    return subprocess.run(command, capture_output=True, text=True, encoding="utf-8", check=False)


@pytest.mark.parametrize(
    "given", [("separability.py", "--data"), ("separability.py", "--scifact"), ("synthetic_ab.py",)]
)
def test_missing_data_is_one_clear_message(given: tuple[str, ...], tmp_path: Path) -> None:
    """Without the data a benchmark says which file it looked for and where to read on, and exits with 2."""
    done = run(*given, str(tmp_path / "nowhere"))
    assert done.returncode == 2
    assert "nowhere" in done.stderr
    assert "see --help" in done.stderr
    assert len(done.stderr.splitlines()) == 1


@pytest.mark.slow
def test_obvious_sets_are_seen_in_the_sample(tmp_path: Path) -> None:
    """On a part of the project's sample both obvious sets are told apart, and a few random splits are not."""
    rows = (BENCHMARKS.parent / "data" / "sample.jsonl").read_text("utf-8").splitlines(keepends=True)
    (tmp_path / "part.jsonl").write_text("".join(rows[:40]), "utf-8")
    done = run("separability.py", "--data", str(tmp_path / "part.jsonl"), "--splits", "5")
    assert done.returncode == 0, done.stdout + done.stderr
    lines = {line[:32].strip(): line[32:].split() for line in done.stdout.splitlines()}
    assert float(lines["a chat bot's opening"][2]) > 0.9
    assert float(lines["a template about the query"][2]) > 0.9
    assert "5 random splits: AUC 0." in done.stdout


@pytest.mark.embedding
@pytest.mark.slow
def test_a_small_comparison(tmp_path: Path) -> None:
    """Mined, rule-made and mixed negatives on a collection of forty passages: a line for each arm."""
    folder = collection(tmp_path / "museum", train=True)
    done = run("synthetic_ab.py", str(folder), "--budget", "1", "--seeds", "2", "--split", "dev")
    assert done.returncode == 0, done.stderr
    arms = [
        line.split()[0] for line in done.stdout.splitlines() if line[:1].islower() and line[12:21].strip()[:1].isdigit()
    ]
    assert arms == ["untrained", "random", "mined", "synthetic", "mixed"]
