"""The data centre: starts its parts, in parallel where they allow it, and ends all of them.

    root namespace     etcd, kube-apiserver (on the bridge's address), operator
    namespace azure    the Azure emulator and its data plane: frontends are addresses of this namespace
    namespace clients  where load comes from
    machines           vm1 ... in zones 1, 2, 3, each with an agent under a stand-in for the service manager

Nothing in operator or agent knows that it runs here. With `kubeconfig` the API server is somebody else's.
"""

import asyncio
import contextlib
import json
import shutil
import sys
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from types import TracebackType
from typing import Any

from azure.mgmt.network.models import VirtualNetwork

import farmstead_agent
from testbed.azure.client import EmulatorAdmin
from testbed.azure.sdk import network_client
from testbed.child import Child
from testbed.controlplane import ControlPlane, ExistingCluster
from testbed.datacentre import files
from testbed.installation import install_farmstead, uninstall_farmstead
from testbed.machines import Fabric, Machine, Namespace
from testbed.run import Run

ROOT = Path(__file__).parents[3]
NAMESPACE = "shop"
OPERATOR_USER = "system:serviceaccount:farmstead-system:farmstead-operator"
PROBE_PORT = 9010
RESTART_SECONDS = 1.0
AGENT_CONFIG = "/etc/farmstead/agent.toml"
_AGENT = (sys.executable, "-m", "farmstead_agent", "--config", AGENT_CONFIG)


@dataclass(frozen=True, kw_only=True)
class Plan:
    """How large, and how the operator is set."""

    machines: Mapping[str, str] = field(default_factory=lambda: {"vm1": "1", "vm2": "2", "vm3": "3"})
    """Name -> zone."""
    labels: Mapping[str, str] = field(default_factory=lambda: {"pool": "web"})
    operator: Mapping[str, Any] = field(default_factory=dict)
    """Laid over the operator's settings."""
    azure_delay: float = 0.5
    """Seconds that each long operation of Azure takes."""


class DataCentre:
    """A data centre, from `async with` to its end."""

    def __init__(self, run: Run, plan: Plan | None = None, *, kubeconfig: Path | None = None) -> None:
        """`kubeconfig` names a cluster to use instead of an API server of our own."""
        self.plan = plan or Plan()
        self._kubeconfig = kubeconfig
        self._run = run
        self._stack = contextlib.AsyncExitStack()
        self._operators: dict[str, Child] = {}
        self._keepers: dict[str, asyncio.Task[None]] = {}
        self.machines: dict[str, Machine] = {}
        self.cluster: ControlPlane | ExistingCluster
        self.fabric: Fabric
        self.azure: EmulatorAdmin
        self.azure_host: Namespace
        self.clients: Namespace

    @property
    def control_plane(self) -> ControlPlane:
        """Our own API server, which tests may stop and put back in time; there is none in another's cluster."""
        assert isinstance(self.cluster, ControlPlane), "another's cluster is not ours to stop"
        return self.cluster

    async def __aenter__(self) -> "DataCentre":
        try:
            await self._start()
        except BaseException:
            await self._stack.aclose()
            raise
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        await self._stack.aclose()

    async def _start(self) -> None:
        self.fabric = await self._stack.enter_async_context(Fabric(self._run))
        self._stack.push_async_callback(self._stop_children)
        address = self.fabric.gateway
        if self._kubeconfig is None:
            self.cluster = ControlPlane(self._run, address=address)
        else:
            self.cluster = ExistingCluster(self._run, kubeconfig=self._kubeconfig, address=address)
        async with asyncio.TaskGroup() as group:
            group.create_task(self._stack.enter_async_context(self.cluster))
            group.create_task(self._start_azure())
        await self._install()
        await self.start_operator()
        async with asyncio.TaskGroup() as group:
            for name in self.plan.machines:
                group.create_task(self._start_machine(name))

    # -- parts

    async def _start_azure(self) -> None:
        self.azure_host = await self.fabric.namespace("azure")
        self.clients = await self.fabric.namespace("clients")
        address = self.azure_host.address
        state = self._run.folder / "azure.json"
        self._azure = self.azure_host.spawn(
            *(sys.executable, "-m", "testbed.azure"),
            *("--listen", f"{address}:443", "--admin", f"{address}:8444"),
            *("--frontends", str(self.fabric.frontends)),
            *("--interface", "eth0", "--probe-source", address),
            *("--group", files.RESOURCE_GROUP, "--delay", str(self.plan.azure_delay)),
            *("--state-file", state),
        )
        self.azure = await asyncio.to_thread(EmulatorAdmin.from_state_file, state)
        async with network_client(self.azure) as client:
            poller = await client.virtual_networks.begin_create_or_update(
                files.RESOURCE_GROUP,
                files.VIRTUAL_NETWORK,
                VirtualNetwork(
                    {
                        "location": "eastus",
                        "properties": {"addressSpace": {"addressPrefixes": [str(self.fabric.network)]}},
                    }
                ),
            )
            network = await poller.result()
        assert network.id is not None
        self._network_id = network.id

    async def _install(self) -> None:
        """CRDs, rights, namespaces, FarmNodes: what an administrator applies once."""
        kubectl = self.cluster.kubectl
        if self._kubeconfig is not None:
            self._stack.push_async_callback(self._uninstall)
        await install_farmstead(kubectl)
        await kubectl("create", "namespace", NAMESPACE)
        self.machines = {name: self.fabric.machine(name) for name in self.plan.machines}
        await self.enrol()

    async def enrol(self) -> None:
        """Apply the FarmNodes of all machines."""
        await self.apply(
            *(
                files.farm_node(
                    name,
                    zone=self.plan.machines[name],
                    address=machine.address,
                    labels=self.plan.labels,
                    namespaces=[NAMESPACE],
                )
                for name, machine in self.machines.items()
            )
        )

    async def _uninstall(self) -> None:
        """Take it all away again: another's cluster outlives us. Namespaces go when its controllers get to it."""
        kubectl = self.cluster.kubectl
        await kubectl("delete", "namespace", NAMESPACE, "--ignore-not-found", "--wait=false")
        await uninstall_farmstead(kubectl)

    async def _start_machine(self, name: str) -> None:
        machine = self.machines[name]
        kubeconfig = self.cluster.kubeconfig_for(user=f"farmstead:node:{name}", groups=["farmstead:nodes"])
        inside = machine.path("/etc/farmstead/kubeconfig")
        inside.write_bytes(kubeconfig.read_bytes())
        machine.path(AGENT_CONFIG).write_text(
            files.AGENT_FILE.format(name=name, kubeconfig="/etc/farmstead/kubeconfig")
        )
        machine.set_service(*_AGENT, listen=[("0.0.0.0", PROBE_PORT)])
        await machine.boot()

    async def upgrade_agent(self, name: str, *, version: str) -> None:
        """Install another version of the agent on a machine, in a place of its own, and restart the service with it.

        It is a copy of this one that calls itself by another version.
        """
        machine = self.machines[name]
        place = machine.path(f"/var/lib/farmstead-{version}/farmstead_agent").parent
        shutil.copytree(Path(farmstead_agent.__file__).parent, place / "farmstead_agent")
        about = place / f"farmstead-{version}.dist-info/METADATA"
        about.parent.mkdir()
        about.write_text(f"Metadata-Version: 2.4\nName: farmstead\nVersion: {version}\n")
        await machine.replace_service(*_AGENT, env={"PYTHONPATH": f"/var/lib/farmstead-{version}"})
        await machine.restart_service()

    # -- the operator

    async def start_operator(self, name: str = "operator-0") -> Child:
        """Start one replica of the operator; where it ends by itself it is started again, as in a Deployment."""
        kubeconfig = self.cluster.kubeconfig_for(user=OPERATOR_USER)
        config = self._run.folder / f"{name}.yaml"
        extra = {"identity": name, "http": {"address": "127.0.0.1", "port": 0}} | dict(self.plan.operator)
        config.write_text(
            files.operator_settings(azure=self.azure, kubeconfig=kubeconfig, network_id=self._network_id, extra=extra)
        )
        self._spawn_operator(name)
        self._keepers[name] = asyncio.create_task(self._keep_operator(name), name=f"deployment of {name}")
        return self._operators[name]

    async def kill_operator(self, name: str = "operator-0") -> None:
        """SIGKILL, and nobody starts it again."""
        self._keepers.pop(name).cancel()
        await self._operators.pop(name).stop()

    def _spawn_operator(self, name: str) -> None:
        self._operators[name] = Child(
            [sys.executable, "-m", "farmstead_operator", "--config", self._run.folder / f"{name}.yaml"],
            log=self._run.folder / f"{name}.log",
            cgroup=self._run.cgroup,
        )

    async def _keep_operator(self, name: str) -> None:
        while True:
            await self._operators[name].wait()
            await asyncio.sleep(RESTART_SECONDS)
            self._spawn_operator(name)

    async def _stop_children(self) -> None:
        for keeper in self._keepers.values():
            keeper.cancel()
        for child in self._operators.values():
            await child.stop()
        if hasattr(self, "_azure"):
            await self._azure.stop()

    # -- what a person at a terminal does

    async def apply(self, *objects: Any) -> None:
        """`kubectl apply` of objects."""
        listed = {"apiVersion": "v1", "kind": "List", "items": list(objects)}
        await self.cluster.kubectl("apply", "-f", "-", stdin=json.dumps(listed))

    async def operate(self, kind: str, *, cluster: str, member: str | None = None) -> str:
        """Create an Operation on a FarmCluster, and wait until it has succeeded; gives its name."""
        spec = {"clusterRef": {"kind": "FarmCluster", "name": cluster}, "type": kind} | (
            {"member": member} if member else {}
        )
        body = {
            "apiVersion": "farmstead.dev/v1alpha1",
            "kind": "Operation",
            "metadata": {"generateName": f"{kind.lower()}-", "namespace": NAMESPACE},
            "spec": spec,
        }
        created = json.loads(await self.cluster.kubectl("create", "-o", "json", "-f", "-", stdin=json.dumps(body)))
        name: str = created["metadata"]["name"]
        await self.cluster.kubectl(
            *(
                "wait",
                "-n",
                NAMESPACE,
                f"operation/{name}",
                "--for=jsonpath={.status.phase}=Succeeded",
                "--timeout=120s",
            )
        )
        return name

    def logs(self) -> Mapping[str, str]:
        """The end of every part's log, for people."""
        own = {name: child.tail() for name, child in self._operators.items()}
        agents = {f"agent on {name}": machine.service_log() for name, machine in self.machines.items()}
        return own | {"azure": self._azure.tail()} | agents
