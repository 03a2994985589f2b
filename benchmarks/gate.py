"""How many good and bad synthetic candidates does the gate tell apart, by reason of refusal?

Candidates that were marked good or bad before anybody looked at them (fields `mark`, and `kind` for what is bad about
one) go through `relabel synthesize`: cheap checks, then the cascade that the settings name. Bad is what the gate is to
find: precision is the share of what it refuses that is marked bad, recall the share of what is marked bad that it does
not accept. "as marked" counts those refused for the very reason they were marked with. Intervals are Wilson's, 95 %.

Without options: the project's own sample, whose judge is simulated (data/README.md). The cheap checks are measured by
it, the judge is not: its errors are those that were put in.
"""

import argparse
import json
import sys
from collections import Counter
from collections.abc import Iterable, Iterator
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

DATA = Path(__file__).resolve().parent.parent / "data"
KEPT = "accepted"

Marked = tuple[str, str, str]
"""Mark, kind, and what became of it: a reason, "accepted", or "none"."""


def marked(candidates: Path, ledger: Path) -> list[Marked]:
    """Bring together what candidates were marked with and what became of them."""
    ends = {}
    for row in _rows(ledger):
        if row.get("text"):
            ends[row["query_id"], row["text"]] = KEPT if row["end"] == "accepted" else _reason(row)
    return [
        (row["mark"], row["kind"], ends[row["query_id"], row["text"]]) for row in _rows(candidates) if row.get("text")
    ]


def _reason(row: dict[str, Any]) -> str:
    return str(row["reason"]) if row["end"] == "refused" else f"none: {row['reason']}"


def _rows(path: Path) -> Iterator[dict[str, Any]]:
    with path.open(encoding="utf-8") as lines:
        yield from map(json.loads, lines)


def share(found: int, of: int) -> str:
    """Show a share with its interval, in percent."""
    from scipy.stats import binomtest

    if not of:
        return "–"
    low, high = binomtest(found, of).proportion_ci(method="wilson")
    return f"{100 * found / of:.0f} % ({100 * low:.0f} to {100 * high:.0f})"


def table(found: Iterable[Marked]) -> list[str]:
    """Return the lines of the table: all refusals, the cheap ones, the judges', then each reason by itself."""
    from relabel.synthesis.gate import REASONS

    found = list(found)
    ends = Counter(end for _, _, end in found)
    refusals = [reason for reason in ends if reason != KEPT and not reason.startswith("none")]
    cheap = [reason for reason in refusals if reason in REASONS]
    lines = [
        f"{'refused as':28}{'refused':>8}{'bad':>6}{'as marked':>11}{'marked so':>11}  precision (95 %)   recall (95 %)"
    ]

    def line(name: str, reasons: list[str], kinds: list[str]) -> str:
        refused = [(mark, kind, end) for mark, kind, end in found if end in reasons]
        bad = sum(mark == "bad" for mark, _, _ in refused)
        same = sum(kind == end for _, kind, end in refused)
        so = [(kind, end) for _, kind, end in found if kind in kinds]
        kept_out = sum(end != KEPT for _, end in so)
        return (
            f"{name:28}{len(refused):8}{bad:6}{same:11}{len(so):11}  {share(bad, len(refused)):18}"
            f" {share(kept_out, len(so))}"
        )

    kinds = sorted({kind for _, kind, _ in found if kind})
    lines.append(line("all", refusals, kinds))
    lines.append(line("  cheap checks", cheap, [kind for kind in kinds if kind in REASONS]))
    lines.append(
        line("  judges", [each for each in refusals if each not in REASONS], [k for k in kinds if k not in REASONS])
    )
    lines += [line(f"    {reason}", [reason], [reason]) for reason in sorted({*refusals, *kinds})]
    good = sum(mark == "good" for mark, _, _ in found)
    good_kept = sum(mark == "good" and end == KEPT for mark, _, end in found)
    silent = sum(number for end, number in ends.items() if end.startswith("none"))
    lines.append(f"accepted {ends[KEPT]}: marked good {share(good_kept, ends[KEPT])}; no verdict about {silent}")
    lines.append(f"of {good} marked good accepted {share(good_kept, good)}")
    return lines


def main(arguments: list[str] | None = None) -> int:
    """Print the table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--input", type=Path, default=DATA / "sample.jsonl", help="training file")
    parser.add_argument("--candidates", type=Path, default=DATA / "synthetic.candidates.jsonl", help="marked ones")
    parser.add_argument("--config", type=Path, default=DATA / "synthesize.simulated.yaml", help="names the cascade")
    chosen = parser.parse_args(arguments)
    missing = next((path for path in (chosen.input, chosen.candidates, chosen.config) if not path.is_file()), None)
    if missing is not None:
        print(f"{missing} is missing: see --help", file=sys.stderr)
        return 2
    from relabel import api_synthesis
    from relabel.synthesis import settings

    config = settings.load(chosen.config).model_copy(update={"written": str(chosen.candidates)})
    with TemporaryDirectory() as folder:
        done = api_synthesis.synthesize(chosen.input, config, output=Path(folder) / "out")
        lines = table(marked(chosen.candidates, done.files["synthetic"]))
    print("\n".join(lines))
    return 0


if __name__ == "__main__":
    sys.exit(main())
