"""What befalls a run from outside: signals, disks, folders, clocks, files that change. Clear words, nothing lost."""

import json
import os
import resource
import shlex
import shutil
import signal
import sqlite3
import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

import pytest
from processes import Command
from rows import training_file
from server import FakeServer

from relabel.store_file import STORE

RESULTS = ("cleaned.jsonl", "flagged.csv", "changes.jsonl", "statistics.json")
CONCURRENCY = 4
CASCADE = """\
stages:
  - judge: rules
  - judge: llm
    name: cheap
    prompt: relevance
    sample: 0.2
    engine: {{kind: openai, model: fake, base_url: {url}, concurrency: 4, max_retries: 1}}
"""

pytestmark = [pytest.mark.slow, pytest.mark.timeout(240)]


@pytest.fixture
def server() -> Iterator[FakeServer]:
    """A server whose answers depend on the messages alone and take a while."""
    with FakeServer(latency=0.06) as server:
        yield server


class Run:
    """`relabel` on one input in processes of their own."""

    def __init__(self, tmp_path: Path, server: FakeServer, rows: int = 20) -> None:
        self.place, self.server = tmp_path, server
        self.source = training_file(tmp_path / "train.jsonl", rows)
        self.config = tmp_path / "cascade.yaml"
        self.config.write_text(CASCADE.format(url=server.url), "utf-8")

    def arguments(self, folder: Path) -> list[str]:
        """What one types to start or go on."""
        return ["run", str(self.source), "-c", str(self.config), "-q", "-o", str(folder)]

    def start(self, folder: Path, program: Sequence[str] = ("-m", "relabel")) -> Command:
        """Start it."""
        return Command(self.arguments(folder), cwd=self.place, environment={}, program=program)

    def started(self, folder: Path, program: Sequence[str] = ("-m", "relabel")) -> Command:
        """Start it and wait until a third of what an unbroken run asks is asked."""
        before = self.server.total
        command = self.start(folder, program)
        until(lambda: self.server.total > before + 20, command)
        return command

    def finish(self, folder: Path) -> dict[str, bytes]:
        """Let it come to its end; return what it wrote."""
        command = self.start(folder)
        assert (command.wait(), command.stderr) == (0, "")
        return results(folder)

    def unbroken(self) -> tuple[dict[str, bytes], int]:
        """Return what a run writes that nothing befalls, and how much it asks; the server forgets it."""
        found = self.finish(self.place / "unbroken")
        asked = len(self.server.asked)
        self.server.asked.clear()
        return found, asked


def results(folder: Path) -> dict[str, bytes]:
    """Read what a run wrote."""
    return {name: (folder / name).read_bytes() for name in RESULTS}


def until(ripe: Callable[[], bool], command: Command) -> None:
    """Wait until something has come about, or the process has ended."""
    while not ripe():
        assert command.process.poll() is None, command.stderr
        time.sleep(0.002)


def relabel(*arguments: object, **environment: str) -> "subprocess.CompletedProcess[str]":
    """Run a command to its end."""
    return subprocess.run(
        [sys.executable, "-m", "relabel", *map(str, arguments)], capture_output=True, text=True, check=False,
        env=os.environ | environment, timeout=120,
    )  # fmt: skip


def refused(done: "subprocess.CompletedProcess[str]", *words: str) -> None:
    """Check that a command ended with an error of the user's, in words and not in a traceback."""
    assert done.returncode == 2, done.stderr
    assert "Traceback" not in done.stderr
    for word in words:
        assert word in done.stderr


@contextmanager
def disk(place: Path, size: str) -> Iterator[Path]:
    """Mount a small disk, where this machine lets us."""
    place.mkdir()
    made = subprocess.run(
        ["mount", "-t", "tmpfs", "-o", f"size={size}", "none", place], capture_output=True, check=False
    )
    if made.returncode:
        pytest.skip(f"no disk can be mounted here: {made.stderr.decode(errors='replace').strip()}")
    try:
        yield place
    finally:
        subprocess.run(["umount", "-l", place], check=False)


def remount(place: Path, option: str) -> None:
    """Change a disk that `disk` has mounted."""
    subprocess.run(["mount", "-o", f"remount,{option}", place], check=True)


# --- signals ---


@pytest.mark.parametrize(("sent", "code"), [(signal.SIGTERM, 143), (signal.SIGHUP, 129)])
def test_stopped_from_outside(tmp_path: Path, server: FakeServer, sent: signal.Signals, code: int) -> None:
    """SIGTERM and a closed terminal end a run as Ctrl-C does: answers in flight kept, nothing asked again."""
    run = Run(tmp_path, server)
    unbroken, asked = run.unbroken()
    before = signal.signal(sent, signal.SIG_DFL)  # under nohup these tests would inherit and pass on "ignore"
    try:
        command = run.started(tmp_path / "run")
    finally:
        signal.signal(sent, before)
    command.process.send_signal(sent)
    assert command.wait(20) == code
    assert shlex.join(["relabel", *run.arguments(tmp_path / "run")]) in command.stderr
    assert "Traceback" not in command.stderr
    assert command.left() == []
    assert run.finish(tmp_path / "run") == unbroken
    assert server.total == asked


def test_terminated_twice(tmp_path: Path, server: FakeServer) -> None:
    """A second SIGTERM does not wait for answers."""
    run = Run(tmp_path, server)
    server.latency = 30
    command = run.start(tmp_path / "run")
    until(lambda: server.total > 0, command)
    command.process.send_signal(signal.SIGTERM)
    with pytest.raises(subprocess.TimeoutExpired):
        command.wait(1)
    command.process.send_signal(signal.SIGTERM)
    assert command.wait(5) == 143
    assert "Traceback" not in command.stderr


def test_a_hangup_that_is_ignored_ends_nothing(tmp_path: Path, server: FakeServer) -> None:
    """Under nohup a closed terminal is no reason to stop."""
    run = Run(tmp_path, server)
    ignoring = "import signal; signal.signal(signal.SIGHUP, signal.SIG_IGN); from relabel.cli import main; main()"
    command = run.started(tmp_path / "run", ("-c", ignoring))
    command.process.send_signal(signal.SIGHUP)
    assert (command.wait(), command.stderr) == (0, "")


def test_started_without_standard_streams(tmp_path: Path, server: FakeServer) -> None:
    """With stdin, stdout and stderr closed a run does its work, and no result takes their place."""
    run = Run(tmp_path, server, 5)
    unbroken, _ = run.unbroken()
    line = shlex.join([sys.executable, "-m", "relabel", *run.arguments(tmp_path / "run")])
    assert subprocess.run(["sh", "-c", f"{line} <&- >&- 2>&-"], check=False, timeout=120).returncode == 0
    assert results(tmp_path / "run") == unbroken


# --- disks and folders ---


def test_the_disk_is_full(tmp_path: Path, server: FakeServer) -> None:
    """A full disk is one message; with room again the same command goes on, and little is asked twice."""
    run = Run(tmp_path, server, 60)
    unbroken, asked = run.unbroken()
    with disk(tmp_path / "disk", "400k") as place:
        done = relabel(*run.arguments(place / "run"))
        refused(done, "full", "the same command")
        before = server.total
        assert before > 20
        remount(place, "size=50m")
        assert run.finish(place / "run") == unbroken
    assert len(server.asked) == asked
    assert server.total <= asked + 4 * CONCURRENCY


def test_a_file_may_not_grow(tmp_path: Path, server: FakeServer) -> None:
    """A limit on the size of files (a quota) ends a run with a message; without it the same command goes on."""
    run = Run(tmp_path, server, 60)
    unbroken, _ = run.unbroken()
    limited = 200_000

    def limit() -> None:
        resource.setrlimit(resource.RLIMIT_FSIZE, (limited, limited))

    done = subprocess.run(
        [sys.executable, "-m", "relabel", *run.arguments(tmp_path / "run")],
        capture_output=True, text=True, check=False, preexec_fn=limit, timeout=120,
    )  # fmt: skip
    refused(done, str(tmp_path / "run"))
    assert run.finish(tmp_path / "run") == unbroken


def test_a_folder_that_may_not_be_written(tmp_path: Path, server: FakeServer) -> None:
    """What only reads files says what it finds; what needs the store says that the folder must be writable."""
    run = Run(tmp_path, server, 5)
    with disk(tmp_path / "disk", "20m") as place:
        folder = place / "run"
        run.finish(folder)
        before = results(folder)
        remount(place, "ro")
        assert relabel("stats", folder).returncode == 0
        for command in (["show", folder], ["apply", folder], run.arguments(folder)):
            refused(relabel(*command), str(folder), "writable")
        refused(relabel(*run.arguments(place / "new")), str(place / "new"), "another run directory")
        assert results(folder) == before


def test_the_folder_is_deleted_while_it_runs(tmp_path: Path, server: FakeServer) -> None:
    """A run whose folder is gone says so, and does not pretend to have written anything."""
    run = Run(tmp_path, server)
    command = run.started(tmp_path / "run")
    shutil.rmtree(tmp_path / "run")
    assert command.wait(60) == 2
    assert str(tmp_path / "run") in command.stderr
    assert "Traceback" not in command.stderr
    assert not (tmp_path / "run" / "manifest.json").exists()


def test_a_damaged_store(tmp_path: Path, server: FakeServer) -> None:
    """A store that was cut off, or of which a part is gone, is named with what can be done."""
    run = Run(tmp_path, server)
    run.finish(tmp_path / "run")
    whole = (tmp_path / "run" / STORE).read_bytes()
    damaged = [whole[: len(whole) // 2], whole[:5000] + bytes(len(whole) - 5000), b"no database at all" * 500]
    for content in damaged:
        folder = shutil.copytree(tmp_path / "run", tmp_path / "damaged", dirs_exist_ok=True)
        (folder / STORE).write_bytes(content)
        for command in (["show", folder], ["apply", folder], run.arguments(folder)):
            refused(relabel(*command), str(folder / STORE), "bring it back from a copy")


# --- other versions, other times ---


def test_runs_of_other_versions(tmp_path: Path, server: FakeServer) -> None:
    """A store of another schema, or with other columns, is refused, and stays as it is."""
    run = Run(tmp_path, server, 5)
    run.finish(tmp_path / "run")
    changes = {
        "has schema 99": "PRAGMA user_version = 99",
        "other columns": "ALTER TABLE judgments DROP COLUMN asked_with",
        "has other columns": "ALTER TABLE replies ADD COLUMN dollars REAL",
    }
    for words, statement in changes.items():
        folder = shutil.copytree(tmp_path / "run", tmp_path / "other", dirs_exist_ok=True)
        with sqlite3.connect(folder / STORE) as connection:
            connection.execute(statement)
        connection.close()
        before = (folder / STORE).read_bytes()
        for command in (["show", folder], ["apply", folder], run.arguments(folder)):
            refused(relabel(*command), words, "relabel run INPUT -o FOLDER")
        assert (folder / STORE).read_bytes() == before
        assert "relabel" in relabel("stats", folder).stdout or (folder / "statistics.json").exists()


def test_a_manifest_of_the_first_version(tmp_path: Path, server: FakeServer) -> None:
    """What the first versions did not write is not missed; what they wrote otherwise is refused with what to type."""
    run = Run(tmp_path, server, 5)
    unbroken, _ = run.unbroken()
    folder = tmp_path / "run"
    run.finish(folder)
    manifest = json.loads((folder / "manifest.json").read_text("utf-8"))
    for name in ("shard",):
        del manifest["input"][name]
    for name in ("ray", "pool"):
        del manifest["settings"][name]
    for stage in manifest["settings"]["stages"]:
        del stage["settle"]
    del manifest["seed"], manifest["files"]
    (folder / "manifest.json").write_text(json.dumps(manifest), "utf-8")
    for command in ("stats", "show", "apply", "report"):
        done = relabel(command, folder)
        assert done.returncode == 0, done.stderr
    assert results(folder) == unbroken
    statistics = json.loads((folder / "statistics.json").read_text("utf-8"))
    del statistics["rows"]["scattered"]
    (folder / "statistics.json").write_text(json.dumps(statistics), "utf-8")
    refused(relabel("stats", folder), "is not what a run writes", f"relabel apply {folder}")


def test_a_clock_that_goes_back(tmp_path: Path, server: FakeServer) -> None:
    """A run that is killed and goes on a year earlier, with files from the future about it, ends as an unbroken one."""
    run = Run(tmp_path, server)
    unbroken, asked = run.unbroken()
    command = run.started(tmp_path / "run")
    command.process.kill()
    command.wait()
    before = server.total
    earlier = "import time; real = time.time; time.time = lambda: real() - 3e7; from relabel.cli import main; main()"
    for path in (tmp_path / "run").rglob("*"):
        os.utime(path, (time.time() + 3e7,) * 2)
    command = run.start(tmp_path / "run", ("-c", earlier))
    assert (command.wait(), command.stderr) == (0, "")
    assert results(tmp_path / "run") == unbroken
    assert server.total <= asked + 2 * CONCURRENCY
    assert before > 0
    told = json.loads((tmp_path / "run" / "run.json").read_text("utf-8"))
    assert told["seconds"] >= 0


def test_the_clock_goes_back_while_it_runs(tmp_path: Path, server: FakeServer) -> None:
    """A clock that is set back in the middle makes no duration negative."""
    run = Run(tmp_path, server, 5)
    jumps = (
        "import time; real, begun = time.time, time.monotonic();"
        "time.time = lambda: real() - (3600 if time.monotonic() - begun > 1.5 else 0);"
        "from relabel.cli import main; main()"
    )
    command = run.start(tmp_path / "run", ("-c", jumps))
    assert (command.wait(), command.stderr) == (0, "")
    assert json.loads((tmp_path / "run" / "run.json").read_text("utf-8"))["seconds"] >= 0


# --- the input changes ---


def test_the_input_changed_before_it_went_on(tmp_path: Path, server: FakeServer) -> None:
    """What was answered of an input that has changed since counts as far as it is the same; the rest is asked."""
    run = Run(tmp_path, server)
    command = run.started(tmp_path / "run")
    command.process.kill()
    command.wait()
    lines = run.source.read_text("utf-8").splitlines(keepends=True)
    run.source.write_text("".join(lines[3:]), "utf-8")
    went_on = run.finish(tmp_path / "run")
    assert max(server.asked.values()) <= 2
    server.asked.clear()
    assert run.finish(tmp_path / "fresh") == went_on
    refused(relabel("show", tmp_path / "run", "--input", training_file(tmp_path / "other.jsonl", 4)), "content differs")


def test_the_input_changes_while_it_is_read(tmp_path: Path, server: FakeServer) -> None:
    """Results of an input that is another at the end than at the beginning are refused: they would be of neither."""
    run = Run(tmp_path, server)
    command = run.started(tmp_path / "run")
    lines = run.source.read_text("utf-8").splitlines(keepends=True)
    run.source.write_text("".join(reversed(lines)), "utf-8")
    assert command.wait(60) == 2
    assert f"{run.source} has changed" in command.stderr
    assert not (tmp_path / "run" / "manifest.json").exists()
    again = run.finish(tmp_path / "run")
    assert again == run.finish(tmp_path / "fresh")


def test_the_input_disappears_while_it_is_read(tmp_path: Path, server: FakeServer) -> None:
    """An input that is gone before results are written is named."""
    run = Run(tmp_path, server)
    command = run.started(tmp_path / "run")
    run.source.rename(tmp_path / "moved.jsonl")
    assert command.wait(60) == 2
    assert str(run.source) in command.stderr
    assert "Traceback" not in command.stderr
