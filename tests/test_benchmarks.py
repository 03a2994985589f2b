import subprocess
import sys
from pathlib import Path

import pytest

BENCHMARKS = Path(__file__).parent.parent / "benchmarks"


@pytest.mark.parametrize("script", ["rlhn_sample.py", "oneshot.py", "filters.py", "diagnose.py", "tokens.py"])
def test_missing_data_is_one_clear_message(script: str, tmp_path: Path) -> None:
    """Without its data a benchmark names the file that it looked for and where to read on, and exits with 2."""
    command = [sys.executable, str(BENCHMARKS / script), "--data", str(tmp_path / "nowhere")]
    done = subprocess.run(command, capture_output=True, text=True, encoding="utf-8", check=False)
    assert done.returncode == 2
    assert "nowhere" in done.stderr
    assert "see --help" in done.stderr
    assert len(done.stderr.splitlines()) == 1
    assert done.stdout == ""
