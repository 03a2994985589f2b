"""Data sets of the Hugging Face hub, by name, and folders that `datasets` can load: `hf:NAME` or `hf:NAME:CONFIG`."""

import re
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

from relabel.errors import InputError
from relabel.formats.corpora.base import Parts
from relabel.formats.corpora.fields import judged_of, passage_of, query_of
from relabel.formats.corpora.files import Rows, part_over, stamps_of
from relabel.formats.corpora.shapes import told_by_row
from relabel.formats.lines import Record

if TYPE_CHECKING:
    from datasets import Dataset

PREFIX: Final = "hf:"
SHAPE: Final = "hf:NAME or hf:NAME:CONFIG, a data set of the Hugging Face hub or a folder that `datasets` loads"
_BATCH: Final = 256


def open_hub(where: str, split: str) -> Parts:
    """Load a data set and return what it holds; it lies on disk, and is read from there.

    One with configurations `corpus` and `queries` is in MTEB's layout, its judgments in `qrels` or `default`; as
    `hf:NAME:xy` those are `xy-corpus` and so on. Any other is told by its first row.

    Raises:
        InputError: it cannot be loaded, has no such configuration or split, or its rows have no shape that is known.
    """
    name, config = _name_of(where)
    configs = _configs(where, name)
    prefix = f"{config}-" if config else ""
    if {f"{prefix}corpus", f"{prefix}queries"} <= set(configs):
        return _mteb(where, name, prefix, configs, split)
    table = _load(where, name, config or None, split)
    return told_by_row([table.rows], table.first(), table.stamps)


def queries_of_hub(where: str, split: str) -> Parts:
    """Return the queries of a data set each row of which is one."""
    name, config = _name_of(where)
    table = _load(where, name, config or None, split)
    return Parts(queries=part_over([table.rows], lambda row: (query_of(row),)), stamps=table.stamps)


@dataclass(frozen=True, slots=True)
class _Table:
    where: str
    data: "Dataset"

    @property
    def rows(self) -> Rows:
        return self.where, self.records

    def records(self) -> Iterator[Record]:
        number = 0
        for batch in self.data.with_format("arrow").iter(batch_size=_BATCH):
            for row in batch.to_pylist():
                number += 1
                yield Record(number, None, row)

    def first(self) -> dict[str, Any]:
        row = next(self.records(), None)
        if row is None or not isinstance(row.parsed, dict):
            raise InputError(f"{self.where}: holds no rows", hint="Choose another: --split.")
        return row.parsed

    @property
    def stamps(self) -> tuple[str, ...]:
        files = stamps_of(Path(each["filename"]) for each in self.data.cache_files)
        return (f"{self.where} {self.data.split} {len(self.data)}", *files)


def _mteb(where: str, name: str, prefix: str, configs: Sequence[str], split: str) -> Parts:
    corpus = _load(where, name, f"{prefix}corpus", "corpus", split)
    queries = _load(where, name, f"{prefix}queries", "queries", split)
    judged = next((each for each in (f"{prefix}qrels", prefix.rstrip("-") or "default") if each in configs), "")
    qrels = _load(where, name, judged, split) if judged else None
    return Parts(
        documents=part_over([corpus.rows], lambda row: (passage_of(row),)),
        queries=part_over([queries.rows], lambda row: (query_of(row),)),
        judged=part_over([qrels.rows], lambda row: (judged_of(row),)) if qrels else None,
        stamps=(*corpus.stamps, *queries.stamps, *(qrels.stamps if qrels else ())),
    )


def _load(where: str, name: str, config: str | None, *splits: str) -> _Table:
    """Load the first of these splits that is there; where there is but one and several may do, that one."""
    import datasets

    with _told(where):
        found = datasets.load_dataset(name, config)
    there = list(found)
    if len(splits) > 1 and len(there) == 1:
        splits = tuple(there)
    chosen = next((each for each in splits if each in there), None)
    if chosen is None:
        what = f"{where} ({config})" if config else where
        raise InputError(
            f"{what}: there is no split {splits[-1]!r}; there is: {', '.join(there)}",
            hint=f"Choose one: --split {there[0]}",
        )
    return _Table(where if config is None or where.endswith(f":{config}") else f"{where}:{config}", found[chosen])


def _configs(where: str, name: str) -> list[str]:
    import datasets

    with _told(where):
        return list(datasets.get_dataset_config_names(name))


@contextmanager
def _told(where: str) -> Iterator[None]:
    from datasets.exceptions import DatasetsError

    try:
        yield
    except (DatasetsError, OSError, ValueError, RuntimeError) as error:  # the last: a script, which is not run
        first = str(error).partition("\n")[0]
        raise InputError(
            f"{where}: cannot be loaded: {first}", hint="Check its name and configuration, the network and the login."
        ) from error


def _name_of(where: str) -> tuple[str, str]:
    """Split `hf:NAME:CONFIG`, or `hf://datasets/NAME:CONFIG`; a name that is a folder is whole."""
    name = re.sub(r"^hf:(//?datasets/)?", "", where)
    if Path(name).is_dir():
        return name, ""
    name, _, config = name.rpartition(":") if ":" in name else (name, "", "")
    return name, config
