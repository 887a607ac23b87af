"""The sample farm in a data centre: applied as a user would, looked at from outside, and its clients.

For tests. What it says of the farm comes from the API server, from Azure's data plane, from the machines' own
process tables or from clients, never from what was done to it.
"""

import asyncio
import json
import sys
import time
from collections.abc import AsyncIterator, Callable, Iterable
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from farmstead_api import Condition, FarmCluster, FarmNode, Member
from farmstead_api.names import probe_path
from testbed.datacentre.chronicle import Chronicle
from testbed.datacentre.datacentre import NAMESPACE, PROBE_PORT, ROOT, DataCentre
from testbed.load.process import Load, Truth

SAMPLES = ROOT / "manifests/samples"
NAME = "web"
KEY = (NAMESPACE, NAME)
PORT = 80
BACKEND_PORT = 8080
GROUP = f"/sys/fs/cgroup/farmstead/{NAMESPACE}.{NAME}/app/cgroup.procs"
POLL_SECONDS = 0.05
TOLD_AT_MOST = 30
FARMSTEAD = Path(sys.executable).with_name("farmstead")


@dataclass(kw_only=True)
class Served:
    """What clients noticed; complete once they have ended."""

    load: Load
    began: float = field(default_factory=time.monotonic)

    @property
    def failures(self) -> list[dict[str, Any]]:
        """Every request that failed."""
        return self.load.failures

    def failed_on_connections_since(self, moment: float) -> list[dict[str, Any]]:
        """Failures on connections that were asked for after `moment` (monotonic)."""
        return [failure for failure in self.failures if failure["opened"] > moment]

    def last_lost_arrival(self, moment: float) -> float:
        """How long after `moment` the last connection was asked for on which a request failed; 0: none after it."""
        return max((failure["opened"] - moment for failure in self.failed_on_connections_since(moment)), default=0.0)

    @property
    def total(self) -> dict[str, Any]:
        """Requests served and failed, the longest gap."""
        return self.load.total


class Farm:
    """FarmCluster shop/web."""

    def __init__(self, centre: DataCentre, chronicle: Chronicle) -> None:
        self.centre = centre
        self.chronicle = chronicle

    # -- what a person does

    async def apply(self) -> None:
        """Apply the samples: the scripts and the cluster."""
        for file in ("nginx/nginx-scripts.yaml", "farmcluster.yaml"):
            await self.kubectl("apply", "-f", str(SAMPLES / file))

    async def patch(self, spec: dict[str, Any]) -> None:
        """Change the cluster's spec."""
        await self.kubectl("patch", "farmcluster", NAME, "--type=merge", "-p", json.dumps({"spec": spec}))

    async def kubectl(self, *arguments: str) -> str:
        """kubectl in the farm's namespace."""
        return await self.centre.cluster.kubectl("-n", NAMESPACE, *arguments)

    async def operate(self, kind: str, member: str | None = None) -> None:
        """An Operation, to its end."""
        await self.centre.operate(kind, cluster=NAME, member=member)

    # -- what is to be seen

    @property
    def cluster(self) -> FarmCluster | None:
        """As last seen."""
        return self.chronicle.clusters.get(KEY)

    def node(self, name: str) -> FarmNode | None:
        """As last seen."""
        return self.chronicle.nodes.get(("", name))

    @property
    def frontend(self) -> str:
        """Where clients connect."""
        assert self.cluster is not None, "there is no cluster"
        balancer = self.cluster.status.load_balancer
        assert balancer is not None, "the cluster has no load balancer yet"
        assert balancer.azure is not None
        return balancer.azure.frontend_address

    async def pids(self, machine: str) -> list[int]:
        """The application's processes on a machine, as its kernel lists them."""
        return sorted(map(int, (await self.centre.machines[machine].run("cat", GROUP)).split()))

    async def all_pids(self) -> dict[str, list[int]]:
        """The application's processes on each machine."""
        return {name: await self.pids(name) for name in self.centre.machines}

    async def told_on(self, machine: str) -> dict[str, Any]:
        """What `farmstead status` tells on a machine of this farm's member; it needs no API server."""
        output = await self.centre.machines[machine].run(FARMSTEAD, "status", "-o", "json")
        told: dict[str, Any] = next(one for one in json.loads(output)["members"] if one["cluster"] == NAME)
        return told

    async def backends(self) -> dict[str, str]:
        """Each machine's state as the load balancer's probes found it; machines it does not know are left out."""
        names = {machine.address: name for name, machine in self.centre.machines.items()}
        rules = await asyncio.to_thread(self.centre.azure.backends)
        return {names[backend["address"]]: backend["state"] for rule in rules for backend in rule["backends"]}

    # -- waiting

    async def until(self, holds: Callable[[], bool], *, within: float, what: str) -> None:
        """Wait for something that the API server shows."""
        await self.chronicle.until(lambda _: holds(), within=within, what=what)

    async def until_member(self, machine: str, holds: Callable[[Member], bool], *, within: float, what: str) -> Member:
        """Wait for something that a Member shows."""

        def seen() -> bool:
            member = self.chronicle.member(machine)
            return member is not None and holds(member)

        await self.until(seen, within=within, what=f"{machine} {what}")
        member = self.chronicle.member(machine)
        assert member is not None
        return member

    async def until_node(self, machine: str, holds: Callable[[FarmNode], bool], *, within: float, what: str) -> None:
        """Wait for something that a FarmNode shows."""

        def seen() -> bool:
            node = self.node(machine)
            return node is not None and holds(node)

        await self.until(seen, within=within, what=f"{machine} {what}")

    async def until_told(self, problem: str, *, within: float) -> None:
        """Wait until every machine itself tells that its member is not confirmed, in words with `problem` in them."""
        told: dict[str, str] = {}
        try:
            async with asyncio.timeout(within):
                while not told or not all(problem in words for words in told.values()):
                    told = {name: (await self.told_on(name))["unconfirmed"] for name in self.centre.machines}
        except TimeoutError:
            raise TimeoutError(f"waited {within:g} s for {problem!r}; machines tell: {told}") from None

    async def until_balanced(self, machines: Iterable[str], *, within: float) -> None:
        """Wait until the load balancer sends clients to exactly these machines; it tells of no change by itself."""
        wanted = set(machines)
        up: set[str] = set()
        try:
            async with asyncio.timeout(within):
                while (up := {name for name, state in (await self.backends()).items() if state == "Up"}) != wanted:
                    await asyncio.sleep(POLL_SECONDS)
        except TimeoutError:
            raise TimeoutError(f"waited {within:g} s for backends {sorted(wanted)}; up are {sorted(up)}") from None

    async def settled(self, *, within: float = 60) -> None:
        """Wait until all is well: members serve, machines confirm it, the cluster says so, clients are sent to all."""
        machines = set(self.centre.machines)

        def well() -> bool:
            members = [self.chronicle.member(name) for name in machines]
            return (
                all(member is not None and serves(member) for member in members)
                and all(holds(self.node(name), "MembersConfirmed") for name in machines)
                and holds(self.cluster, "Ready")
            )

        await self.until(well, within=within, what="all members to serve and the cluster to be Ready")
        await self.until_balanced(machines, within=within)

    # -- clients

    @asynccontextmanager
    async def clients(self, *, new: int = 8, keep: int = 8, patience: float = 15) -> AsyncIterator[Served]:
        """Clients without retries for as long as this lasts; each waits at most `patience` seconds for an answer."""
        load = await Load.start(
            self.centre.clients,
            target=f"{self.frontend}:{PORT}",
            paths=["/", "/", "/", "/slow"],
            arguments=["--new", str(new), "--keep", str(keep), "--timeout", str(patience)],
            tell=_first_failures(),
        )
        try:
            await load.until_served_by(set(self.centre.machines), within=30)
            yield Served(load=load)
        finally:
            await load.stop()

    async def truth(self, machine: str) -> Truth:
        """Begin to hold a machine's probe against its application."""
        address = self.centre.machines[machine].address
        return await Truth.start(
            self.centre.clients,
            probe=f"{address}:{PROBE_PORT}{probe_path(*KEY)}",
            application=f"{address}:{BACKEND_PORT}/healthz",
        )


def _first_failures() -> Callable[[dict[str, Any]], None]:
    """Tell of the first requests that fail, for people; a table of thousands helps nobody."""
    left = iter(range(TOLD_AT_MOST))

    def tell(line: dict[str, Any]) -> None:
        if "failure" in line and next(left, None) is not None:
            print(f"{time.monotonic():.2f} clients {line}")

    return tell


def serves(member: Member) -> bool:
    """Whether its agent says that clients are served."""
    return member.status.state == "Up" and member.status.readiness == "Ready"


def condition(view: FarmCluster | FarmNode | None, name: str) -> Condition | None:
    """One condition of a cluster or machine."""
    return next((one for one in view.status.conditions if one.type == name), None) if view else None


def holds(view: FarmCluster | FarmNode | None, name: str) -> bool:
    """Whether a condition is True."""
    found = condition(view, name)
    return found is not None and found.status == "True"
