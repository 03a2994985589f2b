"""One JSON list of rows, read element by element: the list is never held whole."""

import re
from codecs import getincrementaldecoder
from collections.abc import Iterator
from pathlib import Path
from typing import Any, BinaryIO, Final

from relabel.errors import RowError
from relabel.formats import lines
from relabel.formats.lines import Decoder, Record, row_of
from relabel.formats.streams import damage, open_stream

_CHUNK: Final = 1024 * 1024
_BLANKS: Final = re.compile("[ \t\r\n]+")


def holds_list(path: Path) -> bool:
    """Whether the first sign of a file opens a list."""
    return first_sign(path) == b"["


def first_sign(path: Path) -> bytes:
    """Return the first byte of a file that is not blank; nothing where there is none near its beginning."""
    with damage(path, 1), open_stream(path) as stream:
        return stream.read(4096).removeprefix(b"\xef\xbb\xbf").lstrip()[:1]


def list_records(path: Path) -> Iterator[Record]:
    """Yield the elements of a list as rows, numbered from 1.

    Raises:
        RowError: the list itself is broken: what follows cannot be told apart, and "skip" cannot help.
    """
    with open_stream(path) as stream:
        text = JsonText(path, stream)
        text.skip("[")
        number = 0
        while (sign := text.sign()) != "]":
            if number:
                if sign != ",":
                    raise text.broken("expected a comma or the end of the list")
                text.skip(",")
            number += 1
            text.number = number
            element, row = text.element()
            yield Record(
                number, element.encode("utf-8", "surrogatepass"),
                row_of(row, text.twice, path, number),
            )  # fmt: skip
        text.skip("]")
        if text.sign():
            raise text.broken("something follows the end of the list")


class JsonText:
    """The text of a file from where it was read to; `number` is the row that it is at, `what` the whole should be."""

    def __init__(self, path: Path, stream: BinaryIO, what: str = "list") -> None:
        self._path, self._stream, self._what = path, stream, what
        self._decoder = getincrementaldecoder("utf-8")()
        self._json = Decoder()
        self._text, self._at, self._ended = "", 0, False
        self.number = 1

    @property
    def twice(self) -> str:
        """The key that stands twice in an object of the last element, "" where there is none."""
        return self._json.twice

    def sign(self) -> str:
        """Return the next sign that is not blank, "" at the end."""
        while True:
            if blanks := _BLANKS.match(self._text, self._at):
                self._at = blanks.end()
            if self._at < len(self._text):
                return self._text[self._at]
            if self._ended:
                return ""
            self._more()

    def skip(self, sign: str) -> None:
        """Step over a sign that `sign` has seen."""
        if self.sign() == sign:
            self._at += 1

    def element(self) -> tuple[str, Any]:
        """Return one whole value, as text and as parsed."""
        self.sign()
        while True:
            try:
                value, end = self._json.scan(self._text, self._at)
            except RecursionError as error:
                raise self.broken("nested too deep") from error
            except ValueError as error:
                # not yet all of it, or broken: only the rest of the file can tell, up to the limit of a row
                if self._ended or len(self._text) - self._at > lines.MAX_LINE:
                    raise self.broken(str(error)) from error
                self._more()
            else:
                if isinstance(value, int | float) and end + 2 >= len(self._text) and not self._ended:
                    # a number may go on: 12 | .5, 1 | e-5
                    self._more()
                    continue
                element, self._at = self._text[self._at : end], end
                return element, value

    def broken(self, why: str) -> RowError:
        """Say where the list is broken."""
        cut = self._ended and (why.startswith("Unterminated") or not self.sign())
        where = "is cut off" if cut else f"is not a JSON {self._what}"
        return RowError(
            f"{where}: {why}", path=self._path, line=self.number, hint="Mend the file, or copy or download it again."
        )

    def _more(self) -> None:
        """Read on: at least as much again as is held, so that a long value is not scanned too often."""
        with damage(self._path, self.number):
            chunk = self._stream.read(max(_CHUNK, len(self._text) - self._at))
        self._ended = not chunk
        try:
            text = self._decoder.decode(chunk, final=self._ended)
        except UnicodeDecodeError as error:
            raise RowError(
                "is not UTF-8, or a row close behind it", path=self._path, line=self.number,
                hint="Save the file as UTF-8.",
            ) from error  # fmt: skip
        self._text, self._at = self._text[self._at :] + text, 0
        self._text = self._text.removeprefix("\ufeff")
