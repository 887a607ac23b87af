"""How long a mirror takes to go on: `make bench-takeover`, or `mirror_takeover.py [--rounds N] [ACT ...]`.

Two daemons in network namespaces and a witness in a real API server. Acts: the primary's `daemon` is killed; the
primary's `machine` is (cut from the network, then killed); the `secondary` is. Each at a moment of chance between two
beacons. The steps are from the daemon's structured log, the ends are a write(2) with fsync(2) in the mounted directory.
"""

import argparse
import asyncio
import os
import random
import statistics
import sys
import tempfile
import time
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

from testbed.controlplane import ControlPlane
from testbed.machines import Fabric
from testbed.mirror import Mirror, Node, mirror
from testbed.run import Run

Line = dict[str, Any]
ACTS = ("daemon", "machine", "secondary")
STEPS: tuple[tuple[str, Callable[[Line], bool]], ...] = (
    ("promise over", lambda line: line["message"] == "role" and line["role"] == "Taking"),
    ("fence on disk", lambda line: line["message"] == "state on disk"),
    ("witness read", lambda line: line["message"] == "witness read"),
    ("compare-and-swap", lambda line: line["message"] == "witness written"),
    ("generation on disk", lambda line: line["message"] == "role" and line["role"] == "Alone"),
    ("mounted", lambda line: line["message"] == "mounted"),
)
Row = dict[str, float]


def write_synced(path: Path) -> None:
    """One write with fsync."""
    descriptor = os.open(path, os.O_WRONLY | os.O_CREAT, 0o644)
    try:
        os.write(descriptor, b"x" * 128)
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


class Bench:
    """The rounds on one mirror, and what they took."""

    def __init__(self, pair: Mirror, lease: float, seed: int) -> None:
        self.pair = pair
        self.lease = lease
        self.rows: dict[str, list[Row]] = {act: [] for act in ACTS}
        self.frozen = 0
        self._rng = random.Random(seed)  # noqa: S311 - no secret

    async def play(self, act: str) -> None:
        """One round."""
        primary, other = await self.pair.paired()
        await asyncio.to_thread(write_synced, primary.directory / "before")
        # Any moment between two beacons is as likely as another.
        await asyncio.sleep(self._rng.uniform(0, self.lease / 6))
        if act == "secondary":
            self.rows[act].append(await self._lose(primary, other))
        else:
            self.rows[act].append(await self._take_over(primary, other, cut=act == "machine"))

    async def _take_over(self, primary: Node, other: Node, *, cut: bool) -> Row:
        seen = len(other.log())
        if cut:
            await primary.host.cut()
        # Nothing of it was heard any more at this moment, or will be.
        began = time.time()
        await primary.kill()
        await other.until("ALONE", mounted=True)
        await asyncio.to_thread(write_synced, other.directory / "first")
        ended = time.time()
        row, before = {}, began
        lines = other.log()[seen:]
        for name, fits in STEPS:
            at = next(line["time"] for line in lines if line["time"] >= before and fits(line))
            row[name], before = at - before, at
        row["first write"] = ended - before
        row["in all"] = ended - began
        if cut:
            await primary.host.heal()
        await self._back(primary)
        return row

    async def _lose(self, primary: Node, other: Node) -> Row:
        seen = len(primary.log())
        stop = asyncio.Event()
        writing = asyncio.create_task(self._longest_write(primary, stop))
        await other.kill()
        await primary.until("ALONE")
        stop.set()
        stalled = await writing
        lines = primary.log()[seen:]
        self.frozen += sum(line.get("role") == "Frozen" for line in lines)
        swap = next(float(line["milliseconds"]) / 1000 for line in lines if line["message"] == "witness written")
        await self._back(other)
        return {"compare-and-swap": swap, "longest write": stalled}

    async def _longest_write(self, node: Node, stop: asyncio.Event) -> float:
        longest = 0.0
        while not stop.is_set():
            began = time.monotonic()
            await asyncio.to_thread(write_synced, node.directory / "during")
            longest = max(longest, time.monotonic() - began)
        return longest

    async def _back(self, node: Node) -> None:
        node.start()
        await node.agent()
        await self.pair.paired()

    def report(self) -> None:
        """Tables for people, and whether the goals are met."""
        for act in ("daemon", "machine"):
            goal = self.lease + 0.5
            self._table(f"the primary's {act} killed, to the first write on the other", self.rows[act], "in all", goal)
        swaps = [row["compare-and-swap"] for row in self.rows["secondary"]]
        if swaps:
            goal = self.lease / 2 + statistics.median(swaps) + 0.3
            title = f"the secondary killed; FROZEN {self.frozen} times"
            self._table(title, self.rows["secondary"], "longest write", goal)

    def _table(self, title: str, rows: list[Row], judged: str, goal: float) -> None:
        if not rows:
            return
        print(f"\n{title} ({len(rows)} times)\n\n| step | median ms | maximum ms |\n|---|---|---|")
        for name in rows[0]:
            values = [row[name] * 1000 for row in rows]
            print(f"| {name} | {statistics.median(values):.0f} | {max(values):.0f} |")
        worst = max(row[judged] for row in rows)
        print(f"\n{judged}: goal at most {goal * 1000:.0f} ms, {'met' if worst <= goal else 'MISSED'}")


@asynccontextmanager
async def built(lease: float) -> AsyncIterator[Mirror]:
    """A mirror on an empty machine."""
    with Run() as run:
        async with Fabric(run) as fabric, ControlPlane(run, address=fabric.gateway) as control_plane:
            await control_plane.kubectl("create", "namespace", "bench")
            # Beside the checkout, on a disk: state and log are written with O_DIRECT.
            with tempfile.TemporaryDirectory(prefix="takeover-", dir=Path.cwd()) as folder:
                async with mirror(fabric, control_plane, "bench", Path(folder), leaseSeconds=lease) as pair:
                    await pair.start()
                    yield pair


async def main(options: Any) -> None:
    """All rounds, the acts in turn."""
    async with built(options.lease) as pair:
        bench = Bench(pair, options.lease, options.seed)
        for number in range(options.rounds):
            for act in options.acts or ACTS:
                await bench.play(act)
            print(f"\rround {number + 1} of {options.rounds}", end="", file=sys.stderr, flush=True)
        bench.report()


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("acts", nargs="*", choices=[*ACTS, []], help="some of the acts; all of them if left out")
    parser.add_argument("--rounds", type=int, default=50)
    parser.add_argument("--lease", type=float, default=3.0, help="seconds")
    parser.add_argument("--seed", type=int, default=0)
    asyncio.run(main(parser.parse_args()))
