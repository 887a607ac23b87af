"""Everything that is known of one cluster, put together from what was seen; the only questions asked are rare ones."""

from collections.abc import Callable, Mapping
from datetime import datetime

from farmstead_api import FarmCluster
from farmstead_kube import CUSTOM_RESOURCE_DEFINITIONS, FARM_CLUSTERS, Client, NotFound
from farmstead_operator.balancers import Balancers
from farmstead_operator.clusters.observed import Key, Observed
from farmstead_operator.config_maps import ConfigMaps
from farmstead_operator.silence import Silence
from farmstead_operator.stores import Stores

CLUSTERS_DEFINITION = f"{FARM_CLUSTERS.plural}.{FARM_CLUSTERS.group}"


class Observer:
    """Makes an `Observed`."""

    def __init__(
        self,
        client: Client,
        stores: Stores,
        *,
        silence: Silence,
        config_maps: ConfigMaps,
        balancers: Balancers,
        now: Callable[[], datetime],
    ) -> None:
        self._client = client
        self._stores = stores
        self._silence = silence
        self._config_maps = config_maps
        self._balancers = balancers
        self._now = now

    async def observe(self, key: Key, *, undrawable: frozenset[str]) -> Observed:
        """What is known of a cluster now."""
        cluster = self._stores.clusters.objects.get(key)
        nodes = self._stores.machines()
        members = dict(self._stores.members_of.get(key, {}))
        operations = self._stores.operations_of.get(key, {})
        return Observed(
            key=key,
            now=self._now(),
            cluster=cluster,
            nodes=nodes,
            members=members,
            silent=self._silence.silent([*members]),
            operations=tuple(
                sorted(operations.values(), key=lambda one: (one.metadata.creation_timestamp, one.metadata.name))
            ),
            config_map=await self._config_map(cluster),
            balancer=self._balancers.facts(cluster) if cluster else None,
            api_going=cluster is not None and cluster.metadata.deleting and await self._api_going(),
            undrawable=undrawable,
        )

    async def _config_map(self, cluster: FarmCluster | None) -> Mapping[str, str] | None:
        scripts = cluster.spec.application.scripts if cluster else None
        if cluster is None or scripts is None or scripts.config_map is None:
            return None
        return await self._config_maps.content((cluster.metadata.namespace, scripts.config_map.name))

    async def _api_going(self) -> bool:
        """Whether the kind itself is being deleted, and every cluster with it."""
        try:
            definition = await self._client.get(CUSTOM_RESOURCE_DEFINITIONS, CLUSTERS_DEFINITION)
        except NotFound:
            return True
        return definition["metadata"].get("deletionTimestamp") is not None
