"""BM25: by hand, against bm25s' own index, in every partition; terms by language; an index kept on disk."""

import math
import sys
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from relabel.errors import MissingPart, SettingsError
from relabel.mining import lexical
from relabel.mining.lexical import BM25, BM25Settings, Method
from relabel.mining.searching import Asked, Collection, Hits
from relabel.mining.words import SNOWBALL, Words
from relabel.records import digest

pytest.importorskip("bm25s")

PLAIN = BM25Settings(stemmer=False, stopwords=False)
METHODS: tuple[Method, ...] = ("lucene", "robertson", "atire")


@dataclass(frozen=True)
class Shelf:
    """A collection in memory: passages of the corpus, then positives that it lacks."""

    corpus: Sequence[str]
    lacking: Sequence[str] = ()

    @property
    def fingerprint(self) -> str:
        """Digest of all passages."""
        return digest(*self.corpus, *self.lacking).hex()

    @property
    def documents(self) -> int:
        """How many can be found."""
        return len(self.corpus)

    @property
    def passages(self) -> int:
        """How many there are."""
        return len(self.corpus) + len(self.lacking)

    @property
    def queries(self) -> int:
        """None: tests ask their own."""
        return 0

    def texts(self, first: int = 0, last: int | None = None) -> Iterator[str]:
        """Yield passages."""
        yield from [*self.corpus, *self.lacking][first:last]

    def asked(self, first: int = 0, last: int | None = None) -> Iterator[Asked]:
        """Yield no query."""
        yield from list[Asked]()[first:last]


def silent(_: str, __: int, ___: int) -> None:
    """Hear of progress and say nothing."""


def ready(folder: Path, shelf: Collection, settings: BM25Settings = PLAIN) -> BM25:
    """Return a retriever that has its index."""
    retriever = BM25("bm25", folder, settings)
    retriever.prepare(shelf, silent)
    return retriever


def ask(text: str) -> Asked:
    """Return a query of that text."""
    return Asked(0, "q", text, ())


def pairs(hits: Hits) -> list[tuple[int, float]]:
    """Return numbers with scores."""
    return list(zip(hits.numbers.tolist(), hits.scores.tolist(), strict=True))


IDF = {
    "lucene": (math.log(1 + 1.5 / 2.5), math.log(1 + 2.5 / 1.5)),
    "robertson": (0.0, math.log(2.5 / 1.5)),
    "atire": (2.5 * math.log(3 / 2), 2.5 * math.log(3)),
}


@pytest.mark.parametrize("method", METHODS)
def test_worked_example(tmp_path: Path, method: Method) -> None:
    """Three passages, lengths 2, 3, 1 (mean 2): "aa" is in two of them, "cc" in one; k1 1.5, b .75."""
    shelf = Shelf(["aa bb", "aa aa cc", "dd"])
    frequent, rare = IDF[method]
    first = frequent * 1 / (1 + 1.5 * (0.25 + 0.75 * 2 / 2))
    longer = 1.5 * (0.25 + 0.75 * 3 / 2)
    second = frequent * 2 / (2 + longer) + rare * 1 / (1 + longer)
    retriever = ready(tmp_path, shelf, BM25Settings(method=method, stemmer=False, stopwords=False))
    (hits,) = retriever.search([ask("aa cc zz")], 10)
    expected = [(1, second), (0, first)] if first else [(1, second)]
    assert [number for number, _ in pairs(hits)] == [number for number, _ in expected]
    assert [score for _, score in pairs(hits)] == pytest.approx([score for _, score in expected], rel=1e-6)
    assert retriever.score(ask("aa cc zz"), [2, 0]).tolist() == pytest.approx([0.0, first], rel=1e-6)
    assert retriever.near([0], [1]) is None


def test_a_term_that_the_query_repeats_counts_again(tmp_path: Path) -> None:
    """Twice the word is twice its weight."""
    retriever = ready(tmp_path, Shelf(["aa bb", "cc"]))
    once, twice = retriever.search([ask("aa"), ask("aa aa")], 1)
    assert twice.scores[0] == pytest.approx(2 * once.scores[0])


WORDS = [f"{first}{second}" for first in "abcdef" for second in "xyz"]
CORPUS = st.lists(st.lists(st.sampled_from(WORDS), max_size=12).map(" ".join), min_size=1, max_size=30)


@pytest.mark.parametrize("method", METHODS)
@given(corpus=CORPUS, k1=st.floats(0.1, 3), b=st.floats(0, 1))
@settings(max_examples=25, deadline=None)
def test_the_index_is_the_one_that_bm25s_builds(
    tmp_path_factory: pytest.TempPathFactory, method: Method, corpus: list[str], k1: float, b: float
) -> None:
    """The same columns, passages and weights, for any corpus that has a word; and bm25s finds the same by it."""
    import bm25s

    corpus = [*corpus, "ax by"]
    retriever = ready(tmp_path_factory.mktemp("index"), Shelf(corpus), BM25Settings(k1, b, method, "en", False, False))
    known = retriever._vocabulary
    theirs = bm25s.BM25(k1=k1, b=b, method=method)
    theirs.index(([[known[word] for word in text.split()] for text in corpus], dict(known)), show_progress=False)
    for part in ("indptr", "indices"):
        assert np.array_equal(retriever._index.scores[part], theirs.scores[part])
    assert np.allclose(retriever._index.scores["data"], theirs.scores["data"], rtol=1e-6, atol=0)
    (hits,) = retriever.search([ask("ax by cz")], len(corpus))
    _, scores = theirs.retrieve([["ax", "by", "cz"]], k=len(corpus), show_progress=False)
    assert np.allclose(hits.scores, scores[0][: len(hits.scores)], rtol=1e-5)
    assert not scores[0][len(hits.scores) :].any()


@given(corpus=CORPUS, query=st.lists(st.sampled_from(WORDS), max_size=4), depth=st.integers(1, 40))
@settings(max_examples=60, deadline=None)
def test_found_is_what_scores_best(
    tmp_path_factory: pytest.TempPathFactory, corpus: list[str], query: list[str], depth: int
) -> None:
    """Search agrees with the score of every passage, bit for bit: above 0, best first, ties by number, to the depth."""
    retriever = ready(tmp_path_factory.mktemp("index"), Shelf(corpus))
    asked = ask(" ".join(query))
    scores = retriever.score(asked, range(len(corpus))).tolist()
    expected = sorted((-score, number) for number, score in enumerate(scores) if score > 0)[:depth]
    (hits,) = retriever.search([asked], depth)
    assert pairs(hits) == [(number, -score) for score, number in expected]


def test_nothing_depends_on_company_blocks_or_threads(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Every partition of queries, three threads, and an index built in tiny blocks: the same bits."""
    corpus = [" ".join(WORDS[(i * step) % 18] for step in range(1 + i % 7)) for i in range(200)]
    queries = [ask(f"{WORDS[i % 18]} {WORDS[(i * 5) % 18]}") for i in range(40)]
    whole = ready(tmp_path / "whole", Shelf(corpus, ["ax ax"]))
    expected = [pairs(hits) for hits in whole.search(queries, 20)]
    assert [pairs(whole.search([query], 20)[0]) for query in queries] == expected
    with ThreadPoolExecutor(3) as pool:
        assert [pairs(hits) for (hits,) in pool.map(lambda query: whole.search([query], 20), queries)] == expected
    monkeypatch.setattr(lexical, "_TERMS", 5)
    monkeypatch.setattr(lexical, "_TEXTS", 3)
    ready(tmp_path / "pieces", Shelf(corpus, ["ax ax"]))
    one, other = (
        sorted(path for path in (tmp_path / name).rglob("*") if path.is_file()) for name in ("whole", "pieces")
    )
    assert [path.name for path in one] == [path.name for path in other]
    assert [path.read_bytes() for path in one] == [path.read_bytes() for path in other]


def test_positives_that_the_corpus_lacks_are_scored_and_never_found(tmp_path: Path) -> None:
    """They change no score of the corpus; a copy scores as its original, and a word of their own weighs nothing."""
    corpus = ["aa bb", "aa aa cc", "dd"]
    alone = ready(tmp_path, Shelf(corpus))
    beside = ready(tmp_path, Shelf(corpus, ["aa aa cc", "zz aa zz zz", "zz"]))
    query = ask("aa cc zz")
    assert pairs(beside.search([query], 10)[0]) == pairs(alone.search([query], 10)[0])
    scores = beside.score(query, range(6)).tolist()
    assert scores[3] == scores[1]
    assert scores[4] == pytest.approx(math.log(1.6) / (1 + 1.5 * (0.25 + 0.75 * 4 / 2)), rel=1e-6)
    assert scores[5] == 0.0


def test_an_index_is_built_once(tmp_path: Path) -> None:
    """The same passages and settings read it from disk; other settings or passages have their own."""

    class Closed(Shelf):
        def texts(self, first: int = 0, last: int | None = None) -> Iterator[str]:  # noqa: ARG002
            raise AssertionError("the passages are read again")

    said: list[tuple[str, int, int]] = []
    BM25("words", tmp_path, PLAIN).prepare(Shelf(["aa", "bb"]), lambda *word: said.append(word))
    assert said == [("index", 2, 2)]
    again = ready(tmp_path, Closed(["aa", "bb"]))
    assert pairs(again.search([ask("bb")], 5)[0])[0][0] == 1
    with pytest.raises(AssertionError, match="read again"):
        ready(tmp_path, Closed(["aa", "bb"]), BM25Settings(k1=1.2, stemmer=False, stopwords=False))
    with pytest.raises(AssertionError, match="read again"):
        ready(tmp_path, Closed(["aa"], ["bb"]))


def test_an_interrupted_build_starts_again(tmp_path: Path) -> None:
    """What is left of it is no index, and is in nobody's way."""

    class Breaking(Shelf):
        def texts(self, first: int = 0, last: int | None = None) -> Iterator[str]:
            yield from list(super().texts(first, last))[:1]
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        ready(tmp_path, Breaking(["aa", "bb"]))
    assert [path.suffix for path in tmp_path.iterdir()] == [".partial"]
    assert pairs(ready(tmp_path, Shelf(["aa", "bb"])).search([ask("bb")], 5)[0])[0][0] == 1
    assert [path.suffix for path in tmp_path.iterdir()] == [""]


@pytest.mark.parametrize("corpus", [[], [""], ["", "the"], ["!?", "a"]])
def test_a_corpus_without_words(tmp_path: Path, corpus: list[str]) -> None:
    """Nothing is found, nothing breaks."""
    retriever = ready(tmp_path, Shelf(corpus, ["aa"]), BM25Settings())
    assert [len(hits.numbers) for hits in retriever.search([ask("aa"), ask(""), ask("zz")], 3)] == [0, 0, 0]
    assert retriever.score(ask("aa"), [len(corpus)]).tolist() == [0.0]


def test_terms_are_those_of_bm25s_where_it_knows_better_than_nothing() -> None:
    """For plain text: its words, its stop words, its stemmer, in its order."""
    import bm25s
    import Stemmer

    text = "The quick brown foxes weren't jumping over 2 lazy dogs_and cats: it's 1999, e-mail by U.S. C++ users."
    for stemmer, stopwords in ((None, None), (Stemmer.Stemmer("english"), "en")):
        (theirs,) = bm25s.tokenize([text], stopwords=stopwords, stemmer=stemmer, return_ids=False, show_progress=False)
        assert Words("en", stemmer=stemmer is not None, stopwords=stopwords is not None).terms(text) == theirs


@pytest.mark.parametrize(
    ("language", "text", "terms"),
    [
        ("de", "Die Häuser und der Straßenbahnen", ["haus", "strassenbahn"]),
        ("en", "ﬁles ＦＵＬＬ wide", ["file", "full", "wide"]),
        ("zh", "我爱北京 GPT-4 东", ["我爱", "爱北", "北京", "gpt", "东"]),
        ("en", "the word 北京 is running", ["word", "北京", "run"]),
        ("ja", "東京タワーは", ["東京", "京タ", "タワ", "ワー", "ーは"]),
        ("th", "ที่นี่ดี", ["ที่นี่", "นี่ดี"]),
        ("hi", "हिन्दी", ["हिन्द"]),
        ("ko", "서울은 수도", ["서울은", "수도"]),
        ("vi", "người Việt", ["người", "việt"]),
    ],
)
def test_terms_by_language(language: str, text: str, terms: list[str]) -> None:
    """Stems where Snowball has them, pairs of signs where no spaces are, marks on their letters."""
    assert Words(language).terms(text) == terms


def test_every_stemmer_of_the_list_is_there() -> None:
    """PyStemmer knows what the table says; what a language is read by is in the fingerprint."""
    assert len({Words(code, stopwords=False).fingerprint for code in SNOWBALL}) == len(SNOWBALL)
    assert Words("en").fingerprint != Words("en", stopwords=False).fingerprint != Words("en").fingerprint


def test_remembered_stems_are_bounded(monkeypatch: pytest.MonkeyPatch) -> None:
    """Forgetting changes no term."""
    monkeypatch.setattr("relabel.mining.words._REMEMBERED", 2)
    words = Words("en")
    assert words.terms("running cats and dogs running") == ["run", "cat", "dog", "run"]
    assert len(words._stems) <= 2


@pytest.mark.parametrize(
    ("wrong", "says"),
    [
        ({"k1": -1.0}, "k1 is -1.0"),
        ({"k1": math.nan}, "k1 is nan"),
        ({"b": 1.5}, "b is 1.5"),
        ({"method": "bm25+"}, "method is 'bm25+'"),
        ({"language": "english"}, "language is 'english'"),
    ],
)
def test_settings_that_cannot_be(wrong: dict[str, float], says: str) -> None:
    """Each is refused by name."""
    with pytest.raises(ValueError, match=says.replace("+", r"\+")):
        BM25Settings(**wrong)  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("package", "named", "settings"), [("bm25s.tokenization", "bm25s", BM25Settings()),
                                       ("Stemmer", "PyStemmer", BM25Settings()),
                                       ("bm25s", "bm25s", PLAIN)],
)  # fmt: skip
def test_a_missing_package_is_named(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, package: str, named: str, settings: BM25Settings
) -> None:
    """With what to type; without stop words and stemmer, PyStemmer is not needed."""
    monkeypatch.setitem(sys.modules, package, None)
    with pytest.raises(MissingPart, match=rf"{named}(.|\n)*relabel\[embedding\]"):
        ready(tmp_path, Shelf(["aa"]), settings)


def test_an_older_pystemmer_says_so(monkeypatch: pytest.MonkeyPatch) -> None:
    """A language that it lacks is an error with two ways out, not a silent change."""
    monkeypatch.setattr("relabel.mining.words.SNOWBALL", {"fa": "old persian"})
    with pytest.raises(SettingsError, match="no stemmer for old persian"):
        Words("fa")
