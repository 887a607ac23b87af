"""One pass over a cluster: observe, plan, carry out. The plan is pure; here it meets the API server.

Writes go out in the plan's order and their answers go into the stores, so that the next pass sees them without
waiting for the watch. The first write that fails ends the pass; the next one starts from what is then.
"""

import asyncio
import logging
from collections import defaultdict

from farmstead_api import FarmCluster, Member, dump, names
from farmstead_api.farmcluster import FarmClusterStatus
from farmstead_api.member import FINALIZER
from farmstead_kube import (
    FARM_CLUSTERS,
    MEMBERS,
    OPERATIONS,
    Client,
    Conflict,
    EventKind,
    EventRecorder,
    Json,
    Note,
    NotFound,
    Permanent,
    Regarding,
    Resource,
)
from farmstead_operator.balancers import Balancers
from farmstead_operator.clusters.announcements import announcements
from farmstead_operator.clusters.observed import CLUSTER_FINALIZER, Key, MemberWrite, Observed, Plan
from farmstead_operator.clusters.plan import leads_on, plan
from farmstead_operator.loops import Outcome
from farmstead_operator.metrics import Metrics
from farmstead_operator.observer import Observer
from farmstead_operator.stores import Stores

log = logging.getLogger(__name__)

NAMESPACE_TERMINATING = "NamespaceTerminating"


class Reconciler:
    """Carries out plans, and remembers what deletions wait for."""

    def __init__(
        self,
        client: Client,
        stores: Stores,
        observer: Observer,
        *,
        balancers: Balancers,
        recorder: EventRecorder,
        metrics: Metrics,
    ) -> None:
        self._client = client
        self._stores = stores
        self._observer = observer
        self._balancers = balancers
        self._recorder = recorder
        self._metrics = metrics
        self._undrawable: dict[Key, set[str]] = defaultdict(set)

    async def __call__(self, key: Key) -> Outcome:
        """One pass."""
        observed = await self._observe(key)
        decided = plan(observed)
        await self._members(observed, decided)
        await self._balancer(observed, decided)
        await self._operations(decided)
        if decided.finished and observed.cluster is not None:
            await self._release(FARM_CLUSTERS, observed.cluster, CLUSTER_FINALIZER)
        await self._status(observed.cluster, await self._status_now(observed, decided))
        if observed.cluster is None:
            await self._forget(key)
        return Outcome(decided.wake_after, over=observed.cluster is None and not observed.operations)

    async def _observe(self, key: Key) -> Observed:
        return await self._observer.observe(key, undrawable=frozenset(self._undrawable.get(key, ())))

    async def _status_now(self, observed: Observed, decided: Plan) -> FarmClusterStatus | None:
        """What this pass has asked for is not so yet: a status from before it would call the old state the new one."""
        cluster = observed.cluster
        if cluster is None or not (decided.members or self._balancers.facts(cluster) != observed.balancer):
            return decided.status
        return plan(await self._observe(observed.key)).status

    async def _members(self, observed: Observed, decided: Plan) -> None:
        # Members don't depend on each other: all go out together, and the first that failed ends the pass.
        outcomes = await asyncio.gather(
            *(self._write(observed, write) for write in decided.members), return_exceptions=True
        )
        for outcome in outcomes:
            if outcome is not None:
                raise outcome
        for member in decided.deletions:
            await self._delete(MEMBERS, member)
        for member in decided.releases:
            await self._release(MEMBERS, member, FINALIZER)

    async def _write(self, observed: Observed, write: MemberWrite) -> None:
        cluster = write.spec.cluster_ref.name
        metadata: Json = {
            "name": names.member_name(cluster, write.spec.node_name),
            "namespace": observed.key[0],
            "labels": {names.CLUSTER_LABEL: cluster, names.NODE_LABEL: write.spec.node_name},
        }
        if write.guarded:
            metadata["finalizers"] = [FINALIZER]
        try:
            body = await self._client.apply(MEMBERS, {"metadata": metadata, "spec": dump(write.spec)})
        except Permanent as error:
            if not (write.guarded and NAMESPACE_TERMINATING in error.causes):
                raise
            log.warning("member %s can't be told to stop, its namespace is being deleted: %s", metadata["name"], error)
            self._undrawable[observed.key].add(write.spec.node_name)
            return
        self._metrics.wrote(kind="Member", verb="apply")
        self._stores.members.put_written(body)

    async def _delete(self, resource: Resource, view: Member) -> None:
        meta = view.metadata
        try:
            await self._client.delete(resource, meta.name, namespace=meta.namespace, uid=meta.uid)
        except (NotFound, Conflict):
            log.debug("%s %s is gone already", resource.kind, meta.name)
        self._metrics.wrote(kind=resource.kind, verb="delete")

    async def _release(self, resource: Resource, view: Member | FarmCluster, ours: str) -> None:
        """Take our finalizer away, and nobody else's."""
        meta = view.metadata
        if ours not in meta.finalizers:
            return
        rest = [finalizer for finalizer in meta.finalizers if finalizer != ours]
        patch = {"metadata": {"finalizers": rest, "resourceVersion": meta.resource_version}}
        try:
            await self._client.patch(resource, meta.name, patch, namespace=meta.namespace)
        except NotFound:
            log.debug("%s %s is gone already", resource.kind, meta.name)
        self._metrics.wrote(kind=resource.kind, verb="patch")

    async def _balancer(self, observed: Observed, decided: Plan) -> None:
        if observed.cluster is None:
            return
        if decided.backends is not None:
            await self._balancers.declare(observed.cluster, decided.backends)
        elif decided.withdraw:
            await self._balancers.withdraw(observed.cluster)
        elif observed.cluster.spec.load_balancer is None and observed.cluster.status.load_balancer is not None:
            await self._balancers.forget(observed.key)

    async def _operations(self, decided: Plan) -> None:
        for operation, status in decided.operations:
            meta = operation.metadata
            body: Json = {"metadata": {"name": meta.name, "namespace": meta.namespace}, "status": dump(status)}
            try:
                self._stores.operations.put_written(await self._client.apply_status(OPERATIONS, body))
            except NotFound:
                log.debug("Operation %s is gone", meta.name)
            self._metrics.wrote(kind="Operation", verb="apply")
        for operation in decided.expired:
            meta = operation.metadata
            try:
                await self._client.delete(OPERATIONS, meta.name, namespace=meta.namespace, uid=meta.uid)
            except (NotFound, Conflict):
                log.debug("Operation %s is gone already", meta.name)

    async def _status(self, cluster: FarmCluster | None, status: FarmClusterStatus | None) -> None:
        if cluster is None or status is None or status == cluster.status:
            return
        meta = cluster.metadata
        body: Json = {"metadata": {"name": meta.name, "namespace": meta.namespace}, "status": dump(status)}
        try:
            written = await self._client.apply_status(FARM_CLUSTERS, body)
        except NotFound:
            return
        self._metrics.wrote(kind="FarmCluster", verb="apply")
        self._stores.clusters.put_written(written, wakes=leads_on(cluster.status, status))
        regarding = Regarding(FARM_CLUSTERS, meta.name, meta.uid, meta.namespace)
        for entry in announcements(cluster.status, status):
            kind = EventKind.WARNING if entry.warning else EventKind.NORMAL
            self._recorder.record(Note(regarding, kind, entry.reason, entry.action, entry.note))

    async def _forget(self, key: Key) -> None:
        self._undrawable.pop(key, None)
        await self._balancers.forget(key)
