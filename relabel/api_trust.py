"""The library as functions: calibration, audit, report."""

from collections.abc import Callable, Sequence
from pathlib import Path

from relabel import comparing, diagnosing, sources
from relabel.api import AnyConfig, AnyPath, default_folder, load_config
from relabel.asking import Rehearsed
from relabel.comparing import Comparison
from relabel.config import Settings
from relabel.diagnosing import PARTS, Diagnosis, Wanted
from relabel.interview import Progress
from relabel.labelled import Labels

# -- calibrate ---------------------------------------------------------------------------------------------


# -- audit sample, audit estimate --------------------------------------------------------------------------


# -- report, audit serve -----------------------------------------------------------------------------------


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
    settings, folder = _settings(config), Path(output or default_folder(path, config, "compare"))
    source = sources.open_source(path, format=format, on_error=on_error, source_field=settings.source_field)
    known = Labels(str(gold), threshold) if gold is not None else None
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
    queries: int = 200,
    format: str = "auto",  # noqa: A002
    on_error: str = "stop",
) -> Rehearsed:
    """Count what `compare_prompts` would ask, and estimate tokens and money. Asks nobody, writes nothing."""
    settings, folder = _settings(config), Path(output or default_folder(path, config, "compare"))
    source = sources.open_source(path, format=format, on_error=on_error, source_field=settings.source_field)
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
    settings, folder = _settings(config), Path(output or default_folder(path, config, "diagnose"))
    source = sources.open_source(path, format=format, on_error=on_error, source_field=settings.source_field)
    wanted = Wanted(queries, tuple(parts or PARTS), tuple(map(str, paraphrases)), temperature)
    known = Labels(str(gold), threshold) if gold is not None else None
    return diagnosing.diagnose(
        source, settings, folder, wanted, stage=stage, gold=known, progress=progress, begin=begin
    )


def rehearse_diagnose(
    path: AnyPath,
    config: AnyConfig = None,
    *,
    output: AnyPath | None = None,
    stage: str | None = None,
    queries: int = 50,
    parts: Sequence[str] | None = None,
    paraphrases: Sequence[AnyPath] = (),
    temperature: float | None = None,
    format: str = "auto",  # noqa: A002
    on_error: str = "stop",
) -> Rehearsed:
    """Count what `diagnose` would ask, and estimate tokens and money. Asks nobody, writes nothing."""
    settings, folder = _settings(config), Path(output or default_folder(path, config, "diagnose"))
    source = sources.open_source(path, format=format, on_error=on_error, source_field=settings.source_field)
    wanted = Wanted(queries, tuple(parts or PARTS), tuple(map(str, paraphrases)), temperature)
    return diagnosing.rehearse(source, settings, folder, wanted, stage=stage)


def _settings(config: AnyConfig) -> Settings:
    return config if isinstance(config, Settings) else load_config(config)
