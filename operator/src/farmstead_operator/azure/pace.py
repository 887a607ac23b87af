"""How often Azure is asked: so many questions at once, then one in so many seconds. First come, first served.

For what can wait: Azure counts all requests of a subscription against the same limits, and a write that finds them used
up by questions is refused.
"""

from __future__ import annotations

import asyncio


class Pace:
    """The questions of one subscription."""

    def __init__(self, *, at_once: int, every_seconds: float) -> None:
        self._every = every_seconds
        self._ahead = (at_once - 1) * every_seconds
        self._next = 0.0
        """When the next question would be due if none had ever come early; by the event loop's clock."""

    async def turn(self) -> None:
        """Wait until one may be asked."""
        now = asyncio.get_running_loop().time()
        due = max(self._next, now)
        self._next = due + self._every
        await asyncio.sleep(max(0.0, due - self._ahead - now))

    def hold(self, seconds: float) -> None:
        """Azure wants to be left alone for so long: no new turn before."""
        self._next = max(self._next, asyncio.get_running_loop().time() + seconds + self._ahead)
