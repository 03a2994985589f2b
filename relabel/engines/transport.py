"""The wire to a model service: no answer takes all the memory there is, and none takes for ever.

`timeout` is of a silence: a server that sends a space now and then is never silent, and nothing bounds what it sends.
"""

import asyncio
from collections.abc import Callable
from contextvars import ContextVar
from typing import TYPE_CHECKING, Any, Final
from urllib.parse import urlsplit
from urllib.request import getproxies

from relabel.errors import SettingsError

if TYPE_CHECKING:
    import httpx2

LARGEST: Final = 64 * 2**20
"""Bytes of an answer, unpacked. The log-probabilities of 2,048 tokens are some ten million, of 20 choices each."""

WHOLE: Final = 10
"""How many times its `timeout` an attempt may take until its answer is whole. Some servers send a space now and then
while a model thinks, for as long as ten minutes."""

listener: ContextVar[Callable[[], None]] = ContextVar("listener", default=lambda: None)
"""Who hears that a part of an answer has come; set around an attempt."""


class Overrun(Exception):  # noqa: N818 - becomes a fault of one attempt, not an error that anyone sees
    """An answer that was not waited for, or not read, to its end.

    Attributes:
        fault: its name in `faults.FAULTS`.
    """

    def __init__(self, fault: str, words: str) -> None:
        super().__init__(words)
        self.fault = fault


def http_client(largest: int) -> "httpx2.AsyncClient":
    """Return a client that raises Overrun at an answer of more than `largest` bytes, and at one that takes too long.

    What is read piece by piece, a file, is bounded by its reader; until it begins it may take no longer than others.
    """
    import httpx2
    from openai import DefaultAioHttpClient

    class Client(DefaultAioHttpClient):
        async def send(self, request: httpx2.Request, *, stream: bool = False, **options: Any) -> httpx2.Response:
            silence = request.extensions.get("timeout", {}).get("read")
            seconds = silence and silence * WHOLE
            timer = asyncio.timeout(seconds)
            try:
                async with timer:
                    return await self._followed(request, stream=stream, **options)
            except TimeoutError:
                if not timer.expired():
                    raise
                raise Overrun("trickle", f"the answer was not whole after {seconds:g} s") from None

        async def _followed(self, request: httpx2.Request, *, stream: bool, **options: Any) -> httpx2.Response:
            """Follow redirections here: httpx reads what stands beside them, however long it is."""
            options["follow_redirects"] = False
            for _ in range(self.max_redirects + 1):
                response = await super().send(request, stream=True, **options)
                if stream and response.is_success:
                    return response
                told = await _read(response, largest)
                if response.next_request is None:
                    return told
                request = response.next_request
            raise httpx2.TooManyRedirects("redirected again and again", request=request)

    return Client()


async def _read(response: "httpx2.Response", largest: int) -> "httpx2.Response":
    """Return the response with all that belongs to it, unpacked.

    Raises:
        Overrun: that is too much.
    """
    import httpx2

    heard, pieces, size = listener.get(), [], 0
    try:
        async for piece in response.aiter_bytes():
            heard()
            size += len(piece)
            if size > largest:
                raise Overrun("large answer", f"the answer has more than {largest:,} bytes")
            pieces.append(piece)
    finally:
        await response.aclose()
    headers = response.headers.copy()
    headers.pop("content-encoding", None)
    return httpx2.Response(
        response.status_code, headers=headers, content=b"".join(pieces), request=response.request,
        extensions=response.extensions,
    )  # fmt: skip


def check_proxies() -> None:
    """Refuse what the environment names as proxies where it is no address.

    Raises:
        SettingsError: names the variable, and repeats nothing of it: it may hold a password.
    """
    for kind, address in getproxies().items():
        if kind not in {"http", "https", "all"}:
            continue
        try:
            parts = urlsplit(address if "://" in address else f"http://{address}")
            fine = bool(parts.hostname) and parts.port != 0 and parts.scheme in {"http", "https", "socks5", "socks5h"}
        except ValueError:  # of the port
            fine = False
        if not fine:
            name = f"{kind.upper()}_PROXY"
            raise SettingsError(f"{name} holds no address of a proxy", hint=f"type: export {name}=http://HOST:PORT")
