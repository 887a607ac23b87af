"""The watches that are not kopf's: what machines write all the time (Members, Leases), and ConfigMaps' versions.

kopf keeps the objects that people write, with their finalizers; its cost of an event is its price for that. What
changes many times a second goes straight from the stream into a store.
"""

import asyncio
from collections.abc import Callable
from typing import Any

from farmstead_kube import CONFIG_MAPS, LEASES, MEMBERS, Client, EventType, Selection, Watch
from farmstead_operator.clusters.observed import Key
from farmstead_operator.config_maps import ConfigMaps
from farmstead_operator.health import Health
from farmstead_operator.silence import Silence
from farmstead_operator.stores import Stores

HEALTH_SECONDS = 2.0


class Watches:
    """All of them; `synced` is set once each has shown what there is."""

    def __init__(
        self,
        client: Client,
        *,
        stores: Stores,
        silence: Silence,
        config_maps: ConfigMaps,
        namespace: str,
        health: Health,
    ) -> None:
        self._client = client
        self._stores = stores
        self._silence = silence
        self._config_maps = config_maps
        self._namespace = namespace
        self._health = health
        self._unsynced = {"members", "leases", "configmaps"}
        self.synced = asyncio.Event()

    async def run(self) -> None:
        """Watch for ever."""
        async with asyncio.TaskGroup() as group:
            group.create_task(self._follow(Selection(MEMBERS), self._member, lambda: None))
            leases = Selection(LEASES, namespace=self._namespace)
            group.create_task(self._follow(leases, self._lease, self._silence.deaf))
            config_maps = Selection(CONFIG_MAPS, metadata_only=True)
            group.create_task(self._follow(config_maps, self._config_map, lambda: None))

    async def _follow(
        self, selection: Selection, seen: Callable[[EventType, Any], None], resynced: Callable[[], None]
    ) -> None:
        """One watch: events to `seen`, and `resynced` when it is back after it was away."""
        name = selection.resource.plural
        watch = Watch(self._client, selection)
        async with asyncio.TaskGroup() as group:
            group.create_task(self._report(name, watch))
            async for event in watch:
                if event.type is not EventType.SYNCED:
                    seen(event.type, event.object)
                elif name in self._unsynced:
                    self._unsynced.discard(name)
                    if not self._unsynced:
                        self.synced.set()
                else:
                    resynced()

    async def _report(self, name: str, watch: Watch) -> None:
        """Say in the readiness when a watch is cut off."""
        while True:
            cut_off = watch.failing_since is not None
            self._health.trouble(f"watch of {name}", watch.last_error or "cut off" if cut_off else "")
            await asyncio.sleep(HEALTH_SECONDS)

    def _member(self, kind: EventType, body: Any) -> None:
        if kind is EventType.DELETED:
            self._stores.members.remove(_key(body))
        else:
            self._stores.members.put(body)

    def _lease(self, kind: EventType, body: Any) -> None:
        name = body["metadata"]["name"]
        if kind is EventType.DELETED:
            self._silence.gone(name)
        else:
            self._silence.heard(name, body.get("spec", {}).get("renewTime") or "")

    def _config_map(self, kind: EventType, body: Any) -> None:
        if kind is EventType.DELETED:
            self._config_maps.gone(_key(body))
        else:
            self._config_maps.seen(_key(body), body["metadata"]["resourceVersion"])


def _key(body: Any) -> Key:
    return body["metadata"].get("namespace", ""), body["metadata"]["name"]
