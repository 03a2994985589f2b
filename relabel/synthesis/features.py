"""A passage as numbers that say how it is written, whatever its query: style figures, hashed words and characters."""

import re
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from itertools import pairwise
from types import MappingProxyType
from typing import TYPE_CHECKING, Any, Final
from zlib import crc32

from relabel.synthesis.contrasts import COMMON

if TYPE_CHECKING:
    from numpy import float64
    from numpy.typing import NDArray

    Floats = NDArray[float64]

BUCKETS: Final = 2**15
_WORD: Final = re.compile(r"\w+")
_SENTENCE_END: Final = re.compile(r"[.!?…。！？]+(?=\s|$)")
_COMMON: Final = frozenset().union(*COMMON.values())

STYLE: Final[Mapping[str, str]] = MappingProxyType(
    {
        "characters": "characters",
        "words": "words",
        "word length": "characters a word, mean",
        "sentence length": "words a sentence, mean",
        "type/token": "distinct words, share of the first 100 words",
        "function words": "the commonest words of English and German, share of words",
        "punctuation": "characters that are neither letter, digit nor space, share of characters",
        "commas": "commas, share of characters",
        "digits": "digits, share of characters",
        "capitals": "capital letters, share of characters",
        "line breaks": "line breaks, share of characters",
    }
)
"""Style figures by name, with what each is."""


def words_of(text: str) -> list[str]:
    """Return the words of a text in lower case, in order: runs of letters, digits and underscores."""
    return _WORD.findall(text.lower())


def style_of(text: str) -> tuple[float, ...]:
    """Return the figures of `STYLE`, in its order; all 0 for an empty text."""
    words, size = words_of(text), max(len(text), 1)
    count = max(len(words), 1)
    begin = words[:100]  # a longer text repeats more words whoever writes it
    return (
        float(len(text)),
        float(len(words)),
        sum(map(len, words)) / count,
        len(words) / max(len(_SENTENCE_END.findall(text)), 1),
        len(set(begin)) / max(len(begin), 1),
        sum(word in _COMMON for word in words) / count,
        sum(not (sign.isalnum() or sign.isspace()) for sign in text) / size,
        text.count(",") / size,
        sum(map(str.isdigit, text)) / size,
        sum(map(str.isupper, text)) / size,
        text.count("\n") / size,
    )


def style(texts: Sequence[str]) -> "Floats":
    """Return style figures, shape (texts, len(STYLE))."""
    import numpy as np

    return np.array([style_of(text) for text in texts], dtype=np.float64).reshape(len(texts), len(STYLE))


def hashed(texts: Sequence[str]) -> Any:
    """Return word 1- and 2-grams and character 3-grams, hashed: a sparse matrix, shape (texts, BUCKETS).

    Each count is taken as 1 + ln, each row has length 1 (Weinberger et al. 2009, Feature Hashing for Large Scale
    Multitask Learning, ICML; without its signs, since one bucket is hardly shared).
    """
    import numpy as np
    from scipy.sparse import csr_array

    bounds, places, values = [0], [], []
    for text in texts:
        counts = Counter(crc32(gram.encode("utf-8", "surrogatepass")) % BUCKETS for gram in _grams(text))
        row = 1 + np.log(np.fromiter(counts.values(), dtype=np.float64, count=len(counts)))
        places.append(np.fromiter(counts, dtype=np.int32, count=len(counts)))
        values.append(row / max(float(np.sqrt(row @ row)), 1e-12))
        bounds.append(bounds[-1] + len(counts))
    empty = [np.empty(0)]
    data, indices = np.concatenate(values or empty), np.concatenate(places or empty).astype(np.int32)
    return csr_array((data, indices, np.array(bounds)), shape=(len(texts), BUCKETS))


def _grams(text: str) -> Iterator[str]:
    words = words_of(text)
    yield from (f"w {word}" for word in words)
    yield from (f"w {first} {second}" for first, second in pairwise(words))
    plain = f" {' '.join(text.split())} "
    yield from (f"c{plain[place : place + 3]}" for place in range(len(plain) - 2))
