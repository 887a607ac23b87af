"""The agent's session with the API server: connect, follow Members, report, tell events; forever, whatever fails."""

import asyncio
import logging
from pathlib import Path

from farmstead_agent.kube.node import Node
from farmstead_agent.kube.reporting import Reporting
from farmstead_agent.kube.watching import Watching
from farmstead_agent.machine import Happening, Machine
from farmstead_agent.members import Members
from farmstead_agent.settings import Settings
from farmstead_api.names import AGENT_FIELD_MANAGER
from farmstead_kube import MEMBERS, Client, EventKind, EventRecorder, KubeError, Note, Regarding, connect

log = logging.getLogger("farmstead.session")
RETRY_SECONDS = 10.0


class Session:
    """What there is of the API server; without it members live on."""

    def __init__(self, settings: Settings) -> None:
        self._settings = settings
        self._problem = "not connected yet"

    async def run(self, machine: Machine, members: Members) -> None:
        """Work with the API server; ends only by cancellation."""
        machine.trouble = lambda: self._problem
        client = await self._connected()
        try:
            recorder = EventRecorder(client, controller="farmstead.dev/agent", instance=self._settings.node)
            watching = Watching(client, members, machine.metrics, node=self._settings.node)
            machine.tell = lambda happening: recorder.record(note_of(happening))
            machine.trouble = lambda: watching.trouble
            node = Node(client, machine, members)
            reporting = Reporting(client, members, machine.metrics)
            async with asyncio.TaskGroup() as group:
                group.create_task(recorder.run(), name="events")
                group.create_task(watching.run(), name="watch")
                group.create_task(reporting.run(), name="reporting")
                group.create_task(node.run(), name="node")
        finally:
            await client.close()

    async def _connected(self) -> Client:
        """A client, as soon as the kubeconfig can be used."""
        kubeconfig = Path(self._settings.kubeconfig) if self._settings.kubeconfig else None
        while True:
            try:
                return await connect(kubeconfig=kubeconfig, field_manager=AGENT_FIELD_MANAGER)
            except KubeError as error:
                self._problem = str(error)
                log.warning("no API server: %s; trying again in %d s", error, RETRY_SECONDS)
            await asyncio.sleep(RETRY_SECONDS)


def note_of(happening: Happening) -> Note:
    """The Event that tells of a happening."""
    meta = happening.member.metadata
    return Note(
        regarding=Regarding(MEMBERS, meta.name, meta.uid, meta.namespace),
        kind=EventKind.WARNING if happening.warning else EventKind.NORMAL,
        reason=happening.reason,
        action=happening.action,
        note=happening.note,
    )
