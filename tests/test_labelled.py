"""Pairs of a run with people's labels, from the run or from a file beside it."""

from pathlib import Path

import pytest

import relabel
from relabel.errors import InputError
from relabel.labelled import NOBODY, JudgedPair, Labels, judged_pairs
from relabel.pipeline import open_run

DATA = Path(__file__).parents[1] / "data"


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Return a run of the simulated cascade over the sample."""
    folder = tmp_path_factory.mktemp("runs") / "sample"
    relabel.run(DATA / "sample.jsonl", DATA / "cascade.simulated.yaml", output=folder)
    return folder


def pairs_of(run: Path, labels: Labels | None = None) -> list[JudgedPair]:
    """Return all judged pairs."""
    with open_run(run) as (plan, store):
        return [pair for query in judged_pairs(plan, store, labels) for pair in query]


def test_all_pairs_that_are_not_void_are_there(run: Path) -> None:
    """One for each judged negative, with the words of the stages that were asked, query by query."""
    pairs = pairs_of(run)
    counted = relabel.stats(run)["verdicts"]
    assert len(pairs) == sum(counted.values()) - counted["void"]
    assert all(
        (word is not None) == bool(why) for pair in pairs for word, why in zip(pair.words, pair.due, strict=True)
    )
    assert {pair.gold for pair in pairs} == {None}


def test_labels_of_a_table(run: Path, tmp_path: Path) -> None:
    """By ids, with reviewers; a majority is gold, and divided people are none."""
    first, second, third = pairs_of(run)[:3]
    lines = ["query_id,candidate_id,label,reviewer"]
    for pair, said in ((first, ["yes", "yes", "no"]), (second, ["partial", "no"]), (third, ["0"])):
        ids = f"{pair.finding.example.id},{pair.finding.candidate.id}"
        lines += [f"{ids},{word},r{number}" for number, word in enumerate(said)]
    path = tmp_path / "labels.csv"
    path.write_text("\n".join(lines), encoding="utf-8")
    labels = Labels(str(path))
    found = pairs_of(run, labels)
    assert [pair.gold for pair in found[:4]] == ["relevant", None, "irrelevant", None]
    assert dict(found[1].people) == {"r0": "partial", "r1": "irrelevant"}
    assert labels.matched == 3


@pytest.mark.parametrize(
    ("cells", "threshold", "labels"),
    [
        ("0 1 2 3", 2, ["irrelevant", "partial", "relevant", "relevant"]),
        ("0 1 2 3", 3, ["irrelevant", "partial", "partial", "relevant"]),
        ("0 1 1 0", 2, ["irrelevant", "relevant", "relevant", "irrelevant"]),
    ],
)
def test_grades_in_a_table(run: Path, tmp_path: Path, cells: str, threshold: int, labels: list[str]) -> None:
    """Whole numbers of which one is above 1 are grades, held against the threshold; 0 and 1 alone are no and yes."""
    pairs = pairs_of(run)[:4]
    rows = [f"{p.finding.example.id},{p.finding.candidate.id},{n}" for p, n in zip(pairs, cells.split(), strict=True)]
    path = tmp_path / "grades.csv"
    path.write_text("\n".join(["query_id,candidate_id,label", *rows]), encoding="utf-8")
    assert [pair.gold for pair in pairs_of(run, Labels(str(path), threshold))[:4]] == labels
    path.write_text(path.read_text("utf-8") + "\nx,y,yes", encoding="utf-8")
    if "2" in cells:
        with pytest.raises(InputError, match="'2' is not a label"):
            Labels(str(path), threshold)


def test_the_reference_labels_of_the_sample(run: Path) -> None:
    """A table that calls candidates passages is one too: every pair of the sample has its label."""
    assert all(pair.gold for pair in pairs_of(run, Labels(str(DATA / "reference_labels.csv"))))


def test_labels_of_an_audit_file(run: Path, tmp_path: Path) -> None:
    """By fingerprint, as `audit export` writes them."""
    path = tmp_path / "audit.csv"
    relabel.audit_export(run, path, everything=True)
    pair = pairs_of(run)[5]
    path.write_text(f"pair,human_label\n{pair.fingerprint},relevant\n", encoding="utf-8")
    assert [each.fingerprint for each in pairs_of(run, Labels(str(path))) if each.gold] == [pair.fingerprint]


def test_labels_of_judgments(run: Path, tmp_path: Path) -> None:
    """Grades of TREC: from the threshold on relevant, 0 irrelevant, between them partial."""
    pairs = pairs_of(run)[:3]
    lines = [f"{each.finding.example.id} 0 {each.finding.candidate.id} {grade}" for grade, each in enumerate(pairs)]
    path = tmp_path / "gold.qrels"
    path.write_text("\n".join(lines), encoding="utf-8")
    found = pairs_of(run, Labels(str(path)))
    assert [dict(each.people) for each in found[:3]] == [
        {NOBODY: "irrelevant"}, {NOBODY: "partial"}, {NOBODY: "relevant"},
    ]  # fmt: skip
    assert [each.gold for each in pairs_of(run, Labels(str(path), threshold=1))[:3]][1] == "relevant"


def test_labels_of_something_else_are_refused(run: Path, tmp_path: Path) -> None:
    """Labels that match no pair, words that are no labels, two words of one reviewer: each with what to do."""
    path = tmp_path / "labels.csv"
    path.write_text("query_id,candidate_id,label\nq,d,yes\n", encoding="utf-8")
    labels = Labels(str(path))
    pairs_of(run, labels)
    with pytest.raises(InputError, match="no label is about a pair of the run"):
        labels.check()
    path.write_text(f"query_id,candidate_id,label\n{'q' * 100_000},d,yes\n", encoding="utf-8")
    labels = Labels(str(path))
    pairs_of(run, labels)
    with pytest.raises(InputError, match="no label is about a pair of the run") as endless:
        labels.check()
    assert len(str(endless.value)) < 1_000
    path.write_text("query_id,candidate_id,label\nq,d,perhaps\nq,e,yes\nq,e,no\n", encoding="utf-8")
    with pytest.raises(InputError, match=r"(?s)line 2: .*line 4: gold calls the pair relevant and irrelevant"):
        Labels(str(path))
    qrels = tmp_path / "beir" / "qrels"
    qrels.mkdir(parents=True)
    (qrels / "bad.tsv").write_text("query-id\tcorpus-id\tscore\nq\td\t1\n", encoding="utf-8")
    path.write_text("query_id,label\nq,yes\n", encoding="utf-8")
    empty = tmp_path / "empty.csv"
    empty.write_text("query_id,candidate_id,label\n", encoding="utf-8")
    for where in (path, empty, tmp_path / "beir", "", tmp_path / "nowhere.csv"):
        with pytest.raises(InputError) as caught:
            Labels(str(where))
        assert caught.value.hint.startswith("labels are taken from an audit CSV; a table of query_id, candidate_id")
        assert "--split" not in str(caught.value)
