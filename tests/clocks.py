"""A clock for engines under test that waits in no time, and remembers for how long it was to wait."""

import asyncio
from collections.abc import Callable

from relabel.engines.clock import Clock


class Skipping(Clock):
    """Jumps ahead instead of waiting.

    Attributes:
        waits: seconds of each wait before another attempt, and of each sleep, in their order.
    """

    def __init__(self) -> None:
        self.waits: list[float] = []
        self._skipped = 0.0

    def now(self) -> float:
        """Return the time with all that was skipped."""
        return super().now() + self._skipped

    def _skip(self, seconds: float) -> None:
        self.waits.append(seconds)
        self._skipped += seconds

    async def sleep(self, seconds: float) -> None:
        """Give the others a turn."""
        self._skip(seconds)
        await asyncio.sleep(0)

    def later(self, seconds: float, function: Callable[..., object], *arguments: object) -> None:
        """Call soon."""
        self._skip(seconds)
        asyncio.get_running_loop().call_soon(function, *arguments)
