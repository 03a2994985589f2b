"""The benchmark of estimates, on a small made population and on a tiny folder."""

import subprocess
import sys
from pathlib import Path

SCRIPT = Path(__file__).parent.parent / "benchmarks" / "estimates.py"
JUDGES = ("dl2019_test_4prompts_flant5large.tsv", "dl2019_test_4prompts_llama70b.tsv")


def start(*options: str) -> subprocess.CompletedProcess[str]:
    """Start the benchmark."""
    command = [sys.executable, str(SCRIPT), *options]
    return subprocess.run(command, capture_output=True, text=True, encoding="utf-8", check=False)


def test_missing_data_is_one_clear_message(tmp_path: Path) -> None:
    """It says which file it looked for and where to read on, and exits with 2."""
    done = start("--data", str(tmp_path / "nowhere"))
    assert (done.returncode, done.stdout) == (2, "")
    assert "qrels.tsv is not there; see --help" in done.stderr


def test_every_design_covers_in_a_made_population() -> None:
    """A line for each design and estimator, random at its own width, and coverage that is no accident."""
    done = start("--queries", "150", "-n", "80", "--runs", "30")
    assert done.returncode == 0, done.stderr
    head, names, first, *rest = done.stdout.splitlines()
    assert "30 runs, -n 80" in head
    assert first.split()[-2:] == ["80", "1.00"]
    assert len(rest) == 15
    place = names.split().index("cover") - len(names.split())
    assert all(float(line.split()[place]) >= 0.8 for line in (first, *rest))


def test_a_folder_of_judgments(tmp_path: Path) -> None:
    """Grades of people and judges are read: 30 queries of 8 passages, a quarter relevant."""
    (tmp_path / "llm_qrels").mkdir()
    header = "query-id\tcorpus-id\tscore\n"
    for place, path in enumerate([tmp_path / "qrels.tsv", *[tmp_path / "llm_qrels" / name for name in JUDGES]]):
        lines = [f"q{q}\td{d}\t{3 if (q + d) % 4 == 0 else (q * d + place) % 2}\n" for q in range(30) for d in range(8)]
        path.write_text(header + "".join(lines), encoding="utf-8")
    done = start("--data", str(tmp_path), "-n", "60", "--runs", "3")
    assert done.returncode == 0, done.stderr
    assert done.stdout.startswith("240 pairs, false-negative rate 0.2500")
