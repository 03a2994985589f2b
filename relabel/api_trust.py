"""The library as functions: calibration, audit, report."""

from pathlib import Path

from relabel import reportrun
from relabel.reportrun import Report

AnyPath = Path | str

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


# -- prompts compare, diagnose -----------------------------------------------------------------------------
