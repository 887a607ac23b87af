"""The demo's acts: what goes wrong with a farm, and what its clients notice of it.

Each act waits for what it shows, on the API's status or on the clients' own account, and fails where it does not
come. Figures are taken from the clients.
"""

import asyncio
import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from farmstead_api import FarmCluster
from farmstead_kube import connect
from testbed.datacentre import NAMESPACE, DataCentre
from testbed.datacentre.chronicle import Chronicle
from testbed.datacentre.datacentre import ROOT
from testbed.demo.timeline import Timeline
from testbed.load.process import Load

SAMPLES = ROOT / "manifests/samples"
CLUSTER = (NAMESPACE, "web")
PORT = 80
PATIENCE = 5
"""Seconds that a client waits for its answer."""


@dataclass(frozen=True, kw_only=True)
class Act:
    """One act, and when it was. It ends when its last victim has been told: no request waits longer than PATIENCE."""

    title: str
    began: float
    ended: float

    def row(self, load: Load) -> tuple[str, str, str, str]:
        """What it cost the clients."""
        ticks = [tick for tick in load.ticks if self.began < tick["at"] <= self.ended + 1]
        failed = [line for line in load.failures if self.began <= line["at"] < self.ended]
        served = sum(sum(tick["by_machine"].values()) for tick in ticks)
        gap = max((tick["gap"] for tick in ticks), default=0.0)
        return self.title, str(served), str(len(failed)), f"{gap * 1000:.0f} ms"


class Story:
    """The acts, in order; `run()` plays them."""

    def __init__(self, centre: DataCentre, timeline: Timeline) -> None:
        self._centre = centre
        self.timeline = timeline
        self.acts: list[Act] = []
        self._load: Load | None = None
        self._chronicle: Chronicle

    async def run(self, *, keep: bool) -> None:
        """Play all acts; with `keep`, all but the last."""
        client = await connect(kubeconfig=self._centre.cluster.admin_kubeconfig, field_manager="farmstead-demo")
        self._chronicle = Chronicle(client, tell=self.timeline.say)
        watching = asyncio.create_task(self._chronicle.run())
        try:
            await self.farm_appears()
            await self.application_dies()
            await self.machine_is_cut_off()
            await self.machine_is_drained()
            await self._stop_load()
            if not keep:
                await self.farm_goes()
        finally:
            await self._stop_load()
            watching.cancel()
            await asyncio.gather(watching, return_exceptions=True)
            await client.close()
        self._summary()

    # -- acts

    async def farm_appears(self) -> None:
        """kubectl apply, and clients are served by three machines."""
        self.timeline.chapter("kubectl apply -f manifests/samples/farmcluster.yaml")
        kubectl = self._centre.cluster.kubectl
        await kubectl("apply", "-n", NAMESPACE, "-f", str(SAMPLES / "nginx/nginx-scripts.yaml"))
        await kubectl("apply", "-f", str(SAMPLES / "farmcluster.yaml"))
        await self._chronicle.until(lambda seen: _ready(seen.clusters.get(CLUSTER)), within=60, what="the farm")
        address = self._address()
        self.timeline.say(
            "demo", f"clients connect to {address}:{PORT}: half with a connection a request, half keep theirs"
        )
        self._load = await Load.start(
            self._centre.clients,
            target=f"{address}:{PORT}",
            paths=["/", "/", "/", "/slow"],
            arguments=["--new", "8", "--keep", "8", "--timeout", str(PATIENCE)],
            tell=self._tell_failure,
        )
        await self.load.until_served_by(set(self._centre.machines), within=30)
        self.timeline.say("clients", f"served by {self._shares()}")

    async def application_dies(self) -> None:
        """kill -9 nginx: restarted in place by the agent."""
        async with self._act("nginx on vm1 is killed (SIGKILL)"):
            began = time.monotonic()
            await self._centre.machines["vm1"].kill_all("nginx")
            await self._member("vm1", lambda member: member.readiness != "Ready", within=5, what="vm1 to notice")
            await self._member("vm1", lambda member: member.readiness == "Ready", within=10, what="vm1 to be back")
            self.timeline.say("demo", f"vm1 serves again {time.monotonic() - began:.1f} s after the kill")

    async def machine_is_cut_off(self) -> None:
        """Packets from and to a machine vanish: its share moves to the others, and comes back."""
        async with self._act("vm2 is cut off from the network"):
            await self._centre.machines["vm2"].cut()
            await self.load.until_served_by({"vm1", "vm3"}, within=30, seconds=3)
            self.timeline.say("clients", f"vm2's share has moved: {self._shares()}")
            await self._centre.machines["vm2"].heal()
            self.timeline.say("demo", "the network of vm2 is whole again")
            await self.load.until_served_by(set(self._centre.machines), within=30)
            self.timeline.say("clients", f"served by {self._shares()}")

    async def machine_is_drained(self) -> None:
        """A planned stop costs nobody anything."""
        async with self._act("vm3 is drained (Operation Drain), then comes back (Undrain)"):
            await self._centre.operate("Drain", cluster="web", member="vm3")
            await self.load.until_served_by({"vm1", "vm2"}, within=10)
            self.timeline.say("clients", f"served by {self._shares()}")
            await self._centre.operate("Undrain", cluster="web", member="vm3")
            await self.load.until_served_by(set(self._centre.machines), within=30)

    async def farm_goes(self) -> None:
        """kubectl delete: everything of ours in Azure goes too."""
        self.timeline.chapter("kubectl delete farmcluster web")
        await self._centre.cluster.kubectl("delete", "-n", NAMESPACE, "farmcluster", "web", "--timeout=120s")
        left = [
            name
            for name in _resources(await asyncio.to_thread(self._centre.azure.snapshot))
            if "shop-web" in name or "loadBalancers" in name
        ]
        if left:
            raise AssertionError(f"left in Azure: {', '.join(left)}")
        self.timeline.say("azure", "no load balancer and no public address of ours is left")

    # -- how

    @property
    def load(self) -> Load:
        """The clients."""
        assert self._load is not None, "the clients have not been started"
        return self._load

    async def _stop_load(self) -> None:
        if self._load is not None:
            await self._load.stop()

    def _act(self, title: str) -> "_Acting":
        return _Acting(self, title)

    def _tell_failure(self, line: dict[str, Any]) -> None:
        if "failure" in line:
            self.timeline.say("failed", f"{line['client']} at {line['machine']}: {line['failure']}")

    def _address(self) -> str:
        cluster = self._chronicle.clusters[CLUSTER]
        balancer = cluster.status.load_balancer
        assert balancer is not None
        assert balancer.azure is not None
        return balancer.azure.frontend_address

    def _shares(self) -> str:
        tick = self.load.ticks[-1]["by_machine"]
        return ", ".join(f"{machine} {count}/s" for machine, count in tick.items()) or "nobody"

    async def _member(self, node: str, condition: Callable[[Any], bool], *, within: float, what: str) -> None:
        def holds(seen: Chronicle) -> bool:
            member = seen.member(node)
            return member is not None and condition(member.status)

        await self._chronicle.until(holds, within=within, what=what)

    def _summary(self) -> None:
        self.timeline.chapter("What clients noticed")
        rows: list[tuple[str, ...]] = [("act", "requests served", "failed", "longest time without an answer")]
        rows += [act.row(self.load) for act in self.acts]
        total = self.load.total
        rows.append(
            ("all together", str(total["served"]), str(total["failed"]), f"{total['longest_gap'] * 1000:.0f} ms")
        )
        self.timeline.table(rows)


class _Acting:
    """One act: a chapter, and what the clients' account says of it."""

    def __init__(self, story: Story, title: str) -> None:
        self._story = story
        self._title = title

    async def __aenter__(self) -> None:
        self._story.timeline.chapter(self._title)
        self._began = time.monotonic()

    async def __aexit__(self, *_: object) -> None:
        self._story.acts.append(Act(title=self._title, began=self._began, ended=time.monotonic()))


def _ready(cluster: FarmCluster | None) -> bool:
    return cluster is not None and any(
        condition.type == "Ready" and condition.status == "True" for condition in cluster.status.conditions
    )


def _resources(snapshot: dict[str, Any]) -> list[str]:
    """Ids of what there is in Azure."""
    return list(snapshot)
