"""The input of a run: a training file, how it is read, and what one look at it finds."""

from collections import Counter
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path

from relabel.errors import SettingsError
from relabel.formats import Format, OnError, Reject, detect, get_format, read_examples
from relabel.policy import Policy
from relabel.records import Example
from relabel.rundir import sha256_of
from relabel.shards import Shard


@dataclass(frozen=True, slots=True)
class Source:
    """An input file, how it is read, and which part of it is wanted (None = the whole)."""

    path: Path
    format: Format
    on_error: OnError = "stop"
    source_field: str = ""
    shard: Shard | None = None

    def examples(self, on_reject: Callable[[Reject], None] | None = None) -> Iterator[Example]:
        """Read it from the beginning. A row that cannot be read has no query: it counts in the first shard."""
        shard = self.shard
        examples = read_examples(
            self.path,
            format=self.format.name,
            on_error=self.on_error,
            source_field=self.source_field or None,
            on_reject=on_reject if shard is None or shard.number == 1 else None,
        )
        return examples if shard is None else (each for each in examples if shard.holds(each.query))


@dataclass(frozen=True, slots=True)
class Survey:
    """What one look at the input (or a shard of it) finds: rows that can be read, rows that cannot, pairs to judge.

    `pool` is the mined folder that short rows are refilled from, `unused_pool` one beside the input that nobody named;
    `replaces` is another input whose results lie in the run's folder.
    """

    rows: int
    rejected: int
    pairs: int
    sources: Mapping[str, int]
    sha256: str
    pool: Path | None = None
    unused_pool: Path | None = None
    replaces: Path | None = None


def open_source(
    path: Path | str,
    *,
    format: str = "auto",  # noqa: A002
    on_error: str = "stop",
    source_field: str = "",
    shard: str | None = None,
) -> Source:
    """Find out what an input file is; `shard` ("2/8") wants a part of it."""
    part = Shard.read(shard) if shard is not None else None
    path = Path(path)
    if on_error not in ("stop", "skip"):
        raise SettingsError(f"a bad row cannot be treated by {on_error!r}", hint="choose stop or skip: --on-error")
    chosen: OnError = "skip" if on_error == "skip" else "stop"
    return Source(path, detect(path) if format == "auto" else get_format(format), chosen, source_field, part)


def survey(source: Source, policy: Policy) -> Survey:
    """Read the input once: every broken row is found before anything is spent."""
    rejected = rows = pairs = 0
    sources: Counter[str] = Counter()

    def reject(_: Reject) -> None:
        nonlocal rejected
        rejected += 1

    for example in source.examples(reject):
        rows += 1
        if not policy.exempts(example.source):
            pairs += len(example.negatives)
            sources[example.source] += len(example.negatives)
    return Survey(rows, rejected, pairs, dict(sorted(sources.items())), sha256_of(source.path))
