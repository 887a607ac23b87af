"""cgroup v2 as far as the agent needs it: find it, make groups, list, kill and watch what lives in them.

No controller is enabled and no limit is set: groups only say which processes belong together. Not here: what the
groups are for (`launcher.py`).
"""

import asyncio
import contextlib
import os
import select
from collections.abc import Callable
from pathlib import Path

from farmstead_agent.errors import PermanentError

MOUNTS = Path("/proc/self/mountinfo")


def find_mount(mountinfo: str) -> Path | None:
    """Where the cgroup2 file system is mounted, from the text of /proc/self/mountinfo."""
    for line in mountinfo.splitlines():
        before, _, after = line.partition(" - ")
        if after.split(" ", 1)[0] == "cgroup2":
            return Path(before.split(" ")[4].encode().decode("unicode_escape"))
    return None


def default_root() -> Path:
    """<cgroup2>/farmstead. Raises PermanentError where no cgroup2 is mounted."""
    mount = find_mount(MOUNTS.read_text())
    if mount is None:
        raise PermanentError(
            "no cgroup2 file system is mounted (looked in /proc/self/mountinfo): mount one, or set launcher.root",
            reason="NoCgroup2",
        )
    return mount / "farmstead"


def make(path: Path) -> None:
    """Make a group and those above it. Raises PermanentError where that is impossible."""
    try:
        path.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise PermanentError(f"can't make cgroup {path}: {error.strerror}", reason="CgroupUnusable") from error
    if not (path / "cgroup.kill").exists():
        raise PermanentError(
            f"{path} is no cgroup2 directory, or the kernel is older than 5.14 (it lacks cgroup.kill)",
            reason="CgroupUnusable",
        )


def pids(path: Path) -> tuple[int, ...]:
    """Processes in this very group; none where it does not exist. Zombies are not listed."""
    try:
        return tuple(int(line) for line in (path / "cgroup.procs").read_text().split())
    except OSError:
        return ()


def pids_below(path: Path) -> tuple[int, ...]:
    """Processes in this group and the groups that the application made in it."""
    found = list(pids(path))
    with contextlib.suppress(OSError):
        for child in path.iterdir():
            if child.is_dir():
                found += pids_below(child)
    return tuple(found)


def populated(path: Path) -> bool:
    """Whether any process lives in the group or below it."""
    try:
        return "populated 1" in (path / "cgroup.events").read_text()
    except OSError:
        return False


def kill(path: Path) -> None:
    """SIGKILL to all in the group and below, in one step that no fork escapes."""
    with contextlib.suppress(FileNotFoundError):
        (path / "cgroup.kill").write_text("1")


def remove(path: Path) -> None:
    """Remove a group and those below it, as far as they are empty."""
    with contextlib.suppress(OSError):
        for child in path.iterdir():
            if child.is_dir():
                remove(child)
        path.rmdir()


class Watcher:
    """Tells when groups become populated or empty, without polling.

    The kernel signals a change of cgroup.events as EPOLLPRI, which asyncio can't wait for; an epoll of our own
    can, and asyncio waits for that one.
    """

    def __init__(self) -> None:
        self._epoll: select.epoll | None = None
        self._callbacks: dict[int, Callable[[], None]] = {}

    def watch(self, path: Path, callback: Callable[[], None]) -> Callable[[], None]:
        """Call back at every change of the group, until the answer is called."""
        epoll = self._opened()
        descriptor = os.open(path / "cgroup.events", os.O_RDONLY | os.O_CLOEXEC)
        os.read(descriptor, 256)
        self._callbacks[descriptor] = callback
        epoll.register(descriptor, select.EPOLLPRI)

        def end() -> None:
            if self._callbacks.pop(descriptor, None) is not None:
                epoll.unregister(descriptor)
                os.close(descriptor)

        return end

    def close(self) -> None:
        """End all watching."""
        if self._epoll is None:
            return
        asyncio.get_running_loop().remove_reader(self._epoll.fileno())
        for descriptor in list(self._callbacks):
            os.close(descriptor)
        self._callbacks.clear()
        self._epoll.close()
        self._epoll = None

    def _opened(self) -> select.epoll:
        if self._epoll is None:
            self._epoll = select.epoll()
            asyncio.get_running_loop().add_reader(self._epoll.fileno(), self._changed)
        return self._epoll

    def _changed(self) -> None:
        if self._epoll is None:
            return
        for descriptor, _ in self._epoll.poll(0):
            callback = self._callbacks.get(descriptor)
            if callback is None:
                continue
            with contextlib.suppress(OSError):  # the group is gone, which is a change too
                os.pread(descriptor, 256, 0)
            callback()
