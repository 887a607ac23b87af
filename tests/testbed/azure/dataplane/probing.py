"""Probes over real sockets: HTTP, HTTPS (any certificate) and TCP, one task a member of a probe.

Only 200 is healthy. What failed is told by Azure's reason codes. Counting results is `selection`'s; when to
start and stop a task is `plane`'s.
"""

from __future__ import annotations

import asyncio
import contextlib
import ssl
from collections.abc import Callable
from dataclasses import dataclass, field

from testbed.azure import health
from testbed.azure.dataplane.selection import MemberHealth, ProbeResult
from testbed.azure.dataplane.view import Probe

_PASSED = ProbeResult(passed=True)
_MOST = 65536


@dataclass(slots=True)
class Prober:
    """Probes one member until it is stopped; settings may change meanwhile, what is known stays.

    `speed` divides all times, for tests. `source` is the one address that probes come from; None: the
    system's choice.
    """

    probe: Probe
    address: str
    source: str | None
    speed: float
    on_result: Callable[[], None]
    health: MemberHealth = field(default_factory=MemberHealth)
    _task: asyncio.Task[None] | None = None

    def start(self) -> None:
        self._task = asyncio.get_running_loop().create_task(self._run(), name=f"probe {self.address}")

    async def stop(self) -> None:
        if self._task is not None:
            self._task.cancel()
            with contextlib.suppress(asyncio.CancelledError):
                await self._task

    async def _run(self) -> None:
        loop = asyncio.get_running_loop()
        while True:
            began = loop.time()
            timeout = self.probe.timeout / self.speed
            result = await probe_once(self.probe, self.address, source=self.source, seconds=timeout)
            before = (self.health.up, self.health.reason)
            self.health.observe(result, self.probe.threshold)
            if before != (self.health.up, self.health.reason):
                self.on_result()
            await asyncio.sleep(max(0.0, began + self.probe.interval / self.speed - loop.time()))


async def probe_once(probe: Probe, address: str, *, source: str | None, seconds: float) -> ProbeResult:
    """Probe a member once. Takes at most so many seconds."""
    local = None if source is None else (source, 0)
    context = _any_certificate() if probe.protocol == "https" else None
    connected = False
    try:
        async with asyncio.timeout(seconds):
            reader, writer = await asyncio.open_connection(
                address, probe.port, local_addr=local, ssl=context, limit=_MOST
            )
            connected = True
            try:
                return _PASSED if probe.protocol == "tcp" else await _ask(reader, writer, probe, address)
            finally:
                writer.close()
    except TimeoutError:
        return _failed(health.DOWN_NO_RESPONSE if connected else health.DOWN_TCP_TIMEOUT)
    except OSError:
        return _failed(health.DOWN_TCP_TIMEOUT if probe.protocol == "tcp" else health.DOWN_UNREACHABLE)


async def _ask(reader: asyncio.StreamReader, writer: asyncio.StreamWriter, probe: Probe, address: str) -> ProbeResult:
    path = probe.path if probe.path.startswith("/") else f"/{probe.path}"
    writer.write(
        f"GET {path} HTTP/1.1\r\nHost: {address}:{probe.port}\r\nUser-Agent: Load Balancer Agent\r\n"
        "Connection: close\r\n\r\n".encode()
    )
    try:
        head = await reader.readuntil(b"\r\n\r\n")
    except (asyncio.IncompleteReadError, asyncio.LimitOverrunError):
        return _failed(health.DOWN_UNREACHABLE)
    words = head.split(b"\r\n", 1)[0].split()
    if len(words) < 2 or not words[0].startswith(b"HTTP/"):
        return _failed(health.DOWN_UNREACHABLE)
    return _PASSED if words[1] == b"200" else _failed(health.DOWN_STATUS)


def _failed(reason: str) -> ProbeResult:
    return ProbeResult(passed=False, reason=reason)


def _any_certificate() -> ssl.SSLContext:
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    context.check_hostname = False
    context.verify_mode = ssl.CERT_NONE
    return context
