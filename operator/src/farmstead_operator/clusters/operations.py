"""Operations on farms: one at a time a cluster, one member after the other, each step reported by its agent. Pure.

Every Operation travels to the member as `spec.operation`; the agent carries it out once and reports. Stop and Drain
also put a hold into the member, Start takes any hold away, Undrain a drain. A failed step ends the roll: what is left
of a cluster that does not take a restart well stays as it is. Deleting an Operation gives it up.
"""

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from datetime import timedelta

from msgspec.structs import replace

from farmstead_api import Condition, ConditionStatus, FarmCluster, Operation
from farmstead_api.common import DesiredState
from farmstead_api.conditions import merge
from farmstead_api.member import HeldState, MemberOperation, OperationPhase, Override
from farmstead_api.operation import FARM_OPERATIONS, OperationStatus, OperationStep, OperationType
from farmstead_operator.clusters.holds import current_hold
from farmstead_operator.clusters.observed import Observed, moment

RESTARTS = frozenset({OperationType.RESTART, OperationType.STOP_START})
ENDED = frozenset({OperationPhase.SUCCEEDED, OperationPhase.FAILED})
PATIENCE = timedelta(seconds=10)
"""How long an Operation waits for a cluster that is not there: both may come out of one file."""


@dataclass(frozen=True, slots=True, kw_only=True)
class OperationsPlan:
    """What becomes of the cluster's operations now."""

    changed: tuple[tuple[Operation, OperationStatus], ...] = ()
    expired: tuple[Operation, ...] = ()
    acting: Mapping[str, Operation]
    """The operation that each machine's Member is to carry now."""
    wake_after: float | None = None


def plan_operations(observed: Observed, nodes: Sequence[str]) -> OperationsPlan:
    """Decide on every operation of the cluster; `nodes` are the machines of its members, in order."""
    outcome: list[tuple[Operation, OperationStatus]] = []
    acting: dict[str, Operation] = {}
    patience: list[float] = []
    current: Operation | None = None
    for operation in sorted(_open(observed.operations), key=_precedence):
        left = _patience(observed, operation)
        if left > 0:
            patience.append(left)
        elif refused := _refusal(observed, operation, nodes):
            outcome.append((operation, _ended(observed, operation, OperationPhase.FAILED, refused, ())))
        elif current is None:
            current = operation
            status, acting = _advance(observed, operation, nodes)
            outcome.append((operation, status))
        else:
            message = f"waits for Operation {current.metadata.name}: a cluster carries out one at a time"
            outcome.append((operation, OperationStatus(phase=OperationPhase.PENDING, message=message)))
    expired, next_expiry = _expiry(observed)
    return OperationsPlan(
        changed=tuple((operation, status) for operation, status in outcome if status != operation.status),
        expired=expired,
        acting=acting,
        wake_after=min([*patience, *next_expiry], default=None),
    )


def hold_after(observed: Observed, cluster: FarmCluster, node: str, operation: Operation | None) -> Override | None:
    """The hold that a machine's Member carries, with the operation that it is given now."""
    now = current_hold(observed, cluster, node)
    if operation is None:
        return now
    match operation.spec.type:
        case OperationType.STOP:
            return Override(state=HeldState.STOPPED, operation_uid=operation.metadata.uid)
        case OperationType.DRAIN:
            return Override(state=HeldState.DRAINED, operation_uid=operation.metadata.uid)
        case OperationType.START:
            return None
        case OperationType.UNDRAIN if now is not None and now.state is HeldState.DRAINED:
            return None
    return now


def order_for(operation: Operation | None) -> MemberOperation | None:
    """What the Member carries of an operation."""
    return MemberOperation(uid=operation.metadata.uid, type=operation.spec.type) if operation else None


def _open(operations: Iterable[Operation]) -> Iterable[Operation]:
    return (operation for operation in operations if not operation.finished and not operation.metadata.deleting)


def _precedence(operation: Operation) -> tuple[bool, str, str]:
    """What runs already, then the oldest."""
    meta = operation.metadata
    return operation.status.phase != OperationPhase.RUNNING, meta.creation_timestamp, meta.name


def _patience(observed: Observed, operation: Operation) -> float:
    if observed.cluster is not None or operation.spec.cluster_ref.kind != "FarmCluster":
        return 0.0
    return (moment(operation.metadata.creation_timestamp) + PATIENCE - observed.now).total_seconds()


def _refusal(observed: Observed, operation: Operation, nodes: Sequence[str]) -> str:
    """Why an operation can't be carried out at all; empty where it can."""
    return next((why for refuse in REFUSALS if (why := refuse(observed, operation, nodes))), "")


Refusal = Callable[[Observed, Operation, Sequence[str]], str]


def _unknown_kind(_observed: Observed, operation: Operation, _nodes: Sequence[str]) -> str:
    kind = operation.spec.cluster_ref.kind
    return "" if kind == "FarmCluster" else f"this operator knows no {kind}"


def _for_mirrors(_observed: Observed, operation: Operation, _nodes: Sequence[str]) -> str:
    kind = operation.spec.type
    return "" if kind in FARM_OPERATIONS else f"a FarmCluster knows no operation {kind}: that is for mirrors"


def _no_cluster(observed: Observed, operation: Operation, _nodes: Sequence[str]) -> str:
    name = operation.spec.cluster_ref.name
    if observed.cluster is None:
        return f"there is no FarmCluster {name} in namespace {operation.metadata.namespace}"
    return f"FarmCluster {name} is being deleted" if observed.cluster.metadata.deleting else ""


def _no_member(_observed: Observed, operation: Operation, nodes: Sequence[str]) -> str:
    """Checked once: a machine that leaves while the operation runs fails its own step."""
    name, member = operation.spec.cluster_ref.name, operation.spec.member
    if operation.status.steps or (nodes and member is None) or member in nodes:
        return ""
    return f"FarmCluster {name} has no member{f' {member}' if member else 's'}; it has {', '.join(nodes) or 'none'}"


REFUSALS: tuple[Refusal, ...] = (_unknown_kind, _for_mirrors, _no_cluster, _no_member)


def _advance(
    observed: Observed, operation: Operation, nodes: Sequence[str]
) -> tuple[OperationStatus, dict[str, Operation]]:
    """The next state of the operation that is being carried out."""
    named = [operation.spec.member] if operation.spec.member else nodes
    before = operation.status.steps or tuple(OperationStep(member=node, phase=OperationPhase.PENDING) for node in named)
    steps: list[OperationStep] = []
    acting: dict[str, Operation] = {}
    for old in before:
        step = old
        if old.phase not in ENDED and all(earlier.phase == OperationPhase.SUCCEEDED for earlier in steps):
            step, acts = _step(observed, operation, old, known=old.member in nodes)
            if acts:
                acting[old.member] = operation
        steps.append(step)
    return _status(observed, operation, tuple(steps)), acting


def _step(observed: Observed, operation: Operation, old: OperationStep, *, known: bool) -> tuple[OperationStep, bool]:
    """How far the member whose turn it is has come, and whether it is to carry the operation now."""
    if known and old.member not in observed.members:
        message = "waits for its Member, which is not there yet"
        return OperationStep(member=old.member, phase=OperationPhase.PENDING, message=message), False
    phase, message, acts = _progress(observed, operation, old.member)
    return OperationStep(member=old.member, phase=phase, message=message[:4096]), acts


def _progress(observed: Observed, operation: Operation, node: str) -> tuple[OperationPhase, str, bool]:
    member, uid = observed.members.get(node), operation.metadata.uid
    if member is None or member.metadata.deleting:
        return OperationPhase.FAILED, "is not, or no longer, a member of this cluster", False
    report = member.status.operation if member.status.operation and member.status.operation.uid == uid else None
    if report is not None and report.phase in ENDED:
        return report.phase, report.message, False
    begun = member.spec.operation is not None and member.spec.operation.uid == uid
    if since := observed.silent.get(node):
        return _without_agent(operation, since, begun=begun)
    restart_of_all = operation.spec.member is None and operation.spec.type in RESTARTS
    if not begun and restart_of_all and (why := _not_running(observed, node)):
        return OperationPhase.SUCCEEDED, f"skipped: {why}", False
    return OperationPhase.RUNNING, report.message if report else "handed to the machine's agent", True


def _without_agent(operation: Operation, since: str, *, begun: bool) -> tuple[OperationPhase, str, bool]:
    """A hold, or its end, needs no agent to be put down in the Member; a restart does."""
    silence = f"its agent has been silent since {since}"
    if operation.spec.type not in RESTARTS:
        return OperationPhase.SUCCEEDED, f"{silence}; takes effect when it is back", True
    if begun:
        return OperationPhase.RUNNING, f"{silence}; delete this Operation to give it up", True
    return OperationPhase.FAILED, f"{silence}; nothing was done there", False


def _not_running(observed: Observed, node: str) -> str:
    cluster = observed.cluster
    if cluster is None or cluster.spec.desired_state is DesiredState.STOPPED:
        return "spec.desiredState is Stopped"
    hold = current_hold(observed, cluster, node)
    return f"held {hold.state} by an Operation" if hold else ""


def _status(observed: Observed, operation: Operation, steps: tuple[OperationStep, ...]) -> OperationStatus:
    failed = next((step for step in steps if step.phase == OperationPhase.FAILED), None)
    done = sum(step.phase == OperationPhase.SUCCEEDED for step in steps)
    if failed is not None:
        left = sum(step.phase == OperationPhase.PENDING for step in steps)
        message = f"{failed.member}: {failed.message}" + (f"; ended there, {left} members not touched" if left else "")
        return _ended(observed, operation, OperationPhase.FAILED, message, steps)
    if done == len(steps):
        return _ended(observed, operation, OperationPhase.SUCCEEDED, f"{done} of {done} members done", steps)
    turn = next(step for step in steps if step.phase != OperationPhase.SUCCEEDED)
    return OperationStatus(
        observed_generation=operation.metadata.generation,
        phase=OperationPhase.RUNNING,
        start_time=operation.status.start_time or observed.timestamp,
        message=f"{done} of {len(steps)} members done; {turn.member}: {turn.message}",
        steps=steps,
    )


def _ended(
    observed: Observed, operation: Operation, phase: OperationPhase, message: str, steps: tuple[OperationStep, ...]
) -> OperationStatus:
    """A final status, with a condition that `kubectl wait` can wait for: Complete or Failed."""
    succeeded = phase is OperationPhase.SUCCEEDED
    condition = Condition(
        type="Complete" if succeeded else "Failed",
        status=ConditionStatus.TRUE,
        reason="AllMembersDone" if succeeded else "OperationFailed",
        message=message,
        observed_generation=operation.metadata.generation,
    )
    return replace(
        operation.status,
        observed_generation=operation.metadata.generation,
        phase=phase,
        start_time=operation.status.start_time or observed.timestamp,
        completion_time=observed.timestamp,
        message=message[:4096],
        steps=steps,
        conditions=merge(operation.status.conditions, [condition], now=observed.timestamp),
    )


def _expiry(observed: Observed) -> tuple[tuple[Operation, ...], list[float]]:
    """Finished operations whose time is over, and when the next one's is, in seconds from now."""
    expired: list[Operation] = []
    later: list[float] = []
    for operation in observed.operations:
        if not operation.finished or operation.status.completion_time is None or operation.metadata.deleting:
            continue
        end = moment(operation.status.completion_time) + timedelta(seconds=operation.spec.ttl_seconds_after_finished)
        left = (end - observed.now).total_seconds()
        if left <= 0:
            expired.append(operation)
        else:
            later.append(left)
    return tuple(expired), later
