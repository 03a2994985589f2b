"""Filters beside sentence-transformers' own miner: the same corpus, the same model, the same negatives."""

from collections import defaultdict
from pathlib import Path
from typing import Any

import pytest

import relabel
from relabel import selection
from relabel.copies import marks_of
from relabel.judges.vectors import Encoder, EncoderSettings
from relabel.mining.candidates import Candidate, Pool, Positive
from relabel.mining.strategies import apply_filters, sample
from relabel.records import Passage

DATA = Path(__file__).parents[1] / "data" / "sample.jsonl"
QUERIES = 24


@pytest.fixture(scope="module")
def known() -> dict[str, list[str]]:
    """Return queries of the sample with their positives, one or two of each."""
    found: dict[str, list[str]] = {}
    for example in relabel.read(DATA):
        found.setdefault(example.query, [passage.full_text for passage in example.positives[:2]])
    return dict(list(found.items())[:QUERIES])


@pytest.fixture(scope="module")
def corpus(known: dict[str, list[str]]) -> list[str]:
    """Return the positives, and a few negatives of each query; without copies in other typography."""
    texts = [text for positives in known.values() for text in positives]
    marks = {mark for text in texts for mark in marks_of(Passage("", text)).known}
    for example in relabel.read(DATA):
        for passage in example.negatives[:4] if example.query in known else ():
            mark = marks_of(Passage("", passage.full_text))
            if passage.full_text.strip() and not mark.equals_one_of(marks):
                texts.append(passage.full_text)
                marks.update(mark.known)
    return texts


@pytest.fixture(scope="module")
def model() -> Any:
    """Return the packaged model."""
    return Encoder(EncoderSettings()).model


@pytest.fixture(scope="module")
def scores(model: Any, known: dict[str, list[str]], corpus: list[str]) -> dict[str, dict[str, float]]:
    """Return every query's similarity to every text."""
    rows = model.similarity(model.encode_query(list(known)), model.encode_document(corpus)).tolist()
    return {query: dict(zip(corpus, row, strict=True)) for query, row in zip(known, rows, strict=True)}


@pytest.fixture(scope="module")
def cache(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Return where sentence-transformers keeps its embeddings from one case to the next."""
    return tmp_path_factory.mktemp("embeddings")


def theirs(
    model: Any, known: dict[str, list[str]], corpus: list[str], options: dict[str, Any], cache: Path
) -> dict[str, list[str]]:
    """Return what sentence-transformers mines, in its order."""
    from datasets import Dataset
    from sentence_transformers.util import mine_hard_negatives

    pairs = [(query, text) for query, positives in known.items() for text in positives]
    table = Dataset.from_dict({"anchor": [query for query, _ in pairs], "positive": [text for _, text in pairs]})
    mined = mine_hard_negatives(
        table, model, corpus=corpus, output_format="triplet", verbose=False, cache_folder=str(cache), **options
    )
    found: dict[str, list[str]] = defaultdict(list)
    for row in mined:
        if row["negative"] not in found[row["anchor"]]:
            found[row["anchor"]].append(row["negative"])
    return dict(found)


def ours(
    scores: dict[str, dict[str, float]], known: dict[str, list[str]], options: dict[str, Any]
) -> dict[str, list[str]]:
    """Return what the filters leave of the same depth of the same ranking, and the sampler takes."""
    chosen = selection.from_options(**options)
    depth = options["range_max"] + max(map(len, known.values()))
    found = {}
    for query, texts in known.items():
        by_text = scores[query]
        nearest = sorted(by_text, key=by_text.__getitem__, reverse=True)[:depth]
        pool = Pool(
            query,
            tuple(Positive(Passage("", text), by_text[text]) for text in texts),
            tuple(
                Candidate(Passage(text, text), rank, by_text[text])
                for rank, text in enumerate((text for text in nearest if text not in texts), 1)
            ),
        )
        left = apply_filters(pool, chosen.filters).kept
        drawn = sample(left, chosen.sampler, chosen.num_negatives or 0, seed=0)
        if drawn:
            found[query] = [each.passage.text for each in drawn]
    return found


@pytest.mark.embedding
@pytest.mark.parametrize(
    "options",
    [
        {"range_max": 10, "num_negatives": 3},
        {"range_max": 20, "num_negatives": 4, "range_min": 3},
        {"range_max": 30, "num_negatives": 5, "relative_margin": 0.05},
        {"range_max": 30, "num_negatives": 5, "relative_margin": 0.5, "range_min": 2},
        {"range_max": 25, "num_negatives": 5, "absolute_margin": 0.2, "min_score": 0.1},
        {"range_max": 25, "num_negatives": 6, "max_score": 0.45, "min_score": 0.15, "range_min": 1},
    ],
    ids=lambda options: " ".join(f"{name}={value}" for name, value in options.items()),
)
@pytest.mark.filterwarnings("ignore")
def test_the_same_parameters_leave_the_same_negatives(
    model: Any,
    known: dict[str, list[str]],
    corpus: list[str],
    scores: dict[str, dict[str, float]],
    cache: Path,
    options: dict[str, Any],
) -> None:
    """Its window, margins and thresholds, query by query and in order; some queries have two positives."""
    expected = theirs(model, known, corpus, options, cache)
    assert len(expected) > QUERIES / 2
    assert ours(scores, known, options) == expected
