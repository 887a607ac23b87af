"""What a daemon's memory is spent on: 10,000 open files, and every inode of a large tree looked up."""

import os
import resource
import time
import uuid
from pathlib import Path

from bench.mirrorfs.mirror import Mirror, rig

OPEN_FILES = 10_000
FILES_A_FOLDER = 1_000
ID_BITS = 112


def resident(pid: int) -> int:
    """Bytes of a process that are in memory."""
    lines = Path(f"/proc/{pid}/status").read_text().splitlines()
    return int(next(line for line in lines if line.startswith("VmRSS:")).split()[1]) * 1024


def fill(copies: tuple[Path, Path], files: int) -> None:
    """The same tree of empty files in both copies, with the ids that a mirror would give them.

    Past the mirror: a million files through it would take many times as long, and what is measured is not how they are
    made.
    """

    def name(path: Path, number: uuid.UUID) -> None:
        os.setxattr(path, "trusted.farmstead", (number.int >> (128 - ID_BITS)).to_bytes(16, "little"))

    for at in range(0, files, FILES_A_FOLDER):
        numbers = [uuid.uuid4() for _ in range(min(FILES_A_FOLDER, files - at) + 1)]
        for copy in copies:
            folder = copy / f"folder-{at // FILES_A_FOLDER}"
            folder.mkdir()
            name(folder, numbers[0])
            for count, number in enumerate(numbers[1:]):
                path = folder / f"file-{count}"
                path.touch()
                name(path, number)


def walk(folder: Path) -> int:
    """Looks every inode up, as `find -size` does; returns how many there are."""
    count = 0
    for entry in os.scandir(folder):
        entry.stat(follow_symlinks=False)
        count += 1
        if entry.is_dir(follow_symlinks=False):
            count += walk(Path(entry.path))
    return count


def measure_memory(base: Path, files: int) -> str:
    """Markdown lines: memory after the start, with files open, and after a walk through the tree."""
    _soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (min(hard, OPEN_FILES + 1_000), hard))
    with rig(base / "mirror") as made:
        with made.run():
            pass
        fill((made.base / "a", made.base / "b"), files)
        started = time.monotonic()
        with made.run() as mirror:
            return measure_running(mirror, time.monotonic() - started)


def measure_running(mirror: Mirror, startup: float) -> str:
    def both() -> str:
        return f"{resident(mirror.pids['a']) / 2**20:.1f} MiB | {resident(mirror.pids['b']) / 2**20:.1f} MiB |"

    lines = ["| | primary | secondary |", "|---|---|---|", f"| in sync {startup:.1f} s after the start | {both()}"]
    folders = sorted(mirror.folder.iterdir())
    wanted = min(OPEN_FILES, sum(1 for folder in folders[: OPEN_FILES // FILES_A_FOLDER] for _ in folder.iterdir()))
    paths = (path for folder in folders for path in folder.iterdir())
    files = [os.open(next(paths), os.O_RDWR) for _ in range(wanted)]
    lines.append(f"| {wanted:,} files open | {both()}")
    before, began = resident(mirror.pids["a"]), time.monotonic()
    known = wanted + len(folders)
    count = walk(mirror.folder)
    took = time.monotonic() - began
    lines.append(f"| and {count:,} inodes looked up, in {took:.0f} s | {both()}")
    for fd in files:
        os.close(fd)
    grown = resident(mirror.pids["a"]) - before
    lines.append(f"\n{grown / max(count - known, 1):.0f} bytes for each further inode looked up.")
    return "\n".join(lines)
