"""What holds for every mining: no positive is ever a negative, ids survive, the same seed gives the same bytes."""

import json
import re
import tempfile
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from minings import beir, candidates, lines

import relabel
from relabel import api, recipe
from relabel.minerun import Mined
from relabel.records import Example

WORDS = ("harbour", "market", "station", "castle", "garden", "tower", "school", "bridge", "library", "theatre")
DIMENSIONS = 16

RETRIEVERS = {
    "bm25": "retrievers: [{kind: bm25}]",
    "dense": "retrievers: [VECTORS]",
    "run": "retrievers: [{kind: run, path: found.tsv}]",
    "hybrid": "retrievers: [VECTORS, {kind: bm25}]",
    "union": "retrievers: [VECTORS, {kind: bm25}, {kind: run, path: found.tsv}]\ncombine: union",
}
VECTORS = (
    "{kind: vectors, documents: documents.npy, queries: queries.npy,"
    " document_ids: documents.txt, query_ids: queries.txt}"
)
SAMPLERS = (
    "top", "random", "star", "{strategy: simans, score: SCORE}", "{strategy: softmax, score: SCORE}",
    "{strategy: margin_balanced, score: SCORE}", "{strategy: rank_bands, bands: [{first: 1, last: 4}, {first: 5}]}",
)  # fmt: skip


@dataclass(frozen=True)
class Planted:
    """A collection with copies of positives planted among its passages."""

    texts: Mapping[str, str]
    queries: Mapping[str, str]
    qrels: Mapping[str, Mapping[str, int]]

    def relevant(self, query: str) -> list[str]:
        """Return the texts of what is relevant to a query, in whatever typography it is asked, in all its rows."""
        same = [name for name, text in self.queries.items() if plain(text) == plain(self.queries[query])]
        return [self.texts[document] for name in same for document in self.qrels.get(name, {})]


def plain(text: str) -> str:
    """Fold case, punctuation and white space."""
    return " ".join(re.findall("[a-z0-9]+", text.lower()))


def grams(text: str) -> set[str]:
    """Return the 5-grams of a text."""
    return {text[start : start + 5] for start in range(len(text) - 4)}


def overlap(left: str, right: str) -> float:
    """Return the Jaccard index of the 5-grams of two texts."""
    one, other = grams(plain(left)), grams(plain(right))
    return len(one & other) / len(one | other)


@st.composite
def collections(draw: st.DrawFn) -> Planted:
    """Draw a collection: long passages of few words, so that all are found, and copies of every kind."""
    sentence = st.lists(st.sampled_from(WORDS), min_size=18, max_size=24).map(" ".join)
    passages = draw(st.lists(sentence, min_size=6, max_size=14, unique=True))
    texts = {f"d{number}": text for number, text in enumerate(passages)}
    questions = draw(
        st.lists(st.lists(st.sampled_from(WORDS), min_size=2, max_size=4).map(" ".join), min_size=1, max_size=4)
    )
    queries = {f"q{number}": text for number, text in enumerate(questions)}
    ids = st.sampled_from(sorted(texts))
    qrels = {query: dict.fromkeys(draw(st.lists(ids, min_size=1, max_size=2)), 1) for query in queries}
    if draw(st.booleans()):  # the same question, otherwise written, with a positive of its own
        queries["again"] = f"{questions[0].upper()}?"
        qrels["again"] = {draw(ids): 1}
    for number, (name, kind) in enumerate(draw(st.lists(st.tuples(ids, st.sampled_from("utna")), max_size=6))):
        text = texts[name]
        copy = {"u": text.upper(), "t": f"“{text.replace(' ', ',  ', 3)}!”", "n": f"{text}s", "a": f" {text} "}[kind]
        texts[f"copy{number}"] = copy
    order = draw(st.permutations(sorted(texts)))
    return Planted({name: texts[name] for name in order}, queries, qrels)


def vector(text: str) -> Sequence[float]:
    """Embed a text as a bag of hashed words, of unit length: the same text or typography, the same vector."""
    import numpy as np

    found = np.full(DIMENSIONS, 0.01)
    for word in plain(text).split():
        found[WORDS.index(word) if word in WORDS else DIMENSIONS - 1] += 1
    return (found / np.linalg.norm(found)).tolist()  # type: ignore[no-any-return]


def mined(planted: Planted, folder: Path, text: str, **more: Any) -> Mined:
    """Mine a collection by a recipe."""
    import numpy as np

    source = beir(folder / "source", planted.texts, planted.queries, planted.qrels)
    for name, found in (("documents", planted.texts), ("queries", planted.queries)):
        np.save(folder / f"{name}.npy", np.array([vector(each) for each in found.values()], dtype=np.float32))
        (folder / f"{name}.txt").write_text("".join(f"{each}\n" for each in found), "utf-8")
    run = [
        f"{query}\t{name}\t{len(planted.texts) - rank}"
        for query in planted.queries
        for rank, name in enumerate(planted.texts)
    ]
    lines(folder / "found.tsv", run)
    (folder / "mine.yaml").write_text(text.replace("VECTORS", VECTORS), "utf-8")
    return api.mine(source, folder / "m", folder / "mine.yaml", **more)


def rows_of(done: Mined, name: str = "tevatron") -> list[Example]:
    """Read the rows that came of it, of which there may be none."""
    return list(relabel.read(done.rows, format=name)) if done.report["rows"]["negatives"] else []


many = settings(
    max_examples=60, deadline=None, suppress_health_check=[HealthCheck.too_slow, HealthCheck.data_too_large]
)  # fmt: skip


@many
@given(collections(), st.sampled_from(sorted(RETRIEVERS)), st.sampled_from(SAMPLERS), st.integers(0, 3))
def test_no_positive_is_ever_a_negative(planted: Planted, kind: str, sampler: str, seed: int) -> None:
    """Neither a query's own positives nor its siblings', however written, under whatever id, nor near-copies."""
    score = {"hybrid": "vectors"}.get(kind, '""')
    text = f"{RETRIEVERS[kind]}\nsampling: {sampler}\nnum_negatives: 5\nseed: {seed}\n".replace("SCORE", score)
    with tempfile.TemporaryDirectory() as folder:
        done = mined(planted, Path(folder), text)
        rows = rows_of(done)
        found = candidates(done.folder)
    for row in rows:
        relevant = planted.relevant(row.id)
        for each in row.negatives:
            assert plain(each.full_text) not in {plain(one) for one in relevant}
            assert max(overlap(each.full_text, one.full_text) for one in row.positives) < 0.9
            assert planted.texts[each.id] == each.text
        assert len({plain(each.full_text) for each in row.negatives}) == len(row.negatives)
        assert {each.id for each in row.positives} <= {*planted.texts}
        kept = [one for one in found[row.id]["candidates"] if "removed" not in one]
        assert not {plain(planted.texts[one["docid"]]) for one in kept} & {plain(one) for one in relevant}
        left = {plain(planted.texts[one["docid"]]) for one in kept}
        assert "rank_bands" in sampler or len(row.negatives) == 5 or len(left) < 5  # bands begin behind the positives
    assert len(found) == done.report["rows"]["rows"] == done.report["collection"]["queries"]


@settings(parent=many, max_examples=15)
@given(collections(), st.sampled_from(["bge", "dpr", "tevatron"]))
def test_ids_survive(planted: Planted, name: str) -> None:
    """Every format with a place for ids brings back those that rows had before."""
    with tempfile.TemporaryDirectory() as folder:
        done = mined(planted, Path(folder), RETRIEVERS["bm25"], to=name)
        rows = rows_of(done, name)
        found = candidates(done.folder)
    assert [row.query for row in rows] == [each["query"] for each in found.values() if _drawn(each)]
    for row, each in zip(rows, (each for each in found.values() if _drawn(each)), strict=True):
        assert [one.id for one in row.negatives] == _drawn(each)
        assert [one.id for one in row.positives] == [one["docid"] for one in each["positives"]]


def _drawn(found: Mapping[str, Any]) -> list[str]:
    return [one["docid"] for one in found["candidates"] if one.get("drawn")]


@settings(parent=many, max_examples=15)
@given(collections(), st.sampled_from(sorted(RETRIEVERS)), st.randoms(use_true_random=False))
def test_the_order_of_the_collection_says_nothing_of_the_draw(planted: Planted, kind: str, dice: Any) -> None:
    """Queries in another order get the same negatives: what is said of one depends on no other."""
    text = f"{RETRIEVERS[kind]}\nsampling: random\nnum_negatives: 3\n"
    names = list(planted.queries)
    dice.shuffle(names)
    turned = Planted(planted.texts, {name: planted.queries[name] for name in names}, planted.qrels)
    with tempfile.TemporaryDirectory() as one, tempfile.TemporaryDirectory() as other:
        first, second = (mined(each, Path(folder), text) for each, folder in ((planted, one), (turned, other)))
        rows = [{row.query: [each.id for each in row.negatives] for row in rows_of(each)} for each in (first, second)]
        assert rows[0] == rows[1]


def test_recipes_are_read_as_they_were_written() -> None:
    """What a manifest holds of a recipe is that recipe: refresh depends on it."""
    for sampler in SAMPLERS:
        for kind in RETRIEVERS.values():
            text = f"{kind}\nsampling: {sampler}\nnum_negatives: 3\n".replace("VECTORS", VECTORS).replace(
                "SCORE", "bm25"
            )
            if "bm25" not in kind and "SCORE" in sampler:
                continue
            read = recipe.parse(text)
            assert recipe.parse(json.dumps(recipe.written(read))) == read
