"""A TCP proxy that can swallow: a connection stays open, and what the server says on it arrives no more. Or be slow.

So a firewall behaves that has forgotten a connection. What it carries is encrypted; a connection is known by how much
came over it.
"""

import asyncio
import contextlib
from dataclasses import dataclass
from types import TracebackType

CHUNK = 65536


@dataclass(eq=False)
class Connection:
    """One client's connection; bytes are counted since the last `count`."""

    up: int = 0
    down: int = 0
    swallowed: bool = False


class Proxy:
    """Between a client and one server, from `async with` to its end."""

    def __init__(self, host: str, port: int, *, listen: str = "127.0.0.1") -> None:
        self._target = host, port
        self._listen = listen
        self.delay_seconds = 0.0
        """How late whatever the server says arrives."""
        self._server: asyncio.Server | None = None
        self._tasks: set[asyncio.Task[None]] = set()
        self.connections: set[Connection] = set()

    async def __aenter__(self) -> "Proxy":
        self._server = await asyncio.start_server(self._accept, self._listen, 0)
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        assert self._server is not None
        self._server.close()
        for task in self._tasks:
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)

    @property
    def port(self) -> int:
        """Where it listens."""
        assert self._server is not None
        port: int = self._server.sockets[0].getsockname()[1]
        return port

    def count(self) -> None:
        """Count bytes anew."""
        for connection in self.connections:
            connection.up = connection.down = 0

    def _accept(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        task = asyncio.create_task(self._serve(reader, writer))
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        connection = Connection()
        self.connections.add(connection)
        try:
            with contextlib.closing(writer), contextlib.suppress(OSError):
                far_reader, far_writer = await asyncio.open_connection(*self._target)
                with contextlib.closing(far_writer):
                    tasks = {
                        asyncio.create_task(self._up(connection, reader, far_writer)),
                        asyncio.create_task(self._down(connection, far_reader, writer)),
                    }
                    _, pending = await asyncio.wait(tasks, return_when=asyncio.FIRST_COMPLETED)
                    for task in pending:
                        task.cancel()
                    await asyncio.gather(*tasks, return_exceptions=True)
        finally:
            self.connections.discard(connection)

    async def _up(self, connection: Connection, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        while data := await reader.read(CHUNK):
            connection.up += len(data)
            writer.write(data)
            await writer.drain()

    async def _down(self, connection: Connection, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        while (data := await reader.read(CHUNK)) or connection.swallowed:
            connection.down += len(data)
            if connection.swallowed:
                if not data:
                    await asyncio.Event().wait()  # the server's end is not heard of either
                continue
            await asyncio.sleep(self.delay_seconds)
            writer.write(data)
            await writer.drain()
