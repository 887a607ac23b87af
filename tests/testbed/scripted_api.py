"""A scripted HTTP server in the API server's place, for what the real one does not do on demand.

Each request takes the next answer of the script; a request beyond it is kept waiting until the test ends.
"""

import asyncio
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import msgspec
import yaml
from aiohttp import web

from farmstead_kube import Client, connect


@dataclass
class Answer:
    """One answer: a status and a body, or lines of a stream that then ends, or stays open in silence."""

    body: Any = None
    status: int = 200
    lines: Sequence[Any] = ()
    stay_open: bool = False
    headers: dict[str, str] = field(default_factory=dict)


@dataclass
class Script:
    """The answers still to give and the requests seen."""

    answers: list[Answer]
    requests: list[web.Request] = field(default_factory=list)
    bodies: list[bytes] = field(default_factory=list)
    over: asyncio.Event = field(default_factory=asyncio.Event)

    async def handle(self, request: web.Request) -> web.StreamResponse:
        """Give the next answer."""
        self.requests.append(request)
        self.bodies.append(await request.read())
        if not self.answers:
            await self.over.wait()
            return web.Response(status=503)
        answer = self.answers.pop(0)
        if not answer.lines and not answer.stay_open:
            body = msgspec.json.encode(answer.body)
            return web.Response(status=answer.status, body=body, headers=answer.headers)
        response = web.StreamResponse()
        await response.prepare(request)
        for line in answer.lines:
            await response.write(msgspec.json.encode(line) + b"\n")
        if answer.stay_open:
            await self.over.wait()
        return response


@asynccontextmanager
async def serving(script: Script, folder: Path) -> AsyncIterator[Client]:
    """A client of a server that plays the script."""
    app = web.Application()
    app.router.add_route("*", "/{path:.*}", script.handle)
    runner = web.AppRunner(app, shutdown_timeout=1)
    await runner.setup()
    site = web.TCPSite(runner, "127.0.0.1", 0)
    await site.start()
    host, port = runner.addresses[0][:2]
    kubeconfig = folder / "kubeconfig"
    kubeconfig.write_text(
        yaml.safe_dump(
            {
                "clusters": [{"name": "test", "cluster": {"server": f"http://{host}:{port}"}}],
                "users": [{"name": "test", "user": {"token": "first"}}],
                "contexts": [{"name": "test", "context": {"cluster": "test", "user": "test"}}],
                "current-context": "test",
            }
        )
    )
    client = await connect(kubeconfig=kubeconfig, field_manager="test")
    try:
        yield client
    finally:
        script.over.set()
        await client.close()
        await runner.cleanup()
