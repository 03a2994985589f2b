"""Of which family a model is: a judge that is a relative of the generator shares its blind spots."""

import re
from collections.abc import Iterator, Mapping, Sequence
from typing import Final

from relabel import config

_RELATIVES: Final[Mapping[str, str]] = {
    "chatgpt": "gpt", "o": "gpt", "davinci": "gpt", "mixtral": "mistral", "ministral": "mistral",
    "codestral": "mistral", "devstral": "mistral", "magistral": "mistral", "codellama": "llama", "tinyllama": "llama",
    "vicuna": "llama", "qwq": "qwen", "gemma": "gemini",
}  # fmt: skip
"""Models whose name begins otherwise than their family's."""

_PREFIXES: Final = ("meta-", "google-", "openai-", "us.", "eu.", "anthropic.", "ft:")
_NAME: Final = re.compile(r"[a-z]+")


def family(model: str) -> str:
    """Return the family of a model by its name: the letters with which the part after the last slash begins.

    "gpt-4o-mini" and "openai/gpt-5" are "gpt", "meta-llama/Llama-3.1-8B" is "llama". A few relatives are known by name.
    "" where a name begins with no letter.
    """
    name = model.lower().rstrip("/").rpartition("/")[2]
    for prefix in _PREFIXES:
        name = name.removeprefix(prefix)
    found = _NAME.match(name)
    return _RELATIVES.get(found.group(), found.group()) if found else ""


def warnings_of(judge: config.Settings, generators: Sequence[str]) -> Iterator[str]:
    """Say where the judges are no independent ones: no language model among them, or a relative of the generator."""
    models = {
        name: getattr(stage.engine, "model", "")
        for name, stage in zip(judge.names, judge.stages, strict=True)
        if isinstance(stage, config.LLM)
    }
    if not models:
        yield (
            "no language model judges: rules and embeddings take a near miss for an answer, and refuse near-copies,"
            " rule-made ones too; name a cascade with an LLM stage: `judge: FILE`"
        )
    for name, model in models.items():
        for generator in generators:
            if model and family(model) and family(model) == family(generator):
                yield (
                    f"judge {name} ({model}) and generator {generator} are of one family, {family(model)}: a relative"
                    " shares the generator's errors; a judge of another family finds more of them"
                )
