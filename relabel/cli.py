"""The door: arguments in, exit codes out. Each command is one call into the library.

Exit codes: 0 done · 1 finished, but more than --max-undecided is undecided · 2 your input or settings ·
3 the model service · 4 left while batches are under way (--detach), with the command that comes back ·
5 --max-usd or --max-tokens is reached, with the command that goes on ·
70 a bug of relabel, with its traceback: please report it ·
130 interrupted, with the command that resumes (143 by SIGTERM, 129 by a closed terminal) ·
141 who read the output has stopped.
"""

import errno
import io
import os
import shlex
import sys
import traceback
from contextlib import suppress
from dataclasses import asdict
from decimal import ROUND_CEILING, Decimal
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Final

import typer

from relabel import cli_mining, cli_synthesis, cli_trust, stopping
from relabel.errors import BudgetReached, Detached, RelabelError, SettingsError, typed
from relabel.options import (
    OUTPUTS,
    ConfigFile,
    CorpusName,
    FormatName,
    Input,
    MaxTokens,
    MaxUsd,
    Moved,
    OnError,
    PolicyName,
    Prices,
    PromptName,
    QrelsName,
    QueriesName,
    Run,
    SplitName,
    Threshold,
)

if TYPE_CHECKING:
    from relabel.pipeline import Summary

BUG: Final = 70
"""EX_SOFTWARE; Python's own 1 means "undecided" here."""
UNREAD: Final = 141
"""What a shell says of a program that SIGPIPE ended."""

app = typer.Typer(
    help="Find the false negatives among mined hard negatives, and relabel them.",
    no_args_is_help=True,
    add_completion=True,
    pretty_exceptions_enable=False,
    rich_markup_mode=None,
)
audit_app = typer.Typer(help="Flagged pairs to a CSV for people, and back.", no_args_is_help=True)
prompts_app = typer.Typer(help="The prompt templates.", no_args_is_help=True)
app.add_typer(audit_app, name="audit")
app.add_typer(prompts_app, name="prompts")
app.add_typer(cli_synthesis.app, name="synthesize")


def _version(asked: bool) -> None:  # noqa: FBT001 - typer's callback
    if asked:
        from importlib.metadata import version

        typer.echo(f"relabel {version('relabel')}")
        raise typer.Exit


@app.callback()
def common(
    version: Annotated[  # noqa: FBT002
        bool, typer.Option("--version", callback=_version, is_eager=True, help="Show the version.")
    ] = False,
) -> None:
    """Find the false negatives among mined hard negatives, and relabel them."""


@app.command()
def run(
    input: Input,  # noqa: A002 - the word users know
    config: ConfigFile = None,
    output: Annotated[Path | None, typer.Option("-o", "--output", help="Run directory; runs/NAME without.")] = None,
    prompt: PromptName = None,
    policy: PolicyName = None,
    format: FormatName = "auto",  # noqa: A002
    on_error: OnError = "stop",
    shard: Annotated[
        str | None, typer.Option("--shard", help="Only this part of the rows: 2/8 = the second of 8. Then: merge.")
    ] = None,
    pool: Annotated[
        Path | None,
        typer.Option("--pool", help="Mined folder: its next candidates refill rows left below min_negatives."),
    ] = None,
    engine: Annotated[
        str | None, typer.Option("--engine", help="Where the models run: ray (a cluster), or here (no cluster).")
    ] = None,
    address: Annotated[
        str | None, typer.Option("--address", help="The cluster: local (started for the run), auto, or HOST:PORT.")
    ] = None,
    replicas: Annotated[int | None, typer.Option("--replicas", help="Copies of each model on the cluster.")] = None,
    max_undecided: Annotated[
        str | None, typer.Option("--max-undecided", help="Exit with 1 if more pairs than this: 100, or 5%.")
    ] = None,
    prices: Prices = None,
    max_usd: MaxUsd = None,
    max_tokens: MaxTokens = None,
    detach: Annotated[  # noqa: FBT002
        bool, typer.Option("--detach", help="Do not wait for batches: submit, take what is finished, leave with 4.")
    ] = False,
    resume: Annotated[bool, typer.Option("--resume", help="Come back to a run; begin none.")] = False,  # noqa: FBT002
    quiet: Annotated[bool, typer.Option("-q", "--quiet", help="No progress bars.")] = False,  # noqa: FBT002
) -> None:
    """Judge every hard negative, relabel, write. Called again it goes on where it was; nothing is paid for twice."""
    from relabel import api, screen

    limit = _limit(max_undecided)
    settings = api.load_config(
        config, prompt=prompt, policy=policy, engine=engine, address=address, replicas=replicas, pool=pool,
        prices=prices,
    )  # fmt: skip
    folder = output or api.default_folder(input, config, prompt, policy, pool, shard=shard)
    bars = screen.Bars(screen.open_console(stderr=True, quiet=quiet))
    with stopping.naming_batches(folder, lambda said: _echo(said, err=True)), bars, stopping.announced(bars.say):
        done = api.run(
            input,
            settings,
            output=folder,
            format=format,
            on_error=on_error,
            shard=shard,
            watch=bars.watch,
            begin=bars.begin,
            max_usd=max_usd,
            max_tokens=max_tokens,
            detach=detach,
            resume=resume,
        )
    screen.summary(screen.open_console(), done, after=f"next: {typed('show', folder)} · {typed('stats', folder)}")
    _end(done, limit)


@app.command()
def merge(
    shards: Annotated[list[Path], typer.Argument(help="Run directories of all shards.", metavar="DIR...")],
    output: Annotated[Path, typer.Option("-o", "--output", help="Run directory to make.")],
    input: Moved = None,  # noqa: A002
) -> None:
    """Put the finished shards of one input together: one run over the whole. Asks nobody."""
    from relabel import api, screen

    done = api.merge(shards, output, input)
    after = f"{len(shards)} shards merged; next: {typed('show', output)} · {typed('stats', output)}"
    screen.summary(screen.open_console(), done, after=after)


@app.command()
def check(
    input: Input,  # noqa: A002
    config: ConfigFile = None,
    prompt: PromptName = None,
    format: FormatName = "auto",  # noqa: A002
    on_error: OnError = "stop",
    prices: Prices = None,
) -> None:
    """Validate, count pairs and requests, estimate tokens and money, show one prompt. Spends nothing."""
    from relabel import api, screen, screen_money

    settings = api.load_config(config, prompt=prompt, prices=prices)
    screen_money.forecast(screen.open_console(), api.check(input, settings, format=format, on_error=on_error))


@app.command()
def apply(
    run: Run,
    policy: PolicyName = None,
    config: Annotated[
        Path | None, typer.Option("-c", "--config", help="Take policy and thresholds from this config; asks nobody.")
    ] = None,
    input: Moved = None,  # noqa: A002
    max_undecided: Annotated[str | None, typer.Option("--max-undecided", help="As in run.")] = None,
) -> None:
    """Decide and write again from what the judges have said: another policy, or people's labels. Asks nobody."""
    from relabel import api, screen

    limit = _limit(max_undecided)
    done = api.apply(run, config, policy=policy, path=input)
    screen.summary(screen.open_console(), done)
    _end(done, limit)


@app.command()
def show(
    run: Run,
    query: Annotated[
        str | None, typer.Argument(help="Query id, or words of it. Without: the most certain findings.")
    ] = None,
    against: Annotated[Path | None, typer.Option("--against", help="List what flips from this run to RUN.")] = None,
    input: Moved = None,  # noqa: A002
) -> None:
    """Lay query, known positive and candidate side by side, with every judge's word, verdict and change."""
    from relabel import api, screen

    if against is not None:
        screen.flips(screen.open_console(), api.flips(run, against, path=input), before=against, after=run)
        return
    screen.life(screen.open_console(), api.show(run, query, path=input))


@app.command()
def stats(
    run: Run,
    all: Annotated[bool, typer.Option("--all", help="Every coefficient, confusion tables, each source.")] = False,  # noqa: A002, FBT002
) -> None:
    """Show accounting, flagged rates and agreement between judges and people, with 95 % intervals over queries."""
    from relabel import api, screen, screen_stats

    screen_stats.statistics(screen.open_console(), api.stats(run), everything=all)


app.command("filter")(cli_mining.filter_)
app.command()(cli_mining.mine)
app.command()(cli_mining.refresh)
app.command()(cli_trust.calibrate)
app.command()(cli_trust.diagnose)
prompts_app.command("compare")(cli_trust.prompts_compare)
app.command()(cli_trust.report)


@app.command()
def convert(
    input: Annotated[  # noqa: A002
        str,
        typer.Argument(
            help="Training file, or collection: BEIR or MTEB folder, irds:ID, hf:NAME, LlamaIndex or NeMo file.",
            metavar="INPUT",
        ),
    ],
    output: Annotated[
        str,
        typer.Argument(
            help="File to write: its name says the container. FOLDER/ = for load_from_disk. Or hf://datasets/ORG/NAME.",
            metavar="OUTPUT",
        ),
    ],
    to: Annotated[str, typer.Option("--to", help=f"{OUTPUTS}.")],
    format: FormatName = "auto",  # noqa: A002
    corpus: CorpusName = None,
    queries: QueriesName = None,
    qrels: QrelsName = None,
    split: SplitName = "train",
    threshold: Threshold = 1,
    on_error: OnError = "stop",
    public: Annotated[  # noqa: FBT002
        bool, typer.Option("--public", help="A data set made on the hub is for everybody to see; private without.")
    ] = False,
) -> None:
    """Write a training file or a collection in another format or container."""
    from relabel import api, screen, screen_mined

    done = api.convert(
        input, output, to=to, format=format, corpus=corpus, queries=queries, qrels=qrels, split=split,
        threshold=threshold, on_error=on_error, public=public,
    )  # fmt: skip
    if done.built is not None:
        screen_mined.collection(screen.open_console(), asdict(done.built))
    for reject in done.rejected:
        _echo(f"left out: {reject}", err=True)
    if done.renamed:
        _echo(f"{done.renamed:,} ids stood for two texts: the later text got the id with a digest after it", err=True)
    left_out = len(done.rejected)
    _echo(f"{done.examples:,} examples read, {left_out:,} rows rejected, {done.rows:,} rows written: {output}")
    if done.examples and not done.rows:
        _echo(f"{to} has no rows without negatives; to find some, type: {typed('mine', input)}")


@audit_app.command("export")
def audit_export(
    run: Run,
    output: Annotated[Path, typer.Option("-o", "--output", help="CSV to write.")],
    all_pairs: Annotated[bool, typer.Option("--all", help="Every pair, not only the flagged.")] = False,  # noqa: FBT002
    input: Moved = None,  # noqa: A002
) -> None:
    """Write the pairs that a person should look at, with the labels that people gave so far."""
    from relabel import api

    rows = api.audit_export(run, output, everything=all_pairs, path=input)
    _echo(f"{rows:,} pairs: {output}\nfill in human_label (relevant, partial, irrelevant)")
    _echo(f"then: {typed('audit', 'import', run, output)}")


@audit_app.command("import")
def audit_import(
    run: Run,
    labels: Annotated[Path, typer.Argument(help="The CSV, edited.", metavar="CSV")],
    reviewer: Annotated[str, typer.Option("--reviewer", help="Who labelled; the file's name without.")] = "",
    input: Moved = None,  # noqa: A002
) -> None:
    """Take people's labels into the run; `relabel apply` then uses them. Their word is final."""
    from relabel import api

    done = api.audit_import(run, labels, reviewer=reviewer, path=input)
    who = ", ".join(done.reviewers) or "nobody"
    _echo(f"{done.labels:,} labels by {who}; {done.unlabelled:,} rows without a label\nnow: {typed('apply', run)}")


audit_app.command("sample")(cli_trust.audit_sample)
audit_app.command("estimate")(cli_trust.audit_estimate)
audit_app.command("serve")(cli_trust.audit_serve)


@prompts_app.command("list")
def prompts_list() -> None:
    """List the shipped templates."""
    from relabel import prompts

    for name in prompts.list_templates():
        template = prompts.load_template(name)
        typer.echo(f"{name:12} {template.spec.kind:6} {template.spec.form:8} {template.description}")
    from relabel.synthesis import recipes

    typer.echo("\nthat write, for relabel synthesize:")
    for name in recipes.list_recipes():
        recipe = recipes.load_recipe(name)
        typer.echo(f"{name:12} {recipe.kind:6} {'json':8} {recipe.description}")


@prompts_app.command("show")
def prompts_show(name: Annotated[str, typer.Argument(help="Name or file.")]) -> None:
    """Print a template as it stands in its file: copy, change, and use it by --prompt FILE."""
    from relabel import prompts, screen
    from relabel.synthesis import recipes

    content = (recipes.load_recipe(name) if recipes.is_recipe(name) else prompts.load_template(name)).content
    # into a file, its very bytes: nothing lost to the terminal's encoding
    typer.echo(screen.printable(content) if sys.stdout.isatty() else content.encode(), nl=False)


@prompts_app.command("render")
def prompts_render(
    name: Annotated[str, typer.Argument(help="Name or file.")],
    input: Input,  # noqa: A002
    query: Annotated[str | None, typer.Argument(help="Query id; the first row without.")] = None,
    format: FormatName = "auto",  # noqa: A002
) -> None:
    """Show a template filled in with a row of a training file."""
    from relabel import forecast, screen, sources

    source = sources.open_source(input, format=format)
    screen.messages(screen.open_console(), forecast.render(name, source, query), title=name)


# -- what the commands share -------------------------------------------------------------------------------


def _echo(text: str, *, err: bool = False) -> None:
    """Print text that may hold data: names, paths, what a file says."""
    from relabel.screen import printable

    typer.echo(printable(text), err=err)


def _limit(text: str | None) -> tuple[float, bool] | None:
    """Read --max-undecided: a number of pairs, or a share of them in percent."""
    if text is None:
        return None
    share = text.strip().endswith("%")
    try:
        value = float(text.strip().rstrip("%"))
    except ValueError:
        value = -1.0
    if value < 0:
        raise SettingsError(f"--max-undecided {text!r} is neither a number nor a percentage", hint="100, or 5%")
    return value, share


def _end(done: "Summary", limit: tuple[float, bool] | None) -> None:
    if limit is None:
        return
    pairs = sum(done.statistics["verdicts"].values())
    allowed = limit[0] * pairs / 100 if limit[1] else limit[0]
    if done.undecided > allowed:
        typer.echo(f"{done.undecided:,} of {pairs:,} pairs are undecided, more than --max-undecided allows", err=True)
        raise typer.Exit(1)


def _coming_back(words: list[str]) -> str:
    """Return the command that comes back to a run that was left: it waits, unless told to leave again."""
    return typed(*[word for word in words if word not in {"--detach", "--resume"}], "--resume")


def _unexpected(error: Exception) -> int:
    """Say what else went wrong; return the exit code."""
    show = getattr(error, "show", None)  # an error of usage, whose class typer does not export
    if show is not None:
        show()
        return 2
    if isinstance(error, OSError) and (error.filename is not None or error.errno == errno.ENOSPC):
        _echo(f"relabel: {error}\n  see to the file or the disk, then type the same command again", err=True)
        return 2
    _echo("".join(traceback.format_exception(error)) + "relabel: this is a bug, please report it", err=True)
    return BUG


def _with_more(arguments: list[str], reached: BudgetReached) -> str:
    """Return the command that was typed with a limit that is twice as high, or as high as the run will need."""
    words = list(arguments)
    for place, word in enumerate(arguments):
        name, joined, value = word.partition("=")
        if name in ("--max-usd", "--max-tokens"):
            where = place if joined else place + 1
            needed = reached.usd if name == "--max-usd" else reached.tokens
            least = 0.01 if name == "--max-usd" else 1000
            number = _round_up(max(2 * float(value or arguments[where]), needed) or least)
            words[where] = f"{name}={number}" if joined else number
    return typed(*words)


def _round_up(number: float) -> str:
    """Show the next number of two digits that count."""
    step = Decimal(10) ** (Decimal(number).adjusted() - 1)
    return f"{((Decimal(repr(number)) / step).to_integral_value(ROUND_CEILING) * step).normalize():f}"


def _stop_writing() -> int:
    """Let what is still to be written to stdout go nowhere, as nobody reads it; return the exit code."""
    os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
    return UNREAD


def main() -> None:
    """Run the command line; expected errors become one message and an exit code."""
    stopping.open_standard_streams()
    heard: list[int] = []
    stopping.heed(heard)
    for stream in (sys.stdout, sys.stderr):
        if isinstance(stream, io.TextIOWrapper):
            stream.reconfigure(errors="replace")  # what a terminal cannot show must not end a run that was paid for
    try:
        code = app(standalone_mode=False)
    except BudgetReached as error:
        _echo(
            f"relabel: {error.message}\n  nothing is asked twice; to go on: {_with_more(sys.argv[1:], error)}", err=True
        )
        code = error.exit_code
    except Detached as left:
        _echo(f"left: {left}\nto come back: {_coming_back(sys.argv[1:])}", err=True)
        code = left.exit_code
    except RelabelError as error:
        _echo(f"relabel: {error}", err=True)
        code = error.exit_code
    except (KeyboardInterrupt, typer.Abort):
        code = stopping.INTERRUPTED
    except SystemExit as left:  # so typer and rich leave when nobody reads their output, but 1 means "undecided" here
        code = _stop_writing() if left.code == 1 else left.code
    except Exception as error:  # noqa: BLE001 - shown, with its traceback
        code = _unexpected(error)
    if code == stopping.INTERRUPTED:  # typer says Ctrl-C by this code too
        code = stopping.code_of(heard)
        with suppress(OSError):  # the terminal may be gone
            _echo(f"\ninterrupted; to go on: {shlex.join(['relabel', *sys.argv[1:]])}", err=True)
    sys.exit(code)
