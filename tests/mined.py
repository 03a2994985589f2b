"""Mined folders made up for tests: candidates and corpus as `relabel mine` leaves them."""

import sqlite3
from collections.abc import Iterable, Mapping, Sequence
from contextlib import closing
from pathlib import Path

from relabel.mining.candidates import Candidate, Pool, Positive
from relabel.mining.strategies import Removed
from relabel.pools import PoolWriter
from relabel.records import Passage

SCHEMA = (
    "CREATE TABLE passages"
    " (number INTEGER PRIMARY KEY, id TEXT NOT NULL UNIQUE, title TEXT NOT NULL, text TEXT NOT NULL)"
)


def corpus(folder: Path, passages: Iterable[Passage]) -> None:
    """Write the texts, each id once."""
    distinct = {each.id: (each.id, each.title, each.text) for each in passages}
    with closing(sqlite3.connect(folder / "corpus.sqlite")) as connection:
        connection.execute(SCHEMA)
        connection.executemany("INSERT INTO passages (id, title, text) VALUES (?, ?, ?)", distinct.values())
        connection.commit()


def mined(
    folder: Path,
    found: Mapping[str, Sequence[Passage]],
    *,
    positives: Mapping[str, Sequence[Passage]] | None = None,
    removed: Iterable[str] = (),
    drawn: Iterable[str] = (),
) -> Path:
    """Write a mined folder: for each query what was found, by rank, with scores .9, .89 and so on.

    `removed` and `drawn` are ids of passages, whatever query they were found for.
    """
    folder.mkdir(exist_ok=True)
    gone, taken = set(removed), set(drawn)
    known = positives or {}
    with PoolWriter(folder) as writer:
        for number, (query, passages) in enumerate(found.items()):
            candidates = tuple(
                Candidate(each, rank, round(0.91 - rank / 100, 2), "made up") for rank, each in enumerate(passages, 1)
            )
            pool = Pool(query, tuple(Positive(each, 0.95, 1) for each in known.get(query, ())), candidates)
            out = [Removed(each, "max_score", "score .9 > .8") for each in candidates if each.passage.id in gone]
            writer.write(f"q{number}", pool, out, [each for each in candidates if each.passage.id in taken])
    everything = [each for passages in (*found.values(), *known.values()) for each in passages]
    corpus(folder, everything)
    return folder
