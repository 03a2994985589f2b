"""BM25 by bm25s, over an index that is built in blocks, in flat memory, and memory-mapped when it is read.

A passage's score is the sum over the query's terms, repeated ones counted again, of (Kamphuis, de Vries, Boytsov and
Lin 2020, "Which BM25 do you mean?", ECIR)

    lucene      log(1 + (N − df + .5) / (df + .5)) · tf / (tf + k1·(1 − b + b·L/avg))
    robertson   max(0, log((N − df + .5) / (df + .5))) · the same
    atire       log(N / df) · (k1 + 1) · the same

where tf is how often the term stands in the passage, L the passage's length in terms, avg its mean over the corpus, N
the corpus's number of passages and df how many of them have the term. All are 0 without a common term: such a passage
is not found. BM25L and BM25+, which are never 0, are not offered.
"""

import json
import math
import re
import shutil
from array import array
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import astuple, dataclass
from itertools import islice, pairwise
from pathlib import Path
from types import MappingProxyType
from typing import TYPE_CHECKING, Any, Final, Literal, get_args

from relabel.errors import MissingPart
from relabel.mining.searching import Asked, Collection, Hits, Progress
from relabel.mining.words import Words
from relabel.records import digest

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

    Scores = NDArray[np.float32]
    Ints = NDArray[np.int64]
    Terms = NDArray[np.int32]

Method = Literal["lucene", "robertson", "atire"]

_IDF: Final[Mapping[str, Callable[[int, int], float]]] = MappingProxyType({
    "lucene": lambda df, n: math.log(1 + (n - df + 0.5) / (df + 0.5)),
    "robertson": lambda df, n: math.log(max(1.0, (n - df + 0.5) / (df + 0.5))),
    "atire": lambda df, n: math.log(n / df),
})  # fmt: skip

_TEXTS: Final = 4096  # passages between two words on progress
_TERMS: Final = 2**20  # of a block: 8 MB as keys, some 60 MB while they are sorted
_VOCABULARY: Final = "vocab.index.json"


@dataclass(frozen=True, slots=True)
class BM25Settings:
    """What the index is made by.

    Attributes:
        k1: how late a term's repetition stops counting, ≥ 0. bm25s' default, 1.5; Lucene's is 1.2, Anserini's .9.
        b: how much long passages lose, from 0 (nothing) to 1. .75 in bm25s and Lucene, .4 in Anserini.
        method: the formula; lucene's is never negative for frequent terms.
        language: ISO 639-1 code ("en", "de", "zh"): says which stemmer and which stop words.
        stemmer: whether words are stemmed, where Snowball has a stemmer of the language.
        stopwords: whether stop words go, where bm25s has a list of the language.
    """

    k1: float = 1.5
    b: float = 0.75
    method: Method = "lucene"
    language: str = "en"
    stemmer: bool = True
    stopwords: bool = True

    def __post_init__(self) -> None:
        """Refuse what has no meaning."""
        if not 0 <= self.k1 < math.inf:
            raise ValueError(f"k1 is {self.k1}; it must be 0 or more")
        if not 0 <= self.b <= 1:
            raise ValueError(f"b is {self.b}; it must be from 0 to 1")
        if self.method not in get_args(Method):
            raise ValueError(f"method is {self.method!r}; it must be one of {', '.join(get_args(Method))}")
        if not re.fullmatch("[a-z]{2,3}", self.language):
            raise ValueError(f"language is {self.language!r}; it must be an ISO 639 code such as en, de or zh")


class BM25:
    """A retriever by common words; see `searching.Retriever`.

    The index is a folder that bm25s itself can load, `folder`/bm25-DIGEST, where the digest stands for the passages,
    the settings and all that makes terms of texts: an index of other content has another name. It holds the positives
    that the corpus lacks too, behind its documents; they are weighed by the corpus's df and mean length, and terms
    that the corpus lacks weigh nothing. A build that is interrupted starts again.

    Memory: while it is built, the distinct terms, a block of passages and a number for each passage; when it is asked,
    the terms and a number for each passage. The rest are mapped files (300 MB for a million passages of 56 words, where
    .28 GB were in use besides, half a million distinct terms among them; bm25s' own `index` took 2.1 GB).

    Raises:
        MissingPart: bm25s or PyStemmer is not installed.
        SettingsError: PyStemmer has no stemmer of that language.
    """

    def __init__(self, name: str, folder: Path, settings: BM25Settings | None = None) -> None:
        self.name = name
        self._folder = folder
        self._settings = settings or BM25Settings()
        of = self._settings
        self._words = Words(of.language, stemmer=of.stemmer, stopwords=of.stopwords)
        self._vocabulary: dict[str, int] = {}
        self._index: Any = None
        self._documents = 0

    def prepare(self, collection: Collection, progress: Progress) -> None:
        """Build the index, unless it lies there."""
        try:
            import bm25s
        except ImportError as error:
            raise MissingPart("bm25s", "embedding") from error
        parts = (collection.fingerprint, collection.documents, collection.passages, *astuple(self._settings))
        name = digest("bm25", self._words.fingerprint, *map(str, parts), size=8).hex()
        place = self._folder / f"bm25-{name}"
        if not place.exists():
            partial = place.with_suffix(".partial")
            shutil.rmtree(partial, ignore_errors=True)
            partial.mkdir(parents=True)
            _build(partial, collection, self._words, self._settings, lambda done, of: progress("index", done, of))
            partial.replace(place)
        self._vocabulary = json.loads((place / _VOCABULARY).read_text("utf-8"))
        self._index = bm25s.BM25.load(place, mmap=True, load_vocab=False)
        self._documents = collection.documents

    def search(self, asked: Sequence[Asked], depth: int) -> list[Hits]:
        """See `Retriever.search`; passages without a term of the query are not found."""
        return [self._search(each.text, depth) for each in asked]

    def _search(self, query: str, depth: int) -> Hits:
        import numpy as np

        terms = self._ids(query)
        if not terms:
            return Hits(np.empty(0, np.int64), np.empty(0, np.float32))
        scores = self._index.get_scores_from_ids(terms)[: self._documents]
        found = np.flatnonzero(scores > 0)
        if len(found) > depth:
            cut = len(found) - depth
            found = found[scores[found] >= np.partition(scores[found], cut)[cut]]
        # a stable sort: of equal scores, the lower number stays in front
        best = found[np.argsort(-scores[found], kind="stable")[:depth]]
        return Hits(best.astype(np.int64), scores[best])

    def score(self, asked: Asked, numbers: Sequence[int]) -> "Scores":
        """Return the very numbers that a search would give; 0 without a common term."""
        import numpy as np

        wanted = np.asarray(numbers, dtype=np.int32)
        scores = np.zeros(len(wanted), dtype=np.float32)
        starts, passages, weights = (self._index.scores[part] for part in ("indptr", "indices", "data"))
        for term in self._ids(asked.text):
            first, last = starts[term], starts[term + 1]
            places = np.searchsorted(passages[first:last], wanted)
            there = np.flatnonzero(places < last - first)
            there = there[passages[first + places[there]] == wanted[there]]
            scores[there] += weights[first + places[there]]
        return scores

    def near(self, numbers: Sequence[int], others: Sequence[int]) -> "Scores | None":  # noqa: ARG002
        """Return None: BM25 is no similarity of passages."""
        return None

    def _ids(self, query: str) -> list[int]:
        known = self._vocabulary
        return [known[term] for term in self._words.terms(query) if term in known]


# -- building: terms on disk → how many each passage and each column has → weights, column by column ------------


def _build(
    folder: Path, collection: Collection, words: Words, settings: BM25Settings, progress: Callable[[int, int], None]
) -> None:
    """Write an index in the layout of bm25s: for each term (column) its passages, ascending, and their weights.

    bm25s' own `index` holds all terms of all passages in memory, and three times the finished index besides.
    """
    import numpy as np

    file = folder / "terms.i32"
    vocabulary, lengths = _tokenise(file, collection, words, progress)
    terms = np.memmap(file, dtype=np.int32, mode="r") if file.stat().st_size else np.empty(0, np.int32)
    documents, size = collection.documents, len(vocabulary)
    frequencies, columns = np.zeros(size, np.int64), np.zeros(size, np.int64)
    for first, term, passage, _ in _blocks(terms, lengths):
        columns += np.bincount(term, minlength=size)
        frequencies += np.bincount(term[first + passage < documents], minlength=size)
    starts = np.concatenate([[0], np.cumsum(columns)]).astype(np.int64)
    np.save(folder / "indptr.csc.index.npy", starts)
    weights = np.lib.format.open_memmap(folder / "data.csc.index.npy", "w+", np.float32, (int(starts[-1]),))
    passages = np.lib.format.open_memmap(folder / "indices.csc.index.npy", "w+", np.int32, (int(starts[-1]),))
    idf = np.array([_IDF[settings.method](int(df), documents) if df else 0.0 for df in frequencies], dtype=np.float32)
    denominators = _denominators(lengths, documents, settings)
    factor = settings.k1 + 1 if settings.method == "atire" else 1.0
    heads = starts[:-1]  # where each column goes on
    for first, term, passage, count in _blocks(terms, lengths):
        begins = np.flatnonzero(np.diff(term, prepend=-1))
        sizes = np.diff(begins, append=len(term))
        places = heads[term] + np.arange(len(term)) - np.repeat(begins, sizes)
        weights[places] = idf[term] * (factor * count / (denominators[first + passage] + count))
        passages[places] = first + passage
        heads[term[begins]] += sizes
    weights.flush()
    passages.flush()
    (folder / _VOCABULARY).write_text(json.dumps(vocabulary, ensure_ascii=False), "utf-8")
    params = {"k1": settings.k1, "b": settings.b, "method": settings.method, "num_docs": collection.passages}
    (folder / "params.index.json").write_text(json.dumps(params), "utf-8")
    del terms
    file.unlink()


def _tokenise(
    file: Path, collection: Collection, words: Words, progress: Callable[[int, int], None]
) -> "tuple[dict[str, int], Ints]":
    """Write the terms of all passages, as numbers, one passage after the other; return the terms, and the lengths."""
    import numpy as np

    vocabulary: dict[str, int] = {}
    lengths = array("i")
    texts = collection.texts()
    with file.open("wb") as out:
        while block := [words.terms(text) for text in islice(texts, _TEXTS)]:
            lengths.extend(map(len, block))
            array("i", [vocabulary.setdefault(term, len(vocabulary)) for found in block for term in found]).tofile(out)
            progress(len(lengths), collection.passages)
    return vocabulary, np.asarray(lengths, dtype=np.int64)


def _denominators(lengths: "Ints", documents: int, settings: BM25Settings) -> "NDArray[np.float64]":
    """Return k1·(1 − b + b·L/avg) for each passage; avg is that of the corpus."""
    average = lengths[:documents].mean() if documents else 0.0
    result: NDArray[np.float64] = settings.k1 * (1 - settings.b + settings.b * lengths / (average or 1.0))
    return result


def _blocks(terms: "Terms", lengths: "Ints") -> "Iterator[tuple[int, Ints, Ints, Ints]]":
    """Yield blocks of whole passages: number of the first; then term, passage from it on, and count, in that order."""
    import numpy as np

    ends = np.concatenate([[0], np.cumsum(lengths)])
    cuts = [0]
    while cuts[-1] < len(lengths):
        most = int(np.searchsorted(ends, ends[cuts[-1]] + _TERMS, side="right")) - 1
        cuts.append(max(most, cuts[-1] + 1))
    for first, last in pairwise(cuts):
        passage = np.repeat(np.arange(last - first), lengths[first:last])
        keys, count = np.unique(terms[ends[first] : ends[last]] * np.int64(last - first) + passage, return_counts=True)
        yield first, keys // (last - first), keys % (last - first), count
