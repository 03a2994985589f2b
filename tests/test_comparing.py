"""Two templates on the same sample: flips, agreement with people, cost, and that nothing is paid for twice."""

import csv
import json
from pathlib import Path

import pytest
from server import FakeServer
from typer.testing import CliRunner

import relabel
from relabel.cli import app
from relabel.errors import InputError, RelabelError

DATA = Path(__file__).parents[1] / "data"
SAMPLE, SIMULATED = DATA / "sample.jsonl", DATA / "cascade.simulated.yaml"
CASCADE = """\
stages:
  - rules
  - name: judge
    judge: llm
    engine: {{kind: openai, model: fake, base_url: "{url}", choices: structured, price: {{input: 1, output: 2}}}}
"""


@pytest.fixture(scope="module")
def gold(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Return the reference labels as a table of pairs."""
    path = tmp_path_factory.mktemp("gold") / "gold.csv"
    with (DATA / "reference_labels.csv").open(encoding="utf-8") as stream, path.open("w", encoding="utf-8") as out:
        table = csv.writer(out)
        table.writerow(["query_id", "candidate_id", "label"])
        table.writerows([row["query_id"], row["passage_id"], row["label"]] for row in csv.DictReader(stream))
    return path


@pytest.fixture(scope="module")
def done(gold: Path, tmp_path_factory: pytest.TempPathFactory) -> relabel.Comparison:
    """Compare two recorded templates of the simulated strong judge on the whole sample."""
    folder = tmp_path_factory.mktemp("out") / "compared"
    return relabel.compare_prompts("rlhn", "relevance", SAMPLE, SIMULATED, output=folder, stage="strong", gold=gold)


def test_all_labels_are_counted(done: relabel.Comparison) -> None:
    """Every pair that the rules leave has a word of both; flips are those whose labels differ."""
    for side in (done.before, done.after):
        labelled = sum(side.counts[label] for label in ("relevant", "partial", "irrelevant"))
        assert labelled + sum(side.counts["none"].values()) == done.pairs
    assert done.agreement.n == done.pairs  # strong always answers
    assert len(done.flips) == sum(done.kinds.values())
    assert len(done.flips) == done.pairs - sum(done.agreement.confusion[i][i] for i in range(3))
    assert all(flip.before.label != flip.after.label for flip in done.flips)
    assert done.after.counts["partial"] == 0  # yes or no


def test_it_says_what_a_run_says(done: relabel.Comparison, tmp_path: Path) -> None:
    """The labels are those of a run with the same template and the same stage alone behind the rules."""
    config = relabel.load_config(SIMULATED, prompt="relevance")
    config = config.model_copy(update={"stages": [config.stages[0], config.stages[2]]})
    stage = relabel.run(SAMPLE, config, output=tmp_path / "run").statistics["stages"][1]
    assert stage["asked"] == done.pairs
    assert {label: stage[label] for label in ("relevant", "partial", "irrelevant")} == {
        label: done.after.counts[label] for label in ("relevant", "partial", "irrelevant")
    }


def test_gold_tells_which_is_better(done: relabel.Comparison) -> None:
    """relevance, which cannot say partial, agrees less with the reference labels: κ falls, and the interval says so."""
    assert done.gold is not None
    kappa = done.gold.difference["kappa"]
    assert kappa.high is not None
    assert kappa.high < 0
    values = [side.figures["kappa"].value for side in (done.gold.before, done.gold.after)]
    assert kappa.value == pytest.approx((values[1] or 0) - (values[0] or 0))
    relevant = done.gold.difference["kappa_relevant"]
    assert relevant.low is not None
    assert relevant.high is not None
    assert relevant.low < 0 < relevant.high  # of relevant against rest nobody can tell


def test_what_is_written(done: relabel.Comparison) -> None:
    """One row for each flip, guarded like every table; the figures as JSON."""
    with done.files["flips"].open(encoding="utf-8-sig", newline="") as stream:
        rows = list(csv.DictReader(stream))
    assert len(rows) == len(done.flips)
    assert {row["before"] for row in rows} <= {"relevant", "partial", "irrelevant"}
    assert all(row["gold"] for row in rows)
    told = json.loads(done.files["comparison"].read_text("utf-8"))
    assert told["flips"] == done.kinds
    assert told["gold"]["difference"]["kappa"]["low"] < 0
    assert told["before"]["cost"]["estimated"] == told["before"]["cost"]["requests"] == done.before.bill.requests


def test_a_hostile_passage_stays_text(tmp_path: Path) -> None:
    """A formula in a passage reaches the table as text, and an escape reaches no terminal."""
    rows = [json.loads(line) for line in SAMPLE.read_text("utf-8").splitlines()[:3]]
    for row in rows:
        for passage in row["negative_passages"]:
            passage["text"] = "=1+1 \x1b[31m" + passage["text"]
    path = tmp_path / "rows.jsonl"
    path.write_text("".join(json.dumps(row) + "\n" for row in rows), "utf-8")
    call = [
        "prompts",
        "compare",
        "rlhn",
        "relevance",
        str(path),
        "-c",
        str(SIMULATED),
        "-o",
        str(tmp_path / "out"),
        "-q",
    ]
    shown = CliRunner().invoke(app, call)
    assert shown.exit_code == 0
    assert "\x1b[31m" not in shown.output
    with (tmp_path / "out" / "flips.csv").open(encoding="utf-8-sig", newline="") as stream:
        cells = [row["candidate"] for row in csv.DictReader(stream)]
    assert cells
    assert all(cell.startswith("'=1+1") and "\x1b" not in cell for cell in cells)


def test_nothing_is_paid_for_twice(tmp_path: Path) -> None:
    """Again, with the sides changed, and after a run: only what is new is asked; real counts of tokens are shown."""
    path, config, folder = tmp_path / "rows.jsonl", tmp_path / "cascade.yaml", tmp_path / "out"
    path.write_text("".join(SAMPLE.read_text("utf-8").splitlines(keepends=True)[:12]), "utf-8")
    with FakeServer() as server:
        config.write_text(CASCADE.format(url=server.url), "utf-8")
        dry = relabel.rehearse_compare_prompts("relevance", "umbrela", path, config, output=folder)
        assert (server.total, folder.exists()) == (0, False)
        begun: list[tuple[int, int]] = []
        first = relabel.compare_prompts(
            "relevance", "umbrela", path, config, output=folder, begin=lambda ask, stored: begun.append((ask, stored))
        )
        asked = server.total
        assert begun == [(asked, 0)]
        assert asked == first.asked == sum(bill.requests for bill in dry.bills.values())
        again = relabel.compare_prompts("umbrela", "relevance", path, config, output=folder)
        assert (again.asked, server.total) == (0, asked)
        assert len(again.flips) == len(first.flips)
        relabel.run(path, relabel.load_config(config, prompt="umbrela"), output=folder)
        assert server.total == asked
        third = relabel.compare_prompts("relevance", "rlhn", path, config, output=folder)
        assert third.asked == server.total - asked == third.after.bill.requests
        known = relabel.rehearse_compare_prompts("relevance", "rlhn", path, config, output=folder)
    assert all(bill.answered == bill.requests for bill in known.bills.values())
    bill = first.before.bill
    assert (bill.answered, bill.estimated) == (bill.requests, 0)
    assert bill.usd == pytest.approx((bill.tokens_in + 2 * bill.tokens_out) / 1e6)


def test_a_smaller_sample_lies_within_a_larger_one(tmp_path: Path) -> None:
    """So that a second look with more queries pays for the new ones alone."""
    found = [
        relabel.compare_prompts("rlhn", "relevance", SAMPLE, SIMULATED, output=tmp_path / str(queries), queries=queries)
        for queries in (10, 30)
    ]
    asked = [{flip.case.example.query for flip in each.flips} for each in found]
    assert found[0].queries == 10
    assert asked[0] < asked[1]


MISTAKES = [
    (["rlhn", "nowhere", SAMPLE, "-c", SIMULATED], "there is no prompt template 'nowhere'"),
    (["rlhn", "rlhn", SAMPLE, "-c", SIMULATED], "are the same template"),
    (["rlhn", "relevance", SAMPLE], "the cascade has no stage that can be asked"),
    (["rlhn", "relevance", SAMPLE, "-c", SIMULATED, "--stage", "nobody"], "no stage is called 'nobody'"),
    (["rlhn", "relevance", SAMPLE, "-c", SIMULATED, "-n", "0"], "a sample of 0 queries"),
    (["rlhn", "relevance", "nowhere.jsonl", "-c", SIMULATED], "nowhere.jsonl"),
    (["rlhn", "relevance", SAMPLE, "-c", SIMULATED, "--gold", "nowhere.csv"], "nowhere.csv"),
]


@pytest.mark.parametrize(("arguments", "words"), MISTAKES)
def test_mistakes_are_told(arguments: list[object], words: str, tmp_path: Path) -> None:
    """One message, and nothing is asked or left behind."""
    for dry in ([], ["--dry-run"]):
        call = ["prompts", "compare", *map(str, arguments), "-o", str(tmp_path / "out"), *dry]
        found = CliRunner().invoke(app, call)
        assert isinstance(found.exception, RelabelError)
        assert words in str(found.exception)
    assert not (tmp_path / "out" / "flips.csv").exists()


def test_labels_of_something_else(tmp_path: Path) -> None:
    """Labels about none of the pairs are refused."""
    labels = tmp_path / "labels.csv"
    labels.write_text("query_id,candidate_id,label\nx,y,relevant\n", "utf-8")
    with pytest.raises(InputError, match="no label is about a pair"):
        relabel.compare_prompts("rlhn", "relevance", SAMPLE, SIMULATED, output=tmp_path / "out", gold=labels, queries=3)


def test_a_folder_of_something_else(tmp_path: Path) -> None:
    """Results are not put among other files."""
    (tmp_path / "thesis.txt").write_text("mine", "utf-8")
    with pytest.raises(RelabelError, match="holds other files"):
        relabel.compare_prompts("rlhn", "relevance", SAMPLE, SIMULATED, output=tmp_path)


def test_an_input_without_pairs(tmp_path: Path) -> None:
    """Rows without negatives leave nothing to ask about."""
    row = json.loads(SAMPLE.read_text("utf-8").splitlines()[0]) | {"negative_passages": []}
    path = tmp_path / "rows.jsonl"
    path.write_text(json.dumps(row) + "\n", "utf-8")
    with pytest.raises(InputError, match="no pair to ask cheap about"):
        relabel.compare_prompts("rlhn", "relevance", path, SIMULATED, output=tmp_path / "out")


def test_the_command_shows_it(gold: Path, tmp_path: Path) -> None:
    """Both sides, the difference against people with its interval, the flips, and where all of it lies."""
    call = ["prompts", "compare", "rlhn", "relevance", str(SAMPLE), "-c", str(SIMULATED), "--stage", "strong"]
    shown = CliRunner().invoke(app, [*call, "--gold", str(gold), "-o", str(tmp_path / "out"), "-n", "20", "-q"])
    assert shown.exit_code == 0
    for words in ("rlhn → relevance", "(estimate)", "Against people", "difference", "labels flip", "flips.csv"):
        assert words in shown.output
