"""The process check: enough processes of the application live. A death is seen at once, through pidfds.

Only processes in the member's own group count, so a namesake elsewhere on the machine neither helps nor harms.
"""

import re
from collections.abc import Callable, Iterator
from pathlib import Path

from farmstead_agent.application import pidfds
from farmstead_agent.checks.base import Result
from farmstead_api.common import ProcessCheck

WATCHED_AT_MOST = 64
"""So many processes are watched for their end; of more, the rest is counted once an interval."""
PROC = Path("/proc")


class ProcessAsker:
    """Asks how many processes match."""

    def __init__(self, check: ProcessCheck, pids: Callable[[], tuple[int, ...]]) -> None:
        self._check = check
        self._pattern = re.compile(check.command_line) if check.command_line else None
        self._pids = pids
        self._matching: tuple[int, ...] = ()

    async def ask(self) -> Result:
        """Count them."""
        self._matching = tuple(self._matches())
        count = len(self._matching)
        least, most = self._check.at_least, self._check.at_most
        if count < least:
            message = f"{count} of at least {least} processes {self._what()} are alive"
            return Result(ok=False, message=message, final=True)
        if most is not None and count > most:
            return Result(ok=False, message=f"{count} processes {self._what()} are alive, at most {most} may be")
        return Result(ok=True, message=f"{count} processes")

    async def pause(self, seconds: float) -> None:
        """Until the next interval, or until one of those counted ends."""
        descriptors = pidfds.opened(self._matching[:WATCHED_AT_MOST])
        try:
            await pidfds.ended(descriptors, within=seconds)
        finally:
            pidfds.close(descriptors)

    def _matches(self) -> Iterator[int]:
        for pid in self._pids():
            arguments = command_line(pid)
            if arguments and self._fits(pid, arguments):
                yield pid

    def _fits(self, pid: int, arguments: tuple[str, ...]) -> bool:
        if self._pattern is not None and not self._pattern.search(" ".join(arguments)):
            return False
        return self._check.name is None or self._check.name == executable_name(pid, arguments)

    def _what(self) -> str:
        parts = (self._check.name, self._check.command_line and f"matching {self._check.command_line!r}")
        return " ".join(part for part in parts if part)


def command_line(pid: int) -> tuple[str, ...]:
    """A process's arguments; none once it has ended (a zombie has none either)."""
    try:
        raw = (PROC / str(pid) / "cmdline").read_bytes()
    except OSError:
        return ()
    return tuple(raw.rstrip(b"\0").decode(errors="replace").split("\0")) if raw.strip(b"\0") else ()


def executable_name(pid: int, arguments: tuple[str, ...]) -> str:
    """Base name of what the process executes; what it calls itself where the link can't be read."""
    try:
        return Path((PROC / str(pid) / "exe").readlink().as_posix().removesuffix(" (deleted)")).name
    except OSError:
        return Path(arguments[0]).name
