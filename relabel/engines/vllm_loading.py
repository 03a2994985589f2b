"""Loading a model in vLLM: its arguments, how much it reads, and what went wrong in words that say what to change."""

import os
import re
import sys
import tempfile
import threading
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from difflib import get_close_matches
from importlib.util import find_spec
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final, Literal

from relabel import engine_settings
from relabel.errors import MissingPart, RelabelError, ServiceError, SettingsError
from relabel.quoting import Quoting

if TYPE_CHECKING:
    from vllm import LLM

Runner = Literal["generate", "pooling"]

_OWN: Final = frozenset({
    "kind", "chat_template", "chat_template_kwargs", "temperature", "top_p", "max_tokens", "too_long", "extra",
})  # fmt: skip
"""Settings that are no arguments of vLLM's engine."""

FRAME: Final = 1024
"""More tokens than any chat template adds to the messages."""

QUIET: Final = {
    "VLLM_LOGGING_LEVEL": "ERROR",
    "VLLM_LOGGING_STREAM": "ext://sys.stderr",
    "VLLM_NO_USAGE_STATS": "1",
    "VLLM_WORKER_MULTIPROC_METHOD": "spawn",
}
"""Environment that we set where the user has not. Spawned, not forked: this process has threads, which forks lose."""


_ONE_AT_A_TIME: Final = threading.RLock()
"""Two threads that import vLLM at once find half of it, and two models that load at once take each other's memory."""


def chat_template(settings: engine_settings.VLLM) -> str | None:
    """Read the chat template that stands in for the model's own; None = the model's own."""
    if settings.chat_template is None:
        return None
    try:
        return Path(settings.chat_template).read_text("utf-8")
    except (OSError, UnicodeDecodeError) as error:
        raise SettingsError(
            f"the chat template {settings.chat_template} cannot be read: {error}", hint="correct `chat_template`"
        ) from error


def require(settings: engine_settings.VLLM) -> None:
    """See to what can be seen without loading anything: that vLLM is installed and a model's folder is there.

    Raises:
        MissingPart: vLLM is not installed.
        SettingsError: `model` is written as a path, and no folder is there.
    """
    if find_spec("vllm") is None:
        raise MissingPart("vllm", "vllm")
    if settings.model.startswith((".", "/", "~")) and not Path(settings.model).expanduser().is_dir():
        raise SettingsError(
            f"there is no folder {settings.model} with a model", hint="correct `model`: a folder, or a name on the hub"
        )


def arguments(settings: engine_settings.VLLM, runner: Runner = "generate") -> dict[str, Any]:
    """Return vLLM's engine arguments: what is set, and what relabel needs (prefix caching, statistics)."""
    named = {
        name: value for name, value in settings.model_dump(exclude=set(_OWN)).items() if value is not None
    }  # fmt: skip
    # a small model may write blanks into JSON until its tokens are spent
    grammar = {"backend": "xgrammar", "disable_any_whitespace": True}
    needed: dict[str, Any] = {"disable_log_stats": False, "use_tqdm_on_load": False}
    if runner == "generate":
        needed |= {"enable_prefix_caching": True, "structured_outputs_config": grammar}
    else:
        needed["runner"] = runner
    return needed | named | dict(settings.extra)


def check_extra(extra: Mapping[str, Any], field: str = "extra") -> None:
    """Refuse a further argument, written under `field`, that vLLM's engine does not have.

    Raises:
        SettingsError: names it, and the nearest that there is.
        MissingPart: vLLM is not installed.
    """
    from dataclasses import fields

    with _ONE_AT_A_TIME, _importing():
        from vllm.engine.arg_utils import EngineArgs

    known = [field.name for field in fields(EngineArgs)]
    for name in extra:
        if name in engine_settings.VLLM.model_fields:
            raise SettingsError(
                f"{field}.{name}: {name} has a field of its own", hint=f"write it beside `{field}`: {name}"
            )
        if name not in known:
            near = get_close_matches(name, known, n=1)
            hint = f"did you mean {near[0]!r}? " if near else ""
            raise SettingsError(
                f"{field}.{name}: vLLM's engine has no argument of this name",
                hint=f"{hint}`vllm serve --help=all` lists them, with - for _",
            )


class Limits:
    """How much a model reads, found out without loading it."""

    def __init__(self, settings: engine_settings.VLLM, template: str | None) -> None:
        self._settings, self._template = settings, template
        self._longest = settings.max_model_len
        self._tokenizer: Any = None
        self._control: re.Pattern[str] | None = None

    def excess(self, messages: Sequence[Mapping[str, str]], room: int) -> int:
        """Return by how many tokens a prompt and `room` for its reply exceed what the model reads; ≤ 0 when it fits.

        A token stands for a byte or more, so that most prompts are known to fit before they are tokenized.
        """
        if self._longest is None:
            self._longest = _longest(self._settings)
        budget = self._longest - room
        if budget <= 0:
            raise SettingsError(
                f"max_tokens ({room:,}) leaves nothing of what {self._settings.model} reads ({self._longest:,} tokens)",
                hint="lower max_tokens",
            )
        most = sum(len(message["content"].encode()) for message in messages) + FRAME
        if most <= budget:
            return most - budget
        try:
            return len(self.tokens(messages)) - budget
        except RelabelError:
            raise
        except Exception:  # noqa: BLE001 - a chat template may refuse a prompt with any error; vLLM will say so again
            return 0

    def tokens(self, messages: Sequence[Mapping[str, str]]) -> list[int]:
        """Return the tokens of a prompt, as the model's chat template lays it out; texts write no control tokens."""
        if self._control is None:
            self._control = control_tokens(self._known)
        return list(
            self._known.apply_chat_template(
                without(self._control, messages), tokenize=True, add_generation_prompt=True, return_dict=False,
                chat_template=self._template, **self._settings.chat_template_kwargs,
            )
        )  # fmt: skip

    def ends(self) -> list[int]:
        """Return the tokens that end an answer: the tokenizer's, and those of the model's generation config."""
        from transformers import GenerationConfig

        found = [self._known.eos_token_id]
        with suppress(OSError):  # many models have none
            written = GenerationConfig.from_pretrained(self._settings.model, revision=self._settings.revision or "main")
            found += written.eos_token_id if isinstance(written.eos_token_id, list) else [written.eos_token_id]
        return sorted({int(token) for token in found if token is not None})

    @property
    def _known(self) -> Any:
        if self._tokenizer is None:
            self._tokenizer = _tokenizer(self._settings)
        return self._tokenizer


def control_tokens(tokenizer: Any) -> re.Pattern[str]:
    """Return what finds those control tokens of a tokenizer that quoting does not know by their looks.

    Of a model that runs here all tokens are known, so that none is left to a passage. A tokenizer that lists none
    (Mistral's) never reads one in a message.
    """
    looks = Quoting.against(())
    listed = getattr(tokenizer, "added_tokens_decoder", {}).values()
    tokens = {token.content for token in listed if token.special and len(token.content.strip()) > 1}
    unknown = sorted((token for token in tokens if looks.quote(token) == token), key=len, reverse=True)
    return re.compile("|".join(map(re.escape, unknown)) or "(?!)")


def without(control: re.Pattern[str], messages: Sequence[Mapping[str, str]]) -> list[dict[str, str]]:
    """Return messages in which these control tokens cannot be read: a blank stands behind the first sign of each."""
    return [
        {**message, "content": control.sub(lambda found: f"{found[0][0]} {found[0][1:]}", message["content"])}
        for message in messages
    ]


def _longest(settings: engine_settings.VLLM) -> int:
    with _ONE_AT_A_TIME, explained(settings, None), _importing():
        from vllm.engine.arg_utils import EngineArgs

        return int(EngineArgs(**arguments(settings)).create_model_config().max_model_len)


def _tokenizer(settings: engine_settings.VLLM) -> Any:
    with _ONE_AT_A_TIME, explained(settings, None), _importing():
        from vllm.tokenizers import get_tokenizer

        return get_tokenizer(
            settings.tokenizer or settings.model,
            revision=settings.revision,
            trust_remote_code=settings.trust_remote_code,
        )


def start(settings: engine_settings.VLLM, template: str | None, log: Path | None, runner: Runner = "generate") -> "LLM":
    """Load the model, to generate text or, as "pooling", to score pairs.

    vLLM's processes write to `log`, where their words can be read when something goes wrong, and not between the
    progress bars.

    Raises:
        MissingPart: vLLM is not installed.
        SettingsError: the model cannot be found, does not fit, or is not what vLLM can serve: says what to change.
        ServiceError: vLLM does not start for another reason: says where its own words are.
    """
    if log is None:
        log = Path(tempfile.mkdtemp(prefix="relabel-")) / "vllm.log"
    with _ONE_AT_A_TIME, explained(settings, log):
        _beside_numba()
        with _importing():
            from vllm import LLM
            from vllm.engine.arg_utils import EngineArgs
        given = arguments(settings, runner)
        _check_kind(EngineArgs(**given).create_model_config(), settings.model, runner)
        with aside(log, 1, 2):
            return LLM(**given, chat_template=template)


def _beside_numba() -> None:
    """Let vLLM start in a process that has imported numba, as mining with BM25 does.

    While it starts, vLLM 0.32 reads `__dict__` off everything in every module. llvmlite's library object looks each
    name up in a C library, `__dict__` too, and returns an object without `.get`. Python's own names are no C functions.
    """
    library = getattr(sys.modules.get("llvmlite.binding.ffi"), "lib", None)
    if library is None or not hasattr(library, "__dict__"):
        return
    cls, looked_up = type(library), type(library).__getattr__

    def found(self: Any, name: str) -> Any:
        if name.startswith("__"):
            raise AttributeError(name)
        return looked_up(self, name)

    cls.__getattr__ = found


def _check_kind(model: Any, name: str, runner: Runner) -> None:
    """Refuse a model of the wrong kind, before its weights are loaded."""
    if runner == "generate" and model.runner_type != runner:
        raise SettingsError(
            f"{name} is no model that generates text (vLLM runs it for {model.runner_type})",
            hint="a reranker is `judge: crossencoder`, which has `backend: vllm`",
        )
    if runner == "pooling" and getattr(model.hf_config, "num_labels", 0) != 1:
        raise SettingsError(f"{name} is no cross-encoder with a single score", hint="correct `model`")


def built_for_cpu() -> bool:
    """Whether the vLLM that is installed runs on a CPU."""
    with _ONE_AT_A_TIME, _importing():
        from vllm.platforms import current_platform
    return bool(current_platform.is_cpu())


@contextmanager
def _importing() -> Iterator[None]:
    for name, value in QUIET.items():
        os.environ.setdefault(name, value)
    try:
        yield
    except ModuleNotFoundError as error:
        if (error.name or "").split(".")[0] == "vllm":
            raise MissingPart("vllm", "vllm") from error
        raise


@contextmanager
def aside(log: Path, *descriptors: int) -> Iterator[None]:
    """Let descriptors, which new processes inherit, point to a file for a while; the bars stay on screen."""
    log.parent.mkdir(parents=True, exist_ok=True)
    shown, before = sys.stderr, [os.dup(number) for number in descriptors]
    with log.open("ab") as file, os.fdopen(os.dup(2), "w", errors="replace") as screen:
        shown.flush()
        for number in descriptors:
            os.dup2(file.fileno(), number)
        sys.stderr = screen
        try:
            yield
        finally:
            sys.stderr = shown
            for number, saved in zip(descriptors, before, strict=True):
                os.dup2(saved, number)
                os.close(saved)


_CAUSES: Final[tuple[tuple[str, str, str], ...]] = (
    (
        r"Failed to infer device type|No CUDA GPUs are available|Found no NVIDIA driver|cuda driver|libcuda",
        "this vLLM is built for a GPU, and there is none that it can use",
        (
            "on a machine with a GPU check nvidia-smi; without one install the build for the CPU (README, vLLM), or ask"
            " a server elsewhere: engine kind openai with base_url"
        ),
    ),
    (
        (
            r"out of memory|OutOfMemoryError|No available memory for the cache blocks|less than (desired|requested)"
            r"|larger than the available KV cache|Not enough memory|can't allocate memory|Cannot allocate memory"
            r"|kv cache size is .*too|MemoryError"
        ),
        "{model} does not fit into the memory of this device",
        (
            "lower max_model_len (and gpu_memory_utilization, if something else is on the GPU), set quantization or"
            " tensor_parallel_size, or take a smaller model; on a CPU see also VLLM_CPU_KVCACHE_SPACE"
        ),
    ),
    (
        r"greater than the derived max_model_len",
        "max_model_len is more than {model} was made for",
        "lower max_model_len, or leave it out: then it is the model's own",
    ),
    (
        (
            r"not a valid model identifier|not a local folder|Invalid repository ID|Cannot find any model weights"
            r"|does not appear to have|Repository Not Found|couldn't connect to|LocalEntryNotFound|offline mode"
            r"|no file named config\.json|Can't load the configuration|No such file or directory.*config|is not cached"
        ),
        "the model {model} cannot be found",
        "give a folder that holds it, or its name on the hub with a network (and `hf auth login` where it is gated)",
    ),
    (
        (
            r"not supported for now|are not supported|Unsupported (model|architecture)|no vLLM implementation"
            r"|does not recognize this architecture"
        ),
        "vLLM cannot serve {model}",
        "take a model that vLLM supports (docs.vllm.ai, Supported Models)",
    ),
    (
        r"start a new process before the\s+current process has finished its bootstrapping",
        "vLLM starts processes that read your script again",
        "put your call of relabel under: if __name__ == '__main__':",
    ),
    (
        r"[Qq]uantization method|quantization",
        "{model} cannot be loaded with these quantization and dtype",
        "correct `quantization` (leave it out for a model that says so itself) and `dtype`",
    ),
)
"""What vLLM and its libraries write (a pattern), what it means, and what to change."""


@contextmanager
def explained(settings: engine_settings.VLLM, log: Path | None) -> Iterator[None]:
    """Turn what goes wrong while a model is loaded into one clear message.

    The cause may stand in the error or, where a process of vLLM's died of it, in the log alone.
    """
    already = log.stat().st_size if log is not None and log.exists() else 0
    try:
        yield
    except RelabelError:
        raise
    except Exception as error:
        wrong = isinstance(error, ValueError | TypeError | OSError)
        words, logged = f"{type(error).__name__}: {error}", _since(log, already)
        raise explanation(settings, words, logged, log, wrong=wrong) from error


def explanation(
    settings: engine_settings.VLLM, words: str, logged: str, log: Path | None, *, wrong: bool
) -> RelabelError:
    """Say in one message why a model could not be loaded.

    Args:
        settings: of the model.
        words: the error's.
        logged: what vLLM wrote meanwhile.
        log: where it wrote.
        wrong: whether an unknown cause shall be taken for a mistake in the settings.
    """
    said = last_error(logged) or words if "root cause" in words else words
    see = f"; vLLM's own words: {log}" if log is not None and logged else ""
    for text in (words, logged):
        for pattern, meaning, remedy in _CAUSES:
            if re.search(pattern, text):
                problem = meaning.format(model=settings.model)
                return SettingsError(f"{problem} ({_line(said)})", hint=f"{remedy}{see}")
    kind = SettingsError if wrong else ServiceError
    hint = f"correct the engine's settings{see}" if wrong else f"see the cause{see}"
    return kind(f"vLLM does not start with {settings.model}: {_line(said)}", hint=hint)


def _since(log: Path | None, start: int) -> str:
    if log is None or not log.exists():
        return ""
    with log.open("rb") as file:
        file.seek(start)
        return file.read().decode("utf-8", "replace")


_ERROR: Final = re.compile(r"(?:^|\s)((?:[\w.]+\.)?\w*(?:Error|Exception|Exit)\b: .+)$", re.MULTILINE)


def last_error(text: str) -> str:
    """Return the last line of a log that names an exception and is not merely what followed from another."""
    found = [words for words in _ERROR.findall(text) if "root cause" not in words and "Engine core init" not in words]
    return found[-1] if found else ""


def _line(text: str) -> str:
    """Return a message as one short line."""
    line = " ".join(text.split())
    return line if len(line) <= 300 else f"{line[:299]}…"
