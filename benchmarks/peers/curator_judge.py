"""bespokelabs-curator as its documentation has it for any OpenAI-compatible API: a subclass of `curator.LLM`,
`backend="openai"`, `base_url` in `backend_params`.

The clock runs from the data set in memory to the data set of answers: requests and responses on disk are part of what
it does. Its cache is a fresh folder, its telemetry and viewer are off.
"""  # noqa: D205 - one sentence

import argparse
import os
import tempfile
from importlib.util import find_spec
from pathlib import Path
from typing import Any

from measuring import measured, prompts

os.environ |= {"TELEMETRY_ENABLED": "false", "CURATOR_VIEWER": "false", "LITELLM_LOCAL_MODEL_COST_MAP": "True"}
_litellm = find_spec("litellm")
if _litellm and _litellm.origin:  # tiktoken would download what litellm brings along
    os.environ["TIKTOKEN_CACHE_DIR"] = str(Path(_litellm.origin).parent / "litellm_core_utils" / "tokenizers")

from bespokelabs import curator  # noqa: E402 - reads the environment
from datasets import Dataset  # noqa: E402

PLENTY = 10**9


class Judge(curator.LLM):  # type: ignore[misc]  # not installed where this is checked
    """Sends the messages as they are and keeps the text of the reply."""

    def prompt(self, row: dict[str, Any]) -> Any:
        """Return the messages of one row."""
        return row["messages"]

    def parse(self, row: dict[str, Any], response: str) -> dict[str, str]:
        """Return what becomes of it: a pair's number and the answer."""
        return {"number": row["number"], "answer": response}


def judge(rows: Dataset, url: str, model: str, concurrency: int, folder: str) -> int:
    """Ask everything; return how many answers the resulting data set holds."""
    settings: dict[str, Any] = {"base_url": url, "api_key": "none"}
    settings |= {"max_requests_per_minute": PLENTY, "max_tokens_per_minute": PLENTY}
    if concurrency:
        settings["max_concurrent_requests"] = concurrency
    generation = {"temperature": 0.0, "max_tokens": 256}
    llm = Judge(model_name=model, backend="openai", backend_params=settings, generation_params=generation)
    return sum(bool(answer) for answer in llm(rows, working_dir=folder).dataset["answer"])


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("requests", type=Path)
    parser.add_argument("--url", required=True)
    parser.add_argument("--model", required=True)
    parser.add_argument("--concurrency", type=int, required=True, help="0 = its own")
    asked = parser.parse_args()
    listed = [{"number": number, "messages": each} for number, each in enumerate(prompts(asked.requests))]
    rows = Dataset.from_list(listed)
    with tempfile.TemporaryDirectory() as folder:
        measured(lambda: judge(rows, asked.url, asked.model, asked.concurrency, folder))
