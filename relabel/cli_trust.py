"""The commands of trust: how far judges can be believed, what people should look at, and a report of it."""

from pathlib import Path
from typing import Annotated

import typer

from relabel.options import Moved, Run

# -- calibrate ---------------------------------------------------------------------------------------------


# -- audit sample, audit estimate --------------------------------------------------------------------------


# -- audit serve -------------------------------------------------------------------------------------------


# -- report ------------------------------------------------------------------------------------------------


def report(
    run: Run,
    output: Annotated[
        Path | None,
        typer.Option("-o", "--output", help="HTML file to write; report.html in the run directory without."),
    ] = None,
    input: Moved = None,  # noqa: A002 - the word users know
) -> None:
    """Write one HTML page of a run that opens offline: figures, plots, instructive pairs. Asks nobody."""
    from relabel import api_trust
    from relabel.screen import printable

    done = api_trust.report(run, output, path=input)
    typer.echo(printable(f"{done.path}  {done.size / 1e6:.2f} MB; opens in any browser, loads nothing"))


# -- prompts compare, diagnose -----------------------------------------------------------------------------
