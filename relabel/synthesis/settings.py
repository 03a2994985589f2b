"""One YAML file → checked, frozen settings of `relabel synthesize`."""

from pathlib import Path
from typing import Annotated, Literal, Self

from pydantic import ConfigDict, Field, ValidationError, model_validator

from relabel.engine_settings import Strict
from relabel.errors import SettingsError
from relabel.yamltext import problems, read_yaml, text_of

_Share = Annotated[float, Field(ge=0, le=1)]


class Gate(Strict):
    """What a passage must be like before anybody is asked about it; null in place of a number = not looked at.

    Attributes:
        words: its words over the median of the row's own passages: at least, at most. What the row itself has is never
            too short or too long.
        copied: from which share of its text on it is a copy, of the query or of a positive; in a file `copy`.
        near: from which cosine to a positive, to a mined negative or to another one of its row on it is a near-copy.
        twin: likewise the share of text that it has in common with one of any row (Jaccard index).
        easy: which quantile of the cosines of the row's mined negatives with the query it must reach; 0 = the lowest.
        language: whether it must be in the language of the row's passages.
    """

    model_config = ConfigDict(validate_by_name=True, validate_by_alias=True)

    words: Annotated[list[Annotated[float, Field(ge=0)]], Field(min_length=2, max_length=2)] | None = [0.5, 2.0]
    copied: Annotated[float, Field(gt=0, le=1)] | None = Field(default=0.8, alias="copy")
    near: Annotated[float, Field(gt=0, le=1)] | None = 0.95
    twin: Annotated[float, Field(gt=0, le=1)] | None = 0.9
    easy: _Share | None = 0.0
    language: bool = True

    @model_validator(mode="after")
    def _ordered(self) -> Self:
        if self.words is not None and self.words[0] > self.words[1]:
            raise ValueError("`words` are two numbers: the least, then the most")
        return self


class MaxShare(Strict):
    """The most that may be synthetic: of a row's negatives, and of all negatives of the data set."""

    row: _Share = 0.5
    data: _Share = 0.5


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
    below: int = Field(default=0, ge=0)
    add: int = Field(default=0, ge=0)
    oversample: float = Field(default=1.5, ge=1, allow_inf_nan=False)
    max_share: MaxShare = MaxShare()
    alone: bool = False
    judge: str | None = Field(default=None, min_length=1)
    gate: Gate = Gate()
    order: Literal["difficulty", "as written"] = "difficulty"
    seed: int = 42

    @model_validator(mode="after")
    def _wants(self) -> Self:
        if not (self.below or self.add):
            raise ValueError("nothing is wanted: write `below` (fill rows up to so many) or `add` (so many to each)")
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
