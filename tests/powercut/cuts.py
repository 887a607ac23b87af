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
MAY_BE_MISSING = "may be missing"


class Cut(Enum):
    """Whose power goes."""

    PRIMARY = "primary"
    SECONDARY = "secondary"
    BOTH = "both"


@dataclass
class Outcome:
    """What one cut showed."""

    cut: Cut
    seconds: dict[str, float] = field(default_factory=dict)
    """How long what took, since the cut."""
    returned: int = 0
    syncs: int = 0
    broken: list[str] = field(default_factory=list)
    """What should not be as it is."""


class Rounds:
    """Cuts one after the other, on one pair with one acknowledgement class."""

    def __init__(self, pair: Pair, *, acknowledgement: str, choose: random.Random) -> None:
        self._pair = pair
        self._ledger = pair.ledger
        self._disk = acknowledgement == "Disk"
        self._choose = choose

    async def one(self, cut: Cut) -> Outcome:
        """A mirror at work, a cut, and a mirror again."""
        primary, second = await self._pair.paired()
        outcome = Outcome(cut)
        before = (self._ledger.returned, self._ledger.syncs)
        await primary.write(self._seed())
        await asyncio.sleep(self._choose.uniform(*WRITING_SECONDS))
        victims = {Cut.PRIMARY: [primary], Cut.SECONDARY: [second], Cut.BOTH: [primary, second]}[cut]
        generations = {member.name: member.status["generation"] for member in victims}
        started = time.monotonic()
        await asyncio.gather(*(member.vm.cut_power() for member in victims))
        outcome.returned, outcome.syncs = self._ledger.returned - before[0], self._ledger.syncs - before[1]
        if cut is Cut.PRIMARY:
            await self._serves(second, outcome, started, Promise.RETURNED)
            await primary.boot()
        elif cut is Cut.SECONDARY:
            await primary.is_role("ALONE")
            outcome.seconds["alone"] = time.monotonic() - started
            await second.boot()
        else:
            await asyncio.gather(primary.boot(), second.boot())
            serving = await self._pair.serving("PRIM", "ALONE", "JOIN")
            await self._serves(serving, outcome, started, Promise.RETURNED if self._disk else Promise.SYNCED)
            self._said_what_may_be_missing(serving, outcome)
        await self._equal(outcome, started)
        for member in victims:
            self._state_was_whole(member, generations[member.name], outcome)
        return outcome

    async def _serves(self, member: Member, outcome: Outcome, started: float, promise: Promise) -> None:
        """The one that serves now has what was promised; its own writer goes on."""
        await member.is_role("PRIM", "ALONE", "JOIN")
        outcome.seconds["serves"] = time.monotonic() - started
        outcome.broken += self._ledger.settle(await member.records(), promise)
        await member.write(self._seed())

    def _said_what_may_be_missing(self, member: Member, outcome: Outcome) -> None:
        """`Memory` alone may miss something, and then says so."""
        said = any(MAY_BE_MISSING in notice for notice in member.status["notices"])
        if said == self._disk:
            outcome.broken.append(f"{member.name} {'says' if said else 'does not say'} that something may be missing")

    async def _equal(self, outcome: Outcome, started: float) -> None:
        """A mirror again, without a writer: nothing is missing, and the copies are the same."""
        primary, second = await self._pair.paired()
        outcome.seconds["in sync"] = time.monotonic() - started
        await primary.rest()
        outcome.broken += self._ledger.failed
        self._ledger.failed.clear()
        outcome.broken += self._ledger.violations(await primary.records(), Promise.RETURNED)
        outcome.broken += _differences(primary, await primary.tree(), second, await second.tree())
        if outcome.broken:
            # Which writes it is that one of them lacks.
            records = [_flat(await member.records(COPY)) for member in (primary, second)]
            outcome.broken += _differences(primary, records[0], second, records[1])

    def _state_was_whole(self, member: Member, generation: int, outcome: Outcome) -> None:
        """What a daemon found on its disks after the cut was what it had last written, and not nothing."""
        first = member.first_status
        if first["generation"] < generation:
            outcome.broken.append(f"{member.name} came back in generation {first['generation']}, not {generation}")
        if first["outOfSyncObjects"] is None:
            outcome.broken.append(f"{member.name} came back without its difference log")

    def _seed(self) -> str:
        return str(self._choose.getrandbits(32))


def _differences(one: Member, here: Mapping[str, Any], other: Member, there: Mapping[str, Any]) -> list[str]:
    return [
        f"{name}: {here.get(name)} on {one.name}, {there.get(name)} on {other.name}"
        for name in sorted(here.keys() | there.keys())
        if here.get(name) != there.get(name)
    ]


def _flat(records: Mapping[str, Any]) -> dict[str, Any]:
    return {
        f"writer {writer}, {kind} {key}": value
        for writer, kinds in records.items()
        for kind, things in kinds.items()
        for key, value in things.items()
    }
