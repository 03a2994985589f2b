"""Reproduce the published agreement of 16 LLM judges with people on the LLMJudge challenge (SIGIR 2024).

Every figure comes from `relabel.agreement.agreement`, as those of a run do; four grades, 3 highest. The published
numbers count a grade above 3 (one submission holds "5", another "10") as 3.
"""

import argparse
import csv
import math
import sys
from collections.abc import Mapping
from pathlib import Path

import numpy as np

from relabel.agreement import agreement

GRADES = ("3", "2", "1", "0")
COLUMNS = {  # column of a published table: the figure of ours
    "kappa4": "kappa",
    "kappa_0|123": "kappa_3_or_2_or_1",
    "kappa_01|23": "kappa_3_or_2",
    "kappa_012|3": "kappa_3",
    "alpha_ordinal": "alpha_ordinal",
}
SOURCE = """\
The folder holds human/llmjudge_test_qrel_idx.txt and llm_submissions/*.txt (TREC qrels lines: query 0 passage grade),
and published_table3.tsv and published_table4.tsv: the rows of those submissions in Tables 3 (α) and 4 (κ) of
"Judging the Judges" (Rahmani et al. 2025, arXiv 2502.13908), tab-separated: a column "submission", then
"alpha_ordinal" in table 3, "kappa4", "kappa_0|123", "kappa_01|23", "kappa_012|3" in table 4.
Labels and submissions are public at https://github.com/llm4eval/LLMJudge and
https://github.com/llm4eval/LLMJudge-benchmark.
"""

Qrels = dict[tuple[str, str], int]


def read_qrels(path: Path) -> Qrels:
    """Return the grade of each (query, passage), grades above 3 as 3."""
    grades: Qrels = {}
    for line in path.read_text("utf-8").splitlines():
        query, _, passage, grade = line.split()
        grades[query, passage] = min(int(grade), 3)
    return grades


def read_published(folder: Path) -> dict[str, dict[str, str]]:
    """Return the published figures of each submission, as printed."""
    published: dict[str, dict[str, str]] = {}
    for name in ("published_table3.tsv", "published_table4.tsv"):
        with (folder / name).open(encoding="utf-8", newline="") as file:
            for row in csv.DictReader(file, delimiter="\t"):
                published.setdefault(row["submission"], {}).update(row)
    return published


def figures_of(human: Qrels, model: Qrels) -> Mapping[str, float]:
    """Return all figures of two sets of grades on the same pairs."""
    if human.keys() != model.keys():
        raise ValueError("the submission and the human labels are not about the same pairs")
    queries = {query: number for number, query in enumerate(dict.fromkeys(query for query, _ in human))}
    tables = np.zeros((len(queries), 5, 5))  # the last row and column: no label
    for pair, grade in human.items():
        tables[queries[pair[0]], 3 - grade, 3 - model[pair]] += 1
    figures = agreement("people", "model", tables, seed=0, resamples=0, labels=GRADES).figures
    return {name: math.nan if figure.value is None else figure.value for name, figure in figures.items()}


def main() -> int:
    """Print one table; 0 when every figure equals the published one, 1 when not, 2 without the data."""
    parser = argparse.ArgumentParser(
        description=__doc__,
        epilog=SOURCE,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("--data", type=Path, required=True, metavar="FOLDER", help="the challenge's data, see below")
    folder: Path = parser.parse_args().data
    gold = folder / "human" / "llmjudge_test_qrel_idx.txt"
    if missing := [
        path for path in (gold, folder / "published_table3.tsv", folder / "published_table4.tsv") if not path.is_file()
    ]:
        print(f"{missing[0]} is not there; see --help for where to get the data", file=sys.stderr)
        return 2
    human = read_qrels(gold)
    print("submission".ljust(24) + "".join(f"{column:>29}" for column in COLUMNS))
    print(" " * 24 + "      ours published   |diff|" * len(COLUMNS))
    equal = total = 0
    for submission, row in sorted(read_published(folder).items()):
        figures = figures_of(human, read_qrels(folder / "llm_submissions" / f"{submission}.txt"))
        cells = []
        for column, name in COLUMNS.items():
            ours, theirs = figures[name], float(row[column])
            equal += round(ours, 4) == theirs
            total += 1
            cells.append(f"{ours:>10.4f}{theirs:>10.4f}{abs(ours - theirs):>9.4f}")
        print(submission.ljust(24) + "".join(cells))
    print(f"{equal} of {total} figures equal the published ones to 4 decimals")
    return 0 if equal == total else 1


if __name__ == "__main__":
    sys.exit(main())
