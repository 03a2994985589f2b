"""The Batch API over a real socket: every status, every kind of damage, and nothing paid for twice."""

import asyncio
import json
import subprocess
import sys
import threading
import time
import tracemalloc
from collections import deque
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path
from typing import Any

import pytest
from batch_server import NOT_NOW, BatchServer, Fate
from openai import OpenAI as OpenAIClient
from server import FakeServer

from relabel.engine_settings import OpenAI, OpenAIBatch
from relabel.engines.batch_ledger import Ledger, forget_failures
from relabel.engines.batch_taking import LOOKS
from relabel.engines.clock import Clock
from relabel.engines.openai import OpenAIEngine
from relabel.engines.openai_batch import OpenAIBatchEngine
from relabel.errors import Detached, ServiceError, SettingsError
from relabel.protocols import Message, Reply, Request

KEY = "sk-quite-secret-0123456789"
POLL = 0.02

pytestmark = pytest.mark.usefixtures("tidy")


@pytest.fixture(autouse=True)
def key(monkeypatch: pytest.MonkeyPatch) -> None:
    """Give every test a key that can be searched for."""
    monkeypatch.setenv("OPENAI_API_KEY", KEY)
    monkeypatch.delenv("OPENAI_BASE_URL", raising=False)


@pytest.fixture
def process(tmp_path: Path) -> Iterator[str]:
    """Give the address of a server in a process of its own, whose batches take a minute."""
    command = [sys.executable, str(Path(__file__).parent / "batch_server.py"), "--seconds", "60"]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True, cwd=tmp_path) as server:
        assert server.stdout is not None
        yield server.stdout.readline().strip()
        server.kill()


class Soon(Clock):
    """A clock whose waits take no longer than the event loop needs."""

    async def sleep(self, seconds: float) -> None:
        """Let others work."""
        del seconds
        await asyncio.sleep(0)


def asked(number: int, words: str = "") -> Request:
    """Return a question, unlike every other."""
    prompt = f"Does passage {number} answer the question? {words}".strip()
    messages = (Message("system", "You judge."), Message("user", prompt))
    return Request(f"{number:032x}", messages, ("Yes", "No"), candidate_ids=(f"p{number}",), ticket=number)


def engine(server: BatchServer | FakeServer | str, folder: Path | None, **settings: Any) -> OpenAIBatchEngine:
    """Return an engine that does not dawdle."""
    url = server if isinstance(server, str) else server.url
    quick: dict[str, Any] = {"poll_seconds": POLL, "max_retries": 2, "timeout": 5.0, "api_key_env": "OPENAI_API_KEY"}
    told = OpenAIBatch(kind="openai_batch", model="m", base_url=url, **(quick | settings))
    return OpenAIBatchEngine(told, "llm", folder, clock=Soon())


def answers(replies: Iterable[Reply]) -> dict[int, Reply]:
    """Return the replies by ticket, one for each; not those for the store alone."""
    found: dict[int, Reply] = {}
    for reply in (each for each in replies if not each.unasked):
        assert reply.request.ticket not in found
        found[reply.request.ticket] = reply
    return found


def batches_of(folder: Path) -> list[tuple[int, str]]:
    """Return the parts in a ledger: requests and state."""
    ledger = Ledger(folder)
    try:
        return [(part.requests, part.state) for part in ledger.parts()]
    finally:
        ledger.close()


def until(kind: type[Exception], words: str, replies: Iterable[Reply]) -> list[Reply]:
    """Return the replies that come before an exception of this kind, with these words in it."""
    got: list[Reply] = []
    with pytest.raises(kind, match=words):
        deque(map(got.append, replies), maxlen=0)
    return [reply for reply in got if not reply.unasked]


def every(server: BatchServer) -> set[int]:
    """Return how often contents were billed, whichever these are."""
    server.statuses()  # brings on what nobody looked at
    return set(server.billed.values())


def test_a_batch_answers_as_single_requests_do(tmp_path: Path) -> None:
    """Texts, probabilities and tokens are those of the synchronous engine, and so is the identity in addresses."""
    with BatchServer() as server, FakeServer() as plain:
        single = OpenAIEngine(OpenAI(model="m", base_url=plain.url))
        batched = engine(server, tmp_path)
        one, other = (answers(each.answer(map(asked, range(20)))) for each in (single, batched))
    assert batched.identity == single.identity
    assert one.keys() == other.keys() == set(range(20))
    for number, reply in other.items():
        assert (reply.text, reply.probabilities) == (one[number].text, one[number].probabilities)
        assert (reply.usage.tokens_in, reply.usage.tokens_cached) == (
            one[number].usage.tokens_in, one[number].usage.tokens_cached,
        )  # fmt: skip
        assert reply.request.candidate_ids == (f"p{number}",)
        assert not reply.retryable


GOOD_ENDS = {
    "completed": Fate(),
    "expired": Fate("expired", 0.5),
    "expired without a word": Fate("expired", 0.5, listed=False),
    "expired, all of it": Fate("expired", 0.0),
    "cancelled": Fate("cancelled", 0.3),
    "cancelled, all unlisted": Fate("cancelled", 0.0, listed=False),
    "rows lost": Fate("completed", 0.7, listed=False),
    "no row at all": Fate("completed", 0.0, listed=False),
    "shuffled": Fate(shuffled=True),
    "doubled": Fate(doubled=True, shuffled=True),
    "foreign": Fate(foreign=True),
    "broken": Fate(broken=True),
    "torn": Fate(torn=1),
    "torn twice": Fate("expired", 0.6, torn=2, shuffled=True, doubled=True),
    "unknown status": Fate(before="paused_by_the_moon"),
    "slow ends": Fate("cancelled", 0.5, before="cancelling"),
    "finalizing": Fate(before="finalizing"),
}


@pytest.mark.parametrize("name", GOOD_ENDS)
def test_whatever_becomes_of_a_batch(tmp_path: Path, name: str) -> None:
    """Each request gets its own answer and is billed once; what was finished is taken, only the rest submitted anew."""
    fate = GOOD_ENDS[name]
    with BatchServer(fate=lambda number: fate if number == 0 else Fate(), seconds=3 * POLL) as server:
        with FakeServer() as plain:
            expected = answers(OpenAIEngine(OpenAI(model="m", base_url=plain.url)).answer(map(asked, range(10))))
        got = answers(engine(server, tmp_path).answer(map(asked, range(10))))
        assert {number: reply.text for number, reply in got.items()} == {
            number: reply.text for number, reply in expected.items()
        }
        assert every(server) == {1}
        assert len(server.billed) == 10
        again = 10 - int(fate.share * 10)
        assert sum(server.tried.values()) == 10 + again
        assert batches_of(tmp_path) == [(10, "ended"), *([(again, "ended")] if again else [])]
        calls = dict(server.calls)
        assert answers(engine(server, tmp_path).answer(map(asked, range(10)))).keys() == got.keys()
        assert dict(server.calls) == calls  # a second time the ledger knows all


def test_oddities_are_counted(tmp_path: Path) -> None:
    """What was survived stands in the report, by kind, beside each batch with its counts."""
    fates = [Fate("expired", 0.5, shuffled=True, foreign=True, broken=True, doubled=True), Fate(before="napping")]
    with BatchServer(fate=lambda number: fates[number], seconds=2 * POLL) as server:
        batched = engine(server, tmp_path)
        answers(batched.answer(map(asked, range(12))))
    told = batched.report()
    assert [(batch["status"], batch["completed"], batch["failed"]) for batch in told["batches"]] == [
        ("expired", 6, 6), ("completed", 6, 0),
    ]  # fmt: skip
    assert all(batch["id"].startswith("batch_") and batch["taken_in"] for batch in told["batches"])
    oddities = told["oddities"]
    assert oddities["broken lines"] == 1
    assert oddities["lines about no request of the batch"] == 1
    assert oddities["lines about a request that had one"] == 2
    assert oddities["requests that a batch gave back without an answer (expired)"] == 6
    assert any("napping" in kind for kind in oddities)


def test_a_file_that_stays_torn(tmp_path: Path) -> None:
    """Rows in no download were billed: they fail, possibly billed, and are asked anew by a run after this one alone."""
    with BatchServer(fate=lambda number: Fate(torn=99) if number == 0 else Fate()) as server:
        got = answers(engine(server, tmp_path).answer(map(asked, range(10))))
        assert server.calls["download"] == LOOKS
        torn = int(len(server.files["file-1"]) * 0.6)
        whole_lines = server.files["file-1"][:torn].count(b"\n")
        lost = [reply for reply in got.values() if reply.failure]
        assert [(reply.unsure, reply.retryable) for reply in lost] == [(1, True)] * (10 - whole_lines)
        assert all("may have billed it" in reply.detail for reply in lost)
        again = answers(engine(server, tmp_path).answer(map(asked, range(10))))
        assert sum(reply.unsure for reply in again.values()) == 0  # it is on the bill
        assert (len(again), len(server.batches)) == (10, 1)
        forget_failures(tmp_path.parent)
        mended = answers(engine(server, tmp_path).answer(map(asked, range(10))))
        assert not any(reply.failure for reply in mended.values())
        assert sorted(server.billed.values()) == [1] * whole_lines + [2] * (10 - whole_lines)


@pytest.mark.parametrize("kind", ["error", "rate limit", "lost"])
def test_rows_that_fail_for_now(tmp_path: Path, kind: str) -> None:
    """A row that failed and may yet succeed is submitted again; the others are not."""
    with BatchServer(row=lambda key, attempt: kind if attempt == 1 and key < "8" else "") as server:
        got = answers(engine(server, tmp_path).answer(map(asked, range(40))))
        assert len(got) == 40
        assert {reply.failure for reply in got.values()} == {""}
        assert every(server) == {1}
        spoilt = sum(key < "8" for key in server.tried)
        assert 0 < spoilt < 40
        assert sum(server.tried.values()) == 40 + spoilt


@pytest.mark.parametrize(
    ("kind", "failure", "words", "attempts"),
    [
        ("error", "failed", "HTTP 500", 3),
        ("lost", "failed", "came back without it", 3),
        ("rejected", "failed", "top_logprobs", 1),
        ("too long", "too long", "context length", 1),
        ("filtered", "filtered", "policy", 1),
    ],
)
def test_rows_that_fail_for_good(tmp_path: Path, kind: str, failure: str, words: str, attempts: int) -> None:
    """They end with their reason, as of a single request, after as many attempts as are allowed; none is kept."""
    with BatchServer(row=lambda key, _: kind if key < "4" else "") as server:
        got = answers(engine(server, tmp_path).answer(map(asked, range(40))))
        spoilt = {number: reply for number, reply in got.items() if reply.failure}
        assert len(spoilt) == sum(key < "4" for key in server.tried) > 0
        for reply in spoilt.values():
            assert (reply.failure, reply.text, reply.retryable) == (failure, None, True)
            assert words in reply.detail
            assert ("tried 3 times" in reply.detail) == (attempts > 1)
        assert {times for key, times in server.tried.items() if key < "4"} == {attempts}
        before = sum(server.tried.values())
        again = answers(engine(server, tmp_path).answer(map(asked, range(40))))
        assert sum(server.tried.values()) == before  # a run that goes on hears the same
        assert {number for number, reply in again.items() if reply.failure} == set(spoilt)
        forget_failures(tmp_path.parent)
        server.row = lambda *_: ""
        mended = answers(engine(server, tmp_path).answer(map(asked, range(40))))
        assert not any(reply.failure for reply in mended.values())  # a run after one that ended asks again
        assert every(server) == {1}


def test_every_row_is_rejected(tmp_path: Path) -> None:
    """A setting that the service does not take ends with its words and the remedy; when it is mended all is asked."""
    with BatchServer(row=lambda *_: "rejected") as server:
        with pytest.raises(ServiceError, match="rejects every request of stage llm") as error:
            answers(engine(server, tmp_path).answer(map(asked, range(5))))
        assert "choices: text" in error.value.hint
        server.row = lambda *_: ""
        assert len(answers(engine(server, tmp_path).answer(map(asked, range(5))))) == 5


def test_credit_runs_out(tmp_path: Path) -> None:
    """What was answered is handed over first; with new credit only the rest is asked."""
    with BatchServer(row=lambda key, _: "no credit" if key < "8" else "") as server:
        got = until(ServiceError, "no more credit", engine(server, tmp_path).answer(map(asked, range(20))))
        assert 0 < len(got) == server.billed.total() < 20
        server.row = lambda *_: ""
        assert len(answers(engine(server, tmp_path).answer(map(asked, range(20))))) == 20
        assert every(server) == {1}


@pytest.mark.parametrize(
    ("code", "hint"),
    [("invalid_json_line", "nothing of it was paid"), ("billing_hard_limit_reached", "add credit")],
)
def test_a_batch_is_refused(tmp_path: Path, code: str, hint: str) -> None:
    """What the service says of a file that it refuses is said, with what to do; then the same command starts afresh."""
    refused = Fate("failed", errors=((code, "the words of the service"),) * 5)
    with BatchServer(fate=lambda number: refused if number == 0 else Fate()) as server:
        with pytest.raises(ServiceError, match="the words of the service") as error:
            answers(engine(server, tmp_path).answer(map(asked, range(5))))
        assert code in error.value.message
        assert "and 2 more" in error.value.message
        assert hint in error.value.hint
        assert not list(tmp_path.glob("*.jsonl"))
        assert len(answers(engine(server, tmp_path).answer(map(asked, range(5))))) == 5
        assert every(server) == {1}


# -- sizes, and the queue --------------------------------------------------------------------------------------


def test_files_are_cut_to_size(tmp_path: Path) -> None:
    """No file has more requests, bytes or prompt tokens than is allowed; begun before the last request is pulled."""
    pulled: list[int] = []
    first = 0

    def requests() -> Iterator[Request]:
        nonlocal first
        for number in range(50):
            pulled.append(number)
            yield asked(number, "word " * (number % 7))
            first = first or (len(pulled) if server.calls["upload"] else 0)

    with BatchServer() as server:
        batched = engine(server, tmp_path / "requests", max_requests=8)
        assert len(answers(batched.answer(requests()))) == 50
        assert [requests for requests, _ in batches_of(tmp_path / "requests")] == [8] * 6 + [2]
        assert first <= 11
        server.files.clear()
        batched = engine(server, tmp_path / "bytes", max_file_bytes=2000)
        assert len(answers(batched.answer(requests()))) == 50
        sizes = [len(content) for content in server.files.values() if b'"POST"' in content]
        assert max(sizes) <= 2000
        assert sum(sizes) / len(sizes) > 1500
        batched = engine(server, tmp_path / "tokens", max_enqueued_tokens=200)
        assert len(answers(batched.answer(requests()))) == 50
        assert max(requests for requests, _ in batches_of(tmp_path / "tokens")) < 15


@pytest.mark.parametrize("told", [True, False], ids=["the server says it", "the settings say it"])
def test_the_queue_has_a_limit(tmp_path: Path, told: bool) -> None:
    """More is submitted as batches end; where only the server knows the limit, its refusal is learnt from."""
    with BatchServer(seconds=0.5, queue=150 if told else None) as server:
        limit = {} if told else {"max_enqueued_tokens": 300}
        got = answers(engine(server, tmp_path, max_requests=10 if told else 500, **limit).answer(map(asked, range(60))))
        assert len(got) == 60
        assert every(server) == {1}
        refused = server.statuses().count("failed")
        assert (refused > 0) == told
        assert refused < 20


def test_a_file_larger_than_the_queue(tmp_path: Path) -> None:
    """A file that never fits is cut smaller: to the limit that the server names, by halves where it names none."""
    with BatchServer(queue=90) as server:
        assert len(answers(engine(server, tmp_path / "named").answer(map(asked, range(60))))) == 60
        assert every(server) == {1}
    sizes: dict[int, int] = {}

    def fate(number: int) -> Fate:
        sizes[number] = server.files[f"file-{len(server.files) - 1}"].count(b"\n")
        full = Fate("failed", errors=(("token_limit_exceeded", "the queue is full"),))
        return full if sizes[number] > 20 else Fate()

    with BatchServer(fate=fate) as server:
        assert len(answers(engine(server, tmp_path / "silent").answer(map(asked, range(60))))) == 60
        assert every(server) == {1}
        assert list(sizes.values())[:2] == [60, 30]


def test_the_queue_is_full_of_others_batches(tmp_path: Path) -> None:
    """It is tried some times, and then said; nothing is lost."""
    full = Fate("failed", errors=(("token_limit_exceeded", "Limit: 500 enqueued tokens"),))
    with BatchServer(fate=lambda _: full) as server:
        with pytest.raises(ServiceError, match="is full, and not with batches of stage llm"):
            answers(engine(server, tmp_path).answer(map(asked, range(5))))
        assert len(server.batches) == 3
        server.fate = lambda _: Fate()
        assert len(answers(engine(server, tmp_path).answer(map(asked, range(5))))) == 5


# -- calls that fail -------------------------------------------------------------------------------------------

WEATHER = ("error", "rate limit", "page", "page in 200", "no json", "reset", "cut")


@pytest.mark.parametrize("call", ["upload", "create", "retrieve", "list", "download"])
def test_calls_that_fail(tmp_path: Path, call: str) -> None:
    """Whatever call fails, before or after the server did its work: all is answered, and each row billed once."""
    kinds = [*WEATHER, *(f"late {kind}" for kind in WEATHER)]
    if call == "download":  # a file may hold anything: see the torn ones
        kinds = [kind for kind in kinds if kind.removeprefix("late ") not in {"page in 200", "no json"}]
    # a batch that was made although its word was lost is not asked for again: hence no good call in between
    in_turn = [fault for kind in WEATHER for fault in (kind, f"late {kind}")]
    faults = in_turn if call == "create" else [fault for kind in kinds for fault in (kind, "")]
    with BatchServer() as server:
        if call == "list":
            server.spoil("create", *["late reset"] * len(kinds))
        server.spoil(call, *faults)
        patient = engine(server, tmp_path, max_requests=2, max_retries=6)
        got = answers(patient.answer(map(asked, range(2 * len(kinds)))))
        assert {reply.failure for reply in got.values()} == {""}
        assert every(server) == {1}
        assert len(server.billed) == 2 * len(kinds)
        assert len(server.batches) == len(batches_of(tmp_path)) >= len(kinds)
        assert not server.faults[call]


def others(server: BatchServer, count: int) -> None:
    """Make batches as other users of the account do."""
    server.seconds, seconds = 0.0, server.seconds
    with OpenAIClient(api_key=KEY, base_url=server.url) as client:
        body = {"model": "m", "messages": [{"role": "user", "content": "What else?"}]}
        line = {"custom_id": "1", "method": "POST", "url": "/v1/chat/completions", "body": body}
        file = client.files.create(file=json.dumps(line).encode(), purpose="batch")
        for _ in range(count):
            client.batches.create(input_file_id=file.id, endpoint="/v1/chat/completions", completion_window="24h")
    server.statuses()
    server.billed.clear()
    server.seconds = seconds


def test_creations_that_are_lost(tmp_path: Path) -> None:
    """A batch is never made twice, however often the service's word is lost, and many others are in the list."""
    with BatchServer(seconds=POLL) as server:
        others(server, 205)
        server.spoil("create", "late reset", "late error", "error", "late rate limit", "reset", "late page")
        got = answers(engine(server, tmp_path / "own", max_requests=4, max_retries=6).answer(map(asked, range(20))))
        assert len(got) == 20
        assert every(server) == {1}
        assert len(server.batches) == 205 + len(batches_of(tmp_path / "own"))
        assert server.calls["list"] >= 2 * 3 + 4  # what is not there is looked for on every page of 100


def test_a_service_that_hangs(tmp_path: Path) -> None:
    """A call that is never answered times out and is made again; a batch that may be there is looked for first."""
    with BatchServer() as server:
        for call in ("upload", "create", "retrieve", "download"):
            server.spoil(call, "hang")
        got = answers(engine(server, tmp_path, timeout=0.2).answer(map(asked, range(3))))
        assert len(got) == 3
        assert every(server) == {1}


@pytest.mark.parametrize(
    ("call", "kind", "words"),
    [
        ("upload", "gone", "no Batch API"),
        ("create", "gone", "no Batch API"),
        ("create", "rejected", "completion_window"),
        ("upload", "rejected", "completion_window"),
        ("upload", "key", "does not accept the key"),
        ("retrieve", "gone", "does not know the batch"),
        ("download", "gone", "no longer has the file"),
        ("retrieve", "key", "does not accept the key"),
    ],
)
def test_calls_that_fail_for_good(tmp_path: Path, call: str, kind: str, words: str) -> None:
    """What no repetition mends ends with the reason and what to do; when it is mended, all goes on and is paid once."""
    with BatchServer() as server:
        server.spoil(call, kind)
        with pytest.raises(ServiceError, match=words) as error:
            answers(engine(server, tmp_path).answer(map(asked, range(5))))
        assert error.value.hint
        assert KEY not in str(error.value)
        assert len(answers(engine(server, tmp_path).answer(map(asked, range(5))))) == 5
        assert every(server) == {1}


def test_a_server_without_batches(tmp_path: Path) -> None:
    """VLLM and others that answer 404 are told from a wrong model; the way out is named."""
    with FakeServer() as server, pytest.raises(ServiceError, match="no Batch API") as error:
        answers(engine(server, tmp_path).answer(map(asked, range(3))))
    assert "kind: openai" in error.value.hint


def test_nobody_there(tmp_path: Path) -> None:
    """An address where nobody answers ends at once."""
    with BatchServer() as server:
        url = server.url
    with pytest.raises(ServiceError, match="does not answer"):
        answers(engine(url, tmp_path).answer(map(asked, range(3))))


def test_a_service_that_never_makes_the_batch(tmp_path: Path) -> None:
    """An error at every creation is not tried for ever; nothing was made, nothing paid."""
    with BatchServer() as server:
        server.spoil("create", *["error"] * 50)
        with pytest.raises(ServiceError, match="does not take a batch"):
            answers(engine(server, tmp_path).answer(map(asked, range(3))))
        assert not server.batches
        assert server.calls["create"] == 3


# -- leaving and coming back -----------------------------------------------------------------------------------


def leave_with(batched: OpenAIBatchEngine, requests: Iterable[Request]) -> list[Reply]:
    """Ask without waiting; return what came."""
    batched.leave(at_once=False)
    return until(Detached, "under way", batched.answer(requests))


def test_leaving(tmp_path: Path) -> None:
    """Everything is submitted before it leaves; each coming back takes what is finished; at last it has all."""
    with BatchServer(seconds=60) as server:
        left = leave_with(engine(server, tmp_path, max_requests=10), map(asked, range(25)))
        assert (left, len(server.batches)) == ([], 3)
        assert leave_with(engine(server, tmp_path, max_requests=10), map(asked, range(25))) == []
        server.batches["batch_0001"].ends = 0.0
        assert len(leave_with(engine(server, tmp_path, max_requests=10), map(asked, range(25)))) == 10
        for batch in server.batches.values():
            batch.ends = 0.0
        batched = engine(server, tmp_path, max_requests=10)
        batched.leave(at_once=False)
        assert len(answers(batched.answer(map(asked, range(25))))) == 25  # nothing is left to leave
        assert len(server.batches) == 3
        assert every(server) == {1}


def test_leaving_a_full_queue(tmp_path: Path) -> None:
    """Requests for which there is no room are pulled all the same: so the stages before can end. They come again."""
    pulled: list[int] = []

    def requests() -> Iterator[Request]:
        for number in range(30):
            pulled.append(number)
            yield asked(number)

    with BatchServer(seconds=60) as server:
        limit = {"max_enqueued_tokens": 150, "max_requests": 5}
        assert leave_with(engine(server, tmp_path, **limit), requests()) == []
        assert (len(pulled), len(server.batches)) == (30, 1)
        for _ in range(5):
            for batch in server.batches.values():
                batch.ends = 0.0
            leave_with(engine(server, tmp_path, **limit), requests())
        server.seconds = 0.0
        for batch in server.batches.values():
            batch.ends = 0.0
        assert len(answers(engine(server, tmp_path, **limit).answer(requests()))) == 30
        assert every(server) == {1}


def leave_when(batched: OpenAIBatchEngine, ripe: Callable[[], bool]) -> threading.Thread:
    """Leave at once, from another thread, soon after something has come about."""

    def watch() -> None:
        while not ripe():
            time.sleep(0.01)
        time.sleep(0.3)
        batched.leave(at_once=True)

    thread = threading.Thread(target=watch)
    thread.start()
    return thread


def test_leaving_at_once(tmp_path: Path) -> None:
    """Another thread may end the wait; nothing more is begun, and what is under way is come back to."""
    with BatchServer(seconds=60) as server:
        batched = engine(server, tmp_path, poll_seconds=30)
        leaving = leave_when(batched, lambda: "in_progress" in server.statuses())
        with pytest.raises(Detached, match="1 batch is under way"):
            answers(batched.answer(map(asked, range(5))))
        leaving.join()
        server.batches["batch_0000"].ends = 0.0
        assert len(answers(engine(server, tmp_path).answer(map(asked, range(5))))) == 5
        assert every(server) == {1}


def test_left_before_the_batch_had_a_name(tmp_path: Path) -> None:
    """A batch whose creation nobody heard of is found by its token; if there is none, its requests are asked anew."""
    for made in ("late reset", "reset"):
        with BatchServer(seconds=60) as server:
            server.spoil("create", made)
            batched = engine(server, tmp_path / made, poll_seconds=30)
            leaving = leave_when(batched, lambda: bool(server.calls["create"]))
            with pytest.raises(Detached):
                answers(batched.answer(map(asked, range(5))))
            leaving.join()
            assert batches_of(tmp_path / made) == [(5, "creating")]
            server.seconds = 0.0
            for batch in server.batches.values():
                batch.ends = 0.0
            assert len(answers(engine(server, tmp_path / made).answer(map(asked, range(5))))) == 5
            assert len(server.batches) == 1
            assert every(server) == {1}


def test_other_requests_come_back(tmp_path: Path) -> None:
    """Of a batch under way only those who ask again get answers; the others are neither waited for nor asked anew."""
    with BatchServer(seconds=60, fate=lambda number: Fate("expired", 0.5) if number == 0 else Fate()) as server:
        leave_with(engine(server, tmp_path), map(asked, range(10)))
        for batch in server.batches.values():
            batch.ends = server.seconds = 0.0
        numbers = [3, 4, 7, 8, 50, 51]
        assert answers(engine(server, tmp_path).answer(map(asked, numbers))).keys() == set(numbers)
        assert every(server) == {1}
        assert sum(server.tried.values()) == 10 + 4  # 7, 8, 50 and 51


def test_requests_that_end_badly(tmp_path: Path) -> None:
    """An exception of the requests is raised, what was submitted goes on, and what was not is not submitted."""

    def requests() -> Iterator[Request]:
        yield from map(asked, range(13))
        raise KeyError("upstream")

    with BatchServer() as server:
        with pytest.raises(KeyError, match="upstream"):
            answers(engine(server, tmp_path, max_requests=5, poll_seconds=5).answer(requests()))
        assert [count for count, _ in batches_of(tmp_path)] == [5, 5]
        assert len(answers(engine(server, tmp_path).answer(map(asked, range(13))))) == 13
        assert every(server) == {1}


def test_asked_twice(tmp_path: Path) -> None:
    """One question from two askers is in a file once, and both get the answer."""
    with BatchServer() as server:
        replies = list(engine(server, tmp_path).answer([asked(1), asked(2), asked(1)]))
        assert sorted(reply.request.ticket for reply in replies) == [1, 1, 2]
        assert server.billed.total() == 2


def test_requests_that_cannot_be_sent(tmp_path: Path) -> None:
    """Half a character, or more than a file may hold, ends as the request's own failure."""
    odd = [asked(1, "\ud800"), asked(2, "word " * 1000), asked(3)]
    with BatchServer() as server:
        got = answers(engine(server, tmp_path, max_file_bytes=2000).answer(odd))
    assert [got[number].failure for number in (1, 2, 3)] == ["failed", "too long", ""]
    assert all(got[number].retryable for number in (1, 2))
    assert "surrogate" in got[1].detail


def test_nothing_to_ask(tmp_path: Path) -> None:
    """Without requests nothing is sent; without a key, or a place to remember, it says so."""
    with BatchServer() as server:
        assert list(engine(server, tmp_path).answer([])) == []
        assert not server.calls
        with pytest.raises(SettingsError, match="run directory"):
            list(engine(server, None).answer([asked(1)]))
        with pytest.raises(SettingsError, match="holds no key"):
            engine(server, tmp_path, api_key_env="NO_SUCH_KEY").answer([])


def test_the_key_is_in_no_file(tmp_path: Path) -> None:
    """The key reaches the server and no file; nor does the address of the server."""
    with BatchServer(fate=lambda number: Fate("expired", 0.5) if number == 0 else Fate()) as server:
        answers(engine(server, tmp_path).answer(map(asked, range(6))))
        assert server.authorizations == {f"Bearer {KEY}"}
        content = b"".join(path.read_bytes() for path in tmp_path.rglob("*") if path.is_file())
    assert KEY.encode() not in content
    assert b"127.0.0.1" not in content


def test_request_files_go_when_nobody_needs_them(tmp_path: Path) -> None:
    """Of batches that have ended only what came back stays."""
    with BatchServer(fate=lambda number: Fate("expired", 0.5) if number == 0 else Fate()) as server:
        answers(engine(server, tmp_path, max_requests=6).answer(map(asked, range(12))))
    assert not list(tmp_path.glob("*.requests.jsonl"))
    assert len(list(tmp_path.glob("*.output.jsonl"))) == 3
    assert not list(tmp_path.glob("*.tmp"))


def test_memory_per_request(tmp_path: Path, process: str) -> None:
    """A request that waits takes little memory, however long its prompt; and files are sent and fetched in pieces."""
    count, words = 1000, "word " * 4000  # 20 kB each

    def requests() -> Iterator[Request]:
        for number in range(count):
            yield asked(number, words)

    leave_with(engine(process, tmp_path / "warm"), [asked(1)])
    tracemalloc.start()
    leave_with(engine(process, tmp_path / "run", max_requests=250, timeout=60), requests())
    _, peak = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert peak < count * 2_000 + 2_000_000


def test_settings() -> None:
    """Limits beyond the service's are refused, and so are fields of the other engine."""
    for wrong in ({"max_requests": 50_001}, {"max_file_bytes": 300_000_000}, {"concurrency": 4}, {"poll_seconds": 0}):
        with pytest.raises(ValueError, match=next(iter(wrong))):
            OpenAIBatch.model_validate({"kind": "openai_batch", "model": "m"} | wrong)
    same = {"model": "m", "temperature": 0.5, "revision": "r", "extra_body": {"x": 1}, "seed": 3}
    one = OpenAI.model_validate(same)
    other = OpenAIBatch.model_validate(same | {"kind": "openai_batch"})
    assert (one.answering, one.sampling) == (other.answering, other.sampling)
    assert json.dumps(one.answering)
    assert set(NOT_NOW) >= set(WEATHER)
