"""A disk that forgets what was not flushed, as real ones do when the power goes.

`nbdkit` keeps every write in a cache of its own until the guest flushes; killed, the cache is gone and the image has
what was flushed. Killed in the middle of a flush, the image has some of it: a torn write, which was never acknowledged.
"""

import asyncio
import os
import signal
from pathlib import Path

from testbed.child import Child
from testbed.machines.commands import execute
from testbed.run import Run

SERVING_SECONDS = 20.0


class Disk:
    """An image with an ext4 file system, and while it has power the server that a machine reaches it through."""

    def __init__(self, name: str, folder: Path, *, mebibytes: int, run: Run) -> None:
        self.name = name
        self.image = folder / f"{name}.img"
        self.socket = folder / f"{name}.sock"
        self._mebibytes = mebibytes
        self._run = run
        self._server: Child | None = None

    async def make(self) -> None:
        """A new file system, whole from the beginning: nothing of it is left to be written later."""
        whole = "lazy_itable_init=0,lazy_journal_init=0"
        await execute("mke2fs", "-q", "-t", "ext4", "-E", whole, str(self.image), f"{self._mebibytes}M")

    async def switch_on(self) -> None:
        """Serve it, until `cut()`."""
        self.socket.unlink(missing_ok=True)
        self._server = Child(
            ["nbdkit", "--foreground", "--unix", self.socket, "--filter=cache", "file", self.image, "cache=writeback"],
            log=self.image.with_suffix(".log"),
            # The cache is a file without a name in there.
            env={**os.environ, "TMPDIR": str(self.image.parent)},
            cgroup=self._run.cgroup,
        )
        async with asyncio.timeout(SERVING_SECONDS):
            while not self.socket.exists():
                if not self._server.running:
                    raise RuntimeError(f"{self.name}: nbdkit has ended:\n{self._server.tail()}")
                await asyncio.sleep(0.01)

    def cut(self) -> None:
        """Its power goes, at this instant."""
        if self._server is not None:
            self._server.signal(signal.SIGKILL)

    async def gone(self) -> None:
        """Wait until the server that was cut has ended."""
        if self._server is not None:
            await self._server.wait()
