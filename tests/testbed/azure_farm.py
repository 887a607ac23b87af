"""A farm with Azure: real operator processes between the real API server and an emulator in the test's own process.

In the test's process, so that a test knows at once what is asked of Azure and what is under way there. No machines:
stand-in agents report for them. Whatever a test leaves behind goes at the end, also with no operator to remove it.
"""

import json
from collections.abc import Callable
from types import TracebackType
from typing import Any

from farmstead_kube import FARM_CLUSTERS, Client, Json
from testbed.azure import AzureEmulator, Entry, Settings
from testbed.azure.ids import parse_id
from testbed.controlplane import ControlPlane
from testbed.datacentre.files import RESOURCE_GROUP, azure_settings
from testbed.farm import Farm, Replica
from testbed.history import PATIENCE, History
from testbed.namespaces import empty_namespace
from testbed.run import Run
from testbed.stand_in_agents import StandInAgents

NETWORK = "shop"
ELECTION = {"leaseSeconds": 8, "renewDeadlineSeconds": 6, "retrySeconds": 1}
"""Patient enough for two cores that others use too."""
SUBNETS = {"front": "10.0.4.0/22", "machines": "10.0.0.0/24"}


class AzureFarm(Farm):
    """A Farm whose operators have Azure, and three machines; from `async with` to its end."""

    def __init__(
        self, run: Run, control_plane: ControlPlane, client: Client, namespace: str, delay: float = 0.3
    ) -> None:
        super().__init__(run, control_plane, client, namespace)
        self.azure = AzureEmulator(Settings(delay=delay))
        self.history = History(client, namespace)

    async def __aenter__(self) -> "AzureFarm":
        await self.azure.__aenter__()
        self.azure.add_group(RESOURCE_GROUP)
        subnets = [{"name": name, "properties": {"addressPrefix": prefix}} for name, prefix in SUBNETS.items()]
        properties = {"addressSpace": {"addressPrefixes": ["10.0.0.0/16"]}, "subnets": subnets}
        self.put("virtualNetworks", NETWORK, {"location": "eastus", "properties": properties})
        for name in ("a", "bb", "ccc"):
            await self.machine(name)
        self.agents = StandInAgents(self.client, self.nodes)
        await self.agents.__aenter__()
        await self.history.__aenter__()
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        await self.history.__aexit__(kind, error, trace)
        await self.agents.__aexit__()
        await self.close()
        await self.azure.__aexit__(kind, error, trace)
        await empty_namespace(self.client, self.namespace)

    # -- the operator

    async def operator(self, name: str = "one", **settings: Any) -> Replica:
        """Start a replica that knows where Azure is."""
        azure = azure_settings(self.azure, network_id=self.network_id) | settings.pop("azure", {})
        return await super().operator(name, **{"azure": azure, "leaderElection": ELECTION} | settings)

    # -- objects, as a person writes them

    def manifest(self, name: str, *, balancer: str = "", port: int = 80, frontend: Any = None, **spec: Any) -> Json:
        """A FarmCluster behind a load balancer, by default one of its own with a public address."""
        azure: Json = {"frontend": frontend or {"publicIPAddress": {"name": f"{name}-ip"}}}
        if balancer:
            azure["name"] = balancer
        return {
            "apiVersion": FARM_CLUSTERS.api_version,
            "kind": FARM_CLUSTERS.kind,
            "metadata": {"name": name, "namespace": self.namespace},
            "spec": {
                "members": {"selector": {"matchLabels": {"pool": self.pool}}},
                "application": {"scripts": {"directory": "/opt/app"}},
                "listeners": [{"name": "http", "port": port, "backendPort": 8000 + port}],
                "loadBalancer": {"azure": azure},
            }
            | spec,
        }

    def internal(self, address: str) -> Json:
        """A frontend at a fixed address of the front subnet."""
        return {"subnetID": f"{self.network_id}/subnets/front", "privateIPAddress": address}

    async def apply(self, *objects: Json) -> None:
        """`kubectl apply`."""
        listed = {"apiVersion": "v1", "kind": "List", "items": list(objects)}
        await self.kubectl("apply", "-f", "-", stdin=json.dumps(listed))

    async def remove(self, *names: str) -> None:
        """`kubectl delete`, without waiting."""
        await self.kubectl("delete", "farmcluster", *names, "--wait=false")

    async def kubectl(self, verb: str, *arguments: str, stdin: str | None = None) -> str:
        """Our kubectl in this namespace."""
        return await self.control_plane.kubectl(verb, "-n", self.namespace, *arguments, stdin=stdin)

    # -- waits

    async def wait_ready(self, what: str = "all Ready", *, seconds: float = PATIENCE) -> None:
        """Every cluster is Ready at its latest generation."""
        await self.until_history(lambda: self.history.all_are("Ready", "True"), lambda: what, seconds=seconds)

    async def wait_gone(self, *names: str, seconds: float = PATIENCE) -> None:
        """These clusters are no more."""
        await self.until_history(
            lambda: not set(names) & set(self.history.latest), lambda: f"{names} gone", seconds=seconds
        )

    async def wait_said(self, name: str, kind: str, *, says: str, status: str = "", seconds: float = PATIENCE) -> None:
        """A condition has had these words."""
        await self.until_history(
            lambda: self.history.ever(name, kind, says=says, status=status),
            lambda: f"{name} {kind} {says}",
            seconds=seconds,
        )

    async def until_history(
        self, reached: Callable[[], bool], what: Callable[[], str], *, seconds: float = PATIENCE
    ) -> None:
        """Something holds of the clusters' history; `what` is it for people, as late as it is needed."""
        try:
            await self.history.until(reached, seconds=seconds)
        except AssertionError as error:
            logs = "\n".join(f"-- {replica.name}\n{replica.child.tail()}" for replica in self.replicas)
            raise AssertionError(f"{what()}: {error}\n{self.azure.log.counters()}\n{logs}") from None

    # -- Azure

    @property
    def network_id(self) -> str:
        """The machines' virtual network."""
        return self.azure.resource_id(RESOURCE_GROUP, "virtualNetworks", NETWORK)

    def balancer_id(self, name: str) -> str:
        """Resource id of a load balancer."""
        return self.azure.resource_id(RESOURCE_GROUP, "loadBalancers", name)

    def own_balancer(self, cluster: str) -> str:
        """Name of the load balancer that a cluster gets which names none."""
        return f"farmstead-{self.namespace}-{cluster}"

    def put(self, kind: str, name: str, body: Json) -> None:
        """Somebody else's resource, there at once."""
        rid = parse_id(self.azure.resource_id(RESOURCE_GROUP, kind, name))
        assert rid is not None
        operations = self.azure.network.operations
        delay, operations.delay = operations.delay, 0.0
        self.azure.network.put(rid, body)
        self.azure.network.settle()
        operations.delay = delay

    def balancer(self, name: str) -> Json | None:
        """A load balancer as the emulator shows it, without etags; None where there is none."""
        found = self.azure.snapshot().get(self.balancer_id(name))
        return None if found is None else dict(found)

    def resources(self) -> set[str]:
        """Everything there is but the network that was there before, as type/name."""
        return {"/".join(text.split("/")[-2:]) for text in self.azure.snapshot()} - {f"virtualNetworks/{NETWORK}"}

    def writes(self, *, method: str = "", balancer: str = "") -> list[Entry]:
        """Requests that may have changed something, of one method, on one load balancer."""
        path = self.balancer_id(balancer).casefold() if balancer else ""
        return [
            entry
            for entry in self.azure.log.writes()
            if method in ("", entry.method) and (not path or entry.path.casefold() == path)
        ]
