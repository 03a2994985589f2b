"""Texts as pieces to be shown: words that texts share are marked, signs that nobody can see are spelled out.

Marks are an aid to the eye, not a measure: two words count as the same when their first letters do, and words that say
nothing alone are passed over in a few languages only. The work is bounded, however long a text is.
"""

import functools
import re
import unicodedata
from collections.abc import Iterator
from dataclasses import dataclass
from itertools import groupby
from typing import Final, Literal

Kind = Literal["", "query", "other", "both", "sign"]
"""No mark; a word of the query, of the other text, of both; the name of a sign that cannot be seen."""

MARKED: Final = 20_000
"""Characters of a text whose words are looked at; what follows is shown as it is, folded."""

_KINDS: Final[tuple[Kind, ...]] = ("", "query", "other", "both")
_SAME: Final = 6
"""Letters that two words must share at their beginning."""

_SIGNS: Final = re.compile(
    "[\x00-\x08\x0b-\x1f\x7f-\x9f\u061c\u180e\u200b\u200e\u200f\u2028-\u202e\u2060-\u206f\ufeff\ufff9-\ufffb"
    "\ud800-\udfff\U000e0000-\U000e007f]+"
)
"""Controls but tab and line feed, what turns the direction of text, blanks without width, halves of surrogate pairs."""

_UNSPACED: Final = "\u0e01-\u0e4e\u0e80-\u0eff\u1000-\u109f\u1780-\u17ff\u3005-\u30ff\u3400-\u9fff\uf900-\ufaff"
"""Thai, Lao, Burmese, Khmer, kana and Han: written without spaces, so that pairs of characters are compared."""

_WORDS: Final = """
    aber about after all alle als also and any are auch auf aus aux avec because been before bei bis but can ces
    cette con could dann dans das dass del dem den denn der des did die dies diese dieser doch does donc done durch
    each ein eine einem einen einer eines ella elle ellos est esta este for from für had has hat have hay her here
    him his how ich ihr into ist its just kann las les leur like los mais man may mehr mit more most much must muy
    más nach nicht noch not nous now nur oder off one only ont other our out over own par para pas pero por pour que
    qui sans sehr sein seine ser ses shall she should sich sie sin sind sobre some son sont such sur sus than that
    the their them then there these they this those through too una und under une uno uns unter until upon very vom
    von vor vous war was way wenn wer were what when where which while who whom why wie will wir wird with within
    would you your zum zur zwischen über
"""
_SILENT: Final = frozenset(_WORDS.split())
"""Words that say nothing alone, of English, German, French and Spanish."""


@dataclass(frozen=True, slots=True)
class Piece:
    """A part of a text, and what there is to it."""

    text: str
    kind: Kind = ""


@dataclass(frozen=True, slots=True)
class Marked:
    """A text to be shown: its beginning in pieces, the rest folded away; together every character of it.

    `rest` is empty for all but very long texts; in parts, since a browser lays out one long text as a whole.
    """

    pieces: tuple[Piece, ...]
    rest: tuple[str, ...] = ()


def vocabulary(text: str) -> frozenset[str]:
    """Return what the words of a text are compared by, of its first `MARKED` characters."""
    return frozenset(key for part in _pattern().findall(text[:MARKED]) for key in _keys(part) if key)


def mark(text: str, query: frozenset[str] = frozenset(), other: frozenset[str] = frozenset()) -> Marked:
    """Mark the words of a text that stand in the query, in another text, or in both.

    Args:
        text: any text at all; no character of it is lost.
        query: `vocabulary` of the query.
        other: `vocabulary` of the text beside which this one is read.

    Returns:
        Pieces whose texts, but for signs spelled out and line ends made one kind, are the text.
    """
    text = text.replace("\r\n", "\n")
    first, *rest = _parts(text)
    return Marked(tuple(_pieces(first, query, other)), tuple(_SIGNS.sub(_spelled, part) for part in rest))


def _parts(text: str) -> Iterator[str]:
    """Cut a text where a word ends; one of no more than `MARKED` characters is its only part."""
    place = 0
    while len(text) - place > MARKED:
        last = place + MARKED
        cut = text.rfind(" ", last - 200, last) + 1 or last
        yield text[place:cut]
        place = cut
    yield text[place:]


def _pieces(text: str, query: frozenset[str], other: frozenset[str]) -> Iterator[Piece]:
    """Yield marked words, and what lies between two of them as one piece."""
    plain = 0
    for found in _pattern().finditer(text) if query or other else ():
        for start, end, kind in _spans(found, query, other):
            yield from _plain(text[plain:start])
            yield Piece(text[start:end], kind)
            plain = end
    yield from _plain(text[plain:])


def _spans(found: re.Match[str], query: frozenset[str], other: frozenset[str]) -> Iterator[tuple[int, int, Kind]]:
    """Yield where in a word, or in a run without spaces, marks begin and end."""
    keys = _keys(found[0])
    kinds = [0] * (len(keys) + 1)
    for place, key in enumerate(keys):
        kind = (key in query) + 2 * (key in other)
        kinds[place] |= kind
        kinds[place + 1] |= kind
    if len(keys) == 1:
        if kinds[0]:
            yield (*found.span(), _KINDS[kinds[0]])
        return
    place = found.start()
    for kind, run in groupby(kinds):
        length = len(list(run))
        if kind:
            yield place, place + length, _KINDS[kind]
        place += length


def _plain(text: str) -> Iterator[Piece]:
    place = 0
    for found in _SIGNS.finditer(text):
        if found.start() > place:
            yield Piece(text[place : found.start()])
        yield Piece(_spelled(found), "sign")
        place = found.end()
    if place < len(text):
        yield Piece(text[place:])


def _spelled(found: re.Match[str]) -> str:
    return "".join([f"⟨U+{ord(sign):04X}⟩" for sign in found[0]])


@functools.lru_cache(maxsize=20_000)
def _keys(word: str) -> tuple[str, ...]:
    """Return what a word is compared by, "" for nothing; of a run without spaces its pairs of characters."""
    if re.match(f"[{_UNSPACED}]", word):
        return tuple([word[i : i + 2] for i in range(max(1, len(word) - 1))])
    folded = unicodedata.normalize("NFKC", word).casefold()
    if any(sign.isdigit() for sign in folded):
        return (folded,)
    if len(folded) < 3 or folded in _SILENT:
        return ("",)
    return ((folded[:-1] if folded.endswith("s") and len(folded) > 3 else folded)[:_SAME],)


@functools.cache
def _pattern() -> re.Pattern[str]:
    """Return what finds words, with the marks written onto their letters, and runs without spaces."""
    marks = "".join(chr(code) for code in range(0x300, 0x10000) if unicodedata.category(chr(code)).startswith("M"))
    return re.compile(rf"[{_UNSPACED}]+|[^\W_{_UNSPACED}](?:[^\W_{_UNSPACED}]|[{marks}])*")
