"""Reads what is in a directory into values that can be compared."""

import hashlib
import os
import stat
from collections.abc import Collection
from pathlib import Path

from testbed.seen import Seen

MIRRORS_OWN = ".farmstead-mirror"


def tree(root: Path, *, without: Collection[str] = (MIRRORS_OWN,)) -> dict[str, Seen]:
    """All that is below `root`, by path. Nobody may be changing it meanwhile."""
    found: dict[str, os.stat_result] = {}
    smallest: dict[int, str] = {}
    for folder, folders, files in os.walk(root):
        if Path(folder) == root:
            folders[:] = [name for name in folders if name not in without]
        for name in folders + files:
            path = Path(folder) / name
            short = str(path.relative_to(root))
            found[short] = path.lstat()
            inode = found[short].st_ino
            smallest[inode] = min(short, smallest.get(inode, short))
    return {path: _seen(root / path, status, smallest[status.st_ino]) for path, status in found.items()}


def _seen(path: Path, status: os.stat_result, same_as: str) -> Seen:
    content, size = "", 0
    if stat.S_ISREG(status.st_mode):
        size = status.st_size
        with path.open("rb") as file:
            content = hashlib.file_digest(file, "sha256").hexdigest()
    elif stat.S_ISLNK(status.st_mode):
        content = str(path.readlink())
    names = [name for name in os.listxattr(path, follow_symlinks=False) if name.startswith("user.")]
    attributes = tuple((name, os.getxattr(path, name, follow_symlinks=False)) for name in sorted(names))
    return Seen(status.st_mode, status.st_uid, status.st_gid, size, content, attributes, same_as)


def differences(a: dict[str, Seen], b: dict[str, Seen]) -> list[str]:
    """A line for each name that is not the same in both, for people."""
    paths = sorted(a.keys() | b.keys())
    return [f"{path}: {a.get(path)} and {b.get(path)}" for path in paths if a.get(path) != b.get(path)]
