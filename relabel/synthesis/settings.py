"""One YAML file → checked, frozen settings of `relabel synthesize`."""

from pathlib import Path
from typing import Annotated, Final, Literal, Self

from pydantic import ConfigDict, Field, ValidationError, model_validator
from pydantic.dataclasses import dataclass

from relabel.engine_settings import Strict
from relabel.errors import SettingsError
from relabel.yamltext import problems, read_yaml, text_of

_KNOWN: Final = ConfigDict(extra="forbid")

_Number = Annotated[float, Field(ge=0, strict=True, allow_inf_nan=False)]
_Share = Annotated[float, Field(ge=0, le=1, strict=True)]


@dataclass(frozen=True, slots=True, config=_KNOWN)
class Shares:
    """The most of the negatives that may be synthetic: of a row, and of the whole set; from 0 to 1."""

    row: _Share = 0.5
    data: _Share = 0.5


@dataclass(frozen=True, slots=True, config=_KNOWN)
class Gate:
    """What a passage must be like before anybody is asked about it; null in place of a number = not looked at.

    Attributes:
        words: fewest and most words, as multiples of the median of the row's own passages. No length that one of these
            has is too short or too long.
        copy: share of its words that stand in the query, or of its text in a positive (or of that in it: containment of
            character 5-grams), from which it is a copy.
        near: cosine to a positive, to a mined negative or to another one of its row, from which it is a near-copy.
        twin: share of the text that it and a mined negative of its row, or one written for any row, have in common
            (Jaccard index of character 5-grams), from which it is a near-copy.
        easy: the quantile of the cosines of the row's mined negatives with the query that it must reach; 0 = the
            lowest of them, .5 = their median.
        language: whether it must be in the language of the row's passages.
    """

    words: tuple[_Number, _Number] | None = (0.5, 2.0)
    copy: _Number | None = 0.8
    near: _Number | None = 0.95
    twin: _Number | None = 0.9
    easy: _Share | None = 0.0
    language: bool = Field(default=True, strict=True)

    def __post_init__(self) -> None:
        """Refuse bounds that nothing is between."""
        if self.words is not None and self.words[0] >= self.words[1]:
            raise ValueError("words: the fewest are not fewer than the most")


class Settings(Strict):
    """A whole file.

    Attributes:
        written: passages that somebody has already generated, in place of an engine; relative to the file.
        below: rows with fewer negatives are filled up to so many.
        add: so many are added to every row.
        oversample: how many are asked for, for one that is wanted.
        max_share: see there.
        alone: whether a row without mined negatives may get synthetic ones.
        judge: the config of the cascade that judges, relative to the file; None = the embedded one.
        gate: see there.
        order: "difficulty" = the hardest are taken, and stand from easy to hard; "as written".
        seed: of the dice.
    """

    written: str | None = Field(default=None, min_length=1)
    below: int = Field(default=8, ge=0)
    add: int = Field(default=0, ge=0)
    oversample: float = Field(default=1.5, ge=1, le=20)
    max_share: Shares = Shares()
    alone: bool = False
    judge: str | None = Field(default=None, min_length=1)
    gate: Gate = Gate()
    order: Literal["difficulty", "as written"] = "difficulty"
    seed: int = 42

    @model_validator(mode="after")
    def _wants(self) -> Self:
        if not (self.below or self.add):
            raise ValueError("nothing is wanted: below and add are both 0")
        return self


def load(path: Path) -> Settings:
    """Read a file; paths in it are relative to it.

    Raises:
        SettingsError: with every problem of the file, each with its line.
    """
    settings = parse(text_of(path), str(path))
    folder = path.resolve().parent
    found = {name: str(folder / place) for name in ("written", "judge") if (place := getattr(settings, name))}
    return settings.model_copy(update=found)


def parse(text: str, name: str = "settings") -> Settings:
    """Read the text of a file; `name` is for messages.

    Raises:
        SettingsError: with every problem, each with its line.
    """
    data, tree = read_yaml(text, name)
    if not isinstance(data, dict):
        raise SettingsError(f"{name}: settings are a mapping that says what is wanted", hint="for example: below: 8")
    try:
        return Settings.model_validate(data)
    except ValidationError as error:
        raise SettingsError(
            "\n".join(problems(error.errors(), tree, name, frozenset())), hint="README, section Synthesize, lists them"
        ) from error
