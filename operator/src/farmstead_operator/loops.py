"""One loop a cluster: woken by whatever concerns it, one pass at a time, never more often than a set pace.

The first wake of a quiet cluster is acted on at once; what comes in the next quarter of a second is one more pass. A
pass that fails is tried again with growing delays. A pass also happens by itself now and then: whatever was missed is
seen then. What a pass does is not known here.
"""

import asyncio
import logging
import random
import time
from collections.abc import Awaitable, Callable
from dataclasses import dataclass, field
from typing import Protocol

from farmstead_kube import KubeError, Transient
from farmstead_operator.clusters.observed import Key

log = logging.getLogger(__name__)

PACE_SECONDS = 0.25
RESYNC_SECONDS = 300.0
AT_ONCE = 32
"""Passes under way at one time. They mostly wait for the API server: too few, and a slow answer holds up everybody, and
wishes for one load balancer trickle in one PUT at a time."""
FIRST_BACKOFF = 0.5
LAST_BACKOFF = 60.0


@dataclass(frozen=True, slots=True)
class Outcome:
    """What a pass says about the next one."""

    wake_after: float | None = None
    over: bool = False
    """Nothing is left to look after: the loop ends, until somebody wakes it again."""


class Watcher(Protocol):
    """Who counts passes."""

    def reconciled(self, *, result: str, seconds: float) -> None:
        """A pass has ended: success, transient or error."""


@dataclass(slots=True)
class _Loop:
    woken: asyncio.Event = field(default_factory=asyncio.Event)
    task: asyncio.Task[None] | None = None
    failures: int = 0


class Loops:
    """All loops. Nothing runs before `open`."""

    def __init__(self, reconcile: Callable[[Key], Awaitable[Outcome]], watcher: Watcher) -> None:
        self._reconcile = reconcile
        self._watcher = watcher
        self._loops: dict[Key, _Loop] = {}
        self._open = False
        self._turn = asyncio.Semaphore(AT_ONCE)

    def wake(self, key: Key) -> None:
        """Something concerns this cluster."""
        loop = self._loops.setdefault(key, _Loop())
        loop.woken.set()
        if self._open and loop.task is None:
            loop.task = asyncio.create_task(self._run(key, loop), name=f"cluster {'/'.join(key)}")

    def open(self) -> None:
        """Begin: everything that there is has been seen."""
        self._open = True
        for key in list(self._loops):
            self.wake(key)

    async def close(self) -> None:
        """End all loops, wherever they are."""
        self._open = False
        tasks = [loop.task for loop in self._loops.values() if loop.task is not None]
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)

    async def _run(self, key: Key, loop: _Loop) -> None:
        wake_after: float | None = 0.0
        while True:
            await _woken(loop.woken, wake_after)
            async with self._turn:
                loop.woken.clear()
                outcome, pause = await self._pass(key, loop)
            if outcome.over and not loop.woken.is_set():
                del self._loops[key]
                return
            wake_after = outcome.wake_after
            await asyncio.sleep(pause)

    async def _pass(self, key: Key, loop: _Loop) -> tuple[Outcome, float]:
        """One pass; its outcome, and for how long to be deaf afterwards."""
        started = time.monotonic()
        result, least = "success", 0.0
        outcome = Outcome()
        try:
            outcome = await self._reconcile(key)
            loop.failures = 0
        except KubeError as error:
            result = "transient" if isinstance(error, Transient) else "error"
            least = error.retry_after if isinstance(error, Transient) else 0.0
            log.warning("cluster %s: %s", "/".join(key), error)
        except Exception:
            result = "error"
            log.exception("cluster %s: the pass failed; it is tried again", "/".join(key))
        seconds = time.monotonic() - started
        self._watcher.reconciled(result=result, seconds=seconds)
        if result == "success":
            return outcome, max(0.0, PACE_SECONDS - seconds)
        loop.failures += 1
        loop.woken.set()
        return outcome, max(least, _backoff(loop.failures))


async def _woken(event: asyncio.Event, wake_after: float | None) -> None:
    """Wait for the event, at most until something is due by itself."""
    due = RESYNC_SECONDS * random.uniform(0.8, 1.0)  # noqa: S311 - spreads load, guards nothing
    try:
        async with asyncio.timeout(due if wake_after is None else min(wake_after, due)):
            await event.wait()
    except TimeoutError:
        return


def _backoff(failures: int) -> float:
    ceiling: float = min(LAST_BACKOFF, FIRST_BACKOFF * 2 ** min(failures - 1, 10))
    return ceiling * random.uniform(0.5, 1.0)  # noqa: S311
