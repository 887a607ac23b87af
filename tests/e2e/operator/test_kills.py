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

KILLS = int(os.environ.get("FARMSTEAD_KILLS", "14"))
LATENCY = 0.3
DELAY = 1.0
TIMES = re.compile(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d(\.\d+)?Z")
PASSING = {"uid", "resourceVersion", "creationTimestamp", "managedFields", "operationUID"}


class Story:
    """Changes as a person makes them, step by step; after each the world comes to rest before the next."""

    def __init__(self, farm: AzureFarm) -> None:
        self.farm = farm
        self.steps = (self.create, self.change, self.operate, self.swap, self.shrink, self.delete, self.again)

    def shared(self, name: str, number: int, **spec: Any) -> Json:
        """A cluster on the load balancer that all but `public` share."""
        return self.farm.manifest(name, balancer="shared", frontend=self.farm.internal(f"10.0.4.{number}"), **spec)

    async def create(self) -> None:
        await self.farm.apply(self.farm.manifest("public"), self.shared("one", 11), self.shared("two", 12))

    async def change(self) -> None:
        await self.farm.apply(self.farm.manifest("public", port=81), self.shared("one", 11, port=82))

    async def operate(self) -> None:
        body = {"clusterRef": {"kind": "FarmCluster", "name": "one"}, "type": "StopStart"}
        meta = {"name": "stopstart", "namespace": self.farm.namespace}
        await self.farm.apply(
            {"apiVersion": OPERATIONS.api_version, "kind": "Operation", "metadata": meta, "spec": body},
            self.shared("two", 12, port=83),
        )

    async def swap(self) -> None:
        await self.farm.remove("two")
        await self.farm.apply(self.shared("three", 13), self.farm.manifest("public", port=84))

    async def shrink(self) -> None:
        names = {"names": self.farm.nodes[:2]}
        await self.farm.apply(self.shared("one", 11, port=85, members=names), self.farm.manifest("public", port=86))

    async def delete(self) -> None:
        await self.farm.remove("public", "three")

    async def again(self) -> None:
        await self.farm.apply(self.farm.manifest("public"), self.shared("three", 13))

    async def rest(self, done: int) -> None:
        """Wait until what was asked for so far is so."""
        there = [
            {"public", "one", "two"},
            {"public", "one", "two"},
            {"public", "one", "two"},
            {"public", "one", "three"},
            {"public", "one", "three"},
            {"one"},
            {"public", "one", "three"},
        ][done]
        history = self.farm.history

        def rests() -> bool:
            return set(history.latest) == there and all(
                history.is_(name, "Ready", "True") and history.backends(name) == self.backends(name, done)
                for name in there
            )

        await self.farm.until_history(rests, lambda: f"rest after step {done}", seconds=180)
        if done >= 2:
            await self.farm.kubectl("wait", "operation/stopstart", "--for=condition=Complete", "--timeout=90s")

    @staticmethod
    def backends(name: str, done: int) -> int:
        """Machines behind a cluster after a step."""
        return 2 if name == "one" and done >= 4 else 3


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
    text = TIMES.sub("<time>", text.replace(farm.namespace, "<namespace>"))
    result: Json = _without(json.loads(text))
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


async def play(run: Run, control_plane: ControlPlane, namespace: str, *, kills: int) -> tuple[Json, list[str], str]:
    """The story, with so many kills: what is left, what the machines did, and how the kills went."""
    await control_plane.kubectl("create", "namespace", namespace)
    client = await connect(kubeconfig=control_plane.admin_kubeconfig, field_manager="test")
    try:
        async with AzureFarm(run, control_plane, client, namespace, delay=DELAY) as farm:
            replica = await farm.operator(azure={"healthSeconds": 2})
            farm.azure.set_latency(LATENCY)
            killer = Killer(farm.azure, lambda: replica.child)
            story = Story(farm)
            for number, step in enumerate(story.steps):
                await step()
                share = kills * (number + 1) // len(story.steps) - kills * number // len(story.steps)
                await killer.strike(share)
                await story.rest(number)
            if kills:
                assert killer.kills == kills
                assert killer.in_flight * 2 >= kills, str(killer)
            return await outcome(farm), farm.agents.history, f"{killer}; {farm.azure.log.counters()}"
    finally:
        await client.close()


@pytest.mark.timeout(300 + KILLS * 20)
async def test_killed_at_any_moment_all_ends_as_in_peace(run: Run, installed: ControlPlane, namespace: str) -> None:
    peace, done_in_peace, _ = await play(run, installed, f"{namespace}-peace", kills=0)
    chaos, done_in_chaos, account = await play(run, installed, f"{namespace}-chaos", kills=KILLS)
    print(f"\n{account}")
    assert list(differences(peace, chaos)) == []
    in_peace = sorted(line.replace("-peace-", "-") for line in done_in_peace)
    assert sorted(line.replace("-chaos-", "-") for line in done_in_chaos) == in_peace, "no machine did a thing twice"
