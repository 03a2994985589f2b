"""The audit page over a real run, asked by a visitor without a browser."""

import csv
import http.client
import json
import re
import shutil
import signal
import socket
import sys
from collections.abc import Iterator
from dataclasses import asdict
from pathlib import Path
from typing import Any

import pytest
from processes import Command
from visitors import Served, Visitor, served

import relabel
from relabel import serving
from relabel.errors import InputError, MissingPart, RelabelError, RunError, SettingsError
from relabel.inferring import SampleRow
from relabel.pipeline import open_run
from relabel.records import LABELS
from relabel.serving import list_pairs
from relabel.web.listing import Listing

DATA = Path(__file__).parents[1] / "data"
OTHERS = ("http://evil.example", "null", "http://127.0.0.1:1", "https://127.0.0.1")


@pytest.fixture(scope="module")
def sample(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Run the sample's three stages once."""
    made = tmp_path_factory.mktemp("sample") / "run"
    relabel.run(DATA / "sample.jsonl", DATA / "cascade.simulated.yaml", output=made)
    return made


@pytest.fixture(scope="module")
def folder(sample: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Return the run whose page all tests share that do not end it."""
    return shutil.copytree(sample, tmp_path_factory.mktemp("served") / "run")


@pytest.fixture
def own(sample: Path, tmp_path: Path) -> Path:
    """Return a run for one test, that nobody has labelled."""
    return shutil.copytree(sample, tmp_path / "run")


@pytest.fixture(scope="module")
def page(folder: Path) -> Iterator[Served]:
    """Serve the run for all tests that do not end it."""
    with served(folder) as one:
        yield one


def listed(folder: Path, **options: Any) -> list[str]:
    """Return the fingerprints of what is listed, in order."""
    with open_run(folder) as (plan, store):
        listing = list_pairs(plan, store, options.pop("chosen", None), everything=options.pop("everything", False))
        return fingerprints(listing)


def fingerprints(listing: Listing) -> list[str]:
    """Return the fingerprints of a listing, and close it."""
    found = [listing.sheet(number).pair.fingerprint for number in range(1, listing.size + 1)]
    listing.close()
    return found


def exported(folder: Path, path: Path, **options: Any) -> list[dict[str, str]]:
    """Export the audit CSV and read it without any code of ours."""
    relabel.audit_export(folder, path, **options)
    with path.open(encoding="utf-8-sig", newline="") as stream:
        return list(csv.DictReader(stream))


def test_nobody_comes_in_without_the_token(page: Served) -> None:
    """No page without token or cookie, none with a wrong one; the token gives a strict cookie that no script reads."""
    nobody = Visitor(page.port)
    for path in ("/", "/?token=", "/?token=wrong", "/pair/1?reviewer=anna", f"/pair/1?reviewer=a&token={page.token}"):
        refused = nobody.get(path)
        assert (refused.status, "Open the address that relabel printed" in refused.body) == (403, True)
        assert "set-cookie" not in refused.headers
    let_in = nobody.get(f"/?token={page.token}")
    cookie = let_in.headers["set-cookie"].casefold()
    assert let_in.status == 200
    assert {"httponly", "samesite=strict"} <= {part.strip() for part in cookie.split(";")}
    assert page.token.casefold() not in cookie
    nobody.cookie = f"relabel-{page.port}=wrong; other=1"
    assert nobody.get("/").status == 403
    assert page.visitor().get("/").status == 200


def test_other_host_names_are_refused(page: Served) -> None:
    """A page under a name that somebody else points here (DNS rebinding) gets nothing, cookie or not."""
    visitor = page.visitor()
    for host in ("evil.example", f"evil.example:{page.port}", "127.0.0.1.evil.example", "192.0.2.1", ""):
        assert visitor.get(f"/?token={page.token}", Host=host).status == 400
    for host in (f"localhost:{page.port}", "localhost", "127.0.0.1:9"):
        assert visitor.get("/", Host=host).status == 200


def test_only_this_machine_is_listened_to(page: Served) -> None:
    """No other address of the machine answers."""
    with socket.socket(socket.AF_INET, socket.SOCK_STREAM) as line, pytest.raises(OSError, match="refused"):
        line.connect(("127.0.0.2", page.port))


def test_forms_of_other_sites_do_nothing(page: Served) -> None:
    """A wrong Origin, no token or a token of another start: refused, and nothing is kept."""
    visitor = page.visitor()
    pair = visitor.get("/pair/1?reviewer=eve").field("pair")
    answer = {"reviewer": "eve", "pair": pair, "action": "relevant"}
    assert {visitor.post("/pair", answer, Origin=origin).status for origin in OTHERS} == {403}
    assert {visitor.post("/pair", answer | {"form": form}).status for form in ("", "wrong", "é")} == {403}
    assert visitor.post("/enter", {"reviewer": "eve", "form": ""}).status == 403
    assert "<b>0</b> done" in visitor.get("/done?reviewer=eve").body
    ours = visitor.post("/pair", answer, Origin=f"http://127.0.0.1:{page.port}")
    assert (ours.status, ours.to) == (303, "/pair/2?reviewer=eve&after=1")


@pytest.mark.parametrize(
    ("fields", "status", "words"),
    [
        ({"action": "maybe"}, 400, "neither a label (relevant, partial, irrelevant) nor a step"),
        ({"action": ""}, 400, "neither a label"),
        ({"pair": "r0123456789abcdef"}, 404, "no such pair"),
        ({"pair": ""}, 404, "no such pair"),
        ({"reviewer": ""}, 400, "Write a name"),
        ({"reviewer": "a\u202eb"}, 400, "Write a name"),
        ({"note": "x" * 10_001}, 413, "at most 10,000 characters"),
        ({"note": "x" * 100_000}, 413, "at most 10,000 characters"),
    ],
)
def test_wrong_answers_are_refused(page: Served, fields: dict[str, str], status: int, words: str) -> None:
    """What is no label, no pair, no name or too long gets a page that says so, and nothing is kept."""
    visitor = page.visitor()
    pair = visitor.get("/pair/1?reviewer=dora").field("pair")
    told = visitor.post("/pair", {"reviewer": "dora", "pair": pair, "action": "relevant", **fields})
    assert (told.status, words in told.body) == (status, True)
    assert "<b>0</b> done" in visitor.get("/done?reviewer=dora").body


def test_wrong_requests_get_a_page(page: Served) -> None:
    """Unknown addresses, numbers out of range, other methods and bodies: 4xx, and never a traceback."""
    visitor = page.visitor()
    asked = {
        "/nothing": 404, "/pair/0?reviewer=a": 404, "/pair/100000?reviewer=a": 404, "/pair/-1?reviewer=a": 404,
        f"/pair/{'9' * 30}?reviewer=a": 404, "/pair/1": 400, "/next": 400, "/done?reviewer=": 400,
        "/pair?reviewer=a&number=x": 400, f"/pair?reviewer=a&number={'9' * 5000}": 400, "/static/../app.py": 404,
        "/enter": 405,
    }  # fmt: skip
    found = {path: visitor.get(path) for path in asked}
    assert {path: one.status for path, one in found.items()} == asked
    assert not any("Traceback" in one.body for one in found.values())
    assert visitor.ask("POST", "/pair", b"{}", {"Content-Type": "application/json"}).status == 415
    assert visitor.ask("PUT", "/pair", b"").status == 405
    assert visitor.get("/pair?reviewer=a&number=99999").to == "/pair/200?reviewer=a"
    assert "after" not in visitor.get("/pair/2?reviewer=a&after=1&told=<script>").body


def test_a_page_loads_and_runs_nothing_else(page: Served) -> None:
    """The policy forbids it, and no page holds a script or style of its own, or an address elsewhere."""
    visitor = page.visitor()
    for path in ("/", "/pair/1?reviewer=a", "/done?reviewer=a", "/nothing"):
        one = visitor.get(path)
        assert one.headers["content-security-policy"].startswith("default-src 'none'; script-src 'self'; style-src")
        assert (one.headers["cache-control"], one.headers["x-frame-options"]) == ("no-store", "DENY")
        assert not re.search(r"<style|style=|\son\w+=|<script(?! src=\"/static/keys.js\" defer></script>)", one.body)
        assert not re.search(r"(?:src|href|action)=\"(?!/)", one.body)
    for name, kind in (("keys.js", "text/javascript"), ("style.css", "text/css"), ("icon.svg", "image/svg+xml")):
        answer = visitor.get(f"/static/{name}")
        assert (answer.status, answer.headers["content-type"].split(";")[0]) == (200, kind)
        assert "http" not in answer.body.replace("http://www.w3.org/2000/svg", "")


def test_blind_until_one_has_decided(page: Served) -> None:
    """Judges' and other people's words are nowhere on the page of a pair before it is labelled, and are there after."""
    visitor = page.visitor()
    visitor.answer("olga", 4, "partial")
    before = visitor.get("/pair/4?reviewer=nina")
    for name in ("cheap", "strong", "olga", "flagged", "false negative"):
        assert not re.search(rf"\b{name}\b", before.body)
    assert before.body.count('aria-pressed="false"') == 3
    after = visitor.answer("nina", 4, "irrelevant")
    line = re.search(r'<p class="line" role="status" data-say>.*?</p>', visitor.get(after.to).body, re.DOTALL)
    assert line
    told = re.sub(r"\s+", " ", re.sub(r"<[^>]+>", " ", line[0])).replace(" :", ":").strip()
    assert re.fullmatch(
        r"Pair 4 you: irrelevant rules: no label \(no rule applies\) cheap: \w+ strong: \w+ olga: partial Undo", told
    )
    again = visitor.get("/pair/4?reviewer=nina").body
    assert all(f"<bdi>{name}</bdi>" in again for name in ("cheap", "strong", "olga"))


def test_judges_are_shown_where_that_was_asked_for(own: Path) -> None:
    """With --show-judges their words stand there from the beginning."""
    with served(own, "--show-judges") as page:
        body = page.visitor().get("/pair/1?reviewer=nina").body
    assert "<bdi>strong</bdi>" in body


def test_notes_are_kept_beside_labels(page: Served) -> None:
    """A note goes with its label and can be changed; without a label it stays on the page, and a line says so."""
    visitor = page.visitor()
    told = visitor.answer("kim", 7, "next", "is <this> it?")
    assert (told.status, "Not saved yet" in told.body, "is &lt;this&gt; it?</textarea>" in told.body) == (
        409,
        True,
        True,
    )
    assert visitor.answer("kim", 7, "irrelevant", "line 1\r\nline 2 ").status == 303
    assert "\nline 1\nline 2</textarea>" in visitor.get("/pair/7?reviewer=kim").body
    assert visitor.answer("kim", 7, "next", "other").to == "/pair/8?reviewer=kim"
    assert "\nother</textarea>" in visitor.get("/pair/7?reviewer=kim").body
    assert 'aria-pressed="true"' in visitor.get("/pair/7?reviewer=kim").body
    assert (
        visitor.post("/pair", {"reviewer": "kim", "pair": "", "action": "undo"}).to
        == "/pair/7?reviewer=kim&told=undone"
    )
    assert "line 2</textarea>" in visitor.get("/pair/7?reviewer=kim").body


def test_steps_lead_where_they_say(page: Served) -> None:
    """Labels and skips go to the next open pair, arrows to the neighbours, undo back; the end says what is left."""
    visitor = page.visitor()
    assert visitor.post("/enter", {"reviewer": "Leo"}).to == "/pair/1?reviewer=Leo"
    assert visitor.answer("leo", 2, "relevant").to == "/pair/3?reviewer=Leo&after=2"
    assert visitor.answer("Leo", 1, "skip").to == "/pair/3?reviewer=Leo"
    assert visitor.answer("Leo", 1, "next").to == "/pair/2?reviewer=Leo"
    assert visitor.answer("Leo", 2, "previous").to == "/pair/1?reviewer=Leo"
    assert visitor.answer("Leo", 3, "undo").to == "/pair/1?reviewer=Leo&told=undone"
    assert visitor.answer("Leo", 3, "undo").to == "/pair/2?reviewer=Leo&told=undone"
    assert visitor.answer("Leo", 3, "undo").to == "/pair/3?reviewer=Leo&told=nothing"
    assert visitor.answer("Leo", 200, "partial").to == "/done?reviewer=Leo&after=200"
    end = visitor.get("/done?reviewer=Leo&after=200").body
    assert ("199 pairs are still open" in end, "relabel apply " in end) == (True, True)
    assert visitor.get("/next?reviewer=Leo").to == "/pair/1?reviewer=Leo"
    assert visitor.answer("Leo", 200, "clear").to == "/pair/200?reviewer=Leo&told=cleared"
    assert "<b>0</b> done" in visitor.get("/pair/200?reviewer=Leo").body


def test_a_killed_server_has_lost_nothing(own: Path) -> None:
    """What was answered is there after SIGKILL; forms of the start before are refused by the next."""
    with served(own) as page:
        visitor = page.visitor()
        for number in range(1, 8):
            visitor.answer("anna", number, LABELS[number % 3], f"note {number}")
        before = [visitor.get(f"/pair/{number}?reviewer=anna").field("pair") for number in range(1, 8)]
        page.kill()
    with served(own, "--port", str(page.port)) as again:
        assert "anna: 7 labelled" in again.command.stdout
        stale = Visitor(again.port)
        stale.cookie, stale.form = visitor.cookie, visitor.form
        assert stale.post("/pair", {"reviewer": "anna", "pair": before[0], "action": "relevant"}).status == 403
        visitor = again.visitor()
        assert visitor.get("/next?reviewer=anna").to == "/pair/8?reviewer=anna"
        for number in range(1, 8):
            body = visitor.get(f"/pair/{number}?reviewer=anna")
            assert body.field("pair") == before[number - 1]
            assert f"note {number}</textarea>" in body.body
            assert re.search(rf'value="{LABELS[number % 3]}" class="[^"]*"[^>]* aria-pressed="true"', body.body)


@pytest.mark.skipif(sys.platform != "linux", reason="sets a limit on another process")
def test_what_cannot_be_written_is_said(own: Path) -> None:
    """On a full disk a label gets a page that says that it is not saved, and those before it are there."""
    import resource

    with served(own) as page:
        visitor = page.visitor()
        visitor.answer("anna", 1, "relevant")
        pair = visitor.get("/pair/2?reviewer=anna").field("pair")
        resource.prlimit(page.command.process.pid, resource.RLIMIT_FSIZE, (1, resource.RLIM_INFINITY))
        told = visitor.post("/pair", {"reviewer": "anna", "pair": pair, "action": "partial"})
        assert (told.status, "NOT SAVED" in told.body, "make room on the disk" in told.body) == (500, True, True)
        assert "<b>1</b> done" in visitor.get("/pair/2?reviewer=anna").body
    with served(own) as page:
        assert "anna: 1 labelled" in page.command.stdout


def test_csv_and_page_mix(own: Path, tmp_path: Path) -> None:
    """Labels of a CSV appear on the page as given, those of the page in the export, and both count in apply."""
    rows = exported(own, tmp_path / "out.csv")
    for row in rows[:3]:
        row |= {"human_label": "irrelevant", "reviewer": "anna"}
    with (tmp_path / "filled.csv").open("w", encoding="utf-8", newline="") as stream:
        writer = csv.DictWriter(stream, list(rows[0]))
        writer.writeheader()
        writer.writerows(rows)
    assert relabel.audit_import(own, tmp_path / "filled.csv").labels == 3
    with served(own) as page:
        visitor = page.visitor()
        assert "<bdi>anna</bdi> <span>3 of 200 done" in visitor.get("/").body
        numbers = {visitor.get(f"/pair/{number}?reviewer=anna").field("pair"): number for number in range(1, 8)}
        visitor.answer("anna", numbers[rows[0]["pair"]], "relevant")
        visitor.answer("ben", numbers[rows[1]["pair"]], "irrelevant", "no, =1+1")
        page.command.process.send_signal(signal.SIGINT)
        assert page.command.wait() == 0
        assert f"all labels are in the run. next: relabel apply {own}" in page.command.stdout
    after = {row["pair"]: row for row in exported(own, tmp_path / "after.csv", everything=True)}
    told = [after[row["pair"]] for row in rows[:3]]
    assert [row["people"] for row in told] == [
        "anna: relevant",
        "anna: irrelevant; ben: irrelevant (no, =1+1)",
        "anna: irrelevant",
    ]
    verdicts = relabel.apply(own).statistics["verdicts"]
    assert [(row["verdict"], row["settled_by"]) for row in told] == [
        ("false negative", "human"), ("true negative", "human"), ("true negative", "human"),
    ]  # fmt: skip
    assert sum(verdicts.values()) == len(after)


def test_the_list_is_the_export_and_stays_the_same(own: Path, tmp_path: Path) -> None:
    """Listed is what audit export lists, less what stands there twice, whatever people have said since."""
    rows = exported(own, tmp_path / "out.csv")
    before = listed(own)
    assert set(before) <= {row["pair"] for row in rows}
    assert len(before) == len({(row["query"], row["candidate_title"], row["candidate"]) for row in rows})
    with served(own) as page:
        visitor = page.visitor()
        for number in range(1, 6):
            visitor.answer("anna", number, "irrelevant")
    assert listed(own) == before
    rows = exported(own, tmp_path / "all.csv", everything=True)
    texts = {row["pair"]: (row["query"], row["candidate_title"], row["candidate"]) for row in rows}
    everything = [texts[name] for name in listed(own, everything=True)]
    assert len(everything) == len(set(everything))
    assert {texts[name] for name in before} < set(everything)
    voids = {row["pair"] for row in rows if row["verdict"] == "void"}
    assert voids
    assert set(everything) == {texts[name] for name in set(texts) - voids}


def test_pairs_by_name_come_in_their_order(own: Path, tmp_path: Path) -> None:
    """A CSV or a sample says which pairs, and in which order; those of one query stay together."""
    names = [row["pair"] for row in exported(own, tmp_path / "out.csv", everything=True) if row["verdict"] != "void"]
    chosen = [names[400], names[3], names[100], names[2]]
    (tmp_path / "few.csv").write_text("note;pair\n" + "".join(f"x;{name}\n" for name in [*chosen, chosen[0], ""]))
    header = {"version": 1, "design": {"kind": "random"}, "pairs": 889, "strata": {"": 889}}
    rows = [asdict(SampleRow(place, name, "q", "", 0.1, 1)) for place, name in enumerate(chosen, start=1)]
    (own / "samples").mkdir()
    (own / "samples" / "first.jsonl").write_text("".join(json.dumps(row) + "\n" for row in [header, *rows]))
    for options in (("--csv", str(tmp_path / "few.csv")), ("--sample", "first")):
        with served(own, *options) as page:
            visitor = page.visitor()
            found = [visitor.get(f"/pair/{number}?reviewer=a").field("pair") for number in range(1, 5)]
            assert visitor.get("/pair/5?reviewer=a").status == 404
        assert found == [names[400], names[3], names[2], names[100]]


@pytest.mark.parametrize(
    ("options", "kind", "words"),
    [
        ({"sample": "none"}, RunError, "has no sample 'none' \\(it has: bad\\)"),
        ({"sample": "../manifest"}, RunError, "has no sample"),
        ({"sample": "bad"}, RunError, "is not a sample that relabel wrote"),
        ({"sample": "none", "everything": True}, SettingsError, "say different things"),
        ({"table": "strange.csv"}, InputError, "2 of 2 pairs are not in this run, or void there: r1, r2"),
        ({"table": "other.csv"}, InputError, "no column pair"),
        ({"table": "empty.csv"}, InputError, "names no pair"),
        ({"table": "gone.csv"}, InputError, "cannot be read"),
    ],
)
def test_lists_that_cannot_be_used(
    own: Path, tmp_path: Path, options: dict[str, Any], kind: type[RelabelError], words: str
) -> None:
    """Unknown samples, strange files and pairs of another run are refused with what to type."""
    (own / "samples").mkdir()
    (own / "samples" / "bad.jsonl").write_text("{}\n[1]\n")
    (tmp_path / "strange.csv").write_text("pair\nr1\nr2\n")
    (tmp_path / "other.csv").write_text("name\nr1\n")
    (tmp_path / "empty.csv").write_text("pair\n")
    if "table" in options:
        options = options | {"table": tmp_path / options["table"]}
    with pytest.raises(kind, match=words) as caught:
        relabel.audit_serve(own, **options)
    assert caught.value.hint


def test_nothing_to_label_is_said(tmp_path: Path) -> None:
    """A run in which nothing was flagged says so, and how to see all."""
    row = {"query": "q", "pos": ["yes"], "neg": ["no"]}
    (tmp_path / "train.jsonl").write_text(json.dumps(row) + "\n")
    settings = "stages:\n  - name: person\n    judge: human\n    labels: labels.csv\n"
    (tmp_path / "labels.csv").write_text("query,passage,label\nq,no,irrelevant\n")
    (tmp_path / "cascade.yaml").write_text(settings)
    relabel.run(tmp_path / "train.jsonl", tmp_path / "cascade.yaml", output=tmp_path / "run")
    with pytest.raises(InputError, match="the judges flagged none") as caught:
        relabel.audit_serve(tmp_path / "run")
    assert caught.value.hint == "every pair: --all"
    assert len(listed(tmp_path / "run", everything=True)) == 1


def test_one_page_a_run(page: Served, folder: Path, tmp_path: Path) -> None:
    """A second server, or apply, is told that the run is in use; the port of the first is refused to others."""
    second = Command(["audit", "serve", str(folder)], cwd=tmp_path, environment={})
    assert second.wait() == 2
    assert f"{folder} is in use by another relabel process" in second.stderr
    with pytest.raises(RunError, match=f"port {page.port} cannot be used"):
        serving.serve(folder, port=page.port)


@pytest.mark.parametrize("package", ["starlette", "uvicorn", "python_multipart"])
def test_a_missing_part_is_named(folder: Path, monkeypatch: pytest.MonkeyPatch, package: str) -> None:
    """Without the extra, the command says which to install."""
    monkeypatch.setitem(sys.modules, package, None)
    with pytest.raises(MissingPart, match=r"pip install 'relabel\[serve\]'"):
        serving.serve(folder)


def test_what_is_not_http_does_no_harm(page: Served) -> None:
    """Noise on the port is answered or dropped, and the page goes on."""
    for noise in (b"\x16\x03\x01\x02\x00", b"GET / HTTP/1.1\r\n\r\n", b"GET /" + b"a" * 100_000 + b" HTTP/1.1\r\n\r\n"):
        with socket.create_connection(("127.0.0.1", page.port), timeout=10) as line:
            line.sendall(noise)
            line.shutdown(socket.SHUT_WR)
            try:
                assert b" 200 " not in line.recv(100)
            except ConnectionResetError:
                continue
    assert page.visitor().get("/").status == http.client.OK


def test_long_notes_in_any_script(own: Path) -> None:
    """A note of the full length is kept whole, also where every character takes twelve bytes of a form."""
    note = "\U00020bb7" * 10_000
    with served(own) as page:
        visitor = page.visitor()
        assert visitor.answer("anna", 1, "relevant", note).status == 303
        assert note in visitor.get("/pair/1?reviewer=anna").body


def test_media_types_ignore_case(page: Served) -> None:
    """A form is a form however its type is spelled (RFC 9110, 8.3.1)."""
    kind = "Application/X-WWW-Form-Urlencoded; charset=UTF-8"
    assert page.visitor().post("/enter", {"reviewer": "dan"}, **{"Content-Type": kind}).status == 303


def _half_a_form(page: Served) -> socket.socket:
    """Begin to send a form, as a browser that is let in does."""
    line = socket.create_connection(("127.0.0.1", page.port), timeout=10)
    head = (
        f"POST /pair HTTP/1.1\r\nHost: 127.0.0.1:{page.port}\r\nCookie: {page.visitor().cookie}\r\n"
        "Content-Type: application/x-www-form-urlencoded\r\nContent-Length: 5000\r\n\r\nform=abc"
    )
    line.sendall(head.encode())
    return line


def test_forms_that_do_not_come_in_whole(own: Path) -> None:
    """Dropped midway, hanging, or hanging when the page is ended: an answer to whoever waits, never a traceback."""
    with served(own) as page:
        for _ in range(3):
            _half_a_form(page).close()
        with _half_a_form(page) as line:
            assert line.recv(100).startswith(b"HTTP/1.1 408")
            assert page.visitor().get("/").status == http.client.OK
        with _half_a_form(page):
            page.command.process.send_signal(signal.SIGINT)
            assert page.command.wait() == 0
        assert page.command.stderr == ""
