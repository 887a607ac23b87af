"""Checks against real servers and processes: one that hangs blocks no other, a death is seen at once."""

import asyncio
import contextlib
import subprocess
import sys
import time
from collections.abc import AsyncIterator, Iterator
from pathlib import Path

import pytest_asyncio

from farmstead_agent.checks.http import HttpClient
from farmstead_agent.checks.running import CheckContext, Checks
from farmstead_agent.clock import SystemClock
from farmstead_agent.metrics import Metrics
from farmstead_api.common import Check, ExecCheck, HttpCheck, ProcessCheck, TcpCheck
from farmstead_api.member import ResourceState

PYTHON = Path(sys.executable).resolve().name
UP, DOWN = ResourceState.UP, ResourceState.DOWN


class Bench:
    """Checks under observation: `until` waits for a verdict."""

    def __init__(self, client: HttpClient, *, exec_allowed: bool = True) -> None:
        self.pids: tuple[int, ...] = ()
        self._changed = asyncio.Event()
        context = CheckContext(
            label="shop/web",
            pids=lambda: self.pids,
            client=client,
            clock=SystemClock(),
            metrics=Metrics(),
            exec_allowed=exec_allowed,
        )
        self.checks = Checks(context, self._changed.set)

    async def until(self, name: str, state: ResourceState, *, within: float = 5.0) -> str:
        """The message of a check once it has this verdict."""
        async with asyncio.timeout(within):
            while (found := self.checks.states.get(name)) is None or found.state is not state:
                self._changed.clear()
                await self._changed.wait()
        return found.message


@pytest_asyncio.fixture
async def bench() -> AsyncIterator[Bench]:
    client = HttpClient()
    made = Bench(client)
    try:
        yield made
    finally:
        made.checks.run(())
        await client.close()


@contextlib.asynccontextmanager
async def server(answer: bytes | None) -> AsyncIterator[int]:
    """A server on a port of its own that says `answer` to everything; None: it says nothing and keeps the line."""
    writers = []

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        writers.append(writer)
        if answer is not None:
            await reader.readuntil(b"\r\n\r\n")
            writer.write(answer)
            writer.close()

    listening = await asyncio.start_server(serve, "127.0.0.1", 0)
    try:
        yield listening.sockets[0].getsockname()[1]
    finally:
        listening.close()
        for writer in writers:
            writer.close()
        await asyncio.sleep(0)


def http(body: bytes, status: bytes = b"200 OK") -> bytes:
    return b"HTTP/1.1 %s\r\nContent-Length: %d\r\nConnection: close\r\n\r\n%s" % (status, len(body), body)


async def test_a_server_that_hangs_fails_at_its_timeout_and_blocks_nobody(bench: Bench) -> None:
    async with server(None) as silent, server(http(b"ok")) as good:
        began = time.monotonic()
        bench.checks.run(
            [
                Check(name="hangs", http=HttpCheck(port=silent), timeout_seconds=1, failure_threshold=1),
                Check(name="accepts", tcp=TcpCheck(port=silent)),
                Check(name="answers", http=HttpCheck(port=good)),
            ]
        )
        await bench.until("accepts", UP, within=0.9)
        await bench.until("answers", UP, within=0.9)
        assert await bench.until("hangs", DOWN) == "no answer within 1 s"
        assert 1.0 <= time.monotonic() - began < 2.0


async def test_status_and_body_are_compared(bench: Bench) -> None:
    async with server(http(b"fine", b"202 Accepted")) as other, server(http(b"x" * 1000 + b"needle")) as body:
        bench.checks.run(
            [
                Check(name="status", http=HttpCheck(port=other), failure_threshold=1),
                Check(name="found", http=HttpCheck(port=body, expect_body="nee.le$")),
                Check(name="missing", http=HttpCheck(port=body, expect_body="^needle"), failure_threshold=1),
            ]
        )
        await bench.until("found", UP)
        assert "status 202, expected 200" in await bench.until("status", DOWN)
        assert "body does not match '^needle'" in await bench.until("missing", DOWN)


async def test_nobody_listens(bench: Bench) -> None:
    async with server(None) as port:
        pass
    bench.checks.run(
        [
            Check(name="tcp", tcp=TcpCheck(port=port), failure_threshold=1),
            Check(name="http", http=HttpCheck(port=port), failure_threshold=1),
        ]
    )
    for name in ("tcp", "http"):
        assert f"127.0.0.1:{port}" in await bench.until(name, DOWN)


async def test_commands_by_their_exit_status(bench: Bench, tmp_path: Path) -> None:
    left = tmp_path / "left"

    def command(script: str) -> ExecCheck:
        return ExecCheck(command=("/bin/sh", "-c", script))

    bench.checks.run(
        [
            Check(name="good", exec=command("exit 0"), failure_threshold=1),
            Check(name="bad", exec=command("echo why; exit 3"), failure_threshold=1),
            Check(name="killed", exec=command("kill -9 $$"), failure_threshold=1),
            Check(
                name="slow", exec=command(f"(sleep 1.3; touch {left}) & wait"), timeout_seconds=1, failure_threshold=1
            ),
            Check(name="nothing", exec=ExecCheck(command=("/does/not/exist",)), failure_threshold=1),
        ]
    )
    await bench.until("good", UP)
    assert await bench.until("bad", DOWN) == "/bin/sh: exit status 3: why"
    assert await bench.until("killed", DOWN) == "/bin/sh: ended by SIGKILL"
    assert await bench.until("nothing", DOWN) == "/does/not/exist: can't be run: No such file or directory"
    assert await bench.until("slow", DOWN) == "no answer within 1 s"
    await asyncio.sleep(0.6)  # longer than what the command started would have needed
    assert not left.exists()


async def test_commands_may_be_forbidden() -> None:
    client = HttpClient()
    bench = Bench(client, exec_allowed=False)
    bench.checks.run([Check(name="any", exec=ExecCheck(command=("/bin/true",)), failure_threshold=1)])
    assert "allow.exec_checks" in await bench.until("any", DOWN)
    bench.checks.run(())


async def test_a_death_is_seen_at_once(bench: Bench) -> None:
    with processes(2) as started:
        bench.pids = tuple(process.pid for process in started)
        bench.checks.run(
            [
                Check(name="both", process=ProcessCheck(command_line="time.sleep", at_least=2), interval_seconds=30),
                Check(name="any", process=ProcessCheck(name=PYTHON), interval_seconds=30),
                Check(name="few", process=ProcessCheck(command_line="time.sleep", at_most=1), failure_threshold=1),
            ]
        )
        await bench.until("both", UP)
        await bench.until("any", UP)
        assert "at most 1 may be" in await bench.until("few", DOWN)
        began = time.monotonic()
        started[0].kill()
        assert "1 of at least 2 processes" in await bench.until("both", DOWN)
        assert time.monotonic() - began < 0.5
        assert bench.checks.states["any"].state is UP


@contextlib.contextmanager
def processes(count: int) -> Iterator[list[subprocess.Popen[bytes]]]:
    """Programs that do nothing; killed and buried at the end."""
    program = [sys.executable, "-c", "import time; print(flush=True); time.sleep(60)"]
    started = [subprocess.Popen(program, stdout=subprocess.PIPE) for _ in range(count)]
    try:
        for process in started:
            assert process.stdout is not None
            process.stdout.read(1)  # now it is the program, and no longer a copy of this one
        yield started
    finally:
        for process in started:
            process.kill()
            process.communicate()


async def test_what_is_taken_away_leaves_no_result(bench: Bench) -> None:
    async with server(None) as silent:
        check = Check(name="hangs", http=HttpCheck(port=silent), timeout_seconds=1, failure_threshold=1)
        bench.checks.run([check])
        await asyncio.sleep(0.1)
        bench.checks.forget()
        await asyncio.sleep(1.2)
        assert bench.checks.states == {}
