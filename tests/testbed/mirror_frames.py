"""What one mirror daemon says to another, as bytes: to say it wrongly. The format is in net/src/frame.rs and hello.rs.

Written a second time on purpose, by hand: a test that used the daemon's own code could not say what that never would.
"""

import asyncio
import ssl
import uuid
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, suppress
from pathlib import Path

HEADER = 32
PAYLOAD_MAX = (1 << 20) + 4096
HELLO, OPERATION, MESSAGE, PIECE = 1, 2, 4, 5
DATA, CONTROL, RESYNC = 1, 2, 3
POLYNOMIAL = 0x82F63B78


def _table() -> list[int]:
    table = []
    for byte in range(256):
        value = byte
        for _ in range(8):
            value = (value >> 1) ^ (POLYNOMIAL if value & 1 else 0)
        table.append(value)
    return table


TABLE = _table()


def crc32c(data: bytes) -> int:
    """Castagnoli's checksum."""
    value = 0xFFFFFFFF
    for byte in data:
        value = TABLE[(value ^ byte) & 0xFF] ^ (value >> 8)
    return value ^ 0xFFFFFFFF


def frame(kind: int, payload: bytes, *, generation: int = 0, sequence: int = 0, length: int | None = None) -> bytes:
    """A whole frame; `length`: what it says of itself instead of the truth."""
    before = b"FSMf" + bytes([1, kind]) + bytes(2) + (len(payload) if length is None else length).to_bytes(4, "little")
    after = generation.to_bytes(8, "little") + sequence.to_bytes(8, "little")
    return before + crc32c(before + after + payload).to_bytes(4, "little") + after + payload


def hello(mirror: str, node: str, channel: int) -> bytes:
    """How a connection begins, of a process that nobody knows."""
    ids = [uuid.UUID(node).int, uuid.uuid4().int, uuid.uuid4().int]
    body = uuid.UUID(mirror).bytes + b"".join(number.to_bytes(16, "little") for number in ids) + bytes([channel])
    return frame(HELLO, body)


def credentials(certificate: Path, key: Path) -> ssl.SSLContext:
    """A node's own; whoever answers is taken as it is."""
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    context.minimum_version = ssl.TLSVersion.TLSv1_3
    context.check_hostname, context.verify_mode = False, ssl.CERT_NONE
    context.load_cert_chain(certificate, key)
    return context


@asynccontextmanager
async def connection(
    address: str, port: int, context: ssl.SSLContext | None
) -> AsyncIterator[tuple[asyncio.StreamReader, asyncio.StreamWriter]]:
    """A connection to a daemon, closed at the end, however it went."""
    reader, writer = await asyncio.open_connection(address, port, ssl=context)
    try:
        yield reader, writer
    finally:
        writer.transport.abort()
        with suppress(OSError, asyncio.IncompleteReadError):
            await writer.wait_closed()
