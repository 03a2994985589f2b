"""Texts as the terms that BM25 counts: words without stop words, stemmed; pairs of characters where no spaces are."""

import functools
import re
import unicodedata
from collections.abc import Mapping
from importlib.metadata import version
from itertools import pairwise
from threading import Lock
from types import MappingProxyType
from typing import TYPE_CHECKING, Final

from relabel.errors import MissingPart, SettingsError
from relabel.records import digest

if TYPE_CHECKING:
    from collections.abc import Callable

SNOWBALL: Final[Mapping[str, str]] = MappingProxyType({
    "ar": "arabic", "ca": "catalan", "cs": "czech", "da": "danish", "de": "german", "el": "greek", "en": "english",
    "eo": "esperanto", "es": "spanish", "et": "estonian", "eu": "basque", "fa": "persian", "fi": "finnish",
    "fr": "french", "ga": "irish", "hi": "hindi", "hu": "hungarian", "hy": "armenian", "id": "indonesian",
    "it": "italian", "lt": "lithuanian", "ne": "nepali", "nl": "dutch", "no": "norwegian", "pl": "polish",
    "pt": "portuguese", "ro": "romanian", "ru": "russian", "sr": "serbian", "st": "sesotho", "sv": "swedish",
    "ta": "tamil", "tr": "turkish", "yi": "yiddish",
})  # fmt: skip
"""Languages that Snowball has a stemmer for, by ISO 639-1 code; an older PyStemmer lacks some."""

_UNSPACED: Final = (
    "\u0e01-\u0e3a\u0e40-\u0e4e\u0e50-\u0e59"  # Thai
    "\u0e80-\u0eff\u1000-\u109f\u1780-\u17ff"  # Lao, Burmese, Khmer
    "\u3005-\u3007\u3021-\u3029\u3041-\u3096\u309d-\u309f\u30a1-\u30fa\u30fc-\u30ff\u31f0-\u31ff"  # kana
    "\u3400-\u4dbf\u4e00-\u9fff\uf900-\ufaff\U00020000-\U0003ffff"  # Han
)
_PLAIN: Final = re.compile(r"\w{2,}")
_REMEMBERED: Final = 1_000_000  # stems: some 100 MB


class Words:
    """Turns texts into terms: NFKC, lower case, words of two characters and more (bm25s' own rule), stemmed.

    Stop words go, by bm25s' list of the language where it has one; stemmers are Snowball's, see `SNOWBALL`. Marks that
    are written onto letters (Arabic, Hindi, Tamil) belong to the word. Runs of Chinese, Japanese, Thai, Lao, Khmer or
    Burmese characters, in a text of whatever language, become overlapping pairs of characters, a single one itself, as
    in Lucene's CJK analyser; these are neither stemmed nor held against stop words.

    Raises:
        MissingPart: bm25s or PyStemmer is not installed.
        SettingsError: this PyStemmer has no stemmer of that language.
    """

    def __init__(self, language: str = "en", *, stemmer: bool = True, stopwords: bool = True) -> None:
        algorithm = SNOWBALL.get(language, "") if stemmer else ""
        listed = _stopwords(language) if stopwords else frozenset()
        self._stems = _Stems(_stemmer(algorithm) if algorithm else str, listed)
        versions = (version("PyStemmer") if algorithm else "", unicodedata.unidata_version)
        self.fingerprint = digest("words", algorithm, *versions, *sorted(listed), size=8).hex()
        """Digest (hex) of all that makes the terms of a text."""

    def terms(self, text: str) -> list[str]:
        """Return the terms of a text in their order, repeated as often as they stand there."""
        text = unicodedata.normalize("NFKC", text).lower()
        stems = self._stems
        if text.isascii():
            return [stem for word in _PLAIN.findall(text) if (stem := stems[word])]
        runs, clusters = _patterns()
        found: list[str] = []
        for unspaced, word in runs.findall(text):
            if unspaced:
                signs = clusters.findall(unspaced)
                found += [first + second for first, second in pairwise(signs)] or signs
            elif len(word) > 1 and (stem := stems[word]):
                found.append(stem)
        return found


class _Stems(dict[str, str]):
    """What becomes of each word, "" where it goes; looked up once, then remembered, in bounded memory."""

    def __init__(self, stem: "Callable[[str], str]", stopwords: frozenset[str]) -> None:
        super().__init__()
        self._stem, self._stopwords = stem, stopwords
        self._lock = Lock()  # a stemmer serves one thread at a time

    def __missing__(self, word: str) -> str:
        with self._lock:
            stem = "" if word in self._stopwords else self._stem(word)
            if len(self) >= _REMEMBERED:
                self.clear()
            self[word] = stem
        return stem


@functools.cache
def _patterns() -> tuple[re.Pattern[str], re.Pattern[str]]:
    """Return what finds (run without spaces, word) in a text, and what finds each sign of a run with its marks."""
    marks = "".join(chr(code) for code in range(0x300, 0x10000) if unicodedata.category(chr(code)).startswith("M"))
    word = rf"[^\W{_UNSPACED}]+(?:[{marks}]+[^\W{_UNSPACED}]*)*"
    return re.compile(rf"([{_UNSPACED}][{_UNSPACED}{marks}]*)|({word})"), re.compile(rf".[{marks}]*", re.DOTALL)


def _stopwords(code: str) -> frozenset[str]:
    try:
        from bm25s.tokenization import Tokenizer
    except ImportError as error:
        raise MissingPart("bm25s", "embedding") from error
    try:
        return frozenset(Tokenizer(stopwords=code).stopwords)
    except ValueError:  # it has no list of that language
        return frozenset()


def _stemmer(algorithm: str) -> "Callable[[str], str]":
    try:
        import Stemmer
    except ImportError as error:
        raise MissingPart("PyStemmer", "embedding") from error
    try:
        stem: Callable[[str], str] = Stemmer.Stemmer(algorithm).stemWord
    except KeyError as error:
        raise SettingsError(
            f"PyStemmer {version('PyStemmer')} has no stemmer for {algorithm}",
            hint="type: pip install -U PyStemmer; or stemmer: false",
        ) from error
    return stem
