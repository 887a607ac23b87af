"""Frontend addresses on a network interface, where the emulator runs in a network namespace of the testbed.

Loopback needs nothing: all of 127/8 is there. Elsewhere an address is added when a rule listens on it and
removed when no rule does; only addresses that were added here are ever removed.
"""

from __future__ import annotations

import asyncio
import ipaddress
import logging

_LOG = logging.getLogger(__name__)


class Interface:
    """Addresses added to one interface; without a name nothing is added."""

    def __init__(self, name: str | None) -> None:
        self._name = name
        self._added: set[str] = set()

    async def keep(self, wanted: set[str]) -> None:
        """Have these addresses, and none that was added before and is wanted no more."""
        for address in sorted(self._added - wanted):
            await self._change("del", address)
        for address in sorted(wanted - self._added):
            await self.ensure_address(address)

    async def ensure_address(self, address: str) -> None:
        """Add one address, unless it is loopback or already added."""
        if self._name is None or address in self._added or ipaddress.ip_address(address).is_loopback:
            return
        await self._change("add", address)

    async def restore(self) -> None:
        await self.keep(set())

    async def _change(self, verb: str, address: str) -> None:
        assert self._name is not None
        prefix = 128 if ":" in address else 32
        arguments = ("ip", "address", verb, f"{address}/{prefix}", "dev", self._name)
        process = await asyncio.create_subprocess_exec(*arguments, stderr=asyncio.subprocess.PIPE)
        _, complaint = await process.communicate()
        if verb == "del":
            self._added.discard(address)
        elif process.returncode == 0:
            self._added.add(address)
        if process.returncode != 0:
            _LOG.warning("%s: %s", " ".join(arguments), complaint.decode().strip())
