"""One run of the testbed: an id, a folder, and the promise that nothing of it stays behind.

Everything that a run makes outside its own processes carries its id: the folder `/tmp/farmstead-<id>`,
links `fs<id>...`, the cgroup `farmstead-<id>`. Processes die with the one that started them (`child.py`),
mounts and network namespaces with their processes. What then is left is removed here by one function: the
run's keeper, a process of its own, calls it when the run ends or is killed, and the next run if the keeper
was killed too.
"""

import json
import os
import secrets
import shutil
import subprocess
import sys
import tempfile
import time
from pathlib import Path

PREFIX = "farmstead-"
LETTERS = "abcdefghijklmnopqrstuvwxyz0123456789"
REMOVAL_SECONDS = 10.0


class Run:
    """A run, from its making to `close()`. Use it as a context manager."""

    def __init__(self) -> None:
        sweep()
        # Short, because an interface's name has at most 15 characters.
        self.id = "".join(secrets.choice(LETTERS) for _ in range(5))
        self.folder = Path(tempfile.gettempdir()) / f"{PREFIX}{self.id}"
        self.folder.mkdir(mode=0o700)
        owner = {"pid": os.getpid(), "started": _started(os.getpid())}
        (self.folder / "owner.json").write_text(json.dumps(owner))
        self.cgroup = _make_cgroup(self.folder.name)
        self._keeper = subprocess.Popen(
            [sys.executable, "-I", "-S", __file__, str(self.folder)],
            stdin=subprocess.PIPE,
            start_new_session=True,
        )

    @property
    def keeper_pid(self) -> int:
        """The process that removes the run when it ends or is killed."""
        return self._keeper.pid

    def close(self) -> None:
        """Remove all that is left of the run. Its processes should have been stopped before."""
        assert self._keeper.stdin is not None
        self._keeper.stdin.close()
        self._keeper.wait()

    def __enter__(self) -> "Run":
        return self

    def __exit__(self, *_: object) -> None:
        self.close()


def sweep() -> None:
    """Remove what runs left whose owner and keeper were both killed."""
    for folder in Path(tempfile.gettempdir()).glob(f"{PREFIX}*"):
        try:
            owner = json.loads((folder / "owner.json").read_text())
        except (OSError, ValueError):
            continue  # not a run's, or not yet, or no longer
        if _started(owner["pid"]) != owner["started"]:
            remove(folder)


def remove(folder: Path) -> None:
    """Remove the run's processes, links and folder, in this order: the folder says what may be left."""
    run_id = folder.name.removeprefix(PREFIX)
    if (root := cgroup_root()) is not None:
        remove_cgroup(root / folder.name, deadline=time.monotonic() + REMOVAL_SECONDS)
    for link in Path("/sys/class/net").glob(f"fs{run_id}*"):
        # It may go by itself meanwhile: a dead network namespace frees its half of a veth late.
        subprocess.run(["ip", "link", "del", link.name], check=False, capture_output=True)
    for disks in (folder, Path("/dev/shm") / folder.name):
        shutil.rmtree(disks, ignore_errors=True)


def cgroup_root() -> Path | None:
    """Where the version 2 hierarchy of cgroups is mounted; None where it is not."""
    for line in Path("/proc/self/mounts").read_text().splitlines():
        _, mountpoint, kind, *_ = line.split()
        if kind == "cgroup2":
            return Path(mountpoint)
    return None


def _make_cgroup(name: str) -> Path | None:
    """A cgroup for every process of the run, so that none can be overlooked; None where we may not make one."""
    root = cgroup_root()
    if root is None:
        return None
    try:
        (root / name).mkdir()
    except OSError:
        return None
    return root / name


def remove_cgroup(cgroup: Path, *, deadline: float) -> None:
    """Kill all that is in `cgroup` and remove it with all below it; wait for the dying until `deadline`."""
    if not cgroup.exists():
        return
    (cgroup / "cgroup.kill").write_text("1")
    while True:
        try:
            for folder, _, _ in os.walk(cgroup, topdown=False):
                Path(folder).rmdir()
        except OSError:
            # There is no event for "the last zombie is reaped", and it takes milliseconds.
            if time.monotonic() > deadline:
                raise
            time.sleep(0.01)
        else:
            return


def _started(pid: int) -> str | None:
    """When the process started, in ticks: a pid that is used again is not the same process."""
    try:
        stat = Path(f"/proc/{pid}/stat").read_text()
    except OSError:
        return None
    state, *fields = stat.rpartition(")")[2].split()
    return None if state in "ZX" else fields[18]


def _keep(folder: Path) -> None:
    """The keeper: wait until the run's owner closes the pipe or is gone, then remove the run."""
    sys.stdin.buffer.read()
    remove(folder)


if __name__ == "__main__":
    _keep(Path(sys.argv[1]))
