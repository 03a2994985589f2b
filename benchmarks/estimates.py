"""Do the intervals of `relabel audit estimate` hold, and how many labels does each design save?

The truth is known: a made population (2,000 queries, about 20,000 pairs; queries, sources and ranks differ in how many
negatives are false; a cheap judge, and a strong one that sees what the cheap one flags), or TREC DL 2019 with NIST's
labels as people. Every design draws many samples; for each the false-negative rate is estimated with its interval.

    cover     share of runs whose 95 % interval holds the truth: .95 ± .02 is what it must be
    width     mean width of the interval
    words     "yes" is the figure as it is printed first, with the judges' words where labels suffice to use them
    need      labels for the width that plain random pairs, without the judges' words, have at -n
"""

import argparse
import csv
import sys
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from relabel.inferring import Known, Labelled, Sample, SampleRow, figures_of
from relabel.records import Judgment, Label, Outcome
from relabel.sampling import Census, Design, Facts, expected_relevance, queries_for, to_dict

SOURCE = """\
The folder for --data holds qrels.tsv (query-id, corpus-id, score; NIST's grades 0-3 of the passages of TREC Deep
Learning 2019) and llm_qrels/ with dl2019_test_4prompts_flant5large.tsv and dl2019_test_4prompts_llama70b.tsv: grades
by LLM judges on the same pairs. NIST's are public at https://trec.nist.gov/data/deep2019.html, the judges' at
https://github.com/naghmefarzi/llmjudge.
"""
CHEAP, STRONG = "dl2019_test_4prompts_flant5large.tsv", "dl2019_test_4prompts_llama70b.tsv"
RATE = "false-negative rate"
ALONE = f"{RATE} (labels alone)"
OUTCOMES: dict[Label | None, Outcome] = {
    "relevant": "false negative", "partial": "partial", "irrelevant": "true negative", None: "undecided",
}  # fmt: skip
DESIGNS = {
    "random": Design("random"),
    "by query": Design("random", "query"),
    "stratified, proportional": Design("stratified", allocation="proportional"),
    "stratified, Neyman": Design("stratified"),
    "active, likely": Design("active", prefer="likely"),
    "active, uncertain": Design("active", prefer="uncertain"),
    "active, disagreed": Design("active", prefer="disagreed"),
    "active, typical": Design("active", prefer="typical"),
}
Floats = NDArray[np.float64]


@dataclass(frozen=True, slots=True)
class Population:
    """A data set whose truth is known: pairs query by query, and what judges said of them."""

    rows: tuple[Labelled, ...]
    words: tuple[tuple[Judgment | None, ...], ...]

    @property
    def truth(self) -> float:
        """The false-negative rate."""
        return sum(row.gold == "relevant" for row in self.rows) / len(self.rows)

    def facts(self, design: Design) -> list[Facts]:
        """Return what a design sees."""
        strata = [row.outcome if design.strata and design.kind == "stratified" else "" for row in self.rows]
        labels = [tuple([(word.label or "") if word else "" for word in words]) for words in self.words]
        return [
            Facts(row.pair, row.query, row.expected, said, stratum)
            for row, said, stratum in zip(self.rows, labels, strata, strict=True)
        ]


def population(seed: int, queries: int) -> Population:
    """Make one: the chance of a false negative differs by source and query, and falls with the rank."""
    rng = np.random.default_rng(seed)
    sizes = rng.integers(3, 18, queries)
    query = np.repeat(np.arange(queries), sizes)
    rank = np.concatenate([np.arange(size) for size in sizes])
    source = rng.integers(0, 3, queries)
    strength = np.array([-0.8, 0.0, 0.8])[source] + rng.normal(0, 1, queries)
    chance = 1 / (1 + np.exp(2.6 - strength[query] + 0.12 * rank - rng.normal(0, 0.5, len(query))))
    relevant = rng.random(len(query)) < chance
    hard = rng.normal(0, 0.6, queries)[query]  # judges err together, and on whole queries
    cheap = 1 / (1 + np.exp(-2.0 * (1.6 * relevant - 0.8 + hard + rng.normal(0, 0.8, len(query)))))
    strong = 1 / (1 + np.exp(-2.5 * (2.4 * relevant - 1.2 + 0.5 * hard + rng.normal(0, 0.7, len(query)))))
    rows, words = [], []
    for i in range(len(query)):
        said = [_word(cheap[i])]
        if cheap[i] > 0.4:  # sent up
            said.append(_word(strong[i]))
        words.append((said[0], said[1] if len(said) > 1 else None))
        gold: Label = "relevant" if relevant[i] else "irrelevant"
        rows.append(_row(i, str(query[i]), f"source {source[query[i]]}", words[-1], gold))
    return Population(tuple(rows), tuple(words))


def _word(probability: float) -> Judgment:
    yes = probability > 0.5
    return Judgment("relevant" if yes else "irrelevant", probability=float(probability if yes else 1 - probability))


def _row(number: int, query: str, source: str, words: tuple[Judgment | None, ...], gold: Label) -> Labelled:
    labels = tuple(word.label if word is not None else None for word in words)
    last = next(label for label in reversed(labels) if label is not None)
    return Labelled(str(number), query, source, expected_relevance(words), labels, OUTCOMES[last], gold, seen=True)


def trec(folder: Path) -> Population:
    """Read TREC DL 2019: what the cheap judge grades 1 or more goes up to the strong one; NIST ≥ 2 is relevant."""
    gold, cheap, strong = (
        _grades(path) for path in (folder / "qrels.tsv", folder / "llm_qrels" / CHEAP, folder / "llm_qrels" / STRONG)
    )
    rows, words = [], []
    for number, (query, passage) in enumerate(sorted(gold)):
        first = Judgment(_label(cheap[query, passage]))
        second = Judgment(_label(strong[query, passage])) if cheap[query, passage] > 0 else None
        words.append((first, second))
        rows.append(_row(number, query, "", words[-1], _label(gold[query, passage])))
    return Population(tuple(rows), tuple(words))


def _grades(path: Path) -> dict[tuple[str, str], int]:
    with path.open(encoding="utf-8", newline="") as file:
        return {(row["query-id"], row["corpus-id"]): int(row["score"]) for row in csv.DictReader(file, delimiter="\t")}


def _label(grade: int) -> Label:
    return "relevant" if grade >= 2 else "partial" if grade == 1 else "irrelevant"


class Sampler:
    """Draws as `sampling.Draw` does, with a generator's numbers in place of digests: a thousand times as quick."""

    def __init__(self, whole: Population, design: Design, n: int) -> None:
        self._whole, self._design = whole, design
        facts = whole.facts(design)
        self._query = np.unique([row.query for row in whole.rows], return_inverse=True)[1]
        census = Census(design)
        edges = np.flatnonzero(np.diff(self._query)) + 1
        for start, end in zip([0, *edges], [*edges, len(facts)], strict=True):
            census.add(facts[start:end])
        census.close()
        self._census = census
        order = census.order(n if design.unit == "pair" else max(queries_for(n, census), min(20, census.queries)))
        self._taken = {name: order.count(name) for name in sorted(set(order))}
        self._members = {name: np.flatnonzero([each.stratum == name for each in facts]) for name in self._taken}
        self._sizes = np.array([census.size(each) if design.kind == "active" else 1.0 for each in facts])

    def draw(self, rng: np.random.Generator) -> Sample:
        """Draw once."""
        rows = list(self._by_query(rng) if self._design.unit == "query" else self._by_pair(rng))
        return Sample("", to_dict(self._design), len(self._whole.rows), dict(self._census.sizes), tuple(rows))

    def _by_pair(self, rng: np.random.Generator) -> Iterator[SampleRow]:
        keys = rng.exponential(size=len(self._sizes)) / self._sizes
        number = 0
        for name, taken in self._taken.items():
            members = self._members[name]
            first = members[np.argpartition(keys[members], taken - 1)[:taken]]
            first = first[np.argsort(keys[first])]
            sizes = self._sizes[first]
            chances = sizes / (self._sizes.sum() - np.concatenate([[0.0], np.cumsum(sizes)[:-1]]))
            for place, chance in zip(first, chances, strict=True):
                number += 1
                yield SampleRow(number, str(place), self._whole.rows[place].query, name, float(chance))

    def _by_query(self, rng: np.random.Generator) -> Iterator[SampleRow]:
        chosen = rng.permutation(self._census.queries)[: self._taken[""]]
        share = len(chosen) / self._census.queries
        places = np.flatnonzero(np.isin(self._query, chosen))
        for place in places[np.argsort(self._query[places], kind="stable")]:
            yield SampleRow(int(self._query[place]) + 1, str(place), self._whole.rows[place].query, "", share)


@dataclass(frozen=True, slots=True)
class Outcomes:
    """What many runs of one design and one estimator gave: columns of labels, value, low, high."""

    runs: Floats

    def line(self, truth: float) -> dict[str, float]:
        """Return the figures of a row of the table."""
        labels, value, low, high = self.runs.T
        return {
            "labels": float(labels.mean()), "bias": float(value.mean() - truth), "sd": float(value.std(ddof=1)),
            "cover": float(((low <= truth) & (truth <= high)).mean()), "width": float((high - low).mean()),
        }  # fmt: skip


def simulate(whole: Population, design: Design, n: int, runs: int, seed: int) -> dict[str, Outcomes]:
    """Draw and estimate many times; return by estimator what came of it."""
    known = Known()
    for row in whole.rows:
        known.add(row, keep=True)
    sampler = Sampler(whole, design, n)
    rng = np.random.default_rng([seed, n, *map(ord, str(to_dict(design)))])
    found: dict[str, list[tuple[float, float, float, float]]] = {}
    for _ in range(runs):
        sample = sampler.draw(rng)
        figures = {each.name: each for each in figures_of(known, sample, (), only_rates=True).figures}
        figures.setdefault(ALONE, figures[RATE])  # where strata have few hits or misses, the words are not used
        for name, figure in figures.items():
            if figure.value is not None and figure.low is not None and figure.high is not None:
                found.setdefault(name, []).append((len(sample.rows), figure.value, figure.low, figure.high))
    return {name: Outcomes(np.array(rows)) for name, rows in found.items() if name in (RATE, ALONE)}


def needed(widths: Sequence[tuple[float, float]], wanted: float) -> float:
    """Return the labels at which the width is as wanted, between (or past) measured ones, along √n."""
    points = sorted(widths)
    log = np.log([width for _, width in points])
    at = int(np.clip(np.searchsorted(-log, -np.log(wanted)), 1, len(points) - 1))
    (n0, w0), (n1, w1) = points[at - 1], points[at]
    slope = (np.log(n1) - np.log(n0)) / (np.log(w1) - np.log(w0))
    return float(np.exp(np.log(n0) + slope * (np.log(wanted) - np.log(w0))))


def table(whole: Population, n: int, runs: int, seed: int) -> Iterator[str]:
    """Yield the lines of the table."""
    yield f"{len(whole.rows):,} pairs, false-negative rate {whole.truth:.4f}, {runs:,} runs, -n {n}"
    columns = (("labels", 8), ("bias", 9), ("sd", 8), ("cover", 7), ("width", 8), ("need", 7), ("ratio", 7))
    yield f"{'design':26}{'judges’ words':>14}" + "".join(f"{name:>{width}}" for name, width in columns)
    wanted = 0.0
    for name, design in DESIGNS.items():
        steps = (n,) if design.unit == "query" else (n // 4, n // 2, n)
        results = {
            size: simulate(whole, design, size, runs if size == n else max(runs // 5, 2), seed) for size in steps
        }
        for words, figure in (("no", ALONE), ("yes", RATE)):
            lines = [found[figure].line(whole.truth) for found in results.values() if figure in found]
            line = lines[-1]
            wanted = wanted or line["width"]
            widths = [(each["labels"], each["width"]) for each in lines]
            need = needed(widths, wanted) if len(widths) > 1 else line["labels"] * (line["width"] / wanted) ** 2
            yield (
                f"{name:26}{words:>14}{line['labels']:>8.0f}{line['bias']:>+9.4f}{line['sd']:>8.4f}"
                f"{line['cover']:>7.3f}{line['width']:>8.4f}{need:>7.0f}{need / n:>7.2f}"
            )


def main() -> int:
    """Print the table; 0, or 2 without the data that was asked for."""
    parser = argparse.ArgumentParser(
        description=__doc__, epilog=SOURCE, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--data", type=Path, metavar="FOLDER", help="TREC DL 2019, see below; made up without")
    parser.add_argument("-n", type=int, nargs="+", default=[200, 100], help="labels (default 200 and 100)")
    parser.add_argument("--runs", type=int, default=1000, help="samples of each design (default 1000)")
    parser.add_argument("--queries", type=int, default=2000, help="of the made population (default 2000)")
    parser.add_argument("--seed", type=int, default=0)
    options = parser.parse_args()
    if options.data is not None:
        paths = [options.data / "qrels.tsv", *[options.data / "llm_qrels" / name for name in (CHEAP, STRONG)]]
        if missing := [path for path in paths if not path.is_file()]:
            print(f"{missing[0]} is not there; see --help for where to get the data", file=sys.stderr)
            return 2
    whole = trec(options.data) if options.data is not None else population(options.seed, options.queries)
    for n in options.n:
        for line in table(whole, n, options.runs, options.seed):
            print(line, flush=True)
    return 0


if __name__ == "__main__":
    sys.exit(main())
