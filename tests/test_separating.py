"""Synthetic negatives of training files told from mined ones."""

import random
from pathlib import Path
from typing import Any

import pytest
from conftest import Save

from relabel.errors import InputError
from relabel.judges.vectors import EncoderSettings
from relabel.separating import separate

WORDS = ["river", "stone", "market", "window", "garden", "letter", "train", "music", "winter", "paper"]


def row(number: int, *, mined: int = 3, synthetic: int = 3, opening: str = "Certainly! ") -> dict[str, Any]:
    """Return a training row with negatives of both kinds."""

    def passages(kind: str, count: int, start: str) -> list[dict[str, str]]:
        words = [random.Random(f"{number}-{kind}{place}").choices(WORDS, k=15) for place in range(count)]
        texts = [f"{start}{' '.join(chosen)}." for chosen in words]
        return [{"docid": f"{kind}{number}-{place}", "title": "", "text": text} for place, text in enumerate(texts)]

    return {
        "query_id": str(number),
        "query": f"query {number}",
        "positive_passages": [{"docid": "p", "title": "", "text": "positive"}],
        "negative_passages": passages("m", mined, "") + passages("synthetic-", synthetic, opening),
    }


def test_marked_negatives_are_told_from_the_others(save: Save) -> None:
    """One file with both kinds: an opening gives the synthetic ones away."""
    found = separate(save(*[row(number) for number in range(20)]))
    assert (found.synthetic, found.mined, found.queries, found.left_out) == (60, 60, 20, 0)
    assert found.auc.value is not None
    assert found.auc.value > 0.9
    assert "certainly" in {each.word for each in found.artefacts}


def test_two_files_are_the_same_as_one(save: Save) -> None:
    """The synthetic ones may lie in a file of their own; the order of rows does not matter."""
    both = separate(save(*[row(number) for number in range(15)], name="both.jsonl"))
    mined = save(*[row(number, synthetic=0) for number in range(15)], name="mined.jsonl")
    written = save(*[row(number, mined=0) for number in reversed(range(15))], name="written.jsonl")
    assert separate(mined, written).to_json() == both.to_json()


def test_a_large_file_is_drawn_from_in_bounded_memory(save: Save) -> None:
    """Of more passages than are looked at whole queries stay, and the rest is counted, in whatever order rows come."""
    rows = [row(number) for number in range(60)]
    found = separate(save(*rows, name="a.jsonl"), most=90)
    again = separate(save(*rows[::-1], name="b.jsonl"), most=90)
    assert (found.synthetic, found.mined, found.queries, found.left_out) == (45, 45, 15, 270)
    assert found.to_json() == again.to_json()


def test_a_kind_that_is_missing_is_named(save: Save, tmp_path: Path) -> None:
    """Without synthetic or without mined negatives there is nothing to tell apart."""
    with pytest.raises(InputError, match="there is no synthetic negative"):
        separate(save(row(0, synthetic=0)))
    with pytest.raises(InputError, match="there is no mined negative"):
        separate(save(row(0, mined=0), name="other.jsonl"))
    assert not (tmp_path / "cache").exists()


@pytest.mark.embedding
def test_embeddings_can_be_seen_too(save: Save) -> None:
    """With a model named its vectors are part of what the classifier sees."""
    found = separate(save(*[row(number, mined=1, synthetic=1) for number in range(12)]), encoder=EncoderSettings())
    assert found.embedded
    assert found.auc.value is not None
