"""One machine with an agent and one member of nginx: what most tests of the agent begin with."""

import asyncio
import sys
import time
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import aiohttp

from farmstead_api import Member
from farmstead_api.names import probe_path
from testbed import agents
from testbed.controlplane import ControlPlane
from testbed.machines import Fabric, Machine

CLUSTER = "web"
PORT = 8080
FARMSTEAD = Path(sys.executable).with_name("farmstead")
SPEC: dict[str, Any] = {
    "application": agents.nginx_scripts(),
    "listeners": [{"name": "http", "port": PORT}],
    "probe": {"intervalSeconds": 5},
    "drain": {"maxSeconds": 30},
    "checks": [
        {"name": "nginx", "process": {"name": "nginx"}, "action": "Restart"},
        {"name": "answers", "http": {"port": PORT, "path": "/healthz"}, "intervalSeconds": 5, "timeoutSeconds": 2},
    ],
}


def ready(member: Member) -> bool:
    """Whether the member serves."""
    return member.status.readiness == "Ready"


@dataclass
class Rig:
    """One machine with an agent, and who gives it Members."""

    machine: Machine
    operator: agents.Operator
    http: aiohttp.ClientSession

    @property
    def node(self) -> str:
        """The machine's name as a FarmNode."""
        return self.machine.name

    async def apply(self, **changes: Any) -> Member:
        """Write the Member as the operator would."""
        return await self.operator.apply(CLUSTER, self.node, SPEC | changes)

    async def until(self, holds: Any, *, within: float = 20.0) -> Member:
        """Wait until something holds of the Member."""
        return await self.operator.until(CLUSTER, self.node, holds, within=within)

    async def serving(self) -> list[int]:
        """Apply the member, wait until it is Ready; the application's processes."""
        await self.apply()
        await self.until(ready)
        return await self.pids()

    async def probe(self) -> tuple[int, str]:
        """What a load balancer hears."""
        path = probe_path(self.operator.namespace, CLUSTER)
        async with self.http.get(f"http://{self.machine.address}:{agents.PROBE_PORT}{path}") as answer:
            return answer.status, await answer.text()

    async def served(self) -> bool:
        """Whether a client is served now."""
        try:
            async with self.http.get(f"http://{self.machine.address}:{PORT}/") as answer:
                return answer.status == 200
        except aiohttp.ClientError:
            return False

    async def pids(self) -> list[int]:
        """The application's processes, as seen in the machine."""
        path = f"/sys/fs/cgroup/farmstead/{self.operator.namespace}.{CLUSTER}/app/cgroup.procs"
        return [int(line) for line in (await self.machine.run("cat", path)).split()]

    async def kill_application(self) -> float:
        """SIGKILL to every process of it; seconds until a client is served again."""
        died = time.monotonic()
        await self.machine.run("kill", "-KILL", *map(str, await self.pids()))
        while not await self.served():
            await asyncio.sleep(0.01)
        return time.monotonic() - died


async def make_rig(stack: AsyncExitStack, fabric: Fabric, api: ControlPlane, namespace: str, name: str) -> Rig:
    """A machine with an agent that runs, until the stack ends. Its log is printed then."""
    # A name of its own: Members of other tests stay in the API.
    machine = fabric.machine(f"{name}-{namespace}")
    stack.push_async_callback(fabric.remove, machine)
    stack.callback(lambda: print(machine.service_log()))
    agents.install(machine, api)
    operator = await stack.enter_async_context(agents.operating(api, namespace))
    http = await stack.enter_async_context(aiohttp.ClientSession(connector=aiohttp.TCPConnector(force_close=True)))
    await operator.add_node(machine.name, machine.address)
    await machine.boot()
    return Rig(machine, operator, http)


@asynccontextmanager
async def own_rig(fabric: Fabric, api: ControlPlane, namespace: str) -> AsyncIterator[Rig]:
    """A machine for a control plane that is a test's own; the namespace is made in it."""
    await api.kubectl("create", "namespace", namespace)
    async with AsyncExitStack() as stack:
        rig = await make_rig(stack, fabric, api, namespace, "vm")
        yield rig
        await rig.operator.forget(CLUSTER, rig.node)
