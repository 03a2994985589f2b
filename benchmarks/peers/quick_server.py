"""A server of chat completions that answers at once, or after a fixed latency, and counts what it was asked.

It says what the prompt asks for and nothing else, so that it costs a small part of what any client does: aiohttp's own
parser, one digest for each request, an answer that was made before. The first line printed is the address. At `/stats`
it tells how many requests came, how many different ones, and what it took of the CPU itself.
"""

import argparse
import asyncio
import json
import resource
import socket
from hashlib import blake2b
from typing import Any, Final

from aiohttp import web

GRADED: Final = '{"O": 1}'
"""What umbrela reads as a grade."""

LISTED: Final = "<verdict><better>[Doc (3)]</better><worse>[]</worse></verdict>"


def completion(text: str) -> bytes:
    """Return the JSON of a completion that says `text`."""
    usage = {"prompt_tokens": 600, "completion_tokens": len(text.split()), "total_tokens": 600 + len(text.split())}
    message = {"role": "assistant", "content": text, "refusal": None}
    choice = {"index": 0, "message": message, "finish_reason": "stop", "logprobs": None}
    model = "gpt-4o-mini-2024-07-18"
    whole = {"id": "chatcmpl-1", "object": "chat.completion", "created": 1, "model": model, "choices": [choice]}
    return json.dumps(whole | {"usage": usage}).encode()


class QuickServer:
    """Answers, and counts by the digest of the messages: the other fields of the body are each client's own."""

    def __init__(self, latency: float) -> None:
        self._latency = latency
        self._yes, self._no, self._graded, self._listed = map(completion, ("Yes", "No", GRADED, LISTED))
        self._seen: set[bytes] = set()
        self._total = self._at_once = self._most_at_once = self._sum = 0

    async def completions(self, request: web.BaseRequest) -> web.StreamResponse:
        """Answer one request."""
        body = await request.json()
        messages = body["messages"]
        if not messages:  # curator begins with such a one, to read the rate limits off the answer's headers
            return web.json_response({"error": {"message": "no messages"}}, status=400)
        words = [f"{message['role']}\0{message['content']}" for message in messages]
        key = blake2b("\0".join(words).encode(), digest_size=8).digest()
        self._total += 1
        if key not in self._seen:
            self._seen.add(key)
            self._sum ^= int.from_bytes(key)
        self._at_once += 1
        self._most_at_once = max(self._most_at_once, self._at_once)
        try:
            await asyncio.sleep(self._latency)
        finally:
            self._at_once -= 1
        return web.Response(body=self._answer(messages[0]["content"], key), content_type="application/json")

    def _answer(self, first: str, key: bytes) -> bytes:
        if "<verdict>" in first:
            return self._listed
        if first.startswith("You are a helpful assistant"):
            return self._graded
        return self._yes if key[0] < 64 else self._no

    def stats(self) -> dict[str, Any]:
        """Return the counts; `prompts` is the same for the same set of prompts, in whatever order they came."""
        used = resource.getrusage(resource.RUSAGE_SELF)
        return {
            "requests": self._total,
            "distinct": len(self._seen),
            "prompts": f"{self._sum:016x}",
            "most_at_once": self._most_at_once,
            "cpu": used.ru_utime + used.ru_stime,
        }

    async def handle(self, request: web.BaseRequest) -> web.StreamResponse:
        """Route by the end of the path."""
        if request.path.endswith("/chat/completions"):
            return await self.completions(request)
        return web.json_response(self.stats())


async def serve(latency: float) -> None:
    """Serve until killed."""
    listening = socket.socket(proto=socket.IPPROTO_TCP)  # says TCP, or asyncio leaves Nagle's algorithm on
    listening.bind(("127.0.0.1", 0))
    listening.listen(4096)
    runner = web.ServerRunner(web.Server(QuickServer(latency).handle, access_log=None))
    await runner.setup()
    await web.SockSite(runner, listening, backlog=4096).start()
    print(f"http://127.0.0.1:{listening.getsockname()[1]}/v1", flush=True)
    await asyncio.Event().wait()


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--latency", type=float, default=0.0, help="seconds before each answer")
    asyncio.run(serve(parser.parse_args().latency))
