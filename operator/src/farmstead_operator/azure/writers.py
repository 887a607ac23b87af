"""The registry of writers: what the clusters' loops talk to.

Level-based and idempotent: a loop declares what its cluster wants as often as it likes and reads the state; `on_change`
tells it when to look again. One writer task a load balancer, and one that reads the health of its backends.
"""

from __future__ import annotations

import asyncio
import random
from collections.abc import Callable
from dataclasses import dataclass

from farmstead_api.farmcluster import PendingOperation
from farmstead_operator.azure.arm import Arm, Recorder
from farmstead_operator.azure.clock import Clock, SystemClock
from farmstead_operator.azure.load_balancer.board import OnChange
from farmstead_operator.azure.load_balancer.health import HealthReader
from farmstead_operator.azure.load_balancer.writer import LoadBalancerWriter
from farmstead_operator.azure.pace import Pace
from farmstead_operator.azure.settings import AzureSettings
from farmstead_operator.azure.shares import ClusterName, ClusterShare, LoadBalancerKey, ShareState


@dataclass(frozen=True, slots=True)
class _Running:
    writer: LoadBalancerWriter
    tasks: tuple[asyncio.Task[None], ...]


class Writers:
    """All load balancers of this operator. Must be closed."""

    def __init__(
        self,
        settings: AzureSettings,
        *,
        on_change: OnChange,
        recorder: Recorder | None = None,
        clock: Clock | None = None,
        jitter: Callable[[], float] = random.random,
        before_write: Callable[[], None] = lambda: None,
    ) -> None:
        """`before_write` is called before each request that may change something in Azure."""
        self._arm = Arm(settings, recorder, before_write)
        self._on_change = on_change
        self._clock = clock or SystemClock()
        self._jitter = jitter
        self._running: dict[str, _Running] = {}
        self._paces: dict[str, Pace] = {}
        """By subscription: how often backends' health is asked for."""

    async def declare(self, key: LoadBalancerKey, share: ClusterShare) -> None:
        """The cluster wants this share of the load balancer; told again, nothing happens."""
        self._writer(key).declare(share)

    async def withdraw(self, key: LoadBalancerKey, cluster: tuple[str, str]) -> None:
        """The cluster (namespace, name) wants nothing of it any more: `state(...).gone` when that is so."""
        self._writer(key).withdraw(ClusterName(*cluster))

    async def resume(self, key: LoadBalancerKey, pending: PendingOperation) -> None:
        """Hand back what a former operator left in a cluster's status; before the cluster's first `declare`."""
        self._writer(key).resume(pending)

    async def forget(self, key: LoadBalancerKey, cluster: tuple[str, str]) -> None:
        """Drop the state of a cluster that is gone; the writer ends with its last one."""
        running = self._running.get(key.identity)
        if running is None:
            return
        running.writer.board.forget(ClusterName(*cluster))
        if not running.writer.board.slots:
            del self._running[key.identity]
            await _end(running.tasks)

    def state(self, key: LoadBalancerKey, cluster: tuple[str, str]) -> ShareState:
        """What is known of the cluster's share; all empty when nothing is."""
        running = self._running.get(key.identity)
        return running.writer.state(ClusterName(*cluster)) if running is not None else ShareState()

    async def close(self) -> None:
        """End all tasks where they are, without waiting for Azure: the next operator goes on from what it reads."""
        running, self._running = list(self._running.values()), {}
        await _end(tuple(task for one in running for task in one.tasks))
        await self._arm.close()

    def _writer(self, key: LoadBalancerKey) -> LoadBalancerWriter:
        running = self._running.get(key.identity)
        if running is None:
            running = self._running[key.identity] = self._start(key)
        return running.writer

    def _start(self, key: LoadBalancerKey) -> _Running:
        writer = LoadBalancerWriter(
            key, arm=self._arm, clock=self._clock, jitter=self._jitter, on_change=self._on_change
        )
        health = HealthReader(writer, arm=self._arm, clock=self._clock, pace=self._pace(key.subscription_id))
        tasks = (
            asyncio.create_task(writer.run(), name=f"azure writer {key.name}"),
            asyncio.create_task(health.run(), name=f"azure health {key.name}"),
        )
        return _Running(writer, tasks)

    def _pace(self, subscription_id: str) -> Pace:
        settings = self._arm.settings
        new = Pace(at_once=settings.health_at_once, every_seconds=settings.health_every_seconds)
        return self._paces.setdefault(subscription_id, new)


async def _end(tasks: tuple[asyncio.Task[None], ...]) -> None:
    for task in tasks:
        task.cancel()
    await asyncio.gather(*tasks, return_exceptions=True)
