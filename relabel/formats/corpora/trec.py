"""What systems found and people judged, as TREC writes it, and the shorter forms of Tevatron, BEIR and MS MARCO."""

from collections.abc import Callable, Iterator, Mapping
from itertools import islice
from pathlib import Path
from typing import Any

from relabel.errors import InputError, RowError
from relabel.formats.corpora.base import Found, Part, Parts, Source
from relabel.formats.corpora.fields import grade_of, judged_of, missing, score_of
from relabel.formats.corpora.files import part_of, source_of, stamps_of, stem_of
from relabel.formats.corpora.separated import QRELS, RUN, column_records
from relabel.formats.streams import existing


def open_qrels(path: Path) -> Parts:
    """Return the judgments of a file: `qid 0 docid grade`, `qid docid grade`, a header that names them, or objects."""
    path = existing(path)
    return Parts(judged=part_of([path], lambda row: (judged_of(row),), QRELS, blanks=True), stamps=stamps_of([path]))


def open_run(path: Path, system: str = "") -> Parts:
    """Return what a run found: `qid Q0 docid rank score tag`, `qid docid score`, or MS MARCO's `qid docid rank`.

    The last two are told apart by the first lines: a third column that counts 1, 2, … is a rank. The rows of a query
    stand together.

    Args:
        path: the file.
        system: who found it; by default the tag, or the file's name.
    """
    path = existing(path)
    if path.is_dir():
        raise InputError(f"{path}: is a folder, not a run", hint="Name one run file.")
    ranked = _counts(path)
    name = system or stem_of(path)

    def parse_run() -> Callable[[Mapping[str, Any]], Iterator[Found]]:
        query, rank = "", 0

        def parse(row: Mapping[str, Any]) -> Iterator[Found]:
            nonlocal query, rank
            if lacking := [name for name in RUN[1] if name not in row]:  # a header named other columns
                raise missing(row, lacking[0])
            rank = rank + 1 if row["query_id"] == query else 1
            query = row["query_id"]
            if ranked:
                yield Found(query, row["document_id"], grade_of(row["score"], "rank"), None, name)
            else:
                place = grade_of(row["rank"], "rank") if "rank" in row else rank
                score = score_of(row["score"], "score")
                yield Found(query, row["document_id"], place, score, system or row.get("tag", name))

        return parse

    def read(on_bad: Callable[[RowError, str], None]) -> Iterator[tuple[int, Found]]:
        # each reading counts ranks from the beginning
        return source_of(str(path), lambda: column_records(path, RUN), parse_run()).read(on_bad)

    return Parts(found=Part((Source(str(path), read),)), stamps=(*stamps_of([path]), f"{path} as {name}"))


def _counts(path: Path) -> bool:
    rows = [record.parsed for record in islice(column_records(path, RUN), 2)]
    thirds = [row.get("score") for row in rows if not isinstance(row, RowError) and "tag" not in row]
    return thirds == ["1", "2"]
