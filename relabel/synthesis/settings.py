"""How synthetic negatives are made: one YAML file → checked, frozen settings.

    engine: {kind: openai, model: gpt-4o-mini}
    recipes: {requirement: 3, mirror: 1, rules: 1}
    at_once: 3
    below: 8
    judge: cascade.yaml

Unknown names are refused; all problems of a file are reported at once, each with its line. Paths are relative to it.
"""

import json
import math
from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path
from typing import Annotated, Any, Final, Literal, Self

from pydantic import BeforeValidator, ConfigDict, Field, ValidationError, model_validator
from pydantic.dataclasses import dataclass

from relabel import config
from relabel.engine_settings import AnyEngine, Scripted, Strict
from relabel.errors import RelabelError, SettingsError
from relabel.pricefile import PriceFile
from relabel.synthesis.recipes import QUERY, RULES, list_recipes, load_recipe
from relabel.yamltext import line_of, problems, read_yaml, text_of

TEMPERATURE: Final = 1.0
"""Of an engine whose settings name none: who writes shall not write the same again and again."""

_TAGS: Final = frozenset({"openai", "openai_batch", "scripted", "vllm"})
_PATHS: Final = ("judge", "written", "prices")
_KNOWN: Final = ConfigDict(extra="forbid")


def _between(least: float, most: float = math.inf) -> BeforeValidator:
    """Refuse numbers out of a range, .nan and .inf among them, by what the range is."""

    def check(value: Any) -> Any:
        if isinstance(value, int | float) and not (math.isfinite(value) and least <= value <= most):
            wanted = f"of {least:g} or more" if most == math.inf else f"from {least:g} to {most:g}"
            raise ValueError(f"a number {wanted} is expected")
        return value

    return BeforeValidator(check)


_Number = Annotated[float, Field(strict=True), _between(0)]
_Share = Annotated[float, Field(strict=True), _between(0, 1)]


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
    recipes: dict[str, _Number] = Field(default={RULES: 1.0})
    at_once: Annotated[int, _between(1, 20)] = 3
    below: Annotated[int, _between(0)] = 8
    add: Annotated[int, _between(0)] = 0
    oversample: Annotated[float, _between(1, 20)] = 1.5
    max_share: Shares = Shares()
    alone: bool = False
    judge: str | None = Field(default=None, min_length=1)
    gate: Gate = Gate()
    order: Literal["difficulty", "as written"] = "difficulty"
    reference: Annotated[int, _between(1)] = 3
    query: str = Field(default=QUERY, min_length=1)
    queries: Annotated[int, _between(1, 20)] = 1
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


def load(path: Path | None, *, queries: bool = False) -> Settings:
    """Read a file; None = the settings that are in force where nothing else is said.

    What it names has to be there, and usable: recipes, the cascade, prices, recordings.

    Args:
        path: see above.
        queries: whether it is for writing queries: then only what these need has to be.

    Raises:
        SettingsError: with every problem, each with its line.
    """
    if path is None:
        return Settings()
    folder = path.resolve().parent
    settings, tree = _read(text_of(path), str(path), folder)
    if found := list(_missing(settings, tree, path, queries=queries)):
        raise SettingsError(
            "\n".join(told for told, _ in found), hint="; ".join(dict.fromkeys(hint for _, hint in found if hint))
        )
    return settings


def parse(text: str, name: str = "config", folder: Path = Path()) -> Settings:
    """Read the text of a file; `name` is for messages, paths are relative to `folder`.

    Raises:
        SettingsError: with every problem, each with its line.
    """
    return _read(text, name, folder)[0]


def _read(text: str, name: str, folder: Path) -> tuple[Settings, Any]:
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
    return _anchored(settings, folder), tree


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
        engine = config.anchored_engine(engine, folder)
        silent = not isinstance(engine, Scripted) and "temperature" not in engine.model_fields_set
        update["engine"] = engine.model_copy(update={"temperature": TEMPERATURE}) if silent else engine
    return settings.model_copy(update=update)


def _missing(settings: Settings, tree: Any, path: Path, *, queries: bool) -> Iterator[tuple[str, str]]:
    """Yield what cannot be used of what a file names, with its line, and what to do."""
    for place, see in _named(settings, queries=queries):
        told = f"{path}, line {line_of(tree, place)}: {'.'.join(place)}: "
        try:
            see()
        except RelabelError as error:
            yield told + error.message, error.hint
        except (OSError, ValueError) as error:
            yield f"{told}cannot be read: {error}", "correct the path; it is relative to the file"


def _named(settings: Settings, *, queries: bool) -> Iterator[tuple[tuple[str, ...], Callable[[], object]]]:
    """Yield what the settings name and a command needs: where it stands, and what fails where it cannot be used."""

    def file(path: str, read: Callable[[Path], object] = lambda _: None) -> Callable[[], object]:
        def see() -> None:
            with Path(path).open("rb"):
                pass
            read(Path(path))

        return see

    if queries:
        yield ("query",), partial(load_recipe, settings.query, "query")
    elif settings.written is not None:
        yield ("written",), file(settings.written)
    else:
        yield from [(("recipes", name), partial(load_recipe, name, "write")) for name in settings.asks]
    if queries or settings.written is None:
        if settings.prices is not None:
            yield ("prices",), file(settings.prices, PriceFile.load)
        if isinstance(settings.engine, Scripted):
            yield ("engine", "replies"), file(settings.engine.replies)
    if not queries and settings.judge is not None:
        yield ("judge",), file(settings.judge, config.load)
