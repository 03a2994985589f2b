"""When two passages say the same: texts without what does not change their meaning, and their digests."""

import re
import unicodedata
from collections.abc import Collection
from functools import lru_cache
from typing import Final, NamedTuple

from relabel.records import Passage, digest

_MINUS: Final = re.compile(r"[-‐‑–](?=\d)(?<!\w.)")  # the dash first: what stands before it is looked at only there
_LOST: Final = frozenset(("Zs", "Zl", "Zp", "Cc", "Cf", "Pi", "Pf", "Ps", "Pe", "Pd", "Pc"))
_MARKS: Final = frozenset("`´.,;:!?…·¿¡'\"。、，．：；！？・")


class _Folding(dict[int, str]):
    """What each character becomes; looked up once, then remembered."""

    def __missing__(self, code: int) -> str:
        character = chr(code)
        lost = character in _MARKS or unicodedata.category(character) in _LOST
        self[code] = " " if lost else character
        return self[code]


_FOLDING: Final = _Folding()


@lru_cache(maxsize=1024)  # several rules in turn look at the same few texts
def normalise(text: str) -> str:
    """Fold what does not change the meaning: width and compatibility forms (NFKC), case, punctuation, white space.

    Symbols and signs stay ("C++", "5 %", "x < 5", "−5"), and so do the vowel marks of scripts that have them. A
    text of nothing but punctuation is left as it is.
    """
    folded = unicodedata.normalize("NFKC", text).casefold()
    words = _MINUS.sub("\N{MINUS SIGN}", folded).translate(_FOLDING).split()
    return " ".join(words) or text.strip()


class Marks(NamedTuple):
    """A passage by three digests: of title and text together, of its text, of its text as one without a title."""

    full: bytes
    text: bytes
    bare: bytes
    titled: bool

    @property
    def known(self) -> tuple[bytes, bytes, bytes]:
        """What a known positive is found by; only one without a title is found by its bare text."""
        return self.full, self.text, self.full if self.titled else self.bare

    def equals_one_of(self, known: Collection[bytes]) -> bool:
        """Whether this passage is one of the known; of two passages with titles, the titles must agree too."""
        return self.full in known or (self.bare if self.titled else self.text) in known


def marks_of(passage: Passage) -> Marks:
    """Return the digests by which a passage is known again, in whatever typography it is written."""
    return _marks(passage.title, passage.text)


@lru_cache(maxsize=1024)
def _marks(title: str, text: str) -> Marks:
    text, title = normalise(text), normalise(title)
    full = f"{title} {text}".strip()
    return Marks(
        digest("full", full, size=8),
        digest("text", text, size=8),
        digest("bare", text or full, size=8),
        titled=bool(title),
    )
