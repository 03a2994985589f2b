"""What people see of money before any is spent: what a run would ask and cost at most."""

from rich.box import SIMPLE_HEAD
from rich.console import Console
from rich.table import Table
from rich.text import Text

from relabel.forecast import Forecast, StageForecast
from relabel.screen import as_text, messages, percent, put_line


def forecast(console: Console, found: Forecast) -> None:
    """Show what a run would ask at most, what the last model alone would, and the first prompt as it would be sent."""
    seen = found.survey
    sources = ", ".join(f"{name or 'no source'} {count:,}" for name, count in seen.sources.items())
    put_line(console, f"{seen.rows:,} rows can be read, {seen.rejected:,} cannot; {seen.pairs:,} pairs ({sources})")
    table = Table(box=SIMPLE_HEAD, pad_edge=False, title=_title(found), title_justify="left")
    heads = ("stage", "judge", "pairs", "requests", "tokens in", "tokens out", "US $", "US $, cached")
    for column in heads:
        table.add_column(column, justify="left" if column in ("stage", "judge") else "right", overflow="fold")
    for stage in found.stages:
        table.add_row(*_row(stage))
    if len(found.models) > 1:
        table.add_section()
        usd = [stage.usd for stage in found.models]
        cached = [stage.usd_cached for stage in found.models]
        table.add_row("all stages", *[""] * 5, _money(_sum(usd)), _money(_sum(cached)))
        last = found.models[-1]
        table.add_row(as_text(f"{last.name} alone"), *[""] * 5, _money(last.usd), _money(last.usd_cached))
    console.print(table)
    for stage in found.stages:
        if stage.files:
            many = "1 batch" if stage.files == 1 else f"{stage.files:,} batches"
            put_line(console, f"{stage.name:9} asks by batches: about {many}, each within a day")
    console.print("Tokens are estimates (characters / 4). Nothing was asked and nothing was spent.", style="dim")
    _assumptions(console, found)
    for stage in found.stages:
        if stage.why_tokens:
            told = f"pairs that {stage.name} flags are asked about once more: {stage.why_tokens:,} + 40 tokens for one"
            put_line(console, f"{told}, not counted above (rationale: flagged)")
    for problem in found.missing:
        put_line(console, f"a run would not start: {problem}")
    if found.prompt:
        messages(console, found.prompt, title=f"The first prompt of stage {found.prompt_stage}")


def _title(found: Forecast) -> str:
    reasons = (
        " (and the reasons for what is flagged, see below, on top)" if any(s.why_tokens for s in found.stages) else ""
    )
    return f"At most, if every pair reached the stage{reasons}"


def _row(stage: StageForecast) -> list[str | Text]:
    judge = f"{stage.judge} {stage.model}".strip()
    counts = [f"{number:,}" for number in (stage.pairs, stage.requests, stage.tokens_in, stage.tokens_out)]
    return [as_text(stage.name), as_text(judge), *counts, _money(stage.usd), _money(stage.usd_cached)]


def _assumptions(console: Console, found: Forecast) -> None:
    """Say where the prices are from, what is taken to be cached, and when the cascade is worth it."""
    if cached := sum(stage.tokens_cached for stage in found.models):
        told = f"cached: {cached:,} tokens with which the prompt before begins too, from 1,024 on in steps of 128"
        put_line(console, as_text(f"{told} (OpenAI's rule), if the server still has them", "dim"))
    for stage in found.models:
        put_line(
            console, as_text(f"{stage.name}: {stage.price or 'price unknown: say it by `price:` in its engine'}", "dim")
        )
    if found.break_even is not None:
        put_line(
            console,
            f"the cascade costs less than {found.models[-1].name} alone as long as fewer than"
            f" {percent(found.break_even)} of the pairs reach it",
        )


def _sum(amounts: list[float | None]) -> float | None:
    known = [amount for amount in amounts if amount is not None]
    return sum(known) if len(known) == len(amounts) else None


def _money(usd: float | None) -> str:
    return "price unknown" if usd is None else f"{usd:,.2f}" if usd >= 1 or not usd else f"{usd:,.4f}"
