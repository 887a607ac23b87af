"""What the agent remembers of one member, on disk: where its life stands, and what has been done already.

Frozen; every change is a new record. The record is saved before what it says is begun, so that the next agent,
after a SIGKILL or an upgrade, finds at most one step whose result it must look up. Times called `since` are of
the boot's monotonic clock; a record of another boot is turned into a fresh one by `adopted`.
"""

from enum import StrEnum

from msgspec.structs import replace

from farmstead_api.common import Application, Switch
from farmstead_api.member import ActionRecord, Member, MemberOperationStatus, ResourceStatus
from farmstead_api.meta import View
from farmstead_api.operation import OperationType

EXECUTED_KEPT = 100


class Phase(StrEnum):
    """Where a member's life stands, finer than its state; each script has the phase of its name."""

    IDLE = "Idle"
    PRESTART = "Prestart"
    START = "Start"
    UP = "Up"
    DRAIN = "Drain"
    STOP = "Stop"
    FORCE_STOP = "ForceStop"
    KILL = "Kill"
    POSTSTOP = "Poststop"
    REMOVED = "Removed"


SCRIPTS = {
    Phase.PRESTART: "prestart",
    Phase.START: "start",
    Phase.DRAIN: "drain",
    Phase.STOP: "stop",
    Phase.FORCE_STOP: "stop",
    Phase.POSTSTOP: "poststop",
}
"""The script that a phase runs; only start and stop must exist."""


class Running(View, frozen=True):
    """The application that was started: it is stopped by the scripts that belong to it, not by newer ones."""

    application: Application
    revision: str = ""
    has_processes: bool = False
    """Whether processes of it were seen after its start; if so, none left means that it has died."""


class OperationRecord(View, frozen=True):
    """The operation in hand or the last one."""

    type: OperationType
    status: MemberOperationStatus


class Record(View, frozen=True):
    """One member, as remembered."""

    uid: str
    boot_id: str
    phase: Phase = Phase.IDLE
    since: float = 0.0
    reason: str = ""
    cause: str = ""
    in_place: bool = False
    """This stop is half of a restart in place: `start` follows without poststop and prestart."""
    step_id: str = ""
    steps_begun: int = 0
    running: Running | None = None
    was_ready: bool = False
    """Whether it has been Ready since it was last started."""
    failed_starts: int = 0
    automatic: tuple[float, ...] = ()
    """When automatic actions were taken (seconds since 1970)."""
    given_up: str = ""
    """Why the agent acts no more until a person does; empty while it acts."""
    waiting_on: str = ""
    """The check with action Wait whose failure stopped the member."""
    boot_hold: bool = False
    order: OperationType | None = None
    """Restart or StopStart that is accepted and not yet begun."""
    operation: OperationRecord | None = None
    executed: tuple[str, ...] = ()
    """Uids of operations that were accepted, oldest first."""
    checks: tuple[ResourceStatus, ...] = ()
    actions: tuple[ActionRecord, ...] = ()
    shown_as: str = ""
    """State and readiness as last shown, and since when, for people."""
    state_since: str = ""
    removed_since: str = ""


def adopted(record: Record | None, member: Member, *, boot_id: str, alive: bool, now: float) -> Record:
    """The record that an agent begins to work from: what is on disk, held against what is.

    Runs no script and stops nothing: what is alive is taken over as it is.
    """
    uid = member.metadata.uid
    if record is None:
        fresh = Record(uid=uid, boot_id=boot_id, since=now)
        running = Running(application=member.spec.application, has_processes=True)
        return _running_on(fresh, running, "was running without a record of it") if alive else fresh
    if record.boot_id != boot_id:
        return _rebooted(record, member, boot_id=boot_id, now=now)
    if record.uid == uid or record.phase is not Phase.REMOVED:
        return replace(record, uid=uid)
    fresh = Record(uid=uid, boot_id=boot_id, since=now, steps_begun=record.steps_begun)
    if alive and record.running is not None:
        return _running_on(fresh, record.running, "was left running by the member of this name before")
    return fresh


def _running_on(record: Record, running: Running, cause: str) -> Record:
    return replace(record, phase=Phase.UP, running=running, reason="Adopted", cause=cause)


def _rebooted(record: Record, member: Member, *, boot_id: str, now: float) -> Record:
    return replace(
        record,
        uid=member.metadata.uid,
        boot_id=boot_id,
        phase=Phase.REMOVED if record.phase is Phase.REMOVED and record.uid == member.metadata.uid else Phase.IDLE,
        since=now,
        reason="Booted",
        cause="the machine has been started",
        in_place=False,
        step_id="",
        running=None,
        was_ready=False,
        failed_starts=0,
        waiting_on="",
        boot_hold=member.spec.maintenance.start_at_boot is Switch.DISABLED,
        order=None,
        checks=(),
    )
