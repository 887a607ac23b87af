"""A machine: namespaces that make a set of processes believe they are alone, with an address on the fabric.

Its files under /etc and /var are its own and survive a crash, /run does not; it has its own hostname,
processes, cgroup v2 tree at /sys/fs/cgroup and boot id. Programs come from the real machine. It runs one
service (the agent) under a stand-in for the service manager (`init.py`). Not a sandbox: its root is root.
"""

import asyncio
import contextlib
import json
import os
import shutil
import signal
import socket
import subprocess
import sys
import time
import uuid
from collections.abc import Mapping, Sequence
from pathlib import Path

from testbed.child import Child, tail
from testbed.machines.commands import MachineError
from testbed.machines.host import Host
from testbed.machines.link import Link
from testbed.run import REMOVAL_SECONDS, Run, remove_cgroup

INIT = Path(__file__).with_name("init.py")
NAMESPACES = ("--net", "--mount", "--pid", "--uts", "--ipc", "--cgroup")
BOOT_SECONDS = 10.0
PATH = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"


class Machine(Host):
    """A machine that is switched on by `boot()` and loses power at `crash()`."""

    def __init__(self, name: str, link: Link, folder: Path, *, run: Run) -> None:
        super().__init__(name, link, folder, run=run)
        if run.cgroup is None:
            raise MachineError(
                "no cgroup v2 can be made: /proc/mounts must name a writable mount of type cgroup2 "
                "(`mount -t cgroup2 none /sys/fs/cgroup` makes one; a container needs --privileged)"
            )
        self._cgroup = run.cgroup / folder.parent.name / name
        self._disk = _disk(run, folder)
        for layer in ("etc/upper", "etc/work", "var/upper", "var/work"):
            (self._disk / layer).mkdir(parents=True)
        self._power: Child | None = None
        self._orders: socket.socket | None = None
        self._pid = 0
        self._plan: dict[str, object] = {"listen": [], "service": []}
        self.path("/etc/hostname").write_text(f"{name}\n")
        self.path("/etc/hosts").write_text(f"127.0.0.1 localhost\n{self.address} {name}\n")

    def set_service(
        self,
        *argv: str | Path,
        listen: Sequence[tuple[str, int]] = (),
        env: Mapping[str, str] | None = None,
    ) -> None:
        """Say what the service is from the next boot on, and at which addresses init listens for it."""
        self._plan = {
            "service": [str(word) for word in argv],
            "listen": list(listen),
            "environment": _environment(env),
        }

    async def replace_service(self, *argv: str | Path, env: Mapping[str, str] | None = None) -> None:
        """Install another program as the service of a machine that runs: it is used from the next start on."""
        changed = {"service": [str(word) for word in argv], "environment": _environment(env)}
        self._plan |= changed
        await self._order("replace", **changed)

    # -- power

    @property
    def running(self) -> bool:
        """Whether it is switched on."""
        return self._power is not None and self._power.running

    async def boot(self) -> None:
        """Switch it on, plug it in, start its service (if it has one)."""
        assert not self.running, f"{self.name} runs already"
        boot_id, plan = self.folder / "boot_id", self.folder / "plan.json"
        boot_id.write_text(f"{uuid.uuid4()}\n")
        facts = {"name": self.name, "disk": str(self._disk), "boot_id": str(boot_id), "log": str(self._log)}
        plan.write_text(json.dumps(self._plan | facts))
        self._cgroup.mkdir(parents=True, exist_ok=True)
        self._orders, theirs = socket.socketpair()
        self._orders.setblocking(False)
        with theirs:
            self._power = Child(
                [
                    *("unshare", *NAMESPACES, "--fork", "--kill-child=KILL", "--"),
                    *(sys.executable, "-I", "-S", INIT, plan, str(theirs.fileno())),
                ],
                log=self.folder / "console.log",
                cgroup=self._cgroup,
                pass_fds=[theirs.fileno()],
            )
        async with asyncio.timeout(BOOT_SECONDS):
            await self._receive()
        self._pid = _only_child(self._power.pid)
        # What is not the machine's own goes out of its tree, or it could not use controllers there.
        (self._cgroup.parent / "cgroup.procs").write_text(str(self._power.pid))
        await self.link.attach(self._pid)
        await self._order("listen")
        if self._plan["service"]:
            await self.start_service()

    async def crash(self) -> None:
        """Cut its power: everything in it is killed at once, and its link goes. Nothing if it is off."""
        if self._power is None or self._orders is None:
            return
        with contextlib.suppress(ProcessLookupError):
            os.kill(self._pid or self._power.pid, signal.SIGKILL)
        await self._power.wait()
        self._orders.close()
        self._pid, self._orders = 0, None
        await self.link.detach()
        remove_cgroup(self._cgroup, deadline=time.monotonic() + REMOVAL_SECONDS)

    async def end(self) -> None:
        """Crash it, and forget its disk."""
        await self.crash()
        shutil.rmtree(self._disk, ignore_errors=True)

    # -- its service

    async def start_service(self) -> int:
        """Start the service, unless it runs; gives its process id, as seen in the machine."""
        pid = (await self._order("start"))["pid"]
        assert isinstance(pid, int)
        return pid

    async def stop_service(self, *, grace_seconds: float = 10.0) -> None:
        """Stop the service as the service manager does: its own process, and nothing that it started."""
        await self._order("stop", grace_seconds=grace_seconds)

    async def kill_service(self) -> None:
        """Kill the service's own process with SIGKILL."""
        await self._order("stop", grace_seconds=0)

    async def restart_service(self) -> int:
        """Stop it and start it again; its sockets stay open meanwhile, and connections wait."""
        await self.stop_service()
        return await self.start_service()

    async def service_pid(self) -> int | None:
        """The service's process id, as seen in the machine; None while it does not run."""
        pid = (await self._order("status"))["pid"]
        assert pid is None or isinstance(pid, int)
        return pid

    def service_log(self) -> str:
        """The end of what the service wrote, over all boots."""
        return tail(self._log)

    async def kill_all(self, name: str) -> None:
        """SIGKILL for every process of this name (as in /proc/<pid>/comm): an application that dies at once."""
        script = 'for p in /proc/[0-9]*; do read -r n < $p/comm && [ "$n" = "$0" ] && kill -9 ${p#/proc/}; done; true'
        await self.run("sh", "-c", script, name)

    # -- its files and programs

    def path(self, path: str) -> Path:
        """One of its files, as seen from outside: any while it runs, else those under /etc and /var.

        While it is off only what differs from the real machine is seen. Name a file by its real path:
        absolute symbolic links on the way would be followed outside. The folder that is to hold it is made.
        """
        if self.running:
            found = Path(f"/proc/{self._pid}/root{path}")
        else:
            top, _, rest = path.lstrip("/").partition("/")
            if top not in ("etc", "var"):
                raise MachineError(f"{self.name} is off and keeps nothing of {path}: only /etc and /var")
            found = self._disk / top / "upper" / rest
        found.parent.mkdir(parents=True, exist_ok=True)
        return found

    def inside(self, argv: Sequence[str | Path]) -> list[str]:
        if not self.running:
            raise MachineError(f"{self.name} is switched off")
        return [
            *("nsenter", f"--target={self._pid}", "--net", "--mount", "--pid", "--uts", "--ipc", "--"),
            *map(str, argv),
        ]

    # -- how

    @property
    def _log(self) -> Path:
        return self.folder / "service.log"

    async def _order(self, what: str, **arguments: object) -> dict[str, object]:
        assert self._orders is not None, f"{self.name} is switched off"
        line = json.dumps({"do": what, **arguments}) + "\n"
        await asyncio.get_running_loop().sock_sendall(self._orders, line.encode())
        return await self._receive()

    async def _receive(self) -> dict[str, object]:
        """One answer of its init, which may take as long as a service takes to stop."""
        orders = self._orders
        assert orders is not None
        line = await asyncio.get_running_loop().sock_recv(orders, 65536)
        if not line:
            console = tail(self.folder / "console.log")
            raise MachineError(f"{self.name} went down by itself. Its console:\n{console}")
        answer: dict[str, object] = json.loads(line)
        return answer


def _environment(env: Mapping[str, str] | None) -> dict[str, str]:
    return {"PATH": PATH, "HOME": "/root", "LANG": "C.UTF-8", **(env or {})}


def _disk(run: Run, folder: Path) -> Path:
    """Where its files are kept. An overlay can't lie on an overlay (a container's /tmp): then in memory."""
    kind = subprocess.run(["stat", "-f", "-c", "%T", folder], check=True, capture_output=True, text=True).stdout.strip()
    if kind == "overlayfs":
        return Path("/dev/shm") / run.folder.name / folder.parent.name / folder.name
    return folder / "disk"


def _only_child(pid: int) -> int:
    return int(Path(f"/proc/{pid}/task/{pid}/children").read_text().split()[0])
