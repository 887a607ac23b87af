"""How often Azure is asked for the backends' health, in virtual time: evenly, never too often, in the end in vain."""

from __future__ import annotations

import asyncio
from dataclasses import replace
from itertools import pairwise
from typing import Any

import pytest
from azure.core.exceptions import HttpResponseError

from farmstead_operator.azure.clock import SystemClock
from farmstead_operator.azure.load_balancer.health import HealthReader
from farmstead_operator.azure.load_balancer.writer import LoadBalancerWriter
from farmstead_operator.azure.pace import Pace
from farmstead_operator.azure.settings import AzureSettings, CredentialSettings
from farmstead_operator.azure.shares import ClusterName, LoadBalancerKey
from testbed.virtual_time import in_virtual_time
from unit.azure.builders import INSTANCE, share

PERIOD = 30.0
ANSWER_SECONDS = 3.0


class LoopClock(SystemClock):
    def time(self) -> float:
        return asyncio.get_running_loop().time()


class Throttled:
    """The answer 429, as the SDK hands it on."""

    status_code = 429
    reason = "Too Many Requests"
    headers = {"Retry-After": "20"}  # noqa: RUF012
    content_type = "application/json"
    request = None

    def text(self, encoding: str | None = None) -> str:
        return '{"error": {"code": "SubscriptionRequestsThrottled", "message": "slower"}}'


class Subscription:
    """Azure as far as health is concerned, and the arm that reaches it: each answer takes seconds."""

    def __init__(self, **settings: Any) -> None:
        credential = CredentialSettings()
        self.settings = replace(AzureSettings(instance=INSTANCE, credential=credential), **settings)
        self.asked: list[tuple[float, str]] = []
        self.state = "Up"
        self.throttles = False
        self.at_once = self.most = 0
        self.pace = Pace(at_once=self.settings.health_at_once, every_seconds=self.settings.health_every_seconds)
        self.tasks: list[asyncio.Task[None]] = []

    # -- the SDK's side

    def network(self, _subscription: str) -> Subscription:
        return self

    @property
    def load_balancer_load_balancing_rules(self) -> Subscription:
        return self

    async def begin_health(self, _group: str, balancer: str, rule: str, **_: Any) -> Subscription:
        self.asked.append((asyncio.get_running_loop().time(), f"{balancer}/{rule}"))
        if self.throttles:
            raise HttpResponseError("429", response=Throttled())
        self.at_once += 1
        self.most = max(self.most, self.at_once)
        await asyncio.sleep(ANSWER_SECONDS)
        self.at_once -= 1
        return self

    async def result(self) -> Any:
        return {"loadBalancerBackendAddresses": [{"ipAddress": "10.0.1.4", "state": self.state, "reason": "so"}]}

    # -- the test's

    def balancer(self, number: int, clusters: int) -> LoadBalancerWriter:
        """A load balancer with so many clusters in place, and its reader at work."""
        key = LoadBalancerKey("sub", "group", f"lb{number}")
        clock = LoopClock()
        arm: Any = self
        writer = LoadBalancerWriter(key, arm=arm, clock=clock, jitter=lambda: 0.0, on_change=lambda _: None)
        for one in range(clusters):
            wanted = share(f"c{one}")
            writer.board.wish(wanted.cluster, wanted, clock.time())
            writer.board.settle(wanted.cluster, writer.board.slots[wanted.cluster].version)
        reader = HealthReader(writer, arm=arm, clock=clock, pace=self.pace)
        self.tasks.append(asyncio.create_task(reader.run()))
        return writer

    def between(self, since: float, until: float) -> list[float]:
        """When it was asked, counted from the loop's beginning."""
        return [at - 1000.0 for at, _ in self.asked if since <= at - 1000.0 < until]

    async def close(self) -> None:
        for task in self.tasks:
            task.cancel()
        await asyncio.gather(*self.tasks, return_exceptions=True)


def states(writer: LoadBalancerWriter) -> set[str]:
    return {backend.state for slot in writer.board.slots.values() for backend in slot.state.backends}


def test_a_round_is_spread_evenly_over_the_period() -> None:
    async def story() -> None:
        azure = Subscription()
        azure.balancer(0, clusters=10)
        await asyncio.sleep(600)
        asked = azure.between(300, 570)
        assert len(asked) == pytest.approx(270 / PERIOD * 10, abs=12)
        gaps = [later - earlier for earlier, later in pairwise(asked)]
        assert max(gaps) <= PERIOD / 10 + ANSWER_SECONDS + 0.1
        assert min(gaps) >= PERIOD / 10 - 0.1
        await azure.close()

    in_virtual_time(story())


def test_a_hundred_clusters_are_asked_for_at_the_subscriptions_pace_and_none_is_left_out() -> None:
    async def story() -> None:
        azure = Subscription()
        balancers = [azure.balancer(number, clusters=10) for number in range(10)]
        for one in balancers:
            one.settled.set()
        await asyncio.sleep(1200)
        for begin in range(0, 1200, 50):
            most = 50 / azure.settings.health_every_seconds + azure.settings.health_at_once + 1
            assert len(azure.between(begin, begin + 50)) <= most
        assert len(azure.between(0, 300)) <= 330, "a third of what the provider takes"
        late = {name for at, name in azure.asked if at > 1000 + 1000}
        assert len(late) == 100, "each within 200 s"
        await azure.close()

    in_virtual_time(story())


def test_a_write_is_looked_after_soon_and_then_ever_more_seldom() -> None:
    async def story() -> None:
        azure = Subscription()
        writer = azure.balancer(0, clusters=1)
        await asyncio.sleep(400)
        before = len(azure.asked)
        writer.settled.set()
        await asyncio.sleep(6)
        assert len(azure.asked) - before == 1, "2 s later"
        await asyncio.sleep(30)
        gaps = [later - earlier for (earlier, _), (later, _) in pairwise(azure.asked[before:])]
        assert gaps == sorted(gaps)
        await azure.close()

    in_virtual_time(story())


def test_a_refusal_for_the_number_of_requests_holds_everybody() -> None:
    async def story() -> None:
        azure = Subscription()
        for number in range(3):
            azure.balancer(number, clusters=5)
        await asyncio.sleep(200)
        azure.throttles = True
        begun = len(azure.asked)
        while len(azure.asked) == begun:
            await asyncio.sleep(0.1)
        azure.throttles = False
        first = azure.asked[begun][0]
        await asyncio.sleep(60)
        after = [at for at, _ in azure.asked if at > first + 0.2]
        assert min(after) >= first + 20, "what was under way had been asked before the refusal"
        assert len(azure.asked) > begun + 15
        await azure.close()

    in_virtual_time(story())


def test_what_can_not_be_had_three_times_is_doubted_and_not_before() -> None:
    async def story() -> None:
        azure = Subscription()
        writer = azure.balancer(0, clusters=1)
        await asyncio.sleep(200)
        assert states(writer) == {"Up"}
        azure.throttles = True
        await asyncio.sleep(PERIOD)
        assert states(writer) == {"Up"}
        await asyncio.sleep(200)
        assert states(writer) == {"Unknown"}
        azure.throttles = False
        await asyncio.sleep(PERIOD + 30)
        assert states(writer) == {"Up"}
        await azure.close()

    in_virtual_time(story())


def test_a_late_first_failure_is_no_reason_for_doubt() -> None:
    """With so many clusters that each is asked for every five minutes."""

    async def story() -> None:
        azure = Subscription(health_at_once=1, health_every_seconds=30.0)
        writer = azure.balancer(0, clusters=10)
        await asyncio.sleep(1000)
        azure.throttles = True
        await asyncio.sleep(200)
        azure.throttles = False
        assert "Unknown" not in states(writer)
        await azure.close()

    in_virtual_time(story())


def test_the_end_of_a_cluster_in_the_middle_of_a_round_is_no_defect(caplog: pytest.LogCaptureFixture) -> None:
    async def story() -> None:
        azure = Subscription()
        writer = azure.balancer(0, clusters=4)
        await asyncio.sleep(100)
        writer.board.forget(ClusterName("shop", "c2"))
        await asyncio.sleep(100)
        assert "defect" not in caplog.text
        await azure.close()

    in_virtual_time(story())
