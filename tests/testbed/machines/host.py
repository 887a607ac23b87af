"""Something with an address on a fabric, in which programs run: what machines and bare namespaces share."""

from abc import ABC, abstractmethod
from collections.abc import Mapping, Sequence
from collections.abc import Set as AbstractSet
from ipaddress import IPv4Interface
from pathlib import Path

from testbed.child import Child
from testbed.machines.commands import execute
from testbed.machines.link import BOTH, Direction, Link
from testbed.run import Run


class Host(ABC):
    """A place on the fabric, known by `name` and `address`."""

    def __init__(self, name: str, link: Link, folder: Path, *, run: Run) -> None:
        self.name = name
        self.link = link
        self.folder = folder
        self._run = run
        folder.mkdir(parents=True)

    @property
    def address(self) -> str:
        """Its own address on the fabric."""
        return str(self.link.address.ip)

    @abstractmethod
    def inside(self, argv: Sequence[str | Path]) -> list[str]:
        """The command that runs `argv` in here."""

    @abstractmethod
    async def end(self) -> None:
        """End everything in here, at once, and unplug it."""

    async def run(self, *argv: str | Path, stdin: str = "", env: Mapping[str, str] | None = None) -> str:
        """Run `argv` in here to its end; gives its output, or MachineError with what it said."""
        return await execute(*self.inside(argv), stdin=stdin, env=env)

    def spawn(self, *argv: str | Path, env: Mapping[str, str] | None = None) -> Child:
        """Start `argv` in here, output to a log in `folder`; it ends with the host or with us."""
        log = self.folder / f"{Path(argv[0]).name}.log"
        return Child(self.inside(argv), log=log, env=env, cgroup=self._run.cgroup)

    async def add_address(self, address: str) -> None:
        """Answer to one more address, with or without a prefix: a load balancer's frontend, for example."""
        await self.link.add_address(IPv4Interface(address))

    async def cut(self) -> None:
        """Let everything from and to this host vanish silently, established connections included."""
        await self.link.cut()

    async def heal(self) -> None:
        """Undo `cut()`; what `cut_from` cut stays cut."""
        await self.link.heal()

    async def cut_from(self, address: str, *, directions: AbstractSet[Direction] = BOTH) -> None:
        """Let packets from (`in`) and to (`out`) one address, or network, vanish silently."""
        await self.link.cut(address, directions)

    async def heal_from(self, address: str, *, directions: AbstractSet[Direction] = BOTH) -> None:
        """Undo `cut_from` with the same arguments."""
        await self.link.heal(address, directions)
