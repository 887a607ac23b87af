"""A program that does every kind of changing operation in DIRECTORY, and keeps account of them in LEDGER.

    python -m testbed.mirror_load.operations DIRECTORY LEDGER SEED

The ledger's first line is the model of what is there (`model.py`), which the one who starts it wrote. Then a line for
each operation before it is called, and a `+` for its success. Ends after the operation in hand at SIGTERM; at the first
error it says so and ends with status 1: only who reads the ledger knows whether there had to be one.
"""

import json
import os
import random
import signal
import sys
from pathlib import Path

from testbed.mirror_load.model import Model, Operation, choose, content


def perform(root: Path, operation: Operation) -> None:
    """One system call that changes something (and what it takes to make it)."""
    kind, name, *rest = operation
    path = root / name
    match kind:
        case "create":
            os.close(os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, rest[0]))
        case "mkdir":
            path.mkdir(rest[0])
        case "symlink":
            path.symlink_to(rest[0])
        case "link":
            (root / rest[0]).hardlink_to(path)
        case "unlink":
            path.unlink()
        case "rmdir":
            path.rmdir()
        case "rename":
            path.rename(root / rest[0])
        case "truncate":
            os.truncate(path, rest[0])
        case "chmod":
            path.chmod(rest[0])
        case "setxattr":
            os.setxattr(path, rest[0], rest[1].encode())
        case "removexattr":
            os.removexattr(path, rest[0])
        case _:
            _open_and(kind, path, rest)


def _open_and(kind: str, path: Path, rest: list[int]) -> None:
    file = os.open(path, os.O_WRONLY | (os.O_APPEND if kind == "append" else 0))
    try:
        match kind:
            case "write":
                offset, length, seed = rest
                whole = os.pwrite(file, content(length, seed), offset) == length
            case "append":
                length, seed = rest
                whole = os.write(file, content(length, seed)) == length
            case "fsync":
                os.fsync(file)
                whole = True
            case _:
                raise ValueError(kind)
    finally:
        os.close(file)
    if not whole:
        raise OSError(f"{kind} was short")


def main() -> None:
    """Work until SIGTERM, or an error."""
    root, ledger, seed = Path(sys.argv[1]), Path(sys.argv[2]), int(sys.argv[3])
    stopping = False

    def stop(*_: object) -> None:
        nonlocal stopping
        stopping = True

    signal.signal(signal.SIGTERM, stop)
    os.umask(0)
    rng = random.Random(seed)  # noqa: S311 - no secret
    with ledger.open("r+") as file:
        model = Model.load(json.loads(file.readline()))
        file.seek(0, os.SEEK_END)
        while not stopping:
            operation = choose(model, rng)
            file.write(json.dumps(operation) + "\n")
            file.flush()
            try:
                perform(root, operation)
            except OSError as error:
                file.write(f"! {error}\n")
                file.flush()
                # At once: an interpreter that takes itself down obeys SIGTERM again, and this status would be lost.
                os._exit(1)
            file.write("+\n")
            model.apply(operation)


if __name__ == "__main__":
    main()
