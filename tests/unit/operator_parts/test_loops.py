"""The clusters' loops in virtual time: nothing that was woken is forgotten, and nobody is asked too often."""

import asyncio
from collections.abc import Awaitable, Callable
from itertools import pairwise

import pytest

from farmstead_kube import Permanent, Transient
from farmstead_operator.loops import AT_ONCE, LAST_BACKOFF, PACE_SECONDS, RESYNC_SECONDS, Loops, Outcome
from testbed.virtual_time import in_virtual_time

Key = tuple[str, str]
WEB = ("shop", "web")


class Passes:
    """What a pass does, and when there was one."""

    def __init__(self) -> None:
        self.began: list[float] = []
        self.results: list[str] = []
        self.under_way = self.most = 0
        self.does: Callable[[Key], Awaitable[Outcome]] = nothing
        self.loops = Loops(self.reconcile, self)
        self.loops.open()

    async def reconcile(self, key: Key) -> Outcome:
        self.began.append(now())
        self.under_way += 1
        self.most = max(self.most, self.under_way)
        try:
            return await self.does(key)
        finally:
            self.under_way -= 1

    def reconciled(self, *, result: str, seconds: float) -> None:
        self.results.append(result)


async def nothing(_: Key) -> Outcome:
    return Outcome()


def now() -> float:
    return asyncio.get_running_loop().time()


def test_the_first_wake_is_acted_on_at_once_and_the_next_ones_are_one_pass() -> None:
    async def story() -> None:
        passes, began = Passes(), now()
        passes.loops.wake(WEB)
        await asyncio.sleep(0.01)
        for _ in range(20):
            passes.loops.wake(WEB)
            await asyncio.sleep(0.01)
        await asyncio.sleep(5)
        first, second = passes.began
        assert first == began
        assert second - first == pytest.approx(PACE_SECONDS, abs=0.02)
        await passes.loops.close()

    in_virtual_time(story())


def test_a_wake_during_a_pass_is_not_lost() -> None:
    async def story() -> None:
        passes = Passes()

        async def slow(key: Key) -> Outcome:
            await asyncio.sleep(3)
            if len(passes.began) == 1:
                passes.loops.wake(key)
            await asyncio.sleep(3)
            return Outcome()

        passes.does = slow
        passes.loops.wake(WEB)
        await asyncio.sleep(60)
        assert len(passes.began) == 2
        await passes.loops.close()

    in_virtual_time(story())


def test_a_wake_during_the_last_pass_of_a_cluster_is_not_lost_either() -> None:
    async def story() -> None:
        passes = Passes()

        async def last(key: Key) -> Outcome:
            if len(passes.began) == 1:
                passes.loops.wake(key)
            return Outcome(over=True)

        passes.does = last
        passes.loops.wake(WEB)
        await asyncio.sleep(2 * RESYNC_SECONDS)
        assert len(passes.began) == 2, "and then it is over: no pass by itself"
        passes.loops.wake(WEB)
        await asyncio.sleep(1)
        assert len(passes.began) == 3
        await passes.loops.close()

    in_virtual_time(story())


def test_a_pass_says_when_it_wants_the_next_one_and_there_is_one_anyway() -> None:
    async def story() -> None:
        passes = Passes()

        async def ask(_: Key) -> Outcome:
            return Outcome(wake_after=7.0 if len(passes.began) == 1 else None)

        passes.does = ask
        passes.loops.wake(WEB)
        await asyncio.sleep(8 + RESYNC_SECONDS)
        first, second, third, *_ = passes.began
        assert second - first == pytest.approx(7 + PACE_SECONDS, abs=0.02)
        assert 0.8 * RESYNC_SECONDS <= third - second <= RESYNC_SECONDS + 1
        await passes.loops.close()

    in_virtual_time(story())


@pytest.mark.parametrize("wakes", [0, 50])
def test_failures_are_tried_again_ever_later_whoever_wakes(wakes: int) -> None:
    async def story() -> None:
        passes = Passes()

        async def fail(_: Key) -> Outcome:
            raise ValueError("a defect")

        passes.does = fail
        passes.loops.wake(WEB)
        for _ in range(wakes):
            await asyncio.sleep(0.1)
            passes.loops.wake(WEB)
        await asyncio.sleep(400 - wakes / 10)
        gaps = [later - earlier for earlier, later in pairwise(passes.began)]
        for number, gap in enumerate(gaps):
            ceiling = min(LAST_BACKOFF, 0.5 * 2**number)
            assert ceiling / 2 <= gap <= ceiling + 0.01
        assert gaps[-1] > LAST_BACKOFF / 2
        passes.does = nothing
        await asyncio.sleep(LAST_BACKOFF)
        assert passes.results[-1] == "success"
        passes.does = fail
        passes.loops.wake(WEB)
        await asyncio.sleep(2)
        assert len(passes.results) - passes.results.index("success") >= 3, "after a success it begins small again"
        await passes.loops.close()

    in_virtual_time(story())


def test_the_api_server_s_own_delay_is_kept() -> None:
    async def story() -> None:
        passes = Passes()

        async def refused(_: Key) -> Outcome:
            raise Transient("too busy", retry_after=20.0)

        passes.does = refused
        passes.loops.wake(WEB)
        await asyncio.sleep(19)
        assert len(passes.began) == 1
        await asyncio.sleep(2)
        assert len(passes.began) == 2
        assert passes.results == ["transient", "transient"]
        await passes.loops.close()

    in_virtual_time(story())


def test_what_failed_for_good_counts_as_an_error_and_is_tried_again() -> None:
    async def story() -> None:
        passes = Passes()

        async def refused(_: Key) -> Outcome:
            raise Permanent("no right", reason="Forbidden", status=403)

        passes.does = refused
        passes.loops.wake(WEB)
        await asyncio.sleep(1)
        assert set(passes.results) == {"error"}
        assert len(passes.results) >= 2
        await passes.loops.close()

    in_virtual_time(story())


def test_so_many_passes_at_one_time_and_no_more_and_every_cluster_has_its_turn() -> None:
    async def story() -> None:
        passes, served = Passes(), set()

        async def slow(key: Key) -> Outcome:
            await asyncio.sleep(1)
            served.add(key)
            return Outcome()

        passes.does = slow
        keys = [("shop", f"web{number}") for number in range(3 * AT_ONCE)]
        for key in keys:
            passes.loops.wake(key)
        await asyncio.sleep(3.5)
        assert passes.most == AT_ONCE
        assert served == set(keys)
        await passes.loops.close()

    in_virtual_time(story())


def test_nothing_runs_before_everything_was_seen_nor_after_the_end() -> None:
    async def story() -> None:
        passes = Passes()
        loops = Loops(passes.reconcile, passes)
        loops.wake(WEB)
        await asyncio.sleep(10)
        assert passes.began == []
        loops.open()
        await asyncio.sleep(1)
        assert len(passes.began) == 1
        await loops.close()
        loops.wake(WEB)
        await asyncio.sleep(10)
        assert len(passes.began) == 1

    in_virtual_time(story())
