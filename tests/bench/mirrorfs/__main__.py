"""`python3 -m bench.mirrorfs`: measures and prints.

Needs root, fio and openssl, and GlusterFS and PostgreSQL for what uses them.
"""

import argparse
import os
import platform
import shutil
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path

from bench.mirrorfs.gluster import gluster
from bench.mirrorfs.memory import measure_memory
from bench.mirrorfs.mirror import Mirror, mirror
from bench.mirrorfs.report import Results, table
from bench.mirrorfs.works import WORKS, Settings, Side, lay

SIDES = ("plain", "mirror", "mirror-disk", "gluster", "gluster-no-write-behind")
USUAL_WORKS = [name for name in WORKS if name != "checkpoints"]


def say(text: str) -> None:
    print(text, flush=True)


@contextmanager
def running(base: Path, wanted: list[str]) -> Iterator[tuple[list[Side], dict[str, Mirror]]]:
    """The directories to compare, each where it is to be measured, and the mirrors among them."""
    with ExitStack() as stack:
        sides, mirrors = {}, {}
        (base / "plain").mkdir()
        sides["plain"] = Side(name="plain", folder=base / "plain", copies=())
        for name, class_ in (("mirror", "Memory"), ("mirror-disk", "Disk")):
            if name in wanted:
                mirrors[name] = made = stack.enter_context(mirror(base / name, class_))
                sides[name] = Side(name=name, folder=made.folder, copies=made.copies)
        if any(name.startswith("gluster") for name in wanted):
            usual, without, bricks = stack.enter_context(gluster(base / "gluster"))
            for name, mount in (("gluster", usual), ("gluster-no-write-behind", without)):
                # One volume: each mount has a folder of its own in it.
                folder = mount / name
                folder.mkdir()
                sides[name] = Side(name=name, folder=folder, copies=tuple(brick / name for brick in bricks))
        yield [sides[name] for name in wanted], mirrors


def measure(sides: list[Side], works: list[str], settings: Settings, rounds: int, minutes: float) -> Results:
    """All works in all directories, one after the other in each work, until the rounds or the time are used up."""
    results: Results = {}
    deadline = time.monotonic() + minutes * 60
    lay(sides, settings)
    for number in range(rounds):
        for work in works:
            if time.monotonic() > deadline:
                say(f"the time is used up in round {number + 1}, before {work}")
                return results
            for side in sides:
                for figure, value in WORKS[work](side, settings).items():
                    results.setdefault(figure, {}).setdefault(side.name, []).append(value)
        say(f"round {number + 1} of {rounds} done")
    return results


def proof(mirrors: dict[str, Mirror]) -> Iterator[str]:
    """What shows that nothing was left out: each operation went over TLS with a checksum, and the log was written."""
    for name, made in mirrors.items():
        first, second = made.counters("a"), made.counters("b")
        yield (
            f"{name}: {second['received_operations_total']:,.0f} operations over TLS with a checksum, "
            f"{first['sent_bytes_total'] / 2**20:,.0f} MiB; difference log written "
            f"{first['log_writes_total']:,.0f} + {second['log_writes_total']:,.0f} times, "
            f"{first['checkpoints_total']:,.0f} checkpoints; requests by {made.way}"
        )


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(prog="bench.mirrorfs", description=sys.modules["bench.mirrorfs"].__doc__)
    parser.add_argument("--sides", nargs="+", choices=SIDES, default=["plain", "mirror"])
    parser.add_argument("--works", nargs="+", choices=list(WORKS), default=USUAL_WORKS)
    parser.add_argument("--seconds", type=int, default=5, help="of each timed run")
    parser.add_argument("--size", type=int, default=1024, help="MiB of the file that fio writes")
    parser.add_argument("--files", type=int, default=5000, help="small files")
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--minutes", type=float, default=60, help="no further work is begun after this time")
    parser.add_argument("--base", default="/var/tmp", help="a folder on the file system to measure")
    parser.add_argument("--memory", action="store_true", help="measure memory instead")
    parser.add_argument("--tree", type=int, default=1_000_000, help="files of the tree for --memory")
    given = parser.parse_args()
    memory = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES") >> 30
    say(f"{time.strftime('%Y-%m-%d')}, {os.cpu_count()} processors, {memory} GiB, kernel {platform.release()}")
    for program in ("fio", "openssl", *(["glusterd"] if any("gluster" in side for side in given.sides) else [])):
        if shutil.which(program) is None:
            sys.exit(f"{program} is missing: apt-get install fio openssl glusterfs-server")
    settings = Settings(seconds=given.seconds, size=given.size, files=given.files)
    with tempfile.TemporaryDirectory(prefix="mirrorfs-bench-", dir=given.base) as name:
        base = Path(name)
        # PostgreSQL's user has to get through.
        base.chmod(0o755)
        if given.memory:
            say(measure_memory(base, given.tree))
            return
        with running(base, given.sides) as (sides, mirrors):
            results = measure(sides, given.works, settings, given.rounds, given.minutes)
            say(f"\n{settings}, {given.rounds} rounds\n")
            say(table(results, given.sides))
            say("\n" + "\n".join(proof(mirrors)))


if __name__ == "__main__":
    main()
