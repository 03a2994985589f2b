"""umbrela's `GPTJudge` from PyPI: one prompt after the other, zero examples, its own system message.

It speaks to OpenAI where the variables of Azure are empty, and the openai package takes the address from
OPENAI_BASE_URL. Its template is a file with {query} and {passage}; here it is the passage alone, which holds the whole
prompt, so that the text that is sent is that of the others.
"""

import argparse
import contextlib
import os
import sys
import tempfile
from pathlib import Path

from measuring import Messages, measured, prompts

_empty = {"OPEN_AI_API_KEY": "none", "AZURE_OPENAI_API_VERSION": "", "AZURE_OPENAI_API_BASE": ""}
os.environ |= _empty | {"OPENAI_API_KEY": "none"}

from umbrela.gpt_judge import GPTJudge  # noqa: E402 - reads the environment


def judge(requests: list[Messages], model: str) -> int:
    """Ask everything; return how many answers came."""
    texts = ["\n\n".join(message["content"] for message in messages) for messages in requests]
    with tempfile.NamedTemporaryFile("w", suffix=".txt") as template:
        template.write("{passage}")
        template.flush()
        asker = GPTJudge(qrel="", prompt_file=template.name, few_shot_count=0, engine=model)
    asked = {"query": {"text": "", "qid": "0"}, "candidates": [{"doc": {"segment": text}} for text in texts]}
    with contextlib.redirect_stdout(sys.stderr):
        return sum(bool(each["predition"]) for each in asker.judge(asked))


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("requests", type=Path)
    parser.add_argument("--url", required=True)
    parser.add_argument("--model", required=True)
    parser.add_argument("--concurrency", type=int, required=True, help="not used: it asks one at a time")
    asked = parser.parse_args()
    os.environ |= {"OPENAI_BASE_URL": asked.url, "DEPLOYMENT_NAME": asked.model}
    requests = list(prompts(asked.requests))
    measured(lambda: judge(requests, asked.model))
