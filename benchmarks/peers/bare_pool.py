"""The least that asks an API: workers over an iterator of requests, the text of each reply read, nothing stored."""

import argparse
import asyncio
from collections.abc import Iterator
from pathlib import Path

import aiohttp  # noqa: F401 - imported before the clock starts, as the openai package would import it later
from measuring import Messages, measured, prompts
from openai import AsyncOpenAI, DefaultAioHttpClient


async def ask_all(requests: Iterator[Messages], url: str, model: str, workers: int) -> int:
    """Ask everything; return how many replies had a text."""
    texts = 0
    async with AsyncOpenAI(api_key="none", base_url=url, max_retries=0, http_client=DefaultAioHttpClient()) as client:

        async def work() -> None:
            nonlocal texts
            for messages in requests:
                answer = await client.chat.completions.create(
                    messages=messages,  # type: ignore[arg-type]
                    model=model,
                    temperature=0.0,
                    max_tokens=256,
                )
                texts += bool(answer.choices[0].message.content)

        await asyncio.gather(*[work() for _ in range(workers)])
    return texts


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("requests", type=Path)
    parser.add_argument("--url", required=True)
    parser.add_argument("--model", required=True)
    parser.add_argument("--concurrency", type=int, required=True)
    asked = parser.parse_args()
    measured(lambda: asyncio.run(ask_all(prompts(asked.requests), asked.url, asked.model, asked.concurrency)))
