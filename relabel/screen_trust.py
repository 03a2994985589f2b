"""What people see of calibration, samples, estimates and comparisons."""

from pathlib import Path

from rich.console import Console

from relabel.screen import as_text, put_line
from relabel.serving import Serving

# -- calibrate ---------------------------------------------------------------------------------------------


# -- audit serve -------------------------------------------------------------------------------------------


def serving(console: Console, page: Serving) -> None:
    """Show where the page is; the address is the key to it."""
    put_line(console, f"{page.pairs:,} {'pair' if page.pairs == 1 else 'pairs'} to label")
    for name, done in page.labelled.items():
        put_line(console, f"  {name}: {done:,} labelled")
    put_line(console, "open on this machine, and keep to yourself: ", as_text(page.address, "bold"))
    put_line(console, "Ctrl-C ends the page; nothing is lost by it")


def served(console: Console, run: Path) -> None:
    """Show what to type when the page was ended."""
    put_line(console, f"\nended; all labels are in the run. next: relabel apply {run}")


# -- audit sample, audit estimate --------------------------------------------------------------------------


# -- prompts compare, diagnose -----------------------------------------------------------------------------
