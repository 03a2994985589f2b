"""Replay RLHN's own judged sample as a two-stage cascade and compare it with the known figures.

50 queries with 1,000 negatives and the recorded replies of gpt-4o-mini (stage 1) and gpt-4o (stage 2) become one
training file and one script of replies; the rest is relabel's ordinary run, without a model. The table tells how
often the judges flag and confirm, how far they agree, and what escalation by query and by pair cost and find.
"""

import argparse
import json
import sys
import tempfile
from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from relabel import config, pipeline, sources
from relabel.engines.scripted import ScriptedEngine
from relabel.errors import RelabelError
from relabel.judges.llm import LLMJudge
from relabel.prompts import load_template
from relabel.tokens import tokens

FILES = {  # judge: its files, one for each data set
    "mini": {"fiqa": "fiqa.stage_1.gpt-4o-mini.jsonl", "msmarco_passage": "msmarco_passage.stage_1.gpt-4o-mini.jsonl"},
    "strong": {"fiqa": "fiqa.stage_2.gpt-4o.jsonl", "msmarco_passage": "msmarco_passage.stage_2.gpt-4o.jsonl"},
}
KNOWN = {  # data set: its title, the known share of confirmed flags, κ of better ∪ worse, κ of better alone
    "fiqa": ("FiQA", "35%", "0.41", "-0.01"),
    "msmarco_passage": ("MS MARCO", "55%", "0.65", "0.28"),
}
CASCADE = """\
stages:
  - {{judge: llm, name: mini, prompt: rlhn, shuffle: false, final: [irrelevant], escalate: {escalate},
     engine: {{kind: scripted, replies: {replies}}}}}
  - {{judge: llm, name: strong, prompt: rlhn, shuffle: false, group_size: {group_size},
     engine: {{kind: scripted, replies: {replies}}}}}
"""
WAYS = {  # what the table calls it: (escalation, largest group of stage 2, known pairs, known findings)
    "by query (RLHN)": ("query", 25, "730", "76"),
    "by pair, one group per query": ("pair", 25, "150", "71"),
    "by pair, single prompts": ("pair", 1, "150", "71"),
}
SOURCE = """\
The folder holds the four JSONL files of judged rows that RLHN's authors publish beside their code
(https://github.com/castorini/rlhn, Apache-2.0; texts: MS MARCO and FiQA; paper: arXiv 2505.16967):
  fiqa.stage_1.gpt-4o-mini.jsonl, fiqa.stage_2.gpt-4o.jsonl,
  msmarco_passage.stage_1.gpt-4o-mini.jsonl, msmarco_passage.stage_2.gpt-4o.jsonl
Rows are Tevatron's, with negative_passage_ids and the raw reply in `response`.
"""


@dataclass(frozen=True, slots=True)
class Cell:
    """A figure as measured, with its interval if it has one, and as known, both rounded alike."""

    measured: str
    known: str
    interval: str = ""

    @property
    def met(self) -> bool:
        """Whether measured and known are the same."""
        return self.measured == self.known

    def __str__(self) -> str:
        return f"{self.measured:>9}{self.known:>8} {'=' if self.met else '≠'}"


@dataclass(frozen=True, slots=True)
class Way:
    """What one way of escalating asks of stage 2 and finds; `tokens` is an estimate."""

    name: str
    pairs: Cell
    findings: Cell
    requests: int
    tokens: int
    without_word: int

    @property
    def met(self) -> bool:
        """Whether pairs and findings are the known ones and every pair has a word."""
        return self.pairs.met and self.findings.met and not self.without_word


def convert(data: Path, work: Path) -> Path:
    """Write the rows of stage 1, and the script of all replies."""
    replies = work / "replies.jsonl"
    with replies.open("w", encoding="utf-8") as script, (work / "both.jsonl").open("w", encoding="utf-8") as rows:
        for judge, files in FILES.items():
            for file in files.values():
                for row in map(json.loads, (data / file).read_text("utf-8").splitlines()):
                    recording = {"judge": judge, "template": "rlhn", "query_id": row["query_id"]}
                    recording |= {"candidate_ids": row["negative_passage_ids"], "reply": row.pop("response")}
                    row.pop("finish_reason")
                    script.write(json.dumps(recording) + "\n")
                    if judge == "mini":
                        rows.write(json.dumps(row) + "\n")
    return replies


def cascade(work: Path, replies: Path, escalate: str, group_size: int) -> Mapping[str, Any]:
    """Run one cascade in its own run directory and return its statistics."""
    text = CASCADE.format(escalate=escalate, group_size=group_size, replies=json.dumps(str(replies)))
    folder = work / f"both-{escalate}-{group_size}"
    return pipeline.run(sources.open_source(work / "both.jsonl"), config.parse(text), folder).statistics


def asked(folder: Path, replies: Path, group_size: int) -> tuple[int, int]:
    """Return the requests that stage 2 of a finished run was sent, and their estimated input tokens."""
    judge = LLMJudge(
        "strong", load_template("rlhn"), ScriptedEngine(replies, "strong"), group_size=group_size, shuffle=False
    )
    requests = estimate = 0
    with pipeline.open_run(folder) as (plan, store):
        for one, case in pipeline.concluded(plan, store, lambda _: None):
            if one.trail is None:
                continue
            due = tuple(pair for pair, why in zip(case.pairs, one.trail.due[1], strict=True) if why)
            for group in judge.groups(replace(case, pairs=due)):
                requests += 1
                estimate += tokens(judge.request(case, group).messages)
    return requests, estimate


def percent(figure: Mapping[str, Any], known: str) -> Cell:
    """Make the cell of a rate."""
    return Cell(f"{figure['value']:.0%}", known, f"{figure['low']:.0%} to {figure['high']:.0%}")


def kappa(figure: Mapping[str, Any], known: str) -> Cell:
    """Make the cell of a kappa."""
    return Cell(f"{figure['value']:.2f}", known, f"{figure['low']:.2f} to {figure['high']:.2f}")


def agreement_cells(work: Path, replies: Path) -> dict[str, Cell]:
    """Judge both data sets together, query by query, as RLHN does, and say how far the two models agree."""
    both = cascade(work, replies, "query", 25)
    cells = {"flagged by gpt-4o-mini, both data sets": percent(both["rates"]["flagged by mini"], "15%")}
    for name, (title, confirmed, _, _) in KNOWN.items():
        rate = both["sources"][name]["rates"]["confirmed after mini"]
        cells[f"of these confirmed by gpt-4o, {title}"] = percent(rate, confirmed)
    apart = {name: both["sources"][name]["agreement"][0]["figures"] for name in KNOWN}
    for name, (title, _, known, _) in KNOWN.items():
        cells[f"κ of better ∪ worse, {title}"] = kappa(apart[name]["kappa_relevant_or_partial"], known)
    for name, (title, _, _, known) in KNOWN.items():
        cells[f"κ of better alone, {title}"] = kappa(apart[name]["kappa_relevant"], known)
    return cells


def ways(work: Path, replies: Path) -> list[Way]:
    """Escalate in each way."""
    found = []
    for name, (escalate, group_size, pairs, findings) in WAYS.items():
        statistics = cascade(work, replies, escalate, group_size)
        stage, verdicts = statistics["stages"][1], statistics["verdicts"]
        requests, estimate = asked(work / f"both-{escalate}-{group_size}", replies, group_size)
        wrong = verdicts["false_negative"] + verdicts["partial"]
        without_word = sum(stage["none"].values())
        cells = Cell(str(stage["asked"]), pairs), Cell(str(wrong), findings)
        found.append(Way(name, *cells, requests, estimate, without_word))
    return found


FOOTNOTE = """
Findings: better ∪ worse of stage 2. κ: the pairs of the queries that went up, which both models saw whole.
Intervals: 95 %, bootstrap over queries.
* an estimate: characters / 4 of relabel's own prompt `rlhn` with at most three positives, not of the recorded prompt.
By pair, the word on each pair is read out of gpt-4o's recorded reply about its whole group (marked `replayed`):
requests and tokens are what relabel would send; what gpt-4o would say to fewer candidates nobody has asked."""


def print_table(cells: Mapping[str, Cell], escalated: list[Way]) -> None:
    """Print the agreement of the two models, then the ways of escalating."""
    print(f"{'':<40}{'measured':>9}{'known':>8}   95 % interval")
    for name, cell in cells.items():
        print(f"{name:<40}{cell} {cell.interval}")
    print(
        f"\n{'escalation':<30}{'pairs':>9}{'known':>8}  {'findings':>9}{'known':>8}  {'requests':>10}{'tokens in*':>12}"
    )
    for way in escalated:
        silent = f"  ≠ {way.without_word} pairs without a word" if way.without_word else ""
        print(f"{way.name:<30}{way.pairs}{way.findings}{way.requests:>10}{way.tokens:>12,}{silent}")
    print(FOOTNOTE)


def main() -> int:
    """Print one table; 0 when all known figures are met, 1 when not, 2 without the data."""
    parser = argparse.ArgumentParser(
        description=__doc__, epilog=SOURCE, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--data", type=Path, required=True, metavar="FOLDER", help="RLHN's judged sample, see below")
    parser.add_argument("-o", "--work", type=Path, metavar="FOLDER", help="keep the runs here (default: nowhere)")
    options = parser.parse_args()
    wanted = [options.data / file for files in FILES.values() for file in files.values()]
    if missing := [path for path in wanted if not path.is_file()]:
        print(f"{missing[0]} is not there; see --help for where to get the data", file=sys.stderr)
        return 2
    try:
        with tempfile.TemporaryDirectory() as temporary:
            work = options.work or Path(temporary)
            work.mkdir(parents=True, exist_ok=True)
            replies = convert(options.data, work.resolve())
            cells, escalated = agreement_cells(work, replies), ways(work, replies)
    except RelabelError as error:
        print(error, file=sys.stderr)
        return error.exit_code
    print_table(cells, escalated)
    return 0 if all(cell.met for cell in cells.values()) and all(way.met for way in escalated) else 1


if __name__ == "__main__":
    sys.exit(main())
