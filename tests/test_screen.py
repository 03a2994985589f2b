"""What people see: whatever stands in their data, however wide and however old their terminal is."""

import io
import json
import os
import re
import signal
import subprocess
import sys
import threading
import time
from dataclasses import replace
from pathlib import Path

import pytest
from rich.console import Console
from server import FakeServer, Plan

from relabel.errors import InputError, RelabelError, RunError
from relabel.formats import get_format, open_writer, read_examples
from relabel.rundir import replacing, write_json
from relabel.screen import Bars, printable
from relabel.sources import Survey

ROOT = Path(__file__).parents[1]
SAMPLE = ROOT / "data" / "sample.jsonl"
SIMULATED = ROOT / "data" / "cascade.simulated.yaml"
EVIL = "[/b]:bomb:[red]\x1b]0;owned\x07\x9b2J\r\u202e"
SHOWN = r"[/b]:bomb:[red]\x1b]0;owned\x07\x9b2J\r\u202e"
ACTED_ON = re.compile("[\x00-\x08\x0b-\x1f\x7f-\x9f\u202a-\u202e\u2066-\u2069]")
FULL = pytest.mark.skipif(not Path("/dev/full").exists(), reason="there is no disk that is always full")


def python(*arguments: object, cwd: Path, **variables: str) -> "subprocess.CompletedProcess[str]":
    """Run Python without a terminal; the columns are given, or 200."""
    return subprocess.run(
        [sys.executable, *map(str, arguments)],
        capture_output=True,
        check=False,
        cwd=cwd,
        encoding="utf-8",
        errors="replace",
        env={**os.environ, "COLUMNS": "200", "PYTHONPATH": str(ROOT), **variables},
        timeout=120,
    )


def relabel(*arguments: object, cwd: Path, **variables: str) -> "subprocess.CompletedProcess[str]":
    """Type a command."""
    return python("-m", "relabel", *arguments, cwd=cwd, **variables)


@pytest.fixture(scope="module")
def hostile(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with a file, a config and a run in all of whose names and texts there is something to trip over."""
    folder = tmp_path_factory.mktemp("hostile")
    for name in ("in[", "c[", "out["):
        (folder / name).mkdir()  # so that [/b] can stand in a path
    rows = []
    for number in range(4):
        good = {"docid": f"p{EVIL}", "title": f"title{EVIL}", "text": f"positive {number}{EVIL}"}
        bad = [
            {**good, "docid": f"n{number}{EVIL}"},
            {"docid": f"m{number}{EVIL}", "title": "", "text": f"other {number}{EVIL}"},
        ]
        row = {"query_id": f"q{number}{EVIL}", "query": f"query {number}{EVIL}", "source": f"source{number % 2}{EVIL}"}
        rows.append(row | {"positive_passages": [good], "negative_passages": bad})
    (folder / "in[/b].jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows), "utf-8")
    (folder / "c[" / "none.jsonl").write_text("", "utf-8")
    engine = {"kind": "scripted", "replies": "none.jsonl"}
    stages: list[dict[str, object]] = [
        {"name": "uno", "judge": "rules", "sample": 1.0},
        {"name": "dos", "judge": "rules", "sample": 1.0},
        {"name": "llm", "judge": "llm", "prompt": "rlhn", "engine": engine},
    ]
    (folder / "c[/b].yaml").write_text(json.dumps({"stages": stages}), "utf-8")
    done = relabel("run", "in[/b].jsonl", "-c", "c[/b].yaml", "-o", "run[/b]", cwd=folder)
    assert (done.returncode, done.stderr.count("Traceback")) == (0, 0), done.stderr
    (folder / "c[" / "b].other.yaml").write_text(json.dumps({"stages": stages[2:]}), "utf-8")
    assert relabel("run", "in[/b].jsonl", "-c", "c[/b].other.yaml", "-o", "other[/b]", cwd=folder).returncode == 0
    figures = (folder / "run[" / "b]" / "statistics.json").read_text("utf-8")
    (folder / "stats[" / "b]").mkdir(parents=True)
    for name in ("uno", "dos"):  # no config can name a stage so, but a file from elsewhere can
        figures = figures.replace(name, json.dumps(name + EVIL)[1:-1])
    (folder / "stats[" / "b]" / "statistics.json").write_text(figures, "utf-8")
    return folder


@pytest.mark.parametrize(
    ("arguments", "code", "shown"),
    [
        (("run", "in[/b].jsonl", "-c", "c[/b].yaml", "-o", "run[/b]"), 0, f"candidate n0{SHOWN}"),
        (("show", "run[/b]"), 0, f"source0{SHOWN}"),
        (("show", "run[/b]", f"q1{EVIL}"), 0, f"query 1{SHOWN}"),
        (("stats", "run[/b]"), 0, f"source0{SHOWN}"),
        (("stats", "stats[/b]", "--all"), 0, f"Agreement of uno{SHOWN} and dos{SHOWN}"),
        (("stats", "stats[/b]", "--all"), 0, f"uno{SHOWN} and dos{SHOWN}, by source"),
        (("check", "in[/b].jsonl", "-c", "c[/b].yaml"), 0, "positive 0[/b]:bomb:[red]]0;owned2J"),
        (("show", "run[/b]", "--against", "other[/b]"), 0, f"n0{SHOWN}"),
        (("show", "run[/b]", "--against", "other[/b]"), 0, "before  other[/b]\nafter   run[/b]\n"),
        (("prompts", "render", "rlhn", "in[/b].jsonl"), 0, "query 0[/b]:bomb:[red]]0;owned2J"),
        (("convert", "in[/b].jsonl", f"out{EVIL}.jsonl", "--to", "bge"), 0, f"out{SHOWN}.jsonl"),
        (("audit", "export", "run[/b]", "-o", f"out{EVIL}.csv"), 0, f"out{SHOWN}.csv"),
        (("show", "run[/b]", f"nothing{EVIL}\x1b[2J"), 2, r"\x1b[2J"),
        (("run", f"nowhere\x9b2J{EVIL}"), 2, r"nowhere\x9b2J"),
    ],
)
def test_data_is_shown_and_never_obeyed(hostile: Path, arguments: tuple[str, ...], code: int, shown: str) -> None:
    """Neither rich's markup nor a terminal's control characters in ids, names, texts and paths do anything."""
    done = relabel(*arguments, cwd=hostile, COLUMNS="2000")
    said = done.stdout + done.stderr
    assert (done.returncode, "Traceback" in said) == (code, False), said
    assert ACTED_ON.search(said) is None
    assert re.sub(r"\s+", " ", shown) in re.sub(r"\s+", " ", said)


def test_bars_show_stage_names_as_they_are() -> None:
    """The name of a stage is no markup and no command to the terminal, in the bars too, which real terminals get."""
    file = io.StringIO()
    with Bars(Console(file=file, force_terminal=True, width=200)) as bars:  # a console that knows markup
        bars.begin(Survey(1, 0, 2, {}, ""), [])
        bars.watch(f"stage{EVIL}\n", 2, 2)
    assert f"stage{SHOWN}" in file.getvalue()
    assert "\x1b]0;" not in file.getvalue()
    assert "\x9b" not in file.getvalue()


def test_printable_leaves_text_alone() -> None:
    """Text of any language, lines and tabs stay; half of a surrogate pair is spelled out, as no encoding holds it."""
    text = "für 日本語 עברית 👍🏽\n\tκ"
    assert printable(text) == text
    assert printable("a\r\nb\ud83d\x85") == "a\nb\\ud83d\\x85"


@pytest.mark.parametrize("encoding", ["ascii:strict", "cp1252:strict"])
def test_a_terminal_that_lacks_letters(tmp_path: Path, encoding: str) -> None:
    """What stdout or stderr cannot encode becomes a question mark; it ends no run that is done and paid for."""
    variables = {"PYTHONIOENCODING": encoding, "PYTHONUTF8": "0"}
    done = relabel("run", SAMPLE, "-c", SIMULATED, "-o", "run", cwd=tmp_path, **variables)
    assert (done.returncode, "Error" in done.stderr) == (0, False), done.stderr
    done = relabel("stats", "run", cwd=tmp_path, **variables)
    assert (done.returncode, "? is Cohen's" in done.stdout) == (0, True)
    done = relabel("show", "日本語", cwd=tmp_path, **variables)
    assert (done.returncode, "Traceback" in done.stderr) == (2, False)


def test_a_template_goes_into_a_file_as_it_is(tmp_path: Path) -> None:
    """`prompts show` into a file gives the template's own bytes, whatever the terminal's encoding is."""
    mine = tmp_path / "mine.md"
    mine.write_bytes(relabel("prompts", "show", "rlhn", cwd=tmp_path).stdout.encode() + "日本語\n".encode())
    shown = relabel("prompts", "show", mine, cwd=tmp_path, PYTHONIOENCODING="ascii")
    assert shown.stdout.encode() == mine.read_bytes()


BREAK = """
import sys
import relabel.api
from relabel.cli import main
def broken(*_: object) -> None:
    raise {error}
relabel.api.stats = broken
sys.argv = ["relabel", "stats", "run"]
main()
"""


@pytest.mark.parametrize(
    ("error", "code", "said"),
    [
        ("ValueError('a\\x1bb')", 70, "ValueError: a\\x1bb\nrelabel: this is a bug, please report it\n"),
        ("PermissionError(13, 'Permission denied', 'x.csv')", 2, "relabel: [Errno 13] Permission denied: 'x.csv'"),
        ("OSError(28, 'No space left on device')", 2, "relabel: [Errno 28] No space left on device"),
        ("OSError('no file')", 70, "OSError: no file"),
    ],
)
def test_what_nobody_expected(tmp_path: Path, error: str, code: int, said: str) -> None:
    """A bug keeps its traceback and exits with 70, as 1 means undecided; what a disk refuses is one message."""
    done = python("-c", BREAK.format(error=error), cwd=tmp_path)
    assert done.returncode == code
    assert said in done.stderr
    assert ("Traceback" in done.stderr) == (code == 70)


@pytest.mark.parametrize("arguments", [("prompts", "show", "rlhn"), ("check", SAMPLE, "-c", SIMULATED)])
def test_nobody_reads_on(tmp_path: Path, arguments: tuple[object, ...]) -> None:
    """Output into a pipe that is closed is no bug and not "undecided"; it ends as the shell expects, and silently."""
    reader, writer = os.pipe()
    os.close(reader)
    done = subprocess.run(
        [sys.executable, "-m", "relabel", *map(str, arguments)],
        stdout=writer, stderr=subprocess.PIPE, check=False, cwd=tmp_path, env=os.environ | {"PYTHONPATH": str(ROOT)},
    )  # fmt: skip
    os.close(writer)
    assert (done.returncode, done.stderr) == (141, b"")


def test_a_result_that_another_program_holds(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Where a file cannot be replaced, as on Windows while Excel has it open, one message says what to do."""

    def refused(self: Path, target: Path) -> Path:
        raise PermissionError(13, "Permission denied", str(self), None, str(target))

    monkeypatch.setattr(Path, "replace", refused)
    with (
        pytest.raises(RunError, match=r"changes.jsonl cannot be written: Permission denied") as ours,
        replacing(tmp_path / "changes.jsonl") as file,
    ):
        file.write("{}\n")
    assert "close the file if a program has it open, then: relabel apply" in ours.value.hint
    with (
        pytest.raises(InputError, match=r"cleaned.jsonl: cannot be written: Permission denied") as theirs,
        open_writer(tmp_path / "cleaned.jsonl", get_format("tevatron")),
    ):
        pass
    assert "Close the file if a program has it open" in theirs.value.hint
    assert list(tmp_path.iterdir()) == []


@FULL
@pytest.mark.parametrize("size", [10, 100_000])
def test_a_full_disk(tmp_path: Path, size: int) -> None:
    """A disk that fills up while a result is written, or when it is closed, is one message for each kind of file."""
    example = next(iter(read_examples(SAMPLE)))
    example = replace(example, query=example.query + "x" * size)
    for name in ("run.json", "changes.jsonl", "cleaned.jsonl", "cleaned.jsonl.gz"):
        (tmp_path / f"{name}.tmp").symlink_to("/dev/full")
    with pytest.raises(RunError, match=r"run.json cannot be written: No space left on device"):
        write_json(tmp_path / "run.json", {"long": "x" * size})
    with (
        pytest.raises(RunError, match=r"changes.jsonl cannot be written: No space left on device"),
        replacing(tmp_path / "changes.jsonl") as file,
    ):
        file.write("x" * size)
    for name in ("cleaned.jsonl", "cleaned.jsonl.gz"):
        with (
            pytest.raises(InputError, match=rf"{name}: cannot be written: No space left on device"),
            open_writer(tmp_path / name, get_format("tevatron")) as writer,
        ):
            writer.write(example)
    assert list(tmp_path.iterdir()) == []


def test_an_error_while_writing_is_not_blamed_on_the_file(tmp_path: Path) -> None:
    """What fails between two lines of a result, such as reading the input, is not taken for a failure to write."""
    with pytest.raises(FileNotFoundError), replacing(tmp_path / "changes.jsonl"):
        (tmp_path / "input.jsonl").open()
    with pytest.raises(FileNotFoundError), open_writer(tmp_path / "cleaned.jsonl", get_format("tevatron")):
        (tmp_path / "input.jsonl").open()
    with pytest.raises(RelabelError, match=r"cannot be written"):
        write_json(tmp_path / "no such folder" / "run.json", {})


@pytest.mark.parametrize("columns", ["80", "120"])
def test_narrow_terminals(tmp_path: Path, columns: str) -> None:
    """Paths are never folded, lines that must add up are one line each, and every reason is a line of its column."""
    folder = tmp_path / "a-folder-with-a-rather-long-name" / "and-another-in-it" / "that-holds-the-run"
    done = relabel("run", SAMPLE, "-c", SIMULATED, "-o", folder, cwd=tmp_path, COLUMNS=columns)
    lines = [line.rstrip() for line in done.stdout.splitlines()]
    for name in ("cleaned.jsonl", "flagged.csv", "changes.jsonl", "statistics.json"):
        assert any(line.startswith(f"{folder / name}  ") for line in lines)
    assert f"next: relabel show {folder} · relabel stats {folder}" in lines
    assert any(line.startswith("verdicts  892 pairs = ") and line.endswith(" void") for line in lines)
    for reason in ("1 empty", "4 repeated", "7 cut off", "6 refused", "7 unreadable"):
        assert any(line.endswith(f" {reason}") for line in lines)
    done = relabel("show", folder, "--against", folder, cwd=tmp_path, COLUMNS=columns)
    assert done.stdout.startswith(f"before  {folder}\nafter   {folder}\n")


CASCADE = """\
stages:
  - judge: llm
    engine: {{kind: openai, model: fake, base_url: "{url}"}}
"""


@pytest.mark.parametrize("quiet", [True, False])
def test_ctrl_c_is_answered_at_once(tmp_path: Path, quiet: bool) -> None:
    """The first Ctrl-C says what is waited for, with bars and without; the second leaves."""
    with FakeServer() as server:
        server.plan = Plan(1.0, ("hang",))
        config = tmp_path / "c.yaml"
        config.write_text(CASCADE.format(url=server.url), "utf-8")
        process = subprocess.Popen(
            [sys.executable, "-m", "relabel", "run", SAMPLE, "-c", config, "-o", tmp_path / "run", *["-q"] * quiet],
            stdout=subprocess.DEVNULL, stderr=subprocess.PIPE, text=True,
            env=os.environ | {"OPENAI_API_KEY": "sk-test", "PYTHONPATH": str(ROOT)},
        )  # fmt: skip
        while process.poll() is None and not server.total:
            time.sleep(0.01)
        assert process.stderr is not None
        impatience = threading.Timer(5, process.kill)
        impatience.start()
        process.send_signal(signal.SIGINT)
        line = next((line for line in process.stderr if line.startswith("stopping")), "")
        time.sleep(0.5)  # nobody is so quick that two signals become one
        alive = process.poll() is None
        process.send_signal(signal.SIGINT)
        _, rest = process.communicate()
        impatience.cancel()
    assert line == "stopping: waiting up to 10 s for answers in flight (Ctrl-C again to leave now)\n"
    assert alive
    assert process.returncode == 130
    assert "stopping" not in rest
    assert "Traceback" not in rest
