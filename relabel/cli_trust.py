"""The commands of trust: how far judges can be believed, what people should look at, and a report of it."""

from pathlib import Path
from typing import Annotated

import typer

from relabel.options import Moved, Run

# -- calibrate ---------------------------------------------------------------------------------------------


def calibrate(
    run: Run,
    promote: Annotated[
        float | None,
        typer.Option("--promote", help="Of pairs settled as relevant, the share that people may not call so: 0.25."),
    ] = None,
    drop: Annotated[
        float | None,
        typer.Option("--drop", help="Of pairs settled as partial, the share that people may call irrelevant."),
    ] = None,
    keep: Annotated[
        float | None,
        typer.Option("--keep", help="Of pairs settled as irrelevant, the share that people may call relevant: 0.1."),
    ] = None,
    delta: Annotated[float, typer.Option("--delta", help="Probability that a promise is broken.")] = 0.1,
    jointly: Annotated[  # noqa: FBT002
        bool, typer.Option("--jointly", help="Delta is of all promises together, not of each by itself.")
    ] = False,
    by_source: Annotated[  # noqa: FBT002
        bool, typer.Option("--by-source", help="Thresholds of their own for sources with enough labels.")
    ] = False,
    gold: Annotated[
        str | None,
        typer.Option("--gold", help="Labels: audit CSV, table of ids, or qrels. Without: those that were imported."),
    ] = None,
    threshold: Annotated[int, typer.Option("--threshold", help="Of grades, the lowest that is relevant.")] = 2,
    output: Annotated[
        Path | None, typer.Option("-o", "--output", help="Config to write; calibrated.yaml in RUN without.")
    ] = None,
    input: Moved = None,  # noqa: A002
) -> None:
    """Choose from people's labels how sure each stage must be for its answer to stand. Asks nobody."""
    from relabel import api_trust, screen, screen_trust

    done = api_trust.calibrate(
        run, promote=promote, drop=drop, keep=keep, delta=delta, jointly=jointly, by_source=by_source, gold=gold,
        threshold=threshold, output=output, path=input,
    )  # fmt: skip
    screen_trust.calibration(screen.open_console(), done, run)


# -- audit sample, audit estimate --------------------------------------------------------------------------


# -- audit serve -------------------------------------------------------------------------------------------


# -- report ------------------------------------------------------------------------------------------------


# -- prompts compare, diagnose -----------------------------------------------------------------------------
