"""A peer that lies, to a daemon at work: strangers, torn, oversized, damaged and senseless frames, fenced generations.

All of it is refused, counted and said in the log; nothing of it is applied, no role changes, no daemon ends. What the
transport alone does with such bytes is tested at the transport (net/tests/hostile.rs).
"""

import asyncio
import os
import random
import ssl
from collections.abc import AsyncIterator
from contextlib import suppress
from pathlib import Path

import pytest

from testbed.certificates import Authority
from testbed.controlplane import ControlPlane
from testbed.machines import Fabric
from testbed.mirror import MIRROR, PORT, UIDS, Mirror, mirror
from testbed.mirror_frames import (
    CONTROL,
    DATA,
    MESSAGE,
    OPERATION,
    PAYLOAD_MAX,
    PIECE,
    RESYNC,
    connection,
    credentials,
    frame,
    hello,
)
from testbed.trees import differences, tree

END_SECONDS = 5.0
STRANGER = "00000000-0000-0000-0000-00000000000c"


@pytest.fixture
async def pair(fabric: Fabric, control_plane: ControlPlane, namespace: str, tmp_path: Path) -> AsyncIterator[Mirror]:
    """A mirror at work, with one file."""
    async with mirror(fabric, control_plane, namespace, tmp_path, leaseSeconds=1.5) as pair:
        await pair.start()
        (pair.a.directory / "file").write_bytes(b"as it was")
        yield pair


class Liar:
    """Speaks to `b` as the primary does, with its key."""

    def __init__(self, pair: Mirror) -> None:
        self.pair = pair
        self.key = credentials(pair.a.folder / "node.crt", pair.a.folder / "node.key")

    async def say(self, *frames: bytes, context: ssl.SSLContext | None) -> None:
        """Connect, say this, and wait until the daemon has ended the connection."""
        with suppress(OSError, asyncio.IncompleteReadError):
            async with connection(self.pair.b.host.address, PORT, context) as (reader, writer):
                writer.write(b"".join(frames))
                if context is None:
                    writer.write_eof()
                async with asyncio.timeout(END_SECONDS):
                    while await reader.read(4096):
                        pass

    async def tear(self, *frames: bytes) -> None:
        """Connect, say this and be gone."""
        async with connection(self.pair.b.host.address, PORT, self.key) as (_, writer):
            writer.write(b"".join(frames))
            await writer.drain()

    async def counted(self, name: str) -> int:
        """One of its counters."""
        return int((await self.pair.b.metrics())[f"refused_{name}_total"])


async def holds(pair: Mirror, before: list[int]) -> None:
    """The mirror is as it was: same processes, same roles, equal copies, and it works."""
    assert [node.daemon.pid for node in pair.nodes.values() if node.daemon.running] == before
    assert [(await node.status())["role"] for node in pair.nodes.values()] == ["PRIM", "SECOND"]
    assert {"Frozen", "Alone"}.isdisjoint(pair.b.roles())
    assert (pair.b.under / "file").read_bytes() == b"as it was"
    (pair.a.directory / "next").write_bytes(os.urandom(8))
    assert not differences(tree(pair.a.under), tree(pair.b.under))


def pids(pair: Mirror) -> list[int]:
    return [node.daemon.pid for node in pair.nodes.values()]


async def test_strangers_are_refused_at_the_door(pair: Mirror, tmp_path: Path) -> None:
    liar, before = Liar(pair), pids(pair)
    certificate, key = Authority("elsewhere").server(addresses=[pair.a.host.address], names=["a"]).write(tmp_path, "x")
    await liar.say(hello(MIRROR, UIDS["a"], DATA), context=credentials(certificate, key))
    await liar.say(hello(MIRROR, UIDS["a"], DATA), context=None)
    assert await liar.counted("handshakes") == 2
    await liar.say(hello(MIRROR, STRANGER, DATA), context=liar.key)
    await liar.say(hello(STRANGER, UIDS["a"], DATA), context=liar.key)
    assert await liar.counted("frames") == 2
    assert len([line for line in pair.b.log() if line["message"] == "connection refused or lost"]) >= 4
    await holds(pair, before)


async def test_damaged_frames_end_their_connection_and_nothing_else(pair: Mirror) -> None:
    liar, before = Liar(pair), pids(pair)
    good = frame(OPERATION, bytes(40), generation=2, sequence=1)
    flipped = bytearray(good)
    flipped[-1] ^= 1
    newer = bytearray(good)
    newer[4] = 200
    bad = {
        "checksum": bytes(flipped),
        "version": bytes(newer),
        "limit": frame(OPERATION, bytes(40), length=PAYLOAD_MAX + 1),
        "unknown kind": frame(99, b""),
        "begin no frame": bytes([0xA5]) * 4096,
        "content": good,
        "no place": frame(PIECE, b"", generation=2),
    }
    for number, (reason, said) in enumerate(bad.items(), start=1):
        await liar.say(hello(MIRROR, UIDS["a"], DATA), said, context=liar.key)
        assert await liar.counted("frames") == number, reason
        assert any(reason in line.get("reason", "") for line in pair.b.log()), reason
    for cut in (1, 31, 32, 33, len(good) - 1):
        await liar.tear(hello(MIRROR, UIDS["a"], DATA), good[:cut])
    await holds(pair, before)


async def test_random_frames_change_nothing(pair: Mirror) -> None:
    liar, before = Liar(pair), pids(pair)
    rng = random.Random(5)  # noqa: S311 - no secret
    for _ in range(100):
        channel, kind = rng.choice([(DATA, OPERATION), (CONTROL, MESSAGE), (RESYNC, PIECE)])
        payload = rng.randbytes(rng.randrange(200))
        said = bytearray(frame(kind, payload, generation=rng.randrange(4), sequence=rng.randrange(3)))
        if rng.random() < 0.5:
            said[rng.randrange(len(said))] ^= 1 << rng.randrange(8)
        await liar.tear(hello(MIRROR, UIDS["a"], channel), bytes(said))
    await holds(pair, before)
    assert await liar.counted("frames") > 50


async def test_a_fenced_generation_is_refused_after_a_takeover(pair: Mirror) -> None:
    liar = Liar(pair)
    await pair.a.kill()
    fence = (await pair.b.until("ALONE", mounted=True))["fence"]
    for generation in (fence - 1, 0):
        await liar.say(hello(MIRROR, UIDS["a"], RESYNC), frame(PIECE, b"x", generation=generation), context=liar.key)
    assert await liar.counted("generations") == 2
    assert any("where" in line.get("reason", "") and "generation" in line["reason"] for line in pair.b.log())
    assert (pair.b.directory / "file").read_bytes() == b"as it was"
