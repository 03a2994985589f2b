"""Look for symptoms of bias in the recorded replies of RLHN's two judges: place in the prompt, length, word overlap.

The replies that exist answer one question each, about a whole list of candidates in the order in which they were
retrieved. So a yes may go with the place because it goes with the rank: what gpt-4o says of the same pairs stands
beside it. All that needs other questions (a probe, other orders and sizes, a swap, the same again, other words) has no
recording; the last line counts what was left out.
"""

import argparse
import csv
import json
import sys
import tempfile
from collections.abc import Mapping, Sequence
from pathlib import Path

from rlhn_sample import FILES, SOURCE, convert

from relabel import config, diagnosing, labelled, pipeline, sources
from relabel.diagnostics import Diagnostic
from relabel.errors import RelabelError
from relabel.labelled import Labels

STAGE = """\
stages:
  - {{judge: llm, name: {judge}, prompt: rlhn, shuffle: false, engine: {{kind: scripted, replies: {replies}}}}}
"""
TITLES = {"mini": "gpt-4o-mini", "strong": "gpt-4o"}
SETS = {"fiqa": "FiQA", "msmarco_passage": "MS MARCO"}
WIDTH = 25
FOOTNOTE = """
Yes: better or worse. ρ: Spearman's. Intervals: 95 %, bootstrap over queries. gpt-4o was shown only the rows in which
gpt-4o-mini said yes to some pair; "on the same pairs" and the differences are of pairs that both labelled.
Left out, since no recorded reply answers their questions: figures of {parts}."""


def rows_of(work: Path, name: str) -> Path:
    """Write the rows of one data set."""
    path = work / f"{name}.jsonl"
    lines = (work / "both.jsonl").read_text("utf-8").splitlines(keepends=True)
    path.write_text("".join(line for line in lines if json.loads(line)["subset"] == name), "utf-8")
    return path


def settings_of(judge: str, replies: Path) -> config.Settings:
    """Return a cascade of one recorded judge."""
    return config.parse(STAGE.format(judge=judge, replies=json.dumps(str(replies))))


def labels_of(rows: Path, replies: Path, work: Path) -> Labels:
    """Return what gpt-4o said of the pairs that it was shown, as labels to hold gpt-4o-mini against."""
    folder, path = work / f"{rows.stem}-run", work / f"{rows.stem}-labels.csv"
    pipeline.run(sources.open_source(rows), settings_of("strong", replies), folder)
    with pipeline.open_run(folder) as (plan, store), path.open("w", encoding="utf-8", newline="") as stream:
        table = csv.writer(stream)
        table.writerow(["query_id", "candidate_id", "label"])
        for pair in (pair for query in labelled.judged_pairs(plan, store) for pair in query):
            word = pair.words[0]
            if word is not None and word.label is not None:
                table.writerow([pair.finding.example.id, pair.finding.candidate.id, word.label])
    return Labels(str(path))


def figures(data: Path, work: Path) -> dict[tuple[str, str], Sequence[Diagnostic]]:
    """Diagnose both judges on both data sets."""
    replies = convert(data, work)
    wanted = diagnosing.Wanted(queries=10_000)
    found: dict[tuple[str, str], Sequence[Diagnostic]] = {}
    for name in SETS:
        rows = rows_of(work, name)
        for judge in TITLES:
            gold = labels_of(rows, replies, work) if judge == "mini" else None
            folder = work / f"{name}-{judge}"
            done = diagnosing.diagnose(
                sources.open_source(rows), settings_of(judge, replies), folder, wanted, gold=gold
            )
            found[name, judge] = done.figures
    return found


def cell(figure: Diagnostic | None) -> str:
    """Show a figure with its interval."""
    if figure is None or figure.value is None:
        return "–"
    ends = "" if figure.low is None or figure.high is None else f" ({figure.low:.2f} to {figure.high:.2f})"
    return f"{figure.value:.2f}{ends}".replace("-", "−")


def print_table(found: Mapping[tuple[str, str], Sequence[Diagnostic]]) -> None:
    """Print what could be had, and count what could not."""
    by_name = {key: {each.name: each for each in figures} for key, figures in found.items()}
    names = [name for name, each in by_name["fiqa", "mini"].items() if each.value is not None]
    print(f"{'':<48}" + "".join(f"{f'{SETS[name]}, {TITLES[judge]}':>{WIDTH}}" for name, judge in found))
    for name in names:
        shown = name.replace("judge − people", "mini − 4o").replace(": people", ": 4o on the same pairs")
        shown = shown.replace("correlation of yes with", "ρ of yes with").replace(" in the prompt", "")
        print(f"{shown.replace('yes rate in the ', 'yes rate, '):<48}", end="")
        print("".join(f"{cell(known.get(name)):>{WIDTH}}" for known in by_name.values()))
    of = {key: max(each.of for each in figures) for key, figures in found.items()}
    print(f"{'pairs with a label':<48}" + "".join(f"{count:>{WIDTH},}" for count in of.values()))
    lacking = sorted({each.part for figures in found.values() for each in figures if each.value is None})
    print(FOOTNOTE.format(parts=", ".join(lacking)))


def main() -> int:
    """Print one table; 2 without the data."""
    parser = argparse.ArgumentParser(
        description=__doc__, epilog=SOURCE, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--data", type=Path, required=True, metavar="FOLDER", help="RLHN's judged sample, see below")
    options = parser.parse_args()
    wanted = [options.data / file for files in FILES.values() for file in files.values()]
    if missing := [path for path in wanted if not path.is_file()]:
        print(f"{missing[0]} is not there; see --help for where to get the data", file=sys.stderr)
        return 2
    try:
        with tempfile.TemporaryDirectory() as temporary:
            print_table(figures(options.data, Path(temporary).resolve()))
    except RelabelError as error:
        print(error, file=sys.stderr)
        return error.exit_code
    return 0


if __name__ == "__main__":
    sys.exit(main())
