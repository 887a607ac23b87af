"""An event loop whose time passes at once: when nothing is ready, the clock jumps to the next thing that is due.

So code that sleeps, times out and paces itself runs as written, in no time and to the second. Only for what does no
I/O: a socket that becomes readable later would never be waited for.
"""

import asyncio
import selectors
from collections.abc import Callable, Coroutine
from typing import Any, TypeVar

T = TypeVar("T")

DAY = 86400.0


class _NoWaiting(selectors.SelectSelector):
    """Tells the loop how long it would have waited, and does not wait."""

    def __init__(self, passes: Callable[[float | None], None]) -> None:
        super().__init__()
        self._passes = passes

    def select(self, timeout: float | None = None) -> list[Any]:
        ready = super().select(0)
        if not ready:
            self._passes(timeout)
        return ready


class VirtualTimeLoop(asyncio.SelectorEventLoop):
    """An event loop with a clock of its own, `time()`, which begins at 1000 s."""

    def __init__(self) -> None:
        self._now = self._begin = 1000.0
        super().__init__(_NoWaiting(self._pass))

    def time(self) -> float:
        """The clock."""
        return self._now

    def _pass(self, seconds: float | None) -> None:
        if seconds is None:
            raise RuntimeError("everything waits, and nothing is due: this would hang for ever")
        self._now += seconds
        if self._now > self._begin + DAY:
            raise RuntimeError("a day has passed: this would go on for ever")


def in_virtual_time(story: Coroutine[Any, Any, T]) -> T:
    """Run `story` to its end."""
    with asyncio.Runner(loop_factory=VirtualTimeLoop) as runner:
        return runner.run(story)
