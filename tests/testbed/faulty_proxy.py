"""A TCP proxy that fails in the way it is told to: what a network does to the witness client's exchanges."""

import asyncio
from enum import Enum


class Fault(Enum):
    """What happens to the next connections."""

    NONE = "passes everything"
    REFUSE = "closes at once: nothing reaches the server"
    SLOW = "passes everything, far too late"
    SILENT = "takes the connection and says nothing"
    DRIP = "answers a byte now and then"


class Proxy:
    """Listens on loopback and passes bytes to one server."""

    def __init__(self, *, host: str, port: int, authority: bytes) -> None:
        self._target = (host, port)
        self.authority = authority  # who vouches for the server, in PEM: TLS goes through
        self._came = asyncio.Condition()
        self._server: asyncio.Server | None = None
        self._tasks: set[asyncio.Task[None]] = set()
        self.fault = Fault.NONE
        self.connections = 0
        self.held: list[float] = []  # seconds that each client kept its connection

    async def __aenter__(self) -> "Proxy":
        self._server = await asyncio.start_server(self._serve, "127.0.0.1", 0)
        return self

    async def __aexit__(self, *_: object) -> None:
        assert self._server is not None
        self._server.close()
        for task in self._tasks:
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)

    @property
    def address(self) -> str:
        """Where clients connect, as host:port."""
        assert self._server is not None
        host, port = self._server.sockets[0].getsockname()[:2]
        return f"{host}:{port}"

    async def until(self, connections: int) -> None:
        """Wait until so many clients have come."""
        async with asyncio.timeout(30), self._came:
            await self._came.wait_for(lambda: self.connections >= connections)

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        task = asyncio.current_task()
        assert task is not None
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)
        async with self._came:
            self.connections += 1
            self._came.notify_all()
        try:
            await self._pass(reader, writer, self.fault)
        except (ConnectionError, asyncio.CancelledError):
            pass
        finally:
            writer.close()

    async def _pass(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter, fault: Fault) -> None:
        began = asyncio.get_running_loop().time()
        if fault is Fault.REFUSE:
            return
        if fault is Fault.SILENT:
            await reader.read()
        else:
            await self._between(reader, writer, fault)
        self.held.append(asyncio.get_running_loop().time() - began)

    async def _between(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter, fault: Fault) -> None:
        """Until the client leaves."""
        upstream_reader, upstream = await asyncio.open_connection(*self._target)
        delay = 1.0 if fault is Fault.SLOW else 0.0
        back = asyncio.create_task(
            _drip(upstream_reader, writer) if fault is Fault.DRIP else _copy(upstream_reader, writer, delay)
        )
        try:
            await _copy(reader, upstream, delay)
        finally:
            back.cancel()
            await asyncio.gather(back, return_exceptions=True)
            upstream.close()


async def _copy(reader: asyncio.StreamReader, writer: asyncio.StreamWriter, delay: float) -> None:
    while data := await reader.read(65536):
        await asyncio.sleep(delay)
        writer.write(data)
        await writer.drain()
    writer.close()


async def _drip(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    while data := await reader.read(1):
        await asyncio.sleep(0.1)
        writer.write(data)
        await writer.drain()
    writer.close()
