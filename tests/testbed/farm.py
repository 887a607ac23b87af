"""A farm's operator and the people around it: replicas as processes, objects as kubectl would write them, waits.

For tests of the operator over the real API server. Azure is added by `site`; machines' agents are stand-ins.
"""

import asyncio
import contextlib
import json
import os
import secrets
import sys
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import Any, TypeVar

import aiohttp
import yaml

from farmstead_api import FarmCluster, Operation, parse
from farmstead_kube import FARM_CLUSTERS, FARM_NODES, MEMBERS, OPERATIONS, Client, Json, NotFound, Selection
from testbed.child import Child
from testbed.controlplane import ControlPlane
from testbed.run import Run

OPERATOR_USER = "system:serviceaccount:farmstead-system:farmstead-operator"
OPERATOR_GROUPS = ("system:serviceaccounts", "system:serviceaccounts:farmstead-system")
"""A pod's, whose requests the API server queues apart from people's."""
PATIENCE = 30.0

T = TypeVar("T")


class Replica:
    """One operator, kept running as kubelet keeps a container: begun anew when it ends, until it is ended for good."""

    def __init__(self, name: str, config: Path) -> None:
        self.name = name
        self._argv = [sys.executable, "-m", "farmstead_operator", "--config", str(config)]
        self._log = config.with_suffix(".log")
        self.child = self._start()
        self._keeper = asyncio.create_task(self._keep())

    def _start(self) -> Child:
        return Child(self._argv, log=self._log, env=dict(os.environ))

    async def _keep(self) -> None:
        while True:
            await self.child.wait()
            self.child = self._start()

    async def end(self, *, grace_seconds: float) -> None:
        """End it for good."""
        self._keeper.cancel()
        await asyncio.gather(self._keeper, return_exceptions=True)
        await self.child.stop(grace_seconds=grace_seconds)

    async def port(self) -> int:
        """Where it answers."""
        marker = "metrics on port "
        while marker not in (text := self._log.read_text()):
            await asyncio.sleep(0.05)
        return int(text.split(marker)[-1].split()[0])

    async def get(self, path: str) -> tuple[int, str]:
        """Ask it over HTTP."""
        url = f"http://127.0.0.1:{await self.port()}{path}"
        async with aiohttp.ClientSession() as session, session.get(url) as response:
            return response.status, await response.text()


class Farm:
    """What a person, and the test, does at the API server in one namespace."""

    def __init__(self, run: Run, control_plane: ControlPlane, client: Client, namespace: str) -> None:
        self._run = run
        self.control_plane = control_plane
        self.client = client
        self.namespace = namespace
        self.pool = namespace
        """Label of this test's machines."""
        self.replicas: list[Replica] = []
        self.nodes: list[str] = []

    # -- operator

    async def operator(self, name: str = "one", **settings: Any) -> Replica:
        """Start a replica."""
        kubeconfig = self.control_plane.kubeconfig_for(user=OPERATOR_USER, groups=OPERATOR_GROUPS)
        content = {
            "kubeconfig": str(kubeconfig),
            "identity": f"{self.namespace}-{name}",
            "http": {"address": "127.0.0.1", "port": 0},
            "leaderElection": {"leaseSeconds": 3, "renewDeadlineSeconds": 2, "retrySeconds": 0.5},
        } | settings
        suffix = secrets.token_hex(2)
        config = self._run.folder / f"{self.namespace}-{name}-{suffix}.yaml"
        config.write_text(yaml.safe_dump(content))
        replica = Replica(name, config)
        self.replicas.append(replica)
        return replica

    async def kill(self, replica: Replica) -> None:
        """SIGKILL."""
        await replica.end(grace_seconds=0)
        self.replicas.remove(replica)

    async def close(self) -> None:
        """End all replicas, gently: the next test need not wait for the Lease to run out. Take the machines away."""
        for replica in self.replicas:
            await replica.end(grace_seconds=15)
        for node in self.nodes:
            with contextlib.suppress(NotFound):
                await self.client.delete(FARM_NODES, node)

    # -- objects

    async def machine(self, name: str, **labels: str) -> str:
        """A FarmNode; gives its name."""
        node = f"{self.namespace}-{name}"
        body: Json = {
            "metadata": {"name": node, "labels": {"pool": self.pool} | labels},
            "spec": {
                "zone": "1",
                "addresses": [{"name": "default", "address": f"10.0.0.{10 + len(name)}"}],
                "allowedNamespaces": [self.namespace],
            },
        }
        await self.client.apply(FARM_NODES, body)
        self.nodes.append(node)
        return node

    async def cluster(self, name: str = "web", **spec: Any) -> None:
        """A FarmCluster of all machines of this test."""
        wanted = {
            "members": {"selector": {"matchLabels": {"pool": self.pool}}},
            "application": {"scripts": {"directory": "/opt/app"}},
        } | spec
        await self.client.apply(FARM_CLUSTERS, {"metadata": self._meta(name), "spec": wanted})

    async def operate(self, kind: str, *, cluster: str = "web", member: str | None = None, **spec: Any) -> str:
        """An Operation; gives its name."""
        name = f"{kind.lower()}-{secrets.token_hex(3)}"
        content = {"clusterRef": {"kind": "FarmCluster", "name": cluster}, "type": kind} | spec
        content |= {"member": member} if member else {}
        body = {
            "apiVersion": OPERATIONS.api_version,
            "kind": "Operation",
            "metadata": self._meta(name),
            "spec": content,
        }
        await self.client.create(OPERATIONS, body, namespace=self.namespace)
        return name

    async def delete(self, name: str = "web") -> None:
        """Delete a FarmCluster."""
        await self.client.delete(FARM_CLUSTERS, name, namespace=self.namespace)

    def _meta(self, name: str) -> Json:
        return {"name": name, "namespace": self.namespace}

    # -- what is

    async def members(self) -> dict[str, Json]:
        """Members by machine."""
        listing = await self.client.list(Selection(MEMBERS, namespace=self.namespace))
        return {item["spec"]["nodeName"]: item for item in listing.items}

    async def read(self, name: str = "web") -> FarmCluster | None:
        """The cluster, or None."""
        try:
            return parse(FarmCluster, await self.client.get(FARM_CLUSTERS, name, namespace=self.namespace))
        except NotFound:
            return None

    async def condition(self, kind: str, status: str, *, name: str = "web", reason: str = "", says: str = "") -> str:
        """Wait until a condition of the cluster has this status (and reason, and words); gives its message."""

        async def there() -> str | None:
            cluster = await self.read(name)
            for entry in cluster.status.conditions if cluster else ():
                if (
                    entry.type == kind
                    and entry.status == status
                    and reason in ("", entry.reason)
                    and says in entry.message
                ):
                    return entry.message or entry.reason
            return None

        return await self.until(there, f"{kind}={status} {reason} {says}")

    async def operation(self, name: str, phase: str) -> Operation:
        """Wait until an Operation is in this phase."""

        async def there() -> Operation | None:
            operation = parse(Operation, await self.client.get(OPERATIONS, name, namespace=self.namespace))
            return operation if operation.status.phase == phase else None

        return await self.until(there, f"Operation {name} {phase}")

    async def gone(self, name: str = "web") -> None:
        """Wait until the cluster is no more."""

        async def there() -> bool:
            return await self.read(name) is None

        await self.until(there, f"{name} gone")

    async def until(self, question: Callable[[], Awaitable[T | None]], what: str) -> T:
        """Ask until the answer is true."""
        try:
            async with asyncio.timeout(PATIENCE):
                while not (answer := await question()):
                    await asyncio.sleep(0.05)
        except TimeoutError:
            cluster = await self.read()
            logs = "\n".join(replica.child.log.read_text()[-6000:] for replica in self.replicas)
            status = json.dumps(cluster and [str(entry) for entry in cluster.status.conditions], indent=1)
            raise AssertionError(f"{what} did not come\n{status}\n{logs}") from None
        return answer
