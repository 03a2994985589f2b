"""Whole runs over a real socket against a server that misbehaves: nothing lost, nothing made up, nothing hangs."""

import csv
import json
import os
import queue
import subprocess
import sys
import threading
import time
from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path
from typing import Any

import pytest
from rows import training_file
from server import TRANSIENT, FakeServer, Plan, content_key

from relabel import config, pipeline, sources, stages
from relabel.building import open_engine
from relabel.engines.remembering import Remembering
from relabel.errors import ServiceError, SettingsError
from relabel.judges.llm import LLMJudge
from relabel.pipeline import Summary
from relabel.prompts import load_template
from relabel.protocols import Judge, Reply, Request
from relabel.records import Case, Judgment
from relabel.store import Store

KEY = "sk-quite-secret-0123456789"
KINDS = (
    "rate limit ms", "error", "page", "hang", "cut", "reset",
    "refusal", "length", "broken", "empty", "no json",
)  # fmt: skip
REASONS = {
    "refusal": "refused", "length": "cut off", "broken": "unreadable", "empty": "failed", "no json": "failed",
    **dict.fromkeys(TRANSIENT, "failed"),
}  # fmt: skip
"""What stands in the judgment when the fault does not go away."""

REFUSALS = ("rate limit ms",)
"""Faults that are no attempt: they cost time and nothing else."""

PAID = ("refusal", "length", "broken")
"""Faults that are answers: a second run does not pay for them again."""

pytestmark = pytest.mark.usefixtures("tidy")


@pytest.fixture(autouse=True)
def key(monkeypatch: pytest.MonkeyPatch) -> None:
    """Give every test a key that can be searched for."""
    monkeypatch.setenv("OPENAI_API_KEY", KEY)
    monkeypatch.delenv("OPENAI_BASE_URL", raising=False)


def cascade(url: str, *prompts: str, **engine: Any) -> config.Settings:
    """Return a cascade of LLM stages, one for each prompt, that gives up soon."""
    quick = {"kind": "openai", "model": "fake", "base_url": url, "timeout": 1.0, "max_retries": 1, "concurrency": 16}
    quick["api_key_env"] = "OPENAI_API_KEY"
    told = [
        {"judge": "llm", "name": f"llm{number}", "prompt": prompt, "group_size": 4, "engine": quick | engine}
        for number, prompt in enumerate(prompts)
    ]
    return config.parse(json.dumps({"stages": told}))


def run(source: Path, settings: config.Settings, folder: Path, **more: Any) -> Summary:
    """Run a cascade."""
    return pipeline.run(sources.open_source(source), settings, folder, **more)


def replies_in(folder: Path) -> int:
    """Count the replies in a run's store."""
    with Store(folder) as store:
        return int(store._reader.execute("SELECT count(*) FROM replies").fetchone()[0])


def rows_of(path: Path) -> dict[str, Any]:
    """Read a training file by query id."""
    return {row["query_id"]: row for row in map(json.loads, path.read_text("utf-8").splitlines())}


def what_to_expect(folder: Path, settings: config.Settings, plan: Plan) -> dict[tuple[str, str], str]:
    """Return the fault that meets each pair (query id, candidate id), found from the prompts that are sent."""
    [stage] = settings.stages
    assert isinstance(stage, config.LLM)
    engine = open_engine(stage.engine, "llm0")
    judge = LLMJudge("llm0", load_template(stage.prompt), engine, group_size=stage.group_size)
    faults: dict[tuple[str, str], str] = {}
    with pipeline.open_run(folder) as (told, store):
        for one, case in pipeline.concluded(told, store, lambda _: None):
            for group in judge.groups(case):
                messages = judge.request(case, group).messages
                sent = content_key([{"role": turn.role, "content": turn.content} for turn in messages])
                faults |= {(one.example.id, pair.candidate.id): plan.fault(sent, 1) for pair in group}
    return faults


@pytest.mark.slow
@pytest.mark.parametrize(("prompt", "rows"), [("rlhn", 90), ("relevance", 35)], ids=["group", "pair"])
def test_thirty_percent_go_wrong(tmp_path: Path, prompt: str, rows: int) -> None:
    """Every pair is judged, or listed as none with its reason and left alone; a second run asks what is unanswered."""
    source = training_file(tmp_path / "train.jsonl", rows, twins=False)
    plan = Plan(0.3, KINDS, seed=2, clears_after=2)  # two attempts a run: transient faults go away in the second run
    begun = time.monotonic()
    with FakeServer(plan=plan) as server:
        settings = cascade(server.url, prompt)
        done = run(source, settings, tmp_path / "run")
        assert time.monotonic() - begun < 60
        faults = what_to_expect(tmp_path / "run", settings, plan)
        assert {*faults.values()} == {"", *KINDS}
        stay = {pair: kind for pair, kind in faults.items() if kind and kind not in REFUSALS}
        check_listed(done, source, {pair: REASONS[kind] for pair, kind in stay.items()})

        first = dict(server.asked)
        done = run(source, settings, tmp_path / "run")
        again = {content for content, times in server.asked.items() if times > first[content]}
        assert again == {content for content in first if plan.fault(content, 1) not in ("", *PAID, *REFUSALS)}
        lasting = {pair: REASONS[kind] for pair, kind in faults.items() if kind and kind not in TRANSIENT}
        check_listed(done, source, lasting)


def check_listed(done: Summary, source: Path, expected: Mapping[tuple[str, str], str]) -> None:
    """Check that these pairs, and no others, have no word, say why, and were not touched; and that all adds up."""
    [stage] = done.statistics["stages"]
    nones = sum(stage["none"].values())
    pairs = sum(len(row["negative_passages"]) for row in rows_of(source).values())
    assert stage["asked"] == pairs == stage["relevant"] + stage["partial"] + stage["irrelevant"] + nones
    assert nones == done.undecided == len(expected) > 0
    rows, passages = done.statistics["rows"], done.statistics["passages"]
    assert rows["in"] == rows["written"] + rows["removed"] + rows["rejected"]
    assert passages["in"] == pairs == sum(passages.values()) - pairs

    with done.files["flagged"].open(encoding="utf-8-sig", newline="") as lines:
        listed = [row for row in csv.DictReader(lines) if row["verdict"] == "undecided"]
    assert {(row["query_id"], row["candidate_id"]): row["evidence"] for row in listed} == expected
    assert {row["action"] for row in listed} == {"ask"}
    assert all(row["llm0_label"] == "" and row["llm0_reason"].startswith(row["evidence"]) for row in listed)

    before, after = rows_of(source), rows_of(done.files["cleaned"])
    for query, candidate in expected:
        [passage] = [one for one in before[query]["negative_passages"] if one["docid"] == candidate]
        assert passage in after[query]["negative_passages"]
    changed = [json.loads(line) for line in done.files["changes"].read_text("utf-8").splitlines()]
    assert not {(change["example_id"], change["passage_id"]) for change in changed} & expected.keys()


def test_faults_that_go_away(tmp_path: Path) -> None:
    """With retries enough, the results are those of a server without faults, byte for byte."""
    source = training_file(tmp_path / "train.jsonl", 60)
    with FakeServer() as server:
        done = run(source, cascade(server.url, "rlhn"), tmp_path / "calm")
        calm = {name: path.read_bytes() for name, path in done.files.items()}
    kinds = ("rate limit ms", "error", "page", "hang", "cut", "reset")
    with FakeServer(plan=Plan(0.3, kinds, seed=4)) as server:
        done = run(source, cascade(server.url, "rlhn", max_retries=4), tmp_path / "stormy")
        assert max(server.asked.values()) == 2
    assert {name: path.read_bytes() for name, path in done.files.items()} == calm


def test_no_server(tmp_path: Path) -> None:
    """An address where nobody answers ends with 3, what to do, no traceback and nothing that looks finished."""
    source = training_file(tmp_path / "train.jsonl", 20)
    with FakeServer() as server:
        url = server.url
    with pytest.raises(ServiceError, match="does not answer") as error:
        run(source, cascade(url, "rlhn", "relevance"), tmp_path / "run")
    assert (error.value.exit_code, url in error.value.hint) == (3, True)

    chosen = tmp_path / "cascade.yaml"
    chosen.write_text(cascade(url, "relevance").model_dump_json(), "utf-8")
    command = [sys.executable, "-m", "relabel", "run", str(source), "-c", str(chosen), "-o", str(tmp_path / "run")]
    done = subprocess.run(command, capture_output=True, text=True, timeout=60, check=False, env=dict(os.environ))
    assert done.returncode == 3
    assert "does not answer" in done.stderr
    assert "Traceback" not in done.stderr
    left = {path.name for path in (tmp_path / "run").iterdir()}
    assert left <= {"judgments.sqlite", "judgments.sqlite-wal", "judgments.sqlite-shm", "run.lock", "cache"}


@pytest.mark.parametrize("kind", ["key", "forbidden", "no credit", "payment", "model"])
def test_hopeless(tmp_path: Path, kind: str) -> None:
    """What every request would suffer ends the run at once; the key stands in no file and in no message."""
    source = training_file(tmp_path / "train.jsonl", 40)
    with FakeServer(plan=Plan(1.0, (kind,), clears_after=99), latency=0.02) as server:
        with pytest.raises(ServiceError) as error:
            run(source, cascade(server.url, "relevance", "rlhn"), tmp_path / "run")
        assert server.total <= 3 * 16  # those in flight, of some two hundred
    assert KEY not in str(error.value)
    assert error.value.hint
    assert not (tmp_path / "run" / "manifest.json").exists()
    assert not (tmp_path / "run" / "cleaned.jsonl").exists()
    search_for_the_key(tmp_path / "run")


def test_every_request_is_rejected(tmp_path: Path) -> None:
    """A setting that the server does not take ends with 3 and its words, not as a finished run of undecided pairs.

    Nothing of it is kept: when the server is mended, the same command asks again.
    """
    source = training_file(tmp_path / "train.jsonl", 40)
    with FakeServer(plan=Plan(1.0, ("bad fields",)), latency=0.02) as server:
        settings = cascade(server.url, "relevance")
        with pytest.raises(ServiceError, match="HTTP 422: Input too big") as error:
            run(source, settings, tmp_path / "run")
        assert (error.value.exit_code, bool(error.value.hint)) == (3, True)
        assert server.total <= 3 * 16
        assert not (tmp_path / "run" / "manifest.json").exists()
        assert replies_in(tmp_path / "run") == 0
        server.plan = Plan()
        assert run(source, settings, tmp_path / "run").undecided == 0


def test_some_requests_are_rejected_for_ever(tmp_path: Path) -> None:
    """Rejected requests are asked again by the next run, which is not stopped when they are all that is left."""
    source = training_file(tmp_path / "train.jsonl", 90)
    with FakeServer(plan=Plan(0.2, ("bad fields",))) as server:
        settings = cascade(server.url, "rlhn")
        done = run(source, settings, tmp_path / "run")
        first = server.total
        again = run(source, settings, tmp_path / "run")
        assert server.total - first >= 10
        assert again.undecided == done.undecided > 0
        server.plan = Plan()
        assert run(source, settings, tmp_path / "run").undecided == 0


@pytest.mark.parametrize("kind", ["no usage", "usage", ""])
def test_unknown_usage_is_unknown_cost(tmp_path: Path, kind: str) -> None:
    """When a server does not count tokens a run's cost is unknown, not $0; time is known all the same."""
    source = training_file(tmp_path / "train.jsonl", 10)
    price = {"input": 1.0, "output": 1.0}
    with FakeServer(plan=Plan(0.5 if kind else 0.0, (kind,))) as server:
        spent = run(source, cascade(server.url, "rlhn", price=price), tmp_path / "run").spending["llm0"]
        assert (spent["without_usage"] > 0, spent["usd"] is None) == (bool(kind), bool(kind))
        assert spent["seconds"] > 0
        assert spent["without_usage"] < spent["asked"]
        spent = run(source, cascade(server.url, "rlhn", price=price), tmp_path / "run").spending["llm0"]
    assert (spent["asked"], spent["seconds"], spent["usd"]) == (0, 0, 0)


def test_a_server_that_quotes_the_key(tmp_path: Path) -> None:
    """Errors that repeat the key leave none of it in results, store or manifest."""
    source = training_file(tmp_path / "train.jsonl", 30)
    with FakeServer(plan=Plan(0.3, ("echo",))) as server:
        done = run(source, cascade(server.url, "rlhn"), tmp_path / "run")
    assert done.undecided > 0
    assert b"Cannot read header Bearer ***" in (tmp_path / "run" / "judgments.sqlite").read_bytes()
    search_for_the_key(tmp_path / "run")


def search_for_the_key(folder: Path) -> None:
    """Look at every byte of a run directory."""
    files = [path for path in folder.rglob("*") if path.is_file()]
    assert folder / "judgments.sqlite" in files
    assert [path for path in files if KEY.encode() in path.read_bytes()] == []


def test_the_server_goes_away(tmp_path: Path) -> None:
    """Half-way the server is gone: the run stops and says so; when it is back, only what is missing is asked."""
    source = training_file(tmp_path / "train.jsonl", 40)
    with FakeServer() as server:
        whole = run(source, cascade(server.url, "relevance", "rlhn"), tmp_path / "whole")
        contents = len(server.asked)

    server = FakeServer(latency=0.02)
    server.__enter__()
    port = int(server.url.split(":")[2].split("/")[0])
    over = threading.Lock()

    def watch(*_: object) -> None:
        if server.total > contents // 2 and over.acquire(blocking=False):
            server.__exit__()

    settings = cascade(server.url, "relevance", "rlhn")
    with pytest.raises(ServiceError, match="does not answer"):
        run(source, settings, tmp_path / "run", watch=watch)
    assert not (tmp_path / "run" / "manifest.json").exists()
    stored = replies_in(tmp_path / "run")
    assert stored >= contents // 2 - 2 * 16  # all but those in flight at the two stages

    with FakeServer(port=port) as back:
        done = run(source, settings, tmp_path / "run")
        assert back.total == contents - stored
    assert [path.read_bytes() for path in done.files.values()] == [path.read_bytes() for path in whole.files.values()]


# -- errors of others: what was answered is kept, and nobody waits for ever --------------------------------------


class Breaks:
    """A judge that has no opinion, takes its time, and breaks at some case."""

    def __init__(self, at: int, pause: float = 0.0) -> None:
        self._at, self._pause = at, pause

    def judge(self, cases: Iterable[Case]) -> Iterator[Case]:
        """Pass cases on until then."""
        for seen, case in enumerate(cases):
            time.sleep(self._pause)
            if seen == self._at:
                raise LookupError("broken")
            yield case.judged((Judgment(None, "no opinion"),) * len(case.pairs))


def between(own: str, *others: str, url: str, **engine: Any) -> config.Settings:
    """Return LLM stages with a stage of our own ("before" or "after") at one end."""
    llm = cascade(url, *others, **engine).model_dump(mode="json")["stages"]
    ours = {"judge": "rules", "name": own}
    told = [ours, *llm] if own == "before" else [*llm, ours]
    for stage in told:
        stage["final"] = []
    return config.parse(json.dumps({"stages": told}))


@pytest.mark.parametrize("own", ["before", "after"])
def test_another_stage_breaks(tmp_path: Path, own: str) -> None:
    """When a neighbour breaks, before or after, the run ends with its error, and every reply that came is kept."""
    source = training_file(tmp_path / "train.jsonl", 700, negatives=2)
    judges: dict[str, Judge] = {own: Breaks(at=300, pause=0.001 if own == "before" else 0.005)}
    with FakeServer() as server:
        with pytest.raises(LookupError, match="broken"):
            run(source, between(own, "rlhn", url=server.url), tmp_path / "run", judges=judges)
        asked = server.total
    assert asked - 16 <= replies_in(tmp_path / "run") <= asked  # in flight: at most one at each connection


def test_a_broken_neighbour_does_not_wait_for_a_hanging_server(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A server that says nothing delays the end of a stopped run by the time of grace, not by its time-outs."""
    monkeypatch.setattr(stages, "GRACE", 0.5)
    source = training_file(tmp_path / "train.jsonl", 60)
    with FakeServer(plan=Plan(1.0, ("hang",), clears_after=99)) as server:
        settings = between("before", "rlhn", url=server.url, timeout=5.0, max_retries=0, concurrency=2)
        begun = time.monotonic()
        with pytest.raises(LookupError):
            run(source, settings, tmp_path / "run", judges={"before": Breaks(at=30)})
        assert time.monotonic() - begun < 4
        for thread in [thread for thread in threading.enumerate() if thread.name.startswith("relabel-")]:
            thread.join(30)  # when the server has timed out, they end by themselves


def test_no_key(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A missing key is found before anything is asked, and said; the run does not hang."""
    monkeypatch.delenv("OPENAI_API_KEY")
    source = training_file(tmp_path / "train.jsonl", 5)
    settings = config.parse(json.dumps({"stages": [{"judge": "llm", "engine": {"kind": "openai", "model": "m"}}]}))
    with pytest.raises(SettingsError, match="OPENAI_API_KEY"):
        run(source, settings, tmp_path / "run")


class Hasty:
    """An engine that pulls everything before it answers anything."""

    identity: Mapping[str, Any] = {"engine": "hasty"}

    def __init__(self) -> None:
        self.answered = 0

    def answer(self, requests: Iterable[Request]) -> Iterator[Reply]:
        """Answer all at once."""
        for request in list(requests):
            self.answered += 1
            yield Reply(request, "Yes")


def test_a_slow_consumer_delays_no_reply(tmp_path: Path) -> None:
    """Replies are stored as they come, also when the next stage has not got to them: they are paid for."""
    engine = Hasty()
    with Store(tmp_path / "run") as store:
        requests = [Request(str(number), (), ticket=number) for number in range(200)]
        replies = Remembering(engine, store, lookahead=4).answer(requests)
        next(replies)
        ends = time.monotonic() + 10
        while engine.answered < len(requests) and time.monotonic() < ends:
            time.sleep(0.01)
        store.flush()
        assert all(store.reply_to(request) for request in requests)
        replies.close()  # type: ignore[attr-defined]


def test_the_same_question_a_moment_later(tmp_path: Path) -> None:
    """A question that was answered a moment ago, not yet committed, is not paid for again."""
    seen: queue.Queue[None] = queue.Queue()

    def requests() -> Iterator[Request]:
        yield Request("same", (), ticket=1)
        seen.get()  # the first reply has come
        yield Request("same", (), ticket=2)

    class Counting:
        identity: Mapping[str, Any] = {}
        asked = 0

        def answer(self, requests: Iterable[Request]) -> Iterator[Reply]:
            for request in requests:
                self.asked += 1
                yield Reply(request, "Yes")

    engine = Counting()
    with Store(tmp_path / "run") as store:
        tickets = []
        for reply in Remembering(engine, store).answer(requests()):
            tickets.append(reply.request.ticket)
            seen.put(None)
    assert (tickets, engine.asked) == ([1, 2], 1)
