"""A very small HTTP server for answers from memory: one request a connection, no body read, nothing awaited.

For the probe and the metrics alone. It is no web framework: whoever asks gets one answer and is disconnected,
whoever is slow to ask is disconnected too.
"""

import asyncio
import contextlib
import socket
from collections.abc import Callable
from dataclasses import dataclass
from http import HTTPStatus
from typing import Self

REQUEST_LIMIT = 8192
PATIENCE_SECONDS = 5.0
LAST_ANSWERS_SECONDS = 1.0
"""How long an end waits for those who have been accepted and have not yet asked."""
BACKLOG = 1024


@dataclass(frozen=True, slots=True, kw_only=True)
class Answer:
    """What is sent back."""

    status: HTTPStatus
    body: bytes
    content_type: str = "text/plain; charset=utf-8"

    def encoded(self, *, head_only: bool) -> bytes:
        """As it goes over the wire."""
        head = (
            f"HTTP/1.1 {self.status.value} {self.status.phrase}\r\nContent-Type: {self.content_type}\r\n"
            f"Content-Length: {len(self.body)}\r\nCache-Control: no-store\r\nConnection: close\r\n\r\n"
        )
        return head.encode() + (b"" if head_only else self.body)


Handler = Callable[[str], Answer]
"""The answer for a path; must not block and not fail."""


class Responder(asyncio.Protocol):
    """One connection; `on_end` is told when it is no more."""

    def __init__(self, handler: Handler, *, on_end: "Callable[[Responder], None]") -> None:
        self._handler = handler
        self._on_end = on_end
        self._received = b""
        self._transport: asyncio.Transport | None = None
        self._timer: asyncio.TimerHandle | None = None

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """Give the client a while to ask."""
        assert isinstance(transport, asyncio.Transport)  # noqa: S101 - a stream server's transport
        self._transport = transport
        self._timer = asyncio.get_running_loop().call_later(PATIENCE_SECONDS, transport.abort)

    def connection_lost(self, exc: Exception | None) -> None:
        """Forget the client."""
        del exc
        self._on_end(self)
        if self._timer is not None:
            self._timer.cancel()

    def data_received(self, data: bytes) -> None:
        """Answer as soon as the request's head is there."""
        self._received += data
        if b"\r\n\r\n" in self._received:
            self._send(self._answer())
        elif len(self._received) > REQUEST_LIMIT:
            refusal = Answer(status=HTTPStatus.REQUEST_HEADER_FIELDS_TOO_LARGE, body=b"request too large\n")
            self._send(refusal.encoded(head_only=False))

    def _answer(self) -> bytes:
        parts = self._received.split(b"\r\n", 1)[0].decode("latin-1").split(" ")
        if len(parts) != 3:
            return Answer(status=HTTPStatus.BAD_REQUEST, body=b"not HTTP\n").encoded(head_only=False)
        method, target, _ = parts
        if method not in {"GET", "HEAD"}:
            refusal = Answer(status=HTTPStatus.METHOD_NOT_ALLOWED, body=b"GET or HEAD\n")
            return refusal.encoded(head_only=False)
        return self._handler(target.partition("?")[0]).encoded(head_only=method == "HEAD")

    def _send(self, answer: bytes) -> None:
        self._received = b""
        if self._transport is not None and not self._transport.is_closing():
            self._transport.write(answer)
            self._transport.close()


class Endpoint:
    """A listening socket that is answered on until it is closed."""

    def __init__(self, handler: Handler) -> None:
        self._handler = handler
        self._server: asyncio.Server | None = None
        self._open: set[Responder] = set()
        self._nobody = asyncio.Event()

    async def open(self, listener: socket.socket) -> None:
        """Answer from now on."""
        loop = asyncio.get_running_loop()
        self._server = await loop.create_server(self._responder, sock=listener, backlog=BACKLOG)

    async def close(self) -> None:
        """Accept nobody any more, and answer those who have been accepted.

        Where somebody else holds the socket too, clients go on queueing for the next process; but a connection that
        this one has taken from the queue would be reset at its end, and to a load balancer that is a failed probe.
        """
        if self._server is None:
            return
        self._server.close()
        await asyncio.sleep(0)  # what the loop has just accepted gets its Responder in the next turn
        if self._open:
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(LAST_ANSWERS_SECONDS):
                    await self._nobody.wait()

    def _responder(self) -> Responder:
        responder = Responder(self._handler, on_end=self._ended)
        self._open.add(responder)
        self._nobody.clear()
        return responder

    def _ended(self, responder: Responder) -> None:
        self._open.discard(responder)
        if not self._open:
            self._nobody.set()

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(self, *_: object) -> None:
        await self.close()


async def serve(listener: socket.socket, handler: Handler) -> Endpoint:
    """Answer on a listening socket."""
    endpoint = Endpoint(handler)
    await endpoint.open(listener)
    return endpoint
