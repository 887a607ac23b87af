"""Kills an operator again and again, at moments that it chooses by what is under way at Azure, and keeps count.

A moment is waited for, never slept for: the emulator tells of every request that comes and every answer that goes. Most
moments are in the middle of a call: before it is carried out, after that and before the answer, or while the long
operation that it began runs.
"""

import asyncio
import contextlib
import itertools
import signal
from collections import Counter
from collections.abc import Callable
from enum import StrEnum
from functools import partial

from testbed.azure import AzureEmulator
from testbed.child import Child

WRITES = ("PUT", "DELETE")
LONGEST_WAIT = 4.0
"""Seconds until any call will do, and again until none has to be: what was waited for may never come again."""


class Moment(StrEnum):
    """When to strike."""

    WRITE = "a PUT or DELETE without its answer"
    OPERATION = "a long operation of ours under way"
    READ = "a read without its answer"
    START = "right after the start"
    QUIET = "nothing under way at Azure"


ORDER = (Moment.WRITE, Moment.OPERATION, Moment.READ, Moment.WRITE, Moment.START, Moment.OPERATION, Moment.WRITE)


class Killer:
    """Strikes at the process that `victim` gives: the one that runs now."""

    def __init__(self, azure: AzureEmulator, victim: Callable[[], Child]) -> None:
        self._azure = azure
        self._victim = victim
        self._order = itertools.cycle(ORDER)
        self.struck: Counter[Moment] = Counter()
        """What was under way at each kill."""

    async def strike(self, times: int) -> None:
        """Kill so many times."""
        for _ in range(times):
            wanted = next(self._order)
            if wanted is not Moment.START:
                await self._await(partial(self._is, wanted))
                await self._await(lambda: self.now() is not Moment.QUIET)
            await self._kill()

    def _is(self, moment: Moment) -> bool:
        return self.now() is moment

    async def _await(self, reached: Callable[[], bool]) -> None:
        with contextlib.suppress(TimeoutError):
            await self._azure.wait_until(reached, seconds=LONGEST_WAIT)

    async def _kill(self) -> None:
        victim = self._victim()
        moment = self.now()
        victim.signal(signal.SIGKILL)
        self.struck[moment] += 1
        await victim.wait()
        while self._victim() is victim:  # its keeper is about to start the next one
            await asyncio.sleep(0)

    def now(self) -> Moment:
        """What is under way at Azure; the most interesting of it."""
        methods = [entry.method for entry in self._azure.log.unanswered if entry.path.startswith("/subscriptions")]
        if any(method in WRITES for method in methods):
            return Moment.WRITE
        if methods:
            return Moment.OPERATION if self._azure.network.operations.writes() else Moment.READ
        return Moment.OPERATION if self._azure.network.operations.writes() else Moment.QUIET

    @property
    def kills(self) -> int:
        """How many so far."""
        return self.struck.total()

    @property
    def in_flight(self) -> int:
        """How many of them with a call to Azure under way: a request without an answer, or a long operation."""
        return self.kills - self.struck[Moment.QUIET]

    def __str__(self) -> str:
        told = ", ".join(f"{count} with {moment}" for moment, count in self.struck.most_common())
        return f"{self.kills} kills, {self.in_flight} of them with an ARM call in flight: {told}"
