"""Training files in and out: one module per format, one way to read and to write them all."""

from relabel.formats.base import Effects, Format, Writer
from relabel.formats.exporting import Export
from relabel.formats.joining import as_format
from relabel.formats.known import EXPORTS, FORMATS, get_format, get_output
from relabel.formats.labeled import LabeledPairs, Seams, rows_of
from relabel.formats.reading import OnError, Reject, detect, read_examples
from relabel.formats.writing import open_writer

__all__ = [
    "EXPORTS",
    "FORMATS",
    "Effects",
    "Export",
    "Format",
    "LabeledPairs",
    "OnError",
    "Reject",
    "Seams",
    "Writer",
    "as_format",
    "detect",
    "get_format",
    "get_output",
    "open_writer",
    "read_examples",
    "rows_of",
]
