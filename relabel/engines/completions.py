"""The words of OpenAI's chat completions: a request as JSON, a completion as a reply. Nothing here opens a socket."""

import json
import math
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from relabel.protocols import Reply, Request, Usage


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
        form = {"name": "verdicts", "strict": True, "schema": dict(request.schema)}
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
        body = json.loads(content)
    except (ValueError, RecursionError):
        page = content.lstrip().startswith(b"<")
        detail = "a web page came instead of JSON" if page else "what came is not JSON"
        return Reply(request, None, failure="failed", detail=detail, usage=Usage(seconds=seconds), retryable=True)
    body = _mapping(body)
    listed = body.get("choices")
    choice = _mapping(listed[0]) if isinstance(listed, list) and listed else {}
    message = _mapping(choice.get("message"))
    text, finish = _string(message.get("content")), _string(choice.get("finish_reason")) or ""
    failure, detail = _failure(message, finish)
    if not failure and text is None:
        said = _mapping(choice.get("error") or body.get("error")).get("message")
        failure, detail = "failed", _string(said) or ("the reply holds no text" if choice else "the reply is empty")
    probabilities = choice_probabilities(request.choices, _tokens(choice)) if not failure else {}
    if constrained and not failure:
        text = most_probable(probabilities) or text
    return Reply(
        request,
        text if failure in {"", "cut off"} else None,
        failure=failure,
        detail=detail,
        finish_reason=finish,
        model=_string(body.get("model")) or "",
        probabilities=probabilities,
        usage=_usage(body.get("usage"), seconds),
        retryable=failure == "failed",
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


def _failure(message: Mapping[str, Any], finish: str) -> tuple[str, str]:
    """Return why a completion is no answer, and the words for it; ("", "") where it may be one."""
    refusal = _string(message.get("refusal"))
    if finish == "content_filter":
        return "filtered", "the server's content filter stopped the answer"
    if refusal:
        return "refused", refusal
    if finish == "length":
        return "cut off", "the answer reached the limit of tokens"
    return "", ""


def _tokens(choice: Mapping[str, Any]) -> list[tuple[str, float, list[tuple[str, float]]]]:
    """Read the log-probabilities of a completion; tokens that are not as the API describes them are left out."""

    def pairs(items: object) -> Iterable[tuple[str, float, Mapping[str, Any]]]:
        for item in items if isinstance(items, list) else ():
            entry = _mapping(item)
            token, logprob = entry.get("token"), entry.get("logprob")
            if isinstance(token, str) and isinstance(logprob, int | float) and not math.isnan(logprob):
                yield token, logprob, entry

    return [
        (token, logprob, [(other, value) for other, value, _ in pairs(entry.get("top_logprobs"))])
        for token, logprob, entry in pairs(_mapping(choice.get("logprobs")).get("content"))
    ]


def _usage(said: object, seconds: float | None) -> Usage:
    """Read the server's count of tokens; what is absent or cannot be a count is None."""

    def count(holder: object, key: str) -> int | None:
        number = _mapping(holder).get(key)
        return number if isinstance(number, int) and not isinstance(number, bool) and number >= 0 else None

    tokens_in = count(said, "prompt_tokens")
    cached = count(_mapping(said).get("prompt_tokens_details"), "cached_tokens")
    if cached is not None and (tokens_in is None or cached > tokens_in):
        cached = None
    return Usage(tokens_in, count(said, "completion_tokens"), cached, seconds)


def _mapping(value: object) -> Mapping[str, Any]:
    return value if isinstance(value, dict) else {}


def _string(value: object) -> str | None:
    return value if isinstance(value, str) else None
