"""`mine_hard_negatives` by the parameters of sentence-transformers' function of that name, over `relabel mine`."""

from collections.abc import Mapping, Sequence
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import TYPE_CHECKING, Any, Final, Self

from relabel import minerun, screen_mined, selection, shaping
from relabel.errors import SettingsError
from relabel.judges.loaded import LoadedEncoder, LoadedScorer
from relabel.judges.vectors import Encoder, EncoderSettings
from relabel.mining.indexes import Kind
from relabel.pairs import AnyCorpus, Pairs
from relabel.recipe import Recipe
from relabel.retrievers import CrossEncoder, Dense, placed
from relabel.seeking import Loaded
from relabel.selection import Selection
from relabel.shaping import Layout

if TYPE_CHECKING:
    from datasets import Dataset

_NOT_HERE: Final = {
    "include_positives": "all candidates, positives among them by rank, are in candidates.jsonl of cache_folder",
    "use_multi_process": "one process encodes, on the model's own device; leave it out",
    "as_triplets": 'write output_format="triplet" or "n-tuple"',
    "margin": "write absolute_margin",
}
"""Parameters of sentence-transformers that have no meaning here, and what to do in their place."""


def mine_hard_negatives(
    dataset: "Dataset",
    model: Any,
    anchor_column_name: str | None = None,
    positive_column_name: str | None = None,
    corpus: AnyCorpus = None,
    cross_encoder: Any = None,
    range_min: int = 0,
    range_max: int | None = None,
    max_score: float | None = None,
    min_score: float | None = None,
    absolute_margin: float | None = None,
    relative_margin: float | None = None,
    num_negatives: int = 3,
    sampling_strategy: str = "top",
    query_prompt_name: str | None = None,
    query_prompt: str | None = None,
    corpus_prompt_name: str | None = None,
    corpus_prompt: str | None = None,
    include_positives: bool = False,  # noqa: FBT001, FBT002 - a place that users know
    output_format: str = "triplet",
    output_scores: bool = False,  # noqa: FBT001, FBT002
    batch_size: int = 32,
    faiss_batch_size: int = 16384,
    use_faiss: bool = False,  # noqa: FBT001, FBT002, ARG001 - searched exactly by faiss either way
    use_multi_process: Sequence[str] | bool = False,  # noqa: FBT001, FBT002
    verbose: bool = True,  # noqa: FBT001, FBT002
    cache_folder: Path | str | None = None,
    as_triplets: bool | None = None,  # noqa: FBT001
    margin: float | None = None,
    *,
    output_ids: bool = False,
    index: Kind = "flat",
    seed: int = 0,
) -> "Dataset":
    """Add hard negatives to pairs of a query and a positive.

    Parameters, their order and defaults, and the columns that come out, are those of sentence-transformers 6.2. What
    differs:

    - Not only a positive's very text is never a negative, but no copy of it in other typography and no near-copy
      either (see `relabel.recipe.Recipe`), and of equal texts one is taken.
    - A cross-encoder ranks and scores always; sentence-transformers leaves it aside, silently, where there is neither a
      margin nor a limit to the score. Its scores are those of its own `predict`.
    - Scores are cosines, whatever similarity the model names.
    - Random draws come from `seed` and the texts, not from a state of the process.
    - A column that is not there is an error, and so is an empty text.
    - Memory does not grow with queries or corpus beyond what is asked for in the end.

    Args:
        dataset: pairs; rows of one query are its positives.
        model: name or folder of a SentenceTransformer, or one that is loaded, which is used as it is.
        anchor_column_name: the queries; by default the first column.
        positive_column_name: the positives; by default the second column.
        corpus: texts to search besides the positives; a mapping gives their ids too.
        cross_encoder: name or folder of a CrossEncoder, or one that is loaded; scores candidates in the model's place.
        range_min: how many of those that are left are skipped.
        range_max: up to which number of those that are left are looked at. By default `range_min + num_negatives + p`
            with p the most positives that a query has, and `range_min + 10 num_negatives + p` where rules by score may
            remove candidates.
        max_score: the highest score of a negative.
        min_score: the lowest.
        absolute_margin: by how much a negative's score is below that of the lowest positive.
        relative_margin: the same, as a share of the positive's score.
        num_negatives: for a query.
        sampling_strategy: "top", "random", or another sampler of `relabel.selection.from_options`.
        query_prompt_name: one of the model's prompts.
        query_prompt: put in front of queries.
        corpus_prompt_name: one of the model's prompts.
        corpus_prompt: put in front of passages.
        include_positives: not here.
        output_format: "triplet", "n-tuple", "labeled-pair" or "labeled-list".
        output_scores: whether the scores of all texts come along; in labeled shapes in place of the labels.
        batch_size: texts that a model reads at a time, at the most.
        faiss_batch_size: of no effect: memory is bounded anyway.
        use_faiss: of no effect: faiss searches, and by `index` "flat" it misses nothing.
        use_multi_process: not here.
        verbose: whether progress and a report are shown.
        cache_folder: keeps all: what `relabel mine` writes, with rows, candidates, report and vectors. Called again it
            embeds nothing twice, killed it goes on. By default a temporary folder.
        as_triplets: sentence-transformers' old word for `output_format`; not here.
        margin: sentence-transformers' old word for `absolute_margin`; not here.
        output_ids: whether ids (`query_id`, `ids`; a pair's `docid`), ranks by the model from 1, positives among them
            (`ranks`; a pair's `rank`; a cross-encoder orders anew what the model found, positives among it too), and
            scores come along. None stands for what was not found. Take these columns out again before training.
        index: "flat" = exact, like sentence-transformers; "auto", "ivf" and "hnsw" for many millions of passages.
        seed: of random draws.

    Raises:
        InputError: the data set cannot be used; names row and column.
        SettingsError: parameters that cannot be, or not here; says what to write in their place.
        RunError: the folder holds something else.
    """
    refused = {
        "include_positives": include_positives or None, "use_multi_process": use_multi_process or None,
        "as_triplets": as_triplets, "margin": margin,
    }  # fmt: skip
    _refuse(refused, num_negatives=num_negatives, batch_size=batch_size, faiss_batch_size=faiss_batch_size)
    pairs = Pairs.of(dataset, anchor_column_name, positive_column_name, corpus)
    layout = Layout(
        shaping.shape_of(output_format), pairs.anchor, pairs.positive, num_negatives, output_scores, output_ids
    )  # fmt: skip
    query, document = _Prompt(query_prompt, query_prompt_name), _Prompt(corpus_prompt, corpus_prompt_name)
    models = _Models.of(model, cross_encoder, batch_size, query, document)
    by_score = [absolute_margin, relative_margin, max_score, min_score if cross_encoder is not None else None]
    most = pairs.most_positives()
    if range_max is None:
        range_max = range_min + num_negatives * (10 if any(rule is not None for rule in by_score) else 1) + most
    _check_window(range_min, range_max, num_negatives)
    chosen = selection.from_options(
        relative_margin=relative_margin, absolute_margin=absolute_margin, max_score=max_score, min_score=min_score,
        range_min=range_min, range_max=range_max, num_negatives=num_negatives, sampling_strategy=sampling_strategy,
        seed=seed,
    )  # fmt: skip
    recipe, loaded = models.recipe(index, range_max + most, chosen), models.loaded()
    with ExitStack() as stack:
        kept = cache_folder is not None
        folder = Path(cache_folder or stack.enter_context(TemporaryDirectory(prefix="relabel-")))
        minerun.check_folder(folder)
        material = pairs.write(folder / "cache")
        with screen_mined.Bars(quiet=not verbose) as bars:
            # the cache is for vectors: the next call may be about other data
            done = minerun.mine(material, recipe, folder, loaded=loaded, replace_other=True, progress=bars.progress)
        if verbose:
            screen_mined.mined(done, files=kept)
        return shaping.dataset_of(folder, layout, keep=kept)


def _refuse(not_here: Mapping[str, Any], **counts: int) -> None:
    """Refuse parameters that have no meaning here, and counts below 1."""
    for name, value in not_here.items():
        if value is not None:
            raise SettingsError(f"mine_hard_negatives of relabel takes no {name}", hint=_NOT_HERE[name])
    for name, count in counts.items():
        if count < 1:
            raise SettingsError(f"{name} is {count}", hint=f"set {name} to 1 or more")


def _check_window(range_min: int, range_max: int, num_negatives: int) -> None:
    """Refuse a window in which there is no room."""
    if range_min < 0:
        raise SettingsError(f"range_min is {range_min}", hint="set it to 0 or more: how many candidates are skipped")
    if range_max - range_min < num_negatives:
        raise SettingsError(
            f"{num_negatives} negatives cannot be found between range_min {range_min} and range_max {range_max}",
            hint="lower num_negatives or range_min, or raise range_max",
        )


@dataclass(frozen=True, slots=True)
class _Prompt:
    """A prompt by its text, or by its name among the model's; the text counts, as in sentence-transformers."""

    text: str | None
    name: str | None

    @property
    def wanting(self) -> bool:
        """Whether the model has to say what it is."""
        return self.text is None and self.name is not None

    def of(self, model: Any) -> str | None:
        """Return its text; None = the model's own."""
        if not self.wanting:
            return self.text
        known: Mapping[str | None, str] = model.prompts
        if self.name not in known:
            there = ", ".join(map(str, known)) or "none"
            raise SettingsError(f"the model has no prompt {self.name!r}", hint=f"it has: {there}")
        return known[self.name]


@dataclass(frozen=True, slots=True)
class _Models:
    """The two models: by name, to be loaded when they are needed, or as the caller has loaded them."""

    model: Any
    cross_encoder: Any
    batch_size: int
    query_prompt: str | None
    document_prompt: str | None

    @classmethod
    def of(cls, model: Any, cross_encoder: Any, batch_size: int, query: _Prompt, document: _Prompt) -> Self:
        """Find out what the prompts are.

        Raises:
            SettingsError: the model is none, or has no prompt of that name.
        """
        if isinstance(model, str | Path) and (query.wanting or document.wanting):
            model = Encoder(EncoderSettings(str(model))).model
        if not isinstance(model, str | Path):
            from sentence_transformers import SentenceTransformer

            if not isinstance(model, SentenceTransformer):
                raise _no_model("model", "SentenceTransformer", model)
        return cls(model, cross_encoder, batch_size, query.of(model), document.of(model))

    def recipe(self, index: Kind, reach: int, chosen: Selection) -> Recipe:
        """Return the recipe that names them."""
        size = self.batch_size
        dense = Dense(
            model=_name(self.model), index=index, batch_size=size,
            query_prompt=self.query_prompt, document_prompt=self.document_prompt,
        )  # fmt: skip
        here = Path.cwd()
        reranker = None
        if self.cross_encoder is not None:
            reranker = placed(CrossEncoder(model=_name(self.cross_encoder), batch_size=size, scale="own"), here)
        return Recipe((placed(dense, here),), crossencoder=reranker, depth=reach, reach=reach, selection=chosen)

    def loaded(self) -> Loaded:
        """Return those that are loaded.

        Raises:
            SettingsError: the cross-encoder is none.
        """
        encoder = None
        if not isinstance(self.model, str | Path):
            encoder = LoadedEncoder(self.model, self.query_prompt, self.document_prompt)
        return Loaded(encoder, self._scorer())

    def _scorer(self) -> LoadedScorer | None:
        model = self.cross_encoder
        if model is None or isinstance(model, str | Path):
            return None
        from sentence_transformers import CrossEncoder as Loaded

        if not isinstance(model, Loaded):
            raise _no_model("cross_encoder", "CrossEncoder", model)
        if model.num_labels != 1:
            raise SettingsError(
                f"the cross-encoder has {model.num_labels} labels, and candidates are ranked by a single score",
                hint="give a reranker with one label",
            )
        return LoadedScorer(model, self.batch_size)


def _name(model: Any) -> str:
    """Return what a model is called: its name or folder, where one that is loaded still knows it."""
    if isinstance(model, str | Path):
        return str(model)
    card, inner = getattr(model, "model_card_data", None), getattr(model, "transformers_model", None)
    return str(getattr(card, "base_model", None) or getattr(inner, "name_or_path", None) or "loaded")


def _no_model(name: str, wanted: str, given: Any) -> SettingsError:
    return SettingsError(
        f"{name} is a {type(given).__name__}, and neither a name nor a {wanted}",
        hint=f"give the name or folder of a model that sentence-transformers knows, or its {wanted}",
    )
