"""Who leads, through lost answers, foreign hands and clocks that jump; time is virtual, the API server a dictionary."""

import asyncio
from collections.abc import Awaitable, Callable
from copy import deepcopy
from typing import Any

import pytest

from farmstead_kube import Conflict, Json, NotFound, Transient
from farmstead_operator.leadership import Elector, LeadershipLost
from farmstead_operator.settings import LeaderElection
from testbed.virtual_time import in_virtual_time

SETTINGS = LeaderElection(lease_seconds=15, renew_deadline_seconds=10, retry_seconds=2)
Fault = Callable[[], Awaitable[None]]


class Leases:
    """One Lease, compared and swapped as the API server does."""

    def __init__(self) -> None:
        self.lease: Json | None = None
        self.writes = 0
        self.before: Fault | None = None
        """Happens before a write is taken."""
        self.after: Fault | None = None
        """Happens between a write and its answer."""

    @property
    def holder(self) -> str:
        return str(self.lease["spec"]["holderIdentity"]) if self.lease else ""

    async def get(self, _resource: Any, name: str, *, namespace: str) -> Json:
        if self.lease is None:
            raise NotFound(name)
        return deepcopy(self.lease)

    async def create(self, _resource: Any, body: Json, *, namespace: str) -> Json:
        if self.lease is not None:
            raise Conflict("it is there")
        return await self._write(body)

    async def replace(self, _resource: Any, body: Json) -> Json:
        return await self._write(body)

    async def _write(self, body: Json) -> Json:
        if self.before is not None:
            await self.before()
        if self.lease and body["metadata"]["resourceVersion"] != self.lease["metadata"]["resourceVersion"]:
            raise Conflict("it has changed")
        self.writes += 1
        self.lease = body | {"metadata": body["metadata"] | {"resourceVersion": str(self.writes)}}
        if self.after is not None:
            await self.after()
        return deepcopy(self.lease)


class Skewed:
    """A process's own clock: the loop's, and a jump."""

    def __init__(self) -> None:
        self.jump = 0.0

    def __call__(self) -> float:
        return asyncio.get_running_loop().time() + self.jump


def elector(leases: Leases, name: str, clock: Callable[[], float] | None = None) -> Elector:
    client: Any = leases
    return Elector(client, SETTINGS, namespace="system", identity=name, clock=clock or Skewed())


def now() -> float:
    return asyncio.get_running_loop().time()


async def refuse() -> None:
    raise Transient("no API server")


async def break_down() -> None:
    raise ValueError("a defect, not a KubeError")


async def hang() -> None:
    await asyncio.Event().wait()


def test_the_first_takes_it_and_a_standby_waits_as_long_as_it_is_renewed() -> None:
    async def story() -> None:
        leases = Leases()
        one, two = elector(leases, "one"), elector(leases, "two")
        await one.acquire()
        keeping = asyncio.create_task(one.keep())
        with pytest.raises(TimeoutError):
            async with asyncio.timeout(600):
                await two.acquire()
        assert leases.holder == "one"
        assert not keeping.done()
        keeping.cancel()

    in_virtual_time(story())


def test_a_standby_takes_over_after_the_lease_and_not_before() -> None:
    async def story() -> None:
        leases = Leases()
        await elector(leases, "one").acquire()
        began = now()
        await elector(leases, "two").acquire()
        assert leases.holder == "two"
        assert 15 <= now() - began <= 15 + 2
        assert leases.lease
        assert leases.lease["spec"]["leaseTransitions"] == 1

    in_virtual_time(story())


def test_a_lease_given_away_is_taken_at_once() -> None:
    async def story() -> None:
        leases = Leases()
        one = elector(leases, "one")
        await one.acquire()
        await one.release()
        began = now()
        await elector(leases, "two").acquire()
        assert (leases.holder, now() - began) == ("two", 0)

    in_virtual_time(story())


@pytest.mark.parametrize("fault", [refuse, break_down, hang])
def test_a_leader_that_can_t_renew_ends_before_the_lease_does(fault: Fault) -> None:
    async def story() -> None:
        leases = Leases()
        one = elector(leases, "one")
        await one.acquire()
        began = now()
        leases.before = fault
        with pytest.raises(LeadershipLost):
            await one.keep()
        assert 10 <= now() - began <= 10 + 2

    in_virtual_time(story())


@pytest.mark.parametrize("fault", [refuse, break_down, hang])
def test_one_lost_renewal_is_made_up_for(fault: Fault) -> None:
    async def story() -> None:
        leases = Leases()
        one = elector(leases, "one")
        await one.acquire()

        async def once() -> None:
            leases.before = None
            await fault()

        leases.before = once
        keeping = asyncio.create_task(one.keep())
        await asyncio.sleep(60)
        assert not keeping.done()
        assert leases.holder == "one"
        keeping.cancel()

    in_virtual_time(story())


def test_a_renewal_whose_answer_was_lost_counts_at_the_next_look() -> None:
    async def story() -> None:
        leases = Leases()
        one = elector(leases, "one")
        await one.acquire()

        async def once() -> None:
            leases.after = None
            raise Transient("the connection broke after the write")

        leases.after = once
        keeping = asyncio.create_task(one.keep())
        await asyncio.sleep(60)
        assert not keeping.done()
        keeping.cancel()

    in_virtual_time(story())


def test_a_leader_whose_lease_was_taken_ends_at_its_next_renewal() -> None:
    async def story() -> None:
        leases = Leases()
        one = elector(leases, "one")
        await one.acquire()
        assert leases.lease
        leases.lease["spec"] = leases.lease["spec"] | {"holderIdentity": "two"}
        leases.lease["metadata"] = leases.lease["metadata"] | {"resourceVersion": "other"}
        began = now()
        with pytest.raises(LeadershipLost, match="taken by two"):
            await one.keep()
        assert now() - began == SETTINGS.retry_seconds

    in_virtual_time(story())


def test_a_leader_that_slept_through_its_deadline_ends_unless_its_lease_is_still_its_own() -> None:
    async def story() -> None:
        leases, clock = Leases(), Skewed()
        one = elector(leases, "one", clock)
        assert not one.leads
        await one.acquire()
        assert one.leads
        clock.jump = 3600  # the machine was suspended; meanwhile:
        assert not one.leads, "so nothing is written any more"
        await elector(leases, "two").acquire()
        with pytest.raises(LeadershipLost):
            await one.keep()
        assert leases.holder == "two"

    in_virtual_time(story())


@pytest.mark.parametrize("jump", [3600.0, -900.0])
def test_the_times_in_the_lease_are_another_clock_s_and_never_believed(jump: float) -> None:
    """A standby counts from when it saw a Lease change, whatever time the holder's clock wrote into it."""

    async def story() -> None:
        leases = Leases()
        await elector(leases, "one").acquire()
        assert leases.lease
        leases.lease["spec"]["renewTime"] = "1999-01-01T00:00:00.000000Z" if jump < 0 else "2099-01-01T00:00:00.000000Z"
        clock = Skewed()
        clock.jump = jump
        began = now()
        await elector(leases, "two", clock).acquire()
        assert 15 <= now() - began <= 15 + 2

    in_virtual_time(story())


def test_of_two_that_see_it_free_one_gets_it() -> None:
    async def story() -> None:
        leases = Leases()
        await elector(leases, "old").acquire()
        leases.before = lambda: asyncio.sleep(0.1)  # so that both have read before either writes
        tasks = [asyncio.create_task(elector(leases, name).acquire()) for name in ("one", "two")]
        done, pending = await asyncio.wait(tasks, timeout=20)
        assert (len(done), len(pending)) == (1, 1)
        for task in pending:
            task.cancel()

    in_virtual_time(story())
