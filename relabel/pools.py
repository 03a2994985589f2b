"""The candidates of a mined folder: what `relabel mine` found for each query, kept beside its rows.

candidates.jsonl   a line for each query: its positives, and its candidates in order of rank, each with what
                   became of it: removed by a filter, drawn as a negative, or neither
corpus.sqlite      the texts, by id
"""

import hashlib
import json
import sqlite3
from collections.abc import Iterable, Iterator, Mapping
from contextlib import closing, contextmanager, suppress
from pathlib import Path
from types import TracebackType
from typing import Any, Final, Self
from urllib.parse import quote

from relabel.copies import normalise
from relabel.errors import InputError, RowError, RunError
from relabel.mining.candidates import RETRIEVER, Candidate, Pool, Positive
from relabel.mining.strategies import Removed
from relabel.records import Passage, digest

CANDIDATES: Final = "candidates.jsonl"
CORPUS: Final = "corpus.sqlite"
BESIDE: Final = ("score", "rank", "source")
"""What of a candidate stands beside its passage, where it is known."""

_TO_JSON: Final = json.JSONEncoder(ensure_ascii=False).encode
_TO_ASCII_JSON: Final = json.JSONEncoder().encode
_BATCH: Final = 10_000
_HINT: Final = "name a folder that relabel mine has written: --pool FOLDER"
_AGAIN: Final = "copy the folder again, or mine again: relabel mine"
_TEXTS: Final = "SELECT title, text FROM passages WHERE id = ?"


def beside(path: Path) -> Path | None:
    """Return the folder of a training file if the candidates that it was mined from lie there too."""
    return path.parent if (path.parent / CANDIDATES).is_file() and (path.parent / CORPUS).is_file() else None


# -- writing ------------------------------------------------------------------------------------------------


class PoolWriter:
    """Writes what was found for the queries; the file gets its name only when everything went well.

        with PoolWriter(folder) as writer:
            writer.write("q1", pool, filtered.removed, drawn)

    Raises:
        RunError: the file cannot be written there, or the disk is full.
    """

    def __init__(self, folder: Path) -> None:
        self._path = folder / CANDIDATES
        self._temporary = folder / f"{CANDIDATES}.tmp"
        with _written(self._path):
            self._file = self._temporary.open("wb")

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        try:
            with _written(self._path):
                self._file.close()
                if error is None:
                    self._temporary.replace(self._path)
        finally:
            with suppress(OSError):
                self._temporary.unlink(missing_ok=True)

    def write(
        self, query_id: str, pool: Pool, removed: Iterable[Removed] = (), drawn: Iterable[Candidate] = ()
    ) -> None:
        """Write one query.

        Args:
            query_id: its id.
            pool: all that was found for it, before any filter.
            removed: which of these a filter removed, the same objects.
            drawn: those that became negatives.
        """
        reasons = {id(each.candidate): {"removed": each.by, "why": each.why} for each in removed}
        chosen = {each.passage.id for each in drawn}
        line = {
            "query_id": query_id,
            "query": pool.query,
            "positives": [_positive(each) for each in pool.positives],
            "candidates": [
                _candidate(each) | reasons.get(id(each), {"drawn": True} if each.passage.id in chosen else {})
                for each in sorted(pool.candidates, key=lambda candidate: candidate.place)
            ],
        }
        try:
            data = _TO_JSON(line).encode()
        except UnicodeEncodeError:  # half of a surrogate pair: only an escape can hold it
            data = _TO_ASCII_JSON(line).encode()
        with _written(self._path):
            self._file.write(data + b"\n")


@contextmanager
def _written(path: Path) -> Iterator[None]:
    try:
        yield
    except OSError as error:
        raise RunError(
            f"{path} cannot be written: {error.strerror or error}", hint="make the folder, or make room on the disk"
        ) from error


def _positive(positive: Positive) -> dict[str, Any]:
    return {"docid": positive.passage.id, "score": positive.score_by(RETRIEVER), "rank": positive.rank}


def _candidate(candidate: Candidate) -> dict[str, Any]:
    return {
        "docid": candidate.passage.id,
        "rank": candidate.rank,
        "score": candidate.score_by(RETRIEVER),
        "source": candidate.source,
        "scores": {name: candidate.score_by(name) for name in candidate.scores},
    }


# -- reading ------------------------------------------------------------------------------------------------


class CandidatePool:
    """What was found for each query, looked up by the query's words.

    Where each query's line begins is noted in a file of `cache`, once for a `candidates.jsonl`: memory does not grow
    with it. To be used by one thread at a time.

    Attributes:
        folder: the mined folder.
        sha256: digest (hex) of its candidates.
        queries: how many lines there are.

    Raises:
        InputError: the folder is missing, is no mined folder, or is damaged.
    """

    def __init__(self, folder: Path, cache: Path) -> None:
        self.folder = folder
        self._path, self._corpus = folder / CANDIDATES, folder / CORPUS
        check_folder(folder)
        index = _indexed(self._path, cache)
        self._index = sqlite3.connect(index, check_same_thread=False)
        self._texts = _open_read_only(self._corpus)
        self._lines = self._path.open("rb")
        made_of: tuple[str, int] = self._index.execute("SELECT sha256, queries FROM made_of").fetchone()
        self.sha256, self.queries = made_of
        try:
            self._check_texts()
        except BaseException:
            self.close()
            raise

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def close(self) -> None:
        """Let go of the files."""
        self._index.close()
        self._texts.close()
        self._lines.close()

    def knows(self, query: str) -> bool:
        """Whether anything was mined for this query."""
        return bool(self._places(query))

    def following(self, query: str) -> Iterator[Passage]:
        """Yield the candidates that no filter removed and that were not drawn, next-ranked first, each once.

        Beside them stands what is known of `BESIDE`. A query is found in whatever typography it is written; where
        several lines have it, their candidates follow each other, without what any of the lines removed or drew.

        Raises:
            InputError: a line is damaged, or the corpus lacks a passage.
        """
        lines = [self._line(place) for place in self._places(query)]
        taken = {each["docid"] for line in lines for each in line["positives"]}
        taken |= {
            each["docid"] for line in lines for each in line["candidates"] if "removed" in each or each.get("drawn")
        }
        for line in lines:
            for each in line["candidates"]:
                if each["docid"] not in taken:
                    taken.add(each["docid"])
                    yield self._passage(each)

    def _places(self, query: str) -> list[int]:
        rows = self._index.execute("SELECT place FROM queries WHERE query = ? ORDER BY place", (_key(query),))
        return [place for (place,) in rows]

    def _line(self, place: int) -> Mapping[str, Any]:
        self._lines.seek(place)
        try:
            return _read(self._lines.readline(), self._path, 0)
        except RowError as error:
            raise InputError(
                f"{self._path} has changed while it was read", hint="type the same command again"
            ) from error

    def _passage(self, candidate: Mapping[str, Any]) -> Passage:
        name = candidate["docid"]
        try:
            found = self._texts.execute(_TEXTS, (name,)).fetchone()
        except (sqlite3.DatabaseError, UnicodeEncodeError) as error:  # the latter: an id that no corpus can hold
            raise _damaged(self._corpus, error) from error
        if found is None:
            raise InputError(
                f"{self._corpus} lacks the passage {name!r}, which {CANDIDATES} names",
                hint=f"the two files are not of one mining: {_AGAIN}",
            )
        title, text = found
        known = {key: candidate[key] for key in BESIDE if candidate.get(key) not in (None, "")}
        return Passage(name, text, title, beside=known)

    def _check_texts(self) -> None:
        """Find out before anything is spent whether the corpus is one, and that of these candidates."""
        try:
            self._texts.execute(_TEXTS, ("",)).fetchone()
        except sqlite3.DatabaseError as error:
            raise _damaged(self._corpus, error) from error
        for candidate in self._line(0)["candidates"][:1]:
            self._passage(candidate)


def check_folder(folder: Path) -> None:
    """Refuse what is no mined folder, by a look at the names in it.

    Raises:
        InputError: it is none.
    """
    if not folder.is_dir():
        raise InputError(f"{folder}: there is no such folder", hint=_HINT)
    for name in (CANDIDATES, CORPUS):
        if not (folder / name).is_file():
            raise InputError(f"{folder} is no mined folder: {name} is missing", hint=_HINT)


def _open_read_only(path: Path) -> sqlite3.Connection:
    try:
        return sqlite3.connect(f"file:{quote(str(path.resolve()))}?mode=ro", uri=True, check_same_thread=False)
    except sqlite3.DatabaseError as error:
        raise _damaged(path, error) from error


def _damaged(path: Path, error: Exception) -> InputError:
    return InputError(f"{path} is damaged, or not what relabel mine writes: {error}", hint=_AGAIN)


# -- where each query's line begins ---------------------------------------------------------------------------


def _indexed(path: Path, cache: Path) -> Path:
    """Return the file that says where each query's line begins; made anew where it is of another `candidates.jsonl`."""
    index = cache / "candidates.sqlite"
    about = path.stat()
    made_of = (str(path.resolve()), about.st_size, about.st_mtime_ns)
    if _made_of(index) != made_of:
        cache.mkdir(parents=True, exist_ok=True)
        temporary = index.with_name(index.name + ".tmp")
        temporary.unlink(missing_ok=True)
        try:
            with closing(sqlite3.connect(temporary)) as connection:
                _build(connection, path, made_of)
            temporary.replace(index)
        finally:
            temporary.unlink(missing_ok=True)
    return index


def _made_of(index: Path) -> tuple[str, int, int] | None:
    if not index.is_file():
        return None
    with suppress(sqlite3.DatabaseError), closing(sqlite3.connect(index)) as connection:
        path, size, changed = connection.execute("SELECT path, size, changed FROM made_of").fetchone()
        return path, size, changed
    return None


def _build(connection: sqlite3.Connection, path: Path, made_of: tuple[str, int, int]) -> None:
    connection.execute("PRAGMA synchronous = OFF")  # can be made again: nothing to lose
    connection.execute("CREATE TABLE queries (query BLOB, place INTEGER, PRIMARY KEY (query, place)) WITHOUT ROWID")
    connection.execute("CREATE TABLE made_of (path TEXT, size INTEGER, changed INTEGER, sha256 TEXT, queries INTEGER)")
    sha256, place, number = hashlib.sha256(), 0, 0
    rows: list[tuple[bytes, int]] = []
    with path.open("rb") as lines:
        for number, line in enumerate(lines, start=1):
            rows.append((_key(_read(line, path, number)["query"]), place))
            sha256.update(line)
            place += len(line)
            if len(rows) == _BATCH:
                connection.executemany("INSERT INTO queries VALUES (?, ?)", rows)
                rows.clear()
    if not number:
        raise InputError(f"{path}: the file holds no query", hint=_AGAIN)
    connection.executemany("INSERT INTO queries VALUES (?, ?)", rows)
    connection.execute("INSERT INTO made_of VALUES (?, ?, ?, ?, ?)", (*made_of, sha256.hexdigest(), number))
    connection.commit()


def _read(line: bytes, path: Path, number: int) -> Mapping[str, Any]:
    """Read a line of candidates, and check what of it is used."""
    try:
        row = json.loads(line)
    except (ValueError, RecursionError) as error:
        raise RowError(f"is not JSON: {error}", path=path, line=number, hint=_AGAIN) from error
    if not isinstance(row, dict) or not isinstance(row.get("query"), str):
        raise RowError("names no query", path=path, line=number, hint=_HINT)
    for field in ("positives", "candidates"):
        each = row.get(field)
        if not isinstance(each, list) or not all(isinstance(one, dict) and _named(one) for one in each):
            raise RowError("is no list of objects with a docid", path=path, line=number, field=field, hint=_HINT)
    return row


def _named(one: Mapping[str, Any]) -> bool:
    score = one.get("score")
    number = isinstance(score, int | float) and not isinstance(score, bool)
    return isinstance(one.get("docid"), str) and (score is None or number)


def _key(query: str) -> bytes:
    return digest(normalise(query), size=16)
