"""How negatives are mined: options, or a YAML file → checked, frozen settings.

    retrievers:
      - {kind: dense, model: all-MiniLM-L6-v2}
      - {kind: bm25, language: en}
    combine: union
    quotas: {all-MiniLM-L6-v2: 5, bm25: 2}
    depth: 100
    filters:
      - {filter: absolute_margin, margin: 0}
    num_negatives: 7

Filters, sampling and the rest are as in `selection`. Paths are relative to the file.
"""

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path
from typing import Annotated, Any, Final, Literal

from pydantic import Field, ValidationError, create_model

from relabel.errors import SettingsError
from relabel.mining.candidates import RETRIEVER
from relabel.mining.filters import GuideModel, RankWindow, TwoSided
from relabel.mining.likeness import NearDuplicate
from relabel.mining.strategies import POSITIVES
from relabel.retrievers import (
    AnyEncoder,
    AnyRetriever,
    CrossEncoder,
    Dense,
    Endpoint,
    Index,
    Lexical,
    Part,
    Precision,
    Recorded,
    Vectors,
    placed,
)
from relabel.selection import FIELDS, Selection, Strict, from_options, parsed, selection_of
from relabel.yamltext import text_of

NUM_NEGATIVES: Final = 7
DEPTH: Final = 100
RESERVED: Final = frozenset({"", "rrf", "crossencoder", "guide"})
"""What no retriever may be called: names of other scores, or of lists."""

_MODEL_HINTS: Final = {
    "crossencoder": "--cross-encoder MODEL, or in a config: crossencoder: {model: MODEL}",
    "guide": "--guide MODEL, or in a config: guide: {kind: dense, model: MODEL}",
}


@dataclass(frozen=True, slots=True)
class Recipe:
    """How negatives are mined.

    Attributes:
        retrievers: who finds candidates.
        combine: with several: "rrf" = one list by reciprocal rank fusion, "union" = each its own list and its quota.
        quotas: how many negatives each retriever gives to a union, by name; without, equal parts. 0 = none; what one
            cannot give, the others that have a quota do.
        crossencoder: whose score the candidates are then held against and ranked by.
        guide: a model whose scores filters may look at by the name "guide".
        depth: how many candidates a retriever finds for a query, positives apart.
        reach: how far down its list a retriever is followed at all, positives among it; None = until `depth` is found.
        selection: filters, sampler, number of negatives, seed. Near-copies of positives are always taken out; name the
            filter `near_duplicate` to say what that means.
    """

    retrievers: tuple[AnyRetriever, ...] = (Dense(),)
    combine: Literal["rrf", "union"] = "rrf"
    quotas: dict[str, int] = field(default_factory=dict)
    crossencoder: CrossEncoder | None = None
    guide: AnyEncoder | None = None
    depth: int = DEPTH
    reach: int | None = None
    selection: Selection = field(default_factory=lambda: Selection(num_negatives=NUM_NEGATIVES))

    def __post_init__(self) -> None:
        """Take near-copies of positives out, and refuse what does not go together."""
        filters = self.selection.filters
        if not any(isinstance(each, NearDuplicate) for each in filters):
            filters = (*filters[: len(POSITIVES)], NearDuplicate(), *filters[len(POSITIVES) :])
            object.__setattr__(self, "selection", replace(self.selection, filters=filters))
        self._check_names()
        self._check_numbers()
        self._check_scores()
        self._check_comparisons()
        if self.quotas:
            check_total(self.quotas, self.selection.num_negatives, NUM_NEGATIVES)
            object.__setattr__(self, "selection", replace(self.selection, num_negatives=self.wanted))

    def _check_names(self) -> None:
        names = Counter(each.called for each in self.retrievers)
        twice = next((name for name, count in names.items() if count > 1), None)
        if twice is not None:
            hint = "give one of them another name: in a config, beside its kind"
            raise SettingsError(f"two retrievers are called {twice!r}", hint=hint)
        taken = next((name for name in names if name in RESERVED), None)
        if taken is not None:
            hint = "in a config, write another name beside its kind"
            raise SettingsError(f"a retriever cannot be called {taken!r}: that is the name of another score", hint=hint)
        if not names:
            raise SettingsError("there is no retriever", hint="--retriever dense, or a run that somebody made: --run")
        unknown = next((name for name in self.quotas if name not in names), None)
        if unknown is not None:
            raise SettingsError(f"quotas: no retriever is called {unknown!r}", hint=f"there are: {', '.join(names)}")
        if self.quotas and self.combine != "union":
            raise SettingsError("quotas are for combine: union", hint="write combine: union, or leave quotas out")

    def _check_numbers(self) -> None:
        if self.depth < 1:
            raise SettingsError(f"depth is {self.depth}; it must be 1 or more")
        if self.quotas and not any(self.quotas.values()):
            raise SettingsError("all quotas are 0", hint="give one of them 1 or more")
        most = max(self.quotas.values(), default=self.wanted)
        if most > self.depth:
            raise SettingsError(
                f"{self.depth} candidates (depth) are fewer than {most} negatives",
                hint="raise depth, best to many times the negatives, or lower num_negatives",
            )
        for each in self.selection.filters:
            if isinstance(each, RankWindow) and each.range_min >= self.depth:
                raise SettingsError(
                    f"range_min {each.range_min} leaves nothing of {self.depth} candidates (depth)",
                    hint="raise depth, or lower range_min",
                )

    def _check_scores(self) -> None:
        """Refuse a filter or sampler that looks at a score which nobody gives."""
        names = [each.called for each in self.retrievers]
        if self.fused and not self.crossencoder and RETRIEVER in self.scores:
            raise SettingsError(
                "fused ranks are no scores that a positive has too",
                hint=f"name whose score a filter shall look at: score: {names[0]}",
            )
        models = {"crossencoder": self.crossencoder, "guide": self.guide}
        given = {RETRIEVER, *names, *[name for name, model in models.items() if model is not None]}
        unknown = next((name for name in sorted(self.scores) if name not in given), None)
        if unknown in models:
            raise SettingsError(f"there is no {unknown} whose score a filter could look at", hint=_MODEL_HINTS[unknown])
        if unknown is not None:
            hint = f"there are: {', '.join(sorted(given - {RETRIEVER}))}"
            raise SettingsError(f"nobody gives the score {unknown!r}", hint=hint)

    def _check_comparisons(self) -> None:
        """Refuse a filter that compares passages where no list has similarities on the scale of its scores."""
        asked = [each.name for each in self.selection.filters if _compares(each)]
        if not asked:
            return
        if self.crossencoder or self.fused:
            why = "a cross-encoder's scores" if self.crossencoder else "fused ranks"
            hint = "leave it out, or mine by one model without a cross-encoder (or several: combine: union)"
            raise SettingsError(f"{asked[0]} compares passages, and {why} say nothing of that", hint=hint)
        if not any(isinstance(each, Dense | Endpoint | Vectors) for each in self.retrievers):
            names = ", ".join(each.called for each in self.retrievers)
            hint = "leave it out, or mine by a model too: kind dense, endpoint or vectors"
            raise SettingsError(f"{asked[0]} compares passages, which {names} cannot", hint=hint)

    @property
    def fused(self) -> bool:
        """Whether several retrievers make one list."""
        return len(self.retrievers) > 1 and self.combine == "rrf"

    @property
    def mixed(self) -> bool:
        """Whether a query's negatives come from lists whose scores are on several scales."""
        return len(self.retrievers) > 1 and self.combine == "union" and self.crossencoder is None

    def quota(self, name: str) -> int:
        """Return how many negatives a retriever gives to a union, before it makes up for others."""
        if self.quotas:
            return self.quotas.get(name, 0)
        total, names = self.wanted, [each.called for each in self.retrievers]
        return total // len(names) + (names.index(name) < total % len(names))

    @property
    def wanted(self) -> int:
        """How many negatives a query shall have."""
        if self.quotas:
            return sum(self.quotas.values())
        return self.selection.num_negatives or self.depth

    @property
    def scores(self) -> frozenset[str]:
        """The scores, by name, that filters and sampler ask for; "" is the retriever's own."""
        asked = [*self.selection.filters, self.selection.sampler]
        return frozenset(str(name) for each in asked if (name := getattr(each, "score", None)) is not None)


def check_total(quotas: Mapping[str, int], num_negatives: int | None, default: int | None = None) -> None:
    """Refuse a number of negatives that is not what quotas make; None and the default say nothing.

    Raises:
        SettingsError: it is not.
    """
    total = sum(quotas.values())
    if num_negatives not in (None, default, total):
        raise SettingsError(
            f"num_negatives is {num_negatives}, and the quotas make {total}",
            hint="leave num_negatives out: it is the sum of the quotas",
        )


def _compares(rule: Any) -> bool:
    """Whether a filter looks at similarities of passages to positives."""
    return isinstance(rule, TwoSided) or (isinstance(rule, NearDuplicate) and rule.similarity is not None)


_Retriever = Annotated[AnyRetriever, Field(discriminator="kind")]
_Encoder = Annotated[AnyEncoder, Field(discriminator="kind")]
_FIELDS: Final[Any] = FIELDS | {
    "num_negatives": (Annotated[int, Field(ge=1)] | None, NUM_NEGATIVES),
    "retrievers": (Annotated[list[_Retriever], Field(min_length=1)], [Dense()]),
    "combine": (Literal["rrf", "union"], "rrf"),
    "quotas": (dict[str, Annotated[int, Field(ge=0)]], {}),
    "crossencoder": (CrossEncoder | None, None),
    "guide": (_Encoder | None, None),
    "depth": (Annotated[int, Field(ge=1)], DEPTH),
    "reach": (Annotated[int, Field(ge=1)] | None, None),
}
_File: Final[Any] = create_model("_File", __base__=Strict, **_FIELDS)
_TAGS: Final = frozenset({"dense", "endpoint", "vectors", "bm25", "run"})


def written(recipe: Recipe) -> dict[str, Any]:
    """Return a recipe as what a file would hold; `parse` reads it again."""
    selection = recipe.selection
    return {
        "retrievers": [each.model_dump() for each in recipe.retrievers],
        "combine": recipe.combine,
        "quotas": recipe.quotas,
        "crossencoder": recipe.crossencoder.model_dump() if recipe.crossencoder else None,
        "guide": recipe.guide.model_dump() if recipe.guide else None,
        "depth": recipe.depth,
        "reach": recipe.reach,
        "filters": [{"filter": each.name, **asdict(each)} for each in selection.filters],  # type: ignore[call-overload]
        "sampling": {"strategy": selection.sampler.name, **asdict(selection.sampler)},  # type: ignore[call-overload]
        "num_negatives": selection.num_negatives,
        "seed": selection.seed,
        "exempt": sorted(selection.exempt),
    }


def with_checkpoint(recipe: Recipe, model: str, name: str | None = None) -> Recipe:
    """Return a recipe whose dense retriever has another model, and keeps its name.

    Args:
        recipe: the recipe.
        model: name or folder.
        name: of the retriever, where several are dense.

    Raises:
        SettingsError: none, or more than one, may be meant.
    """
    dense = [each.called for each in recipe.retrievers if isinstance(each, Dense)]
    if not dense:
        kinds = ", ".join(each.called for each in recipe.retrievers)
        hint = "refresh is for mining by a sentence-transformers model"
        raise SettingsError(f"nothing that was mined by could get the checkpoint, only: {kinds}", hint=hint)
    meant = [each for each in recipe.retrievers if isinstance(each, Dense) and name in (None, each.called)]
    if len(meant) != 1:
        what = f"no dense retriever is called {name!r}" if name is not None else "several retrievers are dense"
        hint = f"say which gets the checkpoint: --name, one of: {', '.join(dense)}"
        raise SettingsError(what, hint=hint)
    fresh = meant[0].model_copy(update={"model": model, "name": meant[0].called, "revision": None})
    fresh = placed(fresh, Path.cwd())
    return replace(recipe, retrievers=tuple([fresh if each is meant[0] else each for each in recipe.retrievers]))


def load(path: Path) -> Recipe:
    """Read a file.

    Raises:
        SettingsError: with every problem, each with its line.
    """
    return parse(text_of(path), str(path), path.resolve().parent)


def parse(text: str, name: str = "config", folder: Path = Path()) -> Recipe:
    """Read the text of a file; `name` is for messages, paths are relative to `folder`.

    Raises:
        SettingsError: with every problem, each with its line.
    """
    read = parsed(text, name, _File, _TAGS)
    try:
        if read.quotas and "num_negatives" in read.model_fields_set:
            check_total(read.quotas, read.num_negatives)
        return Recipe(
            retrievers=tuple(placed(each, folder) for each in read.retrievers),
            combine=read.combine,
            quotas=read.quotas,
            crossencoder=read.crossencoder and placed(read.crossencoder, folder),
            guide=read.guide and placed(read.guide, folder),
            depth=read.depth,
            reach=read.reach,
            selection=selection_of(read, name),
        )
    except SettingsError as error:
        raise SettingsError(f"{name}: {error.message.removeprefix(f'{name}: ')}", hint=error.hint) from error


def _looking_at(rule: Any, score: str) -> Any:
    return replace(rule, score=score) if getattr(rule, "score", None) == RETRIEVER else rule


def of_options(
    *,
    retriever: str = "dense",
    model: str | None = None,
    runs: Sequence[str] = (),
    crossencoder: str | None = None,
    guide: str | None = None,
    index: Index | None = None,
    precision: Precision | None = None,
    language: str | None = None,
    depth: int = DEPTH,
    num_negatives: int | None = NUM_NEGATIVES,
    **options: Any,
) -> Recipe:
    """Read a command line's options.

    Args:
        retriever: "dense", "bm25", or "hybrid" = both; "none" = the runs alone. Several with the runs are one list by
            reciprocal rank fusion, and filters look at the first one's scores.
        model: of the dense retriever: name or folder; the packaged one without.
        runs: files of what somebody else mined, each a retriever too.
        crossencoder: a reranker's name or folder.
        guide: name or folder of an embedding model for the filter `guide_model`, which it brings along.
        index: the dense retriever's; "auto" without.
        precision: of its index; "float32" without.
        language: of BM25's stemmer and stop words; "en" without.
        depth: see `Recipe`.
        num_negatives: for a query.
        options: see `selection.from_options`.

    Raises:
        SettingsError: a value that cannot be, or one for a retriever that is not asked.
    """
    by_vectors, by_words = {"model": model, "index": index, "precision": precision}, {"language": language}
    dense, lexical = _given(Dense, by_vectors), _given(Lexical, by_words)
    known: dict[str, tuple[AnyRetriever, ...]] = {
        "dense": (dense,),
        "bm25": (lexical,),
        "hybrid": (dense, lexical),
        "none": (),
    }
    if retriever not in known:
        raise SettingsError(f"--retriever {retriever!r} is none", hint=f"one of: {', '.join(known)}")
    idle = (by_vectors if dense not in known[retriever] else {}) | (by_words if lexical not in known[retriever] else {})
    if unused := [name for name, value in idle.items() if value is not None]:
        raise SettingsError(
            f"--{' and --'.join(unused)}: nobody would look at it with --retriever {retriever}",
            hint="leave it out, or choose another retriever: dense, bm25, hybrid",
        )
    selection = from_options(num_negatives=num_negatives, **options)
    first, rest = selection.filters[: len(POSITIVES)], selection.filters[len(POSITIVES) :]
    filters = (*first, *([GuideModel()] if guide is not None else []), *rest)
    selection = replace(selection, filters=filters)
    retrievers = (*known[retriever], *[_made(Recorded, path=path) for path in runs])
    if len(retrievers) > 1 and not crossencoder:  # a fused list has no scores to speak of
        main = retrievers[0].called
        filters = tuple(_looking_at(each, main) for each in filters)
        selection = replace(selection, filters=filters, sampler=_looking_at(selection.sampler, main))
    return Recipe(
        retrievers=retrievers,
        crossencoder=_made(CrossEncoder, model=crossencoder) if crossencoder is not None else None,
        guide=_made(Dense, model=guide) if guide is not None else None,
        depth=depth,
        selection=selection,
    )


def _given(kind: type[Part], values: Mapping[str, Any]) -> Part:
    """Build a part of a recipe from those options that were given."""
    return _made(kind, **{name: value for name, value in values.items() if value is not None})


def _made(kind: type[Part], **values: Any) -> Part:
    """Build a part of a recipe from options.

    Raises:
        SettingsError: a value that cannot be.
    """
    try:
        return placed(kind(**values), Path.cwd())
    except ValidationError as error:
        found = error.errors()[0]
        told = f"{found['loc'][0]} {found['input']!r} cannot be: {found['msg']}"
        raise SettingsError(told, hint="type: relabel mine --help") from error
