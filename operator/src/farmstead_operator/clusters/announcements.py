"""Which changes of a cluster's status are worth an Event: few, none for what merely goes on. Pure."""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass

from farmstead_api import Condition, ConditionStatus
from farmstead_api.farmcluster import FarmClusterStatus, MemberSummary
from farmstead_api.member import MemberState

GOOD: Mapping[str, ConditionStatus] = {
    "Available": ConditionStatus.TRUE,
    "RedundancyReady": ConditionStatus.TRUE,
    "LoadBalancerReady": ConditionStatus.TRUE,
    "Stalled": ConditionStatus.FALSE,
    "Held": ConditionStatus.FALSE,
}
"""Conditions whose changes are told, and how each should be."""
QUIET = frozenset({"Applying", "NotReadYet", "Stopped", "Deleting"})
"""Reasons that are on the way to something, or somebody's wish."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Announcement:
    """One Event to be."""

    warning: bool
    reason: str
    action: str
    note: str


def announcements(old: FarmClusterStatus, new: FarmClusterStatus) -> tuple[Announcement, ...]:
    """What to tell of the step from one status to the next."""
    return (*_conditions(old, new), *_members(old.members, new.members))


def _conditions(old: FarmClusterStatus, new: FarmClusterStatus) -> Iterable[Announcement]:
    before = {condition.type: condition for condition in old.conditions}
    for condition in new.conditions:
        good = GOOD.get(condition.type)
        if good is None or condition.reason in QUIET or condition.status is ConditionStatus.UNKNOWN:
            continue
        if _changed(before.get(condition.type), condition, good):
            yield Announcement(
                warning=condition.status is not good,
                reason=condition.reason,
                action=condition.type,
                note=condition.message or condition.reason,
            )


def _changed(old: Condition | None, new: Condition, good: ConditionStatus) -> bool:
    """Bad news is news again when its reason changes; that all is well from the start is none."""
    if old is None:
        return new.status is not good
    return old.status is not new.status or (new.status is not good and old.reason != new.reason)


def _members(old: Iterable[MemberSummary], new: Iterable[MemberSummary]) -> Iterable[Announcement]:
    before = {entry.name: entry for entry in old}
    for entry in new:
        previous = before.get(entry.name)
        if previous is None or previous.state == entry.state or _first_word(previous, entry):
            continue
        yield Announcement(
            warning=entry.state == MemberState.UNKNOWN,
            reason=f"Member{entry.state}",
            action="MemberState",
            note=f"{entry.name}: {previous.state} -> {entry.state}" + (f": {entry.reason}" if entry.reason else ""),
        )


def _first_word(old: MemberSummary, new: MemberSummary) -> bool:
    """A member that is heard of and serves: what everybody expects."""
    return old.state == MemberState.UNKNOWN and new.state == MemberState.UP
