"""`relabel run` as the command does it: rows read, prompts made, asked, everything stored, results written."""

import argparse
import tempfile
from pathlib import Path

import relabel
from measuring import measured


def run(rows: Path, config: Path) -> int:
    """Run; return how many pairs have a verdict."""
    with tempfile.TemporaryDirectory() as folder:
        summary = relabel.run(rows, config, output=folder)
        verdicts = summary.statistics["verdicts"]
        return sum(verdicts.values()) - summary.undecided


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("rows", type=Path)
    parser.add_argument("config", type=Path)
    asked = parser.parse_args()
    measured(lambda: run(asked.rows, asked.config))
