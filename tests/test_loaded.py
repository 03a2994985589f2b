"""Models that the caller has loaded, and batches that a CPU works at side by side."""

import threading
from typing import Any

import numpy as np
import pytest
import torch

from relabel.judges.loaded import LoadedEncoder, LoadedScorer
from relabel.judges.localmodel import LANES, side_by_side
from relabel.judges.vectors import Encoder, EncoderSettings
from relabel.protocols import Encodes, EncodesMany

pytestmark = [pytest.mark.embedding, pytest.mark.filterwarnings("ignore")]

TEXTS = [f"{word} {number} " * (number % 7 + 1) for number, word in enumerate(["bee", "sun", "way", "home"] * 10)]


@pytest.fixture(scope="module")
def model() -> Any:
    """Return the packaged model, loaded."""
    return Encoder(EncoderSettings()).model


@pytest.mark.parametrize("device", ["cpu", "cuda"])
def test_results_come_in_the_items_order_and_threads_are_given_back(device: str) -> None:
    """However long each takes; on a CPU in several threads, none of which shares its work with more than it may."""
    before, seen = torch.get_num_threads(), set()
    meet = threading.Barrier(2)

    def work(item: int) -> int:
        if device == "cpu" and before > 1 and item in (1, 2):
            meet.wait(timeout=60)  # only if two are at work at a time
        seen.add((threading.current_thread().name, torch.get_num_threads()))
        return item * item

    assert list(side_by_side(device, work, range(20))) == [item * item for item in range(20)]
    assert torch.get_num_threads() == before
    if device == "cpu" and before > 1:
        assert {count for _, count in seen} == {max(1, before // LANES)}
        assert 1 < len({name for name, _ in seen}) <= LANES
    else:
        assert {name for name, _ in seen} == {threading.current_thread().name}


def test_an_error_ends_the_work_and_gives_threads_back() -> None:
    """What was not begun is not done; the error is the worker's."""
    before, done = torch.get_num_threads(), []

    def work(item: int) -> int:
        if item == 3:
            raise ValueError("three")
        done.append(item)
        return item

    with pytest.raises(ValueError, match="three"):
        list(side_by_side("cpu", work, range(10_000)))
    assert torch.get_num_threads() == before
    assert len(done) < 10_000


def test_a_loaded_encoder_embeds_like_one_by_name(model: Any) -> None:
    """The same vectors, batch by batch and many at a time, with the model's own prompts and with others."""
    for prompts in ((None, None), ("query: ", "passage: ")):
        loaded, named = (
            LoadedEncoder(model, *prompts),
            Encoder(EncoderSettings("all-MiniLM-L6-v2", None, 64, "", *prompts)),
        )
        encoders: list[Encodes] = [loaded, named]
        assert all(isinstance(each, EncodesMany) for each in encoders)
        for role in ("query", "document"):
            expected = named.encode(role, TEXTS)
            assert loaded.encode(role, TEXTS) == pytest.approx(expected, abs=1e-6)
            batches = [TEXTS[start : start + 3] for start in range(0, len(TEXTS), 3)]
            many = np.concatenate(list(loaded.encode_many(role, batches)))
            assert many == pytest.approx(expected, abs=1e-6)
    assert loaded.lengths(TEXTS) == named.lengths(TEXTS)
    assert loaded.most_tokens() == named.most_tokens() is not None


def test_a_fingerprint_is_of_weights_and_settings() -> None:
    """Equal models have one; other prompts, another length, any trained weight make another, large tensors' too."""
    one, other = (Encoder(EncoderSettings()).model for _ in range(2))
    start = LoadedEncoder(one).fingerprint
    assert LoadedEncoder(other).fingerprint == start
    seen = {start, LoadedEncoder(one, "query: ").fingerprint, LoadedEncoder(one, None, "query: ").fingerprint}
    one.max_seq_length = 64
    seen.add(LoadedEncoder(one).fingerprint)
    with torch.no_grad():
        for name in ("embeddings.word_embeddings.weight", "encoder.layer.3.output.dense.bias"):
            dict(other[0].auto_model.named_parameters())[name].mul_(1.001)
            seen.add(LoadedEncoder(other).fingerprint)
    assert len(seen) == 6


def test_a_loaded_scorer_says_what_the_model_says(model: Any, tmp_path: Any) -> None:
    """Scores are those of predict, by the model's own activation, in the pairs' order; no text is cut into windows."""
    import transformers
    from sentence_transformers import CrossEncoder

    config: Any = transformers.BertConfig
    make: Any = transformers.BertForSequenceClassification
    shape = config(
        vocab_size=len(model.tokenizer), hidden_size=16, intermediate_size=16, num_hidden_layers=1,
        num_attention_heads=1, num_labels=1, initializer_range=0.5,
    )  # fmt: skip
    make(shape).save_pretrained(tmp_path)
    model.tokenizer.save_pretrained(tmp_path)
    for activation in (torch.nn.Identity(), torch.nn.Sigmoid()):
        judge = CrossEncoder(str(tmp_path), max_length=64, activation_fn=activation)
        scorer = LoadedScorer(judge, batch_size=3)
        pairs = [("where do bees live", text) for text in TEXTS]
        assert scorer.scores(pairs) == pytest.approx(judge.predict(pairs).tolist(), abs=1e-5)
        assert scorer.room("q") > 10**9
