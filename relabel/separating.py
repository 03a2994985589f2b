"""The negatives of training files, synthetic and mined, told apart by their text: the story of `separability`."""

from collections.abc import Callable, Iterator, Sequence
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING

from relabel.copies import normalise
from relabel.errors import InputError, no_options
from relabel.judges.vectors import Encoder, EncoderSettings
from relabel.sources import open_source
from relabel.synthesis.marks import is_synthetic
from relabel.synthesis.separability import MOST, Separability, luck, separability

if TYPE_CHECKING:
    from relabel.judges.vectors import Floats

    Embed = Callable[[Sequence[str]], Floats]
    """Passages → one vector each, shape (passages, dimensions)."""


def separate(
    mined: Path | str,
    synthetic: Path | str | None = None,
    *,
    encoder: EncoderSettings | None = None,
    most: int = MOST,
    seed: int = 42,
) -> Separability:
    """Tell the synthetic negatives of a training file from its mined ones by their text alone.

    Args:
        mined: a training file; its negatives that are not marked as synthetic are the mined ones.
        synthetic: a training file whose marked negatives are the synthetic ones; without, they are those marked in
            `mined`.
        encoder: a model whose embeddings the classifier sees as well; None = text features alone.
        most: passages to look at; whole queries are drawn where there are more.
        seed: of the dice.

    Raises:
        InputError: no negative is marked, or all are.
        MissingPart: an encoder is asked for, and sentence-transformers is not installed.
    """
    embed = None if encoder is None else partial(_embedded, Encoder(encoder))
    with no_options():
        found = told_apart(_negatives(str(mined), str(synthetic or mined)), embed=embed, most=most, seed=seed)
    if not found.synthetic or not found.mined:
        lacking = "mined" if found.synthetic else "synthetic"
        raise InputError(
            f"{synthetic if synthetic and lacking == 'synthetic' else mined}: there is no {lacking} negative",
            hint='an id that begins with "synthetic-", or a field "synthetic", marks a synthetic one; where the format'
            " holds neither, name synthesize's candidates.jsonl as the second file",
        )
    return found


def told_apart(
    negatives: Iterator[tuple[str, str, bool]],
    *,
    embed: "Embed | None" = None,
    most: int = MOST,
    seed: int = 42,
) -> Separability:
    """Tell synthetic negatives from mined ones by their text alone.

    Args:
        negatives: (query, text, whether it is synthetic).
        embed: who embeds passages for the classifier; None = it sees text features alone.
        most: see `separate`.
        seed: of the dice.
    """
    kept, seen = _kept(negatives, most, seed)
    rows = [(text, mark, query) for query, texts in sorted(kept.items()) for text, mark in sorted(texts.items())]
    texts, marks = [text for text, _, _ in rows], [mark for _, mark, _ in rows]
    vectors = embed(texts) if embed is not None and texts else None
    found = separability(texts, marks, [query for _, _, query in rows], vectors=vectors, seed=seed, most=most)
    return replace(found, left_out=seen - found.synthetic - found.mined)


def _embedded(encoder: Encoder, texts: Sequence[str]) -> "Floats":
    """Return the mean of the vectors of each text's windows."""
    import numpy as np

    windows = encoder.embed([("document", text) for text in texts])
    return np.stack([each.astype(np.float32).mean(axis=0) for each in windows])


def _negatives(mined: str, synthetic: str) -> Iterator[tuple[str, str, bool]]:
    """Yield (query, text, whether it is synthetic) of every negative that is meant."""
    for path in dict.fromkeys((mined, synthetic)):
        for example in open_source(path).examples():
            for passage in example.negatives:
                mark = is_synthetic(passage)
                if path == (synthetic if mark else mined):
                    yield normalise(example.query), passage.full_text, mark


def _kept(negatives: Iterator[tuple[str, str, bool]], most: int, seed: int) -> tuple[dict[str, dict[str, bool]], int]:
    """Return the passages of the queries with the lowest luck, at most about twice `most`, and how many there were.

    A text that a query has twice counts once; one that it has as both kinds is a mined one.
    """
    kept: dict[str, dict[str, bool]] = {}
    held = seen = 0
    bar: tuple[float, str] = (1.0, "")
    for query, text, mark in negatives:
        texts = kept.get(query)
        if texts is not None and text in texts:
            texts[text] = texts[text] and mark
            continue
        seen += 1
        if texts is None:
            if luck(query, seed) >= bar:
                continue
            texts = kept[query] = {}
        texts[text] = mark
        held += 1
        if held > 2 * most and len(kept) > 1:
            # whoever is let go never comes back: the bar only falls
            order = sorted(kept, key=lambda query: luck(query, seed))
            while held > most and len(order) > 1:
                bar = luck(order[-1], seed)
                held -= len(kept.pop(order.pop()))
    return kept, seen
