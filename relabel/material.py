"""What is mined: sources and how they are read → a corpus on disk."""

from collections.abc import Callable
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any, Literal, get_args

from relabel.corpus import Corpus, build
from relabel.errors import InputError, RowError, SettingsError
from relabel.formats.corpora import open_documents, open_judged, open_parts, open_queries, open_run
from relabel.formats.corpora.base import Parts, together
from relabel.mining.searching import Progress
from relabel.recipe import Recipe
from relabel.retrievers import Recorded

_OnError = Literal["stop", "skip"]


@dataclass(frozen=True, slots=True)
class Material:
    """Sources by name (a file or folder, `hf:NAME`, `irds:ID`), and how they are read.

    Attributes:
        collection: passages, queries and judgments, as far as the next three do not name others.
        corpus: passages to search, in place of the collection's; positives may be among the latter all the same.
        queries: in place of the collection's.
        qrels: judgments, in place of the collection's.
        split: which judgments are meant, where there are several.
        threshold: the lowest grade that is a positive.
        on_error: what is done about a row that cannot be read.
        gold: judgments by which filters are measured as detectors of false negatives; they change nothing else.
    """

    collection: str
    corpus: str | None = None
    queries: str | None = None
    qrels: str | None = None
    split: str = "train"
    threshold: int = 1
    on_error: str = "stop"
    gold: str | None = None

    def open(
        self,
        path: Path,
        recipe: Recipe | None = None,
        progress: Progress | None = None,
        on_reject: Callable[[RowError, str], None] | None = None,
        *,
        merge: bool = True,
    ) -> tuple[Corpus, bool]:
        """Return the corpus of the sources and of a recipe's runs, and whether it was at `path` already.

        Equal texts are one in it, whatever their ids, unless told not to `merge` them.

        Raises:
            InputError: the sources cannot be used.
            RowError: a row cannot be read.
        """
        if self.threshold < 1:
            raise InputError(f"--threshold {self.threshold} makes everything a positive", hint="1 or more")
        if self.on_error not in get_args(_OnError):
            raise SettingsError(f"--on-error {self.on_error!r} is neither word", hint="choose stop or skip")
        on_error: _OnError = "skip" if self.on_error == "skip" else "stop"
        retrievers = recipe.retrievers if recipe is not None else ()
        runs = [each for each in retrievers if isinstance(each, Recorded) and each.path]
        parts = together(self._parts(), *[open_run(Path(each.path), each.called) for each in runs])
        built = build(
            path, parts, threshold=self.threshold, merge=merge, on_error=on_error, on_reject=on_reject,
            progress=progress,
        )  # fmt: skip
        return Corpus(path), built.reused

    def _parts(self) -> Parts:
        parts = open_parts(self.collection, split=self.split)
        if self.queries is not None:
            parts = together(replace(parts, queries=None), open_queries(self.queries, split=self.split))
        if self.qrels is not None:
            parts = together(replace(parts, judged=None), open_judged(self.qrels, split=self.split))
        if self.corpus is not None:
            parts = parts.searching(open_documents(self.corpus, split=self.split))
        return parts

    @property
    def places(self) -> list[str]:
        """Names of all sources."""
        return [each for each in (self.collection, self.corpus, self.queries, self.qrels) if each is not None]

    def told(self) -> dict[str, Any]:
        """Return it as plain JSON, with paths that do not depend on where one stands."""
        places = {name: _absolute(getattr(self, name)) for name in ("collection", "corpus", "queries", "qrels", "gold")}
        return asdict(self) | places


def _absolute(name: str | None) -> str | None:
    return str(Path(name).resolve()) if name is not None and Path(name).exists() else name
