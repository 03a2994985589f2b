"""The command `relabel synthesize`: one call into the library. What follows it as a word of its own is another."""

from pathlib import Path
from typing import Annotated, Any

import typer
from typer.core import TyperGroup

from relabel.options import FormatName, Input, MaxTokens, MaxUsd, OnError

FILL = "fill"


class _Group(TyperGroup):
    """`relabel synthesize INPUT` without another word fills rows."""

    def parse_args(self, ctx: Any, args: list[str]) -> list[str]:
        """Put the word in front that most calls leave out."""
        if args and args[0] not in (*self.commands, "--help"):
            args = [FILL, *args]
        return super().parse_args(ctx, args)


app = typer.Typer(
    cls=_Group,
    no_args_is_help=True,
    help="Synthetic hard negatives, each one proved. synthesize INPUT … is short for synthesize fill INPUT ….",
)


@app.command(FILL)
def fill(
    input: Input,  # noqa: A002 - the word users know
    config: Annotated[Path, typer.Option("-c", "--config", help="What is wanted, who writes, who judges; YAML.")],
    output: Annotated[Path | None, typer.Option("-o", "--output", help="Folder; synthetic/NAME without.")] = None,
    format: FormatName = "auto",  # noqa: A002
    on_error: OnError = "stop",
    preferences: Annotated[  # noqa: FBT002
        bool, typer.Option("--preferences", help="Write preference pairs too: positive chosen, synthetic rejected.")
    ] = False,
    max_usd: MaxUsd = None,
    max_tokens: MaxTokens = None,
    dry_run: Annotated[  # noqa: FBT002
        bool, typer.Option("--dry-run", help="Count rows, slots, requests, tokens, dollars; spend nothing.")
    ] = False,
    quiet: Annotated[bool, typer.Option("-q", "--quiet", help="No progress bars.")] = False,  # noqa: FBT002
) -> None:
    """Write hard negatives for rows that lack some, prove each, fill the rows. Called again it goes on where it was."""
    from relabel import api_synthesis, screen_mined, screen_synthesis, stopping
    from relabel.screen import open_console

    if dry_run:
        screen_synthesis.foreseen(
            open_console(), api_synthesis.rehearse_synthesis(input, config, format=format, on_error=on_error)
        )
        return
    with screen_mined.Bars(quiet=quiet) as bars, stopping.announced(bars.say):
        done = api_synthesis.synthesize(
            input, config, output=output, format=format, on_error=on_error, preferences=preferences, max_usd=max_usd,
            max_tokens=max_tokens, progress=bars.progress,
        )  # fmt: skip
    screen_synthesis.synthesized(open_console(), done)


@app.command()
def queries(
    passages: Annotated[
        str, typer.Argument(help="Text file of one passage a line, or any collection.", metavar="PASSAGES")
    ],
    config: Annotated[Path, typer.Option("-c", "--config", help="Who writes: engine, query, queries; YAML.")],
    output: Annotated[Path, typer.Option("-o", "--output", help="Folder.")],
    max_usd: MaxUsd = None,
    max_tokens: MaxTokens = None,
    quiet: Annotated[bool, typer.Option("-q", "--quiet", help="No progress bars.")] = False,  # noqa: FBT002
) -> None:
    """Write queries that passages answer, for who has no queries. Called again it goes on where it was."""
    from relabel import api_synthesis, screen_mined, screen_synthesis, stopping
    from relabel.screen import open_console

    with screen_mined.Bars(quiet=quiet) as bars, stopping.announced(bars.say):
        done = api_synthesis.write_queries(
            passages, config, output, max_usd=max_usd, max_tokens=max_tokens, progress=bars.progress
        )
    screen_synthesis.questioned(open_console(), done)


@app.command()
def separate(
    mined: Annotated[
        Path, typer.Argument(help="Training file; negatives not marked synthetic are mined.", metavar="FILE")
    ],
    synthetic: Annotated[
        Path | None, typer.Argument(help="Training file of the synthetic ones, if it is another.", metavar="SYNTHETIC")
    ] = None,
    model: Annotated[
        str | None, typer.Option("--model", help="Let the classifier see embeddings of this model too.")
    ] = None,
    seed: Annotated[int, typer.Option("--seed", help="Of the dice.")] = 42,
) -> None:
    """Say how well synthetic negatives can be told from mined ones without seeing the query. Asks nobody."""
    from relabel import api_synthesis, screen_synthesis
    from relabel.screen import open_console

    screen_synthesis.separated(open_console(), api_synthesis.separate(mined, synthetic, model=model, seed=seed))


@app.command()
def evaluate(
    mined: Annotated[
        Path, typer.Argument(help="Training file; negatives not marked synthetic are mined.", metavar="FILE")
    ],
    dev: Annotated[str, typer.Option("--dev", help="Collection with judgments: a BEIR folder, or what mine reads.")],
    output: Annotated[Path, typer.Option("-o", "--output", help="Folder.")],
    synthetic: Annotated[
        Path | None, typer.Option("--synthetic", help="Training file of the synthetic ones, if it is another.")
    ] = None,
    split: Annotated[str, typer.Option("--split", help="Which of the dev collection's judgments.")] = "dev",
    budget: Annotated[int, typer.Option("--budget", help="Negatives of each row, in every arm.")] = 4,
    seeds: Annotated[int, typer.Option("--seeds", help="How many times every arm is trained.")] = 5,
    full: Annotated[bool, typer.Option("--full", help="Train the whole model too, once.")] = False,  # noqa: FBT002
    quiet: Annotated[bool, typer.Option("-q", "--quiet", help="No progress bars.")] = False,  # noqa: FBT002
) -> None:
    """Train a small retriever on mined, synthetic and mixed negatives, and compare them on a dev set."""
    from relabel import api_synthesis, screen_mined, screen_synthesis
    from relabel.screen import open_console

    with screen_mined.Bars(quiet=quiet) as bars:
        done = api_synthesis.evaluate_synthesis(
            mined, synthetic, dev=dev, output=output, split=split, budget=budget, seeds=seeds, full=full,
            progress=bars.progress,
        )  # fmt: skip
    screen_synthesis.evaluated(open_console(), done)
