"""Words that give away who wrote a passage.

Written data carry such words (Gururangan et al. 2018, Annotation Artifacts in Natural Language Inference Data, NAACL):
a model learns them in place of the task. As in the z-filter of Wu et al. 2022 (Generating Data to Mitigate Spurious
Correlations in NLI Datasets, ACL; the statistic is of Gardner et al. 2021, Competency Problems, EMNLP) a word is held
against chance by z. Theirs compares the share of a label among the n examples with the word with its share p₀ among
all, z = (p̂ − p₀) / √(p₀ (1 − p₀) / n). Here p₀ is each query's own, since a query's topic words stand in whatever it
has most of: with a passages of query g that are synthetic and have the word,

    z = Σ_g (a_g − E a_g) / √ Σ_g V a_g,    E a_g = s_g w_g / n_g,    V a_g = s_g m_g w_g (n_g − w_g) / (n_g² (n_g − 1))

where g has n passages, s synthetic, m mined, w with the word (Mantel & Haenszel 1959, JNCI 22, 719–748). Queries that
have one kind only are one stratum together. p-values are two-sided and corrected for the number of words by Holm
(1979, Scand. J. Statist. 6, 65–70).
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Final

from relabel.bootstrap import rounded
from relabel.synthesis.features import words_of

if TYPE_CHECKING:
    from numpy import bool_, float64, int64
    from numpy.typing import NDArray

EXPECTED: Final = 5.0
"""Passages of either kind in which chance would put a word, at the least, for it to be tested (Cochran 1954)."""

ALPHA: Final = 0.05


@dataclass(frozen=True, slots=True)
class Artefact:
    """A word that stands in synthetic passages more often, or less, than chance has it.

    Attributes:
        word: in lower case.
        z: see above; > 0 = typical of synthetic passages, < 0 = of mined ones.
        p: two-sided, corrected for all words that were tested; in [0, 1].
        synthetic: share of the synthetic passages that have it.
        mined: share of the mined passages that have it.
    """

    word: str
    z: float
    p: float
    synthetic: float
    mined: float

    def to_json(self) -> dict[str, Any]:
        """Return a plain dict; floats rounded to 6 decimals."""
        return {
            "word": self.word,
            "z": rounded(self.z),
            "p": rounded(self.p),
            "synthetic": rounded(self.synthetic),
            "mined": rounded(self.mined),
        }


def artefacts(texts: Sequence[str], synthetic: "NDArray[bool_]", queries: Sequence[str]) -> tuple[list[Artefact], int]:
    """Return the words whose corrected p is below `ALPHA`, the farthest from chance first, and how many were tested.

    Args:
        texts: the passages.
        synthetic: whether each is synthetic, shape (texts,).
        queries: of each, its query.
    """
    import numpy as np
    from scipy.stats import norm

    vocabulary, present = _presence(texts)
    strata = _strata(synthetic, queries)
    z, testable = _mantel_haenszel(present, synthetic, strata)
    tested = np.flatnonzero(testable)
    order = tested[np.argsort(-np.abs(z[tested]), kind="stable")]
    raw = 2 * norm.sf(np.abs(z[order]))
    corrected = np.minimum(np.maximum.accumulate(raw * np.arange(len(order), 0, -1)), 1.0) if len(order) else raw
    flags = synthetic.astype(np.float64)
    there, elsewhere = flags @ present / max(flags.sum(), 1), (1 - flags) @ present / max((1 - flags).sum(), 1)
    found = [
        Artefact(vocabulary[place], float(z[place]), float(p), float(there[place]), float(elsewhere[place]))
        for place, p in zip(order, corrected, strict=True)
        if p < ALPHA
    ]
    return found, len(order)


def _presence(texts: Sequence[str]) -> tuple[list[str], Any]:
    """Return the words, sorted, that stand in ten passages or more, and a sparse matrix (texts, words) of where."""
    import numpy as np
    from scipy.sparse import csr_array

    sets = [set(words_of(text)) for text in texts]
    counts: dict[str, int] = {}
    for words in sets:
        for word in words:
            counts[word] = counts.get(word, 0) + 1
    vocabulary = sorted(word for word, count in counts.items() if count >= 2 * EXPECTED)
    places = {word: place for place, word in enumerate(vocabulary)}
    rows, columns = [], []
    for row, words in enumerate(sets):
        found = sorted(places[word] for word in words if word in places)
        rows += [row] * len(found)
        columns += found
    return vocabulary, csr_array((np.ones(len(rows)), (rows, columns)), shape=(len(texts), len(vocabulary)))


def _strata(synthetic: "NDArray[bool_]", queries: Sequence[str]) -> "NDArray[int64]":
    """Return each passage's stratum: its query, or 0 where the query has one kind only."""
    import numpy as np

    kinds: dict[str, set[bool]] = {}
    for query, flag in zip(queries, synthetic.tolist(), strict=True):
        kinds.setdefault(query, set()).add(flag)
    both = [query for query, found in kinds.items() if len(found) == 2]
    numbers = {query: number for number, query in enumerate(both, 1)}
    return np.array([numbers.get(query, 0) for query in queries], dtype=np.int64)


def _mantel_haenszel(
    present: Any, synthetic: "NDArray[bool_]", strata: "NDArray[int64]"
) -> "tuple[NDArray[float64], NDArray[bool_]]":
    """Return z of every word, and whether there is enough of it to be tested."""
    import numpy as np
    from scipy.sparse import csr_array

    count, rows = int(strata.max(initial=0)) + 1, len(strata)
    member = csr_array((np.ones(rows), (strata, np.arange(rows))), shape=(count, rows))
    flags = synthetic.astype(np.float64)
    n = member @ np.ones(rows)
    s = member @ flags
    kept = n > 1
    share = np.divide(s, n, out=np.zeros_like(n), where=kept)
    factor = np.divide(s * (n - s), n**2 * (n - 1), out=np.zeros_like(n), where=kept)
    w = csr_array(member @ present)  # (strata, words)
    informative = (s > 0) & (s < n)
    observed = (flags * informative[strata]) @ present
    expected = (share * informative) @ w
    total = informative.astype(np.float64) @ w
    variance = (factor * n) @ w - factor @ w.multiply(w)
    testable = (expected >= EXPECTED) & (total - expected >= EXPECTED) & (variance > 1e-9)
    z = np.divide(observed - expected, np.sqrt(np.maximum(variance, 1e-12)), where=testable, out=np.zeros(len(total)))
    return z, testable
