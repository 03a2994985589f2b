"""An input judged in parts by several machines, and put together again: the bytes are those of one run."""

import csv
import json
import os
import random
import subprocess
import sys
from collections.abc import Callable, Iterable, Iterator, Mapping
from pathlib import Path
from typing import Any

import pytest
from conftest import Save
from rows import training_file

import relabel
from relabel import merging, sources
from relabel.api import default_folder
from relabel.config import Settings
from relabel.errors import RunError, SettingsError
from relabel.protocols import Judge, Reply, Request
from relabel.records import LABELS, Case, Judgment, chance
from relabel.shards import Shard
from relabel.store import PersonLabel, Store

pytestmark = pytest.mark.usefixtures("tidy")

ROOT = Path(__file__).parents[1]
SAMPLE = ROOT / "data" / "sample.jsonl"
SIMULATED = ROOT / "data" / "cascade.simulated.yaml"
RESULTS = ("flagged.csv", "changes.jsonl", "statistics.json", "rejects.jsonl", "below_min_negatives.jsonl")
BAD = '{"query": 3, "positive_passages": [], "negative_passages": []}\n'

Row = dict[str, Any]


class Dice:
    """A judge that says something else of every pair, and always the same."""

    def __init__(self, name: str) -> None:
        self.name, self.asked = name, 0

    def judge(self, cases: Iterable[Case]) -> Iterator[Case]:
        """Judge each case as it comes."""
        for case in cases:
            self.asked += len(case.pairs)
            yield case.judged(tuple(self.word(case, pair.key) for pair in case.pairs))

    def word(self, case: Case, key: bytes) -> Judgment:
        """Choose among the labels and none."""
        at = int(4 * chance(self.name, case.key.hex(), key.hex()))
        return Judgment(LABELS[at], score=float(at)) if at < 3 else Judgment(None, "unreadable")


TWO_STAGES = Settings.model_validate({
    "stages": [
        "rules",
        {"judge": "rules", "name": "cheap", "final": ["irrelevant"], "sample": 0.3},
        {"judge": "rules", "name": "strong"},
    ],
    "policy": {"max_flagged": 4, "min_negatives": 4},
})  # fmt: skip


def dice() -> dict[str, Judge]:
    """The judges of both stages."""
    return {"cheap": Dice("cheap"), "strong": Dice("strong")}


def sharded(path: Path, of: int, folder: Path, config: Any = TWO_STAGES, **options: Any) -> list[Path]:
    """Run every shard; return their folders."""
    folders = [folder / f"{number}-of-{of}" for number in range(1, of + 1)]
    for number, each in enumerate(folders, start=1):
        judges = dice() if config is TWO_STAGES else None
        relabel.run(path, config, output=each, shard=f"{number}/{of}", judges=judges, **options)
    return folders


def results(folder: Path) -> dict[str, bytes]:
    """Return what a run wrote."""
    (cleaned,) = folder.glob("cleaned.*")
    return {path.name: path.read_bytes() for path in [cleaned, *(folder / name for name in RESULTS)]}


def manifest(folder: Path) -> Row:
    """Return a run's manifest."""
    content: Row = json.loads((folder / "manifest.json").read_text("utf-8"))
    return content


def rewrite(path: Path, change: Callable[[Row], object]) -> None:
    """Change a JSON file in place."""
    content = json.loads(path.read_text("utf-8"))
    change(content)
    path.write_text(json.dumps(content), "utf-8")


@pytest.fixture
def train(tmp_path: Path) -> Path:
    """Rows of which some stand twice, some apart under another spelling of the query, and two cannot be read."""
    path = training_file(tmp_path / "train.jsonl", 60)
    lines = path.read_text("utf-8").splitlines(keepends=True)
    row = json.loads(lines[0])
    moved = row["positive_passages"][0] | {"docid": "elsewhere"}
    again = row | {
        "query_id": "again",
        "query": f"{row['query'].upper()} ?",
        "negative_passages": [moved, *row["negative_passages"]],
    }
    again["positive_passages"] = [{"docid": "other", "title": "", "text": "another answer"}]
    path.write_text("".join([BAD, *lines, json.dumps(again) + "\n", "no JSON\n"]), "utf-8")
    return path


@pytest.fixture
def whole(train: Path, tmp_path: Path) -> Path:
    """One run over the whole of it."""
    relabel.run(train, TWO_STAGES, output=tmp_path / "whole", on_error="skip", judges=dice())
    return tmp_path / "whole"


# --- which rows ---


def test_every_row_lies_in_one_shard_with_its_place_in_the_whole(train: Path) -> None:
    """The shards' examples are the whole's, positions too; what cannot be read counts in the first shard only."""
    examples = list(relabel.read(train, on_error="skip"))
    rejects: dict[int, list[Any]] = {number: [] for number in (1, 2, 3)}
    parts = [
        list(sources.open_source(train, on_error="skip", shard=f"{number}/3").examples(rejects[number].append))
        for number in rejects
    ]
    assert all(parts)
    assert sorted((each for part in parts for each in part), key=lambda each: each.position) == examples
    assert [[reject.position for reject in found] for found in rejects.values()] == [[0, len(examples) + 1], [], []]


def test_the_rows_of_a_query_lie_together_in_any_order(train: Path, tmp_path: Path) -> None:
    """A query's shard follows from its words as the rules judge compares them, whatever the rows' order."""
    lines = train.read_text("utf-8").splitlines(keepends=True)
    random.Random(1).shuffle(lines)
    other = tmp_path / "other.jsonl"
    other.write_text("".join(lines), "utf-8")

    def ids(path: Path) -> set[str]:
        return {each.id for each in sources.open_source(path, on_error="skip", shard="2/3").examples()}

    assert ids(train) == ids(other)
    for number in range(1, 8):
        assert Shard(number, 7).holds("What is BM25?") == Shard(number, 7).holds(" what  is “bm25”")
    counts = [sum(Shard(number, 4).holds(f"question {i}") for i in range(4000)) for number in range(1, 5)]
    assert sum(counts) == 4000
    assert all(900 < count < 1100 for count in counts)  # 1000 ± 3.7 standard deviations of √(4000·¼·¾) = 27


@pytest.mark.parametrize("text", ["0/8", "9/8", "/8", "2", "2/", "", "a/b", "-1/8", "2/8/9", "1.0/8", "0/0", "²/8"])
def test_what_is_no_shard_is_refused(text: str, train: Path, tmp_path: Path) -> None:
    """The error says what to type, and nothing was begun."""
    with pytest.raises(SettingsError, match=r"is no shard(.|\n)*--shard 2/8"):
        relabel.run(train, TWO_STAGES, output=tmp_path / "run", shard=text)
    assert not (tmp_path / "run").exists()


def test_the_default_folder_says_which_shard() -> None:
    """Shards never share a folder by default, with settings that have no name either."""
    assert default_folder("a/train.jsonl", "cascade.yaml", shard="2/8") == Path("runs/train-cascade-2-of-8")
    unnamed = default_folder("train.jsonl", TWO_STAGES, shard="02/8")
    assert unnamed.name == f"{default_folder('train.jsonl', TWO_STAGES).name}-2-of-8"


# --- a shard's folder ---


def test_a_shards_folder_is_a_run_of_its_rows(train: Path, tmp_path: Path) -> None:
    """Every row's results are in one shard's files and nowhere else, and the manifest says which shard it is."""
    folders = sharded(train, 3, tmp_path, on_error="skip")
    rows = [json.loads((folder / "statistics.json").read_text())["rows"] for folder in folders]
    assert [each["rejected"] for each in rows] == [2, 0, 0]
    assert sum(each["in"] for each in rows) == len(train.read_text("utf-8").splitlines())
    for number, (folder, counts) in enumerate(zip(folders, rows, strict=True), start=1):
        assert manifest(folder)["input"]["shard"] == f"{number}/3"
        cleaned = (folder / "cleaned.jsonl").read_text("utf-8").splitlines()
        assert len(cleaned) == counts["written"] > 0
        assert all(Shard(number, 3).holds(json.loads(line)["query"]) for line in cleaned)


def test_what_one_does_with_a_run_works_with_a_shard(train: Path, tmp_path: Path) -> None:
    """Show, stats, audit and apply see the shard's rows; what needs the whole is refused."""
    first, second = sharded(train, 2, tmp_path, on_error="skip")
    mine = {each.id for each in sources.open_source(train, on_error="skip", shard="2/2").examples()}
    assert {each.example.id for each in relabel.show(second, "question")} == mine
    relabel.audit_export(second, tmp_path / "all.csv", everything=True)
    label(tmp_path / "all.csv", tmp_path / "labelled.csv")
    assert relabel.audit_import(second, tmp_path / "labelled.csv").labels == 1
    done = relabel.apply(second, policy="drop")
    assert done.statistics == relabel.stats(second)
    assert done.statistics["rows"]["in"] == len(mine)
    assert manifest(second)["input"]["shard"] == "2/2"
    with pytest.raises(RunError, match="only the whole can be rebuilt"):
        list(relabel.rebuild(second))
    with pytest.raises(RunError, match="different parts of the input"):
        relabel.flips(first, second)


def label(listed: Path, labelled: Path, word: str = "relevant") -> None:
    """Label the first pair that is not void, as anna."""
    with listed.open(encoding="utf-8-sig", newline="") as file:
        rows = list(csv.DictReader(file))
    chosen = next(row for row in rows if row["verdict"] == "true negative")
    chosen |= {"human_label": word, "reviewer": "anna"}
    with labelled.open("w", encoding="utf-8", newline="") as file:
        writer = csv.DictWriter(file, list(rows[0]))
        writer.writeheader()
        writer.writerows(rows)


def test_a_folder_stays_the_shard_that_it_is(train: Path, tmp_path: Path) -> None:
    """A run over another part of the input would replace the results: it is refused; the same shard goes on."""
    first, second = sharded(train, 2, tmp_path, on_error="skip")
    before = results(second)
    for shard, words in (("1/2", "shard 2/2, not shard 1/2"), (None, "shard 2/2, not the whole input")):
        with pytest.raises(RunError, match=words):
            relabel.run(train, TWO_STAGES, output=second, shard=shard, on_error="skip", judges=dice())
    relabel.run(train, TWO_STAGES, output=second, shard="2/2", on_error="skip", judges=dice())
    assert results(second) == before
    (first / "manifest.json").write_text("{}", "utf-8")  # says nothing: it is written anew
    relabel.run(train, TWO_STAGES, output=first, shard="1/2", on_error="skip", judges=dice())
    assert manifest(first)["input"]["shard"] == "1/2"


def test_a_manifest_from_before_shards_means_the_whole(train: Path, whole: Path) -> None:
    """Runs that were made by an older relabel are read and gone on with."""
    before = results(whole)
    rewrite(whole / "manifest.json", lambda told: told["input"].pop("shard"))
    relabel.apply(whole)
    assert results(whole) == before
    rewrite(whole / "manifest.json", lambda told: told["input"].pop("shard"))
    relabel.run(train, TWO_STAGES, output=whole, on_error="skip", judges=dice())
    assert results(whole) == before


# --- merging ---


@pytest.mark.parametrize("of", [1, 3, 40])
def test_merged_shards_are_one_run(of: int, train: Path, whole: Path, tmp_path: Path) -> None:
    """All files are equal byte for byte: rules across rows, two more stages, samples, twins, rejects, empty shards."""
    folders = sharded(train, of, tmp_path, on_error="skip")
    done = relabel.merge(reversed(folders), tmp_path / "merged")
    assert results(tmp_path / "merged") == results(whole)
    statistics = json.loads((whole / "statistics.json").read_text())
    assert statistics["rows"]["rejected"] == 2
    assert statistics["rows"]["below_min_negatives"] > 0
    assert min(statistics["stages"][2]["second_opinions"]["asked"], statistics["verdicts"]["undecided"]) > 0
    assert "positive in another row" in (whole / "flagged.csv").read_text("utf-8-sig")
    told, one = manifest(tmp_path / "merged"), manifest(whole)
    assert told.pop("merged_from") == [str(folder.resolve()) for folder in folders]
    assert told == one
    assert done.statistics == statistics
    assert list(relabel.rebuild(tmp_path / "merged")) == list(relabel.rebuild(whole))


@pytest.mark.parametrize("name", ["train.csv", "train.jsonl.gz", "train.csv.gz"])
def test_other_files_merge_too(name: str, tmp_path: Path) -> None:
    """CSV keeps its header in a shard without rows, and compressed files are equal too."""
    source = tmp_path / name
    relabel.api.convert(training_file(tmp_path / "rows.jsonl", 12), source, to="triplets")
    relabel.run(source, TWO_STAGES, output=tmp_path / "whole", judges=dice())
    folders = sharded(source, 40, tmp_path)
    if name == "train.csv":
        with source.open(encoding="utf-8") as lines:
            header = next(lines)
        assert header in {(folder / "cleaned.csv").read_text("utf-8") for folder in folders}
    relabel.merge(folders, tmp_path / "merged")
    assert results(tmp_path / "merged") == results(tmp_path / "whole")


def test_after_a_merge_nobody_is_asked(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Recorded judges on the sample: equal files, spending summed up, and a run over the whole asks nobody."""
    one = relabel.run(SAMPLE, SIMULATED, output=tmp_path / "whole")
    folders = sharded(SAMPLE, 3, tmp_path, SIMULATED)
    merged = tmp_path / "merged"
    done = relabel.merge(folders, merged)
    assert results(merged) == results(tmp_path / "whole")
    for stage, spent in one.spending.items():
        assert done.spending[stage]["asked"] == spent["asked"] > 0
        assert done.spending[stage]["tokens_in"] == spent["tokens_in"]
    executions = [json.loads((folder / "run.json").read_text()) for folder in folders]
    written = json.loads((merged / "run.json").read_text())
    assert written["spending"] == done.spending
    assert written["seconds"] == pytest.approx(sum(each["seconds"] for each in executions), abs=0.01)

    def nobody(_self: object, requests: Iterable[Request]) -> Iterator[Reply]:
        for request in requests:
            raise AssertionError(request)
        yield from ()

    monkeypatch.setattr("relabel.engines.scripted.ScriptedEngine.answer", nobody)
    again = relabel.run(SAMPLE, SIMULATED, output=merged)
    assert results(merged) == results(tmp_path / "whole")
    assert {stage: spent["asked"] for stage, spent in again.spending.items()} == {"cheap": 0, "strong": 0}
    assert all(spent["from_store"] > 0 for spent in again.spending.values())


def test_spending_is_summed_up(tmp_path: Path) -> None:
    """Each figure of each stage is added; where one shard's cost is unknown, so is the sum."""
    folders = sharded(SAMPLE, 2, tmp_path, SIMULATED)
    for folder, tokens, usd in zip(folders, (100, 23), (1.5, None), strict=True):
        told = json.loads((folder / "run.json").read_text("utf-8"))
        told["spending"]["cheap"] |= {"tokens_in": tokens, "usd": usd}
        told["spending"]["strong"] |= {"usd": tokens / 4, "what no sum can be made of": {"version": 1}}
        told["passages_longer_than_the_model_reads"] = tokens
        (folder / "run.json").write_text(json.dumps(told), "utf-8")
    done = relabel.merge(folders, tmp_path / "merged")
    assert (done.spending["cheap"]["tokens_in"], done.spending["cheap"]["usd"]) == (123, None)
    assert done.spending["strong"]["usd"] == 30.75  # 25 + 5.75
    assert done.spending["strong"].keys() == done.spending["cheap"].keys()
    assert done.windowed == 123


def test_a_merged_run_is_an_ordinary_run(train: Path, whole: Path, tmp_path: Path) -> None:
    """Apply, show, stats, audit and flips work on it as on one run, after the input was moved too."""
    folders = sharded(train, 3, tmp_path, on_error="skip")
    moved = train.rename(tmp_path / "moved.jsonl")
    merged = tmp_path / "merged"
    with pytest.raises(RunError, match=r"is no longer there(.|\n)*--input"):
        relabel.merge(folders, merged)
    relabel.merge(folders, merged, moved)
    assert results(merged) == results(whole)
    assert relabel.show(merged) == relabel.show(whole, path=moved)
    assert relabel.flips(merged, whole, path=moved) == []
    relabel.apply(merged, policy="drop")
    relabel.apply(whole, policy="drop", path=moved)
    assert results(merged) == results(whole)
    assert len(manifest(merged)["merged_from"]) == 3
    assert relabel.stats(merged) == relabel.stats(whole)
    exported = [tmp_path / "a.csv", tmp_path / "b.csv"]
    for folder, path in zip((merged, whole), exported, strict=True):
        relabel.audit_export(folder, path, everything=True, path=moved)
    assert exported[0].read_bytes() == exported[1].read_bytes()


def test_peoples_labels_are_merged(train: Path, whole: Path, tmp_path: Path) -> None:
    """Labels that were taken into a shard hold in the merged run; given there anew, the newer one stays."""
    folders = sharded(train, 3, tmp_path, on_error="skip")
    listed, labelled = tmp_path / "listed.csv", tmp_path / "labelled.csv"
    relabel.audit_export(folders[1], listed, everything=True)
    label(listed, labelled)
    relabel.audit_export(whole, listed, everything=True)
    for folder in (folders[1], whole):
        relabel.audit_import(folder, only_labelled(labelled))
        relabel.apply(folder)
    merged = tmp_path / "merged"
    relabel.merge(folders, merged)
    assert results(merged) == results(whole)
    assert relabel.stats(merged)["verdicts"] != json.loads((folders[1] / "statistics.json").read_text())["verdicts"]
    label(listed, labelled, "partial")
    chosen = only_labelled(labelled)
    relabel.audit_import(merged, chosen)
    relabel.apply(merged)
    newer = results(merged)
    relabel.merge(folders, merged)
    assert results(merged) == newer != results(whole)


def only_labelled(path: Path) -> Path:
    """Keep the rows with a label, as people do."""
    with path.open(encoding="utf-8", newline="") as file:
        rows = [row for row in csv.DictReader(file) if row["human_label"]]
    with path.open("w", encoding="utf-8", newline="") as file:
        writer = csv.DictWriter(file, list(rows[0]))
        writer.writeheader()
        writer.writerows(rows)
    return path


@pytest.mark.parametrize("moment", ["second store", "results"])
def test_a_merge_that_broke_off_is_done_again(
    moment: str, train: Path, whole: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """What stopped after the first store, or while writing, leaves no manifest and nothing in the way of the next.

    The first shard was judged by another config before: its store holds words that no other one has.
    """
    folders = sharded(train, 3, tmp_path, on_error="skip")
    for config, judges in (
        (Settings.model_validate({"stages": [{"judge": "rules", "name": "tried"}]}), None),
        (TWO_STAGES, dice()),
    ):
        relabel.run(train, config, output=folders[0], shard="1/3", on_error="skip", judges=judges)
    absorb, times = Store.absorb, iter((True, False))

    def once(store: Store, other: Store) -> None:
        if not next(times):
            raise KeyboardInterrupt
        absorb(store, other)

    def full(*_: object) -> None:
        raise KeyboardInterrupt

    merged = tmp_path / "merged"
    with monkeypatch.context() as broken:
        if moment == "results":
            broken.setattr(merging, "write_results", full)
        else:
            broken.setattr(Store, "absorb", once)
        with pytest.raises(KeyboardInterrupt):
            relabel.merge(folders, merged)
    assert not (merged / "manifest.json").exists()
    relabel.merge(folders, merged)
    assert results(merged) == results(whole)
    relabel.merge(folders, merged)
    assert results(merged) == results(whole)


def test_servers_may_differ_between_shards(train: Path, tmp_path: Path) -> None:
    """Each node may ask its own server: an address changes no answer, and such shards are of one run."""
    folders = sharded(train, 2, tmp_path, on_error="skip")
    for node, folder in enumerate(folders):
        engine = {"kind": "openai", "model": "m", "base_url": f"http://node{node}:8000/v1"}
        asks = {"judge": "llm", "name": "strong", "engine": engine, "prompt": "relevance"}
        rewrite(folder / "manifest.json", lambda told, asks=asks: told["settings"]["stages"].__setitem__(2, asks))  # type: ignore[misc]
    assert relabel.merge(folders, tmp_path / "merged").statistics["rows"]["rejected"] == 2
    told = manifest(tmp_path / "merged")["settings"]["stages"][2]
    assert told["engine"]["base_url"] == "http://node0:8000/v1"


# --- what does not belong together ---

Spoil = Callable[[list[Path]], object]


def settings_of(change: Mapping[str, Any]) -> Spoil:
    """Give the second shard other settings."""
    return lambda folders: rewrite(folders[1] / "manifest.json", lambda told: told["settings"].update(change))


def told_of(section: str, **change: Any) -> Spoil:
    """Give the second shard another section of its manifest."""
    return lambda folders: rewrite(folders[1] / "manifest.json", lambda told: told[section].update(change))


@pytest.mark.parametrize(
    ("spoil", "words"),
    [
        (lambda folders: folders.pop(1), r"1 of 3 shards are missing: 2/3(.|\n)*--shard 2/3"),
        (lambda folders: folders.__delitem__(slice(1, 3)), "2 of 3 shards are missing: 2/3, 3/3"),
        (lambda folders: folders.clear(), "nothing to merge"),
        (lambda folders: folders.append(folders[1]), "shard 2/3 is given twice"),
        (lambda folders: (folders[1] / "manifest.json").unlink(), r"2-of-3 holds no finished shard(.|\n)*relabel run"),
        (lambda folders: (folders[1] / "judgments.sqlite").unlink(), "judgments.sqlite is missing"),
        (lambda folders: (folders[1] / "run.json").unlink(), "run.json is missing"),
        (lambda folders: folders.append(folders[0].parent / "nowhere"), "nowhere holds no finished shard"),
        (told_of("input", shard=None), "a run over the whole input, and no shard"),
        (told_of("input", shard="2/4"), "what differs: number of shards"),
        (told_of("input", sha256="0"), "what differs: input"),
        (told_of("input", format="bge"), "what differs: format"),
        (told_of("input", on_error="stop"), "what differs: format, --on-error"),
        (settings_of({"seed": 7}), "what differs: seed"),
        (settings_of({"reference": 1, "seed": 7}), "what differs: reference, seed"),
        (settings_of({"policy": {"actions": "drop"}}), "what differs: policy"),
        (
            lambda folders: rewrite(
                folders[1] / "manifest.json", lambda told: told["stages"][1].update(fingerprint="")
            ),
            "what differs: judges",
        ),
        (
            lambda folders: rewrite(
                folders[1] / "manifest.json", lambda told: told["settings"]["stages"][1].update(sample=0.1)
            ),
            "what differs: final, escalate or sample",
        ),
    ],
)
def test_shards_of_different_runs_are_not_merged(spoil: Spoil, words: str, train: Path, tmp_path: Path) -> None:
    """What is missing, given twice, not finished or judged otherwise is named, and nothing is written."""
    folders = sharded(train, 3, tmp_path, on_error="skip")
    spoil(folders)
    with pytest.raises(RunError, match=words):
        relabel.merge(folders, tmp_path / "merged")
    assert not (tmp_path / "merged").exists()


def test_an_input_that_changed_is_refused(train: Path, tmp_path: Path) -> None:
    """The results would be of other rows than were judged."""
    folders = sharded(train, 2, tmp_path, on_error="skip")
    with train.open("a") as file:
        file.write("more\n")
    with pytest.raises(RunError, match=r"its content differs(.|\n)*--input FILE"):
        relabel.merge(folders, tmp_path / "merged")


def test_an_output_that_holds_something_else_is_refused(train: Path, whole: Path, tmp_path: Path, save: Save) -> None:
    """A shard, other files, another run, finished or not: none of them is written over."""
    folders = sharded(train, 2, tmp_path, on_error="skip")
    files = tmp_path / "files"
    files.mkdir()
    (files / "thesis.tex").touch()
    begun = tmp_path / "begun"
    with Store(begun) as store:
        store.judge_id("another", {})
    other = save({"query": "q", "pos": ["a"], "neg": ["b"]}, name="other.jsonl")
    relabel.merge(sharded(other, 2, tmp_path / "shards"), tmp_path / "merged")
    cases = (
        (folders[1], "is one of the shards"), (files, "holds other files"), (whole, "holds another run"),
        (begun, "holds another run, which is not finished"), (tmp_path / "merged", "holds another run"),
    )  # fmt: skip
    for output, words in cases:
        before = sorted(path.name for path in output.iterdir())
        with pytest.raises(RunError, match=words):
            relabel.merge(folders, output)
        assert [name for name in sorted(path.name for path in output.iterdir()) if name != "run.lock"] == [
            name for name in before if name != "run.lock"
        ]


def test_a_shard_that_is_running_is_not_merged(train: Path, tmp_path: Path) -> None:
    """A shard that another process writes just now is said to be in use."""
    folders = sharded(train, 2, tmp_path, on_error="skip")
    code = (
        "import sys; from pathlib import Path; from relabel.store import Store; store = Store(Path(sys.argv[1]));"
        " print(1, flush=True); input()"
    )
    with subprocess.Popen(
        [sys.executable, "-c", code, str(folders[1])], stdin=subprocess.PIPE, stdout=subprocess.PIPE
    ) as process:
        assert process.stdout is not None
        assert process.stdout.readline() == b"1\n"
        with pytest.raises(RunError, match="is in use by another relabel process"):
            relabel.merge(folders, tmp_path / "merged")
        process.communicate(b"\n")


# --- the union of stores ---


def test_a_store_takes_in_another(tmp_path: Path) -> None:
    """Judges are matched by fingerprint, whatever their numbers; of two labels by one reviewer the newer holds."""
    with Store(tmp_path / "a") as one, Store(tmp_path / "b") as two:
        assert [one.judge_id("x", {"n": 1}), one.judge_id("y", {})] == [1, 2]
        assert [two.judge_id("y", {}), two.judge_id("z", {"ü": None})] == [1, 2]
        two._put("INSERT INTO judgments VALUES (?,?,?,?,?,?,?,?,?,?,?)", [
            (b"q", b"%d" % i, 1 + i % 2, "relevant", "", "", 0.5, None, "", "", "") for i in range(1001)
        ])  # fmt: skip
        two.flush()
        one.add_people([PersonLabel(b"q", b"old", "anna", "partial")])
        two.add_people([PersonLabel(b"q", b"old", "anna", "relevant"), PersonLabel(b"q", b"c", "ben", "irrelevant")])
        one.add_people([PersonLabel(b"q", b"c", "ben", "relevant")])
        two.note_import("sha")
        for _ in range(2):
            one.absorb(two)
            assert one.judges() == ["x", "y", "z"]
            counts = dict(
                row for rows in one.select("SELECT judge, count(*) FROM judgments GROUP BY 1") for row in rows
            )
            assert counts == {2: 501, 3: 500}
            assert one.people(b"q") == {b"old": {"anna": "relevant"}, b"c": {"ben": "relevant"}}
            assert one.imported("sha")


# --- the command line ---


def typed(*arguments: object, cwd: Path) -> "subprocess.CompletedProcess[str]":
    """Type a command."""
    return subprocess.run(
        [sys.executable, "-m", "relabel", *map(str, arguments)],
        capture_output=True,
        text=True,
        check=False,
        cwd=cwd,
        env={**os.environ, "COLUMNS": "200", "PYTHONPATH": str(ROOT)},
    )


def test_as_one_types_it(tmp_path: Path) -> None:
    """The commands of a Slurm array: shards into folders of their own, then one merge; its end names what is there."""
    for task in (1, 2):
        done = typed("run", SAMPLE, "-c", SIMULATED, "--shard", f"{task}/2", "-q", cwd=tmp_path)
        assert (done.returncode, done.stderr) == (0, "")
    folders = sorted(Path("runs") / path.name for path in (tmp_path / "runs").iterdir())
    assert [folder.name for folder in folders] == ["sample-cascade.simulated-1-of-2", "sample-cascade.simulated-2-of-2"]
    missing = typed("merge", folders[0], "-o", "runs/all", cwd=tmp_path)
    assert missing.returncode == 2
    assert "1 of 2 shards are missing: 2/2" in missing.stderr
    done = typed("merge", *folders, "-o", "runs/all", cwd=tmp_path)
    assert (done.returncode, done.stderr) == (0, "")
    assert "2 shards merged; next: relabel show runs/all" in done.stdout
    assert "140 in = " in done.stdout
    assert typed("show", "runs/all", "gard-q01", cwd=tmp_path).returncode == 0
    wrong = typed("run", SAMPLE, "-c", SIMULATED, "--shard", "/2", cwd=tmp_path)
    assert wrong.returncode == 2
    assert "--shard ${SLURM_ARRAY_TASK_ID}/8" in wrong.stderr
