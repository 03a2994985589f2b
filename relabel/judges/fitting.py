"""Prompts that are too long for a model: which groups are divided, which passages are shortened, and how far.

Where the model's tokenizer is not at hand (an API), a prompt has between `least_tokens` and `most_tokens`: a group is
divided when it might not fit, and nothing is refused unless it surely does not.

Where it is, the rule: the candidates first, all to one common length, then the references likewise; each text keeps its
beginning, never less than `FLOOR` characters of it, ends at a word and is marked by "…". Query and instructions are
never cut. What does not fit even then is not asked.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from typing import Final

from relabel.protocols import Message, Request
from relabel.records import Passage

FLOOR: Final = 200
"""Characters that every passage keeps."""

STEP: Final = 32
"""Characters to within which the longest text that fits is looked for."""


FRAME: Final = 4
"""Tokens that a chat format puts around a message, about."""


@dataclass(frozen=True, slots=True)
class Window:
    """How much a model reads and writes together, and how much of that its reply may take; tokens."""

    tokens: int
    room: int

    def holds(self, messages: Sequence[Message]) -> bool:
        """Whether a prompt fits, counted high."""
        return most_tokens(messages) + self.room <= self.tokens

    def excess(self, messages: Sequence[Message]) -> int:
        """Return by how many tokens a prompt is too long at the very least; ≤ 0 where it may fit."""
        return least_tokens(messages) + self.room - self.tokens


def most_tokens(messages: Sequence[Message]) -> int:
    """Estimate the tokens of a prompt, high: bytes / 3. English has 4.4 bytes a token, Chinese 3 to 4 (o200k_base)."""
    return sum(len(each.content.encode("utf-8", "surrogatepass")) // 3 + FRAME for each in messages)


def least_tokens(messages: Sequence[Message]) -> int:
    """Estimate the tokens of a prompt, low: characters / 6. English has 4.4 characters a token, others fewer."""
    return sum(len(each.content) // 6 for each in messages)


@dataclass(frozen=True, slots=True)
class Fitting:
    """A question that fits, and how many characters of each reference and each candidate it shows at most."""

    request: Request
    known: int
    shown: int

    def cuts(self, reference: Sequence[Passage], candidate: Passage) -> bool:
        """Whether what is asked about this candidate shows a part of it, or of a reference."""
        return len(candidate.text) > self.shown or any(len(passage.text) > self.known for passage in reference)


Render = Callable[[Sequence[Passage], Sequence[Passage]], Request]
"""References and candidates → the question."""


def fit(
    reference: Sequence[Passage], candidates: Sequence[Passage], render: Render, excess: Callable[[Request], int]
) -> Fitting | None:
    """Return the question with as much of the passages as the model can read; None where that is not enough.

    Args:
        reference: the known positives, whole.
        candidates: the passages to be judged, whole.
        render: makes the question.
        excess: by how many tokens a question is too long; ≤ 0 when it fits.
    """

    def asked(known: int, shown: int) -> Fitting | None:
        request = render(
            [shortened(each, known) for each in reference], [shortened(each, shown) for each in candidates]
        )
        return Fitting(request, known, shown) if excess(request) <= 0 else None

    whole = max((len(passage.text) for passage in reference), default=0)
    with_reference = _longest(candidates, lambda length: asked(whole, length))
    return with_reference or _longest(reference, lambda length: asked(length, FLOOR))


def _longest(passages: Sequence[Passage], asked: Callable[[int], Fitting | None]) -> Fitting | None:
    """Return the question with the longest texts that fit, found by halving; None where not even the floor fits."""
    best = asked(FLOOR)
    fits, too_long = FLOOR, max((len(passage.text) for passage in passages), default=0)
    while best is not None and too_long - fits > STEP:
        middle = (fits + too_long) // 2
        found = asked(middle)
        if found is None:
            too_long = middle
        else:
            best, fits = found, middle
    return best


def shortened(passage: Passage, length: int) -> Passage:
    """Return a passage with at most `length` characters of its text, cut at a word and marked."""
    if len(passage.text) <= length:
        return passage
    cut = passage.text[:length]
    words = cut.rsplit(None, 1)
    if len(words) == 2 and len(words[1]) < STEP and not passage.text[length].isspace():
        cut = words[0]
    return replace(passage, text=f"{cut.rstrip()} …")
