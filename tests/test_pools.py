"""The candidates of a mined folder: written by mining, looked up by relabelling, and never trusted blindly."""

import json
import sqlite3
from collections.abc import Callable
from contextlib import closing
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st
from mined import corpus, mined

from relabel.errors import InputError, RelabelError, RunError
from relabel.mining.candidates import Candidate, Pool, Positive
from relabel.mining.filters import MaxScore
from relabel.mining.samplers import Top
from relabel.mining.strategies import Removed, apply_filters, sample
from relabel.pools import CANDIDATES, CORPUS, CandidatePool, PoolWriter, beside
from relabel.records import Passage


def texts(count: int, start: int = 0) -> list[Passage]:
    """Passages "d0", "d1", …."""
    return [Passage(f"d{number}", f"text {number}", f"title {number}") for number in range(start, start + count)]


def ids(pool: CandidatePool, query: str) -> list[str]:
    """What follows for a query."""
    return [each.id for each in pool.following(query)]


# --- writing ---


def test_a_line_says_what_became_of_each_candidate(tmp_path: Path) -> None:
    """Filters, sampler and writer together: order by rank, scores, who removed what and why, who was drawn."""
    one, two, three, four = texts(4)
    candidates = (
        Candidate(three, 3, float("nan"), "bm25", {"guide": 0.5, "other": float("inf")}),
        Candidate(one, 1, 0.9),
        Candidate(two, 2, 0.5),
        Candidate(four, 4, 0.4),
    )
    pool = Pool("what is it?", (Positive(Passage("p", "it"), 0.8, 2), Positive(Passage("r", "that"))), candidates)
    kept = apply_filters(pool, [MaxScore(0.6)])
    with PoolWriter(tmp_path) as writer:
        writer.write("q1", pool, kept.removed, sample(kept.kept, Top(), 1, seed=0))
        assert not (tmp_path / CANDIDATES).exists()
    (line,) = (tmp_path / CANDIDATES).read_text("utf-8").splitlines()
    assert json.loads(line) == {
        "query_id": "q1",
        "query": "what is it?",
        "positives": [{"docid": "p", "score": 0.8, "rank": 2}, {"docid": "r", "score": None, "rank": None}],
        "candidates": [
            {"docid": "d0", "rank": 1, "score": 0.9, "source": "", "scores": {}, "removed": "max_score"}
            | {"why": kept.removed[0].why},
            {"docid": "d1", "rank": 2, "score": 0.5, "source": "", "scores": {}, "drawn": True},
            {"docid": "d2", "rank": 3, "score": None, "source": "bm25", "scores": {"guide": 0.5, "other": None}},
            {"docid": "d3", "rank": 4, "score": 0.4, "source": "", "scores": {}},
        ],
    }


def test_a_mining_that_fails_leaves_the_file_of_before(tmp_path: Path) -> None:
    """Nothing half-written ever goes by the name; a folder that is not there is one clear message."""
    (tmp_path / CANDIDATES).write_text("before", "utf-8")
    writer = PoolWriter(tmp_path)
    with pytest.raises(ZeroDivisionError), writer:
        writer.write("q", Pool("q", (), (1 / 0,)))  # type: ignore[arg-type]
    assert [path.name for path in tmp_path.iterdir()] == [CANDIDATES]
    assert (tmp_path / CANDIDATES).read_text("utf-8") == "before"
    with pytest.raises(RunError, match=r"candidates\.jsonl cannot be written"):
        PoolWriter(tmp_path / "nowhere")


# --- looking up ---


def test_what_follows(tmp_path: Path) -> None:
    """Next-ranked first, with texts and scores; not what was removed, drawn or positive; queries by their words."""
    found = texts(6)
    folder = mined(
        tmp_path / "mined",
        {"What is  it?": found, "another": texts(1, 9)},
        positives={"What is  it?": [found[4]]},
        removed=["d1"],
        drawn=["d0"],
    )
    with CandidatePool(folder, tmp_path / "cache") as pool:
        assert list(pool.following("what is it")) == [
            Passage("d2", "text 2", "title 2", beside={"score": 0.88, "rank": 3, "source": "made up"}),
            Passage("d3", "text 3", "title 3", beside={"score": 0.87, "rank": 4, "source": "made up"}),
            Passage("d5", "text 5", "title 5", beside={"score": 0.85, "rank": 6, "source": "made up"}),
        ]
        assert ids(pool, "another") == ["d9"]
        assert (pool.knows("ANOTHER"), pool.knows("a third"), ids(pool, "a third")) == (True, False, [])
        assert pool.queries == 2


def test_lines_of_one_query_follow_each_other(tmp_path: Path) -> None:
    """What two lines found is yielded once; what one of them drew, or knows as a positive, neither yields."""
    one, two, three, four = texts(4)
    queries = ["a query", "A query."]
    with PoolWriter(tmp_path) as writer:
        first = Pool(queries[0], (), (Candidate(two, 1), Candidate(one, 2), Candidate(four, 3)))
        second = Pool(queries[1], (Positive(four),), (Candidate(one, 1), Candidate(three, 2), Candidate(two, 3)))
        writer.write("q0", first, drawn=[first.candidates[0]])
        writer.write("q1", second)
    corpus(tmp_path, [one, two, three, four])
    with CandidatePool(tmp_path, tmp_path / "cache") as pool:
        assert ids(pool, "a query") == ["d0", "d2"]


def test_what_one_line_removed_no_line_of_its_query_yields(tmp_path: Path) -> None:
    """A suspicion holds for a query in whatever typography it was mined."""
    one, two, three = texts(3)
    with PoolWriter(tmp_path) as writer:
        first = Pool("a query", (), (Candidate(one, 1), Candidate(two, 2)))
        second = Pool("A query.", (), (Candidate(two, 1), Candidate(three, 2)))
        writer.write("q0", first)
        writer.write("q1", second, [Removed(second.candidates[0], "max_score", "score .9 > .8")])
    corpus(tmp_path, [one, two, three])
    with CandidatePool(tmp_path, tmp_path / "cache") as pool:
        assert ids(pool, "a query") == ["d0", "d2"]


def test_texts_are_looked_up_one_by_one(tmp_path: Path) -> None:
    """A candidate that is not taken costs nothing: one that the corpus lacks is found out when its turn comes."""
    folder = mined(tmp_path / "mined", {"q": texts(3)})
    with closing(sqlite3.connect(folder / CORPUS)) as connection:
        connection.execute("DELETE FROM passages WHERE id = 'd2'")
        connection.commit()
    with CandidatePool(folder, tmp_path / "cache") as pool:
        following = pool.following("q")
        assert [next(following).id, next(following).id] == ["d0", "d1"]
        with pytest.raises(InputError, match=r"corpus\.sqlite lacks the passage 'd2'(.|\n)*mine again"):
            next(following)


def test_the_index_is_made_once_for_a_file(tmp_path: Path) -> None:
    """It is read again as it is; another file or place, or a damaged index, makes another; the digest says which."""
    folder, cache = mined(tmp_path / "mined", {"q": texts(2)}), tmp_path / "cache"

    def opened(path: Path = folder) -> tuple[list[str], str, int]:
        with CandidatePool(path, cache) as pool:
            return ids(pool, "q"), pool.sha256, (cache / "candidates.sqlite").stat().st_mtime_ns

    found, digest, made = opened()
    assert found == ["d0", "d1"]
    assert opened() == (found, digest, made)
    (cache / "candidates.sqlite").write_bytes(b"no database")
    assert opened()[:2] == (found, digest)
    other = mined(tmp_path / "other", {"another": texts(1), "q": texts(1)})
    assert opened(other)[0] == ["d0"]
    (folder / CORPUS).unlink()
    mined(folder, {"q": texts(3)})
    assert opened()[0] == ["d0", "d1", "d2"]
    assert len({digest, opened(other)[1], opened()[1]}) == 3


def damage(name: str, content: bytes) -> Callable[[Path], object]:
    """Put other bytes into a file."""
    return lambda folder: (folder / name).write_bytes(content)


def foreign(folder: Path) -> None:
    """Put a database without passages there."""
    (folder / CORPUS).unlink()
    with closing(sqlite3.connect(folder / CORPUS)) as connection:
        connection.execute("CREATE TABLE others (id TEXT)")


def other_corpus(folder: Path) -> None:
    """Put the corpus of another mining there."""
    (folder / CORPUS).unlink()
    corpus(folder, texts(2, 50))


@pytest.mark.parametrize(
    ("harm", "words"),
    [
        (lambda folder: folder.rename(f"{folder}-moved"), r"there is no such folder(.|\n)*--pool FOLDER"),
        (lambda folder: (folder / CANDIDATES).unlink(), r"is no mined folder: candidates\.jsonl is missing"),
        (lambda folder: (folder / CORPUS).unlink(), r"is no mined folder: corpus\.sqlite is missing"),
        (damage(CANDIDATES, b""), "the file holds no query"),
        (damage(CANDIDATES, b'{"query": "q", "positives": [], "candidates": []}\n{"query"'), "line 2: is not JSON"),
        (damage(CANDIDATES, b"\xff\xfe\n"), "line 1: is not JSON"),
        (damage(CANDIDATES, b"[1]\n"), "line 1: names no query"),
        (damage(CANDIDATES, b'{"query": "q", "positives": []}\n'), "field 'candidates': is no list of objects"),
        (damage(CANDIDATES, b'{"query": "q", "positives": [{"docid": 7}], "candidates": []}\n'), "field 'positives'"),
        (
            damage(CANDIDATES, b'{"query": "q", "positives": [], "candidates": [{"docid": "d", "score": "high"}]}\n'),
            "field 'candidates'",
        ),
        (damage(CORPUS, b"this is no database at all"), r"corpus\.sqlite is damaged, or not what relabel mine writes"),
        (foreign, "no such table: passages"),
        (other_corpus, r"lacks the passage 'd0'(.|\n)*not of one mining"),
    ],
)
def test_what_is_no_mined_folder_is_refused(harm: Callable[[Path], object], words: str, tmp_path: Path) -> None:
    """Before anything is spent, by one message that says what to do, and nothing half-made is left to be believed."""
    folder = mined(tmp_path / "mined", {"q": texts(2)})
    harm(folder)
    for _ in range(2):
        with pytest.raises(RelabelError, match=words):
            CandidatePool(folder, tmp_path / "cache")


def test_a_file_that_changes_under_the_reader(tmp_path: Path) -> None:
    """Is one message, no traceback."""
    folder = mined(tmp_path / "mined", {"q": texts(2)})
    with CandidatePool(folder, tmp_path / "cache") as pool:
        with (folder / CANDIDATES).open("r+b") as file:
            file.write(b"#")
        with pytest.raises(InputError, match="has changed while it was read"):
            ids(pool, "q")


def test_a_folder_beside_the_input(tmp_path: Path) -> None:
    """Is found by its two files, wherever it is named from."""
    assert beside(tmp_path / "rows.jsonl") is None
    mined(tmp_path, {"q": texts(1)})
    assert beside(tmp_path / "rows.jsonl") == tmp_path


@given(st.lists(st.text(max_size=8), min_size=1, max_size=6, unique=True), st.data())
def test_property_every_query_finds_its_own(
    tmp_path_factory: pytest.TempPathFactory, queries: list[str], data: st.DataObject
) -> None:
    """Any texts, halves of surrogate pairs apart, come back; what follows is what was neither removed nor drawn."""
    folder = tmp_path_factory.mktemp("pool")
    found = {
        query: [Passage(f"{number}-{i}", query, query) for i in range(data.draw(st.integers(1, 4)))]
        for number, query in enumerate(queries)
    }
    everything = [each.id for passages in found.values() for each in passages]
    removed = data.draw(st.sets(st.sampled_from(everything)))
    drawn = data.draw(st.sets(st.sampled_from(everything)))
    mined(folder / "mined", found, removed=removed, drawn=drawn)
    with CandidatePool(folder / "mined", folder / "cache") as pool:
        for query, passages in found.items():
            left = [each.id for each in passages if each.id not in removed | drawn]
            assert [each for each in ids(pool, query) if each in left] == left
            for each in pool.following(query):
                assert each.id not in removed | drawn
