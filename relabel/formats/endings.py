"""What kind of file a name says: rows in what container, compressed or not."""

from pathlib import Path
from typing import Final

_CONTAINERS: Final = (".csv", ".json", ".parquet")
_COMPRESSIONS: Final = (".gz", ".zst")


def is_gzip(path: Path) -> bool:
    """Whether the file is compressed by gzip."""
    return path.name.lower().endswith(".gz")


def is_zstd(path: Path) -> bool:
    """Whether the file is compressed by Zstandard."""
    return path.name.lower().endswith(".zst")


def is_csv(path: Path) -> bool:
    """Whether the file holds CSV, compression apart."""
    return _container(path) == ".csv"


def is_json(path: Path) -> bool:
    """Whether the file is called `.json`, compression apart: one list, or lines all the same."""
    return _container(path) == ".json"


def is_table(path: Path) -> bool:
    """Whether the rows are typed columns: Parquet, or a folder saved by `datasets`. Parquet compresses itself."""
    return path.name.lower().endswith(".parquet") or is_saved(path)


def is_file_name(path: Path) -> bool:
    """Whether the name is one that files of rows have."""
    return path.name.lower().endswith((*_CONTAINERS, *_COMPRESSIONS, ".jsonl", ".tsv"))


def is_saved(path: Path) -> bool:
    """Whether `datasets` saved a data set (one split) to this folder."""
    return path.is_dir() and (path / "state.json").is_file()


def ending(path: Path) -> str:
    """Return the usual ending of a file of that kind, however its own name spells it."""
    if is_table(path):
        return ".parquet"
    return (_container(path) or ".jsonl") + next(
        (each for each in _COMPRESSIONS if path.name.lower().endswith(each)), ""
    )


def _container(path: Path) -> str:
    name = plain_name(path)
    return next((each for each in _CONTAINERS if name.endswith(each)), "")


def plain_name(path: Path) -> str:
    """Return the name of a file in small letters, without what says how it is compressed."""
    name = path.name.lower()
    return next((name.removesuffix(each) for each in _COMPRESSIONS if name.endswith(each)), name)
