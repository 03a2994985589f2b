"""The story of `relabel mine`: a collection in, training rows with hard negatives out, with the pool they came from.

read the collection → index it, retriever by retriever → search for every query → choose negatives → write → report

Everything that takes long lies in the folder: killed, the same command goes on; another recipe over the same collection
embeds nothing twice.
"""

import json
import os
import shutil
import time
from collections.abc import Iterator, Mapping
from contextlib import ExitStack, suppress
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Final

from relabel import recipe as recipes
from relabel.choosing import Chooser, Chosen
from relabel.corpus import Corpus
from relabel.errors import RowError, RunError, SettingsError
from relabel.formats import Format, get_format, open_writer
from relabel.formats.ntuples import NTuples
from relabel.judges.positives import KnownPositives
from relabel.material import Material
from relabel.mining.candidates import Candidate, Positive
from relabel.mining.dense import Dense
from relabel.mining.figures import Figures, Ranking, Snapshot, change
from relabel.mining.figures import Mined as Counted
from relabel.mining.hitlists import HitLists, search_all
from relabel.mining.searching import Asked, Hits, Progress
from relabel.mining.strategies import labelled
from relabel.pools import CANDIDATES, CORPUS, PoolWriter
from relabel.recipe import Recipe
from relabel.records import Example, Passage
from relabel.rundir import json_line, read_json, replacing, versions, write_json
from relabel.seeking import NOTHING_LOADED, Loaded, Seekers, open_seekers

ROWS: Final = "train.jsonl"
REJECTS: Final = "rejects.jsonl"
OWN: Final = frozenset({ROWS, CANDIDATES, CORPUS, REJECTS, "report.json", "manifest.json", "changes.json", "cache"})
LAYOUT: Final = "mined"
PROBE: Final = 200
"""Queries by which the recall of an approximate index is told."""


@dataclass(frozen=True, slots=True)
class Mined:
    """What a mining leaves behind.

    Attributes:
        folder: where all of it lies.
        rows: the training file.
        report: every figure, as in `report.json`.
        changes: what a refresh changed, as in `changes.json`; None for another mining.
        seconds: of this execution.
    """

    folder: Path
    rows: Path
    report: Mapping[str, Any]
    changes: Mapping[str, Any] | None
    seconds: float


def mine(
    material: Material,
    recipe: Recipe,
    folder: Path,
    *,
    format: str = "tevatron",  # noqa: A002 - the word users know
    loaded: Loaded = NOTHING_LOADED,
    progress: Progress = lambda *_: None,
) -> Mined:
    """Mine hard negatives for every query that has a positive.

    Args:
        material: what is read: corpus, queries, judgments.
        recipe: who finds candidates, and which of them become negatives.
        folder: where everything goes; what an earlier mining of the same material left there is used again.
        format: of the rows.
        loaded: models in the place of those that the recipe names.
        progress: told how far the work is.

    Raises:
        InputError: the material cannot be used.
        SettingsError: a model cannot be loaded.
        ServiceError: an embeddings endpoint cannot go on; what it answered is kept.
        RunError: the folder holds something else.
    """
    started = time.time()
    form = get_format(format)
    check_folder(folder)
    folder.mkdir(parents=True, exist_ok=True)
    with ExitStack() as stack:
        corpus = stack.enter_context(_open_corpus(material, recipe, folder, progress))
        seekers = open_seekers(recipe, corpus, folder / "cache", loaded)
        lists = _search(corpus, recipe, seekers, folder / "cache", progress)
        known = KnownPositives(folder / "cache")
        known.note(_with_positives(corpus))
        chooser = Chooser(corpus, recipe, seekers, stack.enter_context(known.open()))
        if seekers.crossencoder is not None:
            seekers.crossencoder.fill(_pairs(chooser, corpus, lists, progress))
        chosen = (chooser.choose(asked, hits) for asked, hits in _with_hits(corpus, lists))
        figures = _write(_watched(chosen, corpus.queries, progress), seekers, recipe, form, folder)
        report = {
            "collection": json.loads(corpus.built.written()),
            **figures.result(),
            "recall_of_index": _recall(corpus, seekers),
        }
        write_json(folder / "report.json", report)
        write_json(folder / "manifest.json", {
            "material": material.told(),
            "corpus": corpus.fingerprint,
            "recipe": recipes.written(recipe),
            "seekers": list(seekers.told),
            "format": form.name,
            "versions": versions(),
        })  # fmt: skip
    return Mined(folder, folder / ROWS, report, None, time.time() - started)


def refresh(
    before: Path, model: str, folder: Path, *, name: str | None = None, progress: Progress = lambda *_: None
) -> Mined:
    """Mine again by the recipe of an earlier mining with a new checkpoint of its model, and say what changed.

    ANCE (arXiv 2007.00808) mines again with every so many checkpoints; ADORE (arXiv 2104.08051) after every step.

    Args:
        before: the folder of the earlier mining; its collection is used as it is.
        model: the checkpoint: a name or a folder.
        folder: where everything goes.
        name: of the retriever that gets the checkpoint, where several are dense.
        progress: told how far the work is.

    Raises:
        RunError: `before` is not the folder of a finished mining, or is `folder` itself.
        SettingsError: no retriever, or more than one, may be meant, or the checkpoint cannot be loaded.
    """
    manifest = read_json(before, "manifest.json")
    if folder.resolve() == before.resolve():
        raise RunError(f"{folder} holds what was mined before", hint="name another folder: -o")
    try:
        material, recipe = Material.read(manifest["material"]), recipes.parse(json.dumps(manifest["recipe"]))
        form = str(manifest["format"])
    except (KeyError, TypeError, SettingsError) as error:
        raise RunError(
            f"{before / 'manifest.json'} is not what this relabel writes", hint="mine again: relabel mine"
        ) from error
    recipe = recipes.with_checkpoint(recipe, model, name)
    check_folder(folder)
    folder.mkdir(parents=True, exist_ok=True)
    _same_corpus(before / CORPUS, folder / CORPUS)
    done = mine(material, recipe, folder, format=form, progress=progress)
    changes = {"before": str(before), "model": model, **change(_snapshots(before), _snapshots(folder))}
    write_json(folder / "changes.json", changes)
    return replace(done, changes=changes)


def check_folder(folder: Path) -> None:
    """Refuse a folder in which something else lies than what a mining leaves there.

    Raises:
        RunError: it does.
    """
    if not folder.is_dir():
        return
    others = {each.name for each in folder.iterdir()} - OWN
    if any(not name.endswith((".tmp", ".lock", ".partial", ".scratch")) for name in others):
        raise RunError(f"{folder} holds other files, and nothing that was mined", hint="name another folder: -o")


def _open_corpus(material: Material, recipe: Recipe, folder: Path, progress: Progress) -> Corpus:
    with replacing(folder / REJECTS) as rejects:

        def reject(error: RowError, content: str) -> None:
            told = {"path": error.path, "line": error.line, "field": error.field, "reason": error.problem}
            rejects.write(json_line(told | {"content": content}))

        return material.open(folder / CORPUS, recipe, progress, reject)


def _same_corpus(there: Path, here: Path) -> None:
    """Put the corpus of an earlier mining here, without a second copy where the disk allows it."""
    with suppress(FileNotFoundError):
        here.unlink()
    try:
        os.link(there, here)
    except OSError:
        shutil.copyfile(there, here)


# -- searching -----------------------------------------------------------------------------------------------


def _search(corpus: Corpus, recipe: Recipe, seekers: Seekers, cache: Path, progress: Progress) -> dict[str, HitLists]:
    """Let every retriever search for every query: so deep that `depth` is left when the positives are taken out."""
    reach = recipe.reach
    if reach is None:
        reach = recipe.depth + max((len(asked.positives) + len(asked.spared) for asked in corpus.asked()), default=0)
    lists = {}
    for number, (name, retriever) in enumerate(seekers.retrievers.items()):
        retriever.prepare(corpus, progress)
        lists[name] = search_all(retriever, corpus, reach, cache / f"found-{number}", progress)
    if seekers.guide is not None:
        seekers.guide.prepare(corpus, progress)
    return lists


def _recall(corpus: Corpus, seekers: Seekers) -> dict[str, Any]:
    """Say how much of the exact 10 nearest each approximate index finds, for evenly chosen queries."""
    step = max(1, corpus.queries // PROBE)
    probes = [asked for first in range(0, corpus.queries, step) for asked in corpus.asked(first, first + 1)]
    told = {}
    for name, retriever in seekers.retrievers.items():
        if isinstance(retriever, Dense) and retriever.approximate:
            recall = retriever.recall(probes)
            told[name] = {"recall_at_10": recall.value, "queries": recall.queries}
    return told


def _with_positives(corpus: Corpus) -> Iterator[Example]:
    for asked in corpus.asked():
        yield Example(asked.id, asked.text, tuple(corpus.passages_of(asked.positives)), ())


def _with_hits(corpus: Corpus, lists: Mapping[str, HitLists]) -> Iterator[tuple[Asked, dict[str, Hits]]]:
    for asked in corpus.asked():
        yield asked, {name: each.of(asked.number) for name, each in lists.items()}


def _pairs(
    chooser: Chooser, corpus: Corpus, lists: Mapping[str, HitLists], progress: Progress
) -> Iterator[tuple[str, str]]:
    for asked, hits in _with_hits(corpus, lists):
        yield from chooser.pairs(asked, hits)
        progress("cross-encoder", asked.number + 1, corpus.queries)


def _watched(chosen: Iterator[Chosen], total: int, progress: Progress) -> Iterator[Chosen]:
    for each in chosen:
        yield each
        progress("choosing negatives", each.asked.number + 1, total)


# -- writing -------------------------------------------------------------------------------------------------


def _write(chosen: Iterator[Chosen], seekers: Seekers, recipe: Recipe, form: Format, folder: Path) -> Figures:
    """Write rows and candidates, and count. A query without a single negative is no row, but among the candidates."""
    filters = [label for label, _ in labelled(recipe.selection.filters)]
    figures = Figures(list(seekers.retrievers), recipe.depth, filters=filters, seed=recipe.selection.seed)
    form = replace(form, width=recipe.wanted) if isinstance(form, NTuples) else form
    with open_writer(folder / ROWS, form) as rows, PoolWriter(folder) as pool:
        for each in chosen:
            pool.write(each.asked.id, each.pool, each.removed, each.negatives)
            figures.add(_counted(each, recipe))
            if each.negatives:
                rows.write(_example(each, form))
    return figures


def _example(chosen: Chosen, form: Format) -> Example:
    """Return the training row of a query; scores, ranks and sources stand in lists beside the passages."""
    return Example(
        id=chosen.asked.id,
        query=chosen.asked.text,
        positives=tuple([_beside(each) for each in chosen.pool.positives]),
        negatives=tuple([_beside(each, sources=each.source) for each in chosen.negatives]),
        row={} if form.flat else {"query_id": chosen.asked.id},
        position=chosen.asked.number,
        layout=LAYOUT,
    )


def _beside(found: Positive | Candidate, **more: str) -> Passage:
    return replace(found.passage, beside={"scores": found.score, "ranks": found.rank, **more})


def _counted(chosen: Chosen, recipe: Recipe) -> Counted:
    negatives = [chosen.numbers[each.passage.id] for each in chosen.negatives]
    rankings = {}
    for name, hits in chosen.hits.items():
        found = hits.numbers.tolist()
        rankings[name] = Ranking(
            found,
            positives=[each.score_by(name) for each in chosen.pool.positives],
            chosen=[each.score_by(name) for each in chosen.negatives],
            judged=[chosen.suspicion.get(number) for number in found] if chosen.suspicion else (),
        )
    return Counted(
        query=chosen.asked.id,
        positives=chosen.asked.positives,
        chosen=negatives,
        sources=[each.source for each in chosen.negatives],
        rankings=rankings,
        spared=chosen.asked.spared,
        candidates=chosen.tried,
        wanted=recipe.wanted,
        repeated=chosen.repeated,
        strangers=chosen.strangers,
        removed=chosen.gone,
        silent=chosen.silent,
        judged=[chosen.suspicion.get(number) for number in negatives] if chosen.suspicion else (),
    )


def _snapshots(folder: Path) -> Iterator[Snapshot]:
    with (folder / CANDIDATES).open(encoding="utf-8") as lines:
        for line in lines:
            found = json.loads(line)
            ranks = [each["rank"] for each in found["positives"] if each["rank"] is not None]
            yield Snapshot(
                chosen=[each["docid"] for each in found["candidates"] if each.get("drawn")],
                candidates=[each["docid"] for each in found["candidates"]],
                rank=min(ranks, default=None),
            )
