"""The story of queries for passages: read the collection → ask → write rows to train on, without negatives.

rows.jsonl          a row for each query, in Tevatron's form: its passage as the positive, no negatives
none.jsonl          each query that was asked for and is not there, with the reason
statistics.json     asked = written + none, by reason; the same for the same passages, settings and replies
run.json            what this execution took, and the bill of all of them
"""

import os
import time
from collections import Counter
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any, Final

from relabel.authors import open_query_author
from relabel.engines.budget import Limits
from relabel.errors import InputError, RowError, RunError
from relabel.formats.base import content_id
from relabel.formats.corpora import open_documents
from relabel.formats.endings import plain_name
from relabel.formats.lines import read_lines, too_long
from relabel.formats.streams import existing
from relabel.records import Passage, digest
from relabel.rundir import json_line, read_json, replacing, versions, write_json
from relabel.synthesis.queries import Question
from relabel.synthesis.settings import Settings
from relabel.synthesis.writing import Watch

REPEATED: Final = "repeated"
_WANTED: Final = (
    "name a file of passages: plain text (.txt) with one in each line, or JSONL, TSV, CSV or Parquet with a text in"
    " each row; or a BEIR folder with its corpus.jsonl"
)
OWN: Final = ("rows.jsonl", "none.jsonl", "statistics.json", "run.json", "writing")
"""What lies in a folder of queries; files that were being written when it was killed begin so too."""


@dataclass(frozen=True, slots=True)
class Questioned:
    """What was asked for and what came of it.

    Attributes:
        rows: the file of rows.
        passages: that were read; `empty` of them hold no text, for which nothing is asked.
        empty: see there.
        asked: queries that were asked for.
        written: rows.
        none: queries that are not there, by reason.
        bill: what was paid in all executions together.
    """

    rows: Path
    passages: int
    empty: int
    asked: int
    written: int
    none: Mapping[str, int]
    bill: Mapping[str, Any]

    def statistics(self) -> dict[str, Any]:
        """Return the counts, as in statistics.json."""
        return {
            "passages": self.passages, "empty": self.empty, "asked": self.asked, "written": self.written,
            "none": dict(self.none),
        }  # fmt: skip


def write_queries(
    collection: Path | str,
    settings: Settings,
    folder: Path,
    *,
    limits: Limits | None = None,
    watch: Watch = lambda *_: None,
) -> Questioned:
    """Write queries for all passages of a collection; called again after a crash it goes on where it was.

    Args:
        collection: a text file of one passage a line, or any source of passages that mining reads.
        settings: `engine`, `query` (the recipe), `queries` (how many for a passage) and `seed` count.
        folder: where results and replies go.
        limits: what all executions together may spend.
        watch: told about progress, from other threads.

    Raises:
        InputError: the collection cannot be read.
        SettingsError: the settings cannot be used.
        ServiceError: the service cannot go on; what was answered is kept.
        BudgetReached: likewise, where a limit is met.
    """
    started, begun = time.time(), time.monotonic()
    passages = passages_of(collection)
    rows = folder / "rows.jsonl"
    if Path(collection).exists() and Path(collection).resolve() == rows.resolve():
        raise InputError(f"{collection} would be overwritten", hint="name another folder: -o")
    there = next(each for each in (folder, *folder.parents) if each.exists())
    if not there.is_dir() or not os.access(there, os.W_OK | os.X_OK):
        why = "may not be written in" if there.is_dir() else "is a file"
        raise RunError(f"{there} {why}", hint="name another folder: -o")
    if next(passages(), None) is None:  # what cannot be read at all is told before a folder is made
        raise InputError(f"{collection}: holds no passages", hint=_WANTED)
    _check(collection, folder)
    with open_query_author(settings, folder / "writing", limits=limits, watch=watch) as author:
        author.writer.ask(passages())
        counts: Counter[str] = Counter()
        none: Counter[str] = Counter()
        known: set[bytes] = set()
        with replacing(rows) as file, replacing(folder / "none.jsonl") as rest:
            for passage in passages():
                counts["passages"] += 1
                counts["empty"] += not passage.text.strip()
                for question in author.writer.written(passage):
                    counts["asked"] += 1
                    key = digest(passage.title, passage.text, question.query)
                    failure = question.failure or (REPEATED if key in known else "")
                    known.add(key)
                    if failure:
                        none[failure] += 1
                        rest.write(json_line(_missed(question, failure)))
                    else:
                        counts["written"] += 1
                        file.write(json_line(question.row()))
        spending, bill = author.desk.spending(), author.desk.bill()
    done = Questioned(
        rows, counts["passages"], counts["empty"], counts["asked"], counts["written"], dict(sorted(none.items())), bill
    )
    write_json(folder / "statistics.json", done.statistics())
    told = {"collection": _where(collection), "started": time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime(started))}
    seconds = {"seconds": round(time.monotonic() - begun, 3)}
    write_json(folder / "run.json", told | seconds | {"spending": spending, "bill": bill, "versions": versions()})
    return done


def _missed(question: Question, failure: str) -> dict[str, Any]:
    return {"docid": question.passage.id, "why": failure, "reply": question.reply}


def _check(collection: Path | str, folder: Path) -> None:
    """Refuse a folder that holds something else than what this made of the same collection."""
    if not folder.is_dir() or not any(folder.iterdir()):
        return
    if strange := [each.name for each in folder.iterdir() if not each.name.lstrip(".").startswith(OWN)]:
        raise RunError(f"{folder} holds other files ({min(strange)})", hint="name another folder: -o")
    made = read_json(folder, "run.json").get("collection") if (folder / "run.json").exists() else None
    if (folder / "rows.jsonl").exists() and made != _where(collection):
        raise RunError(f"{folder} holds what was made of {made or 'something else'}", hint="name another folder: -o")


def _where(collection: Path | str) -> str:
    return str(Path(collection).resolve()) if Path(collection).exists() else str(collection)


def passages_of(collection: Path | str) -> Callable[[], Iterator[Passage]]:
    """Return what reads the passages of a collection from the beginning, as often as it is called.

    Raises:
        InputError: it is not there, or holds no passages.
    """
    path = Path(collection)
    plain = not str(collection).startswith(("hf:", "irds:")) and plain_name(path).endswith(".txt")
    if plain and existing(path).is_file() and not _separated(path):
        return partial(_lines, path)
    try:
        documents = open_documents(collection).documents
    except InputError as error:
        if isinstance(error, RowError) or not path.is_dir():
            raise
        raise InputError(f"{collection}: is a folder, and no collection that is known", hint=_WANTED) from error
    if documents is None:
        raise InputError(f"{collection}: holds no passages", hint=_WANTED)
    return documents


def _separated(path: Path) -> bool:
    first = next(read_lines(path), None)
    return first is not None and b"\t" in first.raw


def _lines(path: Path) -> Iterator[Passage]:
    """Yield a passage for each line of a text file that holds something."""
    for line in read_lines(path):
        if line.cut:
            raise too_long(path, line.number)
        try:
            text = line.raw.decode("utf-8-sig" if line.number == 1 else "utf-8").strip()
        except UnicodeDecodeError as error:
            raise RowError("not text in UTF-8", path=path, line=line.number, hint="save the file as UTF-8") from error
        if text:
            yield Passage(content_id("", text), text)
