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
from collections.abc import Sequence
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path
from typing import Annotated, Any, Final, Literal, TypeVar

from pydantic import Field, ValidationError, create_model

from relabel.errors import SettingsError
from relabel.mining.candidates import RETRIEVER
from relabel.mining.filters import GuideModel, RankWindow
from relabel.mining.likeness import NearDuplicate
from relabel.mining.strategies import POSITIVES
from relabel.selection import FIELDS, Selection, Strict, from_options, parsed, selection_of

PACKAGED: Final = "all-MiniLM-L6-v2"
NUM_NEGATIVES: Final = 7
DEPTH: Final = 100
RESERVED: Final = frozenset({"", "rrf", "crossencoder", "guide"})
"""What no retriever may be called: names of other scores, or of lists."""

_MODEL_HINTS: Final = {
    "crossencoder": "--cross-encoder MODEL, or in a config: crossencoder: {model: MODEL}",
    "guide": "--guide MODEL, or in a config: guide: {kind: dense, model: MODEL}",
}

_Index = Literal["auto", "flat", "ivf", "hnsw"]
_Precision = Literal["float32", "float16", "pq"]


class _Named(Strict):
    """What can be called by a name of its own; without, by its model's or kind's."""

    name: str = ""


class _Indexed(_Named):
    """What is searched by vectors."""

    index: _Index = "auto"
    precision: _Precision = "float32"


class Dense(_Indexed):
    """A sentence-transformers model: a name or a folder. Prompts are the model's own unless they are given."""

    kind: Literal["dense"] = "dense"
    model: str = Field(default=PACKAGED, min_length=1)
    revision: str | None = None
    device: str = ""
    batch_size: int = Field(default=32, ge=1)
    query_prompt: str | None = None
    document_prompt: str | None = None

    @property
    def called(self) -> str:
        """The name by which its candidates are known."""
        return self.name or Path(self.model).name


class Endpoint(_Indexed):
    """A model behind any OpenAI-compatible embeddings endpoint."""

    kind: Literal["endpoint"]
    model: str = Field(min_length=1)
    base_url: str | None = None
    api_key_env: str | None = None
    dimensions: int | None = Field(default=None, ge=1)
    batch_size: int = Field(default=64, ge=1)
    concurrency: int = Field(default=8, ge=1)
    requests_per_minute: float | None = Field(default=None, gt=0)
    timeout: float = Field(default=60.0, gt=0)
    max_retries: int = Field(default=6, ge=0)
    query_prompt: str = ""
    document_prompt: str = ""
    max_characters: int | None = Field(default=None, ge=1)
    extra_body: dict[str, Any] = Field(default_factory=dict)
    revision: str = ""

    @property
    def called(self) -> str:
        """The name by which its candidates are known."""
        return self.name or Path(self.model).name


class Vectors(_Indexed):
    """Vectors that somebody else computed: two `.npy` files, in the order of documents and queries, or of id files."""

    kind: Literal["vectors"]
    documents: str = Field(min_length=1)
    queries: str = Field(min_length=1)
    document_ids: str | None = None
    query_ids: str | None = None
    normalise: bool = False

    @property
    def called(self) -> str:
        """The name by which its candidates are known."""
        return self.name or "vectors"


class Lexical(_Named):
    """BM25."""

    kind: Literal["bm25"] = "bm25"
    k1: float = Field(default=1.5, ge=0)
    b: float = Field(default=0.75, ge=0, le=1)
    language: str = Field(default="en", pattern="^[a-z]{2,3}$")
    stemmer: bool = True
    stopwords: bool = True

    @property
    def called(self) -> str:
        """The name by which its candidates are known."""
        return self.name or "bm25"


class Recorded(_Named):
    """What somebody else mined: a TREC run, lines of `qid pid score`, or, without a path, the negatives given."""

    kind: Literal["run"] = "run"
    path: str = ""

    @property
    def called(self) -> str:
        """The name by which its candidates are known."""
        return self.name or Path(self.path).name.split(".")[0] or "given"


AnyRetriever = Dense | Endpoint | Vectors | Lexical | Recorded
AnyEncoder = Dense | Endpoint


class CrossEncoder(Strict):
    """A reranker whose score takes the place of the retriever's: sentence-transformers' `CrossEncoder`.

    On the scale "sigmoid" the score is in [0, 1]; "own" is the model's, as its `predict` returns it.
    """

    model: str = Field(min_length=1)
    revision: str | None = None
    device: str = ""
    batch_size: int = Field(default=32, ge=1)
    max_length: int | None = Field(default=None, ge=1)
    scale: Literal["sigmoid", "own"] = "sigmoid"


@dataclass(frozen=True, slots=True)
class Recipe:
    """How negatives are mined.

    Attributes:
        retrievers: who finds candidates.
        combine: with several: "rrf" = one list by reciprocal rank fusion, "union" = each its own list and its quota.
        quotas: how many negatives each retriever gives at the most, by name; without, equal parts.
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

    @property
    def fused(self) -> bool:
        """Whether several retrievers make one list."""
        return len(self.retrievers) > 1 and self.combine == "rrf"

    @property
    def mixed(self) -> bool:
        """Whether a query's negatives come from lists whose scores are on several scales."""
        return len(self.retrievers) > 1 and self.combine == "union" and self.crossencoder is None

    def quota(self, name: str) -> int:
        """Return how many negatives a retriever gives to a union, at the most."""
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


_Part = TypeVar("_Part", bound=Strict)
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
    return replace(recipe, retrievers=tuple([fresh if each is meant[0] else each for each in recipe.retrievers]))


def load(path: Path) -> Recipe:
    """Read a file.

    Raises:
        SettingsError: with every problem, each with its line.
    """
    try:
        text = path.read_text("utf-8")
    except (OSError, UnicodeDecodeError) as error:
        raise SettingsError(f"{path} cannot be read: {error}", hint="name a YAML file after -c") from error
    return parse(text, str(path), path.resolve().parent)


def parse(text: str, name: str = "config", folder: Path = Path()) -> Recipe:
    """Read the text of a file; `name` is for messages, paths are relative to `folder`.

    Raises:
        SettingsError: with every problem, each with its line.
    """
    read = parsed(text, name, _File, _TAGS)
    try:
        return Recipe(
            retrievers=tuple(_placed(each, folder) for each in read.retrievers),
            combine=read.combine,
            quotas=read.quotas,
            crossencoder=read.crossencoder and _placed(read.crossencoder, folder),
            guide=read.guide and _placed(read.guide, folder),
            depth=read.depth,
            reach=read.reach,
            selection=selection_of(read, name),
        )
    except SettingsError as error:
        raise SettingsError(f"{name}: {error.message.removeprefix(f'{name}: ')}", hint=error.hint) from error


def _placed(each: _Part, folder: Path) -> _Part:
    """Return a part of a recipe whose paths no longer depend on where one stands."""
    names: tuple[str, ...] = ()
    match each:
        case Vectors():
            names = ("documents", "queries", "document_ids", "query_ids")
        case Recorded():
            names = ("path",)
        case Dense() | CrossEncoder() if (folder / each.model).is_dir():
            names = ("model",)
    return each.model_copy(update={name: str(folder / place) for name in names if (place := getattr(each, name))})


def _looking_at(rule: Any, score: str) -> Any:
    return replace(rule, score=score) if getattr(rule, "score", None) == RETRIEVER else rule


def of_options(
    *,
    retriever: str = "dense",
    model: str = PACKAGED,
    runs: Sequence[str] = (),
    crossencoder: str | None = None,
    guide: str | None = None,
    index: _Index = "auto",
    precision: _Precision = "float32",
    language: str = "en",
    depth: int = DEPTH,
    num_negatives: int | None = NUM_NEGATIVES,
    **options: Any,
) -> Recipe:
    """Read a command line's options.

    Args:
        retriever: "dense", "bm25", or "hybrid" = both, by reciprocal rank fusion; "none" = the runs alone.
        model: of the dense retriever: name or folder.
        runs: files of what somebody else mined, each a retriever too.
        crossencoder: a reranker's name or folder.
        guide: name or folder of an embedding model for the filter `guide_model`, which it brings along.
        index: the dense retriever's.
        precision: of its index.
        language: of BM25's stemmer and stop words.
        depth: see `Recipe`.
        num_negatives: for a query.
        options: see `selection.from_options`.

    Raises:
        SettingsError: a value that cannot be.
    """
    dense, lexical = (
        _made(Dense, model=model, index=index, precision=precision),
        _made(Lexical, language=language),
    )
    known: dict[str, tuple[AnyRetriever, ...]] = {
        "dense": (dense,),
        "bm25": (lexical,),
        "hybrid": (dense, lexical),
        "none": (),
    }
    if retriever not in known:
        raise SettingsError(f"--retriever {retriever!r} is none", hint=f"one of: {', '.join(known)}")
    selection = from_options(num_negatives=num_negatives, **options)
    first, rest = selection.filters[: len(POSITIVES)], selection.filters[len(POSITIVES) :]
    filters = (*first, *([GuideModel()] if guide is not None else []), *rest)
    if retriever == "hybrid" and not crossencoder:  # a fused list has no scores to speak of
        filters = tuple(_looking_at(each, dense.called) for each in filters)
        selection = replace(selection, sampler=_looking_at(selection.sampler, dense.called))
    selection = replace(selection, filters=filters)
    return Recipe(
        retrievers=(*known[retriever], *[_made(Recorded, path=path) for path in runs]),
        crossencoder=_made(CrossEncoder, model=crossencoder) if crossencoder is not None else None,
        guide=_made(Dense, model=guide) if guide is not None else None,
        depth=depth,
        selection=selection,
    )


def _made(kind: type[_Part], **values: Any) -> _Part:
    """Build a part of a recipe from options.

    Raises:
        SettingsError: a value that cannot be.
    """
    try:
        return _placed(kind(**values), Path.cwd())
    except ValidationError as error:
        found = error.errors()[0]
        told = f"{found['loc'][0]} {found['input']!r} cannot be: {found['msg']}"
        raise SettingsError(told, hint="type: relabel mine --help") from error
