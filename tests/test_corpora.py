"""Every shape of source read into the same four parts, bad rows with their place."""

import gzip
import json
import re
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import pytest

from relabel.errors import InputError, MissingPart, RowError
from relabel.formats import EXPORTS, open_writer, read_examples
from relabel.formats.corpora import (
    Found,
    Judged,
    Parts,
    Query,
    open_documents,
    open_judged,
    open_parts,
    open_queries,
    open_run,
    open_triples,
    together,
)
from relabel.formats.streams import open_output
from relabel.records import Passage

ONE, TWO = Passage("d1", "first text", "Title"), Passage("d2", "second text")
DOCUMENTS = [{"_id": "d1", "title": "Title", "text": "first text"}, {"_id": "d2", "title": "", "text": "second text"}]
QUERIES = [{"_id": "q1", "text": "what?"}, {"_id": "q2", "text": "who?"}]
QRELS = "query-id\tcorpus-id\tscore\nq1\td1\t1\nq2\td2\t0\n"
WANTED = ([ONE, TWO], [Query("q1", "what?"), Query("q2", "who?")], [Judged("q1", "d1", 1), Judged("q2", "d2", 0)])


def lines(path: Path, rows: Sequence[Mapping[str, Any]]) -> Path:
    """Write rows as JSON lines, compressed as the name says."""
    return text(path, "".join(json.dumps(row) + "\n" for row in rows))


def text(path: Path, content: str) -> Path:
    """Write a file with the folders above it, compressed as the name says."""
    path.parent.mkdir(parents=True, exist_ok=True)
    with open_output(path, path) as stream:
        stream.write(content.encode())
    return path


def read(parts: Parts) -> tuple[Any, ...]:
    """Read all parts, twice, and return them as lists, None for none."""
    found = (parts.documents, parts.queries, parts.judged, parts.found)
    once = tuple(None if part is None else list(part()) for part in found)
    assert once == tuple(None if part is None else list(part()) for part in found)
    return once


@pytest.mark.parametrize("end", ["", ".gz", ".zst"])
def test_a_beir_folder(tmp_path: Path, end: str) -> None:
    """Corpus, queries and the judgments of the split that is asked for; the splits there are, where it is not."""
    lines(tmp_path / f"corpus.jsonl{end}", DOCUMENTS)
    lines(tmp_path / f"queries.jsonl{end}", QUERIES)
    text(tmp_path / "qrels" / f"train.tsv{end}", QRELS)
    text(tmp_path / "qrels" / f"test.tsv{end}", "query-id\tcorpus-id\tscore\nq2\td1\t2\n")
    text(tmp_path / "qrels.tsv", "query-id\tcorpus-id\tscore\nq1\td2\t1\n")
    assert read(open_parts(tmp_path)) == (*WANTED, None)
    assert read(open_parts(tmp_path, split="test"))[2] == [Judged("q2", "d1", 2)]
    with pytest.raises(InputError, match="no split 'dev'; there is: test, train\n  Choose one: --split test"):
        open_parts(tmp_path, split="dev")


def test_a_beir_folder_with_one_qrels_file_or_none(tmp_path: Path) -> None:
    """`qrels.tsv` is taken for any split; without it there is no such part."""
    lines(tmp_path / "corpus.jsonl", DOCUMENTS)
    lines(tmp_path / "queries.jsonl", QUERIES)
    assert open_parts(tmp_path).judged is None
    text(tmp_path / "qrels.tsv", QRELS)
    assert read(open_parts(tmp_path)) == (*WANTED, None)


@pytest.mark.parametrize("judged", ["qrels", "default", "data"])
def test_a_folder_in_the_layout_of_mteb(tmp_path: Path, judged: str) -> None:
    """Folders of Parquet files in pieces, `id` for `_id`, grades as floats."""
    from datasets import Dataset

    for name in ("corpus", "queries", judged):
        (tmp_path / name).mkdir()
    for number, row in enumerate(DOCUMENTS):
        renamed = {"id" if key == "_id" else key: value for key, value in row.items()}
        Dataset.from_list([renamed]).to_parquet(tmp_path / "corpus" / f"corpus-0000{number}-of-00002.parquet")
    Dataset.from_list(QUERIES).to_parquet(tmp_path / "queries" / "queries-00000-of-00001.parquet")
    rows = [
        {"query-id": "q1", "corpus-id": "d1", "score": 1.0},
        {"query-id": "q2", "corpus-id": "d2", "score": 0.0},
    ]
    Dataset.from_list(rows).to_parquet(tmp_path / judged / "train-00000-of-00001.parquet")
    Dataset.from_list(rows[:1]).to_parquet(tmp_path / judged / "test-00000-of-00001.parquet")
    assert read(open_parts(tmp_path)) == (*WANTED, None)
    assert read(open_parts(tmp_path, split="test"))[2] == [Judged("q1", "d1", 1)]


def test_an_ms_marco_folder(tmp_path: Path) -> None:
    """Texts between tabs keep their quotes and commas; qrels in TREC's columns; else what the triples say."""
    text(tmp_path / "collection.tsv", 'd1\tsaid "so, or\nd2\tsecond text\n')
    text(tmp_path / "queries.train.tsv", "q1\twhat?\n")
    text(tmp_path / "queries.dev.small.tsv", "q2\twho?\n")
    text(tmp_path / "qrels.dev.small.tsv", "q2\t0\td2\t1\n")
    text(tmp_path / "qidpidtriples.train.full.tsv.gz", "q1\td1\td2\nq1\td1\td3\n")
    documents = [Passage("d1", 'said "so, or'), TWO]
    dev = open_parts(tmp_path, split="dev.small")
    assert read(dev) == (documents, [Query("q2", "who?")], [Judged("q2", "d2", 1)], None)
    train = read(open_parts(tmp_path))
    assert train[2] == [Judged("q1", "d1", 1)] * 2
    assert train[3] == [Found("q1", each, 1, None, "given") for each in ("d2", "d3")]
    assert read(open_triples(tmp_path / "qidpidtriples.train.full.tsv.gz"))[2:] == train[2:]
    with pytest.raises(InputError, match=r"splits there are: dev\.small, train"):
        open_parts(tmp_path, split="eval")


@pytest.mark.parametrize("fields", [("docid", "text"), ("docid", "document_text"), ("id", "contents")])
def test_a_corpus_alone(tmp_path: Path, fields: tuple[str, str]) -> None:
    """Tevatron's two corpora and Pyserini's: a text with an id, numbers as ids too, null as no title."""
    rows: list[dict[str, Any]] = [
        {fields[0]: 7, fields[1]: "seven", "title": None},
        {fields[0]: "x", fields[1]: "ten", "title": "T"},
    ]
    found = read(open_parts(lines(tmp_path / "corpus.jsonl", rows)))
    assert found == ([Passage("7", "seven"), Passage("x", "ten", "T")], None, None, None)
    assert read(open_documents(tmp_path / "corpus.jsonl")) == found


def test_texts_without_ids_get_them_from_their_content(tmp_path: Path) -> None:
    """A candidate pool of texts alone, as FlagEmbedding has it: the same text has the same id."""
    path = lines(tmp_path / "pool.jsonl", [{"text": "a"}, {"text": "b"}, {"text": "a"}])
    first, second, third = read(open_parts(path))[0]
    assert first == third
    assert first.id != second.id


def test_rows_of_ids_beside_their_corpus(tmp_path: Path) -> None:
    """Tevatron's second format names passages; in a folder with a corpus these are its documents."""
    row: dict[str, Any] = {"query_id": 1, "query_text": "what?", "positive_document_ids": ["d1"]}
    row["negative_document_ids"] = ["d2", 3]
    wanted = (
        [Query("1", "what?")],
        [Judged("1", "d1", 1)],
        [Found("1", "d2", 1, None, "given"), Found("1", "3", 2, None, "given")],
    )
    assert read(open_parts(lines(tmp_path / "train.jsonl", [row]))) == (None, *wanted)
    lines(tmp_path / "corpus.jsonl", [{"docid": "d1", "document_text": "first"}])
    assert read(open_parts(tmp_path)) == ([Passage("d1", "first")], *wanted)


def test_training_files_of_several_formats(tmp_path: Path) -> None:
    """Positives are judged 1, all passages are documents, negatives are found, with their scores."""
    bge: dict[str, Any] = {"query": "what?", "pos": ["a"], "neg": ["b", "c"], "pos_id": ["p"], "neg_id": ["n", "m"]}
    bge |= {"query_id": "q", "neg_scores": [0.5, 0.25], "pos_scores": [1.0]}
    documents, queries, judged, found = read(open_parts(lines(tmp_path / "bge.jsonl", [bge])))
    assert [each.id for each in documents] == ["p", "n", "m"]
    assert (queries, judged) == ([Query("q", "what?")], [Judged("q", "p", 1)])
    assert found == [Found("q", "n", 1, 0.5, "given"), Found("q", "m", 2, 0.25, "given")]
    tuples = text(tmp_path / "rows.csv", "anchor,positive,negative_1,negative_2\nwhat?,a,b,c\n")
    documents, _, judged, found = read(open_parts(tuples))
    assert [each.text for each in documents] == ["a", "b", "c"]
    assert [judged[0].document_id, *(each.document_id for each in found)] == [each.id for each in documents]
    pairs = [{"query": "what?", "document": each, "label": label} for each, label in (("a", 1), ("b", 0))]
    documents, queries, judged, found = read(open_parts(lines(tmp_path / "pairs.jsonl", pairs)))
    assert [len(part) for part in (documents, queries, judged, found)] == [2, 2, 1, 1]


def test_a_nemo_file_with_its_corpus(tmp_path: Path) -> None:
    """The corpus is a folder beside the file; documents are objects with scores, or bare ids."""
    lines(tmp_path / "wiki" / "part.jsonl", [{"id": 1, "text": "one"}, {"id": "b", "text": "two"}])
    text(tmp_path / "wiki" / "merlin_metadata.json", '{"class": "TextQADataset", "corpus_id": "wiki"}')
    row = {"question_id": "q", "question": "what?", "corpus_id": "wiki", "pos_doc": [{"id": 1, "score": 0.75}]}
    row["neg_doc"] = [{"id": "b", "score": 0.5}, "c"]
    content = {"corpus": {"path": "wiki"}, "mining": {"args": {"hard_neg_margin": 0.95}}, "data": [row]}
    path = text(tmp_path / "train.json", json.dumps(content, indent=1))
    documents = [Passage("1", "one"), Passage("b", "two")]
    assert read(open_parts(path)) == (
        documents,
        [Query("q", "what?")],
        [Judged("q", "1", 1)],
        [Found("q", "b", 1, 0.5, "given"), Found("q", "c", 2, None, "given")],
    )
    assert read(open_documents(tmp_path / "wiki"))[0] == documents
    nothings: tuple[None, list[str]] = (None, [])
    for nothing in nothings:
        text(path, json.dumps(content | {"data": [row | {"neg_doc": nothing}]}))
        assert read(open_parts(path))[3] == []
    text(path, json.dumps({"corpus": [{"path": "gone"}], "data": [row]}))
    with pytest.raises(InputError, match=r"names the corpus gone: .*no such file"):
        open_parts(path)


def test_ids_of_several_nemo_corpora_are_kept_apart(tmp_path: Path) -> None:
    """The same id in two corpora is two passages: the row's corpus_id says which is meant."""
    for name in ("a", "b"):
        lines(tmp_path / name / "part.jsonl", [{"id": "1", "text": f"of {name}"}])
        text(tmp_path / name / "merlin_metadata.json", json.dumps({"corpus_id": name}))
    rows = [
        {"question_id": name, "question": name, "corpus_id": name, "pos_doc": [{"id": "1"}], "neg_doc": []}
        for name in ("a", "b")
    ]
    content = {"data": rows, "corpus": [{"path": "a"}, {"path": str(tmp_path / "b")}]}
    parts = read(open_parts(text(tmp_path / "train.json", json.dumps(content))))
    assert [each.id for each in parts[0]] == ["a/1", "b/1"]
    assert parts[2] == [Judged("a", "a/1", 1), Judged("b", "b/1", 1)]


def test_a_llamaindex_set(tmp_path: Path) -> None:
    """Queries, corpus and relevant documents by id, in whatever order, spread over many lines."""
    content = {
        "queries": {"q1": "what?"},
        "corpus": {"d1": "first", "d2": "second"},
        "relevant_docs": {"q1": ["d1", "d2"]},
        "mode": "text",
    }
    for order in (list(content), list(reversed(content))):
        path = text(tmp_path / "set.json", json.dumps({key: content[key] for key in order}, indent=2))
        documents = [Passage("d1", "first"), Passage("d2", "second")]
        judged = [Judged("q1", "d1", 1), Judged("q1", "d2", 1)]
        assert read(open_parts(path)) == (documents, [Query("q1", "what?")], judged, None)


def test_one_big_object_is_read_in_pieces(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Wherever the file is cut into pieces, the entries are the same: numbers at the edge too."""
    from relabel.formats import jsonlist
    from relabel.formats.corpora.jsonobject import entries

    content = {"a": 1234567, "b": {"x": 12.5, "y": "ü☃", "z": [1, 2]}, "c": [123, {"k": None}, []], "d": {}, "e": True}
    path = text(tmp_path / "o.json", json.dumps(content, ensure_ascii=False))
    whole = [(each.key, each.name, each.number, each.value) for each in entries(path)]
    assert whole[:3] == [("a", "", 1, 1234567), ("b", "x", 1, 12.5), ("b", "y", 2, "ü☃")]
    assert len(whole) == 8
    for size in range(1, 12):
        monkeypatch.setattr(jsonlist, "_CHUNK", size)
        assert [(each.key, each.name, each.number, each.value) for each in entries(path)] == whole


@pytest.mark.parametrize(
    ("content", "words"),
    [
        ('{"queries": {"p": "x", "q": "x"', "row 2: is cut off"),
        ('{"queries": {"p": "x", "q" "x"}}', "row 1: is not a JSON object: expected ':'"),
        ('{"queries": {"q": "x" "r": "y"}}', "expected ','"),
        ('{"queries": {"p": "x", 1: "x"}}', "is not a JSON object: expected a key"),
    ],
)
def test_a_broken_object_says_where(tmp_path: Path, content: str, words: str) -> None:
    """What is wrong with one big object, and in which of its rows."""
    parts = open_parts(text(tmp_path / "set.json", content))
    assert parts.queries is not None
    with pytest.raises(RowError, match=re.escape(words)):
        list(parts.queries())


@pytest.mark.parametrize(
    ("content", "wanted"),
    [
        ("q1 Q0 d1 1 2.5 bm25\nq1 Q0 d2 2 1.5 bm25\n", [(1, 2.5, "bm25"), (2, 1.5, "bm25")]),
        ("q1\tQ0\td1\t0\t2.5\tbm25\nq1\tQ0\td2\t1\t1.5\tbm25\n", [(0, 2.5, "bm25"), (1, 1.5, "bm25")]),
        ("q1\td1\t2.5\nq1\td2\t-1.5\n", [(1, 2.5, "my"), (2, -1.5, "my")]),
        ("q1 d1 1\nq1 d2 2\n", [(1, None, "my"), (2, None, "my")]),
    ],
)
def test_runs(tmp_path: Path, content: str, wanted: list[tuple[int, float | None, str]]) -> None:
    """TREC's six columns, Tevatron's three with scores, MS MARCO's three with ranks."""
    path = text(tmp_path / "my.run.gz", content)
    (d1, d2) = read(open_run(path))[3]
    assert [(each.rank, each.score, each.system) for each in (d1, d2)] == wanted
    assert (d1.query_id, d1.document_id, d2.document_id) == ("q1", "d1", "d2")
    assert read(open_run(path, "mine"))[3][0].system == "mine"


@pytest.mark.parametrize(
    "content",
    ["q1 0 d1 1\nq2 0 d2 0\n", "q1\td1\t1\nq2\td2\t0\n", QRELS, "q1\t0\td1\t1\nq2\t0\td2\t0\r\n"],
)
def test_qrels(tmp_path: Path, content: str) -> None:
    """TREC's four columns, three, or a header; between tabs or blanks."""
    assert read(open_judged(text(tmp_path / "any.name", content)))[2] == WANTED[2]


@pytest.mark.parametrize(
    "content",
    [
        '"query-id"\t"corpus-id"\t"score"\n"q1"\t"d1"\t1\nq2\td2\t0\n',
        "query-id corpus-id score\nq1 d1 1\nq2  d2  0\n",
        "\ufeffquery-id\tcorpus-id\tscore\r\nq1\td1\t1.0\r\n\r\nq2\td2\t0.0\r\n",
        "Query-ID\tCorpus-ID\tScore\nq1\td1\t1\nq2\td2\t0",
    ],
)
def test_qrels_of_other_programs(tmp_path: Path, content: str) -> None:
    """Quotes around cells, blanks for tabs, a byte order mark, carriage returns, capitals, no end of line, floats."""
    assert read(open_judged(text(tmp_path / "qrels.tsv", content)))[2] == WANTED[2]


def test_quotes_enclose_cells_only_under_a_header(tmp_path: Path) -> None:
    """As DPR's passages have them; without a header they belong to the text, and unpaired ones always."""
    rows = '1\t"so ""or"" so"\n2\tsaid "so"\n3\t"open\n'
    quoted = [each.text for each in read(open_documents(text(tmp_path / "psgs.tsv", f"id\ttext\n{rows}")))[0]]
    assert quoted == ['so "or" so', 'said "so"', '"open']
    plain = [each.text for each in read(open_documents(text(tmp_path / "collection.tsv", rows)))[0]]
    assert plain == ['"so ""or"" so"', 'said "so"', '"open']
    ids = text(tmp_path / "qrels.tsv", 'query-id\tcorpus-id\tscore\n"a""b"\t"with\ttab"\t1\n')
    assert read(open_judged(ids))[2] == [Judged('a"b', "with\ttab", 1)]


def test_queries_alone(tmp_path: Path) -> None:
    """Between tabs or as objects, under any usual name."""
    wanted = WANTED[1]
    assert read(open_queries(text(tmp_path / "q.tsv", "q1\twhat?\nq2\twho?\n")))[1] == wanted
    rows = [{"query_id": "q1", "query": "what?"}, {"query_id": "q2", "query": "who?"}]
    assert read(open_queries(lines(tmp_path / "q.jsonl", rows)))[1] == wanted
    with pytest.raises(InputError, match="holds no queries"):
        open_queries(saved(tmp_path / "d", DOCUMENTS))


def saved(path: Path, rows: Sequence[Mapping[str, Any]]) -> Path:
    """Save rows as `datasets` does, in two splits."""
    from datasets import Dataset, DatasetDict

    DatasetDict({"train": Dataset.from_list(list(rows)), "test": Dataset.from_list(list(rows[:1]))}).save_to_disk(path)
    return path


def test_a_saved_data_set(tmp_path: Path) -> None:
    """A folder made by save_to_disk: of several splits the one asked for, or the split's own folder."""
    path = saved(tmp_path / "d", DOCUMENTS)
    assert read(open_parts(path))[0] == [ONE, TWO]
    assert read(open_parts(path, split="test"))[0] == [ONE]
    assert read(open_parts(path / "test"))[0] == [ONE]
    with pytest.raises(InputError, match="no split 'dev'; there is: test, train"):
        open_parts(path, split="dev")


@pytest.fixture
def cached(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Let `datasets` keep its copies in a folder of the test."""
    import datasets

    monkeypatch.setattr(datasets.config, "HF_DATASETS_CACHE", tmp_path / "cache")


@pytest.mark.usefixtures("cached")
def test_data_sets_that_the_hub_would_hold(tmp_path: Path) -> None:
    """`hf:` loads by name what `datasets` can: MTEB's configurations, one corpus, rows to train on."""
    lines(tmp_path / "set" / "corpus.jsonl", DOCUMENTS)
    lines(tmp_path / "set" / "queries.jsonl", QUERIES)
    for split, count in (("train", 2), ("test", 1)):
        rows = [{"query-id": each.query_id, "corpus-id": each.document_id, "score": each.grade} for each in WANTED[2]]
        lines(tmp_path / "set" / "qrels" / f"{split}.jsonl", rows[:count])
    text(
        tmp_path / "set" / "README.md",
        "---\nconfigs:\n- config_name: default\n  data_files:\n  - split: train\n    path: qrels/train.jsonl\n"
        "  - split: test\n    path: qrels/test.jsonl\n- config_name: corpus\n  data_files:\n  - split: corpus\n"
        "    path: corpus.jsonl\n- config_name: queries\n  data_files:\n  - split: queries\n"
        "    path: queries.jsonl\n---\n",
    )
    where = f"hf:{tmp_path / 'set'}"
    assert read(open_parts(where)) == (*WANTED, None)
    assert read(open_parts(where, split="test"))[2] == [Judged("q1", "d1", 1)]
    with pytest.raises(InputError, match=r"no split 'dev'; there is: train, test"):
        open_parts(where, split="dev")
    lines(tmp_path / "rows" / "train.jsonl", [{"query": "what?", "pos": ["a"], "neg": ["b"]}])
    documents, queries, judged, found = read(open_parts(f"hf:{tmp_path / 'rows'}"))
    assert [len(part) for part in (documents, queries, judged, found)] == [2, 1, 1, 1]
    assert read(open_parts(f"hf://datasets/{tmp_path / 'rows'}"))[1] == queries
    with pytest.raises(InputError, match="cannot be loaded"):
        open_parts(f"hf:{tmp_path / 'none'}")


def test_a_data_set_of_ir_datasets(tmp_path: Path) -> None:
    """Documents, queries and judgments by id, through the package itself."""
    ir_datasets = pytest.importorskip("ir_datasets")
    name = f"relabel-{tmp_path.name}"
    data = ir_datasets.create_dataset(
        docs_tsv=str(text(tmp_path / "d.tsv", "d1\tfirst\nd2\tsecond\n")),
        queries_tsv=str(text(tmp_path / "q.tsv", "q1\twhat?\n")),
        qrels_trec=str(text(tmp_path / "r.txt", "q1 0 d1 2\n")),
    )
    ir_datasets.registry.register(name, data)
    wanted = ([Passage("d1", "first"), Passage("d2", "second")], [Query("q1", "what?")], [Judged("q1", "d1", 2)], None)
    assert read(open_parts(f"irds:{name}")) == wanted
    assert read(open_queries(f"irds:{name}")) == (None, wanted[1], None, None)
    with pytest.raises(InputError, match="no data set of that name"):
        open_parts("irds:no/such")


def test_shapes_of_ir_datasets() -> None:
    """Titles where documents have them, default texts where they have no text, ranks of what was scored."""
    ir_datasets = pytest.importorskip("ir_datasets")
    from ir_datasets.datasets.base import Dataset
    from ir_datasets.formats import BaseDocs, BaseQueries, BaseScoredDocs, GenericScoredDoc
    from ir_datasets.formats.trec import TitleUrlTextDoc, TrecQuery

    class Docs(BaseDocs):  # type: ignore[misc]
        def docs_iter(self) -> Any:
            return iter([TitleUrlTextDoc("d1", "Title", "url", "first text")])

    class Queries(BaseQueries):  # type: ignore[misc]
        def queries_iter(self) -> Any:
            return iter([TrecQuery("q1", "the title", "a description", "a narrative")])

    class Scored(BaseScoredDocs):  # type: ignore[misc]
        def scoreddocs_iter(self) -> Any:
            return iter([GenericScoredDoc("q1", "d1", 3.0), GenericScoredDoc("q1", "d2", 2.0)])

    ir_datasets.registry.register("relabel-shapes", Dataset(Docs(), Queries(), Scored()))
    documents, queries, judged, found = read(open_parts("irds:relabel-shapes"))
    assert (documents, queries, judged) == ([ONE], [Query("q1", "the title")], None)
    assert [(each.document_id, each.rank, each.score) for each in found] == [("d1", 1, 3.0), ("d2", 2, 2.0)]


def test_without_ir_datasets(monkeypatch: pytest.MonkeyPatch) -> None:
    """The error says what to install."""
    import sys

    monkeypatch.setitem(sys.modules, "ir_datasets", None)
    with pytest.raises(MissingPart, match=re.escape("pip install 'relabel[ir-datasets]'")):
        open_parts("irds:any")


BAD: list[tuple[str, str, Callable[[Path], Parts], int, str, str]] = [
    ("c.jsonl", '{"_id": "d1", "text": "a"}\n{"_id": "d2"}\n', open_documents, 2, "text", "is missing"),
    ("c.jsonl", '{"_id": "d1", "text": "a"}\n{"_id": "d2", "text": 5}\n', open_documents, 2, "text", "is a number"),
    ("c.jsonl", '{"_id": "d1", "text": "a"}\n{"_id": "", "text": "b"}\n', open_documents, 2, "_id", "is empty"),
    ("c.jsonl", '{"_id": "d1", "text": "a"}\n{"_id": [1], "text": "b"}\n', open_documents, 2, "_id", "not an id"),
    ("c.jsonl", '{"_id": "d1", "text": "a"}\nnonsense\n', open_documents, 2, "", "is not JSON"),
    ("c.tsv", "d1\ta\n\nd2\n", open_documents, 3, "", "has 1 column where the file has 2"),
    ("c.tsv", "d1\ta\nd2\tb\tc\n", open_documents, 2, "", "has 3 columns where the file has 2"),
    ("r.tsv", "q1 0 d1 1\nq1 0 d2 some\n", open_judged, 2, "grade", "not a whole number"),
    ("r.tsv", "q1 0 d1 1\nq1 0 d2 0.5\n", open_judged, 2, "grade", "not a whole number"),
    ("r.trec", "q1 Q0 d1 1 9.0 t\nq1 Q0 d2 2 nan t\n", open_run, 2, "score", "not a number"),
]  # fmt: skip


@pytest.mark.parametrize(("name", "content", "opening", "line", "field", "words"), BAD)
def test_bad_rows_have_their_place(
    tmp_path: Path, name: str, content: str, opening: Callable[[Path], Parts], line: int, field: str, words: str
) -> None:
    """A row that cannot be used stops, with file, line and field; or it is told, and the rest is read."""
    path = text(tmp_path / name, content)
    parts = opening(path)
    part = parts.documents or parts.judged or parts.found
    assert part is not None
    with pytest.raises(RowError, match=words) as caught:
        list(part())
    assert (caught.value.path, caught.value.line, caught.value.field) == (str(path), line, field)
    told: list[tuple[RowError, str]] = []
    assert len(list(part(lambda error, raw: told.append((error, raw))))) == 1
    assert [(error.line, bool(raw)) for error, raw in told] == [(line, True)]


def test_other_encodings_and_damage(tmp_path: Path) -> None:
    """Bytes that are not UTF-8 are one bad line; a file that is cut off cannot be read on."""
    path = tmp_path / "c.tsv"
    path.write_bytes("d1\tfür\nd2\tfür\n".encode("latin-1") + "d3\tfür\n".encode())
    part = open_documents(path).documents
    assert part is not None
    told: list[int] = []
    assert list(part(lambda error, _: told.append(error.line))) == [Passage("d3", "für")]
    assert told == [1, 2]
    whole = gzip.compress(b"d1\tlong enough to be cut\n" * 1000)
    (tmp_path / "cut.tsv.gz").write_bytes(whole[: len(whole) // 2])
    part = open_documents(tmp_path / "cut.tsv.gz").documents
    assert part is not None
    with pytest.raises(RowError, match="damaged or cut off"):
        list(part(lambda _, __: None))


@pytest.mark.parametrize(
    ("name", "content", "words"),
    [
        ("rows.jsonl", '{"a": 1, "b": 2}\n', "no shape that relabel knows"),
        ("rows.jsonl", "", "holds no rows"),
        ("rows.tsv", "a\tb\tc\n", "has 3 columns, where id text, or query_id"),
        ("rows.json", '{"a": {"b": "c"}}', "no shape that relabel knows"),
    ],
)
def test_what_has_no_known_shape(tmp_path: Path, name: str, content: str, words: str) -> None:
    """The error says what is there, and which shapes there are."""
    with pytest.raises(InputError, match=words):
        open_parts(text(tmp_path / name, content))


def test_the_error_lists_the_shapes(tmp_path: Path) -> None:
    """A person sees every source that could have been meant."""
    with pytest.raises(InputError) as caught:
        open_parts(lines(tmp_path / "rows.jsonl", [{"a": 1}]))
    for word in ("BEIR", "MS MARCO", "Tevatron", "NeMo", "LlamaIndex", "irds:ID", "hf:NAME", "bge:"):
        assert word in str(caught.value)


def test_nothing_there(tmp_path: Path) -> None:
    """A name that is none, a folder that is empty."""
    with pytest.raises(InputError, match="no such file or folder"):
        open_parts(tmp_path / "none")
    with pytest.raises(InputError, match="holds no data"):
        open_parts(tmp_path)


def test_parts_of_several_sources(tmp_path: Path) -> None:
    """One after the other, with the places of each; documents to search put others outside."""
    first = open_documents(lines(tmp_path / "a.jsonl", DOCUMENTS[:1]))
    second = open_documents(lines(tmp_path / "b.jsonl", DOCUMENTS[1:]))
    both = together(first, second)
    assert both.documents is not None
    assert list(both.documents.placed()) == [(str(tmp_path / "a.jsonl"), 1, ONE), (str(tmp_path / "b.jsonl"), 1, TWO)]
    assert len(both.stamps) == 2
    searched = first.searching(second)
    assert (searched.documents, searched.outside) == (second.documents, first.documents)


def test_stamps_change_with_the_file(tmp_path: Path) -> None:
    """Another size or time is another stamp; the same file has the same."""
    path = lines(tmp_path / "a.jsonl", DOCUMENTS)
    before = open_parts(path).stamps
    assert open_parts(path).stamps == before
    lines(path, DOCUMENTS[:1])
    assert open_parts(path).stamps != before
    run = text(tmp_path / "a.run", "q1 d1 2.5\n")
    assert open_run(run, "one").stamps != open_run(run, "two").stamps


@pytest.mark.parametrize("name", list(EXPORTS))
def test_what_relabel_writes_is_read(tmp_path: Path, name: str) -> None:
    """Every set of files that relabel writes is a source: the same queries, positives and negatives come back."""
    rows = lines(
        tmp_path / "train.jsonl",
        [
            {
                "query_id": "q1",
                "query": "what?",
                "pos": ["a", "b"],
                "neg": ["c"],
                "pos_id": ["1", "2"],
                "neg_id": ["3"],
            },
            {"query_id": "q2", "query": "who?", "pos": ["c"], "neg": ["a", "d"], "pos_id": ["3"], "neg_id": ["1", "4"]},
        ],
    )
    path = tmp_path / ("out.json" if name == "llama-index" else "out")
    with open_writer(path, EXPORTS[name]) as writer:
        for example in read_examples(rows):
            writer.write(example)
    documents, queries, judged, found = read(open_parts(path))
    texts = {each.id: each.text for each in documents}
    asked = {each.id: each.text for each in queries}
    assert sorted(texts.values()) == ["a", "b", "c", "d"]
    positives = [("what?", "a"), ("what?", "b"), ("who?", "c")]
    assert sorted({(asked[each.query_id], texts[each.document_id]) for each in judged if each.grade > 0}) == positives
    if found is not None:
        negatives = [("what?", "c"), ("who?", "a"), ("who?", "d")]
        assert sorted((asked[each.query_id], texts[each.document_id]) for each in found) == negatives


def test_beir_folder_without_a_corpus(tmp_path: Path) -> None:
    """Queries and judgments are taken for what they are; the passages may come from elsewhere."""
    (tmp_path / "queries.jsonl").write_text('{"_id": "q", "text": "which"}\n', "utf-8")
    (tmp_path / "qrels").mkdir()
    (tmp_path / "qrels" / "train.tsv").write_text("query-id\tcorpus-id\tscore\nq\td\t1\n", "utf-8")
    parts = open_parts(tmp_path)
    assert parts.documents is None
    assert parts.queries is not None
    assert parts.judged is not None
