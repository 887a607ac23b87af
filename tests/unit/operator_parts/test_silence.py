"""Who counts as silent: by changes of the Lease and our own clock, never by the machine's."""

import asyncio
from datetime import UTC, datetime, timedelta

import pytest

from farmstead_operator.silence import Silence
from testbed.virtual_time import in_virtual_time

START = datetime(2026, 11, 23, 8, 0, tzinfo=UTC)
SECONDS = 40.0


class Time:
    """A monotonic clock and a wall clock, which may be set."""

    def __init__(self) -> None:
        self.at = 500.0
        self.jump = timedelta()

    def clock(self) -> float:
        return self.at

    def now(self) -> datetime:
        return START + timedelta(seconds=self.at - 500) + self.jump

    def lease(self, *, seconds_ago: float = 0.0) -> str:
        return (self.now() - timedelta(seconds=seconds_ago)).isoformat()


@pytest.fixture
def time() -> Time:
    return Time()


@pytest.fixture
def told() -> list[str]:
    return []


@pytest.fixture
def silence(time: Time, told: list[str]) -> Silence:
    return Silence(seconds=SECONDS, clock=time.clock, now=time.now, changed=told.append)


def test_silent_after_its_time_and_heard_again_at_once(time: Time, silence: Silence, told: list[str]) -> None:
    silence.heard("vm1", time.lease())
    time.at += SECONDS - 1
    silence.tell()
    assert silence.silent(["vm1"]) == {}
    time.at += 1
    silence.tell()
    assert silence.silent(["vm1"]) == {"vm1": "2026-11-23T08:00:00Z"}
    silence.heard("vm1", time.lease())
    silence.tell()
    assert silence.silent(["vm1"]) == {}
    assert told == ["vm1", "vm1"]


def test_since_when_does_not_move(time: Time, silence: Silence) -> None:
    silence.heard("vm1", time.lease())
    time.at += 60
    silence.tell()
    before = silence.silent(["vm1"])
    time.at += 600
    silence.tell()
    assert silence.silent(["vm1"]) == before


def test_at_first_sight_a_lease_is_as_old_as_it_says(time: Time, silence: Silence) -> None:
    silence.heard("old", time.lease(seconds_ago=3600))
    silence.heard("never", "")
    silence.heard("fresh", time.lease(seconds_ago=5))
    assert set(silence.silent(["old", "never", "fresh"])) == {"old", "never"}
    time.at += SECONDS - 5
    assert "fresh" in silence.silent(["fresh"])


def test_a_lease_from_the_future_is_as_good_as_one_of_now(time: Time, silence: Silence) -> None:
    silence.heard("vm1", time.lease(seconds_ago=-3600))
    time.at += SECONDS
    assert "vm1" in silence.silent(["vm1"])


@pytest.mark.parametrize("jump", [timedelta(days=-1), timedelta(days=1)])
def test_a_wall_clock_that_is_set_silences_nobody(time: Time, silence: Silence, jump: timedelta) -> None:
    silence.heard("vm1", time.lease())
    time.jump = jump
    time.at += 10
    assert silence.silent(["vm1"]) == {}
    silence.heard("vm1", "a machine's clock may say what it likes")
    time.at += SECONDS - 1
    assert silence.silent(["vm1"]) == {}


def test_after_we_were_deaf_everybody_gets_the_whole_time_and_the_silent_stay_so(time: Time, silence: Silence) -> None:
    silence.heard("dead", time.lease(seconds_ago=100))
    silence.heard("alive", time.lease())
    silence.tell()
    time.at += 3600  # the API server was away
    silence.deaf()
    assert set(silence.silent(["dead", "alive"])) == {"dead"}
    time.at += SECONDS
    assert set(silence.silent(["dead", "alive"])) == {"dead", "alive"}


def test_a_machine_without_a_lease_is_not_silent_but_unknown(silence: Silence) -> None:
    assert silence.silent(["vm1"]) == {}
    silence.heard("vm1", "")
    silence.gone("vm1")
    assert silence.silent(["vm1"]) == {}


def test_everybody_is_told_of_in_time() -> None:
    async def story() -> list[tuple[str, float]]:
        loop = asyncio.get_running_loop()
        told: list[tuple[str, float]] = []
        wall = Time()
        silence = Silence(
            seconds=SECONDS,
            clock=loop.time,
            now=wall.now,
            changed=lambda node: told.append((node, round(loop.time() - began))),
        )
        began = loop.time()
        silence.heard("vm1", wall.lease())
        task = asyncio.create_task(silence.run())
        await asyncio.sleep(60)
        silence.heard("vm1", "again")
        await asyncio.sleep(1)
        task.cancel()
        return told

    assert in_virtual_time(story()) == [("vm1", 40), ("vm1", 60)]
