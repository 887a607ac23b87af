"""Health, readiness and metrics over HTTP: /healthz, /readyz, /metrics. Reads only, no secrets.

Healthy: the process runs and what it has seen is not hopelessly old. Ready: a standby that waits, or a leader that
has seen everything and whose watches show what is there.
"""

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass, field

from aiohttp import web

from farmstead_operator.metrics import Metrics
from farmstead_operator.settings import Http


@dataclass(slots=True)
class Health:
    """What the endpoints answer from."""

    leading: bool = False
    synced: bool = False
    troubles: dict[str, str] = field(default_factory=dict)
    """What is wrong, by its source; empty when nothing is."""

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


@asynccontextmanager
async def serving(settings: Http, health: Health, metrics: Metrics) -> AsyncIterator[int]:
    """Answer while inside; gives the port."""

    async def healthz(_: web.Request) -> web.Response:
        return web.Response(text="ok\n")

    async def readyz(_: web.Request) -> web.Response:
        trouble = health.ready
        return web.Response(status=503 if trouble else 200, text=f"{trouble or 'ok'}\n")

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
