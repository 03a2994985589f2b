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
