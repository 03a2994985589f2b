"""The commands of trust: how far judges can be believed, what people should look at, and a report of it."""

from pathlib import Path
from typing import Annotated

import typer

from relabel.options import ConfigFile, FormatName, Gold, GoldThreshold, Input, Moved, OnError, Run, RunGold

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
    gold: RunGold = None,
    threshold: GoldThreshold = 2,
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


def audit_sample(
    run: Run,
    output: Annotated[Path, typer.Option("-o", "--output", help="CSV to write, in the order of drawing.")],
    n: Annotated[int, typer.Option("-n", help="Pairs; with --by query so many queries as hold about this many.")] = 200,
    by: Annotated[
        str, typer.Option("--by", help="Draw single pairs, or a query's pairs together: pair, query.")
    ] = "pair",
    design: Annotated[
        str | None,
        typer.Option("--design", help="random, stratified, active. Without: stratified; of queries, random."),
    ] = None,
    strata: Annotated[
        str | None,
        typer.Option("--strata", help="verdict,stage,source,rank,confidence or some of them; verdict without."),
    ] = None,
    allocation: Annotated[
        str,
        typer.Option("--allocation", help="Over strata: proportional, equal, neyman (more where judges are unsure)."),
    ] = "neyman",
    prefer: Annotated[
        str, typer.Option("--prefer", help="Of an active sample: likely (relevant), uncertain, disagreed, typical.")
    ] = "likely",
    seed: Annotated[int, typer.Option("--seed", help="Another seed draws another sample.")] = 0,
    name: Annotated[str | None, typer.Option("--name", help="Of the sample; by its design without.")] = None,
    blind: Annotated[bool, typer.Option("--blind", help="Without what the judges said.")] = False,  # noqa: FBT002
    again: Annotated[bool, typer.Option("--again", help="List labelled pairs too.")] = False,  # noqa: FBT002
    input: Moved = None,  # noqa: A002
) -> None:
    """Draw pairs for people to label, so that figures of the whole data set follow. A larger -n extends the sample."""
    from relabel import api_trust, screen, screen_trust

    done = api_trust.audit_sample(
        run, output, n, design=design, by=by, strata=strata, allocation=allocation, prefer=prefer, seed=seed,
        name=name, blind=blind, again=again, path=input,
    )  # fmt: skip
    screen_trust.sampled(screen.open_console(), done, run, output)


def audit_estimate(
    run: Run,
    gold: RunGold = None,
    threshold: GoldThreshold = 2,
    sample: Annotated[
        str | None, typer.Option("--sample", help="Which sample; the one with most labels without.")
    ] = None,
    input: Moved = None,  # noqa: A002
) -> None:
    """Say from people's labels how many negatives are false and how far each judge is right, with 95 % intervals."""
    from relabel import api_trust, screen, screen_trust

    done = api_trust.audit_estimate(run, gold=gold, threshold=threshold, sample=sample, path=input)
    screen_trust.estimated(screen.open_console(), done, run)


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
    """Write one HTML page of a run, or of a synthesis, that opens offline: figures, plots, texts. Asks nobody."""
    from relabel import api_trust
    from relabel.screen import printable

    done = api_trust.report(run, output, path=input)
    typer.echo(printable(f"{done.path}  {done.size / 1e6:.2f} MB; opens in any browser, loads nothing"))


# -- prompts compare, diagnose -----------------------------------------------------------------------------


Answers = Annotated[
    Path | None, typer.Option("-o", "--output", help="Folder, or run directory whose replies are used again.")
]
StageName = Annotated[str | None, typer.Option("--stage", help="Which stage is asked; the first LLM without.")]
DryRun = Annotated[bool, typer.Option("--dry-run", help="Count requests, tokens and money; ask nobody.")]
Quiet = Annotated[bool, typer.Option("-q", "--quiet", help="No progress bar.")]


def prompts_compare(
    before: Annotated[str, typer.Argument(help="Template: a name or a file.", metavar="A")],
    after: Annotated[str, typer.Argument(help="Template: a name or a file.", metavar="B")],
    input: Input,  # noqa: A002
    config: ConfigFile = None,
    stage: StageName = None,
    gold: Gold = None,
    threshold: GoldThreshold = 2,
    queries: Annotated[int, typer.Option("-n", "--queries", help="Sample of queries, by the config's seed.")] = 200,
    output: Answers = None,
    format: FormatName = "auto",  # noqa: A002
    on_error: OnError = "stop",
    dry_run: DryRun = False,  # noqa: FBT002
    quiet: Quiet = False,  # noqa: FBT002
) -> None:
    """Ask about the same pairs with two templates: which labels flip, who agrees more with people, what each costs."""
    from relabel import api, api_trust, screen, screen_mined, screen_trust

    folder = output or api.default_folder(input, config, "compare")
    console = screen.open_console()
    if dry_run:
        found = api_trust.rehearse_compare_prompts(
            before, after, input, config, output=folder, stage=stage, gold=gold, threshold=threshold, queries=queries,
            format=format, on_error=on_error,
        )  # fmt: skip
        screen_trust.rehearsed(console, found)
        return
    with screen_mined.Bars(quiet=quiet) as bars:
        done = api_trust.compare_prompts(
            before, after, input, config, output=folder, stage=stage, gold=gold, threshold=threshold, queries=queries,
            format=format, on_error=on_error, progress=bars.progress, begin=screen_trust.begin(quiet=quiet),
        )  # fmt: skip
    screen_trust.comparison(console, done)


def diagnose(
    input: Input,  # noqa: A002
    config: ConfigFile = None,
    stage: StageName = None,
    gold: Gold = None,
    threshold: GoldThreshold = 2,
    queries: Annotated[int, typer.Option("-n", "--queries", help="Sample of queries, by the config's seed.")] = 50,
    only: Annotated[
        list[str] | None,
        typer.Option("--only", help="A part: probe, lists, swap, leaning, repeat, templates; again for more."),
    ] = None,
    paraphrase: Annotated[
        list[str] | None,
        typer.Option("--paraphrase", help="Template in other words, name or file; again. Without: the shipped ones."),
    ] = None,
    temperature: Annotated[
        float | None,
        typer.Option("--temperature", help="At which the same prompt is asked again; the engine's without."),
    ] = None,
    output: Answers = None,
    format: FormatName = "auto",  # noqa: A002
    on_error: OnError = "stop",
    dry_run: DryRun = False,  # noqa: FBT002
    quiet: Quiet = False,  # noqa: FBT002
) -> None:
    """Find out how far one judge can be believed: lean, order, number in a prompt, swap, length, chance, wording."""
    from relabel import api, api_trust, screen, screen_mined, screen_trust

    folder = output or api.default_folder(input, config, "diagnose")
    console = screen.open_console()
    parts = tuple(only) if only else None
    words = tuple(paraphrase or ())
    if dry_run:
        found = api_trust.rehearse_diagnose(
            input, config, output=folder, stage=stage, gold=gold, threshold=threshold, queries=queries, parts=parts,
            paraphrases=words, temperature=temperature, format=format, on_error=on_error,
        )  # fmt: skip
        screen_trust.rehearsed(console, found)
        return
    with screen_mined.Bars(quiet=quiet) as bars:
        done = api_trust.diagnose(
            input, config, output=folder, stage=stage, gold=gold, threshold=threshold, queries=queries, parts=parts,
            paraphrases=words, temperature=temperature, format=format, on_error=on_error, progress=bars.progress,
            begin=screen_trust.begin(quiet=quiet),
        )  # fmt: skip
    screen_trust.diagnosis(console, done)
