"""Files from strangers: none makes relabel write outside of what it was told to write, none runs code."""

import csv
import json
import pickle
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from rows import training_file

from relabel.errors import InputError, RelabelError
from relabel.formats import read_examples
from relabel.formats.corpora import open_parts
from relabel.mining.precomputed import Precomputed

HOSTILE = (
    "../../escaped", "/../escaped", "..", ".", "a/b/c", "a\0b", "x" * 5000, "con", "~/escaped", "$(touch escaped)",
    "`touch escaped`", "; touch escaped", "%2e%2e%2fescaped", "..\\..\\escaped", "\u202egpj.exe", "-rf", "\n../escaped",
)  # fmt: skip


def tree(folder: Path, *apart: Path) -> dict[str, int]:
    """Return all files below a folder with their sizes, but for those below some others."""
    return {
        str(path): path.stat().st_size
        for path in folder.rglob("*")
        if path.is_file() and not any(path.is_relative_to(each) for each in apart)
    }


def relabel(place: Path, *arguments: object) -> "subprocess.CompletedProcess[str]":
    """Run a command in a folder."""
    return subprocess.run(
        [sys.executable, "-m", "relabel", *map(str, arguments)], cwd=place, capture_output=True, text=True, check=False,
        timeout=120,
    )  # fmt: skip


@pytest.fixture
def place(tmp_path: Path) -> Path:
    """Return a folder deep enough that what escapes from it by some steps is still seen."""
    inner = tmp_path / "a" / "b" / "c"
    inner.mkdir(parents=True)
    return inner


def hostile_rows(path: Path) -> Path:
    """Write a training file in which every name is an attempt."""
    lines = []
    written = training_file(path, 40, twins=False).read_text("utf-8").splitlines()
    for number, (line, name) in enumerate(zip(written, HOSTILE * 3, strict=False)):
        row = json.loads(line)
        row |= {"query_id": name if number < len(HOSTILE) else f"{name}{number}", "source": name}
        for passage in (*row["positive_passages"], *row["negative_passages"]):
            passage["docid"] = f"{name}{passage['docid']}"
        lines.append(json.dumps(row))
    path.write_text("\n".join(lines) + "\n", "utf-8")
    return path


@pytest.mark.slow
def test_names_of_rows_are_no_paths(place: Path, tmp_path: Path) -> None:
    """Whatever queries, passages, sources and reviewers are called: only what was named is written."""
    source = hostile_rows(place / "train.jsonl")
    (place / "rules.yaml").write_text("stages: [rules]\n", "utf-8")
    before = tree(tmp_path)
    own = (place / "run", place / "out")
    (place / "out").mkdir()
    assert relabel(place, "run", source, "-c", "rules.yaml", "-o", "run", "-q").returncode == 0
    assert relabel(place, "audit", "export", "run", "-o", "out/pairs.csv", "--all").returncode == 0
    with (place / "out" / "pairs.csv").open(encoding="utf-8-sig", newline="") as file:
        rows = list(csv.DictReader(file))
    for row, name in zip(rows, HOSTILE * 10, strict=False):
        row["human_label"], row["reviewer"] = "irrelevant", name.replace("\0", "")[:100]
    with (place / "out" / "pairs.csv").open("w", encoding="utf-8", newline="") as file:
        writer = csv.DictWriter(file, list(rows[0]))
        writer.writeheader()
        writer.writerows(rows)
    done = relabel(place, "audit", "import", "run", "out/pairs.csv")
    assert done.returncode == 0, done.stderr
    for command in (["apply", "run"], ["stats", "run", "--all"], ["report", "run"], ["show", "run", "../../escaped"]):
        done = relabel(place, *command)
        assert done.returncode == 0, (command, done.stderr)
    for to, name in (
        ("beir", "out/beir"),
        ("automodel", "out/auto"),
        ("llama-index", "out/l.json"),
        ("bge", "out/b.jsonl"),
    ):
        done = relabel(place, "convert", source, name, "--to", to)
        assert done.returncode == 0, done.stderr
    assert tree(tmp_path, *own) == before


@pytest.mark.slow
@pytest.mark.parametrize("name", ["../../escaped", "/../escaped", "x" * 5000, "-rf"])
def test_names_that_are_typed_are_no_paths(place: Path, tmp_path: Path, name: str) -> None:
    """Samples and shards of hostile names are refused, or land in the run; a stage cannot be called so."""
    source = training_file(place / "train.jsonl", 6)
    (place / "rules.yaml").write_text("stages: [rules]\n", "utf-8")
    (place / "named.yaml").write_text(json.dumps({"stages": [{"judge": "rules", "name": name}]}), "utf-8")
    assert relabel(place, "run", source, "-c", "rules.yaml", "-o", "run", "-q").returncode == 0
    before = tree(tmp_path, place / "run")
    for command in (
        ["audit", "sample", "run", "-o", "s.csv", "-n", "3", "--name", name],
        ["run", source, "-c", "named.yaml", "-o", "run2"],
        ["prompts", "show", name],
    ):
        done = relabel(place, *command)
        assert done.returncode in {0, 2}, done.stderr
        assert "Traceback" not in done.stderr
        (place / "s.csv").unlink(missing_ok=True)
    assert tree(tmp_path, place / "run", place / "run2") == before
    assert all(path.is_relative_to(place / "run") for path in (place / "run").rglob("*"))


# --- nothing runs ---


class Bomb:
    """What writes a file when it is unpickled."""

    def __init__(self, mark: Path) -> None:
        self.mark = mark

    def __reduce__(self) -> tuple[Any, ...]:
        return (Path.touch, (self.mark,))


@pytest.fixture
def mark(tmp_path: Path) -> Iterator[Path]:
    """Return a path that nothing may make."""
    yield tmp_path / "it ran"
    assert not (tmp_path / "it ran").exists()


def test_a_pickle_among_vectors(tmp_path: Path, mark: Path) -> None:
    """NumPy files may hold pickles: such a one is refused and not opened."""
    pickle.loads(pickle.dumps(Bomb(tmp_path / "works")))  # noqa: S301 - our own
    assert (tmp_path / "works").exists()
    np.save(tmp_path / "objects.npy", np.array([[Bomb(mark)]], dtype=object), allow_pickle=True)
    (tmp_path / "pickle.npy").write_bytes(pickle.dumps(Bomb(mark)))
    np.savez(tmp_path / "several.npz", vectors=np.array([[Bomb(mark)]], dtype=object))
    (tmp_path / "several.npz").rename(tmp_path / "several.npy")
    for name in ("objects", "pickle", "several"):
        with pytest.raises(InputError):
            Precomputed(tmp_path / f"{name}.npy", tmp_path / f"{name}.npy")


def test_parquet_that_names_classes(tmp_path: Path, mark: Path) -> None:
    """Notes for pandas and `datasets`, and extension types that are pickled classes, are not followed."""
    rows = [{"query": "q", "pos": ["p"], "neg": ["n"]}]
    table = pa.Table.from_pylist(rows)
    notes = {
        b"pandas": b'{"index_columns": [], "columns": [{"name": "query", "pandas_type": "object"}],'
        b' "creator": {"library": "os", "version": "system"}}',
        b"huggingface": b'{"info": {"features": {"query": {"_type": "os.system", "dtype": "string"}}}}',
    }
    pq.write_table(table.replace_schema_metadata(notes), tmp_path / "notes.parquet")
    assert [each.query for each in read_examples(tmp_path / "notes.parquet")] == ["q"]
    extension = {
        b"ARROW:extension:name": b"arrow.py_extension_type", b"ARROW:extension:metadata": pickle.dumps(Bomb(mark)),
    }  # fmt: skip
    field = table.schema.field("query").with_metadata(extension)
    pq.write_table(table.cast(table.schema.set(0, field)), tmp_path / "extension.parquet")
    assert [each.query for each in read_examples(tmp_path / "extension.parquet")] == ["q"]


def test_a_saved_data_set_that_names_other_folders(tmp_path: Path) -> None:
    """A saved data set whose list of files leads elsewhere is refused."""
    for name in ("../secret.arrow", "/etc/passwd", "a/b.arrow"):
        (tmp_path / "state.json").write_text(json.dumps({"_data_files": [{"filename": name}]}), "utf-8")
        with pytest.raises(InputError, match=r"state\.json is not what"):
            list(read_examples(tmp_path))


def test_a_loading_script_is_not_run(tmp_path: Path, mark: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A folder for `datasets` with a script of its own: the script does not run."""
    monkeypatch.setenv("HF_HUB_OFFLINE", "1")
    folder = tmp_path / "script"
    folder.mkdir()
    (folder / "script.py").write_text(f"import pathlib\npathlib.Path({str(mark)!r}).touch()\n", "utf-8")
    for where in (f"hf:{folder}", str(folder)):
        with pytest.raises(InputError):
            open_parts(where)


def test_yaml_makes_no_objects(tmp_path: Path, mark: Path) -> None:
    """A config may name Python objects: it is refused."""
    for text in (
        f"!!python/object/apply:pathlib.Path.touch [{mark}]",
        f"stages: !!python/object/apply:os.system ['touch {mark}']",
    ):
        (tmp_path / "c.yaml").write_text(text, "utf-8")
        for command in ("config", "selection", "recipe"):
            module = __import__(f"relabel.{command}", fromlist=["load"])
            with pytest.raises(RelabelError, match="not YAML"):
                module.load(tmp_path / "c.yaml")
