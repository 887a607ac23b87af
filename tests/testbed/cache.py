"""Where everything is kept that takes long to fetch or to build: one folder, `$FARMSTEAD_CACHE`.

Entries are named by a hash or a version of what made them, so nothing in here is ever stale, only unused.
It is safe to delete the folder at any time when nothing runs.
"""

import fcntl
import os
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path


def cache_folder() -> Path:
    """The folder, made if need be: `$FARMSTEAD_CACHE`, else `farmstead` in the user's cache folder."""
    named = os.environ.get("FARMSTEAD_CACHE")
    default = Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "farmstead"
    folder = Path(named) if named else default
    folder.mkdir(parents=True, exist_ok=True)
    return folder.resolve()


@contextmanager
def locked(lock: Path, say: Callable[[str], None]) -> Iterator[None]:
    """Hold `lock` (a file, made if need be); wait for another process that holds it, and say so."""
    lock.parent.mkdir(parents=True, exist_ok=True)
    with lock.open("w") as file:
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            say(f"another process builds this already; waiting for it ({lock})")
            fcntl.flock(file, fcntl.LOCK_EX)
        yield
