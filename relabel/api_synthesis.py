"""Synthetic hard negatives as functions: what `relabel synthesize` does, for notebooks and pipelines."""

from collections.abc import Mapping
from pathlib import Path

from relabel import foreseeing, sources, synthesizing
from relabel.engines.budget import Limits
from relabel.foreseeing import Foreseen
from relabel.mining.searching import Progress
from relabel.protocols import Judge
from relabel.records import digest
from relabel.synthesis import settings as files
from relabel.synthesis.settings import Settings
from relabel.synthesisdir import Writer, made_of
from relabel.synthesizing import Synthesized

AnyPath = Path | str


def synthesize(
    path: AnyPath,
    config: Settings | AnyPath,
    *,
    output: AnyPath | None = None,
    format: str = "auto",  # noqa: A002 - the word users know
    on_error: str = "stop",
    writer: Writer | None = None,
    judges: Mapping[str, Judge] | None = None,
    preferences: bool = False,
    max_usd: float | None = None,
    max_tokens: int | None = None,
    progress: Progress = lambda *_: None,
) -> Synthesized:
    """Have hard negatives written for rows that lack some, prove each one, and fill the rows with them.

    Called again with the same output it goes on where it was: no answered request is paid for twice.

    Args:
        path: the training file.
        config: a YAML file, or settings.
        output: folder; `synthetic/NAME` without.
        format: a name of `relabel.formats.FORMATS`, or "auto".
        on_error: a row that cannot be read: "stop", or "skip".
        writer: a writer of your own, in place of the one that the settings name.
        judges: judges of your own by stage name, in place of those in the cascade.
        preferences: write preference pairs too.
        max_usd: US dollars that may be paid for replies, by this call and all before it with the same output.
        max_tokens: tokens that may be read and written, likewise.
        progress: told (what, done, of how many) as work goes on.

    Raises:
        BudgetReached: the next question would exceed a limit; what was answered is kept.
        InputError: the file cannot be used; nothing was asked.
        SettingsError: the settings cannot be used; nothing was asked.
        ServiceError: a model service cannot go on; what was answered is kept.
        RunError: the output holds something else.
    """
    chosen = config if isinstance(config, Settings) else files.load(Path(config))
    source = sources.open_source(path, format=format, on_error=on_error)
    folder = Path(output) if output is not None else default_folder(path)
    return synthesizing.synthesize(
        source, chosen, folder, writer=writer, judges=judges, limits=Limits(max_usd, max_tokens),
        preferences=preferences, progress=progress,
    )  # fmt: skip


def rehearse_synthesis(
    path: AnyPath,
    config: Settings | AnyPath,
    *,
    format: str = "auto",  # noqa: A002
    on_error: str = "stop",
) -> Foreseen:
    """Count rows, slots, requests, tokens and money of a synthesis; spends nothing and writes nothing.

    Args and errors: see `synthesize`.
    """
    chosen = config if isinstance(config, Settings) else files.load(Path(config))
    return foreseeing.foresee(sources.open_source(path, format=format, on_error=on_error), chosen)


def default_folder(path: AnyPath) -> Path:
    """Name a folder after the input; one that holds what was made of another input gets a digest beside it."""
    folder = Path("synthetic") / Path(path).stem
    where = str(Path(path).resolve())
    taken = made_of(folder) not in ("", where)
    return folder.with_name(f"{folder.name}-{digest(where, size=4).hex()}") if taken else folder
