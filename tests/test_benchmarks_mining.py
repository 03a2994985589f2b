import subprocess
import sys
from pathlib import Path

import pytest

SCRIPT = Path(__file__).parent.parent / "benchmarks" / "mining_scale.py"


@pytest.mark.embedding
def test_every_measurement_is_printed() -> None:
    """A small table: building, both numbers of queries, recall with the number of queries it is of."""
    pytest.importorskip("faiss")
    sizes = ["--documents", "6000", "--queries", "500", "--dimensions", "16", "--depth", "20", "--sample", "50"]
    command = [sys.executable, str(SCRIPT), *sizes, "--index", "ivf"]
    done = subprocess.run(command, capture_output=True, text=True, encoding="utf-8", check=False)
    assert done.stderr == ""
    for words in ("build  ", "search 100 ", "search 500 ", "recall@20 against flat, of 50 queries"):
        assert words in done.stdout
    assert [line.split()[-1] for line in done.stdout.splitlines() if "recall@10" in line] == ["holds"]
