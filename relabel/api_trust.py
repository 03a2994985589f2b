"""The library as functions: calibration, audit, report."""

from pathlib import Path
from typing import TYPE_CHECKING

from relabel import calibrating
from relabel.calibrating import Calibration, Targets

if TYPE_CHECKING:
    from relabel.records import Label

# -- calibrate ---------------------------------------------------------------------------------------------


def calibrate(
    run: Path | str,
    *,
    promote: float | None = None,
    drop: float | None = None,
    keep: float | None = None,
    delta: float = 0.1,
    jointly: bool = False,
    by_source: bool = False,
    gold: Path | str | None = None,
    threshold: int = 2,
    output: Path | str | None = None,
    path: Path | str | None = None,
) -> Calibration:
    """Choose for each stage from which number on its answer may stand, by people's labels. Asks nobody.

    Writes the config with the thresholds, for `apply` and `run`, and `calibration.json` with every test into the run.

    Args:
        run: a finished run; best one in which every stage was asked about every pair (`final: []`).
        promote: of the pairs settled as relevant, the share in (0, 1) that people may not call relevant; None = the
            stages may not settle pairs so.
        drop: of the pairs settled as partial, the share that people may call irrelevant; None likewise.
        keep: of the pairs settled as irrelevant, the share that people may call relevant; None likewise.
        delta: probability in (0, 0.5) that a promise is broken.
        jointly: that any of the promises is broken has at most this probability; else each by itself.
        by_source: thresholds of their own for sources with enough labels.
        gold: file of labels: an audit CSV, a table of ids, or qrels; None = those that the run took in. Labels have to
            be drawn by the same chance for all queries, whatever judges say of them.
        threshold: of grades, the lowest that is relevant.
        output: the config to write; `calibrated.yaml` in the run without.
        path: where the input is now, if it was moved.

    Raises:
        RunError: no finished run is there.
        InputError: no labels, or none about a pair of this run.
        SettingsError: nothing to promise, or numbers out of range.
    """
    wanted: dict[Label, float | None] = {"relevant": promote, "partial": drop, "irrelevant": keep}
    targets = Targets({label: alpha for label, alpha in wanted.items() if alpha is not None}, delta, jointly, by_source)
    return calibrating.calibrate(
        Path(run),
        targets,
        gold=str(gold) if gold is not None else None,
        threshold=threshold,
        output=Path(output) if output is not None else None,
        path=Path(path) if path is not None else None,
    )


# -- audit sample, audit estimate --------------------------------------------------------------------------


# -- report, audit serve -----------------------------------------------------------------------------------


# -- prompts compare, diagnose -----------------------------------------------------------------------------
