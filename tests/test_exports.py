"""Collections that are written, each read back by its own loader's rules; and saved data sets."""

import csv
import json
import re
import tracemalloc
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import pyarrow.parquet as pq
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import relabel
from relabel.errors import InputError
from relabel.formats import EXPORTS, FORMATS, open_writer, read_examples
from relabel.records import Example, Passage

FOLDERS = ["tevatron-v2", "automodel", "beir"]


def example(name: str, query: str, positives: Sequence[Passage], negatives: Sequence[Passage] = ()) -> Example:
    """Make an example as mining makes it."""
    return Example(name, query, tuple(positives), tuple(negatives))


def write(path: Path, name: str, examples: Iterable[Example]) -> tuple[int, int]:
    """Write examples; return rows and renamed ids."""
    with open_writer(path, EXPORTS[name]) as writer:
        return sum([writer.write(each) for each in examples]), writer.renamed


def lines_of(path: Path) -> list[dict[str, Any]]:
    """Read a file of JSON lines; a line ends at its newline and nowhere else."""
    return [json.loads(line) for line in path.read_bytes().decode().split("\n")[:-1]]


def beir_labels(folder: Path) -> dict[str, dict[str, int]]:
    """Read the labels as BEIR's loader does."""
    with (folder / "qrels" / "train.tsv").open(encoding="utf-8") as file:
        rows = csv.reader(file, delimiter="\t", quoting=csv.QUOTE_MINIMAL)
        next(rows)
        labels: dict[str, dict[str, int]] = {}
        for query, passage, score in rows:
            labels.setdefault(query, {})[passage] = int(score)
    return labels


def automodel(path: Path) -> tuple[list[dict[str, Any]], Path]:
    """Read Automodel's file, and where its one corpus lies, with the checks that its loader makes."""
    told = json.loads(path.read_text("utf-8"))
    (corpus,) = told["corpus"]
    folder = path.parent / corpus["path"]
    metadata = json.loads((folder / "merlin_metadata.json").read_text("utf-8"))
    assert metadata["class"] == "TextQADataset"
    for item in told["data"]:
        assert {"question_id", "question", "corpus_id", "pos_doc", "neg_doc"} <= set(item)
        assert item["corpus_id"] == metadata["corpus_id"]
        assert item["pos_doc"]
    return told["data"], folder


Key = tuple[str, str, str]


def key(passage: Passage) -> Key:
    """Return what tells passages apart."""
    return passage.id, passage.title, passage.text


Rows = list[tuple[str, str, list[str], list[str]]]
"""Query id, query, ids of positives and of negatives."""


def read_back(name: str, path: Path) -> tuple[dict[str, str], Rows]:
    """Return the corpus (full text by id) and the rows of a written folder."""
    if name == "tevatron-v2":
        corpus = {row["docid"]: row["text"] for row in lines_of(path / "corpus.jsonl")}
        fields = ("query_id", "query_text", "positive_document_ids", "negative_document_ids")
        return corpus, [tuple(row[field] for field in fields) for row in lines_of(path / "train.jsonl")]
    if name == "automodel":
        data, folder = automodel(path / "train.json")
        corpus = {row["id"]: row["text"] for row in pq.read_table(folder / "train.parquet").to_pylist()}
        sides = [([doc["id"] for doc in item["pos_doc"]], [doc["id"] for doc in item["neg_doc"]]) for item in data]
        return corpus, [(item["question_id"], item["question"], *side) for item, side in zip(data, sides, strict=True)]
    texts = {
        row["_id"]: Passage(row["_id"], row["text"], row["title"]).full_text for row in lines_of(path / "corpus.jsonl")
    }
    labels = beir_labels(path)
    rows = []
    for row in lines_of(path / "queries.jsonl"):
        mine = labels[row["_id"]]
        rows.append((row["_id"], row["text"], *([key for key in mine if mine[key] == score] for score in (1, 0))))
    return texts, rows


# ------------------------------------------------------------------------------------------------ nothing is lost

_SIGNS = st.characters(exclude_categories=["Cs"], exclude_characters="\r")
_IDS = st.one_of(st.sampled_from(["1", "2", "3", 'a"b', "tab\there"]), st.text(_SIGNS, min_size=1, max_size=6))
_TEXTS = st.text(_SIGNS, min_size=1, max_size=12)
_PASSAGES = st.builds(Passage, _IDS, _TEXTS, st.one_of(st.just(""), _TEXTS))
_EXAMPLES = st.lists(
    st.builds(
        example, _IDS, _TEXTS, st.lists(_PASSAGES, min_size=1, max_size=3), st.lists(_PASSAGES, max_size=4)
    ),
    max_size=6,
)  # fmt: skip


def is_name_of(written: str, known: str) -> bool:
    """Whether a written id is the known one, or that with a digest after it."""
    return re.fullmatch(f"{re.escape(known)}(-[0-9a-f]{{12}})*", written) is not None


@pytest.mark.parametrize("name", ["tevatron-v2", "automodel"])
@given(examples=_EXAMPLES)
@settings(max_examples=60, deadline=None)
def test_every_row_survives(name: str, examples: list[Example]) -> None:
    """Whatever the ids and texts: rows, queries, passages and their labels come back in their order.

    An id is as it was, or, where it already stood for another text, has a digest after it.
    """
    with TemporaryDirectory() as folder:
        write(Path(folder) / "out", name, examples)
        corpus, rows = read_back(name, Path(folder) / "out")
    for one, (query_id, query, positives, negatives) in zip(examples, rows, strict=True):
        assert is_name_of(query_id, one.id)
        assert query == one.query
        for passages, names in ((one.positives, positives), (one.negatives, negatives)):
            for passage, written in zip(passages, names, strict=True):
                assert is_name_of(written, passage.id)
                assert corpus[written] == passage.full_text
    assert len(corpus) == len({key(each) for one in examples for each in (*one.positives, *one.negatives)})


@given(examples=_EXAMPLES)
@settings(max_examples=60, deadline=None)
def test_every_label_survives_in_beir(examples: list[Example]) -> None:
    """Each query has all its passages, with 1 for those that are positives in any of its rows."""
    with TemporaryDirectory() as folder:
        write(Path(folder) / "out", "beir", examples)
        corpus, rows = read_back("beir", Path(folder) / "out")
    expected: dict[tuple[str, str], tuple[set[Key], set[Key]]] = {}
    for one in examples:
        sides = expected.setdefault((one.id, one.query), (set(), set()))
        for side, passages in zip(sides, (one.positives, one.negatives), strict=True):
            side.update(map(key, passages))
    assert len(rows) == len(expected)
    for (known, text), (positives, negatives) in expected.items():
        ((_, _, *found),) = (row for row in rows if row[1] == text and is_name_of(row[0], known))
        for side, names in zip((positives, negatives - positives), found, strict=True):
            assert sorted(Passage("", body, title).full_text for _, title, body in side) == sorted(
                map(corpus.get, names)
            )  # type: ignore[type-var]
            assert all(any(is_name_of(written, one) for one, _, _ in side) for written in names)


@pytest.mark.parametrize("name", [*FOLDERS, "llama-index"])
def test_the_same_examples_make_the_same_bytes(name: str, tmp_path: Path) -> None:
    """Neither time nor place stands in the files; the folder's name does in Automodel's, and nowhere else."""
    examples = [example("1", "q", [Passage("a", "x", "T")], [Passage("b", "y")])]
    written = []
    for place in ("one", "two"):
        (tmp_path / place).mkdir()
        write(tmp_path / place / "out.json" if name == "llama-index" else tmp_path / place / "out", name, examples)
        files = sorted(path for path in (tmp_path / place).rglob("*") if path.is_file())
        written.append([(str(path.relative_to(tmp_path / place)), path.read_bytes()) for path in files])
    assert written[0] == written[1]


# ---------------------------------------------------------------------------------------------------- each shape


def test_beir_labels_of_a_query_in_several_rows(tmp_path: Path) -> None:
    """Query and passages stand there once, in order; what is a positive in one row is none but that."""
    a, b, c = (Passage(name, f"text {name}", "Title") for name in "abc")
    rows, _ = write(
        tmp_path / "out",
        "beir",
        [example("1", "q", [a], [b, c]), example("2", "r", [c], [a]), example("1", "q", [b], [a])],
    )
    assert rows == 2
    assert (tmp_path / "out" / "qrels" / "train.tsv").read_text("utf-8").split("\n") == [
        "query-id\tcorpus-id\tscore", "1\ta\t1", "1\tb\t1", "1\tc\t0", "2\tc\t1", "2\ta\t0", "",
    ]  # fmt: skip
    assert lines_of(tmp_path / "out" / "queries.jsonl") == [{"_id": "1", "text": "q"}, {"_id": "2", "text": "r"}]
    assert lines_of(tmp_path / "out" / "corpus.jsonl")[0] == {"_id": "a", "title": "Title", "text": "text a"}


def test_automodel_loads_as_its_loader_does(tmp_path: Path) -> None:
    """`load_dataset(corpus)["train"]` finds the passages by id; scores go along, and what is no number does not."""
    import datasets

    source = tmp_path / "in.jsonl"
    row = {"query": "q", "pos": ["p"], "neg": ["m", "n", "o"], "pos_scores": [0.9], "neg_scores": [0.5, None, 7]}
    ids = {"pos_id": ["a"], "neg_id": ["b", "c", "d"], "query_id": "1", "subset": "x"}
    source.write_text(json.dumps(row | ids) + "\n", "utf-8")
    done = relabel.convert(source, tmp_path / "wiki", to="automodel")
    assert (done.examples, done.rows, done.renamed) == (1, 1, 0)
    (item,), folder = automodel(tmp_path / "wiki" / "train.json")
    assert item == {
        "question_id": "1",
        "question": "q",
        "corpus_id": "wiki",
        "pos_doc": [{"id": "a", "score": 0.9}],
        "neg_doc": [{"id": "b", "score": 0.5}, {"id": "c"}, {"id": "d", "score": 7}],
        "subset": "x",
    }
    train = datasets.load_dataset(str(folder), cache_dir=str(tmp_path / "cache"))["train"]
    assert dict(zip(train["id"], train["text"], strict=True)) == {"a": "p", "b": "m", "c": "n", "d": "o"}


def test_automodel_takes_a_score_inside_a_passage(tmp_path: Path) -> None:
    """A passage that is an object brings its own score, unless it is not finite."""
    passages = [Passage(str(score), "t", item={"text": "t", "score": score}) for score in (0.5, float("nan"), True)]
    write(tmp_path / "out", "automodel", [example("1", "q", [Passage("p", "t")], passages)])
    (item,), _ = automodel(tmp_path / "out" / "train.json")
    assert item["neg_doc"] == [{"id": "0.5", "score": 0.5}, {"id": "nan"}, {"id": "True"}]


def test_tevatron_v2_loads_as_its_loader_does(tmp_path: Path) -> None:
    """`load_dataset("json", data_files=…)` gives the rows, and the corpus the texts under the names that are read."""
    import datasets

    one = Example("1", "q", (Passage("a", "x", "T"),), (Passage("b", "y"),), row={"answers": ["z"]})
    write(tmp_path / "out", "tevatron-v2", [one])

    def load(name: str) -> list[Any]:
        path = str(tmp_path / "out" / name)
        return list(datasets.load_dataset("json", data_files=path, split="train", cache_dir=str(tmp_path / "cache")))

    ids = {"positive_document_ids": ["a"], "negative_document_ids": ["b"]}
    assert load("train.jsonl") == [{"query_id": "1", "query_text": "q", "query_image": None, **ids, "answers": ["z"]}]
    documents = {"a": "T x", "b": "y"}
    assert load("corpus.jsonl") == [{"docid": key, "text": documents[key], "image": None} for key in documents]


def test_llama_index_is_one_object(tmp_path: Path) -> None:
    """Three tables by id and the mode, as `EmbeddingQAFinetuneDataset.from_json` reads them; rows of a query meet."""
    a, b = Passage("a", "x", "T"), Passage("b", "y")
    examples = [example("1", "q", [a], [b]), example("2", "r", [b]), example("1", "q", [b, a])]
    assert write(tmp_path / "out.json", "llama-index", examples) == (2, 0)
    assert json.loads((tmp_path / "out.json").read_text("utf-8")) == {
        "queries": {"1": "q", "2": "r"},
        "corpus": {"a": "T x", "b": "y"},
        "relevant_docs": {"1": ["a", "b"], "2": ["b"]},
        "mode": "text",
    }
    assert [each.name for each in tmp_path.iterdir()] == ["out.json"]
    with pytest.raises(InputError, match=r"ends in \.json"):
        write(tmp_path / "out", "llama-index", examples)


@pytest.mark.parametrize("name", [*FOLDERS, "llama-index"])
def test_no_example_at_all(name: str, tmp_path: Path) -> None:
    """An input of which nothing is left makes empty files of the same shape."""
    write(tmp_path / "out.json" if name == "llama-index" else tmp_path / "out", name, [])
    if name == "llama-index":
        empty: Mapping[str, Any] = {"queries": {}, "corpus": {}, "relevant_docs": {}, "mode": "text"}
        assert json.loads((tmp_path / "out.json").read_text("utf-8")) == empty
    else:
        assert read_back(name, tmp_path / "out") == ({}, [])


# --------------------------------------------------------------------------------------------------- ids and texts


@pytest.mark.parametrize("name", FOLDERS)
def test_an_id_of_two_texts(name: str, tmp_path: Path) -> None:
    """The first text has the id, each other text the id with its digest, by which it is known again."""
    examples = [
        example("1", "q", [Passage("7", "x")], [Passage("7", "y")]),
        example("1", "r", [Passage("7", "y")], [Passage("7", "x"), Passage("7", "x", "T")]),
    ]
    _, renamed = write(tmp_path / "out", name, examples)
    assert renamed == 3
    corpus, rows = read_back(name, tmp_path / "out")
    (first, _, x, y), (second, _, again, others) = rows
    assert first == "1"
    assert second.startswith("1-")
    assert x == ["7"]
    assert y == again
    assert y[0].startswith("7-")
    assert [corpus[each] for each in (*x, *y, *others)] == ["x", "y", "x", "T x"]


def test_a_renamed_id_is_told(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """`relabel convert` says how many ids were given anew, and how many rows were written."""
    from relabel import cli

    row = '{"query_id": 1, "query": "%s", "pos": ["p"], "neg": ["n"]}\n'
    (tmp_path / "in.jsonl").write_text(row % "q" + row % "r", "utf-8")
    arguments = ["convert", str(tmp_path / "in.jsonl"), str(tmp_path / "out"), "--to", "beir"]
    cli.app(arguments, standalone_mode=False)
    said = capsys.readouterr()
    assert said.err == "1 ids stood for two texts: the later text got the id with a digest after it\n"
    assert said.out == f"2 examples read, 0 rows rejected, 2 rows written: {tmp_path / 'out'}\n"


def test_triplets_of_a_query_become_one_row(tmp_path: Path) -> None:
    """Where a format had no ids, the same text has the same id, so that rows of a query meet."""
    rows = [{"anchor": "q", "positive": "p", "negative": text} for text in ("m", "n", "m")]
    (tmp_path / "in.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows), "utf-8")
    assert relabel.convert(tmp_path / "in.jsonl", tmp_path / "out", to="tevatron-v2").rows == 1
    corpus, ((_, _, positives, negatives),) = read_back("tevatron-v2", tmp_path / "out")
    assert [corpus[each] for each in (*positives, *negatives)] == ["p", "m", "n"]


def test_half_of_a_surrogate_pair(tmp_path: Path) -> None:
    """JSON holds it by an escape; what cannot hold it says so and leaves nothing."""
    broken = [example("1", "q", [Passage("\ud800", "x\ud800")])]
    write(tmp_path / "good", "tevatron-v2", broken)
    assert read_back("tevatron-v2", tmp_path / "good")[0] == {"\ud800": "x\ud800"}
    for name in ("beir", "automodel"):
        with pytest.raises(InputError):
            write(tmp_path / "bad", name, broken)
    assert [each.name for each in tmp_path.iterdir()] == ["good"]


def test_memory_does_not_grow_with_the_input(tmp_path: Path) -> None:
    """20 MB of passages go through a few MB: what must be remembered lies on disk."""

    def stream() -> Iterable[Example]:
        for number in range(4000):
            passages = [Passage(f"{number}-{place}", f"{number}-{place} " * 120) for place in range(5)]
            yield example(str(number), f"query {number}", passages[:1], passages[1:])

    for name in ("beir", "llama-index"):
        tracemalloc.start()
        write(tmp_path / f"{name}.json" if name == "llama-index" else tmp_path / name, name, stream())
        peak = tracemalloc.get_traced_memory()[1]
        tracemalloc.stop()
        assert peak < 3_000_000


# ----------------------------------------------------------------------------------------------- whole or not at all


@pytest.mark.parametrize("name", [*FOLDERS, "llama-index", "saved"])
def test_what_fails_leaves_what_was_there(name: str, tmp_path: Path) -> None:
    """An error half-way leaves the folder of before, and no other; the next try replaces it."""
    path: Path | str = tmp_path / ("out.json" if name == "llama-index" else "out")
    target = FORMATS["bge"] if name == "saved" else EXPORTS[name]
    if name == "saved":
        path = f"{path}/"

    def save(text: str, *, fail: bool) -> None:
        with open_writer(path, target) as writer:
            writer.write(example("1", text, [Passage("a", text)], [Passage("b", "n")]))
            if fail:
                raise KeyboardInterrupt

    def state() -> dict[str, bytes]:
        return {str(each.relative_to(tmp_path)): each.read_bytes() for each in tmp_path.rglob("*") if each.is_file()}

    with pytest.raises(KeyboardInterrupt):
        save("zero", fail=True)
    assert state() == {}
    save("one", fail=False)
    before = state()
    with pytest.raises(KeyboardInterrupt):
        save("two", fail=True)
    assert state() == before
    save("two", fail=False)
    assert state().keys() == before.keys()
    assert state() != before
    assert [each.name for each in tmp_path.iterdir()] == [Path(path).name]


@pytest.mark.parametrize("name", FOLDERS)
def test_a_folder_of_something_else_is_not_replaced(name: str, tmp_path: Path) -> None:
    """Only a whole folder of the same shape is replaced, or an empty one; a file's name is no folder's."""
    examples = [example("1", "q", [Passage("a", "x")])]
    folder = tmp_path / "out"
    folder.mkdir()
    write(folder, name, examples)
    (folder / "notes.txt").touch()
    with pytest.raises(InputError, match=r"holds 'notes\.txt'"):
        write(folder, name, examples)
    (folder / "notes.txt").unlink()
    write(folder, name, examples)
    gone = next(each for each in folder.iterdir() if each.is_file())
    gone.unlink()
    with pytest.raises(InputError, match=f"lacks '{gone.name}'"):
        write(folder, name, examples)
    gone.touch()
    (folder / ".relabel").unlink()
    with pytest.raises(InputError, match="a data set that relabel did not write"):
        write(folder, name, examples)
    with pytest.raises(InputError, match="name of a file"):
        write(tmp_path / "out.jsonl", name, examples)
    (tmp_path / "file").touch()
    with pytest.raises(InputError, match="is a file"):
        write(tmp_path / "file", name, examples)
    with pytest.raises(InputError, match="cannot be written"):
        write(tmp_path / "none" / "out", name, examples)


def test_a_folder_that_holds_the_input_is_not_replaced(tmp_path: Path) -> None:
    """The input is never taken for an earlier output."""
    row = '{"query": "q", "pos": ["p"], "neg": ["n"]}\n'
    for name in ("train.jsonl", "corpus.jsonl"):
        (tmp_path / name).write_text(row, "utf-8")
    with pytest.raises(InputError, match="or holds it"):
        relabel.convert(tmp_path / "train.jsonl", tmp_path, to="tevatron-v2")
    assert (tmp_path / "train.jsonl").read_text("utf-8") == row


def test_an_unknown_format_lists_all(tmp_path: Path) -> None:
    """A misspelt --to is answered by the formats and the exports."""
    (tmp_path / "in.jsonl").write_text('{"query": "q", "pos": ["p"], "neg": ["n"]}\n', "utf-8")
    with pytest.raises(InputError, match=r"bge, .* beir"):
        relabel.convert(tmp_path / "in.jsonl", tmp_path / "out", to="bier")


# ------------------------------------------------------------------------------------------------- saved data sets


@pytest.mark.parametrize("name", ["bge", "tevatron", "labeled-pairs"])
def test_a_saved_data_set_is_loaded_by_datasets(name: str, tmp_path: Path) -> None:
    """`load_from_disk` reads what is written to FOLDER/, over several batches, and so does relabel."""
    import datasets

    (tmp_path / "in.jsonl").write_text(
        "".join(
            json.dumps({"query": f"q{n}", "pos": [f"p{n}"], "neg": [f"n{n}", "m"], "neg_scores": [n / 7, 1]}) + "\n"
            for n in range(2100)
        ),
        "utf-8",
    )
    done = relabel.convert(tmp_path / "in.jsonl", f"{tmp_path / 'out'}/", to=name)
    relabel.convert(tmp_path / "in.jsonl", tmp_path / "plain.jsonl", to=name)
    loaded = datasets.load_from_disk(str(tmp_path / "out"))
    assert len(loaded) == done.rows
    assert list(loaded) == lines_of(tmp_path / "plain.jsonl")
    texts = [(each.query, [one.text for one in each.negatives]) for each in read_examples(tmp_path / "out")]
    assert texts == [(f"q{n}", [f"n{n}", "m"]) for n in range(2100)]


def test_a_saved_data_set_keeps_its_schema(tmp_path: Path) -> None:
    """From one saved data set to another the types stay, and an empty folder is enough to ask for it."""
    import datasets

    row = {"query": "q", "pos": ["p"], "neg": ["n"], "neg_scores": [0.5]}
    features = {"query": datasets.Value("large_string"), "pos": [datasets.Value("string")]}
    features |= {"neg": [datasets.Value("string")], "neg_scores": [datasets.Value("float32")]}
    datasets.Dataset.from_list([row], features=datasets.Features(features)).save_to_disk(str(tmp_path / "in"))
    (tmp_path / "out").mkdir()
    relabel.convert(tmp_path / "in", tmp_path / "out", to="bge")
    loaded = datasets.load_from_disk(str(tmp_path / "out"))
    assert loaded.features == datasets.Features(features)
    assert list(loaded) == [row]
    (tmp_path / "full" / "inner").mkdir(parents=True)
    with pytest.raises(InputError, match="or an empty folder"):
        relabel.convert(tmp_path / "in", tmp_path / "full", to="tevatron")


def test_another_content_has_another_fingerprint(tmp_path: Path) -> None:
    """`datasets` caches by it: what differs must not share one, and what is equal may."""

    def fingerprint(text: str) -> str:
        with open_writer(f"{tmp_path / 'out'}/", FORMATS["bge"]) as writer:
            writer.write(example("1", text, [Passage("a", "p")]))
        told = json.loads((tmp_path / "out" / "state.json").read_text("utf-8"))
        return str(told["_fingerprint"])

    assert fingerprint("one") == fingerprint("one") != fingerprint("two")


def test_what_a_saved_data_set_cannot_hold(tmp_path: Path) -> None:
    """A field of two types is refused, as in Parquet, and nothing is left."""
    rows = [{"query": "q", "pos": ["p"], "neg": ["n"], "extra": extra} for extra in (1, "one")]
    (tmp_path / "in.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows), "utf-8")
    with pytest.raises(InputError):
        relabel.convert(tmp_path / "in.jsonl", f"{tmp_path / 'out'}/", to="bge")
    assert [each.name for each in tmp_path.iterdir()] == ["in.jsonl"]
