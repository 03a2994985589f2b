"""Measure score-based filters as detectors of false negatives among mined candidates, filter by filter, per retriever.

TREC DL 2019: each query keeps one known positive, the candidates at ranks 1 to 30 of each of six retrievers are held
against rules by that retriever's own scores, and NIST's judgments say what was right: relevant is level 2 or 3,
precision is against level 0; level 1 and what nobody judged count nowhere. The table is printed for two ways of knowing
one positive: the one that the published one-shot task gives (the relevant passage that BM25 ranks first, so that
nothing relevant stands above it in BM25's own list), and one drawn among the relevant ones that the retriever found.
"""

import argparse
import json
import sys
from collections import defaultdict
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any, Final

from oneshot import ranked

from relabel.agreement import Figure
from relabel.mining.candidates import Candidate, Filter, Pool, Positive
from relabel.mining.detection import Detection, detect
from relabel.mining.filters import AbsoluteMargin, Consistency, GuideModel, RankWindow, RelativeMargin
from relabel.mining.likeness import NearDuplicate
from relabel.records import Passage, chance

MINED: Final = "trecdl2019_mined/candidates.jsonl"
POSITIVES: Final = "autoqrels_oneshot/dl19.bm25-firstrel.qrels"
FILES: Final = (MINED, POSITIVES)
GUIDE: Final = "REP_LLAMA"
DEPTH: Final = 30
SOURCE = """\
The folder holds (all public):
  trecdl2019_mined/    candidates.jsonl {qid, docid, text, human, ranks}: top 100 of six retrievers, made of the
                       retrieve_results of https://github.com/castorini/rank_llm
  autoqrels_oneshot/   the known positives, https://github.com/seanmacavaney/autoqrels
"""

Value = Callable[[Candidate, Positive], float | None]
Gold = list[bool | None]


def relative(candidate: Candidate, positive: Positive) -> float | None:
    """Return (s − s⁺) / |s⁺|."""
    if candidate.score is None or not positive.score:
        return None
    return (candidate.score - positive.score) / abs(positive.score)


def guided(candidate: Candidate, positive: Positive) -> float | None:
    """Return the guide's s − s⁺, where it found both."""
    one, other = candidate.score_by("guide"), positive.score_by("guide")
    return None if one is None or other is None else one - other


def early(candidate: Candidate, _: Positive) -> float | None:
    """Return how early it was found."""
    return -float(candidate.rank)


RULES: Final[Mapping[str, tuple[Filter, Value | None]]] = {
    "rank_window: range_min 10": (RankWindow(10), early),
    "absolute_margin 0": (AbsoluteMargin(0.0), relative),
    "relative_margin .02": (RelativeMargin(0.02), relative),
    "relative_margin .05": (RelativeMargin(0.05), relative),
    "relative_margin .1": (RelativeMargin(0.1), relative),
    "relative_margin .2": (RelativeMargin(0.2), relative),
    "guide_model": (GuideModel(), guided),
    "near_duplicate: overlap .5": (NearDuplicate(0.5), None),
    "consistency: top_k 2": (Consistency(), None),
}
"""Rules by name, with the value by which a rule without a threshold would rank candidates."""


def rows(path: Path) -> list[dict[str, Any]]:
    """Read JSON lines."""
    with path.open(encoding="utf-8") as lines:
        return [json.loads(line) for line in lines]


def pools(
    found: Sequence[Mapping[str, Any]], retriever: str, given: Mapping[str, str] | None
) -> list[tuple[Pool, Gold]]:
    """Return a retriever's candidates, query by query, with what NIST says of them.

    Queries whose known positive the retriever did not find take no part: nothing is known of its score.
    """
    by_query: dict[str, list[tuple[Candidate, int | None]]] = defaultdict(list)
    for row in found:
        if retriever in row["ranks"]:
            rank, score = row["ranks"][retriever]
            guide = row["ranks"].get(GUIDE, (None, None))[1]
            passage = Passage(row["docid"], row["text"])
            by_query[row["qid"]].append((Candidate(passage, rank, score, retriever, {"guide": guide}), row["human"]))
    made = []
    for query, judged in by_query.items():
        known = _known(query, judged, given)
        if known is None:
            continue
        positive = Positive(known.passage, known.score, known.rank, known.scores)
        near = [(each, level) for each, level in judged if each.rank <= DEPTH and each is not known]
        pool = Pool(query, (positive,), tuple(each for each, _ in near))
        made.append((pool, [None if level in (None, 1) else level >= 2 for _, level in near]))
    return made


def _known(
    query: str, judged: Sequence[tuple[Candidate, int | None]], given: Mapping[str, str] | None
) -> Candidate | None:
    """Return the known positive: the given one, or one drawn among the relevant."""
    if given is not None:
        return next((each for each, _ in judged if each.passage.id == given.get(query)), None)
    relevant = [each for each, level in judged if (level or 0) >= 2]
    return min(relevant, key=lambda each: chance("known", query, each.passage.id), default=None)


def average_precision(made: Sequence[tuple[Pool, Gold]], value: Value) -> float:
    """Return the average precision of all judged pairs ranked by a value; unknown ones come last, together."""
    values, relevant = [], []
    for pool, gold in made:
        for candidate, truth in zip(pool.candidates, gold, strict=True):
            if truth is not None:
                found = value(candidate, pool.positives[0])
                values.append(-1e9 if found is None else found)
                relevant.append(truth)
    return ranked(values, relevant)[0]


def _percent(figure: Figure) -> str:
    if figure.value is None:
        return "–"
    ends = "" if figure.low is None or figure.high is None else f" ({100 * figure.low:.0f}–{100 * figure.high:.0f})"
    return f"{100 * figure.value:.0f}{ends}"


def table(found: Sequence[Mapping[str, Any]], given: Mapping[str, str] | None) -> None:
    """Print one table."""
    head = f"{'filter':<28}{'FN gone':>12}{'TN lost':>12}{'precision':>16}{'recall':>14}{'F1':>14}{'AP':>7}"
    retrievers = dict.fromkeys(name for row in found for name in row["ranks"])
    for retriever in retrievers:
        made = pools(found, retriever, given)
        results = detect(made, [rule for rule, _ in RULES.values()], seed=0)
        share = results[0].relevant / (results[0].relevant + results[0].irrelevant)
        unknown = sum(truth is None for _, gold in made for truth in gold)
        print(
            f"\n{retriever}: {len(made)} queries, {results[0].relevant} relevant and {results[0].irrelevant} not"
            f" ({share:.0%} relevant); {unknown} of level 1 or unjudged\n{head}"
        )
        for (name, (_, value)), result in zip(RULES.items(), results, strict=False):
            print(_line(name, result, f"{average_precision(made, value):.2f}" if value is not None else "–"))


def _line(name: str, result: Detection, precision: str) -> str:
    gone, lost = f"{result.caught}/{result.relevant}", f"{result.lost}/{result.irrelevant}"
    rates = f"{_percent(result.precision):>16}{_percent(result.recall):>14}{_percent(result.f1):>14}"
    return f"{name:<28}{gone:>12}{lost:>12}{rates}{precision:>7}"


def main() -> int:
    """Print both tables; 2 without the data."""
    parser = argparse.ArgumentParser(
        description=__doc__, epilog=SOURCE, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--data", type=Path, required=True, metavar="FOLDER", help="the two data sets, see below")
    options = parser.parse_args()
    if missing := [path for path in (options.data / file for file in FILES) if not path.is_file()]:
        print(f"{missing[0]} is not there; see --help for where to get the data", file=sys.stderr)
        return 2
    found = rows(options.data / MINED)
    lines = (options.data / POSITIVES).read_text("utf-8").splitlines()
    print("The known positive is the relevant passage that BM25 ranks first")
    table(found, {line.split()[0]: line.split()[2] for line in lines})
    print("\n\nThe known positive is drawn among the relevant passages that the retriever found")
    table(found, None)
    print(
        "\nFigures in %, with 95 % intervals by bootstrap over queries. FN gone: false negatives removed, TN lost: true"
    )
    print("negatives removed; AP: of all judged pairs ranked by the rule's own value, its threshold apart.")
    print(f"Ranks 1 to {DEPTH} of each retriever; guide: {GUIDE}, where it has both passages among its first 100.")
    return 0


if __name__ == "__main__":
    sys.exit(main())
