"""What a user installs: the wheel, its prompts, its types, its public names."""

import os
import subprocess
import sys
import zipfile
from pathlib import Path

import pytest

import relabel

ROOT = Path(__file__).parents[1]


@pytest.fixture(scope="module")
def wheel(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Build the wheel from the checkout."""
    out = tmp_path_factory.mktemp("dist")
    command = [sys.executable, "-m", "build", "--wheel", "--no-isolation", "--outdir", str(out), str(ROOT)]
    subprocess.run(command, check=True, capture_output=True)
    return next(out.glob("*.whl"))


def test_the_built_wheel_runs(wheel: Path, tmp_path: Path) -> None:
    """From the wheel alone, outside the checkout: the sample's cascade runs with the prompts in the wheel."""
    site = tmp_path / "site"
    with zipfile.ZipFile(wheel) as archive:
        archive.extractall(site)
    script = (
        "import relabel, pathlib, sys;"
        f"assert pathlib.Path(relabel.__file__).is_relative_to({str(site)!r}), relabel.__file__;"
        "from relabel.cli import main; main()"
    )
    done = subprocess.run(
        [sys.executable, "-c", script, "run", str(ROOT / "data" / "sample.jsonl"), "-c",
         str(ROOT / "data" / "cascade.simulated.yaml"), "-o", str(tmp_path / "run"), "-q"],
        cwd=tmp_path, env={**os.environ, "PYTHONPATH": str(site)}, capture_output=True, text=True, check=False,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    assert (tmp_path / "run" / "cleaned.jsonl").exists()


def test_the_wheel_holds_prompts_types_and_nothing_else(wheel: Path) -> None:
    """Templates, pages and py.typed are in the wheel; tests, data and benchmarks are not."""
    names = zipfile.ZipFile(wheel).namelist()
    assert {"relabel/reporting/page.html", "relabel/reporting/page.css"} <= set(names)
    for prompt in (ROOT / "prompts").rglob("*.md"):
        assert f"relabel/_prompts/{prompt.relative_to(ROOT / 'prompts')}" in names
    for folder in ("templates", "static"):
        for page in (ROOT / "relabel" / "web" / folder).iterdir():
            assert f"relabel/web/{folder}/{page.name}" in names
    assert "relabel/py.typed" in names
    assert {name.split("/")[0].split("-")[0] for name in names} == {"relabel"}


def test_public_names() -> None:
    """What `import relabel` offers is what it lists, sorted, and each name is there."""
    assert relabel.__all__ == sorted(relabel.__all__)
    for name in relabel.__all__:
        assert getattr(relabel, name) is not None
    assert set(relabel.__all__) == {name for names in relabel._HOME.values() for name in names}
    with pytest.raises(AttributeError, match="no attribute 'nothing'"):
        _ = relabel.nothing
