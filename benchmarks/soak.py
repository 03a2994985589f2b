"""Does a long run stay the size that it was: memory, file handles, threads, over as many minutes as you like.

`relabel run` judges made-up pairs, one request each, against a local server that lets a tenth of the requests fail in
turn (errors, rate limits, lost connections). Its process is looked at ten times a second through /proc (Linux). The
first tenth of the time, in which everything is opened, is left out; what is shown is the median of each tenth after it.
"""

import argparse
import statistics
import subprocess
import sys
import tempfile
import time
from dataclasses import dataclass
from pathlib import Path

from kills import TESTS, ended, write_rows
from rich.console import Console
from rich.table import Table

NEGATIVES = 6
KINDS = "rate limit ms,error,reset,cut"
MEMORY = 1.05
HANDLES = 2
"""What is demanded of the last tenth beside the second: memory at most so many times as large, and at most so many more
file handles and threads."""

CASCADE = """\
stages:
  - judge: llm
    prompt: relevance
    engine: {{kind: openai, model: fake, base_url: {url}, concurrency: 16, requests_per_minute: {rate}}}
"""


@dataclass(frozen=True, slots=True)
class Look:
    """One look at a process: seconds since its start, resident memory in MiB, open file handles, threads."""

    at: float
    memory: float
    handles: int
    threads: int


def look(process: int, begun: float) -> Look | None:
    """Look at a process; None once it is gone."""
    place = Path("/proc") / str(process)
    try:
        told = dict(line.split(":", 1) for line in (place / "status").read_text().splitlines() if ":" in line)
        handles = len(list((place / "fd").iterdir()))
        return Look(
            time.monotonic() - begun, int(told["VmRSS"].split()[0]) / 1024, handles, int(told["Threads"].strip())
        )
    except (OSError, KeyError):
        return None


def watch(source: Path, config: Path, folder: Path) -> list[Look]:
    """Run, and look until it ends."""
    command = [sys.executable, "-m", "relabel", "run", str(source), "-c", str(config), "-q", "-o", str(folder)]
    begun, looks = time.monotonic(), []
    process = subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE)
    while process.poll() is None:
        if (seen := look(process.pid, begun)) is not None:
            looks.append(seen)
        time.sleep(0.1)
    ended(process)
    return looks


def tenths(looks: list[Look]) -> list[list[Look]]:
    """Divide the looks by time into ten parts, without the first."""
    whole = looks[-1].at
    parts: list[list[Look]] = [[] for _ in range(10)]
    for each in looks:
        parts[min(9, int(10 * each.at / whole))].append(each)
    return parts[1:]


def main() -> None:
    """Print the table; exit with 1 where the process grew."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--minutes", type=float, default=60.0)
    parser.add_argument("--rate", type=int, default=100, help="requests a second")
    options = parser.parse_args()
    rows = max(1, round(options.minutes * 60 * options.rate / NEGATIVES))
    server = [sys.executable, str(TESTS / "server.py"), "--latency", "0.02", "--faults", "0.1", "--kinds", KINDS]
    with tempfile.TemporaryDirectory() as name, subprocess.Popen(server, stdout=subprocess.PIPE, text=True) as serving:
        try:
            place = Path(name)
            write_rows(place / "train.jsonl", rows, 0)
            assert serving.stdout is not None
            url = serving.stdout.readline().strip()
            (place / "soak.yaml").write_text(CASCADE.format(url=url, rate=60 * options.rate), "utf-8")
            looks = watch(place / "train.jsonl", place / "soak.yaml", place / "run")
        finally:
            serving.kill()
    parts = tenths(looks)
    table = Table("minutes", "memory MiB", "file handles", "threads")
    for part in parts:
        figures = (statistics.median(each.memory for each in part), statistics.median(each.handles for each in part))
        threads = statistics.median(each.threads for each in part)
        table.add_row(f"{part[-1].at / 60:.1f}", f"{figures[0]:.1f}", f"{figures[1]:.0f}", f"{threads:.0f}")
    console = Console()
    console.print(table)
    first, last = parts[0], parts[-1]
    grown = statistics.median(each.memory for each in last) / statistics.median(each.memory for each in first)
    more = {
        name: statistics.median(getattr(each, name) for each in last)
        - statistics.median(getattr(each, name) for each in first)
        for name in ("handles", "threads")
    }
    console.print(
        f"{rows * NEGATIVES:,} pairs; last tenth beside the second: memory × {grown:.3f} (at most {MEMORY}),"
        f" file handles {more['handles']:+.0f}, threads {more['threads']:+.0f} (at most +{HANDLES})"
    )
    sys.exit(grown > MEMORY or max(more.values()) > HANDLES)


if __name__ == "__main__":
    main()
