"""What a script is told: state, next state and action, as arguments and as environment. Pure."""

from farmstead_agent.application.base import Step
from farmstead_agent.member.record import SCRIPTS, Phase, Record
from farmstead_api.member import Member, MemberState

FORCE = "force"


def states(record: Record) -> tuple[MemberState, MemberState]:
    """The member's state while the script of this phase runs, and the one it is on the way to."""
    up, waiting, stopped = MemberState.UP, MemberState.WAITING, MemberState.STOPPED
    if record.in_place:
        return up, up
    match record.phase:
        case Phase.PRESTART | Phase.START:
            return waiting, up
        case Phase.POSTSTOP:
            return waiting, stopped
        case _:
            return up, waiting


def step_of(record: Record, member: Member, *, node: str) -> Step:
    """The step of the record's phase."""
    name = SCRIPTS[record.phase]
    state, following = states(record)
    forced = record.phase is Phase.FORCE_STOP
    return Step(
        id=record.step_id,
        name=name,
        arguments=(state, following, name, *((FORCE,) if forced else ())),
        environment={
            "FARMSTEAD_STATE": state,
            "FARMSTEAD_NEXT_STATE": following,
            "FARMSTEAD_ACTION": name,
            "FARMSTEAD_FORCE": "1" if forced else "0",
            "FARMSTEAD_REASON": record.reason,
            "FARMSTEAD_NAMESPACE": member.metadata.namespace,
            "FARMSTEAD_CLUSTER": member.spec.cluster_ref.name,
            "FARMSTEAD_NODE": node,
        },
    )
