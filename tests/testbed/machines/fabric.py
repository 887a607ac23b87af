"""The network of a run: a bridge with a network from 198.18.0.0/15, and everything plugged into it.

198.18.0.0/15 is reserved for tests of networks, so it meets nobody's. The bridge's own address is how
machines reach what runs outside them (the API server). There is no route to anywhere else.
"""

import asyncio
import contextlib
import itertools
import random
import shutil
import socket
from collections.abc import Mapping
from ipaddress import IPv4Interface, IPv4Network
from pathlib import Path
from types import TracebackType

from testbed.machines.commands import MachineError, execute, require_privileges
from testbed.machines.host import Host
from testbed.machines.link import Link
from testbed.machines.machine import Machine
from testbed.machines.namespace import Namespace
from testbed.run import Run

RANGE = IPv4Network("198.18.0.0/15")
FIRST_HOST = 10


class Fabric:
    """A bridge and its hosts, from `async with` to its end. Needs root. Several may be in one run.

    `network` is the whole of it; no host ever gets an address of `frontends`, its last quarter.
    """

    _numbers = itertools.count()

    def __init__(self, run: Run) -> None:
        require_privileges()
        self._run = run
        self._bridge = f"fs{run.id}b{next(self._numbers)}"
        self._claim, self.network = _claim_network()
        *hosts, self.frontends = self.network.subnets(new_prefix=26)
        self._free = itertools.islice(itertools.chain(*hosts), FIRST_HOST, None)
        self._hosts: dict[str, Host] = {}
        self._cables = itertools.count()

    @property
    def gateway(self) -> str:
        """The bridge's own address: ours, as seen from the machines."""
        return str(self.network.network_address + 1)

    async def start(self) -> None:
        """Make the bridge."""
        address = f"{self.gateway}/{self.network.prefixlen}"
        await execute(
            *("ip", "-batch", "-"),
            stdin=f"link add {self._bridge} type bridge\naddr add {address} dev {self._bridge}\n"
            f"link set {self._bridge} addrgenmode none up\n",
        )

    async def stop(self) -> None:
        """Crash its machines, remove its namespaces and the bridge."""
        await asyncio.gather(*(self.remove(host) for host in list(self._hosts.values())))
        await execute("ip", "link", "del", self._bridge)
        self._claim.close()

    async def namespace(self, name: str) -> Namespace:
        """A new bare namespace, plugged in."""
        namespace = Namespace(name, self._link(), self._folder(name), run=self._run)
        self._hosts[name] = namespace
        await namespace.start()
        return namespace

    def machine(self, name: str) -> Machine:
        """A new machine, switched off: put files on it, say what its service is, then `boot()` it."""
        machine = Machine(name, self._link(), self._folder(name), run=self._run)
        self._hosts[name] = machine
        return machine

    def outlet(self) -> Link:
        """A free place on the bridge, for what brings its end of the cable along: a virtual machine's tap."""
        return self._link()

    async def remove(self, host: Host) -> None:
        """End a namespace, or crash a machine and forget its disk; its name may be given again."""
        await host.end()
        shutil.rmtree(host.folder, ignore_errors=True)
        self._hosts.pop(host.name, None)

    def logs(self) -> Mapping[str, str]:
        """The end of what each machine's service wrote, for people."""
        machines = (host for host in self._hosts.values() if isinstance(host, Machine))
        return {machine.name: machine.service_log() for machine in machines}

    def _folder(self, name: str) -> Path:
        if name in self._hosts:
            raise MachineError(f"there is a {name} already: remove it first, or take another name")
        return self._run.folder / self._bridge / name

    def _link(self) -> Link:
        address = IPv4Interface((next(self._free), self.network.prefixlen))
        return Link(bridge=self._bridge, device=f"{self._bridge}v{next(self._cables)}", address=address)

    async def __aenter__(self) -> "Fabric":
        await self.start()
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        await self.stop()


def _claim_network() -> tuple[socket.socket, IPv4Network]:
    """A /24 that no other run has. The claim is a name in the kernel that goes with its holder."""
    networks = list(RANGE.subnets(new_prefix=24))
    for network in random.sample(networks, len(networks)):
        claim = socket.socket(socket.AF_UNIX)
        with contextlib.suppress(OSError):
            claim.bind(f"\0farmstead-{network}")
            return claim, network
        claim.close()
    raise MachineError(f"all networks of {RANGE} are taken by other runs")
