"""The formats there are: by name, and by the look of a row."""

from collections.abc import Mapping
from pathlib import Path
from types import MappingProxyType
from typing import Any, Final

from relabel.errors import InputError
from relabel.formats.automodel import Automodel
from relabel.formats.base import Format
from relabel.formats.beir import Beir
from relabel.formats.bge import Bge
from relabel.formats.dpr import Dpr
from relabel.formats.endings import is_csv
from relabel.formats.exporting import Export
from relabel.formats.labeled import LabeledLists, LabeledPairs
from relabel.formats.llamaindex import LlamaIndex
from relabel.formats.ntuples import NTuples
from relabel.formats.tevatron import Tevatron
from relabel.formats.tevatron2 import Tevatron2
from relabel.formats.triplets import Triplets

_ALL: Final[tuple[Format, ...]] = (
    Tevatron(), Bge(), Triplets(), NTuples(), LabeledPairs(), LabeledLists(), Dpr(),
)  # fmt: skip

FORMATS: Final[Mapping[str, Format]] = MappingProxyType({each.name: each for each in _ALL})
"""Every format by its name, in the order in which a row is compared with them."""

_EXPORTS: Final[tuple[Export, ...]] = (Tevatron2(), Automodel(), Beir(), LlamaIndex())

EXPORTS: Final[Mapping[str, Export]] = MappingProxyType({each.name: each for each in _EXPORTS})
"""Every collection that can be written, by its name."""


def get_format(name: str) -> Format:
    """Return the format of that name.

    Raises:
        InputError: there is none; lists the names.
    """
    if name not in FORMATS:
        raise InputError(f"there is no format {name!r}", hint=f"Type --format and one of: {', '.join(FORMATS)}.")
    return FORMATS[name]


def get_output(name: str) -> Format | Export:
    """Return the format or the export of that name: what examples can be written as.

    Raises:
        InputError: there is none; lists the names.
    """
    if name in EXPORTS:
        return EXPORTS[name]
    if name not in FORMATS:
        names = ", ".join([*FORMATS, *EXPORTS])
        raise InputError(f"there is no format {name!r}", hint=f"Type --to and one of: {names}.")
    return FORMATS[name]


def format_for(path: Path, name: str) -> Format:
    """Return the named format, if a file of that name can hold it: CSV holds no lists."""
    chosen = get_format(name)
    if is_csv(path) and not chosen.flat:
        raise InputError(
            f"{path}: {name} rows hold lists, which a CSV file cannot",
            hint="Name a file that ends in .jsonl or .parquet.",
        )
    return chosen


def recognise(row: Mapping[str, Any], path: Path) -> Format:
    """Return the format whose fields a row has.

    Raises:
        InputError: it has those of none; lists the keys seen and the shapes known.
    """
    candidates = [each for each in FORMATS.values() if each.flat or not is_csv(path)]
    for candidate in candidates:
        if candidate.recognises(row):
            return candidate
    seen = ", ".join(map(repr, list(row)[:30])) or "none"
    shapes = "".join(f"\n    {each.name}: {each.shape}" for each in candidates)
    raise InputError(
        f"{path}: the first row has no shape that relabel knows. Keys seen: {seen}. Shapes known:{shapes}",
        hint="Rename the fields to one of these, or type --format NAME to see which field is missing.",
    )
