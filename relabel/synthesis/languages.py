"""In which language a text is, as far as its script and its commonest words tell."""

import functools
import re
import unicodedata
from collections import Counter
from collections.abc import Mapping
from typing import Final

_WORD: Final = re.compile(r"[^\W\d_]+")
_CODES: Final = ("en", "de", "nl", "fr", "es", "pt", "it", "ru", "sv", "no", "da", "tr")
"""Languages of which bm25s has a list of stop words, and which share a script with another of them."""

_LEAST: Final = 3
_AHEAD: Final = 1.5
_HALF: Final = 0.5
_LETTERS: Final = 400


def language_of(text: str) -> str:
    """Return the language of a text: an ISO 639-1 code, or a script's name; "" where neither can be told.

    The script that most letters are of tells all but Latin and Cyrillic ones: kana tells Japanese from Chinese. Those
    two are told by stop words: the language with the most of them, if these are 3 at least and half as many again as
    those of the next. Short texts, and neighbours such as Danish and Norwegian, are often not told.
    """
    scripts = Counter(
        _script(letter) for letter in text[:_LETTERS] if letter.isalpha()
    )  # a passage is of one script from its beginning on
    if not scripts:
        return ""
    script, most = scripts.most_common(1)[0]
    if scripts["HIRAGANA"] + scripts["KATAKANA"] > most / 10:
        return "ja"
    if most < _HALF * scripts.total():
        return ""
    return _by_stop_words(text) if script in ("LATIN", "CYRILLIC") else script.lower()


@functools.lru_cache(maxsize=4096)
def _script(letter: str) -> str:
    return unicodedata.name(letter, "").partition(" ")[0]


def _by_stop_words(text: str) -> str:
    lists = _lists()
    found: Counter[str] = Counter()
    for word in _WORD.findall(text.lower()):
        found.update(lists.get(word, ()))
    best, second = [*found.most_common(2), ("", 0), ("", 0)][:2]
    return best[0] if best[1] >= max(_LEAST, _AHEAD * second[1]) else ""


@functools.cache
def _lists() -> Mapping[str, tuple[str, ...]]:
    """Return for every stop word the languages that have it; nothing where bm25s is not installed."""
    try:
        from bm25s.tokenization import Tokenizer
    except ImportError:
        return {}
    by_word: dict[str, tuple[str, ...]] = {}
    for code in _CODES:
        for word in Tokenizer(stopwords=code).stopwords:
            by_word[word] = (*by_word.get(word, ()), code)
    return by_word
