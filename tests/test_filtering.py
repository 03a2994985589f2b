"""`relabel filter`: rows that somebody mined, held against rules by score."""

import json
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

import relabel
from relabel import filtering, selection
from relabel.errors import InputError, SettingsError
from relabel.filtering import NOT_DRAWN
from relabel.formats import get_format
from relabel.mining.filters import Consistency, MaxScore, MinScore, RankWindow, RelativeMargin
from relabel.mining.likeness import CrossRowPositive
from relabel.mining.samplers import Band, RankBands, SimANS, Top
from relabel.mining.strategies import POSITIVES
from relabel.policy import undo
from relabel.rundir import changes_of

Row = dict[str, Any]
Save = Callable[..., Path]

CAT: Row = {
    "query": "what is a cat",
    "pos": ["a cat is an animal"],
    "neg": ["A cat is an animal.", "a dog barks", "cats are felines", "the moon"],
    "pos_scores": [0.9],
    "neg_scores": [0.99, 0.3, 0.88, -0.1],
}
DOG: Row = {
    "query": "what is a dog",
    "pos": ["a dog is a pet", "dogs bark"],
    "neg": ["wolf", "the moon", "a bone"],
    "pos_scores": [0.9, 0.5],
    "neg_scores": [0.49, 0.1, None],
    "type": "kept as it is",
}


def rows(path: Path) -> list[Row]:
    """Read JSON lines."""
    return [json.loads(line) for line in path.read_text("utf-8").splitlines()]


@pytest.fixture
def no_model(monkeypatch: pytest.MonkeyPatch) -> None:
    """Fail a test that would embed anything."""
    monkeypatch.setattr(filtering, "Encoder", None)


@pytest.mark.usefixtures("no_model")
def test_scores_of_the_file(save: Save, tmp_path: Path) -> None:
    """Copies go, what is above 95 % of the lowest positive goes, a missing score stays; all else is as it was."""
    done = relabel.filter_negatives(save(CAT, DOG), tmp_path / "out.jsonl", relative_margin=0.05)
    one, two = rows(done.output)
    assert one == CAT | {"neg": ["a dog barks", "the moon"], "neg_scores": [0.3, -0.1]}
    assert two == DOG | {"neg": ["the moon", "a bone"], "neg_scores": [0.1, None]}
    assert done.removed == {"copy_of_positive": 1, "sibling_positive": 0, "repeated": 0, "relative_margin": 2}
    assert done.silent == {"relative_margin": 1}
    assert (done.rows, done.written, done.gone, done.negatives, done.kept, done.scores) == (
        2,
        2,
        0,
        7,
        4,
        "in the rows",
    )
    assert [(line["position"], line["passage_id"] != "", line["stage"], line["why"]) for line in rows(done.ledger)] == [
        (0, True, "copy_of_positive", "copy of a positive"),
        (0, True, "relative_margin", "0.88 > 0.855"),
        (1, True, "relative_margin", "0.49 > 0.475"),
    ]


@pytest.mark.usefixtures("no_model")
def test_what_is_not_drawn_goes_too(save: Save, tmp_path: Path) -> None:
    """As many as wanted are left, by rank or by dice; the rows with fewer are counted."""
    path = save(CAT, DOG)
    done = relabel.filter_negatives(path, tmp_path / "top.jsonl", num_negatives=3)
    assert [row["neg"] for row in rows(done.output)] == [["a dog barks", "cats are felines", "the moon"], DOG["neg"]]
    done = relabel.filter_negatives(path, tmp_path / "one.jsonl", num_negatives=1, max_score=0.85)
    assert [row["neg"] for row in rows(done.output)] == [["a dog barks"], ["wolf"]]
    assert done.removed[NOT_DRAWN] == 3
    seeds = set()
    for seed in range(12):
        done = relabel.filter_negatives(
            path, tmp_path / "r.jsonl", num_negatives=1, sampling_strategy="random", seed=seed
        )
        seeds.add(tuple(row["neg"][0] for row in rows(done.output)))
    assert len(seeds) > 2
    done = relabel.filter_negatives(path, tmp_path / "many.jsonl", num_negatives=4)
    assert done.short == 2


@pytest.mark.usefixtures("no_model")
def test_scores_in_tevatrons_passages(save: Save, tmp_path: Path) -> None:
    """A score in the passage, or in a list beside them; named scores and sources likewise."""
    passages = [{"docid": str(i), "title": "", "text": f"text {i}", "score": i / 10} for i in range(4)]
    row: Row = {"query_id": "1", "query": "q", "positive_passages": [passages[2]], "negative_passages": passages[:2]}
    row |= {"negative_passage_guide_scores": [0.9, 0.1], "positive_passage_guide_scores": [0.5]}
    path = save(row | {"negative_passages": [passages[3] | {"source": "synthetic"}, passages[1]]})
    chosen = selection.parse("filters: [{filter: max_score, at: 0.2}]\nexempt: [synthetic]")
    done = relabel.filter_negatives(path, tmp_path / "out.jsonl", chosen)
    assert [each["docid"] for each in rows(done.output)[0]["negative_passages"]] == ["3", "1"]
    done = relabel.filter_negatives(save(row), tmp_path / "out.jsonl", selection.parse("filters: [guide_model]"))
    assert [each["docid"] for each in rows(done.output)[0]["negative_passages"]] == ["1"]
    assert rows(done.output)[0]["negative_passage_guide_scores"] == [0.1]


@pytest.mark.usefixtures("no_model")
def test_synthetic_negatives_are_passed_over(save: Save, tmp_path: Path) -> None:
    """Rules by score and rank neither remove nor count a synthetic negative, however it is known; copies go."""
    row = {
        "query": "q",
        "positive_passages": [{"docid": "p", "title": "", "text": "known", "score": 0.9}],
        "negative_passages": [
            {"docid": "a", "title": "", "text": "marked", "score": 0.99, "synthetic": {"recipe": "r"}},
            {"docid": "synthetic-0123", "title": "", "text": "by its id", "score": 0.98},
            {"docid": "synthetic-4567", "title": "", "text": "Known.", "score": 0.97},
            {"docid": "b", "title": "", "text": "mined, near", "score": 0.89},
            {"docid": "c", "title": "", "text": "mined, far", "score": 0.2},
            {"docid": "d", "title": "", "text": "mined, farther", "score": 0.1},
        ],
    }
    done = relabel.filter_negatives(save(row), tmp_path / "out.jsonl", relative_margin=0.05, range_max=1)
    (left,) = rows(done.output)
    assert [each["docid"] for each in left["negative_passages"]] == ["a", "synthetic-0123", "c"]
    assert done.spared == {"relative_margin": 2, "rank_window": 2}
    assert {name: number for name, number in done.removed.items() if number} == {
        "copy_of_positive": 1, "relative_margin": 1, "rank_window": 1,
    }  # fmt: skip
    listed = CAT | {"neg_sources": ["mined", "mined", "synthetic", "mined"]}
    done = relabel.filter_negatives(save(listed), tmp_path / "listed.jsonl", relative_margin=0.05)
    assert rows(done.output)[0]["neg"] == ["a dog barks", "cats are felines", "the moon"]


@pytest.mark.usefixtures("no_model")
def test_positives_of_other_rows(save: Save, tmp_path: Path) -> None:
    """The same query's are always removed, other queries' where that is asked for."""
    path = save(
        {"query": "What is a cat?", "pos": ["a feline"], "neg": ["a pet", "a bone"]},
        {"query": "what is a cat", "pos": ["A pet."], "neg": ["a stone"]},
        {"query": "what do dogs eat", "pos": ["A bone"], "neg": ["a feline", "a stone"]},
    )
    done = relabel.filter_negatives(path, tmp_path / "out.jsonl")
    assert [row["neg"] for row in rows(done.output)] == [["a bone"], ["a stone"], ["a feline", "a stone"]]
    assert done.scores == "none needed"
    done = relabel.filter_negatives(path, tmp_path / "out.jsonl", selection.parse("filters: [cross_row_positive]"))
    assert [row["neg"] for row in rows(done.output)] == [[], ["a stone"], ["a stone"]]
    assert (done.removed["sibling_positive"], done.removed["cross_row_positive"], done.emptied) == (1, 2, 1)


@pytest.mark.usefixtures("no_model")
def test_an_inconsistent_row_goes_whole(save: Save, tmp_path: Path) -> None:
    """The ledger keeps the row."""
    chosen = selection.parse("filters: [{filter: consistency, top_k: 1}]")
    done = relabel.filter_negatives(save(CAT, DOG | {"pos_scores": [0.2, 0.1]}), tmp_path / "out.jsonl", chosen)
    assert (done.rows, done.written, done.gone, done.negatives, done.kept) == (2, 1, 1, 7, 3)
    assert sum(done.removed.values()) == 4
    (change,) = [line for line in rows(done.ledger) if line["action"] == "remove"]
    assert change["row"]["query"] == DOG["query"]
    assert (change["stage"], change["why"]) == ("consistency", "the positive is at rank 2")


@pytest.mark.usefixtures("no_model")
def test_triplets_lose_rows_and_know_no_ranks(save: Save, tmp_path: Path) -> None:
    """A triplet without its negative is no row; a window or a number of negatives says nothing about them."""
    path = save(
        {"anchor": "q", "positive": "a cat", "negative": "A cat."},
        {"anchor": "q", "positive": "a cat", "negative": "a dog"},
    )
    done = relabel.filter_negatives(path, tmp_path / "out.jsonl")
    assert [row["negative"] for row in rows(done.output)] == ["a dog"]
    assert done.gone == 1
    wrong: list[Row] = [{"range_max": 5}, {"range_min": 1}, {"num_negatives": 2}]
    for options in wrong:
        with pytest.raises(SettingsError, match="one negative"):
            relabel.filter_negatives(path, tmp_path / "no.jsonl", **options)
    assert not (tmp_path / "no.jsonl").exists()


@pytest.mark.usefixtures("no_model")
def test_a_csv_whose_rows_all_go_keeps_its_columns(tmp_path: Path) -> None:
    """Header and nothing else."""
    path = tmp_path / "in.csv"
    path.write_text("anchor,positive,negative\nq,a cat,A cat.\n", "utf-8")
    done = relabel.filter_negatives(path, tmp_path / "out.csv")
    assert done.output.read_text("utf-8") == "anchor,positive,negative\n"


@pytest.mark.usefixtures("no_model")
def test_n_tuples_and_dpr_bring_their_scores(save: Save, tmp_path: Path) -> None:
    """The list that sentence-transformers writes, and the score inside a context; Parquet keeps its schema."""
    row: Row = {"anchor": "q", "positive": "p", "negative_1": "a", "negative_2": "b", "score": [0.9, 0.8, 0.1]}
    path = tmp_path / "in.parquet"
    relabel.convert(save(row), path, to="n-tuples")
    done = relabel.filter_negatives(save(row), tmp_path / "out.jsonl", relative_margin=0.5)
    assert rows(done.output) == [row | {"negative_1": "b", "score": [0.9, 0.1, 0.1]}]
    done = relabel.filter_negatives(path, tmp_path / "out.parquet", relative_margin=0.5)
    assert [[each.text for each in example.negatives] for example in relabel.read(done.output)] == [["b", "b"]]
    contexts = [{"title": "", "text": text, "score": score} for text, score in (("p", 9.0), ("a", 8.9), ("b", -3.0))]
    dpr: Row = {
        "question": "q", "answers": [], "positive_ctxs": contexts[:1], "negative_ctxs": [],
        "hard_negative_ctxs": contexts[1:],
    }  # fmt: skip
    done = relabel.filter_negatives(save(dpr), tmp_path / "out.jsonl", absolute_margin=0.5)
    assert rows(done.output) == [dpr | {"hard_negative_ctxs": contexts[2:]}]


@pytest.mark.usefixtures("no_model")
def test_bad_rows_are_counted_and_scores_that_are_none_unknown(save: Save, tmp_path: Path) -> None:
    """NaN, text, truth values and numbers beyond all measure are no scores."""
    odd = CAT | {"neg_scores": [float("nan"), "0.99", True, 10**400]}
    done = relabel.filter_negatives(save(odd, "{broken", DOG), tmp_path / "out.jsonl", on_error="skip", max_score=-9.0)
    assert (done.rejected, done.rows) == (1, 2)
    assert rows(done.output)[0]["neg"] == CAT["neg"][1:]
    assert done.silent == {"max_score": 4}


@pytest.mark.usefixtures("no_model")
def test_what_cannot_be_is_said_at_once(save: Save, tmp_path: Path) -> None:
    """Input as output, config and options together; nothing is written."""
    path = save(CAT)
    with pytest.raises(InputError, match="is the input itself"):
        relabel.filter_negatives(path, path)
    with pytest.raises(SettingsError, match="a config and max_score"):
        relabel.filter_negatives(path, tmp_path / "out.jsonl", tmp_path / "x.yaml", max_score=1.0)
    assert rows(path) == [CAT]
    assert not (tmp_path / "out.jsonl").exists()


SCORE = st.none() | st.floats(-1, 1)
NEGATIVE = st.tuples(st.sampled_from(["a cat", "A cat!", "a dog", "a bird", "", "dogs"]), SCORE)


@st.composite
def files(draw: st.DrawFn) -> list[Row]:
    """Draw rows in BGE's form."""
    found = []
    for query in draw(st.lists(st.sampled_from(["one", "two", "One?"]), min_size=1, max_size=4)):
        negatives = draw(st.lists(NEGATIVE, max_size=5))
        found.append({
            "query": query, "pos": [draw(st.sampled_from(["a cat", "dogs", "x"]))],
            "neg": [text for text, _ in negatives], "neg_scores": [score for _, score in negatives],
            "pos_scores": [draw(SCORE)],
        })  # fmt: skip
    return found


@given(files(), st.sampled_from([None, 0.2]), st.sampled_from([None, 1, 2]), st.booleans())
@settings(suppress_health_check=[HealthCheck.function_scoped_fixture], max_examples=40, deadline=None)
def test_the_ledger_rebuilds_the_input(
    tmp_path: Path, content: list[Row], margin: float | None, number: int | None, consistent: bool
) -> None:
    """Output and ledger give the input's rows back; the counts add up; the same again is the same to the byte."""
    path = tmp_path / "in.jsonl"
    path.write_text("".join(json.dumps(row) + "\n" for row in content), "utf-8")
    text = "filters:\n" + ("- {filter: consistency, top_k: 1}\n" if consistent else "- repeated\n")
    text += f"- {{filter: relative_margin, margin: {margin}}}\n" if margin else ""
    text += f"num_negatives: {number}\nsampling: random\n" if number and max(len(r["neg"]) for r in content) > 1 else ""
    try:
        done = relabel.filter_negatives(path, tmp_path / "out.jsonl", selection.parse(text))
    except SettingsError:
        assert max(len(row["neg"]) for row in content) <= 1
        return
    assert done.negatives == done.kept + sum(done.removed.values()) == sum(len(row["neg"]) for row in content)
    assert done.rows == done.written + done.gone == len(content)
    first = done.output.read_bytes(), done.ledger.read_bytes()
    relabel.filter_negatives(path, tmp_path / "out.jsonl", selection.parse(text))
    assert (done.output.read_bytes(), done.ledger.read_bytes()) == first
    bge = get_format("bge")
    written = iter(relabel.read(done.output, format="bge")) if done.written else iter(())
    changes = {
        line["position"]: [each for each in _changes(tmp_path, done.ledger) if each.position == line["position"]]
        for line in rows(done.ledger)
    }
    for position, row in enumerate(content):
        mine = changes.get(position, [])
        if mine and mine[0].action == "remove":
            assert mine[0].row == row
        else:
            whole = undo(next(written), mine, lambda change: bge.passage(change.item, change.beside))
            assert bge.render(whole) == [row]


def _changes(folder: Path, ledger: Path) -> list[relabel.Change]:
    ledger.replace(folder / "changes.jsonl")
    try:
        return list(changes_of(folder))
    finally:
        (folder / "changes.jsonl").replace(ledger)


@pytest.mark.embedding
def test_without_scores_the_packaged_model_makes_them(save: Save, tmp_path: Path) -> None:
    """A paraphrase of the positive is nearer to the query than 95 % of it; the vectors are kept beside the output."""
    row = {
        "query": "how long do cats live",
        "pos": ["Domestic cats usually live for twelve to fifteen years."],
        "neg": ["Cats usually live for twelve to fifteen years.", "The moon is made of rock.", "Cats eat fish."],
    }
    done = relabel.filter_negatives(save(row), tmp_path / "out.jsonl", relative_margin=0.05)
    assert rows(done.output)[0]["neg"] == row["neg"][1:]
    assert done.scores == "all-MiniLM-L6-v2"
    assert (tmp_path / "out.jsonl.cache").is_dir()
    near = selection.parse("filters: [{filter: near_duplicate, overlap: null, similarity: 0.8}]")
    assert rows(relabel.filter_negatives(save(row), tmp_path / "out.jsonl", near).output)[0]["neg"] == row["neg"][1:]
    done = relabel.filter_negatives(
        save(row | {"neg_scores": [0, 9, 9], "pos_scores": [5]}),
        tmp_path / "out.jsonl",
        relative_margin=0.05,
        model="all-MiniLM-L6-v2",
    )
    assert rows(done.output)[0]["neg"] == row["neg"][1:]


def test_the_command(save: Save, tmp_path: Path) -> None:
    """One line in; what each filter removed, sums that add up and the files out. A wrong option is one message."""
    path, output = save(CAT, DOG), tmp_path / "out.jsonl"
    command = [sys.executable, "-m", "relabel", "filter", str(path), "-o", str(output), "--relative-margin", ".05"]
    done = subprocess.run(command, capture_output=True, text=True, check=False, timeout=120)
    assert (done.returncode, done.stderr) == (0, "")
    assert "negatives 7 in = 4 kept + 3 removed" in done.stdout
    assert "relative_margin" in done.stdout
    command += ["--sampling-strategy", "rank_bands", "--num-negatives", "2"]
    done = subprocess.run(command, capture_output=True, text=True, check=False, timeout=120)
    assert done.returncode == 2
    assert "it has settings: write it in a file" in done.stderr


# -- settings -----------------------------------------------------------------------------------------------


def test_options_mean_what_they_mean_in_sentence_transformers() -> None:
    """Scores first, the window last, copies of positives before all; the lowest positive counts."""
    found = selection.from_options(
        range_min=2, range_max=9, max_score=0.8, min_score=0.1, relative_margin=0.05, num_negatives=4
    )
    assert found.filters == (*POSITIVES, RelativeMargin(0.05, "min"), MaxScore(0.8), MinScore(0.1), RankWindow(2, 9))
    assert (found.sampler, found.num_negatives, found.seed) == (Top(), 4, 0)


def test_a_file_says_all_there_is() -> None:
    """Short forms, settings of filters and samplers, lists of bands; what removes positives stays where it stands."""
    found = selection.parse(
        "filters:\n"
        "  - {filter: consistency, top_k: 3, floor: 0.4}\n"
        "  - cross_row_positive\n"
        "  - repeated\n"
        "sampling:\n"
        "  strategy: rank_bands\n"
        "  bands: [{first: 10, last: 20, share: 2}, {first: 21}]\n"
        "  gap: 5\n"
        "num_negatives: 7\n"
        "seed: 3\n"
        "exempt: [synthetic]\n"
    )
    assert found.filters == (*POSITIVES[:2], Consistency(3, 0.4), CrossRowPositive(), POSITIVES[2])
    assert found.sampler == RankBands((Band(10, 20, 2), Band(21)), 5)
    assert (found.num_negatives, found.seed, found.exempt) == (7, 3, frozenset({"synthetic"}))
    assert selection.parse("sampling: {strategy: simans, b: -1}\nnum_negatives: 2").sampler == SimANS(b=-1)
    assert selection.parse("").filters == POSITIVES


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("filters:\n  - filter: relative_margin", "f.yaml, line 2: filters.0.margin: Field required"),
        ("filters:\n  - repeated\n  - {filter: max_score, at: 1, to: 2}", "line 3: filters.1.to: there is no such"),
        ("filters:\n  - {filter: rank_window, range_min: 5, range_max: 3}", "line 2: filters.0: range_max 3 must"),
        ("filters: [{filter: relativ_margin}]", "line 1: filters.0: Input tag 'relativ_margin'"),
        ("num_negatives: 0", "line 1: num_negatives: Input should be greater"),
        ("sampling: random", "sampling by random takes num_negatives"),
        ("sampling: {strategy: rank_bands, bands: [{first: 0}]}", "holds no rank"),
        ("- a", "line 1: fields are expected, {name: value, …}"),
        ("a: [", "not YAML"),
        ("filter: 1", "there is no such field here"),
    ],
)
def test_a_mistake_in_a_file_has_its_line(text: str, words: str) -> None:
    """Every problem with file, line and field."""
    with pytest.raises(SettingsError) as error:
        selection.parse(text, "f.yaml")
    assert words in str(error.value)


@pytest.mark.parametrize(
    ("options", "words"),
    [
        ({"positive": "median"}, "median"),
        ({"sampling_strategy": "best", "num_negatives": 2}, "one of: top, random"),
        ({"sampling_strategy": "random"}, "takes num_negatives"),
        ({"num_negatives": 0}, "num_negatives is 0"),
        ({"range_min": 5, "range_max": 5}, "range_max 5 must be above"),
        ({"relative_margin": float("nan")}, "margin is nan"),
    ],
)
def test_a_mistake_in_the_options_is_said(options: dict[str, Any], words: str) -> None:
    """One message that names it."""
    with pytest.raises(SettingsError) as error:
        selection.from_options(**options)
    assert words in str(error.value)


def test_a_file_that_is_not_there(tmp_path: Path) -> None:
    """Its name, and what to type."""
    with pytest.raises(SettingsError, match=r"cannot read .*none\.yaml"):
        selection.load(tmp_path / "none.yaml")


def test_filters_are_measured_against_what_people_know(tmp_path: Path) -> None:
    """With gold labels each filter is a detector of false negatives: found, lost and precision."""
    rows = [
        {
            "query_id": "q1",
            "query": "a question",
            "positive_passages": [{"docid": "p", "title": "", "text": "the answer", "score": 0.8}],
            "negative_passages": [
                {"docid": name, "title": "", "text": f"passage {name}", "score": score}
                for name, score in (("a", 0.9), ("b", 0.85), ("c", 0.7), ("d", 0.6), ("e", 0.95), ("f", 0.96))
            ],
        }
    ]
    path, gold = tmp_path / "train.jsonl", tmp_path / "gold.qrels"
    path.write_text("".join(json.dumps(row) + "\n" for row in rows), "utf-8")
    gold.write_text("q1 0 a 2\nq1 0 b 0\nq1 0 c 3\nq1 0 d 0\nq1 0 e 1\n", "utf-8")
    done = relabel.filter_negatives(path, tmp_path / "out.jsonl", absolute_margin=0.0, gold=gold, threshold=2)
    margin = next(each for each in done.detection if each.filter == "absolute_margin")
    # a is found, b is lost; c is missed; e lies between 0 and the threshold, f was never judged
    assert (margin.relevant, margin.irrelevant, margin.caught, margin.lost) == (2, 2, 1, 1)
    assert (margin.precision.value, margin.recall.value, margin.f1.value) == (0.5, 0.5, 0.5)
    assert relabel.filter_negatives(path, tmp_path / "out.jsonl", absolute_margin=0.0).detection == ()
