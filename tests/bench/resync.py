"""`make bench-resync`: how long a resync takes, what it moves, what memory it needs, next to rsync doing the same.

Two works: many small files (an empty target, an equal one, one percent changed), and one large file with one percent of
its blocks changed. Both daemons are real processes over loopback with TLS; rsync talks to an rsync daemon over
loopback, without encryption, and its target is in the same state as the mirror's. Prints tables for
docs/benchmarks/mirror-resync.md. Needs root, openssl and rsync (Debian packages), and room for three copies.
"""

import argparse
import json
import os
import random
import shutil
import subprocess
import tempfile
import threading
import time
import urllib.request
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from bench.mirrorfs.mirror import RELEASE, UIDS, free_port, make_key, run, start, witness

IN_A_FOLDER = 1_000
BLOCK = 4_096
PATIENCE_SECONDS = 1_800.0
RSYNC = [
    "rsync",
    "--archive",
    "--hard-links",
    "--acls",
    "--xattrs",
    "--filter=-x trusted.*",
    "--numeric-ids",
    "--delete",
]
HIDDEN = "--exclude=/.farmstead-mirror"
MIB = 1 << 20


@dataclass
class Cost:
    """What one way of making a copy equal took."""

    seconds: float
    moved: int
    memory: dict[str, int] = field(default_factory=dict)

    def cells(self) -> str:
        memory = ", ".join(f"{name} {value // 1024}" for name, value in self.memory.items())
        return f"{self.seconds:.1f} | {self.moved / MIB:,.1f} | {memory}"


def memory_peak(pid: int) -> int:
    """The most that a process has had in memory, KiB; 0 once it is gone."""
    try:
        lines = Path(f"/proc/{pid}/status").read_text().splitlines()
    except (FileNotFoundError, ProcessLookupError):
        return 0
    return next((int(line.split()[1]) for line in lines if line.startswith("VmHWM")), 0)


def forget_peak(pid: int) -> None:
    """From now on the peak is counted anew."""
    Path(f"/proc/{pid}/clear_refs").write_text("5")


class Mirror:
    """A primary that serves `a`, and a secondary that is started and killed."""

    def __init__(self, base: Path, witness_part: dict[str, str]) -> None:
        self.base = base
        pins = {side: make_key(base, side) for side in UIDS}
        members = {
            side: {"name": side, "uid": uid, "address": f"127.0.0.1:{free_port()}"} for side, uid in UIDS.items()
        }
        self.metrics = f"127.0.0.1:{free_port()}"
        self.configs: dict[str, dict[str, Any]] = {}
        self.children: dict[str, subprocess.Popen[bytes]] = {}
        for side, peer in (("a", "b"), ("b", "a")):
            self.configs[side] = {
                "mirror": "00112233-4455-6677-8899-aabbccddeeff",
                "member": members[side],
                "peer": members[peer],
                "directories": [{"path": str(base / side)}],
                "state": str(base / f"state-{side}"),
                "tls": {
                    "certificate": str(base / f"{side}.crt"),
                    "key": str(base / f"{side}.key"),
                    "peerPins": [pins[peer]],
                },
                "witness": witness_part,
            }
        self.configs["a"]["metrics"] = self.metrics

    def status(self, side: str) -> dict[str, Any]:
        command = [str(RELEASE / "farmstead-mirrorfs"), str(self.base / f"{side}.json"), "status"]
        answer = subprocess.run(command, capture_output=True, text=True, check=False)
        return dict(json.loads(answer.stdout)["status"]) if answer.returncode == 0 else {}

    def until(self, side: str, wanted: Callable[[dict[str, Any]], bool]) -> None:
        deadline = time.monotonic() + PATIENCE_SECONDS
        while not wanted(status := self.status(side)):
            if time.monotonic() > deadline or self.children[side].poll() is not None:
                raise RuntimeError(f"{side}: {status}\n{(self.base / f'{side}.log').read_text()[-4_000:]}")
            time.sleep(0.02)

    def start(self, side: str) -> None:
        self.children[side] = start(self.base, side, self.configs[side])

    def kill(self, side: str) -> None:
        """Kills a daemon, if it runs; the primary is alone then, and serves."""
        if child := self.children.pop(side, None):
            child.kill()
            child.wait()
        if side == "b":
            self.alone()

    def alone(self) -> None:
        """Waits until the primary serves without a secondary."""
        self.until("a", lambda status: status.get("role") == "ALONE" and status["mounted"])

    def serve(self) -> None:
        """Starts the primary, without a secondary."""
        self.start("a")
        self.alone()

    def forget(self, side: str) -> None:
        """Kills a daemon, and takes what it knows of its copy away."""
        self.kill(side)
        for name in ("state", "log"):
            (self.base / f"state-{side}" / name).unlink(missing_ok=True)

    def moved(self) -> int:
        with urllib.request.urlopen(f"http://{self.metrics}/metrics") as answer:
            lines = answer.read().decode().splitlines()
        names = [f"farmstead_mirrorfs_resync_{way}_bytes_total" for way in ("sent", "received")]
        return sum(
            int(float(line.split()[1])) for line in lines if line.startswith(tuple(f"{name} " for name in names))
        )

    def resync(self) -> Cost:
        """Starts the secondary and waits until it is in sync; the time is the resync's own, by the primary's log."""
        before, log = self.moved(), self.base / "a.log"
        skip = log.stat().st_size
        forget_peak(self.children["a"].pid)
        self.start("b")
        self.until("b", lambda status: status.get("role") == "SECOND")
        self.until("a", lambda status: status.get("role") == "PRIM")
        peaks = {"source": memory_peak(self.children["a"].pid), "target": memory_peak(self.children["b"].pid)}
        with log.open() as file:
            file.seek(skip)
            roles = [line for text in file if text.startswith("{") and (line := json.loads(text))["message"] == "role"]
        begun = next(line["time"] for line in roles if line["resync"] == "true")
        ended = next(line["time"] for line in reversed(roles) if line["role"] == "Join")
        return Cost(ended - begun, self.moved() - before, peaks)

    def end(self) -> None:
        for child in self.children.values():
            child.kill()
            child.wait()
        mounts = [self.base / "a", self.base / "b", *(self.base / f"state-{side}/under-0" for side in UIDS)]
        for left in mounts:
            if f" {left} " in Path("/proc/self/mounts").read_text():
                subprocess.run(["umount", "--lazy", "--force", left], check=True)


@contextmanager
def rsync_daemon(base: Path, target: Path) -> Iterator[str]:
    """An rsync daemon over loopback with `target` as its module; yields the address."""
    port = free_port()
    config = base / "rsyncd.conf"
    config.write_text(
        f"use chroot = no\naddress = 127.0.0.1\nport = {port}\nuid = root\ngid = root\npid file = {base}/rsyncd.pid\n"
        f"[copy]\npath = {target}\nread only = no\n"
    )
    with subprocess.Popen(["rsync", "--daemon", "--no-detach", f"--config={config}"]) as daemon:
        time.sleep(0.5)
        try:
            yield f"rsync://127.0.0.1:{port}/copy/"
        finally:
            daemon.terminate()


def descendants(pid: int) -> set[int]:
    """A process and all below it."""
    found, todo = set(), [pid]
    while todo:
        one = todo.pop()
        found.add(one)
        for children in Path(f"/proc/{one}/task").glob("*/children"):
            try:
                todo.extend(int(child) for child in children.read_text().split())
            except (FileNotFoundError, ProcessLookupError):
                continue
    return found


def rsync(base: Path, source: Path, target: Path, *options: str) -> Cost:
    """Makes `target` like `source` by rsync over loopback."""
    with rsync_daemon(base, target) as address:
        peaks: dict[int, int] = {}
        done = threading.Event()

        def watch() -> None:
            while not done.wait(0.1):
                for pid in descendants(os.getpid()):
                    if (Path(f"/proc/{pid}/comm")).exists() and Path(
                        f"/proc/{pid}/comm"
                    ).read_text().strip() == "rsync":
                        peaks[pid] = max(peaks.get(pid, 0), memory_peak(pid))

        watcher = threading.Thread(target=watch)
        watcher.start()
        started = time.monotonic()
        try:
            text = run(*RSYNC, *options, HIDDEN, "--stats", f"{source}/", address)
        finally:
            took = time.monotonic() - started
            done.set()
            watcher.join()
    moved = 0
    for line in text.splitlines():
        if line.startswith(("Total bytes sent", "Total bytes received")):
            moved += int(line.split(":")[1].replace(",", ""))
    return Cost(took, moved, {"all its processes": sum(peaks.values())})


def seeded(seed: int) -> random.Random:
    """The same contents in every run; not a secret."""
    return random.Random(seed)  # noqa: S311


def lay_small(folder: Path, count: int) -> None:
    """Many files of up to 2 KiB, a thousand in a folder."""
    source = seeded(1)
    for number in range(count):
        at = folder / f"{number // IN_A_FOLDER:04}"
        if number % IN_A_FOLDER == 0:
            at.mkdir()
        descriptor = os.open(at / f"{number}", os.O_WRONLY | os.O_CREAT, 0o644)
        os.write(descriptor, source.randbytes(source.randrange(2_048)))
        os.close(descriptor)


def change_small(folder: Path, count: int) -> None:
    """Every hundredth file is written anew."""
    source = seeded(2)
    for number in range(0, count, 100):
        (folder / f"{number // IN_A_FOLDER:04}" / f"{number}").write_bytes(source.randbytes(1_000))


def lay_large(folder: Path, size: int) -> None:
    """One file of `size` MiB."""
    source = seeded(3)
    with (folder / "large").open("wb") as file:
        for _ in range(size):
            file.write(source.randbytes(MIB))


def change_large(folder: Path, size: int) -> None:
    """One percent of its blocks of 4 KiB, anywhere."""
    source = seeded(4)
    blocks = size * MIB // BLOCK
    with (folder / "large").open("r+b") as file:
        for block in source.sample(range(blocks), blocks // 100):
            file.seek(block * BLOCK)
            file.write(source.randbytes(BLOCK))


@contextmanager
def rig(parent: Path) -> Iterator[tuple[Mirror, Path]]:
    """A mirror that is not started, and the copy for rsync; all of it is removed at the end."""
    base = Path(tempfile.mkdtemp(prefix="bench-resync-", dir=parent))
    for name in ("a", "b", "c"):
        (base / name).mkdir()
    try:
        with witness(base) as part:
            mirror = Mirror(base, part)
            try:
                yield mirror, base / "c"
            finally:
                mirror.end()
    finally:
        shutil.rmtree(base)


class Table:
    """A table for the document, of the ways that were asked for; each line as soon as it is measured."""

    def __init__(self, title: str, ways: list[str]) -> None:
        self._ways = ways
        print(f"\n{title}\n\n| | seconds | MiB moved | peak memory, MiB |\n|---|---|---|---|", flush=True)

    def add(self, way: str, what: str, measure: Callable[[], Cost]) -> None:
        """Measures one more."""
        if way in self._ways:
            os.sync()
            print(f"| {way}, {what} | {measure().cells()} |", flush=True)


def small(parent: Path, count: int, ways: list[str]) -> None:
    """Many small files."""
    with rig(parent) as (mirror, copy):
        lay_small(mirror.base / "a", count)
        mirror.serve()
        source = mirror.base / "state-a/under-0"
        table = Table(f"{count:,} files of up to 2 KiB, {IN_A_FOLDER:,} in a directory", ways)
        table.add("mirror", "empty target", mirror.resync)
        table.add("rsync", "empty target", lambda: rsync(mirror.base, source, copy))
        # Without its log, all of the target is compared.
        mirror.forget("b")
        table.add("mirror", "all equal, everything compared by content", mirror.resync)
        table.add("rsync", "all equal, by size and time", lambda: rsync(mirror.base, source, copy))
        table.add("rsync", "all equal, by content", lambda: rsync(mirror.base, source, copy, "--checksum"))
        mirror.kill("b")
        change_small(mirror.base / "a", count)
        table.add("mirror", "1 % of the files changed", mirror.resync)
        table.add("rsync", "1 % of the files changed", lambda: rsync(mirror.base, source, copy))


def large(parent: Path, size: int, ways: list[str]) -> None:
    """One large file."""
    with rig(parent) as (mirror, copy):
        lay_large(mirror.base / "a", size)
        mirror.serve()
        source = mirror.base / "state-a/under-0"
        blocks = size * MIB // BLOCK // 100
        table = Table(f"One file of {size:,} MiB, {blocks:,} blocks of 4 KiB changed anywhere", ways)
        table.add("mirror", "empty target", mirror.resync)
        table.add("rsync", "empty target", lambda: rsync(mirror.base, source, copy, "--inplace"))
        mirror.kill("b")
        change_large(mirror.base / "a", size)
        table.add("mirror", "1 % of the blocks changed", mirror.resync)
        delta = ["--inplace", "--no-whole-file"]
        table.add("rsync", "1 % of the blocks changed", lambda: rsync(mirror.base, source, copy, *delta))


def main() -> None:
    """Runs what was asked for."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--files", type=int, default=1_000_000, help="small files; 0: none of that work")
    parser.add_argument("--size", type=int, default=8_192, help="MiB of the large file; 0: none of that work")
    both = ["mirror", "rsync"]
    parser.add_argument("--ways", nargs="+", choices=both, default=both, help="what is measured")
    parser.add_argument("--base", type=Path, default=Path(tempfile.gettempdir()), help="where the copies lie")
    arguments = parser.parse_args()
    if shutil.which("rsync") is None:
        parser.error("rsync is not installed: apt-get install rsync")
    needed = max(arguments.files * 5_000, arguments.size * MIB) * 3 + (2 << 30)
    free = shutil.disk_usage(arguments.base).free
    if free < needed:
        parser.error(f"{arguments.base} has {free >> 30} GiB free, {needed >> 30} are needed: name another by --base")
    if arguments.files:
        small(arguments.base, arguments.files, arguments.ways)
    if arguments.size:
        large(arguments.base, arguments.size, arguments.ways)


if __name__ == "__main__":
    main()
