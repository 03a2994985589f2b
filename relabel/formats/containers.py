"""A file as rows, whatever holds them."""

from collections.abc import Iterator
from pathlib import Path

from relabel.formats.endings import is_csv, is_json, is_table
from relabel.formats.jsonlist import holds_list, list_records
from relabel.formats.lines import Record, csv_records, json_records
from relabel.formats.tables import table_records


def read_records(path: Path) -> Iterator[Record]:
    """Yield the rows of a file one by one, the bad ones with their error. Blank lines are not rows.

    Raises:
        InputError: the file cannot be read on: truncated, not what its name says, a CSV header that cannot be used.
    """
    if is_table(path):
        return table_records(path)
    if is_csv(path):
        return csv_records(path)
    return list_records(path) if is_json(path) and holds_list(path) else json_records(path)
