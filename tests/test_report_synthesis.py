"""The report of a synthesis: it says what its figures say, warns, shows hostile text as text, refuses half a run."""

import json
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

import filled
import pytest
from test_evaluating import QUICK, collection, row, saved
from test_report import HOSTILE, Page
from test_synthesizing import Scripted, chosen, text, write
from test_synthesizing import run as fill

import relabel
from relabel import api_synthesis
from relabel.errors import RunError
from relabel.evaluating import evaluate
from relabel.reporting.separability import alarm
from relabel.reporting.synthesis import written_by
from relabel.rundir import sha256_of
from relabel.synthesis.written import Written
from relabel.synthesisreport import SHOWN

ATTACKS = [each for each in HOSTILE if "\ud800" not in each]

BY_CASCADE = ("judged relevant", "judged partial", "repeated", "undecided")


def page_of(folder: Path, **more: Any) -> tuple[str, Page]:
    """Write a report; return it, and as a parser sees it."""
    html = relabel.report(folder, **more).path.read_text("utf-8")
    return html, Page(html)


@pytest.fixture(scope="module")
def paid(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Return what the command has written by models with prices."""
    return filled.paid(tmp_path_factory.mktemp("paid"))


@pytest.fixture(scope="module")
def given_away(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Return a folder whose synthetic passages all begin alike, and hold attacks."""
    return filled.given_away(tmp_path_factory.mktemp("attacked"), ATTACKS).folder


def test_it_says_what_the_figures_say(paid: Path) -> None:
    """Slots by their end and reason, how the accepted are used, the AUC with its interval, and the money."""
    _, page = page_of(paid)
    figures: Any = filled.read(paid, "statistics.json")
    execution: Any = filled.read(paid, "run.json")
    slots, apart = figures["slots"], figures["separability"]
    refused, none = sum(slots["refused"].values()), sum(slots["none"].values())
    row = f"{slots['asked']} {slots['accepted']} {refused} {none} {100 * slots['accepted'] / slots['asked']:.1f} % ("
    assert f"all {row}" in page.text
    assert f"requirement {row}" in page.text
    for end in ("refused", "none"):
        for reason, number in slots[end].items():
            by = {"refused": "a cheap check", "none": "–"}[end] if reason not in BY_CASCADE else "the cascade"
            assert (f"{end} {reason} {by} {number}" in page.text) == (number > 0)
    assert f"passages accepted {slots['accepted']} = {slots['used']} used" in page.text
    assert f"got some + {figures['input']['rows'] - figures['rows']['filled']} got none" in page.text
    auc = apart["auc"]
    assert f"AUC {auc['value']:.2f} ({auc['low']:.2f} to {auc['high']:.2f})" in page.text
    assert f"{apart['synthetic']} synthetic passages and {apart['mined']} mined ones of {apart['queries']}" in page.text
    assert execution["usd"] > 0
    assert f"for each of {slots['accepted']} accepted passages" in page.text
    wrote = [execution["writing"][each] for each in ("asked", "tokens_in", "tokens_cached", "tokens_out")]
    assert " ".join(f"{number:,}" for number in wrote) in page.text
    assert page.text.count("In the training file.") == min(SHOWN, slots["used"])


def test_what_gives_passages_away(given_away: Path) -> None:
    """An AUC above the limit is a warning in plain words, with style figures and words beside it."""
    _, page = page_of(given_away)
    apart: Any = filled.read(given_away, "statistics.json")["separability"]
    assert apart["auc"]["value"] > 0.9
    assert page.text.count("Warning: that is above 0.65. A model that is trained on these negatives can learn who") == 2
    assert apart["artefacts"]
    for word in apart["artefacts"][:3]:
        shares = f"{100 * word['synthetic']:.1f} % {100 * word['mined']:.1f} % {word['z']:.1f}"
        assert f"{word['word']} {shares}" in page.text
    for each in apart["style"]:
        auc = each["auc"]
        assert f"{auc['value']:.2f} ({auc['low']:.2f} to {auc['high']:.2f})" in page.text


def test_attacks_are_text(given_away: Path) -> None:
    """Passages, titles, recipes, authors, details and reasons: no tag of theirs is one, and none turns the text."""
    html, page = page_of(given_away)
    assert page.faults == []
    assert not {"script", "iframe", "img", "i"} & set(page.tags)
    for attack in ATTACKS[:4]:
        assert attack in page.text
        assert "<" not in attack or attack not in html
    assert r"\u202egnp.exe\u202c\u2066" in page.text
    assert "\u202e" not in html


def test_very_many_authors() -> None:
    """A file that names an author on every line does not fill the page with them."""
    assert written_by([f"<{number}>" for number in range(1000)]).endswith("<bdi>&lt;11&gt;</bdi> and 988 more")
    assert written_by([]) == "nobody named"


def test_too_few_to_tell(tmp_path: Path) -> None:
    """Where too few passages were used, the AUC is not known, and the page says why; it draws what there is."""
    source = write(tmp_path / "rows.jsonl", [3])
    rows = [{"query_id": "q0", "text": text(1)}, {"query_id": "q0", "text": text(2, "yes")}]
    _, page = page_of(filled.judged(tmp_path, source, [dict(row) for row in rows], "add: 2\n").folder)
    told = "is not known: too few to tell: 1 synthetic and 3 mined passages of 1 queries, where 10 of each are needed."
    assert told in page.text
    assert "Warning: that is above" not in page.text
    assert "all 2 1 1 0 50.0 % (0.0 to 100.0) 1" in page.text  # one query says nothing of others


def test_an_interval_that_reaches_above_the_limit() -> None:
    """Below the limit, but not surely: that is said, and is no warning; well below, nothing is."""
    found = {"limit": 0.65, "warning": "", "auc": {"value": 0.6}, "note": "too few to rule out an AUC above 0.65"}
    assert alarm(found) == "Too few to rule out an AUC above 0.65."
    assert alarm(found | {"note": ""}) == ""


def test_nothing_was_asked(tmp_path: Path) -> None:
    """A data set without room: the page says so in place of tables of nothing."""
    source = write(tmp_path / "rows.jsonl", [1, 1])
    done = fill(tmp_path, source, chosen(tmp_path, "add: 1\nmax_share: {data: 0.1}"), writer=Scripted({}))
    _, page = page_of(done.folder)
    assert page.faults == []
    for told in (
        "No passage was asked for.", "Nothing was asked for: 2 rows wanted", "No passage was accepted.",
        "max_share.data leaves no room", "is not known: too few to tell",
    ):  # fmt: skip
        assert told in page.text, told


def test_rules_cost_nothing_and_nobody_is_asked(tmp_path: Path) -> None:
    """A writer of one's own, and slots that are missing: no bill to show, and what is left over is told."""
    source = write(tmp_path / "rows.jsonl", [4])
    written = [Written(0, "r", text(number)) for number in range(3)]
    wanted = chosen(tmp_path, "add: 2\nmax_share: {row: 1.0, data: 1.0}\noversample: 2.0")
    _, page = page_of(fill(tmp_path, source, wanted, writer=Scripted({0: written})).folder)
    assert "3 = 2 used + 1 left over (enough in the row) + 0 left over (share of the data set)" in page.text
    assert "none missing – 1" in page.text
    assert "$0.00 in all, writing and judging" in page.text


def test_half_a_synthesis_is_none(given_away: Path, tmp_path: Path) -> None:
    """Unfinished, or begun anew: said in one message with what to type, by the command too; never half a page."""
    folder = shutil.copytree(given_away, tmp_path / "out")
    ledger = folder / "synthetic.jsonl"
    whole = ledger.read_text("utf-8")
    ledger.write_text(whole[: whole.index("\n") + 1], "utf-8")
    with pytest.raises(RunError, match="begun anew and is not finished") as caught:
        relabel.report(folder)
    assert caught.value.hint.startswith(f"finish it: relabel synthesize INPUT -c CONFIG -o {folder}")
    (folder / "manifest.json").unlink()
    with pytest.raises(RunError, match=r"holds no finished synthesis \(manifest.json is missing\)"):
        relabel.report(folder)
    command = [sys.executable, "-m", "relabel", "report", str(folder)]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert (done.returncode, done.stdout) == (2, "")
    assert "Traceback" not in done.stderr
    assert "holds no finished synthesis" in done.stderr
    assert not (folder / "report.html.tmp").exists()


@pytest.mark.parametrize("name", ["manifest.json", "statistics.json", "run.json"])
@pytest.mark.parametrize("content", ["{}", "[]", "{", '{"slots": 3}'])
def test_documents_of_another_shape(given_away: Path, tmp_path: Path, name: str, content: str) -> None:
    """What no synthesis wrote is one message."""
    folder = shutil.copytree(given_away, tmp_path / "out")
    (folder / name).write_text(content, "utf-8")
    with pytest.raises(RunError, match="holds what no synthesis writes"):
        relabel.report(folder)


@pytest.mark.embedding
def test_folders_of_which_there_is_no_page(tmp_path: Path) -> None:
    """A comparison and queries for passages are no run that could be finished: the message says where figures are."""
    train = saved(tmp_path / "train.jsonl", [row(number) for number in range(8)])
    evaluate(train, dev=collection(tmp_path / "dev"), output=tmp_path / "ab", trial=QUICK)
    with pytest.raises(RunError, match="holds a comparison of negatives, which has no page") as caught:
        relabel.report(tmp_path / "ab")
    assert caught.value.hint == f"see {tmp_path / 'ab' / 'evaluation.json'}"
    (tmp_path / "passages.txt").write_text("Bees dance.\n", "utf-8")
    (tmp_path / "replies.jsonl").write_text("", "utf-8")
    (tmp_path / "queries.yaml").write_text("engine: {kind: scripted, replies: replies.jsonl}\n", "utf-8")
    api_synthesis.write_queries(tmp_path / "passages.txt", tmp_path / "queries.yaml", tmp_path / "queries")
    with pytest.raises(RunError, match="holds queries for passages, which have no page") as caught:
        relabel.report(tmp_path / "queries")
    assert caught.value.hint == f"see {tmp_path / 'queries' / 'statistics.json'}"


HUGE = 10**400  # an integer that no float holds


@pytest.mark.parametrize(
    "place",
    [
        ("statistics.json", "separability", "style", 2, "difference"),
        ("statistics.json", "separability", "auc", "value"),
        ("statistics.json", "difficulty", "median"),
        ("statistics.json", "share", "of_negatives"),
        ("statistics.json", "slots", "asked"),
        ("run.json", "usd"),
        ("run.json", "seconds"),
        ("manifest.json", "settings", "gate", "twin"),
    ],
)
def test_numbers_that_no_float_holds(given_away: Path, tmp_path: Path, place: tuple[Any, ...]) -> None:
    """They are no bug of ours: a page or one message."""
    folder = shutil.copytree(given_away, tmp_path / "out")
    file = folder / place[0]
    document = inner = json.loads(file.read_text("utf-8"))
    for part in place[1:-1]:
        inner = inner[part]
    inner[place[-1]] = HUGE
    file.write_text(json.dumps(document), "utf-8")
    try:
        assert page_of(folder)[1].faults == []
    except RunError as error:
        assert "holds what no synthesis writes" in error.message  # noqa: PT017 - one of the two


@pytest.mark.parametrize(
    "change",
    [
        {"end": None}, {"end": "lost"}, {"position": None}, {"position": "0"}, {"position": 10**12}, {"position": HUGE},
        {"position": -2}, {"position": 1.0}, {"position": True}, {"recipe": []}, {"recipe": {}}, {"generator": 3},
        {"id": None}, {"reason": {}}, {"why": 1}, {"text": ["a"]}, {"title": {}}, {"difficulty": HUGE},
        {"difficulty": "x"}, {"judge": None}, {"left": 3}, {"detail": {}},
    ],
)  # fmt: skip
def test_a_ledger_that_was_tampered_with(given_away: Path, tmp_path: Path, change: dict[str, Any]) -> None:
    """A line that no synthesis writes is one message, also where its hash was made to fit."""
    folder = shutil.copytree(given_away, tmp_path / "out")
    check_refused(folder, 5, change)


def check_refused(folder: Path, number: int, change: dict[str, Any]) -> None:
    """See that a report refuses a ledger of which one line was changed."""
    ledger, manifest = folder / "synthetic.jsonl", folder / "manifest.json"
    lines = [json.loads(line) for line in ledger.read_text("utf-8").splitlines()]
    lines[number] |= change
    lines[number] = {name: value for name, value in lines[number].items() if name not in change or value is not None}
    ledger.write_text("".join(json.dumps(line) + "\n" for line in lines), "utf-8")
    told = json.loads(manifest.read_text("utf-8"))
    told["files"]["synthetic.jsonl"] = sha256_of(ledger)
    manifest.write_text(json.dumps(told), "utf-8")
    with pytest.raises(RunError, match=r"holds what no synthesis writes: .*line ") as caught:
        relabel.report(folder)
    assert caught.value.hint.startswith("finish it: relabel synthesize")


def test_lines_of_a_ledger_in_another_order(given_away: Path, tmp_path: Path) -> None:
    """A row that stood before does not come again."""
    check_refused(shutil.copytree(given_away, tmp_path / "out"), -1, {"position": 0})


def test_the_input_has_to_be_there(given_away: Path, tmp_path: Path) -> None:
    """Moved, it is found where one says; another file in its place is refused."""
    folder = shutil.copytree(given_away, tmp_path / "out")
    manifest = json.loads((folder / "manifest.json").read_text("utf-8"))
    source = Path(manifest["input"]["path"])
    manifest["input"]["path"] = str(tmp_path / "gone.jsonl")
    (folder / "manifest.json").write_text(json.dumps(manifest), "utf-8")
    with pytest.raises(RunError, match="no longer there"):
        relabel.report(folder)
    moved = shutil.copy(source, tmp_path / "moved.jsonl")
    assert page_of(folder, path=moved)[1].faults == []
    with Path(moved).open("a", encoding="utf-8") as file:
        file.write("\n")
    with pytest.raises(RunError, match="is not the file that this synthesis read"):
        relabel.report(folder, path=moved)
