"""The words of OpenAI's chat completions: a request as JSON, a completion as a reply. Nothing here opens a socket."""

import json
import math
from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import Any

from relabel.engines.faults import FAULTS
from relabel.protocols import MOST_TOKENS, Reply, Request, Usage


def completion_body(
    request: Request, sampling: Mapping[str, Any], *, logprobs: bool, structured: bool, cache_key: bool = False
) -> dict[str, Any]:
    """Return the JSON body that asks `request`.

    Args:
        request: what to ask.
        sampling: model, temperature and whatever else the server shall be told; its own keys win over ours, so
            that a server with other habits can be given, for example, another `response_format`.
        logprobs: ask for log-probabilities where the request has choices.
        structured: tell a vLLM server to allow nothing but the choices.
        cache_key: name the beginning that this request shares with others, where that is long.
    """
    body: dict[str, Any] = {"messages": [{"role": turn.role, "content": turn.content} for turn in request.messages]}
    if request.schema is not None:
        form = {"name": request.form, "strict": True, "schema": dict(request.schema)}
        body["response_format"] = {"type": "json_schema", "json_schema": form}
    if request.choices and logprobs:
        body |= {"logprobs": True, "top_logprobs": 20}
    if request.choices and structured:
        body["structured_outputs"] = {"choice": list(request.choices)}
    if request.shares and cache_key:
        body["prompt_cache_key"] = request.shares
    return body | dict(sampling)


def read_completion(
    request: Request, content: bytes, *, seconds: float | None = None, constrained: bool = False
) -> Reply:
    """Read the body of an answer with status 200, whatever it holds; never raises.

    What was generated stands in `text`, also when it was cut off; a refusal and an error are failures with the
    server's words as `detail`. Where nothing was generated at all the reply is `retryable`. `constrained` says that
    only the choices could be said: then the most probable one is the answer.
    """
    try:
        body = _mapping(json.loads(content))
    except (ValueError, RecursionError):
        fault = "page in 200" if content.lstrip().startswith(b"<") else "not JSON"
        said = "a web page came instead of JSON" if fault == "page in 200" else "what came is not JSON"
        rule, usage = FAULTS[fault], Usage(seconds=seconds)
        return Reply(request, None, rule.outcome, said, usage=usage, retryable=not rule.kept, unsure=rule.unsure)
    listed = body.get("choices")
    choice = _mapping(listed[0]) if isinstance(listed, list) and listed else {}
    message = _mapping(choice.get("message"))
    text, finish = _string(message.get("content")), _string(choice.get("finish_reason")) or ""
    fault, detail = _fault(message, finish)
    if not fault and text is None:
        fault, detail = _nothing(body, choice)
    usage = _usage(body.get("usage"), seconds)
    probabilities = choice_probabilities(request.choices, _tokens(choice)) if not fault else {}
    if constrained and not fault:
        text = most_probable(probabilities) or text
    return Reply(
        request,
        text if fault in {"", "length"} else None,
        failure=FAULTS[fault].outcome if fault else "",
        detail=detail,
        finish_reason=finish,
        model=_string(body.get("model")) or "",
        probabilities=probabilities,
        usage=usage,
        retryable=bool(fault) and not FAULTS[fault].kept,
        unsure=bool(fault) and FAULTS[fault].unsure and usage.tokens_in is None,
    )


def choice_probabilities(
    choices: Sequence[str], tokens: Iterable[tuple[str, float, Iterable[tuple[str, float]]]]
) -> dict[str, float]:
    """Return how probable each choice was when the answer's first token was drawn.

    The probability of a choice is the sum over all spellings of its beginning (" Yes", "yes", "YE") of
    exp(log-probability); a spelling counts when it begins exactly one choice, in any case. Probabilities are in
    [0, 1] and sum to at most 1: what is missing fell to other tokens. Empty where they would mean nothing: no
    log-probabilities, or a first token that begins no choice ("Based on …") or several ("1" of "1" and "10").

    Args:
        choices: what the answer could be.
        tokens: of each generated token its text, its log-probability and the most probable (text, log-probability)
            at its place.
    """
    words = {choice: choice.strip().casefold() for choice in choices}

    def begun(token: str) -> str | None:
        start = token.strip().casefold()
        fits = [choice for choice, word in words.items() if start and word.startswith(start)]
        return fits[0] if len(fits) == 1 else None

    first = next(((token, own, top) for token, own, top in tokens if token.strip()), None)
    if first is None or begun(first[0]) is None:
        return {}
    token, own, top = first
    totals = dict.fromkeys(choices, 0.0)
    spellings = list(top)
    if token not in [spelling for spelling, _ in spellings]:
        spellings.append((token, own))
    for spelling, logprob in spellings:
        choice = begun(spelling)
        if choice is not None:
            totals[choice] += math.exp(min(logprob, 0.0))
    whole = max(1.0, math.fsum(totals.values()))
    return {choice: total / whole for choice, total in totals.items()}


def most_probable(probabilities: Mapping[str, float]) -> str | None:
    """Return the most probable choice, the first of equals; None where no choice has a probability.

    It is the answer where only the choices could be said: the text then holds one spelling of a beginning, and the
    choice whose best spelling wins is not always the one whose spellings together do.
    """
    best = max(probabilities, key=probabilities.__getitem__, default=None)
    return best if best is not None and probabilities[best] > 0 else None


def _fault(message: Mapping[str, Any], finish: str) -> tuple[str, str]:
    """Return the fault of a completion by its name, and words for it; ("", "") where it may be an answer."""
    refusal = _string(message.get("refusal"))
    if finish == "content_filter":
        return "content filter", "the server's content filter stopped the answer"
    if refusal:
        return "refusal", refusal
    if finish == "length":
        return "length", "the answer reached the limit of tokens"
    return "", ""


def _nothing(body: Mapping[str, Any], choice: Mapping[str, Any]) -> tuple[str, str]:
    """Return the fault of a body that holds no text, and words for it."""
    said = _string(_mapping(choice.get("error") or body.get("error")).get("message"))
    if said:
        return "error in 200", said
    return ("no text", "the reply holds no text") if choice else ("no choices", "the reply is empty")


def _tokens(choice: Mapping[str, Any]) -> Iterator[tuple[str, float, list[tuple[str, float]]]]:
    """Read the log-probabilities of a completion one by one, as few are wanted of many.

    Tokens that are not as the API describes them are left out.
    """

    def pairs(items: object) -> Iterator[tuple[str, float, Mapping[str, Any]]]:
        for item in items if isinstance(items, list) else ():
            entry = _mapping(item)
            token, logprob = entry.get("token"), entry.get("logprob")
            if isinstance(token, str) and isinstance(logprob, int | float) and _fits(logprob):
                yield token, logprob, entry

    for token, logprob, entry in pairs(_mapping(choice.get("logprobs")).get("content")):
        yield token, logprob, [(other, value) for other, value, _ in pairs(entry.get("top_logprobs"))]


def _usage(said: object, seconds: float | None) -> Usage:
    """Read the server's count of tokens; what is absent or cannot be a count is None.

    Servers that leave a model's thoughts out of `completion_tokens` (xAI) have them in `total_tokens`, and bill them.
    """

    def count(holder: object, key: str) -> int | None:
        number = _mapping(holder).get(key)
        if isinstance(number, int) and not isinstance(number, bool) and 0 <= number <= MOST_TOKENS:
            return number
        return None

    tokens_in = count(said, "prompt_tokens")
    tokens_out = count(said, "completion_tokens")
    details = _mapping(said).get("prompt_tokens_details")
    cached, stored = count(details, "cached_tokens"), count(details, "cache_write_tokens")
    if cached is not None and (tokens_in is None or cached > tokens_in):
        cached = None
    if stored is not None and (tokens_in is None or stored > tokens_in - (cached or 0)):
        stored = None
    thought = count(_mapping(said).get("completion_tokens_details"), "reasoning_tokens")
    if tokens_in is not None and tokens_out is not None and thought:
        apart = count(said, "total_tokens") == tokens_in + tokens_out + thought
        tokens_out += thought if apart else 0
    return Usage(tokens_in, tokens_out, cached, seconds, stored)


def _fits(number: float) -> bool:
    """Whether this is a number that a float can be: JSON knows longer ones."""
    try:
        return not math.isnan(number)
    except OverflowError:
        return False


def _mapping(value: object) -> Mapping[str, Any]:
    return value if isinstance(value, dict) else {}


def _string(value: object) -> str | None:
    return value if isinstance(value, str) else None
