"""A key goes to its server and nowhere else: no file, no message, no list of processes."""

import base64
import json
import os
import subprocess
import sys
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import pytest
from processes import Command
from rows import training_file
from server import FakeServer, Plan, oracle

from relabel import config
from relabel.engine_settings import OpenAI
from relabel.engines.embeddings import EndpointSettings
from relabel.engines.service import key_for
from relabel.errors import SettingsError

KEY = "sk-quite-secret-Zx91-0123456789"
TELLING = ("echo", "key", "forbidden")
"""Faults of the server whose messages hold the key."""


@pytest.fixture(autouse=True)
def key(monkeypatch: pytest.MonkeyPatch) -> None:
    """Give every test a key that can be searched for."""
    monkeypatch.setenv("MY_KEY", KEY)
    monkeypatch.delenv("OPENAI_BASE_URL", raising=False)


def forms() -> Iterator[bytes]:
    """Yield the ways in which a key may stand somewhere: as it is, and in base64 at each of three offsets."""
    yield KEY.encode()
    for before in (b"", b"Bearer ", b"x", b"xx"):
        encoded = base64.b64encode(before + KEY.encode())
        yield encoded[len(before) * 4 // 3 + 2 : -4]


def tells(content: bytes) -> bool:
    """Whether a content holds the key in any form."""
    return any(form in content for form in forms())


def telling_files(folder: Path) -> list[str]:
    """Name the files below a folder that hold the key."""
    return [str(path) for path in folder.rglob("*") if path.is_file() and tells(path.read_bytes())]


def talkative(messages: Sequence[Mapping[str, str]], body: dict[str, Any]) -> str:
    """Answer with the key in the rationale, as a server that repeats its headers would."""
    return f"<thinking>Doc (1): you sent {KEY}</thinking>\n{oracle(messages, body)}"


def configured(place: Path, url: str, **engine: Any) -> Path:
    """Write a cascade that asks this server."""
    path = place / "cascade.yaml"
    told = {"kind": "openai", "model": "fake", "base_url": url, "max_retries": 0, "concurrency": 4}
    stage = {"judge": "llm", "name": "cheap", "prompt": "rlhn", "engine": {"api_key_env": "MY_KEY", **told, **engine}}
    path.write_text(json.dumps({"stages": ["rules", stage]}), "utf-8")
    return path


def relabel(place: Path, *arguments: object, program: Sequence[str] = ("-m", "relabel")) -> tuple[int, bytes]:
    """Run a command; return its exit code and all that it said."""
    command = [sys.executable, *program, *map(str, arguments)]
    done = subprocess.run(command, capture_output=True, check=False, cwd=place, timeout=120)
    return done.returncode, done.stdout + done.stderr


@pytest.mark.slow
def test_no_artefact_holds_the_key(tmp_path: Path) -> None:
    """A server that repeats the key in errors and in answers puts it into no file and no message of any command."""
    assert tells(f"x{base64.b64encode(b'Authorization: Bearer ' + KEY.encode()).decode()}".encode())
    source = training_file(tmp_path / "train.jsonl", 12)
    with FakeServer(talkative, plan=Plan(0.3, ("echo",), seed=3)) as server:
        settings = configured(tmp_path, server.url)
        commands: list[list[object]] = [
            ["check", source, "-c", settings],
            ["run", source, "-c", settings, "-o", "run"],
            ["show", "run"], ["stats", "run", "--all"], ["apply", "run", "--policy", "drop"],
            ["audit", "export", "run", "-o", "pairs.csv", "--all"], ["report", "run"],
        ]  # fmt: skip
        for command in commands:
            code, said = relabel(tmp_path, *command)
            assert code == 0, said.decode()
            assert not tells(said), command
        assert server.total > 10
    assert any(b"you sent ***" in path.read_bytes() for path in (tmp_path / "run").iterdir() if path.is_file())
    assert telling_files(tmp_path) == []


@pytest.mark.slow
@pytest.mark.parametrize("kind", TELLING)
def test_an_error_does_not_say_the_key(tmp_path: Path, kind: str) -> None:
    """A server that refuses every request, and repeats the key as it does, ends the run without it."""
    source = training_file(tmp_path / "train.jsonl", 12)
    with FakeServer(plan=Plan(1.0, (kind,))) as server:
        code, said = relabel(tmp_path, "run", source, "-c", configured(tmp_path, server.url), "-o", "run")
    assert code == 3
    assert b"***" in said
    assert not tells(said)
    assert telling_files(tmp_path) == []


@pytest.mark.slow
def test_a_bug_of_ours_does_not_say_the_key(tmp_path: Path) -> None:
    """A traceback out of the innermost of the engine holds the code, and not what it worked on."""
    source = training_file(tmp_path / "train.jsonl", 4)
    broken = (
        "import relabel.engines.openai as engine\n"
        "def fail(*_, **__): raise ZeroDivisionError('a bug')\n"
        "engine.read_completion = fail\n"
        "from relabel.cli import main\nmain()"
    )
    with FakeServer() as server:
        settings = configured(tmp_path, server.url)
        code, said = relabel(tmp_path, "run", source, "-c", settings, "-o", "run", program=("-c", broken))
    assert code == 70
    assert b"Traceback" in said
    assert not tells(said)
    assert telling_files(tmp_path) == []


@pytest.mark.slow
def test_the_list_of_processes_does_not_say_the_key(tmp_path: Path) -> None:
    """What everybody on the machine can see of a run that is going on."""
    source = training_file(tmp_path / "train.jsonl", 12)
    with FakeServer(latency=0.3) as server:
        settings = configured(tmp_path, server.url)
        command = Command(["run", str(source), "-c", str(settings), "-o", "run", "-q"], cwd=tmp_path, environment={})
        while not server.total:
            assert command.process.poll() is None, command.stderr
        seen = Path(f"/proc/{command.process.pid}/cmdline").read_bytes()
        assert b"relabel" in seen
        assert not tells(seen)
        command.process.kill()
        command.wait()


# --- where a key may come from ---


def held(path: Path, content: bytes = KEY.encode() + b"\n", mode: int = 0o600) -> Path:
    """Write a file with a key."""
    path.write_bytes(content)
    path.chmod(mode)
    return path


def test_a_key_from_a_file(tmp_path: Path) -> None:
    """A file that its owner alone may read gives the key, for chat and for embeddings; its path is the config's."""
    path = held(tmp_path / "key")
    assert key_for(OpenAI(model="m", api_key_file=str(path))) == KEY
    assert key_for(EndpointSettings(model="m", api_key_file=str(path))) == KEY
    written = configured(tmp_path, "http://localhost/v1", api_key_env=None, api_key_file="key")
    (stage,) = config.load(written).stages[1:]
    assert isinstance(stage, config.LLM)
    assert isinstance(stage.engine, OpenAI)
    assert key_for(stage.engine) == KEY


@pytest.mark.skipif(os.name != "posix", reason="permissions of files are of POSIX")
@pytest.mark.parametrize("mode", [0o640, 0o604, 0o644, 0o666, 0o610])
def test_a_file_that_others_may_read(tmp_path: Path, mode: int) -> None:
    """Such a file is refused with the command that mends it, and without the key."""
    path = held(tmp_path / "the key", mode=mode)
    with pytest.raises(SettingsError, match=f"mode {mode:o}") as caught:
        key_for(OpenAI(model="m", api_key_file=str(path)))
    assert f"chmod 600 '{path}'" in str(caught.value)
    assert KEY not in str(caught.value)


@pytest.mark.parametrize(
    ("content", "words"),
    [
        (b"", "holds no key"),
        (b" \n", "holds no key"),
        (b"k" * 5000, "holds no key"),
        (b"sk-a\nsk-b\n", "no key: there are signs"),
        (b"sk-\xff\xfe", "no key: there are signs"),
        (b"sk-\0", "no key: there are signs"),
    ],
)
def test_a_file_without_a_key(tmp_path: Path, content: bytes, words: str) -> None:
    """What cannot be a key is refused as the file is read, and not repeated."""
    with pytest.raises(SettingsError, match=words) as caught:
        key_for(OpenAI(model="m", api_key_file=str(held(tmp_path / "key", content))))
    assert "sk-" not in str(caught.value)


def test_no_file_and_two_places(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A file that is missing, a key in two places, a key over two lines: each is told."""
    with pytest.raises(SettingsError, match="cannot be read"):
        key_for(OpenAI(model="m", api_key_file=str(tmp_path / "none")))
    with pytest.raises(SettingsError, match="keep one of them"):
        config.load(configured(tmp_path, "http://localhost/v1", api_key_file="key"))
    monkeypatch.setenv("MY_KEY", "sk-a\nInjected: header")
    with pytest.raises(SettingsError, match="MY_KEY holds is no key") as caught:
        key_for(OpenAI(model="m", api_key_env="MY_KEY"))
    assert "Injected" not in str(caught.value)


def test_a_key_in_the_config_is_not_repeated() -> None:
    """Somebody who writes the key itself into a config is told so, without the key."""
    for field in ("api_key", "base_url"):
        told = {"kind": "openai", "model": "m", field: f"http://user:{KEY}@host" if field == "base_url" else KEY}
        with pytest.raises(SettingsError) as caught:
            config.parse(json.dumps({"stages": [{"judge": "llm", "engine": told}]}))
        assert KEY not in str(caught.value)
