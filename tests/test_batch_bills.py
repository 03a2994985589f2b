"""What batches cost is on the bill once: when it is collected, whoever still asks for it, and under the limit."""

import json
import signal
import sqlite3
import time
from pathlib import Path
from typing import Any

import pytest
from batch_server import BatchServer
from processes import Command
from rows import training_file
from server import Body, completion, oracle
from test_batches import KEY, cascade, hasten, run, write

from relabel.engines.batch_left import Left, left_under_way
from relabel.engines.budget import Limits
from relabel.errors import BudgetReached, Detached
from relabel.pipeline import Summary

PRICE: dict[str, Any] = {"price": {"input": 1, "output": 2}}

pytestmark = pytest.mark.usefixtures("tidy")


@pytest.fixture(autouse=True)
def key(monkeypatch: pytest.MonkeyPatch) -> None:
    """Give every test a key that can be searched for."""
    monkeypatch.setenv("OPENAI_API_KEY", KEY)
    monkeypatch.delenv("OPENAI_BASE_URL", raising=False)


class Counting(BatchServer):
    """A server that adds up what its answers cost, in millionths of a dollar at the price of these tests."""

    def __init__(self, answer: Any = None, **more: Any) -> None:
        super().__init__(self._counted, **more)
        self.own = answer or (lambda words, body: completion(oracle(words, body), body))
        self.micros = 0

    def _counted(self, words: Any, body: Body) -> Body:
        whole: Body = self.own(words, body)
        self.micros += whole["usage"]["prompt_tokens"] + 2 * whole["usage"]["completion_tokens"]
        return whole


def useless(words: Any, body: Body) -> Body:
    """Answer, and bill, without a choice."""
    return completion(oracle(words, body), body) | {"choices": []}


def billed_micros(done: Summary) -> int:
    """Return what the whole bill of a run says, in millionths of a dollar."""
    return round(float(done.bill["usd"]) * 1e6)


def replies_in(folder: Path) -> int:
    """Return how many replies the store holds."""
    with sqlite3.connect(folder / "judgments.sqlite") as store:
        (number,) = store.execute("SELECT count(*) FROM replies").fetchone()
    store.close()
    return int(number)


def leave(source: Path, settings: Any, folder: Path, **more: Any) -> str:
    """Run a cascade without waiting; return what is said of the batches that are under way."""
    with pytest.raises(Detached) as left:
        run(source, settings, folder, detach=True, **more)
    return left.value.message


def test_answers_that_hold_nothing(tmp_path: Path) -> None:
    """They are billed once however often the run comes back, and asked again by a run after its end alone."""
    source = training_file(tmp_path / "train.jsonl", 10, twins=False)
    with Counting(useless, seconds=60) as server:
        settings = cascade(server.url, "relevance", "rlhn", max_requests=10, **PRICE)
        leave(source, settings, tmp_path / "run")
        hasten(server, 0)
        for _ in range(3):
            leave(source, settings, tmp_path / "run")
        hasten(server)
        server.seconds = 0.0
        done = run(source, settings, tmp_path / "run")
        asked = server.billed.total()
        assert billed_micros(done) == server.micros
        assert sum(stage["paid_and_not_kept"] for stage in done.bill["stages"]) == asked
        assert set(server.billed.values()) == {1}
        again = run(source, settings, tmp_path / "run")
        assert server.billed.total() == 2 * asked
        assert billed_micros(again) == server.micros


def test_a_prompt_that_was_changed(tmp_path: Path) -> None:
    """What a batch of the old prompt brings is on the bill, under the limit and in the store, though nobody asks."""
    source = training_file(tmp_path / "train.jsonl", 20, twins=False)
    with Counting(seconds=60) as server:
        leave(source, cascade(server.url, "relevance", **PRICE), tmp_path / "run")
        hasten(server)
        server.seconds = 0.0
        server.statuses()
        old, paid = server.billed.total(), server.micros
        settings = cascade(server.url, "umbrela", **PRICE)
        with pytest.raises(BudgetReached, match="limit"):
            run(source, settings, tmp_path / "run", limits=Limits(usd=paid / 1e6))
        assert (server.billed.total(), server.micros) == (old, paid)  # nothing more was asked
        done = run(source, settings, tmp_path / "run")
        assert billed_micros(done) == server.micros > paid
        whole = server.billed.total()
        back = run(source, cascade(server.url, "relevance", **PRICE), tmp_path / "run")
        assert server.billed.total() == whole == replies_in(tmp_path / "run")
        assert billed_micros(back) == server.micros


def test_a_limit_that_was_lowered(tmp_path: Path) -> None:
    """Batches that have come back are all on the bill, and in the store: below what they cost, their run ends well."""
    source = training_file(tmp_path / "train.jsonl", 20, twins=False)
    with Counting(seconds=60) as server:
        settings = cascade(server.url, "relevance", max_requests=20, **PRICE)
        leave(source, settings, tmp_path / "run", limits=Limits(usd=1.0))
        hasten(server)
        done = run(source, settings, tmp_path / "run", limits=Limits(usd=1e-5))
        assert billed_micros(done) == server.micros > 10
        assert server.billed.total() == replies_in(tmp_path / "run")


def test_batches_that_come_while_a_limit_is_met(tmp_path: Path) -> None:
    """A question that found no room is answered by its batch when that comes; what then has no room is not asked."""
    source = training_file(tmp_path / "train.jsonl", 20, twins=False)
    with Counting(seconds=1.5) as server:
        settings = cascade(server.url, "relevance", max_requests=30, **PRICE)
        leave(source, settings, tmp_path / "run", limits=Limits(usd=1.0))
        batches = len(server.batches)
        done = run(source, settings, tmp_path / "run", limits=Limits(usd=1e-3))
        assert len(server.batches) == batches
        assert billed_micros(done) == server.micros > 1000


def test_what_is_under_way_when_a_limit_is_met(tmp_path: Path) -> None:
    """It is named with its requests, and with what it will take."""
    source = training_file(tmp_path / "train.jsonl", 20, twins=False)
    with Counting(seconds=60) as server:
        leave(source, cascade(server.url, "relevance", **PRICE), tmp_path / "run")
        requests = sum(len(batch.rows) for batch in server.batches.values())
        (left,) = left_under_way(tmp_path / "run" / "batches")
        assert (left.stage, left.batches, left.requests) == ("llm0", len(server.batches), requests)
        with pytest.raises(BudgetReached) as error:
            run(source, cascade(server.url, "umbrela", **PRICE), tmp_path / "run", limits=Limits(usd=0.0))
        assert (
            f"under way at the service, with {requests:,} requests: not in this sum, about $0." in error.value.message
        )
    assert str(Left("a", 1, 5, 100)) == "stage a: 1 batch is under way at the service, with 5 requests"


def test_what_is_under_way_when_a_run_is_left(tmp_path: Path) -> None:
    """Ctrl-C names the batches that go on, without bars too; so does a run that ends before those nobody asks for."""
    source = training_file(tmp_path / "train.jsonl", 10, twins=False)
    with BatchServer(seconds=600) as server:
        chosen = write(cascade(server.url, "relevance", poll_seconds=30), tmp_path / "cascade.yaml")
        words = ["run", str(source), "-o", str(tmp_path / "run"), "-q", "-c"]
        waiting = Command([*words, str(chosen)], cwd=tmp_path, environment={})
        ends = time.monotonic() + 60
        while not server.batches and time.monotonic() < ends:
            time.sleep(0.02)
        time.sleep(0.5)
        waiting.process.send_signal(signal.SIGINT)
        assert waiting.wait() == 130
        requests = sum(len(batch.rows) for batch in server.batches.values())
        named = f"stage llm0: 1 batch is under way at the service, with {requests} requests"
        assert f"{named}; these are billed" in waiting.stderr
        server.seconds = 0.0
        other = write(cascade(server.url, "umbrela"), tmp_path / "other.yaml")
        ended = Command([*words, str(other)], cwd=tmp_path, environment={})
        assert ended.wait() == 0
        assert f"{named} that nobody asks for now" in ended.stderr


def test_a_hand_over_that_was_cut_short(tmp_path: Path) -> None:
    """Answers that were handed over a second time, as after a kill in between, are not billed a second time."""
    source = training_file(tmp_path / "train.jsonl", 10, twins=False)
    with Counting() as server:
        settings = cascade(server.url, "relevance", **PRICE)
        run(source, settings, tmp_path / "run")
        with sqlite3.connect(tmp_path / "run" / "batches" / "llm0" / "ledger.sqlite") as ledger:
            ledger.execute("UPDATE parts SET state = 'collected'")
        ledger.close()
        again = run(source, cascade(server.url, "umbrela", **PRICE), tmp_path / "run")
        assert billed_micros(again) == server.micros
        told = json.loads((tmp_path / "run" / "run.json").read_text("utf-8"))
        assert told["bill"]["stages"][0]["asked"] == server.billed.total()
