"""The command line, as a person types it."""

import csv
import json
import os
import subprocess
import sys
import time
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
SAMPLE = ROOT / "data" / "sample.jsonl"
SIMULATED = ROOT / "data" / "cascade.simulated.yaml"
EMPTY_APP = """
import typer
app = typer.Typer()
@app.command()
def one() -> None: ...
@app.command()
def two() -> None: ...
app()
"""


def relabel(*arguments: object, cwd: Path | None = None) -> subprocess.CompletedProcess[str]:
    """Type a command; a wide terminal, so that paths are not folded."""
    return subprocess.run(
        [sys.executable, "-m", "relabel", *map(str, arguments)],
        capture_output=True,
        text=True,
        encoding="utf-8",
        check=False,
        cwd=cwd,
        env={**os.environ, "COLUMNS": "200", "PYTHONPATH": str(ROOT)},
    )


@pytest.fixture(scope="module")
def simulated(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Run the three-stage cascade on the sample once."""
    folder = tmp_path_factory.mktemp("runs") / "rlhn"
    done = relabel("run", SAMPLE, "-c", SIMULATED, "-o", folder)
    assert done.returncode == 0, done.stderr
    return folder


@pytest.mark.parametrize(
    ("arguments", "code", "said"),
    [
        (("run", "nowhere.jsonl"), 2, "there is no such file"),
        (("run", SAMPLE, "-c", "nowhere.yaml"), 2, "cannot read the config nowhere.yaml"),
        (("run", SAMPLE, "--prompt", "rlhn"), 2, "--prompt is for a cascade with an LLM stage"),
        (("run", SAMPLE, "-c", SIMULATED, "--prompt", "rhln"), 2, "rlhn"),
        (("run", SAMPLE, "--policy", "keep"), 2, "there is no policy 'keep'"),
        (("run", SAMPLE, "--max-undecided", "some"), 2, "neither a number nor a percentage"),
        (("run", SAMPLE, "--format", "bge"), 2, "line 1"),
        (("run", SAMPLE, "--format", "parquet"), 2, "tevatron"),
        (("show", "nowhere"), 2, "holds no finished run"),
        (("stats", "nowhere"), 2, "holds no finished run"),
        (("apply", "nowhere"), 2, "holds no finished run"),
        (("audit", "import", "nowhere", SAMPLE), 2, "relabel: "),
        (("prompts", "show", "nothing"), 2, "there is no prompt template 'nothing'"),
        (("convert", SAMPLE, "out.jsonl", "--to", "nothing"), 2, "nothing"),
        (("fly",), 2, "No such command"),
        (("run",), 2, "Missing argument"),
        (("run", SAMPLE, "--fly"), 2, "No such option"),
    ],
)
def test_an_expected_error_is_one_clear_message(
    arguments: tuple[object, ...], code: int, said: str, tmp_path: Path
) -> None:
    """What a person gets wrong is said without a traceback, with the exit code of the plan."""
    done = relabel(*arguments, cwd=tmp_path)
    assert done.returncode == code
    assert said in done.stderr
    assert "Traceback" not in done.stderr


def test_a_run_ends_with_findings_accounting_and_files(simulated: Path) -> None:
    """The end of a run shows five findings, counts that add up, and where the files are."""
    done = relabel("run", SAMPLE, "-c", SIMULATED, "-o", simulated)
    assert done.returncode == 0
    assert done.stdout.count("known positive") == 5
    assert "892 pairs =" in done.stdout
    assert "140 in = " in done.stdout
    for name in ("cleaned.jsonl", "flagged.csv", "changes.jsonl", "statistics.json"):
        assert str(simulated / name) in done.stdout
        assert (simulated / name).exists()
    assert "140 answered from the store" not in done.stdout.split("strong")[0]


def test_show_tells_each_pairs_life(simulated: Path) -> None:
    """One query: its text, the known positive, every candidate, every judge's word, verdict and action."""
    row = json.loads(SAMPLE.read_text("utf-8").splitlines()[0])
    done = relabel("show", simulated, row["query_id"])
    assert done.returncode == 0
    assert done.stdout.count("known positive") == len(row["negative_passages"])
    for passage in row["negative_passages"]:
        assert f"candidate {passage['docid']}" in done.stdout
    assert "cheap" in done.stdout
    assert relabel("show", simulated, "no such query at all").returncode == 2


def test_another_prompt_and_what_flips(simulated: Path, tmp_path: Path) -> None:
    """The same cascade with another template; the flips listed are the verdicts that differ."""
    other = tmp_path / "relevance"
    assert relabel("run", SAMPLE, "-c", SIMULATED, "-o", other, "--prompt", "relevance").returncode == 0
    done = relabel("show", other, "--against", simulated)
    assert done.returncode == 0
    listed = int(done.stdout.rsplit(" verdicts flip", 1)[0].rsplit(maxsplit=1)[-1].replace(",", ""))
    assert listed > 0
    same = relabel("show", simulated, "--against", simulated)
    assert "0 verdicts flip" in same.stdout


def test_check_spends_nothing_and_shows_a_prompt(tmp_path: Path) -> None:
    """`check` counts, estimates and renders one prompt; it makes no run directory."""
    done = relabel("check", SAMPLE, "-c", SIMULATED, cwd=tmp_path)
    assert done.returncode == 0
    assert "892 pairs" in done.stdout
    assert "The first prompt of stage cheap" in done.stdout
    assert "nothing was spent" in done.stdout
    assert list(tmp_path.iterdir()) == []


def test_check_works_without_a_key_and_says_so(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A forecast needs no key and no labels, but says what a run would lack."""
    monkeypatch.delenv("OPENAI_API_KEY", raising=False)
    monkeypatch.delenv("OPENAI_BASE_URL", raising=False)
    config = tmp_path / "c.yaml"
    config.write_text(
        "stages:\n  - {judge: human, labels: none.csv}\n  - {judge: llm, engine: {kind: openai, model: gpt-4o}}\n",
        "utf-8",
    )
    done = relabel("check", SAMPLE, "-c", config)
    assert done.returncode == 0
    assert "a run would not start: stage human: " in done.stdout
    assert "a run would not start: stage llm: the environment variable OPENAI_API_KEY" in done.stdout
    assert "price unknown" not in done.stdout


@pytest.mark.parametrize(("mode", "problem"), [(None, "the key cannot be read"), (0o644, "than its owner may read it")])
def test_check_looks_at_a_file_with_a_key(tmp_path: Path, mode: int | None, problem: str) -> None:
    """Unlike a variable of the shell, it belongs to the config: `check` fails where a run would."""
    if mode is not None:
        (tmp_path / "key").write_text("sk-of-no-use-0123456789\n")
        (tmp_path / "key").chmod(mode)
    config = tmp_path / "c.yaml"
    config.write_text("stages:\n  - {judge: llm, engine: {kind: openai, model: gpt-4o, api_key_file: key}}\n", "utf-8")
    done = relabel("check", SAMPLE, "-c", config)
    assert done.returncode == 2
    assert problem in done.stderr
    assert "sk-of" not in done.stdout + done.stderr


def test_max_undecided_exits_with_one(tmp_path: Path) -> None:
    """A run that leaves more undecided than asked for finishes, and says so by its exit code."""
    config = tmp_path / "c.yaml"
    config.write_text("stages:\n  - rules\n", encoding="utf-8")
    few = relabel("run", SAMPLE, "-c", config, "-o", tmp_path / "run", "--max-undecided", "5%")
    assert few.returncode == 1
    assert "more than --max-undecided allows" in few.stderr
    assert (tmp_path / "run" / "cleaned.jsonl").exists()
    assert relabel("apply", tmp_path / "run", "--max-undecided", "100%").returncode == 0


def test_the_audit_goes_out_and_comes_back(tmp_path: Path) -> None:
    """A person's labels, typed into the CSV, decide after import and apply; typed labels are never overwritten."""
    run = tmp_path / "run"
    assert relabel("run", SAMPLE, "-c", SIMULATED, "-o", run, "-q").returncode == 0
    flagged = run / "flagged.csv"
    with flagged.open(encoding="utf-8-sig", newline="") as file:
        rows = list(csv.DictReader(file))
    turned = next(row for row in rows if row["verdict"] == "false negative" and row["settled_by"] == "strong")
    turned["human_label"] = "irrelevant"
    with flagged.open("w", encoding="utf-8", newline="") as file:
        writer = csv.DictWriter(file, list(rows[0]))
        writer.writeheader()
        writer.writerows(reversed(rows))
    assert relabel("apply", run).returncode == 0  # forgot to import: what was typed is set aside
    kept = run / "flagged-labelled.csv"
    assert "irrelevant" in kept.read_text("utf-8")
    done = relabel("audit", "import", run, kept, "--reviewer", "anna")
    assert done.returncode == 0, done.stderr
    assert "1 labels by anna" in done.stdout
    assert relabel("apply", run).returncode == 0
    changes = [json.loads(line) for line in (run / "changes.jsonl").read_text("utf-8").splitlines()]
    touched = {(change["example_id"], change.get("passage_id")) for change in changes}
    assert (turned["query_id"], turned["candidate_id"]) not in touched
    stats = json.loads((run / "statistics.json").read_text("utf-8"))
    with_people = [entry for entry in stats["agreement"] if entry["second"] == "human"]
    assert any(entry["n"] == 1 for entry in with_people)


def test_convert_and_prompts(tmp_path: Path) -> None:
    """Formats convert into one another, and a template that was shown can be changed and used as a file."""
    out = tmp_path / "out.jsonl.gz"
    done = relabel("convert", SAMPLE, out, "--to", "bge")
    assert done.returncode == 0
    assert "140 examples read" in done.stdout
    assert relabel("check", out).returncode == 0
    mine = tmp_path / "mine.md"
    mine.write_text(relabel("prompts", "show", "rlhn").stdout, encoding="utf-8")
    shown = relabel("prompts", "render", mine, SAMPLE)
    assert shown.returncode == 0
    assert "Doc (1)" in shown.stdout
    assert {"rlhn", "relevance", "umbrela", "answer"} <= set(relabel("prompts", "list").stdout.split())


def test_convert_names_what_it_leaves_out(tmp_path: Path) -> None:
    """With `--on-error skip`, each row that is left out is named with its line and what is wrong."""
    path = tmp_path / "in.jsonl"
    path.write_text('{"query": "q", "pos": ["p"], "neg": ["n"]}\n{"query": "q", "pos": "p", "neg": []}\n', "utf-8")
    done = relabel("convert", path, tmp_path / "out.jsonl", "--to", "tevatron", "--on-error", "skip")
    assert done.returncode == 0
    assert "1 examples read, 1 rows rejected, 1 rows written" in done.stdout
    assert "left out: line 2: field 'pos'" in done.stderr


def test_help_is_quick() -> None:
    """`relabel --help` takes at most 1.4 times an empty typer application (medians of one interleaved run)."""
    ours, empty = [], []
    for _ in range(7):
        empty.append(_seconds([sys.executable, "-c", EMPTY_APP, "--help"]))
        ours.append(_seconds([sys.executable, "-m", "relabel", "--help"]))
    assert sorted(ours)[3] <= 1.4 * sorted(empty)[3]


def _seconds(command: list[str]) -> float:
    start = time.perf_counter()
    subprocess.run(command, check=True, capture_output=True, cwd=ROOT)
    return time.perf_counter() - start


@pytest.mark.embedding
def test_the_first_command_of_the_readme(tmp_path: Path) -> None:
    """Without a config, the embedded cascade runs on the sample: it drops and asks, and promotes nothing."""
    done = relabel("run", SAMPLE, cwd=tmp_path)
    assert done.returncode == 0, done.stderr
    run = tmp_path / "runs" / "sample"
    stats = json.loads((run / "statistics.json").read_text("utf-8"))
    assert stats["passages"]["promoted"] == 0
    assert stats["passages"]["dropped"] > 0
    assert stats["verdicts"]["undecided"] > 0
    again = relabel("run", SAMPLE, cwd=tmp_path)
    assert again.returncode == 0
    assert json.loads((run / "statistics.json").read_text("utf-8")) == stats
