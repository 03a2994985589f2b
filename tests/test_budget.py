"""A budget: held against a server that writes its own bill, shared by stages, never in the way of what is stored."""

import json
import os
import random
import re
import shutil
import signal
import sqlite3
import subprocess
import sys
import threading
import time
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import replace
from fractions import Fraction
from itertools import islice
from pathlib import Path
from typing import Any

import pytest
from billing_server import BillingServer, Sent
from rows import training_file
from server import Plan

from relabel import billing, config, pipeline, sources
from relabel.engines.budget import Budget, Limits, Meter, Till
from relabel.engines.remembering import Remembering
from relabel.errors import BudgetReached, RunError, SettingsError
from relabel.money import PICO, Amount, Bill, Price
from relabel.pipeline import Summary
from relabel.protocols import Message, Reply, Request, Usage
from relabel.store import Store
from relabel.store_file import STORE

pytestmark = [pytest.mark.usefixtures("tidy"), pytest.mark.timeout(120)]

ROOT = Path(__file__).parents[1]
PRICES = {"input": 1.0, "cached_input": 0.25, "output": 4.0}
RESULTS = ("cleaned.jsonl", "flagged.csv", "changes.jsonl", "statistics.json")
ANSWERED = ("refusal", "broken", "length", "empty", "rate limit ms")
"""Faults whose answers arrive, or were never billed."""


@pytest.fixture(scope="module")
def server() -> Iterator[BillingServer]:
    """One server for all runs; each puts its own bill and plan into it."""
    with BillingServer() as server:
        yield server


def cascade(url: str, price: Mapping[str, float] | None, **engine: Any) -> config.Settings:
    """Return a cheap stage that asks about pairs and a strong one that asks about groups, both of one price."""
    told = {"kind": "openai", "model": "fake", "base_url": url, "max_tokens": 200} | engine
    told |= {} if price is None else {"price": dict(price)}
    stages = [
        {"judge": "llm", "name": "cheap", "prompt": "relevance", "engine": told},
        {"judge": "llm", "name": "strong", "prompt": "rlhn", "group_size": 3, "engine": told},
    ]
    return config.parse(json.dumps({"stages": stages}))


def run(source: Path, settings: config.Settings, folder: Path, **limits: Any) -> Summary | BudgetReached:
    """Run a cascade within limits; return what it came to."""
    try:
        return pipeline.run(sources.open_source(source), settings, folder, limits=Limits(**limits))
    except BudgetReached as error:
        return error


def bill_of(folder: Path) -> Bill:
    """Return our bill of all stages and executions."""
    with Store(folder) as store:
        return sum((each.bill for each in store.bills()), Bill())


RUNS = int(os.environ.get("RELABEL_RUNS", "10"))
"""How many random runs; RELABEL_RUNS=50 takes some minutes."""


@pytest.mark.parametrize("seed", range(RUNS))
def test_random_runs_hold_their_limit(seed: int, server: BillingServer, tmp_path: Path) -> None:
    """The server's own bill exceeds the limit by no more than the requests in flight, and is ours to the picodollar.

    Prices, limit, latency, concurrency and faults are random; every run goes on under higher limits to its end, which
    is that of a run without a limit.
    """
    dice = random.Random(seed)
    prices = {name: round(dice.uniform(0, 30), dice.choice([0, 2, 4])) for name in ("input", "cached_input", "output")}
    prices["output"] = max(prices["output"], 0.01)
    losing, workers = seed % 5 == 0, dice.choice([1, 2, 7, 16])
    server.sent = sent = Sent(prices)
    server.latency = dice.choice([0, 0.002, 0.01])
    server.plan = Plan(dice.choice([0.0, 0.1, 0.3]), ("cut", "reset") if losing else ANSWERED, seed)
    settings = cascade(server.url, prices, concurrency=workers, max_retries=2)
    source = training_file(tmp_path / "train.jsonl", dice.randint(4, 9), negatives=4, seed=seed)
    folder, limit = tmp_path / "run", dice.choice([0.0002, 0.001, 0.004])
    while isinstance(run(source, settings, folder, usd=limit), BudgetReached):
        billed, asked = sent.usd + sum(sent.lost), server.total
        dearest = max((*sent.each, *sent.lost), default=Fraction())
        assert billed <= Fraction(str(limit)) + 2 * 2 * workers * dearest  # each stage pulls twice its concurrency
        assert isinstance(run(source, settings, folder, usd=limit), BudgetReached)
        assert server.total - asked <= 1  # the first of a stage, of which nobody knew what it takes
        limit *= dice.choice([4, 20])
    bill = bill_of(folder)
    assert (bill.tokens_in, bill.tokens_out, bill.tokens_cached) == (
        sent.tokens_in,
        sent.tokens_out,
        sent.tokens_cached,
    )
    assert (Fraction(bill.pico or 0, PICO), bill.lost) == (sent.usd, len(sent.lost))
    server.sent = Sent(prices)
    assert isinstance(run(source, settings, tmp_path / "unlimited"), Summary)
    if not losing:  # what is lost was asked again in the next execution, and was answered then
        once = bill_of(tmp_path / "unlimited")
        assert [(folder / name).read_bytes() for name in RESULTS] == [
            (tmp_path / "unlimited" / name).read_bytes() for name in RESULTS
        ]
        assert len(sent.each) - bill.not_kept == len(server.sent.each) - once.not_kept  # nothing was kept twice


def test_a_run_in_one_go_needs_no_more_than_its_bill(server: BillingServer, tmp_path: Path) -> None:
    """A limit of what the run takes, and a little more for the estimate of the last requests, does not stop it."""
    server.sent, server.plan, server.latency = Sent(PRICES), Plan(), 0.005
    source = training_file(tmp_path / "train.jsonl", 12, negatives=4)
    settings = cascade(server.url, PRICES, concurrency=8)
    assert isinstance(run(source, settings, tmp_path / "first"), Summary)
    whole = float(server.sent.usd)
    assert isinstance(run(source, settings, tmp_path / "enough", usd=1.1 * whole), Summary)
    stopped = run(source, settings, tmp_path / "short", usd=whole / 2)
    assert isinstance(stopped, BudgetReached)
    assert 0.4 * whole < (bill_of(tmp_path / "short").pico or 0) / PICO < 0.55 * whole


def test_a_limit_of_tokens(server: BillingServer, tmp_path: Path) -> None:
    """Tokens read and written count, cached ones too; no price is needed; what is stored costs nothing."""
    server.sent, server.plan, server.latency = Sent(PRICES), Plan(), 0.0
    source = training_file(tmp_path / "train.jsonl", 8, negatives=4)
    settings = cascade(server.url, None, concurrency=4)
    stopped = run(source, settings, tmp_path / "run", tokens=1500)
    assert isinstance(stopped, BudgetReached)
    took = server.sent.tokens_in + server.sent.tokens_out
    assert 1000 < took < 1800
    assert f"{took:,} tokens" in stopped.message
    done = run(source, settings, tmp_path / "run")
    assert isinstance(done, Summary)
    took = server.sent.tokens_in + server.sent.tokens_out
    assert isinstance(run(source, settings, tmp_path / "run", tokens=took), Summary)
    assert done.bill["usd"] is None


def test_the_message_says_how_far_it_got(server: BillingServer, tmp_path: Path) -> None:
    """What was spent, what is judged and left, and the command that goes on; exit code 5; no file is half-written."""
    server.sent, server.plan, server.latency = Sent(PRICES), Plan(), 0.0
    source, folder = training_file(tmp_path / "train.jsonl", 8, negatives=4), tmp_path / "run"
    settings = cascade(server.url, PRICES, concurrency=2)
    path = tmp_path / "config.json"
    path.write_text(json.dumps({"stages": [each.model_dump(exclude_unset=True) for each in settings.stages]}), "utf-8")
    words = ["run", str(source), "-c", str(path), "-o", str(folder), "-q", "--max-usd", "0.002"]
    done = relabel(*words)
    assert (done.returncode, done.stdout) == (5, "")
    assert "the limit of $0.002 (--max-usd) is reached; this run has spent $0.00" in done.stderr
    assert "pairs judged, at most" in done.stderr
    begun, _, enough = done.stderr.rstrip().rpartition(" ")
    assert begun.endswith(f"to go on: relabel {' '.join(words[:-1])}")
    assert float(enough) >= 2 * 0.002
    assert sorted(path.name for path in folder.iterdir()) == [STORE, "run.lock"]
    again = relabel(*words[:-2], f"--max-usd={enough}")
    assert again.returncode == 0, again.stderr
    bill = json.loads((folder / "run.json").read_text("utf-8"))["bill"]
    assert bill["usd"] == pytest.approx(float(server.sent.usd))
    assert bill["limits"] == {"usd": float(enough), "tokens": None}
    assert bill["stages"][0]["executions"] == 2


def relabel(*arguments: str) -> "subprocess.CompletedProcess[str]":
    """Type a command."""
    more = {"PYTHONPATH": str(ROOT), "OPENAI_API_KEY": "sk-test", "COLUMNS": "200"}
    return subprocess.run(
        [sys.executable, "-m", "relabel", *arguments], capture_output=True, text=True, check=False,
        env={**os.environ, **more},
    )  # fmt: skip


@pytest.mark.parametrize("limits", [{"usd": -1.0}, {"usd": float("nan")}, {"usd": float("inf")}, {"tokens": -5}])
def test_what_is_no_limit_is_refused(limits: dict[str, Any]) -> None:
    """A limit is a number from 0 up."""
    with pytest.raises(SettingsError, match="is no limit"):
        Limits(**limits)


def test_dollars_need_prices(server: BillingServer, tmp_path: Path) -> None:
    """Without a price --max-usd is refused before anybody is asked, and says what to write; --max-tokens is not."""
    source, before = training_file(tmp_path / "train.jsonl", 3), server.total
    with pytest.raises(SettingsError, match=r"cheap \(fake\), strong \(fake\)") as error:
        run(source, cascade(server.url, None), tmp_path / "run", usd=1.0)
    assert "--prices FILE" in error.value.hint
    assert server.total == before
    prices = tmp_path / "prices.yaml"
    prices.write_text("fake: {input: 0, output: 0}\n", "utf-8")
    free = cascade(server.url, None).model_copy(update={"prices": str(prices)})
    assert isinstance(run(source, free, tmp_path / "run", usd=0.0), Summary)  # what costs nothing is within no dollars


def test_replies_without_usage_count_by_an_estimate(server: BillingServer, tmp_path: Path) -> None:
    """A server that counts no tokens is held to the limit all the same, and the estimate is called one."""
    server.sent, server.plan, server.latency = Sent(PRICES), Plan(1.0, ("no usage",)), 0.0
    source = training_file(tmp_path / "train.jsonl", 6, negatives=4)
    settings = cascade(server.url, PRICES, concurrency=4)
    stopped = run(source, settings, tmp_path / "run", usd=0.002)
    assert isinstance(stopped, BudgetReached)
    assert re.search(r"and about \$0\.00\d+ for \d+ replies without a count of tokens, by an estimate", stopped.message)
    bill = bill_of(tmp_path / "run")
    assert (bill.uncounted, bill.counted, bill.usd) == (server.sent.uncounted, 0, None)
    assert 0.001 < bill.guessed_pico / PICO < 0.003  # the first of the second stage was tried
    done = run(source, settings, tmp_path / "run")
    assert isinstance(done, Summary)
    assert done.bill["stages"][0]["without_usage"]["replies"] > 0
    assert done.bill["usd"] is None


def test_what_was_in_flight_when_a_run_was_killed_is_possibly_billed(tmp_path: Path) -> None:
    """The store knows after a SIGKILL how many requests had no answer; they count against the limit of the next run."""
    with BillingServer(latency=0.15) as server:
        source = training_file(tmp_path / "train.jsonl", 8, negatives=4)
        path, folder = tmp_path / "config.json", tmp_path / "run"
        engine = {"kind": "openai", "model": "fake", "base_url": server.url, "price": PRICES, "concurrency": 4}
        path.write_text(json.dumps({"stages": [{"judge": "llm", "prompt": "relevance", "engine": engine}]}), "utf-8")
        words = ["run", str(source), "-c", str(path), "-o", str(folder), "-q"]
        process = subprocess.Popen(
            [sys.executable, "-m", "relabel", *words], env={**os.environ, "PYTHONPATH": str(ROOT)}
        )
        while server.total < 10:
            time.sleep(0.01)
        process.kill()
        process.wait()
        sent = server.total
        bill = bill_of(folder)
        assert 0 < bill.counted < sent
        assert 0 < sent - bill.counted <= bill.lost <= 2 * 4
        assert bill.at_most.pico > (bill.pico or 0) > 0
        done = run(source, config.load(path), folder)
        assert isinstance(done, Summary)
        assert done.bill["stages"][0]["possibly_billed"]["requests"] == bill.lost
        assert done.bill["stages"][0]["usd"] == pytest.approx((bill_of(folder).pico or 0) / PICO)


def test_tries_that_may_be_billed_are_within_the_limit(tmp_path: Path) -> None:
    """A server that bills every request and loses every answer is not asked over and over at our expense."""
    with BillingServer(plan=Plan(1.0, ("cut",))) as server:
        server.sent = Sent(PRICES)
        source = training_file(tmp_path / "train.jsonl", 8, negatives=4)
        settings = cascade(server.url, PRICES, concurrency=2, max_retries=6)
        assert isinstance(run(source, settings, tmp_path / "run", usd=0.004), BudgetReached)
        dearest = max(server.sent.lost)
        assert sum(server.sent.lost) <= Fraction("0.004") + 2 * dearest
        assert len(server.sent.lost) > 2


def test_ctrl_c_sends_nothing_more(tmp_path: Path) -> None:
    """What was sent is waited for and kept; what was only taken in is not sent, and not on the bill."""
    with BillingServer(latency=1.0) as server:
        source = training_file(tmp_path / "train.jsonl", 30, negatives=4)
        path, folder = tmp_path / "config.json", tmp_path / "run"
        engine = {"kind": "openai", "model": "fake", "base_url": server.url, "price": PRICES, "concurrency": 4}
        path.write_text(json.dumps({"stages": [{"judge": "llm", "prompt": "relevance", "engine": engine}]}), "utf-8")
        words = ["run", str(source), "-c", str(path), "-o", str(folder), "-q"]
        process = subprocess.Popen(
            [sys.executable, "-m", "relabel", *words], env={**os.environ, "PYTHONPATH": str(ROOT)}
        )
        while server.total < 8:
            time.sleep(0.01)
        time.sleep(0.3)
        sent = server.total
        process.send_signal(signal.SIGINT)
        begun = time.monotonic()
        assert process.wait(20) == 130
        assert time.monotonic() - begun < 4
        assert sent <= server.total <= sent + 1  # one may have been on its way when we looked
        bill = bill_of(folder)
    assert (bill.counted, bill.lost) == (server.total, 0)


def test_a_folder_that_is_deleted_ends_the_run(tmp_path: Path) -> None:
    """Nobody is asked on when there is no longer a place to keep the answers."""
    with BillingServer(latency=0.05) as server:
        source = training_file(tmp_path / "train.jsonl", 60, negatives=4)
        settings, folder = cascade(server.url, PRICES, concurrency=2), tmp_path / "run"

        def delete() -> None:
            while server.total < 8:
                time.sleep(0.01)
            shutil.rmtree(folder)

        deleting = threading.Thread(target=delete)
        deleting.start()
        with pytest.raises(RunError, match="run is gone"):
            pipeline.run(sources.open_source(source), settings, folder)
        deleting.join()
        assert server.total < 60


# --- the parts by themselves ---


PRICE = Price(1.0, 2.0, 0.5)
METER = Meter("stage", "model", PRICE, 100)


def question(number: int, size: int = 400) -> Request:
    """Ask something of so many characters: 100 tokens and 4 for the frame, unless told."""
    return Request(f"{number}", (Message("user", "x" * size),), ticket=number)


class Eager:
    """An engine that pulls all that it is given before it answers, as a batch is sent; it can fail."""

    identity: Mapping[str, Any] = {}

    def __init__(self, usage: Usage = Usage(104, 10), *, pull: int = 10**6, broken: bool = False) -> None:  # noqa: B008
        self.usage, self.pull, self.broken = usage, pull, broken
        self.rounds: list[int] = []

    def answer(self, requests: Iterable[Request]) -> Iterator[Reply]:
        """Answer block by block, in the thread that pulls."""
        self.rounds.append(0)
        pulled = iter(requests)
        while block := list(islice(pulled, self.pull)):
            self.rounds[-1] += len(block)
            for request in block:
                if self.broken:
                    raise RuntimeError("broken")
                yield Reply(request, "Yes", usage=self.usage)


@pytest.mark.parametrize("pull", [1, 7, 10**6])
def test_any_engine_can_be_stopped(pull: int, tmp_path: Path) -> None:
    """Engines that pull one request, some or all in their own thread: replies come first, then the limit."""
    engine, budget = Eager(pull=pull), Budget(Limits(tokens=114 * 50))
    with Store(tmp_path) as store:
        replies = Remembering(engine, store, meter=METER, budget=budget).answer(map(question, range(1000)))
        got: list[int] = []
        with pytest.raises(BudgetReached):
            got.extend(reply.request.ticket for reply in replies)
        stored = sum(store.reply_to(question(number)) is not None for number in range(60))
    assert sum(engine.rounds) == stored == 50
    assert len(engine.rounds) <= 10
    assert (budget.spent, budget.reserved, budget.in_flight) == (Amount(5700, 50 * (104 + 20) * 10**6), Amount(), 0)


def test_stages_share_one_budget(tmp_path: Path) -> None:
    """Four engines at once spend no more than one limit, and each of them hears that it is reached."""
    budget, heard = Budget(Limits(usd=124e-6 * 100.5)), []

    def ask(store: Store, first: int) -> None:
        meter = Meter(f"{first}", "model", PRICE, 10, before=(1, 10))  # else its first request may be asked at the edge
        try:
            for _ in Remembering(Eager(pull=5), store, meter=meter, budget=budget).answer(
                question(number) for number in range(first, first + 1000)
            ):
                pass
        except BudgetReached:
            heard.append(first)

    with Store(tmp_path) as store:
        threads = [threading.Thread(target=ask, args=(store, 1000 * place)) for place in range(4)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        store.flush()
        assert sum(each.bill.asked for each in store.bills()) == 100
    assert sorted(heard) == [0, 1000, 2000, 3000]
    assert budget.reserved == Amount()


def test_an_engine_that_fails_gives_back_what_was_reserved(tmp_path: Path) -> None:
    """Others who wait for its requests in flight are not left waiting; the store says that they were perhaps billed."""
    budget = Budget(Limits(tokens=10_000))
    with Store(tmp_path) as store:
        with pytest.raises(RuntimeError, match="broken"):
            list(Remembering(Eager(broken=True), store, meter=METER, budget=budget).answer(map(question, range(20))))
        assert (budget.reserved, budget.in_flight) == (Amount(), 0)
        store.flush()
        assert [each.bill.lost for each in store.bills()] == [20]


def test_the_first_answer_is_expected_to_be_as_long_as_it_may_be() -> None:
    """Before an answer, max_tokens is reserved; then the mean; the prompt is corrected by what the server counted."""
    budget = Budget()
    till = Till(METER, budget)
    assert till.take(question(1))
    assert budget.reserved == Amount(204, (104 + 200) * 10**6)
    till.settle(Reply(question(1), "Yes", usage=Usage(208, 30)))
    assert till.take(question(2))
    assert budget.reserved == Amount(238, (208 + 60) * 10**6)
    charge = till.settle(Reply(question(2), None, "failed", retryable=True, unsure=2))
    assert (charge.lost, charge.lost_amount) == (2, Amount(476, 2 * 268 * 10**6))
    assert budget.spent == Amount(238 + 476, (208 + 60 + 2 * 268) * 10**6)


def test_a_first_request_is_tried_though_it_might_not_fit() -> None:
    """Where nobody knows how long an answer is, one is asked, though it may be long; not where nothing is left."""
    for limit, asked in ((1, True), (0, False)):
        budget = Budget(Limits(tokens=limit))
        till = Till(METER, budget)
        assert till.take(question(1)) is asked
        assert not till.take(question(2))
    known = Till(Meter("stage", "model", PRICE, 100, before=(10, 50)), Budget(Limits(tokens=108)))
    assert not known.take(question(1))  # an earlier execution knew


def test_a_store_from_before_there_were_bills(tmp_path: Path) -> None:
    """Its replies count against a limit, at the price that is known now; opened again, they are not counted twice."""
    with Store(tmp_path) as store:
        list(Remembering(Eager(), store).answer(replace(question(number), judge="cheap") for number in range(5)))
    with sqlite3.connect(tmp_path / STORE) as connection:
        connection.execute("DROP TABLE bills")
    connection.close()
    settings = cascade("http://127.0.0.1:9/v1", {"input": 1.0, "output": 2.0})
    for _ in range(2):
        with Store(tmp_path) as store:
            [old] = store.bills()
            spent = billing.open_budget(settings, store, Limits(usd=1.0)).spent
        assert (old.stage, old.bill.asked, old.bill.usd) == ("cheap", 5, None)
        assert spent == Amount(5 * 114, 5 * (104 + 20) * 10**6)


def test_a_half_count_of_tokens(tmp_path: Path) -> None:
    """What the server counted stands, what it did not is estimated, and nothing is counted twice."""
    half = Usage(1000)
    with Store(tmp_path) as store:
        budget = Budget(Limits(tokens=5000))
        replies = Remembering(Eager(half, pull=1), store, meter=METER, budget=budget).answer(map(question, range(20)))
        with pytest.raises(BudgetReached):
            list(replies)
        store.flush()
        [told] = store.bills()
    assert 5 * 1000 <= budget.spent.tokens <= 6 * 1001
    assert (told.bill.tokens_in, told.bill.guessed_tokens) == (0, budget.spent.tokens)


class Broken(Eager):
    """An engine whose replies no store can hold."""

    def answer(self, requests: Iterable[Request]) -> Iterator[Reply]:
        """Answer to a judge with half a character in its name."""
        for reply in super().answer(requests):
            yield replace(reply, request=replace(reply.request, judge="\ud800"))


def test_a_broken_store_ends_the_asking(tmp_path: Path) -> None:
    """Whoever waits for replies is told that they cannot be kept; nobody waits for ever."""

    def questions() -> Iterator[Request]:
        for number in range(2000):
            time.sleep(0.001)
            yield question(number)

    with pytest.raises(UnicodeEncodeError), Store(tmp_path) as store:
        list(Remembering(Broken(pull=1), store, meter=METER).answer(questions()))
