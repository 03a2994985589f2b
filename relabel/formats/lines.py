"""Lines of bytes as rows: JSON lines or CSV, one bad line never the end of the rest."""

import csv
import json
from collections.abc import Iterator
from dataclasses import dataclass
from hashlib import sha256
from pathlib import Path
from typing import Any, BinaryIO, Final, NamedTuple

from relabel.errors import InputError, RowError
from relabel.formats.streams import damage, open_stream

MAX_LINE: Final = 64 * 1024 * 1024
"""Longest line that is parsed, in bytes; longer ones are skipped over, never held whole."""

MAX_CONTENT: Final = 10_000
"""Most characters of a bad row that its reject keeps."""

_BOM: Final = b"\xef\xbb\xbf"
_UTF8_HINT: Final = "Save the file as UTF-8, or take the line out."
_UTF16: Final = (b"\xff\xfe", b"\xfe\xff")
"""How files in UTF-16 begin."""


class Line(NamedTuple):
    """One line of a file, with its end. A line over the limit has `cut`: its beginning and digest, ready to show."""

    number: int
    raw: bytes
    cut: str = ""


@dataclass(frozen=True, slots=True)
class Record:
    """One row of a file, or why it is none.

    `line` counts rows where there are no lines. `raw` is what it was read from, for a long one its `Line.cut`, and
    nothing where it was never text: then `content` is what was read, as JSON.
    """

    line: int
    raw: bytes | str | None
    parsed: dict[str, Any] | RowError

    @property
    def content(self) -> str:
        """The raw text, shortened, with the digest of the whole where it was."""
        if isinstance(self.raw, str):
            return self.raw
        if self.raw is None:
            raw = json.dumps(self.parsed, default=str).encode()
            return _shortened(raw, len(raw), sha256(raw).hexdigest())
        return _shortened(self.raw, len(self.raw), sha256(self.raw).hexdigest())


def _shortened(raw: bytes, size: int, checksum: str) -> str:
    text = raw.decode("utf-8", "backslashreplace").rstrip("\r\n")
    if len(text) <= MAX_CONTENT and size == len(raw):
        return text
    return f"{text[:MAX_CONTENT]}… [{size} bytes, sha256 {checksum}]"


def read_lines(path: Path) -> Iterator[Line]:
    """Yield the lines of a file, decompressed; one over the limit is cut."""
    number = 0
    with open_stream(path) as stream:
        while True:
            number += 1
            with damage(path, number):
                raw = stream.readline(MAX_LINE + 1)
                cut = _skip_over(stream, raw) if len(raw) > MAX_LINE and not raw.endswith(b"\n") else ""
            if not raw:
                return
            if number == 1:
                raw = raw.removeprefix(_BOM)
            yield Line(number, raw, cut)


def _skip_over(stream: BinaryIO, start: bytes) -> str:
    """Read to the end of a line without keeping it; return its beginning and the digest of the whole."""
    checksum, size, part = sha256(start), len(start), start
    while part and not part.endswith(b"\n"):
        part = stream.readline(1024 * 1024)
        checksum.update(part)
        size += len(part)
    return _shortened(start[: 4 * MAX_CONTENT], size, checksum.hexdigest())


def too_long(path: Path, number: int) -> RowError:
    """Say that a line is over the limit."""
    return RowError(
        f"line longer than {MAX_LINE // 2**20} MiB", path=path, line=number, hint="Is one row to a line? Split it."
    )


class Decoder:
    """JSON's decoder, which also notes a key that stands twice in one object: Python keeps the last without a word.

    `twice` is that key, in what was decoded last; "" where there is none.
    """

    def __init__(self) -> None:
        decoder = json.JSONDecoder(object_pairs_hook=self._object)
        self._decode, self._scan = decoder.decode, decoder.raw_decode
        self.twice = ""

    def decode(self, text: str) -> Any:
        """Read a text that is one value."""
        self.twice = ""
        return self._decode(text)

    def scan(self, text: str, at: int) -> tuple[Any, int]:
        """Read the value that begins at a place; return it and where it ends."""
        self.twice = ""
        return self._scan(text, at)

    def _object(self, pairs: list[tuple[str, Any]]) -> dict[str, Any]:
        found = dict(pairs)
        if len(found) < len(pairs):
            names = [name for name, _ in pairs]
            self.twice = next(name for name in names if names.count(name) > 1)
        return found


def json_records(path: Path) -> Iterator[Record]:
    """Yield the rows of a file with one JSON object to a line."""
    decoder = Decoder()
    for number, raw, cut in read_lines(path):
        if cut:
            yield Record(number, cut, too_long(path, number))
        elif not raw.isspace() and raw:
            try:
                row = decoder.decode(raw.decode("utf-8"))
            except (ValueError, RecursionError) as error:
                yield Record(number, raw, unreadable(error, raw, path, number))
                continue
            yield Record(number, raw, row_of(row, decoder.twice, path, number))


def row_of(value: object, twice: str, path: Path, number: int) -> dict[str, Any] | RowError:
    """Return a value that is an object, or say why it is no row; `twice` is a key that stands in it twice, or ""."""
    if not isinstance(value, dict):
        return no_object(value, path, number)
    if twice:
        return RowError(
            "stands twice in one object", path=path, line=number, field=twice, hint="Keep one of the two, or rename it."
        )
    return value


def unreadable(error: Exception, raw: bytes, path: Path, number: int) -> RowError:
    """Say why a line could not be decoded or parsed."""
    if isinstance(error, UnicodeDecodeError):
        return RowError(
            f"is not UTF-8 (byte {error.start + 1} of the line)", path=path, line=number, hint=_encoding_hint(raw)
        )
    if isinstance(error, json.JSONDecodeError):
        problem = f"is not JSON: {error.msg.removesuffix(' at')} at character {error.colno}"
        hint = "Mend the line, or take it out."
        if raw.strip() in {b"{", b"["}:
            hint = "A row must stand on one line."
        elif b"\r" in raw.strip():
            hint = "Its lines end in carriage returns alone; type: tr '\\r' '\\n' < FILE > FILE.jsonl"
        return RowError(problem, path=path, line=number, hint=hint)
    reason = "nested too deep" if isinstance(error, RecursionError) else str(error)
    return RowError(f"is not usable JSON: {reason}", path=path, line=number, hint="Mend the line, or take it out.")


def _encoding_hint(raw: bytes) -> str:
    if raw.startswith(b"\x1f\x8b"):
        return "This looks like gzip: name the file .jsonl.gz."
    return "This looks like UTF-16: save the file as UTF-8." if raw.startswith(_UTF16) else _UTF8_HINT


def no_object(value: object, path: Path, number: int) -> RowError:
    """Say that a row is JSON, but no object."""
    if isinstance(value, list):
        hint = "Write one object to a line; for one big list type: jq -c '.[]' FILE > FILE.jsonl"
    else:
        hint = 'Write one object to a line: {"query": …}.'
    return RowError("is JSON, but not an object", path=path, line=number, hint=hint)


class _Tap:
    """Feeds lines to a CSV parser as text and remembers those that the present record was made of."""

    def __init__(self, path: Path) -> None:
        self._path = path
        self._lines = read_lines(path)
        self.taken: list[Line] = []

    def __iter__(self) -> Iterator[str]:
        return self

    def __next__(self) -> str:
        line = next(self._lines)
        self.taken.append(line)
        if line.cut:
            raise too_long(self._path, line.number)
        # Valid UTF-8 never decodes to a surrogate, so whatever this handler leaves in a cell marks a bad byte.
        return line.raw.decode("utf-8", "surrogateescape")


def csv_records(path: Path) -> Iterator[Record]:
    """Yield the rows of a CSV file with a header; a row may stand on several lines."""
    tap = _Tap(path)
    reader = csv.reader(tap, strict=True)
    header: list[str] = []
    while True:
        tap.taken = []
        cells = _next_cells(reader, tap, path)
        if cells is None:
            return
        if cells == []:
            continue
        if not header:
            if isinstance(cells, RowError) or any(cell.strip() for cell in cells):
                header = _checked_header(cells, path)
            continue
        number = tap.taken[0].number
        raw = next((line.cut for line in tap.taken if line.cut), b"".join(line.raw for line in tap.taken))
        yield Record(number, raw, cells if isinstance(cells, RowError) else _row(header, cells, path, number))


def _next_cells(reader: Iterator[list[str]], tap: _Tap, path: Path) -> list[str] | RowError | None:
    """Parse one record: its cells ([] for a blank line), what is wrong with it, or None at the end of the file."""
    # The limit belongs to the whole interpreter: it is lent for one record and given back.
    before = csv.field_size_limit(MAX_LINE)
    try:
        cells = next(reader)
    except StopIteration:
        return None
    except csv.Error as error:
        first, last = tap.taken[0].number, tap.taken[-1].number
        more = f"; the row takes in all lines up to {last:,}" if last > first else ""
        hint = 'Write quotes inside a cell twice: "".'
        what = str(error)
        if what.startswith("new-line character"):
            what = "a carriage return stands alone in a line"
            hint = "Put a cell with it between quotes; if all lines end so, type: tr '\\r' '\\n' < FILE > NEW.csv"
        return RowError(f"is not CSV: {what}{more}", path=path, line=first, hint=hint)
    except RowError as error:
        if not tap.taken or not tap.taken[-1].cut:
            raise
        return error
    finally:
        csv.field_size_limit(before)
    try:
        "".join(cells).encode()
    except UnicodeEncodeError:
        begins = tap.taken[0]
        return RowError("is not UTF-8", path=path, line=begins.number, hint=_encoding_hint(begins.raw))
    return cells


def _checked_header(cells: list[str] | RowError, path: Path) -> list[str]:
    if isinstance(cells, RowError):
        raise cells
    if len(cells) == 1 and (sign := next((each for each in ";\t|" if each in cells[0]), "")):
        raise InputError(
            f"{path}: the columns are separated by {sign!r}, not by commas",
            hint="Save it again with commas; in a spreadsheet: CSV UTF-8 (comma delimited).",
        )
    twice = sorted({cell for cell in cells if cells.count(cell) > 1})
    if twice:
        raise InputError(f"{path}: the header names {twice[0]!r} twice", hint="Give every column its own name.")
    return cells


def _row(header: list[str], cells: list[str], path: Path, number: int) -> dict[str, Any] | RowError:
    if len(cells) != len(header):
        return RowError(
            f"has {len(cells)} cells where the header has {len(header)}",
            path=path,
            line=number,
            hint="Put cells with commas or line breaks between double quotes.",
        )
    return dict(zip(header, cells, strict=True))
