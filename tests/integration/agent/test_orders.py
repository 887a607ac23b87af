"""What is an order: deletion is; vanishing, an API put back to earlier and one that is away are not."""

import asyncio
import json
import sys
from collections.abc import AsyncIterator

import pytest_asyncio

from farmstead_api.names import member_name
from farmstead_kube import FARM_NODES, LEASES, MEMBERS
from testbed import agents
from testbed.agent_rig import CLUSTER, FARMSTEAD, Rig, own_rig, ready
from testbed.agents import LEASE_NAMESPACE, ROOT
from testbed.controlplane import ControlPlane
from testbed.machines import Fabric
from testbed.run import Run


async def status(rig: Rig) -> dict[str, object]:
    """What a person on the machine sees of the member."""
    shown = json.loads(await rig.machine.run(FARMSTEAD, "status", "-o", "json"))
    member: dict[str, object] = shown["members"][0]
    return member


async def unconfirmed(rig: Rig, part: str) -> None:
    """Wait until the agent says that it is not sure of its instructions any more."""
    async with asyncio.timeout(20):
        while part not in str((await status(rig))["unconfirmed"]):
            await asyncio.sleep(0.1)


async def confirmed(rig: Rig) -> None:
    """Wait until the API and the agent agree."""
    async with asyncio.timeout(40):
        while (await status(rig))["unconfirmed"]:
            await asyncio.sleep(0.1)


async def answers_ready(rig: Rig) -> None:
    """Wait until the probe says so: there is no API server to ask."""
    async with asyncio.timeout(10):
        while (await rig.probe())[0] != 200:
            await asyncio.sleep(0.05)


async def test_a_deletion_drains_stops_and_reports_removed(rig: Rig) -> None:
    await rig.serving()
    client = rig.operator.client
    await client.delete(MEMBERS, member_name(CLUSTER, rig.node), namespace=rig.operator.namespace)
    await rig.until(lambda m: m.status.reason == "Draining")
    assert await rig.served()
    await rig.until(lambda m: m.removed)
    assert not await rig.served()
    await rig.operator.release(CLUSTER, rig.node)
    async with asyncio.timeout(10):
        while json.loads(await rig.machine.run(FARMSTEAD, "status", "-o", "json"))["members"]:
            await asyncio.sleep(0.1)
    assert await rig.machine.run("ls", "/var/lib/farmstead/members") == ""
    assert await rig.probe() == (503, "NoSuchMember: nothing of this name runs here\n")


async def test_orphan_lets_go_and_finds_again(rig: Rig) -> None:
    await rig.apply(deletionPolicy="Orphan")
    await rig.until(ready)
    before = await rig.pids()
    client = rig.operator.client
    await client.delete(MEMBERS, member_name(CLUSTER, rig.node), namespace=rig.operator.namespace)
    await rig.until(lambda m: m.removed)
    await rig.operator.release(CLUSTER, rig.node)
    assert await rig.served()
    await rig.apply(deletionPolicy="Orphan")
    await rig.until(ready)
    assert await rig.pids() == before


async def test_a_member_that_vanishes_runs_on(rig: Rig) -> None:
    before = await rig.serving()
    await rig.operator.forget(CLUSTER, rig.node)
    await unconfirmed(rig, "no longer holds it")
    assert await rig.pids() == before
    assert (await rig.probe())[0] == 200
    await rig.machine.restart_service()
    assert (await rig.probe())[0] == 200
    assert await rig.pids() == before
    await rig.apply()
    await confirmed(rig)
    await rig.until(ready)
    assert await rig.pids() == before


async def test_the_node_and_its_lease_are_reported(rig: Rig) -> None:
    await rig.serving()
    client = rig.operator.client
    node = await client.get(FARM_NODES, rig.node)
    assert "application/scripts" in node["status"]["capabilities"]
    assert node["status"]["probePort"] == agents.PROBE_PORT
    assert node["status"]["bootID"] == (await rig.machine.run("cat", "/proc/sys/kernel/random/boot_id")).strip()
    lease = await client.get(LEASES, rig.node, namespace=LEASE_NAMESPACE)
    assert lease["spec"]["leaseDurationSeconds"] == 40
    metrics = f"http://127.0.0.1:{agents.METRICS_PORT}/metrics"
    read = f"import urllib.request; print(urllib.request.urlopen('{metrics}').read().decode())"
    text = await rig.machine.run(sys.executable, "-c", read)
    assert (
        f'farmstead_agent_member_state{{member="{rig.operator.namespace}/web",readiness="Ready",state="Up"}} 1.0'
        in text
    )
    assert "farmstead_agent_watch_healthy 1.0" in text
    writes = [
        line
        for line in text.splitlines()
        if line.startswith('farmstead_agent_api_writes_total{result="ok",what="member"}')
    ]
    assert float(writes[0].split()[-1]) <= 6  # on change alone


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def own_api(fabric: Fabric) -> AsyncIterator[ControlPlane]:
    """A control plane that these tests may break; each leaves it as it should be."""
    with Run() as own:
        async with ControlPlane(own, address=fabric.gateway) as control_plane:
            await agents.prepare(control_plane)
            yield control_plane


async def test_without_an_api_server_everything_goes_on(fabric: Fabric, own_api: ControlPlane) -> None:
    async with own_rig(fabric, own_api, "away") as rig:
        await rig.serving()
        await own_api.stop_apiserver()
        assert await rig.kill_application() < 2.0
        await answers_ready(rig)
        await rig.machine.kill_service()
        await rig.machine.start_service()
        assert (await rig.probe())[0] == 200
        await rig.machine.crash()
        await rig.machine.boot()
        await answers_ready(rig)
        assert await rig.served()
        await own_api.start_apiserver()
        boot = (await rig.machine.run("cat", "/proc/sys/kernel/random/boot_id")).strip()
        member = await rig.until(lambda m: ready(m) and m.status.boot_id == boot, within=40)
        assert member.status.actions_in_window == 1


async def test_an_api_server_put_back_to_an_earlier_time_changes_nothing(fabric: Fabric, own_api: ControlPlane) -> None:
    async with own_rig(fabric, own_api, "past") as rig:
        await rig.apply(desiredState="Stopped")
        await rig.until(lambda m: m.status.state == "Stopped")
        snapshot = own_api.snapshot_etcd()
        before = await rig.serving()
        await own_api.restore_etcd(snapshot)
        await unconfirmed(rig, "older than the one applied")
        assert await rig.pids() == before
        assert (await rig.probe())[0] == 200
        await rig.until(ready)  # what is, is told to the restored API server too
        # Somebody's new wish is followed again.
        await rig.apply(desiredState="Stopped", drain={"maxSeconds": 31})
        await rig.until(lambda m: m.status.state == "Stopped")


async def test_a_definition_that_is_deleted_stops_nothing(fabric: Fabric, own_api: ControlPlane) -> None:
    async with own_rig(fabric, own_api, "torn") as rig:
        before = await rig.serving()
        crd = str(ROOT / "crds/member.yaml")
        await own_api.kubectl("delete", "--wait=false", "-f", crd)
        await unconfirmed(rig, "no longer holds it")
        await rig.operator.release(CLUSTER, rig.node)
        await own_api.kubectl("wait", "--for=delete", "crd/members.farmstead.dev", "--timeout=30s")
        assert await rig.pids() == before
        await own_api.kubectl("apply", "--server-side", "-f", crd)
        await own_api.kubectl("wait", "--for=condition=Established", "crd/members.farmstead.dev", "--timeout=30s")
        await rig.apply()
        await confirmed(rig)
        await rig.until(ready)
        assert await rig.pids() == before
        assert (await rig.probe())[0] == 200
