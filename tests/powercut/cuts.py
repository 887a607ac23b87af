"""One power cut and all that must hold after it, until both machines are a mirror again."""

import asyncio
import random
import time
from collections.abc import Mapping
from dataclasses import dataclass, field
from enum import Enum
from typing import Any

from powercut.ledger import Promise
from powercut.pair import COPY, Member, Pair

WRITING_SECONDS = (0.5, 4.0)
RESYNCING_SECONDS = (0.0, 2.0)
# Two of the daemon's checkpoints.
SETTLING_SECONDS = 60.0
MAY_BE_MISSING = "may be missing"


class Cut(Enum):
    """Whose power goes."""

    PRIMARY = "primary"
    SECONDARY = "secondary"
    BOTH = "both"
    BOTH_SECONDARY_BACK = "both, the secondary back first"
    RESYNC = "secondary, then both during its resync"
    CLOCK = "primary, clocks stepped before"
    PAUSE = "none: primary stopped for two leases"


@dataclass
class Outcome:
    """What one cut showed."""

    cut: Cut
    power_cuts: int = 0
    """At how many moments power went: in a resync a second time."""
    seconds: dict[str, float] = field(default_factory=dict)
    """How long what took, since the cut."""
    returned: int = 0
    syncs: int = 0
    broken: list[str] = field(default_factory=list)
    """What should not be as it is."""


class Rounds:
    """Cuts one after the other, on one pair with one acknowledgement class."""

    def __init__(self, pair: Pair, *, acknowledgement: str, lease: float, choose: random.Random) -> None:
        self._pair = pair
        self._ledger = pair.ledger
        self._disk = acknowledgement == "Disk"
        self._lease = lease
        self._choose = choose
        self._started = 0.0
        self._outcome = Outcome(Cut.PRIMARY)
        self._generations: dict[str, int] = {}

    async def one(self, cut: Cut) -> Outcome:
        """A mirror at work, a cut, and a mirror again."""
        primary, second = await self._pair.paired()
        outcome = self._outcome = Outcome(cut)
        self._generations = {}
        before = (self._ledger.returned, self._ledger.syncs)
        await primary.write(self._seed())
        await asyncio.sleep(self._choose.uniform(*WRITING_SECONDS))
        if cut is Cut.CLOCK:
            primary, second = await self._step_clocks(primary, second)
        outcome.returned, outcome.syncs = self._ledger.returned - before[0], self._ledger.syncs - before[1]
        self._started = time.monotonic()
        match cut:
            case Cut.PRIMARY | Cut.CLOCK:
                await self._cut(primary)
                await self._serves(second, Promise.RETURNED)
                await primary.boot()
            case Cut.SECONDARY:
                await self._cut(second)
                await primary.is_role("ALONE")
                self._took("alone")
                await second.boot()
            case Cut.BOTH:
                await self._cut(primary, second)
                await asyncio.gather(primary.boot(), second.boot())
                serving = await self._pair.serving("PRIM", "ALONE", "JOIN")
                await self._serves(serving, self._after_both)
                self._says_what_may_be_missing(serving)
            case Cut.BOTH_SECONDARY_BACK:
                await self._cut(primary, second)
                await second.boot()
                await self._serves(second, self._after_both)
                self._says_what_may_be_missing(second)
                await primary.boot()
            case Cut.RESYNC:
                await self._cut(second)
                await primary.is_role("ALONE")
                await second.boot()
                await primary.until(
                    lambda status: status["resync"] or status["role"] == "PRIM", "the source of a resync"
                )
                await asyncio.sleep(self._choose.uniform(*RESYNCING_SECONDS))
                await self._cut(primary, second)
                await asyncio.gather(primary.boot(), second.boot())
                serving = await self._pair.serving("PRIM", "ALONE", "JOIN")
                await self._serves(serving, self._after_both)
            case Cut.PAUSE:
                await self._pause(primary, second)
        await self._equal()
        for member in (primary, second):
            self._state_was_whole(member)
        return outcome

    @property
    def _after_both(self) -> Promise:
        """What outlives a crash of both."""
        return Promise.RETURNED if self._disk else Promise.SYNCED

    async def _cut(self, *members: Member) -> None:
        self._outcome.power_cuts += 1
        self._generations |= {member.name: member.status.get("generation", 0) for member in members}
        await asyncio.gather(*(member.vm.cut_power() for member in members))

    async def _step_clocks(self, primary: Member, second: Member) -> tuple[Member, Member]:
        """One machine's clock goes far ahead, the other one's back; both are a mirror after that, and write on."""
        for member, seconds in ((primary, 3_600), (second, -30)):
            await member.vm.run("/usr/bin/busybox", "date", "-s", f"@{int(time.time()) + seconds}")
        await asyncio.sleep(self._lease)
        primary, second = await self._pair.paired()
        await asyncio.sleep(self._choose.uniform(*WRITING_SECONDS))
        return primary, second

    async def _pause(self, primary: Member, second: Member) -> None:
        """A primary that was stopped finds another one when it goes on, and does not serve."""
        primary.vm.pause()
        await self._serves(second, Promise.RETURNED)
        await asyncio.sleep(max(0.0, self._started + 2 * self._lease - time.monotonic()))
        primary.served = False
        primary.vm.go_on()
        await primary.is_role("SECOND")
        if primary.served:
            self._outcome.broken.append(f"{primary.name} served after another machine had taken over")

    async def _serves(self, member: Member, promise: Promise) -> None:
        """The one that serves now has what was promised; its own writer goes on."""
        await member.is_role("PRIM", "ALONE", "JOIN")
        self._took("serves")
        self._outcome.broken += self._ledger.settle(await member.records(), promise)
        await member.write(self._seed())

    def _says_what_may_be_missing(self, member: Member) -> None:
        """`Memory` alone may miss something, and then says so."""
        said = any(MAY_BE_MISSING in notice for notice in member.status["notices"])
        if said == self._disk:
            says = "says" if said else "does not say"
            self._outcome.broken.append(f"{member.name} {says} that something may be missing")

    async def _equal(self) -> None:
        """A mirror again, without a writer: nothing is missing, and the copies are the same."""
        broken = self._outcome.broken
        primary, second = await self._pair.paired()
        self._took("in sync")
        await primary.rest()
        broken += self._ledger.failed
        self._ledger.failed.clear()
        broken += self._ledger.violations(await primary.records(), Promise.RETURNED)
        # A secondary sets its times late: see `equal_times`.
        broken += _differences(primary, _untimed(await primary.tree()), second, _untimed(await second.tree()))
        if broken:
            # Which writes it is that one of them lacks.
            records = [_flat(await member.records(COPY)) for member in (primary, second)]
            broken += _differences(primary, records[0], second, records[1])

    async def equal_times(self) -> list[str]:
        """At rest for a while: the times are equal as well. What is not, in sentences."""
        primary, second = await self._pair.paired()
        deadline = time.monotonic() + SETTLING_SECONDS
        while True:
            here, there = await primary.tree(), await second.tree()
            differences = _differences(primary, here, second, there)
            if not differences or time.monotonic() > deadline:
                return differences
            await asyncio.sleep(1.0)

    def _state_was_whole(self, member: Member) -> None:
        """What a daemon found on its disks after a cut was what it had last written, and not nothing."""
        generation = self._generations.get(member.name)
        if generation is None:
            return
        first = member.first_status
        if first["generation"] < generation:
            self._outcome.broken.append(
                f"{member.name} came back in generation {first['generation']}, not {generation}"
            )
        if first["outOfSyncObjects"] is None:
            self._outcome.broken.append(f"{member.name} came back without its difference log")

    def _took(self, what: str) -> None:
        self._outcome.seconds[what] = time.monotonic() - self._started

    def _seed(self) -> str:
        return str(self._choose.getrandbits(32))


def _differences(one: Member, here: Mapping[str, Any], other: Member, there: Mapping[str, Any]) -> list[str]:
    return [
        f"{name}: {here.get(name)} on {one.name}, {there.get(name)} on {other.name}"
        for name in sorted(here.keys() | there.keys())
        if here.get(name) != there.get(name)
    ]


def _untimed(tree: Mapping[str, Mapping[str, Any]]) -> dict[str, Any]:
    return {name: {what: value for what, value in entry.items() if what != "modified"} for name, entry in tree.items()}


def _flat(records: Mapping[str, Any]) -> dict[str, Any]:
    return {
        f"writer {writer}, {kind} {key}": value
        for writer, kinds in records.items()
        for kind, things in kinds.items()
        for key, value in things.items()
    }
