"""A training file, or a collection of passages, queries and judgments, written in another format or container."""

from collections.abc import Iterator
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Final

from relabel.corpus import Built, Corpus
from relabel.errors import InputError, RowError, unit_of
from relabel.formats import Reject, as_format, get_output, open_writer
from relabel.formats.endings import is_table
from relabel.formats.exporting import Export, ExportWriter
from relabel.formats.hub import repo_of
from relabel.formats.whole import told
from relabel.material import Material
from relabel.records import Example, Passage
from relabel.sources import Source

LAYOUT: Final = "collection"


@dataclass(frozen=True, slots=True)
class Converted:
    """What `convert` read and wrote, and what is wrong with each row that it left out.

    Rows of triplets or n-tuples that make one row of the new format count as one example. `renamed` counts ids that
    stood for two texts, where the output names its texts by id: the later text got the id with a digest after it.
    `built` says what a collection held, and what of it was left out; None for a training file.
    """

    examples: int
    rows: int
    rejected: tuple[str, ...]
    renamed: int = 0
    built: Built | None = None


def convert(source: Source, path: Path | str, *, format: str, public: bool = False) -> Converted:  # noqa: A002 - the word users know
    """Write a training file in another format, another container, or both; see `open_writer` for what `path` may be.

    Raises:
        InputError: a broken row, an output that is the input or holds it, or one that cannot be written.
        ServiceError: the hub cannot be reached, or fails.
    """
    _check_apart([str(source.path)], path)
    rejected: list[str] = []

    def reject(row: Reject) -> None:
        rejected.append(
            f"{unit_of(source.path)} {row.line}: {f'field {row.field!r}: ' if row.field else ''}{row.reason}"
        )

    def read() -> Iterator[Example]:
        rejected.clear()
        return source.examples(reject)

    written = rows = 0
    target, examples = as_format(read, source.format.name, get_output(format))
    like = source.path if is_table(source.path) and target.name == source.format.name else None
    made = f"Converted by `relabel convert` from a file in the format `{source.format.name}`."
    with open_writer(path, target, like=like, public=public, made=made) as writer:
        for example in examples:
            written += 1
            rows += writer.write(example)
    return Converted(written, rows, tuple(rejected), writer.renamed)


def convert_collection(material: Material, path: Path | str, *, format: str, public: bool = False) -> Converted:  # noqa: A002
    """Write a collection as training rows, one for each query with a positive, or as another set of files.

    Negatives are those that the queries came with, in their order: mined by somebody, or judged not relevant. A set of
    files gets all passages of the collection, rows only those that they name. Texts lie on disk meanwhile, beside what
    is written.

    Raises:
        InputError: the collection cannot be used, or the output cannot be written, or is a part of it or holds it.
        RowError: a row of it cannot be read.
        ServiceError: the hub cannot be reached, or fails.
    """
    _check_apart(material.places, path)
    output = get_output(format)
    rejected: list[str] = []

    def reject(error: RowError, content: str) -> None:  # noqa: ARG001 - it is named by its place
        rejected.append(error.message)

    with told(Path(path)):
        workshop = TemporaryDirectory(prefix=".relabel-", dir=Path(path).parent if repo_of(path) is None else None)
    with ExitStack() as stack:
        folder = stack.enter_context(workshop)
        corpus, _ = material.open(Path(folder) / "corpus.sqlite", on_reject=reject, merge=False)
        stack.enter_context(corpus)
        flat = not isinstance(output, Export) and output.flat
        target, examples = as_format(lambda: _examples(corpus, named=not flat), LAYOUT, output)
        made = "Converted by `relabel convert` from a collection of passages, queries and judgments."
        written = rows = 0
        with open_writer(path, target, public=public, made=made) as writer:
            if isinstance(writer, ExportWriter):
                for passage in corpus.each():
                    writer.add(passage)
            for example in examples:
                written += 1
                rows += writer.write(example)
        return Converted(written, rows, tuple(rejected), writer.renamed, corpus.built)


def _check_apart(places: list[str], output: Path | str) -> None:
    """Refuse to write over what is read."""
    target = Path(output).resolve()
    for place in [Path(each).resolve() for each in places]:
        if place.is_relative_to(target):
            raise InputError(f"{output} is the input itself, or holds it", hint="name another file")
        if target.exists() and target.is_relative_to(place):
            raise InputError(f"{output} is a part of the input", hint="name another file")


def _examples(corpus: Corpus, *, named: bool) -> Iterator[Example]:
    """Yield the queries in their order; `named` ones bring their id as a field."""
    for asked in corpus.asked():
        given = corpus.given(asked)
        positives = corpus.passages_of(asked.positives)
        yield Example(
            id=asked.id,
            query=asked.text,
            positives=tuple(positives),
            negatives=_scored(corpus.passages_of([number for number, _ in given]), [score for _, score in given]),
            row={"query_id": asked.id} if named else {},
            position=asked.number,
            layout=LAYOUT,
        )


def _scored(passages: list[Passage], scores: list[float | None]) -> tuple[Passage, ...]:
    """Put scores beside passages, where at least one of them has one."""
    if all(score is None for score in scores):
        return tuple(passages)
    return tuple([
        Passage(each.id, each.text, each.title, beside={"scores": score})
        for each, score in zip(passages, scores, strict=True)
    ])  # fmt: skip
