"""The one task that writes a load balancer, for all clusters that have a share in it.

Woken by wishes, and by time; each round is level-based: read, compute, write, wait, read back. Wishes that come while
a round runs are in the next one, so a burst of changes costs few PUTs. A second PUT would cancel the first: that there
is one task, and only one, is what makes the rest simple.

Nothing here gives up. What is transient or a conflict backs off and goes round again; what is permanent stalls the
cluster it comes from and is tried again slowly. The only state that counts is Azure's: a writer may die at any point.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable, Sequence

from farmstead_api.farmcluster import PendingOperation
from farmstead_operator.azure.arm import Arm, LongOperation
from farmstead_operator.azure.clock import Clock
from farmstead_operator.azure.document import Json
from farmstead_operator.azure.errors import (
    AdapterError,
    ConflictError,
    PermanentError,
    TokenRefusedError,
    TransientError,
    backoff,
)
from farmstead_operator.azure.load_balancer import spec
from farmstead_operator.azure.load_balancer.board import Board, OnChange, Selection
from farmstead_operator.azure.load_balancer.client import LoadBalancerClient
from farmstead_operator.azure.public_ip.writer import PublicIPs
from farmstead_operator.azure.shares import ClusterName, ClusterShare, LoadBalancerKey, ShareState, timestamp

_LOG = logging.getLogger(__name__)
_CONFLICT_BASE = 0.2
_LONGEST_CONFLICT_BACKOFF = 30.0


class BusyError(TransientError):
    """An operation runs on the load balancer that is not ours, or that we lost sight of."""


class LoadBalancerWriter:
    """Writes one load balancer. `run` is its task."""

    def __init__(
        self, key: LoadBalancerKey, *, arm: Arm, clock: Clock, jitter: Callable[[], float], on_change: OnChange
    ) -> None:
        self.key = key
        self.settled = asyncio.Event()
        """Set at each round that ended well: the backends' health is worth a look."""
        self.board = Board(stalled_seconds=arm.settings.stalled_seconds, on_change=on_change)
        self._settings = arm.settings
        self._arm = arm
        self._client = LoadBalancerClient(arm, key)
        self._addresses = PublicIPs(arm, key, arm.settings.instance)
        self._clock = clock
        self._jitter = jitter
        self._wake = asyncio.Event()
        self._tokens: dict[str, None] = {}
        self._attempts = 0
        self._not_before = 0.0
        self._read_again_at = clock.time() + arm.settings.drift_seconds
        self._busy_since: float | None = None
        self._collect = False

    # -- wishes

    def declare(self, share: ClusterShare) -> None:
        """The cluster wants this share; told again, nothing happens."""
        if self.board.wish(share.cluster, share, self._clock.time()):
            self._wake.set()

    def withdraw(self, cluster: ClusterName) -> None:
        """The cluster wants nothing any more."""
        if self.board.wish(cluster, None, self._clock.time()):
            self._wake.set()

    def resume(self, pending: PendingOperation) -> None:
        """An operation that another process started may still be running."""
        self._tokens[pending.token] = None

    def state(self, cluster: ClusterName) -> ShareState:
        """What is known of the cluster's share."""
        slot = self.board.slots.get(cluster)
        return slot.state if slot is not None else ShareState()

    # -- the task

    async def run(self) -> None:
        """Write, for ever."""
        while True:
            await self._until_due()
            await self._gather()
            await self._round()

    async def _until_due(self) -> None:
        while True:
            now = self._clock.time()
            if now >= self._not_before:
                if self.board.ready(now) or now >= self._read_again_at:
                    return
                due = min(self._read_again_at, self.board.next_retry() or self._read_again_at)
                await self._clock.wait(self._wake, due - now)
                if self._wake.is_set():
                    return
            else:
                await self._clock.wait(asyncio.Event(), self._not_before - now)

    async def _gather(self) -> None:
        """Let a burst of wishes come in: until it is quiet, not longer than the first can wait."""
        until = self._clock.time() + self._settings.gather_seconds
        while self._wake.is_set():
            self._wake.clear()
            now = self._clock.time()
            if not await self._clock.wait(self._wake, min(self._settings.quiet_seconds, until - now)):
                return

    async def _round(self) -> None:
        now = self._clock.time()
        selection = self.board.select(now)
        drift = now >= self._read_again_at
        if not selection.lane and not drift:
            return
        if drift:
            self._collect = self._collect or bool(self.board.public_ip_names())
        try:
            await self._write(selection)
        except AdapterError as problem:
            await self._failed(selection, problem)
        except Exception as error:  # noqa: BLE001 - a defect must not end the task: other clusters depend on it
            _LOG.exception("defect while writing load balancer %s", self.key.name)
            await self._failed(selection, TransientError("InternalError", f"The operator failed: {error!r}."))
        else:
            self._attempts, self._not_before = 0, 0.0
            self._read_again_at = self._clock.time() + self._settings.drift_seconds
            self.settled.set()

    # -- one round

    async def _write(self, selection: Selection) -> None:
        await self._finish_resumed()
        current = await self._read(selection)
        wanted = await self._with_addresses(selection, current)
        plan = self._plan(current, selection, wanted)
        now = self._clock.time()
        for cluster, refusal in plan.refused.items():
            self.board.unsettle([cluster], now)
            self.board.stall(cluster, refusal, now)
        after = current
        if not plan.nothing:
            after = await self._apply(plan, current, selection)
        self._settle_present(after, selection, wanted, plan)
        if self._collect or selection.withdrawn:
            await self._addresses.collect(self.board.public_ip_names(), spec.public_ips_in_use(after))
            self._collect = False
        for cluster in selection.withdrawn:
            self.board.settle(
                cluster, selection.versions[cluster], load_balancer_id="", frontend_address="", backends=()
            )

    def _plan(self, current: Json | None, selection: Selection, wanted: Sequence[spec.Wanted]) -> spec.Plan:
        return spec.plan(
            current,
            key=self.key,
            instance=self._settings.instance,
            wanted=wanted,
            withdrawn=selection.withdrawn,
            keep=self.board.wanted_by_any,
        )

    async def _finish_resumed(self) -> None:
        """Wait for operations of a former life; one that can't be watched any more is left to reading the state."""
        while self._tokens:
            token = next(iter(self._tokens))
            try:
                operation = await self._client.resume(token)
                if operation is not None:
                    _LOG.info("load balancer %s: going on with the operation that was under way", self.key.name)
                    await operation.wait()
            except AdapterError as problem:
                _LOG.info("load balancer %s: the operation that was under way: %s", self.key.name, problem)
            self._tokens.pop(token, None)

    async def _read(self, selection: Selection) -> Json | None:
        try:
            document = await self._client.get()
        except PermanentError as problem:
            if problem.reason == "ResourceGroupNotFound":
                for cluster in selection.withdrawn:  # with the group, all that was in it went
                    self.board.settle(cluster, selection.versions[cluster], load_balancer_id="", frontend_address="")
            raise
        state = str(((document or {}).get("properties") or {}).get("provisioningState")).casefold()
        if state not in ("updating", "deleting"):
            self._busy_since = None
            return document
        now = self._clock.time()
        self._busy_since = self._busy_since or now
        if now - self._busy_since > self._settings.busy_seconds:
            return document
        raise BusyError(
            "OperationInProgress",
            f"Azure is still working on an earlier change of load balancer {self.key.name} ({state}): waiting for it.",
            delay=self._settings.polling_seconds,
        )

    async def _with_addresses(self, selection: Selection, current: Json | None) -> list[spec.Wanted]:
        """The shares whose public address is there; the others are postponed, for a reason of their own."""
        shares = list(selection.wanted.values())
        problems = await self._addresses.ensure(shares, spec.public_ips_in_use(current))
        wanted = []
        now = self._clock.time()
        for share in shares:
            public = share.frontend.public_ip_address
            problem = problems.get(public.name) if public else None
            if problem is None:
                public_id = self.key.public_ip_id(public.name) if public else None
                wanted.append(spec.Wanted(share=share, public_ip_id=public_id))
            elif isinstance(problem, TokenRefusedError):
                raise problem
            elif isinstance(problem, PermanentError):
                self.board.unsettle([share.cluster], now)
                self.board.stall(share.cluster, problem, now)
            else:
                attempts = self.board.slots[share.cluster].attempts + 1 if share.cluster in self.board.slots else 1
                delay = getattr(problem, "delay", None)
                until = now + backoff(attempts, asked=delay, jitter=self._jitter())
                self.board.postpone(share.cluster, problem, until=until)
        return wanted

    async def _apply(self, plan: spec.Plan, current: Json | None, selection: Selection) -> Json | None:
        """Write the plan and wait for it; the document after it."""
        changed = frozenset(plan.changes)
        drifted = self.board.unsettle(changed, self._clock.time())
        for cluster in drifted:
            _LOG.warning(
                "load balancer %s: putting back items of %s: %s", self.key.name, cluster, plan.changes[cluster]
            )
        etag = (current or {}).get("etag") or ""
        try:
            if plan.body is not None:
                operation = await self._client.put(plan.body, etag=etag or None)
            else:
                operation = await self._client.delete(etag=etag)
            after = await self._watch(operation, changed)
        except PermanentError as problem:
            raise _RefusedError(problem, changed) from problem
        for cluster in drifted:
            self.board.repaired(cluster, self._clock.time(), "; ".join(plan.changes[cluster]))
        released = spec.public_ips_in_use(current) - spec.public_ips_in_use(after)
        self._collect = self._collect or bool(released)
        return after

    async def _watch(self, operation: LongOperation, clusters: frozenset[ClusterName]) -> Json | None:
        now = self._clock.time()
        pending = PendingOperation(resource_id=self.key.id, token=operation.token, started_at=timestamp(now))
        self.board.operation(clusters, pending)
        try:
            return await operation.wait()
        finally:
            self.board.operation(clusters, None)

    def _settle_present(
        self, after: Json | None, selection: Selection, wanted: Sequence[spec.Wanted], plan: spec.Plan
    ) -> None:
        """What Azure answered is compared once more: in place is what was read back, not what was sent."""
        left = self._plan(after, selection, [one for one in wanted if one.share.cluster not in plan.refused])
        now = self._clock.time()
        for one in wanted:
            cluster = one.share.cluster
            if cluster in plan.refused:
                continue
            if cluster in left.changes or after is None:
                problem = PermanentError(
                    "NotTakenOver",
                    "Azure accepted the load balancer, but what it holds differs from what was asked for: "
                    f"{'; '.join(left.changes.get(cluster, ('it is not there',)))}. Look for somebody else who "
                    "changes it, or a policy of the subscription.",
                )
                self.board.unsettle([cluster], now)
                self.board.stall(cluster, problem, now)
                continue
            private, public = spec.frontend_address(after, left.frontends.get(cluster, ""))
            address = private or self._addresses.address(public)
            self.board.settle(
                cluster, selection.versions[cluster], load_balancer_id=self.key.id, frontend_address=address
            )

    # -- when it did not work

    async def _failed(self, selection: Selection, problem: AdapterError) -> None:
        now = self._clock.time()
        changed: frozenset[ClusterName] = frozenset()
        if isinstance(problem, _RefusedError):
            changed, problem = problem.changed, problem.problem
        if isinstance(problem, TokenRefusedError):
            await self._arm.renew_credential()
        _LOG.info("load balancer %s: %s: %s", self.key.name, problem.reason, problem)
        if isinstance(problem, PermanentError):
            self._attempts = 0
            self._read_again_at = now + self._settings.drift_seconds
            self.board.refuse(changed, selection.lane, problem, now)
            return
        until = now + self._delay(problem)
        self._not_before = until
        for cluster in self.board.ready(now) | selection.lane:
            self.board.postpone(cluster, problem, until=until)

    def _delay(self, problem: AdapterError) -> float:
        if isinstance(problem, BusyError):
            return problem.delay or 0.0
        self._attempts += 1
        if isinstance(problem, ConflictError):
            base, longest, asked = _CONFLICT_BASE, _LONGEST_CONFLICT_BACKOFF, None
        else:
            base, longest = 1.0, self._settings.longest_backoff_seconds
            asked = getattr(problem, "delay", None)
        return backoff(self._attempts, asked=asked, jitter=self._jitter(), base=base, longest=longest)


class _RefusedError(AdapterError):
    """A document was refused: the problem, and whose items had changed in it."""

    def __init__(self, problem: PermanentError, changed: frozenset[ClusterName]) -> None:
        super().__init__(problem.reason, problem.message)
        self.problem = problem
        self.changed = changed
