"""Imperative acts on one member: accepted once, begun when it is possible, reported until they have ended. Pure.

The operator puts an Operation into the Member; its hold (Stop, Drain) comes as `spec.override` and is part of
what is wanted, so for these the agent only reports when they are reached.
"""

from dataclasses import dataclass

from msgspec.structs import replace

from farmstead_agent.member.advance import forgiven
from farmstead_agent.member.facts import Look, Target, Want
from farmstead_agent.member.record import EXECUTED_KEPT, OperationRecord, Phase, Record
from farmstead_api.member import MemberOperation, MemberOperationStatus, OperationPhase
from farmstead_api.operation import OperationType

HOLDS = frozenset({OperationType.STOP, OperationType.DRAIN})
STARTS = frozenset({OperationType.START, OperationType.UNDRAIN})
RESTARTS = frozenset({OperationType.RESTART, OperationType.STOP_START})
ENDED = frozenset({OperationPhase.SUCCEEDED, OperationPhase.FAILED})


@dataclass(frozen=True, slots=True, kw_only=True)
class Outcome:
    """How far an operation is now."""

    phase: OperationPhase
    message: str = ""


def accepted(record: Record, operation: MemberOperation | None, want: Target) -> Record:
    """The record after looking at the operation in the spec; unchanged where it was accepted before."""
    if operation is None or operation.uid in record.executed:
        return record
    if operation.type in RESTARTS:
        return _accepted_restart(record, operation, want)
    if operation.type in STARTS:
        return _taken(forgiven(record), operation, Outcome(phase=OperationPhase.RUNNING))
    if operation.type is OperationType.RESET_FAILURES:
        return _taken(forgiven(record), operation, Outcome(phase=OperationPhase.SUCCEEDED, message="failures reset"))
    if operation.type in HOLDS:
        return _taken(record, operation, Outcome(phase=OperationPhase.RUNNING))
    message = f"a farm's member knows no operation {operation.type}"
    return _taken(record, operation, Outcome(phase=OperationPhase.FAILED, message=message))


def _accepted_restart(record: Record, operation: MemberOperation, want: Target) -> Record:
    """A restart needs something that runs; one that comes in the middle of a start waits for its end."""
    if record.phase is Phase.UP:
        return replace(_taken(record, operation, Outcome(phase=OperationPhase.RUNNING)), order=operation.type)
    if want.want is Want.RUN and record.phase is not Phase.IDLE:
        return record
    message = f"nothing to restart, the member is not running: {want.message}"
    return _taken(record, operation, Outcome(phase=OperationPhase.FAILED, message=message))


def _taken(record: Record, operation: MemberOperation, outcome: Outcome) -> Record:
    status = MemberOperationStatus(uid=operation.uid, phase=outcome.phase, message=outcome.message)
    return replace(
        record,
        operation=OperationRecord(type=operation.type, status=status),
        executed=(*record.executed, operation.uid)[-EXECUTED_KEPT:],
    )


def progressed(record: Record, want: Target, look: Look) -> Record:
    """The record after looking whether the operation in hand has ended."""
    current = record.operation
    if current is None or current.status.phase in ENDED:
        return record
    outcome = _outcome(record, current.type, want, look)
    status = replace(current.status, phase=outcome.phase, message=outcome.message)
    return replace(record, operation=replace(current, status=status))


def _outcome(record: Record, kind: OperationType, want: Target, look: Look) -> Outcome:
    if kind in HOLDS:
        if want.want is not Want.STOP:
            return Outcome(phase=OperationPhase.FAILED, message=f"nothing holds the member: {want.message}")
        if record.phase is Phase.IDLE:
            return Outcome(phase=OperationPhase.SUCCEEDED, message=look.message)
        return Outcome(phase=OperationPhase.RUNNING, message=look.message)
    if want.want not in {Want.RUN, Want.WAIT}:
        return Outcome(phase=OperationPhase.FAILED, message=f"does not run: {want.message}")
    if look.serving and record.order is None:
        return Outcome(phase=OperationPhase.SUCCEEDED, message=look.message)
    return Outcome(phase=OperationPhase.RUNNING, message=look.message)
