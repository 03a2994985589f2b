"""A recipe → retrievers that can be prepared and asked. Opening them loads nothing heavy and asks nobody."""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

from relabel import retrievers as kinds
from relabel.corpus import Corpus
from relabel.engines.embeddings import EmbeddingEndpoint, EndpointSettings
from relabel.formats.corpora.base import GIVEN
from relabel.judges.crossencoder import PairScorer, PairScorerSettings, ScoreCache, Scorer
from relabel.judges.vectors import Encoder, EncoderSettings
from relabel.mining.dense import Dense
from relabel.mining.embeddings import Embeddings, EmbeddingSettings
from relabel.mining.indexes import IndexSettings, Vectors
from relabel.mining.lexical import BM25, BM25Settings
from relabel.mining.precomputed import Precomputed
from relabel.mining.recorded import Recorded
from relabel.mining.searching import Asked, Retriever
from relabel.protocols import Encodes, Reports
from relabel.recipe import Recipe
from relabel.retrievers import AnyEncoder, AnyRetriever


@dataclass(frozen=True, slots=True)
class Seekers:
    """Who is asked: retrievers by name, and whose scores are looked at besides.

    Attributes:
        retrievers: in the recipe's order.
        crossencoder: scores pairs; None without.
        guide: a model whose scores filters look at; None without.
        told: what each is, as plain JSON: settings, and the fingerprint of what it computes with.
        served: endpoints by name, which know what they were asked and how many tokens that was.
    """

    retrievers: Mapping[str, Retriever]
    crossencoder: ScoreCache | None
    guide: Retriever | None
    told: Sequence[Mapping[str, Any]]
    served: Mapping[str, Reports]


@dataclass(frozen=True, slots=True)
class Loaded:
    """Models that the caller holds: asked in the place of those that the recipe names, and not let go of.

    Attributes:
        encoder: of the dense retrievers.
        scorer: the cross-encoder.
    """

    encoder: Encodes | None = None
    scorer: Scorer | None = None


NOTHING_LOADED: Final = Loaded()


def open_seekers(recipe: Recipe, corpus: Corpus, cache: Path, loaded: Loaded = NOTHING_LOADED) -> Seekers:
    """Open what a recipe names; `cache` is where vectors, indexes and scores lie."""
    retrievers: dict[str, Retriever] = {}
    told: list[dict[str, Any]] = []
    served: dict[str, Reports] = {}
    for each in recipe.retrievers:
        retrievers[each.called], fingerprint = _retriever(each, corpus, cache, loaded, served)
        told.append({"name": each.called, **each.model_dump(exclude={"name"}), "fingerprint": fingerprint})
    crossencoder = None
    if recipe.crossencoder is not None:
        scorer = loaded.scorer or PairScorer(PairScorerSettings(**recipe.crossencoder.model_dump()))
        crossencoder = ScoreCache(scorer, cache)
        told.append({"kind": "crossencoder", **recipe.crossencoder.model_dump(), "fingerprint": scorer.fingerprint})
    guide: Retriever | None = None
    if recipe.guide is not None:
        encoder = _encoder(recipe.guide)
        if isinstance(encoder, EmbeddingEndpoint):
            served["guide"] = encoder
        guide = Dense("guide", _embeddings(encoder, recipe.guide, cache), cache, IndexSettings(kind="flat"))
        told.append({**recipe.guide.model_dump(), "name": "guide", "fingerprint": encoder.fingerprint})
    return Seekers(retrievers, crossencoder, guide, told, served)


def encoders(recipe: Recipe, cache: Path) -> Iterator[tuple[str, AnyEncoder, Embeddings]]:
    """Yield what a recipe embeds with: by what name it is known, its settings, its vectors on disk."""
    named: list[tuple[str, AnyRetriever | None]] = [(each.called, each) for each in recipe.retrievers]
    for name, each in (*named, ("guide", recipe.guide)):
        if isinstance(each, kinds.Dense | kinds.Endpoint):
            yield name, each, _embeddings(_encoder(each), each, cache)


def check_vectors(recipe: Recipe, corpus: Corpus) -> None:
    """Find out whether the vectors that somebody else computed are those of the corpus.

    Raises:
        InputError: they are not.
    """
    for each in recipe.retrievers:
        if isinstance(each, kinds.Vectors):
            _given(each).prepare(corpus, lambda *_: None)


def _retriever(
    each: AnyRetriever, corpus: Corpus, cache: Path, loaded: Loaded, served: dict[str, Reports]
) -> tuple[Retriever, str]:
    match each:
        case kinds.Dense() | kinds.Endpoint():
            encoder = (loaded.encoder if isinstance(each, kinds.Dense) else None) or _encoder(each)
            if isinstance(encoder, EmbeddingEndpoint):
                served[each.called] = encoder
            vectors: Vectors = _embeddings(encoder, each, cache)
            return Dense(each.called, vectors, cache, _index(each)), encoder.fingerprint
        case kinds.Vectors():
            given = _given(each)
            return Dense(each.called, given, cache, _index(each)), given.fingerprint
        case kinds.Lexical():
            settings = BM25Settings(**each.model_dump(exclude={"kind", "name"}))
            return BM25(each.called, cache, settings), ""
        case kinds.Recorded():
            system = (
                each.called if each.path else GIVEN
            )  # without a run of its own: the negatives given, whatever it is called
            return Recorded(each.called, lambda asked: _listed(corpus, system, asked)), ""


def _given(each: kinds.Vectors) -> Precomputed:
    ids = [Path(named) if named else None for named in (each.document_ids, each.query_ids)]
    files = Path(each.documents), Path(each.queries)
    return Precomputed(*files, document_ids=ids[0], query_ids=ids[1], normalise=each.normalise)


def _listed(corpus: Corpus, system: str, asked: Asked) -> list[tuple[int, float | None]]:
    found = corpus.found(asked).get(system)
    return [] if found is None else list(zip(found[0].tolist(), found[1].tolist(), strict=True))


def _index(each: kinds.Dense | kinds.Endpoint | kinds.Vectors) -> IndexSettings:
    return IndexSettings(kind=each.index, precision=each.precision)


def _encoder(each: AnyEncoder) -> Encodes:
    if isinstance(each, kinds.Endpoint):
        return EmbeddingEndpoint(EndpointSettings(**each.model_dump(exclude={"kind", "name", "index", "precision"})))
    return Encoder(EncoderSettings(**each.model_dump(exclude={"kind", "name", "index", "precision"})))


def _embeddings(encoder: Encodes, each: AnyEncoder, cache: Path) -> Embeddings:
    own = isinstance(each, kinds.Endpoint)  # makes its own batches
    return Embeddings(encoder, cache, EmbeddingSettings(batch_size=None if own else each.batch_size))
