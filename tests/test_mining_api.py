"""mine_hard_negatives by sentence-transformers' parameters, beside its own; and what reads the output of that."""

import shutil
from collections import defaultdict
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any

import pytest
from datasets import Dataset
from hypothesis import given, settings
from hypothesis import strategies as st

import relabel
from relabel.errors import InputError, RelabelError, RowError, RunError, SettingsError
from relabel.judges.vectors import Encoder, EncoderSettings
from relabel.minerun import refresh
from relabel.mining.candidates import Candidate, Pool, Positive
from relabel.mining.likeness import NearDuplicate, Repeated
from relabel.mining.strategies import apply_filters
from relabel.records import Passage

pytestmark = [pytest.mark.filterwarnings("ignore")]

DATA = Path(__file__).parents[1] / "data" / "sample.jsonl"
QUERIES = 20
LENGTH = 200
"""Of texts, in characters: they are embedded by many of the tests below."""

SHAPES = ("triplet", "n-tuple", "labeled-pair", "labeled-list")
CLOSE = 1e-5
"""How near to each other scores of other batches are, as processors differ; relative where they exceed 1."""

Row = dict[str, Any]


@pytest.fixture(scope="module")
def pairs() -> Dataset:
    """Return queries of the sample with one or two of their positives; a third column is of no concern."""
    rows = []
    for example in list(relabel.read(DATA))[:QUERIES]:
        texts = [each.full_text[:LENGTH] for each in example.positives[:2]]
        rows += [{"query": example.query, "answer": text, "n": 1} for text in texts]
    return Dataset.from_list(rows)


@pytest.fixture(scope="module")
def corpus(pairs: Dataset) -> list[str]:
    """Return a few negatives of each query; no copies or near-copies of positives or of each other."""
    texts = [
        each.full_text[:LENGTH] for example in list(relabel.read(DATA))[:QUERIES] for each in example.negatives[:4]
    ]
    found = tuple(Candidate(Passage("", text), place) for place, text in enumerate(texts) if text.strip())
    pool = Pool("", tuple(Positive(Passage("", text)) for text in pairs["answer"]), found)
    return [each.passage.text for each in apply_filters(pool, [Repeated(), NearDuplicate(0.8)]).kept.candidates]


@pytest.fixture(scope="module")
def model() -> Any:
    """Return the packaged model, loaded."""
    return Encoder(EncoderSettings()).model


@pytest.fixture(scope="module")
def reranker(model: Any, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Return the folder of a small cross-encoder of random weights, without an activation of its own."""
    import torch
    import transformers
    from sentence_transformers import CrossEncoder

    folder = tmp_path_factory.mktemp("reranker")
    torch.manual_seed(1)
    config: Any = transformers.BertConfig
    shape = config(
        vocab_size=len(model.tokenizer), hidden_size=32, intermediate_size=32, num_hidden_layers=1,
        num_attention_heads=2, max_position_embeddings=256, num_labels=1, initializer_range=0.5,
    )  # fmt: skip
    make: Any = transformers.BertForSequenceClassification
    make(shape).save_pretrained(folder / "raw")
    model.tokenizer.save_pretrained(folder / "raw")
    CrossEncoder(str(folder / "raw"), max_length=128, activation_fn=torch.nn.Identity()).save_pretrained(
        str(folder / "done")
    )
    return folder / "done"


@pytest.fixture(scope="module")
def cache(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Return where embeddings are kept from one test to the next."""
    return tmp_path_factory.mktemp("embeddings")


Both = Callable[..., tuple[Dataset, Dataset]]


@pytest.fixture(scope="module")
def both(pairs: Dataset, corpus: list[str], model: Any, cache: Path) -> Both:
    """Return what mines by both with the same options: ours, theirs."""
    from sentence_transformers.util import mine_hard_negatives

    def mined(**options: Any) -> tuple[Dataset, Dataset]:
        common = {"corpus": corpus, "verbose": False, **options}
        ours = relabel.mine_hard_negatives(pairs, model, cache_folder=cache / "ours", **common)
        return ours, mine_hard_negatives(pairs, model, cache_folder=str(cache / "theirs"), **common)

    return mined


def agree(ours: Dataset, theirs: Dataset) -> bool:
    """Whether columns, their types, texts and labels are the same, in order, and scores as far as float32 goes."""
    if (ours.column_names, ours.features) != (theirs.column_names, theirs.features):
        return False
    scores = [name for name in ours.column_names if name.startswith("score")]
    if ours.remove_columns(scores).to_list() != theirs.remove_columns(scores).to_list():
        return False
    return all(ours[name][:] == [pytest.approx(each, rel=CLOSE, abs=CLOSE) for each in theirs[name]] for name in scores)


# -- the same as sentence-transformers ---------------------------------------------------------------------


@pytest.mark.embedding
@pytest.mark.parametrize("scores", [False, True])
@pytest.mark.parametrize("shape", SHAPES)
def test_the_same_rows_in_every_shape(both: Both, shape: str, scores: bool) -> None:
    """All four output formats, with and without scores: names, types, order and content."""
    ours, theirs = both(output_format=shape, output_scores=scores, relative_margin=0.3, num_negatives=2)
    assert len(theirs) > QUERIES / 2
    assert agree(ours, theirs)


@pytest.mark.embedding
@pytest.mark.parametrize(
    "options",
    [
        {},
        {"num_negatives": 5, "range_min": 3},
        {"range_min": 2, "range_max": 12, "num_negatives": 4},
        {"absolute_margin": 0},
        {"absolute_margin": 0.05, "range_max": 10},
        {"relative_margin": 0.05, "num_negatives": 6},
        {"relative_margin": 0.5, "min_score": 0.1},
        {"max_score": 0.4},
        {"max_score": 0.5, "min_score": 0.3, "range_min": 1, "range_max": 8, "num_negatives": 2},
        {"min_score": 0.6},
        {"query_prompt": "Find the answer: ", "corpus_prompt": "A passage: "},
        {"query_prompt_name": "query", "corpus_prompt_name": "document"},
        {"batch_size": 3, "use_faiss": True, "faiss_batch_size": 7},
        {"anchor_column_name": "answer", "positive_column_name": "query"},
        {"corpus": None},
    ],
    ids=lambda options: " ".join(f"{name}={value}" for name, value in options.items()) or "default",
)
def test_the_same_negatives_for_the_same_parameters(both: Both, options: Mapping[str, Any]) -> None:
    """Its default, windows with and without its own range_max, margins, thresholds, prompts; query by query."""
    ours, theirs = both(output_scores=True, **options)
    assert agree(ours, theirs)


@pytest.mark.embedding
@pytest.mark.parametrize(
    "options",
    [
        {"absolute_margin": 0.1},
        {"relative_margin": 0.2, "num_negatives": 2, "output_format": "n-tuple"},
        {"max_score": 0.0, "range_max": 20},
        {"min_score": -0.5},
    ],
    ids=str,
)
def test_the_same_rules_by_a_cross_encoder(both: Both, reranker: Path, options: Mapping[str, Any]) -> None:
    """Its scores are those of its own predict, negative ones too; by name it is the same as loaded."""
    from sentence_transformers import CrossEncoder

    ours, theirs = both(output_scores=True, cross_encoder=CrossEncoder(str(reranker)), **options)
    assert len(theirs) > QUERIES / 2
    assert agree(ours, theirs)


@pytest.mark.embedding
def test_models_by_name_and_loaded_give_the_same(pairs: Dataset, corpus: list[str], model: Any, reranker: Path) -> None:
    """A name or folder is loaded as sentence-transformers would load it."""
    from sentence_transformers import CrossEncoder

    options: Any = {"corpus": corpus, "absolute_margin": 0.1, "output_scores": True, "verbose": False}
    loaded = relabel.mine_hard_negatives(pairs, model, cross_encoder=CrossEncoder(str(reranker)), **options)
    named = relabel.mine_hard_negatives(pairs, "all-MiniLM-L6-v2", cross_encoder=reranker, **options)
    assert agree(named, loaded)


@pytest.mark.embedding
def test_a_cross_encoder_counts_without_a_rule(
    pairs: Dataset, corpus: list[str], model: Any, reranker: Path, tmp_path: Path
) -> None:
    """Sentence-transformers leaves it aside there, silently; here negatives are the best by it, with its scores."""
    from sentence_transformers import CrossEncoder

    judge = CrossEncoder(str(reranker))
    rows = relabel.mine_hard_negatives(
        pairs, model, corpus=corpus, cross_encoder=judge, output_scores=True, verbose=False, cache_folder=tmp_path
    ).to_list()
    asked = [(row["query"], row["negative"]) for row in rows]
    assert [row["scores"][1] for row in rows] == pytest.approx(judge.predict(asked).tolist(), abs=1e-5)
    by_query = defaultdict(list)
    for row in rows:
        by_query[row["query"], row["answer"]].append(row["scores"][1])
    assert all(scores == sorted(scores, reverse=True) for scores in by_query.values())


# -- what sentence-transformers does not give ----------------------------------------------------------------


@pytest.mark.embedding
@pytest.mark.parametrize("shape", SHAPES)
def test_ids_and_ranks_stay_with_their_texts(
    pairs: Dataset, corpus: list[str], model: Any, cache: Path, tmp_path: Path, shape: str
) -> None:
    """In every shape, in the data set and read again as a training file: the corpus's ids, ranks as the scores say."""
    named = {f"doc-{place}": text for place, text in enumerate([*corpus, *pairs["answer"]])}
    texts: dict[str, str] = {}
    for name, text in named.items():
        texts.setdefault(text, name)
    rows = relabel.mine_hard_negatives(
        pairs, model, corpus=named, output_format=shape, output_ids=True, verbose=False, cache_folder=cache / "named"
    )
    first = rows[0]
    assert {"query_id", "docid", "rank", "score"} <= set(first) or {"query_id", "ids", "ranks", "scores"} <= set(first)
    rows.to_parquet(str(tmp_path / "rows.parquet"))
    seen = 0
    for example in relabel.read(tmp_path / "rows.parquet"):
        for passage in (*example.positives, *example.negatives):
            assert passage.id == texts[passage.full_text]
            seen += 1
    assert seen > QUERIES
    for row in rows if shape != "labeled-pair" else ():
        found = [each for each in zip(row["ranks"], row["scores"], strict=True) if each[0] is not None]
        assert [score for _, score in sorted(found)] == sorted([score for _, score in found], reverse=True)
        assert None not in row["ranks"][1:]


@pytest.mark.embedding
def test_a_loaded_model_is_not_loaded_again(
    pairs: Dataset, corpus: list[str], model: Any, reranker: Path, tmp_path: Path
) -> None:
    """Two models whose folders are gone mine all the same, and stay with the caller."""
    from sentence_transformers import CrossEncoder, SentenceTransformer

    model.save_pretrained(str(tmp_path / "model"))
    shutil.copytree(reranker, tmp_path / "reranker")
    mine, judge = SentenceTransformer(str(tmp_path / "model")), CrossEncoder(str(tmp_path / "reranker"))
    mine.state_dict(), judge.state_dict()
    shutil.rmtree(tmp_path / "model")
    shutil.rmtree(tmp_path / "reranker")
    options: Any = {"corpus": corpus, "verbose": False}
    rows = relabel.mine_hard_negatives(pairs, mine, cross_encoder=judge, **options)
    assert len(rows) > QUERIES
    assert rows.to_list() == relabel.mine_hard_negatives(pairs, mine, cross_encoder=judge, **options).to_list()


@pytest.mark.embedding
def test_nothing_is_embedded_twice_and_a_trained_model_is_another(
    pairs: Dataset, corpus: list[str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """With a cache folder a second call asks the model nothing; changed in place it is asked for all of it again."""
    import torch

    model = Encoder(EncoderSettings()).model
    options: Any = {"corpus": corpus, "verbose": False, "cache_folder": tmp_path / "mined", "output_scores": True}
    first = relabel.mine_hard_negatives(pairs, model, **options).to_list()
    asked: list[int] = []
    encode = model.encode_document

    def counted(texts: list[str], **more: Any) -> Any:
        asked.append(len(texts))
        return encode(texts, **more)

    monkeypatch.setattr(model, "encode_document", counted)
    assert relabel.mine_hard_negatives(pairs, model, **options).to_list() == first
    assert asked == []
    with torch.no_grad():
        model[0].auto_model.embeddings.LayerNorm.bias.add_(0.05)
    again = relabel.mine_hard_negatives(pairs, model, **options).to_list()
    assert sum(asked) == len({*corpus, *pairs["answer"]})
    assert again != first


@pytest.mark.embedding
def test_a_cache_folder_is_a_mined_folder(pairs: Dataset, corpus: list[str], model: Any, tmp_path: Path) -> None:
    """Rows, candidates and report lie in it; its rows can be read, and a refresh finds the same with the same model."""
    folder = tmp_path / "mined"
    rows = relabel.mine_hard_negatives(pairs, model, corpus=corpus, verbose=False, cache_folder=folder)
    found = {(row["query"], row["negative"]) for row in rows}
    read = {(each.query, one.text) for each in relabel.read(folder / "train.jsonl") for one in each.negatives}
    assert read == found
    done = refresh(folder, "all-MiniLM-L6-v2", tmp_path / "again")
    assert done.changes is not None
    assert done.changes["negatives"]["new"] == 0


@pytest.mark.embedding
def test_random_draws_depend_on_the_seed_alone(pairs: Dataset, corpus: list[str], model: Any, cache: Path) -> None:
    """The same seed draws the same, another another; sorted by score like sentence-transformers' own."""

    def drawn(seed: int) -> list[Row]:
        rows = relabel.mine_hard_negatives(
            pairs, model, corpus=corpus, range_max=15, sampling_strategy="random", seed=seed, output_scores=True,
            output_format="labeled-list", verbose=False, cache_folder=cache / "ours",
        )  # fmt: skip
        return list(rows.to_list())

    assert drawn(1) == drawn(1) != drawn(2)
    assert all(row["scores"][1:] == sorted(row["scores"][1:], reverse=True) for row in drawn(1))


@pytest.mark.embedding
def test_copies_of_positives_are_left_out(pairs: Dataset, corpus: list[str], model: Any) -> None:
    """A positive in capitals is none of the negatives here; sentence-transformers takes it, since the text differs."""
    from sentence_transformers.util import mine_hard_negatives

    copies = {text.upper() for text in pairs["answer"]}
    options: Any = {"corpus": [*corpus, *copies], "verbose": False}
    own = {row["query"]: {text["answer"].upper() for text in pairs if text["query"] == row["query"]} for row in pairs}

    def taken(rows: Dataset) -> int:
        return sum(row["negative"] in own[row["query"]] for row in rows)

    assert taken(mine_hard_negatives(pairs, model, **options)) > QUERIES / 2
    assert taken(relabel.mine_hard_negatives(pairs, model, **options)) == 0


@pytest.mark.embedding
def test_the_report_is_shown_unless_told_otherwise(
    pairs: Dataset, corpus: list[str], model: Any, cache: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """verbose: what was found and what filters removed; files are named where they stay."""
    relabel.mine_hard_negatives(pairs, model, corpus=corpus, cache_folder=cache / "ours")
    assert "candidates.jsonl" in capsys.readouterr().out
    relabel.mine_hard_negatives(pairs, model, corpus=corpus, cache_folder=cache / "ours", verbose=False)
    assert capsys.readouterr() == ("", "")


# -- what cannot be ---------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("options", "words"),
    [
        ({"include_positives": True}, "candidates.jsonl"),
        ({"use_multi_process": True}, "leave it out"),
        ({"use_multi_process": ["cpu", "cpu"]}, "leave it out"),
        ({"as_triplets": False}, "output_format"),
        ({"margin": 0.1}, "absolute_margin"),
        ({"output_format": "n-tuple-scores"}, "output_scores=True"),
        ({"output_format": "pairs"}, "labeled-list"),
        ({"num_negatives": 0}, "1 or more"),
        ({"batch_size": 0}, "1 or more"),
        ({"faiss_batch_size": 0}, "1 or more"),
        ({"range_min": -1}, "0 or more"),
        ({"range_min": 10, "range_max": 12}, "3 negatives"),
        ({"sampling_strategy": "best"}, "random"),
        ({"anchor_column_name": "question"}, "it has: query, answer, n"),
        ({"model": 7}, "int"),
        ({"cross_encoder": 7}, "int"),
    ],
    ids=str,
)
@pytest.mark.embedding
def test_parameters_that_cannot_be(pairs: Dataset, options: dict[str, Any], words: str) -> None:
    """One clear error before anything is embedded, with what to write in its place."""
    given = {"dataset": pairs, "model": "all-MiniLM-L6-v2", **options}
    with pytest.raises(SettingsError) as caught:
        relabel.mine_hard_negatives(**given)
    assert words in str(caught.value)


@pytest.mark.embedding
def test_prompts_that_a_model_does_not_have(pairs: Dataset, model: Any) -> None:
    """A name that is none of the model's is refused, loaded or not."""
    for each in (model, "all-MiniLM-L6-v2"):
        with pytest.raises(SettingsError, match="'passage'"):
            relabel.mine_hard_negatives(pairs, each, corpus_prompt_name="passage", verbose=False)


@pytest.mark.parametrize(
    ("data", "words"),
    [
        ([{"q": "a", "p": "b"}], "not a datasets.Dataset"),
        (Dataset.from_dict({"q": [], "p": []}), "empty"),
        (Dataset.from_dict({"q": ["a"]}), "one column"),
        (Dataset.from_dict({"q": ["a", None], "p": ["b", "c"]}), "row 1 of the data set (from 0) holds null in column"),
        (Dataset.from_dict({"q": ["a", "b"], "p": ["b", " "]}), "an empty text in column 'p'"),
        (Dataset.from_dict({"q": ["a"], "p": [["b"]]}), "a list in column 'p'"),
    ],
    ids=["list", "empty", "one column", "null", "blank", "lists"],
)
def test_data_that_cannot_be_used(data: Any, words: str) -> None:
    """Says which row and column, before a model is loaded."""
    with pytest.raises(InputError) as caught:
        relabel.mine_hard_negatives(data, "no-such-model", verbose=False)
    assert words in str(caught.value)


def test_a_folder_with_other_files_is_left_alone(pairs: Dataset, tmp_path: Path) -> None:
    """Nothing is written where something else lies."""
    (tmp_path / "thesis.txt").write_text("three years", "utf-8")
    with pytest.raises(RunError, match="other files"):
        relabel.mine_hard_negatives(pairs, "no-such-model", cache_folder=tmp_path, verbose=False)
    assert [each.name for each in tmp_path.iterdir()] == ["thesis.txt"]


# -- reading what sentence-transformers mined ----------------------------------------------------------------


def scored(path: Path) -> dict[tuple[str, str], Any]:
    """Return the score of every passage of a training file, by query and text; each stands there once for a query."""
    found: dict[tuple[str, str], Any] = {}
    for example in relabel.read(path):
        for passage in (*example.positives, *example.negatives):
            assert (example.query, passage.text) not in found
            found[example.query, passage.text] = passage.beside.get("scores")
    return found


@pytest.fixture(scope="module")
def mined(pairs: Dataset, corpus: list[str], model: Any, cache: Path) -> Callable[[str, bool], Dataset]:
    """Return what sentence-transformers mines in a shape, with or without scores."""
    from sentence_transformers.util import mine_hard_negatives

    def rows(shape: Any, scores: bool) -> Dataset:
        return mine_hard_negatives(
            pairs, model, corpus=corpus, output_format=shape, output_scores=scores, verbose=False,
            cache_folder=str(cache / "theirs"),
        )  # fmt: skip

    return rows


@pytest.mark.embedding
@pytest.mark.parametrize("scores", [False, True])
@pytest.mark.parametrize("shape", SHAPES)
def test_its_output_becomes_a_training_file(
    mined: Callable[[str, bool], Dataset], pairs: Dataset, tmp_path: Path, shape: str, scores: bool
) -> None:
    """Eight shapes: positives are those mined from, negatives those mined, and each has the score it was given."""
    expected = {
        (row["query"], row[side]): score
        for row in mined("triplet", True)
        for side, score in zip(("answer", "negative"), row["scores"], strict=True)
    }
    done = relabel.adapt_hard_negatives(
        mined(shape, scores), tmp_path / "train.jsonl", known=pairs if scores else None
    )  # fmt: skip
    assert (done.shape, done.scores, done.queries) == (shape, scores, len(set(pairs["query"])))
    known = {(row["query"], row["answer"]) for row in pairs}
    found = scored(done.output)
    for example in relabel.read(done.output):
        assert {(example.query, each.text) for each in example.positives} <= known
        assert not {(example.query, each.text) for each in example.negatives} & known
    assert found.keys() == expected.keys()
    assert found == (pytest.approx(expected, abs=CLOSE) if scores else dict.fromkeys(expected))


@pytest.mark.embedding
@pytest.mark.parametrize("to", ["tevatron", "bge", "dpr"])
@pytest.mark.parametrize("name", ["x.jsonl", "x.parquet", "x.json", "saved"])
def test_its_output_is_read_from_files_and_filtered_by_its_scores(
    mined: Callable[[str, bool], Dataset], tmp_path: Path, name: str, to: str
) -> None:
    """Saved as any file, `relabel filter` sees the scores in whatever format was written."""
    rows = mined("triplet", True)
    path = tmp_path / name
    match path.suffix:
        case ".jsonl":
            rows.to_json(str(path))
        case ".json":
            rows.to_json(str(path), lines=False)
        case ".parquet":
            rows.to_parquet(str(path))
        case _:
            rows.save_to_disk(str(path))
    relabel.adapt_hard_negatives(path, tmp_path / "train.jsonl", to=to)
    done = relabel.filter_negatives(tmp_path / "train.jsonl", tmp_path / "filtered.jsonl", max_score=0.4)
    above = {(row["query"], row["negative"]) for row in rows if row["scores"][1] > 0.4}
    assert done.scores == "in the rows"
    assert above
    assert done.removed["max_score"] == len(above)


@pytest.mark.embedding
def test_scored_triplets_are_seen_as_they_are(mined: Callable[[str, bool], Dataset], tmp_path: Path) -> None:
    """`relabel filter` takes a margin from both scores of a triplet, without any adapting."""
    rows = mined("triplet", True)
    rows.to_parquet(str(tmp_path / "rows.parquet"))
    done = relabel.filter_negatives(tmp_path / "rows.parquet", tmp_path / "out.parquet", absolute_margin=0.1)
    assert done.scores == "in the rows"
    assert done.removed["absolute_margin"] == sum(row["scores"][1] + 0.1 > row["scores"][0] for row in rows) > 0
    left = Dataset.from_parquet(str(tmp_path / "out.parquet")).to_list()
    assert left == [row for row in rows.to_list() if row["scores"][1] + 0.1 <= row["scores"][0]]


def score_of(query: str, text: str) -> float:
    """Return a score that belongs to this pair alone."""
    return hash((query, text)) % 1_000_003 / 1_000_003


@st.composite
def known_and_mined(draw: st.DrawFn) -> dict[str, tuple[list[str], list[str]]]:
    """Queries with positives and negatives, all texts distinct within a query; texts of all kinds."""
    text = st.text(st.characters(exclude_categories=("Cs", "Cc")), min_size=1, max_size=8).filter(str.strip)
    found = {}
    for query in draw(st.lists(text, min_size=1, max_size=4, unique=True)):
        passages = draw(st.lists(text, min_size=2, max_size=7, unique=True))
        cut = draw(st.integers(1, len(passages) - 1))
        found[query] = passages[:cut], passages[cut:]
    return found


def shaped(data: Mapping[str, tuple[list[str], list[str]]], shape: str, scores: bool) -> Iterator[Row]:
    """Yield rows as sentence-transformers lays them out."""

    def numbers(query: str, texts: list[str]) -> Row:
        return {"scores": [score_of(query, text) for text in texts]} if scores else {}

    for query, (positives, negatives) in data.items():
        for positive in positives if shape != "labeled-pair" else ():
            texts = [positive, *negatives]
            match shape:
                case "triplet":
                    for text in negatives:
                        yield {"q": query, "p": positive, "negative": text, **numbers(query, [positive, text])}
                case "n-tuple":
                    named = {f"negative_{place}": text for place, text in enumerate(negatives[:1], 1)}
                    yield {"q": query, "p": positive, **named, **numbers(query, texts[:2])}
                case _:
                    labels = {} if scores else {"labels": [1] + [0] * len(negatives)}
                    yield {"q": query, "p": texts, **labels, **numbers(query, texts)}
        for text in [*positives, *negatives] if shape == "labeled-pair" else ():
            said = {"score": score_of(query, text)} if scores else {"label": int(text in positives)}
            yield {"q": query, "p": text, **said}


@settings(max_examples=60, deadline=None)
@given(known_and_mined(), st.sampled_from(SHAPES), st.booleans())
def test_property_scores_stay_with_their_texts(
    tmp_path_factory: pytest.TempPathFactory,
    data: dict[str, tuple[list[str], list[str]]],
    shape: str,
    scores: bool,
) -> None:
    """Whatever the texts and however many positives: each passage on its side, once, with its own score."""
    folder = tmp_path_factory.mktemp("adapted")
    known = Dataset.from_list([{"a": query, "b": each} for query, (texts, _) in data.items() for each in texts])
    rows = Dataset.from_list(list(shaped(data, shape, scores)))
    done = relabel.adapt_hard_negatives(rows, folder / "train.jsonl", known=known)
    assert (done.rows, done.queries, done.shape, done.scores) == (len(rows), len(data), shape, scores)
    for example in relabel.read(done.output):
        positives, negatives = data[example.query]
        assert [each.text for each in example.positives] == positives
        assert [each.text for each in example.negatives] == (negatives[:1] if shape == "n-tuple" else negatives)
        for each in (*example.positives, *example.negatives):
            assert each.beside.get("scores") == (score_of(example.query, each.text) if scores else None)


SCORED_PAIRS = [{"q": "a", "p": "b", "score": 0.5}, {"q": "a", "p": "c", "score": 0.4}]


@pytest.mark.parametrize(
    ("rows", "known", "words"),
    [
        (SCORED_PAIRS, None, "known=DATASET"),
        (SCORED_PAIRS, [{"q": "a", "p": "elsewhere"}], "no row of this query holds a positive"),
        ([{"q": "a", "p": "b"}], None, "Columns seen: 'q', 'p'"),
        ([{"q": "a", "p": "b", "negative": "c", "scores": [0.1]}], None, "1 entries beside 2 texts"),
        ([{"q": "a", "p": "b", "negative": "c", "scores": "[0.1, 0.2]"}], None, "not a list"),
        ([{"q": "a", "p": "b", "negative": None}], None, "null in the place of a text"),
        ([{"q": "a", "p": ["b", "c"], "labels": [1, 2]}], None, "neither 0 nor 1"),
        ([{"q": "a", "p": ["b", "c"], "labels": [0, 0]}], None, "no row of this query holds a positive"),
        ([{"q": "a", "p": "b", "label": 0}], None, "no row of this query holds a positive"),
    ],
    ids=lambda value: str(value)[:40],
)
def test_rows_that_cannot_be_adapted(rows: list[Row], known: list[Row] | None, words: str, tmp_path: Path) -> None:
    """Says what is wrong, in which row, and nothing is written."""
    given_known = Dataset.from_list(known) if known else None
    with pytest.raises(RelabelError) as caught:
        relabel.adapt_hard_negatives(Dataset.from_list(rows), tmp_path / "out.jsonl", known=given_known)
    assert words in str(caught.value)
    assert list(tmp_path.iterdir()) == []


def test_what_cannot_be_adapted_from_or_to(tmp_path: Path) -> None:
    """No file, no rows, nothing that holds rows, a format that would lose what is adapted."""
    rows = Dataset.from_list([{"q": "a", "p": "b", "negative": "c"}])
    with pytest.raises(InputError, match="no such file"):
        relabel.adapt_hard_negatives(tmp_path / "none.jsonl", tmp_path / "out.jsonl")
    with pytest.raises(InputError, match="no rows"):
        relabel.adapt_hard_negatives(rows.select([]), tmp_path / "out.jsonl")
    with pytest.raises(InputError, match="is a list"):
        relabel.adapt_hard_negatives([1], tmp_path / "out.jsonl")
    with pytest.raises(InputError, match="tevatron, bge"):
        relabel.adapt_hard_negatives(rows, tmp_path / "out.jsonl", to="triplets")
    (tmp_path / "broken.jsonl").write_text('{"q": "a", "p": "b", "negative": "c"}\n{"q"\n', "utf-8")
    with pytest.raises(RowError, match="line 2"):
        relabel.adapt_hard_negatives(tmp_path / "broken.jsonl", tmp_path / "out.jsonl")
