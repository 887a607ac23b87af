"""What may go wrong around a mirror while programs work in it: pauses, cuts, a witness that is away or gone, disks.

Everything acknowledged is there afterwards, on both sides and equal; no two nodes serve at once; the log says what was.
"""

import asyncio
import os
import signal
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

import pytest

from testbed.controlplane import ControlPlane
from testbed.machines import Fabric
from testbed.machines.link import Direction
from testbed.mirror import WITNESS, Mirror, Node, mirror
from testbed.mirror_load.crowd import Crowd
from testbed.mirror_load.serving import OneServes
from testbed.small_disk import small_disk
from testbed.trees import differences, tree

LEASE_SECONDS = 1.5


class Work:
    """A crowd at work in a mirror, and what must hold of it at the end."""

    def __init__(self, pair: Mirror, folder: Path) -> None:
        self.pair = pair
        self.crowd = Crowd(folder)

    async def start(self) -> None:
        """On the first primary."""
        self.crowd.make_folders(self.pair.a.directory)
        self.crowd.start(self.pair.a.directory)
        await self.crowd.at_work()

    async def over(self, *, errors: bool = False) -> None:
        """Both are there again: nothing acknowledged is missing, both copies are equal. `errors`: programs met some."""
        primary, other = await self.pair.paired()
        await self.crowd.at_work()
        assert await self.crowd.stop() is not errors
        self.crowd.check(primary.under, other.under)
        assert not differences(tree(primary.under), tree(other.under))


@asynccontextmanager
async def at_work(
    fabric: Fabric, control_plane: ControlPlane, namespace: str, folder: Path, **settings: object
) -> AsyncIterator[Work]:
    """A mirror with a crowd at work in it, while nobody else serves."""
    async with mirror(fabric, control_plane, namespace, folder, leaseSeconds=LEASE_SECONDS, **settings) as pair:
        await pair.start()
        async with OneServes(pair):
            work = Work(pair, folder / "ledgers")
            await work.start()
            yield work


@pytest.fixture
async def work(fabric: Fabric, control_plane: ControlPlane, namespace: str, tmp_path: Path) -> AsyncIterator[Work]:
    async with at_work(fabric, control_plane, namespace, tmp_path) as work:
        yield work


def roles(node: Node) -> list[str]:
    """The roles it has had since the start, by its log."""
    return [line["role"] for line in node.log() if line["message"] == "role"]


def said(node: Node, message: str, **fields: str) -> bool:
    """Whether its log says so, in fields that begin so."""
    lines = (line for line in node.log() if line["message"] == message)
    return any(all(str(line[name]).startswith(value) for name, value in fields.items()) for line in lines)


# -- pauses


@pytest.mark.parametrize("who", ["a", "b"])
async def test_a_short_pause_changes_no_role(work: Work, who: str) -> None:
    node = work.pair.nodes[who]
    before = [len(roles(node)) for node in work.pair.nodes.values()]
    node.daemon.signal(signal.SIGSTOP)
    await asyncio.sleep(LEASE_SECONDS / 4)
    node.daemon.signal(signal.SIGCONT)
    await work.over()
    assert [len(roles(node)) for node in work.pair.nodes.values()] == before


async def test_a_primary_that_is_paused_for_long_finds_itself_deposed(work: Work) -> None:
    a, b = work.pair.a, work.pair.b
    a.daemon.signal(signal.SIGSTOP)
    await b.until("ALONE", mounted=True)
    a.daemon.signal(signal.SIGCONT)
    await a.until("SECOND", mounted=False)
    assert "Frozen" in roles(a)
    # Whatever it held was answered with an error.
    await work.over(errors=True)


async def test_a_secondary_that_is_paused_for_long_is_made_equal_again(work: Work) -> None:
    a, b = work.pair.a, work.pair.b
    b.daemon.signal(signal.SIGSTOP)
    await a.until("ALONE")
    b.daemon.signal(signal.SIGCONT)
    await b.until("SECOND")
    await work.over()
    assert "Frozen" not in roles(a)
    assert "Taking" not in roles(b) or roles(b)[-1] == "Second"


# -- cuts


@pytest.mark.parametrize("direction", ["in", "out"])
@pytest.mark.parametrize("who", ["a", "b"])
async def test_a_one_way_cut_leaves_one_that_serves(work: Work, who: str, direction: Direction) -> None:
    a, b = work.pair.a, work.pair.b
    node, peer = work.pair.nodes[who], b if who == "a" else a
    await node.host.cut_from(peer.host.address, directions={direction})
    # The primary hears no answers, or its beacons don't arrive: either way it is the first to doubt.
    await a.until("ALONE", mounted=True)
    await node.host.heal_from(peer.host.address, directions={direction})
    await work.over()
    assert "Frozen" not in roles(a)


# -- the witness


async def test_a_mirror_goes_on_without_its_witness_until_a_role_has_to_change(work: Work, fabric: Fabric) -> None:
    a, b = work.pair.a, work.pair.b
    for node in (a, b):
        await node.host.cut_from(fabric.gateway)
    await asyncio.sleep(2 * LEASE_SECONDS)
    assert (await a.status())["role"] == "PRIM"
    await b.kill()
    # Nobody can say who may go on: held, not answered.
    await a.until("FROZEN", serving=False)
    for node in (a, b):
        await node.host.heal_from(fabric.gateway)
    await a.until("ALONE")
    b.start()
    await b.agent()
    await work.over()


async def test_a_witness_that_is_deleted_halts_roles_and_not_the_application(
    work: Work, control_plane: ControlPlane, namespace: str
) -> None:
    a, b = work.pair.a, work.pair.b
    await control_plane.kubectl("-n", namespace, "delete", "mirrorwitness", WITNESS)
    await a.until_that(lambda status: bool(status["halted"]), "halted")
    assert (await a.status())["role"] == "PRIM"
    await work.crowd.stop()
    work.crowd.check(a.directory, b.under)
    work.crowd.start(a.directory)
    assert [line for line in a.log() if line["message"] == "notice"]
    await work.crowd.at_work()
    assert await work.crowd.stop()
    work.crowd.check(a.directory, b.under)


# -- disks


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
        assert said(idle.b, "this copy can't hold an operation of the peer", reason="No space left on device")
        assert said(idle.a, "the peer's disk failed, or is full")


async def test_a_secondary_whose_disk_fails_leaves(idle: Mirror, tmp_path: Path) -> None:
    async with small_disk(idle.b.directory, tmp_path, megabytes=64, backed=24) as disk:
        await idle.start()
        await disk.fail()
        written, met = await asyncio.to_thread(fill, idle.a.directory / "large", 16)
        assert (written, met) == (16 << 20, None)
        await idle.a.until("ALONE")
        assert (await idle.b.status())["inconsistent"]
        assert said(idle.b, "this copy can't hold an operation of the peer", kind="sync")


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
        assert "Frozen" not in roles(idle.a)


async def test_a_primary_whose_disk_hangs_is_replaced(idle: Mirror, tmp_path: Path) -> None:
    async with small_disk(idle.a.directory, tmp_path, megabytes=64) as disk:
        await idle.start()
        async with disk.hangs(idle.a.under):
            writing = asyncio.create_task(asyncio.to_thread(fill, idle.a.directory / "during", 1))
            await idle.b.until("ALONE", mounted=True)
        assert (await writing)[1] is not None
        assert said(idle.a, "the disk does not answer")
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
