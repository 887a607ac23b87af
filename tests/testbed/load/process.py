"""The clients as a process of their own, in a place on the fabric, and what they have said so far."""

import asyncio
import json
import signal
import sys
from collections.abc import Callable, Sequence
from typing import Any

from testbed.load.truth import Answer, Verdict
from testbed.machines import Host


class Load:
    """A running load. `await stop()` gives the totals; `failures` and `ticks` are as they came."""

    def __init__(self, process: asyncio.subprocess.Process, *, tell: Callable[[dict[str, Any]], None]) -> None:
        self._process = process
        self._tell = tell
        self.failures: list[dict[str, Any]] = []
        self.ticks: list[dict[str, Any]] = []
        self.total: dict[str, Any] = {}
        self._news = asyncio.Condition()
        self._reader = asyncio.create_task(self._read())

    @classmethod
    async def start(
        cls,
        host: Host,
        *,
        target: str,
        paths: Sequence[str],
        arguments: Sequence[str] = (),
        tell: Callable[[dict[str, Any]], None] = lambda line: None,
    ) -> "Load":
        """Start clients on `host` against `target` (host:port), asking for `paths` in turn."""
        options = [option for path in paths for option in ("--path", path)]
        return cls(await _start(host, "testbed.load", "--target", target, *options, *arguments), tell=tell)

    async def _read(self) -> None:
        assert self._process.stdout is not None
        async for raw in self._process.stdout:
            line = json.loads(raw)
            if "failure" in line:
                self.failures.append(line)
            elif "by_machine" in line:
                self.ticks.append(line)
            else:
                self.total = line
            self._tell(line)
            async with self._news:
                self._news.notify_all()

    async def until_served_by(self, machines: set[str], *, within: float, seconds: int = 1) -> None:
        """Wait for so many `seconds` in a row, from now on, in which `machines` answered, all of them and nobody else.

        Raises TimeoutError after `within` seconds.
        """
        first = len(self.ticks) + 1  # the next tick still counts what was before

        def seen() -> bool:
            late = [set(tick["by_machine"]) for tick in self.ticks[first:]]
            return len(late) >= seconds and all(served == machines for served in late[-seconds:])

        try:
            async with asyncio.timeout(within), self._news:
                await self._news.wait_for(seen)
        except TimeoutError:
            latest = self.ticks[-1]["by_machine"] if self.ticks else {}
            wanted = ", ".join(sorted(machines))
            raise TimeoutError(f"waited {within:g} s for answers by {wanted}; the last second: {latest}") from None

    async def stop(self) -> dict[str, Any]:
        """Let each client finish its request, and end."""
        if self._process.returncode is None:
            self._process.send_signal(signal.SIGTERM)
        await self._reader
        await self._process.wait()
        return self.total


class Truth:
    """A running comparison of a probe with its application. `await stop()` gives the verdict."""

    def __init__(self, process: asyncio.subprocess.Process) -> None:
        self._process = process

    @classmethod
    async def start(cls, host: Host, *, probe: str, application: str) -> "Truth":
        """Ask both (host:port/path) from `host`; returns when it has begun."""
        process = await _start(host, "testbed.load.truth", "--probe", probe, "--application", application)
        assert process.stdout is not None
        await process.stdout.readline()
        return cls(process)

    async def stop(self) -> Verdict:
        """End it."""
        self._process.send_signal(signal.SIGTERM)
        output, _ = await self._process.communicate()
        return Verdict(Answer(*json.loads(line)) for line in output.splitlines())


async def _start(host: Host, module: str, *arguments: str) -> asyncio.subprocess.Process:
    """Start one of our programs on `host`; it ends with us at the latest."""
    command = [sys.executable, "-m", module, *arguments]
    return await asyncio.create_subprocess_exec(
        *("setpriv", "--pdeathsig", "KILL", "--"), *host.inside(command), stdout=asyncio.subprocess.PIPE
    )
