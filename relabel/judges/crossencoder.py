"""A cross-encoder as a judge: a model that reads query and passage together.

With s(q,d) in [0, 1] the model's score of a pair (its sigmoid), q the query, p a known positive and n the candidate,
as the maximum over the positives (higher = more likely relevant):

    score    s(q,n)             in [0, 1]
    ratio    s(q,n) / s(q,p)    from 0; 1 = scored like the positive
    margin   s(q,n) − s(q,p)    in [−1, 1]

The default is RocketQA's band on `score` (arXiv 2010.08191): from .9 on a candidate is taken for a positive, below .1
it is a hard negative without noise, and what lies between is neither, so the judge has no word. By ratio or margin the
band is aware of the positive; one that the model itself scores near 0 lets everything pass.

A sigmoid is in [0, 1] and still no probability: how often .9 is right depends on what the model was trained on, and
differs between data sets. So it is called a score, and no probability comes with it.
"""

import functools
import sys
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final, Literal, Protocol

from relabel.config import known_model
from relabel.errors import SettingsError
from relabel.judges.localmodel import (
    Index,
    batches,
    cut,
    give_back_memory,
    in_windows,
    loading,
    whole,
    within_memory,
)
from relabel.protocols import Spread, here
from relabel.records import Case, Example, Judgment, digest

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

    Floats = NDArray[np.float64]

Score = Literal["score", "ratio", "margin"]

DECIMALS: Final = 6
DIGEST: Final = 16
WINDOW: Final = 256


class Scorer(Protocol):
    """A model that scores pairs of query and passage.

    It loads when it is first asked. It can be pickled: a copy loads where it arrives.
    """

    @property
    def fingerprint(self) -> str:
        """Digest (hex) of what changes a score: the model, its revision, how much it reads."""
        ...

    @property
    def tokenizer(self) -> Any:
        """The model's tokenizer, of transformers."""
        ...

    def room(self, query: str) -> int:
        """Return how many tokens of a passage the model reads beside this query, 1 at the least."""
        ...

    def scores(self, pairs: Sequence[tuple[str, str]]) -> Sequence[float]:
        """Score pairs in their order, higher = more likely relevant; nan where there is no number.

        In [0, 1] for a judge; what only ranks and holds candidates against positives takes any scale.
        """
        ...

    def release(self) -> None:
        """Let go of the model and its memory; it loads again when it is asked again."""
        ...


@dataclass(frozen=True, slots=True)
class PairScorerSettings:
    """A sentence-transformers CrossEncoder.

    Attributes:
        model: name or folder.
        revision: of the model.
        batch_size: in pairs.
        device: "" = its own choice.
        max_length: tokens of a pair that are read; None = as many as the model can.
        scale: "sigmoid" = in [0, 1], a long passage by the best of its windows; "own" = what its `predict` returns,
            a long passage by its beginning.
    """

    model: str
    revision: str | None = None
    batch_size: int = 32
    device: str = ""
    max_length: int | None = None
    scale: Literal["sigmoid", "own"] = "sigmoid"


class PairScorer:
    """A sentence-transformers CrossEncoder, with its own prompt where it has one.

    Whatever the model's own activation is (mostly a sigmoid or none), its logits are asked for, and the sigmoid is
    taken here in double precision: in a model's bfloat16 all good passages would be rounded to 1. On its own scale it
    is left alone.

    Raises:
        MissingPart: sentence-transformers is not installed.
        SettingsError: the model cannot be loaded, gives no single score, or needs more memory than the device has.
    """

    def __init__(self, settings: PairScorerSettings) -> None:
        self.settings = settings
        self._model: Any = None

    def __reduce__(self) -> tuple[type["PairScorer"], tuple[PairScorerSettings]]:
        return type(self), (self.settings,)

    @property
    def fingerprint(self) -> str:
        """Digest (hex) of model, revision, length and scale."""
        chosen = self.settings
        model, read = known_model(chosen.model), str(chosen.max_length or "")
        own = [chosen.scale] if chosen.scale == "own" else []
        return digest("pairs", model, chosen.revision or "", read, *own, size=6).hex()

    @property
    def model(self) -> Any:
        """The loaded model."""
        if self._model is None:
            self._model = _load(self.settings)
        return self._model

    @property
    def tokenizer(self) -> Any:
        """The model's tokenizer."""
        return self.model.tokenizer

    def release(self) -> None:
        """Let go of the model."""
        self._model = None
        self.__dict__.pop("_readable", None)
        give_back_memory()

    def room(self, query: str) -> int:
        """Return the tokens that the query leaves; a long query, which the model cuts, leaves half."""
        if self.settings.scale == "own":
            return sys.maxsize
        asked = self.tokenizer(query, add_special_tokens=False, verbose=False)["input_ids"]
        return max(self._readable - len(asked), self._readable // 2, 1)

    @functools.cached_property
    def _readable(self) -> int:
        """Tokens of a pair that the model reads, without those that it adds (special ones, its prompt)."""
        model = self.model
        if not model.max_seq_length:
            return sys.maxsize
        prompt = (model.prompts or {}).get(model.default_prompt_name)
        return int(model.max_seq_length - model.preprocess([("", "")], prompt=prompt)["input_ids"].shape[-1])

    def scores(self, pairs: Sequence[tuple[str, str]]) -> Sequence[float]:
        """Score pairs in batches, the longest first."""
        import numpy as np
        from torch.nn import Identity

        own = self.settings.scale == "own"
        logits = np.empty(len(pairs))
        for batch in batches([len(query) + len(text) for query, text in pairs], self.settings.batch_size):
            asked = [pairs[place] for place in batch]
            with within_memory(self.settings.model, self.settings.batch_size):
                logits[batch] = self.model.predict(
                    asked, batch_size=len(asked), activation_fn=None if own else Identity(), show_progress_bar=False
                )  # fmt: skip
        scores: list[float] = (logits if own else np.exp(-np.logaddexp(0, -logits))).tolist()
        return scores


def _load(settings: PairScorerSettings) -> Any:
    hint = "give a folder or the name of a reranker that sentence-transformers' CrossEncoder knows"
    with loading("cross-encoder", settings.model, hint):
        from sentence_transformers import CrossEncoder

        model = CrossEncoder(settings.model, revision=settings.revision, device=settings.device or None)
        model.preprocess([("", "")])  # a chat template that has no place for a pair says so now
    told, read = model.config.architectures or [], type(model.transformers_model).__name__
    if told and read not in told:  # transformers would give it a head of random numbers
        raise SettingsError(
            f"{settings.model!r} is no cross-encoder: it holds a {told[0]}, which does not score pairs", hint=hint
        )
    if model.num_labels != 1:
        raise SettingsError(
            f"the cross-encoder {settings.model!r} has {model.num_labels} labels, and this judge reads a single score",
            hint=hint,
        )
    if settings.max_length:
        if model.max_seq_length and settings.max_length > model.max_seq_length:
            raise SettingsError(
                f"max_length {settings.max_length} is more than the {model.max_seq_length} tokens"
                f" that {settings.model!r} reads",
                hint="lower max_length, or leave it out: long passages are judged by their best window",
            )
        model.max_seq_length = settings.max_length
    return model


def _by_windows(scorer: Scorer, pairs: Sequence[tuple[str, str]]) -> list["Floats"]:
    """Score every pair by all windows of its passage, each as long as the model reads beside the query."""
    import numpy as np

    clean = [(whole(query), whole(text)) for query, text in pairs]
    rooms = {query: scorer.room(query) for query in dict.fromkeys(query for query, _ in clean)}
    cuts = [cut(text, scorer.tokenizer, rooms[query]) for query, text in clean]
    pieces = [(query, piece) for (query, _), windows in zip(clean, cuts, strict=True) for piece in windows]
    ends = np.cumsum([len(windows) for windows in cuts])
    return np.split(np.asarray(scorer.scores(pieces), dtype=np.float64), ends[:-1])


def _worker(scorer: Scorer) -> Callable[[Sequence[tuple[str, str]]], list["Floats"]]:
    return functools.partial(_by_windows, scorer)


class ScoreCache:
    """The scores of all pairs of query and passage seen, in `folder`; `spread` says where they are computed."""

    def __init__(self, scorer: Scorer, folder: Path, spread: Spread = here) -> None:
        self._scorer = scorer
        self._spread = spread
        self._index = Index(
            folder / f"scores-{scorer.fingerprint}.sqlite",
            "CREATE TABLE IF NOT EXISTS scores (query BLOB NOT NULL, passage BLOB NOT NULL,"
            " windows INTEGER NOT NULL, score REAL, PRIMARY KEY (query, passage)) WITHOUT ROWID",
        )

    @property
    def windowed(self) -> int:
        """How many distinct passages were cut into windows."""
        count = "SELECT count(DISTINCT passage) FROM scores WHERE windows > 1"
        return int(self._index.connection.execute(count).fetchone()[0])

    def fill(self, pairs: Iterable[tuple[str, str]]) -> None:
        """Score what is new among `pairs`, window by window."""
        windows = in_windows(
            pairs,
            WINDOW,
            key=_key,
            known=lambda key: self._find(key) is not None,
            make=functools.partial(_worker, self._scorer),
            spread=self._spread,
        )
        try:
            for keys, scores in windows:
                self._commit(keys, scores)
        finally:
            self._scorer.release()  # the next stage may want its memory

    def get(self, query: str, passage: str) -> float | None:
        """Return the score of a pair, that of its best window; None if the model gave no number."""
        key = _key((query, passage))
        found = self._find(key)
        if found is None:
            self._commit([key], _by_windows(self._scorer, [(query, passage)]))
            found = self._find(key)
        return found[0] if found else None

    def _find(self, key: bytes) -> tuple[float | None] | None:
        found: tuple[float | None] | None = self._index.connection.execute(
            "SELECT score FROM scores WHERE query = ? AND passage = ?", (key[:DIGEST], key[DIGEST:])
        ).fetchone()
        return found

    def _commit(self, keys: Sequence[bytes], scores: Sequence["Floats"]) -> None:
        """Keep the scores of one window of pairs, whole or not at all; SQLite keeps nan as NULL."""
        with self._index.connection as index:
            index.executemany(
                "INSERT INTO scores VALUES (?, ?, ?, ?)",
                [
                    (key[:DIGEST], key[DIGEST:], len(found), float(found.max()))
                    for key, found in zip(keys, scores, strict=True)
                ],
            )


def _key(pair: tuple[str, str]) -> bytes:
    query, passage = pair
    return digest(query, size=DIGEST) + digest(passage, size=DIGEST)


@dataclass(frozen=True, slots=True)
class Threshold:
    """A threshold: candidates whose value of `by` is at least `at`."""

    by: Score
    at: float


@dataclass(frozen=True, slots=True)
class CrossEncoderSettings:
    """What the judge looks at.

    Attributes:
        flag: at or above this a candidate is called relevant.
        ask: at or above this, and below `flag`, the judge has no word, and a person or a better judge should look.
        reference_limit: how many positives stand as reference.
    """

    flag: Threshold = Threshold("score", 0.9)
    ask: Threshold | None = Threshold("score", 0.1)
    reference_limit: int = 3

    @property
    def compares(self) -> bool:
        """Whether the positives' own scores are needed."""
        return self.flag.by != "score" or (self.ask is not None and self.ask.by != "score")


class CrossEncoderJudge:
    """Judges by cached scores; every distinct pair of texts is scored once, where `spread` says."""

    def __init__(self, settings: CrossEncoderSettings, scorer: Scorer, folder: Path, spread: Spread = here) -> None:
        self._settings = settings
        self._scores = ScoreCache(scorer, folder, spread)

    @property
    def windowed(self) -> int:
        """How many distinct passages were longer than the model reads, and judged by their best window."""
        return self._scores.windowed

    def prepare(self, examples: Iterable[Example]) -> None:
        """Score all pairs of the input, in batches that depend on the input alone."""
        self._scores.fill(pair for example in examples for pair in self._pairs(example))

    def extend(self, examples: Iterable[Example]) -> None:
        """Score the pairs of further examples."""
        self.prepare(examples)

    def _pairs(self, example: Example) -> Iterator[tuple[str, str]]:
        known = example.positives[: self._settings.reference_limit] if self._settings.compares else ()
        for passage in known + example.negatives:
            yield example.query, passage.full_text

    def judge(self, cases: Iterable[Case]) -> Iterator[Case]:
        """Judge each case as it comes."""
        for case in cases:
            yield case.judged(self._judge(case))

    def _judge(self, case: Case) -> tuple[Judgment, ...]:
        query = case.example.query
        known = case.reference if self._settings.compares else ()
        anchors = [self._scores.get(query, passage.full_text) for passage in known]
        told = [anchor for anchor in anchors if anchor is not None]
        return tuple([self._word(self._scores.get(query, pair.candidate.full_text), told) for pair in case.pairs])

    def _word(self, score: float | None, anchors: Sequence[float]) -> Judgment:
        flag, ask = self._settings.flag, self._settings.ask
        if score is None or (self._settings.compares and not anchors):
            return Judgment(None, "failed", rationale="the model gave no number")
        values = compare(score, anchors)
        score = values["score"]
        if values[flag.by] >= flag.at:
            return Judgment("relevant", score=score, rationale=f"{flag.by} {values[flag.by]:.2f} ≥ {flag.at:g}")
        if ask and values[ask.by] >= ask.at:
            band = f"{ask.by} {values[ask.by]:.2f}: {ask.at:g} to {flag.at:g}"
            return Judgment(None, "in the ask band", score=score, rationale=band)
        return Judgment("irrelevant", score=score)


def compare(score: float, anchors: Sequence[float]) -> dict[Score, float]:
    """Return every kind of value; ratio and margin against the positive that leaves the most, the lowest one."""
    values: dict[Score, float] = {"score": score}
    if anchors:
        lowest = min(anchors)
        values["margin"] = score - lowest
        # 1 + (n − p)/p is n/p, is 1 for equals even at 0, and finite
        values["ratio"] = 1 + values["margin"] / max(lowest, 1e-6)
    return {kind: round(value, DECIMALS) for kind, value in values.items()}
