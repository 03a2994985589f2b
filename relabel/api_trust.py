"""The library as functions: calibration, audit, report."""

from collections.abc import Callable
from pathlib import Path

from relabel import reportrun, serving
from relabel.api import AnyPath
from relabel.reportrun import Report
from relabel.serving import Serving

# -- calibrate ---------------------------------------------------------------------------------------------


# -- audit sample, audit estimate --------------------------------------------------------------------------


# -- report, audit serve -----------------------------------------------------------------------------------


def report(run: AnyPath, output: AnyPath | None = None, *, path: AnyPath | None = None) -> Report:
    """Write one HTML page of a finished run that opens offline and can be mailed; asks nobody.

    Args:
        run: the run directory.
        output: the file to write; `report.html` in the run directory without.
        path: where the input is now, if it was moved.

    Returns:
        Where it is, and its size in bytes. The same run gives the same bytes.

    Raises:
        RunError: no finished run is there, its input is gone or another, or the file cannot be written.
        SettingsError: the file's name does not end in .html.
        MissingPart: matplotlib is not installed.
    """
    return reportrun.write_report(Path(run), Path(output) if output else None, path=Path(path) if path else None)


def audit_serve(
    folder: AnyPath,
    *,
    everything: bool = False,
    sample: str = "",
    table: AnyPath | None = None,
    show_judges: bool = False,
    port: int = 0,
    path: AnyPath | None = None,
    ready: Callable[[Serving], None] = lambda _: None,
) -> None:
    """Serve a page on 127.0.0.1 on which people label pairs of a run; returns when Ctrl-C ends it.

    Args:
        folder: a finished run; it is locked meanwhile.
        everything: list all judged pairs, not only those that the judges flagged, left undecided or contradicted.
        sample: list the pairs of this sample of the run (`audit sample`), in its order.
        table: list the pairs of this CSV, in its order, by its column `pair`.
        show_judges: show judges' and other people's words before the reviewer has decided.
        port: 0 = any that is free.
        path: where the input is now, if it was moved.
        ready: told the address, with its token, when the page can be opened.

    Raises:
        MissingPart: starlette, uvicorn or python-multipart is not installed (`relabel[serve]`).
        RunError: no finished run, one in use, no such sample, or the port is taken.
        InputError: no pair to label, or pairs that are not of this run.
    """
    serving.serve(
        Path(folder), everything=everything, sample=sample, table=Path(table) if table is not None else None,
        show_judges=show_judges, port=port, source=Path(path) if path is not None else None, ready=ready,
    )  # fmt: skip


# -- prompts compare, diagnose -----------------------------------------------------------------------------
