"""What the API server says as it changes: members, clusters and machines, remembered, awaited and told as lines.

A reader like any other (kubectl, a dashboard): it sees what is in the status fields and nothing else.
"""

import asyncio
from collections.abc import Callable
from typing import TypeVar

from farmstead_api import FarmCluster, FarmNode, Member, parse
from farmstead_kube import FARM_CLUSTERS, FARM_NODES, MEMBERS, Client, EventType, Resource, Selection, Watch

# Conditions that are told; Ready and Reconciling repeat what these say, for programs.
TOLD = frozenset({"Available", "RedundancyReady", "LoadBalancerReady", "Held"})
Tell = Callable[[str, str], None]
V = TypeVar("V", FarmCluster, FarmNode, Member)


class Chronicle:
    """Watches from `run()` on. `members`, `clusters` and `nodes` are as last seen, by namespace and name."""

    def __init__(self, client: Client, *, tell: Tell) -> None:
        self._client = client
        self._tell = tell
        self._changed = asyncio.Condition()
        self.members: dict[tuple[str, str], Member] = {}
        self.clusters: dict[tuple[str, str], FarmCluster] = {}
        self.nodes: dict[tuple[str, str], FarmNode] = {}

    async def run(self) -> None:
        """Watch until cancelled."""
        async with asyncio.TaskGroup() as group:
            group.create_task(self._follow(MEMBERS, Member, self.members, self._tell_member))
            group.create_task(self._follow(FARM_CLUSTERS, FarmCluster, self.clusters, self._tell_conditions))
            group.create_task(self._follow(FARM_NODES, FarmNode, self.nodes, self._tell_conditions))

    async def until(self, condition: Callable[["Chronicle"], bool], *, within: float, what: str) -> None:
        """Wait for a condition on what is seen; raises TimeoutError, with `what` it waited for, after `within` s."""
        try:
            async with asyncio.timeout(within), self._changed:
                await self._changed.wait_for(lambda: condition(self))
        except TimeoutError:
            seen = "; ".join(f"{m.metadata.name} {_state(m)}" for m in self.members.values())
            raise TimeoutError(f"waited {within:g} s for {what}; members: {seen or 'none'}") from None

    def member(self, node: str) -> Member | None:
        """The member on a machine."""
        return next((member for member in self.members.values() if member.spec.node_name == node), None)

    async def _follow(
        self, resource: Resource, view: type[V], store: dict[tuple[str, str], V], tell: Callable[[V | None, V], None]
    ) -> None:
        async for event in Watch(self._client, Selection(resource)):
            if event.type is EventType.SYNCED:
                continue
            key = (event.object["metadata"].get("namespace", ""), event.object["metadata"]["name"])
            if event.type is EventType.DELETED:
                gone = store.pop(key, None)
                if gone is not None:
                    self._tell(_source(gone), f"{gone.metadata.name} is gone")
            else:
                seen = parse(view, event.object)
                tell(store.get(key), seen)
                store[key] = seen
            async with self._changed:
                self._changed.notify_all()

    def _tell_member(self, before: Member | None, now: Member) -> None:
        if now.status.reason and (before is None or _essence(before) != _essence(now)):
            self._tell("member", f"{now.spec.node_name}: {_state(now)}")

    def _tell_conditions(self, before: FarmCluster | FarmNode | None, now: FarmCluster | FarmNode) -> None:
        old = {c.type: (c.status, c.reason) for c in before.status.conditions} if before else {}
        for condition in now.status.conditions:
            change = (condition.status, condition.reason)
            # What was never otherwise is no news.
            if condition.type in TOLD and change != old.get(condition.type) and (old or condition.status != "False"):
                words = f"{condition.type}={condition.status.value} {condition.reason}: {condition.message}"
                self._tell(_source(now), f"{now.metadata.name}: {words}")


def _essence(member: Member) -> tuple[str, str, str]:
    """What a line is worth; messages that only count on are not."""
    return member.status.state, member.status.readiness, member.status.reason


def _state(member: Member) -> str:
    status = member.status
    return f"{status.state.value}/{status.readiness.value}" + (f", {status.message}" if status.message else "")


def _source(view: FarmCluster | FarmNode | Member) -> str:
    return "member" if isinstance(view, Member) else "machine" if isinstance(view, FarmNode) else "cluster"
