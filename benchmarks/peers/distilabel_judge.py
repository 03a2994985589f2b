"""distilabel as its documentation has it for a custom endpoint: a pipeline of one `ChatGeneration` task.

Its LLM is `OpenAILLM` with `base_url`. It asks `input_batch_size` prompts at once (50 unless told otherwise) and waits
for the last of them before it begins the next batch. The clock runs from the data set in memory to the distiset; its
cache is a fresh folder.
"""

import argparse
import tempfile
from pathlib import Path

from datasets import Dataset
from distilabel.models import OpenAILLM
from distilabel.pipeline import Pipeline
from distilabel.steps.tasks import ChatGeneration
from measuring import measured, prompts


def judge(rows: Dataset, url: str, model: str, batch: int, folder: str) -> int:
    """Ask everything; return how many answers the resulting data set holds."""
    with Pipeline(name="judge", cache_dir=folder) as pipeline:
        ChatGeneration(
            llm=OpenAILLM(
                model=model,
                base_url=url,
                api_key="none",
                generation_kwargs={"temperature": 0.0, "max_new_tokens": 256},
            ),
            **({"input_batch_size": batch} if batch else {}),
        )
    given = {"dataset_batch_size": batch} if batch else {}
    answers = pipeline.run(dataset=rows, use_cache=False, **given)["default"]["train"]
    return sum(bool(answer) for answer in answers["generation"])


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("requests", type=Path)
    parser.add_argument("--url", required=True)
    parser.add_argument("--model", required=True)
    parser.add_argument("--concurrency", type=int, required=True, help="prompts in a batch; 0 = its own")
    asked = parser.parse_args()
    rows = Dataset.from_list([{"messages": each} for each in prompts(asked.requests)])
    with tempfile.TemporaryDirectory() as folder:
        measured(lambda: judge(rows, asked.url, asked.model, asked.concurrency, folder))
