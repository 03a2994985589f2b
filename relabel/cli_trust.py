"""The commands of trust: how far judges can be believed, what people should look at, and a report of it."""

from pathlib import Path
from typing import Annotated

import typer

from relabel.options import Moved, Run

# -- calibrate ---------------------------------------------------------------------------------------------


# -- audit sample, audit estimate --------------------------------------------------------------------------


# -- audit serve -------------------------------------------------------------------------------------------


def audit_serve(
    run: Run,
    all_pairs: Annotated[bool, typer.Option("--all", help="Every pair, not only the flagged.")] = False,  # noqa: FBT002
    sample: Annotated[str, typer.Option("--sample", help="The pairs of this sample: its NAME.")] = "",
    csv: Annotated[Path | None, typer.Option("--csv", help="The pairs of this CSV, by its column pair.")] = None,
    show_judges: Annotated[  # noqa: FBT002
        bool, typer.Option("--show-judges", help="Show what judges said before one has decided.")
    ] = False,
    port: Annotated[int, typer.Option("--port", min=0, max=65535, help="0 = any that is free.")] = 0,
    input: Moved = None,  # noqa: A002
) -> None:
    """Open a page on this machine on which people label pairs by keyboard. Each label is saved at once."""
    from relabel import api_trust, screen, screen_trust

    console = screen.open_console()
    screen.put_line(console, f"reading {run}")
    api_trust.audit_serve(
        run, everything=all_pairs, sample=sample, table=csv, show_judges=show_judges, port=port, path=input,
        ready=lambda page: screen_trust.serving(console, page),
    )  # fmt: skip
    screen_trust.served(console, run)


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
