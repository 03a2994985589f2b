"""Judge 20,000 pairs at a server where 30 % of the contents go wrong and at least twice its limit is offered.

The server is tests/server.py, a process of its own on this machine. A content (one prompt) that goes wrong meets one
fault of every kind that is tried again or that is a matter of its request, by a hash. The server refuses what is
above its limit with HTTP 429 and Retry-After in milliseconds, in seconds or as a date. The run must say of every pair
what it is or why not, no content may be answered with 200 twice but those whose reply was torn on the way (the
connection dropped in the middle of it), and the time must be within SLOWEST (1.15) of the ideal:

    ideal = requests that the limit must let through / limit a second

The requests that must be let through are one for each content and one more for each fault that goes away when asked
again. A 429 takes nothing from the limit, so a perfectly paced run needs that time and no less. Asked of the limit is
only the part of the run from the first request to the last.
"""

import argparse
import json
import math
import random
import subprocess
import sys
import tempfile
import time
import urllib.request
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from relabel import config, pipeline, sources

SERVER = Path(__file__).resolve().parent.parent / "tests" / "server.py"
AGAIN = ("rate limit ms", "rate limit bare", "timeout", "conflict", "error", "page", "hang", "cut", "reset")
"""Faults that go away. A 429 that is not from the limit says 30 ms or nothing: a longer Retry-After holds everybody."""

STAY = (
    "refusal", "broken", "length", "filter", "empty", "no content", "no json", "page in 200", "error in 200", "list",
    "too long", "filtered", "moderated", "bad request", "bad fields", "too large", "large", "usage", "no usage",
)  # fmt: skip
JUDGED = ("usage", "no usage")
TORN = "cut"
SLOWEST = 1.15
"""What is demanded: how many times as long as the ideal it may take."""


@dataclass(frozen=True, slots=True)
class Shape:
    """How large a chaos is.

    Attributes:
        pairs: to be judged, each in a request of its own.
        rate: requests a second that the server lets through.
        share: of the contents that go wrong.
        headers: whether the server says how much of its limit is left.
        concurrency: requests in flight.
        latency: seconds before each answer.
        timeout: seconds after which an attempt that hangs is given up.
    """

    pairs: int = 20_000
    rate: float = 150.0
    share: float = 0.3
    headers: bool = True
    concurrency: int = 32
    latency: float = 0.05
    timeout: float = 2.0

    @property
    def offered(self) -> float:
        """Requests a second that would be sent without a limit: as many as are in flight, each as long as it takes."""
        hanging = self.share * (AGAIN + STAY).count("hang") / len(AGAIN + STAY)
        return self.concurrency / (self.latency + hanging * self.timeout)


@dataclass(frozen=True, slots=True)
class Result:
    """What came of it.

    Attributes:
        judged, undecided: pairs.
        requests: all that the server got; `refused` of them were above its limit.
        surplus: requests that were let through and need not have been sent.
        torn: contents whose reply was dropped half-way, and which were answered again.
        twice: other contents that were answered with 200 more than once.
        none: pairs without a word, by reason.
        seconds: of the run.
        ideal: seconds that the limit allows.
    """

    judged: int
    undecided: int
    requests: int
    refused: int
    surplus: int
    torn: int
    twice: int
    none: dict[str, int]
    seconds: float
    ideal: float


@contextmanager
def serving(shape: Shape, seed: int) -> Iterator[str]:
    """Run the server as a process; give its address."""
    command = [sys.executable, str(SERVER), "--faults", str(shape.share), "--kinds", ",".join(AGAIN + STAY)]
    command += ["--seed", str(seed), "--latency", str(shape.latency), "--requests-per-minute", str(shape.rate * 60)]
    command += [] if shape.headers else ["--no-headers"]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as process:
        try:
            assert process.stdout is not None
            yield process.stdout.readline().strip()
        finally:
            process.terminate()


def training_file(path: Path, pairs: int, seed: int) -> Path:
    """Write rows of five candidates, each pair with texts of its own."""
    dice = random.Random(seed)

    def words(count: int) -> str:
        return " ".join(f"w{dice.randrange(10**6)}" for _ in range(count))

    with path.open("w", encoding="utf-8") as file:
        for row in range(pairs // 5):
            good = [{"docid": f"p{row}", "title": "", "text": words(20)}]
            bad = [{"docid": f"n{row}-{place}", "title": "", "text": words(20)} for place in range(5)]
            query = {"query_id": f"q{row}", "query": words(6)}
            file.write(json.dumps(query | {"positive_passages": good, "negative_passages": bad}) + "\n")
    return path


def measure(shape: Shape, folder: Path, seed: int = 0) -> Result:
    """Run it once.

    Raises:
        RuntimeError: something was lost or paid twice.
    """
    with serving(shape, seed) as url:
        engine: dict[str, Any] = {"kind": "openai", "model": "fake", "base_url": url, "timeout": shape.timeout}
        stage = {"judge": "llm", "name": "llm", "prompt": "relevance", "engine": engine}
        engine["concurrency"] = shape.concurrency
        settings = config.parse(json.dumps({"stages": [stage]}))
        source = sources.open_source(training_file(folder / "train.jsonl", shape.pairs, seed))
        started = time.monotonic()
        done = pipeline.run(source, settings, folder / "run")
        seconds = time.monotonic() - started
        with urllib.request.urlopen(url.removesuffix("/v1") + "/stats") as answer:  # noqa: S310 - our own server
            stats = json.load(answer)
    [told] = done.statistics["stages"]
    judged = told["relevant"] + told["partial"] + told["irrelevant"]
    if judged + sum(told["none"].values()) != shape.pairs or judged + done.undecided != shape.pairs:
        raise RuntimeError(f"of {shape.pairs} pairs {judged} are judged and {told['none']} are none")
    must = shape.pairs + stats["again"]
    return Result(
        judged=judged,
        undecided=done.undecided,
        requests=stats["total"],
        refused=stats["refused"],
        surplus=stats["total"] - stats["refused"] - must,
        torn=len(+Counter(stats["torn"])),
        twice=sum(times - stats["torn"].get(key, 0) > 1 for key, times in stats["paid"].items()),
        none=dict(told["none"]),
        seconds=seconds,
        ideal=must / shape.rate,
    )


def table(shape: Shape, result: Result) -> str:
    """Return the result as lines."""
    reasons = ", ".join(f"{reason} {count:,}" for reason, count in sorted(result.none.items()))
    told = "told in headers" if shape.headers else "not told"
    lines = [
        f"offered {shape.offered:.0f} requests/s, limit {shape.rate:.0f}/s ({told}), {shape.share:.0%} of contents bad",
        f"{'pairs judged':<34}{result.judged:>10,}",
        f"{'pairs none, each with its reason':<34}{result.undecided:>10,}   {reasons}",
        f"{'requests':<34}{result.requests:>10,}",
        f"{'  refused above the limit':<34}{result.refused:>10,}   {result.refused / result.requests:.1%}",
        f"{'  let through without need':<34}{result.surplus:>10,}",
        f"{'contents answered again, torn':<34}{result.torn:>10,}",
        f"{'contents answered twice':<34}{result.twice:>10,}",
        f"{'seconds':<34}{result.seconds:>10.1f}",
        f"{'ideal seconds':<34}{result.ideal:>10.1f}",
        f"{'ratio':<34}{result.seconds / result.ideal:>10.3f}",
        f"{f'demanded: at most {SLOWEST}':<34}{'held' if result.seconds <= SLOWEST * result.ideal else 'missed':>10}",
    ]
    return "\n".join(lines)


def main() -> None:
    """Run it and print what came of it; exit with 1 when something is not as it must be."""
    usual = Shape()
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--pairs", type=int, default=usual.pairs)
    parser.add_argument("--rate", type=float, default=usual.rate, help="requests/s let through (default: %(default)s)")
    parser.add_argument("--latency", type=float, default=usual.latency, help="seconds (default: %(default)s)")
    parser.add_argument(
        "--concurrency",
        type=int,
        help="default: so many that the rate is a quarter of what an idle"
        " machine would send, so that a busy one still offers twice the rate",
    )
    parser.add_argument("--no-headers", action="store_true", help="the server does not say how much is left")
    parser.add_argument("--seed", type=int, default=0)
    options = parser.parse_args()
    shape = Shape(options.pairs, options.rate, latency=options.latency, concurrency=1, headers=not options.no_headers)
    shape = replace(shape, concurrency=options.concurrency or math.ceil(4 * options.rate / shape.offered))
    with tempfile.TemporaryDirectory() as folder:
        result = measure(shape, Path(folder), options.seed)
    print(table(shape, result))
    if result.twice or result.surplus:
        sys.exit("a content was asked or answered without need")


if __name__ == "__main__":
    main()
