"""Coverage-guided fuzzing with atheris (LLVM's libFuzzer) of the reply readers, of quoting and of template files.

    python -m pip install atheris            # in an environment of its own, beside relabel
    python tests/fuzz.py replies --seconds 600

Ends with 0 when nothing was found; libFuzzer writes what breaks a property of tests/fuzzed.py as a file into the folder
of --found, to be added as base64 to tests/fuzz_corpus.jsonl, which the tests try.
"""

import argparse
import sys
from pathlib import Path


def main() -> int:
    """Fuzz one target; 2 without atheris."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("target", choices=("replies", "quoting", "templates"))
    parser.add_argument("--seconds", type=int, default=60)
    parser.add_argument("--found", type=Path, default=Path("fuzz-found"), metavar="FOLDER")
    options = parser.parse_args()
    try:
        import atheris
    except ModuleNotFoundError:
        sys.stderr.write("atheris is not installed; see --help\n")
        return 2
    sys.path[:0] = [str(Path(__file__).parent), str(Path(__file__).parent.parent)]
    with atheris.instrument_imports(include=["relabel"]):
        import fuzzed
    corpus = options.found / f"{options.target}-corpus"
    corpus.mkdir(parents=True, exist_ok=True)
    for number, seed in enumerate(fuzzed.seeds(options.target)):
        (corpus / f"seed{number}").write_bytes(seed)
    words = options.found / "words"
    words.write_text("".join(f'"{word}"\n' for word in (*fuzzed.WORDS, *fuzzed.TEMPLATE_WORDS)), encoding="ascii")
    libfuzzer = [
        f"-max_total_time={options.seconds}", "-max_len=4096", "-timeout=20", "-rss_limit_mb=2048",
        f"-dict={words}", f"-artifact_prefix={options.found}/{options.target}-", "-print_final_stats=1", str(corpus),
    ]  # fmt: skip
    atheris.Setup([sys.argv[0], *libfuzzer], fuzzed.TARGETS[options.target])
    atheris.Fuzz()
    return 0


if __name__ == "__main__":
    sys.exit(main())
