"""What the control socket answers: the members' state, their history, and the machine's shutdown."""

import asyncio
from collections.abc import Mapping
from typing import Any

from farmstead_agent.control import Command
from farmstead_agent.machine import Machine
from farmstead_agent.members import Members
from farmstead_api import dump


class Commands:
    """The commands."""

    def __init__(self, machine: Machine, members: Members) -> None:
        self._machine = machine
        self._members = members

    def table(self) -> Mapping[str, Command]:
        """By name."""
        return {"status": self.status, "events": self.events, "shutdown-machine": self.shutdown_machine}

    async def status(self, _request: Mapping[str, Any]) -> dict[str, Any]:
        """The machine and each member as its status says."""
        return {
            "node": self._machine.settings.node,
            "bootID": self._machine.boot_id,
            "apiServer": self._machine.trouble() or "connected",
            "members": [
                {
                    "namespace": entry.runner.namespace,
                    "cluster": entry.runner.cluster,
                    "unconfirmed": entry.unconfirmed,
                    "step": entry.runner.step_running,
                    "status": dump(entry.runner.status),
                }
                for entry in self._members.entries.values()
            ],
        }

    async def events(self, request: Mapping[str, Any]) -> list[dict[str, Any]]:
        """The last transitions of all members, or of the one called `member` (<namespace>/<cluster>)."""
        wanted = request.get("member")
        found = [
            {"member": entry.runner.label, **transition}
            for entry in self._members.entries.values()
            if wanted in {None, entry.runner.label}
            for transition in entry.runner.history.entries()
        ]
        return sorted(found, key=lambda transition: str(transition["time"]))

    async def shutdown_machine(self, _request: Mapping[str, Any]) -> dict[str, Any]:
        """Drain and stop all members, since the machine goes down; answers when none runs any more."""
        self._machine.shutting_down = True
        for entry in self._members.entries.values():
            entry.runner.prepare_shutdown()
        await asyncio.gather(*(entry.runner.rest.wait() for entry in self._members.entries.values()))
        return {"stopped": [entry.runner.label for entry in self._members.entries.values()]}
