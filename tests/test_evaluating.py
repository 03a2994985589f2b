"""Mined, synthetic and mixed negatives compared on a dev set, with the packaged model."""

import json
import os
import re
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from relabel.errors import InputError, SettingsError
from relabel.evaluating import EVALUATION, FULL, Evaluation, Trial, evaluate
from relabel.synthesis.training import Schedule

THINGS = ["apple", "bridge", "candle", "dragon", "engine", "forest", "guitar", "harbour", "island", "jacket", "kettle",
          "ladder", "mirror", "needle", "orange", "pencil", "rocket", "saddle", "tunnel", "violin"]  # fmt: skip


def collection(folder: Path, *, train: bool = False) -> Path:
    """Make a BEIR folder: a passage on the colour of each thing and one on its weight; dev queries ask for colours.

    Queries for training ask for weights.
    """
    (folder / "qrels").mkdir(parents=True)
    corpus, queries, qrels = [], [], ["query-id\tcorpus-id\tscore"]
    for number, thing in enumerate(THINGS):
        corpus += [
            {"_id": f"c{number}", "title": "", "text": f"The colour of the {thing} in the museum is a deep red."},
            {"_id": f"w{number}", "title": "", "text": f"The {thing} in the museum weighs {number + 3} kilograms."},
        ]
        queries.append({"_id": f"q{number}", "text": f"which colour has the {thing}?"})
        qrels.append(f"q{number}\tc{number}\t1")
    if train:
        weights = [f"v{number}\tw{number}\t1" for number in range(len(THINGS))]
        queries += [{"_id": f"v{number}", "text": f"how heavy is the {thing}?"} for number, thing in enumerate(THINGS)]
        (folder / "qrels" / "train.tsv").write_text("\n".join([qrels[0], *weights]) + "\n", encoding="utf-8")
    for name, rows in (("corpus", corpus), ("queries", queries)):
        (folder / f"{name}.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows), encoding="utf-8")
    (folder / "qrels" / "dev.tsv").write_text("\n".join(qrels) + "\n", encoding="utf-8")
    return folder


def row(number: int, *, mined: int = 2, synthetic: int = 2, **more: Any) -> dict[str, Any]:
    """Return a training row of another museum, with negatives of both kinds."""
    thing = THINGS[number]
    negatives = [{"docid": f"m{number}-{place}", "title": "", "text": f"The {thing} was sold {place} times."}
                 for place in range(mined)]  # fmt: skip
    negatives += [{"docid": f"synthetic-{number}-{place}", "title": "", "text": f"The {thing} is blue, not {place}."}
                  for place in range(synthetic)]  # fmt: skip
    return {
        "query_id": f"t{number}",
        "query": f"what colour does the {thing} of the castle have?",
        "positive_passages": [{"docid": f"p{number}", "title": "", "text": f"The {thing} of the castle is green."}],
        "negative_passages": negatives,
        **more,
    }


def saved(path: Path, rows: list[dict[str, Any]]) -> Path:
    """Write a training file."""
    path.write_text("".join(json.dumps(each) + "\n" for each in rows), encoding="utf-8")
    return path


QUICK = Trial(budget=2, seeds=2, head=Schedule(epochs=1, batch_size=8))


@pytest.fixture(scope="module")
def done(tmp_path_factory: pytest.TempPathFactory) -> Evaluation:
    """Run the comparison once."""
    folder = tmp_path_factory.mktemp("evaluation")
    rows = [row(number) for number in range(10)] + [row(10, mined=1), row(11, synthetic=1), row(12, synthetic=0)]
    rows.append(row(13) | {"query": "which colour has the violin?"})  # a dev query
    train = saved(folder / "train.jsonl", rows)
    return evaluate(train, dev=collection(folder / "dev"), output=folder / "out", trial=QUICK)


@pytest.mark.embedding
def test_all_arms_are_scored_on_the_same_queries(done: Evaluation) -> None:
    """Five arms in their order, with intervals; rows that lack negatives and dev queries trained on are counted."""
    assert [arm.name for arm in done.arms] == ["untrained", "random", "mined", "synthetic", "mixed"]
    assert (done.rows, dict(done.left_out)) == (11, {"no positive": 0, "too few mined": 1, "too few synthetic": 1})
    assert (done.queries, done.overlap, done.documents) == (19, 1, 40)
    for arm in done.arms:
        assert arm.ndcg.value is not None
        assert 0.5 < arm.ndcg.value <= 1
        assert len(arm.by_seed) == (1 if arm.name == "untrained" else 2)
        assert (arm.difference is None) == (arm.name == "mined")


@pytest.mark.embedding
def test_the_file_says_what_was_returned_and_a_second_call_the_same(done: Evaluation, tmp_path: Path) -> None:
    """The JSON holds every figure, and the same files in another folder give the same bytes."""
    text = (done.folder / EVALUATION).read_text("utf-8")
    assert json.loads(text) == json.loads(json.dumps(done.to_json()))
    again = evaluate(done.folder.parent / "train.jsonl", dev=done.folder.parent / "dev", output=tmp_path, trial=QUICK)
    assert (tmp_path / EVALUATION).read_text("utf-8") == text
    assert again.arms == done.arms


@pytest.mark.embedding
def test_two_files_go_together_by_query(done: Evaluation, tmp_path: Path) -> None:
    """Mined negatives in one file and synthetic ones in another are the same comparison."""
    mined = saved(tmp_path / "mined.jsonl", [row(number, synthetic=0) for number in range(10)])
    synthetic = saved(tmp_path / "synthetic.jsonl", [row(number, mined=0) for number in reversed(range(10))])
    found = evaluate(mined, synthetic, dev=done.folder.parent / "dev", output=tmp_path / "out", trial=QUICK)
    assert (found.rows, found.queries) == (10, 20)


@pytest.mark.embedding
@pytest.mark.slow
def test_the_whole_model_can_be_trained(done: Evaluation, tmp_path: Path) -> None:
    """As a confirmation all weights are trained once for each kind; every arm begins with the same weights."""
    train = saved(tmp_path / "train.jsonl", [row(number) for number in range(8)])
    trial = Trial(budget=1, seeds=1, head=Schedule(epochs=1), full=FULL)
    found = evaluate(train, dev=done.folder.parent / "dev", output=tmp_path / "out", trial=trial)
    assert [arm.name for arm in found.full] == ["untrained", "mined", "synthetic", "mixed"]
    assert all(arm.ndcg.value is not None and 0.5 < arm.ndcg.value <= 1 for arm in found.full)
    assert found.full[0].ndcg == found.arms[0].ndcg  # short texts: the same model, whatever it reads at most


def test_what_is_lacking_is_said(tmp_path: Path) -> None:
    """No marked negatives, or too few rows with enough of both, end with what to do; nothing is embedded."""
    dev = collection(tmp_path / "dev")
    plain = saved(tmp_path / "plain.jsonl", [row(number, synthetic=0) for number in range(10)])
    with pytest.raises(InputError, match="no negative is marked as synthetic"):
        evaluate(plain, dev=dev, output=tmp_path / "out")
    few = saved(tmp_path / "few.jsonl", [row(number) for number in range(10)])
    with pytest.raises(InputError, match="0 training queries have a positive and 3 negatives of either kind"):
        evaluate(few, dev=dev, output=tmp_path / "out", trial=Trial(budget=3))


def test_dev_queries_that_were_trained_on_are_no_dev_queries(tmp_path: Path) -> None:
    """A dev set of training queries alone is refused."""
    dev = collection(tmp_path / "dev")
    rows = [row(number) | {"query": f"which colour has the {thing}?"} for number, thing in enumerate(THINGS)]
    with pytest.raises(InputError, match=r"has 0 judged queries .split 'dev'. that are not in the training file"):
        evaluate(saved(tmp_path / "train.jsonl", rows), dev=dev, output=tmp_path / "out", trial=QUICK)


def test_at_most_so_many_rows(tmp_path: Path) -> None:
    """Rows beyond the limit are not trained on; who is drawn does not depend on the order of the file."""
    from relabel.evaluating import _drawn

    rows = [row(number % 20) | {"query": f"query {number}"} for number in range(100)]
    one, other = str(saved(tmp_path / "a.jsonl", rows)), str(saved(tmp_path / "b.jsonl", rows[::-1]))
    first, second = _drawn(one, one, Trial(rows=10)), _drawn(other, other, Trial(rows=10))
    assert len(first) == 10
    assert [each.query for each in first] == [each.query for each in second]


@pytest.mark.parametrize("name", ["budget", "seeds", "rows"])
def test_settings_that_cannot_work_are_refused(name: str) -> None:
    """Nothing below 1."""
    with pytest.raises(SettingsError, match=f"{name} cannot be 0"):
        Trial(**dict[str, Any]({name: 0}))


def typed(*words: object) -> "subprocess.CompletedProcess[str]":
    """Type a command."""
    command = [sys.executable, "-m", "relabel", *map(str, words)]
    return subprocess.run(
        command, capture_output=True, text=True, check=False, env={**os.environ, "COLUMNS": "200"}, timeout=120
    )


def damaged(folder: Path, what: str) -> Path:
    """Make a BEIR folder that cannot be used."""
    dev = collection(folder, train=True)
    corpus, qrels = dev / "corpus.jsonl", dev / "qrels"
    if what == "broken":
        corpus.write_text(corpus.read_text("utf-8") + "{broken\n", "utf-8")
    elif what == "latin-1":
        corpus.write_bytes(corpus.read_bytes() + '{"_id": "x", "text": "Käse"}\n'.encode("latin-1"))
    elif what == "no judgments":
        shutil.rmtree(qrels)
    elif what == "grades of 0":
        for each in qrels.iterdir():
            each.write_text(each.read_text("utf-8").replace("\t1\n", "\t0\n"), "utf-8")
    return dev


@pytest.mark.parametrize("what", ["broken", "latin-1", "no judgments", "grades of 0"])
def test_what_is_advised_can_be_typed(tmp_path: Path, what: str) -> None:
    """Hints name options of the command that was typed, and none of those that only another has."""
    dev = damaged(tmp_path / "dev", what)
    train = saved(tmp_path / "train.jsonl", [row(number) for number in range(10)])
    evaluated = typed("synthesize", "evaluate", train, "--dev", dev, "-o", tmp_path / "out", "-q")
    mined = typed("mine", dev, "-o", tmp_path / "mined", "--split", "dev", "-q")
    higher = typed("mine", dev, "-o", tmp_path / "mined", "--split", "dev", "-q", "--threshold", 2)
    assert (evaluated.returncode, mined.returncode, higher.returncode) == (2, 2, 2)
    assert not set(re.findall(r"--[a-z-]+", evaluated.stderr)) - {"--dev", "--split", "--synthetic", "--budget"}
    assert "--threshold 1" not in mined.stderr
    assert len(evaluated.stderr.splitlines()) == len(mined.stderr.splitlines()) == 2  # the hint is not gone altogether
    if what == "no judgments":
        assert mined.stderr.endswith("Name a source that has them, or a file: --qrels FILE\n")
    elif what != "grades of 0":
        assert mined.stderr.endswith("Or leave bad rows out: --on-error skip\n")


def test_a_lower_threshold_is_advised_where_it_helps(tmp_path: Path) -> None:
    """Grades of 1 do not reach 2, but 1."""
    done = typed("mine", collection(tmp_path / "dev"), "-o", tmp_path / "out", "--split", "dev", "--threshold", 2, "-q")
    assert done.returncode == 2
    assert done.stderr.endswith("Lower the threshold: --threshold 1\n")


@pytest.mark.parametrize("command", ["evaluate", "separate"])
def test_a_broken_row_of_the_training_file(tmp_path: Path, command: str) -> None:
    """It cannot be skipped here, and nothing says that it can."""
    train = saved(tmp_path / "train.jsonl", [row(number) for number in range(10)])
    train.write_text(train.read_text("utf-8") + "{broken\n", "utf-8")
    more = ["--dev", collection(tmp_path / "dev"), "-o", tmp_path / "out"] if command == "evaluate" else []
    done = typed("synthesize", command, train, *more)
    assert done.returncode == 2
    assert "train.jsonl, line 11: " in done.stderr
    assert "--on-error" not in done.stderr


def test_a_file_is_no_folder(tmp_path: Path) -> None:
    """Whoever names the training file as the output is told so, and it is left alone."""
    train = saved(tmp_path / "train.jsonl", [row(number) for number in range(10)])
    before = train.read_bytes()
    done = typed("synthesize", "evaluate", train, "--dev", collection(tmp_path / "dev"), "-o", train)
    assert (done.returncode, done.stderr) == (2, f"relabel: {train} is a file\n  name another folder: -o\n")
    assert train.read_bytes() == before


@pytest.mark.embedding
def test_judged_queries_of_which_the_passages_are_not_there_are_counted(tmp_path: Path) -> None:
    """A collection that was cut is told of: on the screen and in the file; all judged ones are somewhere."""
    dev = collection(tmp_path / "dev")
    corpus = (dev / "corpus.jsonl").read_text("utf-8").splitlines(keepends=True)
    (dev / "corpus.jsonl").write_text("".join(corpus[:16]), "utf-8")  # passages of 8 things of 20
    with (dev / "qrels" / "dev.tsv").open("a", encoding="utf-8") as qrels:
        qrels.write("q0\tw19\t1\nq1\tw18\t0\nnobody\tc0\t1\n")
    train = saved(tmp_path / "train.jsonl", [row(number) for number in range(9)] + [
        row(9) | {"query": f"which colour has the {THINGS[0]}?"}
    ])  # fmt: skip
    done = typed(
        "synthesize", "evaluate", train, "--dev", dev, "-o", tmp_path / "out", "--budget", 2, "--seeds", 1, "-q"
    )
    assert done.returncode == 0, done.stderr
    told = json.loads((tmp_path / "out" / EVALUATION).read_text("utf-8"))
    assert [told[name] for name in ("queries", "overlap", "lost", "missing")] == [7, 1, 13, 13]
    assert "7 dev queries (left out: 13 judged, but not in the collection, 1 trained on), 16 passages" in done.stdout
    assert "warning: the dev collection lacks 13 judged positives, and all that 13 judged queries have" in done.stdout


@pytest.mark.embedding
def test_a_whole_collection_lacks_nothing(done: Evaluation) -> None:
    """Queries that nobody judged are not counted as lost."""
    assert (done.lost, done.missing) == (0, 0)
