"""Parquet, saved data sets, Zstandard, one JSON list: the same rows in other containers."""

import json
import os
import subprocess
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import relabel
from relabel.errors import InputError, RowError
from relabel.formats import FORMATS, Reject, detect, lines, open_writer, read_examples
from relabel.formats.endings import ending
from relabel.formats.tables import schema_of

if TYPE_CHECKING:
    from relabel.records import Label

Row = dict[str, Any]

BGE: Row = {
    "query": "how do bees find home",
    "pos": ["By the sun."],
    "neg": ["Wasps build with paper.", "They read polarised light."],
    "pos_scores": [0.5],
    "neg_scores": [0.25, 0.75],
    "subset": "ä",
}
TEVATRON: Row = {
    "query_id": "7",
    "query": "how do bees find home",
    "positive_passages": [{"docid": "a", "title": "Bees", "text": "By the sun."}],
    "negative_passages": [
        {"docid": "b", "title": "", "text": "Wasps build with paper.", "rank": 1},
        {"docid": "c", "title": None, "text": "They read polarised light.", "rank": 2},
    ],
}
SUFFIXES = [".parquet", ".jsonl.zst", ".jsonl.gz", ".json", ".json.zst", ".json.gz"]


def parse(name: str, row: Mapping[str, Any]) -> Any:
    """Read one row."""
    return FORMATS[name].parse(row, position=0, line=1)


def save(path: Path, name: str, *rows: Row, like: Path | None = None) -> Path:
    """Write rows through a writer."""
    with open_writer(path, FORMATS[name], like=like) as writer:
        for row in rows:
            writer.write(parse(name, row))
    return path


def rows_in(path: Path) -> list[Mapping[str, Any]]:
    """Read the rows of a file."""
    return [example.row for example in read_examples(path)]


@pytest.mark.parametrize("suffix", SUFFIXES)
def test_written_rows_read_back(suffix: str, tmp_path: Path) -> None:
    """The container changes nothing, and equal examples make equal bytes under any name."""
    rows = [BGE, BGE | {"query": "another"}]
    one, two = (save(tmp_path / f"{name}{suffix}", "bge", *rows) for name in ("one", "two"))
    assert rows_in(one) == rows
    assert detect(one) is FORMATS["bge"]
    assert one.read_bytes() == two.read_bytes()
    assert sorted(each.name for each in tmp_path.iterdir()) == [f"one{suffix}", f"two{suffix}"]


@pytest.mark.parametrize("suffix", [".csv.zst", ".CSV.ZST"])
def test_csv_in_zstandard(suffix: str, tmp_path: Path) -> None:
    """Zstandard goes with every text container, in any case."""
    row = {"anchor": "q", "positive": "p", "negative": "line\nbreak"}
    assert rows_in(save(tmp_path / f"x{suffix}", "triplets", row)) == [row]


@pytest.mark.parametrize(
    ("name", "end"),
    [
        ("a.jsonl", ".jsonl"),
        ("a", ".jsonl"),
        ("a.CSV.GZ", ".csv.gz"),
        ("a.json.zst", ".json.zst"),
        ("a.Parquet", ".parquet"),
        ("a.zst", ".jsonl.zst"),
        ("a.csv.jsonl", ".jsonl"),
    ],
)
def test_usual_ending_of_a_name(name: str, end: str) -> None:
    """The cleaned file is the same kind of file as the input."""
    assert ending(Path(name)) == end


# -------------------------------------------------------------------------------------------------------- Parquet


def test_parquet_schema_and_metadata_are_kept(tmp_path: Path) -> None:
    """Narrow types, large strings, dictionaries and the notes of `datasets` come out as they went in."""
    schema = pa.schema(
        [
            ("query", pa.large_string()),
            ("pos", pa.list_(pa.string())),
            ("neg", pa.large_list(pa.string())),
            ("neg_scores", pa.list_(pa.float32())),
            ("subset", pa.dictionary(pa.int8(), pa.string())),
            ("n", pa.int16()),
        ],
        metadata={"huggingface": "{}"},
    )
    row = {key: BGE[key] for key in ("query", "pos", "neg", "neg_scores", "subset")} | {"n": 3}
    path = tmp_path / "in.parquet"
    pq.write_table(pa.Table.from_pylist([row | {"neg_scores": [0.1, 0.7]}] * 3, schema=schema), path)
    out = tmp_path / "out.parquet"
    with open_writer(out, FORMATS["bge"], like=path) as writer:
        for example in read_examples(path):
            writer.write(example)
    assert pq.read_schema(out).equals(schema_of(path), check_metadata=True)
    assert pq.read_table(out).equals(pq.read_table(path))


def test_schema_makes_room_for_a_promotion(tmp_path: Path) -> None:
    """A passage moves with fields that no positive had, and scores of a wider type, without loss."""
    row = TEVATRON | {"positive_passage_scores": [1], "negative_passage_scores": [0.5, 0.25]}
    path = tmp_path / "in.parquet"
    pq.write_table(pa.Table.from_pylist([row]).replace_schema_metadata({"huggingface": "old types"}), path)
    (example,) = read_examples(path)
    moved = example.negatives[0]
    out = tmp_path / "out.parquet"
    with open_writer(out, FORMATS["tevatron"], like=path) as writer:
        writer.write(type(example)(
            **{name: getattr(example, name) for name in ("id", "query", "row", "layout")},
            positives=(*example.positives, moved), negatives=example.negatives[1:],
        ))  # fmt: skip
    (again,) = rows_in(out)
    assert again["positive_passages"][1] == moved.item
    assert again["positive_passage_scores"] == [1, 0.5]
    assert pq.read_schema(out).field("negative_passages") == pq.read_schema(path).field("negative_passages")
    assert not pq.read_schema(out).metadata


def test_types_are_found_over_all_rows(tmp_path: Path) -> None:
    """What is null, empty or whole in the first thousand rows may be text, filled or broken later."""
    rows = [{"query": "q", "pos": ["p"], "neg": [], "n": 1, "x": None}] * 1500
    rows.append({"query": "q", "pos": ["p"], "neg": ["n"], "n": 1.5, "y": {"a": [1]}, "x": "text"})
    path = save(tmp_path / "x.parquet", "bge", *rows)
    again = rows_in(path)
    assert len(again) == 1501
    assert again[0] == rows[0] | {"y": None}
    assert again[-1] == rows[-1]
    assert pq.ParquetFile(path).num_row_groups == 2


@pytest.mark.parametrize(
    ("more", "words"),
    [
        ({"ids": ["b", 3]}, "'ids' do not fit"),
        ({"n": 2**70}, "'n' do not fit"),
        ({"subset": "\ud83d"}, "'subset' do not fit"),
        ({"x": {}}, "cannot hold"),
    ],
)
def test_parquet_refuses_what_it_cannot_hold(more: Row, words: str, tmp_path: Path) -> None:
    """Mixed types, numbers too large, half a surrogate pair, objects without fields: told, and no file is left."""
    with pytest.raises(InputError, match=words) as caught:
        save(tmp_path / "x.parquet", "bge", BGE | more)
    assert ".jsonl" in caught.value.hint
    assert list(tmp_path.iterdir()) == []


def test_parquet_never_changes_a_value_to_fit_its_schema(tmp_path: Path) -> None:
    """A broken number in a list of whole ones, a text in another row, a new column: refused."""
    path = save(tmp_path / "in.parquet", "bge", {"query": "q", "pos": ["p"], "neg": ["n"], "neg_scores": [1], "n": 1})
    row = {"query": "q", "pos": ["p"], "neg": ["n"], "neg_scores": [1], "n": 1}
    for more, words in (
        ({"neg_scores": [0.5]}, "'neg_scores' do not fit"),
        ({"n": "text"}, "'n' do not fit"),
        ({"new": 1}, "'new', which is no column"),
    ):
        with pytest.raises(InputError, match=words):
            save(tmp_path / "out.parquet", "bge", row | more, like=path)
    save(tmp_path / "two.parquet", "bge", row, row | {"n": None})
    with pytest.raises(InputError, match="needs one type"):
        save(tmp_path / "out.parquet", "bge", *[row] * 1000, row | {"n": "text"})


def test_file_without_rows_keeps_its_columns(tmp_path: Path) -> None:
    """Everything was removed: an empty file of the same schema; and reading it says so."""
    path = save(tmp_path / "in.parquet", "bge", BGE)
    out = save(tmp_path / "out.parquet", "bge", like=path)
    assert pq.read_schema(out) == pq.read_schema(path)
    with pytest.raises(InputError, match="no rows"):
        rows_in(out)
    assert pq.read_table(save(tmp_path / "none.parquet", "bge")).num_rows == 0


def test_bad_parquet_rows_are_counted_by_row(tmp_path: Path) -> None:
    """The error says which row of the file, and a reject shows it as JSON."""
    path = tmp_path / "in.parquet"
    bad = BGE | {"query": None}
    pq.write_table(pa.Table.from_pylist([BGE, bad, BGE | {"pos": None}, BGE]), path)
    with pytest.raises(RowError, match=r"in\.parquet, row 2: field 'query': is null"):
        rows_in(path)
    rejects: list[Reject] = []
    assert len(list(read_examples(path, on_error="skip", on_reject=rejects.append))) == 2
    assert [(reject.line, reject.position, reject.field) for reject in rejects] == [(2, 1, "query"), (3, 2, "pos")]
    assert json.loads(rejects[0].content) == bad


def test_nan_among_scores_survives(tmp_path: Path) -> None:
    """NaN and infinity are numbers of a Parquet column."""
    row = BGE | {"neg_scores": [float("nan"), float("-inf")]}
    path = save(tmp_path / "x.parquet", "bge", row)
    save(tmp_path / "y.parquet", "bge", *map(dict, rows_in(path)), like=path)
    assert str(rows_in(tmp_path / "y.parquet")[0]["neg_scores"]) == "[nan, -inf]"


@pytest.mark.parametrize("size", [0, 3, 8, 200, -20, -200])
def test_damaged_parquet(size: int, tmp_path: Path) -> None:
    """Empty, cut off, or no Parquet at all."""
    path = save(tmp_path / "x.parquet", "bge", BGE)
    path.write_bytes(path.read_bytes()[:size])
    for attempt in (rows_in, detect):
        with pytest.raises(InputError, match="damaged or cut off") as caught:
            attempt(path)
        assert "x.parquet" in str(caught.value)
    path.write_text('{"query": 1}\n')
    with pytest.raises(InputError, match="damaged or cut off"):
        rows_in(path)


def test_damage_in_the_middle_of_parquet(tmp_path: Path) -> None:
    """Pages that cannot be read are told too."""
    path = save(tmp_path / "x.parquet", "bge", *[BGE | {"query": os.urandom(9).hex()} for _ in range(500)])
    content = bytearray(path.read_bytes())
    content[40:4000] = b"\xff" * 3960
    path.write_bytes(content)
    with pytest.raises(InputError, match="damaged or cut off"):
        rows_in(path)


def test_wrong_schema_lists_keys_and_shapes(tmp_path: Path) -> None:
    """A Parquet file of something else is told as any other file is."""
    path = tmp_path / "x.parquet"
    pq.write_table(pa.Table.from_pylist([{"a": 1}]), path)
    with pytest.raises(InputError, match=r"no shape that relabel knows\. Keys seen: 'a'"):
        detect(path)


def test_types_that_json_does_not_know(tmp_path: Path) -> None:
    """Dates, bytes and decimals cannot go into a ledger: said before anything is read."""
    path = tmp_path / "x.parquet"
    pq.write_table(
        pa.table({"query": ["q"], "when": pa.array([[{"t": 1}]], pa.list_(pa.struct([("t", pa.date32())])))}), path
    )
    with pytest.raises(InputError, match=r"column 'when' holds date32"):
        detect(path)


def test_parquet_cannot_be_compressed_again(tmp_path: Path) -> None:
    """It is compressed inside."""
    with pytest.raises(InputError, match="compressed inside"):
        save(tmp_path / "x.parquet.gz", "bge", BGE)


@pytest.mark.skipif(not Path("/proc/self/status").exists(), reason="peak memory is read from /proc")
def test_parquet_is_read_in_flat_memory(tmp_path: Path) -> None:
    """One row group of 200 MB takes less than 100 MB more than a small file does."""
    schema = pa.schema([("anchor", pa.string()), ("positive", pa.string()), ("negative", pa.string())])
    path = tmp_path / "large.parquet"
    with pq.ParquetWriter(path, schema, compression="zstd") as writer:
        texts = [f"{n} " + "word " * 2000 for n in range(20_000)]
        writer.write_table(pa.table({"anchor": ["q"] * 20_000, "positive": ["p"] * 20_000, "negative": texts}, schema))
    del texts
    small = save(tmp_path / "small.parquet", "triplets", {"anchor": "q", "positive": "p", "negative": "n"})

    def peak(where: Path) -> float:
        code = (
            "import sys; from relabel.formats import read_examples\n"
            "count = sum(1 for _ in read_examples(sys.argv[1]))\n"
            "print(count, *[line.split()[1] for line in open('/proc/self/status') if 'VmHWM' in line])"
        )
        done = subprocess.run([sys.executable, "-c", code, where], capture_output=True, text=True, check=True)
        count, kilobytes = map(int, done.stdout.split())
        assert count in (1, 20_000)
        return kilobytes / 1024

    assert peak(path) - peak(small) < 100


# ------------------------------------------------------------------------------------------- saved by `datasets`


def test_saved_data_set_is_read_and_its_schema_kept(tmp_path: Path) -> None:
    """A folder of save_to_disk, in several shards, and as it stands after a shuffle."""
    from datasets import Dataset

    rows = [BGE | {"query": f"query {n}"} for n in range(700)]
    data = Dataset.from_list(rows)
    data.save_to_disk(tmp_path / "plain", num_shards=3)
    assert rows_in(tmp_path / "plain") == rows
    data.shuffle(seed=1).save_to_disk(tmp_path / "shuffled")
    shuffled = rows_in(tmp_path / "shuffled")
    assert shuffled == list(data.shuffle(seed=1))
    assert shuffled != rows
    out = save(tmp_path / "out.parquet", "bge", *rows, like=tmp_path / "plain")
    assert list(Dataset.from_parquet(str(out), cache_dir=str(tmp_path / "cache"))) == rows
    assert ending(tmp_path / "plain") == ".parquet"


def test_folders_that_are_no_data_set(tmp_path: Path) -> None:
    """A dictionary of splits names one to type; a broken folder is told."""
    from datasets import Dataset, DatasetDict

    DatasetDict({"train": Dataset.from_list([BGE])}).save_to_disk(tmp_path / "splits")
    with pytest.raises(InputError, match="not a data set saved") as caught:
        detect(tmp_path / "splits")
    assert caught.value.hint.endswith("splits/train")
    (part,) = (tmp_path / "splits" / "train").glob("*.arrow")
    part.write_bytes(part.read_bytes()[:100])
    with pytest.raises(InputError, match="damaged or cut off"):
        detect(tmp_path / "splits" / "train")
    (tmp_path / "splits" / "train" / "state.json").write_text("{}")
    with pytest.raises(InputError, match=r"state\.json"):
        detect(tmp_path / "splits" / "train")


# --------------------------------------------------------------------------------------------- Zstandard and JSON


@pytest.mark.parametrize("cut", [5, -30])
def test_damaged_zstandard(cut: int, tmp_path: Path) -> None:
    """Cut off, or no Zstandard data."""
    path = save(tmp_path / "x.jsonl.zst", "bge", *[BGE | {"query": os.urandom(50).hex()} for _ in range(300)])
    path.write_bytes(path.read_bytes()[:cut])
    with pytest.raises(RowError, match="damaged or cut off") as caught:
        list(read_examples(path, on_error="skip"))
    assert "x.jsonl.zst, line" in str(caught.value)
    path.write_text(json.dumps(BGE))
    with pytest.raises(RowError, match="not Zstandard data"):
        rows_in(path)


def test_several_zstandard_frames(tmp_path: Path) -> None:
    """Files that were put together by cat are read to the end."""
    part = save(tmp_path / "part.jsonl.zst", "bge", BGE).read_bytes()
    (tmp_path / "x.jsonl.zst").write_bytes(part * 3)
    assert rows_in(tmp_path / "x.jsonl.zst") == [BGE] * 3


@pytest.mark.parametrize("chunk", [1, 7, 1024 * 1024])
def test_json_list_in_any_layout(chunk: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Indented, on one line, with a mark of byte order; read in pieces of any size; bad elements one by one."""
    from relabel.formats import jsonlist

    monkeypatch.setattr(jsonlist, "_CHUNK", chunk)
    path = tmp_path / "x.json"
    for content in (json.dumps([BGE, BGE], indent=2), json.dumps([BGE, BGE]), f"\ufeff \n{json.dumps([BGE, BGE])}\n"):
        path.write_text(content, "utf-8")
        assert rows_in(path) == [BGE, BGE]
    path.write_text(json.dumps([BGE, [1], BGE | {"pos": 3}, BGE]), "utf-8")
    rejects: list[Reject] = []
    assert len(list(read_examples(path, on_error="skip", on_reject=rejects.append))) == 2
    assert [(reject.line, reject.field) for reject in rejects] == [(2, ""), (3, "pos")]
    with pytest.raises(RowError, match=r"x\.json, row 2: is JSON, but not an object"):
        rows_in(path)


@pytest.mark.parametrize(
    ("content", "words"),
    [
        (b'[{"query": "q", "pos": ["p"], "neg": []}', "row 1: is cut off"),
        (b'[{"query": "q", "pos": ["p"], "neg": []}, {"query"', "row 2: is not a JSON list|row 2: is cut off"),
        (b'[{"query": "q", "pos": ["p"], "neg": []} {}]', "row 1: is not a JSON list: expected a comma"),
        (b'[{"query": "q", "pos": ["p"], "neg": []}] x', "something follows"),
        (b'[{"query": "q", "pos": ["p"], "neg": []},]', "row 2: is not a JSON list"),
        (b'[{"query": "\xe4"}]', "not UTF-8"),
        (b"[]", "no rows"),
        (b"", "no rows"),
        (b"[" * 100_000, "is not a JSON list"),
    ],
)
def test_broken_json_list(content: bytes, words: str, tmp_path: Path) -> None:
    """A list that is broken cannot be read on: where it is, whatever is skipped."""
    path = tmp_path / "x.json"
    path.write_bytes(content)
    with pytest.raises(InputError, match=words):
        list(read_examples(path, on_error="skip"))


def test_broken_element_is_given_up_at_the_limit(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """What never closes is not read to the end of a large file."""
    monkeypatch.setattr(lines, "MAX_LINE", 1000)
    path = tmp_path / "x.json"
    path.write_text('[{"query": "q' + "x" * 10_000_000)
    with pytest.raises(RowError, match="row 1: is not a JSON list"):
        rows_in(path)


def test_json_lines_called_json(tmp_path: Path) -> None:
    """A file of lines is read as lines, whatever it is called."""
    path = tmp_path / "x.json"
    path.write_text(json.dumps(BGE) + "\n\n" + json.dumps(BGE))
    assert rows_in(path) == [BGE, BGE]
    assert save(tmp_path / "none.json", "bge").read_text() == "[]\n"


# ------------------------------------------------------------------------------------------------------ whole runs


class Dice:
    """A judge whose word follows from the text, so that some are promoted, some dropped, some kept."""

    def judge(self, cases: Any) -> Any:
        """Say relevant, partial or irrelevant by the last sign."""
        words: dict[str, Label] = {"a": "relevant", "b": "partial"}
        for case in cases:
            said = [relabel.Judgment(words.get(pair.candidate.text[-1:], "irrelevant")) for pair in case.pairs]
            yield case.judged(tuple(said))


def pairs_file(path: Path) -> Path:
    """Write Tevatron rows whose passages end in a, b or c."""
    rows = []
    for n in range(12):
        texts = [f"{n} {k} {'abccc'[(n * 7 + k * k) % 5]}" for k in range(n % 5)]
        passages = [{"docid": f"{n}-{k}", "title": "", "text": text} for k, text in enumerate(texts)]
        good = [{"docid": f"g{n}", "title": "", "text": f"good {n}"}]
        rows.append(
            {"query_id": f"q{n}", "query": f"query {n}", "positive_passages": good, "negative_passages": passages}
        )
    path.write_text("".join(json.dumps(row) + "\n" for row in rows))
    return path


@pytest.mark.parametrize(
    ("name", "suffix"),
    [
        ("tevatron", ".parquet"),
        ("bge", ".jsonl.zst"),
        ("dpr", ".json"),
        ("n-tuples", ".csv"),
        ("n-tuples", ".parquet"),
        ("triplets", ".parquet"),
        ("labeled-pairs", ".csv.zst"),
        ("labeled-pairs", ".parquet"),
        ("labeled-lists", ".json.gz"),
        ("labeled-lists", "saved"),
    ],
)
def test_run_then_rebuild(name: str, suffix: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A run in every format and container: cleaned file of the same kind, and with the ledger the input again."""
    monkeypatch.chdir(tmp_path)
    source = tmp_path / ("in.parquet" if suffix == "saved" else f"in{suffix}")
    relabel.convert(pairs_file(tmp_path / "rows.jsonl"), source, to=name)
    if suffix == "saved":
        from datasets import Dataset

        data = Dataset.from_parquet(str(source), cache_dir=str(tmp_path / "cache"))
        source = tmp_path / "saved"
        data.save_to_disk(source)
    before = [row for example in read_examples(source) for row in FORMATS[name].render(example)]
    config = tmp_path / "c.yaml"
    config.write_text("stages: [rules]\n")
    done = relabel.run(source, config, output=tmp_path / "run", judges={"rules": Dice()})
    assert done.files["cleaned"].name == f"cleaned{'.parquet' if suffix == 'saved' else suffix}"
    cleaned = list(read_examples(done.files["cleaned"]))
    assert detect(done.files["cleaned"]).name == name
    assert list(relabel.rebuild(tmp_path / "run")) == before
    texts = [passage.text for example in cleaned for passage in example.negatives]
    assert texts
    assert not [text for text in texts if text.endswith(("a", "b"))]
    risen = [passage.text for example in cleaned for passage in example.positives if passage.text.endswith("a")]
    assert bool(risen) == FORMATS[name].holds_promotions
    again = done.files["cleaned"].read_bytes()
    if suffix == "saved":  # what `datasets` keeps beside its data is not the data
        (source / "cache-0123.arrow").write_bytes(b"x")
    relabel.apply(tmp_path / "run")
    assert done.files["cleaned"].read_bytes() == again


def test_examples_that_meet_in_the_cleaned_file_are_told_apart(tmp_path: Path) -> None:
    """Pairs of one query, with a row between them that was removed: rebuilt as what they were, however many meet."""
    one = [{"query": "q", "document": "p", "label": 1}, {"query": "q", "document": "n c", "label": 0}]
    two = [{"query": "q", "document": "m b", "label": 0}, {"query": "q", "document": "r", "label": 1}]
    between = [{"query": "x", "document": "p", "label": 1}, {"query": "x", "document": "n a", "label": 0}]
    rows = [*one, *between, *two, *between, *one, *between]
    path = tmp_path / "in.parquet"
    pq.write_table(pa.Table.from_pylist(rows), path)
    config = tmp_path / "c.yaml"
    config.write_text("stages: [rules]\npolicy: {actions: {relevant: remove, partial: drop, irrelevant: keep, "
                      "undecided: ask, void: drop}}\n")  # fmt: skip
    done = relabel.run(path, config, output=tmp_path / "run", judges={"rules": Dice()})
    assert [len(example.negatives) for example in read_examples(done.files["cleaned"])] == [2]
    assert list(relabel.rebuild(tmp_path / "run")) == rows


# ----------------------------------------------------------------------------------------------------- properties

text = st.text(st.characters(exclude_categories=["Cs"]), max_size=8)
seen = text.filter(lambda each: bool(each.strip()))


@settings(max_examples=50, deadline=None)
@given(
    st.lists(
        st.fixed_dictionaries(
            {"query": seen, "pos": st.lists(seen, min_size=1, max_size=2), "neg": st.just([])},
            optional={"x": st.lists(text | st.none(), max_size=2), "y": st.none() | st.booleans(), "z": text},
        ),
        min_size=1,
        max_size=4,
    )
)
def test_property_parquet_write_then_read(tmp_path_factory: pytest.TempPathFactory, rows: list[Row]) -> None:
    """Any Unicode comes back; what a row lacks comes back as null."""
    path = save(tmp_path_factory.mktemp("table") / "x.parquet", "bge", *rows)
    keys = dict.fromkeys(key for row in rows for key in row)
    assert rows_in(path) == [{key: row.get(key) for key in keys} for row in rows]
