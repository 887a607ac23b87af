"""The emulator's own small API over plain HTTP, for tests and demos that run it as another process.

/emulator/... is about the emulator itself and no part of Azure: faults, availability, delays, the request
log, the model, backends. `EmulatorAdmin` in `client` is its only intended user. Loopback or a testbed's
namespace alone: it has no authentication.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable

from aiohttp import web

from testbed.azure.emulator import AzureEmulator
from testbed.azure.errors import ArmError, Json
from testbed.azure.faults import Fault
from testbed.azure.http import Availability, merge

_Handler = Callable[[Json], Awaitable[Json]]


class Admin:
    """One HTTP listener that steers one emulator. `stopping` is set when a client asks the process to end."""

    def __init__(self, azure: AzureEmulator) -> None:
        self._azure = azure
        self.stopping = asyncio.Event()
        self._runner: web.AppRunner | None = None

    async def start(self, host: str, port: int) -> int:
        """Listen; the port in use."""
        app = web.Application()
        for name in (
            "info",
            "group",
            "faults",
            "availability",
            "delay",
            "throttle",
            "expire-tokens",
            "token-lifetime",
            "foreign-write",
            "backend-state",
            "log",
            "counters",
            "snapshot",
            "backends",
            "stop",
        ):
            handler: _Handler = getattr(self, "_" + name.replace("-", "_"))
            app.router.add_post(f"/emulator/{name}", self._endpoint(handler))
        self._runner = web.AppRunner(app, access_log=None, handle_signals=False, shutdown_timeout=1.0)
        await self._runner.setup()
        await web.TCPSite(self._runner, host, port).start()
        found: int = self._runner.addresses[0][1]
        return found

    async def close(self) -> None:
        if self._runner is not None:
            await self._runner.cleanup()

    def _endpoint(self, handler: _Handler) -> Callable[[web.Request], Awaitable[web.Response]]:
        async def serve(request: web.Request) -> web.Response:
            try:
                body = await request.json() if request.can_read_body else {}
                return web.json_response(await handler(body))
            except ArmError as error:
                return web.json_response(error.body, status=error.status)
            except (KeyError, TypeError, ValueError) as error:
                return web.json_response({"error": f"{type(error).__name__}: {error}"}, status=400)

        return serve

    async def _info(self, _: Json) -> Json:
        return self._azure.reach()

    async def _group(self, body: Json) -> Json:
        self._azure.add_group(body["name"], body.get("location"))
        return {}

    async def _faults(self, body: Json) -> Json:
        if body.get("clear"):
            self._azure.faults.clear()
        self._azure.faults.add(*(Fault.from_json(one) for one in body.get("add", [])))
        return {
            "waiting": [fault.to_json() for fault in self._azure.faults.waiting],
            "taken": [fault.to_json() for fault in self._azure.faults.taken],
        }

    async def _availability(self, body: Json) -> Json:
        await self._azure.set_availability(Availability(body["availability"]))
        return {}

    async def _delay(self, body: Json) -> Json:
        self._azure.set_delay(float(body["seconds"]))
        return {}

    async def _throttle(self, body: Json) -> Json:
        self._azure.throttle.set_scale(float(body["scale"]))
        return {}

    async def _expire_tokens(self, _: Json) -> Json:
        self._azure.identity.expire_all()
        return {}

    async def _token_lifetime(self, body: Json) -> Json:
        self._azure.identity.token_lifetime = float(body["seconds"])
        return {}

    async def _foreign_write(self, body: Json) -> Json:
        self._azure.edit_as_other_client(body["id"], lambda goal: merge(goal, body["patch"]))
        return {}

    async def _backend_state(self, body: Json) -> Json:
        self._azure.states.set(body["address"], body["state"], body["reason"])
        return {}

    async def _log(self, body: Json) -> Json:
        found = self._azure.log.matching(method=body.get("method", ""), path=body.get("path", ""))
        answer = {"entries": [entry.to_json() for entry in found]}
        if body.get("clear"):
            self._azure.log.clear()
        return answer

    async def _counters(self, _: Json) -> Json:
        return {"counters": self._azure.log.counters()}

    async def _snapshot(self, _: Json) -> Json:
        return self._azure.snapshot()

    async def _backends(self, _: Json) -> Json:
        plane = self._azure.data_plane
        return {"rules": plane.states() if plane else []}

    async def _stop(self, _: Json) -> Json:
        self.stopping.set()
        return {}
