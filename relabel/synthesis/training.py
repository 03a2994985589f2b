"""A small retriever trained on lessons: a head on frozen embeddings, or the whole model.

Both minimise InfoNCE (van den Oord et al. 2018, arXiv 1807.03748) over a batch: each query's positive against its own
negatives and all other passages of the batch, but for those that are known to be positives of the query too.
"""

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from relabel.synthesis.trials import Lesson

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

    Floats = NDArray[np.float32]


@dataclass(frozen=True, slots=True)
class Schedule:
    """How long and how fast is trained; AdamW, without weight decay.

    Attributes:
        epochs: passes over all lessons.
        batch_size: lessons in a batch.
        learning_rate: constant for a head; for the whole model it falls linearly to 0.
        temperature: that cosines are divided by.
        max_tokens: how much of a text the whole model reads, in training and afterwards; a head reads as the model.
    """

    epochs: int = 10
    batch_size: int = 32
    learning_rate: float = 1e-4
    temperature: float = 0.05
    max_tokens: int = 128


@dataclass(frozen=True, slots=True)
class Head:
    """What is added to frozen embeddings: x becomes x + x W, of unit length again; one W for each side.

    Attributes:
        query: shape (dimensions, dimensions).
        passage: likewise.
    """

    query: "Floats"
    passage: "Floats"

    def queries(self, vectors: "Floats") -> "Floats":
        """Return the vectors of queries as the trained retriever has them, shape (n, dimensions)."""
        return _turned(vectors, self.query)

    def passages(self, vectors: "Floats") -> "Floats":
        """Return the vectors of passages likewise."""
        return _turned(vectors, self.passage)


def _turned(vectors: "Floats", weights: "Floats") -> "Floats":
    import numpy as np

    moved = vectors + vectors @ weights
    unit: Floats = moved / np.maximum(np.linalg.norm(moved, axis=1, keepdims=True), 1e-12)
    return unit


def train_head(queries: "Floats", passages: "Floats", lessons: Sequence[Lesson], schedule: Schedule, seed: int) -> Head:
    """Train a head on frozen embeddings; it begins as the embeddings are.

    Args:
        queries: vectors of all queries by number, unit length, shape (queries, dimensions).
        passages: of all passages by number, likewise.
        lessons: see there.
        schedule: see there.
        seed: of the order of lessons.
    """
    import torch

    sides = torch.from_numpy(queries), torch.from_numpy(passages)
    weights = [torch.zeros(side.shape[1], side.shape[1], requires_grad=True) for side in sides]
    optimizer = torch.optim.AdamW(weights, lr=schedule.learning_rate, weight_decay=0.0)

    def encoded(side: int, numbers: Sequence[int]) -> Any:
        vectors = sides[side][torch.tensor(numbers)]
        return torch.nn.functional.normalize(vectors + vectors @ weights[side], dim=1)

    threads = torch.get_num_threads()
    torch.set_num_threads(1)  # the matrices are small: several threads take many times as long waiting for one another
    try:
        for batch in _batches(lessons, schedule, seed):
            optimizer.zero_grad()
            _loss(batch, encoded, schedule.temperature).backward()
            optimizer.step()
    finally:
        torch.set_num_threads(threads)
    return Head(weights[0].detach().numpy(), weights[1].detach().numpy())


def fine_tune(
    model: Any,
    queries: Sequence[str],
    passages: Sequence[str],
    lessons: Sequence[Lesson],
    schedule: Schedule,
    seed: int,
) -> None:
    """Train all weights of a `SentenceTransformer`, in place.

    Args:
        model: on whatever device it is; dropout is at work while it is trained.
        queries: texts of all queries by number.
        passages: of all passages.
        lessons: see there.
        schedule: see there.
        seed: of the order of lessons, and of dropout.
    """
    import torch

    torch.manual_seed(seed)
    texts, names = (queries, passages), ("query", "document")
    optimizer = torch.optim.AdamW(model.parameters(), lr=schedule.learning_rate, weight_decay=0.0)
    steps = schedule.epochs * -(-len(lessons) // schedule.batch_size)
    slower = torch.optim.lr_scheduler.LambdaLR(optimizer, lambda step: max(0.0, 1 - step / steps))

    def encoded(side: int, numbers: Sequence[int]) -> Any:
        prompt = (model.prompts or {}).get(names[side]) or None
        inputs = model.preprocess([texts[side][number] for number in numbers], prompt=prompt)
        inputs = {name: each.to(model.device) if hasattr(each, "to") else each for name, each in inputs.items()}
        return torch.nn.functional.normalize(model(inputs)["sentence_embedding"], dim=1)

    model.train()
    for batch in _batches(lessons, schedule, seed):
        optimizer.zero_grad()
        _loss(batch, encoded, schedule.temperature).backward()
        optimizer.step()
        slower.step()
    model.eval()


def _batches(lessons: Sequence[Lesson], schedule: Schedule, seed: int) -> Iterator[list[Lesson]]:
    import numpy as np

    rng = np.random.default_rng(seed)
    for _ in range(schedule.epochs):
        order = rng.permutation(len(lessons))
        for start in range(0, len(order), schedule.batch_size):
            yield [lessons[place] for place in order[start : start + schedule.batch_size]]


def _loss(batch: Sequence[Lesson], encoded: Callable[[int, Sequence[int]], Any], temperature: float) -> Any:
    import torch

    numbers = [lesson.positive for lesson in batch] + [each for lesson in batch for each in lesson.negatives]
    logits = encoded(0, [lesson.query for lesson in batch]) @ encoded(1, numbers).T / temperature
    # a passage that is known to answer is nobody's negative, whichever row brings it along
    known = [
        [number in lesson.known and column != row for column, number in enumerate(numbers)]
        for row, lesson in enumerate(batch)
    ]
    logits = logits.masked_fill(torch.tensor(known, device=logits.device), float("-inf"))
    return torch.nn.functional.cross_entropy(logits, torch.arange(len(batch), device=logits.device))
