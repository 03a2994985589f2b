"""Synthetic hard negatives as functions: what `relabel synthesize` does, for notebooks and pipelines."""

from collections import Counter
from collections.abc import Mapping
from pathlib import Path

from relabel import evaluating, foreseeing, questioning, separating, sources, synthesizing
from relabel.engines.budget import Limits
from relabel.evaluating import FULL, Evaluation, Trial
from relabel.foreseeing import Foreseen
from relabel.judges.vectors import EncoderSettings
from relabel.mining.searching import Progress
from relabel.protocols import Judge
from relabel.questioning import Questioned
from relabel.records import digest
from relabel.synthesis import settings as files
from relabel.synthesis.separability import Separability
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


def write_queries(
    passages: AnyPath,
    config: Settings | AnyPath,
    output: AnyPath,
    *,
    max_usd: float | None = None,
    max_tokens: int | None = None,
    progress: Progress = lambda *_: None,
) -> Questioned:
    """Have queries written that passages answer, as rows without negatives, for who has no queries.

    Args:
        passages: a text file of one passage a line, or any source of passages that `mine` reads.
        config: a YAML file, or settings; `engine`, `query`, `queries` and `seed` of it count.
        output: folder for the rows (`rows.jsonl`) and the replies.
        max_usd: see `synthesize`.
        max_tokens: see `synthesize`.
        progress: told (what, done, 0) as work goes on.

    Raises:
        BudgetReached, InputError, ServiceError, SettingsError: see `synthesize`.
    """
    chosen = config if isinstance(config, Settings) else files.load(Path(config), queries=True)
    done: Counter[str] = Counter()

    def watch(stage: str, asked: int, passed: int) -> None:
        done[stage] += max(asked, passed)
        progress(stage, done[stage], 0)

    limits = Limits(max_usd, max_tokens)
    return questioning.write_queries(passages, chosen, Path(output), limits=limits, watch=watch)


def separate(
    mined: AnyPath, synthetic: AnyPath | None = None, *, model: str | None = None, seed: int = 42
) -> Separability:
    """Tell the synthetic negatives of a training file from its mined ones by their text alone.

    Args:
        mined: a training file; its negatives that are not marked as synthetic are the mined ones.
        synthetic: a training file whose marked negatives are the synthetic ones; those marked in `mined` without.
        model: a sentence-transformers model whose embeddings the classifier sees as well; text features alone without.
        seed: of the dice.

    Raises:
        InputError: no negative is marked, or all are.
        MissingPart: a model is named, and sentence-transformers is not installed.
    """
    encoder = EncoderSettings(model) if model is not None else None
    return separating.separate(mined, synthetic, encoder=encoder, seed=seed)


def evaluate_synthesis(
    mined: AnyPath,
    synthetic: AnyPath | None = None,
    *,
    dev: AnyPath,
    output: AnyPath,
    split: str = "dev",
    budget: int = 4,
    seeds: int = 5,
    full: bool = False,
    progress: Progress = lambda *_: None,
) -> Evaluation:
    """Train a small retriever on mined, synthetic and mixed negatives and compare them on a dev set.

    Args and errors: see `evaluating.evaluate`; `budget` negatives of each row, `seeds` trainings of every arm, and
    `full`: the whole model too, once.
    """
    trial = Trial(budget=budget, seeds=seeds, full=FULL if full else None)
    return evaluating.evaluate(mined, synthetic, dev=dev, output=output, split=split, trial=trial, progress=progress)


def default_folder(path: AnyPath) -> Path:
    """Name a folder after the input; one that holds what was made of another input gets a digest beside it."""
    folder = Path("synthetic") / Path(path).stem
    where = str(Path(path).resolve())
    taken = made_of(folder) not in ("", where)
    return folder.with_name(f"{folder.name}-{digest(where, size=4).hex()}") if taken else folder
