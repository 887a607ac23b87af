"""What a run must not leave behind: processes, network namespaces, links, mounts, cgroups, folders.

`snapshot()` before, `assert_nothing_new()` after. Only what carries a run's name is looked at, so that
a busy machine does not make a test fail.
"""

import os
import tempfile
import time
from dataclasses import dataclass
from pathlib import Path

from testbed.run import PREFIX, cgroup_root

PATIENCE_SECONDS = 10.0


@dataclass(frozen=True)
class Snapshot:
    """What there is of runs, one readable line a thing."""

    things: frozenset[str]

    def assert_nothing_new(self) -> None:
        """Fail if there is more than there was; what is just ending gets some seconds to do so."""
        deadline = time.monotonic() + PATIENCE_SECONDS
        while left := snapshot().things - self.things:
            if time.monotonic() > deadline:
                raise AssertionError("left behind:\n" + "\n".join(sorted(left)))
            time.sleep(0.05)


def snapshot() -> Snapshot:
    """What there is now."""
    links = {f"link {link.name}" for link in Path("/sys/class/net").glob("fs*")}
    temporary = (Path(tempfile.gettempdir()), Path("/dev/shm"))
    folders = {f"folder {path}" for folder in temporary for path in folder.glob(f"{PREFIX}*")}
    mounts = {
        f"mount {line}" for line in Path("/proc/self/mounts").read_text().splitlines() if PREFIX in line
    }
    root = cgroup_root()
    cgroups = {f"cgroup {path}" for path in root.glob(f"{PREFIX}*")} if root else set()
    return Snapshot(frozenset(links | folders | mounts | cgroups | _processes()))


def _processes() -> set[str]:
    """Every process that names a run in its command line, or sits in a network namespace not ours."""
    found = set()
    for process in Path("/proc").glob("[0-9]*"):
        try:
            words = (process / "cmdline").read_bytes().replace(b"\0", b" ").decode(errors="replace")
            elsewhere = (process / "ns/net").readlink() != Path("/proc/self/ns/net").readlink()
        except OSError:
            continue  # it ended while we looked
        if (PREFIX in words or elsewhere) and process.name != str(os.getpid()):
            found.add(f"process {process.name} {words}")
    return found
