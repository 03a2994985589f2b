"""Time as engines wait for it."""

import asyncio
import time
from collections.abc import Callable


class Clock:
    """Monotonic time: when the machine's clock is set to another hour, no wait gets longer or shorter."""

    def now(self) -> float:
        """Return seconds since some moment."""
        return time.monotonic()

    async def sleep(self, seconds: float) -> None:
        """Let others work for so long."""
        await asyncio.sleep(seconds)

    def later(self, seconds: float, function: Callable[..., object], *arguments: object) -> None:
        """Call a function in the running event loop after so many seconds."""
        asyncio.get_running_loop().call_later(seconds, function, *arguments)
