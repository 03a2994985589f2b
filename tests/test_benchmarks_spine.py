import subprocess
import sys
from pathlib import Path

SCRIPT = Path(__file__).parent.parent / "benchmarks" / "spine.py"


def test_the_table_has_every_measurement_and_leaves_nothing_behind(tmp_path: Path) -> None:
    """Three jobs at two sizes, then the three demands; a demand that fails gives exit code 1. The folder is empty."""
    command = [sys.executable, str(SCRIPT), "--pairs", "200", "400", "--work", str(tmp_path)]
    done = subprocess.run(command, capture_output=True, text=True, encoding="utf-8", check=False)
    lines = done.stdout.splitlines()
    assert len(lines) == 2 + 6 + 1 + 3, done.stderr
    assert [line.split(" 4")[0].strip() for line in lines[5:8]] == [
        "bare loop",
        "relabel, one stage",
        "relabel, rules then a judge",
    ]
    held = [line.split()[-1] for line in lines[-3:]]
    assert set(held) <= {"holds", "FAILS"}
    assert done.returncode == int("FAILS" in held)
    assert list(tmp_path.iterdir()) == []
