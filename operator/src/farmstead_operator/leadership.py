"""Which replica works: a Lease of our own, compared and swapped, judged by this process's monotonic clock alone.

    standby: read -> free, or unchanged for lease_seconds by our clock -> take it (Conflict: somebody was faster)
    leader:  renew every retry_seconds; any exception, and no answer for half of the deadline, is a failed renewal
             not renewed for renew_deadline_seconds -> LeadershipLost, and the process ends at once

A process that was stopped for a while does not know it: so `leads` is asked before every write, whoever writes.
renew_deadline < lease: a leader that is cut off has ended before another one begins. Clocks of machines are never
compared; a Lease's times are only looked at for change.
"""

import asyncio
import logging
import time
from collections.abc import Callable
from datetime import UTC, datetime

from farmstead_kube import LEASES, Client, Conflict, Json, KubeError, NotFound, micro_time
from farmstead_operator.settings import LeaderElection

log = logging.getLogger(__name__)


class LeadershipLost(Exception):  # noqa: N818
    """This replica must not act any more."""


class Elector:
    """Takes and keeps one Lease."""

    def __init__(
        self,
        client: Client,
        settings: LeaderElection,
        *,
        namespace: str,
        identity: str,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._client = client
        self._settings = settings
        self._namespace = namespace
        self._identity = identity
        self._clock = clock
        self._lease: Json = {}
        self._seen_version = ""
        self._seen_at = 0.0
        self._renewed_at = 0.0

    @property
    def leads(self) -> bool:
        """Whether this replica may write now. Cheap; may be asked in any thread."""
        return self._clock() - self._renewed_at < self._settings.renew_deadline_seconds

    async def acquire(self) -> None:
        """Return when this replica leads."""
        while True:
            if await self._attempt():
                log.info("this replica, %s, leads", self._identity)
                return
            await asyncio.sleep(self._settings.retry_seconds)

    async def keep(self) -> None:
        """Renew until it can't be done any more; raises LeadershipLost."""
        deadline = self._settings.renew_deadline_seconds
        while True:
            await asyncio.sleep(self._settings.retry_seconds)
            left = self._renewed_at + deadline - self._clock()
            try:
                # Half of it at most: a request on a connection that has died leaves time for one on a new connection.
                async with asyncio.timeout(min(max(left, 0.0), deadline / 2)):
                    await self._renew()
            except LeadershipLost:
                raise
            except Exception as error:  # noqa: BLE001 - whatever it was, it was no renewal
                log.warning("the leader's Lease was not renewed: %s %s", type(error).__name__, error)
            if self._clock() - self._renewed_at >= deadline:
                raise LeadershipLost(f"not renewed for {deadline} s")

    async def release(self) -> None:
        """Give the Lease away, so that a standby need not wait; call it when nothing acts any more."""
        try:
            await self._swap(self._lease, holder="")
        except KubeError as error:
            log.info("the Lease was not released, it will run out: %s", error)

    async def _renew(self) -> None:
        """Renew, also when the answer to the last renewal was lost or somebody else has touched the Lease."""
        try:
            await self._swap(self._lease)
        except Conflict:
            lease = await self._read()
            holder = lease.get("spec", {}).get("holderIdentity")
            if holder != self._identity:
                raise LeadershipLost(f"the Lease was taken by {holder or 'nobody'}") from None
            await self._swap(lease)

    async def _attempt(self) -> bool:
        try:
            lease = await self._read()
            if self._taken(lease):
                return False
            await self._swap(lease)
        except NotFound:
            return await self._create()
        except KubeError as error:
            log.info("no leader's Lease yet: %s", error)
            return False
        return True

    async def _read(self) -> Json:
        return await self._client.get(LEASES, self._settings.name, namespace=self._namespace)

    def _taken(self, lease: Json) -> bool:
        """Whether somebody else holds it, as far as our clock can tell."""
        version = lease["metadata"]["resourceVersion"]
        if version != self._seen_version:
            self._seen_version, self._seen_at = version, self._clock()
        holder = lease.get("spec", {}).get("holderIdentity")
        silent = self._clock() - self._seen_at
        return bool(holder) and holder != self._identity and silent < self._settings.lease_seconds

    async def _create(self) -> bool:
        started = self._clock()
        body = {
            "apiVersion": LEASES.api_version,
            "kind": LEASES.kind,
            "metadata": {"name": self._settings.name, "namespace": self._namespace},
            "spec": self._spec(self._identity, transitions=0),
        }
        try:
            self._lease = await self._client.create(LEASES, body, namespace=self._namespace)
        except KubeError as error:
            log.info("the leader's Lease was not created: %s", error)
            return False
        self._renewed_at = started
        return True

    async def _swap(self, lease: Json, *, holder: str | None = None) -> None:
        """Write the Lease over the version that was read; raises Conflict where it has changed since."""
        started = self._clock()
        old = lease.get("spec", {})
        changed = old.get("holderIdentity") != self._identity
        name = self._identity if holder is None else holder
        spec = self._spec(name, transitions=old.get("leaseTransitions", 0) + changed)
        if not changed:
            spec["acquireTime"] = old.get("acquireTime") or spec["acquireTime"]
        self._lease = await self._client.replace(LEASES, lease | {"spec": spec})
        self._renewed_at = started

    def _spec(self, holder: str, *, transitions: int) -> Json:
        now = micro_time(datetime.now(UTC))
        return {
            "holderIdentity": holder,
            "leaseDurationSeconds": round(self._settings.lease_seconds),
            "acquireTime": now,
            "renewTime": now,
            "leaseTransitions": transitions,
        }
