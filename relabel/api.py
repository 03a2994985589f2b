"""The library as functions: what the command line does, for notebooks and pipelines."""

import re
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from relabel import (
    config,
    converting,
    filtering,
    forecast,
    material,
    merging,
    minerun,
    pipeline,
    recipe,
    rehearsal,
    rundir,
    runs,
    selection,
    sources,
)
from relabel.building import Opened
from relabel.config import Settings
from relabel.converting import Converted
from relabel.engines.budget import Limits
from relabel.errors import RunError, SettingsError
from relabel.filtering import FilterDone
from relabel.forecast import Forecast
from relabel.formats import Reject
from relabel.formats.corpora import is_collection
from relabel.gold import Gold
from relabel.minerun import Mined
from relabel.mining.searching import Progress
from relabel.pipeline import Summary
from relabel.protocols import Judge
from relabel.records import Example, Finding, digest
from relabel.rehearsal import Rehearsal
from relabel.runs import Flip, Imported
from relabel.shards import Shard
from relabel.sources import Survey
from relabel.stages import Watch

AnyPath = Path | str
AnyConfig = Settings | AnyPath | None


def load_config(
    path: AnyPath | None = None,
    *,
    prompt: str | None = None,
    policy: str | None = None,
    engine: str | None = None,
    address: str | None = None,
    replicas: int | None = None,
    pool: AnyPath | None = None,
    prices: AnyPath | None = None,
) -> Settings:
    """Read a config file; None = the embedded cascade (rules, then the packaged embedding model).

    Args:
        path: YAML file.
        prompt: template of every LLM stage (name or file), in place of the config's.
        policy: "relabel", "drop" or "remove", in place of the config's actions.
        engine: where the models run: "ray" = on a Ray cluster, "here" = in this process, None = as the config says.
        address: the cluster's: "local", "auto" or HOST:PORT, in place of the config's.
        replicas: copies of each model on the cluster, in place of the config's.
        pool: folder that `relabel mine` wrote, whose candidates refill rows left below `min_negatives`, in place of the
            config's.
        prices: file of what models cost (YAML: model → input, output, …), in place of the config's.

    Raises:
        SettingsError: with every problem of the file, each with its line.
    """
    settings = config.load(Path(path) if path is not None else None, prompt=prompt, policy=policy)
    given = {name: str(Path(file).resolve()) for name, file in (("pool", pool), ("prices", prices)) if file is not None}
    settings = settings.model_copy(update=given)
    return config.placed(settings, engine, address, replicas)


def read(
    path: AnyPath,
    *,
    format: str = "auto",  # noqa: A002 - the word users know
    on_error: str = "stop",
    on_reject: Callable[[Reject], None] | None = None,
) -> Iterator[Example]:
    """Read a training file row by row.

    Args:
        path: `.jsonl`, `.csv` or `.json` (one list), or the same with `.gz` or `.zst`; `.parquet`; a folder saved by
            `datasets`.
        format: a name of `relabel.formats.FORMATS`, or "auto".
        on_error: "stop", or "skip" to leave bad rows out.
        on_reject: told about every row left out.
    """
    return sources.open_source(path, format=format, on_error=on_error).examples(on_reject)


def run(
    path: AnyPath,
    config: AnyConfig = None,
    *,
    output: AnyPath | None = None,
    format: str = "auto",  # noqa: A002
    on_error: str = "stop",
    shard: str | None = None,
    judges: Mapping[str, Judge] | None = None,
    watch: Watch = lambda *_: None,
    begin: Callable[[Survey, Sequence[Opened]], None] = lambda *_: None,
    max_usd: float | None = None,
    max_tokens: int | None = None,
    detach: bool = False,
    resume: bool = False,
) -> Summary:
    """Judge every hard negative of a training file, relabel, and write the results.

    Called again with the same output it goes on where it was: no answered request is paid for twice. Judges of your
    own are asked again.

    Args:
        path: the training file.
        config: a config file, settings, or None for the embedded cascade.
        output: run directory; `runs/NAME` without.
        format: see `read`.
        on_error: see `read`; rows left out land in `rejects.jsonl`.
        shard: "2/8" = only the second of eight parts, for one of eight machines; then `merge`.
        judges: judges of your own by stage name, in place of those in the config.
        watch: told (stage, pairs asked, pairs passed) from other threads as work goes on.
        begin: told what the input holds and who will be asked, before anybody is.
        max_usd: US dollars that may be paid for replies, by this call and all before it with the same output.
        max_tokens: tokens that may be read and written, likewise.
        detach: do not wait for batches: hand over what there is to ask, take what is finished, and leave.
        resume: refuse to begin a new run.

    Raises:
        BudgetReached: the next question would exceed `max_usd` or `max_tokens`; what was answered is kept.
        InputError: the file cannot be used; nothing was asked.
        SettingsError: config or shard cannot be used; nothing was asked.
        ServiceError: the model service cannot go on; the store keeps what was answered.
        Detached: with `detach`, where batches are under way; the same call comes back to them.
        RunError: with `resume`, where there is no run to go on with.
    """
    settings = config if isinstance(config, Settings) else load_config(config)
    source = sources.open_source(path, format=format, on_error=on_error, shard=shard)
    folder = Path(output) if output is not None else default_folder(path, config, shard=shard)
    if resume:
        pipeline.check_begun(folder)
    limits = Limits(max_usd, max_tokens)
    return pipeline.run(source, settings, folder, judges=judges, watch=watch, begin=begin, limits=limits, detach=detach)


def default_folder(path: AnyPath, *parts: object, shard: str | None = None) -> Path:
    """Name a run after its input, settings and shard, so that the same call finds the same directory.

    A directory of that name that belongs to another input, or settings that have no name, get a digest beside it.
    """
    end = f"-{Shard.read(shard).label}" if shard is not None else ""
    names = [Path(str(part)).stem for part in (path, *parts) if part and not isinstance(part, Settings)]
    name = "-".join(names)
    folder = Path("runs") / f"{name}{end}"
    unnamed = [
        part.model_dump_json(exclude={"ray", "prices"} if part.pool else {"ray", "prices", "pool"})
        for part in parts
        if isinstance(part, Settings)
    ]
    where = str(Path(path).resolve())
    try:
        taken = rundir.read_json(folder, "manifest.json")["input"]["path"] != where
    except (RunError, KeyError, TypeError):
        taken = False
    if not taken and not unnamed:
        return folder
    return folder.with_name(f"{name}-{digest(where, *unnamed, size=4).hex()}{end}")


def merge(folders: Iterable[AnyPath], output: AnyPath, path: AnyPath | None = None) -> Summary:
    """Put the finished shards of one input together into one run directory. Asks nobody.

    Args:
        folders: the run directories of all shards, in any order.
        output: the run directory to make; after a crash, merged into again.
        path: where the input is now, if it was moved.

    Raises:
        RunError: shards that are missing, given twice, not finished or not of one run; or another run in `output`.
    """
    where = Path(path) if path is not None else None
    return merging.merge([Path(folder) for folder in folders], Path(output), path=where)


def check(
    path: AnyPath,
    config: AnyConfig = None,
    *,
    format: str = "auto",  # noqa: A002
    on_error: str = "stop",
) -> Forecast:
    """Validate input and settings, count pairs and requests, estimate tokens and money. Spends nothing."""
    settings = config if isinstance(config, Settings) else load_config(config)
    return forecast.check(sources.open_source(path, format=format, on_error=on_error), settings)


def apply(
    folder: AnyPath, config: AnyConfig = None, *, policy: str | None = None, path: AnyPath | None = None
) -> Summary:
    """Decide and write again from what the judges have said. Asks nobody.

    Args:
        folder: a finished run.
        config: take policy and thresholds from here; the stages must be the run's.
        policy: "relabel", "drop" or "remove", in place of the actions.
        path: where the input is now, if it was moved.
    """
    where = Path(path) if path is not None else None
    if isinstance(config, Settings):
        settings: Settings | None = config
    else:
        settings = load_config(config, policy=policy) if config is not None else None
    return pipeline.apply(Path(folder), settings=settings, actions=policy, path=where)


def filter_negatives(
    path: AnyPath,
    output: AnyPath,
    config: "selection.Selection | AnyPath | None" = None,
    *,
    model: str | None = None,
    gold: AnyPath | None = None,
    threshold: int = 1,
    format: str = "auto",  # noqa: A002
    on_error: str = "stop",
    **options: Any,
) -> FilterDone:
    """Write a training file without the negatives that fail rules by score, or are not drawn.

    Copies of positives and repeated negatives always go. Beside the output lies a ledger, `OUTPUT.changes.jsonl`.

    Args:
        path: the training file.
        output: the file to write, in the same format.
        config: a YAML file with `filters` and `sampling`, or a `Selection`; in place of options.
        model: embed texts with this sentence-transformers model, whatever scores stand in the file. Without, the file's
            scores count, and where it has none, those of the packaged model.
        gold: judgments of queries and passages by id (a qrels file), by which filters are measured as detectors of
            false negatives.
        threshold: the lowest grade in it that is relevant.
        format: see `read`.
        on_error: see `read`.
        options: those of sentence-transformers' `mine_hard_negatives`: relative_margin, absolute_margin, max_score,
            min_score, range_min, range_max, num_negatives, sampling_strategy; and positive, seed (`from_options`).

    Raises:
        InputError: the file cannot be used.
        SettingsError: config or options cannot be used, or both are given.
    """
    if config is not None and options:
        raise SettingsError(f"a config and {', '.join(options)}: one of the two", hint="write all into the file")
    chosen = config if isinstance(config, selection.Selection) else None
    if chosen is None:
        chosen = selection.load(Path(str(config))) if config is not None else selection.from_options(**options)
    source = sources.open_source(path, format=format, on_error=on_error)
    known = Gold(str(gold), threshold) if gold is not None else None
    return filtering.filter_rows(source, chosen, Path(output), model=model, gold=known)


def mine(
    collection: AnyPath,
    output: AnyPath | None = None,
    config: "recipe.Recipe | AnyPath | None" = None,
    *,
    corpus: AnyPath | None = None,
    queries: AnyPath | None = None,
    qrels: AnyPath | None = None,
    split: str = "train",
    threshold: int = 1,
    gold: AnyPath | None = None,
    to: str = "tevatron",
    on_error: str = "stop",
    progress: Progress = lambda *_: None,
    **options: Any,
) -> Mined:
    """Find hard negatives in a corpus for queries with known positives.

    Called again with the same output it goes on where it was: no text is embedded twice.

    Args:
        collection: a BEIR or MTEB folder, MS MARCO's files, a training file, a LlamaIndex or NeMo file, `hf:NAME`,
            `irds:ID`.
        output: folder to make, with the rows, all candidates and a report; `mined/NAME` without.
        config: a YAML file, or a `Recipe`; in place of options.
        corpus: passages to search, in place of the collection's.
        queries: in place of the collection's.
        qrels: judgments, in place of the collection's.
        split: which judgments are meant, where there are several.
        threshold: the lowest grade that is a positive.
        gold: more complete judgments, by which filters are measured as detectors of false negatives.
        to: format of the rows, a name of `relabel.formats.FORMATS`.
        on_error: a row that cannot be read: "stop", or "skip".
        progress: told (what, done, of how many) as work goes on.
        options: of `recipe.of_options`: retriever, model, runs, crossencoder, guide, index, precision, language, depth;
            and as in sentence-transformers' `mine_hard_negatives`: num_negatives, relative_margin, absolute_margin,
            max_score, min_score, range_min, range_max, sampling_strategy; and positive, seed.

    Raises:
        InputError: the sources cannot be used.
        SettingsError: config or options cannot be used, or both are given.
    """
    places = {"corpus": corpus, "queries": queries, "qrels": qrels, "gold": gold}
    source, chosen, folder = _mining(collection, output, config, places, split, threshold, on_error, options)
    return minerun.mine(source, chosen, folder, format=to, progress=progress)


def rehearse_mining(
    collection: AnyPath,
    output: AnyPath | None = None,
    config: "recipe.Recipe | AnyPath | None" = None,
    *,
    corpus: AnyPath | None = None,
    queries: AnyPath | None = None,
    qrels: AnyPath | None = None,
    split: str = "train",
    threshold: int = 1,
    gold: AnyPath | None = None,
    to: str = "tevatron",
    on_error: str = "stop",
    progress: Progress = lambda *_: None,
    **options: Any,
) -> Rehearsal:
    """Read a collection and check what `mine` would be given, count what it would embed; nothing is spent or written.

    Args and errors: see `mine`.
    """
    places = {"corpus": corpus, "queries": queries, "qrels": qrels, "gold": gold}
    source, chosen, folder = _mining(collection, output, config, places, split, threshold, on_error, options)
    return rehearsal.rehearse(source, chosen, folder, format=to, progress=progress)


def _mining(
    collection: AnyPath,
    output: AnyPath | None,
    config: "recipe.Recipe | AnyPath | None",
    places: Mapping[str, AnyPath | None],
    split: str,
    threshold: int,
    on_error: str,
    options: Mapping[str, Any],
) -> tuple[material.Material, recipe.Recipe, Path]:
    if config is not None and options:
        raise SettingsError(f"a config and {', '.join(options)}: one of the two", hint="write all into the file")
    chosen = config if isinstance(config, recipe.Recipe) else None
    if chosen is None:
        chosen = recipe.load(Path(str(config))) if config is not None else recipe.of_options(**options)
    source = material.Material(str(collection), **_names(**places), split=split, threshold=threshold, on_error=on_error)
    return source, chosen, Path(output) if output is not None else mined_folder(collection, config)


def mined_folder(collection: AnyPath, *parts: object) -> Path:
    """Name a mining after its collection and config."""
    names = [Path(str(part)).stem for part in (collection, *parts) if part and not isinstance(part, recipe.Recipe)]
    return Path("mined") / "-".join(re.sub(r"[^\w.-]+", "-", name) for name in names)


def refresh(
    before: AnyPath,
    model: str,
    output: AnyPath,
    *,
    name: str | None = None,
    progress: Progress = lambda *_: None,
) -> Mined:
    """Mine again with a new checkpoint of the model, by the recipe of an earlier mining, and say what changed.

    Args:
        before: the folder of the earlier mining.
        model: the checkpoint: a name or a folder.
        output: folder to make.
        name: of the retriever that gets the checkpoint, where several are dense.
        progress: told (what, done, of how many) as work goes on.

    Raises:
        RunError: `before` is not the folder of a finished mining.
        SettingsError: no retriever may be meant, or the checkpoint cannot be loaded.
    """
    return minerun.refresh(Path(before), model, Path(output), name=name, progress=progress)


def show(folder: AnyPath, query: str | None = None, *, path: AnyPath | None = None) -> list[Finding]:
    """Return every pair of a query (by id or words) with each judge's word, verdict and action.

    Without a query: the most certain false negatives.
    """
    return runs.show(Path(folder), query, path=Path(path) if path is not None else None)


def flips(folder: AnyPath, against: AnyPath, *, path: AnyPath | None = None) -> list[Flip]:
    """Return the pairs whose verdict in run `folder` is not the one in run `against`."""
    return runs.flips(Path(folder), Path(against), path=Path(path) if path is not None else None)


def stats(folder: AnyPath) -> dict[str, Any]:
    """Return a run's statistics: counts, rates and agreement with 95 % intervals over queries."""
    return runs.statistics(Path(folder))


def audit_export(folder: AnyPath, output: AnyPath, *, everything: bool = False, path: AnyPath | None = None) -> int:
    """Write the audit CSV, with people's labels so far; returns its rows. `everything` lists all pairs."""
    source = Path(path) if path is not None else None
    return runs.audit_export(Path(folder), Path(output), everything=everything, source=source)


def audit_import(folder: AnyPath, labels: AnyPath, *, reviewer: str = "", path: AnyPath | None = None) -> Imported:
    """Take people's labels from an audited CSV into the run; `apply` then uses them.

    Raises:
        InputError: words that are no labels, or rows that are not of this run; all are listed.
    """
    source = Path(path) if path is not None else None
    return runs.audit_import(Path(folder), Path(labels), reviewer=reviewer, source=source)


def rebuild(folder: AnyPath) -> Iterator[dict[str, Any]]:
    """Yield the input's rows, in order, from a run's cleaned file and ledger alone."""
    return runs.rebuild(Path(folder))


def convert(
    path: AnyPath,
    output: AnyPath,
    *,
    to: str,
    format: str = "auto",  # noqa: A002
    corpus: AnyPath | None = None,
    queries: AnyPath | None = None,
    qrels: AnyPath | None = None,
    split: str = "train",
    threshold: int = 1,
    on_error: str = "stop",
    public: bool = False,
) -> Converted:
    """Write a training file, or a collection, in another format, another container, or both.

    The output's name says which container. A name that ends in a slash, or an empty folder, gets a data set for
    `datasets.load_from_disk`; `hf://datasets/ORG/NAME` one on the hub, private unless `public`.

    Args:
        path: a training file, or a collection that `mine` reads too: its queries with a positive become rows, their
            negatives those that they came with.
        output: what to write.
        to: a name of `relabel.formats.FORMATS` or `EXPORTS`.
        format: see `read`; named, `path` is a training file.
        corpus: passages, in place of the collection's; positives may be among the latter all the same.
        queries: in place of the collection's.
        qrels: judgments, in place of the collection's.
        split: which of the collection's judgments are meant, where there are several.
        threshold: the lowest grade of a collection that is a positive; 0 and less are negatives.
        on_error: see `read`.
        public: whether everybody may see a data set that is made on the hub.

    Raises:
        InputError: the input cannot be used, or the output cannot be written.
        SettingsError: a format of rows is named, and parts of a collection too.
    """
    places = _names(corpus=corpus, queries=queries, qrels=qrels)
    named = [name for name, place in places.items() if place is not None]
    if format != "auto" and named:
        raise SettingsError(
            f"--format is of a training file, --{named[0]} of a collection", hint="leave out one of the two"
        )
    if named or (format == "auto" and is_collection(path)):
        source = material.Material(str(path), **places, split=split, threshold=threshold, on_error=on_error)
        return converting.convert_collection(source, output, format=to, public=public)
    rows = sources.open_source(path, format=format, on_error=on_error)
    return converting.convert(rows, output, format=to, public=public)


def _names(**places: AnyPath | None) -> dict[str, str | None]:
    return {name: str(place) if place is not None else None for name, place in places.items()}
