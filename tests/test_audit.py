import csv
import io
import random
import shutil
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import pandas as pd
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from relabel import audit
from relabel.audit import AuditLabel, Stale, match, read_labels, reviewer_of, set_aside, stale_error, write_findings
from relabel.errors import InputError, RunError
from relabel.records import LABELS, Example, Finding, Judgment, Passage, Verdict, guard, read_label, unguard
from relabel.tables import CELL_LIMIT, from_cell, to_cell

Rows = list[dict[str, str]]
Save = Callable[[Rows, Path], object]

MANGLED = (
    "73928e05", "7.4E+9", "12345678901234567890", "007", "0", " 12", "1-2", "1/2", "3.2.2020", "2020-01-31", "12:30",
    "1 pm", "2-SEP-14", "MARCH1", "SEPT2", "Dez-3", "5 €", "$5", "(5)", "50%", ".5", "1,000", "TRUE", "false", "WAHR",
)  # fmt: skip
FORMULAS = (
    "=1+1", "+1", "-1+1", "@SUM(A1)", "\t=1", "\r=1", "\n=1", "  =1", "\u00a0=1", "\u200b=1", "\ufeff=1", "\uff1d1",
    "\uff0b1", "\uff0d1", "\uff201", "\u22121", '=HYPERLINK("http://x","y")', "=cmd|' /C calc'!A0",
)  # fmt: skip
HARMLESS = (
    "q1", "doc_12", "msmarco-12", "'tis", "", "''", "3f2504e0-4f89-11d3-9a0c", "what is 2 + 2", "NA", "null", "é=1",
)  # fmt: skip

HOSTILE = st.one_of(
    st.text(max_size=20),
    st.sampled_from((*MANGLED, *FORMULAS, *HARMLESS)),
    st.builds(
        "{}{}".format, st.sampled_from(("'", "''", "\x00", '"', ";", ",", "\r\n", "\ud800")), st.text(max_size=4)
    ),
)


def finding(name: str = "r0123456789abcdef", **parts: Any) -> Finding:
    """Make a finding; `parts` are a query id, a candidate's id, title and text, words, and so on."""
    text, query = parts.pop("text", "a passage"), parts.pop("query", "a query")
    candidate = Passage(parts.pop("candidate_id", "d1"), text, parts.pop("title", ""))
    reference = parts.pop("reference", (Passage("p1", "the answer", "A title"), Passage("p2", "another")))
    return Finding(
        example=Example(parts.pop("query_id", "q1"), query, reference, (candidate,), parts.pop("source", "nq")),
        reference=reference,
        candidate=candidate,
        verdict=parts.pop("verdict", Verdict("false negative", "second", "better")),
        action=parts.pop("action", "promote"),
        listed=parts.pop("listed", "flagged"),
        words=parts.pop("words", {}),
        fingerprint=name,
        **parts,
    )


def table(path: Path) -> Rows:
    """Read a CSV of ours without any code of ours."""
    with path.open(encoding="utf-8-sig", newline="") as stream:
        return list(csv.DictReader(stream, strict=True))


def save(rows: Rows, path: Path, *, separator: str = ",", encoding: str = "utf-8", end: str = "\n") -> None:
    """Save rows as the csv module does, quotes only where needed."""
    with path.open("w", encoding=encoding, newline="") as stream:
        writer = csv.DictWriter(stream, list(rows[0]), delimiter=separator, lineterminator=end)
        writer.writeheader()
        writer.writerows(rows)


def filled(path: Path, **cells: str) -> Path:
    """Write a file of one row with these cells beside a pair."""
    save([{"pair": "r1", "human_label": "", **cells}], path)
    return path


def label(pair: str = "r1", query_id: str = "", candidate_id: str = "", line: int = 2) -> AuditLabel:
    """Make a label as it comes out of a file."""
    return AuditLabel(pair, query_id, candidate_id, "relevant", "", "anna", line)


def units(text: str) -> int:
    """Count as a spreadsheet does."""
    return len(text.encode("utf-16-le")) // 2


@given(HOSTILE)
def test_unguard_gives_back_what_guard_took(text: str) -> None:
    """The apostrophe can always be told from one that was there, however often a text is guarded."""
    assert unguard(guard(text)) == text
    assert unguard(unguard(guard(guard(text)))) == text


@pytest.mark.parametrize("text", [*MANGLED, *FORMULAS])
def test_what_a_spreadsheet_reads_otherwise_gets_an_apostrophe(text: str) -> None:
    """Numbers, dates, truth values and formulas, also behind blanks and apostrophes."""
    assert guard(text) == f"'{text}"
    assert guard(f"'{text}") == f"''{text}"


@pytest.mark.parametrize("text", HARMLESS)
def test_harmless_text_stays_as_it_is(text: str) -> None:
    """No apostrophe where none is needed, and none taken off a text that begins with one."""
    assert guard(text) == text
    assert unguard(text) == text


@pytest.mark.parametrize("text", ["1" + "a" * 200_000 + "_", "1" * 200_000 + "_", "'" * 200_000, " " * 200_000])
@pytest.mark.timeout(5)
def test_guard_is_quick_on_long_texts(text: str) -> None:
    """No text makes the rule go back and forth."""
    assert unguard(guard(text)) == text


@pytest.mark.parametrize(
    ("text", "read"),
    [("Relevant", "relevant"), (" PARTIAL ", "partial"), ("False  Negative", "relevant"),
     ("true negative", "irrelevant"), ("true positive", "relevant"), ("Y", "relevant"),
     ("1", "relevant"), ("n", "irrelevant"), ("0", "irrelevant"),
     (" ", None)],
)  # fmt: skip
def test_words_for_labels(text: str, read: str | None) -> None:
    """People write labels in several words and any case."""
    assert read_label(text) == read


def test_row_says_everything(tmp_path: Path) -> None:
    """Each column holds what its name says; a stage that was not asked has empty cells."""
    path = tmp_path / "flagged.csv"
    words = {
        "first": Judgment("partial", probability=0.1 + 0.2, score=-2.5, rationale="half of it"),
        "second": Judgment(None, "refused"),
    }
    one = finding(words=words, title="T", people={"anna": "relevant", "ben": "partial"})
    assert write_findings([one], path, ["first", "second", "third"]) == 1
    assert table(path) == [{
        "pair": "r0123456789abcdef", "listed": "flagged", "verdict": "false negative", "action": "promote",
        "settled_by": "second", "evidence": "better", "query_id": "q1", "source": "nq", "query": "a query",
        "reference": "[1] A title — the answer\n\n[2] another",
        "candidate_id": "d1", "candidate_title": "T", "candidate": "a passage",
        "first_label": "partial", "first_probability": "0.3", "first_score": "-2.5", "first_reason": "half of it",
        "second_label": "", "second_probability": "", "second_score": "", "second_reason": "refused",
        "third_label": "", "third_probability": "", "third_score": "", "third_reason": "",
        "people": "anna: relevant; ben: partial", "human_label": "", "human_note": "", "reviewer": "",
    }]  # fmt: skip


def test_bytes(tmp_path: Path) -> None:
    """Byte order mark, `pair` first, all cells quoted, CR LF between rows and LF within; the same bytes every time."""
    one, two = tmp_path / "one.csv", tmp_path / "two.csv"
    for path in (one, two):
        write_findings([finding(text='a "b"\r\nc\rd')], path, [])
    data = one.read_bytes()
    assert data == two.read_bytes()
    assert data.startswith(b'\xef\xbb\xbf"pair","listed",')
    assert data.endswith(b'"a ""b""\nc\nd","","","",""\r\n')
    assert data.count(b"\r\n") == 2


def test_no_findings_is_a_header(tmp_path: Path) -> None:
    """A run that flags nothing writes a file that can be read back."""
    path = tmp_path / "flagged.csv"
    assert write_findings([], path, ["first"]) == 0
    assert read_labels(path, "anna") == audit.AuditFile((), 0, 0)


def test_stage_called_human_leaves_peoples_column_alone(tmp_path: Path) -> None:
    """What a stage of people said stands beside the column to fill in, never in it."""
    path = tmp_path / "flagged.csv"
    write_findings([finding(words={"human": Judgment("relevant")})], path, ["human"])
    (row,) = table(path)
    assert row["human_stage_label"] == "relevant"
    assert row["human_label"] == ""
    assert read_labels(path, "anna").empty == 1


def test_rows_stream(tmp_path: Path) -> None:
    """Rows are written as they come."""
    path, sizes = tmp_path / "flagged.csv", []

    def findings() -> Iterator[Finding]:
        for number in range(95):
            sizes.append((tmp_path / "flagged.csv.tmp").stat().st_size)
            yield finding(f"r{number}", text="x" * 50_000)

    assert write_findings(findings(), path, []) == 95
    assert [row["pair"] for row in table(path)] == [f"r{number}" for number in range(95)]
    assert sizes[-1] > 80 * CELL_LIMIT  # after 90 rows all but the last chunk is in the file


def test_failure_leaves_the_old_file(tmp_path: Path) -> None:
    """A file gets its name when it is complete; until then the one before stays, and nothing else is left."""
    path = tmp_path / "flagged.csv"
    path.write_text("before")

    def findings() -> Iterator[Finding]:
        yield finding()
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        write_findings(findings(), path, [])
    assert path.read_text() == "before"
    assert list(tmp_path.iterdir()) == [path]


def test_no_folder_to_write_to(tmp_path: Path) -> None:
    """A missing folder is the user's to make, not a traceback."""
    with pytest.raises(InputError, match="cannot be written"):
        write_findings([finding()], tmp_path / "nowhere" / "flagged.csv", [])


def test_a_file_that_another_program_holds(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Where the old file can neither be replaced nor moved, the error says to close it; the old one stays."""
    path = filled(tmp_path / "flagged.csv", human_label="yes")
    before = path.read_bytes()

    def held(*_: object) -> None:
        raise PermissionError(13, "The process cannot access the file because it is being used by another process")

    monkeypatch.setattr(Path, "replace", held)
    monkeypatch.setattr(Path, "rename", held)
    for touch in (lambda: write_findings([finding()], path, []), lambda: set_aside(path, lambda _: False)):
        with pytest.raises(RunError, match=r"flagged\.csv: cannot be written: .*used by another") as caught:
            touch()
        assert "close the file" in caught.value.hint
    assert [(each, each.read_bytes()) for each in tmp_path.iterdir()] == [(path, before)]


@pytest.mark.skipif(not Path("/dev/full").exists(), reason="no device that is always full")
@pytest.mark.parametrize("count", [1, 1000])
def test_a_full_disk(tmp_path: Path, count: int) -> None:
    """Running out of room, at the end or on the way, is no traceback; an error of the findings keeps its own name."""
    (tmp_path / "flagged.csv.tmp").symlink_to("/dev/full")
    with pytest.raises(RunError, match=r"flagged\.csv: cannot be written: .*No space") as caught:
        write_findings([finding()] * count, tmp_path / "flagged.csv", [])
    assert "Make room" in caught.value.hint

    def broken() -> Iterator[Finding]:
        yield finding()
        raise OSError("of the input")

    with pytest.raises(OSError, match="of the input"):
        write_findings(broken(), tmp_path / "flagged.csv", [])
    assert list(tmp_path.iterdir()) == []


def test_what_is_set_aside(tmp_path: Path) -> None:
    """Labels that nobody took in, and files that cannot be read; never one without labels or one taken in."""
    path = tmp_path / "flagged.csv"
    assert set_aside(path, lambda _: False) is None
    filled(path)
    assert set_aside(path, lambda _: False) is None
    filled(path, human_label="yes")
    assert set_aside(path, lambda _: True) is None
    assert path.exists()
    for name in ("flagged-labelled.csv", "flagged-labelled1.csv"):
        filled(path, human_label="perhaps")
        assert set_aside(path, lambda _: False) == tmp_path / name
        assert not path.exists()


@pytest.mark.parametrize(
    ("name", "reviewer"),
    [("anna.csv", "anna"), ("flagged-labelled.csv", "flagged"), ("flagged-labelled12.csv", "flagged"),
     ("well-labelled-ben.csv", "well-labelled-ben"), ("-labelled.csv", "-labelled")],
)  # fmt: skip
def test_a_reviewer_by_the_files_name(name: str, reviewer: str) -> None:
    """A file that was set aside is by the same person as before."""
    assert reviewer_of(Path("runs", name)) == reviewer


@pytest.mark.parametrize("text", FORMULAS)
def test_no_cell_is_a_formula(tmp_path: Path, text: str) -> None:
    """Hostile text is defused in every column of text, the header included."""
    path = tmp_path / "flagged.csv"
    hostile = finding(
        query=text, query_id=text, candidate_id=text, title=text, text=text, source=text,
        verdict=Verdict("undecided", text, text), words={text: Judgment(None, text)}, people={text: "partial"},
    )  # fmt: skip
    write_findings([hostile], path, [text])
    with path.open(encoding="utf-8-sig", newline="") as stream:
        cells = [cell for row in csv.reader(stream) for cell in row]
    assert sum("1" in cell or "SUM" in cell or "A0" in cell or "http" in cell for cell in cells) >= 10
    assert [cell for cell in cells if guard(unguard(cell)) != cell] == []
    assert [cell for cell in cells if cell.lstrip("\u200b\ufeff \u00a0\t\n").startswith(tuple("=+-@"))] == []


@pytest.mark.parametrize("unit", ["x", "é", "\U0001f600", "=", "a\U0001f600"])
@pytest.mark.parametrize("spare", range(-2, 3))
def test_cells_are_cut_to_what_a_spreadsheet_holds(tmp_path: Path, unit: str, spare: int) -> None:
    """32,767 UTF-16 units with the apostrophe counted; what is longer says how much of it is missing."""
    path = tmp_path / "flagged.csv"
    text = (unit * CELL_LIMIT)[: (CELL_LIMIT + spare) * len(unit) // units(unit)]
    write_findings([finding(text=text)], path, [])
    cell = table(path)[0]["candidate"]
    whole = guard(text)
    assert units(cell) <= CELL_LIMIT
    if units(whole) <= CELL_LIMIT:
        assert cell == whole
    else:
        kept, mark, rest = cell.partition("… [cut, ")
        assert mark
        assert whole.startswith(kept)
        assert int(rest.removesuffix(" characters]")) == len(whole) - len(kept)
        assert units(cell) > CELL_LIMIT - 4  # and no more is cut than must be


@given(st.text(st.characters(codec=None), max_size=30))
def test_no_cell_holds_what_a_workbook_cannot(text: str) -> None:
    """XML 1.0 knows no control characters but tab and line end, and no halves of surrogate pairs."""
    cell = to_cell(text)
    assert cell.isprintable() or all(c in "\t\n" or ord(c) >= 0x7F or c.isprintable() for c in cell)
    cell.encode("utf-8")
    assert not set(cell) & {"\r", "\x00", "\ufffe", "\uffff"}


def by_pandas(rows: Rows, path: Path) -> None:
    """Save as pandas does."""
    pd.DataFrame(rows, dtype=str).to_csv(path, index=False)


SAVES: dict[str, Save] = {
    "pandas": by_pandas,
    "csv": save,
    "semicolon": lambda rows, path: save(rows, path, separator=";", encoding="utf-8-sig", end="\r\n"),
    "tab": lambda rows, path: save(rows, path, separator="\t", end="\r\n"),
}


@settings(deadline=None)
@given(
    st.lists(st.tuples(HOSTILE, HOSTILE, HOSTILE, st.sampled_from(LABELS), HOSTILE), min_size=1, max_size=5),
    st.sampled_from(sorted(SAVES)),
    st.sets(st.sampled_from([*audit.ABOUT[1:], "people", "reviewer"])),
    st.randoms(use_true_random=False),
)
def test_labels_survive_a_spreadsheet(
    content: list[tuple[str, str, str, Any, str]], how: str, dropped: set[str], dice: random.Random
) -> None:
    """Any content, rows sorted otherwise, columns moved, dropped and added, any separator: labels find their pairs."""
    pairs = [(f"r{number:016x}", query, candidate) for number, (query, candidate, *_) in enumerate(content)]
    with TemporaryDirectory() as folder:
        path = Path(folder, "flagged.csv")
        findings = [
            finding(
                name,
                query_id=query,
                candidate_id=candidate,
                text=row[2],
                query=row[2],
                words={"s": Judgment(None, row[2])},
            )
            for (name, query, candidate), row in zip(pairs, content, strict=True)
        ]
        write_findings(findings, path, ["s"])
        rows = table(path)
        for row, (*_, said, note) in zip(rows, content, strict=True):
            row |= {"human_label": said.upper(), "human_note": to_cell(note), "my column": note.replace("\r", "\n")}
        dice.shuffle(rows)
        columns = [name for name in rows[0] if name not in dropped]
        dice.shuffle(columns)
        rows = [{name: row[name].encode("utf-8", "ignore").decode() for name in columns} for row in rows]
        SAVES[how](rows, path)
        read = read_labels(path, "anna")
    assert (read.rows, read.empty) == (len(content), 0)
    said_of = {label.pair: label for label in read.labels}
    assert {name: each.label for name, each in said_of.items()} == {
        name: row[3] for (name, *_), row in zip(pairs, content, strict=True)
    }
    for (name, *_), (*_, note) in zip(pairs, content, strict=True):
        assert said_of[name].note == from_cell(to_cell(note)).strip()
    matched = match(read.labels, [(*pair, pair[0]) for pair in pairs])
    assert matched.stale == ()
    assert [found.pair for found in matched.found] == [label.pair for label in read.labels]


@pytest.mark.parametrize("text", [*MANGLED, *FORMULAS[8:], *HARMLESS[:4], "'007", "''=1"])
def test_ids_come_back_exactly(tmp_path: Path, text: str) -> None:
    """What looked like a number to a spreadsheet is the same id afterwards."""
    path = tmp_path / "flagged.csv"
    write_findings([finding(query_id=text)], path, [])
    (row,) = table(path)
    save([row | {"human_label": "no"}], path)
    assert read_labels(path, "anna").labels[0].query_id == text


UTF8 = "Text - txt - csv (StarCalc):44,34,76"
"""LibreOffice's name for comma, double quote, UTF-8, which its dialogue proposes for our file."""


def resaved(path: Path, *kinds: str, read_as: str = UTF8) -> Path:
    """Open a file in LibreOffice and save it as each kind in turn, at last as CSV; return where that lies."""
    base = path.parent
    for turn, kind in enumerate((*kinds, f"csv:{UTF8}")):
        folder = base / str(turn)
        command = ["soffice", f"-env:UserInstallation=file://{base}/profile", "--headless"]
        command += [f"--infilter={read_as}"] if path.suffix == ".csv" else []
        command += ["--convert-to", kind, "--outdir", str(folder), str(path)]
        subprocess.run(command, check=True, timeout=120, capture_output=True)
        path = next(folder.iterdir())
    return path


OFFICE = pytest.mark.skipif(not shutil.which("soffice"), reason="LibreOffice is not installed")


@OFFICE
@pytest.mark.slow
@pytest.mark.parametrize("kinds", [(), ("xlsx",), ("ods",)], ids=lambda kinds: "-".join((*kinds, "csv")))
def test_labels_survive_libreoffice(tmp_path: Path, kinds: tuple[str, ...]) -> None:
    """The real thing: rows shuffled, columns dropped, added and edited, through a workbook and back to CSV."""
    path = tmp_path / "flagged.csv"
    ids = [*MANGLED, *FORMULAS, *HARMLESS, "'007", "a\nb"]
    write_findings([finding(f"r{n:016x}", query_id=text, text=text) for n, text in enumerate(ids)], path, [])
    rows = table(path)
    for number, row in enumerate(rows):
        del row["evidence"]
        row |= {"human_label": LABELS[number % 3].title(), "candidate": "something else", "mine": "=1+1"}
    random.Random(0).shuffle(rows)
    save(rows, path)
    read = read_labels(resaved(path, *kinds), "anna")
    matched = match(read.labels, [(f"r{n:016x}", text, "d1", n) for n, text in enumerate(ids)])
    assert matched.stale == ()
    assert {each.pair: each.label.label for each in matched.found} == {n: LABELS[n % 3] for n in range(len(ids))}


@OFFICE
@pytest.mark.slow
def test_a_file_opened_in_another_encoding_is_refused_row_by_row(tmp_path: Path) -> None:
    """Read as Windows-1252, ids beyond ASCII are others: those rows are named, and the labels of the rest stand."""
    path = tmp_path / "flagged.csv"
    ids = ["q1", "größe", "2", "€5"]
    write_findings([finding(f"r{n:016x}", query_id=text) for n, text in enumerate(ids)], path, [])
    save([row | {"human_label": "yes"} for row in table(path)], path)
    read = read_labels(resaved(path, read_as="Text - txt - csv (StarCalc):44,34,1"), "anna")
    matched = match(read.labels, [(f"r{n:016x}", text, "d1", n) for n, text in enumerate(ids)])
    assert [each.pair for each in matched.found] == [0, 2]
    told = str(stale_error(path, matched.stale, Path("run")))
    assert "line 3, pair r0000000000000001: query_id is 'grÃ¶ÃŸe' in the file and 'größe' in the run" in told


def test_labels_survive_pandas(tmp_path: Path) -> None:
    """Read with its guesses, shuffled, columns dropped and added, texts changed, written again: as a notebook does."""
    path = tmp_path / "flagged.csv"
    ids = [*MANGLED, *HARMLESS, "'007"]
    write_findings([finding(f"r{n:016x}", query_id=text) for n, text in enumerate(ids)], path, [])
    frame = pd.read_csv(path)
    frame["human_label"] = [LABELS[n % 3] for n in range(len(ids))]
    frame["candidate"] = frame["candidate"].str.upper()
    frame["confidence"] = 0.5
    frame.sample(frac=1, random_state=0).drop(columns=["query", "reference", "people"]).to_csv(path, index=True)
    matched = match(read_labels(path, "anna").labels, [(f"r{n:016x}", text, "d1", n) for n, text in enumerate(ids)])
    assert matched.stale == ()
    assert {each.pair: each.label.label for each in matched.found} == {n: LABELS[n % 3] for n in range(len(ids))}


def test_reviewers(tmp_path: Path) -> None:
    """Several people may label one pair; the cell says who, else the argument; the same word twice is one label."""
    path = tmp_path / "merged.csv"
    rows = [("r1", "yes", "", ""), ("r1", "no", "ben", "why"), ("r1", "relevant", "", "a note"), ("r2", "", "", "only")]
    save([dict(zip(("pair", "human_label", "reviewer", "human_note"), row, strict=True)) for row in rows], path)
    read = read_labels(path, "anna")
    assert [(each.line, each.reviewer, each.label, each.note) for each in read.labels] == [
        (3, "ben", "irrelevant", "why"),
        (4, "anna", "relevant", "a note"),
    ]
    assert (read.rows, read.empty) == (4, 1)


def test_all_problems_at_once(tmp_path: Path) -> None:
    """Each wrong word with its line and what to write; both lines of a contradiction; a label that lost its pair."""
    path = tmp_path / "flagged.csv"
    rows = [("r1", "maybe", "a\nb"), ("r2", "yes", ""), ("r2", "no", ""), ("", "yes", ""), ("r3", "perhaps", "")]
    save([dict(zip(("pair", "human_label", "human_note"), row, strict=True)) for row in rows], path)
    with pytest.raises(InputError) as caught:
        read_labels(path, "anna")
    message = str(caught.value)
    assert "4 of the labels" in message
    assert "line 2, human_label: 'maybe' is not a label; write relevant, partial or irrelevant" in message
    assert "lines 3 and 4: anna calls the pair r2 relevant and irrelevant" in message
    assert "line 5, human_label: a label, but nothing in the column pair" in message
    assert "line 6, human_label: 'perhaps'" in message


@pytest.mark.parametrize(
    ("data", "says"),
    [
        (b"", "no column pair and no column human_label"),
        (b"query,human_label\nq,yes\n", "no column pair"),
        (b"pair;label\nr1;yes\n", "no column human_label"),
        (b"pair,human_label,human_label\nr1,yes,no\n", "more than one column human_label"),
        (b"pair,human_label\nr1,\xe9\n", "not UTF-8"),
        ("pair,human_label\nr1,yes\n".encode("utf-16"), "not UTF-8"),
        (b"pair,human_label\nr1,yes,and more\n", "not a table"),
        (b'pair,human_label\nr1,"yes\n', "not a table"),
    ],
)
def test_files_that_are_none_of_ours(tmp_path: Path, data: bytes, says: str) -> None:
    """Every other file is refused with what is wrong and what to do."""
    path = tmp_path / "flagged.csv"
    path.write_bytes(data)
    with pytest.raises(InputError, match=says) as caught:
        read_labels(path, "anna")
    assert caught.value.hint


def test_missing_file(tmp_path: Path) -> None:
    """A name that is not there is not a traceback."""
    with pytest.raises(InputError, match="cannot be read"):
        read_labels(tmp_path / "none.csv", "anna")


def test_short_and_blank_rows(tmp_path: Path) -> None:
    """Spreadsheets leave out empty cells at the end of a row, and people leave blank rows; lines are still theirs."""
    path = tmp_path / "flagged.csv"
    path.write_bytes(b" pair , human_label ,human_note\r\nr1\r\n\r\n,,\r\nr2,Y\r\n")
    read = read_labels(path, "anna")
    assert [(each.pair, each.line) for each in read.labels] == [("r2", 5)]
    assert (read.rows, read.empty) == (2, 1)


def test_texts_that_pandas_likes_to_guess_at(tmp_path: Path) -> None:
    """An id NA, null or 1.0 is a text."""
    for text in ("NA", "null", "nan", "1.0", "-"):
        (each,) = read_labels(filled(tmp_path / "a.csv", query_id=text, human_label="no"), "anna").labels
        assert each.query_id == text


def test_match_checks_ids_where_they_are() -> None:
    """A label must fit its row's ids: a column sorted by itself shows. A column that was dropped is not asked for."""
    labels = [
        label(),
        label(query_id="q1", candidate_id="d1"),
        label(query_id="q2"),
        label(candidate_id="d9"),
        label("r7"),
    ]
    matched = match(labels, iter([("r0", "q0", "d0", 0), ("r1", "q1", "d1", 1)]))
    assert [(found.label, found.pair) for found in matched.found] == [(labels[0], 1), (labels[1], 1)]
    assert [stale.label for stale in matched.stale] == labels[2:]
    assert [stale.reason for stale in matched.stale] == [
        "query_id is 'q2' in the file and 'q1' in the run",
        "candidate_id is 'd9' in the file and 'd1' in the run",
        "no such pair in the run: its query, reference or candidate has changed",
    ]


def test_match_of_equal_pairs_goes_by_ids() -> None:
    """Two rows with the same texts have one fingerprint; the label's ids say which is meant."""
    matched = match([label(query_id="q2")], [("r1", "q1", "d1", "first"), ("r1", "q2", "d1", "second")])
    assert [found.pair for found in matched.found] == ["second"]
    assert matched.stale == ()


def test_ids_longer_than_a_cell_match(tmp_path: Path) -> None:
    """What was cut or cleaned on its way out is compared as it went out."""
    path, name = tmp_path / "flagged.csv", "\x07=" + "x" * 40_000
    write_findings([finding(query_id=name)], path, [])
    (row,) = table(path)
    save([row | {"human_label": "no"}], path)
    assert match(read_labels(path, "anna").labels, [(row["pair"], name, "d1", None)]).stale == ()


def test_stale_error_lists_the_first() -> None:
    """Twenty lines with their reasons, then how many more, and what to do."""
    stale = [Stale(label(f"r{line}", line=line), "gone") for line in range(2, 27)]
    error = stale_error(Path("flagged.csv"), stale, Path("my run"))
    assert error.message.startswith("flagged.csv: 25 labels belong to no pair of this run:\n  line 2, pair r2: gone\n")
    assert error.message.count("gone") == 20
    assert error.message.endswith("  and 5 more")
    assert "relabel audit export 'my run' -o" in error.hint
    assert "and" not in stale_error(Path("f.csv"), stale[:20], Path("run")).message
    assert "1 label belongs" in stale_error(Path("f.csv"), stale[:1], Path("run")).message


def test_audit_is_quick_to_import() -> None:
    """Pandas waits until a file is written or read."""
    code = "import sys, relabel.audit; sys.exit('pandas' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0


def test_csv_module_and_pandas_agree(tmp_path: Path) -> None:
    """The file means the same to both readers."""
    path = tmp_path / "flagged.csv"
    write_findings([finding(text='a,"b";\n\'c', query="NA")], path, ["s"])
    frame = pd.read_csv(io.BytesIO(path.read_bytes()), dtype=str, keep_default_na=False, encoding="utf-8-sig")
    assert frame.to_dict("records") == table(path)
