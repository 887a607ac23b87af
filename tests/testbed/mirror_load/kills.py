"""Kills a mirror's daemons under load and judges what is left, round after round.

A round: the crowd works on the primary, somebody is killed at a moment of chance, whoever must go on goes on, the
killed come back. Then all is quiet for a moment, and both copies must be what was acknowledged, and equal.
"""

import asyncio
import random
from collections import Counter
from dataclasses import dataclass
from enum import StrEnum
from pathlib import Path

from testbed.mirror import Mirror, Node, first_of
from testbed.mirror_load.crowd import Crowd
from testbed.trees import differences, tree

COLD_FILES, COLD_BYTES = 64, 1 << 20
"""What nobody touches: a resync that moved it would show in its bytes."""
OBJECT_BYTES = 1024
"""What a resync may say about an object besides its data."""
LONGEST_CALM = 0.6
"""Seconds of work before a kill, at most."""


class Kind(StrEnum):
    """Who is killed."""

    PRIMARY = "primary"
    SECONDARY = "secondary"
    TARGET = "secondary, and again while it is made equal"
    SOURCE = "secondary, then the primary while it makes it equal"
    BOTH = "both at once"


WEIGHTS = {Kind.PRIMARY: 4, Kind.SECONDARY: 3, Kind.TARGET: 1, Kind.SOURCE: 1, Kind.BOTH: 1}
STRUCK = {Kind.PRIMARY: 1, Kind.SECONDARY: 1, Kind.TARGET: 2, Kind.SOURCE: 2, Kind.BOTH: 2}


@dataclass(frozen=True)
class Round:
    """One round, when it is over."""

    kind: Kind
    operations: int
    """Acknowledged in it."""
    resync_bytes: int
    resync_objects: int
    """Sent and looked at by the last resync."""

    def __str__(self) -> str:
        resync = f"resync of {self.resync_objects} objects, {self.resync_bytes} bytes"
        return f"{self.kind}: {self.operations} operations, {resync}"


class Kills:
    """The rounds; `strike` plays one."""

    def __init__(self, pair: Mirror, folder: Path, *, seed: int) -> None:
        self.pair = pair
        self.rounds: list[Round] = []
        self._counted: dict[str, tuple[int, int]] = {}
        self._rng = random.Random(seed)  # noqa: S311 - no secret
        self._crowd = Crowd(folder, seed=seed)

    @property
    def count(self) -> int:
        """Kills so far."""
        return sum(STRUCK[played.kind] for played in self.rounds)

    async def prepare(self) -> None:
        """Start the mirror, with cold files that both copies hold from the start."""
        for number in range(COLD_FILES):
            (self.pair.a.directory / f"cold{number}").write_bytes(self._rng.randbytes(COLD_BYTES))
        await self.pair.start()
        await self._resynced(self.pair.a)  # the first one moved everything
        self._crowd.make_folders(self.pair.a.directory)

    async def strike(self) -> Round:
        """One round."""
        kind = self._rng.choices(list(WEIGHTS), weights=list(WEIGHTS.values()))[0]
        before = self._crowd.acknowledged.total()
        primary, second = await self.pair.paired()
        self._crowd.start(primary.directory)
        await self._calm()
        match kind:
            case Kind.PRIMARY:
                await primary.kill()
                await self._go_on()
                await self._back(primary)
            case Kind.SECONDARY:
                await second.kill()
                await primary.until("ALONE")
                await self._back(second)
            case Kind.TARGET:
                await second.kill()
                await self._resyncing(primary, second)
                await second.kill()
                await self._back(second)
            case Kind.SOURCE:
                await second.kill()
                await self._resyncing(primary, second)
                await primary.kill()
                await self._back(primary)
                await self._go_on()
            case Kind.BOTH:
                await asyncio.gather(primary.kill(), second.kill())
                await self._back(primary)
                await self._back(second)
                await self._go_on()
        return await self._judge(kind, before)

    # -- how

    async def _calm(self) -> None:
        """Work until everybody has done something, and then up to a moment of chance."""
        await self._crowd.at_work()
        await asyncio.sleep(self._rng.uniform(0, LONGEST_CALM))

    async def _back(self, node: Node) -> None:
        node.start()
        await node.agent()

    async def _resyncing(self, primary: Node, second: Node) -> None:
        """The killed secondary comes back, and is being made equal (or is already)."""
        await primary.until("ALONE")
        await self._back(second)
        await primary.until_that(lambda status: status["resync"] or status["role"] != "ALONE", "making the other equal")
        await asyncio.sleep(self._rng.uniform(0, 0.05))

    async def _go_on(self) -> None:
        """The primary is gone and everybody met an error: judge what is served now, and work on there."""
        assert not await self._crowd.stop(), "the primary was killed, and nobody noticed"
        nodes = [node for node in self.pair.nodes.values() if node.daemon.running]
        serving = [node.until("ALONE", "PRIM", mounted=True, serving=True) for node in nodes]
        node = nodes[min(await first_of(*serving))]
        self._crowd.check(node.directory)
        self._crowd.start(node.directory)

    async def _judge(self, kind: Kind, before: int) -> Round:
        primary, _ = await self.pair.paired()
        await self._crowd.at_work()
        assert await self._crowd.stop(), "a program met an error, although its primary was there all the time"
        a, b = self.pair.a.under, self.pair.b.under
        self._crowd.check(a, b)
        unequal = differences(tree(a), tree(b))
        assert not unequal, "the copies differ:\n" + "\n".join(unequal)
        sent, looked_at = await self._resynced(primary)
        # What nobody touched was not moved, and what was touched hardly more than once.
        most = 2 * self._crowd.size() + OBJECT_BYTES * looked_at
        assert sent <= most, f"{sent} bytes were moved, and at most {most} can differ"
        for node in self.pair.nodes.values():
            assert node.log(), "a daemon without a log, or with lines that are none"
        operations = self._crowd.acknowledged.total() - before
        self.rounds.append(Round(kind=kind, operations=operations, resync_bytes=sent, resync_objects=looked_at))
        return self.rounds[-1]

    async def _resynced(self, primary: Node) -> tuple[int, int]:
        """Bytes and objects of the resyncs since the last look at this daemon, or since its start."""
        life = (await primary.status())["incarnation"]
        counted = await primary.metrics()
        now = (int(counted["resync_sent_bytes_total"]), int(counted["resync_objects_total"]))
        then = self._counted.get(life, (0, 0))
        self._counted[life] = now
        return now[0] - then[0], now[1] - then[1]

    def __str__(self) -> str:
        kinds = Counter(played.kind for played in self.rounds)
        operations = self._crowd.acknowledged
        told = ", ".join(f"{count} {kind}" for kind, count in operations.most_common())
        return (
            f"{self.count} kills in {len(self.rounds)} rounds: "
            + "; ".join(f"{n} x {kind}" for kind, n in kinds.items())
            + f"\n{operations.total()} acknowledged operations, all of them there on both sides: {told}"
        )
