"""Runs a member's checks: each in a task of its own, so that none ever waits for another.

The member's runner says which checks are to run now; a check that is taken away while it asks leaves no result,
so a result counts only if the member was serving for the whole of it.
"""

import asyncio
import logging
import re
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass

from farmstead_agent.checks.base import Asker, CheckState, Result, folded, pace
from farmstead_agent.checks.exec import ExecAsker, ForbiddenAsker
from farmstead_agent.checks.http import HttpAsker, HttpClient
from farmstead_agent.checks.process import ProcessAsker
from farmstead_agent.checks.tcp import TcpAsker
from farmstead_agent.clock import Clock
from farmstead_agent.metrics import Metrics
from farmstead_api.common import Check

SUPPORTED = ("process", "tcp", "http", "exec")
log = logging.getLogger("farmstead.checks")


@dataclass(frozen=True, slots=True, kw_only=True)
class CheckContext:
    """What checks need from around them."""

    label: str
    """<namespace>/<cluster>, for logs and metrics."""
    pids: Callable[[], tuple[int, ...]]
    client: HttpClient
    clock: Clock
    metrics: Metrics
    exec_allowed: bool


class InvalidAsker:
    """A check that can't be asked, and why."""

    def __init__(self, why: str) -> None:
        self._why = why

    async def ask(self) -> Result:
        """Never asks."""
        return Result(ok=False, message=self._why)

    async def pause(self, seconds: float) -> None:
        """Until the next interval."""
        await asyncio.sleep(seconds)


def asker(check: Check, context: CheckContext) -> Asker:
    """The way to ask this check."""
    try:
        if check.process is not None:
            return ProcessAsker(check.process, context.pids)
        if check.tcp is not None:
            return TcpAsker(check.tcp)
        if check.http is not None:
            return HttpAsker(check.http, context.client)
    except re.error as error:
        return InvalidAsker(f"its regular expression is wrong: {error}")
    if check.exec is not None:
        return ExecAsker(check.exec) if context.exec_allowed else ForbiddenAsker()
    return InvalidAsker(f"this agent knows no such kind of check; it has: {', '.join(SUPPORTED)}")


class Checks:
    """The checks of one member and what they have found."""

    def __init__(self, context: CheckContext, changed: Callable[[], None]) -> None:
        self._context = context
        self._changed = changed
        self._tasks: dict[str, tuple[Check, asyncio.Task[None]]] = {}
        self._asked_one = asyncio.Event()
        self.states: dict[str, CheckState] = {}

    def run(self, wanted: Iterable[Check]) -> None:
        """Let exactly these run; those that run already and have not changed go on undisturbed."""
        checks = {check.name: check for check in wanted}
        for name, (check, task) in list(self._tasks.items()):
            if checks.get(name) != check:
                task.cancel()
                del self._tasks[name]
        for name, check in checks.items():
            if name not in self._tasks:
                task = asyncio.create_task(self._loop(check), name=f"check {self._context.label} {name}")
                self._tasks[name] = (check, task)

    def forget(self, states: Mapping[str, CheckState] | None = None) -> None:
        """Stop all and begin anew from `states`: the application is another one now."""
        self.run(())
        self.states = dict(states or {})

    async def first_answers(self) -> None:
        """Wait until each running check has been asked once."""
        while any(name not in self.states or not self.states[name].asked for name in self._tasks):
            self._asked_one.clear()
            await self._asked_one.wait()

    async def _loop(self, check: Check) -> None:
        way = asker(check, self._context)
        clock = self._context.clock
        if check.initial_delay_seconds and check.name not in self.states:
            await asyncio.sleep(check.initial_delay_seconds)
        counted = float("-inf")
        while True:
            began = clock.monotonic()
            result = await self._asked(way, check)
            before = self.states.get(check.name, CheckState())
            counts = before.passed or began - counted >= check.interval_seconds
            if counts:
                counted = began
            self._keep(check, before, folded(before, check, result, counts=counts, now=clock.time()))
            await way.pause(max(0.0, began + pace(self.states[check.name], check) - clock.monotonic()))

    def _keep(self, check: Check, before: CheckState, after: CheckState) -> None:
        self.states[check.name] = after
        self._asked_one.set()
        if after.state is not before.state:
            log.info("%s: check %s is %s: %s", self._context.label, check.name, after.state, after.message)
            self._changed()

    async def _asked(self, way: Asker, check: Check) -> Result:
        try:
            async with asyncio.timeout(check.timeout_seconds):
                result = await way.ask()
        except TimeoutError:
            result = Result(ok=False, message=f"no answer within {check.timeout_seconds} s")
        except Exception as error:
            log.exception("%s: check %s failed in an unexpected way", self._context.label, check.name)
            result = Result(ok=False, message=f"{type(error).__name__}: {error}")
        self._context.metrics.checks.labels(self._context.label, check.name, "ok" if result.ok else "failed").inc()
        return result
