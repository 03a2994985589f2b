"""A sample of a run, labelled by people, and what follows for the whole: files, commands, refusals."""

import csv
import json
from collections.abc import Mapping
from io import StringIO
from pathlib import Path
from shutil import copytree
from typing import Any

import pytest
from rich.console import Console
from typer.testing import CliRunner

import relabel
from relabel import screen_trust
from relabel.auditing import Estimated
from relabel.cli import app
from relabel.errors import RunError, SettingsError
from relabel.estimates import Estimate
from relabel.labelled import Labels

DATA = Path(__file__).parents[1] / "data"
NAME = "stratified-verdict-neyman-0"
Cells = dict[str, str]


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Return a run of the simulated cascade over the sample."""
    folder = tmp_path_factory.mktemp("runs") / "sample"
    relabel.run(DATA / "sample.jsonl", DATA / "cascade.simulated.yaml", output=folder)
    return folder


@pytest.fixture
def run(made: Path, tmp_path: Path) -> Path:
    """Return a run of one's own."""
    copytree(made, tmp_path / "run")
    return tmp_path / "run"


@pytest.fixture(scope="module")
def reference() -> Mapping[tuple[str, str], str]:
    """Return the reference labels of the sample by ids."""
    with (DATA / "reference_labels.csv").open(encoding="utf-8", newline="") as file:
        return {(row["query_id"], row["passage_id"]): row["label"] for row in csv.DictReader(file)}


@pytest.fixture(scope="module")
def gold(reference: Mapping[tuple[str, str], str], tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Return the reference labels as a table of ids."""
    path = tmp_path_factory.mktemp("gold") / "gold.csv"
    lines = [f"{query},{passage},{label}" for (query, passage), label in reference.items()]
    path.write_text("\n".join(["query_id,candidate_id,label", *lines]), encoding="utf-8")
    return path


def rows_of(path: Path) -> list[Cells]:
    """Read a CSV without any code of ours."""
    with path.open(encoding="utf-8-sig", newline="") as file:
        return list(csv.DictReader(file))


def fill(path: Path, reference: Mapping[tuple[str, str], str], first: int | None = None) -> int:
    """Label the first rows of a CSV as a person would who knows the reference; return how many."""
    rows = rows_of(path)
    for row in rows[:first]:
        row["human_label"] = reference[row["query_id"], row["candidate_id"]]
    with path.open("w", encoding="utf-8", newline="") as file:
        writer = csv.DictWriter(file, list(rows[0]))
        writer.writeheader()
        writer.writerows(rows)
    return len(rows[:first])


def kept(run: Path, name: str = NAME) -> tuple[dict[str, Any], list[dict[str, Any]]]:
    """Return header and rows of a sample's file."""
    header, *rows = [json.loads(line) for line in (run / "samples" / f"{name}.jsonl").read_text("utf-8").splitlines()]
    return header, rows


def named(done: Estimated) -> dict[str, Estimate]:
    """Return the figures by name."""
    return {figure.name: figure for figure in done.figures}


@pytest.mark.parametrize(
    "options",
    [
        {},
        {"design": "random"},
        {"design": "active"},
        {"by": "query"},
        {"strata": "verdict,source"},
        {"by": "query", "strata": "source"},
    ],
)
def test_from_sample_to_estimate_and_back(
    run: Path, reference: Mapping[tuple[str, str], str], tmp_path: Path, options: dict[str, str]
) -> None:
    """Draw, fill in, import, estimate: the interval holds what all reference labels together say."""
    path = tmp_path / "sample.csv"
    done = relabel.audit_sample(run, path, 200, blind=True, **options)  # type: ignore[arg-type]
    assert done.listed == len(rows_of(path)) == done.pairs
    labels = fill(path, reference)
    relabel.audit_import(run, path)
    found = relabel.audit_estimate(run)
    assert (found.labels, found.missing, found.sample) == (labels, 0, done.name)
    truth = sum(label == "relevant" for label in reference.values()) / len(reference)
    for name, figure in named(found).items():
        if name.startswith("false-negative rate") and "of " not in name and "partial" not in name:
            assert figure.low is not None
            assert figure.high is not None
            assert figure.low < truth < figure.high, name
            assert figure.of == found.pairs == 887
    told = json.loads((run / "estimates.json").read_text("utf-8"))["figures"]
    assert [figure["name"] for figure in told] == list(named(found))
    assert set(told[0]) >= {"name", "value", "low", "high", "n", "of", "clusters", "method", "note"}


def test_people_do_not_grade_themselves(run: Path, reference: Mapping[tuple[str, str], str], tmp_path: Path) -> None:
    """After the import a person's word is the verdict; the cascade's precision is still that of its own verdicts."""
    path = tmp_path / "sample.csv"
    relabel.audit_sample(run, path, 300)
    fill(path, reference)
    relabel.audit_import(run, path)
    figure = named(relabel.audit_estimate(run))["precision of the cascade"]
    assert figure.value is not None
    assert 0.8 < figure.value < 0.99


def test_with_all_labels_figures_are_counts(run: Path, gold: Path) -> None:
    """Labels of every pair from a file: the rate itself, an interval without width, and no guess."""
    found = relabel.audit_estimate(run, gold=gold)
    pairs = rows_of_all(run)
    labels = Labels(str(gold))
    assert labels.where == str(gold)
    hits = sum(row["label"] == "relevant" for row in pairs)
    figure = named(found)["false-negative rate"]
    assert figure.value == figure.low == figure.high == pytest.approx(hits / len(pairs))
    flagged = [row for row in pairs if row["verdict"] == "false negative"]
    precision = named(found)["precision of the cascade"]
    assert precision.value == pytest.approx(sum(row["label"] == "relevant" for row in flagged) / len(flagged))
    assert precision.low == precision.value
    assert (precision.n, precision.of) == (len(flagged), len(flagged))
    assert "false-negative rate (Rogan–Gladen)" not in named(found)


def rows_of_all(run: Path) -> list[Cells]:
    """Return all judged pairs of a run with their reference label."""
    path = run / "all.csv"
    relabel.audit_export(run, path, everything=True)
    with (DATA / "reference_labels.csv").open(encoding="utf-8", newline="") as file:
        known = {(row["query_id"], row["passage_id"]): row["label"] for row in csv.DictReader(file)}
    rows = [row for row in rows_of(path) if row["verdict"] != "void"]
    return [row | {"label": known[row["query_id"], row["candidate_id"]]} for row in rows]


def test_a_sample_is_kept_with_its_chances(run: Path, tmp_path: Path) -> None:
    """The file says the design, the strata with their sizes, and each pair's chance: n of the stratum over its size."""
    path = tmp_path / "sample.csv"
    done = relabel.audit_sample(run, path, 60)
    header, rows = kept(run)
    assert header["design"] == {
        "kind": "stratified", "unit": "pair", "seed": 0, "strata": ["verdict"], "allocation": "neyman",
    }  # fmt: skip
    assert header["pairs"] == sum(header["strata"].values()) == 887
    assert {name: size for name, (size, _) in done.strata.items()} == header["strata"]
    for row in rows:
        size, drawn = done.strata[row["stratum"]]
        assert row["chance"] == pytest.approx(drawn / size)
    assert [row["pair"] for row in rows] == [row["pair"] for row in rows_of(path)]
    before = (run / "samples" / f"{NAME}.jsonl").read_bytes()
    relabel.audit_sample(run, path, 60)
    assert (run / "samples" / f"{NAME}.jsonl").read_bytes() == before
    relabel.run(DATA / "sample.jsonl", DATA / "cascade.simulated.yaml", output=run)  # still a run directory


def test_blind_files_say_nothing_of_judges(run: Path, tmp_path: Path) -> None:
    """Neither verdict nor any judge's word nor other people's; the open file has them."""
    path = tmp_path / "sample.csv"
    relabel.audit_sample(run, path, 20, blind=True)
    assert list(rows_of(path)[0]) == [
        "pair", "query_id", "source", "query", "reference", "candidate_id", "candidate_title", "candidate",
        "human_label", "human_note", "reviewer",
    ]  # fmt: skip
    relabel.audit_sample(run, path, 20)
    assert {"verdict", "strong_label", "people"} <= set(rows_of(path)[0])


def test_a_sample_is_extended(run: Path, reference: Mapping[tuple[str, str], str], tmp_path: Path) -> None:
    """A larger n begins with the smaller sample and lists what has no label yet; all labels count."""
    path = tmp_path / "sample.csv"
    relabel.audit_sample(run, path, 40)
    _, first = kept(run)
    fill(path, reference)
    relabel.audit_import(run, path)
    done = relabel.audit_sample(run, path, 100)
    _, rows = kept(run)
    assert [row["pair"] for row in rows[:40]] == [row["pair"] for row in first]
    assert done.labelled in (40, 41)  # one may stand in another row too, with the same texts
    assert done.listed == 100 - done.labelled
    assert {row["pair"] for row in rows_of(path)} <= {row["pair"] for row in rows[40:]}
    half = relabel.audit_estimate(run)
    assert (half.labels, half.missing) == (40, 0)
    assert any("the last 60 pairs of the sample wait" in note for note in half.notes)
    fill(path, reference)
    relabel.audit_import(run, path)
    whole = relabel.audit_estimate(run)
    assert (whole.labels, whole.missing) == (100, 0)
    rates = [named(done)["false-negative rate"] for done in (half, whole)]
    narrow, wide = sorted((rate.high or 1) - (rate.low or 0) for rate in rates)
    assert rates[1].high is not None
    assert rates[1].low is not None
    assert narrow == rates[1].high - rates[1].low < wide
    with pytest.raises(RunError, match=r"has 100 pairs, and 50 would take their place"):
        relabel.audit_sample(run, path, 50)
    assert relabel.audit_sample(run, path, 100, again=True).listed == 100


def test_who_stops_early_has_a_sample(run: Path, reference: Mapping[tuple[str, str], str], tmp_path: Path) -> None:
    """The first 80 of 200, of an active sample too: weights are those of 80 drawn."""
    path = tmp_path / "sample.csv"
    for design in ("active", "random"):
        relabel.audit_sample(run, path, 200, design=design, again=True)
        fill(path, reference, first=80)
        relabel.audit_import(run, path)
        name = {"active": "active-likely-0", "random": "random-0"}[design]
        found = relabel.audit_estimate(run, sample=name)
        assert found.missing <= 5
        assert 80 <= found.labels < 95  # labels of the other sample count where they come in turn
        rate = named(found)["false-negative rate (labels alone)"]
        assert rate.low is not None
        assert rate.high is not None
        assert rate.low < 0.157 < rate.high


def test_pairs_without_a_word_are_counted(run: Path, reference: Mapping[tuple[str, str], str], tmp_path: Path) -> None:
    """Skipped pairs and divided people: no label, said so, and their stratum's others stand for them."""
    path = tmp_path / "sample.csv"
    relabel.audit_sample(run, path, 60)
    fill(path, reference)
    rows = rows_of(path)
    lines = ["pair,human_label,reviewer"]
    for place, row in enumerate(rows):
        if place in (3, 4):
            continue
        lines.append(f"{row['pair']},{row['human_label']},anna")
        if place == 7:
            other = "irrelevant" if row["human_label"] != "irrelevant" else "relevant"
            lines.append(f"{row['pair']},{other},ben")
    path.write_text("\n".join(lines), encoding="utf-8")
    found = relabel.audit_estimate(run, gold=path)
    assert (found.labels, found.missing, found.divided) == (57, 3, 1)
    assert any(note.startswith("3 pairs of the sample have no label (1 of them") for note in found.notes)
    assert named(found)["false-negative rate"].of == 887


def test_people_who_choose_give_no_rate(run: Path, reference: Mapping[tuple[str, str], str], tmp_path: Path) -> None:
    """The flagged pairs labelled, no sample: figures of judges on these pairs, named so, and no rate of the whole."""
    path = tmp_path / "flagged.csv"
    relabel.audit_export(run, path)
    fill(path, reference, first=50)
    found = relabel.audit_estimate(run, gold=path)
    assert found.sample == ""
    assert any("no rate of the data set follows" in note for note in found.notes)
    assert found.figures
    assert all(name.endswith("(on labelled pairs)") for name in named(found))
    assert all(figure.of is None and "chose" in figure.note for figure in found.figures)
    assert not any("rate" in name for name in named(found))


def test_flagged_pairs_are_no_sample(run: Path, reference: Mapping[tuple[str, str], str], tmp_path: Path) -> None:
    """People labelled what the run flagged; a sample drawn later holds some of these, and does not rest on them."""
    path = tmp_path / "flagged.csv"
    relabel.audit_export(run, path)
    fill(path, reference, first=80)
    relabel.audit_import(run, path)
    relabel.audit_sample(run, tmp_path / "sample.csv", 200)
    found = relabel.audit_estimate(run)
    assert found.sample == ""
    assert any("too few of those in turn" in note for note in found.notes)
    assert not any("rate" in name for name in named(found))
    fill(tmp_path / "sample.csv", reference, first=5)
    relabel.audit_import(run, tmp_path / "sample.csv", reviewer="anna")
    assert relabel.audit_estimate(run).sample == ""
    fill(tmp_path / "sample.csv", reference, first=60)
    relabel.audit_import(run, tmp_path / "sample.csv")
    found = relabel.audit_estimate(run)
    assert found.sample == NAME
    assert any("were not given in the order of drawing" in note for note in found.notes)
    rate = named(found)["false-negative rate"]
    assert rate.low is not None
    assert rate.high is not None
    assert rate.low < 0.157 < rate.high


def test_labels_for_another_reason_are_no_answer_to_a_sample(
    run: Path, reference: Mapping[tuple[str, str], str], tmp_path: Path
) -> None:
    """All flagged pairs labelled, then strata drawn alike; an active sample's labels, then a random one is drawn."""
    path = tmp_path / "flagged.csv"
    relabel.audit_export(run, path)
    fill(path, reference)
    relabel.audit_import(run, path)
    relabel.audit_sample(run, tmp_path / "sample.csv", 200, allocation="equal")
    found = relabel.audit_estimate(run)
    assert found.sample == ""
    assert not any("rate" in name for name in named(found))
    relabel.audit_sample(run, path, 200, design="active", again=True)
    relabel.audit_sample(run, tmp_path / "sample.csv", 300, design="random")
    fill(path, reference)
    reused = relabel.audit_estimate(run, gold=path, sample="random-0")
    assert any("were not given in the order of drawing" in note for note in reused.notes)
    rate = named(reused)["false-negative rate (labels alone)"].value
    assert rate == pytest.approx(0.157, abs=0.05)  # .232 if all of these labels counted


def test_two_samples_are_not_thrown_together(
    run: Path, reference: Mapping[tuple[str, str], str], tmp_path: Path
) -> None:
    """The one with more labels is used, the other is named, and can be asked for."""
    for design, n, seed in (("random", 60, 0), ("stratified", 30, 1)):
        path = tmp_path / f"{design}.csv"
        relabel.audit_sample(run, path, n, design=design, seed=seed)
        fill(path, reference)
        relabel.audit_import(run, path)
    found = relabel.audit_estimate(run)
    assert (found.sample, found.labels) == ("random-0", 60)
    other = "stratified-verdict-neyman-1"
    assert any(f"the sample {other} has labels on" in note for note in found.notes)
    assert any("labelled pairs are not of this sample" in note for note in found.notes)
    assert relabel.audit_estimate(run, sample=other).labels == 30


def test_a_changed_run_is_refused(run: Path, gold: Path, tmp_path: Path) -> None:
    """The sample's chances are those of the data set that it was drawn from; a file that is no sample says so."""
    relabel.audit_sample(run, tmp_path / "sample.csv", 40)
    path = run / "samples" / f"{NAME}.jsonl"
    text = path.read_text("utf-8")
    path.write_text(text.replace('"pairs": 887', '"pairs": 900'), encoding="utf-8")
    with pytest.raises(RunError, match="drawn from 900 pairs, of which the run has 887"):
        relabel.audit_estimate(run, gold=gold, sample=NAME)
    (tmp_path / "few.csv").write_text("\n".join(gold.read_text("utf-8").splitlines()[:99]), encoding="utf-8")
    assert any("900 pairs, of which" in note for note in relabel.audit_estimate(run, gold=tmp_path / "few.csv").notes)
    header, first, *rest = text.splitlines()
    row = json.loads(first) | {"pair": "r0"}
    path.write_text("\n".join([header, json.dumps(row), *rest]), encoding="utf-8")
    with pytest.raises(RunError, match="1 of the sample are gone"):
        relabel.audit_estimate(run, gold=gold, sample=NAME)
    path.write_text("nothing\n", encoding="utf-8")
    with pytest.raises(RunError, match="not a sample"):
        relabel.audit_estimate(run, gold=gold)


def test_what_cannot_be_done_is_said(run: Path, tmp_path: Path) -> None:
    """No labels, no such sample, options that do not go together, too few for the strata: each with what to do."""
    path = tmp_path / "sample.csv"
    with pytest.raises(RunError, match="nobody labelled a pair"):
        relabel.audit_estimate(run)
    with pytest.raises(RunError, match=r"no sample 'x' \(it has: none\)"):
        relabel.audit_estimate(run, sample="x")
    wrong: list[tuple[dict[str, Any], str]] = [
        ({"design": "best"}, "--design 'best' is none of random, stratified, active"),
        ({"strata": "verdict,colour"}, "--strata 'colour' is none of"),
        ({"design": "random", "strata": "verdict"}, "--strata is for --design stratified"),
        ({"by": "query", "design": "active"}, "--design active draws pairs"),
        ({"by": "query", "strata": "verdict"}, "by source only"),
        ({"strata": "verdict,source,rank", "n": 20}, "each needs 2 at least"),
        ({"n": 1}, "two pairs at least"),
        ({"name": "../x"}, "letters, digits"),
    ]
    for options, words in wrong:
        with pytest.raises(SettingsError, match=words):
            relabel.audit_sample(run, path, **({"n": 50} | options))
    relabel.audit_sample(run, path, 20, name="mine")
    with pytest.raises(RunError, match="is a sample of another design"):
        relabel.audit_sample(run, path, 20, name="mine", seed=1)
    (tmp_path / "gold.csv").write_text("query_id,candidate_id,label\n" + _not_in(run, "mine"), encoding="utf-8")
    with pytest.raises(RunError, match="people did not work off the sample mine: 0 of its pairs"):
        relabel.audit_estimate(run, gold=tmp_path / "gold.csv", sample="mine")


def _not_in(run: Path, name: str) -> str:
    """Return a line that labels a pair outside a sample."""
    _, rows = kept(run, name)
    inside = {row["pair"] for row in rows}
    row = next(row for row in rows_of_all(run) if row["pair"] not in inside)
    return f"{row['query_id']},{row['candidate_id']},yes\n"


def test_commands(run: Path, reference: Mapping[tuple[str, str], str], tmp_path: Path) -> None:
    """Sample says how wide the interval will be before anybody starts; estimate lists figures, labels and queries."""
    path = tmp_path / "sample.csv"
    done = CliRunner().invoke(app, ["audit", "sample", str(run), "-o", str(path), "-n", "100", "--blind"])
    assert done.exit_code == 0, done.output
    assert "100 of 887 pairs" in done.output
    assert "with 100 labels" in done.output
    assert "true negative" in done.output
    fill(path, reference)
    done = CliRunner().invoke(app, ["audit", "estimate", str(run), "--gold", str(path)])
    assert done.exit_code == 0, done.output
    assert f"sample {NAME} (stratified, by pair, verdict, neyman, seed 0): 100 labels, 887 pairs" in done.output
    assert "sensitivity of strong" in done.output
    done = CliRunner().invoke(app, ["audit", "estimate", str(run)])
    assert isinstance(done.exception, RunError)


def test_names_are_shown_and_never_obeyed() -> None:
    """A source called like markup or a control sequence is text."""
    file = StringIO()
    figure = Estimate("false-negative rate of [red]\x1b[2J", 0.5, 0.4, 0.6, 9, 20, 3, "m", low_queries=0.3)
    console = Console(file=file, width=120, markup=False, emoji=False, highlight=False, force_terminal=False)
    screen_trust.estimated(console, Estimated((figure,), "", {}, 20, 9, 0, 0, ("[b]",)), Path("run"))
    assert "[red]\\x1b[2J" in file.getvalue()
    assert "\x1b[2J" not in file.getvalue()
    assert "note: [b]" in file.getvalue()


def test_what_is_printed_can_be_typed(made: Path, gold: Path, tmp_path: Path) -> None:
    """Commands in messages and hints are whole, and quoted where a path has a space."""
    run, path = tmp_path / "my run", tmp_path / "my sample.csv"
    copytree(made, run)
    draw = f"relabel audit sample '{run}' -o sample.csv"
    told = CliRunner().invoke(app, ["audit", "sample", str(run), "-o", str(path)], env={"COLUMNS": "400"}).output
    assert f"then: relabel audit import '{run}' '{path}' · relabel audit estimate '{run}'" in told
    told = CliRunner().invoke(app, ["audit", "export", str(run), "-o", str(path)]).output
    assert f"then: relabel audit import '{run}' '{path}'" in told
    told = CliRunner().invoke(app, ["audit", "import", str(run), str(path)]).output
    assert f"now: relabel apply '{run}'" in told
    options = ["--gold", str(gold), "--keep", "0.1"]
    told = CliRunner().invoke(app, ["calibrate", str(run), *options], env={"COLUMNS": "400"}).output
    assert f"next: relabel apply '{run}' -c '{run / 'calibrated.yaml'}'" in told
    for ask in (
        lambda: relabel.audit_estimate(run),
        lambda: relabel.audit_estimate(run, sample="none"),
        lambda: relabel.audit_serve(run, sample="none"),
    ):
        with pytest.raises(RunError) as caught:
            ask()
        assert draw in caught.value.hint


def test_a_trait_named_twice_is_one(run: Path, tmp_path: Path) -> None:
    """The strata, and so the sample, are those of the trait named once."""
    once = relabel.audit_sample(run, tmp_path / "once.csv", 50, strata="verdict")
    twice = relabel.audit_sample(run, tmp_path / "twice.csv", 50, strata="verdict, verdict")
    assert (twice.name, twice.strata) == (once.name, once.strata)
    assert (tmp_path / "once.csv").read_bytes() == (tmp_path / "twice.csv").read_bytes()


def test_people_in_the_cascade_are_no_judges(tmp_path: Path) -> None:
    """A human stage has no sensitivity, and what it settled is none of the cascade's hits."""
    row = {"query": "q", "pos": ["yes"], "neg": ["no", "perhaps", "never"]}
    (tmp_path / "train.jsonl").write_text(json.dumps(row) + "\n", encoding="utf-8")
    lines = ["query,passage,label", "q,no,irrelevant", "q,perhaps,relevant", "q,never,irrelevant"]
    (tmp_path / "labels.csv").write_text("\n".join(lines) + "\n", encoding="utf-8")
    settings = "stages:\n  - name: person\n    judge: human\n    labels: labels.csv\n"
    (tmp_path / "cascade.yaml").write_text(settings, encoding="utf-8")
    relabel.run(tmp_path / "train.jsonl", tmp_path / "cascade.yaml", output=tmp_path / "run")
    path = tmp_path / "all.csv"
    relabel.audit_export(tmp_path / "run", path, everything=True)
    rows = rows_of(path)
    lines = ["pair,human_label", *[f"{row['pair']},{'relevant' if i else 'irrelevant'}" for i, row in enumerate(rows)]]
    path.write_text("\n".join(lines) + "\n", encoding="utf-8")
    found = named(relabel.audit_estimate(tmp_path / "run", gold=path))
    assert not any("person" in name for name in found)
    assert found["precision of the cascade"].value is None
    assert "without the 3 pairs that a human stage settled" in found["precision of the cascade"].note
    assert found["false-negative rate"].value == pytest.approx(2 / 3)
