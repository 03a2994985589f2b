"""Arguments and options that several commands share."""

from pathlib import Path
from typing import Annotated, Final

import typer

Input = Annotated[
    Path, typer.Argument(help="Training file: .jsonl, .csv, .json, .parquet; .gz, .zst.", metavar="INPUT")
]
Run = Annotated[Path, typer.Argument(help="Run directory.", metavar="RUN")]
Moved = Annotated[Path | None, typer.Option("--input", help="Where the input is now, if it was moved.")]
ConfigFile = Annotated[
    Path | None, typer.Option("-c", "--config", help="Cascade, YAML. Without: rules, then embedding.")
]
PromptName = Annotated[str | None, typer.Option("--prompt", help="Template of every LLM stage: a name or a file.")]
PolicyName = Annotated[str | None, typer.Option("--policy", help="relabel, drop or remove, in place of the config's.")]
FORMATS: Final = "tevatron, bge, triplets, n-tuples, labeled-pairs, labeled-lists, dpr"
OUTPUTS: Final = f"{FORMATS}; tevatron-v2, automodel, beir (folders), llama-index (.json)"
FormatName = Annotated[str, typer.Option("--format", help=f"{FORMATS}; auto = by the first row.")]
CorpusName = Annotated[str | None, typer.Option("--corpus", help="Passages, in place of the collection's.")]
QueriesName = Annotated[str | None, typer.Option("--queries", help="Queries, in place of the collection's.")]
QrelsName = Annotated[str | None, typer.Option("--qrels", help="Judgments, in place of the collection's.")]
SplitName = Annotated[str, typer.Option("--split", help="Which of the collection's judgments.")]
Threshold = Annotated[int, typer.Option("--threshold", help="The lowest grade that is a positive.")]
Gold = Annotated[
    str | None,
    typer.Option("--gold", help="People's labels: audit CSV, table of query_id, candidate_id, label, or qrels."),
]
RunGold = Annotated[
    str | None,
    typer.Option(
        "--gold", help="Labels in place of those imported: audit CSV, table of query_id, candidate_id, label, or qrels."
    ),
]
GoldThreshold = Annotated[int, typer.Option("--threshold", help="Of qrels: the lowest grade that is relevant.")]
OnError = Annotated[str, typer.Option("--on-error", help="A bad row: stop, or skip (it goes to rejects.jsonl).")]
Prices = Annotated[
    Path | None, typer.Option("--prices", help="What models cost, YAML; list prices for those that it lacks.")
]
MaxUsd = Annotated[
    float | None,
    typer.Option("--max-usd", help="Stop before this run has paid more, all its executions together. Exit code 5."),
]
MaxTokens = Annotated[
    int | None, typer.Option("--max-tokens", help="Likewise for tokens read and written, cached ones too.")
]
