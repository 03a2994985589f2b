"""Coverage-guided fuzzing of everything that reads a file or a reply: nothing but a RelabelError may leave a reader.

By hand, with Atheris (libFuzzer for Python) installed: `python tests/fuzz_readers.py --seconds 600`. Each reader has
its share of the time. What is found lies in a folder afterwards, each file with its traceback, and ends in exit code 1.
The test suite gives the same readers the same files and some seeded mutations of them, without coverage.
"""

import argparse
import json
import re
import subprocess
import sys
import tempfile
import traceback
from collections.abc import Sequence
from pathlib import Path
from typing import Any


def fuzz(name: str, found: Path, arguments: Sequence[str]) -> None:
    """Let libFuzzer drive one reader; this never returns."""
    import atheris

    with atheris.instrument_imports(include=["relabel"]):
        import readers
    known = {path.name for path in found.iterdir()}
    folder = Path(tempfile.mkdtemp(dir=found))

    def one(content: bytes) -> None:
        error = readers.read(name, content, folder)
        if error is None:
            return
        last = traceback.extract_tb(error.__traceback__)[-1]
        mark = f"{name}-{type(error).__name__}-{Path(last.filename).stem}-{last.lineno}".replace(" ", "_")
        if mark not in known:
            known.add(mark)
            (found / mark).write_bytes(content)
            (found / f"{mark}.txt").write_text("".join(traceback.format_exception(error)), "utf-8", "replace")

    atheris.Setup([sys.argv[0], *arguments], one)
    atheris.Fuzz()


def figures(told: str) -> dict[str, Any]:
    """Return what libFuzzer says of its work: executions, edges of coverage (and features), files kept."""
    last = (re.findall(r"#(\d+)\s+\w+\s+cov: (\d+) ft: (\d+) corp: (\d+)", told) or [("0", "0", "0", "0")])[-1]
    runs = re.search(r"number_of_executed_units: (\d+)", told)
    return {
        "runs": int(runs[1] if runs else last[0]),
        "edges": int(last[1]),
        "features": int(last[2]),
        "kept": int(last[3]),
    }


def main() -> int:
    """Fuzz the readers, one after the other; return the exit code."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--seconds", type=float, default=600, help="for all readers together")
    parser.add_argument("--reader", action="append", default=[], help="only these, by their names in readers.py")
    parser.add_argument("--found", type=Path, default=Path("found"), help="folder for what is found")
    parser.add_argument("--one", nargs=argparse.REMAINDER, help=argparse.SUPPRESS)
    options = parser.parse_args()
    try:
        import atheris  # noqa: F401 - whether it is there
    except ImportError:
        print("fuzz_readers: this needs Atheris; type: pip install atheris", file=sys.stderr)  # noqa: T201
        return 2
    options.found.mkdir(parents=True, exist_ok=True)
    if options.one:
        fuzz(options.reader[0], options.found, options.one)
    from readers import READERS, seeds

    names = options.reader or [*READERS]
    for name in names:
        with tempfile.TemporaryDirectory() as corpus:
            for number, content in enumerate(seeds(name)):
                (Path(corpus) / str(number)).write_bytes(content)
            share = max(1, int(options.seconds / len(names)))
            command = [
                sys.executable, __file__, "--found", str(options.found), "--reader", name, "--one", corpus,
                f"-max_total_time={share}", "-print_final_stats=1", "-rss_limit_mb=4096", "-timeout=20",
                f"-artifact_prefix={options.found}/",
            ]  # fmt: skip
            done = subprocess.run(command, capture_output=True, text=True, errors="replace", check=False)
            print(f"{name:20} {json.dumps(figures(done.stderr))}", flush=True)  # noqa: T201
            if done.returncode:
                print(done.stderr[-2000:], file=sys.stderr)  # noqa: T201
    return int(any(path.is_file() for path in options.found.iterdir()))


if __name__ == "__main__":
    sys.exit(main())
