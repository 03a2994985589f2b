"""Files and folders as sources: which files hold what, what their rows are, whether they are still the same."""

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, Final, TypeVar

from relabel.errors import InputError, RowError
from relabel.formats.base import placed
from relabel.formats.containers import read_records
from relabel.formats.corpora.base import OnBad, Part, Source
from relabel.formats.corpora.separated import column_records, is_separated
from relabel.formats.endings import is_saved, plain_name
from relabel.formats.lines import Record

T = TypeVar("T")

Parse = Callable[[Mapping[str, Any]], Iterable[T]]
"""What one row holds, in order; raises a `RowError` without file and line."""

Rows = tuple[str, Callable[[], Iterable[Record]]]
"""Where rows are from, and what reads them from the beginning."""

_ROWS: Final = (".jsonl", ".json", ".csv", ".parquet")
_SAVED_SPLITS: Final = "dataset_dict.json"


def source_of(where: str, records: Callable[[], Iterable[Record]], parse: Parse[T]) -> Source[T]:
    """Return a source that parses records; what cannot be parsed is told, with its place."""

    def read(on_bad: OnBad) -> Iterator[tuple[int, T]]:
        for record in records():
            try:
                if isinstance(record.parsed, RowError):
                    raise record.parsed
                items = parse(record.parsed)
                yield from [(record.line, item) for item in items]
            except RowError as error:
                on_bad(placed(error, where, record.line), record.content)

    return Source(where, read)


def part_over(sources: Iterable[Rows], parse: Parse[T]) -> Part[T]:
    """Return what rows hold, those of one source after those of another."""
    return Part(tuple(source_of(where, records, parse) for where, records in sources))


def part_of(
    paths: Iterable[Path], parse: Parse[T], layouts: Sequence[tuple[str, ...]] = (), *, blanks: bool = False
) -> Part[T]:
    """Return what files hold, one after the other; see `records_of`."""
    return part_over([rows_of(path, layouts, blanks=blanks) for path in paths], parse)


def rows_of(path: Path, layouts: Sequence[tuple[str, ...]] = (), *, blanks: bool = False) -> Rows:
    """Return a file as rows that can be read again; see `records_of`."""
    return str(path), lambda: records_of(path, layouts, blanks=blanks)


def records_of(path: Path, layouts: Sequence[tuple[str, ...]], *, blanks: bool = True) -> Iterator[Record]:
    """Yield the rows of a file: objects, or columns of one of the layouts; see `column_records`."""
    return column_records(path, layouts, blanks=blanks) if holds_columns(path) else read_records(path)


def holds_columns(path: Path) -> bool:
    """Whether a file holds columns between tabs or blanks: no ending says otherwise."""
    return not path.is_dir() and (is_separated(path) or not plain_name(path).endswith(_ROWS))


def first_row(path: Path, layouts: Sequence[tuple[str, ...]] = ()) -> Mapping[str, Any]:
    """Return the first row of a file that can be read.

    Raises:
        InputError: there is none.
    """
    problem: RowError | None = None
    for record in records_of(path, layouts):
        if not isinstance(record.parsed, RowError):
            return record.parsed
        problem = problem or record.parsed
    raise problem or InputError(f"{path}: holds no rows", hint="Name another file, or fill it.")


def stamps_of(paths: Iterable[Path]) -> tuple[str, ...]:
    """Return each file's full name, size and time; those of a folder for all files in it."""
    files = [each for path in paths for each in (sorted(path.rglob("*")) if path.is_dir() else [path])]
    told = [(each, each.stat()) for each in files if each.is_file()]
    return tuple(f"{each.resolve()} {stat.st_size} {stat.st_mtime_ns}" for each, stat in told)


def stem_of(path: Path) -> str:
    """Return the name of a file without its endings: `qrels.dev.small` for `qrels.dev.small.tsv.gz`."""
    name = plain_name(path)
    return path.name[: len(name.rpartition(".")[0]) or len(name)]


def data_files(folder: Path) -> list[Path]:
    """Return the files of a folder that may hold rows, and the data sets saved into it, by name."""
    return sorted(
        each
        for each in folder.iterdir()
        if is_saved(each) or (each.is_file() and (is_separated(each) or plain_name(each).endswith(_ROWS)))
        if not each.name.startswith((".", "_")) and each.name not in (_SAVED_SPLITS, "merlin_metadata.json")
    )  # fmt: skip


def of_split(folder: Path, split: str) -> list[Path]:
    """Return what a folder holds of one split: `train.tsv`, `train-00000-of-00002.parquet`, a data set saved so.

    Raises:
        InputError: nothing; says which splits there are.
    """
    files = data_files(folder)
    found = [each for each in files if _split(each) == split]
    if not found:
        there = sorted({_split(each) for each in files})
        raise InputError(
            f"{folder}: there is no split {split!r}; there is: {', '.join(there) or 'none'}",
            hint=f"Choose one: --split {there[0]}" if there else "Name another folder.",
        )
    return found


def all_files(folder: Path) -> list[Path]:
    """Return what a folder holds, whatever the split is called.

    Raises:
        InputError: nothing.
    """
    found = [folder] if is_saved(folder) else data_files(folder)
    if not found:
        raise InputError(f"{folder}: the folder holds no data", hint="Name another folder, or one file.")
    return found


def _split(path: Path) -> str:
    return stem_of(path).partition("-0")[0]
