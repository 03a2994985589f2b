"""Broken files, made on the fly: whole ones of every kind that is read, and each kind of damage that befalls files."""

import gzip
import io
import json
import sqlite3
import tempfile
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, Final

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

Row = dict[str, Any]

SPLIT: Final = b"\n=====\n"
"""Between the files of a folder, in one input of a reader."""


def _passage(name: str) -> Row:
    return {"docid": name, "title": f"Title {name}", "text": f"the text of {name}"}


ROWS: Final[Mapping[str, Sequence[Row]]] = {
    "tevatron": [
        {
            "query_id": f"q{number}", "query": f"what is {number}", "source": "set",
            "positive_passages": [_passage(f"p{number}")],
            "negative_passages": [_passage(f"n{number}"), _passage(f"m{number}")],
        }
        for number in range(3)
    ],
    "bge": [
        {"query": f"what is {number}", "pos": [f"known {number}"], "neg": [f"other {number}"], "neg_scores": [0.5]}
        for number in range(3)
    ],
    "triplets": [
        {"query": f"what is {number}", "positive": f"known {number}", "negative": f"other {number}"}
        for number in range(3)
    ],
    "n-tuples": [
        {"query": f"what is {number}", "positive": f"known {number}", "negative_1": "other", "negative_2": f"{number}"}
        for number in range(3)
    ],
    "labeled-pairs": [
        {"query": f"what is {number // 2}", "passage": f"text {number}", "label": number % 2} for number in range(4)
    ],
    "labeled-lists": [
        {"query": f"what is {number}", "documents": ["known", f"other {number}"], "labels": [1, 0]}
        for number in range(3)
    ],
    "dpr": [
        {
            "question": f"what is {number}", "answers": ["it"],
            "positive_ctxs": [{"title": "T", "text": f"known {number}", "passage_id": f"p{number}"}],
            "negative_ctxs": [],
            "hard_negative_ctxs": [{"title": "U", "text": f"other {number}", "score": 1.5, "passage_id": f"n{number}"}],
        }
        for number in range(3)
    ],
}  # fmt: skip
"""Some good rows of every format."""

FLAT: Final = ("triplets", "n-tuples", "labeled-pairs")
"""Formats that CSV holds."""


def jsonl(rows: Sequence[Row]) -> bytes:
    """Return rows as JSON lines."""
    return b"".join(json.dumps(row).encode() + b"\n" for row in rows)


def csv_of(rows: Sequence[Row]) -> bytes:
    """Return rows as CSV."""
    lines = [",".join(rows[0]), *(",".join(map(str, row.values())) for row in rows)]
    return "".join(f"{line}\n" for line in lines).encode()


def parquet(rows: Sequence[Row]) -> bytes:
    """Return rows as a Parquet file."""
    stream = io.BytesIO()
    pq.write_table(pa.Table.from_pylist(list(rows)), stream)
    return stream.getvalue()


def arrow(rows: Sequence[Row]) -> bytes:
    """Return rows as an Arrow stream."""
    table = pa.Table.from_pylist(list(rows))
    stream = io.BytesIO()
    with pa.ipc.new_stream(stream, table.schema) as writer:
        writer.write_table(table)
    return stream.getvalue()


def zst(content: bytes) -> bytes:
    """Compress by Zstandard."""
    return bytes(pa.compress(content, "zstd", asbytes=True))


def _vectors() -> bytes:
    stream = io.BytesIO()
    np.save(stream, np.zeros((2, 4), dtype=np.float32))
    return stream.getvalue() + SPLIT + b"a\nb\n"


def _database(*statements: str) -> bytes:
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "database"
        connection = sqlite3.connect(path)
        for statement in statements:
            connection.execute(statement)
        connection.commit()
        connection.close()
        return path.read_bytes()


_NEMO: Final = {
    "corpus": {"path": "corpus"},
    "data": [
        {"question_id": "q", "question": "what", "pos_doc": [{"id": "d"}], "neg_doc": [{"id": "e", "score": 1.0}]}
    ],
}
_LLAMA: Final = {
    "queries": {"q": "what"}, "corpus": {"d": "text", "e": "more"}, "relevant_docs": {"q": ["d"]}, "mode": "text",
}  # fmt: skip
_CORPUS: Final = [{"_id": f"d{number}", "title": "", "text": f"text {number}"} for number in range(3)]
_QRELS: Final = b"query-id\tcorpus-id\tscore\nq\td0\t1\nq\td1\t0\n"
_AUDIT: Final = (
    b'\xef\xbb\xbf"pair","query_id","candidate_id","human_label","reviewer"\r\n"aa","q","c","relevant","ada"\r\n'
)
_RECORDED: Final = jsonl([
    {"judge": "cheap", "template": "t", "query_id": "q", "candidate_ids": ["a", "b"], "reply": "Yes",
     "probabilities": {"Yes": 0.5}},
])  # fmt: skip
_CONFIG: Final = b"""\
stages:
  - rules
  - judge: llm
    prompt: rlhn
    engine: {kind: openai, model: m, base_url: "http://localhost/v1", temperature: 0.5}
policy: {actions: drop, min_negatives: 2}
seed: 3
"""
_SELECTION: Final = b"""\
filters:
  - filter: relative_margin
    margin: 0.05
  - repeated
sampling: {strategy: simans, a: 0.5, b: 0}
num_negatives: 4
"""
_RECIPE: Final = b"retrievers:\n  - kind: dense\n    batch_size: 8\ndepth: 50\n" + _SELECTION
_TEMPLATE: Final = b"""\
---
name: mine
kind: pair
reply: choice
reference: optional
labels:
  "Yes": relevant
  "No": irrelevant
---
## system
You judge.
## user
{{ query }} {% for each in reference %}{{ each.text }}{% endfor %} {{ candidate.text }}
"""
_MANIFEST: Final = {
    "input": {
        "path": "x.jsonl", "sha256": "00", "format": "tevatron", "on_error": "stop", "source_field": "", "shard": None,
    },
    "settings": {"stages": [{"judge": "rules"}]},
    "stages": [{"name": "rules", "number": 1, "fingerprint": "aa"}],
    "versions": {},
}  # fmt: skip
_CHANGE: Final = {
    "position": 0, "example_id": "q", "action": "drop", "why": "partial", "stage": "rules", "passage_id": "c",
    "origin": 0, "item": "text", "beside": {},
}  # fmt: skip
_POOL: Final = {"query": "what", "positives": [{"docid": "d"}], "candidates": [{"docid": "e", "score": 0.5, "rank": 1}]}
_REPLIES: Final = (
    b"Yes", b'{"label": "3", "reason": "so"}', b'{"answer": "the text of it"}',
    b'{"candidates": [{"number": 1, "label": "yes"}, {"number": 2, "label": "no"}, {"number": 3, "label": "no"}]}',
    b"<thinking>Doc (1): good</thinking><verdict><better>[Doc (1)]</better><worse>[]</worse></verdict>",
)  # fmt: skip


def _as(pack: Callable[[Sequence[Row]], bytes], names: Sequence[str]) -> list[bytes]:
    return [pack(ROWS[name]) for name in names]


VALID: Final[Mapping[str, Sequence[bytes]]] = {
    "examples .jsonl": _as(jsonl, [*ROWS]),
    "examples .csv": _as(csv_of, FLAT),
    "examples .json": [json.dumps(rows).encode() for rows in ROWS.values()],
    "examples .parquet": _as(parquet, ["tevatron", "triplets", "labeled-lists"]),
    "examples .jsonl.gz": [gzip.compress(jsonl(ROWS["bge"]))],
    "examples .csv.gz": [gzip.compress(csv_of(ROWS["triplets"]))],
    "examples .jsonl.zst": [zst(jsonl(ROWS["bge"]))],
    "examples saved": [
        json.dumps({"_data_files": [{"filename": "data-00000-of-00001.arrow"}]}).encode() + SPLIT + arrow(ROWS["bge"]),
    ],
    "collection .jsonl": [jsonl(_CORPUS), jsonl(ROWS["tevatron"])],
    "collection .json": [json.dumps(_NEMO).encode(), json.dumps(_LLAMA).encode()],
    "collection .tsv": [_QRELS, b"d\ttext\ne\tmore\n"],
    "collection beir": [SPLIT.join((jsonl(_CORPUS), jsonl([{"_id": "q", "text": "what"}]), _QRELS))],
    "columns": [_QRELS, b"q 0 d 1\nq 0 e 0\n", b"q Q0 d 1 2.5 tag\nq Q0 e 2 1.5 tag\n", b"d\ttext\n"],
    "table": [_AUDIT, _AUDIT.replace(b",", b";")],
    "audit": [_AUDIT, _AUDIT.replace(b",", b"\t")],
    "labels .csv": [_AUDIT, b"query_id,candidate_id,label\nq,c,2\n"],
    "labels .tsv": [b"query_id\tdocid\tlabel\nq\tc\t2\n", _QRELS],
    "sample": [jsonl([
        {"version": 1, "design": {}, "pairs": 2, "strata": {"a": 2}},
        {"order": 0, "pair": "aa", "query": "00", "stratum": "a", "chance": 0.5, "copies": 1},
    ])],
    "recorded": [_RECORDED],
    "recorded .gz": [gzip.compress(_RECORDED)],
    "config": [_CONFIG],
    "selection": [_SELECTION],
    "recipe": [_RECIPE],
    "template": [_TEMPLATE],
    "run": [SPLIT.join((json.dumps(_MANIFEST).encode(), b"{}", b'{"started": "x", "seconds": 1}', jsonl([_CHANGE])))],
    "store": [_database("CREATE TABLE judges (id INTEGER PRIMARY KEY, fingerprint TEXT, settings TEXT)")],
    "pool": [
        jsonl([_POOL]) + SPLIT + _database(
            "CREATE TABLE passages (number INTEGER PRIMARY KEY, id TEXT, title TEXT, text TEXT, source INTEGER,"
            " line INTEGER)",
            "CREATE TABLE aliases (id TEXT PRIMARY KEY, number INTEGER, source INTEGER, line INTEGER) WITHOUT ROWID",
            "INSERT INTO passages VALUES (0, 'e', '', 'text', 0, 1)",
        ),
    ],
    "vectors": [_vectors()],
    "reply": _REPLIES,
}  # fmt: skip
"""Whole files by the reader that takes them; of a folder its files, with SPLIT between them."""

DEEP: Final = 5000

DAMAGES: Final[Mapping[str, Callable[[bytes], bytes]]] = {
    "empty": lambda _: b"",
    "blank": lambda _: b" \n\r\n\t\n",
    "byte order mark": lambda content: b"\xef\xbb\xbf" + content,
    "utf-16": lambda content: content.decode("latin-1").encode("utf-16"),
    "latin-1": lambda content: content.replace(b"e", b"\xe9", 1),
    "NUL": lambda content: content.replace(b"t", b"\0", 1),
    "only NUL": lambda content: b"\0" * len(content),
    "cut off": lambda content: content[: len(content) * 2 // 3],
    "begins in the middle": lambda content: content[len(content) // 3 :],
    "garbage behind": lambda content: content + b"\x00\xff]}garbage",
    "carriage returns": lambda content: content.replace(b"\n", b"\r"),
    "windows line ends": lambda content: content.replace(b"\n", b"\r\n"),
    "nested too deep": lambda _: b'{"a":' * DEEP + b"1" + b"}" * DEEP + b"\n",
    "lists nested too deep": lambda _: b"[" * DEEP + b"]" * DEEP + b"\n",
    "numbers too long": lambda content: content.replace(b"1", b"1" * 5000),
    "numbers beyond a float": lambda content: content.replace(b"0.5", b"1e999").replace(b"1", b"1" + b"0" * 400),
    "no numbers": lambda content: content.replace(b"0.5", b"NaN").replace(b"1", b"-Infinity"),
    "lone surrogate": lambda content: content.replace(b"text", b"\\ud83d"),
    "surrogate bytes": lambda content: content.replace(b"text", b"\xed\xa0\xbd"),
    "twice": lambda content: content + content,
    "other delimiter": lambda content: content.replace(b",", b";"),
    "null": lambda _: b"null\n",
    "zip": lambda _: b"PK\x03\x04" + bytes(60),
}
"""What happens to files, whatever they hold: name → how."""


def damaged_forms(content: bytes) -> Iterator[bytes]:
    """Yield a file after each kind of damage."""
    for damage in DAMAGES.values():
        yield damage(content)
