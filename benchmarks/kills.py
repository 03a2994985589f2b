"""Is a run that is killed over and over the same as one that never was, and what does a kill cost?

Made-up rows go through a cascade of rules and two LLM stages against a local server whose answers depend on the prompt
alone. The run is killed with SIGKILL at random moments, in start-up, judging and writing alike, and started again until
it ends; then the next one is, until there were enough kills. What each leaves must be, byte for byte, what an unbroken
run leaves, and the server's own count of answers says what was paid for twice: at most what was in flight.
"""

import argparse
import json
import random
import subprocess
import sys
import tempfile
import time
import urllib.request
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from rich.console import Console
from rich.table import Table

TESTS = Path(__file__).resolve().parents[1] / "tests"
RESULTS = ("cleaned.jsonl", "flagged.csv", "changes.jsonl", "statistics.json")
CONCURRENCY = 8
PER_KILL = {"openai": 2 * 2 * CONCURRENCY, "openai_batch": 0}
"""What one kill may cost. At an API in each of two stages each connection has a request in flight, and an answer that
is not yet committed (an answer takes longer than the time between two commits). By batches nothing is lost."""

CASCADE = """\
stages:
  - judge: rules
  - judge: llm
    name: cheap
    prompt: relevance
    sample: 0.1
    engine: {{kind: {kind}, model: fake, base_url: {url}, {limits}}}
  - judge: llm
    name: strong
    prompt: rlhn
    sample: 0.2
    engine: {{kind: {kind}, model: fake-strong, base_url: {url}, {limits}}}
"""
LIMITS = {"openai": f"concurrency: {CONCURRENCY}", "openai_batch": "max_requests: 40, poll_seconds: 0.05"}
SERVERS = {
    "openai": [str(TESTS / "server.py"), "--latency", "0.06", "--faults", "0"],
    "openai_batch": [str(TESTS / "batch_server.py"), "--seconds", "0.2", "--late", "0.1"],
}
NAMES = {"openai": "API", "openai_batch": "Batch API"}


@dataclass(frozen=True, slots=True)
class Outcome:
    """What came of one path: kills, runs that came to their end between them, how many of these differed.

    Attributes:
        distinct: contents that an unbroken run asks.
        answered: answers that the server gave while runs were killed.
        allowed: answers given twice that a kill may cost.
    """

    path: str
    kills: int
    runs: int
    different: int
    distinct: int
    answered: int
    seconds: float
    allowed: int

    @property
    def twice(self) -> int:
        """Answers that were given although an earlier one was there."""
        return self.answered - self.runs * self.distinct

    @property
    def holds(self) -> bool:
        """Whether all runs were the same, and nothing was paid for twice but what was in flight."""
        return self.different == 0 and self.twice <= self.kills * self.allowed


def write_rows(path: Path, rows: int, seed: int) -> None:
    """Write Tevatron rows of six negatives each; the same seed gives the same bytes."""
    dice = random.Random(seed)
    words = [f"{dice.choice('bcdfgklm')}{dice.choice('aeiou')}{number}" for number in range(2000)]

    def passage(number: int) -> dict[str, str]:
        return {"docid": str(number), "title": "", "text": " ".join(dice.choices(words, k=20))}

    with path.open("w", encoding="utf-8") as file:
        for row in range(rows):
            positive, *negatives = [passage(7 * row + place) for place in range(7)]
            content = {
                "query_id": f"q{row}", "query": " ".join(dice.choices(words, k=6)),
                "positive_passages": [positive], "negative_passages": negatives, "subset": "made-up",
            }  # fmt: skip
            file.write(json.dumps(content) + "\n")


@contextmanager
def serving(kind: str) -> Iterator[str]:
    """Start the local server in a process; give its address."""
    process = subprocess.Popen([sys.executable, *SERVERS[kind]], stdout=subprocess.PIPE, text=True)
    try:
        assert process.stdout is not None
        yield process.stdout.readline().strip()
    finally:
        process.kill()
        process.wait()


def answered(url: str) -> dict[str, int]:
    """Return how many answers the server gave, by content."""
    with urllib.request.urlopen(url.removesuffix("/v1") + "/stats") as answer:  # noqa: S310 - our own server
        told = json.load(answer)
    return {name: int(times) for name, times in told.get("by_content", told.get("billed", {})).items()}


def start(source: Path, config: Path, folder: Path) -> "subprocess.Popen[bytes]":
    """Start a run, or start it again."""
    command = [sys.executable, "-m", "relabel", "run", str(source), "-c", str(config), "-q", "-o", str(folder)]
    return subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE)


def ended(process: "subprocess.Popen[bytes]") -> None:
    """Refuse an end that is none of ours."""
    _, said = process.communicate()
    if process.returncode:
        sys.exit(f"a run ended with {process.returncode}: {said.decode('utf-8', 'replace')}")


def results(folder: Path) -> dict[str, bytes]:
    """Return what a run wrote."""
    return {name: (folder / name).read_bytes() for name in RESULTS}


def measure(kind: str, kills: int, rows: int, seed: int, place: Path) -> Outcome:
    """Kill runs until there were enough kills, and let the last one come to its end."""
    dice, begun = random.Random(seed), time.monotonic()
    source = place / "train.jsonl"
    write_rows(source, rows, seed)
    with serving(kind) as url:
        config = place / f"{kind}.yaml"
        config.write_text(CASCADE.format(url=url, kind=kind, limits=LIMITS[kind]), "utf-8")
        started = time.monotonic()
        ended_well = start(source, config, place / f"{kind}-unbroken")
        ended(ended_well)
        whole = time.monotonic() - started
        unbroken = results(place / f"{kind}-unbroken")
        before = answered(url)
        done = runs = different = 0
        while done < kills or runs == 0:
            folder = place / f"{kind}-{runs}"
            process = start(source, config, folder)
            try:
                process.wait(dice.uniform(0, 0.5 * whole) if done < kills else None)
            except subprocess.TimeoutExpired:
                process.kill()
                process.communicate()
                done += 1
                continue
            ended(process)
            runs += 1
            different += results(folder) != unbroken
        if process.returncode != 0:  # the last one was killed: let it come to its end
            ended(start(source, config, folder))
            runs += 1
            different += results(folder) != unbroken
        after = answered(url)
    total = sum(after.values()) - sum(before.values())
    return Outcome(NAMES[kind], done, runs, different, len(before), total, time.monotonic() - begun, PER_KILL[kind])


def main() -> None:
    """Print the table; exit with 1 where the promise does not hold."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--kills", type=int, default=100, help="for each path")
    parser.add_argument("--rows", type=int, default=120, help="training rows of six negatives")
    parser.add_argument("--path", choices=["openai", "openai_batch"], action="append", help="both without")
    parser.add_argument("--seed", type=int, default=0)
    options = parser.parse_args()
    outcomes = []
    for kind in options.path or LIMITS:
        with tempfile.TemporaryDirectory() as folder:
            outcomes.append(measure(kind, options.kills, options.rows, options.seed, Path(folder)))
    table = Table("path", "kills", "runs ended", "different", "requests of a run", "answered", "twice", "a kill", "s")
    for each in outcomes:
        counts = (each.kills, each.runs, each.different, each.distinct, each.answered, each.twice)
        shown = [f"{count:,}" for count in counts]
        table.add_row(each.path, *shown, f"{each.twice / max(each.kills, 1):.1f}", f"{each.seconds:.0f}")
    console = Console()
    console.print(table)
    allowed = ", ".join(f"{each.allowed} by {each.path}" for each in outcomes)
    console.print(f"demanded: none different, and at most so many answers a kill given twice: {allowed}")
    sys.exit(not all(each.holds for each in outcomes))


if __name__ == "__main__":
    main()
