"""What a run must not leave behind: processes, network namespaces, links, mounts, cgroups, folders.

Told a run's id, only that run's things are looked at, so that runs beside it don't matter; without, everything
that any run may have left, for the acceptance of a whole session on a quiet machine.
"""

import tempfile
import time
from pathlib import Path

from testbed.run import PREFIX, cgroup_root

PATIENCE_SECONDS = 10.0


def assert_nothing_left(run_id: str) -> None:
    """Fail if the run left anything; what is just ending gets some seconds to do so."""
    deadline = time.monotonic() + PATIENCE_SECONDS
    while left := left_behind(run_id):
        if time.monotonic() > deadline:
            raise AssertionError("left behind:\n" + "\n".join(sorted(left)))
        time.sleep(0.05)


def left_behind(run_id: str = "") -> set[str]:
    """What there is of the run now, or of any run: one readable line a thing."""
    name = f"{PREFIX}{run_id}"
    links = {f"link {link.name}" for link in Path("/sys/class/net").glob(f"fs{run_id}*")}
    temporary = (Path(tempfile.gettempdir()), Path("/dev/shm"))
    folders = {f"folder {path}" for folder in temporary for path in folder.glob(f"{name}*")}
    mounts = {f"mount {line}" for line in Path("/proc/self/mounts").read_text().splitlines() if name in line}
    # All processes of a run that root made are in its cgroup, and a cgroup goes only when it is empty.
    root = cgroup_root()
    cgroups = {f"cgroup {path}" for path in root.glob(f"{name}*")} if root else set()
    return links | folders | mounts | cgroups | _processes(name, elsewhere=not run_id)


def _processes(name: str, *, elsewhere: bool) -> set[str]:
    """Those with `name` in their command line; with `elsewhere`, also those in a network not ours."""
    found = set()
    ours = Path("/proc/self/ns/net").readlink()
    for process in Path("/proc").glob("[0-9]*"):
        try:
            words = (process / "cmdline").read_bytes().replace(b"\0", b" ").decode(errors="replace")
            away = elsewhere and (process / "ns/net").readlink() != ours
        except OSError:
            continue  # it ended while we looked
        if name in words or away:
            found.add(f"process {process.name} {words}")
    return found
