"""`relabel run` as the command does it: rows read, prompts made, asked, everything stored, results written."""

import argparse
import tempfile
from pathlib import Path

import aiohttp  # noqa: F401 - these two before the clock starts; they would be imported when the first stage opens
import openai  # noqa: F401
from measuring import measured

from relabel.api import run as run_relabel


def run(rows: Path, config: Path) -> int:
    """Run; return how many pairs have a verdict."""
    with tempfile.TemporaryDirectory() as folder:
        summary = run_relabel(rows, config, output=folder)
        verdicts: dict[str, int] = summary.statistics["verdicts"]
        return sum(verdicts.values()) - summary.undecided


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("rows", type=Path)
    parser.add_argument("config", type=Path)
    asked = parser.parse_args()
    measured(lambda: run(asked.rows, asked.config))
