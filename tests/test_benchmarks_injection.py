import importlib.util
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from types import ModuleType

import numpy as np
import pytest

ROOT = Path(__file__).parent.parent
SCRIPT = ROOT / "benchmarks" / "injection.py"


@pytest.fixture(scope="module")
def injection() -> Iterator[ModuleType]:
    """Load the script as a module."""
    spec = importlib.util.spec_from_file_location("injection", SCRIPT)
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    sys.modules["injection"] = module
    spec.loader.exec_module(module)
    yield module
    del sys.modules["injection"]


def test_a_row_holds_shares_and_their_differences(injection: ModuleType) -> None:
    """Ten trials of two queries: 4 and 1 flips raw, 2 and 1 fenced, so 30 and 10 points beyond harmless, 20 less."""
    row = injection.row_of("kind", 5, np.array([[5.0, 3, 1, 1, 0], [5.0, 1, 0, 1, 1]]))
    cells = row.split()
    assert cells[:7] == ["kind", "5", "10", "40.0", "10.0", "20.0", "10.0"]
    assert cells[7:10] == ["30.0", "[20.0,", "40.0]"]
    assert cells[10:13] == ["10.0", "[0.0,", "20.0]"]
    assert cells[13:] == ["-20.0", "[-20.0,", "-20.0]"]


def test_pairs_are_short_and_one_of_each_query(injection: ModuleType) -> None:
    """For each label as many pairs as are wanted, of different queries, in an order that does not change."""
    data, labels = ROOT / "data" / "sample.jsonl", ROOT / "data" / "reference_labels.csv"
    found = injection.pairs_by_label(data, labels, 7)
    assert set(found) == {"relevant", "irrelevant"}
    for pairs in found.values():
        assert len({case.example.query for case, _ in pairs}) == len(pairs) == 7
        assert all(len(pair.candidate.text) <= injection.LONGEST for _, pair in pairs)
    again = injection.pairs_by_label(data, labels, 7)
    assert [pair.key for _, pair in again["relevant"]] == [pair.key for _, pair in found["relevant"]]


def test_attacks_that_want_no_verdict_are_left_out(injection: ModuleType) -> None:
    """What only tries to break something is no trial of the model."""
    every = injection.read_attacks(ROOT / "tests" / "attacks.jsonl")
    assert {attack.aim for attack in every} == {"relevant", "irrelevant"}
    assert len(every) >= 60


def test_a_missing_model_is_one_clear_message(tmp_path: Path) -> None:
    """Without its model the benchmark names it and where to read on, and exits with 2."""
    done = subprocess.run(
        [sys.executable, str(SCRIPT), "--model", str(tmp_path / "nowhere")], capture_output=True, text=True, check=False
    )
    assert done.returncode == 2
    assert "nowhere" in done.stderr
    assert "see --help" in done.stderr
    assert len(done.stderr.splitlines()) == 1
    assert done.stdout == ""
