"""YAML text → data, and where in it a mistake stands."""

import math
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, Final

import yaml

from relabel.errors import SettingsError

LONGEST: Final = 1_000_000
"""Bytes of a file of settings."""

_MOST: Final = 100_000
"""Values in a file, those that an alias (*name) stands for counted each time."""


README: Final = "README lists what may be written in it"


class _Loader(yaml.SafeLoader):
    """YAML that says when a key stands twice, instead of taking the last."""

    def construct_mapping(self, node: yaml.MappingNode, deep: bool = False) -> dict[Any, Any]:  # noqa: FBT001, FBT002
        seen = set()
        for key, _ in node.value:
            if not isinstance(key, yaml.ScalarNode):
                raise yaml.MarkedYAMLError(problem="a key must be one word", problem_mark=key.start_mark)
            if key.value in seen:
                raise yaml.MarkedYAMLError(problem=f"{key.value!r} stands twice", problem_mark=key.start_mark)
            seen.add(key.value)
        return super().construct_mapping(node, deep)


def text_of(path: Path) -> str:
    """Return the text of a file of settings, with or without a byte order mark.

    Raises:
        SettingsError: it is missing, no UTF-8, or longer than settings are.
    """
    hint = "give a YAML file: -c FILE"
    try:
        with path.open("rb") as file:
            content = file.read(LONGEST + 1)
        if len(content) > LONGEST:
            told = f"cannot read the config {path}: longer than {LONGEST:,} bytes"
            raise SettingsError(told, hint="settings are short: is this the right file?")
        return content.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        line = error.object.count(b"\n", 0, error.start) + 1
        raise SettingsError(f"{path}, line {line}: is not UTF-8", hint="save the file as UTF-8") from error
    except (OSError, ValueError) as error:
        raise SettingsError(f"cannot read the config {path}: {error}", hint=hint) from error


def read_yaml(text: str, name: str, *, hint: str = README) -> tuple[Any, yaml.Node | None]:
    """Return the data of a YAML text, and its tree, which knows the lines; `hint` says what may stand in it.

    Raises:
        SettingsError: it is no YAML, a key stands twice, it nests too deep, or aliases make it endless.
    """
    try:
        tree = yaml.compose(text, Loader=yaml.SafeLoader)
        if tree is not None and _size(tree, {}) > _MOST:
            raise SettingsError(
                f"{name}: holds more than {_MOST:,} values", hint="write it out without aliases (*name)"
            )
        return yaml.load(text, Loader=_Loader), tree  # noqa: S506 - a SafeLoader
    except yaml.YAMLError as error:
        mark = getattr(error, "problem_mark", None)
        where = f"{name}, line {mark.line + 1}" if mark else name
        raise SettingsError(f"{where}: not YAML: {getattr(error, 'problem', None) or error}", hint=hint) from error
    except RecursionError as error:
        raise SettingsError(f"{name}: nested too deep", hint=hint) from error
    except (ValueError, OverflowError) as error:  # a date that is none, a number too long
        raise SettingsError(f"{name}: holds a value that cannot be read: {error}", hint=hint) from error


def _size(node: yaml.Node, known: dict[int, int]) -> int:
    """Count the values of a tree as if every alias were written out; one that stands within itself is endless."""
    if id(node) not in known:
        known[id(node)] = _MOST + 1
        inner = [part for pair in node.value for part in pair] if isinstance(node, yaml.MappingNode) else node.value
        below = sum(_size(each, known) for each in inner) if isinstance(node, yaml.CollectionNode) else 0
        known[id(node)] = min(1 + below, _MOST + 1)
    return known[id(node)]


def problems(
    errors: Sequence[Mapping[str, Any]], tree: yaml.Node | None, name: str, tags: frozenset[str]
) -> Iterator[str]:
    """Say what pydantic found wrong, one sentence a mistake, each with file, line and field.

    Left out is that a field is not of one kind where it was read as another, in which a mistake was found.

    Args:
        errors: as pydantic lists them.
        tree: of the text.
        name: of the file.
        tags: the names of a union's members, which pydantic puts into the place of an error.
    """

    def is_tag(part: object) -> bool:
        return isinstance(part, str) and (part in tags or "[" in part)

    places = [[part for part in found["loc"] if not is_tag(part)] for found in errors]
    for i, (found, place) in enumerate(zip(errors, places, strict=True)):
        others = places[:i] + places[i + 1 :]
        if found["type"] in ("list_type", "dict_type") and any(other[: len(place)] == place for other in others):
            continue
        if found["type"] == "literal_error" and any(
            other[: len(place)] == place and len(other) > len(place) for other in others
        ):
            continue
        yield _problem(name, tree, found, place)


def _problem(name: str, tree: Any, found: Mapping[str, Any], place: list[Any]) -> str:
    field = ".".join(str(part) for part in place)
    message = found["msg"].removeprefix("Value error, ").partition(" or instance of ")[0]  # a class of ours
    value = found.get("input")
    if found["type"] == "extra_forbidden":
        message = "there is no such field here"
    if found["type"] in ("dataclass_type", "model_type", "dict_type"):
        message = "fields are expected, {name: value, …}"
        message += "; left out, it has its defaults" if value is None else ""
    if found["type"] != "value_error" and isinstance(value, float) and not math.isfinite(value):
        message = f"Input should be a finite number, not {yaml.safe_dump(value).split()[0]}"
    # what is wrong with fields together is told of the whole, and begins with one of them
    return f"{name}, line {line_of(tree, place or message.split(':')[:1])}: {field + ': ' if field else ''}{message}"


def line_of(node: Any, place: Sequence[Any]) -> int:
    """Find the line (from 1) of a place in a YAML tree; of its nearest parent where the place is missing."""
    line = int(node.start_mark.line) + 1 if node is not None else 1
    for part in place:
        if isinstance(node, yaml.MappingNode):
            entry = next(((key, value) for key, value in node.value if key.value == str(part)), None)
            if entry is None:
                return line
            line, node = entry[0].start_mark.line + 1, entry[1]
        elif isinstance(node, yaml.SequenceNode) and isinstance(part, int) and part < len(node.value):
            node = node.value[part]
            line = node.start_mark.line + 1
        else:
            return line
    return line
