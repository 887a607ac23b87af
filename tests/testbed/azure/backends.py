"""Small HTTP servers to put behind an emulated load balancer: real sockets, answers set by a test."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncIterator
from dataclasses import dataclass, field


@dataclass(slots=True)
class Backend:
    """One machine: answers its address to any request, and `probe_status` to GET /healthz.

    Speaks as much HTTP as keep-alive clients need. A request for /echo ends HTTP: what follows comes back,
    and after the client's half-close the server says 'bye' and closes.
    """

    address: str
    port: int
    probe_status: int = 200
    writers: set[asyncio.StreamWriter] = field(default_factory=set)
    probed_from: set[str] = field(default_factory=set)

    async def serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        """Serve one connection until either side ends it."""
        self.writers.add(writer)
        try:
            while head := await reader.readuntil(b"\r\n\r\n"):
                path = head.split(b" ", 2)[1]
                if path == b"/echo":
                    await self._echo(reader, writer)
                    break
                self._answer(path, writer)
                await writer.drain()
        except (asyncio.IncompleteReadError, ConnectionError):
            pass
        finally:
            self.writers.discard(writer)
            writer.close()

    def _answer(self, path: bytes, writer: asyncio.StreamWriter) -> None:
        status = self.probe_status if path == b"/healthz" else 200
        if path == b"/healthz":
            self.probed_from.add(writer.get_extra_info("peername")[0])
        body = self.address.encode()
        writer.write(b"HTTP/1.1 %d Said\r\nContent-Length: %d\r\n\r\n%s" % (status, len(body), body))

    async def _echo(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        while data := await reader.read(65536):
            writer.write(data)
            await writer.drain()
        writer.write(b"bye")


@contextlib.asynccontextmanager
async def serving(*addresses: str, port: int) -> AsyncIterator[list[Backend]]:
    """Backends on these loopback addresses, all on one port."""
    backends = [Backend(address, port) for address in addresses]
    servers = [await asyncio.start_server(one.serve, one.address, port, backlog=1024) for one in backends]
    try:
        yield backends
    finally:
        for server in servers:
            server.close()
        for backend in backends:
            for writer in list(backend.writers):
                writer.transport.abort()
