"""The story of `relabel mine`: a collection in, training rows with hard negatives out, with the pool they came from.

read the collection → index it, retriever by retriever → search for every query → choose negatives → write → report

Everything that takes long lies in the folder: killed, the same command goes on; another recipe over the same collection
embeds nothing twice.
"""

import time
from collections.abc import Iterator, Mapping
from contextlib import ExitStack
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Final

from relabel import recipe as recipes
from relabel.choosing import Chooser, Chosen
from relabel.corpus import Corpus
from relabel.errors import RunError
from relabel.formats import Format, get_format, open_writer
from relabel.formats.ntuples import NTuples
from relabel.judges.positives import KnownPositives
from relabel.material import Material
from relabel.mining.candidates import Candidate, Positive
from relabel.mining.figures import Figures
from relabel.mining.hitlists import HitLists, search_all
from relabel.mining.searching import Asked, Hits, Progress
from relabel.pools import PoolWriter
from relabel.recipe import Recipe
from relabel.records import Example, Passage
from relabel.rundir import versions, write_json
from relabel.seeking import Seekers, open_seekers

CORPUS: Final = "corpus.sqlite"
ROWS: Final = "train.jsonl"
POOL: Final = "candidates.jsonl"
OWN: Final = frozenset({CORPUS, ROWS, POOL, "report.json", "manifest.json", "cache"})
LAYOUT: Final = "mined"


@dataclass(frozen=True, slots=True)
class Mined:
    """What a mining leaves behind.

    Attributes:
        folder: where all of it lies.
        rows: the training file.
        report: every figure, as in `report.json`.
        seconds: of this execution.
    """

    folder: Path
    rows: Path
    report: Mapping[str, Any]
    seconds: float


def mine(material: Material, recipe: Recipe, folder: Path, *, format: str, progress: Progress) -> Mined:  # noqa: A002
    """Mine hard negatives for every query that has a positive.

    Args:
        material: what is read: corpus, queries, judgments, runs.
        recipe: who finds candidates, and which become negatives.
        folder: where everything goes; what an earlier mining of the same material left there is used again.
        format: of the rows.
        progress: told how far the work is, from other threads too.

    Raises:
        InputError: the material cannot be used.
        SettingsError: a model cannot be loaded.
        ServiceError: an embeddings endpoint cannot go on; what it answered is kept.
        RunError: the folder holds something else.
    """
    started = time.time()
    form = get_format(format)
    check_folder(folder)
    with ExitStack() as stack:
        corpus = stack.enter_context(material.open(folder / CORPUS, progress))
        seekers = open_seekers(recipe, folder / "cache")
        lists = search(corpus, recipe, seekers, folder / "cache", progress)
        known = KnownPositives(folder / "cache")
        known.note(_with_positives(corpus))
        chooser = Chooser(corpus, recipe, seekers, stack.enter_context(known.open()))
        if seekers.crossencoder is not None:
            seekers.crossencoder.fill(_watched_pairs(chooser, corpus, lists, progress))
        chosen = (chooser.choose(asked, hits) for asked, hits in _with_hits(corpus, lists))
        figures = _write(_watched(chosen, corpus.queries, progress), recipe, form, folder)
        report = {"collection": corpus.counts(), **figures.report()}
        write_json(folder / "report.json", report)
        write_json(folder / "manifest.json", {
            "material": material.told(),
            "corpus": corpus.fingerprint,
            "recipe": recipes.written(recipe),
            "retrievers": seekers.told(),
            "format": form.name,
            "versions": versions(),
        })  # fmt: skip
    return Mined(folder, folder / ROWS, report, time.time() - started)


def check_folder(folder: Path) -> None:
    """Refuse a folder in which something else lies than what a mining leaves there."""
    if folder.is_dir() and {each.name.removesuffix(".tmp") for each in folder.iterdir()} - OWN - _SIDE:
        raise RunError(f"{folder} holds other files, and nothing that was mined", hint="name another folder: -o")


def search(
    corpus: Corpus, recipe: Recipe, seekers: Seekers, cache: Path, progress: Progress
) -> dict[str, HitLists]:
    """Let every retriever search for every query.

    Each looks so much deeper than `depth` that it is still reached when a query's positives are taken out.
    """
    room = max((len(asked.positives) + len(asked.spared) for asked in corpus.asked()), default=0)
    lists = {}
    for name, retriever in seekers.retrievers.items():
        retriever.prepare(corpus, progress)
        lists[name] = search_all(retriever, corpus, recipe.depth + room, cache / f"found-{name}", progress)
    if seekers.guide is not None:
        seekers.guide.prepare(corpus, progress)
    return lists


def _with_positives(corpus: Corpus) -> Iterator[Example]:
    for asked in corpus.asked():
        yield Example(asked.id, asked.text, tuple(corpus.passages_of(asked.positives)), ())


def _with_hits(corpus: Corpus, lists: Mapping[str, HitLists]) -> Iterator[tuple[Asked, dict[str, Hits]]]:
    for asked in corpus.asked():
        yield asked, {name: each.of(asked.number) for name, each in lists.items()}


def _watched_pairs(
    chooser: Chooser, corpus: Corpus, lists: Mapping[str, HitLists], progress: Progress
) -> Iterator[tuple[str, str]]:
    for asked, hits in _with_hits(corpus, lists):
        yield from chooser.pairs(asked, hits)
        progress("cross-encoder: scoring", asked.number + 1, corpus.queries)


def _watched(chosen: Iterator[Chosen], total: int, progress: Progress) -> Iterator[Chosen]:
    for each in chosen:
        yield each
        progress("choosing negatives", each.asked.number + 1, total)


# -- rows ----------------------------------------------------------------------------------------------------


def _write(chosen: Iterator[Chosen], recipe: Recipe, form: Format, folder: Path) -> Figures:
    figures = Figures(...)
    form = replace(form, width=recipe.wanted) if isinstance(form, NTuples) else form
    with open_writer(folder / ROWS, form) as rows, PoolWriter(folder) as pool:
        for each in chosen:
            pool.write(each.asked, each.positives, each.candidates, each.removed, each.negatives)
            figures.add(...)
            if each.negatives:
                rows.write(example_of(each, form))
    return figures


def example_of(chosen: Chosen, form: Format) -> Example:
    """Return the training row of one query; scores, ranks and sources stand in lists beside the passages."""
    return Example(
        id=chosen.asked.id,
        query=chosen.asked.text,
        positives=tuple([_beside(each, {"scores": each.score, "ranks": each.rank}) for each in chosen.positives]),
        negatives=tuple([
            _beside(each, {"scores": each.score, "ranks": each.rank, "sources": each.source})
            for each in chosen.negatives
        ]),
        row={} if form.flat else {"query_id": chosen.asked.id},
        position=chosen.asked.number,
        layout=LAYOUT,
    )  # fmt: skip


def _beside(found: Positive | Candidate, beside: Mapping[str, Any]) -> Passage:
    return replace(found.passage, beside=beside)
