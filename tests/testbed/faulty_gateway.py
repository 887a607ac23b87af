"""A gateway in front of an API server that mishandles one request as it is told: what load balancers and networks do.

It ends TLS itself (a client trusts `authority`), so it knows what a request is: it can answer for the server, pass a
request on and lose the answer, or keep it until the client has given up. For faults below TLS see `faulty_proxy`.
"""

import asyncio
import contextlib
import ssl
from collections import deque
from dataclasses import dataclass, field
from enum import Enum
from pathlib import Path
from types import TracebackType

import aiohttp
from aiohttp import web

from testbed.certificates import Authority

PASSED_ON = {"Authorization", "Accept", "Content-Type"}


class Mishap(Enum):
    """What becomes of one request."""

    LOST = "the connection is reset, and the server never saw it"
    REFUSED = "503 at once: the server never saw it"
    NOT_FOUND = "404 of something in between, not of the server"
    ANSWER_LOST = "it took effect, and the connection is reset"
    ANSWER_CUT = "it took effect, and half of the answer arrives"
    ANSWER_REPLACED = "it took effect, and 504 arrives"
    ANSWER_LATE = "it took effect, and the answer comes when the client is gone"
    REPEATED = "it took effect, was sent again, and the second answer arrives"
    HELD = "it reaches the server when the test says so (`release`)"


@dataclass
class Seen:
    """One request and how the server answered it: `status` is None while, or if, it never did."""

    method: str
    status: int | None = None
    mishap: Mishap | None = None
    gone: asyncio.Event = field(default_factory=asyncio.Event)


class Gateway:
    """Listens on loopback, from `async with` to its end; `folder` takes its certificate."""

    def __init__(self, server: str, authorities: bytes, folder: Path) -> None:
        self._server, self._folder = server, folder
        self._trust = ssl.create_default_context(cadata=authorities.decode())
        self._authority = Authority("gateway")
        self._mishaps: dict[str, deque[Mishap]] = {"GET": deque(), "PUT": deque()}
        self._changed = asyncio.Condition()
        self._stack = contextlib.AsyncExitStack()
        self._exchanges: set[asyncio.Task[tuple[int, bytes]]] = set()
        self.release = asyncio.Event()
        self.seen: list[Seen] = []

    @property
    def authority(self) -> bytes:
        """Who vouches for this gateway, in PEM."""
        return self._authority.certificate

    def next(self, method: str, *mishaps: Mishap) -> None:
        """The next requests of this method meet these, one each, in this order."""
        self._mishaps[method].extend(mishaps)

    async def until(self, method: str, mishap: Mishap | None = None, *, status: int | None = None) -> Seen:
        """Wait for a request of this method that met `mishap`, or that the server answered with `status`."""

        def found() -> Seen | None:
            fits = (s for s in self.seen if s.method == method and s.mishap is mishap and s.status == status)
            return next(fits, None)

        async with asyncio.timeout(30), self._changed:
            await self._changed.wait_for(found)
        seen = found()
        assert seen is not None
        return seen

    def answered(self, method: str) -> list[int]:
        """The server's answers to this method so far."""
        return [seen.status for seen in self.seen if seen.method == method and seen.status is not None]

    async def __aenter__(self) -> "Gateway":
        pair = self._authority.server(addresses=["127.0.0.1"], names=["localhost"])
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        context.load_cert_chain(*pair.write(self._folder, "gateway"))
        application = web.Application()
        application.router.add_route("*", "/{path:.*}", self._handle)
        # A client that gives up ends its handler, and `gone` says so.
        runner = web.AppRunner(application, shutdown_timeout=0.1, handler_cancellation=True)
        await runner.setup()
        self._stack.push_async_callback(runner.cleanup)
        self._session = await self._stack.enter_async_context(aiohttp.ClientSession())
        site = web.TCPSite(runner, "127.0.0.1", 0, ssl_context=context)
        await site.start()
        self.address = "{}:{}".format(*runner.addresses[0][:2])
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        for exchange in self._exchanges:
            exchange.cancel()
        await asyncio.gather(*self._exchanges, return_exceptions=True)
        await self._stack.aclose()

    async def _handle(self, request: web.Request) -> web.StreamResponse:
        body = await request.read()
        waiting = self._mishaps.get(request.method)
        seen = Seen(request.method, mishap=waiting.popleft() if waiting else None)
        await self._note(seen)
        try:
            return await self._carry(request, body, seen)
        finally:
            seen.gone.set()

    async def _note(self, seen: Seen) -> None:
        async with self._changed:
            if seen not in self.seen:
                self.seen.append(seen)
            self._changed.notify_all()

    async def _carry(self, request: web.Request, body: bytes, seen: Seen) -> web.StreamResponse:
        transport = request.transport
        assert isinstance(transport, asyncio.Transport)
        match seen.mishap:
            case Mishap.LOST:
                transport.abort()
                return web.Response()
            case Mishap.REFUSED:
                return web.Response(status=503, text="upstream connect error")
            case Mishap.NOT_FOUND:
                return web.Response(status=404, text="<html>no such page</html>", content_type="text/html")
            case _:
                pass
        status, answer = await self._exchange(request, body, seen)
        match seen.mishap:
            case Mishap.ANSWER_LOST:
                transport.abort()
            case Mishap.ANSWER_REPLACED:
                return web.Response(status=504, text="upstream request timeout")
            case Mishap.ANSWER_CUT:
                head = f"HTTP/1.1 {status} OK\r\nContent-Length: {len(answer)}\r\n\r\n".encode()
                transport.write(head + answer[: len(answer) // 2])
                transport.close()
            case Mishap.ANSWER_LATE:
                await asyncio.Event().wait()
            case Mishap.REPEATED:
                status, answer = await self._exchange(request, body, seen)
            case _:
                pass
        return web.Response(status=status, body=answer, content_type="application/json")

    async def _exchange(self, request: web.Request, body: bytes, seen: Seen) -> tuple[int, bytes]:
        """Pass it on. What a server has begun it ends, whether or not its client still waits."""
        exchange = asyncio.create_task(self._pass_on(request, body, seen))
        self._exchanges.add(exchange)
        exchange.add_done_callback(self._exchanges.discard)
        return await asyncio.shield(exchange)

    async def _pass_on(self, request: web.Request, body: bytes, seen: Seen) -> tuple[int, bytes]:
        if seen.mishap is Mishap.HELD:
            await self.release.wait()
        headers = {name: value for name, value in request.headers.items() if name in PASSED_ON}
        url = f"{self._server}{request.path_qs}"
        async with self._session.request(
            request.method, url, headers=headers, data=body or None, ssl=self._trust
        ) as answer:
            content = await answer.read()
        seen.status = answer.status
        await self._note(seen)
        return answer.status, content
