"""A sentence-embedding model as a judge that is shown the known positive.

With q the query, p a known positive, n the candidate and cos the cosine of their embeddings, the score of a candidate
is, as the maximum over the positives (higher = more likely relevant):

    sum      cos(q,n) − cos(q,p) + cos(p,n)   in [−3, 3]
    ratio    cos(q,n) / cos(q,p)              1 = as close to the query as the positive (NV-Retriever, arXiv 2407.15831)
    margin   cos(q,n) − cos(q,p)              in [−2, 2]; NV-Retriever's TopK-MarginPos keeps what is below −.05
    cosine   cos(q,n)                         in [−1, 1]

It ranks well within a data set and does not transfer as a probability to another: it is called a score, and no
probability comes with it.
"""

from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Final, Literal

from relabel.judges.vectors import Encoder, VectorCache
from relabel.protocols import Role, Spread, here
from relabel.records import Case, Example, Judgment, Passage

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

    Floats = NDArray[np.float32]

Score = Literal["sum", "ratio", "margin", "cosine"]

DECIMALS: Final = 6


@dataclass(frozen=True, slots=True)
class Rule:
    """A threshold: candidates whose value of `by` is at least `at`."""

    by: Score
    at: float


@dataclass(frozen=True, slots=True)
class EmbeddingSettings:
    """What the judge looks at.

    Attributes:
        score: the value that is reported and by which the most certain findings are ordered.
        flag: at or above this a candidate is called relevant. The default is strict: on TREC DL 2019's mined candidates
            it was 99 % precise, where NV-Retriever's TopK-PercPos (ratio .95) was 74 % (benchmarks/oneshot.py).
        ask: at or above this, and below `flag`, the judge has no word, and a person or a better judge should look.
        reference_limit: how many positives stand as reference.
    """

    score: Score = "sum"
    flag: Rule = Rule("sum", 0.9)
    ask: Rule | None = Rule("sum", 0.7)
    reference_limit: int = 3


class EmbeddingJudge:
    """Judges by cosines of cached embeddings; every distinct text is embedded once, where `spread` says."""

    def __init__(self, settings: EmbeddingSettings, encoder: Encoder, folder: Path, spread: Spread = here) -> None:
        self._settings = settings
        self._vectors = VectorCache(encoder, folder, spread)

    @property
    def windowed(self) -> int:
        """How many distinct passages were longer than the model reads, and judged by their best window."""
        return self._vectors.windowed

    def prepare(self, examples: Iterable[Example]) -> None:
        """Embed all texts of the input, in batches that depend on the input alone."""
        self._vectors.fill(text for example in examples for text in self._texts(example))

    def extend(self, examples: Iterable[Example]) -> None:
        """Embed the texts of further examples."""
        self.prepare(examples)

    def _texts(self, example: Example) -> Iterator[tuple[Role, str]]:
        yield "query", example.query
        for passage in example.positives[: self._settings.reference_limit] + example.negatives:
            yield "document", passage.full_text

    def judge(self, cases: Iterable[Case]) -> Iterator[Case]:
        """Judge each case as it comes."""
        for case in cases:
            yield case.judged(self._judge(case))

    def _judge(self, case: Case) -> tuple[Judgment, ...]:
        query = self._vectors.get("query", case.example.query)[0]
        positives = [self._best_window(query, passage) for passage in case.reference]
        return tuple([self._word(self.values(query, positives, pair.candidate)) for pair in case.pairs])

    def _best_window(self, query: "Floats", passage: Passage) -> "Floats":
        windows = self._vectors.get("document", passage.full_text)
        best: Floats = windows[(windows @ query).argmax()]
        return best

    def values(self, query: "Floats", positives: list["Floats"], candidate: Passage) -> dict[Score, float]:
        """Return every kind of score, each by the candidate's best window and its best positive."""
        windows = self._vectors.get("document", candidate.full_text)
        near = windows @ query
        found: dict[Score, float] = {"cosine": float(near.max()), "sum": -9.0, "ratio": -9.0, "margin": -9.0}
        for positive in positives:
            anchor = float(positive @ query)
            margin = found["cosine"] - anchor
            found["margin"] = max(found["margin"], margin)
            # 1 + (n − p)/|p| is n/p for p > 0 and keeps its direction for p < 0, where n/p turns round
            found["ratio"] = max(found["ratio"], 1 + margin / max(abs(anchor), 1e-6))
            found["sum"] = max(found["sum"], float((near + windows @ positive).max()) - anchor)
        return {kind: round(value, DECIMALS) for kind, value in found.items()}

    def _word(self, values: dict[Score, float]) -> Judgment:
        settings = self._settings
        score = values[settings.score]
        if values[settings.flag.by] >= settings.flag.at:
            flag = f"{settings.flag.by} {values[settings.flag.by]:.2f} ≥ {settings.flag.at:g}"
            return Judgment("relevant", score=score, rationale=flag)
        if settings.ask and values[settings.ask.by] >= settings.ask.at:
            ask = f"{settings.ask.by} {values[settings.ask.by]:.2f}: {settings.ask.at:g} to {settings.flag.at:g}"
            return Judgment(None, "in the ask band", score=score, rationale=ask)
        return Judgment("irrelevant", score=score)
