"""Health, readiness and metrics over HTTP: /healthz, /readyz, /metrics. Reads only, no secrets.

Ready: a standby that waits, or a leader that has seen everything and whose watches show what is there. Healthy: the
process answers, and no watch has been dead for so long that only a new process can help. An API server that is away
makes a leader not ready, never unhealthy: a new process would not find it either.
"""

import time
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass, field

from aiohttp import web

from farmstead_operator.metrics import Metrics
from farmstead_operator.settings import Http

HOPELESS_SECONDS = 180.0
"""A dead watch that is still dead so long after it was begun anew needs a new process."""


@dataclass(slots=True)
class Health:
    """What the endpoints answer from."""

    clock: Callable[[], float] = time.monotonic
    leading: bool = False
    synced: bool = False
    troubles: dict[str, str] = field(default_factory=dict)
    """What is wrong, by its source; empty when nothing is."""
    dead_since: float | None = None
    """Since when a watch shows nothing, while the API server answers."""

    @property
    def alive(self) -> str:
        """Why this process should be replaced; empty when it need not be."""
        if self.dead_since is None or self.clock() - self.dead_since < HOPELESS_SECONDS:
            return ""
        return f"a watch has been dead for {self.clock() - self.dead_since:.0f} s, and beginning anew did not help"

    @property
    def ready(self) -> str:
        """Why this replica is not ready; empty when it is."""
        if self.leading and not self.synced:
            return "leads, and has not seen everything yet"
        return "; ".join(f"{source}: {trouble}" for source, trouble in sorted(self.troubles.items()))

    def trouble(self, source: str, text: str) -> None:
        """Something is wrong, or (empty) not any more."""
        if text:
            self.troubles[source] = text
        else:
            self.troubles.pop(source, None)

    def dead_watch(self, *, dead: bool) -> None:
        """A watch was found dead, or all of them alive."""
        self.dead_since = (self.clock() if self.dead_since is None else self.dead_since) if dead else None


@asynccontextmanager
async def serving(settings: Http, health: Health, metrics: Metrics) -> AsyncIterator[int]:
    """Answer while inside; gives the port."""

    async def healthz(_: web.Request) -> web.Response:
        return _verdict(health.alive)

    async def readyz(_: web.Request) -> web.Response:
        return _verdict(health.ready)

    async def scrape(_: web.Request) -> web.Response:
        return web.Response(body=metrics.text(), content_type="text/plain", charset="utf-8")

    app = web.Application()
    app.add_routes([web.get("/healthz", healthz), web.get("/readyz", readyz), web.get("/metrics", scrape)])
    runner = web.AppRunner(app, access_log=None, shutdown_timeout=1)
    await runner.setup()
    try:
        await web.TCPSite(runner, settings.address, settings.port).start()
        yield runner.addresses[0][1]
    finally:
        await runner.cleanup()


def _verdict(trouble: str) -> web.Response:
    return web.Response(status=503 if trouble else 200, text=f"{trouble or 'ok'}\n")
