"""What Azure says of the backends behind each listener. Reads only.

Asked for on a period, one cluster after the other, evenly; soon, and then at growing distances, after the load balancer
or the answer has changed: probes need a moment, and one change seldom comes alone. A question counts as a write, so all
readers of a subscription share a pace: with more listeners than it allows in a period, each is asked for less often.

What can't be had three times, and for three periods, turns every backend to Unknown: an old Up would be a lie.
"""

from __future__ import annotations

import asyncio
import logging

from farmstead_api.farmcluster import Backend
from farmstead_operator.azure.arm import Arm
from farmstead_operator.azure.clock import Clock
from farmstead_operator.azure.document import Json
from farmstead_operator.azure.errors import AdapterError, TransientError
from farmstead_operator.azure.load_balancer.client import LoadBalancerClient
from farmstead_operator.azure.load_balancer.writer import LoadBalancerWriter
from farmstead_operator.azure.pace import Pace
from farmstead_operator.azure.shares import ClusterName, ClusterShare, timestamp

_AT_ONCE = 4
_PATIENCE = 3
_SOON_SECONDS = 2.0
_STATES = {"up": "Up", "down": "Down"}
_LOG = logging.getLogger(__name__)


class HealthReader:
    """Keeps the backends in the states of one writer's clusters up to date. `run` is its task."""

    def __init__(self, writer: LoadBalancerWriter, *, arm: Arm, clock: Clock, pace: Pace) -> None:
        self._writer = writer
        self._client = LoadBalancerClient(arm, writer.key)
        self._clock = clock
        self._pace = pace
        self._period = arm.settings.health_seconds
        self._soon = min(_SOON_SECONDS, self._period)
        self._limit = asyncio.Semaphore(_AT_ONCE)
        self._seen_at: dict[ClusterName, float] = {}
        self._failures: dict[ClusterName, int] = {}

    async def run(self) -> None:
        """Ask, for ever."""
        over = self._period
        while True:
            try:
                news = await self._round(over)
            except Exception:  # noqa: BLE001 - a defect must not end the task
                _LOG.exception("defect while reading the health of load balancer %s", self._writer.key.name)
                news = False
            over = self._soon if news else min(self._period, 2 * over)

    async def _round(self, over: float) -> bool:
        """Ask once for every cluster that is in place, evenly over so many seconds; whether there is any news.

        News from the writer end a slow round: what it wrote is worth a look soon.
        """
        shares = self._in_place()
        tasks: list[asyncio.Task[bool]] = []
        settled = False
        async with asyncio.TaskGroup() as group:
            for share in shares or (None,):
                settled = await self._settled(over / max(1, len(shares)), hurry=over <= self._soon)
                if settled:
                    break
                if share is not None:
                    tasks.append(group.create_task(self._read_cluster(share)))
        return settled or any(task.result() for task in tasks)

    def _in_place(self) -> list[ClusterShare]:
        slots = self._writer.board.slots.values()
        shares = [slot.share for slot in slots if slot.share is not None and slot.state.in_place]
        self._seen_at = {share.cluster: self._seen_at.get(share.cluster, self._clock.time()) for share in shares}
        self._failures = {share.cluster: self._failures.get(share.cluster, 0) for share in shares}
        return shares

    async def _settled(self, seconds: float, *, hurry: bool) -> bool:
        """Wait so long; whether the writer had news before. A round in a hurry goes to its end."""
        if not await self._clock.wait(asyncio.Event() if hurry else self._writer.settled, seconds):
            return False
        self._writer.settled.clear()
        return True

    async def _read_cluster(self, share: ClusterShare) -> bool:
        """Ask for one cluster; whether the answer is another one than before."""
        try:
            answers = await asyncio.gather(*(self._read_rule(share, one.name) for one in share.listeners))
        except AdapterError as problem:
            return self._failed(share, problem)
        self._seen_at[share.cluster], self._failures[share.cluster] = self._clock.time(), 0
        return self._report(share, tuple(backend for answer in answers for backend in answer))

    async def _read_rule(self, share: ClusterShare, listener: str) -> tuple[Backend, ...]:
        async with self._limit:
            await self._pace.turn()
            return backends(listener, await self._client.rule_health(share.rule_name(listener)))

    def _failed(self, share: ClusterShare, problem: AdapterError) -> bool:
        _LOG.info("health of %s: %s", share.cluster, problem)
        if isinstance(problem, TransientError) and problem.delay is not None:
            self._pace.hold(problem.delay)
        self._failures[share.cluster] += 1
        silent = self._clock.time() - self._seen_at[share.cluster]
        if self._failures[share.cluster] < _PATIENCE or silent <= _PATIENCE * self._period:
            return False
        return self._report(share, unknown(share, problem.reason))

    def _report(self, share: ClusterShare, found: tuple[Backend, ...]) -> bool:
        slot = self._writer.board.slots.get(share.cluster)
        if slot is None or slot.share is None or slot.state.backends == found:
            return False
        now = timestamp(self._clock.time())
        self._writer.board.update(share.cluster, backends=found, backends_observed_at=now)
        return True


def backends(listener: str, answer: Json) -> tuple[Backend, ...]:
    """One rule's answer as backends, in the order of their addresses."""
    found = [
        Backend(
            listener=listener,
            address=str(one.get("ipAddress") or ""),
            state=_STATES.get(str(one.get("state")).casefold(), "Unknown"),
            reason=str(one.get("reason") or ""),
        )
        for one in answer.get("loadBalancerBackendAddresses") or []
    ]
    return tuple(sorted(found, key=lambda backend: backend.address))


def unknown(share: ClusterShare, reason: str) -> tuple[Backend, ...]:
    """What is known when Azure does not answer."""
    return tuple(
        Backend(listener=listener.name, address=backend.address, state="Unknown", reason=reason)
        for listener in share.listeners
        for backend in share.backends
    )
