"""A mirror's agent, as small as it can be: runs a program where and while the daemon wishes it.

Registers the program's control group with the daemon, starts it when the directory is mounted and the wish is `run`,
stops it and says so when the wish is `stop`. Everything else, freezing and killing, is the daemon's.
"""

import asyncio
import sys
from collections.abc import Sequence
from contextlib import suppress
from pathlib import Path

from testbed.child import Child
from testbed.mirror import Node, Status
from testbed.run import REMOVAL_SECONDS, Run, remove_cgroup


class Agent:
    """Keeps a Python program (`program`: script and arguments) on one node, from `start` to `end`."""

    def __init__(self, run: Run, node: Node, program: Sequence[str | Path]) -> None:
        self.node = node
        self._program = program
        self._running: Child | None = None
        self._watching: asyncio.Task[None] | None = None
        self._cgroup = run.cgroup / f"mirror-{node.name}-{node.host.link.device}" if run.cgroup else None

    async def start(self) -> None:
        """Be there, and follow the daemon's wishes for as long as it lives."""
        await self.node.agent()
        if self._cgroup is not None:
            self._cgroup.mkdir(exist_ok=True)
            answer = await self.node.ask("cgroups", paths=[str(self._cgroup)])
            assert answer["ok"], answer
        self._watching = asyncio.create_task(self._follow())

    @property
    def program(self) -> Child | None:
        """The program, if it was started here and nobody stopped it."""
        return self._running

    async def crash(self) -> None:
        """The machine is off, or its daemon is gone and took the directory with it: the program is, too."""
        if self._watching is not None:
            self._watching.cancel()
            with suppress(asyncio.CancelledError):
                await self._watching
            self._watching = None
        if self._running is not None:
            await self._running.stop()
            self._running = None

    async def end(self) -> None:
        """Be gone, with the program and its control group."""
        await self.crash()
        if self._cgroup is not None:
            remove_cgroup(self._cgroup, deadline=asyncio.get_running_loop().time() + REMOVAL_SECONDS)

    async def pause(self) -> None:
        """Stop the program in order until `resume`: nothing is under way then. Nothing where it does not run."""
        if self._running is not None:
            await self._running.stop(grace_seconds=REMOVAL_SECONDS)

    def resume(self) -> None:
        """Start what was paused."""
        if self._running is not None:
            self._running = self._spawn()

    async def _follow(self) -> None:
        async for status in self.node.watch():
            await self._obey(status)

    async def _obey(self, status: Status) -> None:
        wish = status["application"]
        if wish == "run" and status["mounted"] and self._running is None:
            self._running = self._spawn()
        elif wish != "run" and self._running is not None:
            await self._running.stop(grace_seconds=REMOVAL_SECONDS if wish == "stop" else 0)
            self._running = None
        if wish == "stop":
            await self.node.ask("applicationStopped")

    def _spawn(self) -> Child:
        log = self.node.host.folder / "program.log"
        return Child([sys.executable, "-I", "-S", *self._program], log=log, cgroup=self._cgroup)
