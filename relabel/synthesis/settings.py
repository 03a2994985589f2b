"""How synthetic negatives are made: one YAML file → checked, frozen settings.

    engine: {kind: openai, model: gpt-4o-mini}
    recipes: {requirement: 3, mirror: 1, rules: 1}
    at_once: 3
    below: 8
    judge: cascade.yaml

Unknown names are refused; all problems of a file are reported at once, each with its line. Paths are relative to it.
"""

import json
from pathlib import Path
from typing import Annotated, Any, Final, Literal, Self

from pydantic import ConfigDict, Field, ValidationError, model_validator
from pydantic.dataclasses import dataclass

from relabel.config import anchored_engine
from relabel.engine_settings import AnyEngine, Scripted, Strict
from relabel.errors import SettingsError
from relabel.synthesis.recipes import QUERY, RULES, list_recipes
from relabel.yamltext import problems, read_yaml, text_of

TEMPERATURE: Final = 1.0
"""Of an engine whose settings name none: who writes shall not write the same again and again."""

_TAGS: Final = frozenset({"openai", "openai_batch", "scripted", "vllm"})
_PATHS: Final = ("judge", "written", "prices")
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
        engine: who writes; None where all recipes are `rules`. Without a temperature of its own it has `TEMPERATURE`.
        recipes: weights by name: a shipped recipe, a template file, or `rules` (a positive, changed by rule).
        at_once: passages asked for in one request, with stated probabilities; 1 = one.
        below: rows with fewer negatives are filled up to so many.
        add: so many are added to every row, beside that.
        oversample: passages asked for per one that is wanted.
        max_share: the most that may be synthetic.
        alone: whether a row without a mined negative may get synthetic ones.
        judge: file of the cascade that judges; None = the embedded one.
        gate: what a candidate must be before anybody judges it.
        order: of a row's synthetic negatives: by difficulty, easy ones first, or as they were written.
        reference: how many of a row's positives are shown to who writes, the first ones.
        query: the recipe that writes queries for passages.
        queries: how many for a passage.
        written: file of passages that somebody has already written, in place of `engine` and `recipes`.
        prices: file of what models cost, in place of list prices; the engine's own `price` goes before it.
        seed: of the dice.
    """

    engine: Annotated[AnyEngine, Field(discriminator="kind")] | None = None
    recipes: dict[str, Annotated[float, Field(ge=0, allow_inf_nan=False)]] = Field(default={RULES: 1.0})
    at_once: int = Field(default=3, ge=1, le=20)
    below: int = Field(default=8, ge=0)
    add: int = Field(default=0, ge=0)
    oversample: float = Field(default=1.5, ge=1, le=20)
    max_share: Shares = Shares()
    alone: bool = False
    judge: str | None = Field(default=None, min_length=1)
    gate: Gate = Gate()
    order: Literal["difficulty", "as written"] = "difficulty"
    reference: int = Field(default=3, ge=1)
    query: str = Field(default=QUERY, min_length=1)
    queries: int = Field(default=1, ge=1, le=20)
    written: str | None = Field(default=None, min_length=1)
    prices: str | None = Field(default=None, min_length=1)
    seed: int = 42

    @model_validator(mode="after")
    def _possible(self) -> Self:
        if not any(self.recipes.values()):
            raise ValueError("recipes: give one of them a weight above 0")
        if self.engine is None and self.asks and self.written is None:
            raise ValueError(f"recipes: {self.asks[0]} asks a model, and none is named; write engine: {{…}}")
        if not self.below and not self.add:
            raise ValueError("nothing is wanted: below and add are both 0")
        return self

    @property
    def asks(self) -> tuple[str, ...]:
        """The recipes in use that ask a model."""
        return tuple(name for name, weight in self.recipes.items() if weight and name != RULES)

    @property
    def generator(self) -> str:
        """Who writes, by the model's name; "rules" where nobody is asked."""
        if self.engine is None:
            return RULES
        return "recorded replies" if isinstance(self.engine, Scripted) else self.engine.model


def load(path: Path | None) -> Settings:
    """Read a file; None = the settings that are in force where nothing else is said.

    Raises:
        SettingsError: with every problem, each with its line.
    """
    if path is None:
        return Settings()
    return parse(text_of(path), str(path), path.resolve().parent)


def parse(text: str, name: str = "config", folder: Path = Path()) -> Settings:
    """Read the text of a file; `name` is for messages, paths are relative to `folder`.

    Raises:
        SettingsError: with every problem, each with its line.
    """
    data, tree = read_yaml(text, name)
    if data is not None and not isinstance(data, dict):
        raise SettingsError(f"{name}: settings are lines of `name: value`", hint="such as below: 8")
    try:
        settings = Settings.model_validate_json(json.dumps(data or {}, default=str))
    except ValidationError as error:
        found = [dict(each) for each in error.errors()]
        raise SettingsError(
            "\n".join(problems(found, tree, name, _TAGS)), hint="README, section Synthesize, lists what may be written"
        ) from error
    return _anchored(settings, folder)


def _anchored(settings: Settings, folder: Path) -> Settings:
    """Take paths as relative to the file, and let who writes throw dice unless told otherwise."""

    def placed(name: str) -> str:
        shipped = name in (RULES, *list_recipes())
        return str((folder / name).resolve()) if not shipped and (folder / name).is_file() else name

    update: dict[str, Any] = {
        "recipes": {placed(name): weight for name, weight in settings.recipes.items()},
        "query": placed(settings.query),
        **{name: str((folder / path).resolve()) for name in _PATHS if (path := getattr(settings, name))},
    }
    engine = settings.engine
    if engine is not None:
        engine = anchored_engine(engine, folder)
        silent = not isinstance(engine, Scripted) and "temperature" not in engine.model_fields_set
        update["engine"] = engine.model_copy(update={"temperature": TEMPERATURE}) if silent else engine
    return settings.model_copy(update=update)
