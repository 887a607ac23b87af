"""Frontend addresses on a network interface, where the emulator runs in a network namespace of the testbed.

Loopback needs nothing: all of 127/8 is there. Elsewhere an address is added when a rule listens on it and removed
when no rule does; an address that is there already is left to whom it belongs.
"""

from __future__ import annotations

import asyncio
import errno
import logging
import socket

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
        """Add one address, unless this machine has it."""
        if self._name is not None and not _is_here(address):
            await self._change("add", address)

    async def restore(self) -> None:
        """Remove what was added."""
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


def _is_here(address: str) -> bool:
    """Whether a socket can be bound to the address."""
    family = socket.AF_INET6 if ":" in address else socket.AF_INET
    with socket.socket(family, socket.SOCK_DGRAM) as sock:
        try:
            sock.bind((address, 0))
        except OSError as error:
            if error.errno == errno.EADDRNOTAVAIL:
                return False
            raise
    return True
