"""The benchmark of faults and limits, shortened."""

import subprocess
import sys
from pathlib import Path

SCRIPT = Path(__file__).parent.parent / "benchmarks" / "chaos.py"


def test_a_short_chaos() -> None:
    """Every pair is accounted for, nothing is asked or answered without need, and the limit is what holds it up."""
    command = [sys.executable, str(SCRIPT), "--pairs", "300", "--rate", "60", "--seed", "3"]
    done = subprocess.run(command, capture_output=True, text=True, check=False, timeout=120)
    assert done.returncode == 0, done.stderr
    told = {line[:34].strip(): line[34:].split() for line in done.stdout.splitlines()[1:]}
    assert int(told["pairs judged"][0]) + int(told["pairs none, each with its reason"][0]) == 300
    assert told["contents answered twice"] == told["let through without need"] == ["0"]
    assert float(told["seconds"][0]) >= float(told["ideal seconds"][0]) - 1  # a bucket of one second is full at first
