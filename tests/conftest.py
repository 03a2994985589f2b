"""What several test modules need: a file of rows, and a look at the threads that are left."""

import json
import subprocess
import sys
import threading
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any

import pytest

Save = Callable[..., Path]


@pytest.fixture
def save(tmp_path: Path) -> Save:
    """Return what writes rows as JSON lines; a text among them is written as it is."""

    def write(*rows: Mapping[str, Any] | str, name: str = "train.jsonl") -> Path:
        lines = [row if isinstance(row, str) else json.dumps(row) for row in rows]
        path = tmp_path / name
        path.write_text("".join(f"{line}\n" for line in lines), encoding="utf-8")
        return path

    return write


@pytest.fixture(scope="session")
def models(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Return a folder with `tiny` (random) and `smol` (SmolLM2-135M-Instruct), as vLLM loads them."""
    folder = tmp_path_factory.mktemp("models")
    script = Path(__file__).parent.parent / "benchmarks" / "small_models.py"
    subprocess.run([sys.executable, str(script), str(folder)], check=True)
    return folder


@pytest.fixture
def tidy() -> Iterator[None]:
    """Fail a test that leaves a thread of ours behind."""
    yield
    assert [thread.name for thread in threading.enumerate() if thread.name.startswith("relabel-")] == []
