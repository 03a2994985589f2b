"""What the fuzzer once found stays mended, and some thousand changed inputs find nothing new."""

import base64
import json
import random
import subprocess
import sys
import time
from importlib.util import find_spec
from pathlib import Path

import pytest
from fuzzed import TARGETS, changed, seeds

HERE = Path(__file__).parent
STORED = [json.loads(line) for line in (HERE / "fuzz_corpus.jsonl").read_text("utf-8").splitlines()]
SECONDS = 2.0


@pytest.mark.parametrize("row", STORED, ids=lambda row: f"{row['target']}: {row['why']}")
def test_what_was_found_stays_mended(row: dict[str, str]) -> None:
    """Inputs that broke a property once break none."""
    TARGETS[row["target"]](base64.b64decode(row["input"]))


@pytest.mark.parametrize("target", TARGETS)
def test_changed_inputs_break_nothing(target: str) -> None:
    """The seeds, and what two seconds of chance make of them, keep every property."""
    known, dice = list(seeds(target)), random.Random(target)
    for data in known:
        TARGETS[target](data)
    end = time.monotonic() + SECONDS
    while time.monotonic() < end:
        data = changed(known, dice)
        try:
            TARGETS[target](data)
        except Exception as error:
            raise AssertionError(f"add to fuzz_corpus.jsonl: {base64.b64encode(data).decode()}") from error


def test_the_fuzzer_says_what_it_needs() -> None:
    """Without atheris the script is one line and exits with 2."""
    if find_spec("atheris") is not None:
        pytest.skip("atheris is installed")
    done = subprocess.run(
        [sys.executable, str(HERE / "fuzz.py"), "replies"], capture_output=True, text=True, check=False
    )
    assert (done.returncode, done.stdout) == (2, "")
    assert done.stderr == "atheris is not installed; see --help\n"
