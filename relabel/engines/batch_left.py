"""What a run has left under way at a batch service: read from the ledgers on disk, whoever has them open."""

import sqlite3
from collections.abc import Iterator
from contextlib import closing
from dataclasses import dataclass
from pathlib import Path

from relabel.engines.batch_ledger import LEDGER


@dataclass(frozen=True, slots=True)
class Left:
    """Batches of one stage that nobody has taken in: their requests are billed when the service answers them.

    Attributes:
        stage: its name.
        batches, requests: how many; one counts that was asked for and of which nobody heard.
        tokens: of the prompts, estimated.
    """

    stage: str
    batches: int
    requests: int
    tokens: int

    def __str__(self) -> str:
        """Say it in words."""
        batches = "1 batch is" if self.batches == 1 else f"{self.batches:,} batches are"
        return f"stage {self.stage}: {batches} under way at the service, with {self.requests:,} requests"


def left_under_way(folder: Path) -> Iterator[Left]:
    """Yield, for each stage, what stands in its ledger as under way; a ledger that cannot be read is passed over.

    Args:
        folder: the one that holds a folder for each stage.
    """
    for path in sorted(folder.glob(f"*/{LEDGER}")):
        try:
            with closing(sqlite3.connect(f"{path.resolve().as_uri()}?mode=ro", uri=True, timeout=5)) as ledger:
                row = ledger.execute(
                    "SELECT count(*), coalesce(sum(requests), 0), coalesce(sum(tokens), 0) FROM parts"
                    " WHERE state IN ('creating', 'submitted')"
                ).fetchone()
        except sqlite3.Error:
            continue
        if row[1]:
            yield Left(path.parent.name, *row)
