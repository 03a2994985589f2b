"""Are synthetic negatives worth having here? A small retriever is trained on either kind, and asked the dev queries.

    training rows that have both kinds ─▶ lessons: the same rows, the same number of negatives, another source
    ─▶ a head on frozen embeddings, several seeds (or the whole model) ─▶ nDCG@10 on the dev set, query by query
    ─▶ differences to mined negatives, paired, with intervals

Two controls stand beside: the model as it is, and negatives drawn from the collection.
"""

import tempfile
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

from relabel.copies import normalise
from relabel.corpus import Corpus
from relabel.errors import InputError, RunError, SettingsError, no_options
from relabel.formats.corpora import open_parts
from relabel.formats.corpora.base import Judged, Part
from relabel.judges.loaded import LoadedEncoder
from relabel.judges.localmodel import whole
from relabel.judges.vectors import Encoder, EncoderSettings
from relabel.material import Material
from relabel.mining.embeddings import Embeddings
from relabel.mining.searching import Asked, Progress
from relabel.records import chance, digest
from relabel.rundir import write_json
from relabel.sources import open_source
from relabel.synthesis.marks import is_synthetic
from relabel.synthesis.training import Head, Schedule, fine_tune, train_head
from relabel.synthesis.trials import CUTOFF, SOURCES, UNTRAINED, Arm, Row, best, compared, gains, lessons

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

    Scores = NDArray[np.float64]

EVALUATION: Final = "evaluation.json"
CORPUS: Final = "dev.sqlite"
CACHE: Final = "cache"
"""As in a mined folder, which may be the output: what was embedded there is not embedded again."""

LEAST_ROWS: Final = 8
LEAST_QUERIES: Final = 2
_BLOCK: Final = 4096  # passages that are scored at once
_ASKED: Final = 256  # queries that are asked at once
_POOL: Final = 4  # random passages that a row has to draw from, as multiples of what is drawn


@dataclass(frozen=True, slots=True)
class Trial:
    """How the comparison is made.

    Attributes:
        budget: negatives of each row, in every trained arm.
        seeds: how many times every arm is trained: other draws, another order.
        rows: training queries at most, drawn by dice.
        head: how a head on frozen embeddings is trained.
        full: how the whole model is trained, once, with the first seed; None = it is not.
        encoder: which model; the packaged one without.
        seed: of the dice.
    """

    budget: int = 4
    seeds: int = 5
    rows: int = 2000
    head: Schedule = field(default_factory=Schedule)
    full: Schedule | None = None
    encoder: EncoderSettings = field(default_factory=EncoderSettings)
    seed: int = 42

    def __post_init__(self) -> None:
        """Refuse what cannot be done.

        Raises:
            SettingsError: names the setting.
        """
        for name in ("budget", "seeds", "rows"):
            if getattr(self, name) < 1:
                raise SettingsError(f"{name} cannot be {getattr(self, name)}", hint=f"set {name} to 1 or more")


FULL: Final = Schedule(epochs=1, batch_size=16, learning_rate=2e-5)
"""How the whole model is trained where nothing else is said."""


@dataclass(frozen=True, slots=True)
class Evaluation:
    """What the comparison found.

    Attributes:
        rows: training queries that every arm was trained on.
        left_out: training queries that had synthetic negatives and were not used, by reason.
        queries: dev queries.
        overlap: dev queries that were left out because they are training queries too.
        lost: dev queries with a positive that were left out because the collection has none of their positives, or has
            not the query itself.
        missing: judgments by which a passage is positive that the collection has not; of the queries that are asked,
            and of those that are lost.
        documents: passages that are searched for each.
        trial: how it was made.
        arms: with a head on frozen embeddings, in the order untrained, random, mined, synthetic, mixed.
        full: with the whole model trained, one seed; empty where that was not asked for. Its untrained arm reads as
            few tokens as the others.
        folder: where `evaluation.json` lies.
    """

    rows: int
    left_out: Mapping[str, int]
    queries: int
    overlap: int
    lost: int
    missing: int
    documents: int
    trial: Trial
    arms: tuple[Arm, ...]
    full: tuple[Arm, ...]
    folder: Path

    def to_json(self) -> dict[str, Any]:
        """Return plain JSON: the same for the same input, model and machine, wherever the folder lies."""
        told = {
            name: getattr(self, name)
            for name in ("rows", "left_out", "queries", "overlap", "lost", "missing", "documents")
        }
        measure = {"measure": f"nDCG@{CUTOFF}", "trial": asdict(self.trial)}
        arms = {name: [arm.to_json() for arm in getattr(self, name)] for name in ("arms", "full")}
        return {**told, **measure, **arms}


def evaluate(
    mined: Path | str,
    synthetic: Path | str | None = None,
    *,
    dev: Path | str,
    output: Path | str,
    split: str = "dev",
    trial: Trial | None = None,
    progress: Progress = lambda *_: None,
) -> Evaluation:
    """Train on mined, synthetic and mixed negatives and compare them on a dev set; writes `evaluation.json`.

    Embeddings lie in the output folder: called again it computes none twice.

    Args:
        mined: a training file; its negatives that are not marked as synthetic are the mined ones.
        synthetic: a training file whose marked negatives are the synthetic ones; without, they are those marked in
            `mined`. Rows of both go together by query.
        dev: a collection with judgments: a BEIR folder, or whatever `mine` reads.
        output: a folder.
        split: which judgments of the collection are meant.
        trial: how the comparison is made.
        progress: told (what, done, of how many) as work goes on.

    Raises:
        InputError: no negative is marked, too few rows have enough of both kinds, or the collection has no queries.
        MissingPart: sentence-transformers is not installed.
        RunError: the output is no folder.
    """
    trial, folder = trial or Trial(), Path(output)
    with no_options():
        drawn = _drawn(str(mined), str(synthetic or mined), trial)
    _make(folder)
    with no_options():
        corpus, _ = Material(str(dev), split=split).open(folder / CORPUS, progress=progress)
    with corpus:
        lost, missing = _lacking(open_parts(dev, split=split).judged, corpus)
        texts, rows, left_out = _rows(drawn, corpus, trial)
        trained = {normalise(text) for text in texts.queries_texts}
        asked = [each for each in corpus.asked() if normalise(each.text) not in trained]
        if len(asked) < LEAST_QUERIES:
            more = f"; of {lost:,} more it has not the passages, or not the query" if lost else ""
            raise InputError(
                f"{dev} has {len(asked)} judged queries (split {split!r}) that are not in the training file{more}",
                hint="name a split or a collection whose queries were not trained on: --split, --dev",
            )
        bench = _Bench(corpus, asked, texts, rows, trial, folder, progress)
        evaluation = Evaluation(
            rows=len(rows),
            left_out=left_out,
            queries=len(asked),
            overlap=corpus.queries - len(asked),
            lost=lost,
            missing=missing,
            documents=corpus.documents,
            trial=trial,
            arms=compared(bench.heads(), seed=trial.seed),
            full=compared(bench.whole_models(trial.full), seed=trial.seed) if trial.full is not None else (),
            folder=folder,
        )
    write_json(folder / EVALUATION, evaluation.to_json())
    return evaluation


def _make(folder: Path) -> None:
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        why = "is a file" if folder.is_file() else f"cannot be made: {error.strerror or error}"
        raise RunError(f"{folder} {why}", hint="name another folder: -o") from error


def _lacking(judged: Part[Judged] | None, corpus: Corpus) -> tuple[int, int]:
    """Return how many judged queries, and how many positives of judged ones, a collection has not."""
    lost: set[str] = set()
    missing = 0
    for each in judged() if judged is not None else ():
        if each.grade >= 1:
            if corpus.query_id_of(each.query_id) is None:
                lost.add(each.query_id)
            missing += corpus.number_of(each.document_id) is None
    return len(lost), missing


@dataclass(slots=True)
class _Given:
    """What the files have for one query."""

    query: str
    positives: dict[str, None] = field(default_factory=dict)
    mined: dict[str, None] = field(default_factory=dict)
    synthetic: dict[str, None] = field(default_factory=dict)


def _drawn(mined: str, synthetic: str, trial: Trial) -> list[_Given]:
    """Return what there is for at most `trial.rows` of the queries that have synthetic negatives, drawn by dice."""
    kept: dict[bytes, tuple[float, _Given]] = {}
    bar = 1.0
    for example in open_source(synthetic).examples():
        written = [passage.full_text for passage in example.negatives if is_synthetic(passage)]
        key = digest(normalise(example.query))
        luck = chance("trial row", str(trial.seed), key.hex())
        if written and luck < bar:
            given = kept.setdefault(key, (luck, _Given(example.query)))[1]
            given.synthetic.update(dict.fromkeys(written))
            if len(kept) >= 2 * trial.rows:
                kept = dict(sorted(kept.items(), key=lambda item: item[1][0])[: trial.rows])
                bar = max(luck for luck, _ in kept.values())
                # whoever was let go never comes back: the bar only falls
    if not kept:
        raise InputError(
            f"{synthetic}: no negative is marked as synthetic",
            hint='an id that begins with "synthetic-", or a field "synthetic", marks one; `relabel synthesize` does it',
        )
    for example in open_source(mined).examples():
        entry = kept.get(digest(normalise(example.query)))
        if entry is not None:
            entry[1].positives.update(dict.fromkeys(each.full_text for each in example.positives))
            found = (each.full_text for each in example.negatives if not is_synthetic(each))
            entry[1].mined.update(dict.fromkeys(found))
    return [given for _, given in sorted(kept.values(), key=lambda each: each[0])[: trial.rows]]


class _Texts:
    """The training texts as a collection: passages and queries by number, each once."""

    def __init__(self) -> None:
        self._passages: dict[str, int] = {}
        self.queries_texts: list[str] = []

    def number(self, text: str) -> int:
        """Return a passage's number, a new one for a new text."""
        return self._passages.setdefault(whole(text), len(self._passages))

    @property
    def passages_texts(self) -> list[str]:
        """All passages."""
        return list(self._passages)

    @property
    def fingerprint(self) -> str:
        """Digest of all passages."""
        return digest(*self._passages).hex()

    @property
    def documents(self) -> int:
        """How many passages there are."""
        return len(self._passages)

    passages = documents

    @property
    def queries(self) -> int:
        """How many queries there are."""
        return len(self.queries_texts)

    def texts(self, first: int = 0, last: int | None = None) -> Iterator[str]:
        """Yield passages."""
        return iter(self.passages_texts[first:last])

    def asked(self, first: int = 0, last: int | None = None) -> Iterator[Asked]:
        """Yield queries."""
        last = self.queries if last is None else last
        return (Asked(place, str(place), self.queries_texts[place], ()) for place in range(first, last))


def _rows(drawn: Sequence[_Given], corpus: Corpus, trial: Trial) -> tuple[_Texts, list[Row], dict[str, int]]:
    """Return the texts, the rows that have enough of everything, and how many have not, by what they lack."""
    texts, rows = _Texts(), []
    left_out = {"no positive": 0, "too few mined": 0, "too few synthetic": 0}
    for given in drawn:
        mined, synthetic = ([each for each in kind if each not in given.positives] for kind in
                            (given.mined, given.synthetic))  # fmt: skip
        if not given.positives:
            left_out["no positive"] += 1
        elif len(mined) < trial.budget:
            left_out["too few mined"] += 1
        elif len(synthetic) < trial.budget:
            left_out["too few synthetic"] += 1
        else:
            random = _random(given, corpus, trial)
            numbers = [tuple(map(texts.number, kind)) for kind in (given.positives, mined, synthetic, random)]
            rows.append(Row(texts.queries, *numbers))
            texts.queries_texts.append(whole(given.query))
    if len(rows) < LEAST_ROWS:
        raise InputError(
            f"{len(rows)} training queries have a positive and {trial.budget} negatives of either kind,"
            f" {LEAST_ROWS} are needed; left out: {', '.join(f'{count} {why}' for why, count in left_out.items())}",
            hint="a lower --budget needs fewer negatives of each row",
        )
    return texts, rows, left_out


def _random(given: _Given, corpus: Corpus, trial: Trial) -> list[str]:
    """Draw passages of the collection that are no positives of a query."""
    found: dict[str, None] = {}
    wanted = min(_POOL * trial.budget, max(0, corpus.documents - len(given.positives)))
    turn = 0
    while len(found) < wanted and turn < 20 * wanted:
        places = [
            int(chance("random", str(trial.seed), given.query, str(turn + ahead)) * corpus.documents)
            for ahead in range(wanted)
        ]
        turn += wanted
        found.update((each.full_text, None) for each in corpus.passages_of(places))
        found = {text: None for text in found if text not in given.positives}
    if len(found) < trial.budget:
        raise InputError(
            f"the dev collection has too few passages to draw {trial.budget} negatives from",
            hint="a lower --budget, or a collection of more passages",
        )
    return list(found)[:wanted]


@dataclass(frozen=True, slots=True)
class _Bench:
    """Everything that an arm is trained on and held against."""

    corpus: Corpus
    asked: Sequence[Asked]
    texts: _Texts
    rows: Sequence[Row]
    trial: Trial
    folder: Path
    progress: Progress

    def heads(self) -> dict[str, "Scores"]:
        """Return nDCG of every arm with a head on frozen embeddings, shape (seeds, queries)."""
        import numpy as np

        encoder = Encoder(self.trial.encoder)
        collection, training = (Embeddings(encoder, self.folder / CACHE) for _ in range(2))
        collection.prepare(self.corpus, self.progress)
        training.prepare(self.texts, self.progress)
        queries = training.queries(np.arange(self.texts.queries))
        passages = np.array(training.documents(0, self.texts.documents))
        scores = {UNTRAINED: self._asked(collection, None)[None]}
        total = len(SOURCES) * self.trial.seeds
        for source in SOURCES:
            by_seed = []
            for seed in range(self.trial.seeds):
                self.progress("train heads", (len(scores) - 1) * self.trial.seeds + seed, total)
                drawn = lessons(self.rows, source, self.trial.budget, self.trial.seed + seed)
                head = train_head(queries, passages, drawn, self.trial.head, self.trial.seed + seed)
                by_seed.append(self._asked(collection, head))
            scores[source] = np.stack(by_seed)
        self.progress("train heads", total, total)
        return scores

    def whole_models(self, schedule: Schedule) -> dict[str, "Scores"]:
        """Return nDCG of the whole model as it is, and trained on each kind of negatives; shape (1, queries)."""
        encoder = Encoder(self.trial.encoder)
        scores: dict[str, Scores] = {}
        names = (UNTRAINED, *(source for source in SOURCES if source != "random"))
        for done, name in enumerate(names):
            self.progress("train whole models", done, len(names))
            encoder.release()  # each begins with the weights that were published
            model = encoder.model
            model.max_seq_length = min(model.max_seq_length or schedule.max_tokens, schedule.max_tokens)
            for source in SOURCES:
                if source == name:
                    drawn = lessons(self.rows, source, self.trial.budget, self.trial.seed)
                    fine_tune(
                        model, self.texts.queries_texts, self.texts.passages_texts, drawn, schedule, self.trial.seed
                    )
            with tempfile.TemporaryDirectory(dir=self.folder) as scratch:
                embedded = Embeddings(LoadedEncoder(model), Path(scratch))
                embedded.prepare(self.corpus, self.progress)
                scores[name] = self._asked(embedded, None)[None]
        self.progress("train whole models", len(names), len(names))
        return scores

    def _asked(self, embedded: Embeddings, head: Head | None) -> "Scores":
        """Return nDCG of each dev query, shape (queries,)."""
        import numpy as np

        found = []
        turned: Callable[[Any], Any] = head.passages if head is not None else lambda vectors: vectors
        for start in range(0, len(self.asked), _ASKED):
            some = self.asked[start : start + _ASKED]
            queries = embedded.queries(np.array([each.number for each in some]))
            queries = head.queries(queries) if head is not None else queries
            scores: NDArray[Any] = np.empty((len(some), 0))
            numbers: NDArray[Any] = np.empty((len(some), 0), dtype=np.int64)
            for first in range(0, self.corpus.documents, _BLOCK):
                last = min(first + _BLOCK, self.corpus.documents)
                block = queries @ turned(embedded.documents(first, last)).T
                scores = np.hstack([scores, block])
                numbers = np.hstack([numbers, np.tile(np.arange(first, last), (len(some), 1))])
                places = best(scores, numbers, CUTOFF)
                scores = np.take_along_axis(scores, places, axis=1)
                numbers = np.take_along_axis(numbers, places, axis=1)
            found += [gains(row, each.positives) for row, each in zip(numbers.tolist(), some, strict=True)]
        return np.array(found)
