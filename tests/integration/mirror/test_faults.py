"""What may go wrong around a mirror while programs work in it: pauses, cuts, a witness that is away or gone, disks.

Everything acknowledged is there afterwards, on both sides and equal; no two nodes serve at once; the log says what was.
"""

import asyncio
import signal
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from urllib.parse import urlsplit

import pytest

from testbed.controlplane import ControlPlane
from testbed.machines import Fabric
from testbed.machines.link import Direction
from testbed.mirror import WITNESS, Mirror, mirror
from testbed.mirror_load.crowd import Crowd
from testbed.mirror_load.serving import OneServes
from testbed.proxy import Proxy
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


# -- pauses


@pytest.mark.parametrize("who", ["a", "b"])
async def test_a_short_pause_changes_no_role(work: Work, who: str) -> None:
    node = work.pair.nodes[who]
    before = [len(node.roles()) for node in work.pair.nodes.values()]
    node.daemon.signal(signal.SIGSTOP)
    await asyncio.sleep(LEASE_SECONDS / 4)
    node.daemon.signal(signal.SIGCONT)
    await work.over()
    assert [len(node.roles()) for node in work.pair.nodes.values()] == before


async def test_a_primary_that_is_paused_for_long_finds_itself_deposed(work: Work) -> None:
    a, b = work.pair.a, work.pair.b
    a.daemon.signal(signal.SIGSTOP)
    await b.until("ALONE", mounted=True)
    a.daemon.signal(signal.SIGCONT)
    await a.until("SECOND", mounted=False)
    assert "Frozen" in a.roles()
    # Whatever it held was answered with an error.
    await work.over(errors=True)


async def test_a_secondary_that_is_paused_for_long_is_made_equal_again(work: Work) -> None:
    a, b = work.pair.a, work.pair.b
    b.daemon.signal(signal.SIGSTOP)
    await a.until("ALONE")
    b.daemon.signal(signal.SIGCONT)
    await b.until("SECOND")
    await work.over()
    assert "Frozen" not in a.roles()
    assert "Taking" not in b.roles() or b.roles()[-1] == "Second"


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
    assert "Frozen" not in a.roles()


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


async def test_a_slow_witness_is_waited_for_and_one_that_is_too_slow_freezes(
    fabric: Fabric, control_plane: ControlPlane, namespace: str, tmp_path: Path
) -> None:
    address = urlsplit(control_plane.url)
    assert address.hostname is not None
    assert address.port is not None
    async with Proxy(address.hostname, address.port, listen=fabric.gateway) as proxy:
        settings = {"leaseSeconds": LEASE_SECONDS, "witness": {"server": f"https://{fabric.gateway}:{proxy.port}"}}
        async with mirror(fabric, control_plane, namespace, tmp_path, **settings) as pair, OneServes(pair):
            await pair.start()
            proxy.delay_seconds = 0.05
            await pair.b.kill()
            await pair.a.until("ALONE")
            assert "Frozen" not in pair.a.roles()
            await back(pair)
            proxy.delay_seconds = LEASE_SECONDS
            await pair.b.kill()
            # Nobody says in time who may go on.
            await pair.a.until("FROZEN", serving=False)
            proxy.delay_seconds = 0
            await pair.a.until("ALONE", serving=True)
            await back(pair)
            assert pair.a.said("witness written", result="NotSent")


async def back(pair: Mirror) -> None:
    """The secondary's daemon is started again, and is made equal."""
    pair.b.start()
    await pair.b.agent()
    await pair.paired()
