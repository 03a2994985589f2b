"""Collections as training rows, and back: what `relabel convert` reads besides training files."""

import json
import os
import subprocess
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import relabel
from relabel.errors import InputError, RowError, SettingsError
from relabel.formats import EXPORTS, FORMATS, open_writer, read_examples
from relabel.formats.corpora import is_collection
from relabel.records import Example, Passage

DOCUMENTS = [
    {"_id": "a", "title": "", "text": "apple"},
    {"_id": "b", "title": "Berries", "text": "berry"},
    {"_id": "c", "title": "", "text": "cherry"},
    {"_id": "d", "title": "", "text": "date"},
]
QUERIES = [{"_id": "p", "text": "red?"}, {"_id": "q", "text": "blue?"}, {"_id": "r", "text": "round?"}]
LABELS = "query-id\tcorpus-id\tscore\np\ta\t2\np\tc\t0\np\tb\t1\nq\tb\t1\n"


def lines(path: Path, rows: Sequence[Mapping[str, Any]]) -> Path:
    """Write rows as JSON lines."""
    return text(path, "".join(json.dumps(row) + "\n" for row in rows))


def text(path: Path, content: str) -> Path:
    """Write a file with the folders above it."""
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(content, "utf-8", newline="")
    return path


def beir(folder: Path) -> Path:
    """Write a BEIR folder with graded labels: one passage is judged not relevant, one is not judged."""
    lines(folder / "corpus.jsonl", DOCUMENTS)
    lines(folder / "queries.jsonl", QUERIES)
    text(folder / "qrels" / "train.tsv", LABELS)
    text(folder / "qrels" / "test.tsv", "query-id\tcorpus-id\tscore\nr\td\t1\n")
    return folder


Row = tuple[str, str, list[str], list[str]]
"""Query id, query, ids of positives and of negatives."""


def rows_of(path: Path) -> list[Row]:
    """Read a training file."""
    return [
        (each.id, each.query, [one.id for one in each.positives], [one.id for one in each.negatives])
        for each in read_examples(path)
    ]


def converted(source: Path | str, path: Path, **options: Any) -> list[Row]:
    """Convert to rows, and read them."""
    relabel.convert(source, path, to="tevatron", **options)
    return rows_of(path)


# ---------------------------------------------------------------------------------------------------- round trips

_SIGNS = st.characters(exclude_categories=["Cs"], exclude_characters="\r\n")
_IDS = st.one_of(st.sampled_from(["1", "2", "007", 'a"b', '"a"', "tab\there", " a", "text"]), st.text(_SIGNS, min_size=1, max_size=6))
_TEXTS = st.text(_SIGNS | st.just("\n"), min_size=1, max_size=12).filter(lambda text: not text.isspace())
_PASSAGES = st.builds(Passage, _IDS, _TEXTS, st.one_of(st.just(""), _TEXTS))


@st.composite
def _examples(draw: st.DrawFn) -> list[Example]:
    """Draw examples whose ids stand for one text each; texts may be equal, and passages shared."""
    pool = draw(st.lists(_PASSAGES, min_size=1, max_size=8, unique_by=lambda each: each.id))
    names = draw(st.lists(_IDS, max_size=5, unique=True))
    examples = []
    for name in names:
        mine = draw(st.permutations(pool))
        cut, end = draw(st.integers(1, len(mine))), draw(st.integers(1, len(mine)))
        examples.append(Example(name, draw(_TEXTS), tuple(mine[:cut]), tuple(mine[cut:end])))
    return examples


@pytest.mark.parametrize("name", list(EXPORTS))
@given(examples=_examples())
@settings(max_examples=25, deadline=None)
def test_rows_to_files_and_back(name: str, examples: list[Example]) -> None:
    """Whatever the ids and texts: queries, passages, their labels and their order come back.

    Titles come back from BEIR, and in front of the text from the others; negatives not from LlamaIndex.
    """
    with TemporaryDirectory() as made:
        folder = Path(made)
        with open_writer(folder / "in.jsonl", FORMATS["tevatron"]) as writer:
            for each in examples:
                writer.write(each)
        if not examples:
            return
        between = folder / ("out.json" if name == "llama-index" else "out")
        relabel.convert(folder / "in.jsonl", between, to=name)
        source = between / "train.json" if name == "automodel" else between
        relabel.convert(source, folder / "back.jsonl", to="tevatron")
        back = list(read_examples(folder / "back.jsonl"))

    def seen(passages: Sequence[Passage]) -> list[tuple[str, str, str]]:
        if name == "beir":
            return [(each.id, each.title, each.text) for each in passages]
        return [(each.id, "", each.full_text) for each in passages]

    def kept(passages: Sequence[Passage]) -> list[tuple[str, str, str]]:
        return [(each.id, each.title, each.text) for each in passages]

    wanted = [
        (each.id, each.query, seen(each.positives), seen(each.negatives) if name != "llama-index" else [])
        for each in examples
    ]
    assert [(each.id, each.query, kept(each.positives), kept(each.negatives)) for each in back] == wanted
