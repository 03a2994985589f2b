"""Writing a folder as `datasets` saves a data set (one split), for `datasets.load_from_disk`."""

import hashlib
import json
import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, Final

from relabel.formats.endings import is_saved
from relabel.formats.whole import told, whole_folder

_DATA: Final = "data-00000-of-00001.arrow"
_FILES: Final = (_DATA, "dataset_info.json", "state.json")
_LEAVINGS: Final = ("data-*.arrow", "cache-*.arrow", "README.md")
"""What else `datasets` writes into such a folder, as it saves or caches."""


def wants_folder(path: Path | str) -> bool:
    """Whether a name stands for a saved data set: it ends in a slash, or is an empty folder or a saved data set."""
    if str(path).endswith(("/", os.sep)):
        return True
    path = Path(path)
    return is_saved(path) or (path.is_dir() and not any(path.iterdir()))


@contextmanager
def saved_folder(path: Path) -> Iterator[Path]:
    """Make the folder; yields the name of the Arrow stream that is to be written into it.

    Raises:
        InputError: it cannot be made there, or holds anything else.
    """
    with whole_folder(path, _FILES, _LEAVINGS) as folder:
        data = folder / _DATA
        yield data
        with told(path):
            with data.open("rb") as file:
                fingerprint = hashlib.file_digest(file, "blake2b").hexdigest()[:16]
            _write(folder / "dataset_info.json", {})
            _write(folder / "state.json", _state(fingerprint))


def _state(fingerprint: str) -> dict[str, Any]:
    return {
        "_data_files": [{"filename": _DATA}],
        "_fingerprint": fingerprint,
        "_format_columns": None,
        "_format_kwargs": {},
        "_format_type": None,
        "_output_all_columns": False,
        "_split": None,
    }


def _write(path: Path, content: dict[str, Any]) -> None:
    path.write_text(json.dumps(content, indent=2, sort_keys=True), "utf-8")
