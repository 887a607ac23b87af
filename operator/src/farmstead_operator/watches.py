"""The watches that are not kopf's: everything but FarmClusters goes straight from the stream into a store.

kopf looks after FarmClusters, which have a finalizer; its cost of an event is the price of that, too much for what
machines write many times a second. These watches also tell of what vanished while they were cut off, and live through
a kind that is deleted and comes back.
"""

import asyncio
from collections.abc import Callable
from typing import Any

from farmstead_kube import CONFIG_MAPS, FARM_NODES, LEASES, MEMBERS, OPERATIONS, Client, EventType, Selection, Watch
from farmstead_operator.clusters.observed import Key
from farmstead_operator.config_maps import ConfigMaps
from farmstead_operator.health import Health
from farmstead_operator.silence import Silence
from farmstead_operator.stores import AnyStore, Stores

HEALTH_SECONDS = 2.0

Handler = Callable[[EventType, Any], None]


class Rewound(Exception):  # noqa: N818
    """What is remembered is of a time that never was: acted upon, it would reach agents as somebody's new wish.

    An agent runs on where its Member has become an older one, but follows whatever comes after that. So nothing may be
    written from a memory in which some objects are of before the restore and others of after it: begin anew.
    """


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
        self._silence = silence
        self._config_maps = config_maps
        self._namespace = namespace
        self._health = health
        self._selections: dict[Selection, Handler] = {
            Selection(MEMBERS): _into(stores.members),
            Selection(FARM_NODES): _into(stores.nodes),
            Selection(OPERATIONS): _into(stores.operations),
            Selection(LEASES, namespace=namespace): self._lease,
            Selection(CONFIG_MAPS, metadata_only=True): self._config_map,
        }
        self._unsynced = set(self._selections)
        self.synced = asyncio.Event()

    async def run(self) -> None:
        """Watch for ever."""
        async with asyncio.TaskGroup() as group:
            for selection, handler in self._selections.items():
                group.create_task(self._follow(selection, handler))

    async def _follow(self, selection: Selection, handler: Handler) -> None:
        """One watch; after it was cut off, machines get time to speak before they count as silent."""
        watch = Watch(self._client, selection)
        async with asyncio.TaskGroup() as group:
            group.create_task(self._report(selection.resource.plural, watch))
            async for event in watch:
                if watch.rewound:
                    kind = selection.resource.plural
                    raise Rewound(f"the API server shows older {kind} than before: it was put back to an earlier time")
                if event.type is not EventType.SYNCED:
                    handler(event.type, event.object)
                elif selection in self._unsynced:
                    self._unsynced.discard(selection)
                    if not self._unsynced:
                        self.synced.set()
                elif selection.resource is LEASES:
                    self._silence.deaf()

    async def _report(self, name: str, watch: Watch) -> None:
        """Say in the readiness when a watch is cut off."""
        while True:
            cut_off = watch.failing_since is not None
            self._health.trouble(f"watch of {name}", watch.last_error or "cut off" if cut_off else "")
            await asyncio.sleep(HEALTH_SECONDS)

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


def _into(store: AnyStore) -> Handler:
    def handler(kind: EventType, body: Any) -> None:
        if kind is EventType.DELETED:
            store.remove(_key(body))
        else:
            store.put(body)

    return handler
