"""One cable: from the fabric's bridge to the `eth0` of a network namespace, and the ways to cut it.

A cut is packets that vanish without a word, as in a cloud's network: no reset, no unreachable, established
connections are not told. So the drop sits at the device (netdev ingress and egress), below all that would
answer, and address resolution goes on working. Not a link that goes down: applications can see that.
"""

from collections.abc import Set as AbstractSet
from dataclasses import dataclass, field
from ipaddress import IPv4Interface
from typing import Literal

from testbed.machines.commands import MachineError, execute

Direction = Literal["in", "out"]
BOTH: frozenset[Direction] = frozenset({"in", "out"})
EVERYBODY = "0.0.0.0/0"


@dataclass
class Link:
    """A veth pair: `device` on `bridge`; `address` is at the other end."""

    bridge: str
    device: str
    address: IPv4Interface
    _cuts: set[tuple[str, Direction]] = field(default_factory=set)
    _pid: int | None = None

    async def attach(self, pid: int) -> None:
        """Plug it into the network namespace of `pid`. Cuts stay: they are the network's, not the host's."""
        await self.detach()
        # The same after each boot, or neighbours would talk to the address that was.
        mac = "02:f5:" + self.address.ip.packed.hex(":")
        await execute(
            *("ip", "-batch", "-"),
            stdin=f"link add {self.device} type veth peer name eth0 address {mac} netns {pid}\n"
            f"link set {self.device} master {self.bridge} addrgenmode none up\n",
        )
        self._pid = pid
        await self._inside(
            *("ip", "-batch", "-"),
            stdin="link set lo up\n"
            f"link set eth0 addrgenmode none\naddr add {self.address} dev eth0\nlink set eth0 up\n",
        )
        if self._cuts:
            await self._apply()

    async def detach(self) -> None:
        """Unplug it. A dead network namespace frees its end late, so the device is removed by name."""
        self._pid = None
        try:
            await execute("ip", "link", "del", self.device)
        except MachineError as error:
            if not any(gone in str(error) for gone in ("Cannot find device", "No such device")):
                raise

    async def add_address(self, address: IPv4Interface) -> None:
        """Give the end inside one more address (until it is unplugged)."""
        await self._inside("ip", "addr", "add", str(address), "dev", "eth0")

    async def cut(self, peer: str = EVERYBODY, directions: AbstractSet[Direction] = BOTH) -> None:
        """Let packets from (`in`) and to (`out`) `peer` vanish from now on."""
        self._cuts |= {(peer, direction) for direction in directions}
        await self._apply()

    async def heal(self, peer: str = EVERYBODY, directions: AbstractSet[Direction] = BOTH) -> None:
        """Undo `cut` with the same arguments."""
        self._cuts -= {(peer, direction) for direction in directions}
        await self._apply()

    async def _apply(self) -> None:
        if self._pid is None:
            return  # applied when it is plugged in
        rules = {
            direction: "".join(
                f"{_match(peer, direction)} drop\n" for peer, way in sorted(self._cuts) if way == direction
            )
            for direction in BOTH
        }
        # One transaction: the table is made if it is not there, emptied, and filled.
        await self._inside(
            *("nft", "-f", "-"),
            stdin=f"""
            table netdev cut {{}}
            delete table netdev cut
            table netdev cut {{
                chain in {{
                    type filter hook ingress device eth0 priority 0
                    {rules["in"]}
                }}
                chain out {{
                    type filter hook egress device eth0 priority 0
                    {rules["out"]}
                }}
            }}
            """,
        )

    async def _inside(self, *argv: str, stdin: str = "") -> None:
        await execute("nsenter", f"--net=/proc/{self._pid}/ns/net", "--", *argv, stdin=stdin)


def _match(peer: str, direction: Direction) -> str:
    if peer == EVERYBODY:
        return "meta protocol { ip, ip6 }"
    return f"ip {'saddr' if direction == 'in' else 'daddr'} {peer}"
