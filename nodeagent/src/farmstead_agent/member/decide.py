"""The state machine of one member: where its life stands + what is wanted + what is -> what comes next. Pure.

      Idle -> Prestart -> Start -> Up -> Drain -> Stop -> ForceStop -> Kill -> Poststop -> Idle -> (Removed)
                            ^       |              ^ |                    |
                            |       +--------------+ +------ as soon as nothing of it lives ------> Poststop
                            +--------------- in place (a restart) --------+

A planned stop goes through Drain, an act after a failure goes straight to Stop. Stop, ForceStop and Kill are
left as soon as nothing of the application lives. Each function answers for one phase; none does I/O, none reads a
clock, and what it answers depends on its arguments alone.
"""

from collections.abc import Callable

from farmstead_agent.failover.judge import Verdict, failed_start, judge
from farmstead_agent.member.facts import Decision, Facts, Look, Move, StepState, Target, Want
from farmstead_agent.member.record import Phase
from farmstead_agent.member.target import target
from farmstead_api.common import Action, Switch
from farmstead_api.common import Phase as CheckPhase
from farmstead_api.member import MemberSpec, MemberState, Readiness, ResourceState
from farmstead_api.operation import OperationType

SETTLE_SECONDS = 2.0
"""How long what a successful stop script left alive may take to end before it is stopped harder."""
DRAIN_POLL_SECONDS = 0.25
KILL_POLL_SECONDS = 1.0
LONGEST_BACKOFF_SECONDS = 60.0

PhaseDecision = Callable[[MemberSpec, Facts, Target, float], Decision]


def decide(spec: MemberSpec, facts: Facts, now: float) -> Decision:
    """What the member shows, and its next step; `now` is of the monotonic clock, in seconds."""
    want = target(spec, facts)
    decision = PHASES[facts.record.phase](spec, facts, want, now)
    if want.want is Want.RELEASE and facts.record.phase is not Phase.REMOVED:
        return Decision(look=decision.look, move=Move(phase=Phase.REMOVED, reason=want.reason, cause=want.message))
    return decision


def idle(_spec: MemberSpec, facts: Facts, want: Target, now: float) -> Decision:
    """Nothing runs."""
    if want.want is Want.REMOVE:
        move = Move(phase=Phase.REMOVED, reason=want.reason, cause=want.message)
        return Decision(look=_look(MemberState.STOPPED, want), move=move)
    if want.want is Want.STOP:
        return Decision(look=_look(MemberState.STOPPED, want))
    if want.want is Want.WAIT:
        return Decision(look=_look(MemberState.WAITING, want))
    left = facts.record.since + backoff(facts.record.failed_starts) - now
    if left > 0:
        message = f"{facts.record.cause}; next start in {left:.0f} s"
        look = Look(state=MemberState.WAITING, readiness=Readiness.NOT_READY, reason="StartBackoff", message=message)
        return Decision(look=look, wake_after=left)
    first = Phase.PRESTART if "prestart" in facts.scripts else Phase.START
    look = Look(state=MemberState.WAITING, readiness=Readiness.TRANSIENT, reason="Starting", message="about to start")
    cause = facts.record.cause if facts.record.reason in CARRIED else want.message
    return Decision(look=look, move=Move(phase=first, reason="Starting", cause=cause, action="Start"))


CARRIED = frozenset({"Booted", "CheckFailed", "ApplicationDied", "StartFailed", "OperationStopStart"})
"""Reasons for being idle that explain the next start better than the spec does."""


def prestart(spec: MemberSpec, facts: Facts, want: Target, _now: float) -> Decision:
    """The script that makes sure that nothing is left running."""
    look = Look(
        state=MemberState.WAITING,
        readiness=Readiness.TRANSIENT,
        reason="Starting",
        message=f"script prestart runs: {facts.record.cause}",
    )
    if want.want is not Want.RUN:
        return Decision(look=look, move=_stop_now(want))
    if facts.step.state is StepState.RUNNING:
        return Decision(look=look)
    if facts.step.state is StepState.FAILED:
        return Decision(look=look, move=_after_failed_start(spec, facts, "prestart"))
    return Decision(look=look, move=Move(phase=Phase.START, reason="Starting", cause=facts.record.cause))


def start(spec: MemberSpec, facts: Facts, want: Target, _now: float) -> Decision:
    """The script that starts the application."""
    look = Look(
        state=MemberState.UP,
        readiness=Readiness.TRANSIENT,
        reason="Restarting" if facts.record.in_place else "Starting",
        message=f"script start runs: {facts.record.cause}",
    )
    if want.want not in {Want.RUN, Want.WAIT}:
        return Decision(look=look, move=_stop_now(want))
    if facts.step.state is StepState.RUNNING:
        return Decision(look=look)
    if facts.step.state is StepState.FAILED:
        return Decision(look=look, move=_after_failed_start(spec, facts, "start"))
    return Decision(look=look, move=Move(phase=Phase.UP, reason="Started", cause=facts.record.cause))


def up(spec: MemberSpec, facts: Facts, want: Target, _now: float) -> Decision:
    """The application was started: it serves as soon as, and as long as, its checks say so."""
    look = _up_look(spec, facts)
    if move := _planned(facts, want):
        return Decision(look=look, move=move)
    if spec.maintenance.checks is Switch.ENABLED:
        verdict = judge(checks=facts.checks, died=facts.died, failover=spec.failover, taken=facts.actions_in_window)
        if verdict is not None:
            return Decision(look=look, move=_automatic(verdict))
    return Decision(look=look)


def _up_look(spec: MemberSpec, facts: Facts) -> Look:
    """How a started application shows: the first of these that holds."""

    def look(readiness: Readiness, reason: str, message: str) -> Look:
        return Look(state=MemberState.UP, readiness=readiness, reason=reason, message=message)

    if facts.died:
        return look(Readiness.NOT_READY, "ApplicationDied", "no process of the application is left")
    if spec.maintenance.checks is Switch.DISABLED:
        return look(Readiness.READY, "Serving", "checks are disabled (maintenance.checks)")
    running = [check for check in facts.checks if check.phase is CheckPhase.WHILE_RUNNING]
    for check in running:
        if check.state is ResourceState.DOWN:
            return look(Readiness.NOT_READY, "CheckFailed", f"check {check.name} failed: {check.message}")
    for check in running:
        if check.state is ResourceState.UNKNOWN and not facts.record.was_ready:
            detail = f": {check.message}" if check.message else ""
            return look(
                Readiness.TRANSIENT, "ChecksPending", f"waiting for check {check.name} to pass the first time{detail}"
            )
    return look(Readiness.READY, "Serving", f"{len(running)} of {len(running)} checks pass" if running else "started")


def _planned(facts: Facts, want: Target) -> Move | None:
    """A stop or restart that somebody asked for."""
    if want.want in {Want.STOP, Want.REMOVE}:
        return Move(phase=Phase.DRAIN, reason=want.reason, cause=want.message, action="Drain")
    if facts.record.order is OperationType.RESTART:
        cause = "an Operation Restart"
        return Move(phase=Phase.STOP, reason="OperationRestart", cause=cause, action="Restart", in_place=True)
    if facts.record.order is OperationType.STOP_START:
        cause = "an Operation StopStart"
        return Move(phase=Phase.DRAIN, reason="OperationStopStart", cause=cause, action="StopStart")
    return None


def _automatic(verdict: Verdict) -> Move:
    """The first step of an act after a failure; it never drains: what has failed serves nobody."""
    return Move(
        phase=Phase.STOP,
        reason=verdict.reason,
        cause=verdict.message,
        action=verdict.action.value,
        in_place=verdict.action is Action.RESTART,
        automatic=not verdict.gives_up,
        give_up=verdict.gives_up,
        waiting_on=verdict.check if verdict.action is Action.WAIT else "",
    )


def _after_failed_start(spec: MemberSpec, facts: Facts, script: str) -> Move:
    verdict = failed_start(
        f"script {script} failed: {facts.step.message}", failover=spec.failover, taken=facts.actions_in_window
    )
    return _automatic(verdict)


def drain(spec: MemberSpec, facts: Facts, _want: Target, now: float) -> Decision:
    """The probe says 503; clients are let finish.

    At least until no load balancer sends new connections any more, then until the last connection is closed or
    the limit is reached.
    """
    elapsed = now - facts.record.since
    least = max(spec.drain.min_seconds, spec.probe.notice_seconds)
    most = max(spec.drain.max_seconds, least)
    count = facts.connections
    clients = "an unknown number of" if count is None else str(count)
    look = Look(
        state=MemberState.UP,
        readiness=Readiness.TRANSIENT,
        reason="Draining",
        message=f"{facts.record.cause}; draining for {elapsed:.0f} s of at most {most} s, {clients} connections left",
    )

    def finished(how: str) -> Decision:
        move = Move(phase=Phase.STOP, reason=facts.record.reason, cause=f"{facts.record.cause} ({how})")
        return Decision(look=look, move=move)

    if facts.died:
        return finished("the application ended while it was drained")
    if elapsed < least:
        return Decision(look=look, wake_after=least - elapsed)
    if count == 0:
        return finished(f"drained in {elapsed:.1f} s")
    if elapsed >= most:
        return finished(f"drained for drain.maxSeconds = {most} s, {clients} connections left")
    return Decision(look=look, wake_after=min(DRAIN_POLL_SECONDS, most - elapsed))


def stop(_spec: MemberSpec, facts: Facts, want: Target, now: float) -> Decision:
    """The stop script."""
    return _stopping(facts, want, now, harder=Phase.FORCE_STOP, doing="script stop runs")


def force_stop(_spec: MemberSpec, facts: Facts, want: Target, now: float) -> Decision:
    """The stop script once more, told to use force."""
    return _stopping(facts, want, now, harder=Phase.KILL, doing="script stop runs with force")


def _stopping(facts: Facts, want: Target, now: float, *, harder: Phase, doing: str) -> Decision:
    look = _stop_look(facts, doing)
    if facts.step.state is StepState.RUNNING:
        return Decision(look=look)
    if not facts.alive:
        return Decision(look=look, move=_after_stop(facts, want))
    left = facts.step.ended + SETTLE_SECONDS - now
    if facts.step.state is StepState.SUCCEEDED and left > 0:
        return Decision(look=look, wake_after=left)
    move = Move(phase=harder, reason=facts.record.reason, cause=facts.record.cause, in_place=facts.record.in_place)
    return Decision(look=look, move=move)


def kill(_spec: MemberSpec, facts: Facts, want: Target, _now: float) -> Decision:
    """SIGKILL to all that is left."""
    look = _stop_look(facts, "what is left of it is killed")
    if facts.alive:
        return Decision(look=look, wake_after=KILL_POLL_SECONDS)
    return Decision(look=look, move=_after_stop(facts, want))


def poststop(_spec: MemberSpec, facts: Facts, _want: Target, _now: float) -> Decision:
    """The script after the stop."""
    look = _stop_look(facts, "script poststop runs")
    if facts.step.state is StepState.RUNNING:
        return Decision(look=look)
    return Decision(look=look, move=Move(phase=Phase.IDLE, reason=facts.record.reason, cause=facts.record.cause))


def removed(_spec: MemberSpec, facts: Facts, _want: Target, _now: float) -> Decision:
    """The agent has let go for good."""
    look = Look(state=MemberState.STOPPED, readiness=Readiness.NOT_READY, reason="Removed", message=facts.record.cause)
    return Decision(look=look)


def _after_stop(facts: Facts, want: Target) -> Move:
    """Nothing lives any more: start again in place, or end the stop."""
    reason, cause = facts.record.reason, facts.record.cause
    if facts.record.in_place and want.want is Want.RUN:
        return Move(phase=Phase.START, reason=reason, cause=cause, in_place=True)
    phase = Phase.POSTSTOP if "poststop" in facts.scripts else Phase.IDLE
    return Move(phase=phase, reason=reason, cause=cause)


def _stop_look(facts: Facts, doing: str) -> Look:
    """A restart stays in its state; any other stop is on its way out."""
    in_place = facts.record.in_place
    return Look(
        state=MemberState.UP if in_place else MemberState.WAITING,
        readiness=Readiness.TRANSIENT,
        reason="Restarting" if in_place else "Stopping",
        message=f"{doing}: {facts.record.cause}",
    )


def _stop_now(want: Target) -> Move:
    """Break off a start: nobody is served yet, so there is nothing to drain."""
    return Move(phase=Phase.STOP, reason=want.reason, cause=want.message, action="Stop")


def _look(state: MemberState, want: Target) -> Look:
    return Look(state=state, readiness=Readiness.NOT_READY, reason=want.reason, message=want.message)


def backoff(failed_starts: int) -> float:
    """Seconds to wait before the next start: none after a success, then 1, 2, 4, ... at most a minute."""
    return min(2.0 ** (failed_starts - 1), LONGEST_BACKOFF_SECONDS) if failed_starts else 0.0


PHASES: dict[Phase, PhaseDecision] = {
    Phase.IDLE: idle,
    Phase.PRESTART: prestart,
    Phase.START: start,
    Phase.UP: up,
    Phase.DRAIN: drain,
    Phase.STOP: stop,
    Phase.FORCE_STOP: force_stop,
    Phase.KILL: kill,
    Phase.POSTSTOP: poststop,
    Phase.REMOVED: removed,
}
