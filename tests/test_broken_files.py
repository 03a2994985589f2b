"""A corpus of broken files: every kind of file × every kind of damage, and what is said of it."""

import gzip
import json
import os
import random
import subprocess
import sys
import time
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from broken import DAMAGES, FLAT, ROWS, VALID, arrow, csv_of, damaged_forms, jsonl, parquet, zst
from readers import READERS, mutated, read

from relabel.errors import InputError, RowError
from relabel.formats import Reject, read_examples
from relabel.formats.corpora import open_parts, open_run, open_triples

Rows = Sequence[dict[str, Any]]
PACKED: Mapping[str, Callable[[Rows], bytes]] = {
    ".jsonl": jsonl,
    ".csv": csv_of,
    ".json": lambda rows: json.dumps(rows).encode(),
    ".jsonl.gz": lambda rows: gzip.compress(jsonl(rows), mtime=0),
    ".jsonl.zst": lambda rows: zst(jsonl(rows)),
    ".parquet": parquet,
}
READABLE = [
    (suffix, name) for suffix in PACKED for name in ROWS
    if (suffix != ".csv" or name in FLAT) and (suffix != ".parquet" or name != "dpr")
]  # fmt: skip
"""Every container with every format that it holds. (A list that is empty in all rows has no type in Parquet.)"""

HARMLESS = {"byte order mark", "windows line ends", "twice"}
"""What does a file of text no harm."""


def looked_at(path: Path) -> tuple[int, list[Reject], str]:
    """Read a file, leaving bad rows out: how many examples, what was left out, and the error that ended it."""
    rejects: list[Reject] = []
    count = 0
    ended = ""
    try:
        for _ in read_examples(path, on_error="skip", on_reject=rejects.append):
            count += 1
    except InputError as error:
        ended = str(error) if error.hint else ""
    assert not ended or str(path) in ended
    return count, rejects, ended


@pytest.mark.parametrize(("suffix", "name"), READABLE)
def test_every_damage_is_told_or_harmless(tmp_path: Path, suffix: str, name: str) -> None:
    """Skipping, each row is read, listed with a reason, or the file is refused; stopping, the first is raised."""
    path = tmp_path / f"x{suffix}"
    whole = PACKED[suffix](ROWS[name])
    path.write_bytes(whole)
    good = list(read_examples(path))
    assert good
    for kind, damage in DAMAGES.items():
        path.write_bytes(damage(whole))
        count, rejects, ended = looked_at(path)
        assert all(reject.reason for reject in rejects), kind
        assert count or rejects or ended, kind
        if suffix in (".jsonl", ".csv") and kind in HARMLESS:
            assert count >= len(good), kind
        if rejects or ended:
            with pytest.raises(InputError) as caught:
                list(read_examples(path))
            assert caught.value.hint, (kind, caught.value)
            assert path.name in caught.value.message, kind
        elif suffix == ".jsonl" and kind not in ("cut off", "begins in the middle"):
            assert count >= len(good), kind


BGE = jsonl(ROWS["bge"])
LIST = json.dumps(ROWS["bge"]).encode()
TOLD = [
    # file, content, words of the message (file and line, what it is), words of the hint
    ("x.jsonl", b"", "x.jsonl: the file holds no rows", "Name a file"),
    ("x.jsonl", BGE.decode().encode("utf-16"), "x.jsonl, line 1: is not UTF-8", "UTF-16"),
    ("x.jsonl", BGE.replace(b"\n", b"\r"), "line 1: is not JSON: Extra data", "tr '\\r' '\\n'"),
    ("x.jsonl", b'{"query": "a\0b"}\n', "is not JSON: Invalid control character at character 13", "Mend the line"),
    ("x.jsonl", b'{"a":' * 3000 + b"1" + b"}" * 3000, "line 1: is not usable JSON: nested too deep", "Mend the line"),
    ("x.jsonl", b'{"a": ' + b"9" * 5000 + b"}", "line 1: is not usable JSON: Exceeds the limit", "Mend the line"),
    ("x.jsonl", b'{"query": "a", "query": "b", "pos": [], "neg": []}', "field 'query': stands twice", "Keep one"),
    ("x.jsonl", b'{"query": "q", "pos": ["p"], "neg": [{"a": 1, "a": 2}]}', "field 'a': stands twice", "Keep one"),
    ("x.jsonl", b'{"query": "q", "pos": ["p"], "neg": [null]}', "line 1: field 'neg[0]': is null, not text", "skip"),
    ("x.jsonl", b'{"query": null, "pos": ["p"], "neg": []}', "line 1: field 'query': is null, not text", "text"),
    ("x.jsonl", b'{"query": "q", "pos": "p", "neg": []}', "line 1: field 'pos'", "list"),
    ("x.jsonl", b'{"query": "q", "documents": ["a"], "labels": [NaN]}', "line 1: field 'labels[0]'", "1"),
    ("x.jsonl", b"\x1f\x8b" + bytes(40), "line 1: is not UTF-8", "gzip: name the file .jsonl.gz"),
    ("x.json", b"[" * 3000, "row 1: is not a JSON list: nested too deep", "Mend the file"),
    ("x.json", b'[{"query": "q", "query": "r"}]', "row 1: field 'query': stands twice", "Keep one"),
    ("x.json", LIST[:-20], "row 3: is cut off", "copy or download"),
    ("x.json", LIST + b" x", "row 3: is not a JSON list: something follows", "Mend the file"),
    ("x.csv", b"  \n \n", "x.csv: the file holds no rows", "Name a file"),
    ("x.csv", b"query;positive;negative\na;b;c\n", "x.csv: the columns are separated by ';'", "commas"),
    ("x.csv", b"query\tpositive\tnegative\na\tb\tc\n", "x.csv: the columns are separated by '\\t'", "commas"),
    ("x.csv", b"query,positive,negative\ra,b,c\r", "line 1: is not CSV: a carriage return stands alone", "tr '\\r'"),
    ("x.csv", b"a,b,c\nd,e,f\n", "x.csv: the first row has no shape that relabel knows", "format"),
    ("x.csv", b"query,query,negative\na,b,c\n", "x.csv: the header names 'query' twice", "its own name"),
    ("x.csv", b"query,positive,negative\na,b\nc,d\n", "line 2: has 2 cells where the header has 3", "double quotes"),
    ("x.csv", b'query,positive,negative\na,"b,c\n\nd,e,f\n',
     "line 2: is not CSV: unexpected end of data; the row takes in all lines up to 4", "quotes"),
    ("x.csv", b"query,positive,negative\na,\xe9,c\n", "line 2: is not UTF-8", "UTF-8"),
    ("x.csv", b"\xff\xfeq\0u\0e\0\n\0", "line 1: is not UTF-8", "UTF-16"),
    ("x.jsonl.gz", BGE, "line 1: not gzip data", "Take .gz off"),
    ("x.jsonl.gz", gzip.compress(BGE)[:-12], "the compressed file is damaged or cut off", "Copy or download"),
    ("x.jsonl.gz", gzip.compress(BGE) + b"more", "line 4: the compressed file is damaged, or something follows",
     "Copy or download"),
    ("x.jsonl.zst", BGE, "line 1: not Zstandard data", "Copy or download"),
    ("x.jsonl.zst", zst(BGE)[:-5], "or damaged or cut off", "Copy or download"),
    ("x.parquet", parquet(ROWS["bge"])[:-9], "x.parquet: the Parquet file is damaged or cut off", "Copy or download"),
    ("x.parquet", BGE, "x.parquet: the Parquet file is damaged", "Copy or download"),
]  # fmt: skip


@pytest.mark.parametrize(("name", "content", "words", "hint"), TOLD)
def test_what_is_said(tmp_path: Path, name: str, content: bytes, words: str, hint: str) -> None:
    """Each kind of damage has its message: file, line, field, and the next thing to do."""
    (tmp_path / name).write_bytes(content)
    with pytest.raises(InputError) as caught:
        list(read_examples(tmp_path / name, format="labeled-lists" if b"labels" in content else "auto"))
    assert words in caught.value.message
    assert hint in caught.value.hint


# --- Parquet and saved data sets ---


def test_parquet_with_texts_that_are_none(tmp_path: Path) -> None:
    """Arrow does not look whether what is called text is UTF-8: only the rows with such texts are left out."""
    bad = pa.array([b"what", b"w\xe9at", b"why"]).cast(pa.binary())
    text = pa.Array.from_buffers(pa.string(), 3, bad.buffers())
    table = pa.table({"query": text, "positive": ["p"] * 3, "negative": ["n"] * 3})
    pq.write_table(table, tmp_path / "x.parquet", use_dictionary=False)
    count, rejects, ended = looked_at(tmp_path / "x.parquet")
    assert (count, ended) == (2, "")
    (reject,) = rejects
    assert (reject.line, reject.position, reject.field, reject.reason) == (2, 1, "query", "is not UTF-8")
    assert '"positive": "p"' in reject.content
    with pytest.raises(RowError, match="row 2: field 'query': is not UTF-8"):
        list(read_examples(tmp_path / "x.parquet"))


def test_columns_that_stand_twice(tmp_path: Path) -> None:
    """Of two columns with one name, one would be lost."""
    table = pa.table([["q"], ["p"], ["n"], ["m"]], names=["query", "positive", "negative", "negative"])
    pq.write_table(table, tmp_path / "x.parquet")
    with pytest.raises(InputError, match="two columns called 'negative'"):
        list(read_examples(tmp_path / "x.parquet"))


def test_a_torn_arrow_stream_does_not_take_the_process_down(tmp_path: Path) -> None:
    """Offsets that lead out of a saved data set are refused; reading along them would be a fault of memory."""
    whole = arrow([*ROWS["bge"]] * 50)
    (tmp_path / "state.json").write_text('{"_data_files": [{"filename": "data.arrow"}]}', "utf-8")
    dice = random.Random(5)
    refused = 0
    for _ in range(300):
        torn = bytearray(whole)
        for _ in range(3):
            torn[dice.randrange(400, len(torn))] = dice.randrange(256)
        (tmp_path / "data.arrow").write_bytes(torn)
        refused += bool(looked_at(tmp_path)[2])
    assert refused > 10


# --- what lies at the path ---


def test_what_is_no_file(tmp_path: Path) -> None:
    """Folders, loops of links, pipes, devices, names that no file has: each is told at once."""
    (tmp_path / "folder.jsonl").mkdir()
    (tmp_path / "loop.jsonl").symlink_to(tmp_path / "loop.jsonl")
    os.mkfifo(tmp_path / "pipe.jsonl")
    cases = {
        tmp_path / "folder.jsonl": "is a folder, and not a data set",
        tmp_path / "loop.jsonl": "cannot be opened: .*symbolic links",
        tmp_path / "pipe.jsonl": "is a pipe or a device",
        Path("/dev/zero"): "is a pipe or a device",
        tmp_path / ("x" * 300): "cannot be opened: .*too long",
        Path("a\0b"): "cannot be opened: embedded null",
        tmp_path / "none.jsonl": "there is no such file",
    }
    for path, words in cases.items():
        for attempt in (read_examples, open_parts):
            if "folder" in path.name and attempt is open_parts:
                continue  # it looks for a collection in it
            with pytest.raises(InputError, match=words) as caught:
                attempt(path)
            assert caught.value.hint


@pytest.mark.skipif(os.geteuid() == 0, reason="root may read every file")
def test_a_file_that_may_not_be_read(tmp_path: Path) -> None:
    """Permissions are told as such."""
    path = tmp_path / "x.jsonl"
    path.write_bytes(jsonl(ROWS["bge"]))
    path.chmod(0)
    with pytest.raises(InputError, match="Permission denied"):
        read_examples(path)


# --- columns of collections ---


def test_headers_that_name_other_columns(tmp_path: Path) -> None:
    """A file of judgments in place of a run, or of triples, is told by the column that it lacks."""
    path = tmp_path / "x.tsv"
    path.write_bytes(b"query-id\tcorpus-id\tscore\nq\td\t1\n")
    run = open_run(path).found
    triples = open_triples(path).judged
    assert run is not None
    assert triples is not None
    for part, lacking in ((run, "query_id"), (triples, "query_id")):
        with pytest.raises(RowError, match=f"line 2: field '{lacking}': is missing"):
            list(part())


@pytest.mark.parametrize("number", ["1e400", "NaN", "Infinity", "9" * 400, "1" + "0" * 30, "1.5", '""', "[]"])
def test_grades_that_are_none(tmp_path: Path, number: str) -> None:
    """A grade beyond any number is refused in its line, in a file of objects and in columns."""
    (tmp_path / "x.jsonl").write_text(f'{{"query-id": "q", "corpus-id": "d", "score": {number}}}\n', "utf-8")
    (tmp_path / "x.tsv").write_text(f"query-id\tcorpus-id\tscore\nq\td\t{number}\n", "utf-8")
    for name, line in (("x.jsonl", 1), ("x.tsv", 2)):
        judged = open_parts(tmp_path / name).judged
        assert judged is not None
        with pytest.raises(RowError, match=f"line {line}: field 'score'"):
            list(judged())


# --- sizes ---

BOMBS = {
    "one line without an end": (".jsonl.gz", b'{"query": "', b"a" * 2**20, 300),
    "one cell without an end": (".csv.gz", b"query,positive,negative\n" + b'"', b"a" * 2**20, 300),
    "one list without an end": (".json.gz", b'[{"query": "', b"a" * 2**20, 300),
    "nothing but blanks": (".json.gz", b"[", b" " * 2**20, 300),
    "nothing but line ends": (".jsonl.gz", b"", b"\n" * 2**20, 3),
    "one line in Zstandard": (".jsonl.zst", b'{"query": "', b"a" * 2**20, 300),
}


@pytest.mark.slow
@pytest.mark.skipif(not Path("/proc/self/status").exists(), reason="needs /proc, to see the memory of a process")
@pytest.mark.parametrize("kind", [*BOMBS])
def test_what_inflates_is_never_held(tmp_path: Path, kind: str) -> None:
    """Some hundred MB in a file of some hundred KB take a bounded memory and end in a message, or in a listed row."""
    suffix, head, block, times = BOMBS[kind]
    path = tmp_path / f"x{suffix}"
    if suffix.endswith(".gz"):
        with gzip.open(path, "wb", compresslevel=1) as file:
            file.write(head)
            for _ in range(times):
                file.write(block)
    else:
        with pa.CompressedOutputStream(str(path), "zstd") as file:
            file.write(head)
            for _ in range(times):
                file.write(block)
    code = (
        "import re, sys\n"
        "from pathlib import Path\n"
        "from relabel.errors import InputError\n"
        "from relabel.formats import read_examples\n"
        "rejects = []\n"
        "try:\n"
        "    list(read_examples(sys.argv[1], on_error='skip', on_reject=rejects.append))\n"
        "except InputError as error:\n"
        "    print(error)\n"
        "told = Path('/proc/self/status').read_text()\n"  # not ru_maxrss, which begins with the parent's
        "print(len(rejects), re.search(r'VmHWM:\\s+(\\d+) kB', told)[1])\n"
    )
    begun = time.monotonic()
    done = subprocess.run(
        [sys.executable, "-c", code, str(path)], capture_output=True, text=True, check=True, timeout=120
    )
    *told, last = done.stdout.splitlines()
    rejected, memory = map(int, last.split())
    assert told or rejected == 1
    assert memory < 700_000  # KiB: a line of 64 MiB at most, in some copies
    assert time.monotonic() - begun < 100


# --- whatever it is ---


@pytest.mark.parametrize("name", [*READERS])
def test_nothing_but_our_errors_leaves_a_reader(tmp_path: Path, name: str) -> None:
    """Whole files are read; damaged ones, and whole ones changed by dice, never end in an error that is not ours."""
    dice = random.Random(name)
    file, reader = READERS[name]
    for content in VALID[name]:
        (tmp_path / file).write_bytes(content)
        if name not in ("columns", "run", "collection .json"):  # these name other files, or are of another kind
            reader(tmp_path / file)
        for broken in damaged_forms(content):
            assert read(name, broken, tmp_path) is None, broken[:200]
        for _ in range(25):
            broken = mutated(content, dice)
            assert read(name, broken, tmp_path) is None, broken[:200]
