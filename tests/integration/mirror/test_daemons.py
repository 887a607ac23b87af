"""Two daemons and a real witness: roles, takeover, rejoin."""

import asyncio
import os
import signal
import time
from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from testbed.child import Child
from testbed.controlplane import ControlPlane
from testbed.machines import Fabric
from testbed.mirror import PATIENCE_SECONDS, Mirror, Node, mirror
from testbed.run import REMOVAL_SECONDS, Run, remove_cgroup

LEASE_SECONDS = 1.5


@pytest.fixture
async def pair(fabric: Fabric, control_plane: ControlPlane, namespace: str, tmp_path: Path) -> AsyncIterator[Mirror]:
    """A mirror with a short lease."""
    async with mirror(fabric, control_plane, namespace, tmp_path, leaseSeconds=LEASE_SECONDS) as pair:
        yield pair


async def test_two_daemons_and_a_witness_become_a_mirror(pair: Mirror) -> None:
    (pair.a.directory / "before").write_bytes(b"there before the mirror")
    await pair.start()
    (pair.a.directory / "after").write_bytes(b"written through it")
    assert {path.name for path in pair.b.under.iterdir()} >= {"before", "after"}
    assert (pair.b.under / "before").read_bytes() == b"there before the mirror"
    assert (pair.b.under / "after").read_bytes() == b"written through it"
    record = await pair.record()
    assert record["primary"] == "a"
    assert {entry["name"] for entry in record["inSync"]} == {"a", "b"}


def write_synced(path: Path, data: bytes) -> float:
    """Write a file, fsync it, and give the seconds that took."""
    started = time.monotonic()
    descriptor = os.open(path, os.O_WRONLY | os.O_CREAT, 0o644)
    try:
        os.write(descriptor, data)
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
    return time.monotonic() - started


async def rejoin(node: Node) -> None:
    """Start a killed daemon again, as its agent, and wait until it is in sync."""
    node.start()
    await node.agent()
    await node.until("SECOND")


async def test_a_killed_primary_is_taken_over_and_rejoins(pair: Mirror) -> None:
    await pair.start()
    await asyncio.to_thread(write_synced, pair.a.directory / "before", b"acknowledged by both")
    await pair.a.kill()
    await pair.b.until("ALONE", mounted=True)
    assert (pair.b.directory / "before").read_bytes() == b"acknowledged by both"
    await asyncio.to_thread(write_synced, pair.b.directory / "meanwhile", b"acknowledged by one")
    assert (await pair.record())["primary"] == "b"
    await rejoin(pair.a)
    await pair.b.until("PRIM")
    assert (pair.a.under / "meanwhile").read_bytes() == b"acknowledged by one"


async def test_a_lost_secondary_stalls_writes_and_freezes_nothing(pair: Mirror) -> None:
    await pair.start()
    await pair.b.kill()
    stalled = await asyncio.to_thread(write_synced, pair.a.directory / "first", b"x")
    # Half the lease, one compare-and-swap on a busy machine.
    assert stalled < LEASE_SECONDS / 2 + 0.8
    await pair.a.until("ALONE")
    assert not [line for line in pair.a.log() if line.get("role") == "Frozen"]
    await rejoin(pair.b)
    assert (pair.b.under / "first").read_bytes() == b"x"


async def test_a_cut_network_leaves_one_that_serves(pair: Mirror) -> None:
    await pair.start()
    await pair.a.host.cut()
    await pair.b.until("ALONE", mounted=True)
    await pair.a.until("FROZEN", serving=False)
    await asyncio.to_thread(write_synced, pair.b.directory / "there", b"after the cut")
    await pair.a.host.heal()
    await pair.a.until("SECOND", mounted=False)
    assert (pair.a.under / "there").read_bytes() == b"after the cut"


async def test_a_planned_switch_hands_over_and_back(pair: Mirror) -> None:
    await pair.start()
    for source, target in ((pair.a, pair.b), (pair.b, pair.a)):
        await asyncio.to_thread(write_synced, source.directory / source.name, b"before the switch")
        assert (await source.ask("switchover"))["ok"]
        await source.until(application="stop")
        assert (await source.ask("applicationStopped"))["ok"]
        await target.until("PRIM", mounted=True)
        await source.until("SECOND", mounted=False)
        assert (target.directory / source.name).read_bytes() == b"before the switch"
        # Only who has the role can give it away, and what was ordered once is done once.
        assert "not primary" in (await source.ask("switchover"))["error"]
    for node in (pair.a, pair.b):
        assert [line.get("order") for line in node.log()].count("StopApplication") == 1


async def test_a_daemon_that_is_stopped_in_order_leaves_first(pair: Mirror) -> None:
    await pair.start()
    assert await pair.b.stop() == 0
    await pair.a.until("ALONE")
    assert await asyncio.to_thread(write_synced, pair.a.directory / "on", b"x") < LEASE_SECONDS / 2


async def test_an_application_is_frozen_with_its_node_and_killed_when_another_serves(pair: Mirror, run: Run) -> None:
    assert run.cgroup is not None
    group = run.cgroup / f"application-{pair.namespace}"
    group.mkdir()
    await pair.start()
    sleeper = Child(["sleep", "infinity"], log=pair.a.folder / "sleeper.log", cgroup=group)
    try:
        assert (await pair.a.ask("cgroups", paths=[str(group)]))["ok"]
        await pair.a.host.cut()
        await pair.a.until("FROZEN")
        await has(group / "cgroup.events", "frozen 1")
        assert sleeper.running
        await pair.b.until("ALONE", mounted=True)
        await pair.a.host.heal()
        await pair.a.until("SECOND")
        assert await sleeper.wait() == -signal.SIGKILL
        # Whatever is started in it next shall run.
        await has(group / "cgroup.events", "frozen 0")
    finally:
        await sleeper.stop()
        remove_cgroup(group, deadline=time.monotonic() + REMOVAL_SECONDS)


async def has(file: Path, line: str) -> None:
    """Wait until a file of the kernel's has this line."""
    async with asyncio.timeout(5):
        while line not in (await asyncio.to_thread(file.read_text)).splitlines():
            await asyncio.sleep(0.01)


async def test_metrics_say_what_the_status_says(pair: Mirror) -> None:
    await pair.start()
    for number in range(5):
        await asyncio.to_thread(write_synced, pair.a.directory / f"f{number}", b"x")
    first, second = await pair.a.metrics(), await pair.b.metrics()
    assert first['role{role="PRIM"}'] == second['role{role="SECOND"}'] == 1
    assert sum(value for name, value in first.items() if name.startswith("role{")) == 1
    for kind in ("create", "write", "sync"):
        count = first[f'operation_seconds_count{{kind="{kind}"}}']
        assert count == first[f'operation_seconds_bucket{{kind="{kind}",le="+Inf"}}'] == 5
        assert first[f'operation_seconds_sum{{kind="{kind}"}}'] > 0
    assert first["generation"] == (await pair.a.status())["generation"]
    assert 0 < first["lease_left_seconds"] < LEASE_SECONDS
    assert first["serving"] == 1
    assert second["serving"] == 0
    assert first["round_trip_seconds_count"] >= 15
    assert second["received_operations_total"] >= 15
    # All objects count as out of sync, -1, until the first checkpoint of the two.
    async with asyncio.timeout(PATIENCE_SECONDS):
        while (await pair.a.metrics())["out_of_sync_objects"] < 0:
            await asyncio.sleep(0.05)
    await pair.b.kill()
    await asyncio.to_thread(write_synced, pair.a.directory / "alone", b"x")
    alone = await pair.a.metrics()
    assert alone['role{role="ALONE"}'] == 1
    assert alone["lease_left_seconds"] > LEASE_SECONDS
    assert alone["out_of_sync_objects"] > 0


async def test_what_is_no_request_is_answered_with_the_reason(pair: Mirror) -> None:
    pair.a.start()
    await pair.a.until("ALONE")
    assert "operation" in (await pair.a.ask("force"))["error"]
    assert "UUID" in (await pair.a.ask("replacePeer", uid="me"))["error"]
    assert "not in sync" in (await pair.a.ask("switchover"))["error"]
    assert "no control group" in (await pair.a.ask("cgroups", paths=["/nowhere"]))["error"]
