"""In a virtual machine: three writers, each in a folder of its own, that say what they do and what has returned.

`writer.py DIRECTORY FIRST SEED` until SIGTERM. A line `+ N WRITER KIND KEY` before operation number N, `= N` when it
returned, `! N REASON` when it failed. Numbers grow from FIRST on and are in what is written, so a reader knows which
write it sees. It is a program, not a module: nobody imports it, and it uses the standard library alone.

Kinds: `write` and `dsync` (a 4 KiB block, the second with O_DSYNC), `sync` (fsync or fdatasync of all blocks), `put`
and `drop` (a file takes a name, a name goes; with `-sync`: fsync of the file before and of the folder after), `append`
and `append-sync` (a record to a log), `reset` (the log is emptied).
"""

import itertools
import os
import random
import signal
import struct
import sys
import threading
import zlib
from pathlib import Path

BLOCK = 4096
SLOTS = 48
NAMES = 12
LOG_BYTES = 40_000
WRITERS = 3
KINDS = {
    "write": 30,
    "dsync": 6,
    "sync": 10,
    "put": 10,
    "put-sync": 6,
    "drop": 5,
    "drop-sync": 3,
    "append": 20,
    "append-sync": 9,
    "reset": 1,
}
HEAD = struct.Struct("<QII")  # number, length, checksum

stopping = threading.Event()
saying = threading.Lock()


def record(number: int, length: int) -> bytes:
    """`length` bytes after a head that names and protects them."""
    body = random.Random(number).randbytes(64) * (length // 64 + 1)  # noqa: S311 - not a secret
    return HEAD.pack(number, length, zlib.crc32(body[:length])) + body[:length]


def say(text: str) -> None:
    """One line, in one write: it is with the host when this returns."""
    with saying:
        os.write(1, f"{text}\n".encode())


class Writer(threading.Thread):
    """Does one operation after the other."""

    def __init__(self, number: int, directory: Path, numbers: "itertools.count[int]", seed: str) -> None:
        super().__init__()
        self.number = number
        self.folder = directory / str(number)
        self.numbers = numbers
        self.choose = random.Random(f"{seed} {number}")  # noqa: S311 - to be had again
        self.folder.mkdir(exist_ok=True)
        self.directory = os.open(self.folder, os.O_RDONLY | os.O_DIRECTORY)
        self.blocks = os.open(self.folder / "blocks", os.O_RDWR | os.O_CREAT, 0o644)
        self.synced_blocks = os.open(self.folder / "blocks", os.O_RDWR | os.O_DSYNC)
        self.log = os.open(self.folder / "log", os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o644)

    def run(self) -> None:
        first = True
        while not stopping.is_set():
            (kind,) = self.choose.choices(list(KINDS), list(KINDS.values()))
            if first or os.fstat(self.log).st_size > LOG_BYTES:
                # What a crash may have left at its end would hide what comes after.
                kind, first = "reset", False
            key = self.choose.randrange(SLOTS if kind in ("write", "dsync") else NAMES)
            number = next(self.numbers)
            say(f"+ {number} {self.number} {kind} {key}")
            try:
                self.do(kind, key, number)
            except OSError as error:
                say(f"! {number} {error}")
                return
            say(f"= {number}")

    def do(self, kind: str, key: int, number: int) -> None:
        """One operation, to its end."""
        if kind in ("write", "dsync"):
            target = self.synced_blocks if kind == "dsync" else self.blocks
            os.pwrite(target, record(number, BLOCK - HEAD.size), key * BLOCK)
        elif kind == "sync":
            self.choose.choice([os.fsync, os.fdatasync])(self.blocks)
        elif kind in ("put", "put-sync"):
            self.put(self.folder / f"n{key}", number, synced=kind == "put-sync")
        elif kind in ("drop", "drop-sync"):
            (self.folder / f"n{key}").unlink(missing_ok=True)
            if kind == "drop-sync":
                os.fsync(self.directory)
        elif kind == "reset":
            os.ftruncate(self.log, 0)
        else:
            os.write(self.log, record(number, self.choose.randrange(30, 700)))
            if kind == "append-sync":
                self.choose.choice([os.fsync, os.fdatasync])(self.log)

    def put(self, path: Path, number: int, *, synced: bool) -> None:
        """A whole new file takes the name."""
        new = self.folder / "new"
        file = os.open(new, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o644)
        try:
            os.write(file, record(number, self.choose.randrange(0, 9000)))
            if synced:
                os.fsync(file)
        finally:
            os.close(file)
        new.rename(path)
        if synced:
            os.fsync(self.directory)


if __name__ == "__main__":
    where, first, seed = sys.argv[1:]
    signal.signal(signal.SIGTERM, lambda *_: stopping.set())
    numbers = itertools.count(int(first))
    for each in [Writer(number, Path(where), numbers, seed) for number in range(WRITERS)]:
        each.start()
