"""SIGKILL at any moment: what is in the end, in Azure and in Kubernetes, is what would have been without.

The same changes are made twice: once in peace, once while the operator is killed again and again, most of the time in
the middle of a call to Azure. FARMSTEAD_KILLS says how often; `make chaos` takes a hundred.
"""

import json
import os
import re
from collections.abc import Iterator
from typing import Any

import pytest

from farmstead_kube import CONFIG_MAPS, FARM_CLUSTERS, FARM_NODES, LEASES, MEMBERS, OPERATIONS, Json, Selection, connect
from testbed.azure_farm import AzureFarm
from testbed.controlplane import ControlPlane
from testbed.killer import Killer
from testbed.run import Run

KILLS = int(os.environ.get("FARMSTEAD_KILLS", "10"))
LATENCY = 0.3
DELAY = 1.0
TIMES = re.compile(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d(\.\d+)?Z")
PASSING = {"uid", "resourceVersion", "creationTimestamp", "managedFields", "operationUID"}


class Story:
    """Changes as a person makes them, step by step; after each the world comes to rest before the next."""

    def __init__(self, farm: AzureFarm) -> None:
        self.farm = farm
        self.steps = (
            self.create,
            *[self.change] * max(1, KILLS // 20),
            self.operate,
            self.swap,
            self.shrink,
            self.delete,
            self.again,
        )
        self.there: set[str] = set()
        """Clusters that there are when all has come to rest."""
        self.backends = {"public": 3, "one": 3, "two": 3, "three": 3}
        """Machines behind each."""
        self._port = 80

    def public(self) -> Json:
        """A cluster with a load balancer and a public address of its own."""
        self._port += 1
        return self.farm.manifest("public", port=self._port)

    def shared(self, name: str, number: int, **spec: Any) -> Json:
        """A cluster on the load balancer that all but `public` share."""
        self._port += 1
        frontend = self.farm.internal(f"10.0.4.{number}")
        return self.farm.manifest(name, balancer="shared", frontend=frontend, port=self._port, **spec)

    async def create(self) -> None:
        self.there = {"public", "one", "two"}
        await self.farm.apply(self.public(), self.shared("one", 11), self.shared("two", 12))

    async def change(self) -> None:
        await self.farm.apply(self.public(), self.shared("one", 11))

    async def operate(self) -> None:
        body = {"clusterRef": {"kind": "FarmCluster", "name": "one"}, "type": "StopStart"}
        meta = {"name": "stopstart", "namespace": self.farm.namespace}
        operation = {"apiVersion": OPERATIONS.api_version, "kind": "Operation", "metadata": meta, "spec": body}
        await self.farm.apply(operation, self.shared("two", 12))

    async def swap(self) -> None:
        await self.farm.kubectl("wait", "operation/stopstart", "--for=condition=Complete", "--timeout=90s")
        self.there = {"public", "one", "three"}
        await self.farm.remove("two")
        await self.farm.apply(self.shared("three", 13), self.public())

    async def shrink(self) -> None:
        self.backends["one"] = 2
        await self.farm.apply(self.shared("one", 11, members={"names": self.farm.nodes[:2]}), self.public())

    async def delete(self) -> None:
        self.there = {"one"}
        await self.farm.remove("public", "three")

    async def again(self) -> None:
        self.there = {"public", "one", "three"}
        await self.farm.apply(self.public(), self.shared("three", 13))

    async def rest(self) -> None:
        """Wait until what was asked for so far is so."""
        history = self.farm.history

        def rests() -> bool:
            return set(history.latest) == self.there and all(
                history.is_(name, "Ready", "True") and history.backends(name) == self.backends[name]
                for name in self.there
            )

        await self.farm.until_history(rests, lambda: f"rest with {self.there}", seconds=180)


async def outcome(farm: AzureFarm) -> Json:
    """All that is left, in Azure and in Kubernetes, without what differs from run to run."""
    addresses = {
        body["properties"]["ipAddress"]: f"<address of {body['name']}>"
        for body in farm.azure.snapshot().values()
        if body["properties"].get("ipAddress")
    }
    selections = {
        resource.kind: Selection(resource, namespace=farm.namespace)
        for resource in (FARM_CLUSTERS, MEMBERS, OPERATIONS, CONFIG_MAPS)
    } | {resource.kind: Selection(resource) for resource in (FARM_NODES, LEASES)}
    objects = {kind: (await farm.client.list(selection)).items for kind, selection in selections.items()}
    uids = {
        item["metadata"]["uid"]: f"<uid of {kind} {item['metadata']['name']}>"
        for kind, items in objects.items()
        for item in items
    }
    own = {
        kind: [item for item in items if farm.namespace in item["metadata"].get("namespace", item["metadata"]["name"])]
        for kind, items in objects.items()
    }
    text = json.dumps({"azure": farm.azure.snapshot(), "kubernetes": own}, sort_keys=True)
    for found, name in (uids | addresses).items():
        text = text.replace(f'"{found}"', f'"{name}"').replace(f"to {found};", f"to {name};")
    result: Json = _without(json.loads(TIMES.sub("<time>", text)))
    return result


def _without(value: Any) -> Any:
    if isinstance(value, dict):
        return {key: _without(inner) for key, inner in value.items() if key not in PASSING}
    if isinstance(value, list):
        return [_without(inner) for inner in value]
    return value


def differences(peace: Any, chaos: Any, path: str = "") -> Iterator[str]:
    """Where the two differ, for people."""
    if isinstance(peace, dict) and isinstance(chaos, dict):
        for key in sorted(peace.keys() | chaos.keys()):
            yield from differences(peace.get(key), chaos.get(key), f"{path}/{key}")
    elif isinstance(peace, list) and isinstance(chaos, list) and len(peace) == len(chaos):
        for number, (one, other) in enumerate(zip(peace, chaos, strict=True)):
            yield from differences(one, other, f"{path}/{number}")
    elif peace != chaos:
        yield f"{path}: {peace} in peace, {chaos} in chaos"


async def play(run: Run, control_plane: ControlPlane, namespace: str, *, kills: int) -> tuple[Json, list[str], Killer]:
    """The story, with so many kills: what is left, what the machines did, and how the kills went."""
    client = await connect(kubeconfig=control_plane.admin_kubeconfig, field_manager="test")
    try:
        async with AzureFarm(run, control_plane, client, namespace, delay=DELAY) as farm:
            replica = await farm.operator(azure={"healthSeconds": 2})
            farm.azure.set_latency(LATENCY)
            killer = Killer(farm.azure, lambda: replica.child)
            steps = Story(farm)
            for number, step in enumerate(steps.steps):
                await step()
                await killer.strike(kills * (number + 1) // len(steps.steps) - kills * number // len(steps.steps))
                await steps.rest()
            print(f"\n{killer}; ARM calls: {farm.azure.log.counters()}")
            return await outcome(farm), sorted(farm.agents.history), killer
    finally:
        await client.close()


@pytest.mark.timeout(300 + KILLS * 20)
async def test_killed_at_any_moment_all_ends_as_in_peace(run: Run, installed: ControlPlane, namespace: str) -> None:
    """Both in the same namespace, one after the other: names are part of what is compared."""
    peace, done_in_peace, _ = await play(run, installed, namespace, kills=0)
    chaos, done_in_chaos, killer = await play(run, installed, namespace, kills=KILLS)
    assert "\n".join(differences(peace, chaos)) == ""
    assert done_in_chaos == done_in_peace, "no machine did a thing twice"
    assert killer.kills == KILLS
    assert killer.in_flight * 2 >= KILLS
