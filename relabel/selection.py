"""Which filters and which sampler choose a query's negatives: options, or a YAML file → checked, frozen settings.

    filters:                         # applied in this order
      - filter: relative_margin
        margin: 0.05
      - filter: rank_window
        range_max: 30
    sampling: {strategy: simans, a: 0.5, b: 0}
    num_negatives: 4

What may be written beside a name are the fields of the class of that name in `relabel.mining`.
"""

import json
from collections.abc import Mapping, Sequence
from dataclasses import MISSING, dataclass, fields
from functools import reduce
from operator import or_
from pathlib import Path
from typing import Annotated, Any, Final, Literal, get_type_hints

from pydantic import BaseModel, ConfigDict, Field, ValidationError, create_model, model_validator

from relabel.errors import SettingsError
from relabel.mining.candidates import Anchor, Filter, Sampler
from relabel.mining.filters import AbsoluteMargin, MaxScore, MinScore, RankWindow, RelativeMargin
from relabel.mining.samplers import Top
from relabel.mining.strategies import FILTERS, POSITIVES, SAMPLERS
from relabel.yamltext import problems, read_yaml, text_of

ANCHORS: Final = ("min", "max", "mean")

_TOP: Final = Top()
_KINDS: Final[Mapping[tuple[str, str], Any]] = {
    **{("filter", str(kind.name)): kind for kind in FILTERS},
    **{("strategy", str(kind.name)): kind for kind in SAMPLERS},
}
"""The classes by what a file calls them."""


@dataclass(frozen=True, slots=True)
class Selection:
    """What is done to the candidates of a query.

    Attributes:
        filters: in their order; `POSITIVES` come first, whatever is given.
        sampler: which of those left are taken.
        num_negatives: how many; None = all that are left.
        seed: of the dice.
        exempt: sources of curated or synthetic negatives, which rules by score and likeness leave alone.
    """

    filters: tuple[Filter, ...] = POSITIVES
    sampler: Sampler = _TOP
    num_negatives: int | None = None
    seed: int = 0
    exempt: frozenset[str] = frozenset()

    def __post_init__(self) -> None:
        """Put what removes positives in front, and refuse a number that is none."""
        if self.num_negatives is not None and self.num_negatives < 1:
            raise ValueError(f"num_negatives is {self.num_negatives}; it must be 1 or more")
        if self.num_negatives is None and self.sampler != _TOP:
            raise ValueError(f"sampling by {self.sampler.name} takes num_negatives: how many to draw")
        missing = tuple(each for each in POSITIVES if each not in self.filters)
        object.__setattr__(self, "filters", missing + self.filters)


def from_options(
    *,
    relative_margin: float | None = None,
    absolute_margin: float | None = None,
    max_score: float | None = None,
    min_score: float | None = None,
    range_min: int = 0,
    range_max: int | None = None,
    positive: str = "min",
    num_negatives: int | None = None,
    sampling_strategy: str = "top",
    seed: int = 0,
) -> Selection:
    """Read the parameters of sentence-transformers' `mine_hard_negatives`, applied in its order: the window last.

    Args:
        relative_margin: see `RelativeMargin`.
        absolute_margin: see `AbsoluteMargin`.
        max_score: see `MaxScore`.
        min_score: see `MinScore`.
        range_min: see `RankWindow`.
        range_max: see `RankWindow`.
        positive: "min", "max" or "mean": which positive's score the margins are taken from.
        num_negatives: how many are left for a query; None = all.
        sampling_strategy: name of a sampler that needs no settings: "top", "random", "star", "simans", "softmax",
            "margin_balanced".
        seed: of the dice.

    Raises:
        SettingsError: a value that cannot be.
    """
    if positive not in ANCHORS:
        raise SettingsError(f"--positive {positive!r} is no way to hold several positives", hint="min, max or mean")
    anchor: Anchor = "min" if positive == "min" else "max" if positive == "max" else "mean"
    filters: list[Filter] = []
    try:
        if absolute_margin is not None:
            filters.append(AbsoluteMargin(absolute_margin, anchor))
        if relative_margin is not None:
            filters.append(RelativeMargin(relative_margin, anchor))
        if max_score is not None:
            filters.append(MaxScore(max_score))
        if min_score is not None:
            filters.append(MinScore(min_score))
        if range_min or range_max is not None:
            filters.append(RankWindow(range_min, range_max))
        return Selection(tuple(filters), _sampler(sampling_strategy), num_negatives, seed)
    except ValueError as error:
        raise SettingsError(str(error), hint="what it means: relabel filter --help") from error


def _sampler(name: str) -> Sampler:
    written = {named: kind for (tag, named), kind in _KINDS.items() if tag == "strategy"}
    known = [named for named, kind in written.items() if not _needs(kind)]
    if name in known:
        sampler: Sampler = written[name]()
        return sampler
    hint = "it has settings: write it in a file, and -c FILE" if name in written else f"one of: {', '.join(known)}"
    raise SettingsError(f"--sampling-strategy {name!r} cannot be used", hint=hint)


def _needs(kind: Any) -> bool:
    return any(field.default is MISSING and field.default_factory is MISSING for field in fields(kind))


# -- a file -------------------------------------------------------------------------------------------------


class Strict(BaseModel):
    """What knows every field that may be written, and its type."""

    model_config = ConfigDict(extra="forbid", frozen=True, strict=True)


def _model(tag: str, kind: Any) -> type[Strict]:
    """Make what checks one filter or sampler in a file: its name under `tag`, and the fields of its class."""
    hints = get_type_hints(kind)
    settings = {
        field.name: (hints[field.name], ... if field.default is MISSING else field.default) for field in fields(kind)
    }

    def possible(read: Any) -> Any:
        kind(**{name: getattr(read, name) for name in settings})
        return read

    named: Any = {tag: (Literal[kind.name], ...), **settings}
    check: Any = {"possible": model_validator(mode="after")(possible)}
    return create_model(kind.__name__, __base__=Strict, __validators__=check, **named)


def _one_of(tag: str) -> Any:
    models = [_model(tag, kind) for (of, _), kind in _KINDS.items() if of == tag]
    return Annotated[reduce(or_, models), Field(discriminator=tag)]


FIELDS: Final[Any] = {
    "filters": (list[_one_of("filter")], []),  # type: ignore[misc]
    "sampling": (_one_of("strategy") | None, None),
    "num_negatives": (Annotated[int, Field(ge=1)] | None, None),
    "seed": (int, 0),
    "exempt": (list[str], []),
}
"""What a file may say of filters and sampler, as fields of a pydantic model."""

TAGS: Final = frozenset(named for _, named in _KINDS)
"""The names of filters and samplers, which pydantic puts into the place of an error."""

_File: Final[Any] = create_model("_File", __base__=Strict, **FIELDS)


def load(path: Path) -> Selection:
    """Read a file.

    Raises:
        SettingsError: with every problem, each with its line.
    """
    return parse(text_of(path), str(path))


def parse(text: str, name: str = "config") -> Selection:
    """Read the text of a file; `name` is for messages.

    Raises:
        SettingsError: with every problem, each with its line.
    """
    return selection_of(parsed(text, name, _File), name)


def parsed(text: str, name: str, model: type[BaseModel], tags: frozenset[str] = frozenset()) -> Any:
    """Read a YAML text into a model that has `FIELDS`; `tags` are the names of its own unions' members.

    Raises:
        SettingsError: with every problem, each with its line.
    """
    data, tree = read_yaml(text, name)
    try:
        return model.model_validate_json(json.dumps(_long(data) if data is not None else {}, default=str))
    except ValidationError as error:
        found = list(problems([dict(each) for each in error.errors()], tree, name, TAGS | tags))
        raise SettingsError(
            "\n".join(found), hint="README, sections Filter and Mine, list what may be written"
        ) from error


def selection_of(read: Any, name: str) -> Selection:
    """Build what was read by `FIELDS`.

    Raises:
        SettingsError: values that do not go together.
    """
    try:
        return Selection(
            tuple(_build("filter", each) for each in read.filters),
            _build("strategy", read.sampling) if read.sampling is not None else _TOP,
            read.num_negatives,
            read.seed,
            frozenset(read.exempt),
        )
    except ValueError as error:
        raise SettingsError(f"{name}: {error}") from error


def _long(data: Any) -> Any:
    """Write out the short form of what needs no settings: `- repeated`, `sampling: top`."""
    if not isinstance(data, dict):
        return data
    filters, sampling = data.get("filters"), data.get("sampling")
    if isinstance(filters, Sequence) and not isinstance(filters, str):
        data = data | {"filters": [{"filter": each} if isinstance(each, str) else each for each in filters]}
    return data | {"sampling": {"strategy": sampling}} if isinstance(sampling, str) else data


def _build(tag: str, read: Any) -> Any:
    kind = _KINDS[tag, getattr(read, tag)]
    return kind(**{field.name: getattr(read, field.name) for field in fields(kind)})
