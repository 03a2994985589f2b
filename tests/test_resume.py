"""A run that is killed and started again ends as one that never was; only what was in flight is paid for twice."""

import json
import os
import random
import shlex
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from rows import training_file
from server import FakeServer, Plan

from relabel.judges.vectors import WINDOW
from relabel.store import COMMIT_SECONDS

RESULTS = ("cleaned.jsonl", "flagged.csv", "changes.jsonl", "statistics.json")
CONCURRENCY = 6
LATENCY = 0.06
DIMENSIONS = 384
ASKED_TWICE_PER_KILL = 2 * 2 * CONCURRENCY
"""What one kill may cost. Each of the two LLM stages has CONCURRENCY connections; each of these loses the request in
flight, and the answers of the last COMMIT_SECONDS, which is one at the most since an answer takes LATENCY."""

CASCADE = """\
stages:
  - judge: rules
  - judge: llm
    name: cheap
    prompt: relevance
    escalate: query
    sample: 0.2
    engine: &engine
      kind: openai
      model: fake
      base_url: {url}
      concurrency: {concurrency}
  - judge: llm
    name: strong
    prompt: rlhn
    sample: 0.5
    escalate: query
    group_size: 4
    engine: *engine
"""
CASCADE_WITH_EMBEDDING = """\
stages:
  - judge: rules
  - judge: embedding
  - judge: llm
    engine:
      kind: openai
      model: fake
      base_url: {url}
      concurrency: {concurrency}
"""


@pytest.fixture
def server() -> Iterator[FakeServer]:
    """A server whose answers depend on the messages alone and take a while."""
    assert LATENCY > COMMIT_SECONDS
    with FakeServer(latency=LATENCY) as server:
        yield server


class Run:
    """`relabel run` in a process of its own, as often as it takes."""

    def __init__(self, source: Path, config: str, server: FakeServer, folder: Path) -> None:
        self.source, self.folder = source, folder
        self.config = folder.with_suffix(".yaml")
        self.config.write_text(config.format(url=server.url, concurrency=CONCURRENCY), "utf-8")

    @property
    def arguments(self) -> list[str]:
        """What one types after `relabel`."""
        return ["run", str(self.source), "-c", str(self.config), "-q", "-o", str(self.folder)]

    def start(self) -> "subprocess.Popen[str]":
        """Start it, or start it again."""
        return subprocess.Popen(
            [sys.executable, "-m", "relabel", *self.arguments],
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
            start_new_session=True,
            env=os.environ | {"OPENAI_API_KEY": "sk-test"},
        )

    def finish(self) -> dict[str, bytes]:
        """Let it come to its end; return what it wrote."""
        process = self.start()
        _, errors = process.communicate(timeout=120)
        assert (process.returncode, complaints(errors)) == (0, [])
        return {name: (self.folder / name).read_bytes() for name in RESULTS}

    def kill_when(self, ripe: Callable[[], bool], delay: float = 0.0) -> bool:
        """Start it and kill it some time after `ripe`; False if it came to its end before."""
        process = self.start()
        try:
            wait(process, ripe)
            time.sleep(delay)
            alive = process.poll() is None
        finally:
            process.kill()
            _, errors = process.communicate()
        assert complaints(errors) == []
        return alive


def wait(process: "subprocess.Popen[str]", ripe: Callable[[], bool]) -> None:
    """Wait until something has come about, or the process has ended."""
    while process.poll() is None and not ripe():
        time.sleep(0.001)


def complaints(errors: str) -> list[str]:
    """Return the lines that a process wrote to stderr, without the bar with which transformers loads a model."""
    return [line for line in errors.splitlines() if line.strip() and "Loading weights" not in line]


def finished_files(folder: Path) -> list[str]:
    """Name the results that stand under their own names."""
    return sorted(name for name in (*RESULTS, "manifest.json") if (folder / name).exists())


@pytest.mark.slow
def test_killed_at_random_moments(tmp_path: Path, server: FakeServer) -> None:
    """After seven SIGKILLs, the bytes are those of an unbroken run, and only what was in flight was asked twice."""
    source = training_file(tmp_path / "train.jsonl", 120)
    unbroken = Run(source, CASCADE, server, tmp_path / "unbroken").finish()
    contents = dict(server.asked)
    assert len(contents) > 600
    assert set(contents.values()) == {1}  # rows that stand twice are asked once
    server.asked.clear()

    dice = random.Random(8)
    run = Run(source, CASCADE, server, tmp_path / "killed")
    moments = [0.0, *sorted(dice.uniform(0.0, 0.95) for _ in range(5))]
    for moment in moments:
        wanted = max(server.total + 1, int(moment * len(contents)))
        assert run.kill_when(lambda wanted=wanted: server.total >= wanted, dice.uniform(0, 0.1))  # type: ignore[misc]
        assert finished_files(run.folder) == []
    while_writing = run.folder / "changes.jsonl.tmp"
    for _ in range(20):  # the file is there for a few milliseconds, and we may look between two of them
        killed = run.kill_when(while_writing.exists)
        if killed:
            break
        (run.folder / "manifest.json").unlink()
    assert killed
    assert "manifest.json" not in finished_files(run.folder)
    assert run.finish() == unbroken

    kills = len(moments)  # the one while writing found every request answered
    assert server.asked.keys() == contents.keys()
    assert max(server.asked.values()) <= 1 + kills
    assert server.total <= len(contents) + kills * ASKED_TWICE_PER_KILL
    assert not list(run.folder.glob("*.tmp"))

    server.asked.clear()
    assert run.finish() == unbroken
    assert server.total == 0


@pytest.mark.slow
def test_killed_before_anything_is_asked(tmp_path: Path, server: FakeServer) -> None:
    """Kills while the process starts, reads the input and opens its store leave nothing that stops the next one."""
    source = training_file(tmp_path / "train.jsonl", 40)
    unbroken = Run(source, CASCADE, server, tmp_path / "unbroken").finish()
    asked = server.total
    run = Run(source, CASCADE, server, tmp_path / "killed")
    marks = ["", "run.lock", "judgments.sqlite", "judgments.sqlite-wal", "cache/rules/positives.sqlite"]
    for mark in marks:
        assert run.kill_when((run.folder / mark).exists)
    assert run.finish() == unbroken
    assert server.total <= 2 * asked + len(marks) * ASKED_TWICE_PER_KILL


@pytest.mark.slow
@pytest.mark.embedding
def test_killed_while_embedding(tmp_path: Path, server: FakeServer) -> None:
    """Kills before, within and after windows of embeddings change no byte: windows depend on the input alone."""
    source = training_file(tmp_path / "train.jsonl", 80)  # some 650 texts, so one window of 512 and a part of one
    unbroken = Run(source, CASCADE_WITH_EMBEDDING, server, tmp_path / "unbroken").finish()
    contents = len(server.asked)
    server.asked.clear()
    run = Run(source, CASCADE_WITH_EMBEDDING, server, tmp_path / "killed")

    def vectors() -> int:
        return sum(file.stat().st_size for file in run.folder.glob("cache/**/vectors-*.f16"))

    window = WINDOW * DIMENSIONS * 2
    begun = (run.folder / "cache" / "rules" / "positives.sqlite").exists
    assert run.kill_when(begun, random.Random(3).uniform(0.5, 2))
    assert run.kill_when(lambda: vectors() > 0)  # the first window is written, and perhaps not yet committed
    assert 0 < vectors() <= window
    (torn,) = run.folder.glob("cache/**/vectors-*.f16")
    with torn.open("ab") as file:
        file.write(b"half a vector")  # as if the kill had come in the middle of writing
    assert run.kill_when(lambda: vectors() > window + DIMENSIONS * 2)
    assert run.finish() == unbroken
    assert server.total <= contents + ASKED_TWICE_PER_KILL


@pytest.mark.slow
def test_interrupted(tmp_path: Path, server: FakeServer) -> None:
    """Ctrl-C ends with 130 and the command that resumes; what was in flight is waited for, and nothing asked again."""
    source = training_file(tmp_path / "train.jsonl", 60)
    unbroken = Run(source, CASCADE, server, tmp_path / "unbroken").finish()
    contents = len(server.asked)
    server.asked.clear()

    run = Run(source, CASCADE, server, tmp_path / "interrupted")
    process = run.start()
    wait(process, lambda: server.total > contents // 3)
    os.killpg(process.pid, signal.SIGINT)  # as a terminal does: the whole group
    begun = time.monotonic()
    _, errors = process.communicate(timeout=60)
    assert time.monotonic() - begun < 10
    assert process.returncode == 130
    assert "Traceback" not in errors
    assert shlex.join(["relabel", *run.arguments]) in errors
    with pytest.raises(ProcessLookupError):
        os.killpg(process.pid, 0)  # nobody of the group is left

    assert run.finish() == unbroken
    assert server.total == contents


@pytest.mark.slow
def test_interrupted_twice(tmp_path: Path, server: FakeServer) -> None:
    """A second Ctrl-C does not wait for a server that says nothing."""
    source = training_file(tmp_path / "train.jsonl", 20)
    server.plan = Plan(1.0, ("hang",))
    run = Run(source, CASCADE, server, tmp_path / "interrupted")
    process = run.start()
    wait(process, lambda: server.total > 0)
    process.send_signal(signal.SIGINT)
    with pytest.raises(subprocess.TimeoutExpired):
        process.communicate(timeout=1)
    process.send_signal(signal.SIGINT)
    _, errors = process.communicate(timeout=5)
    assert process.returncode == 130
    assert shlex.join(["relabel", *run.arguments]) in errors
    assert "Traceback" not in errors


def test_two_at_once(tmp_path: Path, server: FakeServer) -> None:
    """A second process in the same directory is told so, and neither does harm to the other."""
    source = training_file(tmp_path / "train.jsonl", 30)
    run = Run(source, CASCADE, server, tmp_path / "run")
    first = run.start()
    wait(first, lambda: server.total > 0)
    second = run.start()
    _, errors = second.communicate(timeout=60)
    assert second.returncode == 2
    assert "in use by another relabel process" in errors
    _, errors = first.communicate(timeout=60)
    assert (first.returncode, errors) == (0, "")
    assert set(server.asked.values()) == {1}
    manifest = json.loads((run.folder / "manifest.json").read_text("utf-8"))
    assert [stage["name"] for stage in manifest["stages"]] == ["rules", "cheap", "strong"]
