"""The acts of the mirror's demo: a killed daemon, a planned switch, a dead machine. Each waits for what it shows.

After each act both copies are compared with each other, and with the ledger that the program keeps outside of them.
What was acknowledged and is not there ends the demo with an error.
"""

import asyncio
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, suppress
from pathlib import Path

from testbed.demo.timeline import Timeline
from testbed.mirror import Mirror, Node
from testbed.mirror_demo.chronicle import Chronicle
from testbed.mirror_load import account, journal
from testbed.mirror_load.agent import Agent
from testbed.run import Run
from testbed.trees import differences, tree

PROGRAM = Path(journal.__file__)
WARM_RECORDS = 200
PATIENCE_SECONDS = 60.0


class Story:
    """The acts, in order; `play()` plays them."""

    def __init__(self, run: Run, pair: Mirror, timeline: Timeline) -> None:
        self.pair = pair
        self.timeline = timeline
        self.ledger = run.folder / f"ledger-{pair.namespace}"
        self.rows: list[tuple[str, ...]] = [("act", "records acknowledged", "missing", "longest time without one")]
        self._agents = {
            node.name: Agent(run, node, [PROGRAM, node.directory, self.ledger, node.name])
            for node in pair.nodes.values()
        }
        self._chronicle = Chronicle(pair, tell=timeline.say)

    async def play(self) -> None:
        """Play all acts, and say what they cost."""
        telling = asyncio.create_task(self._chronicle.run())
        try:
            await self.mirror_appears()
            await self.daemon_is_killed()
            await self.roles_are_switched()
            await self.machine_dies()
        finally:
            for agent in self._agents.values():
                await agent.end()
            telling.cancel()
            with suppress(asyncio.CancelledError):
                await telling
        self.timeline.chapter("What the program noticed")
        self.timeline.table(self.rows)

    # -- acts

    async def mirror_appears(self) -> None:
        """A directory of one machine becomes the same directory on two."""
        self.timeline.chapter("A directory of machine a becomes a mirror on a and b")
        (self.pair.a.directory / "before").write_text("was here before the mirror\n")
        async with self._act("the mirror appears"):
            for node in (self.pair.a, self.pair.b):
                await self._join(node)
            await self.pair.paired()

    async def daemon_is_killed(self) -> None:
        """kill -9 of the primary's daemon: the other machine takes over, the first comes back."""
        self.timeline.chapter("The primary's daemon is killed (SIGKILL)")
        async with self._act("the primary's daemon is killed"):
            primary, other = await self.pair.paired()
            await primary.kill()
            self.timeline.say(
                "demo", f"{primary.name}'s daemon is dead, and with it the mount: its program gets errors"
            )
            await self._gone(primary)
            await self._taken_over(other)
            await self._join(primary)
            await self.pair.paired()

    async def roles_are_switched(self) -> None:
        """A planned switch: the program is stopped here and started there."""
        self.timeline.chapter("A planned switch")
        async with self._act("a planned switch"):
            primary, other = await self.pair.paired()
            answer = await primary.ask("switchover")
            assert answer["ok"], answer
            self.timeline.say("demo", f"{primary.name} was told: switchover")
            await other.until("PRIM", mounted=True)
            await primary.until("SECOND")
            await self._written(other, 1)

    async def machine_dies(self) -> None:
        """Everything of the primary is gone at once, from the network first."""
        self.timeline.chapter("The primary's whole machine dies: cut from the network, then killed")
        async with self._act("the primary's machine dies"):
            primary, other = await self.pair.paired()
            await primary.host.cut()
            await primary.kill()
            await self._gone(primary)
            self.timeline.say("demo", f"machine {primary.name} is silent and dead")
            await self._taken_over(other)
            await primary.host.heal()
            self.timeline.say("demo", f"machine {primary.name} is back")
            await self._join(primary)
            await self.pair.paired()

    # -- how

    @asynccontextmanager
    async def _act(self, title: str) -> AsyncIterator[None]:
        before, began = len(account.entries(self.ledger)), time.time()
        yield
        primary, _ = await self.pair.paired()
        await self._written(primary, WARM_RECORDS)
        ended = time.time()
        acknowledged = await self._compare()
        # The first act's time without an answer is not counted: there was no program yet.
        gap = account.longest_gap(acknowledged, began if before else acknowledged[0].at, ended)
        self.rows.append((title, str(len(acknowledged) - before), "0", f"{gap * 1000:.0f} ms"))

    async def _compare(self) -> list[account.Entry]:
        """Both copies with each other and with the ledger, while nothing is under way; gives the ledger."""
        for agent in self._agents.values():
            await agent.pause()
        acknowledged = account.entries(self.ledger)
        a, b = self.pair.a.under, self.pair.b.under
        for copy in (a, b):
            lost = account.missing(acknowledged, copy / "journal")
            assert not lost, f"{len(lost)} acknowledged records are missing in {copy}, the first of them {lost[0]}"
        unequal = differences(tree(a), tree(b))
        assert not unequal, "the copies differ:\n" + "\n".join(unequal)
        self.timeline.say(
            "program", f"all {len(acknowledged)} acknowledged records are in both copies, and these are equal"
        )
        for agent in self._agents.values():
            agent.resume()
        return acknowledged

    async def _join(self, node: Node) -> None:
        self.timeline.say("demo", f"{node.name}'s daemon is started")
        node.start()
        await self._agents[node.name].start()

    async def _gone(self, node: Node) -> None:
        await self._agents[node.name].crash()

    async def _taken_over(self, node: Node) -> None:
        last = account.entries(self.ledger)[-1]
        first = await self._written(node, 1)
        text = f"goes on at {node.name} with record {first.record}, {first.at - last.at:.2f} s after {last.record}"
        self.timeline.say("program", text)

    async def _written(self, node: Node, count: int) -> account.Entry:
        """Wait until the program has written so many more records on this node; gives the first of them."""
        before = len(account.entries(self.ledger))
        async with asyncio.timeout(PATIENCE_SECONDS):
            while True:
                fresh = [entry for entry in account.entries(self.ledger)[before:] if entry.where == node.name]
                if len(fresh) >= count:
                    return fresh[0]
                await asyncio.sleep(0.02)
