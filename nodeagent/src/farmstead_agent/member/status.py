"""Member.status from what the agent knows. Pure."""

from farmstead_agent.failover.judge import in_window
from farmstead_agent.member.facts import Facts, Look
from farmstead_agent.member.record import Phase, Record
from farmstead_api.conditions import Condition, ConditionStatus
from farmstead_api.member import REMOVED, Member, MemberStatus, ResourceState, ResourceStatus

APPLICATION = "application"
LONGEST = 1000
"""The API bounds every text; this fits the tightest bound."""


def clipped(text: str) -> str:
    """A text cut to what the API takes."""
    return text if len(text) <= LONGEST else text[: LONGEST - 1] + "…"


def member_status(member: Member, facts: Facts, look: Look, *, boot_id: str, wall: float) -> MemberStatus:
    """What the agent reports of a member."""
    record = facts.record
    return MemberStatus(
        observed_generation=member.metadata.generation,
        observed_revision=member.spec.revision,
        application_revision=record.running.revision if record.running else "",
        state=look.state,
        readiness=look.readiness,
        reason=look.reason,
        message=clipped(look.message),
        since=record.state_since,
        resources=(_application(record, facts), *record.checks),
        last_actions=record.actions,
        actions_in_window=len(in_window(record.automatic, now=wall, failover=member.spec.failover)),
        operation=record.operation.status if record.operation else None,
        boot_id=boot_id,
        conditions=_conditions(member, record),
    )


def _application(record: Record, facts: Facts) -> ResourceStatus:
    """The application itself, beside its checks."""
    if facts.alive:
        state, message = ResourceState.UP, ""
    elif record.phase is Phase.UP and not facts.died:
        state, message = ResourceState.UNKNOWN, "its start left no process to look after"
    else:
        state, message = ResourceState.DOWN, "no process of it is alive"
    return ResourceStatus(name=APPLICATION, state=state, since=record.state_since, message=message)


def _conditions(member: Member, record: Record) -> tuple[Condition, ...]:
    if record.phase is not Phase.REMOVED:
        return ()
    return (
        Condition(
            type=REMOVED,
            status=ConditionStatus.TRUE,
            reason=record.reason,
            message=clipped(record.cause),
            last_transition_time=record.removed_since,
            observed_generation=member.metadata.generation,
        ),
    )
