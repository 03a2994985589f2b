"""Collections as training rows, and back: what `relabel convert` reads besides training files."""

import json
import os
import subprocess
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import relabel
from relabel.errors import InputError, RowError, SettingsError
from relabel.formats import EXPORTS, FORMATS, open_writer, read_examples
from relabel.formats.corpora import is_collection
from relabel.records import Example, Passage

DOCUMENTS = [
    {"_id": "a", "title": "", "text": "apple"},
    {"_id": "b", "title": "Berries", "text": "berry"},
    {"_id": "c", "title": "", "text": "cherry"},
    {"_id": "d", "title": "", "text": "date"},
]
QUERIES = [{"_id": "p", "text": "red?"}, {"_id": "q", "text": "blue?"}, {"_id": "r", "text": "round?"}]
LABELS = "query-id\tcorpus-id\tscore\np\ta\t2\np\tc\t0\np\tb\t1\nq\tb\t1\n"


def lines(path: Path, rows: Sequence[Mapping[str, Any]]) -> Path:
    """Write rows as JSON lines."""
    return text(path, "".join(json.dumps(row) + "\n" for row in rows))


def text(path: Path, content: str) -> Path:
    """Write a file with the folders above it."""
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(content, "utf-8", newline="")
    return path


def beir(folder: Path) -> Path:
    """Write a BEIR folder with graded labels: one passage is judged not relevant, one is not judged."""
    lines(folder / "corpus.jsonl", DOCUMENTS)
    lines(folder / "queries.jsonl", QUERIES)
    text(folder / "qrels" / "train.tsv", LABELS)
    text(folder / "qrels" / "test.tsv", "query-id\tcorpus-id\tscore\nr\td\t1\n")
    return folder


Row = tuple[str, str, list[str], list[str]]
"""Query id, query, ids of positives and of negatives."""


def rows_of(path: Path) -> list[Row]:
    """Read a training file."""
    return [
        (each.id, each.query, [one.id for one in each.positives], [one.id for one in each.negatives])
        for each in read_examples(path)
    ]


def converted(source: Path | str, path: Path, **options: Any) -> list[Row]:
    """Convert to rows, and read them."""
    relabel.convert(source, path, to="tevatron", **options)
    return rows_of(path)


# ---------------------------------------------------------------------------------------------------- round trips

_SIGNS = st.characters(exclude_categories=["Cs"], exclude_characters="\r\n")
_IDS = st.one_of(
    st.sampled_from(["1", "2", "007", 'a"b', '"a"', "tab\there", " a", "text"]), st.text(_SIGNS, min_size=1, max_size=6)
)
_TEXTS = st.text(_SIGNS | st.just("\n"), min_size=1, max_size=12).filter(lambda text: not text.isspace())
_PASSAGES = st.builds(Passage, _IDS, _TEXTS, st.one_of(st.just(""), _TEXTS))


@st.composite
def _examples(draw: st.DrawFn) -> list[Example]:
    """Draw examples whose ids stand for one text each; texts may be equal, and passages shared."""
    pool = draw(st.lists(_PASSAGES, min_size=1, max_size=8, unique_by=lambda each: each.id))
    names = draw(st.lists(_IDS, max_size=5, unique=True))
    examples = []
    for name in names:
        mine = draw(st.permutations(pool))
        cut, end = draw(st.integers(1, len(mine))), draw(st.integers(1, len(mine)))
        examples.append(Example(name, draw(_TEXTS), tuple(mine[:cut]), tuple(mine[cut:end])))
    return examples


@pytest.mark.parametrize("name", list(EXPORTS))
@given(examples=_examples())
@settings(max_examples=25, deadline=None)
def test_rows_to_files_and_back(name: str, examples: list[Example]) -> None:
    """Whatever the ids and texts: queries, passages, their labels and their order come back.

    Titles come back from BEIR, and in front of the text from the others; negatives not from LlamaIndex.
    """
    with TemporaryDirectory() as made:
        folder = Path(made)
        with open_writer(folder / "in.jsonl", FORMATS["tevatron"]) as writer:
            for each in examples:
                writer.write(each)
        if not examples:
            return
        between = folder / ("out.json" if name == "llama-index" else "out")
        relabel.convert(folder / "in.jsonl", between, to=name)
        relabel.convert(between, folder / "back.jsonl", to="tevatron")
        back = list(read_examples(folder / "back.jsonl"))

    def seen(passages: Sequence[Passage]) -> list[tuple[str, str, str]]:
        if name == "beir":
            return [(each.id, each.title, each.text) for each in passages]
        return [(each.id, "", each.full_text) for each in passages]

    def kept(passages: Sequence[Passage]) -> list[tuple[str, str, str]]:
        return [(each.id, each.title, each.text) for each in passages]

    wanted = [
        (each.id, each.query, seen(each.positives), seen(each.negatives) if name != "llama-index" else [])
        for each in examples
    ]
    assert [(each.id, each.query, kept(each.positives), kept(each.negatives)) for each in back] == wanted


# ------------------------------------------------------------------------------------------------------ what is kept


def test_a_beir_folder_becomes_rows(tmp_path: Path) -> None:
    """Queries with a positive, negatives that were judged so, titles; other passages are no part of the rows."""
    relabel.convert(beir(tmp_path / "in"), tmp_path / "out.jsonl", to="tevatron")
    first, second = (json.loads(line) for line in (tmp_path / "out.jsonl").read_text("utf-8").splitlines())
    assert first == {
        "query": "red?",
        "positive_passages": [
            {"docid": "a", "title": "", "text": "apple"},
            {"docid": "b", "title": "Berries", "text": "berry"},
        ],
        "negative_passages": [{"docid": "c", "title": "", "text": "cherry"}],
        "query_id": "p",
    }
    assert (second["query_id"], second["negative_passages"]) == ("q", [])


def test_split_and_threshold(tmp_path: Path) -> None:
    """Judgments of another split; with a threshold, what is below it and above 0 is on neither side."""
    source = beir(tmp_path / "in")
    assert converted(source, tmp_path / "out.jsonl", split="test") == [("r", "round?", ["d"], [])]
    assert converted(source, tmp_path / "out.jsonl", threshold=2) == [("p", "red?", ["a"], ["c"])]
    with pytest.raises(InputError, match="no split 'dev'; there is: test, train"):
        relabel.convert(source, tmp_path / "none.jsonl", to="bge", split="dev")
    with pytest.raises(InputError, match="--threshold 0"):
        relabel.convert(source, tmp_path / "none.jsonl", to="bge", threshold=0)


def test_parts_from_several_files(tmp_path: Path) -> None:
    """Rows of ids need their corpus; a collection, queries and qrels may be files between tabs."""
    ids = {"query_id": "p", "query_text": "red?", "positive_document_ids": ["b"], "negative_document_ids": ["d", "a"]}
    rows = lines(tmp_path / "train.jsonl", [ids])
    corpus = lines(tmp_path / "corpus.jsonl", DOCUMENTS)
    assert converted(rows, tmp_path / "out.jsonl", corpus=corpus) == [("p", "red?", ["b"], ["d", "a"])]
    with pytest.raises(InputError, match="there are no passages\n  Name a source that has them, or a file: --corpus"):
        relabel.convert(rows, tmp_path / "none.jsonl", to="bge")
    collection = text(tmp_path / "collection.tsv", "1\tone\n2\ttwo\n")
    parts: dict[str, Any] = {
        "queries": text(tmp_path / "q.tsv", "7\twhich?\n"),
        "qrels": text(tmp_path / "r.txt", "7 0 2 1\n7 0 1 0\n"),
    }
    assert converted(collection, tmp_path / "out.jsonl", **parts) == [("7", "which?", ["2"], ["1"])]
    with pytest.raises(SettingsError, match="--format is of a training file, --queries of a collection"):
        relabel.convert(collection, tmp_path / "none.jsonl", to="bge", format="bge", **parts)


def test_scores_come_along(tmp_path: Path) -> None:
    """Those of negatives, and null for one without; the order is the file's, not that of the scores."""
    lines(tmp_path / "wiki" / "part.jsonl", [{"id": each["_id"], "text": each["text"]} for each in DOCUMENTS])
    text(tmp_path / "wiki" / "merlin_metadata.json", '{"class": "TextQADataset", "corpus_id": "wiki"}')
    row = {"question_id": "p", "question": "red?", "corpus_id": "wiki", "pos_doc": [{"id": "a", "score": 0.9}]}
    row["neg_doc"] = [{"id": "b", "score": 0.25}, {"id": "c"}, {"id": "d", "score": 0.5}]
    source = text(tmp_path / "train.json", json.dumps({"corpus": {"path": "wiki"}, "data": [row]}))
    relabel.convert(source, tmp_path / "out.jsonl", to="bge")
    (made,) = (json.loads(line) for line in (tmp_path / "out.jsonl").read_text("utf-8").splitlines())
    assert made == {
        "query": "red?", "pos": ["apple"], "neg": ["berry", "cherry", "date"], "neg_scores": [0.25, None, 0.5],
        "pos_id": ["a"], "neg_id": ["b", "c", "d"], "query_id": "p",
    }  # fmt: skip


@pytest.mark.parametrize("name", list(EXPORTS))
def test_a_set_of_files_gets_the_whole_corpus(tmp_path: Path, name: str) -> None:
    """Passages that no query names are there too, in the order of the source: they can be mined from."""
    path = tmp_path / ("out.json" if name == "llama-index" else "out")
    relabel.convert(beir(tmp_path / "in"), path, to=name)
    relabel.convert(path, tmp_path / "again", to="beir")
    corpus = [json.loads(line) for line in (tmp_path / "again" / "corpus.jsonl").read_text("utf-8").splitlines()]
    assert [each["_id"] for each in corpus] == ["a", "b", "c", "d"]


def test_equal_texts_keep_their_ids(tmp_path: Path) -> None:
    """What mining takes for one passage or query stays two; one id is one query, with the negatives of all its rows."""
    rows = [
        {"query_id": "p", "query_text": "red?", "positive_document_ids": ["a"], "negative_document_ids": ["b"]},
        {"query_id": "q", "query_text": "red?", "positive_document_ids": ["a2"], "negative_document_ids": ["a", "b"]},
        {"query_id": "p", "query_text": "red?", "positive_document_ids": ["a"], "negative_document_ids": ["c", "a"]},
    ]
    lines(tmp_path / "in" / "train.jsonl", rows)
    lines(tmp_path / "in" / "corpus.jsonl", [*DOCUMENTS, {"_id": "a2", "text": "apple"}])
    assert converted(tmp_path / "in", tmp_path / "out.jsonl") == [
        ("p", "red?", ["a"], ["b", "c", "a"]),
        ("q", "red?", ["a2"], ["a", "b"]),
    ]


def test_flat_rows_get_no_column_of_ids(tmp_path: Path) -> None:
    """Sentence-transformers trains on every column; queries without negatives make no such row."""
    done = relabel.convert(beir(tmp_path / "in"), tmp_path / "out.jsonl", to="n-tuples")
    rows = [json.loads(line) for line in (tmp_path / "out.jsonl").read_text("utf-8").splitlines()]
    assert rows == [
        {"anchor": "red?", "positive": positive, "negative_1": "cherry"} for positive in ("apple", "Berries berry")
    ]
    assert (done.examples, done.rows) == (2, 2)


# --------------------------------------------------------------------------------------------- what is a collection


@pytest.mark.parametrize(
    ("name", "content", "wanted"),
    [
        ("rows.jsonl", '{"query": "q", "pos": ["a"], "neg": ["b"]}\n', False),
        ("rows.txt", '{"query": "q", "pos": ["a"], "neg": ["b"]}\n', False),
        ("rows", '{"query": "q", "pos": ["a"], "neg": ["b"]}\n', False),
        ("rows.json", '[{"query": "q", "pos": ["a"], "neg": ["b"]}]', False),
        ("rows.json", '{"query": "q", "pos": ["a"], "neg": ["b"]}\n', False),
        ("rows.csv", "anchor,positive,negative\nq,a,b\n", False),
        ("empty.jsonl", "", False),
        ("broken.json", '{"a', False),
        ("ids.jsonl", '{"query_id": "p", "query_text": "q", "positive_document_ids": ["a"]}\n', True),
        ("set.json", '{"queries": {"q": "?"}, "corpus": {}, "relevant_docs": {}}', True),
        ("nemo.json", '{"corpus": {"path": "c"}, "data": [{}]}', True),
        ("collection.tsv", "1\tone\n", True),
    ],
)
def test_what_is_a_collection(tmp_path: Path, name: str, content: str, wanted: bool) -> None:
    """Anything but rows of texts to train on, whatever the file is called."""
    assert is_collection(text(tmp_path / name, content)) is wanted


def test_names_that_are_no_files(tmp_path: Path) -> None:
    """Data sets by name and folders are collections; a folder saved by `datasets` is by its rows; nothing is none."""
    from datasets import Dataset

    assert is_collection("hf:org/name")
    assert is_collection("irds:beir/scifact")
    assert is_collection(tmp_path)
    assert not is_collection(tmp_path / "none")
    Dataset.from_list([{"query": "q", "pos": ["a"], "neg": ["b"]}]).save_to_disk(tmp_path / "rows")
    assert not is_collection(tmp_path / "rows")


# -------------------------------------------------------------------------------------------------- what goes wrong


def test_bad_rows_stop_or_are_listed(tmp_path: Path) -> None:
    """Each with its file and line; nothing is left of a conversion that stopped."""
    source = beir(tmp_path / "in")
    with (source / "corpus.jsonl").open("a", encoding="utf-8") as file:
        file.write('{"_id": "e"}\n')
    with pytest.raises(RowError, match=r"corpus\.jsonl, line 5: field 'text': is missing"):
        relabel.convert(source, tmp_path / "out.jsonl", to="bge")
    assert [each.name for each in tmp_path.iterdir()] == ["in"]
    done = relabel.convert(source, tmp_path / "out.jsonl", to="bge", on_error="skip")
    assert [each.split("corpus.jsonl, ")[1] for each in done.rejected] == [
        "line 5: field 'text': is missing; the row holds '_id'"
    ]
    assert sorted(each.name for each in tmp_path.iterdir()) == ["in", "out.jsonl"]


@pytest.mark.parametrize("output", ["in", "in/corpus.jsonl", "in/qrels", "."])
def test_the_input_is_not_written_over(tmp_path: Path, output: str) -> None:
    """Neither the folder, nor what stands in it, nor what holds it."""
    source = beir(tmp_path / "in")
    with pytest.raises(InputError, match=r"is the input itself, or holds it|is a part of the input"):
        relabel.convert(source, tmp_path / output, to="beir")
    assert (source / "corpus.jsonl").read_text("utf-8").count("\n") == 4


def test_a_place_that_cannot_be_written(tmp_path: Path) -> None:
    """The error names the output."""
    with pytest.raises(InputError, match=r"none/out\.jsonl: cannot be written: No such file"):
        relabel.convert(beir(tmp_path / "in"), tmp_path / "none" / "out.jsonl", to="bge")


def typed(*arguments: Any, **environment: str) -> subprocess.CompletedProcess[str]:
    """Run the command."""
    return subprocess.run(
        [sys.executable, "-m", "relabel", *map(str, arguments)],
        capture_output=True, text=True, check=False, env=os.environ | {"COLUMNS": "200"} | environment,
    )  # fmt: skip


def test_the_command_says_what_it_read_and_left_out(tmp_path: Path) -> None:
    """What the collection holds, ids that are unknown, rows rejected and written."""
    source = beir(tmp_path / "in")
    with (source / "qrels" / "train.tsv").open("a", encoding="utf-8") as file:
        file.write("p\tnobody\t1\nq\ta\tgood\n")
    done = typed("convert", source, tmp_path / "out.jsonl", "--to", "bge", "--on-error", "skip")
    assert done.returncode == 0, done.stderr
    assert done.stdout.splitlines() == [
        "corpus    4 passages; 2 queries, 3 positives",
        "          1 queries without a positive (left out)",
        "          1 rows that could not be read",
        "          1 judgments of passages that are not there: 'nobody'",
        f"2 examples read, 1 rows rejected, 2 rows written: {tmp_path / 'out.jsonl'}",
    ]
    assert "train.tsv, line 7: field 'score': is 'good', not a whole number" in done.stderr
    done = typed("convert", source, tmp_path / "out.jsonl", "--to", "n-tuples", "--split", "test")
    assert done.stdout.splitlines()[-1] == (
        f"n-tuples has no rows without negatives; to find some, type: relabel mine {source}"
    )
    done = typed("convert", tmp_path / "nothing", tmp_path / "out.jsonl", "--to", "bge")
    assert (done.returncode, "there is no such file" in done.stderr) == (2, True)
