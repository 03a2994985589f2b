"""Sources that are one JSON object: NeMo Automodel's training files and LlamaIndex's fine-tuning sets."""

from collections.abc import Callable, Iterable, Iterator, Mapping
from pathlib import Path
from typing import Any, Final, Literal, TypeVar

from relabel.errors import InputError, RowError
from relabel.formats.base import filled_text, identifier, kind, present
from relabel.formats.corpora.base import Found, Judged, Part, Parts, Query, together
from relabel.formats.corpora.fields import passage_of, score_of
from relabel.formats.corpora.files import all_files, part_of, source_of, stamps_of
from relabel.formats.corpora.jsonobject import Entry, entries
from relabel.formats.corpora.training import numbered
from relabel.formats.lines import Record, row_of
from relabel.formats.streams import existing
from relabel.records import Passage

T = TypeVar("T")

NEMO: Final = "a NeMo Automodel file: {corpus: {path}, data: [{question_id, question, pos_doc, neg_doc}]}"
LLAMAINDEX: Final = "a LlamaIndex fine-tuning set: {queries: {id: text}, corpus: {id: text}, relevant_docs: {id: [id]}}"
_METADATA: Final = "merlin_metadata.json"


def shape_of(path: Path) -> Literal["nemo", "llamaindex", ""]:
    """Tell what the one object of a JSON file is, by the first of its keys that tells; "" for anything else."""
    try:
        for entry in entries(path):
            if entry.key in ("queries", "relevant_docs"):
                return "llamaindex"
            if entry.key in ("data", "mining"):
                return "nemo"
    except RowError:  # rows of another shape, which their own reader tells of
        return ""
    return ""


def open_llamaindex(path: Path) -> Parts:
    """Return what a LlamaIndex fine-tuning set holds."""
    return Parts(
        documents=_part(path, "corpus", lambda row: (Passage(row["id"], _text(row["value"])),)),
        queries=_part(path, "queries", lambda row: (Query(row["id"], _text(row["value"])),)),
        judged=_part(path, "relevant_docs", lambda row: [Judged(row["id"], each, 1) for each in _listed(row["value"])]),
        stamps=stamps_of([path]),
    )


def open_nemo(path: Path) -> Parts:
    """Return what a NeMo Automodel file holds, and the corpora that it names: folders, beside it if not absolute.

    Where it names several, ids are unique only within each: all begin with the corpus' id and "/".

    Raises:
        InputError: a corpus is not where the file says.
    """
    folders = [_corpus_folder(path, each) for each in _corpora(path)]
    shared = len(folders) > 1
    corpora = [open_nemo_corpus(folder, prefix=_corpus_id(folder) if shared else "") for folder in folders]

    def rows(parse: Callable[[Mapping[str, Any], Callable[[str], str]], Iterable[T]]) -> Part[T]:
        def one(row: Mapping[str, Any]) -> Iterable[T]:
            prefix = identifier(present(row, "corpus_id"), "corpus_id") if shared else ""
            return parse(row, lambda each: _prefixed(prefix, each))

        return _part(path, "data", one)

    own = Parts(queries=rows(_query), judged=rows(_judged), found=rows(_found), stamps=stamps_of([path]))
    return together(own, *corpora)


def is_nemo_corpus(folder: Path) -> bool:
    """Whether a folder is a corpus of NeMo's."""
    return (folder / _METADATA).is_file()


def open_nemo_corpus(folder: Path, prefix: str = "") -> Parts:
    """Return the passages of a folder whose files hold `id` and `text`."""

    def parse(row: Mapping[str, Any]) -> tuple[Passage]:
        found = passage_of(row)
        return (Passage(_prefixed(prefix, found.id), found.text, found.title),)

    files = all_files(folder)
    return Parts(documents=part_of(files, parse), stamps=stamps_of(files))


def _part(path: Path, key: str, parse: Callable[[Mapping[str, Any]], Iterable[T]]) -> Part[T]:
    return Part((source_of(str(path), lambda: _records(path, key), parse),))


def _records(path: Path, key: str) -> Iterator[Record]:
    """Yield what stands under a key: rows as they are, named values as {"id", "value"}."""
    empty = True
    for entry in entries(path):
        if entry.key == key:
            empty = False
            yield Record(entry.number, entry.raw.encode("utf-8", "surrogatepass"), _row(entry, path))
    if empty:
        raise InputError(f"{path}: {key!r} is missing or empty", hint=f"Add {key!r}.")


def _row(entry: Entry, path: Path) -> dict[str, Any] | RowError:
    if entry.name:
        return {"id": entry.name, "value": entry.value}
    return row_of(entry.value, entry.twice, path, entry.number)


def _corpora(path: Path) -> list[str]:
    """Return the paths of the corpora that a file names: {"path": …} or a list of these."""
    found: list[str] = []
    for entry in entries(path):
        if entry.key != "corpus":
            if found:
                break
            continue
        if entry.name == "path" and isinstance(entry.value, str):
            found.append(entry.value)
        elif isinstance(entry.value, dict) and isinstance(entry.value.get("path"), str):
            found.append(entry.value["path"])
    return found


def _corpus_folder(path: Path, named: str) -> Path:
    try:
        return existing(path.parent / named)
    except InputError as error:
        raise InputError(
            f"{path} names the corpus {named}: {error.message}", hint="Put the corpus there, or mend the path."
        ) from error


def _corpus_id(folder: Path) -> str:
    told = next((entry.value for entry in entries(existing(folder / _METADATA)) if entry.key == "corpus_id"), "")
    return identifier(told, "corpus_id")


def _query(row: Mapping[str, Any], named: Callable[[str], str]) -> tuple[Query]:  # noqa: ARG001 - one shape for all
    return (Query(_question_id(row), filled_text(row, "question")),)


def _judged(row: Mapping[str, Any], named: Callable[[str], str]) -> list[Judged]:
    return [Judged(_question_id(row), named(each), 1) for each, _ in _documents(row, "pos_doc")]


def _found(row: Mapping[str, Any], named: Callable[[str], str]) -> list[Found]:
    known = _documents(row, "neg_doc") if row.get("neg_doc") is not None else []
    documents = [(named(each), score) for each, score in known]
    return list(numbered(documents, _question_id(row)))


def _documents(row: Mapping[str, Any], key: str) -> list[tuple[str, float | None]]:
    """Read a list of documents: objects with an id, and a score or none, or bare ids."""
    value = row.get(key)
    if not isinstance(value, list):
        raise RowError(f"is {kind(value)}, not a list", field=key, hint=f'Write a list: "{key}": [{{"id": …}}].')
    found = []
    for each in value:
        document = each if isinstance(each, dict) else {"id": each}
        score = document.get("score")
        found.append((_known(document.get("id"), key), None if score is None else score_of(score, key)))
    return found


def _question_id(row: Mapping[str, Any]) -> str:
    return _known(present(row, "question_id"), "question_id")


def _known(value: Any, field: str) -> str:
    found = identifier(value, field)
    if not found:
        raise RowError("has no id", field=field, hint="Give everything its id.")
    return found


def _prefixed(prefix: str, document_id: str) -> str:
    return f"{prefix}/{document_id}" if prefix else document_id


def _text(value: Any) -> str:
    if not isinstance(value, str):
        raise RowError(f"is {kind(value)}, not text", hint="Write it as text between quotes.")
    return value


def _listed(value: Any) -> list[str]:
    if not isinstance(value, list):
        raise RowError(f"is {kind(value)}, not a list", hint="Write a list of ids.")
    return [_known(each, "relevant_docs") for each in value]
