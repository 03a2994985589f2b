"""Everything that reads a file or a reply, in one table, and what to feed it: for fuzzing by hand and in the suite."""

import contextlib
import random
import shutil
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Final

from broken import SPLIT, VALID, damaged_forms

from relabel import audit, auditing, config, labelled, pools, prompts, recipe, replies, rundir, selection
from relabel.cascade import open_case
from relabel.engines.scripted import ScriptedEngine
from relabel.errors import RelabelError
from relabel.formats import read_examples
from relabel.formats.corpora import is_collection, open_documents, open_judged, open_parts, open_queries, open_run
from relabel.formats.corpora.base import Parts
from relabel.mining.precomputed import Precomputed
from relabel.pipeline import plan_of
from relabel.records import Example, Passage
from relabel.store import Store
from relabel.tables import read_table

Reader = Callable[[Path], object]


def _examples(path: Path) -> None:
    list(read_examples(path, on_error="skip", on_reject=lambda _: None))
    list(read_examples(path))


def _all_of(parts: Parts) -> None:
    for part in (parts.documents, parts.queries, parts.judged, parts.found, parts.outside):
        if part is not None:
            list(part(lambda *_: None))


def _collection(path: Path) -> None:
    is_collection(path)
    _all_of(open_parts(path))


def _columns(path: Path) -> None:
    for open_one in (open_documents, open_queries, open_judged, open_run):
        with contextlib.suppress(RelabelError):
            _all_of(open_one(path))


def _spread(names: Sequence[str], path: Path) -> Path:
    """Make a folder of the parts of a file."""
    folder = path.with_name("folder")
    shutil.rmtree(folder, ignore_errors=True)
    for name, content in zip(names, path.read_bytes().split(SPLIT), strict=False):
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).write_bytes(content)
    folder.mkdir(exist_ok=True)
    return folder


def _saved(path: Path) -> None:
    _examples(_spread(("state.json", "data-00000-of-00001.arrow"), path))


def _beir(path: Path) -> None:
    _collection(_spread(("corpus.jsonl", "queries.jsonl", "qrels/train.tsv"), path))


def _run_folder(path: Path) -> None:
    folder = _spread(("manifest.json", "statistics.json", "run.json", "changes.jsonl"), path)
    for name in ("statistics.json", "run.json"):
        with contextlib.suppress(RelabelError):
            rundir.read_json(folder, name)
    with contextlib.suppress(RelabelError):
        list(rundir.changes_of(folder))
    rundir.state_of(folder)
    plan_of(folder, rundir.read_json(folder, "manifest.json"))


def _store(path: Path) -> None:
    folder = _spread(("judgments.sqlite",), path)
    case = open_case(0, Example("q", "q", (Passage("p", "known"),), (Passage("n", "text"),)), 1)
    with Store(folder) as store:
        store.judge_id("f", {})
        store.judgments(case)
        store.reviewers()


def _pool(path: Path) -> None:
    folder = _spread(("candidates.jsonl", "corpus.sqlite"), path)
    with pools.CandidatePool(folder, folder / "cache") as pool:
        list(pool.following("what"))


def _vectors(path: Path) -> None:
    folder = _spread(("vectors.npy", "ids.txt"), path)
    Precomputed(folder / "vectors.npy", folder / "vectors.npy", document_ids=folder / "ids.txt")


SPECS: Final = (
    replies.ReplySpec("pair", "choice", {"Yes": "relevant", "No": "irrelevant"}),
    replies.ReplySpec("pair", "json", {"3": "relevant", "1": "partial", "0": "irrelevant"}),
    replies.ReplySpec("pair", "snippet", {"found": "relevant", "absent": "irrelevant"}),
    replies.ReplySpec("group", "json", {"yes": "relevant", "no": "irrelevant"}),
    replies.ReplySpec("group", "tagged", {"better": "relevant", "worse": "partial", "neither": "irrelevant"}),
)


def _reply(path: Path) -> None:
    text = path.read_bytes().decode("utf-8", "surrogateescape")
    for spec in SPECS:
        passages = [Passage(str(number), "the text of it") for number in range(1 if spec.kind == "pair" else 3)]
        answers = replies.read_reply(spec, text, passages)
        assert len(answers) == len(passages)
        assert all((answer.label is None) == bool(answer.reason) for answer in answers)


def _template(path: Path) -> None:
    template = prompts.load_template(path)
    with contextlib.suppress(ValueError):
        template.render("query", [Passage("p", "known")], [Passage("c", "text")])


READERS: Final[Mapping[str, tuple[str, Reader]]] = {
    **{f"examples {suffix}": (f"x{suffix}", _examples) for suffix in (
        ".jsonl", ".csv", ".json", ".parquet", ".jsonl.gz", ".csv.gz", ".jsonl.zst",
    )},
    "examples saved": ("parts", _saved),
    "collection .jsonl": ("x.jsonl", _collection),
    "collection .json": ("x.json", _collection),
    "collection .tsv": ("x.tsv", _collection),
    "collection beir": ("parts", _beir),
    "columns": ("x.txt", _columns),
    "table": ("x.csv", lambda path: list(read_table(path, ("pair", "human_label", "query_id"))[1])),
    "audit": ("x.csv", lambda path: audit.read_labels(path, "anyone")),
    "labels .csv": ("x.csv", lambda path: labelled.Labels(str(path))),
    "labels .tsv": ("x.tsv", lambda path: labelled.Labels(str(path))),
    "sample": ("x.jsonl", auditing.read_sample),
    "recorded": ("x.jsonl", ScriptedEngine),
    "recorded .gz": ("x.jsonl.gz", ScriptedEngine),
    "config": ("x.yaml", config.load),
    "selection": ("x.yaml", selection.load),
    "recipe": ("x.yaml", recipe.load),
    "template": ("x.md", _template),
    "run": ("parts", _run_folder),
    "store": ("parts", _store),
    "pool": ("parts", _pool),
    "vectors": ("parts", _vectors),
    "reply": ("x.txt", _reply),
}  # fmt: skip
"""What is read, under which name it lies, and by what."""


def read(name: str, content: bytes, folder: Path) -> BaseException | None:
    """Give a reader a file; return what leaves it that must not."""
    file, reader = READERS[name]
    path = folder / file
    path.write_bytes(content)
    try:
        reader(path)
    except RelabelError:
        return None
    except Exception as error:  # noqa: BLE001 - what is looked for
        return error
    return None


def seeds(name: str) -> Iterator[bytes]:
    """Yield whole files of the kind that a reader takes, then damaged ones."""
    for content in VALID.get(name, (b"",)):
        yield content
        yield from damaged_forms(content)


def mutated(content: bytes, dice: random.Random) -> bytes:
    """Change a file in one to four places."""
    data = bytearray(content)
    for _ in range(dice.randint(1, 4)):
        at = dice.randrange(len(data) + 1)
        match dice.randrange(5):
            case 0:
                data[at : at + dice.randint(1, 8)] = b""
            case 1:
                data[at:at] = dice.choice(ODD)
            case 2:
                data[at : at + 1] = bytes([dice.randrange(256)])
            case 3:
                start = dice.randrange(len(data) + 1)
                data[at:at] = data[start : start + dice.randint(1, 40)]
            case _:
                data[at : at + 8] = dice.choice(ODD)
    return bytes(data)


ODD: Final = (
    b"\0", b"\xff", b"\xef\xbb\xbf", b"\xed\xa0\x80", b"\\ud800", b'"', b"'", b"\r", b"\n", b"\r\n", b",", b"\t", b";",
    b"{", b"[", b"]", b"}", b":", b"null", b"NaN", b"Infinity", b"-1", b"1e999", b"9" * 400, b"9" * 5000, b"[" * 5000,
    b"true", b"{}", b"[]", b'""', b"\xe2\x80\xa8", b"&a", b"*a", b"!!int ''", b"? [a]\n: b\n", b"2001-99-99",
    b"{{", b"{%", b"---",
)  # fmt: skip
