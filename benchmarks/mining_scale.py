"""A large corpus mined on a small machine: made-up vectors, an approximate index, many queries.

The vectors lie in clusters that overlap, near a space of few dimensions, as those of real texts do, and queries near
documents. They go through the same code as those of a model: `relabel.mining.precomputed`, `relabel.mining.dense`.
Each measurement is a process of its own, so that its peak memory is its own: `peak` counts all that is resident, pages
of mapped files too, which the system takes back when it needs them; `own` is what is not such a page. Recall is
measured against the exact comparison with every document.
"""

import argparse
import json
import os
import resource
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from dataclasses import dataclass
from multiprocessing import Process
from pathlib import Path
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from relabel.mining.dense import Dense
    from relabel.mining.searching import Asked

BLOCK = 50_000
STEP = 2_000
"""Vectors that are made at a time, and queries that are asked at a time."""

LATENT = 32
CLUSTERS = 1_000
"""The vectors lie near a space of so many dimensions, in so many clusters that overlap."""

LIMIT = 4096
GROWTH = 1.1
RECALL = 0.95
"""What is demanded: most MB at the peak, own memory at all queries over that at a fifth of them, recall@10."""


@dataclass(frozen=True)
class Vectors:
    """A collection that is nothing but numbers."""

    documents: int
    queries: int
    fingerprint: str

    @property
    def passages(self) -> int:
        """All passages can be found."""
        return self.documents

    def texts(self, first: int = 0, last: int | None = None) -> Iterator[str]:
        """Yield no text: the vectors are there."""
        raise AssertionError((first, last))

    def asked(self, first: int = 0, last: int | None = None) -> "Iterator[Asked]":
        """Yield queries without a text."""
        from relabel.mining.searching import Asked

        return (Asked(number, f"q{number}", "", ()) for number in range(first, self.queries if last is None else last))


def write_vectors(folder: Path, documents: int, queries: int, dimensions: int, seed: int) -> None:
    """Write documents.npy and queries.npy, unit length; the same seed gives the same bytes."""
    import numpy as np
    from numpy.lib.format import open_memmap

    dice = np.random.default_rng(seed)
    scales = (np.arange(1, LATENT + 1) ** -0.25).astype(np.float32)
    centres = scales * dice.standard_normal((CLUSTERS, LATENT), dtype=np.float32)
    spread = dice.standard_normal((LATENT, dimensions), dtype=np.float32)

    def around(points: Any, radius: float) -> Any:
        return points + radius * scales * dice.standard_normal(points.shape, dtype=np.float32)

    def save(name: str, count: int, points_of: Any) -> None:
        file = open_memmap(folder / name, mode="w+", dtype=np.float32, shape=(count, dimensions))
        for first in range(0, count, BLOCK):
            size = min(BLOCK, count - first)
            block = points_of(first, size) @ spread + 0.5 * dice.standard_normal((size, dimensions), dtype=np.float32)
            file[first : first + size] = block / np.linalg.norm(block, axis=1, keepdims=True)
        file.flush()

    kept = np.empty((queries, LATENT), dtype=np.float32)
    places = np.sort(dice.choice(documents, queries, replace=False))

    def near_centres(first: int, size: int) -> Any:
        points = around(centres[dice.integers(0, CLUSTERS, size)], 1.0)
        start, end = np.searchsorted(places, [first, first + size])
        kept[start:end] = points[places[start:end] - first]
        return points

    save("documents.npy", documents, near_centres)
    save("queries.npy", queries, lambda first, size: around(kept[first : first + size], 0.7))


def memory() -> tuple[float, float]:
    """Return the peak of what is resident, and what of this process is in memory now beside mapped files, in MB."""
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / (2**20 if sys.platform == "darwin" else 2**10)
    status = Path("/proc/self/status")
    lines = status.read_text(encoding="ascii").splitlines() if status.exists() else []
    own = next((int(line.split()[1]) / 2**10 for line in lines if line.startswith("RssAnon")), peak)
    return peak, own


def measure(what: str, folder: Path, options: argparse.Namespace) -> dict[str, float]:
    """Do one job in this process."""
    from relabel.mining.dense import Dense
    from relabel.mining.indexes import IndexSettings
    from relabel.mining.precomputed import Precomputed

    settings = IndexSettings(
        kind=options.index, precision=options.precision, threads=options.threads, nprobe=options.nprobe
    )
    files = Precomputed(folder / "documents.npy", folder / "queries.npy")
    dense = Dense("dense", files, folder, settings)
    collection = Vectors(options.documents, options.queries, "made-up")
    started = time.monotonic()
    dense.prepare(collection, lambda *_: None)
    peak, own = memory()
    prepared = time.monotonic() - started
    if what == "build":
        return {"seconds": prepared, "peak": peak, "own": own}
    started = time.monotonic()
    found = recall_of(dense, collection, options) if what == "recall" else {}
    if what.startswith("search"):
        own = search(dense, collection, int(what.split()[1]), options.depth)
    return {"seconds": time.monotonic() - started, "peak": memory()[0], "own": own, **found}


def search(dense: "Dense", collection: Vectors, queries: int, depth: int) -> float:
    """Ask so many queries; return the most own memory that was seen."""
    own = 0.0
    for first in range(0, queries, STEP):
        asked = list(collection.asked(first, min(first + STEP, queries)))
        hits = dense.search(asked, depth)
        assert len(hits) == len(asked)
        assert all(len(hit.numbers) == depth for hit in hits)
        own = max(own, memory()[1])
    return own


def recall_of(dense: "Dense", collection: Vectors, options: argparse.Namespace) -> dict[str, float]:
    """Return recall@10 and that at the depth, over a sample of the queries at even distances."""
    apart = max(1, options.queries // options.sample)
    asked = [one for one in collection.asked() if one.number % apart == 0][: options.sample]
    ten, all_of_them = dense.recall(asked, 10), dense.recall(asked, options.depth)
    return {"recall10": ten.value, "recall": all_of_them.value, "sample": ten.queries}


def measured(what: str, folder: Path) -> dict[str, float]:
    """Measure in a process of its own, with the options of this one."""
    command = [sys.executable, __file__, *sys.argv[1:], "--measure", what, str(folder)]
    done = subprocess.run(command, check=True, stdout=subprocess.PIPE, text=True)
    result: dict[str, float] = json.loads(done.stdout)
    return result


def verdict(name: str, value: float, demand: str, *, holds: bool) -> bool:
    """Print a figure beside what is demanded of it."""
    print(f"{name:<52}{value:>10,.3f}   {demand:<18}{'holds' if holds else 'FAILS'}")
    return holds


def main() -> int:
    """Print one table; 0 when the demands hold, 1 when not."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--documents", type=int, default=1_000_000)
    parser.add_argument("--queries", type=int, default=50_000)
    parser.add_argument("--dimensions", type=int, default=384)
    parser.add_argument("--depth", type=int, default=100)
    parser.add_argument("--sample", type=int, default=1_000, help="queries that recall is measured on")
    parser.add_argument("--index", default="auto", help="auto, flat, ivf or hnsw")
    parser.add_argument("--precision", default="float16", help="float32, float16 or pq")
    parser.add_argument("--nprobe", type=int, default=0)
    parser.add_argument("--threads", type=int, default=0)
    parser.add_argument("--work", type=Path, help="where to make a temporary folder (1.5 kB and .8 kB a document)")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--measure", nargs=2, metavar=("WHAT", "FOLDER"), help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.measure:
        what, folder = options.measure
        print(json.dumps(measure(what, Path(folder), options)))
        return 0
    few = options.queries // 5
    jobs = ["build", f"search {few}", f"search {options.queries}", "recall"]
    print(
        f"{options.documents:,} documents, {options.dimensions} dimensions, {options.queries:,} queries, depth"
        f" {options.depth}; index {options.index}, {options.precision}; {os.cpu_count()} cores"
    )
    print(f"{'':<24}{'seconds':>9}{'queries/s':>11}{'peak MB':>9}{'own MB':>9}{'load':>6}")
    found: dict[str, dict[str, float]] = {}
    if options.work:
        options.work.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(prefix="mining-", dir=options.work) as work:
        arguments = (Path(work), options.documents, options.queries, options.dimensions, options.seed)
        writer = Process(target=write_vectors, args=arguments)
        writer.start()  # a process of its own: the peak of a child is never below that of the parent that starts it
        writer.join()
        for what in jobs:
            one = found[what] = measured(what, Path(work))
            rate = f"{int(what.split()[1]) / one['seconds']:,.0f}" if what.startswith("search") else ""
            print(
                f"{what:<24}{one['seconds']:>9.1f}{rate:>11}{one['peak']:>9,.0f}{one['own']:>9,.0f}"
                f"{os.getloadavg()[0]:>6.1f}",
                flush=True,
            )
        size = sum(path.stat().st_size for path in Path(work).glob("*.faiss")) / 2**20
    print(f"index on disk: {size:,.0f} MB\n")
    peak = max(one["peak"] for one in found.values())
    growth = found[jobs[2]]["own"] / found[jobs[1]]["own"]
    recall, sample = found["recall"], int(found["recall"]["sample"])
    ten = recall["recall10"]
    print(f"recall@{options.depth} against flat, of {sample:,} queries: {recall['recall']:.4f}")
    held = [
        verdict(f"recall@10 against flat, of {sample:,} queries", ten, f"at least {RECALL}", holds=ten >= RECALL),
        verdict("peak MB of all", peak, f"at most {LIMIT:,}", holds=peak <= LIMIT),
        verdict(
            f"own MB at {options.queries:,} ÷ at {few:,} queries", growth, f"at most {GROWTH}", holds=growth <= GROWTH
        ),
    ]
    return 0 if all(held) else 1


if __name__ == "__main__":
    sys.exit(main())
