"""A dry run of a mining: the collection is read and the settings checked, and what would be spent is counted."""

import json
import tempfile
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

from relabel.material import Material
from relabel.minerun import CACHE, check_folder, named, row_format, same_corpus
from relabel.mining.searching import Progress
from relabel.pools import CORPUS
from relabel.recipe import Recipe
from relabel.retrievers import Endpoint
from relabel.seeking import check_vectors, encoders, open_seekers

CHARACTERS_PER_TOKEN: Final = 4
"""The usual rule of thumb for English."""


@dataclass(frozen=True, slots=True)
class Embedding:
    """What one model would embed.

    Attributes:
        name: of the retriever, or "guide".
        model: its name or folder.
        served: whether an endpoint is asked, which may cost money.
        texts: passages and queries.
        fresh: those that are not on disk yet.
        characters: of the latter.
    """

    name: str
    model: str
    served: bool
    texts: int
    fresh: int
    characters: int

    @property
    def tokens(self) -> int:
        """Estimate what would be sent: characters / 4."""
        return self.characters // CHARACTERS_PER_TOKEN


@dataclass(frozen=True, slots=True)
class Rehearsal:
    """What a mining would do.

    Attributes:
        collection: what was read, as in the report.
        reused: whether it was read before.
        embeddings: model by model.
        others: retrievers that embed nothing.
        pairs: most pairs that a cross-encoder would score; 0 without one.
        depth: candidates that each retriever finds for a query.
        wanted: negatives for a query.
        folder: where all would go.
    """

    collection: Mapping[str, Any]
    reused: bool
    embeddings: tuple[Embedding, ...]
    others: tuple[str, ...]
    pairs: int
    depth: int
    wanted: int
    folder: Path


def rehearse(
    material: Material,
    recipe: Recipe,
    folder: Path,
    *,
    format: str = "tevatron",  # noqa: A002 - the word users know
    progress: Progress = lambda *_: None,
) -> Rehearsal:
    """Read the collection into a temporary file, check the settings, count; nothing is embedded, `folder` stays.

    Raises:
        InputError: the material cannot be used.
        SettingsError: there is no such format of rows, or a retriever's settings cannot be.
        RunError: the folder holds something else.
    """
    row_format(format)
    check_folder(folder)
    with tempfile.TemporaryDirectory() as name:
        temporary = Path(name)
        if (folder / CORPUS).is_file():
            same_corpus(folder / CORPUS, temporary / CORPUS)
        corpus, reused = material.open(temporary / CORPUS, recipe, named("read", progress))
        with corpus:
            open_seekers(recipe, corpus, temporary / CACHE)
            check_vectors(recipe, corpus)
            embeddings = []
            for called, encoder, vectors in encoders(recipe, folder / CACHE):
                fresh, characters = vectors.lacking(corpus)
                served = isinstance(encoder, Endpoint)
                texts = corpus.passages + corpus.queries
                embeddings.append(Embedding(called, encoder.model, served, texts, fresh, characters))
            built = corpus.built
            lists = 1 if recipe.fused else len(recipe.retrievers)
            pairs = built.positives + corpus.queries * min(recipe.depth, corpus.documents) * lists
            embedding = {each.name for each in embeddings}
            return Rehearsal(
                {name: value for name, value in json.loads(built.written()).items() if name != "reused"},
                reused,
                tuple(embeddings),
                tuple(each.called for each in recipe.retrievers if each.called not in embedding),
                pairs if recipe.crossencoder is not None else 0,
                recipe.depth,
                recipe.wanted,
                folder,
            )
