"""From a finished run and people's labels to a config whose thresholds hold."""

import csv
import json
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from typer.testing import CliRunner

import relabel
from relabel import config
from relabel.calibrating import calibrate, calibrate_stages
from relabel.cascade import Cuts, Stage
from relabel.cli import app
from relabel.errors import InputError, SettingsError
from relabel.labelled import UNDECIDED, JudgedPair
from relabel.promised import Targets
from relabel.records import LABELS, Example, Finding, Judgment, Label, Passage

DATA = Path(__file__).parents[1] / "data"


@pytest.fixture(scope="module")
def gold(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Return the reference labels of the sample as a table of ids."""
    path = tmp_path_factory.mktemp("labels") / "gold.csv"
    with (DATA / "reference_labels.csv").open(encoding="utf-8", newline="") as file:
        rows = [(row["query_id"], row["passage_id"], row["label"]) for row in csv.DictReader(file)]
    write(path, rows)
    return path


def write(path: Path, rows: Sequence[tuple[str, str, str]]) -> None:
    """Write labels as a table of ids."""
    with path.open("w", encoding="utf-8", newline="") as file:
        csv.writer(file).writerows([("query_id", "candidate_id", "label"), *rows])


@pytest.fixture
def run(tmp_path: Path) -> Path:
    """Return a run of the simulated cascade over the sample."""
    relabel.run(DATA / "sample.jsonl", DATA / "cascade.simulated.yaml", output=tmp_path / "run")
    return tmp_path / "run"


def test_apply_does_what_calibrate_said(run: Path, gold: Path) -> None:
    """The written config settles as many pairs as was told, asks nobody, and its verdicts agree with the promise."""
    done = relabel.calibrate(run, gold=gold, promote=0.25, keep=0.10)
    assert done.promises == 3
    applied = relabel.apply(run, done.files["config"])
    verdicts = applied.statistics["verdicts"]
    settled = done.coverage.settled
    assert verdicts["false_negative"] == sum(n for (_, label), n in settled.items() if label == "relevant") > 0
    assert verdicts["true_negative"] == sum(n for (_, label), n in settled.items() if label == "irrelevant") > 0
    assert verdicts["undecided"] == done.coverage.people + sum(done.coverage.unasked.values())
    with (run / "flagged.csv").open(encoding="utf-8-sig", newline="") as file:
        assert sum(row["verdict"] == "undecided" for row in csv.DictReader(file)) == verdicts["undecided"]
    evidence = {
        finding.verdict.evidence
        for finding in relabel.show(run, "alltag-q01") + relabel.show(run, "alltag-q02")
        if finding.verdict.stage in ("cheap", "strong")
    }
    assert evidence
    assert evidence <= {"word ≥ 2", "word ≤ 0", "word ≤ 1"}


def test_later_stages_are_calibrated_on_what_earlier_ones_leave(run: Path, gold: Path) -> None:
    """Labelled pairs in = settled by threshold + left; second opinions are of other pairs and are left out."""
    done = relabel.calibrate(run, gold=gold, promote=0.25, keep=0.10)
    rules, cheap, strong = done.stages
    assert rules.parts is None
    assert rules.why == "it has no number"
    assert (cheap.by, strong.by) == ("word", "word")
    assert cheap.parts is not None
    gone = sum(choice.chosen.pairs for choice in cheap.parts.rest.choices if choice.chosen)
    assert strong.left + strong.lacking == cheap.left + cheap.lacking - gone
    assert done.labels == cheap.left + cheap.lacking + sum(
        count for (name, _), count in done.coverage.settled.items() if name == "rules"
    )


def test_the_config_is_whole_and_the_same_each_time(run: Path, gold: Path, tmp_path: Path) -> None:
    """It reads back as the run's settings with thresholds, wherever it lies, says where they are from; equal bytes."""
    first = relabel.calibrate(run, gold=gold, promote=0.25, keep=0.10, output=tmp_path / "elsewhere.yaml")
    told = (run / "calibration.json").read_bytes()
    again = relabel.calibrate(run, gold=gold, promote=0.25, keep=0.10)
    assert first.files["config"].read_bytes() == again.files["config"].read_bytes()
    assert (run / "calibration.json").read_bytes() == told
    settings = config.load(first.files["config"])
    assert [stage.settle is not None for stage in settings.stages] == [False, True, True]
    strong = settings.stages[2].settle
    assert strong is not None
    assert (strong.by, strong.relevant, strong.partial, strong.irrelevant) == ("word", 2.0, None, 0.0)
    assert settings.policy == config.load(DATA / "cascade.simulated.yaml").policy
    assert first.digest in first.config
    assert "887 labelled pairs of 128 queries" in first.config
    done = relabel.run(
        DATA / "sample.jsonl", first.files["config"], output=run
    )  # a run under it goes on, and asks little
    assert done.undecided == relabel.apply(run, first.files["config"]).undecided


def test_the_result_as_json(run: Path, gold: Path) -> None:
    """What the report draws: labels, tests, coverage, and reliability by stage."""
    relabel.calibrate(run, gold=gold, promote=0.25, keep=0.10)
    told = json.loads((run / "calibration.json").read_text("utf-8"))
    assert told["labels"]["pairs"] == 887
    assert told["labels"]["file"] == "gold.csv"
    cheap = told["stages"][1]
    assert cheap["settled"]["irrelevant"] > 0
    (part,) = cheap["parts"]
    assert [choice["settle"] for choice in part["choices"]] == ["relevant", "irrelevant"]
    assert part["choices"][0]["threshold"] is None
    assert part["choices"][0]["why"]
    assert cheap["reliability"]["after"]["bins"]


def test_jointly_is_stricter(run: Path, gold: Path) -> None:
    """Two stages of two promises: each is tested at a fourth of delta, and its bound is higher."""
    one = relabel.calibrate(run, gold=gold, promote=0.25, keep=0.10)
    all_of_them = relabel.calibrate(run, gold=gold, promote=0.25, keep=0.10, jointly=True)
    first, second = (done.stages[1].parts for done in (one, all_of_them))
    assert first is not None
    assert second is not None
    assert second.rest.choices[1].promise.delta == pytest.approx(0.025)
    assert first.rest.choices[1].steps[-1].upper < second.rest.choices[1].steps[-1].upper


def test_by_source(run: Path, gold: Path) -> None:
    """Ten queries carry no promise of 10 %: all are calibrated together; they carry one of 30 %, each its own."""
    strict = relabel.calibrate(run, gold=gold, keep=0.10, by_source=True).stages[1].parts
    assert strict is not None
    assert strict.own == ()
    done = relabel.calibrate(run, gold=gold, keep=0.30, by_source=True)
    settle = config.load(done.files["config"]).stages[1].settle
    assert settle is not None
    assert "alltag" in settle.sources
    relabel.apply(run, done.files["config"])


def test_labels_that_the_run_took_in(run: Path, tmp_path: Path) -> None:
    """Without a file, the labels of `audit import` are used; without any, it says how to get some."""
    with pytest.raises(InputError, match="no label to calibrate"):
        relabel.calibrate(run, keep=0.1)
    path = tmp_path / "audit.csv"
    relabel.audit_export(run, path, everything=True)
    with path.open(encoding="utf-8-sig", newline="") as file:
        rows = list(csv.DictReader(file))
    for row in rows:
        row["human_label"] = "irrelevant"
    with path.open("w", encoding="utf-8", newline="") as file:
        writer = csv.DictWriter(file, list(rows[0]))
        writer.writeheader()
        writer.writerows(rows)
    relabel.audit_import(run, path)
    done = relabel.calibrate(run, keep=0.1, promote=0.1)
    assert (done.where, done.digest) == ("", "")
    assert done.labels > 800
    assert done.stages[1].parts is not None
    assert [choice.threshold for choice in done.stages[1].parts.rest.choices] == [None, 0.0]
    assert done.stages[1].reliability is None  # people said one thing only


def test_too_few_labels_promise_nothing(run: Path, gold: Path, tmp_path: Path) -> None:
    """Twenty labels: every promise is refused with its reason, and the config settles nothing by number."""
    rows = [line.split(",") for line in gold.read_text("utf-8").splitlines()[1:21]]
    write(tmp_path / "few.csv", [(query, passage, label) for query, passage, label in rows])
    done = relabel.calibrate(run, gold=tmp_path / "few.csv", promote=0.25, keep=0.10)
    assert done.promises == 0
    verdicts = relabel.apply(run, done.files["config"]).statistics["verdicts"]
    assert verdicts["true_negative"] == 0
    assert verdicts["undecided"] > 800


def test_a_stage_is_first_asked_about_all_that_comes_to_it(run: Path, gold: Path) -> None:
    """The cheap judge may promote nothing, so all go up: no promise for the strong one until a run asked it that."""
    first = relabel.calibrate(run, gold=gold, promote=0.3)
    cheap, strong = first.stages[1:]
    assert cheap.parts is not None
    assert [choice.threshold for choice in cheap.parts.rest.choices] == [None]
    assert (strong.parts, strong.by, first.promises) == (None, "word", 0)
    assert f"not asked about {strong.unasked:,} of the 851 pairs" in strong.why
    assert "NO PROMISE can be made" in first.config
    assert "strong: no promise, it settles nothing: in this run it was not asked" in first.config
    settle = config.load(first.files["config"]).stages[2].settle
    assert settle is not None
    assert settle.settle().cuts == Cuts()
    relabel.run(DATA / "sample.jsonl", first.files["config"], output=run)
    second = relabel.calibrate(run, gold=gold, promote=0.3)
    strong = second.stages[2]
    assert strong.parts is not None
    assert (strong.why, strong.unasked, strong.left, second.promises) == ("", 0, 851, 1)
    assert second.coverage.settled["strong", "relevant"] > 80


def test_the_command_says_how_to_go_on(run: Path, gold: Path) -> None:
    """A stage that was not asked all is shown with the reason, and the next command asks it."""
    told = CliRunner().invoke(app, ["calibrate", str(run), "--gold", str(gold), "--promote", "0.3"])
    shown = " ".join(told.output.split())
    assert "strong settles nothing, no promise: in this run it was not asked" in shown
    assert "NO PROMISE can be made" in shown
    assert f"-o {run}, then relabel calibrate {run} again" in shown
    page = relabel.report(run).path.read_text("utf-8")
    assert "which settles nothing: " in page


def test_a_judge_without_words_settles_nothing() -> None:
    """Its `final` does not stand in a config headed by promises; what rules say does."""
    targets = Targets({"relevant": 0.1})
    (now,), (result,) = calibrate_stages((Stage("a"),), ("llm",), (), lambda: iter(()), targets)
    assert (result.by, result.why) == ("word", "no labelled pair has its word")
    assert now.settle is not None
    assert now.settle.cuts == Cuts()
    (kept,), (result,) = calibrate_stages((Stage("r"),), ("rules",), (), lambda: iter(()), targets)
    assert kept == Stage("r")
    assert result.by is None


@pytest.mark.parametrize(("said", "by"), [(("relevant", "irrelevant"), "probability"), (LABELS, "word")])
def test_only_two_labels_make_a_probability(said: Sequence[Label], by: str) -> None:
    """A judge that says "partial" too settles by its words, and its probability is not held against people."""
    pairs = [
        replace(pair, words=(Judgment(said[i % len(said)], probability=0.9), None))
        for i, pair in enumerate(two_judges(0, 0.0))
    ]
    _, (result,) = calibrate_stages((Stage("a"),), ("llm",), pairs, lambda: iter(pairs), Targets({"relevant": 0.25}))
    assert result.by == by
    assert result.reliability is not None
    assert (result.reliability["before"] is not None) == (by == "probability")


def two_judges(seed: int, asked_from: float) -> list[JudgedPair]:
    """Draw pairs of 300 queries: the cheap judge's score is noise, the strong one errs by half where that is low.

    The strong judge was asked where the cheap score is above `asked_from`.
    """
    pairs = []
    for i, (score, truth, dice) in enumerate(np.random.default_rng(seed).random((300, 3)).tolist()):
        errs = dice < (0.55 if score <= 0.5 else 0.05)
        said = Judgment("relevant" if (truth < 0.5) != errs else "irrelevant")
        asked = score > asked_from
        example = Example(f"q{i}", f"q{i}", (), (Passage("n", "n"),))
        finding = Finding(example, (), example.negatives[0], UNDECIDED, "ask", "undecided", {}, f"r{i}")
        words = (Judgment("irrelevant", score=score), said if asked else None)
        people = {"anna": "relevant" if truth < 0.5 else "irrelevant"}
        pairs.append(JudgedPair(finding, 0, words, ("open", "open" if asked else ""), people))  # type: ignore[arg-type]
    return pairs


def promoted_from(labelled: Sequence[JudgedPair], everyone: Sequence[JudgedPair]) -> float | None:
    """Calibrate at α = .25, and return from which word on the strong judge promotes."""
    stages, _ = calibrate_stages(
        (Stage("cheap"), Stage("strong")), ("embedding", "llm"), labelled, lambda: iter(everyone),
        Targets({"relevant": 0.25}),
    )  # fmt: skip
    assert all(stage.settle for stage in stages)
    return stages[1].settle.cuts.relevant if stages[1].settle else None


def test_no_promise_rests_on_what_the_old_routing_picked() -> None:
    """Where the strong judge was heard it errs by 5 %, on all that comes to it now by 30 %: .25 cannot be promised."""
    naive, mended, whole = [], [], []
    for seed in range(10):
        half, every = two_judges(seed, 0.5), two_judges(seed, 0.0)
        heard = [pair for pair in half if pair.words[1] is not None]
        naive.append(promoted_from(heard, heard))  # as if there were no others: a promise that the next run breaks
        mended.append(promoted_from(half, half))
        whole.append(promoted_from(every, every))
    assert sum(cut is not None for cut in naive) >= 9
    assert mended == [None] * 10
    assert sum(cut is not None for cut in whole) <= 4  # each with probability δ = .1 at most: more than 4 in 1 of 600


@pytest.mark.parametrize(
    ("targets", "words"),
    [
        (Targets({}), "nothing to promise"),
        (Targets({"relevant": 1.5}), "1.5 is no share"),
        (Targets({"relevant": 0.0}), "0 is no share"),
        (Targets({"relevant": 0.1}, delta=0.7), "a delta of 0.7"),
    ],
)
def test_what_cannot_be_promised(tmp_path: Path, targets: Targets, words: str) -> None:
    """Refused before anything is read."""
    with pytest.raises(SettingsError, match=words):
        calibrate(tmp_path, targets)


def test_the_command(run: Path, gold: Path) -> None:
    """It prints thresholds, bounds, coverage, refusals, projections and the next command."""
    told = CliRunner().invoke(
        app, ["calibrate", str(run), "--gold", str(gold), "--promote", "0.25", "--drop", "0.2", "--keep", "0.1"]
    )
    assert told.exit_code == 0, told.output
    for words in (
        "887 labelled pairs of 128 queries", "each by itself holds with 90%", "cheap by its word", "≤ 0", "10 of 544",
        "no promise: the strictest threshold that can be tested fails", "cross-validated", "with these",
        "are left to people", "next: relabel apply",
    ):  # fmt: skip
        assert words in told.output, words
    empty = CliRunner().invoke(app, ["calibrate", str(run)])
    assert isinstance(empty.exception, SettingsError)


def test_nothing_is_settled_against_the_judges_own_word(run: Path, gold: Path) -> None:
    """However loose alpha is: what a judge calls partial or relevant is not kept as a negative by that judge."""
    loose = relabel.calibrate(run, gold=gold, promote=0.99, drop=0.99, keep=0.99)
    cuts = [stage.parts.rest.choices for stage in loose.stages if stage.parts is not None]
    assert [choice.threshold for choice in cuts[0]] == [2.0, 1.0, 0.0]


def test_before_and_after_stand_side_by_side(run: Path, gold: Path) -> None:
    """Outcomes as run and with the thresholds, and how many people call relevant: each adds up to all pairs."""
    done = relabel.calibrate(run, gold=gold, promote=0.3, keep=0.1)
    relevant = sum(line.rsplit(",", 1)[1].strip() == "relevant" for line in gold.read_text("utf-8").splitlines()[1:])
    for each in (done.coverage.before, done.coverage.after):
        assert sum(counts["pairs"] for counts in each.values()) == 887
        assert sum(counts["labelled"] for counts in each.values()) == 887
        assert 0 < sum(counts["relevant"] for counts in each.values()) <= relevant + 5
    after = relabel.apply(run, done.files["config"]).statistics["verdicts"]
    assert {
        name.replace(" ", "_"): each["pairs"] for name, each in done.coverage.after.items()
    }.items() <= after.items()


def test_a_high_confidence_is_no_certainty(run: Path, gold: Path) -> None:
    """Jointly, each promise is tested at a small share of delta: what is told of it stays below 100 %."""
    options = ["--gold", str(gold), "--promote", "0.01", "--keep", "0.001", "--delta", "0.01", "--jointly"]
    told = CliRunner().invoke(app, ["calibrate", str(run), *options], env={"COLUMNS": "400"}).output
    assert "confidence 99.75%" in told
    assert "confidence 100%" not in told
