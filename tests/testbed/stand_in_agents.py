"""Stand-ins for machines' agents, in the test's own process: they do what a Member says, at once, and report it.

For tests of the operator and for its benchmark, where real applications would only be slow. They obey the contract
of the API (revisions, operations carried out once, holds, Removed) and nothing of their own.
"""

import asyncio
from collections import defaultdict
from collections.abc import Iterable, Mapping
from datetime import UTC, datetime
from typing import Any

from msgspec.structs import replace

from farmstead_api import Condition, ConditionStatus, Member, dump, parse
from farmstead_api.common import DesiredState
from farmstead_api.member import (
    REMOVED,
    MemberOperationStatus,
    MemberSpec,
    MemberState,
    MemberStatus,
    OperationPhase,
    Readiness,
)
from farmstead_api.operation import OperationType
from farmstead_kube import MEMBERS, Client, EventType, NotFound, Selection, Watch, renew_lease

LEASE_SECONDS = 40
RENEW_SECONDS = 10.0
SYSTEM = "farmstead-system"


class StandInAgents:
    """The agents of some machines, from `async with` to its end."""

    def __init__(
        self, client: Client, nodes: Iterable[str], *, obey: bool = True, as_node: Mapping[str, Client] | None = None
    ) -> None:
        """`as_node`: what each machine writes by, so that it is known by its own name; `client` where not given."""
        self._client = client
        self._as_node = dict(as_node or {})
        self.nodes = set(nodes)
        self.obey = obey
        """Whether they act on what they see by themselves; a test may do it for them."""
        self.silent: set[str] = set()
        """Machines that are switched off."""
        self.stuck: set[str] = set()
        """Machines whose application does not stop."""
        self.fails: set[OperationType] = set()
        """Operations that go wrong."""
        self.members: dict[tuple[str, str], Member] = {}
        self.running: dict[tuple[str, str], bool] = {}
        """What runs on the machines, whatever the API server says: by cluster and machine."""
        self.history: list[str] = []
        """What was done: `start web vm1`, `stop web vm1`, ..., in order."""
        self._done: dict[str, MemberOperationStatus] = {}
        self._turns: dict[str, asyncio.Lock] = defaultdict(asyncio.Lock)
        self._tasks: list[asyncio.Task[None]] = []

    async def __aenter__(self) -> "StandInAgents":
        await self.renew()
        self._tasks = [asyncio.create_task(self._watch()), asyncio.create_task(self._renew_for_ever())]
        return self

    async def __aexit__(self, *_: object) -> None:
        for task in self._tasks:
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)

    async def renew(self) -> None:
        """Renew the Leases of all machines that are on."""
        await asyncio.gather(*(self._renew(node) for node in sorted(self.nodes - self.silent)))

    async def _renew(self, node: str) -> None:
        await renew_lease(
            self._of(node),
            name=node,
            namespace=SYSTEM,
            holder=node,
            duration_seconds=LEASE_SECONDS,
            now=datetime.now(UTC),
        )

    def _of(self, node: str) -> Client:
        return self._as_node.get(node, self._client)

    async def _renew_for_ever(self) -> None:
        while True:
            await asyncio.sleep(RENEW_SECONDS)
            await self.renew()

    async def _watch(self) -> None:
        async with asyncio.TaskGroup() as group:
            async for event in Watch(self._client, Selection(MEMBERS)):
                if event.type is EventType.SYNCED:
                    continue
                key = (event.object["metadata"].get("namespace", ""), event.object["metadata"]["name"])
                if event.type is EventType.DELETED:
                    self.members.pop(key, None)
                    continue
                member = self.members[key] = parse(Member, event.object)
                if self.obey and member.spec.node_name in self.nodes - self.silent:
                    group.create_task(self._turn(member))

    async def _turn(self, member: Member) -> None:
        """One machine's agent does one thing after the other; machines don't wait for each other."""
        async with self._turns[member.spec.node_name]:
            await self.act(member)

    async def act(self, member: Member) -> None:
        """Do what a Member says, and report it."""
        status = self._status(member)
        if status != member.status:
            await self.write(member, status)

    async def write(self, member: Member, status: MemberStatus) -> None:
        """Report for a machine."""
        meta = member.metadata
        body: dict[str, Any] = {"metadata": {"name": meta.name, "namespace": meta.namespace}, "status": dump(status)}
        try:
            await self._of(member.spec.node_name).apply_status(MEMBERS, body)
        except NotFound:
            return

    def _status(self, member: Member) -> MemberStatus:
        spec = member.spec
        wanted = spec.desired_state is DesiredState.RUNNING and spec.override is None
        wanted = wanted and not member.metadata.deleting
        if member.metadata.deleting and spec.node_name in self.stuck:
            return replace(member.status, message="the application does not stop", readiness=Readiness.TRANSIENT)
        self._switch(spec, wanted)
        status = MemberStatus(
            observed_generation=member.metadata.generation,
            observed_revision=spec.revision,
            application_revision=spec.application_revision if wanted else "",
            state=MemberState.UP if wanted else MemberState.STOPPED,
            readiness=Readiness.READY if wanted else Readiness.NOT_READY,
            reason="Serving" if wanted else "Stopped",
            message="",
            operation=self._operation(spec) or member.status.operation,
        )
        return replace(status, conditions=(_REMOVED,)) if member.metadata.deleting else status

    def _switch(self, spec: MemberSpec, wanted: bool) -> None:
        machine = (spec.cluster_ref.name, spec.node_name)
        if self.running.get(machine, False) != wanted:
            self.running[machine] = wanted
            self.history.append(f"{'start' if wanted else 'stop'} {' '.join(machine)}")

    def _operation(self, spec: MemberSpec) -> MemberOperationStatus | None:
        operation = spec.operation
        if operation is None:
            return None
        key = f"{spec.node_name} {operation.uid}"
        if key not in self._done:
            failed = operation.type in self.fails
            self.history.append(f"{operation.type} {spec.cluster_ref.name} {spec.node_name}")
            phase = OperationPhase.FAILED if failed else OperationPhase.SUCCEEDED
            self._done[key] = MemberOperationStatus(uid=operation.uid, phase=phase, message="as told")
        return self._done[key]


_REMOVED = Condition(
    type=REMOVED,
    status=ConditionStatus.TRUE,
    reason="Stopped",
    message="the application has been stopped",
    last_transition_time="2026-01-01T00:00:00Z",
)
