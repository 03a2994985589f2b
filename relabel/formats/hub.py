"""Data sets on the Hugging Face hub: Parquet and a card, in one commit."""

import re
import shutil
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from importlib.metadata import version
from pathlib import Path
from typing import Any, Final

from relabel.errors import InputError, RelabelError, ServiceError
from relabel.formats.base import Format

_URL: Final = re.compile(r"hf:/{1,2}(?P<rest>.*)", re.DOTALL)
_REPO: Final = re.compile(r"datasets/(?P<repo>[\w.-]+/[\w.-]+)/?")
_DATA: Final = "data/train-00000-of-00001.parquet"
_OLD: Final = re.compile(r"data/train-\d+-of-\d+\.parquet")
_SIZES: Final = ((10**3, "n<1K"), (10**4, "1K<n<10K"), (10**5, "10K<n<100K"), (10**6, "100K<n<1M"), (10**7, "1M<n<10M"),
    (10**8, "10M<n<100M"), (10**9, "100M<n<1B"))  # fmt: skip
_LOGIN: Final = "type: hf auth login"


def repo_of(path: Path | str) -> str | None:
    """Return the "ORG/NAME" that a name such as `hf://datasets/ORG/NAME` stands for; None where it is no such name.

    Raises:
        InputError: it is one, but not of a whole data set.
    """
    url = _URL.fullmatch(str(path))
    if url is None:
        return None
    found = _REPO.fullmatch(url["rest"])
    if found is None:
        raise InputError(f"{path}: is no data set of the hub", hint="Write it as hf://datasets/ORG/NAME.")
    return found["repo"]


class Remote:
    """A data set on the hub; made at once, so that what refuses it refuses before the work is done.

    Args:
        repo: "ORG/NAME".
        public: who may see it, if it is not there yet; one that is there stays as it is.

    Raises:
        InputError: nobody is logged in, the hub does not know the token, or it may not write there.
        ServiceError: the hub cannot be reached, or fails.
    """

    def __init__(self, repo: str, *, public: bool) -> None:
        from huggingface_hub import HfApi, get_token

        if get_token() is None:
            raise InputError(f"{repo}: to write to the hub you must be logged in", hint=_LOGIN)
        self._repo = repo
        self._api = HfApi(library_name="relabel", library_version=version("relabel"))
        with _said(repo):
            self._api.create_repo(repo, repo_type="dataset", private=not public, exist_ok=True)

    @contextmanager
    def table(self) -> Iterator[Path]:
        """Make a place for a Parquet file; yields its name."""
        folder = Path(tempfile.mkdtemp(prefix="relabel-"))
        try:
            yield folder / "train.parquet"
        except BaseException:
            shutil.rmtree(folder, ignore_errors=True)
            raise

    def publish(self, table: Path, card: str) -> None:
        """Replace the data set's train split by a Parquet file; a card is written only where there is none.

        Raises:
            InputError: the token may not write there.
            ServiceError: the hub cannot be reached, or fails; says where the file is.
        """
        from huggingface_hub import CommitOperationAdd, CommitOperationDelete

        try:
            with _said(self._repo):
                there = self._api.list_repo_files(self._repo, repo_type="dataset")
                operations: list[Any] = [
                    CommitOperationDelete(name) for name in there if _OLD.fullmatch(name) and name != _DATA
                ]
                operations.append(CommitOperationAdd(_DATA, table))
                if "README.md" not in there:
                    operations.append(CommitOperationAdd("README.md", card.encode("utf-8", "replace")))
                self._api.create_commit(
                    self._repo, operations, commit_message="Upload by relabel", repo_type="dataset"
                )  # fmt: skip
        except RelabelError as error:
            again = f"hf upload {self._repo} {table} {_DATA} --repo-type dataset"
            error.hint = f"{error.hint}; what was made is kept in {table}, and goes there by: {again}"
            raise
        shutil.rmtree(table.parent, ignore_errors=True)


@contextmanager
def _said(repo: str) -> Iterator[None]:
    """Turn what the hub says, or does not say, into one clear message."""
    from huggingface_hub.errors import HfHubHTTPError, HFValidationError, HTTPError  # type: ignore[attr-defined]

    try:
        yield
    except HFValidationError as error:
        raise InputError(f"{repo}: {error}", hint="Write it as hf://datasets/ORG/NAME.") from error
    except HfHubHTTPError as error:
        raise _refusal(repo, error.response.status_code, error.server_message or "") from error
    except (HTTPError, OSError, RuntimeError, ValueError) as error:  # the last two: an upload in parts that goes wrong
        raise ServiceError(
            f"{repo}: the hub cannot be reached: {str(error) or type(error).__name__}", hint="Try again later"
        ) from error


def _refusal(repo: str, status: int, words: str) -> RelabelError:
    said = f": {words}" if words else ""
    match status:
        case 401:
            return InputError(f"{repo}: the hub does not know your token{said}", hint=_LOGIN)
        case 403:
            return InputError(
                f"{repo}: your token may not write there{said}",
                hint="Name a data set of your own, or log in by a token that may write: hf auth login",
            )
        case 404:
            return InputError(f"{repo}: the hub has no such place{said}", hint="Check the name of the organisation")
        case _:
            return ServiceError(f"{repo}: the hub answered {status}{said}", hint="Try again later")


def card(repo: str, table: Path, form: Format, examples: int, made: str) -> str:
    """Return the card of a data set: front matter for the hub, then what it is and how it was made.

    Args:
        repo: "ORG/NAME".
        table: the Parquet file.
        form: of its rows.
        examples: how many it was made of.
        made: how it was made, as a sentence; "" for none.
    """
    import pyarrow.parquet as pq
    import yaml

    with pq.ParquetFile(table) as file:
        rows, schema = file.metadata.num_rows, file.schema_arrow
    head = {
        "pretty_name": repo.partition("/")[2],
        "task_categories": ["text-retrieval"],
        "size_categories": [next((name for most, name in _SIZES if rows < most), "n>1T")],
        "tags": ["hard-negatives", "retrieval", "relabel"],
        "configs": [{"config_name": "default", "data_files": [{"split": "train", "path": "data/train-*"}]}],
    }
    lines = [
        f"# {head['pretty_name']}",
        "",
        f"Training data for retrieval: {examples:,} queries with their positives and hard negatives, in {rows:,} rows.",
        f"The rows are in the format `{form.name}` ({form.shape}).",
        "",
        "| column | type |",
        "|---|---|",
        *(f"| `{column.name}` | `{column.type}` |" for column in schema),
        "",
        *([made, ""] if made else []),
        f"Written by relabel {version('relabel')}.",
    ]
    return f"---\n{yaml.safe_dump(head, sort_keys=False, allow_unicode=True)}---\n\n" + "\n".join(lines) + "\n"
