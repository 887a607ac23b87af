"""View of Member: the complete instructions for one cluster on one machine, and what its agent says of it."""

from enum import StrEnum

from farmstead_api.common import (
    Application,
    Check,
    DeletionPolicy,
    DesiredState,
    Drain,
    Failover,
    Maintenance,
    Probe,
)
from farmstead_api.conditions import Condition
from farmstead_api.meta import ObjectMeta, View
from farmstead_api.operation import OperationType

FINALIZER = "farmstead.dev/member"
REMOVED = "Removed"
"""Condition of a Member: its agent has stopped the application (or let go of it) for good."""


class ClusterReference(View, frozen=True):
    """The cluster a member or an operation belongs to, in its own namespace."""

    kind: str
    name: str
    uid: str = ""


class MemberListener(View, frozen=True):
    """A port on this machine that clients' connections come in on."""

    name: str
    port: int
    protocol: str = "TCP"


class MemberOperation(View, frozen=True):
    """An imperative act that the agent carries out once; it keeps the uids it has carried out on disk."""

    uid: str
    type: OperationType


class HeldState(StrEnum):
    """How a person's Operation holds a member, against the cluster's desired state."""

    STOPPED = "Stopped"
    DRAINED = "Drained"


class Override(View, frozen=True):
    """A hold that lasts until Start, Undrain or a change of the cluster's `desiredState`."""

    state: HeldState
    operation_uid: str = ""


class MemberSpec(View, frozen=True):
    """Instructions rendered by the operator."""

    cluster_ref: ClusterReference
    node_name: str
    revision: str
    """Hash of everything below; the agent reports the one it works from."""
    application: Application
    application_revision: str
    """Hash of the application alone: a running application was started from the revision in the status."""
    desired_state: DesiredState = DesiredState.RUNNING
    deletion_policy: DeletionPolicy = DeletionPolicy.STOP
    listeners: tuple[MemberListener, ...] = ()
    probe: Probe = Probe()
    drain: Drain = Drain()
    checks: tuple[Check, ...] = ()
    failover: Failover = Failover()
    maintenance: Maintenance = Maintenance()
    operation: MemberOperation | None = None
    override: Override | None = None


class MemberState(StrEnum):
    """The classic states; Secondary, Primary and Alone are mirrors'."""

    STOPPED = "Stopped"
    WAITING = "Waiting"
    SECONDARY = "Secondary"
    PRIMARY = "Primary"
    ALONE = "Alone"
    UP = "Up"
    UNKNOWN = "Unknown"
    """Never written by an agent: what the operator shows of a member that has not reported."""


class Readiness(StrEnum):
    """Whether the member does, now, what its state says."""

    NOT_READY = "NotReady"
    TRANSIENT = "Transient"
    READY = "Ready"


class ResourceState(StrEnum):
    """State of one thing the agent watches."""

    UP = "Up"
    DOWN = "Down"
    UNKNOWN = "Unknown"


class ResourceStatus(View, frozen=True, omit_defaults=False):
    """A check, or the application itself (name `application`)."""

    name: str
    state: ResourceState
    since: str
    message: str = ""


class ActionRecord(View, frozen=True, omit_defaults=False):
    """Something the agent did: when, what, why and what came of it."""

    time: str
    action: str
    cause: str
    result: str = ""


class OperationPhase(StrEnum):
    """How far an operation is."""

    PENDING = "Pending"
    RUNNING = "Running"
    SUCCEEDED = "Succeeded"
    FAILED = "Failed"


class MemberOperationStatus(View, frozen=True, omit_defaults=False):
    """The last operation this member was given."""

    uid: str
    phase: OperationPhase
    message: str = ""


class MemberStatus(View, frozen=True):
    """What the machine's agent says; written by that agent alone."""

    observed_generation: int = 0
    observed_revision: str = ""
    application_revision: str = ""
    """Revision of the application that the running one was started from; empty while none runs."""
    state: MemberState = MemberState.UNKNOWN
    readiness: Readiness = Readiness.NOT_READY
    reason: str = ""
    """CamelCase, for programs."""
    message: str = ""
    """For people: what is going on, what it waits for, what to do."""
    since: str = ""
    resources: tuple[ResourceStatus, ...] = ()
    last_actions: tuple[ActionRecord, ...] = ()
    actions_in_window: int = 0
    """Automatic actions that count towards `failover.maxActions`."""
    operation: MemberOperationStatus | None = None
    boot_id: str = ""
    conditions: tuple[Condition, ...] = ()


class Member(View, frozen=True):
    """A member."""

    metadata: ObjectMeta
    spec: MemberSpec
    status: MemberStatus = MemberStatus()

    @property
    def removed(self) -> bool:
        """Whether the agent has let go of the application for good."""
        return any(c.type == REMOVED and c.status == "True" for c in self.status.conditions)
