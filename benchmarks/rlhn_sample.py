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

from relabel import config, pipeline
from relabel.engines.scripted import ScriptedEngine
from relabel.errors import RelabelError
from relabel.forecast import tokens
from relabel.judges.llm import LLMJudge
from relabel.prompts import load_template

FILES = {  # judge: its files, one for each data set
    "mini": {"fiqa": "fiqa.stage_1.gpt-4o-mini.jsonl", "msmarco": "msmarco_passage.stage_1.gpt-4o-mini.jsonl"},
    "strong": {"fiqa": "fiqa.stage_2.gpt-4o.jsonl", "msmarco": "msmarco_passage.stage_2.gpt-4o.jsonl"},
}
TITLES = {"fiqa": "FiQA", "msmarco": "MS MARCO"}
CASCADE = """\
stages:
  - {{judge: llm, name: mini, prompt: rlhn, shuffle: false, final: [irrelevant], escalate: {escalate},
     engine: {{kind: scripted, replies: {replies}}}}}
  - {{judge: llm, name: strong, prompt: rlhn, shuffle: false, group_size: {group_size},
     engine: {{kind: scripted, replies: {replies}}}}}
"""
WAYS = {  # what the table calls it: (escalation, largest group of stage 2, known pairs, known findings)
    "by query (RLHN)": ("query", 25, 730, 76),
    "by pair, one group per query": ("pair", 25, 150, 71),
    "by pair, single prompts": ("pair", 1, 150, 71),
}
SOURCE = """\
The folder holds the four JSONL files of judged rows that RLHN's authors publish beside their code
(https://github.com/castorini/rlhn, Apache-2.0; texts: MS MARCO and FiQA; paper: arXiv 2505.16967):
  fiqa.stage_1.gpt-4o-mini.jsonl, fiqa.stage_2.gpt-4o.jsonl,
  msmarco_passage.stage_1.gpt-4o-mini.jsonl, msmarco_passage.stage_2.gpt-4o.jsonl
Rows are Tevatron's, with negative_passage_ids and the raw reply in `response`.
"""


@dataclass(frozen=True, slots=True)
class Line:
    """One line of the table: a figure as measured, its interval if it has one, and as known, rounded alike."""

    name: str
    measured: str
    known: str
    interval: str = ""

    @property
    def met(self) -> bool:
        """Whether nothing was known, or the same."""
        return self.known in ("", self.measured)


def convert(data: Path, work: Path) -> Path:
    """Write `both.jsonl`, `fiqa.jsonl` and `msmarco.jsonl` (the rows of stage 1) and the script of all replies."""
    replies = work / "replies.jsonl"
    with replies.open("w", encoding="utf-8") as script, (work / "both.jsonl").open("w", encoding="utf-8") as both:
        for judge, files in FILES.items():
            for name, file in files.items():
                rows = [json.loads(line) for line in (data / file).read_text("utf-8").splitlines()]
                for row in rows:
                    recording = {"judge": judge, "template": "rlhn", "query_id": row["query_id"]}
                    recording |= {"candidate_ids": row["negative_passage_ids"], "reply": row.pop("response")}
                    row.pop("finish_reason")
                    script.write(json.dumps(recording) + "\n")
                if judge == "mini":
                    lines = "".join(json.dumps(row) + "\n" for row in rows)
                    (work / f"{name}.jsonl").write_text(lines, "utf-8")
                    both.write(lines)
    return replies


def cascade(work: Path, name: str, replies: Path, escalate: str, group_size: int) -> Mapping[str, Any]:
    """Run one cascade over one of the inputs in its own run directory and return its statistics."""
    folder = work / f"{name}-{escalate}-{group_size}"
    text = CASCADE.format(escalate=escalate, group_size=group_size, replies=json.dumps(str(replies)))
    return pipeline.run(pipeline.open_source(work / f"{name}.jsonl"), config.parse(text), folder).statistics


def asked(folder: Path, replies: Path, group_size: int) -> tuple[int, int]:
    """Return the requests that stage 2 of a finished run was sent, and their estimated input tokens."""
    judge = LLMJudge("strong", load_template("rlhn"), ScriptedEngine(replies), group_size=group_size, shuffle=False)
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


def percent(figure: Mapping[str, Any], name: str, known: str) -> Line:
    """Make the line of a rate."""
    return Line(name, f"{figure['value']:.0%}", known, f"{figure['low']:.1%} to {figure['high']:.1%}")


def kappa(figure: Mapping[str, Any], name: str, known: str) -> Line:
    """Make the line of a kappa."""
    return Line(name, f"{figure['value']:.2f}", known, f"{figure['low']:.2f} to {figure['high']:.2f}")


def agreement_lines(work: Path, replies: Path) -> list[Line]:
    """Judge the two data sets, together and apart, as RLHN does, and say how far the two models agree."""
    both = cascade(work, "both", replies, "query", 25)
    apart = {name: cascade(work, name, replies, "query", 25) for name in TITLES}
    said = {name: found["agreement"][0]["figures"] for name, found in apart.items()}
    lines = [percent(both["rates"]["flagged by mini"], "flagged by gpt-4o-mini, both data sets", "15%")]
    for name, known in (("fiqa", "35%"), ("msmarco", "55%")):
        line = f"of these confirmed by gpt-4o, {TITLES[name]}"
        lines.append(percent(apart[name]["rates"]["confirmed after mini"], line, known))
    for name, known in (("fiqa", "0.41"), ("msmarco", "0.65")):
        lines.append(kappa(said[name]["kappa_relevant_or_partial"], f"κ of better ∪ worse, {TITLES[name]}", known))
    for name, known in (("fiqa", "-0.01"), ("msmarco", "0.28")):
        lines.append(kappa(said[name]["kappa_relevant"], f"κ of better alone, {TITLES[name]}", known))
    return lines


def escalation_lines(work: Path, replies: Path) -> list[Line]:
    """Say what each way of escalating asks of stage 2 and what it finds."""
    lines = []
    for name, (escalate, group_size, pairs, findings) in WAYS.items():
        statistics = cascade(work, "both", replies, escalate, group_size)
        stage, verdicts = statistics["stages"][1], statistics["verdicts"]
        requests, estimate = asked(work / f"both-{escalate}-{group_size}", replies, group_size)
        lines += [
            Line(f"{name}: pairs asked", str(stage["asked"]), str(pairs)),
            Line(f"{name}: findings kept", str(verdicts["false_negative"] + verdicts["partial"]), str(findings)),
            Line(f"{name}: requests", str(requests), ""),
            Line(f"{name}: input tokens*", f"{estimate:,}", ""),
            Line(f"{name}: without a word", str(sum(stage["none"].values())), "0"),
        ]
    return lines


FOOTNOTE = """\
Pairs that stage 2 was asked about by query are all those of a query with a flag. Findings: better ∪ worse of stage 2.
Intervals: 95 %, bootstrap over queries. κ: pairs of the queries that went up, which both models saw.
* an estimate: characters / 4 of relabel's own prompt `rlhn`, not of the prompt that was recorded.
By pair, the recorded word on each pair is read out of gpt-4o's reply about its whole group (marked `replayed`):
the requests and tokens are what relabel would send, what gpt-4o would say to fewer candidates is not known."""


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
            lines = agreement_lines(work, replies) + escalation_lines(work, replies)
    except RelabelError as error:
        print(error, file=sys.stderr)
        return error.exit_code
    print(f"{'':<46}{'measured':>10}{'known':>8}      {'95 % interval'}")
    for line in lines:
        mark = "" if not line.known else "=" if line.met else "≠"
        print(f"{line.name:<46}{line.measured:>10}{line.known:>8}  {mark:<4}{line.interval}".rstrip())
    print(FOOTNOTE)
    return 0 if all(line.met for line in lines) else 1


if __name__ == "__main__":
    sys.exit(main())
