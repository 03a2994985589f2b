"""Whole runs by batches: left and come back to, killed at any moment, and nothing paid for twice."""

import json
import os
import random
import shlex
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from batch_server import BatchServer, Fate, at_random
from processes import Command
from rows import training_file
from server import FakeServer

from relabel import api, config, pipeline, sources
from relabel.errors import Detached, RunError, SettingsError
from relabel.pipeline import Summary
from relabel.records import chance
from relabel.screen import under_way

KEY = "sk-quite-secret-0123456789"
RESULTS = ("cleaned.jsonl", "flagged.csv", "changes.jsonl", "statistics.json")

pytestmark = pytest.mark.usefixtures("tidy")


@pytest.fixture(autouse=True)
def key(monkeypatch: pytest.MonkeyPatch) -> None:
    """Give every test a key that can be searched for."""
    monkeypatch.setenv("OPENAI_API_KEY", KEY)
    monkeypatch.delenv("OPENAI_BASE_URL", raising=False)


def cascade(url: str, *prompts: str, kind: str = "openai_batch", **settings: Any) -> config.Settings:
    """Return rules, then an LLM for each prompt, the later ones for what the first finds."""
    quick: dict[str, Any] = {"kind": kind, "model": "fake", "base_url": url, "api_key_env": "OPENAI_API_KEY"}
    quick |= {"poll_seconds": 0.05, "max_requests": 60, "max_retries": 8} if kind == "openai_batch" else {}
    stages: list[dict[str, Any]] = [{"judge": "rules"}]
    for number, prompt in enumerate(prompts):
        stage = {"judge": "llm", "name": f"llm{number}", "prompt": prompt, "engine": quick | settings}
        stages.append(stage | {"group_size": 4, "sample": 0.2, "escalate": "query"})
    return config.parse(json.dumps({"stages": stages}))


def run(source: Path, settings: config.Settings, folder: Path, **more: Any) -> Summary:
    """Run a cascade."""
    return pipeline.run(sources.open_source(source), settings, folder, **more)


def results(folder: Path) -> dict[str, bytes]:
    """Return what a finished run wrote."""
    return {name: (folder / name).read_bytes() for name in RESULTS}


def billed(server: BatchServer) -> set[int]:
    """Return how often contents were billed, whichever these are."""
    server.statuses()
    return set(server.billed.values())


def hasten(server: BatchServer, *numbers: int) -> None:
    """Have batches end now: those with these numbers, or all."""
    for batch in list(server.batches.values()):
        if not numbers or batch.number in numbers:
            batch.ends = 0.0


def write(settings: config.Settings, path: Path) -> Path:
    """Save a config."""
    path.write_text(settings.model_dump_json(), "utf-8")
    return path


def test_batches_and_single_requests_are_one(tmp_path: Path) -> None:
    """The results are those of single requests, and what one way has answered the other does not ask again."""
    source = training_file(tmp_path / "train.jsonl", 40)
    with FakeServer() as plain, BatchServer() as server:
        run(source, cascade(plain.url, "relevance", "rlhn", kind="openai"), tmp_path / "single")
        run(source, cascade(server.url, "relevance", "rlhn"), tmp_path / "batch")
        assert results(tmp_path / "batch") == results(tmp_path / "single")
        assert server.billed == plain.asked
        assert billed(server) == {1}
        plain.asked.clear()
        run(source, cascade(plain.url, "relevance", "rlhn", kind="openai"), tmp_path / "batch")
        assert plain.total == 0
        assert results(tmp_path / "batch") == results(tmp_path / "single")


def test_bad_batches(tmp_path: Path) -> None:
    """With batches and rows that go wrong in every way, the results are those of calm weather; rows are billed once."""
    source = training_file(tmp_path / "train.jsonl", 60)
    with BatchServer() as server:
        run(source, cascade(server.url, "relevance", "rlhn"), tmp_path / "calm")

    def row(content: str, attempt: int) -> str:
        spoilt = attempt == 1 and chance("spoilt", content) < 0.2
        return ("error", "rate limit", "lost")[int(chance("how", content) * 3)] if spoilt else ""

    with BatchServer(fate=at_random(5, 0.6), row=row) as server:
        done = run(source, cascade(server.url, "relevance", "rlhn", max_requests=25), tmp_path / "storm")
        ends = set(server.statuses())
        assert {"completed", "expired", "cancelled", "failed"} <= ends
        assert billed(server) == {1}
        told = json.loads((tmp_path / "storm" / "run.json").read_text("utf-8"))["spending"]["llm0"]
        batches = told["engine"]["batches"]
        assert {batch["status"] for batch in batches} <= ends
        assert sum(batch["completed"] for batch in batches) == told["asked"]
        assert told["engine"]["oddities"]
    assert results(tmp_path / "storm") == results(tmp_path / "calm")
    for stage in done.statistics["stages"]:
        assert stage["asked"] == stage["relevant"] + stage["partial"] + stage["irrelevant"] + sum(
            stage["none"].values()
        )


def test_leaving_and_coming_back(tmp_path: Path) -> None:
    """Each visit takes what has ended, and hands over what follows from it; two stages by batches take three visits."""
    source = training_file(tmp_path / "train.jsonl", 40)
    with BatchServer() as server:
        run(source, cascade(server.url, "relevance", "rlhn"), tmp_path / "waited")
        whole = len(server.billed)
    with BatchServer(seconds=60) as server:
        settings = cascade(server.url, "relevance", "rlhn")
        with pytest.raises(Detached, match=r"stage llm0: .* batches are under way") as left:
            run(source, settings, tmp_path / "left", detach=True)
        assert left.value.exit_code == 4
        first = len(server.batches)
        assert first > 2
        told = json.loads((tmp_path / "left" / "run.json").read_text("utf-8"))["spending"]["llm0"]["engine"]["batches"]
        assert [batch["id"] for batch in told] == list(server.batches)
        assert not (tmp_path / "left" / "manifest.json").exists()
        hasten(server, 0)
        with pytest.raises(Detached, match=r"stage llm0: .*; stage llm1: "):
            run(source, settings, tmp_path / "left", detach=True)
        assert len(server.batches) > first  # what the first batch settled is on its way in the second stage
        hasten(server)
        with pytest.raises(Detached, match=r"^stage llm1: "):
            run(source, settings, tmp_path / "left", detach=True)
        hasten(server)
        done = run(source, settings, tmp_path / "left", detach=True)
        assert len(server.billed) == whole
        assert billed(server) == {1}
        assert sum(stage["asked"] for stage in done.bill["stages"]) == whole
        assert {stage["possibly_billed"]["requests"] for stage in done.bill["stages"]} == {0}
    assert results(tmp_path / "left") == results(tmp_path / "waited")


def test_failures_do_not_keep_a_run_from_its_end(tmp_path: Path) -> None:
    """A row that is rejected stays so until the run has ended; a run after that asks it, and nothing else, again."""
    source = training_file(tmp_path / "train.jsonl", 30)
    with BatchServer(row=lambda content, _: "rejected" if content < "1" else "") as server:
        settings = cascade(server.url, "relevance", "rlhn")
        for _ in range(6):
            try:
                done = run(source, settings, tmp_path / "run", detach=True)
            except Detached:
                continue
            break
        rejected = {content for content in server.tried if content < "1"}
        assert rejected
        assert {server.tried[content] for content in rejected} == {1}
        assert sum(stage["none"].get("failed", 0) for stage in done.statistics["stages"]) >= len(rejected)
        server.row = lambda *_: ""
        run(source, settings, tmp_path / "run")
        assert {server.tried[content] for content in rejected} == {2}
        assert billed(server) == {1}


def test_a_store_that_was_deleted(tmp_path: Path) -> None:
    """What batches brought is still there: without the store, a run asks nobody."""
    source = training_file(tmp_path / "train.jsonl", 20)
    with BatchServer() as server:
        settings = cascade(server.url, "relevance")
        run(source, settings, tmp_path / "run")
        before, calls = results(tmp_path / "run"), dict(server.calls)
        for path in (tmp_path / "run").iterdir():
            if path.is_file():
                path.unlink()
        run(source, settings, tmp_path / "run")
        assert dict(server.calls) == calls
    assert results(tmp_path / "run") == before


def test_a_local_stage_after_one_that_is_left(tmp_path: Path) -> None:
    """A stage that asks at once judges what the finished batches send up, and ends; what it said is kept."""
    source = training_file(tmp_path / "train.jsonl", 30)
    with BatchServer(seconds=60) as server, FakeServer() as plain:
        mixed = cascade(server.url, "relevance", "rlhn").model_dump()
        single = cascade(plain.url, "relevance", "rlhn", kind="openai").model_dump()
        mixed["stages"][2]["engine"] = single["stages"][2]["engine"] | {"revision": "other"}
        settings = config.parse(json.dumps(mixed))
        with pytest.raises(Detached):
            run(source, settings, tmp_path / "run", detach=True)
        hasten(server, 0)
        with pytest.raises(Detached, match=r"^stage llm0: [^;]*$"):
            run(source, settings, tmp_path / "run", detach=True)
        early = plain.total
        assert early > 0
        hasten(server)
        run(source, settings, tmp_path / "run")
        assert plain.total > early
        assert set(plain.asked.values()) == {1}


def test_nothing_to_leave(tmp_path: Path) -> None:
    """Without a stage by batches --detach is a mistake; --resume begins nothing."""
    source = training_file(tmp_path / "train.jsonl", 5)
    with FakeServer() as plain:
        with pytest.raises(SettingsError, match="no stage asks by batches"):
            run(source, cascade(plain.url, "relevance", kind="openai"), tmp_path / "run", detach=True)
        with pytest.raises(RunError, match="holds no run to go on with"):
            api.run(source, cascade(plain.url, "relevance"), output=tmp_path / "none", resume=True)
    assert not (tmp_path / "none").exists()


def test_what_the_terminal_says() -> None:
    """While batches are under way, how many there are and how far; what has been taken in is no longer spoken of."""
    batch = {"requests": 1200, "completed": 1000, "failed": 34, "taken_in": False}
    ended = {"requests": 50, "completed": 50, "failed": 0, "taken_in": True}
    assert under_way({"batches": [batch, ended]}) == "  1 batch under way, 1,034/1,200 requests"
    assert under_way({"batches": [batch, batch]}) == "  2 batches under way, 2,068/2,400 requests"
    assert under_way({"batches": [ended]}) == under_way({}) == ""


def test_check_counts_the_files(tmp_path: Path) -> None:
    """What a stage would ask is said in batches too; a limit in tokens makes more of them, and nothing is asked."""
    source = training_file(tmp_path / "train.jsonl", 20, twins=False)
    with BatchServer() as server:
        few = api.check(source, cascade(server.url, "relevance")).stages[-1]
        many = api.check(source, cascade(server.url, "relevance", max_enqueued_tokens=500)).stages[-1]
        assert not server.calls
    assert few.files == -(-few.requests // 60)
    assert many.files == -(-many.tokens_in // 500) > few.files


# -- by the command line ---------------------------------------------------------------------------------------


def test_the_commands(tmp_path: Path) -> None:
    """--detach leaves with 4 and the command that comes back, which waits and ends with 0; the key is in no file."""
    source = training_file(tmp_path / "train.jsonl", 20)
    with BatchServer(seconds=60) as server:
        chosen = write(cascade(server.url, "relevance"), tmp_path / "cascade.yaml")
        words = ["run", str(source), "-c", str(chosen), "-o", str(tmp_path / "run")]
        none = Command([*words, "--resume"], cwd=tmp_path, environment={})
        assert none.wait() == 2
        assert "holds no run to go on with" in none.stderr
        left = Command([*words, "--detach"], cwd=tmp_path, environment={})
        assert left.wait() == 4
        assert shlex.join(["relabel", *words, "--resume"]) in left.stderr
        assert "batches are under way" in left.stderr
        assert "Traceback" not in left.stderr
        asked = server.calls["create"]
        hasten(server)
        back = Command([*words, "--resume"], cwd=tmp_path, environment={})
        assert (back.wait(), left.left(5), back.left(5)) == (0, [], [])
        assert server.calls["create"] == asked
        assert billed(server) == {1}
    for path in tmp_path.rglob("*"):
        assert not path.is_file() or KEY.encode() not in path.read_bytes(), path


def test_ctrl_c_while_waiting(tmp_path: Path) -> None:
    """Nobody waits for a batch that will take a day: the process ends at once, and the same command comes back."""
    source = training_file(tmp_path / "train.jsonl", 20)
    with BatchServer(seconds=600) as server:
        chosen = write(cascade(server.url, "relevance", poll_seconds=30), tmp_path / "cascade.yaml")
        words = ["run", str(source), "-c", str(chosen), "-o", str(tmp_path / "run")]
        waiting = Command(words, cwd=tmp_path, environment={})
        ends = time.monotonic() + 60
        while not server.calls["create"] and time.monotonic() < ends:
            time.sleep(0.02)
        time.sleep(0.5)
        begun = time.monotonic()
        waiting.process.send_signal(signal.SIGINT)
        assert waiting.wait() == 130
        assert time.monotonic() - begun < 8
        assert "Traceback" not in waiting.stderr
        hasten(server)
        run(source, cascade(server.url, "relevance"), tmp_path / "run")
        assert billed(server) == {1}


def test_ctrl_c_while_reasons_are_waited_for(tmp_path: Path) -> None:
    """The reasons for what was flagged may come by batches too, and nobody waits a day for them either."""
    source = training_file(tmp_path / "train.jsonl", 20)
    with BatchServer() as server:
        settings = cascade(server.url, "relevance", poll_seconds=0.5, max_requests=1000).model_dump()
        settings["stages"][1]["rationale"] = "flagged"
        chosen = write(config.parse(json.dumps(settings)), tmp_path / "cascade.yaml")
        words = ["run", str(source), "-c", str(chosen), "-o", str(tmp_path / "run")]
        waiting = Command(words, cwd=tmp_path, environment={})
        ends = time.monotonic() + 60
        while not server.batches and time.monotonic() < ends:
            time.sleep(0.005)
        judging = len(server.batches)
        server.seconds = 600
        while len(server.batches) == judging and time.monotonic() < ends:
            time.sleep(0.02)
        time.sleep(0.5)
        begun = time.monotonic()
        waiting.process.send_signal(signal.SIGINT)
        assert waiting.wait() == 130
        assert time.monotonic() - begun < 8
        assert "Traceback" not in waiting.stderr


class Killed:
    """`relabel run` in a process of its own, as often as it takes."""

    def __init__(self, source: Path, chosen: Path, folder: Path, *more: str) -> None:
        self._command = [sys.executable, "-m", "relabel", "run", str(source), "-c", str(chosen), "-o", str(folder)]
        self._command += ["-q", *more]

    def start(self) -> "subprocess.Popen[str]":
        """Start it, or start it again."""
        return subprocess.Popen(
            self._command, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE, text=True, env=dict(os.environ)
        )

    def kill_when(self, ripe: Callable[[], bool], delay: float) -> bool:
        """Start it and kill it some time after `ripe`; False if it came to its end before."""
        process = self.start()
        try:
            while process.poll() is None and not ripe():
                time.sleep(0.001)
            time.sleep(delay)
            alive = process.poll() is None
        finally:
            process.kill()
            _, errors = process.communicate()
        assert errors == ""
        return alive

    def finish(self) -> None:
        """Let it come to its end."""
        process = self.start()
        _, errors = process.communicate(timeout=300)
        assert (process.returncode, errors) == (0, "")


@pytest.mark.slow
def test_killed_at_random_moments(tmp_path: Path) -> None:
    """After 24 SIGKILLs and bad batches the bytes are those of an unbroken run, and every row was billed once."""
    source = training_file(tmp_path / "train.jsonl", 60)
    with BatchServer() as server:
        run(source, cascade(server.url, "relevance", "rlhn"), tmp_path / "unbroken")
        contents = dict(server.billed)

    def row(content: str, attempt: int) -> str:
        spoilt = attempt == 1 and chance("spoilt", content) < 0.1
        return ("error", "lost")[int(chance("how", content) * 2)] if spoilt else ""

    kills = int(os.environ.get("RELABEL_KILLS", "24"))
    dice = random.Random(6)
    with BatchServer(fate=at_random(3, 0.3), row=row, seconds=0.3, latency=0.01) as server:
        server.spoil("create", *[("", "late reset", "", "late error", "error")[number % 5] for number in range(500)])
        chosen = write(cascade(server.url, "relevance", "rlhn", max_requests=12), tmp_path / "cascade.yaml")
        killed = Killed(source, chosen, tmp_path / "killed")
        alive = 0
        for _ in range(kills):
            wanted = server.calls.total() + dice.randrange(1, 16)
            alive += killed.kill_when(lambda wanted=wanted: server.calls.total() >= wanted, dice.uniform(0, 0.05))  # type: ignore[misc]
        assert alive >= 20 * kills // 24
        killed.finish()
        server.statuses()
        assert server.billed == contents
    assert results(tmp_path / "killed") == results(tmp_path / "unbroken")


@pytest.mark.slow
def test_killed_at_every_step(tmp_path: Path) -> None:
    """A SIGKILL right after, or in, each kind of call: while it is on its way, or just answered and not yet noted."""
    source = training_file(tmp_path / "train.jsonl", 20)
    with BatchServer() as server:
        run(source, cascade(server.url, "relevance"), tmp_path / "unbroken")
    for call in ("upload", "create", "retrieve", "download"):
        for latency in (0.0, 0.15):
            with BatchServer(latency=latency) as server:
                folder = tmp_path / f"{call}{latency}"
                chosen = write(cascade(server.url, "relevance", max_requests=40), tmp_path / "cascade.yaml")
                killed = Killed(source, chosen, folder)
                for times in (1, 2):
                    before = server.calls[call]
                    killed.kill_when(lambda: server.calls[call] >= before + times, 0.0)  # noqa: B023 - called at once
                killed.finish()
                assert billed(server) == {1}
                assert results(folder) == results(tmp_path / "unbroken")


def test_fates_are_there() -> None:
    """The dice of the tests above give every kind of fate, and the same ones every time."""
    fates = [at_random(3, 0.3)(number) for number in range(200)]
    assert fates == [at_random(3, 0.3)(number) for number in range(200)]
    assert {fate.end for fate in fates} == {"completed", "expired", "cancelled", "failed"}
    assert 0.5 < fates.count(Fate()) / 200 < 0.9
