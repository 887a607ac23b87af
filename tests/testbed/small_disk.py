"""A disk of one's own that can be full, fail or hang: ext4 on a loop device, mounted over a directory.

Its backing file is sparse and lies in memory. Where less memory is given than the disk promises, writing what is beyond
it is an I/O error, as with a thinly provisioned disk that nobody watched. Needs root.
"""

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, suppress
from dataclasses import dataclass
from pathlib import Path

from testbed.machines.commands import execute


@dataclass(frozen=True)
class Disk:
    """A mounted disk. Who uses it may go on using it when it is taken away: it is detached, not torn off."""

    _memory: Path

    async def fail(self) -> None:
        """From now on no block that was never written can be: EIO."""
        await asyncio.to_thread(_fill, self._memory / "filler")

    async def mend(self) -> None:
        """Undo `fail`."""
        (self._memory / "filler").unlink()

    @asynccontextmanager
    async def hangs(self, at: Path) -> AsyncIterator[None]:
        """Nothing that changes it returns meanwhile; `at`: where it is seen, if something else is mounted over it."""
        await execute("fsfreeze", "--freeze", str(at))
        try:
            yield
        finally:
            await execute("fsfreeze", "--unfreeze", str(at))


@asynccontextmanager
async def small_disk(over: Path, folder: Path, *, megabytes: int, backed: int | None = None) -> AsyncIterator[Disk]:
    """A disk of that size over the directory `over`; `backed`: how many megabytes of it there really are."""
    memory = folder / f"memory-{over.parent.name}"
    await asyncio.to_thread(memory.mkdir)
    await execute("mount", "-t", "tmpfs", "-o", f"size={backed or 2 * megabytes}m", "none", str(memory))
    image = memory / "image"
    try:
        await execute("truncate", "--size", f"{megabytes}M", str(image))
        await execute("mkfs.ext4", "-q", str(image))
        await execute("mount", "-o", "loop", str(image), str(over))
        try:
            yield Disk(memory)
        finally:
            # Whatever is mounted over it goes first.
            while f" {over} " in await execute("cat", "/proc/self/mounts"):
                await execute("umount", "--lazy", "--force", str(over))
    finally:
        await execute("umount", "--lazy", str(memory))


def _fill(path: Path) -> None:
    with suppress(OSError), path.open("wb", buffering=0) as file:
        while True:
            file.write(bytes(1 << 20))
