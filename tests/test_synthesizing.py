"""From written passages to a training file: what is accepted, used, counted, in every format, however it is stopped."""

import json
import os
import re
import sqlite3
import subprocess
import sys
import time
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import closing
from dataclasses import replace
from functools import partial
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import pytest
from hypothesis import HealthCheck, example, given, settings
from hypothesis import strategies as st
from server import Body, FakeServer, Plan, content_key, oracle

from relabel import api, api_synthesis, config, foreseeing, sources
from relabel import report as reported
from relabel.errors import BudgetReached, InputError, MissingPart, RowError, RunError, SettingsError
from relabel.families import family, warnings_of
from relabel.forecast import StageForecast
from relabel.formats import FORMATS, get_format, open_writer
from relabel.money import NOTHING, Amount, dollars
from relabel.records import Case, Example, Judgment, Passage, chance, digest
from relabel.synthesis import using
from relabel.synthesis.gate import Gated
from relabel.synthesis.marks import is_synthetic
from relabel.synthesis.settings import Settings, parse
from relabel.synthesis.slots import Slot
from relabel.synthesis.written import Written
from relabel.synthesizing import Synthesized

DATA = Path(__file__).resolve().parent.parent / "data"
PLAIN = "gate: {near: null, easy: null, language: false}\norder: as written\nbelow: 0\n"
"""Without embeddings: these tests care what becomes of slots, not how near texts are."""

JUDGED = "stages: [{judge: rules, name: said}]"
FILES = ("training.jsonl", "synthetic.jsonl", "statistics.json", "preferences.jsonl")


class Said:
    """A judge that says of a passage the word with which it ends, and nothing of others."""

    def judge(self, cases: Iterable[Case]) -> Iterator[Case]:
        """Judge each case as it comes."""
        words: Mapping[str, Judgment] = {
            "yes": Judgment("relevant"), "no": Judgment("irrelevant"), "half": Judgment("partial"),
        }  # fmt: skip
        for case in cases:
            last = [pair.candidate.text.split()[-1] for pair in case.pairs]
            yield case.judged(tuple([words.get(word, Judgment(None, "unreadable")) for word in last]))


class Scripted:
    """A writer that writes what it was given, by row."""

    def __init__(self, by_row: Mapping[int, Sequence[Written]]) -> None:
        self._by_row, self.asked = by_row, 0

    def ask(self, examples: Iterable[Example]) -> None:
        """Count the rows."""
        self.asked += sum(1 for _ in examples)

    def written(self, example: Example) -> Sequence[Written]:
        """Return what there is for a row."""
        return self._by_row.get(example.position, ())

    def spent(self) -> Amount:
        """It costs nothing."""
        return NOTHING

    def forecast(self, examples: Iterable[Example]) -> StageForecast:
        """One request a row."""
        rows = sum(1 for _ in examples)
        return StageForecast("writing", "llm", rows, rows, 100 * rows, 50 * rows, 0.25, "scripted")


def text(number: int, word: str = "no", length: int = 9) -> str:
    """Return a text that is like no other and ends with a word."""
    return " ".join([*(f"w{chance(str(number), str(place)):.9f}"[3:] for place in range(length)), word])


def examples(rows: Sequence[int]) -> list[Example]:
    """Make rows with so many mined negatives each."""
    return [
        Example(
            f"q{row}",
            f"what is {row}?",
            (Passage(f"p{row}", text(1000 + row)),),
            tuple([Passage(f"n{row}-{each}", text(10_000 + 100 * row + each)) for each in range(count)]),
            row={"query_id": f"q{row}"},
            position=row,
        )
        for row, count in enumerate(rows)
    ]


def write(path: Path, rows: Sequence[int], form: str = "tevatron") -> Path:
    """Write rows in a format."""
    with open_writer(path, get_format(form)) as writer:
        for example in examples(rows):
            writer.write(example)
    return path


def candidates(path: Path, *rows: Mapping[str, Any]) -> Path:
    """Write what somebody has written before."""
    path.write_text("".join(json.dumps(row) + "\n" for row in rows), "utf-8")
    return path


def chosen(folder: Path, more: str = "add: 2", written: Path | None = None) -> Settings:
    """Make settings whose judge is the one above."""
    (folder / "judge.yaml").write_text(JUDGED, "utf-8")
    found = parse(PLAIN + more)
    return found.model_copy(update={"judge": str(folder / "judge.yaml"), "written": str(written) if written else None})


def run(folder: Path, source: Path, settings: Settings, **more: Any) -> Synthesized:
    """Synthesize with the judge above."""
    return api_synthesis.synthesize(source, settings, output=folder / "out", judges={"said": Said()}, **more)


def ledger(done: Synthesized) -> list[dict[str, Any]]:
    """Read what became of every slot."""
    with done.files["synthetic"].open(encoding="utf-8") as lines:
        return [json.loads(line) for line in lines]


def check_accounts(done: Synthesized, asked: int) -> None:
    """See that every slot ends once, in the figures and in the ledger alike, as a whole and by recipe."""
    lines = ledger(done)
    assert len(lines) == done.statistics["slots"]["asked"] == asked
    for figures in (done.statistics["slots"], *done.statistics["recipes"].values()):
        refused, none = sum(figures["refused"].values()), sum(figures["none"].values())
        assert figures["asked"] == figures["accepted"] + refused + none
        assert figures["accepted"] == figures["used"] + sum(figures["left"].values())
    for name in ("asked", "accepted", "used"):
        assert done.statistics["slots"][name] == sum(each[name] for each in done.statistics["recipes"].values())
    ends = Counter(line["end"] for line in lines)
    assert ends["accepted"] == done.statistics["slots"]["accepted"]
    reasons = Counter((line["end"], line["reason"]) for line in lines if line["reason"])
    for end in ("refused", "none"):
        assert {name: n for name, n in done.statistics["slots"][end].items() if n} == {
            reason: n for (which, reason), n in reasons.items() if which == end
        }


WORDS = st.sampled_from(["yes", "no", "half", "hm"])
ONE = st.one_of(
    st.builds(lambda number, word: Written(0, "made", text(number, word)), st.integers(0, 30), WORDS),
    st.builds(lambda why: Written(0, "other", failure=why), st.sampled_from(["refused", "cut off", "missing"])),
    st.builds(lambda short: Written(0, "other", short), st.text(max_size=12)),
)


@settings(max_examples=15, deadline=None, suppress_health_check=[HealthCheck.too_slow])
@given(
    st.lists(st.tuples(st.integers(0, 4), st.lists(ONE, max_size=6)), min_size=1, max_size=4),
    st.sampled_from(
        ["add: 2", "add: 1\nmax_share: {row: 1.0, data: 0.2}", "add: 3\nalone: true\nmax_share: {row: 0.4}"]
    ),
)
@example([(1, [Written(0, "made", text(0)), Written(0, "made", text(0))])], "add: 2")
def test_every_slot_ends_once(rows: list[tuple[int, list[Written]]], more: str) -> None:
    """Asked = accepted + refused by each reason + none by each, whatever is written; and only a "no" is used."""
    with TemporaryDirectory() as name:
        folder = Path(name)
        source = write(folder / "rows.jsonl", [count for count, _ in rows])
        wanted = chosen(folder, more)
        done = run(folder, source, wanted, writer=Scripted({row: each for row, (_, each) in enumerate(rows)}))
        used = {line["id"] for line in ledger(done) if line.get("used")}  # a refused copy has the same id
        check_accounts(done, len(ledger(done)))
        before, after = list(api.read(source)), list(api.read(done.files["training"]))
        assert len(after) == len(before)
        new = [each for row in after for each in row.negatives if is_synthetic(each)]
        assert all(each.text.endswith(" no") and each.id in used for each in new)
        assert len(new) == done.statistics["slots"]["used"]
        shares = wanted.max_share
        mined = sum(len(row.negatives) for row in before)
        assert (wanted.alone and not mined) or len(new) <= shares.data * (mined + len(new)) + 1e-6
        for old, out in zip(before, after, strict=True):
            assert out.negatives[: len(old.negatives)] == old.negatives
            added = len(out.negatives) - len(old.negatives)
            assert added <= wanted.add
            if old.negatives:
                assert added <= shares.row * len(out.negatives) + 1e-6
            else:
                assert wanted.alone or not added


def test_no_verdict_never_becomes_a_negative(tmp_path: Path) -> None:
    """Of passages that nobody could judge none is accepted; each is none, with the reason why."""
    source = write(tmp_path / "rows.jsonl", [4])
    words = ["no", "hm", "yes", "half"]
    written = [Written(0, "r", text(number, word)) for number, word in enumerate(words)]
    done = run(tmp_path, source, chosen(tmp_path, "add: 4\nmax_share: {row: 1.0, data: 1.0}\noversample: 1.0"),
               writer=Scripted({0: written}))  # fmt: skip
    assert [(line["end"], line["reason"], line["why"]) for line in ledger(done)] == [
        ("accepted", "", ""), ("none", "undecided", "unreadable"), ("refused", "judged relevant", ""),
        ("refused", "judged partial", ""),
    ]  # fmt: skip
    (row,) = api.read(done.files["training"])
    assert [each.text for each in row.negatives[4:]] == [text(0, "no")]


def test_rows_that_have_nothing_but_queries(tmp_path: Path) -> None:
    """With `alone` a file without mined negatives gets synthetic ones; where a limit leaves no room, that is said."""
    source = write(tmp_path / "rows.jsonl", [0, 0])
    writer = Scripted({row: [Written(row, "r", text(row))] for row in range(2)})
    done = run(tmp_path, source, chosen(tmp_path, "add: 1\nalone: true\noversample: 1.0"), writer=writer)
    assert done.statistics["slots"]["used"] == 2
    full = write(tmp_path / "full.jsonl", [1, 1])
    none = api_synthesis.synthesize(
        full, chosen(tmp_path, "add: 1\nmax_share: {data: 0.1}"), output=tmp_path / "none", judges={"said": Said()},
        writer=writer,
    )  # fmt: skip
    assert none.statistics["slots"]["asked"] == 0
    assert any("max_share.data leaves no room" in each for each in none.warnings)


def test_what_was_written_before_is_cleaned(tmp_path: Path) -> None:
    """A copy of a positive is one with characters between its letters that nobody sees; half a character is refused."""
    source = write(tmp_path / "rows.jsonl", [3])
    (row,) = api.read(source)
    hidden = "\u200b".join(row.positives[0].text)
    off = "gate: {words: null, copy: null, near: null, twin: null, easy: null, language: false}\n"
    off += "order: as written\nbelow: 0\n"
    (tmp_path / "judge.yaml").write_text(JUDGED, "utf-8")
    lines = candidates(
        tmp_path / "w.jsonl", {"query_id": "q0", "text": hidden}, {"query_id": "q0", "text": text(5) + "\0"}
    )
    wanted = parse(off + "add: 2\nmax_share: {row: 1.0, data: 1.0}").model_copy(
        update={"judge": str(tmp_path / "judge.yaml"), "written": str(lines)}
    )
    done = run(tmp_path, source, wanted)
    assert [line["reason"] for line in ledger(done)] == ["copy of a positive", ""]
    (after,) = api.read(done.files["training"])
    assert after.negatives[-1].text == text(5)
    for field in ("query_id", "text", "recipe"):
        lines.write_text(
            json.dumps({"query_id": "q0", "text": "x", "recipe": "r"} | {field: "bad \ud800"}) + "\n", "utf-8"
        )
        with pytest.raises(RowError, match=f"line 1: field '{field}': half a character"):
            api_synthesis.synthesize(source, wanted, output=tmp_path / "bad", judges={"said": Said()})


def test_the_share_of_a_row_holds_for_columns_too(tmp_path: Path) -> None:
    """N-tuples get further rows in which no more columns are synthetic than the share of a row allows."""
    source = write(tmp_path / "rows.jsonl", [4], "n-tuples")
    writer = Scripted({0: [Written(0, "r", text(number)) for number in range(4)]})
    done = run(
        tmp_path, source, chosen(tmp_path, "add: 4\noversample: 1.0\nmax_share: {row: 0.5, data: 0.5}"), writer=writer
    )
    new = {text(number) for number in range(4)}
    shares = [sum(each.text in new for each in row.negatives) for row in api.read(done.files["training"])]
    assert shares == [0, 2, 2]


def test_what_nobody_wrote_is_missing(tmp_path: Path) -> None:
    """A slot that a writer says nothing about is counted as missing."""
    source = write(tmp_path / "rows.jsonl", [4, 0])
    done = run(tmp_path, source, chosen(tmp_path), writer=Scripted({0: [Written(0, "r", text(1))]}))
    assert done.statistics["slots"]["none"] == {"missing": 2}
    check_accounts(done, 3)


@pytest.mark.parametrize("form", list(FORMATS))
def test_every_format_gets_rows_it_can_read_back(tmp_path: Path, form: str) -> None:
    """Each format takes synthetic negatives, keeps the mined ones, and says what it can of where they are from."""
    source = write(tmp_path / "rows.jsonl", [3, 3], form)
    before = list(api.read(source))
    accepted = {row.position: [Written(row.position, "r", text(50 + row.position), generator="m")] for row in before}
    wanted = chosen(tmp_path, "add: 1\noversample: 1.0\nmax_share: {row: 1.0, data: 1.0}")
    done = run(tmp_path, source, wanted, writer=Scripted(accepted), preferences=True)
    after = list(api.read(done.files["training"], format=form))
    number = len(before)
    assert done.statistics["slots"]["used"] == number
    kept = Counter((row.query, each.text) for row in after for each in row.negatives)
    assert all(kept[row.query, each.text] for row in before for each in row.negatives)
    texts = {text(50 + row.position): row.query for row in before}
    assert all(kept[query, made] == 1 for made, query in texts.items())
    marked = [
        each for row in after for each in row.negatives if isinstance(each.item, dict) and "synthetic" in each.item
    ]
    holds = form in ("tevatron", "dpr", "labeled-pairs")
    assert len(marked) == (number if holds else 0)
    assert all(
        each.item["synthetic"] == {"recipe": "r", "generator": "m", "judge": "said", "difficulty": None}
        for each in marked
    )
    pairs = [json.loads(line) for line in done.files["preferences"].read_text("utf-8").splitlines()]
    assert {pair["rejected"]: pair["prompt"] for pair in pairs} == texts


@pytest.mark.parametrize("form", ["dpr", "labeled-pairs"])
def test_provenance_in_typed_columns(tmp_path: Path, form: str) -> None:
    """A Parquet file of objects gets a column, or a field in them, for what a synthetic negative says of itself."""
    source = write(tmp_path / "rows.parquet", [2, 2], form)
    done = run(tmp_path, source, chosen(tmp_path, "add: 1"), writer=Scripted({0: [Written(0, "r", text(70))]}))
    (made,) = [each for row in api.read(done.files["training"]) for each in row.negatives if is_synthetic(each)]
    assert made.text == text(70)
    assert made.item["synthetic"] == {"recipe": "r", "generator": "", "judge": "said", "difficulty": None}


@pytest.mark.parametrize("ending", [".csv", ".parquet", ".json", ".jsonl.gz"])
def test_every_container(tmp_path: Path, ending: str) -> None:
    """The training file is of the input's kind, typed columns and compressed ones too."""
    form = "triplets" if ending == ".csv" else "tevatron"
    source = write(tmp_path / f"rows{ending}", [2, 2], form)
    rows = {position: [Written(position, "r", text(70 + position))] for position in range(4)}
    done = run(tmp_path, source, chosen(tmp_path, "add: 1\noversample: 1.0"), writer=Scripted(rows))
    assert done.files["training"].name == f"training{ending}"
    found = {each.text: each for row in api.read(done.files["training"]) for each in row.negatives}
    assert {text(70), text(71)} <= found.keys()
    if ending != ".csv":
        assert {name for name, each in found.items() if is_synthetic(each)} == {text(70), text(71)}
        assert found[text(70)].item["synthetic"]["recipe"] == "r"


def test_the_hardest_are_taken_and_stand_from_easy_to_hard() -> None:
    """By difficulty the easiest of three accepted ones is left, the others stand in ascending order."""
    slots = [
        Slot(n, Gated(Written(0, "r", "x"), "i", difficulty=d), "accepted", "") for n, d in enumerate([0.9, 0.2, 0.5])
    ]
    used, left = using.chosen(slots, 2, "difficulty")
    assert ([each.number for each in used], [each.number for each in left]) == ([2, 0], [1])
    assert [each.number for each in using.chosen(slots, 2, "as written")[0]] == [0, 1]


def test_what_is_synthetic_already_counts_as_such(tmp_path: Path) -> None:
    """A file that was filled before gets no more than its shares allow: its synthetic negatives are not mined ones."""
    source = write(tmp_path / "rows.jsonl", [2])
    used = []
    for turn in range(3):
        (tmp_path / str(turn)).mkdir()
        writer = Scripted({0: [Written(0, "r", text(turn)), Written(0, "r", text(10 + turn))]})
        done = run(tmp_path / str(turn), source, chosen(tmp_path / str(turn), "add: 1"), writer=writer)
        source = done.files["training"]
        used.append((done.statistics["input"]["made"], done.statistics["slots"]["used"]))
    assert used == [(0, 1), (1, 1), (2, 0)]
    assert done.statistics["share"] == {"of_negatives": 0.5, "synthetic": 2, "negatives": 4}


def test_only_what_passes_the_cheap_checks_is_embedded(tmp_path: Path) -> None:
    """Passages that the text alone refuses, however long, are never embedded, and have no difficulty."""
    source = write(tmp_path / "rows.jsonl", [1])
    rows = [
        {"query_id": "q0", "text": each} for each in (text(1), text(2, length=3000), "no", text(1) + " no", text(3))
    ]
    settings = chosen(tmp_path, "add: 5", candidates(tmp_path / "written.jsonl", *rows))
    gate = replace(settings.gate, near=0.99)
    done = run(tmp_path, source, settings.model_copy(update={"gate": gate}))
    ends = [(line["reason"], line["difficulty"] is None) for line in ledger(done)]
    refused = ["too long", "too short", "near another synthetic one"]
    assert ends == [("", False), *[(reason, True) for reason in refused], ("", False)]
    (file,) = (tmp_path / "out" / "cache").glob("vectors-*.sqlite")
    with closing(sqlite3.connect(file)) as vectors:
        embedded = {key for (key,) in vectors.execute("SELECT key FROM texts")}
    (row,) = examples([1])
    known = [*row.positives, *row.negatives, Passage("", text(1)), Passage("", text(3))]
    assert embedded == {digest("query", row.query), *[digest("document", each.full_text) for each in known]}


def test_written_before(tmp_path: Path) -> None:
    """Lines are found by query id or query; those of no row, or of one that wants none, are counted apart."""
    source = write(tmp_path / "rows.jsonl", [2, 0])
    file = candidates(
        tmp_path / "written.jsonl",
        {"query_id": "q0", "text": text(1), "mine": 7}, {"query": "what is 0?", "text": text(2), "recipe": "mirror"},
        {"query_id": "q9", "text": text(3)}, {"query_id": "q1", "text": text(4)},
        {"query_id": "q0", "failure": "refused"},
    )  # fmt: skip
    done = run(tmp_path, source, chosen(tmp_path, written=file))
    assert done.statistics["slots"]["none"] == {"no such row": 1, "not wanted": 1, "refused": 1}
    check_accounts(done, 5)
    first, _ = api.read(done.files["training"])
    assert [each.text for each in first.negatives[2:]] == [text(1), text(2)]


def test_lines_for_no_row_say_which_was_meant(tmp_path: Path) -> None:
    """A query_id that no row has is told with its line, and with the id of the row whose query stands beside it."""
    source = write(tmp_path / "rows.jsonl", [2, 2])
    rows = [json.loads(line) for line in source.read_text("utf-8").splitlines()]
    rows[1]["query_id"] = 17
    candidates(source, *rows)
    file = candidates(
        tmp_path / "written.jsonl",
        {"query_id": "q9", "query": "what is 1?", "text": text(1)},
        {"query_id": "q8", "query": "what?", "text": text(2)},
        {"query": "what is 9?", "text": text(3)},
        {"query_id": "q0", "query": "what is 1?", "text": text(4)},
        {"query_id": 17, "text": text(5)},
    )
    done = run(tmp_path, source, chosen(tmp_path, written=file))
    check_accounts(done, 5)
    missed = "line 1: no row has the query_id 'q9'; the row with its query has the query_id '17'"
    whys = [missed, "line 2: no row has the query_id 'q8'", "line 3: no row has the query 'what is 9?'"]
    assert [(line["reason"], line["why"]) for line in ledger(done) if line["end"] != "accepted"] == [
        ("no such row", why) for why in whys
    ]
    assert [line["query_id"] for line in ledger(done) if line["end"] == "accepted"] == ["q0", "17"]
    told = f"lines of {file} for no row of the input: 3; {missed}"
    assert told in done.warnings
    assert told in foreseeing.foresee(sources.open_source(source), chosen(tmp_path, written=file)).warnings


def test_rows_that_share_a_query_id_are_told(tmp_path: Path) -> None:
    """The first of them gets all lines; the others, if they want something, are counted, and warned of."""
    source = tmp_path / "rows.jsonl"
    with open_writer(source, get_format("tevatron")) as writer:
        for example in examples([3, 4, 5]):
            named = replace(example, id="shared", row={"query_id": "shared"}) if example.position else example
            writer.write(named)
    file = candidates(
        tmp_path / "written.jsonl", *[{"query_id": name, "text": text(at)} for at, name in enumerate(["q0", "shared"])]
    )
    done = run(tmp_path, source, chosen(tmp_path, written=file))
    check_accounts(done, 2)
    beside = "an earlier one has their query or query_id and took the lines; the first is 'shared'"
    assert f"rows that got no line of {file}: 1; {beside}" in done.warnings
    once = run(tmp_path / "out", write(tmp_path / "once.jsonl", [3, 4]), chosen(tmp_path, written=file))
    assert not [each for each in once.warnings if "got no line" in each]


def test_a_share_without_room_is_told(tmp_path: Path) -> None:
    """Rows that would want something and may have nothing: which setting it is, in a dry run too."""
    source = write(tmp_path / "rows.jsonl", [3, 4])
    told = "max_share.row (0) leaves no room in any row that has too few negatives"
    for row, below, add, warned in ((0, 0, 2, True), (0, 2, 0, False), (0.5, 0, 2, False)):
        wanted = chosen(tmp_path, f"recipes: {{rules: 1}}\nmax_share: {{row: {row}}}\nadd: 2")
        wanted = wanted.model_copy(update={"below": below, "add": add})
        assert (told in run(tmp_path, source, wanted).warnings) == warned
        assert (told in foreseeing.foresee(sources.open_source(source), wanted).warnings) == warned


@pytest.mark.parametrize(
    ("line", "words"),
    [
        ('{"text": "a"}', "query_id"),
        ('{"query_id": "q"}', "text"),
        ('{"query_id": "q", "text": 3}', "text"),
        ('{"query_id": "q", "text": "a", "probability": 2}', "probability"),
        ("[]", "object"),
        ("{", "JSON"),
    ],
)
def test_lines_that_cannot_be_used(tmp_path: Path, line: str, words: str) -> None:
    """What was written before is checked line by line; the message names file, line and field."""
    source = write(tmp_path / "rows.jsonl", [2])
    (tmp_path / "written.jsonl").write_text(f"\n{line}\n", "utf-8")
    with pytest.raises(InputError, match=rf"written.jsonl, line 2: .*{words}"):
        run(tmp_path, source, chosen(tmp_path, written=tmp_path / "written.jsonl"))


def test_what_cannot_be(tmp_path: Path) -> None:
    """A folder of something else, another input, and settings that want nothing are refused in words."""
    source = write(tmp_path / "rows.jsonl", [2])
    file = candidates(tmp_path / "written.jsonl", {"query_id": "q0", "text": text(1)})
    run(tmp_path, source, chosen(tmp_path, written=file))
    with pytest.raises(RunError, match="holds what was made of"):
        run(tmp_path, write(tmp_path / "other.jsonl", [2]), chosen(tmp_path, written=file))
    (tmp_path / "mine").mkdir()
    (tmp_path / "mine" / "thesis.txt").write_text("x")
    with pytest.raises(RunError, match=r"other files \(thesis.txt\)"):
        api_synthesis.synthesize(source, chosen(tmp_path, written=file), output=tmp_path / "mine")
    with pytest.raises(SettingsError, match=r"line 3: gate.nera"):
        parse("below: 8\ngate:\n  nera: 0.9\n")
    with pytest.raises(SettingsError, match="nothing is wanted"):
        parse("below: 0")


@pytest.mark.parametrize("own", ["cache", "manifest.json"])
def test_a_folder_of_something_else_is_left_as_it_is(tmp_path: Path, own: str) -> None:
    """A run, and a folder with a cache or a manifest of somebody else's, are no syntheses: nothing is touched."""
    source = write(tmp_path / "rows.jsonl", [2])
    settings = chosen(tmp_path, written=candidates(tmp_path / "written.jsonl", {"query_id": "q0", "text": text(1)}))
    api.run(source, config=config.parse(JUDGED), output=tmp_path / "run")
    (tmp_path / "mine" / own).mkdir(parents=True)
    (tmp_path / "mine" / "preferences.jsonl").write_text("x")
    for name in ("run", "mine"):
        before = state(tmp_path / name)
        with pytest.raises(RunError, match="holds other files"):
            api_synthesis.synthesize(source, settings, output=tmp_path / name)
        assert state(tmp_path / name) == before


@pytest.mark.parametrize("name", ["rejects.jsonl", "candidates.jsonl", "training.jsonl", "judging/cleaned.jsonl"])
def test_what_is_read_is_never_overwritten(tmp_path: Path, name: str) -> None:
    """An input, or what somebody wrote before, that lies where a result would go is refused before anything is done."""
    rows, lines = write(tmp_path / "rows.jsonl", [2]), {"query_id": "q0", "text": text(1)}
    written = candidates(tmp_path / "written.jsonl", lines)
    run(tmp_path, rows, chosen(tmp_path, written=written))
    inside = tmp_path / "out" / name
    for source, before in ((inside, written), (rows, inside)):
        inside.write_bytes((rows if source == inside else written).read_bytes())
        held = state(tmp_path / "out")
        with pytest.raises(InputError, match="would be overwritten"):
            run(tmp_path, source, chosen(tmp_path, written=before))
        assert state(tmp_path / "out") == held


def state(folder: Path) -> dict[str, bytes]:
    """Return what lies in a folder."""
    return {str(each.relative_to(folder)): each.read_bytes() for each in folder.rglob("*") if each.is_file()}


def test_a_dry_run_counts_and_writes_nothing(tmp_path: Path) -> None:
    """Rows, slots and requests are known before anything is asked, and no file is left."""
    source = write(tmp_path / "rows.jsonl", [4, 1, 0])
    wanted = chosen(tmp_path, "add: 2\nmax_share: {data: 1.0}")
    there = sorted(tmp_path.iterdir())
    found = foreseeing.foresee(sources.open_source(source), wanted, Scripted({}))
    assert (found.asked.rows, found.asked.wanting, found.asked.wanted, found.slots) == (3, 2, 3, 5)
    assert found.writing is not None
    assert found.writing.requests == 2
    assert found.judging is not None
    assert found.judging.survey.pairs == 5
    assert sorted(tmp_path.iterdir()) == there


def test_recordings_are_looked_at_before_anything_else(tmp_path: Path) -> None:
    """Recorded replies that are not there, or are none, end a dry run as they end a run: at once, nothing written."""
    source = write(tmp_path / "rows.jsonl", [3])
    (tmp_path / "none.jsonl").write_text("{}\n", "utf-8")
    (tmp_path / "cascade.yaml").write_text(
        "stages: [{judge: llm, engine: {kind: scripted, replies: nix.jsonl}}]", "utf-8"
    )
    told = (
        ("{kind: scripted, replies: nix.jsonl}\nrecipes: {positive: 1}", r"s.yaml, line 1: engine.replies: cannot be"),
        ("{kind: scripted, replies: none.jsonl}\nrecipes: {positive: 1}", r"none.jsonl, line 1: field 'judge'"),
        ("null\njudge: cascade.yaml", r"nix.jsonl: cannot read the recorded replies"),
    )
    for text, words in told:
        (tmp_path / "s.yaml").write_text(f"engine: {text}", "utf-8")
        for call in (api_synthesis.rehearse_synthesis, partial(api_synthesis.synthesize, output=tmp_path / "out")):
            with pytest.raises((SettingsError, InputError), match=words):
                call(source, tmp_path / "s.yaml")
        assert not (tmp_path / "out" / "candidates.jsonl").exists()


@pytest.mark.parametrize("stage", ["llm", "nobody"])
def test_judges_that_cannot_be_asked_are_told_before_anybody_writes(tmp_path: Path, stage: str) -> None:
    """A cluster that cannot be used, an unknown price under a limit: refused while nothing is spent or made."""
    source, writer = write(tmp_path / "rows.jsonl", [3]), Scripted({})
    engine = "{kind: openai, model: nobody-knows, base_url: 'http://127.0.0.1:1/v1'}"
    judge = tmp_path / "cascade.yaml"
    wanted = chosen(tmp_path).model_copy(update={"judge": str(judge)})
    judge.write_text(
        f"stages: [{{judge: llm, engine: {engine}}}]\nray: {{address: 'ray://x', replicas: {{{stage}: 1}}}}"
    )
    with pytest.raises(
        (SettingsError, MissingPart), match="no stage is called nobody" if stage == "nobody" else "(?i)ray"
    ):
        api_synthesis.synthesize(source, wanted, output=tmp_path / "out", writer=writer)
    judge.write_text(f"stages: [{{judge: llm, engine: {engine}}}]")
    with pytest.raises(SettingsError, match="needs the price of every model"):
        api_synthesis.synthesize(source, wanted, output=tmp_path / "out", writer=writer, max_usd=1.0)
    assert (writer.asked, (tmp_path / "out").exists()) == (0, False)


def test_a_gate_of_which_every_check_is_off(tmp_path: Path) -> None:
    """Everything that holds a text reaches the judges, but what is equal to what is there; nothing is embedded."""
    source = write(tmp_path / "rows.jsonl", [2])
    (row,) = examples([2])
    texts = ("no", text(1, length=900), row.query + " no", row.positives[0].text, text(1, length=900), " ")
    file = candidates(tmp_path / "written.jsonl", *[{"query_id": "q0", "text": each} for each in texts])
    off = "gate: {words: null, copy: null, near: null, twin: null, easy: null, language: false}\norder: as written\n"
    wanted = parse(f"{off}below: 0\nadd: 9\nmax_share: {{row: 1, data: 1}}\n")
    (tmp_path / "judge.yaml").write_text(JUDGED, "utf-8")
    done = run(
        tmp_path, source, wanted.model_copy(update={"judge": str(tmp_path / "judge.yaml"), "written": str(file)})
    )
    check_accounts(done, 6)
    ends = [line["end"] if line["end"] == "accepted" else line["reason"] for line in ledger(done)]
    refused = ["copy of a positive", "near another synthetic one", "empty"]
    assert ends == ["accepted", "accepted", "accepted", *refused]
    assert not list((tmp_path / "out" / "cache").glob("vectors*"))


def test_of_more_than_the_data_set_may_have_no_more_is_asked(tmp_path: Path) -> None:
    """Where max_share of the data set is small, only some of the rows are asked for, and the cap holds in the end."""
    source = write(tmp_path / "rows.jsonl", [4] * 40)
    wanted = chosen(tmp_path, "add: 2\noversample: 1.0\nmax_share: {row: 0.5, data: 0.1}")
    writer = Scripted(
        {row: [Written(row, "r", text(3 * row)), Written(row, "r", text(3 * row + 1))] for row in range(40)}
    )
    done = run(tmp_path, source, wanted, writer=writer)
    assert 2 <= writer.asked <= 20
    assert done.statistics["slots"]["used"] <= 17  # a tenth of 160 + 17
    assert done.statistics["share"]["of_negatives"] <= 0.1


ORDERS = [
    [*range(30)],
    [*reversed(range(30))],
    [99, *range(15), 98, 97, *range(15, 30), 96],
]
"""Rows by number: as they were, the other way round, with others between."""


@pytest.mark.parametrize("written", [False, True])
def test_which_rows_are_filled_is_no_matter_of_their_place(tmp_path: Path, *, written: bool) -> None:
    """Under max_share.data the dice know rows by their texts: sorted, or with others between, the same are filled."""
    every = examples([4] * 100)
    more = "recipes: {rules: 1}\nadd: 2\noversample: 1.0\nmax_share: {row: 0.5, data: 0.1}\n"
    filled = []
    for number, order in enumerate(ORDERS):
        folder = tmp_path / str(number)
        folder.mkdir()
        source, file = folder / "rows.jsonl", None
        with open_writer(source, get_format("tevatron")) as writer:
            for row in order:
                writer.write(every[row])
        if written:
            rows = [{"query_id": f"q{row}", "text": text(50 * row + at)} for row in range(100) for at in (1, 2)]
            file = candidates(folder / "written.jsonl", *rows)
        wanted = chosen(folder, more, file)
        models = {row: [Written(row, "r", text(50 * each + at)) for at in (1, 2)] for row, each in enumerate(order)}
        done = run(folder, source, wanted, writer=None if written else Scripted(models))
        lines = ledger(done)
        assert 4 <= sum(bool(line.get("used")) for line in lines) <= 15  # a tenth of 120 + 13, or of 136 + 15
        # what was written before is capped slot by slot, what is asked for row by row
        chosen_rows = {
            (line["query_id"], line["id"] if written else "") for line in lines if line.get("used") or not written
        }
        filled.append({each for each in chosen_rows if int(each[0][1:]) < 30})
    first, other_way, between = filled
    assert first == other_way
    # where there are more rows the bar is another: who was lucky then is lucky still
    assert first
    assert first <= between or between <= first


def test_equal_rows_are_told_apart_by_which_of_them_they_are(tmp_path: Path) -> None:
    """Of rows that are all equal some are filled and some are not: the dice are thrown for each."""
    source = tmp_path / "rows.jsonl"
    with open_writer(source, get_format("tevatron")) as file:
        for example in examples([4]) * 60:
            file.write(example)
    wanted = chosen(tmp_path, "add: 2\noversample: 1.0\nmax_share: {row: 0.5, data: 0.1}")
    writer_of = Scripted(
        {row: [Written(row, "r", text(2 * row)), Written(row, "r", text(2 * row + 1))] for row in range(60)}
    )
    done = run(tmp_path, source, wanted, writer=writer_of)
    assert 3 <= writer_of.asked <= 30
    assert 6 <= done.statistics["slots"]["used"] <= 26  # a tenth of 240 + 26


CASCADE = """\
stages:
  - judge: rules
  - judge: llm
    name: proof
    prompt: relevance
    engine: {{kind: openai, model: fake-1, base_url: "{url}", concurrency: 2, price: {{input: 1.0, output: 1.0}}}}
"""


ENGINE = (
    "{{kind: openai, model: other-1, base_url: '{url}', concurrency: 2, price: {{input: 1.0, output: 1.0}}}}"
    "\nrecipes: {{requirement: 1}}\nat_once: 2"
)


def typed(folder: Path, url: str, source: Path, who: str) -> tuple[list[str], dict[str, str]]:
    """Return the command that synthesizes with a judge behind a socket, and its environment."""
    (folder / "cascade.yaml").write_text(CASCADE.format(url=url), "utf-8")
    (folder / "made.yaml").write_text(f"{PLAIN}add: 2\n{who}\njudge: cascade.yaml\n", "utf-8")
    words = ["synthesize", str(source), "-c", str(folder / "made.yaml"), "-o", str(folder / "out"), "-q"]
    return [sys.executable, "-m", "relabel", *words, "--preferences"], os.environ | {"OPENAI_API_KEY": "sk-test"}


def answering(messages: Sequence[Mapping[str, str]], body: Body) -> "str | Body":
    """Write as many passages as the schema wants, or judge one, by what was asked alone."""
    schema = body.get("response_format", {}).get("json_schema", {}).get("schema", {})
    if "passages" not in schema.get("properties", {}):
        return oracle(messages, body)
    entry = schema["properties"]["passages"]
    key = int(content_key(messages)[:8], 16)
    fields = [each for each in entry["items"]["properties"] if each not in ("probability", "text", "passage", "title")]

    def passage(place: int) -> dict[str, Any]:
        written = {each: text(key + place) for each in entry["items"]["properties"] if each in ("text", "passage")}
        return written | dict.fromkeys(fields, "one") | {"probability": 0.5, "title": ""}

    rest = {name: ["one"] for name in schema["properties"] if name != "passages"}
    return json.dumps(rest | {"passages": [passage(place) for place in range(entry["minItems"])]})


@pytest.mark.slow
@pytest.mark.parametrize("who", ["written", "engine"])
def test_killed_and_typed_again(tmp_path: Path, who: str) -> None:
    """After SIGKILLs while models write and judge, the bytes are those of an unbroken run; little is asked twice."""
    source = write(tmp_path / "rows.jsonl", [3] * 30)
    rows = [{"query_id": f"q{row}", "text": text(10 * row + n), "generator": "g"} for row in range(30) for n in (1, 2)]
    file = candidates(tmp_path / "written.jsonl", *rows)
    results = []
    with FakeServer(answering, latency=0.05) as server:
        engine = "engine: " + ENGINE.format(url=server.url)
        for name, kills in (("unbroken", 0), ("killed", 3)):
            (tmp_path / name).mkdir()
            command, environment = typed(
                tmp_path / name, server.url, source, f"written: {file}" if who == "written" else engine
            )
            server.asked.clear()
            for kill in range(kills):
                with subprocess.Popen(command, env=environment, stdout=subprocess.DEVNULL) as process:
                    while process.poll() is None and server.total < 20 * (kill + 1):
                        time.sleep(0.005)
                    process.kill()
            done = subprocess.run(command, env=environment, capture_output=True, text=True, check=False)
            assert (done.returncode, done.stderr) == (0, "")
            results.append({each: (tmp_path / name / "out" / each).read_bytes() for each in FILES})
            assert server.total <= len(server.asked) + kills * 4
        assert len(server.asked) >= 60
    assert results[0] == results[1]
    assert f"{60 if who == 'written' else 90} asked = " in done.stdout
    assert "for one accepted" in done.stdout


def test_a_limit_is_kept(tmp_path: Path) -> None:
    """With a limit in dollars the judging stops before it; nothing is written, and the next call goes on from there."""
    source = write(tmp_path / "rows.jsonl", [3] * 8)
    file = candidates(tmp_path / "w.jsonl", *[{"query_id": f"q{row}", "text": text(row)} for row in range(8)])
    with FakeServer() as server:
        command, environment = typed(tmp_path, server.url, source, f"written: {file}")
        stopped = subprocess.run(
            [*command, "--max-usd", "0.0004"], env=environment, capture_output=True, text=True, check=False
        )
        begun, _, enough = stopped.stderr.rstrip().rpartition(" ")
        assert (stopped.returncode, begun.endswith("--max-usd")) == (5, True)
        assert float(enough) >= 2 * 0.0004
        assert not (tmp_path / "out" / "training.jsonl").exists()
        asked = server.total
        assert 0 < asked < 8
        done = subprocess.run(command, env=environment, capture_output=True, text=True, check=False)
        assert (done.returncode, server.total) == (0, 8)
    told = json.loads((tmp_path / "out" / "run.json").read_text("utf-8"))
    accepted = json.loads((tmp_path / "out" / "statistics.json").read_text("utf-8"))["slots"]["accepted"]
    assert told["usd"] > 0
    assert told["usd_per_accepted"] == (told["usd"] / accepted if accepted else None)


class Dear(Scripted):
    """A writer that has taken a dollar."""

    def spent(self) -> Amount:
        """Return it."""
        return Amount(100, 10**12)


def test_what_judging_may_take_is_what_writing_left(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Writing and judging share the limits: a writer that took all leaves nothing for judges."""
    monkeypatch.setenv("OPENAI_API_KEY", "sk-test")
    source = write(tmp_path / "rows.jsonl", [3])
    with FakeServer() as server:
        (tmp_path / "cascade.yaml").write_text(CASCADE.format(url=server.url), "utf-8")
        wanted = chosen(tmp_path).model_copy(update={"judge": str(tmp_path / "cascade.yaml")})
        dear = Dear({0: [Written(0, "r", text(1))]})
        with pytest.raises(BudgetReached):
            api_synthesis.synthesize(source, wanted, output=tmp_path / "out", writer=dear, max_usd=0.5)
        assert server.total == 0


LETTERS = str.maketrans("0123456789", "abcdefghij")


def told_of(folder: Path, command: Sequence[str], environment: Mapping[str, str], *more: str) -> tuple[str, Any]:
    """Type a command that ends well; return what the screen says, and its run.json."""
    done = subprocess.run(
        [*command, *more], env={**environment, "COLUMNS": "200"}, capture_output=True, text=True, check=False
    )
    assert (done.returncode, done.stderr) == (0, "")
    return done.stdout, json.loads((folder / "out" / "run.json").read_text("utf-8"))


def test_what_was_paid_stays_paid_whoever_writes_and_judges_now(tmp_path: Path) -> None:
    """The cost in all executions is the same after the settings have changed to what asks nobody, limit or none."""
    source = write(tmp_path / "rows.jsonl", [3] * 8)
    rows = source.read_text("utf-8")  # words without a figure: rules find nothing to change, nobody is asked to judge
    source.write_text(re.sub(r"\b\d{9}\b", lambda found: found[0].translate(LETTERS), rows), "utf-8")
    file = candidates(tmp_path / "w.jsonl", {"query_id": "q9", "text": text(1)})
    with FakeServer(answering) as server:
        engine = "engine: " + ENGINE.format(url=server.url)
        command, environment = typed(tmp_path, server.url, source, engine)
        _, first = told_of(tmp_path, command, environment)
        paid = server.total
        writing, (proof,) = first["writing"], first["judging"]["stages"]
        assert first["usd"] == pytest.approx(writing["usd"] + proof["usd"])
        assert min(writing["usd"], proof["usd"]) > 0
        for who in ("recipes: {rules: 1}", f"written: {file}", engine):
            command, environment = typed(tmp_path, server.url, source, who)
            screen, told = told_of(tmp_path, command, environment, "--max-usd", "0.0001")
            assert f"${first['usd']:,.4g} in all executions" in screen
            assert (told["usd"], told["writing"]["usd"]) == (pytest.approx(first["usd"]), writing["usd"])
            judged = told["judging"]["stages"] + told["judging"]["others"]
            figures = [(each["stage"], each["usd"], each["asked"]) for each in judged]
            assert figures == [("proof", proof["usd"], proof["asked"])]
        (tmp_path / "cascade.yaml").write_text("stages: [{judge: rules}]", "utf-8")
        _, told = told_of(tmp_path, command, environment, "--max-usd", "0.0001")
        assert (told["usd"], server.total) == (pytest.approx(first["usd"]), paid)
    page = reported(tmp_path / "out").path.read_text("utf-8")
    assert "proof" in page


def test_a_limit_counts_what_was_paid_under_other_settings(tmp_path: Path) -> None:
    """Judging counts what another writer took before, and writing what judging took: no limit is given out twice."""
    source = write(tmp_path / "rows.jsonl", [3] * 8)
    file = candidates(tmp_path / "w.jsonl", *[{"query_id": f"q{row}", "text": text(row)} for row in range(8)])
    with FakeServer(answering) as server:
        engine = "engine: " + ENGINE.format(url=server.url)
        command, environment = typed(tmp_path, server.url, source, engine)
        _, first = told_of(tmp_path, command, environment)
        for who in (f"written: {file}", engine.replace("other-1", "another-1")):
            command, environment = typed(tmp_path, server.url, source, who)
            asked = server.total
            stopped = subprocess.run(
                [*command, "--max-usd", f"{first['usd']:.6f}"], env=environment, capture_output=True, text=True,
                check=False,
            )  # fmt: skip
            assert (stopped.returncode, server.total - asked) == (5, 0)
            for part in ("writing", "judging"):
                assert f"the {part} has spent {dollars(first[part]['usd'])} and " in stopped.stderr
            assert f"the limit of ${first['usd']:.6f}".rstrip("0") in stopped.stderr


def test_a_price_that_nobody_knows_any_more(tmp_path: Path) -> None:
    """What a model without a price took is unknown, not nothing, when somebody else writes; no limit can count it."""
    source = write(tmp_path / "rows.jsonl", [3] * 2)
    with FakeServer(answering) as server:
        priced = ENGINE.format(url=server.url)
        engine = "engine: " + priced.replace(", price: {input: 1.0, output: 1.0}", "")
        command, environment = typed(tmp_path, server.url, source, engine)
        assert told_of(tmp_path, command, environment)[1]["usd"] is None
        for who in ("recipes: {rules: 1}", "engine: " + priced.replace("other-1", "another-1")):
            command, environment = typed(tmp_path, server.url, source, who)
            screen, told = told_of(tmp_path, command, environment)
            assert (told["usd"], told["writing"]["usd"], "cost      unknown" in screen) == (None, None, True)
            asked = server.total
            refused = subprocess.run(
                [*command, "--max-usd", "1"], env=environment, capture_output=True, text=True, check=False
            )
            assert (refused.returncode, server.total) == (2, asked)
            assert "none is known of one that has answered in this folder" in refused.stderr


def test_where_nobody_ever_wrote_there_is_no_folder_of_writing(tmp_path: Path) -> None:
    """Rules alone leave none, and cost nothing."""
    source = write(tmp_path / "rows.jsonl", [3])
    (tmp_path / "judge.yaml").write_text(JUDGED, "utf-8")
    done = run(tmp_path, source, chosen(tmp_path, "add: 2\nrecipes: {rules: 1}"))
    assert (done.execution["usd"], (tmp_path / "out" / "writing").exists()) == (0, False)


def test_at_a_limit_all_is_told_that_was_spent(tmp_path: Path) -> None:
    """When judging meets the limit, the message says what judging has spent, what is left, and what writing took."""
    source = write(tmp_path / "rows.jsonl", [3] * 8)
    with FakeServer(answering) as server:
        command, environment = typed(tmp_path, server.url, source, "engine: " + ENGINE.format(url=server.url))
        _, whole = told_of(tmp_path, command, environment)
        wrote, judged = whole["writing"]["usd"], whole["judging"]["usd"]
        again = tmp_path / "again"
        again.mkdir()
        command, environment = typed(again, server.url, source, "engine: " + ENGINE.format(url=server.url))
        limit = f"{wrote + judged / 2:.6f}"
        stopped = subprocess.run(
            [*command, "--max-usd", limit], env=environment, capture_output=True, text=True, check=False
        )
        assert stopped.returncode == 5
        found = re.search(rf"the limit of \${limit.rstrip('0')} \(--max-usd\) is reached; the judging has spent"
                          r" \$([\d.]+) and .* in all its executions\n", stopped.stderr)  # fmt: skip
        assert found is not None
        assert 0 < float(found[1]) <= judged / 2
        assert f"the writing has spent {dollars(wrote)} and " in stopped.stderr
        assert "pairs judged, at most" in stopped.stderr
        enough = float(stopped.stderr.rstrip().rpartition(" ")[2])
        assert enough >= wrote + judged
        _, done = told_of(again, command, environment, "--max-usd", f"{enough}")
        assert done["usd"] == pytest.approx(whole["usd"])


def test_what_is_possibly_billed_is_named_apart(tmp_path: Path) -> None:
    """Requests without an answer are named beside the cost, with an estimate: on the screen and in the report."""
    source = write(tmp_path / "rows.jsonl", [3] * 4)
    with FakeServer(answering, plan=Plan(share=1, kinds=("cut",))) as server:
        command, environment = typed(tmp_path, server.url, source, "engine: " + ENGINE.format(url=server.url))
        screen, told = told_of(tmp_path, command, environment)
        page = reported(tmp_path / "out").path.read_text("utf-8")
    for bill in (told["writing"], *told["judging"]["stages"]):
        lost = bill["possibly_billed"]
        assert lost["requests"] > 0
        line = f"{lost['requests']:,} requests were sent and brought no answer: possibly billed"
        assert f"{bill['stage']:9} {line}, about {dollars(lost['usd'])}, not in the figures above" in screen
    assert "Possibly billed, and not in the table" in page


@pytest.mark.parametrize(("fault", "cause"), [("error", "HTTP 500"), ("bad request", "HTTP 400")])
def test_what_a_service_did_not_do_is_told(tmp_path: Path, fault: str, cause: str) -> None:
    """How many passages failed, why, and what to type: in a warning, and in the ledger; typed again it is all well."""
    source = write(tmp_path / "rows.jsonl", [3] * 8)
    broken = Plan(share=0.5, kinds=(fault,), seed=3, clears_after=1000)
    with FakeServer(answering, plan=broken) as server:
        engine = "engine: " + ENGINE.format(url=server.url).replace("concurrency: 2", "concurrency: 2, max_retries: 0")
        command, environment = typed(tmp_path, server.url, source, engine)
        cascade = tmp_path / "cascade.yaml"
        cascade.write_text(cascade.read_text("utf-8").replace("concurrency: 2", "concurrency: 2, max_retries: 0"))
        screen, _ = told_of(tmp_path, command, environment)
        lines = [json.loads(line) for line in (tmp_path / "out" / "synthetic.jsonl").read_text("utf-8").splitlines()]
        failed = [line["why"] for line in lines if line["reason"] == "failed"]
        unjudged = [line for line in lines if (line["reason"], line["why"]) == ("undecided", "failed")]
        assert 0 < len(failed) < len(lines)
        assert all(why.startswith(cause) and "sk-test" not in why for why in failed)
        flat = " ".join(screen.split())
        assert f"{len(failed)} passages were not written, as the service failed ({cause}" in flat
        assert f"{len(unjudged)} passages were not judged, as the service failed: relabel synthesize, typed" in flat
        server.plan = Plan()
        screen, _ = told_of(tmp_path, command, environment)
        assert "as the service failed" not in " ".join(screen.split())


def test_relatives_are_told() -> None:
    """A judge of the generator's family, and a cascade without a language model, bring a warning."""
    names = ("gpt-4o-mini", "openai/o3", "meta-llama/Llama-3.1-8B", "Qwen/Qwen3-8B", "7b")
    assert [family(name) for name in names] == ["gpt", "gpt", "llama", "qwen", ""]
    judge = config.parse(CASCADE.format(url="http://127.0.0.1:1/v1").replace("fake-1", "gpt-5"))
    assert [*warnings_of(judge, ["Qwen/Qwen3-8B", "rules"])] == []
    (told,) = warnings_of(judge, ["gpt-4o-mini", "rules"])
    assert "of one family, gpt" in told
    (told,) = warnings_of(config.load(None), [])
    assert "no language model judges" in told


def test_help_says_both_ways_to_type_it() -> None:
    """The short form is the long one: `synthesize INPUT` and `synthesize fill INPUT`."""
    for words, told in (([], "fill"), (["--help"], "fill"), (["fill", "--help"], "--preferences")):
        command = [sys.executable, "-m", "relabel", "synthesize", *words]
        done = subprocess.run(command, capture_output=True, text=True, check=False, env=os.environ | {"COLUMNS": "200"})
        assert told in done.stdout + done.stderr
    done = subprocess.run([*command[:4], "nowhere.jsonl"], capture_output=True, text=True, check=False)
    assert (done.returncode, "--config" in done.stderr) == (2, True)
