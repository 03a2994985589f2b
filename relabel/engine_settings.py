"""Who answers a prompt, as settings: names, limits and prices of the engines that a config may name."""

import json
import math
import re
from ipaddress import IPv4Address, IPv6Address
from typing import Annotated, Any, Final, Literal, Self
from urllib.parse import urlsplit

from pydantic import AfterValidator, BaseModel, ConfigDict, Field, ValidationInfo, field_validator, model_validator

from relabel.protocols import MOST_TOKENS

OPENAI: Final = "https://api.openai.com/v1"

LONGEST: Final = 2000
"""Characters of an address."""

_NUMBERS: Final = re.compile(r"[0-9.]+")
_NAME: Final = re.compile(r"[\w-]+(\.[\w-]+)*\.?")

_ANSWERS: Final[set[str]] = {
    "model", "revision", "temperature", "top_p", "max_tokens", "seed", "extra_body", "choices",
}  # fmt: skip
"""Fields of an endpoint that change its answers."""


def check_address(address: str) -> None:
    """Refuse what is no address, and one that holds a secret: that would stand in messages, and beside the key.

    A secret stands before the host, http://user:password@host, or behind the path, ?api_key=….

    Raises:
        ValueError: it is one of these; says which, and repeats nothing of it.
    """
    try:
        parts = urlsplit(address)
        _ = parts.port  # read, hence checked
        fine = _is_host(parts.hostname or "", bracketed="[" in parts.netloc)
    except ValueError:
        fine = False
    sane = len(address) <= LONGEST and not any(sign.isspace() or not sign.isprintable() for sign in address)
    if not (fine and sane) or parts.scheme not in {"http", "https"}:
        raise ValueError("this is no address such as http://127.0.0.1:8000/v1")
    if "@" in parts.netloc:
        raise ValueError(
            "this holds a user name or a password; take out the part before @, and put the key in an environment"
            " variable that api_key_env names"
        )
    if "?" in address or "#" in address:
        raise ValueError(
            "an address ends with its path; take out what begins with ? or #, and put a key in an environment variable"
            " that api_key_env names"
        )


def _is_host(name: str, *, bracketed: bool) -> bool:
    """Whether this can be a host: an IP address, or a name (RFC 1123, 2.1; servers inside a house have _ too).

    Raises:
        ValueError: it looks like an IP address, and is none; or a part of the name is too long.
    """
    if bracketed:
        return bool(IPv6Address(name))
    if _NUMBERS.fullmatch(name):
        return bool(IPv4Address(name))
    return _NAME.fullmatch(name) is not None and len(name.encode("idna")) < 255


def _sendable(value: Any) -> Any:
    """Refuse what YAML knows and JSON does not: dates, bytes, numbers that are none."""
    try:
        json.dumps(value, allow_nan=False, ensure_ascii=False).encode()
    except (TypeError, ValueError, RecursionError):
        raise ValueError("JSON, in which it is sent, has no such value; put a date between quotation marks") from None
    return value


Body = dict[str, Annotated[Any, AfterValidator(_sendable)]]
"""Further fields of what is sent."""


class Strict(BaseModel):
    """Settings of which unknown names are refused, and values of another type; nothing changes afterwards."""

    model_config = ConfigDict(extra="forbid", frozen=True, strict=True, hide_input_in_errors=True)


def _per_million(dollars: float) -> float:
    """Refuse a price of one token in place of a million's: it would be rounded to nothing, and no limit would hold."""
    if 0 < dollars < LEAST:
        raise ValueError(f"prices are in US dollars per million tokens, 0 or at least {LEAST:g}; is this one token's?")
    return dollars


LEAST: Final = 0.0001
"""No listed model costs less for a million tokens, and few cost more for one."""

Dollars = Annotated[float, Field(ge=0, le=1_000_000, allow_inf_nan=False), AfterValidator(_per_million)]
"""US dollars per million tokens, at most one for a token."""


class Tier(Strict):
    """What all tokens of a request cost whose prompt has more than `above`; US dollars per million tokens."""

    above: int = Field(ge=1)
    input: Dollars
    output: Dollars
    cached_input: Dollars | None = None


class Price(Strict):
    """US dollars per million tokens.

    Attributes:
        input, output: of tokens read and written.
        cached_input: of tokens that the server read from its cache; None = as `input`.
        cache_write: of tokens that it put into its cache, where it takes more for them; None = as `input`.
        tiers: other prices for long prompts.
    """

    input: Dollars
    output: Dollars
    cached_input: Dollars | None = None
    cache_write: Dollars | None = None
    tiers: list[Tier] = Field(default_factory=list)

    @model_validator(mode="after")
    def _apart(self) -> Self:
        above = [tier.above for tier in self.tiers]
        twice = next((each for each in above if above.count(each) > 1), None)
        if twice is not None:
            raise ValueError(f"two tiers are for prompts above {twice} tokens; keep one of them")
        return self


class Endpoint(Strict):
    """A model behind an API that speaks OpenAI's chat completions, and how it is asked; names as in package openai.

    Attributes:
        model: its name at the server.
        base_url: address of the server up to and with `/v1`; None = `OPENAI_BASE_URL`, or OpenAI.
        api_key_env: the environment variable that holds the key. None = `OPENAI_API_KEY` for OpenAI, and no key for
            any other server: a key goes only where it was meant to go.
        api_key_file: a file with the key and nothing else, readable by its owner alone (chmod 600), in place of an
            environment variable; its path relative to the config.
        revision: which version of the model is served, for the record; changes every address.
        temperature, top_p, max_tokens, seed: as the API has them; None is not sent.
        extra_body: further fields of the body, or other values for its fields.
        choices: how a request with choices is asked. "logprobs" asks for probabilities, "structured" (vLLM) also
            allows nothing but the choices, "text" asks for neither (models that refuse log-probabilities).
        timeout: seconds without a byte from the server after which an attempt has failed; it fails too when its answer
            is not whole after ten times as many.
        patience: seconds in which a server sends nothing at all before the run gives it up, four times as long once
            it has answered; None = 3 × timeout.
        max_retries: attempts after the first one. Refusals for the rate (429) are none.
        price: what its tokens cost, in place of the list price.
        context_tokens: what the model reads and writes together; None = as publicly listed, else unknown. Group prompts
            that might not fit are divided.
        prompt_cache_key: whether requests that begin alike say so, which helps a provider to send them where that
            beginning is cached; None = to OpenAI alone. No part of an address, unlike a key in `extra_body`.
    """

    model: str = Field(min_length=1)
    base_url: str | None = None
    api_key_env: str | None = None
    api_key_file: str | None = Field(default=None, min_length=1)
    revision: str = ""
    temperature: float | None = Field(default=0.0, ge=0, allow_inf_nan=False)
    top_p: float | None = Field(default=None, gt=0, le=1)
    max_tokens: int | None = Field(default=2048, ge=1, le=MOST_TOKENS)
    seed: int | None = None
    extra_body: Body = Field(default_factory=dict)
    choices: Literal["logprobs", "structured", "text"] = "logprobs"
    timeout: float = Field(default=60.0, gt=0, allow_inf_nan=False)
    patience: float | None = Field(default=None, gt=0)
    max_retries: int = Field(default=6, ge=0)
    price: Price | None = None
    context_tokens: int | None = Field(default=None, ge=64, le=MOST_TOKENS)
    prompt_cache_key: bool | None = None

    @field_validator("base_url")
    @classmethod
    def _an_address(cls, base_url: str | None) -> str | None:
        if base_url is not None:
            check_address(base_url)
        return base_url

    @model_validator(mode="after")
    def _one_key(self) -> Self:
        if self.api_key_env is not None and self.api_key_file is not None:
            raise ValueError("the key is in api_key_env or in api_key_file; keep one of them")
        return self

    @property
    def answering(self) -> dict[str, Any]:
        """What changes the answer besides the prompt; no key, no address of a server, no limits."""
        return self.model_dump(include=_ANSWERS)

    @property
    def sampling(self) -> dict[str, Any]:
        """Model and sampling as they stand in every body."""
        own = self.model_dump(include=_ANSWERS - {"revision", "extra_body", "choices"})
        return {name: value for name, value in own.items() if value is not None} | self.extra_body

    @property
    def reply_room(self) -> int:
        """Most tokens of a reply, as far as the server is told; 0 where it is not."""
        told = [self.extra_body.get(name) for name in ("max_completion_tokens", "max_tokens")]
        return next((most for most in told if isinstance(most, int)), self.max_tokens or 0)


class OpenAI(Endpoint):
    """Any OpenAI-compatible endpoint: OpenAI, Azure, OpenRouter, a vLLM or Ollama server.

    Attributes:
        concurrency: requests in flight, 1 or more.
        requests_per_minute: never more, retries included, spread evenly; None = as the server lets us.
        tokens_per_minute: never more, in and out together; None = as the server lets us.
    """

    kind: Literal["openai"] = "openai"
    concurrency: int = Field(default=32, ge=1)
    requests_per_minute: float | None = Field(default=None, gt=0)
    tokens_per_minute: float | None = Field(default=None, gt=0)


class OpenAIBatch(Endpoint):
    """OpenAI's Batch API: files of requests, answered within a day at a lower price.

    What changes an answer is what `OpenAI` has: the same question to the same model is the same question.

    Attributes:
        max_requests: of one file; OpenAI takes no more than 50,000.
        max_file_bytes: of one file; OpenAI takes no more than 200 MB.
        max_enqueued_tokens: how many prompt tokens (estimated) may be under way at a time, as the limits page of the
            account says of the model's batch queue; None = find out from the server's refusals.
        poll_seconds: from one look at the batches to the next; also how long a file that is not full waits for more.
        completion_window: within which the service answers or gives up.
        max_retries: of one call; and how often a request is submitted again that its batch left without an answer.
    """

    kind: Literal["openai_batch"]
    max_requests: int = Field(default=50_000, ge=1, le=50_000)
    max_file_bytes: int = Field(default=200_000_000, ge=1_000, le=200_000_000)
    max_enqueued_tokens: int | None = Field(default=None, ge=1)
    poll_seconds: float = Field(default=60.0, gt=0, allow_inf_nan=False)
    completion_window: str = Field(default="24h", pattern=r"^[1-9][0-9]*[hd]$")

    @field_validator("completion_window")
    @classmethod
    def _a_day(cls, window: str, told: ValidationInfo) -> str:
        if window != "24h" and urlsplit(told.data.get("base_url") or OPENAI).hostname == urlsplit(OPENAI).hostname:
            raise ValueError("OpenAI knows none but 24h; others are for a service that base_url names")
        return window

    def files(self, requests: int, tokens: int) -> int:
        """Estimate how many files so many requests make, with so many prompt tokens in all (4 bytes each)."""
        shares = [requests / self.max_requests, 4 * tokens / self.max_file_bytes]
        shares += [tokens / self.max_enqueued_tokens] if self.max_enqueued_tokens else []
        return math.ceil(max(shares))

    @property
    def concurrency(self) -> int:
        """Calls at a time: files are large, and batches few."""
        return 1

    @property
    def requests_per_minute(self) -> float | None:
        """Calls are as rare as `poll_seconds` makes them."""
        return None

    @property
    def tokens_per_minute(self) -> float | None:
        """A file of requests is no request for tokens."""
        return None


class Scripted(Strict):
    """Recorded replies: a JSONL file, its path relative to the config."""

    kind: Literal["scripted"]
    replies: str = Field(min_length=1)


class VLLM(Strict):
    """vLLM in this process, or on the cluster. Engine arguments go by vLLM's own names, further ones in `extra`."""

    kind: Literal["vllm"]
    model: str = Field(min_length=1)
    revision: str | None = None
    tokenizer: str | None = None
    trust_remote_code: bool = False
    dtype: Literal["auto", "half", "float16", "bfloat16", "float", "float32"] = "auto"
    quantization: str | None = None
    tensor_parallel_size: int = Field(default=1, ge=1)
    pipeline_parallel_size: int = Field(default=1, ge=1)
    data_parallel_size: int = Field(default=1, ge=1)
    max_model_len: int | None = Field(default=None, ge=64)
    gpu_memory_utilization: float | None = Field(default=None, gt=0, le=1)
    max_num_seqs: int | None = Field(default=None, ge=1)
    max_num_batched_tokens: int | None = Field(default=None, ge=1)
    enforce_eager: bool = False
    seed: int = 0
    chat_template: str | None = None
    chat_template_kwargs: dict[str, Any] = Field(default_factory=dict)
    temperature: float = Field(default=0.0, ge=0, allow_inf_nan=False)
    top_p: float | None = Field(default=None, gt=0, le=1)
    max_tokens: int = Field(default=2048, ge=1, le=MOST_TOKENS)
    too_long: Literal["shorten", "none"] = "shorten"
    extra: dict[str, Any] = Field(default_factory=dict)

    @property
    def gpus(self) -> int:
        """How many GPUs one replica takes."""
        return self.tensor_parallel_size * self.pipeline_parallel_size

    @model_validator(mode="after")
    def _possible(self) -> Self:
        if self.data_parallel_size > 1:
            raise ValueError(
                "vLLM's LLM class runs one replica in a process: set data_parallel_size to 1 and have replicas by"
                " `ray: {replicas: N}`, or ask `vllm serve --data-parallel-size N` by engine kind openai"
            )
        return self


AnyEngine = OpenAI | OpenAIBatch | Scripted | VLLM
