"""A passage that was asked for: what every part of the synthesis speaks in."""

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Written:
    """One passage that was asked for: its text, or why there is none.

    Attributes:
        position: of the row of the input that it was written for.
        recipe: its name.
        text: "" where `failure` says why there is none.
        title: "" where the row's passages have none.
        failure: "refused", "unreadable", "cut off", "failed", "missing", "nothing to change", "too long", …
        why: of a failure, what the service said.
        generator: the model, or "rules".
        detail: what was done: the requirement that is violated, "1987 → 1978".
        probability: that the model gave it among several (verbalized sampling), in [0, 1].
        twin: hex digest of the mined passage that it mirrors.
        reply: address of the raw reply that it was read from.
    """

    position: int
    recipe: str
    text: str = ""
    title: str = ""
    failure: str = ""
    why: str = ""
    generator: str = ""
    detail: str = ""
    probability: float | None = None
    twin: str = ""
    reply: str = ""
