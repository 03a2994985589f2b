import subprocess
import sys
from pathlib import Path

import pytest

SCRIPT = Path(__file__).parent.parent / "benchmarks" / "llmjudge.py"


def run(folder: Path) -> subprocess.CompletedProcess[str]:
    """Start the benchmark on a folder."""
    command = [sys.executable, str(SCRIPT), "--data", str(folder)]
    return subprocess.run(command, capture_output=True, text=True, encoding="utf-8", check=False)


def test_missing_data_is_one_clear_message(tmp_path: Path) -> None:
    """Without the data the benchmark says which file it looked for and where to read on, and exits with 2."""
    done = run(tmp_path / "nowhere")
    assert done.returncode == 2
    assert "nowhere" in done.stderr
    assert "see --help" in done.stderr
    assert len(done.stderr.splitlines()) == 1
    assert done.stdout == ""


@pytest.mark.parametrize(("published", "code", "equal"), [("1.0000", 0, 5), ("0.9999", 1, 4)])
def test_published_figures_decide_the_exit_code(tmp_path: Path, published: str, code: int, equal: int) -> None:
    """A judge that repeats the human grades, with a "5" for a 3, has 1 everywhere; one other digit fails the run."""
    (tmp_path / "human").mkdir()
    (tmp_path / "llm_submissions").mkdir()
    grades = "q1 0 p1 0\nq1 0 p2 1\nq2 0 p1 2\nq2 0 p2 "
    (tmp_path / "human" / "llmjudge_test_qrel_idx.txt").write_text(grades + "3\n", "utf-8")
    (tmp_path / "llm_submissions" / "echo.txt").write_text(grades + "5\n", "utf-8")
    (tmp_path / "published_table3.tsv").write_text(f"submission\talpha_ordinal\necho\t{published}\n", "utf-8")
    header = "submission\tkappa4\tkappa_0|123\tkappa_01|23\tkappa_012|3"
    (tmp_path / "published_table4.tsv").write_text(f"{header}\necho\t1\t1\t1\t1\n", "utf-8")
    done = run(tmp_path)
    assert done.returncode == code, done.stderr
    assert done.stdout.splitlines()[-1] == f"{equal} of 5 figures equal the published ones to 4 decimals"
