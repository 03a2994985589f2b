"""How fast is everything but the judge: a run with a judge that answers at once, beside a bare loop.

Made-up Tevatron rows (a query, one positive, 20 negatives of some 300 characters) go through a bare loop, which parses,
hashes, inserts into SQLite and writes, and through `pipeline.run`. Each measurement is a process of its own, so
that its peak memory is its own. A machine has good and bad minutes: trust the ratios.
"""

import argparse
import json
import os
import random
import resource
import sqlite3
import subprocess
import sys
import tempfile
import time
from hashlib import blake2b
from multiprocessing import Process
from pathlib import Path
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator

    from relabel.records import Case

NEGATIVES = 20
COPIES = 5
"""One row in so many has a copy of its positive among the negatives."""

SOURCES = ("msmarco", "nq", "hotpotqa", "fiqa", "scifact")
SYLLABLES = ("ba", "ce", "di", "fo", "gu", "je", "ki", "lo", "mu", "na", "qui", "stra", "pli", "onde", "ment", "tion")
ACCENTS = ("é", "ñ", "ß", "検索", "й")

BARE = "bare loop"
ONE = "relabel, one stage"
TWO = "relabel, rules then a judge"
STAGES = {
    ONE: "stages: [{judge: rules, name: instant}]",
    TWO: "stages: [{judge: rules, sample: 0.05}, {judge: rules, name: instant}]",
}

RATE = 15_000
STEADY = 0.8
GROWTH = 1.1
"""What is demanded: pairs a second at the larger size, its rate over the smaller one's, its peak over the smaller's."""


def write_rows(path: Path, pairs: int, seed: int) -> None:
    """Write as many rows as make `pairs` pairs; the same seed gives the same bytes."""
    dice = random.Random(seed)
    words = ["".join(dice.choices(SYLLABLES, k=dice.randint(1, 4))) for _ in range(20_000)]
    words[::100] = [word + dice.choice(ACCENTS) for word in words[::100]]
    sentences = [" ".join(dice.choices(words, k=dice.randint(8, 16))).capitalize() + "." for _ in range(50_000)]

    def passage(number: int) -> dict[str, str]:
        title = " ".join(dice.choices(words, k=3)) if number % 3 else ""
        return {"docid": str(number), "title": title, "text": " ".join(dice.choices(sentences, k=4))}

    with path.open("w", encoding="utf-8") as file:
        for row in range(pairs // NEGATIVES):
            first = row * (NEGATIVES + 1)
            positive, *negatives = [passage(first + index) for index in range(NEGATIVES + 1)]
            if row % COPIES == 0:
                negatives[dice.randrange(NEGATIVES)] = dict(positive, docid=f"{first}-copy")
            content = {
                "query_id": f"q{row}",
                "query": f"{' '.join(dice.choices(words, k=8))}?",
                "positive_passages": [positive],
                "negative_passages": negatives,
                "subset": dice.choice(SOURCES),
            }
            file.write(json.dumps(content, ensure_ascii=False) + "\n")


class InstantJudge:
    """Labels a pair by its hash: 85 % irrelevant, 8 % relevant, 4 % partial, 3 % without a label."""

    def __init__(self) -> None:
        from relabel.records import Judgment

        self._words = (
            *[Judgment("irrelevant", probability=0.9)] * 218,
            *[Judgment("relevant", probability=0.8)] * 20,
            *[Judgment("partial", probability=0.6)] * 10,
            *[Judgment(None, "unreadable")] * 8,
        )

    def judge(self, cases: "Iterable[Case]") -> "Iterator[Case]":
        """Yield each case at once."""
        for case in cases:
            yield case.judged(tuple([self._words[pair.key[0]] for pair in case.pairs]))


def run_bare(path: Path, folder: Path) -> None:
    """Parse, hash, insert, write: what no tool of this kind can do without."""
    folder.mkdir()
    connection = sqlite3.connect(folder / "bare.sqlite")
    connection.execute("PRAGMA journal_mode = WAL")
    connection.execute("PRAGMA synchronous = NORMAL")
    connection.execute("CREATE TABLE words (query BLOB, candidate BLOB, label TEXT, PRIMARY KEY (query, candidate))")
    last = time.monotonic()
    with path.open(encoding="utf-8") as lines, (folder / "out.jsonl").open("w", encoding="utf-8") as out:
        for line in lines:
            row = json.loads(line)
            query = blake2b(row["query"].encode(), digest_size=16).digest()
            connection.executemany(
                "INSERT OR REPLACE INTO words VALUES (?, ?, ?)",
                [
                    (query, blake2b((each["title"] + each["text"]).encode(), digest_size=16).digest(), "irrelevant")
                    for each in row["negative_passages"]
                ],
            )
            if time.monotonic() - last > 0.05:
                connection.commit()
                last = time.monotonic()
            out.write(json.dumps(row, ensure_ascii=False) + "\n")
    connection.commit()
    connection.close()


def run_relabel(path: Path, folder: Path, stages: str) -> None:
    """Do the whole job, as `relabel run` does it."""
    from relabel import config, pipeline, sources

    summary = pipeline.run(
        sources.open_source(path), config.parse(stages), folder, judges={"instant": InstantJudge()}
    )  # fmt: skip
    passages = summary.statistics["passages"]
    assert passages["in"] == sum(count for name, count in passages.items() if name != "in")


def measure(what: str, path: Path, folder: Path) -> None:
    """Do one job and print what it took, as JSON."""
    started = time.monotonic()
    if what == BARE:
        run_bare(path, folder)
    else:
        run_relabel(path, folder, STAGES[what])
    seconds = time.monotonic() - started
    used = resource.getrusage(resource.RUSAGE_SELF)
    unit = 2**20 if sys.platform == "darwin" else 2**10
    print(json.dumps({"seconds": seconds, "cpu": used.ru_utime + used.ru_stime, "peak": used.ru_maxrss / unit}))


def measured(what: str, path: Path, work: Path) -> dict[str, Any]:
    """Measure in a process of its own."""
    with tempfile.TemporaryDirectory(dir=work) as folder:
        command = [sys.executable, __file__, "--measure", what, str(path), f"{folder}/run"]
        done = subprocess.run(command, check=True, stdout=subprocess.PIPE, text=True)
    result: dict[str, Any] = json.loads(done.stdout)
    return result


def verdict(name: str, value: float, demand: str, *, holds: bool) -> bool:
    """Print a figure beside what is demanded of it."""
    print(f"{name:<44}{value:>10,.2f}   {demand:<18}{'holds' if holds else 'FAILS'}")
    return holds


def main() -> int:
    """Print one table; 0 when the demands hold, 1 when not."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--pairs", type=int, nargs=2, default=[100_000, 1_000_000], metavar=("SMALL", "LARGE"))
    parser.add_argument("--work", type=Path, help="where to make a temporary folder (1.5 kB for each pair)")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--measure", nargs=3, metavar=("WHAT", "INPUT", "FOLDER"), help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.measure:
        what, path, folder = options.measure
        measure(what, Path(path), Path(folder))
        return 0
    print(f"{os.cpu_count()} cores, Python {sys.version.split()[0]}, SQLite {sqlite3.sqlite_version}")
    print(f"{'':<30}{'pairs':>10}{'seconds':>9}{'CPU s':>8}{'pairs/s':>9}{'× bare':>8}{'peak MB':>9}{'load':>6}")
    rates: dict[tuple[str, int], float] = {}
    peaks: dict[tuple[str, int], float] = {}
    if options.work:
        options.work.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(prefix="spine-", dir=options.work) as work:
        for pairs in options.pairs:
            path = Path(work) / "rows.jsonl"
            writer = Process(target=write_rows, args=(path, pairs, options.seed))
            writer.start()  # a process of its own: the peak of a child is never below that of the parent that starts it
            writer.join()
            for what in (BARE, ONE, TWO):
                found = measured(what, path, Path(work))
                rate = rates[what, pairs] = pairs / found["seconds"]
                peaks[what, pairs] = found["peak"]
                print(
                    f"{what:<30}{pairs:>10,}{found['seconds']:>9.1f}{found['cpu']:>8.1f}{rate:>9,.0f}"
                    f"{rate / rates[BARE, pairs]:>8.2f}{found['peak']:>9.0f}{os.getloadavg()[0]:>6.1f}",
                    flush=True,
                )
    small, large = options.pairs
    steady, growth = rates[ONE, large] / rates[ONE, small], peaks[ONE, large] / peaks[ONE, small]
    print()
    held = [
        verdict(f"pairs/s at {large:,}", rates[ONE, large], f"at least {RATE:,}", holds=rates[ONE, large] >= RATE),
        verdict(f"rate at {large:,} ÷ at {small:,}", steady, f"at least {STEADY}", holds=steady >= STEADY),
        verdict(f"peak memory at {large:,} ÷ at {small:,}", growth, f"at most {GROWTH}", holds=growth <= GROWTH),
    ]
    return 0 if all(held) else 1


if __name__ == "__main__":
    sys.exit(main())
