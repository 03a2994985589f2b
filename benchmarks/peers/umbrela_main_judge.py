"""umbrela's `GPTJudge` from its repository, which asks several prompts at once (8 unless told otherwise).

All pairs go into one call, so that it is never idle between queries. The openai package takes the address from
OPENAI_BASE_URL. The template holds {examples}, {query} and {passage}; here the passage is the whole prompt, so that the
text that is sent is that of the others, under umbrela's own system message.
"""

import argparse
import contextlib
import os
import sys
import tempfile
from pathlib import Path

from measuring import Messages, measured, prompts
from umbrela.gpt_judge import GPTJudge


def judge(requests: list[Messages], model: str, concurrency: int) -> int:
    """Ask everything; return how many answers came."""
    texts = [("", "\n\n".join(message["content"] for message in messages)) for messages in requests]
    with tempfile.NamedTemporaryFile("w", suffix=".yaml") as template:
        template.write('prefix_user: "{examples}{query}{passage}"')
        template.flush()
        at_once = {"max_concurrency": concurrency} if concurrency else {}
        asker = GPTJudge("", model, prompt_file=template.name, prompt_type=None, **at_once)
    with contextlib.redirect_stdout(sys.stderr):
        return sum(bool(each["prediction"]) for each in asker.judge(texts, preprocess=False))


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("requests", type=Path)
    parser.add_argument("--url", required=True)
    parser.add_argument("--model", required=True)
    parser.add_argument("--concurrency", type=int, required=True, help="0 = its own")
    asked = parser.parse_args()
    os.environ |= {"OPENAI_BASE_URL": asked.url, "OPENAI_API_KEY": "none"}
    requests = list(prompts(asked.requests))
    measured(lambda: judge(requests, asked.model, asked.concurrency))
