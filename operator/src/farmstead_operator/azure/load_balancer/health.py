"""What Azure says of the backends behind each listener. Reads only.

Asked for on a period; soon, and then at growing distances, after the load balancer or the answer has changed: probes
need a moment, and one change seldom comes alone.

An answer that can't be had for three periods turns every backend to Unknown: an old Up would be a lie.
"""

from __future__ import annotations

import asyncio
import logging

from farmstead_api.farmcluster import Backend
from farmstead_operator.azure.arm import Arm
from farmstead_operator.azure.clock import Clock
from farmstead_operator.azure.document import Json
from farmstead_operator.azure.errors import AdapterError
from farmstead_operator.azure.load_balancer.client import LoadBalancerClient
from farmstead_operator.azure.load_balancer.writer import LoadBalancerWriter
from farmstead_operator.azure.shares import ClusterName, ClusterShare, timestamp

_AT_ONCE = 4
_PATIENCE = 3
_SOON_SECONDS = 2.0
_STATES = {"up": "Up", "down": "Down"}
_LOG = logging.getLogger(__name__)


class HealthReader:
    """Keeps the backends in the states of one writer's clusters up to date. `run` is its task."""

    def __init__(self, writer: LoadBalancerWriter, *, arm: Arm, clock: Clock) -> None:
        self._writer = writer
        self._client = LoadBalancerClient(arm, writer.key)
        self._clock = clock
        self._period = arm.settings.health_seconds
        self._limit = asyncio.Semaphore(_AT_ONCE)
        self._seen_at: dict[ClusterName, float] = {}

    async def run(self) -> None:
        """Ask, for ever."""
        soon = min(_SOON_SECONDS, self._period)
        delay = self._period
        while True:
            if await self._clock.wait(self._writer.settled, delay):
                self._writer.settled.clear()
                await self._clock.wait(asyncio.Event(), soon)
                delay = soon
            try:
                changed = await self.read()
            except Exception:  # noqa: BLE001 - a defect must not end the task
                _LOG.exception("defect while reading the health of load balancer %s", self._writer.key.name)
                changed = False
            delay = soon if changed else min(self._period, 2 * delay)

    async def read(self) -> bool:
        """Ask once for every cluster that is in place; whether anything is other than before."""
        slots = list(self._writer.board.slots.items())
        shares = [slot.share for _, slot in slots if slot.share is not None and slot.state.in_place]
        self._seen_at = {share.cluster: self._seen_at.get(share.cluster, self._clock.time()) for share in shares}
        return any(await asyncio.gather(*(self._read_cluster(share) for share in shares)))

    async def _read_cluster(self, share: ClusterShare) -> bool:
        try:
            answers = await asyncio.gather(*(self._read_rule(share, one.name) for one in share.listeners))
        except AdapterError as problem:
            _LOG.info("health of %s: %s", share.cluster, problem)
            if self._clock.time() - self._seen_at[share.cluster] > _PATIENCE * self._period:
                return self._report(share, unknown(share, problem.reason))
            return False
        self._seen_at[share.cluster] = self._clock.time()
        return self._report(share, tuple(backend for answer in answers for backend in answer))

    async def _read_rule(self, share: ClusterShare, listener: str) -> tuple[Backend, ...]:
        async with self._limit:
            return backends(listener, await self._client.rule_health(share.rule_name(listener)))

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
