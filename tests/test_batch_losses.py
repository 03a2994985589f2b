"""Batches that come late, in pieces, damaged or not at all: nothing that may be billed is asked again in silence."""

import json
import shlex
import sqlite3
import subprocess
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from batch_server import Batch, BatchServer, Fate, Said
from hypothesis import given
from hypothesis import strategies as st
from server import Torn, refuse
from starlette.requests import Request as Call
from starlette.responses import JSONResponse, Response
from test_engine_batch import KEY, answers, asked, batches_of, engine, every, leave_with, until

from relabel.engines import batch_files
from relabel.engines.batch_files import lines_of
from relabel.engines.batch_ledger import LEDGER, Ledger, forget_failures
from relabel.engines.batch_taking import LOOKS
from relabel.engines.batch_work import FINDS
from relabel.errors import RunError, ServiceError
from relabel.protocols import Reply

pytestmark = pytest.mark.usefixtures("tidy")


@pytest.fixture(autouse=True)
def key(monkeypatch: pytest.MonkeyPatch) -> None:
    """Give every test a key that can be searched for."""
    monkeypatch.setenv("OPENAI_API_KEY", KEY)
    monkeypatch.delenv("OPENAI_BASE_URL", raising=False)


class Rewriting(BatchServer):
    """A server whose answered lines, batch documents and error lines come otherwise than they should."""

    line: Any = staticmethod(lambda _, line: line)
    """Makes of the place and content of a line of an output file what is sent in its place; "" = nothing."""
    document: Any = staticmethod(lambda text: text)
    """Makes of a batch's document, as JSON, what is sent in its place."""

    def _asked(self, batch: Batch) -> Said:
        said = super()._asked(batch)
        said.output = [line for place, each in enumerate(said.output) if (line := self.line(place, each))]
        return said

    async def _retrieve(self, request: Call) -> Response:
        sent = await super()._retrieve(request)
        content = self.document(bytes(sent.body).decode())
        return Response(content, sent.status_code, media_type="application/json")


def changed(line: str, **parts: Any) -> str:
    """Return a line of a result file with other parts."""
    return json.dumps(json.loads(line) | parts) + "\n"


def billed_by(replies: list[Reply]) -> int:
    """Return how many requests are possibly billed."""
    return sum(reply.unsure for reply in replies)


# -- answers that the service counts ---------------------------------------------------------------------------


def test_files_that_are_named_late(tmp_path: Path) -> None:
    """A batch that is completed before its files are there is looked at again; nothing is submitted twice."""
    with BatchServer(fate=lambda _: Fate(late=4)) as server:
        got = answers(engine(server, tmp_path).answer(map(asked, range(10))))
        assert {reply.failure for reply in got.values()} == {""}
        assert every(server) == {1}
        assert len(server.batches) == 1


@pytest.mark.parametrize("how", ["no file", "unknown ids", "lines that say nothing", "other people's lines"])
def test_answers_that_never_come(tmp_path: Path, how: str) -> None:
    """What the service counts as answered is not submitted again: it fails, and is possibly billed, once."""
    lines = {
        "no file": lambda _, line: line,
        "unknown ids": lambda _, line: line.replace('"custom_id": "', '"custom_id": "X'),
        "lines that say nothing": lambda _, line: changed(line, response={"status_code": 99}),
        "other people's lines": lambda _, line: changed(line, custom_id=None),
    }
    with Rewriting(fate=lambda _: Fate(late=99 if how == "no file" else 0)) as server:
        server.line = lines[how]
        for times in (1, 0):
            replies = list(engine(server, tmp_path).answer(map(asked, range(10))))
            assert {reply.failure for reply in answers(replies).values()} == {"failed"}
            assert billed_by(replies) == 10 * times
            assert len(server.batches) == 1
        assert server.calls["retrieve"] == LOOKS
        forget_failures(tmp_path.parent)
        server.line = lines["no file"]
        server.fate = lambda _: Fate()
        assert not any(
            reply.failure for reply in answers(engine(server, tmp_path).answer(map(asked, range(10)))).values()
        )


def test_one_answer_of_an_expired_batch_never_comes(tmp_path: Path) -> None:
    """Where nobody knows which request it was, all without an answer are asked again, and one is possibly billed."""
    with Rewriting(fate=lambda number: Fate("expired", 0.6, listed=False) if number == 0 else Fate()) as server:
        server.line = lambda place, line: "" if place == 0 and len(server.batches) == 1 else line
        replies = list(engine(server, tmp_path).answer(map(asked, range(10))))
        assert {reply.failure for reply in answers(replies).values()} == {""}
        assert [reply.unasked for reply in replies if reply.unsure] == [True]
        assert batches_of(tmp_path) == [(10, "ended"), (5, "ended")]
        assert sorted(server.billed.values()) == [1] * 9 + [2]


def test_a_status_in_words(tmp_path: Path) -> None:
    """A status that comes as text is one."""
    with Rewriting() as server:
        server.line = lambda _, line: line.replace('"status_code": 200', '"status_code": "200"')
        assert not any(
            reply.failure for reply in answers(engine(server, tmp_path).answer(map(asked, range(5)))).values()
        )
        assert every(server) == {1}


def test_a_failed_batch_that_answered(tmp_path: Path) -> None:
    """What a batch answered before it failed is taken; the rest is asked again."""
    with Rewriting(fate=lambda number: Fate("cancelled", 0.5) if number == 0 else Fate()) as server:
        server.document = lambda text: text.replace('"cancelled"', '"failed"')
        got = answers(engine(server, tmp_path).answer(map(asked, range(10))))
        assert {reply.failure for reply in got.values()} == {""}
        assert every(server) == {1}
        assert batches_of(tmp_path) == [(10, "ended"), (5, "ended")]


# -- a batch that is lost --------------------------------------------------------------------------------------


class Losing(BatchServer):
    """A server that does not give the first batch's answers back."""

    how = ""

    async def _retrieve(self, request: Call) -> Response:
        if self.how == "batch" and request.path_params["id"] == "batch_0000":
            return refuse(404, "No such batch")
        return await super()._retrieve(request)

    async def _download(self, request: Call) -> Response:
        first = self.batches["batch_0000"].document["output_file_id"]
        if self.how in {"file", "error"} and request.path_params["id"] == first:
            return refuse(404 if self.how == "file" else 500, "No such File object")
        return await super()._download(request)


@pytest.mark.parametrize("how", ["batch", "file", "error"])
def test_a_lost_batch_keeps_no_other(tmp_path: Path, how: str) -> None:
    """All others are taken in; then it is named, with the command that gives it up; that asks its requests alone."""
    with Losing(seconds=60) as server:
        leave_with(engine(server, tmp_path, max_requests=5), map(asked, range(20)))
        for batch in server.batches.values():
            batch.ends = 0.0
        server.how, server.seconds = how, 0.0
        for _ in range(2):
            batched = engine(server, tmp_path, max_requests=5)
            batched.leave(at_once=False)
            got: list[Reply] = []
            with pytest.raises(ServiceError, match="batch_0000 with 5 requests cannot be taken in") as error:
                got.extend(batched.answer(map(asked, range(20))))
            assert len(server.batches) == 4
        assert [state for _, state in batches_of(tmp_path)] == ["submitted", "ended", "ended", "ended"]
        command = error.value.hint.partition("type first: ")[2].partition(" (then")[0]
        assert shlex.split(command)[0] == "touch"
        subprocess.run(shlex.split(command), check=True)
        server.how = ""
        replies = list(engine(server, tmp_path, max_requests=5).answer(map(asked, range(20))))
        assert not any(reply.failure for reply in answers(replies).values())
        assert billed_by(replies) == 5  # of the first batch, which nobody waits for
        assert sorted(server.tried.values()) == [1] * 15 + [2] * 5
        assert not list(tmp_path.glob("*.given-up"))


@pytest.mark.parametrize("limit", [None, 60])
def test_others_are_waited_for(tmp_path: Path, limit: int | None) -> None:
    """Without --detach a run waits for the batches that are still coming, and then says which one is lost.

    It takes no room in the queue: where there is room for one batch at a time, the others come one after the other.
    """
    with Losing(seconds=0.2) as server:
        server.how = "batch"
        batched = engine(server, tmp_path, max_requests=5, max_enqueued_tokens=limit)
        got = until(ServiceError, "batch_0000 with .* requests", batched.answer(map(asked, range(15))))
        assert 2 < len(server.batches) < 9
        lost = len(server.batches["batch_0000"].rows)
        assert sorted(reply.request.ticket for reply in got) == list(range(lost, 15))


@pytest.mark.parametrize(("state", "unsure"), [("ended", 0), ("collected", 5)])
def test_an_answer_that_is_gone(tmp_path: Path, state: str, unsure: int) -> None:
    """A result file that was cut short or lost is named, with a way out that asks its requests again.

    What was not yet handed over is on no bill, and so is possibly billed.
    """
    with BatchServer() as server:
        answers(engine(server, tmp_path).answer(map(asked, range(5))))
        ledger = Ledger(tmp_path)
        ledger.note(1, state=state)
        ledger.close()
        path = tmp_path / "00001.output.jsonl"
        content = path.read_bytes()
        damages = (content[:100], content.replace(b"{", b"["), None)
        for damaged in damages:
            path.unlink() if damaged is None else path.write_bytes(damaged)
            with pytest.raises(RunError, match=r"00001.output.jsonl (is|cannot)") as error:
                answers(engine(server, tmp_path).answer(map(asked, range(5))))
        subprocess.run(shlex.split(error.value.hint.partition("type: ")[2]), check=True)
        replies = list(engine(server, tmp_path).answer(map(asked, range(5))))
        assert not any(reply.failure for reply in answers(replies).values())
        assert billed_by(replies) == unsure
        assert every(server) == {2}


# -- a batch that nobody heard of ------------------------------------------------------------------------------


class Hiding(BatchServer):
    """A server that makes its first batch without a word, and lists it when it was asked so often."""

    after = 3

    async def _create(self, request: Call) -> Response:
        made = await super()._create(request)
        return Torn(b"") if len(self.batches) == 1 else made

    async def _list(self, request: Call) -> Response:
        if self.calls["list"] <= self.after:
            return JSONResponse({"object": "list", "data": [], "has_more": False})
        return await super()._list(request)


def test_a_batch_that_is_listed_late(tmp_path: Path) -> None:
    """A batch that can be found only some looks later is not asked for twice."""
    assert Hiding.after < FINDS
    with Hiding() as server:
        assert len(answers(engine(server, tmp_path).answer(map(asked, range(5))))) == 5
        assert len(server.batches) == 1
        assert every(server) == {1}


def test_the_clock_was_set_back(tmp_path: Path) -> None:
    """An attempt of the future is looked for as often as any other before its requests are asked again."""
    with BatchServer() as server:
        server.spoil("create", "reset")
        batched = engine(server, tmp_path, max_retries=0)
        with pytest.raises(ServiceError, match="does not take a batch"):
            answers(batched.answer(map(asked, range(5))))
        ledger = Ledger(tmp_path)
        assert [part.state for part in ledger.parts()] == ["creating"]
        ledger.note(1, tried=time.time() + 1e6)
        ledger.close()
        assert len(answers(engine(server, tmp_path).answer(map(asked, range(5))))) == 5
        assert server.calls["list"] >= FINDS
        assert every(server) == {1}


@pytest.mark.parametrize("more", [True, False])
def test_a_list_without_an_end(tmp_path: Path, more: bool) -> None:
    """A service that gives the same page for ever is not asked for ever, and one that says it has no more, once."""

    class Turning(BatchServer):
        async def _list(self, _: Call) -> Response:
            now = int(time.time())
            page = [{"id": f"b{place}", "created_at": now, "metadata": {}} for place in range(100)]
            return JSONResponse({"object": "list", "data": page, "has_more": more})

    with Turning() as server:
        server.spoil("create", "reset")
        assert len(answers(engine(server, tmp_path).answer(map(asked, range(5))))) == 5
        assert FINDS <= server.calls["list"] <= 2 * (FINDS + 1)
        assert every(server) == {1}


# -- nonsense, and the key -------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("old", "new"),
    [
        ('"in_progress"', '"in_\\ud800"'),
        ('"completed": ', '"completed": 1' + "0" * 30),
        ('"completed": ', '"completed": -1'),
        ('"request_counts": {', '"request_counts": ["x"], "x": {'),
        ('"created_at": ', '"created_at": 1' + "0" * 400),
        ('"object": "batch"', '"object": "batch", "errors": {"data": [{"code": ["x"]}, 3]}'),
    ],
)
def test_documents_of_nonsense(tmp_path: Path, old: str, new: str) -> None:
    """Whatever stands in a batch's document, its answers are taken, once."""
    sent: list[str] = []

    def document(text: str) -> str:
        sent.append(text.replace('":', '": ').replace(old, new))
        return sent[-1]

    with Rewriting(seconds=0.05) as server:
        server.document = document
        got = answers(engine(server, tmp_path).answer(map(asked, range(5))))
        assert any(new in text for text in sent)
        assert {reply.failure for reply in got.values()} == {""}
        assert every(server) == {1}


def test_a_failed_batch_of_nonsense(tmp_path: Path) -> None:
    """The words of a batch that failed may be anything: they are said, and never a traceback."""
    errors = [
        {"code": ["x"], "message": {"a": 1}, "line": [3]},
        {"code": None, "message": "half \ud800 a character"},
        7,
    ]
    with Rewriting() as server:
        server.fate = lambda _: Fate("failed", errors=(("x", "y"),))
        server.document = lambda text: json.dumps(json.loads(text) | {"errors": {"data": errors}})
        with pytest.raises(ServiceError, match="as a whole") as error:
            answers(engine(server, tmp_path).answer(map(asked, range(5))))
        str(error.value).encode()
        assert not error.value.hint.endswith("; ")


STRANGE: dict[str, dict[str, Any]] = {
    "half a character": {"response": None, "error": {"code": "e", "message": "zz\ud800"}},
    "words": {"response": None, "error": "words alone \ud800"},
    "a list": {"response": None, "error": {"code": ["x"], "message": {"y": 1}}},
    "half a character in a body": {"response": {"status_code": 400, "body": {"error": {"message": "zz\ud800"}}}},
    "a body of nonsense": {"response": {"status_code": 400, "body": [3]}},
    "status 101": {"response": {"status_code": 101, "body": {}}},
    "status 0": {"response": {"status_code": 0, "body": {}}},
    "status 10 to the 30": {"response": {"status_code": 10**30, "body": {}}},
}


@pytest.mark.parametrize("kind", STRANGE)
def test_lines_of_nonsense(tmp_path: Path, kind: str) -> None:
    """One line that says strange things keeps no other answer from being taken, and ends as its own failure."""
    with Rewriting() as server:
        server.line = lambda place, line: changed(line, **STRANGE[kind]) if place == 0 else line
        got = answers(engine(server, tmp_path, max_retries=0).answer(map(asked, range(8))))
        assert sorted(reply.failure for reply in got.values()) == [""] * 7 + ["failed"]
        has_status = (
            isinstance(STRANGE[kind]["response"], dict) and 100 < STRANGE[kind]["response"]["status_code"] < 999
        )
        assert billed_by(list(got.values())) == (not has_status)  # the service counts it as answered
        for reply in got.values():
            reply.detail.encode()


def test_the_key_in_what_comes_back(tmp_path: Path) -> None:
    """A key that the service repeats, in a status, a line or an answer, is in no reply, no report and no file."""

    def line(place: int, line: str) -> str:
        if place == 0:
            return changed(line, response=None, error={"code": "x", "message": f"bad key {KEY}"})
        if place == 1:
            return changed(line, response={"status_code": 400, "body": {"error": {"message": f"bad key {KEY}"}}})
        return line.replace('"content": "', f'"content": "{KEY} ')

    with Rewriting(seconds=0.1, fate=lambda _: Fate(before="paused")) as server:
        server.line = line
        server.document = lambda text: text.replace('"paused"', f'"{KEY} paused"')
        batched = engine(server, tmp_path, max_retries=0)
        got = answers(batched.answer(map(asked, range(6))))
        assert sum("***" in reply.detail for reply in got.values()) == 2
        assert sum("***" in (reply.text or "") for reply in got.values()) == 4
        assert KEY not in repr(got)
        assert KEY not in json.dumps(batched.report())
        assert any("***" in kind for kind in batched.report()["oddities"])
    for path in tmp_path.rglob("*"):
        assert not path.is_file() or KEY.encode() not in path.read_bytes(), path


def test_a_damaged_ledger(tmp_path: Path) -> None:
    """It is named, with what can be done; the store is not blamed."""
    folder = tmp_path / "api"  # one deeper than others look
    with BatchServer(seconds=60) as server:
        leave_with(engine(server, folder), map(asked, range(50)))
        path = folder / LEDGER
        with sqlite3.connect(path) as ledger:
            ledger.execute("PRAGMA wal_checkpoint(TRUNCATE)")
        ledger.close()
        content = path.read_bytes()
        path.write_bytes(content[:4096] + b"\xa5" * (len(content) - 4096))
        for each in folder.glob(f"{LEDGER}-*"):
            each.unlink()
        with pytest.raises(RunError, match="the ledger of batches") as error:
            answers(engine(server, folder).answer(map(asked, range(50))))
        assert "from a copy" in error.value.hint
        with pytest.raises(RunError, match="the ledger of batches"):
            forget_failures(tmp_path)


# -- long lines ------------------------------------------------------------------------------------------------


@given(lengths=st.lists(st.integers(0, 40), max_size=12), ended=st.booleans())
def test_lines_of_any_length(tmp_path_factory: pytest.TempPathFactory, lengths: list[int], ended: bool) -> None:
    """Each line comes with the byte at which it begins; of a line that is too long no more than the most comes."""
    path = tmp_path_factory.mktemp("lines") / "file"
    whole = [bytes([97 + place]) * length + b"\n" for place, length in enumerate(lengths)]
    content = b"".join(whole) if ended else b"".join(whole)[:-1]
    path.write_bytes(content)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(batch_files, "LONGEST_LINE", 16)
        got = list(lines_of(path))
    starts = [sum(len(each) for each in whole[:place]) for place in range(len(whole))]
    assert got == [
        (start, content[start : start + min(16, len(each))])
        for start, each in zip(starts, whole, strict=True)
        if content[start:]
    ]


def test_a_line_that_is_too_long(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """It is no answer, though it may be billed; the lines around it are."""
    monkeypatch.setattr(batch_files, "LONGEST_LINE", 5_000)
    with Rewriting() as server:
        server.line = lambda place, line: line.replace("{", "{" + " " * 100_000, 1) if place == 2 else line
        got = answers(engine(server, tmp_path).answer(map(asked, range(6))))
        assert sorted((reply.failure, reply.unsure) for reply in got.values()) == [("", 0)] * 5 + [("failed", 1)]
        assert every(server) == {1}


def nobody() -> Iterator[Any]:
    """Ask nothing."""
    return iter(())


def test_answers_that_nobody_asks_for(tmp_path: Path) -> None:
    """They are handed over once, marked, with their tokens and what the store notes of a request; and not asked."""
    with BatchServer(seconds=60) as server:
        leave_with(engine(server, tmp_path), map(asked, range(5)))
        server.batches["batch_0000"].ends = 0.0
        got = list(engine(server, tmp_path).answer(nobody()))
        assert [(reply.unasked, reply.request.candidate_ids, reply.request.choices) for reply in got] == [
            (True, (f"p{number}",), ("Yes", "No")) for number in range(5)
        ]
        assert all(reply.usage.tokens_in and reply.probabilities for reply in got)
        assert list(engine(server, tmp_path).answer(nobody())) == []
        assert len(server.batches) == 1
