"""Who is served where: the kernel's gate in front of the application, and what a load balancer's probe is answered."""

import asyncio
import signal
import sys
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, suppress
from pathlib import Path

import pytest

from testbed.controlplane import ControlPlane
from testbed.machines import Fabric
from testbed.mirror import MIRROR, PATIENCE_SECONDS, Mirror, Node, mirror

LEASE_SECONDS = 1.5
PORT, OTHER_PORT, PROBE_PORT = 9100, 9101, 9102
PROBE_PATH = "/probe/shop/erp"
TABLE = f"farmstead-mirror-{MIRROR.replace('-', '')}"
# An application that answers from its own memory: it would go on serving stale data for ever.
APPLICATION = """
import socketserver, sys, threading
class Echo(socketserver.StreamRequestHandler):
    def handle(self):
        for line in self.rfile:
            self.wfile.write(line)
class Server(socketserver.ThreadingTCPServer):
    daemon_threads = allow_reuse_address = True
servers = [Server(("", int(port)), Echo) for port in sys.argv[1:]]
for server in servers[1:]:
    threading.Thread(target=server.serve_forever, daemon=True).start()
servers[0].serve_forever()
"""


class Client:
    """One connection to the application on a node."""

    def __init__(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self._reader = reader
        self._writer = writer

    async def ask(self) -> None:
        """One question and its answer; ConnectionError when the connection was reset."""
        self._writer.write(b"there?\n")
        async with asyncio.timeout(PATIENCE_SECONDS):
            if await self._reader.readline() != b"there?\n":
                raise ConnectionResetError("closed")

    async def ask_for(self, seconds: float) -> int:
        """Ask again and again; gives how often it was answered."""
        started, answers = time.monotonic(), 0
        while time.monotonic() - started < seconds:
            await self.ask()
            answers += 1
        return answers


@asynccontextmanager
async def client(node: Node, port: int = PORT) -> AsyncIterator[Client]:
    async with asyncio.timeout(PATIENCE_SECONDS):
        reader, writer = await asyncio.open_connection(node.host.address, port)
    try:
        yield Client(reader, writer)
    finally:
        writer.close()
        with suppress(ConnectionError):
            await writer.wait_closed()


async def until_reached(node: Node) -> None:
    """Wait until the application there takes a new connection and answers."""
    async with asyncio.timeout(PATIENCE_SECONDS):
        while True:
            with suppress(ConnectionError):
                async with client(node) as asker:
                    return await asker.ask()
            await asyncio.sleep(0.02)


async def is_refused(node: Node) -> bool:
    """Whether a new connection is refused, at once."""
    try:
        async with client(node) as asker:
            await asker.ask()
    except ConnectionError:
        return True
    return False


async def probe(node: Node, path: str = PROBE_PATH) -> tuple[int, str]:
    """What a load balancer is answered: status and body."""
    async with asyncio.timeout(PATIENCE_SECONDS):
        reader, writer = await asyncio.open_connection(node.host.address, PROBE_PORT)
        try:
            writer.write(f"GET {path} HTTP/1.1\r\nHost: {node.host.address}\r\n\r\n".encode())
            head, _, body = (await reader.read()).decode().partition("\r\n\r\n")
        finally:
            writer.close()
    return int(head.split()[1]), body.strip()


@pytest.fixture
async def gated(fabric: Fabric, control_plane: ControlPlane, namespace: str, tmp_path: Path) -> AsyncIterator[Mirror]:
    """A mirror with a listener, an application on both machines, and a port of somebody else's beside it."""
    probe = {"address": f"0.0.0.0:{PROBE_PORT}", "path": PROBE_PATH}
    settings: dict[str, object] = {"leaseSeconds": LEASE_SECONDS, "listeners": [{"port": PORT}], "probe": probe}
    async with mirror(fabric, control_plane, namespace, tmp_path, **settings) as pair:
        applications = [
            node.host.spawn(sys.executable, "-c", APPLICATION, str(PORT), str(OTHER_PORT)) for node in (pair.a, pair.b)
        ]
        try:
            yield pair
        finally:
            for application in applications:
                await application.stop()


async def test_clients_reach_the_primary_alone_and_renewals_cut_nobody(gated: Mirror) -> None:
    await gated.start()
    await until_reached(gated.a)
    assert await is_refused(gated.b)
    async with client(gated.b, OTHER_PORT) as other:
        await other.ask()
    async with client(gated.a) as steady:
        assert await steady.ask_for(2 * LEASE_SECONDS) > 100


async def test_a_daemon_that_can_do_nothing_serves_no_longer_than_its_lease(gated: Mirror) -> None:
    await gated.start()
    await until_reached(gated.a)
    async with client(gated.a) as steady:
        await steady.ask()
        stopped = time.monotonic()
        gated.a.daemon.signal(signal.SIGSTOP)
        with pytest.raises(ConnectionError):
            await steady.ask_for(PATIENCE_SECONDS)
        closed = time.monotonic() - stopped
    assert closed < LEASE_SECONDS
    assert await is_refused(gated.a)
    await gated.b.until("ALONE", mounted=True)
    await until_reached(gated.b)
    # The other one did not serve before the first one's gate had closed.
    taken = time.monotonic() - stopped
    assert taken > closed
    gated.a.daemon.signal(signal.SIGCONT)
    await gated.a.until("SECOND")
    assert await is_refused(gated.a)


async def test_a_gate_that_somebody_flushed_is_put_back(gated: Mirror) -> None:
    await gated.start()
    await until_reached(gated.a)
    await gated.a.host.run("nft", "flush", "ruleset")
    async with asyncio.timeout(PATIENCE_SECONDS):
        while TABLE not in await gated.a.host.run("nft", "list", "tables"):
            await asyncio.sleep(0.02)
    await until_reached(gated.a)
    assert [line for line in gated.a.log() if line.get("message", "").startswith("the serving gate was removed")]


async def test_the_probe_says_who_serves_and_why_not(gated: Mirror) -> None:
    await gated.start()
    assert await probe(gated.b) == (503, "SECOND: nothing is served on this machine")
    assert await probe(gated.a) == (503, "PRIM: the application starts")
    assert (await gated.a.ask("application"))["ok"]
    assert await probe(gated.a) == (200, "served here")
    assert (await probe(gated.a, "/probe/shop/other"))[0] == 404
    assert (await gated.a.ask("application", unready="check answers failed"))["ok"]
    assert await probe(gated.a) == (503, "PRIM: check answers failed")
    assert (await gated.a.ask("application"))["ok"]
    await gated.a.ask("switchover")
    await gated.a.until(application="stop")
    # Before the other side answers 200.
    assert (await probe(gated.a))[0] == 503
    await gated.a.ask("applicationStopped")
    await gated.b.until("PRIM", mounted=True)
    assert (await gated.b.ask("application"))["ok"]
    assert await probe(gated.b) == (200, "served here")
    assert (await probe(gated.a))[0] == 503
