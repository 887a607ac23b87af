"""Gone is not stop: whatever vanishes from the API, or comes back older, what runs runs on, and is told of.

Each test takes something away by accident, sees that no process is touched and no client notices, that machines and
cluster tell what they know, and puts it back: then all is well again, with the same processes still.
"""

import time

import pytest

from testbed.datacentre.datacentre import ROOT
from testbed.datacentre.farm import Farm, holds, serves
from testbed.datacentre.figures import Figures

pytestmark = pytest.mark.asyncio(loop_scope="session")

CRDS = str(ROOT / "crds")
RETURN_SECONDS = 90.0


async def test_the_kinds_deleted_and_applied_again(farm: Farm, figures: Figures) -> None:
    before = await farm.all_pids()
    kubectl = farm.centre.cluster.kubectl
    async with farm.clients() as served:
        await kubectl("delete", "-f", CRDS, "--timeout=60s")
        await farm.until_told("no longer holds it", within=30)
        assert await farm.all_pids() == before
        await kubectl("apply", "--server-side", "-f", CRDS)
        await kubectl("wait", "--for=condition=Established", "-f", CRDS, "--timeout=30s")
        await farm.centre.enrol()
        await farm.apply()
        await farm.settled(within=RETURN_SECONDS)
    figures.note("kinds deleted, applied again", served)
    assert served.failures == []
    assert await farm.all_pids() == before


async def test_members_that_vanish_while_nobody_looks(farm: Farm, figures: Figures) -> None:
    """No finalizer, no deletionTimestamp that anybody saw: a pruned folder, or a garbage collection gone wrong."""
    before = await farm.all_pids()
    gateway = farm.centre.fabric.gateway
    async with farm.clients() as served:
        await farm.centre.kill_operator()
        for machine in farm.centre.machines.values():
            await machine.cut_from(gateway)
        await farm.kubectl("delete", "members", "--all", "--timeout=20s")
        for machine in farm.centre.machines.values():
            await machine.heal_from(gateway)
        for name in farm.centre.machines:
            await farm.until_node(
                name, lambda n: not holds(n, "MembersConfirmed"), within=60, what="to miss its Member"
            )
        assert await farm.all_pids() == before
        await farm.centre.start_operator()
        await farm.settled(within=RETURN_SECONDS)
    figures.note("Members pruned, nobody looking", served)
    assert served.failures == []
    assert await farm.all_pids() == before


async def test_a_pruned_folder_of_machines_and_scripts(farm: Farm, figures: Figures) -> None:
    before = await farm.all_pids()
    async with farm.clients() as served:
        await farm.kubectl("delete", "configmap", "nginx-scripts")
        await farm.kubectl("delete", "farmnodes", "--all", "--timeout=20s")
        await farm.kubectl("delete", "members", "--all", "--timeout=20s")
        await farm.until(lambda: holds(farm.cluster, "Stalled"), within=30, what="the cluster to ask for help")
        await farm.until_told("no longer holds it", within=30)
        assert await farm.all_pids() == before
        await farm.centre.enrol()
        await farm.apply()
        await farm.settled(within=RETURN_SECONDS)
    figures.note("FarmNodes, scripts and Members pruned", served)
    assert served.failures == []
    assert await farm.all_pids() == before


async def test_one_farm_node_deleted_and_enrolled_again(farm: Farm, figures: Figures) -> None:
    before = await farm.all_pids()
    async with farm.clients() as served:
        await farm.kubectl("delete", "farmnode", "vm3")
        await farm.until(lambda: farm.chronicle.member("vm3") is None, within=30, what="vm3 to leave the cluster")
        await farm.until_balanced({"vm1", "vm2"}, within=30)
        assert await farm.all_pids() == before
        await farm.centre.enrol()
        await farm.settled(within=RETURN_SECONDS)
    figures.note("one FarmNode deleted, enrolled again", served)
    assert served.failures == []
    assert await farm.all_pids() == before


async def test_etcd_put_back_to_when_the_cluster_was_stopped(farm: Farm, figures: Figures) -> None:
    await farm.patch({"desiredState": "Stopped"})
    for name in farm.centre.machines:
        await farm.until_member(name, lambda m: m.status.state == "Stopped", within=30, what="to stop")
    hour_ago = farm.centre.control_plane.snapshot_etcd()
    await farm.patch({"desiredState": "Running"})
    await farm.settled(within=RETURN_SECONDS)
    before = await farm.all_pids()
    async with farm.clients() as served:
        await farm.centre.control_plane.restore_etcd(hour_ago)
        await farm.until_told("was the API server restored", within=60)
        for name in farm.centre.machines:
            await farm.until_node(name, lambda n: not holds(n, "MembersConfirmed"), within=60, what="to tell of it")
            await farm.until_member(name, serves, within=60, what="to tell that it serves")
        assert await farm.all_pids() == before
        await farm.patch({"desiredState": "Running"})
        await farm.settled(within=RETURN_SECONDS)
    figures.note("etcd put back to a stopped cluster", served)
    assert served.failures == []
    assert await farm.all_pids() == before


async def test_etcd_put_back_to_members_of_another_life(farm: Farm, figures: Figures) -> None:
    """The older Members have other uids than those that are applied, and the same instructions."""
    before = await farm.all_pids()
    hour_ago = farm.centre.control_plane.snapshot_etcd()
    old = {name: member.metadata.uid for name in farm.centre.machines if (member := farm.chronicle.member(name))}
    await farm.kubectl("delete", "members", "--all", "--timeout=20s")
    for name, uid in old.items():
        await farm.until_member(name, lambda m, uid=uid: m.metadata.uid != uid, within=30, what="to be drawn again")  # type: ignore[misc]
    await farm.settled()
    async with farm.clients() as served:
        await farm.centre.control_plane.restore_etcd(hour_ago)
        for name, uid in old.items():
            await farm.until_member(name, lambda m, uid=uid: m.metadata.uid == uid, within=30, what="to be as it was")  # type: ignore[misc]
        await farm.settled(within=RETURN_SECONDS)
    figures.note("etcd put back to older Members", served)
    assert served.failures == []
    assert await farm.all_pids() == before


async def test_the_api_server_away_for_long_and_a_reboot_meanwhile(farm: Farm, figures: Figures) -> None:
    before = await farm.all_pids()
    rebooted = farm.centre.machines["vm2"]
    member = farm.chronicle.member("vm2")
    assert member is not None
    boot = member.status.boot_id
    async with farm.clients(patience=5) as served:
        await farm.centre.control_plane.stop_apiserver()
        crashed = time.monotonic()
        await rebooted.crash()
        await farm.until_balanced({"vm1", "vm3"}, within=15)
        await rebooted.boot()
        await farm.until_balanced(farm.centre.machines, within=15)
        await served.load.until_served_by(set(farm.centre.machines), within=15)
        told = await farm.told_on("vm2")
        assert (told["status"]["state"], told["status"]["readiness"]) == ("Up", "Ready")
        await farm.centre.control_plane.start_apiserver()
        await farm.until_member("vm2", lambda m: m.status.boot_id != boot, within=60, what="to tell of its boot")
        await farm.settled(within=RETURN_SECONDS)
    after = await farm.all_pids()
    figures.note("API server away, a reboot meanwhile", served, "vm2 started from its disk")
    assert served.last_lost_arrival(crashed) <= 5.5, "only the crash itself may cost requests"
    assert {name: after[name] for name in ("vm1", "vm3")} == {name: before[name] for name in ("vm1", "vm3")}
    assert after["vm2"] != before["vm2"]
