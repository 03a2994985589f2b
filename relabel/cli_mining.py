"""The commands that choose negatives: filter, mine, refresh. Each is one call into the library."""

from pathlib import Path
from typing import Annotated, Any

import typer

from relabel.options import (
    FORMATS,
    CorpusName,
    FormatName,
    Input,
    OnError,
    QrelsName,
    QueriesName,
    SplitName,
    Threshold,
)

GoldLabels = Annotated[
    str | None, typer.Option("--gold", help="Judgments (qrels): measure filters as detectors of false negatives.")
]


def filter_(
    input: Input,  # noqa: A002
    output: Annotated[Path, typer.Option("-o", "--output", help="File to write, in the input's format.")],
    config: Annotated[
        Path | None, typer.Option("-c", "--config", help="Filters and sampling, YAML, in place of the options.")
    ] = None,
    relative_margin: Annotated[
        float | None, typer.Option("--relative-margin", help="Drop what scores above s⁺ − |s⁺| × this; often .05.")
    ] = None,
    absolute_margin: Annotated[
        float | None, typer.Option("--absolute-margin", help="Drop what scores above s⁺ − this.")
    ] = None,
    max_score: Annotated[float | None, typer.Option("--max-score", help="Drop what scores higher.")] = None,
    min_score: Annotated[float | None, typer.Option("--min-score", help="Drop what scores lower.")] = None,
    range_min: Annotated[int | None, typer.Option("--range-min", help="Drop the first N of those left.")] = None,
    range_max: Annotated[int | None, typer.Option("--range-max", help="Drop those after number N.")] = None,
    positive: Annotated[
        str | None, typer.Option("--positive", help="s⁺ of several positives: min (without), max, mean.")
    ] = None,
    num_negatives: Annotated[int | None, typer.Option("--num-negatives", help="Most a row keeps; all without.")] = None,
    sampling_strategy: Annotated[
        str | None, typer.Option("--sampling-strategy", help="top (without), random, simans, softmax, margin_balanced.")
    ] = None,
    seed: Annotated[int | None, typer.Option("--seed", help="Of the dice; 0 without.")] = None,
    model: Annotated[
        str | None, typer.Option("--model", help="Embed with this model, whatever scores stand in the file.")
    ] = None,
    gold: GoldLabels = None,
    threshold: Annotated[int, typer.Option("--threshold", help="The lowest grade of --gold that is relevant.")] = 1,
    format: FormatName = "auto",  # noqa: A002
    on_error: OnError = "stop",
) -> None:
    """Drop negatives that fail rules by score. Scores: the file's, or where it has none an embedding model's."""
    from relabel import api, screen_mined
    from relabel.screen import open_console

    options = {
        "relative_margin": relative_margin, "absolute_margin": absolute_margin, "max_score": max_score,
        "min_score": min_score, "range_min": range_min, "range_max": range_max, "positive": positive,
        "num_negatives": num_negatives, "sampling_strategy": sampling_strategy, "seed": seed,
    }  # fmt: skip
    given = {name: value for name, value in options.items() if value is not None}
    done = api.filter_negatives(
        input, output, config, model=model, gold=gold, threshold=threshold, format=format, on_error=on_error, **given
    )
    screen_mined.filtered(open_console(), done)


def mine(
    collection: Annotated[
        str,
        typer.Argument(
            help="BEIR or MTEB folder, training file, irds:ID, hf:NAME, LlamaIndex or NeMo file.", metavar="COLLECTION"
        ),
    ],
    output: Annotated[Path | None, typer.Option("-o", "--output", help="Folder; mined/NAME without.")] = None,
    config: Annotated[
        Path | None, typer.Option("-c", "--config", help="Retrievers, filters, sampling, YAML; in place of options.")
    ] = None,
    corpus: CorpusName = None,
    queries: QueriesName = None,
    qrels: QrelsName = None,
    split: SplitName = "train",
    threshold: Threshold = 1,
    gold: GoldLabels = None,
    to: Annotated[str, typer.Option("--to", help=f"Format of the rows: {FORMATS}.")] = "tevatron",
    retriever: Annotated[str | None, typer.Option("--retriever", help="dense (without), bm25, hybrid, none.")] = None,
    model: Annotated[str | None, typer.Option("--model", help="Embedding model: a name or a folder.")] = None,
    run: Annotated[list[str] | None, typer.Option("--run", help="What somebody else mined: a TREC run; again.")] = None,
    crossencoder: Annotated[
        str | None, typer.Option("--cross-encoder", help="A reranker whose scores candidates are held against.")
    ] = None,
    guide: Annotated[
        str | None, typer.Option("--guide", help="A stronger model: what it puts above the positive is dropped.")
    ] = None,
    index: Annotated[str | None, typer.Option("--index", help="auto (without), flat, ivf, hnsw.")] = None,
    precision: Annotated[str | None, typer.Option("--precision", help="float32 (without), float16, pq.")] = None,
    language: Annotated[str | None, typer.Option("--language", help="Of BM25: en without.")] = None,
    depth: Annotated[int | None, typer.Option("--depth", help="Candidates found for a query; 100 without.")] = None,
    num_negatives: Annotated[int | None, typer.Option("--num-negatives", help="For a query; 7 without.")] = None,
    relative_margin: Annotated[float | None, typer.Option("--relative-margin", help="As in filter.")] = None,
    absolute_margin: Annotated[float | None, typer.Option("--absolute-margin", help="As in filter.")] = None,
    max_score: Annotated[float | None, typer.Option("--max-score", help="As in filter.")] = None,
    min_score: Annotated[float | None, typer.Option("--min-score", help="As in filter.")] = None,
    range_min: Annotated[int | None, typer.Option("--range-min", help="As in filter.")] = None,
    range_max: Annotated[int | None, typer.Option("--range-max", help="As in filter.")] = None,
    positive: Annotated[str | None, typer.Option("--positive", help="As in filter.")] = None,
    sampling_strategy: Annotated[str | None, typer.Option("--sampling-strategy", help="As in filter.")] = None,
    seed: Annotated[int | None, typer.Option("--seed", help="Of the dice; 0 without.")] = None,
    on_error: OnError = "stop",
    dry_run: Annotated[  # noqa: FBT002
        bool, typer.Option("--dry-run", help="Read and check everything, count what would be embedded; no more.")
    ] = False,
    quiet: Annotated[bool, typer.Option("-q", "--quiet", help="No progress bars.")] = False,  # noqa: FBT002
) -> None:
    """Find hard negatives in a corpus for queries with known positives. Called again it goes on where it was."""
    from relabel import api, screen_mined

    options = {
        "retriever": retriever, "model": model, "runs": run or None, "crossencoder": crossencoder, "guide": guide,
        "index": index, "precision": precision, "language": language, "depth": depth, "num_negatives": num_negatives,
        "relative_margin": relative_margin, "absolute_margin": absolute_margin, "max_score": max_score,
        "min_score": min_score, "range_min": range_min, "range_max": range_max, "positive": positive,
        "sampling_strategy": sampling_strategy, "seed": seed,
    }  # fmt: skip
    given: dict[str, Any] = {name: value for name, value in options.items() if value is not None}
    given |= {
        "corpus": corpus, "queries": queries, "qrels": qrels, "split": split, "threshold": threshold, "gold": gold,
        "to": to, "on_error": on_error,
    }  # fmt: skip
    folder = output or api.mined_folder(collection, config)
    bars = screen_mined.Bars(quiet=quiet)
    if dry_run:
        with bars:
            found = api.rehearse_mining(collection, folder, config, progress=bars.progress, **given)
        screen_mined.rehearsed(found)
        return
    with bars:
        done = api.mine(collection, folder, config, progress=bars.progress, **given)
    screen_mined.mined(done)


def refresh(
    mined: Annotated[Path, typer.Argument(help="What was mined before.", metavar="FOLDER")],
    model: Annotated[str, typer.Option("--model", help="The new checkpoint: a name or a folder.")],
    output: Annotated[Path, typer.Option("-o", "--output", help="Folder to make.")],
    name: Annotated[
        str | None, typer.Option("--name", help="Which retriever gets it, where several are dense.")
    ] = None,
    quiet: Annotated[bool, typer.Option("-q", "--quiet", help="No progress bars.")] = False,  # noqa: FBT002
) -> None:
    """Mine again with a new checkpoint of the model, by the same recipe, and say what changed."""
    from relabel import api, screen_mined

    with screen_mined.Bars(quiet=quiet) as bars:
        done = api.refresh(mined, model, output, name=name, progress=bars.progress)
    screen_mined.mined(done)
