"""Gold labels: what people know of mined candidates, and what filters do to them."""

import json
from pathlib import Path
from typing import Any

import pytest

from relabel import api
from relabel.errors import InputError, RowError
from relabel.gold import Gold
from relabel.mining.candidates import Candidate, Pool
from relabel.records import Passage


def test_grades_become_truth(tmp_path: Path) -> None:
    """From the threshold on relevant, 0 and less not, between the two and unjudged unknown."""
    path = tmp_path / "gold.qrels"
    path.write_text("q 0 a 2\nq 0 b 1\nq 0 c 0\nq 0 d -1\nother 0 e 2\n", "utf-8")
    pool = Pool("?", (), tuple(Candidate(Passage(name, name), rank) for rank, name in enumerate("abcde", 1)))
    assert Gold(str(path), threshold=2).of("q", pool) == [True, None, False, False, None]
    assert Gold(str(path), threshold=1).of("q", pool) == [True, True, False, False, None]


def test_gold_that_cannot_be_read(tmp_path: Path) -> None:
    """A file without judgments, and a row that is none, each with what is wrong."""
    empty, odd = tmp_path / "empty.qrels", tmp_path / "odd.qrels"
    empty.write_text("", "utf-8")
    odd.write_text("q 0 a 1\nq 0 b good\n", "utf-8")
    with pytest.raises(InputError):
        Gold(str(empty))
    with pytest.raises(RowError, match="line 2"):
        Gold(str(odd))


def test_a_mining_measures_its_filters(tmp_path: Path) -> None:
    """Of what the filters were given, false negatives found and true negatives lost, filter by filter and in all."""
    texts = {
        "p": "a red fox in the snow",
        "fn": "a red fox in deep snow",
        "tn": "a red car",
        "far": "a red sky",
    }
    corpus, rows, gold = (tmp_path / name for name in ("corpus.jsonl", "rows.jsonl", "gold.qrels"))
    corpus.write_text("".join(json.dumps({"_id": name, "text": text}) + "\n" for name, text in texts.items()), "utf-8")
    row: dict[str, Any] = {"query_id": "q", "query": "red fox snow", "negative_passages": []}
    row["positive_passages"] = [{"docid": "p", "title": "", "text": texts["p"]}]
    rows.write_text(json.dumps(row) + "\n", "utf-8")
    gold.write_text("q 0 p 1\nq 0 fn 1\nq 0 tn 0\n", "utf-8")
    options: dict[str, Any] = {"retriever": "bm25", "relative_margin": 0.5}
    done = api.mine(rows, tmp_path / "m", corpus=corpus, gold=gold, **options)
    found = {each["filter"]: each for each in done.report["detection"]}
    margin = found["relative_margin"]
    assert [margin[name] for name in ("relevant", "irrelevant", "caught", "lost")] == [1, 1, 1, 0]
    assert margin["precision"]["value"] == margin["recall"]["value"] == 1
    assert found["all of them"]["caught"] == 1
    assert "fn" not in (tmp_path / "m" / "train.jsonl").read_text("utf-8")
    assert api.mine(rows, tmp_path / "m", corpus=corpus, **options).report["detection"] == []


def test_gold_may_name_any_id_of_a_text(tmp_path: Path) -> None:
    """Passages and queries of equal text are one: judgments by another id count; what matches is counted and shown."""
    corpus, queries, qrels, gold = (tmp_path / name for name in ("c.jsonl", "q.jsonl", "train.qrels", "gold.qrels"))
    texts = {"p": "a red fox", "a": "a red car", "b": "a red sky", "a2": "a red car"}
    corpus.write_text("".join(json.dumps({"_id": name, "text": text}) + "\n" for name, text in texts.items()), "utf-8")
    queries.write_text("".join(json.dumps({"_id": name, "text": "red fox"}) + "\n" for name in ("q", "q2")), "utf-8")
    qrels.write_text("q 0 p 1\n", "utf-8")
    gold.write_text("q2 0 a2 1\nq2 0 a 0\nq 0 b 0\nq 0 p 1\n", "utf-8")
    places: dict[str, Any] = {"queries": queries, "qrels": qrels, "retriever": "bm25"}
    report = api.mine(corpus, tmp_path / "m", gold=gold, **places).report
    assert report["gold"] == {"judgments": 3, "matched": 2}
    assert [report["detection"][-1][name] for name in ("relevant", "irrelevant")] == [1, 1]
    gold.write_text("Q 0 a 1\n", "utf-8")
    with pytest.raises(InputError, match=r"judges passage 'a' for query 'Q', a candidate is passage .* for query 'q'"):
        api.mine(corpus, tmp_path / "m", gold=gold, **places)


def test_a_filter_compares_ids_as_they_are(tmp_path: Path) -> None:
    """How much of the gold matched stands in what is returned; nothing of it is an error."""
    row = {"query_id": "q", "query": "red fox", "positive_passages": [{"docid": "p", "title": "", "text": "a red fox"}]}
    row["negative_passages"] = [{"docid": "n", "title": "", "text": "a red car"}]
    rows, gold = tmp_path / "rows.jsonl", tmp_path / "gold.qrels"
    rows.write_text(json.dumps(row) + "\n", "utf-8")
    gold.write_text("q 0 n 1\nq 0 x 1\n", "utf-8")
    assert api.filter_negatives(rows, tmp_path / "out.jsonl", gold=gold).gold == {"judgments": 2, "matched": 1}
    gold.write_text("q 0 x 1\n", "utf-8")
    with pytest.raises(InputError, match="no judgment is of a candidate"):
        api.filter_negatives(rows, tmp_path / "out.jsonl", gold=gold)
