"""Dense retrieval: what is found, that nothing but content decides it, and indexes on disk."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest
from collections_of import Texts, silent
from hypothesis import given, settings
from hypothesis import strategies as st

from relabel.errors import InputError, SettingsError
from relabel.mining.dense import Dense
from relabel.mining.indexes import IndexSettings
from relabel.mining.precomputed import Precomputed
from relabel.mining.searching import Hits, Retriever

np: Any = pytest.importorskip("numpy")
pytest.importorskip("faiss")


def clustered(count: int, dimensions: int = 16, seed: int = 0, *, unit: bool = True) -> Any:
    """Return vectors around 20 centres."""
    dice = np.random.default_rng(seed)
    centres = np.random.default_rng(99).standard_normal((20, dimensions))
    vectors = centres[dice.integers(0, 20, count)] + 0.7 * dice.standard_normal((count, dimensions))
    if unit:
        vectors /= np.linalg.norm(vectors, axis=1, keepdims=True)
    return vectors.astype(np.float32)


def retriever(
    folder: Path, documents: Any, queries: Any, beyond: int = 0, normalise: bool = False, **chosen: Any
) -> tuple[Dense, Texts]:
    """Return a prepared retriever over these vectors and its collection, which has `beyond` passages without any."""
    folder.mkdir(exist_ok=True)
    np.save(folder / "documents.npy", documents)
    np.save(folder / "queries.npy", queries)
    texts = Texts([str(number) for number in range(len(documents) + beyond)], [""] * len(queries), beyond)
    vectors = Precomputed(folder / "documents.npy", folder / "queries.npy", normalise=normalise)
    dense = Dense("dense", vectors, folder, IndexSettings(**chosen))
    dense.prepare(texts, silent)
    return dense, texts


def brute(documents: Any, query: Any, depth: int) -> list[tuple[int, float]]:
    """Return the best documents by the plainest of ways."""
    products = (documents.astype(np.float64) * query.astype(np.float64)).sum(axis=1).astype(np.float32)
    order = sorted(range(len(documents)), key=lambda number: (-products[number], number))[:depth]
    return [(number, float(products[number])) for number in order]


def pairs(hits: Hits) -> list[tuple[int, float]]:
    """Return numbers with scores."""
    return list(zip(hits.numbers.tolist(), hits.scores.tolist(), strict=True))


# few different values, so that ties abound
VALUES = st.sampled_from([-2.0, -1.0, -0.1, 0.0, 0.1, 0.30000001192092896, 1.0, 1e4])


@settings(max_examples=60, deadline=None)
@given(data=st.data(), dimensions=st.integers(1, 5), depth=st.integers(1, 12), threads=st.integers(1, 3))
def test_flat_is_brute_force(
    data: st.DataObject, dimensions: int, depth: int, threads: int, tmp_path_factory: pytest.TempPathFactory
) -> None:
    """The flat index finds what comparing one by one finds, whatever the vectors, ties by number; so does any cut."""
    vector = st.lists(VALUES, min_size=dimensions, max_size=dimensions)
    documents = np.array(data.draw(st.lists(vector, min_size=1, max_size=60)), dtype=np.float32)
    queries = np.array(data.draw(st.lists(vector, min_size=1, max_size=8)), dtype=np.float32)
    folder = tmp_path_factory.mktemp("flat")
    dense, texts = retriever(folder, documents, queries, kind="flat", threads=threads)
    asked = list(texts.asked())
    cut = data.draw(st.integers(0, len(asked)))
    hits = dense.search(asked[cut:], depth) + dense.search(asked[:cut], depth)
    expected = [brute(documents, query, depth) for query in queries]
    assert [pairs(each) for each in hits] == expected[cut:] + expected[:cut]


def test_many_equal_vectors_at_the_end_of_the_list(tmp_path: Path) -> None:
    """Where more documents score alike than there are spare candidates, the lowest numbers are taken."""
    documents = np.repeat(clustered(3, 7), 200, axis=0)
    dense, texts = retriever(tmp_path, documents, clustered(4, 7, seed=1), kind="flat")
    for hits, query in zip(dense.search(list(texts.asked()), 50), clustered(4, 7, seed=1), strict=True):
        assert pairs(hits) == brute(documents, query, 50)


@pytest.mark.parametrize("chosen", [{"kind": "flat"}, {"kind": "ivf", "nprobe": 3}, {"kind": "hnsw", "ef": 40}])
@pytest.mark.parametrize("precision", ["float32", "float16"])
def test_hits_depend_on_the_query_alone(tmp_path: Path, chosen: dict[str, Any], precision: str) -> None:
    """Any number of threads and any cut of the queries give the same hits, and an index is the same bytes."""
    documents, queries = clustered(3000), clustered(70, seed=1)
    found, files = [], []
    for threads, step in ((1, 70), (2, 1), (4, 33)):
        folder = tmp_path / str(threads)
        dense, texts = retriever(folder, documents, queries, threads=threads, precision=precision, **chosen)
        asked = list(texts.asked())
        cuts = [dense.search(asked[first : first + step], 20) for first in range(0, 70, step)]
        found.append([pairs(hits) for cut in cuts for hits in cut])
        files.append([path.read_bytes() for path in folder.glob("*.faiss")])
    assert found[0] == found[1] == found[2]
    assert files[0] == files[1] == files[2]
    assert len(files[0]) == (0 if chosen["kind"] == "flat" else 1)


@pytest.mark.parametrize(("kind", "precision"), [("ivf", "float16"), ("hnsw", "float16"), ("ivf", "float32")])
def test_approximate_indexes_find_most_and_score_exactly(tmp_path: Path, kind: Any, precision: Any) -> None:
    """Scores of an approximate index are those of the stored vectors, best first; its recall is that stated."""
    documents, queries = clustered(4000), clustered(50, seed=2)
    dense, texts = retriever(tmp_path, documents, queries, kind=kind, precision=precision)
    asked = list(texts.asked())
    exact = [brute(documents, query, 4000) for query in queries]
    shares = []
    for hits, all_of_them in zip(dense.search(asked, 10), exact, strict=True):
        scores = dict(all_of_them)
        assert pairs(hits) == [(number, scores[number]) for number in hits.numbers.tolist()]
        assert hits.scores.tolist() == sorted(hits.scores.tolist(), reverse=True)
        shares.append(len(set(hits.numbers.tolist()) & {number for number, _ in all_of_them[:10]}) / 10)
    recall = dense.recall(asked, 10)
    assert (recall.k, recall.queries) == (10, 50)
    assert recall.value == pytest.approx(sum(shares) / 50)
    assert recall.value > 0.9


def test_product_quantization(tmp_path: Path) -> None:
    """An index of a quarter byte for a dimension still finds most, since its candidates are compared exactly."""
    dense, texts = retriever(tmp_path, clustered(10_000), clustered(30, seed=2), kind="ivf", precision="pq", threads=1)
    assert dense.recall(list(texts.asked()), 10).value > 0.8
    (index,) = tmp_path.glob("*.faiss")
    assert index.stat().st_size < 10_000 * (4 + 8 + 4) + 100_000


def test_an_index_is_used_again(tmp_path: Path) -> None:
    """The same documents and settings are not indexed twice; other documents or settings are another index."""
    documents, queries = clustered(2000), clustered(5, seed=1)
    told: list[str] = []

    def built(documents: Any, **chosen: Any) -> bool:
        told.clear()
        dense, texts = retriever(tmp_path, documents, queries, **chosen)
        dense.prepare(texts, lambda what, *_: told.append(what))
        return "build index" in told

    files = set()
    cases: list[tuple[Any, dict[str, Any]]] = [
        (documents, {"kind": "ivf"}),
        (documents, {"kind": "ivf", "nprobe": 2, "threads": 2}),
        (documents, {"kind": "ivf", "lists": 5}),
        (documents, {"kind": "hnsw"}),
        (documents[::-1].copy(), {"kind": "ivf"}),
        (documents, {"kind": "ivf"}),
    ]
    for other, chosen in cases:
        assert not built(other, **chosen)  # the helper has prepared it once
        files.add(frozenset(path.name for path in tmp_path.glob("*.faiss")))
    assert sorted(len(names) for names in files) == [1, 2, 3, 4]
    assert list(tmp_path.glob("*.part")) == []


def test_scores_and_passages_beyond_the_corpus(tmp_path: Path) -> None:
    """Any passage can be scored on the scale of the search; one without a vector has NaN and is never found."""
    documents, queries = clustered(30, unit=False), clustered(3, seed=1, unit=False)
    dense, texts = retriever(tmp_path, documents, queries, beyond=2)
    checked: Retriever = dense
    one = list(texts.asked())[1]
    (hits,) = checked.search([one], 100)
    assert sorted(hits.numbers.tolist()) == list(range(30))
    assert checked.score(one, hits.numbers.tolist()).tolist() == hits.scores.tolist()
    assert np.isnan(checked.score(one, [3, 31])).tolist() == [False, True]
    near = checked.near([1, 30, 2], [5, 6])
    assert near is not None
    assert near.shape == (3, 2)
    assert np.isnan(near).tolist() == [[False, False], [True, True], [False, False]]
    assert near[2] == pytest.approx(documents[[5, 6]] @ documents[2], rel=1e-6)
    assert checked.near([], [1]).shape == (0, 1)  # type: ignore[union-attr]
    assert checked.score(one, []).shape == (0,)


def test_no_documents_and_no_queries(tmp_path: Path) -> None:
    """An empty corpus gives empty hits, and nobody asking gives none."""
    dense, texts = retriever(tmp_path, clustered(0), clustered(2), kind="ivf")
    assert [pairs(hits) for hits in dense.search(list(texts.asked()), 5)] == [[], []]
    dense, _ = retriever(tmp_path, clustered(40), clustered(0))
    assert dense.search([], 5) == []
    assert dense.recall([]).queries == 0


def test_auto_is_flat_first(tmp_path: Path) -> None:
    """Without a choice few documents are compared one by one, and many by lists."""
    del tmp_path
    assert (IndexSettings().chosen(5_000), IndexSettings().chosen(1_000_000)) == ("flat", "ivf")
    assert IndexSettings(kind="hnsw").chosen(5_000) == "hnsw"


@pytest.mark.parametrize(
    ("chosen", "words"),
    [
        ({"kind": "lsh"}, "flat, ivf"),
        ({"precision": "int8"}, "float16"),
        ({"nprobe": -1}, "0 or more"),
        ({"kind": "ivf", "precision": "pq"}, "set precision to float16"),
    ],
)
def test_wrong_settings_say_what_is_right(tmp_path: Path, chosen: dict[str, Any], words: str) -> None:
    """A setting that cannot work is refused with what may be set."""
    with pytest.raises(SettingsError) as caught:
        retriever(tmp_path, clustered(100), clustered(1), **chosen)
    assert words in caught.value.hint


def test_vectors_made_unit_on_request(tmp_path: Path) -> None:
    """Asked to normalise, scores are cosines; half precision on disk is read too."""
    documents, queries = clustered(20, unit=False).astype(np.float16), clustered(2, seed=1, unit=False)
    dense, texts = retriever(tmp_path, documents, queries, normalise=True)
    (hits, _) = dense.search(list(texts.asked()), 20)
    exact = documents.astype(np.float64) @ queries[0]
    exact /= np.linalg.norm(documents.astype(np.float64), axis=1) * np.linalg.norm(queries[0])
    assert hits.scores == pytest.approx(exact[hits.numbers], abs=1e-6)


class Named(Texts):
    """A collection that finds its passages by id."""

    def number_of(self, document_id: str) -> int | None:
        """Return the number in the id."""
        number = int(document_id[1:])
        return number if number < self.passages else None


def lines(path: Path, names: Sequence[str]) -> Path:
    """Write a file of ids."""
    path.write_text("".join(f"{name}\n" for name in names), encoding="utf-8")
    return path


def test_rows_in_any_order_by_ids(tmp_path: Path) -> None:
    """With ids the rows may stand in any order and hold more than the collection, outside positives among it."""
    documents, queries = clustered(10), clustered(6, seed=1)
    np.save(tmp_path / "d.npy", documents[::-1])
    np.save(tmp_path / "q.npy", queries[::-1])
    vectors = Precomputed(
        tmp_path / "d.npy",
        tmp_path / "q.npy",
        document_ids=lines(tmp_path / "d.txt", [f"d{number}" for number in reversed(range(10))]),
        query_ids=lines(tmp_path / "q.txt", [f"q{number}" for number in reversed(range(6))]),
    )
    texts = Named([""] * 8, [""] * 3, beyond=1)
    dense = Dense("mine", vectors, tmp_path)
    dense.prepare(texts, silent)
    for asked, query in zip(texts.asked(), queries, strict=False):
        (hits,) = dense.search([asked], 20)
        assert pairs(hits) == brute(documents[:7], query, 20)
        assert dense.score(asked, [7])[0] == pytest.approx(documents[7] @ query, abs=1e-6)


@pytest.mark.parametrize(
    ("documents", "queries", "names", "words"),
    [
        (clustered(4), clustered(2), None, "holds 4 vectors, and there are 5 documents"),
        (clustered(5), clustered(3), None, "holds 3 vectors, and there are 2 queries"),
        (clustered(5), clustered(2, 8), None, "have 16 dimensions, those of the queries 8"),
        (clustered(5).astype(np.float64), clustered(2), None, "holds float64, shape (5, 16)"),
        (clustered(5)[0], clustered(2), None, "holds float32, shape (16,)"),
        (np.where(np.arange(5)[:, None] == 3, np.nan, clustered(5)), clustered(2), None, "vector of document 3 "),
        (clustered(5), np.full((2, 16), np.inf, np.float32), None, "vector of query 0 "),
        (clustered(5), clustered(2), ["d0", "d1"], "holds 2 ids for 5 vectors"),
        (clustered(5), clustered(2), [f"d{number}" for number in range(6)], "holds more ids for 5 vectors"),
        (clustered(5), clustered(2), ["d0", "d1", "d1", "d3", "d9"], "lacks 2 of 5 documents; the first is document 2"),
        (None, clustered(2), None, "is not there"),
        (b"hello", clustered(2), None, "cannot be read as a .npy file"),
    ],
)
def test_wrong_files_are_refused(tmp_path: Path, documents: Any, queries: Any, names: Any, words: str) -> None:
    """Vectors of the wrong number, size or kind are one clear message."""
    if isinstance(documents, bytes):
        (tmp_path / "d.npy").write_bytes(documents)
    elif documents is not None:
        np.save(tmp_path / "d.npy", documents.astype(np.float32) if documents.dtype.kind != "f" else documents)
    np.save(tmp_path / "q.npy", queries)
    ids = lines(tmp_path / "d.txt", names) if names else None

    def prepare() -> None:
        vectors = Precomputed(tmp_path / "d.npy", tmp_path / "q.npy", document_ids=ids)
        Dense("mine", vectors, tmp_path).prepare(Named([""] * 5, [""] * 2), silent)

    with pytest.raises(InputError) as caught:
        prepare()
    assert words in caught.value.message
    assert caught.value.hint
