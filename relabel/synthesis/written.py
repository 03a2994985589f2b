"""What somebody wrote, or did not: the noun by which the parts of synthesis speak."""

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Written:
    """One passage that was asked for: its text, or why there is none."""

    position: int  # of the row of the input that it was written for
    recipe: str  # its name
    text: str = ""  # "" where failure says why
    title: str = ""
    failure: str = ""  # "refused", "unreadable", "cut off", "failed", "missing", "nothing to change", …
    generator: str = ""  # the model, or "rules"
    detail: str = ""  # what was done: the requirement that is violated, "1987 → 1978"
    probability: float | None = None  # that the model gave it among several (verbalized sampling)
    twin: str = ""  # hex digest of the mined passage that it mirrors
    reply: str = ""  # address of the raw reply that it was read from
