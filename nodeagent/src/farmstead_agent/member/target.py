"""What is wanted of a member: a chain of policies, the first that has an opinion wins. Pure.

Read `POLICIES` as the specification. It is not the place for how to get there: that is `decide`.
"""

from collections.abc import Callable

from farmstead_agent.member.facts import Facts, Target, Want
from farmstead_api.common import DeletionPolicy, DesiredState
from farmstead_api.common import Phase as CheckPhase
from farmstead_api.member import HeldState, MemberSpec, ResourceState

Policy = Callable[[MemberSpec, Facts], Target | None]


def removal(spec: MemberSpec, facts: Facts) -> Target | None:
    """A deletionTimestamp on the Member is the one order to stop for good."""
    if not facts.deleting:
        return None
    if spec.deletion_policy is DeletionPolicy.ORPHAN:
        return Target(want=Want.RELEASE, reason="Orphaned", message="the cluster was deleted, the application runs on")
    return Target(want=Want.REMOVE, reason="Deleted", message="the cluster was deleted")


def shutdown(_spec: MemberSpec, facts: Facts) -> Target | None:
    """The machine goes down."""
    if not facts.shutdown:
        return None
    return Target(want=Want.STOP, reason="MachineShutdown", message="the machine is shutting down")


def held(spec: MemberSpec, _facts: Facts) -> Target | None:
    """A person's Operation holds the member."""
    if spec.override is None:
        return None
    if spec.override.state is HeldState.DRAINED:
        return Target(want=Want.STOP, reason="Drained", message="drained by an Operation; Undrain starts it again")
    return Target(want=Want.STOP, reason="Held", message="stopped by an Operation; Start starts it again")


def not_desired(spec: MemberSpec, _facts: Facts) -> Target | None:
    """The cluster is to be stopped."""
    if spec.desired_state is DesiredState.RUNNING:
        return None
    return Target(want=Want.STOP, reason="DesiredStopped", message="spec.desiredState is Stopped")


def given_up(_spec: MemberSpec, facts: Facts) -> Target | None:
    """The limit of automatic actions is reached."""
    if not facts.record.given_up:
        return None
    return Target(
        want=Want.STOP,
        reason="GivenUp",
        message=f"{facts.record.given_up}; an Operation ResetFailures or Start lets it try again",
    )


def not_at_boot(_spec: MemberSpec, facts: Facts) -> Target | None:
    """Somebody works on the machine and wants nothing to start by itself."""
    if not facts.record.boot_hold:
        return None
    return Target(
        want=Want.STOP,
        reason="NotStartedAtBoot",
        message="maintenance.startAtBoot is Disabled; an Operation Start starts it",
    )


def impossible(_spec: MemberSpec, facts: Facts) -> Target | None:
    """This machine can't, or may not, run it."""
    if facts.problem is None:
        return None
    reason, message = facts.problem
    return Target(want=Want.WAIT, reason=reason, message=message)


def lacking(_spec: MemberSpec, facts: Facts) -> Target | None:
    """Something that must be up before the start is not."""
    for check in facts.checks:
        gate = check.phase is CheckPhase.BEFORE_START or check.name == facts.record.waiting_on
        if gate and check.state is not ResourceState.UP:
            detail = f": {check.message}" if check.message else ""
            message = f"waiting for check {check.name}, which is {check.state}{detail}"
            return Target(want=Want.WAIT, reason="WaitingForCheck", message=message)
    return None


POLICIES: tuple[Policy, ...] = (
    removal,
    shutdown,
    held,
    not_desired,
    given_up,
    not_at_boot,
    impossible,
    lacking,
)


def target(spec: MemberSpec, facts: Facts) -> Target:
    """What is wanted now, and why."""
    for policy in POLICIES:
        if found := policy(spec, facts):
            return found
    return Target(want=Want.RUN, reason="DesiredRunning", message="spec.desiredState is Running")
