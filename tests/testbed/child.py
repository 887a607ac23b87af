"""Child processes of a run: they die with us, and may be awaited from any event loop.

`asyncio`'s own processes belong to the loop that started them; the control plane is started by a session's
fixture and stopped and started by tests that have loops of their own. So this waits on a pidfd instead.
Not a process manager: no restarts, no output handling besides one log file.
"""

import asyncio
import os
import signal
import subprocess
from collections.abc import Mapping, Sequence
from pathlib import Path

TAIL_BYTES = 6000


class Child:
    """A running program. Start it in the main thread: it is killed when the thread that started it ends."""

    def __init__(
        self,
        argv: Sequence[str | Path],
        *,
        log: Path,
        env: Mapping[str, str] | None = None,
        cgroup: Path | None = None,
        pass_fds: Sequence[int] = (),
    ) -> None:
        """Start `argv`, output appended to `log`; `env` is the whole environment; it joins `cgroup` first.

        A session of its own keeps a terminal's Ctrl-C away: we decide in which order things end.
        """
        self.name = Path(argv[0]).name
        self.log = log
        command = ["setpriv", "--pdeathsig", "KILL", "--", *map(str, argv)]
        if cgroup is not None:
            joins = 'echo $$ > "$0/cgroup.procs" && exec "$@"'
            command = ["/bin/sh", "-c", joins, str(cgroup), *command]
        with log.open("ab") as output:
            self._process = subprocess.Popen(
                command,
                stdin=subprocess.DEVNULL,
                stdout=output,
                stderr=output,
                env=env,
                start_new_session=True,
                pass_fds=pass_fds,
            )
        self.pid = self._process.pid

    @property
    def running(self) -> bool:
        """Whether it has not ended yet."""
        return self._process.poll() is None

    def signal(self, number: signal.Signals) -> None:
        """Send a signal; nothing if it has ended."""
        if self.running:
            self._process.send_signal(number)

    async def wait(self) -> int:
        """Wait for its end; gives its exit status (negative: the signal that ended it)."""
        if self.running:
            await _ended(self.pid)
        return self._process.wait()

    async def stop(self, *, grace_seconds: float = 0) -> None:
        """End it: SIGTERM and `grace_seconds` of patience, where given, then SIGKILL."""
        if grace_seconds:
            self.signal(signal.SIGTERM)
            try:
                await asyncio.wait_for(self.wait(), grace_seconds)
            except TimeoutError:
                pass
            else:
                return
        self.signal(signal.SIGKILL)
        await self.wait()

    def tail(self) -> str:
        """The end of what it wrote, for people."""
        return tail(self.log)


def tail(log: Path) -> str:
    """The last few thousand characters of a log file."""
    if not log.exists():
        return f"({log} does not exist)"
    with log.open("rb") as file:
        file.seek(max(0, log.stat().st_size - TAIL_BYTES))
        return file.read().decode(errors="replace")


async def _ended(pid: int) -> None:
    """Return when the process `pid`, a child of ours that nobody reaped yet, has ended."""
    loop = asyncio.get_running_loop()
    ended = asyncio.Event()
    pidfd = os.pidfd_open(pid)
    try:
        loop.add_reader(pidfd, ended.set)
        await ended.wait()
    finally:
        loop.remove_reader(pidfd)
        os.close(pidfd)
