"""A bandwidth that all uploads of a run share."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable


class Pace:
    """Lets so many bytes a second through, in the order of asking; without a limit, all at once.

    What was not used is not saved up, so that a pause is not followed by a burst.
    """

    def __init__(
        self,
        bytes_per_s: float | None,
        *,
        clock: Callable[[], float] | None = None,
        sleep: Callable[[float], Awaitable[None]] = asyncio.sleep,
    ) -> None:
        self.bytes_per_s = bytes_per_s
        self._clock = clock or (lambda: asyncio.get_running_loop().time())
        self._sleep = sleep
        self._free_s = 0.0

    async def take(self, size: int) -> None:
        """Wait until `size` bytes may be sent."""
        if self.bytes_per_s is None:
            return
        now = self._clock()
        start = max(now, self._free_s)
        self._free_s = start + size / self.bytes_per_s
        if start > now:
            await self._sleep(start - now)

    def piece(self, largest: int, smallest: int) -> int:
        """Return how much to ask for at a time: about a quarter of a second's worth."""
        if self.bytes_per_s is None:
            return largest
        return int(min(max(self.bytes_per_s / 4, smallest), largest))
