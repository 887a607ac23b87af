"""Is what kopf has shown us what is there? A cheap list now and then, held against the store.

A watch can die without an error, and kopf's relisting after a gap does not tell of what vanished in it. So metadata of
all FarmClusters is listed; what differs is looked at again a little later. What is gone for certain is taken from the
store. What is there and still not shown means a dead watch: counted, told by readiness, and kopf is begun anew.
"""

import asyncio
import logging
from collections.abc import Mapping
from dataclasses import dataclass

from farmstead_api import FarmCluster
from farmstead_kube import FARM_CLUSTERS, Client, KubeError, NotFound, Selection
from farmstead_operator.clusters.observed import Key
from farmstead_operator.health import Health
from farmstead_operator.metrics import Metrics
from farmstead_operator.stores import Store

log = logging.getLogger(__name__)

PERIOD_SECONDS = 10.0
SECOND_LOOK_SECONDS = 5.0
FIRST_LOOK_SECONDS = 0.1


class DeadWatch(Exception):  # noqa: N818
    """A watch shows nothing any more."""


@dataclass(frozen=True, slots=True)
class Difference:
    """How a store differs from what is there."""

    unseen: Mapping[Key, tuple[str, str]]
    """Objects whose version there has not been shown: (version in the store or empty, version there)."""
    extra: Mapping[Key, str]
    """Objects that are not there any more, with the version in the store."""

    def lasting(self, later: "Difference") -> "Difference":
        """What is the same in a later look: the store has not moved, although there was something to show."""
        return Difference(
            {key: now for key, now in later.unseen.items() if key in self.unseen and self.unseen[key][0] == now[0]},
            {key: version for key, version in later.extra.items() if self.extra.get(key) == version},
        )


def difference(there: Mapping[Key, str], shown: Mapping[Key, str]) -> Difference:
    """Hold what was shown against what is there; both are versions by key."""
    return Difference(
        {key: (shown.get(key, ""), version) for key, version in there.items() if shown.get(key) != version},
        {key: version for key, version in shown.items() if key not in there},
    )


class Watchdog:
    """Looks after the store that kopf feeds."""

    def __init__(self, client: Client, store: Store[FarmCluster], health: Health, metrics: Metrics) -> None:
        self._client = client
        self._store = store
        self._health = health
        self._metrics = metrics

    async def synced(self) -> None:
        """Return when everything that is there has been shown once."""
        while True:
            there = await self._there()
            if there is not None and not there.keys() - self._store.objects.keys():
                return
            await asyncio.sleep(FIRST_LOOK_SECONDS)

    async def run(self) -> None:
        """Look for ever; raises DeadWatch."""
        while True:
            await asyncio.sleep(PERIOD_SECONDS)
            await self.look()

    async def look(self, *, pause: float = SECOND_LOOK_SECONDS) -> None:
        """Hold the store against what is there, twice if need be; raises DeadWatch."""
        first = await self._difference()
        lasting = first
        if first.unseen or first.extra:
            await asyncio.sleep(pause)
            lasting = first.lasting(await self._difference())
        for key in lasting.extra:
            log.warning("FarmCluster %s is gone, and no watch said so", "/".join(key))
            self._store.remove(key)
        if lasting.unseen:
            self._metrics.dead_watch(FARM_CLUSTERS.kind)
            text = f"kopf's watch of FarmClusters is dead, {len(lasting.unseen)} changes were not shown"
            self._health.trouble("kopf", text)
            self._health.dead_watch(dead=True)
            raise DeadWatch(text)
        self._health.trouble("kopf", "")
        self._health.dead_watch(dead=False)

    async def _difference(self) -> Difference:
        there = await self._there()
        return difference(there, self._store.versions()) if there is not None else Difference({}, {})

    async def _there(self) -> dict[Key, str] | None:
        """Versions of what is there; None when that can't be told now, nothing where the kind itself is gone."""
        try:
            listing = await self._client.list(Selection(FARM_CLUSTERS, metadata_only=True))
        except NotFound:
            return {}
        except KubeError as error:
            log.info("FarmClusters can't be listed now: %s", error)
            return None
        metas = [item["metadata"] for item in listing.items]
        return {(meta.get("namespace", ""), meta["name"]): meta["resourceVersion"] for meta in metas}
