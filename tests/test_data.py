import csv
import json
import re
import runpy
from collections import Counter
from collections.abc import Sequence
from functools import cache
from math import sqrt
from pathlib import Path
from typing import Any

import pytest

from relabel.prompts import load_template
from relabel.records import LABELS, Label, Passage
from relabel.replies import Answer, read_reply

DATA = Path(__file__).resolve().parent.parent / "data"
README = " ".join((DATA / "README.md").read_text(encoding="utf-8").split())
SCRIPT = runpy.run_path(str(DATA / "make_simulated.py"))
UNUSABLE_GROUPS, UNUSABLE_PAIRS = 3, 9

Row = dict[str, Any]
Pair = tuple[str, str]


def _lines(name: str) -> list[Row]:
    return [json.loads(line) for line in (DATA / name).read_text(encoding="utf-8").splitlines()]


def _labels() -> list[dict[str, str]]:
    with (DATA / "reference_labels.csv").open(encoding="utf-8", newline="") as file:
        return list(csv.DictReader(file))


load = cache(load_template)
ROWS = _lines("sample.jsonl")
QUERIES = {row["query_id"]: row["query"] for row in ROWS}
REPLIES = _lines("simulated/replies.jsonl")
TRUTH = {(line["query_id"], line["passage_id"]): line["label"] for line in _labels()}
TEXTS = {
    (row["query_id"], passage["docid"]): f"{passage['title']} {passage['text']}"
    for row in ROWS
    for passage in row["negative_passages"]
}


def _said(line: Row) -> tuple[Answer, ...]:
    """Read a recorded reply as the tool does; a failure gives no label."""
    if line.get("failure"):
        return tuple(Answer(None, line["failure"]) for _ in line["candidate_ids"])
    candidates = [Passage(name, "") for name in line["candidate_ids"]]
    return read_reply(load(line["template"]).spec, line["reply"], candidates, line.get("probabilities", {}))


def _confusion(judge: str, template: str) -> Counter[tuple[str, Label | None]]:
    """Count (reference label, what was said) over all pairs."""
    return Counter(
        (TRUTH[line["query_id"], name], answer.label)
        for line in REPLIES
        if (line["judge"], line["template"]) == (judge, template)
        for name, answer in zip(line["candidate_ids"], _said(line), strict=True)
    )


def _language(own: set[str]) -> str:
    """Tell German from English by the commoner word for "and"."""
    words = Counter(word for (query, _), text in TEXTS.items() if query in own for word in text.casefold().split())
    return "German" if words["und"] > words["and"] else "English"


def _auc(higher: Sequence[float], lower: Sequence[float]) -> float:
    """Return the probability that one of `higher` exceeds one of `lower`, ties counted half."""
    wins = sum((one > other) + (one == other) / 2 for one in higher for other in lower)
    return wins / (len(higher) * len(lower))


def _overlaps(pair: Pair) -> tuple[float, float]:
    """Return Jaccard's coefficient of query and passage, and the share of the query's words in the passage."""
    query, passage = (set(re.findall(r"\w+", text.casefold())) for text in (QUERIES[pair[0]], TEXTS[pair]))
    both = len(query & passage)
    return both / len(query | passage), both / len(query)


def test_sample_is_large_enough_and_its_ids_are_unique() -> None:
    """At least 120 queries with positives and negatives; one text for each passage id; no id of two kinds."""
    texts = {(p["docid"], p["title"], p["text"]) for r in ROWS for p in r["positive_passages"] + r["negative_passages"]}
    passages = {docid for docid, _, _ in texts}
    queries = [row["query_id"] for row in ROWS]
    assert len(queries) >= 120
    assert len(set(queries)) == len(queries)
    assert len(passages) == len(texts)
    assert not passages & set(queries)
    assert all(row["positive_passages"] and row["negative_passages"] for row in ROWS)


def test_domains_share_nothing() -> None:
    """Passages and queries of one domain carry its own prefix, so no two domains share an id."""
    prefixes: dict[str, set[str]] = {}
    for row in ROWS:
        ids = [row["query_id"], *(p["docid"] for p in row["positive_passages"] + row["negative_passages"])]
        prefixes.setdefault(row["subset"], set()).update(name.split("-")[0] for name in ids)
    assert all(len(own) == 1 for own in prefixes.values())
    assert len(set.union(*prefixes.values())) == len(prefixes)


def test_every_pair_has_one_reference_label() -> None:
    """Labels and pairs are the same set; each pair has one line, a known label and a reason."""
    lines = _labels()
    assert set(TRUTH) == set(TEXTS)
    assert len(lines) == len(TRUTH)
    assert all(line["label"] in LABELS and line["why"] for line in lines)


def test_share_of_false_negatives_is_realistic() -> None:
    """Between 10 and 22 % of the pairs are relevant; at least 40 % of the queries have such a pair."""
    relevant = [pair for pair, label in TRUTH.items() if label == "relevant"]
    assert 0.10 <= len(relevant) / len(TRUTH) <= 0.22
    assert len({query for query, _ in relevant}) / len(ROWS) >= 0.40


def test_labels_do_not_contradict_each_other() -> None:
    """Rows with the same query text agree on every passage; the positive of one is relevant to the other."""
    said: dict[tuple[str, str], set[str]] = {}
    for row in ROWS:
        for passage in row["positive_passages"]:
            said.setdefault((row["query"], passage["docid"]), set()).add("relevant")
        for passage in row["negative_passages"]:
            said.setdefault((row["query"], passage["docid"]), set()).add(TRUTH[row["query_id"], passage["docid"]])
    assert len({query for query, _ in said}) < len(ROWS)
    assert all(len(labels) == 1 for labels in said.values())


@pytest.mark.parametrize(("measure", "stated"), [(0, "Jaccard"), (1, "overlap")])
def test_labels_cannot_be_guessed_from_word_overlap(measure: int, stated: str) -> None:
    """Word overlap tells relevant from irrelevant with an ROC AUC below .75, the value that the README states."""
    scores = {label: [_overlaps(p)[measure] for p, said in TRUTH.items() if said == label] for label in LABELS}
    auc = _auc(scores["relevant"], scores["irrelevant"])
    assert auc < 0.75
    assert f"{stated} {auc:.3f}" in README


def test_what_is_planted_is_there() -> None:
    """Three rows hold a negative twice, the second time last; one negative is empty; the README names all four."""
    twice = []
    for row in ROWS:
        negatives = row["negative_passages"]
        if [passage["docid"] for passage in negatives].count(negatives[-1]["docid"]) == 2:
            assert negatives[-1] in negatives[:-1]
            twice.append(row["query_id"])
        assert len({passage["docid"] for passage in negatives}) == len(negatives) - (row["query_id"] in twice)
    empty = [pair for pair, text in TEXTS.items() if not text.strip()]
    assert len(twice) == 3
    assert len(empty) == 1
    assert TRUTH[empty[0]] == "irrelevant"
    assert all(f"`{name}`" in README for name in [*twice, *empty[0]])


def test_readme_counts_what_is_there() -> None:
    """The README's table of domains holds the counts of the files; there are at least two languages."""
    languages = set()
    for domain in dict.fromkeys(row["subset"] for row in ROWS):
        rows = [row for row in ROWS if row["subset"] == domain]
        own = {row["query_id"] for row in rows}
        passages = {p["docid"] for row in rows for p in row["positive_passages"] + row["negative_passages"]}
        counts = Counter(label for (query, _), label in TRUTH.items() if query in own)
        shares = " | ".join(f"{counts[label] / counts.total():.1%}" for label in LABELS)
        languages.add(language := _language(own))
        assert f"| {domain} | {language} | {len(rows)} | {len(passages)} | {counts.total()} | {shares} |" in README
    assert len(languages) >= 2


@pytest.mark.parametrize("judge", SCRIPT["JUDGES"])
def test_recorded_replies_cover_everything(judge: str) -> None:
    """Each judge has one group reply for each query, in row order, and one reply for each pair."""
    own = [line for line in REPLIES if line["judge"] == judge]
    groups = {line["query_id"]: line["candidate_ids"] for line in own if line["template"] == "rlhn"}
    pairs = [(line["query_id"], *line["candidate_ids"]) for line in own if line["template"] == "relevance"]
    assert groups == {
        row["query_id"]: list(dict.fromkeys(p["docid"] for p in row["negative_passages"])) for row in ROWS
    }
    assert sorted(pairs) == sorted(TRUTH)
    assert len(own) == len(groups) + len(pairs)


@pytest.mark.parametrize("judge", SCRIPT["JUDGES"])
def test_usable_replies_read_back_to_the_intended_labels(judge: str) -> None:
    """The tool reads from a usable reply what the script drew; cheap has a stated number of unusable ones."""
    unusable: Counter[str] = Counter()
    for line in (line for line in REPLIES if line["judge"] == judge):
        labels = [answer.label for answer in _said(line)]
        if None in labels:
            assert set(labels) == {None}
            unusable[line["template"]] += 1
            continue
        pairs = [(line["query_id"], name) for name in line["candidate_ids"]]
        assert labels == [SCRIPT["says"](judge, line["template"], pair, TRUTH[pair]) for pair in pairs]
    assert unusable == ({"rlhn": UNUSABLE_GROUPS, "relevance": UNUSABLE_PAIRS} if judge == "cheap" else {})


@pytest.mark.parametrize("template", SCRIPT["TEMPLATES"])
@pytest.mark.parametrize("judge", SCRIPT["JUDGES"])
def test_realised_rates_are_near_the_stated_ones(judge: str, template: str) -> None:
    """Each realised rate lies within three standard errors of the stated one, and the README holds the counts."""
    counts = _confusion(judge, template)
    for truth in LABELS:
        row = [counts[truth, label] for label in LABELS]
        stated = SCRIPT["RATES"][judge, template][truth]
        for count, rate in zip(row, stated, strict=True):
            assert abs(count / sum(row) - rate) <= 3 * sqrt(rate * (1 - rate) / sum(row))
        cells = " | ".join(f"{rate:g}: {count}" for rate, count in zip(stated, row, strict=True))
        assert f"| {judge} | {template} | {truth} | {cells} | {counts[truth, None]} |" in README


def test_judges_err_on_the_same_pairs_more_often_than_by_chance() -> None:
    """Errors of the two judges correlate: strong errs more often where cheap does (group replies)."""
    wrong: dict[str, set[Pair]] = {}
    for judge in SCRIPT["JUDGES"]:
        said = {pair: SCRIPT["says"](judge, "rlhn", pair, truth) for pair, truth in TRUTH.items()}
        wrong[judge] = {pair for pair, label in said.items() if label != TRUTH[pair]}
    among_hard = len(wrong["cheap"] & wrong["strong"]) / len(wrong["cheap"])
    assert among_hard > 1.5 * len(wrong["strong"]) / len(TRUTH)


def test_a_confident_answer_is_more_often_right() -> None:
    """Of the usable Yes/No replies with probability .9 and above, more are right than of the rest."""
    for judge in SCRIPT["JUDGES"]:
        right: dict[bool, list[bool]] = {True: [], False: []}
        for line in REPLIES:
            if line["judge"] == judge and "probabilities" in line:
                truth = TRUTH[line["query_id"], line["candidate_ids"][0]]
                yes = line["reply"] == "Yes"
                assert sum(line["probabilities"].values()) == pytest.approx(1)
                right[line["probabilities"][line["reply"]] >= 0.9].append((truth == "relevant") == yes)
        sure, unsure = (sum(right[key]) / len(right[key]) for key in (True, False))
        assert sure > unsure + 0.1


def test_script_reproduces_the_replies_byte_for_byte(tmp_path: Path) -> None:
    """Running the script again writes exactly the file that is kept here."""
    SCRIPT["write"](tmp_path / "again.jsonl")
    assert (tmp_path / "again.jsonl").read_bytes() == (DATA / "simulated" / "replies.jsonl").read_bytes()
