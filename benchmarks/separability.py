"""Does the separability test see what is artificial, and keep quiet about what is not?

Mined negatives of a training file (the project's own sample without another) are mixed with passages that are made of
the same file, in ways from obvious to slight, and a query-blind classifier tells one from the other. Then, many times,
the mined negatives alone are split at random: there is nothing to see, so the AUC should lie about .5, and about 95 of
100 intervals should include it. Exits with 1 where an obvious set is not seen (AUC ≤ .9), or where the share of
intervals that include .5 is not 95 % for all that so many splits can show.
"""

import argparse
import json
import random
import sys
import tempfile
import time
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any, Final

from relabel.bootstrap import Figure
from relabel.synthesis.perturbing import KINDS, perturb
from relabel.synthesis.separability import LIMIT, Separability, separability

SAMPLE: Final = Path(__file__).parent.parent / "data" / "sample.jsonl"
SOURCE: Final = """\
--data takes a training file with "query_id", "positive_passages" and "negative_passages" in each row (Tevatron).
--scifact takes a BEIR folder with judgments for training, such as scifact of
https://public.ukp.informatik.tu-darmstadt.de/thakur/BEIR/datasets/scifact.zip; its negatives are mined by BM25.
"""
OPENING: Final = "As a helpful assistant, I would like to point out that this topic is complex. "
OBVIOUS: Final = ("a chat bot's opening", "a template about the query")

Row = dict[str, Any]
Made = Iterator[tuple[str, str, bool]]


def text_of(passage: Row) -> str:
    """Return title and text."""
    return f"{passage.get('title', '')} {passage['text']}".strip()


def mined(rows: Sequence[Row]) -> Made:
    """Yield the mined negatives as (text, query, whether it is synthetic)."""
    for row in rows:
        for passage in row["negative_passages"]:
            yield text_of(passage), row["query_id"], False


def opened(rows: Sequence[Row]) -> Made:
    """Put an opening before every third negative."""
    for place, (text, query, _) in enumerate(mined(rows)):
        yield (f"{OPENING}{text}", query, True) if place % 3 == 0 else (text, query, False)


def templated(rows: Sequence[Row]) -> Made:
    """Add two passages to every row that a template makes of the query's words."""
    yield from mined(rows)
    for row in rows:
        for tone in ("widely discussed", "often misunderstood"):
            yield f"{row['query']} This question is {tone}, and experts have shared many views.", row["query_id"], True


def of_positives(kinds: Sequence[str]) -> Callable[[Sequence[Row]], Made]:
    """Return what adds up to two perturbed positives to every row."""

    def make(rows: Sequence[Row]) -> Made:
        yield from mined(rows)
        for row in rows:
            for passage in row["positive_passages"][:1]:
                for each in perturb(text_of(passage), dice=row["query_id"], kinds=kinds, most=2):
                    yield each.text, row["query_id"], True

    return make


def of_negatives(rows: Sequence[Row]) -> Made:
    """Perturb every third negative in its place: topic, length and style are those of the mined ones."""
    for place, (text, query, _) in enumerate(mined(rows)):
        changed = perturb(text, dice=query) if place % 3 == 0 else []
        yield (changed[0].text, query, True) if changed else (text, query, False)


SETS: Final[dict[str, Callable[[Sequence[Row]], Made]]] = {
    OBVIOUS[0]: opened,
    OBVIOUS[1]: templated,
    "perturbed positives": of_positives(KINDS),
    **{f"perturbed positives, {kind}": of_positives((kind,)) for kind in KINDS},
    "perturbed negatives": of_negatives,
}


def judged(made: Made, seed: int = 42) -> Separability:
    """Run the test."""
    texts, queries, marks = zip(*made, strict=True)
    return separability(texts, marks, queries, seed=seed)


def written(figure: Figure) -> str:
    """Return a figure with its interval."""
    ends = "" if figure.low is None else f" ({figure.low:.2f}–{figure.high:.2f})"
    return "–" if figure.value is None else f"{figure.value:.2f}{ends}"


def sets(rows: Sequence[Row]) -> bool:
    """Print a line for each set; return whether the obvious ones were seen."""
    print(
        f"{'synthetic passages':<32}{'synthetic':>10}{'mined':>7}  {'AUC (95 %)':<20}{'warning':<9}words that give away"
    )
    seen = True
    for name, make in SETS.items():
        found = judged(make(rows))
        words = ", ".join(f"{each.word} {each.z:+.0f}" for each in found.artefacts[:4]) or "–"
        warned = "yes" if found.warning else "no"
        print(f"{name:<32}{found.synthetic:>10,}{found.mined:>7,}  {written(found.auc):<20}{warned:<9}{words}")
        seen &= name not in OBVIOUS or (found.auc.value or 0) > 0.9
    return seen


def splits(rows: Sequence[Row], count: int) -> bool:
    """Print what random splits of mined negatives give; return whether their intervals hold .5 as often as they say."""
    from scipy.stats import binomtest

    began = time.perf_counter()
    values, widths, held, warned, words = [], [], 0, 0, 0
    for seed in range(count):
        dice = random.Random(seed)
        found = judged(((text, query, dice.random() < 0.5) for text, query, _ in mined(rows)), seed)
        auc = found.auc
        if auc.value is None or auc.low is None or auc.high is None:
            print("too few passages for a random split", file=sys.stderr)
            return False
        values.append(auc.value)
        widths.append(auc.high - auc.low)
        held += auc.low <= 0.5 <= auc.high
        warned += auc.value > LIMIT
        words += bool(found.artefacts)
        if seed == 0:
            print(f"\none random split of the mined negatives: AUC {written(auc)}")
    share = binomtest(held, count).proportion_ci()
    mean = sum(values) / count
    print(
        f"{count} random splits: AUC {mean:.3f} on average ({min(values):.2f} to {max(values):.2f}); interval"
        f" {sum(widths) / count:.2f} wide; .5 in {held} of {count} intervals = {held / count:.1%}"
        f" ({share.low:.1%}–{share.high:.1%}); warnings {warned}; splits with a word that gives away {words} (5 %"
        f" at most are expected); {(time.perf_counter() - began) / count:.2f} s a split"
    )
    return bool(share.low <= 0.95 <= share.high or held / count >= 0.95)


def scifact(folder: Path) -> list[Row]:
    """Return training rows of a BEIR folder with negatives that BM25 finds."""
    import relabel

    with tempfile.TemporaryDirectory() as scratch:
        done = relabel.mine(folder, Path(scratch) / "mined", retriever="bm25", num_negatives=4)
        return [json.loads(line) for line in done.rows.read_text("utf-8").splitlines()]


def main() -> int:
    """Print a table for each source of mined negatives."""
    parser = argparse.ArgumentParser(
        description=__doc__, epilog=SOURCE, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--data", type=Path, default=SAMPLE, metavar="FILE", help="a training file, see below")
    parser.add_argument("--scifact", type=Path, metavar="FOLDER", help="a BEIR folder besides, see below")
    parser.add_argument("--splits", type=int, default=200, metavar="N", help="random splits of each (default 200)")
    options = parser.parse_args()
    needed = [options.data, *([options.scifact / "corpus.jsonl"] if options.scifact else [])]
    if missing := [path for path in needed if not path.is_file()]:
        print(f"{missing[0]} is not there; see --help for where to get the data", file=sys.stderr)
        return 2
    rows = [json.loads(line) for line in options.data.read_text("utf-8").splitlines()]
    well = True
    for name, given in (
        (options.data.name, rows),
        *([("scifact", scifact(options.scifact))] if options.scifact else []),
    ):
        print(f"{name}: {len(given):,} queries")
        well &= sets(given)
        well &= splits(given, options.splits)
        print()
    return 0 if well else 1


if __name__ == "__main__":
    sys.exit(main())
