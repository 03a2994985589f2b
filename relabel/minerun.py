"""The story of `relabel mine`: a collection in, training rows with hard negatives out, with the pool they came from.

read the collection → index it, retriever by retriever → search for every query → choose negatives → write → report

Everything that takes long lies in the folder: killed, the same command goes on; another recipe over the same collection
embeds nothing twice.
"""

import json
import os
import shutil
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Final

from filelock import FileLock, Timeout

from relabel import recipe as recipes
from relabel.choosing import Chooser, Chosen
from relabel.corpus import Corpus
from relabel.errors import RowError, RunError, SettingsError
from relabel.formats import EXPORTS, FORMATS, Format, open_writer
from relabel.formats.ntuples import NTuples
from relabel.gold import Measuring
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
from relabel.rundir import TextFile, json_line, replacing, versions, write_json
from relabel.seeking import NOTHING_LOADED, Loaded, Seekers, open_seekers

ROWS: Final = "train.jsonl"
REJECTS: Final = "rejects.jsonl"
REPORT: Final = "report.json"
MANIFEST: Final = "manifest.json"
CHANGES: Final = "changes.json"
CACHE: Final = "cache"
LOCK: Final = "mine.lock"
LAYOUT: Final = "mined"
OF_WHAT: Final = ("collection", "corpus", "queries", "qrels", "split", "threshold")
"""What of the material tells one mining from another."""
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
        reused: whether the collection was read before.
        spent: what embeddings endpoints were asked in this execution, by retriever: requests and tokens.
        seconds: of this execution.
    """

    folder: Path
    rows: Path
    report: Mapping[str, Any]
    changes: Mapping[str, Any] | None
    reused: bool
    spent: Mapping[str, Mapping[str, Any]]
    seconds: float


def mine(
    material: Material,
    recipe: Recipe,
    folder: Path,
    *,
    format: str = "tevatron",  # noqa: A002 - the word users know
    loaded: Loaded = NOTHING_LOADED,
    replace_other: bool = False,
    progress: Progress = lambda *_: None,
) -> Mined:
    """Mine hard negatives for every query that has a positive.

    Args:
        material: what is read: corpus, queries, judgments.
        recipe: who finds candidates, and which of them become negatives.
        folder: where everything goes; what an earlier mining of the same material left there is used again.
        format: of the rows.
        loaded: models in the place of those that the recipe names.
        replace_other: whether the folder may hold a mining of something else, which is then gone.
        progress: told how far the work is.

    Raises:
        InputError: the material cannot be used.
        SettingsError: a model cannot be loaded, or there is no such format of rows.
        ServiceError: an embeddings endpoint cannot go on; what it answered is kept.
        RunError: the folder holds something else, or another process is mining into it.
    """
    started = time.monotonic()
    form = row_format(format)
    with _alone(folder), ExitStack() as stack:
        if not replace_other:
            _check_material(folder, material)
        corpus, reused = _open_corpus(material, recipe, folder, progress)
        report, spent = _mine(stack.enter_context(corpus), material, recipe, form, folder, progress, loaded)
    return Mined(folder, folder / ROWS, report, None, reused, spent, time.monotonic() - started)


def _mine(
    corpus: Corpus,
    material: Material,
    recipe: Recipe,
    form: Format,
    folder: Path,
    progress: Progress,
    loaded: Loaded = NOTHING_LOADED,
) -> tuple[dict[str, Any], dict[str, Mapping[str, Any]]]:
    """Mine a collection that is there; the manifest says that all else is. Return report and spending."""
    for name in (MANIFEST, CHANGES):
        (folder / name).unlink(missing_ok=True)
    cache = folder / CACHE
    gold = Measuring(material.gold, material.threshold, recipe.selection, corpus)
    seekers = open_seekers(recipe, corpus, cache, loaded)
    lists = _search(corpus, recipe, seekers, cache, progress)
    known = KnownPositives(cache)
    known.note(_with_positives(corpus))
    with known.open() as look:
        chooser = Chooser(corpus, recipe, seekers, look)
        if seekers.crossencoder is not None:
            seekers.crossencoder.fill(_pairs(chooser, corpus, lists, progress))
        chosen = (chooser.choose(asked, hits) for asked, hits in _with_hits(corpus, lists))
        figures = _write(_watched(gold.over(chosen), corpus.queries, progress), seekers, recipe, form, folder)
    collection = json.loads(corpus.built.written())
    collection.pop("reused")
    report = {
        "collection": collection,
        **figures.result(),
        "recall_of_index": _recall(corpus, seekers),
        **gold.result(),
    }
    write_json(folder / REPORT, report)
    write_json(folder / MANIFEST, {
        "material": material.told(),
        "corpus": corpus.fingerprint,
        "recipe": recipes.written(recipe),
        "seekers": list(seekers.told),
        "format": form.name,
        "versions": versions(),
    })  # fmt: skip
    return report, {name: each.report() for name, each in seekers.served.items()}


def row_format(name: str) -> Format:
    """Return the format of that name.

    Raises:
        SettingsError: there is none; lists the names.
    """
    if name in EXPORTS:
        hint = f"mine first, then type: relabel convert FOLDER/{ROWS} OUTPUT --to {name}"
        raise SettingsError(f"--to {name}: that is no format of rows", hint=hint)
    if name not in FORMATS:
        raise SettingsError(f"--to {name}: there is no such format", hint=f"one of: {', '.join(FORMATS)}")
    return FORMATS[name]


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
    started = time.monotonic()
    material, recipe, form = _before(before)
    if folder.resolve() == before.resolve():
        raise RunError(f"{folder} holds what was mined before", hint="name another folder: -o")
    recipe = recipes.with_checkpoint(recipe, model, name)
    with _alone(folder):
        same_corpus(before / CORPUS, folder / CORPUS)
        with Corpus(folder / CORPUS) as corpus:
            report, spent = _mine(corpus, material, recipe, form, folder, progress)
        changes = {"before": str(before), "model": model, **change(_snapshots(before), _snapshots(folder))}
        write_json(folder / CHANGES, changes)
    return Mined(folder, folder / ROWS, report, changes, reused=True, spent=spent, seconds=time.monotonic() - started)


def _before(folder: Path) -> tuple[Material, Recipe, Format]:
    """Read how an earlier mining was made.

    Raises:
        RunError: there is none, or it did not come to its end.
    """
    if not (folder / MANIFEST).is_file():
        hint = "name a folder that relabel mine has written, to its end"
        raise RunError(f"{folder} holds no finished mining: {MANIFEST} is missing", hint=hint)
    missing = next((name for name in (CORPUS, CANDIDATES) if not (folder / name).is_file()), None)
    if missing is not None:
        raise RunError(f"{folder} holds no whole mining: {missing} is missing", hint="mine again: relabel mine")
    try:
        manifest = json.loads((folder / MANIFEST).read_text("utf-8"))
        recipe = recipes.parse(json.dumps(manifest["recipe"]))
        return Material(**manifest["material"]), recipe, row_format(manifest["format"])
    except (OSError, KeyError, TypeError, ValueError, RecursionError, SettingsError) as error:
        hint = "name the folder of a mining, or mine again: relabel mine"
        raise RunError(f"{folder / MANIFEST} is not what relabel mine of this version writes", hint=hint) from error


def _check_material(folder: Path, material: Material) -> None:
    """Refuse a folder that holds a mining of something else: its rows and its candidates would be gone."""
    try:
        told = json.loads((folder / MANIFEST).read_text("utf-8"))["material"]
        other = next((each for each, now in material.told().items() if each in OF_WHAT and told.get(each) != now), None)
    except (
        OSError,
        ValueError,
        KeyError,
        TypeError,
        AttributeError,
        RecursionError,
    ):  # none, or nothing that can be read
        return
    if other is not None:
        raise RunError(
            f"{folder} holds what was mined from something else ({other}: {told.get(other)})",
            hint="name another folder: -o",
        )


@contextmanager
def _alone(folder: Path) -> Iterator[None]:
    """Make the folder, and keep other processes from mining into it.

    Raises:
        RunError: it holds something else than a mining, or is in use, or cannot be made.
    """
    check_folder(folder)
    lock = FileLock(folder / LOCK)
    try:
        folder.mkdir(parents=True, exist_ok=True)
        lock.acquire(timeout=0)
    except Timeout:
        raise RunError(f"another relabel process is mining into {folder}", hint="wait for it, or use -o") from None
    except OSError as error:
        hint = "name another folder: -o"
        raise RunError(f"{folder} cannot be used: {error.strerror or error}", hint=hint) from error
    try:
        yield
    finally:
        lock.release()
        if [each.name for each in folder.iterdir()] == [LOCK]:  # nothing came of it
            shutil.rmtree(folder, ignore_errors=True)


def check_folder(folder: Path) -> None:
    """Refuse a folder in which something lies that is no mining.

    Raises:
        RunError: it is one, or a file.
    """
    hint = "name another folder: -o"
    if folder.exists() and not folder.is_dir():
        raise RunError(f"{folder} is a file", hint=hint)
    if not folder.is_dir() or (folder / CORPUS).is_file():
        return
    mine = (f"{CORPUS}.", f"{REJECTS}.", LOCK, CACHE)  # what one leaves that was killed while it read the collection
    other = next((each.name for each in sorted(folder.iterdir()) if not each.name.startswith(mine)), None)
    if other is not None:
        raise RunError(f"{folder} holds other files ({other}), and nothing that was mined", hint=hint)


def _open_corpus(material: Material, recipe: Recipe, folder: Path, progress: Progress) -> tuple[Corpus, bool]:
    """Read the collection unless that was done; rows that cannot be used are listed in `rejects.jsonl`."""
    listed = folder / REJECTS
    corpus, reused = _read(material, recipe, folder, progress)
    if reused and corpus.built.rejected and not listed.is_file():  # killed between the two
        corpus.close()
        corpus.path.unlink()
        corpus, reused = _read(material, recipe, folder, progress)
    if not corpus.built.rejected:
        listed.unlink(missing_ok=True)
    return corpus, reused


def _read(material: Material, recipe: Recipe, folder: Path, progress: Progress) -> tuple[Corpus, bool]:
    with ExitStack() as stack:
        file: list[TextFile] = []

        def reject(error: RowError, content: str) -> None:
            if not file:
                file.append(stack.enter_context(replacing(folder / REJECTS)))
            told = {"path": error.path, "line": error.line, "field": error.field, "reason": error.problem}
            file[0].write(json_line(told | {"content": content}))

        return material.open(folder / CORPUS, recipe, named("read", progress), reject)


def named(name: str, progress: Progress) -> Progress:
    """Return what is told of progress with a name in front."""
    return lambda what, done, of: progress(f"{name}: {what}", done, of)


def same_corpus(there: Path, here: Path) -> None:
    """Put the corpus of an earlier mining here, without a second copy where the disk allows it.

    Raises:
        RunError: something else is here.
    """
    if here.exists():
        Corpus(here).close()  # what is none is not overwritten
        here.unlink()
    try:
        os.link(there, here)
    except OSError:
        shutil.copyfile(there, here)


# -- searching -----------------------------------------------------------------------------------------------


def _search(corpus: Corpus, recipe: Recipe, seekers: Seekers, cache: Path, progress: Progress) -> dict[str, HitLists]:
    """Let every retriever search for every query."""
    lists = {}
    for number, (name, retriever) in enumerate(seekers.retrievers.items()):
        retriever.prepare(corpus, named(name, progress))
        lists[name] = search_all(retriever, corpus, recipe.depth, cache / f"found-{number}", progress, recipe.reach)
    if seekers.guide is not None:
        seekers.guide.prepare(corpus, named(seekers.guide.name, progress))
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
    apart = list(seekers.retrievers) if recipe.mixed else []
    with open_writer(folder / ROWS, form) as rows, PoolWriter(folder) as pool:
        for each in chosen:
            pool.write(each.asked.id, each.pool, each.removed, each.negatives)
            figures.add(_counted(each, recipe))
            if each.negatives:
                rows.write(_example(each, form, apart))
    return figures


def _example(chosen: Chosen, form: Format, apart: Sequence[str]) -> Example:
    """Return the training row of a query; scores, ranks and sources stand in lists beside the passages.

    Scores on several scales stand apart, in a list for each retriever by its name.
    """
    return Example(
        id=chosen.asked.id,
        query=chosen.asked.text,
        positives=tuple([_beside(each, apart) for each in chosen.pool.positives]),
        negatives=tuple([_beside(each, apart, sources=each.source) for each in chosen.negatives]),
        row={} if form.flat else {"query_id": chosen.asked.id},
        position=chosen.asked.number,
        layout=LAYOUT,
    )


def _beside(found: Positive | Candidate, apart: Sequence[str], **more: str) -> Passage:
    by_name = {f"{name}_scores": found.score_by(name) for name in apart}
    score = None if apart else found.score
    return replace(found.passage, beside={"scores": score, "ranks": found.rank, **more, **by_name})


def _counted(chosen: Chosen, recipe: Recipe) -> Counted:
    negatives = [chosen.numbers[each.passage.id] for each in chosen.negatives]
    rankings = {}
    for name, hits in chosen.hits.items():
        found = hits.numbers[: recipe.depth].tolist()
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
