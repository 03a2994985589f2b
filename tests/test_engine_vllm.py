"""What of the vLLM stage needs no vLLM: its settings, its arithmetic, its messages."""

import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path

import pytest

from relabel import config, engine_settings
from relabel.engines.vllm import (
    CHOICE_TOKENS,
    ENOUGH,
    Doubt,
    VLLMEngine,
    conversation,
    read_answer,
    reply_room,
    sampling,
)
from relabel.engines.vllm_loading import FRAME, Limits, arguments, explained
from relabel.errors import MissingPart, RelabelError, ServiceError, SettingsError
from relabel.protocols import Message, Reply, Request, Usage


def settings(**changed: object) -> engine_settings.VLLM:
    """Return settings of a model."""
    return engine_settings.VLLM.model_validate({"kind": "vllm", "model": "org/model", **changed})


def ask(text: str = "Is it?", choices: tuple[str, ...] = (), schema: dict[str, object] | None = None) -> Request:
    """Return a question."""
    return Request("00", (Message("user", text),), choices, schema)


def test_what_changes_no_answer_changes_no_address() -> None:
    """Memory, parallelism and length are no part of an address; model, revision, dtype and sampling are."""
    known = VLLMEngine(settings()).identity
    for same in (
        {"tensor_parallel_size": 4},
        {"gpu_memory_utilization": 0.5},
        {"max_model_len": 4096, "max_tokens": 2048},
    ):
        assert VLLMEngine(settings(**same)).identity == known
    for other in ({"revision": "v2"}, {"dtype": "float32"}, {"temperature": 0.7}, {"model": "other"}):
        assert VLLMEngine(settings(**other)).identity != known


def test_a_chat_template_is_known_by_what_it_says(tmp_path: Path) -> None:
    """The same template in another place gives the same address; a missing one is refused."""
    for name, text in (("a", "{{ 1 }}"), ("b", "{{ 1 }}"), ("c", "{{ 2 }}")):
        (tmp_path / name).write_text(text, "utf-8")
    a, b, c = (VLLMEngine(settings(chat_template=str(tmp_path / name))).identity for name in "abc")
    assert a == b != c
    with pytest.raises(SettingsError, match="cannot be read"):
        VLLMEngine(settings(chat_template=str(tmp_path / "nowhere")))


@pytest.mark.parametrize(
    ("choices", "room"),
    [
        (("Yes", "No"), 1),
        (("0", "1", "2", "3"), 1),
        (("relevant", "rather"), CHOICE_TOKENS),
        (("1", "10"), CHOICE_TOKENS),
        ((), 99),
    ],
)
def test_a_choice_needs_one_token_where_its_first_sign_tells_it(choices: tuple[str, ...], room: int) -> None:
    """One token for choices that begin differently, more for others, `max_tokens` for free text."""
    chosen = settings(max_tokens=99)
    assert reply_room(ask(choices=choices), chosen) == room
    assert sampling(ask(choices=choices), chosen)["max_tokens"] == room


def test_sampling_goes_by_vllms_names() -> None:
    """Greedy by default, without dice; a choice and a schema become structured outputs."""
    assert sampling(ask(), settings()) == {"temperature": 0.0, "max_tokens": 2048}
    warm = sampling(ask(schema={"type": "object"}), settings(temperature=0.5, seed=7, top_p=0.9))
    grammar = {"json": {"type": "object"}}
    assert warm == {
        "temperature": 0.5, "seed": 7, "top_p": 0.9, "max_tokens": 2048, "structured_outputs": grammar,
    }  # fmt: skip
    choice = sampling(ask(choices=("Yes", "No")), settings())
    assert choice["structured_outputs"] == {"choice": ["Yes", "No"]}
    assert choice["logprobs"] == 20


Token = tuple[str, float, Sequence[tuple[str, float]]]


def test_the_choice_whose_spellings_weigh_most_is_the_answer() -> None:
    """The best single token is "N", yet "Y", "Ye" and "Yes" together are more probable than "N" and "No"."""
    top = [("N", -1.539), ("Y", -1.553), ("No", -1.575), ("Ye", -1.586), ("Yes", -1.821)]
    reply = read_answer(ask(choices=("Yes", "No")), "N", "length", [("N", -1.539, top)], Usage(9, 1), "m")
    assert (reply.text, reply.failure, reply.finish_reason) == ("Yes", "", "stop")
    assert reply.probabilities["Yes"] == pytest.approx(0.578, abs=0.001)
    assert sum(reply.probabilities.values()) == pytest.approx(1, abs=0.001)


def test_free_text_at_the_limit_is_cut_off() -> None:
    """It keeps what there is; a choice that cannot be told from its first token is cut off too."""
    for request in (ask(), ask(choices=("rather", "relevant"))):
        reply = read_answer(request, "r", "length", [("r", -0.1, [("r", -0.1)])], Usage(9, 1), "m")
        assert (reply.text, reply.failure) == ("r", "cut off")


def test_half_a_character_does_not_reach_the_tokenizer() -> None:
    """A lone surrogate becomes a question mark; everything else stays."""
    assert conversation(ask("é \ud800 日本")) == [{"role": "user", "content": "é ? 日本"}]


def test_a_short_prompt_is_known_to_fit_without_a_tokenizer() -> None:
    """A token stands for a byte at least: nothing is loaded for prompts that are short in bytes."""
    limits = Limits(settings(max_model_len=4096, max_tokens=64), None)
    assert limits.excess([{"role": "user", "content": "é" * 500}], 64) == 1000 + FRAME - (4096 - 64)


def test_arguments_are_vllms_and_can_be_overruled() -> None:
    """What is not set is vLLM's own default; prefix caching and statistics are on; `extra` wins."""
    given = arguments(settings(gpu_memory_utilization=0.8, extra={"enable_prefix_caching": False, "max_logprobs": 30}))
    assert (given["model"], given["gpu_memory_utilization"], given["max_logprobs"]) == ("org/model", 0.8, 30)
    assert (given["enable_prefix_caching"], given["disable_log_stats"]) == (False, False)
    assert not {"max_model_len", "revision", "temperature", "max_tokens", "kind", "too_long"} & set(given)


@pytest.mark.parametrize(
    ("line", "message"),
    [
        (
            "stages: [{judge: llm, engine: {kind: vllm, model: m, gpu_memory: 0.9}}]",
            "gpu_memory: there is no such field",
        ),
        ("stages: [{judge: llm, engine: {kind: vllm, model: m, dtype: int3}}]", "dtype: "),
        ("stages: [{judge: llm, engine: {kind: vllm}}]", "model: "),
        ("stages: [{judge: llm, engine: {kind: vllm, model: m, data_parallel_size: 2}}]", "ray: {replicas: N}"),
        ("stages: [{judge: crossencoder, model: m, engine_args: {dtype: half}}]", "are for `backend: vllm`"),
        (
            "stages: [{judge: crossencoder, model: m, backend: vllm, engine_args: {model: n}}]",
            "engine_args cannot hold model",
        ),
        (
            "stages: [{judge: llm, engine: {kind: vllm, model: m, gpu_memory_utilization: 1.5}}]",
            "gpu_memory_utilization: ",
        ),
    ],
)
def test_a_wrong_setting_is_refused_with_its_line(line: str, message: str) -> None:
    """Unknown names, values out of range and what cannot work together stop the config."""
    with pytest.raises(SettingsError) as raised:
        config.parse(f"# a comment\n{line}\n")
    assert "line 2" in str(raised.value)
    assert message in str(raised.value)


def test_a_model_beside_the_config_is_found_wherever_one_stands(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A folder is taken relative to the config and made absolute; a name on the hub stays what it is."""
    (tmp_path / "models" / "mine").mkdir(parents=True)
    text = "stages: [{judge: llm, engine: {kind: vllm, model: %s}}]\n"
    for name, found in (("models/mine", str(tmp_path / "models" / "mine")), ("org/model", "org/model")):
        (tmp_path / "cascade.yaml").write_text(text % name, "utf-8")
        for place in (tmp_path, tmp_path / "models"):
            monkeypatch.chdir(place)
            (stage,) = config.load(tmp_path / "cascade.yaml").stages
            assert isinstance(stage, config.LLM)
            assert isinstance(stage.engine, engine_settings.VLLM)
            assert stage.engine.model == found


GPU, ROOM, FOUND = "built for a GPU", "does not fit", "cannot be found"
CAUSES: list[tuple[type[Exception], str, str]] = [
    (RuntimeError, "Failed to infer device type, please set the environment variable", GPU),
    (RuntimeError, "No CUDA GPUs are available", GPU),
    (ValueError, "(3.1/79.2 GiB) on startup is less than desired GPU memory utilization (0.92, 72.8 GiB).", ROOM),
    (RuntimeError, "CUDA out of memory. Tried to allocate 2.00 GiB", ROOM),
    (ValueError, "16.0 GiB KV cache is needed, which is larger than the available KV cache memory (8.0 GiB)", ROOM),
    (OSError, "org/model is not a local folder and is not a valid model identifier listed on", FOUND),
    (
        ValueError,
        "User-specified max_model_len (9000) is greater than the derived max_model_len",
        "more than org/model",
    ),
    (ValueError, "Model architectures ['FooModel'] are not supported for now.", "cannot serve"),
    (RuntimeError, "start a new process before the\n  current process has finished its bootstrapping", "your script"),
    (KeyError, "something nobody has seen", "does not start"),
]


@pytest.mark.parametrize(("kind", "words", "message"), CAUSES, ids=[words[:30] for _, words, _ in CAUSES])
def test_what_vllm_says_becomes_one_message_with_a_remedy(kind: type[Exception], words: str, message: str) -> None:
    """The words are vLLM's (0.32) and PyTorch's own; the message names the model's trouble and what to change."""
    expected = ServiceError if kind is KeyError else SettingsError
    with pytest.raises(expected, match=message) as raised, explained(settings(), None):
        raise kind(words)
    assert raised.value.hint
    assert len(str(raised.value).splitlines()) == 2


def test_the_cause_is_looked_up_in_the_log_of_the_process_that_died(tmp_path: Path) -> None:
    """The error here says no more than "see above"; what the log held before this start is not taken for its cause."""
    log = tmp_path / "vllm.log"
    log.write_text("torch.OutOfMemoryError: CUDA out of memory of last week\n", "utf-8")

    def load() -> None:
        with log.open("a", encoding="utf-8") as file:
            file.write("Traceback\n  File x\nKeyError: 'lm_head'\n")
        raise RuntimeError("Engine core initialization failed. See root cause above.")

    with pytest.raises(RelabelError, match="KeyError: 'lm_head'") as raised, explained(settings(), log):
        load()
    assert str(log) in raised.value.hint


def test_the_words_of_new_processes_go_to_the_log_and_ours_to_the_screen(tmp_path: Path) -> None:
    """While a model loads, what a child process says lands in the file; what this process shows stays on stderr."""
    log = tmp_path / "cache" / "vllm.log"
    code = f"""
import subprocess, sys
from pathlib import Path
from relabel.engines.vllm_loading import aside
with aside(Path({str(log)!r}), 1, 2):
    subprocess.run([sys.executable, "-c", "import sys; print('child out'); print('child err', file=sys.stderr)"])
    print("our bar", file=sys.stderr)
print("after", file=sys.stderr)
"""
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert sorted(log.read_text("utf-8").split("\n")) == ["", "child err", "child out"]
    assert (done.stdout, done.stderr.splitlines()) == ("", ["our bar", "after"])


def test_a_model_that_refuses_every_question_ends_the_run() -> None:
    """After twenty refusals and nothing else the settings are wrong; one answer among them and they are not."""
    refused = Reply(ask(), None, "failed", "no chat template", retryable=True)
    doubt = Doubt(settings())
    for _ in range(ENOUGH - 1):
        doubt.hear(refused)
    with pytest.raises(SettingsError, match="no chat template"):
        doubt.hear(refused)
    trusting = Doubt(settings())
    trusting.hear(Reply(ask(), "Yes"))
    for _ in range(2 * ENOUGH):
        trusting.hear(refused)


def test_a_model_in_a_folder_is_known_by_what_is_in_it(tmp_path: Path) -> None:
    """Another place, the same model; other weights, another: no reply of the old one is taken for the new one's."""
    for name in ("a/mine", "b/mine"):
        folder = tmp_path / name
        folder.mkdir(parents=True)
        (folder / "config.json").write_text("{}", "utf-8")
        (folder / "model.safetensors").write_bytes(b"0" * 3_000_000)
    first, second = (config.known_model(str(tmp_path / name)) for name in ("a/mine", "b/mine"))
    assert first == second
    assert first.startswith("mine@")
    with (tmp_path / "b/mine/model.safetensors").open("r+b") as file:
        file.seek(-5, 2)
        file.write(b"1")
    assert config.known_model(str(tmp_path / "b/mine")) != first
    assert config.known_model("org/model") == "org/model"


def test_without_vllm_one_message_names_the_extra() -> None:
    """A machine without vLLM learns what to type, and `import relabel` needs no vLLM."""
    code = """
import sys
from importlib.abc import MetaPathFinder
sys.modules["vllm"] = None
import relabel
from relabel import engine_settings
from relabel.engines import vllm, vllm_loading
vllm_loading.find_spec = lambda name: None
from relabel.errors import MissingPart
try:
    vllm.VLLMEngine(engine_settings.VLLM(kind="vllm", model="m")).answer([])
except MissingPart as error:
    print(error)
"""
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert "pip install 'relabel[vllm]'" in done.stdout
    assert issubclass(MissingPart, RelabelError)
