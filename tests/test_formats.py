"""Training files in and out: nothing lost, lists in step, every bad row named."""

import csv
import gzip
import json
import math
import random
from collections.abc import Callable, Mapping
from dataclasses import replace
from hashlib import sha256
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from relabel import options
from relabel.errors import InputError, RowError, SettingsError
from relabel.formats import FORMATS, Effects, Reject, detect, get_format, lines, open_writer, read_examples
from relabel.records import Example

Row = dict[str, Any]

TEVATRON: Row = {
    "query_id": 7,
    "query": "how do bees find home",
    "positive_passages": [{"docid": "a", "text": "By the sun.", "title": "Bees"}],
    "negative_passages": [
        {"docid": 12, "text": "Wasps build with paper.", "lang": "en"},
        {"text": "They read polarised light.", "title": None, "docid": "c"},
    ],
    "subset": "insects",
    "positive_passage_ids": ["a"],
    "negative_passage_ids": [12, "c"],
}
BGE: Row = {
    "query": "how do bees find home",
    "pos": ["By the sun."],
    "neg": ["Wasps build with paper.", "They read polarised light."],
    "pos_scores": [0.9],
    "neg_scores": [0.2, 0.8],
    "neg_id": ["b", 3],
    "prompt": "Find the answer.",
}
TRIPLET: Row = {"note": 1, "Query": "how do bees find home", "positive": "By the sun.", "NEGATIVE": "Wasps."}
ROWS = {"tevatron": TEVATRON, "bge": BGE, "triplets": TRIPLET}


def parse(name: str, row: Mapping[str, Any], source_field: str | None = None) -> Example:
    """Read one row as line 5 of the file train.jsonl."""
    return FORMATS[name].parse(row, position=4, line=5, path="train.jsonl", source_field=source_field)


def without(row: Row, key: str) -> Row:
    """Copy a row, one key less."""
    return {name: value for name, value in row.items() if name != key}


def promoted(example: Example, index: int) -> Example:
    """Move one negative to the end of the positives, as a policy does."""
    negatives = list(example.negatives)
    moved = negatives.pop(index)
    return replace(example, positives=(*example.positives, moved), negatives=tuple(negatives))


def write_lines(path: Path, *rows: object) -> Path:
    """Write rows as JSON lines; bytes go in as they are."""
    path.write_bytes(b"".join((row if isinstance(row, bytes) else json.dumps(row).encode()) + b"\n" for row in rows))
    return path


def save(path: Path, name: str, examples: list[Example]) -> Path:
    """Write examples through a writer."""
    with open_writer(path, FORMATS[name]) as writer:
        for example in examples:
            writer.write(example)
    return path


# ---------------------------------------------------------------------------------------------- parse and render


@pytest.mark.parametrize("name", ROWS)
def test_unchanged_row_renders_to_itself(name: str) -> None:
    """Same keys, same order of keys, same values: ids stay numbers and absent titles absent."""
    rendered = FORMATS[name].render(parse(name, ROWS[name]))
    assert rendered == [ROWS[name]]
    assert json.dumps(rendered[0]) == json.dumps(ROWS[name])


def test_tevatron_nouns() -> None:
    """Ids become text, null and missing titles become none, the whole object stays with its passage."""
    example = parse("tevatron", TEVATRON)
    assert (example.id, example.query, example.source) == ("7", "how do bees find home", "insects")
    assert (example.position, example.layout) == (4, "tevatron")
    first, second = example.negatives
    assert (first.id, first.title, first.item["lang"], first.beside) == ("12", "", "en", {"ids": 12})
    assert (second.id, second.title) == ("c", "")
    assert example.positives[0].full_text == "Bees By the sun."


def test_bge_nouns() -> None:
    """Ids beside the texts are the passages' ids; without them the id is a digest of the text."""
    example = parse("bge", BGE)
    assert [passage.id for passage in example.negatives] == ["b", "3"]
    assert example.negatives[1].beside == {"scores": 0.8, "id": 3}
    assert example.positives[0].id.startswith("p-")
    assert len(example.positives[0].id) == len("p-") + 12


def test_made_up_ids_depend_on_content_alone() -> None:
    """The same query has the same id in every format; another one has another."""
    ids = {parse(name, without(row, "query_id")).id for name, row in ROWS.items()}
    assert len(ids) == 1
    assert ids.pop().startswith("q-")
    assert parse("bge", BGE | {"query": "how do ants find home"}).id != parse("bge", BGE).id


def test_title_counts_in_a_made_up_passage_id() -> None:
    """Two passages of equal text under different titles are two passages."""
    passages = [FORMATS["tevatron"].passage({"text": "x", "title": title}, {}) for title in ("a", "b")]
    assert passages[0].id != passages[1].id


@pytest.mark.parametrize(
    ("extra", "field", "source"),
    [
        ({"source": "s", "subset": "t"}, None, "t"),
        ({"subset": 3, "source": None, "dataset": "d"}, None, "d"),
        ({"subset": "t", "origin": "o"}, "origin", "o"),
        ({"subset": "t"}, "origin", ""),
        ({}, None, ""),
    ],
)
def test_source(extra: Row, field: str | None, source: str) -> None:
    """The named field counts alone; otherwise the first usual one that holds text."""
    assert parse("bge", BGE | extra, field).source == source


def test_columns_of_triplets_in_any_case() -> None:
    """`anchor` goes before `query`, the exact name before another case, and the rest survives."""
    row = {"query": "other", "Anchor": "a", "Positive": "p", "positive": "q", "negative": "n"}
    example = parse("triplets", row)
    assert (example.query, example.positives[0].text) == ("a", "q")
    assert FORMATS["triplets"].render(example) == [row]


@pytest.mark.parametrize("name", ROWS)
def test_passage_is_rebuilt_from_a_ledger_line(name: str) -> None:
    """What a ledger keeps of a passage makes an equal passage after a trip through JSON."""
    for passage in parse(name, ROWS[name]).negatives:
        kept = json.loads(json.dumps({"item": passage.item, "beside": dict(passage.beside)}))
        assert FORMATS[name].passage(kept["item"], kept["beside"]) == passage


# ---------------------------------------------------------------------------------------------------------- edits


def test_promotion_keeps_the_lists_of_tevatron_in_step() -> None:
    """Passage and id arrive together at the end of the positives, the rest stays in order."""
    (row,) = FORMATS["tevatron"].render(promoted(parse("tevatron", TEVATRON), 0))
    assert row == TEVATRON | {
        "positive_passages": [*TEVATRON["positive_passages"], TEVATRON["negative_passages"][0]],
        "negative_passages": [TEVATRON["negative_passages"][1]],
        "positive_passage_ids": ["a", 12],
        "negative_passage_ids": ["c"],
    }
    assert list(row) == list(TEVATRON)


def test_promotion_into_a_list_of_ids_that_negatives_lack() -> None:
    """The docid itself stands in, as it was written."""
    row = without(TEVATRON, "negative_passage_ids")
    assert FORMATS["tevatron"].render(promoted(parse("tevatron", row), 0))[0]["positive_passage_ids"] == ["a", 12]


def test_promotion_keeps_the_lists_of_bge_in_step() -> None:
    """The score moves with its text; an id that pos has no list for invents none."""
    (row,) = FORMATS["bge"].render(promoted(parse("bge", BGE), 1))
    assert row == BGE | {
        "pos": ["By the sun.", "They read polarised light."],
        "neg": ["Wasps build with paper."],
        "pos_scores": [0.9, 0.8],
        "neg_scores": [0.2],
        "neg_id": ["b"],
    }


def test_promotion_without_a_score_is_null() -> None:
    """A list that only pos has gets null for the newcomer."""
    (row,) = FORMATS["bge"].render(promoted(parse("bge", without(BGE, "neg_scores")), 0))
    assert row["pos_scores"] == [0.9, None]
    assert "neg_scores" not in row


@pytest.mark.parametrize("name", ["tevatron", "bge"])
def test_emptied_lists_stay_as_empty_lists(name: str) -> None:
    """Every negative dropped: the row stays, all lists of that side empty."""
    (row,) = FORMATS[name].render(replace(parse(name, ROWS[name]), negatives=()))
    lists = {key: value for key, value in row.items() if key.startswith("neg") and isinstance(value, list)}
    assert len(lists) >= 2
    assert set(map(len, lists.values())) == {0}
    assert parse(name, row).negatives == ()


def test_triplet_without_its_negative_is_no_row() -> None:
    """A triplet has room for neither a promotion nor an empty list."""
    example = parse("triplets", TRIPLET)
    assert FORMATS["triplets"].render(replace(example, negatives=())) == []
    assert FORMATS["triplets"].render(promoted(example, 0)) == []
    assert not FORMATS["triplets"].holds_promotions
    assert not FORMATS["triplets"].holds_emptied


def test_original_is_not_touched_by_rendering() -> None:
    """Rendering an edited example leaves the parsed row as it was."""
    row = json.loads(json.dumps(BGE))
    FORMATS["bge"].render(promoted(parse("bge", row), 0))
    assert row == BGE


# -------------------------------------------------------------------------------------------------------- convert


def test_tevatron_to_bge() -> None:
    """Titles go in front, ids beside, unknown fields along, and the reader finds the same ids again."""
    example = parse("tevatron", TEVATRON)
    (row,) = FORMATS["bge"].render(example)
    assert row == {
        "query": "how do bees find home",
        "pos": ["Bees By the sun."],
        "neg": ["Wasps build with paper.", "They read polarised light."],
        "pos_id": ["a"],
        "neg_id": ["12", "c"],
        "query_id": 7,
        "subset": "insects",
    }
    back = parse("bge", row)
    assert back.id == example.id
    assert [passage.id for passage in back.negatives] == [passage.id for passage in example.negatives]


def test_bge_to_tevatron_and_back() -> None:
    """Scores stay parallel lists on the way, so that the way back restores them."""
    (row,) = FORMATS["tevatron"].render(parse("bge", BGE))
    assert row["negative_passages"][0] == {"docid": "b", "title": "", "text": "Wasps build with paper."}
    assert row["negative_passage_scores"] == [0.2, 0.8]
    assert list(row)[:4] == ["query_id", "query", "positive_passages", "negative_passages"]
    (back,) = FORMATS["bge"].render(parse("tevatron", row))
    assert {key: back[key] for key in BGE if key != "neg_id"} == without(BGE, "neg_id")


def test_null_query_id_becomes_the_examples_own() -> None:
    """A new Tevatron row has an id even where the old one said null."""
    example = parse("bge", BGE | {"query_id": None})
    assert FORMATS["tevatron"].render(example)[0]["query_id"] == example.id


def test_field_that_means_something_only_to_the_new_format_is_not_carried() -> None:
    """An unrelated list must not pose as a parallel one in the new row; a text of such a name may stay."""
    (row,) = FORMATS["tevatron"].render(parse("bge", BGE | {"negative_passage_ids": [1], "negative_passage_note": "n"}))
    assert "negative_passage_ids" not in row
    assert row["negative_passage_note"] == "n"
    assert parse("tevatron", row).negatives[0].id == "b"


@pytest.mark.parametrize("name", ["tevatron", "bge"])
def test_to_triplets(name: str) -> None:
    """One row for each negative, each with the first positive, the three columns first."""
    example = parse(name, ROWS[name])
    rows = FORMATS["triplets"].render(promoted(example, 0))
    assert [row["negative"] for row in rows] == ["They read polarised light."]
    assert rows[0]["positive"] == example.positives[0].full_text
    assert list(rows[0])[:3] == ["anchor", "positive", "negative"]
    assert len(FORMATS["triplets"].render(example)) == 2


@pytest.mark.parametrize("name", ["tevatron", "bge"])
def test_from_triplets(name: str) -> None:
    """A triplet becomes a row of lists; its unknown column comes along."""
    example = parse("triplets", TRIPLET)
    (row,) = FORMATS[name].render(example)
    again = parse(name, row)
    assert (again.query, again.positives[0].text, again.negatives[0].text) == (
        TRIPLET["Query"],
        "By the sun.",
        "Wasps.",
    )
    assert (again.id, again.negatives[0].id, row["note"]) == (example.id, example.negatives[0].id, 1)
    assert "Query" not in row


# ------------------------------------------------------------------------------------------------------- bad rows

BAD_ROWS: list[tuple[str, Row, str, str]] = [
    ("bge", without(BGE, "query"), "query", "missing"),
    ("bge", BGE | {"query": None}, "query", "null"),
    ("bge", BGE | {"query": 3}, "query", "a number"),
    ("bge", BGE | {"query": True}, "query", "true or false"),
    ("bge", BGE | {"query": ""}, "query", "empty"),
    ("bge", BGE | {"query": " \n\u00a0"}, "query", "empty"),
    ("bge", BGE | {"query_id": [1]}, "query_id", "a list"),
    ("bge", BGE | {"query_id": True}, "query_id", "true or false"),
    ("bge", without(BGE, "pos"), "pos", "missing"),
    ("bge", without(BGE, "neg"), "neg", "missing"),
    ("bge", BGE | {"pos": "By the sun."}, "pos", "text, not a list"),
    ("bge", BGE | {"neg": None}, "neg", "null, not a list"),
    ("bge", without(BGE, "pos_scores") | {"pos": []}, "pos", "empty list"),
    ("bge", BGE | {"pos": [""]}, "pos[0]", "empty"),
    ("bge", BGE | {"pos": ["a", " "], "pos_scores": [1, 2]}, "pos[1]", "empty"),
    ("bge", BGE | {"neg": ["a", None]}, "neg[1]", "null, not text"),
    ("bge", BGE | {"neg": ["a", {"text": "b"}]}, "neg[1]", "an object, not text"),
    ("bge", BGE | {"neg_scores": [0.2]}, "neg_scores", "1 entries where 'neg' has 2"),
    ("bge", BGE | {"pos_scores": []}, "pos_scores", "0 entries where 'pos' has 1"),
    ("bge", BGE | {"neg_note": [1, 2, 3]}, "neg_note", "3 entries"),
    ("bge", BGE | {"neg_id": ["b", {}]}, "neg[1].id", "an object, not an id"),
    ("tevatron", without(TEVATRON, "positive_passages"), "positive_passages", "missing"),
    ("tevatron", without(TEVATRON, "negative_passages"), "negative_passages", "missing"),
    ("tevatron", TEVATRON | {"positive_passages": []}, "positive_passage_ids", "1 entries"),
    ("tevatron", TEVATRON | {"positive_passages": [], "positive_passage_ids": []}, "positive_passages", "empty list"),
    ("tevatron", TEVATRON | {"negative_passages": {}}, "negative_passages", "an object, not a list"),
    ("tevatron", TEVATRON | {"negative_passages": ["a", "b"]}, "negative_passages[0]", "text, not an object"),
    ("tevatron", TEVATRON | {"positive_passages": [{"docid": 1}]}, "positive_passages[0].text", "missing"),
    ("tevatron", TEVATRON | {"positive_passages": [{"text": None}]}, "positive_passages[0].text", "null"),
    ("tevatron", TEVATRON | {"positive_passages": [{"text": " "}]}, "positive_passages[0]", "empty"),
    ("tevatron", TEVATRON | {"positive_passages": [{"text": "a", "title": 4}]}, "positive_passages[0].title", "number"),
    ("tevatron", TEVATRON | {"positive_passages": [{"text": "a", "docid": []}]}, "positive_passages[0].docid", "list"),
    ("tevatron", TEVATRON | {"negative_passage_ids": [12]}, "negative_passage_ids", "1 entries"),
    ("triplets", without(TRIPLET, "Query"), "anchor", "missing"),
    ("triplets", without(TRIPLET, "positive"), "positive", "missing"),
    ("triplets", without(TRIPLET, "NEGATIVE"), "negative", "missing"),
    ("triplets", TRIPLET | {"Query": 4}, "Query", "a number"),
    ("triplets", TRIPLET | {"positive": ["a"]}, "positive", "a list"),
    ("triplets", TRIPLET | {"positive": ""}, "positive", "empty"),
    ("triplets", TRIPLET | {"NEGATIVE": None}, "NEGATIVE", "null"),
]


@pytest.mark.parametrize(("name", "row", "field", "words"), BAD_ROWS)
def test_bad_row_names_place_field_and_remedy(name: str, row: Row, field: str, words: str) -> None:
    """Every bad row says file, line, field, what is wrong with it and what to do."""
    with pytest.raises(RowError) as caught:
        parse(name, row)
    error = caught.value
    assert (error.path, error.line, error.field) == ("train.jsonl", 5, field)
    assert words in error.problem
    assert error.hint
    assert "train.jsonl, line 5" in str(error)


@pytest.mark.parametrize(
    ("name", "row"),
    [
        ("bge", BGE | {"neg": ["", " "]}),
        ("bge", {"query": "q", "pos": ["p"], "neg": []}),
        ("bge", {"query": "q", "pos": ["p"], "neg": [], "neg_scores": [], "pos_scores": None}),
        ("bge", BGE | {"pos_note": "not a list, so not parallel"}),
        ("tevatron", TEVATRON | {"negative_passages": [], "negative_passage_ids": []}),
        ("tevatron", TEVATRON | {"positive_passages": [{"title": "only a title", "text": ""}]}),
        ("tevatron", TEVATRON | {"query_id": "", "subset": None}),
        ("triplets", TRIPLET | {"NEGATIVE": ""}),
    ],
)
def test_odd_but_legal_rows(name: str, row: Row) -> None:
    """Empty negatives, no negatives, null where nothing is needed: read, and written back the same."""
    assert FORMATS[name].render(parse(name, row)) == [row]


@pytest.mark.parametrize(("name", "item"), [("tevatron", "x"), ("bge", {"text": "x"}), ("triplets", None)])
def test_foreign_item_is_refused(name: str, item: object) -> None:
    """A ledger line of another format does not become a passage."""
    with pytest.raises(RowError, match="not"):
        FORMATS[name].passage(item, {})


# -------------------------------------------------------------------------------------------------------- reading


@pytest.mark.parametrize("name", ROWS)
def test_detects_each_format(name: str, tmp_path: Path) -> None:
    """The first row that can be read decides."""
    path = write_lines(tmp_path / "in.jsonl", b"", ROWS[name])
    assert detect(path) is FORMATS[name]
    assert [example.row for example in read_examples(path)] == [ROWS[name]]


def test_detects_csv(tmp_path: Path) -> None:
    """The header decides, in whatever case the file's name is."""
    path = tmp_path / "in.CSV"
    path.write_text("anchor,positive,negative\na,b,c\n")
    assert detect(path) is FORMATS["triplets"]


def test_unknown_shape_lists_keys_and_shapes(tmp_path: Path) -> None:
    """Nothing is guessed: the keys seen, the shapes known, and the option to type."""
    path = write_lines(tmp_path / "in.jsonl", {"question": "q", "ctxs": []})
    for attempt in (lambda: detect(path), lambda: list(read_examples(path, on_error="skip"))):
        with pytest.raises(InputError) as caught:
            attempt()
        text = str(caught.value)
        assert not isinstance(caught.value, RowError)
        assert all(word in text for word in ("'question', 'ctxs'", "--format", "positive_passages", "anchor", "pos"))


def test_named_format_says_what_is_missing(tmp_path: Path) -> None:
    """With the format named, an unknown shape becomes a missing field."""
    path = write_lines(tmp_path / "in.jsonl", {"question": "q"})
    with pytest.raises(RowError, match=r"in\.jsonl, line 1: field 'query': is missing; the row holds 'question'"):
        list(read_examples(path, format="bge"))


@pytest.mark.parametrize(
    ("name", "content", "words"),
    [
        ("in.jsonl", b"", "no rows"),
        ("in.jsonl", b"\n \r\n\t\n", "no rows"),
        ("in.jsonl", b"\xef\xbb\xbf", "no rows"),
        ("in.csv", b"anchor,positive,negative\n", "no rows"),
        ("in.csv", b"anchor,anchor,negative\na,b,c\n", "'anchor' twice"),
        ("in.csv", b'anchor,"positive"x,negative\na,b,c\n', "not CSV"),
        ("in.csv", b"anchor;positive;negative\na;b;c\n", "separated by ';'"),
        ("in.jsonl.gz", b'{"query": 1}\n', "not gzip"),
        ("in.jsonl.gz", gzip.compress(random.Random(1).randbytes(500))[:100], "cut off"),
        ("in.csv.gz", gzip.compress(random.Random(1).randbytes(500))[:100], "cut off"),
        ("in.jsonl.gz", gzip.compress(b"x" * 100)[:12] + b"\xff" * 30, "damaged"),
    ],
)
def test_unusable_file(name: str, content: bytes, words: str, tmp_path: Path) -> None:
    """A file that cannot be read at all is an error even where bad rows are skipped."""
    path = tmp_path / name
    path.write_bytes(content)
    with pytest.raises(InputError, match=words) as caught:
        list(read_examples(path, on_error="skip"))
    assert name in str(caught.value)
    assert caught.value.hint


@pytest.mark.parametrize("attempt", [detect, read_examples])
def test_missing_file_folder_and_odd_name(attempt: Callable[[Path], object], tmp_path: Path) -> None:
    """Said at once, before the first row is asked for."""
    with pytest.raises(InputError, match="no such file"):
        attempt(tmp_path / "absent.jsonl")
    with pytest.raises(InputError, match="is a folder"):
        attempt(tmp_path)
    with pytest.raises(InputError, match="cannot be opened"):
        attempt(tmp_path / "a\0b")


def test_unknown_names_are_refused(tmp_path: Path) -> None:
    """A wrong format or a wrong word for errors is told with the right ones."""
    path = write_lines(tmp_path / "in.jsonl", BGE)
    with pytest.raises(InputError, match="tevatron, bge, triplets"):
        get_format("parquet")
    with pytest.raises(InputError, match="parquet"):
        read_examples(path, format="parquet")
    with pytest.raises(SettingsError, match="stop, skip"):
        read_examples(path, on_error="ignore")  # type: ignore[arg-type]
    path.rename(tmp_path / "in.csv")
    with pytest.raises(InputError, match="CSV file cannot"):
        read_examples(tmp_path / "in.csv", format="bge")


def test_byte_order_mark_windows_line_ends_and_blank_lines(tmp_path: Path) -> None:
    """A file that passed through Windows reads the same; blank lines are lines but not rows."""
    path = tmp_path / "in.jsonl"
    row = json.dumps(BGE).encode()
    path.write_bytes(b"\xef\xbb\xbf" + row + b"\r\n\r\n \n" + row)
    examples = list(read_examples(path))
    assert [example.row for example in examples] == [BGE, BGE]
    assert [example.position for example in examples] == [0, 1]
    path.write_bytes(b"\n\n{}\n")
    with pytest.raises(RowError, match="line 3"):
        list(read_examples(path, format="bge"))


BAD_LINES: list[tuple[bytes, str]] = [
    (b'{"query": "cut', "not JSON"),
    (b"{", "not JSON"),
    (b"[1, 2]", "not an object"),
    (b'"text"', "not an object"),
    (b"null", "not an object"),
    (b'{"query": "\xe4"}', "not UTF-8 \\(byte 12"),
    (b"\xff\xfe{\x00}\x00", "not UTF-8"),
    (b"\x1f\x8b\x08\x00\xff", "not UTF-8"),
    (b"[" * 200_000, "nested too deep"),
    (b'{"n": ' + b"1" * 5000 + b"}", "not usable JSON"),
    (b'{"query": "q", "pos": "p", "neg": []}', "text, not a list"),
    (b"x" * 3000, "longer than"),
]


@pytest.mark.parametrize(("bad", "words"), BAD_LINES, ids=[words for _, words in BAD_LINES])
def test_bad_line_stops_or_is_skipped(bad: bytes, words: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """One bad line: an error with its place, or a reject with its place and text while the rest is read."""
    if words == "longer than":
        monkeypatch.setattr(lines, "MAX_LINE", 1000)
    path = write_lines(tmp_path / "in.jsonl", BGE, b"", bad, BGE)
    with pytest.raises(RowError, match=words) as caught:
        list(read_examples(path))
    assert (caught.value.path, caught.value.line) == (str(path), 3)
    assert caught.value.hint
    rejects: list[Reject] = []
    examples = list(read_examples(path, on_error="skip", on_reject=rejects.append))
    assert [example.position for example in examples] == [0, 2]
    (reject,) = rejects
    assert (reject.line, reject.position, reject.reason) == (3, 1, caught.value.problem)
    assert reject.field == caught.value.field
    assert reject.content == bad.decode("utf-8", "backslashreplace") or "sha256" in reject.content
    assert list(read_examples(path, on_error="skip")) == examples


def test_bad_first_line_does_not_decide_the_format(tmp_path: Path) -> None:
    """Recognition waits for a row that can be read; without one there is nothing to recognise."""
    path = write_lines(tmp_path / "in.jsonl", b"{", BGE)
    assert detect(path) is FORMATS["bge"]
    assert len(list(read_examples(path, on_error="skip"))) == 1
    with pytest.raises(RowError, match="line 1"):
        list(read_examples(path))
    write_lines(path, b"{", b"[]")
    with pytest.raises(RowError, match="line 1: is not JSON"):
        detect(path)
    assert list(read_examples(path, on_error="skip")) == []


@pytest.mark.parametrize(
    ("content", "hint"),
    [(b"[\n{}\n]", "on one line"), (b'[{"query": "q"}]', "jq"), (gzip.compress(b"{}"), r"\.jsonl\.gz")],
)
def test_usual_mistakes_have_their_own_hint(content: bytes, hint: str, tmp_path: Path) -> None:
    """A JSON array, a spread-out object and a compressed file without its suffix are named for what they are."""
    path = tmp_path / "in.jsonl"
    path.write_bytes(content)
    with pytest.raises(RowError) as caught:
        list(read_examples(path))
    assert hint.replace("\\", "") in caught.value.hint


def test_long_content_is_shortened_with_its_digest(tmp_path: Path) -> None:
    """A reject keeps 10,000 characters, and the digest by which the whole can be told."""
    raw = ('{"query": "' + "ä" * 20_000).encode() + b"\n"
    path = tmp_path / "in.jsonl"
    path.write_bytes(raw)
    rejects: list[Reject] = []
    assert list(read_examples(path, on_error="skip", on_reject=rejects.append)) == []
    kept, _, note = rejects[0].content.partition("… [")
    assert kept == raw.decode()[:10_000]
    assert note == f"{len(raw)} bytes, sha256 {sha256(raw).hexdigest()}]"


def test_overlong_line_is_never_held_whole(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Its digest still covers all of it, and a line of exactly the limit is read."""
    row = json.dumps(BGE).encode()
    monkeypatch.setattr(lines, "MAX_LINE", len(row))
    raw = b"y" * 3_000_000 + b"\n"
    path = tmp_path / "in.jsonl"
    path.write_bytes(row + b"\n" + raw + row)
    rejects: list[Reject] = []
    assert len(list(read_examples(path, on_error="skip", on_reject=rejects.append))) == 2
    assert len(rejects[0].content) < 10_200
    assert sha256(raw).hexdigest() in rejects[0].content


def test_reading_is_lazy(tmp_path: Path) -> None:
    """The first example is there before a later bad row is looked at."""
    path = write_lines(tmp_path / "in.jsonl", BGE, b"{")
    examples = read_examples(path)
    assert next(examples).position == 0
    with pytest.raises(RowError, match="line 2"):
        next(examples)


def test_numbers_json_does_not_know_survive(tmp_path: Path) -> None:
    """NaN and infinity in an unknown field come out as they went in."""
    path = tmp_path / "in.jsonl"
    line = '{"query": "q", "pos": ["p"], "neg": [], "x": NaN, "y": [-Infinity, 1e400]}\n'
    path.write_text(line)
    (example,) = read_examples(path)
    assert math.isnan(example.row["x"])
    save(tmp_path / "out.jsonl", "bge", [example])
    assert (tmp_path / "out.jsonl").read_text() == line.replace("1e400", "Infinity")


def test_half_a_surrogate_pair_survives(tmp_path: Path) -> None:
    """It stays an escape, other signs stay themselves on other lines."""
    row = BGE | {"query": "half \ud83d, ä"}
    examples = [parse("bge", row), parse("bge", BGE | {"query": "ä"})]
    path = save(tmp_path / "out.jsonl", "bge", examples)
    assert [example.row for example in read_examples(path)] == [row, BGE | {"query": "ä"}]
    assert "ä".encode() in path.read_bytes().splitlines()[1]


# ------------------------------------------------------------------------------------------------------------ CSV


def test_csv_bad_rows_are_rejected_one_by_one(tmp_path: Path) -> None:
    """Wrong quotes, too few cells, a bad byte, an empty anchor: each with the line it begins at."""
    path = tmp_path / "in.csv"
    path.write_bytes(
        b"\xef\xbb\xbfanchor,positive,negative\r\n"
        b'one,"p, with\nbreak",n\r\n'  # lines 2 and 3
        b"\r\n"
        b'"q"x,p,n\r\n'  # line 5
        b"q,p\r\n"
        b"q\xe4,p,n\r\n"
        b",p,n\r\n"
        b"two,p,\r\n"
        b'q,"never closed,n\r\n'  # line 10
        b"q,p,n\r\n"
    )
    rejects: list[Reject] = []
    examples = list(read_examples(path, on_error="skip", on_reject=rejects.append))
    assert [(example.query, example.position) for example in examples] == [("one", 0), ("two", 5)]
    assert examples[0].positives[0].text == "p, with\nbreak"
    assert [(reject.line, reject.position) for reject in rejects] == [(5, 1), (6, 2), (7, 3), (8, 4), (10, 6)]
    words = ["not CSV", "2 cells where the header has 3", "not UTF-8", "is empty", "unexpected end of data"]
    assert all(word in reject.reason for word, reject in zip(words, rejects, strict=True))
    assert rejects[2].content == "q\\xe4,p,n"
    assert rejects[3].field == "anchor"


def test_csv_cells_beyond_the_parsers_own_limit(tmp_path: Path) -> None:
    """Long cells are read, and the interpreter's limit is what it was."""
    before = csv.field_size_limit()
    path = tmp_path / "in.csv"
    path.write_text(f"anchor,positive,negative\nq,p,{'n' * (before + 1)}\n")
    (example,) = read_examples(path)
    assert len(example.negatives[0].text) == before + 1
    assert csv.field_size_limit() == before


def test_csv_overlong_line(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A line over the limit is a reject in CSV too, and the next one is read."""
    monkeypatch.setattr(lines, "MAX_LINE", 100)
    path = tmp_path / "in.csv"
    path.write_text(f"anchor,positive,negative\nq,p,{'n' * 200}\nq,p,n\n")
    rejects: list[Reject] = []
    assert len(list(read_examples(path, on_error="skip", on_reject=rejects.append))) == 1
    assert (rejects[0].line, rejects[0].reason[:16]) == (2, "line longer than")
    assert rejects[0].content.startswith("q,p,nnn")


def test_csv_holds_unlike_values_as_json(tmp_path: Path) -> None:
    """Converted rows: null is an empty cell, a list stands as JSON, the header is the first row's."""
    example = parse("bge", BGE | {"tags": ["a"], "prompt": None})
    path = save(tmp_path / "out.csv", "triplets", [example])
    assert path.read_text().splitlines()[:2] == [
        "anchor,positive,negative,prompt,tags",
        'how do bees find home,By the sun.,Wasps build with paper.,,"[""a""]"',
    ]


def test_csv_refuses_what_it_cannot_hold(tmp_path: Path) -> None:
    """A field without a column, half a surrogate pair, rows of lists: told, and no file is left behind."""
    path = tmp_path / "out.csv"
    first = parse("triplets", TRIPLET)
    with pytest.raises(InputError, match="'extra', which is no column"):
        save(path, "triplets", [first, parse("triplets", TRIPLET | {"extra": 1})])
    with pytest.raises(InputError, match="surrogate"):
        save(path, "triplets", [parse("triplets", TRIPLET | {"NEGATIVE": "\ud83d"})])
    with pytest.raises(InputError, match="CSV file cannot"):
        save(path, "bge", [parse("bge", BGE)])
    assert list(tmp_path.iterdir()) == []


def test_csv_columns_can_be_given(tmp_path: Path) -> None:
    """Their order is kept, and a row that lacks one leaves its cell empty."""
    path = tmp_path / "out.csv"
    with open_writer(path, FORMATS["triplets"], columns=["note", "NEGATIVE", "positive", "Query", "more"]) as writer:
        assert writer.write(parse("triplets", TRIPLET)) == 1
    assert path.read_text() == ("note,NEGATIVE,positive,Query,more\n1,Wasps.,By the sun.,how do bees find home,\n")


# -------------------------------------------------------------------------------------------------------- writing


def test_failed_write_leaves_the_old_file(tmp_path: Path) -> None:
    """What stood there stays, and the temporary file goes."""
    path = save(tmp_path / "out.jsonl", "bge", [parse("bge", BGE)])
    before = path.read_bytes()

    def fail() -> None:
        with open_writer(path, FORMATS["bge"]) as writer:
            writer.write(parse("bge", BGE | {"query": "another"}))
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        fail()
    assert path.read_bytes() == before
    assert list(tmp_path.iterdir()) == [path]


def test_file_appears_only_when_complete(tmp_path: Path) -> None:
    """While it is written there is only the temporary file."""
    path = tmp_path / "out.jsonl"
    with open_writer(path, FORMATS["bge"]) as writer:
        assert writer.write(parse("bge", BGE)) == 1
        assert [each.name for each in tmp_path.iterdir()] == ["out.jsonl.tmp"]
    assert [each.name for each in tmp_path.iterdir()] == ["out.jsonl"]


def test_place_that_cannot_be_written(tmp_path: Path) -> None:
    """A folder with something in it, or a name in one that is not there, is told before anything is computed."""
    (tmp_path / "something").touch()
    for path, words in ((tmp_path, "is a folder"), (tmp_path / "absent" / "out.jsonl", "cannot be written")):
        with pytest.raises(InputError, match=words), open_writer(path, FORMATS["bge"]):
            pass


def test_compressed_bytes_know_no_time_and_no_name(tmp_path: Path) -> None:
    """Two files of different names hold equal bytes; the header says no name (flag 8) and time 0."""
    examples = [parse("bge", BGE)]
    one = save(tmp_path / "one.jsonl.gz", "bge", examples).read_bytes()
    two = save(tmp_path / "two.jsonl.gz", "bge", examples).read_bytes()
    assert one == two
    assert (one[3], one[4:8]) == (0, bytes(4))


def test_reading_and_writing_the_same_file(tmp_path: Path) -> None:
    """A file can be rewritten while it is read."""
    path = write_lines(tmp_path / "in.jsonl", *[BGE | {"number": number} for number in range(50)])
    with open_writer(path, FORMATS["bge"]) as writer:
        for example in read_examples(path):
            writer.write(promoted(example, 0))
    assert [len(example.positives) for example in read_examples(path)] == [2] * 50


def test_every_format_says_what_editing_does() -> None:
    """The README's and --help's table has a sentence in every place."""
    assert list(FORMATS) == [
        "tevatron", "bge", "triplets", "n-tuples", "labeled-pairs", "labeled-lists", "dpr"
    ]  # fmt: skip
    assert ", ".join(FORMATS) == options.FORMATS
    for name, each in FORMATS.items():
        assert each.name == name
        assert isinstance(each.effects, Effects)
        assert all(words.endswith(".") for words in (each.effects.promote, each.effects.drop, each.effects.emptied))


# ------------------------------------------------------------------------------------------------------ properties

any_text = st.text(st.characters(exclude_categories=[]), max_size=12)  # half surrogate pairs too
clean_text = st.text(st.characters(exclude_categories=["Cs"]), max_size=12)
values = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False) | any_text,
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(any_text, inner, max_size=3),
    max_leaves=5,
)
ids = st.none() | st.integers() | any_text
RESERVED = {"query", "query_id", "anchor", "positive", "negative", "pos", "neg"}


def seen(text: st.SearchStrategy[str]) -> st.SearchStrategy[str]:
    """Texts with something to see in them."""
    return text.filter(lambda each: bool(each.strip()))


def unknown_fields(value: st.SearchStrategy[Any], key: st.SearchStrategy[str] = any_text) -> st.SearchStrategy[Row]:
    """Fields that mean nothing to any format."""
    keys = key.filter(lambda each: each.lower() not in RESERVED and not each.startswith(("pos", "neg")))
    return st.dictionaries(keys, value, max_size=3)


def shuffled(draw: st.DrawFn, row: Row) -> Row:
    """The same row, its keys in another order."""
    return {key: row[key] for key in draw(st.permutations(list(row)))}


@st.composite
def two_list_rows(draw: st.DrawFn, name: str) -> Row:
    """A row of a format of two lists, with parallel lists on either, both or no side."""
    tevatron = name == "tevatron"
    keys = ("positive_passages", "negative_passages") if tevatron else ("pos", "neg")
    row: Row = draw(unknown_fields(values)) | {"query": draw(seen(any_text))}
    if draw(st.booleans()):
        row["query_id"] = draw(ids)
    for key, smallest in zip(keys, (1, 0), strict=True):
        texts = seen(any_text) if smallest else any_text
        extra = unknown_fields(values).map(lambda each: {k: v for k, v in each.items() if k not in {"docid", "title"}})
        objects = st.builds(
            lambda text, known, more: {**more, "text": text, **known},
            texts,
            st.fixed_dictionaries({}, optional={"docid": ids, "title": st.none() | any_text}),
            extra,
        )
        items: list[Any] = draw(st.lists(objects if tevatron else texts, min_size=smallest, max_size=4))
        row[key] = items
        prefix = key.removesuffix("s") + "_" if tevatron else f"{key}_"
        for suffix in draw(st.sets(st.sampled_from(["scores", "ids", "", "ä"]), max_size=3)):
            entries = ids if suffix == "ids" else values
            row[prefix + suffix] = draw(st.lists(entries, min_size=len(items), max_size=len(items)))
    return shuffled(draw, row)


@st.composite
def triplet_rows(draw: st.DrawFn, text: st.SearchStrategy[str], value: st.SearchStrategy[Any]) -> Row:
    """A triplet, its columns spelt anyhow and in any order."""
    names = [
        draw(st.sampled_from(["anchor", "query", "Anchor", "QUERY"])),
        draw(st.sampled_from(["positive", "Positive"])),
        draw(st.sampled_from(["negative", "NEGATIVE"])),
    ]
    texts = [draw(seen(text)), draw(seen(text)), draw(text)]
    return shuffled(draw, draw(unknown_fields(value, text)) | dict(zip(names, texts, strict=True)))


any_row = st.one_of(
    st.tuples(st.just("tevatron"), two_list_rows("tevatron")),
    st.tuples(st.just("bge"), two_list_rows("bge")),
    st.tuples(st.just("triplets"), triplet_rows(any_text, values)),
)


@given(any_row)
def test_property_render_undoes_parse(case: tuple[str, Row]) -> None:
    """Whatever the row holds besides, an unedited example renders to it, keys in order."""
    name, row = case
    (rendered,) = FORMATS[name].render(parse(name, row))
    assert rendered == row
    assert list(rendered) == list(row)


@given(any_row, st.booleans())
def test_property_write_then_read(
    tmp_path_factory: pytest.TempPathFactory, case: tuple[str, Row], zipped: bool
) -> None:
    """A file holds what was written, for any Unicode and any JSON, compressed or not."""
    name, row = case
    folder = tmp_path_factory.mktemp("file")
    path = save(folder / ("x.jsonl.gz" if zipped else "x.jsonl"), name, [parse(name, row)])
    (example,) = read_examples(path, format=name)
    assert example.row == row
    assert list(example.row) == list(row)


@settings(max_examples=200)
@given(st.lists(triplet_rows(clean_text, clean_text), min_size=1, max_size=3), st.sampled_from([".csv", ".csv.gz"]))
def test_property_csv_write_then_read(tmp_path_factory: pytest.TempPathFactory, rows: list[Row], suffix: str) -> None:
    """Cells with quotes, commas, NUL and every kind of line break survive."""
    same = [dict(zip(rows[0], row.values(), strict=False)) for row in rows if len(row) == len(rows[0])]
    same = [row for row in same if all(value.strip() for value in row.values())] or rows[:1]
    path = tmp_path_factory.mktemp("csv") / f"x{suffix}"
    save(path, "triplets", [parse("triplets", row) for row in same])
    assert [example.row for example in read_examples(path)] == same


@given(two_list_rows("bge") | two_list_rows("tevatron"), st.data())
def test_property_lists_stay_in_step(row: Row, data: st.DataObject) -> None:
    """After any promotions and drops every entry still stands beside its passage, and nothing else changed."""
    name = "bge" if "pos" in row else "tevatron"
    positive, negative = ("pos", "neg") if name == "bge" else ("positive_passages", "negative_passages")
    example = parse(name, row)
    fates = data.draw(st.lists(st.sampled_from(["keep", "drop", "promote"]), min_size=len(row[negative])))
    fated = [  # nobody promotes an empty text: it would make a row that cannot be read
        (passage, fate if passage.full_text.strip() else "drop")
        for passage, fate in zip(example.negatives, fates, strict=False)
    ]
    edited = replace(
        example,
        positives=example.positives + tuple(passage for passage, fate in fated if fate == "promote"),
        negatives=tuple(passage for passage, fate in fated if fate == "keep"),
    )
    (out,) = FORMATS[name].render(edited)
    assert list(out) == list(row)
    again = parse(name, out)
    assert [passage.text for passage in again.positives] == [passage.text for passage in edited.positives]
    kept = [index for index, (_, fate) in enumerate(fated) if fate == "keep"]
    rose = [index for index, (_, fate) in enumerate(fated) if fate == "promote"]
    starts = {key: key.replace("passages", "passage") + "_" for key in (positive, negative)}
    for key, value in row.items():
        if key == negative or (key.startswith(starts[negative]) and isinstance(value, list)):
            assert out[key] == [value[index] for index in kept]
        elif key == positive or (key.startswith(starts[positive]) and isinstance(value, list)):
            assert out[key][: len(value)] == value
            assert len(out[key]) == len(value) + len(rose)
            twin = negative if key == positive else starts[negative] + key.removeprefix(starts[positive])
            if twin in row:
                assert out[key][len(value) :] == [row[twin][index] for index in rose]
        else:
            assert out[key] == value


@given(any_row, st.sampled_from(list(ROWS)))
def test_property_convert_reads_back(case: tuple[str, Row], target: str) -> None:
    """A row made from another format is a good row of the new one, with the same query, id and texts."""
    name, row = case
    example = parse(name, row)
    for made in FORMATS[target].render(example):
        again = parse(target, made)
        assert (again.query, again.id) == (example.query, example.id)
        assert again.positives[0].full_text == example.positives[0].full_text
        if target not in {"triplets", name}:
            assert [passage.full_text for passage in again.negatives] == [each.full_text for each in example.negatives]
            assert [passage.id for passage in again.negatives] == [each.id for each in example.negatives]
