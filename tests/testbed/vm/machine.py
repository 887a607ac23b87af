"""One virtual machine: boots from RAM in seconds, does what it is told over a port, and loses its power when told."""

import asyncio
import itertools
import json
import shutil
import signal
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

from testbed.child import Child, tail
from testbed.run import Run
from testbed.vm.disk import Disk
from testbed.vm.image import GuestImage
from testbed.vm.network import Tap

GUEST = Path(__file__).parent / "guest"
MEMORY_MEBIBYTES = 512
BOOT_SECONDS = 120.0
KERNEL_LINE = "console=ttyS0 quiet mitigations=off nopti nokaslr tsc=reliable net.ifnames=0 panic=1"
CONTROL = "control"

TakeLine = Callable[[bytes], None]


class PowerCutError(Exception):
    """The machine lost its power before it had answered."""


class GuestError(Exception):
    """A program in the guest failed; the message has what it said."""


class VirtualMachine:
    """A machine with disks, mounted where `disks` says, and files of its own laid over the guests' system.

    Whatever its programs write to a port of `streams` arrives there line by line, to the last that left the machine.
    """

    def __init__(
        self,
        name: str,
        folder: Path,
        *,
        image: GuestImage,
        disks: Mapping[str, Disk],
        tap: Tap,
        streams: Mapping[str, TakeLine],
        run: Run,
    ) -> None:
        self.name = name
        self.folder = folder
        self.files = folder / "files"
        self.console = folder / "console.log"
        self.kernel = ""
        self._image = image
        self._disks = disks
        self._tap = tap
        self._streams = {**streams, CONTROL: self._take_answer}
        self._run = run
        self._qemu: Child | None = None
        self._control: asyncio.StreamWriter | None = None
        self._orders = itertools.count(1)
        self._answers: dict[int, asyncio.Future[dict[str, Any]]] = {}
        self._ended: list[asyncio.Event] = []
        self.files.mkdir(parents=True)

    @property
    def address(self) -> str:
        """Its own address on the fabric."""
        return str(self._tap.address.ip)

    async def make(self) -> None:
        """New disks, a cable; what lies in `files` by now is in the guest at each boot."""
        for disk in self._disks.values():
            await disk.make()
        await self._tap.plug()
        devices = zip("abcdefgh", self._disks, strict=False)
        disks = " ".join(f"/dev/vd{letter}:{target}" for letter, target in devices)
        (self.files / "machine").write_text(f"NAME={self.name}\nADDRESS={self._tap.address}\nDISKS='{disks}'\n")
        shutil.copy(GUEST / "orders.py", self.files)
        shutil.copy(GUEST / "init.sh", self.files / "init")
        (self.files / "init").chmod(0o755)
        await asyncio.to_thread(self._image.initial_files, self.files, self.folder / "initrd")

    async def boot(self) -> None:
        """Switch it on and wait until it takes orders."""
        for disk in self._disks.values():
            await disk.switch_on()
        self._ended = []
        ready = self._answers[0] = asyncio.get_running_loop().create_future()
        for name, take in self._streams.items():
            await self._listen(name, take)
        self._qemu = Child(self._command(), log=self.folder / "qemu.log", cgroup=self._run.cgroup)
        try:
            async with asyncio.timeout(BOOT_SECONDS):
                self.kernel = (await ready)["kernel"]
        except (TimeoutError, PowerCutError):
            raise GuestError(f"{self.name} does not boot:\n{self._qemu.tail()}\n{tail(self.console)}") from None

    async def cut_power(self) -> None:
        """Its power goes: at one instant nothing of it moves any more, and its disks forget what was not flushed."""
        if self._qemu is None:
            return
        self._qemu.signal(signal.SIGKILL)
        for disk in self._disks.values():
            disk.cut()
        await self._qemu.wait()
        for disk in self._disks.values():
            await disk.gone()
        # What it had sent before is still to be read.
        for ended in self._ended:
            await ended.wait()
        self._qemu = None

    def pause(self) -> None:
        """Stop its processor, as a hypervisor does in a live migration."""
        assert self._qemu is not None
        self._qemu.signal(signal.SIGSTOP)

    def go_on(self) -> None:
        """Let it run again after `pause()`."""
        assert self._qemu is not None
        self._qemu.signal(signal.SIGCONT)

    async def end(self) -> None:
        """Switch it off for good."""
        await self.cut_power()
        await self._tap.unplug()

    async def run(self, *argv: str, stdin: str = "") -> str:
        """Run a program in the guest to its end; gives its output, or GuestError with what it said."""
        answer = await self._ask({"run": argv, "stdin": stdin})
        if answer["status"]:
            raise GuestError(f"{self.name}: `{' '.join(argv)}` ended with {answer['status']}: {answer['output']}")
        output: str = answer["output"]
        return output

    async def start(self, *argv: str, port: str) -> int:
        """Start a program in the guest, its output going to a port; gives its pid, for `finish()`."""
        pid: int = (await self._ask({"start": argv, "port": port}))["pid"]
        return pid

    async def finish(self, pid: int, number: signal.Signals = signal.SIGTERM) -> int:
        """Send a signal to what was started, and wait for its end; gives its status."""
        status: int = (await self._ask({"end": pid, "signal": int(number)}))["status"]
        return status

    async def _ask(self, order: dict[str, Any]) -> dict[str, Any]:
        if self._control is None:
            raise PowerCutError(f"{self.name} has no power")
        number = next(self._orders)
        waiting = self._answers[number] = asyncio.get_running_loop().create_future()
        self._control.write(json.dumps({"order": number, **order}).encode() + b"\n")
        answer: dict[str, Any] = await waiting
        if "error" in answer:
            raise GuestError(f"{self.name}: {order}: {answer['error']}")
        return answer

    def _take_answer(self, line: bytes) -> None:
        answer = json.loads(line)
        waiting = self._answers.pop(answer["order"], None)
        if waiting is not None and not waiting.done():
            waiting.set_result(answer)

    def _give_up(self) -> None:
        """Whoever waits for an answer waits in vain: the power is gone, or the guest has crashed."""
        self._control = None
        for answer in self._answers.values():
            if not answer.done():
                answer.set_exception(PowerCutError(f"{self.name} has no power, or crashed:\n{tail(self.console)}"))
        self._answers.clear()

    async def _listen(self, name: str, take: TakeLine) -> None:
        ended = asyncio.Event()

        async def read(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
            server.close()
            if name == CONTROL:
                self._control = writer
            try:
                async for line in reader:
                    # A line that the power cut was never said.
                    if line.endswith(b"\n"):
                        take(line)
            finally:
                writer.close()
                ended.set()
                if name == CONTROL:
                    self._give_up()

        path = self._socket(name)
        path.unlink(missing_ok=True)
        server = await asyncio.start_unix_server(read, path, limit=1 << 24)
        self._ended.append(ended)

    def _socket(self, name: str) -> Path:
        return self.folder / f"{name}.sock"

    def _command(self) -> Sequence[str | Path]:
        disks = [
            argument
            for number, disk in enumerate(self._disks.values())
            for argument in (
                *("-blockdev", f"driver=nbd,node-name=disk{number},server.type=unix,server.path={disk.socket}"),
                *("-device", f"virtio-blk-pci,drive=disk{number},write-cache=on"),
            )
        ]
        ports = [
            argument
            for name in self._streams
            for argument in (
                *("-chardev", f"socket,id={name},path={self._socket(name)}"),
                *("-device", f"virtserialport,chardev={name},name={name}"),
            )
        ]
        return [
            *("qemu-system-x86_64", "-nodefaults", "-no-user-config", "-display", "none", "-no-reboot"),
            *("-machine", "pc", "-accel", "tcg,thread=multi,tb-size=256", "-cpu", "Nehalem"),
            *("-m", str(MEMORY_MEBIBYTES), "-smp", "1", "-serial", f"file:{self.console}"),
            *("-kernel", self._image.kernel, "-initrd", self.folder / "initrd", "-append", KERNEL_LINE),
            *("-netdev", f"tap,id=net,ifname={self._tap.device},script=no,downscript=no"),
            *("-device", f"virtio-net-pci,netdev=net,mac={self._tap.mac},romfile="),
            *("-device", "virtio-rng-pci", "-device", "virtio-serial-pci"),
            *disks,
            *ports,
        ]
