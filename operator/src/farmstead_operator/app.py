"""The operator, put together: standby until it leads; then watches, kopf, loops and writers until anything fails.

Whatever ends, ends the process: a new one starts from what is, which is the only recovery that is ever tested. Nothing
is decided before everything that there is has been seen.
"""

import asyncio
import contextlib
import logging
import os
import signal
import time
from collections.abc import Callable, Coroutine
from datetime import UTC, datetime
from functools import partial
from pathlib import Path
from typing import NoReturn

from farmstead_api.names import OPERATOR_FIELD_MANAGER
from farmstead_kube import Client, EventRecorder, connect
from farmstead_operator.azure.desired import Defaults
from farmstead_operator.balancers import Balancers, Writers
from farmstead_operator.clusters.observed import Key
from farmstead_operator.config_maps import ConfigMaps
from farmstead_operator.handlers import Seen, run_kopf
from farmstead_operator.health import Health, serving
from farmstead_operator.leadership import Elector, LeadershipLost
from farmstead_operator.loops import Loops, Outcome
from farmstead_operator.metrics import Metrics
from farmstead_operator.observer import Observer
from farmstead_operator.reconciler import Reconciler
from farmstead_operator.settings import Settings, azure_defaults, azure_settings
from farmstead_operator.silence import Silence
from farmstead_operator.stores import Stores
from farmstead_operator.watchdog import Watchdog
from farmstead_operator.watches import Watches

log = logging.getLogger(__name__)

KOPF_PAUSE_SECONDS = 2.0
Adapter = Callable[[Metrics, Callable[[Key], None], Callable[[], None]], Writers]
"""Makes a cloud's writers: where calls are counted, whom their news wake, what is asked before each write."""


async def run(settings: Settings) -> None:
    """Run one replica until SIGTERM; raises what made it fail."""
    stop = asyncio.Event()
    for number in (signal.SIGTERM, signal.SIGINT):
        asyncio.get_running_loop().add_signal_handler(number, stop.set)
    health, metrics = Health(), Metrics()
    adapter = _adapter(settings)
    kubeconfig = Path(settings.kubeconfig) if settings.kubeconfig else None
    async with contextlib.AsyncExitStack() as stack:
        client = await connect(kubeconfig=kubeconfig, field_manager=OPERATOR_FIELD_MANAGER)
        stack.push_async_callback(client.close)
        # Connections of its own: a leader that is busy must still be able to say that it leads.
        voice = await connect(kubeconfig=kubeconfig, field_manager=OPERATOR_FIELD_MANAGER)
        stack.push_async_callback(voice.close)
        port = await stack.enter_async_context(serving(settings.http, health, metrics))
        log.info("health, readiness and metrics on port %d", port)
        elector = Elector(voice, settings.leader_election, namespace=settings.namespace, identity=settings.identity)
        if not await _unless(stop, elector.acquire()):
            return
        client.before_write = partial(_end_unless_leading, elector)
        health.leading = True
        metrics.leader.set(1)
        engine = Engine(settings, client, adapter=adapter, health=health, metrics=metrics)
        stack.push_async_callback(elector.release)
        stack.push_async_callback(engine.close)
        async with asyncio.TaskGroup() as group:
            tasks = [group.create_task(_keep(elector)), group.create_task(engine.run())]
            await stop.wait()
            for task in tasks:
                task.cancel()


async def _unless(stop: asyncio.Event, work: Coroutine[None, None, None]) -> bool:
    """Whether the work ended before somebody asked to stop; it is cancelled otherwise."""
    task, stopped = asyncio.create_task(work), asyncio.create_task(stop.wait())
    try:
        await asyncio.wait({task, stopped}, return_when=asyncio.FIRST_COMPLETED)
        return task.done() and task.result() is None
    finally:
        task.cancel()
        stopped.cancel()


async def _keep(elector: Elector) -> None:
    """Keep leading. A loss ends the process where it stands: whatever is tidied up now, another leader may be at."""
    try:
        await elector.keep()
    except LeadershipLost as error:
        _end(str(error))


def _end_unless_leading(elector: Elector) -> None:
    """Asked before every write: a process that was stopped for a while would else go on where it stood."""
    if not elector.leads:
        _end("its Lease has run out, and it was about to write")


def _end(why: str) -> NoReturn:
    log.critical("this replica leads no more and ends: %s", why)
    logging.shutdown()
    os._exit(1)


class Engine:
    """What only the leader runs."""

    def __init__(
        self, settings: Settings, client: Client, *, adapter: Adapter | None, health: Health, metrics: Metrics
    ) -> None:
        self._client = client
        self._health = health
        self._loops = Loops(self._reconcile, metrics)
        self._stores = Stores(self._loops.wake)
        self._silence = Silence(
            seconds=settings.silence_seconds, clock=time.monotonic, now=_now, changed=self._stores.wake_machine
        )
        self._config_maps = ConfigMaps(client, self._stores.wake_config_map)
        self._writers = adapter(metrics, self._loops.wake, client.before_write) if adapter else None
        balancers = Balancers(self._writers, azure_defaults(settings.azure) if settings.azure else Defaults())
        self._recorder = EventRecorder(client, controller="farmstead.dev/operator", instance=settings.identity)
        observer = Observer(
            client,
            self._stores,
            silence=self._silence,
            config_maps=self._config_maps,
            balancers=balancers,
            now=_now,
        )
        self._reconciler = Reconciler(
            client, self._stores, observer, balancers=balancers, recorder=self._recorder, metrics=metrics
        )
        self._watches = Watches(
            client,
            stores=self._stores,
            silence=self._silence,
            config_maps=self._config_maps,
            namespace=settings.namespace,
            health=health,
        )
        self._watchdog = Watchdog(client, self._stores.clusters, health, metrics)
        metrics.count_members(self._stores.clusters.objects.values)

    async def run(self) -> None:
        """Run until cancelled; raises what fails."""
        async with asyncio.TaskGroup() as group:
            for work in (self._watches.run(), self._silence.run(), self._recorder.run(), self._kopf(), self._begin()):
                group.create_task(work)

    async def close(self) -> None:
        """End loops and writers."""
        await self._loops.close()
        if self._writers is not None:
            await self._writers.close()

    async def _begin(self) -> None:
        """Open the loops once everything that there is has been seen."""
        await self._watches.synced.wait()
        await self._watchdog.synced()
        self._silence.tell()
        self._health.synced = True
        self._loops.open()
        log.info("everything has been seen: %d clusters", len(self._stores.clusters.objects))

    async def _kopf(self) -> None:
        """kopf and the watchdog over it; both begin anew when either fails."""
        clusters = self._stores.clusters
        seen = Seen(put=clusters.put, gone=clusters.remove, before_write=self._client.before_write)
        while True:
            try:
                async with asyncio.TaskGroup() as group:
                    group.create_task(run_kopf(seen, self._client.credentials))
                    group.create_task(self._watchdog.run())
            except* Exception as errors:  # noqa: BLE001 - whatever it was, kopf begins anew
                first = errors.exceptions[0]
                log.warning("kopf begins anew: %s: %s", type(first).__name__, first)
                self._health.trouble("kopf", str(first))
            await asyncio.sleep(KOPF_PAUSE_SECONDS)

    async def _reconcile(self, key: Key) -> Outcome:
        return await self._reconciler(key)


def _adapter(settings: Settings) -> Adapter | None:
    """What makes Azure's writers, where the settings say how to reach it; its SDK is imported only then.

    A standby imports it too: it takes seconds in which nothing else happens in the process, and a leader that does not
    renew its Lease is none.
    """
    if settings.azure is None:
        return None
    from farmstead_operator.azure.writers import Writers as AzureWriters  # noqa: PLC0415

    reach = azure_settings(settings, settings.azure)
    return lambda metrics, wake, before_write: AzureWriters(
        reach, on_change=wake, recorder=metrics, before_write=before_write
    )


def _now() -> datetime:
    return datetime.now(UTC)
