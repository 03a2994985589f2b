"""Do calibrated thresholds keep their promise? Recorded LLM labels as judges, NIST's assessors as people.

TREC Deep Learning 2019, passages: the cheap judge is the mean of the two label sets by Flan-T5-large, the strong one
the label set by Llama-3-70B. Relevant = NIST grade 2 or 3, partial = 1, irrelevant = 0.

Table 1 splits the queries at random, half to calibrate and half to test. "broken" is the share of splits in which the
disagreement on the test half exceeds α; it should be at most δ. "covers" is the number of pairs settled in the test
half, as a share of what the threshold that turns out best on that very half would settle. Bounds: over queries (the
default), over queries for so many queries as the test half has, over pairs (too optimistic), and over queries when told
how alike pairs of a query really are, which nobody is: what no honest bound gets past with so few queries.

Table 2 draws queries with replacement from all 43, so that the truth is known exactly and more queries can be had.

Table 3 runs the cascade: the cheap judge settles "irrelevant", the strong judge sees what it leaves and settles
"relevant" and "irrelevant", and people get the rest. Beside it three rules that calibrate nothing, where the rest is
what the strong judge calls partial (grade 1): a fixed threshold, RLHN's "any flag sends the whole query up", and the
strong judge alone.
"""

import argparse
import csv
import sys
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Final

import numpy as np

from relabel.bounds import (
    binomial_upper,
    correlation_of,
    effective_pairs,
    effective_queries,
    queries_needed,
    query_upper,
)
from relabel.calibration import GROWTH, MIN_PAIRS, Promise, labels_to_pass, last_passing

if TYPE_CHECKING:
    from numpy import bool_, float64, int64
    from numpy.typing import NDArray

    Floats = NDArray[float64]

CHEAP: Final = ("dl2019_test_4prompts_flant5large", "dl2019_test_sun_then_decomposed_flant5large")
STRONG: Final = ("dl2019_test_4prompts_llama70b",)
ALPHAS: Final = {"relevant": (0.25, 0.30, 0.40), "irrelevant": (0.05, 0.10, 0.15)}
DELTA: Final = 0.1
DRAWN: Final = (21, 50, 100, 200, 400)
SOURCE: Final = """\
The folder holds qrels.tsv and llm_qrels/*.tsv (columns query-id, corpus-id, score), NIST's judgments of TREC DL 2019
(https://trec.nist.gov/data/deep2019.html, 2019qrels-pass.txt) and the label sets of the same pairs that
https://github.com/naghmefarzi/llmjudge publishes.
"""


@dataclass(frozen=True, slots=True)
class Data:
    """Pairs: the number of each one's query, NIST's grade, and the two judges' numbers; shape (n,)."""

    queries: "NDArray[int64]"
    grade: "Floats"
    cheap: "Floats"
    strong: "Floats"

    @property
    def count(self) -> int:
        """How many queries there are."""
        return int(self.queries.max()) + 1


@dataclass(frozen=True, slots=True)
class Ladder:
    """Candidate thresholds, strictest first: pairs that each settles and errors among them, by query; shape (T, Q)."""

    pairs: "Floats"
    errors: "Floats"


def read(folder: Path) -> Data:
    """Read judgments and label sets."""

    def grades(path: Path) -> dict[tuple[str, str], float]:
        with path.open(encoding="utf-8", newline="") as file:
            return {
                (row["query-id"], row["corpus-id"]): float(row["score"]) for row in csv.DictReader(file, delimiter="\t")
            }

    people = grades(folder / "qrels.tsv")
    names = {query: number for number, query in enumerate(dict.fromkeys(query for query, _ in people))}
    means = []
    for sets in (CHEAP, STRONG):
        said = [grades(folder / "llm_qrels" / f"{name}.tsv") for name in sets]
        means.append(np.array([sum(each[pair] for each in said) / len(said) for pair in people]))
    return Data(np.array([names[query] for query, _ in people]), np.array(list(people.values())), *means)


def ladder(data: Data, number: "Floats", settle: str, among: "NDArray[bool_] | None" = None) -> Ladder:
    """Count what each threshold of a judge settles."""
    wrong = data.grade < 2 if settle == "relevant" else data.grade >= 2
    sign = 1 if settle == "relevant" else -1
    there = np.ones(len(number), bool) if among is None else among
    rungs = []
    for value in np.unique(sign * number)[::-1]:
        inside = (sign * number >= value) & there
        rungs.append([np.bincount(data.queries[which], minlength=data.count) for which in (inside, inside & wrong)])
    pairs, errors = np.array(rungs, dtype=np.float64).transpose(1, 0, 2)
    return Ladder(pairs, errors)


def testable(pairs: "Floats", alpha: float) -> "NDArray[bool_]":
    """Say which thresholds are candidates and can be tested, as `calibration.choose` does; sizes of shape (S, T, Q)."""
    n = pairs.sum(axis=-1)
    found = np.zeros(n.shape, dtype=bool)
    last = np.zeros(len(n))
    enough = np.minimum(labels_to_pass(Promise("relevant", alpha, DELTA)), n[:, -1] // 2)
    begin = np.maximum(np.maximum(MIN_PAIRS, enough), n[:, -1] // 10)
    for place in range(n.shape[1]):
        here = n[:, place]
        new = here > (n[:, place - 1] if place else 0)
        grown = (here >= begin) & (here >= GROWTH * last)
        found[:, place] = new & (grown | ((here == n[:, -1]) & (here >= MIN_PAIRS)))
        last = np.where(found[:, place], here, last)
    return found & (effective_queries(pairs) >= queries_needed(alpha, DELTA))


def chosen(
    pairs: "Floats", errors: "Floats", alpha: float, bound: str, effect: "Floats | None" = None
) -> "NDArray[int64]":
    """Return the threshold that each calibration set chooses, −1 for none; counts of shape (S, T, Q).

    Args:
        pairs: settled.
        errors: of them.
        alpha: allowed.
        bound: "queries", "pairs", "told", or the number of queries that the promise is for.
        effect: told: the design effect of each threshold.
    """
    n, wrong = pairs.sum(axis=-1), errors.sum(axis=-1)
    if bound == "pairs":
        upper = binomial_upper(wrong, n, DELTA)
    elif bound == "told":
        assert effect is not None
        upper = binomial_upper(wrong / effect, n / effect, DELTA)
    else:
        correlation = correlation_of(pairs[:, -1], errors[:, -1])[:, None]
        unseen = None if bound == "queries" else int(bound)
        upper = query_upper(pairs, errors, DELTA, correlation, unseen=unseen)
    return last_passing(upper, testable(pairs, alpha), alpha)


def halves(count: int, splits: int) -> "NDArray[bool_]":
    """Draw splits of the queries: True = to calibrate, shape (splits, Q)."""
    rng = np.random.default_rng(0)
    order = rng.random((splits, count)).argsort(axis=1).argsort(axis=1)
    return order < count // 2


def first_table(data: Data, splits: int) -> Iterator[tuple[str, bool]]:
    """Yield the rows of table 1, and whether the default bound kept its promise."""
    mine = halves(data.count, splits)
    rest = data.count - data.count // 2
    bounds = ("queries", str(rest), "pairs", "told")
    yield (
        f"1. {splits:,} splits: {data.count // 2} queries to calibrate, {rest} to test; δ = {DELTA}\n"
        f"{'judge':8}{'settles':12}{'α':>5}  {'best':>6}  "
        + "".join(f"{name:>20}" for name in ("over queries", f"for {rest} queries", "over pairs", "told"))
        + f"\n{'':27}{'covers':>6}  "
        + "      broken  covers" * 4,
        True,
    )
    for judge, number in (("cheap", data.cheap), ("strong", data.strong)):
        for settle, alphas in ALPHAS.items():
            rungs = ladder(data, number, settle)
            known = rungs.pairs * mine[:, None], rungs.errors * mine[:, None]
            pairs, errors = ((each * ~mine[:, None]).sum(axis=-1) for each in (rungs.pairs, rungs.errors))
            rate = errors / np.maximum(pairs, 1)
            effect = rungs.pairs.sum(axis=-1) / effective_pairs(
                rungs.pairs, rungs.errors, DELTA, correlation_of(rungs.pairs[-1], rungs.errors[-1])
            )
            for alpha in alphas:
                best = np.where(rate <= alpha, pairs, 0).max(axis=1)
                cells, kept = [], True
                for bound in bounds:
                    place = chosen(*known, alpha, bound, effect)
                    rows = np.arange(splits)
                    broken = float(((place >= 0) & (rate[rows, place] > alpha)).mean())
                    covers = np.where(place >= 0, pairs[rows, place], 0).sum() / max(best.sum(), 1)
                    kept &= bound != "queries" or broken <= DELTA
                    cells.append(f"{broken:>12.3f}{covers:>8.0%}")
                share = best.mean() / pairs[:, -1].mean()
                yield f"{judge:8}{settle:12}{alpha:>5.2f}  {share:>6.1%}  " + "".join(cells), kept


def second_table(data: Data, draws: int) -> Iterator[tuple[str, bool]]:
    """Yield the rows of table 2, and whether the promise was kept."""
    rng = np.random.default_rng(1)
    yield (
        f"\n2. {draws:,} draws of queries with replacement; the bound over queries; δ = {DELTA}\n"
        f"{'judge':8}{'settles':12}{'α':>5}  {'best':>6}  "
        + "".join(f"{f'{number} queries':>20}" for number in DRAWN)
        + f"\n{'':27}{'covers':>6}  "
        + "      broken  covers" * len(DRAWN),
        True,
    )
    for judge, number in (("cheap", data.cheap), ("strong", data.strong)):
        for settle, alphas in ALPHAS.items():
            rungs = ladder(data, number, settle)
            pairs, errors = rungs.pairs.sum(axis=-1), rungs.errors.sum(axis=-1)
            for alpha in alphas:
                best = np.where(errors <= alpha * pairs, pairs, 0).max()
                cells, kept = [], True
                for size in DRAWN:
                    which = rng.integers(data.count, size=(draws, size))
                    place = chosen(
                        rungs.pairs[:, which].swapaxes(0, 1), rungs.errors[:, which].swapaxes(0, 1), alpha, "queries"
                    )
                    broken = float(((place >= 0) & (errors > alpha * pairs)[place]).mean())
                    kept &= broken <= DELTA
                    covers = np.where((place >= 0) & ~(errors > alpha * pairs)[place], pairs[place], 0).mean()
                    cells.append(f"{broken:>12.3f}" + (f"{covers / best:>8.0%}" if best else f"{'–':>8}"))
                yield f"{judge:8}{settle:12}{alpha:>5.2f}  {best / pairs[-1]:>6.1%}  " + "".join(cells), kept


@dataclass(frozen=True, slots=True)
class Fate:
    """What a way of judging did with the test pairs: seen by the strong judge, promoted, kept, and wrongly so."""

    seen: float
    promoted: float
    wrong_promoted: float
    kept: float
    wrong_kept: float
    pairs: float

    def broken(self, promote: float, keep: float) -> tuple[bool, bool]:
        """Say which of two promises are broken."""
        return self.wrong_promoted > promote * self.promoted, self.wrong_kept > keep * self.kept


def cascade(data: Data, learn: "NDArray[int64]", test: "NDArray[int64]", promote: float, keep: float) -> Fate:
    """Calibrate the two stages on some queries, the second on what the first leaves, and judge others."""
    cuts = _cut(data, data.cheap, "irrelevant", np.ones(len(data.grade), bool), learn, keep)
    kept_cheap = data.cheap <= cuts
    top = _cut(data, data.strong, "relevant", ~kept_cheap, learn, promote)
    promoted = ~kept_cheap & (data.strong >= top)
    low = _cut(data, data.strong, "irrelevant", ~kept_cheap & ~promoted, learn, keep)
    kept = kept_cheap | (~promoted & (data.strong <= low))
    return fate(data, test, ~kept_cheap, promoted, kept)


def _cut(
    data: Data, number: "Floats", settle: str, among: "NDArray[bool_]", learn: "NDArray[int64]", alpha: float
) -> float:
    """Return the threshold chosen on some queries; infinite where there is none."""
    rungs = ladder(data, number, settle, among)
    known = rungs.pairs[None][:, :, learn], rungs.errors[None][:, :, learn]
    place = int(chosen(*known, alpha, "queries")[0])
    sign = 1 if settle == "relevant" else -1
    return float(np.inf * sign) if place < 0 else float(sign * np.unique(sign * number)[::-1][place])


def fate(
    data: Data, test: "NDArray[int64]", seen: "NDArray[bool_]", promoted: "NDArray[bool_]", kept: "NDArray[bool_]"
) -> Fate:
    """Count what became of the pairs of the test queries, each query as often as it was drawn."""
    times = np.bincount(test, minlength=data.count)[data.queries]
    wrong = data.grade < 2, data.grade >= 2
    flags = (seen, promoted, promoted & wrong[0], kept, kept & wrong[1], np.ones(len(times), bool))
    return Fate(*[float((flag * times).sum()) for flag in flags])


def third_table(data: Data, splits: int) -> Iterator[str]:
    """Yield the rows of table 3."""
    yield (
        f"\n3. The cascade; shares of test pairs, means of {splits:,} draws; wrong = disagreement with people\n"
        f"{'':44}{'strong':>8}{'':>8}{'':>10}{'promoted':>18}{'':>10}{'kept':>18}\n"
        f"{'':44}{'saw':>8}{'rest':>8}" + f"{'share':>10}{'wrong':>9}{'broken':>9}" * 2
    )
    rng = np.random.default_rng(2)
    everyone = np.arange(data.count)
    mine = halves(data.count, splits)
    for promote, keep in zip(ALPHAS["relevant"], ALPHAS["irrelevant"], strict=True):
        name = f"calibrated, promote {promote:.2f}, keep {keep:.2f}"
        yield _row(f"{name}, {data.count // 2}", promote, keep, [
            cascade(data, np.flatnonzero(half), np.flatnonzero(~half), promote, keep) for half in mine
        ])  # fmt: skip
        yield _row(f"{name}, 200", promote, keep, [
            cascade(data, rng.integers(data.count, size=200), everyone, promote, keep) for _ in range(splits)
        ])  # fmt: skip
    yes, no = data.strong >= 2, data.strong < 1
    flagged = data.cheap >= 1
    up = np.bincount(data.queries[flagged], minlength=data.count)[data.queries] > 0
    nobody = np.zeros(len(data.grade), bool)
    promote, keep = ALPHAS["relevant"][-1], ALPHAS["irrelevant"][-1]
    for name, seen in (
        ("fixed: cheap below 1 is final, then strong", flagged),
        ("any flag sends the query up (RLHN), strong", up),
        ("strong alone", ~nobody),
    ):
        found = fate(data, everyone, seen, seen & yes, ~seen | (seen & no))
        yield _row(name, promote, keep, [found])


def _row(name: str, promote: float, keep: float, fates: Sequence[Fate]) -> str:
    total = sum(each.pairs for each in fates)
    broken = np.array([each.broken(promote, keep) for each in fates]).mean(axis=0)
    settled = sum(each.promoted + each.kept for each in fates)
    cells = f"{sum(each.seen for each in fates) / total:>8.1%}{1 - settled / total:>8.1%}"
    for index, (what, wrong) in enumerate((("promoted", "wrong_promoted"), ("kept", "wrong_kept"))):
        there, bad = (sum(getattr(each, field) for each in fates) for field in (what, wrong))
        told = f"{broken[index]:>9.3f}" if len(fates) > 1 else f"{'–':>9}"
        cells += f"{there / total:>10.1%}" + (f"{bad / there:>9.1%}" if there else f"{'–':>9}") + told
    return f"{name:44}{cells}"


def main() -> int:
    """Print three tables; 0 when the default bound kept every promise, 1 when not, 2 without the data."""
    parser = argparse.ArgumentParser(
        description=__doc__, epilog=SOURCE, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--data", type=Path, required=True, metavar="FOLDER", help="TREC DL 2019, see below")
    parser.add_argument("--splits", type=int, default=1000, help="random splits (1,000)")
    given = parser.parse_args()
    needed = [given.data / "qrels.tsv", *[given.data / "llm_qrels" / f"{name}.tsv" for name in CHEAP + STRONG]]
    if missing := [path for path in needed if not path.is_file()]:
        print(f"{missing[0]} is not there; see --help for where to get the data", file=sys.stderr)
        return 2
    data = read(given.data)
    print(f"{len(data.grade):,} pairs of {data.count} queries, {(data.grade >= 2).mean():.1%} relevant")
    kept = True
    for row, fine in (*first_table(data, given.splits), *second_table(data, max(given.splits // 2, 1))):
        print(row)
        kept &= fine
    for row in third_table(data, max(given.splits // 5, 1)):
        print(row)
    print(f"\n{'every' if kept else 'NOT every'} promise of the bound over queries was kept (broken ≤ {DELTA})")
    return 0 if kept else 1


if __name__ == "__main__":
    sys.exit(main())
