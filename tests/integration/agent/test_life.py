"""The real agent on a machine, with the real API server and real nginx: start, probe, death, restart, drain, stop."""

import asyncio
import json
import sys
import time
from collections.abc import AsyncIterator
from dataclasses import dataclass
from pathlib import Path

import aiohttp
import pytest_asyncio

from farmstead_api import Member
from farmstead_api.names import probe_path
from testbed import agents
from testbed.controlplane import ControlPlane
from testbed.machines import Fabric, Machine

CLUSTER = "web"
FARMSTEAD = Path(sys.executable).with_name("farmstead")
SPEC = {
    "application": agents.nginx_scripts(),
    "listeners": [{"name": "http", "port": 8080}],
    "probe": {"intervalSeconds": 5},
    "drain": {"maxSeconds": 30},
    "checks": [
        {"name": "nginx", "process": {"name": "nginx"}, "action": "Restart"},
        {"name": "answers", "http": {"port": 8080, "path": "/healthz"}, "intervalSeconds": 5, "timeoutSeconds": 2},
    ],
}


def ready(member: Member) -> bool:
    return member.status.readiness == "Ready"


@dataclass
class Rig:
    """One machine with an agent, and who gives it Members."""

    machine: Machine
    operator: agents.Operator
    http: aiohttp.ClientSession

    @property
    def node(self) -> str:
        return self.machine.name

    async def probe(self) -> tuple[int, str]:
        """What a load balancer hears."""
        path = probe_path(self.operator.namespace, CLUSTER)
        async with self.http.get(f"http://{self.machine.address}:{agents.PROBE_PORT}{path}") as answer:
            return answer.status, await answer.text()

    async def served(self) -> bool:
        """Whether a client is served now."""
        try:
            async with self.http.get(f"http://{self.machine.address}:8080/") as answer:
                return answer.status == 200
        except aiohttp.ClientError:
            return False

    async def pids(self) -> list[int]:
        """The application's processes, as seen in the machine."""
        path = f"/sys/fs/cgroup/farmstead/{self.operator.namespace}.{CLUSTER}/app/cgroup.procs"
        return [int(line) for line in (await self.machine.run("cat", path)).split()]


@pytest_asyncio.fixture
async def rig(fabric: Fabric, control_plane: ControlPlane, namespace: str) -> AsyncIterator[Rig]:
    await agents.prepare(control_plane)
    machine = fabric.machine(f"vm-{namespace}")  # a name of its own: Members of other tests stay in the API
    agents.install(machine, control_plane)
    try:
        async with (
            agents.operating(control_plane, namespace) as operator,
            aiohttp.ClientSession(connector=aiohttp.TCPConnector(force_close=True)) as http,
        ):
            await operator.add_node(machine.name, machine.address)
            await machine.boot()
            yield Rig(machine, operator, http)
    finally:
        print(machine.service_log())
        await fabric.remove(machine)


async def test_a_member_starts_and_is_ready(rig: Rig) -> None:
    assert (await rig.probe())[0] == 503
    await rig.operator.apply(CLUSTER, rig.node, SPEC)
    member = await rig.operator.until(CLUSTER, rig.node, ready)
    assert member.status.state == "Up"
    assert member.status.application_revision == "a1"
    assert {r.name: r.state.value for r in member.status.resources} == {
        "application": "Up",
        "nginx": "Up",
        "answers": "Up",
    }
    assert await rig.probe() == (200, "Up/Ready Serving: all 2 checks pass\n")
    assert await rig.served()
    status = json.loads(await rig.machine.run(FARMSTEAD, "status", "-o", "json"))
    assert status["members"][0]["status"]["state"] == "Up"


async def test_a_killed_application_serves_again_within_two_seconds(rig: Rig) -> None:
    await rig.operator.apply(CLUSTER, rig.node, SPEC)
    await rig.operator.until(CLUSTER, rig.node, ready)
    before = await rig.pids()
    died = time.monotonic()
    await rig.machine.run("kill", "-KILL", *map(str, before))
    while not await rig.served():
        await asyncio.sleep(0.01)
    took = time.monotonic() - died
    assert took < 2.0
    print(f"serving again after {took:.2f} s")
    member = await rig.operator.until(CLUSTER, rig.node, lambda m: ready(m) and m.status.actions_in_window == 1)
    assert member.status.last_actions[-1].action == "Restart"
    assert not set(before) & set(await rig.pids())


async def test_the_agent_may_be_killed_at_any_time(rig: Rig) -> None:
    await rig.operator.apply(CLUSTER, rig.node, SPEC)
    await rig.operator.until(CLUSTER, rig.node, ready)
    before = await rig.pids()
    for _ in range(3):
        await rig.machine.kill_service()
        probing = asyncio.create_task(rig.probe())
        await asyncio.sleep(0.2)
        assert not probing.done()
        await rig.machine.start_service()
        assert (await probing)[0] == 200
        assert await rig.pids() == before


async def test_stop_is_a_drain_and_start_brings_it_back(rig: Rig) -> None:
    await rig.operator.apply(CLUSTER, rig.node, SPEC)
    await rig.operator.until(CLUSTER, rig.node, ready)
    asked = time.monotonic()
    await rig.operator.apply(CLUSTER, rig.node, SPEC | {"desiredState": "Stopped"})
    await rig.operator.until(CLUSTER, rig.node, lambda m: m.status.reason == "Draining")
    assert (await rig.probe())[0] == 503
    assert await rig.served()
    member = await rig.operator.until(CLUSTER, rig.node, lambda m: m.status.state == "Stopped")
    assert 6.0 <= time.monotonic() - asked < 12.0
    assert member.status.application_revision == ""
    assert await rig.pids() == []
    await rig.operator.apply(CLUSTER, rig.node, SPEC)
    await rig.operator.until(CLUSTER, rig.node, ready)
