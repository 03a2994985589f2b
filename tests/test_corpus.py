"""The collection on disk: every text once, every id known, what does not fit counted and said."""

import json
import sqlite3
import subprocess
import sys
import threading
from collections.abc import Iterator, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from relabel.corpus import Built, Corpus, Unknown, build
from relabel.errors import InputError, RowError, RunError, SettingsError
from relabel.formats.corpora import Found, Judged, OnBad, Part, Parts, Query, Source, open_parts
from relabel.mining.searching import Asked, Collection
from relabel.records import Passage

DOCUMENTS = [Passage("a", "apple"), Passage("b", "berry", "The"), Passage("c", "cherry")]
QUERIES = [Query("p", "red?"), Query("q", "blue?"), Query("r", "round?")]


def part(items: Sequence[Any], where: str = "given.jsonl") -> Part[Any]:
    """Return what reads these items."""

    def read(_: OnBad) -> Iterator[tuple[int, Any]]:
        return iter(list(enumerate(items, 1)))

    return Part((Source(where, read),))


def parts(
    documents: Sequence[Passage] = DOCUMENTS,
    queries: Sequence[Query] = QUERIES,
    judged: Sequence[tuple[str, str, int]] = (("p", "a", 1), ("q", "b", 2)),
    found: Sequence[Found] | None = None,
    outside: Sequence[Passage] | None = None,
) -> Parts:
    """Return parts of these items."""
    return Parts(
        part(documents),
        part(queries),
        part([Judged(*each) for each in judged]),
        None if found is None else part(found),
        None if outside is None else part(outside, "train.jsonl"),
    )


def made(path: Path, given: Parts, **settings: Any) -> tuple[Corpus, Built]:
    """Build a corpus and open it."""
    built = build(path / "corpus.sqlite", given, **settings)
    return Corpus(path / "corpus.sqlite"), built


def test_numbers_texts_and_queries(tmp_path: Path) -> None:
    """Passages and queries have numbers in their order; a query without a positive is left out and counted."""
    corpus, built = made(tmp_path, parts())
    with corpus:
        collection: Collection = corpus
        assert (collection.documents, collection.passages, collection.queries) == (3, 3, 2)
        assert list(corpus.texts()) == ["apple", "The berry", "cherry"]
        assert list(corpus.texts(1, 2)) == ["The berry"]
        assert list(corpus.texts(2)) == ["cherry"]
        assert list(corpus.asked()) == [Asked(0, "p", "red?", (0,)), Asked(1, "q", "blue?", (1,))]
        assert list(corpus.asked(1, 9)) == [Asked(1, "q", "blue?", (1,))]
        assert corpus.passage(1) == DOCUMENTS[1]
        assert corpus.passages_of([2, 0, 2]) == [DOCUMENTS[2], DOCUMENTS[0], DOCUMENTS[2]]
        assert [corpus.number_of(each) for each in ("c", "nobody")] == [2, None]
        assert (built.queries, built.unanswered, built.positives) == (2, 1, 2)
        assert corpus.built == built
        with pytest.raises(IndexError, match="no passage 3: the last is 2"):
            corpus.passage(3)


def test_equal_texts_are_one_passage_with_two_ids(tmp_path: Path) -> None:
    """A judgment with either id finds it; where title and text are cut does not matter, nor space around them."""
    documents = [*DOCUMENTS, Passage("b2", " The berry\n"), Passage("b", "berry", "The"), Passage("d", "apple ")]
    corpus, built = made(tmp_path, parts(documents, judged=[("p", "b2", 1), ("q", "b", 1), ("q", "d", 1)]))
    with corpus:
        assert (built.documents, built.aliases, built.repeated) == (3, 2, 1)
        assert [asked.positives for asked in corpus.asked()] == [(1,), (1, 0)]
        assert [corpus.number_of(each) for each in ("b", "b2", "d")] == [1, 1, 0]
        assert corpus.passage(1).id == "b"


def test_the_threshold(tmp_path: Path) -> None:
    """From it on positive, below it and above 0 spared, the rest nothing; of two grades the higher counts."""
    judged = [("p", "c", 2), ("p", "a", 1), ("p", "b", 0), ("q", "a", 1), ("q", "b", -1), ("q", "a", 3), ("r", "c", 1)]
    corpus, built = made(tmp_path, parts(judged=judged), threshold=2)
    with corpus:
        assert list(corpus.asked()) == [Asked(0, "p", "red?", (2,), (0,)), Asked(1, "q", "blue?", (0,))]
    assert (built.positives, built.spared, built.unanswered) == (2, 1, 1)
    with pytest.raises(InputError, match="no judgment reaches the threshold 4: the highest grade is 3"):
        build(tmp_path / "other", parts(judged=judged), threshold=4)
    with pytest.raises(SettingsError, match="threshold is 0"):
        build(tmp_path / "other", parts(judged=judged), threshold=0)


def test_what_was_judged_not_relevant_is_given(tmp_path: Path) -> None:
    """In the order of the judgments, with the negatives that the source has; never what is relevant elsewhere."""
    judged = [("p", "c", 0), ("p", "a", 1), ("p", "b", -1), ("q", "b", 1), ("q", "c", 1), ("q", "c", 0), ("r", "a", 0)]
    found = [Found("q", "a", 1, 0.5, "given"), Found("p", "c", 3, 0.25, "given")]
    corpus, built = made(tmp_path, parts(judged=judged, found=found))
    with corpus:
        first, second = corpus.asked()
        assert corpus.given(first) == [(2, 0.25), (1, None)]
        assert corpus.given(second) == [(0, 0.5)]
        assert corpus.found(first)["given"][0].tolist() == [2, 1]
    assert (built.found, built.unanswered) == (3, 1)


def test_equal_texts_that_stay_apart(tmp_path: Path) -> None:
    """Unmerged, each id is a passage or query of its own; one id for two texts is told all the same."""
    documents = [*DOCUMENTS, Passage("a2", "apple"), Passage("a", "apple")]
    given = parts(documents, [*QUERIES, Query("p2", "red?")], [("p", "a", 1), ("p2", "a2", 1)])
    corpus, built = made(tmp_path, given, merge=False)
    with corpus:
        assert (built.documents, built.aliases, built.repeated, built.joined) == (4, 0, 1, 0)
        assert [(each.id, each.positives) for each in corpus.asked()] == [("p", (0,)), ("p2", (3,))]
        assert [each.id for each in corpus.each()] == ["a", "b", "c", "a2"]
    with pytest.raises(RowError, match="'a' has another text here"):
        build(tmp_path / "other", parts([*DOCUMENTS, Passage("a", "other")]), merge=False)


def test_queries_of_equal_text_are_one(tmp_path: Path) -> None:
    """Their positives and what was found for them are joined."""
    queries = [Query("p", "red?"), Query("p2", " red?"), Query("q", "blue?")]
    found = [Found("p2", "c", 1, 0.5, "bm25"), Found("p", "b", 1, 0.75, "bm25")]
    corpus, built = made(tmp_path, parts(queries=queries, judged=[("p2", "b", 1), ("p", "a", 1)], found=found))
    with corpus:
        (asked,) = corpus.asked()
        assert asked == Asked(0, "p", "red?", (1, 0))
        assert (built.joined, built.unanswered) == (1, 1)
        assert corpus.found(asked)["bm25"][0].tolist() == [1, 2]


def test_positives_that_the_corpus_lacks(tmp_path: Path) -> None:
    """They get numbers behind the documents; other passages from outside do not, but their texts find their ids."""
    outside = [Passage("x", "xigua"), Passage("n", "negative"), Passage("t", "cherry"), Passage("x", "xigua")]
    judged = [("p", "x", 1), ("p", "a", 1), ("q", "t", 1), ("q", "n", 0)]
    found = [Found("p", "n", 1, None, "given"), Found("p", "t", 2, None, "given"), Found("q", "x", 1, None, "given")]
    corpus, built = made(tmp_path, parts(judged=judged, outside=outside, found=found))
    with corpus:
        assert (corpus.documents, corpus.passages, built.outside, built.aliases) == (3, 4, 1, 1)
        assert corpus.passage(3) == Passage("x", "xigua")
        first, second = corpus.asked()
        assert (first.positives, second.positives) == ((3, 0), (2,))
        assert {name: numbers.tolist() for name, (numbers, _) in corpus.found(first).items()} == {"given": [2]}
        assert corpus.found(second) == {}
    assert built.unknown == {"judged passages": Unknown(1, ("n",)), "found passages": Unknown(2, ("n", "x"))}


def test_what_systems_found(tmp_path: Path) -> None:
    """By system, in the order of the ranks, equal ones by number; each passage once, with its best rank and score."""
    found = [
        Found("p", "a", 1, 0.25, "dense"),
        Found("p", "c", 2, 0.75, "dense"),
        Found("p", "a", 3, 0.5, "dense"),
        Found("p", "c", 2, None, "bm25"),
        Found("p", "b", 1, None, "bm25"),
        Found("r", "b", 1, None, "bm25"),
    ]
    corpus, built = made(tmp_path, parts(found=found))
    with corpus:
        systems = corpus.found(next(corpus.asked()))
    assert list(systems) == ["bm25", "dense"]
    numbers, scores = systems["dense"]
    assert (numbers.dtype, scores.dtype) == (np.dtype("int64"), np.dtype("float32"))
    assert (numbers.tolist(), scores.tolist()) == ([0, 2], [0.5, 0.75])
    assert systems["bm25"][0].tolist() == [1, 2]
    assert np.isnan(systems["bm25"][1]).all()
    assert built.found == 4  # nothing for r, which has no positive


def test_lines_that_name_what_is_not_there(tmp_path: Path) -> None:
    """They are counted, the first few listed, and nothing breaks."""
    judged = [("p", "a", 1), ("z", "a", 1), *(("p", f"no{each % 7}", 1) for each in range(20))]
    found = [Found("z", "a", 1, 1.0, "s"), Found("p", "z", 1, 1.0, "s"), Found("p", "b", 1, 1.0, "s")]
    _, built = made(tmp_path, parts(judged=judged, found=found))
    assert built.unknown == {
        "judged queries": Unknown(1, ("z",)),
        "judged passages": Unknown(20, ("no0", "no1", "no2", "no3", "no4")),
        "found queries": Unknown(1, ("z",)),
        "found passages": Unknown(1, ("z",)),
    }


@pytest.mark.parametrize(
    ("given", "words"),
    [
        (parts(judged=[("1", "a", 1)]), "name query '1' and passage 'a', the queries have 'p', the corpus has 'a'"),
        (parts(judged=[("p", "1", 1)]), "name query 'p' and passage '1', the queries have 'p', the corpus has 'a'"),
        (parts(judged=[]), "there are no judgments"),
        (parts(documents=[]), "the corpus has none at all"),
        (parts(queries=[]), "the queries have none at all"),
        (parts(found=[Found("p", "1", 1, 1.0, "s")]), "nothing in the runs fits"),
        (replace(parts(), queries=None, judged=None), "there are no queries, no judgments"),
    ],
)
def test_nothing_fits(tmp_path: Path, given: Parts, words: str) -> None:
    """The error shows an id of each side, and no file is left behind."""
    with pytest.raises(InputError, match=words):
        build(tmp_path / "corpus.sqlite", given)
    assert [each.name for each in tmp_path.iterdir() if each.suffix != ".lock"] == []


def test_one_id_for_two_texts(tmp_path: Path) -> None:
    """It stops with both places, or the first stays and the row is told; queries too, and passages from outside."""
    given = parts([*DOCUMENTS, Passage("a", "other")], [*QUERIES, Query("q", "green?")], outside=[Passage("b", "else")])
    with pytest.raises(RowError, match=r"line 4: field 'id': 'a' has another text .* \(given.jsonl, 1\)") as caught:
        build(tmp_path / "corpus.sqlite", given)
    assert "--on-error skip" in caught.value.hint
    told: list[tuple[str, int, str]] = []
    corpus, built = made(
        tmp_path, given, on_error="skip", on_reject=lambda error, raw: told.append((error.path, error.line, raw))
    )
    with corpus:
        assert (corpus.passage(0).text, built.documents, built.queries, built.rejected) == ("apple", 3, 2, 2)
    assert told == [("given.jsonl", 4, "other"), ("train.jsonl", 1, "else")]


def test_bad_rows_of_files(tmp_path: Path) -> None:
    """A bad row stops, or is told once, however many parts are read from its file."""
    row = {"query": "what?", "pos": ["a"], "neg": ["b"]}
    path = tmp_path / "train.jsonl"
    path.write_text(f'{json.dumps(row)}\n{{"query": 5}}\n{{"query": "\\ud800", "pos": ["\\udfff"], "neg": ["b"]}}\n')
    with pytest.raises(RowError, match="line 2: field 'query'"):
        build(tmp_path / "corpus.sqlite", open_parts(path))
    told: list[int] = []
    _, built = made(tmp_path, open_parts(path), on_error="skip", on_reject=lambda error, _: told.append(error.line))
    assert told == [2, 3]
    assert (built.rejected, built.documents, built.queries) == (2, 2, 1)


def test_empty_texts_are_left_out(tmp_path: Path) -> None:
    """A passage or a query without a visible character is counted, no more."""
    given = parts([Passage("e", " \n", ""), *DOCUMENTS], [*QUERIES, Query("s", " ")], [("p", "a", 1), ("s", "a", 1)])
    _, built = made(tmp_path, replace(given, judged=part([Judged("p", "a", 1), Judged("p", "e", 1)])))
    assert (built.documents, built.empty) == (3, 2)
    assert built.unknown == {"judged passages": Unknown(1, ("e",))}


def test_a_title_alone_is_a_text(tmp_path: Path) -> None:
    """A passage may have nothing but its title; a huge one is a text like any other."""
    huge = "word " * 1_000_000
    corpus, _ = made(tmp_path, parts([*DOCUMENTS, Passage("t", "", "Title"), Passage("h", huge)]))
    with corpus:
        assert [len(text) for text in corpus.texts(3)] == [6, 5_000_000]


def rows(path: Path, count: int = 3, grade: int = 1) -> Path:
    """Write a small BEIR folder."""
    path.mkdir(exist_ok=True)
    documents = [{"_id": each, "text": f"text {each}"} for each in range(count)]
    (path / "corpus.jsonl").write_text("".join(json.dumps(each) + "\n" for each in documents))
    (path / "queries.jsonl").write_text('{"_id": "q", "text": "which?"}\n')
    (path / "qrels.tsv").write_text(f"query-id\tcorpus-id\tscore\nq\t1\t{grade}\n")
    return path


def test_a_finished_corpus_is_used_again(tmp_path: Path) -> None:
    """Of the same files and settings it is; after a change of either it is made anew."""
    folder, path = rows(tmp_path / "beir"), tmp_path / "corpus.sqlite"
    first = build(path, open_parts(folder))
    made_at = path.stat().st_mtime_ns
    again = build(path, open_parts(folder))
    assert (again, path.stat().st_mtime_ns) == (replace(first, reused=True), made_at)
    skipping = build(path, open_parts(folder), on_error="skip")
    assert (skipping, skipping.fingerprint) == (first, first.fingerprint)
    changed = build(path, open_parts(rows(folder, 4)), on_error="skip")
    assert (changed.documents, changed.reused) == (4, False)
    assert changed.fingerprint != first.fingerprint
    assert build(path, parts()).reused is build(path, parts()).reused is False  # nothing tells whether these changed


def test_an_unfinished_corpus_is_made_again(tmp_path: Path) -> None:
    """What a killed process left is no corpus, and is in nobody's way; nor is one of another version."""
    path = tmp_path / "corpus.sqlite"
    for name in ("partial", "scratch"):
        (tmp_path / f"corpus.sqlite.{name}").write_bytes(b"half of a file")
    with pytest.raises(RunError, match="there is no corpus"):
        Corpus(path)
    first = build(path, open_parts(rows(tmp_path / "beir")))
    connection = sqlite3.connect(path)
    connection.execute("PRAGMA user_version = 99")
    connection.close()
    with pytest.raises(RunError, match="of this version"):
        Corpus(path)
    assert build(path, open_parts(tmp_path / "beir")) == first


@pytest.mark.parametrize("content", [b"my thesis", b""])
def test_another_file_is_not_overwritten(tmp_path: Path, content: bytes) -> None:
    """A file that is no corpus stays as it is."""
    path = tmp_path / "thesis.txt"
    path.write_bytes(content)
    with pytest.raises(RunError, match="no corpus that relabel made"):
        build(path, parts())
    assert path.read_bytes() == content


def test_one_builder_at_a_time(tmp_path: Path) -> None:
    """A second process that wants to make the same file is told."""
    inside: list[str] = []

    def progress(*_: object) -> None:
        try:
            build(tmp_path / "corpus.sqlite", parts())
        except RunError as error:
            inside.append(str(error))

    build(tmp_path / "corpus.sqlite", parts(), progress=progress)
    assert "is being made by another" in inside[0]


def test_the_fingerprint_is_of_the_passages_in_their_order(tmp_path: Path) -> None:
    """Queries and ids do not change it; texts, their order and where the documents end do."""

    def fingerprint(given: Parts) -> str:
        return build(tmp_path / "corpus.sqlite", given).fingerprint

    first = fingerprint(parts())
    assert fingerprint(parts(judged=[("r", "c", 1)])) == first
    assert fingerprint(parts([replace(each, id=each.id * 2) for each in DOCUMENTS], judged=[("p", "aa", 1)])) == first
    assert fingerprint(parts(DOCUMENTS[::-1])) != first
    assert fingerprint(parts([*DOCUMENTS[:2], Passage("c", "cherrY")])) != first
    ends = parts(DOCUMENTS[:2], judged=[("p", "c", 1)], outside=DOCUMENTS[2:])
    assert fingerprint(ends) != first


def test_threads_read_at_once(tmp_path: Path) -> None:
    """Many threads see the same, while others read."""
    documents = [Passage(str(each), f"text {each}") for each in range(1000)]
    corpus, _ = made(tmp_path, parts(documents, judged=[("p", "1", 1)]))
    seen: list[list[str]] = []
    with corpus:
        threads = [threading.Thread(target=lambda: seen.append(list(corpus.texts()))) for _ in range(8)]
        for each in threads:
            each.start()
        for each in threads:
            each.join()
    assert seen == [[each.text for each in documents]] * 8


@settings(max_examples=60, deadline=None)
@given(
    documents=st.lists(st.tuples(st.sampled_from("abcdefgh"), st.text("xyz ", max_size=3), st.text("xyz", max_size=2))),
    judged=st.lists(st.tuples(st.sampled_from("pqr"), st.sampled_from("abcdefgh"), st.integers(-1, 3))),
    threshold=st.integers(1, 3),
)
def test_every_pair_is_where_it_belongs(
    tmp_path_factory: pytest.TempPathFactory,
    documents: list[tuple[str, str, str]],
    judged: list[tuple[str, str, int]],
    threshold: int,
) -> None:
    """Against a plain account in memory: texts are distinct, ids lead to their texts, grades to their sides."""
    texts: dict[str, str] = {}
    for name, text, title in documents:
        full = Passage(name, text, title).full_text.strip()
        if full:
            texts.setdefault(name, full)
    grades: dict[tuple[str, str], int] = {}
    for query, name, grade in judged:
        if name in texts:
            pair = query, texts[name]
            grades[pair] = max(grade, grades.get(pair, 0))
    positives = {pair for pair, grade in grades.items() if grade >= threshold}
    spared = {pair for pair, grade in grades.items() if 0 < grade < threshold}
    given_parts = parts([Passage(name, text, title) for name, text, title in documents], judged=judged)
    path = tmp_path_factory.mktemp("c") / "corpus.sqlite"
    if not positives:
        with pytest.raises(InputError):
            build(path, given_parts, threshold=threshold, on_error="skip")
        return
    build(path, given_parts, threshold=threshold, on_error="skip")
    with Corpus(path) as corpus:
        known = [text.strip() for text in corpus.texts()]
        assert sorted(known) == sorted(set(texts.values()))
        assert {name: known[number] for name in texts if (number := corpus.number_of(name)) is not None} == texts
        asked = list(corpus.asked())
        assert {(each.id, known[number]) for each in asked for number in each.positives} == positives
        names = {each.id for each in asked}
        left = {(each.id, known[number]) for each in asked for number in each.spared}
        assert left == {pair for pair in spared if pair[0] in names}
        assert [each.number for each in asked] == list(range(len(asked)))


MEASURED = """
import sys
from relabel.corpus import Corpus, build
from relabel.formats.corpora import Judged, Part, Parts, Query, Source
from relabel.records import Passage

def peak():
    return next(int(line.split()[1]) for line in open("/proc/self/status") if line.startswith("VmHWM")) // 1024

def documents(on_bad):
    return ((each, Passage(f"d{each}", f"{each} is a number " * 24, f"title {each}")) for each in range(200_000))

def one(item):
    return Part((Source("made", lambda on_bad: iter([(1, item)])),))

before = peak()
parts = Parts(Part((Source("made", documents),)), one(Query("q", "which?")), one(Judged("q", "d7", 1)))
built = build(sys.argv[1], parts)
with Corpus(sys.argv[1]) as corpus:
    print(built.documents, sum(len(text) for text in corpus.texts()) // 2**20, peak() - before)
"""


@pytest.mark.skipif(sys.platform != "linux", reason="reads /proc")
def test_memory_stays_flat(tmp_path: Path) -> None:
    """200,000 passages of over 80 MiB are built and read within 40 MiB."""
    done = subprocess.run(
        [sys.executable, "-c", MEASURED, str(tmp_path / "corpus.sqlite")], capture_output=True, text=True, check=False
    )
    assert done.stderr == ""
    count, size, growth = map(int, done.stdout.split())
    assert count == 200_000
    assert size > 80
    assert growth < 40
