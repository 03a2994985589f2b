"""Bytes in and out: plain, gzip or Zstandard, by the file's name."""

import gzip
import io
import stat
import zlib
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import BinaryIO, cast

from relabel.errors import InputError, RowError
from relabel.formats.endings import is_gzip, is_zstd


def existing(path: Path | str) -> Path:
    """Return a path at which a folder is, or a file that can be read, and again from its beginning.

    Raises:
        InputError: nothing is there, it may not be read, or it is a pipe or a device.
    """
    path = Path(path)
    try:
        mode = path.stat().st_mode
        if stat.S_ISREG(mode):
            path.open("rb").close()
    except FileNotFoundError:
        raise InputError(f"{path}: there is no such file or folder", hint="Check the name and the folder.") from None
    except (OSError, ValueError) as error:
        raise InputError(f"{path}: cannot be opened: {error}", hint="Check the name and its permissions.") from error
    if not stat.S_ISREG(mode) and not stat.S_ISDIR(mode):
        raise InputError(
            f"{path}: is a pipe or a device, and it is read more than once", hint="Write it to a file first."
        )
    return path


def open_stream(path: Path) -> BinaryIO:
    """Open a file for reading what it holds, decompressed."""
    if is_gzip(path):
        return cast("BinaryIO", gzip.open(path, "rb"))
    if is_zstd(path):
        import pyarrow as pa

        return cast("BinaryIO", io.BufferedReader(pa.CompressedInputStream(pa.OSFile(str(path), "rb"), "zstd")))
    return path.open("rb")


def open_output(path: Path, like: Path) -> BinaryIO:
    """Open `path` for writing what a file called `like` holds. No time and no name stands in a compressed file."""
    plain = path.open("wb")
    if is_gzip(like):
        return cast("BinaryIO", _Closing(plain))
    if is_zstd(like):
        import pyarrow as pa

        return cast("BinaryIO", pa.CompressedOutputStream(pa.PythonFile(plain, "w"), "zstd"))
    return plain


class _Closing(gzip.GzipFile):
    """Compresses into an open file, and closes it too."""

    def __init__(self, plain: BinaryIO) -> None:
        super().__init__("", "wb", compresslevel=6, fileobj=plain, mtime=0)
        self._plain = plain

    def close(self) -> None:
        try:
            super().close()
        finally:
            self._plain.close()


@contextmanager
def damage(path: Path, number: int) -> Iterator[None]:
    """Turn what goes wrong while a file is read into one clear message with the line (or row) it goes wrong at."""
    again = "Copy or download the file again."
    try:
        yield
    except gzip.BadGzipFile as error:
        if number == 1 and "CRC" not in str(error):
            hint = "Take .gz off the name of a plain file."
            raise RowError(f"not gzip data: {error}", path=path, line=number, hint=hint) from error
        problem = f"the compressed file is damaged, or something follows its end: {error}"
        raise RowError(problem, path=path, line=number, hint=again) from error
    except (EOFError, zlib.error) as error:
        problem = f"the compressed file is damaged or cut off: {error}"
        raise RowError(problem, path=path, line=number, hint=again) from error
    except OSError as error:
        if is_zstd(path) and error.errno is None:  # pyarrow's word for it
            problem = f"not Zstandard data, or damaged or cut off: {error}"
            raise RowError(problem, path=path, line=number, hint=again) from error
        raise RowError(f"cannot be read: {error}", path=path, line=number) from error
