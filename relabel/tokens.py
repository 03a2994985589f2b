"""How many tokens a question and its answer have, roughly: no model's vocabulary is needed for it."""

from bisect import bisect_left
from collections.abc import Sequence
from typing import Final

from relabel.protocols import Message
from relabel.replies import ReplySpec

CHARACTERS_PER_TOKEN: Final = 4
"""The usual rule of thumb for English; no vocabulary needs to be downloaded for it."""

FRAME: Final = 4
"""Tokens around a message."""

OUTPUT_TOKENS: Final = {"choice": (1, 0), "json": (8, 14), "snippet": (10, 30), "tagged": (40, 30)}
"""Tokens of a reply by form: for the reply, and for each candidate in it."""

BARE: Final = (30, 6)
"""Likewise of a tagged reply without reasons, were every candidate in a list."""

CACHED_FROM: Final = 1024
CACHED_BY: Final = 128
"""OpenAI's prompt cache: the beginning of a prompt counts as cached from so many tokens on, in steps of so many.
https://platform.openai.com/docs/guides/prompt-caching"""


def tokens(messages: Sequence[Message]) -> int:
    """Estimate the tokens of a prompt: characters / 4, and 4 for each message's frame."""
    return sum(len(message.content) // CHARACTERS_PER_TOKEN + FRAME for message in messages)


def output_tokens(spec: ReplySpec, candidates: int, *, reasons: bool = True) -> int:
    """Estimate the tokens of a reply, with reasons or without."""
    base, each = OUTPUT_TOKENS[spec.form] if reasons or spec.form != "tagged" else BARE
    return base + each * candidates


def cached_tokens(before: Sequence[Message], messages: Sequence[Message]) -> int:
    """Estimate how many tokens of a prompt a server has in its cache that was sent `before` just now.

    They are those of the common beginning, by OpenAI's rule: 0, or at least 1,024 in steps of 128.
    """
    shared = 0
    for old, new in zip(before, messages, strict=False):
        if old == new:
            shared += len(new.content) // CHARACTERS_PER_TOKEN + FRAME
            continue
        if old.role == new.role:
            shared += _common(old.content, new.content) // CHARACTERS_PER_TOKEN
        break
    return shared - shared % CACHED_BY if shared >= CACHED_FROM else 0


def _common(one: str, other: str) -> int:
    """Return how many characters two texts have in common at their beginning."""
    most = min(len(one), len(other))
    return bisect_left(range(most), 1, key=lambda end: int(one[: end + 1] != other[: end + 1]))
