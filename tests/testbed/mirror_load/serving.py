"""Watches that no two nodes of a mirror ever serve at once, by their own word."""

import asyncio
from types import TracebackType

from testbed.mirror import Mirror, Node

PAUSE_SECONDS = 0.01


class OneServes:
    """From `async with` to its end. A daemon that says nothing (stopped, killed) answers no file operation either."""

    def __init__(self, pair: Mirror) -> None:
        self._pair = pair
        self._task: asyncio.Task[None] | None = None
        self.looks = 0

    async def __aenter__(self) -> "OneServes":
        self._task = asyncio.create_task(self._look())
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        assert self._task is not None
        self._task.cancel()
        await asyncio.gather(self._task, return_exceptions=True)
        if not self._task.cancelled() and (failure := self._task.exception()):
            raise failure
        assert self.looks, "nobody ever answered"

    async def _look(self) -> None:
        a, b = self._pair.a, self._pair.b
        while True:
            # One that serves before and after the other was seen to serve: both did, at that moment.
            first, other, again = await _serves(a), await _serves(b), await _serves(a)
            both = first is not None and first == again and other is not None
            assert not both, f"both serve: {first}, {other}"
            self.looks += None not in (first, again) or other is not None
            await asyncio.sleep(PAUSE_SECONDS)


async def _serves(node: Node) -> tuple[str, int] | None:
    """Its role and generation, if it serves."""
    status = await node.status_now()
    return (status["role"], status["generation"]) if status and status["serving"] else None
