"""Between a cluster's loop and the writers of load balancers: which one it is, what is declared, what is known.

The writers are the Azure adapter's; tests and a second cloud bring their own with the same few methods. Facts come
out in neutral words, so that decisions about clusters never depend on the adapter.
"""

from collections.abc import Iterable
from typing import Protocol

from msgspec.structs import replace as replace_view

from farmstead_api import FarmCluster
from farmstead_api.farmcluster import AzureStatus, PendingOperation
from farmstead_operator.azure.desired import Defaults, key_of, share_of
from farmstead_operator.azure.errors import PermanentError
from farmstead_operator.azure.shares import ClusterShare, LoadBalancerKey, ShareState
from farmstead_operator.clusters.observed import Backend, BalancerFacts, Key, Problem


class Writers(Protocol):
    """What is asked of an adapter; all of it idempotent, none of it waits for the cloud."""

    async def declare(self, key: LoadBalancerKey, share: ClusterShare) -> None:
        """The cluster wants this share."""

    async def withdraw(self, key: LoadBalancerKey, cluster: Key) -> None:
        """The cluster wants nothing any more."""

    async def resume(self, key: LoadBalancerKey, pending: PendingOperation) -> None:
        """A former operator left this under way."""

    async def forget(self, key: LoadBalancerKey, cluster: Key) -> None:
        """The cluster is gone."""

    def state(self, key: LoadBalancerKey, cluster: Key) -> ShareState:
        """What is known of the share."""

    async def close(self) -> None:
        """End all tasks."""


NOT_CONFIGURED = Problem(
    "AzureNotConfigured", "this operator has no access to Azure: add azure to its settings, or remove loadBalancer"
)


class Balancers:
    """The load balancers of all clusters."""

    def __init__(self, writers: Writers | None, defaults: Defaults) -> None:
        self._writers = writers
        self._defaults = defaults
        self._keys: dict[Key, LoadBalancerKey] = {}
        """Clusters whose wish the writers know, and where."""
        self._problems: dict[Key, Problem] = {}
        """Why a cluster's wish could not even be put into words."""

    def facts(self, cluster: FarmCluster) -> BalancerFacts | None:
        """What is known; None while nothing is, or there is nothing to know."""
        if cluster.spec.load_balancer is None and cluster.status.load_balancer is None:
            return None
        key = cluster.metadata.key
        if problem := self._problems.get(key):
            return BalancerFacts(stalled=True, problem=problem)
        balancer = self._keys.get(key)
        if self._writers is None or balancer is None:
            return self._unconfigured(cluster)
        state = self._writers.state(balancer, key)
        if not (state.settled or state.problem or state.load_balancer_id or state.pending_operation):
            return BalancerFacts() if not _shown(cluster).id else None
        return _facts(state, _shown(cluster))

    async def declare(self, cluster: FarmCluster, backends: Iterable[Backend]) -> None:
        """Say what the cluster wants now."""
        key = cluster.metadata.key
        if self._writers is None:
            return
        try:
            balancer = key_of(cluster, self._defaults)
            share = share_of(cluster, [(entry.node, entry.address) for entry in backends], self._defaults)
        except PermanentError as error:
            self._problems[key] = Problem(error.reason, error.message)
            return
        self._problems.pop(key, None)
        await self._take_up(cluster, balancer)
        await self._writers.declare(balancer, share)

    async def withdraw(self, cluster: FarmCluster) -> None:
        """Say that the cluster wants nothing any more."""
        balancer = self._known(cluster)
        self._problems.pop(cluster.metadata.key, None)
        if self._writers is None or balancer is None:
            return
        await self._take_up(cluster, balancer)
        await self._writers.withdraw(balancer, cluster.metadata.key)

    async def forget(self, key: Key) -> None:
        """Drop what is known of a cluster that is gone."""
        self._problems.pop(key, None)
        balancer = self._keys.pop(key, None)
        if self._writers is not None and balancer is not None:
            await self._writers.forget(balancer, key)

    async def _take_up(self, cluster: FarmCluster, balancer: LoadBalancerKey) -> None:
        """At the first word about a cluster, hand over what a former operator left under way."""
        if cluster.metadata.key in self._keys:
            return
        self._keys[cluster.metadata.key] = balancer
        pending = _shown(cluster).pending_operation
        if pending is not None and self._writers is not None:
            await self._writers.resume(balancer, pending)

    def _known(self, cluster: FarmCluster) -> LoadBalancerKey | None:
        """Where the cluster's share is, or would be: what was declared, what the status says, what the spec says."""
        if known := self._keys.get(cluster.metadata.key):
            return known
        if shown := _shown(cluster).id:
            return LoadBalancerKey.parse(shown)
        try:
            return key_of(cluster, self._defaults) if cluster.spec.load_balancer else None
        except PermanentError:
            return None

    def _unconfigured(self, cluster: FarmCluster) -> BalancerFacts | None:
        """Before the first word about a cluster, and for an operator without Azure."""
        nowhere = self._known(cluster) is None
        if self._writers is None and not _shown(cluster).id:
            stalled = not cluster.metadata.deleting
            return BalancerFacts(gone=not stalled, stalled=stalled, problem=NOT_CONFIGURED if stalled else None)
        if self._writers is None:
            return BalancerFacts(stalled=True, problem=NOT_CONFIGURED)
        return BalancerFacts(gone=True) if nowhere else None


def _shown(cluster: FarmCluster) -> AzureStatus:
    """What the cluster's status says of the load balancer."""
    balancer = cluster.status.load_balancer
    return balancer.azure if balancer and balancer.azure else AzureStatus()


def _facts(state: ShareState, shown: AzureStatus) -> BalancerFacts:
    """The adapter's state in neutral words; what it has not read yet is what was last shown."""
    azure = state.status
    if not state.settled:
        azure = replace_view(
            azure,
            id=azure.id or shown.id,
            frontend_address=azure.frontend_address or shown.frontend_address,
            backends=azure.backends or shown.backends,
            backends_observed_at=azure.backends_observed_at or shown.backends_observed_at,
        )
    problem = Problem(state.problem.reason, state.problem.message) if state.problem else None
    return BalancerFacts(
        in_place=state.in_place,
        gone=state.gone,
        stalled=state.stalled,
        problem=problem,
        note=f"put back what somebody else changed: {state.repair.message}" if state.repair else "",
        azure=azure,
    )
