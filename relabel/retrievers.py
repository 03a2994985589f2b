"""Who a recipe may name: retrievers, encoders, a cross-encoder; their settings, checked, and the names they go by."""

from pathlib import Path
from typing import Final, Literal, TypeVar

from pydantic import Field

from relabel.engine_settings import Body
from relabel.selection import Strict

PACKAGED: Final = "all-MiniLM-L6-v2"

Index = Literal["auto", "flat", "ivf", "hnsw"]
Precision = Literal["float32", "float16", "pq"]


class _Named(Strict):
    """What can be called by a name of its own; without, by its model's or kind's."""

    name: str = ""


class _Indexed(_Named):
    """What is searched by vectors."""

    index: Index = "auto"
    precision: Precision = "float32"


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
    api_key_file: str | None = Field(default=None, min_length=1)
    dimensions: int | None = Field(default=None, ge=1)
    batch_size: int = Field(default=64, ge=1)
    concurrency: int = Field(default=8, ge=1)
    requests_per_minute: float | None = Field(default=None, gt=0)
    timeout: float = Field(default=60.0, gt=0, allow_inf_nan=False)
    max_retries: int = Field(default=6, ge=0)
    query_prompt: str = ""
    document_prompt: str = ""
    max_characters: int | None = Field(default=None, ge=1)
    extra_body: Body = Field(default_factory=dict)
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


Part = TypeVar("Part", bound=Strict)


def placed(each: Part, folder: Path) -> Part:
    """Return a part of a recipe whose paths no longer depend on where one stands."""
    names: tuple[str, ...] = ()
    match each:
        case Vectors():
            names = ("documents", "queries", "document_ids", "query_ids")
        case Recorded():
            names = ("path",)
        case Endpoint():
            names = ("api_key_file",)
        case Dense() | CrossEncoder() if (folder / each.model).is_dir():
            names = ("model",)
    return each.model_copy(update={name: str(folder / place) for name in names if (place := getattr(each, name))})
