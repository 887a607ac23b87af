"""One HTTP/1.1 exchange over a plain connection, without any retry, so that each failure is seen as it is.

A client library would hide what this is here to see: most send a request again when a kept connection turns out
to be closed.
"""

import asyncio
from dataclasses import dataclass
from typing import Self

HEAD_LIMIT = 65536


class ExchangeError(Exception):
    """The request was sent, or could not be sent, and no whole answer with status 200 came back."""


@dataclass(frozen=True, kw_only=True)
class Answer:
    """A whole answer with status 200."""

    served_by: str
    """The X-Served-By header: which machine answered."""
    close: bool
    """Whether the server closes, or asks us to close, the connection."""


class Connection:
    """A connection to the load balancer's frontend."""

    def __init__(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self._reader = reader
        self._writer = writer

    @classmethod
    async def open(cls, host: str, port: int) -> Self:
        """Connect; raises ExchangeError."""
        try:
            return cls(*await asyncio.open_connection(host, port, limit=HEAD_LIMIT))
        except OSError as error:
            raise ExchangeError(f"connect: {error.strerror or error}") from error

    @property
    def closed_by_peer(self) -> bool:
        """Whether the server has closed the connection while it was idle: any client sees that before it sends."""
        return self._reader.at_eof()

    async def get(self, path: str, *, host: str, keep: bool) -> Answer:
        """Send one GET and read the whole answer; raises ExchangeError."""
        connection = "keep-alive" if keep else "close"
        try:
            self._writer.write(f"GET {path} HTTP/1.1\r\nHost: {host}\r\nConnection: {connection}\r\n\r\n".encode())
            await self._writer.drain()
            head = (await self._reader.readuntil(b"\r\n\r\n")).decode("latin-1")
            status, headers = parse_head(head)
            await self._reader.readexactly(int(headers["content-length"]))
        except asyncio.IncompleteReadError as error:
            raise ExchangeError("closed before the whole answer came") from error
        except OSError as error:
            raise ExchangeError(f"{error.strerror or error}") from error
        if status != 200:
            raise ExchangeError(f"status {status}")
        return Answer(
            served_by=headers.get("x-served-by", "?"),
            close=not keep or "close" in headers.get("connection", "").lower(),
        )

    def close(self) -> None:
        """Close; never waits."""
        self._writer.close()


def parse_head(head: str) -> tuple[int, dict[str, str]]:
    """Status and headers (names in small letters) of an answer's head."""
    first, *lines = head.split("\r\n")
    headers = dict(line.split(":", 1) for line in lines if line)
    return int(first.split(" ")[1]), {name.lower(): value.strip() for name, value in headers.items()}
