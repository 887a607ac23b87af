"""Is what kopf has shown us what is there? A cheap list now and then, held against the stores.

A watch can die without an error, and kopf's relisting after a gap does not tell of what vanished in it. So metadata of
every kind that kopf watches is listed; what differs is looked at again a little later. What is gone for certain is
taken from the store. What is there and still not shown means a dead watch: counted, told by readiness, and when the
next look finds the same, the process ends and begins anew, since a watch of kopf's can't be restarted from outside.
"""

import asyncio
import logging
from collections.abc import Mapping
from dataclasses import dataclass

from farmstead_kube import Client, KubeError, Resource, Selection
from farmstead_operator.clusters.observed import Key
from farmstead_operator.health import Health
from farmstead_operator.metrics import Metrics
from farmstead_operator.stores import AnyStore

log = logging.getLogger(__name__)

PERIOD_SECONDS = 15.0
SECOND_LOOK_SECONDS = 5.0
FIRST_LOOK_SECONDS = 0.1
PATIENCE = 2


class DeadWatch(Exception):  # noqa: N818
    """A watch shows nothing any more, and does not come back."""


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
    """Looks after the stores that kopf feeds."""

    def __init__(self, client: Client, stores: Mapping[Resource, AnyStore], health: Health, metrics: Metrics) -> None:
        self._client = client
        self._stores = stores
        self._health = health
        self._metrics = metrics
        self._strikes: dict[Resource, int] = {}

    async def synced(self) -> None:
        """Return when everything that is there has been shown once."""
        for resource, store in self._stores.items():
            there = await self._there(resource)
            while there is not None and there.keys() - store.versions().keys():
                await asyncio.sleep(FIRST_LOOK_SECONDS)
                there = await self._there(resource)

    async def run(self) -> None:
        """Look for ever; raises DeadWatch."""
        while True:
            await asyncio.sleep(PERIOD_SECONDS)
            for resource in self._stores:
                await self.look(resource)

    async def look(self, resource: Resource, *, pause: float = SECOND_LOOK_SECONDS) -> None:
        """Hold one store against what is there, twice if need be; raises DeadWatch when it has happened before."""
        store = self._stores[resource]
        first = await self._difference(resource)
        if not first.unseen and not first.extra:
            self._well(resource)
            return
        await asyncio.sleep(pause)
        lasting = first.lasting(await self._difference(resource))
        for key in lasting.extra:
            log.warning("%s %s is gone, and no watch said so", resource.kind, "/".join(key))
            store.remove(key)
        if lasting.unseen:
            self._dead(resource, len(lasting.unseen))
        else:
            self._well(resource)

    async def _difference(self, resource: Resource) -> Difference:
        there = await self._there(resource)
        return difference(there, self._stores[resource].versions()) if there is not None else Difference({}, {})

    async def _there(self, resource: Resource) -> dict[Key, str] | None:
        """Versions of what is there; None when that can't be told now."""
        try:
            listing = await self._client.list(Selection(resource, metadata_only=True))
        except KubeError as error:
            log.info("%s can't be listed now: %s", resource.plural, error)
            return None
        metas = [item["metadata"] for item in listing.items]
        return {(meta.get("namespace", ""), meta["name"]): meta["resourceVersion"] for meta in metas}

    def _well(self, resource: Resource) -> None:
        self._strikes.pop(resource, None)
        self._health.trouble(f"kopf's watch of {resource.plural}", "")

    def _dead(self, resource: Resource, count: int) -> None:
        self._metrics.dead_watch(resource.kind)
        strikes = self._strikes[resource] = self._strikes.get(resource, 0) + 1
        text = f"{count} changes were not shown"
        self._health.trouble(f"kopf's watch of {resource.plural}", text)
        log.error("kopf's watch of %s is dead: %s", resource.plural, text)
        if strikes >= PATIENCE:
            raise DeadWatch(f"kopf's watch of {resource.plural}: {text}")
