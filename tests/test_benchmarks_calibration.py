import subprocess
import sys
from pathlib import Path

import numpy as np

SCRIPT = Path(__file__).parent.parent / "benchmarks" / "calibration.py"
SETS = ("4prompts_flant5large", "sun_then_decomposed_flant5large", "4prompts_llama70b")


def run(*given: str) -> subprocess.CompletedProcess[str]:
    """Start the benchmark."""
    return subprocess.run(
        [sys.executable, str(SCRIPT), *given], capture_output=True, text=True, encoding="utf-8", check=False
    )


def test_missing_data_is_one_clear_message(tmp_path: Path) -> None:
    """Without the data the benchmark says which file it looked for and where to read on, and exits with 2."""
    done = run("--data", str(tmp_path / "nowhere"))
    assert done.returncode == 2
    assert "nowhere" in done.stderr
    assert "see --help" in done.stderr
    assert len(done.stderr.splitlines()) == 1


def test_judges_that_are_right_settle_nearly_all(tmp_path: Path) -> None:
    """Forty queries, judges that say what people say: every promise is kept, and much is covered."""
    rng = np.random.default_rng(0)
    grades = rng.integers(0, 4, size=(40, 20))
    (tmp_path / "llm_qrels").mkdir()
    for path in (tmp_path / "qrels.tsv", *[tmp_path / "llm_qrels" / f"dl2019_test_{name}.tsv" for name in SETS]):
        rows = [f"q{q}\tp{p}\t{grades[q, p]}" for q in range(40) for p in range(20)]
        path.write_text("\n".join(["query-id\tcorpus-id\tscore", *rows]), encoding="utf-8")
    done = run("--data", str(tmp_path), "--splits", "40")
    assert done.returncode == 0, done.stderr
    assert "800 pairs of 40 queries" in done.stdout
    (row,) = [line for line in done.stdout.splitlines() if line.startswith("strong  relevant     0.40")][:1]
    assert "0.000" in row
    assert "every promise of the bound over queries was kept" in done.stdout
    assert "any flag sends the query up (RLHN)" in done.stdout
