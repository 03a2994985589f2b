"""The count of billed tokens, its rule of the cache, and what it prints, on rows of our own."""

import importlib.util
import json
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from types import ModuleType

import pytest

SCRIPT = Path(__file__).parent.parent / "benchmarks" / "tokens.py"


@pytest.fixture(scope="module")
def tokens() -> Iterator[ModuleType]:
    """Load the script as a module."""
    spec = importlib.util.spec_from_file_location("tokens", SCRIPT)
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    sys.modules["tokens"] = module
    spec.loader.exec_module(module)
    yield module
    del sys.modules["tokens"]


def test_long_beginnings_are_served_in_steps(tokens: ModuleType) -> None:
    """From 1,024 tokens on and in whole steps of 128; never of a short prompt, nor behind another beginning."""
    cache = tokens.OpenAICache()
    assert cache.served([1] * 2000) == 0  # nothing is known
    assert cache.served([1] * 1500 + [2] * 500) == 1408  # 11 steps
    assert cache.served([1] * 1500 + [2] * 500) == 1920
    assert cache.served([1] * 1023) == 0
    assert cache.served([1] * 1023 + [3] * 500) == 0  # 7 steps are known, which is too few
    assert cache.served([3] + [1] * 1999) == 0


def test_published_savings_follow_from_the_published_dollars(tokens: ModuleType) -> None:
    """Each as RLHN's table has it, and 33 % in all; flagged pairs at a third of the dollars save more."""
    assert {name: round(100 * row.saves()) for name, row in tokens.PUBLISHED.items()} == {
        "MS MARCO": 13, "HotpotQA": 81, "NQ": 39, "FEVER": 67, "SCIDOCS-RR": 78, "FiQA": 28,
    }  # fmt: skip
    assert round(100 * tokens.total()) == 33
    marco = tokens.PUBLISHED["MS MARCO"]
    assert marco.saves(1, 0) == pytest.approx(1 - 180.40 / (2431.98 / 391_965 * 485_823))


def judged(path: Path, replies: dict[str, str], *, candidates: int) -> None:
    """Write judged rows as RLHN does."""
    path.write_text(
        "".join(
            json.dumps({
                "query_id": query,
                "query": f"what is {query}",
                "positive_passages": [{"docid": "p", "title": "", "text": f"{query} is known"}],
                "negative_passages": [
                    {"docid": f"n{number}", "title": "", "text": f"{query} {number} " + "word " * 20}
                    for number in range(candidates)
                ],
                "response": reply,
                "finish_reason": "stop",
            }) + "\n"
            for query, reply in replies.items()
        ),
        "utf-8",
    )  # fmt: skip


def reply(*better: int) -> str:
    """Write a reply with a line of reason for each of four documents."""
    lines = [f"Doc ({number}): this says something, and something else" for number in range(1, 5)]
    listed = ", ".join(f"Doc ({number})" for number in better)
    verdict = f"<verdict>\n<better>[{listed}]</better>\n<worse>[]</worse>\n</verdict>"
    return "\n".join(["<thinking>", *lines, "</thinking>", verdict])


def test_a_small_sample_is_counted_and_its_figures_are_not_the_known_ones(tmp_path: Path) -> None:
    """Tables of both stages and the savings; what is known of the real sample is not met, and said."""
    for name in ("msmarco_passage", "fiqa"):
        first = {f"{name}-a": reply(2), f"{name}-b": reply()}
        judged(tmp_path / f"{name}.stage_1.gpt-4o-mini.jsonl", first, candidates=4)
        judged(tmp_path / f"{name}.stage_2.gpt-4o.jsonl", {f"{name}-a": reply(2)}, candidates=4)
    command = [sys.executable, str(SCRIPT), "--data", str(tmp_path), "--characters"]
    done = subprocess.run(command, capture_output=True, text=True, encoding="utf-8", check=False)
    assert (done.returncode, done.stderr) == (1, "")
    rows = {line[:38].strip(): line[38:].split() for line in done.stdout.splitlines() if len(line) > 38}
    assert rows["relevance, pair by pair"][:2] == ["16", "16"]
    assert rows["verdict, flagged pairs"][:2] == ["2", "2"]
    assert rows["verdict, then why of flagged pairs"][:2] == ["6", "16"]
    assert rows["RLHN's prompt, all queries: alone"][-1] == "1.00"
    assert float(rows["verdict, flagged pairs"][-1]) < float(rows["verdict, whole queries"][-1])
    assert rows["published, all"] == ["33%"]
    assert "≠ 36 queries with 730 pairs go up" in done.stdout
    assert "≠ RLHN's cascade saves 33 % in all" not in done.stdout
