"""View of Operation: one imperative act on a cluster or one of its members, and its audit trail."""

from enum import StrEnum

from farmstead_api.conditions import Condition
from farmstead_api.meta import ObjectMeta, View


class OperationType(StrEnum):
    """What can be asked for; farms know the first seven."""

    START = "Start"
    STOP = "Stop"
    RESTART = "Restart"
    STOP_START = "StopStart"
    DRAIN = "Drain"
    UNDRAIN = "Undrain"
    RESET_FAILURES = "ResetFailures"
    SWITCHOVER = "Switchover"
    PROMOTE = "Promote"
    RESYNC = "Resync"
    VERIFY = "Verify"


FARM_OPERATIONS = frozenset(list(OperationType)[:7])


class OperationTarget(View, frozen=True):
    """The cluster, in the Operation's own namespace."""

    kind: str
    name: str


class OperationSpec(View, frozen=True):
    """What is asked for; immutable."""

    cluster_ref: OperationTarget
    type: OperationType
    member: str | None = None
    """Name of a FarmNode; every member, one after the other, where not given."""
    ttl_seconds_after_finished: int = 604800


class OperationStep(View, frozen=True, omit_defaults=False):
    """How far one member is."""

    member: str
    phase: str
    """Pending, Running, Succeeded or Failed."""
    message: str = ""


class OperationStatus(View, frozen=True):
    """Written by the operator."""

    observed_generation: int = 0
    phase: str = ""
    start_time: str | None = None
    completion_time: str | None = None
    message: str = ""
    steps: tuple[OperationStep, ...] = ()
    conditions: tuple[Condition, ...] = ()


class Operation(View, frozen=True):
    """An operation."""

    metadata: ObjectMeta
    spec: OperationSpec
    status: OperationStatus = OperationStatus()

    @property
    def finished(self) -> bool:
        """Whether nothing more will happen."""
        return self.status.phase in {"Succeeded", "Failed"}
