"""What the agent says of its machine: the FarmNode's status, on change, and a Lease as its heartbeat."""

import asyncio
import logging
import platform
from datetime import UTC, datetime
from importlib.metadata import version

from farmstead_agent.application.kinds import SUPPORTED as APPLICATIONS
from farmstead_agent.checks.running import SUPPORTED as CHECKS
from farmstead_agent.clock import timestamp
from farmstead_agent.machine import Machine
from farmstead_agent.members import Members
from farmstead_api import Condition, FarmNode, ViewError, conditions, dump, parse
from farmstead_api.conditions import ConditionStatus
from farmstead_api.farmnode import FarmNodeStatus
from farmstead_api.names import node_lease_name
from farmstead_kube import FARM_NODES, Client, KubeError, renew_lease

log = logging.getLogger("farmstead.node")
RENEW_SECONDS = 10.0
RETRY_SECONDS = 2.0
LEASE_SECONDS = 40
NAMED_AT_MOST = 5


class Node:
    """Reports on this machine."""

    def __init__(self, client: Client, machine: Machine, members: Members) -> None:
        self._client = client
        self._machine = machine
        self._members = members
        machine.metrics.gone.set_function(lambda: len(members.unconfirmed))

    async def run(self) -> None:
        """Renew the Lease every 10 seconds and keep the status true; ends only by cancellation."""
        complaint = ""
        while True:
            trouble = self._machine.trouble()
            try:
                await self._renew()
                await self._report(trouble)
            except (KubeError, ViewError) as error:
                self._machine.metrics.writes.labels("node", "failed").inc()
                if complaint != str(error):
                    complaint = str(error)
                    log.warning("the machine's Lease or status was not written: %s", error)
            else:
                self._machine.metrics.writes.labels("node", "ok").inc()
                complaint = ""
            await asyncio.sleep(RETRY_SECONDS if complaint or trouble else RENEW_SECONDS)

    async def _renew(self) -> None:
        settings = self._machine.settings
        await renew_lease(
            self._client,
            name=node_lease_name(settings.node),
            namespace=settings.lease_namespace,
            holder=settings.node,
            duration_seconds=LEASE_SECONDS,
            now=datetime.now(UTC),
        )

    async def _report(self, trouble: str) -> None:
        """Write the FarmNode's status where it is not what it should be."""
        node = parse(FarmNode, await self._client.get(FARM_NODES, self._machine.settings.node))
        now = timestamp(self._machine.clock.time())
        found = self._conditions(trouble, node.metadata.generation)
        status = self._status(node.metadata.generation, conditions.merge(node.status.conditions, found, now=now))
        if status != node.status:
            body = {"metadata": {"name": self._machine.settings.node}, "status": dump(status)}
            await self._client.apply_status(FARM_NODES, body)

    def _status(self, generation: int, found: tuple[Condition, ...]) -> FarmNodeStatus:
        return FarmNodeStatus(
            observed_generation=generation,
            conditions=found,
            boot_id=self._machine.boot_id,
            agent_version=version("farmstead"),
            kernel_version=platform.release(),
            operating_system=_operating_system(),
            capabilities=capabilities(self._machine.launcher.name),
            probe_port=self._machine.settings.probe.port,
        )

    def _conditions(self, trouble: str, generation: int) -> tuple[Condition, ...]:
        ready = Condition(
            type="Ready",
            status=ConditionStatus.FALSE if trouble else ConditionStatus.TRUE,
            reason="NotWatching" if trouble else "AgentRunning",
            message=f"Members are not followed: {trouble}" if trouble else "the agent follows its Members",
            observed_generation=generation,
        )
        unconfirmed = self._members.unconfirmed
        named = "; ".join(f"{label}: {why}" for label, why in sorted(unconfirmed.items())[:NAMED_AT_MOST])
        confirmed = Condition(
            type="MembersConfirmed",
            status=ConditionStatus.FALSE if unconfirmed else ConditionStatus.TRUE,
            reason="MembersUnconfirmed" if unconfirmed else "AllConfirmed",
            message=f"{len(unconfirmed)} run on as they were: {named}" if unconfirmed else "",
            observed_generation=generation,
        )
        return ready, confirmed


def capabilities(launcher: str) -> tuple[str, ...]:
    """What this agent can run and check."""
    return (
        *(f"application/{kind}" for kind in APPLICATIONS),
        *(f"check/{kind}" for kind in CHECKS),
        f"launcher/{launcher}",
    )


def _operating_system() -> str:
    try:
        return platform.freedesktop_os_release().get("PRETTY_NAME", "")
    except OSError:
        return platform.system()
