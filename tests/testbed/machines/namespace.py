"""A bare network namespace on a fabric: for a load balancer's data plane, or for clients of a load.

It has an address of its own and shares everything else with us. Not a machine: it neither boots nor crashes.
"""

import os
from collections.abc import Sequence
from pathlib import Path

from testbed.child import Child
from testbed.machines.host import Host


class Namespace(Host):
    """A network namespace that lives from `start()` to `end()`, held by a process that does nothing."""

    _holder: Child | None = None

    async def start(self) -> None:
        """Make it and plug it in."""
        told, tells = os.pipe()
        try:
            script = f"echo > /proc/self/fd/{tells}; exec sleep infinity"
            argv = ["unshare", "--net", "/bin/sh", "-c", script]
            log = self.folder / "holder.log"
            self._holder = Child(argv, log=log, cgroup=self._run.cgroup, pass_fds=[tells])
        finally:
            os.close(tells)
        with os.fdopen(told, "rb") as pipe:
            pipe.readline()  # milliseconds: until then the process is still in our own namespace
        await self.link.attach(self._holder.pid)

    async def end(self) -> None:
        """Remove it, with its addresses. What was spawned in it must have been stopped before."""
        if self._holder is not None:
            await self._holder.stop()
        await self.link.detach()

    def inside(self, argv: Sequence[str | Path]) -> list[str]:
        assert self._holder is not None, f"namespace {self.name} was not started"
        return ["nsenter", f"--net=/proc/{self._holder.pid}/ns/net", "--", *map(str, argv)]
