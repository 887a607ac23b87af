"""One flow: two TCP connections joined so that each end sees what the other does.

Bytes, half-closes and resets pass in both directions; back pressure too. A backend that refuses becomes a
reset for the client; one that answers nothing leaves the client waiting, as a lost SYN does. Which backend is
not decided here.
"""

from __future__ import annotations

import asyncio
import contextlib
import socket
import struct
from collections.abc import Callable
from typing import Any, cast

_NO_LINGER = struct.pack("ii", 1, 0)
# What a client may send before its backend has answered.
_EARLY_LIMIT = 256 * 1024

Choose = Callable[[tuple[str, int]], tuple[str, int] | None]


class FlowPair:
    """A client's connection and its backend's.

    `choose` names the backend for a client address, None where there is none. `on_end` is called once.
    """

    def __init__(
        self, choose: Choose, on_start: Callable[[FlowPair], None], on_end: Callable[[FlowPair], None]
    ) -> None:
        self.backend: tuple[str, int] | None = None
        self.connected = False
        self.last_activity = 0.0
        self._choose = choose
        self._on_start = on_start
        self._on_end = on_end
        self._loop = asyncio.get_running_loop()
        self._client: _End | None = None
        self._server: _End | None = None
        self._connecting: asyncio.Task[None] | None = None
        self._early: list[bytes] = []
        self._early_size = 0
        self._early_eof = False
        self._forgotten = False
        self._ended = False

    # -- from the outside

    def client_protocol(self) -> asyncio.Protocol:
        self._client = _End(self)
        return self._client

    def forget(self) -> None:
        """Drop what is sent from now on, without a word: an idle flow whose rule sends no resets."""
        self._forgotten = True

    def reset(self) -> None:
        """Reset both ends."""
        if self._connecting is not None:
            self._connecting.cancel()
        for end in (self._client, self._server):
            if end is not None:
                end.reset()
        self._end()

    def reroute(self) -> None:
        """The chosen backend went down before it answered: the client's next SYN would be hashed anew."""
        if not self.connected and not self._ended:
            if self._connecting is not None:
                self._connecting.cancel()
            self._connect()

    # -- from the ends

    def opened(self, end: _End) -> None:
        self.last_activity = self._loop.time()
        if end is self._client:
            self._on_start(self)
            self._connect()
        elif self._ended:
            end.reset()
        else:
            self._connected(end)

    def received(self, end: _End, data: bytes) -> None:
        if self._forgotten:
            return
        self.last_activity = self._loop.time()
        other = self._other(end)
        if other is not None and other.transport is not None:
            other.transport.write(data)
            return
        self._early.append(data)
        self._early_size += len(data)
        if self._early_size > _EARLY_LIMIT and end.transport is not None:
            end.transport.pause_reading()

    def half_closed(self, end: _End) -> None:
        self.last_activity = self._loop.time()
        other = self._other(end)
        if other is None or other.transport is None:
            self._early_eof = True
        elif other.eof:
            end.close()
            other.close()
        elif other.transport.can_write_eof():
            other.transport.write_eof()

    def lost(self, end: _End, error: Exception | None) -> None:
        if error is not None or not end.eof:
            self.reset()
        other = self._other(end)
        if other is None or other.transport is None or other.transport.is_closing():
            self._end()

    def pause(self, end: _End) -> None:
        other = self._other(end)
        if other is not None and other.transport is not None and not other.transport.is_closing():
            other.transport.pause_reading()

    def resume(self, end: _End) -> None:
        other = self._other(end)
        if other is not None and other.transport is not None and not other.transport.is_closing():
            other.transport.resume_reading()

    # -- inside

    def _other(self, end: _End) -> _End | None:
        return self._server if end is self._client else self._client

    def _connect(self) -> None:
        assert self._client is not None
        assert self._client.transport is not None
        peer = self._client.transport.get_extra_info("peername")
        self.backend = self._choose(peer[:2]) if peer else None
        if self.backend is None:
            self.reset()
            return
        self._connecting = self._loop.create_task(self._open(*self.backend))

    async def _open(self, address: str, port: int) -> None:
        try:
            await self._loop.create_connection(self._server_protocol, address, port)
        except OSError:
            self.reset()

    def _server_protocol(self) -> asyncio.Protocol:
        self._server = _End(self)
        return self._server

    def _connected(self, server: _End) -> None:
        """Send what the client has sent meanwhile, before anything newer can pass."""
        self.connected = True
        self._connecting = None
        assert server.transport is not None
        for data in self._early:
            server.transport.write(data)
        if self._early_size > _EARLY_LIMIT:
            self.resume(server)
        self._early.clear()
        self._early_size = 0
        if self._early_eof:
            server.transport.write_eof()

    def _end(self) -> None:
        if not self._ended:
            self._ended = True
            self._on_end(self)


class _End(asyncio.Protocol):
    """One of the two connections."""

    def __init__(self, pair: FlowPair) -> None:
        self._pair = pair
        self.transport: asyncio.Transport | None = None
        self.eof = False

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self.transport = cast(asyncio.Transport, transport)
        self._pair.opened(self)

    def data_received(self, data: bytes) -> None:
        self._pair.received(self, data)

    def eof_received(self) -> bool:
        self.eof = True
        self._pair.half_closed(self)
        return True

    def connection_lost(self, exc: Exception | None) -> None:
        self._pair.lost(self, exc)

    def pause_writing(self) -> None:
        self._pair.pause(self)

    def resume_writing(self) -> None:
        self._pair.resume(self)

    def close(self) -> None:
        if self.transport is not None:
            self.transport.close()

    def reset(self) -> None:
        """End with RST in place of FIN."""
        if self.transport is None or self.transport.is_closing():
            return
        sock: Any = self.transport.get_extra_info("socket")
        with contextlib.suppress(OSError):
            sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, _NO_LINGER)
        self.transport.abort()
