"""The run directory: nothing lost, nothing asked twice, one process at a time, never hanging."""

import sqlite3
import subprocess
import sys
import threading
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from relabel.cascade import open_case
from relabel.engines.remembering import Remembering
from relabel.errors import RunError, ServiceError
from relabel.money import Bill
from relabel.protocols import Message, Reply, Request, Usage
from relabel.records import Case, Example, Judgment, Passage
from relabel.store import PersonLabel, Store
from relabel.store_file import connect

pytestmark = [pytest.mark.usefixtures("tidy"), pytest.mark.timeout(60)]

WORD = Judgment("partial", "", "evidence", 0.25, -1.5, "Doc (1): für 𝒳\n\x00", "ab12", "cd34")


def case_of(*texts: str, positives: tuple[str, ...] = ("p",), number: int = 0) -> Case:
    """Open the case of a row with these negatives."""
    known, asked = [tuple([Passage(text, text) for text in each]) for each in (positives, texts)]
    return open_case(number, Example("q", "query", known, asked), 1)


def request(address: str, *ids: str, ticket: int = 0) -> Request:
    """Ask something."""
    return Request(address, (Message("user", address),), candidate_ids=ids, query_id="q", ticket=ticket)


class Counting:
    """An engine that answers everything, counts what it is asked, and can fail on an address."""

    identity: Mapping[str, Any] = {"model": "counting"}

    def __init__(self, *, failing: frozenset[str] = frozenset(), broken: str = "") -> None:
        self.asked: list[str] = []
        self.failing, self.broken = failing, broken

    def answer(self, requests: Iterable[Request]) -> Iterator[Reply]:
        """Answer at once."""
        for each in requests:
            self.asked.append(each.address)
            if each.address == self.broken:
                raise ServiceError("the key is wrong")
            if each.address in self.failing:
                yield Reply(each, None, "failed", retryable=True)
            else:
                yield Reply(each, f"to {each.address}", usage=Usage(10, 2, 1, 0.5), probabilities={"Yes": 0.75})


# --- judgments ---


def test_judgments_come_back_as_they_were(tmp_path: Path) -> None:
    """Every field of a judgment survives, also in the next process; a new word replaces the old one."""
    case = case_of("a", "b")
    with Store(tmp_path / "run") as store:
        judge = store.judge_id("f", {"judge": "x"})
        store.add_judgments(judge, [case.judged((WORD, Judgment(None, "refused")))])
        store.add_judgments(judge, [case.judged((Judgment("relevant"), Judgment(None, "refused")))])
        store.add_judgments(judge, [case.judged((WORD, Judgment(None, "cut off")))])
    with Store(tmp_path / "run") as store:
        assert store.judge_id("f", {"judge": "x"}) == judge
        assert store.judge_id("g", {"judge": "x"}) != judge
        said = store.judgments(case)[judge]
    assert [said[pair.key] for pair in case.pairs] == [WORD, Judgment(None, "cut off")]


def test_rows_that_share_a_pair_keep_their_own_words(tmp_path: Path) -> None:
    """The same query, reference and candidate in two rows: a judge that looks at the row may say two things of it."""
    alone, twin = case_of("a"), case_of("A", "a")
    assert (alone.key, alone.pairs[0].key) == (twin.key, twin.pairs[1].key)
    with Store(tmp_path) as store:
        judge = store.judge_id("f", {})
        store.add_judgments(judge, [alone.judged((Judgment("relevant"),))])
        store.add_judgments(judge, [twin.judged((Judgment("irrelevant"), Judgment(None, "repeated")))])
        store.flush()
        assert store.judgments(alone)[judge][alone.pairs[0].key] == Judgment("relevant")
        assert store.judgments(twin)[judge][twin.pairs[1].key] == Judgment(None, "repeated")


def test_equal_rows_share_their_words(tmp_path: Path) -> None:
    """Where a row stands, and what other fields it has, is no part of the address."""
    case = case_of("a")
    moved = replace(case, number=9, example=replace(case.example, position=9, source="s", row={"x": 1}))
    with Store(tmp_path) as store:
        judge = store.judge_id("f", {})
        store.add_judgments(judge, [case.judged((WORD,))])
        store.flush()
        assert store.judgments(moved)[judge][moved.pairs[0].key] == WORD


def test_half_a_surrogate_pair_is_stored(tmp_path: Path) -> None:
    """JSON can hold what UTF-8 cannot; the store takes it, with a replacement sign in its place."""
    case = case_of("a")
    odd = replace(request("x"), query_id="q\ud83d")
    with Store(tmp_path) as store:
        judge = store.judge_id("f", {})
        store.add_judgments(judge, [case.judged((Judgment("relevant", rationale="so \ud83d"),))])
        store.add_reply(Reply(odd, "Yes \udc00", "failed", "\ud800", "st\ud800op", "m\ud800"))
        store.flush()
        assert store.judgments(case)[judge][case.pairs[0].key].rationale == "so \ufffd"
        known = store.reply_to(odd)
    assert known is not None
    assert (known.text, known.detail) == ("Yes \ufffd", "\ufffd")
    assert (known.finish_reason, known.model) == ("st\ufffdop", "m\ufffd")


def test_a_bill_beyond_all_numbers_is_written(tmp_path: Path) -> None:
    """SQLite counts up to 2**63 - 1: a sum above it stands as this, what is unknown stays so, and the run goes on."""
    with Store(tmp_path) as store:
        store.note_bill("key", "stage", "model", lambda: Bill(asked=1, tokens_in=2**63, pico=10**30))
        store.note_bill("other", "stage", "model", lambda: Bill(asked=2, pico=None, guessed_pico=2**63 - 1))
        store.flush()
        first, second = [billed.bill for billed in store.bills()]
    assert first == Bill(asked=1, tokens_in=2**63 - 1, pico=2**63 - 1)
    assert second == Bill(asked=2, pico=None, guessed_pico=2**63 - 1)


# --- replies ---


def answers(engine: Remembering, *requests: Request) -> dict[int, Reply]:
    """Ask, and return the replies by ticket."""
    return {reply.request.ticket: reply for reply in engine.answer(requests)}


def test_what_was_answered_is_not_asked_again(tmp_path: Path) -> None:
    """A reply is found by its address alone, equal in every field, and counted as one from the store."""
    with Store(tmp_path) as store:
        first = answers(Remembering(Counting(), store), request("x"))[0]
        store.flush()
        counting = Counting()
        remembering = Remembering(counting, store)
        again = answers(remembering, request("x", ticket=5), request("y", ticket=6))
    assert counting.asked == ["y"]
    assert replace(again[5], request=first.request) == first
    assert (remembering.spending.asked, remembering.spending.from_store, remembering.spending.tokens_in) == (1, 1, 10)


def test_unanswered_requests_are_asked_again(tmp_path: Path) -> None:
    """A failure of which nothing was received is not kept; a refusal was paid for and is."""
    with Store(tmp_path) as store:
        assert answers(Remembering(Counting(failing=frozenset("x")), store), request("x"))[0].failure == "failed"
        store.add_reply(Reply(request("z"), None, "refused"))
        store.flush()
        counting = Counting()
        again = answers(Remembering(counting, store), request("x"), request("z", ticket=1))
    assert counting.asked == ["x"]
    assert (again[0].text, again[1].failure) == ("to x", "refused")


def test_spending_counts_what_has_no_count(tmp_path: Path) -> None:
    """A paid reply without a count of tokens is counted as such, a failure that cost nothing is not; seconds add up."""

    class Silent(Counting):
        def answer(self, requests: Iterable[Request]) -> Iterator[Reply]:
            for reply in super().answer(requests):
                yield replace(reply, usage=Usage(seconds=0.25)) if reply.request.address == "silent" else reply

    with Store(tmp_path) as store:
        remembering = Remembering(Silent(failing=frozenset({"lost"})), store)
        answers(remembering, request("silent"), request("lost", ticket=1), request("told", ticket=2))
    spent = remembering.spending
    assert (spent.asked, spent.without_usage, spent.tokens_in, spent.seconds) == (3, 1, 10, 0.75)


def test_an_engine_hears_of_answers_before_its_time(tmp_path: Path) -> None:
    """An engine that may give up a service is told, once, that the store holds answers of it."""

    class Doubtful(Counting):
        vouched = 0

        def vouch(self) -> None:
            self.vouched += 1

    with Store(tmp_path) as store:
        engine = Doubtful()
        answers(Remembering(engine, store), request("x"))
        assert engine.vouched == 0
        store.flush()
        answers(Remembering(engine, store), request("x"), request("y", ticket=1), request("x", ticket=2))
        assert engine.vouched == 1


def test_twins_are_asked_once(tmp_path: Path) -> None:
    """The same question of several askers goes out once; each gets the reply with its own ids and ticket."""
    gate = threading.Event()

    class Slow(Counting):
        def answer(self, requests: Iterable[Request]) -> Iterator[Reply]:
            for each in list(requests):
                self.asked.append(each.address)
                yield Reply(each, "one", candidate_ids=("a", "x", "b"))

    counting = Slow()
    gate.set()
    with Store(tmp_path) as store:
        found = answers(
            Remembering(counting, store), request("x", "a", "b", ticket=1), request("x", "c", "d", ticket=2)
        )
    assert counting.asked == ["x"]
    assert (found[1].candidate_ids, found[2].candidate_ids) == (("a", "x", "b"), ("c", "x", "d"))
    assert found[2].request.candidate_ids == ("c", "d")


def test_twins_in_a_race_are_all_answered(tmp_path: Path) -> None:
    """An engine that pulls in one thread and answers in another loses nobody who asks what was just answered."""

    class Threaded(Counting):
        def answer(self, requests: Iterable[Request]) -> Iterator[Reply]:
            import queue

            box: queue.SimpleQueue[Request | None] = queue.SimpleQueue()

            def pull() -> None:
                for each in requests:
                    box.put(each)
                box.put(None)

            thread = threading.Thread(target=pull)
            thread.start()
            while (each := box.get()) is not None:
                yield Reply(each, "x", retryable=True)  # never kept, so that twins meet only in memory
            thread.join()

    before = sys.getswitchinterval()
    sys.setswitchinterval(1e-6)
    try:
        with Store(tmp_path) as store:
            asked = [request(f"{i // 4}", ticket=i) for i in range(2000)]
            assert len(answers(Remembering(Threaded(), store), *asked)) == 2000
    finally:
        sys.setswitchinterval(before)


def test_an_engine_that_gives_up_is_heard(tmp_path: Path) -> None:
    """What the engine raises is raised where its replies are read; what came before is kept."""
    with Store(tmp_path) as store:
        replies = Remembering(Counting(broken="b"), store).answer([request("a"), request("b"), request("c")])
        with pytest.raises(ServiceError, match="the key is wrong"):
            list(replies)
        store.flush()
        assert store.reply_to(request("a")) is not None


def test_leaving_early_leaves_no_thread(tmp_path: Path) -> None:
    """Closing the replies half-way ends the engine's thread, however many requests are left."""
    with Store(tmp_path) as store:
        replies = Remembering(Counting(), store, lookahead=4).answer(request(str(i), ticket=i) for i in range(10_000))
        next(replies)
        replies.close()  # type: ignore[attr-defined]
        assert not [thread for thread in threading.enumerate() if thread.name == "relabel-engine"]


# --- people ---


def test_each_reviewer_has_one_word(tmp_path: Path) -> None:
    """The newest label of a reviewer counts; labels of others stand beside it, in a fixed order."""
    with Store(tmp_path) as store:
        assert not store.has_people()
        store.add_people([PersonLabel(b"q", b"c", "zoe", "relevant"), PersonLabel(b"q", b"c", "ann", "partial")])
        store.add_people([PersonLabel(b"q", b"c", "zoe", "irrelevant", "looked again")])
        assert store.has_people()
        assert store.people(b"q") == {b"c": {"ann": "partial", "zoe": "irrelevant"}}
        assert store.people(b"other") == {}


# --- one process, one schema ---


def test_a_directory_in_use_is_refused(tmp_path: Path) -> None:
    """A second process gets a clear error; after the first has ended it may go on."""
    with Store(tmp_path):
        code = (
            "import sys, pathlib\nfrom relabel.errors import RunError\nfrom relabel.store import Store\n"
            "try: Store(pathlib.Path(sys.argv[1])).close()\nexcept RunError as error: print(error.message)"
        )
        done = subprocess.run(
            [sys.executable, "-c", code, str(tmp_path)], capture_output=True, text=True, check=False, timeout=60
        )
        assert (done.stdout.strip(), done.stderr) == (f"{tmp_path} is in use by another relabel process", "")
        with pytest.raises(RunError, match="is in use"):
            Store(tmp_path)
    Store(tmp_path).close()


def test_another_schema_is_refused(tmp_path: Path) -> None:
    """A store of a later version is neither read nor changed, and the lock is given back."""
    with sqlite3.connect(tmp_path / "judgments.sqlite") as connection:
        connection.execute("PRAGMA user_version = 99")
    connection.close()
    for _ in range(2):
        with pytest.raises(RunError, match="has schema 99, this relabel reads"):
            Store(tmp_path)


def test_a_file_that_is_no_store_is_refused(tmp_path: Path) -> None:
    """Whatever lies under the store's name, the error names it."""
    (tmp_path / "judgments.sqlite").write_bytes(b"not a database, but long enough to look like a header of one" * 20)
    with pytest.raises(RunError, match=r"judgments\.sqlite cannot be used") as caught:
        Store(tmp_path)
    assert "relabel run INPUT -o FOLDER" in caught.value.hint


def test_a_run_that_cannot_be_locked(tmp_path: Path) -> None:
    """Of a run that is there, commands that only read it do not ask for another directory: it must be writable."""
    folder = tmp_path / "my run"
    with Store(folder):
        pass
    (folder / "run.lock").unlink(missing_ok=True)
    (folder / "run.lock").mkdir()  # as little of a file to lock as in a folder that may not be written
    with pytest.raises(RunError, match="cannot be used as a run directory") as caught:
        Store(folder)
    assert "must be writable" in caught.value.hint
    assert f"cp -r '{folder}' FOLDER" in caught.value.hint


def test_a_directory_that_cannot_be_made_is_refused(tmp_path: Path) -> None:
    """A run directory that is a file, or below one, is an error of the user's and says so."""
    (tmp_path / "file").write_text("")
    for folder in (tmp_path / "file", tmp_path / "file" / "run"):
        with pytest.raises(RunError, match="cannot be used as a run directory"):
            Store(folder)


# --- a disk that fails ---


@pytest.mark.parametrize("moment", ["executemany", "commit"])
def test_a_failing_disk_hangs_nobody(tmp_path: Path, moment: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """When writing fails, whoever waits for the commit and whoever writes next is told; nobody waits for ever."""

    class Full:
        def __init__(self, inner: sqlite3.Connection) -> None:
            self._inner = inner

        def __getattr__(self, name: str) -> Any:
            return self._fail if name == moment else getattr(self._inner, name)

        def _fail(self, *_: object) -> None:
            raise sqlite3.OperationalError("database or disk is full")

    def bad(path: Path) -> Any:
        connection = connect(path)
        return Full(connection) if threading.current_thread().name == "relabel-store" else connection

    monkeypatch.setattr("relabel.store.connect", bad)
    store = Store(tmp_path)
    store._put("INSERT INTO judges (fingerprint, settings) VALUES (?, ?)", [("f", "{}")])
    with pytest.raises(RunError, match="cannot be written: database or disk is full"):
        store.flush()
    with pytest.raises(RunError, match="cannot be written: database or disk is full"):
        store.add_people([])
    with pytest.raises(RunError, match="cannot be written: database or disk is full"):
        store.close()
    monkeypatch.undo()
    Store(tmp_path).close()  # the lock was given back


def test_closing_does_not_pull_a_connection_from_under_a_reading_thread(tmp_path: Path) -> None:
    """A thread that reads late, after a run has failed, finds its connection open; else SQLite crashes."""
    store = Store(tmp_path / "run")
    connections: list[Any] = []
    opened, closed = threading.Event(), threading.Event()

    def read() -> None:
        store.has_people()
        connections.append(store._reader)
        opened.set()
        closed.wait(10)
        connections.append(connections[0].execute("SELECT 1").fetchone())
        connections[0].close()

    thread = threading.Thread(target=read)
    thread.start()
    assert opened.wait(10)
    store.close()
    closed.set()
    thread.join()
    assert connections[1] == (1,)


def test_people_can_be_asked_one_by_one(tmp_path: Path) -> None:
    """Labels of a pair, of a reviewer, notes of a query; a label taken back is gone, and only that one."""
    with Store(tmp_path) as store:
        store.add_people([
            PersonLabel(b"q", b"c", "ben", "partial", "a note"),
            PersonLabel(b"q", b"c", "anna", "relevant"),
            PersonLabel(b"q", b"d", "anna", "irrelevant"),
        ])  # fmt: skip
        assert store.reviewers() == ["anna", "ben"]
        assert store.people_of(b"q", b"c") == {"anna": ("relevant", ""), "ben": ("partial", "a note")}
        assert sorted(store.labels_by("anna")) == [(b"q", b"c", "relevant"), (b"q", b"d", "irrelevant")]
        assert (store.notes(b"q"), store.notes(b"other")) == ({b"c": {"ben": "a note"}}, {})
        store.remove_people(b"q", b"c", "anna")
        assert (store.people_of(b"q", b"c"), list(store.labels_by("anna"))) == (
            {"ben": ("partial", "a note")}, [(b"q", b"d", "irrelevant")],
        )  # fmt: skip
