"""PID 1 of a machine: makes it look like a machine of its own, and stands in for the service manager.

It holds the listening sockets and hands them to the service as systemd does (LISTEN_FDS), so they stay open
while the service restarts; it starts and stops that one service and nothing that the service started
(KillMode=process); it buries orphans. It is a program, not a module: nobody imports it, and it uses the
standard library alone. Its orders come as JSON lines over an inherited socket, one answer an order; when the
other side is gone, the machine ends.
"""

import ctypes
import json
import os
import select
import signal
import socket
import sys
import time
from pathlib import Path
from typing import Any, TypedDict

CGROUPS = Path("/sys/fs/cgroup")
MS_BIND = 4096
MNT_DETACH = 2


class Plan(TypedDict):
    """What the machine is to be, as `machine.py` writes it."""

    name: str
    disk: str
    boot_id: str
    log: str
    service: list[str]
    listen: list[tuple[str, int]]
    environment: dict[str, str]


def mount(source: str, target: str, kind: str = "", flags: int = 0, options: str = "") -> None:
    """mount(2)."""
    libc = ctypes.CDLL(None, use_errno=True)
    arguments = (text.encode() or None for text in (source, target, kind))
    if libc.mount(*arguments, ctypes.c_ulong(flags), options.encode() or None):
        raise OSError(ctypes.get_errno(), f"mount of {kind or source} on {target}: {os.strerror(ctypes.get_errno())}")


def detach(target: str) -> None:
    """umount2(2) of `target` and all below it, so that /proc/mounts does not name what can't be reached."""
    libc = ctypes.CDLL(None, use_errno=True)
    if libc.umount2(target.encode(), MNT_DETACH):
        raise OSError(ctypes.get_errno(), f"umount of {target}: {os.strerror(ctypes.get_errno())}")


def furnish(plan: Plan) -> None:
    """Own files (kept over a crash), own /run (forgotten), own processes, devices, cgroups and boot id."""
    for target in ("/etc", "/var"):
        layers = f"{plan['disk']}{target}"
        options = f"lowerdir={target},upperdir={layers}/upper,workdir={layers}/work"
        mount("overlay", target, "overlay", options=options)
    for target in ("/proc", "/sys", "/dev/shm"):
        detach(target)
    mount("proc", "/proc", "proc")
    mount(plan["boot_id"], "/proc/sys/kernel/random/boot_id", flags=MS_BIND)
    mount("sysfs", "/sys", "sysfs")
    mount("cgroup2", str(CGROUPS), "cgroup2")
    for target in ("/run", "/dev/shm"):
        mount("tmpfs", target, "tmpfs", options="mode=0755" if target == "/run" else "mode=1777")
    Path("/run/lock").mkdir(mode=0o1777)
    socket.sethostname(plan["name"])
    join("init.scope", os.getpid())


def join(cgroup: str, pid: int) -> None:
    """Move a process into a cgroup of this machine, made if need be."""
    folder = CGROUPS / cgroup
    folder.mkdir(exist_ok=True)
    (folder / "cgroup.procs").write_text(str(pid))


class Service:
    """The one service: its argv, environment and log, and its process while it runs."""

    def __init__(self, plan: Plan, log: int) -> None:
        self._plan = plan
        self._log = log
        self._sockets: list[socket.socket] = []
        self.pid: int | None = None
        self.status: int | None = None

    def listen(self) -> None:
        """Open the sockets that the service gets."""
        for address, port in self._plan["listen"]:
            self._sockets.append(socket.create_server((address, port), backlog=1024))

    def replace(self, argv: list[str], environment: dict[str, str]) -> None:
        """Have another program from the next start on; the sockets stay as they are."""
        self._plan["service"], self._plan["environment"] = argv, environment

    def start(self) -> None:
        """Start it, unless it runs."""
        if self.pid is not None:
            return
        self.status = None
        self.pid = os.fork()
        if self.pid == 0:
            try:
                self._become()
            finally:
                os._exit(127)

    def _become(self) -> None:
        """In the child: turn into the service."""
        os.setsid()
        join("service", os.getpid())
        os.dup2(self._log, 1)
        os.dup2(self._log, 2)
        environment = dict(self._plan["environment"])
        if self._sockets:
            environment |= {"LISTEN_PID": str(os.getpid()), "LISTEN_FDS": str(len(self._sockets))}
        # Aside first: a socket may already have a number that another one is to get.
        aside = [os.dup(listening.fileno()) for listening in self._sockets]
        high = [os.dup2(descriptor, 200 + index) for index, descriptor in enumerate(aside)]
        for index, descriptor in enumerate(high):
            os.dup2(descriptor, 3 + index)
        os.closerange(3 + len(high), 1024)
        signal.set_wakeup_fd(-1)
        signal.signal(signal.SIGCHLD, signal.SIG_DFL)
        argv = self._plan["service"]
        try:
            os.execvpe(argv[0], argv, environment)  # noqa: S606 - no shell is wanted
        except OSError as error:
            print(f"cannot start {argv[0]}: {error}", file=sys.stderr, flush=True)

    def stop(self, *, grace_seconds: float) -> None:
        """Ask its process to end, alone, and kill it after `grace_seconds`; at once where that is 0."""
        if self.pid is None:
            return
        if grace_seconds:
            os.kill(self.pid, signal.SIGTERM)
            deadline = time.monotonic() + grace_seconds
            while self._runs() and (left := deadline - time.monotonic()) > 0:
                wait_for_children(left)
                self.bury()
        if self._runs():
            os.kill(self.pid, signal.SIGKILL)
        while self._runs():
            wait_for_children(None)
            self.bury()

    def _runs(self) -> bool:
        return self.pid is not None

    def bury(self) -> None:
        """Take note of every process that ended: the service, and orphans that became ours."""
        while True:
            try:
                pid, status = os.waitpid(-1, os.WNOHANG)
            except ChildProcessError:
                return
            if pid == 0:
                return
            if pid == self.pid:
                self.pid, self.status = None, os.waitstatus_to_exitcode(status)


_wakeup_reads, _wakeup_writes = os.pipe2(os.O_NONBLOCK | os.O_CLOEXEC)


def wait_for_children(seconds: float | None) -> None:
    """Return when a child has ended since the last call, or after `seconds`."""
    if select.select([_wakeup_reads], [], [], seconds)[0]:
        os.read(_wakeup_reads, 4096)


def obey(service: Service, order: dict[str, Any]) -> dict[str, int | None]:
    """Carry out one order; gives what the service is then."""
    match order["do"]:
        case "listen":
            service.listen()
        case "replace":
            service.replace(order["service"], order["environment"])
        case "start":
            service.start()
        case "stop":
            service.stop(grace_seconds=order["grace_seconds"])
    return {"pid": service.pid, "status": service.status}


def main() -> None:
    plan = json.loads(Path(sys.argv[1]).read_text())
    orders = socket.socket(fileno=int(sys.argv[2]))
    log = os.open(plan["log"], os.O_WRONLY | os.O_CREAT | os.O_APPEND | os.O_CLOEXEC, 0o644)
    orders.set_inheritable(False)
    signal.signal(signal.SIGCHLD, lambda *_: None)
    signal.set_wakeup_fd(_wakeup_writes, warn_on_full_buffer=False)
    service = Service(plan, log)
    furnish(plan)
    with orders.makefile("rw") as lines:
        print(json.dumps({"up": True}), file=lines, flush=True)
        while True:
            ready, _, _ = select.select([orders.fileno(), _wakeup_reads], [], [])
            if _wakeup_reads in ready:
                wait_for_children(0)
                service.bury()
            if orders.fileno() in ready:
                line = lines.readline()
                if not line:
                    return
                print(json.dumps(obey(service, json.loads(line))), file=lines, flush=True)


if __name__ == "__main__":
    main()
