"""Who wants what of one load balancer, what is settled, what failed, and who is written next. No I/O, no clock.

One cluster's bad spec makes Azure refuse the whole document. So clusters are written in *lanes*: normally all that
changed together; after a refusal that names nobody, in halves, until the one that it comes from is alone. What is
stalled is tried again in a lane of its own, so that it can't hurt the others; its present items stay meanwhile.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field, replace
from typing import Any

from farmstead_api.farmcluster import PendingOperation
from farmstead_operator.azure.errors import AdapterError, PermanentError
from farmstead_operator.azure.shares import ClusterName, ClusterShare, Problem, Repair, ShareState

OnChange = Callable[[ClusterName], None]
"""Told of each change of a cluster's state; has to be quick, and must not raise."""


@dataclass(slots=True)
class Slot:
    """One cluster. `share` None: it wants to be gone."""

    share: ClusterShare | None
    version: int = 0
    settled_version: int = -1
    attempts: int = 0
    retry_at: float = 0.0
    state: ShareState = field(default_factory=ShareState)

    @property
    def settled(self) -> bool:
        """Whether the latest wish is known to be so."""
        return self.settled_version == self.version


@dataclass(frozen=True, slots=True, kw_only=True)
class Selection:
    """What the next document is made of: what is to change (`lane`), and what is there already."""

    lane: frozenset[ClusterName]
    wanted: Mapping[ClusterName, ClusterShare]
    withdrawn: frozenset[ClusterName]
    versions: Mapping[ClusterName, int]


class Board:
    """The slots of one load balancer; every change of a state goes through `update`, and is told."""

    def __init__(self, *, stalled_seconds: float, on_change: OnChange) -> None:
        self._stalled_seconds = stalled_seconds
        self._on_change = on_change
        self._lanes: list[frozenset[ClusterName]] = []
        self.slots: dict[ClusterName, Slot] = {}

    # -- wishes

    def wish(self, cluster: ClusterName, share: ClusterShare | None, now: float) -> bool:
        """Note what a cluster wants; whether that is news."""
        slot = self.slots.get(cluster)
        if slot is not None and slot.share == share:
            return False
        if slot is None:
            slot = self.slots[cluster] = Slot(share)
        slot.share = share
        slot.version += 1
        slot.attempts, slot.retry_at = 0, 0.0
        self.update(cluster, withdrawing=share is None, settled=False, pending_since=now, problem=None)
        return True

    def forget(self, cluster: ClusterName) -> None:
        """Drop what is known of a cluster."""
        self.slots.pop(cluster, None)

    def update(self, cluster: ClusterName, **changes: Any) -> None:
        """Change a cluster's state, and tell if it is another one now."""
        slot = self.slots.get(cluster)
        if slot is None:
            return
        state = replace(slot.state, **changes)
        if state != slot.state:
            slot.state = state
            self._on_change(cluster)

    def public_ip_names(self) -> set[str]:
        """Public addresses that anybody asks for."""
        frontends = [slot.share.frontend for slot in self.slots.values() if slot.share is not None]
        return {one.public_ip_address.name for one in frontends if one.public_ip_address is not None}

    @property
    def wanted_by_any(self) -> bool:
        """Whether any cluster wants the load balancer to be there."""
        return any(slot.share is not None for slot in self.slots.values())

    # -- turns

    def ready(self, now: float) -> frozenset[ClusterName]:
        """Clusters with something to do that may be tried now."""
        return frozenset(name for name, slot in self.slots.items() if not slot.settled and slot.retry_at <= now)

    def next_retry(self) -> float | None:
        """When the next cluster may be tried again."""
        return min((slot.retry_at for slot in self.slots.values() if not slot.settled), default=None)

    def select(self, now: float) -> Selection:
        """Whose turn it is, together with all that is settled."""
        ready = self.ready(now)
        lanes = [lane & ready for lane in self._lanes if lane & ready]
        queued = frozenset().union(*lanes)
        stalled = frozenset(name for name in ready - queued if self.slots[name].state.stalled)
        if fresh := ready - queued - stalled:
            lanes.insert(0, fresh)
        lanes.extend(frozenset({name}) for name in sorted(stalled))
        lane = lanes.pop(0) if lanes else frozenset()
        self._lanes = lanes
        chosen = {name: slot for name, slot in self.slots.items() if slot.settled or name in lane}
        return Selection(
            lane=lane,
            wanted={name: slot.share for name, slot in chosen.items() if slot.share is not None},
            withdrawn=frozenset(name for name, slot in chosen.items() if slot.share is None and not slot.settled),
            versions={name: slot.version for name, slot in chosen.items()},
        )

    # -- outcomes

    def settle(self, cluster: ClusterName, version: int, **known: Any) -> None:
        """Azure holds what the cluster wanted when it was at `version`; it may want something else by now."""
        slot = self.slots.get(cluster)
        if slot is None:
            return
        slot.settled_version, slot.attempts, slot.retry_at = version, 0, 0.0
        done: dict[str, Any] = {"settled": True, "pending_since": None, "problem": None} if slot.settled else {}
        self.update(cluster, **known, **done, pending_operation=None)

    def unsettle(self, clusters: Iterable[ClusterName], now: float) -> tuple[ClusterName, ...]:
        """These are about to be written; returns those that were in place, which somebody else must have changed."""
        drifted = [name for name in clusters if name in self.slots and self.slots[name].settled]
        for name in drifted:
            self.slots[name].settled_version = -1
            self.update(name, settled=False, pending_since=now)
        return tuple(drifted)

    def operation(self, clusters: Iterable[ClusterName], pending: PendingOperation | None) -> None:
        """An operation runs for these clusters, or no longer."""
        for name in clusters:
            self.update(name, pending_operation=pending)

    def repaired(self, cluster: ClusterName, at: float, message: str) -> None:
        """What somebody else had changed is as it was."""
        self.update(cluster, repair=Repair(at, message))

    def postpone(self, cluster: ClusterName, problem: AdapterError, *, until: float) -> None:
        """It did not work; it will be tried again."""
        slot = self.slots.get(cluster)
        if slot is None or slot.settled:
            return
        slot.attempts += 1
        slot.retry_at = until
        told = Problem(
            reason=problem.reason,
            message=problem.message,
            permanent=isinstance(problem, PermanentError),
            retry_at=until,
        )
        self.update(cluster, problem=told, pending_operation=None)

    def stall(self, cluster: ClusterName, problem: PermanentError, now: float) -> None:
        """It waits for a person, and is tried again now and then."""
        self.postpone(cluster, problem, until=now + self._stalled_seconds)

    def refuse(
        self, changed: frozenset[ClusterName], lane: frozenset[ClusterName], problem: PermanentError, now: float
    ) -> None:
        """Azure refused the document in which the items of `changed` changed: find out whose fault it is."""
        if problem.everywhere or not changed:
            for name in lane | changed | self.ready(now):
                self.stall(name, problem, now)
            return
        text = problem.message.casefold()
        blamed = frozenset(name for name in changed if name.prefix.casefold() in text)
        if blamed or len(changed) == 1:
            for name in blamed or changed:
                self.stall(name, problem, now)
            return
        ordered = sorted(changed)
        middle = len(ordered) // 2
        self._lanes = [frozenset(ordered[:middle]), frozenset(ordered[middle:]), *self._lanes]
