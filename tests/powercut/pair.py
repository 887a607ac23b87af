"""Two virtual machines with a mirror's daemon each, as a test steers and watches them.

The witness is a real API server on this side of the network. A machine's daemon and agent start at every boot; its
writer where the test wants it. The data and the daemon's own state are on disks of their own, each with its own cache.
"""

import asyncio
import json
import shutil
import time
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

from powercut.ledger import Ledger
from testbed.certificates import Authority
from testbed.controlplane import ControlPlane
from testbed.machines import Fabric
from testbed.machines.commands import execute
from testbed.mirror import UIDS, daemon_configuration, pin, prepare_witness
from testbed.run import Run
from testbed.rust import rust_program
from testbed.vm import Disk, GuestImage, Tap, VirtualMachine

GUEST = Path(__file__).parent / "guest"
PROGRAM, CONFIG = "/usr/bin/farmstead-mirrorfs", "/mirror.json"
DIRECTORY, STATE = Path("/disk/data"), Path("/state/mirror")
COPY = STATE / "under-0"
"""A machine's copy, below whatever is mounted over the directory."""
DATA_MEBIBYTES, STATE_MEBIBYTES = 256, 32
PATIENCE_SECONDS = 180.0

Status = dict[str, Any]


class Member:
    """One machine of the mirror: its power, what its daemon says, its writer."""

    def __init__(self, name: str, folder: Path, *, image: GuestImage, fabric: Fabric, run: Run, ledger: Ledger) -> None:
        folder.mkdir(parents=True)
        self.name = name
        self.status: Status = {}
        self.first_status: Status = {}
        """The first since its last boot: what its disks held."""
        self.served = False
        """Whether any status since this was last set to false said that it serves."""
        self.log: list[dict[str, Any]] = []
        """What its daemons have logged since the last boot."""
        self._ledger = ledger
        self._news = asyncio.Event()
        self._writer: int | None = None
        disks = {
            "/state": Disk("state", folder, mebibytes=STATE_MEBIBYTES, run=run),
            "/disk": Disk("data", folder, mebibytes=DATA_MEBIBYTES, run=run),
        }
        self.vm = VirtualMachine(
            name,
            folder,
            image=image,
            disks=disks,
            tap=Tap(fabric),
            streams={"daemon": self._take_log, "status": self._take_status, "ledger": self._take_ledger},
            run=run,
        )

    async def boot(self) -> None:
        """Switch it on; its daemon starts, and an agent beside it."""
        self.status, self.first_status, self.log, self._writer = {}, {}, [], None
        await self.vm.boot()
        await self.vm.run("/usr/bin/busybox", "mkdir", "-p", str(DIRECTORY), str(STATE))
        await self.vm.start(PROGRAM, CONFIG, port="daemon")
        await self.vm.start("python3", "-I", "-S", "/agent.py", f"{STATE}/control.sock", port="status")

    async def until(self, said: Callable[[Status], bool], what: str) -> Status:
        """Wait until its status is so; AssertionError with what it says instead where that takes too long."""
        try:
            async with asyncio.timeout(PATIENCE_SECONDS):
                while not self.status or not said(self.status):
                    await self._news.wait()
        except TimeoutError:
            lines = "\n".join(json.dumps(line) for line in self.log[-30:])
            raise AssertionError(f"{self.name} is not {what}, but: {self.status}\n{lines}") from None
        return self.status

    async def is_role(self, *roles: str) -> Status:
        """Wait until it is in one of these roles; serving ones with the directory mounted."""
        return await self.until(
            lambda status: status["role"] in roles and status["mounted"] == (status["role"] != "SECOND"),
            " or ".join(roles),
        )

    async def write(self, seed: str) -> None:
        """Start a writer on its mounted directory, and wait until it is at work."""
        first, before = self._ledger.new_writer(), self._ledger.returned
        command = ["python3", "-I", "-S", "/writer.py", str(DIRECTORY), str(first), seed]
        self._writer = await self.vm.start(*command, port="ledger")
        async with asyncio.timeout(PATIENCE_SECONDS):
            while self._ledger.returned == before:
                await asyncio.sleep(0.01)

    async def rest(self) -> None:
        """Let the writer finish what it does, and end."""
        if self._writer is not None:
            async with asyncio.timeout(PATIENCE_SECONDS):
                await self.vm.finish(self._writer)
            self._writer = None

    async def records(self, where: Path = DIRECTORY) -> dict[str, Any]:
        """What the writers wrote, as a program sees it in the directory; or as it lies in `COPY`."""
        seen: dict[str, Any] = json.loads(await self._look("records", where))
        return seen

    async def tree(self) -> dict[str, Any]:
        """All of its copy."""
        seen: dict[str, Any] = json.loads(await self._look("tree", COPY))
        return seen

    async def _look(self, what: str, where: Path) -> str:
        async with asyncio.timeout(PATIENCE_SECONDS):
            return await self.vm.run("python3", "-I", "-S", "/look.py", what, str(where))

    def _take_log(self, line: bytes) -> None:
        if line.startswith(b"{"):
            self.log.append({**json.loads(line), "heard": time.monotonic()})

    def _take_status(self, line: bytes) -> None:
        answer = json.loads(line) if line.startswith(b"{") else {}
        if "status" in answer:
            self.status = answer["status"]
            self.served = self.served or self.status["serving"]
            self.first_status = self.first_status or self.status
            self._news.set()
            self._news = asyncio.Event()

    def _take_ledger(self, line: bytes) -> None:
        self._ledger.take(line.decode())


class Pair:
    """Both machines, and the ledger of what their writers were promised."""

    def __init__(self, a: Member, b: Member, ledger: Ledger) -> None:
        self.members = (a, b)
        self.ledger = ledger

    async def paired(self) -> tuple[Member, Member]:
        """Wait until one is primary with the other in sync; gives them in this order."""
        a, b = self.members
        async with asyncio.timeout(PATIENCE_SECONDS):
            primary = await self.serving("PRIM")
        second = b if primary is a else a
        await second.is_role("SECOND")
        await primary.is_role("PRIM")
        return primary, second

    async def serving(self, *roles: str) -> Member:
        """Wait until one of them is in one of these roles, with the directory mounted; gives it."""
        waits = [asyncio.ensure_future(member.is_role(*roles)) for member in self.members]
        try:
            await asyncio.wait(waits, return_when=asyncio.FIRST_COMPLETED)
            done = next(number for number, wait in enumerate(waits) if wait.done())
            await waits[done]
            return self.members[done]
        finally:
            for wait in waits:
                wait.cancel()
            await asyncio.gather(*waits, return_exceptions=True)


@asynccontextmanager
async def machine_pair(
    *, fabric: Fabric, control_plane: ControlPlane, run: Run, image: GuestImage, folder: Path, **settings: object
) -> AsyncIterator[Pair]:
    """Both machines, switched on, and in sync; `settings` are the daemons' (see config.rs)."""
    namespace = f"mirror-{folder.name}"
    await control_plane.kubectl("create", "namespace", namespace)
    await asyncio.to_thread(folder.mkdir)
    witness = await prepare_witness(control_plane, namespace, folder)
    program = await rust_program("farmstead-mirrorfs", "farmstead-mirrorfs")
    ledger = Ledger()
    members = {name: Member(name, folder / name, image=image, fabric=fabric, run=run, ledger=ledger) for name in UIDS}
    addresses = {name: member.vm.address for name, member in members.items()}
    authority = Authority("mirror")
    pairs = {name: authority.server(addresses=[addresses[name]], names=[name]) for name in members}
    for name, other in (("a", "b"), ("b", "a")):
        files = members[name].vm.files
        (files / PROGRAM[1:]).parent.mkdir(parents=True)
        await execute("strip", "-o", str(files / PROGRAM[1:]), str(program))
        pairs[name].write(files, "node")
        for key in ("authorities", "token"):
            shutil.copy(witness[key], files)
        for script in GUEST.glob("*.py"):
            shutil.copy(script, files)
        text = daemon_configuration(
            name,
            addresses=addresses,
            directory=DIRECTORY,
            state=STATE,
            tls={"certificate": "/node.crt", "key": "/node.key", "peerPins": [pin(pairs[other].certificate)]},
            witness={**witness, "authorities": "/witness-ca.pem", "token": "/witness-token"},
            **settings,
        )
        (files / CONFIG[1:]).write_text(text)
    try:
        for member in members.values():
            await member.vm.make()
        await asyncio.gather(*(member.boot() for member in members.values()))
        yield Pair(members["a"], members["b"], ledger)
    finally:
        for member in members.values():
            await member.vm.end()
