"""What `decide` looks at and what it answers: frozen values, no behaviour.

Facts are gathered anew for every decision, so a decision never depends on an event having been seen.
"""

from dataclasses import dataclass, field
from enum import StrEnum

from farmstead_agent.member.record import Phase, Record
from farmstead_api.common import Action
from farmstead_api.common import Phase as CheckPhase
from farmstead_api.member import MemberState, Readiness, ResourceState


class StepState(StrEnum):
    """How far the script of the present phase is."""

    RUNNING = "Running"
    SUCCEEDED = "Succeeded"
    FAILED = "Failed"
    """It ended with another status than 0, exceeded its limit, could not be begun, or nobody knows how it ended."""


@dataclass(frozen=True, slots=True, kw_only=True)
class StepFact:
    """The script of the present phase; a phase without a script has succeeded at once."""

    state: StepState = StepState.SUCCEEDED
    message: str = ""
    ended: float = 0.0
    """When it ended (monotonic)."""


@dataclass(frozen=True, slots=True, kw_only=True)
class CheckFact:
    """A check's verdict after its thresholds."""

    name: str
    kind: str
    state: ResourceState
    action: Action
    phase: CheckPhase
    message: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class Facts:
    """Everything a decision depends on, besides the spec and the time."""

    record: Record
    deleting: bool = False
    shutdown: bool = False
    problem: tuple[str, str] | None = None
    """Reason and message why this machine can't run the application at all."""
    scripts: frozenset[str] = frozenset({"start", "stop"})
    step: StepFact = field(default_factory=StepFact)
    alive: bool = False
    """Whether any process of the application lives."""
    connections: int | None = 0
    """Established connections to the listeners' ports; None when they can't be counted."""
    checks: tuple[CheckFact, ...] = ()
    actions_in_window: int = 0

    @property
    def died(self) -> bool:
        """Whether the application had processes and has none left."""
        running = self.record.running
        return running is not None and running.has_processes and not self.alive


class Want(StrEnum):
    """What should become of the application."""

    RUN = "Run"
    WAIT = "Wait"
    """Run, as soon as something that is missing is there; what runs already is left alone."""
    STOP = "Stop"
    REMOVE = "Remove"
    RELEASE = "Release"
    """Let go of it without touching it."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Target:
    """What is wanted, and why."""

    want: Want
    reason: str
    message: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Look:
    """What the member shows: in the probe, the status, the metrics."""

    state: MemberState
    readiness: Readiness
    reason: str
    message: str

    @property
    def serving(self) -> bool:
        """Whether the probe answers 200."""
        return self.state is MemberState.UP and self.readiness is Readiness.READY


@dataclass(frozen=True, slots=True, kw_only=True)
class Move:
    """A step of the member's life: enter `phase`, for this cause."""

    phase: Phase
    reason: str
    cause: str
    action: str = ""
    """Start, Drain, Stop, Restart, StopStart or Wait where this move begins such an act, for the status."""
    in_place: bool = False
    automatic: bool = False
    """It counts towards `failover.maxActions`."""
    give_up: str = ""
    waiting_on: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class Decision:
    """The answer: what to show, what to do next, and when to ask again if nothing happens before."""

    look: Look
    move: Move | None = None
    wake_after: float | None = None
