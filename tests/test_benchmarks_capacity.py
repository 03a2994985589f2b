import importlib.util
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from types import ModuleType

import pytest

SCRIPT = Path(__file__).parent.parent / "benchmarks" / "capacity.py"


@pytest.fixture(scope="module")
def capacity() -> Iterator[ModuleType]:
    """Load the script as a module."""
    spec = importlib.util.spec_from_file_location("capacity", SCRIPT)
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    sys.modules["capacity"] = module
    spec.loader.exec_module(module)
    yield module
    del sys.modules["capacity"]


def test_whole_leading_blocks_are_read_and_the_last_token_is_computed(capacity: ModuleType) -> None:
    """With blocks of 4: what is shared counts in whole blocks from the beginning, and never up to the last token."""
    cache = capacity.PrefixCache(4)
    assert cache.computed([1, 2, 3, 4, 5, 6, 7, 8, 9]) == 9  # nothing is known
    assert cache.computed([1, 2, 3, 4, 5, 6, 7, 0, 9]) == 5  # 7 shared tokens are 1 block
    assert cache.computed([1, 2, 3, 4, 5, 6, 7, 8, 0]) == 1  # 8 are 2, though another prompt came between
    assert cache.computed([1, 2, 3, 4, 5, 6, 7, 8]) == 4  # the last token has to be computed, and with it its block
    assert cache.computed([0, 2, 3, 4, 5, 6, 7, 8, 9]) == 9  # the same block after another beginning is another


def test_prompts_of_later_queries_share_what_is_the_same(capacity: ModuleType) -> None:
    """Instructions are computed once for all queries; a query's first prompt and the further ones are told apart."""
    queries = [[[1, 1, 2, 2, 3], [1, 1, 2, 2, 4]], [[1, 1, 5, 5, 3], [1, 1, 5, 5, 4], [1, 1, 5, 5, 6]]]
    counts = capacity.computed(queries, 2)
    assert counts == [[5, 1], [3, 1, 1]]
    assert capacity.split(counts) == capacity.Tokens(4.0, 1.0)


def test_tokens_of_a_job_follow_from_queries_and_pairs(capacity: ModuleType) -> None:
    """Each query has one first pair; all others are further ones."""
    assert capacity.Tokens(100.0, 10.0).of(pairs=45, queries=3) == 3 * 100 + 42 * 10


def test_hours_are_work_over_speed(capacity: ModuleType) -> None:
    """A model of 1 B reads 1.8 · 10⁹ tokens in an hour on 1 PFLOP/s; half the utilisation takes twice as long."""
    assert capacity.gpu_hours(1.8e9, 1.0, 1000.0, 1.0) == pytest.approx(1.0)
    assert capacity.gpu_hours(1.8e9, 1.0, 1000.0, 0.5) == pytest.approx(2.0)
    assert capacity.gpu_hours(1.8e9, 8.0, 250.0, 1.0) == pytest.approx(32.0)


def test_pairs_that_go_up_reach_most_queries(capacity: ModuleType) -> None:
    """Half of 2 negatives each, evenly spread: as many pairs as queries, in 3 of 4 queries; all or none are exact."""
    assert capacity.going_up(100, 2, 0.5) == (100.0, 75.0)
    assert capacity.going_up(100, 15, 1.0) == (1500.0, 100.0)
    assert capacity.going_up(100, 15, 0.0) == (0.0, 0.0)


@pytest.mark.parametrize(
    ("given", "word"), [(["--data", "nowhere.jsonl"], "nowhere.jsonl"), (["--tokenizer", "nowhere"], "nowhere")]
)
def test_what_is_missing_is_one_clear_message(given: list[str], word: str, tmp_path: Path) -> None:
    """Without its file or its tokenizer the benchmark names it and where to read on, and exits with 2."""
    done = subprocess.run(
        [sys.executable, str(SCRIPT), *given],
        capture_output=True,
        text=True,
        encoding="utf-8",
        check=False,
        cwd=tmp_path,
    )
    assert done.returncode == 2
    assert word in done.stderr
    assert "see --help" in done.stderr
    assert len(done.stderr.splitlines()) == 1
    assert done.stdout == ""
