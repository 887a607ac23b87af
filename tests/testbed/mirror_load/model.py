"""What a directory must look like after a known sequence of operations. Pure: no file system in it.

A small tree of files, folders, symbolic links and hard links, in memory; what an operation does to it is said here a
second time, independently of any file system. Operations are lists that JSON can carry, the kind first.
"""

import base64
import hashlib
import random
import stat
from dataclasses import asdict, dataclass, field
from typing import Any

from testbed.seen import Seen

Operation = list[Any]

NAMES = [f"{folder}{name}" for folder in ("", "d0/", "d1/", "d2/") for name in ("f0", "f1", "f2", "f3")]
FOLDERS = ["d0", "d1", "d2"]
LARGEST = 64 * 1024
PAGE = 4096


@dataclass
class Inode:
    """A file, folder or symbolic link, however many names it has."""

    mode: int
    data: bytes = b""
    """A file's content, a link's target."""
    attributes: dict[str, str] = field(default_factory=dict)

    @property
    def is_file(self) -> bool:
        """Whether it is a regular file."""
        return stat.S_ISREG(self.mode)


class Model:
    """The tree; `apply` changes it."""

    def __init__(self) -> None:
        self.names: dict[str, int] = {}
        self.inodes: dict[int, Inode] = {}
        self._next = 1

    def __getitem__(self, path: str) -> Inode:
        return self.inodes[self.names[path]]

    def apply(self, operation: Operation) -> None:
        """One operation that took effect."""
        kind, *rest = operation
        getattr(self, f"_{kind}")(*rest)

    def expected(self) -> dict[str, Seen]:
        """What `tree` must find, if root made all of it."""
        groups: dict[int, list[str]] = {}
        for path, inode in self.names.items():
            groups.setdefault(inode, []).append(path)
        return {path: self._seen(self.inodes[inode], min(groups[inode])) for path, inode in self.names.items()}

    def dump(self) -> dict[str, Any]:
        """As JSON can carry it."""
        inodes = {
            number: asdict(inode) | {"data": base64.b64encode(inode.data).decode()}
            for number, inode in self.inodes.items()
        }
        return {"names": self.names, "inodes": inodes, "next": self._next}

    @classmethod
    def load(cls, dumped: dict[str, Any]) -> "Model":
        """What `dump` gave."""
        model = cls()
        model.names = dict(dumped["names"])
        model.inodes = {
            int(number): Inode(**fields | {"data": base64.b64decode(fields["data"])})
            for number, fields in dumped["inodes"].items()
        }
        model._next = dumped["next"]
        return model

    def _seen(self, inode: Inode, same_as: str) -> Seen:
        content, size = "", 0
        if inode.is_file:
            content, size = hashlib.sha256(inode.data).hexdigest(), len(inode.data)
        elif stat.S_ISLNK(inode.mode):
            content = inode.data.decode()
        attributes = tuple(sorted((name, value.encode()) for name, value in inode.attributes.items()))
        return Seen(inode.mode, 0, 0, size, content, attributes, same_as)

    def _make(self, path: str, inode: Inode) -> None:
        self.names[path] = self._next
        self.inodes[self._next] = inode
        self._next += 1

    def _forget(self, path: str) -> None:
        number = self.names.pop(path)
        if number not in self.names.values():
            del self.inodes[number]

    # -- operations

    def _create(self, path: str, mode: int) -> None:
        self._make(path, Inode(stat.S_IFREG | mode))

    def _mkdir(self, path: str, mode: int) -> None:
        self._make(path, Inode(stat.S_IFDIR | mode))

    def _symlink(self, path: str, target: str) -> None:
        self._make(path, Inode(stat.S_IFLNK | 0o777, target.encode()))

    def _link(self, path: str, new: str) -> None:
        self.names[new] = self.names[path]

    def _unlink(self, path: str) -> None:
        self._forget(path)

    def _rmdir(self, path: str) -> None:
        self._forget(path)

    def _rename(self, path: str, new: str) -> None:
        if self.names[path] == self.names.get(new):
            return  # two names of one file: POSIX leaves both
        if new in self.names:
            self._forget(new)
        self.names[new] = self.names.pop(path)

    def _write(self, path: str, offset: int, length: int, seed: int) -> None:
        inode = self[path]
        start = inode.data[:offset].ljust(offset, b"\0")
        inode.data = start + content(length, seed) + inode.data[offset + length :]

    def _append(self, path: str, length: int, seed: int) -> None:
        self[path].data += content(length, seed)

    def _truncate(self, path: str, size: int) -> None:
        self[path].data = self[path].data[:size].ljust(size, b"\0")

    def _chmod(self, path: str, mode: int) -> None:
        self[path].mode = stat.S_IFMT(self[path].mode) | mode

    def _setxattr(self, path: str, name: str, value: str) -> None:
        self[path].attributes[name] = value

    def _removexattr(self, path: str, name: str) -> None:
        del self[path].attributes[name]

    def _fsync(self, path: str) -> None:
        assert path in self.names


def content(length: int, seed: int) -> bytes:
    """The bytes that a write with this seed writes; a shorter one is the beginning of a longer one."""
    return hashlib.shake_128(str(seed).encode()).digest(length)


def outcomes(model: Model, operation: Operation) -> list[Operation]:
    """What may have become of a call whose answer never came, besides nothing: all of it; of a write also a beginning.

    Linux cuts a write(2) into several requests to a FUSE file system where a page that it writes in part is not in its
    cache. Each of them is done or not, in their order.
    """
    kind, path, *rest = operation
    if kind not in ("write", "append"):
        return [operation]
    *_, length, seed = rest
    offset = rest[0] if kind == "write" else len(model[path].data)
    ends = [*range(offset - offset % PAGE + PAGE, offset + length, PAGE), offset + length]
    return [["write", path, offset, end - offset, seed] for end in ends]


def choose(model: Model, rng: random.Random) -> Operation:
    """An operation that is possible now."""
    while True:
        operation = _draw(model, rng)
        if operation is not None:
            return operation


def _draw(model: Model, rng: random.Random) -> Operation | None:
    kind = rng.choices(list(WEIGHTS), weights=list(WEIGHTS.values()))[0]
    free = [name for name in NAMES if name not in model.names and _parent_is_there(model, name)]
    taken = [name for name in NAMES if name in model.names]
    files = [name for name in taken if model[name].is_file]
    pool = {"create": free, "symlink": free, "mkdir": [f for f in FOLDERS if f not in model.names]}
    pool |= {"rmdir": [f for f in FOLDERS if f in model.names and not any(n.startswith(f"{f}/") for n in model.names)]}
    pool |= {"unlink": taken, "rename": taken, "link": files}
    among = pool.get(kind, files)
    if not among:
        return None
    path = rng.choice(among)
    seed = rng.randrange(1 << 30)
    attributes = sorted(model[path].attributes) if path in model.names else []
    rest: dict[str, Operation] = {
        "create": [rng.choice([0o600, 0o644, 0o755])],
        "mkdir": [0o755],
        "symlink": [f"somewhere/{rng.randrange(1000)}"],
        "link": [rng.choice([*free, None])],
        "rename": [rng.choice([*free, *taken, None])],
        "write": [rng.randrange(LARGEST // 2), rng.randrange(1, LARGEST // 2), seed],
        "append": [rng.randrange(1, 4096), seed],
        "truncate": [rng.randrange(LARGEST)],
        "chmod": [rng.choice([0o600, 0o640, 0o700])],
        "setxattr": [f"user.n{rng.randrange(3)}", f"v{rng.randrange(1000)}"],
        "removexattr": [rng.choice([*attributes, None])],
    }
    operation = [kind, path, *rest.get(kind, [])]
    return None if None in operation else operation


def _parent_is_there(model: Model, path: str) -> bool:
    folder, _, _ = path.rpartition("/")
    return not folder or folder in model.names


WEIGHTS = {
    "create": 6,
    "mkdir": 3,
    "rmdir": 1,
    "symlink": 1,
    "link": 2,
    "unlink": 4,
    "rename": 5,
    "write": 10,
    "append": 6,
    "truncate": 3,
    "chmod": 2,
    "setxattr": 3,
    "removexattr": 1,
    "fsync": 3,
}
