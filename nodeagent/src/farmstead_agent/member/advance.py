"""The record after a move, and after what else changes it. Pure.

`decide` says where to go; this keeps the books: which step comes next, what counts, what is forgotten.
"""

from msgspec.structs import replace

from farmstead_agent.clock import timestamp
from farmstead_agent.member.facts import Look, Move
from farmstead_agent.member.record import SCRIPTS, Phase, Record, Running
from farmstead_agent.member.status import clipped
from farmstead_api.member import ActionRecord, MemberSpec

ACTIONS_KEPT = 10


def moved(record: Record, move: Move, spec: MemberSpec, *, now: float, wall: float) -> Record:
    """The record once `move` is made; `now` is monotonic, `wall` seconds since 1970."""
    after = replace(
        record,
        phase=move.phase,
        since=now,
        reason=move.reason,
        cause=move.cause,
        in_place=move.in_place,
        step_id="",
    )
    if move.phase in SCRIPTS:
        number = record.steps_begun + 1
        after = replace(after, steps_begun=number, step_id=f"{number}-{SCRIPTS[move.phase]}")
    if record.phase is Phase.UP:
        after = replace(after, order=None)
    if move.action:
        entry = ActionRecord(time=timestamp(wall), action=move.action, cause=clipped(move.cause))
        after = replace(after, actions=(*record.actions, entry)[-ACTIONS_KEPT:])
    if move.automatic:
        failed = record.failed_starts if record.was_ready else record.failed_starts + 1
        after = replace(after, automatic=(*record.automatic, wall), failed_starts=failed)
    if move.give_up:
        after = replace(after, given_up=move.give_up)
    if move.waiting_on:
        after = replace(after, waiting_on=move.waiting_on)
    if move.phase is Phase.REMOVED:
        after = replace(after, removed_since=timestamp(wall))
    return _entered(after, spec)


def _entered(record: Record, spec: MemberSpec) -> Record:
    """What entering the phase itself changes."""
    match record.phase:
        case Phase.START:
            running = Running(application=spec.application, revision=spec.application_revision)
            return replace(record, running=running, was_ready=False, waiting_on="", checks=())
        case Phase.IDLE:
            return replace(record, running=None, checks=())
        case _:
            return record


def started(record: Record, *, alive: bool) -> Record:
    """The record of an application whose start has ended: whether it has processes to look after."""
    if record.running is None or record.running.has_processes or not alive:
        return record
    return replace(record, running=replace(record.running, has_processes=True))


def shown(record: Record, look: Look, *, wall: float) -> Record:
    """The record after the member has changed how it looks: since when, and what came of the last act."""
    name = f"{look.state}/{look.readiness}"
    if record.shown_as == name and record.was_ready >= look.serving:
        return record
    after = replace(record, shown_as=name, state_since=timestamp(wall))
    if look.serving:
        return _with_result(replace(after, was_ready=True, failed_starts=0), "Ready")
    if record.phase in {Phase.IDLE, Phase.REMOVED}:
        return _with_result(after, look.state.value)
    return after


def _with_result(record: Record, result: str) -> Record:
    if not record.actions or record.actions[-1].result:
        return record
    return replace(record, actions=(*record.actions[:-1], replace(record.actions[-1], result=result)))


def forgiven(record: Record) -> Record:
    """A person has acted: failures no longer count, and nothing holds the start back."""
    return replace(record, automatic=(), failed_starts=0, given_up="", boot_hold=False)
