"""Rows that relabelling leaves short get further candidates of the mined pool, judged like any other."""

import csv
import json
import os
import subprocess
import sys
import tempfile
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import hypothesis
import pytest
from conftest import Save
from hypothesis import HealthCheck, assume, given
from hypothesis import strategies as st
from mined import mined
from rows import training_file
from server import FakeServer
from test_resume import ASKED_TWICE_PER_KILL, CASCADE, Run

import relabel
from relabel.config import Settings
from relabel.errors import InputError, RunError
from relabel.formats import open_writer, read_examples
from relabel.judges.vectors import Encoder
from relabel.pipeline import Summary
from relabel.policy import PRESETS, Policy
from relabel.protocols import Judge, Role
from relabel.records import LABELS, Case, Example, Judgment, Label, Passage, Verdict, chance
from relabel.turns import FATES, GROWTH, draw

pytestmark = [pytest.mark.usefixtures("tidy"), pytest.mark.timeout(120)]

Row = dict[str, Any]
FATES_TOLD = [fate.replace(" ", "_") for fate in FATES]
RESULTS = ("flagged.csv", "changes.jsonl", "statistics.json", "rejects.jsonl", "below_min_negatives.jsonl")


@dataclass
class Table:
    """A judge that says of each text what a table says, else "irrelevant"; it counts what it was asked."""

    words: Mapping[str, Label | None]
    asked: Counter[str] = field(default_factory=Counter)

    def judge(self, cases: Iterable[Case]) -> Iterator[Case]:
        """Judge each case as it comes."""
        for case in cases:
            self.asked.update(pair.candidate.text for pair in case.pairs)
            labels = [self.words.get(pair.candidate.text, "irrelevant") for pair in case.pairs]
            yield case.judged(tuple(Judgment(label, "" if label else "unreadable") for label in labels))


def plan(pool: Path | None, **policy: Any) -> Settings:
    """One stage, and a pool."""
    return Settings.model_validate(
        {"stages": [{"judge": "rules", "name": "one"}], "policy": policy, "pool": str(pool) if pool else None}
    )


def texts(*names: str) -> list[Passage]:
    """Passages whose ids are "id-" and their text."""
    return [Passage(f"id-{name}", name) for name in names]


def row(name: str, *negatives: str, **fields: Any) -> Row:
    """A row of BGE's form."""
    return {"query": f"question {name}", "pos": [f"answer {name}"], "neg": list(negatives), **fields}


def lines(path: Path) -> list[Row]:
    """Read JSON lines."""
    return [json.loads(line) for line in path.read_text(encoding="utf-8").splitlines()]


def results(folder: Path) -> dict[str, bytes]:
    """Return what a run wrote."""
    (cleaned,) = folder.glob("cleaned.*")
    return {path.name: path.read_bytes() for path in [cleaned, *(folder / name for name in RESULTS)]}


# --- the rule ---


def rule(words: str, lacking: int, turns: int | None = None, **table: Any) -> tuple[str, dict[str, int], str]:
    """Draw from candidates "0", "1", … that are (t)rue negatives, (f)alse ones, (p)artial, (u)ndecided, (v)oid, (?)."""
    outcome: Mapping[str, Any] = {
        "t": "true negative", "f": "false negative", "p": "partial", "u": "undecided", "v": "void",
    }  # fmt: skip
    candidates = iter(texts(*map(str, range(len(words)))))
    policy = Policy({**PRESETS["relabel"], **table})
    said = lambda each: None if words[int(each.text)] == "?" else Verdict(outcome[words[int(each.text)]], "one")  # noqa: E731
    drawn = draw(candidates, lacking, said, policy, turns)
    found = "".join(passage.text for passage, _ in drawn.found)
    return found, dict(drawn.fates), "".join(each.text for each in drawn.due)


@pytest.mark.parametrize(
    ("words", "lacking", "found", "fates"),
    [
        ("tttt", 2, "01", {"added": 2}),
        ("ftttttttt", 1, "1", {"relevant": 1, "added": 1, "spare": 3}),  # one, then four
        ("ftputv", 2, "14", {"relevant": 1, "added": 2, "partial": 1, "undecided": 1, "void": 1}),
        ("ffff", 3, "", {"relevant": 4}),
        ("", 3, "", {}),
        ("t?t", 3, "02", {"added": 2, "not asked": 1}),
        ("?tttt", 1, "", {"not asked": 1}),  # nobody knows whether the second would have been asked for
    ],
)
def test_the_next_true_negatives(words: str, lacking: int, found: str, fates: dict[str, int]) -> None:
    """By rank, and no other outcome is ever added; everything that was looked at is counted once."""
    got, counted, _ = rule(words, lacking)
    assert got == found
    assert counted == {name: number for name, number in fates.items() if number}


def test_what_is_asked_in_which_turn() -> None:
    """As many as are lacking, then four times as many as still are: by input and verdicts alone."""
    assert GROWTH == 4
    words = "ft" + "f" * 20 + "t" * 80
    assert rule(words, 3, 0)[2] == "012"
    assert rule(words, 3, 1)[2] == "".join(map(str, range(3, 11)))  # two are lacking
    assert rule(words, 3, 2)[2] == "".join(map(str, range(11, 43)))  # two still are
    assert rule(words, 3, 3)[2] == ""
    assert rule(words, 3)[0] == "12223"
    assert rule("ft", 2, 1)[2] == ""


def test_a_policy_that_asks_about_true_negatives_adds_none() -> None:
    """Only what the policy keeps is added: what it would have somebody look at first is not."""
    assert rule("tt", 1, irrelevant="ask") == ("", {"undecided": 2}, "")


# --- whole runs ---


@pytest.fixture
def train(save: Save) -> Path:
    """Four rows that lose negatives, and one that does not."""
    return save(
        row("a", "bad a1", "good a2", id=1),
        row("b", "bad b1", "bad b2", id=2),
        row("c", "bad c1", id=3),
        row("d", "good d1", "good d2", id=4),
        row("e", "bad e1", "good e2", id=5),
    )


WORDS: Mapping[str, Label | None] = {
    "bad a1": "relevant", "bad b1": "partial", "bad b2": "relevant", "bad c1": "relevant", "bad e1": "relevant",
    "next b": "relevant", "vague b": "partial", "odd b": None,
}  # fmt: skip


@pytest.fixture
def pool(tmp_path: Path) -> Path:
    """What was mined for them: enough for a, by detours for b, too little for c, more for d, nothing for e."""
    return mined(
        tmp_path / "mined",
        {
            "question a": texts("bad a1", "good a2", "Good A2!", "answer a", "more a", "last a"),
            "question b": texts(
                "bad b1", "bad b2", "next b", "gone b", "vague b", "odd b", "fine b", "well b", "far b"
            ),
            "question c": texts("bad c1", "more c"),
            "question d": texts("good d1", "more d"),
        },
        removed=["id-gone b"],
        drawn=["id-bad a1", "id-good a2", "id-bad b1", "id-bad b2", "id-bad c1", "id-good d1"],
    )


def go(train: Path, settings: Settings, folder: Path, judge: Judge | None = None, **options: Any) -> Summary:
    """Run with a judge of one's own."""
    return relabel.run(train, settings, output=folder, judges={"one": judge or Table(WORDS)}, **options)


def test_short_rows_are_refilled(train: Path, pool: Path, tmp_path: Path) -> None:
    """Fully, by detours, in part and not at all: rows, ledger, lists and every count."""
    judge = Table(WORDS)
    done = go(train, plan(pool, min_negatives=2), tmp_path / "run", judge)
    assert [(each["id"], each["pos"], each["neg"]) for each in lines(done.files["cleaned"])] == [
        (1, ["answer a", "bad a1"], ["good a2", "more a"]),  # neither copies of what the row holds nor its positive
        (2, ["answer b", "bad b2"], ["fine b", "well b"]),  # what is relevant is no negative, and is not promoted
        (3, ["answer c", "bad c1"], ["more c"]),
        (4, ["answer d"], ["good d1", "good d2"]),
        (5, ["answer e", "bad e1"], ["good e2"]),
    ]
    told = [
        (change["position"], change["target"], change["why"], change["stage"], change["item"], change["origin"])
        for change in lines(tmp_path / "run" / "changes.jsonl")
        if change["action"] == "refill"
    ]
    assert told == [
        (0, 1, "true negative", "one", "more a", None),
        (1, 0, "true negative", "one", "fine b", None),
        (1, 1, "true negative", "one", "well b", None),
        (2, 0, "true negative", "one", "more c", None),
    ]
    figures = done.statistics
    assert figures["refill"] == {
        "rows": {"short": 4, "filled": 2, "partly": 1, "unfilled": 1, "not_in_the_pool": 1},
        "candidates": {
            "looked_at": 8, "added": 4, "spare": 1, "relevant": 1, "partial": 1, "undecided": 1, "void": 0,
            "not_asked": 0,
        },
    }  # fmt: skip
    assert figures["passages"] == {"in": 9, "kept": 4, "promoted": 4, "dropped": 1, "in_removed_rows": 0}
    assert sum(figures["verdicts"].values()) == figures["stages"][0]["asked"] == 9  # the input's pairs
    assert lines(tmp_path / "run" / "below_min_negatives.jsonl") == [
        {"position": 2, "example_id": sources_id(train, 2), "negatives": 1},
        {"position": 4, "example_id": sources_id(train, 4), "negatives": 1},
    ]
    assert judge.asked == Counter({
        **dict.fromkeys(["bad a1", "good a2", "bad b1", "bad b2", "bad c1", "good d1", "good d2", "bad e1"], 1),
        **dict.fromkeys(["good e2", "more a", "next b", "vague b", "odd b", "fine b", "well b", "far b", "more c"], 1),
    })  # fmt: skip
    assert list(relabel.rebuild(tmp_path / "run")) == lines(train)


def sources_id(path: Path, place: int) -> str:
    """Return the id of a row."""
    return list(relabel.read(path))[place].id


def test_everything_afterwards_is_a_pure_reading(train: Path, pool: Path, tmp_path: Path) -> None:
    """Apply, run again, and another run write the same bytes; show, stats, audit and flips work."""
    run = tmp_path / "run"
    go(train, plan(pool, min_negatives=2), run)
    first = results(run)
    assert results(relabel.apply(run).folder) == first
    assert results(go(train, plan(pool, min_negatives=2), run).folder) == first
    assert results(go(train, plan(pool, min_negatives=2), tmp_path / "other").folder) == first
    assert {each.candidate.text for each in relabel.show(run, "question a")} == {"bad a1", "good a2"}
    assert relabel.audit_export(run, tmp_path / "all.csv", everything=True) == 9
    assert relabel.flips(run, tmp_path / "other") == []
    assert relabel.stats(run)["refill"]["rows"]["filled"] == 2


def test_without_a_pool_nothing_changes(train: Path, pool: Path, tmp_path: Path) -> None:
    """Short rows stay short and are listed, and no figure speaks of a pool; likewise where none is short."""
    done = go(train, plan(None, min_negatives=2), tmp_path / "run")
    assert done.statistics["rows"]["below_min_negatives"] == 4
    assert "refill" not in done.statistics
    assert not (tmp_path / "run" / "cache" / "pool").exists()
    full = go(train, plan(pool, min_negatives=0), tmp_path / "full")
    none = go(train, plan(None, min_negatives=0), tmp_path / "none")
    told = {name: figure for name, figure in full.statistics.items() if name != "refill"}
    assert (told, full.statistics["refill"]["rows"]["short"]) == (none.statistics, 0)
    differ = {name for name, content in results(tmp_path / "full").items() if content != results(none.folder)[name]}
    assert differ == {"statistics.json"}


def test_rows_that_are_gone_or_exempt_are_not_refilled(save: Save, tmp_path: Path) -> None:
    """A row that the policy removes whole stays removed; a row that is never judged is left alone; no query twice."""
    path = save(row("a", "bad", "bad 2"), row("b", "bad"), row("c", source="spared"), row("d"))
    pool = mined(tmp_path / "mined", {f"question {name}": texts(f"more {name}") for name in "abcd"})
    judge = Table({"bad": "relevant", "bad 2": "relevant"})
    done = go(path, plan(pool, max_flagged=1, exempt=["spared"]), tmp_path / "run", judge)
    assert [each["neg"] for each in lines(done.files["cleaned"])] == [["more b"], [], ["more d"]]
    assert judge.asked == Counter({"bad": 2, "bad 2": 1, "more b": 1, "more d": 1})
    assert list(relabel.rebuild(tmp_path / "run")) == lines(path)


def test_a_positive_of_the_same_query_elsewhere_is_no_negative(save: Save, tmp_path: Path) -> None:
    """Whoever mined: what another row of the query, far away and spelt otherwise, calls positive is not even asked."""
    other = {"query": "Question a?", "pos": ["Known elsewhere."], "neg": ["fine"]}
    path = save(row("a", "bad"), row("b", "fine"), other)
    pool = mined(tmp_path / "mined", {"question a": texts("known elsewhere", "more")})
    judge = Table({"bad": "relevant"})
    done = go(path, plan(pool), tmp_path / "run", judge)
    assert lines(done.files["cleaned"])[0]["neg"] == ["more"]
    assert not judge.asked["known elsewhere"]


def test_no_text_is_added_twice(save: Save, tmp_path: Path) -> None:
    """A pool may hold one text under two ids, and empty ones: the row gets each text once, and no empty one."""
    path = save(row("a", "bad"))
    found = [Passage("1", "more"), Passage("2", "More."), Passage("3", " "), Passage("4", "last")]
    done = go(path, plan(mined(tmp_path / "mined", {"question a": found}), min_negatives=3), tmp_path / "run")
    assert lines(done.files["cleaned"])[0]["neg"] == ["bad", "more", "last"]


def test_rows_of_one_query_share(save: Save, tmp_path: Path) -> None:
    """Triplets of one query and positive get different passages, in order; what one holds no other gets."""
    rows = [
        {"anchor": "q", "positive": "p", "negative": "bad 1"},
        {"anchor": "q", "positive": "p", "negative": "good"},
        {"anchor": "q", "positive": "p", "negative": "bad 2"},
        {"anchor": "q", "positive": "other", "negative": "bad 1"},
        {"anchor": "z", "positive": "p", "negative": "good"},
        {"anchor": "q", "positive": "p", "negative": "bad 3"},
    ]
    path = save(*rows)
    pool = mined(tmp_path / "mined", {"q": texts("good", "one", "bad 4", "two", "three", "four")})
    judge = Table({f"bad {number}": "relevant" for number in range(1, 5)})
    done = go(path, plan(pool), tmp_path / "run", judge)
    found = [(each["anchor"], each["positive"], each["negative"]) for each in lines(done.files["cleaned"])]
    assert found == [
        ("q", "p", "one"), ("q", "p", "good"), ("q", "p", "two"),
        ("q", "other", "one"),  # another positive, which is a reference of its own
        ("z", "p", "good"),
        ("q", "p", "good"),  # rows that lie apart know nothing of each other
    ]  # fmt: skip
    assert list(relabel.rebuild(tmp_path / "run")) == rows


def test_a_triplet_for_which_nothing_is_found_is_removed_as_ever(save: Save, tmp_path: Path) -> None:
    """The format cannot hold a row without negative; one that is refilled is no removed row."""
    rows = [{"anchor": name, "positive": "p", "negative": "bad"} for name in ("found", "exhausted", "unknown")]
    path = save(*rows)
    pool = mined(tmp_path / "mined", {"found": texts("more"), "exhausted": texts("bad too")})
    judge = Table({"bad": "relevant", "bad too": "relevant"})
    for least in (1, 0, 3):  # what a format cannot do without, and no more than it holds
        done = go(path, plan(pool, min_negatives=least), tmp_path / f"run{least}", judge)
        assert lines(done.files["cleaned"]) == [{"anchor": "found", "positive": "p", "negative": "more"}]
        assert done.statistics["rows"]["removed"] == 2
        assert done.statistics["passages"] == {
            "in": 3, "kept": 0, "promoted": 0, "dropped": 1, "in_removed_rows": 2,
        }  # fmt: skip
        assert done.statistics["refill"]["rows"] == {
            "short": 3, "filled": 1, "partly": 0, "unfilled": 2, "not_in_the_pool": 1,
        }  # fmt: skip
        assert list(relabel.rebuild(done.folder)) == rows


# --- formats ---

POSITIVE = "the answer"
FULL = Passage("77", "a new text", "A title")
"""What the pool holds: score .9, rank 1, source "made up"."""

CASES: Mapping[str, tuple[Row | list[Row], Row | list[Row]]] = {
    "tevatron": (
        {
            "query_id": "1", "query": "q",
            "positive_passages": [{"docid": "p", "title": "", "text": POSITIVE, "score": 0.8}],
            "negative_passages": [{"docid": "n", "title": "", "text": "bad", "score": 0.5}],
            "negative_passage_ids": ["n"], "negative_passage_ranks": [3], "negative_passage_kinds": ["x"],
        },
        {
            "negative_passages": [{"docid": "77", "title": "A title", "text": "a new text", "score": 0.9}],
            "negative_passage_ids": ["77"], "negative_passage_ranks": [1], "negative_passage_kinds": [None],
        },
    ),
    "tevatron without titles": (
        {
            "query_id": "1", "query": "q", "positive_passages": [{"docid": 5, "text": POSITIVE}],
            "negative_passages": [{"docid": 6, "text": "bad"}],
        },
        {"negative_passages": [{"docid": 77, "text": "A title a new text"}]},
    ),
    "bge": (
        {
            "query": "q", "pos": [POSITIVE], "neg": ["bad"], "pos_scores": [0.8], "neg_scores": [0.7], "neg_id": ["n"],
            "neg_kind": ["mined"], "neg_sources": ["bm25"], "prompt": "search",
        },
        {
            "neg": ["A title a new text"], "neg_scores": [0.9], "neg_id": ["77"], "neg_kind": [None],
            "neg_sources": ["made up"],
        },
    ),
    "triplets": (
        {"anchor": "q", "positive": POSITIVE, "negative": "bad", "subset": "left", "score": 0.3},
        {"negative": "A title a new text", "score": None},
    ),
    "n-tuples": (
        {
            "anchor": "q", "positive": POSITIVE, "negative_1": "bad", "negative_2": "worse", "scores": [0.8, 0.7, 0.6],
            "labels": [1, 0, 0],
        },
        {
            "negative_1": "A title a new text", "negative_2": "A title a new text", "scores": [0.8, 0.9, 0.9],
        },
    ),
    "labeled-lists": (
        {
            "query": "q", "documents": ["bad", POSITIVE], "labels": [0.0, 1.0], "scores": [0.7, 0.8],
            "document_ids": ["n", "p"], "document_kinds": ["mined", "known"],
        },
        {
            "documents": [POSITIVE, "A title a new text"], "labels": [1.0, 0.0], "scores": [0.8, 0.9],
            "document_ids": ["p", "77"], "document_kinds": ["known", None],
        },
    ),
    "labeled-pairs": (
        [
            {"query": "q", "doc_id": 1, "document": POSITIVE, "label": 1, "score": 0.8, "source": "left", "kind": "a"},
            {"query": "q", "doc_id": 2, "document": "bad", "label": 0, "score": 0.7, "source": "left", "kind": "b"},
        ],
        [
            {"query": "q", "doc_id": 1, "document": POSITIVE, "label": 1, "score": 0.8, "source": "left", "kind": "a"},
            {
                "query": "q", "doc_id": 77, "document": "A title a new text", "label": 0, "score": 0.9,
                "source": "left", "kind": None,
            },
        ],
    ),
    "dpr": (
        {
            "question": "q", "answers": ["it"],
            "positive_ctxs": [{"title": "", "text": POSITIVE, "score": 1.0, "title_score": 1, "passage_id": "p"}],
            "hard_negative_ctxs": [{"title": "", "text": "bad", "score": 0.5, "title_score": 0, "passage_id": "n"}],
            "negative_ctxs": [{"title": "", "text": "worse", "score": 0.1, "title_score": 0, "passage_id": "o"}],
        },
        {
            "hard_negative_ctxs": [{"title": "A title", "text": "a new text", "score": 0.9, "passage_id": "77"}],
            "negative_ctxs": [],
        },
    ),
    "dpr without hard ones": (
        {
            "question": "q", "answers": [], "positive_ctxs": [{"title": "", "text": POSITIVE, "psg_id": "p"}],
            "negative_ctxs": [{"title": "", "text": "bad", "psg_id": "o"}],
        },
        {"negative_ctxs": [{"title": "A title", "text": "a new text", "psg_id": "77"}]},
    ),
}  # fmt: skip


def written(name: str, path: Path) -> list[Row]:
    """Write a case's row or rows into a file of any container."""
    format_name, (before, _) = name.partition(" ")[0], CASES[name]
    rows = before if isinstance(before, list) else [before]
    plain = path.with_name("plain.jsonl")
    plain.write_text("".join(json.dumps(each) + "\n" for each in rows), "utf-8")
    columns = list(dict.fromkeys(key for each in rows for key in each))
    with open_writer(path, relabel.formats.get_format(format_name), columns=columns) as writer:
        for example in read_examples(plain, format=format_name):
            writer.write(example)
    return rows


def expected(name: str, *, table: bool) -> list[Row]:
    """Return the rows that come of a case; in a table, objects have all fields."""
    before, after = CASES[name]
    if isinstance(after, list):
        return after
    assert isinstance(before, dict)
    merged = before | after
    if table and name == "dpr":
        merged = merged | {
            "hard_negative_ctxs": [{**each, "title_score": None} for each in merged["hard_negative_ctxs"]]
        }
    return [merged]


@pytest.mark.parametrize("suffix", ["jsonl", "parquet", "json.gz"])
@pytest.mark.parametrize("name", list(CASES))
def test_each_format_gets_what_its_rows_hold(name: str, suffix: str, tmp_path: Path) -> None:
    """Items in the row's own shape and types, parallel lists in step; a table keeps its schema; undone exactly."""
    path = tmp_path / f"train.{suffix}"
    rows = written(name, path)
    pool = mined(tmp_path / "mined", {"q": [FULL]})
    judge = Table({"bad": "partial", "worse": "partial"})
    done = go(path, plan(pool), tmp_path / "run", judge, format=name.partition(" ")[0])
    cleaned = [
        row
        for each in read_examples(done.files["cleaned"], format=name.partition(" ")[0])
        for row in relabel.formats.rows_of(each.row, each.layout)
    ]
    assert cleaned == expected(name, table=suffix == "parquet")
    assert done.statistics["refill"]["candidates"]["added"] == 1
    assert list(relabel.rebuild(tmp_path / "run")) == rows
    if suffix == "parquet":
        import pyarrow.parquet as pq

        assert pq.read_schema(done.files["cleaned"]) == pq.read_schema(path)


def test_csv_too(tmp_path: Path) -> None:
    """Triplets in CSV keep their columns."""
    path = tmp_path / "train.csv"
    path.write_text("anchor,positive,negative,label\nq,p,bad,1\n", "utf-8")
    done = go(path, plan(mined(tmp_path / "mined", {"q": [FULL]})), tmp_path / "run", Table({"bad": "relevant"}))
    assert done.files["cleaned"].read_text("utf-8") == "anchor,positive,negative,label\nq,p,A title a new text,\n"
    assert list(relabel.rebuild(done.folder)) == [{"anchor": "q", "positive": "p", "negative": "bad", "label": "1"}]


def test_real_negatives_in_place_of_repeated_columns(save: Save, tmp_path: Path) -> None:
    """An n-tuple that lost some columns gets as many real texts as `min_negatives` says, at most one a column."""
    path = save(
        {"anchor": "q", "positive": "p", **{f"negative_{n}": f"bad {n}" for n in (1, 2, 3)}, "negative_4": "fine"}
    )
    pool = mined(tmp_path / "mined", {"q": texts("one", "two", "three", "four")})
    judge = Table({f"bad {number}": "relevant" for number in (1, 2, 3)})
    for least, wanted in (
        (1, ["fine", "fine", "fine", "fine"]),
        (3, ["fine", "one", "two", "fine"]),
        (9, ["fine", "one", "two", "three"]),
    ):
        done = go(path, plan(pool, min_negatives=least), tmp_path / f"run{least}", judge)
        (cleaned,) = lines(done.files["cleaned"])
        assert [cleaned[f"negative_{n}"] for n in (1, 2, 3, 4)] == wanted
        assert list(relabel.rebuild(done.folder)) == lines(path)


def test_promoted_and_refilled_in_one_labelled_list(save: Save, tmp_path: Path) -> None:
    """What is promoted stands last with label 1, what is refilled before it with label 0, and both are undone."""
    rows = [{"query": "q", "documents": ["good", POSITIVE, "bad"], "labels": [0, 1, 0]}]
    pool = mined(tmp_path / "mined", {"q": texts("more")})
    done = go(save(*rows), plan(pool, min_negatives=2), tmp_path / "run", Table({"bad": "relevant"}))
    assert lines(done.files["cleaned"]) == [
        {"query": "q", "documents": ["good", POSITIVE, "more", "bad"], "labels": [0, 1, 0, 1]}
    ]
    assert list(relabel.rebuild(done.folder)) == rows


# --- other policies, people, recordings, models ---


def test_another_policy_asks_nobody(save: Save, tmp_path: Path) -> None:
    """What was said of a candidate holds under every policy; whom nobody asked about is counted, and asked later."""
    path = save(row("a", "bad 1", "part 1", "part 2", "good"))
    words: Mapping[str, Label | None] = {"bad 1": "relevant", "part 1": "partial", "part 2": "partial"}
    pool = mined(tmp_path / "mined", {"question a": texts("one", "two", "three")})
    run, judge = tmp_path / "run", Table(words)
    lenient = plan(pool, min_negatives=4, actions={"partial": "keep"})
    first = go(path, lenient, run, judge)
    assert lines(first.files["cleaned"])[0]["neg"] == ["part 1", "part 2", "good", "one"]

    strict = plan(pool, min_negatives=4)
    asked = judge.asked.total()
    other = relabel.apply(run, strict)
    assert judge.asked.total() == asked
    assert lines(other.files["cleaned"])[0]["neg"] == ["good", "one"]
    assert other.statistics["refill"] == {
        "rows": {"short": 1, "filled": 0, "partly": 1, "unfilled": 0, "not_in_the_pool": 0},
        "candidates": {
            "looked_at": 3, "added": 1, "spare": 0, "relevant": 0, "partial": 0, "undecided": 0, "void": 0,
            "not_asked": 2,
        },
    }  # fmt: skip
    assert [each["negatives"] for each in lines(other.files["below"])] == [2]
    assert list(relabel.rebuild(run)) == lines(path)

    again = go(path, strict, run, judge)
    assert lines(again.files["cleaned"])[0]["neg"] == ["good", "one", "two", "three"]
    assert results(run) == results(go(path, strict, tmp_path / "new", Table(words)).folder)
    unbroken = go(path, lenient, tmp_path / "old", Table(words)).folder
    assert results(relabel.apply(run, lenient).folder) == results(unbroken)
    for preset in PRESETS:
        relabel.apply(run, policy=preset)
        assert list(relabel.rebuild(run)) == lines(path)


def test_people_decide(save: Save, tmp_path: Path) -> None:
    """A person's label makes a row short; what the pool has goes to the first row, the next is not asked about."""
    path = save(row("a", "doubtful", "good"), row("a", "next"))
    pool = mined(tmp_path / "mined", {"question a": texts("more", "last")})
    run = tmp_path / "run"
    go(path, plan(pool, min_negatives=2), run)
    assert [each["neg"] for each in lines(run / "cleaned.jsonl")] == [["doubtful", "good"], ["next", "more"]]
    relabel.audit_export(run, tmp_path / "all.csv", everything=True)
    with (tmp_path / "all.csv").open(encoding="utf-8-sig", newline="") as file:
        listed = list(csv.DictReader(file))
    with (tmp_path / "labelled.csv").open("w", encoding="utf-8", newline="") as file:
        writer = csv.DictWriter(file, list(listed[0]))
        writer.writeheader()
        writer.writerow(listed[0] | {"human_label": "relevant"})
    relabel.audit_import(run, tmp_path / "labelled.csv")
    done = relabel.apply(run)
    assert [each["neg"] for each in lines(done.files["cleaned"])] == [["good", "more"], ["next"]]
    assert done.statistics["refill"]["candidates"]["not_asked"] == 1
    assert list(relabel.rebuild(run)) == lines(path)


RECORDED = """\
stages:
  - rules
  - judge: llm
    name: model
    prompt: {prompt}
    sample: {sample}
    final: [relevant, partial, irrelevant]
    engine: {{kind: scripted, replies: replies.jsonl}}
  - judge: llm
    name: second
    prompt: relevance
    engine: {{kind: scripted, replies: replies.jsonl}}
policy: {{min_negatives: 2}}
pool: mined
"""


def tevatron(name: str, *negatives: str) -> Row:
    """A row of Tevatron's form."""
    return {
        "query_id": name, "query": f"question {name}",
        "positive_passages": [{"docid": f"p-{name}", "title": "", "text": f"answer {name}"}],
        "negative_passages": [{"docid": f"id-{text}", "title": "", "text": text} for text in negatives],
    }  # fmt: skip


def recording(judge: str, template: str, *names: str, reply: str) -> Row:
    """One recorded reply about query a."""
    ids = [f"id-{name}" for name in names]
    return {"judge": judge, "template": template, "query_id": "a", "candidate_ids": ids, "reply": reply}


def test_recorded_replies_to_whole_groups(save: Save, tmp_path: Path) -> None:
    """Candidates are found in the recordings by query and id, alone or in a group; what has none is not added."""
    path = save(tevatron("a", "bad", "good"))
    verdict = "<verdict><better>{}</better><worse>{}</worse></verdict>"
    save(
        recording("model", "rlhn", "bad", "good", reply=verdict.format("[Doc (1)]", "[]")),
        recording("model", "rlhn", "one", "two", "four", reply=verdict.format("[Doc (1)]", "[]")),
        name="replies.jsonl",
    )
    mined(tmp_path / "mined", {"question a": texts("one", "three", "two", "four")})
    config = tmp_path / "cascade.yaml"
    config.write_text(RECORDED.format(prompt="rlhn", sample=0), "utf-8")
    done = relabel.run(path, config, output=tmp_path / "run")
    (cleaned,) = lines(done.files["cleaned"])
    assert [each["docid"] for each in cleaned["negative_passages"]] == ["id-good", "id-two"]
    counted = done.statistics["refill"]["candidates"]
    assert (counted["relevant"], counted["undecided"], counted["added"], counted["spare"]) == (1, 1, 1, 1)
    assert relabel.load_config(config).pool == str((tmp_path / "mined").resolve())


def test_candidates_get_no_second_opinions(save: Save, tmp_path: Path) -> None:
    """A sample is for figures about the input's own pairs; what goes up is what is open, as for any pair."""
    path = save(tevatron("a", "bad", "good"))
    said = {"bad": "Yes", "good": "No", "one": "No"}
    words = [recording("model", "relevance", name, reply=reply) for name, reply in said.items()]
    words += [recording("second", "relevance", name, reply=reply) for name, reply in said.items()]
    save(*words, name="replies.jsonl")
    mined(tmp_path / "mined", {"question a": texts("one")})
    config = tmp_path / "cascade.yaml"
    config.write_text(RECORDED.format(prompt="relevance", sample=1), "utf-8")
    done = relabel.run(path, config, output=tmp_path / "run")
    assert done.statistics["refill"]["rows"]["filled"] == 1
    assert {name: spent["asked"] for name, spent in done.spending.items()} == {"model": 3, "second": 2}
    assert done.statistics["stages"][2]["second_opinions"]["asked"] == 2


@pytest.mark.embedding
def test_candidates_are_embedded_in_batches(save: Save, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The embedding judge sees a turn's candidates at once, before it is asked about each of them."""
    batches: list[list[str]] = []
    embed = Encoder.embed

    def watched(self: Encoder, asked: Sequence[tuple[Role, str]]) -> Any:
        batches.append([text for _, text in asked])
        return embed(self, asked)

    monkeypatch.setattr(Encoder, "embed", watched)
    facts = {"sun": "The sun is a star.", "sea": "The sea is salty.", "oak": "An oak is a tree."}
    path = save(*[{"query": f"what is the {name}?", "pos": [fact], "neg": [fact]} for name, fact in facts.items()])
    pool = mined(
        tmp_path / "mined",
        {f"what is the {name}?": texts(f"A bicycle has {n} wheels.") for n, name in enumerate(facts)},
    )
    done = relabel.run(path, relabel.load_config(pool=pool), output=tmp_path / "run")
    assert [each["neg"] for each in lines(done.files["cleaned"])] == [[f"A bicycle has {n} wheels."] for n in range(3)]
    assert batches[1:] == [[f"A bicycle has {n} wheels." for n in range(3)]]
    assert list(relabel.rebuild(tmp_path / "run")) == lines(path)


# --- the pool itself, and the command line ---


def test_a_pool_that_is_gone_or_another(train: Path, pool: Path, tmp_path: Path) -> None:
    """Readings refuse it with what to type; a run over what is there now goes on with all that was said."""
    run, chosen = tmp_path / "run", plan(pool, min_negatives=2)
    go(train, chosen, run)
    first = results(run)
    moved = pool.rename(tmp_path / "moved")
    for reading in (relabel.apply, relabel.show, lambda run: relabel.audit_export(run, tmp_path / "x.csv")):
        with pytest.raises(RunError, match=r"is no longer there(.|\n)*--pool FOLDER"):
            reading(run)
    judge = Table(WORDS)
    assert results(go(train, plan(moved, min_negatives=2), run, judge).folder) == first
    with (moved / "candidates.jsonl").open("a", encoding="utf-8") as file:
        file.write(json.dumps({"query": "question e", "positives": [], "candidates": []}) + "\n")
    with pytest.raises(RunError, match="is not the pool that this run read"):
        relabel.apply(run)
    other = relabel.apply(run, plan(moved, min_negatives=2))  # a config says: the pool as it is now
    assert other.statistics["refill"]["rows"]["not_in_the_pool"] == 0
    kept = relabel.apply(run, plan(None, min_negatives=2))  # one that names none keeps the run's
    assert kept.statistics == other.statistics
    with pytest.raises(InputError, match="there is no such folder"):
        go(train, plan(tmp_path / "nowhere"), tmp_path / "new", judge := Table(WORDS))
    assert not judge.asked


def typed(*arguments: object, cwd: Path) -> str:
    """Type a command that succeeds; return all that it says."""
    done = subprocess.run(
        [sys.executable, "-m", "relabel", *map(str, arguments)],
        capture_output=True, check=False, cwd=cwd, encoding="utf-8", timeout=120,
        env={**os.environ, "COLUMNS": "200", "PYTHONPATH": str(Path(__file__).parents[1])},
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    return done.stderr + done.stdout


def test_the_command_line(save: Save, tmp_path: Path) -> None:
    """A pool beside the input is not used unasked, and named; --pool takes it; the screen says what came of it."""
    save(row("a", "answer a"), row("b", "fine"), row("c", "answer c"))
    mined(tmp_path, {"question a": texts("more"), "question b": texts("more")})
    recorded = {"judge": "llm", "template": "relevance", "candidate_ids": ["id-more"], "reply": "No"}
    save(recorded | {"query_id": sources_id(tmp_path / "train.jsonl", 0)}, name="replies.jsonl")
    (tmp_path / "rules.yaml").write_text(
        "stages: [rules, {judge: llm, prompt: relevance, engine: {kind: scripted, replies: replies.jsonl}}]\n", "utf-8"
    )
    said = typed("run", "train.jsonl", "-c", "rules.yaml", cwd=tmp_path)
    assert "mined candidates lie beside the input; --pool . refills rows left below min_negatives" in said
    assert "rows left below min_negatives: 2" in said
    said = typed("run", "train.jsonl", "-c", "rules.yaml", "--pool", ".", "-o", "filled", cwd=tmp_path)
    assert f"rows left below min_negatives are refilled from {tmp_path}" in said
    assert "beside the input" not in said
    assert "refill    2 rows short = 1 filled + 0 partly + 1 unfilled (of 1 the pool lacks the query)" in said
    assert "1 candidates = 1 added + 0 spare + 0 relevant + 0 partial + 0 undecided + 0 void + 0 not asked" in said
    assert "refill    2 rows short" in typed("stats", "filled", cwd=tmp_path)
    assert relabel.api.default_folder("a/train.jsonl", None, tmp_path / "mined") == Path("runs/train-mined")
    config = tmp_path / "pool.yaml"
    config.write_text((tmp_path / "rules.yaml").read_text("utf-8") + "pool: nowhere\n", "utf-8")
    assert "a run would not start: pool: " in typed("check", "train.jsonl", "-c", config, cwd=tmp_path)


# --- shards, kills, any input ---


class Dice:
    """A judge that says something else of every pair, and always the same."""

    def __init__(self, name: str) -> None:
        self.name = name

    def judge(self, cases: Iterable[Case]) -> Iterator[Case]:
        """Judge each case as it comes."""
        for case in cases:
            yield case.judged(tuple(self.word(case, pair.key) for pair in case.pairs))

    def word(self, case: Case, key: bytes) -> Judgment:
        """Choose among the labels and none."""
        at = int(5 * chance(self.name, case.key.hex(), key.hex()))
        return Judgment((*LABELS, "irrelevant")[at]) if at < 4 else Judgment(None, "unreadable")


class Flaky(Dice):
    """One that breaks after so many cases."""

    def __init__(self, name: str, after: int) -> None:
        super().__init__(name)
        self.after = after

    def judge(self, cases: Iterable[Case]) -> Iterator[Case]:
        """Judge until it breaks."""
        for case in super().judge(cases):
            if self.after == 0:
                raise ZeroDivisionError
            self.after -= 1
            yield case


def pool_for(path: Path, folder: Path, *, depth: int = 12) -> Path:
    """Mine made-up candidates, some of them in the rows already: many, few or none, and some queries not at all."""
    found: dict[str, list[Passage]] = {}
    drawn = []
    for number, example in enumerate(relabel.read(path)):
        if number % 7 == 0 or example.query in found:
            continue
        own = [Passage(each.id, each.text, each.title) for each in (*example.negatives, *example.positives)]
        more = [Passage(f"{example.id}+{n}", f"{example.query} {n}", "T" * (n % 2)) for n in range(depth)]
        found[example.query] = own[:2] + more[: (depth, 3, 0)[number % 3]]
        drawn += [each.id for each in own[:1]]
    return mined(folder, found, drawn=drawn)


TWO_STAGES = {
    "stages": [
        "rules",
        {"judge": "rules", "name": "cheap", "final": ["irrelevant"], "sample": 0.3, "escalate": "query"},
        {"judge": "rules", "name": "strong"},
    ],
    "policy": {"max_flagged": 4, "min_negatives": 5},
}


@pytest.mark.parametrize("name", ["train.jsonl", "triplets.csv", "pairs.jsonl"])
def test_merged_shards_are_one_run(name: str, tmp_path: Path) -> None:
    """The bytes of a whole run, rows of one query apart and together; another pool is another run."""
    path = training_file(tmp_path / "train.jsonl", 40)
    if name != "train.jsonl":
        relabel.convert(path, tmp_path / name, to={"t": "triplets", "p": "labeled-pairs"}[name[0]])
        path = tmp_path / name
    chosen = Settings.model_validate(TWO_STAGES | {"pool": str(pool_for(path, tmp_path / "mined"))})

    def run(folder: Path, shard: str | None = None, settings: Settings = chosen) -> Path:
        judges: dict[str, Judge] = {"cheap": Dice("cheap"), "strong": Dice("strong")}
        return relabel.run(path, settings, output=folder, shard=shard, judges=judges).folder

    whole = run(tmp_path / "whole")
    shards = [run(tmp_path / f"shard{number}", f"{number}/3") for number in (1, 2, 3)]
    relabel.merge(shards, tmp_path / "merged")
    assert results(tmp_path / "merged") == results(whole)
    figures = relabel.stats(whole)["refill"]
    empty = {"triplets.csv": ["partly", "not_in_the_pool"]}.get(name, [])
    assert [kind for kind, count in figures["rows"].items() if not count] == empty
    assert figures["candidates"]["added"] > 20
    assert figures["candidates"]["not_asked"] == 0
    assert list(relabel.rebuild(tmp_path / "merged")) == list(relabel.rebuild(whole))
    other = chosen.model_copy(update={"pool": str(pool_for(path, tmp_path / "other", depth=9))})
    with pytest.raises(RunError, match="what differs: pool"):
        relabel.merge([*shards[:2], run(tmp_path / "other3", "3/3", other)], tmp_path / "again")


def test_a_run_that_breaks_goes_on(tmp_path: Path) -> None:
    """Wherever a judge breaks, also in the middle of a turn: the bytes of an unbroken run."""
    path = training_file(tmp_path / "train.jsonl", 30)
    chosen = Settings.model_validate(TWO_STAGES | {"pool": str(pool_for(path, tmp_path / "mined"))})
    whole = Flaky("strong", 10**6)
    judges: dict[str, Judge] = {"cheap": Dice("cheap"), "strong": whole}
    unbroken = relabel.run(path, chosen, output=tmp_path / "unbroken", judges=judges)
    cases, looked = 10**6 - whole.after, unbroken.statistics["refill"]["candidates"]["looked_at"]
    run = tmp_path / "run"
    for after in (cases // 2, cases - looked // 2, cases - looked // 3, cases - looked // 5, cases - 1):
        with pytest.raises(ZeroDivisionError):
            relabel.run(path, chosen, output=run, judges={**judges, "strong": Flaky("strong", after)})
        assert not (run / "manifest.json").exists()
    assert results(relabel.run(path, chosen, output=run, judges=judges).folder) == results(unbroken.folder)


@pytest.mark.slow
def test_killed_at_random_moments(tmp_path: Path) -> None:
    """SIGKILLs while candidates are judged: the bytes of an unbroken run; only what was in flight is asked again."""
    source = training_file(tmp_path / "train.jsonl", 60)
    cascade = f"{CASCADE}policy: {{{{min_negatives: 6}}}}\npool: {pool_for(source, tmp_path / 'mined')}\n"
    with FakeServer(latency=0.06) as server:
        unbroken = Run(source, cascade, server, tmp_path / "unbroken").finish()
        contents = dict(server.asked)
        assert set(contents.values()) == {1}
        server.asked.clear()
        run = Run(source, cascade, server, tmp_path / "killed")
        refilling = run.folder / "cache" / "pool" / "short.jsonl"
        begun = len(contents)
        for extra in (0, 10, 40):
            wanted = server.total + extra
            assert run.kill_when(lambda wanted=wanted: refilling.exists() and server.total >= wanted)  # type: ignore[misc]
            begun = min(begun, server.total)
        assert begun < len(contents)  # the first kill came when candidates were still to be asked about
        assert run.finish() == unbroken
        assert server.asked.keys() == contents.keys()
        assert server.total <= len(contents) + 3 * ASKED_TWICE_PER_KILL
        server.asked.clear()
        assert run.finish() == unbroken
        assert server.total == 0


names = st.sampled_from([f"text {n}" for n in range(8)])
queries = st.sampled_from(["one", "One!", "two"])
bge_rows = st.builds(
    lambda query, pos, neg, score: {"query": query, "pos": pos, "neg": neg, "neg_scores": [score] * len(neg)},
    queries, st.lists(names, min_size=1, max_size=2), st.lists(names, max_size=4), st.sampled_from([0.5, 1, None]),
)  # fmt: skip
tevatron_rows = st.builds(
    lambda query, pos, neg: {
        "query": query,
        "positive_passages": [{"docid": f"id-{text}", "title": "", "text": text} for text in pos],
        "negative_passages": [{"docid": f"id-{text}", "text": text} for text in neg],
    },
    queries, st.lists(names, min_size=1, max_size=2), st.lists(names, max_size=4),
)  # fmt: skip
triplet_rows = st.builds(
    lambda query, pos, neg: {"anchor": query, "positive": pos, "negative": neg, "score": 1}, queries, names, names
)
ntuple_rows = st.builds(
    lambda query, pos, neg: {"anchor": query, "positive": pos, **{f"negative_{n}": text for n, text in enumerate(neg)}},
    queries, names, st.lists(names, min_size=2, max_size=4),
)  # fmt: skip
listed_rows = st.builds(
    lambda query, first, rest: {
        "query": query, "documents": [first, *[text for text, _ in rest]], "labels": [1, *[label for _, label in rest]],
    },
    queries, names, st.lists(st.tuples(names, st.sampled_from([0, 1])), max_size=4),
)  # fmt: skip
pair_rows = st.builds(
    lambda query, text, label: {"query": query, "document": text, "label": label},
    queries, names, st.sampled_from([0, 0, 1]),
)  # fmt: skip
dpr_rows = st.builds(
    lambda query, hard, others: {
        "question": query, "answers": [], "positive_ctxs": [{"title": "", "text": "it", "passage_id": "p"}],
        "hard_negative_ctxs": [{"title": "", "text": text, "passage_id": text} for text in hard],
        "negative_ctxs": [{"title": "", "text": text, "passage_id": text} for text in others],
    },
    queries, st.lists(names, max_size=3), st.lists(names, max_size=3),
)  # fmt: skip
FORMS = {
    "bge": bge_rows, "tevatron": tevatron_rows, "triplets": triplet_rows, "n-tuples": ntuple_rows,
    "labeled-lists": listed_rows, "labeled-pairs": pair_rows, "dpr": dpr_rows,
}  # fmt: skip
inputs = st.sampled_from(sorted(FORMS)).flatmap(
    lambda form: st.tuples(st.just(form), st.lists(FORMS[form], min_size=1, max_size=7))
)
tables = st.sampled_from([*PRESETS, {"relevant": "keep"}, {"partial": "promote"}, {"undecided": "keep"}])


@hypothesis.settings(max_examples=60, deadline=None, suppress_health_check=list(HealthCheck))
@given(inputs, tables, st.integers(0, 5), st.none() | st.integers(0, 2), st.booleans(), st.integers(0, 9))
def test_property_any_rows(
    told: tuple[str, list[Row]], actions: Any, least: int, flagged: int | None, rules: bool, dice: int
) -> None:
    """For any rows, format and policy: the ledger rebuilds the input, counts add up, only true negatives are added."""
    form, rows = told
    with tempfile.TemporaryDirectory() as place:
        path, run = Path(place, "train.jsonl"), Path(place, "run")
        path.write_text("".join(json.dumps(each) + "\n" for each in rows), "utf-8")
        examples = list(relabel.read(path, format=form, on_error="skip"))
        assume(examples)
        words = [f"text {n}" for n in range(3)]
        found = {query: texts(*words, *[f"{query} {n}" for n in range(9)]) for query in ("One", "two")}
        pool = mined(Path(place, "mined"), found, drawn=["id-text 1"], removed=["id-two 2"])
        stages: list[Any] = [*["rules"] * rules, {"judge": "rules", "name": "a", "final": ["irrelevant"]}]
        stages.append({"judge": "rules", "name": "b"})
        policy = {"actions": actions, "min_negatives": least, "max_flagged": flagged}
        chosen = Settings.model_validate({"stages": stages, "policy": policy, "pool": str(pool)})
        judges: dict[str, Judge] = {name: Dice(f"{name}{dice}") for name in ("a", "b")}

        def go(folder: Path, chosen: Settings = chosen) -> Summary:
            return relabel.run(path, chosen, output=folder, format=form, on_error="skip", judges=judges)

        done = go(run)
        first = results(run)
        read = [row for each in examples for row in relabel.formats.rows_of(each.row, each.layout)]
        assert list(relabel.rebuild(run)) == read
        check(done, examples, go(Path(place, "without"), chosen.model_copy(update={"pool": None})))
        assert results(relabel.apply(run).folder) == first
        assert results(go(run).folder) == first


def check(done: Summary, examples: Sequence[Example], without: Summary) -> None:
    """Check the identities, and that the pool did nothing but add."""
    rows, passages, refill = (done.statistics[name] for name in ("rows", "passages", "refill"))
    assert rows["in"] == rows["written"] + rows["removed"] + rows["rejected"]
    assert passages["in"] == sum(len(example.negatives) for example in examples)
    assert passages["in"] == sum(passages[name] for name in ("kept", "promoted", "dropped", "in_removed_rows"))
    short, candidates = refill["rows"], refill["candidates"]
    assert short["short"] == short["filled"] + short["partly"] + short["unfilled"]
    assert candidates["looked_at"] == sum(candidates[fate] for fate in FATES_TOLD)
    assert candidates["not_asked"] == 0
    changes = lines(done.files["changes"])
    added = [change for change in changes if change["action"] == "refill"]
    assert len(added) == candidates["added"]
    assert {change["why"] for change in added} <= {"true negative"}
    before = without.statistics["rows"]
    assert rows["removed"] <= before["removed"]
    assert rows["removed"] + rows["below_min_negatives"] <= before["removed"] + before["below_min_negatives"]
    assert done.statistics["verdicts"] == without.statistics["verdicts"]
    assert done.statistics["agreement"] == without.statistics["agreement"]
    by_row = {example.position: example for example in examples}
    for change in added:
        example = by_row[change["position"]]
        own = {each.full_text for each in (*example.positives, *example.negatives)}
        text = json.dumps(change["item"])
        assert not any(json.dumps(each) == text for each in own)
    others, before_that = {change["position"] for change in added}, lines(without.files["changes"])
    quiet, still = ([each for each in told if each["position"] not in others] for told in (changes, before_that))
    assert quiet == still
