"""In a virtual machine: what a directory holds, as JSON. `look.py records DIRECTORY` or `look.py tree DIRECTORY`.

`records`: what writer.py wrote there. A block, a file or a log's end that is not whole is `torn`.
`tree`: every name with all that two equal copies have in common.
It is a program, not a module: nobody imports it, and it uses the standard library alone.
"""

import hashlib
import json
import os
import stat
import struct
import sys
import zlib
from pathlib import Path
from typing import Any

BLOCK = 4096
HEAD = struct.Struct("<QII")
TORN = "torn"
HIDDEN = ".farmstead-mirror"


def records(data: bytes) -> tuple[list[int], bool]:
    """The numbers of the records that lie there one after the other, and whether something else follows."""
    numbers, at = [], 0
    while at + HEAD.size <= len(data):
        number, length, checksum = HEAD.unpack_from(data, at)
        body = data[at + HEAD.size : at + HEAD.size + length]
        if number == 0 or len(body) < length or zlib.crc32(body) != checksum:
            break
        numbers.append(number)
        at += HEAD.size + length
    return numbers, at < len(data)


def one(data: bytes) -> "int | str | None":
    """The number of what should be one record; None for nothing but zeros."""
    if not any(data):
        return None
    numbers, torn = records(data)
    return TORN if torn or len(numbers) != 1 else numbers[0]


def content(path: Path) -> bytes:
    """A file's; nothing where there is none."""
    try:
        return path.read_bytes()
    except FileNotFoundError:
        return b""


def written(folder: Path) -> dict[str, Any]:
    """What one writer's folder holds."""
    blocks, log = content(folder / "blocks"), content(folder / "log")
    numbers, torn = records(log)
    names = [path for path in folder.glob("n*") if path.name != "new"]
    return {
        "blocks": {at // BLOCK: one(blocks[at : at + BLOCK]) for at in range(0, len(blocks), BLOCK)},
        # A file that is there and empty is not the same as none.
        "names": {int(path.name[1:]): one(content(path)) or TORN for path in names},
        "log": {"numbers": numbers, "torn": torn},
    }


def entry(path: Path) -> dict[str, Any]:
    """All that two equal copies have in common; a folder's time of modification is its file system's own."""
    status = path.lstat()
    common = {"mode": status.st_mode, "owner": [status.st_uid, status.st_gid]}
    if stat.S_ISDIR(status.st_mode):
        return common
    common |= {"links": status.st_nlink, "size": status.st_size, "modified": status.st_mtime_ns}
    return {**common, "digest": hashlib.sha256(content(path)).hexdigest()}


def tree(directory: Path) -> dict[str, dict[str, Any]]:
    """Every name below, less what the mirror keeps for itself."""
    found = {}
    for folder, folders, files in os.walk(directory):
        if folder == str(directory) and HIDDEN in folders:
            folders.remove(HIDDEN)
        for name in [*folders, *files]:
            path = Path(folder, name)
            found[str(path.relative_to(directory))] = entry(path)
    return found


if __name__ == "__main__":
    what, where = sys.argv[1], Path(sys.argv[2])
    if what == "tree":
        print(json.dumps(tree(where)))
    else:
        print(json.dumps({path.name: written(path) for path in where.iterdir() if path.name.isdecimal()}))
