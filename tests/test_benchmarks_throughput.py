import importlib.util
import json
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from types import ModuleType

import pytest

SCRIPT = Path(__file__).parent.parent / "benchmarks" / "throughput.py"


@pytest.fixture
def throughput(monkeypatch: pytest.MonkeyPatch) -> Iterator[ModuleType]:
    """Load the script as a module."""
    monkeypatch.syspath_prepend(str(SCRIPT.parent))
    spec = importlib.util.spec_from_file_location("throughput", SCRIPT)
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    monkeypatch.setitem(sys.modules, "throughput", module)
    spec.loader.exec_module(module)
    yield module
    sys.modules.pop("throughput_prompts", None)


def test_relabel_and_the_bare_pool_send_the_same_prompts(tmp_path: Path) -> None:
    """Forty pairs in two group prompts: nobody sent anything else, and what is demanded is told with its outcome."""
    size = ["--pairs", "40", "--slow-pairs", "20", "--repeats", "1", "--latency", "0.001", "--kinds", "group"]
    command = [sys.executable, str(SCRIPT), *size, "--only", "bare", "relabel", "--work", str(tmp_path)]
    done = subprocess.run(command, capture_output=True, text=True, encoding="utf-8", check=False)
    lines = done.stdout.splitlines()
    asked = [line[32:41].split() for line in lines if line.startswith(("bare", "relabel run"))]
    assert asked == [["2"], ["2"]], done.stderr
    assert not [line for line in lines if line.lstrip().startswith("!") or "failed" in line]
    held = [line.split()[-1] for line in lines if "relabel ÷ bare pool, requests/s" in line]
    assert len(held) == 1
    assert set(held) <= {"holds", "FAILS"}
    assert done.returncode == int("FAILS" in held)
    assert list(tmp_path.iterdir()) == []


def test_an_absent_peer_is_named_with_the_reason(tmp_path: Path) -> None:
    """Without an environment, or with one that pip could not fill, a peer stands below the table with its reason."""
    python = tmp_path / "distilabel" / "bin" / "python"
    python.parent.mkdir(parents=True)
    python.touch()
    (tmp_path / "distilabel.failed").write_text("ERROR: No matching distribution", encoding="utf-8")
    options = ["--pairs", "20", "--slow-pairs", "20", "--only", "curator", "distilabel", "--peers", str(tmp_path)]
    done = subprocess.run(
        [sys.executable, str(SCRIPT), *options], capture_output=True, text=True, encoding="utf-8", check=False
    )
    assert "curator did not take part: no environment: --install makes it" in done.stdout
    assert "distilabel did not take part: ERROR: No matching distribution" in done.stdout
    assert done.returncode == 0


def test_who_leaves_prompts_out_is_told(throughput: ModuleType, tmp_path: Path) -> None:
    """Forty were to come: 39, or 40 of which two are the same, or fewer answers than prompts are a fault."""
    bench = throughput.Bench(tmp_path, 40, 20, 8, None, 60.0)
    told = {"seconds": 1.0, "cpu": 0.5, "peak": 50.0, "answers": 40}
    seen = {"requests": 40, "distinct": 40, "prompts": "0", "most_at_once": 8, "cpu": 0.1}

    def fault(told: dict[str, float], seen: dict[str, object]) -> str:
        return str(bench.found(told, seen, "pair", throughput.BARE).fault)

    assert fault(told, seen) == ""
    assert fault(told, seen | {"requests": 39, "distinct": 39}) == "39 requests came, 39 different, of 40"
    assert fault(told, seen | {"distinct": 39}) == "40 requests came, 39 different, of 40"
    assert fault(told | {"answers": 38}, seen) == "38 answers of 40"


def test_no_pair_comes_twice_and_the_same_seed_gives_the_same_rows(throughput: ModuleType, tmp_path: Path) -> None:
    """Queries are all different, so are the passages of a row, and none is the positive; two files are equal."""
    for name in ("a", "b"):
        throughput.write_rows(tmp_path / name, 4_000)
    assert (tmp_path / "a").read_bytes() == (tmp_path / "b").read_bytes()
    rows = [json.loads(line) for line in (tmp_path / "a").read_text("utf-8").splitlines()]
    assert len({row["query"] for row in rows}) == len(rows) == 200
    for row in rows:
        texts = [each["text"] for each in row["negative_passages"] + row["positive_passages"]]
        assert len(set(texts)) == len(texts) == 21


def test_what_outlives_its_limit_is_ended_with_all_that_it_started(throughput: ModuleType, tmp_path: Path) -> None:
    """A command that starts another and hangs is stopped after its limit, and the other is gone too."""
    inner = f"import time; time.sleep(3); open({str(tmp_path / 'alive')!r}, 'w')"
    outer = f"import subprocess, sys; subprocess.run([sys.executable, '-c', {inner!r}])"
    told, why = throughput.outcome([sys.executable, "-c", outer], {}, str(tmp_path), 1.0)
    assert (told, why) == ({}, "stopped after 1 s")
    subprocess.run([sys.executable, "-c", "import time; time.sleep(3)"], check=True)
    assert not (tmp_path / "alive").exists()
