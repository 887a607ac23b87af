"""What is done in each directory: fio, small files, SQLite, PostgreSQL. A work gives figures by name."""

import json
import os
import shutil
import sqlite3
import subprocess
import tempfile
import time
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from pathlib import Path

from bench.mirrorfs.mirror import RELEASE, run
from bench.mirrorfs.postgres import pgbench

JOBS = 16
# More than one interval between checkpoints of the difference log.
CHECKPOINT_SECONDS = 40


@dataclass(frozen=True, kw_only=True)
class Settings:
    """How much work: seconds of each run, MiB of the file that fio writes, number of small files."""

    seconds: int
    size: int
    files: int


@dataclass(frozen=True, kw_only=True)
class Side:
    """One of the directories, and where the copies below it can be reached."""

    name: str
    folder: Path
    copies: tuple[Path, ...]


Figures = dict[str, float]
Work = Callable[[Side, Settings], Figures]

P99 = " p99 (us)"


def fio(label: str, *arguments: str, jobs: int = 1, seconds: int | None = None) -> Work:
    """A timed run of fio: operations a second, and how long one of a hundred takes."""

    def work(side: Side, settings: Settings) -> Figures:
        # A file for each of several jobs: the kernel lets one writer at a time into a file. Threads, because fio gives
        # each process a scheduling group of its own, and some groups then wait for seconds.
        if jobs > 1:
            place = [f"--directory={side.folder}", "--thread", f"--numjobs={jobs}", "--group_reporting"]
        else:
            place = [f"--filename={side.folder / 'data'}"]
        size = f"--size={settings.size // jobs}m"
        shape = [f"--runtime={seconds or settings.seconds}", "--time_based", "--ioengine=psync", "--randrepeat=0"]
        output = run("fio", "--name=bench", "--output-format=json", *place, size, *shape, *arguments)
        job = json.loads(output)["jobs"][0]
        way = job["read" if job["read"]["total_ios"] else "write"]
        return {label: float(way["iops"]), label + P99: way["clat_ns"]["percentile"]["99.000000"] / 1e3}

    return work


def once(label: str, *arguments: str, before: Callable[[Side], None]) -> Work:
    """One pass of fio over the whole file: MiB a second."""

    def work(side: Side, settings: Settings) -> Figures:
        before(side)
        place = [f"--filename={side.folder / 'data'}", f"--size={settings.size}m", "--bs=1m", "--ioengine=psync"]
        output = run("fio", "--name=bench", "--output-format=json", *place, *arguments)
        job = json.loads(output)["jobs"][0]
        way = job["read" if job["read"]["total_ios"] else "write"]
        return {label: way["bw_bytes"] / 2**20}

    return work


def nothing(side: Side) -> None:
    """For a work that needs no preparation."""


def remove(side: Side) -> None:
    (side.folder / "data").unlink()


def forget_cached(side: Side) -> None:
    """The file's pages leave the cache, the mount's and the copies'; other files' stay."""
    os.sync()
    for path in (side.folder / "data", *(copy / "data" for copy in side.copies)):
        fd = os.open(path, os.O_RDONLY)
        try:
            os.posix_fadvise(fd, 0, 0, os.POSIX_FADV_DONTNEED)
        finally:
            os.close(fd)


def spread(folder: Path) -> None:
    """On ext4, each folder made in this one gets a block group of its own.

    Else a round's files are made where the round before has just removed thousands, and ext4 looks at each of those
    inodes again for every new one: it gives none out for a minute after its file was removed.
    """
    subprocess.run(["chattr", "+T", folder], check=False, capture_output=True)


def small_files(side: Side, settings: Settings) -> Figures:
    """Rates of creating, stating and removing files of 4 KiB."""
    below = Path(tempfile.mkdtemp(prefix="small-", dir=side.folder))
    try:
        rates = json.loads(run(RELEASE / "examples/small_files", below, str(settings.files)))
    finally:
        shutil.rmtree(below)
    return {
        "4 KiB file create (/s)": rates["create"],
        "stat (/s)": rates["stat"],
        "unlink (/s)": rates["unlink"],
    }


def sqlite(mode: str) -> Work:
    """Commits a second of one small row each, on the disk before the next."""

    def work(side: Side, settings: Settings) -> Figures:
        path = side.folder / f"{mode}.sqlite"
        database = sqlite3.connect(path, isolation_level=None)
        database.execute(f"PRAGMA journal_mode={mode}")
        database.execute("PRAGMA synchronous=FULL")
        database.execute("CREATE TABLE IF NOT EXISTS ledger (number INTEGER PRIMARY KEY, text TEXT)")
        commits, start = 0, time.monotonic()
        while (took := time.monotonic() - start) < settings.seconds:
            database.execute("INSERT INTO ledger (text) VALUES (?)", ("x" * 100,))
            commits += 1
        database.close()
        path.unlink()
        return {f"SQLite {mode} (commits/s)": commits / took}

    return work


def postgres(side: Side, settings: Settings) -> Figures:
    return {"pgbench -c 4 (tps)": pgbench(side.folder / "postgres", settings.seconds)}


RANDOM = ("--rw=randwrite", "--bs=4k")
WORKS: dict[str, Work] = {
    "qd1": fio("4K random write, QD1 (op/s)", *RANDOM),
    "fdatasync": fio("4K random write + fdatasync (op/s)", *RANDOM, "--fdatasync=1"),
    "jobs": fio("4K random write, 16 jobs (op/s)", *RANDOM, jobs=JOBS),
    "jobs-fdatasync": fio("4K random write + fdatasync, 16 jobs (op/s)", *RANDOM, "--fdatasync=1", jobs=JOBS),
    "direct": fio("4K random write, O_DIRECT (op/s)", *RANDOM, "--direct=1"),
    "new": once("1 MiB sequential, new file (MiB/s)", "--rw=write", before=remove),
    "overwrite": once("1 MiB sequential overwrite (MiB/s)", "--rw=write", before=nothing),
    "cold": once("1 MiB sequential read, cold (MiB/s)", "--rw=read", before=forget_cached),
    "cached": fio("4K random read, cached (op/s)", "--rw=randread", "--bs=4k", "--invalidate=0"),
    "files": small_files,
    "sqlite-wal": sqlite("WAL"),
    "sqlite-delete": sqlite("DELETE"),
    "pgbench": postgres,
    "checkpoints": fio("4K random write over 40 s (op/s)", *RANDOM, seconds=CHECKPOINT_SECONDS),
}


def lay(sides: Iterable[Side], settings: Settings) -> None:
    """The file that most works are about."""
    for side in sides:
        for copy in side.copies or [side.folder]:
            spread(copy)
        path = side.folder / "data"
        run("fio", f"--filename={path}", "--name=lay", "--rw=write", "--bs=1m", f"--size={settings.size}m")
    os.sync()
