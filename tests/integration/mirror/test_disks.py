"""Disks of a mirror that are full, fail or hang, below real daemons: the other copy goes on, and the log says why."""

import asyncio
import errno
import os
from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from testbed.controlplane import ControlPlane
from testbed.machines import Fabric
from testbed.mirror import PATIENCE_SECONDS, Mirror, mirror
from testbed.small_disk import small_disk
from testbed.trees import MIRRORS_OWN, differences, tree

LEASE_SECONDS = 1.5
DISKS_OWN = (MIRRORS_OWN, "lost+found")
"""What a copy may hold for itself."""


@pytest.fixture
async def idle(fabric: Fabric, control_plane: ControlPlane, namespace: str, tmp_path: Path) -> AsyncIterator[Mirror]:
    """A mirror that is not started, where an operation without an answer soon makes its peer lost."""
    settings = {"leaseSeconds": LEASE_SECONDS, "stallSeconds": 2 * LEASE_SECONDS}
    async with mirror(fabric, control_plane, namespace, tmp_path, **settings) as pair:
        yield pair


async def test_a_secondary_whose_disk_is_full_leaves_and_nobody_else_notices(idle: Mirror, tmp_path: Path) -> None:
    async with small_disk(idle.b.directory, tmp_path, megabytes=24):
        await idle.start()
        written, met = await asyncio.to_thread(fill, idle.a.directory / "large", 48)
        assert (written, met) == (48 << 20, None)
        assert (await idle.a.status())["role"] == "ALONE"
        assert (idle.a.directory / "large").stat().st_size == written
        assert idle.b.said("this copy can't hold an operation of the peer", reason="No space left on device")
        assert idle.a.said("the peer's disk failed, or is full")


async def test_a_primary_whose_disk_is_full_says_so_and_both_copies_stay_equal(idle: Mirror, tmp_path: Path) -> None:
    async with small_disk(idle.a.directory, tmp_path, megabytes=24):
        await idle.start()
        written, met = await asyncio.to_thread(fill, idle.a.directory / "large", 48)
        assert met == errno.ENOSPC
        assert 0 < written < 24 << 20
        # What the peer held already, and this disk could not, is taken back there.
        await idle.a.until("PRIM")
        await asyncio.to_thread((idle.a.directory / "large").unlink)
        # ext4 has the room again a moment after the unlink: this may meet a full disk, too.
        await asyncio.to_thread(fill, idle.a.directory / "small", 1)
        async with asyncio.timeout(PATIENCE_SECONDS):
            while differences(tree(idle.a.under, without=DISKS_OWN), tree(idle.b.under, without=DISKS_OWN)):
                await asyncio.sleep(0.05)


async def test_a_secondary_whose_disk_fails_leaves(idle: Mirror, tmp_path: Path) -> None:
    async with small_disk(idle.b.directory, tmp_path, megabytes=64, backed=24) as disk:
        await idle.start()
        await disk.fail()
        written, met = await asyncio.to_thread(fill, idle.a.directory / "large", 16)
        assert (written, met) == (16 << 20, None)
        await idle.a.until("ALONE")
        assert (await idle.b.status())["inconsistent"]
        assert idle.b.said("this copy can't hold an operation of the peer")


async def test_a_primary_whose_disk_fails_hands_over(idle: Mirror, tmp_path: Path) -> None:
    async with small_disk(idle.a.directory, tmp_path, megabytes=64, backed=24) as disk:
        await idle.start()
        (idle.a.directory / "before").write_bytes(b"x")
        await disk.fail()
        print(await asyncio.to_thread(fill, idle.a.directory / "large", 16))
        await idle.b.until("ALONE", mounted=True)
        assert (idle.b.directory / "before").read_bytes() == b"x"
        assert (await idle.a.status())["inconsistent"]


async def test_a_secondary_whose_disk_hangs_is_lost_and_comes_back(idle: Mirror, tmp_path: Path) -> None:
    async with small_disk(idle.b.directory, tmp_path, megabytes=64) as disk:
        await idle.start()
        async with disk.hangs(idle.b.under):
            assert await asyncio.to_thread(fill, idle.a.directory / "during", 1) == (1 << 20, None)
            assert (await idle.a.status())["role"] == "ALONE"
        await idle.paired()
        assert "Frozen" not in idle.a.roles()


async def test_a_primary_whose_disk_hangs_is_replaced(idle: Mirror, tmp_path: Path) -> None:
    async with small_disk(idle.a.directory, tmp_path, megabytes=64) as disk:
        await idle.start()
        async with disk.hangs(idle.a.under):
            writing = asyncio.create_task(asyncio.to_thread(fill, idle.a.directory / "during", 1))
            await idle.b.until("ALONE", mounted=True)
        assert (await writing)[1] is not None
        assert idle.a.said("the disk does not answer")
        # A disk that hung once is not trusted again by itself.
        assert (await idle.a.status())["inconsistent"]
        await idle.a.stop()
        idle.a.start()
        await idle.a.agent()
        await idle.a.until("SECOND")


def fill(path: Path, megabytes: int) -> tuple[int, int | None]:
    """Write so much; gives how much of it was acknowledged, and the error that ended it."""
    written = 0
    try:
        with path.open("wb", buffering=0) as file:
            for _ in range(megabytes):
                written += file.write(bytes(1 << 20))
            os.fsync(file.fileno())
    except OSError as error:
        return written, error.errno
    return written, None
