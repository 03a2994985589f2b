"""The library as functions: calibration, audit, report."""

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from relabel import auditing, calibrating, comparing, diagnosing, reportrun, serving, sources
from relabel.api import AnyConfig, AnyPath, default_folder, load_config
from relabel.asking import Rehearsed
from relabel.comparing import Comparison
from relabel.config import Settings
from relabel.diagnosing import PARTS, Diagnosis, Wanted
from relabel.interview import Progress
from relabel.labelled import Labels
from relabel.promised import Calibration, Targets
from relabel.reportrun import Report
from relabel.serving import Serving

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


def audit_sample(
    folder: AnyPath,
    output: AnyPath,
    n: int = 200,
    *,
    design: str | None = None,
    by: str = "pair",
    strata: str | None = None,
    allocation: str = "neyman",
    prefer: str = "likely",
    seed: int = 0,
    name: str | None = None,
    blind: bool = False,
    again: bool = False,
    path: AnyPath | None = None,
) -> auditing.Sampled:
    """Draw the pairs that people should look at, with known chances, and write their CSV.

    The CSV is in the order of drawing: whoever stops early has labelled a smaller sample. The same call with a larger
    `n` extends the sample and lists what is new.

    Args:
        folder: a finished run.
        output: the CSV to write.
        n: pairs; with `by="query"` so many queries as hold about n.
        design: "random", "stratified" or "active"; without: stratified, of queries random.
        by: "pair", or "query": all pairs of a query together.
        strata: "verdict,stage,source,rank,confidence", or some of these; "verdict" without.
        allocation: over strata: "proportional", "equal", or "neyman": more where judges are less sure.
        prefer: what an active sample takes rather: "likely", "uncertain", "disagreed", "typical".
        seed: of the dice.
        name: of the sample in the run directory; by the design without.
        blind: leave out what judges and other people said.
        again: list pairs too that have a label.
        path: where the input is now, if it was moved.

    Raises:
        SettingsError: options that are no choices, or do not go together, or `n` too small for the strata.
        RunError: no finished run, or another sample of that name.
    """
    chosen = auditing.design_of(kind=design, by=by, strata=strata, allocation=allocation, prefer=prefer, seed=seed)
    where = Path(path) if path is not None else None
    return auditing.audit_sample(
        Path(folder), Path(output), n, chosen, name=name, blind=blind, again=again, source=where
    )


def audit_estimate(
    folder: AnyPath,
    *,
    gold: AnyPath | None = None,
    threshold: int = 2,
    sample: str | None = None,
    path: AnyPath | None = None,
) -> auditing.Estimated:
    """Estimate rates of the data set and the judges' errors from people's labels; writes `estimates.json`.

    Args:
        folder: a finished run.
        gold: a file of labels (audit CSV, table of ids, qrels), in place of those that were imported.
        threshold: of judgments: the lowest grade that is relevant.
        sample: name of the sample that the labels are of; the one with most labels without.
        path: where the input is now, if it was moved.

    Raises:
        RunError: no labels, or the run is not the one that was sampled.
        InputError: the file of labels cannot be used.
    """
    return auditing.audit_estimate(
        Path(folder),
        gold=str(gold) if gold is not None else None,
        threshold=threshold,
        sample=sample,
        source=Path(path) if path is not None else None,
    )


# -- report, audit serve -----------------------------------------------------------------------------------


def report(run: AnyPath, output: AnyPath | None = None, *, path: AnyPath | None = None) -> Report:
    """Write one HTML page of a finished run, or of a synthesis, that opens offline and can be mailed; asks nobody.

    Args:
        run: the run directory, or the folder of `relabel synthesize`.
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


def compare_prompts(
    before: AnyPath,
    after: AnyPath,
    path: AnyPath,
    config: AnyConfig = None,
    *,
    output: AnyPath | None = None,
    stage: str | None = None,
    gold: AnyPath | None = None,
    threshold: int = 2,
    queries: int = 200,
    format: str = "auto",  # noqa: A002
    on_error: str = "stop",
    progress: Progress = lambda *_: None,
    begin: Callable[[int, int], None] = lambda *_: None,
) -> Comparison:
    """Ask about the same pairs with two templates; write `flips.csv` and `comparison.json`.

    Called again with the same output, or with that of a run, nothing that was answered there is asked again.

    Args:
        before: the first template, a name or a file.
        after: the second.
        path: the training file.
        config: a config file or settings, one of whose LLM stages answers.
        output: folder; may be a run directory; `runs/NAME-compare` without.
        stage: name of the stage; the first LLM without.
        gold: people's labels: an audit CSV, a table of query_id, candidate_id and label, or qrels.
        threshold: of qrels, the lowest grade that is relevant.
        queries: how many, chosen by the settings' seed.
        format: see `read`.
        on_error: see `read`.
        progress: told ("questions", how many are answered, of how many).
        begin: told (questions to ask, questions whose reply is stored) before anybody is asked.

    Raises:
        SettingsError: no such stage, or a template that does not load; nothing was asked.
        InputError: the file or the labels cannot be used.
        ServiceError: the service cannot go on; the store keeps what was answered.
    """
    source, settings, folder = _interview(path, config, output, "compare", format, on_error)
    known = _labels(gold, threshold)
    return comparing.compare(
        before,
        after,
        source,
        settings,
        folder,
        stage=stage,
        queries=queries,
        gold=known,
        progress=progress,
        begin=begin,
    )


def rehearse_compare_prompts(
    before: AnyPath,
    after: AnyPath,
    path: AnyPath,
    config: AnyConfig = None,
    *,
    output: AnyPath | None = None,
    stage: str | None = None,
    gold: AnyPath | None = None,
    threshold: int = 2,
    queries: int = 200,
    format: str = "auto",  # noqa: A002
    on_error: str = "stop",
) -> Rehearsed:
    """Count what `compare_prompts` would ask, and estimate tokens and money. Asks nobody, writes nothing.

    What `compare_prompts` would refuse before it asks, labels among it, is refused here too.
    """
    _labels(gold, threshold)
    source, settings, folder = _interview(path, config, output, "compare", format, on_error)
    return comparing.rehearse(before, after, source, settings, folder, stage=stage, queries=queries)


def diagnose(
    path: AnyPath,
    config: AnyConfig = None,
    *,
    output: AnyPath | None = None,
    stage: str | None = None,
    gold: AnyPath | None = None,
    threshold: int = 2,
    queries: int = 50,
    parts: Sequence[str] | None = None,
    paraphrases: Sequence[AnyPath] = (),
    temperature: float | None = None,
    format: str = "auto",  # noqa: A002
    on_error: str = "stop",
    progress: Progress = lambda *_: None,
    begin: Callable[[int, int], None] = lambda *_: None,
) -> Diagnosis:
    """Find out how far one judge can be believed, by asking it about the same pairs in several ways.

    Writes `diagnostics.json`, a list of figures. Called again with the same output, or with that of a run, nothing that
    was answered there is asked again.

    Args:
        path: the training file.
        config: a config file or settings; one stage of it is asked.
        output: folder; may be a run directory; `runs/NAME-diagnose` without.
        stage: name of an LLM, embedding or cross-encoder stage; the first LLM without, or else the first of these.
        gold: people's labels, by which a judge's leaning can be told from the truth's; see `compare_prompts`.
        threshold: of qrels, the lowest grade that is relevant.
        queries: how many, chosen by the settings' seed.
        parts: of "probe", "lists", "swap", "leaning", "repeat", "templates"; None = all.
        paraphrases: templates that ask for the same in other words; () = the other shipped ones.
        temperature: at which the same prompt is asked again; None = the engine's.
        format: see `read`.
        on_error: see `read`.
        progress: told ("questions", how many are answered, of how many).
        begin: told (questions to ask, questions whose reply is stored) before anybody is asked.

    Raises:
        SettingsError: no such stage or part, or a template that does not load; nothing was asked.
        InputError: the file or the labels cannot be used.
        ServiceError: the service cannot go on; the store keeps what was answered.
    """
    source, settings, folder = _interview(path, config, output, "diagnose", format, on_error)
    wanted = Wanted(queries, tuple(parts or PARTS), tuple(map(str, paraphrases)), temperature)
    known = _labels(gold, threshold)
    return diagnosing.diagnose(
        source, settings, folder, wanted, stage=stage, gold=known, progress=progress, begin=begin
    )


def rehearse_diagnose(
    path: AnyPath,
    config: AnyConfig = None,
    *,
    output: AnyPath | None = None,
    stage: str | None = None,
    gold: AnyPath | None = None,
    threshold: int = 2,
    queries: int = 50,
    parts: Sequence[str] | None = None,
    paraphrases: Sequence[AnyPath] = (),
    temperature: float | None = None,
    format: str = "auto",  # noqa: A002
    on_error: str = "stop",
) -> Rehearsed:
    """Count what `diagnose` would ask, and estimate tokens and money. Asks nobody, writes nothing.

    What `diagnose` would refuse before it asks, labels among it, is refused here too.
    """
    _labels(gold, threshold)
    source, settings, folder = _interview(path, config, output, "diagnose", format, on_error)
    wanted = Wanted(queries, tuple(parts or PARTS), tuple(map(str, paraphrases)), temperature)
    return diagnosing.rehearse(source, settings, folder, wanted, stage=stage)


def _interview(
    path: AnyPath, config: AnyConfig, output: AnyPath | None, purpose: str, name: str, on_error: str
) -> tuple[sources.Source, Settings, Path]:
    """Return what is asked about, by which settings, and where the answers are kept."""
    settings = _settings(config)
    source = sources.open_source(path, format=name, on_error=on_error, source_field=settings.source_field)
    return source, settings, Path(output or default_folder(path, config, purpose))


def _labels(gold: AnyPath | None, threshold: int) -> Labels | None:
    return Labels(str(gold), threshold) if gold is not None else None


def _settings(config: AnyConfig) -> Settings:
    return config if isinstance(config, Settings) else load_config(config)
